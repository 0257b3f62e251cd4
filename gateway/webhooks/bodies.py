"""What stands in a body, by its content type (Camunda docs, "HTTP Webhook connector").

| content type | value |
| --- | --- |
| any, the body empty | `{}` |
| `multipart/form-data` | `{}`: what it holds are its parts, which become documents |
| `application/x-www-form-urlencoded` | an object of texts; of a repeated key the last value counts |
| one that contains `application/xml` or `text/xml` | the text |
| `text/*` | JSON where it is JSON, else the text |
| anything else, or none | JSON |

Of a charset parameter the usual ones are known, UTF-8 is the default. Bytes that are none of the charset are replaced in text, as the
original does, and an error in JSON.
"""

import codecs
import encodings.aliases
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from gateway import jsontext
from gateway.webhooks.refusals import WebhookRefused

MAX_FIELDS: Final = 10_000
MAX_PARTS: Final = 1_000
MAX_PART_HEAD: Final = 8_192  # bytes
_MAX_BOUNDARY: Final = 70  # RFC 2046, 5.1.1

FORM: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"

_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([A-Za-z0-9._:+-]{1,40})\"?\s*(?:;|$)", re.IGNORECASE)
_PARAMETER = re.compile(r";\s*+([^\s=;\"]++)\s*+=\s*+(\"(?:[^\"\\]|\\.)*+\"|[^;]*+)", re.DOTALL)
_ESCAPED = re.compile(r"\\([\"\\])")  # other backslashes are part of file names, as browsers send them
_XML_ENCODING = re.compile(rb"<\?xml[^>]{1,100}?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")

