"""From exceptions and results to commands: the `error` object, messages, retries and sizes."""

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from gateway import jsontext
from gateway.http_client import HttpConnectionError, HttpStatusError, HttpTimeout, InvalidUrl
from gateway.outbound.outcome import (
    MAX_MESSAGE,
    MAX_VARIABLES,
    DeadlinePassed,
    ExpressionFailed,
    HeaderInvalid,
    InputRefused,
    clamped,
    cut,
    error_object,
    fail,
    failure_message,
    is_input_error,
    java_text,
    java_type,
    plain,
    retries_after,
    variables_text,
)
from gateway.sdk import ConnectorException, ConnectorInputException, ConnectorRetryException
from gateway.secrets import mask_with

API = "io.camunda.connector.api.error."


def same(text: str) -> str:
    return text


def caused(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except Exception as e:
        return e


# ---- the error object ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ConnectorException("m"), API + "ConnectorException"),
        (ConnectorRetryException("m"), API + "ConnectorRetryException"),
        (ConnectorInputException("m"), API + "ConnectorInputException"),
        (InputRefused("m"), API + "ConnectorInputException"),
        (HttpTimeout(), API + "ConnectorException"),
        (HttpStatusError(404, "Not Found", {}, None), API + "ConnectorException"),
        (InvalidUrl("x", "scheme"), API + "ConnectorInputException"),
        (ExpressionFailed("m"), "io.camunda.connector.feel.FeelEngineWrapperException"),
        (DeadlinePassed("m"), "java.lang.IllegalStateException"),
        (HeaderInvalid("m", "a.b.C"), "a.b.C"),
        (ValueError("m"), "builtins.ValueError"),
    ],
)
def test_the_type_is_the_name_users_match_on(error: Exception, name: str) -> None:
    assert java_type(error) == name
    assert error_object(error, same)["type"] == name


def test_an_own_error_may_name_its_java_type() -> None:
    class NoSuchKey(Exception):  # noqa: N818
        java_type = "software.amazon.awssdk.services.s3.model.NoSuchKeyException"

    assert java_type(NoSuchKey()) == NoSuchKey.java_type


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectorException("m"), {"message": "m"}),
        (ConnectorException("m", code="c"), {"message": "m", "code": "c"}),
        (ConnectorException("m", code=404), {"message": "m", "code": "404"}),  # type: ignore[arg-type]
        (ConnectorException("m", variables={}), {"message": "m", "variables": {}}),
        (ConnectorException("m", variables={"a": [1, None]}), {"message": "m", "variables": {"a": [1, None]}}),
        (ConnectorRetryException("m", code="c"), {"message": "m", "code": "c"}),
        (ConnectorInputException("m"), {"message": "m"}),
        (ValueError(), {"message": ""}),
        (HttpConnectionError(), {"message": str(HttpConnectionError()), "code": "408"}),
        (
            HttpStatusError(404, "Not Found", {"A": "b"}, {"x": 1}),
            {
                "message": "Not Found",
                "code": "404",
                "variables": {"response": {"headers": {"A": "b"}, "body": {"x": 1}}},
            },
        ),
    ],
)
def test_code_and_variables_are_there_only_when_given(error: Exception, expected: dict[str, Any]) -> None:
    found = error_object(error, same)
    del found["type"]
    assert found == expected


def test_message_and_variables_are_masked_and_the_code_is_not() -> None:
    error = ConnectorException("a s3cr3t", code="s3cr3t", variables={"k s3cr3t": ["s3cr3t", 5]})
    assert error_object(error, mask_with(["s3cr3t"])) == {
        "type": API + "ConnectorException",
        "message": "a ***",
        "code": "s3cr3t",
        "variables": {"k ***": ["***", 5]},
    }


def test_the_message_is_masked_before_it_is_cut() -> None:
    found = error_object(ValueError("x" * (MAX_MESSAGE - 3) + "s3cr3t"), mask_with(["s3cr3t"]))["message"]
    assert found == "x" * (MAX_MESSAGE - 3) + "***"


def test_variables_may_hold_anything() -> None:
    circle: dict[str, Any] = {"s": "s3cr3t"}
    circle["again"] = circle
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    for variables, expected in (
        ({"o": object(), "b": b"x"}, {"o": {}, "b": "eA=="}),
        ({"c": circle}, {"c": {"s": "***", "again": "[circular reference]"}}),
        ({"d": deep}, {}),
        ([1, 2], [1, 2]),
    ):
        error = ConnectorException("m", variables=variables)  # type: ignore[arg-type]
        assert error_object(error, mask_with(["s3cr3t"]))["variables"] == expected
    while deep != "x":
        deep = deep[0]


