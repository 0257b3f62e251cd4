"""Logs and metrics: how they are set up, and the fixed names of what is measured.

Logs: structlog in front of the standard library, so that one handler formats, masks and counts what the gateway, grpc, aiohttp
and asyncio write. A logger's level is asked before anything is formatted.

Metrics: plain counters that the flows add to (one thread, no locks, no label look-up per call), read by a collector of
prometheus-client at scrape time. Names and tags are those of the connector runtime ("Metrics" in Camunda's docs for
self-managed connectors) in Prometheus spelling; those of our own begin with `gateway_`.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from gateway.config import Settings

Mask = Callable[[str], str]

# ---- levels ----------------------------------------------------------------------------------------------------------

TRACE: Final = 5
_OFF: Final = 60
LEVELS: Final[Mapping[str, int]] = {
    "off": _OFF,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_METHODS: Final = {"warning": logging.WARNING, "critical": logging.CRITICAL, "exception": logging.ERROR, **LEVELS}
_JAVA_LOGGERS: Final = (
    ("io.camunda.connector.runtime", ("gateway",)),
    ("io.camunda.client", ("gateway.engine",)),
    ("io.camunda.zeebe", ("gateway.engine",)),
    ("io.camunda", ("gateway", "connectors")),
    ("io.grpc", ("grpc",)),
)
_MAX_LOGGERS: Final = 1000


def level_name(level: int) -> str:
    """The nearest of Spring's names: `TRACE` to `FATAL`, or `OFF`."""
    return next((name for name, number in LEVELS.items() if level >= number), "trace").upper()


def python_loggers(name: str) -> tuple[str, ...]:
    """The loggers here that a logger of the Java runtime stands for; every other name stands for itself."""
    if name.upper() == "ROOT":
        return ("",)
    return next((ours for java, ours in _JAVA_LOGGERS if name == java or name.startswith(f"{java}.")), (name,))


def set_level(name: str, level: str | None) -> None:
    """Sets a logger's level, also while running; None: as the logger above it. ValueError when there is no such level."""
    if level is not None and level.lower() not in LEVELS:
        raise ValueError(f"level: expected one of {', '.join(LEVELS)}, got {level[:20]!r}")
    known = logging.root.manager.loggerDict
    if name not in known and name.upper() != "ROOT" and len(known) >= _MAX_LOGGERS:
        raise ValueError(f"{name[:100]}: there is no such logger, and too many exist already")
    for logger in python_loggers(name):
        fallback = logging.INFO if not logger else logging.NOTSET
        logging.getLogger(logger).setLevel(fallback if level is None else LEVELS[level.lower()])


def logger_levels() -> dict[str, tuple[str | None, str]]:
    """Each logger's configured level (None: none of its own) and the one in effect; the root is `ROOT`."""
    names = sorted(logging.root.manager.loggerDict)  # with those that only have loggers below them
    return {
        name: (
            level_name(logger.level) if logger.level or logger is logging.root else None,
            level_name(logger.getEffectiveLevel()),
        )
        for name, logger in (("ROOT", logging.root), *((name, logging.getLogger(name)) for name in names))
    }


# ---- logging -----------------------------------------------------------------------------------------------------------


class _LevelFirst(structlog.stdlib.BoundLogger):
    """Asks for the level before anything else happens."""

    def _proxy_to_logger(self, method_name: str, event: str | None = None, *event_args: str, **event_kw: Any) -> Any:
        if self._logger.isEnabledFor(_METHODS.get(method_name, logging.INFO)):
            return super()._proxy_to_logger(method_name, event, *event_args, **event_kw)
        return None


