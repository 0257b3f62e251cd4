"""The engine, or the way to it, fails: nothing is lost, nothing is done twice that need not be, no restart is needed."""

import asyncio
import random
import socket
import time
from typing import Any

import pytest

from tests.faults.rig import Work, at_work, forward, until
from tests.proxy import FaultProxy
from tests.real.processes import EngineProcess, free_port, running_engine

pytestmark = pytest.mark.real


async def test_a_reset_connection_is_back_within_five_seconds_and_handlers_keep_going(
    test_engine: EngineProcess, record_property: Any
) -> None:
    async with (
        FaultProxy(test_engine.grpc_port) as proxy,
        at_work(test_engine, grpc_port=proxy.port) as (gateway, work),
    ):
        await work.start(5, seconds=1.5)
        await until(lambda: gateway.calls().total() == 5, 5)
        assert proxy.reset() > 0
        began = time.monotonic()
        await asyncio.sleep(0.1)  # what an engine sends before it has seen the reset comes after its lease only

        async def streaming() -> bool:
            noticed = await gateway.metric("camunda_client_worker_stream_inactivity_recreated_total") > 0
            return noticed and await work.streams() == 1

        took = await until(streaming, 5) + 0.1
        await work.start(20)
        await until(lambda: gateway.calls().total() == 25, 5)
        record_property("reconnect_seconds", took)
        print(f"working again {took:.2f} s after the reset")
        await work.until("COMPLETED", 25, seconds=5)
        assert time.monotonic() - began < 5
        assert set(gateway.calls().values()) == {1}


async def test_many_resets_under_load_lose_nothing(test_engine: EngineProcess) -> None:
    chance = random.Random(7)
    async with (
        FaultProxy(test_engine.grpc_port) as proxy,
        at_work(test_engine, grpc_port=proxy.port, settings={"CAMUNDA_CLIENT_WORKER_DEFAULTS_TIMEOUT": "4000"}) as (
            gateway,
            work,
        ),
    ):
        for _ in range(8):
            await work.start(40, seconds=chance.choice([0, 0.05, 0.3]))
            await asyncio.sleep(chance.uniform(0.05, 0.3))
            proxy.reset()
        await work.until("COMPLETED", 320, seconds=20)
        assert gateway.calls().keys() == {str(n) for n in range(320)}


async def test_the_engine_is_away_for_a_while_and_comes_back(record_property: Any) -> None:
    """As a cluster's gateway is that restarts: connections refused, then the same state as before."""
    settings = {"CAMUNDA_CLIENT_WORKER_DEFAULTS_TIMEOUT": "60000"}
    with running_engine() as engine:
        async with (
            FaultProxy(engine.grpc_port) as proxy,
            at_work(engine, grpc_port=proxy.port, settings=settings) as (gateway, work),
        ):
            await work.start(50, seconds=0.5)
            await until(lambda: gateway.calls().total() == 50, 5)
            await proxy.refuse()
            proxy.reset()
            await asyncio.sleep(0.1)
            await work.start(100)
            await asyncio.sleep(4)
            assert await gateway.status("/actuator/health/liveness") == 200
            tries = proxy.accepted
            await proxy.accept()
            took = await work.until("COMPLETED", 150, seconds=15)
            record_property("recovery_seconds", took)
            print(f"the backlog of an outage was done {took:.2f} s after its end")
            assert proxy.accepted - tries < 10, "no storm of connections"
            assert set(gateway.calls().values()) == {1}


async def test_an_engine_that_starts_later_than_the_gateway(record_property: Any) -> None:
    grpc_port, http_port = free_port(), free_port()
    with running_engine("--grpc", str(grpc_port), "--http", str(http_port)) as engine:
        async with at_work(engine) as (gateway, work):
            await gateway.kill()
            engine.stop()
            await until(lambda: not _listens(grpc_port), 5)
            starting = asyncio.create_task(gateway.start())

            async def waits() -> bool:
                return await gateway.status("/actuator/health/readiness") == 503

            await until(waits, 25)
            await asyncio.sleep(1)
            assert await waits()
            assert not starting.done()
            with running_engine("--grpc", str(grpc_port), "--http", str(http_port)):
                await asyncio.wait_for(starting, 20)
                assert await gateway.status("/actuator/health/readiness") == 200
                assert work.started == 0


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def test_a_lost_reply_to_a_completion_costs_no_second_call(test_engine: EngineProcess) -> None:
    async with (
        FaultProxy(test_engine.grpc_port) as proxy,
        at_work(test_engine, grpc_port=proxy.port) as (gateway, work),
    ):
        await work.start(5, seconds=0.5)
        await until(lambda: gateway.calls().total() == 5, 5)
        proxy.black_hole("down")  # completions arrive, their replies do not
        await work.until("COMPLETED", 5)
        proxy.reset()
        proxy.heal()
        await asyncio.sleep(0.1)
        await work.start(5)
        await work.until("COMPLETED", 10)
        assert gateway.calls() == {str(n): 1 for n in range(10)}
        _, code = await gateway.stop()
        assert code == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_silent_connection_is_noticed_within_thirty_seconds(
    test_engine: EngineProcess, record_property: Any
) -> None:
    async with (
        FaultProxy(test_engine.grpc_port) as proxy,
        at_work(test_engine, grpc_port=proxy.port, settings={"CAMUNDA_CLIENT_WORKER_DEFAULTS_TIMEOUT": "5000"}) as (
            gateway,
            work,
        ),
    ):
        await work.start(1)
        await work.until("COMPLETED", 1)
        assert proxy.freeze() > 0
        await work.start(10)  # sent into the silence: they come again after their lease, and may go there again

        async def reconnected() -> bool:
            return await gateway.metric("camunda_client_worker_stream_inactivity_recreated_total") > 0

        took = await until(reconnected, 30)
        record_property("black_hole_seconds", took)
        print(f"a silent connection was replaced after {took:.1f} s")
        proxy.reset()  # else the engine would go on sending into the silence
        await work.until("COMPLETED", 11, seconds=30)


