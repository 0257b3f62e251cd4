"""SIGTERM: what runs is finished within the grace, the rest is handed back at once with its retries, the exit code is 0."""

import asyncio
import time
from typing import Any

import pytest

from gateway.engine import JobActivation
from gateway.outbound.worker import HANDED_BACK
from tests.faults.rig import at_work, client, until
from tests.real.processes import EngineProcess

pytestmark = pytest.mark.real


async def test_running_handlers_are_finished_and_the_others_handed_back(
    test_engine: EngineProcess, record_property: Any
) -> None:
    async with at_work(test_engine, settings={"GATEWAY_SHUTDOWN_GRACE": "1500ms"}) as (gateway, work):
        await work.start(3, seconds=0.8)
        await work.start(3, seconds=600)
        await until(lambda: gateway.calls().total() == 6, 5)
        seconds, code = await gateway.stop()
        record_property("seconds", seconds)
        assert code == 0
        assert 1.0 < seconds < 1.5 + 5 + 2
        jobs = await work.jobs()
        assert sorted(job["state"] for job in jobs) == ["ACTIVATABLE"] * 3 + ["COMPLETED"] * 3
        assert {job["retries"] for job in jobs} == {3}
        assert gateway.calls() == {str(n): 1 for n in range(6)}


async def test_the_window_of_a_full_worker_is_with_another_within_two_seconds(
    test_engine: EngineProcess, record_property: Any
) -> None:
    settings = {"CAMUNDA_CLIENT_WORKER_DEFAULTS_MAXJOBSACTIVE": "2", "GATEWAY_SHUTDOWN_GRACE": "4s"}
    async with at_work(test_engine, settings=settings) as (gateway, work), client(test_engine) as other:
        await work.start(202, seconds=600)
        await until(lambda: gateway.calls().total() == 2, 5)
        pushed = (await work.states())["ACTIVATED"]
        assert pushed > 100, "the stream's window holds what the worker has no permit for"
        activation = JobActivation(work.type, "other", 60_000)
        stream = other.stream_jobs(activation)
        taken: dict[int, int] = {}

        async def read() -> None:
            while (job := await stream.read()) is not None:
                taken[job.key] = job.retries

        async def poll() -> None:
            while True:
                for job in await other.activate_jobs(activation, 100):
                    taken[job.key] = job.retries
                await asyncio.sleep(0.05)

        tasks = [asyncio.create_task(read()), asyncio.create_task(poll())]
        began = time.monotonic()
        stopping = asyncio.create_task(gateway.stop())
        took = await until(lambda: len(taken) >= 200, 2.0)
        record_property("hand_back_seconds", took)
        print(f"200 jobs handed back in {took:.2f} s, {pushed} had been pushed")
        _, code = await stopping
        await until(lambda: len(taken) == 202, 2.0)
        assert time.monotonic() - began < 4 + 5 + 2
        assert code == 0
        assert set(taken.values()) == {3}
        assert gateway.calls().total() == 2
        assert all(job["errorMessage"] in {"", None, HANDED_BACK} for job in await work.jobs())
        stream.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("what", ["stubborn", "thread"])
async def test_a_handler_that_never_ends_does_not_keep_the_process(test_engine: EngineProcess, what: str) -> None:
    settings = {"GATEWAY_SHUTDOWN_GRACE": "300ms"}
    async with at_work(test_engine, settings=settings) as (gateway, work):
        if what == "thread":
            await gateway.kill()
            gateway._environment |= {"CONNECTOR_SUBJECT_TYPE": "unused", "CONNECTOR_THREAD_TYPE": work.type}
            await gateway.start()
        await work.start(1, do=what, seconds=600)
        await until(lambda: gateway.calls().total() == 1, 5)
        seconds, code = await gateway.stop()
        assert code == 0, gateway.text()[-2000:]
        assert seconds < 0.3 + 5 + 2 + 2
        assert await work.states() == {"ACTIVATABLE": 1}
        assert (await work.jobs())[0]["retries"] == 3


async def test_an_idle_gateway_ends_at_once(test_engine: EngineProcess) -> None:
    async with at_work(test_engine) as (gateway, _):
        seconds, code = await gateway.stop()
        assert (code, seconds < 2) == (0, True)