def _masked(value: Any, mask: Mask, depth: int = 0) -> Any:
    """A value with every text in it masked. What is no plain data becomes text first: its own text may hold a secret."""
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping) and depth < 8:
        return {mask(str(key)): _masked(item, mask, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < 8:
        return [_masked(item, mask, depth + 1) for item in value]
    return mask(value.decode(errors="replace") if isinstance(value, bytes) else str(value))


def masking(mask: Mask) -> structlog.types.Processor:
    """The processor that stands last before rendering: no text passes it unmasked."""

    def process(logger: Any, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        return {mask(str(key)): _masked(value, mask) for key, value in event.items()}

    return process


def _severity(service: str | None, version: str | None) -> structlog.types.Processor:
    """Google Cloud Logging's names ("Structured logging")."""
    names = {"warn": "WARNING", "fatal": "CRITICAL", "off": "DEFAULT", "trace": "DEBUG"}

    def process(logger: Any, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        level = str(event.pop("level", "info"))
        event["severity"] = names.get(level, level.upper())
        context = {key: value for key, value in (("service", service), ("version", version)) if value}
        if context:
            event["serviceContext"] = context
        return event

    return process


def _renderer(settings: "Settings", stream: TextIO, mask: Mask) -> list[structlog.types.Processor]:
    log = settings.connectors.log
    json = settings.gateway.log.format == "json" or log.appender == "stackdriver"
    terminal = stream.isatty()
    if not json and (settings.gateway.log.format == "text" or terminal):
        return [masking(mask), structlog.dev.ConsoleRenderer(colors=terminal, pad_event_to=0)]
    out: list[structlog.types.Processor] = [structlog.processors.EventRenamer("message")]
    if log.appender == "stackdriver":
        out.append(_severity(log.stackdriver.service_name, log.stackdriver.service_version))
    return [*out, masking(mask), structlog.processors.JSONRenderer(ensure_ascii=False)]


class LogHandler(logging.StreamHandler[TextIO]):
    """The one handler of the process: formats, masks, counts. `remove` takes it away again."""

    def __init__(self, stream: TextIO, count: Callable[[str, str], None] | None) -> None:
        super().__init__(stream)
        self._count = count

    def emit(self, record: logging.LogRecord) -> None:
        if self._count is not None:
            self._count(level_name(record.levelno).lower(), record.name)
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        """A record that cannot be formatted or written is dropped: its text is unmasked, so nothing of it is shown."""

    def remove(self) -> None:
        logging.root.removeHandler(self)


def configure_logging(
    settings: "Settings",
    stream: TextIO | None = None,
    *,
    mask: Mask = str,
    count: Callable[[str, str], None] | None = None,
) -> LogHandler:
    """Sets up logging for the process: text on a terminal, else JSON lines (or as `gateway.log.format` says).

    `mask` is applied to every text of every record, exceptions and other libraries' records included; `count` gets the level
    and the logger of each record (`Metrics.logged`). Called again, it replaces what it set up before.
    """
    stream = stream or sys.stderr
    logging.addLevelName(TRACE, "TRACE")
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=_LevelFirst,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    for old in [handler for handler in logging.root.handlers if isinstance(handler, LogHandler)]:
        old.remove()
    handler = LogHandler(stream, count)
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[meta, *_renderer(settings, stream, mask)]
        )
    )
    logging.root.addHandler(handler)
    set_level("ROOT", settings.gateway.log.level or "info")
    for name, level in sorted(settings.logging.level.items()):
        if name.upper() != "ROOT" or settings.gateway.log.level is None:
            set_level(name, level)
    return handler


# ---- metrics -----------------------------------------------------------------------------------------------------------

_LABEL_LENGTH: Final = 200
_OTHER: Final = "other"
_UNKNOWN: Final = "unknown"
_WINDOW_MS: Final = 60_000

STATISTICS: Final[Mapping[str, tuple[str, str]]] = {
    "permits_limit": ("gateway_permits_limit", "Jobs of the type that may be under way"),
    "permits_in_use": ("gateway_permits_in_use", "Jobs of the type under way"),
    "permits_waiting": ("gateway_permits_waiting", "Readers that wait for a permit"),
    "leases": ("gateway_leases", "Jobs whose lease is held"),
    "lease_nearest_deadline_seconds": ("gateway_lease_nearest_deadline_seconds", "Seconds until the first lease ends"),
    "lease_extensions": ("gateway_lease_extensions", "Leases extended so far"),
    "read_age_seconds": ("gateway_last_read_age_seconds", "Seconds since a job was read"),
    "success_age_seconds": ("gateway_last_success_age_seconds", "Seconds since the engine took an answer"),
    "error_age_seconds": ("gateway_last_error_age_seconds", "Seconds since the engine or the way to it failed"),
}
"""What a `statistics` callable of a job type may report, and the gauge it becomes."""


class _Series:
    """What is counted per job type alone."""

    __slots__ = ("last_completed", "last_failed", "max_ms")

    def __init__(self) -> None:
        self.max_ms = 0.0
        self.last_completed = 0
        self.last_failed = 0


class OutboundMeters:
    """The counters of one job type and template. Calls cost no look-up; from the event loop's thread only.

    `seconds`: how long the job was handled; `at_ms`: now, in epoch milliseconds.
    """

    __slots__ = ("_newest", "_of_type", "_older", "_window", "counts", "sum_seconds")

    def __init__(self, of_type: _Series) -> None:
        self._of_type = of_type
        self.counts = {"activated": 0, "completed": 0, "failed": 0, "bpmn-error": 0}
        self.sum_seconds = 0.0
        self._window = 0
        self._newest = 0.0
        self._older = 0.0

    def activated(self) -> None:
        self.counts["activated"] += 1

    def completed(self, seconds: float, at_ms: int) -> None:
        """The engine took a completion."""
        self.counts["completed"] += 1
        self._of_type.last_completed = at_ms
        self._timed(seconds, at_ms)

    def failed(self, seconds: float, at_ms: int) -> None:
        """A failure was sent."""
        self.counts["failed"] += 1
        self._of_type.last_failed = at_ms
        self._timed(seconds, at_ms)

    def bpmn_error(self, seconds: float, at_ms: int) -> None:
        """A BPMN error was thrown."""
        self.counts["bpmn-error"] += 1
        self._timed(seconds, at_ms)

    def _timed(self, seconds: float, at_ms: int) -> None:
        self.sum_seconds += seconds
        self._turn(at_ms)
        self._newest = max(self._newest, seconds)
        self._of_type.max_ms = max(self._of_type.max_ms, seconds * 1000)

    def _turn(self, at_ms: int) -> None:
        window = at_ms // _WINDOW_MS
        if window != self._window:
            self._older = self._newest if window == self._window + 1 else 0.0
            self._newest, self._window = 0.0, window

    def recent_max(self, at_ms: int) -> float:
        """The longest of the last one to two minutes, in seconds."""
        self._turn(at_ms)
        return max(self._newest, self._older)

    @property
    def timed(self) -> int:
        return self.counts["completed"] + self.counts["failed"] + self.counts["bpmn-error"]


class WorkerMeters:
    """The counters of one job type's worker."""

    __slots__ = ("jobs_activated", "jobs_handled", "stream_recreations")

    def __init__(self) -> None:
        self.jobs_activated = 0
        self.jobs_handled = 0
        self.stream_recreations = 0

    def activated(self, jobs: int = 1) -> None:
        self.jobs_activated += jobs

    def handled(self) -> None:
        self.jobs_handled += 1

    def stream_recreated(self) -> None:
        self.stream_recreations += 1


@dataclass(frozen=True, slots=True)
class OutboundTotals:
    """What `/outbound/metrics` says; times in milliseconds, 0 where nothing happened yet."""

    completed: int
    failed: int
    bpmn_error: int
    mean_ms: float
    max_ms: float
    last_completed: int
    last_failed: int
    jobs_activated: int
    jobs_handled: int
    stream_recreations: int


class Metrics:
    """All meters of the process. `max_templates` bounds the pairs of element template and version that get series of their
    own; those that come later are counted as `other`.
    """

    def __init__(
        self,
        *,
        physical_tenant_id: str | None = None,
        max_templates: int = 500,
        now: Callable[[], float] = time.time,
        process: bool = True,
    ) -> None:
        self._tenant = physical_tenant_id or "default"
        self._max_templates = max_templates
        self._now = now
        self._started = now()
        self._types: dict[str, _Series] = {}
        self._outbound: dict[tuple[str, str, str], OutboundMeters] = {}
        self._workers: dict[str, WorkerMeters] = {}
        self._watched: dict[str, Callable[[], Mapping[str, float]]] = {}
        self._logged: dict[tuple[str, str], int] = {}
        self.registry = CollectorRegistry()
        self.registry.register(_Meters(self._collect))
        if process:
            ProcessCollector(registry=self.registry)

    # -- what the flows hold

    def outbound(
        self, job_type: str, template_id: str | None = None, template_version: str | None = None
    ) -> OutboundMeters:
        """The meters of jobs of this type from this element template. Ask once and keep them."""
        key = (job_type, (template_id or _UNKNOWN)[:_LABEL_LENGTH], (template_version or _UNKNOWN)[:_LABEL_LENGTH])
        meters = self._outbound.get(key)
        if meters is None:
            if len(self._outbound) >= self._max_templates and key[1:] != (_UNKNOWN, _UNKNOWN):
                key = (job_type, _OTHER, _OTHER)
            meters = self._outbound.get(key)
        if meters is None:
            meters = self._outbound[key] = OutboundMeters(self._types.setdefault(job_type, _Series()))
        return meters

    def worker(self, job_type: str) -> WorkerMeters:
        return self._workers.setdefault(job_type, WorkerMeters())

    def watch(self, job_type: str, statistics: Callable[[], Mapping[str, float]]) -> Callable[[], None]:
        """Reads `statistics` (names as in `STATISTICS`) at each scrape. Returns what ends that."""
        self._watched[job_type] = statistics

        def unwatch() -> None:
            if self._watched.get(job_type) is statistics:
                del self._watched[job_type]

        return unwatch

    def logged(self, level: str, logger: str) -> None:
        """Counts a log record; for `configure_logging`."""
        key = (level, logger)
        if key not in self._logged and len(self._logged) >= _MAX_LOGGERS:
            key = (level, _OTHER)
        self._logged[key] = self._logged.get(key, 0) + 1

    # -- what is read

    @property
    def uptime_seconds(self) -> float:
        return self._now() - self._started

    def totals(self, job_type: str | None = None) -> OutboundTotals:
        """The sums over all element templates, of one job type or of all."""
        meters = [m for key, m in self._outbound.items() if job_type in {None, key[0]}]
        types = [series for name, series in self._types.items() if job_type in {None, name}]
        workers = [worker for name, worker in self._workers.items() if job_type in {None, name}]
        timed = sum(m.timed for m in meters)
        return OutboundTotals(
            completed=sum(m.counts["completed"] for m in meters),
            failed=sum(m.counts["failed"] for m in meters),
            bpmn_error=sum(m.counts["bpmn-error"] for m in meters),
            mean_ms=sum(m.sum_seconds for m in meters) * 1000 / timed if timed else 0.0,
            max_ms=max((series.max_ms for series in types), default=0.0),
            last_completed=max((series.last_completed for series in types), default=0),
            last_failed=max((series.last_failed for series in types), default=0),
            jobs_activated=sum(worker.jobs_activated for worker in workers),
            jobs_handled=sum(worker.jobs_handled for worker in workers),
            stream_recreations=sum(worker.stream_recreations for worker in workers),
        )

    def scrape(self, accept: str = "") -> tuple[bytes, str]:
        """Everything in Prometheus' text format, or OpenMetrics where the Accept header asks for it, and the content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def families(self) -> list[Metric]:
        return list(self.registry.collect())

    # -- the families

    def _collect(self) -> Iterator[Metric]:
        yield from self._outbound_families()
        yield from self._type_families()
        yield from self._worker_families()
        yield from self._watched_families()
        logs = CounterMetricFamily("logback_events", "Log records", labels=["level", "logger"])
        for key, count in self._logged.items():
            logs.add_metric(key, count)
        yield logs
        yield GaugeMetricFamily("process_uptime_seconds", "Seconds since the process started", self.uptime_seconds)

    def _outbound_families(self) -> Iterator[Metric]:
        tags = ["type", "elementTemplateId", "elementTemplateVersion"]
        invocations = CounterMetricFamily(
            "camunda_connector_outbound_invocations", "Jobs by what became of them", labels=["action", *tags]
        )
        name = "camunda_connector_outbound_execution_time_seconds"
        spent = SummaryMetricFamily(name, "How long jobs were handled", labels=tags)
        longest = GaugeMetricFamily(f"{name}_max", "The longest of the last minutes", labels=tags)
        at_ms = int(self._now() * 1000)
        for key, meters in self._outbound.items():
            for action, count in meters.counts.items():
                invocations.add_metric([action, *key], count)
            spent.add_metric(key, count_value=meters.timed, sum_value=meters.sum_seconds)
            longest.add_metric(key, meters.recent_max(at_ms))
        yield from (invocations, spent, longest)

    def _type_families(self) -> Iterator[Metric]:
        prefix = "camunda_connector_outbound"
        longest = GaugeMetricFamily(
            f"{prefix}_max_execution_time", "The longest ever, in milliseconds", labels=["type"]
        )
        completed = GaugeMetricFamily(f"{prefix}_last_completed", "Epoch milliseconds of the last one", labels=["type"])
        failed = GaugeMetricFamily(f"{prefix}_last_failed", "Epoch milliseconds of the last one", labels=["type"])
        for name, series in self._types.items():
            longest.add_metric([name], series.max_ms)
            completed.add_metric([name], series.last_completed)
            failed.add_metric([name], series.last_failed)
        yield from (longest, completed, failed)

    def _worker_families(self) -> Iterator[Metric]:
        tags = ["type", "physicalTenantId"]
        activated = CounterMetricFamily("camunda_client_worker_job_activated", "Jobs received", labels=tags)
        handled = CounterMetricFamily("camunda_client_worker_job_handled", "Jobs dealt with", labels=tags)
        name = "camunda_client_worker_stream_inactivity_recreated"
        recreated = CounterMetricFamily(name, "Job streams opened again", labels=tags)
        for job_type, worker in self._workers.items():
            key = (job_type, self._tenant)
            activated.add_metric(key, worker.jobs_activated)
            handled.add_metric(key, worker.jobs_handled)
            recreated.add_metric(key, worker.stream_recreations)
        yield from (activated, handled, recreated)

    def _watched_families(self) -> Iterator[Metric]:
        families = {
            name: (CounterMetricFamily if name == "lease_extensions" else GaugeMetricFamily)(
                metric, text, labels=["type"]
            )
            for name, (metric, text) in STATISTICS.items()
        }
        under_way = 0.0
        for job_type, statistics in list(self._watched.items()):
            try:
                values = dict(statistics())
            except Exception:  # one type's numbers must not take the others' away
                structlog.get_logger(__name__).warning("statistics cannot be read", type=job_type, exc_info=True)
                continue
            under_way += values.get("permits_in_use", 0.0)
            for name in families.keys() & values.keys():
                families[name].add_metric([job_type], values[name])
        yield from families.values()
        executor = GaugeMetricFamily("executor_active_threads", "Handlers under way", labels=["name"])
        executor.add_metric(["camundaClientExecutor"], under_way)
        yield executor


class _Meters(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()
