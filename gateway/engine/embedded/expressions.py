"""What models leave to run time: texts and FEEL, evaluated to the type that is expected, or a reason for an incident."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from gateway import feel

_TEMPORAL = (feel.FeelDate, feel.FeelTime, feel.FeelDateTime, feel.DaysTime, feel.YearsMonths)

Now = Callable[[], datetime]
"""The engine's time, for `now()` and `today()`."""


class Stuck(Exception):  # noqa: N818 - not an error of the program: the instance cannot go on and waits for an operator
    """An element cannot go on; it becomes an incident of this type with this message."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type, self.message = error_type, message


class Expression:
    """A text of the model: FEEL when it began with `=`, else the text itself."""

    __slots__ = ("_now", "_parsed", "text")

    def __init__(self, text: str, now: Now) -> None:
        """now: the time of `now()` and `today()`. Raises feel.FeelParseError."""
        is_feel = text.startswith("=")
        self.text = text[1:].strip() if is_feel else text
        self._parsed = feel.parse(self.text) if is_feel else None
        self._now = now
        if self._parsed is not None:
            _ = self._parsed.names  # compiles it: what is too deep for that is refused now

    @property
    def is_static(self) -> bool:
        return self._parsed is None

    def evaluate(self, context: Mapping[str, Any]) -> Any:
        """The FEEL value. Raises feel.FeelError."""
        return self.text if self._parsed is None else self._parsed.evaluate(context, clock=self._now)

    def failures(self, context: Mapping[str, Any]) -> str:
        """Why the value is what it is: the failures of one more evaluation, a line each."""
        if self._parsed is None:
            return ""
        found = self._parsed.explain(context, clock=self._now).failures
        return "".join(f"\n[{failure.kind}] {failure.message}" for failure in found)


def type_name(value: Any) -> str:
    """The name that Zeebe's messages give a FEEL type."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int | Decimal | float):
        return "NUMBER"
    if isinstance(value, str):
        return "STRING"
    if isinstance(value, list | tuple):
        return "ARRAY"
    if isinstance(value, Mapping):
        return "OBJECT"
    return type(value).__name__.upper()


def _evaluate(expression: Expression, context: Mapping[str, Any], error_type: str = "EXTRACT_VALUE_ERROR") -> Any:
    try:
        return expression.evaluate(context)
    except feel.FeelError as e:
        raise Stuck(error_type, str(e)) from None


def _unexpected(expression: Expression, wanted: str, value: Any, context: Mapping[str, Any]) -> Stuck:
    message = f"Expected result of the expression '{expression.text}' to be {wanted}, but was '{type_name(value)}'."
    failures = expression.failures(context)
    if failures:
        message += f" The evaluation reported the following warnings:{failures}"
    return Stuck("EXTRACT_VALUE_ERROR", message)


def to_variable(value: Any) -> Any:
    """A FEEL value as a variable keeps it: JSON, temporal values as FEEL's text (a connector's results have Java's), null for
    ranges and functions. What is JSON already is not copied.
    """
    return feel.to_json(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else _utf8(value)
    if isinstance(value, _TEMPORAL):
        return str(value)
    if isinstance(value, feel.FeelRange):
        return None
    if isinstance(value, dict):
        entries = {_plain(name): _plain(entry) for name, entry in value.items()}
        same = all(a is b and m is n for (m, a), (n, b) in zip(entries.items(), value.items(), strict=False))
        return value if same and len(entries) == len(value) else entries
    if isinstance(value, list):
        members = [_plain(member) for member in value]
        return members if any(a is not b for a, b in zip(members, value, strict=True)) else value
    return value


def _utf8(text: str) -> str:
    """Halves of characters, which FEEL's functions can make, are joined or become `?`: no JSON holds them."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return joined.encode("utf-8", "replace").decode()


def to_result(expression: Expression, context: Mapping[str, Any]) -> Any:
    """The value as a variable keeps it. Raises Stuck (EXTRACT_VALUE_ERROR)."""
    return to_variable(_evaluate(expression, context))


def to_text(expression: Expression, context: Mapping[str, Any]) -> str:
    value = _evaluate(expression, context)
    if isinstance(value, str):
        return value
    raise _unexpected(expression, "'STRING'", value, context)


def to_integer(expression: Expression, context: Mapping[str, Any]) -> int:
    value = _evaluate(expression, context)
    if isinstance(value, str) and expression.is_static:
        return int(value)  # checked on deployment
    if isinstance(value, int | Decimal) and not isinstance(value, bool) and value == int(value):
        return int(value)
    raise _unexpected(expression, "'NUMBER'", value, context)


def to_boolean(expression: Expression, context: Mapping[str, Any]) -> bool:
    value = _evaluate(expression, context)
    if isinstance(value, bool):
        return value
    raise _unexpected(expression, "'BOOLEAN'", value, context)


def to_correlation_key(expression: Expression, context: Mapping[str, Any]) -> str:
    value = _evaluate(expression, context)
    if isinstance(value, str):
        return value
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    raise Stuck(
        "EXTRACT_VALUE_ERROR",
        f"Failed to extract the correlation key for '{expression.text}' expression: "
        f"The value must be either a string or a number, but was '{type_name(value)}'.{expression.failures(context)}",
    )


# ---- input and output mappings ---------------------------------------------------------------------------------------


class Mappings:
    """The inputs or the outputs of an element: one nested context, in which later entries see the earlier ones.

    Targets `a.b` and `a.c` make one context `a`, evaluated where the first of them stands; within it they see each
    other as `b` and `c` (docs: components/concepts/variables, input/output variable mappings).
    """

    __slots__ = ("_merge", "_tree")

    def __init__(self, pairs: list[tuple[tuple[str, ...], Expression]], *, merge: bool) -> None:
        """pairs: path of the target and source. merge: a nested target adds to a variable that is there (outputs)."""
        self._merge = merge
        self._tree: dict[str, Any] = {}
        for path, source in pairs:
            level = self._tree
            for name in path[:-1]:
                if not isinstance(below := level.get(name), dict):
                    level[name] = below = {}
                level = below
            level[path[-1]] = source

    def evaluate(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """The values by variable, as variables keep them. Raises Stuck (IO_MAPPING_ERROR)."""
        made = self._level(self._tree, context, context)
        return {name: to_variable(value) for name, value in made.items()}

    def _level(self, tree: dict[str, Any], context: Mapping[str, Any], before: Any) -> dict[str, Any]:
        made: dict[str, Any] = {}
        seen: Mapping[str, Any] = _Shadowed(made, context)
        for name, source in tree.items():
            if isinstance(source, Expression):
                made[name] = _evaluate(source, seen, "IO_MAPPING_ERROR") if source.text else None
            else:
                old = before.get(name) if self._merge and isinstance(before, Mapping) else None
                inner = self._level(source, seen, old)
                made[name] = {**old, **inner} if isinstance(old, Mapping) else inner
        return made


class _Shadowed(Mapping[str, Any]):
    """Names of the inner context hide those of the outer one."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, inner: Mapping[str, Any], outer: Mapping[str, Any]) -> None:
        self._inner, self._outer = inner, outer

    def __getitem__(self, name: str) -> Any:
        return self._inner[name] if name in self._inner else self._outer[name]

    def __contains__(self, name: object) -> bool:
        return name in self._inner or name in self._outer

    def __iter__(self) -> Iterator[str]:
        yield from self._inner
        yield from (name for name in self._outer if name not in self._inner)

    def __len__(self) -> int:
        return sum(1 for _ in self)
