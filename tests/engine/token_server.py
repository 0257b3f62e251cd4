"""An OAuth authorization server on this machine: gives tokens, or what a test tells it to give."""

import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web


class TokenServer:
    """POST /token gives `token-N` for `lifetime` seconds; `answers` are taken first, one for each request."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, lifetime: float | None = 3600) -> None:
        self.lifetime = lifetime
        self.forms: list[dict[str, str]] = []
        self.answers: list[Callable[[], web.Response]] = []
        self.discoveries = 0
        self.delay: Callable[[], Any] | None = None
        self.port = 0
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}"

    def refuse(self, status: int, times: int = 1, **body: str) -> None:
        """Answers so the next times."""
        self.answers += [lambda: web.json_response(body, status=status)] * times

    async def _token(self, request: web.Request) -> web.Response:
        self.forms.append({name: str(value) for name, value in (await request.post()).items()})
        number = len(self.forms)
        if self.delay is not None:
            await self.delay()
        if self.answers:
            return self.answers.pop(0)()
        answer: dict[str, Any] = {"access_token": f"token-{number}", "token_type": "Bearer"}
        if self.lifetime is not None:
            answer["expires_in"] = self.lifetime
        return web.json_response(answer)

    async def _discovery(self, request: web.Request) -> web.Response:
        self.discoveries += 1
        return web.json_response({"issuer": self.url, "token_endpoint": f"{self.url}/token"})

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/token", self._token)
        app.router.add_get("/realm/.well-known/openid-configuration", self._discovery)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
