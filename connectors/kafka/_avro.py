"""Avro records as JSON and back (Apache Avro 1.11, "Binary encoding"). Logical types stay the numbers and texts they are made of."""

import base64
from collections.abc import Mapping, Sequence
from decimal import Decimal
from io import BytesIO
from typing import Any, Final

import fastavro

from gateway import jsontext

_NAMED: Final = {"record", "error", "enum", "fixed"}
_WHOLE: Final = {"int": 1 << 31, "long": 1 << 63}
_PRIMITIVE: Final = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}


class InvalidSchema(ValueError):  # noqa: N818 - reads as what it is
    """The text is no Avro schema; says why."""


class DoesNotFit(ValueError):  # noqa: N818
    """Bytes that are no record of a schema, or a value that a schema does not allow; says where."""


class AvroSchema:
    """A schema, ready for reading and writing. references: the texts of the schemas that it mentions by name, those first that
    are mentioned by others. Raises InvalidSchema.
    """

    def __init__(self, text: str, references: Sequence[str] = ()) -> None:
        named: dict[str, Any] = {}
        try:
            for each in references:
                fastavro.parse_schema(_bare(_loads(each)), named)
            self._schema: Any = fastavro.parse_schema(_bare(_loads(text)), named)
            self._named = named
            self._binary = _any(self._schema, named, {"bytes", "fixed"})
        except (fastavro.schema.SchemaParseException, fastavro.schema.UnknownType) as e:
            raise InvalidSchema(str(e) or type(e).__name__) from None
        except (KeyError, TypeError, AttributeError, RecursionError) as e:
            raise InvalidSchema(f"not an Avro schema: {type(e).__name__} {e}") from None

    def read(self, content: bytes) -> Any:
        """The JSON value of a record; bytes are base64. What follows the record is ignored. Raises DoesNotFit."""
        try:
            value = fastavro.schemaless_reader(BytesIO(content), self._schema, None)
        except Exception as e:  # whatever bytes of strangers lead to
            raise DoesNotFit(f"not a record of the Avro schema: {str(e) or type(e).__name__}") from None
        return _jsonable(value) if self._binary else value

    def write(self, value: Any) -> bytes:
        """A JSON value as a record. Members that the schema does not know are left out; of a union the first branch that fits is
        taken. Raises DoesNotFit.
        """
        out = BytesIO()
        try:
            fastavro.schemaless_writer(out, self._schema, self._fitted(self._schema, value, "$"))
        except RecursionError:
            raise DoesNotFit("nested too deeply") from None
        except (ValueError, TypeError, OverflowError, AttributeError) as e:
            raise e if isinstance(e, DoesNotFit) else DoesNotFit(str(e)) from None
        return out.getvalue()

    # ---- from JSON to what the schema says ----

    def _fitted(self, schema: Any, value: Any, path: str) -> Any:
        if isinstance(schema, list):
            return self._branch(schema, value, path)
        kind, schema = self._resolved(schema)
        if kind in {"record", "error"}:
            return self._record(schema, value, path)
        if kind == "array" and isinstance(value, list):
            return [self._fitted(schema["items"], each, f"{path}[{n}]") for n, each in enumerate(value)]
        if kind == "map" and isinstance(value, Mapping):
            return {str(k): self._fitted(schema["values"], each, f"{path}.{k}") for k, each in value.items()}
        if kind == "enum" and isinstance(value, str) and value in schema["symbols"]:
            return value
        if kind == "fixed" and isinstance(value, str) and len(value.encode()) == schema["size"]:
            return value.encode()
        if kind in _PRIMITIVE:
            return _primitive(kind, value, path)
        raise _mismatch(kind, value, path)

    def _resolved(self, schema: Any) -> tuple[str, Any]:
        if isinstance(schema, str):
            return (schema, schema) if schema in _PRIMITIVE else self._resolved(self._named[schema])
        kind = schema["type"]
        return (kind, schema) if isinstance(kind, str) else self._resolved(kind)

    def _record(self, schema: Mapping[str, Any], value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _mismatch(f"record {schema['name']}", value, path)
        found = {}
        for each in schema["fields"]:
            name = each["name"]
            if name in value:
                found[name] = self._fitted(each["type"], value[name], f"{path}.{name}")
            elif "default" not in each:
                found[name] = self._fitted(each["type"], None, f"{path}.{name}")
        return found

    def _branch(self, branches: Sequence[Any], value: Any, path: str) -> Any:
        for each in branches:
            try:
                fitted = self._fitted(each, value, path)
            except DoesNotFit:
                continue
            kind, schema = self._resolved(each)
            return (schema["name"] if kind in _NAMED else kind, fitted) if fitted is not None else None
        kinds = ", ".join(self._resolved(each)[0] for each in branches)
        raise _mismatch(f"one of {kinds}", value, path)


def _loads(text: str) -> Any:
    try:
        return jsontext.loads(text)
    except ValueError as e:
        if text.strip() in _PRIMITIVE:
            return text.strip()
        raise InvalidSchema(f"not JSON: {e}") from None


def _bare(schema: Any) -> Any:
    """The schema without logical types."""
    if isinstance(schema, list):
        return [_bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _bare(each) if name in {"type", "items", "values", "fields"} else each
        for name, each in schema.items()
        if name != "logicalType"
    }


def _any(schema: Any, named: Mapping[str, Any], kinds: set[str], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a type of these kinds occurs anywhere in the schema."""
    if isinstance(schema, list):
        return any(_any(each, named, kinds, seen) for each in schema)
    if isinstance(schema, str):
        if schema in kinds:
            return True
        return schema in named and schema not in seen and _any(named[schema], named, kinds, seen | {schema})
    inner = [schema[name] for name in ("type", "items", "values") if name in schema]
    seen |= {schema.get("name", "")}
    return any(_any(each, named, kinds, seen) for each in (*inner, *(f["type"] for f in schema.get("fields", ()))))


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _jsonable(each) for name, each in value.items()}
    return [_jsonable(each) for each in value] if isinstance(value, list) else value


def _primitive(kind: str, value: Any, path: str) -> Any:
    number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    if kind in _WHOLE and number and value == value // 1 and -_WHOLE[kind] <= value < _WHOLE[kind]:
        return int(value)
    if kind in {"float", "double"} and number:
        return float(value)
    if (kind == "string" and isinstance(value, str)) or (kind == "boolean" and isinstance(value, bool)):
        return value
    if kind == "bytes" and isinstance(value, str):
        return value.encode()
    if kind == "null" and value is None:
        return None
    raise _mismatch(kind, value, path)


def _mismatch(expected: str, value: Any, path: str) -> DoesNotFit:
    came = "null" if value is None else type(value).__name__
    return DoesNotFit(f"{path}: expected {expected}, but got {came}")
