"""One job through the real job flow: secrets, binding, the connector, result and error expression, without an engine."""

import itertools
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gateway import jsontext
from gateway.documents import Documents, EngineStore
from gateway.engine import DEFAULT_TENANT, Job, StoredDocument
from gateway.engine.embedded import EmbeddedEngine
from gateway.http_client import HttpClient
from gateway.intrinsic import Intrinsics
from gateway.observe import Metrics
from gateway.outbound.handler import Environment, Handler
from gateway.outbound.lease import Leases
from gateway.outbound.outcome import Complete, Fail
from gateway.outbound.plan import Plans
from gateway.sdk import OutboundConnector
from gateway.secrets import MapSecrets, SecretFilter, Secrets
from gateway.testing.http import FakeHttp, no_network

_KEYS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended. kind: `completed`, `failed` or `bpmn error`; the rest as the engine would get it.

    response: what the connector returned; exception: what it raised; documents: the contents of those that were created.
    """

    kind: str
    variables: dict[str, Any]
    response: Any = None
    retries: int | None = None
    backoff_ms: int | None = None
    message: str | None = None
    code: str | None = None
    exception: Exception | None = field(default=None, repr=False)
    documents: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def error(self) -> Any:
        """The `error` variable of a failed job."""
        return self.variables.get("error")


async def run_job(
    connector: OutboundConnector,
    variables: Mapping[str, Any] | str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    http: HttpClient | None = None,
    retries: int = 3,
    **facts: Any,
) -> Outcome:
    """Works one job with a connector as the gateway does, and returns how it ended. Never raises for what the connector raises.

    variables: an object or JSON text; secrets: names to values for `{{secrets.NAME}}`; facts: of the job (`bpmn_process_id`,
    `element_id`, `tenant_id`, `process_instance_key`, ...). Without `http` a connector that calls out fails.
    """
    text = variables if isinstance(variables, str) else jsontext.dumps(variables or {})
    job = _job(connector, text, jsontext.dumps(headers or {}), retries, facts)
    engine, client = EmbeddedEngine(), http or FakeHttp(no_network)
    store = _KeptDocuments(engine)
    documents = Documents(store, client.download)
    with ThreadPoolExecutor(1) as threads:
        environment = Environment(
            http=client,
            documents=documents,
            secrets=Secrets([MapSecrets(secrets or {})]),
            secret_filter=SecretFilter(engine.process_definition_xml, mode="DISABLED"),
            intrinsics=Intrinsics(documents, client),
            threads=threads,
            now=time.monotonic,
        )
        try:
            outcome = await _work(connector, environment, job)
            return replace(outcome, documents=tuple(store.contents))
        finally:
            await engine.close()
            if http is None:
                await client.close()


async def call(connector: OutboundConnector, variables: Mapping[str, Any] | str | None = None, **options: Any) -> Any:
    """The connector's response, through secrets, binding and validation; raises what the connector raised."""
    outcome = await run_job(connector, variables, **options)
    if outcome.exception is not None:
        raise outcome.exception
    return outcome.response


class _KeptDocuments(EngineStore):
    """Keeps what is uploaded for the test to look at."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        super().__init__(engine)
        self.contents: list[bytes] = []

    async def create(self, content: bytes | AsyncIterator[bytes], **facts: Any) -> StoredDocument:
        data = content if isinstance(content, bytes) else b"".join([chunk async for chunk in content])
        self.contents.append(data)
        return await super().create(data, **facts)


def _job(connector: OutboundConnector, variables: str, headers: str, retries: int, facts: dict[str, Any]) -> Job:
    key = next(_KEYS)
    known: dict[str, Any] = {
        "process_instance_key": key + 1,
        "bpmn_process_id": "process",
        "process_definition_version": 1,
        "process_definition_key": key + 2,
        "element_id": "task",
        "element_instance_key": key + 3,
        "tenant_id": DEFAULT_TENANT,
        **facts,
    }
    return Job(
        key=key,
        type=connector.type,
        custom_headers=headers,
        worker=connector.name,
        retries=retries,
        deadline=int(time.time() * 1000) + 300_000,
        variables=variables,
        **known,
    )


async def _work(connector: OutboundConnector, environment: Environment, job: Job) -> Outcome:
    async def extend(job_key: int, milliseconds: int) -> None:
        """There is no engine to tell."""

    leases = Leases(300.0, max_run=3600.0, extend=extend, now=time.monotonic)
    handler = Handler(connector, environment, leases)
    plan = Plans(partial(Metrics().outbound, connector.type)).get(job.custom_headers)
    lease = leases.begin(job, time.monotonic())
    if connector.service is None:
        answer, _ = await handler.handle(job, plan, lease)
    else:
        async with connector.service() as handler.service:
            answer, _ = await handler.handle(job, plan, lease)
    command = answer.command
    given = jsontext.loads(command.variables or "{}")
    if isinstance(command, Complete):
        return Outcome("completed", given, answer.response)
    if isinstance(command, Fail):
        return Outcome("failed", given, None, command.retries, command.backoff_ms, command.message, None, answer.error)
    return Outcome("bpmn error", given, answer.response, message=command.message, code=command.code)
