"""What there is at run time: instances of elements and processes, jobs, incidents, messages. Data with few verbs."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from gateway.engine.embedded.clock import Due
from gateway.engine.embedded.definition import Definition, Node

HISTORY_PER_INSTANCE = 10_000
_Entity = TypeVar("_Entity")


class State(StrEnum):
    ACTIVE = "ACTIVE"
    COMPLETING = "COMPLETING"
    COMPLETED = "COMPLETED"
    TERMINATED = "TERMINATED"

    @property
    def is_open(self) -> bool:
        return self in _OPEN


_OPEN = frozenset({State.ACTIVE, State.COMPLETING})


class ElementInstance:
    """An element at work. `tokens` are the flows into its inside that have not become an instance yet: queued or waiting
    at a joining gateway. A scope without tokens and children is done. A new `epoch` makes the tokens of before void.
    """

    __slots__ = (
        *("key", "node", "parent", "process", "state", "variables", "children", "tokens", "epoch", "joins", "job"),
        *("waits", "incident", "started_ms", "ended_ms"),
    )

    def __init__(self, key: int, node: Node, parent: "ElementInstance | None", started_ms: int) -> None:
        self.key = key
        self.node = node
        self.parent = parent
        self.process: ProcessInstance = parent.process if parent is not None else self  # type: ignore[assignment]
        self.state = State.ACTIVE
        self.variables: dict[str, Any] = {}
        self.children: dict[int, ElementInstance] = {}
        self.tokens = 0
        self.epoch = 0
        self.joins: dict[str, dict[str, int]] | None = None
        self.job: Job | None = None
        self.waits: list[Wait] = []
        self.incident: Incident | None = None
        self.started_ms = started_ms
        self.ended_ms: int | None = None

    @property
    def is_scope(self) -> bool:
        return bool(self.node.children)

    def visible(self) -> Mapping[str, Any]:
        """The variables as seen from here: those of inner scopes hide those of outer ones. Not to be changed."""
        if self.parent is None:
            return self.variables
        outer = self.parent.visible()
        return {**outer, **self.variables} if self.variables else outer

    def locate(self, name: str) -> "ElementInstance":
        """The nearest scope that has the variable, else the process."""
        scope = self
        while scope.parent is not None and name not in scope.variables:
            scope = scope.parent
        return scope


class ProcessInstance(ElementInstance):
    """The outermost scope, and what belongs to the whole instance."""

    __slots__ = (
        "definition",
        "elements",
        "incidents",
        "jobs",
        "on_completion",
        "start_lock",
        "subscriptions",
        "tenant_id",
    )

    def __init__(self, key: int, definition: Definition, started_ms: int) -> None:
        super().__init__(key, definition.root, None, started_ms)
        self.definition = definition
        self.tenant_id = definition.tenant_id
        self.elements: list[ElementInstance] = []
        self.jobs: list[Job] = []
        self.incidents: list[Incident] = []
        self.subscriptions: list[Wait] = []
        self.on_completion: list[Callable[[ProcessInstance], None]] = []
        self.start_lock: tuple[str, str, str] | None = None

    @property
    def has_incident(self) -> bool:
        return any(incident.is_open for incident in self.incidents)

    def remember(self, element: ElementInstance) -> None:
        """Keeps the element for searches; of an instance that loops for ever, the open and the newest ones of all there is."""
        self.elements.append(element)
        if len(self.elements) > HISTORY_PER_INSTANCE:
            self.elements = _newest(self.elements, lambda one: one.state.is_open)
            self.jobs = _newest(self.jobs, lambda one: one.is_open)
            self.incidents = _newest(self.incidents, lambda one: one.is_open)
            self.subscriptions = _newest(self.subscriptions, lambda one: one.is_open)


def _newest(entities: list[_Entity], is_open: Callable[[_Entity], bool]) -> list[_Entity]:
    """The second half, and what is open of the first."""
    half = len(entities) // 2
    return [one for one in entities[:half] if is_open(one)] + entities[half:]


class JobState(StrEnum):
    ACTIVATABLE = "ACTIVATABLE"
    ACTIVATED = "ACTIVATED"
    BACKING_OFF = "BACKING_OFF"
    FAILED = "FAILED"
    ERROR_THROWN = "ERROR_THROWN"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


class Job:
    """A job from its creation to its end; `due` is its lease or its back-off."""

    __slots__ = (
        *("key", "type", "element", "retries", "headers", "state", "worker", "deadline_ms", "due", "tenant_id"),
        *("error_message", "error_code", "created_ms", "ended_ms"),
    )

    def __init__(
        self, key: int, type_: str, element: ElementInstance, retries: int, headers: str, created_ms: int
    ) -> None:
        self.key = key
        self.type = type_
        self.element = element
        self.retries = retries
        self.headers = headers
        self.state = JobState.ACTIVATABLE
        self.worker = ""
        self.deadline_ms = 0
        self.due: Due | None = None
        self.tenant_id = element.process.tenant_id
        self.error_message: str | None = None
        self.error_code: str | None = None
        self.created_ms = created_ms
        self.ended_ms: int | None = None

    @property
    def is_open(self) -> bool:
        return self.ended_ms is None


class Incident:
    """Why an element does not go on. `retry` is what resolving it does."""

    __slots__ = ("created_ms", "element", "error_message", "error_type", "job", "key", "resolved_ms", "retry")

    def __init__(
        self,
        key: int,
        element: ElementInstance,
        error_type: str,
        error_message: str,
        retry: Callable[[], None],
        created_ms: int,
        job: Job | None = None,
    ) -> None:
        self.key = key
        self.element = element
        self.error_type = error_type
        self.error_message = error_message
        self.retry = retry
        self.job = job
        self.created_ms = created_ms
        self.resolved_ms: int | None = None

    @property
    def is_open(self) -> bool:
        return self.resolved_ms is None


class Wait:
    """What an instance waits for: `target` is the element itself or one of its boundary events. One of `due`, for a timer,
    and `message_name` is set.
    """

    __slots__ = ("correlation_key", "due", "element", "is_open", "key", "message_name", "state", "target", "updated_ms")

    def __init__(self, key: int, element: ElementInstance, target: Node, now_ms: int) -> None:
        self.key = key
        self.element = element
        self.target = target
        self.is_open = True
        self.due: Due | None = None
        self.message_name: str | None = None
        self.correlation_key = ""
        self.state = "CREATED"
        self.updated_ms = now_ms


class Message:
    """A message from its publication to the end of its time to live. It reaches each process once."""

    __slots__ = ("correlated", "correlation_key", "expires_ms", "key", "message_id", "name", "tenant_id", "variables")

    def __init__(
        self, key: int, name: str, correlation_key: str, variables: dict[str, Any], tenant_id: str, message_id: str
    ) -> None:
        self.key = key
        self.name = name
        self.correlation_key = correlation_key
        self.variables = variables
        self.tenant_id = tenant_id
        self.message_id = message_id
        self.expires_ms = 0
        self.correlated: set[str] = set()
