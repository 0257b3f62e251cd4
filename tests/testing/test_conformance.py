"""The conformance suite: a good connector passes, and each way of doing it wrong is found by the check for it."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial

import pytest

from gateway import sdk
from gateway.sdk import InboundContext, Outcome, inbound_connector
from gateway.testing import conformance
from gateway.testing.conformance import CHECKS, Check, SourceUnderTest
from tests.testing.test_jobs import examples


def shelf() -> SourceUnderTest:
    """The source in the docstring of the suite, which is a connector for itself."""
    names = {name: getattr(sdk, name) for name in sdk.__all__} | vars(conformance)
    names |= {"asyncio": asyncio, "partial": partial, "pytest": pytest, "suppress": suppress}
    exec(examples(conformance.__doc__), names)
    found = names["Shelf"]()
    assert isinstance(found, SourceUnderTest)
    return found


async def test_the_example_of_the_documentation_passes() -> None:
    await asyncio.gather(*(check(shelf()) for check in CHECKS))


# ---- a queue, and a connector that does things wrong where it is told so ---------------------------------------------


class Queue(SourceUnderTest):
    """A queue in memory: what was handed out and not acknowledged comes again when the consumer goes. wrong: how."""

    window = 3
    patience = 0.5

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong
        self.connector = inbound_connector("Queue", type="test:queue:1")(self.consume)
        self.ready: list[str] = []
        self.handed_out: list[str] = []
        self.reachable = True
        if wrong in {"keeps poison", "keeps poison, as it says"}:
            self.poison = "kept" if wrong.endswith("says") else "gone"

    def properties(self) -> Mapping[str, str]:
        return {}

    async def put(self, ids: Sequence[str]) -> None:
        self.ready += ids

    async def put_unreadable(self) -> None:
        self.ready.append("?")

    def id_of(self, event: sdk.Event) -> str:
        return str(event["name"])

    async def held(self) -> Collection[str]:
        return [*self.ready, *self.handed_out]

    async def interrupt(self) -> None:
        self.reachable = False

    async def restore(self) -> None:
        self.reachable = True

    # ---- the connector

    async def consume(self, source: InboundContext) -> None:
        window = source.window(100 if self.wrong == "ignores the window" else self.window)
        if self.wrong == "works one by one":
            window = source.window(1)
        try:
            async with window:
                await self.deliver(source, window)
        except asyncio.CancelledError:
            if self.wrong == "loses at a shutdown":
                self.ready.clear()
            if self.wrong == "empties the queue":
                async with source.window(self.window) as another:
                    while self.ready:
                        await self.hand_out(self.ready.pop(0), another)
            if self.wrong == "does not end":
                await asyncio.shield(asyncio.sleep(3))
            raise
        finally:
            self.ready[:0] = self.handed_out
            self.handed_out.clear()

    async def deliver(self, source: InboundContext, window: sdk.Window) -> None:
        if self.wrong != "is never up":
            source.report_health("UP")
        while True:
            if not self.reachable and self.wrong != "does not notice":
                if self.wrong == "dies":
                    source.report_health("DOWN")
                    await asyncio.Event().wait()
                raise ConnectionError("the queue is gone")
            if self.ready and self.reachable:
                await self.hand_out(self.ready.pop(0), window)
            else:
                await source.sleep(0.005)

    async def hand_out(self, name: str, window: sdk.Window) -> None:
        if name == "?":
            if self.wrong == "stumbles over what it cannot read":
                self.ready.insert(0, name)
                raise ValueError(name)
            return
        if self.wrong not in {"acknowledges early", "takes away"}:
            self.handed_out.append(name)
        delivery = await window.emit({"name": name}, id=name, again=self.again)
        delivery.add_done_callback(partial(self.ended, name))

    def again(self, outcome: Outcome, attempts: int) -> float | None:
        if self.wrong == "is impatient":
            return None if outcome.done else 0.01
        if not outcome.retryable or self.wrong in {"forgets what fails", "requeues at once"}:
            return None
        return float(attempts)

    def ended(self, name: str, delivery: sdk.Delivery) -> None:
        with suppress(asyncio.CancelledError):
            outcome = delivery.result()
            if self.wrong == "takes away":
                if not outcome.done:
                    self.ready.append(name)
                return
            if not self.reachable or name not in self.handed_out or self.wrong == "never acknowledges":
                return
            self.handed_out.remove(name)
            if self.wrong == "forgets what fails" or outcome.done:
                return
            if outcome.retryable or self.wrong.startswith("keeps poison"):
                where = len(self.ready) if self.wrong == "requeues at once" else 0
                self.ready[where:where] = [] if self.wrong.startswith("keeps poison") else [name]
                if self.wrong.startswith("keeps poison"):
                    self.handed_out.append(name)


async def test_a_good_connector_passes() -> None:
    def patient() -> Queue:
        queue = Queue()
        queue.patience = 5.0
        return queue

    await asyncio.gather(*(check(patient()) for check in CHECKS))


async def test_poison_that_is_kept_passes_where_that_is_the_policy() -> None:
    await conformance.a_poison_event_stops_no_other(Queue("keeps poison, as it says"))


WRONG: dict[Check, dict[str, str]] = {
    conformance.every_event_arrives_and_is_acknowledged: {
        "never acknowledges": "so to come again: before-0, before-1",
        "is never up": "no health UP within",
    },
    conformance.the_window_is_filled_and_never_exceeded: {
        "ignores the window": "12 events were under way at once, in a window of 3",
        "works one by one": "no 3 events under way within",
    },
    conformance.nothing_is_acknowledged_before_the_process_has_it: {
        "acknowledges early": "so lost: e-0, e-1, e-2, e-3;",
        "takes away": "so lost: e-0, e-1, e-2, e-3;",
    },
    conformance.a_shutdown_in_the_middle_loses_nothing: {
        "loses at a shutdown": "so lost: e-",
        "acknowledges early": "so lost: e-",
        "does not end": "has not ended within 0.5 s",
        "empties the queue": "more events were given to the process after the stop",
    },
    conformance.a_lost_connection_is_told_and_made_up_for: {
        "dies": "not taken by the process: e-",
        "does not notice": "no health DOWN within",
    },
    conformance.a_poison_event_stops_no_other: {
        "keeps poison": "so to come again: e-1",
        "is impatient": "a hot loop",
        "stumbles over what it cannot read": "not taken by the process: e-",
    },
    conformance.an_outage_of_the_engine_loses_nothing_and_makes_no_storm: {
        "forgets what fails": "not taken by the process: e-0",
        "is impatient": "a hot loop",
        "requeues at once": "a hot loop",
    },
}
"""Ways to be wrong by the check that finds them, and what it says."""


@pytest.mark.parametrize("check", CHECKS)
async def test_wrong_connectors_are_found(check: Check) -> None:
    async def said(wrong: str) -> str:
        with pytest.raises(AssertionError) as found:
            await check(Queue(wrong))
        return str(found.value)

    for told, (wrong, words) in zip(await asyncio.gather(*map(said, WRONG[check])), WRONG[check].items(), strict=True):
        assert words in told, f"a connector that {wrong}"


def test_the_suite_is_all_that_the_module_offers() -> None:
    offered = {name for name, each in vars(conformance).items() if asyncio.iscoroutinefunction(each) and name[0] != "_"}
    assert {each.__name__ for each in CHECKS} == offered
