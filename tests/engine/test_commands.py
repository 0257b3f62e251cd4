"""What the engine port promises of its commands, held against the test engine by gRPC and by REST."""

import asyncio
import json
from time import monotonic
from uuid import uuid4

import pytest

from gateway.engine import (
    AdHocResult,
    AlreadyExists,
    DeadlineExceeded,
    ElementActivation,
    Engine,
    FailedPrecondition,
    InvalidArgument,
    Job,
    JobActivation,
    NotFound,
    Resource,
)
from tests.engine import models

pytestmark = pytest.mark.real


async def activate(engine: Engine, job_type: str, *, timeout_ms: int = 60_000) -> Job:
    activation = JobActivation(job_type, "tester", timeout_ms)
    jobs = await engine.activate_jobs(activation, 1, request_timeout_ms=5_000)
    assert len(jobs) == 1
    return jobs[0]


async def test_topology_tells_the_version_and_the_healthy_partitions(engine: Engine) -> None:
    topology = await engine.topology()
    assert topology.gateway_version == "8.8.9"
    assert (topology.cluster_size, topology.partitions_count, topology.replication_factor) == (1, 1, 1)
    assert [(part.partition_id, part.healthy, part.leader) for part in topology.brokers[0].partitions] == [
        (1, True, True)
    ]


async def test_deploying_gives_key_version_and_file_name(engine: Engine, unique: str) -> None:
    (first,) = await engine.deploy([models.no_task(unique)])
    assert (first.bpmn_process_id, first.version, first.resource_name) == (unique, 1, f"{unique}.bpmn")
    (second,) = await engine.deploy([models.one_task(unique)])
    assert (second.version, second.process_definition_key > first.process_definition_key) == (2, True)


async def test_deploying_several_files_at_once_gives_each_process(engine: Engine, unique: str) -> None:
    definitions = await engine.deploy([models.no_task(f"{unique}-a"), models.no_task(f"{unique}-b")])
    assert [one.bpmn_process_id for one in definitions] == [f"{unique}-a", f"{unique}-b"]


