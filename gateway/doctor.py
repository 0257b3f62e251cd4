"""`gateway doctor`: is all there that the deployed processes need?

`examine` asks the engine and compares what is deployed with the connectors and secrets of this gateway; it changes nothing.
What it finds is a `Report`: `problems` are what will fail, `notes` are what is worth a look.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway import bpmn
from gateway.admin import OutboundEntry
from gateway.config import Settings, normalized_name
from gateway.engine import DEFAULT_TENANT, Engine, EngineError, InvalidArgument, NotFound, Topology
from gateway.secrets import SecretContext, Secrets, references

_PAGE: Final = 100
_MAX_DEFINITIONS: Final = 5000
_PARALLEL: Final = 4
_ENGINE_SECRET = re.compile(r"camunda\.secrets\.[\w.-]+")
_SHOWN: Final = ("camunda.client.", "gateway.", "server.", "management.")


@dataclass(frozen=True, slots=True)
class Definition:
    """The latest version of a deployed process."""

    key: int
    process_id: str
    version: int
    tenant_id: str


@dataclass(frozen=True, slots=True)
class MissingType:
    """A job type of deployed processes that no connector here works."""

    type: str
    used_by: tuple[str, ...]
    template: bool
    """Whether an element template made the task: then it is meant for a connector, else it may be another worker's."""
    disabled: bool


@dataclass(frozen=True, slots=True)
class MissingSecret:
    name: str
    used_by: tuple[str, ...]


@dataclass(slots=True)
class Report:
    """What was found. Holds names, never a secret's value."""

    target: dict[str, str]
    settings: dict[str, tuple[str, str]]
    cluster: dict[str, Any] | None = None
    definitions: int | None = None
    missing_types: list[MissingType] = field(default_factory=list)
    missing_secrets: list[MissingSecret] = field(default_factory=list)
    connectors: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "healthy": self.healthy}


async def examine(
    settings: Settings, engine: Engine, connectors: Sequence[OutboundEntry], secrets: Secrets, *, timeout: float = 10.0
) -> Report:
    """Looks at everything. `timeout`: seconds for each call to the engine. Never raises EngineError."""
    report = _about_here(settings, connectors)
    try:
        topology = await asyncio.wait_for(engine.topology(timeout=timeout), timeout + 1)
    except (EngineError, TimeoutError) as error:
        report.problems.append(f"the engine cannot be reached at {report.target['grpc']}: {_text(error)}")
        return report
    _about_cluster(report, topology)
    try:
        used = await _usage(engine, report, timeout)
    except (EngineError, TimeoutError, KeyError, ValueError) as error:
        known = isinstance(error, EngineError | TimeoutError)
        why = _text(error) if known else "the answer makes no sense"
        report.problems.append(f"deployed processes cannot be read at {report.target['rest']}: {why}")
        return report
    _judge_types(report, used, connectors)
    await _judge_secrets(report, used, connectors, secrets)
    return report


def _text(error: BaseException) -> str:
    return str(error) or "no answer in time"


def _about_here(settings: Settings, connectors: Sequence[OutboundEntry]) -> Report:
    connection = settings.connection()
    described = settings.describe()
    target = {
        "mode": str(connection.mode),
        "grpc": str(connection.grpc_address),
        "rest": str(connection.rest_address),
        "auth": str(connection.auth.method),
        "tenant": connection.tenant_id,
    }
    shown = {
        name: (value, origin)
        for name, (value, origin) in described.items()
        if origin != "default" and name.startswith(_SHOWN)
    }
    report = Report(target, shown, warnings=list(settings.warnings))
    report.connectors = [{"name": e.name, "type": e.type, "enabled": e.enabled} for e in connectors]
    names = {normalized_name(entry.name) for entry in connectors}
    names |= {configured.name for configured in settings.rules().configured}
    report.notes += [
        f"CONNECTOR_{name}_TYPE or _TIMEOUT is set, but no connector has that name"
        for name in sorted(settings.overridden_connectors() - names)
    ]
    return report


def _about_cluster(report: Report, topology: Topology) -> None:
    brokers = [
        {
            "node": broker.node_id,
            "address": f"{broker.host}:{broker.port}",
            "version": broker.version,
            "partitions": len(broker.partitions),
            "unhealthy": sorted(partition.partition_id for partition in broker.partitions if not partition.healthy),
        }
        for broker in topology.brokers
    ]
    report.cluster = {
        "version": topology.gateway_version,
        "size": topology.cluster_size,
        "partitions": topology.partitions_count,
        "replication": topology.replication_factor,
        "brokers": brokers,
    }
    led = {p.partition_id for broker in topology.brokers for p in broker.partitions if p.leader and p.healthy}
    lost = sorted(set(range(1, topology.partitions_count + 1)) - led)
    if not brokers:
        report.problems.append("the cluster has no brokers")
    elif lost:
        report.problems.append(f"partitions without a healthy leader: {', '.join(map(str, lost))}")
    report.notes += [f"broker {b['node']}: unhealthy partitions {b['unhealthy']}" for b in brokers if b["unhealthy"]]


# ---- what the deployed processes use -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Task:
    """A task with a job type, and the secrets that its inputs name."""

    definition: Definition
    element_id: str
    type: str
    template: bool
    secrets: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.definition.process_id} v{self.definition.version}: {self.element_id}"


