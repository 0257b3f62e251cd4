from collections.abc import AsyncIterator

import aiohttp
import pytest

from gateway.admin import (
    Health,
    Sources,
)
from gateway.observe import Metrics
from tests.admin.models import HTTP, SLACK, Registered, connected


@pytest.fixture
def sources() -> Sources:
    return Sources(
        health=Health(),
        metrics=Metrics(process=False),
        runtime_id="node-1",
        outbound=Registered(HTTP, SLACK),
        brokers=None,
    )


@pytest.fixture
async def client(sources: Sources) -> AsyncIterator[aiohttp.ClientSession]:
    async with connected(sources) as session:
        yield session
