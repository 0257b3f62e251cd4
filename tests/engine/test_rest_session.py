import asyncio
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

import pytest
from aiohttp import web as aioweb

from gateway.engine import (
    AlreadyExists,
    DeadlineExceeded,
    EngineError,
    EngineFailure,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from gateway.engine.auth import FixedCredentials
from gateway.engine.rest_session import RestSession, error_of_answer
from tests.engine.gateway_stub import until
from tests.engine.rest_stub import RestStub
from tests.proxy import FaultProxy
from tests.real.processes import free_port

Open = Callable[..., RestSession]


class RememberingCredentials(FixedCredentials):
    def __init__(self) -> None:
        super().__init__("Bearer hidden-1")
        self.dropped: list[str | None] = []

    def refused(self, authorization: str | None) -> None:
        self.dropped.append(authorization)


@pytest.fixture
async def web() -> AsyncIterator[RestStub]:
    async with RestStub() as web:
        yield web


@pytest.fixture
async def sessions() -> AsyncIterator[Open]:
    made: list[RestSession] = []

    def make(address: str, **arguments: Any) -> RestSession:
        arguments.setdefault("credentials", FixedCredentials())
        made.append(RestSession(address, **({"request_timeout": 3.0} | arguments)))
        return made[-1]

    yield make
    for session in made:
        await session.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidArgument),
        (401, Unauthenticated),
        (403, PermissionDenied),
        (404, NotFound),
        (405, Unimplemented),
        (409, FailedPrecondition),
        (413, InvalidArgument),
        (415, InvalidArgument),
        (422, InvalidArgument),
        (429, ResourceExhausted),
        (500, EngineFailure),
        (501, Unimplemented),
        (502, Unavailable),
        (503, Unavailable),
        (504, DeadlineExceeded),
        (507, EngineFailure),
        (302, EngineFailure),
    ],
)
async def test_each_status_is_an_error_of_the_port_with_the_engines_text(
    web: RestStub, sessions: Open, status: int, error: type[EngineError]
) -> None:
    web.answer(status, {"title": "NOPE", "detail": "the engine says so"}, headers={"Location": "/v2/elsewhere"})
    with pytest.raises(error, match="NOPE: the engine says so") as caught:
        await sessions(web.url).json("POST", "/things", {})
    assert type(caught.value) is error
    assert caught.value.may_have_arrived is (status != 401)
    assert len(web.requests) == 1


def test_back_pressure_is_told_from_an_outage_by_its_title() -> None:
    assert type(error_of_answer(503, b'{"title":"RESOURCE_EXHAUSTED","detail":"d"}', "/x")) is ResourceExhausted
    assert type(error_of_answer(503, b'{"title":"UNAVAILABLE","detail":"d"}', "/x")) is Unavailable


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>404</html>", b"{}", b"[1]", b'{"title":"NOT_FOUND","detail":"No endpoint POST /v2/x."}'],
)
def test_a_path_that_nobody_knows_is_unimplemented_and_not_a_missing_job(body: bytes) -> None:
    assert type(error_of_answer(404, body, "/x")) is Unimplemented


def test_an_error_without_problem_details_names_status_and_path() -> None:
    assert str(error_of_answer(502, b"<html>", "/jobs/1/completion")) == "HTTP status 502 for /jobs/1/completion"


def test_the_caller_says_what_a_conflict_is() -> None:
    assert type(error_of_answer(409, b"", "/x", AlreadyExists)) is AlreadyExists


async def test_requests_say_who_they_are_from_and_carry_no_cookie(web: RestStub, sessions: Open) -> None:
    web.answer(200, {}, headers={"Set-Cookie": "a=b"})
    session = sessions(f"{web.url}/", credentials=RememberingCredentials(), user_agent="connector-gateway/9")
    await session.json("POST", "/things", {"a": 1}, query={"q": "a b", "none": None})
    await session.json("GET", "/things")
    first, second = web.requests
    assert (first.raw_path, first.json()) == ("/v2/things?q=a+b", {"a": 1})
    assert first.headers["Authorization"] == "Bearer hidden-1"
    assert first.headers["User-Agent"] == "connector-gateway/9"
    assert first.headers["Content-Type"] == "application/json"
    assert "Cookie" not in second.headers


