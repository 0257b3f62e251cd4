"""A gRPC server that answers as a test tells it to, and remembers what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.message import Message

from gateway.engine._proto import gateway_pb2 as pb

_STREAMS = {"StreamActivatedJobs", "ActivateJobs"}


@dataclass(frozen=True)
class Call:
    method: str
    request: bytes
    metadata: dict[str, str]
    seconds_left: float


class StatusError(Exception):
    """Answers with this status."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        super().__init__(code, details)
        self.code, self.details = code, details


class StubGateway(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs alone
    """`answers` has a function for each method that is not left empty; Topology answers by itself."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None, **options: Any) -> None:
        self.calls: list[Call] = []
        self.answers: dict[str, Any] = {"Topology": _topology}
        self.gate: Callable[[dict[str, str]], StatusError | None] = lambda metadata: None
        self._credentials = credentials
        self._options = [(f"grpc.{name}", value) for name, value in options.items()]
        self._server: grpc.aio.Server | None = None
        self.port = 0

    def methods(self) -> list[str]:
        return [call.method for call in self.calls]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        self._server = grpc.aio.server(handlers=[self], options=[("grpc.so_reuseport", 0), *self._options])
        address = f"127.0.0.1:{self.port}"
        self.port = (
            self._server.add_insecure_port(address)
            if self._credentials is None
            else self._server.add_secure_port(address, self._credentials)
        )
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method.rsplit("/", 1)[1]
        if method in _STREAMS:
            return grpc.unary_stream_rpc_method_handler(partial(self._stream, method))
        return grpc.unary_unary_rpc_method_handler(partial(self._unary, method))

    async def _note(self, method: str, request: bytes, context: Any) -> None:
        metadata = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
        self.calls.append(Call(method, request, metadata, context.time_remaining() or 0.0))
        refusal = self.gate(metadata)
        if refusal is not None:
            await context.abort(refusal.code, refusal.details)

    async def _unary(self, method: str, request: bytes, context: Any) -> bytes:
        await self._note(method, request, context)
        message: Message | bytes | None = None
        try:
            if answer := self.answers.get(method):
                message = await answer(request)
        except StatusError as e:
            await context.abort(e.code, e.details)
        if isinstance(message, bytes):
            return message
        return message.SerializeToString() if message else b""

    async def _stream(self, method: str, request: bytes, context: Any) -> AsyncIterator[bytes]:
        await self._note(method, request, context)
        try:
            if answer := self.answers.get(method):
                async for message in answer(request):
                    yield message.SerializeToString()
        except StatusError as e:
            await context.abort(e.code, e.details)


async def _topology(request: bytes) -> Message:
    return pb.TopologyResponse(gatewayVersion="8.8.9")


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "it never came true"
        await asyncio.sleep(0.01)
