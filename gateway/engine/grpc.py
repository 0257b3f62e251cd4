"""The engine's commands over gRPC: Zeebe's gateway protocol.

Method paths, field names and status codes are those of Zeebe's public gateway protocol (`_proto/gateway.proto`).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from gateway.engine import (
    DEFAULT_TENANT,
    AdHocResult,
    Broker,
    EngineFailure,
    Job,
    JobActivation,
    JobStream,
    Partition,
    ProcessDefinition,
    ProcessInstance,
    Resource,
    Topology,
    Unauthenticated,
)
from gateway.engine._proto import gateway_pb2 as pb
from gateway.engine.auth import Credentials
from gateway.engine.transport import ByteStream, Metadata, Transport

TOPOLOGY: Final = "/gateway_protocol.Gateway/Topology"
_STREAM_ACTIVATED_JOBS: Final = "/gateway_protocol.Gateway/StreamActivatedJobs"
_ACTIVATE_JOBS: Final = "/gateway_protocol.Gateway/ActivateJobs"
_COMPLETE_JOB: Final = "/gateway_protocol.Gateway/CompleteJob"
_FAIL_JOB: Final = "/gateway_protocol.Gateway/FailJob"
_THROW_ERROR: Final = "/gateway_protocol.Gateway/ThrowError"
_UPDATE_JOB_TIMEOUT: Final = "/gateway_protocol.Gateway/UpdateJobTimeout"
_CREATE_PROCESS_INSTANCE: Final = "/gateway_protocol.Gateway/CreateProcessInstance"
_CREATE_PROCESS_INSTANCE_WITH_RESULT: Final = "/gateway_protocol.Gateway/CreateProcessInstanceWithResult"
_PUBLISH_MESSAGE: Final = "/gateway_protocol.Gateway/PublishMessage"
_DEPLOY_RESOURCE: Final = "/gateway_protocol.Gateway/DeployResource"

AD_HOC_SUB_PROCESS: Final = "adHocSubProcess"
PHYSICAL_TENANT_HEADER: Final = "camunda-physical-tenant"


_Answer = TypeVar("_Answer", bound=Message)


class GrpcCommands:
    """`Commands` over a gRPC transport.

    `request_timeout` is the deadline in seconds of a call that sets none; calls that wait in the engine get
    `timeout_offset` on top of the time they wait there. Each call asks the credentials anew.
    """

    def __init__(
        self,
        transport: Transport,
        credentials: Credentials,
        *,
        request_timeout: float = 10.0,
        timeout_offset: float = 1.0,
        physical_tenant_id: str | None = None,
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._request_timeout = request_timeout
        self._timeout_offset = timeout_offset
        self._metadata: Metadata = ((PHYSICAL_TENANT_HEADER, physical_tenant_id),) if physical_tenant_id else ()

    # ---- calls

    async def _authorized(self, timeout: float) -> tuple[str | None, Metadata, float]:
        """The Authorization value of this very attempt, all metadata with it, and what is left of the time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        authorization = await self._credentials.authorization(timeout)
        if authorization is None:
            return None, self._metadata, timeout
        metadata = (*self._metadata, ("authorization", authorization))
        return authorization, metadata, max(deadline - loop.time(), 0.001)

    async def _call(self, method: str, request: Message, answer: _Answer, timeout: float | None) -> _Answer:
        authorization, metadata, left = await self._authorized(self._request_timeout if timeout is None else timeout)
        try:
            data = await self._transport.unary(method, request.SerializeToString(), timeout=left, metadata=metadata)
        except Unauthenticated:
            self._credentials.refused(authorization)
            raise
        return _parse(answer, data)

    # ---- cluster

    async def topology(self, *, timeout: float | None = None) -> Topology:
        answer = await self._call(TOPOLOGY, pb.TopologyRequest(), pb.TopologyResponse(), timeout)
        return Topology(
            cluster_size=answer.clusterSize,
            partitions_count=answer.partitionsCount,
            replication_factor=answer.replicationFactor,
            gateway_version=answer.gatewayVersion,
            brokers=tuple(_broker(broker) for broker in answer.brokers),
        )

    async def deploy(
        self, resources: Sequence[Resource], *, tenant_id: str = DEFAULT_TENANT, timeout: float | None = None
    ) -> list[ProcessDefinition]:
        request = pb.DeployResourceRequest(
            resources=[pb.Resource(name=one.name, content=one.content) for one in resources], tenantId=tenant_id
        )
        answer = await self._call(_DEPLOY_RESOURCE, request, pb.DeployResourceResponse(), timeout)
        return [_definition(one.process) for one in answer.deployments if one.HasField("process")]

    # ---- jobs

    def stream_jobs(self, activation: JobActivation, *, on_silent: Callable[[], None] | None = None) -> JobStream:
        return _GrpcJobStream(self, activation, on_silent)

    async def activate_jobs(
        self, activation: JobActivation, max_jobs: int, *, request_timeout_ms: int = -1, timeout: float | None = None
    ) -> list[Job]:
        request = pb.ActivateJobsRequest(
            type=activation.type,
            worker=activation.worker,
            timeout=activation.timeout_ms,
            maxJobsToActivate=max_jobs,
            fetchVariable=activation.fetch_variables,
            requestTimeout=request_timeout_ms,
            tenantIds=activation.tenant_ids,
        )
        if timeout is None:
            timeout = self._waiting_timeout(request_timeout_ms)
        authorization, metadata, left = await self._authorized(timeout)
        stream = self._transport.stream(_ACTIVATE_JOBS, request.SerializeToString(), timeout=left, metadata=metadata)
        jobs: list[Job] = []
        try:
            while (data := await stream.read()) is not None:
                jobs += [_job(one) for one in _parse(pb.ActivateJobsResponse(), data).jobs]
        except Unauthenticated:
            self._credentials.refused(authorization)
            raise
        finally:
            stream.cancel()
        return jobs

    async def complete_job(
        self, job_key: int, variables: str, *, result: AdHocResult | None = None, timeout: float | None = None
    ) -> None:
        request = pb.CompleteJobRequest(jobKey=job_key, variables=variables)
        if result is not None:
            request.result.CopyFrom(
                pb.JobResult(
                    type=AD_HOC_SUB_PROCESS,
                    activateElements=[
                        pb.JobResultActivateElement(elementId=one.element_id, variables=one.variables)
                        for one in result.activations
                    ],
                    isCompletionConditionFulfilled=result.completion_condition_fulfilled,
                    isCancelRemainingInstances=result.cancel_remaining_instances,
                )
            )
        await self._call(_COMPLETE_JOB, request, pb.CompleteJobResponse(), timeout)

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
        request = pb.FailJobRequest(
            jobKey=job_key, retries=retries, errorMessage=message, retryBackOff=backoff_ms, variables=variables or ""
        )
        await self._call(_FAIL_JOB, request, pb.FailJobResponse(), timeout)

    async def throw_error(
        self,
        job_key: int,
        *,
        code: str,
        message: str | None = None,
        variables: str | None = None,
        timeout: float | None = None,
    ) -> None:
        request = pb.ThrowErrorRequest(
            jobKey=job_key, errorCode=code, errorMessage=message or "", variables=variables or ""
        )
        await self._call(_THROW_ERROR, request, pb.ThrowErrorResponse(), timeout)

    async def update_job_timeout(self, job_key: int, timeout_ms: int, *, timeout: float | None = None) -> None:
        request = pb.UpdateJobTimeoutRequest(jobKey=job_key, timeout=timeout_ms)
        await self._call(_UPDATE_JOB_TIMEOUT, request, pb.UpdateJobTimeoutResponse(), timeout)

    # ---- instances and messages

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
        request = pb.CreateProcessInstanceRequest(
            processDefinitionKey=process_definition_key,
            bpmnProcessId=bpmn_process_id,
            version=version,
            variables=variables,
            tenantId=tenant_id,
        )
        if start_element_id is not None:
            request.startInstructions.add(elementId=start_element_id)
        answer = await self._call(_CREATE_PROCESS_INSTANCE, request, pb.CreateProcessInstanceResponse(), timeout)
        return _instance(answer, None)

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
        request = pb.CreateProcessInstanceWithResultRequest(
            request=pb.CreateProcessInstanceRequest(
                processDefinitionKey=process_definition_key,
                bpmnProcessId=bpmn_process_id,
                version=version,
                variables=variables,
                tenantId=tenant_id,
            ),
            requestTimeout=request_timeout_ms,
            fetchVariables=fetch_variables,
        )
        if timeout is None:
            timeout = self._waiting_timeout(request_timeout_ms)
        answer = await self._call(
            _CREATE_PROCESS_INSTANCE_WITH_RESULT, request, pb.CreateProcessInstanceWithResultResponse(), timeout
        )
        return _instance(answer, answer.variables)

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
        request = pb.PublishMessageRequest(
            name=name,
            correlationKey=correlation_key,
            timeToLive=time_to_live_ms,
            messageId=message_id,
            variables=variables,
            tenantId=tenant_id,
        )
        return (await self._call(_PUBLISH_MESSAGE, request, pb.PublishMessageResponse(), timeout)).key

    async def close(self) -> None:
        await self._transport.close()
        await self._credentials.close()

    def _waiting_timeout(self, request_timeout_ms: int) -> float:
        """The deadline of a call that waits in the engine: 0 is the engine's default, below 0 does not wait at all."""
        if request_timeout_ms < 0:
            return self._request_timeout
        return (request_timeout_ms / 1000 or self._request_timeout) + self._timeout_offset


