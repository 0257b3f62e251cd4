"""The servers: which ports are open, and what is served on them."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from gateway.admin.actuator import actuator_routes
from gateway.admin.application import application, json_answer
from gateway.admin.connections import Connections, ServerLimits
from gateway.admin.inbound import inbound_routes
from gateway.admin.outbound import outbound_routes
from gateway.admin.sources import Sources
from gateway.observe import Metrics

if TYPE_CHECKING:
    from gateway.config import Settings

log = structlog.get_logger(__name__)

_UNHEARD: Final = logging.getLogger("aiohttp.protocol")
_UNHEARD.disabled = True
"""For what aiohttp has to say of requests that are no HTTP: with the sender's bytes, and as an error of ours."""

_BACKLOG: Final = 1024

_LINGERING_SECONDS: Final = 2.0
"""For a body that nobody read, after its answer: at once, the sender would lose the answer too."""


def status_routes(sources: Sources) -> list[web.AbstractRouteDef]:
    """`/outbound` and `/inbound...`."""
    return [*outbound_routes(sources), *inbound_routes(sources)]


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
                "inboundConnectors": "/inbound-instances",
                "inboundFigures": "/inbound-instances/metrics",
            }
        )

    return answer


@asynccontextmanager
async def serve(
    app: web.Application,
    host: str | None,
    port: int,
    *,
    name: str = "server",
    limits: ServerLimits | None = None,
    metrics: Metrics | None = None,
) -> AsyncIterator[int]:
    """Serves an application while the block runs, and gives the bound port (of use when `port` is 0).

    metrics: where the figures of its connections are shown, under its name. OSError when the port cannot be had.
    """
    runner = web.AppRunner(app, access_log=None)  # for the application's own start and end; the connections are ours
    await runner.setup()
    assert runner.server is not None
    connections = Connections(
        runner.server.request_handler,
        limits or ServerLimits(),
        request_factory=runner.server.request_factory,
        access_log=None,
        logger=_UNHEARD,
        lingering_time=_LINGERING_SECONDS,
        auto_decompress=False,  # signatures are over the bytes as they came, and a packed bomb stays packed
    )
    door = web.ServerRunner(connections, shutdown_timeout=2.0)
    await door.setup()
    unwatch = metrics.watch_server(name, connections.statistics) if metrics is not None else None
    try:
        await web.TCPSite(door, host, port, backlog=_BACKLOG).start()
        connections.watch()
        bound = int(door.addresses[0][1])
        log.info("listening", server=name, host=host or "*", port=bound)
        yield bound
    finally:
        connections.stop()
        await door.cleanup()
        await runner.cleanup()
        if unwatch is not None:
            unwatch()


@asynccontextmanager
async def serve_all(
    settings: "Settings",
    sources: Sources,
    *more: Iterable[web.AbstractRouteDef],
    host: str | None = None,
    limits: ServerLimits | None = None,
) -> AsyncIterator[tuple[int, int]]:
    """The servers that the settings ask for: one, or a second for the actuator where `management.server.port` says so.

    `more` are further routes of the first. limits: of each server; the size of heads is the settings'. Gives both ports.
    """
    status, actuator = status_routes(sources), actuator_routes(sources, settings)
    base = settings.management.server.base_path.strip("/")
    if base:  # else the actuator itself answers there
        status.append(web.get("/", _home(f"/{base}")))
    limits = replace(limits or ServerLimits(), max_head_bytes=settings.server.max_http_request_header_size)
    port, own = settings.server.port, settings.management.server.port
    metrics = sources.metrics
    if own is None or (own == port and port):
        app = application(actuator, status, *more)
        _count_webhooks(app, metrics)
        async with serve(app, host, port, limits=limits, metrics=metrics) as bound:
            yield bound, bound
        return
    app = application(status, *more)
    _count_webhooks(app, metrics)
    async with (
        serve(app, host, port, limits=limits, metrics=metrics) as bound,
        serve(application(actuator), host, own, name="management", limits=limits, metrics=metrics) as management,
    ):
        yield bound, management


def _count_webhooks(app: web.Application, metrics: Metrics) -> None:
    async def count(request: web.Request, response: web.StreamResponse) -> None:
        if request.path.startswith("/inbound/"):
            metrics.webhook_answered(response.status)

    app.on_response_prepare.append(count)
