"""Binding: JSON values to the parameters of a connector's function, as the original's JSON mapper and validation do it.

A `Binder` is compiled once per annotation. It first coerces (a number where text is wanted becomes its literal text, a list of one
is unwrapped, "20" is a number, choices match in any case, unknown keys are ignored), then lets pydantic validate, and reports what
is wrong in the original's words (Camunda's connector SDK: "Validation", "Retries and incidents"). All its errors are
`BindingError`; the text never holds a value.
"""

import base64
import enum
import math
import re
import types
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Discriminator, RootModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway import feel, sdk
from gateway.documents import Document

NOT_AN_OBJECT = "This is not a JSON object"
_PREFIX = "jakarta.validation.ValidationException: Found constraints violated while validating input: "

Path = tuple[str, ...]
Coercer = Callable[[Any, Path], Any]


class BindingError(Exception):
    """The input cannot be bound. The text names the field and what it must be; it never holds the value.

    path, expected: the field whose value is of the wrong kind, and the original's name for the right one, where that is known.
    violations: dotted paths and messages of the fields that break constraints.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path = (),
        expected: str | None = None,
        violations: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.path = path
        self.expected = expected
        self.violations = tuple(violations)


class ContentNeeded(Exception):  # noqa: N818 - a request to the caller, not a failure
    """A document's content is needed where text or bytes are wanted: read it, then bind again."""

    def __init__(self, document: Document) -> None:
        super().__init__("the content of a document is needed")
        self.document = document


def invalid_field(path: Path, type_name: str | None = None) -> BindingError:
    """The original's words for a value of the wrong kind."""
    must = f". It Must be `{type_name}`" if type_name else ""
    return BindingError(
        f"Json object contains an invalid field: {', '.join(path)}{must}", path=path, expected=type_name
    )


def violations(found: Sequence[tuple[str, str]]) -> BindingError:
    """The original's words for values that break constraints: pairs of dotted path and message."""
    lines = [f" - Property: {path}: Validation failed. Original message: {message}" for path, message in found]
    return BindingError("\n".join([_PREFIX, *lines]), violations=found)


class Binder:
    """Binds values to one annotation; made once, used for every job."""

    def __init__(self, annotation: Any, name: str = "") -> None:
        self._annotation = annotation
        self._name = name
        self._coerce = _coercer(annotation)
        self._validate = TypeAdapter(annotation).validator.validate_python

    def __call__(self, value: Any) -> Any:
        """The bound value. Raises BindingError, or ContentNeeded for a document that must be read first."""
        try:
            coerced = self._coerce(value, (self._name,) if self._name else ())
            return self._validate(coerced)
        except ValidationError as e:
            raise self._report(e) from None
        except RecursionError:
            raise BindingError("The input is nested too deeply") from None

    def _report(self, error: ValidationError) -> BindingError:
        found: list[tuple[str, str]] = []
        for detail in error.errors(include_url=False, include_input=True):
            path, field = _locate(self._annotation, detail["loc"])
            if self._name:
                path = (self._name, *path)
            message = _message(field, detail)
            if message is None:
                return invalid_field(path)
            found.append((".".join(path), message))
        return violations(found)


# ---- messages --------------------------------------------------------------------------------------------------------


def _message(field: FieldInfo | None, detail: ErrorDetails) -> str | None:
    """The words for one of pydantic's errors; None when the value is of the wrong kind altogether."""
    kind, context = detail["type"], detail.get("ctx") or {}
    if kind == "missing" or detail["input"] is None:
        return _absent(field)
    if kind in {"string_too_short", "too_short", "string_too_long", "too_long"}:
        return _size(field, context)
    if kind == "string_pattern_mismatch":
        return f'must match "{context["pattern"]}"'
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        return f"must be {word} {context[key]}"
    if kind in {"value_error", "assertion_error"}:
        return detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind in _WRONG_KIND or kind.endswith(("_type", "_parsing", "_from_float")):
        return None
    return detail["msg"]


_WRONG_KIND = {
    "union_tag_not_found",
    "union_tag_invalid",
    "literal_error",
    "enum",
    "is_instance_of",
    "missing_argument",
}


_BOUNDS = {
    "greater_than_equal": ("greater than or equal to", "ge"),
    "less_than_equal": ("less than or equal to", "le"),
    "greater_than": ("greater than", "gt"),
    "less_than": ("less than", "lt"),
}


