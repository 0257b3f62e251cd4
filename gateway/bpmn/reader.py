"""XML -> model: hardened parsing, then one pass over the tree."""

import re
import sys
from typing import TypeVar, cast

from lxml import etree

from gateway.bpmn.model import (
    BpmnError,
    Definitions,
    Error,
    Escalation,
    EventDefinition,
    Extensions,
    FlowElement,
    IoMapping,
    Loop,
    Message,
    Process,
    SequenceFlow,
    Signal,
    TaskDefinition,
    Timer,
)

BPMN = "http://www.omg.org/spec/BPMN/20100524/MODEL"
ZEEBE = "http://camunda.org/schema/zeebe/1.0"
MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 100

_B, _Z = f"{{{BPMN}}}", f"{{{ZEEBE}}}"
_ENCODINGS = frozenset({"utf-8", "utf8", "utf-16", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "windows-1252"})
_FLOW_NODES = frozenset(
    {
        *(
            "startEvent",
            "endEvent",
            "intermediateCatchEvent",
            "intermediateThrowEvent",
            "implicitThrowEvent",
            "boundaryEvent",
        ),
        *("task", "serviceTask", "sendTask", "receiveTask", "userTask", "manualTask", "scriptTask", "businessRuleTask"),
        *("callActivity", "subProcess", "transaction", "adHocSubProcess"),
        *("exclusiveGateway", "inclusiveGateway", "parallelGateway", "eventBasedGateway", "complexGateway"),
    }
)
_SCOPES = frozenset({"subProcess", "transaction", "adHocSubProcess"})
_EVENT = "EventDefinition"
_ATTRIBUTES_ONLY = {
    "calledElement": "called_element",
    "calledDecision": "called_decision",
    "script": "script",
    "adHoc": "ad_hoc",
    "formDefinition": "form_definition",
    "subscription": "subscription",
}

_Root = TypeVar("_Root", Message, Signal, Error, Escalation)


def parse(xml: bytes | str, *, file: str = "", max_bytes: int = MAX_BYTES) -> Definitions:
    """Reads a BPMN file; `file` is its name in errors. Raises BpmnError. Takes some 10 us an element."""
    root = _read_xml(xml, file, max_bytes)
    if root.tag != f"{_B}definitions":
        raise BpmnError(
            f"expected the root bpmn:definitions of {BPMN}, but it is {root.tag}", file=file, line=_line(root)
        )
    return _Reader(file).definitions(root)


def _read_xml(xml: bytes | str, file: str, max_bytes: int) -> etree._Element:
    content = xml.encode("utf-8", "replace") if isinstance(xml, str) else xml
    if len(content) > max_bytes:
        raise BpmnError(f"the file has {len(content)} bytes, more than the {max_bytes} allowed", file=file)
    _check_prolog(content, file, declared=not isinstance(xml, str))
    parser = etree.XMLParser(
        resolve_entities=False, load_dtd=False, no_network=True, dtd_validation=False, huge_tree=False,
        remove_comments=True, remove_pis=True, encoding="utf-8" if isinstance(xml, str) else None,
    )  # fmt: skip
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as e:
        raise BpmnError(f"no well-formed XML: {e.msg}", file=file, line=e.lineno) from None
    except (ValueError, LookupError) as e:
        raise BpmnError(f"no well-formed XML: {e}", file=file) from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise BpmnError("a DOCTYPE is not allowed", file=file)
    _check_depth(root, file)
    return root


