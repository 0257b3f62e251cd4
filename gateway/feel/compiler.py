"""
From syntax tree to code: one closure for each node.

Names, functions and constants are bound here, once. The same code serves fast and explained evaluation: a failure is
recorded where a recorder is present. `weight` adds up what the code costs; loops and functions take the difference
across their body, and pay it at run time for each round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from gateway.feel import ast, calls, loops, operators
from gateway.feel.budget import ABSENT, Run
from gateway.feel.errors import FailureKind, FeelError, FeelEvaluationError
from gateway.feel.functions import REGISTRY, Builtin
from gateway.feel.scopes import FIRST_SLOT, Code, Frame, Scope, Scopes
from gateway.feel.temporal import PROPERTIES, TEMPORAL_TYPES, parse_any
from gateway.feel.values import NUMBERS, PLAIN, FeelRange, convert, shown

_FOLDED = frozenset({int, str, bool, Decimal, *TEMPORAL_TYPES})
"""Types of constants that may be shared between evaluations."""

_STEP = 5
_NEVER_NUMBERS = (
    ast.Comparison,
    ast.Logic,
    ast.Between,
    ast.In,
    ast.InstanceOf,
    ast.Quantified,
    ast.ListLiteral,
    ast.ContextLiteral,
)


class Compiler:
    """Compiles one tree. `size` is then the size of its frames and `free` the names it takes from the context."""

    def __init__(self, functions: Mapping[str, tuple[Builtin, ...]] | None = None) -> None:
        self.functions = functions or {}
        self.scopes = Scopes()
        self.weight = 0
        self.constants: dict[Code, Any] = {}

    def compile(self, node: ast.Node) -> Code:
        self.weight += _STEP
        return _COMPILERS[type(node)](self, node)

    def overloads(self, name: str) -> tuple[Builtin, ...]:
        return self.functions.get(name, ()) + REGISTRY.get(name, ())

    # Constants

    def constant(self, value: Any) -> Code:
        def constant(frame: Frame) -> Any:
            return value

        self.constants[constant] = value
        return constant

    def fold(self, code: Code, *operands: Code) -> Code:
        """The value in place of the code, if its operands are constants and it gives one without a failure."""
        if not all(operand in self.constants for operand in operands):
            return code
        run = Run()
        run.failures = []
        try:
            value = code([{}, run])
        except FeelError:
            return code
        return self.constant(value) if type(value) in _FOLDED and not run.failures else code

    def literal(self, node: ast.Literal) -> Code:
        return self.constant(node.value)

    def at_literal(self, node: ast.AtLiteral) -> Code:
        value = parse_any(node.text)
        if value is not None:
            return self.constant(value)
        message = f"Failed to parse temporal value from '{node.text}'"

        def invalid(frame: Frame) -> None:
            frame[1].fail(FailureKind.UNKNOWN, message)

        return invalid

    # Names and paths

    def name(self, node: ast.Name) -> Code:
        return self.scopes.variable(node.name)

    def input(self, node: ast.Input) -> Code:
        def given(frame: Frame) -> Any:
            value = frame[1].input
            if value is ABSENT:
                raise FeelEvaluationError("No input value available.")
            return value

        return given

    def path(self, node: ast.Path) -> Code:
        name = node.name
        base = self.compile(node.base)
        plain = PLAIN

        def path(frame: Frame) -> Any:
            value = base(frame)
            if type(value) is dict:
                try:
                    value = value[name]
                except KeyError:
                    return step(frame[1], value, name)
                return value if type(value) in plain else convert(value)
            return step(frame[1], value, name)

        return self.fold(path, base)

    # Literals of lists, contexts and ranges

    def list_literal(self, node: ast.ListLiteral) -> Code:
        self.weight += 5 * _STEP
        codes = [self.compile(item) for item in node.items]
        if len(codes) <= 16 and all(code in self.constants for code in codes):
            values = [self.constants[code] for code in codes]
            return lambda _: values[:]
        return lambda frame: [code(frame) for code in codes]

    def context_literal(self, node: ast.ContextLiteral) -> Code:
        self.weight += 7 * _STEP
        scope = Scope()
        self.scopes.stack.append(scope)
        entries: list[tuple[str, Code]] = []
        slots: list[int | None] = []
        latest: dict[str, int] = {}
        for position, (key, value) in enumerate(node.entries):
            entries.append((key, self.compile(value)))
            slots.append(None)
            if key in latest:  # a repeated key hides the earlier one from here on
                slots[latest[key]] = scope.slots[key]
            latest[key] = position
            scope.slots[key] = None
        self.scopes.stack.pop()
        for key, position in latest.items():
            slots[position] = scope.slots[key]
        return entries_code(entries, slots)

    def range_literal(self, node: ast.RangeLiteral) -> Code:
        low, high = self.compile(node.low), self.compile(node.high)
        low_closed, high_closed = node.low_closed, node.high_closed
        if node.bare:
            return loops.counted(low, high)
        if low in self.constants and high in self.constants:
            value = FeelRange.make(self.constants[low], self.constants[high], low_closed, high_closed)
            return lambda _: value
        self.weight += 18 * _STEP
        return lambda frame: FeelRange.make(low(frame), high(frame), low_closed, high_closed)

    # Operators

    def negation(self, node: ast.Negation) -> Code:
        operand = self.compile(node.operand)
        return self.fold(operators.negate(operand), operand)

    def arithmetic(self, node: ast.Arithmetic) -> Code:
        first = self.compile(node.first)
        rest = [(sign, self.compile(operand)) for sign, operand in node.rest]
        self.weight += _STEP * len(rest)
        code = operators.calculate(first, rest, self.constants, self.scopes.peeks)
        return self.fold(code, first, *(operand for _, operand in rest))

    def logic(self, node: ast.Logic) -> Code:
        operands = [self.compile(operand) for operand in node.operands]
        return operators.conjunction(operands) if node.operator == "and" else operators.disjunction(operands)

    def comparison(self, node: ast.Comparison) -> Code:
        left, right = self.compile(node.left), self.compile(node.right)
        constant = self.constants.get(right)
        if node.operator in {"=", "!="}:
            if type(constant) is int or type(constant) is str:
                return operators.equal_constant(left, constant, negated=node.operator == "!=")
            return operators.equal(left, right, negated=node.operator == "!=")
        if type(constant) is int:
            return operators.order_constant(node.operator, left, constant, self.scopes.peeks.get(left))
        return operators.order(node.operator, left, right)

    def between(self, node: ast.Between) -> Code:
        return operators.between(self.compile(node.value), self.compile(node.low), self.compile(node.high))

    def membership(self, node: ast.In) -> Code:
        self.weight += 15 * _STEP
        value = self.compile(node.value)
        return operators.membership(value, operators.any_test([self.test(test) for test in node.tests]))

    def instance_of(self, node: ast.InstanceOf) -> Code:
        self.weight += 3 * _STEP
        return operators.instance_of(self.compile(node.value), node.type)

    def comparison_value(self, node: ast.TestComparison) -> Code:
        """`(< 5)` as a value: a range with one bound. `=` and `!=` make no range."""
        operand = self.compile(node.operand)
        closed = node.operator in {"<=", ">=", "="}
        if node.operator == "!=":
            return lambda _: None
        has_low, has_high = node.operator[0] in ">=", node.operator[0] in "<="

        def bounded(frame: Frame) -> FeelRange:
            bound = operand(frame)
            return FeelRange.make(bound if has_low else ABSENT, bound if has_high else ABSENT, closed, closed)

        return bounded

    # Control flow

    def condition(self, node: ast.If) -> Code:
        branches = [(self.compile(test), self.compile(then)) for test, then in node.branches]
        otherwise = self.compile(node.otherwise)
        if len(branches) == 1:
            test, then = branches[0]

            def if_else(frame: Frame) -> Any:
                value = test(frame)
                if value is True:
                    return then(frame)
                if value is not False:
                    operators.not_boolean(frame[1], value)
                return otherwise(frame)

            return if_else

        def if_chain(frame: Frame) -> Any:
            for test, then in branches:
                value = test(frame)
                if value is True:
                    return then(frame)
                if value is not False:
                    operators.not_boolean(frame[1], value)
            return otherwise(frame)

        return if_chain

    def iteration(self, node: ast.For) -> Code:
        sources = [self.compile(source) for _, source in node.iterators]
        scope = Scope([*(name for name, _ in node.iterators), "partial"])
        body, weight = self.body(scope, node.body)
        slots = [self.scopes.bind(scope, name) for name, _ in node.iterators]
        partial = scope.slots["partial"]
        if len(sources) == 1 and partial is None:
            if body in self.constants:
                return loops.repeat(sources[0], self.constants[body])
            return loops.each(sources[0], slots[0], body, weight)
        return loops.product(sources, slots, body, weight, partial)

    def quantified(self, node: ast.Quantified) -> Code:
        sources = [self.compile(source) for _, source in node.iterators]
        scope = Scope(name for name, _ in node.iterators)
        body, weight = self.body(scope, node.body)
        slots = [self.scopes.bind(scope, name) for name, _ in node.iterators]
        return loops.quantify(sources, slots, body, weight, decisive=node.quantifier == "some")

    def body(self, scope: Scope, node: ast.Node) -> tuple[Code, int]:
        """The code of a loop's body, and what one round costs."""
        before = self.weight
        self.scopes.stack.append(scope)
        code = self.compile(node)
        self.scopes.stack.pop()
        return code, self.weight - before + _STEP

    def filter(self, node: ast.Filter) -> Code:
        base = self.compile(node.base)
        condition = node.condition
        if isinstance(condition, ast.Literal) and type(condition.value) in NUMBERS:
            self.weight += 2 * _STEP
            return loops.index(base, condition.value)  # type: ignore[arg-type]
        slot = self.scopes.slot()
        code, weight = self.body(Scope(element=slot), condition)
        if code in self.constants and type(self.constants[code]) in NUMBERS:
            return loops.index(base, self.constants[code])
        if isinstance(condition, ast.Call):
            return loops.filter_by_call(base, slot, code, weight)
        may_be_index = not isinstance(condition, (*_NEVER_NUMBERS, ast.Literal))
        return loops.filter_list(base, slot, code, weight, trial=may_be_index)

    # Functions

    def function(self, node: ast.FunctionLiteral) -> Code:
        first = self.scopes.size
        self.scopes.size += len(node.parameters)
        scope = Scope()
        for position, parameter in enumerate(node.parameters):
            scope.slots[parameter] = first + position
        body, weight = self.body(scope, node.body)
        parameters = tuple(node.parameters)
        return lambda frame: calls.Closure(parameters, body, frame[:], first, weight)

    def external(self, node: ast.ExternalFunction) -> Code:
        parameters = tuple(node.parameters)

        def refuse(frame: Frame) -> None:
            frame[1].fail(FailureKind.FUNCTION_INVOCATION_FAILURE, "External functions are not available.")

        return lambda frame: calls.Closure(parameters, refuse, frame[:], max(len(frame), FIRST_SLOT), 1)

    def call(self, node: ast.Call) -> Code:
        self.weight += 8 * _STEP
        arguments = [self.compile(argument) for argument in node.arguments]
        names = node.names
        if node.base is not None:
            base = self.compile(node.base)
            if node.name is None:
                return calls.result_call(base, arguments, names)
            return calls.member_call(base, node.name, arguments, names)
        name = node.name or ""
        overloads, local = self.overloads(name), self.scopes.lookup(name)
        code = calls.named_call(name, overloads, local, arguments, names)
        if not overloads and local is None:
            self.scopes.free.add(name)
        entry = calls.chosen(overloads, len(arguments), names)
        self.weight += entry.price if entry is not None else 0
        if entry is None or not entry.pure or not arguments or local is not None:
            return code
        return guard(name, code, self.constants.get(self.fold(code, *arguments), ABSENT))

    # Tests

    def test(self, node: ast.Node) -> Code:
        """A test of `in` or of a decision table's cell."""
        if isinstance(node, ast.TestComparison):
            self.weight += _STEP
            return operators.test_comparison(node.operator, self.compile(node.operand))
        code = self.compile(node)
        if uses_input(node):
            return operators.test_condition(code)
        return operators.test_value(code, literal=isinstance(node, ast.Literal))

    def tests(self, node: ast.UnaryTestList) -> Code:
        code = operators.any_test([self.test(test) for test in node.tests])
        if not node.negated:
            return code

        def negated(frame: Frame) -> bool | None:
            value = code(frame)
            return None if value is None else not value

        return negated

    def any_input(self, node: ast.AnyTest) -> Code:
        return self.constant(value=True)


