"""The event flow put together: from the settings to what is discovered, supervised and served."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.admin import Health
from gateway.config import Settings
from gateway.documents import Documents
from gateway.engine import Engine
from gateway.http_client import HttpClient
from gateway.inbound.correlation import Correlator
from gateway.inbound.discovery import Discovery
from gateway.inbound.executable import Environment
from gateway.inbound.ingress import Ingress, IngressLimits, Paths
from gateway.inbound.memory import Memory
from gateway.inbound.properties import Properties
from gateway.inbound.status import InboundStatus
from gateway.inbound.supervisor import Options, Supervisor
from gateway.intrinsic import Intrinsics
from gateway.limits import Permits
from gateway.observe import Metrics
from gateway.registry import RegisteredInbound
from gateway.secrets import Masker, Secrets


@dataclass(frozen=True, slots=True)
class Shared:
    """What both flows of a runtime use."""

    engine: Engine
    http: HttpClient
    documents: Documents
    secrets: Secrets
    intrinsics: Intrinsics
    masker: Masker


@dataclass(frozen=True, slots=True)
class EventFlow:
    """The parts of the event flow."""

    discovery: Discovery
    supervisor: Supervisor
    status: InboundStatus
    ingress: Ingress | None

    async def drain(self, grace: float) -> None:
        """Takes nothing more, and lets what is under way finish, within `grace` seconds and two more."""
        stopping = asyncio.create_task(self.supervisor.stop(grace))
        if self.ingress is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ingress.drain(), grace)
        await stopping


def path_scope(settings: Settings) -> str | None:
    """The first segment of webhooks' paths where they have three."""
    scoped = settings.connector.webhook.append_physical_tenant_and_tenant_to_path
    return _physical_tenant(settings) if scoped else None


def event_flow(
    settings: Settings, registered: Sequence[RegisteredInbound], shared: Shared, metrics: Metrics, health: Health
) -> EventFlow:
    """The event flow over an engine; its supervisor is not started yet."""
    connector = settings.connector
    paths = Paths(path_scope(settings)) if connector.webhook.enabled else None
    cache = connector.inbound.process_definition_cache
    discovery = Discovery(
        shared.engine,
        page_size=connector.process_definition_search.page_size,
        active_versions=connector.polling.active_versions_enabled,
        cache_size=max(0, cache.max_size) if cache.enabled else 0,
    )

    def imported(error: Exception | None) -> None:
        error = error or discovery.last_error
        health.set("processDefinitionImport", error is None, {"operateEnabled": True})

    supervisor = Supervisor(
        discovery,
        {one.type: one.connector for one in registered if one.enabled},
        _environment(settings, shared, paths),
        _options(settings),
        meters=metrics.inbound,
        imported=imported,
    )
    status = InboundStatus(supervisor, _physical_tenant(settings))
    metrics.watch_inbound(status.figures)
    metrics.watch_discovery(lambda: _discovered(discovery))
    ingress = None if paths is None else _ingress(settings, paths, shared.masker)
    return EventFlow(discovery, supervisor, status, ingress)


def _physical_tenant(settings: Settings) -> str:
    return settings.client.physical_tenant_id or "default"


def _environment(settings: Settings, shared: Shared, paths: Paths | None) -> Environment:
    inbound = settings.connector.inbound
    ttl_ms = int(inbound.message.ttl.total_seconds() * 1000)
    result_timeout_ms = int(settings.client.request_timeout.total_seconds() * 1000)
    return Environment(
        engine=shared.engine,
        http=shared.http,
        documents=shared.documents,
        binding=Properties(
            shared.secrets,
            shared.engine,
            intrinsics=shared.intrinsics,
            physical_tenant_id=settings.client.physical_tenant_id,
        ),
        correlation=lambda elements: Correlator(
            elements,
            engine=shared.engine,
            documents=shared.documents,
            default_ttl_ms=ttl_ms,
            result_timeout_ms=result_timeout_ms,
        ),
        permits=Permits(settings.gateway.inbound.max_in_flight),
        memory=Memory(time.monotonic),
        paths=paths,
        mask=shared.masker,
        log_size=inbound.log.size,
    )


def _options(settings: Settings) -> Options:
    polling = settings.connector.polling
    return Options(
        interval=polling.interval.total_seconds(),
        initial_delay=polling.initial_delay.total_seconds(),
        all_or_nothing=settings.gateway.inbound.activation == "all-or-nothing",
        deduplication_format=settings.connector.inbound.deduplication_format,
        physical_tenant_id=_physical_tenant(settings),
    )


def _ingress(settings: Settings, paths: Paths, masker: Masker) -> Ingress:
    limits = settings.gateway.webhook
    return Ingress(
        paths,
        IngressLimits(
            max_body=limits.max_body_size,
            body_seconds=limits.body_timeout.total_seconds(),
            max_in_flight=limits.max_in_flight,
            max_buffered=limits.max_buffered,
            max_per_path=limits.max_in_flight_per_path,
        ),
        base_url=limits.public_url,
        trust_forwarded=limits.forwarded_headers,
        mask=masker,
    )


def _discovered(discovery: Discovery) -> dict[str, float]:
    found = discovery.statistics()
    return {"hits": found.hits, "misses": found.misses, "publish_failures": found.failures}
