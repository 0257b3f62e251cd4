"""One executable: an inbound connector at work for the elements that share it, started, watched and started again.

It is what the connector sees as its `InboundContext`. A failure stays inside it: its health says what is wrong, and it is tried
again with a growing delay. Source: the original's executables ("Inbound connectors: lifecycle" in Camunda's docs).
"""

import asyncio
import contextlib
import enum
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog
from pydantic import BaseModel

from gateway import sdk
from gateway.documents import Documents
from gateway.engine import Engine
from gateway.http_client import HttpClient
from gateway.inbound.activity import ActivityLog
from gateway.inbound.deduplication import Group
from gateway.inbound.memory import Memory
from gateway.inbound.window import EventWindow
from gateway.limits import Backoff, Permits
from gateway.observe import InboundMeters
from gateway.sdk.inbound import Severity, Status
from gateway.webhooks import WebhookRefused, WebhookRequest

log = structlog.get_logger(__name__)

_STEADY_SECONDS = 60.0  # who ran that long before it failed starts again at the shortest delay
_STOP_SECONDS = 5.0
_ABORT_SECONDS = 2.0
_ABORTS = 4
_PAGE = 200

_M = TypeVar("_M", bound=BaseModel)


class State(enum.Enum):
    """What an executable is at."""

    STARTING = "starting"
    ACTIVATED = "activated"
    QUEUED = "queued"  # a webhook whose path another executable has
    FAILED = "failed to activate"  # and will be tried again
    PAUSED = "paused"
    CANCELLED = "cancelled"  # until it is reset
    BLOCKED = "blocked"  # by a failed neighbour, where activation is all or nothing
    NOT_REGISTERED = "connector not registered"
    INVALID = "invalid definition"
    STOPPED = "stopped"


class Correlation(Protocol):
    """How events reach the process; made for the elements of one executable."""

    def check(self, event: sdk.Event) -> sdk.Outcome | None: ...

    async def correlate(self, event: sdk.Event, message_id: str | None = None, /) -> sdk.Outcome: ...


class Binding(Protocol):
    """How raw properties become what a connector works with. Raises ConnectorInputException, EngineError."""

    async def bind(
        self, model: type[_M], element: sdk.InboundElement, instance: sdk.ElementInstance | None = None
    ) -> _M: ...

    async def evaluate(self, element: sdk.InboundElement, name: str, context: Mapping[str, Any]) -> Any: ...


