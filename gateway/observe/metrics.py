"""Metrics: meters, read by a collector of prometheus-client at scrape time.

Names and tags are those of the connector runtime ("Metrics" in Camunda's docs for self-managed connectors) in Prometheus spelling;
those of our own begin with `gateway_`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from gateway.observe.meters import (
    InboundMeters,
    InboundTotals,
    LastTimes,
    OutboundMeters,
    OutboundTotals,
    Series,
    WorkerMeters,
)

_LABEL_LENGTH: Final = 200
_MAX_LOGGERS: Final = 1000
_OTHER: Final = "other"
_UNKNOWN: Final = "unknown"

_T = TypeVar("_T")

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

INBOUND_STATISTICS: Final[Mapping[str, tuple[str, str]]] = {
    "seconds_since_last_event": ("gateway_inbound_seconds_since_last_event", "Seconds since an event came"),
    "seconds_since_last_error": ("gateway_inbound_seconds_since_last_error", "Seconds since something went wrong"),
    "window_limit": ("gateway_inbound_window_limit", "Events of the executable that may be under way"),
    "window_in_use": ("gateway_inbound_window_in_use", "Events of the executable under way"),
    "window_waiting": ("gateway_inbound_window_waiting", "Readers that wait for a place in the window"),
}
"""What the statistics of an executable may report, and the gauge it becomes."""

_ACCESSES: Final = ("hit", "hits"), ("miss", "misses")


@dataclass(frozen=True, slots=True)
class InboundFigures:
    """What is measured of one executable at the time of a scrape. health: `UP`, `DOWN` or `UNKNOWN`."""

    executable_id: str
    type: str
    bpmn_process_id: str
    element_id: str
    state: str
    health: str
    statistics: Mapping[str, float]


class Metrics:
    """All meters of the process. `max_templates` bounds the pairs of element template and version that get series of their
    own; those that come later are counted as `other`. `max_executables` bounds the executables with series of their own.
    """

    def __init__(
        self,
        *,
        physical_tenant_id: str | None = None,
        max_templates: int = 500,
        max_executables: int = 500,
        now: Callable[[], float] = time.time,
        process: bool = True,
    ) -> None:
        self._tenant = physical_tenant_id or "default"
        self._max_templates = max_templates
        self._max_executables = max_executables
        self._now = now
        self._started = now()
        self._types: dict[str, Series] = {}
        self._outbound: dict[tuple[str, str, str], OutboundMeters] = {}
        self._workers: dict[str, WorkerMeters] = {}
        self._watched: dict[str, Callable[[], Mapping[str, float]]] = {}
        self._last: dict[str, LastTimes] = {}
        self._inbound: dict[tuple[str, str, str], InboundMeters] = {}
        self._executables: Callable[[], Iterable[InboundFigures]] = tuple
        self._discovery: Callable[[], Mapping[str, float]] = dict
        self._servers: dict[str, Callable[[], Mapping[str, float]]] = {}
        self._webhook_answers: dict[int, int] = {}
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
            meters = self._outbound[key] = OutboundMeters(self._types.setdefault(job_type, Series()))
        return meters

    def worker(self, job_type: str) -> WorkerMeters:
        return self._workers.setdefault(job_type, WorkerMeters())

    def inbound(
        self, connector_type: str, template_id: str | None = None, template_version: str | None = None
    ) -> InboundMeters:
        """The meters of executables of this type from this element template. Ask once and keep them."""
        key = tuple((text or _UNKNOWN)[:_LABEL_LENGTH] for text in (connector_type, template_id, template_version))
        if key not in self._inbound and len(self._inbound) >= self._max_templates:
            key = (key[0] if key[0] in self._last else _OTHER, _OTHER, _OTHER)
        kind, template, version = key
        meters = self._inbound.get((kind, template, version))
        if meters is None:
            meters = InboundMeters(self._last.setdefault(kind, LastTimes()), self._now)
            self._inbound[kind, template, version] = meters
        return meters

    def webhook_answered(self, status: int) -> None:
        """Counts an answer to a request for a webhook."""
        self._webhook_answers[status] = self._webhook_answers.get(status, 0) + 1

    def watch_inbound(self, figures: Callable[[], Iterable[InboundFigures]]) -> None:
        """Reads the executables at each scrape."""
        self._executables = figures

    def watch_discovery(self, statistics: Callable[[], Mapping[str, float]]) -> None:
        """Reads `hits` and `misses` of the cache of process definitions, and `publish_failures`, at each scrape."""
        self._discovery = statistics

    def watch_server(self, name: str, statistics: Callable[[], Mapping[str, float]]) -> Callable[[], None]:
        """Reads `limit`, `open`, `waiting` and `refused <reason>` of a server's connections at each scrape. Returns what ends that."""
        self._servers[name] = statistics

        def unwatch() -> None:
            self._servers.pop(name, None)

        return unwatch

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

    def inbound_totals(self, connector_type: str | None = None) -> InboundTotals:
        """The sums over all element templates, of one connector type or of all."""
        meters = [each for key, each in self._inbound.items() if connector_type in {None, key[0]}]
        last = [times for name, times in self._last.items() if connector_type in {None, name}]
        return InboundTotals(
            activated=sum(each.activations["activated"] for each in meters),
            deactivated=sum(each.activations["deactivated"] for each in meters),
            activation_failed=sum(each.activations["activation-failed"] for each in meters),
            last_activated=max((times.activated for times in last), default=0),
            triggered=sum(each.triggers["triggered"] for each in meters),
            correlated=sum(each.triggers["correlated"] for each in meters),
            correlation_failed=sum(each.triggers["correlation-failed"] for each in meters),
            activation_condition_failed=sum(each.triggers["activation-condition-failed"] for each in meters),
            last_triggered=max((times.triggered for times in last), default=0),
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
        yield from self._inbound_families()
        yield from self._executable_families()
        yield from self._discovery_families()
        yield from self._http_families()
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
            values = _read(statistics, job_type) or {}
            under_way += values.get("permits_in_use", 0.0)
            for name in families.keys() & values.keys():
                families[name].add_metric([job_type], values[name])
        yield from families.values()
        executor = GaugeMetricFamily("executor_active_threads", "Handlers under way", labels=["name"])
        executor.add_metric(["camundaClientExecutor"], under_way)
        yield executor

    def _inbound_families(self) -> Iterator[Metric]:
        prefix = "camunda_connector_inbound"
        tags = ["type", "elementTemplateId", "elementTemplateVersion", "physicalTenantId"]
        activations = CounterMetricFamily(f"{prefix}_activations", "Starts and ends", labels=["action", *tags])
        triggers = CounterMetricFamily(f"{prefix}_triggers", "Events by what became of them", labels=["action", *tags])
        for key, meters in self._inbound.items():
            for action, count in meters.activations.items():
                activations.add_metric([action, *key, self._tenant], count)
            for action, count in meters.triggers.items():
                triggers.add_metric([action, *key, self._tenant], count)
        text, tags = "Epoch milliseconds of the last one", ["type", "physicalTenantId"]
        activated = GaugeMetricFamily(f"{prefix}_last_activated", text, labels=tags)
        triggered = GaugeMetricFamily(f"{prefix}_last_triggered", text, labels=tags)
        for name, times in self._last.items():
            activated.add_metric([name, self._tenant], times.activated)
            triggered.add_metric([name, self._tenant], times.triggered)
        yield from (activations, triggers, activated, triggered)

    def _executable_families(self) -> Iterator[Metric]:
        tags = ["executableId", "type", "bpmnProcessId", "elementId"]
        counted = GaugeMetricFamily("gateway_inbound_executables", "Executables", labels=["type", "state", "health"])
        states = GaugeMetricFamily(
            "gateway_inbound_state", "1 for the state it is in", labels=[*tags, "state", "health"]
        )
        families = {
            name: GaugeMetricFamily(metric, text, labels=tags) for name, (metric, text) in INBOUND_STATISTICS.items()
        }
        counts: dict[tuple[str, str, str], int] = {}
        for number, each in enumerate(_read(lambda: list(self._executables()), "inbound") or ()):
            kind = each.type[:_LABEL_LENGTH]
            counts[kind, each.state, each.health] = counts.get((kind, each.state, each.health), 0) + 1
            if number >= self._max_executables:
                continue
            key = [each.executable_id, kind, each.bpmn_process_id[:_LABEL_LENGTH], each.element_id[:_LABEL_LENGTH]]
            states.add_metric([*key, each.state, each.health], 1)
            for name in families.keys() & each.statistics.keys():
                families[name].add_metric(key, each.statistics[name])
        for labels, count in counts.items():
            counted.add_metric(labels, count)
        yield from (counted, states, *families.values())

    def _discovery_families(self) -> Iterator[Metric]:
        values = _read(self._discovery, "discovery") or {}
        prefix = "camunda_connector_inbound_process"
        accesses = CounterMetricFamily(
            f"{prefix}_definition_cache_accesses", "Definitions that were known or had to be read", labels=["result"]
        )
        for result, name in _ACCESSES:
            accesses.add_metric([result], values.get(name, 0))
        failures = CounterMetricFamily(
            f"{prefix}_state_change_publish_failures", "Changes of what is deployed that could not be passed on"
        )
        failures.add_metric([], values.get("publish_failures", 0))
        yield from (accesses, failures)

    def _http_families(self) -> Iterator[Metric]:
        answers = CounterMetricFamily("gateway_webhook_requests", "Answered requests for webhooks", labels=["status"])
        for status, count in self._webhook_answers.items():
            answers.add_metric([str(status)], count)
        connections = GaugeMetricFamily("gateway_http_connections", "Connections by state", labels=["server", "state"])
        refused = CounterMetricFamily(
            "gateway_http_refused", "Connections refused or ended", labels=["server", "reason"]
        )
        for server, statistics in self._servers.items():
            for name, value in (_read(statistics, server) or {}).items():
                family = refused if name.startswith("refused ") else connections
                family.add_metric([server, name.removeprefix("refused ")], value)
        yield from (answers, connections, refused)


def _read(read: Callable[[], _T], what: str) -> _T | None:
    """What a callable of somebody else's gives: one part's numbers must not take the others' away."""
    try:
        return read()
    except Exception:
        structlog.get_logger(__name__).warning("statistics cannot be read", type=what, exc_info=True)
        return None


class _Meters(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()
