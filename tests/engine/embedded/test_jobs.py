"""Jobs: activation, streams, leases, retries, errors."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.engine import (
    AdHocResult,
    FailedPrecondition,
    InvalidArgument,
    Job,
    JobActivation,
    JobStream,
    NotFound,
    ResourceExhausted,
)
from gateway.engine.embedded import EmbeddedEngine, VirtualClock
from tests.engine.embedded.conftest import EngineControls
from tests.engine.embedded.driver import World, seen, turns
from tests.engine.embedded.models import ONE_TASK, boundary, end, error, on_error, one_task, process, start, task

CATCHING = one_task(boundary("b", "t", on_error("E")), end("caught"), flows="b caught", top=error("E", "E-1"))


def activation(z: World, **more: Any) -> JobActivation:
    return JobActivation(**{"type": z.full("§t"), "worker": "w", "timeout_ms": 60_000, **more})


# ---- activation ------------------------------------------------------------------------------------------------------


async def test_a_job_tells_who_needs_what_of_whom(z):
    [definition] = await z.deploy(one_task(headers={"h": "1", "not": "= FEEL"}, retries="5"))
    key = await z.start(variables={"a": 1, "b": {"c": [1.5, None, "ü"]}})
    job = await z.job()
    assert (job.type, job.worker, job.retries, job.tenant_id) == (z.full("§t"), "w", 5, "<default>")
    assert (job.process_instance_key, job.process_definition_key) == (key, definition.process_definition_key)
    assert (job.bpmn_process_id, job.process_definition_version, job.element_id) == (z.name, 1, "t")
    assert json.loads(job.custom_headers) == {"h": "1", "not": "= FEEL"}
    assert job.variables == '{"a":1,"b":{"c":[1.5,null,"ü"]}}'
    [row] = await z.rows("element-instances", key, elementId="t")
    assert row["elementInstanceKey"] == str(job.element_instance_key)


async def test_a_completed_job_moves_the_instance_on(z):
    await z.deploy(ONE_TASK)
    key = await z.start(variables={"a": 1})
    assert await z.state(key) == "ACTIVE"
    await z.complete(await z.job(), a=2, r="x")
    assert await z.state(key) == "COMPLETED"
    assert await z.variables(key) == {"a": 2, "r": "x"}
    assert await z.path(key) == "s t e"


@pytest.mark.parametrize(
    "text", ['{"price":1.50,"small":1E-7,"many":0.1234567890123456789}', '{"big":12345678901234567890123}']
)
async def test_numbers_keep_their_digits(z, engine, text):
    await z.deploy(ONE_TASK)
    made = await engine.create_process_instance(bpmn_process_id=z.name, variables=text)
    job = await z.job()
    assert job.variables == text
    await engine.complete_job(job.key, '{"total":10.00}')
    [row] = await z.rows("variables", made.process_instance_key, name="total")
    assert row["value"] == "10.00"


async def test_the_oldest_jobs_come_first_and_none_twice(z):
    await z.deploy(ONE_TASK)
    for n in range(5):
        await z.start(variables={"n": n})
    assert [seen(job)["n"] for job in await z.jobs(n=3)] == [0, 1, 2]
    assert [seen(job)["n"] for job in await z.jobs(n=3)] == [3, 4]
    assert await z.jobs() == []


async def test_only_the_variables_asked_for_are_fetched(z):
    await z.deploy(ONE_TASK)
    await z.start(variables={"a": 1, "b": 2})
    assert seen(await z.job(fetch_variables=("b", "nope"))) == {"b": 2}


@pytest.mark.parametrize(
    ("wrong", "n", "says"),
    [
        ({"type": ""}, 1, "type"),
        ({"worker": " "}, 1, "worker"),
        ({"timeout_ms": 0}, 1, "timeout"),
        ({"tenant_ids": ()}, 1, "tenantIds"),
        ({}, 0, "maxJobsToActivate"),
    ],
)
async def test_an_activation_that_cannot_be_is_refused_by_poll_and_stream(z, engine, wrong, n, says):
    with pytest.raises(InvalidArgument, match=says):
        await engine.activate_jobs(activation(z, **wrong), n)
    if n:
        with pytest.raises(InvalidArgument, match=says):
            await engine.stream_jobs(activation(z, **wrong)).read()


async def test_a_poll_waits_for_the_first_job(z, engine):
    await z.deploy(ONE_TASK)
    poll = asyncio.create_task(engine.activate_jobs(activation(z), 5, request_timeout_ms=10_000))
    await turns()
    await z.start(variables={"n": 1})
    assert [seen(job) for job in await poll] == [{"n": 1}]


async def test_a_poll_ends_empty_at_its_time(z, engine):
    poll = asyncio.create_task(engine.activate_jobs(activation(z), 5, request_timeout_ms=10_000))
    await turns()
    await engine.advance(9.9)
    assert not poll.done()
    await engine.advance(0.2)
    assert await poll == []


async def test_a_poll_that_was_given_up_takes_no_job(z, engine):
    await z.deploy(ONE_TASK)
    poll = asyncio.create_task(engine.activate_jobs(activation(z), 5, request_timeout_ms=10_000))
    await turns()
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    await z.start()
    assert len(await z.jobs()) == 1


async def test_of_several_polls_the_first_is_served(z, engine):
    await z.deploy(ONE_TASK)
    polls = [asyncio.create_task(engine.activate_jobs(activation(z), 5, request_timeout_ms=10_000)) for _ in range(2)]
    await turns()
    await z.start()
    assert len(await polls[0]) == 1
    await engine.advance(11)
    assert await polls[1] == []


async def test_one_answer_holds_at_most_four_megabytes(z):
    await z.deploy(ONE_TASK)
    for n in range(5):
        await z.start(variables={"n": n, "text": "x" * 1_300_000})
    assert [seen(job)["n"] for job in await z.jobs()] == [0, 1, 2]
    assert [seen(job)["n"] for job in await z.jobs()] == [3, 4]


async def test_a_job_larger_than_an_answer_is_an_incident(z, engine):
    await z.deploy(ONE_TASK)
    key = await z.start(variables={"a": "x" * 3_000_000})
    await engine.set_variables(key, json.dumps({"b": "x" * 3_000_000}))
    assert await z.jobs() == []
    assert (await z.incident(key))["errorType"] == "MESSAGE_SIZE_EXCEEDED"
    await z.resolve(key, b="")
    assert len(await z.jobs()) == 1


# ---- leases ----------------------------------------------------------------------------------------------------------


async def test_a_job_is_there_again_when_its_lease_has_run_out(z, engine):
    await z.deploy(ONE_TASK)
    await z.start()
    first = await z.job(timeout_ms=5000)
    await engine.advance(4.9)
    assert await z.jobs() == []
    await engine.advance(0.2)
    second = await z.job()
    assert second.key == first.key
    assert second.deadline == first.deadline + 60_100


async def test_a_late_completion_is_good_while_nobody_else_has_the_job(z, engine):
    await z.deploy(ONE_TASK)
    key = await z.start()
    job = await z.job(timeout_ms=1000)
    await engine.advance(2)
    await z.complete(job)
    assert await z.state(key) == "COMPLETED"
    assert await z.jobs() == []


async def test_the_lease_can_be_set_anew_longer_or_shorter(z, engine):
    await z.deploy(ONE_TASK)
    await z.start()
    job = await z.job(timeout_ms=1000)
    await engine.update_job_timeout(job.key, 60_000)
    await engine.advance(59)
    assert await z.jobs() == []
    await engine.update_job_timeout(job.key, 500)
    await engine.advance(0.6)
    assert (await z.job()).key == job.key


async def test_a_lease_of_zero_hands_the_job_back_at_once_with_its_retries(z, engine):
    await z.deploy(ONE_TASK)
    await z.start()
    job = await z.job()
    await engine.update_job_timeout(job.key, 0)
    again = await z.job()
    assert (again.key, again.retries) == (job.key, job.retries)


async def test_the_lease_of_a_job_that_nobody_holds_cannot_be_set(z, engine):
    await z.deploy(ONE_TASK)
    await z.start()
    job = await z.job()
    with pytest.raises(InvalidArgument, match="negative"):
        await engine.update_job_timeout(job.key, -1)
    await z.fail(job, 1)
    with pytest.raises(FailedPrecondition, match="not active"):
        await engine.update_job_timeout(job.key, 1000)


# ---- outcomes --------------------------------------------------------------------------------------------------------


async def test_a_done_job_is_not_found_by_any_command(z, engine):
    await z.deploy(ONE_TASK)
    await z.start()
    job = await z.job()
    await z.complete(job)
    text = f"'COMPLETE' rejected with code 'NOT_FOUND': Expected to complete job with key '{job.key}', but no such job was found"
    with pytest.raises(NotFound, match=text):
        await z.complete(job)
    for refused in (
        z.fail(job, 1),
        z.throw(job, "E"),
        engine.update_job_timeout(job.key, 1),
        engine.update_job_retries(job.key, 1),
    ):
        with pytest.raises(NotFound, match=str(job.key)):
            await refused


@pytest.mark.parametrize(
    "text", ["{", "nonsense", '{"a":1} x', "[1]", "1", "null", '{"a":NaN}', '{"a":"\\ud800"}', "[" * 100_000]
)
async def test_variables_that_are_no_json_object_change_nothing(z, engine, text):
    await z.deploy(ONE_TASK)
    key = await z.start()
    job = await z.job()
    for refused in (
        engine.complete_job(job.key, text),
        engine.fail_job(job.key, retries=0, message="", variables=text),
        engine.throw_error(job.key, code="E", variables=text),
        engine.create_process_instance(bpmn_process_id=z.name, variables=text),
        engine.publish_message(name="m", variables=text),
    ):
        with pytest.raises(InvalidArgument):
            await refused
    assert await z.incidents(key) == []
    await z.complete(job)
    assert await z.variables(key) == {}


async def test_variables_above_four_megabytes_are_refused(z, engine):
    await z.deploy(ONE_TASK)
    with pytest.raises(ResourceExhausted, match="4194304"):
        await z.start(variables={"a": "x" * (4 << 20)})
    assert await z.running() == []


async def test_the_result_of_an_ad_hoc_sub_process_is_refused_for_a_task(z, engine):
    await z.deploy(ONE_TASK)
    await z.start()
    job = await z.job()
    with pytest.raises(InvalidArgument, match="'t' is a SERVICE_TASK"):
        await engine.complete_job(job.key, "{}", result=AdHocResult())
    await z.complete(job)


async def test_a_failed_job_with_retries_is_there_again_with_its_own_variables(z):
    await z.deploy(ONE_TASK)
    key = await z.start(variables={"a": 1})
    job = await z.job()
    await z.fail(job, 2, "first", a=5, why={"n": 1})
    again = await z.job()
    assert (again.key, again.retries, seen(again)) == (job.key, 2, {"a": 5, "why": {"n": 1}})
    assert await z.variables(key) == {"a": 1}
    assert await z.variables(key, again.element_instance_key) == {"a": 5, "why": {"n": 1}}


async def test_a_failed_job_waits_for_its_back_off(z, engine):
    await z.deploy(ONE_TASK)
    await z.start()
    job = await z.job()
    await z.fail(job, 2, backoff_ms=10_000)
    with pytest.raises(FailedPrecondition, match="but it is in state 'FAILED'"):
        await z.complete(job)
    await engine.advance(9.9)
    assert await z.jobs() == []
    await engine.advance(0.2)
    assert (await z.job()).key == job.key


@pytest.mark.parametrize("retries", [0, -1])
async def test_a_job_without_retries_is_an_incident_that_new_retries_and_resolution_end(z, engine, retries):
    await z.deploy(ONE_TASK)
    key = await z.start()
    job = await z.job()
    await z.fail(job, retries, "broken thing")
    incident = await z.incident(key)
    assert (incident["errorType"], incident["errorMessage"], incident["elementId"]) == (
        "JOB_NO_RETRIES",
        "broken thing",
        "t",
    )
    assert incident["jobKey"] == str(job.key)
    [row] = await z.rows("process-instances", key)
    assert (row["state"], row["hasIncident"]) == ("ACTIVE", True)
    assert await z.jobs() == []
    with pytest.raises(FailedPrecondition, match="FAILED"):
        await z.complete(job)
    with pytest.raises(InvalidArgument, match="positive"):
        await engine.update_job_retries(job.key, 0)
    await engine.update_job_retries(job.key, 4)
    await z.resolve(key)
    assert await z.incidents(key) == []
    again = await z.job()
    assert (again.key, again.retries) == (job.key, 4)
    await z.complete(again)
    assert await z.state(key) == "COMPLETED"


async def test_retries_may_be_given_with_the_resolution(z, engine):
    await z.deploy(ONE_TASK)
    key = await z.start()
    await z.fail(await z.job(), 0)
    [incident] = engine.incidents()
    assert incident.error_message == "No more retries left."
    await engine.resolve_incident(incident.key, retries=7)
    assert (await z.job()).retries == 7
    with pytest.raises(NotFound, match=f"'{incident.key}'"):
        await engine.resolve_incident(incident.key)
    assert await z.state(key) == "ACTIVE"


async def test_a_thrown_error_goes_on_at_its_boundary_event(z):
    await z.deploy(CATCHING)
    key = await z.start()
    await z.throw(await z.job(), "E-1", "why", detail=7)
    assert (await z.path(key), await z.state(key)) == ("s b caught", "COMPLETED")
    assert await z.variables(key) == {"detail": 7}
    [row] = await z.rows("jobs", key)
    assert (row["state"], row["errorCode"]) == ("ERROR_THROWN", "E-1")


async def test_an_error_that_nobody_catches_is_an_incident_that_names_what_would_be_caught(z):
    await z.deploy(CATCHING)
    key = await z.start()
    job = await z.job()
    await z.throw(job, "E-9", "words")
    incident = await z.incident(key)
    assert incident["errorType"] == "UNHANDLED_ERROR_EVENT"
    assert incident["errorMessage"] == (
        "Expected to throw an error event with the code 'E-9' with message 'words', but it was not caught. "
        "Available error events are [E-1]"
    )
    with pytest.raises(FailedPrecondition, match="ERROR_THROWN"):
        await z.complete(job)
    await z.resolve(key)
    await z.complete(await z.job())
    assert await z.state(key) == "COMPLETED"


async def test_the_jobs_of_a_cancelled_instance_are_gone(z, engine):
    await z.deploy(ONE_TASK)
    active, waiting, broken = [await z.start() for _ in range(3)]
    job = await z.job()
    await engine.cancel_process_instance(waiting)
    last = await z.job()
    await z.fail(last, 0)
    await engine.cancel_process_instance(active)
    await engine.cancel_process_instance(broken)
    for one in (job, last):
        with pytest.raises(NotFound):
            await z.complete(one)
    await engine.advance(100)
    assert await z.jobs() == []
    assert engine.incidents() == []
    assert [await z.state(key) for key in (active, waiting, broken)] == ["TERMINATED"] * 3


# ---- streams ---------------------------------------------------------------------------------------------------------


async def read(stream: JobStream) -> Job:
    job = await asyncio.wait_for(stream.read(), 1)
    assert job is not None
    return job


async def test_a_stream_gets_jobs_as_they_become_activatable_but_no_backlog(z, engine):
    await z.deploy(ONE_TASK)
    await z.start(variables={"n": 0})
    stream = engine.stream_jobs(activation(z, worker="s", fetch_variables=("n",)))
    for n in (1, 2):
        await z.start(variables={"n": n, "other": 1})
    jobs = [await read(stream), await read(stream)]
    assert [(seen(job), job.worker) for job in jobs] == [({"n": 1}, "s"), ({"n": 2}, "s")]
    assert [seen(job)["n"] for job in await z.jobs()] == [0]


async def test_a_stream_gets_failed_timed_out_backed_off_and_resolved_jobs(z, engine):
    await z.deploy(ONE_TASK)
    stream = engine.stream_jobs(activation(z, timeout_ms=5000))
    key = await z.start()
    job = await read(stream)
    await z.fail(job, 3)
    assert (await read(stream)).key == job.key
    await engine.advance(6)
    assert (await read(stream)).key == job.key
    await z.fail(job, 2, backoff_ms=1000)
    await engine.advance(2)
    assert (await read(stream)).retries == 2
    await z.fail(job, 0)
    await z.resolve(key)
    assert (await read(stream)).key == job.key


async def test_a_stream_that_does_not_read_stalls_and_the_rest_is_there_for_others(z, engine):
    await z.deploy(ONE_TASK)
    stalled = engine.stream_jobs(activation(z, timeout_ms=600_000))
    for n in range(20):
        await z.start(variables={"n": n, "text": "x" * 10_000})
    rest = await z.jobs()
    assert 0 < len(rest) < 20
    taken = 20 - len(rest)
    assert taken <= 7
    assert [seen(job)["n"] for job in rest] == list(range(taken, 20))
    assert [seen(await read(stalled))["n"] for _ in range(taken)] == list(range(taken))
    await z.start(variables={"n": 99})
    assert seen(await read(stalled))["n"] == 99


async def test_a_job_larger_than_the_look_ahead_reaches_a_stream_that_reads(z, engine):
    await z.deploy(ONE_TASK)
    stream = engine.stream_jobs(activation(z))
    reading = asyncio.create_task(stream.read())
    await turns()
    await z.start(variables={"text": "x" * 500_000})
    job = await reading
    assert job is not None
    assert len(job.variables) > 500_000


async def test_streams_take_turns(z, engine):
    await z.deploy(ONE_TASK)
    streams = [engine.stream_jobs(activation(z, worker=f"w{n}")) for n in range(3)]
    for _ in range(6):
        await z.start()
    assert [(await read(stream)).worker for stream in streams for _ in range(2)] == ["w0", "w0", "w1", "w1", "w2", "w2"]


async def test_a_cancelled_stream_ends_its_read_and_gets_nothing_more(z, engine):
    await z.deploy(ONE_TASK)
    stream = engine.stream_jobs(activation(z))
    reading = asyncio.create_task(stream.read())
    await turns()
    stream.cancel()
    stream.cancel()
    assert await reading is None
    assert await stream.read() is None
    await z.start()
    assert len(await z.jobs()) == 1


async def test_jobs_that_a_cancelled_stream_had_taken_ahead_come_back_with_their_lease(z, engine):
    await z.deploy(ONE_TASK)
    stream = engine.stream_jobs(activation(z, timeout_ms=5000))
    await z.start()
    stream.cancel()
    assert await z.jobs() == []
    await engine.advance(6)
    assert len(await z.jobs()) == 1


async def test_a_cancelled_read_ends_the_stream(z, engine):
    await z.deploy(ONE_TASK)
    stream = engine.stream_jobs(activation(z))
    reading = asyncio.create_task(stream.read())
    await turns()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await z.start()
    assert len(await z.jobs()) == 1
    assert await stream.read() is None


async def test_two_reads_of_a_stream_at_a_time_are_a_mistake(z, engine):
    stream = engine.stream_jobs(activation(z))
    reading = asyncio.create_task(stream.read())
    await turns()
    with pytest.raises(RuntimeError, match="another read"):
        await stream.read()
    stream.cancel()
    assert await reading is None


async def test_the_end_of_the_engine_ends_its_streams_and_polls(z, engine):
    reading = asyncio.create_task(engine.stream_jobs(activation(z)).read())
    poll = asyncio.create_task(engine.activate_jobs(activation(z), 1, request_timeout_ms=10_000))
    await turns()
    await engine.close()
    assert await reading is None
    assert await poll == []


# ---- any order of things ---------------------------------------------------------------------------------------------

ACTIONS = st.sampled_from(
    ["complete", "fail", "fail for good", "back off", "throw", "throw unknown", "time out", "activate", "resolve"]
)
STEPS = st.lists(st.tuples(ACTIONS, st.integers(0, 3)), max_size=40)
RETRYING = one_task(boundary("b", "t", on_error("E")), end("caught"), flows="b caught", top=error("E", "E-1"))


@given(STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_interleaving_answers_each_job_once_and_leaves_the_instances_consistent(steps):
    asyncio.run(interleave(steps))


async def interleave(steps: list[tuple[str, int]]) -> None:
    engine = EmbeddedEngine(clock=VirtualClock())
    z = World(engine, EngineControls(engine))
    await z.deploy(RETRYING)
    keys = [await z.start() for _ in range(4)]
    held: dict[int, Job] = {}
    answered: list[int] = []
    for action, n in steps:
        await act(z, engine, held, answered, action, n, keys)
    await finish(z, engine, answered, keys)
    assert len(answered) == len(set(answered)) == 4
    assert engine.instances() == []
    assert engine.incidents() == []
    for key in keys:
        assert await z.path(key) in {"s t e", "s b caught"}
        assert [row["state"] for row in await z.rows("jobs", key)] in (["COMPLETED"], ["ERROR_THROWN"])
        assert all(row["state"] == "RESOLVED" for row in await z.rows("incidents", key))
    await engine.close()


async def act(
    z: World, engine: EmbeddedEngine, held: dict[int, Job], answered: list[int], action: str, n: int, keys: list[int]
) -> None:
    if action == "activate":
        for job in await z.jobs(timeout_ms=5000):
            held[job.process_instance_key] = job
    elif action == "time out":
        await engine.advance(6)
    elif action == "resolve":
        for incident in engine.incidents():
            await engine.resolve_incident(incident.key, retries=1)
    elif keys[n] in held:
        await answer(z, held[keys[n]], answered, action)


async def answer(z: World, job: Job, answered: list[int], action: str) -> None:
    """A worker's answer: accepted, or refused because the job is done or not at work."""
    try:
        if action == "complete":
            await z.complete(job)
        elif action.startswith("throw"):
            await z.throw(job, "E-9" if action == "throw unknown" else "E-1")
        else:
            await z.fail(job, 0 if action == "fail for good" else 2, backoff_ms=3000 if action == "back off" else 0)
    except FailedPrecondition:
        return
    except NotFound:
        if job.key not in answered:
            raise
    else:
        if action in {"complete", "throw"}:
            answered.append(job.key)


