"""One job, from what the engine sent to the one command that answers it."""

import asyncio
import base64
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from gateway import jsontext
from gateway.documents import Document
from gateway.engine import AdHocResult, NotFound, Unavailable
from gateway.engine import ElementActivation as Activation
from gateway.outbound.handler import normalize
from gateway.outbound.outcome import Command, Complete, Fail, Throw
from gateway.sdk import (
    AdHocSubProcessResponse,
    ConnectorException,
    ConnectorInputException,
    ConnectorRetryException,
    DocumentReturn,
    ElementActivation,
    Header,
    JobContext,
    Variable,
    operation,
    outbound_connector,
)
from gateway.testing import FakeHttp
from tests.outbound.models import error_of, failed, handled, job_with

INPUT = "io.camunda.connector.api.error.ConnectorInputException"
FEEL = "io.camunda.connector.feel.FeelEngineWrapperException"


class Anything(BaseModel):
    a: Any = None


class Strict(BaseModel):
    n: int
    text: str = ""


def giving(response: Any) -> Any:
    async def function() -> Any:
        return response

    return function


async def command_of(response: Any, headers: dict[str, Any], retries: int = 3) -> Command:
    answer, _ = await handled(giving(response), job_with(headers=headers, retries=retries))
    return answer.command


async def variables_of(response: Any, **headers: Any) -> Any:
    command = await command_of(response, headers)
    assert isinstance(command, Complete), command
    return jsontext.loads(command.variables)


async def failure_of(response: Any, **headers: Any) -> tuple[int, dict[str, Any]]:
    command = await command_of(response, headers | {"retryBackoff": "PT5S"})
    assert isinstance(command, Fail), command
    return command.retries, error_of(command)


# ---- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("response", [None, 5, "x", True, [1], {}, {"a": None}, 1.5, "", []])
async def test_the_result_variable_gets_any_response(response: Any) -> None:
    assert await variables_of(response, resultVariable="r") == {"r": response}


async def test_without_result_headers_the_response_is_discarded_whatever_it_is() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for response in ({"a": 1}, 5, None, object(), circle, "x" * 3_000_000):
        assert await variables_of(response) == {}
        assert await variables_of(response, resultVariable=" ", resultExpression="\t") == {}


@pytest.mark.parametrize(
    ("response", "expression", "variables"),
    [
        ({"x": 1}, "={a: x, b: response.x}", {"a": 1, "b": 1}),
        ({"x": 1, "y": None}, "= response", {"x": 1, "y": None}),
        (None, "={a: response}", {"a": None}),
        ({"x": 1}, "=null", {}),
        ({"x": 1}, "={}", {}),
        ([1, 2], "={a: response[1]}", {"a": 1}),
        ({"x": 1}, "={a: nowhere, job: job, error: error}", {"a": None, "job": None, "error": None}),
    ],
)
async def test_the_result_expression_maps_the_response(response: Any, expression: str, variables: Any) -> None:
    assert await variables_of(response, resultExpression=expression) == variables


async def test_both_headers_give_the_union_and_the_expression_wins() -> None:
    assert await variables_of({"x": 1}, resultVariable="r", resultExpression="={a: x}") == {"r": {"x": 1}, "a": 1}
    assert await variables_of({"x": 1}, resultVariable="r", resultExpression="={r: null}") == {"r": None}
    assert await variables_of({"x": 1}, resultVariable="r", resultExpression="=null") == {"r": {"x": 1}}


@dataclass
class Point:
    x: int
    secretly: object


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({"o": object(), "s": "x"}, {"o": {}, "s": "x"}),
        (object(), {}),
        (Strict(n=1), {"n": 1, "text": ""}),
        ([Strict(n=1)], [{"n": 1, "text": ""}]),
        (Point(1, object()), {"x": 1, "secretly": {}}),
        ((1, 2), [1, 2]),
        ({5: "x"}, {"5": "x"}),
        (b"x", "eA=="),
        ({"n": float("nan")}, {"n": None}),
    ],
)
async def test_members_that_json_has_no_form_for_become_empty_objects(response: Any, expected: Any) -> None:
    assert await variables_of(response, resultVariable="r") == {"r": expected}
    assert await variables_of(response, resultExpression="={r: response}") == {"r": expected}


async def test_an_expression_sees_the_members_of_a_model_or_data_class() -> None:
    assert await variables_of(Strict(n=1), resultExpression="={a: n}") == {"a": 1}
    assert await variables_of(Point(1, None), resultExpression="={a: x}") == {"a": 1}


