"""`/inbound`, `/inbound-instances` and `/tenants/...`: the inbound connectors at work here, and commands for them.

Paths and shapes are those of the original's status API ("Inbound connectors" in Camunda's docs for self-managed connectors). Other
than there, secrets that stand in properties in clear are not shown, `state` and `statistics` are, and an executable can be paused,
resumed and cancelled as well as reset.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from aiohttp import web

from gateway import jsontext
from gateway.admin.application import cross_site, json_answer, not_found, problem
from gateway.admin.replicas import concatenated, everywhere, grouped, more_serious, one_group
from gateway.admin.sources import Activity, HealthState, InboundEntry, Sources
from gateway.observe import masked
from gateway.sdk import InboundElement

_INSTANCES: Final = "ConnectorInstances"
_EXECUTABLE: Final = "ActiveInboundConnector"

_HIDDEN: Final = frozenset(
    {
        *("inbound.type", "deduplicationMode", "deduplicationId", "messageIdExpression", "correlationKeyExpression"),
        *("inbound.activationCondition", "activationCondition", "consumeUnmatchedEvents", "messageTtl"),
        "synchronousResponse",
    }
)
"""The runtime's own properties, which are not part of `data`."""

_COMMANDS: Final = ("reset", "pause", "resume", "cancel")
_MAX_LOGS: Final = 5000  # entries in one answer; of each executable the newest, where there are more
_T = TypeVar("_T")

_AT_ONCE: Final = 50  # executables that are described before others have their turn


def inbound_routes(sources: Sources) -> list[web.AbstractRouteDef]:
    return _Inbound(sources).routes()


