import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import grpc
import pytest

from gateway.engine import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    EngineError,
    EngineFailure,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from gateway.engine._proto import gateway_pb2 as pb
from gateway.engine.grpc import TOPOLOGY
from gateway.engine.grpcio import GrpcioTransport
from gateway.engine.lean import LeanTransport
from gateway.engine.transport import ByteStream, ChannelSettings, Liveness, Transport, error_of_status
from tests.engine.conftest import asked_again
from tests.engine.gateway_stub import StatusError, StubGateway, until
from tests.proxy import FaultProxy
from tests.real.processes import free_port

PUBLISH = "/gateway_protocol.Gateway/PublishMessage"
CREATE = "/gateway_protocol.Gateway/CreateProcessInstance"
STREAM = "/gateway_protocol.Gateway/StreamActivatedJobs"
PATIENT = Liveness(probe_method=TOPOLOGY)
HASTY = Liveness(probe_method=TOPOLOGY, idle=0.4, probe_timeout=0.3, late=0.6, lull=0.2)


@pytest.fixture(params=[GrpcioTransport, LeanTransport], ids=["grpcio", "lean"])
async def transports(request: pytest.FixtureRequest) -> AsyncIterator["Make"]:
    """Makes transports to a port and closes them; afterwards no task may be left."""
    made: list[Transport] = []

    def make(port: int, liveness: Liveness = PATIENT, **settings: Any) -> Transport:
        made.append(request.param(ChannelSettings(**{"target": f"127.0.0.1:{port}"} | settings), liveness))
        return made[-1]

    yield make
    for transport in made:
        await transport.close()
    gc.collect()
    left = [task for task in asyncio.all_tasks() if task.get_name().startswith("engine connection")]
    assert left == []


Make = Callable[..., Transport]


@pytest.fixture
async def proxy(stub: StubGateway) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(stub.port) as proxy:
        yield proxy


async def forever(request: bytes) -> Any:
    await asyncio.Event().wait()


async def jobs(request: bytes) -> AsyncIterator[pb.ActivatedJob]:
    """One job, then silence."""
    yield pb.ActivatedJob(key=1)
    await asyncio.Event().wait()


# ---- status codes


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.CANCELLED, Aborted),
        (grpc.StatusCode.UNKNOWN, EngineFailure),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgument),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, AlreadyExists),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDenied),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhausted),
        (grpc.StatusCode.FAILED_PRECONDITION, FailedPrecondition),
        (grpc.StatusCode.ABORTED, Aborted),
        (grpc.StatusCode.OUT_OF_RANGE, InvalidArgument),
        (grpc.StatusCode.UNIMPLEMENTED, Unimplemented),
        (grpc.StatusCode.INTERNAL, EngineFailure),
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.DATA_LOSS, Aborted),
        (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated),
    ],
)
async def test_each_status_of_the_engine_is_an_error_of_the_port(
    stub: StubGateway, transports: Make, code: grpc.StatusCode, error: type[EngineError]
) -> None:
    async def refuse(request: bytes) -> pb.PublishMessageResponse:
        raise StatusError(code, "the engine says so")

    async def break_off(request: bytes) -> AsyncIterator[pb.ActivatedJob]:
        yield pb.ActivatedJob(key=1)
        raise StatusError(code, "the engine says so")

    stub.answers |= {"PublishMessage": refuse, "StreamActivatedJobs": break_off}
    transport = transports(stub.port)
    with pytest.raises(error, match=r"^the engine says so$") as unary:
        await transport.unary(PUBLISH, b"", timeout=5)
    stream = transport.stream(STREAM, b"")
    assert await stream.read() is not None
    with pytest.raises(error, match=r"^the engine says so$") as streamed:
        await stream.read()
    assert type(unary.value) is type(streamed.value) is error
    assert unary.value.may_have_arrived is (error is not Unauthenticated)


def test_a_message_too_large_is_no_back_pressure() -> None:
    assert type(error_of_status(8, "gRPC message exceeds maximum size 4194304: 5000000")) is InvalidArgument
    assert type(error_of_status(8, "Received message larger than max (9 vs. 8)")) is EngineFailure
    assert type(error_of_status(8, "Expected to handle request, but was overloaded")) is ResourceExhausted


def test_a_reset_http2_stream_is_a_broken_connection() -> None:
    assert type(error_of_status(13, "Received RST_STREAM with error code 2")) is Unavailable
    assert type(error_of_status(2, "Stream removed")) is Unavailable