async def _definitions(engine: Engine, timeout: float) -> AsyncIterator[Definition]:
    """The latest versions. A cluster that can't select them gives all: then they are picked here."""
    latest: Mapping[str, Any] = {"isLatestVersion": True}
    after: str | None = None
    seen: set[tuple[str, str]] = set()
    for page in range(_MAX_DEFINITIONS // _PAGE):
        order = (("processDefinitionId", "asc"), ("version", "desc"))
        try:
            found = await engine.search(
                "process-definitions", filter=latest, sort=order, limit=_PAGE, after=after, timeout=timeout
            )
        except InvalidArgument:
            if page or not latest:
                raise
            latest = {}
            found = await engine.search("process-definitions", sort=order, limit=_PAGE, timeout=timeout)
        for row in found.items:
            tenant, process_id = str(row.get("tenantId") or DEFAULT_TENANT), str(row["processDefinitionId"])
            if (tenant, process_id) not in seen:
                seen.add((tenant, process_id))
                yield Definition(int(row["processDefinitionKey"]), process_id, int(row.get("version") or 0), tenant)
        after = found.end_cursor
        if after is None or len(found.items) < _PAGE:
            return


async def _usage(engine: Engine, report: Report, timeout: float) -> list[_Task]:
    definitions = [definition async for definition in _definitions(engine, timeout)]
    report.definitions = len(definitions)
    if len(definitions) >= _MAX_DEFINITIONS:
        report.notes.append(f"only the first {_MAX_DEFINITIONS} processes were looked at")
    gate = asyncio.Semaphore(_PARALLEL)

    async def tasks(definition: Definition) -> list[_Task]:
        try:
            async with gate:
                xml = await engine.process_definition_xml(definition.key, timeout=timeout)
            return _tasks(definition, bpmn.parse(xml))
        except (bpmn.BpmnError, NotFound) as error:
            report.notes.append(f"{definition.process_id} v{definition.version} cannot be read: {error}")
            return []

    return [task for found in await asyncio.gather(*map(tasks, definitions)) for task in found]


def _tasks(definition: Definition, definitions: bpmn.Definitions) -> list[_Task]:
    out: list[_Task] = []
    for process in definitions.processes:
        if process.id != definition.process_id:
            continue
        for element in process.walk():
            if element.extensions.task_definition is None:
                continue
            sources = (_ENGINE_SECRET.sub("", mapping.source) for mapping in element.extensions.inputs)
            names = tuple(dict.fromkeys(name for source in sources for name in references(source)))
            job_type = element.extensions.task_definition.type
            out.append(_Task(definition, element.id, job_type, element.template is not None, names))
    return out


# ---- judgements ----------------------------------------------------------------------------------------------------------


def _judge_types(report: Report, used: Sequence[_Task], connectors: Sequence[OutboundEntry]) -> None:
    working = {entry.type for entry in connectors if entry.enabled}
    registered = {entry.type for entry in connectors}
    by_type: dict[str, list[_Task]] = {}
    for task in used:
        if task.type.startswith("="):
            report.notes.append(f"{task.place}: the job type is an expression and was not checked")
        elif task.type not in working:
            by_type.setdefault(task.type, []).append(task)
    for job_type, tasks in sorted(by_type.items()):
        missing = MissingType(
            type=job_type,
            used_by=tuple(sorted({task.place for task in tasks})),
            template=any(task.template for task in tasks),
            disabled=job_type in registered,
        )
        report.missing_types.append(missing)
        what = "is disabled here" if missing.disabled else "has no connector here"
        text = f"job type {job_type} {what}; used by {', '.join(missing.used_by[:3])}"
        (report.problems if missing.template or missing.disabled else report.notes).append(text)


async def _judge_secrets(
    report: Report, used: Sequence[_Task], connectors: Sequence[OutboundEntry], secrets: Secrets
) -> None:
    ours = {entry.type for entry in connectors if entry.enabled}
    absent: dict[str, set[str]] = {}
    for task in used:
        if task.type not in ours:
            continue
        context = SecretContext(task.definition.tenant_id, task.definition.process_id)
        for name in task.secrets:
            try:
                found = await secrets.get(name, context) is not None
            except Exception as error:  # a provider may raise anything; its text may hold what it was asked with
                report.problems.append(f"a provider of secrets failed for {name}: {type(error).__name__}")
                continue
            if not found:
                absent.setdefault(name, set()).add(task.place)
    for name, places in sorted(absent.items()):
        report.missing_secrets.append(MissingSecret(name, tuple(sorted(places))))
        report.problems.append(f"no provider has the secret {name}; used by {', '.join(sorted(places)[:3])}")


# ---- for people ----------------------------------------------------------------------------------------------------------


def show(report: Report, console: Console) -> None:
    """Prints the report."""
    target = report.target
    console.print(
        f"[bold]engine[/] {escape(target['grpc'])} and {escape(target['rest'])}", highlight=False, soft_wrap=True
    )
    console.print(f"       mode {target['mode']}, authentication {target['auth']}", highlight=False, soft_wrap=True)
    if report.cluster is not None:
        cluster = report.cluster
        console.print(
            f"       version {escape(cluster['version'])}, {len(cluster['brokers'])} of {cluster['size']} brokers, "
            f"{cluster['partitions']} partitions, {report.definitions or 0} processes",
            highlight=False,
            soft_wrap=True,
        )
    if report.settings:
        _table(console, ("setting", "value", "from"), [(k, *v) for k, v in report.settings.items()])
    rows = [(entry["name"], entry["type"], "yes" if entry["enabled"] else "no") for entry in report.connectors]
    if rows:
        _table(console, ("connector", "job type", "enabled"), rows)
    for style, word, lines in (
        ("red", "problem", report.problems),
        ("yellow", "warning", report.warnings),
        ("cyan", "note", report.notes),
    ):
        for line in lines:
            console.print(f"[{style}]{word}[/] {escape(line)}", highlight=False, soft_wrap=True)
    if report.healthy:
        console.print("[green]no problems found[/]")


def _table(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
