"""HTTP Webhook: a request to a path starts a process instance or reaches a waiting one (Camunda docs, "HTTP Webhook connector").

GitHub, Twilio, Amazon EventBridge and others are element templates on this connector, with prepared properties.

Beyond the original, by further properties of the element (`zeebe:property`, all optional):

| property | meaning |
| --- | --- |
| `inbound.signatureScheme` | `standard-webhooks`, `stripe`, `github` or `slack`: whose rules of signing the request must follow, with `inbound.hmacSecret` |
| `inbound.hmacSecretPrevious` | a second secret that is accepted too, while the first is being replaced |
| `inbound.hmacTimestampHeader` | the header with the time of signing; with `timestamp` among `inbound.hmacScopes` it is signed too |
| `inbound.hmacToleranceSeconds` | how far that time may be from now, both ways; default 300 |
| `inbound.replayProtection` | `true`: a signed request counts once, the same one again is a 409, unless the first failed; the time must be signed |
| `inbound.bodySchema` | a JSON Schema for the body, checked before an instance exists; 422 when it does not fit |
| `inbound.idempotencyHeader` | the header with a key that names the event: a repeated key gets the first answer and starts nothing |
| `inbound.idempotencyTtl` | how long a key is remembered, ISO 8601; default `PT24H` |
| `inbound.shared` | `true` on all who use a path: each request goes to all of them, the first success answers |
| `inbound.startOrCorrelate` | `true`: an event goes to the instance that waits for it, and starts one where none does |

Keys and signatures are remembered in memory, by one gateway: where several share a path, each has its own memory.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, Literal, Self
from urllib.parse import quote_plus

from pydantic import BaseModel, Field, PrivateAttr, model_validator

from gateway import (
    ConnectorInputException,
    Document,
    InboundContext,
    Outcome,
    WebhookRefused,
    WebhookRequest,
    WebhookResponse,
    webhook_connector,
)
from gateway.documents import OCTET_STREAM
from gateway.feel import FeelError
from gateway.webhooks import (
    ApiKeyAuthorization,
    BodySchema,
    HmacSettings,
    HmacSignature,
    NoAuthorization,
    Part,
    Signature,
    WebhookAuthorization,
    authorize,
    request_entry,
    signature,
)

_VERIFICATION: Final = "inbound.verificationExpression"
_RESPONSE: Final = "inbound.responseExpression"
_ANSWERS_KEPT: Final = 1000
_UPLOADS_AT_ONCE: Final = 4
_TOLERANCE: Final = 300

_DEDUPLICATION: Final = (
    "inbound.method",
    "inbound.context",
    "inbound.shouldValidateHmac",
    "inbound.hmacSecret",
    "inbound.hmacHeader",
    "inbound.hmacAlgorithm",
    "inbound.hmacScopes",
    "inbound.auth",
    "inbound.verificationExpression",
    # beyond the original: absent, they change no id
    "inbound.signatureScheme",
    "inbound.hmacSecretPrevious",
    "inbound.hmacTimestampHeader",
    "inbound.hmacToleranceSeconds",
    "inbound.replayProtection",
    "inbound.bodySchema",
    "inbound.idempotencyHeader",
    "inbound.idempotencyTtl",
    "inbound.shared",
)


# ---- settings --------------------------------------------------------------------------------------------------------


class Inbound(HmacSettings):
    """The properties `inbound.*` but the path, which is the gateway's business, and the response expression, which belongs to
    the element that an event reaches.
    """

    method: str | None = None
    auth: WebhookAuthorization = NoAuthorization()
    verificationExpression: Callable[[Mapping[str, Any]], Any] | None = None  # noqa: N815 - the property's own name
    signatureScheme: Literal["standard-webhooks", "stripe", "github", "slack"] | None = None  # noqa: N815
    replayProtection: bool = False  # noqa: N815
    bodySchema: Any = None  # noqa: N815
    idempotencyHeader: str | None = None  # noqa: N815
    idempotencyTtl: timedelta = timedelta(days=1)  # noqa: N815

    _signatures: tuple[Signature | HmacSignature, ...] = PrivateAttr(())
    _schema: BodySchema | None = PrivateAttr(None)
    _answers: "_Answers" = PrivateAttr(default_factory=lambda: _Answers())  # noqa: PLW0108 - defined below

    @model_validator(mode="after")
    def _prepared(self) -> Self:
        """Makes once what every request needs."""
        signatures: list[Signature | HmacSignature] = []
        if (described := self.hmac_signature()) is not None:
            signatures.append(described)
        if self.signatureScheme is not None:
            secrets = [secret for secret in (self.hmacSecret, self.hmacSecretPrevious) if secret]
            if not secrets:
                raise ValueError("hmacSecret: expected the secret that the signatureScheme needs, but got nothing")
            tolerance = _TOLERANCE if self.hmacToleranceSeconds is None else self.hmacToleranceSeconds
            signatures.append(signature(self.signatureScheme, secrets, tolerance=tolerance))
        if self.replayProtection and not self._signs_the_time():
            raise ValueError(
                "replayProtection: expected a signature that covers an id or a time: hmacScopes with timestamp, or another "
                "signatureScheme than github; idempotencyHeader can tell by a header what comes twice"
            )
        if self.bodySchema not in (None, ""):
            try:
                self._schema = BodySchema(self.bodySchema)
            except ValueError as e:
                raise ValueError(f"bodySchema: {e}") from None
        self._signatures = tuple(signatures)
        return self

    def _signs_the_time(self) -> bool:
        if self.signatureScheme not in {None, "github"}:
            return True
        return self.shouldValidateHmac == "enabled" and "timestamp" in (self.hmacScopes or ())


class WebhookSettings(BaseModel):
    inbound: Inbound = Field(default_factory=Inbound)


# ---- the connector ---------------------------------------------------------------------------------------------------


@webhook_connector("Webhook", type="io.camunda:webhook:1", deduplication=_DEDUPLICATION)
async def webhook(settings: WebhookSettings, request: WebhookRequest, source: InboundContext) -> WebhookResponse:
    """In the order of the original: verification, method, signature, authorization, event, answer."""
    inbound = settings.inbound
    if inbound.verificationExpression is not None:
        await request.prepared()
    challenged = _challenged(inbound, source, request)
    if challenged is not None:
        return challenged
    source.log("INFO", request.method, _entry(inbound, request))
    if inbound.method and inbound.method.strip().lower() not in {"any", request.method.lower()}:
        allowed = {"Allow": f"{inbound.method.strip().upper()}, OPTIONS"}
        raise WebhookRefused(405, f"Method {request.method} not supported", headers=allowed)
    now = time.time()
    for each in inbound._signatures:
        each.verify(request, now)
    await authorize(inbound.auth, request, source.http, now)
    key = request.headers.get(inbound.idempotencyHeader.lower()) if inbound.idempotencyHeader else None
    if not key:
        return await _unrepeated(inbound, source, request)
    name = _name(source, "key", key)
    ttl = inbound.idempotencyTtl.total_seconds()
    return await inbound._answers.once(source, name, ttl, lambda: _unrepeated(inbound, source, request))


def _challenged(inbound: Inbound, source: InboundContext, request: WebhookRequest) -> WebhookResponse | None:
    """The answer that the verification expression gives at once. It sees null for a body that cannot be read: a sender who is
    not authorized yet learns nothing of what is wrong with it.
    """
    if inbound.verificationExpression is None:
        return None
    try:
        body = request.body
    except WebhookRefused:
        body = None
    try:
        value = inbound.verificationExpression({"request": {**_seen(request), "body": body}})
    except FeelError as e:
        raise _failed(source, source.elements[0].properties.get(_VERIFICATION), e) from None
    return None if value is None else _described(source, value)


def _entry(inbound: Inbound, request: WebhookRequest) -> str:
    """The request for the activity log, without what authorizes its sender."""
    entry = request_entry(request, [inbound.hmacHeader] if inbound.hmacHeader else [])
    if isinstance(inbound.auth, ApiKeyAuthorization) and len(inbound.auth.apiKey) > 2:
        for secret in {inbound.auth.apiKey, quote_plus(inbound.auth.apiKey)}:
            entry = entry.replace(secret, "***")
    return entry


async def _unrepeated(inbound: Inbound, source: InboundContext, request: WebhookRequest) -> WebhookResponse:
    """The answer; refuses a signed request that was received before, where the process asks for that."""
    taken: list[str] = []
    response: WebhookResponse | None = None
    try:
        for each in inbound._signatures if inbound.replayProtection else ():
            if (signed := each.replay_key(request)) is None:
                continue
            name = _name(source, "signature", signed)
            if not source.first_time(name, 2 * each.tolerance):
                raise WebhookRefused(409, "This signed request was received before")
            taken.append(name)
        response = await _received(inbound, source, request)
        return response
    finally:
        if response is None or response.status >= 400:
            for name in taken:
                source.forget(name)


# ---- events and answers ----------------------------------------------------------------------------------------------


async def _received(inbound: Inbound, source: InboundContext, request: WebhookRequest) -> WebhookResponse:
    await request.prepared()
    event: dict[str, Any] = {"request": {**_seen(request), "body": request.body}, "connectorData": {}, "documents": []}
    if inbound._schema is not None:
        inbound._schema.check(request.body)
    if request.parts:
        unwanted = source.check(event)  # nothing is stored for an event that nobody wants
        if unwanted is not None:
            return WebhookResponse.of(unwanted)
        event["documents"] = await _documents(source, request)
    return await _answer(source, event, await source.correlate(event))


def _seen(request: WebhookRequest) -> dict[str, Any]:
    """The request as expressions see it, but for its body."""
    return {"headers": request.headers, "params": request.params}


async def _documents(source: InboundContext, request: WebhookRequest) -> list[Document]:
    """Each part of the body as a document, in order."""
    places = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def upload(part: Part) -> Document:
        kind = part.content_type if part.content_type and part.content_type.isprintable() else OCTET_STREAM
        name = None if part.file_name is None else "".join(c if c.isprintable() else "_" for c in part.file_name)
        async with places:
            return await source.documents.create(part.content, content_type=kind, file_name=name)

    uploads = await asyncio.gather(*map(upload, request.parts), return_exceptions=True)
    documents = [upload for upload in uploads if isinstance(upload, Document)]
    for failure in uploads:
        if isinstance(failure, BaseException):
            raise failure
    return documents


async def _answer(source: InboundContext, event: Mapping[str, Any], outcome: Outcome) -> WebhookResponse:
    """What the response expression of the element says that the event has reached."""
    correlation, element = outcome.correlation(), getattr(outcome, "element", None)
    if correlation is None or element is None:
        return WebhookResponse.of(outcome)
    try:
        value = await source.evaluate(element, _RESPONSE, {**event, "correlation": correlation})
    except ConnectorInputException as e:
        raise _failed(source, element.properties.get(_RESPONSE), e) from None
    return _described(source, value)


def _described(source: InboundContext, value: Any) -> WebhookResponse:
    try:
        return WebhookResponse.described(value)
    except ConnectorInputException as e:
        source.log("ERROR", "Response", f"The expression describes no response: {e}")
        return WebhookResponse(500)


def _failed(source: InboundContext, expression: str | None, error: Exception) -> WebhookRefused:
    """As the original answers; with the expression as the process has it, so without the secrets that were put in."""
    source.log("ERROR", "Response", f"The expression {expression} failed: {error}")
    reason = str(error)
    return WebhookRefused(422, reason, body={"reason": reason, "expression": expression})


# ---- once only -------------------------------------------------------------------------------------------------------


class _Answers:
    """What was answered to the keys of requests, and which are under way. At most so many answers are kept."""

    def __init__(self) -> None:
        self._under_way: set[str] = set()
        self._given: OrderedDict[str, WebhookResponse] = OrderedDict()

    async def once(
        self, source: InboundContext, key: str, seconds: float, respond: Callable[[], Awaitable[WebhookResponse]]
    ) -> WebhookResponse:
        """The answer of the first request with this key. 409 while that is under way; a failed one counts as never made."""
        if not source.first_time(key, seconds):
            if key in self._under_way:
                raise WebhookRefused(409, "A request with this key is being handled", headers={"Retry-After": "1"})
            return self._given.get(key) or WebhookResponse()
        self._under_way.add(key)
        try:
            response = await respond()
            if response.status < 400:
                self._keep(key, response)
            else:
                source.forget(key)
            return response
        except BaseException:
            source.forget(key)
            raise
        finally:
            self._under_way.discard(key)

    def _keep(self, key: str, response: WebhookResponse) -> None:
        self._given[key] = response
        self._given.move_to_end(key)
        if len(self._given) > _ANSWERS_KEPT:
            self._given.popitem(last=False)


def _name(source: InboundContext, kind: str, value: str) -> str:
    """A key of this executable alone, of a fixed length."""
    return hashlib.sha256(f"{source.executable_id} {kind} {value}".encode("utf-8", "surrogatepass")).hexdigest()
