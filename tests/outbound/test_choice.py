"""What an error expression's object stands for."""

from typing import Any

import pytest

from gateway import jsontext
from gateway.engine import AdHocResult
from gateway.outbound.choice import command_for
from gateway.outbound.outcome import Command, Complete, Fail, Throw
from gateway.sdk import ConnectorInputException
from gateway.secrets import mask_with

DONE = Complete('{"a":1}')
FAILED = Fail(2, "m")


def chosen(otherwise: Command = DONE, secret: str = "s3cr3t", /, **members: Any) -> Command:
    return command_for(members, otherwise, mask_with([secret]))


def refusal(**members: Any) -> str:
    with pytest.raises(ConnectorInputException) as caught:
        chosen(**members)
    return str(caught.value)


# ---- bpmnError -------------------------------------------------------------------------------------------------------


def test_a_bpmn_error_has_a_code_and_perhaps_a_message_and_variables() -> None:
    assert chosen(errorType="bpmnError", errorCode="C") == Throw("C", None, "{}")
    assert chosen(errorType="bpmnError", errorCode="C", errorMessage="") == Throw("C", "", "{}")
    assert chosen(errorType="bpmnError", errorCode="C", errorMessage="m", variables={"x": None}) == Throw(
        "C", "m", '{"x":null}'
    )


@pytest.mark.parametrize(("given", "code"), [(404, "404"), (True, "true"), (1.5, "1.5"), ("", "")])
def test_scalars_become_text(given: Any, code: str) -> None:
    command = chosen(errorType="bpmnError", errorCode=given, errorMessage=given)
    assert command == Throw(code, code, "{}")


@pytest.mark.parametrize("otherwise", [DONE, FAILED])
def test_a_bpmn_error_without_a_code_is_no_opinion(otherwise: Command) -> None:
    assert chosen(otherwise, errorType="bpmnError", errorMessage="m") is otherwise
    assert chosen(otherwise, errorType="bpmnError", errorCode=None) is otherwise


def test_its_message_is_masked_and_cut_and_its_code_is_neither() -> None:
    command = chosen(
        errorType="bpmnError", errorCode="s3cr3t", errorMessage="s3cr3t" + "x" * 7000, variables={"v": "s3cr3t"}
    )
    assert isinstance(command, Throw)
    assert command.code == "s3cr3t"
    assert command.message == "***" + "x" * 5997
    assert command.variables == '{"v":"***"}'


# ---- jobError --------------------------------------------------------------------------------------------------------


def test_a_job_error_fails_the_job_as_it_says() -> None:
    command = chosen(
        errorType="jobError", errorMessage="m", retries=2, retryBackoff="PT1M", variables={"a": 1, "error": 2}
    )
    assert isinstance(command, Fail)
    assert (command.retries, command.backoff_ms) == (2, 60_000)
    assert command.message == "m | Error variables: {a=1, error=m}"
    assert jsontext.loads(command.variables or "") == {"a": 1, "error": "m"}


@pytest.mark.parametrize(("given", "retries"), [(3, 3), (-3, 0), (2.9, 2), ("4", 4), (10**30, 2**31 - 1), (0, 0)])
def test_retries_are_a_number_and_not_below_zero(given: Any, retries: int) -> None:
    command = chosen(errorType="jobError", errorMessage="m", retries=given)
    assert isinstance(command, Fail)
    assert command.retries == retries


@pytest.mark.parametrize(
    ("given", "milliseconds"),
    [(None, None), ("PT0S", 0), ("PT1.5S", 1500), ("-PT5S", 0), ("PT9223372036854775807S", 2**63 - 1)],
)
def test_the_backoff_is_a_duration(given: Any, milliseconds: int | None) -> None:
    command = chosen(errorType="jobError", errorMessage="m", retries=1, retryBackoff=given)
    assert isinstance(command, Fail)
    assert command.backoff_ms == milliseconds


def test_its_message_is_masked_and_cut_with_what_follows_it() -> None:
    command = chosen(
        errorType="jobError", errorMessage="s3cr3t " + "x" * 9000, retries=1, variables={"s3cr3t": "s3cr3t"}
    )
    assert isinstance(command, Fail)
    assert len(command.message) == 6000
    assert "s3cr3t" not in command.message + (command.variables or "")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"errorMessage": "m"}, "jobError: 'retries' must be a Number, but got null"),
        ({"errorMessage": "m", "retries": True}, "jobError: 'retries' must be a Number, but got true"),
        ({"retries": 1}, "jobError: 'errorMessage' must be a String, but got null"),
        (
            {"errorMessage": "m", "retries": 1, "retryBackoff": "soon"},
            "jobError: 'retryBackoff' must be an ISO-8601 duration, but got 'soon'",
        ),
    ],
)
def test_a_job_error_by_hand_needs_message_and_retries(members: dict[str, Any], message: str) -> None:
    assert refusal(errorType="jobError", **members) == message


# ---- ignoreError -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("otherwise", [DONE, FAILED])
def test_ignoring_completes_with_its_own_variables_only(otherwise: Command) -> None:
    assert chosen(otherwise, errorType="ignoreError") == Complete("{}")
    assert chosen(otherwise, errorType="ignoreError", variables={"x": 1}) == Complete('{"x":1}')


def test_ignoring_is_not_possible_for_an_ad_hoc_sub_process() -> None:
    done = Complete("{}", AdHocResult())
    assert chosen(done, errorType="ignoreError", variables={"x": 1}) == Fail(
        0, "IgnoreError is not supported for this connector", '{"x":1}'
    )
    assert chosen(done, errorType="bpmnError", errorCode="C") == Throw("C", None, "{}")


# ---- everything else -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {"a": 1},
        {"errorType": "other"},
        {"errorType": None},
        {"errorType": "BPMNERROR", "errorCode": "C"},
        {"errorType": "bpmnError", "errorCode": {"a": 1}},
        {"errorType": "bpmnError", "errorCode": "C", "errorMessage": []},
        {"errorType": "bpmnError", "errorCode": "C", "variables": "x"},
        {"errorType": "jobError", "errorMessage": "m", "retries": "many"},
        {"errorType": "ignoreError", "variables": [1]},
    ],
)
def test_what_is_none_of_the_three_cannot_be_parsed(members: dict[str, Any]) -> None:
    name = "io.camunda.connector.runtime.core.error.ConnectorError"
    assert refusal(**members) == f"Cannot parse '{jsontext.dumps(members)}' as '{name}'."


@pytest.mark.parametrize("kind", ["bpmnError", "jobError", "ignoreError"])
def test_the_size_of_the_variables_is_limited(kind: str) -> None:
    text = refusal(errorType=kind, errorCode="C", errorMessage="m", retries=1, variables={"a": "x" * 1_600_000})
    assert "exceeds the 1.5 MB safe variable size limit" in text
