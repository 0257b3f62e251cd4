"""The engine in memory: the port's commands and queries on one event loop.

For development, demonstrations and tests. It keeps nothing: production is a Zeebe cluster. Each command changes the state
at once and as a whole; nothing of it waits, but for the calls that wait by contract (polls, streams, results).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gateway import bpmn, feel, jsontext
from gateway import engine as port
from gateway.engine import DEFAULT_TENANT
from gateway.engine.embedded import search
from gateway.engine.embedded.clock import Clock, SystemClock
from gateway.engine.embedded.definition import Compiled, Definition, Node, compile_process
from gateway.engine.embedded.documents import Documents
from gateway.engine.embedded.entities import Incident, ProcessInstance
from gateway.engine.embedded.execution import Execution
from gateway.engine.embedded.expressions import Expression, Now, to_variable
from gateway.engine.embedded.jobs import MAX_PAYLOAD, Stream
from gateway.engine.embedded.records import Listener, Record, RecordLog
from gateway.engine.embedded.store import Store
from gateway.engine.embedded.variables import parse_variables

_LONG_POLL_MS = 10_000
_WITH_RESULT_MS = 10_000
_NO_START_AT = frozenset({"startEvent", "boundaryEvent"})


class EmbeddedEngine:
    """An `Engine`. Use it on one event loop; it starts no threads and needs no start.

    clock: `VirtualClock()` for tests. version: what it claims to be; 8.9 adds the evaluation of expressions and the
    statistics of message subscriptions, 8.10 the state of process definitions. tenants: with more than the default one,
    multi-tenancy is on. keep_finished: so many ended instances stay visible; keep_records: so many of the newest records
    (0: none, which is faster).
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        version: str = "8.8.9",
        tenants: Iterable[str] = (DEFAULT_TENANT,),
        keep_finished: int = 1000,
        keep_records: int = 10_000,
        document_store_id: str = "in-memory",
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self._version = version
        self._tenants = frozenset(tenants)
        self._store = Store(keep_finished, version=_version(version), tenants=self._tenants)
        self._records = RecordLog(keep_records, self._clock.now_ms)
        self._execution = Execution(self._store, self._clock, self._records)
        self._documents = Documents(document_store_id, self._execution)
        self._closed = False

    # -- deployments

    async def topology(self, *, timeout: float | None = None) -> port.Topology:
        self._open()
        broker = port.Broker(0, "localhost", 26501, self._version, (port.Partition(1, healthy=True, leader=True),))
        return port.Topology(1, 1, 1, self._version, (broker,))

    async def deploy(
        self, resources: Sequence[port.Resource], *, tenant_id: str = DEFAULT_TENANT, timeout: float | None = None
    ) -> list[port.ProcessDefinition]:
        self._check("DeployResource", tenant_id)
        if not resources:
            raise port.InvalidArgument("Expected to deploy at least one resource, but none was given")
        if sum(len(resource.content) for resource in resources) > MAX_PAYLOAD:
            raise port.ResourceExhausted(f"The resources are larger than the maximum of {MAX_PAYLOAD} bytes")
        compiled: list[tuple[port.Resource, bpmn.Process, Compiled]] = []
        problems: list[str] = []
        for resource in resources:
            found, wrong = _compile(resource, self._now)
            compiled += [(resource, process, one) for process, one in found]
            problems += wrong
        ids = [process.id for _, process, _ in compiled]
        problems += [
            f"Duplicated process id '{id_}' in one deployment" for id_ in sorted({i for i in ids if ids.count(i) > 1})
        ]
        if problems:
            text = "\n".join(problems)
            raise port.InvalidArgument(
                f"Expected to deploy new resources, but encountered the following errors:\n{text}"
            )
        answer = [_definition_of(self._add(resource, process, one, tenant_id)) for resource, process, one in compiled]
        self._execution.run()
        return answer

    def _add(self, resource: port.Resource, process: bpmn.Process, compiled: Compiled, tenant_id: str) -> Definition:
        latest = self._store.latest(tenant_id, process.id)
        if latest is not None and latest.content == resource.content:
            return latest
        definition = Definition(
            key=self._store.next_key(),
            process_id=process.id,
            version=self._store.next_version(tenant_id, process.id),
            name=process.name,
            version_tag=process.version_tag,
            resource_name=resource.name,
            content=resource.content,
            root=compiled.root,
            message_starts=compiled.message_starts,
            tenant_id=tenant_id,
        )
        self._store.add_definition(definition)
        self._execution.messages.move_starts(latest, definition)
        self._records.process(definition, "CREATED")
        return definition

    async def delete_process_definition(self, process_definition_key: int, *, timeout: float | None = None) -> None:
        """Takes a version away; of the latest the one before takes over. Its instances go on. NotFound when there is none."""
        self._open()
        definition = self._store.definitions.get(process_definition_key)
        if definition is None:
            raise port.NotFound(
                f"Expected to delete resource but no resource found with key '{process_definition_key}'"
            )
        was_latest = self._store.latest(definition.tenant_id, definition.process_id) is definition
        self._store.remove_definition(definition)
        if was_latest:
            previous = self._store.latest(definition.tenant_id, definition.process_id)
            self._execution.messages.move_starts(definition, previous)
        self._records.process(definition, "DELETED")

    # -- instances

    async def create_process_instance(
        self,
        *,
        bpmn_process_id: str = "",
        process_definition_key: int = 0,
        version: int = -1,
        variables: str = "{}",
        tenant_id: str = DEFAULT_TENANT,
        start_element_id: str | None = None,
        timeout: float | None = None,
    ) -> port.ProcessInstance:
        self._check("CreateProcessInstance", tenant_id)
        values = parse_variables(variables)
        definition = self._definition(bpmn_process_id, process_definition_key, version, tenant_id)
        instance = self._execution.start(definition, _start_node(definition, start_element_id), values)
        self._execution.run()
        return _instance_of(instance)

    async def create_process_instance_with_result(
        self,
        *,
        bpmn_process_id: str = "",
        process_definition_key: int = 0,
        version: int = -1,
        variables: str = "{}",
        tenant_id: str = DEFAULT_TENANT,
        fetch_variables: Sequence[str] = (),
        request_timeout_ms: int = 10_000,
        timeout: float | None = None,
    ) -> port.ProcessInstance:
        self._check("CreateProcessInstanceWithResult", tenant_id)
        values = parse_variables(variables)
        definition = self._definition(bpmn_process_id, process_definition_key, version, tenant_id)
        instance = self._execution.start(definition, _start_node(definition, None), values)
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        instance.on_completion.append(partial(_answer_result, ended, tuple(fetch_variables)))
        wait_ms = _shortest(request_timeout_ms if request_timeout_ms > 0 else _WITH_RESULT_MS, timeout)
        due = self._execution.after(wait_ms, partial(_answer_late, ended, instance.key, wait_ms))
        try:
            self._execution.run()
            result = await ended
        finally:
            self._execution.schedule.cancel(due)
        return _instance_of(instance, result)

    def _definition(self, process_id: str, key: int, version: int, tenant_id: str) -> Definition:
        if key > 0:
            by_key = self._store.definitions.get(key)
            if by_key is None or by_key.tenant_id != tenant_id:
                raise port.NotFound(f"Expected to find process definition with key '{key}', but none found")
            return by_key
        if not process_id:
            raise port.InvalidArgument(
                "Expected a bpmnProcessId or a processDefinitionKey to create an instance of, but none was given"
            )
        versions = self._store.versions(tenant_id, process_id)
        if not versions:
            raise port.NotFound(f"Expected to find process definition with process ID '{process_id}', but none found")
        if version < 0:
            return versions[-1]
        for definition in versions:
            if definition.version == version:
                return definition
        raise port.NotFound(
            f"Expected to find process definition with process ID '{process_id}' and version '{version}', but none found"
        )

    async def cancel_process_instance(self, process_instance_key: int, *, timeout: float | None = None) -> None:
        """Ends an instance. NotFound when there is none at work with this key."""
        self._open()
        instance = self._store.open_instances.get(process_instance_key)
        if instance is None:
            raise port.NotFound(
                f"Expected to cancel a process instance with key '{process_instance_key}', but no such process was found"
            )
        self._execution.cancel(instance)
        self._execution.run()

    async def set_variables(
        self, scope_key: int, variables: str, *, local: bool = False, timeout: float | None = None
    ) -> None:
        """Sets variables as seen from an element instance, or in its own scope when `local`."""
        self._open()
        values = parse_variables(variables)
        scope = self._store.elements.get(scope_key)
        if scope is None:
            raise port.NotFound(
                f"Expected to update variables for element with key '{scope_key}', but no such element was found"
            )
        if local:
            self._execution.set_local_variables(scope, values)
        else:
            self._execution.set_variables(scope, values)
        self._execution.run()

    async def resolve_incident(
        self, incident_key: int, *, retries: int | None = None, timeout: float | None = None
    ) -> None:
        """Goes on where the incident happened; `retries` are given to its job first."""
        self._open()
        incident = self._store.incidents.get(incident_key)
        if incident is None:
            raise port.NotFound(
                f"Expected to resolve incident with key '{incident_key}', but no such incident was found"
            )
        if retries is not None and incident.job is not None:
            self._execution.jobs.update_retries(incident.job.key, retries)
        self._execution.resolve(incident)
        self._execution.run()

    # -- jobs

    def stream_jobs(self, activation: port.JobActivation, *, on_silent: Callable[[], None] | None = None) -> Stream:
        try:
            self._check_activation(activation, 1)
        except port.EngineError as error:
            return Stream(activation, error)
        return self._execution.jobs.stream(activation)

    async def activate_jobs(
        self,
        activation: port.JobActivation,
        max_jobs: int,
        *,
        request_timeout_ms: int = -1,
        timeout: float | None = None,
    ) -> list[port.Job]:
        self._check_activation(activation, max_jobs)
        jobs = self._execution.jobs.activate(activation, max_jobs)
        self._execution.run()
        if jobs or request_timeout_ms < 0:
            return jobs
        wait_ms = _shortest(request_timeout_ms or _LONG_POLL_MS, timeout)
        return await self._execution.jobs.poll(activation, max_jobs, wait_ms)

    def _check_activation(self, activation: port.JobActivation, max_jobs: int) -> None:
        for tenant_id in activation.tenant_ids:
            self._check("ActivateJobs", tenant_id)
        for name, ok, wanted, value in (
            ("type", bool(activation.type.strip()), "not be blank", activation.type),
            ("worker", bool(activation.worker.strip()), "not be blank", activation.worker),
            ("timeout", activation.timeout_ms > 0, "be greater than zero", activation.timeout_ms),
            ("maxJobsToActivate", max_jobs > 0, "be greater than zero", max_jobs),
            ("tenantIds", bool(activation.tenant_ids), "not be empty", ()),
        ):
            if not ok:
                raise port.InvalidArgument(f"Expected to activate jobs with {name} to {wanted}, but it was '{value}'")

    async def complete_job(
        self, job_key: int, variables: str, *, result: port.AdHocResult | None = None, timeout: float | None = None
    ) -> None:
        self._open()
        self._execution.jobs.complete(job_key, parse_variables(variables), result)
        self._execution.run()

    async def fail_job(
        self,
        job_key: int,
        *,
        retries: int,
        message: str,
        backoff_ms: int = 0,
        variables: str | None = None,
        timeout: float | None = None,
    ) -> None:
        self._open()
        self._execution.jobs.fail(job_key, retries, message, backoff_ms, parse_variables(variables))
        self._execution.run()

    async def throw_error(
        self,
        job_key: int,
        *,
        code: str,
        message: str | None = None,
        variables: str | None = None,
        timeout: float | None = None,
    ) -> None:
        self._open()
        self._execution.jobs.throw(job_key, code, message or "", parse_variables(variables))
        self._execution.run()

    async def update_job_timeout(self, job_key: int, timeout_ms: int, *, timeout: float | None = None) -> None:
        self._open()
        if timeout_ms < 0:
            raise port.InvalidArgument(
                f"Expected the timeout of job with key '{job_key}' not to be negative, but it was '{timeout_ms}'"
            )
        self._execution.jobs.update_timeout(job_key, timeout_ms)
        self._execution.run()

    async def update_job_retries(self, job_key: int, retries: int, *, timeout: float | None = None) -> None:
        """Sets the retries of a job, most often of one with an incident that is resolved next."""
        self._open()
        self._execution.jobs.update_retries(job_key, retries)

    # -- messages

    async def publish_message(
        self,
        *,
        name: str,
        correlation_key: str = "",
        time_to_live_ms: int = 0,
        message_id: str = "",
        variables: str = "{}",
        tenant_id: str = DEFAULT_TENANT,
        timeout: float | None = None,
    ) -> int:
        self._check("PublishMessage", tenant_id)
        if not name:
            raise port.InvalidArgument("Expected to publish a message with a name, but the name was empty")
        values = parse_variables(variables)
        message = self._execution.messages.publish(
            name, correlation_key, time_to_live_ms, message_id, values, tenant_id
        )
        self._execution.run()
        return message.key

    async def correlate_message(
        self,
        *,
        name: str,
        correlation_key: str = "",
        variables: str = "{}",
        tenant_id: str = DEFAULT_TENANT,
        timeout: float | None = None,
    ) -> port.MessageCorrelation:
        self._check("CorrelateMessage", tenant_id)
        if not name:
            raise port.InvalidArgument("Expected to correlate a message with a name, but the name was empty")
        values = parse_variables(variables)
        message, reached = self._execution.messages.correlate(name, correlation_key, values, tenant_id)
        self._execution.run()
        return port.MessageCorrelation(message.key, reached.key, tenant_id)

    # -- queries

    async def search(
        self,
        resource: str,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the API's own word
        sort: Sequence[tuple[str, str]] = (),
        limit: int = 100,
        after: str | None = None,
        timeout: float | None = None,
    ) -> port.SearchPage:
        self._open()
        return search.run(self._store, resource, filter or {}, sort, limit, after)

    async def process_definition(
        self, process_definition_key: int, *, timeout: float | None = None
    ) -> port.ProcessDefinition:
        return _definition_of(self._deployed(process_definition_key))

    async def process_definition_xml(self, process_definition_key: int, *, timeout: float | None = None) -> str:
        return self._deployed(process_definition_key).content.decode("utf-8", "replace")

    def _deployed(self, process_definition_key: int) -> Definition:
        self._open()
        definition = self._store.definitions.get(process_definition_key)
        if definition is None:
            raise port.NotFound(f"Process Definition with key '{process_definition_key}' not found")
        return definition

    async def message_subscription_statistics(
        self,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the API's own word
        limit: int = 100,
        after: str | None = None,
        timeout: float | None = None,
    ) -> port.SearchPage:
        self._open()
        if self._store.version < (8, 9):
            raise port.Unimplemented(f"Subscriptions are counted by version 8.9 and later, but this is {self._version}")
        return search.subscription_statistics(self._store, filter or {}, limit, after)

    async def evaluate_expression(
        self,
        expression: str,
        *,
        tenant_id: str | None = None,
        scope_key: int | None = None,
        timeout: float | None = None,
    ) -> Any:
        self._check("EvaluateExpression", tenant_id or DEFAULT_TENANT)
        if self._store.version < (8, 9):
            raise port.Unimplemented(f"Expressions are evaluated by version 8.9 and later, but this is {self._version}")
        context: Mapping[str, Any] = {}
        if scope_key is not None:
            if (scope := self._store.elements.get(scope_key)) is None:
                raise port.NotFound(f"Expected to find a scope with key '{scope_key}', but none was found")
            context = scope.visible()
        if not expression.startswith("="):
            raise port.InvalidArgument("Expected an expression with a leading '='")
        try:
            return to_variable(Expression(expression, self._now).evaluate(context))
        except feel.FeelError as e:
            raise port.InvalidArgument(str(e)) from None

    async def create_document(
        self,
        content: bytes | AsyncIterator[bytes],
        *,
        content_type: str,
        file_name: str | None = None,
        time_to_live_ms: int | None = None,
        custom_properties: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> port.StoredDocument:
        self._open()
        return await self._documents.create(content, content_type, file_name, time_to_live_ms, custom_properties)

    def read_document(
        self,
        document_id: str,
        *,
        store_id: str | None = None,
        content_hash: str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[bytes]:
        self._open()
        return self._documents.read(document_id, store_id, content_hash)

    async def delete_document(
        self, document_id: str, *, store_id: str | None = None, timeout: float | None = None
    ) -> None:
        self._open()
        self._documents.delete(document_id, store_id)

    async def create_document_link(
        self,
        document_id: str,
        *,
        store_id: str | None = None,
        content_hash: str | None = None,
        time_to_live_ms: int | None = None,
        timeout: float | None = None,
    ) -> str:
        self._open()
        return self._documents.link(document_id, store_id, content_hash)

    # -- looking inside, time, end

    def records(self) -> list[Record]:
        """The newest records, oldest first."""
        return list(self._records)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Calls the listener with each record as it happens; it must not call the engine. Returns what ends it."""
        return self._records.listen(listener)

    def instances(self) -> list[ProcessInstance]:
        """The instances at work, oldest first."""
        return list(self._store.open_instances.values())

    def incidents(self) -> list[Incident]:
        """The open incidents, oldest first."""
        return list(self._store.incidents.values())

    async def advance(self, seconds: float) -> None:
        """Puts the engine's clock forward. What becomes due happens in its order, each at its own time."""
        schedule, clock = self._execution.schedule, self._clock
        target = clock.now_ms() + round(seconds * 1000)
        while (due := schedule.next_due_ms()) is not None and due <= target:
            clock.advance(max(0, due - clock.now_ms()))
            self._execution.run()
            await self.idle()
        clock.advance(max(0, target - clock.now_ms()))
        schedule.rearm()
        await self.idle()

    async def idle(self) -> None:
        """Returns when all that has been set off is done, and those who wait for it have had a turn."""
        await asyncio.sleep(0)
        while not self._execution.is_idle:  # noqa: ASYNC110 - each turn of the loop does some of the work
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Ends streams and polls; every command is Unavailable from here on."""
        self._closed = True
        self._execution.close()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).astimezone()

    # -- checks

    def _open(self) -> None:
        if self._closed:
            raise port.Unavailable("The engine is closed", may_have_arrived=False)

    def _check(self, request: str, tenant_id: str) -> None:
        self._open()
        if tenant_id in self._tenants:
            return
        if self._tenants == {DEFAULT_TENANT}:
            raise port.InvalidArgument(
                f"Expected to handle request {request} with tenant identifier '{tenant_id}', but multi-tenancy is disabled"
            )
        raise port.PermissionDenied(
            f"Expected to handle request {request} with tenant identifier '{tenant_id}', but tenant is not authorized to access it"
        )


def _compile(resource: port.Resource, now: Now) -> tuple[list[tuple[bpmn.Process, Compiled]], list[str]]:
    """The executable processes of a file, and what is wrong with it."""
    if not resource.name.endswith(".bpmn"):
        return [], [f"'{resource.name}': Expected a file name that ends in .bpmn"]
    try:
        processes = [process for process in bpmn.parse(resource.content).processes if process.is_executable]
    except bpmn.BpmnError as e:
        return [], [f"'{resource.name}': {e}"]
    if not processes:
        return [], [f"'{resource.name}': Must contain at least one executable process"]
    compiled = [(process, compile_process(process, now)) for process in processes]
    return compiled, [f"'{resource.name}': {problem}" for _, one in compiled for problem in one.problems]


def _definition_of(definition: Definition) -> port.ProcessDefinition:
    return port.ProcessDefinition(
        process_definition_key=definition.key,
        bpmn_process_id=definition.process_id,
        version=definition.version,
        resource_name=definition.resource_name,
        tenant_id=definition.tenant_id,
        name=definition.name,
    )


def _instance_of(instance: ProcessInstance, variables: str | None = None) -> port.ProcessInstance:
    definition = instance.definition
    return port.ProcessInstance(
        definition.key, definition.process_id, definition.version, instance.key, instance.tenant_id, variables
    )


def _start_node(definition: Definition, element_id: str | None) -> Node:
    if element_id is None:
        if definition.root.none_start is None:
            raise port.FailedPrecondition(
                f"Expected to create instance of process '{definition.process_id}' with none start event, but there is no such event"
            )
        return definition.root.none_start
    node = definition.root.children.get(element_id)
    if node is None:
        raise port.InvalidArgument(
            f"Expected to create instance of process '{definition.process_id}' with start instructions "
            f"but no element found with id '{element_id}'."
        )
    if node.kind in _NO_START_AT:
        raise port.InvalidArgument(
            f"Expected to create instance of process '{definition.process_id}' with start instructions but the element "
            f"'{element_id}' is of type {node.type}, at which an instance cannot be started."
        )
    return node


def _answer_result(ended: "asyncio.Future[str]", fetch: tuple[str, ...], instance: ProcessInstance) -> None:
    if not ended.done():
        values = instance.variables
        ended.set_result(jsontext.dumps({name: values[name] for name in fetch if name in values} if fetch else values))


def _answer_late(ended: "asyncio.Future[str]", instance_key: int, wait_ms: int) -> None:
    if not ended.done():
        ended.set_exception(port.DeadlineExceeded(f"Process instance '{instance_key}' did not end within {wait_ms} ms"))


def _shortest(milliseconds: int, timeout: float | None) -> int:
    return milliseconds if timeout is None else min(milliseconds, max(0, int(timeout * 1000)))


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    return int(major), int(rest.partition(".")[0] or 0)
