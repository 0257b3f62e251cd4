"""Correlation: which element an event is for, the variables it becomes, the one command, and what comes of it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import date
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import engine, feel, jsontext, sdk
from gateway.documents import Documents, EngineStore
from gateway.engine import Engine
from gateway.engine.embedded import EmbeddedEngine
from gateway.inbound.correlation import MAX_VARIABLES, Correlator, status_name
from gateway.sdk import InboundElement, Point

START, MESSAGE_START, MESSAGE = Point.START, Point.MESSAGE_START, Point.MESSAGE
KEYED = {"correlationKeyExpression": "=id"}


def element(point: Point = START, /, **properties: Any) -> InboundElement:
    """An element with these properties, and with `id_`, `version` and `ttl` if given."""
    id_, version, ttl = (properties.pop(name, usual) for name, usual in (("id_", "s"), ("version", 1), ("ttl", None)))
    return InboundElement(
        element_id=id_,
        element_name="Element",
        kind="startEvent",
        point=point,
        bpmn_process_id="p",
        process_name="Process",
        version=version,
        process_definition_key=10 + version,
        tenant_id="acme",
        properties={"inbound.type": "t:1", **properties},
        message_name=None if point is START else "orders",
        message_ttl_ms=ttl,
    )


class Recorder:
    """An engine that takes down the commands. answers: what it does instead, by the name of the command."""

    def __init__(self, **answers: Any) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.answers = {
            "create": engine.ProcessInstance(11, "p", 1, 7, "acme"),
            "create_with_result": engine.ProcessInstance(11, "p", 1, 7, "acme", '{"total":1.50}'),
            "publish": 5,
            "correlate": engine.MessageCorrelation(6, 7, "acme"),
            **answers,
        }

    def _take(self, name: str, given: dict[str, Any]) -> Any:
        self.sent.append((name, given))
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def create_process_instance(self, **given: Any) -> Any:
        return self._take("create", given)

    async def create_process_instance_with_result(self, **given: Any) -> Any:
        return self._take("create_with_result", given)

    async def publish_message(self, **given: Any) -> Any:
        return self._take("publish", given)

    async def correlate_message(self, **given: Any) -> Any:
        return self._take("correlate", given)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.sent]

    @property
    def variables(self) -> Any:
        """Those of the only command."""
        [(_, given)] = self.sent
        return jsontext.loads(given["variables"])


@pytest.fixture
async def documents() -> AsyncIterator[Documents]:
    store = EmbeddedEngine()
    yield Documents(EngineStore(store))
    await store.close()


def correlator(recorder: Recorder, *elements: InboundElement, **options: Any) -> Correlator:
    options.setdefault("documents", cast("Documents", None))
    return Correlator(elements, engine=cast("Engine", recorder), default_ttl_ms=3_600_000, **options)


async def correlated(
    event: Mapping[str, Any], *elements: InboundElement, ident: str | None = None, **options: Any
) -> tuple[Recorder, sdk.Outcome]:
    recorder = Recorder(**options.pop("answers", {}))
    return recorder, await correlator(recorder, *elements, **options).correlate(event, ident)


async def invalid(event: Mapping[str, Any], *elements: InboundElement, **options: Any) -> str:
    """The message of the InvalidInput that it gives; nothing was sent."""
    recorder, outcome = await correlated(event, *elements, **options)
    assert isinstance(outcome, sdk.InvalidInput), outcome
    assert not recorder.sent
    assert (outcome.done, outcome.retryable) == (False, False)
    return outcome.message


# ---- choosing the element --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [None, "", "  ", "=a = 1", "a = 1", " = a = 1 ", "=response = null"])
def test_an_element_without_condition_or_with_a_true_one_takes_the_event(condition: str | None) -> None:
    given = {} if condition is None else {"activationCondition": condition}
    made = element(**given)
    chooser = correlator(Recorder(), made)
    assert chooser.choose({"a": 1}) is made
    assert chooser.check({"a": 1}) is None


@pytest.mark.parametrize("condition", ["=a = 2", "=a", '="true"', "=null", "=missing.b", "=[true]", "=a > null"])
def test_only_the_boolean_true_activates(condition: str) -> None:
    chooser = correlator(Recorder(), element(activationCondition=condition))
    assert chooser.choose({"a": 1}) == sdk.ActivationConditionNotMet(consume_unmatched=False)
    assert chooser.check({"a": 1}) == sdk.ActivationConditionNotMet(consume_unmatched=False)


def test_the_old_name_of_the_condition_counts_where_the_new_one_is_blank() -> None:
    old = element(**{"inbound.activationCondition": "=a = 1"})
    both = element(**{"inbound.activationCondition": "=a = 1", "activationCondition": "=a = 2"})
    assert correlator(Recorder(), old).choose({"a": 1}) is old
    assert isinstance(correlator(Recorder(), both).choose({"a": 1}), sdk.ActivationConditionNotMet)
    blank = element(**{"inbound.activationCondition": "=a = 1", "activationCondition": " "})
    assert correlator(Recorder(), blank).choose({"a": 1}) is blank


@pytest.mark.parametrize("broken", ["=1 +", '=assert(a, false, "no")', "=for x in 1..100000000 return x"])
def test_a_condition_that_fails_in_any_element_refuses_the_event(broken: str) -> None:
    outcome = correlator(Recorder(), element(), element(id_="bad", activationCondition=broken)).choose({"a": 1})
    assert isinstance(outcome, sdk.InvalidInput)
    assert outcome.message.startswith(
        "Failed to evaluate activation condition against the provided input: element 'bad': "
    )


@pytest.mark.parametrize(("flags", "consumed"), [("", False), ("x false", False), ("x TRUE", True), ("true x", True)])
async def test_an_unmatched_event_is_consumed_if_any_element_says_so(flags: str, consumed: bool) -> None:
    elements = [element(activationCondition="=false", consumeUnmatchedEvents=flag) for flag in flags.split() or ["no"]]
    recorder, outcome = await correlated({}, *elements)
    assert outcome == sdk.ActivationConditionNotMet(consumed)
    assert (outcome.done, outcome.retryable, recorder.sent) == (consumed, False, [])


async def test_without_any_element_nothing_takes_the_event() -> None:
    assert (await correlated({}))[1] == sdk.ActivationConditionNotMet(consume_unmatched=False)


def test_message_elements_that_agree_stand_for_each_other_and_the_first_is_used() -> None:
    first, second = element(MESSAGE, version=1, **KEYED), element(MESSAGE, version=2, **KEYED)
    third = element(MESSAGE, id_="other", activationCondition="=true", **KEYED)
    assert correlator(Recorder(), first, second, third).choose({"id": 1}) is first
    assert correlator(Recorder(), second, third, first).choose({"id": 1}) is second


@pytest.mark.parametrize(
    "name", ["resultExpression", "resultVariable", "correlationKeyExpression", "messageIdExpression", "messageTtl"]
)
async def test_message_elements_that_differ_are_no_choice(name: str) -> None:
    message = await invalid({"id": 1}, element(MESSAGE, **KEYED), element(MESSAGE, id_="b", **{**KEYED, name: "=x"}))
    assert message.startswith("Multiple connectors are activated for the same input: ")
    assert f"differ in {name}: 's' of version 1, 'b' of version 1" in message


async def test_starts_that_match_together_are_no_choice() -> None:
    assert "several start events" in await invalid({}, element(), element(id_="b"))
    assert "several start events" in await invalid({}, element(MESSAGE_START), element(MESSAGE_START, version=2))
    assert "a start event" in await invalid({"id": 1}, element(), element(MESSAGE, **KEYED))


async def test_of_two_versions_with_one_element_id_the_one_that_matched_is_used() -> None:
    old = element(MESSAGE, version=1, activationCondition="=v = 1", resultExpression='={from: "old"}', **KEYED)
    new = element(MESSAGE, version=2, activationCondition="=v = 2", resultExpression='={from: "new"}', **KEYED)
    for v, chosen in ((1, old), (2, new)):
        recorder, outcome = await correlated({"v": v, "id": 1}, old, new)
        assert isinstance(outcome, sdk.MessagePublished)
        assert outcome.element is chosen
        assert recorder.variables == {"from": ("old", "new")[v - 1]}


def test_a_condition_that_elements_share_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[str] = []
    evaluate = feel.Expression.evaluate

    def counting(self: feel.Expression, *given: Any, **more: Any) -> Any:
        evaluated.append(self.text)
        return evaluate(self, *given, **more)

    monkeypatch.setattr(feel.Expression, "evaluate", counting)
    versions = [element(MESSAGE, version=n, activationCondition="=id = 1", **KEYED) for n in range(20)]
    assert correlator(Recorder(), *versions).choose({"id": 1}) is versions[0]
    assert evaluated == ["id = 1"]


@given(st.lists(st.tuples(st.sampled_from(Point), st.booleans(), st.integers(0, 1)), max_size=6))
def test_exactly_one_element_or_none_is_chosen(rows: list[tuple[Point, bool, int]]) -> None:
    made = [
        element(point, id_=f"e{n}", activationCondition=f"={str(wants).lower()}", resultVariable=f"v{kind}", **KEYED)
        for n, (point, wants, kind) in enumerate(rows)
    ]
    wanting = [each for each, (_, wants, _) in zip(made, rows, strict=True) if wants]
    found = correlator(Recorder(), *made).choose({"id": 1})
    alike = {(each.point, each.result_variable) for each in wanting}
    if not wanting:
        assert found == sdk.ActivationConditionNotMet(consume_unmatched=False)
    elif len(wanting) == 1 or (len(alike) == 1 and wanting[0].point is MESSAGE):
        assert found is wanting[0]
    else:
        assert isinstance(found, sdk.InvalidInput)


# ---- commands --------------------------------------------------------------------------------------------------------


async def test_a_start_creates_an_instance_of_its_own_version() -> None:
    made = element(START, version=4, resultVariable="e")
    recorder, outcome = await correlated({"a": 1}, made, ident="ignored")
    sent = {"bpmn_process_id": "p", "version": 4, "variables": '{"e":{"a":1}}', "tenant_id": "acme"}
    assert recorder.sent == [("create", sent)]
    assert outcome == sdk.ProcessInstanceCreated(made, 7, "acme")
    assert outcome.done


async def test_a_synchronous_start_waits_for_the_result() -> None:
    made = element(START, version=4, synchronousResponse="TRUE")
    recorder, outcome = await correlated({"a": 1}, made, result_timeout_ms=2500)
    [(name, sent)] = recorder.sent
    assert name == "create_with_result"
    assert sent == {
        "bpmn_process_id": "p",
        "version": 4,
        "variables": "{}",
        "tenant_id": "acme",
        "request_timeout_ms": 2500,
    }
    assert isinstance(outcome, sdk.ProcessInstanceCreatedWithResult)
    assert str(outcome.variables["total"]) == "1.50"
    assert (outcome.element, outcome.process_instance_key, outcome.done) == (made, 7, True)


@pytest.mark.parametrize(
    ("point", "properties", "key"),
    [
        (MESSAGE_START, {}, ""),
        (MESSAGE_START, {"correlationKeyExpression": "  "}, ""),
        (MESSAGE_START, {"correlationKeyExpression": "=missing"}, ""),
        (MESSAGE_START, {"correlationKeyExpression": "=1 +"}, ""),
        (MESSAGE_START, KEYED, "A"),
        (MESSAGE, KEYED, "A"),
    ],
)
async def test_a_message_is_published_with_its_key(point: Point, properties: dict[str, str], key: str) -> None:
    made = element(point, resultExpression="={x: id}", **properties)
    recorder, outcome = await correlated({"id": "A"}, made)
    sent = {
        "name": "orders",
        "correlation_key": key,
        "time_to_live_ms": 3_600_000,
        "message_id": "",
        "variables": '{"x":"A"}',
        "tenant_id": "acme",
    }
    assert recorder.sent == [("publish", sent)]
    assert outcome == sdk.MessagePublished(made, 5, "acme")


@pytest.mark.parametrize("point", [MESSAGE_START, MESSAGE])
async def test_a_synchronous_message_is_correlated_at_once_without_id_and_time_to_live(point: Point) -> None:
    made = element(point, synchronousResponse="true", messageTtl="PT90S", messageIdExpression="=1 +", **KEYED)
    recorder, outcome = await correlated({"id": "A"}, made, ident="x")
    sent = {"name": "orders", "correlation_key": "A", "variables": "{}", "tenant_id": "acme"}
    assert recorder.sent == [("correlate", sent)]
    assert outcome == sdk.MessageCorrelated(made, 7, 6, "acme")


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("A", "A"),
        ("", ""),
        (17, "17"),
        (10**20, str(10**20)),
        (1.5, "1.5"),
        (3.0, "3"),
        (True, "true"),
        ({"a": [1, "x"]}, '{"a":[1,"x"]}'),
        (date(2026, 1, 2), "2026-01-02"),
    ],
)
async def test_a_key_of_any_scalar_or_object_becomes_text(value: Any, key: str) -> None:
    recorder, _ = await correlated({"id": value}, element(MESSAGE, **KEYED))
    assert recorder.sent[0][1]["correlation_key"] == key


@pytest.mark.parametrize("synchronous", ["", "true"])
@pytest.mark.parametrize("expression", ["=missing", "=null", "=[id]", "=1 +", "", '=assert(id, false, "no")'])
async def test_a_message_element_needs_a_key(expression: str, synchronous: str) -> None:
    made = element(MESSAGE, correlationKeyExpression=expression, synchronousResponse=synchronous)
    words = await invalid({"id": 1}, made)
    assert words == f"Wasn't able to obtain correlation key for expression {expression!r} of element 's'"


@pytest.mark.parametrize(
    ("expression", "given_id", "sent"),
    [
        (None, None, ""),
        (None, "own", "own"),
        ("  ", "own", "own"),
        ("=id", "own", "A"),
        ("id", None, "A"),
        ("=missing", "own", ""),
        ("=7", "own", "7"),
        ("={a: 1}", "own", '{"a":1}'),
    ],
)
async def test_the_message_id_of_the_element_goes_before_the_connectors(
    expression: str | None, given_id: str | None, sent: str
) -> None:
    properties = {} if expression is None else {"messageIdExpression": expression}
    recorder, _ = await correlated({"id": "A"}, element(MESSAGE, **KEYED, **properties), ident=given_id)
    assert recorder.sent[0][1]["message_id"] == sent


@pytest.mark.parametrize("expression", ["=1 +", '=assert(id, false, "no")', "=[id]"])
async def test_a_message_id_that_fails_refuses_the_event(expression: str) -> None:
    words = await invalid({"id": 1}, element(MESSAGE, messageIdExpression=expression, **KEYED))
    assert words.startswith("messageIdExpression of element 's' failed: ")


@pytest.mark.parametrize(("own", "sent"), [(None, 3_600_000), (0, 0), (5, 5)])
async def test_the_time_to_live_of_the_element_goes_before_the_default(own: int | None, sent: int) -> None:
    recorder, _ = await correlated({"id": "A"}, element(MESSAGE, ttl=own, **KEYED))
    assert recorder.sent[0][1]["time_to_live_ms"] == sent


# ---- results ---------------------------------------------------------------------------------------------------------

STATUSES: list[tuple[engine.EngineError, str, bool]] = [
    (engine.Unavailable("gone", may_have_arrived=False), "UNAVAILABLE", True),
    (engine.DeadlineExceeded("late"), "DEADLINE_EXCEEDED", True),
    (engine.ResourceExhausted("busy"), "RESOURCE_EXHAUSTED", True),
    (engine.Aborted("aborted"), "ABORTED", True),
    (engine.NotFound("no process"), "NOT_FOUND", False),
    (engine.AlreadyExists("twice"), "ALREADY_EXISTS", False),
    (engine.InvalidArgument("bad"), "INVALID_ARGUMENT", False),
    (engine.FailedPrecondition("not now"), "FAILED_PRECONDITION", False),
    (engine.Unauthenticated("who"), "UNAUTHENTICATED", False),
    (engine.PermissionDenied("no"), "PERMISSION_DENIED", False),
    (engine.Unimplemented("what"), "UNIMPLEMENTED", False),
    (engine.EngineFailure("oops"), "INTERNAL", False),
    (engine.EngineError("?"), "UNKNOWN", False),
]


@pytest.mark.parametrize(("error", "status", "away"), STATUSES, ids=[status for _, status, _ in STATUSES])
async def test_what_the_engine_refuses_has_its_status_and_is_not_sent_again(
    error: engine.EngineError, status: str, away: bool
) -> None:
    for name, made in (
        ("create", element()),
        ("create_with_result", element(synchronousResponse="true")),
        ("correlate", element(MESSAGE, synchronousResponse="true", **KEYED)),
        *((("publish", element(MESSAGE, **KEYED)),) if status != "ALREADY_EXISTS" else ()),
    ):
        recorder, outcome = await correlated({"id": 1}, made, answers={name: error})
        assert outcome == sdk.EngineRefused(status, str(error))
        assert isinstance(outcome, sdk.EngineRefused)
        assert (outcome.done, outcome.retryable, outcome.away) == (False, True, away)
        assert recorder.names == [name]
    assert status_name(error) == status


async def test_a_message_that_the_engine_has_already_is_a_success() -> None:
    made = element(MESSAGE, **KEYED)
    recorder, outcome = await correlated({"id": 1}, made, ident="x", answers={"publish": engine.AlreadyExists("x")})
    assert outcome == sdk.MessageAlreadyCorrelated(made)
    assert (outcome.done, recorder.names) == (True, ["publish"])


async def test_a_fault_of_our_own_is_an_outcome_too_and_says_no_more_than_its_kind() -> None:
    recorder, outcome = await correlated({}, element(), answers={"create": RuntimeError("token=s3cret")})
    assert outcome == sdk.CorrelationFailed("RuntimeError while correlating an event")
    assert (outcome.done, outcome.retryable, recorder.names) == (False, True, ["create"])


FACTS = {
    "elementId": "s",
    "elementName": "Element",
    "elementType": "startEvent",
    "bpmnProcessId": "p",
    "processName": "Process",
    "version": 1,
    "processDefinitionKey": 11,
    "tenantId": "acme",
}


def test_response_expressions_see_what_an_outcome_did() -> None:
    e = element(MESSAGE, password="plain")
    there = {"activatedElement": FACTS}
    assert sdk.ProcessInstanceCreated(e, 7, "t").correlation() == {"processInstanceKey": 7, "tenantId": "t", **there}
    with_result = sdk.ProcessInstanceCreatedWithResult(e, 7, "t", {"a": 1}).correlation()
    assert with_result == {"processInstanceKey": 7, "tenantId": "t", "variables": {"a": 1}, **there}
    assert sdk.MessagePublished(e, 5, "t").correlation() == {"messageKey": 5, "tenantId": "t", **there}
    reached = {"processInstanceKey": 7, "messageKey": 5, "tenantId": "t", **there}
    assert sdk.MessageCorrelated(e, 7, 5, "t").correlation() == reached
    nothing = (sdk.MessageAlreadyCorrelated(e), sdk.ActivationConditionNotMet(True), sdk.InvalidInput("x"))
    assert [each.correlation() for each in nothing] == [None, None, None]


# ---- variables -------------------------------------------------------------------------------------------------------

EVENT = {"request": {"body": {"id": 7, "name": "Zoë"}}, "connectorData": {}, "documents": []}


@pytest.mark.parametrize(
    ("properties", "variables"),
    [
        ({}, {}),
        ({"resultVariable": " ", "resultExpression": "\t"}, {}),
        ({"resultVariable": "e"}, {"e": EVENT}),
        ({"resultVariable": " e "}, {"e": EVENT}),
        ({"resultVariable": 'ö"'}, {'ö"': EVENT}),
        ({"resultExpression": "={id: request.body.id}"}, {"id": 7}),
        ({"resultExpression": "request.body"}, {"id": 7, "name": "Zoë"}),
        ({"resultExpression": "={id: response.request.body.id, e: response}"}, {"id": 7, "e": EVENT}),
        ({"resultExpression": "=null"}, {}),
        ({"resultVariable": "e", "resultExpression": "=null"}, {"e": EVENT}),
        ({"resultVariable": "e", "resultExpression": "={}"}, {"e": EVENT}),
        ({"resultVariable": "e", "resultExpression": "={id: 1, n: null}"}, {"e": EVENT, "id": 1, "n": None}),
        ({"resultVariable": "e", "resultExpression": "={e: 1, id: 2}"}, {"e": 1, "id": 2}),
    ],
)
async def test_an_event_becomes_variables_as_the_element_says(properties: dict[str, str], variables: Any) -> None:
    recorder, outcome = await correlated(EVENT, element(**properties))
    assert outcome.done, outcome
    assert recorder.variables == variables


async def test_digits_survive_and_nothing_is_written_twice() -> None:
    event = jsontext.loads('{"big":123456789012345678901,"price":1.50}')
    recorder, _ = await correlated(event, element(resultVariable="e"))
    assert recorder.sent[0][1]["variables"] == '{"e":{"big":123456789012345678901,"price":1.50}}'


async def test_the_alias_response_is_known_to_the_result_expression_only() -> None:
    chooser = correlator(Recorder(), element(activationCondition="=response != null"))
    assert isinstance(chooser.choose({"a": 1}), sdk.ActivationConditionNotMet)
    words = await invalid({"id": 1}, element(MESSAGE, correlationKeyExpression="=response.id"))
    assert words.startswith("Wasn't able to obtain correlation key")


@pytest.mark.parametrize(
    ("expression", "kind"),
    [("=request.body.name", "string"), ("=[1]", "array"), ("=1", "number"), ("=true", "boolean")],
)
async def test_a_result_that_is_no_object_refuses_the_event_without_showing_it(expression: str, kind: str) -> None:
    words = await invalid(EVENT, element(resultExpression=expression))
    assert words == f"Result expression must return a JSON object, but got {kind}"


@pytest.mark.parametrize("expression", ["={a: ", '=assert({}, false, "no")', "={a: bpmnError(request)}"])
async def test_a_result_expression_that_fails_is_a_failure_that_may_pass_and_hides_the_event(expression: str) -> None:
    event = {"request": {"headers": {"authorization": "Bearer s3cret-token"}}}
    recorder, outcome = await correlated(event, element(resultExpression=expression))
    assert isinstance(outcome, sdk.CorrelationFailed)
    assert (outcome.retryable, recorder.sent) == (True, [])
    assert outcome.message.startswith("Failed to evaluate the result expression: ")
    assert "s3cret" not in outcome.message
    assert "Traceback" not in outcome.message


@pytest.mark.parametrize("properties", [{"resultVariable": "e"}, {"resultExpression": "={x: call}"}])
async def test_an_event_must_not_become_a_call_of_a_function(properties: dict[str, str]) -> None:
    event = {"call": {"camunda.function.type": "createLink", "params": []}}
    assert "forbidden literal 'camunda.function.type'" in await invalid(event, element(**properties))


LIMIT_CASES: list[tuple[dict[str, str], Callable[[int], Any], int]] = [
    ({"resultVariable": "e"}, lambda n: {"x": "a" * n}, len('{"e":{"x":""}}')),
    ({"resultExpression": "={x: x}"}, lambda n: {"x": "a" * n}, len('{"x":""}')),
    ({"resultVariable": "e"}, lambda n: {"x": "ä" * (n // 2) + "a" * (n % 2)}, len('{"e":{"x":""}}')),
]


@pytest.mark.parametrize("synchronous", ["false", "true"])
@pytest.mark.parametrize("point", list(Point))
@pytest.mark.parametrize(("properties", "event", "around"), LIMIT_CASES)
async def test_variables_have_a_limit_in_bytes_in_every_mode(
    properties: dict[str, str], event: Callable[[int], Any], around: int, point: Point, synchronous: str
) -> None:
    made = element(point, correlationKeyExpression="=1", synchronousResponse=synchronous, **properties)
    recorder, outcome = await correlated(event(MAX_VARIABLES - around), made)
    assert outcome.done, outcome
    assert len(recorder.sent[0][1]["variables"].encode()) == MAX_VARIABLES
    assert f"({MAX_VARIABLES + 1} bytes) exceed the limit of 1572864" in await invalid(
        event(MAX_VARIABLES + 1 - around), made
    )


async def test_an_event_without_a_form_in_json_refuses_itself() -> None:
    assert "cannot be written as JSON" in await invalid({"x": object()}, element(resultVariable="e"))
    assert "cannot be written as JSON" in await invalid({"x": "\ud800"}, element(resultVariable="e"))


@given(
    st.dictionaries(st.text(max_size=5), st.one_of(st.none(), st.integers(), st.text(max_size=5)), max_size=4),
    st.sampled_from(["e", "a"]),
    st.sampled_from(["=null", "={}", "={a: 1}", "={a: 1, b: response}"]),
)
async def test_joined_texts_are_the_merged_objects(event: dict[str, Any], variable: str, expression: str) -> None:
    mapped = {"=null": {}, "={}": {}, "={a: 1}": {"a": 1}}.get(expression, {"a": 1, "b": event})
    if any(isinstance(v, int) and abs(v) >= 2**63 for v in event.values()):
        return  # what FEEL hands out then is another matter
    recorder, _ = await correlated(event, element(resultVariable=variable, resultExpression=expression))
    assert recorder.variables == {variable: event} | mapped


# ---- documents -------------------------------------------------------------------------------------------------------


async def test_documents_are_their_references_in_expressions_and_variables(documents: Documents) -> None:
    document = await documents.create(b"x", content_type="text/plain", file_name="a.txt")
    event = {"documents": [document], "request": {}}
    made = element(
        activationCondition='=documents[1].metadata.fileName = "a.txt"',
        resultVariable="e",
        resultExpression="={first: documents[1], names: documents.metadata.fileName}",
    )
    recorder, outcome = await correlated(event, made, documents=documents)
    assert outcome.done, outcome
    reference = document.reference()
    assert reference["camunda.document.type"] == "camunda"
    assert recorder.variables == {
        "e": {"documents": [reference], "request": {}},
        "first": reference,
        "names": ["a.txt"],
    }


async def test_create_document_stores_what_it_is_given(documents: Documents) -> None:
    made = element(
        resultExpression='={d: createDocument({content: "aGVsbG8=", name: name, contentType: "text/plain"})}'
    )
    recorder, outcome = await correlated({"name": "a.txt"}, made, documents=documents)
    assert outcome.done, outcome
    reference = recorder.variables["d"]
    assert reference["metadata"]["fileName"] == "a.txt"
    assert await documents.resolve(reference).read() == b"hello"


class CountingStore(EngineStore):
    """A store that counts, and may refuse."""

    error: Exception | None = None
    stored = 0

    async def create(self, *given: Any, **more: Any) -> Any:
        if self.error is not None:
            raise self.error
        self.stored += 1
        return await super().create(*given, **more)


@asynccontextmanager
async def counting(error: Exception | None = None) -> AsyncIterator[tuple[CountingStore, Documents]]:
    made = EmbeddedEngine()
    store = CountingStore(made)
    store.error = error
    yield store, Documents(store)
    await made.close()


@pytest.mark.parametrize(
    ("point", "properties"),
    [
        (START, {"resultExpression": '=createDocument("eA==")'}),
        (START, {"resultExpression": '=[createDocument("eA==")]'}),
        (MESSAGE, {"resultExpression": '={d: createDocument("eA==")}', "correlationKeyExpression": "=null"}),
        (
            MESSAGE,
            {"resultExpression": '={d: createDocument("eA==")}', "messageIdExpression": "=[1]", **KEYED},
        ),
    ],
)
async def test_nothing_is_stored_for_an_event_that_is_refused(point: Point, properties: dict[str, str]) -> None:
    async with counting() as (store, documents):
        await invalid({"id": 1}, element(point, **properties), documents=documents)
        assert store.stored == 0


@pytest.mark.parametrize("value", ["1", '"&"', "{}", "{content: 1}"])
async def test_what_is_no_content_refuses_the_event(value: str, documents: Documents) -> None:
    words = await invalid({}, element(resultExpression=f"={{d: createDocument({value})}}"), documents=documents)
    assert words.startswith("createDocument: ")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (engine.Unavailable("gone"), sdk.EngineRefused("UNAVAILABLE", "gone")),
        (engine.PermissionDenied("no"), sdk.CorrelationFailed("A document cannot be stored: no")),
        (OSError("disk /secret"), sdk.CorrelationFailed("OSError while correlating an event")),
    ],
)
async def test_a_document_that_cannot_be_stored_sends_nothing(error: Exception, outcome: sdk.Outcome) -> None:
    async with counting(error) as (_, documents):
        made = element(resultExpression='={d: createDocument("eA==")}')
        recorder, found = await correlated({}, made, documents=documents)
        assert found == outcome
        assert (found.retryable, recorder.sent) == (True, [])


# ---- start or correlate ----------------------------------------------------------------------------------------------

NO_ONE = engine.NotFound("no subscription")


def both(**properties: str) -> list[InboundElement]:
    return [element(id_="start"), element(MESSAGE, id_="wait", **KEYED, **properties)]


async def test_an_instance_that_waits_goes_before_a_new_one() -> None:
    start, wait = both()
    recorder, outcome = await correlated({"id": "A"}, start, wait, start_or_correlate=True)
    assert recorder.names == ["correlate"]
    assert outcome == sdk.MessageCorrelated(wait, 7, 6, "acme")
    assert correlator(Recorder(), start, wait, start_or_correlate=True).choose({"id": 1}) is wait


@pytest.mark.parametrize("where", [0, 1])
async def test_an_instance_is_started_when_none_waits(where: int) -> None:
    elements = both()
    elements[where] = element(elements[where].point, id_=f"e{where}", **KEYED, **{"inbound.startOrCorrelate": "True"})
    recorder, outcome = await correlated({"id": "A"}, *elements, answers={"correlate": NO_ONE})
    assert recorder.names == ["correlate", "create"]
    assert outcome == sdk.ProcessInstanceCreated(elements[0], 7, "acme")


async def test_each_of_the_two_makes_its_own_variables() -> None:
    start, wait = element(id_="start", resultVariable="s"), both(resultVariable="w")[1]
    recorder, _ = await correlated({"id": 1}, start, wait, start_or_correlate=True, answers={"correlate": NO_ONE})
    assert [given["variables"] for _, given in recorder.sent] == ['{"w":{"id":1}}', '{"s":{"id":1}}']


async def test_what_both_make_alike_is_stored_once() -> None:
    mapping = {"resultExpression": '={d: createDocument("eA==")}'}
    start, wait = element(id_="start", **mapping), both(**mapping)[1]
    async with counting() as (store, documents):
        options: dict[str, Any] = {"documents": documents, "start_or_correlate": True}
        recorder, outcome = await correlated({"id": 1}, start, wait, answers={"correlate": NO_ONE}, **options)
        assert isinstance(outcome, sdk.ProcessInstanceCreated)
        assert (store.stored, recorder.names) == (1, ["correlate", "create"])


async def test_an_event_without_a_key_starts() -> None:
    recorder, _ = await correlated({}, *both(), start_or_correlate=True)
    assert recorder.names == ["create"]


async def test_a_message_start_is_published_when_none_waits() -> None:
    start = element(MESSAGE_START, id_="start")
    options: dict[str, Any] = {"start_or_correlate": True, "answers": {"correlate": NO_ONE}}
    recorder, outcome = await correlated({"id": 1}, start, both()[1], ident="x", **options)
    assert recorder.names == ["correlate", "publish"]
    assert recorder.sent[1][1]["message_id"] == "x"
    assert outcome == sdk.MessagePublished(start, 5, "acme")


@pytest.mark.parametrize(
    "error", [engine.Unavailable("gone"), engine.DeadlineExceeded("late"), engine.Unimplemented("")]
)
async def test_nothing_is_started_when_it_is_not_certain_that_none_waits(error: engine.EngineError) -> None:
    recorder, outcome = await correlated(
        {"id": 1}, *both(), start_or_correlate=True, answers={"correlate": error, "create": AssertionError()}
    )
    assert recorder.names == ["correlate"]
    assert isinstance(outcome, sdk.EngineRefused)


async def test_one_start_and_messages_alike_are_needed_for_it() -> None:
    start, wait = both()
    more = [wait, element(MESSAGE, id_="wait", version=2, **KEYED)]
    assert (await correlated({"id": 1}, start, *more, start_or_correlate=True))[1].done
    assert "several start events" not in await invalid({"id": 1}, start, *both(), start_or_correlate=True)
    other = element(MESSAGE, id_="other", resultVariable="x", **KEYED)
    assert "a start event" in await invalid({"id": 1}, start, wait, other, start_or_correlate=True)