def test_an_error_without_text_names_its_code() -> None:
    assert "14" in str(error_of_status(14, ""))


# ---- unary calls


async def test_a_call_brings_the_answer_and_tells_who_calls(stub: StubGateway, transports: Make) -> None:
    transport = transports(stub.port, user_agent="connector-gateway/9")
    answer = pb.TopologyResponse.FromString(await transport.unary(TOPOLOGY, b"", timeout=5, metadata=(("k", "v"),)))
    assert answer.gatewayVersion == "8.8.9"
    assert stub.calls[0].metadata["k"] == "v"
    assert stub.calls[0].metadata["user-agent"].startswith("connector-gateway/9 ")


async def test_a_call_ends_at_its_deadline(stub: StubGateway, transports: Make) -> None:
    stub.answers["PublishMessage"] = forever
    start = monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        await transports(stub.port).unary(PUBLISH, b"", timeout=0.2)
    assert 0.15 < monotonic() - start < 1.5
    assert caught.value.may_have_arrived


async def test_without_a_server_the_call_never_left(transports: Make) -> None:
    with pytest.raises(Unavailable) as caught:
        await transports(free_port()).unary(CREATE, b"", timeout=5)
    assert not caught.value.may_have_arrived


async def test_without_an_address_the_call_never_left(transports: Make) -> None:
    with pytest.raises(Unavailable) as caught:
        await transports(0, target="engine.invalid:26500").unary(CREATE, b"", timeout=5)
    assert not caught.value.may_have_arrived


