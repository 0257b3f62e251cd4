"""Correlation: which element an event is for, what variables it becomes, and the one command that carries it to the engine.

Source: the original's correlation of events ("Inbound connectors" and "Connectors: response mapping" in Camunda's docs). All that
does not depend on the event is done once: expressions are compiled, and elements with the same text share them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import structlog

from gateway import engine as port
from gateway import feel, jsontext, sdk
from gateway.documents import Documents, default
from gateway.expressions import (
    FORBIDDEN,
    ExpressionError,
    NotAnObject,
    ResultExpression,
    Upload,
    create_document,
    response_context,
)
from gateway.sdk import InboundElement, Outcome, Point

log = structlog.get_logger(__name__)

MAX_VARIABLES = 1_572_864
"""Bytes of JSON that an event's variables may have: 1.5 MiB."""

START_OR_CORRELATE = "inbound.startOrCorrelate"
"""Property that lets an event start an instance only when none waits for it; on any element of the executable."""

_CONDITION_FAILED = "Failed to evaluate activation condition against the provided input"
_SEVERAL = "Multiple connectors are activated for the same input"


class _InvalidEvent(Exception):  # noqa: N818 - reads as what it is
    """The event cannot be used as the process says; becomes InvalidInput."""


class _NotStored(Exception):  # noqa: N818
    """A document that the event is to become cannot be stored."""


# ---- what is known of an element -------------------------------------------------------------------------------------


class _Expression:
    """A FEEL expression over events. A text that does not parse fails each evaluation, with the reason."""

    __slots__ = ("_compiled", "_invalid")

    def __init__(self, text: str) -> None:
        self._invalid = ""
        self._compiled: feel.Expression | None = None
        try:
            compiled = feel.parse(text.strip().removeprefix("=").strip())
            feel.names(compiled)  # compiles it: nothing is left to do for the first event
            self._compiled = compiled
        except feel.FeelParseError as e:
            self._invalid = f"{e.reason} at line {e.line}, column {e.column}"

    def __call__(self, event: Mapping[str, Any]) -> Any:
        """The value for an event. Raises FeelError."""
        if self._compiled is None:
            raise feel.FeelEvaluationError(self._invalid)
        return self._compiled.evaluate(event)


class _Mapping:
    """How an element makes variables of an event: `resultVariable` and `resultExpression`."""

    __slots__ = ("_before", "_expression", "_variable")

    def __init__(self, variable: str | None, expression: str | None) -> None:
        self._variable = variable
        self._before = "" if variable is None else f"{{{jsontext.dumps(variable)}:"
        self._expression = ResultExpression(expression) if expression is not None else None

    async def variables(self, event: sdk.Event, upload: Upload) -> str:
        """The variables as JSON text, each part of it written once. Raises what `Correlator` makes outcomes of."""
        text = "{}"
        if self._variable is not None:
            text = f"{self._before}{_written(event)}}}"
        if self._expression is not None:
            found = await self._expression.evaluate(response_context(event), upload)
            if found is not None and found[0]:
                mapped, mapped_text = found
                joined = self._variable is not None and self._variable not in mapped
                text = f"{text[:-1]},{mapped_text[1:]}" if joined else mapped_text
        return _sized(text)


_expression = lru_cache(maxsize=4096)(_Expression)
_mapping = lru_cache(maxsize=4096)(_Mapping)


