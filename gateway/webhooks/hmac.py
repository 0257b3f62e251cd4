"""Signatures by a shared secret, as a webhook's properties describe them (Camunda docs, "HTTP Webhook connector").

What is signed, by the scopes; FORM is the form's fields sorted by name, names and values without anything between them, as Twilio has it:

| scopes | what is accepted |
| --- | --- |
| `body` (default) | the body as it came |
| `url`, `body` | URL and FORM; for a JSON object of texts its members as FORM; for a JSON list or scalar the JSON without blanks; but for forms also the body as it came |
| `url`, `parameters` | URL and query: encoded anew (names once, `+` for a space), or as it came |
| `url`, `body`, `parameters` | of a GET as `url`, `parameters`, else as `url`, `body` |
| `timestamp`, others | the text of the timestamp header, `:` or `.`, then what the others say; alone: the body |

Twilio signs more than its first readers knew ("Security", in Twilio's docs), so this is accepted too where the URL is signed: the query as
it came after the URL of a form; of a repeated field each value once, sorted; for JSON the URL with a query whose `bodySHA256` is the
body's; the URL with its port or without.

The header holds the digest in hex or base64, alone or after `name=`. Each of several secrets is accepted.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import quote_plus

from pydantic import BaseModel, Field

from gateway import jsontext
from gateway.webhooks.bodies import FORM, form_fields
from gateway.webhooks.refusals import WebhookRefused, invalid_signature
from gateway.webhooks.request import WebhookRequest
from gateway.webhooks.signatures import TOLERANCE, check_time

Scope = Literal["url", "body", "parameters", "timestamp"]

Content = tuple[bytes, ...]
"""What is signed, in pieces."""

_DIGESTS: Final = {"sha_1": "sha1", "sha_256": "sha256", "sha_512": "sha512"}
_COMBINATIONS: Final = {
    frozenset[str](),
    frozenset({"body"}),
    frozenset({"url", "body"}),
    frozenset({"url", "parameters"}),
    frozenset({"url", "body", "parameters"}),
}
_URL = re.compile(r"(?P<scheme>https?)://(?P<host>\[[^\]/]*\]|[^:/?#]*)(?P<port>:[0-9]*)?(?P<path>/.*)?", re.DOTALL)
_PORTS: Final = {"http": ":80", "https": ":443"}
_PREFIXED = re.compile(r"[A-Za-z0-9_-]{1,20}=(.+)", re.DOTALL)


class HmacSettings(BaseModel):
    """The properties `inbound.*` that describe a signature: a base for the connector's own model."""

    shouldValidateHmac: Literal["enabled", "disabled"] | None = None  # noqa: N815 - the properties' own names
    hmacSecret: str | None = Field(None, repr=False)  # noqa: N815
    hmacSecretPrevious: str | None = Field(None, repr=False)  # noqa: N815
    hmacHeader: str | None = None  # noqa: N815
    hmacAlgorithm: Literal["sha_1", "sha_256", "sha_512"] | None = None  # noqa: N815
    hmacScopes: Sequence[Scope] | None = None  # noqa: N815
    hmacTimestampHeader: str | None = None  # noqa: N815
    hmacToleranceSeconds: int | None = None  # noqa: N815

    def hmac_signature(self) -> "HmacSignature | None":
        """What checks the signature; None where it is not enabled. To be called once, at activation.

        Raises ValueError, which names the property that is missing or does not fit.
        """
        if self.shouldValidateHmac != "enabled":
            return None
        secrets = [secret for secret in (self.hmacSecret, self.hmacSecretPrevious) if secret and secret.strip()]
        if not (self.hmacSecret and self.hmacSecret.strip()):
            raise ValueError("hmacSecret must not be blank when HMAC is enabled")
        if not (self.hmacHeader and self.hmacHeader.strip()):
            raise ValueError("hmacHeader must not be blank when HMAC is enabled")
        if self.hmacAlgorithm is None:
            raise ValueError(f"hmacAlgorithm must be one of {', '.join(_DIGESTS)} when HMAC is enabled")
        return HmacSignature(
            secrets,
            header=self.hmacHeader,
            algorithm=self.hmacAlgorithm,
            scopes=self.hmacScopes or ["body"],
            timestamp_header=self.hmacTimestampHeader,
            tolerance=TOLERANCE if self.hmacToleranceSeconds is None else self.hmacToleranceSeconds,
        )


