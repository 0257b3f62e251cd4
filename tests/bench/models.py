"""Processes for inbound connectors, as files that the synthetic engine takes for deployed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

WEBHOOK: Final = "io.camunda:webhook:1"
KAFKA: Final = "io.camunda:connector-kafka-inbound:1"
RESULT: Final = "={order: request.body.orderId, total: request.body.total}"
RESPONSE: Final = (
    '={statusCode: 200, headers: {"X-Order": request.body.orderId}, '
    "body: {accepted: request.body.orderId, lines: count(request.body.items), instance: correlation.processInstanceKey}}"
)


def _process(process_id: str, properties: Mapping[str, str], *, message: str | None = None) -> str:
    """A start event that waits for events, and an end. message: it starts by that message."""
    rows = "".join(f"<z:property name={quoteattr(k)} value={quoteattr(v)}/>" for k, v in properties.items())
    declared = "" if message is None else f'<b:message id="message" name={quoteattr(message)}/>'
    definition = "" if message is None else '<b:messageEventDefinition messageRef="message"/>'
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<b:definitions xmlns:b="http://www.omg.org/spec/BPMN/20100524/MODEL" xmlns:z="http://camunda.org/schema/zeebe/1.0"
    id="d" targetNamespace="bench">{declared}
  <b:process id={quoteattr(process_id)} name={quoteattr(process_id)} isExecutable="true">
    <b:startEvent id="start"><b:extensionElements><z:properties>{rows}</z:properties></b:extensionElements>{definition}</b:startEvent>
    <b:endEvent id="end"/><b:sequenceFlow id="flow" sourceRef="start" targetRef="end"/>
  </b:process>
</b:definitions>"""


def plain_webhook(path: str) -> str:
    """Starts an instance with two variables of the body."""
    return _process(
        path,
        {"inbound.type": WEBHOOK, "inbound.context": path, "inbound.method": "post", "resultExpression": RESULT},
    )


def signed_webhook(path: str, secret: str) -> str:
    """The same for signed requests only, and an answer made by an expression. secret: a name."""
    properties = {
        "inbound.type": WEBHOOK,
        "inbound.context": path,
        "inbound.method": "post",
        "inbound.shouldValidateHmac": "enabled",
        "inbound.hmacSecret": f"{{{{secrets.{secret}}}}}",
        "inbound.hmacHeader": "X-Signature",
        "inbound.hmacAlgorithm": "sha_256",
        "inbound.responseExpression": RESPONSE,
        "resultExpression": RESULT,
    }
    return _process(path, properties)


def kafka_consumer(process_id: str, topic: str, bootstrap: str) -> str:
    """Publishes a message for each record, correlated by its key."""
    properties = {
        "inbound.type": KAFKA,
        "authenticationType": "credentials",
        "topic.bootstrapServers": bootstrap,
        "topic.topicName": topic,
        "groupId": f"group-{process_id}",
        "autoOffsetReset": "earliest",
        "resultExpression": "={order: value.orderId, total: value.total}",
    }
    return _process(process_id, properties, message=process_id)


def deploy(folder: Path, processes: Mapping[str, str]) -> Path:
    """Writes them where the engine looks when it starts."""
    folder.mkdir(parents=True, exist_ok=True)
    for process_id, xml in processes.items():
        (folder / f"{process_id}.bpmn").write_text(xml)
    return folder
