"""One job, from what the engine sent to the one command that answers it.

bind (variables -> secrets -> documents -> model), call the connector, turn the response or the exception into a command.
What fails before the call is final or costs a retry as the original has it (Camunda docs, "Outbound connectors").
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from gateway import binding, intrinsic, jsontext, sdk
from gateway.documents import DOCUMENT_TYPE, Documents, InvalidReference
from gateway.engine import AdHocResult, ElementActivation, Job
from gateway.expressions import (
    ErrorExpression,
    ExpressionError,
    NotAnObject,
    ResultExpression,
    create_document,
    error_context,
    response_context,
)
from gateway.http_client import HttpClient
from gateway.outbound import document_return
from gateway.outbound.choice import command_for
from gateway.outbound.failing import JobSecrets, failure
from gateway.outbound.lease import Clock, Lease, Leases
from gateway.outbound.outcome import (
    MAX_VARIABLES,
    Command,
    Complete,
    DeadlinePassed,
    ExpressionFailed,
    InputRefused,
    plain,
    too_large,
    variables_text,
    written,
)
from gateway.outbound.plan import Plan
from gateway.secrets import SecretFilter, Secrets, SecretUnavailable


@dataclass(frozen=True, slots=True)
class Environment:
    """What all handlers of a runtime share."""

    http: HttpClient
    documents: Documents
    secrets: Secrets
    secret_filter: SecretFilter
    intrinsics: intrinsic.Intrinsics
    threads: Executor
    now: Clock


@dataclass(slots=True)
class Answer:
    """How a job is to be answered; what its error expression sees; what the completion listener is told.

    chosen: the error expression made the command.
    """

    command: Command
    response: Any
    sees: Any
    error: Exception | None = None
    chosen: bool = False


@dataclass(slots=True)
class _Work:
    """One job on its way."""

    job: Job
    lease: Lease
    plan: Plan
    secrets: JobSecrets
    context: sdk.JobContext | None = None

    async def variables(self) -> str:
        """The variables with their secrets in place: looked up only when somebody asks."""
        try:
            return await self.secrets.replaced()
        except SecretUnavailable as e:
            raise InputRefused(str(e)) from None

    async def secret(self, name: str) -> str:
        """One secret by its name, for the connector."""
        try:
            return await self.secrets.get(name)
        except SecretUnavailable as e:
            raise sdk.ConnectorInputException(str(e)) from None


class Handler:
    """Handles the jobs of one connector. `service`: what the connector's own service gave, if it names one."""

    def __init__(self, connector: sdk.OutboundConnector, environment: Environment, leases: Leases) -> None:
        self._connector = connector
        self._environment = environment
        self._leases = leases
        self._arguments = {o.id: binding.Arguments(o) for o in connector.operations.values()}
        self._asynchronous = {o.id: inspect.iscoroutinefunction(o.function) for o in connector.operations.values()}
        self.service: Any = None

    async def handle(self, job: Job, plan: Plan, lease: Lease) -> tuple[Answer, sdk.JobContext | None]:
        """The one answer for a job. Never raises but for cancellation: whatever goes wrong becomes a failed job."""
        hidden = JobSecrets(self._environment.secrets, self._environment.secret_filter, job)
        work = _Work(job, lease, plan, hidden)
        try:
            answer = await self._result(await self._response(work), plan)
        except Exception as e:
            failed = await failure(e, job, plan, hidden)
            answer = Answer(failed.command, None, {"error": failed.failed}, e)
        if plan.error_expression is not None:
            try:
                await self._decide(plan.error_expression, answer, work)
            except Exception as e:
                failed = await failure(e, job, plan, hidden, final=True)
                answer = Answer(failed.command, None, None, e)
        return answer, work.context

    # ---- before and during the call ----

    async def _response(self, work: _Work) -> Any:
        """Binds and calls the connector."""
        plan = work.plan
        if plan.invalid is not None:
            raise plan.invalid.again()
        if plan.job_timeout_ms is not None:
            await self._pin(work.lease, plan.job_timeout_ms)
        operation = self._operation(plan)
        bound = await self._bound(self._arguments[operation.id], work)
        response = await self._call(operation, bound)
        if isinstance(response, sdk.DocumentReturn):
            assert work.context is not None
            chosen = work.context.document_return_format
            return await document_return.convert(response, chosen, self._environment.documents)
        return response

    async def _pin(self, lease: Lease, milliseconds: int) -> None:
        try:
            await self._leases.pin(lease, milliseconds)
        except TimeoutError as e:
            raise DeadlinePassed(str(e)) from None

    def _operation(self, plan: Plan) -> sdk.Operation:
        operations = self._connector.operations
        found = operations.get("") or operations.get(plan.operation or "")
        if found is None:
            raise InputRefused(str(binding.operation_not_found(plan.operation)))
        return found

    async def _bound(self, arguments: binding.Arguments, work: _Work) -> Mapping[str, Any]:
        """The arguments of the connector's function."""
        context = work.context = self._context(work)
        values = await self._values(await context.variables()) if arguments.reads_variables else None
        while True:
            try:
                return arguments.bind(values, work.plan.headers, context, self.service)
            except binding.ContentNeeded as needed:
                await needed.document.read()
            except binding.BindingError as e:
                raise InputRefused(str(e)) from None

    async def _values(self, text: str) -> Any:
        """The variables as values, with their documents and the results of intrinsic functions."""
        try:
            values = jsontext.loads(text)
            if DOCUMENT_TYPE in text or intrinsic.FUNCTION_TYPE in text:
                return await self._environment.intrinsics.resolve(values)
        except jsontext.InvalidJson:
            raise InputRefused(binding.NOT_AN_OBJECT) from None
        except InvalidReference as e:
            raise InputRefused(f"Json object contains an invalid document reference: {e}") from None
        except RecursionError:
            raise InputRefused("The input is nested too deeply") from None
        return values

    def _context(self, work: _Work) -> sdk.JobContext:
        return sdk.JobContext(
            work.job,
            headers=work.plan.headers,
            variables=work.variables,
            secret=work.secret,
            http=self._environment.http,
            documents=self._environment.documents,
            now=self._environment.now,
            deadline=lambda: work.lease.deadline,
            document_return_format=document_return.requested(work.job.variables),
        )

    async def _call(self, operation: sdk.Operation, bound: Mapping[str, Any]) -> Any:
        try:
            if self._asynchronous[operation.id]:
                return await operation.function(**bound)
            loop = asyncio.get_running_loop()
            response = await loop.run_in_executor(self._environment.threads, _in_thread, operation.function, bound)
            return await response if inspect.isawaitable(response) else response
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError("The connector cancelled itself") from None  # nobody else did: the job must be answered
        except SystemExit:
            raise RuntimeError("The connector tried to end the process") from None

    # ---- after the call ----

    async def _result(self, response: Any, plan: Plan) -> Answer:
        """The completion of the job with a response."""
        if isinstance(response, sdk.AdHocSubProcessResponse):
            return Answer(_ad_hoc(response), response, plain(response.response_value))
        if plan.discards:
            return Answer(Complete("{}"), response, None)
        response = normalize(response)
        variables: dict[str, Any] = {}
        text = "{}"
        if plan.result_variable:
            variables[plan.result_variable] = response
            text = variables_text(variables)
        if plan.result_expression is not None:
            found = await self._evaluate(plan.result_expression, response_context(response))
            if found is not None:
                mapped, mapped_text = found
                text = variables_text(variables | mapped) if variables else _sized(mapped_text)
                variables |= mapped
        return Answer(Complete(text), response, variables or response)

    async def _decide(self, expression: ErrorExpression, answer: Answer, work: _Work) -> None:
        """Lets the error expression change the command."""
        found = await self._evaluate(expression, error_context(answer.sees, work.job.retries))
        if found and found[0]:
            command = command_for(found[0], answer.command, await work.secrets.mask())
            if isinstance(command, Complete) and command is not answer.command:
                answer.response = None  # an ignored error
            answer.chosen = command is not answer.command
            answer.command = command

    async def _evaluate(
        self, expression: ResultExpression | ErrorExpression, context: Mapping[str, Any]
    ) -> tuple[dict[str, Any], str] | None:
        try:
            return await expression.evaluate(context, self._upload)
        except NotAnObject as e:
            raise InputRefused(f"{ExpressionFailed.java_type}: {e}") from None
        except ExpressionError as e:
            raise ExpressionFailed(str(e)) from None

    async def _upload(self, value: Any) -> Any:
        return (await create_document(value, self._environment.documents)).reference()


