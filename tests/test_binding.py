"""Binding: lenient coercions as the original's mapper has them, and its words for what cannot be bound."""

import base64
import enum
import math
import re
import time
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    SecretStr,
    Tag,
    field_validator,
)

from gateway import jsontext
from gateway.binding import Arguments, Binder, BindingError, ContentNeeded
from gateway.documents import Document, DocumentMetadata
from gateway.sdk import Header, JobContext, NotBlank, Variable, outbound_connector


def bound(annotation: Any, value: Any) -> Any:
    return Binder(annotation)(value)


def field(annotation: Any, value: Any) -> Any:
    """The value bound to a field of a model."""
    model = type("Model", (BaseModel,), {"__annotations__": {"x": annotation}, "__module__": __name__})
    return Binder(model)({"x": value}).x


def refusal(annotation: Any, value: Any) -> str:
    with pytest.raises(BindingError) as caught:
        bound(annotation, value)
    return str(caught.value)


def field_refusal(annotation: Any, value: Any) -> str:
    with pytest.raises(BindingError) as caught:
        field(annotation, value)
    return str(caught.value)


def violations(*lines: str) -> str:
    prefix = "jakarta.validation.ValidationException: Found constraints violated while validating input: "
    return "\n".join([prefix, *(f" - Property: {line}" for line in lines)])


async def read(content: bytes) -> Document:
    async def chunks() -> Any:
        yield content

    document = Document({"camunda.document.type": "camunda", "documentId": "d"}, DocumentMetadata(), chunks)
    await document.read()
    return document


class Color(enum.Enum):
    RED = "red"
    DARK_BLUE = "dark-blue"


class WithDefault(enum.Enum):
    A = "a"
    OTHER = "other"

    @classmethod
    def _missing_(cls, _: object) -> "WithDefault":
        return cls.OTHER


