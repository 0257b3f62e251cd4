"""Bodies against schemas: the place and the rule are told; no body and no schema can make a check run away."""

import json
import socket
import time
import urllib.request
import warnings
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway import jsontext
from gateway.webhooks import BodySchema, WebhookRefused
from gateway.webhooks.schema import MAX_STEPS, PATTERN_SECONDS

ORDER = {
    "type": "object",
    "required": ["id", "items"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]+$"},
        "items": {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"$ref": "#/$defs/item"}},
        "kind": {"enum": ["a", "b"]},
        "x/y": {"const": 1},
    },
    "patternProperties": {"^x-": {"type": "integer"}},
    "$defs": {
        "item": {"type": "object", "properties": {"price": {"type": "number", "minimum": 0, "multipleOf": 0.01}}}
    },
}
GOOD: dict[str, Any] = {"id": "ABC-1", "items": [{"price": 1.1}, {"price": 0}], "x-more": 7}


def reason(schema: Any, body: Any) -> str | None:
    try:
        BodySchema(schema).check(body)
    except WebhookRefused as e:
        refusal = e
    else:
        return None
    assert refusal.status == 422
    assert refusal.body == {"reason": str(refusal)}
    assert len(str(refusal)) < 500
    return str(refusal).removeprefix("The body does not fit its schema at ")


def test_a_body_that_fits_passes() -> None:
    assert reason(ORDER, GOOD) is None
    assert reason(json.dumps(ORDER), GOOD) is None
    assert reason(True, GOOD) is None


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"id": 7}, '/id: type "string"'),
        ({"id": "abc"}, '/id: pattern "^[A-Z]{3}-[0-9]+$"'),
        ({"items": []}, "/items: minItems 1"),
        ({"items": [{}, {}]}, "/items: uniqueItems true"),
        ({"items": [{}, {"price": -1}]}, "/items/1/price: minimum 0"),
        ({"items": [{"price": 1.001}]}, "/items/0/price: multipleOf 0.01"),
        ({"items": [{"price": "1"}]}, '/items/0/price: type "number"'),
        ({"kind": "c"}, '/kind: enum ["a","b"]'),
        ({"x/y": 2}, "/x~1y: const 1"),
        ({"x-more": 1.5}, '/x-more: type "integer"'),
        ({"more": 1}, "/more: additionalProperties false"),
    ],
)
def test_the_place_and_the_rule_are_told(change: dict[str, Any], wanted: str) -> None:
    assert reason(ORDER, GOOD | change) == wanted


def test_what_is_missing_is_named() -> None:
    assert reason(ORDER, {"id": "ABC-1"}) == 'its root: required "items"'
    assert reason(ORDER, []) == 'its root: type "object"'
    assert reason(False, {}) == "its root: something in it is not allowed"


def test_reasons_are_short_and_hold_no_values() -> None:
    told = reason({"additionalProperties": {"enum": ["y" * 5000]}}, {"n" * 5000: "s3cret"})
    assert told is not None
    assert "s3cret" not in told
    assert reason({"properties": {"a": {"not": {}}}}, {"a": "s3cret"}) == "/a: not {}"


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ("{nope", "not JSON"),
        ("7", "must be a JSON object or a boolean"),
        ([], "must be a JSON object or a boolean"),
        (None, "must be a JSON object or a boolean"),
        ({"type": "objekt"}, "breaks its own rules at /type"),
        ({"properties": {"a": {"minimum": "1"}}}, "breaks its own rules at /properties/a/minimum"),
        ({"pattern": "("}, "the pattern '\\(' of the schema is none"),
        ({"patternProperties": {"(": {}}}, "the pattern '\\(' of the schema is none"),
        ({"$ref": "https://example.com/schema.json"}, "nothing is fetched"),
        ({"$ref": "file:///etc/passwd"}, "nothing is fetched"),
        ({"properties": {"a": {"$ref": "other.json"}}}, "nothing is fetched"),
        ({"$ref": "#/$defs/gone"}, "gone"),
        ({"$ref": "#gone"}, "gone"),
        ({"$dynamicRef": "#gone"}, "gone"),
        ({"$ref": "#"}, "refers to itself without end"),
        (
            {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/$defs/a"}]},
            "without end",
        ),
        ({"$schema": "https://example.com/dialect"}, "is not known"),
        ({"unevaluatedProperties": False, "patternProperties": {"a": {}}}, "additionalProperties"),
    ],
)
def test_what_cannot_work_is_told_when_the_schema_is_made(schema: Any, wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted) as caught:
        BodySchema(schema)
    assert len(str(caught.value)) < 400


def test_a_reference_within_reach_is_followed() -> None:
    nested = {
        "$id": "https://me.example/order",
        "$defs": {"a": {"$id": "item", "type": "string"}},
        "items": {"$ref": "item"},
    }
    assert reason(nested, ["a", 1]) == '/1: type "string"'
    assert reason({"$ref": "https://json-schema.org/draft/2020-12/schema"}, {"type": "string"}) is None
    tree = {"properties": {"sub": {"items": {"$ref": "#"}}}, "required": ["name"]}
    assert reason(tree, {"name": 1, "sub": [{"name": 2, "sub": [{}]}]}) == '/sub/0/sub/0: required "name"'


@pytest.mark.parametrize("draft", ["draft-04", "draft-06", "draft-07"])
def test_older_drafts_keep_their_rules(draft: str) -> None:
    schema = {
        "$schema": f"http://json-schema.org/{draft}/schema#",
        "items": [{"type": "integer"}],
        "additionalItems": False,
    }
    assert reason(schema, [1]) is None
    assert reason(schema, [1, 2]) == "its root: additionalItems false"
    assert reason(schema, ["1"]) == '/0: type "integer"'