async def test_a_broken_model_is_refused_with_file_and_reason(engine: Engine, unique: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{unique}.bpmn"):
        await engine.deploy([Resource(f"{unique}.bpmn", b"<not-bpmn/>")])


async def test_an_instance_is_started_by_id_by_version_and_by_key(engine: Engine, unique: str) -> None:
    (first,) = await engine.deploy([models.no_task(unique)])
    (second,) = await engine.deploy([models.one_task(unique)])
    latest = await engine.create_process_instance(bpmn_process_id=unique)
    assert (latest.version, latest.process_definition_key) == (2, second.process_definition_key)
    assert (await engine.create_process_instance(bpmn_process_id=unique, version=1)).version == 1
    by_key = await engine.create_process_instance(process_definition_key=first.process_definition_key)
    assert (by_key.bpmn_process_id, by_key.version, by_key.variables) == (unique, 1, None)
    assert by_key.process_instance_key > latest.process_instance_key


async def test_an_instance_can_start_at_an_element(engine: Engine, unique: str) -> None:
    tasks = models.job_task("one", f"{unique}-one") + models.job_task("two", f"{unique}-two")
    flows = models.flow("s", "one", "two")
    await engine.deploy([models.resource(unique, f'<b:startEvent id="s"/>{tasks}{flows}')])
    await engine.create_process_instance(bpmn_process_id=unique, start_element_id="two")
    assert (await activate(engine, f"{unique}-two")).element_id == "two"


async def test_an_unknown_process_is_not_found(engine: Engine, unique: str) -> None:
    with pytest.raises(NotFound, match=unique):
        await engine.create_process_instance(bpmn_process_id=unique)


async def test_create_with_result_waits_for_the_variables(engine: Engine, unique: str) -> None:
    await engine.deploy([models.no_task(unique)])
    variables = '{"a":1,"b":[true,null],"c":"ö"}'
    instance = await engine.create_process_instance_with_result(bpmn_process_id=unique, variables=variables)
    assert json.loads(instance.variables or "") == json.loads(variables)
    some = await engine.create_process_instance_with_result(
        bpmn_process_id=unique, variables=variables, fetch_variables=["b"]
    )
    assert json.loads(some.variables or "") == {"b": [True, None]}


async def test_create_with_result_ends_when_the_process_lasts_longer(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    start = monotonic()
    with pytest.raises(DeadlineExceeded):
        await engine.create_process_instance_with_result(bpmn_process_id=unique, request_timeout_ms=300)
    assert 0.25 < monotonic() - start < 5


async def test_a_job_carries_what_its_task_says(engine: Engine, unique: str) -> None:
    (definition,) = await engine.deploy([models.one_task(unique)])
    instance = await engine.create_process_instance(bpmn_process_id=unique, variables='{"amount":12.5,"who":"Zoë"}')
    job = await activate(engine, unique)
    assert (job.type, job.worker, job.retries, job.element_id) == (unique, "tester", 3, "task")
    assert (job.bpmn_process_id, job.process_definition_version, job.tenant_id) == (unique, 1, "<default>")
    assert job.process_definition_key == definition.process_definition_key
    assert job.process_instance_key == instance.process_instance_key
    assert json.loads(job.custom_headers) == {"colour": "blue"}
    assert json.loads(job.variables) == {"amount": 12.5, "who": "Zoë"}
    assert job.element_instance_key > 0
    assert job.deadline > 1_600_000_000_000


async def test_only_the_fetched_variables_come_with_a_job(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    await engine.create_process_instance(bpmn_process_id=unique, variables='{"a":1,"b":2}')
    (job,) = await engine.activate_jobs(JobActivation(unique, "w", 60_000, fetch_variables=("b",)), 1)
    assert json.loads(job.variables) == {"b": 2}


async def test_big_integers_keep_every_digit(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    await engine.create_process_instance(bpmn_process_id=unique, variables='{"n":123456789012345678901}')
    job = await activate(engine, unique)
    assert json.loads(job.variables) == {"n": 123456789012345678901}


async def test_activation_takes_at_most_the_jobs_asked_for(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    for _ in range(5):
        await engine.create_process_instance(bpmn_process_id=unique)
    activation = JobActivation(unique, "w", 60_000)
    assert [len(await engine.activate_jobs(activation, 3)) for _ in range(3)] == [3, 2, 0]


async def test_activation_without_waiting_is_empty_at_once(engine: Engine, unique: str) -> None:
    start = monotonic()
    assert await engine.activate_jobs(JobActivation(unique, "w", 60_000), 1) == []
    assert monotonic() - start < 2


async def test_activation_waits_for_the_first_job(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    waiting = asyncio.create_task(activate(engine, unique))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await engine.create_process_instance(bpmn_process_id=unique)
    assert (await waiting).type == unique


async def test_a_completed_job_hands_its_variables_on_and_is_gone(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    result = asyncio.create_task(engine.create_process_instance_with_result(bpmn_process_id=unique))
    job = await activate(engine, unique)
    await engine.complete_job(job.key, '{"answer":42}')
    assert json.loads((await result).variables or "") == {"answer": 42}
    with pytest.raises(NotFound):
        await engine.complete_job(job.key, "{}")


async def test_an_ad_hoc_result_activates_elements_and_then_ends(engine: Engine, unique: str) -> None:
    await engine.deploy([models.ad_hoc(unique)])
    result = asyncio.create_task(engine.create_process_instance_with_result(bpmn_process_id=unique))
    first = await activate(engine, unique)
    tool = ElementActivation("tool", '{"question":"why"}')
    await engine.complete_job(first.key, "{}", result=AdHocResult(activations=(tool,)))
    call = await activate(engine, f"{unique}-tool")
    assert json.loads(call.variables)["question"] == "why"
    await engine.complete_job(call.key, "{}")
    second = await activate(engine, unique)
    await engine.complete_job(second.key, '{"done":true}', result=AdHocResult(completion_condition_fulfilled=True))
    assert (await result).process_instance_key == second.process_instance_key


async def test_a_failed_job_comes_back_with_fewer_retries_and_new_variables(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    await engine.create_process_instance(bpmn_process_id=unique)
    job = await activate(engine, unique)
    await engine.fail_job(job.key, retries=2, message="no luck", variables='{"seen":1}')
    again = await activate(engine, unique)
    assert (again.key, again.retries, json.loads(again.variables)) == (job.key, 2, {"seen": 1})


async def test_a_failed_job_waits_for_its_back_off(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    await engine.create_process_instance(bpmn_process_id=unique)
    job = await activate(engine, unique)
    await engine.fail_job(job.key, retries=2, message="later", backoff_ms=400)
    assert await engine.activate_jobs(JobActivation(unique, "w", 60_000), 1) == []
    assert (await activate(engine, unique)).key == job.key


async def test_a_job_without_retries_makes_an_incident_with_the_message(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    instance = await engine.create_process_instance(bpmn_process_id=unique)
    job = await activate(engine, unique)
    await engine.fail_job(job.key, retries=0, message="out of luck")
    found = await engine.search("incidents", filter={"processInstanceKey": str(instance.process_instance_key)})
    assert [(one["errorType"], one["errorMessage"]) for one in found.items] == [("JOB_NO_RETRIES", "out of luck")]


async def test_a_thrown_error_is_caught_by_its_boundary_event(engine: Engine, unique: str) -> None:
    await engine.deploy([models.error_boundary(unique)])
    await engine.create_process_instance(bpmn_process_id=unique)
    job = await activate(engine, unique)
    await engine.throw_error(job.key, code="oops", message="caught", variables='{"why":"x"}')
    caught = await activate(engine, f"{unique}-caught")
    assert json.loads(caught.variables)["why"] == "x"


async def test_a_time_out_of_zero_hands_the_job_back_at_once(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    await engine.create_process_instance(bpmn_process_id=unique)
    job = await activate(engine, unique)
    await engine.update_job_timeout(job.key, 0)
    again = await activate(engine, unique)
    assert (again.key, again.retries) == (job.key, 3)


async def test_a_longer_time_out_keeps_the_job(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    await engine.create_process_instance(bpmn_process_id=unique)
    job = await activate(engine, unique, timeout_ms=300)
    await engine.update_job_timeout(job.key, 60_000)
    await asyncio.sleep(0.5)
    assert await engine.activate_jobs(JobActivation(unique, "w", 60_000), 1) == []
    await engine.complete_job(job.key, "{}")


async def test_commands_for_an_unknown_job_are_not_found(engine: Engine) -> None:
    for command in (
        engine.complete_job(1, "{}"),
        engine.fail_job(1, retries=1, message=""),
        engine.throw_error(1, code="x"),
        engine.update_job_timeout(1, 1000),
    ):
        with pytest.raises(NotFound):
            await command


async def test_a_failed_job_cannot_be_completed_until_it_is_active_again(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    await engine.create_process_instance(bpmn_process_id=unique)
    job = await activate(engine, unique)
    await engine.fail_job(job.key, retries=0, message="stuck")
    with pytest.raises(FailedPrecondition):
        await engine.complete_job(job.key, "{}")


async def test_a_message_is_kept_for_an_instance_that_comes_later(engine: Engine, unique: str) -> None:
    await engine.deploy([models.message_catch(unique, unique)])
    key = await engine.publish_message(
        name=unique, correlation_key="k-1", time_to_live_ms=60_000, variables='{"from":"message"}'
    )
    assert key > 0
    await engine.create_process_instance(bpmn_process_id=unique, variables='{"key":"k-1"}')
    assert json.loads((await activate(engine, unique)).variables) == {"key": "k-1", "from": "message"}


async def test_a_message_id_is_good_for_one_message(engine: Engine, unique: str) -> None:
    once = uuid4().hex
    await engine.publish_message(name=unique, correlation_key="k", time_to_live_ms=60_000, message_id=once)
    with pytest.raises(AlreadyExists, match=once):
        await engine.publish_message(name=unique, correlation_key="k", time_to_live_ms=60_000, message_id=once)


async def test_variables_that_are_no_object_are_refused(engine: Engine, unique: str) -> None:
    await engine.deploy([models.no_task(unique)])
    with pytest.raises(InvalidArgument):
        await engine.create_process_instance(bpmn_process_id=unique, variables="[1]")


async def test_a_job_type_must_not_be_empty(engine: Engine) -> None:
    with pytest.raises(InvalidArgument):
        await engine.activate_jobs(JobActivation("", "w", 1000), 1)
