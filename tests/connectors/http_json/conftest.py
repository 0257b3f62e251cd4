"""Jobs of the HTTP REST connector, worked as the gateway works them, against a local server."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from connectors.http_json import http_json
from gateway.http_client import HttpClient
from gateway.testing import Outcome, run_job
from tests.http_client.servers import Stub, running

PATH_STARTS = {"/", "?"}

Work = Callable[..., Awaitable[Outcome]]


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with running(Stub()) as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async def no_pause(_: float) -> None:
        """The silent retry waits for nobody here."""

    async with HttpClient(user_agent="gateway/test", sleep=no_pause) as client:
        yield client


@pytest.fixture
def work(stub: Stub, http: HttpClient) -> Work:
    """Works a job: `await work("/path", method="POST", body=...)`. A path is one of the stub; GET unless said otherwise."""

    async def run(url: Any = "/", *, task_headers: Any = None, client: HttpClient = http, **variables: Any) -> Outcome:
        written = stub.url(url) if isinstance(url, str) and url[:1] in PATH_STARTS else url
        given = {"url": written, "method": "GET", **variables}
        return await run_job(http_json, given, headers=task_headers or {"resultVariable": "r"}, http=client)

    return run


def inline(content: Any, name: str | None = "a.txt", kind: str | None = None) -> dict[str, Any]:
    """A reference to a document with its content in it."""
    return {"camunda.document.type": "inline", "content": content, "name": name, "contentType": kind}
