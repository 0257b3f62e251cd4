"""All outbound connectors of a process: their services and workers, started together and drained together."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from gateway.admin import OutboundEntry
from gateway.config import WorkerSettings
from gateway.engine import Commands, Job, JobActivation
from gateway.limits import Backoff, Permits
from gateway.observe import Metrics
from gateway.outbound.handler import Environment, Handler
from gateway.outbound.lease import Clock
from gateway.outbound.worker import Worker, WorkerOptions
from gateway.registry import Registered
from gateway.sdk import Service

log = structlog.get_logger(__name__)

_HAND_BACK_SECONDS = 5.0
_CLOSE_SECONDS = 2.0


class Outbound:
    """The job flow of a process.

    worker_settings: the settings of a worker by job type, timeout and input variables; max_in_flight: jobs at work over all types;
    max_run: seconds a job may run in all.
    """

    def __init__(
        self,
        commands: Commands,
        connectors: Sequence[Registered],
        environment: Environment,
        *,
        worker_settings: Callable[[Registered], WorkerSettings],
        metrics: Metrics,
        max_in_flight: int = 1000,
        max_run: float = 3600.0,
        now: Clock = time.monotonic,
    ) -> None:
        self._connectors = list(connectors)
        self._environment = environment
        self._commands = commands
        self._metrics = metrics
        self._settings = {c.type: worker_settings(c) for c in connectors}
        self._max_run = max_run
        self._now = now
        self._drained = asyncio.Event()
        self._hosts: list[asyncio.Task[None]] = []
        self.total = Permits(max_in_flight)
        self.workers: dict[str, Worker] = {}

    def entries(self) -> list[OutboundEntry]:
        """All registered connectors, for the status API."""
        return [
            OutboundEntry(
                name=c.connector.name,
                type=c.type,
                input_variables=c.connector.input_variables,
                timeout_ms=c.timeout_ms,
                enabled=c.enabled,
                statistics=self.workers[c.type].statistics() if c.type in self.workers else {},
            )
            for c in self._connectors
        ]

    def job_of(self, task: "asyncio.Task[Any] | None") -> Job | None:
        """The job that a task handles."""
        return next((job for w in self.workers.values() if (job := w.running(task)) is not None), None)

    async def start(self) -> None:
        """Starts the workers of the enabled connectors; those with a service as soon as it is open. Waits for nothing outside."""
        for one in self._connectors:
            settings = self._settings[one.type]
            if not (one.enabled and settings.enabled):
                continue
            worker = self.workers[one.type] = self._worker(one, settings)
            self._metrics.watch(one.type, worker.statistics)
            if one.connector.service is None:
                worker.start()
            else:
                self._hosts.append(asyncio.create_task(self._host(one.type, one.connector.service, worker)))

    async def _host(self, job_type: str, service: Service, worker: Worker) -> None:
        """Keeps a connector's service open while its worker works. One that does not open is tried again; the others don't notice."""
        backoff = Backoff(1.0, 30.0)
        while not self._drained.is_set():
            opened = False
            try:
                async with service() as worker.handler.service:
                    opened = True
                    worker.start()
                    await self._drained.wait()
            except Exception as e:
                log.error(
                    "the service of a connector failed", type=job_type, open=opened, error=f"{type(e).__name__}: {e}"
                )
                if not opened:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._drained.wait(), backoff.next())

    def _worker(self, one: Registered, settings: WorkerSettings) -> Worker:
        activation = JobActivation(
            type=settings.type or one.type,
            worker=settings.name or one.connector.name,
            timeout_ms=settings.timeout_ms,
            fetch_variables=settings.fetch_variables,
            tenant_ids=settings.tenant_ids,
        )
        options = WorkerOptions(
            activation,
            max_jobs=settings.max_jobs_active,
            stream=settings.stream_enabled,
            poll_interval=settings.poll_interval_ms / 1000,
            request_timeout=settings.request_timeout_ms / 1000,
            max_run=self._max_run,
        )
        return Worker(
            self._commands,
            options,
            lambda leases: Handler(one.connector, self._environment, leases),
            total=self.total,
            metrics=self._metrics,
            listener=one.connector.listener,
            now=self._now,
        )

    async def drain(self, grace: float) -> None:
        """Ends the job flow: within `grace` seconds for what runs, and 5 s more to hand the rest back.

        1. stop reading, and hand back what was under way to us
        2. let handlers finish
        3. cancel the rest, and hand its jobs back without using up a retry
        4. close the services
        """
        began = self._now()
        workers = self.workers.values()
        await asyncio.gather(*(w.stop_reading() for w in workers))
        left = max(0.0, grace - (self._now() - began))
        await asyncio.gather(*(w.finish(left) for w in workers))
        await asyncio.gather(*(w.abort(_HAND_BACK_SECONDS) for w in workers))
        self._drained.set()
        if self._hosts:
            _, late = await asyncio.wait(self._hosts, timeout=_CLOSE_SECONDS)
            if late:
                log.warning("the services of the connectors did not close in time", services=len(late))
            for host in late:
                host.cancel()


def describe(outbound: Outbound) -> Callable[["asyncio.Task[Any] | None"], Mapping[str, object]]:
    """For the watchdog: which job a task is on."""

    def known(task: "asyncio.Task[Any] | None") -> Mapping[str, object]:
        job = outbound.job_of(task)
        return {} if job is None else {"job": job.key, "type": job.type}

    return known
