"""Messages of Amazon SNS: signed, by a certificate of its own, for the topic that the headers name."""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from gateway.http_client import Headers, HttpClient, HttpReply, HttpTimeout
from gateway.webhooks import SnsSignatures, WebhookRefused, confirmation_url
from gateway.webhooks.sns import FETCHES_A_MINUTE, KEPT, MAX_CERTIFICATES, signing_string
from tests.webhooks.requests import NOW

KEY = rsa.generate_private_key(65537, 2048)
TOPIC = "arn:aws:sns:us-west-2:123456789012:MyTopic"
HOST = "https://sns.us-west-2.amazonaws.com"
CERTIFICATE_URL = f"{HOST}/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"
TODAY = datetime.fromtimestamp(NOW, UTC)

NOTIFICATION = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": TOPIC,
    "Subject": "My First Message",
    "Message": "Hello\nwörld!",
    "Timestamp": "2012-05-02T00:54:06.655Z",
    "UnsubscribeURL": f"{HOST}/?Action=Unsubscribe",
}
CONFIRMATION = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
    "Token": "2336412f37",
    "TopicArn": TOPIC,
    "Message": "You have chosen to subscribe to the topic.",
    "SubscribeURL": f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37",
    "Timestamp": "2012-04-26T20:45:04.751Z",
}


def certificate(key: Any = KEY, since: datetime = TODAY - timedelta(days=1), days: int = 30) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, since, since + timedelta(days=days))
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def signed(message: Mapping[str, Any], version: str = "2", key: rsa.RSAPrivateKey = KEY, **more: Any) -> dict[str, Any]:
    algorithm = hashes.SHA1() if version == "1" else hashes.SHA256()
    signature = key.sign(signing_string(message), padding.PKCS1v15(), algorithm)
    text = base64.b64encode(signature).decode()
    return {**message, "SignatureVersion": version, "Signature": text, "SigningCertURL": CERTIFICATE_URL} | more


@dataclass
class Amazon:
    """Stands for the HTTP client: only Amazon's own hosts would be asked."""

    content: bytes = field(default_factory=certificate)
    status: int = 200
    error: Exception | None = None
    delay: float = 0.0
    asked: list[str] = field(default_factory=list)

    async def get(self, url: str, **options: Any) -> HttpReply:
        self.asked.append(url)
        await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        return HttpReply(self.status, "", Headers(), self.content)

    async def verify(
        self, message: Any, topic: str | None = TOPIC, now: float = NOW, signatures: SnsSignatures | None = None
    ) -> tuple[int, str]:
        try:
            await (signatures or SnsSignatures()).verify(message, topic, cast(HttpClient, self), now)
        except WebhookRefused as e:
            return e.status, str(e)
        return 200, ""


# ---- what is signed --------------------------------------------------------------------------------------------------


def test_a_notification_is_signed_by_its_members_in_order() -> None:
    assert signing_string(NOTIFICATION).decode() == (
        "Message\nHello\nwörld!\n"
        "MessageId\n22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324\n"
        "Subject\nMy First Message\n"
        "Timestamp\n2012-05-02T00:54:06.655Z\n"
        f"TopicArn\n{TOPIC}\n"
        "Type\nNotification\n"
    )
    assert b"Subject" not in signing_string({**NOTIFICATION, "Subject": None})


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_a_confirmation_is_signed_with_its_token_and_url(kind: str) -> None:
    lines = signing_string({**CONFIRMATION, "Type": kind}).decode().splitlines()
    assert lines[::2] == ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    assert lines[1::2] == [
        CONFIRMATION["Message"],
        CONFIRMATION["MessageId"],
        CONFIRMATION["SubscribeURL"],
        CONFIRMATION["Timestamp"],
        CONFIRMATION["Token"],
        TOPIC,
        kind,
    ]


# ---- verification ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(
    "message", [NOTIFICATION, CONFIRMATION, {n: v for n, v in NOTIFICATION.items() if n != "Subject"}]
)
async def test_a_signed_message_is_accepted(message: dict[str, Any], version: str) -> None:
    amazon = Amazon()
    assert await amazon.verify(signed(message, version)) == (200, "")
    assert amazon.asked == [CERTIFICATE_URL]


