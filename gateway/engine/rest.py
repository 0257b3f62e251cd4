"""The engine over REST v2: its queries, and its commands for clusters without gRPC.

Paths, fields and statuses are those of Camunda's Orchestration Cluster REST API. Variables are put into requests as the
text they are, and come out of answers with every digit.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson
from aiohttp.payload import BytesPayload

from gateway.engine import (
    DEFAULT_TENANT,
    AdHocResult,
    AlreadyExists,
    Broker,
    EngineFailure,
    InvalidArgument,
    Job,
    JobActivation,
    JobStream,
    MessageCorrelation,
    NotFound,
    Partition,
    ProcessDefinition,
    ProcessInstance,
    Resource,
    SearchPage,
    StoredDocument,
    Topology,
    Unimplemented,
)
from gateway.engine.grpc import AD_HOC_SUB_PROCESS
from gateway.engine.rest_session import RestSession
from gateway.jsontext import dumps

_CHUNK: Final = 64 * 1024


class RestQueries:
    """`Queries` over a REST session."""

    def __init__(self, session: RestSession) -> None:
        self._session = session

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
        body: dict[str, Any] = {"page": {"limit": limit} | ({} if after is None else {"after": after})}
        if filter:
            body["filter"] = filter
        if sort:
            body["sort"] = [{"field": name, "order": order.upper()} for name, order in sort]
        path = f"/{resource}/search"
        return _page(await self._session.json("POST", path, body, timeout=timeout), path)

    async def process_definition(
        self, process_definition_key: int, *, timeout: float | None = None
    ) -> ProcessDefinition:
        path = f"/process-definitions/{process_definition_key}"
        return _definition(_object(await self._session.json("GET", path, timeout=timeout), path))

    async def message_subscription_statistics(
        self,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the API's own word
        limit: int = 100,
        after: str | None = None,
        timeout: float | None = None,
    ) -> SearchPage:
        body: dict[str, Any] = {"page": {"limit": limit} | ({} if after is None else {"after": after})}
        if filter:
            body["filter"] = filter
        path = "/process-definitions/statistics/message-subscriptions"
        try:
            return _page(await self._session.json("POST", path, body, timeout=timeout), path)
        except NotFound as e:  # there is nothing that could be missing but the endpoint
            raise Unimplemented(str(e)) from None

    async def process_definition_xml(self, process_definition_key: int, *, timeout: float | None = None) -> str:
        path = f"/process-definitions/{process_definition_key}/xml"
        xml = await self._session.text("GET", path, timeout=timeout)
        if not xml:
            raise NotFound(f"process definition {process_definition_key} has no XML")
        return xml

    async def correlate_message(
        self,
        *,
        name: str,
        correlation_key: str = "",
        variables: str = "{}",
        tenant_id: str = DEFAULT_TENANT,
        timeout: float | None = None,
    ) -> MessageCorrelation:
        body = {
            "name": name,
            "correlationKey": correlation_key,
            "variables": _embedded(variables),
            "tenantId": tenant_id,
        }
        path = "/messages/correlation"
        answer = _object(await self._session.json("POST", path, body, timeout=timeout), path)
        return MessageCorrelation(
            message_key=_key(answer, "messageKey"),
            process_instance_key=_key(answer, "processInstanceKey"),
            tenant_id=answer.get("tenantId") or DEFAULT_TENANT,
        )

    async def evaluate_expression(
        self,
        expression: str,
        *,
        tenant_id: str | None = None,
        scope_key: int | None = None,
        timeout: float | None = None,
    ) -> Any:
        body = {"expression": expression}
        if tenant_id is not None:
            body["tenantId"] = tenant_id
        if scope_key is not None:
            body["scopeKey"] = str(scope_key)
        path = "/expression/evaluation"
        return _object(await self._session.json("POST", path, body, timeout=timeout), path).get("result")

    # ---- documents

    async def create_document(
        self,
        content: bytes | AsyncIterator[bytes],
        *,
        content_type: str,
        file_name: str | None = None,
        time_to_live_ms: int | None = None,
        custom_properties: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> StoredDocument:
        metadata: dict[str, Any] = {"contentType": content_type}
        if file_name is not None:
            metadata["fileName"] = file_name
        if time_to_live_ms is not None:
            expires = datetime.now(UTC) + timedelta(milliseconds=time_to_live_ms)
            metadata["expiresAt"] = expires.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if custom_properties:
            metadata["customProperties"] = custom_properties
        form = aiohttp.FormData(quote_fields=False)
        kind = _part_name("content_type", content_type)
        if file_name is None and isinstance(content, bytes):  # aiohttp itself would name the file
            form.add_field("file", BytesPayload(content, content_type=kind))
        else:
            name = None if file_name is None else _part_name("file_name", file_name)
            form.add_field("file", content, filename=name, content_type=kind)
        form.add_field("metadata", orjson.dumps(metadata).decode(), content_type="application/json")
        answer = _object(
            await self._session.json("POST", "/documents", form, timeout=timeout, conflict=AlreadyExists), "/documents"
        )
        return StoredDocument(
            document_id=str(answer.get("documentId")),
            store_id=str(answer.get("storeId")),
            content_hash=answer.get("contentHash"),
            metadata=answer.get("metadata") or {},
        )

    async def read_document(
        self,
        document_id: str,
        *,
        store_id: str | None = None,
        content_hash: str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[bytes]:
        """The content in chunks; `timeout` is for each of them."""
        path = f"/documents/{quote(document_id, safe='')}"
        query = {"storeId": store_id, "contentHash": content_hash}
        wait = self._session.request_timeout if timeout is None else timeout
        async with self._session.open("GET", path, query=query, between_reads=wait) as response:
            async for chunk in response.content.iter_chunked(_CHUNK):
                yield chunk

    async def delete_document(
        self, document_id: str, *, store_id: str | None = None, timeout: float | None = None
    ) -> None:
        path = f"/documents/{quote(document_id, safe='')}"
        await self._session.json("DELETE", path, query={"storeId": store_id}, timeout=timeout)

    async def create_document_link(
        self,
        document_id: str,
        *,
        store_id: str | None = None,
        content_hash: str | None = None,
        time_to_live_ms: int | None = None,
        timeout: float | None = None,
    ) -> str:
        path = f"/documents/{quote(document_id, safe='')}/links"
        body = {} if time_to_live_ms is None else {"timeToLive": time_to_live_ms}
        query = {"storeId": store_id, "contentHash": content_hash}
        answer = _object(await self._session.json("POST", path, body, query=query, timeout=timeout), path)
        url = answer.get("url")
        if not isinstance(url, str):
            raise EngineFailure(f"the answer to {path} has no url")
        return url

    async def close(self) -> None:
        await self._session.close()


class RestCommands:
    """`Commands` over a REST session. There are no job streams: `read` of one raises Unimplemented, so poll."""

    def __init__(self, session: RestSession, *, timeout_offset: float = 1.0) -> None:
        self._session = session
        self._timeout_offset = timeout_offset

    async def topology(self, *, timeout: float | None = None) -> Topology:
        answer = _object(await self._session.json("GET", "/topology", timeout=timeout), "/topology")
        return Topology(
            cluster_size=int(answer.get("clusterSize") or 0),
            partitions_count=int(answer.get("partitionsCount") or 0),
            replication_factor=int(answer.get("replicationFactor") or 0),
            gateway_version=str(answer.get("gatewayVersion") or ""),
            brokers=tuple(_broker(one) for one in answer.get("brokers") or ()),
        )

    async def deploy(
        self, resources: Sequence[Resource], *, tenant_id: str = DEFAULT_TENANT, timeout: float | None = None
    ) -> list[ProcessDefinition]:
        form = aiohttp.FormData(quote_fields=False)
        for one in resources:
            name = _part_name("name", one.name)
            form.add_field("resources", one.content, filename=name, content_type="application/octet-stream")
        form.add_field("tenantId", tenant_id)
        path = "/deployments"
        answer = _object(await self._session.json("POST", path, form, timeout=timeout), path)
        found = [one.get("processDefinition") for one in answer.get("deployments") or ()]
        return [_definition(one) for one in found if one]

    # ---- jobs

    def stream_jobs(self, activation: JobActivation, *, on_silent: Callable[[], None] | None = None) -> JobStream:
        return _NoStream()

    async def activate_jobs(
        self, activation: JobActivation, max_jobs: int, *, request_timeout_ms: int = -1, timeout: float | None = None
    ) -> list[Job]:
        body: dict[str, Any] = {
            "type": activation.type,
            "worker": activation.worker,
            "timeout": activation.timeout_ms,
            "maxJobsToActivate": max_jobs,
            "requestTimeout": request_timeout_ms,
            "tenantIds": activation.tenant_ids,
        }
        if activation.fetch_variables:
            body["fetchVariable"] = activation.fetch_variables
        path = "/jobs/activation"
        limit = self._waiting_timeout(request_timeout_ms) if timeout is None else timeout
        answer = _object(await self._session.json("POST", path, body, timeout=limit), path)
        return [_job(one) for one in answer.get("jobs") or ()]

    async def complete_job(
        self, job_key: int, variables: str, *, result: AdHocResult | None = None, timeout: float | None = None
    ) -> None:
        body: dict[str, Any] = {"variables": _embedded(variables)}
        if result is not None:
            body["result"] = {
                "type": AD_HOC_SUB_PROCESS,
                "activateElements": [
                    {"elementId": one.element_id, "variables": _embedded(one.variables)} for one in result.activations
                ],
                "isCompletionConditionFulfilled": result.completion_condition_fulfilled,
                "isCancelRemainingInstances": result.cancel_remaining_instances,
            }
        await self._session.json("POST", f"/jobs/{job_key}/completion", body, timeout=timeout)

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
        body: dict[str, Any] = {"retries": retries, "errorMessage": message, "retryBackOff": backoff_ms}
        if variables is not None:
            body["variables"] = _embedded(variables)
        await self._session.json("POST", f"/jobs/{job_key}/failure", body, timeout=timeout)

    async def throw_error(
        self,
        job_key: int,
        *,
        code: str,
        message: str | None = None,
        variables: str | None = None,
        timeout: float | None = None,
    ) -> None:
        body: dict[str, Any] = {"errorCode": code}
        if message is not None:
            body["errorMessage"] = message
        if variables is not None:
            body["variables"] = _embedded(variables)
        await self._session.json("POST", f"/jobs/{job_key}/error", body, timeout=timeout)

    async def update_job_timeout(self, job_key: int, timeout_ms: int, *, timeout: float | None = None) -> None:
        body = {"changeset": {"timeout": timeout_ms}}
        await self._session.json("PATCH", f"/jobs/{job_key}", body, timeout=timeout)

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
        body = _creation(bpmn_process_id, process_definition_key, version, variables, tenant_id)
        if start_element_id is not None:
            body["startInstructions"] = [{"elementId": start_element_id}]
        answer = _object(await self._session.json("POST", _INSTANCES, body, timeout=timeout), _INSTANCES)
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
        body = _creation(bpmn_process_id, process_definition_key, version, variables, tenant_id)
        body |= {"awaitCompletion": True, "requestTimeout": request_timeout_ms}
        if fetch_variables:
            body["fetchVariables"] = tuple(fetch_variables)
        limit = self._waiting_timeout(request_timeout_ms) if timeout is None else timeout
        answer = _object(await self._session.json("POST", _INSTANCES, body, timeout=limit), _INSTANCES)
        return _instance(answer, dumps(answer.get("variables") or {}))

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
        body = {
            "name": name,
            "correlationKey": correlation_key,
            "timeToLive": time_to_live_ms,
            "variables": _embedded(variables),
            "tenantId": tenant_id,
        }
        if message_id:
            body["messageId"] = message_id
        path = "/messages/publication"
        answer = await self._session.json("POST", path, body, timeout=timeout, conflict=AlreadyExists)
        return _key(_object(answer, path), "messageKey")

    async def close(self) -> None:
        await self._session.close()

    def _waiting_timeout(self, request_timeout_ms: int) -> float:
        """The time limit of a call that waits in the engine: 0 is the engine's default, below 0 does not wait."""
        limit = self._session.request_timeout
        if request_timeout_ms < 0:
            return limit
        return (request_timeout_ms / 1000 or limit) + self._timeout_offset


