"""HMAC by a webhook's properties: each row of scopes, each form of the header, and Twilio as it signs in fact."""

import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks import HmacSettings, HmacSignature, WebhookRefused, WebhookRequest
from tests.webhooks.requests import FORM, NOW, REQUESTS, Compared, a_request, refused, signed

URL = "https://hooks.example/inbound/hook"
BODY = b'{"a": 1}'


def a_signature(*scopes: str, **options: Any) -> HmacSignature:
    given = {"header": "X-Sig", "algorithm": "sha_256", "scopes": scopes or ("body",)} | options
    return HmacSignature(given.pop("secrets", ["key"]), **given)


def accepts(signature: HmacSignature, request: WebhookRequest, now: float = NOW) -> bool:
    try:
        signature.verify(request, now)
    except WebhookRefused as e:
        refusal = e
    else:
        return True
    assert refusal.status == 401
    return False


def accepts_content(signature: HmacSignature, content: bytes, body: bytes = b"", **request: Any) -> bool:
    """Whether a signature of this content is one of the request; one of any other content must not be."""
    assert not accepts(signature, a_request(body, x_sig=signed(content + b"#").hexdigest(), **request))
    return accepts(signature, a_request(body, x_sig=signed(content).hexdigest(), **request))


# ---- the header ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "digest"), [("sha_1", "sha1"), ("sha_256", "sha256"), ("sha_512", "sha512")])
def test_the_digest_comes_in_hex_or_base64_alone_or_after_a_name(algorithm: str, digest: str) -> None:
    made = signed(BODY, algorithm=digest)
    text, packed = made.hexdigest(), base64.b64encode(made.digest()).decode()
    for value in (text, text.upper(), f"{digest}={text}", packed, f"v1={packed}"):
        assert accepts(a_signature(algorithm=algorithm), a_request(BODY, x_sig=value)), value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sha256=",
        "=",
        "nonsense",
        "00" * 32,
        "sha256=" + "00" * 32,
        base64.b64encode(bytes(32)).decode(),
        "ä",
        "\ud800",
        "a" * 10_000,
    ],
)
def test_another_value_is_a_401(value: str) -> None:
    assert not accepts(a_signature(), a_request(BODY, x_sig=value))


def test_another_secret_another_algorithm_or_altered_bytes_are_a_401() -> None:
    signature = a_signature()
    assert not accepts(signature, a_request(BODY, x_sig=signed(BODY, "other").hexdigest()))
    assert not accepts(signature, a_request(BODY, x_sig=signed(BODY, algorithm="sha1").hexdigest()))
    for n in range(len(BODY)):
        altered = BODY[:n] + bytes([BODY[n] ^ 1]) + BODY[n + 1 :]
        assert not accepts(signature, a_request(altered, x_sig=signed(BODY).hexdigest()))


def test_an_absent_header_is_a_401_that_names_it() -> None:
    with pytest.raises(WebhookRefused) as caught:
        a_signature().verify(a_request(BODY), NOW)
    assert refused(caught) == (401, "Reason: INVALID_SIGNATURE. Details: The header x-sig is missing")


def test_each_of_two_secrets_is_accepted_while_they_are_rotated() -> None:
    signature = a_signature(secrets=["new", "old"])
    assert [
        accepts(signature, a_request(BODY, x_sig=signed(BODY, key).hexdigest())) for key in ("new", "old", "older")
    ] == [True, True, False]


def test_comparing_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = Compared(monkeypatch)
    signature = a_signature(secrets=["new", "old"])
    assert accepts(signature, a_request(BODY, x_sig=signed(BODY, "old").hexdigest()))
    assert compared.count == 2
    assert not accepts(signature, a_request(BODY, x_sig="sha256=" + "0" * 64))
    assert compared.count > 2


# ---- what is signed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_the_scope_body_is_the_body_as_it_came(method: str) -> None:
    for body in (b"", b"\xff\0", BODY):
        assert accepts_content(a_signature("body"), body, body, method=method, query="a=1")


