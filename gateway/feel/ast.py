"""
The syntax tree of FEEL, and its printer.

`unparse(parse(text))` gives a text that parses to the same tree. Chains of one precedence (`a + b - c`, `a and b and c`,
`if .. else if ..`) are one node each, so that a long text does not make a deep tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from gateway.feel.lexer import is_plain_name


class Node:
    """Base of all nodes."""

    __slots__ = ()


@dataclass(slots=True)
class Literal(Node):
    """null, a boolean, a number or a string."""

    value: bool | int | Decimal | str | None


@dataclass(slots=True)
class AtLiteral(Node):
    """A temporal literal: `@"2020-01-01"`."""

    text: str


@dataclass(slots=True)
class Name(Node):
    """A variable."""

    name: str


@dataclass(slots=True)
class Input(Node):
    """The value under test: `?`."""


@dataclass(slots=True)
class ListLiteral(Node):
    """`[a, b]`."""

    items: list[Node]


@dataclass(slots=True)
class ContextLiteral(Node):
    """`{a: 1, "b c": 2}`."""

    entries: list[tuple[str, Node]]


@dataclass(slots=True)
class RangeLiteral(Node):
    """`[1..5)`; also between the bounds of an iteration, `1..5`, where `bare` is set."""

    low: Node
    high: Node
    low_closed: bool = True
    high_closed: bool = True
    bare: bool = False


@dataclass(slots=True)
class Negation(Node):
    """`-a`."""

    operand: Node


@dataclass(slots=True)
class Arithmetic(Node):
    """`a + b - c`: operators of one precedence, from left to right."""

    first: Node
    rest: list[tuple[str, Node]]


@dataclass(slots=True)
class Logic(Node):
    """`a and b and c` or `a or b or c`."""

    operator: str
    operands: list[Node]


@dataclass(slots=True)
class Comparison(Node):
    """`a < b`."""

    operator: str
    left: Node
    right: Node


@dataclass(slots=True)
class Between(Node):
    """`a between b and c`."""

    value: Node
    low: Node
    high: Node


@dataclass(slots=True)
class TestComparison(Node):
    """`< 5` as a test."""

    operator: str
    operand: Node


@dataclass(slots=True)
class In(Node):
    """`a in b` or `a in (b, < c)`."""

    value: Node
    tests: list[Node]
    parentheses: bool = False


@dataclass(slots=True)
class Type(Node):
    """The name of a type: `number`, `list<string>`, `context<a: number>`, `function<number> -> string`."""

    name: str
    arguments: list[Type] | None = None
    keys: list[str] | None = None
    result: Type | None = None


@dataclass(slots=True)
class InstanceOf(Node):
    """`a instance of number`."""

    value: Node
    type: Type


@dataclass(slots=True)
class If(Node):
    """`if a then b else if c then d else e`."""

    branches: list[tuple[Node, Node]]
    otherwise: Node


@dataclass(slots=True)
class For(Node):
    """`for x in a, y in b return c`."""

    iterators: list[tuple[str, Node]]
    body: Node


@dataclass(slots=True)
class Quantified(Node):
    """`some x in a satisfies b`, `every ..`."""

    quantifier: str
    iterators: list[tuple[str, Node]]
    body: Node


@dataclass(slots=True)
class FunctionLiteral(Node):
    """`function(a, b) a + b`; types of parameters are read and forgotten."""

    parameters: list[str]
    body: Node


@dataclass(slots=True)
class ExternalFunction(Node):
    """`function(a) external {..}`: never executed."""

    parameters: list[str]
    mapping: Node


@dataclass(slots=True)
class Path(Node):
    """`a.b`."""

    base: Node
    name: str


@dataclass(slots=True)
class Filter(Node):
    """`a[b]`."""

    base: Node
    condition: Node


@dataclass(slots=True)
class Call(Node):
    """`f(1)`, `lib.f(a: 1)` (`base` is lib) or `f(1)(2)` (`base` is f(1), `name` is None)."""

    base: Node | None
    name: str | None
    arguments: list[Node]
    names: list[str] | None = None


@dataclass(slots=True)
class AnyTest(Node):
    """`-`: every input passes."""


@dataclass(slots=True)
class UnaryTestList(Node):
    """`t, t` or `not(t, t)`."""

    tests: list[Node]
    negated: bool = False


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below, in the order of the text."""
    for field in fields(node):  # type: ignore[arg-type]
        yield from _nodes(getattr(node, field.name))