class HmacSignature:
    """A signature by a webhook's properties. A `gateway.webhooks.signatures.Signature`."""

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        header: str,
        algorithm: str,
        scopes: Iterable[str] = ("body",),
        timestamp_header: str | None = None,
        tolerance: float = TOLERANCE,
    ) -> None:
        """Raises ValueError, which names the property that does not fit."""
        wanted = frozenset(scopes)
        if wanted - {"timestamp"} not in _COMBINATIONS:
            raise ValueError(f"hmacScopes: {', '.join(sorted(wanted))} cannot be combined")
        self.tolerance: Final = tolerance
        self._keys = [secret.encode() for secret in secrets]
        self._header = header.strip().lower()
        self._digest = _DIGESTS[algorithm]
        self._size = hashlib.new(self._digest).digest_size
        self._scopes = wanted - {"timestamp"}
        self._timestamp_header: str | None = None
        if "timestamp" in wanted:
            self._timestamp_header = (timestamp_header or "").strip().lower()
            if not self._timestamp_header or self._timestamp_header == self._header:
                raise ValueError("hmacTimestampHeader must name a header, and not hmacHeader, for the scope timestamp")
            if not tolerance > 0:
                raise ValueError("hmacToleranceSeconds must be a positive number of seconds")

    def verify(self, request: WebhookRequest, now: float) -> None:
        """Raises WebhookRefused (401)."""
        if self._timestamp_header is not None:
            check_time(self._timestamp(request), now, self.tolerance)
        if self._signed(request) is None:
            raise invalid_signature("HMAC signature check didn't pass")

    def replay_key(self, request: WebhookRequest) -> str | None:
        """What is signed, as a short name; None without the scope `timestamp`."""
        content = self._signed(request) if self._timestamp_header is not None else None
        if content is None:
            return None
        found = hashlib.sha256()
        for piece in content:
            found.update(piece)
        return f"hmac:{found.hexdigest()}"

    def _timestamp(self, request: WebhookRequest) -> str:
        assert self._timestamp_header is not None
        value = request.headers.get(self._timestamp_header)
        if not value:
            raise invalid_signature(f"The header {self._timestamp_header} is missing")
        return value

    def _signed(self, request: WebhookRequest) -> Content | None:
        """The content that the signature is of; None for none that is accepted."""
        value = request.headers.get(self._header)
        if not value:
            raise invalid_signature(f"The header {self._header} is missing")
        claims = _claims(value, self._size)
        for content in self._contents(request) if claims else ():
            whole = content[0] if len(content) == 1 else b"".join(content)
            for key in self._keys:
                made = hmac.digest(key, whole, self._digest)
                if any(hmac.compare_digest(made, claim) for claim in claims):
                    return content
        return None

    def _contents(self, request: WebhookRequest) -> Iterator[Content]:
        contents = _contents(self._scopes, request)
        if self._timestamp_header is None:
            return contents
        time = _bytes(self._timestamp(request))
        return ((time, mark, *content) for content in contents for mark in (b":", b"."))


def _claims(value: str, size: int) -> list[bytes]:
    """The digests of this size that a header may mean."""
    found: list[bytes] = []
    prefixed = _PREFIXED.fullmatch(value)
    for text in (value, prefixed[1] if prefixed else ""):
        found += [digest for digest in _decoded(text) if len(digest) == size]
    return found


def _decoded(text: str) -> tuple[bytes, bytes]:
    try:
        with_hex = bytes.fromhex(text) if text.isalnum() and text.isascii() else b""
    except ValueError:
        with_hex = b""
    try:
        with_base64 = base64.b64decode(text, validate=True)
    except ValueError:
        with_base64 = b""
    return with_hex, with_base64


# ---- what is signed --------------------------------------------------------------------------------------------------


def _contents(scopes: frozenset[str], request: WebhookRequest) -> Iterator[Content]:
    """What may be signed, the likeliest first, nothing twice."""
    if "url" not in scopes:
        yield (request.raw,)
        return
    if "body" not in scopes or ("parameters" in scopes and request.method.upper() == "GET"):
        after = dict.fromkeys(_queries(request))
        yield from ((url, piece) for url in _urls(request.url) for piece in after)
        return
    yield from _urls_and_bodies(request)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _urls(url: str) -> Iterator[bytes]:
    """The URL, then with its port where it has none, without where it has one."""
    yield _bytes(url)
    match = _URL.fullmatch(url)
    if match is not None:
        port = "" if match["port"] else _PORTS[match["scheme"]]
        yield _bytes(f"{match['scheme']}://{match['host']}{port}{match['path'] or ''}")


def _queries(request: WebhookRequest) -> Iterator[bytes]:
    """What may follow the URL: the parameters as Java encodes them, the query as it came."""
    yield b"?" + b"&".join(_encoded(name) + b"=" + _encoded(value) for name, value in request.params.items())
    yield _query(request)


def _query(request: WebhookRequest) -> bytes:
    return b"?" + _bytes(request.query) if request.query else b""


def _encoded(text: str) -> bytes:
    return quote_plus(text, safe="*", errors="replace").replace("~", "%7E").encode()


def _urls_and_bodies(request: WebhookRequest) -> Iterator[Content]:
    bodies = list(_bodies(request))
    queries = dict.fromkeys((b"", _query(request)))
    hashed = _hashed_body(request)
    for url in _urls(request.url):
        yield from ((url, query, body) for query in queries for body in bodies)
        if hashed:
            yield url, _query(request)


def _hashed_body(request: WebhookRequest) -> bool:
    """Whether the query names the body by its digest: a signature of the URL is one of the body then."""
    claimed = request.params.get("bodySHA256")
    if not claimed:
        return False
    digest = hashlib.sha256(request.raw).hexdigest()
    return hmac.compare_digest(digest.encode(), claimed.lower().encode("utf-8", "replace"))


def _bodies(request: WebhookRequest) -> Iterator[bytes]:
    if not request.raw:
        yield b""
        return
    try:
        if request.content_type == FORM:
            yield _joined(form_fields(request.raw))
            return
        body = request.body
    except WebhookRefused:  # as text it may be signed all the same; that it cannot be read is told later
        yield request.raw
        return
    if isinstance(body, Mapping) and body and all(isinstance(value, str) for value in body.values()):
        yield _joined(body.items())
    elif not isinstance(body, (Mapping, str)):
        yield from _compact(body, request.raw)
    yield request.raw


def _joined(fields: Iterable[tuple[str, Any]]) -> bytes:
    ordered = sorted(set(fields), key=lambda field: (field[0].encode("utf-16-be"), field[1].encode("utf-16-be")))
    return b"".join(_bytes(name + value) for name, value in ordered)


def _compact(body: Any, raw: bytes) -> Iterator[bytes]:
    try:
        compact = jsontext.dumpb(body)
    except TypeError:
        return
    if compact != raw:
        yield compact
