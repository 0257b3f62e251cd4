from collections.abc import AsyncIterator
from typing import Literal
from uuid import uuid4

import pytest

from gateway.engine import Engine
from gateway.engine.cluster import connect
from gateway.engine.settings import ConnectionSettings
from tests.engine.gateway_stub import StubGateway
from tests.real.processes import EngineProcess

Door = Literal["grpc", "rest"]


def settings_for(engine: EngineProcess, door: Door = "grpc") -> ConnectionSettings:
    return ConnectionSettings(
        grpc_address=engine.grpc_address, rest_address=engine.rest_address, prefer_rest_over_grpc=door == "rest"
    )


@pytest.fixture(params=["grpc", "rest"])
async def engine(request: pytest.FixtureRequest, test_engine: EngineProcess) -> AsyncIterator[Engine]:
    """A client of the test engine, once by gRPC and once by REST."""
    client = await connect(settings_for(test_engine, request.param))
    yield client
    await client.close()


@pytest.fixture
async def grpc_engine(test_engine: EngineProcess) -> AsyncIterator[Engine]:
    client = await connect(settings_for(test_engine))
    yield client
    await client.close()


@pytest.fixture
async def stub() -> AsyncIterator[StubGateway]:
    async with StubGateway() as gateway:
        yield gateway


@pytest.fixture
def unique() -> str:
    """A process id, job type or message name that no other test has."""
    return f"t-{uuid4().hex[:12]}"