async def test_a_connection_cut_while_waiting_leaves_it_open_what_became_of_the_call_and_sends_it_once(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    stub.answers["CreateProcessInstance"] = forever
    transport = transports(proxy.port)
    call = asyncio.create_task(transport.unary(CREATE, b"", timeout=5))
    await until(lambda: "CreateProcessInstance" in stub.methods())
    proxy.reset()
    with pytest.raises(Unavailable) as caught:
        await call
    assert caught.value.may_have_arrived
    await asked_again(lambda: transport.unary(TOPOLOGY, b"", timeout=5))
    await asyncio.sleep(0.3)
    assert stub.methods().count("CreateProcessInstance") == 1


async def test_a_message_over_the_limit_is_refused_before_it_is_sent(stub: StubGateway, transports: Make) -> None:
    transport = transports(stub.port, max_message_size=1000)
    with pytest.raises(InvalidArgument, match=r"1001 bytes .* max-message-size, 1000 bytes") as caught:
        await transport.unary(PUBLISH, bytes(1001), timeout=5)
    assert not caught.value.may_have_arrived
    assert stub.calls == []


async def test_a_message_over_the_engines_limit_is_an_invalid_argument(transports: Make) -> None:
    async with StubGateway(max_receive_message_length=1000) as stub:
        with pytest.raises(InvalidArgument):
            await transports(stub.port).unary(PUBLISH, b"\x0a\xe8\x0f" + bytes(2000), timeout=5)


async def test_an_answer_over_the_limit_is_a_failure(stub: StubGateway, transports: Make) -> None:
    async def large(request: bytes) -> pb.TopologyResponse:
        return pb.TopologyResponse(gatewayVersion="x" * 2000)

    stub.answers["Topology"] = large
    with pytest.raises(EngineFailure):
        await transports(stub.port, max_message_size=1000).unary(TOPOLOGY, b"", timeout=5)


async def test_cancelling_the_caller_cancels_the_call(stub: StubGateway, transports: Make) -> None:
    stub.answers["PublishMessage"] = forever
    call = asyncio.create_task(transports(stub.port).unary(PUBLISH, b"", timeout=5))
    await until(lambda: bool(stub.calls))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


# ---- streams


async def test_a_stream_gives_its_messages_and_then_none(stub: StubGateway, transports: Make) -> None:
    async def two(request: bytes) -> AsyncIterator[pb.ActivatedJob]:
        yield pb.ActivatedJob(key=1)
        yield pb.ActivatedJob(key=2)

    stub.answers["StreamActivatedJobs"] = two
    transport = transports(stub.port)
    stream = transport.stream(STREAM, b"")
    keys = []
    while (message := await stream.read()) is not None:
        keys.append(pb.ActivatedJob.FromString(message).key)
    assert keys == [1, 2]
    assert transport.statistics().streams == 0


async def test_cancelling_a_stream_ends_the_pending_read_with_none(stub: StubGateway, transports: Make) -> None:
    stub.answers["StreamActivatedJobs"] = jobs
    transport = transports(stub.port)
    stream = transport.stream(STREAM, b"")
    await stream.read()
    pending = asyncio.create_task(stream.read())
    await asyncio.sleep(0.05)
    assert transport.statistics().streams == 1
    stream.cancel()
    stream.cancel()
    assert await pending is None
    assert await stream.read() is None
    assert transport.statistics().streams == 0


async def test_cancelling_the_reader_goes_through(stub: StubGateway, transports: Make) -> None:
    stub.answers["StreamActivatedJobs"] = jobs
    stream = transports(stub.port).stream(STREAM, b"")
    await stream.read()
    pending = asyncio.create_task(stream.read())
    await asyncio.sleep(0.05)
    pending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pending


async def test_a_reset_ends_the_stream_at_once_and_a_new_one_opens_soon(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    stub.answers["StreamActivatedJobs"] = jobs
    transport = transports(proxy.port)
    stream = transport.stream(STREAM, b"")
    await stream.read()
    pending = asyncio.create_task(stream.read())
    await asyncio.sleep(0.05)
    start = monotonic()
    proxy.reset()
    with pytest.raises(Unavailable):
        await pending
    assert await asked_again(lambda: transport.stream(STREAM, b"").read()) is not None
    assert monotonic() - start < 5


async def test_after_an_outage_it_connects_by_itself_and_without_a_storm(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    transport = transports(proxy.port)
    await transport.unary(TOPOLOGY, b"", timeout=5)
    await proxy.refuse()
    proxy.reset()
    failed = 0
    for _ in range(100):
        with pytest.raises(Unavailable):
            await transport.unary(TOPOLOGY, b"", timeout=5)
        failed += 1
    await proxy.accept()
    start = monotonic()
    while True:
        try:
            await transport.unary(TOPOLOGY, b"", timeout=5)
            break
        except Unavailable:
            await asyncio.sleep(0.05)
    assert (failed, monotonic() - start < 5.5) == (100, True)
    assert proxy.accepted == 2
    assert transport.statistics().replaced == 0


# ---- silence


async def test_a_silent_connection_is_replaced_after_a_call_without_an_answer(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    stub.answers["StreamActivatedJobs"] = jobs
    transport = transports(proxy.port, Liveness(probe_method=TOPOLOGY, idle=60, probe_timeout=0.3))
    stream = transport.stream(STREAM, b"")
    await stream.read()
    pending = asyncio.create_task(stream.read())
    proxy.black_hole()
    start = monotonic()
    with pytest.raises(DeadlineExceeded):
        await transport.unary(TOPOLOGY, b"", timeout=0.3)
    with pytest.raises(Unavailable, match="answered nothing"):
        await pending
    assert monotonic() - start < 2
    assert transport.statistics().replaced == 1


async def test_a_silent_connection_is_found_without_any_call(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    stub.answers["StreamActivatedJobs"] = jobs
    transport = transports(proxy.port, HASTY)
    stream = transport.stream(STREAM, b"")
    await stream.read()
    pending = asyncio.create_task(stream.read())
    await asyncio.sleep(0.05)
    proxy.black_hole()
    start = monotonic()
    with pytest.raises(Unavailable, match="answered nothing"):
        await pending
    assert monotonic() - start < HASTY.idle * 1.1 + HASTY.probe_timeout + 1


async def test_calls_under_way_on_a_silent_connection_end_with_it(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    transport = transports(proxy.port, HASTY)
    await transport.unary(TOPOLOGY, b"", timeout=5)
    proxy.black_hole()
    waiting = asyncio.create_task(transport.unary(CREATE, b"", timeout=30))
    await asyncio.sleep(0.05)
    with pytest.raises(DeadlineExceeded):
        await transport.unary(TOPOLOGY, b"", timeout=0.1)
    with pytest.raises(Unavailable, match="answered nothing") as caught:
        await waiting
    assert caught.value.may_have_arrived


async def test_after_a_silent_connection_a_new_one_carries_streams_and_calls(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    stub.answers["StreamActivatedJobs"] = jobs
    transport = transports(proxy.port, HASTY)
    stream = transport.stream(STREAM, b"")
    await stream.read()
    proxy.freeze()
    with pytest.raises(Unavailable, match="answered nothing"):
        await stream.read()
    start = monotonic()
    assert await transport.stream(STREAM, b"").read() is not None
    await transport.unary(TOPOLOGY, b"", timeout=5)
    assert monotonic() - start < 1
    assert (transport.statistics().replaced, proxy.accepted) == (1, 2)


async def test_an_idle_but_healthy_connection_is_asked_and_kept(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    stub.answers["StreamActivatedJobs"] = jobs
    transport = transports(proxy.port, Liveness(probe_method=TOPOLOGY, idle=0.1, probe_timeout=0.5))
    stream = transport.stream(STREAM, b"")
    await stream.read()
    pending = asyncio.create_task(stream.read())
    await asyncio.sleep(0.75)
    assert not pending.done()
    assert transport.statistics().replaced == 0
    assert 3 <= stub.methods().count("Topology") <= 8
    stream.cancel()
    await pending


async def test_a_connection_without_streams_is_not_asked(stub: StubGateway, transports: Make) -> None:
    stub.answers["StreamActivatedJobs"] = jobs
    transport = transports(stub.port, Liveness(probe_method=TOPOLOGY, idle=0.05, probe_timeout=0.5))
    stream = transport.stream(STREAM, b"")
    await stream.read()
    stream.cancel()
    await asyncio.sleep(0.1)
    asked = stub.methods().count("Topology")
    await asyncio.sleep(0.3)
    assert stub.methods().count("Topology") == asked


async def test_a_slow_command_does_not_cost_the_connection(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    stub.answers |= {"PublishMessage": forever, "StreamActivatedJobs": jobs}
    transport = transports(proxy.port, Liveness(probe_method=TOPOLOGY, idle=60, probe_timeout=0.3))
    stream = transport.stream(STREAM, b"")
    await stream.read()
    pending = asyncio.create_task(stream.read())
    with pytest.raises(DeadlineExceeded):
        await transport.unary(PUBLISH, b"", timeout=0.1)
    await until(lambda: "Topology" in stub.methods())
    await asyncio.sleep(0.5)
    assert transport.statistics().replaced == 0
    assert not pending.done()
    stream.cancel()
    await pending


async def test_a_probe_that_is_refused_is_an_answer(stub: StubGateway, proxy: FaultProxy, transports: Make) -> None:
    stub.answers["StreamActivatedJobs"] = jobs
    transport = transports(proxy.port, HASTY)
    await transport.stream(STREAM, b"").read()
    stub.gate = lambda metadata: StatusError(grpc.StatusCode.UNAUTHENTICATED, "who are you")
    await until(lambda: "Topology" in stub.methods())
    await asyncio.sleep(HASTY.probe_timeout + 0.1)
    assert transport.statistics().replaced == 0


async def test_a_connection_still_being_made_is_not_replaced(proxy: FaultProxy, transports: Make) -> None:
    proxy.black_hole()
    transport = transports(proxy.port, HASTY)
    for _ in range(3):
        with pytest.raises((DeadlineExceeded, Unavailable)):
            await transport.unary(TOPOLOGY, b"", timeout=0.2)
    await asyncio.sleep(HASTY.probe_timeout + 0.1)
    assert transport.statistics().replaced == 0
    assert proxy.accepted == 1


# ---- what comes after the silence


@dataclass
class Feed:
    """Gives a stream what is pushed; the numbers come as keys of jobs. `ended`: the server has seen the stream end."""

    items: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    ended: bool = False

    def push(self, *keys: int) -> None:
        for key in keys:
            self.items.put_nowait(key)

    async def __call__(self, request: bytes) -> AsyncIterator[pb.ActivatedJob]:
        try:
            while True:
                yield pb.ActivatedJob(key=await self.items.get())
        finally:
            self.ended = True


async def key_from(stream: ByteStream) -> int:
    message = await stream.read()
    assert message is not None
    return pb.ActivatedJob.FromString(message).key


async def silenced(stub: StubGateway, proxy: FaultProxy, transport: Transport) -> tuple[Feed, ByteStream]:
    """A stream whose connection was replaced while the server went on sending."""
    feed, told = Feed(), asyncio.Event()
    stub.answers["StreamActivatedJobs"] = feed
    stream = transport.stream(STREAM, b"", on_silent=told.set)
    feed.push(1)
    assert await key_from(stream) == 1
    proxy.freeze()
    feed.push(2, 3)
    await asyncio.wait_for(told.wait(), 5)
    return feed, stream


async def test_what_was_sent_into_the_silence_comes_when_the_network_is_back(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    transport = transports(proxy.port, HASTY)
    _, stream = await silenced(stub, proxy, transport)
    await transport.unary(TOPOLOGY, b"", timeout=5)
    proxy.heal()
    assert [await key_from(stream), await key_from(stream)] == [2, 3]
    assert transport.statistics().replaced == 1


async def test_a_silent_stream_is_closed_when_it_has_nothing_more_to_give(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    feed, stream = await silenced(stub, proxy, transports(proxy.port, HASTY))
    proxy.heal()
    assert [await key_from(stream), await key_from(stream)] == [2, 3]
    began = monotonic()
    with pytest.raises(Unavailable, match="answered nothing"):
        await stream.read()
    assert monotonic() - began < HASTY.late
    await until(lambda: feed.ended)


async def test_a_silent_stream_is_not_closed_before_its_reader_had_all_that_came(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    _, stream = await silenced(stub, proxy, transports(proxy.port, HASTY))
    proxy.heal()
    assert await key_from(stream) == 2
    await asyncio.sleep(HASTY.late + HASTY.lull * 2)
    assert await key_from(stream) == 3


async def test_a_connection_that_stays_silent_is_closed_after_a_while(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    _, stream = await silenced(stub, proxy, transports(proxy.port, HASTY))
    began = monotonic()
    with pytest.raises(Unavailable, match="answered nothing"):
        await stream.read()
    assert HASTY.late - 0.1 <= monotonic() - began < HASTY.late + 1
    await until(lambda: proxy.connections <= 1)


async def test_calls_under_way_end_with_the_silence_though_streams_are_read_on(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    stub.answers["PublishMessage"] = forever
    transport = transports(proxy.port, HASTY)
    await transport.unary(TOPOLOGY, b"", timeout=5)
    waiting = asyncio.create_task(transport.unary(PUBLISH, b"", timeout=30))
    await until(lambda: "PublishMessage" in stub.methods())
    await silenced(stub, proxy, transport)
    with pytest.raises(Unavailable, match="answered nothing"):
        await waiting


async def test_closing_ends_streams_of_replaced_connections_too(
    stub: StubGateway, proxy: FaultProxy, transports: Make
) -> None:
    transport = transports(proxy.port, Liveness(probe_method=TOPOLOGY, idle=0.4, probe_timeout=0.3))
    _, stream = await silenced(stub, proxy, transport)
    pending = asyncio.create_task(stream.read())
    await asyncio.sleep(0.05)
    await transport.close()
    assert await pending is None


# ---- closing


async def test_closing_ends_everything_and_leaves_nothing(stub: StubGateway, transports: Make) -> None:
    stub.answers |= {"PublishMessage": forever, "StreamActivatedJobs": jobs}
    transport = transports(stub.port)
    call = asyncio.create_task(transport.unary(PUBLISH, b"", timeout=5))
    stream = transport.stream(STREAM, b"")
    await stream.read()
    pending = asyncio.create_task(stream.read())
    await until(lambda: "PublishMessage" in stub.methods())
    await transport.close()
    assert await pending is None
    with pytest.raises(Unavailable, match="closed"):
        await call
    await transport.close()


async def test_a_closed_transport_sends_nothing(stub: StubGateway, transports: Make) -> None:
    transport = transports(stub.port)
    await transport.close()
    with pytest.raises(Unavailable) as caught:
        await transport.unary(CREATE, b"", timeout=5)
    assert not caught.value.may_have_arrived
    with pytest.raises(Unavailable):
        transport.stream(STREAM, b"")
    assert not transport.statistics().connected


async def test_statistics_show_the_connection_its_streams_and_its_silence(stub: StubGateway, transports: Make) -> None:
    stub.answers["StreamActivatedJobs"] = jobs
    transport = transports(stub.port)
    before = transport.statistics()
    assert (before.connected, before.streams, before.replaced, before.silent_for) == (False, 0, 0, None)
    stream = transport.stream(STREAM, b"")
    await stream.read()
    now = transport.statistics()
    assert (now.connected, now.streams) == (True, 1)
    assert now.silent_for is not None
    assert now.silent_for < 5
