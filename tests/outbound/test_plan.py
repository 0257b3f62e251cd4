"""The headers of an element, read once."""

from typing import Any

import pytest

from gateway import jsontext
from gateway.outbound.outcome import HeaderInvalid
from gateway.outbound.plan import Plan, Plans, make_plan

BACKOFF = "io.camunda.connector.runtime.core.outbound.InvalidBackOffDurationException"
TIMEOUT = "io.camunda.connector.runtime.core.outbound.InvalidJobTimeoutException"


def meters(template: str | None, version: str | None) -> Any:
    return (template, version)


def plan(**headers: Any) -> Plan:
    return make_plan(jsontext.dumps(headers), meters)


def invalid(**headers: Any) -> tuple[str, str]:
    found = plan(**headers).invalid
    assert found is not None
    return str(found), found.java_type


def test_all_headers_are_read() -> None:
    found = plan(
        resultVariable=" r ",
        resultExpression="={a: 1}",
        errorExpression="=null",
        retryBackoff="PT30S",
        jobTimeout="PT1H",
        operation="op",
        elementTemplateId="t",
        elementTemplateVersion="3",
        mine="x",
    )
    assert found.result_variable == "r"
    assert found.result_expression is not None
    assert found.result_expression.text == "{a: 1}"
    assert found.error_expression is not None
    assert (found.backoff_ms, found.job_timeout_ms, found.operation, found.invalid) == (30_000, 3_600_000, "op", None)
    made: Any = found.meters
    assert made == ("t", "3")
    assert found.headers["mine"] == "x"
    assert not found.discards


@pytest.mark.parametrize("text", ["", "{}"])
def test_without_headers_everything_is_absent(text: str) -> None:
    found = make_plan(text, meters)
    absent: list[object] = [found.result_variable, found.result_expression, found.error_expression, found.invalid]
    absent += [found.backoff_ms, found.job_timeout_ms, found.operation]
    assert absent == [None] * 7
    assert found.discards


@pytest.mark.parametrize("blank", ["", " ", "\t", "\n", None])
def test_blank_expressions_and_variables_count_as_absent(blank: str | None) -> None:
    found = plan(resultVariable=blank, resultExpression=blank, errorExpression=blank, jobTimeout=blank)
    assert (found.result_variable, found.result_expression, found.error_expression) == (None, None, None)
    assert (found.job_timeout_ms, found.invalid) == (None, None)


@pytest.mark.parametrize("text", ["", " ", "5 minutes", "P1D1S", "P1Y", "P1M", "30", " PT5S", "PT9223372036854775807S"])
def test_a_retry_backoff_that_is_no_duration_is_an_error(text: str) -> None:
    message = f"Failed to parse retry backoff header. Expected ISO-8601 duration, e.g. PT5M, got: {text}"
    assert invalid(retryBackoff=text) == (message, BACKOFF)


@pytest.mark.parametrize(("text", "milliseconds"), [("PT30S", 30_000), ("P1D", 86_400_000), ("PT0S", 0), ("-PT5S", 0)])
def test_a_retry_backoff_is_milliseconds_and_never_negative(text: str, milliseconds: int) -> None:
    assert plan(retryBackoff=text).backoff_ms == milliseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", "Failed to parse job timeout header. Expected ISO-8601 duration, e.g. PT10M, got: soon"),
        ("PT0S", "Job timeout must be a positive duration, got: PT0S"),
        ("PT0.0004S", "Job timeout must be a positive duration, got: PT0.0004S"),
        ("-PT5S", "Job timeout must be a positive duration, got: -PT5S"),
        ("PT9223372036854775807S", "Job timeout is too large to represent: PT9223372036854775807S"),
        (
            "PT9223372036854775808S",
            "Failed to parse job timeout header. Expected ISO-8601 duration, e.g. PT10M, got: PT9223372036854775808S",
        ),
    ],
)
def test_a_job_timeout_that_cannot_be_used_is_an_error(text: str, message: str) -> None:
    assert invalid(jobTimeout=text) == (message, TIMEOUT)


def test_the_retry_backoff_is_read_first_and_the_rest_is_read_all_the_same() -> None:
    found = plan(retryBackoff="x", jobTimeout="y", errorExpression="=null", resultVariable="r")
    assert found.invalid is not None
    assert found.invalid.java_type == BACKOFF
    assert found.error_expression is not None
    assert found.result_variable == "r"


@pytest.mark.parametrize(
    ("text", "message"), [("{", "The task headers cannot be read: "), ("[]", "The task headers are no JSON object")]
)
def test_headers_that_are_no_object_fail_each_job(text: str, message: str) -> None:
    found = make_plan(text, meters)
    assert found.invalid is not None
    assert str(found.invalid).startswith(message)
    assert found.headers == {}


def test_header_values_are_text() -> None:
    assert plan(a=5, b=True, c=None, d={"e": 1}).headers == {"a": "5", "b": "true", "d": '{"e":1}'}


def test_an_expression_that_does_not_parse_is_no_reason_to_fail_here() -> None:
    assert plan(resultExpression="={a:").invalid is None


def test_a_plan_is_made_once_for_the_same_text_and_the_oldest_go() -> None:
    plans = Plans(meters)
    first = plans.get('{"a":"1"}')
    assert plans.get('{"a":"1"}') is first
    for n in range(10_001):
        plans.get(f'{{"n":"{n}"}}')
    assert len(plans._plans) == 10_000
    assert plans.get('{"a":"1"}') is not first


def test_a_kept_error_collects_no_tracebacks() -> None:
    kept = plan(retryBackoff="x").invalid
    assert kept is not None
    for _ in range(3):
        with pytest.raises(HeaderInvalid) as caught:
            raise kept.again()
        assert (str(caught.value), caught.value.java_type) == (str(kept), BACKOFF)
    assert kept.__traceback__ is None
