"""Deduplication ids and groups are those of the original, bit by bit."""

from typing import Any

import pytest

from gateway.inbound.deduplication import (
    Undefined,
    deduplication_id,
    executable_id,
    grouped,
    java_string_hash,
    property_hash,
    scoped,
)
from gateway.sdk import InboundElement, Point

WEBHOOK = {
    "inbound.type": "io.camunda:webhook:1",
    "inbound.method": "any",
    "inbound.context": "orders",
    "inbound.shouldValidateHmac": "disabled",
    "inbound.auth.type": "NONE",
}
KAFKA = {
    "inbound.type": "io.camunda:connector-kafka-inbound:1",
    "authenticationType": "credentials",
    "topic.bootstrapServers": "localhost:9092",
    "topic.topicName": "orders",
    "groupId": "g1",
    "autoOffsetReset": "earliest",
    "schemaStrategy.type": "noSchema",
}


def element(properties: dict[str, str], **more: Any) -> InboundElement:
    given: dict[str, Any] = {
        "element_id": "start",
        "element_name": None,
        "kind": "startEvent",
        "point": Point.START,
        "bpmn_process_id": "orders",
        "process_name": None,
        "version": 3,
        "process_definition_key": 2251799813685250,
        "tenant_id": "<default>",
        **more,
    }
    return InboundElement(properties=properties, **given)


@pytest.mark.parametrize("text", ["", "a", "orders", "ü€😀", "x" * 1000])
def test_strings_are_hashed_as_java_does(text: str):
    assert java_string_hash(text) == sum_by_definition(text)


def test_a_hash_known_from_java():
    assert java_string_hash("Aa") == java_string_hash("BB") == 2112


def sum_by_definition(text: str) -> int:
    units = text.encode("utf-16-be")
    numbers = [int.from_bytes(units[n : n + 2], "big") for n in range(0, len(units), 2)]
    return sum(c * int(31 ** (len(numbers) - 1 - i)) for i, c in enumerate(numbers)) % 2**32


@pytest.mark.parametrize(("properties", "expected"), [(WEBHOOK, 513297725), (KAFKA, 860797329)])
def test_property_hashes_match_the_originals_vectors(properties: dict[str, str], expected: int):
    assert property_hash(properties, scoped(properties, None)) == expected


def test_only_values_count_and_excluded_properties_do_not():
    more = {**WEBHOOK, "resultExpression": "={a: 1}", "activationCondition": "=true", "correlationRequired": "required"}
    assert scoped(more, None) == {k: v for k, v in WEBHOOK.items() if k != "inbound.type"}
    assert property_hash({"a": "1"}, {"a": ""}) == property_hash({"b": "1"}, {"b": ""})


def test_a_declared_scope_counts_the_named_keys_and_what_is_nested_below_them():
    properties = {
        "inbound.auth.type": "BASIC",
        "inbound.auth": "x",
        "inbound.authentic": "y",
        "inbound.responseExpression": "=1",
    }
    assert scoped(properties, ["inbound.auth"]) == {"inbound.auth.type": "BASIC", "inbound.auth": "x"}


def test_a_hash_may_be_negative():
    found = [property_hash({"k": f"v{n}"}, {"k": ""}) for n in range(200)]
    long = [property_hash({"k": f"a longer value {n}"}, {"k": ""}) for n in range(200)]
    assert min([*found, *long]) < 0
    assert all(-(2**31) <= h < 2**31 for h in [*found, *long])


@pytest.mark.parametrize(
    ("format_", "mode", "expected"),
    [
        ("8.10", None, "7:default9:<default>16:22517998136852505:start"),
        ("8.9", None, "<default>-2251799813685250-start"),
        ("8.8", None, "<default>-2251799813685250-start"),
        ("8.10", "AUTO", "7:default9:<default>6:orders-513297725"),
        ("8.9", "AUTO", "<default>-orders-513297725"),
        ("8.8", "AUTO", "<default>-2251799813685250-513297725"),
        ("8.10", "MANUAL", "7:default9:<default>6:orders-mine"),
        ("8.9", "MANUAL", "<default>-orders-mine"),
        ("8.8", "MANUAL", "<default>-2251799813685250-mine"),
    ],
)
def test_ids_have_the_form_of_their_release(format_: Any, mode: str | None, expected: str):
    properties = WEBHOOK if mode is None else {**WEBHOOK, "deduplicationMode": mode, "deduplicationId": "mine"}
    assert deduplication_id(element(properties), None, format=format_) == expected


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"inbound.type": "t", "deduplicationMode": "MANUAL"}, "deduplicationId is missing"),
        ({"inbound.type": "t", "deduplicationMode": "auto"}, "expected AUTO or MANUAL, but got 'auto'"),
        ({"inbound.type": "t", "deduplicationMode": "AUTO"}, "no property"),
    ],
)
def test_settings_that_make_no_sense_are_named(properties: dict[str, str], words: str):
    with pytest.raises(Undefined, match=words):
        deduplication_id(element(properties), None)


def test_the_executable_id_is_the_sha256_of_the_id():
    assert executable_id("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_elements_with_one_id_and_like_properties_are_one_group():
    one = element({**WEBHOOK, "activationCondition": "=a"})
    two = element({**WEBHOOK, "activationCondition": "=b"}, element_id="catch")
    other = element({**WEBHOOK, "inbound.context": "x"}, element_id="third")
    groups = grouped([("i", one), ("i", two), ("j", other)], {})
    assert [(g.deduplication_id, g.elements, g.invalid) for g in groups] == [
        ("i", (one, two), None),
        ("j", (other,), None),
    ]
    assert groups[0].first is one


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (element({**WEBHOOK, "inbound.type": "other"}), "same type"),
        (element(WEBHOOK, tenant_id="t2"), "same tenant ID"),
        (element(WEBHOOK, bpmn_process_id="p2"), "same process definition ID"),
        (element({**WEBHOOK, "inbound.context": "x", "more": "y"}), "inbound.context, more"),
    ],
)
def test_a_group_whose_elements_differ_is_invalid_and_says_in_what(other: InboundElement, words: str):
    (group,) = grouped([("i", element(WEBHOOK)), ("i", other)], {})
    assert group.invalid is not None
    assert words in group.invalid