@dataclass(frozen=True, slots=True)
class _Route:
    """One element with all that its events need. signature: what message elements must have in common to stand for each other."""

    element: InboundElement
    mapping: _Mapping
    key: _Expression | None
    message_id: _Expression | None
    time_to_live_ms: int
    signature: tuple[object, ...] | None

    def correlation_key(self, event: sdk.Event) -> str | None:
        """The key as text; None when there is none: no expression, a failing one, null, a list."""
        if self.key is None:
            return None
        try:
            return _text(self.key(event))
        except (feel.FeelError, TypeError, RecursionError):
            return None

    def required_key(self, event: sdk.Event) -> str:
        """As `correlation_key`. A start event's message needs none, any other must have one, else _InvalidEvent."""
        key = self.correlation_key(event)
        if key is not None:
            return key
        if self.element.point is Point.MESSAGE_START:
            return ""
        raise _InvalidEvent(
            "Wasn't able to obtain correlation key for expression "
            f"{self.element.correlation_key_expression!r} of element '{self.element.element_id}'"
        )

    def identity(self, event: sdk.Event, given: str | None) -> str:
        """The message id: the element's expression before the connector's own; blank switches the engine's check off."""
        if self.message_id is None:
            return given or ""
        try:
            value = self.message_id(event)
            found = _text(value)
        except (feel.FeelError, TypeError, RecursionError) as e:
            raise _InvalidEvent(self._failed("messageIdExpression", e)) from None
        if found is None and value is not None:
            raise _InvalidEvent(self._failed("messageIdExpression", "expected text, but got a list"))
        return found or ""

    def _failed(self, name: str, reason: object) -> str:
        return f"{name} of element '{self.element.element_id}' failed: {_reason(reason)}"


_Routes = tuple[_Route, ...]


# ---- the correlator --------------------------------------------------------------------------------------------------


