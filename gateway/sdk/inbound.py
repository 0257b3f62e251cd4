"""What the author of an inbound connector sees: elements, outcomes, the context, the declaration.

Names and results are those of the original's correlation ("Inbound connectors: correlation" in Camunda's docs).
"""

import enum
import inspect
import math
from collections.abc import Awaitable, Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeVar, get_type_hints

from pydantic import BaseModel

from gateway.documents import Documents
from gateway.sdk.errors import ConnectorInputException
from gateway.webhooks import WebhookRequest

if TYPE_CHECKING:
    from gateway.http_client import HttpClient

Event = Mapping[str, Any]
"""An event as the process sees it: its members are the names in expressions. JSON values and documents."""

Settings = type[BaseModel]

_M = TypeVar("_M", bound=BaseModel)

# ---- elements --------------------------------------------------------------------------------------------------------


class Point(enum.Enum):
    """What an event does at an element."""

    START = "start"  # creates an instance of the element's own version
    MESSAGE_START = "message start"  # publishes a message that starts an instance
    MESSAGE = "message"  # publishes a message to a waiting instance


@dataclass(frozen=True, slots=True)
class InboundElement:
    """One element that waits for events, in one version of a process. `properties` are raw: no secrets, no FEEL evaluated."""

    element_id: str
    element_name: str | None
    kind: str  # the BPMN tag: `startEvent`, ...
    point: Point
    bpmn_process_id: str
    process_name: str | None
    version: int
    process_definition_key: int
    tenant_id: str
    properties: Mapping[str, str] = field(hash=False)
    message_name: str | None = None
    message_ttl_ms: int | None = None
    attached_to: str | None = None
    in_event_sub_process: bool = False
    template_id: str | None = None
    template_version: str | None = None
    template_icon: str | None = None

    @property
    def type(self) -> str:
        """The connector type."""
        return self.properties["inbound.type"]

    @property
    def activation_condition(self) -> str | None:
        """The FEEL condition under which an event is for this element; blank counts as absent."""
        own = self.properties.get("activationCondition")
        return _given(own) or _given(self.properties.get("inbound.activationCondition"))

    @property
    def correlation_key_expression(self) -> str | None:
        return self.properties.get("correlationKeyExpression")

    @property
    def message_id_expression(self) -> str | None:
        return _given(self.properties.get("messageIdExpression"))

    @property
    def consume_unmatched(self) -> bool:
        return self.properties.get("consumeUnmatchedEvents", "").strip().lower() == "true"

    @property
    def synchronous_response(self) -> bool:
        return self.properties.get("synchronousResponse", "").strip().lower() == "true"

    @property
    def result_variable(self) -> str | None:
        return _given(self.properties.get("resultVariable"))

    @property
    def result_expression(self) -> str | None:
        return _given(self.properties.get("resultExpression"))


def _given(text: str | None) -> str | None:
    return text if text and text.strip() else None


@dataclass(frozen=True, slots=True)
class ElementInstance:
    """An element that a process instance waits at now. `message_id`: for one message to this very instance."""

    key: int
    element: InboundElement
    process_instance_key: int

    @property
    def message_id(self) -> str:
        return f"{self.element.element_id}{self.key}"


