"""A connector that does with a secret what connectors should not: raises it, logs it, loses it in the background."""

import asyncio
import json
import logging
import threading
from typing import Any

from gateway.sdk import ConnectorException, ConnectorRetryException, JobContext, outbound_connector

log = logging.getLogger("leaky")


@outbound_connector("Subject", type="fault:subject", input_variables=("id", "do", "secret"))
async def subject(job: JobContext) -> Any:
    """`do` chooses how the secret gets out."""
    given = json.loads(await job.variables())
    secret = given["secret"]
    match given["do"]:
        case "raise":
            raise ConnectorException(
                f"refused {secret}", code="REFUSED", variables={secret: [secret, {"deep": secret}]}
            )
        case "chain":
            try:
                raise ValueError(secret)
            except ValueError as e:
                raise ConnectorRetryException(f"again {secret!r} {json.dumps(secret)}", retries=0) from e
        case "by-name":
            secret = await job.secret("PASSWORD")
            log.warning("by its name the secret is %s", secret)
            raise ConnectorException(f"by name {secret}")
        case "log":
            log.warning("the secret is %s", secret)
            log.error("as an object: %r", {"secret": secret})
            try:
                raise RuntimeError(f"cannot use {secret}")
            except RuntimeError:
                log.exception("with a trace")
        case "background":
            lost = asyncio.create_task(_lose(secret))
            await asyncio.wait([lost])
            thread = threading.Thread(target=_crash, args=(secret,))
            thread.start()
            await asyncio.to_thread(thread.join)
        case "exit":
            raise SystemExit(f"ended by {secret}")
        case "wait":
            await asyncio.sleep(600)
    return {"done": True}


async def _lose(secret: str) -> None:
    raise RuntimeError(f"nobody looks at {secret}")


def _crash(secret: str) -> None:
    raise RuntimeError(f"a thread ends with {secret}")