def _locate(annotation: Any, location: tuple[int | str, ...]) -> tuple[Path, FieldInfo | None]:
    """Where pydantic's location leads: the path without the tags of unions, indexes as `[0]` on the name before, and the
    model field that it ends in, where it ends in one.
    """
    path: list[str] = []
    field: FieldInfo | None = None
    for step in location:
        annotation, field_before, field = _inner(annotation), field, None
        members = _members(annotation)
        if isinstance(step, str) and members:
            annotation, field = next((m for m in members if step in _tags(m)), Any), field_before
            continue
        if isinstance(step, int) and path:
            path[-1] += f"[{step}]"
        else:
            path.append(str(step))
        if _is_model(annotation):
            field = next((f for n, f in annotation.model_fields.items() if step in {n, *sdk.field_keys(n, f)}), None)
            annotation = field.annotation if field else Any
        else:
            arguments = get_args(annotation)
            annotation = arguments[-1] if arguments else Any
    return tuple(path), field


def _absent(field: FieldInfo | None) -> str:
    for mark in field.metadata if field else ():
        if isinstance(mark, sdk.NotBlankMark):
            return "must not be blank"
        if getattr(mark, "min_length", None):
            return "must not be empty"
    return "must not be null"


def _size(field: FieldInfo | None, context: Mapping[str, Any]) -> str:
    marks = field.metadata if field else []
    low = next(
        (m.min_length for m in marks if getattr(m, "min_length", None) is not None), context.get("min_length", 0)
    )
    high = next((m.max_length for m in marks if getattr(m, "max_length", None) is not None), context.get("max_length"))
    if high is None:
        return "must not be empty" if low == 1 else f"size must be between {low} and 2147483647"
    return f"size must be between {low or 0} and {high}"


# ---- annotations -----------------------------------------------------------------------------------------------------


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _inner(annotation: Any) -> Any:
    """Without Annotated, Optional and the names that stand for types."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif (
            meant := getattr(annotation, "__value__", None) or getattr(annotation, "__supertype__", None)
        ) is not None:
            annotation = meant
        elif _is_union(annotation):
            members = [m for m in get_args(annotation) if m is not type(None)]
            if len(members) != 1:
                return annotation
            annotation = members[0]
        else:
            return annotation


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in {Union, types.UnionType}


def _members(annotation: Any) -> list[Any]:
    """The models of a union of models, else nothing."""
    inner = _inner(annotation)
    if not _is_union(inner):
        return []
    members = [_inner(m) for m in get_args(inner) if m is not type(None)]
    return members if all(_is_model(m) for m in members) else []


def _tags(model: Any) -> set[str]:
    """All literals of a model: by one of them a member of a tagged union is chosen."""
    inner = [_inner(field.annotation) for field in model.model_fields.values()]
    return {str(tag) for each in inner if get_origin(each) is Literal for tag in get_args(each)}


# ---- coercions -------------------------------------------------------------------------------------------------------


def _coercer(annotation: Any, discriminator: Any = None) -> Coercer:
    """How values are brought into the shape of an annotation. discriminator: of a union, as pydantic's Field has it."""
    if get_origin(annotation) is Annotated:
        named = [getattr(mark, "discriminator", None) or mark for mark in get_args(annotation)[1:]]
        return _coercer(get_args(annotation)[0], next((m for m in named if isinstance(m, (str, Discriminator))), None))
    if _is_union(annotation):
        return _union(annotation, discriminator)
    if get_origin(annotation) is Literal:
        return _choice(annotation)
    if get_origin(annotation) is Callable:
        return _function
    if (meant := _inner(annotation)) is not annotation:
        return _later(meant)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _enumeration(annotation)
    if _is_model(annotation):
        return _coercer(annotation.model_fields["root"].annotation) if _is_root(annotation) else _Model(annotation)
    return _container(annotation) or _SCALARS.get(annotation) or (_lone if annotation in _TEXTUAL else _as_is)


def _later(annotation: Any) -> Coercer:
    """The coercion of what a name stands for, looked up at its first use: the name may be in there again."""
    found: list[Coercer] = []

    def coerce(value: Any, path: Path) -> Any:
        if not found:
            found.append(_coercer(annotation))
        return found[0](value, path)

    return coerce


