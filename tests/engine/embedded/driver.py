"""What a test does to an engine and asks of it, in few words; all through the port, so that any engine can be driven."""

import asyncio
import itertools
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol

from gateway.engine import Engine, Job, JobActivation, ProcessDefinition, Resource

_numbers = itertools.count(1)


class Controls(Protocol):
    """What the port leaves to operators; keys as the searches give them."""

    async def resolve(self, incident_key: str) -> None: ...

    async def update_retries(self, job_key: int, retries: int) -> None: ...

    async def cancel(self, process_instance_key: int) -> None: ...

    async def set_variables(self, scope_key: int, variables: str) -> None: ...

    async def forward(self, seconds: float) -> None: ...


class World:
    """An engine, and names that no other test uses: `§` in models, types and message names stands for `name`."""

    def __init__(self, engine: Engine, controls: Controls, name: str = "") -> None:
        self.engine, self.controls = engine, controls
        self.name = name or f"p{next(_numbers)}-"

    def full(self, text: str) -> str:
        return text.replace("§", self.name)

    # -- commands

    async def deploy(self, *models: str) -> list[ProcessDefinition]:
        files = [Resource(f"{self.name}{n}.bpmn", self.full(m).encode()) for n, m in enumerate(models)]
        return await self.engine.deploy(files)

    async def start(self, process: str = "§", variables: Mapping[str, Any] | None = None, **more: Any) -> int:
        text = json.dumps(variables or {})
        made = await self.engine.create_process_instance(bpmn_process_id=self.full(process), variables=text, **more)
        return made.process_instance_key

    async def jobs(self, job_type: str = "§t", n: int = 100, timeout_ms: int = 60_000, **more: Any) -> list[Job]:
        return await self.engine.activate_jobs(JobActivation(self.full(job_type), "w", timeout_ms, **more), n)

    async def job(self, job_type: str = "§t", **more: Any) -> Job:
        found = await self.jobs(job_type, 1, **more)
        assert len(found) == 1, f"expected a job of type {job_type}, but there is none"
        return found[0]

    async def complete(self, job: Job, **variables: Any) -> None:
        await self.engine.complete_job(job.key, json.dumps(variables))

    async def fail(self, job: Job, retries: int, message: str = "", backoff_ms: int = 0, **variables: Any) -> None:
        text = json.dumps(variables)
        await self.engine.fail_job(job.key, retries=retries, message=message, backoff_ms=backoff_ms, variables=text)

    async def throw(self, job: Job, code: str, message: str = "", **variables: Any) -> None:
        await self.engine.throw_error(job.key, code=code, message=message, variables=json.dumps(variables))

    async def publish(self, name: str, key: str = "", ttl_ms: int = 0, message_id: str = "", **variables: Any) -> int:
        text = json.dumps(variables)
        return await self.engine.publish_message(
            name=self.full(name), correlation_key=key, time_to_live_ms=ttl_ms, message_id=message_id, variables=text
        )

    async def resolve(self, key: int, /, **variables: Any) -> None:
        """Resolves the one open incident of the instance, with these variables set before."""
        if variables:
            await self.controls.set_variables(key, json.dumps(variables))
        await self.controls.resolve((await self.incident(key))["incidentKey"])

    # -- what came of it

    async def rows(self, resource: str, key: int, **more: Any) -> list[dict[str, Any]]:
        found = await self.engine.search(resource, filter={"processInstanceKey": str(key), **more}, limit=1000)
        return found.items

    async def state(self, key: int) -> str:
        [row] = await self.rows("process-instances", key)
        return str(row["state"])

    async def variables(self, key: int, scope: int | None = None) -> dict[str, Any]:
        rows = await self.rows("variables", key, scopeKey=str(scope or key))
        return {row["name"]: json.loads(row["value"], parse_float=Decimal) for row in rows}

    async def elements(self, key: int, state: str = "COMPLETED") -> list[str]:
        """Ids of the elements in this state, in the order in which they were entered."""
        rows = await self.rows("element-instances", key)
        rows = [row for row in rows if row["type"] != "PROCESS" and row["state"] == state]
        return [row["elementId"] for row in sorted(rows, key=lambda row: int(row["elementInstanceKey"]))]

    async def path(self, key: int) -> str:
        """The completed elements in order."""
        return " ".join(await self.elements(key))

    async def incidents(self, key: int) -> list[dict[str, Any]]:
        return await self.rows("incidents", key, state="ACTIVE")

    async def incident(self, key: int) -> dict[str, Any]:
        found = await self.incidents(key)
        assert len(found) == 1, f"expected one open incident, but there are {found}"
        return found[0]

    async def running(self, process: str = "§") -> list[int]:
        """Keys of the instances of the process that are at work."""
        wanted = {"processDefinitionId": self.full(process), "state": "ACTIVE"}
        page = await self.engine.search("process-instances", filter=wanted, limit=1000)
        return sorted(int(row["processInstanceKey"]) for row in page.items)


def seen(job: Job) -> dict[str, Any]:
    """The variables that the worker sees."""
    found: dict[str, Any] = json.loads(job.variables, parse_float=Decimal)
    return found


async def turns(n: int = 5) -> None:
    """Gives other tasks their turns."""
    for _ in range(n):
        await asyncio.sleep(0)
