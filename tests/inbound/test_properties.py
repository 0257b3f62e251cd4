"""Properties: from flat texts to a connector's settings, with secrets and FEEL; and expressions that are evaluated per event."""

import enum
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from gateway import bpmn
from gateway.documents import Document, Documents, EngineStore
from gateway.engine import Engine, InvalidArgument, NotFound, PermissionDenied, SearchPage, Unimplemented
from gateway.engine.embedded import EmbeddedEngine
from gateway.inbound.elements import inbound_elements
from gateway.inbound.properties import Properties
from gateway.intrinsic import Intrinsics
from gateway.sdk import ConnectorInputException, ElementInstance, InboundElement, NotBlank, Point
from gateway.secrets import MapSecrets, Masker, SecretContext, Secrets
from tests.engine.conftest import connected, settings_for
from tests.engine.embedded.driver import Controls, World
from tests.engine.embedded.models import element as xml_element
from tests.engine.embedded.models import end, message, process, start, task
from tests.real.processes import EngineProcess, running_engine


class Mode(enum.Enum):
    FAST = "fast"
    SLOW = "slow"


class Basic(BaseModel):
    type: Literal["BASIC"]
    username: str = ""
    password: SecretStr = SecretStr("")


class ApiKey(BaseModel):
    type: Literal["APIKEY"]
    key: int = Field(0, alias="apiKey")
    locator: Callable[..., Any] | None = None


class Nested(BaseModel):
    auth: Annotated[Basic | ApiKey, Field(discriminator="type")] | None = None
    path: str = Field("", pattern="^[a-z]*$")
    scopes: list[Literal["url", "body"]] = Field(default_factory=list)


class Settings(BaseModel):
    text: str = ""
    maybe: str | None = "unset"
    count: int = 0
    factor: Decimal = Decimal(0)
    flag: bool = False
    pause: timedelta = timedelta(0)
    mode: Mode = Mode.FAST
    kind: Literal["a", "b"] = "a"
    topics: list[str] = Field(default_factory=list)
    numbers: list[int] | None = None
    loose: list[Any] = Field(default_factory=list)
    rules: list[dict[str, Any]] = Field(default_factory=list)
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = None
    nested: Nested = Field(default_factory=Nested, alias="inbound")
    options: Nested = Field(default_factory=Nested)
    function: Callable[..., Any] | None = None
    document: Document | None = None
    content: bytes | None = None

    @field_validator("text")
    @classmethod
    def _chatty(cls, value: str) -> str:
        if "refuse" in value:
            raise ValueError(f"is not liked: {value}")
        return value


def element(properties: Mapping[str, str]) -> InboundElement:
    return InboundElement(
        "wait", None, "receiveTask", Point.MESSAGE, "p", None, 1, 1, "<default>", {"inbound.type": "t:1", **properties}
    )


class Cluster:
    """What is asked of an engine. answers: values, or errors, for the expressions; rows: of variables."""

    def __init__(self, *answers: Any, rows: list[dict[str, Any]] | None = None) -> None:
        self.answers = list(answers)
        self.rows = rows
        self.asked: list[tuple[str, str | None, int | None]] = []
        self.searched: list[Mapping[str, Any]] = []

    async def evaluate_expression(
        self, expression: str, *, tenant_id: str | None = None, scope_key: int | None = None
    ) -> Any:
        self.asked.append((expression, tenant_id, scope_key))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def search(self, resource: str, *, filter: Mapping[str, Any], limit: int, after: str | None) -> SearchPage:  # noqa: A002
        assert self.rows is not None
        assert resource == "variables"
        self.searched.append(filter)
        begin = int(after or 0)
        return SearchPage(self.rows[begin : begin + limit], len(self.rows), str(begin + limit))


def properties(cluster: Cluster | Engine | None = None, /, **secrets: str) -> Properties:
    return Properties(Secrets([MapSecrets(secrets)]), cast("Engine", cluster or Cluster()))


async def bound(given_: Mapping[str, str], /, cluster: Cluster | None = None, **secrets: str) -> Settings:
    return await properties(cluster, **secrets).bind(Settings, element(given_))


