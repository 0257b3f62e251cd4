from collections.abc import AsyncIterator

import aiohttp
import pytest

from gateway.admin import (
    Health,
    Sources,
    actuator_routes,
    application,
    serve,
    status_routes,
)
from gateway.observe import Metrics
from tests.admin.models import HTTP, SLACK, Registered, configured


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
    app = application(actuator_routes(sources, configured()), status_routes(sources))
    async with serve(app, "127.0.0.1", 0) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
