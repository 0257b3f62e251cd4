"""Bodies: multipart forms on the way out; unpacking and tolerant JSON on the way in."""

import json
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from gateway import jsontext
from gateway.http_client.errors import HttpBodyError

json_bytes = jsontext.dumpb
"""A value as compact JSON in UTF-8; numbers keep their digits."""

# ---- out: multipart/form-data (RFC 7578) -----------------------------------------------------------------------------

_FILE_NAME_SAFE: Final = "!#$&+-.^_`|~"


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form. A file has a content type; its name is optional."""

    name: str
    content: bytes
    file_name: str | None = None
    content_type: str | None = None


def multipart(parts: Sequence[Part], boundary: str) -> bytes:
    """The body of a multipart form: UTF-8, file names percent-encoded."""
    pieces: list[bytes] = []
    for part in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(part.name)}"'
        if part.file_name is not None:
            head += f'; filename="{quote(part.file_name, safe=_FILE_NAME_SAFE, errors="replace")}"'
        if part.content_type is not None:
            head += f"\r\nContent-Type: {_one_line(part.content_type)}"
        pieces += [head.encode("utf-8", "replace"), b"\r\n\r\n", part.content, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces)


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)


def _quoted(name: str) -> str:
    return _one_line(name.replace("\\", "\\\\").replace('"', '\\"'))


# ---- in: unpacking ---------------------------------------------------------------------------------------------------


class _Unpacker:
    """Undoes one content coding as the chunks come, never more than `limit` bytes in all."""

    def __init__(self, coding: str, limit: int) -> None:
        self._deflate = coding == "deflate"
        self._decompress = None if self._deflate else zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._room = limit

    def feed(self, chunk: bytes) -> bytes:
        if self._decompress is None:  # "deflate" is zlib by the standard and raw by habit: the first byte tells
            self._decompress = zlib.decompressobj(zlib.MAX_WBITS if chunk[0] & 0x0F == 8 else -zlib.MAX_WBITS)
        out: list[bytes] = []
        while chunk:
            if self._decompress.eof:
                if self._deflate:
                    break
                self._decompress = zlib.decompressobj(zlib.MAX_WBITS | 16)  # gzip may have several members
            piece = self._decompress.decompress(chunk, self._room + 1)
            self._room -= len(piece)
            if self._room < 0:
                raise _Overflow
            out.append(piece)
            chunk = self._decompress.unconsumed_tail or self._decompress.unused_data
        return b"".join(out)

    @property
    def complete(self) -> bool:
        return self._decompress is None or self._decompress.eof


class _Overflow(Exception):  # noqa: N818 - a signal within this module
    pass


def too_large(limit: int) -> HttpBodyError:
    return HttpBodyError(f"the response body is larger than the limit of {limit} bytes")


async def unpacked(chunks: AsyncIterator[bytes], encoding: str, limit: int) -> AsyncGenerator[bytes, None]:
    """The chunks with their content codings (gzip, x-gzip, deflate) undone; others are left as they are.

    Raises HttpBodyError: more than `limit` bytes before or after unpacking, or not what the coding says.
    """
    codings = [c for c in reversed([c.strip().lower() for c in encoding.split(",")]) if c and c != "identity"]
    known = all(c in {"gzip", "x-gzip", "deflate"} for c in codings)
    unpackers = [_Unpacker(c, limit) for c in codings] if known else []
    received = 0
    try:
        async for chunk in chunks:
            received += len(chunk)
            if received > limit:
                raise _Overflow
            for unpacker in unpackers:
                chunk = unpacker.feed(chunk) if chunk else chunk
            if chunk:
                yield chunk
    except _Overflow:
        raise too_large(limit) from None
    except zlib.error:
        raise HttpBodyError(f"the response body is not in the encoding {encoding}") from None
    if received and not all(u.complete for u in unpackers):
        raise HttpBodyError(f"the response body ends before its {encoding} encoding does")


# ---- in: JSON --------------------------------------------------------------------------------------------------------

_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


_READER = json.JSONDecoder(parse_constant=_refuse)


def structure(text: str) -> Any:
    """The JSON object or array that a text begins with, whatever follows it; None when it begins with neither.

    Numbers keep their digits where the whole text is JSON.
    """
    start = text.lstrip(" \t\r\n")
    if not start.startswith(("{", "[")):
        return None
    try:
        return jsontext.loads(text)
    except ValueError:
        pass
    try:
        value, _ = _READER.raw_decode(start)
        return _without_surrogates(value)
    except (ValueError, RecursionError):
        return None


def _without_surrogates(value: Any) -> Any:
    """Half a character cannot be written as UTF-8 again: it becomes a question mark."""
    if isinstance(value, str):
        return _SURROGATE.sub("?", value)
    if isinstance(value, list):
        return [_without_surrogates(v) for v in value]
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return value


def readable(content: bytes) -> Any:
    """A body as flows see it: an object or array, else the text in UTF-8, else None for a blank one."""
    text = content.decode("utf-8", "replace")
    if not text.strip():
        return None
    found = structure(text)
    return text if found is None else found
