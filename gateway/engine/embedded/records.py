"""What happened, as records: for tests, the console and whoever listens."""

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.engine.embedded.definition import Definition
from gateway.engine.embedded.entities import ElementInstance, Incident, Job, Message


@dataclass(frozen=True, slots=True)
class Record:
    """An event. value_type: `PROCESS`, `PROCESS_INSTANCE`, `JOB`, `INCIDENT`, `VARIABLE`, `MESSAGE`; `key` is the entity's."""

    position: int
    timestamp_ms: int
    value_type: str
    intent: str
    key: int
    value: dict[str, Any]


Listener = Callable[[Record], None]


class RecordLog:
    """The newest records, and listeners that get each as it happens. A listener must not call the engine."""

    def __init__(self, limit: int, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._positions = itertools.count(1)
        self._log: deque[Record] = deque(maxlen=limit)
        self._listeners: list[Listener] = []
        self.is_on = limit > 0

    def __iter__(self) -> Any:
        return iter(tuple(self._log))

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Returns what ends it."""
        self._listeners.append(listener)
        self.is_on = True

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)
            self.is_on = bool(self._listeners) or bool(self._log.maxlen)

        return stop

    def _emit(self, value_type: str, intent: str, key: int, value: dict[str, Any]) -> None:
        record = Record(next(self._positions), self._now_ms(), value_type, intent, key, value)
        self._log.append(record)
        for listener in tuple(self._listeners):
            listener(record)

    def process(self, definition: Definition, intent: str) -> None:
        if self.is_on:
            value = {
                "bpmnProcessId": definition.process_id,
                "version": definition.version,
                "processDefinitionKey": definition.key,
                "resourceName": definition.resource_name,
                "tenantId": definition.tenant_id,
            }
            self._emit("PROCESS", intent, definition.key, value)

    def element(self, element: ElementInstance, intent: str) -> None:
        if self.is_on:
            value = {
                **_where(element),
                "bpmnElementType": element.node.type,
                "flowScopeKey": -1 if element.parent is None else element.parent.key,
                "version": element.process.definition.version,
            }
            self._emit("PROCESS_INSTANCE", intent, element.key, value)

    def job(self, job: Job, intent: str) -> None:
        if self.is_on:
            value = {
                **_where(job.element),
                "type": job.type,
                "worker": job.worker,
                "retries": job.retries,
                "deadline": job.deadline_ms,
                "errorMessage": job.error_message or "",
                "errorCode": job.error_code or "",
                "elementInstanceKey": job.element.key,
            }
            self._emit("JOB", intent, job.key, value)

    def incident(self, incident: Incident, intent: str) -> None:
        if self.is_on:
            value = {
                **_where(incident.element),
                "errorType": incident.error_type,
                "errorMessage": incident.error_message,
                "jobKey": incident.job.key if incident.job else -1,
                "elementInstanceKey": incident.element.key,
            }
            self._emit("INCIDENT", intent, incident.key, value)

    def variable(self, scope: ElementInstance, name: str, value: Any, intent: str) -> None:
        """`value` is as the engine holds it: parsed JSON."""
        if self.is_on:
            self._emit(
                "VARIABLE", intent, scope.key, {**_where(scope), "scopeKey": scope.key, "name": name, "value": value}
            )

    def message(self, message: Message, intent: str) -> None:
        if self.is_on:
            value = {
                "name": message.name,
                "correlationKey": message.correlation_key,
                "messageId": message.message_id,
                "variables": message.variables,
                "tenantId": message.tenant_id,
            }
            self._emit("MESSAGE", intent, message.key, value)


def _where(element: ElementInstance) -> dict[str, Any]:
    process = element.process
    return {
        "processInstanceKey": process.key,
        "bpmnProcessId": process.definition.process_id,
        "processDefinitionKey": process.definition.key,
        "elementId": element.node.id,
        "tenantId": process.tenant_id,
    }
