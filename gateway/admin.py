"""What the gateway says of itself over HTTP: health, metrics, log levels, and the state of the outbound connectors.

The paths, shapes and texts are those of the connector runtime and of Spring Boot's actuator ("Production-ready Features" in Spring
Boot's reference), with two differences that keep a gateway from being restarted for its engine's absence: liveness says that the
event loop answers; readiness stays once it was reached, until the process is told to stop. The engine's absence shows in
`/actuator/health`.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import aiohttp
import structlog
from aiohttp import web

from gateway.engine import EngineError, Topology
from gateway.observe import LEVELS, Metrics, logger_levels, python_loggers, set_level

if TYPE_CHECKING:
    from gateway.config import Settings

log = structlog.get_logger(__name__)

MAX_BODY: Final = 64 * 1024
_BODY_SECONDS: Final = 10.0
_MIN_FREE_DISK: Final = 10 * 1024**2

_UNHEARD: Final = logging.getLogger("aiohttp.protocol")
_UNHEARD.disabled = True
"""For what aiohttp has to say of requests that are no HTTP: with the sender's bytes, and as an error of ours."""

Connectivity = Literal["UNKNOWN", "NONE", "PARTIALLY_CONNECTED", "ALL_CONNECTED"]


# ---- health ------------------------------------------------------------------------------------------------------------


class Health:
    """What is known of the parts of the process. Written by those who know, read by the endpoints.

    `ready` is set once, when the engine was reached and what must be imported first is imported; `stopping` from SIGTERM on.
    """

    def __init__(self) -> None:
        self._parts: dict[str, tuple[bool, dict[str, Any]]] = {"zeebeClient": (False, {})}
        self.ready = False
        self.stopping = False

    def set(self, name: str, up: bool, details: Mapping[str, Any] | None = None) -> None:
        """States of one part (`zeebeClient`, `processDefinitionImport`, ...) whether it works, and what else is to tell."""
        self._parts[name] = (up, dict(details or {}))

    def set_topology(self, topology: Topology | None) -> None:
        """The engine's part, from its topology: up with at least one broker and one healthy partition; None: no answer."""
        brokers = topology.brokers if topology else ()
        healthy = any(partition.healthy for broker in brokers for partition in broker.partitions)
        details = {"numBrokers": len(brokers), "anyPartitionHealthy": healthy} if topology else {}
        self.set("zeebeClient", bool(brokers) and healthy, details)

    def report(self, group: str | None = None) -> tuple[int, dict[str, Any]] | None:
        """HTTP status and body of a group (None: all parts) or of one part; None when there is no such thing."""
        if group == "liveness":
            return _report({"livenessState": "UP"})
        if group == "readiness":
            state = "OUT_OF_SERVICE" if self.stopping else "UP" if self.ready else "DOWN"
            return _report({"readinessState": state})
        if group == "startup":
            return _report({"startupCheck": "UP" if self.ready else "DOWN"})
        parts = {name: _part(up, details) for name, (up, details) in self._parts.items()}
        parts |= {"startupCheck": _part(self.ready, {}), "ping": _part(True, {}), "diskSpace": _disk()}
        if group is None:
            up = all(part["status"] == "UP" for part in parts.values())
            body = {
                "status": "UP" if up else "DOWN",
                "components": parts,
                "groups": ["liveness", "readiness", "startup"],
            }
            return (200 if up else 503), body
        if group not in parts:
            return None
        return (200 if parts[group]["status"] == "UP" else 503), parts[group]


