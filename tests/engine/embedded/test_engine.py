"""The port's commands on the embedded engine: deployments, instances, results, tenants, expressions, the end."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.engine import (
    DeadlineExceeded,
    Engine,
    FailedPrecondition,
    InvalidArgument,
    JobActivation,
    NotFound,
    PermissionDenied,
    Resource,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from gateway.engine.embedded import EmbeddedEngine, VirtualClock
from tests.engine.embedded.driver import turns
from tests.engine.embedded.models import (
    EMPTY,
    ONE_TASK,
    boundary,
    end,
    message,
    on_error,
    on_message,
    one_task,
    process,
    start,
    task,
)

# ---- definitions and versions ----------------------------------------------------------------------------------------


async def test_each_change_makes_a_version_and_the_same_file_none(z):
    [first] = await z.deploy(ONE_TASK)
    [again] = await z.deploy(ONE_TASK)
    [second] = await z.deploy(one_task(headers={"h": "2"}))
    assert (first.version, second.version, first.name) == (1, 2, f"{z.name} name")
    assert again == first
    assert second.process_definition_key != first.process_definition_key
    assert first.resource_name == f"{z.name}0.bpmn"


async def test_an_instance_starts_by_latest_version_by_version_or_by_key(z, engine):
    [first] = await z.deploy(ONE_TASK)
    await z.deploy(one_task(headers={"h": "2"}))
    for options, version in (
        ({"bpmn_process_id": z.name}, 2),
        ({"bpmn_process_id": z.name, "version": 1}, 1),
        ({"bpmn_process_id": z.name, "version": 2}, 2),
        ({"process_definition_key": first.process_definition_key}, 1),
    ):
        made = await engine.create_process_instance(**options)
        job = await z.job()
        assert (made.version, job.process_definition_version) == (version, version)
        assert job.process_instance_key == made.process_instance_key


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bpmn_process_id": "none"}, "process ID 'none', but none found"),
        ({"process_definition_key": 4711}, "key '4711'"),
        ({"bpmn_process_id": "§", "version": 3}, "version '3'"),
    ],
)
async def test_an_unknown_process_is_not_found_and_named(z, engine, options, says):
    await z.deploy(ONE_TASK)
    options = {k: z.full(v) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(NotFound, match=says):
        await engine.create_process_instance(**options)
    with pytest.raises(NotFound, match=says):
        await engine.create_process_instance_with_result(**options)


async def test_a_creation_that_names_no_process_is_refused(engine):
    with pytest.raises(InvalidArgument, match="bpmnProcessId or a processDefinitionKey"):
        await engine.create_process_instance()


async def test_an_instance_may_start_at_an_element(z):
    await z.deploy(process(start(), task(), task("u"), end(), boundary("b", "t", on_error()), flows="s t u e\nb e"))
    key = await z.start(start_element_id="u", variables={"a": 1})
    await z.complete(await z.job("§u"))
    assert await z.path(key) == "u e"
    with pytest.raises(InvalidArgument, match="no element found with id 'nope'"):
        await z.start(start_element_id="nope")
    for wrong in ("s", "b"):
        with pytest.raises(InvalidArgument, match=f"'{wrong}' is of type"):
            await z.start(start_element_id=wrong)


async def test_the_xml_of_a_definition_is_that_which_was_deployed(z, engine):
    [made] = await z.deploy(ONE_TASK)
    assert await engine.process_definition_xml(made.process_definition_key) == z.full(ONE_TASK)
    with pytest.raises(NotFound, match="'1'"):
        await engine.process_definition_xml(1)


async def test_a_deployment_above_four_megabytes_is_refused(engine):
    with pytest.raises(ResourceExhausted, match="4194304"):
        await engine.deploy([Resource("a.bpmn", b" " * (4 << 20) + b"x")])


async def test_a_bomb_is_refused(engine):
    bomb = b'<!DOCTYPE d [<!ENTITY a "a"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><d>&b;</d>'
    with pytest.raises(InvalidArgument, match=r"bomb.bpmn.*DOCTYPE"):
        await engine.deploy([Resource("bomb.bpmn", bomb)])


async def test_the_topology_names_one_healthy_partition_and_the_version(engine):
    topology = await engine.topology()
    assert topology.gateway_version == "8.8.9"
    [broker] = topology.brokers
    assert [(p.partition_id, p.healthy, p.leader) for p in broker.partitions] == [(1, True, True)]


# ---- results ---------------------------------------------------------------------------------------------------------


def with_result(engine: Engine, name: str, **more: Any) -> "asyncio.Task[Any]":
    call: Coroutine[Any, Any, Any] = engine.create_process_instance_with_result(
        bpmn_process_id=name, variables='{"a": 1}', **more
    )
    return asyncio.create_task(call)


@pytest.mark.parametrize(("fetch", "wanted"), [((), {"a": 1, "r": 2}), (("r", "nope"), {"r": 2})])
async def test_a_creation_with_result_answers_when_the_instance_is_done(z, engine, fetch, wanted):
    await z.deploy(ONE_TASK)
    call = with_result(engine, z.name, fetch_variables=fetch)
    await turns()
    await z.complete(await z.job(), r=2)
    assert json.loads((await call).variables) == wanted


async def test_a_process_that_waits_for_nothing_answers_at_once(z, engine):
    await z.deploy(EMPTY)
    made = await engine.create_process_instance_with_result(bpmn_process_id=z.name, variables='{"a":1.50}')
    assert made.variables == '{"a":1.50}'


@pytest.mark.parametrize("limits", [{"request_timeout_ms": 500}, {"request_timeout_ms": 60_000, "timeout": 0.5}])
async def test_a_result_that_does_not_come_in_time_is_deadline_exceeded_and_the_instance_goes_on(z, engine, limits):
    await z.deploy(ONE_TASK)
    call = with_result(engine, z.name, **limits)
    await turns()
    await engine.advance(0.6)
    with pytest.raises(DeadlineExceeded, match="500 ms"):
        await call
    await z.complete(await z.job())
    assert await z.running() == []


async def test_a_caller_that_gives_up_leaves_the_instance_alone(z, engine):
    await z.deploy(ONE_TASK)
    call = with_result(engine, z.name)
    await turns()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    job = await z.job()
    await z.complete(job)
    assert await z.state(job.process_instance_key) == "COMPLETED"


# ---- variables and incidents -----------------------------------------------------------------------------------------


async def test_variables_are_set_as_a_result_would_or_in_the_scope_alone(z, engine):
    await z.deploy(ONE_TASK)
    key = await z.start(variables={"a": 1})
    scope = (await z.job()).element_instance_key
    await engine.set_variables(scope, '{"a": 2, "b": 2}', local=True)
    await engine.set_variables(scope, '{"b": 3, "c": 3}')
    assert (await z.variables(key), await z.variables(key, scope)) == ({"a": 1, "c": 3}, {"a": 2, "b": 3})
    with pytest.raises(NotFound, match="'4711'"):
        await engine.set_variables(4711, "{}")


async def test_an_unknown_incident_is_not_found(engine):
    with pytest.raises(NotFound, match="Expected to resolve incident with key '4711'"):
        await engine.resolve_incident(4711)


async def test_instances_and_incidents_can_be_looked_at(z, engine):
    await z.deploy(ONE_TASK)
    key = await z.start()
    await z.fail(await z.job(), 0, "broken")
    assert [instance.key for instance in engine.instances()] == [key]
    assert [(i.error_type, i.error_message, i.element.node.id) for i in engine.incidents()] == [
        ("JOB_NO_RETRIES", "broken", "t")
    ]


# ---- expressions -----------------------------------------------------------------------------------------------------


async def test_expressions_are_evaluated_by_version_8_9_and_later(z, engine):
    with pytest.raises(Unimplemented, match=r"8\.9"):
        await engine.evaluate_expression("= 1 + 1")
    newer = EmbeddedEngine(version="8.10.0", clock=VirtualClock())
    assert await newer.evaluate_expression("= 1 + 1") == 2
    assert await newer.evaluate_expression('= duration("PT90M")') == "PT1H30M"
    await newer.deploy([Resource("a.bpmn", z.full(ONE_TASK).encode())])
    made = await newer.create_process_instance(bpmn_process_id=z.name, variables='{"a": 5}')
    assert await newer.evaluate_expression("= a + 1", scope_key=made.process_instance_key) == 6
    with pytest.raises(NotFound):
        await newer.evaluate_expression("= a", scope_key=1)
    for wrong in ("= 1 +", "1 + 1", '= assert(1, false, "no")'):
        with pytest.raises(InvalidArgument):
            await newer.evaluate_expression(wrong)
    await newer.close()


# ---- tenants ---------------------------------------------------------------------------------------------------------


async def test_without_multi_tenancy_another_tenant_is_refused(z, engine):
    await z.deploy(ONE_TASK)
    for refused in (
        engine.deploy([Resource("a.bpmn", b"")], tenant_id="other"),
        engine.create_process_instance(bpmn_process_id=z.name, tenant_id="other"),
        engine.publish_message(name="m", tenant_id="other"),
        engine.correlate_message(name="m", tenant_id="other"),
        engine.activate_jobs(JobActivation("t", "w", 1, tenant_ids=("other",)), 1),
        engine.stream_jobs(JobActivation("t", "w", 1, tenant_ids=("other",))).read(),
    ):
        with pytest.raises(InvalidArgument, match="'other', but multi-tenancy is disabled"):
            await refused


async def tenanted(*tenants: str) -> EmbeddedEngine:
    engine = EmbeddedEngine(clock=VirtualClock(), tenants=tenants)
    for tenant in tenants:
        await engine.deploy([Resource("a.bpmn", ONE_TASK.replace("§", "p").encode())], tenant_id=tenant)
    return engine


async def test_with_multi_tenancy_a_tenant_that_is_not_there_is_not_permitted():
    engine = await tenanted("a", "b")
    with pytest.raises(PermissionDenied, match="'other'"):
        await engine.create_process_instance(bpmn_process_id="p", tenant_id="other")
    with pytest.raises(PermissionDenied, match="'<default>'"):
        await engine.create_process_instance(bpmn_process_id="p")
    await engine.close()


async def test_jobs_go_only_to_workers_that_ask_for_their_tenant():
    engine = await tenanted("a", "b")
    for tenant in ("a", "b"):
        made = await engine.create_process_instance(bpmn_process_id="p", tenant_id=tenant)
        assert made.tenant_id == tenant

    async def poll(*tenants: str) -> list[str]:
        return [
            job.tenant_id for job in await engine.activate_jobs(JobActivation("pt", "w", 1000, tenant_ids=tenants), 9)
        ]

    assert await poll("b") == ["b"]
    assert await poll("a", "b") == ["a"]
    stream = engine.stream_jobs(JobActivation("pt", "w", 1000, tenant_ids=("a", "b")))
    only_a = engine.stream_jobs(JobActivation("pt", "w", 1000, tenant_ids=("a",)))
    for _ in range(2):
        await engine.create_process_instance(bpmn_process_id="p", tenant_id="b")
    assert [(await stream.read()).tenant_id for _ in range(2)] == ["b", "b"]  # type: ignore[union-attr]
    only_a.cancel()
    assert await only_a.read() is None
    await engine.close()


async def test_versions_messages_and_keys_belong_to_a_tenant():
    engine = await tenanted("a", "b")
    model = process(start("s", on_message("m")), task(), end(), flows="s t e", top=message("m", "go"), id_="q").replace(
        "§", "q"
    )
    [of_a] = await engine.deploy([Resource("q.bpmn", model.encode())], tenant_id="a")
    [of_b] = await engine.deploy([Resource("q.bpmn", model.encode())], tenant_id="b")
    assert (of_a.version, of_b.version, of_b.tenant_id) == (1, 1, "b")
    with pytest.raises(NotFound):
        await engine.create_process_instance(process_definition_key=of_a.process_definition_key, tenant_id="b")
    await engine.publish_message(name="go", correlation_key="k", tenant_id="a", message_id="1", time_to_live_ms=1000)
    await engine.publish_message(name="go", correlation_key="k", tenant_id="b", message_id="1", time_to_live_ms=1000)
    found = await engine.search("process-instances", filter={"processDefinitionId": "q"}, sort=[("tenantId", "desc")])
    assert [row["tenantId"] for row in found.items] == ["b", "a"]
    await engine.close()


# ---- time and the end ------------------------------------------------------------------------------------------------


async def test_on_a_real_clock_leases_run_out_by_themselves():
    engine = EmbeddedEngine()
    await engine.deploy([Resource("a.bpmn", ONE_TASK.encode())])
    await engine.create_process_instance(bpmn_process_id="§")
    activation = JobActivation("§t", "w", 20)
    [job] = await engine.activate_jobs(activation, 1)
    [again] = await asyncio.wait_for(engine.activate_jobs(activation, 1, request_timeout_ms=5000), 5)
    assert again.key == job.key
    await engine.update_job_timeout(job.key, 600_000)
    await engine.advance(601)
    assert len(await engine.activate_jobs(activation, 1)) == 1
    await engine.close()


async def test_a_closed_engine_refuses_commands_as_not_arrived(z, engine):
    await z.deploy(ONE_TASK)
    await z.start()
    job = await z.job()
    await engine.close()
    await engine.close()
    for refused in (z.start(), z.complete(job), z.publish("m"), z.jobs(), engine.search("jobs"), engine.topology()):
        with pytest.raises(Unavailable) as caught:
            await refused
        assert not caught.value.may_have_arrived


async def test_a_process_that_only_a_timer_can_move_does_not_hold_a_closed_engine(z, engine):
    await z.deploy(one_task(retries="1"))
    key = await z.start()
    await z.fail(await z.job(), 0)
    with pytest.raises(FailedPrecondition):
        await engine.complete_job(int((await z.incident(key))["jobKey"]), "{}")
    await engine.close()
    await engine.advance(1000)