# Codecs that map bytes to text one by one; others of Python's unfold, or run for long.
_CODEC = re.compile(
    r"utf_8|utf_(?:16|32)(?:_[bl]e)?|ascii|latin_1|iso8859_(?:1[013456]|[2-9])|cp(?:125[0-8]|437|850|852|866|932|949)"
    r"|koi8_[ru]|mac_roman|tis_620|shift_jis|euc_(?:jp|kr)|gb(?:k|2312|18030)|big5(?:hkscs)?"
)
_MARKS: Final = ((codecs.BOM_UTF8, "utf_8_sig"), (codecs.BOM_UTF16_LE, "utf_16"), (codecs.BOM_UTF16_BE, "utf_16"))


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body."""

    name: str
    content: bytes
    file_name: str | None = None
    content_type: str | None = None


def media_type(content_type: str) -> str:
    """Of a Content-Type header: the media type, lower-cased, without parameters."""
    return content_type.partition(";")[0].strip().lower()


def read_body(content_type: str, raw: bytes) -> Any:
    """The value of a body. Raises WebhookRefused: 400 says what was expected, 415 that nothing here can read such a body."""
    kind = media_type(content_type)
    if not raw or kind == MULTIPART:
        return {}
    if kind == FORM:
        return dict(form_fields(raw, _codec(content_type) or "utf_8"))
    if "application/xml" in kind or "text/xml" in kind:
        return raw.decode(_codec(content_type) or _xml_codec(raw), "replace")
    return _json(kind, content_type, raw)


# ---- charsets --------------------------------------------------------------------------------------------------------


def _codec(content_type: str) -> str | None:
    """The codec of the charset parameter, if there is one. Raises WebhookRefused for a charset that is not known."""
    match = _CHARSET.search(content_type)
    if match is None:
        return None
    found = _known(match[1])
    if found is None:
        raise WebhookRefused(415, f"The charset {match[1]} is not supported: send the body as UTF-8")
    return found


def _known(label: str) -> str | None:
    # Not by codecs.lookup: it keeps every name that it was ever asked for.
    name = label.lower().replace("-", "_").replace(".", "_").replace(":", "_")
    name = encodings.aliases.aliases.get(name, name)
    return name if _CODEC.fullmatch(name) else None


def _xml_codec(raw: bytes) -> str:
    for mark, codec in _MARKS:
        if raw.startswith(mark):
            return codec
    match = _XML_ENCODING.match(raw.lstrip()[:200])
    return (_known(match[1].decode()) if match else None) or "utf_8"


# ---- JSON and text ---------------------------------------------------------------------------------------------------


def _json(kind: str, content_type: str, raw: bytes) -> Any:
    codec = _codec(content_type)
    try:
        return jsontext.loads(raw.decode(codec or json.detect_encoding(raw)).removeprefix("\ufeff"))
    except (UnicodeError, jsontext.InvalidJson) as e:
        if kind.startswith("text/"):
            return raw.decode(codec or "utf_8", "replace")
        if kind and "json" not in kind:
            raise WebhookRefused(
                415, f"A body of type {kind[:100]} cannot be read: expected JSON, a form, XML or text"
            ) from None
        wrong = "text in the wrong charset" if isinstance(e, UnicodeError) else str(e)[:200]
        raise WebhookRefused(400, f"The body cannot be read: expected JSON, got {wrong}") from None


# ---- forms -----------------------------------------------------------------------------------------------------------


def form_fields(raw: bytes, codec: str = "utf_8") -> list[tuple[str, str]]:
    """The fields of a form, in order: split first, then decoded; the value is all that follows the first `=`.

    Raises WebhookRefused for more than `MAX_FIELDS`.
    """
    if raw.count(b"&") >= MAX_FIELDS:
        raise WebhookRefused(400, f"The form has too many fields: expected at most {MAX_FIELDS}")
    pairs = (piece.partition(b"=") for piece in raw.split(b"&") if piece)
    return [(_unquoted(name, codec), _unquoted(value, codec)) for name, _, value in pairs]


def _unquoted(piece: bytes, codec: str) -> str:
    return unquote_to_bytes(piece.replace(b"+", b" ")).decode(codec, "replace")


# ---- parts -----------------------------------------------------------------------------------------------------------


def read_parts(content_type: str, raw: bytes) -> Sequence[Part]:
    """The parts of a `multipart/form-data` body (RFC 7578), their contents byte for byte; no parts for other types.

    Raises WebhookRefused: 400 for what is malformed, for more than `MAX_PARTS` parts or heads of more than `MAX_PART_HEAD` bytes.
    """
    if media_type(content_type) != MULTIPART or not raw:
        return ()
    delimiter = b"\r\n--" + _boundary(content_type)
    data = b"\r\n" + raw
    at, parts = _next(data, delimiter, 0), list[Part]()
    while not data.startswith(b"--", at):
        if len(parts) == MAX_PARTS:
            raise WebhookRefused(400, f"The multipart body has too many parts: expected at most {MAX_PARTS}")
        start = data.index(b"\r\n", at) + 2
        at = _next(data, delimiter, start - 2)
        parts.append(_part(data[start : at - len(delimiter)]))
    return tuple(parts)


def _malformed(what: str) -> WebhookRefused:
    return WebhookRefused(400, f"The multipart body is malformed: {what}")


def _parameter(header: str, name: str) -> str | None:
    """A parameter of a header: a token, quoted, or with its charset (RFC 9110, RFC 8187), which is preferred."""
    found = {key.lower(): value.strip() for key, value in _PARAMETER.findall(header)}
    charset, _, rest = found.get(f"{name}*", "").partition("'")
    _, quote, packed = rest.partition("'")
    if quote:
        return unquote_to_bytes(packed).decode(_known(charset) or "utf_8", "replace")
    value = found.get(name)
    if value is None or not value.startswith('"'):
        return value
    return _ESCAPED.sub(r"\1", value.removeprefix('"').removesuffix('"'))


def _boundary(content_type: str) -> bytes:
    boundary = _parameter(content_type, "boundary") or ""
    if not boundary or not boundary.isascii() or len(boundary) > _MAX_BOUNDARY:
        raise _malformed(f"the content type must name a boundary of 1 to {_MAX_BOUNDARY} ASCII characters")
    return boundary.encode()


def _next(data: bytes, delimiter: bytes, at: int) -> int:
    """The position after the next delimiter: a line that holds nothing else, but `--` after the last part."""
    while (at := data.find(delimiter, at)) >= 0:
        at += len(delimiter)
        if data.startswith(b"--", at):
            return at
        line = data.find(b"\r\n", at, at + _MAX_BOUNDARY)
        if line >= 0 and not data[at:line].strip(b" \t"):
            return at
    raise _malformed("the boundary that ends the last part is missing")


def _part(piece: bytes) -> Part:
    head, found, content = (b"\r\n" + piece).partition(b"\r\n\r\n")
    if not found or len(head) > MAX_PART_HEAD:
        raise _malformed(f"expected headers of at most {MAX_PART_HEAD} bytes and an empty line in each part")
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise _malformed("expected `name: value` in each line of a part's headers")
        headers.setdefault(name.strip().lower(), value.strip())
    disposition = headers.get("content-disposition", "")
    if media_type(disposition) != "form-data":
        raise _malformed("expected `Content-Disposition: form-data` in each part")
    return Part(
        _parameter(disposition, "name") or "",
        content,
        _parameter(disposition, "filename"),
        headers.get("content-type"),
    )
