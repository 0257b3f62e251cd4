"""Health: what is known of the parts of the process, and the groups that an orchestrator asks for.

Paths and shapes are those of Spring Boot's actuator ("Production-ready Features" in Spring Boot's reference), with two differences
that keep a gateway from being restarted for its engine's absence: liveness says that the event loop answers; readiness stays once
it was reached, until the process is told to stop. The engine's absence shows in `/actuator/health`.
"""

import os
from collections.abc import Mapping
from typing import Any, Final

from gateway.engine import Topology

_MIN_FREE_DISK: Final = 10 * 1024**2


class Health:
    """What is known of the parts of the process. Written by those who know, read by the endpoints.

    `ready` is set once, when the engine was reached and what must be imported first is imported; `stopping` from SIGTERM on.
    """

    def __init__(self) -> None:
        self._parts: dict[str, tuple[bool, dict[str, Any]]] = {"zeebeClient": (False, {})}
        self.ready = False
        self.stopping = False

    def set(self, name: str, up: bool, details: Mapping[str, Any] | None = None) -> None:
        """States of one part (`zeebeClient`, `processDefinitionImport`, ...) whether it works, and what else is to tell."""
        self._parts[name] = (up, dict(details or {}))

    def set_topology(self, topology: Topology | None) -> None:
        """The engine's part, from its topology: up with at least one broker and one healthy partition; None: no answer."""
        brokers = topology.brokers if topology else ()
        healthy = any(partition.healthy for broker in brokers for partition in broker.partitions)
        details = {"numBrokers": len(brokers), "anyPartitionHealthy": healthy} if topology else {}
        self.set("zeebeClient", bool(brokers) and healthy, details)

    def imported(self, error: Exception | None) -> None:
        """Whether the last look at what is deployed went well, or why not. Before the first, or without inbound connectors, there
        is no such part. Readiness is not touched: what was known before goes on.
        """
        details: dict[str, Any] = {"operateEnabled": True}
        if error is not None:
            details["error"] = f"{type(error).__name__}: {error}"[:500]
        self.set("processDefinitionImport", error is None, details)

    def report(self, group: str | None = None) -> tuple[int, dict[str, Any]] | None:
        """HTTP status and body of a group (None: all parts) or of one part; None when there is no such thing."""
        if group == "liveness":
            return _report({"livenessState": "UP"})
        if group == "readiness":
            state = "OUT_OF_SERVICE" if self.stopping else "UP" if self.ready else "DOWN"
            return _report({"readinessState": state})
        if group == "startup":
            return _report({"startupCheck": "UP" if self.ready else "DOWN"})
        parts = {name: _part(up, details) for name, (up, details) in self._parts.items()}
        parts |= {"startupCheck": _part(self.ready, {}), "ping": _part(True, {}), "diskSpace": _disk()}
        if group is None:
            up = all(part["status"] == "UP" for part in parts.values())
            body = {
                "status": "UP" if up else "DOWN",
                "components": parts,
                "groups": ["liveness", "readiness", "startup"],
            }
            return (200 if up else 503), body
        if group not in parts:
            return None
        return (200 if parts[group]["status"] == "UP" else 503), parts[group]


def _report(states: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    (status,) = states.values()
    components = {name: {"status": state} for name, state in states.items()}
    return (200 if status == "UP" else 503), {"status": status, "components": components}


def _part(up: bool, details: dict[str, Any]) -> dict[str, Any]:
    return {"status": "UP" if up else "DOWN", **({"details": details} if details else {})}


def _disk() -> dict[str, Any]:
    try:
        found = os.statvfs(".")
    except (OSError, AttributeError):  # no such call on Windows; a folder that is gone says nothing of the disk
        return _part(True, {})
    free = found.f_bavail * found.f_frsize
    details = {"total": found.f_blocks * found.f_frsize, "free": free, "threshold": _MIN_FREE_DISK}
    return _part(free >= _MIN_FREE_DISK, details)
