"""A whole process on the embedded engine, with virtual time."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from pydantic import BaseModel

from connectors.webhook import webhook
from gateway.inbound.executable import State
from gateway.sdk import (
    ConnectorException,
    ConnectorInputException,
    InboundContext,
    WebhookRequest,
    WebhookResponse,
    inbound_connector,
    outbound_connector,
    webhook_connector,
)
from gateway.testing import EngineRun, engine
from tests.engine.embedded.models import element, end, process, task
from tests.inbound.models import properties
from tests.testing.test_jobs import ORDER


class Request(BaseModel):
    city: str


@outbound_connector("Weather", type="acme:weather:1")
async def weather(request: Request) -> dict[str, Any]:
    return {"temperature": len(request.city)}


async def test_a_process_is_deployed_and_its_jobs_are_worked() -> None:
    async with engine(ORDER, connectors=[weather]) as run:
        assert await run.result("order", {"city": "Oslo"}) == {"city": "Oslo", "t": 4}
        assert isinstance(await run.start("order", {"city": "Rome"}), int)


@pytest.mark.parametrize("kind", [str, Path])
async def test_the_process_may_be_a_file(tmp_path: Path, kind: type) -> None:
    (tmp_path / "order.bpmn").write_text(ORDER)
    async with engine(kind(tmp_path / "order.bpmn"), connectors=[weather]) as run:
        assert (await run.result("order", {"city": "Oslo"}))["t"] == 4


async def test_an_incident_is_told_instead_of_a_result() -> None:
    @outbound_connector("Weather", type="acme:weather:1")
    async def refuses() -> None:
        raise ConnectorInputException("no such city")

    async with engine(ORDER, connectors=[refuses]) as run:
        with pytest.raises(
            AssertionError, match="the instance of order stands at an incident: t: JOB_NO_RETRIES: no such"
        ):
            await run.result("order", {"city": "Oslo"})
        assert (await run.incident()).startswith("t: JOB_NO_RETRIES: no such city")


async def test_time_is_virtual_so_that_backoffs_need_no_waiting() -> None:
    called = asyncio.Event()

    @outbound_connector("Weather", type="acme:weather:1")
    async def second_time() -> dict[str, Any]:
        if not called.is_set():
            called.set()
            raise ConnectorException("not yet")
        return {"temperature": 1}

    model = ORDER.replace("<zeebe:taskHeaders>", '<zeebe:taskHeaders><zeebe:header key="retryBackoff" value="PT1H"/>')
    began = time.monotonic()
    async with engine(model, connectors=[second_time]) as run:
        result = asyncio.create_task(run.result("order", {"city": "Oslo"}))
        await called.wait()
        for _ in range(100):
            await run.advance(3601)
            if (await asyncio.wait({result}, timeout=0.05))[0]:
                break
        assert (await result)["t"] == 1
    assert time.monotonic() - began < 20


async def test_an_instance_that_does_not_end_is_told() -> None:
    async with engine(ORDER) as run:
        with pytest.raises(AssertionError, match=r"the instance of order did not end within 0\.05 s"):
            await run.result("order", timeout=0.05)


async def test_secrets_and_settings_are_those_of_the_test() -> None:
    model = ORDER.replace(
        "<zeebe:taskHeaders>",
        '<zeebe:ioMapping><zeebe:input source="{{secrets.CITY}}" target="city"/></zeebe:ioMapping><zeebe:taskHeaders>',
    )
    async with engine(model, connectors=[weather], secrets={"CITY": "Reykjavik"}) as run:
        assert (await run.result("order"))["t"] == 9


async def test_waiting_for_an_incident_that_does_not_come_fails() -> None:
    async with engine(ORDER, connectors=[weather]) as run:
        assert isinstance(run, EngineRun)
        with pytest.raises(AssertionError, match=r"no incident within 0\.05 s"):
            await run.incident(timeout=0.05)


# ---- inbound connectors ----------------------------------------------------------------------------------------------


class TickerSettings(BaseModel):
    interval: float
    token: str = ""


@inbound_connector("Ticker", type="acme:ticker:1")
async def ticker(settings: TickerSettings, source: InboundContext) -> None:
    """Event after event, each with its number."""
    async with source.window(32) as window:
        source.report_health("UP")
        number = 0
        while True:
            number += 1
            _ = await window.emit({"number": number, "token": settings.token}, id=str(number))
            await source.sleep(settings.interval)


def started_by(connector: str, given: dict[str, str], *nodes: str, flows: str = "s e") -> str:
    """A process `order` that events of a connector start."""
    return process(
        element("startEvent", "s", "", properties(given, type_=connector)), *nodes, end(), flows=flows
    ).replace("§", "order")


TICKING = {"interval": "0.01", "token": "{{secrets.TOKEN}}", "resultExpression": "={n: number, t: token}"}


async def test_events_of_an_inbound_connector_start_instances() -> None:
    async with engine(started_by(ticker.type, TICKING), connectors=[ticker], secrets={"TOKEN": "x"}) as run:
        assert run.runtime.inbound is not None
        (executable,) = run.runtime.inbound.supervisor.executables.values()
        assert executable.state is State.ACTIVATED, "it is at work from the first line on"
        instances = await run.ended("order", 5)
        assert [each["n"] for each in instances[:5]] == [1, 2, 3, 4, 5]
        assert instances[0]["t"] == "x"


async def test_inbound_and_outbound_connectors_work_one_process() -> None:
    model = started_by(
        ticker.type,
        {**TICKING, "resultExpression": '={city: "Oslo"}'},
        task("t", job_type=weather.type, headers={"resultExpression": "={t: temperature}"}),
        flows="s t e",
    )
    async with engine(model, connectors=[weather, ticker], secrets={"TOKEN": "x"}) as run:
        assert (await run.ended("order"))[0] == {"city": "Oslo", "t": 4}


async def test_a_post_to_a_webhook_starts_an_instance() -> None:
    given = {"inbound.context": "orders", "inbound.method": "any", "resultExpression": "={id: request.body.id}"}
    async with engine(started_by(webhook.type, given), connectors=[webhook]) as run, ClientSession() as client:
        async with client.post(f"{run.url}/inbound/orders", json={"id": 7}) as answer:
            assert answer.status == 200
        assert await run.ended("order") == [{"id": 7}]


async def test_a_webhook_of_ones_own_answers_as_it_says() -> None:
    @webhook_connector("Bell", type="acme:bell:1")
    async def bell(request: WebhookRequest, source: InboundContext) -> WebhookResponse:
        outcome = await source.correlate({"who": request.body})
        return WebhookResponse(202 if outcome.done else 500, "rung")

    model = started_by(bell.type, {"inbound.context": "bell", "resultVariable": "event"})
    async with engine(model, connectors=[bell]) as run, ClientSession() as client:
        async with client.post(f"{run.url}/inbound/bell", data="Ann") as answer:
            assert (answer.status, await answer.text()) == (202, "rung")
        assert await run.ended("order") == [{"event": {"who": "Ann"}}]


async def test_an_inbound_connector_that_is_not_given_is_shown_and_holds_up_nobody() -> None:
    async with engine(started_by("acme:other:1", {}), connectors=[ticker]) as run:
        assert run.runtime.inbound is not None
        (executable,) = run.runtime.inbound.supervisor.executables.values()
        assert executable.state is State.NOT_REGISTERED


async def test_without_inbound_connectors_nothing_looks_for_their_elements() -> None:
    async with engine(ORDER, connectors=[weather]) as run:
        assert run.runtime.inbound is None


async def test_instances_that_do_not_end_are_told_with_the_incident() -> None:
    @outbound_connector("Weather", type="acme:weather:1")
    async def refuses() -> None:
        raise ConnectorInputException("no such city")

    async with engine(ORDER, connectors=[refuses]) as run:
        await run.start("order", {"city": "Oslo"})
        await run.incident()
        with pytest.raises(
            AssertionError, match=r"0 of 2 instances of order ended within 0\.05 s; incident at t: no such city"
        ):
            await run.ended("order", 2, timeout=0.05)