async def refused(given_: Mapping[str, str], /, cluster: Cluster | None = None, **secrets: str) -> str:
    with pytest.raises(ConnectorInputException) as caught:
        await bound(given_, cluster, **secrets)
    assert caught.value.__cause__ is None
    for value in secrets.values():
        assert value not in str(caught.value)
    return str(caught.value)


# ---- names -----------------------------------------------------------------------------------------------------------


async def test_dotted_names_become_nested_objects_and_unknown_ones_are_ignored() -> None:
    settings = await bound(
        {
            "inbound.auth.type": "BASIC",
            "inbound.auth.username": "me",
            "inbound.auth.unknown": "= 1 +",
            "inbound.path": "orders",
            "headers.X-A": "1",
            "correlationKeyExpression": "= 1 +",
            "other": "{{secrets.NOWHERE}}",
        }
    )
    assert isinstance(settings.nested.auth, Basic)
    assert (settings.nested.auth.username, settings.nested.path) == ("me", "orders")
    assert settings.headers == {"X-A": "1"}


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["a", "a.b"], "a.b"),
        (["inbound.path", "inbound"], "inbound"),
        (["a.b", "a.b.c"], "a.b.c"),
        (["a..b"], "a..b"),
        ([".a"], ".a"),
        (["a."], "a."),
        ([""], ""),
    ],
)
async def test_names_that_contradict_each_other_are_malformed(names: list[str], named: str) -> None:
    assert (await refused(dict.fromkeys(names, "x"))).startswith(f"Property '{named}': ")


@given(st.dictionaries(st.text("ab.", min_size=1, max_size=6), st.text("xyz", max_size=3), max_size=6))
async def test_names_are_bound_or_refused_and_nothing_gets_lost(given_: dict[str, str]) -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    segments = {name: name.split(".") for name in given_}
    malformed = any("" in s for s in segments.values()) or any(
        a != b and segments[b][: len(segments[a])] == segments[a] for a in segments for b in segments
    )
    try:
        model = await properties().bind(Open, element(given_))
    except ConnectorInputException:
        assert malformed
        return
    assert not malformed
    for name, (first, *rest) in segments.items():
        value = getattr(model, first)
        for step in rest:
            value = value[step]
        assert value == given_[name]


# ---- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("text", "1e5", "1e5"),
        ("text", "12 monkeys", "12 monkeys"),
        ("text", '"x"', '"x"'),
        ("text", "{}", "{}"),
        ("text", " a ", " a "),
        ("text", "a, b", "a, b"),
        ("count", "20", 20),
        ("count", " 20 ", 20),
        ("count", "", 0),
        ("factor", "1.50", Decimal("1.50")),
        ("flag", "true", True),
        ("pause", "PT5S", timedelta(seconds=5)),
        ("mode", "SLOW", Mode.SLOW),
        ("kind", "B", "b"),
        ("topics", "a, b ,c", ["a", "b", "c"]),
        ("topics", "a", ["a"]),
        ("topics", "  ", []),
        ("topics", '["a,b", "c"]', ["a,b", "c"]),
        ("topics", ' ["a"]', ["a"]),
        ("numbers", "1, 2", [1, 2]),
        ("numbers", "[1, 2]", [1, 2]),
        ("loose", '[1, "x", {}]', [1, "x", {}]),
        ("loose", "1, x", ["1", "x"]),
        ("rules", '[{"a": 1}]', [{"a": 1}]),
        ("rules", '{"a": 1}', [{"a": 1}]),
        ("headers", '{"a": "1", "b": 2}', {"a": "1", "b": "2"}),
        ("body", "text", "text"),
        ("body", '"quoted"', '"quoted"'),
        ("body", "'quoted'", "'quoted'"),
        ("body", "12", 12),
        ("body", "12 monkeys", "12 monkeys"),
        ("body", "true", True),
        ("body", "null", None),
        ("body", '{"a": [1.50]}', {"a": [Decimal("1.50")]}),
        ("body", "{a: 1}", "{a: 1}"),
        ("content", "eA==", b"x"),
    ],
)
async def test_a_text_becomes_what_its_field_takes(name: str, text: str, value: Any) -> None:
    assert getattr(await bound({name: text}), name) == value


