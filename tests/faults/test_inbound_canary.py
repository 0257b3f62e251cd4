"""Secrets of the event flow never leave but to the targets they are for: answers, status API, metrics, log, engine."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import textwrap
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests.faults.events import QUICK, Answer, Sender, deploy, hook, sender, starting, waiting
from tests.faults.recorder import Recorder
from tests.faults.rig import Gateway, client, until
from tests.faults.test_canary import spellings
from tests.http_client.servers import Received, Reply, Stub, running
from tests.real.processes import EngineProcess, running_engine

pytestmark = pytest.mark.real

SECRETS = {
    "TOKEN": "canary-token-9c41e2/+=?&%",
    "PASSWORD": 'canary-"quoted"\nsecond line\t\\back\u00e9\u20ac',
    "HMAC": "canary-hmac-5d01f7",
    "KAFKA": "canary-kafka-b7720c",
    "QUEUE": "canary-queue-33a9de",
    "POLL": "canary-poll-e1f604",
    "SOURCE": "canary-source-0b8d55/&=",
}
IN_VAULT = ("HMAC", "QUEUE", "SOURCE")
"""Those that only a provider knows: the gateway has to learn them by using them."""

SOURCES = Path(__file__).with_name("sources.py")
TOKEN, PASSWORD = "{{secrets.TOKEN}}", "{{secrets.PASSWORD}}"

_VAULT = """
import json, pathlib

SECRETS = json.loads((pathlib.Path(__file__).parent / "vault.json").read_text())

class Vault:
    async def get_secret(self, name, context):
        if name == "BROKEN":
            raise RuntimeError("the vault is sealed: " + SECRETS["HMAC"])
        return SECRETS.get(name)
