"""What an error expression chose: a BPMN error, a job error, or to ignore the error."""

from collections.abc import Callable, Mapping
from typing import Any

from gateway import jsontext, secrets
from gateway.durations import MAX_MILLISECONDS, parse_milliseconds
from gateway.outbound.outcome import (
    MAX_VARIABLES,
    Command,
    Complete,
    Fail,
    InputRefused,
    Throw,
    clamped,
    cut,
    failure_message,
    java_text,
    variables_text,
)

NOT_IGNORABLE = "IgnoreError is not supported for this connector"


def command_for(chosen: Mapping[str, Any], otherwise: Command, mask: Callable[[str], str]) -> Command:
    """The command that an error expression's object stands for; `otherwise` when it is no opinion.

    Raises ConnectorInputException for an object that is none of the three.
    """
    kind = chosen.get("errorType")
    if kind == "bpmnError":
        return otherwise if chosen.get("errorCode") is None else _bpmn_error(chosen, mask)
    if kind == "jobError":
        return _job_error(chosen, mask)
    if kind == "ignoreError":
        return _ignore_error(chosen, otherwise)
    raise _unreadable(chosen)


def _unreadable(chosen: Mapping[str, Any]) -> InputRefused:
    return InputRefused(
        f"Cannot parse '{jsontext.dumps(chosen)}' as 'io.camunda.connector.runtime.core.error.ConnectorError'."
    )


def _text(chosen: Mapping[str, Any], name: str) -> str | None:
    """A member that should be text: numbers and booleans become their text, as the original's mapper has it."""
    value = chosen.get(name)
    if isinstance(value, (dict, list)):
        raise _unreadable(chosen)
    return None if value is None else java_text(value, MAX_VARIABLES)


def _bpmn_error(chosen: Mapping[str, Any], mask: Callable[[str], str]) -> Throw:
    message = _text(chosen, "errorMessage")
    return Throw(
        _text(chosen, "errorCode") or "",
        None if message is None else cut(mask(message)),
        variables_text(secrets.mask_tree(_variables(chosen), mask)),
    )


def _job_error(chosen: Mapping[str, Any], mask: Callable[[str], str]) -> Fail:
    message = _text(chosen, "errorMessage")
    if message is None:
        raise InputRefused("jobError: 'errorMessage' must be a String, but got null")
    retries = _retries(chosen)
    message = mask(message)
    variables = {**secrets.mask_tree(_variables(chosen), mask), "error": message}
    return Fail(
        clamped(retries),
        failure_message(message, variables),
        variables_text(variables),
        _backoff_ms(chosen.get("retryBackoff")),
    )


def _retries(chosen: Mapping[str, Any]) -> float:
    given = chosen.get("retries")
    if isinstance(given, str):
        try:
            return int(given.strip())
        except ValueError:
            raise _unreadable(chosen) from None
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise InputRefused(f"jobError: 'retries' must be a Number, but got {jsontext.dumps(given)}")
    return given


def _ignore_error(chosen: Mapping[str, Any], otherwise: Command) -> Command:
    variables = variables_text(_variables(chosen))
    if isinstance(otherwise, Complete) and otherwise.result is not None:
        return Fail(0, NOT_IGNORABLE, variables)
    return Complete(variables)


def _variables(chosen: Mapping[str, Any]) -> Mapping[str, Any]:
    variables = chosen.get("variables")
    if variables is None:
        return {}
    if not isinstance(variables, Mapping):
        raise _unreadable(chosen)
    return variables


def _backoff_ms(value: Any) -> int | None:
    if value is None:
        return None
    try:
        return max(0, min(parse_milliseconds(str(value)), MAX_MILLISECONDS))
    except ValueError:
        raise InputRefused(
            f"jobError: 'retryBackoff' must be an ISO-8601 duration, but got {str(value)[:100]!r}"
        ) from None
