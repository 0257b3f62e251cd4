"""An engine port that does what a test tells it, a clock that a test moves, and jobs."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, cast

from gateway import sdk
from gateway.documents import Documents, EngineStore
from gateway.engine import Commands, Engine, EngineError, Job, JobActivation
from gateway.http_client import HttpClient
from gateway.intrinsic import Intrinsics
from gateway.limits import Permits
from gateway.observe import Metrics
from gateway.outbound.handler import Environment, Handler
from gateway.outbound.worker import Worker, WorkerOptions
from gateway.secrets import MapSecrets, SecretFilter, Secrets

TYPE = "test:job:1"
_KEYS = itertools.count(1)


def job(key: int | None = None, *, variables: str = "{}", headers: str = "{}", retries: int = 3) -> Job:
    return Job(
        key=key or next(_KEYS),
        type=TYPE,
        process_instance_key=1,
        bpmn_process_id="process",
        process_definition_version=1,
        process_definition_key=2,
        element_id="task",
        element_instance_key=3,
        custom_headers=headers,
        worker="test",
        retries=retries,
        deadline=0,
        variables=variables,
    )


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class FakeStream:
    """Gives what is pushed, and counts its reads."""

    def __init__(self) -> None:
        self.reads = 0
        self.given = 0
        self.cancelled = False
        self.on_silent: Callable[[], None] | None = None
        self._items: asyncio.Queue[Job | EngineError | None] = asyncio.Queue()

    def push(self, *items: Job | EngineError | None) -> None:
        for item in items:
            self._items.put_nowait(item)

    async def read(self) -> Job | None:
        self.reads += 1
        item = await self._items.get()
        if isinstance(item, EngineError):
            raise item
        self.given += item is not None
        return item

    def cancel(self) -> None:
        if not self.cancelled:
            self.cancelled = True
            self.push(None)


class FakeEngine:
    """Records every command in `calls`; `replies` holds errors to answer the next commands of a name with, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, dict[str, Any]]] = []
        self.replies: dict[str, deque[Exception | None]] = {}
        self.always: dict[str, Exception] = {}
        self.streams: list[FakeStream] = []
        self.backlog: deque[Job] = deque()
        self.polls: list[int] = []
        self.poll_times: list[float] = []
        self.waits: list[bool] = []
        self.refuse_streams: EngineError | None = None

    def named(self, name: str) -> list[dict[str, Any]]:
        return [{"key": key, **arguments} for called, key, arguments in self.calls if called == name]

    def answer(self, name: str, *replies: Exception | None) -> None:
        self.replies.setdefault(name, deque()).extend(replies)

    def _reply(self, name: str) -> None:
        waiting = self.replies.get(name)
        error = waiting.popleft() if waiting else self.always.get(name)
        if error is not None:
            raise error

    async def _take(self, name: str, key: int, **arguments: Any) -> None:
        self.calls.append((name, key, arguments))
        await asyncio.sleep(0)
        self._reply(name)

    async def complete_job(self, job_key: int, variables: str, **rest: Any) -> None:
        await self._take("complete", job_key, variables=variables, **rest)

    async def fail_job(self, job_key: int, **rest: Any) -> None:
        await self._take("fail", job_key, **rest)

    async def throw_error(self, job_key: int, **rest: Any) -> None:
        await self._take("throw", job_key, **rest)

    async def update_job_timeout(self, job_key: int, timeout_ms: int, **rest: Any) -> None:
        await self._take("update", job_key, timeout_ms=timeout_ms, **rest)

    def stream_jobs(self, activation: JobActivation, *, on_silent: Callable[[], None] | None = None) -> FakeStream:
        stream = FakeStream()
        stream.on_silent = on_silent
        self.streams.append(stream)
        if self.refuse_streams is not None:
            stream.push(self.refuse_streams)
        return stream

    async def activate_jobs(
        self, activation: JobActivation, max_jobs: int, *, request_timeout_ms: int = -1, timeout: float | None = None
    ) -> list[Job]:
        self.polls.append(max_jobs)
        self.poll_times.append(asyncio.get_running_loop().time())
        self.waits.append(request_timeout_ms > 0)
        await asyncio.sleep(0)
        self._reply("activate")
        if not self.backlog and request_timeout_ms > 0:
            await asyncio.sleep(0.02)
        return [self.backlog.popleft() for _ in range(min(max_jobs, len(self.backlog)))]


@asynccontextmanager
async def working(
    function: Any,
    engine: FakeEngine,
    *,
    max_jobs: int = 4,
    stream: bool = True,
    timeout: float = 300.0,
    max_run: float = 3600.0,
    poll_interval: float = 0.1,
    total: Permits | None = None,
    listener: sdk.JobCompletionListener | None = None,
    now: Callable[[], float] | None = None,
    metrics: Metrics | None = None,
    threads: int = 4,
) -> Any:
    """A worker at work on a fake engine, ended the hard way with the block."""
    connector = sdk.outbound_connector("test", type=TYPE, listener=listener)(function)
    http = HttpClient()
    pool = ThreadPoolExecutor(threads)
    clock = now or asyncio.get_running_loop().time
    documents = Documents(EngineStore(cast("Engine", engine)), http.download)

    async def xml(_key: int) -> str:
        return ""

    environment = Environment(
        http=http,
        documents=documents,
        secrets=Secrets([MapSecrets({})]),
        secret_filter=SecretFilter(xml, mode="DISABLED"),
        intrinsics=Intrinsics(documents, http),
        threads=pool,
        now=clock,
    )
    options = WorkerOptions(
        JobActivation(TYPE, "test", int(timeout * 1000)),
        max_jobs=max_jobs,
        stream=stream,
        max_run=max_run,
        poll_interval=poll_interval,
    )
    worker = Worker(
        cast("Commands", engine),
        options,
        lambda leases: Handler(connector, environment, leases),
        total=total or Permits(1000),
        metrics=metrics or Metrics(),
        listener=listener,
        now=clock,
    )
    worker.start()
    try:
        await asyncio.sleep(0.02)
        yield worker
    finally:
        await worker.stop_reading(silence=0.0)
        await worker.abort(0.2)
        pool.shutdown(wait=False)
        await http.close()


async def until(condition: Callable[[], Any], seconds: float = 3.0) -> None:
    """Waits for a condition; AssertionError when it does not come true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, "the condition did not come true in time"
        await asyncio.sleep(0.005)
