"""A webhook connector behind the real HTTP door, on the real executable; what becomes of its events is the test's."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from gateway.admin import application, serve
from gateway.http_client import HttpClient
from gateway.inbound.ingress import Ingress, Paths
from gateway.sdk import InboundConnector, InboundElement, Outcome, Point, ProcessInstanceCreated
from gateway.testing.inbound import InboundRun, an_element, run_inbound


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Hook:
    """The webhook at `/inbound/hook`, and what it gave to the process."""

    run: InboundRun
    client: aiohttp.ClientSession
    url: str

    @property
    def events(self) -> list[Mapping[str, Any]]:
        return [event for event, _ in self.run.events]

    async def __call__(self, body: Any = None, method: str = "POST", query: str = "", **headers: str) -> Reply:
        """A request: bytes as they are, anything else as JSON. Underscores in header names are hyphens."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if not isinstance(body, bytes) and body is not None:
            names.setdefault("Content-Type", "application/json")
        skip = {"Content-Type", "Accept", "User-Agent"}
        async with self.client.request(
            method, self.url + query, data=data, headers=names, skip_auto_headers=skip
        ) as reply:
            return Reply(reply.status, await reply.read(), reply.headers)


def created(element: InboundElement) -> Outcome:
    """An instance was started."""
    return ProcessInstanceCreated(element, 7, "<default>")


@asynccontextmanager
async def receiving(
    connector: InboundConnector,
    properties: Mapping[str, str],
    *,
    outcome: Callable[[InboundElement], Outcome] = created,
    secrets: Mapping[str, str] | None = None,
    http: HttpClient | None = None,
    delay: float = 0.0,
) -> AsyncIterator[Hook]:
    """outcome: what becomes of each event, for the connector's element."""
    given = {"inbound.type": connector.type, "inbound.context": "hook", **properties}
    element = an_element(given, point=Point.START)
    async with run_inbound(
        connector,
        given,
        answer=lambda event, message_id: outcome(element),
        secrets=secrets,
        http=http,
        element=element,
        delay=delay,
    ) as run:
        await run.until(lambda: run.state.value in {"activated", "failed to activate"}, "an activation")
        if run.state.value != "activated":
            raise AssertionError(f"not activated: {run.health.error_message}")
        paths = Paths()
        ingress = Ingress(paths)
        paths.register(run.executable)
        async with serve(application(ingress.routes()), "127.0.0.1", 0) as port, aiohttp.ClientSession() as client:
            yield Hook(run, client, f"http://127.0.0.1:{port}/inbound/hook")
