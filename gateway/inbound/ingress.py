"""The door for webhooks: which path is whose, and how a request comes in and its answer goes out.

`/inbound/{context}` and, where several tenants share a gateway, `/inbound/{physical tenant}/{tenant}/{context}` (Camunda docs, "HTTP
Webhook connector"). What is done with a request is the executable's; here it is bounded first: the size and the time of its body,
how many are under way, how many bytes they hold. Bodies that are packed (`Content-Encoding`) are not taken: 415. Signatures are
over the bytes as they came, and nothing can unfold into more than was sent.
"""

import asyncio
import html
import re
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import structlog
from aiohttp import web
from multidict import CIMultiDict

from gateway import documents, jsontext
from gateway.engine import TransientError
from gateway.limits import Permits
from gateway.sdk import ConnectorException, ConnectorInputException, InboundElement, WebhookResponse
from gateway.sdk.inbound import Severity
from gateway.webhooks import WebhookRefused, WebhookRequest

log = structlog.get_logger(__name__)

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")

_USUAL_PATH: Final = re.compile(r"[a-zA-Z0-9]+([-_][a-zA-Z0-9]+)*")
_VACANT_SECONDS: Final = 2.0


class Executable(Protocol):
    """What holds a path, or waits for it: one webhook connector with its elements. It can work when it asks for the path."""

    @property
    def executable_id(self) -> str: ...

    @property
    def elements(self) -> Sequence[InboundElement]:
        """At least one; the first says the path."""

    def activated(self) -> None:
        """It has its path: requests come from now on."""

    def queued(self, reason: str) -> None:
        """The path is another's, which `reason` names; `activated` follows when it gets free."""

    async def handle(self, request: WebhookRequest) -> WebhookResponse:
        """Answers a request. Raises WebhookRefused for what it does not take; anything else becomes a 500."""

    def log(self, severity: Severity, tag: str, message: str, data: Mapping[str, Any] | None = None) -> None: ...


# ---- paths -----------------------------------------------------------------------------------------------------------

Key = tuple[str, ...]


@dataclass(slots=True)
class _Route:
    """One path: who serves it, who waits for it, in order."""

    path: str
    active: list[Executable] = field(default_factory=list)
    queue: deque[Executable] = field(default_factory=deque)

    def takes(self, executable: Executable) -> bool:
        """Whether it may serve beside those that do now."""
        return not self.active or all(map(_shared, (*self.active, executable)))


def _shared(executable: Executable) -> bool:
    return executable.elements[0].properties.get("inbound.shared", "").strip().lower() == "true"


class Paths:
    """Who serves which path. One executable has it, the others wait in the order in which they came.

    When all of them say `inbound.shared` = `true`, none waits: each request goes to every one.
    scope: the physical tenant's id, where paths have three segments; None: they have one.
    """

    def __init__(self, scope: str | None = None) -> None:
        self._scope = scope
        self._routes: dict[Key, _Route] = {}
        self._keys: dict[Executable, Key] = {}
        self._vacant: dict[Key, asyncio.Event] = {}

    def key(self, element: InboundElement) -> Key:
        """The segments of an element's path. Raises ConnectorInputException: no path, or a tenant that cannot stand in one."""
        context = element.properties.get("inbound.context", "")
        if not context.strip():
            raise ConnectorInputException("inbound.context: expected the webhook's path, but got nothing")
        if self._scope is None:
            return (context,)
        for name, value in (("physical tenant", self._scope), ("tenant", element.tenant_id)):
            if not value or "/" in value:
                raise ConnectorInputException(f"{name} '{value}': cannot be a segment of the webhook's path")
        return (self._scope, element.tenant_id, context)

    def register(self, executable: Executable) -> None:
        """Gives an executable the path of its first element, or a place in the queue for it; tells it by `activated` or `queued`.

        Raises ConnectorInputException when the elements make no webhook: nothing is held then.
        """
        key = self.key(executable.elements[0])
        _refuse_old_responses(executable.elements)
        if executable in self._keys:
            raise ValueError(f"the executable {executable.executable_id} is registered already")
        if not _USUAL_PATH.fullmatch(key[-1]):
            words = f"Unusual webhook path '{key[-1]}': expected letters and digits, with single '-' or '_' between"
            executable.log("WARNING", "Warning", words)
        self._keys[executable] = key
        route = self._routes.setdefault(key, _Route("/".join(key)))
        if route.queue or not route.takes(executable):
            owner = route.active[0].elements[0]
            route.queue.append(executable)
            executable.queued(
                f"Context: {route.path} already in use by: process {owner.bpmn_process_id}({owner.element_id})"
            )
            return
        route.active.append(executable)
        if (vacant := self._vacant.pop(key, None)) is not None:
            vacant.set()
        executable.activated()

    def deregister(self, executable: Executable) -> None:
        """Gives its path, or its place in the queue, back; who waits takes over. Nothing happens when it has none."""
        key = self._keys.pop(executable, None)
        if key is None:
            return
        route = self._routes[key]
        (route.active if executable in route.active else route.queue).remove(executable)
        while route.queue and route.takes(route.queue[0]):
            successor = route.queue.popleft()
            route.active.append(successor)
            successor.log("INFO", "Activation", f"Context: {route.path} is free: taking over")
            successor.activated()
        if not route.active:
            del self._routes[key]
            self._vacant[key] = vacant = asyncio.Event()
            asyncio.get_running_loop().call_later(_VACANT_SECONDS, self._forget, key, vacant)

    def _forget(self, key: Key, vacant: asyncio.Event) -> None:
        if self._vacant.get(key) is vacant:
            del self._vacant[key]

    async def active(self, key: Key) -> Sequence[Executable]:
        """Who serves a path, in the order of registration.

        A path that was served just now is waited for a moment: with a new version its executable goes, and comes again.
        """
        route = self._routes.get(key)
        if route is None and (vacant := self._vacant.get(key)) is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_VACANT_SECONDS):
                    await vacant.wait()
            route = self._routes.get(key)
        return tuple(route.active) if route is not None else ()


