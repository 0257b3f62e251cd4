from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.engine import Engine
from gateway.engine.cluster import connect
from gateway.engine.embedded import EmbeddedEngine
from gateway.engine.settings import ConnectionSettings
from tests.flow.rig import Target


@pytest.fixture(params=["embedded", pytest.param("test engine", marks=pytest.mark.real)])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    if request.param == "embedded":
        client: Engine = EmbeddedEngine()
    else:
        real = request.getfixturevalue("test_engine")
        client = await connect(ConnectionSettings(grpc_address=real.grpc_address, rest_address=real.rest_address))
    yield client
    await client.close()


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    found = Target()
    runner = web.ServerRunner(web.Server(found.handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()