async def test_objects_may_be_written_as_json_and_choices_decide_what_they_are() -> None:
    settings = await bound({"options": '{"auth": {"type": "APIKEY", "apiKey": "7"}, "scopes": ["body"]}'})
    assert isinstance(settings.options.auth, ApiKey)
    assert (settings.options.auth.key, settings.options.scopes) == (7, ["body"])


async def test_a_blank_object_is_the_default() -> None:
    assert (await bound({"headers": " "})).headers == {}


# ---- FEEL ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("text", '="a" + "b"', "ab"),
        ("text", "=1 + 1", "2"),
        ("text", '={a: 1, b: ["x"]}', '{"a":1,"b":["x"]}'),
        ("text", " =1", " =1"),
        ("maybe", "=null", None),
        ("count", "=2 * 3", 6),
        ("count", '="6"', 6),
        ("flag", "=1 = 1", True),
        ("pause", '="PT" + "5S"', timedelta(seconds=5)),
        ("mode", '="slow"', Mode.SLOW),
        ("topics", '=["a", "b"]', ["a", "b"]),
        ("topics", '="a"', ["a"]),
        ("headers", '={"X-A": "1"}', {"X-A": "1"}),
        ("body", "={a: [1, 1.5]}", {"a": [1, 1.5]}),
        ("body", '="="', "="),
        ("body", "=missing", None),
    ],
)
async def test_a_value_that_begins_with_an_equals_sign_is_evaluated_in_every_field(
    name: str, text: str, value: Any
) -> None:
    cluster = Cluster()
    assert getattr(await bound({name: text}, cluster), name) == value
    assert not cluster.asked


async def test_nested_fields_and_members_of_objects_are_evaluated_too() -> None:
    settings = await bound({"inbound.scopes": '=["url", "body"]', "headers.A": "=1", "body.x.y": "=[1]"})
    assert (settings.nested.scopes, settings.headers, settings.body) == (["url", "body"], {"A": "1"}, {"x": {"y": [1]}})


async def test_a_function_keeps_its_expression_for_later() -> None:
    settings = await bound({"function": "=request.n + 1", "inbound.auth.type": "APIKEY", "inbound.auth.locator": "=a"})
    assert settings.function is not None
    assert settings.function({"request": {"n": 1}}) == 2
    assert isinstance(settings.nested.auth, ApiKey)
    assert settings.nested.auth.locator is not None


async def test_expressions_over_cluster_variables_go_to_the_cluster_in_one_call() -> None:
    cluster = Cluster(["a", [1, 2]])
    given_ = {"text": "=camunda.vars.env.X // why", "numbers": "=camunda.vars.tenant.n", "count": "=1 + 1"}
    settings = await bound(given_, cluster)
    assert cluster.asked == [
        ("=[(\ncamunda.vars.env.X // why\n),(\ncamunda.vars.tenant.n\n)]", "<default>", None),
    ]
    assert (settings.text, settings.numbers, settings.count) == ("a", [1, 2], 2)


async def test_one_expression_goes_to_the_cluster_as_it_is_and_text_that_only_looks_like_one_does_not() -> None:
    cluster = Cluster({"a": 1})
    settings = await bound(
        {"text": "= camunda.vars.env.X", "maybe": '="camunda.vars"', "body": "camunda.vars"}, cluster
    )
    assert cluster.asked == [("=camunda.vars.env.X", "<default>", None)]
    assert (settings.text, settings.maybe, settings.body) == ('{"a":1}', "camunda.vars", "camunda.vars")