@pytest.mark.parametrize(
    ("body", "content_type", "content"),
    [
        (b"b=2&a=x+y&c", FORM, b"ax yb2c"),
        (b"b=2&a=1", f"{FORM}; charset=utf-8", b"a1b2"),
        (b"a=%C3%A4&B=1", FORM, "B1aä".encode()),
        (b'{"b": "2", "a": "1"}', "application/json", b"a1b2"),
        (b'{"b": "2", "a": "1"}', "application/json", b'{"b": "2", "a": "1"}'),
        (b'{"a": 1, "b": "2"}', "application/json", b'{"a": 1, "b": "2"}'),
        (b'[1, {"a": 1.50}]', "application/json", b'[1,{"a":1.50}]'),
        (b'[1, {"a": 1.50}]', "application/json", b'[1, {"a": 1.50}]'),
        (b"{nope", "application/json", b"{nope"),
        (b"<a/>", "text/xml", b"<a/>"),
        (b"", "application/json", b""),
    ],
)
@pytest.mark.parametrize("scopes", [("url", "body"), ("parameters", "body", "url")])
def test_the_scopes_url_and_body(scopes: tuple[str, ...], body: bytes, content_type: str, content: bytes) -> None:
    assert accepts_content(a_signature(*scopes), URL.encode() + content, body, content_type=content_type)


def test_a_form_is_not_what_its_bytes_say() -> None:
    assert not accepts_content(a_signature("url", "body"), URL.encode() + b"b=2&a=1", b"b=2&a=1", content_type=FORM)


@pytest.mark.parametrize(
    ("query", "content"),
    [
        ("b=2&a=x%20y~*", b"?b=2&a=x+y%7E*"),
        ("b=2&a=x%20y~*", b"?b=2&a=x%20y~*"),
        ("a=%C3%A4&a=2", b"?a=%C3%A4"),
        ("a=%C3%A4&a=2", b"?a=%C3%A4&a=2"),
        ("", b"?"),
        ("", b""),
    ],
)
def test_the_parameters_are_signed_as_java_encodes_them_or_as_they_came(query: str, content: bytes) -> None:
    for scopes, method in (
        (("url", "parameters"), "POST"),
        (("url", "parameters"), "GET"),
        (("url", "body", "parameters"), "GET"),
    ):
        assert accepts_content(a_signature(*scopes), URL.encode() + content, b"", query=query, method=method)


def test_the_body_of_a_get_is_not_signed_with_three_scopes_that_of_a_post_is() -> None:
    signature, content = a_signature("url", "body", "parameters"), URL.encode() + b"?a=1"
    assert accepts_content(signature, content, b"whatever", query="a=1", method="GET")
    assert not accepts_content(signature, content, b"whatever", query="a=1", method="POST")


def test_a_url_with_letters_that_no_text_holds_is_a_401() -> None:
    assert not accepts(a_signature("url", "body"), a_request(url="https://x/\ud800", x_sig="00" * 32))


# ---- Twilio ----------------------------------------------------------------------------------------------------------

CALL = {
    "CallSid": "CA1234567890ABCDE",
    "Caller": "+14158675309",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
}
CALL_FORM = b"&".join(f"{name}={value.replace('+', '%2B')}".encode() for name, value in reversed(CALL.items()))
TWILIO = HmacSignature(["12345"], header="x-twilio-signature", algorithm="sha_1", scopes=["url", "body", "parameters"])


def a_call(
    signature: str, body: bytes = CALL_FORM, url: str = "https://mycompany.com/myapp.php", **more: Any
) -> WebhookRequest:
    given = {"query": "foo=1&bar=2", "content_type": FORM} | more
    return a_request(body, url=url, x_twilio_signature=signature, **given)


def by_twilio(content: str) -> str:
    return base64.b64encode(hmac.new(b"12345", content.encode(), "sha1").digest()).decode()


