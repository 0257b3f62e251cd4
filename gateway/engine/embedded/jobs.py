"""Jobs: who gets them, for how long, and what becomes of them.

A job that becomes activatable goes to a stream that reads, else it waits in the backlog of its type for `activate`. Leases and
back-offs run by the engine's clock (docs: components/concepts/job-workers).
"""

import asyncio
from collections import OrderedDict, deque
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway import engine as port
from gateway import jsontext
from gateway.engine.embedded.clock import Due
from gateway.engine.embedded.entities import ElementInstance, Job, JobState
from gateway.engine.embedded.expressions import Stuck

if TYPE_CHECKING:
    from gateway.engine.embedded.execution import Execution

MAX_PAYLOAD = 4 * 1024 * 1024
"""Bytes: the largest set of variables, and the largest answer of one activation."""

LOOK_AHEAD = 64 * 1024
"""Bytes of jobs that a stream takes ahead of its reader, as the window of an HTTP/2 stream does."""

_OVERHEAD = 512  # of a job beside its variables and headers


class Stream:
    """A job stream. What is given to it is leased, read or not; when it is full it gets nothing more."""

    def __init__(self, activation: port.JobActivation, error: port.EngineError | None = None) -> None:
        """error: the stream is refused, and its reader told so."""
        self.activation = activation
        self._queues: list[_Queue] = []
        self._error = error
        self._buffer: deque[tuple[port.Job, int]] = deque()
        self._buffered = 0
        self._reader: asyncio.Future[port.Job | None] | None = None
        self._ended = False

    def join(self, queue: "_Queue") -> None:
        queue.streams.append(self)
        self._queues.append(queue)

    @property
    def is_ready(self) -> bool:
        return not self._ended and (self._reader is not None or self._buffered < LOOK_AHEAD)

    def push(self, job: port.Job, size: int) -> None:
        if self._reader is not None:
            self._reader.set_result(job)
            self._reader = None
        else:
            self._buffer.append((job, size))
            self._buffered += size

    async def read(self) -> port.Job | None:
        if self._error is not None:
            raise self._error
        if self._buffer:
            job, size = self._buffer.popleft()
            self._buffered -= size
            return job
        if self._ended:
            return None
        if self._reader is not None:
            raise RuntimeError("another read of this stream is pending")
        self._reader = asyncio.get_running_loop().create_future()
        try:
            return await self._reader
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Jobs that were not read stay leased until their time is up, as those in the window of a broken connection."""
        if self._ended:
            return
        self._ended = True
        for queue in self._queues:
            queue.streams.remove(self)
        self._buffer.clear()
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
        self._reader = None


class _Poll:
    """A request that waits for a first job."""

    def __init__(self, activation: port.JobActivation, max_jobs: int) -> None:
        self.activation, self.max_jobs = activation, max_jobs
        self.answer: asyncio.Future[list[port.Job]] = asyncio.get_running_loop().create_future()
        self.due: Due | None = None


class _Queue:
    """The backlog of a job type of a tenant, oldest first, and who waits for more of it."""

    __slots__ = ("backlog", "is_announced", "polls", "streams")

    def __init__(self) -> None:
        self.backlog: OrderedDict[int, Job] = OrderedDict()
        self.streams: deque[Stream] = deque()
        self.polls: list[_Poll] = []
        self.is_announced = False


class Jobs:
    def __init__(self, execution: "Execution") -> None:
        self._execution = execution
        self._queues: dict[tuple[str, str], _Queue] = {}

    def _queue(self, type_: str, tenant_id: str) -> _Queue:
        queue = self._queues.get((type_, tenant_id))
        if queue is None:
            self._queues[type_, tenant_id] = queue = _Queue()
        return queue

    def _drop_unused(self, type_: str, tenant_id: str) -> None:
        """Types may be FEEL, so there may be no end of them."""
        queue = self._queues.get((type_, tenant_id))
        if queue is not None and not (queue.backlog or queue.streams or queue.polls):
            del self._queues[type_, tenant_id]

    # -- the life of a job

    def create(self, element: ElementInstance, type_: str, retries: int, headers: str) -> Job:
        execution = self._execution
        job = Job(execution.store.next_key(), type_, element, retries, headers, execution.clock.now_ms())
        execution.store.jobs[job.key] = job
        element.process.jobs.append(job)
        execution.records.job(job, "CREATED")
        self._offer(job)
        return job

    def _offer(self, job: Job) -> None:
        """The job is activatable: to a stream at once, else to the backlog."""
        job.state = JobState.ACTIVATABLE
        queue = self._queue(job.type, job.tenant_id)
        for _ in range(len(queue.streams)):
            stream = queue.streams[0]
            queue.streams.rotate(-1)
            if stream.is_ready:
                activated = self._activate(job, stream.activation)
                if activated is not None:
                    stream.push(activated, _size(activated))
                return
        queue.backlog[job.key] = job
        if queue.polls and not queue.is_announced:
            queue.is_announced = True
            self._execution.later(self._serve, queue)

    def _activate(self, job: Job, activation: port.JobActivation) -> port.Job | None:
        """Leases the job. None when it is too large to be sent: then it has become an incident."""
        now = self._execution.clock.now_ms()
        element, process = job.element, job.element.process
        visible = element.visible()
        if activation.fetch_variables:
            visible = {name: visible[name] for name in activation.fetch_variables if name in visible}
        text = jsontext.dumps(visible)
        if len(text) > MAX_PAYLOAD // 4 and len(text.encode()) + len(job.headers) + _OVERHEAD > MAX_PAYLOAD:
            self._too_large(job)
            return None
        job.state = JobState.ACTIVATED
        job.worker = activation.worker
        job.deadline_ms = now + activation.timeout_ms
        job.due = self._execution.schedule.at(job.deadline_ms, partial(self._timed_out, job))
        self._execution.records.job(job, "ACTIVATED")
        return port.Job(
            key=job.key,
            type=job.type,
            process_instance_key=process.key,
            bpmn_process_id=process.definition.process_id,
            process_definition_version=process.definition.version,
            process_definition_key=process.definition.key,
            element_id=element.node.id,
            element_instance_key=element.key,
            custom_headers=job.headers,
            worker=job.worker,
            retries=job.retries,
            deadline=job.deadline_ms,
            variables=text,
            tenant_id=job.tenant_id,
        )

    def _too_large(self, job: Job) -> None:
        job.state = JobState.FAILED
        message = f"The job with key '{job.key}' can not be activated, because with its variables it is larger than {MAX_PAYLOAD} bytes"
        self._execution.add_incident(job.element, "MESSAGE_SIZE_EXCEEDED", message, partial(self._offer, job), job)

    def _timed_out(self, job: Job) -> None:
        job.due = None
        self._execution.records.job(job, "TIMED_OUT")
        self._offer(job)

    def _withdraw(self, job: Job) -> None:
        """Takes the job out of the backlog, its lease or its back-off."""
        if job.state is JobState.ACTIVATABLE:
            self._queue(job.type, job.tenant_id).backlog.pop(job.key, None)
            self._drop_unused(job.type, job.tenant_id)
        self._execution.schedule.cancel(job.due)
        job.due = None

    def _close(self, job: Job, state: JobState) -> None:
        self._withdraw(job)
        job.state = state
        job.ended_ms = self._execution.clock.now_ms()
        job.element.job = None
        del self._execution.store.jobs[job.key]
        self._execution.records.job(job, state.value)

    def cancel(self, job: Job) -> None:
        """Its element has ended."""
        self._close(job, JobState.CANCELED)

    # -- what workers say

    def _find(self, key: int, command: str, verb: str) -> Job:
        job = self._execution.store.jobs.get(key)
        if job is None:
            raise port.NotFound(
                f"Command '{command}' rejected with code 'NOT_FOUND': "
                f"Expected to {verb} job with key '{key}', but no such job was found"
            )
        return job

    def _workable(self, key: int, command: str, verb: str) -> Job:
        """The job, leased or activatable: a lease that has run out does no harm while nobody else has the job."""
        job = self._find(key, command, verb)
        if job.state in {JobState.ACTIVATABLE, JobState.ACTIVATED}:
            return job
        state = JobState.FAILED if job.state is JobState.BACKING_OFF else job.state
        raise port.FailedPrecondition(
            f"Command '{command}' rejected with code 'INVALID_STATE': "
            f"Expected to {verb} job with key '{key}', but it is in state '{state}'"
        )

    def complete(self, key: int, variables: dict[str, Any], result: port.AdHocResult | None) -> None:
        job = self._workable(key, "COMPLETE", "complete")
        if result is not None:
            raise port.InvalidArgument(
                f"Expected to complete job with key '{key}' without the result of an ad-hoc sub-process, "
                f"as its element '{job.element.node.id}' is a {job.element.node.type}"
            )
        element = job.element
        self._close(job, JobState.COMPLETED)
        self._execution.complete(element, variables)

    def fail(self, key: int, retries: int, message: str, backoff_ms: int, variables: dict[str, Any]) -> None:
        job = self._workable(key, "FAIL", "fail")
        self._withdraw(job)
        job.retries, job.error_message = retries, message
        if variables:
            self._execution.set_local_variables(job.element, variables)
        if retries <= 0:
            job.state = JobState.FAILED
            self._execution.records.job(job, "FAILED")
            self._execution.add_incident(
                job.element, "JOB_NO_RETRIES", message or "No more retries left.", partial(self._offer, job), job
            )
            return
        job.state = JobState.BACKING_OFF
        self._execution.records.job(job, "FAILED")
        if backoff_ms > 0:
            job.due = self._execution.after(backoff_ms, partial(self._back_again, job))
        else:
            self._offer(job)

    def _back_again(self, job: Job) -> None:
        job.due = None
        self._execution.records.job(job, "RECURRED_AFTER_BACKOFF")
        self._offer(job)

    def throw(self, key: int, code: str, message: str, variables: dict[str, Any]) -> None:
        job = self._workable(key, "THROW_ERROR", "throw an error for")
        job.error_code, job.error_message = code, message
        try:
            scope, event = self._execution.catcher(job.element, code, message)
        except Stuck as stuck:
            self._withdraw(job)
            job.state = JobState.ERROR_THROWN
            self._execution.records.job(job, "ERROR_THROWN")
            self._execution.add_incident(job.element, stuck.error_type, stuck.message, partial(self._offer, job), job)
            return
        self._close(job, JobState.ERROR_THROWN)
        self._execution.interrupt(scope, event, variables)

    def update_timeout(self, key: int, timeout_ms: int) -> None:
        job = self._find(key, "UPDATE_TIMEOUT", "update the timeout of")
        if job.state is not JobState.ACTIVATED:
            raise port.FailedPrecondition(
                "Command 'UPDATE_TIMEOUT' rejected with code 'INVALID_STATE': "
                f"Expected to update the timeout of job with key '{key}', but it is not active"
            )
        self._execution.schedule.cancel(job.due)
        job.deadline_ms = self._execution.clock.now_ms() + timeout_ms
        job.due = self._execution.schedule.at(job.deadline_ms, partial(self._timed_out, job))
        self._execution.records.job(job, "TIMEOUT_UPDATED")

    def update_retries(self, key: int, retries: int) -> None:
        job = self._find(key, "UPDATE_RETRIES", "update retries of")
        if retries < 1:
            raise port.InvalidArgument(
                "Command 'UPDATE_RETRIES' rejected with code 'INVALID_ARGUMENT': Expected to update retries for job with key "
                f"'{key}' with a positive amount of retries, but the amount given was '{retries}'"
            )
        job.retries = retries
        self._execution.records.job(job, "RETRIES_UPDATED")

    # -- who asks for jobs

    def activate(self, activation: port.JobActivation, max_jobs: int) -> list[port.Job]:
        """At most so many of the backlog, oldest first, and no more than fit one answer."""
        found: list[port.Job] = []
        size = 0
        for tenant_id in activation.tenant_ids:
            queue = self._queues.get((activation.type, tenant_id))
            if queue is None:
                continue
            backlog = queue.backlog
            while backlog and len(found) < max_jobs:
                _, job = backlog.popitem(last=False)
                activated = self._activate(job, activation)
                if activated is None:
                    continue
                size += _size(activated)
                if found and size > MAX_PAYLOAD:
                    self._give_back(job, backlog)
                    return found
                found.append(activated)
            self._drop_unused(activation.type, tenant_id)
        return found

    def _give_back(self, job: Job, backlog: "OrderedDict[int, Job]") -> None:
        """To the front of the backlog, as if it had never been leased."""
        self._withdraw(job)
        job.state, job.worker, job.deadline_ms = JobState.ACTIVATABLE, "", 0
        backlog[job.key] = job
        backlog.move_to_end(job.key, last=False)

    def poll(self, activation: port.JobActivation, max_jobs: int, wait_ms: int) -> "asyncio.Future[list[port.Job]]":
        """The answer comes with the first job, or empty after the time. Cancelling it takes the request back."""
        poll = _Poll(activation, max_jobs)
        queues = [self._queue(activation.type, tenant_id) for tenant_id in activation.tenant_ids]
        for queue in queues:
            queue.polls.append(poll)
        poll.due = self._execution.after(wait_ms, partial(_answer, poll, []))

        def done(_: object) -> None:
            self._execution.schedule.cancel(poll.due)
            for queue, tenant_id in zip(queues, activation.tenant_ids, strict=True):
                queue.polls.remove(poll)
                self._drop_unused(activation.type, tenant_id)

        poll.answer.add_done_callback(done)
        return poll.answer

    def _serve(self, queue: _Queue) -> None:
        queue.is_announced = False
        for poll in list(queue.polls):
            if not queue.backlog:
                return
            if not poll.answer.done():
                _answer(poll, self.activate(poll.activation, poll.max_jobs))

    def stream(self, activation: port.JobActivation) -> Stream:
        stream = Stream(activation)
        for tenant_id in activation.tenant_ids:
            stream.join(self._queue(activation.type, tenant_id))
        return stream

    def close(self) -> None:
        """Ends the streams, and answers the polls with nothing."""
        for queue in list(self._queues.values()):
            for stream in list(queue.streams):
                stream.cancel()
            for poll in list(queue.polls):
                _answer(poll, [])


def _answer(poll: _Poll, jobs: list[port.Job]) -> None:
    if not poll.answer.done():
        poll.answer.set_result(jobs)


def _size(job: port.Job) -> int:
    return len(job.variables) + len(job.custom_headers) + _OVERHEAD
