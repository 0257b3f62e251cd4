"""The other replicas of the gateway: a request to one is repeated at all, and their answers become one.

The original's rules: the DNS name of a headless service names the replicas; a request that one has forwarded, which the header
`X-Camunda-Forwarded-For` says, is answered locally; answers with an error status count for nothing ("Multiple replicas" in Camunda's
docs for self-managed connectors). This replica answers for itself, whether the name includes it or not.
"""

import asyncio
import json
import socket
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp import web
from yarl import URL

log = structlog.get_logger(__name__)

FORWARDED: Final = "X-Camunda-Forwarded-For"
_INSTANCE: Final = "X-Gateway-Instance"
_NOT_FORWARDED: Final = frozenset(
    {
        *("connection", "content-length", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *(
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "accept-encoding",
            "sec-fetch-site",
            _INSTANCE.lower(),
            "origin",
        ),
    }
)
_MAX_REPLICAS: Final = 100
_MAX_ANSWER: Final = 32 * 1024**2

_T = TypeVar("_T")

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a name. Raises OSError."""


class Replicas:
    """Asks the replicas behind a name.

    name: a DNS name, or a URL of which host and port count; runtime_id: how this one calls itself; port: of theirs; timeout: seconds
    for all together.
    """

    def __init__(
        self,
        name: str,
        *,
        runtime_id: str,
        port: int,
        timeout: float = 3.0,
        resolve: Resolve | None = None,
    ) -> None:
        parts = urlsplit(name if "://" in name else f"//{name}")
        self._name = parts.hostname or name
        self._scheme = parts.scheme or "http"
        self._port = parts.port or port
        self._runtime_id = runtime_id
        self._timeout = timeout
        self._resolve = resolve or _addresses
        self._instance = uuid.uuid4().hex

    async def ask(self, request: web.Request) -> list[Any]:
        """The JSON that the other replicas answer to the same request; nothing for those that don't within the time."""
        try:
            async with asyncio.timeout(self._timeout):
                addresses = list(dict.fromkeys(await self._resolve(self._name)))[:_MAX_REPLICAS]
        except (OSError, TimeoutError) as e:
            log.warning("the other replicas cannot be found", name=self._name, reason=str(e) or type(e).__name__)
            return []
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED}
        headers |= {FORWARDED: self._runtime_id, _INSTANCE: self._instance}
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            answers = await asyncio.gather(*(self._one(session, request, address) for address in addresses))
        return [answer for answer in answers if answer is not None]

    def address(self, address: str) -> str:
        """The root of the URLs of a replica at an IP address."""
        host = f"[{address}]" if ":" in address else address
        return f"{self._scheme}://{host}:{self._port}"

    async def _one(self, session: aiohttp.ClientSession, request: web.Request, address: str) -> Any:
        url = URL(f"{self.address(address)}{request.raw_path}", encoded=True)
        method = "GET" if request.method == "HEAD" else request.method
        try:
            async with session.request(method, url, allow_redirects=False) as reply:
                if reply.status >= 300:
                    if reply.status not in {404, 421}:
                        log.info("a replica gives no answer", address=address, status=reply.status)
                    return None
                body = bytearray()
                async for chunk in reply.content.iter_any():
                    body += chunk
                    if len(body) > _MAX_ANSWER:
                        raise ValueError("too long")
                return json.loads(body)
        except (aiohttp.ClientError, OSError, ValueError, RecursionError) as e:
            log.info("a replica gives no answer", address=address, reason=type(e).__name__)
            return None

    def asks(self, request: web.Request) -> bool:
        """Whether a request is one to repeat. HTTPMisdirectedRequest when it comes from here, because the name includes this one."""
        if request.headers.get(_INSTANCE) == self._instance:
            raise web.HTTPMisdirectedRequest
        return FORWARDED not in request.headers


async def _addresses(name: str) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


# ---- one answer out of several ---------------------------------------------------------------------------------------

_RANK: Final = {"DOWN": 0, "UNKNOWN": 1}


async def everywhere(
    replicas: Replicas | None,
    request: web.Request,
    local: Callable[[], Awaitable[_T | None]],
    merge: Callable[[_T | None, Any], _T],
) -> _T | None:
    """What all replicas answer, merged one after the other into the local answer; None: what was asked for is nowhere.

    merge: raises KeyError, TypeError, AttributeError or ValueError for what is no answer; that replica counts for nothing then.
    """
    if replicas is None or not replicas.asks(request):
        return await local()
    merged: _T | None
    merged, others = await asyncio.gather(local(), replicas.ask(request))
    for other in others:
        try:
            merged = merge(merged, other)
        except (KeyError, TypeError, AttributeError, ValueError):
            log.warning("a replica answers with something else", path=request.path[:200])
    return merged


def concatenated(found: list[Any] | None, other: Any) -> list[Any]:
    """Lists, one after the other."""
    if not isinstance(other, list):
        raise TypeError("expected a list")
    return [*(found or ()), *other]


def more_serious(found: dict[str, Any] | None, other: Any) -> dict[str, Any]:
    """Of an executable at two replicas, the one that fares worse."""
    rank = _rank(other)
    other["executableId"]
    return found if found is not None and _rank(found) <= rank else other


def _rank(executable: Any) -> int:
    return _RANK.get(executable["health"]["status"], 2)


def grouped(found: list[dict[str, Any]] | None, other: Any) -> list[dict[str, Any]]:
    """The executables by connector type of two replicas; each executable once."""
    groups = {group["connectorId"]: group for group in found or ()}
    for group in concatenated(None, other):
        known = groups.get(group["connectorId"])
        groups[group["connectorId"]] = one_group(known, group)
    return [groups[key] for key in sorted(groups)]


def one_group(found: dict[str, Any] | None, other: Any) -> dict[str, Any]:
    """The executables of one type of two replicas."""
    instances = {each["executableId"]: each for each in (found or {"instances": ()})["instances"]}
    for each in concatenated(None, other["instances"]):
        instances[each["executableId"]] = more_serious(instances.get(each["executableId"]), each)
    return {**(found or other), "instances": list(instances.values())}
