import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.admin import application, serve
from gateway.documents import Document, DocumentMetadata
from gateway.engine import Unavailable
from gateway.inbound.ingress import Ingress, IngressLimits, Paths, written
from gateway.sdk import ConnectorException, ConnectorInputException, InboundElement, Point, WebhookResponse
from gateway.webhooks import WebhookRefused, WebhookRequest

Answer = WebhookResponse | Coroutine[Any, Any, WebhookResponse]
Handler = Callable[[WebhookRequest], Answer]


def an_element(context: str | None = "orders", process: str = "p", tenant: str = "<default>", **more: str):
    properties = {"inbound.type": "io.camunda:webhook:1", **more}
    if context is not None:
        properties["inbound.context"] = context
    return InboundElement("start", None, "startEvent", Point.START, process, None, 1, 1, tenant, properties)


@dataclass(eq=False)
class Hook:
    """An executable whose answer is the test's."""

    element: InboundElement = field(default_factory=an_element)
    answer: Handler = lambda request: WebhookResponse()
    told: list[str] = field(default_factory=list)
    requests: list[WebhookRequest] = field(default_factory=list)

    @property
    def executable_id(self) -> str:
        return self.element.bpmn_process_id

    @property
    def elements(self) -> list[InboundElement]:
        return [self.element]

    def activated(self) -> None:
        self.told.append("activated")

    def queued(self, reason: str) -> None:
        self.told.append(reason)

    def log(self, severity: str, tag: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        self.told.append(f"{severity} {tag}: {message}")

    async def handle(self, request: WebhookRequest) -> WebhookResponse:
        self.requests.append(request)
        answer = self.answer(request)
        return answer if isinstance(answer, WebhookResponse) else await answer


@pytest.fixture(autouse=True)
def _short_lingering(monkeypatch):
    monkeypatch.setattr("gateway.admin.server._LINGERING_SECONDS", 0.2)


class Held:
    """Answers when it is released."""

    def __init__(self, status: int = 200) -> None:
        self._status = status
        self._waiting = asyncio.Semaphore(0)
        self.release = asyncio.Event()

    async def __call__(self, request: WebhookRequest) -> WebhookResponse:
        self._waiting.release()
        await self.release.wait()
        return WebhookResponse(self._status)

    async def reached(self, count: int) -> None:
        for _ in range(count):
            await self._waiting.acquire()


class Door:
    """A running ingress. `raw` sends bytes as they are and gives what comes back until the other side closes."""

    def __init__(self, ingress: Ingress, port: int, client: aiohttp.ClientSession) -> None:
        self.ingress, self.port, self.client = ingress, port, client

    async def __call__(self, method: str, path: str, **options: Any) -> tuple[int, bytes, Mapping[str, str]]:
        async with self.client.request(method, path, **options) as reply:
            return reply.status, await reply.read(), reply.headers

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def raw(self, message: bytes, seconds: float = 5.0) -> bytes:
        async with self.connected() as (reader, writer), asyncio.timeout(seconds):
            writer.write(message)
            return await reader.read()


@asynccontextmanager
async def opened(
    *hooks: Hook, scope: str | None = None, limits: IngressLimits | None = None, **options: Any
) -> AsyncIterator[Door]:
    paths = Paths(scope)
    for hook in hooks:
        paths.register(hook)
    ingress = Ingress(paths, limits, **options)
    async with (
        serve(application(ingress.routes()), "127.0.0.1", 0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", auto_decompress=False) as client,
    ):
        yield Door(ingress, port, client)


def post(path: str = "orders", body: bytes = b"", *headers: bytes, length: int | None = None) -> bytes:
    lines = [
        f"POST /inbound/{path} HTTP/1.1".encode(),
        b"Host: h",
        b"Content-Length: %d" % (len(body) if length is None else length),
    ]
    return b"\r\n".join([*lines, *headers, b"", body])


# ---- paths -----------------------------------------------------------------------------------------------------------


async def test_the_first_has_the_path_the_others_wait_in_order_and_take_over():
    paths, (first, second, third) = Paths(), [Hook(an_element(process=name)) for name in ("a", "b", "c")]
    for hook in (first, second, third):
        paths.register(hook)
    assert await paths.active(("orders",)) == (first,)
    assert first.told == ["activated"]
    assert second.told == third.told == ["Context: orders already in use by: process a(start)"]
    paths.deregister(first)
    assert await paths.active(("orders",)) == (second,)
    assert second.told[1:] == ["INFO Activation: Context: orders is free: taking over", "activated"]
    assert len(third.told) == 1


async def test_who_leaves_the_queue_never_takes_over():
    paths, (first, second, third) = Paths(), [Hook(an_element(process=name)) for name in ("a", "b", "c")]
    for hook in (first, second, third):
        paths.register(hook)
    paths.deregister(second)
    assert await paths.active(("orders",)) == (first,)
    paths.deregister(first)
    paths.deregister(first)
    assert await paths.active(("orders",)) == (third,)
    assert "activated" not in second.told


async def test_without_a_path_nothing_is_held():
    paths = Paths()
    for context in (None, "", "  "):
        with pytest.raises(ConnectorInputException, match=r"inbound\.context: expected the webhook's path"):
            paths.register(Hook(an_element(context)))


async def test_an_unusual_path_is_taken_with_a_warning():
    paths, usual, odd = Paths(), Hook(an_element("a-b_c9")), Hook(an_element("a--b"))
    paths.register(usual)
    paths.register(odd)
    assert usual.told == ["activated"]
    assert odd.told[0].startswith("WARNING Warning: Unusual webhook path 'a--b'")
    assert await paths.active(("a--b",)) == (odd,)


async def test_the_old_way_to_say_a_response_is_refused_with_a_hint_how_to_move():
    paths = Paths()
    hook = Hook(an_element(**{"inbound.responseBodyExpression": "=1"}))
    with pytest.raises(
        ConnectorInputException, match=r"responseBodyExpression of start: .*inbound\.responseExpression, as ={body"
    ):
        paths.register(hook)
    assert await paths.active(("orders",)) == ()
    paths.register(Hook(an_element(**{"inbound.responseBodyExpression": " "})))


async def test_the_same_executable_cannot_have_two_paths():
    paths, hook = Paths(), Hook()
    paths.register(hook)
    with pytest.raises(ValueError, match="registered already"):
        paths.register(hook)


async def test_tenants_share_short_paths_and_have_long_ones_of_their_own():
    short, long = Paths(), Paths("main")
    one, other = Hook(an_element(tenant="t1")), Hook(an_element(tenant="t2"))
    for paths in (short, long):
        for hook in (one, other):
            paths.register(hook)
    assert await short.active(("orders",)) == (one,)
    assert await long.active(("main", "t1", "orders")) == (one,)
    assert await long.active(("main", "t2", "orders")) == (other,)
    assert await long.active(("orders",)) == ()
    for scope, tenant in (("a/b", "t"), ("main", "a/b"), ("", "t")):
        with pytest.raises(ConnectorInputException, match="cannot be a segment"):
            Paths(scope).register(Hook(an_element(tenant=tenant)))


async def test_all_who_say_that_they_share_serve_a_path_together_and_who_does_not_waits():
    paths = Paths()
    shared = [Hook(an_element(process=name, **{"inbound.shared": "True"})) for name in ("a", "b", "c")]
    alone = Hook(an_element(process="alone"))
    for hook in (shared[0], shared[1], alone, shared[2]):
        paths.register(hook)
    assert await paths.active(("orders",)) == tuple(shared[:2])
    assert "already in use by: process a" in shared[2].told[0]  # behind the one that waits: nobody waits for ever
    paths.deregister(shared[0])
    assert await paths.active(("orders",)) == (shared[1],)
    paths.deregister(shared[1])
    assert await paths.active(("orders",)) == (alone,)
    paths.deregister(alone)
    assert await paths.active(("orders",)) == (shared[2],)


async def test_a_request_that_meets_a_path_between_two_versions_waits_for_the_new_one():
    paths, old, new = Paths(), Hook(), Hook()
    paths.register(old)
    paths.deregister(old)
    asking = asyncio.create_task(paths.active(("orders",)))
    await asyncio.sleep(0.01)
    assert not asking.done()
    paths.register(new)
    assert await asking == (new,)


# ---- routes and methods ----------------------------------------------------------------------------------------------


async def test_an_unknown_path_is_an_empty_404_and_paths_are_case_sensitive():
    async with opened(Hook(an_element("Orders"))) as door:
        assert (await door("POST", "/inbound/Orders"))[0] == 200
        for path in ("orders", "Orders2", "Orders/more", "a/b/c", "Orders/"):
            assert (await door("POST", f"/inbound/{path}"))[0] == 404
        status, body, headers = await door("POST", "/inbound/nobody")
        assert (status, body, headers["Connection"]) == (404, b"", "close")


async def test_the_long_path_leads_to_its_tenant():
    hook = Hook(an_element())
    async with opened(hook, scope="default") as door:
        assert (await door("POST", "/inbound/default/%3Cdefault%3E/orders"))[0] == 200
        assert (await door("POST", "/inbound/orders"))[0] == 404
        assert (await door("POST", "/inbound/default/other/orders"))[0] == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
async def test_these_methods_reach_the_executable(method):
    hook = Hook()
    async with opened(hook) as door:
        assert (await door(method, "/inbound/orders"))[0] == 200
    assert [request.method for request in hook.requests] == [method]


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "PROPFIND"])
async def test_other_methods_are_405_and_tell_which_are_allowed(method):
    hook = Hook()
    async with opened(hook) as door:
        status, body, headers = await door(method, "/inbound/orders")
    assert (status, json.loads(body)) == (405, {"reason": f"Method {method} not supported"})
    assert headers["Allow"] == "GET, HEAD, POST, PUT, DELETE, OPTIONS"
    assert not hook.requests


