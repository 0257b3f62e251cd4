"""A process as it is executed: compiled once on deployment, with every expression parsed, or refused with all reasons."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway import bpmn, feel, jsontext
from gateway.engine import DEFAULT_TENANT
from gateway.engine.embedded.expressions import Expression, Mappings, Now, Stuck
from gateway.engine.embedded.timers import TimerSpec

_NAME = re.compile(r"[^\W\d][\w\-]*")
_USER_TASK_JOB = "io.camunda.zeebe:userTask"
_JOB_TASKS = frozenset({"serviceTask", "sendTask", "businessRuleTask", "scriptTask"})
_PLAIN_TASKS = frozenset({"task", "manualTask"})
_HOSTS = frozenset(
    {
        "serviceTask",
        "sendTask",
        "businessRuleTask",
        "scriptTask",
        "userTask",
        "receiveTask",
        "task",
        "manualTask",
        "subProcess",
    }
)
_KNOWN_EXTENSIONS = frozenset(
    {
        *("taskDefinition", "ioMapping", "taskHeaders", "properties", "script", "subscription", "versionTag"),
        *(
            "formDefinition",
            "assignmentDefinition",
            "taskSchedule",
            "priorityDefinition",
            "linkedResources",
            "userTaskForm",
        ),
        *("loopCharacteristics", "calledElement", "calledDecision", "adHoc", "userTask", "bindings"),
    }
)


@dataclass(slots=True)
class Flow:
    id: str
    source: "Node"
    target: "Node"
    condition: Expression | None


@dataclass(slots=True)
class JobSpec:
    type: Expression
    retries: Expression
    headers: str  # JSON text


@dataclass(slots=True)
class EventSpec:
    """What an event waits for or does. kind: `message`, `timer`, `error`, `terminate`."""

    kind: str
    message_name: Expression | None = None
    correlation_key: Expression | None = None
    error_code: Expression | None = None  # None: every error
    timer: TimerSpec | None = None


@dataclass(slots=True, eq=False)
class Node:
    """An executable element; of a process too, as the outermost scope."""

    id: str
    name: str | None
    kind: str
    type: str  # as the REST API names it: SERVICE_TASK
    parent: "Node | None"
    line: int
    outgoing: list[Flow] = field(default_factory=list)
    incoming: list[Flow] = field(default_factory=list)
    default: Flow | None = None
    inputs: Mappings | None = None
    outputs: Mappings | None = None
    job: JobSpec | None = None
    event: EventSpec | None = None
    script: Expression | None = None
    result_variable: str | None = None
    interrupting: bool = True
    boundaries: "list[Node]" = field(default_factory=list)
    children: "dict[str, Node]" = field(default_factory=dict)
    none_start: "Node | None" = None


@dataclass(slots=True, eq=False)
class Definition:
    """A deployed version of a process."""

    key: int
    process_id: str
    version: int
    name: str | None
    version_tag: str | None
    resource_name: str
    content: bytes
    root: Node
    message_starts: Mapping[str, Node]  # by message name
    tenant_id: str = DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class Problem:
    element_id: str
    kind: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"- Element: {self.element_id}\n    - ERROR: {self.reason} ({self.kind}, line {self.line})"


@dataclass(slots=True)
class Compiled:
    """A process as nodes, and why it cannot run: with problems the nodes are not to be executed."""

    root: Node
    message_starts: dict[str, Node] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def compile_process(process: bpmn.Process, now: Now) -> Compiled:
    """now: the time of `now()` and `today()` in the process's expressions."""
    return _Compiler(now).process(process)


