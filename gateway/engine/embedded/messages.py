"""Messages: the buffer, who waits for them, and the processes that they start.

A message reaches each process once, at an instance that waits for it or at a message start event of the newest version; with
a correlation key there is one instance started by it at a time (docs: components/concepts/messages).
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from gateway import engine as port
from gateway.engine.embedded.definition import Definition
from gateway.engine.embedded.entities import Message, ProcessInstance, Wait

if TYPE_CHECKING:
    from gateway.engine.embedded.execution import Execution

_Address = tuple[str, str, str]  # tenant, name, correlation key


class Messages:
    def __init__(self, execution: "Execution") -> None:
        self._execution = execution
        self._buffer: dict[_Address, list[Message]] = {}
        self._ids: dict[tuple[_Address, str], Message] = {}
        self._waits: dict[_Address, list[Wait]] = {}
        self._starts: dict[tuple[str, str], dict[str, Definition]] = {}  # tenant, name -> newest versions by process id
        self._locks: set[tuple[str, str, str]] = set()  # tenant, process id, correlation key

    def publish(
        self,
        name: str,
        correlation_key: str,
        time_to_live_ms: int,
        message_id: str,
        variables: dict[str, Any],
        tenant_id: str,
    ) -> Message:
        address = (tenant_id, name, correlation_key)
        if message_id and (address, message_id) in self._ids:
            raise port.AlreadyExists(
                "Command 'PUBLISH' rejected with code 'ALREADY_EXISTS': Expected to publish a new message with id "
                f"'{message_id}', but a message with that id was already published"
            )
        execution = self._execution
        message = Message(execution.store.next_key(), name, correlation_key, variables, tenant_id, message_id)
        execution.records.message(message, "PUBLISHED")
        self._correlate(message)
        if time_to_live_ms > 0:
            self._buffer.setdefault(address, []).append(message)
            if message_id:
                self._ids[address, message_id] = message
            message.expires_ms = execution.clock.now_ms() + time_to_live_ms
            execution.after(time_to_live_ms, partial(self._expire, message, address))
        else:
            execution.records.message(message, "EXPIRED")
        return message

    def correlate(
        self, name: str, correlation_key: str, variables: dict[str, Any], tenant_id: str
    ) -> tuple[Message, ProcessInstance]:
        """Raises NotFound when nobody waits for it."""
        message = Message(self._execution.store.next_key(), name, correlation_key, variables, tenant_id, "")
        reached = self._correlate(message)
        if reached is None:
            raise port.NotFound(
                f"Command 'CORRELATE' rejected with code 'NOT_FOUND': Expected to find subscription for message with name "
                f"'{name}' and correlation key '{correlation_key}', but none was found."
            )
        return message, reached

    def _correlate(self, message: Message) -> ProcessInstance | None:
        """To each process once. The first instance that was reached, None when there was none."""
        reached = None
        for wait in list(self._waits.get((message.tenant_id, message.name, message.correlation_key), ())):
            if self._deliver(message, wait):
                reached = reached or wait.element.process
        for definition in list(self._starts.get((message.tenant_id, message.name), {}).values()):
            reached = self._start(message, definition) or reached
        return reached

    def _deliver(self, message: Message, wait: Wait) -> bool:
        process_id = wait.element.process.definition.process_id
        if process_id in message.correlated or not wait.is_open:
            return False
        message.correlated.add(process_id)
        wait.state, wait.updated_ms = "CORRELATED", self._execution.clock.now_ms()
        self._execution.records.message(message, "CORRELATED")
        self._execution.occur(wait, message.variables, again=True)
        return True

    def _start(self, message: Message, definition: Definition) -> ProcessInstance | None:
        lock = (message.tenant_id, definition.process_id, message.correlation_key)
        if definition.process_id in message.correlated or lock in self._locks:
            return None
        message.correlated.add(definition.process_id)
        self._execution.records.message(message, "CORRELATED")
        instance = self._execution.start(
            definition, definition.message_starts[message.name], message.variables, event=True
        )
        if message.correlation_key:
            self._locks.add(lock)
            instance.start_lock = lock
        return instance

    def _expire(self, message: Message, address: _Address) -> None:
        buffered = self._buffer[address]
        buffered.remove(message)
        if not buffered:
            del self._buffer[address]
        if message.message_id:
            del self._ids[address, message.message_id]
        self._execution.records.message(message, "EXPIRED")

    # -- who waits

    def subscribe(self, wait: Wait) -> None:
        """The wait is open: for a message of the buffer, else for one to come."""
        if not wait.is_open:
            return
        process = wait.element.process
        process.subscriptions.append(wait)
        address = (process.tenant_id, wait.message_name or "", wait.correlation_key)
        self._waits.setdefault(address, []).append(wait)
        for message in list(self._buffer.get(address, ())):
            self._deliver(message, wait)

    def unsubscribe(self, wait: Wait) -> None:
        address = (wait.element.process.tenant_id, wait.message_name or "", wait.correlation_key)
        waits = self._waits.get(address, [])
        if wait in waits:
            waits.remove(wait)
            if not waits:
                del self._waits[address]
        if wait.state == "CREATED":
            wait.state, wait.updated_ms = "DELETED", self._execution.clock.now_ms()

    # -- start events

    def move_starts(self, before: Definition | None, to: Definition | None) -> None:
        """Another version takes over the message start events; messages of before do not start it."""
        if before is not None:
            for name in before.message_starts:
                del self._starts[before.tenant_id, name][before.process_id]
        if to is not None:
            for name in to.message_starts:
                self._starts.setdefault((to.tenant_id, name), {})[to.process_id] = to

    def instance_ended(self, process: ProcessInstance) -> None:
        """Frees its correlation key for the next message of the buffer."""
        lock = process.start_lock
        if lock is None:
            return
        self._locks.remove(lock)
        tenant_id, process_id, key = lock
        definition = self._execution.store.latest(tenant_id, process_id)
        names = definition.message_starts if definition is not None else {}
        waiting = [message for name in names for message in self._buffer.get((tenant_id, name, key), ())]
        for message in sorted(waiting, key=lambda one: one.key):
            if definition is not None and self._start(message, definition) is not None:
                return
