"""An HTTP server that answers as a test tells it to, and remembers what it was asked."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    raw_path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RestStub:
    """Answers 204 to all, but for the answers told, which are taken in turn."""

    def __init__(self, tls: SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.port = 0
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}"

    def answer(self, status: int, body: Any = b"", *, times: int = 1, headers: dict[str, str] | None = None) -> None:
        """The next answers: bytes and text as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()

        async def respond(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=data, headers=headers)

        self.answers += [respond] * times

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(
            Request(request.method, request.path, request.raw_path, dict(request.headers), body),
        )
        if self.answers:
            return await self.answers.pop(0)(request)
        return web.Response(status=204)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
