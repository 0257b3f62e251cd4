"""The embedded engine on virtual time."""

from collections.abc import AsyncIterator

import pytest

from gateway.engine.embedded import EmbeddedEngine, VirtualClock
from tests.engine.embedded.driver import World


class EngineControls:
    def __init__(self, engine: EmbeddedEngine) -> None:
        self.engine = engine

    async def resolve(self, incident_key: str) -> None:
        await self.engine.resolve_incident(int(incident_key))

    async def update_retries(self, job_key: int, retries: int) -> None:
        await self.engine.update_job_retries(job_key, retries)

    async def cancel(self, process_instance_key: int) -> None:
        await self.engine.cancel_process_instance(process_instance_key)

    async def set_variables(self, scope_key: int, variables: str) -> None:
        await self.engine.set_variables(scope_key, variables)

    async def forward(self, seconds: float) -> None:
        await self.engine.advance(seconds)


@pytest.fixture
async def engine() -> AsyncIterator[EmbeddedEngine]:
    made = EmbeddedEngine(clock=VirtualClock())
    yield made
    await made.close()


@pytest.fixture
def z(engine: EmbeddedEngine) -> World:
    return World(engine, EngineControls(engine))