class _Inbound:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._status = sources.inbound
        self._view = _View(sources)

    def routes(self) -> list[web.AbstractRouteDef]:
        one = "/inbound-instances/executables/{id}"
        of_type = "/inbound-instances/{type}/executables/{id}"
        return [
            web.get("/inbound", self.all),
            web.get("/tenants/{tenant}/inbound", self.all),
            web.get("/tenants/{tenant}/inbound/{process}/{element}/logs", self.element_logs),
            web.get("/inbound-instances", self.groups),
            web.get("/inbound-instances/metrics", self.metrics),
            web.get("/inbound-instances/metrics/{type}", self.metrics),
            *(web.get(path, self.executable) for path in (one, of_type)),
            *(web.get(f"{path}/health", self.health) for path in (one, of_type)),
            *(web.get(f"{path}/logs", self.logs) for path in (one, of_type)),
            *(web.post(f"{one}/{{command:{command}}}", self.command) for command in _COMMANDS),
            web.get("/inbound-instances/{type}", self.group),
        ]

    # ---- executables ----

    async def all(self, request: web.Request) -> web.Response:
        return json_answer(await self._view.described(self._matching(request)))

    async def groups(self, request: web.Request) -> web.Response:
        async def local() -> list[dict[str, Any]]:
            return await self._grouped(self._matching(request))

        return json_answer(await everywhere(self._sources.replicas, request, local, grouped))

    async def group(self, request: web.Request) -> web.Response:
        wanted = request.match_info["type"]

        async def local() -> dict[str, Any] | None:
            groups = await self._grouped(entry for entry in self._matching(request) if entry.type == wanted)
            return groups[0] if groups else None

        found = await everywhere(self._sources.replicas, request, local, one_group)
        return json_answer(found) if found is not None else not_found(_INSTANCES, wanted)

    async def executable(self, request: web.Request) -> web.Response:
        scoped = request.query.get("appendPhysicalTenantAndTenantToPath", "").lower() == "true"

        async def local() -> dict[str, Any] | None:
            entry = self._entry(request)
            return None if entry is None else self._view.executable(entry, scoped=scoped)

        found = await everywhere(self._sources.replicas, request, local, more_serious)
        return json_answer(found) if found is not None else not_found(_EXECUTABLE, request.match_info["id"])

    async def health(self, request: web.Request) -> web.Response:
        def described(entry: InboundEntry) -> list[dict[str, Any]]:
            return [self._view.health(entry.health) | {"runtimeId": self._sources.runtime_id}]

        return await self._listed(request, described)

    async def logs(self, request: web.Request) -> web.Response:
        def described(entry: InboundEntry) -> list[dict[str, Any]]:
            names, more = ("severity", "tag", "timestamp", "message"), {"runtimeId": self._sources.runtime_id}
            activities = (self._view.activity(activity) for activity in entry.logs)
            return [{name: each[name] for name in names} | more for each in activities]

        return await self._listed(request, described)

    async def _listed(
        self, request: web.Request, described: Callable[[InboundEntry], list[dict[str, Any]]]
    ) -> web.Response:
        async def local() -> list[dict[str, Any]] | None:
            entry = self._entry(request)
            return None if entry is None else self._view.without_secrets(described(entry))

        found = await everywhere(self._sources.replicas, request, local, concatenated)
        return json_answer(found) if found is not None else not_found(_EXECUTABLE, request.match_info["id"])

    async def element_logs(self, request: web.Request) -> web.Response:
        process, element = request.match_info["process"], request.match_info["element"]

        async def local() -> list[Any]:
            return [
                self._view.without_secrets([self._view.activity(activity) for activity in entry.logs])
                for entry in self._matching(request)
                if any(e.element_id == element and e.bpmn_process_id == process for e in entry.elements)
            ]

        return json_answer(await everywhere(self._sources.replicas, request, local, concatenated))

    # ---- figures ----

    async def metrics(self, request: web.Request) -> web.Response:
        wanted = request.match_info.get("type")

        async def local() -> list[dict[str, Any]] | None:
            if wanted is not None and not any(entry.type == wanted for entry in self._status.entries()):
                return None
            return [self._figures(wanted)]

        found = await everywhere(self._sources.replicas, request, local, concatenated)
        return json_answer(found) if found is not None else not_found(_INSTANCES, wanted or "")

    def _figures(self, wanted: str | None) -> dict[str, Any]:
        totals = self._sources.metrics.inbound_totals(wanted)
        activation: dict[str, Any] = {
            "activated": totals.activated,
            "deactivated": totals.deactivated,
            "activationFailed": totals.activation_failed,
        }
        trigger: dict[str, Any] = {
            "triggered": totals.triggered,
            "correlated": totals.correlated,
            "correlationFailed": totals.correlation_failed,
            "activationConditionFailed": totals.activation_condition_failed,
        }
        if totals.last_activated:
            activation["lastActivated"] = totals.last_activated
        if totals.last_triggered:
            trigger["lastTriggered"] = totals.last_triggered
        runtime = {"uptimeSeconds": int(self._sources.metrics.uptime_seconds)}
        return {
            "runtimeId": self._sources.runtime_id,
            "runtime": runtime,
            "activation": activation,
            "trigger": trigger,
        }

    # ---- commands ----

    async def command(self, request: web.Request) -> web.Response:
        """Has every replica do it; an answer is the executable afterwards."""
        if (refused := cross_site(request)) is not None:
            return refused
        conflicts: list[str] = []

        async def local() -> dict[str, Any] | None:
            try:
                await getattr(self._status, request.match_info["command"])(request.match_info["id"])
            except LookupError:
                return None
            except ValueError as e:
                conflicts.append(str(e))
                return None
            entry = self._entry(request)
            return None if entry is None else self._view.executable(entry)

        found = await everywhere(self._sources.replicas, request, local, more_serious)
        if found is not None:
            return json_answer(found)
        if conflicts:
            return problem(409, "Conflict", self._sources.mask(conflicts[0]))
        return not_found(_EXECUTABLE, request.match_info["id"])

    # ---- which ----

    def _entry(self, request: web.Request) -> InboundEntry | None:
        wanted, kind = request.match_info["id"], request.match_info.get("type")
        found = (entry for entry in self._status.entries() if entry.executable_id == wanted)
        return next((entry for entry in found if kind in {None, entry.type}), None)

    def _matching(self, request: web.Request) -> Iterable[InboundEntry]:
        """The executables that the query, and the tenant in the path, ask for."""
        query = request.query
        tenant = request.match_info.get("tenant")
        kind, process, element = query.get("type"), query.get("bpmnProcessId"), query.get("elementId")
        physical = {each.strip() for text in query.getall("physicalTenantIds", ()) for each in text.split(",")} - {""}
        for entry in self._status.entries():
            if tenant not in {None, entry.tenant_id} or kind not in {None, entry.type}:
                continue
            if physical and entry.physical_tenant_id not in physical:
                continue
            if any(process in {None, e.bpmn_process_id} and element in {None, e.element_id} for e in entry.elements):
                yield entry

    async def _grouped(self, entries: Iterable[InboundEntry]) -> list[dict[str, Any]]:
        chosen = list(entries)
        groups: dict[str, dict[str, Any]] = {}
        for entry, described in zip(chosen, await self._view.described(chosen), strict=True):
            group = groups.setdefault(
                entry.type, {"connectorId": entry.type, "connectorName": entry.connector_name, "instances": []}
            )
            group["instances"].append(described)
        return [groups[kind] for kind in sorted(groups)]


# ---- how an executable looks -----------------------------------------------------------------------------------------