async def finish(z: World, engine: EmbeddedEngine, answered: list[int], keys: list[int]) -> None:
    """What is left is brought back and completed."""
    for incident in engine.incidents():
        await engine.resolve_incident(incident.key, retries=1)
    await engine.advance(100)
    for job in await z.jobs():
        await z.complete(job)
        answered.append(job.key)


async def test_processes_do_not_share_jobs_of_the_same_element(z):
    await z.deploy(ONE_TASK, process(start(), task(job_type="§other"), end(), flows="s t e", id_="§2"))
    await z.start()
    await z.start("§2")
    assert len(await z.jobs()) == 1
    assert len(await z.jobs("§other")) == 1


async def test_queues_of_types_that_nobody_needs_any_more_are_dropped(z, engine):
    await z.deploy(one_task(job_type='= "§" + kind'))
    for n in range(20):
        key = await z.start(variables={"kind": str(n)})
        if n % 2:
            await z.complete(await z.job(f"§{n}"))
        else:
            await engine.cancel_process_instance(key)
    poll = asyncio.create_task(engine.activate_jobs(activation(z), 1, request_timeout_ms=1000))
    stream = engine.stream_jobs(activation(z))
    await turns()
    stream.cancel()
    await engine.advance(2)
    assert await poll == []
    assert len(engine._execution.jobs._queues) <= 1


async def test_a_long_backlog_is_taken_one_by_one_in_no_time(z):
    await z.deploy(ONE_TASK)
    for n in range(5_000):
        await z.start(variables={"n": n})
    assert [seen(await z.job())["n"] for _ in range(5_000)] == list(range(5_000))
