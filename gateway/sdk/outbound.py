"""What the author of an outbound connector sees: the context of a job, responses, how a job can end, the declaration."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from gateway.documents import Documents
from gateway.sdk.fields import Header, Variable, field_keys

if TYPE_CHECKING:
    from gateway.engine import Job
    from gateway.http_client import HttpClient

# ---- responses -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ElementActivation:
    """An element of the ad-hoc sub-process to start, with the variables it gets."""

    element_id: str
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AdHocSubProcessResponse:
    """What the connector of an ad-hoc sub-process answers. Result variable and result expression do not apply to it;
    an error expression sees `response_value`.
    """

    response_value: Any = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    element_activations: tuple[ElementActivation, ...] = ()
    completion_condition_fulfilled: bool = False
    cancel_remaining_instances: bool = False


@dataclass(frozen=True, slots=True)
class DocumentReturnFormat:
    """The user's choice how a payload comes back: `DOCUMENT`, `TEXT` (in `encoding`) or `JSON`."""

    choice: str
    encoding: str = "UTF-8"


@dataclass(frozen=True, slots=True)
class DocumentReturn:
    """A payload that the runtime turns into a document, text or JSON as the user chose, wrapped by `wrap(value, choice)`.

    `content` is closed on every path when it is an asynchronous generator.
    """

    content: Any  # bytes or an asynchronous iterator of bytes
    content_type: str | None
    file_name: str | None
    wrap: Callable[[Any, str], Any]


# ---- context ---------------------------------------------------------------------------------------------------------


class JobContext:
    """The job at hand: its facts, and what a connector may use. Made for one job, not to be kept."""

    __slots__ = (
        "_deadline",
        "_now",
        "_secret",
        "_variables",
        "document_return_format",
        "documents",
        "headers",
        "http",
        "job",
    )

    def __init__(
        self,
        job: "Job",
        *,
        headers: Mapping[str, str],
        variables: Callable[[], Awaitable[str]],
        secret: Callable[[str], Awaitable[str]],
        http: "HttpClient",
        documents: Documents,
        now: Callable[[], float],
        deadline: Callable[[], float],
        document_return_format: DocumentReturnFormat | None = None,
    ) -> None:
        self.job: Final = job
        self.headers: Final = headers
        """The task headers: plain text, never secret-replaced."""
        self.http: Final = http
        self.documents: Final = documents
        self.document_return_format: Final = document_return_format
        self._variables = variables
        self._secret = secret
        self._now = now
        self._deadline = deadline

    async def variables(self) -> str:
        """The fetched variables as JSON text, secrets replaced. Prefer a model: it is validated.

        Raises ConnectorInputException for a secret that no provider has.
        """
        return await self._variables()

    async def secret(self, name: str) -> str:
        """The value of a secret by its name, as `{{secrets.NAME}}` would give it. Masked in how the job fails and in the log.

        A job may use the secrets that its element's inputs name in the deployed model, unless the filter is switched off
        (Camunda docs, "Manage secrets"). Raises ConnectorInputException for one that it may not use or no provider has.
        """
        return await self._secret(name)

    @property
    def remaining(self) -> float:
        """Seconds until the job is taken away; extended leases move it."""
        return max(0.0, self._deadline() - self._now())


@dataclass(frozen=True, slots=True)
class CommandFailed:
    """The completion could not be delivered. cause: what the engine said last, None when the lease ended first."""

    cause: Exception | None


@dataclass(frozen=True, slots=True)
class CommandIgnored:
    """The engine had the job no more: answered before, cancelled, or given to another worker."""

    cause: Exception | None


@dataclass(frozen=True, slots=True)
class ExecutionFailed:
    """The connector raised, or its result could not be used. command_failure: why the engine did not take the failure."""

    cause: Exception | None
    command_failure: Exception | None = None


@dataclass(frozen=True, slots=True)
class BpmnErrorThrown:
    """The error expression chose a BPMN error."""

    code: str
    message: str | None
    variables: Mapping[str, Any]
    command_failure: Exception | None = None


@dataclass(frozen=True, slots=True)
class JobErrorRaised:
    """The error expression chose a job error."""

    message: str
    variables: Mapping[str, Any]
    command_failure: Exception | None = None


JobFailure = CommandFailed | CommandIgnored | ExecutionFailed | BpmnErrorThrown | JobErrorRaised


class JobCompletionListener(Protocol):
    """An object a connector may name to hear how its job ended. Errors of a listener are logged, nothing more."""

    async def on_job_completed(self, job: JobContext, response: Any) -> None:
        """The engine accepted the completion. After an ignored error the response is None."""

    async def on_job_completion_failed(self, job: JobContext, response: Any, failure: JobFailure) -> None:
        """The job ended otherwise; `failure` says how. The response is None where the connector gave none."""


