"""Process XML as the gateway reads it."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import bpmn

HEAD = f'xmlns:b="{bpmn.BPMN}" xmlns:z="{bpmn.ZEEBE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" id="d"'


def definitions(inside: str) -> str:
    return f"<b:definitions {HEAD}>{inside}</b:definitions>"


def process(inside: str, attributes: str = 'id="p" isExecutable="true"') -> str:
    return definitions(f"<b:process {attributes}>{inside}</b:process>")


def read(inside: str) -> bpmn.Process:
    """The one process with this content."""
    [found] = bpmn.parse(process(inside)).processes
    return found


def refusal(xml: bytes | str, **options: int) -> bpmn.BpmnError:
    with pytest.raises(bpmn.BpmnError) as caught:
        bpmn.parse(xml, file="orders.bpmn", **options)
    assert "orders.bpmn" in str(caught.value)
    return caught.value


def ext(inside: str) -> str:
    return f"<b:extensionElements>{inside}</b:extensionElements>"


# ---- processes, elements and flows -----------------------------------------------------------------------------------


def test_a_process_has_id_name_version_tag_and_whether_it_is_executable():
    version = ext('<z:versionTag value="1.2"/>')
    xml = definitions(
        f'<b:process id="a" name="A &amp; B" isExecutable="true">{version}</b:process><b:process id="b"/>'
    )
    first, second = bpmn.parse(xml).processes
    assert (first.id, first.name, first.version_tag, first.is_executable) == ("a", "A & B", "1.2", True)
    assert (second.id, second.name, second.version_tag, second.is_executable) == ("b", None, None, False)


def test_namespaces_count_by_uri_whatever_their_prefix():
    xml = f'<definitions xmlns="{bpmn.BPMN}"><process id="p"><startEvent id="s"/></process></definitions>'
    [found] = bpmn.parse(xml).processes
    assert [element.kind for element in found.walk()] == ["startEvent"]


def test_elements_of_other_namespaces_are_no_flow_elements():
    found = read('<x:startEvent xmlns:x="http://elsewhere" id="x"/><b:startEvent id="s"/><b:laneSet id="l"/>')
    assert list(found.elements) == ["s"]


def test_sequence_flows_join_elements_in_the_order_of_the_file():
    found = read(
        '<b:startEvent id="s"/><b:exclusiveGateway id="g" default="f3"/><b:endEvent id="a"/><b:endEvent id="b"/>'
        '<b:sequenceFlow id="f1" sourceRef="s" targetRef="g"/>'
        '<b:sequenceFlow id="f2" name="yes" sourceRef="g" targetRef="a">'
        '<b:conditionExpression xsi:type="b:tFormalExpression"> = x &gt; 1 </b:conditionExpression></b:sequenceFlow>'
        '<b:sequenceFlow id="f3" sourceRef="g" targetRef="b"/>'
    )
    gateway = found.elements["g"]
    assert [flow.id for flow in gateway.incoming] == ["f1"]
    assert [(flow.id, flow.name, flow.target, flow.condition, flow.is_default) for flow in gateway.outgoing] == [
        ("f2", "yes", "a", "= x > 1", False),
        ("f3", None, "b", None, True),
    ]
    assert found.flows["f2"] is gateway.outgoing[0]


def test_nested_scopes_keep_their_own_elements_and_know_their_parent():
    found = read(
        '<b:startEvent id="s"/><b:subProcess id="p1"><b:startEvent id="s1"/><b:subProcess id="p2" triggeredByEvent="true">'
        '<b:startEvent id="s2" isInterrupting="false"/></b:subProcess></b:subProcess>'
    )
    inner = found.elements["p1"].elements["p2"]
    assert [element.id for element in found.walk()] == ["s", "p1", "s1", "p2", "s2"]
    assert inner.triggered_by_event
    assert inner.parent is found.elements["p1"]
    assert not inner.elements["s2"].interrupting
    assert found.elements["s"].parent is None


def test_boundary_events_know_their_host_and_whether_they_interrupt():
    found = read(
        '<b:task id="t"/><b:boundaryEvent id="a" attachedToRef="t"/>'
        '<b:boundaryEvent id="b" attachedToRef="t" cancelActivity="false"/>'
    )
    assert (found.elements["a"].attached_to, found.elements["a"].interrupting) == ("t", True)
    assert not found.elements["b"].interrupting


def test_lines_are_those_of_the_file():
    found = read('\n<b:startEvent id="s"/>\n\n<b:task\n id="t"/>')
    assert (found.line, found.elements["s"].line) == (1, 2)
    assert found.elements["t"].line in {4, 5}


# ---- events ----------------------------------------------------------------------------------------------------------


def test_event_definitions_are_resolved_to_messages_signals_errors_and_escalations():
    top = (
        '<b:message id="m" name="go">' + ext('<z:subscription correlationKey="= key"/>') + "</b:message>"
        '<b:signal id="g" name="alarm"/><b:error id="x" name="Bad" errorCode="E-1"/>'
        '<b:escalation id="u" name="Up" escalationCode="U-1"/>'
    )
    kinds = "".join(
        f'<b:intermediateCatchEvent id="e{n}"><b:{kind}EventDefinition {kind}Ref="{ref}"/></b:intermediateCatchEvent>'
        for n, (kind, ref) in enumerate((("message", "m"), ("signal", "g"), ("error", "x"), ("escalation", "u")))
    )
    model = bpmn.parse(definitions(f'{top}<b:process id="p">{kinds}</b:process>'))
    message, signal, error, escalation = (element.events[0] for element in model.processes[0].elements.values())
    assert message.message is not None
    assert (message.message.name, message.message.correlation_key) == ("go", "= key")
    assert signal.signal is not None
    assert signal.signal.name == "alarm"
    assert error.error is not None
    assert (error.error.name, error.error.code) == ("Bad", "E-1")
    assert escalation.escalation is not None
    assert escalation.escalation.code == "U-1"
    assert model.messages["m"] is message.message


@pytest.mark.parametrize("kind", ["timeDate", "timeDuration", "timeCycle"])
def test_a_timer_has_its_kind_and_text(kind):
    timer = f"<b:timerEventDefinition><b:{kind}> = x </b:{kind}></b:timerEventDefinition>"
    [event] = read(f'<b:startEvent id="s">{timer}</b:startEvent>').elements["s"].events
    assert event.timer == bpmn.Timer(kind, "= x")


def test_link_terminate_and_conditional_events_are_read():
    found = read(
        '<b:intermediateThrowEvent id="l"><b:linkEventDefinition name="A"/></b:intermediateThrowEvent>'
        '<b:endEvent id="e"><b:terminateEventDefinition/></b:endEvent>'
        '<b:startEvent id="c"><b:conditionalEventDefinition><b:condition>= x</b:condition></b:conditionalEventDefinition>'
        "</b:startEvent>"
    )
    assert found.elements["l"].events[0].link == "A"
    assert found.elements["e"].events[0].kind == "terminate"
    assert found.elements["c"].events[0].condition == "= x"


def test_a_receive_task_has_its_message():
    xml = definitions(
        '<b:message id="m" name="go"/><b:process id="p"><b:receiveTask id="r" messageRef="m"/></b:process>'
    )
    message = bpmn.parse(xml).processes[0].elements["r"].message
    assert message is not None
    assert message.name == "go"


# ---- extensions ------------------------------------------------------------------------------------------------------


def test_a_task_has_its_job_headers_properties_and_mappings_in_order():
    task = ext(
        '<z:taskDefinition type="= t" retries="5"/>'
        '<z:ioMapping><z:input source="= a" target="x.y"/><z:output source="= r" target="o"/><z:input source="b" target="z"/>'
        '</z:ioMapping><z:taskHeaders><z:header key="h" value="1"/><z:header key="e"/></z:taskHeaders>'
        '<z:properties><z:property name="n" value="v"/></z:properties>'
    )
    template = 'z:modelerTemplate="io.http" z:modelerTemplateVersion="7" z:modelerTemplateIcon="data:,i"'
    element = read(f'<b:serviceTask id="t" {template}>{task}</b:serviceTask>').elements["t"]
    found = element.extensions
    assert found.task_definition is not None
    assert (found.task_definition.type, found.task_definition.retries) == ("= t", "5")
    assert [(m.source, m.target) for m in found.inputs] == [("= a", "x.y"), ("b", "z")]
    assert [(m.source, m.target) for m in found.outputs] == [("= r", "o")]
    assert (found.headers, found.properties) == ({"h": "1", "e": ""}, {"n": "v"})
    assert (element.template, element.template_version, element.template_icon) == ("io.http", "7", "data:,i")


def test_of_properties_with_one_name_the_first_that_has_a_value_counts():
    lines = ("n", None), ("n", "1"), ("n", "2"), ("empty", ""), ("none", None)
    tags = (f'<z:property name="{name}"' + ("/>" if v is None else f' value="{v}"/>') for name, v in lines)
    properties = ext("<z:properties>" + "".join(tags) + "</z:properties>")
    found = read(f'<b:task id="t">{properties}</b:task>').elements["t"]
    assert found.extensions.properties == {"n": "1", "empty": ""}


def test_the_other_extensions_keep_their_attributes():
    elements = (
        '<b:callActivity id="c">'
        + ext('<z:calledElement processId="q" propagateAllChildVariables="false"/>')
        + "</b:callActivity>"
        '<b:scriptTask id="s">' + ext('<z:script expression="= 1" resultVariable="r"/>') + "</b:scriptTask>"
        '<b:businessRuleTask id="d">'
        + ext('<z:calledDecision decisionId="dd" resultVariable="r"/>')
        + "</b:businessRuleTask>"
        '<b:userTask id="u">' + ext('<z:userTask/><z:formDefinition formId="f"/>') + "</b:userTask>"
        '<b:serviceTask id="l">'
        + ext('<z:linkedResources><z:linkedResource resourceId="r"/></z:linkedResources>')
        + "</b:serviceTask>"
    )
    found = {element.id: element.extensions for element in read(elements).walk()}
    assert found["c"].called_element == {"processId": "q", "propagateAllChildVariables": "false"}
    assert found["s"].script == {"expression": "= 1", "resultVariable": "r"}
    assert found["d"].called_decision == {"decisionId": "dd", "resultVariable": "r"}
    assert found["u"].user_task
    assert found["u"].form_definition == {"formId": "f"}
    assert found["l"].linked_resources == ({"resourceId": "r"},)
    assert found["u"].tags == ("userTask", "formDefinition")


def test_an_ad_hoc_sub_process_has_its_collection_and_its_condition():
    inside = (
        ext('<z:adHoc activeElementsCollection="= [1]"/>') + "<b:completionCondition>= done</b:completionCondition>"
    )
    element = read(f'<b:adHocSubProcess id="a" cancelRemainingInstances="false">{inside}</b:adHocSubProcess>').elements[
        "a"
    ]
    assert element.extensions.ad_hoc == {"activeElementsCollection": "= [1]"}
    assert element.completion_condition == "= done"
    assert not element.cancel_remaining_instances


def test_a_loop_has_its_collections_and_its_condition():
    own = ext(
        '<z:loopCharacteristics inputCollection="= xs" inputElement="x" outputCollection="rs" outputElement="= r"/>'
    )
    loop = (
        f'<b:multiInstanceLoopCharacteristics isSequential="true">{own}'
        "<b:completionCondition>= done</b:completionCondition></b:multiInstanceLoopCharacteristics>"
    )
    found = read(f'<b:serviceTask id="t">{loop}</b:serviceTask>').elements["t"].loop
    assert found is not None
    assert found.sequential
    assert (found.input_collection, found.input_element) == ("= xs", "x")
    assert (found.output_collection, found.output_element, found.completion_condition) == ("rs", "= r", "= done")


def test_documentation_is_text_without_markup():
    assert (
        read('<b:task id="t"><b:documentation>Does <i>it</i></b:documentation></b:task>').elements["t"].documentation
        == "Does it"
    )


# ---- what is refused: models -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inside", "element_id", "says"),
    [
        ("<b:task/>", None, "a task has no id"),
        ('<b:task id="t"/><b:task id="t"/>', "t", "the id 't' is used twice"),
        ('<b:task id="t"/><b:sequenceFlow id="f" sourceRef="t" targetRef="q"/>', "f", "targetRef names 'q'"),
        ('<b:sequenceFlow id="f" targetRef="q"/>', "f", "sourceRef names ''"),
        ('<b:boundaryEvent id="b"/>', "b", "no attachedToRef"),
        ('<b:boundaryEvent id="b" attachedToRef="q"/>', "b", "attachedToRef names 'q'"),
        ('<b:exclusiveGateway id="g" default="q"/>', "g", "the default flow 'q' does not leave"),
        ('<b:startEvent id="s"><b:messageEventDefinition messageRef="q"/></b:startEvent>', "s", "messageRef names 'q'"),
        ('<b:receiveTask id="r" messageRef="q"/>', "r", "messageRef names 'q'"),
    ],
)
def test_a_model_that_makes_no_sense_is_refused_with_file_line_and_element(inside, element_id, says):
    error = refusal(process("\n" + inside))
    assert says in str(error)
    assert error.element_id == element_id
    assert error.line == 2
    assert "line 2" in str(error)


def test_flows_do_not_cross_scopes():
    inside = '<b:task id="t"/><b:subProcess id="p1"><b:task id="u"/></b:subProcess><b:sequenceFlow id="f" sourceRef="t" targetRef="u"/>'
    assert "no element of the same scope" in str(refusal(process(inside)))


@pytest.mark.parametrize("root", ["<a/>", "<definitions/>", f'<b:process xmlns:b="{bpmn.BPMN}"/>'])
def test_xml_that_is_no_bpmn_is_refused(root):
    assert "expected the root bpmn:definitions" in str(refusal(root))


# ---- what is refused: XML --------------------------------------------------------------------------------------------

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
BOMBS = {
    "billion laughs": f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY l0 "ha">{LAUGHS}]><d>&l9;</d>',
    "laughs in an attribute": f'<!DOCTYPE d [<!ENTITY l0 "ha">{LAUGHS}]><d a="&l9;"/>',
    "quadratic": f'<!DOCTYPE d [<!ENTITY a "{"a" * 50_000}">]><d>{"&a;" * 50_000}</d>',
    "external entity": '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><d>&x;</d>',
    "external DTD": '<!DOCTYPE d SYSTEM "http://127.0.0.1:9/d.dtd"><d/>',
    "parameter entity": '<!DOCTYPE d [<!ENTITY % x SYSTEM "http://127.0.0.1:9/"> %x;]><d/>',
    "behind a comment": "<!-- <definitions> --><?go?>\n<!DOCTYPE d []><d/>",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-8-sig"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_doctype_is_refused_at_once_in_any_encoding(name, encoding):
    begin = time.perf_counter()
    error = refusal(BOMBS[name].encode(encoding))
    assert time.perf_counter() - begin < 0.05
    assert "DOCTYPE" in str(error)
    assert "root:" not in str(error)


def test_text_that_looks_like_a_doctype_is_text():
    documentation = "<b:documentation><![CDATA[<!DOCTYPE html>]]></b:documentation>"
    assert read(f'<b:task id="t">{documentation}</b:task>').elements["t"].documentation == "<!DOCTYPE html>"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252"])
def test_usual_encodings_are_read(encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + process('<b:task id="t" name="Prüfung"/>')
    assert bpmn.parse(text.encode(encoding)).processes[0].elements["t"].name == "Prüfung"


@pytest.mark.parametrize("encoding", ["UTF-7", "IBM037", "EBCDIC-CP-US", "nonsense"])
def test_unusual_encodings_are_refused_as_a_doctype_could_hide_in_them(encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + process("")
    assert encoding in str(refusal(text.encode()))


def test_ebcdic_is_refused_though_the_parser_would_know_it():
    assert "expected '<'" in str(refusal(process("").encode("cp037")))


def test_bytes_that_are_not_of_their_encoding_are_refused():
    assert "no well-formed XML" in str(refusal(process('<b:task id="\xfc"/>').encode("iso-8859-1")))


@pytest.mark.parametrize("depth", [150, 5_000, 200_000])
def test_deep_nesting_is_refused(depth):
    begin = time.perf_counter()
    refusal("<a>" * depth + "</a>" * depth)
    nested = "".join(f'<b:subProcess id="p{n}">' for n in range(depth)) + "</b:subProcess>" * depth
    refusal(process(nested), max_bytes=32 * 1024 * 1024)
    assert time.perf_counter() - begin < 2


def test_large_files_are_refused_unread():
    assert "more than the 100 allowed" in str(refusal(process(""), max_bytes=100))


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n<", "nonsense", "<a", "<a></b>", "<!--", "<?xml", "<a>&undefined;</a>", "<b:definitions/>", "\0"],
)
def test_text_that_is_no_xml_is_refused(text):
    refusal(text)
    refusal(text.encode())


def read_or_refuse(content: bytes) -> bool:
    """Whether it could be read; any other error than BpmnError is a failure."""
    try:
        return isinstance(bpmn.parse(content), bpmn.Definitions)
    except bpmn.BpmnError as e:
        return not e.reason


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_with_a_reason(content):
    assert not read_or_refuse(content)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_damage_to_a_model_is_read_or_refused_with_a_reason(data):
    whole = process(
        '<b:startEvent id="s"/><b:task id="t"/><b:sequenceFlow id="f" sourceRef="s" targetRef="t"/>'
    ).encode()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 20)))
    damaged = whole[:begin] + data.draw(st.binary(max_size=10)) + whole[end:]
    assert read_or_refuse(damaged) in {True, False}
    assert read_or_refuse(whole)
