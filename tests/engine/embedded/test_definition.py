"""What is refused on deployment, and how it is said."""

import pytest

from gateway.engine import InvalidArgument, Resource
from tests.engine.embedded.models import (
    EMPTY,
    TERMINATE,
    boundary,
    element,
    end,
    error,
    job,
    mapped,
    message,
    on_error,
    on_message,
    on_timer,
    one_task,
    process,
    start,
    sub,
    task,
)

SIGNAL = "<b:signalEventDefinition/>"
GATEWAY = '<b:exclusiveGateway id="g"/>'
LOOP = "<b:multiInstanceLoopCharacteristics/>"
E1 = error("E", "E-1")
GO = message("m", "go")
KEYED = message("m", "go", "= key")


async def refusal(z, *models: str) -> str:
    with pytest.raises(InvalidArgument) as caught:
        await z.deploy(*models)
    text = str(caught.value)
    assert text.startswith("Expected to deploy new resources, but encountered the following errors:\n")
    return text


async def test_a_refusal_names_file_element_kind_line_and_reason(z):
    text = await refusal(z, process(start(), element("serviceTask", "lonely"), end(), flows="s lonely e"))
    file = f"'{z.name}0.bpmn'"
    assert (
        f"{file}: - Element: lonely\n    - ERROR: Must have exactly one 'zeebe:taskDefinition' extension element"
        in text
    )
    assert "(serviceTask, line 4)" in text


async def test_all_that_is_wrong_is_told_at_once(z):
    text = await refusal(
        z, process(start(), element("serviceTask", "a"), element("serviceTask", "b"), flows="s a b"), "<x"
    )
    assert "Element: a\n" in text
    assert "Element: b\n" in text
    assert f"'{z.name}1.bpmn': line 1: no well-formed XML" in text


async def test_of_several_resources_all_or_none_are_deployed(z, engine):
    with pytest.raises(InvalidArgument, match="lonely"):
        await z.deploy(EMPTY, process(start(), element("serviceTask", "lonely"), id_="§bad"))
    assert (await engine.search("process-definitions")).items == []
    made = await z.deploy(EMPTY, process(start(), end(), flows="s e", id_="§b"))
    assert [definition.bpmn_process_id for definition in made] == [z.name, z.full("§b")]


NOT_SUPPORTED = {
    "complexGateway": element("complexGateway", "x"),
    "inclusiveGateway": element("inclusiveGateway", "x"),
    "eventBasedGateway": element("eventBasedGateway", "x"),
    "callActivity": element("callActivity", "x", "", '<z:calledElement processId="q"/>'),
    "transaction": element("transaction", "x"),
    "adHocSubProcess": element("adHocSubProcess", "x"),
    "implicitThrowEvent": element("implicitThrowEvent", "x"),
    "Multi-instance": task("x", inner=LOOP),
    "Compensation": element("serviceTask", "x", "", job("x"), isForCompensation="true"),
    "Event sub-processes": sub("x", start("xs"), triggeredByEvent="true"),
    "'zeebe:userTask'": element("userTask", "x", "", "<z:userTask/>"),
    "Called decisions": element("businessRuleTask", "x", "", '<z:calledDecision decisionId="d" resultVariable="r"/>'),
    "'zeebe:executionListeners'": element("serviceTask", "x", "", job("x") + "<z:executionListeners/>"),
    "A signal event": element("intermediateCatchEvent", "x", SIGNAL),
    "A link event": element("intermediateThrowEvent", "x", '<b:linkEventDefinition name="A"/>'),
    "A escalation event": element("endEvent", "x", "<b:escalationEventDefinition/>"),
    "A conditional event": element("startEvent", "x", "<b:conditionalEventDefinition/>"),
}


@pytest.mark.parametrize("what", NOT_SUPPORTED)
async def test_what_this_engine_cannot_run_is_refused_by_name(z, what):
    text = await refusal(z, process(start(), NOT_SUPPORTED[what], end(), flows="s e"))
    assert "Element: x\n" in text
    assert what in text
    assert "not supported" in text