# ---- scalars ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (str, "x", "x"),
        (str, 5, "5"),
        (str, 1.5, "1.5"),
        (str, jsontext.loads("1.50"), "1.50"),
        (str, jsontext.loads("1.0E-5"), "1.0E-5"),
        (str, jsontext.loads("123456789012345678901234567890"), "123456789012345678901234567890"),
        (str, True, "true"),
        (str, False, "false"),
        (str, ["x"], "x"),
        (str, [5], "5"),
        (str, "", ""),
        (str | None, None, None),
        (str | None, 5, "5"),
        (int, 20, 20),
        (int, "20", 20),
        (int, " 20 ", 20),
        (int, "-7", -7),
        (int, 20.7, 20),
        (int, -20.7, -20),
        (int, Decimal("20.70"), 20),
        (int, [20], 20),
        (int, 10**30, 10**30),
        (int | None, "", None),
        (int | None, "  ", None),
        (int | None, None, None),
        (float, "1.5", 1.5),
        (float, 3, 3.0),
        (float, jsontext.loads("1.50"), 1.5),
        (float, "1e3", 1000.0),
        (float | None, "", None),
        (Decimal, jsontext.loads("0.1234567890123456789"), Decimal("0.1234567890123456789")),
        (Decimal, "0.1234567890123456789", Decimal("0.1234567890123456789")),
        (Decimal, 1.5, Decimal("1.5")),
        (bool, True, True),
        (bool, "true", True),
        (bool, "TRUE", True),
        (bool, "False", False),
        (bool, 1, True),
        (bool, 0, False),
        (bool, [True], True),
        (bool | None, "", None),
        (date, "2024-02-29", date(2024, 2, 29)),
        (date, ["2024-02-29"], date(2024, 2, 29)),
        (date | None, "", None),
        (timedelta, "PT1H30M", timedelta(minutes=90)),
        (bytes, base64.b64encode(b"\x00\xff").decode(), b"\x00\xff"),
        (Color, "red", Color.RED),
        (Color, "RED", Color.RED),
        (Color, " Red ", Color.RED),
        (Color, "dark_BLUE", Color.DARK_BLUE),
        (Color, "Dark-Blue", Color.DARK_BLUE),
        (Color, ["red"], Color.RED),
        (Color | None, "", None),
        (WithDefault, "nothing", WithDefault.OTHER),
        (Literal["GET", "POST"], "get", "GET"),
        (Literal["GET", "POST"], [" Post "], "POST"),
        (Literal["GET"] | None, "", None),
        (Literal["GET"] | None, None, None),
        (Literal[1, 2], "2", 2),
        (Any, {"a": [1]}, {"a": [1]}),
        (Any, None, None),
        (int | str, "5", "5"),
    ],
)
def test_scalars_are_coerced_as_the_mapper_does(annotation: Any, given: Any, expected: Any) -> None:
    found = field(annotation, given)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "given", "kind"),
    [
        (str, {"a": 1}, "String"),
        (str, ["a", "b"], "String"),
        (str, [], "String"),
        (int, "20.7", "Integer"),
        (int, "1_000", "Integer"),
        (int, "twenty", "Integer"),
        (int, True, "Integer"),
        (int, {}, "Integer"),
        (int, jsontext.loads("1e400000000"), "Integer"),
        (int, "9" * 5000, "Integer"),
        (float, "1_0", "Double"),
        (float, "x", "Double"),
        (float, True, "Double"),
        (bool, "yes", "boolean"),
        (bool, 1.5, "boolean"),
        (bool, {}, "boolean"),
        (bytes, "no base64!", "byte[]"),
        (bytes, 5, "byte[]"),
        (dict[str, Any], "", "LinkedHashMap"),
        (dict[str, Any], "text", "LinkedHashMap"),
        (dict[str, Any], [1, 2], "LinkedHashMap"),
        (Color, "green", "Color"),
        (Color, "", "Color"),
        (Document, "text", "Document"),
        (Document, {"a": 1}, "Document"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_by_its_path_and_type(annotation: Any, given: Any, kind: str) -> None:
    assert field_refusal(annotation, given) == f"Json object contains an invalid field: x. It Must be `{kind}`"


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        (Literal["GET", "POST"], "OPTIONS"),
        (Literal["GET"], ""),
        (Literal["GET"], {}),
        (date, "tomorrow"),
        (timedelta, "soon"),
        (SecretStr, 5),
        (tuple[int, str], ["x", "y"]),
    ],
)
def test_without_a_known_type_only_the_path_is_named(annotation: Any, given: Any) -> None:
    assert field_refusal(annotation, given).startswith("Json object contains an invalid field: x")


@pytest.mark.parametrize(
    "value", [math.inf, -math.inf, math.nan, Decimal("Infinity"), Decimal("NaN"), Decimal("1e5000")]
)
def test_what_is_no_finite_number_is_no_integer(value: Any) -> None:
    assert field_refusal(int, value) == "Json object contains an invalid field: x. It Must be `Integer`"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda i: st.lists(i) | st.dictionaries(st.text(), i),
    )
)
def test_any_value_is_bound_or_refused(value: Any) -> None:
    for annotation in (
        str,
        int,
        float,
        bool,
        Decimal,
        bytes,
        Color,
        Literal["a", "b"],
        list[int],
        dict[str, str],
        Tree,
        date,
    ):
        try:
            Binder(annotation)(value)
        except BindingError:
            continue  # whatever else is raised fails the test


# ---- containers and models -------------------------------------------------------------------------------------------


class Inner(BaseModel):
    n: int
    t: str = "default"


class Tree(BaseModel):
    name: str = ""
    children: "list[Tree]" = []


