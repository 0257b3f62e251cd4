"""Failed jobs: retries and back-off of every kind of failure, and no secret in any of them."""

import base64
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from gateway.engine import EngineError, Job, Unavailable
from gateway.http_client import HttpTimeout
from gateway.outbound.failing import JobSecrets
from gateway.sdk import (
    ConnectorException,
    ConnectorInputException,
    ConnectorRetryException,
    JobContext,
    Variable,
)
from gateway.secrets import Masker, SecretFilter, Secrets
from tests.flow.models import process
from tests.outbound.models import Vault, error_of, failed, handled, job_with

INPUT = "io.camunda.connector.api.error.ConnectorInputException"
CONCEALED = (
    "Fetching secrets failed, original error can't be displayed as the error message might contain secrets: "
    "the vault is sealed"
)


class Request(BaseModel):
    a: Any = None


def raising(error: Exception, cause: Exception | None = None) -> Any:
    async def function(request: Request) -> None:
        raise error from cause

    return function


async def fine(request: Request) -> Any:
    return request.a


# ---- retries and back-off --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "cause", "retries", "backoff_ms"),
    [
        (ValueError("m"), None, 2, 5000),
        (ConnectorException("m", code="c"), None, 2, 5000),
        (HttpTimeout(), None, 2, 5000),
        (ConnectorInputException("m"), None, 0, 5000),
        (ValueError("m"), ConnectorInputException("m"), 0, 5000),
        (ConnectorRetryException("m"), None, 2, 5000),
        (ConnectorRetryException("m", retries=4), None, 4, 5000),
        (ConnectorRetryException("m", retries=4, backoff=timedelta(seconds=1.5)), None, 4, 1500),
        (ConnectorRetryException("m", backoff=timedelta(0)), None, 2, 0),
        (ConnectorRetryException("m", backoff=timedelta(seconds=-1)), None, 2, 0),
    ],
)
async def test_retries_and_backoff(error: Exception, cause: Exception | None, retries: int, backoff_ms: int) -> None:
    command = await failed(raising(error, cause), job_with(headers={"retryBackoff": "PT5S"}))
    assert (command.retries, command.backoff_ms) == (retries, backoff_ms)


async def test_without_the_header_no_backoff_is_sent() -> None:
    assert (await failed(raising(ValueError()), job_with())).backoff_ms is None


async def test_retries_do_not_go_below_zero() -> None:
    assert (await failed(raising(ValueError()), job_with(retries=0))).retries == 0


@pytest.mark.parametrize("header", [{"retryBackoff": "x"}, {"retryBackoff": "PT5S", "jobTimeout": "x"}])
async def test_a_header_that_cannot_be_used_fails_at_once_without_backoff(header: dict[str, str]) -> None:
    async def function(job: JobContext) -> None:
        pytest.fail("the connector was called")

    command = await failed(function, job_with(headers=header))
    assert (command.retries, command.backoff_ms) == (0, None)
    assert "Expected ISO-8601 duration" in command.message


