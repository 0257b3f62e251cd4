"""The one HTTP client of the product, on aiohttp's connections."""

import asyncio
import contextlib
import email.utils
import importlib.metadata
import random
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway import jsontext
from gateway.http_client.bodies import unpacked
from gateway.http_client.errors import (
    EgressDenied,
    HttpConnectionError,
    HttpError,
    HttpProtocolError,
    HttpTimeout,
    HttpTlsError,
)
from gateway.http_client.guard import AddressDenied, EgressPolicy, canonical_address
from gateway.http_client.messages import DEFAULT_TIMEOUT, Headers, HttpReply, HttpRequest, header_pairs
from gateway.http_client.settings import HttpSettings, Proxy
from gateway.http_client.tls import TlsContexts
from gateway.http_client.tokens import TokenCache
from gateway.http_client.urls import encode_url
from gateway.http_client.wire import Body, ExactRequest, Message

MAX_REDIRECTS: Final = 50
RETRY_PAUSE: Final = 1.0  # seconds, when the server names none
KEEP_ALIVE: Final = 4.0  # seconds; most servers close idle connections after five or more
_MAX_HEAD: Final = 65_536
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BUSY: Final = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class HttpStatistics:
    """in_flight: requests sent and not read to the end; idle: open connections that wait to be used again."""

    in_flight: int
    idle: int
    tls_contexts: int
    tokens: int


class HttpResponse:
    """An answer whose body is still to be read. To be closed on every path."""

    def __init__(self, response: aiohttp.ClientResponse, limit: int, done: Callable[[], None]) -> None:
        self.status: Final = response.status
        # The parser decodes as UTF-8 with escapes for what is none; HTTP's text is ISO-8859-1.
        self.reason: Final = (response.reason or "").encode("utf-8", "surrogateescape").decode("latin-1")
        self.headers: Final = Headers((n.decode("latin-1"), v.decode("latin-1")) for n, v in response.raw_headers)
        self._response = response
        self._limit = limit
        self._done = done

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body in chunks, unpacked. Raises HttpTimeout, HttpConnectionError, HttpBodyError (too large, badly packed)."""
        encoding = ", ".join(self.headers.get_all("content-encoding"))
        chunks = unpacked(self._response.content.iter_any(), encoding, self._limit)
        try:
            async for chunk in chunks:
                yield chunk
        except HttpError:
            raise
        except Exception as e:
            raise _translated(e) from None
        finally:
            await chunks.aclose()

    async def read(self) -> HttpReply:
        """The whole answer. Closes the response."""
        try:
            content = b"".join([chunk async for chunk in self.stream()])
        finally:
            self.close()
        return HttpReply(self.status, self.reason, self.headers, content)

    def close(self) -> None:
        """Gives the connection back when the body was read, else drops it. May be called again."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()
        self._done()


