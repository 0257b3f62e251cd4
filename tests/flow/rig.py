"""The gateway over an engine, in this process, and a target for its calls."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from gateway.app import Runtime, running
from gateway.config import load
from gateway.engine import Engine
from gateway.observe import Metrics
from gateway.registry import Registered, RegisteredInbound
from gateway.sdk import InboundConnector, OutboundConnector
from gateway.secrets import MapSecrets, Masker, SecretProvider

SECRETS = {"TOKEN": "s3cr3t-of-the-flow", "QUOTED": 'a "quoted"\nline'}


@asynccontextmanager
async def gateway(
    engine: Engine,
    *connectors: OutboundConnector | InboundConnector,
    secrets: SecretProvider | None = None,
    **environment: str,
) -> AsyncIterator[Runtime]:
    """The gateway over an engine with these connectors; inbound ones are looked for all the time."""
    given = {"SERVER_PORT": "0", "GATEWAY_SHUTDOWN_GRACE": "2s", "CAMUNDA_CONNECTOR_POLLING_INTERVAL": "100"}
    settings = load({**given, **environment}, directory=Path("/nowhere"))
    async with running(
        settings,
        engine,
        [Registered(c, True, None) for c in connectors if isinstance(c, OutboundConnector)],
        [RegisteredInbound(c, True) for c in connectors if isinstance(c, InboundConnector)],
        masker=Masker(),
        metrics=Metrics(),
        providers=[secrets or MapSecrets(SECRETS)],
        host="127.0.0.1",
    ) as runtime:
        yield runtime


class Target:
    """What the jobs call: answers by path, keeps the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, list[web.Response]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = b"".join([chunk async for chunk in request.content.iter_any()])
        self.requests.append((request.method, request.raw_path, dict(request.headers), body))
        answers = self.answers.get(request.path, [])
        return answers.pop(0) if answers else web.json_response({"ok": True, "path": request.path})
