"""Faults between the gateway and its engine, seen from outside: nothing is lost, nobody restarts anything."""

import asyncio
import json
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.engine import Engine, JobActivation, Resource
from gateway.engine.cluster import connect
from gateway.engine.settings import ConnectionSettings
from tests.faults.running import Gateway, Target, gateway, serving
from tests.flow.models import process
from tests.proxy import FaultProxy
from tests.real.processes import EngineProcess, running_engine

pytestmark = pytest.mark.real
HTTP = "io.camunda:http-json:1"


@pytest.fixture(scope="module")
def own_engine(engine_run: Path) -> Iterator[EngineProcess]:
    """An engine of its own: job types are shared with other tests otherwise."""
    with running_engine() as engine:
        yield engine


@pytest.fixture
async def engine(own_engine: EngineProcess) -> AsyncIterator[Engine]:
    """The test's own way to the engine, past the proxy."""
    client = await connect(
        ConnectionSettings(grpc_address=own_engine.grpc_address, rest_address=own_engine.rest_address)
    )
    yield client
    await client.close()


@pytest.fixture
async def proxy(own_engine: EngineProcess) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(own_engine.grpc_port) as found:
        yield found


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with serving() as found:
        yield found


@pytest.fixture
def environment(own_engine: EngineProcess, proxy: FaultProxy) -> dict[str, str]:
    return {
        "CAMUNDA_CLIENT_GRPCADDRESS": f"http://127.0.0.1:{proxy.port}",
        "CAMUNDA_CLIENT_RESTADDRESS": own_engine.rest_address,
    }


async def deploy(engine: Engine, target: Target) -> str:
    """A process with one REST call to `/ID/N`, N being its variable `n`."""
    ident = f"f-{uuid.uuid4().hex[:10]}"
    inputs = {"authentication.type": "noAuth", "method": "GET", "url": f'="{target.url}/{ident}/" + string(n)'}
    await engine.deploy([Resource(f"{ident}.bpmn", process(ident, inputs, {}, retries=3).encode())])
    return ident


async def start(engine: Engine, ident: str, numbers: range) -> None:
    gate = asyncio.Semaphore(50)

    async def one(n: int) -> None:
        async with gate:
            await engine.create_process_instance(bpmn_process_id=ident, variables=json.dumps({"n": n}))

    await asyncio.gather(*(one(n) for n in numbers))


async def finished(engine: Engine, ident: str) -> int:
    """How many instances have completed."""
    page = await engine.search(
        "process-instances", filter={"processDefinitionId": ident, "state": "COMPLETED"}, limit=1
    )
    return page.total


async def until_finished(engine: Engine, ident: str, count: int, seconds: float) -> float:
    """Waits until that many have completed; the seconds it took."""
    began = time.monotonic()
    while (done := await finished(engine, ident)) < count:
        assert time.monotonic() - began < seconds, f"{done} of {count} were done after {seconds:g} s"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def open_incidents(engine: Engine, ident: str) -> list[Any]:
    return (await engine.search("incidents", filter={"processDefinitionId": ident})).items


async def test_1_after_a_reset_the_stream_is_back_within_5_s_and_running_handlers_finish(
    engine: Engine, proxy: FaultProxy, target: Target, environment: dict[str, str], tmp_path: Path
) -> None:
    target.delay = 1.0
    async with gateway(tmp_path / "log", **environment):
        ident = await deploy(engine, target)
        await start(engine, ident, range(20))
        while len(target.calls) < 20:  # noqa: ASYNC110 - all handlers are at work
            await asyncio.sleep(0.02)
        proxy.reset()
        await asyncio.sleep(0.3)  # what the engine pushes before it notices is leased, and comes back only after that
        await start(engine, ident, range(20, 25))
        assert await until_finished(engine, ident, 25, 10) < 6
    assert set(target.calls.values()) == {1}  # no handler was disturbed, none ran twice
    assert await open_incidents(engine, ident) == []


