"""BPMN for the tests of the engine's clients."""

from itertools import pairwise

from gateway.engine import Resource

_HEAD = (
    '<b:definitions xmlns:b="http://www.omg.org/spec/BPMN/20100524/MODEL" '
    'xmlns:zeebe="http://camunda.org/schema/zeebe/1.0" targetNamespace="t">'
)


def resource(process_id: str, body: str, *, before: str = "") -> Resource:
    """A deployable process with these elements; `before`: what stands beside it (messages, errors)."""
    text = f'{_HEAD}{before}<b:process id="{process_id}" isExecutable="true">{body}</b:process></b:definitions>'
    return Resource(f"{process_id}.bpmn", text.encode())


def flow(*ids: str) -> str:
    """Sequence flows from each element to the next."""
    return "".join(f'<b:sequenceFlow id="f-{a}-{b}" sourceRef="{a}" targetRef="{b}"/>' for a, b in pairwise(ids))


def job_task(element_id: str, job_type: str, *, headers: str = "", retries: int = 3) -> str:
    return (
        f'<b:serviceTask id="{element_id}"><b:extensionElements>'
        f'<zeebe:taskDefinition type="{job_type}" retries="{retries}"/>{headers}'
        "</b:extensionElements></b:serviceTask>"
    )


def one_task(process_id: str, *, retries: int = 3) -> Resource:
    """start -> task -> end; the job type is the process id."""
    headers = '<zeebe:taskHeaders><zeebe:header key="colour" value="blue"/></zeebe:taskHeaders>'
    task = job_task("task", process_id, headers=headers, retries=retries)
    return resource(process_id, f'<b:startEvent id="s"/>{task}<b:endEvent id="e"/>{flow("s", "task", "e")}')


def no_task(process_id: str) -> Resource:
    """start -> end."""
    return resource(process_id, f'<b:startEvent id="s"/><b:endEvent id="e"/>{flow("s", "e")}')


def error_boundary(process_id: str) -> Resource:
    """A task (job type: the process id) whose BPMN error `oops` leads to a task of type PROCESS-caught."""
    body = (
        f'<b:startEvent id="s"/>{job_task("task", process_id)}<b:endEvent id="e"/>'
        '<b:boundaryEvent id="boundary" attachedToRef="task"><b:errorEventDefinition errorRef="err"/></b:boundaryEvent>'
        f"{job_task('caught', process_id + '-caught')}{flow('s', 'task', 'e')}{flow('boundary', 'caught')}"
    )
    return resource(process_id, body, before='<b:error id="err" errorCode="oops"/>')


def message_catch(process_id: str, message: str) -> Resource:
    """start -> wait for the message, correlated by variable `key` -> task of type PROCESS -> end."""
    body = (
        '<b:startEvent id="s"/><b:intermediateCatchEvent id="wait"><b:messageEventDefinition messageRef="m"/>'
        f'</b:intermediateCatchEvent>{job_task("task", process_id)}<b:endEvent id="e"/>{flow("s", "wait", "task", "e")}'
    )
    extension = '<b:extensionElements><zeebe:subscription correlationKey="=key"/></b:extensionElements>'
    return resource(process_id, body, before=f'<b:message id="m" name="{message}">{extension}</b:message>')


def ad_hoc(process_id: str) -> Resource:
    """An ad-hoc sub-process that is run by jobs of type PROCESS and holds a task `tool` of type PROCESS-tool."""
    body = (
        '<b:startEvent id="s"/><b:adHocSubProcess id="agent"><b:extensionElements>'
        f'<zeebe:taskDefinition type="{process_id}"/></b:extensionElements>'
        f"{job_task('tool', process_id + '-tool')}</b:adHocSubProcess>"
        f'<b:endEvent id="e"/>{flow("s", "agent", "e")}'
    )
    return resource(process_id, body)
