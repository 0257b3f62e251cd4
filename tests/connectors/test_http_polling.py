"""HTTP polling against a local server: one poll for each token, as long as the token is there."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connectors.http_polling import http_polling
from gateway import bpmn, sdk
from gateway.engine import EngineError, Resource
from gateway.engine.embedded import EmbeddedEngine
from gateway.http_client import HttpClient
from gateway.inbound.elements import inbound_elements
from gateway.inbound.properties import Properties
from gateway.secrets import MapSecrets, Masker, Secrets
from gateway.testing.inbound import InboundRun, an_element, run_inbound
from tests.engine.embedded.models import end, message, on_message, process, start
from tests.http_client.servers import Received, Reply, Stub, running
from tests.inbound.models import KEY, inbound

FAST = {"httpRequestInterval": "PT0.02S", "processPollingInterval": "PT0.02S"}
ONCE = {"httpRequestInterval": "PT1H", "processPollingInterval": "PT0.02S"}


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with running(Stub()) as server:
        yield server


async def _no_pause(_: float) -> None:
    """The client's silent retry waits for nobody here."""


@asynccontextmanager
async def polling(
    stub: Stub, properties: Mapping[str, str] = FAST, *, tokens: Sequence[int] = (7,)
) -> AsyncIterator[InboundRun]:
    """The connector at work on `GET /` of the stub for these tokens."""
    given = {"method": "GET", "url": stub.url("/"), **FAST, **properties}
    element = an_element(KEY | {"inbound.type": http_polling.type, **given}, element_id="wait")
    client = HttpClient(user_agent="gateway/test", sleep=_no_pause)
    async with run_inbound(http_polling, given, http=client, element=element) as run:
        run.instances = [token(key, element) for key in tokens]
        yield run


def token(key: int, element: sdk.InboundElement) -> sdk.ElementInstance:
    return sdk.ElementInstance(key, element, key + 1000)


def errors(run: InboundRun) -> list[tuple[str, str, Any]]:
    return [(e.tag, e.message, e.data) for e in run.log if e.severity == "ERROR"]


async def settled(stub: Stub) -> int:
    """The number of requests when none has come for some time."""
    while True:
        before = len(stub.received)
        await asyncio.sleep(0.15)
        if len(stub.received) == before:
            return before


# ---- events ----------------------------------------------------------------------------------------------------------


async def test_the_answer_is_an_event_with_the_message_id_of_the_token(stub: Stub) -> None:
    stub.reply(Reply(201, {"state": "done", "sum": 1.5}, [("X-A", "1"), ("X-A", "2")], "Created"))
    async with polling(stub, ONCE) as run:
        ((event, message_id),) = await run.received(1)
    assert message_id == "wait7"
    assert event == {
        "status": 201,
        "headers": {"X-A": ["1", "2"], "Content-Length": "29"},
        "body": {"state": "done", "sum": 1.5},
        "reason": "Created",
        "document": None,
    }


async def test_the_call_is_made_of_the_properties_as_http_rest_makes_it(stub: Stub) -> None:
    properties = {
        "method": "post",
        "url": stub.url("/a b"),
        "headers": '{"X-Count": 1.50}',
        "queryParameters": '={"q": "x&y"}',
        "body": '={"order": 1}',
        "authentication.type": "bearer",
        "authentication.token": "t-1",
    }
    async with polling(stub, ONCE | properties) as run:
        await run.received(1)
    request = stub.one
    assert request.line == "POST /a%20b?q=x%26y HTTP/1.1"
    assert (request.header("Authorization"), request.header("X-Count")) == ("Bearer t-1", "1.50")
    assert (request.header("Content-Type"), request.json()) == ("application/json", {"order": 1})


async def test_a_redirect_is_followed_where_the_element_says_so(stub: Stub) -> None:
    stub.answer = lambda r: (
        Reply(body={"at": r.target}) if r.target != "/" else Reply(302, headers=[("Location", "/b")])
    )
    async with polling(stub, ONCE | {"followRedirects": "true"}) as run:
        ((event, _),) = await run.received(1)
    assert event["body"] == {"at": "/b"}


async def test_polling_goes_on_whatever_became_of_the_event(stub: Stub) -> None:
    outcomes: list[sdk.Outcome] = [
        sdk.ActivationConditionNotMet(consume_unmatched=False),
        sdk.MessagePublished(an_element({}), 1, "<default>"),
        sdk.MessageAlreadyCorrelated(an_element({})),
        sdk.EngineRefused("UNAVAILABLE", "away"),
        sdk.InvalidInput("no"),
    ]
    async with polling(stub) as run:
        run.answer = lambda event, message_id: outcomes[len(run.events) % len(outcomes)]
        await run.received(2 * len(outcomes))
        assert run.health.status == "UP"


