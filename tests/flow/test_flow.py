"""The job flow end to end: process, connector, HTTP target; the same on the embedded engine and on the test engine."""

import asyncio
import contextlib
import json
import uuid
from typing import Any

import pytest
from aiohttp import web

from connectors.http_json import http_json
from gateway import jsontext
from gateway.engine import Engine, EngineError, Resource
from gateway.sdk import JobContext, outbound_connector
from tests.flow.models import process
from tests.flow.rig import SECRETS, Target, gateway


async def deploy(engine: Engine, inputs: dict[str, str], headers: dict[str, str] | None = None, **more: Any) -> str:
    name = f"p-{uuid.uuid4().hex[:12]}"
    await engine.deploy([Resource(f"{name}.bpmn", process(name, inputs, headers or {}, **more).encode())])
    return name


async def result(engine: Engine, name: str, **variables: Any) -> Any:
    ended = await engine.create_process_instance_with_result(
        bpmn_process_id=name, variables=json.dumps(variables), request_timeout_ms=8000, timeout=9
    )
    return jsontext.loads(ended.variables or "{}")


async def incident(engine: Engine, name: str, **variables: Any) -> dict[str, Any]:
    started = await engine.create_process_instance(bpmn_process_id=name, variables=json.dumps(variables))
    for _ in range(400):
        page = await engine.search("incidents", filter={"processInstanceKey": str(started.process_instance_key)})
        if page.items:
            return page.items[0]
        await asyncio.sleep(0.02)
    raise AssertionError("no incident came")


GET = {"authentication.type": "noAuth", "method": "GET"}


async def test_a_rest_call_completes_the_job_with_the_mapped_response(engine: Engine, target: Target):
    headers = {"resultVariable": "reply", "resultExpression": "={path: response.body.path}"}
    async with gateway(engine, http_json):
        name = await deploy(engine, {**GET, "url": f"{target.url}/a b?x=1"}, headers)
        found = await result(engine, name)
    assert found["path"] == "/a b"
    assert (found["reply"]["status"], found["reply"]["body"]) == (200, {"ok": True, "path": "/a b"})
    assert [r[:2] for r in target.requests] == [("GET", "/a%20b?x=1")]


async def test_inputs_are_evaluated_by_the_engine_and_reach_the_target_as_they_are(engine: Engine, target: Target):
    inputs = {
        "authentication.type": "noAuth",
        "method": "post",
        "url": f'="{target.url}/" + kind',
        "body.amount": "=amount",
        "body.text": "plain",
    }
    async with gateway(engine, http_json):
        await result(engine, await deploy(engine, inputs), kind="orders", amount=12.5)
    method, path, _, body = target.requests[0]
    assert (method, path, json.loads(body)) == ("POST", "/orders", {"amount": 12.5, "text": "plain"})


async def test_secrets_of_the_elements_own_inputs_are_replaced_and_others_are_not(engine: Engine, target: Target):
    inputs = {
        **GET,
        "url": f"{target.url}/x",
        "headers.X-Own": "Bearer {{secrets.TOKEN}}",
        "headers.X-Foreign": "=foreign",
    }
    async with gateway(engine, http_json):
        await result(engine, await deploy(engine, inputs), foreign="{{secrets.QUOTED}}")
    sent = target.requests[0][2]
    assert sent["X-Own"] == f"Bearer {SECRETS['TOKEN']}"
    assert sent["X-Foreign"] == "{{secrets.QUOTED}}"


async def test_a_failed_call_is_tried_again_as_often_as_the_task_says(engine: Engine, target: Target):
    target.answers["/x"] = [web.Response(status=500, reason="Broken"), web.json_response({"n": 2})]
    async with gateway(engine, http_json):
        name = await deploy(engine, {**GET, "url": f"{target.url}/x"}, {"resultExpression": "={n: body.n}"}, retries=2)
        assert (await result(engine, name))["n"] == 2
    assert len(target.requests) == 2


async def test_without_retries_left_there_is_an_incident_with_the_reason(engine: Engine, target: Target):
    target.answers["/x"] = [web.json_response({"why": "closed"}, status=400, reason="Bad Day")]
    async with gateway(engine, http_json):
        found = await incident(engine, await deploy(engine, {**GET, "url": f"{target.url}/x"}, retries=1))
    assert found["errorType"] == "JOB_NO_RETRIES"
    assert found["errorMessage"].startswith("Bad Day | Error variables: ")
    assert "why=closed" in found["errorMessage"]


async def test_bad_input_is_an_incident_at_once_that_names_the_field(engine: Engine, target: Target):
    async with gateway(engine, http_json):
        name = await deploy(engine, {"authentication.type": "bearer", "method": "GET", "url": f"{target.url}/x"})
        found = await incident(engine, name)
    assert (
        "Property: authentication.token: Validation failed. Original message: must not be empty"
        in found["errorMessage"]
    )
    assert target.requests == []


