"""Canary: secrets are marked, and every byte that leaves the gateway is looked at.

The exits: what the process prints, its sockets to the engine (gRPC and REST), to the targets, and the answers of its endpoints. Each
secret is looked for as it is, JSON- and URL-escaped, and in base64 at every alignment.
"""

import asyncio
import base64
import json
import urllib.parse
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway.engine import Engine, Resource
from gateway.engine.cluster import connect
from gateway.engine.settings import ConnectionSettings
from tests.faults.running import Gateway
from tests.flow.models import process
from tests.real.processes import EngineProcess

SECRETS = {
    "TOKEN": "canary-token-8f2a61c4",
    "QUOTED": 'canary "quoted" \\ 7d1e\nsecond line é',
    "PASSWORD": "canary-pass/word+9b3d=77",
    "CLIENT": "canary-client&secret?5c2f",
}


def spellings(secret: str) -> set[bytes]:
    """Every form in which a secret could leave."""
    data = secret.encode()
    found = {data, json.dumps(secret)[1:-1].encode(), json.dumps(secret, ensure_ascii=False)[1:-1].encode()}
    found |= {urllib.parse.quote(secret).encode(), urllib.parse.quote(secret, safe="").encode()}
    found.add(urllib.parse.quote_plus(secret).encode())
    for before in range(3):
        for after in range(3):
            text = base64.b64encode(b"x" * before + data + b"y" * after)
            inner = text[4 if before else 0 : len(text) - (4 if after else 0)]
            found |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return {form for form in found if len(form) >= 8}


class Recorder:
    """A relay to a port that keeps what goes to it."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.sent = bytearray()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, keep: bytearray | None) -> None:
            try:
                while data := await source.read(65536):
                    if keep is not None:
                        keep += data
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            finally:
                sink.close()

        await asyncio.gather(pump(reader, up_writer, self.sent), pump(up_reader, writer, None))


@asynccontextmanager
async def recorded(port: int) -> AsyncIterator[tuple[Recorder, int]]:
    recorder = Recorder(port)
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0)
    try:
        yield recorder, server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Target:
    """Answers by path; what it gets is kept by path. `/echo` sends back all it got, in many spellings."""

    def __init__(self) -> None:
        self.got: dict[str, bytearray] = {}
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        head = f"{request.method} {request.raw_path}\r\n".encode()
        head += b"".join(name + b": " + value + b"\r\n" for name, value in request.raw_headers)
        path = "/" + request.path.split("/")[1]
        self.got.setdefault(path, bytearray()).extend(head + b"\r\n" + body)
        if path == "/token":
            return web.json_response({"access_token": "issued-token", "expires_in": 300})
        if path == "/slow":
            await asyncio.sleep(5)
        if path != "/echo":
            return web.json_response({"ok": True})
        seen = (head + body).decode("utf-8", "replace")
        values = [value.decode("utf-8", "replace") for _, value in request.raw_headers] + [body.decode()]
        echo = {
            "seen": seen,
            "base64": [base64.b64encode(v.encode()).decode() for v in values],
            "shifted": [base64.b64encode(b"ab" + v.encode()).decode() for v in values],
            "quoted": [urllib.parse.quote(v, safe="") for v in values],
            **dict.fromkeys(values, 1),
        }
        return web.json_response(echo, status=400, reason="Bad Request")


@asynccontextmanager
async def serving(target: Target) -> AsyncIterator[None]:
    runner = web.ServerRunner(web.Server(target.handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    target.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield
    finally:
        await runner.cleanup()


def flows(url: str) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Inputs and headers by name: what could carry a secret out."""
    get = {"authentication.type": "noAuth", "method": "GET"}
    keys = {"headers.X-Key": "{{secrets.TOKEN}}", "headers.X-Quoted": "{{secrets.QUOTED}}"}
    carried = "error.message + string(error.variables) + string(error)"
    return {
        "success": ({**get, **keys, "url": f"{url}/ok"}, {"resultExpression": "={done: body.ok}"}),
        "plain": ({**get, "url": f"{url}/plain"}, {}),
        "input error": ({**get, "url": "ftp://{{secrets.TOKEN}}"}, {}),
        "wrong kind": ({**get, "url": f"{url}/ok", "headers": "{{secrets.TOKEN}}"}, {}),
        "bad header": ({**get, "url": f"{url}/ok", "headers": '={"X {{secrets.TOKEN}}": "{{secrets.TOKEN}}"}'}, {}),
        "bad url": ({**get, "url": f"{url}/a b?k={{{{secrets.TOKEN}}}}", "skipEncoding": "true"}, {}),
        "echo": ({**get, **keys, "method": "POST", "url": f"{url}/echo", "body.k": "{{secrets.QUOTED}}"}, {}),
        "basic": (
            {
                "authentication.type": "basic",
                "authentication.username": "user",
                "authentication.password": "{{secrets.PASSWORD}}",
                "method": "GET",
                "url": f"{url}/echo",
            },
            {},
        ),
        "oauth": (
            {
                "authentication.type": "oauth-client-credentials-flow",
                "authentication.oauthTokenEndpoint": f"{url}/token",
                "authentication.clientId": "id",
                "authentication.clientSecret": "{{secrets.CLIENT}}",
                "authentication.clientAuthentication": "credentialsBody",
                "method": "GET",
                "url": f"{url}/plain",
            },
            {},
        ),
        "oauth refused": (
            {
                "authentication.type": "oauth-client-credentials-flow",
                "authentication.oauthTokenEndpoint": f"{url}/echo",
                "authentication.clientId": "id",
                "authentication.clientSecret": "{{secrets.CLIENT}}",
                "authentication.clientAuthentication": "basicAuthHeader",
                "method": "GET",
                "url": f"{url}/plain",
            },
            {},
        ),
        "job error": (
            {**get, **keys, "url": f"{url}/echo"},
            {"errorExpression": f"=jobError({carried}, {{v: error}})"},
        ),
        "bpmn error": (
            {**get, **keys, "url": f"{url}/echo"},
            {"errorExpression": f'=bpmnError("CODE", {carried}, {{v: error}})'},
        ),
        "failing expression": ({**get, **keys, "url": f"{url}/echo"}, {"errorExpression": "=jobError(error)"}),
        "timeout": ({**get, "url": f"{url}/slow?k={{{{secrets.TOKEN}}}}", "readTimeoutInSeconds": "1"}, {}),
        "refused": ({**get, "url": "http://127.0.0.1:1/?k={{secrets.TOKEN}}"}, {}),
        "missing": ({**get, **keys, "url": f"{url}/ok", "headers.X-No": "{{secrets.MISSING}}"}, {}),
    }