def _report(states: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    (status,) = states.values()
    components = {name: {"status": state} for name, state in states.items()}
    return (200 if status == "UP" else 503), {"status": status, "components": components}


def _part(up: bool, details: dict[str, Any]) -> dict[str, Any]:
    return {"status": "UP" if up else "DOWN", **({"details": details} if details else {})}


def _disk() -> dict[str, Any]:
    try:
        found = os.statvfs(".")
    except (OSError, AttributeError):  # no such call on Windows; a folder that is gone says nothing of the disk
        return _part(True, {})
    free = found.f_bavail * found.f_frsize
    details = {"total": found.f_blocks * found.f_frsize, "free": free, "threshold": _MIN_FREE_DISK}
    return _part(free >= _MIN_FREE_DISK, details)


# ---- outbound connectors -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutboundEntry:
    """One registered outbound connector. `timeout_ms` is None where the worker's default counts."""

    name: str
    type: str
    input_variables: tuple[str, ...] = ()
    timeout_ms: int | None = None
    enabled: bool = True
    statistics: Mapping[str, float] = field(default_factory=dict)


class OutboundStatus(Protocol):
    """The job flow, as the status API sees it."""

    def entries(self) -> Sequence[OutboundEntry]:
        """All registered connectors, disabled ones too. Must not block."""


class NoOutbound:
    """No outbound connectors."""

    def entries(self) -> Sequence[OutboundEntry]:
        return ()


class BrokerStreams:
    """Asks the brokers, on demand, which job streams they know (`/actuator/jobstreams`).

    `topology` is asked where no addresses are configured. Answers are kept for some seconds, so that reading the status API often
    doesn't load the cluster.
    """

    def __init__(
        self,
        *,
        topology: Callable[[], Awaitable[Topology]],
        port: int = 9600,
        addresses: Sequence[str] = (),
        timeout: float = 2.0,
        keep_seconds: float = 5.0,
    ) -> None:
        self._topology = topology
        self._port = port
        self._addresses = tuple(addresses)
        self._timeout = timeout
        self._keep_seconds = keep_seconds
        self._lock = asyncio.Lock()
        self._known: list[dict[tuple[str, str], list[str]] | None] = []
        self._until = 0.0

    async def connectivity(self, entries: Iterable[OutboundEntry]) -> list[tuple[Connectivity, list[str]]]:
        """For each connector: how many brokers have a stream of its worker, and the streams' ids."""
        brokers = await self._brokers()
        return [self._judge(brokers, entry) for entry in entries]

    @staticmethod
    def _judge(
        brokers: list[dict[tuple[str, str], list[str]] | None], entry: OutboundEntry
    ) -> tuple[Connectivity, list[str]]:
        answers = [broker.get((entry.type, entry.name), []) for broker in brokers if broker is not None]
        ids = sorted({stream for streams in answers for stream in streams})
        connected = sum(bool(streams) for streams in answers)
        if not answers or (not connected and len(answers) < len(brokers)):
            return "UNKNOWN", ids
        if not connected:
            return "NONE", ids
        return ("ALL_CONNECTED" if connected == len(brokers) else "PARTIALLY_CONNECTED"), ids

    async def _brokers(self) -> list[dict[tuple[str, str], list[str]] | None]:
        loop = asyncio.get_running_loop()
        async with self._lock:  # one question for all who ask at the same time
            if loop.time() >= self._until:
                self._known = await self._ask()
                self._until = loop.time() + self._keep_seconds
            return self._known

    async def _ask(self) -> list[dict[tuple[str, str], list[str]] | None]:
        try:
            addresses = self._addresses or [
                f"http://{broker.host}:{self._port}"
                for broker in (await asyncio.wait_for(self._topology(), self._timeout)).brokers
            ]
        except (EngineError, TimeoutError):
            return []
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            return await asyncio.gather(*(self._streams(session, address) for address in addresses))

    @staticmethod
    async def _streams(session: aiohttp.ClientSession, address: str) -> dict[tuple[str, str], list[str]] | None:
        """The ids of the streams that a broker knows, by job type and worker; None when it gives no good answer."""
        found: dict[tuple[str, str], list[str]] = {}
        try:
            async with session.get(f"{address.rstrip('/')}/actuator/jobstreams", allow_redirects=False) as reply:
                if reply.status != 200:
                    return None
                body = b"".join([chunk async for chunk in _bounded(reply.content)])
                for stream in json.loads(body)["remote"]:
                    key = (str(stream["jobType"]), str(stream["metadata"]["worker"]))
                    found.setdefault(key, []).extend(str(consumer["id"]) for consumer in stream["consumers"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            return None
        return found


async def _bounded(content: aiohttp.StreamReader, limit: int = 4 * 1024**2) -> AsyncIterator[bytes]:
    """The chunks of a body. ValueError when there are more bytes than a list of streams can have."""
    async for chunk in content.iter_chunked(64 * 1024):
        limit -= len(chunk)
        if limit < 0:
            raise ValueError("too long")
        yield chunk


# ---- endpoints -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the endpoints read from."""

    health: Health
    metrics: Metrics
    runtime_id: str
    outbound: OutboundStatus = field(default_factory=NoOutbound)
    brokers: BrokerStreams | None = None
    """None: the brokers are not asked (`camunda.connector.broker.monitoring.enabled` is false)."""


def _json(body: Any, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(
        body=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"), status=status, content_type=content_type
    )


def problem(status: int, title: str, detail: str = "", headers: Mapping[str, str] | None = None) -> web.Response:
    """An error as `application/problem+json` (RFC 9457)."""
    body = {"type": "about:blank", "title": title, "status": status, **({"detail": detail} if detail else {})}
    response = _json(body, status, "application/problem+json")
    response.headers.update(headers or {})
    return response


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        detail = f"{request.method} {request.path[:200]}" if error.status in {404, 405} else ""
        return problem(error.status, error.reason, detail, allow)
    except Exception:
        log.exception("request failed", method=request.method, path=request.path[:200])
        return problem(500, "Internal Server Error", "An unexpected error occurred")


class _Status:
    """`/outbound`."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/outbound", self.all),
            web.get("/outbound/metrics", self.metrics),
            web.get("/outbound/metrics/{type:.+}", self.metrics),
            web.get("/outbound/{type:.+}", self.one),
        ]

    async def all(self, request: web.Request) -> web.Response:
        return _json(await self._described(self._sources.outbound.entries()))

    async def one(self, request: web.Request) -> web.Response:
        wanted = request.match_info["type"]
        found = [entry for entry in self._sources.outbound.entries() if entry.type == wanted]
        return _json(await self._described(found)) if found else self._missing(wanted)

    async def metrics(self, request: web.Request) -> web.Response:
        wanted = request.match_info.get("type")
        if wanted is not None and not any(entry.type == wanted for entry in self._sources.outbound.entries()):
            return self._missing(wanted)
        totals = self._sources.metrics.totals(wanted)
        job: dict[str, Any] = {"completed": totals.completed, "failed": totals.failed, "bpmnError": totals.bpmn_error}
        if totals.completed + totals.failed + totals.bpmn_error:
            job["executionTime"] = {"meanMs": totals.mean_ms, "maxMs": totals.max_ms}
        if totals.last_completed:
            job["lastCompleted"] = totals.last_completed
        if totals.last_failed:
            job["lastFailed"] = totals.last_failed
        worker = {
            "jobsActivated": totals.jobs_activated,
            "jobsHandled": totals.jobs_handled,
            "streamRecreations": totals.stream_recreations,
        }
        runtime = {"uptimeSeconds": int(self._sources.metrics.uptime_seconds)}
        return _json([{"runtimeId": self._sources.runtime_id, "runtime": runtime, "job": job, "worker": worker}])

    @staticmethod
    def _missing(wanted: str) -> web.Response:
        text = f"Data of type 'OutboundConnectorResponse' with id '{wanted[:200]}' not found"
        return web.Response(
            body=text.encode("utf-8", "replace"), status=404, content_type="text/plain", charset="utf-8"
        )

    async def _described(self, entries: Sequence[OutboundEntry]) -> list[dict[str, Any]]:
        brokers = self._sources.brokers
        unknown: list[tuple[Connectivity, list[str]]] = [("UNKNOWN", [])] * len(entries)
        states = await brokers.connectivity(entries) if brokers is not None else unknown
        return [
            {
                "name": entry.name,
                "type": entry.type,
                "inputVariables": list(entry.input_variables),
                **({"timeout": entry.timeout_ms} if entry.timeout_ms is not None else {}),
                "enabled": entry.enabled,
                "runtimeId": self._sources.runtime_id,
                "brokerConnectivityState": state,
                **({"streamIds": ids} if ids else {}),
                "statistics": dict(entry.statistics),
            }
            for entry, (state, ids) in zip(entries, states, strict=True)
        ]


class _Actuator:
    """`/actuator`, or what `management.server.base-path` makes of it; `exposed` names its endpoints, `*` means all."""

    def __init__(self, sources: Sources, base_path: str, exposed: Sequence[str]) -> None:
        self._sources = sources
        self._base = "/" + base_path.strip("/") if base_path.strip("/") else ""
        self._exposed = exposed

    def routes(self) -> list[web.AbstractRouteDef]:
        every: dict[str, list[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]]] = {
            "health": [("GET", "", self.health), ("GET", "/{name}", self.health)],
            "prometheus": [("GET", "", self.prometheus)],
            "metrics": [("GET", "", self.metrics), ("GET", "/{name}", self.metric)],
            "loggers": [
                ("GET", "", self.loggers),
                ("GET", "/{name}", self.logger),
                ("POST", "/{name}", self.set_logger),
            ],
        }
        self._names = [name for name in every if "*" in self._exposed or name in self._exposed]
        routes: list[web.AbstractRouteDef] = [web.get(self._base or "/", self.index)]
        for name in self._names:
            for method, tail, handler in every[name]:
                routes.append(web.route(method, f"{self._base}/{name}{tail}", handler))
        return routes

    async def index(self, request: web.Request) -> web.Response:
        root = f"{request.scheme}://{request.host}{self._base}"
        links = {"self": {"href": root, "templated": False}}
        links |= {name: {"href": f"{root}/{name}", "templated": False} for name in self._names}
        return _json({"_links": links})

    async def health(self, request: web.Request) -> web.Response:
        found = self._sources.health.report(request.match_info.get("name"))
        if found is None:
            raise web.HTTPNotFound
        return _json(found[1], found[0])

    async def prometheus(self, request: web.Request) -> web.Response:
        body, content_type = self._sources.metrics.scrape(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def metrics(self, request: web.Request) -> web.Response:
        return _json({"names": sorted(family.name.replace("_", ".") for family in self._sources.metrics.families())})

    async def metric(self, request: web.Request) -> web.Response:
        """The sums over all series of one meter; `?tag=type:x` narrows it down."""
        wanted = request.match_info["name"].replace("_", ".").replace("-", ".")
        families = [family for family in self._sources.metrics.families() if family.name.replace("_", ".") == wanted]
        if not families:
            raise web.HTTPNotFound
        tags = [tag.split(":", 1) for tag in request.query.getall("tag", []) if ":" in tag]
        samples = [s for s in families[0].samples if all(s.labels.get(name) == value for name, value in tags)]
        sums: dict[str, float] = {}
        values: dict[str, set[str]] = {}
        for sample in samples:
            statistic = sample.name.removeprefix(families[0].name).strip("_").upper() or "VALUE"
            sums[statistic] = sums.get(statistic, 0.0) + sample.value
            for name, value in sample.labels.items():
                values.setdefault(name, set()).add(value)
        return _json(
            {
                "name": request.match_info["name"],
                "description": families[0].documentation,
                "measurements": [{"statistic": name, "value": value} for name, value in sums.items()],
                "availableTags": [{"tag": name, "values": sorted(found)} for name, found in values.items()],
            }
        )

    async def loggers(self, request: web.Request) -> web.Response:
        levels = {name: _level(*found) for name, found in logger_levels().items()}
        return _json({"levels": [name.upper() for name in LEVELS], "loggers": levels})

    async def logger(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        known = logger_levels()
        ours = next((logger or "ROOT" for logger in python_loggers(name) if (logger or "ROOT") in known), None)
        if ours is None:
            raise web.HTTPNotFound
        return _json(_level(*known[ours]))

    async def set_logger(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = json.loads(await request.read() or b"{}")
        except TimeoutError:
            return problem(408, "Request Timeout")
        except (ValueError, RecursionError):
            return problem(400, "Bad Request", 'expected a JSON object, for example {"configuredLevel": "DEBUG"}')
        level = body.get("configuredLevel") if isinstance(body, dict) else ()
        if level is not None and not isinstance(level, str):
            return problem(400, "Bad Request", "configuredLevel: expected the name of a level, or null")
        try:
            set_level(request.match_info["name"][:200], level)
        except ValueError as error:
            return problem(400, "Bad Request", str(error))
        return web.Response(status=204)


def _level(configured: str | None, effective: str) -> dict[str, str]:
    return {**({"configuredLevel": configured} if configured else {}), "effectiveLevel": effective}


# ---- servers -------------------------------------------------------------------------------------------------------------


def status_routes(sources: Sources) -> list[web.AbstractRouteDef]:
    return _Status(sources).routes()


def _home(base: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """What a person gets who opens the port in a browser: where to look."""

    async def answer(request: web.Request) -> web.Response:
        return _json(
            {
                "name": "connector-gateway",
                "health": f"{base}/health",
                "metrics": f"{base}/prometheus",
                "connectors": "/outbound",
                "figures": "/outbound/metrics",
            }
        )

    return answer


def actuator_routes(sources: Sources, settings: "Settings") -> list[web.AbstractRouteDef]:
    management = settings.management
    return _Actuator(sources, management.server.base_path, management.endpoints.web.exposure.include).routes()


def application(*tables: Iterable[web.AbstractRouteDef]) -> web.Application:
    """One application of some routes: bodies are bounded, errors are problems, nothing of the inside shows.

    What no route takes is taken by routes of our own: aiohttp's answer an `Expect` header that is no ASCII with a 500.
    """
    app = web.Application(middlewares=[_errors], client_max_size=MAX_BODY)
    app.on_response_prepare.append(_no_server_name)
    methods: dict[str, set[str]] = {}
    for route in (route for routes in tables for route in routes):
        if isinstance(route, web.RouteDef):
            methods.setdefault(route.path, set()).update({"GET", "HEAD"} if route.method == "GET" else {route.method})
            route = web.RouteDef(route.method, route.path, route.handler, {**route.kwargs, "expect_handler": _expect})
        app.add_routes([route])
    for path, allowed in methods.items():
        if "*" not in allowed:
            app.add_routes([web.route("*", path, _not_allowed(allowed), expect_handler=_expect)])
    if "/{rest:.*}" not in methods:
        app.add_routes([web.route("*", "/{rest:.*}", _not_found, expect_handler=_expect)])
    return app


async def _not_found(request: web.Request) -> web.Response:
    raise web.HTTPNotFound


def _not_allowed(allowed: Iterable[str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def refuse(request: web.Request) -> web.Response:
        raise web.HTTPMethodNotAllowed(request.method, sorted(allowed))

    return refuse


async def _expect(request: web.Request) -> web.Response | None:
    if request.headers.get("Expect", "").lower() != "100-continue":
        return problem(417, "Expectation Failed")
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


async def _no_server_name(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "gateway"


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
