"""A request: what stands in it is read once, and only when it is asked for."""

import time

import pytest

from gateway import webhooks
from gateway.webhooks import WebhookRefused, request
from tests.webhooks.requests import a_request


def test_the_content_type_is_without_parameters() -> None:
    assert a_request(content_type="Text/HTML ; charset=utf-8").content_type == "text/html"
    assert not a_request().content_type


def test_a_body_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []
    monkeypatch.setattr(request, "read_body", lambda content_type, raw: calls.append(raw))
    asked = a_request(b"null")
    assert not calls
    assert (asked.body, asked.body) == (None, None)
    assert calls == [b"null"]


def test_a_body_that_cannot_be_read_is_refused_each_time() -> None:
    asked = a_request(b"{", content_type="application/json")
    for _ in range(2):
        with pytest.raises(WebhookRefused):
            asked.body  # noqa: B018


def test_parts_are_read_once() -> None:
    raw = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--B--'
    asked = a_request(raw, content_type="multipart/form-data; boundary=B")
    assert asked.parts is asked.parts
    assert [part.name for part in asked.parts] == ["a"]
    assert asked.body == {}


def test_requests_are_equal_whether_their_bodies_were_read_or_not() -> None:
    one, other = a_request(b"1"), a_request(b"1")
    assert one.body == 1
    assert one == other
    assert "_body" not in repr(one)


def test_every_public_name_can_be_had() -> None:
    assert set(webhooks.__all__) <= set(dir(webhooks))
    assert all(getattr(webhooks, name) is not None for name in webhooks.__all__)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        webhooks.nothing_like_it  # noqa: B018


# ---- large bodies --------------------------------------------------------------------------------------------------------


async def test_a_large_body_is_read_away_from_the_event_loop() -> None:
    asked = a_request(b"[" + b"1.50," * 100_000 + b"1]", content_type="application/json")
    await asked.prepared()
    began = time.perf_counter()
    assert len(asked.body) == 100_001
    assert time.perf_counter() - began < 0.005


@pytest.mark.parametrize("size", [10, 400_000])
async def test_what_is_wrong_with_a_body_shows_where_it_is_used_and_is_found_once(size: int) -> None:
    asked = a_request(b"[" * size, content_type="application/json")
    await asked.prepared()
    with pytest.raises(WebhookRefused) as first:
        _ = asked.body
    with pytest.raises(WebhookRefused) as second:
        _ = asked.body
    assert first.value is second.value
    assert first.value.status == 400
