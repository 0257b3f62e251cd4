"""JSON Schema for the body of a request (json-schema.org; 2020-12 where the schema names no draft).

The schema is the process's, the body anybody's: patterns have a time limit, a check has a number of steps, a duplicate is not searched for
by comparing each with each, and no schema is ever fetched. `format` is a note, as the specification has it, not a rule.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import regex
from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
from referencing import Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import UnknownDialect, specification_with

from gateway import jsontext
from gateway.webhooks.refusals import WebhookRefused

MAX_STEPS: Final = 100_000
"""Rules applied to places: well below a second."""
PATTERN_SECONDS: Final = 0.2
"""For all patterns of one check."""

_SHOWN: Final = 100  # characters of a rule
_PATH: Final = 200  # characters of a place
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FAR: Final = 1_000  # decimal places beyond which a number is not divided

Errors = Iterator[ValidationError]
Keyword = Callable[[Any, Any, Any, Any], Errors | None]
"""Of a validator, the rule's value, the instance and the schema that the rule stands in."""


class _Exceeded(Exception):  # noqa: N818 - ends a check
    pass


class BodySchema:
    """A schema, compiled once."""

    def __init__(self, schema: Any) -> None:
        """schema: an object or a boolean, or its JSON text.

        Raises ValueError for what is no schema, for a `$ref` that leads out of it, for a pattern that is none.
        """
        if isinstance(schema, str):
            try:
                schema = jsontext.loads(schema)
            except jsontext.InvalidJson as e:
                raise ValueError(f"the schema is not JSON: {e}") from None
        if not isinstance(schema, (Mapping, bool)):
            raise ValueError("a schema must be a JSON object or a boolean")  # noqa: TRY004 - of data, not of a call
        self._steps = 0
        self._pattern_seconds = 0.0
        self._patterns: dict[str, regex.Pattern[str]] = {}
        try:
            base: Any = validator_for(schema, default=Draft202012Validator)
            base.check_schema(schema, format_checker=FormatChecker(formats=()))
            self._look_through(schema)
            self._validator: Validator = self._limited(base)(schema, registry=REGISTRY)
            probes: list[Any] = [None, "", 0, {}, []]
            for probe in probes:
                self._first_error(probe)
        except SchemaError as e:
            raise ValueError(f"the schema breaks its own rules at {_place(e)}: {e.message[:_SHOWN]}") from None
        except UnknownDialect as e:
            raise ValueError(f"the schema's $schema {e.uri[:_SHOWN]!r} is not known") from None
        except (RecursionError, _Exceeded):
            raise ValueError("the schema refers to itself without end") from None

    def check(self, body: Any) -> None:
        """Raises WebhookRefused (422): the place in the body and the rule that it breaks, nothing of the body's values.

        Also for a body that takes more than `MAX_STEPS`, more than `PATTERN_SECONDS`, or is nested too deeply to be checked.
        """
        try:
            error = self._first_error(body)
        except _Exceeded:
            raise WebhookRefused(422, "The body is too large to be checked with its schema") from None
        except RecursionError:
            raise WebhookRefused(422, "The body is nested too deeply to be checked with its schema") from None
        if error is not None:
            raise WebhookRefused(422, f"The body does not fit its schema at {_place(error)}: {_rule(error)}")

    def _first_error(self, body: Any) -> ValidationError | None:
        self._steps, self._pattern_seconds = MAX_STEPS, PATTERN_SECONDS
        return next(iter(self._validator.iter_errors(body)), None)

    # ---- what is compiled --------------------------------------------------------------------------------------------

    def _look_through(self, schema: Any) -> None:
        """Follows every reference and compiles every pattern, so that nothing of a schema fails later."""
        specification = specification_with(schema.get("$schema", _DIALECT) if isinstance(schema, Mapping) else _DIALECT)
        resource: Resource[Any] = Resource(contents=schema, specification=specification)  # type: ignore[call-arg]
        base = resource.id() or ""
        pending = [(resource, REGISTRY.with_resource(base, resource).crawl().resolver(base))]
        while pending:
            resource, resolver = pending.pop()
            if isinstance(resource.contents, Mapping):
                for name in ("$ref", "$dynamicRef"):
                    if isinstance(reference := resource.contents.get(name), str):
                        _follow(resolver, reference)
                self._compile(resource.contents)
            pending += [(inner, resolver.in_subresource(inner)) for inner in resource.subresources()]

    def _compile(self, schema: Mapping[str, Any]) -> None:
        named = schema.get("patternProperties") or {}
        if named and "unevaluatedProperties" in schema:
            raise ValueError(
                "patternProperties beside unevaluatedProperties are not supported: use additionalProperties"
            )
        for pattern in [*named, *([schema["pattern"]] if "pattern" in schema else [])]:
            self._pattern(pattern)

    def _pattern(self, text: str) -> regex.Pattern[str]:
        found = self._patterns.get(text)
        if found is None:
            try:
                found = self._patterns[text] = regex.compile(text)
            except regex.error as e:
                raise ValueError(f"the pattern {text[:_SHOWN]!r} of the schema is none: {e}") from None
        return found

    def _limited(self, base: Any) -> Any:
        """The draft's validator, within the limits."""
        own: dict[str, Keyword] = {
            "pattern": self._match,
            "patternProperties": self._pattern_properties,
            "additionalProperties": self._additional_properties,
            "multipleOf": _multiple_of,
            "uniqueItems": self._unique_items,
        }
        rules = {**base.VALIDATORS, **{name: rule for name, rule in own.items() if name in base.VALIDATORS}}
        types = base.TYPE_CHECKER
        draft_integer: Callable[[Any, Any], bool] = types._type_checkers["integer"]
        return extend(  # type: ignore[no-untyped-call]
            base,
            {name: self._counted(rule) for name, rule in rules.items()},
            type_checker=types.redefine(
                "integer", lambda checker, value: draft_integer(checker, value) or _is_whole(value)
            ),
        )

    def _counted(self, rule: Keyword) -> Keyword:
        def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Errors:
            self._spend(1 + (len(value) // 8 if isinstance(value, (list, dict)) else 0))
            yield from rule(validator, value, instance, schema) or ()

        return counted

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise _Exceeded

    # ---- rules with patterns -----------------------------------------------------------------------------------------

    def _matches(self, pattern: str, text: str) -> bool:
        if self._pattern_seconds <= 0:
            raise _Exceeded
        begun = time.perf_counter()
        try:
            return self._pattern(pattern).search(text, timeout=self._pattern_seconds) is not None
        except TimeoutError:
            raise _Exceeded from None
        finally:
            self._pattern_seconds -= time.perf_counter() - begun

    def _match(self, validator: Any, pattern: str, instance: Any, schema: Any) -> Errors:
        if isinstance(instance, str) and not self._matches(pattern, instance):
            yield ValidationError("does not match")

    def _pattern_properties(self, validator: Any, patterns: Any, instance: Any, schema: Any) -> Errors:
        for pattern, inner in patterns.items() if isinstance(instance, Mapping) else ():
            for name, value in instance.items():
                if self._matches(pattern, name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)

    def _additional_properties(self, validator: Any, inner: Any, instance: Any, schema: Any) -> Errors:
        if not isinstance(instance, Mapping) or inner is True:
            return
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for name, value in instance.items():
            if name in known or any(self._matches(pattern, name) for pattern in patterns):
                continue
            if inner is False:
                yield ValidationError("not allowed", path=[name])
            else:
                yield from validator.descend(value, inner, path=name)

    def _unique_items(self, validator: Any, wanted: Any, instance: Any, schema: Any) -> Errors:
        if wanted and isinstance(instance, list) and len(set(map(self._canonical, instance))) < len(instance):
            yield ValidationError("not unique")

    def _canonical(self, value: Any) -> str:
        """Equal for values that are equal to JSON Schema. Text, whose hash nobody can foresee."""
        self._spend(1)
        if isinstance(value, Mapping):
            members = sorted(f"{jsontext.dumps(name)}:{self._canonical(item)}" for name, item in value.items())
            return "{" + ",".join(members) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(self._canonical, value)) + "]"
        return _canonical_number(value) if _is_number(value) else jsontext.dumps(value)


def _follow(resolver: Any, reference: str) -> None:
    try:
        resolver.lookup(reference)
    except Unresolvable:
        what = f"{reference[:_SHOWN]!r}, which is not in it; nothing is fetched"
        raise ValueError(f"the schema refers to {what}") from None


# ---- numbers ---------------------------------------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _decimal(value: Any) -> Decimal:
    """By the digits that it is written with."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def _canonical_number(value: Any) -> str:
    sign, digits, exponent = _decimal(value).as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    return f"{'-' if sign else ''}{text}e{int(exponent) + len(digits) - len(text)}" if text else "0"


def _is_whole(value: Any) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value()


def _multiple_of(validator: Any, divisor: Any, instance: Any, schema: Any) -> Errors:
    """Exactly: 0.3 is a multiple of 0.1."""
    if not _is_number(instance):
        return
    number, step = _decimal(instance), _decimal(divisor)
    if (
        not number.is_finite()
        or max(abs(number.adjusted()), abs(step.adjusted())) > _FAR
        or Fraction(number) % Fraction(step)
    ):
        yield ValidationError("no multiple")


# ---- errors ----------------------------------------------------------------------------------------------------------


def _place(error: ValidationError | SchemaError) -> str:
    """A JSON pointer (RFC 6901)."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in error.absolute_path)
    return _short("".join(f"/{step}" for step in steps), _PATH) or "its root"


def _rule(error: ValidationError) -> str:
    value: Any = error.validator_value
    if not isinstance(error.validator, str):
        return "something in it is not allowed"
    if error.validator == "required" and isinstance(value, list) and isinstance(error.instance, Mapping):
        value = next((name for name in value if name not in error.instance), value)
    return f"{error.validator} {_short(jsontext.dumps(value), _SHOWN)}"


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
