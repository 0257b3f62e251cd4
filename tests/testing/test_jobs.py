"""The test kit for authors: one job through the real flow, without an engine and without a network."""

import inspect
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import gateway.testing
from gateway import sdk
from gateway.http_client import HttpClient
from gateway.sdk import (
    ConnectorException,
    ConnectorInputException,
    InboundContext,
    JobContext,
    NotBlank,
    OutboundConnector,
    inbound_connector,
    outbound_connector,
)
from gateway.testing import FakeHttp, Outcome, call, engine, run_job

ORDER = """<definitions xmlns="http://www.omg.org/spec/BPMN/20100524/MODEL" targetNamespace="t"
  xmlns:zeebe="http://camunda.org/schema/zeebe/1.0"><process id="order" isExecutable="true"><startEvent id="s"/>
  <sequenceFlow id="f1" sourceRef="s" targetRef="t"/><sequenceFlow id="f2" sourceRef="t" targetRef="e"/>
  <serviceTask id="t"><extensionElements><zeebe:taskDefinition type="acme:weather:1"/><zeebe:taskHeaders>
  <zeebe:header key="resultExpression" value="={t: temperature}"/></zeebe:taskHeaders></extensionElements></serviceTask>
  <endEvent id="e"/></process></definitions>"""


def examples(docstring: str | None) -> str:
    """The code in a docstring: what is indented by four more than the prose."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line))


def weather_connector() -> OutboundConnector:
    """The connector in the docstring of the SDK."""
    source = examples(sdk.__doc__).partition("Exception  ")[0]
    names = {n: getattr(sdk, n) for n in sdk.__all__} | {"BaseModel": BaseModel, "Literal": Literal, "Any": Any}
    exec(source, names)
    found = names["weather"]
    assert isinstance(found, OutboundConnector)
    return found


async def test_the_examples_in_the_docstrings_are_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "order.bpmn").write_text(ORDER)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {n: getattr(gateway.testing, n) for n in gateway.testing.__all__}
    names["weather"], names["ticker"] = weather_connector(), ticker
    exec(examples(gateway.testing.__doc__), names)
    await names["test_weather"]()
    await names["test_order"](engine)
    await names["test_ticker"]()


class TickerSettings(BaseModel):
    interval: float


@inbound_connector("Ticker", type="acme:ticker:1")
async def ticker(settings: TickerSettings, source: InboundContext) -> None:
    source.report_health("UP")
    while True:
        await source.correlate({})
        await source.sleep(settings.interval)


class Request(BaseModel):
    city: NotBlank
    token: str = ""


@outbound_connector("Weather", type="acme:weather:1")
async def weather(request: Request, job: JobContext) -> dict[str, Any]:
    reply = await job.http.get(f"https://weather.example/{request.city}", headers={"Authorization": request.token})
    reply.raise_for_status()
    return {"city": request.city, **reply.json()}


async def test_a_completed_job_tells_variables_and_response() -> None:
    http = FakeHttp(lambda request: {"t": 21})
    outcome = await run_job(weather, {"city": "Oslo"}, http=http, headers={"resultVariable": "r"})
    assert outcome == Outcome("completed", {"r": {"city": "Oslo", "t": 21}}, {"city": "Oslo", "t": 21})
    assert outcome.error is None


async def test_variables_may_be_text_and_secrets_are_put_in() -> None:
    http = FakeHttp(lambda request: {})
    variables = '{"city": "Oslo", "token": "Bearer {{secrets.TOKEN}}"}'
    await run_job(weather, variables, http=http, secrets={"TOKEN": "t0p"})
    assert dict(http.requests[0].headers)["Authorization"] == "Bearer t0p"


async def test_a_connector_gets_a_secret_by_its_name_and_a_failure_shows_none() -> None:
    @outbound_connector("Keyed", type="acme:keyed:1")
    async def keyed(job: JobContext) -> None:
        raise ConnectorException(f"refused {await job.secret('KEY')}")

    assert (await run_job(keyed, secrets={"KEY": "t0psecret"})).error["message"] == "refused ***"
    missing = await run_job(keyed)
    assert missing.error["message"] == "Secret with name 'KEY' is not available"
    assert (missing.retries, type(missing.exception)) == (0, ConnectorInputException)


async def test_a_failed_job_tells_all_that_the_engine_would_get() -> None:
    http = FakeHttp(lambda request: (503, {"why": "closed"}))
    headers = {"retryBackoff": "PT5S"}
    outcome = await run_job(weather, {"city": "Oslo"}, http=http, headers=headers, retries=2)
    assert (outcome.kind, outcome.retries, outcome.backoff_ms) == ("failed", 1, 5000)
    assert outcome.error["code"] == "503"
    assert outcome.error["variables"]["response"]["body"] == {"why": "closed"}
    assert (outcome.message or "").startswith("Error | Error variables: ")
    assert type(outcome.exception).__name__ == "HttpStatusError"


async def test_a_bpmn_error_tells_its_code() -> None:
    headers = {"errorExpression": '=bpmnError("COLD", "brr", {t: t})'}
    outcome = await run_job(weather, {"city": "Oslo"}, http=FakeHttp(lambda _: {"t": -5}), headers=headers)
    assert (outcome.kind, outcome.code, outcome.message, outcome.variables) == ("bpmn error", "COLD", "brr", {"t": -5})


async def test_call_gives_the_response_or_raises_what_the_connector_raised() -> None:
    assert await call(weather, {"city": "Oslo"}, http=FakeHttp(lambda _: {"t": 1})) == {"city": "Oslo", "t": 1}
    with pytest.raises(ConnectorInputException, match="must not be blank"):
        await call(weather, {"city": " "})

    @outbound_connector("C", type="c:1")
    async def fails() -> None:
        raise ConnectorException("m", code="c")

    with pytest.raises(ConnectorException, match="m"):
        await call(fails)


async def test_nothing_reaches_the_network_by_accident() -> None:
    outcome = await run_job(weather, {"city": "Oslo"})
    assert outcome.kind == "failed"
    assert "the connector calls weather.example: give http=FakeHttp(...)" in (outcome.message or "")


async def test_the_real_client_can_be_given() -> None:
    async with HttpClient() as client:
        outcome = await run_job(weather, {"city": "Oslo"}, http=client, headers={"jobTimeout": "x"})
    assert outcome.retries == 0


async def test_facts_of_the_job_can_be_given_and_keys_differ() -> None:
    @outbound_connector("C", type="c:1")
    async def facts(job: JobContext) -> Any:
        return [job.job.element_id, job.job.tenant_id, job.job.process_instance_key, job.job.retries, job.job.key]

    first = await call(facts, element_id="mine", tenant_id="t", process_instance_key=77, retries=9)
    second = await call(facts)
    assert first[:4] == ["mine", "t", 77, 9]
    assert second[:2] == ["task", "<default>"]
    assert first[4] != second[4]


async def test_created_documents_can_be_looked_at() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"b"
        yield b"c"

    @outbound_connector("C", type="c:1")
    async def creates(job: JobContext) -> Any:
        await job.documents.create(b"a")
        return await job.documents.create(chunks(), file_name="x.txt")

    outcome = await run_job(creates, headers={"resultVariable": "r"})
    assert outcome.documents == (b"a", b"bc")
    assert outcome.variables["r"]["metadata"]["fileName"] == "x.txt"


async def test_a_service_is_open_while_the_job_runs() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def pool() -> AsyncIterator[str]:
        events.append("open")
        yield "pool"
        events.append("closed")

    async def function(client: str) -> str:
        events.append("called")
        return client

    assert await call(outbound_connector("C", type="c:1", service=pool)(function)) == "pool"
    assert events == ["open", "called", "closed"]
