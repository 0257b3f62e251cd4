"""What is measured and what it is measured with, as processes: started, pinned, looked at, ended by their ids."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.bench.build import BUILD

SUBJECT: Final = "0"
"""The processor of what is measured; all else has the next."""
SIDE: Final = "1"

_TICK: Final = os.sysconf("SC_CLK_TCK")
_ONE: Final = {"GOMAXPROCS": "1"}
_Found = TypeVar("_Found")
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Process:
    """A child process, pinned to `cpus` if given; what it prints goes to a file of the build folder."""

    def __init__(
        self, name: str, command: Sequence[str | Path], *, cpus: str | None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.log = BUILD / f"{name}.log"
        words = [str(word) for word in command]
        with self.log.open("wb") as out:
            self._child = subprocess.Popen(
                ["taskset", "-c", cpus, *words] if cpus else words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(environ or {})},
                cwd=BUILD,
            )
        self.pid = self._child.pid

    def check(self) -> None:
        """Raises SystemExit with the last it said when it is gone."""
        if self._child.poll() is not None:
            raise SystemExit(
                f"bench: {self.log.stem} ended with {self._child.returncode}:\n{self.log.read_text()[-2000:]}"
            )

    def stop(self) -> None:
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(15)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


@dataclass(frozen=True, slots=True)
class Side:
    """The synthetic engine and the target, on ports of their own."""

    grpc: str
    rest: str
    target: str
    processes: Sequence[Process] = field(repr=False)

    def get(self, path: str) -> Any:
        return fetch(f"http://{self.rest}{path}")

    def post(self, path: str, body: object, timeout: float = 600) -> Any:
        return fetch(f"http://{self.rest}{path}", body, timeout)

    def cpu(self) -> float:
        return sum(cpu_seconds(one.pid) for one in self.processes)


@contextmanager
def running(process: Process) -> Iterator[Process]:
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def side(*, pin: bool, latency_ms: int = 0, deploy: Path | None = None) -> Iterator[Side]:
    """deploy: a folder with processes for inbound connectors; latency_ms: of starting instances and publishing messages."""
    grpc, rest, target = (f"127.0.0.1:{free_port()}" for _ in range(3))
    cpus, environ = (SIDE, _ONE) if pin else (None, {})
    options = ["-grpc", grpc, "-rest", rest, "-latency", f"{latency_ms}ms", "-deploy", str(deploy or "")]
    with (
        running(Process("engine", [BUILD / "bin" / "engine", *options], cpus=cpus, environ=environ)) as engine,
        running(Process("target", [BUILD / "bin" / "target", "-addr", target], cpus=cpus, environ=environ)) as service,
    ):
        wait_for(lambda: fetch(f"http://{rest}/bench/state"), 10, engine)
        wait_for(lambda: fetch(f"http://{target}/stats"), 10, service)
        yield Side(grpc, rest, target, (engine, service))


def load(url: str, *, connections: int, seconds: float, secret: str, pin: bool) -> dict[str, Any]:
    """The figures of one closed-loop load of webhooks; signed with a secret that is not empty."""
    command = [BUILD / "bin" / "load", "-url", url, "-c", connections, "-s", seconds, "-secret", secret]
    words = [*(("taskset", "-c", SIDE) if pin else ()), *map(str, command)]
    before = os.times()
    done = subprocess.run(
        words, capture_output=True, env={**os.environ, **(_ONE if pin else {})}, timeout=90, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return {**found, "helper_cpu": spent}


# ---- looking -----------------------------------------------------------------------------------------------------------


def fetch(url: str, body: object = None, timeout: float = 5) -> Any:
    """The JSON at a URL of this machine; a body is posted. Raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with _OPENER.open(request, timeout=timeout) as answer:
        content = answer.read()
    return json.loads(content) if content else None


def wait_for(ask: Callable[[], _Found], seconds: float, *processes: Process) -> _Found:
    """What the question gives as soon as it gives something true without an OSError. Raises SystemExit."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := ask():
                return found
            last: object = "nothing"
        except OSError as e:
            last = e
        for process in processes:
            process.check()
        if time.monotonic() > end:
            raise SystemExit(f"bench: waited {seconds:g} s for {', '.join(one.log.stem for one in processes)}: {last}")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from _tree(int(child))
    except OSError:
        return


def cpu_seconds(pid: int) -> float:
    """User and system seconds of a process and its children so far."""
    total = 0
    for one in _tree(pid):
        try:
            words = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(words[11]) + int(words[12])
    return total / _TICK


def resident_mb(pid: int) -> float:
    """The resident memory of a process and its children."""
    total = 0.0
    for one in _tree(pid):
        try:
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
    return round(total, 1)


def busy_seconds() -> float:
    """What all processors have worked since the machine started."""
    with Path("/proc/stat").open() as lines:
        words = [int(word) for word in lines.readline().split()[1:]]
    return (sum(words[:8]) - words[3] - words[4]) / _TICK


@dataclass(slots=True)
class Watch:
    """CPU of a process from `Watch.begin` to `end`, and what the rest of the machine used meanwhile."""

    pid: int
    side: Side
    before: tuple[float, ...]

    @classmethod
    def begin(cls, process: Process, side: Side) -> "Watch":
        return cls(process.pid, side, (cpu_seconds(process.pid), side.cpu(), busy_seconds(), time.monotonic()))

    def end(self, count: int, *, helper_cpu: float = 0) -> dict[str, float]:
        """count: what was done meanwhile; helper_cpu: seconds of the load, which is none of the rest."""
        now = (cpu_seconds(self.pid), self.side.cpu(), busy_seconds(), time.monotonic())
        own, beside, busy, wall = (b - a for a, b in zip(self.before, now, strict=True))
        return {
            "cpu_s_per_1000": own / max(count, 1) * 1000,
            "worker_cores": own / wall,
            "side_cores": (beside + helper_cpu) / wall,
            "other_cores": max(0.0, (busy - own - beside - helper_cpu) / wall),
            "rss_load_mb": resident_mb(self.pid),
            "load": os.getloadavg()[0],
        }
