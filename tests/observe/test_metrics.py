import io
import json
import logging
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.config import Settings, load
from gateway.observe import (
    INBOUND_STATISTICS,
    STATISTICS,
    InboundFigures,
    Metrics,
    configure_logging,
)

SECRET = "s3cr3t-ümläut"


def mask(text: str) -> str:
    return text.replace(SECRET, "***")


def settings_of(folder, **properties) -> Settings:
    return load(
        {}, [f"--{name.replace('__', '-').replace('_', '.')}={value}" for name, value in properties.items()], folder
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _quiet():
    """Every test leaves logging as it was."""
    names = ("", "gateway", "connectors", "grpc", "gateway.engine", "gateway.tests", "other")
    levels = {name: logging.getLogger(name).level for name in names}
    before = list(logging.root.handlers)
    yield
    for handler in [handler for handler in logging.root.handlers if handler not in before]:
        logging.root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def clock():
    return [1_000_000.0]


@pytest.fixture
def metrics(clock):
    return Metrics(now=lambda: clock[0], process=False)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.scrape()[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def test_invocations_are_counted_by_action_type_and_template(metrics):
    meters = metrics.outbound("http:1", "io.camunda.Rest", "12")
    for _ in range(3):
        meters.activated()
    meters.completed(0.5, 1)
    meters.failed(0.5, 2)
    meters.bpmn_error(0.5, 3)
    tags = {"type": "http:1", "elementTemplateId": "io.camunda.Rest", "elementTemplateVersion": "12"}
    name = "camunda_connector_outbound_invocations_total"
    found = {
        action: value(metrics, name, action=action, **tags)
        for action in ("activated", "completed", "failed", "bpmn-error")
    }
    assert found == {"activated": 3, "completed": 1, "failed": 1, "bpmn-error": 1}


def test_a_job_without_template_is_tagged_unknown(metrics):
    metrics.outbound("t").activated()
    tags = {"type": "t", "elementTemplateId": "unknown", "elementTemplateVersion": "unknown"}
    assert value(metrics, "camunda_connector_outbound_invocations_total", action="activated", **tags) == 1


def test_execution_time_is_a_timer_with_count_sum_and_max(metrics, clock):
    meters = metrics.outbound("t", "e", "1")
    now = int(clock[0] * 1000)
    meters.completed(2.0, now)
    meters.failed(1.0, now)
    tags = {"type": "t", "elementTemplateId": "e", "elementTemplateVersion": "1"}
    timer = "camunda_connector_outbound_execution_time_seconds"
    assert value(metrics, f"{timer}_count", **tags) == 2
    assert value(metrics, f"{timer}_sum", **tags) == 3.0
    assert value(metrics, f"{timer}_max", **tags) == 2.0


def test_the_timers_max_forgets_and_the_gauge_does_not(metrics, clock):
    meters = metrics.outbound("t", "e", "1")
    meters.completed(2.0, int(clock[0] * 1000))
    timer, tags = (
        "camunda_connector_outbound_execution_time_seconds_max",
        {"elementTemplateId": "e", "elementTemplateVersion": "1"},
    )
    clock[0] += 60
    assert value(metrics, timer, type="t", **tags) == 2.0
    clock[0] += 60
    assert value(metrics, timer, type="t", **tags) == 0.0
    assert value(metrics, "camunda_connector_outbound_max_execution_time", type="t") == 2000


def test_the_last_times_are_epoch_milliseconds_per_type(metrics):
    metrics.outbound("t", "a", "1").completed(0.1, 1_700_000_000_123)
    metrics.outbound("t", "b", "1").failed(0.1, 1_700_000_000_456)
    metrics.outbound("t", "b", "1").bpmn_error(0.1, 1_800_000_000_000)
    assert value(metrics, "camunda_connector_outbound_last_completed", type="t") == 1_700_000_000_123
    assert value(metrics, "camunda_connector_outbound_last_failed", type="t") == 1_700_000_000_456


def test_nothing_done_yet_is_a_zero(metrics):
    metrics.outbound("t", "a", "1")
    assert value(metrics, "camunda_connector_outbound_last_failed", type="t") == 0


def test_a_clients_counters_have_the_physical_tenant():
    metrics = Metrics(physical_tenant_id="p1", process=False)
    worker = metrics.worker("t")
    worker.activated(5)
    worker.activated()
    worker.handled()
    worker.stream_recreated()
    tags = {"type": "t", "physicalTenantId": "p1"}
    assert value(metrics, "camunda_client_worker_job_activated_total", **tags) == 6
    assert value(metrics, "camunda_client_worker_job_handled_total", **tags) == 1
    assert value(metrics, "camunda_client_worker_stream_inactivity_recreated_total", **tags) == 1


def test_meters_are_resolved_once(metrics):
    assert metrics.outbound("t", "a", "1") is metrics.outbound("t", "a", "1")
    assert metrics.outbound("t", "a", "1") is not metrics.outbound("t", "a", "2")
    assert metrics.worker("t") is metrics.worker("t")


def test_templates_beyond_the_cap_are_counted_as_other():
    metrics = Metrics(max_templates=2, process=False)
    for number in range(50):
        metrics.outbound("t", f"template-{number}", "1").activated()
    counted = [labels for name, labels in samples(metrics) if name.endswith("invocations_total")]
    assert len(counted) == 3 * 4
    tags = {"type": "t", "elementTemplateId": "other", "elementTemplateVersion": "other"}
    assert value(metrics, "camunda_connector_outbound_invocations_total", action="activated", **tags) == 48
    assert metrics.totals("t").jobs_activated == 0


def test_a_long_label_is_cut(metrics):
    metrics.outbound("t", "x" * 5000, "1").activated()
    assert max(len(text) for _, labels in samples(metrics) for _, text in labels) == 200


def test_statistics_are_read_at_scrape_time(metrics):
    numbers = {"permits_limit": 100.0, "permits_in_use": 3.0, "lease_extensions": 7.0, "read_age_seconds": 1.5}
    stop = metrics.watch("t", lambda: numbers)
    assert value(metrics, "gateway_permits_in_use", type="t") == 3
    numbers["permits_in_use"] = 4.0
    assert value(metrics, "gateway_permits_in_use", type="t") == 4
    assert value(metrics, "gateway_lease_extensions_total", type="t") == 7
    assert value(metrics, "gateway_last_read_age_seconds", type="t") == 1.5
    assert value(metrics, "gateway_leases", type="t") is None
    assert value(metrics, "executor_active_threads", name="camundaClientExecutor") == 4
    stop()
    stop()
    assert value(metrics, "gateway_permits_in_use", type="t") is None


def test_every_statistic_has_its_metric(metrics):
    metrics.watch("t", lambda: dict.fromkeys(STATISTICS, 1.0))
    found = {name.removesuffix("_total") for name, labels in samples(metrics) if labels == (("type", "t"),)}
    assert {metric for metric, _ in STATISTICS.values()} == found


def test_statistics_that_fail_don_t_take_the_others_away(metrics):
    metrics.watch("bad", lambda: {"x": 1 / 0})
    metrics.watch("good", lambda: {"leases": 2.0})
    assert value(metrics, "gateway_leases", type="good") == 2


def test_log_records_are_counted_by_level_and_logger(metrics, tmp_path):
    configure_logging(settings_of(tmp_path), io.StringIO(), count=metrics.logged)
    structlog.get_logger("gateway.tests").warning("x")
    logging.getLogger("gateway.tests").warning("y")
    structlog.get_logger("gateway.tests").debug("not enabled")
    assert value(metrics, "logback_events_total", level="warn", logger="gateway.tests") == 2


def test_loggers_of_the_counter_are_bounded(metrics):
    for number in range(2000):
        metrics.logged("info", f"logger-{number}")
    assert value(metrics, "logback_events_total", level="info", logger="other") == 1000


def test_openmetrics_where_it_is_asked_for(metrics):
    metrics.outbound("t", "a", "1").activated()
    body, content_type = metrics.scrape("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert b"camunda_connector_outbound_invocations_total{" in body
    body, content_type = metrics.scrape("text/html, */*")
    assert content_type.startswith("text/plain")
    assert b"# EOF" not in body


def test_the_process_is_measured():
    text = Metrics().scrape()[0].decode()
    for name in (
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_uptime_seconds",
    ):
        assert f"\n{name} " in text


def test_no_sample_says_when_it_was_created(metrics):
    metrics.outbound("t").completed(0.1, 1)
    assert "_created" not in metrics.scrape()[0].decode()


def test_totals_sum_over_templates(metrics, clock):
    metrics.outbound("t", "a", "1").completed(0.1, 5)
    metrics.outbound("t", "b", "1").completed(0.3, 7)
    metrics.outbound("u", "b", "1").failed(1.0, 9)
    metrics.worker("t").activated(2)
    one, both = metrics.totals("t"), metrics.totals()
    assert (one.completed, one.failed, one.last_completed, one.last_failed, one.jobs_activated) == (2, 0, 7, 0, 2)
    assert one.mean_ms == pytest.approx(200)
    assert one.max_ms == pytest.approx(300)
    assert (both.completed, both.failed, both.max_ms) == (2, 1, pytest.approx(1000))
    assert metrics.totals("none").mean_ms == 0
    clock[0] += 12
    assert metrics.uptime_seconds == 12


@given(st.lists(st.tuples(st.sampled_from("cfb"), st.floats(0, 100)), max_size=30))
def test_the_parts_add_up(calls):
    metrics = Metrics(process=False)
    meters = metrics.outbound("t")
    for kind, seconds in calls:
        {"c": meters.completed, "f": meters.failed, "b": meters.bpmn_error}[kind](seconds, 1)
    totals = metrics.totals()
    assert totals.completed + totals.failed + totals.bpmn_error == len(calls) == meters.timed
    assert meters.sum_seconds == pytest.approx(sum(seconds for _, seconds in calls))
    assert totals.max_ms == pytest.approx(max((seconds * 1000 for _, seconds in calls), default=0))


# ---- inbound ---------------------------------------------------------------------------------------------------------


def figures(number: int = 1, **more: Any) -> InboundFigures:
    given: dict[str, Any] = {
        "executable_id": f"e{number}",
        "type": "kafka:1",
        "bpmn_process_id": "stock",
        "element_id": "start",
        "state": "activated",
        "health": "UP",
        "statistics": {},
    }
    return InboundFigures(**{**given, **more})


def test_activations_and_triggers_are_counted_by_action_type_and_template():
    metrics = Metrics(physical_tenant_id="p1", process=False)
    meters = metrics.inbound("kafka:1", "io.camunda.Kafka", "7")
    meters.activated()
    meters.deactivated()
    meters.activation_failed()
    for _ in range(3):
        meters.triggered()
    meters.correlated()
    meters.correlation_failed()
    meters.activation_condition_failed()
    tags = {
        "type": "kafka:1",
        "elementTemplateId": "io.camunda.Kafka",
        "elementTemplateVersion": "7",
        "physicalTenantId": "p1",
    }
    name = "camunda_connector_inbound_activations_total"
    actions = ("activated", "deactivated", "activation-failed")
    assert [value(metrics, name, action=action, **tags) for action in actions] == [1, 1, 1]
    name = "camunda_connector_inbound_triggers_total"
    outcomes = ("triggered", "correlated", "correlation-failed", "activation-condition-failed")
    assert [value(metrics, name, action=action, **tags) for action in outcomes] == [3, 1, 1, 1]


def test_the_last_activation_and_event_are_epoch_milliseconds_per_type(metrics, clock):
    clock[0] = 1_700_000_000.123
    metrics.inbound("t", "a", "1").activated()
    metrics.inbound("t", "b", "1").activation_failed()
    tags = {"type": "t", "physicalTenantId": "default"}
    assert value(metrics, "camunda_connector_inbound_last_activated", **tags) == 1_700_000_000_123
    assert value(metrics, "camunda_connector_inbound_last_triggered", **tags) == 0
    clock[0] += 1
    metrics.inbound("t", "b", "1").triggered()
    assert value(metrics, "camunda_connector_inbound_last_triggered", **tags) == 1_700_000_001_123


def test_meters_of_executables_are_resolved_once_and_bounded():
    metrics = Metrics(max_templates=2, process=False)
    assert metrics.inbound("t", "a", "1") is metrics.inbound("t", "a", "1")
    for number in range(50):
        metrics.inbound("t", f"template-{number}").triggered()
        metrics.inbound(f"type-{number}" + "x" * 500).triggered()
    counted = [dict(labels) for name, labels in samples(metrics) if name.endswith("inbound_triggers_total")]
    assert {each["type"] for each in counted} == {"t", "other"}
    assert len(counted) == 4 * 4
    assert metrics.inbound_totals().triggered == 100


def test_inbound_totals_sum_over_templates(metrics, clock):
    metrics.inbound("t", "a").triggered()
    metrics.inbound("t", "b").correlated()
    metrics.inbound("u", "b").activated()
    one, both = metrics.inbound_totals("t"), metrics.inbound_totals()
    assert (one.triggered, one.correlated, one.activated, one.last_activated) == (1, 1, 0, 0)
    assert (both.triggered, both.correlated, both.activated) == (1, 1, 1)
    assert both.last_activated == both.last_triggered == one.last_triggered == clock[0] * 1000
    assert metrics.inbound_totals("none").triggered == 0


def test_executables_show_their_state_and_figures(metrics):
    metrics.watch_inbound(
        lambda: [
            figures(1, statistics={"window_in_use": 3.0, "seconds_since_last_event": 1.5}),
            figures(2, state="queued", health="DOWN"),
        ]
    )
    tags = {"executableId": "e1", "type": "kafka:1", "bpmnProcessId": "stock", "elementId": "start"}
    assert value(metrics, "gateway_inbound_state", **tags, state="activated", health="UP") == 1
    assert value(metrics, "gateway_inbound_window_in_use", **tags) == 3
    assert value(metrics, "gateway_inbound_seconds_since_last_event", **tags) == 1.5
    assert value(metrics, "gateway_inbound_seconds_since_last_error", **tags) is None
    assert value(metrics, "gateway_inbound_executables", type="kafka:1", state="queued", health="DOWN") == 1


def test_every_statistic_of_an_executable_has_its_metric(metrics):
    metrics.watch_inbound(lambda: [figures(statistics=dict.fromkeys(INBOUND_STATISTICS, 1.0) | {"other": 1.0})])
    found = {name for name, labels in samples(metrics) if dict(labels).get("executableId")} - {"gateway_inbound_state"}
    assert found == {metric for metric, _ in INBOUND_STATISTICS.values()}


def test_executables_beyond_the_cap_are_in_the_sums_only():
    metrics = Metrics(max_executables=10, process=False)
    metrics.watch_inbound(lambda: (figures(number) for number in range(5000)))
    assert sum(name == "gateway_inbound_state" for name, _ in samples(metrics)) == 10
    assert value(metrics, "gateway_inbound_executables", type="kafka:1", state="activated", health="UP") == 5000


def test_the_cache_of_definitions_and_failures_are_read_at_scrape_time(metrics):
    name = "camunda_connector_inbound_process_definition_cache_accesses_total"
    assert value(metrics, name, result="hit") == 0
    metrics.watch_discovery(lambda: {"hits": 5.0, "misses": 2.0, "publish_failures": 1.0})
    assert (value(metrics, name, result="hit"), value(metrics, name, result="miss")) == (5, 2)
    assert value(metrics, "camunda_connector_inbound_process_state_change_publish_failures_total") == 1


def test_figures_that_fail_don_t_take_the_others_away(metrics):
    metrics.watch_inbound(lambda: (figures(1 // 0) for _ in range(1)))
    metrics.watch_discovery(lambda: {"hits": 1 / 0})
    metrics.watch_server("server", lambda: {"open": 1 / 0})
    metrics.inbound("t").triggered()
    assert metrics.inbound_totals().triggered == 1
    assert value(metrics, "camunda_connector_inbound_last_activated", type="t", physicalTenantId="default") == 0


@given(st.lists(st.sampled_from(["triggered", "correlated", "correlation_failed", "activated"]), max_size=30))
def test_the_parts_of_inbound_add_up(calls):
    metrics = Metrics(process=False)
    for number, call in enumerate(calls):
        getattr(metrics.inbound("t", str(number % 3)), call)()
    totals = metrics.inbound_totals("t")
    assert [getattr(totals, name) for name in sorted(set(calls))] == [calls.count(name) for name in sorted(set(calls))]
