"""Secrets never leave but to the targets they are for: every byte that goes out of the process is looked at, in every encoding."""

import asyncio
import base64
import json
import os
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from gateway.engine import Resource
from tests.faults.recorder import Recorder
from tests.faults.rig import Gateway, Work, client
from tests.flow.models import process
from tests.http_client.servers import Received, Reply, Stub, running
from tests.real.processes import EngineProcess

pytestmark = pytest.mark.real

SECRETS = {
    "TOKEN": "canary-token-7f3a91/+=?&%",
    "PASSWORD": 'canary-"quoted"\nsecond line\t\\back\u00e9\u20ac',
    "OAUTH": "canary-oauth-5d2c77",
    "DRAIN": "canary-drain-88e1b0",
}
LEAKY = Path(__file__).with_name("leaky.py")

_PROVIDER = """
class Failing:
    async def get_secret(self, name, context):
        if name == "BROKEN":
            raise RuntimeError("the vault is sealed")
        return None
"""


def spellings(value: str) -> Iterator[bytes]:
    """What a secret may look like on its way out; written without the gateway's own masking in mind."""
    data = value.encode()
    yield data
    text = value
    for _ in range(3):  # JSON in JSON in JSON
        text = json.dumps(text, ensure_ascii=False)[1:-1]
        yield text.encode()
    yield json.dumps(value)[1:-1].encode()
    yield repr(value)[1:-1].encode()
    yield quote(value).encode()
    yield quote(value, safe="").encode()
    yield quote_plus(value).encode()
    for before in (b"", b"a", b"ab"):
        start = (len(before) * 8 + 5) // 6
        end = (len(before) + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(before + data)[start:end]


def found_in(data: bytes) -> list[str]:
    """The names of the secrets that stand in these bytes."""
    return [name for name, value in SECRETS.items() if any(form in data for form in spellings(value))]


def _echo(request: Received) -> Reply:
    """A target that gives back all it got, in several encodings, as an error."""
    if request.target.startswith("/token"):
        return Reply(body={"access_token": "issued", "expires_in": 300})
    if request.target.startswith("/refused-token"):
        return Reply(401, {"error": "bad client", "got": request.head.decode("latin-1") + request.body.decode()})
    if request.target.startswith("/slow"):
        return Reply(delay=3.0)
    if request.target.startswith("/ok"):
        return Reply(body={"fine": True})
    all_of_it = request.head.decode("latin-1") + request.body.decode("utf-8", "replace")
    body = {
        "plain": all_of_it,
        "headers": dict(request.headers),
        "base64": base64.b64encode(request.body).decode(),
        "values": list(SECRETS.values())[:2],
        "shifted": [
            base64.b64encode(b"x" * n + v.encode()).decode() for n in range(3) for v in list(SECRETS.values())[:2]
        ],
        "quoted": [quote_plus(v) for v in list(SECRETS.values())[:2]],
    }
    return Reply(400, body)


@dataclass(frozen=True)
class Flow:
    """One process of one job."""

    name: str
    inputs: dict[str, str]
    headers: dict[str, str]
    leaky: bool = False


def _flows(base: str) -> list[Flow]:
    """Success, failures of each kind, and expressions that try to carry secrets out."""
    token, password = "{{secrets.TOKEN}}", "{{secrets.PASSWORD}}"
    bearer = {"authentication.type": "bearer", "authentication.token": token}
    basic = {"authentication.type": "basic", "authentication.username": "user", "authentication.password": password}
    none = {"authentication.type": "noAuth"}
    body = {"body": f'={{token: "{token}", password: "{password}"}}'}
    oauth = {
        "authentication.type": "oauth-client-credentials-flow",
        "authentication.clientId": "client",
        "authentication.clientSecret": "{{secrets.OAUTH}}",
        "authentication.clientAuthentication": "credentialsBody",
        "authentication.audience": "",
        "authentication.scopes": "",
    }
    status = {"resultExpression": "={status: status}"}
    carry = 'bpmnError("c", "m " + string(error), {leak: error, text: string(error)})'
    job_error = 'jobError("m " + string(error) + error.message, {leak: error, again: response}, 0)'

    def http(name: str, path: str, inputs: dict[str, str], headers: dict[str, str], method: str = "POST") -> Flow:
        return Flow(name, {"url": f"{base}{path}", "method": method, **inputs}, headers)

    def leaky(name: str, secret: str = password) -> Flow:
        return Flow(f"leaky-{name}", {"do": name, "secret": secret}, {}, leaky=True)

    return [
        http("success", "/ok", {**bearer, **body}, status),
        http("success-basic", "/ok", {**basic, **body, "headers": f'={{"X-Key": "{token}"}}'}, status),
        http("success-oauth", "/ok", {**oauth, "authentication.oauthTokenEndpoint": f"{base}/token"}, status),
        http("echo-bearer", "/echo", {**bearer, **body}, {}),
        http(
            "echo-basic", "/echo", {**basic, **body, "queryParameters": f'={{key: "{token}"}}'}, {"resultVariable": "r"}
        ),
        http("echo-bpmn", "/echo", {**bearer, **body}, {"errorExpression": carry}),
        http("echo-job-error", "/echo", {**basic, **body}, {"errorExpression": job_error}),
        http("oauth-refused", "/ok", {**oauth, "authentication.oauthTokenEndpoint": f"{base}/refused-token"}, {}),
        http("timeout", "/slow?key={{secrets.OAUTH}}", {**bearer, "readTimeoutInSeconds": "1"}, {}, "GET"),
        http("malformed-url", "/ok?key={{secrets.TOKEN}}&p={{secrets.PASSWORD}}", none, {}, "GET"),
        http("unreachable", "", {**none, "url": "http://127.0.0.1:9/?key={{secrets.TOKEN}}"}, {}, "GET"),
        http("bad-url", "", {**none, "url": "ftp://{{secrets.TOKEN}}/{{secrets.PASSWORD}}"}, {}, "GET"),
        http("bad-method", "/ok", {**none, **body, "method": "{{secrets.TOKEN}}"}, {}),
        http("bad-number", "/ok", {**none, "readTimeoutInSeconds": "{{secrets.TOKEN}}"}, {}),
        http("bad-header", "/ok", {**none, "headers": f'={{"X {token}": "{password}"}}'}, {}),
        http("bad-expression", "/ok", {**bearer, **body}, {"resultExpression": '={a: status + "x"}.b('}),
        http("missing", "/ok", {**bearer, "body": "{{secrets.NOWHERE}}"}, {}),
        http("provider-fails", "/ok", {**bearer, "body": "{{secrets.BROKEN}}"}, {}),
        *(leaky(name) for name in ("raise", "chain", "log", "background", "exit")),
        *(
            Flow(f"{f.name}-2", f.inputs | {"secret": token}, f.headers, leaky=True)
            for f in [leaky("raise"), leaky("log")]
        ),
        Flow("leaky-by-name", {"do": "by-name", "secret": "none", "unread": password}, {}, leaky=True),
        leaky("wait", "{{secrets.DRAIN}}"),
    ]


def _provider_package(folder: Path) -> None:
    """An installed secret provider that fails, as its metadata on the path says."""
    (folder / "failing_vault.py").write_text(textwrap.dedent(_PROVIDER))
    metadata = folder / "failing_vault-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: failing-vault\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[connector_gateway.secret_providers]\nvault = failing_vault:Failing\n")