async def test_options_tells_what_is_allowed_and_starts_nothing():
    hook = Hook()
    async with opened(hook) as door:
        status, body, headers = await door("OPTIONS", "/inbound/orders")
        assert (status, body, headers["Allow"]) == (200, b"", "GET, HEAD, POST, PUT, DELETE, OPTIONS")
        assert (await door("OPTIONS", "/inbound/unknown"))[0] == 404
    assert not hook.requests


# ---- what the executable sees ----------------------------------------------------------------------------------------


async def test_the_request_has_lower_case_headers_and_the_first_of_what_is_repeated():
    hook = Hook()
    async with opened(hook) as door:
        await door.raw(
            b"POST /inbound/orders?a=1%2B1+x&a=2&b&c=%C3%A4&d=%ff&=e HTTP/1.1\r\nHost: shop.example:8080\r\nX-Thing: One\r\n"
            b"x-thing: two\r\nX-Name: \xc3\xa4\r\nX-Latin: \xe4\r\nContent-Length: 3\r\nConnection: close\r\n\r\na\x00\xff"
        )
    (request,) = hook.requests
    assert request.params == {"a": "1+1 x", "b": "", "c": "ä", "d": "�", "": "e"}
    assert request.headers["x-thing"] == "One"
    assert (request.headers["x-name"], request.headers["x-latin"]) == ("ä", "ä")
    assert (request.raw, request.url, request.path) == (
        b"a\x00\xff",
        "http://shop.example:8080/inbound/orders",
        "/inbound/orders",
    )


