"""The interpreter: what elements do when they are entered, left and ended.

Commands change the state at once and queue what follows from it as steps; `run` works the steps off, each of them atomic:
nothing else happens between its beginning and its end. Steps of scopes that have ended meanwhile do nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gateway.engine.embedded import expressions
from gateway.engine.embedded.clock import Clock, Due, Schedule
from gateway.engine.embedded.definition import Definition, Flow, Node
from gateway.engine.embedded.entities import ElementInstance, Incident, Job, ProcessInstance, State, Wait
from gateway.engine.embedded.expressions import Stuck
from gateway.engine.embedded.jobs import Jobs
from gateway.engine.embedded.messages import Messages
from gateway.engine.embedded.records import RecordLog
from gateway.engine.embedded.store import Store
from gateway.engine.embedded.timers import Plan

STEPS_AT_ONCE = 2_000
"""After so many steps the event loop gets its turn: a process that loops for ever must not stop the gateway."""


class Execution:
    def __init__(self, store: Store, clock: Clock, records: RecordLog) -> None:
        self.store = store
        self.clock = clock
        self.records = records
        self.schedule = Schedule(clock, self.run)
        self.jobs = Jobs(self)
        self.messages = Messages(self)
        self._steps: deque[Callable[[], None]] = deque()
        self._continuation: asyncio.Handle | None = None
        self._running = False

    # -- steps

    def run(self) -> None:
        """Works off what is queued and due. What is left after many steps follows in the loop's next turns."""
        if self._running:
            return
        self._running = True
        steps = self._steps
        try:
            for _ in range(STEPS_AT_ONCE):
                if steps:
                    steps.popleft()()
                elif not self.schedule.run_due():
                    return
        finally:
            self._running = False
        if self._continuation is None:
            self._continuation = asyncio.get_running_loop().call_soon(self._continue)

    def _continue(self) -> None:
        self._continuation = None
        self.run()

    @property
    def is_idle(self) -> bool:
        return not self._steps and self._continuation is None

    def later(self, step: Callable[..., None], *arguments: Any) -> None:
        self._steps.append(partial(step, *arguments))

    # -- instances

    def start(
        self, definition: Definition, node: Node, variables: dict[str, Any], *, event: bool = False
    ) -> ProcessInstance:
        """Creates an instance that begins at the node. event: the variables come from the event and are mapped by it."""
        process = ProcessInstance(self.store.next_key(), definition, self.clock.now_ms())
        self.store.open(process)
        process.remember(process)
        self.records.element(process, "ELEMENT_ACTIVATED")
        if not event:
            self.set_variables(process, variables)
        self._token(node, process, variables if event else None)
        return process

    def cancel(self, process: ProcessInstance) -> None:
        self._terminate(process)

    # -- entering

    def _token(self, node: Node, scope: ElementInstance, variables: dict[str, Any] | None = None) -> None:
        scope.tokens += 1
        self.later(self._activate, node, scope, scope.epoch, variables)

    def _activate(self, node: Node, scope: ElementInstance, epoch: int, variables: dict[str, Any] | None) -> None:
        if scope.state is not State.ACTIVE or scope.epoch != epoch:
            return
        scope.tokens -= 1
        element = ElementInstance(self.store.next_key(), node, scope, self.clock.now_ms())
        scope.children[element.key] = element
        self.store.elements[element.key] = element
        element.process.remember(element)
        self.records.element(element, "ELEMENT_ACTIVATED")
        self._enter(element, variables)

    def _enter(self, element: ElementInstance, variables: dict[str, Any] | None) -> None:
        """Begins an element, or begins it again when its incident was resolved. variables: those of a triggering event."""
        node = element.node
        try:
            if node.inputs is not None:
                self._set_local(element, node.inputs.evaluate(element.visible()))
            targets = [*node.boundaries, node] if node.kind in _CATCHING else node.boundaries
            if targets:
                self._open_waits(element, targets)
            _ENTER[node.kind](self, element, variables)
        except Stuck as stuck:
            self._raise_incident(element, stuck, partial(self._enter, element, variables))

    def _pass(self, element: ElementInstance, variables: dict[str, Any] | None) -> None:
        self._leave(element, variables)

    def _enter_job(self, element: ElementInstance, variables: dict[str, Any] | None) -> None:
        spec = element.node.job
        if spec is None:
            self._enter_without_job(element, variables)
            return
        context = element.visible()
        type_ = spec.type.text if spec.type.is_static else expressions.to_text(spec.type, context)
        retries = expressions.to_integer(spec.retries, context)
        element.job = self.jobs.create(element, type_, retries, spec.headers)

    def _enter_without_job(self, element: ElementInstance, variables: dict[str, Any] | None) -> None:
        script = element.node.script
        if script is None:
            self._leave(element, variables)
        else:
            result = expressions.to_result(script, element.visible())
            self._leave(element, {element.node.result_variable or "": result})

    def _stay(self, element: ElementInstance, variables: dict[str, Any] | None) -> None:
        """What it waits for is open."""

    def _enter_scope(self, element: ElementInstance, variables: dict[str, Any] | None) -> None:
        assert element.node.none_start is not None
        self._token(element.node.none_start, element)

    def _enter_end(self, element: ElementInstance, variables: dict[str, Any] | None) -> None:
        event = element.node.event
        if element.node.job is not None:
            self._enter_job(element, variables)
        elif event is None:
            self._leave(element, None)
        elif event.kind == "terminate":
            scope = element.parent
            assert scope is not None
            for other in [child for child in scope.children.values() if child is not element]:
                self._terminate(other)
            scope.tokens, scope.joins, scope.epoch = 0, None, scope.epoch + 1
            self._leave(element, None)
        else:
            assert event.error_code is not None
            code = expressions.to_text(event.error_code, element.visible())
            self.interrupt(*self.catcher(element, code, ""), {})

    # -- leaving

    def complete(self, element: ElementInstance, variables: dict[str, Any] | None) -> None:
        """The element's work is done, with these results."""
        self.later(self._leave, element, variables)

    def _leave(self, element: ElementInstance, variables: dict[str, Any] | None) -> None:
        if not element.state.is_open:
            return
        element.state = State.COMPLETING
        node = element.node
        try:
            if node.outputs is not None:
                if variables:
                    self._set_local(element, variables)
                self.set_variables(element.parent or element, node.outputs.evaluate(element.visible()))
            elif variables:
                self.set_variables(element, variables)
            flows = self._choose(element) if node.kind == "exclusiveGateway" else node.outgoing
        except Stuck as stuck:
            self._raise_incident(
                element, stuck, partial(self._leave, element, variables if node.outputs is None else None)
            )
            return
        self._end(element, State.COMPLETED)
        if element.parent is not None:
            for flow in flows:
                self._take(flow, element.parent)
            self._settle(element.parent)

    def _choose(self, element: ElementInstance) -> list[Flow]:
        """The one flow that an exclusive gateway takes."""
        node = element.node
        context = element.visible()
        if len(node.outgoing) == 1 and node.outgoing[0].condition is None:
            return node.outgoing
        for flow in node.outgoing:
            if flow.condition is not None and expressions.to_boolean(flow.condition, context):
                return [flow]
        if node.default is not None:
            return [node.default]
        if not node.outgoing:
            return []
        raise Stuck("CONDITION_ERROR", "Expected at least one condition to evaluate to true, or to have a default flow")

    def _take(self, flow: Flow, scope: ElementInstance) -> None:
        target = flow.target
        if target.kind != "parallelGateway" or len(target.incoming) < 2:
            self._token(target, scope)
            return
        scope.tokens += 1
        if scope.joins is None:
            scope.joins = {}
        arrived = scope.joins.setdefault(target.id, {})
        arrived[flow.id] = arrived.get(flow.id, 0) + 1
        if len(arrived) == len(target.incoming):
            scope.tokens -= len(arrived)
            scope.joins[target.id] = {id_: count - 1 for id_, count in arrived.items() if count > 1}
            self._token(target, scope)

    def _settle(self, scope: ElementInstance) -> None:
        """Ends a scope in which nothing is left to do."""
        if not scope.children and scope.tokens == 0 and scope.state is State.ACTIVE:
            self.later(self._leave_scope, scope)

    def _leave_scope(self, scope: ElementInstance) -> None:
        if scope.state is State.ACTIVE and not scope.children and scope.tokens == 0:
            self._leave(scope, None)

    def _end(self, element: ElementInstance, state: State) -> None:
        """The last of an element, however it ends."""
        element.state = state
        element.ended_ms = self.clock.now_ms()
        for wait in element.waits:
            self._close_wait(wait)
        if element.incident is not None:
            self._close_incident(element.incident)
        self.records.element(element, "ELEMENT_COMPLETED" if state is State.COMPLETED else "ELEMENT_TERMINATED")
        if element.parent is not None:
            del self.store.elements[element.key]
            del element.parent.children[element.key]
            return
        self.store.close(element.process)
        self.messages.instance_ended(element.process)
        if state is State.COMPLETED:
            for callback in element.process.on_completion:
                callback(element.process)

    def _terminate(self, element: ElementInstance) -> None:
        """Ends an element and all in it, the innermost first."""
        for child in list(element.children.values()):
            self._terminate(child)
        if element.job is not None and element.job.is_open:
            self.jobs.cancel(element.job)
        self._end(element, State.TERMINATED)

    # -- variables

    def set_variables(self, scope: ElementInstance, values: Mapping[str, Any]) -> None:
        """Each goes to the nearest scope that has it, else to the process."""
        for name, value in values.items():
            self._set(scope.locate(name), name, value)

    def _set_local(self, scope: ElementInstance, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._set(scope, name, value)

    def set_local_variables(self, scope: ElementInstance, values: Mapping[str, Any]) -> None:
        self._set_local(scope, values)

    def _set(self, scope: ElementInstance, name: str, value: Any) -> None:
        if self.records.is_on:
            self.records.variable(scope, name, value, "UPDATED" if name in scope.variables else "CREATED")
        scope.variables[name] = value

    # -- errors and incidents

    def catcher(self, element: ElementInstance, code: str, message: str) -> tuple[ElementInstance, Node]:
        """The nearest event that catches the error, and what it interrupts. Raises Stuck (UNHANDLED_ERROR_EVENT)."""
        known: list[str] = []
        scope = element
        while scope.parent is not None:
            catching = _catching(scope.node.boundaries, code, known)
            if catching is not None:
                return scope, catching
            scope = scope.parent
        said = f" with message '{message}'" if message else ""
        events = (
            f"Available error events are [{', '.join(known)}]"
            if known
            else "No error events are available in the scope."
        )
        raise Stuck(
            "UNHANDLED_ERROR_EVENT",
            f"Expected to throw an error event with the code '{code}'{said}, but it was not caught. {events}",
        )

    def interrupt(self, element: ElementInstance, event: Node, variables: dict[str, Any]) -> None:
        """Ends the element and goes on at its boundary event."""
        assert element.parent is not None
        scope = element.parent
        self._terminate(element)
        self._token(event, scope, variables)

    def _raise_incident(self, element: ElementInstance, stuck: Stuck, retry: Callable[[], None]) -> None:
        self.add_incident(element, stuck.error_type, stuck.message, retry)

    def add_incident(
        self, element: ElementInstance, error_type: str, message: str, retry: Callable[[], None], job: Job | None = None
    ) -> None:
        incident = Incident(self.store.next_key(), element, error_type, message, retry, self.clock.now_ms(), job)
        element.incident = incident
        element.process.incidents.append(incident)
        self.store.incidents[incident.key] = incident
        self.records.incident(incident, "CREATED")

    def _close_incident(self, incident: Incident) -> None:
        incident.resolved_ms = self.clock.now_ms()
        incident.element.incident = None
        del self.store.incidents[incident.key]
        self.records.incident(incident, "RESOLVED")

    def resolve(self, incident: Incident) -> None:
        self._close_incident(incident)
        self.later(incident.retry)

    # -- waiting for timers and messages

    def _open_waits(self, element: ElementInstance, targets: list[Node]) -> None:
        """Opens what the element waits for, all or nothing: an incident at one leaves none open."""
        if element.waits:
            return  # entered again after an incident that came later
        context = element.visible()
        plans: list[tuple[Node, Plan | None, tuple[str, str] | None]] = []
        for target in targets:
            event = target.event
            assert event is not None
            if event.timer is not None:
                plans.append((target, event.timer.plan(context, self.clock.now_ms()), None))
            elif event.message_name is not None and event.correlation_key is not None:
                name = expressions.to_text(event.message_name, context)
                plans.append((target, None, (name, expressions.to_correlation_key(event.correlation_key, context))))
        for target, plan, message in plans:
            wait = Wait(self.store.next_key(), element, target, self.clock.now_ms())
            element.waits.append(wait)
            if plan is not None:
                self._wait_until(wait, plan)
            elif message is not None:
                wait.message_name, wait.correlation_key = message
                self.later(self.messages.subscribe, wait)

    def _wait_until(self, wait: Wait, plan: Plan) -> None:
        wait.due = self.schedule.at(plan.due_ms, partial(self._time_came, wait, plan))

    def _time_came(self, wait: Wait, plan: Plan) -> None:
        following = plan.next()
        self.occur(wait, {}, again=following is not None)
        if following is not None and wait.is_open:
            self._wait_until(wait, following)

    def occur(self, wait: Wait, variables: dict[str, Any], *, again: bool) -> None:
        """The event that was waited for happened. again: it may happen once more, where it does not interrupt."""
        element, target = wait.element, wait.target
        if not again or target.interrupting or target is element.node:
            self._close_wait(wait)
        if target is element.node:
            self.complete(element, variables)
            return
        assert element.parent is not None
        scope = element.parent
        if target.interrupting:
            self._terminate(element)
        self._token(target, scope, variables)

    def _close_wait(self, wait: Wait) -> None:
        if wait.is_open:
            wait.is_open = False
            self.schedule.cancel(wait.due)
            if wait.message_name is not None:
                self.messages.unsubscribe(wait)

    def close(self) -> None:
        self._steps.clear()
        self.jobs.close()
        self.schedule.close()

    def after(self, delay_ms: int, action: Callable[[], None]) -> Due:
        return self.schedule.at(self.clock.now_ms() + delay_ms, action)


def _catching(events: list[Node], code: str, known: list[str]) -> Node | None:
    """The event for the code, else the one for every code. `known` collects the codes that were on offer."""
    catch_all = None
    for node in events:
        if node.event is None or node.event.kind != "error":
            continue
        if node.event.error_code is None:
            catch_all = node
        elif node.event.error_code.text == code:
            return node
        else:
            known.append(node.event.error_code.text)
    return catch_all


_CATCHING = frozenset({"intermediateCatchEvent", "receiveTask"})

_ENTER: dict[str, Callable[[Execution, ElementInstance, dict[str, Any] | None], None]] = {
    "startEvent": Execution._pass,
    "boundaryEvent": Execution._pass,
    "task": Execution._pass,
    "manualTask": Execution._pass,
    "exclusiveGateway": Execution._pass,
    "parallelGateway": Execution._pass,
    "intermediateThrowEvent": Execution._enter_job,
    "serviceTask": Execution._enter_job,
    "sendTask": Execution._enter_job,
    "businessRuleTask": Execution._enter_job,
    "scriptTask": Execution._enter_job,
    "userTask": Execution._enter_job,
    "intermediateCatchEvent": Execution._stay,
    "receiveTask": Execution._stay,
    "subProcess": Execution._enter_scope,
    "endEvent": Execution._enter_end,
}
