"""`/outbound`: the outbound connectors that are registered here, and their figures."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from gateway.admin.application import json_answer
from gateway.admin.brokers import Connectivity
from gateway.admin.sources import OutboundEntry, Sources


def outbound_routes(sources: Sources) -> list[web.AbstractRouteDef]:
    return _Outbound(sources).routes()


class _Outbound:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/outbound", self.all),
            web.get("/outbound/metrics", self.metrics),
            web.get("/outbound/metrics/{type:.+}", self.metrics),
            web.get("/outbound/{type:.+}", self.one),
        ]

    async def all(self, request: web.Request) -> web.Response:
        return json_answer(await self._described(self._sources.outbound.entries()))

    async def one(self, request: web.Request) -> web.Response:
        wanted = request.match_info["type"]
        found = [entry for entry in self._sources.outbound.entries() if entry.type == wanted]
        return json_answer(await self._described(found)) if found else self._missing(wanted)

    async def metrics(self, request: web.Request) -> web.Response:
        wanted = request.match_info.get("type")
        if wanted is not None and not any(entry.type == wanted for entry in self._sources.outbound.entries()):
            return self._missing(wanted)
        totals = self._sources.metrics.totals(wanted)
        job: dict[str, Any] = {"completed": totals.completed, "failed": totals.failed, "bpmnError": totals.bpmn_error}
        if totals.completed + totals.failed + totals.bpmn_error:
            job["executionTime"] = {"meanMs": totals.mean_ms, "maxMs": totals.max_ms}
        if totals.last_completed:
            job["lastCompleted"] = totals.last_completed
        if totals.last_failed:
            job["lastFailed"] = totals.last_failed
        worker = {
            "jobsActivated": totals.jobs_activated,
            "jobsHandled": totals.jobs_handled,
            "streamRecreations": totals.stream_recreations,
        }
        runtime = {"uptimeSeconds": int(self._sources.metrics.uptime_seconds)}
        return json_answer([{"runtimeId": self._sources.runtime_id, "runtime": runtime, "job": job, "worker": worker}])

    @staticmethod
    def _missing(wanted: str) -> web.Response:
        text = f"Data of type 'OutboundConnectorResponse' with id '{wanted[:200]}' not found"
        return web.Response(
            body=text.encode("utf-8", "replace"), status=404, content_type="text/plain", charset="utf-8"
        )

    async def _described(self, entries: Sequence[OutboundEntry]) -> list[dict[str, Any]]:
        brokers = self._sources.brokers
        unknown: list[tuple[Connectivity, list[str]]] = [("UNKNOWN", [])] * len(entries)
        states = await brokers.connectivity(entries) if brokers is not None else unknown
        return [
            {
                "name": entry.name,
                "type": entry.type,
                "inputVariables": list(entry.input_variables),
                **({"timeout": entry.timeout_ms} if entry.timeout_ms is not None else {}),
                "enabled": entry.enabled,
                "runtimeId": self._sources.runtime_id,
                "brokerConnectivityState": state,
                **({"streamIds": ids} if ids else {}),
                "statistics": dict(entry.statistics),
            }
            for entry, (state, ids) in zip(entries, states, strict=True)
        ]
