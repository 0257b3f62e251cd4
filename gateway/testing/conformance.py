"""Whether an inbound connector keeps what the gateway promises: checks that its author runs at the real source.

The author says how his source is filled, looked into and cut off. Each check runs the connector under the real supervision, over
a process that is slow, away, refuses or goes down, and raises AssertionError with the events that were lost, the window that was
not kept, the storm that came. The whole of it, for a connector at a shelf where events lie until somebody takes them off:

    class Shelf(SourceUnderTest):
        window = 4

        def __init__(self) -> None:
            self.connector = inbound_connector("Shelf", type="acme:shelf:1")(self.watch)
            self.events: list[str] = []
            self.reachable = True

        def properties(self) -> Mapping[str, str]:
            return {}

        async def put(self, ids: Sequence[str]) -> None:
            self.events += ids

        def id_of(self, event: Event) -> str:
            return str(event["name"])

        async def held(self) -> Collection[str]:
            return self.events

        async def interrupt(self) -> None:
            self.reachable = False

        async def restore(self) -> None:
            self.reachable = True

        async def watch(self, source: InboundContext) -> None:          # the connector
            seen: set[str] = set()
            async with source.window(self.window) as window:
                while self.reachable:
                    source.report_health("UP")
                    for name in [each for each in self.events if each not in seen]:
                        seen.add(name)
                        delivery = await window.emit({"name": name}, id=name, again=later)
                        delivery.add_done_callback(partial(self.take_off, name))
                    await source.sleep(0.01)
            raise ConnectionError("nobody reaches the shelf")

        def take_off(self, name: str, delivery: Delivery) -> None:
            with suppress(asyncio.CancelledError):                      # given up: it stays there
                if self.reachable and not delivery.result().retryable:
                    self.events.remove(name)

    def later(outcome: Outcome, attempts: int) -> float | None:
        return min(2.0 ** (attempts - 1), 60.0) if outcome.retryable else None

    @pytest.mark.parametrize("check", CHECKS)
    async def test_conformance(check: Check) -> None:
        await check(Shelf())

The checks take about ten seconds. What they ask for is what makes an event arrive at least once and a gateway bearable for
the systems around it: acknowledge an event when its outcome is `done`, and not before; hold no more than the window; raise when
the source is lost, and be there for the next attempt; end when cancelled; try again with pauses.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal

from gateway.sdk import EngineRefused, Event, InboundConnector, InvalidInput, Outcome
from gateway.testing.inbound import InboundRun, published, run_inbound

_AWAY_SECONDS: Final = 1.5
_WATCHED_SECONDS: Final = 0.5
_GRACE_SECONDS: Final = 5.0
_ABORT_SECONDS: Final = 1.0
_ATTEMPTS: Final = 4  # of each place in the window while the engine is away for those seconds, and of a poison event
_AWAY: Final = EngineRefused("UNAVAILABLE", "the engine is away, as this check wants it")
_POISON: Final = InvalidInput("the process can never take this event, as this check wants it")


class SourceUnderTest(ABC):
    """A source with a connector at it. Each check wants a fresh one, with nothing in it.

    connector, and `properties()` of its element, which lead it to the source; secrets: those that the properties name.
    window: how many events the connector has under way at most, with these properties.
    poison: where an event is that the process can never take (InvalidInput): `gone` from the source, or `kept` by it. Where the
    connector has a policy for it, check each that lets other events pass.
    patience: seconds in which anything comes that has to come: events, a changed health, what the source tells of itself.
    drain: seconds that the connector itself waits for events under way when it is cancelled; 0 where it leaves that to its window.
    """

    connector: InboundConnector
    window: int
    secrets: Mapping[str, str] | None = None
    poison: Literal["gone", "kept"] = "gone"
    patience: float = 10.0
    drain: float = 0.0

    @abstractmethod
    def properties(self) -> Mapping[str, str]:
        """The properties of the element, without `inbound.type`."""

    @abstractmethod
    async def put(self, ids: Sequence[str]) -> None:
        """Puts an event into the source for each id. Also called while the connector is cut off from it."""

    @abstractmethod
    def id_of(self, event: Event) -> str:
        """The id that an event was put in with; anything for an event that was not put in by `put`."""

    @abstractmethod
    async def held(self) -> Collection[str]:
        """The ids that a consumer who comes now would get: all that was not acknowledged. Called only while none runs, and again
        within `patience` until it is as expected, for sources that need a moment.
        """

    @abstractmethod
    async def interrupt(self) -> None:
        """Breaks the connector's connection to the source, and lets none be made until `restore`."""

    @abstractmethod
    async def restore(self) -> None:
        """Lets the connector reach the source again."""

    async def put_unreadable(self) -> None:  # noqa: B027 - there need not be such a thing
        """Puts something into the source that the connector cannot make an event of, where there is such a thing."""


