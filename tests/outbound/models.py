"""A job and its handler without an engine, for the tests of this folder."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gateway import jsontext
from gateway.documents import Documents, EngineStore
from gateway.engine import Job
from gateway.engine.embedded import EmbeddedEngine
from gateway.intrinsic import Intrinsics
from gateway.observe import Metrics
from gateway.outbound.handler import Answer, Environment, Handler
from gateway.outbound.lease import Leases
from gateway.outbound.outcome import Fail
from gateway.outbound.plan import make_plan
from gateway.sdk import JobContext, OutboundConnector, outbound_connector
from gateway.secrets import SecretContext, SecretFilter, SecretProvider, Secrets
from gateway.testing import FakeHttp


class Vault:
    """A provider whose answers can change, and which can break."""

    def __init__(self, **values: str) -> None:
        self.values = values
        self.asked: list[str] = []
        self.broken: Exception | None = None

    async def get_secret(self, name: str, context: SecretContext) -> str | None:
        self.asked.append(name)
        if self.broken is not None:
            raise self.broken
        return self.values.get(name)


def job_with(variables: Any = None, headers: Mapping[str, Any] | None = None, retries: int = 3, **facts: Any) -> Job:
    known: dict[str, Any] = {
        "key": 1,
        "type": "c:1",
        "process_instance_key": 2,
        "bpmn_process_id": "p",
        "process_definition_version": 1,
        "process_definition_key": 3,
        "element_id": "task",
        "element_instance_key": 4,
        "custom_headers": jsontext.dumps(headers or {}),
        "worker": "w",
        "retries": retries,
        "deadline": 0,
        "variables": variables if isinstance(variables, str) else jsontext.dumps(variables or {}),
    }
    return Job(**known | facts)


async def nothing(job_key: int, milliseconds: int) -> None:
    """An engine that takes every new timeout."""


def connector_of(function: Any) -> OutboundConnector:
    return function if isinstance(function, OutboundConnector) else outbound_connector("C", type="c:1")(function)


async def handled(
    function: Any,
    job: Job,
    *,
    providers: Sequence[SecretProvider] = (),
    secret_filter: SecretFilter | None = None,
    http: Any = None,
    extend: Any = nothing,
    now: Any = time.monotonic,
) -> tuple[Answer, JobContext | None]:
    """What a handler answers to a job."""
    engine = EmbeddedEngine()
    client = http or FakeHttp(lambda _: {})
    documents = Documents(EngineStore(engine), client.download)
    leases = Leases(300.0, max_run=3600.0, extend=extend, now=now)
    with ThreadPoolExecutor(1) as threads:
        environment = Environment(
            http=client,
            documents=documents,
            secrets=Secrets(providers),
            secret_filter=secret_filter or SecretFilter(engine.process_definition_xml, mode="DISABLED"),
            intrinsics=Intrinsics(documents, client),
            threads=threads,
            now=now,
        )
        handler = Handler(connector_of(function), environment, leases)
        plan = make_plan(job.custom_headers, lambda i, v: Metrics().outbound("c:1", i, v))
        try:
            return await handler.handle(job, plan, leases.begin(job, now()))
        finally:
            await engine.close()


async def failed(function: Any, job: Job, **options: Any) -> Fail:
    """The command of a job that has to fail."""
    answer, _ = await handled(function, job, **options)
    assert isinstance(answer.command, Fail), answer.command
    return answer.command


def error_of(command: Fail) -> Any:
    return jsontext.loads(command.variables or "{}")["error"]
