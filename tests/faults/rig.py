"""The gateway as a process, a process engine beside it, and the ledger of what was called."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from gateway.engine import Engine, Resource
from gateway.engine.cluster import connect
from gateway.engine.settings import ConnectionSettings
from tests.flow.models import process
from tests.real.processes import EngineProcess, free_port

SUBJECTS = Path(__file__).with_name("subjects.py")
_INHERITED = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH", "TMPDIR")


class Gateway:
    """`gateway run` as a child process; its output in a file."""

    def __init__(
        self,
        engine: EngineProcess,
        job_type: str,
        folder: Path,
        *,
        grpc_port: int | None = None,
        rest_port: int | None = None,
        settings: Mapping[str, str] | None = None,
        connectors: Path = SUBJECTS,
    ) -> None:
        self.port = free_port()
        self.output, self.ledger = folder / "output", folder / "ledger"
        self._connectors = connectors
        self._environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {
            "CAMUNDA_CLIENT_MODE": "self-managed",
            "CAMUNDA_CLIENT_GRPCADDRESS": f"http://127.0.0.1:{grpc_port or engine.grpc_port}",
            "CAMUNDA_CLIENT_RESTADDRESS": f"http://127.0.0.1:{rest_port or engine.http_port}",
            "CONNECTOR_SUBJECT_TYPE": job_type,
            "SERVER_PORT": str(self.port),
            "GATEWAY_SHUTDOWN_GRACE": "2s",
            "FAULT_LEDGER": str(self.ledger),
            **(settings or {}),
        }
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *, seconds: float = 30.0) -> None:
        """Starts it and waits until it is ready."""
        with self.output.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "gateway", "run", "--connectors", str(self._connectors)),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        end = time.monotonic() + seconds
        while await self.status("/actuator/health/readiness") != 200:
            assert self.process.returncode is None, f"the gateway ended: {self.text()[-2000:]}"
            assert time.monotonic() < end, f"the gateway was not ready in time: {self.text()[-2000:]}"
            await asyncio.sleep(0.05)

    async def stop(self, *, seconds: float = 30.0) -> tuple[float, int]:
        """SIGTERM; the seconds until it had ended, and its exit code."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(self.process.wait(), seconds)
        return time.monotonic() - began, code

    async def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    async def get(self, path: str) -> bytes:
        """The body of an answer of the gateway's own HTTP server, whatever its status."""
        return (await self._ask(path))[1]

    async def status(self, path: str) -> int:
        return (await self._ask(path))[0]

    async def _ask(self, path: str) -> tuple[int, bytes]:
        def ask() -> tuple[int, bytes]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as e:
                with e:
                    return e.code, e.read()
            except OSError:
                return 0, b""

        return await asyncio.to_thread(ask)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples, over all that have these labels."""
        lines = (await self.get("/actuator/prometheus")).decode().splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith((f"{name}{{", f"{name} ")) and all(each in line for each in wanted)
        )

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def calls(self) -> "Counter[str]":
        """How often the connector was called, by the `id` of its input."""
        if not self.ledger.exists():
            return Counter()
        return Counter(line.split()[0] for line in self.ledger.read_text().splitlines() if line)

    def rss(self) -> int:
        """Bytes of memory of the process."""
        assert self.process is not None
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Work:
    """A deployed process of one task, and its jobs as the engine sees them."""

    def __init__(self, engine: Engine, process: EngineProcess, job_type: str) -> None:
        self.engine, self._process, self.type = engine, process, job_type
        self.started = 0

    async def start(self, count: int = 1, **variables: Any) -> None:
        """Starts instances; `id` of each is its number."""
        numbers = range(self.started, self.started + count)
        self.started += count
        for n in range(0, count, 100):
            await asyncio.gather(*(self._start(number, variables) for number in numbers[n : n + 100]))

    async def _start(self, number: int, variables: Mapping[str, Any]) -> None:
        text = json.dumps({"id": number, **variables})
        await self.engine.create_process_instance(bpmn_process_id=self.type, variables=text)

    async def jobs(self) -> list[dict[str, Any]]:
        """All jobs of the type: state, retries, errorMessage, ..."""

        def ask() -> list[dict[str, Any]]:
            with urllib.request.urlopen(f"{self._process.rest_address}/engine/job", timeout=30) as answer:
                return [job["value"] | {"key": job["key"]} for job in json.load(answer)]

        return [job for job in await asyncio.to_thread(ask) if job["type"] == self.type]

    async def streams(self) -> int:
        """How many streams of the type the engine has open."""

        def ask() -> int:
            with urllib.request.urlopen(f"{self._process.rest_address}/engine/counts", timeout=5) as answer:
                queues = json.load(answer)["queues"]
            return int(queues.get(self.type, {}).get("streams", 0))

        return await asyncio.to_thread(ask)

    async def states(self) -> "Counter[str]":
        return Counter(job["state"] for job in await self.jobs())

    async def until(self, state: str, count: int, *, seconds: float = 20.0) -> float:
        """Waits until that many jobs are in a state; the seconds it took."""
        began, pause = time.monotonic(), 0.02
        while (found := await self.states())[state] < count:
            assert time.monotonic() - began < seconds, f"{count} {state} expected, but the jobs are {dict(found)}"
            await asyncio.sleep(pause)
            pause = min(0.3, pause * 1.3)
        return time.monotonic() - began


async def forward(engine: EngineProcess, seconds: float) -> None:
    """Moves the engine's clock, so that leases and timers end; only for an engine of the test's own."""

    def ask() -> None:
        address = f"{engine.rest_address}/engine/clock/add?ms={round(seconds * 1000)}"
        with urllib.request.urlopen(urllib.request.Request(address, method="POST"), timeout=10) as answer:
            answer.read()

    await asyncio.to_thread(ask)


@asynccontextmanager
async def client(engine: EngineProcess) -> AsyncIterator[Engine]:
    """A client of the engine that no fault stands before."""
    port = await connect(ConnectionSettings(grpc_address=engine.grpc_address, rest_address=engine.rest_address))
    try:
        yield port
    finally:
        await port.close()


@asynccontextmanager
async def at_work(
    engine: EngineProcess, *, settings: Mapping[str, str] | None = None, grpc_port: int | None = None
) -> AsyncIterator[tuple[Gateway, Work]]:
    """A gateway that works a job type of its own; killed with the block unless it has ended."""
    job_type = f"fault-{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory() as folder:
        async with client(engine) as port:
            work = Work(port, engine, job_type)
            model = process(job_type, {}, {"resultVariable": "r"}, job_type=job_type)
            await port.deploy([Resource(f"{job_type}.bpmn", model.encode())])
            gateway = Gateway(engine, job_type, Path(folder), settings=settings, grpc_port=grpc_port)
            try:
                await gateway.start()
                yield gateway, work
            finally:
                await gateway.kill()


async def until(condition: Any, seconds: float) -> float:
    """Waits for a condition, plain or awaitable; the seconds it took."""
    began = time.monotonic()
    while True:
        value = condition()
        if await value if asyncio.iscoroutine(value) else value:
            return time.monotonic() - began
        assert time.monotonic() - began < seconds, "the condition did not come true in time"
        await asyncio.sleep(0.02)