async def test_numbers_keep_their_digits_in_the_result_variable() -> None:
    command = await command_of({"a": jsontext.loads("1.50"), "b": 10**30}, {"resultVariable": "r"})
    assert isinstance(command, Complete)
    assert command.variables == f'{{"r":{{"a":1.50,"b":{10**30}}}}}'


async def test_a_response_that_cannot_be_written_is_an_input_error() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for response in (circle, "\ud800"):
        retries, error = await failure_of(response, resultVariable="r")
        assert (retries, error["type"]) == (0, INPUT)
        assert error["message"].startswith("The result cannot be written as JSON: ")


@pytest.mark.parametrize("levels", [400, 3000])
async def test_deep_responses_complete_or_fail_but_are_answered(levels: int) -> None:
    deep: Any = 1
    for _ in range(levels):
        deep = [deep]
    for headers in ({"resultVariable": "r"}, {"resultExpression": "={r: response}"}, {"errorExpression": "=null"}):
        command = await command_of(deep, headers)
        assert isinstance(command, Complete) or (isinstance(command, Fail) and command.retries in {0, 2})
    while deep != 1:
        deep = deep[0]


async def test_an_expression_that_gives_no_object_is_an_input_error() -> None:
    retries, error = await failure_of("text", resultExpression="= response")
    assert (retries, error["type"]) == (0, INPUT)
    assert error["message"] == (
        f"{FEEL}: Failed to evaluate expression '= response' in context '{{\"response\":\"text\"}}'. Reason: "
        'Result expression must return a JSON object, but got string. Evaluated value: "text"'
    )


async def test_an_expression_that_cannot_be_evaluated_costs_a_retry() -> None:
    for expression in ("={a:", '=assert(1, false, "no")'):
        retries, error = await failure_of({}, resultExpression=expression)
        assert (retries, error["type"]) == (2, FEEL)
        assert error["message"].startswith("Failed to evaluate expression '")


async def test_the_forbidden_literal_is_refused_in_expressions_and_not_in_the_result_variable() -> None:
    response = {"x": {"camunda.function.type": "base64", "params": []}}
    retries, error = await failure_of(response, resultExpression="={a: x}")
    assert retries == 0
    assert "forbidden literal" in error["message"]
    assert await variables_of(response, resultVariable="r") == {"r": response}


