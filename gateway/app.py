"""The composition root: the only module that sees all the others.

`run` is the service: a cluster, the connectors, the HTTP endpoints, until SIGTERM. `gateway.dev` builds the same runtime over the
embedded engine.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import TracebackType
from typing import Any, NoReturn, TypeVar

import structlog

from gateway import secrets
from gateway.admin import BrokerStreams, Health, NoInbound, Replicas, Sources, serve_all
from gateway.config import ConfigurationError, Settings
from gateway.documents import Documents, EngineStore
from gateway.engine import Engine, EngineError
from gateway.engine.cluster import connect
from gateway.event_flow import EventFlow, Shared, event_flow, path_scope
from gateway.http_client import EgressPolicy, HttpClient, HttpSettings
from gateway.inbound.discovery import check_tenants
from gateway.intrinsic import Intrinsics
from gateway.observe import Metrics, configure_logging
from gateway.outbound.handler import Environment
from gateway.outbound.runtime import Outbound, describe
from gateway.registry import Registered, RegisteredInbound, inbound_connectors, named_types, outbound_connectors
from gateway.watchdog import Watchdog

log = structlog.get_logger(__name__)

SECRET_PROVIDERS = "connector_gateway.secret_providers"  # noqa: S105 - the name of an entry point group
INTRINSIC_FUNCTIONS = "connector_gateway.intrinsic_functions"

_THREADS = "connector"  # how the threads of plain functions are named

_T = TypeVar("_T")

# Jobs and events make few cycles and many objects: with Python's own thresholds up to a fifth of the time goes into looking for some.
_GC_THRESHOLDS = (50_000, 20, 100)


@dataclass(slots=True)
class Runtime:
    """A gateway at work: what tests, `dev` and the endpoints look at."""

    settings: Settings
    engine: Engine
    connectors: Sequence[Registered | RegisteredInbound]
    outbound: Outbound
    inbound: EventFlow | None
    health: Health
    metrics: Metrics
    masker: secrets.Masker
    port: int = 0


def run(settings: Settings, *, connectors: Sequence[str] = ()) -> int:
    """`gateway run`: works until SIGTERM or SIGINT, then drains; the exit code. connectors: modules or files."""
    masker = secrets.Masker()
    mask_settings(settings, masker)
    metrics = Metrics(physical_tenant_id=settings.client.physical_tenant_id)
    configure_logging(settings, sys.stderr, mask=masker, count=metrics.logged)
    log_uncaught()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(_run(settings, connectors, masker, metrics))
        if left := runner.run(_left()):
            _leave(code, left)
    return code


def log_uncaught() -> None:
    """What Python itself would print, unmasked, goes to the log, which masks: errors that nobody caught, warnings."""

    def uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        log.error("an error that nobody caught", exc_info=(kind, error or RuntimeError(kind.__name__), trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            uncaught(args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = uncaught
    threading.excepthook = in_thread
    sys.unraisablehook = lambda args: uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    logging.captureWarnings(capture=True)


async def _run(settings: Settings, named: Sequence[str], masker: secrets.Masker, metrics: Metrics) -> int:
    stop = stop_signal()
    outbound, inbound = outbound_connectors(settings, named), inbound_connectors(settings, named)
    engine = await connect(settings.connection())
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        async with running(settings, engine, outbound, inbound, masker=masker, metrics=metrics) as runtime:
            _banner(runtime)
            await stop.wait()
            log.info("stopping: no more work is taken", grace_seconds=settings.gateway.shutdown.grace.total_seconds())
        log.info("stopped")
    finally:
        await engine.close()
    return 0


def run_loop(main: Coroutine[Any, Any, _T]) -> _T:
    """Runs a coroutine to its end, on uvloop where it exists."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _left() -> int:
    """How many handlers outlived the drain: tasks that swallow their cancellation, functions that hang in their threads."""
    own, until = asyncio.current_task(), time.monotonic() + 1.0
    tasks = {task for task in asyncio.all_tasks() if task is not own}
    for task in tasks:
        task.cancel()
    if tasks:
        _, tasks = await asyncio.wait(tasks, timeout=1.0)
    while (threads := _handler_threads()) and time.monotonic() < until:  # noqa: ASYNC110 - idle ones need a moment
        await asyncio.sleep(0.02)
    return len(tasks) + threads


def _handler_threads() -> int:
    return sum(thread.name.startswith(_THREADS) for thread in threading.enumerate())


def _leave(code: int, left: int) -> NoReturn:
    """Ends the process without waiting for what would never end."""
    log.warning("some handlers did not end, the process leaves without them", handlers=left)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; a second signal ends the process the hard way."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def once() -> None:
        stop.set()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, once)
    return stop


