"""Requests to check: what is not said is unremarkable."""

import hmac
from urllib.parse import parse_qsl

import pytest
from hypothesis import strategies as st

from gateway.webhooks import WebhookRefused, WebhookRequest

NOW = 1_700_000_000.0
FORM = "application/x-www-form-urlencoded"

HEADERS = st.dictionaries(
    st.sampled_from(
        """authorization content-type x-sig x-time stripe-signature webhook-id webhook-timestamp webhook-signature svix-id
        x-hub-signature-256 x-slack-signature x-slack-request-timestamp x-amz-sns-topic-arn cookie""".split()  # noqa: SIM905
    ),
    st.text(max_size=60)
    | st.sampled_from(
        [
            "1700000000",
            "Basic !",
            "Bearer a.b.c",
            "t=1700000000,v1=00",
            "v1,AA==",
            "sha256=00",
            "v0=00",
            FORM,
            "text/xml; charset=utf-16",
            "multipart/form-data; boundary=b",
            "application/json; charset=ascii",
        ]
    ),
)
BODIES = st.binary(max_size=200) | st.sampled_from(
    [
        b"",
        b"{}",
        b'{"a": "b"}',
        b"[1.50]",
        b"a=1&b=%ff",
        b"--b\r\n\r\n\r\n--b--",
        b'--b\r\nContent-Disposition: form-data; name="x"',
    ]
)


def a_request(
    body: bytes = b"",
    *,
    method: str = "POST",
    url: str = "https://hooks.example/inbound/hook",
    query: str = "",
    **headers: str,
) -> WebhookRequest:
    """Underscores in header names are hyphens."""
    names = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    params = dict(reversed(parse_qsl(query, keep_blank_values=True)))
    params = {
        name: params[name] for name in dict.fromkeys(name for name, _ in parse_qsl(query, keep_blank_values=True))
    }
    return WebhookRequest(method, "/inbound/hook", url, names, params, body, query)


REQUESTS = st.builds(
    WebhookRequest,
    st.sampled_from(["GET", "POST"]),
    st.just("/inbound/hook"),
    st.text(max_size=20) | st.just("https://hooks.example/inbound/hook"),
    HEADERS,
    st.dictionaries(st.text(max_size=5) | st.just("bodySHA256"), st.text(max_size=5), max_size=3),
    BODIES,
    st.text(max_size=20),
)
"""Whatever a sender may think of."""


def signed(content: bytes, key: str = "key", algorithm: str = "sha256") -> hmac.HMAC:
    return hmac.new(key.encode(), content, algorithm)


class Compared:
    """Counts what is compared in constant time; nothing is compared otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        compare = hmac.compare_digest

        def counting(one: bytes, other: bytes) -> bool:
            self.count += 1
            return compare(one, other)

        monkeypatch.setattr(hmac, "compare_digest", counting)


def refused(caught: pytest.ExceptionInfo[WebhookRefused]) -> tuple[int, str]:
    return caught.value.status, caught.value.body["reason"]