def _check_prolog(content: bytes, file: str, *, declared: bool) -> None:
    """Refuses a DOCTYPE and unusual encodings before the parser sees them: in other encodings `<` may hide from this scan."""
    head = content.removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff").replace(b"\0", b"")
    if declared and (named := re.match(rb"<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([^\"']{0,60})", head)):
        encoding = named[1].decode("ascii", "replace")
        if encoding.lower() not in _ENCODINGS:
            raise BpmnError(f"the encoding {encoding!r} is not supported, expected UTF-8", file=file, line=1)
    at = 0
    while True:
        at += len(head[at:]) - len(head[at:].lstrip())
        if not head.startswith(b"<", at):
            raise BpmnError("no XML: expected '<' as the first character", file=file, line=1)
        if head.startswith((b"<!--", b"<?"), at):
            close = b"-->" if head.startswith(b"<!--", at) else b"?>"
            found = head.find(close, at + 2)
            if found < 0:
                raise BpmnError("no well-formed XML: it ends in a comment or instruction", file=file)
            at = found + len(close)
        elif head.startswith(b"<!", at):
            raise BpmnError("a DOCTYPE is not allowed", file=file, line=head.count(b"\n", 0, at) + 1)
        else:
            return


def _check_depth(root: etree._Element, file: str) -> None:
    depth = 0
    for event, node in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > MAX_DEPTH:
            raise BpmnError(f"elements are nested more than {MAX_DEPTH} deep", file=file, line=_line(node))


def _line(node: etree._Element) -> int:
    return cast("int | None", node.sourceline) or 0


def _text(node: etree._Element | None) -> str | None:
    return None if node is None else "".join(str(part) for part in node.itertext()).strip() or None


def _local(node: etree._Element, namespace: str) -> str | None:
    """The tag without namespace, None when it is of another one."""
    tag = str(node.tag)
    return tag[len(namespace) :] if tag.startswith(namespace) else None


def _flag(node: etree._Element, name: str, *, default: bool) -> bool:
    value = node.get(name)
    return default if value is None else value.strip() in {"true", "1"}


def _attributes(node: etree._Element) -> dict[str, str]:
    return {str(k): str(v) for k, v in node.attrib.items()}


def _properties(node: etree._Element) -> dict[str, str]:
    """The first of a name counts; one without a value is none."""
    found: dict[str, str] = {}
    for one in node.iterchildren(f"{_Z}property"):
        value = one.get("value")
        if value is not None:
            found.setdefault(sys.intern(one.get("name", "")), value)
    return found