def guard(name: str, code: Code, value: Any) -> Code:
    """A folded call, unless the context brings something of its own under the name."""
    if value is ABSENT:
        return code
    return lambda frame: value if name not in frame[0] else code(frame)


def entries_code(entries: list[tuple[str, Code]], slots: list[int | None]) -> Code:
    """Code of a context literal; entries that later ones refer to are kept in slots."""
    if slots.count(None) < len(slots):
        steps = [(key, code, slot) for (key, code), slot in zip(entries, slots, strict=True)]

        def scoped(frame: Frame) -> dict[str, Any]:
            result = {}
            for key, code, slot in steps:
                result[key] = value = code(frame)
                if slot is not None:
                    frame[slot] = value
            return result

        return scoped
    if len(entries) == 3:
        (a, x), (b, y), (c, z) = entries
        return lambda frame: {a: x(frame), b: y(frame), c: z(frame)}
    if len(entries) == 4:
        (a, x), (b, y), (c, z), (d, v) = entries
        return lambda frame: {a: x(frame), b: y(frame), c: z(frame), d: v(frame)}
    return lambda frame: {key: code(frame) for key, code in entries}


def step(run: Run, value: Any, name: str) -> Any:
    """`value.name` for all but an entry that is there."""
    kind = type(value)
    if kind is list:
        return _column(run, value, name)
    if kind is dict:
        if name in value:
            return convert(value[name])
        if run.failures is not None:
            keys = ", ".join(f"'{key}'" for key in value)
            reason = f"Available keys: {keys}" if keys else "The context is empty"
            run.fail(FailureKind.NO_CONTEXT_ENTRY_FOUND, f"No context entry found with key '{name}'. {reason}")
        return None
    if value is None:
        run.fail(FailureKind.NO_CONTEXT_ENTRY_FOUND, f"No context entry found with key '{name}'. The context is null")
        return None
    properties = _RANGE_PROPERTIES if kind is FeelRange else PROPERTIES.get(kind, {})
    if name in properties:
        return properties[name](value)
    if run.failures is not None:
        available = ", ".join(f"'{known}'" for known in properties)
        reason = f"No property found with name '{name}' of value '{shown(value)}'. Available properties: {available}"
        run.fail(FailureKind.NO_PROPERTY_FOUND, reason)
    return None


