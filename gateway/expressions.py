"""Result and error expressions: their contexts, the functions that only they know, and what may come out of them.

Sources: Camunda docs, "Connectors: response mapping", "BPMN errors and failing jobs" (`bpmnError`, `jobError`, `ignoreError`),
"Back-off", "createDocument". Compiled once per element; the job and the event flow share them.
"""

import base64
import math
import mimetypes
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any

from gateway import feel, jsontext, sdk
from gateway.documents import OCTET_STREAM, Document, Documents

FORBIDDEN = "camunda.function.type"
_MAX_CONTEXT = 2000

Upload = Callable[[Any], Awaitable[Any]]
"""Stores what `createDocument` was given, and returns the reference."""


class ExpressionError(Exception):
    """The expression does not parse or its evaluation failed; the text names expression, context and reason.

    reason: the cause alone, without the data that the expression saw.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = message if reason is None else reason


class NotAnObject(ExpressionError):  # noqa: N818 - reads as what it is
    """The expression gave something else than an object, or something that must not leave it."""


# ---- the connector functions -----------------------------------------------------------------------------------------


def _refuse(parameter: str, function: str, kind: str) -> feel.FeelEvaluationError:
    return feel.FeelEvaluationError(f"Parameter '{parameter}' of function '{function}' must be a {kind}")


def _want(value: Any, kinds: type | tuple[type, ...], parameter: str, function: str, kind: str) -> Any:
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise _refuse(parameter, function, kind)
    return value


_NOTHING: Mapping[str, Any] = {}


def _bpmn_error(*given: Any) -> dict[str, Any]:
    result = {"errorType": "bpmnError", "errorCode": _want(given[0], str, "errorCode", "bpmnError", "String")}
    if len(given) > 1:
        result["errorMessage"] = _want(given[1], str, "errorMessage", "bpmnError", "String")
    if len(given) > 2:
        result["variables"] = _want(given[2], Mapping, "variables", "bpmnError", "Context")
    return result


_NO_DELAY = feel.DaysTime(0)


def _job_error(message: Any, variables: Any = _NOTHING, retries: Any = 0, backoff: Any = _NO_DELAY) -> dict[str, Any]:
    name = "jobError"
    return {
        "errorType": name,
        "errorMessage": _want(message, str, "errorMessage", name, "String"),
        "variables": _want(variables, Mapping, "variables", name, "Context"),
        "retries": _want(retries, (int, Decimal), "retries", name, "Number"),
        "retryBackoff": _want(backoff, feel.DaysTime, "retryBackoff", name, "DayTimeDuration"),
    }


def _ignore_error(*given: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"errorType": "ignoreError"}
    if given:
        result["variables"] = _want(given[0], Mapping, "variables", "ignoreError", "Context")
    return result


_DEFAULT_BACKOFF = (feel.DaysTime(50_000_000), Decimal("1.6"), feel.DaysTime(5_000_000_000), Decimal("0.1"))


def _backoff(attempt: Any, *given: Any) -> feel.DaysTime:
    name = "backoff"
    low, factor, high, jitter = given + _DEFAULT_BACKOFF[len(given) :]
    _want(attempt, (int, Decimal), "attempt", name, "Number")
    _want(low, feel.DaysTime, "minDelay", name, "DayTimeDuration")
    _want(factor, (int, Decimal), "factor", name, "Number")
    _want(high, feel.DaysTime, "maxDelay", name, "DayTimeDuration")
    _want(jitter, (int, Decimal), "jitterFactor", name, "Number")
    if attempt < 1:
        raise feel.FeelEvaluationError(f"backoff(): 'attempt' must be >= 1, but was {attempt}")
    if factor <= 0:
        raise feel.FeelEvaluationError(f"backoff(): 'factor' must be > 0, but was {factor}")
    if low.nanos > high.nanos:
        raise feel.FeelEvaluationError(
            f"backoff(): 'minDelay' must be <= 'maxDelay', but was {low.iso()} and {high.iso()}"
        )
    if jitter < 0:
        raise feel.FeelEvaluationError(f"backoff(): 'jitterFactor' must be >= 0, but was {jitter}")
    try:
        growth = float(factor) ** (float(attempt) - 1)
    except OverflowError:
        growth = math.inf
    nanos = min(max(float(low.nanos) * growth, low.nanos), high.nanos) if low.nanos else 0.0
    nanos += nanos * float(jitter) * random.uniform(-1, 1)  # noqa: S311 - spreads load, protects nothing
    return feel.DaysTime(max(0, round(nanos / 1_000_000)) * 1_000_000)


class DocumentToCreate:
    """What `createDocument` gives inside of an evaluation: a Python object, so that no response data can pose as one.

    FEEL lets callables pass through contexts and lists as they are, and turns other objects into text: hence `__call__`.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self) -> None:
        raise feel.FeelEvaluationError("a document that is to be created is no function")


def _overloads(name: str, parameters: tuple[str, ...], least: int, function: Callable[..., Any]) -> list[feel.Function]:
    return [feel.Function(name, parameters[:n], function) for n in range(least, len(parameters) + 1)]