_SECRET_NAME: Final = re.compile(
    r"(secret|password|passwd|passphrase|token|(api|access|private|secret|signing)[-_]?key|credentials?"
    r"|connection[-_]?string)$",
    re.IGNORECASE,
)
_REFERENCES: Final = re.compile(r"\s*+(?:=\s*+)?+(?:\{\{[^{}]*+\}\}|secrets\.[\w.-]++|\s++)*+")
_USER_INFO: Final = re.compile(r"(://[^/?#\s\"'@:]{0,100}):[^/?#\s\"'@]{1,200}@")
_MEMBER: Final = re.compile(
    r'([\w-]{0,40}(?:secret|password|token|authorization|api[-_]?key)"?\s*+:\s*+")((?:[^"\\]|\\.)*+)"', re.IGNORECASE
)
_MASK: Final = "***"


def shown(name: str, value: str) -> str:
    """A raw property as it may be seen: without a secret typed in clear.

    References to secrets and expressions without texts of their own stay: they are what someone who looks for a mistake has to see.
    """
    if value and _SECRET_NAME.search(name.rpartition(".")[2]):
        formula = value.lstrip().startswith("=") and '"' not in value
        return value if formula or _REFERENCES.fullmatch(value) else _MASK
    if "://" in value:
        value = _USER_INFO.sub(rf"\1:{_MASK}@", value)
    return _MEMBER.sub(_member, value) if ":" in value else value


def _member(found: re.Match[str]) -> str:
    """A member of an object in an expression, `"Authorization": "Bearer ..."`, for example."""
    return found[0] if "secrets." in found[2] else f'{found[1]}{_MASK}"'


class _View:
    """Executables as JSON."""

    def __init__(self, sources: Sources) -> None:
        self._scoped = sources.scoped_paths
        self._secrets = sources.mask

    def _mask(self, text: str) -> str:
        return self._secrets(text).encode("utf-8", "replace").decode()

    async def described(self, entries: Iterable[InboundEntry]) -> list[dict[str, Any]]:
        """Many, without keeping others from their turn."""
        chosen = list(entries)
        limit = max(1, _MAX_LOGS // max(1, len(chosen)))
        found: list[dict[str, Any]] = []
        for number, entry in enumerate(chosen):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            found.append(self.executable(entry, scoped=True, logs=limit))
        return found

    def executable(self, entry: InboundEntry, *, scoped: bool = False, logs: int = _MAX_LOGS) -> dict[str, Any]:
        """scoped: whether a path with tenants in it is shown as a whole; logs: how many entries, the newest."""
        first = entry.elements[0]
        data = {name: shown(name, value) for name, value in first.properties.items() if name not in _HIDDEN}
        if scoped and self._scoped and data.get("inbound.context"):
            data["inbound.context"] = "/".join((entry.physical_tenant_id, first.tenant_id, data["inbound.context"]))
        described = {
            "executableId": entry.executable_id,
            "type": entry.type,
            "tenantId": entry.tenant_id,
            "elements": [self._element(element, entry.physical_tenant_id) for element in entry.elements],
            "data": data,
            "health": self.health(entry.health),
            "activationTimestamp": entry.activation_timestamp_ms,
            "logs": [self.activity(activity) for activity in entry.logs[-logs:]],
            "physicalTenantId": entry.physical_tenant_id,
            "state": entry.state,
            "statistics": dict(entry.statistics),
        }
        return self.without_secrets(described)

    def without_secrets(self, described: _T) -> _T:
        """The same, unless a secret stands in it: one look at the whole text is much faster than one at each part."""
        try:
            text = jsontext.dumps(described)
        except TypeError:  # objects of connectors in `data` and `details`, which become texts
            text = None
        if text is not None and self._secrets(text) == text:
            return described
        clean: _T = masked(described, self._mask)
        return clean

    @staticmethod
    def _element(element: InboundElement, physical_tenant_id: str) -> dict[str, Any]:
        template = {
            "id": element.template_id,
            "version": element.template_version,
            "icon": element.template_icon,
        }
        return {
            "bpmnProcessId": element.bpmn_process_id,
            "processName": element.process_name,
            "messageName": element.message_name,
            "version": element.version or None,
            "processDefinitionKey": element.process_definition_key,
            "elementId": element.element_id,
            "elementName": element.element_name,
            "elementType": element.kind or None,
            "tenantId": element.tenant_id,
            "physicalTenantId": physical_tenant_id,
            "elementTemplateDetails": template,
            "properties": {name: shown(name, value) for name, value in element.properties.items()},
        }

    def health(self, health: HealthState) -> dict[str, Any]:
        error = None
        if health.error_code is not None or health.error_message is not None:
            error = {"code": health.error_code, "message": health.error_message}
        return {
            "status": health.status,
            "error": error,
            "details": health.details,
            "lastUpdatedAt": _instant(health.last_updated_at) if health.last_updated_at else None,
        }

    def activity(self, activity: Activity) -> dict[str, Any]:
        change = activity.health_change
        return {
            "severity": activity.severity,
            "tag": activity.tag,
            "timestamp": _instant(activity.timestamp),
            "message": activity.message,
            "data": activity.data,
            "healthChange": None if change is None else self.health(change),
        }


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