async def test_a_physical_tenant_stands_before_the_version_in_the_path(web: RestStub, sessions: Open) -> None:
    await sessions(f"{web.url}/base", physical_tenant_id="blue").json("GET", "/topology")
    assert web.requests[0].path == "/base/physical-tenants/blue/v2/topology"


async def test_what_the_engine_does_not_accept_is_reported_and_not_shown(web: RestStub, sessions: Open) -> None:
    web.answer(401)
    credentials = RememberingCredentials()
    with pytest.raises(Unauthenticated) as caught:
        await sessions(web.url, credentials=credentials).json("GET", "/things")
    assert credentials.dropped == ["Bearer hidden-1"]
    assert "hidden" not in repr(caught.value)


async def test_no_content_is_none(web: RestStub, sessions: Open) -> None:
    assert await sessions(web.url).json("POST", "/things", {}) is None


async def test_a_request_ends_at_its_deadline(web: RestStub, sessions: Open) -> None:
    async def slow(request: aioweb.Request) -> aioweb.StreamResponse:
        await asyncio.sleep(5)
        return aioweb.Response()

    web.answers += [slow, slow]
    session = sessions(web.url, request_timeout=0.2)
    start = monotonic()
    with pytest.raises(DeadlineExceeded, match=r"0\.2 seconds") as caught:
        await session.json("POST", "/things", {})
    with pytest.raises(DeadlineExceeded, match=r"0\.1 seconds"):
        await session.json("POST", "/things", {}, timeout=0.1)
    assert 0.25 < monotonic() - start < 2
    assert caught.value.may_have_arrived


async def test_without_a_server_the_request_never_left(sessions: Open) -> None:
    with pytest.raises(Unavailable) as caught:
        await sessions(f"http://127.0.0.1:{free_port()}").json("POST", "/things", {})
    assert not caught.value.may_have_arrived


async def test_a_cut_connection_leaves_it_open_what_became_of_the_request_and_sends_it_once(
    web: RestStub, sessions: Open
) -> None:
    async def slow(request: aioweb.Request) -> aioweb.StreamResponse:
        await asyncio.sleep(5)
        return aioweb.Response()

    async with FaultProxy(web.port) as proxy:
        session = sessions(f"http://127.0.0.1:{proxy.port}")
        await session.json("POST", "/warm", {})
        for cut in (proxy.reset, proxy.drop):
            web.answers.append(slow)
            web.requests.clear()
            asking = asyncio.create_task(session.json("POST", "/things", {}))
            await until(lambda: bool(web.requests))
            cut()
            with pytest.raises(Unavailable) as caught:
                await asking
            assert caught.value.may_have_arrived
            await session.json("POST", "/after", {})
            assert [one.path for one in web.requests] == ["/v2/things", "/v2/after"]


async def test_an_answer_over_the_limit_is_not_read_to_its_end(
    web: RestStub, sessions: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.engine.rest_session._MIN_ANSWER_LIMIT", 1000)
    web.answer(200, b"[" + b" " * 1000)
    web.answer(200, b"[" + b" " * 998 + b"]")
    session = sessions(web.url)
    with pytest.raises(EngineFailure, match="larger than 1000 bytes"):
        await session.json("GET", "/things")
    assert await session.json("GET", "/things") == []


async def test_an_endless_error_page_is_cut(web: RestStub, sessions: Open) -> None:
    web.answer(500, b"x" * 5_000_000)
    with pytest.raises(EngineFailure) as caught:
        await sessions(web.url).json("GET", "/things")
    assert len(str(caught.value)) < 200


async def test_a_closed_session_sends_nothing(web: RestStub, sessions: Open) -> None:
    session = sessions(web.url)
    await session.close()
    with pytest.raises(Unavailable) as caught:
        await session.json("GET", "/things")
    assert not caught.value.may_have_arrived
    assert web.requests == []


async def test_cancelling_the_caller_goes_through(web: RestStub, sessions: Open) -> None:
    async def slow(request: aioweb.Request) -> aioweb.StreamResponse:
        await asyncio.sleep(5)
        return aioweb.Response()

    web.answers.append(slow)
    asking = asyncio.create_task(sessions(web.url).json("GET", "/things"))
    await until(lambda: bool(web.requests))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
