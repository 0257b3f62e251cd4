"""One HTTP session with the engine's REST API: credentials, time limits, bounded answers, and its errors as the port's.

Errors are problem details (RFC 9457), as Camunda's Orchestration Cluster REST API gives them.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import orjson
from yarl import URL

from gateway.engine import (
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
from gateway.engine.auth import Credentials
from gateway.jsontext import InvalidJson, loads

_CONNECT_TIMEOUT: Final = 5.0
_MAX_PROBLEM: Final = 64 * 1024
_MIN_ANSWER_LIMIT: Final = 64 * 1024 * 1024
# Shorter than the time after which servers close idle connections: a command on one just closed may have arrived.
_KEEP_ALIVE: Final = 15.0

_ERRORS: Final[dict[int, type[EngineError]]] = {
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    405: Unimplemented,
    409: FailedPrecondition,
    429: ResourceExhausted,
    501: Unimplemented,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}


class RestSession:
    """Requests to `address/v2/...`. Nothing is sent twice, no redirect is followed, no cookie kept.

    Made on the event loop. `request_timeout`: seconds for a request that sets none.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        *,
        request_timeout: float = 10.0,
        ssl: Any = True,
        max_connections: int = 100,
        max_message_size: int = 0,
        user_agent: str = "connector-gateway",
        physical_tenant_id: str | None = None,
    ) -> None:
        scheme = {"grpc": "http", "grpcs": "https"}.get(urlsplit(address).scheme, urlsplit(address).scheme)
        prefix = f"/physical-tenants/{quote(physical_tenant_id, safe='')}" if physical_tenant_id else ""
        self._base = f"{scheme}://{address.split('://', 1)[1].rstrip('/')}{prefix}/v2"
        self._credentials = credentials
        self.request_timeout: Final = request_timeout
        self._max_answer = max(max_message_size, _MIN_ANSWER_LIMIT)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=max_connections, ssl=ssl, keepalive_timeout=_KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json, application/problem+json", "User-Agent": user_agent},
        )

    async def close(self) -> None:
        await self._session.close()
        await self._credentials.close()

    async def json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | aiohttp.FormData | None = None,
        *,
        query: Mapping[str, str | None] | None = None,
        timeout: float | None = None,
        conflict: type[EngineError] = FailedPrecondition,
    ) -> Any:
        """The JSON of the answer, exact to the last digit; None when it has no content.

        `conflict`: what status 409 means here.
        """
        text = await self.text(method, path, body, query=query, timeout=timeout, conflict=conflict)
        if not text:
            return None
        try:
            return loads(text)
        except InvalidJson as e:
            raise EngineFailure(f"the answer to {method} {path} is not JSON: {e}") from None

    async def text(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | aiohttp.FormData | None = None,
        *,
        query: Mapping[str, str | None] | None = None,
        timeout: float | None = None,
        conflict: type[EngineError] = FailedPrecondition,
    ) -> str:
        """The answer as text; it is UTF-8 and no larger than the limit, else EngineFailure."""
        limit = self.request_timeout if timeout is None else timeout
        async with self.open(method, path, body, query=query, total=limit, conflict=conflict) as response:
            answer = await _read_at_most(response, self._max_answer + 1)
        if len(answer) > self._max_answer:
            raise EngineFailure(f"the answer to {method} {path} is larger than {self._max_answer} bytes")
        try:
            return answer.decode()
        except UnicodeDecodeError:
            raise EngineFailure(f"the answer to {method} {path} is not UTF-8") from None

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | aiohttp.FormData | None = None,
        *,
        query: Mapping[str, str | None] | None = None,
        total: float | None = None,
        between_reads: float | None = None,
        conflict: type[EngineError] = FailedPrecondition,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A good answer (2xx) with its body unread. The time limits are for all of it, or for each wait."""
        if self._session.closed:
            raise Unavailable("the connection to the engine is closed", may_have_arrived=False)
        wait = total or between_reads or self.request_timeout
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        authorization = await self._credentials.authorization(wait)
        if total is not None:
            total = max(total - (loop.time() - asked_at), 0.001)
        timeout = aiohttp.ClientTimeout(
            total=total, sock_connect=min(_CONNECT_TIMEOUT, wait * 0.9), sock_read=between_reads
        )
        headers = {} if authorization is None else {"Authorization": authorization}
        data: Any = body
        if isinstance(body, Mapping):
            headers["Content-Type"] = "application/json"
            data = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
        try:
            async with self._session.request(
                method, self._url(path, query), data=data, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                if not 200 <= response.status < 300:
                    raise await self._refusal(response, path, authorization, conflict)
                yield response
        except (aiohttp.ClientError, OSError) as e:  # TimeoutError is an OSError
            raise _broken(e, wait) from None

    def _url(self, path: str, query: Mapping[str, str | None] | None) -> URL:
        set_ones = {name: value for name, value in (query or {}).items() if value is not None}
        return URL(f"{self._base}{path}" + (f"?{urlencode(set_ones)}" if set_ones else ""), encoded=True)

    async def _refusal(
        self, response: aiohttp.ClientResponse, path: str, authorization: str | None, conflict: type[EngineError]
    ) -> EngineError:
        if response.status == 401:
            self._credentials.refused(authorization)
        return error_of_answer(response.status, await _read_at_most(response, _MAX_PROBLEM), path, conflict)


async def _read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    try:
        return await response.content.readexactly(limit)
    except asyncio.IncompleteReadError as e:
        return e.partial


def _broken(e: Exception, seconds: float) -> EngineError:
    if isinstance(e, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return Unavailable(str(e), may_have_arrived=False)
    if isinstance(e, TimeoutError):
        return DeadlineExceeded(f"no answer within {seconds:g} seconds")
    if isinstance(e, aiohttp.ClientResponseError):
        return EngineFailure(f"an answer that cannot be read: {e.message}")
    return Unavailable(str(e) or type(e).__name__)


def error_of_answer(
    status: int, body: bytes, path: str, conflict: type[EngineError] = FailedPrecondition
) -> EngineError:
    """The port's error for an HTTP status and its problem details.

    Two facts beyond the status: 404 without problem details, or for an endpoint, means that the cluster (or what stands
    before it) has no such path; and back-pressure comes as 503 with the title RESOURCE_EXHAUSTED.
    """
    problem = _problem(body)
    title, detail = str(problem.get("title") or ""), str(problem.get("detail") or "")
    text = ": ".join(part for part in (title, detail) if part) or f"HTTP status {status} for {path}"
    kind = _ERRORS.get(status)
    if status == 404 and (not problem or detail.startswith(("No endpoint", "No static resource"))):
        kind = Unimplemented
    elif status == 409:
        kind = conflict
    elif status == 503 and title == "RESOURCE_EXHAUSTED":
        kind = ResourceExhausted
    elif kind is None:
        kind = InvalidArgument if 400 <= status < 500 else EngineFailure
    return kind(text, may_have_arrived=status != 401)


def _problem(body: bytes) -> Mapping[str, Any]:
    try:
        problem = orjson.loads(body)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) and ("title" in problem or "detail" in problem) else {}
