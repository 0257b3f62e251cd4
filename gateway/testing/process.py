"""A whole process on the embedded engine, worked by the real job flow, with virtual time."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from gateway import jsontext
from gateway.app import Runtime, running
from gateway.config import load
from gateway.engine import Resource
from gateway.engine.embedded import EmbeddedEngine, VirtualClock
from gateway.http_client import HttpClient
from gateway.observe import Metrics
from gateway.registry import Registered
from gateway.sdk import OutboundConnector
from gateway.secrets import MapSecrets, Masker

_FOREVER_MS = 100 * 365 * 86_400_000


class EngineRun:
    """A process engine with connectors at work: start instances, wait for their ends."""

    def __init__(self, engine: EmbeddedEngine, runtime: Runtime) -> None:
        self.engine = engine
        self.runtime = runtime

    async def start(self, process_id: str, variables: Mapping[str, Any] | None = None) -> int:
        """Starts an instance and returns its key."""
        text = jsontext.dumps(variables or {})
        started = await self.engine.create_process_instance(bpmn_process_id=process_id, variables=text)
        return started.process_instance_key

    async def result(
        self, process_id: str, variables: Mapping[str, Any] | None = None, *, timeout: float = 10.0
    ) -> Any:
        """Starts an instance, waits for its end and returns its variables. AssertionError with the incident, if one comes.

        timeout: real seconds; the engine's own clock may be put forward in the meantime.
        """
        waiting = asyncio.ensure_future(
            self.engine.create_process_instance_with_result(
                bpmn_process_id=process_id,
                variables=jsontext.dumps(variables or {}),
                request_timeout_ms=_FOREVER_MS,
            )
        )
        incident = asyncio.ensure_future(self.incident(timeout=timeout + 1.0))
        done, pending = await asyncio.wait({waiting, incident}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if waiting in done:
            return jsontext.loads((await waiting).variables or "{}")
        if incident in done:
            raise AssertionError(f"the instance of {process_id} stands at an incident: {await incident}")
        raise AssertionError(f"the instance of {process_id} did not end within {timeout:g} s")

    async def incident(self, *, timeout: float = 10.0) -> str:
        """Waits for an incident and returns what it says: `element: TYPE: message`."""
        for _ in range(int(timeout * 100)):
            found = self.engine.incidents()
            if found:
                return f"{found[0].element.node.id}: {found[0].error_type}: {found[0].error_message}"
            await asyncio.sleep(0.01)
        raise AssertionError(f"no incident within {timeout:g} s")

    async def advance(self, seconds: float) -> None:
        """Puts the engine's clock forward: timers, back-offs and leases of the engine run out."""
        await self.engine.advance(seconds)


@asynccontextmanager
async def engine(
    process: str | Path,
    *,
    connectors: Sequence[OutboundConnector] = (),
    secrets: Mapping[str, str] | None = None,
    http: HttpClient | None = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[EngineRun]:
    """An embedded engine with a process deployed and connectors at work; all ends with the block.

    process: BPMN text, or the path of a file; http: in place of the real client; settings: as environment variables.
    """
    text = _text(process)
    environment = {"SERVER_PORT": "0", "GATEWAY_SHUTDOWN_GRACE": "1s", **(settings or {})}
    async with AsyncExitStack() as stack:
        embedded = EmbeddedEngine(clock=VirtualClock())
        stack.push_async_callback(embedded.close)
        await embedded.deploy([Resource("process.bpmn", text.encode())])
        runtime = await stack.enter_async_context(
            running(
                load(environment, directory=Path(os.devnull)),
                embedded,
                [Registered(c, True, None) for c in connectors],
                masker=Masker(),
                metrics=Metrics(),
                providers=[MapSecrets(secrets or {})],
                host="127.0.0.1",
                http=http,
            )
        )
        yield EngineRun(embedded, runtime)


def _text(process: str | Path) -> str:
    if isinstance(process, str) and process.lstrip().startswith("<"):
        return process
    return Path(process).read_text()
