import asyncio
import io
import json
import logging
import re

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.config import Settings, load
from gateway.observe import (
    STATISTICS,
    Metrics,
    configure_logging,
    level_name,
    logger_levels,
    masking,
    python_loggers,
    set_level,
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


# ---- logging ---------------------------------------------------------------------------------------------------------------


def test_without_a_terminal_each_record_is_a_line_of_json(tmp_path):
    stream = io.StringIO()
    configure_logging(settings_of(tmp_path), stream)
    structlog.get_logger("gateway.tests").info("job done", key=1)
    (line,) = lines(stream)
    assert (line["message"], line["key"], line["level"], line["logger"]) == ("job done", 1, "info", "gateway.tests")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", str(line["timestamp"]))


def test_on_a_terminal_it_is_text(tmp_path):
    stream = Terminal()
    configure_logging(settings_of(tmp_path), stream)
    structlog.get_logger("gateway.tests").info("job done", key=1)
    assert "job done" in stream.getvalue()
    with pytest.raises(json.JSONDecodeError):
        lines(stream)


@pytest.mark.parametrize(("form", "stream", "is_json"), [("json", Terminal(), True), ("text", io.StringIO(), False)])
def test_the_format_can_be_chosen(tmp_path, form, stream, is_json):
    configure_logging(settings_of(tmp_path, gateway_log_format=form), stream)
    structlog.get_logger("gateway.tests").info("hello")
    assert stream.getvalue().startswith("{") == is_json
    assert ("\x1b[" in stream.getvalue()) is False


def test_stackdriver_lines_have_severities_and_a_service(tmp_path):
    stream = Terminal()
    properties = {"connectors_log_appender": "stackdriver", "connectors_log_stackdriver_serviceName": "svc"}
    configure_logging(settings_of(tmp_path, **properties), stream)
    log = structlog.get_logger("gateway.tests")
    log.warning("careful")
    log.info("fine")
    first, second = lines(stream)
    assert (first["severity"], second["severity"]) == ("WARNING", "INFO")
    assert first["serviceContext"] == {"service": "svc"}
    assert "level" not in first


def test_no_secret_leaves_in_any_part_of_a_record(tmp_path):
    stream = io.StringIO()
    configure_logging(settings_of(tmp_path), stream, mask=mask)
    log = structlog.get_logger("gateway.tests")
    log.info(SECRET, value=SECRET, nested={"a": [SECRET, {SECRET: 1}]}, items=(SECRET,), odd=ValueError(SECRET))
    log.info("bytes", raw=SECRET.encode())
    try:
        raise RuntimeError(f"broken: {SECRET}") from ValueError(SECRET)
    except RuntimeError:
        log.exception("failed")
        logging.getLogger("grpc").exception("with %s", SECRET)
    logging.getLogger("asyncio").warning("extra", extra={"secret": SECRET})
    text = stream.getvalue()
    assert "s3cr3t" not in text
    assert len(lines(stream)) == 5
    assert text.count("***") >= 8
    assert "RuntimeError: broken: ***" in text


def test_no_secret_leaves_on_a_terminal_either(tmp_path):
    stream = Terminal()
    configure_logging(settings_of(tmp_path), stream, mask=mask)
    try:
        raise RuntimeError(SECRET)
    except RuntimeError:
        structlog.get_logger("gateway.tests").exception("failed", value=SECRET)
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count("***") == 2


def test_a_record_that_cannot_be_formatted_is_dropped_without_its_text(tmp_path, capsys):
    class Stubborn:
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    stream = io.StringIO()
    configure_logging(settings_of(tmp_path), stream, mask=mask)
    structlog.get_logger("gateway.tests").warning("x", value=Stubborn())
    assert stream.getvalue() == ""
    assert capsys.readouterr() == ("", "")


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_masking_reaches_every_text_of_plain_data(value):
    event = masking(lambda text: "")(None, "info", {"a": value})
    assert isinstance(event, dict)
    assert not re.search(r"\w", re.sub(r"\b(None|\d+)\b", "", repr(list(event.values()))))


def test_a_disabled_level_formats_nothing(tmp_path):
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("formatted")

        __repr__ = __str__

    stream = io.StringIO()
    configure_logging(settings_of(tmp_path), stream, mask=lambda text: pytest.fail("masked"))
    structlog.get_logger("gateway.tests").debug("x", value=Costly())
    logging.getLogger("gateway.tests").debug("%s", Costly())
    assert stream.getvalue() == ""


def test_levels_of_java_loggers_mean_ours(tmp_path):
    stream = io.StringIO()
    properties = {
        "logging_level_io_camunda_connector": "debug",
        "logging_level_root": "error",
        "logging_level_io_grpc": "off",
    }
    configure_logging(settings_of(tmp_path, **properties), stream)
    structlog.get_logger("gateway.tests").debug("ours")
    structlog.get_logger("connectors.http").debug("theirs")
    structlog.get_logger("other").warning("no")
    logging.getLogger("grpc").critical("no")
    assert [line["message"] for line in lines(stream)] == ["ours", "theirs"]


@pytest.mark.parametrize(
    ("java", "ours"),
    [
        ("ROOT", ("",)),
        ("io.camunda.connector", ("gateway", "connectors")),
        ("io.camunda.connector.runtime.core", ("gateway",)),
        ("io.camunda.connectors2", ("gateway", "connectors")),
        ("io.grpc.netty", ("grpc",)),
        ("gateway.outbound", ("gateway.outbound",)),
        ("io.camundax", ("io.camundax",)),
    ],
)
def test_each_java_logger_stands_for_some_of_ours(java, ours):
    assert python_loggers(java) == ours


def test_levels_change_while_running(tmp_path):
    stream = io.StringIO()
    configure_logging(settings_of(tmp_path), stream)
    log = structlog.get_logger("gateway.tests")
    log.debug("one")
    set_level("gateway.tests", "DEBUG")
    log.debug("two")
    assert logger_levels()["gateway.tests"] == ("DEBUG", "DEBUG")
    set_level("gateway.tests", None)
    log.debug("three")
    assert logger_levels()["gateway.tests"] == (None, "INFO")
    assert logger_levels()["ROOT"] == ("INFO", "INFO")
    assert [line["message"] for line in lines(stream)] == ["two"]


def test_a_logger_that_only_has_others_below_it_is_known():
    logging.getLogger("gateway.tests.above.below")
    assert "gateway.tests.above" in logger_levels()


def test_a_level_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="expected one of off, fatal, error, warn, info, debug, trace, got 'loud'"):
        set_level("gateway.tests", "loud")