def test_an_exception_that_cannot_say_what_it_is_says_nothing() -> None:
    class Mute(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    assert error_object(Mute(), same)["message"] == ""


# ---- messages --------------------------------------------------------------------------------------------------------


def test_messages_are_cut_as_java_counts_and_never_within_a_character() -> None:
    assert cut("x" * 7000) == "x" * 6000
    assert cut("ü" * 7000) == "ü" * 6000
    assert cut("😀" * 4000) == "😀" * 3000
    assert cut("x" + "😀" * 4000) == "x" + "😀" * 2999
    assert cut("a\ud800b") == "ab"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": {"c": None}}, "{a=1, b={c=null}}"),
        ([1, "x", [True, False]], "[1, x, [true, false]]"),
        ({}, "{}"),
        ([], "[]"),
        ("x", "x"),
        (None, "null"),
        (1.5, "1.5"),
    ],
)
def test_values_are_shown_as_java_does(value: Any, text: str) -> None:
    assert java_text(value, 100) == text


def test_an_incident_names_the_errors_variables_and_is_cut() -> None:
    assert failure_message("m", {"error": {"code": "404"}}) == "m | Error variables: {error={code=404}}"
    assert failure_message("x" * 6000, {"a": 1}) == "x" * 6000
    long = failure_message("m", {"error": {"body": "y" * 10_000}})
    assert len(long) == 6000
    assert long.startswith("m | Error variables: {error={body=yyy")


def test_showing_stops_soon_after_the_limit() -> None:
    assert len(java_text([list(range(1000))] * 1000, 100)) < 1000


# ---- retries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (ValueError(), 2),
        (ConnectorException("m"), 2),
        (HttpTimeout(), 2),
        (ConnectorInputException("m"), 0),
        (InvalidUrl("x", "host"), 0),
        (HeaderInvalid("m", "t"), 0),
        (caused(ValueError(), ConnectorInputException("m")), 0),
        (caused(ConnectorException("m"), ConnectorInputException("m")), 0),
        (caused(ValueError(), caused(ValueError(), ConnectorInputException("m"))), 2),
        (ConnectorRetryException("m"), 2),
        (ConnectorRetryException("m", retries=4), 4),
        (ConnectorRetryException("m", retries=0), 0),
        (ConnectorRetryException("m", retries=-1), -1),
        (caused(ConnectorRetryException("m", retries=5), ConnectorInputException("m")), 5),
    ],
)
def test_how_many_retries_are_left(error: Exception, left: int) -> None:
    assert retries_after(error, 3) == left


def test_an_implicit_cause_does_not_count() -> None:
    error = ValueError()
    error.__context__ = ConnectorInputException("m")
    assert not is_input_error(error)


def test_retries_fit_the_command() -> None:
    assert [clamped(n) for n in (-1, 0, 5, 2.9, 10**30, 1e30)] == [0, 0, 5, 2, 2**31 - 1, 2**31 - 1]


# ---- the failed job --------------------------------------------------------------------------------------------------


def test_a_failed_job_carries_the_error_as_a_variable() -> None:
    failed = {"type": "t", "message": "m", "code": "404"}
    command = fail(ValueError(), failed, retries=-1, backoff_ms=5)
    assert (command.retries, command.backoff_ms) == (0, 5)
    assert command.message == "m | Error variables: {error={type=t, message=m, code=404}}"
    assert jsontext.loads(command.variables or "") == {"error": failed}


@pytest.mark.parametrize("variables", [{"body": "ü" * 900_000}, {"a": "\ud800"}], ids=["large", "surrogate"])
def test_an_error_that_cannot_be_sent_is_sent_without_its_variables(variables: dict[str, Any]) -> None:
    failed = {"type": "t", "message": "m", "variables": variables}
    command = fail(ValueError(), failed, retries=1, backoff_ms=None)
    assert jsontext.loads(command.variables or "") == {"error": {"type": "t", "message": "m"}}
    command.message.encode()


# ---- variables -------------------------------------------------------------------------------------------------------


@dataclass
class Point:
    x: int


class Model(BaseModel):
    y: int


def test_results_are_written_with_what_json_has_no_form_for_as_empty_objects() -> None:
    value = {"o": object(), "f": same, "p": Point(1), "m": Model(y=2), "b": b"x", "n": None, "s": {3}, "i": 10**30}
    expected = {"o": {}, "f": {}, "p": {"x": 1}, "m": {"y": 2}, "b": "eA==", "n": None, "s": [3], "i": 10**30}
    assert jsontext.loads(variables_text(value)) == expected
    assert plain(value) == expected


def test_the_size_is_counted_in_bytes_and_the_limit_itself_passes() -> None:
    frame = len('{"a":""}')
    variables_text({"a": "x" * (MAX_VARIABLES - frame)})
    for value in ("x" * (MAX_VARIABLES - frame + 1), "ü" * (MAX_VARIABLES // 2)):
        with pytest.raises(ConnectorInputException) as caught:
            variables_text({"a": value})
        size = len(value.encode()) + frame
        assert str(caught.value) == (
            f"Output variables payload ({size} bytes) exceeds the 1.5 MB safe variable size limit for Zeebe job completion. "
            "To handle large payloads, enable the 'Create document' option where available."
        )


def test_what_cannot_be_written_is_an_input_error() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for value in (circle, "\ud800"):
        with pytest.raises(ConnectorInputException, match=r"^The result cannot be written as JSON: "):
            variables_text({"a": value})
