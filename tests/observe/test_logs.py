import asyncio
import io
import json
import logging
import re

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Settings, load
from gateway.observe import (
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


async def test_context_variables_are_part_of_each_record_of_their_task(tmp_path):
    stream = io.StringIO()
    configure_logging(settings_of(tmp_path), stream, mask=mask)

    async def work(job: str) -> None:
        structlog.contextvars.bind_contextvars(job=job)
        await asyncio.sleep(0)
        structlog.get_logger("gateway.tests").info("x")

    await asyncio.gather(work("1"), work(SECRET))
    assert sorted(str(line["job"]) for line in lines(stream)) == ["***", "1"]