def test_the_example_of_twilios_documentation_is_accepted() -> None:
    assert accepts(TWILIO, a_call("RSOYDt4T1cUTdK1PDd93/VVr8B8="))
    assert not accepts(TWILIO, a_call("RSOYDt4T1cUTdK1PDd93/VVr8B8=", CALL_FORM.replace(b"1234", b"1235")))
    assert not accepts(TWILIO, a_call("RSOYDt4T1cUTdK1PDd93/VVr8B8=", query="foo=1&bar=3"))


def test_the_port_may_be_in_the_url_that_twilio_signed_or_not() -> None:
    text = "".join(name + value for name, value in sorted(CALL.items()))
    with_port = by_twilio(f"https://mycompany.com:443/myapp.php?foo=1&bar=2{text}")
    assert accepts(TWILIO, a_call(with_port))
    assert accepts(TWILIO, a_call("RSOYDt4T1cUTdK1PDd93/VVr8B8=", url="https://mycompany.com:8443/myapp.php"))
    assert not accepts(TWILIO, a_call(with_port, url="https://mycompany.org/myapp.php"))


def test_of_a_repeated_field_each_value_is_signed_once() -> None:
    assert accepts(
        TWILIO, a_call(by_twilio("https://mycompany.com/myapp.phpMediaaMediab"), b"Media=b&Media=a&Media=b", query="")
    )


def test_json_is_signed_by_its_digest_in_the_query() -> None:
    body = b'{"property": "value", "boolean": true}'
    digest = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
    assert hashlib.sha256(body).hexdigest() == digest
    query = f"bodySHA256={digest}"
    value = by_twilio(f"https://mycompany.com/myapp.php?{query}")
    assert accepts(TWILIO, a_call(value, body, query=query, content_type="application/json"))
    assert not accepts(TWILIO, a_call(value, body + b" ", query=query, content_type="application/json"))
    assert not accepts(
        TWILIO, a_call(by_twilio("https://mycompany.com/myapp.php"), body, query="", content_type="application/json")
    )


def test_a_get_of_twilio_is_signed_with_its_query() -> None:
    query = "CallSid=CA1&From=%2B14158675309"
    assert accepts(
        TWILIO, a_call(by_twilio(f"https://mycompany.com/myapp.php?{query}"), b"", query=query, method="GET")
    )


# ---- the time of signing ---------------------------------------------------------------------------------------------

TIMED = a_signature("body", "timestamp", timestamp_header="X-Time")


def a_timed(time: str, mark: bytes = b":", body: bytes = BODY, signed_time: str | None = None) -> WebhookRequest:
    content = (signed_time or time).encode() + mark + BODY
    return a_request(body, x_time=time, x_sig=signed(content).hexdigest())


@pytest.mark.parametrize("mark", [b":", b"."])
@pytest.mark.parametrize(
    ("offset", "wanted"), [(0, True), (300, True), (-300, True), (301, False), (-301, False), (10**9, False)]
)
def test_a_signed_time_must_be_near(mark: bytes, offset: int, wanted: bool) -> None:
    assert accepts(TIMED, a_timed(str(int(NOW) + offset), mark)) is wanted


def test_the_time_cannot_be_altered() -> None:
    assert not accepts(TIMED, a_timed(str(int(NOW)), signed_time=str(int(NOW) - 1)))
    assert not accepts(TIMED, a_timed(str(int(NOW)), b""))


@pytest.mark.parametrize(
    "time", ["", " 1700000000", "1700000000.5", "-1700000000", "1e9", "soon", "9" * 13, "１７００００００００"]
)
def test_a_time_must_be_whole_seconds(time: str) -> None:
    assert not accepts(TIMED, a_timed(time))


def test_the_time_alone_goes_with_the_body_and_may_go_with_other_scopes() -> None:
    assert accepts(a_signature("timestamp", timestamp_header="X-Time"), a_timed(str(int(NOW))))
    time = str(int(NOW))
    value = signed(f"{time}:{URL}?a=1".encode()).hexdigest()
    signature = a_signature("timestamp", "url", "parameters", timestamp_header="X-Time")
    assert accepts(signature, a_request(query="a=1", x_time=time, x_sig=value))