@asynccontextmanager
async def running(
    settings: Settings,
    engine: Engine,
    registered: Sequence[Registered],
    inbound: Sequence[RegisteredInbound] = (),
    *,
    masker: secrets.Masker,
    metrics: Metrics,
    providers: Sequence[secrets.SecretProvider] | None = None,
    host: str | None = None,
    http: HttpClient | None = None,
) -> AsyncIterator[Runtime]:
    """A runtime over an engine, drained when the block ends. providers, http: in place of those that the settings name."""
    health = Health()
    threads = ThreadPoolExecutor(settings.jobs.sync_threads, thread_name_prefix=_THREADS)
    async with http or HttpClient(_http_settings(settings)) as client:
        documents = Documents(EngineStore(engine), client.download)
        sources = secret_providers(settings) if providers is None else providers
        intrinsics = Intrinsics(documents, client, _plugins(INTRINSIC_FUNCTIONS))
        shared = Shared(engine, client, documents, secrets.Secrets(sources, masker), intrinsics, masker)
        outbound = _outbound(settings, registered, shared, threads, metrics)
        flow = None
        if settings.connector.polling.enabled:
            flow = event_flow(settings, inbound, shared, metrics, health)
            for source in sources:
                if (watch := getattr(source, "watch", None)) is not None:
                    watch(flow.supervisor.hasten)
        runtime = Runtime(settings, engine, [*registered, *inbound], outbound, flow, health, metrics, masker)
        async with _served(runtime, host) as port:
            runtime.port = port
            try:
                async with _at_work(runtime):
                    yield runtime
            finally:
                threads.shutdown(wait=False, cancel_futures=True)


@asynccontextmanager
async def _at_work(runtime: Runtime) -> AsyncIterator[None]:
    """Both flows at work while the block runs; then they are drained."""
    outbound, flow, health = runtime.outbound, runtime.inbound, runtime.health
    watchdog = Watchdog(lambda task: dict(describe(outbound)(task)))
    watchdog.start()
    await outbound.start()
    ready = _Readiness(health, "engine", *(["import"] if flow is not None else []))
    looks = [asyncio.create_task(_look_at_engine(runtime.engine, health, lambda: _reached(runtime, ready)))]
    if flow is not None:
        flow.supervisor.start()
        looks.append(asyncio.create_task(ready.after(flow.supervisor.ready, "import")))
    try:
        yield
    finally:
        health.stopping = True
        grace = runtime.settings.gateway.shutdown.grace.total_seconds()
        await asyncio.gather(outbound.drain(grace), *([flow.drain(grace)] if flow is not None else []))
        for look in looks:
            look.cancel()
        await asyncio.wait(looks)
        watchdog.stop()


def _outbound(
    settings: Settings,
    registered: Sequence[Registered],
    shared: Shared,
    threads: ThreadPoolExecutor,
    metrics: Metrics,
) -> Outbound:
    environment = Environment(
        http=shared.http,
        documents=shared.documents,
        secrets=shared.secrets,
        secret_filter=_secret_filter(settings, shared.engine),
        intrinsics=shared.intrinsics,
        threads=threads,
        now=time.monotonic,
    )
    return Outbound(
        shared.engine,
        registered,
        environment,
        worker_settings=lambda c: settings.worker(c.type, c.timeout_ms, input_variables=c.connector.input_variables),
        metrics=metrics,
        max_in_flight=settings.jobs.max_in_flight,
        max_run=settings.jobs.max_run_time.total_seconds(),
    )


@asynccontextmanager
async def _served(runtime: Runtime, host: str | None) -> AsyncIterator[int]:
    """The HTTP endpoints; a port that cannot be had is a matter of configuration."""
    async with AsyncExitStack() as stack:
        try:
            flow = runtime.inbound
            webhooks = flow.ingress.routes() if flow is not None and flow.ingress is not None else []
            port, _ = await stack.enter_async_context(
                serve_all(runtime.settings, _sources(runtime), webhooks, host=host)
            )
        except OSError as e:
            wanted = runtime.settings.server.port
            raise ConfigurationError(
                f"server.port: expected a free port, for example 8081, got {wanted}, which cannot be had: {e.strerror}"
            ) from None
        yield port


def _sources(runtime: Runtime) -> Sources:
    monitoring = runtime.settings.connector.broker.monitoring
    brokers = None
    if monitoring.enabled:
        brokers = BrokerStreams(topology=runtime.engine.topology, port=monitoring.port, addresses=monitoring.addresses)
    settings = runtime.settings
    replicas = None
    if (name := settings.connector.headless.serviceurl) is not None:
        replicas = Replicas(name, runtime_id=settings.runtime_id, port=settings.server.port)
    return Sources(
        health=runtime.health,
        metrics=runtime.metrics,
        runtime_id=settings.runtime_id,
        outbound=runtime.outbound,
        inbound=runtime.inbound.status if runtime.inbound is not None else NoInbound(),
        brokers=brokers,
        replicas=replicas,
        scoped_paths=path_scope(settings) is not None,
        mask=runtime.masker,
    )


class _Readiness:
    """Sets `health.ready` once all that must be known first is known."""

    def __init__(self, health: Health, *pending: str) -> None:
        self._health = health
        self._pending = set(pending)

    def done(self, name: str) -> None:
        self._pending.discard(name)
        if not self._pending:
            self._health.ready = True

    async def after(self, event: asyncio.Event, name: str) -> None:
        await event.wait()
        self.done(name)