@pytest.mark.parametrize(
    "headers",
    [
        {"resultVariable": "r"},
        {"resultExpression": "={a: response.x}"},
        {"resultVariable": "r", "resultExpression": "={a: 1}"},
    ],
)
@pytest.mark.parametrize("character", ["x", "ü"])
async def test_variables_over_the_limit_are_an_input_error(headers: dict[str, str], character: str) -> None:
    response = {"x": character * (1_572_865 // len(character.encode()))}
    retries, error = await failure_of(response, **headers)
    assert (retries, error["type"]) == (0, INPUT)
    assert "exceeds the 1.5 MB safe variable size limit for Zeebe job completion" in error["message"]


async def test_a_large_response_passes_when_little_of_it_is_kept() -> None:
    assert await variables_of({"x": "y" * 3_000_000}, resultExpression="={l: string length(x)}") == {"l": 3_000_000}


# ---- createDocument --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name", "kind"),
    [
        ('"aGk="', None, "application/octet-stream"),
        ('" aG\\nk= "', None, "application/octet-stream"),
        ('{content: "aGk="}', None, "application/octet-stream"),
        ('{data: "aGk=", fileName: "a.txt"}', "a.txt", "text/plain"),
        ('{content: null, data: "aGk=", name: "a.txt", fileName: "b"}', "a.txt", "text/plain"),
        ('{content: "aGk=", name: "a.txt", contentType: "x/y"}', "a.txt", "x/y"),
        ('{content: "aGk=", name: 5}', "5", "application/octet-stream"),
    ],
)
async def test_create_document_stores_base64(given: str, name: str | None, kind: str) -> None:
    found = (await variables_of({}, resultExpression=f"={{d: createDocument({given})}}"))["d"]
    assert found["camunda.document.type"] == "camunda"
    assert found["metadata"]["contentType"] == kind
    assert found["metadata"]["size"] == 2
    assert found["metadata"]["fileName"] == name if name else len(found["metadata"]["fileName"]) == 36


@pytest.mark.parametrize("given", ["5", "[]", "null", "{}", "{content: 5}", '"no base64!"', '"a"', "{data: null}"])
async def test_create_document_refuses_everything_else_as_an_input_error(given: str) -> None:
    retries, error = await failure_of({}, resultExpression=f"={{d: createDocument({given})}}")
    assert (retries, error["type"]) == (0, INPUT)
    assert error["message"].startswith("createDocument: ")


async def test_a_bare_call_of_create_document_is_an_input_error() -> None:
    retries, error = await failure_of({}, resultExpression='=createDocument("aGk=")')
    assert retries == 0
    assert "must not be a bare createDocument(...) call" in error["message"]


async def test_an_error_expression_may_create_documents() -> None:
    command = await command_of({}, {"errorExpression": '=bpmnError("C", "m", {d: createDocument("aGk=")})'})
    assert isinstance(command, Throw)
    assert jsontext.loads(command.variables)["d"]["camunda.document.type"] == "camunda"


# ---- error expressions -----------------------------------------------------------------------------------------------


async def test_it_sees_the_response_when_there_are_no_variables_and_them_when_there_are() -> None:
    tell = '=bpmnError("C", string({x: x, y: response.x, v: r.x, e: error}))'
    raw = await command_of({"x": 1}, {"errorExpression": tell})
    assert raw == Throw("C", "{x:1, y:1, v:null, e:null}", "{}")
    kept = await command_of({"x": 1}, {"errorExpression": tell, "resultVariable": "r"})
    assert kept == Throw("C", "{x:null, y:null, v:1, e:null}", "{}")
    nothing = await command_of({"x": 1}, {"errorExpression": tell, "resultExpression": "=null"})
    assert nothing == raw


@pytest.mark.parametrize(
    "expression", ["=null", "={}", "=if error = null then null else 5", '=bpmnError(null_code: "x")']
)
async def test_no_opinion_leaves_the_outcome(expression: str) -> None:
    assert await variables_of({"x": 1}, resultVariable="r", errorExpression=expression) == {"r": {"x": 1}}


async def raising_one() -> None:
    raise ConnectorException("original", code="404", variables={"status": 404})


async def after_failure(expression: str, retries: int = 3) -> Command:
    answer, _ = await handled(raising_one, job_with(headers={"errorExpression": expression}, retries=retries))
    return answer.command


async def test_after_a_failure_it_sees_the_error() -> None:
    command = await after_failure(
        "=bpmnError(error.code, error.message, {t: error.type, v: error.variables, r: response.error.code})"
    )
    assert isinstance(command, Throw)
    assert (command.code, command.message) == ("404", "original")
    assert jsontext.loads(command.variables) == {
        "t": "io.camunda.connector.api.error.ConnectorException",
        "v": {"status": 404},
        "r": "404",
    }


@pytest.mark.parametrize(
    "expression", ["=null", "={}", "=if unknownFunction(error.code) then 1 else null", '={errorType: "bpmnError"}']
)
async def test_no_opinion_leaves_the_failure(expression: str) -> None:
    command = await after_failure(expression)
    assert isinstance(command, Fail)
    assert command.retries == 2
    assert command.message.startswith("original | Error variables: {error={type=")


async def test_retries_are_those_before_this_failure() -> None:
    command = await after_failure('=jobError("m", {}, job.retries - 1)', retries=5)
    assert isinstance(command, Fail)
    assert (command.retries, command.backoff_ms) == (4, 0)


async def test_a_job_error_after_a_success_fails_the_job() -> None:
    command = await command_of({"x": 1}, {"errorExpression": '=jobError("m " + string(x))', "retryBackoff": "PT5S"})
    assert command == Fail(0, "m 1 | Error variables: {error=m 1}", '{"error":"m 1"}', 0)


async def test_ignoring_an_error_completes_and_the_listener_hears_of_no_response() -> None:
    for function in (giving({"x": 1}), raising_one):
        headers = {"errorExpression": "=ignoreError({y: 1})", "resultVariable": "r"}
        answer, _ = await handled(function, job_with(headers=headers))
        assert answer.command == Complete('{"y":1}')
        assert answer.response is None


@pytest.mark.parametrize(
    ("expression", "kind", "words"),
    [
        ("=42", INPUT, f"{FEEL}: Failed to evaluate expression '=42' in context"),
        ("=42", INPUT, "Error expression must return a JSON object, but got number. Evaluated value: 42"),
        ("={a:", FEEL, "Failed to evaluate expression '={a:' in context"),
        ('=bpmnError(123, "")', FEEL, "Parameter 'errorCode' of function 'bpmnError' must be a String"),
        ("={a: 1}", INPUT, "Cannot parse '{\"a\":1}' as 'io.camunda.connector.runtime.core.error.ConnectorError'."),
        ('={errorType: "jobError", errorMessage: "m"}', INPUT, "'retries' must be a Number"),
        ('={errorType: "jobError", retries: 1}', INPUT, "'errorMessage' must be a String"),
        ('=bpmnError("C", "m", {a: "camunda.function.type"})', INPUT, "forbidden literal"),
        ('=ignoreError({a: string join(for i in 1..20000 return "' + "x" * 100 + '")})', INPUT, "exceeds the 1.5 MB"),
    ],
)
async def test_a_failing_error_expression_is_final_and_replaces_every_outcome(
    expression: str, kind: str, words: str
) -> None:
    headers = {"errorExpression": expression, "retryBackoff": "PT5S"}
    for function in (giving({"x": 1}), raising_one):
        command = await failed(function, job_with(headers=headers))
        assert (command.retries, command.backoff_ms) == (0, None)
        assert error_of(command)["type"] == kind
        assert words in error_of(command)["message"]
        assert "code" not in error_of(command)


async def test_messages_are_cut_at_6000_characters() -> None:
    long = "x" * 7000

    async def function() -> None:
        raise ConnectorException(long)

    assert (await failed(function, job_with())).message == "x" * 6000
    for expression in ("=jobError(response)", '=bpmnError("C", response)'):
        command = await command_of(long, {"errorExpression": expression})
        assert command.message == "x" * 6000  # type: ignore[union-attr]


# ---- the call --------------------------------------------------------------------------------------------------------


async def test_a_plain_function_runs_in_a_thread() -> None:
    def function() -> bool:
        return threading.current_thread() is threading.main_thread()

    answer, _ = await handled(function, job_with(headers={"resultVariable": "r"}))
    assert answer.command == Complete('{"r":false}')


async def stopping() -> None:
    sys.exit(3)


def stopping_in_a_thread() -> None:
    sys.exit(3)


def exhausted() -> None:
    next(iter([]))


async def cancelling_itself() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (stopping, "The connector tried to end the process"),
        (stopping_in_a_thread, "The connector tried to end the process"),
        (exhausted, "The connector raised StopIteration"),
        (cancelling_itself, "The connector cancelled itself"),
    ],
)
async def test_whatever_a_connector_does_the_job_is_answered(function: Any, words: str) -> None:
    command = await failed(function, job_with())
    assert command.retries == 2
    assert error_of(command) == {"type": "builtins.RuntimeError", "message": words}


