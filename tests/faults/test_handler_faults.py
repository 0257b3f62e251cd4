"""A connector misbehaves: its jobs say so, the neighbours and the process do not notice."""

import time
from pathlib import Path

import pytest

from gateway.engine import Resource
from tests.faults.rig import Work, at_work, until
from tests.flow.models import process
from tests.http_client.servers import Reply, Stub, running
from tests.real.processes import EngineProcess

pytestmark = pytest.mark.real


async def test_neighbours_of_a_hanging_connector_do_not_notice(test_engine: EngineProcess) -> None:
    settings = {"CAMUNDA_CLIENT_WORKER_DEFAULTS_MAXJOBSACTIVE": "20"}
    async with at_work(test_engine, settings=settings) as (gateway, work):
        neighbour = Work(work.engine, test_engine, f"{work.type}-n")
        await gateway.kill()
        gateway._environment["CONNECTOR_THREAD_TYPE"] = neighbour.type
        await gateway.start()
        model = process(neighbour.type, {}, {}, job_type=neighbour.type)
        await work.engine.deploy([Resource("n.bpmn", model.encode())])
        await work.start(300, seconds=600)
        await until(lambda: gateway.calls().total() == 20, 5)
        took = time.monotonic()
        await neighbour.start(50)
        await neighbour.until("COMPLETED", 50, seconds=3)
        assert time.monotonic() - took < 3

        async def at_rest() -> bool:
            return await gateway.metric("gateway_permits_in_use", type=work.type) == 20

        await until(at_rest, 3)
        assert gateway.calls().total() == 20 + 50  # the hanging type never got more than its permits


async def test_a_blocked_loop_is_named_with_its_job_and_readiness_returns(test_engine: EngineProcess) -> None:
    async with at_work(test_engine) as (gateway, work):
        await work.start(1, do="block", seconds=1.5)
        await until(lambda: gateway.calls().total() == 1, 5)
        began = time.monotonic()
        await until(lambda: "the event loop is blocked" in gateway.text(), 1.0)
        assert time.monotonic() - began < 1.0
        (key,) = [job["key"] for job in await work.jobs()]
        (line,) = [line for line in gateway.text().splitlines() if "event loop is blocked" in line]
        assert str(key) in line
        assert work.type in line
        assert "subjects.py" in line
        assert await gateway.status("/actuator/health/readiness") == 200
        await work.until("COMPLETED", 1)


async def test_a_blocking_function_in_a_thread_blocks_nobody(test_engine: EngineProcess) -> None:
    async with at_work(test_engine) as (gateway, work):
        await gateway.kill()
        gateway._environment |= {"CONNECTOR_SUBJECT_TYPE": "unused", "CONNECTOR_THREAD_TYPE": work.type}
        await gateway.start()
        await work.start(10, seconds=1.0)
        await until(lambda: gateway.calls().total() == 10, 5)
        began = time.monotonic()
        assert await gateway.status("/actuator/health/readiness") == 200
        assert time.monotonic() - began < 0.5
        await work.until("COMPLETED", 10)
        assert "event loop is blocked" not in gateway.text()


async def test_a_connector_that_would_end_the_process_fails_its_job_only(test_engine: EngineProcess) -> None:
    async with at_work(test_engine) as (gateway, work):
        await work.start(3, do="exit")
        await work.until("FAILED", 3)
        assert gateway.calls().total() == 9, "each job was tried as often as it has retries"
        await work.start(5)
        await work.until("COMPLETED", 5)
        for job in await work.jobs():
            assert job["state"] == "COMPLETED" or "tried to end the process" in job["errorMessage"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\ud800", "Error variables"),
        ("x" * 5_000_000, "xxx"),
    ],
    ids=["a lone surrogate", "five megabytes"],
)
async def test_what_cannot_be_sent_becomes_an_incident(
    test_engine: EngineProcess, tmp_path: Path, text: str, says: str
) -> None:
    module = tmp_path / "odd.py"
    module.write_text(
        "from gateway.sdk import ConnectorException, JobContext, outbound_connector\n\n"
        '@outbound_connector("Subject", type="x")\n'
        "async def subject(job: JobContext) -> None:\n"
        f"    text = {text[:1]!a} * {len(text)}\n"
        '    raise ConnectorException(text, code="c", variables={"text": text})\n'
    )
    async with at_work(test_engine) as (gateway, work):
        await gateway.kill()
        gateway._connectors = module
        await gateway.start()
        await work.start(1)
        await work.until("FAILED", 1)
        (job,) = await work.jobs()
        assert says in job["errorMessage"]
        assert job["errorMessage"]


# ---- what the HTTP client refuses, as incidents of jobs --------------------------------------------------------------


async def _incident(engine: EngineProcess, inputs: dict[str, str], **settings: str) -> str:
    """What the incident of a job of the REST connector says."""
    async with at_work(engine, settings={"CONNECTOR_HTTP_REST_TYPE": "unset", **settings}) as (gateway, work):
        await gateway.kill()
        gateway._environment |= {"CONNECTOR_HTTP_REST_TYPE": work.type, "CONNECTOR_SUBJECT_TYPE": "unused"}
        await gateway.start()
        model = process(work.type, {"method": "GET", "authentication.type": "noAuth", **inputs}, {}, job_type=work.type)
        await work.engine.deploy([Resource("http.bpmn", model.replace('retries="3"', 'retries="1"').encode())])
        await work.start(1)
        await work.until("FAILED", 1)
        (job,) = await work.jobs()
        return str(job["errorMessage"])


async def test_a_refused_address_is_a_clear_incident(test_engine: EngineProcess) -> None:
    guarded = {"CAMUNDA_CONNECTOR_VALIDATION_HOSTS_ENABLED": "true"}
    async with running(Stub()) as stub:
        for url in (stub.url("/"), f"http://2130706433:{stub.port}/", f"http://[::ffff:127.0.0.1]:{stub.port}/"):
            message = await _incident(test_engine, {"url": url}, **guarded)
            assert "Property: url" in message, message
            assert "was denied" in message, message
        assert stub.connections == 0


async def test_a_header_that_would_break_out_is_a_clear_incident(test_engine: EngineProcess) -> None:
    async with running(Stub()) as stub:
        header = '={"X-One: 1\\r\\nX-Two": "2"}'
        message = await _incident(test_engine, {"url": stub.url("/"), "headers": header})
        assert "header" in message.lower(), message
        assert all("X-Two: 2" not in request.head.decode() for request in stub.received)


async def test_an_answer_without_end_is_a_clear_incident(test_engine: EngineProcess) -> None:
    async with running(Stub()) as stub:
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        stub.reply(Reply(headers=[("Transfer-Encoding", "chunked")], chunks=[chunk] * 400))
        message = await _incident(test_engine, {"url": stub.url("/")}, CONNECTOR_HTTP_CLIENT_MAX_BODY_SIZE="1048576")
        assert "1048576" in message or "too large" in message or "larger" in message, message
