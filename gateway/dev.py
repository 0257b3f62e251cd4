"""`gateway dev`: the processes and connectors of a folder at work on the embedded engine, reloaded when they change.

For development, demos and tests: the engine lives in memory and forgets all when it ends. Production is a Zeebe cluster.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from watchfiles import Change, awatch

from gateway import app, secrets
from gateway.config import ConfigurationError, Settings
from gateway.engine import EngineError, Resource
from gateway.engine.embedded import EmbeddedEngine, Record
from gateway.inbound.executable import Executable, State
from gateway.observe import Metrics, configure_logging, set_level
from gateway.registry import (
    Registered,
    RegisteredInbound,
    inbound_connectors,
    load_file,
    named_types,
    outbound_connectors,
)

log = structlog.get_logger(__name__)

Say = Callable[[str], None]
_MAX_SHOWN = 400


def dev(
    folder: Path, settings: Settings, *, connectors: Sequence[str] = (), start: str | None = None, variables: str = "{}"
) -> int:
    """Runs a folder until SIGINT or SIGTERM; the exit code.

    connectors: modules or files beside those of the folder; start: a process id to start once, with `variables` (JSON text).
    """
    masker = secrets.Masker()
    app.mask_settings(settings, masker)
    metrics = Metrics(physical_tenant_id=settings.client.physical_tenant_id)
    configure_logging(settings, sys.stderr, mask=masker, count=metrics.logged)
    app.log_uncaught()
    if settings.gateway.log.level is None:
        set_level("ROOT", "warn")  # the narration on stdout says the rest
    return app.run_loop(_Dev(folder, settings, connectors, masker, metrics).run(start, variables))


class _Dev:
    """One run of `gateway dev`."""

    def __init__(
        self, folder: Path, settings: Settings, connectors: Sequence[str], masker: secrets.Masker, metrics: Metrics
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._named = connectors
        self._masker = masker
        self._metrics = metrics
        self._deployed: dict[Path, bytes] = {}
        self._reload = asyncio.Event()
        self._runtime: app.Runtime | None = None
        self._shown: dict[str, str] = {}

    async def run(self, start: str | None, variables: str) -> int:
        stop = app.stop_signal()
        engine = EmbeddedEngine()
        engine.listen(Narrator(self._say))
        watcher = asyncio.create_task(self._watch(engine, stop))
        try:
            await self._deploy(engine)
            while not stop.is_set():
                self._reload.clear()
                outbound, inbound = self._connectors()
                async with app.running(
                    self._settings,
                    engine,
                    outbound,
                    inbound,
                    masker=self._masker,
                    metrics=self._metrics,
                    providers=self._secret_providers(),
                    host="127.0.0.1",
                ) as runtime:
                    self._runtime = runtime
                    self._ready(runtime)
                    await self._look()
                    if start is not None:
                        await self._start(engine, start, variables)
                        start = None
                    await _first(stop.wait(), self._reload.wait(), self._keep_looking())
                    self._runtime = None
        finally:
            stop.set()
            await asyncio.wait([watcher])
            await engine.close()
        return 0

    def _say(self, text: str) -> None:
        print(self._masker(text), flush=True)  # noqa: T201 - this is what the command shows

    def _ready(self, runtime: app.Runtime) -> None:
        for warning in self._settings.warnings:
            log.warning(warning)
        self._say(f"listening   http://127.0.0.1:{runtime.port}  (health: /actuator/health, connectors: /outbound)")
        self._say(f"connectors  {', '.join(named_types(runtime.connectors)) or 'none'}")
        self._say(f"watching    {self._folder}  (Ctrl-C ends)")

    # ---- what lies in the folder ----

    def _connectors(self) -> tuple[list[Registered], list[RegisteredInbound]]:
        """The installed connectors and those of the folder; a file that cannot be run is reported and left out."""
        good = []
        for path in sorted(self._folder.rglob("*.py")):
            if path.name.startswith(("_", "test_")):
                continue
            try:
                load_file(path)
                good.append(str(path))
            except Exception as e:
                self._say(f"refused     {path.relative_to(self._folder)}: {type(e).__name__}: {e}")
        try:
            names = [*self._named, *good]
            return outbound_connectors(self._settings, names), inbound_connectors(self._settings, names)
        except ConfigurationError as e:
            self._say(f"refused     the connectors of the folder: {e}")
            return outbound_connectors(self._settings, self._named), inbound_connectors(self._settings, self._named)

    # ---- inbound ----

    async def _look(self) -> None:
        """Brings the inbound connectors in line with what is deployed, without waiting for the next tick."""
        if self._runtime is not None and self._runtime.inbound is not None:
            await self._runtime.inbound.supervisor.tick()

    async def _keep_looking(self) -> None:
        """Tells what becomes of each inbound connector: its URL, or why it does not work."""
        while True:
            runtime = self._runtime
            if runtime is not None and runtime.inbound is not None:
                running = runtime.inbound.supervisor.executables
                for each in running.values():
                    self._show(each, runtime.port)
                for ident in self._shown.keys() - running.keys():
                    del self._shown[ident]
            await asyncio.sleep(0.1)

    def _show(self, executable: Executable, port: int) -> None:
        words = _told(executable, port)
        if words is not None and self._shown.get(executable.executable_id) != words:
            self._shown[executable.executable_id] = words
            self._say(f"inbound     {words}")

    def _secret_providers(self) -> list[secrets.SecretProvider]:
        """Secrets of the folder's `.env` file, by name with or without the prefix, before those of the environment."""
        file, prefix = self._folder / ".env", self._settings.connector.secretprovider.environment.prefix
        values = dict(_dotenv(file.read_text())) if file.is_file() else {}
        for value in values.values():
            self._masker.add(value)
        own = {name.removeprefix(prefix): value for name, value in values.items()}
        return [secrets.MapSecrets(own), *app.secret_providers(self._settings)]

    async def _deploy(self, engine: EmbeddedEngine) -> None:
        """Deploys every file that is new or has changed; instances that run stay with their version."""
        for path in sorted(self._folder.rglob("*.bpmn")):
            with contextlib.suppress(OSError):  # gone again: an editor that writes by renaming
                content = path.read_bytes()
                if self._deployed.get(path) == content:
                    continue
                self._deployed[path] = content
                name = str(path.relative_to(self._folder))
                try:
                    for one in await engine.deploy([Resource(name, content)]):
                        self._say(f"deployed    {name}: {one.bpmn_process_id} version {one.version}")
                except EngineError as e:
                    self._say(f"refused     {name}: {e}")

    async def _watch(self, engine: EmbeddedEngine, stop: asyncio.Event) -> None:
        async for changes in awatch(self._folder, stop_event=stop, debounce=200, step=50, rust_timeout=500):
            await self._changed(engine, changes)

    async def _changed(self, engine: EmbeddedEngine, changes: set[tuple[Change, str]]) -> None:
        suffixes = {Path(path).suffix for _, path in changes}
        names = {Path(path).name for _, path in changes}
        if ".bpmn" in suffixes:
            await self._deploy(engine)
            await self._look()
        if ".py" in suffixes or ".env" in names:
            self._say("reloading   connectors and secrets")
            self._reload.set()

    async def _start(self, engine: EmbeddedEngine, process_id: str, variables: str) -> None:
        try:
            await engine.create_process_instance(bpmn_process_id=process_id, variables=variables)
        except EngineError as e:
            self._say(f"refused     start of {process_id}: {e}")