async def test_an_error_expression_turns_a_failure_into_a_bpmn_error_that_is_caught(engine: Engine, target: Target):
    target.answers["/x"] = [web.json_response({"id": 7}, status=404)]
    expression = (
        '=if error.code = "404" then bpmnError("GONE", "none", {id: error.variables.response.body.id}) else null'
    )
    async with gateway(engine, http_json):
        name = await deploy(engine, {**GET, "url": f"{target.url}/x"}, {"errorExpression": expression}, catch="GONE")
        found = await result(engine, name)
    assert found["id"] == 7


@pytest.mark.parametrize(
    "variables",
    ['{"body": NaN}', '{"body": "\\ud800"}', '{"body": ' + "[" * 5000 + "]" * 5000 + "}"],
    ids=["NaN", "lone surrogate", "deep"],
)
async def test_variables_that_are_no_sound_json_do_no_harm(engine: Engine, target: Target, variables: str):
    async with gateway(engine, http_json):
        name = await deploy(engine, {**GET, "url": f"{target.url}/x", "method": "POST"})
        with contextlib.suppress(EngineError):  # the engine may refuse them itself
            await engine.create_process_instance(bpmn_process_id=name, variables=variables, timeout=5)
        assert await result(engine, name) == {}  # and the worker goes on


async def test_four_megabytes_of_variables_are_worked(engine: Engine, target: Target):
    async with gateway(engine, http_json):
        name = await deploy(
            engine,
            {**GET, "method": "POST", "url": f"{target.url}/x", "body.text": "=text"},
            {"resultExpression": "={ok: body.ok}"},
        )
        found = await result(engine, name, text="x" * 1_900_000)
    assert found["ok"] is True
    assert len(target.requests[0][3]) > 1_900_000


async def test_more_jobs_than_permits_are_all_done_and_never_more_at_once_than_permits(engine: Engine):
    at_work, peak = 0, 0

    @outbound_connector("Slow", type=f"slow-{uuid.uuid4().hex[:8]}", input_variables=("n",))
    async def slow(job: JobContext) -> dict[str, Any]:
        nonlocal at_work, peak
        at_work += 1
        peak = max(peak, at_work)
        await asyncio.sleep(0.02)
        at_work -= 1
        return {"seen": json.loads(await job.variables())["n"]}

    async with gateway(engine, slow, CAMUNDA_CLIENT_WORKER_DEFAULTS_MAXJOBSACTIVE="4") as runtime:
        name = await deploy(engine, {}, {"resultExpression": "={seen: seen}"}, job_type=slow.type)
        found = await asyncio.gather(*(result(engine, name, n=n) for n in range(40)))
        permits = runtime.outbound.workers[slow.type].permits
        for _ in range(200):  # a poll under way holds some more than the reader for its moment
            if permits.statistics().in_use <= 1:
                break
            await asyncio.sleep(0.01)
        at_rest = permits.statistics().in_use
    assert [f["seen"] for f in found] == list(range(40))
    assert peak == 4
    assert at_rest <= 1  # what the reader holds


async def test_the_backlog_from_before_the_start_is_worked_too(engine: Engine, target: Target):
    name = await deploy(engine, {**GET, "url": f"{target.url}/x"}, {"resultExpression": "={ok: body.ok}"})
    waiting = [asyncio.ensure_future(result(engine, name)) for _ in range(20)]
    await asyncio.sleep(0.1)
    assert target.requests == []
    async with gateway(engine, http_json):
        assert all(found["ok"] for found in await asyncio.gather(*waiting))
    assert len(target.requests) == 20


async def test_what_runs_at_the_end_is_handed_back_with_the_retries_it_had(engine: Engine):
    job_type, started = f"long-{uuid.uuid4().hex[:8]}", asyncio.Event()
    seen: list[int] = []

    @outbound_connector("Long", type=job_type, input_variables=("n",))
    async def long(job: JobContext) -> None:
        seen.append(job.job.retries)
        started.set()
        await asyncio.sleep(60)

    @outbound_connector("Quick", type=job_type, input_variables=("n",))
    async def quick(job: JobContext) -> None:
        seen.append(job.job.retries)

    name = await deploy(engine, {}, job_type=job_type, retries=1)
    async with gateway(engine, long, GATEWAY_SHUTDOWN_GRACE="0s"):
        waiting = asyncio.ensure_future(result(engine, name, n=1))
        await started.wait()
    async with gateway(engine, quick):
        await waiting
    assert seen == [1, 1]