def _is_root(annotation: Any) -> bool:
    return issubclass(annotation, RootModel)


def _container(annotation: Any) -> Coercer | None:
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if not isinstance(origin, type):
        return None
    if issubclass(origin, tuple) and arguments and arguments[-1] is not Ellipsis:
        return _as_is  # each place has a type of its own
    if issubclass(origin, (list, tuple, set, frozenset)) or origin is Sequence:
        return _listing(_coercer(arguments[0]) if arguments else _as_is)
    if issubclass(origin, dict) or origin is Mapping:
        return _mapping(_coercer(arguments[1]) if len(arguments) == 2 else _as_is)
    return None


def _as_is(value: Any, path: Path) -> Any:
    return value


def _single(value: Any) -> Any:
    """A list of one stands for its element where one value is wanted."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value


_TEXTUAL = {date, datetime, time, timedelta, uuid.UUID, SecretStr}
"""Types that are written as text; pydantic reads them."""


def _lone(value: Any, path: Path) -> Any:
    value = _single(value)
    return None if value == "" else value


def _function(value: Any, path: Path) -> Any:
    """A FEEL expression that is not evaluated now: called with a context it gives the value for it."""
    value = _single(value)
    if value is None or callable(value):
        return value
    if not isinstance(value, str) or not value.startswith("="):
        raise invalid_field(path, "Function")
    try:
        expression = feel.parse(value[1:].strip())
    except feel.FeelError:
        raise invalid_field(path, "Function") from None

    def evaluate(context: Mapping[str, Any] | None = None) -> Any:
        return feel.to_json(expression.evaluate(context or {}))

    return evaluate


def _text(value: Any, path: Path) -> Any:
    if type(value) is str or value is None:
        return value
    value = _single(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    if isinstance(value, Document):
        if value.content is None:
            raise ContentNeeded(value)
        return base64.b64encode(value.content).decode()
    if value is None or isinstance(value, str):
        return value
    raise invalid_field(path, "String")


_MAX_DIGITS = 1000
_WHOLE = re.compile(rf"[+-]?[0-9]{{1,{_MAX_DIGITS}}}")
_FRACTION = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?|NaN|[+-]?Infinity")


def _integer(value: Any, path: Path) -> Any:
    if type(value) is int or value is None:
        return value
    value = _single(value)
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        if _WHOLE.fullmatch(text):
            return int(text)
        raise invalid_field(path, "Integer")
    if isinstance(value, (float, Decimal)) and math.isfinite(value) and Decimal(value).adjusted() < _MAX_DIGITS:
        return int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise invalid_field(path, "Integer")


def _fraction(value: Any, path: Path) -> Any:
    value = _single(value)
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        if _FRACTION.fullmatch(text):
            return Decimal(text)
        raise invalid_field(path, "Double")
    if value is None or (isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)):
        return value
    raise invalid_field(path, "Double")


def _boolean(value: Any, path: Path) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    value = _single(value)
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        if text in {"true", "True", "TRUE"}:
            return True
        if text in {"false", "False", "FALSE"}:
            return False
    elif isinstance(value, int):
        return bool(value)
    elif value is None:
        return None
    raise invalid_field(path, "Boolean")


def _bytes(value: Any, path: Path) -> Any:
    value = _single(value)
    if isinstance(value, Document):
        if value.content is None:
            raise ContentNeeded(value)
        return value.content
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            raise invalid_field(path, "byte[]") from None
    if value is None or isinstance(value, bytes):
        return value
    raise invalid_field(path, "byte[]")


def _document(value: Any, path: Path) -> Any:
    if isinstance(value, list):
        if len(value) > 1:
            raise BindingError("Cant bind a multi element document array to a single document.")
        value = value[0] if value else None
    if value is None or isinstance(value, Document):
        return value
    raise invalid_field(path, "Document")


_SCALARS: dict[Any, Coercer] = {
    str: _text,
    int: _integer,
    float: _fraction,
    Decimal: _fraction,
    bool: _boolean,
    bytes: _bytes,
    Document: _document,
}


def _listing(item: Coercer) -> Coercer:
    def coerce(value: Any, path: Path) -> Any:
        if value is None:
            return None
        values = value if isinstance(value, list) else [value]
        if item is _as_is:
            return values
        before, last = path[:-1], path[-1] if path else ""
        return [item(v, (*before, f"{last}[{n}]")) for n, v in enumerate(values)]

    return coerce


def _mapping(item: Coercer) -> Coercer:
    def coerce(value: Any, path: Path) -> Any:
        value = _single(value)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise invalid_field(path, "LinkedHashMap")
        if item is _as_is:
            return value
        return {k: item(v, (*path, k)) for k, v in value.items()}

    return coerce


def _choice(annotation: Any) -> Coercer:
    choices = get_args(annotation)
    by_text = {str(c).casefold(): c for c in choices}

    def coerce(value: Any, path: Path) -> Any:
        value = _single(value)
        if value is None or (isinstance(value, (str, int)) and value in choices):
            return value
        if isinstance(value, str):
            found = by_text.get(value.strip().casefold())
            if found is not None:
                return found
        raise invalid_field(path)

    return coerce


def _enumeration(annotation: type[enum.Enum]) -> Coercer:
    by_text = {str(member.value).casefold(): member for member in annotation}
    by_text |= {member.name.casefold(): member for member in annotation}

    def coerce(value: Any, path: Path) -> Any:
        value = _single(value)
        if value is None or isinstance(value, annotation):
            return value
        if isinstance(value, (str, int)) and str(value).strip().casefold() in by_text:
            return by_text[str(value).strip().casefold()]
        default = annotation._missing_(value) if value != "" else None
        if isinstance(default, annotation):
            return default
        raise invalid_field(path, annotation.__name__)

    return coerce


def _union(annotation: Any, discriminator: Any) -> Coercer:
    members = [m for m in get_args(annotation) if m is not type(None)]
    optional = len(members) < len(get_args(annotation))
    if len(members) == 1:
        inner = _coercer(members[0], discriminator)
        return (lambda value, path: None if value is None else inner(value, path)) if optional else inner
    models = _members(annotation)
    name = discriminator if isinstance(discriminator, str) else _common_tag(models) if discriminator is None else None
    return _tagged(models, name) if models and name else _as_is


def _common_tag(models: list[Any]) -> str | None:
    """The field by which models can be told apart: it is a literal in all of them, and no two have one in common."""
    for name in models[0].model_fields if models else ():
        fields = [model.model_fields.get(name) for model in models]
        inner = [_inner(field.annotation) if field else None for field in fields]
        if all(get_origin(each) is Literal for each in inner):
            tags = [tag for each in inner for tag in get_args(each)]
            if len(set(tags)) == len(tags):
                return str(name)
    return None


def _tagged(models: list[Any], discriminator: str) -> Coercer:
    """A union of models told apart by a literal."""
    by_tag: dict[tuple[str, str], Coercer] = {}
    names: list[str] = []
    for model in models:
        field = model.model_fields[discriminator]
        key = sdk.field_keys(discriminator, field)[0]
        names.append(key)
        by_tag |= {(key, str(tag)): _Model(model) for tag in get_args(_inner(field.annotation))}

    def coerce(value: Any, path: Path) -> Any:
        value = _single(value)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise invalid_field(path)
        for name in names:
            tag = _single(value.get(name))
            found = by_tag.get((name, tag)) if isinstance(tag, str) else None
            if found is not None:
                return found(value, path)
        raise invalid_field(path)

    return coerce


class _Model:
    """Coerces the fields of a model. Resolved at first use, so that models may refer to themselves."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        self._fields: list[_Field] | None = None
        self._keeps_unknown = model.model_config.get("extra") == "allow"

    def __call__(self, value: Any, path: Path) -> Any:
        if type(value) is not dict:
            value = _single(value)
            if value is None or isinstance(value, self._model):
                return value
            if not isinstance(value, dict):
                raise invalid_field(path, self._model.__name__) if path else BindingError(NOT_AN_OBJECT)
        if self._fields is None:
            self._fields = [p for n, f in self._model.model_fields.items() for p in _plan(self._model, n, f)]
        coerced: dict[str, Any] = dict(value) if self._keeps_unknown else {}
        for key, coerce, fits, droppable in self._fields:
            if key not in value:
                continue
            found = value[key]
            if type(found) is not fits and coerce is not _as_is:
                found = coerce(found, (*path, key))
            if found is not None or not droppable:
                coerced[key] = found
            elif self._keeps_unknown:
                del coerced[key]
        return coerced


