"""Signatures of well-known senders, with the examples of their own documentation."""

import base64
import hmac
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks import SCHEMES, WebhookRefused, WebhookRequest, signature
from tests.webhooks.requests import NOW, REQUESTS, Compared, a_request, refused, signed

STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STANDARD = a_request(
    b'{"test": 2432232314}',
    webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
    webhook_timestamp="1614265330",
    webhook_signature="v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
)
STRIPE_SECRET = "whsec_test_secret"
STRIPE = a_request(  # Stripe publishes no example with its secret: signed by openssl, by the words of its docs
    b'{\n  "id": "evt_test_webhook",\n  "object": "event"\n}',
    stripe_signature="t=1614265330,v1=af4ead0627a34a8cca29808e8de9ada8e41a92e6237c63cef6eacf51d36cca34",
)
GITHUB_SECRET = "It's a Secret to Everybody"
GITHUB = a_request(
    b"Hello, World!",
    x_hub_signature_256="sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
)
SLACK_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
SLACK = a_request(
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10"
    b"d2c447fce8b6703c",
    x_slack_request_timestamp="1531420618",
    x_slack_signature="v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
)
EXAMPLES = {
    "standard-webhooks": (STANDARD, STANDARD_SECRET, 1614265330),
    "stripe": (STRIPE, STRIPE_SECRET, 1614265330),
    "github": (GITHUB, GITHUB_SECRET, 0),
    "slack": (SLACK, SLACK_SECRET, 1531420618),
}
TIMED = ["standard-webhooks", "stripe", "slack"]


def accepts(scheme: str, request: WebhookRequest, now: float, *secrets: str, **options: Any) -> bool:
    try:
        signature(scheme, secrets, **options).verify(request, now)
    except WebhookRefused as e:
        refusal = e
    else:
        return True
    assert refusal.status == 401
    assert str(refusal).startswith("Reason: INVALID_SIGNATURE. Details: ")
    return False


def without(request: WebhookRequest, header: str) -> WebhookRequest:
    return replace(request, headers={n: v for n, v in request.headers.items() if n != header})


def having(request: WebhookRequest, **headers: str) -> WebhookRequest:
    return replace(request, headers=dict(request.headers) | {n.replace("_", "-"): v for n, v in headers.items()})


