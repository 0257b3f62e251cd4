"""What blocks the event loop is named within a second: where, and which job."""

import asyncio
import time
from typing import Any

import structlog

from gateway.watchdog import Watchdog


def _block(seconds: float) -> None:
    time.sleep(seconds)  # as a connector does that uses a blocking library


async def _watched(describe: Any, seconds: float, limit: float = 0.5) -> tuple[Watchdog, list[Any]]:
    watchdog = Watchdog(describe, limit=limit)
    with structlog.testing.capture_logs() as logs:
        watchdog.start()
        await asyncio.sleep(0.05)
        _block(seconds)
        await asyncio.sleep(0.1)
        watchdog.stop()
    return watchdog, list(logs)


async def test_a_blocked_loop_is_named_within_a_second_while_it_is_blocked() -> None:
    watchdog, logs = await _watched(lambda task: {"job": 4711, "type": "acme:slow:1"}, 0.9)
    assert watchdog.blocked_times == 1
    (entry,) = logs
    assert 0.5 <= entry["seconds"] < 0.9
    assert (entry["job"], entry["type"]) == (4711, "acme:slow:1")
    assert f"{__file__}:" in entry["where"]
    assert "_block" in entry["where"]


async def test_the_task_that_runs_is_what_is_described() -> None:
    tasks: list[Any] = []

    def describe(task: Any) -> dict[str, object]:
        tasks.append(task)
        return {}

    await _watched(describe, 0.3, limit=0.1)
    assert tasks == [asyncio.current_task()]


async def test_a_loop_that_lives_is_not_reported() -> None:
    watchdog = Watchdog(lambda _: {}, limit=0.2)
    watchdog.start()
    for _ in range(50):
        await asyncio.sleep(0.01)
    watchdog.stop()
    assert watchdog.blocked_times == 0


async def test_a_failing_description_does_not_end_the_watch() -> None:
    def describe(task: Any) -> dict[str, object]:
        raise RuntimeError("dictionary changed size during iteration")

    watchdog = Watchdog(describe, limit=0.1)
    watchdog.start()
    for _ in range(2):
        await asyncio.sleep(0.05)
        _block(0.2)
    await asyncio.sleep(0.05)
    watchdog.stop()
    assert watchdog.blocked_times == 2