async def test_a_job_that_is_cancelled_from_outside_is_not_answered() -> None:
    started = asyncio.Event()

    async def function() -> None:
        started.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(handled(function, job_with(headers={"errorExpression": "=ignoreError()"})))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# ---- binding ---------------------------------------------------------------------------------------------------------


async def bound(request: Anything) -> Any:
    return request.a


@pytest.mark.parametrize("variables", ['{"a": {{secrets.X}}', "[1]", "5", '{"a": NaN}', ""])
async def test_variables_that_are_no_object_are_an_input_error(variables: str) -> None:
    command = await failed(bound, job_with(variables.replace("{{secrets.X}}", "x")))
    assert command.retries == 0
    assert error_of(command) == {"type": INPUT, "message": "This is not a JSON object"}


async def test_input_that_cannot_be_bound_or_breaks_constraints_is_an_input_error() -> None:
    async def function(request: Strict) -> None: ...

    command = await failed(function, job_with({"n": "x"}))
    assert error_of(command) == {
        "type": INPUT,
        "message": "Json object contains an invalid field: n. It Must be `Integer`",
    }
    command = await failed(function, job_with({}))
    assert "\n - Property: n: Validation failed. Original message: must not be null" in error_of(command)["message"]


async def test_deep_input_is_an_input_error() -> None:
    command = await failed(bound, job_with('{"a":' * 5000 + "1" + "}" * 5000))
    assert command.retries == 0


async def read_text(request: Strict) -> Any:
    return request.text


INLINE = {"camunda.document.type": "inline", "content": "hi", "name": "n"}


