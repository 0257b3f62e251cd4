"""A webhook request as a connector sees it: raw, as it came, and what stands in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class WebhookRefused(Exception):  # noqa: N818 - reads as what it is
    """The request is answered with this status, and with `{"reason": ...}`, unless `body` says otherwise. Nothing else happens.

    The reason goes to the sender: no secret and nothing of the inside in it.
    """

    def __init__(self, status: int, reason: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.body = {"reason": reason} if body is None else body
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body."""

    name: str
    content: bytes
    file_name: str | None = None
    content_type: str | None = None


@dataclass(slots=True)
class WebhookRequest:
    """One request, its body read. headers: names lower-cased, the first value of each; params: of the query, decoded, the
    first value of each; url: as the sender called it (scheme, host, path; no query), for signatures over it.
    """

    method: str
    path: str
    url: str
    headers: Mapping[str, str]
    params: Mapping[str, str]
    raw: bytes
    _body: Any = field(default=None, repr=False)
    _parsed: bool = field(default=False, repr=False)

    @property
    def content_type(self) -> str:
        """The media type, lower-cased, without parameters; empty when the request names none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()
