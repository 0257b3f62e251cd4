"""
From text to syntax tree: expressions and unary tests.

A recursive descent with precedence climbing over tokens that are made on demand. It accepts Camunda's FEEL, and what the
DMN standard allows beyond it where Camunda's parser would only refuse: generic types, typed parameters, calls on
results, exponents, and names with spaces as far as they are known (from the text itself, or given by the caller).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import NoReturn

from gateway.feel import ast, lexer
from gateway.feel.cursor import Cursor
from gateway.feel.errors import FeelParseError
from gateway.feel.lexer import END, NAME, NUMBER, QUOTED, SIGN, STRING

MAX_DEPTH = 100
"""How deep an expression may nest."""

MAX_CHAIN = 200
"""How many steps (`.name`, `[..]`, `(..)`) may follow one operand."""

_PRECEDENCE = {"or": 1, "and": 2, "=": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "between": 3, "in": 3}
_PRECEDENCE |= {"instance": 3, "+": 4, "-": 4, "*": 5, "/": 5, "**": 6}
_COMPARISON, _ADDITION = 3, 4
_COMPARISONS = frozenset({"=", "!=", "<", "<=", ">", ">="})
_CONSTANTS = {"null": None, "true": True, "false": False}
_WORDY_STARTS = frozenset({"date", "years", "get"})
_OPERATOR_KINDS = (SIGN, NAME)
_STEPS = frozenset({".", "[", "("})
_OPERAND_KINDS = frozenset({NAME, NUMBER, STRING, QUOTED})


def parse_expression(source: str, names: Iterable[str] = ()) -> ast.Node:
    """Parse an expression; `names` are variables whose names hold spaces or signs. Raises FeelParseError."""
    return _guarded(source, names, _Parser.whole_expression)


def parse_tests(source: str, names: Iterable[str] = ()) -> ast.Node:
    """Parse unary tests, the cell of a decision table. Raises FeelParseError."""
    return _guarded(source, names, _Parser.whole_tests)


def _guarded(source: str, names: Iterable[str], method: Callable[[_Parser], ast.Node]) -> ast.Node:
    try:
        return method(_Parser(source, names))
    except RecursionError:
        raise FeelParseError("nested too deeply", source, 0) from None


class _Parser(Cursor):
    __slots__ = ()

    # Expressions

    def whole_expression(self) -> ast.Node:
        node = self.expression()
        if self.kind != END:
            self.fail(f"unexpected {self.found()}")
        return node

    def expression(self) -> ast.Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels")
        node = self.binary(1)
        self.depth -= 1
        return node

    def binary(self, level: int) -> ast.Node:
        """An operand and the operators that bind at least as tightly as the level."""
        left = self.operand()
        while True:
            operator = self.text
            precedence = _PRECEDENCE.get(operator)
            if precedence is None or precedence < level or self.kind not in _OPERATOR_KINDS:
                return left
            if precedence >= _ADDITION:
                left = self.arithmetic(left, precedence)
            elif precedence == _COMPARISON:
                left = self.comparison(left, operator)
                level = min(level, 2)
                if _PRECEDENCE.get(self.text) == _COMPARISON and self.kind in {SIGN, NAME}:
                    return left
            else:
                left = self.logic(left, operator, precedence)

    def arithmetic(self, first: ast.Node, precedence: int) -> ast.Node:
        rest = []
        while _PRECEDENCE.get(self.text) == precedence and self.kind == SIGN:
            operator = self.text
            self.advance()
            rest.append((operator, self.binary(precedence + 1)))
        return ast.Arithmetic(first, rest)

    def logic(self, first: ast.Node, operator: str, precedence: int) -> ast.Node:
        operands = [first]
        while self.is_word(operator):
            self.advance()
            operands.append(self.binary(precedence + 1))
        return ast.Logic(operator, operands)

    def comparison(self, left: ast.Node, operator: str) -> ast.Node:
        self.advance()
        if operator in _COMPARISONS:
            return ast.Comparison(operator, left, self.binary(_ADDITION))
        if operator == "between":
            low = self.binary(_ADDITION)
            self.expect("and")
            return ast.Between(left, low, self.binary(_ADDITION))
        if operator == "in":
            return self.membership(left)
        self.expect("of")
        return ast.InstanceOf(left, self.type())

    def membership(self, left: ast.Node) -> ast.Node:
        if not self.is_sign("("):
            return ast.In(left, [self.test(_ADDITION)])
        opening = self.start()
        self.advance()
        tests = [self.test(1)]
        if self.is_sign(".."):  # the parenthesis was the bound of a range
            self.move(opening)
            return ast.In(left, [self.test(_ADDITION)])
        while self.is_sign(","):
            self.advance()
            tests.append(self.test(1))
        self.expect(")")
        return ast.In(left, tests, parentheses=True)

    def test(self, level: int) -> ast.Node:
        """A comparison without its left side, or an expression."""
        if self.kind == SIGN and self.text in _COMPARISONS:
            operator = self.text
            self.advance()
            return ast.TestComparison(operator, self.binary(_ADDITION))
        return self.expression() if level == 1 else self.binary(level)

    def operand(self) -> ast.Node:
        """Minus signs, an operand, and what follows it: `.name`, `[filter]`, `(arguments)`."""
        signs = 0
        while self.text == "-" and self.kind == SIGN:
            signs += 1
            self.advance()
        node = self.named(self.text) if self.kind == NAME else self.primary()
        if self.kind == SIGN and self.text in _STEPS:
            node = self.steps(node)
        if signs:
            node = self.negated(node, signs)
        return node

    def negated(self, node: ast.Node, signs: int) -> ast.Node:
        if signs > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels")
        for _ in range(signs):
            if type(node) is ast.Literal and type(node.value) in {int, Decimal} and node.value:
                node = ast.Literal(-node.value)  # type: ignore[operator]
            else:
                node = ast.Negation(node)
        return node

    def steps(self, node: ast.Node) -> ast.Node:
        count = 0
        while self.kind == SIGN:
            if self.text == ".":
                node = self.path(node)
            elif self.text == "[":
                if self.closes_range():
                    return node
                self.advance()
                node = ast.Filter(node, self.expression())
                self.expect("]")
            elif self.text == "(":
                node = ast.Call(node, None, *self.arguments())
            else:
                return node
            count += 1
            if count > MAX_CHAIN:
                self.fail(f"more than {MAX_CHAIN} steps follow one operand")
        return node

    def closes_range(self) -> bool:
        """Whether a `[` ends a range (`[1..5[`) rather than opens a filter: nothing that is an operand follows."""
        following = lexer.token(self.source, self.end)
        kind = following.lastindex
        return kind == END or (kind == SIGN and following[kind] in {")", "]", ",", "}", "=", "!=", "..", "."})

    def path(self, base: ast.Node) -> ast.Node:
        end = self.end
        self.advance()
        if self.kind == QUOTED:
            name = self.text
            self.advance()
        elif self.kind == NAME and self.text not in lexer.RESERVED:
            name = self.path_name()
        else:
            self.fail(f"expected a name after '.' but found {self.found()}", end)
        if self.is_sign("("):
            return ast.Call(base, name, *self.arguments())
        return ast.Path(base, name)

    def path_name(self) -> str:
        start, name = self.start(), self.text
        spaced = lexer.spaced_property(self.source, start) if name in {"time", "start", "end"} else None
        if spaced is not None:
            self.move(spaced.end())
            return lexer.words(spaced[0])
        known = self.known_name() if self.known else None
        if known is not None:
            return known
        end = self.end
        self.advance()
        if self.kind == NAME and self.text not in lexer.OPERATOR_WORDS:
            more = lexer.more_words(self.source, end)
            if more is not None:
                self.move(more.end() - 1)
                return lexer.words(name + more[1])
        return name

    # Operands

    def primary(self) -> ast.Node:
        kind = self.kind
        text = self.text
        if kind == NUMBER:
            return self.number(text)
        if kind == STRING:
            self.advance()
            return ast.Literal(lexer.unquote(text))
        if kind == SIGN:
            construct = _CONSTRUCTS.get(text)
            if construct is not None:
                return construct(self)
        if kind == QUOTED:
            self.advance()
            if self.is_sign("("):
                return ast.Call(None, text, *self.arguments())
            return ast.Name(text)
        return self.reserved()

    def number(self, text: str) -> ast.Node:
        end = self.end
        self.advance()
        if self.kind == NAME and self.text[0] in "eE" and self.start() == end:
            exponent = lexer.exponent(self.source, end)
            if exponent is not None:
                self.move(exponent.end())
                return ast.Literal(lexer.number(text + exponent[0]))
        return ast.Literal(lexer.number(text))

    def named(self, word: str) -> ast.Node:
        """An operand that begins with a word: a constant, a keyword, a function call or a variable."""
        special = _KEYWORDS.get(word)
        if special is not None:
            node = special(self)
            if node is not None:
                return node
        if self.known:
            known = self.known_name()
            if known is not None:
                return ast.Call(None, known, *self.arguments()) if self.is_sign("(") else ast.Name(known)
        end = self.end
        self.advance()
        if self.kind == SIGN and self.text == "(":
            return ast.Call(None, word, *self.arguments())
        if self.kind == NAME:
            name = self.wordy_function(word, end)
            if name is not None:
                return ast.Call(None, name, *self.arguments())
        return ast.Name(word)

    def wordy_function(self, word: str, end: int) -> str | None:
        """The name of a function that goes on over several words, if one is called here."""
        if self.text in lexer.OPERATOR_WORDS:
            more = lexer.wordy_function(self.source, end) if word in _WORDY_STARTS else None
        else:
            more = lexer.more_words(self.source, end)
            if more is not None and not lexer.OPERATOR_WORDS.isdisjoint(more[1].split()):
                more = None
        if more is None:
            return None
        self.move(more.end() - 1)
        return lexer.words(f"{word} {more[1].strip()}")

    def arguments(self) -> tuple[list[ast.Node], list[str] | None]:
        """The current token is the opening parenthesis."""
        first = lexer.argument_name(self.source, self.end)
        if first is not None:
            return self.named_arguments()
        self.advance()
        arguments: list[ast.Node] = []
        if not self.is_sign(")"):
            arguments.append(self.expression())
            while self.is_sign(","):
                self.advance()
                arguments.append(self.expression())
        self.expect(")")
        return arguments, None

    def named_arguments(self) -> tuple[list[ast.Node], list[str] | None]:
        names: list[str] = []
        arguments: list[ast.Node] = []
        while True:
            match = lexer.argument_name(self.source, self.end)
            if match is None:
                self.advance()
                self.fail("expected the name of an argument and ':'")
            self.move(match.end())
            names.append(match[1] or match[2].rstrip())
            arguments.append(self.expression())
            if not self.is_sign(","):
                self.expect(")")
                return arguments, names

    def constant(self) -> ast.Node:
        node = ast.Literal(_CONSTANTS[self.text])
        self.advance()
        return node

    def reserved(self) -> NoReturn:
        self.fail(f"expected an expression but found {self.found()}")

    def reserved_unless_call(self) -> None:
        """`and(..)` and `or(..)` are functions, the words alone are reserved."""
        following = lexer.token(self.source, self.end)
        if following[following.lastindex] != "(":
            self.reserved()

    def at_literal(self) -> ast.Node:
        self.advance()
        if self.kind != STRING:
            self.fail(f"expected a string after '@' but found {self.found()}")
        node = ast.AtLiteral(lexer.unquote(self.text))
        self.advance()
        return node

    def input(self) -> ast.Node:
        self.advance()
        return ast.Input()

    def parenthesis(self) -> ast.Node:
        self.advance()
        if self.kind == SIGN and self.text in _COMPARISONS:
            return self.comparison_range()
        inner = self.expression()
        if self.is_sign(".."):
            return self.range(inner, low_closed=False)
        self.expect(")")
        return inner

    def comparison_range(self) -> ast.Node:
        """`(< 5)`: the standard's range without an end."""
        operator = self.text
        self.advance()
        node = ast.TestComparison(operator, self.binary(_ADDITION))
        self.expect(")")
        return node

    def bracket(self) -> ast.Node:
        self.advance()
        if self.is_sign("]"):
            self.advance()
            return ast.ListLiteral([])
        items = [self.test(1)]
        if self.is_sign(".."):
            return self.range(items[0], low_closed=True)
        while self.is_sign(","):
            self.advance()
            items.append(self.test(1))
        self.expect("]")
        return ast.ListLiteral(items)

    def open_bracket(self) -> ast.Node:
        self.advance()
        low = self.binary(_ADDITION)
        if not self.is_sign(".."):
            self.fail(f"expected '..' but found {self.found()}")
        return self.range(low, low_closed=False)

    def range(self, low: ast.Node, *, low_closed: bool) -> ast.Node:
        self.advance()
        high = self.binary(_ADDITION)
        closed = self.is_sign("]")
        if not closed and not self.is_sign(")") and not self.is_sign("["):
            self.fail(f"expected the end of a range but found {self.found()}")
        self.advance()
        return ast.RangeLiteral(low, high, low_closed, closed)

    def context(self) -> ast.Node:
        entries: list[tuple[str, ast.Node]] = []
        while True:
            match = lexer.key(self.source, self.end)
            if match is None:
                self.advance()
                if entries or not self.is_sign("}"):
                    self.fail(f"expected a key and ':' but found {self.found()}")
                self.advance()
                return ast.ContextLiteral(entries)
            name = lexer.unquote(match[1]) if match[1] else match[2] or match[3].rstrip()
            self.move(match.end())
            entries.append((name, self.expression()))
            if " " in name:
                self.learn(name)
            if self.text != "," or self.kind != SIGN:
                self.expect("}")
                return ast.ContextLiteral(entries)

    # Keywords. Each gives None where the word is meant as a name.

    def if_(self) -> ast.Node | None:
        if not self.operand_follows():
            return None
        branches: list[tuple[ast.Node, ast.Node]] = []
        while True:
            self.advance()
            condition = self.expression()
            self.expect("then")
            branches.append((condition, self.expression()))
            self.expect("else")
            if not (self.is_word("if") and self.operand_follows()):
                return ast.If(branches, self.expression())

    def operand_follows(self) -> bool:
        following = lexer.token(self.source, self.end)
        kind = following.lastindex
        text = following[kind]
        if kind == NAME:
            return text not in lexer.OPERATOR_WORDS
        return kind in _OPERAND_KINDS or (kind == SIGN and text in {"(", "[", "{", "-", "@", "?", "]"})

    def for_(self) -> ast.Node | None:
        iterators = self.iterators()
        if iterators is None:
            return None
        self.expect("return")
        return ast.For(iterators, self.expression())

    def quantified(self) -> ast.Node | None:
        quantifier = self.text
        iterators = self.iterators()
        if iterators is None:
            return None
        self.expect("satisfies")
        return ast.Quantified(quantifier, iterators, self.expression())

    def iterators(self) -> list[tuple[str, ast.Node]] | None:
        """`x in a, y in 1..5` after the current word, or None if the word is no keyword here."""
        iterators: list[tuple[str, ast.Node]] = []
        match = lexer.iterator_name(self.source, self.end)
        if match is None:
            return None
        while match is not None:
            name = match[1] or lexer.words(match[2])
            self.move(match.end())
            source = self.expression()
            if self.is_sign(".."):
                self.advance()
                source = ast.RangeLiteral(source, self.expression(), bare=True)
            iterators.append((name, source))
            self.learn(name)
            if not self.is_sign(","):
                return iterators
            match = lexer.iterator_name(self.source, self.end)
        self.advance()
        return self.fail(f"expected a name and 'in' but found {self.found()}")

    def function(self) -> ast.Node:
        self.advance()
        if not self.is_sign("("):
            self.fail(f"expected '(' but found {self.found()}")
        parameters: list[str] = []
        end = self.end
        self.advance()
        while not self.is_sign(")"):
            match = lexer.parameter_name(self.source, end)
            if match is None:
                self.fail(f"expected the name of a parameter but found {self.found()}")
            name = match[1] or match[2].rstrip()
            parameters.append(name)
            self.learn(name)
            self.move(match.end())
            if self.is_sign(":"):
                self.advance()
                self.type()
            if self.is_sign(","):
                end = self.end
                self.advance()
                if self.is_sign(")"):
                    self.fail("expected the name of a parameter")
            elif not self.is_sign(")"):
                self.fail(f"expected ',' or ')' but found {self.found()}")
        self.advance()
        if self.is_word("external") and self.operand_follows():
            self.advance()
            return ast.ExternalFunction(parameters, self.expression())
        return ast.FunctionLiteral(parameters, self.expression())

    def type(self) -> ast.Type:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels")
        node = self.type_name()
        if self.is_sign("<"):
            self.advance()
            if node.name == "context":
                self.context_type(node)
            else:
                node.arguments = self.type_list()
        if self.is_sign("-") and node.name == "function" and self.source.startswith(">", self.end):
            self.advance()
            self.advance()
            node.result = self.type()
        self.depth -= 1
        return node

    def type_name(self) -> ast.Type:
        wordy = lexer.wordy_type(self.source, self.start())
        if wordy is not None:
            self.move(wordy.end())
            return ast.Type(lexer.words(wordy[1]))
        if self.kind == STRING:  # as the documentation writes it: instance of "date and time"
            name = lexer.unquote(self.text)
        elif self.kind == QUOTED or (
            self.kind == NAME and (self.text == "function" or self.text not in lexer.RESERVED)
        ):
            name = self.text
        else:
            self.fail(f"expected the name of a type but found {self.found()}")
        self.advance()
        while self.is_sign("."):
            self.advance()
            name += f".{self.text}"
            self.advance()
        return ast.Type(name)

    def type_list(self) -> list[ast.Type]:
        types: list[ast.Type] = []
        while not self.is_sign(">"):
            types.append(self.type())
            if self.is_sign(","):
                self.advance()
            elif not self.is_sign(">"):
                self.fail(f"expected '>' but found {self.found()}")
        self.advance()
        return types

    def context_type(self, node: ast.Type) -> None:
        node.keys, node.arguments = [], []
        while not self.is_sign(">"):
            match = lexer.argument_name(self.source, self.start())
            if match is None:
                self.fail(f"expected a key and ':' but found {self.found()}")
            node.keys.append(match[1] or match[2].rstrip())
            self.move(match.end())
            node.arguments.append(self.type())
            if self.is_sign(","):
                self.advance()
            elif not self.is_sign(">"):
                self.fail(f"expected '>' but found {self.found()}")
        self.advance()

    # Unary tests

    def whole_tests(self) -> ast.Node:
        if self.is_sign("-"):
            following = lexer.token(self.source, self.end)
            if following.lastindex == END:
                return ast.AnyTest()
        if self.is_word("not"):
            negated = self.negated_tests()
            if negated is not None:
                return negated
        tests = self.tests()
        if self.kind != END:
            self.fail(f"unexpected {self.found()}")
        return ast.UnaryTestList(tests)

    def negated_tests(self) -> ast.Node | None:
        start = self.start()
        self.advance()
        if self.is_sign("("):
            self.advance()
            tests = self.tests()
            if self.is_sign(")"):
                self.advance()
                if self.kind == END:
                    return ast.UnaryTestList(tests, negated=True)
        self.move(start)  # `not(..)` was the beginning of an expression
        return None

    def tests(self) -> list[ast.Node]:
        tests = [self.test(1)]
        while self.is_sign(","):
            self.advance()
            tests.append(self.test(1))
        return tests


_CONSTRUCTS: dict[str, Callable[[_Parser], ast.Node]] = {
    "(": _Parser.parenthesis,
    "[": _Parser.bracket,
    "]": _Parser.open_bracket,
    "{": _Parser.context,
    "@": _Parser.at_literal,
    "?": _Parser.input,
}

_KEYWORDS: dict[str, Callable[[_Parser], ast.Node | None]] = {
    "if": _Parser.if_,
    "for": _Parser.for_,
    "some": _Parser.quantified,
    "every": _Parser.quantified,
    "function": _Parser.function,
    "null": _Parser.constant,
    "true": _Parser.constant,
    "false": _Parser.constant,
    "and": _Parser.reserved_unless_call,
    "or": _Parser.reserved_unless_call,
    "in": _Parser.reserved,
    "return": _Parser.reserved,
    "then": _Parser.reserved,
    "else": _Parser.reserved,
    "satisfies": _Parser.reserved,
}
