"""Webhooks: a JSON POST starts a process instance and is answered, plain and signed with an answer made for it."""

import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench import models, ours
from tests.bench.build import BUILD, HERE, STUBS, find_jdk
from tests.bench.jobs import PYTHON, java
from tests.bench.processes import SUBJECT, Process, Side, Watch, free_port, load, running, side, wait_for

PLAIN: Final = "orders"
SIGNED: Final = "signed"
_CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Server:
    """How one is started. signs: whether it can check signatures."""

    name: str
    command: Sequence[str | Path]
    environ: Mapping[str, str]
    pinned: bool = True
    signs: bool = True
    warm_seconds: float = 3


def _ours(transport: str) -> Callable[[Side, int, str], Server]:
    name = f"gateway ({transport})"
    return lambda at, port, _: Server(name, ours.COMMAND, ours.environment(at, port, transport))


def _go(at: Side, port: int, secret: str) -> Server:
    command = [BUILD / "bin" / "webgo", "-addr", f"127.0.0.1:{port}", "-engine", at.grpc, "-secret", secret]
    return Server("go", command, {"GOMAXPROCS": "1"})


def _python(at: Side, port: int, secret: str) -> Server:
    environ = {"ENGINE": at.grpc, "PORT": str(port), "SECRET": secret, "STUBS": str(STUBS)}
    return Server("aiohttp + grpc.aio", [PYTHON, HERE / "peers" / "aiohttp_webhook.py"], environ)


def _java(at: Side, port: int, _: str) -> Server:
    return Server("java", java(at, f"--server.port={port}"), {}, pinned=False, signs=False, warm_seconds=45)


def servers() -> dict[str, Callable[[Side, int, str], Server]]:
    """Those that are built, by the name they are chosen by."""
    found: dict[str, Callable[[Side, int, str], Server]] = {name: _ours(name) for name in ours.TRANSPORTS}
    found |= {"aiohttp": _python, "go": _go}
    if find_jdk() is not None and (BUILD / "java" / "classes" / "bench").is_dir():
        found["java"] = _java
    return found


def measure(
    make: Callable[[Side, int, str], Server], *, rounds: int, seconds: float, pin: bool
) -> Iterator[dict[str, Any]]:
    """The figures of a server, one measurement after the other."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        processes = {PLAIN: models.plain_webhook(PLAIN), SIGNED: models.signed_webhook(SIGNED, "BENCH_HMAC")}
        deployed = models.deploy(Path(folder), processes)
        for path, secret in ((PLAIN, ""), (SIGNED, ours.HMAC_SECRET)):
            with side(pin=pin, deploy=deployed) as at:
                port = free_port()
                server = make(at, port, secret)
                if secret and not server.signs:
                    continue
                url = f"http://127.0.0.1:{port}/inbound/{path}"
                for number, row in enumerate(_loads(server, at, url, secret, rounds, seconds, pin)):
                    yield {
                        "peer": server.name,
                        "round": number,
                        "case": f"webhook, {'signed' if secret else 'plain'}",
                        **row,
                    }


def _loads(
    server: Server, at: Side, url: str, secret: str, rounds: int, seconds: float, pin: bool
) -> Iterator[dict[str, Any]]:
    cpus = SUBJECT if pin and server.pinned else None
    with running(Process("server", server.command, cpus=cpus, environ=server.environ)) as process:
        wait_for(lambda: _serves(url), 60, process)
        load(url, connections=_CONNECTIONS, seconds=server.warm_seconds, secret=secret, pin=pin)
        for _ in range(rounds):
            before = at.get("/bench/state")["events"]
            watch = Watch.begin(process, at)
            done = load(url, connections=_CONNECTIONS, seconds=seconds, secret=secret, pin=pin)
            figures = watch.end(done["ok"], helper_cpu=done["helper_cpu"])
            started = at.get("/bench/state")["events"] - before
            if done["bad"] or started != done["ok"]:
                raise SystemExit(
                    f"bench: {server.name}: {done['bad']} refused, {done['ok']} answered, {started} started"
                )
            yield {"per_s": done["per_s"], "p50_ms": done["p50_ms"], "p99_ms": done["p99_ms"], **figures}


def _serves(url: str) -> bool:
    """Whether somebody listens to the path: any answer but a 404 or an unready 503 says so."""
    request = urllib.request.Request(url, json.dumps({"orderId": "a", "total": 1}).encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=2):
            return True
    except urllib.error.HTTPError as e:
        return e.code not in {404, 503}
