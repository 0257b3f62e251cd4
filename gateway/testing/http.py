"""An HTTP client without a network: answers come from a function, requests are kept."""

import inspect
from collections.abc import AsyncGenerator, Callable
from typing import Any, Self

from gateway import jsontext
from gateway.http_client import Headers, HttpClient, HttpReply, HttpRequest, HttpResponse


class _Answer:
    """What `HttpResponse` is to a connector, from memory."""

    def __init__(self, reply: HttpReply) -> None:
        self.status, self.reason, self.headers = reply.status, reply.reason, reply.headers
        self._reply = reply

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        yield self._reply.content

    async def read(self) -> HttpReply:
        return self._reply

    def close(self) -> None:
        """Nothing is open."""


class FakeHttp(HttpClient):
    """Answers every request from `answer(request)`, and keeps the requests in `requests`.

    The answer is an HttpReply; a pair of status and body; or a body. Bytes and text are sent as they are, anything else as JSON.
    It may be awaitable. Whatever `answer` raises, the connector gets.
    """

    def __init__(self, answer: Callable[[HttpRequest], Any]) -> None:
        super().__init__()
        self._answer = answer
        self.requests: list[HttpRequest] = []

    async def open(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        found = self._answer(request)
        return _Answer(_reply(await found if inspect.isawaitable(found) else found))  # type: ignore[return-value]


def no_network(request: HttpRequest) -> Any:
    """The answer where a test gave none: nobody's test should reach out by accident."""
    raise AssertionError(
        f"the connector calls {request.url.host}: give http=FakeHttp(...), or HttpClient() for the real one"
    )


def _reply(given: Any) -> HttpReply:
    if isinstance(given, HttpReply):
        return given
    status, body = given if isinstance(given, tuple) else (200, given)
    kind = "text/plain; charset=utf-8" if isinstance(body, (str, bytes)) else "application/json"
    content = body if isinstance(body, bytes) else (body if isinstance(body, str) else jsontext.dumps(body)).encode()
    return HttpReply(status, "OK" if status < 400 else "Error", Headers([("Content-Type", kind)]), content)