# ---- outcomes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an event. One of:

        Outcome                              done     retryable
        ├── ProcessInstanceCreated           yes
        ├── ProcessInstanceCreatedWithResult yes
        ├── MessagePublished                 yes
        ├── MessageCorrelated                yes
        ├── MessageAlreadyCorrelated         yes
        ├── ActivationConditionNotMet        if the elements consume unmatched events; else no, not retryable
        ├── InvalidInput                     no       no
        ├── EngineRefused                    no       yes
        └── CorrelationFailed                no       yes

    done: acknowledge the event, it need not come again. retryable: the same event may have another outcome later.
    """

    _done: ClassVar[bool] = False
    retryable: ClassVar[bool] = False

    @property
    def done(self) -> bool:
        return self._done

    def correlation(self) -> dict[str, Any] | None:
        """What response expressions see as `correlation`: keys and tenant of what the event did; None if it did nothing."""
        return None


def _activated(element: InboundElement, **facts: Any) -> dict[str, Any]:
    """The facts of a correlation, and where in which process it happened; no properties: they may hold secrets."""
    return facts | {
        "activatedElement": {
            "elementId": element.element_id,
            "elementName": element.element_name,
            "elementType": element.kind,
            "bpmnProcessId": element.bpmn_process_id,
            "processName": element.process_name,
            "version": element.version,
            "processDefinitionKey": element.process_definition_key,
            "tenantId": element.tenant_id,
        }
    }


@dataclass(frozen=True, slots=True)
class ProcessInstanceCreated(Outcome):
    """An instance was started at `element`."""

    _done: ClassVar[bool] = True
    element: InboundElement
    process_instance_key: int
    tenant_id: str

    def correlation(self) -> dict[str, Any]:
        return _activated(self.element, processInstanceKey=self.process_instance_key, tenantId=self.tenant_id)


@dataclass(frozen=True, slots=True)
class ProcessInstanceCreatedWithResult(Outcome):
    """An instance was started at `element` and has ended; `variables` are its variables then."""

    _done: ClassVar[bool] = True
    element: InboundElement
    process_instance_key: int
    tenant_id: str
    variables: Mapping[str, Any]

    def correlation(self) -> dict[str, Any]:
        key, tenant = self.process_instance_key, self.tenant_id
        return _activated(self.element, processInstanceKey=key, tenantId=tenant, variables=self.variables)


@dataclass(frozen=True, slots=True)
class MessagePublished(Outcome):
    """The engine took the message and will correlate it within its time to live."""

    _done: ClassVar[bool] = True
    element: InboundElement
    message_key: int
    tenant_id: str

    def correlation(self) -> dict[str, Any]:
        return _activated(self.element, messageKey=self.message_key, tenantId=self.tenant_id)


@dataclass(frozen=True, slots=True)
class MessageCorrelated(Outcome):
    """The message reached a process instance."""

    _done: ClassVar[bool] = True
    element: InboundElement
    process_instance_key: int
    message_key: int
    tenant_id: str

    def correlation(self) -> dict[str, Any]:
        instance, message = self.process_instance_key, self.message_key
        return _activated(self.element, processInstanceKey=instance, messageKey=message, tenantId=self.tenant_id)


@dataclass(frozen=True, slots=True)
class MessageAlreadyCorrelated(Outcome):
    """The engine has a message with this name, correlation key and id: the event came twice."""

    _done: ClassVar[bool] = True
    element: InboundElement


@dataclass(frozen=True, slots=True)
class ActivationConditionNotMet(Outcome):
    """No element wants the event. Done if unmatched events are to be consumed."""

    consume_unmatched: bool

    @property
    def done(self) -> bool:
        return self.consume_unmatched


@dataclass(frozen=True, slots=True)
class InvalidInput(Outcome):
    """The event cannot be used as the process says, now or later."""

    message: str


@dataclass(frozen=True, slots=True)
class EngineRefused(Outcome):
    """The engine refused the command, or was not there. status: a gRPC status name, `UNAVAILABLE` for example."""

    retryable: ClassVar[bool] = True
    status: str
    message: str

    @property
    def away(self) -> bool:
        """Whether the engine, not the event, is the trouble: another event would fare no better now."""
        return self.status in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"}


@dataclass(frozen=True, slots=True)
class CorrelationFailed(Outcome):
    """Anything else: a result expression that fails, a document that cannot be stored."""

    retryable: ClassVar[bool] = True
    message: str


# ---- context ---------------------------------------------------------------------------------------------------------

Status = Literal["UP", "DOWN", "UNKNOWN"]
Severity = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Again = Callable[[Outcome, int], float | None]
"""After an outcome and the number of attempts so far: seconds until the event is tried again, None for no more."""


class Delivery(Protocol):
    """An event under way. Awaiting it gives its outcome; it never raises but when it is cancelled."""

    def __await__(self) -> Generator[Any, None, Outcome]: ...

    def done(self) -> bool:
        """Whether the outcome is there."""

    def result(self) -> Outcome:
        """The outcome, once it is there. Raises CancelledError when the event was given up."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Calls back with the delivery when the outcome is there, in the event loop."""