@pytest.mark.parametrize(
    ("options", "headers", "url"),
    [
        ({}, {"X-Forwarded-Host": "evil", "X-Forwarded-Proto": "https"}, "http://shop.example"),
        ({}, {"Host": "shop.example:80"}, "http://shop.example"),
        ({}, {"Host": "shop.example:443"}, "http://shop.example:443"),
        ({"base_url": "https://hooks.example/base/"}, {"X-Forwarded-Host": "evil"}, "https://hooks.example/base"),
        ({"trust_forwarded": True}, {"X-Forwarded-Proto": "https, http"}, "https://shop.example"),
        (
            {"trust_forwarded": True},
            {"X-Forwarded-Host": "a.example, b", "X-Forwarded-Port": "8443"},
            "http://a.example:8443",
        ),
        ({"trust_forwarded": True}, {"X-Forwarded-Host": "a:1", "X-Forwarded-Port": "2"}, "http://a:1"),
        ({"trust_forwarded": True}, {"X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}, "https://shop.example"),
        ({"trust_forwarded": True}, {"X-Forwarded-Prefix": "/hooks/"}, "http://shop.example/hooks"),
    ],
)
async def test_the_url_is_the_one_that_the_sender_called(options, headers, url):
    hook = Hook()
    async with opened(hook, **options) as door:
        await door("POST", "/inbound/orders?q=1", headers={"Host": "shop.example", **headers})
    assert hook.requests[0].url == f"{url}/inbound/orders"


async def test_a_chunked_body_arrives_whole():
    hook = Hook()

    async def chunks() -> AsyncIterator[bytes]:
        for n in range(50):
            yield b"%d," % n

    async with opened(hook) as door:
        assert (await door("POST", "/inbound/orders", data=chunks()))[0] == 200
    assert hook.requests[0].raw == b"".join(b"%d," % n for n in range(50))


# ---- bounds ----------------------------------------------------------------------------------------------------------


async def test_a_body_above_the_cap_is_413_before_it_is_read():
    hook = Hook()
    async with opened(hook, limits=IngressLimits(max_body=1000)) as door:
        assert (await door("POST", "/inbound/orders", data=b"x" * 1000))[0] == 200
        status, body, headers = await door("POST", "/inbound/orders", data=b"x" * 1001)
        assert (status, json.loads(body)["reason"]) == (413, "the body is larger than 1000 bytes")
        assert headers["Connection"] == "close"
        answer = await door.raw(post(length=10**12))
        assert answer.startswith(b"HTTP/1.1 413 ")
    assert len(hook.requests) == 1


async def test_endless_chunks_are_413_at_the_cap_and_nothing_is_kept():
    hook = Hook()
    async with opened(hook, limits=IngressLimits(max_body=100_000)) as door:
        async with door.connected() as (reader, writer):
            writer.write(b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
            answer, sent = asyncio.ensure_future(reader.readline()), 0
            while not answer.done() and sent < 5_000_000:
                writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
                sent += 0x4000
                await asyncio.sleep(0)
            assert (await answer).startswith(b"HTTP/1.1 413 ")
            assert sent < 5_000_000
        assert door.ingress.statistics()["buffered_bytes"] == 0
    assert not hook.requests


async def test_the_body_of_an_unknown_path_is_never_waited_for():
    async with opened() as door:
        answer = await door.raw(post("nobody", length=10**9))
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"Connection: close" in answer
        expecting = await door.raw(post("nobody", b"", b"Expect: 100-continue", length=10))
        assert expecting.startswith(b"HTTP/1.1 404 ")


async def test_who_asks_before_sending_is_told_to_go_on():
    hook = Hook()
    async with opened(hook) as door, door.connected() as (reader, writer):
        writer.write(post("orders", b"", b"Expect: 100-continue", length=2))
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        writer.write(b"{}")
        await reader.readline()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    assert hook.requests[0].raw == b"{}"


async def test_a_body_that_drips_is_408_and_others_are_served_meanwhile():
    hook = Hook()
    async with opened(hook, limits=IngressLimits(body_seconds=0.5, max_in_flight=1)) as door:
        slow = [asyncio.create_task(door.raw(post(length=10))) for _ in range(50)]
        await asyncio.sleep(0.1)
        assert (await door("POST", "/inbound/orders", data=b"{}"))[0] == 200
        answers = await asyncio.gather(*slow)
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
        assert door.ingress.statistics() == {"limit": 1, "in_use": 0, "open": 0, "buffered_bytes": 0}
    assert len(hook.requests) == 1


async def test_a_sender_that_goes_away_in_the_middle_leaves_nothing_behind():
    hook = Hook()
    async with opened(hook) as door:
        async with door.connected() as (_, writer):
            writer.write(post("orders", b"{", length=10))
            await asyncio.sleep(0.05)
            assert door.ingress.statistics()["buffered_bytes"] == 1
        await asyncio.sleep(0.05)
        assert door.ingress.statistics()["open"] == door.ingress.statistics()["buffered_bytes"] == 0
    assert not hook.requests


async def test_a_gzip_bomb_is_415_and_never_unpacked():
    hook = Hook()
    async with opened(hook) as door:
        status, _, headers = await door(
            "POST", "/inbound/orders", data=b"\x1f\x8b...", headers={"Content-Encoding": "gzip"}
        )
        assert (status, headers["Accept-Encoding"]) == (415, "identity")
        status, _, _ = await door("POST", "/inbound/orders", data=b"{}", headers={"Content-Encoding": "identity"})
        assert status == 200
    assert [request.raw for request in hook.requests] == [b"{}"]


async def test_above_the_limit_a_request_is_503_at_once_and_the_limit_is_free_again_afterwards():
    held = Held()
    async with opened(Hook(answer=held), limits=IngressLimits(max_in_flight=2)) as door:
        waiting = [asyncio.create_task(door("POST", "/inbound/orders")) for _ in range(2)]
        await held.reached(2)
        status, _, headers = await door("POST", "/inbound/orders")
        assert (status, headers["Retry-After"]) == (503, "1")
        held.release.set()
        assert [answer[0] for answer in await asyncio.gather(*waiting)] == [200, 200]
        assert (await door("POST", "/inbound/orders"))[0] == 200


async def test_one_path_cannot_take_all_places_where_paths_are_limited():
    held = Held()
    busy, calm = Hook(an_element("busy"), held), Hook(an_element("calm"))
    async with opened(busy, calm, limits=IngressLimits(max_per_path=1)) as door:
        waiting = asyncio.create_task(door("POST", "/inbound/busy"))
        await held.reached(1)
        assert (await door("POST", "/inbound/busy"))[0] == 503
        assert (await door("POST", "/inbound/calm"))[0] == 200
        held.release.set()
        assert (await waiting)[0] == 200
        assert (await door("POST", "/inbound/busy"))[0] == 200


async def test_all_bodies_together_are_bounded():
    held = Held()
    async with opened(Hook(answer=held), limits=IngressLimits(max_buffered=1000)) as door:
        waiting = asyncio.create_task(door("POST", "/inbound/orders", data=b"x" * 900))
        await held.reached(1)
        assert (await door("POST", "/inbound/orders", data=b"x" * 200))[0] == 503
        held.release.set()
        assert (await waiting)[0] == 200
        assert (await door("POST", "/inbound/orders", data=b"x" * 200))[0] == 200


async def test_a_drain_refuses_what_is_new_and_finishes_what_runs():
    held = Held(201)
    async with opened(Hook(answer=held)) as door:
        running = asyncio.create_task(door("POST", "/inbound/orders"))
        await held.reached(1)
        draining = asyncio.create_task(door.ingress.drain())
        await asyncio.sleep(0.01)
        status, _, headers = await door("POST", "/inbound/orders")
        assert (status, headers["Retry-After"], headers["Connection"]) == (503, "1", "close")
        assert not draining.done()
        held.release.set()
        assert (await running)[0] == 201
        await asyncio.wait_for(draining, 1)


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "status", "body", "content_type"),
    [
        (WebhookResponse(), 200, b"", None),
        (WebhookResponse(201, {"a": [1, None, True, "<b>"]}), 201, b'{"a":[1,null,true,"<b>"]}', "application/json"),
        (WebhookResponse(200, 1.5), 200, b"1.5", "application/json"),
        (WebhookResponse(200, False), 200, b"false", "application/json"),
        (WebhookResponse(200, "<b>ä&\"'"), 200, "&lt;b&gt;ä&amp;&quot;&#x27;".encode(), "text/plain; charset=utf-8"),
        (WebhookResponse(200, "<b>", {"content-type": "text/html"}), 200, b"&lt;b&gt;", "text/html"),
        (WebhookResponse(200, "<b/>", {"Content-Type": "application/xml;v=1"}), 200, b"<b/>", "application/xml;v=1"),
        (WebhookResponse(200, "<b/>", {"Content-Type": "Text/XML"}), 200, b"<b/>", "Text/XML"),
        (WebhookResponse(200, "ä", {"Content-Type": "text/plain; charset=ISO-8859-1"}), 200, b"\xe4", None),
        (WebhookResponse(200, "ä", {"Content-Type": "text/plain; charset=nonsense"}), 200, "ä".encode(), None),
        (WebhookResponse(200, b"\x00\xff"), 200, b"\x00\xff", "application/octet-stream"),
        (WebhookResponse(204, {"a": 1}), 204, b"", None),
        (WebhookResponse(404, {}), 404, b"{}", "application/json"),
        (WebhookResponse(599, ""), 599, b"", None),
    ],
)
async def test_an_answer_is_written_by_its_kind(response, status, body, content_type):
    async with opened(Hook(answer=lambda request: response)) as door:
        came = await door("POST", "/inbound/orders")
    assert came[:2] == (status, body)
    if content_type:
        assert came[2]["Content-Type"] == content_type
    assert came[2]["X-Content-Type-Options"] == "nosniff"


async def test_documents_are_written_as_references():
    reference = {"camunda.document.type": "camunda", "documentId": "1"}

    async def content() -> AsyncIterator[bytes]:
        yield b""

    document = Document(reference, DocumentMetadata(), content)
    async with opened(Hook(answer=lambda request: WebhookResponse(200, {"docs": [document]}))) as door:
        assert json.loads((await door("POST", "/inbound/orders"))[1]) == {"docs": [reference]}


@pytest.mark.parametrize(
    "response",
    [
        WebhookResponse(100),
        WebhookResponse(199),
        WebhookResponse(600),
        WebhookResponse(True),
        WebhookResponse("200"),  # type: ignore[arg-type]
        WebhookResponse(200, None, {"X\r\nY": "a"}),
        WebhookResponse(200, None, {"": "a"}),
        WebhookResponse(200, None, {"X": 1}),  # type: ignore[dict-item]
        WebhookResponse(200, object()),
        WebhookResponse(200, "\ud800"),
        WebhookResponse(200, {"a": "\ud800"}),
    ],
)
async def test_what_cannot_be_an_answer_is_an_empty_500(response):
    async with opened(Hook(answer=lambda request: response)) as door:
        status, body, headers = await door("POST", "/inbound/orders")
    assert (status, body) == (500, b"")
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize(
    ("given", "sent"),
    [("a\r\nSet-Cookie: b", "a  Set-Cookie: b"), ("a\x00b\x7f", "a b "), ("x\ud800y", "x?y"), ("a\tb", "a\tb")],
)
async def test_what_cannot_stand_in_a_header_becomes_a_space_there(given, sent):
    async with opened(Hook(answer=lambda request: WebhookResponse(200, "ok", {"X": given}))) as door:
        status, body, headers = await door("POST", "/inbound/orders")
    assert (status, body, headers["X"]) == (200, b"ok", sent.strip())
    assert "Set-Cookie" not in headers


async def test_headers_that_frame_the_message_are_ours():
    given = {"Content-Length": "1", "Transfer-Encoding": "chunked", "connection": "x", "X-Kept": "ä"}
    response = written(WebhookResponse(200, "abc", given))
    assert (response.body, response.headers["X-Kept"]) == (b"abc", "ä")
    assert not {"Content-Length", "Transfer-Encoding", "Connection"} & set(response.headers)


async def test_what_is_refused_tells_a_reason_or_what_the_refusal_says():
    def refuse(request: WebhookRequest) -> WebhookResponse:
        if request.params:
            raise WebhookRefused(409, "twice", body=[1], headers={"X-A": "b"})
        raise WebhookRefused(401, "Reason: INVALID_CREDENTIALS")

    async with opened(Hook(answer=refuse)) as door:
        assert (await door("POST", "/inbound/orders"))[:2] == (401, b'{"reason":"Reason: INVALID_CREDENTIALS"}')
        status, body, headers = await door("POST", "/inbound/orders?a")
        assert (status, body, headers["X-A"]) == (409, b"[1]", "b")


async def test_an_exception_of_a_connector_is_422_and_any_other_an_empty_500():
    def fail(request: WebhookRequest) -> WebhookResponse:
        if request.params:
            raise ConnectorException("no good", code="E1")
        raise ZeroDivisionError("the body was 'secret stuff'")

    hook = Hook(answer=fail)
    async with opened(hook) as door:
        assert (await door("POST", "/inbound/orders?a"))[:2] == (422, b'{"code":"E1","message":"no good"}')
        assert (await door("POST", "/inbound/orders"))[:2] == (500, b"")
    assert hook.told[-1] == "ERROR POST: ZeroDivisionError while a request was handled: answered with 500"


async def test_while_the_engine_is_away_the_sender_is_asked_to_come_again():
    def fail(request: WebhookRequest) -> WebhookResponse:
        raise Unavailable("connect to 10.0.0.3:26500 refused")

    async with opened(Hook(answer=fail)) as door:
        status, body, headers = await door("POST", "/inbound/orders")
    assert (status, body, headers["Retry-After"]) == (503, b'{"reason":"the engine is away"}', "5")


async def test_the_log_of_a_failure_says_where_but_not_what_was_sent(capsys):
    def fail(request: WebhookRequest) -> WebhookResponse:
        return WebhookResponse(200, int(request.raw))

    async with opened(Hook(answer=fail)) as door:
        assert (await door("POST", "/inbound/orders", data=b"s3cret-in-the-body"))[0] == 500
    told = capsys.readouterr()
    assert "ValueError" in told.out + told.err
    assert "s3cret" not in told.out + told.err


async def test_secrets_are_masked_in_answers_that_tell_of_errors():
    def fail(request: WebhookRequest) -> WebhookResponse:
        if request.params:
            return WebhookResponse(200, "hunter2")
        raise WebhookRefused(422, "cannot use hunter2", headers={"X-Reason": "hunter2"})

    async with opened(Hook(answer=fail), mask=lambda text: text.replace("hunter2", "***")) as door:
        _, body, headers = await door("POST", "/inbound/orders")
        assert (body, headers["X-Reason"]) == (b'{"reason":"cannot use ***"}', "***")
        assert (await door("POST", "/inbound/orders?ok"))[1] == b"hunter2"


async def test_those_who_share_a_path_all_get_the_request_and_the_first_success_answers():
    def fails(request: WebhookRequest) -> WebhookResponse:
        raise WebhookRefused(422, "no")

    shared = {"inbound.shared": "true"}
    answers: list[Handler] = [
        fails,
        lambda request: WebhookResponse(202, "b"),
        lambda request: WebhookResponse(200, "c"),
    ]
    hooks = [Hook(an_element(process=name, **shared), answer) for name, answer in zip("abc", answers, strict=True)]
    async with opened(*hooks) as door:
        assert (await door("POST", "/inbound/orders", data=b"1"))[:2] == (202, b"b")
        hooks[1].answer = hooks[2].answer = fails
        assert (await door("POST", "/inbound/orders", data=b"2"))[0] == 422
    assert [[request.raw for request in hook.requests] for hook in hooks] == [[b"1", b"2"]] * 3


# ---- hostile bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
        b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nContent-Length: +2\r\n\r\n{}",
        b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 2 2\r\n\r\n{}",
        b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nContent-Length : 2\r\n\r\n{}",
        b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nX-A: b\rc\r\n\r\n",
        b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nX-A: b\x00c\r\n\r\n",
        b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nX-A: b\r\n folded\r\n\r\n",
        b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nHost: other\r\n\r\n",
        b"POST /inbound/orders HTTP/1.1\r\n\r\n",
        b"POST http://other.example/inbound/orders HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /inbound/orders HTTP/9.9\r\nHost: h\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST /inbound/orders HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}xx\r\n0\r\n\r\n",
    ],
)
async def test_what_is_not_plainly_one_request_is_400_and_reaches_nobody(message):
    hook = Hook()
    async with opened(hook) as door:
        answer = await door.raw(message + b"GET /inbound/orders?smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert answer.count(b"HTTP/1.") == 1
    assert b"Traceback" not in answer
    assert not hook.requests


_METHOD = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE"])
_LINE = st.binary(max_size=30).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b""))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    _METHOD,
    _LINE,
    st.lists(st.tuples(st.from_regex(rb"[A-Za-z-]{1,12}", fullmatch=True), _LINE), max_size=4),
    st.binary(max_size=200),
)
def test_no_request_gets_a_500_or_a_trace(method, query, headers, body):
    async def one() -> bytes:
        hook = Hook(
            answer=lambda request: WebhookResponse(
                200, {"h": dict(request.headers), "p": dict(request.params), "u": request.url}
            )
        )
        async with opened(hook) as door:
            lines = [method.encode() + b" /inbound/orders?" + query + b" HTTP/1.1", b"Host: h", b"Connection: close"]
            lines += [b"Content-Length: %d" % len(body), *(name + b": " + value for name, value in headers)]
            return await door.raw(b"\r\n".join([*lines, b"", body]), seconds=10)

    answer = asyncio.run(one())
    assert not answer.startswith(b"HTTP/1.1 5")
    assert b"Traceback" not in answer