@pytest.mark.parametrize("given", [INLINE, [INLINE], {"camunda.function.type": "base64", "params": [INLINE]}])
async def test_documents_and_functions_are_resolved_while_binding(given: Any) -> None:
    job = job_with({"n": 1, "text": given}, {"resultVariable": "r"})
    answer, _ = await handled(read_text, job)
    assert answer.response == base64.b64encode(b"hi").decode()


async def test_untyped_values_hold_documents_and_results_write_them_as_references() -> None:
    async def function(request: Anything) -> Any:
        assert isinstance(request.a["list"][0]["doc"], Document)
        return request.a

    job = job_with({"a": {"list": [{"doc": INLINE}]}}, {"resultVariable": "r"})
    answer, _ = await handled(function, job)
    assert isinstance(answer.command, Complete)
    assert jsontext.loads(answer.command.variables) == {"r": {"list": [{"doc": INLINE}]}}


async def test_an_external_document_that_is_not_there_is_a_connector_error_with_the_response() -> None:
    external = {"camunda.document.type": "external", "url": "http://files.example/x", "name": "n"}
    http = FakeHttp(lambda _: (404, {"why": "gone"}))
    command = await failed(read_text, job_with({"n": 1, "text": external}), http=http)
    error = error_of(command)
    assert command.retries == 2
    assert (error["type"], error["code"]) == ("io.camunda.connector.api.error.ConnectorException", "404")
    assert error["variables"]["response"]["body"] == {"why": "gone"}


@pytest.mark.parametrize(
    ("given", "retries", "words"),
    [
        ({"camunda.document.type": "ftp"}, 0, "invalid document reference: camunda.document.type: expected camunda"),
        ({"camunda.document.type": "inline"}, 0, "invalid document reference: content: expected text"),
        ({"camunda.function.type": "nope"}, 2, "Failed to execute intrinsic function: nope"),
        ([{"camunda.function.type": "base64", "params": ["x"]}] * 11, 2, "Intrinsic function limit exceeded"),
    ],
)
async def test_what_cannot_be_resolved_fails_the_job(given: Any, retries: int, words: str) -> None:
    command = await failed(bound, job_with({"a": given}))
    assert command.retries == retries
    assert words in error_of(command)["message"]


# ---- operations ------------------------------------------------------------------------------------------------------


class Files:
    @operation("read-file")
    async def read(
        self, path: Annotated[str, Variable("path.name")], mode: Annotated[str, Header("mode")] = "r"
    ) -> str:
        return f"{path} {mode}"

    @operation()
    async def fails(self) -> None:
        raise ConnectorRetryException("m", code="c", retries=7)


FILES = outbound_connector("Files", type="files:1")(Files)


async def test_the_header_chooses_the_operation() -> None:
    headers = {"operation": "read-file", "resultVariable": "r", "mode": "w"}
    answer, _ = await handled(FILES, job_with({"path.name": "a", "path": {"name": "b"}}, headers))
    assert answer.response == "a w"


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "Operation ID is missing in the job context custom headers."),
        ({"operation": ""}, "Operation ID is missing in the job context custom headers."),
        ({"operation": "nope"}, "Operation not found: nope"),
        ({"operation": "read-file"}, "Required variable 'path.name' is missing in the job variables."),
    ],
)
async def test_an_operation_that_cannot_be_called_is_an_input_error(headers: dict[str, str], message: str) -> None:
    command = await failed(FILES, job_with({}, headers))
    assert command.retries == 0
    assert error_of(command) == {"type": INPUT, "message": message}


async def test_what_an_operation_raises_keeps_its_type_and_code() -> None:
    command = await failed(FILES, job_with({}, {"operation": "fails"}))
    assert command.retries == 7
    assert error_of(command)["code"] == "c"


# ---- the job's own timeout -------------------------------------------------------------------------------------------


async def test_the_job_timeout_is_set_before_the_call() -> None:
    asked: list[tuple[int, int]] = []

    async def extend(job_key: int, milliseconds: int) -> None:
        asked.append((job_key, milliseconds))

    async def function(job: JobContext) -> None:
        assert asked == [(1, 3_600_000)]
        assert 3590 < job.remaining <= 3600

    answer, _ = await handled(function, job_with(headers={"jobTimeout": "PT1H"}), extend=extend)
    assert answer.command == Complete("{}")


async def called(job: JobContext) -> str:
    return "called"