@pytest.mark.slow
async def test_2_a_connection_that_falls_silent_is_noticed_within_30_s(
    engine: Engine, proxy: FaultProxy, target: Target, environment: dict[str, str], tmp_path: Path
) -> None:
    # The engine goes on pushing jobs into the dead connection: a short lease brings them back soon.
    async with gateway(tmp_path / "log", CAMUNDA_CLIENT_WORKER_DEFAULTS_TIMEOUT="2s", **environment):
        ident = await deploy(engine, target)
        await start(engine, ident, range(1))
        await until_finished(engine, ident, 1, 10)
        proxy.freeze()
        await start(engine, ident, range(1, 6))
        assert await until_finished(engine, ident, 6, 35) < 30


async def test_an_engine_that_is_away_under_load_costs_no_job_and_no_call(
    engine: Engine, proxy: FaultProxy, target: Target, environment: dict[str, str], tmp_path: Path
) -> None:
    target.delay = 0.05
    # What the engine pushed into the connection at the moment of its end comes back when its lease runs out.
    async with gateway(tmp_path / "log", CAMUNDA_CLIENT_WORKER_DEFAULTS_TIMEOUT="10s", **environment):
        ident = await deploy(engine, target)
        await start(engine, ident, range(200))
        proxy.reset()
        await proxy.refuse()
        await start(engine, ident, range(200, 300))
        await asyncio.sleep(4)
        await proxy.accept()
        took = await until_finished(engine, ident, 300, 30)
    assert took < 25
    assert set(target.calls.values()) == {1}
    assert len(target.calls) == 300
    assert await open_incidents(engine, ident) == []


async def test_11_what_was_pushed_to_a_full_worker_is_with_another_within_2_s_of_its_stop(
    engine: Engine, target: Target, environment: dict[str, str], tmp_path: Path
) -> None:
    target.delay = 30.0
    full = Gateway(
        tmp_path / "log",
        CAMUNDA_CLIENT_WORKER_DEFAULTS_MAXJOBSACTIVE="4",
        GATEWAY_SHUTDOWN_GRACE="0s",
        **environment,
    )
    await full.start()
    ident = await deploy(engine, target)
    await start(engine, ident, range(200))
    await asyncio.sleep(0.5)
    activation = JobActivation(HTTP, "another", 60_000)
    stopped = time.monotonic()
    code = asyncio.ensure_future(full.stop())
    got: dict[int, int] = {}
    while len(got) < 200:
        for job in await engine.activate_jobs(activation, 200, request_timeout_ms=500):
            got[job.key] = job.retries
        assert time.monotonic() - stopped < 10, f"{len(got)} of 200 after 10 s"
    took = time.monotonic() - stopped
    assert await code == 0
    assert took < 2
    assert set(got.values()) == {3}  # none of them cost a retry
    for key in got:
        await engine.complete_job(key, "{}")


async def test_12_jobs_of_a_gateway_that_is_killed_are_all_done_in_the_end(
    engine: Engine, target: Target, environment: dict[str, str], tmp_path: Path
) -> None:
    target.delay = 0.02
    killed = Gateway(tmp_path / "log", CAMUNDA_CLIENT_WORKER_DEFAULTS_TIMEOUT="2s", **environment)
    await killed.start()
    ident = await deploy(engine, target)
    count = 2000
    creating = asyncio.ensure_future(start(engine, ident, range(count)))
    for _ in range(3):
        await asyncio.sleep(1.0)
        await killed.stop(signal.SIGKILL)
        await killed.start()
    await creating
    await until_finished(engine, ident, count, 40)
    assert await killed.stop() == 0
    assert len(target.calls) == count
    assert await open_incidents(engine, ident) == []


async def test_6_memory_stays_flat_while_thousands_of_jobs_wait_for_a_full_worker(
    engine: Engine, target: Target, environment: dict[str, str], tmp_path: Path
) -> None:
    target.delay = 30.0
    async with gateway(
        tmp_path / "log",
        CAMUNDA_CLIENT_WORKER_DEFAULTS_MAXJOBSACTIVE="10",
        GATEWAY_SHUTDOWN_GRACE="0s",
        **environment,
    ) as full:
        ident = await deploy(engine, target)
        await start(engine, ident, range(100))
        await asyncio.sleep(1.0)
        before = memory(full.pid)
        await start(engine, ident, range(100, 5000))
        await asyncio.sleep(1.0)
        grown = memory(full.pid) - before
        assert sum(target.calls.values()) == 10  # never more than the permits
    assert grown < 8


def memory(pid: int) -> float:
    """Resident memory in MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024
