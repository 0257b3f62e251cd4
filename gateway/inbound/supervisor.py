"""The supervisor: what is deployed against what runs, compared at every tick; executables started, swapped, restarted, stopped.

Level-triggered: a tick compares the whole, so whatever went wrong before heals at the next one. Source: "Inbound connectors:
lifecycle" in Camunda's docs; other than there, a connector that fails leaves its neighbours alone and is tried again by itself.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway import sdk
from gateway.engine import EngineError
from gateway.inbound.deduplication import Format, Group, Undefined, deduplication_id, grouped
from gateway.inbound.discovery import Wanted
from gateway.inbound.elements import DEDUPLICATION_EXCLUDED, InvalidElement
from gateway.inbound.executable import Environment, Executable, State
from gateway.observe import InboundMeters

log = structlog.get_logger(__name__)

_WARN_SECONDS = 30.0
_START_SECONDS = 5
_RUNS = {State.STARTING, State.ACTIVATED, State.QUEUED, State.FAILED}


class Look(Protocol):
    """Where the supervisor learns what is deployed."""

    async def look(self) -> Wanted:
        """What is wanted now: the same object as before when nothing changed. Raises EngineError."""


@dataclass(frozen=True, slots=True)
class Options:
    """interval, initial_delay: seconds. all_or_nothing: one connector that cannot be activated stops those of its process."""

    interval: float = 5.0
    initial_delay: float = 0.0
    all_or_nothing: bool = False
    deduplication_format: Format = "8.10"
    physical_tenant_id: str = "default"


class Supervisor:
    """Keeps the executables of this process.

    connectors: by type, those that work here; meters: counters for a connector type and an element template's id and version;
    imported: told after each look at the engine whether it went well.
    """

    def __init__(
        self,
        discovery: Look,
        connectors: Mapping[str, sdk.InboundConnector],
        environment: Environment,
        options: Options,
        *,
        meters: Callable[[str, str | None, str | None], InboundMeters],
        imported: Callable[[Exception | None], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._discovery = discovery
        self._connectors = dict(connectors)
        self._environment = environment
        self._options = options
        self._meters = meters
        self._imported = imported
        self._now = now
        self._scopes = {kind: connector.deduplication for kind, connector in self._connectors.items()}
        self._wanted: Wanted | None = None
        self._target: dict[str, Group] = {}
        self._undefined: list[InvalidElement] = []
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._ticking = asyncio.Lock()
        self._warned = 0.0
        self.executables: dict[str, Executable] = {}
        self.ready = asyncio.Event()
        """What was deployed when this started is known, and every executable had its first chance."""

    @property
    def invalid(self) -> Sequence[InvalidElement]:
        """The elements that cannot be used, each with its reason."""
        return (*(self._wanted.invalid if self._wanted else ()), *self._undefined)

    # ---- the ticks ----

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="inbound supervisor")

    async def stop(self, grace: float) -> None:
        """Stops looking, then all executables at once, each within `grace` seconds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        async with self._lock:
            await asyncio.gather(*(each.stop(grace=grace) for each in self.executables.values()))
            self.executables.clear()

    async def _watch(self) -> None:
        await asyncio.sleep(self._options.initial_delay)
        while True:
            await self.tick()
            if self._wanted is not None and not self.ready.is_set():
                await self._first_chance()
                self.ready.set()
            await asyncio.sleep(self._options.interval)

    async def _first_chance(self) -> None:
        """Waits until none is starting any more, for a few seconds at most."""
        for _ in range(_START_SECONDS * 50):
            if all(each.state is not State.STARTING for each in self.executables.values()):
                return
            await asyncio.sleep(0.02)

    async def tick(self) -> None:
        """Looks at the engine, then brings what runs in line, one tick after the other. Never raises."""
        async with self._ticking:
            await self._tick()

    async def _tick(self) -> None:
        try:
            wanted = await self._discovery.look()
        except Exception as e:
            if not isinstance(e, EngineError):
                log.exception("what is deployed cannot be read")
            self._imported(e)
            if self._wanted is None:
                return
            wanted = self._wanted  # what was known stays, and is kept running
        else:
            self._imported(None)
        async with self._lock:
            try:
                await self._reconcile(wanted)
            except Exception:
                log.exception("what runs cannot be brought in line with what is deployed: the next tick tries again")
        self._warn()

    async def _reconcile(self, wanted: Wanted) -> None:
        if wanted is not self._wanted:
            self._target, self._undefined = self._groups(wanted.elements)
            self._wanted = wanted
        ended = [each for ident, each in self.executables.items() if ident not in self._target]
        again = [
            (self.executables[ident], group)
            for ident, group in self._target.items()
            if ident in self.executables and group != self.executables[ident].group
        ]
        restart = [(each, group) for each, group in again if not self._swapped(each, group)]
        await asyncio.gather(*(each.stop() for each in (*ended, *(each for each, _ in restart))))
        for each in ended:
            del self.executables[each.executable_id]
        for each, group in restart:
            self._begin(group, each)
        for ident, group in self._target.items():
            if ident not in self.executables:
                self._begin(group, None)
        if self._options.all_or_nothing:
            await self._settle()

    def _groups(self, elements: Iterable[sdk.InboundElement]) -> tuple[dict[str, Group], list[InvalidElement]]:
        named: list[tuple[str, sdk.InboundElement]] = []
        undefined: list[InvalidElement] = []
        for element in elements:
            try:
                ident = deduplication_id(
                    element,
                    self._scopes.get(element.type),
                    format=self._options.deduplication_format,
                    physical_tenant_id=self._options.physical_tenant_id,
                )
            except Undefined as e:
                undefined.append(_invalid(element, str(e)))
            else:
                named.append((ident, element))
        return {group.executable_id: group for group in grouped(named, self._scopes)}, undefined

    def _swapped(self, executable: Executable, group: Group) -> bool:
        """Takes a changed group over without a restart, where nothing has changed that the connector has bound."""
        before = executable.group
        if executable.state not in _RUNS or group.invalid is not None or before.invalid is not None:
            return False
        if _bound(before.first) != _bound(group.first) or before.deduplication_id != group.deduplication_id:
            return False
        try:
            executable.swap(group)
        except Exception:
            log.exception("changed elements cannot be taken over: the connector is restarted", type=group.first.type)
            return False
        return True

    def _begin(self, group: Group, before: Executable | None) -> None:
        first = group.first
        try:
            executable = Executable(
                group,
                self._connectors.get(first.type),
                self._environment,
                self._meters(first.type, first.template_id, first.template_version),
                activity=before.activity if before else None,
            )
        except Exception:  # a fault of our own: the others have to go on
            log.exception("a connector cannot be started: the next tick tries again", type=first.type)
            self.executables.pop(group.executable_id, None)
            return
        self.executables[group.executable_id] = executable
        executable.start()

    async def _settle(self) -> None:
        """All or nothing: where one of a process has failed, the others stop; when it works again, they go on."""
        await asyncio.sleep(0)  # those just started get as far as their first failure
        failed: dict[tuple[str, str], list[Executable]] = {}
        for each in self.executables.values():
            if each.state is State.FAILED:
                failed.setdefault(_process(each), []).append(each)
        for each in list(self.executables.values()):
            culprits = failed.get(_process(each))
            if culprits and each.state in {State.STARTING, State.ACTIVATED, State.QUEUED}:
                await each.stop(State.BLOCKED)
                elements = ", ".join(element.element_id for one in culprits for element in one.elements)
                cause = culprits[0].activity.health.error_message
                each.rest(State.BLOCKED, f"Process contains invalid connector(s): {elements}. Reason: {cause}")
            elif not culprits and each.state is State.BLOCKED:
                self._begin(each.group, each)

    def _warn(self) -> None:
        """Every half minute: which executables are down, and why."""
        if self._now() - self._warned < _WARN_SECONDS:
            return
        self._warned = self._now()
        for each in self.executables.values():
            health = each.activity.health
            if health.status == "DOWN" and each.state is not State.QUEUED:
                log.warning(
                    "an inbound connector is down",
                    state=each.state.value,
                    reason=health.error_message,
                    type=each.group.first.type,
                    process=each.group.first.bpmn_process_id,
                    tenant=each.tenant_id,
                    executable=each.executable_id,
                )

    # ---- what a person can do ----

    async def reset(self, executable_id: str) -> Executable:
        """Stops and starts one anew: settings and secrets are read again. LookupError when there is no such executable;
        ValueError when it is in no state for it.
        """
        async with self._lock:
            executable = self._known(executable_id)
            if executable.state in {State.INVALID, State.NOT_REGISTERED}:
                raise ValueError(f"an executable that is '{executable.state.value}' cannot be reset")
            await executable.stop()
            self._begin(executable.group, executable)
            return self.executables[executable_id]

    async def pause(self, executable_id: str) -> Executable:
        """Stops one until it is resumed; it stays known, and says so."""
        return await self._halt(executable_id, State.PAUSED)

    async def cancel(self, executable_id: str) -> Executable:
        """Stops one until it is reset."""
        return await self._halt(executable_id, State.CANCELLED)

    async def resume(self, executable_id: str) -> Executable:
        """Starts one that was paused. LookupError, ValueError as `reset`."""
        if self._known(executable_id).state is not State.PAUSED:
            raise ValueError(f"the executable is not paused, but {self._known(executable_id).state.value}")
        return await self.reset(executable_id)

    async def _halt(self, executable_id: str, state: State) -> Executable:
        async with self._lock:
            executable = self._known(executable_id)
            if executable.state not in _RUNS:
                raise ValueError(f"an executable that is '{executable.state.value}' does not run")
            await executable.stop(state)
            executable.rest(state)
            return executable

    def hasten(self) -> None:
        """A source of secrets has changed: what waits after a failure is tried at once."""
        for each in self.executables.values():
            each.hasten()

    def _known(self, executable_id: str) -> Executable:
        found = self.executables.get(executable_id)
        if found is None:
            raise LookupError(executable_id)
        return found


def _bound(element: sdk.InboundElement) -> Mapping[str, str]:
    """The properties that a running connector may have bound: all but those that only the correlation reads."""
    return {name: value for name, value in element.properties.items() if name not in _UNBOUND}


_UNBOUND = DEDUPLICATION_EXCLUDED - {"inbound.type"}


def _process(executable: Executable) -> tuple[str, str]:
    first = executable.group.first
    return first.tenant_id, first.bpmn_process_id


def _invalid(element: sdk.InboundElement, reason: str) -> InvalidElement:
    return InvalidElement(
        element.element_id,
        element.type,
        element.bpmn_process_id,
        element.process_definition_key,
        element.tenant_id,
        reason,
        element.properties,
    )
