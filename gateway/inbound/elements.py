"""Inbound elements: what a deployed process says of the events it waits for. Pure.

Source: the original's connector runtime, discovery of `zeebe:property` elements (Camunda docs, "Inbound connectors"). An element
that cannot be used is reported as invalid, with the reason; the rest of the process works.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway import bpmn
from gateway.durations import MAX_MILLISECONDS, parse_milliseconds
from gateway.sdk import InboundElement, Point

INBOUND_TYPE = "inbound.type"

RUNTIME_PROPERTIES = frozenset(
    {
        INBOUND_TYPE,
        "deduplicationMode",
        "deduplicationId",
        "messageIdExpression",
        "correlationKeyExpression",
        "inbound.activationCondition",
        "activationCondition",
        "consumeUnmatchedEvents",
        "messageTtl",
        "synchronousResponse",
    }
)
"""Properties that the runtime itself interprets; they are not shown as the connector's data."""

DEDUPLICATION_EXCLUDED = RUNTIME_PROPERTIES | {
    "correlationRequired",
    "deduplicationModeManualFlag",
    "resultExpression",
    "resultVariable",
}
"""Properties that two elements may differ in and still share one subscription."""

_KINDS = frozenset({"startEvent", "intermediateCatchEvent", "boundaryEvent", "receiveTask"})


@dataclass(frozen=True, slots=True)
class InvalidElement:
    """An element that says it is inbound, but cannot be used. starts: it would start instances, were it valid."""

    element_id: str
    type: str
    bpmn_process_id: str
    process_definition_key: int
    tenant_id: str
    reason: str
    properties: Mapping[str, str] = field(hash=False)
    starts: bool = False


def inbound_elements(
    definitions: bpmn.Definitions, *, bpmn_process_id: str, version: int, key: int, tenant_id: str
) -> tuple[list[InboundElement], list[InvalidElement]]:
    """The inbound elements of one process of a file, and those that cannot be used."""
    good: list[InboundElement] = []
    bad: list[InvalidElement] = []
    for process in definitions.processes:
        if process.id != bpmn_process_id:
            continue
        for element in _eligible(process):
            properties = element.extensions.properties
            try:
                good.append(_element(process, element, version, key, tenant_id))
            except ValueError as e:
                starts = element.kind == "startEvent" and not _in_event_sub_process(element)
                connector = properties[INBOUND_TYPE]
                bad.append(
                    InvalidElement(element.id, connector, process.id, key, tenant_id, str(e), properties, starts)
                )
    return good, bad


def _eligible(process: bpmn.Process) -> Iterator[bpmn.FlowElement]:
    for element in process.walk():
        if element.kind in _KINDS and INBOUND_TYPE in element.extensions.properties:
            yield element


def _element(
    process: bpmn.Process, element: bpmn.FlowElement, version: int, key: int, tenant_id: str
) -> InboundElement:
    point, message = _point(element)
    properties = element.extensions.properties
    return InboundElement(
        element_id=element.id,
        element_name=element.name,
        kind=element.kind,
        point=point,
        bpmn_process_id=process.id,
        process_name=process.name,
        version=version,
        process_definition_key=key,
        tenant_id=tenant_id,
        properties=properties,
        message_name=message,
        message_ttl_ms=_ttl(properties.get("messageTtl")),
        attached_to=element.attached_to,
        in_event_sub_process=_in_event_sub_process(element),
        template_id=element.template,
        template_version=element.template_version,
        template_icon=element.template_icon,
    )


def _in_event_sub_process(element: bpmn.FlowElement) -> bool:
    return element.parent is not None and element.parent.triggered_by_event


def _point(element: bpmn.FlowElement) -> tuple[Point, str | None]:
    if element.kind == "receiveTask":
        message = element.message
    else:
        event = next((e for e in element.events if e.kind == "message"), None)
        if event is None and element.kind == "startEvent":
            return Point.START, None
        if event is None:
            raise ValueError(f"{element.kind} without a message event definition")
        message = event.message
    if message is None or not message.name:
        raise ValueError(f"{element.kind} without a message")
    if element.kind == "startEvent":
        return Point.MESSAGE_START, message.name
    if element.extensions.properties.get("correlationKeyExpression") is None:
        raise ValueError("correlationKeyExpression: expected a FEEL expression, but there is none")
    return Point.MESSAGE, message.name


def _ttl(text: str | None) -> int | None:
    if text is None or not text.strip():
        return None
    try:
        milliseconds = parse_milliseconds(text.strip())
    except ValueError:
        raise ValueError(f"messageTtl: expected an ISO 8601 duration such as PT1H, but got {text!r}") from None
    if abs(milliseconds) > MAX_MILLISECONDS:
        raise ValueError(f"messageTtl: expected at most {MAX_MILLISECONDS} milliseconds, but got {text!r}")
    return milliseconds
