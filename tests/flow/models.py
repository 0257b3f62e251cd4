"""Process models as text: start -> task -> end, and an error boundary event if one is asked for."""

from xml.sax.saxutils import quoteattr

HTTP = "io.camunda:http-json:1"


def process(
    process_id: str,
    inputs: dict[str, str],
    headers: dict[str, str],
    *,
    retries: int = 3,
    catch: str | None = None,
    job_type: str = HTTP,
) -> str:
    """inputs: dotted targets to sources (a leading `=` is FEEL); catch: the code of a BPMN error that leads to an end event."""
    rows = "".join(f"<z:input source={quoteattr(v)} target={quoteattr(k)}/>" for k, v in inputs.items())
    heads = "".join(f"<z:header key={quoteattr(k)} value={quoteattr(v)}/>" for k, v in headers.items())
    error = boundary = ""
    if catch is not None:
        error = f'<b:error id="error" errorCode={quoteattr(catch)}/>'
        boundary = (
            '<b:boundaryEvent id="caught" attachedToRef="task"><b:errorEventDefinition errorRef="error"/></b:boundaryEvent>'
            '<b:endEvent id="end-caught"/><b:sequenceFlow id="f3" sourceRef="caught" targetRef="end-caught"/>'
        )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<b:definitions xmlns:b="http://www.omg.org/spec/BPMN/20100524/MODEL" xmlns:z="http://camunda.org/schema/zeebe/1.0"
    targetNamespace="t">{error}
  <b:process id={quoteattr(process_id)} isExecutable="true">
    <b:startEvent id="start"/><b:sequenceFlow id="f1" sourceRef="start" targetRef="task"/>
    <b:serviceTask id="task"><b:extensionElements>
      <z:taskDefinition type={quoteattr(job_type)} retries="{retries}"/>
      <z:ioMapping>{rows}</z:ioMapping><z:taskHeaders>{heads}</z:taskHeaders>
    </b:extensionElements></b:serviceTask>
    <b:sequenceFlow id="f2" sourceRef="task" targetRef="end"/><b:endEvent id="end"/>{boundary}
  </b:process>
</b:definitions>"""