async def test_regions_of_china_have_hosts_of_their_own() -> None:
    topic = TOPIC.replace("us-west-2", "cn-north-1")
    url = "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-1.pem"
    assert await Amazon().verify(signed({**NOTIFICATION, "TopicArn": topic}, SigningCertURL=url), topic) == (200, "")


@pytest.mark.parametrize("name", ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"])
async def test_an_altered_member_is_a_401(name: str) -> None:
    altered = "SubscriptionConfirmation" if name == "Type" else f"{NOTIFICATION[name]}x"
    message = {**CONFIRMATION, **signed(NOTIFICATION), name: altered}
    assert (await Amazon().verify(message, message["TopicArn"]))[0] == 401


async def test_a_header_that_names_another_topic_is_a_401_and_fetches_nothing() -> None:
    amazon = Amazon()
    for topic in (None, "", TOPIC + "2"):
        assert (await amazon.verify(signed(NOTIFICATION), topic))[0] == 401
    assert not amazon.asked


@pytest.mark.parametrize(
    "url",
    [
        CERTIFICATE_URL.replace("https", "http"),
        CERTIFICATE_URL.replace("us-west-2", "eu-west-1"),
        CERTIFICATE_URL.replace(".com/", ".com:8443/"),
        CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com.evil.example"),
        CERTIFICATE_URL.replace("https://", "https://evil.example/?"),
        CERTIFICATE_URL.replace("https://", "https://user@"),
        CERTIFICATE_URL.replace("sns.", "evil-sns."),
        CERTIFICATE_URL.replace("sns.us-west-2.", "sns.us-west-2.evil."),
        CERTIFICATE_URL.replace(".amazonaws", "Xamazonaws"),
        CERTIFICATE_URL + "?x",
        CERTIFICATE_URL + "#x.pem",
        CERTIFICATE_URL + "\n",
        CERTIFICATE_URL.replace(".pem", ".crt"),
        f"{HOST}/../x.pem",
        f"{HOST}/?Action=x&y=.pem",
        "",
    ],
)
async def test_a_certificate_from_elsewhere_is_a_401_and_is_not_fetched(url: str) -> None:
    amazon = Amazon()
    status, reason = await amazon.verify(signed(NOTIFICATION, SigningCertURL=url))
    assert (status, "SigningCertURL is not of Amazon SNS" in reason, amazon.asked) == (401, True, [])


@pytest.mark.parametrize(
    "change",
    [
        {"SignatureVersion": "3"},
        {"SignatureVersion": "1"},
        {"SignatureVersion": 2},
        {"Signature": "n!t base64"},
        {"Signature": ""},
        {"Signature": "AAAA"},
        {"SigningCertURL": None},
        {"Type": "Other"},
        {"Type": []},
        {"Message": {"default": "x"}},
    ],
)
async def test_what_is_not_signed_as_it_must_be_is_a_401(change: dict[str, Any]) -> None:
    assert (await Amazon().verify(signed(NOTIFICATION) | change))[0] == 401


async def test_another_key_is_a_401() -> None:
    other = rsa.generate_private_key(65537, 2048)
    assert (await Amazon().verify(signed(NOTIFICATION, key=other)))[0] == 401


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        certificate(ec.generate_private_key(ec.SECP256R1())),
        certificate(since=TODAY + timedelta(days=1)),
        certificate(since=TODAY - timedelta(days=31)),
        b"#" * 100_000 + certificate(),
    ],
)
async def test_a_certificate_that_is_none_or_not_valid_now_is_a_401(content: bytes) -> None:
    assert (await Amazon(content).verify(signed(NOTIFICATION)))[0] == 401


# ---- fetching --------------------------------------------------------------------------------------------------------