async def test_what_only_the_cluster_can_read_is_left_to_it() -> None:
    cluster = Cluster("x", "y")
    settings = await bound({"text": "=camunda.vars.env.X ?? 1", "maybe": "=camunda.vars.env.Y"}, cluster)
    assert [expression for expression, _, _ in cluster.asked] == ["=camunda.vars.env.X ?? 1", "=camunda.vars.env.Y"]
    assert (settings.text, settings.maybe) == ("x", "y")


async def test_of_several_the_one_that_the_cluster_refuses_is_named() -> None:
    no = InvalidArgument("no such variable")
    words = await refused(
        {"text": "=camunda.vars.env.X", "count": "=camunda.vars.env.Y"}, Cluster(no, "fine", InvalidArgument("bad"))
    )
    assert words == "Property 'count': the expression cannot be evaluated: bad"


async def test_a_list_that_came_back_with_another_length_is_asked_for_again_one_by_one() -> None:
    cluster = Cluster(["x"], "a", 2)
    settings = await bound({"text": "=camunda.vars.env.X", "count": "=camunda.vars.env.Y"}, cluster)
    assert (settings.text, settings.count, len(cluster.asked)) == ("a", 2, 3)


async def test_cluster_variables_need_a_cluster_that_has_them() -> None:
    words = await refused({"count": "=camunda.vars.env.X"}, Cluster(Unimplemented("no endpoint")))
    assert words == (
        "Property 'count': the expression cannot be evaluated: camunda.vars needs a cluster of version 8.9 or later"
    )
    with pytest.raises(PermissionDenied):
        await bound({"count": "=camunda.vars.env.X"}, Cluster(PermissionDenied("EXPRESSION:EVALUATE")))


# ---- secrets ---------------------------------------------------------------------------------------------------------


async def test_secrets_are_put_in_wherever_the_element_names_them() -> None:
    quoted = 'a"b\\c\n'
    settings = await bound(
        {
            "text": "Bearer {{ secrets.TOKEN }}",
            "maybe": "secrets.TOKEN",
            "headers": '{"a": "{{secrets.TOKEN}}"}',
            "count": "={{secrets.N}} + 1",
            "inbound.auth.type": "BASIC",
            "inbound.auth.password": "{{secrets.TOKEN}}",
            "function": '="{{secrets.N}}" + x',
            "body": "{{secrets.JSON}}",
        },
        TOKEN=quoted,
        N="6",
        JSON='{"a": 1}',
    )
    assert (settings.text, settings.maybe, settings.headers) == (f"Bearer {quoted}", quoted, {"a": quoted})
    assert (settings.count, settings.body) == (7, {"a": 1})
    assert isinstance(settings.nested.auth, Basic)
    assert settings.nested.auth.password.get_secret_value() == quoted
    assert settings.function is not None
    assert settings.function({"x": "!"}) == "6!"


async def test_a_secret_is_never_taken_for_an_expression() -> None:
    assert (await bound({"text": "{{secrets.X}}"}, X="=1 + 1")).text == "=1 + 1"


async def test_a_value_may_name_only_what_the_element_names_itself() -> None:
    settings = await bound(
        {"text": "{{secrets.A}}", "maybe": "{{secrets.C}}"}, A="{{secrets.B}}{{secrets.C}}", B="b", C="c"
    )
    assert settings.text == "{{secrets.B}}c"


async def test_a_missing_secret_names_itself_and_the_property() -> None:
    words = await refused({"count": "1", "text": "{{secrets.NOPE}}"})
    assert words == "Property 'text': Secret with name 'NOPE' is not available"


