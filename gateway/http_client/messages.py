"""Requests and answers as values."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway import jsontext
from gateway.http_client.bodies import readable
from gateway.http_client.errors import HttpBodyError, HttpProtocolError, HttpStatusError
from gateway.http_client.tls import TlsMaterial
from gateway.http_client.urls import Url
from gateway.http_client.wire import Body, Message, header_pair

DEFAULT_TIMEOUT: Final = 20.0
LONGEST_PAUSE: Final = 60.0
ACCEPT_ENCODING: Final = "gzip, deflate, x-gzip"
CREDENTIALS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_ENTITY_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]+)", re.IGNORECASE)


class Headers:
    """Headers in the order and spelling of the wire; looked up in any spelling."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = tuple(pairs)

    def __repr__(self) -> str:
        return f"<Headers {', '.join(name for name, _ in self.pairs)}>"

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.pairs))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(n.lower() == name.lower() for n, _ in self.pairs)

    def __getitem__(self, name: str) -> str:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of a header."""
        return next((v for n, v in self.pairs if n.lower() == name.lower()), default)

    def get_all(self, name: str) -> list[str]:
        """All values of a header, in order."""
        return [v for n, v in self.pairs if n.lower() == name.lower()]

    def items(self) -> tuple[tuple[str, str], ...]:
        return self.pairs

    def grouped(self) -> dict[str, str | list[str]]:
        """As flows see them: one value is text, several of the same spelling are a list."""
        found: dict[str, str | list[str]] = {}
        for name, value in self.pairs:
            before = found.get(name)
            if before is None:
                found[name] = value
            elif isinstance(before, list):
                before.append(value)
            else:
                found[name] = [before, value]
        return found


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. Timeouts in seconds, 0 for none.

    headers: sent first, in order, none twice unless given twice; the client adds Accept-Encoding, Host, the length, Connection and
    User-Agent where they are not given. entity_type: the content type when `headers` has none. length: of a streamed body.
    credentials: names of headers, in lower case, that do not follow a redirect to another origin. max_pause: the longest wait
    for the silent retry, in seconds; a server that asks for more is not asked again.
    """

    method: str
    url: Url
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: Body | None = field(default=None, repr=False)
    length: int | None = None
    entity_type: str | None = None
    connect_timeout: float = DEFAULT_TIMEOUT
    read_timeout: float = DEFAULT_TIMEOUT
    tls: TlsMaterial | None = None
    follow_redirects: bool = False
    credentials: frozenset[str] = CREDENTIALS
    retry: bool = True
    max_pause: float = LONGEST_PAUSE

    def message(self, user_agent: str, proxy_authorization: str | None, *, absolute: bool) -> Message:
        """The complete request. Raises InvalidHeader, and HttpProtocolError for headers that frame the body."""
        pairs = [header_pair(name, value) for name, value in self.headers]
        given = {name.lower() for name, _ in pairs}
        if given & _FRAMING:
            raise HttpProtocolError
        if "accept-encoding" not in given:
            pairs.append(("Accept-Encoding", ACCEPT_ENCODING))
        if "host" not in given:
            pairs.append(("Host", self.url.authority))
        pairs += self._framing()
        if self.entity_type is not None and "content-type" not in given:
            pairs.append(("Content-Type", self.entity_type))
        if proxy_authorization is not None:
            pairs.append(("Proxy-Authorization", proxy_authorization))
        if "connection" not in given:
            pairs.append(("Connection", "keep-alive"))
        if "user-agent" not in given:
            pairs.append(("User-Agent", user_agent))
        return Message(self.method, str(self.url) if absolute else self.url.target, pairs, self.body, self.length)

    def _framing(self) -> list[tuple[str, str]]:
        if callable(self.body):
            return [("Transfer-Encoding", "chunked") if self.length is None else ("Content-Length", str(self.length))]
        if self.body is not None or self.method in _ENTITY_METHODS:
            return [("Content-Length", str(len(self.body or b"")))]
        return []

    def redirected(self, status: int, location: str) -> "HttpRequest":
        """The request that a redirect asks for. Another origin gets none of the credentials."""
        url = self.url.join(location)
        request = replace(self, url=url)
        if (status == 303 and self.method not in {"GET", "HEAD"}) or (status in {301, 302} and self.method == "POST"):
            kept = tuple((n, v) for n, v in self.headers if not n.lower().startswith("content-"))
            request = replace(request, method="GET", headers=kept, body=None, length=None, entity_type=None)
        if url.origin != self.url.origin:
            dropped = self.credentials | {"host"}
            request = replace(
                request,
                headers=tuple((n, v) for n, v in request.headers if n.lower() not in dropped),
                tls=TlsMaterial(trusted=self.tls.trusted) if self.tls and self.tls.trusted else None,
            )
        return request


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An answer, read to its end."""

    status: int
    reason: str
    headers: Headers
    content: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        return self.status < 400

    @property
    def text(self) -> str:
        """The body in the charset that its content type names, UTF-8 without one; what does not decode is replaced."""
        match = _CHARSET.search(self.headers.get("content-type") or "")
        try:
            return self.content.decode(match[1] if match else "utf-8", "replace")
        except LookupError:
            return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON; numbers keep their digits. Raises HttpBodyError when it is none."""
        try:
            return jsontext.loads(self.content.decode())
        except ValueError:
            raise HttpBodyError("the response body is not JSON") from None

    def readable(self) -> Any:
        """The body as flows see it: an object or array, else text, else None for a blank one."""
        return readable(self.content)

    def raise_for_status(self) -> None:
        """Raises HttpStatusError for a status of 400 or above."""
        if not self.ok:
            raise HttpStatusError(self.status, self.reason, self.headers.grouped(), self.readable())


def header_pairs(headers: Mapping[str, str] | Iterable[tuple[str, str]] | None) -> tuple[tuple[str, str], ...]:
    """Headers of a mapping or of pairs, as pairs."""
    if headers is None:
        return ()
    return tuple(headers.items()) if isinstance(headers, Mapping) else tuple(headers)