class _Reader:
    """Reads one file: roots first, as events refer to them from anywhere, then each process."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._ids: dict[str, int] = {}
        self._messages: dict[str, Message] = {}
        self._signals: dict[str, Signal] = {}
        self._errors: dict[str, Error] = {}
        self._escalations: dict[str, Escalation] = {}

    def definitions(self, root: etree._Element) -> Definitions:
        for node in root:
            self._root(node)
        processes = tuple(self._process(node) for node in root.iterchildren(f"{_B}process"))
        return Definitions(processes, self._messages, self._signals, self._errors, self._escalations)

    def _fail(self, node: etree._Element, reason: str, element_id: str | None = None) -> BpmnError:
        return BpmnError(reason, file=self._file, line=_line(node), element_id=element_id or node.get("id"))

    def _root(self, node: etree._Element) -> None:
        kind = _local(node, _B)
        if kind not in {"message", "signal", "error", "escalation"}:
            return
        id_, name, line = self._id(node, kind), node.get("name"), _line(node)
        if kind == "message":
            subscription = node.find(f"{_B}extensionElements/{_Z}subscription")
            key = None if subscription is None else subscription.get("correlationKey")
            self._messages[id_] = Message(id_, name, key, line)
        elif kind == "signal":
            self._signals[id_] = Signal(id_, name, line)
        elif kind == "error":
            self._errors[id_] = Error(id_, name, node.get("errorCode"), line)
        else:
            self._escalations[id_] = Escalation(id_, name, node.get("escalationCode"), line)

    def _id(self, node: etree._Element, kind: str) -> str:
        id_ = node.get("id")
        if not id_:
            raise self._fail(node, f"a {kind} has no id")
        if id_ in self._ids:
            raise self._fail(node, f"the id '{id_}' is used twice, first in line {self._ids[id_]}")
        self._ids[id_] = _line(node)
        return id_

    def _process(self, node: etree._Element) -> Process:
        extensions = self._extensions(node)
        process = Process(
            id=self._id(node, "process"),
            name=node.get("name"),
            is_executable=_flag(node, "isExecutable", default=False),
            version_tag=extensions.version_tag,
            line=_line(node),
            extensions=extensions,
        )
        process.elements, process.flows = self._scope(node, None)
        return process

    def _scope(
        self, node: etree._Element, parent: FlowElement | None
    ) -> tuple[dict[str, FlowElement], dict[str, SequenceFlow]]:
        elements: dict[str, FlowElement] = {}
        flows: list[etree._Element] = []
        for child in node:
            kind = _local(child, _B)
            if kind == "sequenceFlow":
                flows.append(child)
            elif kind in _FLOW_NODES:
                element = self._element(child, kind, parent)
                elements[element.id] = element
        for element in elements.values():
            if element.attached_to is not None and element.attached_to not in elements:
                reason = f"attachedToRef names '{element.attached_to}', which is no element of the same scope"
                raise BpmnError(reason, file=self._file, line=element.line, element_id=element.id)
        joined = {flow.id: flow for flow in (self._flow(child, elements) for child in flows)}
        for element in elements.values():
            if element.default is not None and element.default not in {flow.id for flow in element.outgoing}:
                reason = f"the default flow '{element.default}' does not leave the element"
                raise BpmnError(reason, file=self._file, line=element.line, element_id=element.id)
        return elements, joined

    def _flow(self, node: etree._Element, elements: dict[str, FlowElement]) -> SequenceFlow:
        id_ = self._id(node, "sequenceFlow")
        ends = []
        for attribute in ("sourceRef", "targetRef"):
            name = node.get(attribute, "")
            if name not in elements:
                raise self._fail(node, f"{attribute} names '{name}', which is no element of the same scope")
            ends.append(elements[name])
        source, target = ends
        flow = SequenceFlow(
            id=id_,
            name=node.get("name"),
            source=source.id,
            target=target.id,
            condition=_text(node.find(f"{_B}conditionExpression")),
            is_default=source.default == id_,
            line=_line(node),
        )
        source.outgoing.append(flow)
        target.incoming.append(flow)
        return flow

    def _element(self, node: etree._Element, kind: str, parent: FlowElement | None) -> FlowElement:
        id_ = self._id(node, kind)
        interrupting = "cancelActivity" if kind == "boundaryEvent" else "isInterrupting"
        element = FlowElement(
            id=id_,
            name=node.get("name"),
            kind=kind,
            line=_line(node),
            parent=parent,
            extensions=self._extensions(node),
            documentation=_text(node.find(f"{_B}documentation")),
            events=self._events(node),
            loop=self._loop(node),
            default=node.get("default"),
            attached_to=node.get("attachedToRef"),
            interrupting=_flag(node, interrupting, default=True),
            triggered_by_event=_flag(node, "triggeredByEvent", default=False),
            for_compensation=_flag(node, "isForCompensation", default=False),
            template=node.get(f"{_Z}modelerTemplate"),
            template_version=node.get(f"{_Z}modelerTemplateVersion"),
            template_icon=node.get(f"{_Z}modelerTemplateIcon"),
        )
        if kind == "boundaryEvent" and element.attached_to is None:
            raise self._fail(node, "a boundary event has no attachedToRef")
        if (ref := node.get("messageRef")) is not None:
            element.message = self._referenced(node, self._messages, ref, "messageRef", id_)
        if kind in _SCOPES:
            element.cancel_remaining_instances = _flag(node, "cancelRemainingInstances", default=True)
            element.completion_condition = _text(node.find(f"{_B}completionCondition"))
            element.elements, element.flows = self._scope(node, element)
        return element

    def _events(self, node: etree._Element) -> tuple[EventDefinition, ...]:
        found = []
        for child in node:
            tag = _local(child, _B)
            if tag is not None and tag.endswith(_EVENT):
                found.append(self._event(child, tag.removesuffix(_EVENT), node.get("id")))
        return tuple(found)

    def _event(self, node: etree._Element, kind: str, owner: str | None) -> EventDefinition:
        def of(roots: dict[str, _Root], attribute: str) -> _Root | None:
            ref = node.get(attribute)
            return None if ref is None else self._referenced(node, roots, ref, attribute, owner)

        return EventDefinition(
            kind=kind,
            line=_line(node),
            message=of(self._messages, "messageRef"),
            signal=of(self._signals, "signalRef"),
            error=of(self._errors, "errorRef"),
            escalation=of(self._escalations, "escalationRef"),
            timer=self._timer(node) if kind == "timer" else None,
            link=node.get("name") if kind == "link" else None,
            condition=_text(node.find(f"{_B}condition")),
        )

    def _referenced(
        self, node: etree._Element, roots: dict[str, _Root], ref: str, attribute: str, owner: str | None
    ) -> _Root:
        """QNames are allowed as references: what counts is the part after the colon."""
        found = roots.get(ref) or roots.get(ref.rpartition(":")[2])
        if found is None:
            raise self._fail(node, f"{attribute} names '{ref}', which the file does not define", owner)
        return found

    def _timer(self, node: etree._Element) -> Timer | None:
        for kind in ("timeDate", "timeDuration", "timeCycle"):
            if (text := _text(node.find(f"{_B}{kind}"))) is not None:
                return Timer(kind, text)
        return None

    def _loop(self, node: etree._Element) -> Loop | None:
        found = node.find(f"{_B}multiInstanceLoopCharacteristics")
        if found is None:
            return None
        own = found.find(f"{_B}extensionElements/{_Z}loopCharacteristics")
        attributes = {} if own is None else _attributes(own)
        return Loop(
            sequential=_flag(found, "isSequential", default=False),
            input_collection=attributes.get("inputCollection"),
            input_element=attributes.get("inputElement"),
            output_collection=attributes.get("outputCollection"),
            output_element=attributes.get("outputElement"),
            completion_condition=_text(found.find(f"{_B}completionCondition")),
            line=_line(found),
        )

    def _extensions(self, node: etree._Element) -> Extensions:
        result = Extensions()
        block = node.find(f"{_B}extensionElements")
        if block is None:
            return result
        tags = []
        for child in block:
            tag = _local(child, _Z)
            if tag is not None:
                tags.append(tag)
                self._extension(result, tag, child)
        result.tags = tuple(tags)
        return result

    def _extension(self, result: Extensions, tag: str, node: etree._Element) -> None:
        if tag == "taskDefinition":
            result.task_definition = TaskDefinition(node.get("type", ""), node.get("retries"), _line(node))
        elif tag == "ioMapping":
            result.inputs = self._mappings(node, "input")
            result.outputs = self._mappings(node, "output")
        elif tag == "taskHeaders":
            result.headers = {h.get("key", ""): h.get("value", "") for h in node.iterchildren(f"{_Z}header")}
        elif tag == "properties":
            result.properties = _properties(node)
        elif tag == "linkedResources":
            result.linked_resources = tuple(_attributes(r) for r in node.iterchildren(f"{_Z}linkedResource"))
        elif tag == "versionTag":
            result.version_tag = node.get("value")
        elif tag == "userTask":
            result.user_task = True
        elif tag in _ATTRIBUTES_ONLY:
            setattr(result, _ATTRIBUTES_ONLY[tag], _attributes(node))

    def _mappings(self, node: etree._Element, tag: str) -> tuple[IoMapping, ...]:
        found = node.iterchildren(f"{_Z}{tag}")
        return tuple(IoMapping(one.get("source", ""), one.get("target", ""), _line(one)) for one in found)
