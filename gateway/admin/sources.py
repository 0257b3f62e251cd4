"""What the endpoints read from: the contracts that the flows fulfil."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gateway.admin.health import Health
from gateway.observe import Metrics
from gateway.sdk import InboundElement
from gateway.sdk.inbound import Severity, Status

if TYPE_CHECKING:
    from gateway.admin.brokers import BrokerStreams
    from gateway.admin.replicas import Replicas


@dataclass(frozen=True, slots=True)
class OutboundEntry:
    """One registered outbound connector. `timeout_ms` is None where the worker's default counts."""

    name: str
    type: str
    input_variables: tuple[str, ...] = ()
    timeout_ms: int | None = None
    enabled: bool = True
    statistics: Mapping[str, float] = field(default_factory=dict)


class OutboundStatus(Protocol):
    """The job flow, as the status API sees it."""

    def entries(self) -> Sequence[OutboundEntry]:
        """All registered connectors, disabled ones too. Must not block."""


class NoOutbound:
    """No outbound connectors."""

    def entries(self) -> Sequence[OutboundEntry]:
        return ()


@dataclass(frozen=True, slots=True)
class HealthState:
    """How an executable fares, since when (epoch seconds)."""

    status: Status
    error_code: str | None = None
    error_message: str | None = None
    details: Mapping[str, Any] | None = None
    last_updated_at: float = 0.0

    def same_as(self, other: "HealthState") -> bool:
        """Whether both say the same, whenever that was."""
        return _facts(self) == _facts(other)


def _facts(health: HealthState) -> tuple[Any, ...]:
    return health.status, health.error_code, health.error_message, health.details


@dataclass(frozen=True, slots=True)
class Activity:
    """An entry of an executable's activity log. timestamp: epoch seconds; health_change: the health that it brought."""

    severity: Severity
    tag: str
    timestamp: float
    message: str
    data: Mapping[str, Any] | None = None
    health_change: HealthState | None = None


@dataclass(frozen=True, slots=True)
class InboundEntry:
    """One executable, or what would be one if its definition were valid.

    elements: at least one; one that cannot be used has an empty `kind` and version 0 where these are unknown. state: in words,
    lower case. statistics: names as in `gateway.observe.INBOUND_STATISTICS`.
    """

    executable_id: str
    type: str
    connector_name: str
    tenant_id: str
    physical_tenant_id: str
    elements: Sequence[InboundElement]
    health: HealthState
    activation_timestamp_ms: int | None = None
    logs: Sequence[Activity] = ()
    state: str = "activated"
    statistics: Mapping[str, float] = field(default_factory=dict)


class InboundStatus(Protocol):
    """The event flow, as the status API sees it.

    The four commands raise LookupError when there is no such executable (any more), ValueError, with a text for people, when its
    state does not allow it. What they return is not looked at: `entries` tells how the executable is afterwards.
    """

    def entries(self) -> Sequence[InboundEntry]:
        """All executables, those that don't run and invalid ones too. Must not block."""

    async def reset(self, executable_id: str) -> object:
        """Stops it, and starts it anew: settings and secrets are read again."""

    async def pause(self, executable_id: str) -> object:
        """Stops it until it is resumed."""

    async def resume(self, executable_id: str) -> object:
        """Starts what was paused."""

    async def cancel(self, executable_id: str) -> object:
        """Stops it until it is reset."""


class NoInbound:
    """No inbound connectors."""

    def entries(self) -> Sequence[InboundEntry]:
        return ()

    async def reset(self, executable_id: str) -> None:
        raise LookupError(executable_id)

    pause = resume = cancel = reset


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the endpoints read from."""

    health: Health
    metrics: Metrics
    runtime_id: str
    outbound: OutboundStatus = field(default_factory=NoOutbound)
    inbound: InboundStatus = field(default_factory=NoInbound)
    brokers: "BrokerStreams | None" = None
    """None: the brokers are not asked (`camunda.connector.broker.monitoring.enabled` is false)."""
    replicas: "Replicas | None" = None
    """None: there are no others (`camunda.connector.headless.serviceurl` is not set)."""
    scoped_paths: bool = False
    """Whether webhooks have their tenants in their paths (`camunda.connector.webhook.append-physical-tenant-and-tenant-to-path`)."""
    mask: Callable[[str], str] = str
    """Takes secrets out of a text."""