def _column(run: Run, members: list[Any], name: str) -> list[Any]:
    """`list.name`: of each member."""
    run.spend(100 + len(members) * 5 * _STEP)
    plain = PLAIN
    column = []
    for member in members:
        if type(member) is dict and name in member:
            value = member[name]
            column.append(value if type(value) in plain else convert(value))
        else:
            column.append(step(run, convert(member), name))
    return column


_RANGE_PROPERTIES: dict[str, Callable[[FeelRange], Any]] = {
    "start": lambda value: None if value.low is ABSENT else value.low,
    "end": lambda value: None if value.high is ABSENT else value.high,
    "start included": lambda value: value.low_closed,
    "end included": lambda value: value.high_closed,
}


def uses_input(node: ast.Node) -> bool:
    """Whether the node looks at the input; a nested `in` has an input of its own."""
    if isinstance(node, ast.Input):
        return True
    if isinstance(node, ast.In):
        return uses_input(node.value)
    return any(map(uses_input, ast.children(node)))


_COMPILERS: dict[type, Callable[[Compiler, Any], Code]] = {
    ast.Literal: Compiler.literal,
    ast.AtLiteral: Compiler.at_literal,
    ast.Name: Compiler.name,
    ast.Input: Compiler.input,
    ast.ListLiteral: Compiler.list_literal,
    ast.ContextLiteral: Compiler.context_literal,
    ast.RangeLiteral: Compiler.range_literal,
    ast.Negation: Compiler.negation,
    ast.Arithmetic: Compiler.arithmetic,
    ast.Logic: Compiler.logic,
    ast.Comparison: Compiler.comparison,
    ast.Between: Compiler.between,
    ast.TestComparison: Compiler.comparison_value,
    ast.In: Compiler.membership,
    ast.InstanceOf: Compiler.instance_of,
    ast.If: Compiler.condition,
    ast.For: Compiler.iteration,
    ast.Quantified: Compiler.quantified,
    ast.FunctionLiteral: Compiler.function,
    ast.ExternalFunction: Compiler.external,
    ast.Path: Compiler.path,
    ast.Filter: Compiler.filter,
    ast.Call: Compiler.call,
    ast.AnyTest: Compiler.any_input,
    ast.UnaryTestList: Compiler.tests,
}