class HttpClient:
    """Sends requests exactly as they are given: no cookies, no redirects unless asked for, no headers beyond the few that are named.

    One for a process, used from one event loop. Safe to use from any number of tasks. Close it at the end.

        reply = await http.get("https://weather.example/v1", params={"q": "Berlin"})
        reply.raise_for_status()
        reply.json()

    Raises the errors of `gateway.http_client.errors`; a status is no error until asked for.
    """

    def __init__(
        self,
        settings: HttpSettings | None = None,
        *,
        user_agent: str | None = None,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings: Final = settings or HttpSettings()
        self.tokens: Final = TokenCache(skew=self.settings.oauth_skew, clock=clock)
        self._user_agent = user_agent or f"connector-gateway/{importlib.metadata.version('connector-gateway')}"
        self._sleep = sleep
        self._contexts = TlsContexts()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._in_flight = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections; requests under way fail."""
        sessions, self._sessions = self._sessions, {}
        await self.tokens.close()
        for session in sessions.values():
            await session.close()

    def statistics(self) -> HttpStatistics:
        idle = 0
        for session in self._sessions.values():
            idle += sum(len(kept) for kept in getattr(session.connector, "_conns", {}).values())
        return HttpStatistics(self._in_flight, idle, len(self._contexts), len(self.tokens))

    async def verify_host(self, host: str) -> None:
        """The host check before a request: EgressDenied when an address of the host may not be reached."""
        await self.settings.egress.verify_host(host)

    # ---- for authors -------------------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        json: Any = None,
        data: Body | str | None = None,
        timeout: float | None = None,
        follow_redirects: bool = False,
    ) -> HttpReply:
        """Sends a request and reads the answer.

        params: appended to the query, a None is a name without a value. json: the body, as JSON. data: the body as it is.
        timeout: seconds for all of it; without one 20 s to connect and 20 s between bytes.
        """
        prepared = _prepared(method, url, params, headers, json, data, follow_redirects=follow_redirects)
        try:
            async with asyncio.timeout(timeout):
                return await self.send(prepared)
        except TimeoutError:
            raise HttpTimeout from None

    async def get(self, url: str, **options: Any) -> HttpReply:
        """As `request`."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> HttpReply:
        """As `request`."""
        return await self.request("POST", url, **options)

    async def put(self, url: str, **options: Any) -> HttpReply:
        """As `request`."""
        return await self.request("PUT", url, **options)

    async def patch(self, url: str, **options: Any) -> HttpReply:
        """As `request`."""
        return await self.request("PATCH", url, **options)

    async def delete(self, url: str, **options: Any) -> HttpReply:
        """As `request`."""
        return await self.request("DELETE", url, **options)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        json: Any = None,
        data: Body | str | None = None,
        follow_redirects: bool = False,
    ) -> AsyncIterator[HttpResponse]:
        """Sends a request and gives the answer with its body unread: `async for chunk in response.stream()`."""
        async with await self.open(
            _prepared(method, url, params, headers, json, data, follow_redirects=follow_redirects)
        ) as response:
            yield response

    @asynccontextmanager
    async def download(self, url: str) -> AsyncIterator[HttpResponse]:
        """GET of a URL as a stream; HttpStatusError for a status of 400 or above."""
        async with self.stream("GET", url) as response:
            if response.status >= 400:
                (await response.read()).raise_for_status()
            yield response

    # ---- for connectors that say everything themselves ---------------------------------------------------------------

    async def send(self, request: HttpRequest) -> HttpReply:
        """Sends a request, follows redirects where asked to, reads the answer."""
        return await (await self.open(request)).read()

    async def open(self, request: HttpRequest) -> HttpResponse:
        """As `send`, but the body is unread: the caller closes the response on every path."""
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._persistent(request)
            location = response.headers.get("location")
            if not request.follow_redirects or response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            request = request.redirected(response.status, location)
        raise HttpProtocolError

    async def _persistent(self, request: HttpRequest) -> HttpResponse:
        """One exchange, with the silent retry: after 429 and 503 for every method, after a dropped connection for those that may
        be repeated.
        """
        retry = request.retry and self.settings.retry
        try:
            response = await self._exchange(request)
        except HttpConnectionError as e:
            if not (retry and e.established and request.method in _IDEMPOTENT):
                raise
            return await self._exchange(request)
        if not retry or response.status not in _BUSY:
            return response
        pause = _pause(response.headers.get("retry-after"))
        if pause > request.max_pause:
            return response
        response.close()
        await self._sleep(pause + random.uniform(0, 0.1))  # noqa: S311 - spreads load, guards nothing
        return await self._exchange(request)

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        """Sends one request over one connection. Raises HttpError, all of aiohttp's errors translated."""
        settings, url = self.settings, request.url
        settings.blocked.check(url)
        proxy = settings.proxy_for(url)
        secure = url.scheme == "https"
        if proxy is not None:
            await self.verify_host(url.host)
        authorization = proxy.authorization if proxy is not None and not secure else None
        message = request.message(self._user_agent, authorization, absolute=proxy is not None and not secure)
        context: ssl.SSLContext | bool = self._contexts.get(request.tls) if secure else True
        if request.method not in _IDEMPOTENT:
            await _let_closed_connections_go()
        self._in_flight += 1
        try:
            response = await self._send(request, message, proxy, context)
        except BaseException:
            self._in_flight -= 1
            raise
        return HttpResponse(response, settings.max_body_size, self._once_done())

    def _once_done(self) -> Callable[[], None]:
        pending = [True]

        def done() -> None:
            if pending:
                pending.clear()
                self._in_flight -= 1

        return done

    async def _send(
        self, request: HttpRequest, message: Message, proxy: Proxy | None, context: ssl.SSLContext | bool
    ) -> aiohttp.ClientResponse:
        async def exactly(
            aiohttp_request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            assert isinstance(aiohttp_request, ExactRequest)
            aiohttp_request.message = message
            try:
                return await handler(aiohttp_request)
            except Exception as e:
                raise _translated(e) from None  # also keeps aiohttp from repeating the request itself

        host = canonical_address(request.url.host) or request.url.host
        tunnelled = proxy is not None and request.url.scheme == "https"
        headers = {"Proxy-Authorization": proxy.authorization} if tunnelled and proxy and proxy.authorization else None
        try:
            return await self._session(proxied=proxy is not None).request(
                request.method,
                URL.build(scheme=request.url.scheme, host=host, port=request.url.port, path="/"),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=request.connect_timeout or None,
                    sock_connect=request.connect_timeout or None,
                    sock_read=request.read_timeout or None,
                ),
                ssl=context,
                proxy=URL(proxy.url) if proxy else None,
                proxy_headers=headers,
                middlewares=(exactly,),
            )
        except HttpError:
            raise
        except Exception as e:
            raise _translated(e) from None

    def _session(self, *, proxied: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(proxied)
        if session is None:
            # Addresses of proxies are the operator's choice: the policy is for targets, which are verified by name then.
            policy = EgressPolicy() if proxied else self.settings.egress
            session = self._sessions[proxied] = aiohttp.ClientSession(
                connector=_connector(policy),
                request_class=ExactRequest,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=_MAX_HEAD,
                max_field_size=_MAX_HEAD,
            )
        return session


def _prepared(
    method: str,
    url: str,
    params: Mapping[str, Any] | None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None,
    json: Any,
    data: Body | str | None,
    *,
    follow_redirects: bool,
) -> HttpRequest:
    pairs = [(name, None if value is None else str(value)) for name, value in (params or {}).items()]
    body, kind = (data.encode() if isinstance(data, str) else data), None
    if json is not None:
        body, kind = jsontext.dumpb(json), "application/json"
    return HttpRequest(
        method.upper(),
        encode_url(url, pairs),
        header_pairs(headers),
        body,
        entity_type=kind,
        connect_timeout=DEFAULT_TIMEOUT,
        read_timeout=DEFAULT_TIMEOUT,
        follow_redirects=follow_redirects,
    )


# ---- connections -----------------------------------------------------------------------------------------------------


def _connector(policy: EgressPolicy) -> aiohttp.TCPConnector:
    def guarded_socket(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        policy.check(str(address[0]), str(address[0]))
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(
        limit=0,  # how much may be under way is decided by permits, before a request is made
        keepalive_timeout=KEEP_ALIVE,
        resolver=_GuardedResolver(policy),
        socket_factory=guarded_socket if policy.enabled else None,
    )


class _GuardedResolver(AbstractResolver):
    """Refuses a name when one of its addresses may not be reached, at every resolution."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for entry in found:
            self._policy.check(host, entry["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()


async def _let_closed_connections_go() -> None:
    """Lets the loop see what arrived: a pooled connection that the server has closed is dropped then, and not used for a request
    that may not be repeated.
    """
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _pause(retry_after: str | None) -> float:
    if retry_after is None:
        return RETRY_PAUSE
    text = retry_after.strip()
    if text.isdecimal():
        return float(text)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return RETRY_PAUSE


# ---- errors ----------------------------------------------------------------------------------------------------------


def _translated(error: Exception) -> HttpError:
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, HttpError):
            return link
        if isinstance(link, AddressDenied):
            return EgressDenied(str(link))
        if isinstance(link, ssl.SSLError) and not isinstance(link, aiohttp.ClientError):  # some of aiohttp's are both
            return HttpTlsError(_tls_cause(link))
    if any(isinstance(link, TimeoutError) for link in chain):
        return HttpTimeout()
    if isinstance(error, aiohttp.ClientResponseError):  # includes proxies that refuse a tunnel
        return HttpProtocolError()
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.InvalidURL)):
        return HttpConnectionError()
    if isinstance(error, (aiohttp.ClientError, OSError)):
        return HttpConnectionError(established=True)
    return HttpProtocolError()


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    seen = 0
    while error is not None and seen < 10:
        yield error
        inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None)
        error = inner if isinstance(inner, BaseException) and inner is not error else error.__cause__
        seen += 1


def _tls_cause(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message or "certificate verify failed"
    return (error.reason or "handshake failure").replace("_", " ").lower()
