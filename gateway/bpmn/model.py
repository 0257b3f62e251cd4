"""What a BPMN file says, as data. Words: BPMN 2.0.2 (OMG formal/13-12-09) and Zeebe's extension schema
(camunda/zeebe-bpmn-moddle, README).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


class BpmnError(ValueError):
    """A file that cannot be read as BPMN. `str()` is a sentence with file, line and element; it is safe to show."""

    def __init__(self, reason: str, *, file: str = "", line: int | None = None, element_id: str | None = None) -> None:
        self.reason, self.file, self.line, self.element_id = reason, file, line, element_id
        parts = (file, f"line {line}" if line else "", f"element '{element_id}'" if element_id else "")
        where = ", ".join(part for part in parts if part)
        super().__init__(f"{where}: {reason}" if where else reason)


@dataclass(frozen=True, slots=True)
class IoMapping:
    """A `zeebe:input` or `zeebe:output`. `source` with a leading `=` is FEEL, else it is the text itself."""

    source: str
    target: str
    line: int


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """`zeebe:taskDefinition`: job type and retries, each a text or, with a leading `=`, FEEL."""

    type: str
    retries: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Loop:
    """`multiInstanceLoopCharacteristics` with its `zeebe:loopCharacteristics`."""

    sequential: bool
    input_collection: str | None
    input_element: str | None
    output_collection: str | None
    output_element: str | None
    completion_condition: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    name: str | None
    correlation_key: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Signal:
    id: str
    name: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Error:
    id: str
    name: str | None
    code: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Escalation:
    id: str
    name: str | None
    code: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Timer:
    """kind: `timeDate`, `timeDuration` or `timeCycle`."""

    kind: str
    expression: str


@dataclass(frozen=True, slots=True)
class EventDefinition:
    """What an event is about. kind: `message`, `timer`, `error`, `signal`, `escalation`, `terminate`, `link`,
    `conditional`, `compensate`, `cancel`; `link` is the link's name, `condition` the text of a conditional event.
    """

    kind: str
    line: int
    message: Message | None = None
    signal: Signal | None = None
    error: Error | None = None
    escalation: Escalation | None = None
    timer: Timer | None = None
    link: str | None = None
    condition: str | None = None


@dataclass(slots=True)
class Extensions:
    """What stands in `extensionElements` in Zeebe's namespace. The mappings are the attributes as they stand in the file.

    `tags` are the names of all of them, known or not, in order: to refuse what one does not support.
    """

    task_definition: TaskDefinition | None = None
    inputs: tuple[IoMapping, ...] = ()
    outputs: tuple[IoMapping, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    called_element: Mapping[str, str] | None = None
    called_decision: Mapping[str, str] | None = None
    script: Mapping[str, str] | None = None
    ad_hoc: Mapping[str, str] | None = None
    form_definition: Mapping[str, str] | None = None
    subscription: Mapping[str, str] | None = None
    user_task: bool = False
    linked_resources: tuple[Mapping[str, str], ...] = ()
    version_tag: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SequenceFlow:
    id: str
    name: str | None
    source: str
    target: str
    condition: str | None
    is_default: bool
    line: int


@dataclass(slots=True)
class FlowElement:
    """A flow node. `kind` is its BPMN tag (`serviceTask`); a sub-process has its own `elements` and `flows`."""

    id: str
    name: str | None
    kind: str
    line: int
    parent: "FlowElement | None"
    extensions: Extensions
    documentation: str | None = None
    events: tuple[EventDefinition, ...] = ()
    loop: Loop | None = None
    incoming: list[SequenceFlow] = field(default_factory=list)
    outgoing: list[SequenceFlow] = field(default_factory=list)
    default: str | None = None
    attached_to: str | None = None
    interrupting: bool = True  # cancelActivity of a boundary event, isInterrupting of a start event
    triggered_by_event: bool = False
    message: Message | None = None  # of a receive task
    for_compensation: bool = False
    cancel_remaining_instances: bool = True  # of an ad-hoc sub-process
    completion_condition: str | None = None  # of an ad-hoc sub-process
    template: str | None = None  # zeebe:modelerTemplate
    template_version: str | None = None
    template_icon: str | None = None
    elements: "dict[str, FlowElement]" = field(default_factory=dict)
    flows: dict[str, SequenceFlow] = field(default_factory=dict)

    def walk(self) -> "Iterator[FlowElement]":
        """All elements below this one, in the order of the file."""
        for element in self.elements.values():
            yield element
            yield from element.walk()


@dataclass(slots=True)
class Process:
    id: str
    name: str | None
    is_executable: bool
    version_tag: str | None
    line: int
    extensions: Extensions
    elements: dict[str, FlowElement] = field(default_factory=dict)
    flows: dict[str, SequenceFlow] = field(default_factory=dict)

    def walk(self) -> Iterator[FlowElement]:
        """All elements of the process, nested ones too, in the order of the file."""
        for element in self.elements.values():
            yield element
            yield from element.walk()


@dataclass(frozen=True, slots=True)
class Definitions:
    processes: tuple[Process, ...]
    messages: Mapping[str, Message]
    signals: Mapping[str, Signal]
    errors: Mapping[str, Error]
    escalations: Mapping[str, Escalation]
