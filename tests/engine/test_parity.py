"""The same behaviour on the embedded engine and on an independent one: what is promised here holds on both.

Everything goes through the engine port, so that a further engine is one more fixture.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.engine import (
    AlreadyExists,
    DeadlineExceeded,
    EngineError,
    FailedPrecondition,
    InvalidArgument,
    JobActivation,
    NotFound,
)
from gateway.engine.embedded import EmbeddedEngine, VirtualClock
from gateway.engine.settings import ConnectionSettings
from tests.engine.conftest import connected
from tests.engine.embedded.conftest import EngineControls
from tests.engine.embedded.driver import World, seen
from tests.engine.embedded.models import (
    EMPTY,
    ONE_TASK,
    TERMINATE,
    boundary,
    element,
    end,
    error,
    mapped,
    message,
    on_error,
    on_message,
    on_timer,
    one_task,
    process,
    start,
    sub,
    task,
)
from tests.real.processes import EngineProcess, running_engine


class RestControls:
    """Operators' commands by REST v2, and the test engine's clock."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self._address, self._session = address, session

    async def _send(self, method: str, path: str, body: Any = None) -> None:
        async with self._session.request(method, f"{self._address}{path}", json=body) as answer:
            text = await answer.text()
            if answer.status == 404:
                raise NotFound(text)
            if answer.status >= 300:
                raise EngineError(text)

    async def resolve(self, incident_key: str) -> None:
        await self._send("POST", f"/v2/incidents/{incident_key}/resolution", {})

    async def update_retries(self, job_key: int, retries: int) -> None:
        await self._send("PATCH", f"/v2/jobs/{job_key}", {"changeset": {"retries": retries}})

    async def cancel(self, process_instance_key: int) -> None:
        await self._send("POST", f"/v2/process-instances/{process_instance_key}/cancellation", {})

    async def set_variables(self, scope_key: int, variables: str) -> None:
        path = f"/v2/element-instances/{scope_key}/variables"
        async with self._session.put(
            f"{self._address}{path}", data=f'{{"variables":{variables}}}', headers={"Content-Type": "application/json"}
        ) as answer:
            assert answer.status < 300, await answer.text()

    async def forward(self, seconds: float) -> None:
        await self._send("POST", f"/engine/clock/add?ms={round(seconds * 1000)}")


async def embedded_world() -> AsyncIterator[World]:
    engine = EmbeddedEngine(clock=VirtualClock())
    yield World(engine, EngineControls(engine))
    await engine.close()


async def real_world(running: EngineProcess) -> AsyncIterator[World]:
    settings = ConnectionSettings(grpc_address=running.grpc_address, rest_address=running.rest_address)
    async with connected(settings) as engine, aiohttp.ClientSession() as session:
        yield World(engine, RestControls(running.rest_address, session), f"parity-{uuid.uuid4().hex[:8]}-")


