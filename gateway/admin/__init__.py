"""What the gateway says of itself over HTTP: health, metrics, log levels, the state of the connectors; and the servers for it.

The paths, shapes and texts are those of the connector runtime and of Spring Boot's actuator.
"""

from gateway.admin.actuator import actuator_routes
from gateway.admin.application import MAX_BODY, application, json_answer, problem
from gateway.admin.brokers import BrokerStreams, Connectivity
from gateway.admin.connections import ServerLimits
from gateway.admin.health import Health
from gateway.admin.replicas import Replicas
from gateway.admin.server import serve, serve_all, status_routes
from gateway.admin.sources import (
    Activity,
    HealthState,
    InboundEntry,
    InboundStatus,
    NoInbound,
    NoOutbound,
    OutboundEntry,
    OutboundStatus,
    Sources,
)

__all__ = [
    "MAX_BODY",
    "Activity",
    "BrokerStreams",
    "Connectivity",
    "Health",
    "HealthState",
    "InboundEntry",
    "InboundStatus",
    "NoInbound",
    "NoOutbound",
    "OutboundEntry",
    "OutboundStatus",
    "Replicas",
    "ServerLimits",
    "Sources",
    "actuator_routes",
    "application",
    "json_answer",
    "problem",
    "serve",
    "serve_all",
    "status_routes",
]
