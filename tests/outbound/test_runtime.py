"""All connectors of a process: started together, isolated from each other, drained together, by tenant."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway import sdk
from gateway.app import Runtime, running
from gateway.config import load
from gateway.engine.embedded import EmbeddedEngine, VirtualClock
from gateway.observe import Metrics
from gateway.outbound import runtime as runtime_module
from gateway.outbound.runtime import describe
from gateway.registry import Registered
from gateway.secrets import Masker
from tests.engine.models import one_task
from tests.outbound.fakes import until


@asynccontextmanager
async def _process(
    *connectors: sdk.OutboundConnector | Registered, engine: EmbeddedEngine | None = None, **environment: str
) -> AsyncIterator[tuple[EmbeddedEngine, Runtime]]:
    embedded = engine or EmbeddedEngine(clock=VirtualClock())
    settings = load({"SERVER_PORT": "0", "GATEWAY_SHUTDOWN_GRACE": "300ms", **environment}, directory=Path(os.devnull))
    registered = [c if isinstance(c, Registered) else Registered(c, True, None) for c in connectors]
    try:
        async with running(
            settings, embedded, registered, masker=Masker(), metrics=Metrics(), providers=[], host="127.0.0.1"
        ) as runtime:
            yield embedded, runtime
    finally:
        await embedded.close()


async def _start(engine: EmbeddedEngine, process_id: str, tenant: str = "<default>") -> int:
    await engine.deploy([one_task(process_id)], tenant_id=tenant)
    return (await engine.create_process_instance(bpmn_process_id=process_id, tenant_id=tenant)).process_instance_key


def _done(engine: EmbeddedEngine, process_id: str) -> int:
    return sum(
        r.intent == "COMPLETED" and r.value["type"] == process_id for r in engine.records() if r.value_type == "JOB"
    )


async def _nothing(context: sdk.JobContext) -> None:
    return None


def _connector(function: Any, job_type: str, **options: Any) -> sdk.OutboundConnector:
    return sdk.outbound_connector(job_type, type=job_type, **options)(function)


async def test_neighbours_of_a_hanging_and_a_crashing_connector_do_not_notice() -> None:
    async def hanging(context: sdk.JobContext) -> None:
        await asyncio.sleep(3600)

    async def crashing(context: sdk.JobContext) -> None:
        raise SystemExit(1)

    connectors = [_connector(hanging, "hanging"), _connector(crashing, "crashing"), _connector(_nothing, "good")]
    async with _process(*connectors) as (engine, runtime):
        for _ in range(150):
            await _start(engine, "hanging")
        for _ in range(20):
            await _start(engine, "crashing")
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(50):
            await _start(engine, "good")
        await until(lambda: _done(engine, "good") == 50)
        assert loop.time() - began < 2
        permits = runtime.outbound.workers["hanging"].permits.statistics()
        assert permits.in_use <= permits.limit


async def test_a_service_that_does_not_open_keeps_nobody_waiting_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime_module, "Backoff", lambda *_: type("B", (), {"next": lambda _: 0.05})())
    tries, closed = 0, []

    @asynccontextmanager
    async def service() -> AsyncIterator[str]:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionError("the database is away")
        yield "open"
        closed.append(True)

    @asynccontextmanager
    async def hanging() -> AsyncIterator[None]:
        await asyncio.sleep(3600)
        yield

    async def with_service(context: sdk.JobContext, pool: Any) -> str:
        return str(pool)

    async def idle(context: sdk.JobContext, pool: Any) -> None: ...

    connectors = [
        _connector(idle, "never", service=hanging),
        _connector(with_service, "served", service=service),
        _connector(_nothing, "good"),
    ]
    async with _process(*connectors) as (engine, _):
        await _start(engine, "good")
        await _start(engine, "served")
        await until(lambda: _done(engine, "good") == 1, 1)
        await until(lambda: _done(engine, "served") == 1, 2)
        assert tries == 3
    assert closed == [True]


async def test_a_disabled_connector_is_listed_but_has_no_worker() -> None:
    one = Registered(_connector(_nothing, "off"), False, None)
    async with _process(one, _connector(_nothing, "on")) as (engine, runtime):
        await _start(engine, "off")
        await _start(engine, "on")
        await until(lambda: _done(engine, "on") == 1)
        assert {e.type: e.enabled for e in runtime.outbound.entries()} == {"off": False, "on": True}
        assert list(runtime.outbound.workers) == ["on"]
        assert _done(engine, "off") == 0


async def test_a_worker_switched_off_by_the_clients_settings_does_not_start() -> None:
    async with _process(
        _connector(_nothing, "a"), _connector(_nothing, "b"), CAMUNDA_CLIENT_WORKER_OVERRIDE_A_ENABLED="false"
    ) as (_, runtime):
        assert list(runtime.outbound.workers) == ["b"]


async def test_jobs_of_a_tenant_come_only_to_who_asks_for_them() -> None:
    engine = EmbeddedEngine(clock=VirtualClock(), tenants=["<default>", "a", "b"])
    seen: list[str] = []

    async def tenant(context: sdk.JobContext) -> None:
        seen.append(context.job.tenant_id)

    async with _process(
        _connector(tenant, "work"), engine=engine, CAMUNDA_CLIENT_WORKER_DEFAULTS_TENANTIDS="a,<default>"
    ):
        for name in ("a", "b", "<default>"):
            await _start(engine, "work", name)
        await until(lambda: len(seen) == 2)
        await asyncio.sleep(0.1)
        assert sorted(seen) == ["<default>", "a"]


async def test_a_tenant_that_may_not_be_asked_for_is_reported() -> None:
    engine = EmbeddedEngine(clock=VirtualClock(), tenants=["<default>", "a"])
    with structlog.testing.capture_logs() as logs:
        async with _process(
            _connector(_nothing, "work"), engine=engine, CAMUNDA_CLIENT_WORKER_DEFAULTS_TENANTIDS="wrong"
        ):
            await asyncio.sleep(0.3)
    warnings = [entry for entry in logs if entry["log_level"] == "warning" and "reason" in entry]
    assert any("'wrong'" in entry["reason"] for entry in warnings), logs
    assert len(warnings) <= 2


async def test_all_jobs_at_work_are_bounded_over_all_types() -> None:
    inside, most = 0, 0

    async def count(context: sdk.JobContext) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.02)
        inside -= 1

    connectors = [_connector(count, t) for t in ("a", "b", "c")]
    async with _process(*connectors, GATEWAY_JOBS_MAXINFLIGHT="4") as (engine, runtime):
        for t in ("a", "b", "c") * 8:
            await _start(engine, t)
        await until(lambda: sum(_done(engine, t) for t in ("a", "b", "c")) == 24)
        assert most == 4
        await until(lambda: runtime.outbound.total.statistics().in_use == 0)


async def test_the_job_of_a_task_can_be_named() -> None:
    gate = asyncio.Event()

    async def wait(context: sdk.JobContext) -> None:
        await gate.wait()

    async with _process(_connector(wait, "named")) as (engine, runtime):
        await _start(engine, "named")
        worker = runtime.outbound.workers["named"]
        await until(lambda: worker._running)
        task = next(iter(worker._running))
        assert describe(runtime.outbound)(task) == {"job": worker._running[task].job.key, "type": "named"}
        assert describe(runtime.outbound)(None) == {}
        gate.set()


async def test_a_drain_finishes_what_it_can_and_hands_back_the_rest_with_its_retries() -> None:
    async def by_variable(context: sdk.JobContext) -> None:
        await asyncio.sleep(3600 if "slow" in context.job.variables else 0.1)

    engine = EmbeddedEngine(clock=VirtualClock())
    async with _process(_connector(by_variable, "work"), engine=engine) as (_, runtime):
        await engine.deploy([one_task("work")])
        for variables in ('{"slow":1}', "{}", '{"slow":1}', "{}"):
            await engine.create_process_instance(bpmn_process_id="work", variables=variables)
        await until(lambda: len(runtime.outbound.workers["work"]._running) == 4)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await runtime.outbound.drain(0.3)
        assert loop.time() - began < 2
        assert _done(engine, "work") == 2
        failed = [r.value for r in engine.records() if r.value_type == "JOB" and r.intent == "FAILED"]
        assert [f["retries"] for f in failed] == [3, 3]
        assert engine.incidents() == []
