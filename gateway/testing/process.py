"""A whole process on the embedded engine, worked by the real job and event flows, with virtual time."""

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
from gateway.engine.embedded import EmbeddedEngine, Record, VirtualClock
from gateway.http_client import HttpClient
from gateway.observe import Metrics
from gateway.registry import Connector, Registered, RegisteredInbound
from gateway.sdk import InboundConnector
from gateway.secrets import MapSecrets, Masker

_FOREVER_MS = 100 * 365 * 86_400_000
_ENDS = {"ELEMENT_COMPLETED", "ELEMENT_TERMINATED"}


class EngineRun:
    """A process engine with connectors at work: start instances, send events, wait for ends.

    Webhooks are at `url` + `/inbound/` + path; `runtime.inbound.supervisor.executables` are the inbound connectors at work.
    """

    def __init__(self, engine: EmbeddedEngine, runtime: Runtime, ends: "_Ends") -> None:
        self.engine = engine
        self.runtime = runtime
        self._ends = ends

    @property
    def url(self) -> str:
        """Where the gateway's own HTTP endpoints are."""
        return f"http://127.0.0.1:{self.runtime.port}"

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

    async def ended(self, process_id: str, count: int = 1, *, timeout: float = 10.0) -> list[dict[str, Any]]:
        """Waits until so many instances have ended, whoever started them; the variables of each, in the order of their ends.

        AssertionError when they have not in time (real seconds), with the incident if there is one.
        """
        found = self._ends.of(process_id)
        for _ in range(max(1, int(timeout * 100))):
            if len(found) >= count:
                return list(found)
            await asyncio.sleep(0.01)
        incidents = [f"; incident at {each.element.node.id}: {each.error_message}" for each in self.engine.incidents()]
        raise AssertionError(
            f"{len(found)} of {count} instances of {process_id} ended within {timeout:g} s{''.join(incidents[:1])}"
        )

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


class _Ends:
    """Listens to an engine for instances that end, and for the variables they have then."""

    def __init__(self) -> None:
        self._variables: dict[int, dict[str, Any]] = {}
        self._ended: dict[str, list[dict[str, Any]]] = {}

    def of(self, process_id: str) -> list[dict[str, Any]]:
        return self._ended.setdefault(process_id, [])

    def __call__(self, record: Record) -> None:
        value = record.value
        if record.value_type == "VARIABLE" and value["scopeKey"] == value["processInstanceKey"]:
            self._variables.setdefault(value["scopeKey"], {})[value["name"]] = value["value"]
        elif (
            record.value_type == "PROCESS_INSTANCE" and value["bpmnElementType"] == "PROCESS" and record.intent in _ENDS
        ):
            self.of(value["bpmnProcessId"]).append(self._variables.pop(value["processInstanceKey"], {}))


@asynccontextmanager
async def engine(
    process: str | Path,
    *,
    connectors: Sequence[Connector] = (),
    secrets: Mapping[str, str] | None = None,
    http: HttpClient | None = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[EngineRun]:
    """An embedded engine with a process deployed and connectors at work; all ends with the block.

    process: BPMN text, or the path of a file; connectors: outbound and inbound ones, those at the elements of the process have
    had their first chance when the block begins; http: in place of the real client; settings: as environment variables.
    """
    text = _text(process)
    inbound = [RegisteredInbound(each, enabled=True) for each in connectors if isinstance(each, InboundConnector)]
    outbound = [Registered(each, True, None) for each in connectors if not isinstance(each, InboundConnector)]
    environment = {
        "SERVER_PORT": "0",
        "GATEWAY_SHUTDOWN_GRACE": "1s",
        "CAMUNDA_CONNECTOR_POLLING_ENABLED": str(bool(inbound)).lower(),
        **(settings or {}),
    }
    async with AsyncExitStack() as stack:
        embedded, ends = EmbeddedEngine(clock=VirtualClock()), _Ends()
        embedded.listen(ends)
        stack.push_async_callback(embedded.close)
        await embedded.deploy([Resource("process.bpmn", text.encode())])
        runtime = await stack.enter_async_context(
            running(
                load(environment, directory=Path(os.devnull)),
                embedded,
                outbound,
                inbound,
                masker=Masker(),
                metrics=Metrics(),
                providers=[MapSecrets(secrets or {})],
                host="127.0.0.1",
                http=http,
            )
        )
        if runtime.inbound is not None:
            await runtime.inbound.supervisor.ready.wait()
        yield EngineRun(embedded, runtime, ends)


def _text(process: str | Path) -> str:
    if isinstance(process, str) and process.lstrip().startswith("<"):
        return process
    return Path(process).read_text()
