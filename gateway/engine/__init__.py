"""The engine port: what the gateway asks of a process engine, the data that goes over it, and its errors.

Two protocols, as a Zeebe cluster has two doors: `Commands` (jobs, instances, messages, deployments; gRPC where the cluster
has it) and `Queries` (searches, process XML, correlation, expressions, documents; REST v2). `Engine` is both. Implementations:
`gateway.engine.grpc`, `gateway.engine.rest`, `gateway.engine.embedded`; they are chosen in `gateway.app` and nowhere else.

The errors, all raised by every implementation for the same reasons:

    EngineError
    ├── TransientError              the same call may be sent again (if it may be sent twice)
    │   ├── Unavailable             no connection, or the connection broke
    │   ├── DeadlineExceeded        no answer in time
    │   ├── ResourceExhausted       back-pressure: the engine asks for less
    │   └── Aborted                 cancelled, aborted, data loss: the engine gave up on the call
    ├── NotFound                    no such job, process, message subscription, document
    ├── AlreadyExists               a message with this id was published before
    ├── InvalidArgument             the engine refuses what was sent
    ├── FailedPrecondition          it exists, but not in a state that allows the command
    ├── Unauthenticated             credentials missing, wrong or expired
    ├── PermissionDenied            credentials are good, but not for this
    ├── Unimplemented               this engine has no such command
    └── EngineFailure               anything else the engine calls its own fault
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

DEFAULT_TENANT = "<default>"


class EngineError(Exception):
    """A command was refused or not answered. `str()` is the engine's own text; it holds no credentials."""

    may_have_arrived: bool = True
    """False when it is certain that the command never left: then even a create may be sent again."""

    def __init__(self, message: str, *, may_have_arrived: bool = True) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived


class TransientError(EngineError):
    """The engine or the way to it is in trouble; the same command may succeed later."""


class Unavailable(TransientError):  # noqa: N818 - the names are those of the gRPC status codes
    """gRPC UNAVAILABLE, HTTP 502, 503: no connection, or it broke while waiting for the answer."""


class DeadlineExceeded(TransientError):  # noqa: N818
    """gRPC DEADLINE_EXCEEDED, HTTP 504: no answer in time. The command may have been carried out."""


class ResourceExhausted(TransientError):  # noqa: N818
    """gRPC RESOURCE_EXHAUSTED, HTTP 429: the engine is under back-pressure."""


class Aborted(TransientError):  # noqa: N818
    """gRPC CANCELLED, ABORTED, DATA_LOSS."""


class NotFound(EngineError):  # noqa: N818
    """gRPC NOT_FOUND, HTTP 404."""


class AlreadyExists(EngineError):  # noqa: N818
    """gRPC ALREADY_EXISTS; HTTP 409 on a message publication."""


class InvalidArgument(EngineError):  # noqa: N818
    """gRPC INVALID_ARGUMENT, OUT_OF_RANGE; HTTP 400, 413, 422."""


class FailedPrecondition(EngineError):  # noqa: N818
    """gRPC FAILED_PRECONDITION; HTTP 409 elsewhere."""


class Unauthenticated(EngineError):  # noqa: N818
    """gRPC UNAUTHENTICATED, HTTP 401, or no token could be had."""


class PermissionDenied(EngineError):  # noqa: N818
    """gRPC PERMISSION_DENIED, HTTP 403."""


class Unimplemented(EngineError):  # noqa: N818
    """gRPC UNIMPLEMENTED, HTTP 405, 501; a path that the cluster's version does not have."""


class EngineFailure(EngineError):  # noqa: N818
    """gRPC INTERNAL, UNKNOWN; HTTP 500; an answer that cannot be read."""


