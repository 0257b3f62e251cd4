"""A client and a server for each test."""

from collections.abc import AsyncIterator

import pytest

from gateway.http_client import HttpClient
from tests.http_client.servers import Stub, running


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with running(Stub()) as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient(user_agent="gateway/test") as client:
        yield client
