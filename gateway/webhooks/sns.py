"""Messages of Amazon SNS: whether it has signed them (AWS docs, "Verifying the signatures of Amazon SNS messages").

The certificate comes from SNS itself, over TLS, from the region of the topic; nowhere else. What the headers say of the topic is worth
nothing until it is compared with the signed message.
"""

import asyncio
import base64
import re
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gateway.http_client import HttpClient, HttpError
from gateway.webhooks.refusals import WebhookRefused, come_again, invalid_signature

KEPT: Final = 86_400.0  # seconds
MAX_CERTIFICATES: Final = 20
MAX_SIZE: Final = 64 * 1024  # bytes
FETCHES_A_MINUTE: Final = 10
FETCH_TIMEOUT: Final = 5.0  # seconds

_NOTIFICATION: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED: Final = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
# The first is what AWS signs with by default; that it holds is AWS's to say.
_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303

_HOST: Final = r"https://sns\.(?P<region>[a-z0-9-]{3,40})\.amazonaws\.com(?:\.cn)?"
_CERTIFICATE_URL = re.compile(_HOST + r"/[A-Za-z0-9_-]{1,200}\.pem")
_CONFIRMATION_URL = re.compile(_HOST + r"/\?[!-~]{1,4000}")


def signing_string(message: Mapping[str, Any]) -> bytes:
    """What is signed of a message. Raises WebhookRefused (401) when a member is missing, or no text."""
    kind = message.get("Type")
    if not isinstance(kind, str) or kind not in _SIGNED:
        raise invalid_signature("Type must be Notification, SubscriptionConfirmation or UnsubscribeConfirmation")
    names = [name for name in _SIGNED[kind] if name != "Subject" or message.get(name) is not None]
    return "".join(f"{name}\n{_text(message, name)}\n" for name in names).encode()


def confirmation_url(message: Mapping[str, Any]) -> str:
    """Where a subscription is confirmed by a GET; of a message that was verified. Raises WebhookRefused (401) unless it is at SNS."""
    url = _text(message, "SubscribeURL")
    match = _CONFIRMATION_URL.fullmatch(url)
    if match is None or match["region"] != _region(_text(message, "TopicArn")):
        raise invalid_signature("SubscribeURL is not of Amazon SNS in the region of the topic")
    return url


def _text(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise invalid_signature(f"{name} is missing, or no text")
    return value


def _region(topic_arn: str) -> str | None:
    """The fourth field of `arn:aws:sns:REGION:ACCOUNT:NAME`."""
    fields = topic_arn.split(":")
    return fields[3] if len(fields) == 6 and fields[0] == "arn" and fields[2] == "sns" else None


@dataclass(frozen=True, slots=True)
class _Certificate:
    key: rsa.RSAPublicKey
    since: datetime
    until: datetime
    fetched: float


class SnsSignatures:
    """Verifies messages. Keeps the certificates that it fetched, for a day: one for a connector, made at activation."""

    def __init__(self) -> None:
        self._certificates: OrderedDict[str, _Certificate] = OrderedDict()
        self._fetches: dict[str, asyncio.Task[_Certificate]] = {}
        self._fetched: deque[float] = deque(maxlen=FETCHES_A_MINUTE)

    async def verify(self, message: Any, topic_arn: str | None, http: HttpClient, now: float) -> None:
        """message: the body. topic_arn: of the header `x-amz-sns-topic-arn`, which must be that of the message.

        Raises WebhookRefused: 401, or 503 when the certificate cannot be fetched.
        """
        if not isinstance(message, Mapping):
            raise invalid_signature("The body is no message of Amazon SNS: expected a JSON object")
        content = signing_string(message)
        topic = _text(message, "TopicArn")
        if topic_arn != topic:
            raise invalid_signature("The header x-amz-sns-topic-arn is not the TopicArn of the message")
        url = _text(message, "SigningCertURL")
        match = _CERTIFICATE_URL.fullmatch(url)
        if match is None or match["region"] != _region(topic):
            raise invalid_signature("SigningCertURL is not of Amazon SNS in the region of the topic")
        algorithm = _HASHES.get(_text(message, "SignatureVersion"))
        if algorithm is None:
            raise invalid_signature("SignatureVersion must be 1 or 2")
        try:
            signature = base64.b64decode(_text(message, "Signature"), validate=True)
        except ValueError:
            raise invalid_signature("Signature is no base64") from None
        certificate = await self._certificate(url, http, now)
        if not certificate.since <= datetime.fromtimestamp(now, UTC) <= certificate.until:
            raise invalid_signature("The certificate of the signature is not valid now")
        try:
            certificate.key.verify(signature, content, padding.PKCS1v15(), algorithm)
        except InvalidSignature:
            raise invalid_signature("The signature does not match the message") from None

    async def _certificate(self, url: str, http: HttpClient, now: float) -> _Certificate:
        kept = self._certificates.get(url)
        if kept is not None and 0 <= now - kept.fetched < KEPT:
            return kept
        fetch = self._fetches.get(url)
        if fetch is None:
            if len(self._fetched) == FETCHES_A_MINUTE and 0 <= now - self._fetched[0] < 60:
                raise come_again("Certificates of Amazon SNS are asked for too often now", 60)
            self._fetched.append(now)
            fetch = self._fetches[url] = asyncio.create_task(_fetch(url, http, now), name="certificate of Amazon SNS")
            fetch.add_done_callback(lambda task: self._keep(url, task))
        return await asyncio.shield(fetch)  # shared with others, who still wait when this request is gone

    def _keep(self, url: str, fetch: "asyncio.Task[_Certificate]") -> None:
        self._fetches.pop(url, None)
        if not fetch.cancelled() and fetch.exception() is None:
            self._certificates[url] = fetch.result()
            self._certificates.move_to_end(url)
            if len(self._certificates) > MAX_CERTIFICATES:
                self._certificates.popitem(last=False)


async def _fetch(url: str, http: HttpClient, now: float) -> _Certificate:
    """Raises WebhookRefused: 503 for an outage, 401 where there is no such certificate."""
    try:
        reply = await http.get(url, timeout=FETCH_TIMEOUT)
    except HttpError as e:
        raise come_again("The certificate of the signature cannot be fetched now", 10) from e
    if reply.status in {429, *range(500, 600)}:
        raise come_again("The certificate of the signature cannot be fetched now", 10)
    if reply.status != 200 or len(reply.content) > MAX_SIZE:
        raise _no_certificate()
    try:
        certificate = x509.load_pem_x509_certificate(reply.content)
        key = certificate.public_key()
    except Exception as e:  # of several libraries
        raise _no_certificate() from e
    if not isinstance(key, rsa.RSAPublicKey):
        raise _no_certificate()
    return _Certificate(key, certificate.not_valid_before_utc, certificate.not_valid_after_utc, now)


def _no_certificate() -> WebhookRefused:
    return invalid_signature("There is no certificate at SigningCertURL")
