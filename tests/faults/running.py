"""The gateway as a process, and a target for its calls: what the fault tests need."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.real.processes import free_port

ROOT = Path(__file__).parents[2]


class Gateway:
    """`gateway run` with settings in the environment; its output in a file."""

    def __init__(self, log: Path, **environment: str) -> None:
        self.log = log
        self.port = free_port()
        self._environment = {
            "CAMUNDA_CLIENT_MODE": "self-managed",
            "CAMUNDA_CLIENT_AUTH_METHOD": "none",
            "SERVER_PORT": str(self.port),
            **environment,
        }
        self._child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts it and waits until it is ready."""
        with self.log.open("ab") as output:
            self._child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", "run"),
                stdout=output,
                stderr=output,
                env=os.environ | self._environment,
                cwd=ROOT,
            )
        async with aiohttp.ClientSession() as session:
            for _ in range(400):
                assert self._child.returncode is None, self.log.read_text()[-2000:]
                try:
                    async with session.get(f"http://127.0.0.1:{self.port}/actuator/health/readiness") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
        raise AssertionError(f"the gateway was never ready: {self.log.read_text()[-2000:]}")

    async def stop(self, by: signal.Signals = signal.SIGTERM, limit: float = 30.0) -> int:
        """Ends it and returns the exit code."""
        assert self._child is not None
        if self._child.returncode is None:
            self._child.send_signal(by)
        return await asyncio.wait_for(self._child.wait(), limit)

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid


@asynccontextmanager
async def gateway(log: Path, **environment: str) -> AsyncIterator[Gateway]:
    """A ready gateway, ended with the block."""
    found = Gateway(log, **environment)
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


class Target:
    """An HTTP server that counts calls by path and answers after `delay` seconds."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.delay = 0.0
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.calls[request.path] = self.calls.get(request.path, 0) + 1
        await asyncio.sleep(self.delay)
        return web.json_response({"ok": True})


@asynccontextmanager
async def serving() -> AsyncIterator[Target]:
    target = Target()
    runner = web.ServerRunner(web.Server(target.handle, access_log=None), shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    target.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield target
    finally:
        await runner.cleanup()
