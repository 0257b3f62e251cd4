"""A request as text for the activity log, without what authorizes its sender."""

from collections.abc import Collection, Iterator
from typing import Final
from urllib.parse import unquote_plus, urlencode

from gateway.webhooks.bodies import FORM, MULTIPART
from gateway.webhooks.refusals import WebhookRefused
from gateway.webhooks.request import WebhookRequest

REDACTED: Final = "[redacted]"
SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
SECRET_PARAMETERS: Final = frozenset({"token", "access_token", "signature", "api_key", "apikey"})

_BODY: Final = 1000  # bytes
_VALUE: Final = 500  # characters
_LISTED: Final = 50  # headers, parts


def request_entry(request: WebhookRequest, secret_headers: Collection[str] = ()) -> str:
    """Request line, headers, and the first 1000 bytes of the body or the list of its parts. Never raises.

    secret_headers: more names of headers to withhold, in any spelling.
    """
    return "\n".join(_lines(request, SECRET_HEADERS | {name.strip().lower() for name in secret_headers}))


def _lines(request: WebhookRequest, secret_headers: Collection[str]) -> Iterator[str]:
    query = _redacted(request.query or urlencode(request.params, errors="replace"))
    yield _cut(f"{request.method} {request.path}{'?' if query else ''}{query}", 2 * _VALUE)
    for name, value in list(request.headers.items())[:_LISTED]:
        yield f"{name}: {REDACTED if name.lower() in secret_headers else _cut(value, _VALUE)}"
    if len(request.headers) > _LISTED:
        yield f"... and {len(request.headers) - _LISTED} more headers"
    if request.content_type == MULTIPART:
        yield from _parts(request)
    elif request.raw:
        yield _beginning(request)


def _redacted(fields: str) -> str:
    """The text of a query or form, without the values of secret parameters."""
    return "&".join(map(_redacted_field, fields.split("&")))


def _redacted_field(piece: str) -> str:
    name, equals, _ = piece.partition("=")
    secret = unquote_plus(name, errors="replace").strip().lower() in SECRET_PARAMETERS
    return f"{name}={REDACTED}" if secret and equals else piece


def _beginning(request: WebhookRequest) -> str:
    if b"\0" in request.raw[:_BODY]:
        return f"({len(request.raw)} bytes)"
    text = request.raw[:_BODY].decode("utf-8", "replace")
    if request.content_type == FORM:
        text = _redacted(text)
    rest = len(request.raw) - _BODY
    return f"{text}... ({rest} more bytes)" if rest > 0 else text


def _parts(request: WebhookRequest) -> Iterator[str]:
    try:
        parts = request.parts
    except WebhookRefused as e:
        yield f"({len(request.raw)} bytes. {e})"
        return
    for part in parts[:_LISTED]:
        file_name = "" if part.file_name is None else f", file {_cut(part.file_name, _VALUE)}"
        content_type = f", {_cut(part.content_type, _VALUE)}" if part.content_type else ""
        yield f"part {_cut(part.name, _VALUE)}{file_name}{content_type}, {len(part.content)} bytes"
    if len(parts) > _LISTED:
        yield f"... and {len(parts) - _LISTED} more parts"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
