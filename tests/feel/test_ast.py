"""Round trip of printing and parsing, and evaluation of any tree."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import feel
from gateway.feel import ast
from gateway.feel.compiler import Compiler
from gateway.feel.parser import parse_expression

names = st.sampled_from(["a", "b", "item", "x y", "if", "naïve", "a-b", "count"])
numbers = st.integers(0, 10**20) | st.decimals(0, 10**6, places=2).map(lambda n: Decimal(str(n)))
texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=6)
leaves = (
    st.builds(ast.Literal, st.none() | st.booleans() | numbers | texts)
    | st.builds(ast.Name, names)
    | st.builds(ast.AtLiteral, st.sampled_from(["2020-01-01", "P1D", "P1Y", "10:00:00Z", "bad"]))
)


def compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    signs = st.sampled_from([["+", "-"], ["*", "/"], ["**"]])
    arithmetic = signs.flatmap(
        lambda group: st.builds(
            ast.Arithmetic, inner, st.lists(st.tuples(st.sampled_from(group), inner), min_size=1, max_size=3)
        )
    )
    iterators = st.lists(st.tuples(names, inner), min_size=1, max_size=2)
    return st.one_of(
        arithmetic,
        st.builds(ast.Logic, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
        st.builds(ast.Comparison, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), inner, inner),
        st.builds(ast.Between, inner, inner, inner),
        st.builds(ast.ListLiteral, st.lists(inner, max_size=3)),
        st.builds(ast.ContextLiteral, st.lists(st.tuples(names, inner), max_size=3)),
        st.builds(ast.If, st.lists(st.tuples(inner, inner), min_size=1, max_size=1), inner),
        st.builds(ast.For, iterators, inner),
        st.builds(ast.Quantified, st.sampled_from(["some", "every"]), iterators, inner),
        st.builds(ast.Path, inner, names),
        st.builds(ast.Filter, inner, inner),
        st.builds(ast.FunctionLiteral, st.lists(names, max_size=2, unique=True), inner),
        st.builds(
            ast.Call, st.none(), st.sampled_from(["count", "string", "date and time", "f"]), st.lists(inner, max_size=2)
        ),
        st.builds(ast.RangeLiteral, inner, inner, st.booleans(), st.booleans()),
        st.builds(ast.In, inner, st.lists(inner, min_size=1, max_size=2), st.just(value=True)),
        st.builds(ast.InstanceOf, inner, st.builds(ast.Type, st.sampled_from(["number", "date and time"]))),
    )


trees = st.recursive(leaves, compound, max_leaves=12)


@settings(max_examples=400, deadline=None)
@given(trees)
def test_printing_and_parsing_gives_a_text_that_stays_the_same(tree: ast.Node):
    printed = ast.unparse(parse_expression(ast.unparse(tree)))
    again = parse_expression(printed)
    assert ast.unparse(again) == printed
    assert again == parse_expression(ast.unparse(tree))


@settings(max_examples=400, deadline=None)
@given(trees, st.fixed_dictionaries({"a": st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=3)}))
def test_no_tree_raises_anything_but_feels_errors(tree: ast.Node, context: dict[str, Any]):
    expression = feel.parse(ast.unparse(tree))
    try:
        plain = feel.to_json(expression.evaluate(context))
    except feel.FeelEvaluationError:
        assert expression.explain(context).error is not None
    else:
        assert feel.to_json(expression.explain(context).value) == plain


def test_children_are_given_in_the_order_of_the_text():
    tree = parse_expression("if a then b else [c, {k: d}]")
    assert [child for child in ast.children(tree) if isinstance(child, ast.Name)] == [ast.Name("a"), ast.Name("b")]


def test_the_compiler_knows_each_kind_of_node():
    kinds = {kind for kind in vars(ast).values() if isinstance(kind, type) and issubclass(kind, ast.Node)}
    known = set(__import__("gateway.feel.compiler", fromlist=["_COMPILERS"])._COMPILERS)
    assert kinds - known == {ast.Node, ast.Type}
    assert Compiler().compile(ast.Literal(1))([]) == 1
