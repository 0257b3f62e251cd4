"""What parses, what does not, and that parsing is safe."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import feel
from gateway.feel.parser import parse_expression, parse_tests


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("1+2*3", "1 + 2 * 3"),
        ("(1+2)*3", "(1 + 2) * 3"),
        ("a-(b-c)", "a - (b - c)"),
        ("(a-b)-c", "(a - b) - c"),
        ("2**3**2", "2 ** 3 ** 2"),
        ("-(a+b)", "-(a + b)"),
        ("a and b or c and(d or e)", "a and b or c and (d or e)"),
        ("if a then b else if c then d else e", "if a then b else if c then d else e"),
        ("(if a then b else c)+1", "(if a then b else c) + 1"),
        ("for x in 1..3,y in[2] return x", "for x in 1..3, y in [2] return x"),
        ("some x in a satisfies x>1", "some x in a satisfies x > 1"),
        ("a.b[1](2).c", "(a.b[1])(2).c"),
        ("f(a:1,b c:2)", "f(a: 1, `b c`: 2)"),
        ("date  and time(x)", "date and time(x)"),
        ("x in(>1,[1..2))", "x in (> 1, [1..2))"),
        ("]1..2[", "(1..2)"),
        ("x between 1 and 2 and y", "x between 1 and 2 and y"),
        ('{a b:1,"c":2,}'.replace(",}", "}"), '{"a b": 1, c: 2}'),
        ("function(a,b:number)a", "function(a, b) a"),
        ("x instance of list<number>", "x instance of list<number>"),
        ('@"2020-01-01"', '@"2020-01-01"'),
        ('"a\\nb\\"c\\d\\\\e"', '"a\nb\\"c\\\\d\\\\e"'),
        ("`a b`.`c-d`", "`a b`.`c-d`"),
        ("a /* x */ + // y\n b", "a + b"),
        ("(a = b) = c", "(a = b) = c"),
        ("if", "`if`"),
        ("x.time offset", "x.`time offset`"),
        ("1e3", "1000"),
        (".5", "0.5"),
        ("[< 5, 1]", "[< 5, 1]"),
        ("orY and in1 or nullable", "orY and in1 or nullable"),
    ],
)
def test_a_tree_is_printed_and_read_again(text: str, printed: str):
    tree = parse_expression(text)
    assert feel.unparse(tree) == printed
    assert parse_expression(printed) == tree


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            " ",
            "1 2",
            "1 +",
            "a b",
            "a.",
            "a.and",
            "(1",
            "[1",
            "[1,]",
            "{a:1,}",
            "{a}",
            "{:1}",
            "f(1,)",
            "f(a:1, 2)",
        ],
        *[
            "null.a b",
            "and",
            "then",
            "{null: 1}.null",
            "function",
            "function(a,) a",
            "if a then b",
            "for x in y",
            "1 < 2 < 3",
        ],
        *[
            "x between 1",
            "x instance of",
            "'a'",
            '"a',
            "@x",
            "1.",
            "#",
            "a = = b",
            "{foo:bar:1}",
            "x in ()",
            "some x satisfies y",
        ],
    ],
)
def test_what_is_no_feel_is_a_parse_error(text: str):
    with pytest.raises(feel.FeelParseError):
        feel.parse(text)


def test_a_parse_error_shows_the_place():
    with pytest.raises(feel.FeelParseError) as caught:
        feel.parse("a +\n  b c")
    error = caught.value
    assert (error.line, error.column, error.position) == (2, 5, 8)
    assert error.caret == "  b c\n    ^"
    assert "failed to parse expression 'a +\n  b c': unexpected 'c' at line 2, column 5" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + ")" * 10_000,
        "[" * 10_000,
        "{a:" * 10_000,
        "-" * 100_000 + "1",
        "a" + ".b" * 100_000,
        "a" + "[1]" * 50_000,
        "if " * 10_000,
        "x in (" * 5_000,
        "not(" * 5_000,
        "function(a) " * 5_000,
        "a instance of " + "list<" * 10_000,
        "a " * 200_000,
        "f(" + "a " * 200_000,
        '"' + "a" * 500_000,
        "/*" + "*" * 500_000,
        "{" + "a" * 500_000,
    ],
)
def test_a_long_or_deep_text_is_an_error_at_once(text: str):
    started = time.process_time()
    for parse in (parse_expression, parse_tests):
        with pytest.raises(feel.FeelParseError):
            parse(text)
    assert time.process_time() - started < 2


def test_a_long_chain_is_no_deep_tree():
    assert feel.evaluate("+".join(["1"] * 20_000)) == 20_000
    assert feel.evaluate(" and ".join(["true"] * 20_000)) is True
    assert feel.evaluate("if x = 1 then 1 else " * 5_000 + "2", {"x": 3}) == 2
    assert feel.parse("if x = 1 then 1 else " * 5_000 + "2").unparse().endswith("else 2")


def test_names_with_spaces_are_known_from_the_text_or_the_caller():
    assert feel.parse("{my key: 1, b: my key + 1}").evaluate({})["b"] == 2
    assert feel.parse("some my item in [1] satisfies my item = 1").evaluate({}) is True
    with pytest.raises(feel.FeelParseError):
        feel.parse("Monthly Salary * 2")
    assert feel.parse("Monthly Salary * 2", names=["Monthly Salary"]).evaluate({"Monthly Salary": 4}) == 8


fragments = st.sampled_from(
    [
        *"()[]{}+-*/<>=.,:?@`\"'1a ",
        *[
            "..",
            "**",
            "!=",
            "if ",
            "then ",
            "else ",
            "for ",
            "in ",
            "return ",
            "some ",
            "every ",
            "satisfies ",
            "and ",
            "or ",
        ],
        *[
            "not(",
            "null ",
            "true ",
            "function(",
            "between ",
            "instance of ",
            "x",
            '"s"',
            "1.5",
            "date and time(",
            "list<",
        ],
        *["//", "/*", "*/", "\\", "\n", "partial", "item", "count("],
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(fragments, max_size=20).map("".join) | st.text(max_size=20))
def test_no_text_raises_anything_but_the_parse_error(text: str):
    for parse in (feel.parse, feel.parse_unary_tests):
        parsed = None
        with contextlib.suppress(feel.FeelParseError):
            parsed = parse(text)
        assert parsed is None or parse(parsed.unparse()).unparse() == parsed.unparse()
