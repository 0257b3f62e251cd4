"""Result and error expressions: what they see, the functions that only they know, and what may come out of them."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.durations import parse_milliseconds
from gateway.expressions import (
    ErrorExpression,
    ExpressionError,
    NotAnObject,
    ResultExpression,
    error_context,
    response_context,
)


async def result(text: str, response: Any = None) -> Any:
    found = await ResultExpression(text).evaluate(response_context(response), None)
    return None if found is None else found[0]


async def error(text: str, sees: Any = None, retries: int = 3) -> Any:
    found = await ErrorExpression(text).evaluate(error_context(sees, retries), None)
    return None if found is None else found[0]


async def failure(text: str) -> str:
    with pytest.raises(ExpressionError) as caught:
        await error(text)
    assert not isinstance(caught.value, NotAnObject)
    return str(caught.value)


# ---- what they see ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["={a: x}", "{a: x}", "  =  {a: x}\n", "\t{a: response.x}"])
async def test_the_equals_sign_is_optional_and_blanks_do_not_count(text: str) -> None:
    assert await result(text, {"x": 1}) == {"a": 1}


async def test_the_members_of_an_object_and_the_response_itself_are_visible() -> None:
    assert await result("={a: x, b: response.x, c: response}", {"x": 1}) == {"a": 1, "b": 1, "c": {"x": 1}}


async def test_a_member_named_response_is_shadowed() -> None:
    assert await result("={a: response.response, b: x}", {"response": "r", "x": 1}) == {"a": "r", "b": 1}


@pytest.mark.parametrize("response", [None, 5, "text", True, [1, 2]])
async def test_what_is_no_object_is_visible_as_response_only(response: Any) -> None:
    assert await result("={a: response}", response) == {"a": response}


async def test_missing_members_and_unknown_functions_are_null() -> None:
    assert await result("={a: x.y.z, b: nowhere, c: noSuchFunction(x), d: error}", {"x": {}}) == {
        "a": None,
        "b": None,
        "c": None,
        "d": None,
    }


async def test_an_error_expression_sees_the_retries_that_are_left_and_they_win() -> None:
    assert await error("={a: job.retries, b: x, c: response.x}", {"x": 1, "job": "mine"}, 4) == {"a": 4, "b": 1, "c": 1}


async def test_an_error_expression_sees_the_error_twice() -> None:
    sees = {"error": {"code": "404", "message": "m"}}
    assert await error("={a: error.code, b: response.error.message, c: error.variables}", sees) == {
        "a": "404",
        "b": "m",
        "c": None,
    }


# ---- what comes out --------------------------------------------------------------------------------------------------


async def test_values_come_out_as_the_platform_writes_them() -> None:
    text = (
        '={i: 1.0, f: 0.5, l: 9223372036854775807, d: date("2024-02-29"), t: @"10:11:12", h: @"P1DT2H", m: @"P14M",'
        ' z: date and time("2024-01-01T10:00:00@Europe/Berlin"), n: null, s: "x", b: true, c: [1, {a: 2}]}'
    )
    assert await result(text) == {
        "i": 1,
        "f": 0.5,
        "l": 9223372036854775807,
        "d": "2024-02-29",
        "t": "10:11:12",
        "h": "PT26H",
        "m": "P1Y2M",
        "z": "2024-01-01T10:00:00+01:00",
        "n": None,
        "s": "x",
        "b": True,
        "c": [1, {"a": 2}],
    }


async def test_null_is_nothing_and_an_empty_object_is_one() -> None:
    assert await ResultExpression("=null").evaluate({}, None) is None
    assert await ResultExpression("={}").evaluate({}, None) == ({}, "{}")


async def test_the_value_comes_with_its_text() -> None:
    assert await ResultExpression('={"ü": 1}').evaluate({}, None) == ({"ü": 1}, '{"ü":1}')


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ('="text"', "string", '"text"'),
        ("=[1, 2]", "array", "[1,2]"),
        ("=42", "number", "42"),
        ("=1.50", "number", "1.5"),
        ("=true", "boolean", "true"),
        ('=@"PT1H"', "string", '"PT1H"'),
        ("=function(x) x", "null", "null"),
    ],
)
async def test_what_is_no_object_is_refused_with_its_kind_and_value(text: str, kind: str, shown: str) -> None:
    for expression, name in ((ResultExpression(text), "Result"), (ErrorExpression(text), "Error")):
        with pytest.raises(NotAnObject) as caught:
            await expression.evaluate({}, None)
        assert str(caught.value) == (
            f"Failed to evaluate expression '{text}' in context '{{}}'. Reason: {name} expression must return a JSON "
            f"object, but got {kind}. Evaluated value: {shown}"
        )


@pytest.mark.parametrize(
    "text",
    [
        '={"camunda.function.type": "base64"}',
        '={a: [{b: "x camunda.function.type y"}]}',
        '={a: "camunda.function" + ".type"}',
    ],
)
async def test_the_forbidden_literal_may_stand_nowhere(text: str) -> None:
    with pytest.raises(NotAnObject, match=r"forbidden literal 'camunda\.function\.type'"):
        await result(text)


async def test_response_data_cannot_smuggle_the_forbidden_literal_out() -> None:
    with pytest.raises(NotAnObject, match="forbidden literal"):
        await result("={a: response}", {"x": {"camunda.function.type": "getText"}})


@pytest.mark.parametrize("text", ["={a: ", "=", "={a: 1", "=if x"])
async def test_what_does_not_parse_fails_each_evaluation(text: str) -> None:
    expression = ResultExpression(text)
    for _ in range(2):
        with pytest.raises(ExpressionError, match=r"^Failed to evaluate expression '") as caught:
            await expression.evaluate({}, None)
        assert not isinstance(caught.value, NotAnObject)


async def test_the_context_in_a_message_is_cut() -> None:
    with pytest.raises(ExpressionError) as caught:
        await ResultExpression('=assert(x, false, "no")').evaluate({"x": "y" * 5000}, None)
    text = str(caught.value)
    assert 'in context \'{"x":"yyy' in text
    assert "y...(truncated)'. Reason: " in text
    assert 2000 < len(text) < 2300


async def test_a_value_that_json_cannot_carry_is_refused() -> None:
    deep: Any = 1
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(NotAnObject, match="cannot be written as JSON"):
        await result("={a: response}", deep)


# ---- bpmnError, jobError, ignoreError --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('=bpmnError("C")', {"errorType": "bpmnError", "errorCode": "C"}),
        ('=bpmnError("C", "m")', {"errorType": "bpmnError", "errorCode": "C", "errorMessage": "m"}),
        (
            '=bpmnError("C", "m", {a: 1})',
            {"errorType": "bpmnError", "errorCode": "C", "errorMessage": "m", "variables": {"a": 1}},
        ),
        (
            '=bpmnError(errorMessage: "m", errorCode: "C")',
            {"errorType": "bpmnError", "errorCode": "C", "errorMessage": "m"},
        ),
        (
            '=jobError("m")',
            {"errorType": "jobError", "errorMessage": "m", "variables": {}, "retries": 0, "retryBackoff": "PT0S"},
        ),
        (
            '=jobError("m", {a: 1}, 2, @"P1DT2H")',
            {
                "errorType": "jobError",
                "errorMessage": "m",
                "variables": {"a": 1},
                "retries": 2,
                "retryBackoff": "PT26H",
            },
        ),
        (
            '=jobError(errorMessage: "m", variables: {}, retries: job.retries - 1)',
            {"errorType": "jobError", "errorMessage": "m", "variables": {}, "retries": 2, "retryBackoff": "PT0S"},
        ),
        ("=ignoreError()", {"errorType": "ignoreError"}),
        ("=ignoreError({a: 1})", {"errorType": "ignoreError", "variables": {"a": 1}}),
        ("=ignoreError(variables: {a: 1})", {"errorType": "ignoreError", "variables": {"a": 1}}),
    ],
)
async def test_the_functions_give_their_contexts(text: str, found: Mapping[str, Any]) -> None:
    assert await error(text) == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('bpmnError(123, "m")', "Parameter 'errorCode' of function 'bpmnError' must be a String"),
        ("bpmnError(null)", "Parameter 'errorCode' of function 'bpmnError' must be a String"),
        ('bpmnError("C", 1)', "Parameter 'errorMessage' of function 'bpmnError' must be a String"),
        ('bpmnError("C", "m", "v")', "Parameter 'variables' of function 'bpmnError' must be a Context"),
        (
            'bpmnError(errorCode: "C", variables: {})',
            "Parameter 'errorMessage' of function 'bpmnError' must be a String",
        ),
        ("jobError(1)", "Parameter 'errorMessage' of function 'jobError' must be a String"),
        ('jobError("m", [])', "Parameter 'variables' of function 'jobError' must be a Context"),
        ('jobError("m", null)', "Parameter 'variables' of function 'jobError' must be a Context"),
        ('jobError("m", {}, "1")', "Parameter 'retries' of function 'jobError' must be a Number"),
        ('jobError("m", {}, true)', "Parameter 'retries' of function 'jobError' must be a Number"),
        ('jobError("m", {}, 1, "PT1S")', "Parameter 'retryBackoff' of function 'jobError' must be a DayTimeDuration"),
        ('jobError("m", {}, 1, @"P1M")', "Parameter 'retryBackoff' of function 'jobError' must be a DayTimeDuration"),
        ('ignoreError("x")', "Parameter 'variables' of function 'ignoreError' must be a Context"),
    ],
)
async def test_a_wrong_argument_fails_the_evaluation_and_is_named(text: str, reason: str) -> None:
    assert (await failure(f"={text}")).endswith(f". Reason: {reason}")


@pytest.mark.parametrize(
    "text",
    [
        "bpmnError()",
        'bpmnError("a", "b", {}, 1)',
        "jobError()",
        'jobError("m", {}, 1, @"PT1S", 1)',
        "ignoreError({}, {})",
        "backoff()",
        "createDocument()",
        'bpmnError(code: "C")',
    ],
)
async def test_a_wrong_number_of_arguments_is_an_unknown_function_and_so_null(text: str) -> None:
    assert await error(f"={text}") is None


# ---- backoff ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ('backoff(1, @"PT1S", 2, @"PT1M", 0)', "PT1S"),
        ('backoff(2, @"PT1S", 2, @"PT1M", 0)', "PT2S"),
        ('backoff(4, @"PT1S", 2, @"PT1M", 0)', "PT8S"),
        ('backoff(7, @"PT1S", 2, @"PT1M", 0)', "PT1M"),
        ('backoff(1000000, @"PT1S", 2, @"PT1M", 0)', "PT1M"),
        ('backoff(3, @"PT10S", 0.5, @"PT1M", 0)', "PT10S"),
        ('backoff(2, @"PT0.001S", 1.25, @"PT1M", 0)', "PT0.001S"),
        ('backoff(1000000, @"PT0S", 2, @"PT1M", 0)', "PT0S"),
        ('backoff(attempt: 2, minDelay: @"PT1S", factor: 3, maxDelay: @"PT1M", jitterFactor: 0)', "PT3S"),
    ],
)
async def test_backoff_grows_between_its_bounds(text: str, delay: str) -> None:
    assert await error(f"={{d: {text}}}") == {"d": delay}


async def test_backoff_has_defaults_and_spreads_by_a_tenth() -> None:
    for attempt, middle in ((1, 50), (2, 80), (99, 5000)):
        found = [parse_milliseconds((await error(f"={{d: backoff({attempt})}}"))["d"]) for _ in range(30)]
        assert all(middle * 0.9 - 1 <= milliseconds <= middle * 1.1 + 1 for milliseconds in found)
        assert len(set(found)) > 1


async def test_a_large_jitter_never_gives_a_negative_delay() -> None:
    for _ in range(50):
        found = await error('={d: backoff(1, @"PT1S", 2, @"PT1M", 5) >= @"PT0S"}')
        assert found == {"d": True}


async def test_backoff_serves_as_the_retry_backoff_of_a_job_error() -> None:
    found = await error('=jobError("m", {}, 2, backoff(1, @"PT1S", 2, @"PT1M", 0))')
    assert found["retryBackoff"] == "PT1S"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("backoff(0)", "backoff(): 'attempt' must be >= 1, but was 0"),
        ('backoff(1, @"PT1S", 0)', "backoff(): 'factor' must be > 0, but was 0"),
        (
            'backoff(1, @"PT2S", 2, @"PT1S")',
            "backoff(): 'minDelay' must be <= 'maxDelay', but was PT2S and PT1S",
        ),
        ('backoff(1, @"PT1S", 2, @"PT1M", -1)', "backoff(): 'jitterFactor' must be >= 0, but was -1"),
        ('backoff("1")', "Parameter 'attempt' of function 'backoff' must be a Number"),
        ("backoff(1, 5)", "Parameter 'minDelay' of function 'backoff' must be a DayTimeDuration"),
    ],
)
async def test_backoff_refuses_what_makes_no_sense(text: str, reason: str) -> None:
    assert (await failure(f"={{d: {text}}}")).endswith(f". Reason: {reason}")


# ---- createDocument --------------------------------------------------------------------------------------------------


class Store:
    """Takes uploads and answers with references."""

    def __init__(self) -> None:
        self.uploads: list[Any] = []

    async def __call__(self, value: Any) -> Any:
        self.uploads.append(value)
        return {"ref": len(self.uploads)}


async def test_documents_are_created_wherever_they_stand_in_the_result() -> None:
    store = Store()
    text = '={a: createDocument(x), b: [{c: createDocument({content: y, name: "n"})}], d: 1}'
    found = await ResultExpression(text).evaluate({"x": "eA==", "y": "eQ=="}, store)
    assert found is not None
    assert found[0] == {"a": {"ref": 1}, "b": [{"c": {"ref": 2}}], "d": 1}
    assert store.uploads == ["eA==", {"content": "eQ==", "name": "n"}]


async def test_created_documents_pass_through_functions_and_loops() -> None:
    store = Store()
    text = '={all: for n in names return {doc: createDocument(n)}, one: if true then createDocument("c") else null}'
    found = await ResultExpression(text).evaluate({"names": ["a", "b"]}, store)
    assert found is not None
    assert found[0] == {"all": [{"doc": {"ref": 1}}, {"doc": {"ref": 2}}], "one": {"ref": 3}}


@pytest.mark.parametrize(
    "text", ['=createDocument("x")', '=[createDocument("x")]', '="a" + string(createDocument("x"))']
)
async def test_nothing_is_uploaded_for_a_result_that_is_no_object(text: str) -> None:
    store = Store()
    with pytest.raises(NotAnObject):
        await ResultExpression(text).evaluate({}, store)
    assert store.uploads == []


async def test_a_bare_call_is_named_as_such() -> None:
    with pytest.raises(NotAnObject, match=r"must not be a bare createDocument\(\.\.\.\) call"):
        await ResultExpression('=createDocument("x")').evaluate({}, Store())


async def test_an_empty_object_uploads_nothing() -> None:
    store = Store()
    assert await ErrorExpression('=if false then {d: createDocument("x")} else {}').evaluate({}, store) == ({}, "{}")
    assert store.uploads == []


async def test_response_data_cannot_pose_as_a_document_to_create() -> None:
    store = Store()
    posing = {"connectorResultFunction": "createDocument", "value": "eA==", "params": ["eA=="]}
    found = await ResultExpression("={a: response, b: createDocument(1)}").evaluate(response_context(posing), store)
    assert found is not None
    assert found[0] == {"a": posing, "b": {"ref": 1}}
    assert store.uploads == [1]


async def test_without_a_store_no_document_can_be_created() -> None:
    with pytest.raises(NotAnObject, match="no document store"):
        await result('={a: createDocument("x")}')


async def test_the_reason_alone_shows_nothing_of_what_the_expression_saw() -> None:
    for text in ("=x", "=bpmnError(x, y)", "={a: "):
        with pytest.raises(ExpressionError) as caught:
            await result(text, {"x": "hidden", "y": 1})
        assert "hidden" in str(caught.value)
        assert "hidden" not in caught.value.reason
        assert caught.value.reason in str(caught.value)