def _told(executable: Executable, port: int) -> str | None:
    """What is to tell of an inbound connector; None while there is nothing."""
    first = executable.group.first
    where = f"{first.bpmn_process_id}.{first.element_id} ({first.type})"
    if executable.state is State.ACTIVATED:
        path = first.properties.get("inbound.context")
        if executable.connector is not None and executable.connector.webhook and path:
            return f"{where} http://127.0.0.1:{port}/inbound/{path}"
        return f"{where} works"
    if executable.state is State.STARTING:
        return None
    return f"{where} {executable.state.value}: {executable.activity.health.error_message or ''}".rstrip(": ")


async def _first(*waiting: Any) -> None:
    tasks = [asyncio.ensure_future(w) for w in waiting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _dotenv(text: str) -> list[tuple[str, str]]:
    """`NAME=value` lines, quoted or not; comments and blank lines are skipped."""
    found = []
    for line in text.splitlines():
        name, sign, value = line.strip().removeprefix("export ").partition("=")
        if sign and name and not name.startswith("#"):
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            found.append((name.strip(), value))
    return found


class Narrator:
    """Turns the engine's records into lines that tell what each instance does."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._variables: dict[int, dict[str, Any]] = {}

    def __call__(self, record: Record) -> None:
        tell = getattr(self, f"_{record.value_type.lower()}", None)
        if tell is not None:
            tell(record)

    def _process_instance(self, record: Record) -> None:
        value = record.value
        if value["bpmnElementType"] != "PROCESS":
            return
        key, process = value["processInstanceKey"], value["bpmnProcessId"]
        if record.intent == "ELEMENT_ACTIVATED":
            self._variables.setdefault(key, {})
            self._say(f"started     {process} {key}")
        elif record.intent in {"ELEMENT_COMPLETED", "ELEMENT_TERMINATED"}:
            how = "completed" if record.intent == "ELEMENT_COMPLETED" else "terminated"
            self._say(f"{how:<11} {process} {key} {_shown(self._variables.pop(key, {}))}")

    def _variable(self, record: Record) -> None:
        value = record.value
        if value["scopeKey"] == value["processInstanceKey"]:
            self._variables.setdefault(value["scopeKey"], {})[value["name"]] = value["value"]

    def _job(self, record: Record) -> None:
        value = record.value
        words = {"COMPLETED": "done", "FAILED": "failed", "ERROR_THROWN": "BPMN error"}
        if record.intent in words:
            text = value["errorMessage"] or value["errorCode"] if record.intent != "COMPLETED" else ""
            self._say(
                f"job         {value['elementId']} ({value['type']}) {words[record.intent]} {text[:_MAX_SHOWN]}".rstrip()
            )

    def _incident(self, record: Record) -> None:
        if record.intent == "CREATED":
            value = record.value
            self._say(f"incident    {value['elementId']}: {value['errorType']}: {value['errorMessage'][:_MAX_SHOWN]}")


def _shown(variables: dict[str, Any]) -> str:
    text = json.dumps(variables, default=str, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
