"""Process XML -> processes, elements, and what Zeebe reads of them. Pure: text in, data out.

`parse` reads any BPMN 2.0 file, whether an engine could run it or not: who executes it judges that. What it refuses with
`BpmnError` is what no reader can make sense of: no XML, no BPMN, an element without an id or with one used twice, a
reference to nothing.

XML is read without DTD, entities and network; size, depth and encodings are limited, before anything is expanded.

Words and attributes: BPMN 2.0.2 (OMG formal/13-12-09) and Zeebe's extension schema (camunda/zeebe-bpmn-moddle, README).
"""

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
from gateway.bpmn.reader import BPMN, MAX_BYTES, MAX_DEPTH, ZEEBE, parse

__all__ = [
    "BPMN",
    "MAX_BYTES",
    "MAX_DEPTH",
    "ZEEBE",
    "BpmnError",
    "Definitions",
    "Error",
    "Escalation",
    "EventDefinition",
    "Extensions",
    "FlowElement",
    "IoMapping",
    "Loop",
    "Message",
    "Process",
    "SequenceFlow",
    "Signal",
    "TaskDefinition",
    "Timer",
    "parse",
]