@pytest.mark.parametrize(
    ("level", "name"), [(5, "TRACE"), (10, "DEBUG"), (25, "INFO"), (50, "FATAL"), (99, "OFF"), (1, "TRACE")]
)
def test_every_number_has_the_name_of_a_level(level, name):
    assert level_name(level) == name


def test_gateway_log_level_goes_before_the_root_level(tmp_path):
    configure_logging(settings_of(tmp_path, gateway_log_level="warn", logging_level_root="debug"), io.StringIO())
    assert logging.root.level == logging.WARNING


def test_configuring_again_replaces_the_handler(tmp_path):
    first, second = io.StringIO(), io.StringIO()
    configure_logging(settings_of(tmp_path), first)
    configure_logging(settings_of(tmp_path), second)
    logging.getLogger("other").warning("x")
    assert (first.getvalue(), len(lines(second))) == ("", 1)


# ---- metrics ---------------------------------------------------------------------------------------------------------------


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


async def test_context_variables_are_part_of_each_record_of_their_task(tmp_path):
    stream = io.StringIO()
    configure_logging(settings_of(tmp_path), stream, mask=mask)

    async def work(job: str) -> None:
        structlog.contextvars.bind_contextvars(job=job)
        await asyncio.sleep(0)
        structlog.get_logger("gateway.tests").info("x")

    await asyncio.gather(work("1"), work(SECRET))
    assert sorted(str(line["job"]) for line in lines(stream)) == ["***", "1"]