_Field = tuple[str, Coercer, type | None, bool]
"""Key, coercion, the type that needs none, and whether null means the default: for a field that has one and takes no null."""


def _plan(model: type[BaseModel], name: str, field: FieldInfo) -> list[_Field]:
    """How a field is filled, from each of its keys."""
    annotation = field.annotation
    optional = type(None) in get_args(annotation) or annotation is Any
    droppable = not field.is_required() and not optional
    coerce = _primitive_boolean if annotation is bool else _coercer(annotation, field.discriminator)
    if (optional or droppable) and _is_choice(_inner(annotation)):
        coerce = _blank_is_null(coerce)
    by_name = model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name")
    keys = [*sdk.field_keys(name, field), *([name] if by_name else [])]
    inner = _inner(annotation)
    fits = inner if inner in {str, int, float, bool} else None
    return [(key, coerce, fits, droppable) for key in dict.fromkeys(keys)]


def _primitive_boolean(value: Any, path: Path) -> Any:
    """A flag that cannot be null is what Java calls a `boolean`; one that can, a `Boolean`."""
    try:
        return _boolean(value, path)
    except BindingError:
        raise invalid_field(path, "boolean") from None


def _is_choice(annotation: Any) -> bool:
    return get_origin(annotation) is Literal or (isinstance(annotation, type) and issubclass(annotation, enum.Enum))