async def _quiet(work: Work, seconds: float) -> int:
    """Waits until the number of completed jobs has not grown for some seconds; that number."""
    completed, since = -1, time.monotonic()
    while time.monotonic() - since < seconds:
        found = (await work.states())["COMPLETED"]
        if found != completed:
            completed, since = found, time.monotonic()
        await asyncio.sleep(0.2)
    return completed


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("engine_run")
async def test_an_engine_that_is_cut_off_for_half_a_minute_under_load_gets_all_its_work_done(
    record_property: Any,
) -> None:
    """First refused, later silent. What was sent into the silence is done when that ends; what went into a connection that
    just broke, when its lease does. No restart, no hand.
    """
    with running_engine() as engine:
        async with FaultProxy(engine.grpc_port) as proxy, at_work(engine, grpc_port=proxy.port) as (gateway, work):

            async def feed() -> None:
                while work.started < 300:
                    await work.start(5, seconds=0.2)
                    await asyncio.sleep(0.55)

            feeding = asyncio.create_task(feed())
            await until(lambda: gateway.calls().total() >= 15, 10)
            await proxy.refuse()
            assert proxy.reset() > 0
            await asyncio.sleep(3)
            await proxy.accept()
            await until(lambda: gateway.calls().total() >= 60, 10)
            proxy.black_hole()
            await asyncio.sleep(25)
            done = (await work.states())["COMPLETED"]
            proxy.heal()
            await feeding
            assert done < work.started == 300, "the silence was no silence"
            late = 300 - await _quiet(work, 3)
            await forward(engine, 310)
            await work.until("COMPLETED", 300, seconds=15)
            record_property("done_after_their_lease", late)
            print(f"{late} of 300 jobs were done after their lease only")
            assert late <= 10
            calls = gateway.calls()
            assert calls.keys() == {str(n) for n in range(300)}
            assert calls.total() - 300 <= 20, "jobs were done twice that had not to be"


async def _killed_and_restarted(engine: EngineProcess, count: int, kills: int, seed: int) -> tuple[float, int]:
    """The seconds until all jobs were done, and how many calls were made more than once."""
    chance = random.Random(seed)
    settings = {"CAMUNDA_CLIENT_WORKER_DEFAULTS_TIMEOUT": "3000", "CAMUNDA_CLIENT_WORKER_DEFAULTS_MAXJOBSACTIVE": "50"}
    async with at_work(engine, settings=settings) as (gateway, work):
        began = time.monotonic()
        starting = asyncio.create_task(work.start(count, seconds=0.02))
        for n in range(kills):
            wanted = count * (n + 1) // (kills + 2)
            await until(lambda wanted=wanted: gateway.calls().total() >= wanted, 120)
            await asyncio.sleep(chance.uniform(0, 0.1))
            await gateway.kill()
            await gateway.start()
        await starting
        await work.until("COMPLETED", count, seconds=120)
        calls = gateway.calls()
        assert calls.keys() == {str(n) for n in range(count)}
        return time.monotonic() - began, calls.total() - count


async def test_a_killed_gateway_loses_no_job(test_engine: EngineProcess, record_property: Any) -> None:
    seconds, twice = await _killed_and_restarted(test_engine, 2000, 3, seed=1)
    record_property("seconds", seconds)
    print(f"2000 jobs with 3 kills: {seconds:.1f} s, {twice} calls more than once")
    assert twice <= 3 * 50


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_killed_gateway_loses_none_of_ten_thousand_jobs(record_property: Any) -> None:
    with running_engine("--keep", "20000") as engine:
        seconds, twice = await _killed_and_restarted(engine, 10_000, 5, seed=2)
    record_property("seconds", seconds)
    print(f"10000 jobs with 5 kills: {seconds:.1f} s, {twice} calls more than once")
    assert twice <= 5 * 50


async def test_memory_stays_flat_while_ten_thousand_jobs_wait_for_a_full_worker(record_property: Any) -> None:
    settings = {"CAMUNDA_CLIENT_WORKER_DEFAULTS_MAXJOBSACTIVE": "10"}
    with running_engine("--records", "0") as engine:
        async with at_work(engine, settings=settings) as (gateway, work):
            await work.start(10, seconds=600)
            await until(lambda: gateway.calls().total() == 10, 5)
            before, samples = gateway.rss(), list[int]()
            for _ in range(10):
                await work.start(1000, payload="x" * 1000)
                samples.append(gateway.rss())
            grown = (max(samples) - before) / 1e6
            record_property("grown_mb", grown)
            print(f"memory grew by {grown:.1f} MB from {before / 1e6:.0f} MB")
            assert grown < 10
            assert gateway.calls().total() == 10
            assert await gateway.metric("gateway_permits_in_use", type=work.type) == 10