FUNCTIONS = [
    *_overloads("bpmnError", ("errorCode", "errorMessage", "variables"), 1, _bpmn_error),
    *_overloads("jobError", ("errorMessage", "variables", "retries", "retryBackoff"), 1, _job_error),
    *_overloads("ignoreError", ("variables",), 0, _ignore_error),
    *_overloads("backoff", ("attempt", "minDelay", "factor", "maxDelay", "jitterFactor"), 1, _backoff),
    feel.Function("createDocument", ("value",), DocumentToCreate),
]


# ---- expressions -----------------------------------------------------------------------------------------------------


class _Expression:
    """A header's expression, compiled when the element is first seen. A text that does not parse fails each evaluation."""

    kind = "Expression"

    def __init__(self, text: str) -> None:
        self._written = text.strip()
        self.text = self._written.removeprefix("=").strip()
        self._creates = "createDocument" in self.text
        self._compiled: feel.Expression | None = None
        self._invalid: feel.FeelError | None = None
        try:
            self._compiled = feel.parse(self.text, functions=FUNCTIONS)
        except feel.FeelError as e:
            self._invalid = e

    async def evaluate(self, context: Mapping[str, Any], upload: Upload | None) -> tuple[dict[str, Any], str] | None:
        """The object that the expression gives, as JSON values and as JSON text; None for null.

        Raises ExpressionError, NotAnObject.

        Documents to create are stored after the shape of the result was checked, never before.
        """
        if self._compiled is None:
            raise self._error(context, str(self._invalid))
        try:
            value = self._compiled.evaluate(context)
        except feel.FeelError as e:
            raise self._error(context, getattr(e, "reason", None) or str(e)) from None
        if value is None:
            return None
        if isinstance(value, DocumentToCreate):
            raise NotAnObject(f"{self.kind} must not be a bare createDocument(...) call: put it inside of an object")
        if not isinstance(value, Mapping):
            kind, shown = _found(value)
            reason = f"{self.kind} must return a JSON object, but got {kind}"
            raise NotAnObject(str(self._error(context, f"{reason}{shown}")), reason)
        try:
            if self._creates:
                value = await _store(value, upload)
            result: dict[str, Any] = feel.to_json(value)
            text = jsontext.dumps(result)
        except (TypeError, RecursionError):
            raise NotAnObject(f"{self.kind} evaluated to a value that cannot be written as JSON") from None
        if FORBIDDEN in text:  # response data must not become a call of a function where it is bound later
            raise NotAnObject(f"{self.kind} evaluated to a value with the forbidden literal '{FORBIDDEN}'")
        return result, text

    def _error(self, context: Mapping[str, Any], reason: str) -> ExpressionError:
        shown = _shown(context)
        if len(shown) > _MAX_CONTEXT:
            shown = f"{shown[:_MAX_CONTEXT]}...(truncated)"
        return ExpressionError(
            f"Failed to evaluate expression '{self._written}' in context '{shown}'. Reason: {reason}", reason
        )


class ResultExpression(_Expression):
    """The header `resultExpression`: maps a connector's response to variables."""

    kind = "Result expression"


class ErrorExpression(_Expression):
    """The header `errorExpression`: decides whether a response or a failure becomes another outcome."""

    kind = "Error expression"


def response_context(response: Any) -> dict[str, Any]:
    """What a result expression sees: the members of an object response, and the response itself as `response`."""
    if isinstance(response, Mapping):
        return {**response, "response": response}
    return {"response": response}


def error_context(result: Any, retries: int) -> dict[str, Any]:
    """What an error expression sees: as `response_context`, and the retries the job has left as `job.retries`."""
    return response_context(result) | {"job": {"retries": retries}}


async def create_document(value: Any, documents: Documents) -> Document:
    """What `createDocument` stores: base64 text, or `{content | data, name | fileName, contentType}`.

    Raises ConnectorInputException for anything else, EngineError when the store does not take it.
    """
    if isinstance(value, str):
        value = {"content": value}
    if not isinstance(value, Mapping):
        raise sdk.ConnectorInputException("createDocument: expected base64 text or an object with 'content'")
    content = value.get("content")
    if content is None:
        content = value.get("data")
    if not isinstance(content, str):
        raise sdk.ConnectorInputException("createDocument: 'content' must be base64 text")
    try:
        data = base64.b64decode("".join(content.split()), validate=True)
    except ValueError:
        raise sdk.ConnectorInputException("createDocument: 'content' is no valid base64") from None
    name = str(value.get("name") or value.get("fileName") or uuid.uuid4())
    kind = str(value.get("contentType") or mimetypes.guess_type(name)[0] or OCTET_STREAM)
    return await documents.create(data, content_type=kind, file_name=name)


async def _store(value: Any, upload: Upload | None) -> Any:
    if isinstance(value, DocumentToCreate):
        if upload is None:
            raise NotAnObject("createDocument: there is no document store here")
        return await upload(feel.to_json(value.value))
    if isinstance(value, Mapping):
        return {k: await _store(v, upload) for k, v in value.items()}
    if isinstance(value, list):
        return [await _store(v, upload) for v in value]
    return value


def _found(value: Any) -> tuple[str, str]:
    """The words for a result that is no object: its kind, and the value, which may be somebody's secret."""
    try:
        found = feel.to_json(value)
    except RecursionError:
        return "array", ""
    return _json_kind(found), f". Evaluated value: {_shown(found)}"


def _json_kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "number"


def _shown(value: Any) -> str:
    try:
        return jsontext.dumps(value, str)
    except TypeError:
        return type(value).__name__