WRONG = {
    "no start event": (process(task(), end(), flows="t e"), "§", "at least one start event"),
    "two none start events": (
        process(start(), start("s2"), end(), flows="s e\ns2 e"),
        "§",
        "Multiple none start events",
    ),
    "a flow into a start event": (process(start(), task(), flows="s t s"), "s", "Must not have incoming"),
    "a flow out of an end event": (process(start(), end(), task(), flows="s e t"), "e", "Must not have outgoing"),
    "a blank job type": (one_task(job_type=" "), "t", "Task type must be present and not blank"),
    "retries that are no number": (one_task(retries="many"), "t", "retries to be a number, but they are 'many'"),
    "FEEL that does not parse": (one_task(inputs={"x": "= 1 +"}), "t", "failed to parse expression '1 +'"),
    "a target that is no path": (one_task(inputs={"a b": "= 1"}), "t", "target of the input to be a path of names"),
    "an empty target": (one_task(outputs={"": "= 1"}), "t", "target of the output to be a path of names"),
    "a script without a result": (
        process(start(), element("scriptTask", "x", "", '<z:script expression="= 1"/>'), flows="s x"),
        "x",
        "Must have a result variable",
    ),
    "a flow without a condition": (
        process(start(), GATEWAY, end("a"), end("b"), flows="s g\ng [= x] a\ng b"),
        "g_b",
        "Must have a condition or be default flow",
    ),
    "a condition that does not parse": (
        process(start(), GATEWAY, end("a"), end("b"), flows="s g\ng [= x >] a\ng [= y] b"),
        "g_a",
        "failed to parse expression 'x >'",
    ),
    "a condition that is no FEEL": (
        process(start(), GATEWAY, end("a"), end("b"), flows="s g\ng [x] a\ng [= y] b"),
        "g_a",
        "a leading '='",
    ),
    "a default flow with a condition": (
        process(
            start(),
            element("exclusiveGateway", "g", default="g_a"),
            end("a"),
            end("b"),
            flows="s g\ng [= x] a\ng [= y] b",
        ),
        "g_a",
        "Default flow must not have a condition",
    ),
    "a catch event without an event": (
        process(start(), element("intermediateCatchEvent", "c"), end(), flows="s c e"),
        "c",
        "exactly one event definition",
    ),
    "a boundary event without an event": (
        one_task(boundary("b", "t", ""), end("eb"), flows="b eb"),
        "b",
        "exactly one event",
    ),
    "two events in one": (
        process(start(), end("x", TERMINATE + on_error("E")), flows="s x", top=E1),
        "x",
        "more than one event definition",
    ),
    "a boundary event that leads nowhere": (one_task(boundary("b", "t", on_error())), "b", "at least one outgoing"),
    "a boundary event at a gateway": (
        process(start(), GATEWAY, end(), boundary("b", "g", on_error()), flows="s g e\nb e"),
        "b",
        "Must not be attached to an element of type 'exclusiveGateway'",
    ),
    "an error event that does not interrupt": (
        one_task(boundary("b", "t", on_error(), interrupting=False), end("eb"), flows="b eb"),
        "b",
        "Non-interrupting events of type 'error' are not allowed",
    ),
    "two events of one error code": (
        one_task(boundary("a", "t", on_error("E")), boundary("b", "t", on_error("E")), flows="a e\nb e", top=E1),
        "b",
        "the same error code 'E-1'",
    ),
    "two events for every error": (
        one_task(boundary("a", "t", on_error()), boundary("b", "t", on_error()), flows="a e\nb e"),
        "b",
        "no error code",
    ),
    "a caught error code by FEEL": (
        one_task(boundary("b", "t", on_error("E")), flows="b e", top=error("E", "= x")),
        "b",
        "error code of a catch event to be a text",
    ),
    "an error end event without a code": (
        process(start(), end("x", on_error()), flows="s x"),
        "x",
        "an error with an error code",
    ),
    "two events of one message": (
        one_task(boundary("a", "t", on_message("m")), boundary("b", "t", on_message("m")), flows="a e\nb e", top=KEYED),
        "b",
        "the same name 'go'",
    ),
    "a message without a correlation key": (
        process(start(), element("receiveTask", "r", messageRef="m"), flows="s r", top=GO),
        "r",
        "The message 'm' must have a 'zeebe:subscription' with a correlation key",
    ),
    "a receive task without a message": (
        process(start(), element("receiveTask", "r"), flows="s r"),
        "r",
        "reference a message",
    ),
    "a message name by variables at the start": (
        process(start("s", on_message("m")), end(), flows="s e", top=message("m", "= nothing")),
        "s",
        "message name of a start event to be 'STRING'",
    ),
    "two start events of one message": (
        process(start("s1", on_message("m")), start("s2", on_message("m")), end(), flows="s1 e\ns2 e", top=GO),
        "§",
        "Multiple message start events with the same name 'go'",
    ),
    "a timer without a time": (
        process(start(), element("intermediateCatchEvent", "c", "<b:timerEventDefinition/>"), flows="s c"),
        "c",
        "one of time date, duration or cycle",
    ),
    "a duration that is none": (
        process(start(), element("intermediateCatchEvent", "c", on_timer("Duration", "soon")), flows="s c"),
        "c",
        "Invalid duration format 'soon'",
    ),
    "a cycle at a catch event": (
        process(start(), element("intermediateCatchEvent", "c", on_timer("Cycle", "R2/PT1H")), flows="s c"),
        "c",
        "only allowed at a non-interrupting boundary event",
    ),
    "a cycle that interrupts": (
        one_task(boundary("b", "t", on_timer("Cycle", "R2/PT1H")), flows="b e"),
        "b",
        "only allowed at a non-interrupting boundary event",
    ),
    "a sub-process without a start event": (
        process(start(), sub("p", task()), flows="s p"),
        "p",
        "exactly one none start event",
    ),
    "a sub-process with a message start event": (
        process(start(), sub("p", start("ps", on_message("m"))), flows="s p", top=GO),
        "ps",
        "A message event is not supported here",
    ),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_model_that_cannot_run_is_refused_with_its_element(z, what):
    model, element_id, says = WRONG[what]
    text = await refusal(z, model)
    assert f"Element: {z.full(element_id)}\n" in text
    assert says in text


async def test_a_process_that_is_not_executable_is_refused(z):
    assert "at least one executable process" in await refusal(z, process(start(), end(), flows="s e", executable=False))


async def test_only_bpmn_files_are_deployed(engine):
    with pytest.raises(InvalidArgument, match=r"'form.json': Expected a file name that ends in .bpmn"):
        await engine.deploy([Resource("form.json", b"{}")])
    with pytest.raises(InvalidArgument, match="at least one resource"):
        await engine.deploy([])


async def test_one_deployment_cannot_hold_a_process_twice(z):
    assert f"Duplicated process id '{z.name}'" in await refusal(z, EMPTY, one_task())


async def test_mappings_of_a_refused_model_do_not_matter(z):
    text = await refusal(z, process(start(), element("task", "u", "", mapped({"x": "= ]"})), flows="s u"))
    assert "Element: u\n" in text
