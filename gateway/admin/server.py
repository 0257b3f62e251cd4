"""The servers: which ports are open, and what is served on them."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from gateway.admin.actuator import actuator_routes
from gateway.admin.application import application, json_answer
from gateway.admin.outbound import outbound_routes
from gateway.admin.sources import Sources

if TYPE_CHECKING:
    from gateway.config import Settings

log = structlog.get_logger(__name__)

_UNHEARD: Final = logging.getLogger("aiohttp.protocol")
_UNHEARD.disabled = True
"""For what aiohttp has to say of requests that are no HTTP: with the sender's bytes, and as an error of ours."""

_IDLE_SECONDS: Final = 75.0
"""For the head of a request to come, and between two requests: longer than the load balancers in front wait."""

_LINGERING_SECONDS: Final = 2.0
"""For a body that nobody read, after its answer: at once, the sender would lose the answer too."""


def status_routes(sources: Sources) -> list[web.AbstractRouteDef]:
    return outbound_routes(sources)


def _home(base: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """What a person gets who opens the port in a browser: where to look."""

    async def answer(request: web.Request) -> web.Response:
        return json_answer(
            {
                "name": "connector-gateway",
                "health": f"{base}/health",
                "metrics": f"{base}/prometheus",
                "connectors": "/outbound",
                "figures": "/outbound/metrics",
            }
        )

    return answer


@asynccontextmanager
async def serve(
    app: web.Application, host: str | None, port: int, *, name: str = "server", max_header_bytes: int = 64 * 1024
) -> AsyncIterator[int]:
    """Serves an application while the block runs, and gives the bound port (of use when `port` is 0).

    OSError when the port cannot be had.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_UNHEARD,
        max_line_size=max_header_bytes,
        max_field_size=max_header_bytes,
        shutdown_timeout=2.0,
        keepalive_timeout=_IDLE_SECONDS,
        lingering_time=_LINGERING_SECONDS,
        auto_decompress=False,  # signatures are over the bytes as they came, and a packed bomb stays packed
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = int(runner.addresses[0][1])
        log.info("listening", server=name, host=host or "*", port=bound)
        yield bound
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serve_all(
    settings: "Settings", sources: Sources, *more: Iterable[web.AbstractRouteDef], host: str | None = None
) -> AsyncIterator[tuple[int, int]]:
    """The servers that the settings ask for: one, or a second for the actuator where `management.server.port` says so.

    `more` are further routes of the first. Gives both ports.
    """
    status, actuator = status_routes(sources), actuator_routes(sources, settings)
    base = settings.management.server.base_path.strip("/")
    if base:  # else the actuator itself answers there
        status.append(web.get("/", _home(f"/{base}")))
    limit = settings.server.max_http_request_header_size
    port, own = settings.server.port, settings.management.server.port
    if own is None or (own == port and port):
        async with serve(application(actuator, status, *more), host, port, max_header_bytes=limit) as bound:
            yield bound, bound
        return
    async with (
        serve(application(status, *more), host, port, max_header_bytes=limit) as bound,
        serve(application(actuator), host, own, name="management", max_header_bytes=limit) as management,
    ):
        yield bound, management
