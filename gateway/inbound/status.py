"""The event flow as the status API and the metrics see it."""

import hashlib
from collections.abc import Iterator

from gateway.admin import HealthState, InboundEntry
from gateway.inbound.elements import InvalidElement
from gateway.inbound.executable import Executable
from gateway.inbound.supervisor import Supervisor
from gateway.observe import InboundFigures
from gateway.sdk import InboundElement, Point


class InboundStatus:
    """Reads a supervisor, and passes commands on to it. physical_tenant_id: the engine's, as all entries have it."""

    def __init__(self, supervisor: Supervisor, physical_tenant_id: str) -> None:
        self._supervisor = supervisor
        self._physical_tenant_id = physical_tenant_id
        self.reset = supervisor.reset
        self.pause = supervisor.pause
        self.resume = supervisor.resume
        self.cancel = supervisor.cancel

    def entries(self) -> list[InboundEntry]:
        running = [self._entry(each) for each in self._supervisor.executables.values()]
        return running + [self._unusable(each) for each in self._supervisor.invalid]

    def figures(self) -> Iterator[InboundFigures]:
        """What is measured of each executable now."""
        for each in self._supervisor.executables.values():
            first = each.group.first
            yield InboundFigures(
                each.executable_id,
                first.type,
                first.bpmn_process_id,
                first.element_id,
                each.state.value,
                each.activity.health.status,
                each.figures(),
            )

    def _entry(self, executable: Executable) -> InboundEntry:
        connector, activated = executable.connector, executable.activation_timestamp
        return InboundEntry(
            executable_id=executable.executable_id,
            type=executable.group.first.type,
            connector_name=connector.name if connector is not None else executable.group.first.type,
            tenant_id=executable.tenant_id,
            physical_tenant_id=self._physical_tenant_id,
            elements=executable.elements,
            health=executable.activity.health,
            activation_timestamp_ms=None if activated is None else int(activated * 1000),
            logs=executable.activity.entries(),
            state=executable.state.value,
            statistics=executable.figures(),
        )

    def _unusable(self, invalid: InvalidElement) -> InboundEntry:
        name = f"{invalid.tenant_id}\0{invalid.process_definition_key}\0{invalid.element_id}"
        element = InboundElement(
            element_id=invalid.element_id,
            element_name=None,
            kind="",
            point=Point.MESSAGE,
            bpmn_process_id=invalid.bpmn_process_id,
            process_name=None,
            version=0,
            process_definition_key=invalid.process_definition_key,
            tenant_id=invalid.tenant_id,
            properties=invalid.properties,
        )
        return InboundEntry(
            executable_id=hashlib.sha256(name.encode()).hexdigest(),
            type=invalid.type,
            connector_name=invalid.type,
            tenant_id=invalid.tenant_id,
            physical_tenant_id=self._physical_tenant_id,
            elements=(element,),
            health=HealthState("DOWN", None, f"Invalid connector definition: {invalid.reason}"),
            state="invalid definition",
        )
