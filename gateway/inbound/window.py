"""A window on events under way: bounded, ordered by key where a key is given, tried again in place where the connector says so."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from gateway.limits import Permits
from gateway.sdk import CorrelationFailed, Event, Outcome
from gateway.sdk import inbound as sdk

log = structlog.get_logger(__name__)

Correlate = Callable[[Event, str | None], Awaitable[Outcome]]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class _Item:
    """One event under way."""

    event: Event
    id: str | None
    again: sdk.Again | None
    delivery: "asyncio.Future[Outcome]"


class EventWindow:
    """The `Window` of the SDK. correlate: gives one event to the process; sleep: between two attempts."""

    def __init__(self, size: int, correlate: Correlate, sleep: Sleep) -> None:
        self._permits = Permits(size)
        self._correlate = correlate
        self._sleep = sleep
        self._lanes: dict[Hashable, deque[_Item]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for all that is under way; nothing is tried again from here on.

        To be cancelled means to stop, and stopping lets events under way finish: only a second cancellation cancels them.
        """
        self._closing.set()
        cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        again = False
        try:
            while self._tasks:
                try:
                    await asyncio.wait(self._tasks)
                except asyncio.CancelledError:
                    if cancelled:
                        raise
                    cancelled = again = True
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
        if again:
            raise asyncio.CancelledError

    async def emit(
        self,
        event: Event,
        *,
        id: str | None = None,  # noqa: A002 - the contract's name
        key: Hashable = None,
        again: sdk.Again | None = None,
    ) -> "asyncio.Future[Outcome]":
        """As the SDK's `Window.emit` says."""
        if not self._closing.is_set():
            await self._permits.take()
            if self._closing.is_set():
                self._permits.give_back()
        if self._closing.is_set():
            raise RuntimeError("the window is closed: it takes no more events")
        item = _Item(event, id, again, asyncio.get_running_loop().create_future())
        lane = self._lanes.get(key) if key is not None else None
        if lane is not None:
            lane.append(item)
            return item.delivery
        if key is not None:
            self._lanes[key] = deque()
        task = asyncio.create_task(self._work(item, key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return item.delivery

    def statistics(self) -> Mapping[str, float]:
        permits = self._permits.statistics()
        return {"limit": permits.limit, "in_use": permits.in_use, "waiting": permits.waiting}

    async def _work(self, first: _Item, key: Hashable) -> None:
        """Handles an event, and after it those of the same key that came in the meantime."""
        lane = self._lanes[key] if key is not None else None
        item: _Item | None = first
        try:
            while item is not None:
                outcome = await self._handled(item)
                if not item.delivery.done():
                    item.delivery.set_result(outcome)
                self._permits.give_back()
                item = lane.popleft() if lane else None
        finally:
            for left in (*((item,) if item else ()), *(lane or ())):  # cancelled: these have no outcome
                left.delivery.cancel()
                self._permits.give_back()
            if key is not None:
                del self._lanes[key]

    async def _handled(self, item: _Item) -> Outcome:
        attempts = 0
        while True:
            attempts += 1
            try:
                outcome = await self._correlate(item.event, item.id)
                delay = item.again(outcome, attempts) if item.again is not None else None
            except Exception as e:
                log.exception("an event could not be handled")
                return CorrelationFailed(f"{type(e).__name__} while handling an event")
            if delay is None or not await self._paused(delay):
                return outcome

    async def _paused(self, seconds: float) -> bool:
        """Waits; False when the window closes before the time is over."""
        if self._closing.is_set():
            return False
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({sleeping, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            closing.cancel()
        return not self._closing.is_set()