def _blank_is_null(coerce: Coercer) -> Coercer:
    """Old templates send blanks where nothing was chosen."""
    return lambda value, path: None if isinstance(value, str) and not value.strip() else coerce(value, path)


# ---- parameters ------------------------------------------------------------------------------------------------------


def operation_not_found(operation: str | None) -> BindingError:
    """The original's words for a missing or unknown `operation` header."""
    if not operation:
        return BindingError("Operation ID is missing in the job context custom headers.")
    return BindingError(f"Operation not found: {operation}")


class Arguments:
    """Fills the parameters of one operation of a connector; compiled once."""

    def __init__(self, operation: sdk.Operation) -> None:
        self.reads_variables = any(p.kind in {"model", "variable"} for p in operation.parameters)
        self._parameters = [
            (p, Binder(p.annotation, _binder_name(p)) if p.kind in {"model", "variable", "header"} else None)
            for p in operation.parameters
        ]

    def bind(self, variables: Any, headers: Mapping[str, str], job: sdk.JobContext, service: Any) -> dict[str, Any]:
        """Keyword arguments. Raises BindingError, or ContentNeeded for a document that must be read first."""
        if self.reads_variables and not isinstance(variables, dict):
            raise BindingError(NOT_AN_OBJECT)
        arguments: dict[str, Any] = {}
        for parameter, binder in self._parameters:
            if parameter.kind == "job":
                arguments[parameter.name] = job
            elif parameter.kind == "service":
                arguments[parameter.name] = service
            elif parameter.kind == "model":
                assert binder is not None
                arguments[parameter.name] = binder(variables)
            else:
                assert binder is not None
                value = _one(parameter, binder, variables, headers)
                if value is not None or not parameter.has_default:
                    arguments[parameter.name] = value
        return arguments


def _binder_name(parameter: sdk.Parameter) -> str:
    return parameter.source.name if parameter.source is not None else ""


def _one(parameter: sdk.Parameter, binder: Binder, variables: Any, headers: Mapping[str, str]) -> Any:
    source = parameter.source
    assert source is not None
    if isinstance(source, sdk.Header):
        value, what, where = headers.get(source.name), "header", "headers"
    else:
        value, what, where = _at(variables, source.name), "variable", "variables"
    if value is None:
        if source.required and not parameter.has_default:
            raise BindingError(f"Required {what} '{source.name}' is missing in the job {where}.")
        return None
    return binder(value)


def _at(value: Any, pointer: str) -> Any:
    """The value at `/POINTER` (RFC 6901), the whole for an empty one; None where there is nothing."""
    for step in pointer.split("/") if pointer else ():
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal() and key.isascii() and int(key[:9]) < len(value):
            value = value[int(key[:9])]
        else:
            return None
    return value
