"""Connectors that behave as their input says; each call is written to the ledger before anything else."""

import asyncio
import json
import os
import time
from typing import Any

from gateway.sdk import ConnectorException, JobContext, outbound_connector

_FETCHED = ("id", "do", "seconds")


def _note(job: JobContext) -> dict[str, Any]:
    given: dict[str, Any] = json.loads(job.job.variables)
    if path := os.environ.get("FAULT_LEDGER"):
        ledger = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(ledger, f"{given.get('id')} {job.job.key}\n".encode())
        os.close(ledger)
    return given


@outbound_connector("Subject", type="fault:subject", input_variables=_FETCHED)
async def subject(job: JobContext) -> dict[str, Any]:
    """Sleeps, raises, blocks the loop or swallows its cancellation."""
    given = _note(job)
    seconds, what = float(given.get("seconds") or 0), given.get("do")
    if what == "raise":
        raise ConnectorException("as the input wanted", code="FAULT")
    if what == "exit":
        raise SystemExit(1)
    if what == "block":
        time.sleep(seconds)  # noqa: ASYNC251 - the fault
    elif what == "stubborn":
        await _stubborn(seconds)
    elif seconds:
        await asyncio.sleep(seconds)
    return {"id": given.get("id")}


@outbound_connector("Thread", type="fault:thread", input_variables=_FETCHED)
def thread(job: JobContext) -> dict[str, Any]:
    """Sleeps in a thread, as a blocking library does."""
    given = _note(job)
    time.sleep(float(given.get("seconds") or 0))
    return {"id": given.get("id")}


async def _stubborn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