def _refuse_old_responses(elements: Iterable[InboundElement]) -> None:
    for element in elements:
        if element.properties.get("inbound.responseBodyExpression", "").strip():
            raise ConnectorInputException(
                f"inbound.responseBodyExpression of {element.element_id}: is no longer supported; move it into "
                "inbound.responseExpression, as ={body: ...}"
            )


# ---- requests --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressLimits:
    """max_body: bytes of one body; body_seconds: from the head of a request to the end of its body; max_in_flight: requests being
    handled at once; max_buffered: bytes of all bodies held at once; max_per_path: requests in flight for one path, None: no own limit.
    """

    max_body: int = 10 * 1024**2
    body_seconds: float = 30.0
    max_in_flight: int = 1000
    max_buffered: int = 256 * 1024**2
    max_per_path: int | None = None


class _Answered(Exception):  # noqa: N818 - not an error: the answer is known before the executable is asked
    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        self.response = response


def _busy(what: str) -> "_Answered":
    return _Answered(_plain(503, what, {"Retry-After": "1"}))


class Ingress:
    """The HTTP side. `routes()` are for the server; it must not unpack bodies by itself (`auto_decompress=False`).

    base_url: how senders see the gateway, for signatures over the URL; None: the request's own `Host`. trust_forwarded: whether
    `X-Forwarded-Proto`, `-Host`, `-Port` and `-Prefix` count for it, which only a proxy in front makes safe. mask: what takes
    secrets out of texts; applied to answers with an error status.
    """

    def __init__(
        self,
        paths: Paths,
        limits: IngressLimits | None = None,
        *,
        base_url: str | None = None,
        trust_forwarded: bool = False,
        mask: Callable[[str], str] | None = None,
    ) -> None:
        self._paths = paths
        self._limits = limits = limits or IngressLimits()
        self._base_url = base_url.rstrip("/") if base_url else None
        self._trust_forwarded = trust_forwarded
        self._mask = mask
        self._handling = Permits(limits.max_in_flight)
        self._buffered = Permits(limits.max_buffered)
        self._per_path: dict[Key, int] = {}
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.route("*", path, self.handle, expect_handler=_expect_later)
            for path in ("/inbound/{context}", "/inbound/{physical}/{tenant}/{context}")
        ]

    def statistics(self) -> Mapping[str, float]:
        """`limit` and `in_use` of the requests being handled, `open` with those that are being read, `buffered_bytes`."""
        handling = self._handling.statistics()
        return {
            "limit": handling.limit,
            "in_use": handling.in_use,
            "open": self._open,
            "buffered_bytes": self._buffered.statistics().in_use,
        }

    async def drain(self) -> None:
        """Takes no new requests from now on, and waits until those under way are answered."""
        self._draining = True
        await self._idle.wait()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers a request to a path of `routes()`. Never raises but when it is cancelled."""
        self._open += 1
        self._idle.clear()
        try:
            return await self._answer(request)
        except _Answered as e:
            return e.response
        except Exception as e:
            _log_unexpected(e, request.path)
            return web.Response(status=500)
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def _answer(self, request: web.Request) -> web.Response:
        if self._draining:
            raise _busy("shutting down")
        key = tuple(request.match_info.values())
        executables = await self._paths.active(key)
        if not executables:
            raise _Answered(_plain(404))
        self._refuse_early(request, key)
        raw = bytearray()
        try:
            await self._read(request, raw)
            return await self._handled(executables, self._webhook_request(request, bytes(raw)), key)
        finally:
            self._buffered.give_back(len(raw))

    # -- in

    def _refuse_early(self, request: web.Request, key: Key) -> None:
        """What can be said without the body."""
        if not request.raw_path.startswith("/") or len(request.headers.getall("Host", ())) != 1:
            raise _Answered(_plain(400, "expected a path as the request's target, and one Host header"))
        if request.method == "OPTIONS":
            raise _Answered(web.Response(status=200, headers={"Allow": ", ".join(METHODS)}))
        if request.method not in METHODS:
            reason = f"Method {request.method[:20]} not supported"
            raise _Answered(_plain(405, reason, {"Allow": ", ".join(METHODS)}))
        if request.headers.get("Content-Encoding", "").strip().lower() not in {"", "identity"}:
            raise _Answered(_plain(415, "packed bodies are not taken", {"Accept-Encoding": "identity"}))
        if (request.content_length or 0) > self._limits.max_body:
            raise _Answered(self._too_large())
        limit = self._limits.max_per_path
        if not self._handling.free or (limit is not None and self._per_path.get(key, 0) >= limit):
            raise _busy("too many requests")

    def _too_large(self) -> web.Response:
        return _plain(413, f"the body is larger than {self._limits.max_body} bytes")

    async def _read(self, request: web.Request, into: bytearray) -> None:
        """Reads the body. `into` holds as many bytes as were taken from the budget, whatever happens."""
        if not request.body_exists:
            return
        _continue(request)
        try:
            if request.content.is_eof():  # all of it came with the head
                self._take(request.content.read_nowait(), into)
                return
            async with asyncio.timeout(self._limits.body_seconds):
                async for chunk in request.content.iter_any():
                    self._take(chunk, into)
        except TimeoutError:
            raise _Answered(_plain(408, "the body did not come in time")) from None
        except (web.RequestPayloadError, ConnectionError):
            raise _Answered(_plain(400, "the body came to no proper end")) from None

    def _take(self, chunk: bytes, into: bytearray) -> None:
        if len(into) + len(chunk) > self._limits.max_body:
            raise _Answered(self._too_large())
        if not self._buffered.take_nowait(len(chunk)):
            raise _busy("too many bytes under way")
        into += chunk

    def _webhook_request(self, request: web.Request, raw: bytes) -> WebhookRequest:
        target = _readable(request.raw_path)
        path, _, query = target.partition("#")[0].partition("?")
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            headers.setdefault(name.lower(), _readable(value))
        params: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True, errors="replace"):
            params.setdefault(name, value)
        url = self._root(request.scheme, headers) + path
        return WebhookRequest(request.method, path, url, headers, params, raw, query)

    def _root(self, scheme: str, headers: Mapping[str, str]) -> str:
        """Scheme, host and port as the sender wrote them."""
        if self._base_url is not None:
            return self._base_url
        host, prefix = headers.get("host", ""), ""
        if self._trust_forwarded:
            scheme = _first(headers, "x-forwarded-proto") or scheme
            prefix = _first(headers, "x-forwarded-prefix").rstrip("/")
            if forwarded := _first(headers, "x-forwarded-host"):
                host = forwarded
            if (port := _first(headers, "x-forwarded-port")) and not _PORT.search(host):
                host = f"{host}:{port}"
        default = {"http": ":80", "https": ":443"}.get(scheme.lower(), "")
        return f"{scheme.lower()}://{host.removesuffix(default) if default else host}{prefix}"

    # -- through

    async def _handled(self, executables: Sequence[Executable], request: WebhookRequest, key: Key) -> web.Response:
        if not self._handling.take_nowait():
            raise _busy("too many requests")
        self._per_path[key] = self._per_path.get(key, 0) + 1
        try:
            if len(executables) == 1:
                return await self._one(executables[0], request)
            answers = await asyncio.gather(*(self._one(executable, request) for executable in executables))
        finally:
            self._handling.give_back()
            self._per_path[key] -= 1
            if not self._per_path[key]:
                del self._per_path[key]
        return next((answer for answer in answers if answer.status < 400), answers[0])

    async def _one(self, executable: Executable, request: WebhookRequest) -> web.Response:
        try:
            return written(await executable.handle(request), self._mask)
        except WebhookRefused as e:
            return written(WebhookResponse(e.status, e.body, e.headers), self._mask)
        except ConnectorException as e:
            return written(WebhookResponse(422, {"code": e.code, "message": str(e)}), self._mask)
        except TransientError:  # no document could be stored, for example
            return written(WebhookResponse(503, {"reason": "the engine is away"}, {"Retry-After": "5"}))
        except Exception as e:
            _log_unexpected(e, request.path)
            with suppress(Exception):
                executable.log(
                    "ERROR", request.method, f"{type(e).__name__} while a request was handled: answered with 500"
                )
            return web.Response(status=500)


async def _expect_later(request: web.Request) -> web.Response | None:
    """`Expect: 100-continue` is answered when the body is wanted, see `_continue`."""
    expected = request.headers.get("Expect", "").lower()
    return None if expected == "100-continue" else _plain(417, "only 100-continue can be expected")


def _continue(request: web.Request) -> None:
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


_PORT = re.compile(r":\d+$")


def _first(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name, "").partition(",")[0].strip()


def _readable(text: str) -> str:
    """Header values and targets are bytes: UTF-8 where they are, else ISO-8859-1. aiohttp hands out what is neither as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    return text


