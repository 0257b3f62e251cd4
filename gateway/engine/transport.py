"""How bytes of gRPC calls travel: the seam `Transport`, what it is set up with, and its errors.

Implementations: `gateway.engine.lean` on our own HTTP/2, `gateway.engine.grpcio` on the grpcio package.

The commands know a method path and serialized messages, nothing of the library below. A transport opens one connection
and keeps it: it reconnects with growing, jittered pauses, and finds out when a connection has gone silent
(`gateway.engine.liveness`).
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import grpc

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

Metadata = tuple[tuple[str, str], ...]

CONNECT_TIMEOUT: Final = 5.0
MAX_BACKOFF: Final = 5.0
CLOSED: Final = "the connection to the engine was closed"


class ByteStream(Protocol):
    """The messages of a server stream."""

    async def read(self) -> bytes | None:
        """The next message; None at the end, also after `cancel`. Raises EngineError when it broke. One at a time."""

    def cancel(self) -> None:
        """Ends the stream. May be called more than once, also before the end."""


class Transport(Protocol):
    """One connection to a gRPC server. Its errors are those of the engine port."""

    async def unary(self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()) -> bytes:
        """Sends one request once and gives the answer; DeadlineExceeded after `timeout` seconds."""

    def stream(
        self,
        method: str,
        request: bytes,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
        on_silent: Callable[[], None] | None = None,
    ) -> ByteStream:
        """Starts a call that answers with many messages; not reading them holds the server back.

        on_silent: called when its connection is replaced because it answers nothing. The stream then stays open for a while
        and gives what still comes through. Without it the stream breaks at that moment.
        """

    def statistics(self) -> "TransportStatistics": ...

    async def close(self) -> None:
        """Ends all calls and the connection. Streams end with None, calls under way with Unavailable."""


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """`silent_for`: seconds since anything was received; None when nothing ever was."""

    connected: bool
    streams: int
    replaced: int
    silent_for: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    """When a silent connection is asked, in seconds: worst case `idle` + `probe_timeout` until it is replaced.

    late: how long one that was replaced may still bring something. Once it has, it is closed when it had nothing more to
    give for `lull` seconds.
    """

    probe_method: str
    idle: float = 15.0
    probe_timeout: float = 5.0
    late: float = 60.0
    lull: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """A channel: `target` is `host:port`. Times in seconds, sizes in bytes.

    credentials (for grpcio) and context (for our own) mean TLS; plaintext without.
    """

    target: str
    credentials: "grpc.ChannelCredentials | None" = None
    context: ssl.SSLContext | None = None
    authority: str | None = None
    user_agent: str = "connector-gateway"
    max_message_size: int = 5 * 1024 * 1024
    max_metadata_size: int = 16 * 1024
    keep_alive: float = 45.0
    keep_alive_timeout: float = 20.0
    round_robin: bool = False


# ---- status codes ----------------------------------------------------------------------------------------------------

_ERRORS: Final[dict[int, type[EngineError]]] = {
    1: Aborted,  # CANCELLED
    2: EngineFailure,  # UNKNOWN
    3: InvalidArgument,
    4: DeadlineExceeded,
    5: NotFound,
    6: AlreadyExists,
    7: PermissionDenied,
    8: ResourceExhausted,
    9: FailedPrecondition,
    10: Aborted,
    11: InvalidArgument,  # OUT_OF_RANGE
    12: Unimplemented,
    13: EngineFailure,  # INTERNAL
    14: Unavailable,
    15: Aborted,  # DATA_LOSS
}

# How grpc says that no connection could be made for a call: it was never sent.
_NEVER_SENT: Final = (
    "failed to connect to all addresses",
    "errors resolving",
    "DNS resolution failed",
    "empty address list",
)
# A peer or proxy that resets one HTTP/2 stream breaks the connection to the engine, whatever code it chose.
_BROKEN: Final = ("Received RST_STREAM", "Stream removed")


def error_of_status(code: int, details: str) -> EngineError:
    """The port's error for a gRPC status code.

    Too large a message is RESOURCE_EXHAUSTED by the letter, but no back-pressure: sending it again never helps. Sent
    it is InvalidArgument, received EngineFailure.
    """
    text = details or f"gRPC status {code} without a message"
    if code == 14 and details.startswith(_NEVER_SENT):
        return Unavailable(text, may_have_arrived=False)
    if code == 8 and ("message larger than max" in details or "exceeds maximum size" in details):
        too_large_for_us = "Received message larger" in details and not details.startswith("SERVER:")
        return (EngineFailure if too_large_for_us else InvalidArgument)(text)
    if code == 16:  # refused at the door, so that it may be sent again with better credentials
        return Unauthenticated(text, may_have_arrived=False)
    if code in {2, 13} and details.startswith(_BROKEN):
        return Unavailable(text)
    return _ERRORS.get(code, EngineFailure)(text)


def check_sendable(request: bytes, settings: ChannelSettings, *, closed: bool) -> None:
    """What is known before anything is sent. Raises Unavailable, InvalidArgument."""
    if closed:
        raise Unavailable("the connection to the engine is closed", may_have_arrived=False)
    limit = settings.max_message_size
    if len(request) > limit:
        raise InvalidArgument(
            f"the message of {len(request)} bytes is larger than max-message-size, {limit} bytes",
            may_have_arrived=False,
        )