async def test_secrets_are_looked_up_for_tenant_and_process_and_remembered_for_masking() -> None:
    asked: list[SecretContext] = []

    class Vault:
        async def get_secret(self, name: str, context: SecretContext) -> str | None:
            asked.append(context)
            return "a-secret-value"

    masker = Masker()
    binder = Properties(Secrets([Vault()], masker), cast("Engine", None), physical_tenant_id="east")
    await binder.bind(Settings, element({"text": "{{secrets.X}}"}))
    assert set(asked) == {SecretContext("<default>", "p", "east")}
    assert masker("log: a-secret-value") == "log: ***"


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"count": "many"}, "Property 'count': expected a whole number, but got 'many'"),
        ({"count": "=[1, 2]"}, "Property 'count': expected a whole number, but got '=[1, 2]'"),
        ({"factor": "x"}, "Property 'factor': expected a number, but got 'x'"),
        ({"flag": "maybe"}, "Property 'flag': expected true or false, but got 'maybe'"),
        ({"mode": "idle"}, "Property 'mode': expected one of 'fast', 'slow', but got 'idle'"),
        ({"kind": "c"}, "Property 'kind': expected one of 'a', 'b', but got 'c'"),
        ({"headers": "x"}, "Property 'headers': expected an object, but got 'x'"),
        ({"options": "x"}, "Property 'options': expected an object, but got 'x'"),
        ({"numbers": "1, x"}, "Property 'numbers[1]': expected a whole number, but got '1, x'"),
        ({"numbers": "[1"}, "Property 'numbers': expected a JSON list, or texts separated by commas, but got '[1'"),
        ({"inbound.scopes": "=[1]"}, "Property 'inbound.scopes[0]': expected one of 'url', 'body', but got '=[1]'"),
        ({"function": "x"}, "Property 'function': expected a valid FEEL expression that begins with '=', but got 'x'"),
        ({"inbound.path": "A"}, "Property 'inbound.path': must match \"^[a-z]*$\""),
        ({"text": "=[1, 2]"}, "Property 'text': expected text, but got '=[1, 2]'"),
        ({"content": "&"}, "Property 'content': expected base64 text, but got '&'"),
        ({"body": "=assert(1, false)"}, "Property 'body': the expression cannot be evaluated: "),
        ({"count": "=1 +"}, "Property 'count': the expression cannot be evaluated: "),
        ({"count": "x" * 200}, f"Property 'count': expected a whole number, but got '{'x' * 100}...'"),
    ],
)
async def test_an_error_names_property_what_was_expected_and_what_came(given_: dict[str, str], words: str) -> None:
    assert (await refused(given_)).startswith(words)


async def test_all_broken_constraints_are_named() -> None:
    class Strict(BaseModel):
        url: NotBlank
        size: int = Field(ge=1)
        name: str

    with pytest.raises(ConnectorInputException) as caught:
        await properties().bind(Strict, element({"url": " ", "size": "0"}))
    words = str(caught.value)
    assert "Property 'url': must not be blank" in words
    assert "Property 'size': must be greater than or equal to 1" in words
    assert "Property 'name': must not be null" in words


@pytest.mark.parametrize(
    "given_",
    [
        {"count": "{{secrets.X}}"},
        {"numbers": "1, {{secrets.X}}"},
        {"headers": "{{secrets.X}}"},
        {"mode": "{{secrets.X}}"},
        {"text": "refuse {{secrets.X}}"},
        {"inbound.path": "{{secrets.X}}"},
        {"count": "={{secrets.X}} +"},
        {"count": '="{{secrets.X}}" + '},
        {"count": '="{{secrets.X}}"'},
        {"body": '=assert(1, false, "{{secrets.X}}")'},
        {"function": '="{{secrets.X}}'},
        {"count": '=camunda.vars.x + "{{secrets.X}}"'},
    ],
)
async def test_no_error_holds_a_secret(given_: dict[str, str]) -> None:
    for secret in ('s3cret"value', "s3cret value"):
        words = await refused(given_, Cluster(InvalidArgument(f'cannot parse "{secret}"')), X=secret)
        assert words.startswith("Property '")
        assert "s3cret" not in words


# ---- documents -------------------------------------------------------------------------------------------------------


async def test_references_in_values_become_documents_and_contents() -> None:
    store = EmbeddedEngine()
    documents = Documents(EngineStore(store))
    reference = json.dumps((await documents.create(b"hello", content_type="text/plain")).reference())
    binder = Properties(Secrets([]), store, intrinsics=Intrinsics(documents, None))
    settings = await binder.bind(Settings, element({"document": f"={reference}", "content": f"={reference}"}))
    assert settings.document is not None
    assert (await settings.document.read(), settings.content) == (b"hello", b"hello")
    with pytest.raises(ConnectorInputException, match="documentId"):
        await binder.bind(Settings, element({"body": '={"camunda.document.type": "camunda"}'}))
    await store.close()


