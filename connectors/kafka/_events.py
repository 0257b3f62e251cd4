"""What a record is to the process: `{key, rawValue, value, headers}` (Camunda docs, "Kafka consumer connector")."""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from connectors.kafka._avro import AvroSchema, DoesNotFit
from connectors.kafka._registry import JsonSchema, SchemaRegistry, split
from gateway import jsontext


class Record(Protocol):
    """A record as it came from the broker."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]]: ...


Decode = Callable[[bytes], tuple[Any, str | None]]
"""From the bytes of a value to value and text. Raises DoesNotFit; SchemaNeeded when a schema has to be fetched first."""


def event(record: Record, decode: Decode) -> dict[str, Any]:
    """The event of a record; a tombstone has neither value nor text. Raises as `decode` does."""
    key, content = record.key, record.value
    value, text = (None, None) if content is None else decode(content)
    headers = {name: None if each is None else each.decode("utf-8", "replace") for name, each in record.headers}
    return {
        "key": None if key is None else json_key(key.decode("utf-8", "replace")),
        "rawValue": text,
        "value": value,
        "headers": headers or None,
    }


# ---- values ----------------------------------------------------------------------------------------------------------


def plain(content: bytes) -> tuple[Any, str]:
    """JSON where it is JSON, else the text."""
    text = content.decode("utf-8", "replace")
    try:
        return jsontext.loads(text), text
    except ValueError:
        pass
    try:
        return lenient_json(text), text
    except ValueError:
        return text, text


def inline_avro(schema: AvroSchema) -> Decode:
    """Avro without any framing, all records by one schema."""
    return lambda content: (schema.read(content), None)


def registered_avro(registry: SchemaRegistry) -> Decode:
    """Avro in wire format; each record names its schema."""

    def decode(content: bytes) -> tuple[Any, None]:
        ident, payload = split(content)
        schema = registry.known(ident)
        if not isinstance(schema, AvroSchema):
            raise DoesNotFit(f"schema {ident} is not an Avro schema")
        return schema.read(payload), None

    return decode


def registered_json(registry: SchemaRegistry, *, check: bool) -> Decode:
    """JSON in wire format. check: whether values must fit their schemas."""

    def decode(content: bytes) -> tuple[Any, str]:
        ident, payload = split(content)
        text = payload.decode("utf-8", "replace")
        try:
            value = jsontext.loads(text)
        except ValueError as e:
            raise DoesNotFit(f"not JSON: {e}") from None
        if check:
            schema = registry.known(ident)
            if not isinstance(schema, JsonSchema):
                raise DoesNotFit(f"schema {ident} is not a JSON schema")
            schema.check(value)
        return value, text

    return decode


# ---- JSON, as people write it ----------------------------------------------------------------------------------------

_FIRST: Final = frozenset('{["-0123456789tfn')  # what a JSON value can begin with
_scan: Final = json.JSONDecoder().raw_decode
_STRING: Final = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f]")
_INNER: Final = re.compile(r"""\\.|["\x00-\x1f]""", re.DOTALL)


def json_key(text: str) -> Any:
    """The JSON value at the beginning of a key, whatever follows it; a key that begins with none is text."""
    begin = len(text) - len(text.lstrip(" \t\r\n"))
    if text[begin : begin + 1] not in _FIRST:
        return text
    try:
        return jsontext.loads(text)
    except ValueError:
        pass
    try:
        value, end = _scan(text, begin)
        if text[begin] in '{["' or text[end].isspace():  # 2024-01-01 and 12ab are no numbers
            return jsontext.loads(text[begin:end]) if value == value else text  # noqa: PLR0124 - NaN is no JSON
    except (ValueError, RecursionError, IndexError):
        pass
    return text


def lenient_json(text: str) -> Any:
    """JSON that may have texts in single quotes, and raw control characters in texts. Raises ValueError."""
    if "'" not in text and _CONTROL.search(text) is None:
        raise ValueError("not JSON")
    return jsontext.loads(_STRING.sub(lambda found: _strict(found[0]), text))


def _strict(text: str) -> str:
    def escaped(found: re.Match[str]) -> str:
        piece = found[0]
        if piece == r"\'":
            return "'"
        if len(piece) == 2:
            return piece
        return f"\\u{ord(piece):04x}"

    return f'"{_INNER.sub(escaped, text[1:-1])}"'