class _GrpcJobStream:
    """A job stream; the call starts with the first `read`, with the credentials of that moment."""

    def __init__(self, commands: GrpcCommands, activation: JobActivation, on_silent: Callable[[], None] | None) -> None:
        self._commands = commands
        self._on_silent = on_silent
        self._request = pb.StreamActivatedJobsRequest(
            type=activation.type,
            worker=activation.worker,
            timeout=activation.timeout_ms,
            fetchVariable=activation.fetch_variables,
            tenantIds=activation.tenant_ids,
        ).SerializeToString()
        self._authorization: str | None = None
        self._stream: ByteStream | None = None
        self._cancelled = False

    async def read(self) -> Job | None:
        stream = self._stream or await self._open()
        if stream is None:
            return None
        try:
            data = await stream.read()
        except Unauthenticated:
            self._commands._credentials.refused(self._authorization)
            raise
        return None if data is None else _job(_parse(pb.ActivatedJob(), data))

    async def _open(self) -> ByteStream | None:
        commands = self._commands
        self._authorization, metadata, _ = await commands._authorized(commands._request_timeout)
        if self._cancelled:
            return None
        self._stream = commands._transport.stream(
            _STREAM_ACTIVATED_JOBS, self._request, metadata=metadata, on_silent=self._on_silent
        )
        return self._stream

    def cancel(self) -> None:
        self._cancelled = True
        if self._stream is not None:
            self._stream.cancel()