def test_a_signed_request_has_a_name_only_where_the_time_is_signed() -> None:
    one, later = a_timed(str(int(NOW))), a_timed(str(int(NOW) + 1))
    assert TIMED.replay_key(one) == TIMED.replay_key(a_timed(str(int(NOW))))
    assert TIMED.replay_key(one) != TIMED.replay_key(later)
    assert a_signature().replay_key(a_request(BODY, x_sig=signed(BODY).hexdigest())) is None


def test_what_is_not_signed_does_not_change_the_name() -> None:
    one = a_timed(str(int(NOW)))
    other = a_request(
        BODY, query="other=1", x_more="x", x_time=one.headers["x-time"], x_sig="v1=" + one.headers["x-sig"].upper()
    )
    assert accepts(TIMED, other)
    assert TIMED.replay_key(one) == TIMED.replay_key(other)


# ---- settings --------------------------------------------------------------------------------------------------------

ENABLED: dict[str, Any] = {
    "shouldValidateHmac": "enabled",
    "hmacSecret": "key",
    "hmacHeader": "X-Sig",
    "hmacAlgorithm": "sha_256",
}


def test_nothing_is_checked_unless_it_is_enabled() -> None:
    assert HmacSettings().hmac_signature() is None
    assert HmacSettings(**ENABLED | {"shouldValidateHmac": "disabled"}).hmac_signature() is None


def test_the_default_scope_is_the_body() -> None:
    for scopes in (None, [], ["body"]):
        signature = HmacSettings(**ENABLED, hmacScopes=scopes).hmac_signature()
        assert signature is not None
        assert accepts(signature, a_request(BODY, X_Sig=signed(BODY).hexdigest()))


def test_all_properties_count() -> None:
    settings = HmacSettings(
        **ENABLED,
        hmacSecretPrevious="old",
        hmacScopes=["timestamp", "body"],
        hmacTimestampHeader="X-Time",
        hmacToleranceSeconds=10,
    )
    signature = settings.hmac_signature()
    assert signature is not None
    assert signature.tolerance == 10
    time = str(int(NOW) - 10)
    request = a_request(BODY, x_time=time, x_sig=signed(time.encode() + b":" + BODY, "old").hexdigest())
    assert (accepts(signature, request), accepts(signature, request, NOW + 1)) == (True, False)
    assert "key" not in repr(settings)
    assert "old" not in repr(settings)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hmacSecret": None}, "hmacSecret"),
        ({"hmacSecret": " "}, "hmacSecret"),
        ({"hmacSecret": None, "hmacSecretPrevious": "old"}, "hmacSecret"),
        ({"hmacHeader": ""}, "hmacHeader"),
        ({"hmacAlgorithm": None}, "hmacAlgorithm"),
        ({"hmacScopes": ["url"]}, "hmacScopes"),
        ({"hmacScopes": ["parameters"]}, "hmacScopes"),
        ({"hmacScopes": ["body", "parameters"]}, "hmacScopes"),
        ({"hmacScopes": ["timestamp", "url"]}, "hmacScopes"),
        ({"hmacScopes": ["timestamp"]}, "hmacTimestampHeader"),
        ({"hmacScopes": ["timestamp"], "hmacTimestampHeader": "x-SIG"}, "hmacTimestampHeader"),
        (
            {"hmacScopes": ["timestamp"], "hmacTimestampHeader": "X-Time", "hmacToleranceSeconds": 0},
            "hmacToleranceSeconds",
        ),
    ],
)
def test_what_cannot_work_is_told_at_activation(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        HmacSettings(**ENABLED | change).hmac_signature()


@given(
    REQUESTS,
    st.sampled_from([("body",), ("url", "body"), ("url", "parameters"), ("url", "body", "parameters"), ("timestamp",)]),
)
def test_whatever_comes_is_accepted_or_refused(request: WebhookRequest, scopes: tuple[str, ...]) -> None:
    assert not accepts(a_signature(*scopes, timestamp_header="x-time"), request)
