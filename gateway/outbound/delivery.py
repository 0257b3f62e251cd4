"""Sending a job's outcome until the engine has it, or the lease ends."""

import asyncio
import enum

import structlog

from gateway.engine import (
    Commands,
    EngineError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    TransientError,
    Unauthenticated,
)
from gateway.limits import Backoff
from gateway.outbound.lease import Clock, Lease
from gateway.outbound.outcome import Command, Complete, Fail, Throw

log = structlog.get_logger(__name__)

_REASON = 2000  # characters of an engine's refusal that an incident repeats


class Delivered(enum.Enum):
    ACCEPTED = "accepted"
    IGNORED = "ignored"  # the job is gone: answered before, cancelled, or given to another worker
    REFUSED = "refused"  # the engine does not take it
    EXPIRED = "expired"  # the lease ended first


async def send(commands: Commands, job_key: int, command: Command, timeout: float | None = None) -> None:
    """One attempt. timeout: seconds, None for the engine's default."""
    if isinstance(command, Complete):
        await commands.complete_job(job_key, command.variables, result=command.result, timeout=timeout)
    elif isinstance(command, Fail):
        await commands.fail_job(
            job_key,
            retries=command.retries,
            message=command.message,
            backoff_ms=command.backoff_ms or 0,
            variables=command.variables,
            timeout=timeout,
        )
    elif isinstance(command, Throw):
        await commands.throw_error(
            job_key, code=command.code, message=command.message, variables=command.variables, timeout=timeout
        )


async def deliver(
    commands: Commands, lease: Lease, command: Command, *, now: Clock, attempt_timeout: float = 10.0
) -> tuple[Delivered, EngineError | None]:
    """Sends the command until the engine took it, refused it, or the lease ended; never after that.

    Transient failures are tried again after 50 ms, growing by 1.6 to 5 s, with a tenth of jitter; so is a lack of credentials:
    the next token may be better, and what the connector did must not be done twice. NOT_FOUND means that the job was answered
    already, perhaps by an attempt whose reply was lost. A command that cannot even be written counts as refused.
    """
    backoff = Backoff(0.05, 5.0, factor=1.6)
    last: EngineError | None = None
    while lease.holds(now()):
        try:
            await send(commands, lease.job.key, command, min(attempt_timeout, max(0.001, lease.deadline - now())))
        except NotFound as e:
            log.info("the job is gone, its outcome is dropped", job=lease.job.key, reason=str(e))
            return Delivered.IGNORED, e
        except (TransientError, Unauthenticated) as e:
            last = e
            await asyncio.sleep(min(backoff.next(), max(0.0, lease.deadline - now())))
        except EngineError as e:
            log.error("the engine refuses the outcome of a job", job=lease.job.key, reason=str(e))
            return Delivered.REFUSED, e
        except Exception as e:  # text that UTF-8 cannot hold, numbers that the protocol cannot
            log.error("the outcome of a job cannot be sent", job=lease.job.key, error=type(e).__name__)
            return Delivered.REFUSED, InvalidArgument(f"it cannot be written as a message ({type(e).__name__})")
        else:
            return Delivered.ACCEPTED, None
    log.warning(
        "the lease of a job ended before its outcome was sent", job=lease.job.key, reason=str(last or "lease lost")
    )
    return Delivered.EXPIRED, last


def instead(command: Command, error: EngineError, retries: int) -> Fail | None:
    """What to send when the engine refused a command: a failure that says so, without what it may have been refused for.

    None when the job is in a state that takes no command: then somebody else has answered it.
    """
    if isinstance(error, FailedPrecondition):
        return None
    left = command.retries if isinstance(command, Fail) else max(0, retries - 1)
    reason = str(error)[:_REASON].encode("utf-8", "replace").decode()
    return Fail(left, f"The engine refused the outcome of the job: {reason}")