Check = Callable[[SourceUnderTest], Awaitable[None]]

# ---- the checks ------------------------------------------------------------------------------------------------------


async def every_event_arrives_and_is_acknowledged(source: SourceUnderTest) -> None:
    """What lies there before the start arrives, what comes later too, with health UP; once the process has all and the connector
    has stopped, nothing is left in the source.
    """
    trial = _Trial(source)
    before, later = trial.ids("before"), trial.ids("later")
    await source.put(before)
    async with trial.running() as run:
        await trial.taken(run, before)
        await source.put(later)
        await trial.taken(run, later)
        await run.until(lambda: run.health.status == "UP", "health UP", timeout=source.patience)
        await trial.stop(run)
    await trial.expect_held(())


async def the_window_is_filled_and_never_exceeded(source: SourceUnderTest) -> None:
    """A process that is slow gets as many events at once as the window allows, not one more, however many wait."""
    trial = _Trial(source)
    ids = trial.ids("e")
    trial.gate.clear()
    await source.put(ids)
    async with trial.running() as run:
        await trial.under_way(run, source.window)
        await asyncio.sleep(_WATCHED_SECONDS)
        _expect_window(run, source)
        trial.gate.set()
        await trial.taken(run, ids)
        _expect_window(run, source)


def _expect_window(run: InboundRun, source: SourceUnderTest) -> None:
    assert run.most <= source.window, f"{run.most} events were under way at once, in a window of {source.window}"


async def nothing_is_acknowledged_before_the_process_has_it(source: SourceUnderTest) -> None:
    """Aborted with events under way that have no outcome yet, as at a crash: the source still has them all, and the next start
    brings them.
    """
    trial = _Trial(source)
    ids = trial.ids("e")
    trial.gate.clear()
    await source.put(ids)
    async with trial.running() as run:
        await trial.under_way(run, source.window)
        await trial.abort(run)
    await trial.expect_held(ids)
    trial.gate.set()
    async with trial.running() as run:
        await trial.taken(run, ids)


async def a_shutdown_in_the_middle_loses_nothing(source: SourceUnderTest) -> None:
    """Stopped with events under way and others waiting: those under way finish and are acknowledged, nothing new begins, the rest
    stays in the source and comes at the next start.
    """
    trial = _Trial(source)
    ids = trial.ids("e")
    trial.gate.clear()
    await source.put(ids)
    async with trial.running() as run:
        await trial.under_way(run, source.window)
        stopping = asyncio.create_task(trial.stop(run))
        await asyncio.sleep(0.1)
        trial.gate.set()
        await stopping
        given = sum(trial.attempts.values())
        assert given == source.window, f"{given - source.window} more events were given to the process after the stop"
    await trial.expect_held([each for each in ids if each not in trial.done])
    assert trial.done, "none of the events that were under way at the stop was waited for"
    async with trial.running() as run:
        await trial.taken(run, ids)


async def a_lost_connection_is_told_and_made_up_for(source: SourceUnderTest) -> None:
    """The connection breaks with events under way, and stays away: health DOWN. It comes back: health UP and every event, those
    under way then, those that waited and those that came in the meantime, without anybody's help.
    """
    trial = _Trial(source)
    ids, meanwhile, after = trial.ids("e"), trial.ids("meanwhile"), trial.ids("after")
    async with trial.running() as run:
        await run.until(lambda: run.health.status == "UP", "health UP", timeout=source.patience)
        trial.gate.clear()
        await source.put(ids)
        await trial.under_way(run, 1)
        await source.interrupt()
        try:
            trial.gate.set()
            await run.until(lambda: run.health.status == "DOWN", "health DOWN", timeout=source.patience)
            await source.put(meanwhile)
        finally:
            await source.restore()
        await trial.taken(run, [*ids, *meanwhile])
        await run.until(lambda: run.health.status == "UP", "health UP again", timeout=source.patience)
        await source.put(after)
        await trial.taken(run, after)
        await trial.stop(run)
    await trial.expect_held(())


