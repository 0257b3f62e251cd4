"""The client without a network: answers from a function, requests kept."""

from typing import Any

import pytest

from gateway.http_client import Headers, HttpReply, HttpRequest, HttpStatusError, HttpTimeout
from gateway.testing import FakeHttp


@pytest.mark.parametrize(
    ("answer", "status", "content", "kind"),
    [
        ({"a": 1}, 200, b'{"a":1}', "application/json"),
        ([1, None], 200, b"[1,null]", "application/json"),
        (None, 200, b"null", "application/json"),
        ("text", 200, b"text", "text/plain; charset=utf-8"),
        (b"\x00", 200, b"\x00", "text/plain; charset=utf-8"),
        ((404, {"why": "x"}), 404, b'{"why":"x"}', "application/json"),
        (HttpReply(201, "Made", Headers([("Content-Type", "a/b")]), b"x"), 201, b"x", "a/b"),
    ],
)
async def test_an_answer_is_a_body_a_status_with_one_or_a_whole_reply(
    answer: Any, status: int, content: bytes, kind: str
) -> None:
    reply = await FakeHttp(lambda _: answer).get("http://x.example/")
    assert (reply.status, reply.content, reply.headers["content-type"]) == (status, content, kind)


async def test_requests_are_kept_as_they_would_go_out() -> None:
    http = FakeHttp(lambda request: {"path": request.url.target})
    reply = await http.post("http://x.example/a b", params={"q": "1 2"}, json={"a": 1}, headers={"X": "y"})
    assert reply.json() == {"path": "/a%20b?q=1%202"}
    (request,) = http.requests
    assert (request.method, request.body, request.headers) == ("POST", b'{"a":1}', (("X", "y"),))


async def test_the_answer_may_be_awaitable_and_may_raise() -> None:
    async def late(request: HttpRequest) -> Any:
        return (201, "late")

    def fails(request: HttpRequest) -> Any:
        raise HttpTimeout

    assert (await FakeHttp(late).get("http://x.example/")).status == 201
    with pytest.raises(HttpTimeout):
        await FakeHttp(fails).get("http://x.example/")


async def test_streams_and_downloads_work_too() -> None:
    http = FakeHttp(lambda request: (404, "no") if request.url.target == "/missing" else b"content")
    async with http.stream("GET", "http://x.example/there") as response:
        assert [chunk async for chunk in response.stream()] == [b"content"]
    with pytest.raises(HttpStatusError) as caught:
        async with http.download("http://x.example/missing"):
            pytest.fail("an error status has no content")
    assert caught.value.code == "404"
