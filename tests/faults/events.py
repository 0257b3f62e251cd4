"""Events from outside: processes that wait for them, senders of webhooks, and what the engine says became of them."""

import asyncio
import json
import tempfile
import urllib.request
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from gateway.engine import Resource
from tests.faults.rig import Gateway, client, until
from tests.inbound.models import element, end, inbound, message, on_message, process
from tests.proxy import FaultProxy
from tests.real.processes import EngineProcess

WEBHOOK = "io.camunda:webhook:1"
NUMBERED = {"resultExpression": "={n: request.body.n}"}
QUICK = {"CAMUNDA_CONNECTOR_POLLING_INTERVAL": "200", "CAMUNDA_CONNECTOR_SECRETPROVIDER_ENVIRONMENT_PREFIX": "SECRET_"}


def hook(path: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The properties of a webhook whose instances get variable `n` of the body."""
    fixed = {"inbound.type": WEBHOOK, "inbound.context": path, "inbound.method": "any", "inbound.auth.type": "NONE"}
    return {**fixed, **NUMBERED, **(more or {})}


def starting(process_id: str, properties: Mapping[str, str], *, by_message: bool = False) -> str:
    """A process that events start; by_message: with a message, so that the engine knows an event by its id."""
    inner = on_message("m") if by_message else ""
    return process(
        inbound("startEvent", "start", inner, properties),
        end(),
        flows="start e",
        top=message("m", f"{process_id}-m") if by_message else "",
        id_=process_id,
    )


def waiting(process_id: str, properties: Mapping[str, str]) -> str:
    """A process that is started by hand and waits for an event at `wait`."""
    return process(
        element("startEvent", "start"),
        inbound("intermediateCatchEvent", "wait", on_message("m"), properties),
        end(),
        flows="start wait e",
        top=message("m", f"{process_id}-m", "=id"),
        id_=process_id,
    )


async def deploy(engine: EngineProcess, *models: str) -> None:
    async with client(engine) as port:
        for model in models:
            await port.deploy([Resource(f"{uuid.uuid4().hex}.bpmn", model.encode())])


async def records(engine: EngineProcess, kind: str) -> list[dict[str, Any]]:
    """All that an engine has of a kind: `process_instance`, `variable`, `message`."""

    def ask() -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{engine.rest_address}/engine/{kind}", timeout=30) as answer:
            return [record["value"] for record in json.load(answer)]

    return await asyncio.to_thread(ask)


async def numbers(engine: EngineProcess, process_id: str) -> "Counter[int]":
    """The `n` of each instance of a process, with how often it came; an instance without one counts as -1."""
    found = await records(engine, "process_instance")
    keys = {
        each["processInstanceKey"]
        for each in found
        if each["bpmnProcessId"] == process_id and each["bpmnElementType"] == "PROCESS"
    }
    named = {
        each["processInstanceKey"]: int(each["value"])
        for each in await records(engine, "variable")
        if each["name"] == "n" and each["processInstanceKey"] in keys
    }
    return Counter(named.get(key, -1) for key in keys)


@dataclass(frozen=True)
class Answer:
    """What a sender got; status 0: no answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""


class Sender:
    """Posts to the webhooks of a gateway, each request over a connection of its own."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self.session = session
        self.port = port

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return await self.ask("POST", f"/inbound/{path}", body, headers)

    async def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """A request with JSON, or with bytes as they are."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {} if isinstance(body, bytes) or body is None else {"Content-Type": "application/json"}
        address = f"http://127.0.0.1:{self.port}{path}"
        try:
            async with self.session.request(method, address, data=raw, headers={**kind, **(headers or {})}) as got:
                return Answer(got.status, dict(got.headers), (await got.read()).decode("utf-8", "replace"))
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return Answer(0)

    async def each(self, path: str, ns: range) -> list[Answer]:
        """One request for each number, all at once."""
        return await asyncio.gather(*(self.post(path, {"n": n}) for n in ns))


@asynccontextmanager
async def sender(gateway: Gateway) -> AsyncIterator[Sender]:
    limits = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=limits, timeout=aiohttp.ClientTimeout(20)) as session:
        yield Sender(session, gateway.port)


@asynccontextmanager
async def events_at_work(
    engine: EngineProcess,
    *,
    settings: Mapping[str, str] | None = None,
    proxy: FaultProxy | None = None,
    rest: FaultProxy | None = None,
    connectors: Path | None = None,
) -> AsyncIterator[tuple[Gateway, Sender]]:
    """A gateway that is ready, and who sends to it. proxy, rest: what stands before the engine's two ports."""
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(
            engine,
            f"events-{uuid.uuid4().hex[:12]}",
            Path(folder),
            grpc_port=proxy.port if proxy else None,
            rest_port=rest.port if rest else None,
            settings={**QUICK, **(settings or {})},
            **({"connectors": connectors} if connectors else {}),
        )
        async with sender(gateway) as posts:
            try:
                await gateway.start()
                yield gateway, posts
            finally:
                await gateway.kill()


async def executables(gateway: Gateway) -> dict[str, dict[str, Any]]:
    """What the status API says of each process: the executable of its first element."""
    found = json.loads(await gateway.get("/inbound") or b"[]")
    return {each["elements"][0]["bpmnProcessId"]: each for each in found}


async def served(gateway: Gateway, posts: Sender, *paths: str, seconds: float = 10.0) -> float:
    """Waits until each path is some webhook's, by a method that starts nothing; the seconds it took."""

    async def all_there() -> bool:
        answers = [await posts.ask("OPTIONS", f"/inbound/{path}") for path in paths]
        return all(answer.status == 200 for answer in answers)

    return await until(all_there, seconds)
