"""What is deployed is found, whatever was missed before."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.engine import (
    DeadlineExceeded,
    EngineError,
    EngineFailure,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SearchPage,
    Unavailable,
    Unimplemented,
)
from gateway.engine.embedded import EmbeddedEngine, VirtualClock
from gateway.inbound.discovery import Discovery, Wanted, check_tenants
from tests.engine.conftest import connected, settings_for
from tests.inbound.models import KEY, file, inbound, message, on_message, order, plain, process, with_aside
from tests.inbound.unsteady import STATISTICS, Seconds, Unsteady
from tests.real.processes import EngineProcess, running_engine

DEFINITIONS = "process-definitions"
SUBSCRIPTIONS = "message-subscriptions"
INSTANCES = "process-instances"


class Rig:
    def __init__(self, version: str = "8.9.1", **options: Any) -> None:
        self.engine = Unsteady(version=version)
        self.clock = Seconds()
        self.discovery = Discovery(self.engine, now=self.clock, **options)  # type: ignore[arg-type]
        self.deploy = self.engine.deploy
        self.delete = self.engine.engine.delete_process_definition

    async def tick(self, seconds: float = 5.0) -> Wanted:
        self.clock.value += seconds
        return await self.discovery.look()

    async def start(self, process_id: str, key: str = "k", *, version: int = -1) -> None:
        await self.engine.engine.create_process_instance(
            bpmn_process_id=process_id, version=version, variables=json.dumps({"id": key})
        )

    async def publish(self, name: str, key: str = "k") -> None:
        await self.engine.engine.publish_message(name=name, correlation_key=key)

    def break_down(self, error: EngineError, *names: str) -> None:
        """All calls of these names fail; without names, all."""
        self.engine.fails = lambda name: error if not names or name in names else None

    def heal(self) -> None:
        self.engine.fails = lambda name: None


def found(wanted: Wanted) -> list[tuple[str, int, str]]:
    """Process, version, element; in the order in which they are."""
    return [(e.bpmn_process_id, e.version, e.element_id) for e in wanted.elements]


def both(process_id: str, version: int) -> list[tuple[str, int, str]]:
    return [(process_id, version, "start"), (process_id, version, "wait")]


# ---- the latest versions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["8.8.9", "8.9.1", "8.10.0", "8.10.0-SNAPSHOT", "8.10.0-alpha2"])
async def test_what_is_deployed_is_found_and_what_is_new_at_the_next_tick(version):
    rig = Rig(version)
    assert (await rig.tick()).elements == ()
    await rig.deploy(order("p"), plain("q"))
    assert found(await rig.tick()) == both("p", 1)
    await rig.deploy(order("p", "2"), order("o"))
    assert found(await rig.tick()) == [*both("o", 1), *both("p", 2)]


async def test_when_nothing_changed_it_is_the_same_object():
    rig = Rig()
    await rig.deploy(order("p"))
    first = await rig.tick()
    for _ in range(30):  # with sweeps
        assert await rig.tick() is first
    await rig.deploy(plain("q"))
    assert await rig.tick() is first, "a process without connectors is no change"
    await rig.deploy(order("p", "2"))
    assert await rig.tick() is not first


async def test_elements_that_stay_are_the_same_objects():
    rig = Rig()
    await rig.deploy(order("p"))
    before = await rig.tick()
    await rig.deploy(order("q"))
    after = await rig.tick()
    assert [a is b for a, b in zip(before.elements, after.elements, strict=False)] == [True, True]


async def test_more_deployments_than_the_first_search_shows_are_all_found():
    rig = Rig(page_size=7)
    await rig.tick()
    for count in (9, 10, 11, 40):
        await rig.deploy(*(order(f"p{count}-{n}") for n in range(count)))
        await rig.tick()
    assert len({e.process_definition_key for e in (await rig.tick()).elements}) == 70


async def test_the_processes_of_all_tenants_are_found():
    engine = EmbeddedEngine(clock=VirtualClock(), version="8.9.1", tenants=("<default>", "blue"))
    unsteady = Unsteady(engine)
    await unsteady.deploy(order("p"))
    await unsteady.deploy(order("p"), tenant_id="blue")
    wanted = await Discovery(unsteady).look()  # type: ignore[arg-type]
    assert [(e.tenant_id, e.element_id) for e in wanted.elements] == [
        ("<default>", "start"), ("<default>", "wait"), ("blue", "start"), ("blue", "wait")
    ]  # fmt: skip


async def test_a_page_size_below_one_is_refused():
    with pytest.raises(ValueError, match="page-size: expected more than 0, but got 0"):
        Rig(page_size=0)


async def test_latest_versions_are_searched_as_a_cluster_allows():
    """Latest versions are not sorted, other searches not filtered; the state is there from 8.10 on."""
    for version, state in (("8.8.9", {}), ("8.9.1", {}), ("8.10.0", {"state": "ACTIVE"})):
        rig = Rig(version, page_size=3)
        await rig.deploy(*(order(f"p{n}") for n in range(5)))
        await rig.tick()
        asked = [options for name, options in rig.engine.asked if name == DEFINITIONS]
        assert asked[0] == {"filter": state, "sort": [("processDefinitionKey", "desc")], "limit": 10}
        assert [options["filter"] for options in asked[1:]] == [{"isLatestVersion": True, **state}] * 2
        assert [(options["limit"], options["after"]) for options in asked[1:]] == [(3, None), (3, "3")]


async def test_a_cluster_that_does_not_know_the_state_is_asked_without():
    rig = Rig("8.9.1")
    await rig.deploy(order("p"))
    topology = await rig.engine.engine.topology()

    async def newer() -> Any:
        return type(topology)(1, 1, 1, "8.10.0-alpha1")

    rig.engine.topology = newer  # type: ignore[method-assign]
    assert found(await rig.tick()) == both("p", 1)
    assert rig.engine.calls[DEFINITIONS] == 3  # once refused


async def test_an_upgrade_of_the_cluster_is_noticed():
    rig = Rig("8.8.9")
    await rig.deploy(order("p"))
    await rig.start("p")
    await rig.deploy(order("p", "2"))
    await rig.tick()
    upgraded = EmbeddedEngine(clock=VirtualClock(), version="8.9.1")
    rig.engine.engine.topology, rig.engine.engine.message_subscription_statistics = (  # type: ignore[method-assign]
        upgraded.topology,
        upgraded.message_subscription_statistics,
    )
    rig.engine.calls.clear()
    await rig.tick(500)
    assert (rig.engine.calls["topology"], rig.engine.calls[STATISTICS]) == (0, 0)
    await rig.tick(200)
    assert (rig.engine.calls["topology"], rig.engine.calls[STATISTICS]) == (1, 1)


async def test_when_the_version_cannot_be_asked_again_the_known_one_does():
    rig = Rig()
    await rig.deploy(order("p"))
    await rig.tick()
    rig.break_down(Unavailable("gone"), "topology")
    await rig.deploy(order("q"))
    assert found(await rig.tick(700)) == [*both("p", 1), *both("q", 1)]


# ---- deletions -------------------------------------------------------------------------------------------------------


async def test_a_deletion_is_seen_at_the_next_tick():
    rig = Rig()
    p, _ = await rig.deploy(order("p"), order("q"))
    await rig.tick()
    await rig.delete(p)
    assert found(await rig.tick()) == both("q", 1)


async def test_when_the_latest_version_is_deleted_the_one_before_takes_over():
    rig = Rig()
    _, second, _ = await rig.deploy(order("p"), order("p", "2"), order("q"))
    assert found(await rig.tick()) == [*both("p", 2), *both("q", 1)]
    await rig.delete(second)
    assert found(await rig.tick()) == [*both("p", 1), *both("q", 1)]


async def test_a_deletion_and_a_deployment_in_one_tick_are_both_seen():
    rig = Rig()
    p, _ = await rig.deploy(order("p"), order("q"))
    await rig.tick()
    await rig.delete(p)
    await rig.deploy(order("r"))
    assert found(await rig.tick()) == [*both("q", 1), *both("r", 1)]


async def test_when_all_is_deleted_nothing_is_wanted():
    rig = Rig()
    keys = await rig.deploy(order("p"), order("q"))
    await rig.tick()
    for key in keys:
        await rig.delete(key)
    assert await rig.tick() == Wanted((), ())


async def test_what_the_number_of_definitions_does_not_show_is_seen_with_the_next_sweep():
    rig = Rig()
    p, _ = await rig.deploy(order("p"), order("q"))
    capped = lambda name, page: SearchPage(page.items, 10_000, page.end_cursor)  # noqa: E731 - as clusters count
    rig.engine.changes = capped
    await rig.tick()
    await rig.delete(p)
    for _ in range(11):
        assert found(await rig.tick()) == [*both("p", 1), *both("q", 1)]
    assert found(await rig.tick()) == both("q", 1)


async def test_a_definition_that_is_indexed_after_a_newer_one_is_found():
    rig = Rig()
    await rig.tick()
    late, _ = await rig.deploy(order("late"), order("p"))

    def lag(name: str, page: SearchPage) -> SearchPage:
        items = [row for row in page.items if row["processDefinitionKey"] != str(late)]
        return SearchPage(items, page.total - 1, page.end_cursor)

    rig.engine.changes = lag
    assert found(await rig.tick()) == both("p", 1)
    rig.engine.changes = lambda name, page: page
    assert found(await rig.tick()) == [*both("late", 1), *both("p", 1)]


async def test_of_one_process_named_twice_the_newest_version_counts():
    rig = Rig()
    await rig.deploy(order("p"), order("p", "2"))

    async def all_versions(resource: str, **options: Any) -> SearchPage:
        options["filter"].pop("isLatestVersion", None)
        return await rig.engine.engine.search(resource, **options)

    rig.engine.search = all_versions  # type: ignore[method-assign]
    assert found(await rig.tick()) == both("p", 2)


# ---- older versions --------------------------------------------------------------------------------------------------

VERSIONS = pytest.mark.parametrize("version", ["8.8.9", "8.9.1", "8.10.0"])


@VERSIONS
async def test_an_older_version_is_served_while_instances_wait(version):
    rig = Rig(version)
    rig.engine.rewrites = with_aside
    await rig.deploy(order("p"))
    await rig.tick()
    await rig.start("p")
    await rig.deploy(order("p", "2"))
    assert found(await rig.tick()) == [*both("p", 2), ("p", 2, "joined"), ("p", 1, "wait"), ("p", 1, "joined")]
    await rig.publish("p-m")
    assert found(await rig.tick()) == [*both("p", 2), ("p", 2, "joined")]


@VERSIONS
async def test_versions_that_had_instances_before_the_gateway_started_are_served(version):
    rig = Rig(version)
    for n in range(1, 5):
        await rig.deploy(order("p", str(n)))
        if n in {1, 3}:
            await rig.start("p", f"k{n}")
    wanted = await rig.tick()
    assert found(wanted) == [*both("p", 4), ("p", 3, "wait"), ("p", 1, "wait")]
    assert [e.properties["note"] for e in wanted.elements] == ["4", "4", "3", "1"]


@VERSIONS
async def test_a_deleted_version_goes_on_for_its_instances_but_starts_no_more(version):
    rig = Rig(version)
    _, second = await rig.deploy(order("p"), order("p", "2"))
    await rig.start("p")
    await rig.tick()
    await rig.delete(second)
    assert found(await rig.tick()) == [("p", 2, "wait"), *both("p", 1)]
    await rig.publish("p-m")
    assert found(await rig.tick(60)) == both("p", 1)


@VERSIONS
async def test_older_versions_can_be_left_out(version):
    rig = Rig(version, active_versions=False)
    await rig.deploy(order("p"))
    await rig.start("p")
    await rig.deploy(order("p", "2"))
    assert found(await rig.tick()) == both("p", 2)
    assert set(rig.engine.calls) == {"topology", DEFINITIONS, "xml"}


async def test_open_subscriptions_are_counted_from_8_9_on_and_searched_for_before():
    for version, by in (("8.8.9", SUBSCRIPTIONS), ("8.9.1", STATISTICS), ("8.10.0", STATISTICS)):
        rig = Rig(version)
        [_, latest] = await rig.deploy(order("p"), order("p", "2"))
        await rig.tick()
        asked = [
            (name, options["filter"])
            for name, options in rig.engine.asked
            if name not in {DEFINITIONS, "topology", "xml"}
        ]
        wanted: dict[str, Any] = {"messageSubscriptionState": "CREATED"}
        if by == SUBSCRIPTIONS:
            wanted["processDefinitionKey"] = {"$notIn": [str(latest)]}
        assert asked == [(by, wanted)]


async def test_a_search_for_subscriptions_takes_a_page_for_each_version_not_for_each_instance():
    rig = Rig("8.8.9", page_size=10)
    for n in range(3):
        await rig.deploy(order("p", str(n)))
        for k in range(40 if n < 2 else 0):
            await rig.start("p", f"{n}-{k}")
    await rig.tick()
    assert rig.engine.calls[SUBSCRIPTIONS] == 3  # two versions with more than a page, and what else there is
    assert found(await rig.tick()) == [*both("p", 3), ("p", 2, "wait"), ("p", 1, "wait")]


@pytest.mark.parametrize("error", [Unimplemented("no"), NotFound("no"), PermissionDenied("no"), InvalidArgument("no")])
async def test_a_cluster_that_does_not_tell_by_one_search_is_asked_by_the_next(error):
    rig = Rig("8.9.1")
    await rig.deploy(order("p"))
    await rig.start("p")
    await rig.deploy(order("p", "2"))
    rig.break_down(error, STATISTICS)
    assert found(await rig.tick()) == [*both("p", 2), ("p", 1, "wait")]
    rig.break_down(error, STATISTICS, SUBSCRIPTIONS)
    assert found(await rig.tick()) == [*both("p", 2), ("p", 1, "wait")]
    rig.break_down(error, STATISTICS, SUBSCRIPTIONS, INSTANCES)
    assert found(await rig.tick()) == both("p", 2)
    rig.engine.calls.clear()
    await rig.tick()
    assert set(rig.engine.calls) == {DEFINITIONS}, "what it does not have is not asked for at each tick"
    rig.heal()
    assert found(await rig.tick(700)) == [*both("p", 2), ("p", 1, "wait")]


async def test_subscriptions_that_do_not_name_their_definition_are_taken_from_the_instances():
    rig = Rig("8.8.9")
    await rig.deploy(order("p"))
    await rig.start("p")
    await rig.deploy(order("p", "2"))

    def old_data(name: str, page: SearchPage) -> SearchPage:
        if name != SUBSCRIPTIONS:
            return page
        return SearchPage([{**row, "processDefinitionKey": None} for row in page.items], page.total, page.end_cursor)

    rig.engine.changes = old_data
    assert found(await rig.tick()) == [*both("p", 2), ("p", 1, "wait")]
    assert rig.engine.calls[INSTANCES] == 1


async def test_a_search_that_does_not_leave_out_what_it_should_is_given_up():
    rig = Rig("8.8.9", page_size=2)
    await rig.deploy(order("p"))
    for n in range(5):
        await rig.start("p", str(n))
    await rig.deploy(order("p", "2"))
    search = rig.engine.search

    async def deaf(resource: str, **options: Any) -> SearchPage:
        options["filter"].pop("processDefinitionKey", None)
        return await search(resource, **options)

    rig.engine.search = deaf  # type: ignore[method-assign]
    assert found(await rig.tick()) == both("p", 2)
    assert rig.engine.calls[SUBSCRIPTIONS] + rig.engine.calls[INSTANCES] == 4


# ---- trouble ---------------------------------------------------------------------------------------------------------


async def test_one_failing_page_and_nothing_of_the_import_is_taken():
    rig = Rig(page_size=2)
    await rig.deploy(*(order(f"p{n}") for n in range(4)))
    before = await rig.tick()
    await rig.deploy(*(order(f"q{n}") for n in range(10)))
    pages = 0

    def third_page(name: str) -> EngineError | None:
        nonlocal pages
        pages += name == DEFINITIONS
        return Unavailable("gone") if pages == 4 else None

    rig.engine.fails = third_page
    with pytest.raises(Unavailable, match="gone"):
        await rig.tick()
    assert str(rig.discovery.last_error) == "gone"
    assert rig.discovery.statistics().processes == 4
    rig.heal()
    after = await rig.tick()
    assert len(after.elements) == len(before.elements) + 20
    assert rig.discovery.last_error is None


async def test_after_an_error_all_is_read_again():
    rig = Rig()
    await rig.deploy(order("p"))
    await rig.tick()
    rig.break_down(Unavailable("gone"))
    with pytest.raises(Unavailable):
        await rig.tick()
    rig.heal()
    await rig.tick()
    assert rig.discovery.statistics().sweeps == 2


async def test_an_engine_that_is_away_is_asked_less_and_less_but_every_half_minute():
    rig = Rig()
    await rig.deploy(order("p"))
    await rig.tick()
    rig.break_down(Unavailable("gone"))
    rig.engine.calls.clear()
    for _ in range(120):  # ten minutes
        with pytest.raises(Unavailable, match="gone"):
            await rig.tick()
    assert 17 <= sum(rig.engine.calls.values()) <= 26
    rig.heal()
    for _ in range(7):
        try:
            assert found(await rig.tick()) == both("p", 1)
            break
        except Unavailable:
            continue
    else:
        pytest.fail("it was not back after 35 seconds")


async def test_at_the_start_nothing_is_wanted_until_all_is_known():
    rig = Rig()
    await rig.deploy(order("p"))
    for name in ("topology", DEFINITIONS):
        rig.break_down(Unavailable("gone"), name)
        with pytest.raises(Unavailable):
            await rig.tick(60)
    rig.heal()
    assert found(await rig.tick(60)) == both("p", 1)


async def test_when_only_subscriptions_cannot_be_read_the_known_ones_stay_and_deployments_are_seen():
    rig = Rig()
    await rig.deploy(order("p"))
    await rig.start("p")
    await rig.deploy(order("p", "2"))
    assert found(await rig.tick()) == [*both("p", 2), ("p", 1, "wait")]
    rig.break_down(DeadlineExceeded("slow"), STATISTICS)
    await rig.deploy(order("q"))
    assert found(await rig.tick()) == [*both("p", 2), ("p", 1, "wait"), *both("q", 1)]
    assert str(rig.discovery.last_error) == "slow"
    rig.engine.calls.clear()
    for _ in range(24):
        await rig.tick()
    assert 5 <= rig.engine.calls[STATISTICS] <= 9
    rig.heal()
    await rig.publish("p-m")
    assert found(await rig.tick(60)) == [*both("p", 2), *both("q", 1)]
    assert rig.discovery.last_error is None


async def test_a_row_that_makes_no_sense_is_the_engines_failure():
    rig = Rig()
    await rig.deploy(order("p"))
    rig.engine.changes = lambda name, page: SearchPage([{"processDefinitionKey": "x"}], 1, None)
    with pytest.raises(EngineFailure, match="expected a process definition with key and id"):
        await rig.tick()


async def test_a_definition_that_cannot_be_read_leaves_the_others_alone():
    rig = Rig()
    await rig.deploy(order("p"), order("q"))
    await rig.tick()
    [bad, _] = await rig.deploy(order("p", "2"), order("r"))
    rig.engine.fails = lambda name: NotFound("lost") if rig.engine.asked[-1] == ("xml", {"key": bad}) else None
    wanted = await rig.tick()
    assert found(wanted) == [*both("p", 1), *both("q", 1), *both("r", 1)], "until it can be read the one before goes on"
    assert rig.discovery.unread() == {bad: "lost"}
    assert await rig.tick() is wanted
    rig.heal()
    assert found(await rig.tick(60)) == [*both("p", 2), *both("q", 1), *both("r", 1)]


async def test_a_deleted_version_does_not_stand_in_for_one_that_cannot_be_read():
    rig = Rig()
    first, second = await rig.deploy(order("p"), order("p", "2"))
    await rig.tick()
    await rig.delete(second)
    rig.engine.fails = lambda name: NotFound("lost") if rig.engine.asked[-1] == ("xml", {"key": first}) else None
    assert found(await rig.tick()) == []
    rig.heal()
    assert found(await rig.tick(60)) == both("p", 1)


async def test_an_older_version_that_cannot_be_read_does_not_hold_up_the_latest():
    rig = Rig()
    [first] = await rig.deploy(order("p"))
    await rig.start("p")
    await rig.deploy(order("p", "2"))
    rig.engine.fails = lambda name: NotFound("lost") if rig.engine.asked[-1] == ("xml", {"key": first}) else None
    assert found(await rig.tick()) == both("p", 2)
    await rig.deploy(order("p", "3"))
    assert found(await rig.tick()) == both("p", 3)
    rig.heal()
    assert found(await rig.tick(60)) == [*both("p", 3), ("p", 1, "wait")]


async def test_an_engine_that_goes_away_while_definitions_are_fetched_is_an_error_that_heals():
    rig = Rig()
    await rig.deploy(*(order(f"p{n}") for n in range(40)))
    rig.break_down(Unavailable("gone"), "xml")
    with pytest.raises(Unavailable, match="gone"):
        await rig.tick()
    assert str(rig.discovery.last_error) == "gone"
    rig.heal()
    assert len((await rig.tick(60)).elements) == 80


async def test_a_look_that_is_cancelled_loses_nothing():
    rig = Rig()
    await rig.deploy(*(order(f"p{n}") for n in range(3)))
    fetch = rig.engine.process_definition_xml

    async def never(key: int) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    rig.engine.process_definition_xml = never  # type: ignore[method-assign]
    looking = asyncio.create_task(rig.tick())
    await asyncio.sleep(0.01)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    rig.engine.process_definition_xml = fetch  # type: ignore[method-assign]
    assert len((await rig.tick()).elements) == 6


async def test_elements_that_cannot_be_used_come_with_the_reason_and_go_with_a_fixed_version():
    def model(ttl: str) -> str:
        return process(
            inbound("startEvent", "s"),
            inbound("startEvent", "bad", on_message("m"), {"messageTtl": ttl}),
            inbound("intermediateCatchEvent", "w", on_message("m"), KEY),
            inbound("intermediateCatchEvent", "keyless", on_message("m")),
            "<b:endEvent id='e'/>",
            flows="s w e\nbad w keyless e",
            top=message("m", "§m", "= id"),
        ).replace("§", "p")

    rig = Rig()
    await rig.deploy(model("soon"))
    wanted = await rig.tick()
    assert [e.element_id for e in wanted.elements] == ["s", "w"]
    assert {each.element_id: each.reason.partition(":")[0] for each in wanted.invalid} == {
        "bad": "messageTtl",
        "keyless": "correlationKeyExpression",
    }
    await rig.start("p")
    await rig.deploy(model("PT1S").replace("keyless", "w2"))
    wanted = await rig.tick()
    assert [(e.version, e.element_id) for e in wanted.elements] == [(2, "s"), (2, "bad"), (2, "w"), (1, "w")]
    reported = [(each.element_id, each.process_definition_key) for each in wanted.invalid]
    first = min(e.process_definition_key for e in wanted.elements)
    assert [one for one in reported if one[1] == first] == [("keyless", first)], (
        "its start event starts nothing any more"
    )


# ---- cost ------------------------------------------------------------------------------------------------------------


async def test_statistics_tell_what_was_done():
    rig = Rig()
    assert rig.discovery.statistics().newest is None
    await rig.deploy(order("p"), plain("q"))
    await rig.start("p")
    await rig.deploy(order("p", "2"))
    await rig.tick()
    rig.clock.value += 2
    seen = rig.discovery.statistics()
    assert (seen.looks, seen.sweeps, seen.newest) == (1, 1, 2)
    assert seen.calls == sum(rig.engine.calls.values()) == 1 + 2 + 1 + 3 + 1
    assert (seen.processes, seen.versions, seen.elements, seen.invalid) == (2, 3, 3, 0)
    assert (seen.hits, seen.misses, seen.cached, seen.unread, seen.failures) == (0, 3, 3, 0, 0)
    await rig.deploy(order("p", "3"))
    await rig.tick()
    seen = rig.discovery.statistics()
    assert (seen.hits, seen.misses) == (1, 4), "the version that waits was known"


async def test_a_version_that_comes_back_is_not_fetched_again():
    rig = Rig()
    _, second = await rig.deploy(order("p"), order("p", "2"))
    await rig.start("p", version=1)
    await rig.tick()
    await rig.publish("p-m")
    await rig.tick()
    rig.engine.calls.clear()
    await rig.delete(second)
    assert found(await rig.tick()) == both("p", 1)
    assert rig.engine.calls["xml"] == 0


async def test_without_a_cache_only_what_comes_back_is_fetched_again():
    rig = Rig(cache_size=0)
    _, second = await rig.deploy(order("p"), order("p", "2"))
    await rig.start("p", version=1)
    first = await rig.tick()
    rig.engine.calls.clear()
    for _ in range(30):
        assert await rig.tick() is first
    assert rig.engine.calls["xml"] == 0
    await rig.publish("p-m")
    await rig.tick()
    await rig.delete(second)
    assert found(await rig.tick()) == both("p", 1)
    assert rig.engine.calls["xml"] == 1


# ---- tenants ---------------------------------------------------------------------------------------------------------


async def test_configured_tenants_that_are_not_there_are_told():
    engine = EmbeddedEngine(clock=VirtualClock(), tenants=("<default>", "blue"))
    assert await check_tenants(engine, ["<default>", "blue", "red", "red"]) == [
        "the tenant 'red' does not exist, or the client may not see it; there are <default>, blue"
    ]


async def test_tenants_are_not_asked_for_when_there_is_only_the_default():
    engine = Unsteady()
    assert await check_tenants(engine, ["<default>"]) == []  # type: ignore[arg-type]
    assert engine.calls == {}


@pytest.mark.parametrize("error", [Unimplemented("no"), PermissionDenied("no"), Unavailable("gone")])
async def test_tenants_that_cannot_be_known_are_no_warning(error):
    engine = Unsteady()
    engine.fails = lambda name: error
    assert await check_tenants(engine, ["red"]) == []  # type: ignore[arg-type]


async def test_a_client_that_sees_no_tenant_gets_no_warning():
    engine = Unsteady()
    engine.changes = lambda name, page: SearchPage([], 0, None)
    assert await check_tenants(engine, ["red"]) == []  # type: ignore[arg-type]


async def test_tenants_of_all_pages_count():
    engine = EmbeddedEngine(clock=VirtualClock(), tenants=["<default>", *(f"t{n}" for n in range(250))])
    assert await check_tenants(engine, ["t249"]) == []


# ---- any sequence of changes and failures ----------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("deploy"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("start"), st.integers(0, 3), st.integers(0, 1)),
        st.tuples(st.just("publish"), st.integers(0, 3), st.integers(0, 1)),
        st.tuples(st.just("fail"), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.just("look"), st.integers(1, 70), st.just(0)),
    ),
    max_size=20,
)


class Course:
    """Carries the steps out, in spite of what they may not be able to."""

    def __init__(self, version: str) -> None:
        self.rig = Rig(version, page_size=2, cache_size=2)
        self.rig.engine.fails = self._fails
        self.rig.engine.rewrites = lambda xml: with_aside(xml) if 'value="1"' in xml else xml
        self._left = self._skipped = 0

    def _fails(self, name: str) -> EngineError | None:
        if self._skipped:
            self._skipped -= 1
        elif self._left:
            self._left -= 1
            return Unavailable("lost")
        return None

    async def do(self, what: str, a: int, b: int) -> None:
        rig, name = self.rig, f"p{a}"
        if what == "deploy":
            await rig.deploy(order(name, str(b)) if b < 3 else plain(name))
        elif what == "delete":
            rows = (await rig.engine.engine.search(DEFINITIONS, filter={"processDefinitionId": name})).items
            if rows:
                await rig.delete(int(rows[-1 if b else 0]["processDefinitionKey"]))
        elif what == "start":
            try:
                await rig.start(name, str(b))
            except NotFound:
                return
        elif what == "publish":
            await rig.publish(f"{name}-m", str(b))
        elif what == "fail":
            self._skipped, self._left = a, b
        else:
            try:
                await rig.tick(a)
            except EngineError:
                return

    async def wanted(self) -> tuple[set[tuple[int, str]], set[int]]:
        """Definition key and element of what must be served; the definitions that are deleted but waited at."""
        engine = self.rig.engine.engine
        rows = (await engine.search(DEFINITIONS, limit=1000)).items
        latest = {int(row["processDefinitionKey"]) for row in rows if row["isLatestVersion"]}
        there = {int(row["processDefinitionKey"]) for row in rows}
        open_ones = await engine.search(SUBSCRIPTIONS, filter={"messageSubscriptionState": "CREATED"}, limit=1000)
        waited = {int(row["processDefinitionKey"]) for row in open_ones.items}
        must = set()
        for key in latest | (waited & there):
            xml = self.rig.engine.rewrites(await engine.process_definition_xml(key))
            for element_id in ("wait", "joined", *(("start",) if key in latest else ())):
                if f'id="{element_id}"' in xml:
                    must.add((key, element_id))
        return must, waited - there


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps, st.sampled_from(["8.8.9", "8.9.1", "8.10.0"]))
def test_after_any_deployments_deletions_and_lost_searches_the_last_look_finds_what_is_wanted(taken, version):
    async def run() -> None:
        course = Course(version)
        for what, a, b in taken:
            await course.do(what, a, b)
        course.rig.heal()
        await course.rig.tick(400)
        last = await course.rig.tick(61)
        must, deleted = await course.wanted()
        served = {(e.process_definition_key, e.element_id) for e in last.elements}
        assert must <= served
        assert {one for one in served if one[0] not in deleted} == must
        assert all(element_id in {"wait", "joined"} for key, element_id in served if key in deleted)
        assert await course.rig.tick() is last
        assert course.rig.discovery.last_error is None

    asyncio.run(run())


# ---- on an independent engine ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["8.8.9", "8.9.1", "8.10.0"])
def other_engine(request: pytest.FixtureRequest, engine_run: object) -> Iterator[EngineProcess]:
    with running_engine("--version", request.param) as engine:
        yield engine


@pytest.mark.real
async def test_on_an_independent_engine_the_same_is_found(other_engine):
    async with connected(settings_for(other_engine)) as engine, aiohttp.ClientSession() as session:
        clock = Seconds()
        discovery = Discovery(engine, page_size=2, now=clock)

        async def seen() -> list[tuple[str, int, str]]:
            clock.value += 5
            return found(await discovery.look())

        async def deployed(*models: str) -> list[int]:
            return [(await engine.deploy([file(model)]))[0].process_definition_key for model in models]

        assert await seen() == []
        first, _, _ = await deployed(with_aside(order("p")), order("q"), plain("r"))
        assert await seen() == [*both("p", 1), ("p", 1, "joined"), *both("q", 1)]
        await engine.create_process_instance(process_definition_key=first, variables='{"id": "k"}')
        [second] = await deployed(order("p", "2"))
        assert await seen() == [*both("p", 2), ("p", 1, "wait"), ("p", 1, "joined"), *both("q", 1)]
        await engine.publish_message(name="p-m", correlation_key="k")
        assert await seen() == [*both("p", 2), *both("q", 1)]
        async with session.post(f"{other_engine.rest_address}/v2/resources/{second}/deletion", json={}) as answer:
            assert answer.status < 300
        assert await seen() == [*both("p", 1), ("p", 1, "joined"), *both("q", 1)]
        before = await discovery.look()
        clock.value += 120
        assert await discovery.look() is before
        assert await check_tenants(engine, ["blue"]) == []