def test_these_schemes_are_known() -> None:
    assert set(SCHEMES) == set(EXAMPLES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_published_example_is_accepted(scheme: str) -> None:
    request, secret, now = EXAMPLES[scheme]
    assert accepts(scheme, request, now, secret)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_altered_bytes_are_refused(scheme: str) -> None:
    request, secret, now = EXAMPLES[scheme]
    for n in (0, len(request.raw) // 2, len(request.raw) - 1):
        altered = request.raw[:n] + bytes([request.raw[n] ^ 1]) + request.raw[n + 1 :]
        assert not accepts(scheme, replace(request, raw=altered), now, secret)
    assert not accepts(scheme, replace(request, raw=request.raw + b"\n"), now, secret)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_wrong_secret_is_refused_and_each_of_two_in_rotation_accepted(scheme: str) -> None:
    request, secret, now = EXAMPLES[scheme]
    other = "whsec_" + base64.b64encode(b"another secret").decode()
    assert not accepts(scheme, request, now, other)
    assert accepts(scheme, request, now, other, secret)
    assert accepts(scheme, request, now, secret, other)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "value", ["", "x", "v1,", "v0=", "sha256=", "t=1614265330", "v1,\ud800", "v1,!", "=", ",,,", "v0=ä"]
)
def test_a_signature_that_is_none_or_missing_is_refused(scheme: str, value: str) -> None:
    request, secret, now = EXAMPLES[scheme]
    (header,) = [name for name in request.headers if "signature" in name]
    assert not accepts(scheme, having(request, **{header: value}), now, secret)
    assert not accepts(scheme, without(request, header), now, secret)


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize(("offset", "wanted"), [(-300, True), (300, True), (-301, False), (301, False), (10**6, False)])
def test_stale_and_future_dated_requests_are_refused(scheme: str, offset: int, wanted: bool) -> None:
    request, secret, now = EXAMPLES[scheme]
    assert accepts(scheme, request, now + offset, secret) is wanted
    assert accepts(scheme, request, now + offset, secret, tolerance=10**7)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_comparing_takes_constant_time(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = Compared(monkeypatch)
    request, secret, now = EXAMPLES[scheme]
    assert accepts(scheme, request, now, secret)
    assert compared.count == 1


def test_a_missing_header_is_named() -> None:
    with pytest.raises(WebhookRefused) as caught:
        signature("slack", [SLACK_SECRET]).verify(without(SLACK, "x-slack-request-timestamp"), NOW)
    assert refused(caught) == (
        401,
        "Reason: INVALID_SIGNATURE. Details: The header x-slack-request-timestamp is missing",
    )


# ---- one by one ------------------------------------------------------------------------------------------------------


def test_standard_webhooks_may_carry_several_signatures_of_several_versions() -> None:
    good = STANDARD.headers["webhook-signature"]
    for value in (f"v1,AAAA {good}", f"v1a,{good[3:]} {good}", f"{good} v2,x"):
        assert accepts("standard-webhooks", having(STANDARD, webhook_signature=value), 1614265330, STANDARD_SECRET)
    for value in (f"v1a,{good[3:]}", f"v2,{good[3:]}", good[3:], "v1,AAAA " * 20 + good):
        assert not accepts("standard-webhooks", having(STANDARD, webhook_signature=value), 1614265330, STANDARD_SECRET)


def test_standard_webhooks_come_under_the_names_of_svix_too() -> None:
    headers = {name.replace("webhook-", "svix-"): value for name, value in STANDARD.headers.items()}
    request = replace(STANDARD, headers=headers)
    assert accepts("standard-webhooks", request, 1614265330, STANDARD_SECRET)
    rule = signature("standard-webhooks", [STANDARD_SECRET])
    assert rule.replay_key(request) == rule.replay_key(STANDARD)


def test_the_id_of_standard_webhooks_is_signed_and_cannot_run_into_the_time() -> None:
    assert not accepts("standard-webhooks", having(STANDARD, webhook_id="msg_other"), 1614265330, STANDARD_SECRET)
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    value = "v1," + base64.b64encode(hmac.new(key, b"a.b.1614265330.x", "sha256").digest()).decode()
    request = a_request(b"x", webhook_id="a.b", webhook_timestamp="1614265330", webhook_signature=value)
    assert not accepts("standard-webhooks", request, 1614265330, STANDARD_SECRET)


def test_a_secret_of_standard_webhooks_may_lack_its_prefix_and_its_padding() -> None:
    key = base64.b64encode(b"12345").decode()
    value = "v1," + base64.b64encode(signed(b"a.1614265330.x", "12345").digest()).decode()
    request = a_request(b"x", webhook_id="a", webhook_timestamp="1614265330", webhook_signature=value)
    for secret in (key, key.rstrip("="), f"whsec_{key}", f" {key} "):
        assert accepts("standard-webhooks", request, 1614265330, secret)


def test_stripe_signs_the_time_once_and_with_several_secrets() -> None:
    good = STRIPE.headers["stripe-signature"]
    time, claim = good.split(",")
    for value in (f"{time},v1={'0' * 64},{claim}", f"{claim}, {time}", f"{good},v0=abc"):
        assert accepts("stripe", having(STRIPE, stripe_signature=value), 1614265330, STRIPE_SECRET)
    for value in (claim, f"{time},t=1614265331,{claim}", f"{time},v0{claim[2:]}", f"t=1614265331,{claim}"):
        assert not accepts("stripe", having(STRIPE, stripe_signature=value), 1614265330, STRIPE_SECRET)


@pytest.mark.parametrize("scheme", ["github", "slack"])
def test_a_digest_counts_only_behind_its_name(scheme: str) -> None:
    request, secret, now = EXAMPLES[scheme]
    (header,) = [name for name in request.headers if "signature" in name]
    name, digest = request.headers[header].split("=")
    for value in (digest, f"v9={digest}", f"{name}={digest}0", f"{name}=={digest}"):
        assert not accepts(scheme, having(request, **{header: value}), now, secret)


# ---- once only -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", TIMED)
def test_what_is_signed_names_a_request_and_nothing_else_does(scheme: str) -> None:
    request, secret, _ = EXAMPLES[scheme]
    rule = signature(scheme, [secret])
    key = rule.replay_key(request)
    assert key is not None
    assert key == rule.replay_key(having(replace(request, query="a=1"), x_more="x"))
    assert key == signature(scheme, ["whsec_AAAA", secret]).replay_key(request)
    if scheme == "stripe":
        assert key == rule.replay_key(
            having(request, stripe_signature=request.headers["stripe-signature"] + ",v1=other")
        )


def test_an_event_that_standard_webhooks_sends_again_is_the_same_event() -> None:
    rule = signature("standard-webhooks", [STANDARD_SECRET])
    assert rule.replay_key(having(STANDARD, webhook_timestamp="1614265390")) == rule.replay_key(STANDARD)
    assert rule.replay_key(having(STANDARD, webhook_id="msg_other")) != rule.replay_key(STANDARD)


def test_github_signs_nothing_that_could_name_a_request() -> None:
    assert signature("github", [GITHUB_SECRET]).replay_key(GITHUB) is None


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "secrets", "options", "named"),
    [
        ("nobody", ["x"], {}, "expected one of standard-webhooks"),
        ("github", [], {}, "secret"),
        ("stripe", ["", "  "], {}, "secret"),
        ("standard-webhooks", ["no base64!"], {}, "base64"),
        ("standard-webhooks", ["whsec_"], {}, "base64"),
        ("slack", ["x"], {"tolerance": 0}, "tolerance"),
        ("slack", ["x"], {"tolerance": float("nan")}, "tolerance"),
    ],
)
def test_what_cannot_work_is_told_at_activation(
    scheme: str, secrets: list[str], options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        signature(scheme, secrets, **options)
    assert "no base64!" not in str(caught.value)


def test_a_rule_does_not_show_its_secrets() -> None:
    assert "x7secret" not in repr(signature("github", ["x7secret"]))


@given(st.sampled_from(SCHEMES), REQUESTS)
def test_whatever_comes_is_refused(scheme: str, request: WebhookRequest) -> None:
    assert not accepts(scheme, request, NOW, "whsec_AAAA")
    signature(scheme, ["whsec_AAAA"]).replay_key(request)