def _log_unexpected(error: Exception, path: str) -> None:
    """Where it happened, but not its text: that may hold what was sent."""
    where = "".join(traceback.format_tb(error.__traceback__)[-6:])
    log.error("a webhook could not be answered", path=path[:200], error=type(error).__name__, where=where)


# ---- answers ---------------------------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING: Final = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"}
)
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)
_BODILESS: Final = frozenset({204, 205, 304})


def _plain(status: int, reason: str = "", headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer of the door itself: the connection ends with it where the body was not read."""
    body = jsontext.dumpb({"reason": reason}) if reason else None
    response = web.Response(status=status, body=body, headers=headers)
    if reason:
        response.content_type = "application/json"
    response.force_close()
    return response


def written(response: WebhookResponse, mask: Callable[[str], str] | None = None) -> web.Response:
    """The HTTP response for what a webhook answered; an empty 500 for what cannot be one.

    Text is escaped for HTML unless the Content-Type says XML; what is no text is JSON, documents as references.
    """
    try:
        return _written(response, mask)
    except (TypeError, ValueError) as e:
        log.warning("a webhook's answer cannot be sent", reason=str(e))
        return web.Response(status=500)


def _written(response: WebhookResponse, mask: Callable[[str], str] | None) -> web.Response:
    status = response.status
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise ValueError("statusCode: expected a number from 200 to 599")
    given = response.headers
    if mask is not None and status >= 400:
        given = {name: mask(value) if isinstance(value, str) else value for name, value in given.items()}
    headers = _headers(given)
    body, content_type = _body(response.body, headers.get("Content-Type", ""))
    if mask is not None and status >= 400:
        body = mask(body.decode("utf-8", "replace")).encode() if not isinstance(response.body, bytes) else body
    if status in _BODILESS:
        body = b""
    if body and content_type:
        headers.setdefault("Content-Type", content_type)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    return web.Response(status=status, body=body or None, headers=headers)


def _headers(given: Mapping[str, str]) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in given.items():
        if not _TOKEN.fullmatch(name) or not isinstance(value, str):
            raise ValueError("headers: expected names that are tokens, and texts as values")
        if name.lower() not in _FRAMING:
            # An expression may copy what the sender sent: a line break in it is no reason to fail after the event was taken.
            headers[name] = _BAD_VALUE.sub(" ", value).encode("utf-8", "replace").decode()
    return headers


def _body(body: Any, content_type: str) -> tuple[bytes, str]:
    """The bytes, and the content type they have when the headers name none."""
    if body is None:
        return b"", ""
    if isinstance(body, (bytes, bytearray)):
        return bytes(body), "application/octet-stream"
    if not isinstance(body, str):
        return jsontext.dumpb(body, documents.default), "application/json"
    if not any(kind in content_type.lower() for kind in ("application/xml", "text/xml")):
        body = html.escape(body)
    named = _CHARSET.search(content_type)
    try:
        return body.encode(named[1] if named else "utf-8"), "text/plain; charset=utf-8"
    except LookupError:
        return body.encode(), "text/plain; charset=utf-8"