async def a_poison_event_stops_no_other(source: SourceUnderTest) -> None:
    """One event that the process can never take, and one that nobody can read: their neighbours arrive. The poison is not tried
    again and again, and is where `poison` says.
    """
    trial = _Trial(source)
    ids = trial.ids("e")
    bad, good = ids[1], [*ids[:1], *ids[2:]]
    trial.outcomes[bad] = _POISON
    await source.put(ids[: len(ids) // 2])
    await source.put_unreadable()
    await source.put(ids[len(ids) // 2 :])
    async with trial.running() as run:
        await trial.taken(run, good)
        await run.until(lambda: trial.attempts[bad] > 0, "attempt at the poison event", timeout=source.patience)
        await asyncio.sleep(_WATCHED_SECONDS)
        count = trial.attempts[bad]
        assert count <= _ATTEMPTS, f"a hot loop: {count} attempts at a poison event"
        await trial.stop(run)
    await trial.expect_held([bad] if source.poison == "kept" else [])


async def an_outage_of_the_engine_loses_nothing_and_makes_no_storm(source: SourceUnderTest) -> None:
    """The engine is away for some time: no event is given up, attempts are few. It is back: all events arrive by themselves."""
    trial = _Trial(source)
    ids = trial.ids("e")
    trial.always = _AWAY
    await source.put(ids)
    async with trial.running() as run:
        await run.until(lambda: bool(trial.attempts), "event at all", timeout=source.patience)
        await asyncio.sleep(_AWAY_SECONDS)
        count, limit = sum(trial.attempts.values()), _ATTEMPTS * source.window
        assert count <= limit, (
            f"a hot loop: {count} attempts in {_AWAY_SECONDS:g} s at an engine that is away, expected {limit} at most "
            f"with a window of {source.window}"
        )
        trial.always = None
        await trial.taken(run, ids)
        await trial.stop(run)
    await trial.expect_held(())


CHECKS: Final[Sequence[Check]] = (
    every_event_arrives_and_is_acknowledged,
    the_window_is_filled_and_never_exceeded,
    nothing_is_acknowledged_before_the_process_has_it,
    a_shutdown_in_the_middle_loses_nothing,
    a_lost_connection_is_told_and_made_up_for,
    a_poison_event_stops_no_other,
    an_outage_of_the_engine_loses_nothing_and_makes_no_storm,
)
"""All of them, in the order in which to mend a connector."""

# ---- the process -----------------------------------------------------------------------------------------------------


class _Trial:
    """A process that takes the events of a source, as a check says: it holds them while `gate` is closed, then answers `always`,
    the event's own entry in `outcomes`, or that it took them.
    """

    def __init__(self, source: SourceUnderTest) -> None:
        self.source = source
        self.gate = asyncio.Event()
        self.gate.set()
        self.always: Outcome | None = None
        self.outcomes: dict[str, Outcome] = {}
        self.attempts: Counter[str] = Counter()
        self.done: set[str] = set()

    def ids(self, name: str) -> list[str]:
        """More than go into the window."""
        return [f"{name}-{number}" for number in range(max(12, 3 * self.source.window))]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[InboundRun]:
        source = self.source
        async with run_inbound(
            source.connector, source.properties(), answer=self._answer, secrets=source.secrets
        ) as run:
            try:
                yield run
            finally:
                self.gate.set()  # what is still under way need not hold up the end

    async def _answer(self, event: Event, message_id: str | None) -> Outcome:
        ident = self.source.id_of(event)
        self.attempts[ident] += 1
        await self.gate.wait()
        outcome = self.always or self.outcomes.get(ident) or published(event, message_id)
        if outcome.done:
            self.done.add(ident)
        return outcome

    async def under_way(self, run: InboundRun, count: int) -> None:
        """Waits until so many events are under way at once."""
        await run.until(lambda: run.under_way >= count, f"{count} events under way", timeout=self.source.patience)

    async def taken(self, run: InboundRun, ids: Sequence[str]) -> None:
        """Waits until the process has taken all these."""
        try:
            await run.until(lambda: self.done.issuperset(ids), "arrival of all events", timeout=self.source.patience)
        except AssertionError as e:
            raise AssertionError(f"not taken by the process: {_some(set(ids) - self.done)}; {e}") from None

    async def stop(self, run: InboundRun) -> None:
        """Stops the connector as a shutdown does: all that is under way may finish."""
        clock, grace = asyncio.get_running_loop().time, min(_GRACE_SECONDS, self.source.patience)
        began = clock()
        await run.executable.stop(grace=grace)
        assert clock() - began < grace, f"the connector has not ended within {grace:g} s after it was cancelled"

    async def abort(self, run: InboundRun) -> None:
        """Stops the connector as a shutdown does whose grace runs out: what is under way is given up."""
        before = len(run.log)
        await run.executable.stop(grace=self.source.drain + _ABORT_SECONDS)
        late = [entry.message for entry in run.log[before:] if (entry.severity, entry.tag) == ("ERROR", "Lifecycle")]
        assert not late, f"after the stop: {', '.join(late)}"

    async def expect_held(self, expected: Collection[str]) -> None:
        """Waits until the source holds these ids and no other."""
        loop, wanted = asyncio.get_running_loop(), set(expected)
        end = loop.time() + self.source.patience
        while (found := set(await self.source.held())) != wanted:
            if loop.time() > end:
                lost, left = _some(wanted - found), _some(found - wanted)
                raise AssertionError(
                    f"in the source after the stop: acknowledged without reason, so lost: {lost}; "
                    f"not acknowledged, so to come again: {left}"
                )
            await asyncio.sleep(0.05)


def _some(ids: Collection[str]) -> str:
    shown = sorted(ids)
    return (", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")) or "none"