def normalize(response: Any) -> Any:
    """The response as plain JSON data: what the process would get, dates as text and enumerations as their values."""
    if response is None or type(response) in {str, bool, int}:
        return response
    try:
        return jsontext.loads(jsontext.dumps(response, written))
    except (TypeError, ValueError) as e:
        raise InputRefused(f"The result cannot be written as JSON: {e}") from None


def _in_thread(function: Callable[..., Any], bound: Mapping[str, Any]) -> Any:
    try:
        return function(**bound)
    except StopIteration as e:  # a future cannot carry it
        raise RuntimeError("The connector raised StopIteration") from e


def _sized(text: str) -> str:
    if len(text) > MAX_VARIABLES // 4 and (size := len(text.encode())) > MAX_VARIABLES:
        raise too_large(size)
    return text


def _ad_hoc(response: sdk.AdHocSubProcessResponse) -> Complete:
    activations = tuple(
        ElementActivation(a.element_id, _object_text(a.variables)) for a in response.element_activations or ()
    )
    done, cancel = bool(response.completion_condition_fulfilled), bool(response.cancel_remaining_instances)
    return Complete(_object_text(response.variables), AdHocResult(activations, done, cancel))


def _object_text(variables: Mapping[str, Any] | None) -> str:
    found = normalize(variables)
    if not isinstance(found, Mapping | None):
        raise InputRefused(f"Variables must be an object, but are {type(found).__name__}")
    return variables_text(found or {})