class Window(Protocol):
    """At most so many events under way. Leaving the block waits for those that are."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def emit(
        self,
        event: Event,
        *,
        id: str | None = None,  # noqa: A002
        key: Hashable = None,
        again: Again | None = None,
    ) -> Delivery:
        """Waits for a free place, then sends the event on its way. RuntimeError once the block is being left.

        id: the message id, by which the engine drops what comes twice. key: events of one key are handled in the order they were
        emitted, one after the other; None: in no order. again: tries the event again, in its place, as long as it says so.
        """

    def statistics(self) -> Mapping[str, float]:
        """`limit`, `in_use`, `waiting`."""


class InboundContext(Protocol):
    """What an inbound connector works with; made for one executable."""

    @property
    def elements(self) -> Sequence[InboundElement]:
        """The elements that share this executable, at least one. They may change while it runs: don't keep them."""

    @property
    def tenant_id(self) -> str: ...

    @property
    def deduplication_id(self) -> str: ...

    @property
    def executable_id(self) -> str: ...

    @property
    def http(self) -> "HttpClient": ...

    @property
    def documents(self) -> Documents: ...

    def window(self, size: int) -> Window:
        """A window for at most `size` events under way."""

    async def correlate(self, event: Event, *, id: str | None = None, log: bool = True) -> Outcome:  # noqa: A002
        """Gives one event to the process and waits for the outcome. One command to the engine, never sent twice.

        log: whether the outcome goes to the activity log; it is counted in any case.
        """

    def check(self, event: Event) -> Outcome | None:
        """Whether an element would take the event: None if so, else the outcome it would have. Sends nothing."""

    def log(self, severity: Severity, tag: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        """An entry of the activity log, which the status API shows; also written to the process's log."""

    def report_health(
        self,
        status: Status,
        *,
        error: BaseException | str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """States how the executable fares. Equal to what was reported last: nothing happens."""

    async def sleep(self, seconds: float) -> None:
        """Waits, on the clock that tests can put forward."""

    async def instances(self) -> Sequence[ElementInstance]:
        """The element instances that wait now at this executable's elements; asks the engine. Raises EngineError."""

    async def bind(self, model: type[_M], instance: ElementInstance) -> _M:
        """The element's properties as a model, FEEL evaluated with the variables of the instance.

        Raises ConnectorInputException when they do not fit, or a secret is missing; EngineError.
        """

    async def evaluate(self, element: InboundElement, name: str, context: Mapping[str, Any]) -> Any:
        """The value of an element's FEEL property for a context, secrets in its text replaced; None without the property.

        Compiled once. Raises ConnectorInputException, which names property and reason.
        """

    def first_time(self, key: str, seconds: float) -> bool:
        """Whether this key is seen for the first time within so many seconds; it is remembered from now on.

        The memory is bounded and shared by all executables: put into the key what tells yours apart. `forget` takes it back.
        """

    def forget(self, key: str) -> None: ...


# ---- connectors ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class WebhookResponse:
    """What a webhook answers. body: bytes as they are, text, None for nothing, anything else as JSON.

    Text is escaped for HTML unless the Content-Type in `headers` says XML: what a sender sends in must not run in a browser.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """The usual answer for an outcome: 200 without a body when the event is done, else what went wrong.

        Where the engine is away the sender is asked to come again, and learns nothing of where it should be.
        """
        if outcome.done:
            return cls()
        match outcome:
            case ActivationConditionNotMet():
                return cls(422, {"consumeUnmatched": False})
            case InvalidInput(message=message):
                return cls(422, {"message": message})
            case EngineRefused(status=status, message=message):
                inner = outcome.away or status in {"UNKNOWN", "INTERNAL", "DATA_LOSS", "UNAUTHENTICATED"}
                body = {"status": status, "message": "The engine did not take the event" if inner else message}
                return cls(_HTTP_STATUS.get(status, 422), body, {"Retry-After": "5"} if outcome.away else {})
            case _:
                return cls(500)

    @classmethod
    def described(cls, value: Any) -> Self:
        """The answer that an expression describes: `{body, headers, statusCode}`, each may be missing; null is 200 without a body.

        Raises ConnectorInputException when it describes none.
        """
        if value is None:
            return cls()
        if not isinstance(value, Mapping):
            raise ConnectorInputException(f"expected {{body, headers, statusCode}}, but got {type(value).__name__}")
        status, headers = _whole(value.get("statusCode")), value.get("headers") or {}
        if not isinstance(headers, Mapping) or any(isinstance(each, (Mapping, list)) for each in headers.values()):
            raise ConnectorInputException("headers: expected an object of texts")
        texts = {str(name): _text(each) for name, each in headers.items() if each is not None}
        return cls(200 if status is None else status, value.get("body"), texts)


def _whole(value: Any) -> int | None:
    """A number as JSON or text writes it."""
    if value is None or type(value) is int:
        return value
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not number.is_integer():
        raise ConnectorInputException("statusCode: expected a whole number")
    return int(number)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_HTTP_STATUS: Mapping[str, int] = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 412,
    "ABORTED": 409,
    "OUT_OF_RANGE": 416,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""gRPC status names as HTTP statuses, as the original answers them."""


@dataclass(frozen=True, slots=True)
class InboundConnector:
    """A registered inbound connector. Calling it calls the function, so that a connector stays testable as one.

    deduplication: the property names (each with all nested below) that tell two executables apart; None: all but the runtime's own.
    """

    name: str
    type: str
    function: Callable[..., Awaitable[Any]]
    settings: Settings | None
    arguments: tuple[tuple[str, str], ...]  # parameter name to "settings", "context", "request"
    webhook: bool = False
    deduplication: tuple[str, ...] | None = None
    description: str = ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def inbound_connector(
    name: str,
    *,
    type: str,  # noqa: A002 - the BPMN's own word
    deduplication: Sequence[str] | None = None,
) -> Callable[[Callable[..., Awaitable[None]]], InboundConnector]:
    """Declares an inbound connector: an `async def` that runs until it is cancelled.

    Its parameters, found by their annotations: a pydantic model, bound once from the element's properties; the `InboundContext`.
    It is started when a process with such an element is deployed, started again with a growing delay when it raises or returns,
    and cancelled when the process goes or the gateway stops. Until it reports otherwise its health is unknown.
    name: the key of `CONNECTOR_<NAME>_TYPE`; type: the property `inbound.type`.
    """

    def declare(function: Callable[..., Awaitable[None]]) -> InboundConnector:
        return _declared(function, name, type, deduplication, webhook=False)

    return declare


def webhook_connector(
    name: str,
    *,
    type: str,  # noqa: A002
    deduplication: Sequence[str] | None = None,
) -> Callable[[Callable[..., Awaitable[WebhookResponse]]], InboundConnector]:
    """Declares a webhook connector: an `async def` from a `WebhookRequest` to a `WebhookResponse`, called for each request to
    the path that the element's property `inbound.context` names.

    Its parameters, found by their annotations: the `WebhookRequest`; a pydantic model, bound once from the element's
    properties; the `InboundContext`. It raises `WebhookRefused` for what it does not take; anything else is a 500 without a text.
    """

    def declare(function: Callable[..., Awaitable[WebhookResponse]]) -> InboundConnector:
        return _declared(function, name, type, deduplication, webhook=True)

    return declare


def _declared(
    function: Callable[..., Awaitable[Any]],
    name: str,
    type_: str,
    deduplication: Sequence[str] | None,
    *,
    webhook: bool,
) -> InboundConnector:
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{_named(function)} must be an async def")
    hints = get_type_hints(function)
    settings: Settings | None = None
    arguments: list[tuple[str, str]] = []
    for parameter in inspect.signature(function).parameters:
        annotation = hints.get(parameter)
        if annotation is InboundContext:
            arguments.append((parameter, "context"))
        elif webhook and annotation is WebhookRequest:
            arguments.append((parameter, "request"))
        elif inspect.isclass(annotation) and issubclass(annotation, BaseModel) and settings is None:
            settings = annotation
            arguments.append((parameter, "settings"))
        else:
            wanted = "a pydantic model (one), an InboundContext" + (" or a WebhookRequest" if webhook else "")
            raise TypeError(f"{_named(function)}: parameter '{parameter}' must be {wanted}, but is {annotation!r}")
    scope = None if deduplication is None else tuple(deduplication)
    return InboundConnector(
        name, type_, function, settings, tuple(arguments), webhook, scope, inspect.getdoc(function) or ""
    )


def _named(function: Any) -> str:
    return str(getattr(function, "__qualname__", function))