"""


@pytest.fixture(scope="module")
def engine(engine_run: Path) -> Iterator[EngineProcess]:
    with running_engine() as process:
        yield process


def found_in(data: bytes) -> list[str]:
    return [name for name, value in SECRETS.items() if any(form in data for form in spellings(value))]


@dataclass(frozen=True)
class Flow:
    """One process. says: what its health has to say, None for UP; sends: body and headers, with the status they get."""

    properties: dict[str, str]
    says: str | None = None
    sends: list[tuple[Any, dict[str, str], int]] = field(default_factory=list)
    waits: bool = False


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _webhooks() -> dict[str, Flow]:
    body = {"n": 1, "note": SECRETS["TOKEN"], "deep": [SECRETS["HMAC"]]}
    raw = json.dumps(body).encode()
    good = {"X-Sig": hmac.new(SECRETS["HMAC"].encode(), raw, hashlib.sha256).hexdigest()}
    basic = {"inbound.auth.type": "BASIC", "inbound.auth.username": "user", "inbound.auth.password": PASSWORD}
    key = {"inbound.auth.type": "APIKEY", "inbound.auth.apiKey": TOKEN}
    key["inbound.auth.apiKeyLocator"] = '=get value(request.headers, "x-own-header")'
    signed = {"inbound.shouldValidateHmac": "enabled", "inbound.hmacSecret": "{{secrets.HMAC}}"}
    signed |= {"inbound.hmacHeader": "X-Sig", "inbound.hmacAlgorithm": "sha_256"}
    jwt = {"inbound.auth.type": "JWT", "inbound.auth.jwt.jwkUrl": "http://127.0.0.1:9/keys?key=" + TOKEN}

    expression = "inbound.verificationExpression"

    def verified(text: str, status: int) -> Flow:
        return Flow({expression: text}, sends=[(body, {}, status)])

    def answered(text: str, status: int) -> Flow:
        return Flow({"inbound.responseExpression": text}, sends=[(body, {}, status)])

    return {
        "basic": Flow(
            basic,
            sends=[
                (body, _basic("user", SECRETS["PASSWORD"]), 200),
                (body, _basic("user", SECRETS["PASSWORD"] + "x"), 401),
                (body, _basic(SECRETS["PASSWORD"], "user"), 401),
                (body, {"Authorization": quote_plus(SECRETS["PASSWORD"])}, 401),
            ],
        ),
        "key": Flow(
            key,
            sends=[
                (body, {"X-Own-Header": SECRETS["TOKEN"]}, 200),
                (body, {"X-Own-Header": SECRETS["TOKEN"] + "x"}, 401),
                (b"{" + raw, {"X-Own-Header": SECRETS["TOKEN"], "Content-Type": "application/json"}, 400),
            ],
        ),
        "signed": Flow(
            signed,
            sends=[
                (raw, good | {"Content-Type": "application/json"}, 200),
                (raw, {"X-Sig": SECRETS["HMAC"]}, 401),
                (raw, {"X-Other": SECRETS["HMAC"]}, 401),
            ],
        ),
        "slack": Flow(
            {"inbound.type": "io.camunda:slack-webhook:1", "inbound.slackSigningSecret": "{{secrets.HMAC}}"},
            sends=[(raw, {"X-Slack-Signature": SECRETS["HMAC"], "X-Slack-Request-Timestamp": "1"}, 401)],
        ),
        "jwt": Flow(jwt, sends=[(body, {"Authorization": "Bearer a.b.c"}, 401)]),
        "verify-cut": Flow({expression: f'=if "{TOKEN}" then ('}, expression),
        "verify-quotes": Flow({expression: f'=if request.body.n = "{PASSWORD}" then null else null'}, expression),
        "verify-kind": verified(f'={{statusCode: "{TOKEN}", body: 1}}', 500),
        "verify-header": verified(f'={{headers: {{"a b": "{TOKEN}"}}, body: 1}}', 500),
        "verify-text": verified(f'="{TOKEN}"', 500),
        "verify-call": verified(f'=nosuchfunction("{TOKEN}")', 200),
        "answer-cut": answered(f'=if "{TOKEN}" then (', 422),
        "answer-kind": answered(f'={{statusCode: "{TOKEN}"}}', 500),
        "answer-told": answered(f'={{statusCode: 400, body: {{got: "{TOKEN}", all: request.body}}}}', 400),
        "condition": Flow({"activationCondition": f'=request.body.n = "{TOKEN}" and ('}, sends=[(body, {}, 422)]),
        "result": Flow({"resultExpression": f'={{n: number("{TOKEN}").x.y + ('}, sends=[(body, {}, 500)]),
        "schema": Flow({"inbound.bodySchema": f'={{"type": "{TOKEN}"}}'}, "bodySchema"),
        "schema-unmet": Flow(
            {"inbound.bodySchema": f'={{"properties": {{"n": {{"enum": ["{TOKEN}"]}}}}}}'}, sends=[(body, {}, 422)]
        ),
        "auth-type": Flow({"inbound.auth.type": TOKEN}, "inbound.auth"),
        "number": Flow(signed | {"inbound.hmacToleranceSeconds": TOKEN}, "hmacToleranceSeconds"),
        "duration": Flow({"inbound.idempotencyTtl": PASSWORD}, "idempotencyTtl"),
        "missing": Flow(signed | {"inbound.hmacSecret": "{{secrets.NOWHERE}}" + TOKEN}, "NOWHERE"),
        "sealed": Flow(signed | {"inbound.hmacSecret": "{{secrets.BROKEN}}"}, ""),
        **{
            f"webhook-{do}": Flow(
                {"inbound.type": "fault:leaky-webhook", "do": do, "secret": "{{secrets.SOURCE}}"},
                sends=[(body, {}, status)],
            )
            for do, status in {
                "raise": 422,
                "chain": 500,
                "health": 409,
                "details": 400,
                "log": 502,
                "exit": 502,
            }.items()
        },
    }


def _sources(target: str) -> dict[str, Flow]:
    kafka = {"inbound.type": "io.camunda:connector-kafka-inbound:1", "topic.topicName": "t"}
    kafka |= {"topic.bootstrapServers": "127.0.0.1:9", "autoOffsetReset": "latest"}
    kafka |= {"authentication.username": "user", "authentication.password": "{{secrets.KAFKA}}"}
    jaas = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="{{secrets.KAFKA}}";'
    plain = json.dumps({"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.jaas.config": jaas})
    rabbit = {
        "inbound.type": "io.camunda:connector-rabbitmq-inbound:1",
        "queueName": "q",
        "authentication.authType": "uri",
    }
    polling = {
        "inbound.type": "io.camunda:http-polling:1",
        "method": "GET",
        "authentication.type": "bearer",
        "authentication.token": "{{secrets.POLL}}",
        "headers": '={"X-Key": "{{secrets.POLL}}"}',
        "httpRequestInterval": "PT0.3S",
        "processPollingInterval": "PT0.3S",
        "correlationKeyExpression": "=body.id",
    }

    def polls(path: str, **more: str) -> Flow:
        return Flow(polling | {"url": f"{target}{path}"} | more, waits=True)

    def leaks(do: str, says: str | None) -> Flow:
        return Flow({"inbound.type": "fault:leaky", "do": do, "secret": "{{secrets.SOURCE}}"}, says)

    return {
        "kafka-away": Flow(kafka, "127.0.0.1:9"),
        "kafka-jaas": Flow(kafka | {"additionalProperties": f"={plain}"}, ""),
        "kafka-number": Flow(
            kafka | {"additionalProperties": '={"session.timeout.ms": "{{secrets.KAFKA}}"}'}, "timeout"
        ),
        "kafka-server": Flow(kafka | {"topic.bootstrapServers": "{{secrets.KAFKA}}:1"}, ""),
        "kafka-offsets": Flow(kafka | {"offsets": "{{secrets.KAFKA}}"}, "offsets"),
        "rabbit-away": Flow(rabbit | {"authentication.uri": "amqp://u:{{secrets.QUEUE}}@127.0.0.1:9/v"}, ""),
        "rabbit-uri": Flow(rabbit | {"authentication.uri": "http://u:{{secrets.QUEUE}}@host"}, "uri"),
        "poll-ok": polls("/ok"),
        "poll-echo": polls("/echo"),
        "poll-refused": polls("/refused", resultExpression="={"),
        "poll-result": polls("/ok", resultExpression='={n: "{{secrets.POLL}}" + ('),
        "poll-away": polls("", url="http://127.0.0.1:9/?key={{secrets.POLL}}"),
        "poll-url": polls("", url="ftp://{{secrets.POLL}}/"),
        "poll-header": polls("/ok", headers='={"X {{secrets.POLL}}": "{{secrets.POLL}}"}'),
        "poll-time": polls("/ok", readTimeoutInSeconds="{{secrets.POLL}}"),
        "leaky-raise": leaks("raise", "refused ***"),
        "leaky-chain": leaks("chain", "cannot use"),
        "leaky-health": leaks("health", "refused ***"),
        "leaky-details": leaks("details", None),
        "leaky-exit": leaks("exit", "TypeError"),
        "leaky-answer": Flow(leaks("answer", None).properties | {"resultExpression": "={n: n}.x.("}),
        "leaky-log": leaks("log", "unknown"),
        "numbers": Flow({"inbound.type": "fault:numbers", "do": "{{secrets.SOURCE}}", "secret": "s"}, "do"),
    }


def _vault(folder: Path) -> None:
    """An installed secret provider, as its metadata on the path says."""
    (folder / "inbound_vault.py").write_text(textwrap.dedent(_VAULT))
    (folder / "vault.json").write_text(json.dumps({name: SECRETS[name] for name in IN_VAULT}))
    metadata = folder / "inbound_vault-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: inbound-vault\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[connector_gateway.secret_providers]\nvault = inbound_vault:Vault\n")


def _target(request: Received) -> Reply:
    """What is polled: gives all back that it got, in the body, a header and the reason, as an error."""
    told = request.head.decode("latin-1")
    if request.target.startswith("/ok"):
        return Reply(body={"id": "1", "fine": True})
    if request.target.startswith("/refused"):
        return Reply(403, {"got": told}, reason=f"no {SECRETS['POLL']} here")
    return Reply(400, {"got": told, "base64": base64.b64encode(told.encode()).decode()}, [("X-Got", SECRETS["POLL"])])


async def _deployed(engine: EngineProcess, flows: dict[str, Flow]) -> None:
    models = []
    for name, flow in flows.items():
        properties = hook(name, {"deduplicationModeManualFlag": "false"} | flow.properties)
        models.append((waiting if flow.waits else starting)(name, properties))
    await deploy(engine, *models)
    async with client(engine) as port:
        for name, flow in flows.items():
            if flow.waits:
                await port.create_process_instance(bpmn_process_id=name, variables='{"id": "1"}')


async def _settled(gateway: Gateway, flows: dict[str, Flow]) -> dict[str, dict[str, Any]]:
    """The executables when each fares as it has to; the rest of the test would prove nothing otherwise."""
    found: dict[str, dict[str, Any]] = {}

    def wrong() -> list[tuple[str, Any]]:
        return [(name, found.get(name, {}).get("health")) for name, flow in flows.items() if not fits(name, flow)]

    def fits(name: str, flow: Flow) -> bool:
        health = found.get(name, {}).get("health", {"status": "?"})
        if flow.says == "unknown":
            return any("***" in entry["message"] for entry in found.get(name, {}).get("logs", ()))
        if flow.says is None:
            return str(health["status"]) == "UP"
        return str(health["status"]) == "DOWN" and flow.says in health["error"]["message"]

    for _ in range(100):
        found = {each["elements"][0]["bpmnProcessId"]: each for each in json.loads(await gateway.get("/inbound"))}
        if not wrong():
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(f"not as expected: {wrong()}")


async def _sent(posts: Sender, flows: dict[str, Flow]) -> bytes:
    """All that senders get to see."""
    told = b""
    for name, flow in flows.items():
        for body, headers, status in flow.sends:
            sent = {each: value.encode().decode("latin-1") for each, value in headers.items()}
            path = f"/inbound/{name}?token={quote_plus(SECRETS['TOKEN'])}&x={quote_plus(SECRETS['HMAC'])}"
            answer: Answer = await posts.ask("POST", path, body, sent)
            assert answer.status == status, (name, answer)
            told += json.dumps(dict(answer.headers)).encode() + answer.text.encode()
    return told


def _paths(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield from ("/inbound", "/inbound-instances", "/inbound-instances/metrics", "/tenants/%3Cdefault%3E/inbound")
    yield from ("/actuator/health", "/actuator/health/readiness", "/actuator/prometheus", "/actuator/loggers")
    for each in found.values():
        one = f"/inbound-instances/executables/{each['executableId']}"
        element = each["elements"][0]
        yield from (one, f"{one}/health", f"{one}/logs", f"/inbound-instances/{quote_plus(each['type'])}")
        yield f"/tenants/%3Cdefault%3E/inbound/{element['bpmnProcessId']}/{element['elementId']}/logs"


async def test_row_41_no_secret_of_the_event_flow_leaves_in_any_encoding(engine: EngineProcess, tmp_path: Path) -> None:
    _vault(tmp_path)
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(running(Stub()))
        grpc = await stack.enter_async_context(Recorder(engine.grpc_port))
        rest = await stack.enter_async_context(Recorder(engine.http_port))
        target.answer = _target
        settings = {
            **QUICK,
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "LOGGING_LEVEL_ROOT": "TRACE",
            "GATEWAY_SHUTDOWN_GRACE": "1s",
            "PYTHONASYNCIODEBUG": "1",
            **{f"SECRET_{name}": value for name, value in SECRETS.items() if name not in IN_VAULT},
        }
        gateway = Gateway(
            engine, "canary", tmp_path, grpc_port=grpc.port, rest_port=rest.port, settings=settings, connectors=SOURCES
        )
        webhooks, sources = _webhooks(), _sources(target.url())
        posts = await stack.enter_async_context(sender(gateway))
        try:
            await _deployed(engine, webhooks | sources)
            await gateway.start()
            found = await _settled(gateway, webhooks | sources)
            exits = {"answers": await _sent(posts, webhooks)}
            await until(lambda: sum(request.target.startswith("/echo") for request in target.received) > 1, 10)
            exits |= {path: await gateway.get(path) for path in _paths(found)}
            for each in found.values():
                command = f"/inbound-instances/executables/{each['executableId']}/reset"
                exits[command] = (await posts.ask("POST", command)).text.encode()
            _, code = await gateway.stop()
        finally:
            await gateway.kill()
        assert code == 0
        exits["output"] = gateway.output.read_bytes()
        exits["REST to the engine"], exits["gRPC to the engine"] = rest.bytes(), grpc.bytes()
        assert all(exits.values()), f"silent: {[name for name, data in exits.items() if not data]}"
        leaks = {name: (found_in(data), _where(data)) for name, data in exits.items() if found_in(data)}
        assert leaks == {}
        assert exits["output"].count(b"***") > 20, "the log told of secrets"
        sent = b"".join(request.head for request in target.received)
        assert found_in(sent) == ["POLL"], "the target got what it was meant to get"


def _where(data: bytes) -> list[str]:
    """The surroundings of what was found, for the report of a failure."""
    found = [data.find(form) for value in SECRETS.values() for form in spellings(value)]
    return [data[max(0, at - 300) : at + 100].decode(errors="replace") for at in found if at >= 0][:3]