async def test_a_failure_is_logged_with_the_job_and_its_masked_message() -> None:
    job = job_with({"a": "{{secrets.T}}"}, {"mine": "header"})
    with capture_logs() as logs:
        await failed(raising(ConnectorException("with t0psecret")), job, providers=[Vault(T="t0psecret")])
    (line,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert line["message"] == "with ***"
    assert line["headers"] == '{"mine":"header"}'
    assert (line["job"], line["type"], line["tenant"], line["process"], line["process_version"]) == (
        1,
        "c:1",
        "<default>",
        "p",
        1,
    )
    assert (line["process_definition"], line["process_instance"]) == (3, 2)
    assert "t0psecret" not in str(logs)


# ---- secrets ---------------------------------------------------------------------------------------------------------


async def test_a_missing_secret_is_an_input_error_that_names_it_and_wins_over_validation() -> None:
    async def function(x: Annotated[int, Variable("x")]) -> None: ...

    job = job_with({"x": "{{secrets.A}} {{secrets.MISSING}}"}, {"retryBackoff": "PT5S"})
    command = await failed(function, job, providers=[Vault(A="no number")])
    assert (command.retries, command.backoff_ms) == (0, 5000)
    assert error_of(command) == {"type": INPUT, "message": "Secret with name 'MISSING' is not available"}


async def test_a_connector_that_reads_no_variables_needs_no_secrets() -> None:
    async def function(job: JobContext) -> int:
        return 1

    vault = Vault()
    answer, _ = await handled(function, job_with({"x": "{{secrets.MISSING}}"}), providers=[vault])
    assert answer.response == 1
    assert vault.asked == []


async def test_every_spelling_of_a_secret_is_masked_in_message_and_variables_but_not_in_the_code() -> None:
    secret = 'p"w /d\n'
    encoded = base64.b64encode(f"user:{secret}".encode()).decode()
    error = ConnectorException(f"with {secret} as {encoded}", code=secret, variables={f"k{secret}": [{"v": secret}]})
    command = await failed(raising(error), job_with({"a": "{{secrets.T}}"}), providers=[Vault(T=secret)])
    found = error_of(command)
    assert found["code"] == secret
    assert found["variables"] == {"k***": [{"v": "***"}]}
    assert found["message"].startswith("with *** as ")
    assert encoded[8:-4] not in found["message"]


async def test_a_secret_that_was_used_is_masked_though_it_was_replaced_in_the_meantime() -> None:
    vault = Vault(T="the old one")

    async def function(request: Request) -> None:
        vault.values["T"] = "the new one"
        raise ConnectorException(f"with {request.a}")

    command = await failed(function, job_with({"a": "{{secrets.T}}"}), providers=[vault])
    assert error_of(command)["message"] == "with ***"
    assert vault.asked == ["T"]


async def test_a_secret_within_a_secret_is_masked_too() -> None:
    async def function(request: Request) -> None:
        raise ConnectorException(f"with {request.a}")

    job = job_with({"a": "{{secrets.A}}", "b": "{{secrets.A}}"})
    command = await failed(function, job, providers=[Vault(A="outer {{secrets.B}}", B="inner value")])
    assert error_of(command)["message"] == "with outer ***"


async def test_an_error_expression_sees_masked_texts_only() -> None:
    headers = {"errorExpression": '=bpmnError("C", error.message + error.variables.x)'}
    error = ConnectorException("m t0psecret ", variables={"x": "v t0psecret"})
    answer, _ = await handled(
        raising(error), job_with({"a": "{{secrets.T}}"}, headers), providers=[Vault(T="t0psecret")]
    )
    assert answer.command.message == "m *** v ***"  # type: ignore[union-attr]


async def test_when_the_secrets_cannot_be_fetched_the_original_message_stays_hidden() -> None:
    vault = Vault(T="t0psecret")

    async def function(job: JobContext) -> None:
        vault.broken = RuntimeError("the vault is sealed")
        raise ConnectorException("with t0psecret", code="c")

    job = job_with({"a": "{{secrets.T}}"}, {"retryBackoff": "PT5S"})
    command = await failed(function, job, providers=[vault])
    assert (command.retries, command.backoff_ms) == (2, None)
    assert error_of(command) == {"type": "builtins.RuntimeError", "message": CONCEALED}
    assert command.message.startswith(CONCEALED)


async def test_a_provider_that_breaks_before_the_call_costs_a_retry_and_the_error_expression_sees_it() -> None:
    vault = Vault()
    vault.broken = RuntimeError("the vault is sealed")
    headers = {"retryBackoff": "PT5S", "resultVariable": "r"}
    command = await failed(fine, job_with({"a": "{{secrets.T}}"}, headers), providers=[vault])
    assert (command.retries, command.backoff_ms) == (2, None)
    assert error_of(command)["message"] == CONCEALED


async def test_when_that_happens_after_the_outcome_was_known_the_job_keeps_its_retries() -> None:
    vault = Vault(T="t0psecret")

    async def function(job: JobContext) -> str:
        vault.broken = RuntimeError("the vault is sealed")
        return "done"

    job = job_with({"a": "{{secrets.T}}"}, {"errorExpression": "=42", "retryBackoff": "PT5S"})
    command = await failed(function, job, providers=[vault])
    assert (command.retries, command.backoff_ms) == (3, None)
    assert error_of(command)["message"] == CONCEALED


@pytest.mark.parametrize("name", ["A", "B"])
async def test_names_that_the_model_does_not_give_stay_and_are_not_looked_up(name: str) -> None:
    class Only(SecretFilter):
        async def allowed(self, process_definition_key: int, element_id: str) -> Any:
            assert (process_definition_key, element_id) == (3, "task")
            return {"A"}.__contains__

    vault = Vault(A="value a", B="value b")
    job = job_with({"a": f"{{{{secrets.{name}}}}}"}, {"resultVariable": "r"})
    answer, _ = await handled(fine, job, providers=[vault], secret_filter=Only(None))  # type: ignore[arg-type]
    assert answer.response == ("value a" if name == "A" else "{{secrets.B}}")
    assert vault.asked == [n for n in [name] if n == "A"]


async def test_while_the_model_cannot_be_read_the_job_keeps_its_retries_and_waits() -> None:
    async def away(key: int) -> str:
        raise Unavailable("no engine")

    secret_filter = SecretFilter(away, delays=())
    for function in (fine, raising(ConnectorException("with a secret perhaps"))):
        command = await failed(function, job_with({"a": "{{secrets.A}}"}), secret_filter=secret_filter)
        assert (command.retries, command.backoff_ms) == (3, 5000)
        assert error_of(command) == {
            "type": "java.lang.IllegalArgumentException",
            "message": "Error retrieving secret keys: no engine",
        }


async def test_without_a_mention_of_secrets_nobody_is_asked() -> None:
    class Never(SecretFilter):
        async def allowed(self, process_definition_key: int, element_id: str) -> Any:
            raise EngineError("asked")

    job: Job = job_with({"a": "secret"})
    hidden = JobSecrets(Secrets([Vault()]), Never(None), job)  # type: ignore[arg-type]
    assert await hidden.replaced() is job.variables
    assert (await hidden.mask())("secret") == "secret"


# ---- secrets by their names ------------------------------------------------------------------------------------------


def by_name(*names: str) -> Any:
    """A connector that fails with the secrets in its message."""

    async def function(job: JobContext) -> None:
        values = [await job.secret(name) for name in names]
        raise ConnectorException(f"with {values}", variables={"of": values})

    return function


def naming(source: str) -> SecretFilter:
    """The filter in mode STRICT, for a model whose element has one input."""

    async def xml(key: int) -> str:
        return process("p", {"neverFetched": source}, {})

    return SecretFilter(xml, delays=())


async def test_a_secret_that_the_model_names_is_given_once_and_masked_in_the_failed_job_and_the_log() -> None:
    vault = Vault(KEY="t0psecret")
    with capture_logs() as logs:
        command = await failed(
            by_name("KEY", "KEY"), job_with(), providers=[vault], secret_filter=naming("{{secrets.KEY}}")
        )
    assert error_of(command)["message"] == "with ['***', '***']"
    assert error_of(command)["variables"] == {"of": ["***", "***"]}
    assert command.retries == 2
    assert vault.asked == ["KEY"]
    assert [line["message"] for line in logs if line["log_level"] == "error"] == ["with ['***', '***']"]
    assert "t0psecret" not in f"{logs} {command}"


@pytest.mark.parametrize(
    ("source", "values", "asked"), [("{{secrets.OTHER}}", {"KEY": "t0psecret"}, []), ("{{secrets.KEY}}", {}, ["KEY"])]
)
async def test_a_secret_that_the_job_may_not_use_is_as_unavailable_as_one_that_nobody_has(
    source: str, values: dict[str, str], asked: list[str]
) -> None:
    vault = Vault(**values)
    command = await failed(by_name("KEY"), job_with(), providers=[vault], secret_filter=naming(source))
    assert error_of(command) == {"type": INPUT, "message": "Secret with name 'KEY' is not available"}
    assert (command.retries, vault.asked) == (0, asked)


async def test_a_connector_may_do_without_a_secret_that_is_not_there() -> None:
    async def function(job: JobContext) -> str:
        try:
            return await job.secret("KEY")
        except ConnectorInputException:
            return "none"

    answer, _ = await handled(function, job_with(), providers=[Vault()])
    assert answer.response == "none"


async def test_a_secret_fetched_after_a_text_was_masked_is_masked_in_the_next() -> None:
    hidden = JobSecrets(
        Secrets([Vault(A="first one", B="second one")]), naming("{{secrets.A}} {{secrets.B}}"), job_with()
    )
    assert (await hidden.mask())("first one, second one") == "first one, second one"
    await hidden.get("A")
    assert (await hidden.mask())("first one, second one") == "***, second one"
    await hidden.get("B")
    assert (await hidden.mask())("first one, second one") == "***, ***"


async def test_a_secret_by_its_name_is_the_one_that_the_variables_got() -> None:
    vault = Vault(T="the old one")

    async def function(request: Request, job: JobContext) -> bool:
        vault.values["T"] = "the new one"
        return bool(await job.secret("T") == request.a)

    answer, _ = await handled(function, job_with({"a": "{{secrets.T}}"}), providers=[vault])
    assert answer.response is True


async def test_a_secret_by_its_name_is_masked_in_what_connectors_log() -> None:
    masker = Masker()
    await JobSecrets(Secrets([Vault(KEY="t0psecret")], masker), naming("{{secrets.KEY}}"), job_with()).get("KEY")
    assert masker("logged: t0psecret") == "logged: ***"


async def test_an_error_expression_sees_a_secret_by_its_name_masked() -> None:
    headers = {"errorExpression": '=bpmnError("C", error.message)'}
    answer, _ = await handled(by_name("KEY"), job_with(headers=headers), providers=[Vault(KEY="t0psecret")])
    assert answer.command.message == "with ['***']"  # type: ignore[union-attr]


async def test_while_the_model_cannot_be_read_a_job_that_asks_for_a_secret_keeps_its_retries() -> None:
    async def away(key: int) -> str:
        raise Unavailable("no engine")

    command = await failed(by_name("KEY"), job_with(), secret_filter=SecretFilter(away, delays=()))
    assert (command.retries, command.backoff_ms) == (3, 5000)
    assert error_of(command)["message"] == "Error retrieving secret keys: no engine"