class Correlator:
    """Gives events to the process, for the elements of one executable. Made anew when they change.

    default_ttl_ms: how long the engine keeps a message without `messageTtl`; result_timeout_ms: how long an instance that is started
    with `synchronousResponse` may take. start_or_correlate: an event that a start event and message elements both want goes to an
    instance that waits for it, and starts one only when none does; also switched on by the property `inbound.startOrCorrelate`.
    """

    def __init__(
        self,
        elements: Sequence[InboundElement],
        *,
        engine: port.Engine,
        documents: Documents,
        default_ttl_ms: int = 3_600_000,
        result_timeout_ms: int = 10_000,
        start_or_correlate: bool = False,
    ) -> None:
        self._engine = engine
        self._documents = documents
        self._result_timeout_ms = result_timeout_ms
        self._start_or_correlate = start_or_correlate or any(
            element.properties.get(START_OR_CORRELATE, "").strip().lower() == "true" for element in elements
        )
        self._unmatched = sdk.ActivationConditionNotMet(any(element.consume_unmatched for element in elements))
        self._conditions = _by_condition(_routes(elements, default_ttl_ms))

    def choose(self, event: sdk.Event) -> InboundElement | Outcome:
        """The element that an event is for, or the outcome where there is none, or no single one."""
        found = self._chosen(event)
        return found if isinstance(found, Outcome) else found[0].element

    def check(self, event: sdk.Event) -> Outcome | None:
        """None when an element takes the event, else the outcome it would have."""
        found = self._chosen(event)
        return found if isinstance(found, Outcome) else None

    async def correlate(self, event: sdk.Event, id: str | None = None, /) -> Outcome:  # noqa: A002
        """What becomes of the event. One command, sent once: whoever wants another attempt gives the event again.

        id: the message id where the element names none. Never raises but for cancellation.
        """
        try:
            found = self._chosen(event)
            if isinstance(found, Outcome):
                return found
            if len(found) == 1:
                return await self._carry(found[0], event, id)
            return await self._start_unless_waiting(found[0], found[1], event, id)
        except port.EngineError as e:
            return sdk.EngineRefused(status_name(e), str(e))
        except _InvalidEvent as e:
            return sdk.InvalidInput(str(e))
        except NotAnObject as e:
            return sdk.InvalidInput(e.reason)
        except ExpressionError as e:
            return sdk.CorrelationFailed(f"Failed to evaluate the result expression: {_reason(e.reason)}")
        except _NotStored as e:
            return sdk.CorrelationFailed(str(e))
        except Exception as e:
            log.exception("an event cannot be correlated")
            return sdk.CorrelationFailed(f"{type(e).__name__} while correlating an event")

    # ---- choosing ----

    def _chosen(self, event: sdk.Event) -> _Routes | Outcome:
        """The one route for an event; two where an instance that waits (first) goes before a new one (second)."""
        found: list[_Route] = []
        for condition, routes in self._conditions:
            try:
                if condition is None or condition(event) is True:
                    found += routes
            except feel.FeelError as e:
                names = ", ".join(f"'{route.element.element_id}'" for route in routes)
                return sdk.InvalidInput(f"{_CONDITION_FAILED}: element {names}: {_reason(e)}")
        if len(found) == 1:
            return (found[0],)
        return self._one_of(found) if found else self._unmatched

    def _one_of(self, found: list[_Route]) -> _Routes | Outcome:
        messages = [route for route in found if route.signature is not None]
        starts = [route for route in found if route.signature is None]
        alike = len({route.signature for route in messages}) == 1
        if alike and not starts:
            return (messages[0],)
        if self._start_or_correlate and alike and len(starts) == 1:
            return messages[0], starts[0]
        if starts:
            reason = "a start event shares it with others" if messages else "several start events"
        else:
            reason = f"message elements that differ in {_difference(messages)}"
        names = ", ".join(f"'{route.element.element_id}' of version {route.element.version}" for route in found[:10])
        return sdk.InvalidInput(f"{_SEVERAL}: {reason}: {names}")

    # ---- commands ----

    async def _upload(self, value: Any) -> Any:
        """Stores what `createDocument` was given."""
        try:
            return (await create_document(value, self._documents)).reference()
        except sdk.ConnectorInputException as e:
            raise _InvalidEvent(str(e)) from None
        except port.TransientError:
            raise  # the engine is away, and nothing is wrong with the event
        except port.EngineError as e:
            raise _NotStored(f"A document cannot be stored: {e}") from None

    async def _carry(self, route: _Route, event: sdk.Event, given: str | None) -> Outcome:
        """Sends the command of a route. What can refuse the event comes before what stores documents."""
        if route.element.point is Point.START:
            return await self._start(route, await route.mapping.variables(event, self._upload))
        key = route.required_key(event)
        if route.element.synchronous_response:
            return await self._to_waiting(route, key, await route.mapping.variables(event, self._upload))
        identity = route.identity(event, given)
        return await self._publish(route, key, identity, await route.mapping.variables(event, self._upload))

    async def _start_unless_waiting(
        self, waiting: _Route, start: _Route, event: sdk.Event, given: str | None
    ) -> Outcome:
        """To the instance that waits for the event's key; a new one when the engine knows for certain that none does."""
        key = waiting.correlation_key(event)
        if key is not None:
            variables = await waiting.mapping.variables(event, self._upload)
            try:
                return await self._to_waiting(waiting, key, variables)
            except port.NotFound:
                if start.mapping is waiting.mapping and start.element.point is Point.START:
                    return await self._start(start, variables)
        return await self._carry(start, event, given)

    async def _start(self, route: _Route, variables: str) -> Outcome:
        element = route.element
        if element.synchronous_response:
            ended = await self._engine.create_process_instance_with_result(
                bpmn_process_id=element.bpmn_process_id,
                version=element.version,
                variables=variables,
                tenant_id=element.tenant_id,
                request_timeout_ms=self._result_timeout_ms,
            )
            result = jsontext.loads(ended.variables or "{}")
            return sdk.ProcessInstanceCreatedWithResult(element, ended.process_instance_key, ended.tenant_id, result)
        made = await self._engine.create_process_instance(
            bpmn_process_id=element.bpmn_process_id,
            version=element.version,
            variables=variables,
            tenant_id=element.tenant_id,
        )
        return sdk.ProcessInstanceCreated(element, made.process_instance_key, made.tenant_id)

    async def _publish(self, route: _Route, key: str, identity: str, variables: str) -> Outcome:
        element = route.element
        try:
            message_key = await self._engine.publish_message(
                name=element.message_name or "",
                correlation_key=key,
                time_to_live_ms=route.time_to_live_ms,
                message_id=identity,
                variables=variables,
                tenant_id=element.tenant_id,
            )
        except port.AlreadyExists:
            return sdk.MessageAlreadyCorrelated(element)
        return sdk.MessagePublished(element, message_key, element.tenant_id)

    async def _to_waiting(self, route: _Route, key: str, variables: str) -> Outcome:
        element = route.element
        reached = await self._engine.correlate_message(
            name=element.message_name or "", correlation_key=key, variables=variables, tenant_id=element.tenant_id
        )
        return sdk.MessageCorrelated(element, reached.process_instance_key, reached.message_key, reached.tenant_id)