async def test_a_transient_failure_of_it_is_no_hindrance_and_any_other_costs_a_retry() -> None:
    async def away(job_key: int, milliseconds: int) -> None:
        raise Unavailable("away")

    async def gone(job_key: int, milliseconds: int) -> None:
        raise NotFound("no such job")

    job = job_with(headers={"jobTimeout": "PT1H", "resultVariable": "r"})
    answer, _ = await handled(called, job, extend=away)
    assert answer.response == "called"
    command = await failed(called, job, extend=gone)
    assert command.retries == 2
    assert error_of(command)["message"] == "no such job"


async def test_a_deadline_that_has_passed_already_is_an_illegal_state() -> None:
    clock = [0.0]

    async def slow(job_key: int, milliseconds: int) -> None:
        clock[0] += 10

    command = await failed(called, job_with(headers={"jobTimeout": "PT5S"}), extend=slow, now=lambda: clock[0])
    assert command.retries == 2
    assert error_of(command)["type"] == "java.lang.IllegalStateException"


# ---- document returns and ad-hoc sub-processes -----------------------------------------------------------------------


async def test_a_document_return_is_converted_as_the_user_chose() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"hi"

    async def function(job: JobContext) -> DocumentReturn:
        return DocumentReturn(chunks(), "text/plain", "a.txt", lambda value, _: {"body": value, "status": 200})

    for choice, body in (("TEXT", "hi"), ("JSON", None), ("DOCUMENT", None)):
        job = job_with({"documentReturnFormat": {"choice": choice}}, {"resultVariable": "r"})
        answer, _ = await handled(function, job)
        if choice == "JSON":
            assert isinstance(answer.command, Fail)
        else:
            assert answer.response["body"] == body or answer.response["body"]["metadata"]["fileName"] == "a.txt"


async def test_an_unknown_format_fails_before_the_call_as_an_input_error() -> None:
    command = await failed(called, job_with({"documentReturnFormat": {"choice": "XML"}}))
    assert command.retries == 0
    assert error_of(command)["message"] == "documentReturnFormat.choice must be one of DOCUMENT, TEXT, JSON. Got: XML"


RESPONSE = AdHocSubProcessResponse(
    response_value={"x": 1},
    variables={"v": object()},
    element_activations=(ElementActivation("one", {"a": 1}), ElementActivation("two")),
    completion_condition_fulfilled=True,
)


async def test_an_ad_hoc_response_has_its_own_result_and_ignores_the_result_headers() -> None:
    command = await command_of(RESPONSE, {"resultVariable": "r", "resultExpression": "=5"})
    assert command == Complete(
        '{"v":{}}', AdHocResult((Activation("one", '{"a":1}'), Activation("two", "{}")), True, False)
    )


async def test_its_error_expression_sees_the_response_value() -> None:
    command = await command_of(RESPONSE, {"errorExpression": '=bpmnError("C", string(x) + string(response.x))'})
    assert command == Throw("C", "11", "{}")
    ignored = await command_of(RESPONSE, {"errorExpression": "=ignoreError({a: x})"})
    assert ignored == Fail(0, "IgnoreError is not supported for this connector", '{"a":1}')


async def test_empty_parts_of_an_ad_hoc_response_are_empty() -> None:
    response = AdHocSubProcessResponse(variables=None, element_activations=None)  # type: ignore[arg-type]
    assert await command_of(response, {}) == Complete("{}", AdHocResult())


@pytest.mark.parametrize(
    ("variables", "words"), [({"a": "x" * 1_600_000}, "exceeds the 1.5 MB"), ([1], "Variables must be an object")]
)
async def test_its_variables_are_checked(variables: Any, words: str) -> None:
    for response in (
        AdHocSubProcessResponse(variables=variables),
        AdHocSubProcessResponse(element_activations=(ElementActivation("e", variables),)),
    ):
        command = await command_of(response, {})
        assert isinstance(command, Fail)
        assert command.retries == 0
        assert words in command.message


# ---- what is beyond the answer ---------------------------------------------------------------------------------------


async def test_the_context_and_the_exception_come_with_the_answer() -> None:
    answer, context = await handled(bound, job_with({"a": 1}, {"resultVariable": "r"}))
    assert (answer.response, answer.error) == (1, None)
    assert context is not None
    assert context.job.key == 1
    answer, _ = await handled(raising_one, job_with())
    assert isinstance(answer.error, ConnectorException)


def test_normalizing_leaves_plain_scalars_alone() -> None:
    for value in (None, True, 5, "x"):
        assert normalize(value) is value
    with pytest.raises(ConnectorInputException):
        normalize(["\ud800"])