class Outer(BaseModel):
    inner: Inner
    more: list[Inner] = []
    by_name: dict[str, Inner] = {}


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (list[int], ["1", 2.0, 3], [1, 2, 3]),
        (list[int], "5", [5]),
        (list[str], {"a": 1}, None),
        (list[Any], {"a": 1}, [{"a": 1}]),
        (list[str], [1, None], None),
        (list[list[int]], [["1"], [2]], [[1], [2]]),
        (list[int] | None, None, None),
        (set[int], ["1", 1], {1}),
        (tuple[int, ...], ["1", "2"], (1, 2)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (dict[str, str], {"a": 1, "b": True}, {"a": "1", "b": "true"}),
        (dict[str, str | None], {"a": None}, {"a": None}),
        (dict[str, list[int]], {"a": "1"}, {"a": [1]}),
        (dict[str, Any], [{"a": 1}], {"a": 1}),
        (dict[str, Any] | None, None, None),
    ],
)
def test_containers_coerce_their_members(annotation: Any, given: Any, expected: Any) -> None:
    if expected is None and given is not None:
        field_refusal(annotation, given)
    else:
        assert field(annotation, given) == expected


def test_nested_models_are_coerced_and_unknown_keys_ignored() -> None:
    found = bound(
        Outer, {"inner": {"n": "1", "z": 1}, "more": {"n": 2.9}, "by_name": {"a": [{"n": "3"}]}, "helper": {}}
    )
    assert found == Outer(inner=Inner(n=1), more=[Inner(n=2)], by_name={"a": Inner(n=3)})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inner": 5}, "Json object contains an invalid field: inner. It Must be `Inner`"),
        ({"inner": {"n": "x"}}, "Json object contains an invalid field: inner, n. It Must be `Integer`"),
        (
            {"inner": {"n": 1}, "more": [{"n": 1}, {"n": []}]},
            "Json object contains an invalid field: more[1], n. It Must be `Integer`",
        ),
        (
            {"inner": {"n": 1}, "by_name": {"k": {"n": {}}}},
            "Json object contains an invalid field: by_name, k, n. It Must be `Integer`",
        ),
        ({}, violations("inner: Validation failed. Original message: must not be null")),
        ({"inner": None}, violations("inner: Validation failed. Original message: must not be null")),
        ({"inner": {}}, violations("inner.n: Validation failed. Original message: must not be null")),
        (
            {"inner": {"n": 1}, "more": [{"n": 1}, {}]},
            violations("more[1].n: Validation failed. Original message: must not be null"),
        ),
    ],
)
def test_errors_name_the_path(given: Any, message: str) -> None:
    assert refusal(Outer, given) == message


def test_what_is_no_object_at_all_is_said_in_the_originals_words() -> None:
    for value in (5, "x", [1, 2]):
        assert refusal(Outer, value) == "This is not a JSON object"


def test_null_means_the_default_where_there_is_one_that_is_not_null() -> None:
    assert bound(Inner, {"n": 1, "t": None}) == Inner(n=1)


def test_models_that_refer_to_themselves_are_bound_to_any_sensible_depth() -> None:
    value: dict[str, Any] = {"name": 1}
    for n in range(50):
        value = {"name": n, "children": value}
    found = bound(Tree, value)
    assert found.name == "49"
    assert found.children[0].children[0].name == "47"


def test_too_deep_a_value_is_an_input_error() -> None:
    value: dict[str, Any] = {}
    for _ in range(5000):
        value = {"children": [value]}
    assert refusal(Tree, value) == "The input is nested too deeply"
    while value:
        value = value["children"][0]


def test_aliases_name_the_keys_and_the_paths() -> None:
    class Model(BaseModel):
        one: int = Field(alias="firstOne")
        two: int = Field(validation_alias="secondOne")
        three: int = Field(validation_alias=AliasChoices("c", "third"), default=0)

    found = bound(Model, {"firstOne": "1", "secondOne": "2", "third": "3"})
    assert (found.one, found.two, found.three) == (1, 2, 3)
    assert refusal(Model, {"firstOne": 1}) == violations(
        "secondOne: Validation failed. Original message: must not be null"
    )
    assert "firstOne. It Must be `Integer`" in refusal(Model, {"firstOne": "x", "secondOne": 1})