async def _look_at_engine(engine: Engine, health: Health, reached: Callable[[], Awaitable[None]]) -> None:
    """Asks for the topology: often until the engine was reached for the first time, then every ten seconds."""
    told: bool | None = None
    known = False
    while True:
        try:
            topology = await engine.topology(timeout=5.0)
        except Exception as e:  # also an answer that nobody can read: the health has to go on
            health.set_topology(None)
            if told is not False:
                reason = str(e) if isinstance(e, EngineError) else f"{type(e).__name__}: {e}"
                log.warning("the engine cannot be reached, trying again", reason=reason)
                told = False
        else:
            health.set_topology(topology)
            if told is not True:
                log.info("the engine answers", version=topology.gateway_version, brokers=len(topology.brokers))
                told = True
            if not known:
                known = True
                await reached()
        await asyncio.sleep(10.0 if known else 0.2)


async def _reached(runtime: Runtime, ready: _Readiness) -> None:
    await _check_tenants(runtime)
    ready.done("engine")


async def _check_tenants(runtime: Runtime) -> None:
    """Tenants that are configured and do not exist are told at the start, where the engine says which there are."""
    wanted = runtime.settings.client.worker.defaults.tenant_ids
    with contextlib.suppress(EngineError):
        for warning in await check_tenants(runtime.engine, wanted):
            log.warning(warning)


# ---- parts -----------------------------------------------------------------------------------------------------------


def _http_settings(settings: Settings) -> HttpSettings:
    hosts = settings.connector.validation.hosts
    try:
        egress = EgressPolicy.of(
            enabled=hosts.enabled or settings.runs_in_saas,
            allow_ranges=hosts.allow_ranges,
            deny_ranges=hosts.deny_ranges,
            allow_private=hosts.unsafe_allow_private_ranges,
            allow_loopback=hosts.unsafe_allow_loopback,
        )
        return HttpSettings.from_environment(
            settings.environ, egress=egress, oauth_skew=settings.connector.oauth.cache.skew_buffer.total_seconds()
        )
    except ValueError as e:
        raise ConfigurationError(str(e)) from None


def secret_providers(settings: Settings) -> list[secrets.SecretProvider]:
    """The providers that the settings name: the environment and configuration keys, then plug-ins."""
    sources = settings.connector.secretprovider
    found: list[secrets.SecretProvider] = []
    if sources.environment.enabled:
        scope = sources.environment
        if not scope.prefix:
            log.warning("every environment variable is a secret: set a prefix for the environment's secrets")
        found.append(
            secrets.EnvironmentSecrets(
                _Properties(settings),
                prefix=scope.prefix,
                physical_tenant_aware=scope.physicaltenantaware,
                tenant_aware=scope.tenantaware,
                process_definition_aware=scope.processdefinitionaware,
            )
        )
    if sources.discovery.enabled:
        found += [provider() for provider in _plugins(SECRET_PROVIDERS).values()]
    return found


class _Properties:
    """Environment variables first, then any property of the configuration."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def get(self, name: str, /) -> str | None:
        value = self._settings.environ.get(name)
        return self._settings.property(name) if value is None else value


def mask_settings(settings: Settings, masker: secrets.Masker) -> None:
    """Teaches the log's masker the secrets of the configuration itself: credentials and all secrets of the environment."""
    prefix = settings.connector.secretprovider.environment.prefix
    for name, value in settings.environ.items():
        if (prefix and name.startswith(prefix)) or name.endswith(("PASSWORD", "CLIENTSECRET", "CLIENT_SECRET")):
            masker.add(value)
    auth = settings.client.auth
    assertion = auth.client_assertion
    for secret in (
        *(
            auth.password,
            auth.client_secret,
            auth.keystore_password,
            auth.keystore_key_password,
            auth.truststore_password,
        ),
        *(assertion.keystore_password, assertion.keystore_key_password),
    ):
        if secret is not None:
            masker.add(secret.get_secret_value())


def _secret_filter(settings: Settings, engine: Engine) -> secrets.SecretFilter:
    wanted = settings.connector.secret_resolver.secret_filter
    size = wanted.cache.max_size if wanted.cache.max_size > 0 else 1000
    return secrets.SecretFilter(
        engine.process_definition_xml, mode=wanted.mode, cache_size=size if wanted.cache.enabled else 0
    )


def _plugins(group: str) -> dict[str, Any]:
    return {entry_point.name: entry_point.load() for entry_point in entry_points(group=group)}


def _banner(runtime: Runtime) -> None:
    """What a person wants to know first: where it connects to, as whom, and what it works."""
    connection = runtime.settings.connection()
    for warning in runtime.settings.warnings:
        log.warning(warning)
    log.info(
        "gateway started",
        mode=connection.mode,
        engine=connection.rest_address if connection.prefer_rest_over_grpc else connection.grpc_address,
        rest=connection.rest_address,
        auth=connection.auth.method,
        port=runtime.port,
        types=named_types(runtime.connectors),
    )
    if not runtime.connectors:
        log.warning("no connector is registered: nothing will be worked here")