@pytest.fixture(scope="module")
def own_engine(engine_run: Path) -> Iterator[EngineProcess]:
    """Not the shared one: these tests put its clock forward."""
    with running_engine() as engine:
        yield engine


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real)])
async def z(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made = embedded_world() if request.param == "embedded" else real_world(request.getfixturevalue("own_engine"))
    async for world in made:
        yield world


# ---- variables and mappings ------------------------------------------------------------------------------------------


async def test_inputs_are_local_and_see_each_other(z):
    inputs = {
        "a.b": "= n + 1",
        "c": "= a.b + a.d",
        "a.d": "= b + 10",
        "text": "plain",
        "gone": "= missing",
        "empty": "",
    }
    await z.deploy(one_task(inputs=inputs))
    key = await z.start(variables={"n": 1})
    job = await z.job()
    assert seen(job) == {"n": 1, "a": {"b": 2, "d": 12}, "c": 14, "text": "plain", "gone": None, "empty": None}
    await z.complete(job, r=1, text="changed")
    assert await z.variables(key) == {"n": 1, "r": 1}


async def test_a_nested_input_replaces_the_outer_variable_which_its_own_entries_still_see(z):
    await z.deploy(one_task(inputs={"a.b": "= a.old"}))
    await z.start(variables={"a": {"old": 1}})
    assert seen(await z.job()) == {"a": {"b": 1}}


async def test_outputs_choose_what_leaves_and_add_to_what_is_there(z):
    outputs = {"total": "= r * 2", "next": "= total + 1", "out.deep.x": "= r", "made.new": "= local"}
    await z.deploy(one_task(inputs={"local": "= 7"}, outputs=outputs))
    key = await z.start(variables={"out": {"old": True, "deep": {"y": 1}}})
    await z.complete(await z.job(), r=5, unmapped=1)
    assert await z.variables(key) == {
        "total": 10,
        "next": 11,
        "out": {"old": True, "deep": {"y": 1, "x": 5}},
        "made": {"new": 7},
    }


async def test_results_go_to_the_innermost_scope_that_has_the_variable(z):
    ext = mapped({"local": "= a"}, {"out": "= local + 1"})
    inner = sub("p", start("ps"), task(), end("pe"), flows="ps t pe", ext=ext)
    await z.deploy(process(start(), inner, end(), flows="s p e"))
    key = await z.start(variables={"a": 1})
    await z.complete(await z.job(), local=5, a=2, new=3)
    assert await z.variables(key) == {"a": 2, "new": 3, "out": 6}
    assert await z.path(key) == "s p ps t pe e"


async def test_feel_values_become_json(z):
    inputs = {
        "sum": "= 0.1 + 0.2",
        "whole": "= 10 / 4 * 2",
        "date": '= date("2024-02-29") + duration("P1Y")',
        "span": '= duration("PT90M")',
        "days": '= duration("PT26H")',
        "zone": '= date and time("2024-01-01T10:00:00@Europe/Berlin")',
        "range": "= [1..5]",
        "function": "= function(x) x",
        "inside": '= {f: function(x) x, d: [duration("P2D"), [1..2]]}',
        "list": "= for x in items return x * 2",
        "context": '= {a: 1, "b c": {d: [a, "x"]}}',
    }
    await z.deploy(one_task(inputs=inputs))
    await z.start(variables={"items": [1, 2]})
    found = seen(await z.job())
    assert float(found.pop("sum")) == 0.3
    assert found == {
        "items": [1, 2],
        "whole": 5,
        "date": "2025-02-28",
        "span": "PT1H30M",
        "days": "P1DT2H",
        "zone": "2024-01-01T10:00:00@Europe/Berlin",
        "range": None,
        "function": None,
        "inside": {"d": ["P2D", None]},
        "list": [2, 4],
        "context": {"a": 1, "b c": {"d": [1, "x"]}},
    }


# ---- jobs ------------------------------------------------------------------------------------------------------------


async def test_a_job_tells_what_it_is(z):
    [definition] = await z.deploy(one_task(headers={"h": "1"}, retries="= n + 2", job_type='= "§" + kind'))
    key = await z.start(variables={"n": 3, "kind": "x"})
    job = await z.job("§x")
    assert (job.process_instance_key, job.process_definition_key) == (key, definition.process_definition_key)
    assert (job.element_id, job.retries, job.custom_headers, job.worker) == ("t", 5, '{"h":"1"}', "w")
    [row] = await z.rows("element-instances", key, elementId="t")
    assert (row["elementInstanceKey"], row["type"], row["state"]) == (
        str(job.element_instance_key),
        "SERVICE_TASK",
        "ACTIVE",
    )


async def test_a_failed_job_keeps_its_variables_in_its_scope_and_backs_off(z):
    await z.deploy(ONE_TASK)
    key = await z.start(variables={"a": 1})
    job = await z.job()
    await z.fail(job, 2, "first", backoff_ms=60_000, a=5)
    assert await z.jobs() == []
    with pytest.raises(FailedPrecondition, match=f"'{job.key}', but it is in state 'FAILED'"):
        await z.complete(job)
    await z.controls.forward(61)
    again = await z.job()
    assert (again.key, again.retries, seen(again)) == (job.key, 2, {"a": 5})
    assert await z.variables(key) == {"a": 1}


async def test_a_lease_runs_out_and_a_late_answer_is_good_while_nobody_else_has_the_job(z):
    await z.deploy(ONE_TASK)
    key = await z.start()
    job = await z.job(timeout_ms=60_000)
    await z.engine.update_job_timeout(job.key, 120_000)
    await z.controls.forward(100)
    assert await z.jobs() == []
    await z.controls.forward(21)
    await z.complete(job)
    assert await z.state(key) == "COMPLETED"
    with pytest.raises(NotFound, match=f"'{job.key}', but no such job was found"):
        await z.complete(job)
    with pytest.raises(NotFound, match=str(job.key)):
        await z.engine.update_job_timeout(job.key, 1)


async def test_a_job_without_retries_is_an_incident_until_it_is_resolved(z):
    await z.deploy(ONE_TASK)
    key = await z.start()
    job = await z.job()
    await z.fail(job, 0, "broken thing")
    incident = await z.incident(key)
    found = tuple(incident[f] for f in ("errorType", "errorMessage", "elementId", "jobKey"))
    assert found == ("JOB_NO_RETRIES", "broken thing", "t", str(job.key))
    with pytest.raises(FailedPrecondition):
        await z.engine.update_job_timeout(job.key, 1000)
    await z.controls.update_retries(job.key, 4)
    await z.resolve(key)
    again = await z.job()
    assert (again.key, again.retries) == (job.key, 4)
    with pytest.raises(NotFound):
        await z.controls.resolve(incident["incidentKey"])


@pytest.mark.parametrize("text", ["{", '{"a":1} x', "[1]", "1"])
async def test_variables_that_are_no_json_object_are_refused(z, text):
    await z.deploy(ONE_TASK)
    await z.start()
    job = await z.job()
    with pytest.raises(InvalidArgument):
        await z.engine.complete_job(job.key, text)
    await z.complete(job)


async def test_a_stream_gets_what_becomes_activatable_but_no_backlog(z):
    await z.deploy(ONE_TASK)
    await z.start(variables={"n": 0})
    stream = z.engine.stream_jobs(JobActivation(z.full("§t"), "s", 60_000, fetch_variables=("n",)))
    reading = asyncio.ensure_future(stream.read())
    for n in range(1, 50):
        await z.start(variables={"n": n, "other": 1})
        done, _ = await asyncio.wait([reading], timeout=0.1)
        if done:
            break
    job = reading.result()
    assert job is not None
    assert list(seen(job)) == ["n"]
    assert seen(job)["n"] > 0
    await z.fail(job, 1)
    again = await asyncio.wait_for(asyncio.ensure_future(stream.read()), 5)
    assert again is not None
    assert again.key == job.key
    assert 0 in [seen(one)["n"] for one in await z.jobs()]
    stream.cancel()
    assert await stream.read() is None


# ---- errors and incidents --------------------------------------------------------------------------------------------

CATCHING = one_task(
    *(boundary("any", "t", on_error()), boundary("b", "t", on_error("E"), outputs={"seen": "= detail + 1"})),
    *(end("ea"), end("eb")),
    flows="any ea\nb eb",
    top=error("E", "E-1"),
)


@pytest.mark.parametrize(
    ("code", "path", "variables"), [("E-1", "s b eb", {"seen": 8}), ("other", "s any ea", {"detail": 7})]
)
async def test_an_error_is_caught_by_its_code_else_by_the_event_for_all(z, code, path, variables):
    await z.deploy(CATCHING)
    key = await z.start()
    await z.throw(await z.job(), code, "why", detail=7)
    assert (await z.path(key), await z.variables(key)) == (path, variables)


async def test_an_error_that_nobody_catches_is_an_incident(z):
    top = error("E", "E-1")
    await z.deploy(one_task(boundary("b", "t", on_error("E")), end("eb"), flows="b eb", top=top))
    key = await z.start()
    await z.throw(await z.job(), "E-9", "words")
    incident = await z.incident(key)
    assert incident["errorType"] == "UNHANDLED_ERROR_EVENT"
    assert "'E-9'" in incident["errorMessage"]
    assert "[E-1]" in incident["errorMessage"]
    await z.resolve(key)
    await z.complete(await z.job())
    assert await z.path(key) == "s t e"


@pytest.mark.parametrize(
    ("options", "error_type"),
    [
        ({"inputs": {"x": '= assert(a, a != null, "a is needed")'}}, "IO_MAPPING_ERROR"),
        ({"job_type": "= a"}, "EXTRACT_VALUE_ERROR"),
        ({"retries": "= a"}, "EXTRACT_VALUE_ERROR"),
    ],
)
async def test_a_task_that_cannot_begin_is_an_incident_and_begins_once_resolved(z, options, error_type):
    await z.deploy(one_task(**options))
    key = await z.start()
    incident = await z.incident(key)
    assert (incident["errorType"], incident["elementId"]) == (error_type, "t")
    assert await z.jobs() == []
    value = z.full("§t") if "job_type" in options else 3
    await z.resolve(key, a=value)
    await z.complete(await z.job())
    assert await z.path(key) == "s t e"


async def test_an_output_that_fails_is_an_incident_that_makes_no_new_job(z):
    await z.deploy(one_task(outputs={"out": '= assert(ok, ok != null, "ok is needed")'}))
    key = await z.start()
    await z.complete(await z.job())
    assert (await z.incident(key))["errorType"] == "IO_MAPPING_ERROR"
    await z.resolve(key, ok=1)
    assert await z.jobs() == []
    assert await z.variables(key) == {"ok": 1, "out": 1}


# ---- gateways, ends, sub-processes, timers ---------------------------------------------------------------------------

XOR = '<b:exclusiveGateway id="g"/>'


async def test_an_exclusive_gateway_goes_one_way_or_is_an_incident(z):
    await z.deploy(process(start(), XOR, end("a"), end("b"), flows="s g\ng [= x > 10] a\ng [= x > 5] b"))
    assert await z.path(await z.start(variables={"x": 11})) == "s g a"
    key = await z.start(variables={"x": 1})
    assert (await z.incident(key))["errorType"] == "CONDITION_ERROR"
    await z.resolve(key, x=6)
    assert await z.path(key) == "s g b"
    assert (await z.incident(await z.start()))["errorType"] == "EXTRACT_VALUE_ERROR"


async def test_parallel_gateways_fork_and_join(z):
    nodes = (start(), '<b:parallelGateway id="f"/>', task("a"), task("b"), '<b:parallelGateway id="j"/>', end())
    await z.deploy(process(*nodes, flows="s f a j e\nf b j"))
    key = await z.start()
    await z.complete(await z.job("§a"), a=1)
    assert await z.state(key) == "ACTIVE"
    await z.complete(await z.job("§b"), b=2)
    assert (await z.path(key), await z.variables(key)) == ("s f a b j e", {"a": 1, "b": 2})


async def test_a_terminate_end_event_ends_its_scope(z):
    nodes = (start(), '<b:parallelGateway id="f"/>', task("a"), task("b"), end(), end("x", TERMINATE))
    await z.deploy(process(*nodes, flows="s f a e\nf b x"))
    key = await z.start()
    other = await z.job("§a")
    await z.complete(await z.job("§b"))
    assert (await z.state(key), await z.path(key)) == ("COMPLETED", "s f b x")
    assert await z.elements(key, "TERMINATED") == ["a"]
    with pytest.raises(NotFound):
        await z.complete(other)


async def test_an_error_end_event_is_caught_around_its_scope_and_ends_it(z):
    inside = (start("ps"), '<b:parallelGateway id="f"/>', task(), end("x", on_error("E")))
    nodes = (start(), sub("p", *inside, flows="ps f t\nf x"), end(), boundary("b", "p", on_error("E")), end("eb"))
    await z.deploy(process(*nodes, flows="s p e\nb eb", top=error("E", "E-1")))
    key = await z.start()
    assert await z.state(key) == "COMPLETED"
    assert (await z.elements(key))[-2:] == ["b", "eb"]
    assert {"p", "t"} <= set(await z.elements(key, "TERMINATED"))


async def test_timers_at_tasks_happen_by_the_engines_clock(z):
    events = (
        boundary("n", "t", on_timer("Cycle", "R2/PT10M"), interrupting=False),
        boundary("b", "t", on_timer("Duration", '= duration("PT5H")')),
    )
    await z.deploy(one_task(*events, end("en"), end("eb"), flows="n en\nb eb"))
    key = await z.start()
    for count in (1, 2, 2):
        await z.controls.forward(605)
        assert (await z.elements(key)).count("en") == count
    await z.controls.forward(18_000)
    assert (await z.elements(key))[-2:] == ["b", "eb"]
    assert await z.elements(key, "TERMINATED") == ["t"]


# ---- messages --------------------------------------------------------------------------------------------------------

STARTED = process(start("s", on_message("m")), task(), end(), flows="s t e", top=message("m", "§go"))
CATCH = process(
    *(start(), element("intermediateCatchEvent", "c", on_message("m")), end()),
    flows="s c e",
    top=message("m", "§go", "= key"),
)


async def test_a_key_starts_one_instance_at_a_time_and_the_buffer_the_next(z):
    await z.deploy(STARTED)
    for n in (1, 2, 3):
        await z.publish("§go", "k", ttl_ms=600_000, n=n)
    await z.publish("§go", "k", n=4)
    await z.publish("§go", "other", n=5)
    order = []
    for _ in range(4):
        for job in await z.jobs():
            order.append(seen(job)["n"])
            await z.complete(job)
    assert order == [1, 5, 2, 3]
    with pytest.raises(FailedPrecondition, match="none start event"):
        await z.start()


async def test_messages_are_buffered_in_order_for_their_time_and_reach_a_process_once(z):
    await z.deploy(CATCH)
    for n in (1, 2):
        await z.publish("§go", "k", ttl_ms=600_000, n=n)
    await z.publish("§go", "k", n=3)
    keys = [await z.start(variables={"key": "k"}) for _ in range(4)]
    assert [(await z.variables(key)).get("n") for key in keys] == [1, 2, None, None]
    await z.publish("§go", "k", n=4)
    assert [await z.state(key) for key in keys] == ["COMPLETED"] * 3 + ["ACTIVE"]
    await z.publish("§go", "late", ttl_ms=60_000)
    await z.controls.forward(61)
    assert await z.state(await z.start(variables={"key": "late"})) == "ACTIVE"


async def test_a_message_deployed_for_later_does_not_start_what_came_after_it(z):
    await z.publish("§go", ttl_ms=600_000)
    await z.deploy(STARTED)
    assert await z.running() == []


async def test_a_message_id_is_taken_while_the_message_is_buffered(z):
    await z.publish("§go", "k", ttl_ms=60_000, message_id="1")
    with pytest.raises(AlreadyExists, match="id '1'"):
        await z.publish("§go", "k", message_id="1")
    await z.publish("§go", "other", ttl_ms=60_000, message_id="1")
    await z.publish("§go2", "k", ttl_ms=60_000, message_id="1")
    await z.controls.forward(61)
    await z.publish("§go", "k", message_id="1")


async def test_correlation_reaches_who_waits_or_is_not_found(z):
    await z.deploy(CATCH)
    with pytest.raises(NotFound):
        await z.engine.correlate_message(name=z.full("§go"), correlation_key="7")
    key = await z.start(variables={"key": 7})
    answer = await z.engine.correlate_message(name=z.full("§go"), correlation_key="7", variables='{"v": 1}')
    assert (answer.process_instance_key, await z.variables(key)) == (key, {"key": 7, "v": 1})


# ---- deployments, instances, searches --------------------------------------------------------------------------------


async def test_versions_grow_with_changes(z):
    [first] = await z.deploy(ONE_TASK)
    [again] = await z.deploy(ONE_TASK)
    [second] = await z.deploy(one_task(headers={"h": "2"}))
    assert (first.version, again.version, second.version) == (1, 1, 2)
    made = await z.engine.create_process_instance(bpmn_process_id=z.name, version=1)
    assert (made.version, made.process_definition_key) == (1, first.process_definition_key)
    with pytest.raises(NotFound, match=z.name):
        await z.engine.create_process_instance(bpmn_process_id=z.name, version=3)
    page = await z.engine.search("process-definitions", filter={"processDefinitionId": z.name, "isLatestVersion": True})
    assert [row["version"] for row in page.items] == [2]
    assert z.full("§t") in await z.engine.process_definition_xml(first.process_definition_key)


@pytest.mark.parametrize(
    ("model", "element_id"),
    [
        (process(start(), element("serviceTask", "lonely"), end(), flows="s lonely e"), "lonely"),
        (process(start(), element("complexGateway", "cx"), end(), flows="s cx e"), "cx"),
        (one_task(inputs={"x": "= 1 +"}), "t"),
        (
            one_task(
                "<b:task id='u'/>" + boundary("b", "t", on_error()) + boundary("c", "t", on_error()), flows="b u\nc u"
            ),
            "",
        ),
        (process(start(), end(), flows="s e", executable=False), ""),
        ("<nonsense", ""),
    ],
)
async def test_a_model_that_cannot_run_is_refused_as_a_whole(z, model, element_id):
    with pytest.raises(InvalidArgument) as caught:
        await z.deploy(EMPTY.replace('id="§"', 'id="§good"'), model)
    assert f"{z.name}1.bpmn" in str(caught.value)
    assert element_id in str(caught.value)
    with pytest.raises(NotFound):
        await z.start("§good")


async def test_a_creation_with_result_answers_at_the_end_or_is_too_late(z):
    await z.deploy(ONE_TASK)
    call = z.engine.create_process_instance_with_result(
        bpmn_process_id=z.name, variables='{"a":1}', fetch_variables=["r"], request_timeout_ms=10_000
    )
    waiting = asyncio.ensure_future(call)
    [job] = await z.engine.activate_jobs(JobActivation(z.full("§t"), "w", 60_000), 1, request_timeout_ms=5000)
    await z.complete(job, r=2)
    assert (await waiting).variables == '{"r":2}'


async def test_a_result_that_does_not_come_is_deadline_exceeded(z):
    await z.deploy(ONE_TASK)
    call = z.engine.create_process_instance_with_result(bpmn_process_id=z.name, request_timeout_ms=300)
    waiting = asyncio.ensure_future(call)
    for _ in range(200):
        if await z.running():
            break
        await asyncio.sleep(0.01)
    await z.controls.forward(1)
    with pytest.raises(DeadlineExceeded):
        await waiting


async def test_a_cancelled_instance_has_no_result(z):
    await z.deploy(ONE_TASK)
    call = z.engine.create_process_instance_with_result(bpmn_process_id=z.name, request_timeout_ms=500)
    waiting = asyncio.ensure_future(call)
    [job] = await z.engine.activate_jobs(JobActivation(z.full("§t"), "w", 60_000), 1, request_timeout_ms=5000)
    await z.controls.cancel(job.process_instance_key)
    await z.controls.forward(1)
    with pytest.raises(DeadlineExceeded):
        await waiting


async def test_a_cancelled_instance_is_terminated_with_all_in_it(z):
    await z.deploy(process(start(), sub("p", start("ps"), task(), end("pe"), flows="ps t pe"), end(), flows="s p e"))
    key = await z.start()
    job = await z.job()
    await z.controls.cancel(key)
    assert await z.state(key) == "TERMINATED"
    assert sorted(await z.elements(key, "TERMINATED")) == ["p", "t"]
    with pytest.raises(NotFound):
        await z.complete(job)
    with pytest.raises(NotFound):
        await z.controls.cancel(key)


async def test_another_tenant_is_refused_without_multi_tenancy(z):
    await z.deploy(ONE_TASK)
    with pytest.raises(InvalidArgument):
        await z.engine.create_process_instance(bpmn_process_id=z.name, tenant_id="other")
    with pytest.raises(InvalidArgument):
        await z.engine.activate_jobs(JobActivation(z.full("§t"), "w", 1000, tenant_ids=("other",)), 1)


async def test_documents_are_stored_read_and_deleted(z):
    made = await z.engine.create_document(b"hello", content_type="text/plain", file_name="a.txt")
    assert made.metadata["fileName"] == "a.txt"
    chunks = z.engine.read_document(made.document_id, store_id=made.store_id, content_hash=made.content_hash)
    assert b"".join([chunk async for chunk in chunks]) == b"hello"
    await z.engine.delete_document(made.document_id)
    with pytest.raises(NotFound):
        await z.engine.delete_document(made.document_id)


async def test_an_instance_may_start_at_an_element(z):
    await z.deploy(process(start(), task(), task("u"), end(), flows="s t u e"))
    key = await z.start(start_element_id="u", variables={"a": 1})
    assert await z.elements(key, "ACTIVE") == ["u"]
    await z.complete(await z.job("§u"))
    assert (await z.path(key), await z.variables(key)) == ("u e", {"a": 1})
    with pytest.raises(InvalidArgument, match="nope"):
        await z.start(start_element_id="nope")


async def test_a_join_counts_flows_not_arrivals(z):
    nodes = (start(), '<b:parallelGateway id="f"/>', task("a"), '<b:exclusiveGateway id="m"/>', task("b"), end())
    await z.deploy(process(*nodes, '<b:parallelGateway id="j"/>', flows="s f a m j e\nf b j\nf m"))
    key = await z.start()
    await z.complete(await z.job("§a"))
    assert "j" not in await z.elements(key)
    await z.complete(await z.job("§b"))
    assert (await z.elements(key)).count("j") == 1
    assert await z.state(key) == "ACTIVE"


async def test_an_error_is_caught_around_its_scope_and_ends_all_inside(z):
    inside = (
        start("ps"),
        '<b:parallelGateway id="f"/>',
        task(),
        task("u"),
        boundary("no", "t", on_error("E9")),
        end("pn"),
    )
    inner = sub("p", *inside, flows="ps f t\nf u\nno pn", ext=mapped({"local": "= 1"}))
    top = error("E", "E-1") + error("E9", "E-9")
    await z.deploy(
        process(start(), inner, end(), boundary("b", "p", on_error("E")), end("eb"), flows="s p e\nb eb", top=top)
    )
    key = await z.start()
    other = await z.job("§u")
    await z.throw(await z.job(), "E-1", detail=1, local=2)
    assert await z.path(key) == "s ps f b eb"
    assert sorted(await z.elements(key, "TERMINATED")) == ["p", "t", "u"]
    assert await z.variables(key) == {"detail": 1, "local": 2}
    with pytest.raises(NotFound):
        await z.complete(other)


async def test_a_message_event_that_does_not_interrupt_happens_with_every_message(z):
    note = boundary("n", "t", on_message("m"), interrupting=False, outputs={"last": "= v"})
    await z.deploy(one_task(note, end("en"), flows="n en", top=message("m", "§note", "= key")))
    key = await z.start(variables={"key": "k"})
    for v in (1, 2):
        await z.publish("§note", "k", ttl_ms=1000, v=v)
        assert await z.variables(key) == {"key": "k", "last": v}
    await z.complete(await z.job())
    assert sorted(await z.elements(key)) == sorted(["s", "n", "en", "n", "en", "t", "e"])
    assert await z.state(key) == "COMPLETED"


async def test_resolving_evaluates_the_inputs_again(z):
    await z.deploy(one_task(job_type="= kind", inputs={"kind": "= wanted"}))
    key = await z.start()
    await z.resolve(key, wanted=z.full("§late"))
    assert seen(await z.job("§late"))["kind"] == z.full("§late")


async def test_rows_name_their_fields_alike(z):
    await z.deploy(ONE_TASK)
    key = await z.start(variables={"a": 1})
    await z.fail(await z.job(), 0, "broken")
    wanted = {
        "process-instances": "processInstanceKey processDefinitionId processDefinitionKey processDefinitionVersion "
        "processDefinitionName state hasIncident startDate tenantId",
        "element-instances": "elementInstanceKey elementId elementName type state hasIncident incidentKey startDate tenantId",
        "variables": "name value scopeKey processInstanceKey tenantId isTruncated",
        "incidents": "incidentKey errorType errorMessage elementId elementInstanceKey jobKey state creationTime tenantId",
        "jobs": "jobKey type worker state kind retries elementId elementInstanceKey errorMessage customHeaders tenantId",
    }
    for resource, fields in wanted.items():
        for row in await z.rows(resource, key):
            assert set(fields.split()) <= row.keys(), resource
    [job] = await z.rows("jobs", key)
    assert (job["state"], job["kind"], job["retries"], job["errorMessage"]) == ("FAILED", "BPMN_ELEMENT", 0, "broken")
    types = {row["elementId"]: row["type"] for row in await z.rows("element-instances", key)}
    assert types == {"s": "START_EVENT", "t": "SERVICE_TASK"}