async def settled(engine: Engine, key: int) -> str:
    """Waits until an instance has ended or stands at an incident."""
    for _ in range(600):
        incidents = await engine.search("incidents", filter={"processInstanceKey": str(key)})
        if incidents.items:
            return str(incidents.items[0]["errorMessage"])
        found = await engine.search("process-instances", filter={"processInstanceKey": str(key)})
        if found.items and found.items[0]["state"] != "ACTIVE":
            return "ended"
        await asyncio.sleep(0.05)
    raise AssertionError("the instance neither ended nor failed")


async def run_flows(engine: Engine, url: str) -> dict[str, str]:
    keys = {}
    for name, (inputs, headers) in flows(url).items():
        ident = f"canary-{uuid.uuid4().hex[:10]}"
        xml = process(ident, inputs, headers, retries=1, catch="CODE")
        await engine.deploy([Resource(f"{ident}.bpmn", xml.encode())])
        keys[name] = (await engine.create_process_instance(bpmn_process_id=ident)).process_instance_key
    return {name: await settled(engine, key) for name, key in keys.items()}


async def answers(port: int) -> dict[str, bytes]:
    """What the endpoints say, by path."""
    paths = (
        *("/actuator", "/actuator/health", "/actuator/prometheus", "/actuator/metrics", "/actuator/loggers"),
        *("/outbound", "/outbound/metrics", "/outbound/io.camunda:http-json:1"),
    )
    found = {}
    async with aiohttp.ClientSession() as session:
        for path in paths:
            async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                found[path] = await answer.read()
    return found


@pytest.mark.real
async def test_no_secret_leaves_by_any_exit(test_engine: EngineProcess, tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    target = Target()
    engine = await connect(
        ConnectionSettings(grpc_address=test_engine.grpc_address, rest_address=test_engine.rest_address)
    )
    async with (
        recorded(test_engine.grpc_port) as (grpc, grpc_port),
        recorded(test_engine.http_port) as (rest, rest_port),
        serving(target),
    ):
        gateway = Gateway(
            log,
            CAMUNDA_CLIENT_GRPCADDRESS=f"http://127.0.0.1:{grpc_port}",
            CAMUNDA_CLIENT_RESTADDRESS=f"http://127.0.0.1:{rest_port}",
            GATEWAY_LOG_LEVEL="trace",
            **{f"SECRET_{name}": value for name, value in SECRETS.items()},
        )
        await gateway.start()
        try:
            ends = await run_flows(engine, target.url)
            said = await answers(gateway.port)
        finally:
            code = await gateway.stop()
    await engine.close()

    assert code == 0
    assert {name for name, end in ends.items() if end == "ended"} == {"success", "plain", "oauth", "bpmn error"}
    assert "Secret with name 'MISSING' is not available" in ends["missing"]
    assert "***" in ends["echo"]
    assert "***" in ends["job error"]
    exits = {
        "output": log.read_bytes(),
        "engine, gRPC": bytes(grpc.sent),
        "engine, REST": bytes(rest.sent),
        "target /plain": bytes(target.got["/plain"]),
        **said,
    }
    assert all(exits.values()), [name for name, data in exits.items() if not data]
    leaks = [
        (name, exit_, form)
        for name, secret in SECRETS.items()
        for form in spellings(secret)
        for exit_, data in exits.items()
        if form in data
    ]
    assert leaks == []
    # The canaries sing: where secrets are meant to go, they were seen.
    assert SECRETS["TOKEN"].encode() in target.got["/ok"]
    assert base64.b64encode(f"user:{SECRETS['PASSWORD']}".encode()) in target.got["/echo"]
    assert urllib.parse.quote_plus(SECRETS["CLIENT"]).encode() in target.got["/token"]