# ---- jobs ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Job:
    """One activated job. `variables` and `custom_headers` are JSON text as the engine sent it."""

    key: int
    type: str
    process_instance_key: int
    bpmn_process_id: str
    process_definition_version: int
    process_definition_key: int
    element_id: str
    element_instance_key: int
    custom_headers: str
    worker: str
    retries: int
    deadline: int  # epoch milliseconds on the engine's clock: for people to read, never for arithmetic
    variables: str
    tenant_id: str = DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class JobActivation:
    """What a worker asks for: jobs of a type, leased for `timeout_ms`, with these variables (empty: all)."""

    type: str
    worker: str
    timeout_ms: int
    fetch_variables: tuple[str, ...] = ()
    tenant_ids: tuple[str, ...] = (DEFAULT_TENANT,)


@dataclass(frozen=True, slots=True)
class ElementActivation:
    """An element of an ad-hoc sub-process to be activated, with its variables (JSON text of an object)."""

    element_id: str
    variables: str = "{}"


@dataclass(frozen=True, slots=True)
class AdHocResult:
    """The result of an ad-hoc sub-process's job: what to activate next, and whether it is done."""

    activations: tuple[ElementActivation, ...] = ()
    completion_condition_fulfilled: bool = False
    cancel_remaining_instances: bool = False


class JobStream(Protocol):
    """A server stream of jobs. Not reading is what stalls it: the engine then gives the jobs to other workers."""

    async def read(self) -> Job | None:
        """The next job; None when the stream has ended (also after `cancel`). Raises EngineError when it broke.

        Only one read at a time. Never cancel a pending read and never put a time limit on it: that ends the whole call.
        """

    def cancel(self) -> None:
        """Ends the stream; a pending `read` returns None. May be called more than once."""


# ---- instances, messages, deployments --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProcessInstance:
    process_definition_key: int
    bpmn_process_id: str
    version: int
    process_instance_key: int
    tenant_id: str = DEFAULT_TENANT
    variables: str | None = None  # JSON text, after create with result only


@dataclass(frozen=True, slots=True)
class ProcessDefinition:
    process_definition_key: int
    bpmn_process_id: str
    version: int
    resource_name: str = ""
    tenant_id: str = DEFAULT_TENANT
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Resource:
    """A file to deploy; its name ends in `.bpmn`."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Partition:
    partition_id: int
    healthy: bool
    leader: bool


@dataclass(frozen=True, slots=True)
class Broker:
    node_id: int
    host: str
    port: int
    version: str
    partitions: tuple[Partition, ...] = ()


@dataclass(frozen=True, slots=True)
class Topology:
    """The cluster: its version is the gateway's, `8.8.9` for example."""

    cluster_size: int
    partitions_count: int
    replication_factor: int
    gateway_version: str
    brokers: tuple[Broker, ...] = ()


class Commands(Protocol):
    """What changes the engine's state. Every call but `stream_jobs` has a deadline: `timeout` in seconds, None for the
    configured request timeout. None of them is sent again by the implementation: who may send twice, decides above.
    """

    async def topology(self, *, timeout: float | None = None) -> Topology: ...

    def stream_jobs(self, activation: JobActivation, *, on_silent: Callable[[], None] | None = None) -> JobStream:
        """Opens a stream of jobs at the moment they become available; no backlog. Errors come out of `read`.

        on_silent: called when its connection answers nothing any more and is replaced. Whoever gives it opens another stream and
        reads this one on: jobs that were sent into the silence may still come through. Without it the stream breaks.
        """

    async def activate_jobs(
        self, activation: JobActivation, max_jobs: int, *, request_timeout_ms: int = -1, timeout: float | None = None
    ) -> list[Job]:
        """At most `max_jobs` of the backlog. `request_timeout_ms`: how long the engine waits for the first (-1: not at all)."""

    async def complete_job(
        self, job_key: int, variables: str, *, result: AdHocResult | None = None, timeout: float | None = None
    ) -> None: ...

    async def fail_job(
        self,
        job_key: int,
        *,
        retries: int,
        message: str,
        backoff_ms: int = 0,
        variables: str | None = None,
        timeout: float | None = None,
    ) -> None: ...

    async def throw_error(
        self,
        job_key: int,
        *,
        code: str,
        message: str | None = None,
        variables: str | None = None,
        timeout: float | None = None,
    ) -> None: ...

    async def update_job_timeout(self, job_key: int, timeout_ms: int, *, timeout: float | None = None) -> None:
        """The lease ends `timeout_ms` from when the engine gets this; 0 hands the job back at once."""

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
    ) -> ProcessInstance:
        """Starts an instance, by definition key or by process id and version (-1: the latest)."""

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
    ) -> ProcessInstance:
        """Starts an instance and waits for its end; the answer has its `variables`. DeadlineExceeded when it lasts longer."""

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
        """Publishes a message to the engine's buffer and returns its key. AlreadyExists when the id was used before."""

    async def deploy(
        self, resources: Sequence[Resource], *, tenant_id: str = DEFAULT_TENANT, timeout: float | None = None
    ) -> list[ProcessDefinition]:
        """Deploys all or nothing. InvalidArgument names the file, the element and the reason."""

    async def close(self) -> None: ...


