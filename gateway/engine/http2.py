"""The client side of one HTTP/2 connection (RFC 9113), as far as gRPC needs it: requests with a body that is known, answers that
stream. On asyncio.Protocol, without a task of its own.

Flow control is used both ways. What arrives is counted against the connection at once, against its stream when somebody has
taken it: a stream that nobody reads fills its window and stalls the sender. Header blocks are decoded by the hpack package; the
peer is told to use no dynamic table, so that equal blocks mean the same and are decoded once.
"""

import asyncio
import struct
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol, cast

import hpack

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD: Final = struct.Struct(">HBBBI")

_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    range(10)
)
_END_STREAM: Final = 0x1
_ACK: Final = 0x1
_END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_PRIORITIZED: Final = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 5, 6, 7, 8, 9
ENHANCE_YOUR_CALM: Final = 11

_MAX_FRAME: Final = 16_384  # what we take; the default, so that no peer has to learn it
_DEFAULT_WINDOW: Final = 65_535
_CONNECTION_WINDOW: Final = 8 * 1024 * 1024
_LARGEST_WINDOW: Final = 2**31 - 1
_LARGEST_STREAM: Final = 2**31 - 1
_MEMO: Final = 1_000
_MAX_CONTROL: Final = 10_000  # answers to pings and settings that may wait to be written

Headers = list[tuple[bytes, bytes]]


class Exchange(Protocol):
    """Who made a request: told what comes for it, each time from within the reading of the connection."""

    def headers_received(self, headers: Headers, end: bool, /) -> None:
        """A block of headers; end: nothing follows."""

    def data_received(self, data: bytes, end: bool, /) -> None: ...

    def reset(self, code: int, /) -> None:
        """The peer ended it, or refused it (REFUSED_STREAM: it was not processed)."""

    def lost(self, reason: str, sent: bool, /) -> None:
        """The connection is gone. sent: the request may have been processed."""


