"""`/outbound`: the outbound connectors that are registered here, and their figures."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from gateway.admin.application import json_answer, not_found
from gateway.admin.brokers import Connectivity
from gateway.admin.replicas import concatenated, everywhere
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
        async def local() -> list[dict[str, Any]]:
            return await self._described(self._sources.outbound.entries())

        return json_answer(await everywhere(self._sources.replicas, request, local, concatenated))

    async def one(self, request: web.Request) -> web.Response:
        wanted = request.match_info["type"]

        async def local() -> list[dict[str, Any]] | None:
            found = [entry for entry in self._sources.outbound.entries() if entry.type == wanted]
            return await self._described(found) if found else None

        return self._listed(wanted, await everywhere(self._sources.replicas, request, local, concatenated))

    async def metrics(self, request: web.Request) -> web.Response:
        wanted = request.match_info.get("type")

        async def local() -> list[dict[str, Any]] | None:
            if wanted is not None and not any(entry.type == wanted for entry in self._sources.outbound.entries()):
                return None
            return [self._figures(wanted)]

        return self._listed(wanted or "", await everywhere(self._sources.replicas, request, local, concatenated))

    @staticmethod
    def _listed(wanted: str, found: list[dict[str, Any]] | None) -> web.Response:
        return json_answer(found) if found is not None else not_found("OutboundConnectorResponse", wanted)

    def _figures(self, wanted: str | None) -> dict[str, Any]:
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
        return {"runtimeId": self._sources.runtime_id, "runtime": runtime, "job": job, "worker": worker}

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
