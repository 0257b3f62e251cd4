"""Job workers: each takes jobs of the synthetic engine, calls the target over HTTP, and completes them.

A round is a fresh worker: from start to the first completed job, at rest, warm, then a closed loop (so many jobs in flight) for
each latency of the target, then an open loop of 100 jobs/s, which is where latencies are read.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench import ours
from tests.bench.build import BUILD, HERE, find_jdk
from tests.bench.processes import (
    SUBJECT,
    Process,
    Side,
    Watch,
    cpu_seconds,
    fetch,
    free_port,
    resident_mb,
    running,
    side,
)

PYTHON: Final = BUILD / "venv" / "bin" / "python"
_RATE: Final = 100.0


@dataclass(frozen=True, slots=True)
class Worker:
    """How one is started. pinned: whether it has a processor of its own: a JVM needs more than one to get warm."""

    name: str
    command: Sequence[str | Path]
    environ: Mapping[str, str]
    pinned: bool = True
    warm_seconds: float = 8


@dataclass(frozen=True, slots=True)
class Loads:
    """What is measured: rounds, seconds of each measurement, latencies of the target in milliseconds, jobs in flight."""

    rounds: int = 3
    seconds: float = 6
    latencies_ms: Sequence[int] = (0, 20, 200)
    in_flight: int = ours.IN_FLIGHT
    pin: bool = True


def java(side_: Side, *options: str) -> list[str | Path]:
    """The command of the Java runtime."""
    home = find_jdk()
    assert home is not None
    opened = "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED"
    addresses = (
        f"--camunda.client.grpc-address=http://{side_.grpc}",
        f"--camunda.client.rest-address=http://{side_.rest}",
    )
    classes = f"{BUILD / 'java' / 'classes'}:{BUILD / 'java' / 'lib'}/*"
    return [home / "bin" / "java", opened, "-cp", classes, "bench.Main", *addresses, *options]


def _ours(transport: str) -> Callable[[Side], Worker]:
    name = f"gateway ({transport})"
    return lambda at: Worker(name, ours.COMMAND, ours.environment(at, free_port(), transport))


def _python(at: Side) -> Worker:
    environ = {"ENGINE": at.grpc, "UVLOOP": "1", "CAP": str(ours.IN_FLIGHT)}
    return Worker("pyzeebe", [PYTHON, HERE / "peers" / "pyzeebe_worker.py"], environ)


def _java(at: Side) -> Worker:
    port = f"--server.port={free_port()}"
    return Worker("java", java(at, port), {}, pinned=False, warm_seconds=45)


def _java_virtual(at: Side) -> Worker:
    many = str(ours.IN_FLIGHT)
    tuned = [f"--camunda.client.execution-threads={many}", f"--camunda.client.worker.defaults.max-jobs-active={many}"]
    command = java(at, f"--server.port={free_port()}", *tuned, "--bench.virtual=true")
    return Worker("java (virtual threads)", command, {}, pinned=False, warm_seconds=45)


def _node(at: Side) -> Worker:
    environ = {"ENGINE": at.grpc, "ENGINE_REST": at.rest, "CAP": str(ours.IN_FLIGHT)}
    return Worker("node", ["node", BUILD / "node" / "worker.mjs"], environ)


def workers() -> dict[str, Callable[[Side], Worker]]:
    """Those that are built, by the name they are chosen by."""
    found: dict[str, Callable[[Side], Worker]] = {name: _ours(name) for name in ours.TRANSPORTS}
    found["pyzeebe"] = _python
    if find_jdk() is not None and (BUILD / "java" / "classes" / "bench").is_dir():
        found |= {"java": _java, "java-virtual": _java_virtual}
    if shutil.which("node") and (BUILD / "node" / "worker.mjs").exists():
        found["node"] = _node
    return found


# ---- measuring ---------------------------------------------------------------------------------------------------------


def measure(make: Callable[[Side], Worker], loads: Loads) -> Iterator[dict[str, Any]]:
    """The figures of a worker, one measurement after the other."""
    for number in range(loads.rounds):
        with side(pin=loads.pin) as at:
            worker = make(at)
            for row in _round(worker, at, loads):
                yield {"peer": worker.name, "round": number, **row}


def _round(worker: Worker, at: Side, loads: Loads) -> Iterator[dict[str, Any]]:
    def spec(latency_ms: int, **more: Any) -> dict[str, Any]:
        return {"url": f"http://{at.target}/call?ms={latency_ms}", "inflight": loads.in_flight, **more}

    first: dict[str, Any] = {}
    waiting = threading.Thread(
        target=lambda: first.update(at.post("/bench/run", spec(0, jobs=1, timeout_s=60))), daemon=True
    )
    waiting.start()
    time.sleep(0.2)
    began = time.time_ns()
    cpus = SUBJECT if loads.pin and worker.pinned else None
    with running(Process("worker", worker.command, cpus=cpus, environ=worker.environ)) as process:
        while waiting.is_alive():
            waiting.join(0.2)
            process.check()
        if not first.get("completed"):
            raise SystemExit(f"bench: {worker.name} completes nothing ({first}): see {process.log}")
        start = {"start_s": (first["first_done_ns"] - began) / 1e9, "start_cpu_s": cpu_seconds(process.pid)}
        time.sleep(3)
        yield {"case": "start", **start, "rss_idle_mb": resident_mb(process.pid), "load": os.getloadavg()[0]}
        rate, end = 100.0, time.monotonic() + worker.warm_seconds
        while time.monotonic() < end:
            done = at.post("/bench/run", spec(0, jobs=max(50, int(rate * 2)), timeout_s=60))
            rate = done["jobs_per_s"] or rate
        for latency in loads.latencies_ms:
            most = min(rate, loads.in_flight * 1000 / latency) if latency else rate
            probe = at.post("/bench/run", spec(latency, jobs=max(60, int(most)), timeout_s=60))
            count = max(200, int(probe["jobs_per_s"] * loads.seconds))
            closed = spec(latency, jobs=count, timeout_s=loads.seconds * 6, warm=0.15)
            yield {"case": f"target {latency} ms", **_load(process, at, closed)}
        paced = spec(20, jobs=int(_RATE * loads.seconds), rate=_RATE, timeout_s=loads.seconds * 4) | {"inflight": 0}
        yield {"case": f"{_RATE:g} jobs/s", **_load(process, at, paced)}


def _load(process: Process, at: Side, spec: Mapping[str, Any]) -> dict[str, Any]:
    """One load. Raises SystemExit when a job was lost or failed: such figures are worth nothing."""
    with suppress(OSError):
        fetch(f"http://{at.target}/reset", {})
    watch = Watch.begin(process, at)
    done = at.post("/bench/run", spec)
    figures = watch.end(done["completed"])
    if done["completed"] != done["jobs"] or done["failed"] or done["thrown"]:
        raise SystemExit(f"bench: not all jobs were completed: {done}")
    stats = fetch(f"http://{at.target}/stats")
    return {
        "per_s": done["jobs_per_s"],
        "p50_ms": done["p50_ms"],
        "p99_ms": done["p99_ms"],
        "duplicates": done["dup"],
        "connections": stats["conns"],
        **figures,
    }