def _nodes(value: Any) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _nodes(member)


# Printing. Each printer gives the text and how tightly it binds.
_LOOSE, _OR, _AND, _COMPARE, _ADD, _MULTIPLY, _POWER, _UNARY, _POSTFIX = range(9)
_BINDING = {"+": _ADD, "-": _ADD, "*": _MULTIPLY, "/": _MULTIPLY, "**": _POWER, "or": _OR, "and": _AND}


def unparse(node: Node) -> str:
    """FEEL text of the tree, with as few parentheses as it needs."""
    return _text(node, _LOOSE)


def _text(node: Node, least: int) -> str:
    text, binding = _PRINTERS[type(node)](node)
    return f"({text})" if binding < least else text


def quote(text: str) -> str:
    """The text as a FEEL string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _name(name: str) -> str:
    return name if is_plain_name(name) else f"`{name}`"


def _literal(node: Literal) -> tuple[str, int]:
    value = node.value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value], _POSTFIX
    if isinstance(value, str):
        return quote(value), _POSTFIX
    if isinstance(value, int):
        return format(Decimal(value), "f"), _POSTFIX
    return format(value, "f"), _POSTFIX


def _context(node: ContextLiteral) -> tuple[str, int]:
    entries = (f"{key if is_plain_name(key) else quote(key)}: {_text(value, _LOOSE)}" for key, value in node.entries)
    return "{" + ", ".join(entries) + "}", _POSTFIX


def _range(node: RangeLiteral) -> tuple[str, int]:
    low, high = _text(node.low, _ADD), _text(node.high, _ADD)
    if node.bare:
        return f"{low}..{high}", _LOOSE
    return f"{'[' if node.low_closed else '('}{low}..{high}{']' if node.high_closed else ')'}", _POSTFIX


def _arithmetic(node: Arithmetic) -> tuple[str, int]:
    binding = _BINDING[node.rest[0][0]]
    parts = [_text(node.first, binding)]
    for operator, operand in node.rest:
        parts.append(f" {operator} {_text(operand, binding + 1)}")
    if isinstance(node.first, Arithmetic) and _BINDING[node.first.rest[0][0]] == binding:
        parts[0] = f"({parts[0]})"
    return "".join(parts), binding


def _logic(node: Logic) -> tuple[str, int]:
    binding = _BINDING[node.operator]
    return f" {node.operator} ".join(_text(operand, binding + 1) for operand in node.operands), binding


def _comparison(node: Comparison) -> tuple[str, int]:
    return f"{_text(node.left, _ADD)} {node.operator} {_text(node.right, _ADD)}", _COMPARE


def _between(node: Between) -> tuple[str, int]:
    parts = (_text(part, _ADD) for part in (node.value, node.low, node.high))
    return "{} between {} and {}".format(*parts), _COMPARE


def _in(node: In) -> tuple[str, int]:
    tests = ", ".join(_test(test, node.parentheses) for test in node.tests)
    return f"{_text(node.value, _ADD)} in {f'({tests})' if node.parentheses else tests}", _COMPARE


def _test(test: Node, alone: bool) -> str:
    return _text(test, _LOOSE if alone else _ADD)


def _type(node: Type) -> tuple[str, int]:
    text = node.name
    if node.keys is not None and node.arguments is not None:
        pairs = zip(node.keys, node.arguments, strict=True)
        text += "<" + ", ".join(f"{key}: {_type(argument)[0]}" for key, argument in pairs) + ">"
    elif node.arguments is not None:
        text += "<" + ", ".join(_type(argument)[0] for argument in node.arguments) + ">"
    if node.result is not None:
        text += f" -> {_type(node.result)[0]}"
    return text, _POSTFIX


def _if(node: If) -> tuple[str, int]:
    branches = " else ".join(f"if {_text(test, _LOOSE)} then {_text(then, _LOOSE)}" for test, then in node.branches)
    return f"{branches} else {_text(node.otherwise, _LOOSE)}", _LOOSE


def _iterators(iterators: list[tuple[str, Node]]) -> str:
    return ", ".join(f"{_name(name)} in {_text(source, _LOOSE)}" for name, source in iterators)


def _call(node: Call) -> tuple[str, int]:
    arguments = [_text(argument, _LOOSE) for argument in node.arguments]
    if node.names is not None:
        arguments = [f"{_name(name)}: {text}" for name, text in zip(node.names, arguments, strict=True)]
    if node.base is None:
        called = _function_name(node.name or "")
    elif node.name is None:
        called = _text(node.base, _POSTFIX)
        if not isinstance(node.base, Call):
            called = f"({called})"
    else:
        called = f"{_text(node.base, _POSTFIX)}.{_function_name(node.name)}"
    return f"{called}({', '.join(arguments)})", _POSTFIX


def _function_name(name: str) -> str:
    words = name.split(" ")
    return name if name in WORDY_FUNCTIONS or all(map(is_plain_name, words)) else f"`{name}`"


WORDY_FUNCTIONS = frozenset({"date and time", "years and months duration", "get or else", "and", "or"})
"""Names of functions that hold a reserved word."""


def _tests(node: UnaryTestList) -> tuple[str, int]:
    text = ", ".join(_text(test, _LOOSE) for test in node.tests)
    return f"not({text})" if node.negated else text, _LOOSE


_PRINTERS: dict[type, Callable[[Any], tuple[str, int]]] = {
    Literal: _literal,
    AtLiteral: lambda node: ("@" + quote(node.text), _POSTFIX),
    Name: lambda node: (_name(node.name), _POSTFIX),
    Input: lambda _: ("?", _POSTFIX),
    ListLiteral: lambda node: ("[" + ", ".join(_text(item, _LOOSE) for item in node.items) + "]", _POSTFIX),
    ContextLiteral: _context,
    RangeLiteral: _range,
    Negation: lambda node: ("-" + _text(node.operand, _UNARY), _UNARY),
    Arithmetic: _arithmetic,
    Logic: _logic,
    Comparison: _comparison,
    Between: _between,
    TestComparison: lambda node: (f"{node.operator} {_text(node.operand, _ADD)}", _LOOSE),
    In: _in,
    Type: _type,
    InstanceOf: lambda node: (f"{_text(node.value, _ADD)} instance of {_type(node.type)[0]}", _COMPARE),
    If: _if,
    For: lambda node: (f"for {_iterators(node.iterators)} return {_text(node.body, _LOOSE)}", _LOOSE),
    Quantified: lambda node: (
        f"{node.quantifier} {_iterators(node.iterators)} satisfies {_text(node.body, _LOOSE)}",
        _LOOSE,
    ),
    FunctionLiteral: lambda node: (
        f"function({', '.join(map(_name, node.parameters))}) {_text(node.body, _LOOSE)}",
        _LOOSE,
    ),
    ExternalFunction: lambda node: (
        f"function({', '.join(map(_name, node.parameters))}) external {_text(node.mapping, _POSTFIX)}",
        _LOOSE,
    ),
    Path: lambda node: (f"{_text(node.base, _POSTFIX)}.{_name(node.name)}", _POSTFIX),
    Filter: lambda node: (f"{_text(node.base, _POSTFIX)}[{_text(node.condition, _LOOSE)}]", _POSTFIX),
    Call: _call,
    AnyTest: lambda _: ("-", _LOOSE),
    UnaryTestList: _tests,
}
