"""How a job ends: the three commands, and how failures become one of them. Pure.

Texts and shapes are those of the original's "error" object and failure messages (Camunda docs, "Outbound connectors: error
expression", "BPMN errors and failing jobs"), because users match on them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway import jsontext, sdk
from gateway.documents import default
from gateway.engine import AdHocResult
from gateway.http_client import HttpStatusError
from gateway.secrets import mask_tree

MAX_MESSAGE = 6000
MAX_VARIABLES = 1_572_864
"""Bytes of JSON that are safe to complete a job with: 1.5 MiB."""


@dataclass(frozen=True, slots=True)
class Complete:
    """Completes the job. variables: JSON text."""

    variables: str
    result: AdHocResult | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """Fails the job. variables: JSON text, local to the task."""

    retries: int
    message: str
    variables: str | None = None
    backoff_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Throw:
    """Throws a BPMN error."""

    code: str
    message: str | None
    variables: str


Command = Complete | Fail | Throw


class HeaderInvalid(Exception):  # noqa: N818 - reads as what it is
    """A task header that cannot be used; the connector is not called and the job is not retried."""

    def __init__(self, message: str, java_type: str) -> None:
        super().__init__(message)
        self.java_type = java_type


class ExpressionFailed(Exception):  # noqa: N818
    """A result or error expression could not be evaluated."""

    java_type = "io.camunda.connector.feel.FeelEngineWrapperException"


class InputRefused(sdk.ConnectorInputException):
    """Input errors that the runtime itself finds."""


def too_large(size: int) -> InputRefused:
    """The words for variables over the limit."""
    return InputRefused(
        f"Output variables payload ({size} bytes) exceeds the 1.5 MB safe variable size limit for Zeebe job completion. "
        "To handle large payloads, enable the 'Create document' option where available."
    )


def variables_text(variables: Mapping[str, Any]) -> str:
    """The variables as JSON text; ConnectorInputException over 1.5 MiB."""
    try:
        data = jsontext.dumpb(variables, written)
    except (TypeError, ValueError) as e:
        raise InputRefused(f"The result cannot be written as JSON: {e}") from None
    if len(data) > MAX_VARIABLES:
        raise too_large(len(data))
    return data.decode()


def written(value: Any) -> Any:
    """How results are written: as documents are, and what has no JSON form as an empty object."""
    try:
        return default(value)
    except TypeError:
        return {}


def is_input_error(error: BaseException) -> bool:
    """Whether the job must not be retried: an input error, or one directly behind the error."""
    return isinstance(error, sdk.ConnectorInputException) or isinstance(error.__cause__, sdk.ConnectorInputException)


def java_type(error: BaseException) -> str:
    """`error.type`: the name of the original's class where there is one, else Python's."""
    if isinstance(error, HttpStatusError):
        return sdk.ConnectorException.java_type
    named = getattr(error, "java_type", None)
    return named if isinstance(named, str) else f"{type(error).__module__}.{type(error).__qualname__}"


def error_object(error: BaseException, mask: Callable[[str], str]) -> dict[str, Any]:
    """`{type, message, code?, variables?}`: the message masked and cut, the variables masked, the code as it is."""
    found: dict[str, Any] = {"type": java_type(error), "message": mask(str(error))[:MAX_MESSAGE]}
    code, variables = None, None
    if isinstance(error, sdk.ConnectorException):
        code, variables = error.code, error.variables
    elif isinstance(error, HttpStatusError):
        code, variables = str(error.status), error.variables
    if code is not None:
        found["code"] = code
    if variables is not None:
        found["variables"] = mask_tree(plain(variables), mask)
    return found


def plain(value: Any) -> Any:
    """A value as plain JSON data: documents as references, models as objects, the rest as `written`.

    A value that holds itself, or nothing JSON can carry, is returned as it is: masking knows how to deal with it.
    """
    try:
        return jsontext.loads(jsontext.dumps(value, written))
    except (TypeError, ValueError, RecursionError):
        return value


def failure_message(message: str, variables: Mapping[str, Any]) -> str:
    """What an incident says: the message, then the error's variables in Java's notation; at most 6000 characters."""
    if len(message) >= MAX_MESSAGE:
        return message[:MAX_MESSAGE]
    return f"{message} | Error variables: {java_text(variables, MAX_MESSAGE)}"[:MAX_MESSAGE]


def java_text(value: Any, limit: int) -> str:
    """A value as Java's `toString` writes it: `{a=1, b=[x, null]}`. Stops soon after `limit` characters."""
    parts: list[str] = []
    _java_text(value, parts, [limit])
    return "".join(parts)


def _java_text(value: Any, parts: list[str], left: list[int]) -> None:
    if left[0] <= 0:
        return
    if isinstance(value, Mapping):
        _java_items(value.items(), parts, left)
    elif isinstance(value, (list, tuple)):
        _put("[", parts, left)
        for n, item in enumerate(value):
            if left[0] <= 0:
                break
            if n:
                _put(", ", parts, left)
            _java_text(item, parts, left)
        _put("]", parts, left)
    else:
        _put(_java_scalar(value), parts, left)


def _java_items(items: Any, parts: list[str], left: list[int]) -> None:
    _put("{", parts, left)
    for n, (key, item) in enumerate(items):
        if left[0] <= 0:
            break
        _put(f", {key}=" if n else f"{key}=", parts, left)
        _java_text(item, parts, left)
    _put("}", parts, left)


def _put(text: str, parts: list[str], left: list[int]) -> None:
    parts.append(text)
    left[0] -= len(text)


def _java_scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def fail(error: BaseException, failed: Mapping[str, Any], *, retries: int, backoff_ms: int | None) -> Fail:
    """The failJob command for an error whose `error` object is `failed`."""
    variables = {"error": failed}
    text = jsontext.dumps(variables, written)
    if len(text) > MAX_VARIABLES:  # the response in it is too large to be kept: the incident still says what happened
        text = jsontext.dumps({"error": {k: v for k, v in failed.items() if k != "variables"}}, written)
    return Fail(max(retries, 0), failure_message(failed["message"], variables), text, backoff_ms)


def retries_after(error: BaseException, retries: int) -> int:
    """How many retries a job has left after an error."""
    if is_input_error(error) or isinstance(error, HeaderInvalid):
        return 0
    if isinstance(error, sdk.ConnectorRetryException) and error.retries is not None:
        return error.retries
    return retries - 1