# ---- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(404, reason="Not Found"), "404 Not Found"),
        (Reply(500, reason=""), "500"),
        (Reply(503, reason="Busy", headers=[("Retry-After", "3600")]), "503 Busy"),
        (Reply(302, reason="Found", headers=[("Location", "/b")]), "302 Found"),
        (Reply(304, b"", reason="Not Modified"), "304 Not Modified"),
        (Reply(drop=True), "An error occurred while executing the request, or the connection was aborted"),
        (Reply(raw=b"nonsense\r\n\r\n"), "An error with the HTTP protocol occurred"),
    ],
)
async def test_an_answer_that_is_not_2xx_stands_in_the_log_and_is_no_event(
    stub: Stub, reply: Reply, words: str
) -> None:
    stub.reply(*[reply] * 4, Reply(body={"n": 1}))
    async with polling(stub) as run:
        ((event, _), *_) = await run.received(1)
        assert event["body"] == {"n": 1}
        assert errors(run)[0] == ("GET", words, {"elementInstanceKey": "7"})
        assert run.health.status == "UP"


@pytest.mark.parametrize(
    ("properties", "tag", "words"),
    [
        ({"url": "ftp://x"}, "GET", "Must be a http(s) URL"),
        ({"url": "http:///x"}, "GET", "includes a valid hostname"),
        ({"method": "FETCH"}, "HTTP", "'method'"),
        ({"method": "= x + "}, "HTTP", "'method'"),
        ({"authentication.type": "bearer"}, "GET", "authentication.token"),
    ],
)
async def test_what_cannot_be_called_says_why_at_every_poll(
    stub: Stub, properties: dict[str, str], tag: str, words: str
) -> None:
    async with polling(stub, properties) as run:
        await run.until(lambda: len(errors(run)) >= 2, "errors")
        assert errors(run)[0][0] == tag
        assert words in errors(run)[0][1]
        assert run.health.status == "UP"
    assert not stub.received


async def test_a_token_in_trouble_does_not_hold_up_the_others(stub: Stub) -> None:
    async def answer(request: Received) -> Reply:
        await asyncio.sleep(30 if request.target == "/hang" else 0)
        return Reply(body={"at": request.target})

    stub.answer = answer
    async with polling(stub) as run:
        bad = an_element(dict(run.element.properties) | {"url": stub.url("/hang")}, element_id="bad")
        run.instances = [token(8, bad), token(7, run.element)]
        events = await run.received(5)
    assert {message_id for _, message_id in events} == {"wait7"}


@pytest.mark.parametrize(
    "properties",
    [
        {"httpRequestInterval": "PT0S"},
        {"httpRequestInterval": "soon"},
        {"processPollingInterval": "-PT1S"},
        {"maxConcurrentRequests": "0"},
    ],
)
async def test_settings_that_would_make_a_storm_are_refused(stub: Stub, properties: dict[str, str]) -> None:
    async with polling(stub, properties) as run:
        await run.until(lambda: run.health.status == "DOWN", "a refusal")
        assert next(iter(properties)) in (run.health.error_message or "")
    assert not stub.received


# ---- tokens ----------------------------------------------------------------------------------------------------------


async def test_tokens_come_and_go(stub: Stub) -> None:
    async with polling(stub, ONCE, tokens=(1, 2)) as run:
        assert {i for _, i in await run.received(2)} == {"wait1", "wait2"}
        assert (run.health.status, run.health.details) == ("UP", {"Process instances": 2})
        run.instances = [token(2, run.element), token(3, run.element)]
        assert [i for _, i in await run.received(3)][2] == "wait3"
        run.instances = []
        await run.until(lambda: run.health.details == {"Process instances": 0}, "the end of all polls")


async def test_a_token_that_is_gone_is_not_polled_for_any_more(stub: Stub) -> None:
    async with polling(stub) as run:
        await run.received(2)
        run.instances = []
        await run.until(lambda: run.health.details == {"Process instances": 0}, "the end of the poll")
        count = await settled(stub)
        await asyncio.sleep(0.1)
        assert len(stub.received) == count


