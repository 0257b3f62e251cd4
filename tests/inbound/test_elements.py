"""What a process says of the events it waits for."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import bpmn
from gateway.durations import MAX_MILLISECONDS
from gateway.inbound.elements import DEDUPLICATION_EXCLUDED, RUNTIME_PROPERTIES, InvalidElement, inbound_elements
from gateway.sdk import InboundElement, Point
from tests.inbound.models import KEY, element, inbound, message, on_message, process, properties, sub

TOP = message("m", "paid") + message("nameless", "").replace(' name=""', "") + message("feel", '= "a" + key')
ON_PAID = on_message("m")


def read(*nodes: str, xml: str = "", **where: Any) -> tuple[list[InboundElement], list[InvalidElement]]:
    at = {"bpmn_process_id": "orders", "version": 3, "key": 77, "tenant_id": "blue", **where}
    text = xml or process(*nodes, top=TOP, id_="orders")
    return inbound_elements(bpmn.parse(text), **at)


def one(node: str) -> InboundElement:
    good, bad = read(node)
    assert bad == []
    [found] = good
    return found


def refused(node: str) -> InvalidElement:
    """What is said of the node; the other element of the process works."""
    good, bad = read(node, inbound("startEvent", "other"))
    assert [each.element_id for each in good] == ["other"]
    [found] = bad
    return found


# ---- which elements --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "point", "name"),
    [
        (inbound("startEvent", "x"), Point.START, None),
        (inbound("startEvent", "x", "<b:timerEventDefinition/>"), Point.START, None),
        (inbound("startEvent", "x", "<b:signalEventDefinition/>"), Point.START, None),
        (inbound("startEvent", "x", ON_PAID), Point.MESSAGE_START, "paid"),
        (inbound("intermediateCatchEvent", "x", ON_PAID, KEY), Point.MESSAGE, "paid"),
        (inbound("receiveTask", "x", given=KEY, messageRef="m"), Point.MESSAGE, "paid"),
    ],
)
def test_an_element_waits_at_the_point_that_its_kind_and_event_say(node, point, name):
    found = one(node)
    assert (found.element_id, found.point, found.message_name) == ("x", point, name)
    assert found.attached_to is None


def test_a_boundary_event_knows_what_it_is_attached_to():
    good, bad = read(element("task", "host"), inbound("boundaryEvent", "x", ON_PAID, KEY, attachedToRef="host"))
    assert bad == []
    assert [(e.kind, e.point, e.message_name, e.attached_to) for e in good] == [
        ("boundaryEvent", Point.MESSAGE, "paid", "host")
    ]


@pytest.mark.parametrize(
    "tag",
    [
        "intermediateThrowEvent",
        "endEvent",
        "serviceTask",
        "sendTask",
        "task",
        "userTask",
        "exclusiveGateway",
        "callActivity",
    ],
)
def test_other_kinds_of_elements_are_never_inbound(tag):
    assert read(inbound(tag, "x")) == ([], [])


def test_an_element_without_a_type_is_none_of_ours():
    valueless = '<z:properties><z:property name="inbound.type"/></z:properties>'
    assert read(element("startEvent", "a"), element("startEvent", "b", ext=valueless)) == ([], [])


def test_an_empty_type_is_a_type():
    assert one(element("startEvent", "x", ext=properties(type_=""))).type == ""


@pytest.mark.parametrize(("tag", "attributes"), [("subProcess", {}), ("transaction", {}), ("adHocSubProcess", {})])
def test_elements_are_found_in_nested_scopes(tag, attributes):
    wait = inbound("intermediateCatchEvent", "deep", ON_PAID, KEY)
    good, _ = read(element("subProcess", "outer", element(tag, "inner", wait, **attributes)))
    assert [(e.element_id, e.in_event_sub_process) for e in good] == [("deep", False)]


def test_the_start_event_of_an_event_sub_process_is_known_as_such():
    start = inbound("startEvent", "in", ON_PAID, KEY)
    good, _ = read(
        inbound("startEvent", "out", ON_PAID),
        sub("aside", start, inbound("receiveTask", "r", given=KEY, messageRef="m"), triggeredByEvent="true"),
    )
    assert {e.element_id: (e.point, e.in_event_sub_process) for e in good} == {
        "out": (Point.MESSAGE_START, False),
        "in": (Point.MESSAGE_START, True),
        "r": (Point.MESSAGE, True),
    }


def test_other_participants_of_a_collaboration_are_left_out():
    first, second = (process(inbound("startEvent", f"in-{name}"), id_=name) for name in ("orders", "other"))
    body = second[second.index("<b:process") : second.index("</b:definitions>")]
    collaboration = (
        '<b:collaboration id="c"><b:participant id="p1" processRef="orders"/>'
        '<b:participant id="p2" processRef="other"/></b:collaboration>'
    )
    xml = first.replace("<b:process", f"{collaboration}<b:process", 1).replace(
        "</b:definitions>", f"{body}</b:definitions>"
    )
    for name in ("orders", "other"):
        good, bad = read(xml=xml, bpmn_process_id=name)
        assert ([e.element_id for e in good], bad) == ([f"in-{name}"], [])
    assert read(xml=xml, bpmn_process_id="third") == ([], [])


# ---- what is said of them --------------------------------------------------------------------------------------------


def test_an_element_tells_where_it_is():
    template = {"modelerTemplate": "acme.orders", "modelerTemplateVersion": "7", "modelerTemplateIcon": "data:,x"}
    attributes = "".join(f' z:{name}="{value}"' for name, value in template.items())
    node = inbound("startEvent", "x", given={"a.b": "1"}, name="Order comes").replace(' id="x"', f' id="x"{attributes}')
    found = one(node)
    assert found == InboundElement(
        element_id="x",
        element_name="Order comes",
        kind="startEvent",
        point=Point.START,
        bpmn_process_id="orders",
        process_name="orders name",
        version=3,
        process_definition_key=77,
        tenant_id="blue",
        properties={"inbound.type": "t:1", "a.b": "1"},
        template_id="acme.orders",
        template_version="7",
        template_icon="data:,x",
    )


def test_the_first_of_two_properties_with_one_name_counts():
    twice = '<z:property name="inbound.context" value="second"/></z:properties>'
    ext = properties({"inbound.context": "first"}).replace("</z:properties>", twice)
    assert one(element("startEvent", "x", ext=ext)).properties["inbound.context"] == "first"


def test_a_property_without_a_value_is_none_and_gives_way_to_one_that_has():
    lines = (
        '<z:property name="a"/><z:property name="b"/><z:property name="b" value="2"/><z:property name="c" value=""/>'
    )
    ext = properties().replace("</z:properties>", f"{lines}</z:properties>")
    assert one(element("startEvent", "x", ext=ext)).properties == {"inbound.type": "t:1", "b": "2", "c": ""}


def test_input_mappings_are_no_properties():
    ext = properties() + '<z:ioMapping><z:input source="=1" target="a"/></z:ioMapping>'
    assert one(element("startEvent", "x", ext=ext)).properties == {"inbound.type": "t:1"}


def test_a_message_name_that_looks_like_feel_is_taken_as_it_stands():
    assert one(inbound("startEvent", "x", on_message("feel"))).message_name == '= "a" + key'


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("PT1H", 3_600_000),
        ("PT0.5S", 500),
        ("PT0S", 0),
        (" PT5S ", 5000),
        ("P1D", 86_400_000),
        ("", None),
        ("  ", None),
    ],
)
def test_a_time_to_live_is_a_duration_and_an_empty_one_is_none(text, milliseconds):
    assert one(inbound("startEvent", "x", ON_PAID, {"messageTtl": text})).message_ttl_ms == milliseconds


def test_without_a_time_to_live_there_is_none():
    assert one(inbound("startEvent", "x", ON_PAID)).message_ttl_ms is None


@pytest.mark.parametrize(
    ("given", "condition"),
    [
        ({}, None),
        ({"activationCondition": "=a"}, "=a"),
        ({"inbound.activationCondition": "=b"}, "=b"),
        ({"activationCondition": "=a", "inbound.activationCondition": "=b"}, "=a"),
        ({"activationCondition": " ", "inbound.activationCondition": "=b"}, "=b"),
        ({"activationCondition": ""}, None),
    ],
)
def test_the_activation_condition_has_an_old_name_too(given, condition):
    assert one(inbound("startEvent", "x", given=given)).activation_condition == condition


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("TRUE", True), ("True", True), ("false", False), ("yes", False), ("", False)]
)
@pytest.mark.parametrize("name", ["consumeUnmatchedEvents", "synchronousResponse"])
def test_switches_are_on_with_true_in_any_case_and_nothing_else(name, text, value):
    found = one(inbound("startEvent", "x", given={name: text}))
    switches = {
        "consumeUnmatchedEvents": found.consume_unmatched,
        "synchronousResponse": found.synchronous_response,
    }
    assert switches.pop(name) is value
    assert list(switches.values()) == [False]


def test_the_properties_of_correlation_and_output_have_names():
    given = {
        "correlationKeyExpression": "=k",
        "messageIdExpression": "=i",
        "resultVariable": "result",
        "resultExpression": "={a: 1}",
    }
    found = one(inbound("intermediateCatchEvent", "x", ON_PAID, given))
    assert (found.correlation_key_expression, found.message_id_expression) == ("=k", "=i")
    assert (found.result_variable, found.result_expression) == ("result", "={a: 1}")
    bare = one(
        inbound("startEvent", "x", given={"messageIdExpression": "", "resultVariable": " ", "resultExpression": ""})
    )
    assert (bare.message_id_expression, bare.result_variable, bare.result_expression) == (None, None, None)


def test_runtime_properties_neither_show_nor_tell_subscriptions_apart():
    assert RUNTIME_PROPERTIES < DEDUPLICATION_EXCLUDED
    assert {
        "correlationRequired",
        "deduplicationModeManualFlag",
        "resultExpression",
        "resultVariable",
    } == DEDUPLICATION_EXCLUDED - RUNTIME_PROPERTIES


# ---- what cannot be used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (
            inbound("intermediateCatchEvent", "x", given=KEY),
            "intermediateCatchEvent without a message event definition",
        ),
        (
            inbound("intermediateCatchEvent", "x", "<b:timerEventDefinition/>", KEY),
            "intermediateCatchEvent without a message event definition",
        ),
        (
            inbound("intermediateCatchEvent", "x", "<b:messageEventDefinition/>", KEY),
            "intermediateCatchEvent without a message",
        ),
        (
            inbound("intermediateCatchEvent", "x", on_message("nameless"), KEY),
            "intermediateCatchEvent without a message",
        ),
        (inbound("startEvent", "x", "<b:messageEventDefinition/>"), "startEvent without a message"),
        (inbound("receiveTask", "x", given=KEY), "receiveTask without a message"),
        (inbound("intermediateCatchEvent", "x", ON_PAID), "correlationKeyExpression: expected a FEEL expression"),
        (inbound("receiveTask", "x", messageRef="m"), "correlationKeyExpression: expected a FEEL expression"),
        (
            inbound("startEvent", "x", ON_PAID, {"messageTtl": "1h"}),
            "messageTtl: expected an ISO 8601 duration .* '1h'",
        ),
        (inbound("startEvent", "x", ON_PAID, {"messageTtl": "=ttl"}), "messageTtl: .* '=ttl'"),
        (inbound("startEvent", "x", ON_PAID, {"messageTtl": "P999999999999D"}), f"at most {MAX_MILLISECONDS}"),
    ],
)
def test_an_element_that_cannot_be_used_says_why_and_leaves_the_others_alone(node, says):
    found = refused(node)
    assert (found.element_id, found.type, found.bpmn_process_id) == ("x", "t:1", "orders")
    assert (found.process_definition_key, found.tenant_id) == (77, "blue")
    assert re.search(says, found.reason)


def test_an_empty_correlation_key_is_there_and_fails_only_when_an_event_comes():
    found = one(inbound("intermediateCatchEvent", "x", ON_PAID, {"correlationKeyExpression": ""}))
    assert found.correlation_key_expression == ""


def test_what_cannot_be_used_tells_whether_it_would_start_instances():
    broken = {"messageTtl": "soon"}
    assert refused(inbound("startEvent", "x", ON_PAID, broken)).starts
    assert not refused(inbound("receiveTask", "x", given=KEY | broken, messageRef="m")).starts
    assert not refused(sub("aside", inbound("startEvent", "x", ON_PAID, broken), triggeredByEvent="true")).starts


@settings(max_examples=60)
@given(
    ttl=st.one_of(st.none(), st.text(alphabet="PT1HS=. -", max_size=6)),
    event=st.sampled_from(["", ON_PAID, "<b:messageEventDefinition/>", "<b:timerEventDefinition/>"]),
    tag=st.sampled_from(["startEvent", "intermediateCatchEvent"]),
    key=st.booleans(),
)
def test_every_element_with_a_type_is_either_used_or_refused_with_a_reason(ttl, event, tag, key):
    given = ({} if ttl is None else {"messageTtl": ttl}) | (KEY if key else {})
    good, bad = read(inbound(tag, "x", event, given))
    assert [each.element_id for each in good] + [each.element_id for each in bad] == ["x"]
    assert all(each.reason for each in bad)
