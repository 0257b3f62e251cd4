"""From an exception to a failed job, with every secret masked that the job's variables refer to."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from gateway import sdk, secrets
from gateway.engine import Job
from gateway.outbound.outcome import (
    Fail,
    HeaderInvalid,
    cut,
    error_object,
    fail,
    java_type,
    message_of,
    retries_after,
)
from gateway.outbound.plan import Plan

log = structlog.get_logger(__name__)

_UNREADABLE_MODEL_BACKOFF_MS = 5000


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception, the `error` object that expressions see, and the command that fails the job."""

    error: Exception
    failed: dict[str, Any]
    command: Fail


class JobSecrets:
    """The secrets of one job, looked up at most once, and only when they are needed."""

    def __init__(self, source: secrets.Secrets, allow_list: secrets.SecretFilter, job: Job) -> None:
        self._source = source
        self._filter = allow_list
        self._job = job
        self._allowed: secrets.Allowed | None = None
        self._mask: Callable[[str], str] | None = None
        self._text: str | None = None
        self._used: dict[str, str] = {}
        self._context = secrets.SecretContext(job.tenant_id, job.bpmn_process_id)

    async def replaced(self) -> str:
        """The job's variables with every allowed reference replaced."""
        if self._text is None:
            text = self._job.variables
            if secrets.mentions(text):
                text = await self._source.replace(text, self._context, await self._allow(), self._used)
            self._text = text
        return self._text

    async def get(self, name: str) -> str:
        """One secret by its name. Raises SecretUnavailable also when the job may not use it, and what a provider raises."""
        if name not in self._used:
            allowed = await self._allow()
            value = await self._source.get(name, self._context) if allowed(name) else None
            if value is None:
                raise secrets.SecretUnavailable(name)
            self._used[name] = value
            self._mask = None  # made before this value was known
        return self._used[name]

    async def mask(self) -> Callable[[str], str]:
        """Masks the values that the job's variables refer to, and those that were given out. Raises what a provider raises."""
        if self._mask is None:
            if not self._used and not secrets.mentions(self._job.variables):
                return _unmasked
            allowed = await self._allow()
            values = await self._source.values(self._job.variables, self._context, allowed, self._used)
            self._mask = secrets.mask_with(values)
        return self._mask

    async def _allow(self) -> secrets.Allowed:
        if self._allowed is None:
            job = self._job
            self._allowed = await self._filter.allowed(job.process_definition_key, job.element_id)
        return self._allowed


async def failure(error: Exception, job: Job, plan: Plan, hidden: JobSecrets, *, final: bool = False) -> Failure:
    """The failed job for an error. final: the outcome was known already, so there are no retries and no back-off."""
    found = await _failure(error, job, plan, hidden, final=final)
    log.error(
        "a job failed",
        job=job.key,
        type=job.type,
        headers=job.custom_headers,
        tenant=job.tenant_id,
        process=job.bpmn_process_id,
        process_version=job.process_definition_version,
        process_definition=job.process_definition_key,
        process_instance=job.process_instance_key,
        error=found.failed["type"],
        message=found.failed["message"],
    )
    return found


async def _failure(error: Exception, job: Job, plan: Plan, hidden: JobSecrets, *, final: bool) -> Failure:
    if isinstance(error, secrets.SecretsUnreadable):
        return _kept(error, job)
    try:
        mask = await hidden.mask()
    except secrets.SecretsUnreadable as e:
        return _kept(e, job)
    except Exception as e:
        return _concealed(e, job, retries=job.retries if final else job.retries - 1)
    failed = error_object(error, mask)
    if final:
        return Failure(error, failed, fail(error, failed, retries=0, backoff_ms=None))
    backoff_ms = None if isinstance(error, HeaderInvalid) else plan.backoff_ms
    if isinstance(error, sdk.ConnectorRetryException) and error.backoff is not None:
        backoff_ms = max(0, error.backoff // timedelta(milliseconds=1))
    return Failure(error, failed, fail(error, failed, retries=retries_after(error, job.retries), backoff_ms=backoff_ms))


def _kept(error: Exception, job: Job) -> Failure:
    """The model cannot be read just now: no fault of the job's, so it keeps its retries and comes again."""
    failed = {"type": "java.lang.IllegalArgumentException", "message": cut(str(error))}
    return Failure(error, failed, fail(error, failed, retries=job.retries, backoff_ms=_UNREADABLE_MODEL_BACKOFF_MS))


def _concealed(error: Exception, job: Job, *, retries: int) -> Failure:
    """The secrets cannot be fetched, so the original message must not leave."""
    message = (
        "Fetching secrets failed, original error can't be displayed as the error message might contain secrets: "
        f"{message_of(error)}"
    )
    failed = {"type": java_type(error), "message": cut(message)}
    return Failure(error, failed, fail(error, failed, retries=retries, backoff_ms=None))


def _unmasked(text: str) -> str:
    return text
