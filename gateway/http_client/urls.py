"""URLs as they go out on the wire.

`encode_url` decodes a URL and encodes it again, so that what was encoded already is not encoded twice and what was not is.
`verbatim_url` takes it as it is and refuses what RFC 2396 with java.net.URI's additions refuses. Both append query parameters;
as soon as there is one, the whole query is written with every reserved character escaped (RFC 3986).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, unquote_plus, urljoin

from gateway.http_client.errors import HttpProtocolError, InvalidUrl, MalformedUrl

PATH_SAFE = "!$&'()*,;=:@"
QUERY_SAFE = "!$'()*,;:@/?"

Parameter = tuple[str, str | None]
"""Name and value; without a value the name stands alone, an empty value keeps its `=`."""

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SPACES = r"\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# What java.net.URI lets stand in each part is everything but these.
_OFFENCE = {
    "authority": re.compile(rf"[{_SPACES}\"#<>\\^`{{|}}]"),
    "path": re.compile(rf"[{_SPACES}\"#<>\[\]\\^`{{|}}]|{_BAD_ESCAPE.pattern}"),
    "query": re.compile(rf"[{_SPACES}\"#<>\\^`{{|}}]|{_BAD_ESCAPE.pattern}"),
    "fragment": re.compile(rf"[{_SPACES}\"#<>\\^`{{|}}]|{_BAD_ESCAPE.pattern}"),
}
_PARTS = re.compile(r"(https?):(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute http(s) URL, taken apart for one request. Its text holds no user info: such URLs are refused."""

    scheme: str
    host: str  # without brackets, in ASCII
    port: int
    authority: str  # as the Host header has it
    target: str  # path and query, as the request line has it

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host.lower(), self.port

    def join(self, location: str) -> "Url":
        """Where a redirect leads. HttpProtocolError when that is no http(s) URL."""
        absolute = urljoin(str(self), quote(location.strip(), safe="%/:?#[]@!$&'()*+,;=~"))
        try:
            return verbatim_url(absolute)
        except (InvalidUrl, MalformedUrl):
            raise HttpProtocolError from None


def encode_url(url: str, parameters: Sequence[Parameter] = ()) -> Url:
    """The URL decoded and encoded again, with the parameters appended.

    Raises InvalidUrl (scheme or host is missing), MalformedUrl (an escape that is none), HttpProtocolError (user info).
    """
    text = url.strip("".join(map(chr, range(33))))
    scheme, authority, path, query, fragment = _split(text)
    if _BAD_ESCAPE.search(text):
        _check(text, path=path, query=query, fragment=fragment)
    path = "/".join(quote(_decode(segment), safe=PATH_SAFE) for segment in path.split("/"))
    pairs = _grouped(query or "")
    if parameters:
        query = _strict([*pairs, *parameters])
    else:
        query = "&".join(_joined(name, value, QUERY_SAFE) for name, value in pairs)
    return _url(text, scheme, authority, path, query or None)


def verbatim_url(url: str, parameters: Sequence[Parameter] = ()) -> Url:
    """The URL as it is, with the parameters appended.

    Raises InvalidUrl (scheme or host is missing), MalformedUrl (not a URI), HttpProtocolError (user info).
    """
    scheme, authority, path, query, fragment = _split(url)
    _check(url, path=path, query=query, fragment=fragment)
    if parameters:
        pieces = [p for p in (query or "").split("&") if p.partition("=")[0]]
        pairs = [(_decode(n), _decode(v) if eq else None) for n, eq, v in (p.partition("=") for p in pieces)]
        path = quote(path, safe="%" + PATH_SAFE + "+/")
        query = _strict([*pairs, *parameters])
    return _url(url, scheme, authority, path, query)


def form_urlencode(fields: Sequence[Parameter]) -> bytes:
    """`application/x-www-form-urlencoded`: space becomes `+`, a field without a value is a bare name."""
    return "&".join(_joined(name, value, "").replace("%20", "+") for name, value in fields).encode()


def _split(url: str) -> tuple[str, str, str, str | None, str | None]:
    match = _PARTS.fullmatch(url)
    if match is None:
        raise InvalidUrl(url, "scheme")
    scheme, authority, path, query, fragment = match.groups()
    return scheme.lower(), authority or "", path, query, fragment


def _check(url: str, **parts: str | None) -> None:
    """Raises MalformedUrl for the first character or escape that its part of the URL cannot have."""
    start = url.index("//") + 2 if "//" in url else 0
    for part, value in parts.items():
        if value and (match := _OFFENCE[part].search(value)):
            what = "Malformed escape pair" if match[0] == "%" else f"Illegal character in {part}"
            raise MalformedUrl(f"{what} at index {url.index(value, start) + match.start()}: {url}")


def _decode(text: str) -> str:
    return unquote(text, errors="replace")


def _grouped(query: str) -> list[Parameter]:
    """Names in order of first appearance with all their values; empty pieces and empty values vanish."""
    values: dict[str, list[str | None]] = {}
    for piece in query.split("&"):
        name, _, value = piece.partition("=")
        if name:
            decoded = unquote_plus(value, errors="replace")
            values.setdefault(unquote_plus(name, errors="replace"), []).append(decoded or None)
    return [(name, value) for name, found in values.items() for value in found]


def _joined(name: str, value: str | None, safe: str) -> str:
    name = quote(name, safe=safe, errors="replace")
    return name if value is None else f"{name}={quote(value, safe=safe, errors='replace')}"


def _strict(pairs: Sequence[Parameter]) -> str:
    return "&".join(_joined(name, value, "") for name, value in pairs)


def _url(url: str, scheme: str, authority: str, path: str, query: str | None) -> Url:
    host, port = _host_and_port(url, scheme, authority)
    shown = f"[{host}]" if ":" in host else host
    explicit = authority.rpartition("]")[2].rpartition(":")[2] if ":" in authority.rpartition("]")[2] else ""
    target = path if path.startswith("/") else "/" + path
    return Url(
        scheme=scheme,
        host=host,
        port=port,
        authority=f"{shown}:{explicit}" if explicit else shown,
        target=target if query is None else f"{target}?{query}",
    )


def _host_and_port(url: str, scheme: str, authority: str) -> tuple[str, int]:
    _check(url, authority=authority)
    if "@" in authority:
        raise HttpProtocolError
    literal = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::(\d*))?", authority)
    plain = re.fullmatch(r"([^:\[\]%]+)(?::(\d*))?", authority)
    match = literal or plain
    if match is None:
        raise InvalidUrl(url, "hostname")
    host, digits = match.groups()
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            raise InvalidUrl(url, "hostname") from None
    port = int(digits) if digits else (443 if scheme == "https" else 80)
    if port > 65535:
        raise InvalidUrl(url, "hostname")
    return host, port