# ---- messages to the port's data -------------------------------------------------------------------------------------


def _parse(answer: _Answer, data: bytes) -> _Answer:
    try:
        answer.ParseFromString(data)
    except DecodeError:
        raise EngineFailure(f"the engine's answer is no {answer.DESCRIPTOR.name}") from None
    return answer


def _job(one: pb.ActivatedJob) -> Job:
    return Job(
        key=one.key,
        type=one.type,
        process_instance_key=one.processInstanceKey,
        bpmn_process_id=one.bpmnProcessId,
        process_definition_version=one.processDefinitionVersion,
        process_definition_key=one.processDefinitionKey,
        element_id=one.elementId,
        element_instance_key=one.elementInstanceKey,
        custom_headers=one.customHeaders,
        worker=one.worker,
        retries=one.retries,
        deadline=one.deadline,
        variables=one.variables,
        tenant_id=one.tenantId or DEFAULT_TENANT,
    )


def _instance(
    answer: pb.CreateProcessInstanceResponse | pb.CreateProcessInstanceWithResultResponse, variables: str | None
) -> ProcessInstance:
    return ProcessInstance(
        process_definition_key=answer.processDefinitionKey,
        bpmn_process_id=answer.bpmnProcessId,
        version=answer.version,
        process_instance_key=answer.processInstanceKey,
        tenant_id=answer.tenantId or DEFAULT_TENANT,
        variables=variables,
    )


def _definition(process: pb.ProcessMetadata) -> ProcessDefinition:
    return ProcessDefinition(
        process_definition_key=process.processDefinitionKey,
        bpmn_process_id=process.bpmnProcessId,
        version=process.version,
        resource_name=process.resourceName,
        tenant_id=process.tenantId or DEFAULT_TENANT,
    )


def _broker(broker: pb.BrokerInfo) -> Broker:
    return Broker(
        node_id=broker.nodeId,
        host=broker.host,
        port=broker.port,
        version=broker.version,
        partitions=tuple(
            Partition(
                partition_id=one.partitionId,
                healthy=one.health == pb.Partition.HEALTHY,
                leader=one.role == pb.Partition.LEADER,
            )
            for one in broker.partitions
        ),
    )
