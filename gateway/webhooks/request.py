"""A webhook request as a connector sees it: raw, as it came, and what stands in it."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gateway.webhooks.bodies import Part, media_type, read_body, read_parts
from gateway.webhooks.refusals import WebhookRefused

__all__ = ["Part", "WebhookRefused", "WebhookRequest"]

_UNREAD: Any = object()
_LARGE = 256 * 1024  # bytes: reading as many may take tens of milliseconds


@dataclass(slots=True)
class WebhookRequest:
    """One request, its body read. headers: names lower-cased, the first value of each; params: of the query, decoded, the
    first value of each; url: as the sender called it (scheme, host, path; no query), for signatures over it; query: what
    follows the `?`, as it came.
    """

    method: str
    path: str
    url: str
    headers: Mapping[str, str]
    params: Mapping[str, str]
    raw: bytes
    query: str = ""
    _body: Any = field(default=_UNREAD, init=False, repr=False, compare=False)
    _refusal: WebhookRefused | None = field(default=None, init=False, repr=False, compare=False)
    _parts: Sequence[Part] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def content_type(self) -> str:
        """The media type, lower-cased, without parameters; empty when the request names none."""
        return media_type(self.headers.get("content-type", ""))

    @property
    def body(self) -> Any:
        """What the body says, read once, by the content type: see `gateway.webhooks.bodies`. Raises WebhookRefused (400, 415)."""
        if self._refusal is not None:
            raise self._refusal
        if self._body is _UNREAD:
            try:
                self._body = read_body(self.headers.get("content-type", ""), self.raw)
            except WebhookRefused as e:
                self._refusal = e
                raise
        return self._body

    async def prepared(self) -> None:
        """Reads a large body away from the event loop, so that `body` is there at once. What is wrong with it shows there."""
        if len(self.raw) > _LARGE and self._body is _UNREAD:
            with suppress(WebhookRefused):
                await asyncio.to_thread(lambda: self.body)

    @property
    def parts(self) -> Sequence[Part]:
        """The parts of a `multipart/form-data` body, fields and files alike, in order; empty for any other. Read once.

        Raises WebhookRefused (400).
        """
        if self._parts is None:
            self._parts = read_parts(self.headers.get("content-type", ""), self.raw)
        return self._parts
