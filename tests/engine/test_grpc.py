import asyncio
import json
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import grpc
import pytest

from gateway.engine import (
    AdHocResult,
    ElementActivation,
    Engine,
    EngineFailure,
    JobActivation,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from gateway.engine._proto import gateway_pb2 as pb
from gateway.engine.auth import FixedCredentials
from gateway.engine.grpc import TOPOLOGY, GrpcCommands
from gateway.engine.grpcio import GrpcioTransport
from gateway.engine.lean import LeanTransport
from gateway.engine.settings import ConnectionSettings
from gateway.engine.transport import ChannelSettings, Liveness
from tests.engine import models
from tests.engine.conftest import asked_again, connected
from tests.engine.gateway_stub import StatusError, StubGateway, until
from tests.proxy import FaultProxy
from tests.real.processes import EngineProcess, free_port, running_engine

ACTIVATION = JobActivation("a", "w", 60_000)


class CountingCredentials(FixedCredentials):
    """Another value each time; remembers what was refused."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0
        self.dropped: list[str | None] = []

    async def authorization(self, timeout: float) -> str:
        self.given += 1
        return f"Bearer {self.given}"

    def refused(self, authorization: str | None) -> None:
        self.dropped.append(authorization)


@pytest.fixture
def credentials() -> CountingCredentials:
    return CountingCredentials()


def through(proxy: FaultProxy) -> ConnectionSettings:
    return ConnectionSettings(grpc_address=f"http://127.0.0.1:{proxy.port}")


@pytest.fixture(params=[GrpcioTransport, LeanTransport], ids=["grpcio", "lean"])
async def commands(
    request: pytest.FixtureRequest, stub: StubGateway, credentials: CountingCredentials
) -> AsyncIterator[GrpcCommands]:
    transport = request.param(ChannelSettings(target=f"127.0.0.1:{stub.port}"), Liveness(probe_method=TOPOLOGY))
    made = GrpcCommands(transport, credentials, request_timeout=3, timeout_offset=1, physical_tenant_id="blue")
    yield made
    await made.close()


# ---- what goes over the wire


async def test_each_attempt_has_fresh_metadata(stub: StubGateway, commands: GrpcCommands) -> None:
    await commands.topology()
    await commands.topology()
    await commands.activate_jobs(ACTIVATION, 1)
    await commands.stream_jobs(ACTIVATION).read()
    assert [call.metadata["authorization"] for call in stub.calls] == ["Bearer 1", "Bearer 2", "Bearer 3", "Bearer 4"]
    assert {call.metadata["camunda-physical-tenant"] for call in stub.calls} == {"blue"}


async def test_what_the_engine_does_not_accept_is_reported_to_the_credentials(
    stub: StubGateway, commands: GrpcCommands, credentials: CountingCredentials
) -> None:
    stub.gate = lambda metadata: StatusError(grpc.StatusCode.UNAUTHENTICATED, "expired")
    with pytest.raises(Unauthenticated, match=r"^expired$") as caught:
        await commands.topology()
    with pytest.raises(Unauthenticated):
        await commands.activate_jobs(ACTIVATION, 1)
    with pytest.raises(Unauthenticated):
        await commands.stream_jobs(ACTIVATION).read()
    assert credentials.dropped == ["Bearer 1", "Bearer 2", "Bearer 3"]
    assert len(stub.calls) == 3
    assert not caught.value.may_have_arrived


@pytest.mark.parametrize(
    ("request_timeout_ms", "timeout", "seconds"),
    [(-1, None, 3), (0, None, 4), (7_000, None, 8), (7_000, 2.0, 2)],
)
async def test_a_call_that_waits_in_the_engine_has_its_deadline_after_that(
    stub: StubGateway, commands: GrpcCommands, request_timeout_ms: int, timeout: float | None, seconds: float
) -> None:
    await commands.activate_jobs(ACTIVATION, 1, request_timeout_ms=request_timeout_ms, timeout=timeout)
    assert round(stub.calls[0].seconds_left) == seconds


async def test_other_calls_have_the_request_timeout_or_their_own(stub: StubGateway, commands: GrpcCommands) -> None:
    await commands.complete_job(1, "{}")
    await commands.complete_job(1, "{}", timeout=60)
    await commands.create_process_instance_with_result(bpmn_process_id="p", request_timeout_ms=20_000)
    assert [round(call.seconds_left) for call in stub.calls] == [3, 60, 21]


async def test_requests_carry_all_their_fields(stub: StubGateway, commands: GrpcCommands) -> None:
    tool = ElementActivation("tool", '{"a":1}')
    await commands.complete_job(
        7, '{"x":1}', result=AdHocResult((tool,), completion_condition_fulfilled=True, cancel_remaining_instances=True)
    )
    await commands.fail_job(7, retries=2, message="m", backoff_ms=5, variables='{"v":1}')
    await commands.throw_error(7, code="c", message="m", variables='{"v":1}')
    await commands.publish_message(
        name="n", correlation_key="k", time_to_live_ms=9, message_id="id", variables='{"v":1}', tenant_id="t"
    )
    completed = pb.CompleteJobRequest.FromString(stub.calls[0].request)
    assert (completed.jobKey, completed.variables, completed.result.type) == (7, '{"x":1}', "adHocSubProcess")
    assert completed.result.activateElements[0].elementId == "tool"
    assert completed.result.isCompletionConditionFulfilled
    assert completed.result.isCancelRemainingInstances
    assert (
        stub.calls[1].request
        == pb.FailJobRequest(
            jobKey=7, retries=2, errorMessage="m", retryBackOff=5, variables='{"v":1}'
        ).SerializeToString()
    )
    assert (
        stub.calls[2].request
        == pb.ThrowErrorRequest(jobKey=7, errorCode="c", errorMessage="m", variables='{"v":1}').SerializeToString()
    )
    assert (
        stub.calls[3].request
        == pb.PublishMessageRequest(
            name="n", correlationKey="k", timeToLive=9, messageId="id", variables='{"v":1}', tenantId="t"
        ).SerializeToString()
    )


async def test_a_plain_completion_has_no_result(stub: StubGateway, commands: GrpcCommands) -> None:
    await commands.complete_job(7, "{}")
    assert not pb.CompleteJobRequest.FromString(stub.calls[0].request).HasField("result")


async def test_activated_jobs_come_from_all_messages_of_the_answer(stub: StubGateway, commands: GrpcCommands) -> None:
    async def two(request: bytes) -> AsyncIterator[pb.ActivateJobsResponse]:
        yield pb.ActivateJobsResponse(jobs=[pb.ActivatedJob(key=1), pb.ActivatedJob(key=2)])
        yield pb.ActivateJobsResponse(jobs=[pb.ActivatedJob(key=3, tenantId="t")])

    stub.answers["ActivateJobs"] = two
    jobs = await commands.activate_jobs(ACTIVATION, 5)
    assert [(job.key, job.tenant_id) for job in jobs] == [(1, "<default>"), (2, "<default>"), (3, "t")]


async def test_an_answer_that_is_no_message_is_a_failure(stub: StubGateway, commands: GrpcCommands) -> None:
    async def garbage(request: bytes) -> Any:
        return b"\xff\xff\xff"

    stub.answers["Topology"] = garbage
    with pytest.raises(EngineFailure, match="TopologyResponse"):
        await commands.topology()


async def test_a_deployment_leaves_out_what_is_no_process(stub: StubGateway, commands: GrpcCommands) -> None:
    async def mixed(request: bytes) -> pb.DeployResourceResponse:
        return pb.DeployResourceResponse(
            deployments=[pb.Deployment(), pb.Deployment(process=pb.ProcessMetadata(bpmnProcessId="p"))]
        )

    stub.answers["DeployResource"] = mixed
    assert [one.bpmn_process_id for one in await commands.deploy([])] == ["p"]


async def test_a_stream_cancelled_before_it_is_read_never_starts(stub: StubGateway, commands: GrpcCommands) -> None:
    stream = commands.stream_jobs(ACTIVATION)
    stream.cancel()
    assert await stream.read() is None
    assert stub.calls == []


async def test_a_create_is_sent_once_however_its_connection_ends(stub: StubGateway) -> None:
    async def never(request: bytes) -> Any:
        await asyncio.Event().wait()

    stub.answers["CreateProcessInstance"] = never
    async with FaultProxy(stub.port) as proxy, connected(through(proxy)) as engine:
        for cut in (proxy.reset, proxy.drop):
            stub.calls.clear()
            creating = asyncio.create_task(engine.create_process_instance(bpmn_process_id="p"))
            await until(lambda: bool(stub.calls))
            cut()
            with pytest.raises(Unavailable) as caught:
                await creating
            assert caught.value.may_have_arrived
            await asked_again(engine.topology)
            assert stub.methods().count("CreateProcessInstance") == 1


# ---- against the test engine


@pytest.mark.real
async def test_a_stream_brings_jobs_as_they_are_made(grpc_engine: Engine, unique: str) -> None:
    await grpc_engine.deploy([models.one_task(unique)])
    stream = grpc_engine.stream_jobs(JobActivation(unique, "streamer", 60_000, fetch_variables=("b",)))
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0.2)
    instance = await grpc_engine.create_process_instance(bpmn_process_id=unique, variables='{"a":1,"b":2}')
    job = await reading
    assert job is not None
    assert (job.process_instance_key, job.worker) == (instance.process_instance_key, "streamer")
    assert json.loads(job.variables) == {"b": 2}
    await grpc_engine.complete_job(job.key, "{}")
    stream.cancel()
    assert await stream.read() is None


@pytest.mark.real
async def test_a_stream_that_nobody_reads_stalls_and_its_jobs_go_elsewhere(grpc_engine: Engine, unique: str) -> None:
    await grpc_engine.deploy([models.one_task(unique)])
    activation = JobActivation(unique, "lazy", 60_000)
    lazy = grpc_engine.stream_jobs(activation)
    reading = asyncio.create_task(lazy.read())
    await asyncio.sleep(0.2)
    variables = json.dumps({"ballast": "x" * 40_000})
    for _ in range(20):
        await grpc_engine.create_process_instance(bpmn_process_id=unique, variables=variables)
    assert await reading is not None
    # 64 KB of window and what lies in buffers on the way: far from all 20.
    backlog = await grpc_engine.activate_jobs(JobActivation(unique, "diligent", 60_000), 50)
    assert len(backlog) >= 8
    lazy.cancel()


@pytest.mark.real
async def test_streams_and_calls_come_back_after_the_engine_restarted() -> None:
    port = free_port()
    async with connected(ConnectionSettings(grpc_address=f"http://127.0.0.1:{port}")) as engine:
        with running_engine("--grpc", str(port)):
            await engine.deploy([models.one_task("restarted")])
            reading = asyncio.create_task(engine.stream_jobs(JobActivation("restarted", "w", 60_000)).read())
            await asyncio.sleep(0.3)
        with pytest.raises(Unavailable):
            await reading
        with pytest.raises(Unavailable):
            await engine.topology()
        with running_engine("--grpc", str(port)):
            start = monotonic()
            while True:
                try:
                    await engine.deploy([models.one_task("restarted")])
                    break
                except Unavailable:
                    await asyncio.sleep(0.05)
            assert monotonic() - start < 5.5
            stream = engine.stream_jobs(JobActivation("restarted", "w", 60_000))
            reading = asyncio.create_task(stream.read())
            await asyncio.sleep(0.3)
            await engine.create_process_instance(bpmn_process_id="restarted")
            job = await reading
            assert job is not None
            assert job.bpmn_process_id == "restarted"


@pytest.mark.real
async def test_a_lost_reply_may_be_asked_for_again_and_then_the_job_is_gone(
    test_engine: EngineProcess, unique: str
) -> None:
    async with FaultProxy(test_engine.grpc_port) as proxy, connected(through(proxy)) as engine:
        await engine.deploy([models.one_task(unique)])
        await engine.create_process_instance(bpmn_process_id=unique)
        (job,) = await engine.activate_jobs(JobActivation(unique, "w", 60_000), 1, request_timeout_ms=5000)
        proxy.black_hole("down")
        completing = asyncio.create_task(engine.complete_job(job.key, "{}"))
        await asyncio.sleep(0.3)
        proxy.reset()
        with pytest.raises(Unavailable) as caught:
            await completing
        assert caught.value.may_have_arrived
        proxy.heal()
        with pytest.raises(NotFound):
            await asked_again(lambda: engine.complete_job(job.key, "{}"))
