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
from gateway.http_client import HttpError, HttpInputError
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

    def again(self) -> "HeaderInvalid":
        """The same error to be raised: one that is kept must not be, it would collect the tracebacks of all jobs."""
        return HeaderInvalid(str(self), self.java_type)


class DeadlinePassed(Exception):  # noqa: N818
    """The job's own timeout had run out before the connector could be called."""

    java_type = "java.lang.IllegalStateException"


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
    except TypeError as e:
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


_INPUT_ERRORS = (sdk.ConnectorInputException, HttpInputError)


def is_input_error(error: BaseException) -> bool:
    """Whether the job must not be retried: an input error, or one directly behind the error."""
    return isinstance(error, _INPUT_ERRORS) or isinstance(error.__cause__, _INPUT_ERRORS)


def java_type(error: BaseException) -> str:
    """`error.type`: the name of the original's class where there is one, else Python's."""
    if isinstance(error, HttpError):
        kind = sdk.ConnectorInputException if isinstance(error, HttpInputError) else sdk.ConnectorException
        return kind.java_type
    named = getattr(error, "java_type", None)
    return named if isinstance(named, str) else f"{type(error).__module__}.{type(error).__qualname__}"


def error_object(error: BaseException, mask: Callable[[str], str]) -> dict[str, Any]:
    """`{type, message, code?, variables?}`: the message masked and cut, the variables masked, the code as it is."""
    found: dict[str, Any] = {"type": java_type(error), "message": cut(mask(message_of(error)))}
    if not isinstance(error, (sdk.ConnectorException, HttpError)):
        return found
    if error.code is not None:
        found["code"] = java_text(error.code, MAX_MESSAGE)
    if error.variables is not None:
        found["variables"] = _masked(error.variables, mask)
    return found


def _masked(variables: Any, mask: Callable[[str], str]) -> Any:
    data = plain(variables)
    try:
        masked = mask_tree(data, mask)
        return plain(masked) if data is variables else masked
    except RecursionError:
        return {}


def message_of(error: BaseException) -> str:
    """What an exception says; nothing when it cannot say it."""
    try:
        return str(error)
    except Exception:
        return ""


def cut(text: str) -> str:
    """At most 6000 characters as Java counts them, without halves of a pair: such text could not be sent."""
    if text.isascii():
        return text[:MAX_MESSAGE]
    return text.encode("utf-16-le", "surrogatepass")[: 2 * MAX_MESSAGE].decode("utf-16-le", "ignore")


def plain(value: Any) -> Any:
    """A value as plain JSON data: documents as references, models as objects, the rest as `written`.

    A value that holds itself, or that JSON cannot carry, is returned as it is: masking knows how to deal with it.
    """
    try:
        return jsontext.loads(jsontext.dumps(value, written))
    except (TypeError, ValueError):
        return value


def failure_message(message: str, variables: Mapping[str, Any]) -> str:
    """What an incident says: the message, then the error's variables in Java's notation; at most 6000 characters."""
    return cut(f"{cut(message)} | Error variables: {java_text(variables, MAX_MESSAGE)}")


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
    data = _sendable(variables)
    if data is None:  # what is in it is too large or cannot be written: the incident still says what happened
        data = jsontext.dumpb({"error": {k: v for k, v in failed.items() if k in {"type", "message"}}})
    return Fail(clamped(retries), failure_message(failed["message"], variables), data.decode(), backoff_ms)


def _sendable(variables: Mapping[str, Any]) -> bytes | None:
    try:
        data = jsontext.dumpb(variables, written)
    except TypeError:
        return None
    return data if len(data) <= MAX_VARIABLES else None


def clamped(retries: float) -> int:
    """Retries as a command can carry them: 32 bits, and not below zero."""
    return int(max(0, min(retries, (1 << 31) - 1)))


def retries_after(error: BaseException, retries: int) -> int:
    """How many retries a job has left after an error."""
    if isinstance(error, sdk.ConnectorRetryException):
        return retries - 1 if error.retries is None else error.retries
    if is_input_error(error) or isinstance(error, HeaderInvalid):
        return 0
    return retries - 1