# ---- once per element ------------------------------------------------------------------------------------------------


def _routes(elements: Sequence[InboundElement], default_ttl_ms: int) -> list[_Route]:
    found: list[_Route] = []
    for element in elements:
        key = element.correlation_key_expression
        if element.point is Point.MESSAGE_START and not (key and key.strip()):
            key = None
        identity = element.message_id_expression
        route = _Route(
            element=element,
            mapping=_mapping((element.result_variable or "").strip() or None, element.result_expression),
            key=None if key is None else _expression(key),
            message_id=None if identity is None else _expression(identity),
            time_to_live_ms=default_ttl_ms if element.message_ttl_ms is None else element.message_ttl_ms,
            signature=_signature(element) if element.point is Point.MESSAGE else None,
        )
        found.append(route)
    return found


_SIGNED = ("resultExpression", "resultVariable", "correlationKeyExpression", "messageIdExpression", "messageTtl")


def _signature(element: InboundElement) -> tuple[object, ...]:
    return element.message_name, *map(element.properties.get, _SIGNED)


def _difference(routes: Sequence[_Route]) -> str:
    first = routes[0].signature or ()
    names = ("message name", *_SIGNED)
    return ", ".join(
        name for n, name in enumerate(names) if any((route.signature or ())[n] != first[n] for route in routes)
    )


def _by_condition(routes: Sequence[_Route]) -> list[tuple[_Expression | None, _Routes]]:
    """The routes by the text of their condition, so that each is evaluated once per event; the order is kept where it counts."""
    found: dict[str | None, list[_Route]] = {}
    for route in routes:
        found.setdefault(route.element.activation_condition, []).append(route)
    return [(None if text is None else _expression(text), tuple(same)) for text, same in found.items()]


# ---- values ----------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str | None:
    """A FEEL value as the text of a key: objects as JSON; None for null and for lists."""
    kind = type(value)
    if kind is str or value is None:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return str(value)
    plain = feel.to_json(value)
    if plain is None or isinstance(plain, str):
        return plain
    return None if isinstance(plain, list) else jsontext.dumps(plain)


def _written(event: sdk.Event) -> str:
    try:
        text = jsontext.dumps(event, default)
    except TypeError as e:
        raise _InvalidEvent(f"The event cannot be written as JSON: {e}") from None
    if FORBIDDEN in text:  # what a stranger sends must not become a call of a function where it is bound later
        raise _InvalidEvent(f"The event holds the forbidden literal '{FORBIDDEN}'")
    return text


def _sized(variables: str) -> str:
    if len(variables) > MAX_VARIABLES // 4 and (size := len(variables.encode())) > MAX_VARIABLES:
        raise _InvalidEvent(
            f"The variables of the event ({size} bytes) exceed the limit of {MAX_VARIABLES} bytes: let resultExpression take less "
            "of it, or store what is large with createDocument"
        )
    return variables


def _reason(found: object) -> str:
    """The cause of a failure in few words, without the data it failed on."""
    text = str(getattr(found, "reason", None) or found)
    return text if len(text) <= 300 else f"{text[:300]}..."


_STATUS: dict[type[port.EngineError], str] = {
    port.Unavailable: "UNAVAILABLE",
    port.DeadlineExceeded: "DEADLINE_EXCEEDED",
    port.ResourceExhausted: "RESOURCE_EXHAUSTED",
    port.Aborted: "ABORTED",
    port.NotFound: "NOT_FOUND",
    port.AlreadyExists: "ALREADY_EXISTS",
    port.InvalidArgument: "INVALID_ARGUMENT",
    port.FailedPrecondition: "FAILED_PRECONDITION",
    port.Unauthenticated: "UNAUTHENTICATED",
    port.PermissionDenied: "PERMISSION_DENIED",
    port.Unimplemented: "UNIMPLEMENTED",
    port.EngineFailure: "INTERNAL",
}


def status_name(error: port.EngineError) -> str:
    """The gRPC status name of an engine's error, however it came."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), "UNKNOWN")