class _Compiler:
    def __init__(self, now: Now) -> None:
        self._now = now
        self._problems: list[Problem] = []

    def process(self, process: bpmn.Process) -> Compiled:
        root = Node(process.id, process.name, "process", "PROCESS", None, process.line)
        self._scope(root, process.elements, process.flows)
        if not any(node.kind == "startEvent" for node in root.children.values()):
            self._refuse(root, "Must have at least one start event")
        self._extensions(root, process.extensions)
        return Compiled(root, self._message_starts(root), self._problems)

    def _refuse(self, at: "Node | bpmn.FlowElement | bpmn.SequenceFlow", reason: str) -> None:
        kind = "sequenceFlow" if isinstance(at, bpmn.SequenceFlow) else at.kind
        self._problems.append(Problem(at.id, kind, at.line, reason))

    # -- scopes and flows

    def _scope(
        self, scope: Node, elements: Mapping[str, bpmn.FlowElement], flows: Mapping[str, bpmn.SequenceFlow]
    ) -> None:
        for element in elements.values():
            scope.children[element.id] = self._node(element, scope)
        for flow in flows.values():
            self._flow(flow, scope)
        for element in elements.values():
            node = scope.children[element.id]
            self._connections(node, element)
            if element.kind == "boundaryEvent":
                self._boundary(node, element, scope)
        starts = [n for n in scope.children.values() if n.kind == "startEvent" and n.event is None]
        if len(starts) > 1:
            self._refuse(scope, "Multiple none start events are not allowed")
        scope.none_start = starts[0] if starts else None

    def _flow(self, flow: bpmn.SequenceFlow, scope: Node) -> None:
        source, target = scope.children[flow.source], scope.children[flow.target]
        condition = (
            self._expression(flow, flow.condition) if flow.condition and source.kind == "exclusiveGateway" else None
        )
        made = Flow(flow.id, source, target, condition)
        source.outgoing.append(made)
        target.incoming.append(made)
        if flow.is_default:
            source.default = made
            if flow.condition:
                self._refuse(flow, "Default flow must not have a condition")
        if condition is not None and condition.is_static:
            self._refuse(
                flow, f"Expected the condition to be an expression with a leading '=', but it is '{flow.condition}'"
            )

    def _connections(self, node: Node, element: bpmn.FlowElement) -> None:
        if node.kind in {"startEvent", "boundaryEvent"} and node.incoming:
            self._refuse(node, "Must not have incoming sequence flows")
        if node.kind == "endEvent" and node.outgoing:
            self._refuse(node, "Must not have outgoing sequence flows")
        if node.kind == "exclusiveGateway" and len(node.outgoing) > 1:
            for flow in element.outgoing:
                if not flow.condition and not flow.is_default:
                    self._refuse(flow, "Must have a condition or be default flow")

    # -- elements

    def _node(self, element: bpmn.FlowElement, scope: Node) -> Node:
        node = Node(element.id, element.name, element.kind, _type_name(element.kind), scope, element.line)
        node.interrupting = element.interrupting
        self._extensions(node, element.extensions)
        if element.loop is not None:
            self._refuse(node, "Multi-instance is not supported by this engine")
        if element.for_compensation:
            self._refuse(node, "Compensation is not supported by this engine")
        compile_kind = _KINDS.get(element.kind)
        if compile_kind is None:
            self._refuse(node, f"Elements of type '{element.kind}' are not supported by this engine")
        else:
            compile_kind(self, node, element)
        return node

    def _extensions(self, node: Node, extensions: bpmn.Extensions) -> None:
        for tag in extensions.tags:
            if tag not in _KNOWN_EXTENSIONS:
                self._refuse(node, f"'zeebe:{tag}' is not supported by this engine")
        node.inputs = self._mappings(node, "input", extensions.inputs)
        node.outputs = self._mappings(node, "output", extensions.outputs)

    def _mappings(self, node: Node, kind: str, mappings: tuple[bpmn.IoMapping, ...]) -> Mappings | None:
        pairs = []
        for mapping in mappings:
            path = tuple(mapping.target.split("."))
            if not all(_NAME.fullmatch(name) for name in path):
                self._refuse(
                    node, f"Expected the target of the {kind} to be a path of names, but it is '{mapping.target}'"
                )
            source = self._expression(node, mapping.source)
            if source is not None:
                pairs.append((path, source))
        return Mappings(pairs, merge=kind == "output") if pairs else None

    def _expression(self, at: "Node | bpmn.FlowElement | bpmn.SequenceFlow", text: str) -> Expression | None:
        try:
            return Expression(text, self._now)
        except feel.FeelParseError as e:
            self._refuse(at, str(e))
            return None

    def _job(self, node: Node, element: bpmn.FlowElement) -> None:
        definition = element.extensions.task_definition
        if definition is None:
            self._refuse(node, "Must have exactly one 'zeebe:taskDefinition' extension element")
        elif not definition.type.strip():
            self._refuse(node, "Task type must be present and not blank")
        else:
            self._job_spec(node, definition.type, definition.retries or "3", element.extensions.headers)

    def _job_spec(self, node: Node, type_: str, retries: str, headers: Mapping[str, str]) -> None:
        type_expression, retries_expression = self._expression(node, type_), self._expression(node, retries)
        if type_expression is None or retries_expression is None:
            return
        if retries_expression.is_static and not re.fullmatch(r"-?\d{1,9}", retries):
            self._refuse(node, f"Expected the retries to be a number, but they are '{retries}'")
        node.job = JobSpec(type_expression, retries_expression, jsontext.dumps(dict(headers)))

    def _task(self, node: Node, element: bpmn.FlowElement) -> None:
        script = element.extensions.script
        if element.kind == "scriptTask" and script is not None and element.extensions.task_definition is None:
            node.script = self._expression(node, script.get("expression", ""))
            node.result_variable = script.get("resultVariable")
            if not node.result_variable:
                self._refuse(node, "Must have a result variable")
        elif element.extensions.called_decision is not None:
            self._refuse(node, "Called decisions are not supported by this engine")
        else:
            self._job(node, element)

    def _plain(self, node: Node, element: bpmn.FlowElement) -> None:
        """Nothing to compile."""

    def _user_task(self, node: Node, element: bpmn.FlowElement) -> None:
        if element.extensions.user_task:
            self._refuse(node, "User tasks with 'zeebe:userTask' are not supported by this engine")
        self._job_spec(node, _USER_TASK_JOB, "1", element.extensions.headers)

    def _receive_task(self, node: Node, element: bpmn.FlowElement) -> None:
        node.event = self._message(node, element.message)

    def _sub_process(self, node: Node, element: bpmn.FlowElement) -> None:
        if element.triggered_by_event:
            self._refuse(node, "Event sub-processes are not supported by this engine")
            return
        self._scope(node, element.elements, element.flows)
        starts = [n for n in node.children.values() if n.kind == "startEvent"]
        if node.none_start is None or len(starts) != 1:
            self._refuse(node, "Must have exactly one none start event")

    # -- events

    def _event(self, node: Node, element: bpmn.FlowElement, allowed: frozenset[str]) -> None:
        """The one event definition of a start, catch, boundary or end event."""
        if len(element.events) > 1:
            self._refuse(node, "Must not have more than one event definition")
        for event in element.events[:1]:
            if event.kind not in allowed:
                self._refuse(node, f"A {event.kind} event is not supported here by this engine")
            elif event.kind == "message":
                node.event = self._message(node, event.message)
            elif event.kind == "timer":
                node.event = self._timer(node, event.timer)
            elif event.kind == "error":
                node.event = self._error(node, event.error)
            else:
                node.event = EventSpec(event.kind)

    def _start(self, node: Node, element: bpmn.FlowElement) -> None:
        inside = node.parent is not None and node.parent.kind != "process"
        self._event(node, element, frozenset() if inside else frozenset({"message"}))

    def _end(self, node: Node, element: bpmn.FlowElement) -> None:
        if element.events and element.events[0].kind == "message":
            self._job(node, element)
            return
        self._event(node, element, frozenset({"error", "terminate"}))
        if node.event is not None and node.event.kind == "error" and node.event.error_code is None:
            self._refuse(node, "Must have an error with an error code")

    def _throw(self, node: Node, element: bpmn.FlowElement) -> None:
        if element.events and element.events[0].kind == "message":
            self._job(node, element)
        else:
            self._event(node, element, frozenset())

    def _catch(self, node: Node, element: bpmn.FlowElement) -> None:
        if not element.events:
            self._refuse(node, "Must have exactly one event definition")
        self._event(node, element, frozenset({"message", "timer"}))

    def _message(self, node: Node, message: bpmn.Message | None) -> EventSpec | None:
        if message is None or not message.name:
            self._refuse(node, "Must reference a message with a name")
            return None
        at_start = node.kind == "startEvent"
        name = self._expression(node, message.name)
        key = self._expression(node, message.correlation_key) if message.correlation_key and not at_start else None
        if not message.correlation_key and not at_start:
            self._refuse(node, f"The message '{message.id}' must have a 'zeebe:subscription' with a correlation key")
        return EventSpec("message", message_name=name, correlation_key=key)

    def _timer(self, node: Node, timer: bpmn.Timer | None) -> EventSpec | None:
        if timer is None:
            self._refuse(node, "Must have exactly one of time date, duration or cycle")
            return None
        expression = self._expression(node, timer.expression)
        if expression is None:
            return None
        spec = TimerSpec(timer.kind, expression)
        if expression.is_static:
            try:
                spec.plan({}, 0)
            except Stuck as stuck:
                self._refuse(node, stuck.message)
        if timer.kind == "timeCycle" and (node.kind != "boundaryEvent" or node.interrupting):
            self._refuse(node, "A time cycle is only allowed at a non-interrupting boundary event")
        return EventSpec("timer", timer=spec)

    def _error(self, node: Node, error: bpmn.Error | None) -> EventSpec:
        code = self._expression(node, error.code) if error is not None and error.code else None
        if code is not None and not code.is_static and node.kind == "boundaryEvent":
            self._refuse(node, "Expected the error code of a catch event to be a text, but it is an expression")
        return EventSpec("error", error_code=code)

    def _boundary(self, node: Node, element: bpmn.FlowElement, scope: Node) -> None:
        host = scope.children[element.attached_to or ""]
        if host.kind not in _HOSTS:
            self._refuse(node, f"Must not be attached to an element of type '{host.kind}'")
        if not node.outgoing:
            self._refuse(node, "Must have at least one outgoing sequence flow")
        event = node.event
        if event is None:
            return
        if event.kind == "error" and not node.interrupting:
            self._refuse(node, "Non-interrupting events of type 'error' are not allowed")
        for other in host.boundaries:
            self._check_twins(node, event, other)
        host.boundaries.append(node)

    def _check_twins(self, node: Node, event: EventSpec, other: Node) -> None:
        if other.event is None or other.event.kind != event.kind:
            return
        if event.kind == "error" and _text(event.error_code) == _text(other.event.error_code):
            code = event.error_code and event.error_code.text
            same = f"the same error code '{code}'" if code else "no error code"
            self._refuse(node, f"Multiple error events with {same} are not allowed at one element")
        if event.kind == "message" and _text(event.message_name) == _text(other.event.message_name):
            self._refuse(
                node, f"Multiple message events with the same name {_text(event.message_name)!r} are not allowed"
            )

    def _boundary_event(self, node: Node, element: bpmn.FlowElement) -> None:
        if not element.events:
            self._refuse(node, "Must have exactly one event definition")
        self._event(node, element, frozenset({"message", "timer", "error"}))

    def _message_starts(self, root: Node) -> dict[str, Node]:
        names: dict[str, Node] = {}
        for node in root.children.values():
            if node.kind != "startEvent" or node.event is None or node.event.message_name is None:
                continue
            try:
                name = node.event.message_name.evaluate({})
            except feel.FeelError as e:
                self._refuse(node, f"Expected the message name of a start event to be 'STRING', but it failed: {e}")
                continue
            if not isinstance(name, str):
                self._refuse(node, "Expected the message name of a start event to be 'STRING' without variables")
            elif name in names:
                self._refuse(root, f"Multiple message start events with the same name '{name}' are not allowed")
            else:
                names[name] = node
        return names


def _text(expression: Expression | None) -> str | None:
    return None if expression is None else expression.text


def _type_name(kind: str) -> str:
    return "UNSPECIFIED" if kind == "task" else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).upper()


_KINDS: dict[str, Callable[[_Compiler, Node, bpmn.FlowElement], None]] = {
    "startEvent": _Compiler._start,
    "endEvent": _Compiler._end,
    "intermediateThrowEvent": _Compiler._throw,
    "intermediateCatchEvent": _Compiler._catch,
    "boundaryEvent": _Compiler._boundary_event,
    "userTask": _Compiler._user_task,
    "receiveTask": _Compiler._receive_task,
    "subProcess": _Compiler._sub_process,
    "exclusiveGateway": _Compiler._plain,
    "parallelGateway": _Compiler._plain,
    **dict.fromkeys(_JOB_TASKS, _Compiler._task),
    **dict.fromkeys(_PLAIN_TASKS, _Compiler._plain),
}