def test_formats_are_notes() -> None:
    assert reason({"format": "email"}, "no mail") is None


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "text", "fits"),
    [
        ({"type": "integer"}, "1.00", True),
        ({"type": "integer"}, "1e3", True),
        ({"type": "integer"}, "1.50", False),
        ({"type": "integer"}, "true", False),
        ({"type": "number"}, "1.50", True),
        ({"type": "integer"}, "1e400", True),
        ({"maximum": 1.5}, "1.50", True),
        ({"maximum": 1.5}, "1.500001", False),
        ({"multipleOf": 0.1}, "0.3", True),
        ({"multipleOf": 0.1}, "0.30", True),
        ({"multipleOf": 0.1}, "0.35", False),
        ({"multipleOf": 3}, "123456789012345678901234567890", True),
        ({"multipleOf": 1}, "1e100000000", False),
        ({"multipleOf": 2}, '"text"', True),
        ({"const": 1.5}, "1.50", True),
        ({"enum": [1.5]}, "1.50", True),
        ({"uniqueItems": True}, "[1, 1.00]", False),
        ({"uniqueItems": True}, "[0, -0.0]", False),
        ({"uniqueItems": True}, "[100, 1e2]", False),
        ({"uniqueItems": True}, '[1, true, "1", null, "null", [1], {"1": 1}, 10, 0.1, -1, [], {}, ""]', True),
        ({"uniqueItems": True}, '[{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]', False),
        ({"uniqueItems": False}, "[1, 1]", True),
    ],
)
def test_numbers_are_compared_by_their_digits(schema: Any, text: str, fits: bool) -> None:
    assert (reason(schema, jsontext.loads(text)) is None) is fits


# ---- limits ----------------------------------------------------------------------------------------------------------

TOO_LARGE = "The body is too large to be checked with its schema"
NESTED: Any = "x"
for _ in range(900):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("schema", "body", "wanted"),
    [
        ({"items": {"type": "integer"}}, [1] * MAX_STEPS, TOO_LARGE),
        ({"items": {"enum": list(range(1000))}}, [999] * 10_000, TOO_LARGE),
        ({"uniqueItems": True}, [{"a": n} for n in range(MAX_STEPS)], TOO_LARGE),
        ({"uniqueItems": True}, [n * (2**61 - 1) for n in range(50_000)], None),
        ({"pattern": "(a|a)+$"}, "a" * 60 + "b", TOO_LARGE),
        ({"patternProperties": {"(a|a)+$": {}}}, {"a" * 60 + "b": 1}, TOO_LARGE),
        ({"additionalProperties": False, "patternProperties": {"(a|a)+$": {}}}, {"a" * 60 + "b": 1}, TOO_LARGE),
        ({"items": {"not": {"pattern": "(a|a)+$"}}}, ["a" * 14 + "b"] * 20_000, TOO_LARGE),
        (
            {"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}], "not": {"const": "x"}},
            NESTED,
            "nested too deeply",
        ),
        ({"items": {"$ref": "#"}}, NESTED, "nested too deeply"),
    ],
)
def test_no_body_makes_a_check_run_away(schema: Any, body: Any, wanted: str | None) -> None:
    checked = BodySchema(schema)
    begun = time.perf_counter()
    if wanted is None:
        checked.check(body)
    else:
        with pytest.raises(WebhookRefused, match=wanted):
            checked.check(body)
    assert time.perf_counter() - begun < 3


def test_a_check_has_its_limits_to_itself() -> None:
    schema = BodySchema({"items": {"type": "integer", "minimum": 0}, "pattern": "a+$"})
    for _ in range(5):
        schema.check([1] * (MAX_STEPS // 4))
        schema.check("a" * 1000)
    assert PATTERN_SECONDS < 1


def test_nothing_is_ever_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*args: Any, **options: Any) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr(urllib.request, "urlopen", fetched)
    monkeypatch.setattr(socket, "create_connection", fetched)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="nothing is fetched"):
            BodySchema({"$ref": "http://127.0.0.1:1/schema"})
        assert (
            reason({"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "http://127.0.0.1:1/x"}, 1)
            is None
        )


# ---- properties ------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, "a", "b", "ab", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.booleans()
    | st.sampled_from(["integer", "string", "object", "array", "null", "boolean", "number"]).map(lambda t: {"type": t})
    | st.sampled_from(
        [
            {"pattern": "^a"},
            {"multipleOf": 2},
            {"multipleOf": 0.5},
            {"uniqueItems": True},
            {"minimum": 1},
            {"enum": [1, "a", [1]]},
        ]
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {},
            optional={
                "properties": st.fixed_dictionaries({}, optional={"a": inner}),
                "patternProperties": st.fixed_dictionaries({}, optional={"b": inner, "^$": inner}),
                "additionalProperties": inner,
                "items": inner,
                "not": inner,
                "contains": inner,
                "required": st.just(["a"]),
                "anyOf": st.lists(inner, min_size=1, max_size=2),
                "oneOf": st.lists(inner, min_size=1, max_size=2),
            },
        )
    ),
    max_leaves=8,
)


@given(SCHEMAS, VALUES)
def test_a_body_fits_where_the_reference_says_so(schema: Any, body: Any) -> None:
    assert (reason(schema, body) is None) is Draft202012Validator(schema).is_valid(body)


@given(
    VALUES
    | st.decimals(allow_nan=False, allow_infinity=False).map(lambda d: jsontext.Number(str(d)))
    | st.just(Decimal(7))
)
def test_whatever_comes_is_accepted_or_refused(body: Any) -> None:
    assert reason(ORDER, body) is not None
    reason({"type": "integer", "multipleOf": 7, "uniqueItems": True}, [body, body])