# ---- queries ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of a search: the rows as the REST API names their fields, and where the next page begins."""

    items: list[dict[str, Any]]
    total: int
    end_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class MessageCorrelation:
    message_key: int
    process_instance_key: int
    tenant_id: str = DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """What the document store says of a document, as in the REST API's document reference."""

    document_id: str
    store_id: str
    content_hash: str | None
    metadata: dict[str, Any] = field(default_factory=dict)


class Queries(Protocol):
    """What only the REST v2 API offers. Errors and time limits as in `Commands`."""

    async def search(
        self,
        resource: str,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the API's own word
        sort: Sequence[tuple[str, str]] = (),
        limit: int = 100,
        after: str | None = None,
        timeout: float | None = None,
    ) -> SearchPage:
        """One page of `POST /v2/RESOURCE/search`; resource is `process-definitions`, `message-subscriptions`, ...;
        filter: values, or operators such as `$in`; keys are text. sort: pairs of field and `asc` or `desc`; after: the
        `end_cursor` of the page before. The latest versions (`isLatestVersion`) cannot be sorted by their keys.
        """

    async def process_definition(
        self, process_definition_key: int, *, timeout: float | None = None
    ) -> ProcessDefinition: ...

    async def process_definition_xml(self, process_definition_key: int, *, timeout: float | None = None) -> str: ...

    async def message_subscription_statistics(
        self,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the API's own word
        limit: int = 100,
        after: str | None = None,
        timeout: float | None = None,
    ) -> SearchPage:
        """Message subscriptions counted by process definition, 8.9 and later; Unimplemented before.

        filter: which subscriptions, by the fields of `message-subscriptions`. The rows have `processDefinitionKey`,
        `processDefinitionId`, `tenantId`, `activeSubscriptions`, `processInstancesWithActiveSubscriptions`.
        """

    async def correlate_message(
        self,
        *,
        name: str,
        correlation_key: str = "",
        variables: str = "{}",
        tenant_id: str = DEFAULT_TENANT,
        timeout: float | None = None,
    ) -> MessageCorrelation:
        """Correlates at once or raises NotFound: nothing is buffered."""

    async def evaluate_expression(
        self,
        expression: str,
        *,
        tenant_id: str | None = None,
        scope_key: int | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Evaluates FEEL (with leading `=`) on the cluster, 8.9 and later; Unimplemented before."""

    async def create_document(
        self,
        content: bytes | AsyncIterator[bytes],
        *,
        content_type: str,
        file_name: str | None = None,
        time_to_live_ms: int | None = None,
        custom_properties: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> StoredDocument: ...

    def read_document(
        self,
        document_id: str,
        *,
        store_id: str | None = None,
        content_hash: str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[bytes]:
        """The content in chunks; NotFound comes with the first."""

    async def delete_document(
        self, document_id: str, *, store_id: str | None = None, timeout: float | None = None
    ) -> None: ...

    async def create_document_link(
        self,
        document_id: str,
        *,
        store_id: str | None = None,
        content_hash: str | None = None,
        time_to_live_ms: int | None = None,
        timeout: float | None = None,
    ) -> str: ...

    async def close(self) -> None: ...


class Engine(Commands, Queries, Protocol):
    """A process engine with both doors."""
