"""What an error expression chose: a BPMN error, a job error, or to ignore the error."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from gateway import jsontext, secrets
from gateway.durations import parse_milliseconds
from gateway.outbound.outcome import (
    MAX_MESSAGE,
    Command,
    Complete,
    Fail,
    InputRefused,
    Throw,
    failure_message,
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
    raise InputRefused(
        f"Cannot parse '{jsontext.dumps(chosen)}' as 'io.camunda.connector.runtime.core.error.ConnectorError'."
    )


def _bpmn_error(chosen: Mapping[str, Any], mask: Callable[[str], str]) -> Throw:
    message = chosen.get("errorMessage")
    return Throw(
        str(chosen["errorCode"]),
        None if message is None else mask(str(message))[:MAX_MESSAGE],
        variables_text(secrets.mask_tree(_variables(chosen), mask)),
    )


def _job_error(chosen: Mapping[str, Any], mask: Callable[[str], str]) -> Fail:
    message, retries = chosen.get("errorMessage"), chosen.get("retries")
    if not isinstance(message, str):
        raise InputRefused(f"jobError: 'errorMessage' must be a String, but got {json.dumps(message)}")
    if isinstance(retries, bool) or not isinstance(retries, (int, float)):
        raise InputRefused(f"jobError: 'retries' must be a Number, but got {json.dumps(retries)}")
    message = mask(message)
    variables = {**secrets.mask_tree(_variables(chosen), mask), "error": message}
    return Fail(
        max(0, int(retries)),
        failure_message(message, variables),
        variables_text(variables),
        _backoff_ms(chosen.get("retryBackoff")),
    )


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
        raise InputRefused(f"{chosen.get('errorType')}: 'variables' must be a Context")
    return variables


def _backoff_ms(value: Any) -> int | None:
    if value is None:
        return None
    try:
        return max(0, parse_milliseconds(str(value)))
    except ValueError:
        raise InputRefused(
            f"jobError: 'retryBackoff' must be an ISO-8601 duration, but got {str(value)[:100]!r}"
        ) from None