async def _started(work: Work, flows: list[Flow], http_type: str) -> None:
    for flow in flows:
        process_id = f"{work.type}-{flow.name}"
        job_type = work.type if flow.leaky else http_type
        model = process(process_id, flow.inputs, flow.headers, job_type=job_type, retries=1)
        await work.engine.deploy([Resource(f"{process_id}.bpmn", model.encode())])
        await work.engine.create_process_instance(bpmn_process_id=process_id, variables='{"id": 1}')


async def _ended(works: list[Work], count: int) -> dict[str, dict[str, Any]]:
    """The jobs of all flows, when all but the one that waits for the drain have ended."""
    jobs: list[dict[str, Any]] = []
    for _ in range(400):
        jobs = [job for work in works for job in await work.jobs()]
        if sum(job["state"] in {"COMPLETED", "FAILED", "ERROR_THROWN"} for job in jobs) >= count:
            return {job["bpmnProcessId"]: job for job in jobs}
        await asyncio.sleep(0.05)
    raise AssertionError(f"not all flows ended: {[(j['bpmnProcessId'], j['state']) for j in jobs]}")


@pytest.mark.parametrize("rest", [False, True], ids=["gRPC", "REST"])
async def test_no_secret_leaves_in_any_encoding(test_engine: EngineProcess, tmp_path: Path, *, rest: bool) -> None:
    _provider_package(tmp_path)
    mark = f"canary-{os.getpid()}-{'rest' if rest else 'grpc'}"
    async with (
        running(Stub()) as target,
        Recorder(test_engine.grpc_port) as grpc,
        Recorder(test_engine.http_port) as http,
        client(test_engine) as port,
    ):
        target.answer = _echo
        settings = {
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "CONNECTOR_HTTP_REST_TYPE": f"{mark}-http",
            "CAMUNDA_CLIENT_PREFERRESTOVERGRPC": str(rest).lower(),
            "CAMUNDA_CONNECTOR_SECRETPROVIDER_ENVIRONMENT_PREFIX": "SECRET_",
            "LOGGING_LEVEL_ROOT": "TRACE",
            "GATEWAY_SHUTDOWN_GRACE": "300ms",
            "PYTHONASYNCIODEBUG": "1",
            **{f"SECRET_{name}": value for name, value in SECRETS.items()},
        }
        gateway = Gateway(
            test_engine, mark, tmp_path, grpc_port=grpc.port, rest_port=http.port, settings=settings, connectors=LEAKY
        )
        works = [Work(port, test_engine, mark), Work(port, test_engine, f"{mark}-http")]
        try:
            await gateway.start()
            flows = _flows(target.url())
            await _started(works[0], flows, f"{mark}-http")
            jobs = await _ended(works, len(flows) - 1)
            exits = {path: await gateway.get(path) for path in _paths()}
            _, code = await gateway.stop()
        finally:
            await gateway.kill()
        assert code == 0
        await _check_outcomes(mark, jobs, flows, target)
        exits["output"] = gateway.output.read_bytes()
        exits["REST to the engine"] = http.bytes()
        if not rest:
            exits["gRPC to the engine"] = grpc.bytes()
        exits["incidents and variables in the engine"] = json.dumps(
            [await w.jobs() for w in works], ensure_ascii=False
        ).encode()
        print({name: len(data) for name, data in exits.items()})
        assert all(exits.values()), f"silent: {[name for name, data in exits.items() if not data]}"
        leaks = {name: (found_in(data), _where(data)) for name, data in exits.items() if found_in(data)}
        assert leaks == {}
        sent = b"".join(r.head + r.body for r in target.received)
        assert set(found_in(sent)) == {"TOKEN", "PASSWORD", "OAUTH"}, "the targets got what they were meant to get"