class _Broken(Exception):  # noqa: N818 - a signal within this module
    """The peer breaks the protocol: the connection ends."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class _Stream:
    """One request under way."""

    __slots__ = ("body", "exchange", "id", "received", "sent_all", "taken", "window")

    def __init__(self, exchange: Exchange, body: bytes) -> None:
        self.id = 0
        self.exchange = exchange
        self.body = body  # what is not sent yet
        self.window = 0  # what the peer still takes
        self.received = 0  # bytes that count against the stream's window
        self.taken = 0  # of these, what was taken and not yet given back to the peer
        self.sent_all = False


class Http2Connection(asyncio.Protocol):
    """One connection. Made by `loop.create_connection`; `closed` tells when it is over.

    stream_window: bytes that may lie unread in a stream; max_header_bytes: of one block of headers, both ways.
    """

    def __init__(self, *, stream_window: int = _DEFAULT_WINDOW, max_header_bytes: int = 16 * 1024) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream_window = stream_window
        self._max_header_bytes = max_header_bytes
        self._transport: asyncio.Transport | None = None
        self._unread = b""
        self._streams: dict[int, _Stream] = {}
        self._waiting: deque[_Stream] = deque()
        self._blocked: OrderedDict[_Stream, None] = OrderedDict()
        self._next_id = 1
        self._window = _DEFAULT_WINDOW
        self._peer_stream_window = _DEFAULT_WINDOW
        self._peer_max_frame = _MAX_FRAME
        self._peer_max_streams = 2**31
        self._owed = 0
        self._out: list[bytes] = []
        self._flushing = False
        self._paused = False
        self._control = 0
        self._decoder = hpack.Decoder(max_header_list_size=max_header_bytes)
        self._memo: dict[bytes, Headers] = {}
        self._no_table = False
        self._block: tuple[int, int, bytes] | None = None  # stream, flags, what came of a block of headers
        self.settled: asyncio.Future[None] = self._loop.create_future()
        """The peer's SETTINGS are here: it speaks HTTP/2, and answers. Cancelled when the connection ends before."""
        self._going = False
        self._pings: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._ping_count = 0
        self.last_received: float | None = None
        self.peer_calm = False
        """The peer asked for less, by GOAWAY with ENHANCE_YOUR_CALM."""
        self.closed: asyncio.Future[str] = self._loop.create_future()

    # ---- what a client does ----

    @property
    def usable(self) -> bool:
        """Whether new requests can be made."""
        return self._transport is not None and not self._going and not self.closed.done()

    @property
    def under_way(self) -> int:
        return len(self._streams) + len(self._waiting)

    def request(self, block: bytes, body: bytes, exchange: Exchange) -> _Stream:
        """Sends a request: an encoded block of headers and the whole body. Only on a `usable` connection.

        What exceeds the peer's number of streams or its windows waits here. Give the result to `cancel` and `take`.
        """
        stream = _Stream(exchange, body)
        stream.exchange = exchange
        if len(self._streams) >= self._peer_max_streams or self._waiting:
            stream.body = block + body  # kept together until it may start
            stream.received = len(block)
            self._waiting.append(stream)
            return stream
        self._start(stream, block)
        return stream

    def cancel(self, stream: _Stream, code: int = CANCEL) -> None:
        """Ends a request: the peer is told, its exchange hears nothing more."""
        if stream.id == 0:
            if stream in self._waiting:
                self._waiting.remove(stream)
            return
        if self._streams.pop(stream.id, None) is not None:
            self._blocked.pop(stream, None)
            self._send(_frame(_RST_STREAM, 0, stream.id, code.to_bytes(4, "big")))
            self._admit()

    def take(self, stream: _Stream, size: int) -> None:
        """Says that so many bytes of a stream's data were taken: the peer may send as many more."""
        stream.taken += size
        if stream.taken * 2 >= self._stream_window and stream.id in self._streams:
            self._send(_frame(_WINDOW_UPDATE, 0, stream.id, stream.taken.to_bytes(4, "big")))
            stream.received -= stream.taken
            stream.taken = 0

    def ping(self) -> "asyncio.Future[None]":
        """Sends a PING; done when it is answered, cancelled when the connection ends first."""
        answered: asyncio.Future[None] = self._loop.create_future()
        self._ping_count += 1
        payload = self._ping_count.to_bytes(8, "big")
        self._pings.append((payload, answered))
        self._send(_frame(_PING, 0, 0, payload))
        return answered

    def close(self, reason: str = "closed") -> None:
        """Says goodbye and closes; requests under way are lost."""
        self._end(NO_ERROR, reason)

    def abort(self, reason: str) -> None:
        """Closes without another byte: for connections that answer nothing any more."""
        if self._transport is not None:
            self._transport.abort()
        self._over(reason)

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)
        settings = struct.pack(
            ">HIHIHIHI",
            *(1, 0),  # HEADER_TABLE_SIZE
            *(2, 0),  # ENABLE_PUSH
            *(4, self._stream_window),  # INITIAL_WINDOW_SIZE
            *(6, self._max_header_bytes),  # MAX_HEADER_LIST_SIZE
        )
        credit = (_CONNECTION_WINDOW - _DEFAULT_WINDOW).to_bytes(4, "big")
        transport.write(PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, credit))

    def data_received(self, data: bytes) -> None:
        self.last_received = self._loop.time()
        if self._unread:
            data = self._unread + data
        try:
            at = self._frames(data)
        except _Broken as e:
            self._end(e.code, f"the peer broke the HTTP/2 protocol: {e}")
            return
        self._unread = data[at:] if at < len(data) else b""
        if self._owed * 2 >= _CONNECTION_WINDOW:
            self._send(_frame(_WINDOW_UPDATE, 0, 0, self._owed.to_bytes(4, "big")))
            self._owed = 0

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._over("the connection was closed by the peer" if exc is None else f"the connection broke: {exc}")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._out:
            self._flush()

    # ---- frames in ----

    def _frames(self, data: bytes) -> int:
        """Handles all whole frames; where the first that is not whole begins."""
        at, size = 0, len(data)
        while size - at >= 9 and not self.closed.done():
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > _MAX_FRAME:
                raise _Broken(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            end = at + 9 + length
            if end > size:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream_id = int.from_bytes(data[at + 5 : at + 9], "big") & _LARGEST_STREAM
            if kind != _SETTINGS and not self.settled.done():
                raise _Broken(PROTOCOL_ERROR, "the first frame is not SETTINGS")
            if self._block is not None and (kind != _CONTINUATION or stream_id != self._block[0]):
                raise _Broken(PROTOCOL_ERROR, "something else within a block of headers")
            if kind == _DATA:
                self._data(stream_id, flags, data[at + 9 : end])
            elif kind < len(_ON):
                _ON[kind](self, stream_id, flags, data[at + 9 : end])
            at = end
        return at

    def _data(self, stream_id: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        if stream_id == 0 or stream_id >= self._next_id:
            raise _Broken(PROTOCOL_ERROR, "DATA on a stream that was never opened")
        self._owed += size
        if self._owed > _CONNECTION_WINDOW:
            raise _Broken(FLOW_CONTROL_ERROR, "more data than the connection's window allows")
        stream = self._streams.get(stream_id)
        if stream is None:
            return  # for one that we have cancelled
        stream.received += size
        if stream.received > self._stream_window:
            raise _Broken(FLOW_CONTROL_ERROR, "more data than the stream's window allows")
        if flags & _PADDED:
            payload = _unpadded(payload)
            self.take(stream, size - len(payload))
        end = bool(flags & _END_STREAM)
        if end:
            self._done(stream)
        if payload or end:
            stream.exchange.data_received(payload, end)

    def _headers(self, stream_id: int, flags: int, payload: bytes) -> None:
        if stream_id == 0 or stream_id >= self._next_id:
            raise _Broken(PROTOCOL_ERROR, "HEADERS on a stream that was never opened")
        if flags & _PADDED:
            payload = _unpadded(payload)
        if flags & _PRIORITIZED:
            if len(payload) < 5:
                raise _Broken(FRAME_SIZE_ERROR, "HEADERS that are too short")
            payload = payload[5:]
        if flags & _END_HEADERS:
            self._block_received(stream_id, flags, payload)
        else:
            self._block = (stream_id, flags, payload)

    def _continuation(self, stream_id: int, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise _Broken(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        _, first, block = self._block
        block += payload
        if len(block) > self._max_header_bytes:
            raise _Broken(ENHANCE_YOUR_CALM, "a block of headers that is too large")
        if flags & _END_HEADERS:
            self._block = None
            self._block_received(stream_id, first, block)
        else:
            self._block = (stream_id, first, block)

    def _block_received(self, stream_id: int, flags: int, block: bytes) -> None:
        headers = self._memo.get(block)
        if headers is None:
            headers = self._decoded(block)
        stream = self._streams.get(stream_id)
        if stream is None:
            return  # decoded all the same: the table has to stay in step
        end = bool(flags & _END_STREAM)
        if end:
            self._done(stream)
        stream.exchange.headers_received(headers, end)

    def _decoded(self, block: bytes) -> Headers:
        try:
            headers = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except (hpack.HPACKError, UnicodeError, ValueError) as e:
            raise _Broken(COMPRESSION_ERROR, f"headers that cannot be decoded: {type(e).__name__}") from None
        if self._no_table and not _moves_table(block):
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            self._memo[block] = headers
        return headers

    def _rst_stream(self, stream_id: int, flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _Broken(FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        if stream_id == 0 or stream_id >= self._next_id:
            raise _Broken(PROTOCOL_ERROR, "RST_STREAM on a stream that was never opened")
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._done(stream, reset=True)
            stream.exchange.reset(int.from_bytes(payload, "big"))

    def _settings(self, stream_id: int, flags: int, payload: bytes) -> None:
        if stream_id or len(payload) % 6 or (flags & _ACK and payload):
            raise _Broken(FRAME_SIZE_ERROR, "SETTINGS of a wrong form")
        if not self.settled.done():
            self.settled.set_result(None)
        if flags & _ACK:
            # From now on the peer's encoder has no table: equal blocks mean the same.
            self._no_table = True
            return
        for at in range(0, len(payload), 6):
            name, value = struct.unpack_from(">HI", payload, at)
            self._setting(name, value)
        self._answer(_frame(_SETTINGS, _ACK, 0, b""))
        self._admit()
        self._unblock()

    def _setting(self, name: int, value: int) -> None:
        if name == 3:
            self._peer_max_streams = value
        elif name == 4:
            if value > _LARGEST_WINDOW:
                raise _Broken(FLOW_CONTROL_ERROR, "a window that is too large")
            for stream in self._streams.values():
                stream.window += value - self._peer_stream_window
            self._peer_stream_window = value
        elif name == 5:
            if not _MAX_FRAME <= value < 2**24:
                raise _Broken(PROTOCOL_ERROR, "an impossible size of frames")
            self._peer_max_frame = value

    def _push_promise(self, stream_id: int, flags: int, payload: bytes) -> None:
        raise _Broken(PROTOCOL_ERROR, "PUSH_PROMISE, though pushing is off")

    def _ping(self, stream_id: int, flags: int, payload: bytes) -> None:
        if stream_id or len(payload) != 8:
            raise _Broken(FRAME_SIZE_ERROR, "PING of a wrong form")
        if not flags & _ACK:
            self._answer(_frame(_PING, _ACK, 0, payload))
        elif self._pings and self._pings[0][0] == payload:
            answered = self._pings.popleft()[1]
            if not answered.done():
                answered.set_result(None)

    def _goaway(self, stream_id: int, flags: int, payload: bytes) -> None:
        if stream_id or len(payload) < 8:
            raise _Broken(FRAME_SIZE_ERROR, "GOAWAY of a wrong form")
        last = int.from_bytes(payload[:4], "big") & _LARGEST_STREAM
        code = int.from_bytes(payload[4:8], "big")
        self._going = True
        self.peer_calm = self.peer_calm or code == ENHANCE_YOUR_CALM
        for stream in [s for s in self._streams.values() if s.id > last]:
            self._done(stream, reset=True)
            stream.exchange.lost("the peer is going away", False)
        self._drop_waiting("the peer is going away")
        if not self._streams or code != NO_ERROR:
            self._end(NO_ERROR, f"the peer went away (code {code})")

    def _window_update(self, stream_id: int, flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _Broken(FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        credit = int.from_bytes(payload, "big") & _LARGEST_WINDOW
        if stream_id == 0:
            self._window += credit
            if credit == 0 or self._window > _LARGEST_WINDOW:
                raise _Broken(FLOW_CONTROL_ERROR if credit else PROTOCOL_ERROR, "an impossible WINDOW_UPDATE")
        elif (stream := self._streams.get(stream_id)) is not None:
            stream.window += credit
            if credit == 0 or stream.window > _LARGEST_WINDOW:
                raise _Broken(FLOW_CONTROL_ERROR if credit else PROTOCOL_ERROR, "an impossible WINDOW_UPDATE")
        elif stream_id >= self._next_id:
            raise _Broken(PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that was never opened")
        self._unblock()

    def _priority(self, stream_id: int, flags: int, payload: bytes) -> None:
        """Says nothing to a client."""

    # ---- frames out ----

    def _start(self, stream: _Stream, block: bytes) -> None:
        stream.id = self._next_id
        stream.window = self._peer_stream_window
        stream.received = 0
        self._next_id += 2
        if self._next_id > _LARGEST_STREAM:
            self._going = True  # a new connection takes over
        self._streams[stream.id] = stream
        if len(block) <= self._peer_max_frame:
            head = _frame(_HEADERS, _END_HEADERS, stream.id, block)
        else:
            head = _headers_in_parts(stream.id, block, self._peer_max_frame)
        size = len(stream.body)
        if size <= self._window and size <= stream.window and size <= self._peer_max_frame and not self._blocked:
            self._window -= size
            stream.window -= size
            stream.sent_all = True
            self._send(head + _frame(_DATA, _END_STREAM, stream.id, stream.body))
            stream.body = b""
            return
        self._send(head)
        self._blocked[stream] = None
        self._unblock()

    def _unblock(self) -> None:
        """Sends what the windows allow, in the order of the requests; one that its own window holds up does not stop others."""
        for stream in list(self._blocked):
            while not stream.sent_all:
                size = min(len(stream.body), self._window, stream.window, self._peer_max_frame)
                if size <= 0:
                    break
                end = size == len(stream.body)
                self._send(_frame(_DATA, _END_STREAM if end else 0, stream.id, stream.body[:size]))
                stream.body = stream.body[size:]
                stream.window -= size
                self._window -= size
                stream.sent_all = end
            if stream.sent_all:
                del self._blocked[stream]
            elif self._window <= 0:
                return

    def _admit(self) -> None:
        """Starts what waited for the number of streams to fall."""
        while self._waiting and len(self._streams) < self._peer_max_streams and self.usable:
            stream = self._waiting.popleft()
            block, stream.body = stream.body[: stream.received], stream.body[stream.received :]
            self._start(stream, block)

    def _done(self, stream: _Stream, *, reset: bool = False) -> None:
        """The answer is complete, or there will be none."""
        del self._streams[stream.id]
        if not stream.sent_all:  # the peer wants no more of the body
            self._blocked.pop(stream, None)
            if not reset:
                self._send(_frame(_RST_STREAM, 0, stream.id, NO_ERROR.to_bytes(4, "big")))
        if self._waiting:
            self._admit()
        if self._going and not self._streams:
            self._loop.call_soon(self._end, NO_ERROR, "the peer went away")

    def _send(self, data: bytes) -> None:
        self._out.append(data)
        if not self._flushing and not self._paused:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _answer(self, data: bytes) -> None:
        """A frame that the peer makes us send: those are bounded while it reads nothing."""
        self._control = self._control + 1 if self._paused else 0
        if self._control > _MAX_CONTROL:
            raise _Broken(ENHANCE_YOUR_CALM, "a flood of pings or settings")
        self._send(data)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is not None and self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._transport.write(data)

    # ---- the end ----

    def _end(self, code: int, reason: str) -> None:
        if self._transport is not None and not self.closed.done():
            self._send(_frame(_GOAWAY, 0, 0, bytes(4) + code.to_bytes(4, "big")))
            self._flush()
            self._transport.close()
        self._over(reason)

    def _over(self, reason: str) -> None:
        if self.closed.done():
            return
        self.closed.set_result(reason)
        self.settled.cancel()
        self._going = True
        for _, answered in self._pings:
            answered.cancel()
        self._pings.clear()
        streams = list(self._streams.values())
        self._streams.clear()
        self._blocked.clear()
        for stream in streams:
            stream.exchange.lost(reason, True)
        self._drop_waiting(reason)

    def _drop_waiting(self, reason: str) -> None:
        waiting, self._waiting = list(self._waiting), deque()
        for stream in waiting:
            stream.exchange.lost(reason, False)


_ON: Final[tuple[Callable[[Http2Connection, int, int, bytes], None], ...]] = (
    Http2Connection._data,
    Http2Connection._headers,
    Http2Connection._priority,
    Http2Connection._rst_stream,
    Http2Connection._settings,
    Http2Connection._push_promise,
    Http2Connection._ping,
    Http2Connection._goaway,
    Http2Connection._window_update,
    Http2Connection._continuation,
)


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + payload


def _headers_in_parts(stream_id: int, block: bytes, largest: int) -> bytes:
    parts = [block[at : at + largest] for at in range(0, len(block), largest)]
    frames = [_frame(_HEADERS, 0, stream_id, parts[0])]
    frames += [_frame(_CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    return b"".join((*frames, _frame(_CONTINUATION, _END_HEADERS, stream_id, parts[-1])))


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise _Broken(PROTOCOL_ERROR, "more padding than there is payload")
    return payload[1 : len(payload) - payload[0]]


def _moves_table(block: bytes) -> bool:
    """Whether a block may change the decoder's table, or refer to it: then it means something once only."""
    at, size = 0, len(block)
    while at < size:
        first = block[at]
        if first & 0x80:  # an indexed field: the static table has 61
            if first & 0x7F > 61:
                return True
            at += 1
        elif first & 0xC0 == 0x40 or first & 0xE0 == 0x20:  # with indexing; a new size of the table
            return True
        else:  # without indexing, never indexed
            index = first & 0x0F
            at += 1
            if index == 15:  # the index goes on in a second byte; the static table ends at 15 + 46
                if at >= size or block[at] > 46:
                    return True
                at += 1
            for _ in range(1 if index else 2):
                if at >= size:
                    return True
                length = block[at] & 0x7F
                if length == 127:
                    return True
                at += 1 + length
    return False


# ---- headers out -----------------------------------------------------------------------------------------------------


def encode_headers(headers: Iterable[tuple[bytes, bytes]], *, hidden: frozenset[bytes] = frozenset()) -> bytes:
    """A block of literal fields, without any table (RFC 7541, 6.2.2). hidden: names whose values no proxy may index (6.2.3)."""
    out = bytearray()
    for name, value in headers:
        out.append(0x10 if name in hidden else 0x00)
        _string(out, name)
        _string(out, value)
    return bytes(out)


def _string(out: bytearray, text: bytes) -> None:
    size = len(text)
    if size < 127:
        out.append(size)
    else:
        out.append(127)
        size -= 127
        while size >= 128:
            out.append(size & 0x7F | 0x80)
            size >>= 7
        out.append(size)
    out += text
