"""A whole process on the embedded engine, with virtual time."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.sdk import ConnectorException, ConnectorInputException, outbound_connector
from gateway.testing import EngineRun, engine
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