async def test_a_certificate_is_kept_for_a_day_and_fetched_once_for_all_who_wait() -> None:
    amazon, signatures = Amazon(delay=0.01), SnsSignatures()
    found = await asyncio.gather(*(amazon.verify(signed(NOTIFICATION), signatures=signatures) for _ in range(10)))
    assert found == [(200, "")] * 10
    assert await amazon.verify(signed(NOTIFICATION), now=NOW + KEPT - 1, signatures=signatures) == (200, "")
    assert len(amazon.asked) == 1
    assert await amazon.verify(signed(NOTIFICATION), now=NOW + KEPT, signatures=signatures) == (200, "")
    assert len(amazon.asked) == 2


@pytest.mark.parametrize("outage", [{"error": HttpTimeout()}, {"status": 500}, {"status": 503}, {"status": 429}])
async def test_an_outage_is_a_503_and_is_not_remembered(outage: dict[str, Any]) -> None:
    amazon, signatures = Amazon(**outage), SnsSignatures()
    assert (await amazon.verify(signed(NOTIFICATION), signatures=signatures))[0] == 503
    amazon.error, amazon.status = None, 200
    assert await amazon.verify(signed(NOTIFICATION), signatures=signatures) == (200, "")


async def test_a_certificate_that_is_not_there_is_a_401() -> None:
    assert (await Amazon(status=403).verify(signed(NOTIFICATION)))[0] == 401


async def test_made_up_certificates_are_asked_for_ten_times_a_minute_at_most() -> None:
    amazon, signatures = Amazon(), SnsSignatures()
    assert await amazon.verify(signed(NOTIFICATION), signatures=signatures) == (200, "")
    made_up = [signed(NOTIFICATION, SigningCertURL=f"{HOST}/x{n}.pem") for n in range(50)]
    statuses = [(await amazon.verify(each, signatures=signatures))[0] for each in made_up]
    assert statuses.count(503) == 50 - (FETCHES_A_MINUTE - 1)
    assert len(amazon.asked) == FETCHES_A_MINUTE
    assert await amazon.verify(signed(NOTIFICATION), signatures=signatures) == (200, "")
    assert (await amazon.verify(made_up[-1], now=NOW + 60, signatures=signatures))[0] == 200


async def test_only_so_many_certificates_are_kept() -> None:
    amazon, signatures = Amazon(), SnsSignatures()
    for n in range(MAX_CERTIFICATES + 5):
        await amazon.verify(
            signed(NOTIFICATION, SigningCertURL=f"{HOST}/x{n}.pem"), now=NOW + 10 * n, signatures=signatures
        )
    assert len(signatures._certificates) == MAX_CERTIFICATES


# ---- confirmation ----------------------------------------------------------------------------------------------------


def test_a_subscription_is_confirmed_at_sns_in_the_region_of_the_topic() -> None:
    assert confirmation_url(CONFIRMATION) == CONFIRMATION["SubscribeURL"]


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "http://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://169.254.169.254/?Action=ConfirmSubscription",
        "https://sns.us-west-2.amazonaws.com@evil.example/?Action=ConfirmSubscription",
        "https://sns.us-west-2.amazonaws.com/?Action=Confirm Subscription",
        "https://sns.us-west-2.amazonaws.com/other?Action=ConfirmSubscription",
    ],
)
def test_a_subscription_is_confirmed_nowhere_else(url: str | None) -> None:
    with pytest.raises(WebhookRefused) as caught:
        confirmation_url({**CONFIRMATION, "SubscribeURL": url})
    assert caught.value.status == 401


JSON = st.none() | st.booleans() | st.integers() | st.text(max_size=20)


@given(
    st.dictionaries(st.sampled_from([*signed(NOTIFICATION), "SubscribeURL", "Token"]), JSON) | st.lists(JSON) | JSON,
    st.none() | st.just(TOPIC),
)
async def test_whatever_comes_is_a_401(change: Any, topic: str | None) -> None:
    message = {**signed(NOTIFICATION), **change, "Message": "altered"} if isinstance(change, dict) else change
    assert (await Amazon().verify(message, topic))[0] == 401