async def test_the_call_of_a_token_that_is_gone_is_cut_off(stub: Stub) -> None:
    stub.reply(Reply(delay=30))
    async with polling(stub, ONCE) as run:
        await run.until(lambda: len(stub.received) == 1, "the call")
        run.instances = []
        await run.until(lambda: run.health.details == {"Process instances": 0}, "the end of the poll")
        await run.until(lambda: run.executable.http.statistics().in_flight == 0, "the end of the call")
        assert not run.events


async def test_never_more_calls_at_once_than_the_element_allows(stub: Stub) -> None:
    at_once = most = 0

    async def answer(request: Received) -> Reply:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return Reply()

    stub.answer = answer
    async with polling(stub, ONCE | {"maxConcurrentRequests": "4"}, tokens=range(30)) as run:
        events = await run.received(30)
    assert most == 4
    assert len({message_id for _, message_id in events}) == 30


# ---- the engine ------------------------------------------------------------------------------------------------------


async def test_a_failing_listing_is_down_with_the_reason_and_asked_for_less_and_less(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    at: list[float] = []

    async def fail() -> Sequence[sdk.ElementInstance]:
        at.append(asyncio.get_running_loop().time())
        raise EngineError("the cluster is away")

    async with polling(stub) as run:
        await run.received(1)
        with monkeypatch.context() as patched:
            patched.setattr(run.executable, "instances", fail)
            await run.until(lambda: run.health.status == "DOWN", "health DOWN")
            assert "the cluster is away" in (run.health.error_message or "")
            before = len(run.events)
            await run.until(lambda: len(at) == 5, "listings")
        gaps = [b - a for a, b in itertools.pairwise(at)]
        assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(gaps)), gaps
        assert len(run.events) > before, "the known token was polled for in the meantime"
        await run.until(lambda: run.health.status == "UP", "health UP")


async def test_nothing_goes_on_after_the_end(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    listings = 0

    async with polling(stub, tokens=range(5)) as run:
        await run.received(10)
        listing = run.executable.instances

        async def counted() -> Sequence[sdk.ElementInstance]:
            nonlocal listings
            listings += 1
            return await listing()

        monkeypatch.setattr(run.executable, "instances", counted)
        await run.until(lambda: listings > 2, "listings")
        stub.reply(Reply(delay=30))
        await run.until(lambda: run.executable.http.statistics().in_flight == 5, "calls under way")
        tasks = len(asyncio.all_tasks())
        await run.executable.stop()
        assert run.executable.http.statistics().in_flight == 0
        assert len(asyncio.all_tasks()) <= tasks - 6, "the connector and its five polls"
        calls, listings = len(stub.received), 0
        await asyncio.sleep(0.15)
        assert (len(stub.received), listings) == (calls, 0)


async def test_every_call_sees_the_variables_as_they_are_now(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = EmbeddedEngine()
    given = {"method": "GET", "url": f'="{stub.url("/")}" + id + "?n=" + string(n)', **FAST}
    model = process(
        start(),
        inbound("intermediateCatchEvent", "wait", on_message("m"), KEY | {"inbound.type": http_polling.type, **given}),
        end(),
        flows="s wait e",
        top=message("m", "polled", key="=id"),
    ).replace("§", "p")
    (definition,) = await engine.deploy([Resource("p.bpmn", model.encode())])
    (element,), _ = inbound_elements(
        bpmn.parse(model),
        bpmn_process_id=definition.bpmn_process_id,
        version=definition.version,
        key=definition.process_definition_key,
        tenant_id=definition.tenant_id,
    )
    started = await engine.create_process_instance(bpmn_process_id="p", variables='{"id": "A", "n": 1}')
    binding = Properties(Secrets([MapSecrets({})], Masker()), engine)
    async with run_inbound(http_polling, element.properties, http=HttpClient(), element=element) as run:
        page = await engine.search("element-instances", filter={"elementId": "wait", "state": "ACTIVE"}, limit=10)
        key = int(page.items[0]["elementInstanceKey"])

        async def bind(wanted: type[Any], instance: sdk.ElementInstance) -> Any:
            return await binding.bind(wanted, instance.element, instance)

        monkeypatch.setattr(run.executable, "bind", bind)
        run.instances = [sdk.ElementInstance(key, element, started.process_instance_key)]
        await run.received(1)
        await engine.set_variables(started.process_instance_key, '{"n": 2}')
        await run.until(lambda: stub.received[-1].target == "/A?n=2", "a call with the new value")
    assert stub.received[0].target == "/A?n=1"
    await engine.close()