class Paths(Protocol):
    """Who has which webhook path."""

    def register(self, executable: Any) -> None:
        """Gives it its path, or a place in the queue for it; tells by `activated()` or `queued()`. ConnectorInputException."""

    def deregister(self, executable: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Environment:
    """What all executables share."""

    engine: Engine
    http: HttpClient
    documents: Documents
    binding: Binding
    correlation: Callable[[Sequence[sdk.InboundElement]], Correlation]
    permits: Permits
    memory: Memory
    paths: Paths | None
    mask: Callable[[str], str] = str
    log_size: int = 100
    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(slots=True)
class Statistics:
    """Liveness of one executable, on the wall clock in seconds; None where it never happened."""

    last_event: float | None = None
    activations: int = 0
    failures: int = 0
    window: EventWindow | None = None


class Executable:
    """One executable. `start`, `stop` and the rest are called by the supervisor, from the event loop."""

    def __init__(
        self,
        group: Group,
        connector: sdk.InboundConnector | None,
        environment: Environment,
        meters: InboundMeters,
        activity: ActivityLog | None = None,
    ) -> None:
        self._group = group
        self._connector = connector
        self._environment = environment
        self._meters = meters
        self._correlation = environment.correlation(group.elements)
        self._task: asyncio.Task[None] | None = None
        self._settings: BaseModel | None = None
        self._again = asyncio.Event()
        self._counted = False
        self.state = State.STARTING
        self.activation_timestamp: float | None = None
        self.statistics = Statistics()
        self.activity = activity or ActivityLog(
            environment.log_size,
            {
                "executable": group.executable_id,
                "type": group.first.type,
                "process": group.first.bpmn_process_id,
                "elements": [element.element_id for element in group.elements],
            },
            mask=environment.mask,
            now=environment.wall,
        )

    # ---- the InboundContext ----

    @property
    def group(self) -> Group:
        return self._group

    @property
    def connector(self) -> sdk.InboundConnector | None:
        return self._connector

    @property
    def elements(self) -> Sequence[sdk.InboundElement]:
        return self._group.elements

    @property
    def tenant_id(self) -> str:
        return self._group.first.tenant_id

    @property
    def deduplication_id(self) -> str:
        return self._group.deduplication_id

    @property
    def executable_id(self) -> str:
        return self._group.executable_id

    @property
    def http(self) -> HttpClient:
        return self._environment.http

    @property
    def documents(self) -> Documents:
        return self._environment.documents

    def window(self, size: int) -> EventWindow:
        window = EventWindow(size, lambda event, ident: self.correlate(event, id=ident), self._environment.sleep)
        self.statistics.window = window
        return window

    async def correlate(
        self,
        event: sdk.Event,
        *,
        id: str | None = None,  # noqa: A002
        log: bool = True,
    ) -> sdk.Outcome:
        """Gives an event to the process, within the bounds that all executables share."""
        self.statistics.last_event = self._environment.wall()
        self._meters.triggered()
        permits = self._environment.permits
        await permits.take()
        try:
            outcome = await self._correlation.correlate(event, id)
        finally:
            permits.give_back()
        self._count(outcome)
        if log:
            self._note(outcome)
        return outcome

    def check(self, event: sdk.Event) -> sdk.Outcome | None:
        outcome = self._correlation.check(event)
        if outcome is not None:
            self.statistics.last_event = self._environment.wall()
            self._meters.triggered()
            self._count(outcome)
            self._note(outcome)
        return outcome

    def log(self, severity: Severity, tag: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        self.activity.add(severity, tag, message, data)

    def report_health(
        self,
        status: Status,
        *,
        error: BaseException | str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.activity.report(status, error=error, details=details)

    async def sleep(self, seconds: float) -> None:
        await self._environment.sleep(seconds)

    async def instances(self) -> Sequence[sdk.ElementInstance]:
        found: dict[int, sdk.ElementInstance] = {}
        for element in self.elements:
            after: str | None = None
            while True:
                page = await self._environment.engine.search(
                    "element-instances",
                    filter={
                        "processDefinitionKey": str(element.process_definition_key),
                        "elementId": element.attached_to or element.element_id,
                        "state": "ACTIVE",
                    },
                    limit=_PAGE,
                    after=after,
                )
                for item in page.items:
                    key = int(item["elementInstanceKey"])
                    found[key] = sdk.ElementInstance(key, element, int(item["processInstanceKey"]))
                after = page.end_cursor
                if not page.items or not after or len(page.items) < _PAGE:
                    break
        return list(found.values())

    async def bind(self, model: type[_M], instance: sdk.ElementInstance) -> _M:
        return await self._environment.binding.bind(model, instance.element, instance)

    async def evaluate(self, element: sdk.InboundElement, name: str, context: Mapping[str, Any]) -> Any:
        return await self._environment.binding.evaluate(element, name, context)

    def first_time(self, key: str, seconds: float) -> bool:
        return self._environment.memory.first_time(key, seconds)

    def forget(self, key: str) -> None:
        self._environment.memory.forget(key)

    # ---- outcomes ----

    def _count(self, outcome: sdk.Outcome) -> None:
        if outcome.done and not isinstance(outcome, sdk.ActivationConditionNotMet):
            self._meters.correlated()
        elif isinstance(outcome, sdk.ActivationConditionNotMet):
            self._meters.activation_condition_failed()
        else:
            self._meters.correlation_failed()

    def _note(self, outcome: sdk.Outcome) -> None:
        """Writes an outcome down."""
        severity: Severity = "INFO"
        data: dict[str, Any] | None = None
        match outcome:
            case sdk.ProcessInstanceCreatedWithResult(process_instance_key=key):
                words, data = "Process instance created with result", {"processInstanceKey": str(key)}
            case sdk.ProcessInstanceCreated(process_instance_key=key):
                words, data = "Process instance created", {"processInstanceKey": str(key)}
            case sdk.MessagePublished(message_key=key):
                words, data = "Message published", {"messageKey": str(key)}
            case sdk.MessageCorrelated(process_instance_key=key):
                words, data = "Message correlated to process instance", {"processInstanceKey": str(key)}
            case sdk.MessageAlreadyCorrelated():
                words = "Message already correlated"
            case sdk.ActivationConditionNotMet():
                severity, words = "WARNING", "Activation condition not met"
            case sdk.EngineRefused(status=status, message=message):
                severity, words = "ERROR", f"The engine refused the event: {status}: {message}"
            case sdk.InvalidInput(message=message) | sdk.CorrelationFailed(message=message):
                severity, words = "ERROR", message
            case _:
                return
        self.activity.add(severity, "Correlation", words, data, source="RUNTIME")

    # ---- life ----

    def start(self) -> None:
        """Starts it, unless it cannot be started: an invalid definition, a connector that is not here."""
        if self._group.invalid is not None:
            self._rest(State.INVALID, f"Invalid connector definition: {self._group.invalid}")
        elif self._connector is None or (self._connector.webhook and self._environment.paths is None):
            self._rest(State.NOT_REGISTERED, f"Connector {self._group.first.type} not registered")
        else:
            self.state = State.STARTING
            self._task = asyncio.create_task(self._supervise(), name=f"inbound {self._group.first.element_id}")

    async def stop(self, state: State = State.STOPPED, grace: float = _STOP_SECONDS) -> None:
        """Ends it: within `grace` seconds for what is under way, and two more for a connector that cleans up slowly."""
        task, self._task = self._task, None
        active, self._counted = self._counted or self.state is State.QUEUED, False
        self.state = state
        if task is not None:
            task.cancel()
            _, late = await asyncio.wait({task}, timeout=grace)
            aborts = _ABORTS if late else 0
            for _ in range(aborts):  # a second one ends the wait for events under way; some clean up in steps
                task.cancel()
                _, late = await asyncio.wait({task}, timeout=min(grace, _ABORT_SECONDS) / _ABORTS)
                if not late:
                    break
            if late:
                self.activity.add(
                    "ERROR", "Lifecycle", "The connector does not end when it is cancelled", source="RUNTIME"
                )
        if active:
            self._meters.deactivated()
            self.activity.add("INFO", "Lifecycle", f"Deactivated: {state.value}", source="RUNTIME")

    def figures(self) -> Mapping[str, float]:
        """Liveness and window, by the names of `gateway.observe.INBOUND_STATISTICS`."""
        now, found = self._environment.wall(), {}
        if self.statistics.last_event is not None:
            found["seconds_since_last_event"] = now - self.statistics.last_event
        if self.activity.last_error is not None:
            found["seconds_since_last_error"] = now - self.activity.last_error
        if self.statistics.window is not None:
            window = self.statistics.window.statistics()
            found |= {f"window_{name}": window[name] for name in ("limit", "in_use", "waiting")}
        return found

    def hasten(self) -> None:
        """Tries again now what waits after a failure."""
        self._again.set()

    def swap(self, group: Group) -> None:
        """Takes over a group that differs in nothing that the running connector has bound."""
        self._correlation = self._environment.correlation(group.elements)  # raises before anything is replaced
        self._group = group
        self.activity.add("INFO", "Lifecycle", "Updated configuration", source="RUNTIME")

    def rest(self, state: State, reason: str | None = None) -> None:
        """Marks one that was stopped, and why it does not run."""
        self._rest(state, reason or f"The executable is {state.value}")

    def _rest(self, state: State, reason: str) -> None:
        self.state = state
        self.activity.report("DOWN", error=reason, details=None)

    async def _supervise(self) -> None:
        backoff = Backoff(1.0, 60.0)
        while True:
            began = self._environment.now()
            self._again.clear()
            try:
                await self._run()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # A library's own cancelled task came out of it: nobody has cancelled this.
                self._failed(sdk.ConnectorException("The connector was cancelled from within"))
            except Exception as e:
                self._failed(e)
            if self._environment.now() - began > _STEADY_SECONDS:
                backoff.reset()
            await self._wait(backoff.next())

    async def _run(self) -> None:
        """Binds the settings and runs the connector until it ends or is cancelled."""
        connector = self._connector
        assert connector is not None
        self._settings = None
        if connector.settings is not None:
            self._settings = await self._environment.binding.bind(connector.settings, self._group.first)
        if connector.webhook:
            await self._serve()
        self.activated()
        arguments = {name: self._settings if kind == "settings" else self for name, kind in connector.arguments}
        await connector.function(**arguments)
        raise sdk.ConnectorException("The connector has ended by itself")

    async def _serve(self) -> None:
        paths = self._environment.paths
        assert paths is not None
        paths.register(self)
        try:
            await asyncio.Event().wait()
        finally:
            paths.deregister(self)

    def activated(self) -> None:
        """It works from now on. For webhooks: it has its path."""
        self.state = State.ACTIVATED
        self.activation_timestamp = self._environment.wall()
        self.statistics.activations += 1
        if not self._counted:  # a source that reconnects by being started again is activated once
            self._counted = True
            self._meters.activated()
            self.activity.add("INFO", "Lifecycle", "Activated", source="RUNTIME")
        if self._connector is not None and self._connector.webhook:
            self.activity.report("UP", error=None, details=None)

    def queued(self, reason: str) -> None:
        """Another executable has the path; this one takes over when it goes."""
        self.state = State.QUEUED
        self.activity.add("WARNING", "Queueing", reason, source="RUNTIME")
        self.activity.report("DOWN", error=reason, details=None)

    async def handle(self, request: WebhookRequest) -> sdk.WebhookResponse:
        """Answers one request. Whatever the connector raises comes out."""
        connector = self._connector
        assert connector is not None
        if self.state is not State.ACTIVATED:
            raise WebhookRefused(503, f"This webhook is {self.state.value}", headers={"Retry-After": "5"})
        given = {"settings": self._settings, "context": self, "request": request}
        response: sdk.WebhookResponse = await connector.function(**{n: given[kind] for n, kind in connector.arguments})
        return response

    def _failed(self, error: Exception) -> None:
        ran = self.state is State.ACTIVATED
        self.state = State.FAILED
        self.statistics.failures += 1
        self.statistics.window = None
        if not ran:
            self._meters.activation_failed()
        elif not isinstance(error, (sdk.ConnectorException, sdk.ConnectorInputException)):
            log.warning("an inbound connector failed", type=self._group.first.type, exc_info=error)
        self.activity.add(
            "ERROR", "Lifecycle", f"{type(error).__name__}: {error}; it will be tried again", source="RUNTIME"
        )
        self.activity.report("DOWN", error=error, details=None)

    async def _wait(self, seconds: float) -> None:
        """The delay before the next attempt; `hasten` ends it."""
        sleeping = asyncio.ensure_future(self._environment.sleep(seconds))
        hastened = asyncio.ensure_future(self._again.wait())
        try:
            await asyncio.wait({sleeping, hastened}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeping, hastened):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