def test_models_may_be_filled_by_name_where_they_say_so() -> None:
    class Model(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        one: int = Field(alias="firstOne")

    assert bound(Model, {"one": "1"}).one == bound(Model, {"firstOne": "1"}).one == 1


def test_models_that_allow_unknown_keys_keep_them() -> None:
    class Model(BaseModel):
        model_config = ConfigDict(extra="allow")
        one: int = 5

    assert bound(Model, {"one": None, "two": {"a": 1}}).model_dump() == {"one": 5, "two": {"a": 1}}


def test_root_models_and_named_types_are_seen_through() -> None:
    class Numbers(RootModel[list[int]]):
        pass

    Count = NewType("Count", int)
    assert bound(Numbers, ["1"]).root == [1]
    assert field(Count, "5") == 5
    assert field(Annotated[int, Field(ge=1)], "5") == 5


# ---- unions ----------------------------------------------------------------------------------------------------------


class Basic(BaseModel):
    kind: Literal["none", "x"] = "none"
    type: Literal["basic"]
    user: str


class Bearer(BaseModel):
    type: Literal["bearer", "token"]
    token: NotBlank


class Cat(BaseModel):
    meow: int


class Dog(BaseModel):
    bark: int


Tagged = Annotated[Basic | Bearer, Field(discriminator="type")]


@pytest.mark.parametrize("annotation", [Tagged, Tagged | None, Basic | Bearer, Basic | Bearer | None])
def test_unions_of_models_are_told_apart_by_their_literal(annotation: Any) -> None:
    assert field(annotation, {"type": "basic", "user": 5}) == Basic(type="basic", user="5")
    assert field(annotation, [{"type": "token", "token": "a", "helper": 1}]) == Bearer(type="token", token="a")
    assert field_refusal(annotation, {"type": "kerberos"}).startswith("Json object contains an invalid field: x")
    assert field_refusal(annotation, {"type": {"a": 1}}).startswith("Json object contains an invalid field: x")
    assert field_refusal(annotation, {"type": None}).startswith("Json object contains an invalid field: x")
    assert field_refusal(annotation, {}).startswith("Json object contains an invalid field: x")
    assert field_refusal(annotation, "text").startswith("Json object contains an invalid field: x")
    assert field_refusal(annotation, {"type": "bearer", "token": {}}) == (
        "Json object contains an invalid field: x, token. It Must be `String`"
    )


def test_the_violations_of_a_member_leave_its_tag_out_of_the_path() -> None:
    assert field_refusal(Tagged, {"type": "bearer"}) == violations(
        "x.token: Validation failed. Original message: must not be blank"
    )


def test_an_absent_union_is_null_where_that_is_allowed() -> None:
    assert field(Tagged | None, None) is None
    assert field_refusal(Tagged, None) == violations("x: Validation failed. Original message: must not be null")


def test_unions_without_a_common_literal_are_pydantics_to_decide() -> None:
    assert field(Cat | Dog, {"bark": 1}) == Dog(bark=1)
    by_members = Annotated[
        Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")],
        Discriminator(lambda v: "cat" if "meow" in v else "dog"),
    ]
    assert field(by_members, {"bark": 1}) == Dog(bark=1)
    assert field(list[Cat | int], [{"meow": 1}, 5]) == [Cat(meow=1), 5]
    assert Binder(Cat | Dog)({"meow": 1}) == Cat(meow=1)


# ---- constraints -----------------------------------------------------------------------------------------------------


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


class Checked(BaseModel):
    x: int = 0

    @field_validator("x")
    @classmethod
    def even(cls, value: int) -> int:
        return _even(value)


@pytest.mark.parametrize(
    ("annotation", "given", "message"),
    [
        (str, None, "must not be null"),
        (NotBlank, None, "must not be blank"),
        (NotBlank, " \t", "must not be blank"),
        (Annotated[str, Field(min_length=1)], "", "must not be empty"),
        (Annotated[str, Field(min_length=1)], None, "must not be empty"),
        (Annotated[list[int], Field(min_length=1)], [], "must not be empty"),
        (Annotated[str, Field(min_length=2, max_length=4)], "x", "size must be between 2 and 4"),
        (Annotated[str, Field(min_length=2, max_length=4)], "xxxxx", "size must be between 2 and 4"),
        (Annotated[str, Field(max_length=4)], "xxxxx", "size must be between 0 and 4"),
        (Annotated[str, Field(min_length=3)], "x", "size must be between 3 and 2147483647"),
        (Annotated[str, Field(pattern="^a.c$")], "xyz", 'must match "^a.c$"'),
        (Annotated[int, Field(ge=1)], 0, "must be greater than or equal to 1"),
        (Annotated[int, Field(le=1)], 2, "must be less than or equal to 1"),
        (Annotated[int, Field(gt=1)], 1, "must be greater than 1"),
        (Annotated[int, Field(lt=1)], 1, "must be less than 1"),
        (Annotated[float, Field(ge=0.5)], "0.1", "must be greater than or equal to 0.5"),
    ],
)
def test_constraints_are_reported_in_jakartas_words(annotation: Any, given: Any, message: str) -> None:
    assert field_refusal(annotation, given) == violations(f"x: Validation failed. Original message: {message}")


def test_own_validators_speak_for_themselves() -> None:
    assert refusal(Checked, {"x": 3}) == violations("x: Validation failed. Original message: must be even")


def test_all_violations_are_reported_together() -> None:
    class Model(BaseModel):
        a: NotBlank
        b: Annotated[int, Field(ge=1)]

    assert refusal(Model, {"b": 0}) == violations(
        "a: Validation failed. Original message: must not be blank",
        "b: Validation failed. Original message: must be greater than or equal to 1",
    )


@pytest.mark.parametrize(
    "annotation", [int, bool, date, Color, Literal["a"], bytes, Tagged, Annotated[str, Field(pattern="^a$")]]
)
def test_no_message_holds_the_value(annotation: Any) -> None:
    for value in ("s3cr3t value", {"k": "s3cr3t value"}, ["s3cr3t value"] * 2, {"type": "s3cr3t value"}):
        assert "s3cr3t" not in field_refusal(annotation, value)


# ---- documents and functions -----------------------------------------------------------------------------------------


async def test_a_document_is_base64_where_text_is_wanted_and_content_where_bytes_are() -> None:
    document = await read(b"\x00content")
    assert field(str, document) == base64.b64encode(b"\x00content").decode()
    assert field(str, [document]) == base64.b64encode(b"\x00content").decode()
    assert field(bytes, document) == b"\x00content"
    assert field(Any, document) is document
    assert field(Document, document) is document
    assert field(Document, [document]) is document
    assert field(Document | None, None) is None
    assert field(list[Document], document) == [document]
    assert field(dict[str, Any], {"a": [document]}) == {"a": [document]}


async def test_a_list_of_documents_is_none_for_one() -> None:
    document = await read(b"x")
    assert field_refusal(Document, [document, document]) == (
        "Cant bind a multi element document array to a single document."
    )


@pytest.mark.parametrize("annotation", [str, bytes])
def test_content_that_was_not_read_is_asked_for(annotation: Any) -> None:
    document = Document({}, DocumentMetadata(), lambda: iter(()))  # type: ignore[arg-type, return-value]
    with pytest.raises(ContentNeeded) as caught:
        field(annotation, document)
    assert caught.value.document is document


def test_an_expression_can_be_bound_to_be_evaluated_later() -> None:
    function = field(Callable[..., Any], "= a + 1")
    assert function({"a": 2}) == 3
    assert function() is None
    values: list[Any] = ["a + 1", 5, {}, "= a +"]
    for value in values:
        assert (
            field_refusal(Callable[..., Any], value)
            == "Json object contains an invalid field: x. It Must be `Function`"
        )


# ---- parameters ------------------------------------------------------------------------------------------------------


def arguments(function: Any, variables: Any, headers: dict[str, str] | None = None) -> Any:
    connector = outbound_connector("C", type="c:1")(function)
    return Arguments(connector.operations[""]).bind(variables, headers or {}, job=None, service=None)  # type: ignore[arg-type]


def test_each_kind_of_parameter_is_filled() -> None:
    def function(
        request: Inner,
        job: JobContext,
        limit: Annotated[int, Variable("limit")],
        whole: Annotated[dict[str, Any], Variable()],
        mode: Annotated[Color, Header("mode")],
    ) -> None: ...

    variables = {"n": 1, "limit": "5"}
    found = arguments(function, variables, {"mode": "RED"})
    assert found == {"request": Inner(n=1), "job": None, "limit": 5, "whole": variables, "mode": Color.RED}


@pytest.mark.parametrize(
    ("name", "variables", "value"),
    [
        ("a", {"a": 1}, 1),
        ("a.b", {"a.b": 1, "a": {"b": 2}}, 1),
        ("a/b", {"a": {"b": 1}}, 1),
        ("a~1b", {"a/b": 1}, 1),
        ("a~0b", {"a~b": 1}, 1),
        ("a/1", {"a": [1, 2]}, 2),
        ("a/9", {"a": [1, 2]}, None),
        ("a/x", {"a": [1, 2]}, None),
        ("a/b", {"a": 1}, None),
        ("b", {"a": 1}, None),
    ],
)
def test_a_variable_is_found_by_its_json_pointer(name: str, variables: Any, value: Any) -> None:
    def function(x: Any) -> None: ...

    function.__annotations__["x"] = Annotated[Any, Variable(name, required=False)]
    assert arguments(function, variables) == {"x": value}


def test_what_is_required_and_missing_is_named() -> None:
    def variable(x: Annotated[int, Variable("limit")]) -> None: ...
    def header(x: Annotated[str, Header("mode")]) -> None: ...

    empty: list[dict[str, Any]] = [{}, {"limit": None}]
    for variables in empty:
        with pytest.raises(BindingError, match=r"^Required variable 'limit' is missing in the job variables\.$"):
            arguments(variable, variables)
    with pytest.raises(BindingError, match=r"^Required header 'mode' is missing in the job headers\.$"):
        arguments(header, {})


def test_what_is_not_required_is_none_or_the_default() -> None:
    def function(
        a: Annotated[int | None, Variable("a", required=False)],
        b: Annotated[int, Variable("b")] = 7,
        c: Annotated[str, Header("c")] = "x",
    ) -> None: ...

    assert arguments(function, {}) == {"a": None}
    assert arguments(function, {"b": "1"}, {"c": "y"}) == {"a": None, "b": 1, "c": "y"}


def test_a_parameter_is_validated_by_itself_under_its_variables_name() -> None:
    def function(x: Annotated[int, Variable("limit"), Field(ge=1)]) -> None: ...

    with pytest.raises(BindingError) as caught:
        arguments(function, {"limit": 0})
    assert str(caught.value) == violations(
        "limit: Validation failed. Original message: must be greater than or equal to 1"
    )
    with pytest.raises(BindingError, match=re.escape("invalid field: limit. It Must be `Integer`")):
        arguments(function, {"limit": "x"})


def test_variables_that_are_no_object_are_refused() -> None:
    def function(request: Inner) -> None: ...

    values: list[Any] = [None, [], "x"]
    for variables in values:
        with pytest.raises(BindingError, match=r"^This is not a JSON object$"):
            arguments(function, variables)


def test_binding_is_quick_enough_for_every_job() -> None:
    binder = Binder(Outer)
    value = {"inner": {"n": 1}, "more": [{"n": 1}, {"n": "2"}]}
    began = time.perf_counter()
    for _ in range(1000):
        binder(value)
    assert time.perf_counter() - began < 1