def _paths() -> list[str]:
    return [
        *("/actuator", "/actuator/health", "/actuator/health/readiness", "/actuator/health/liveness"),
        *("/actuator/prometheus", "/actuator/metrics", "/actuator/loggers", "/outbound", "/outbound/metrics", "/"),
    ]


def _where(data: bytes) -> list[str]:
    """The surroundings of what was found, for the report of a failure."""
    places = []
    for value in SECRETS.values():
        found = [at for form in spellings(value) if (at := data.find(form)) >= 0]
        places += [data[max(0, at - 300) : at + 100].decode(errors="replace") for at in found]
    return places[:5]


async def _check_outcomes(mark: str, jobs: dict[str, dict[str, Any]], flows: list[Flow], target: Stub) -> None:
    """That the flows did what they are there for: else their silence would prove nothing."""
    states = {flow.name: jobs[f"{mark}-{flow.name}"]["state"] for flow in flows}
    completed = {name for name, state in states.items() if state == "COMPLETED"}
    assert completed == {"success", "success-basic", "success-oauth", "leaky-log", "leaky-log-2", "leaky-background"}
    assert states["echo-bpmn"] == "ERROR_THROWN"
    echoed = jobs[f"{mark}-echo-bearer"]["errorMessage"]
    assert "***" in echoed
    assert jobs[f"{mark}-leaky-by-name"]["errorMessage"].startswith("by name ***")
    assert "Fetching secrets failed" in jobs[f"{mark}-provider-fails"]["errorMessage"]
    assert "NOWHERE" in jobs[f"{mark}-missing"]["errorMessage"]
    assert any(request.target.startswith("/slow") for request in target.received)


def test_the_canary_is_seen_in_each_spelling() -> None:
    for name, value in SECRETS.items():
        for form in spellings(value):
            assert found_in(b"x" + form + b"y") == [name]
        for shift in range(3):
            assert name in found_in(base64.b64encode(b"-" * shift + value.encode() + b"tail"))
    assert found_in(b"canary") == []
    assert sys.executable
