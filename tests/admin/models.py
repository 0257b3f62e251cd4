"""What the tests of the endpoints are given."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from gateway.admin import (
    HealthState,
    InboundEntry,
    OutboundEntry,
    Sources,
    actuator_routes,
    application,
    serve,
    status_routes,
)
from gateway.config import Settings, load
from gateway.engine import Broker, Partition, Topology
from gateway.sdk import InboundElement, Point

HTTP = OutboundEntry("HTTP REST", "io.camunda:http-json:1", ("url", "method"), 60000, True, {"permits_in_use": 2.0})
SLACK = OutboundEntry("Slack Outbound", "io.camunda:slack:1", (), None, False)


class Registered:
    def __init__(self, *entries: OutboundEntry) -> None:
        self._entries = entries

    def entries(self) -> tuple[OutboundEntry, ...]:
        return self._entries


class Broken:
    def entries(self) -> tuple[OutboundEntry, ...]:
        raise RuntimeError("the inside of the gateway")


def topology(*healthy: bool) -> Topology:
    brokers = tuple(
        Broker(node, "127.0.0.1", 26501, "8.8.9", (Partition(1, ok, True),)) for node, ok in enumerate(healthy)
    )
    return Topology(len(healthy), 1, 1, "8.8.9", brokers)


def configured(**environ: str) -> Settings:
    return load(environ, (), Path("/nonexistent"))


async def get(client: aiohttp.ClientSession, path: str, **options: Any) -> tuple[int, Any]:
    async with client.get(path, **options) as reply:
        text = await reply.text()
        return reply.status, json.loads(text) if "json" in reply.content_type else text


async def raw(port: int, text: bytes) -> bytes:
    """Sends bytes as they are; the beginning of what comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(text)
        await writer.drain()
        return await asyncio.wait_for(reader.read(65536), 5)
    finally:
        writer.close()


def an_element(element_id: str = "start", **facts: Any) -> InboundElement:
    """A message start event of a webhook."""
    properties = {"inbound.type": "io.camunda:webhook:1", "inbound.context": "orders", "resultVariable": "order"}
    given: dict[str, Any] = {
        "element_id": element_id,
        "element_name": "Order came",
        "kind": "startEvent",
        "point": Point.MESSAGE_START,
        "bpmn_process_id": "orders",
        "process_name": "Orders",
        "version": 3,
        "process_definition_key": 2251799813685251,
        "tenant_id": "<default>",
        "message_name": "order",
        "template_id": "io.camunda.Webhook",
        "template_version": "12",
        "properties": properties,
    }
    return InboundElement(**{**given, **facts})


def an_entry(executable_id: str = "a1", *elements: InboundElement, **facts: Any) -> InboundEntry:
    given: dict[str, Any] = {
        "type": "io.camunda:webhook:1",
        "connector_name": "Webhook",
        "tenant_id": "<default>",
        "physical_tenant_id": "default",
        "health": HealthState("UP", last_updated_at=1_700_000_000.5),
        "activation_timestamp_ms": 1_700_000_000_000,
    }
    return InboundEntry(executable_id, elements=elements or (an_element(),), **{**given, **facts})


class Inbound:
    """Executables, of which commands set the state."""

    def __init__(self, *entries: InboundEntry) -> None:
        self.known = {entry.executable_id: entry for entry in entries}

    def entries(self) -> list[InboundEntry]:
        return list(self.known.values())

    async def reset(self, executable_id: str) -> None:
        self._becomes(executable_id, "activated", not_from={"invalid definition"})

    async def pause(self, executable_id: str) -> None:
        self._becomes(executable_id, "paused", not_from={"paused"})

    async def resume(self, executable_id: str) -> None:
        self._becomes(executable_id, "activated", not_from={"activated"})

    async def cancel(self, executable_id: str) -> None:
        self._becomes(executable_id, "cancelled", not_from=set())

    def _becomes(self, executable_id: str, state: str, *, not_from: set[str]) -> None:
        entry = self.known[executable_id]
        if entry.state in not_from:
            raise ValueError(f"an executable that is '{entry.state}' cannot become '{state}'")
        self.known[executable_id] = replace(entry, state=state)


@asynccontextmanager
async def connected(sources: Sources) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a server with all endpoints over these sources."""
    app = application(actuator_routes(sources, configured()), status_routes(sources))
    async with serve(app, "127.0.0.1", 0) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        yield client
