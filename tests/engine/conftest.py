import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeVar
from uuid import uuid4

import pytest

from gateway.engine import Engine, Unavailable
from gateway.engine.cluster import connect
from gateway.engine.settings import ConnectionSettings
from tests.engine.gateway_stub import StubGateway
from tests.real.processes import EngineProcess

Door = Literal["grpc", "lean", "rest"]
T = TypeVar("T")


def settings_for(engine: EngineProcess, door: Door = "grpc") -> ConnectionSettings:
    """door: gRPC by grpcio, gRPC by our own transport, or REST."""
    return ConnectionSettings(
        grpc_address=engine.grpc_address,
        rest_address=engine.rest_address,
        prefer_rest_over_grpc=door == "rest",
        transport="lean" if door == "lean" else "grpcio",
    )


@asynccontextmanager
async def connected(settings: ConnectionSettings) -> AsyncIterator[Engine]:
    """A client that is closed with the block however it ends: one left open would fail the test that comes next."""
    client = await connect(settings)
    try:
        yield client
    finally:
        await client.close()


async def asked_again(ask: Callable[[], Awaitable[T]], *, attempts: int = 8) -> T:
    """Asks as the job flow does, again where the connection is broken: a channel may hand out a connection that it has not
    seen break yet. The last Unavailable is raised.
    """
    for attempt in range(1, attempts):
        try:
            return await ask()
        except Unavailable:
            await asyncio.sleep(0.05 * attempt)
    return await ask()


@pytest.fixture(params=["grpc", "lean", "rest"])
async def engine(request: pytest.FixtureRequest, test_engine: EngineProcess) -> AsyncIterator[Engine]:
    """A client of the test engine, by each door."""
    async with connected(settings_for(test_engine, request.param)) as client:
        yield client


@pytest.fixture(params=["grpc", "lean"])
async def grpc_engine(request: pytest.FixtureRequest, test_engine: EngineProcess) -> AsyncIterator[Engine]:
    async with connected(settings_for(test_engine, request.param)) as client:
        yield client


@pytest.fixture
async def stub() -> AsyncIterator[StubGateway]:
    async with StubGateway() as gateway:
        yield gateway


@pytest.fixture
def unique() -> str:
    """A process id, job type or message name that no other test has."""
    return f"t-{uuid4().hex[:12]}"