# ---- connectors ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """How one parameter of a connector's function is filled."""

    name: str
    kind: str  # "model", "job", "variable", "header", "service"
    annotation: Any
    source: Variable | Header | None = None
    has_default: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of an operation-based connector, chosen by the task header `operation`."""

    id: str
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    name: str = ""
    keywords: tuple[str, ...] = ()


Service = Callable[[], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True, slots=True)
class OutboundConnector:
    """A registered outbound connector. Calling it calls the function, so that a connector stays testable as one."""

    name: str
    type: str
    input_variables: tuple[str, ...]
    operations: Mapping[str, Operation]  # one with the id "" for a plain function
    timeout: float | None = None
    service: Service | None = None
    listener: JobCompletionListener | None = None
    description: str = ""

    @property
    def function(self) -> Callable[..., Any]:
        """The function of a connector without operations."""
        return self.operations[""].function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def outbound_connector(
    name: str,
    *,
    type: str,  # noqa: A002 - the BPMN's own word
    input_variables: tuple[str, ...] | None = None,
    timeout: float | None = None,
    service: Service | None = None,
    listener: JobCompletionListener | None = None,
) -> Callable[[Any], OutboundConnector]:
    """Declares an outbound connector: a function, or a class with `@operation` methods.

    name: the worker's name and the key of `CONNECTOR_<NAME>_...` settings; type: the job type. The variables that the engine is
    asked for are those of the model and of `Variable` parameters, unless `input_variables` names them; without either, all are
    fetched. timeout: seconds of the lease, None for the worker's default. service: an asynchronous context manager, opened before
    the first job and closed at the end; its value fills the parameter that is neither model, job, variable nor header.
    A plain `def` runs in a bounded pool of threads.
    """

    def declare(target: Any) -> OutboundConnector:
        operations = _operations(target, service)
        fetched = input_variables
        if fetched is None:
            fetched = _fetched(list(operations.values()))
        return OutboundConnector(
            name, type, fetched, operations, timeout, service, listener, inspect.getdoc(target) or ""
        )

    return declare


def operation(id: str = "", *, name: str = "", keywords: tuple[str, ...] = ()) -> Callable[[Any], Any]:  # noqa: A002
    """Marks a method of a connector class as an operation; its id is what the task header `operation` holds."""

    def mark(function: Any) -> Any:
        function.__operation__ = (id or function.__name__, name, keywords)
        return function

    return mark


def _operations(target: Any, service: Service | None) -> dict[str, Operation]:
    if not inspect.isclass(target):
        return {"": Operation("", target, _parameters(target, service))}
    instance = target()
    found: dict[str, Operation] = {}
    for attribute in (name for name in dir(target) if not name.startswith("__")):
        marked = getattr(getattr(target, attribute), "__operation__", None)
        if not marked:
            continue
        ident, name, keywords = marked
        if ident in found:
            raise TypeError(f"{target.__qualname__} has two operations with the id {ident!r}")
        method = getattr(instance, attribute)
        found[ident] = Operation(ident, method, _parameters(method, service), name, keywords)
    if not found:
        raise TypeError(f"{target.__qualname__} has no method marked with @operation")
    return found


def _parameters(function: Callable[..., Any], service: Service | None) -> tuple[Parameter, ...]:
    hints = get_type_hints(function, include_extras=True)
    found = [
        replace(_parameter(function, name, hints.get(name, Any), service), has_default=p.default is not p.empty)
        for name, p in inspect.signature(function).parameters.items()
    ]
    if sum(p.kind == "service" for p in found) > 1:
        names = ", ".join(p.name for p in found if p.kind == "service")
        raise TypeError(
            f"{getattr(function, '__qualname__', function)}: only one parameter can be the service: {names}"
        )
    return tuple(found)


def _parameter(function: Callable[..., Any], name: str, annotation: Any, service: Service | None) -> Parameter:
    if annotation is JobContext:
        return Parameter(name, "job", annotation)
    if get_origin(annotation) is Annotated:
        for mark in get_args(annotation)[1:]:
            if isinstance(mark, Variable):
                return Parameter(name, "variable", annotation, mark)
            if isinstance(mark, Header):
                return Parameter(name, "header", annotation, mark)
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return Parameter(name, "model", annotation)
    if service is not None:
        return Parameter(name, "service", annotation)
    raise TypeError(
        f"{getattr(function, '__qualname__', function)}: parameter '{name}' must be a pydantic model, a JobContext, or "
        f"annotated with Variable or Header, but is {annotation!r}"
    )


def _fetched(operations: list[Operation]) -> tuple[str, ...]:
    """The variables that all operations need; nothing (which means all) when one of them needs all, or does not say."""
    names: list[str] = []
    for each in operations:
        own = _needed(each.parameters)
        if not own:
            return ()
        names += own
    return tuple(dict.fromkeys(names))


def _needed(parameters: tuple[Parameter, ...]) -> list[str]:
    names: list[str] = []
    for parameter in parameters:
        if parameter.kind == "model":
            if parameter.annotation.model_config.get("extra") == "allow":
                return []
            for name, field in parameter.annotation.model_fields.items():
                names += field_keys(name, field)
        elif isinstance(parameter.source, Variable):
            if not parameter.source.name:
                return []
            names.append(parameter.source.name.partition("/")[0])
    return names