# ---- expressions per event -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["=request.n + 1", "request.n + 1", " = request.n + 1 "])
async def test_an_expression_is_evaluated_for_each_context(text: str) -> None:
    binder, made = properties(), element({"inbound.responseExpression": text})
    assert await binder.evaluate(made, "inbound.responseExpression", {"request": {"n": 1}}) == 2
    assert await binder.evaluate(made, "inbound.responseExpression", {"request": {"n": 2}}) == 3


async def test_a_property_that_is_missing_or_blank_gives_nothing() -> None:
    assert await properties().evaluate(element({}), "x", {}) is None
    assert await properties().evaluate(element({"x": " "}), "x", {}) is None


async def test_secrets_in_an_expression_are_looked_up_each_time() -> None:
    values = {"KEY": "one"}
    binder = Properties(Secrets([MapSecrets(values)]), cast("Engine", None))
    made = element({"x": '={body: "{{secrets.KEY}}" + a}'})
    assert await binder.evaluate(made, "x", {"a": 1}) == {"body": None}  # text and number don't add up
    assert await binder.evaluate(made, "x", {"a": "!"}) == {"body": "one!"}
    values["KEY"] = "two"
    assert await binder.evaluate(made, "x", {"a": "!"}) == {"body": "two!"}


async def test_data_of_the_context_is_no_reference_to_a_secret() -> None:
    binder = properties(KEY="s3cret")
    assert await binder.evaluate(element({"x": "=a", "y": "{{secrets.KEY}}"}), "x", {"a": "{{secrets.KEY}}"}) == (
        "{{secrets.KEY}}"
    )


@pytest.mark.parametrize("text", ["=1 +", '=assert(a, false, "no")', '=assert(a, false, "{{secrets.KEY}}")'])
async def test_an_expression_that_fails_names_property_and_reason(text: str) -> None:
    with pytest.raises(ConnectorInputException) as caught:
        await properties(KEY="s3cret").evaluate(element({"some.x": text}), "some.x", {"a": 1})
    assert str(caught.value).startswith("Property 'some.x': the expression cannot be evaluated: ")
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value)) > len("Property 'some.x': the expression cannot be evaluated: ")


async def test_a_missing_secret_in_an_expression_is_named() -> None:
    with pytest.raises(ConnectorInputException, match="Property 'x': Secret with name 'KEY' is not available"):
        await properties().evaluate(element({"x": "={{secrets.KEY}}"}), "x", {})


# ---- variables of an instance ----------------------------------------------------------------------------------------


def row(name: str, value: str, scope: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "value": value, "scopeKey": str(scope), "isTruncated": False, **more}


def instance_of(given_: Mapping[str, str]) -> ElementInstance:
    return ElementInstance(9, element(given_), 3)


async def with_instance(cluster: Cluster, given_: Mapping[str, str], binder: Properties | None = None) -> Settings:
    instance = instance_of(given_)
    return await (binder or properties(cluster)).bind(Settings, instance.element, instance)


async def test_all_that_reads_variables_is_one_call_with_the_instance_as_scope() -> None:
    cluster = Cluster(["x", 4])
    settings = await with_instance(cluster, {"text": "=text", "count": "=count + 1", "kind": '="b"', "maybe": "plain"})
    assert cluster.asked == [("=[(\ntext\n),(\ncount + 1\n)]", "<default>", 9)]
    assert (settings.text, settings.count, settings.kind, settings.maybe) == ("x", 4, "b", "plain")