class _NoStream:
    async def read(self) -> Job | None:
        raise Unimplemented("the REST API has no job streams", may_have_arrived=False)

    def cancel(self) -> None:
        """Nothing to end."""


# ---- JSON to the port's data -----------------------------------------------------------------------------------------

_INSTANCES: Final = "/process-instances"


def _embedded(variables: str) -> orjson.Fragment:
    return orjson.Fragment(variables or "{}")


def _part_name(field: str, text: str) -> str:
    """A text for a header of a multipart body, where a line break would start another header."""
    if not text.isprintable():
        raise InvalidArgument(f"{field}: expected printable characters only", may_have_arrived=False)
    return text


def _creation(process_id: str, definition_key: int, version: int, variables: str, tenant_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {"variables": _embedded(variables), "tenantId": tenant_id}
    if definition_key:
        body["processDefinitionKey"] = str(definition_key)
    else:
        body |= {"processDefinitionId": process_id, "processDefinitionVersion": version}
    return body


def _object(answer: Any, path: str) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise EngineFailure(f"the answer to {path} is no JSON object")
    return answer


def _page(answer: Any, path: str) -> SearchPage:
    found = _object(answer, path)
    items, page = found.get("items"), found.get("page") or {}
    if not isinstance(items, list) or not isinstance(page, dict):
        raise EngineFailure(f"the answer to {path} has no items")
    return SearchPage(items, int(page.get("totalItems") or 0), page.get("endCursor"))


def _key(answer: Mapping[str, Any], name: str) -> int:
    """A key: text in the API since 8.8, a number in some answers before."""
    try:
        return int(answer[name])
    except (KeyError, TypeError, ValueError):
        raise EngineFailure(f"{name} in the engine's answer: expected a key, got {answer.get(name)!r}") from None


def _job(one: Mapping[str, Any]) -> Job:
    return Job(
        key=_key(one, "jobKey"),
        type=str(one.get("type") or ""),
        process_instance_key=_key(one, "processInstanceKey"),
        bpmn_process_id=str(one.get("processDefinitionId") or ""),
        process_definition_version=int(one.get("processDefinitionVersion") or 0),
        process_definition_key=_key(one, "processDefinitionKey"),
        element_id=str(one.get("elementId") or ""),
        element_instance_key=_key(one, "elementInstanceKey"),
        custom_headers=dumps(one.get("customHeaders") or {}),
        worker=str(one.get("worker") or ""),
        retries=int(one.get("retries") or 0),
        deadline=int(one.get("deadline") or 0),
        variables=dumps(one.get("variables") or {}),
        tenant_id=one.get("tenantId") or DEFAULT_TENANT,
    )


def _instance(answer: Mapping[str, Any], variables: str | None) -> ProcessInstance:
    return ProcessInstance(
        process_definition_key=_key(answer, "processDefinitionKey"),
        bpmn_process_id=str(answer.get("processDefinitionId") or ""),
        version=int(answer.get("processDefinitionVersion") or 0),
        process_instance_key=_key(answer, "processInstanceKey"),
        tenant_id=answer.get("tenantId") or DEFAULT_TENANT,
        variables=variables,
    )


def _definition(one: Mapping[str, Any]) -> ProcessDefinition:
    """Of an answer to a deployment or of a query, which name the version differently."""
    return ProcessDefinition(
        process_definition_key=_key(one, "processDefinitionKey"),
        bpmn_process_id=str(one.get("processDefinitionId") or ""),
        version=int(one.get("processDefinitionVersion") or one.get("version") or 0),
        resource_name=str(one.get("resourceName") or ""),
        tenant_id=one.get("tenantId") or DEFAULT_TENANT,
        name=one.get("name"),
    )


def _broker(one: Mapping[str, Any]) -> Broker:
    return Broker(
        node_id=int(one.get("nodeId") or 0),
        host=str(one.get("host") or ""),
        port=int(one.get("port") or 0),
        version=str(one.get("version") or ""),
        partitions=tuple(
            Partition(
                partition_id=int(part.get("partitionId") or 0),
                healthy=str(part.get("health")).upper() == "HEALTHY",
                leader=str(part.get("role")).upper() == "LEADER",
            )
            for part in one.get("partitions") or ()
        ),
    )
