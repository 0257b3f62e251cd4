"""What records become: keys, values, headers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka._avro import AvroSchema, DoesNotFit
from connectors.kafka._events import event, inline_avro, json_key, lenient_json, plain
from gateway import jsontext
from tests.connectors.kafka.test_partition import Record


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("order-1", "order-1"),
        ("123", 123),
        (" 5", 5),
        ("true", True),
        ("null", None),
        ('{"id": 1}', {"id": 1}),
        ("", ""),
        ("  ", "  "),
        ("ключ", "ключ"),
        ("12 monkeys", 12),
        ('{"a": 1}x', {"a": 1}),
        ('"a" b', "a"),
        ("2024-01-01", "2024-01-01"),
        ("550e8400-e29b-41d4", "550e8400-e29b-41d4"),
        ("007", "007"),
        ("12ab", "12ab"),
        ("NaN", "NaN"),
        ("-", "-"),
        ("[1, 2", "[1, 2"),
    ],
)
def test_a_key_is_the_json_it_begins_with_else_text(text: str, value: Any) -> None:
    assert json_key(text) == value


@given(st.text())
def test_any_text_can_be_a_key(text: str) -> None:
    json_key(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("text", "text"),
        ("", ""),
        ("null", None),
        ("{'a': 'b\"c'}", {"a": 'b"c'}),
        (r"{'a': 'it\'s'}", {"a": "it's"}),
        ('{"a": "x\ny\x01"}', {"a": "x\ny\x01"}),
        ('{"a": "it\'s", \'b\': 2}', {"a": "it's", "b": 2}),
        ("it's", "it's"),
        ("{'a': }", "{'a': }"),
    ],
)
def test_a_value_is_json_where_it_is_json_else_text(text: str, value: Any) -> None:
    assert plain(text.encode()) == (value, text)


def test_numbers_of_a_value_keep_their_digits() -> None:
    value, _ = plain(b'{"total": 12.50, "id": 12345678901234567890123}')
    assert jsontext.dumps(value) == '{"total":12.50,"id":12345678901234567890123}'


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert plain(b"\xff\xfe") == ("��", "��")


@given(st.binary())
def test_any_bytes_can_be_a_value(content: bytes) -> None:
    plain(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def single_quoted(value: Any) -> str:
    if isinstance(value, str):
        inner = jsontext.dumps(value)[1:-1].replace('\\"', '"').replace("'", "\\'")
        return f"'{inner}'"
    if isinstance(value, dict):
        return "{" + ",".join(f"{single_quoted(k)}:{single_quoted(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(single_quoted, value)) + "]"
    return jsontext.dumps(value)


@given(JSON.filter(lambda value: "'" in single_quoted(value)))
def test_texts_may_be_in_single_quotes(value: Any) -> None:
    assert lenient_json(single_quoted(value)) == value


def test_an_event_has_key_value_text_and_headers() -> None:
    record = Record(1, b"7", b"[1]", headers=(("a", b"1"), ("a", b"2"), ("n", None)))
    assert event(record, plain) == {"key": 7, "rawValue": "[1]", "value": [1], "headers": {"a": "2", "n": None}}


def test_a_tombstone_is_an_event_without_value() -> None:
    record = Record(1, None, None)
    assert event(record, plain) == {"key": None, "rawValue": None, "value": None, "headers": None}


def test_what_the_schema_cannot_read_is_refused() -> None:
    with pytest.raises(DoesNotFit):
        event(Record(1, value=b"\x80"), inline_avro(AvroSchema('"long"')))