async def test_before_8_9_the_variables_are_read_and_the_cluster_is_not_asked_again() -> None:
    rows = [row("a", '"process"', 3), row("b", "1.50", 3), row("a", '"own"', 9), row("a", '"of a neighbour"', 8)]
    cluster = Cluster(Unimplemented("no endpoint"), rows=rows)
    binder = properties(cluster)
    for _ in range(2):
        settings = await with_instance(cluster, {"text": "=a", "factor": "=b", "body": "=c"}, binder)
        assert (settings.text, settings.factor, settings.body) == ("own", Decimal("1.5"), None)
    assert len(cluster.asked) == 1
    assert cluster.searched == [{"processInstanceKey": "3", "name": {"$in": ["a", "b", "c"]}}] * 2


async def test_variables_are_read_page_by_page() -> None:
    rows = [row(f"n{n}", str(n), 3) for n in range(450)]
    settings = await with_instance(Cluster(Unimplemented(""), rows=rows), {"count": "=n449 + n0"})
    assert settings.count == 449


async def test_a_variable_that_is_cut_off_is_no_value() -> None:
    cluster = Cluster(Unimplemented(""), rows=[row("a", '"xxx', 3, isTruncated=True)])
    with pytest.raises(ConnectorInputException, match=r"Property 'text': .* does not give variable 'a' in full"):
        await with_instance(cluster, {"count": "=1 + b", "text": "=a"})


async def test_before_8_9_cluster_variables_are_refused_for_an_instance_too() -> None:
    with pytest.raises(ConnectorInputException, match=r"Property 'text': .* needs a cluster of version 8\.9"):
        await with_instance(Cluster(Unimplemented(""), rows=[]), {"text": "=camunda.vars.env.X"})


async def test_an_instance_that_is_gone_is_an_error_of_the_engine() -> None:
    with pytest.raises(NotFound):
        await with_instance(Cluster(NotFound("no such scope")), {"text": "=a"})


# ---- engines ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def embedded(version: str) -> AsyncIterator[Engine]:
    made = EmbeddedEngine(version=version)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def newer_engine(test_engine: EngineProcess) -> Iterator[EngineProcess]:
    """One that says it is 8.9; after `test_engine`, which skips where there is no Java."""
    with running_engine("--version", "8.9.0") as running:
        yield running


REAL = pytest.mark.real


@pytest.fixture(
    params=["8.8.9", "8.9.0", pytest.param("test_engine", marks=REAL), pytest.param("newer_engine", marks=REAL)]
)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    version = request.param
    opened = embedded(version) if version[0] == "8" else connected(settings_for(request.getfixturevalue(version)))
    async with opened as client:
        yield World(client, cast("Controls", None), f"c{uuid.uuid4().hex[:10]}-")


LINES = {
    "inbound.type": "t:1",
    "correlationKeyExpression": "=id",
    "text": '="Order " + id',
    "body": "=order",
    "count": "=n",
}


async def test_a_waiting_instance_sees_its_variables_on_every_cluster(world: World) -> None:
    written = "".join(f"<z:property name='{n}' value='{v}'/>" for n, v in LINES.items())
    inputs = '<z:ioMapping><z:input source="=n + 1" target="n"/></z:ioMapping>'
    receive = xml_element("receiveTask", "wait", ext=f"<z:properties>{written}</z:properties>{inputs}", messageRef="m")
    top = message("m", "§orders", key="=id")
    model = process(start(), receive, task("t"), end(), flows="s wait t e", top=top)
    [definition] = await world.deploy(model)
    [waits], _ = inbound_elements(
        bpmn.parse(world.full(model)),
        bpmn_process_id=definition.bpmn_process_id,
        version=1,
        key=definition.process_definition_key,
        tenant_id=definition.tenant_id,
    )
    binder = Properties(Secrets([]), world.engine)
    for n in range(2):
        key = await world.start(variables={"id": f"A{n}", "order": {"items": [1, {"x": "ä"}]}, "n": n})
        [found] = await world.rows("element-instances", key, elementId="wait")
        instance = ElementInstance(int(found["elementInstanceKey"]), waits, key)
        settings = await binder.bind(Settings, waits, instance)
        assert settings.text == f"Order A{n}"
        assert settings.body == {"items": [1, {"x": "ä"}]}
        assert settings.count == n + 1  # its own, not that of the process
