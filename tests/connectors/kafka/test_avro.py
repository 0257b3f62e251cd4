"""Avro records as JSON and back."""

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka._avro import AvroSchema, DoesNotFit, InvalidSchema

PERSON = {
    "type": "record",
    "name": "Person",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "age", "type": ["null", "int"], "default": None},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "scores", "type": {"type": "map", "values": "double"}, "default": {}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}, "default": "A"},
        {"name": "friend", "type": ["null", "Person"], "default": None},
    ],
}


def schema(value: Any) -> AvroSchema:
    return AvroSchema(json.dumps(value))


def test_what_is_written_is_read() -> None:
    person = schema(PERSON)
    ann = {"name": "Ann", "age": 7, "tags": ["x"], "scores": {"a": 1.5}, "kind": "B", "friend": None}
    bob = {**ann, "name": "Bob", "friend": ann}
    assert person.read(person.write(bob)) == bob


def test_what_is_written_is_what_others_read() -> None:
    content = schema(PERSON).write({"name": "Ann"})
    read = fastavro.schemaless_reader(io.BytesIO(content), fastavro.parse_schema(PERSON), None)
    assert read == {"name": "Ann", "age": None, "tags": [], "scores": {}, "kind": "A", "friend": None}


def test_members_that_the_schema_does_not_know_are_left_out() -> None:
    person = schema(PERSON)
    assert "shoe" not in person.read(person.write({"name": "Ann", "shoe": 42}))


def test_whole_numbers_are_whole_however_they_are_written() -> None:
    assert schema("long").write(5.0) == schema("long").write(5)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("string", 1, "$: expected string, but got int"),
        ("int", 1 << 31, "$: expected int, but got int"),
        ("long", 1.5, "$: expected long, but got float"),
        ("boolean", 1, "$: expected boolean, but got int"),
        ("int", True, "$: expected int, but got bool"),
        ({"type": "array", "items": "int"}, [1, "x"], "$[1]: expected int, but got str"),
        ({"type": "map", "values": "int"}, {"a": None}, "$.a: expected int, but got null"),
        (["null", "int"], "x", "$: expected one of null, int, but got str"),
        (PERSON, {}, "$.name: expected string, but got null"),
        (PERSON, [], "$: expected record Person, but got list"),
        (PERSON, {"name": "x", "kind": "C"}, "$.kind: expected enum, but got str"),
        ({"type": "fixed", "name": "F", "size": 2}, "abc", "$: expected fixed, but got str"),
    ],
)
def test_a_value_that_does_not_fit_says_where(kind: Any, value: Any, said: str) -> None:
    with pytest.raises(DoesNotFit) as refused:
        schema(kind).write(value)
    assert str(refused.value) == said


def test_of_a_union_the_first_branch_that_fits_is_written() -> None:
    first = {"type": "record", "name": "One", "fields": [{"name": "a", "type": "int"}]}
    second = {
        "type": "record",
        "name": "Two",
        "fields": [{"name": "a", "type": ["int", "string"]}, {"name": "b", "type": "int"}],
    }
    either = schema([{"type": "array", "items": "int"}, first, second, "string"])
    assert either.write({"a": 1, "b": 2})[:1] == b"\x02"
    assert either.write({"a": "x", "b": 2})[:1] == b"\x04"
    assert either.write([1])[:1] == b"\x00"
    assert either.write("x")[:1] == b"\x06"


def test_logical_types_stay_what_they_are_made_of() -> None:
    timed = schema(
        {
            "type": "record",
            "name": "T",
            "fields": [{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}],
        }
    )
    assert timed.read(timed.write({"at": 1700000000000})) == {"at": 1700000000000}


def test_bytes_are_base64() -> None:
    assert schema("bytes").read(schema("bytes").write("ab")) == "YWI="
    nested = schema({"type": "map", "values": {"type": "array", "items": {"type": "fixed", "name": "F", "size": 2}}})
    assert nested.read(nested.write({"a": ["ab"]})) == {"a": ["YWI="]}


def test_schemas_may_mention_others() -> None:
    address = {"type": "record", "name": "Address", "namespace": "a.b", "fields": [{"name": "city", "type": "string"}]}
    customer = {"type": "record", "name": "Customer", "fields": [{"name": "home", "type": "a.b.Address"}]}
    made = AvroSchema(json.dumps(customer), [json.dumps(address)])
    assert made.read(made.write({"home": {"city": "Ulm"}})) == {"home": {"city": "Ulm"}}


@pytest.mark.parametrize(
    "text", ["", "{", "5", "null", '{"type": "record"}', '"nobody"', '{"type": "array"}', '{"type": {"a": 1}}']
)
def test_a_text_that_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(InvalidSchema):
        AvroSchema(text)


@given(st.binary(max_size=60))
def test_bytes_of_strangers_are_read_or_refused(content: bytes) -> None:
    try:
        json.dumps(schema({**PERSON, "name": "P", "fields": PERSON["fields"][:4]}).read(content))
    except DoesNotFit as e:
        said = str(e)
        assert "not a record of the Avro schema" in said
