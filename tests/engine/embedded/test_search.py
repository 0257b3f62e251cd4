"""Searches: rows, filters, order and pages."""

import pytest

from gateway.engine import InvalidArgument, NotFound
from gateway.engine.embedded import EmbeddedEngine, VirtualClock
from tests.engine.embedded.conftest import EngineControls
from tests.engine.embedded.driver import World
from tests.engine.embedded.models import EMPTY, ONE_TASK, one_task


async def test_definitions_are_found_by_id_version_and_whether_they_are_the_latest(z, engine):
    await z.deploy(ONE_TASK)
    await z.deploy(one_task(headers={"h": "2"}))
    await z.deploy(EMPTY.replace('id="§"', 'id="§2"'))

    async def versions(**wanted):
        page = await engine.search("process-definitions", filter={"processDefinitionId": z.name, **wanted})
        return [row["version"] for row in page.items]

    assert await versions() == [1, 2]
    assert await versions(isLatestVersion=True) == [2]
    assert await versions(version=1) == [1]
    [row] = (await engine.search("process-definitions", filter={"version": 2})).items
    assert (row["name"], row["resourceName"], row["tenantId"]) == (f"{z.name} name", f"{z.name}0.bpmn", "<default>")


async def test_pages_follow_each_other_in_the_order_asked_for(z, engine):
    await z.deploy(ONE_TASK)
    keys = [str(await z.start(variables={"n": n})) for n in range(5)]
    found, cursor = [], None
    for wanted in (2, 2, 1, 0):
        page = await engine.search(
            "process-instances",
            sort=[("processInstanceKey", "DESC")],
            limit=2,
            after=cursor,
            filter={"state": "ACTIVE"},
        )
        assert (len(page.items), page.total) == (wanted, 5)
        found += [row["processInstanceKey"] for row in page.items]
        cursor = page.end_cursor
    assert found == keys[::-1]


async def test_several_sort_fields_count_in_their_order(z, engine):
    await z.deploy(ONE_TASK)
    for retries in (1, 2, 1):
        await z.start()
        await z.fail(await z.job(), retries, backoff_ms=1000)
    page = await engine.search("jobs", sort=[("retries", "desc"), ("jobKey", "desc")])
    rows = [(row["retries"], row["jobKey"]) for row in page.items]
    assert rows == sorted(rows, reverse=True)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"$eq": 2}, [2]),
        ({"$neq": 2}, [1, 3]),
        ({"$in": [1, 3]}, [1, 3]),
        ({"$notIn": [1, 3]}, [2]),
        ({"$gt": 1}, [2, 3]),
        ({"$gte": 2, "$lt": 3}, [2]),
        ({"$lte": 2}, [1, 2]),
        ({"$exists": True}, [1, 2, 3]),
        ({"$exists": False}, []),
        (2, [2]),
    ],
)
async def test_filters_take_values_and_operators(z, engine, wanted, numbers):
    await z.deploy(ONE_TASK)
    for retries in (1, 2, 3):
        await z.start()
        await z.fail(await z.job(), retries, backoff_ms=1000)
    page = await engine.search("jobs", filter={"retries": wanted})
    assert sorted(row["retries"] for row in page.items) == numbers


@pytest.mark.parametrize(("pattern", "hit"), [("a*", True), ("?bc", True), ("a", False), ("a.c", False), ("*", True)])
async def test_like_knows_star_and_question_mark_and_nothing_else(z, engine, pattern, hit):
    await z.deploy(ONE_TASK)
    key = await z.start(variables={"abc": 1})
    found = await z.rows("variables", key, name={"$like": pattern})
    assert bool(found) is hit


async def test_keys_are_text_and_may_be_asked_for_as_numbers(z, engine):
    await z.deploy(ONE_TASK)
    await z.start()
    key = await z.start()
    page = await engine.search("process-instances", filter={"processInstanceKey": key})
    assert [row["processInstanceKey"] for row in page.items] == [str(key)]
    assert (await engine.search("jobs", filter={"processInstanceKey": {"$in": [str(key)]}})).total == 1


async def test_true_is_not_one(z, engine):
    await z.deploy(ONE_TASK)
    assert (await engine.search("process-definitions", filter={"version": True})).items == []
    assert (await engine.search("process-definitions", filter={"isLatestVersion": 1})).items == []


async def test_instances_and_elements_tell_state_dates_and_incident(z, engine):
    await z.deploy(ONE_TASK)
    done, broken, cancelled = [await z.start() for _ in range(3)]
    jobs = await z.jobs()
    await engine.advance(5)
    await z.complete(jobs[0])
    await z.fail(jobs[1], 0, "x")
    await engine.cancel_process_instance(cancelled)
    page = await engine.search("process-instances", sort=[("processInstanceKey", "asc")])
    assert [(r["state"], r["hasIncident"]) for r in page.items] == [
        ("COMPLETED", False),
        ("ACTIVE", True),
        ("TERMINATED", False),
    ]
    [row] = await z.rows("element-instances", done, elementId="t")
    assert (row["type"], row["state"]) == ("SERVICE_TASK", "COMPLETED")
    assert (row["startDate"], row["endDate"]) == ("2023-11-14T22:13:20.000Z", "2023-11-14T22:13:25.000Z")
    [row] = await z.rows("element-instances", broken, elementId="t")
    assert (row["state"], row["hasIncident"], row["endDate"]) == ("ACTIVE", True, None)


async def test_incidents_are_found_by_state(z):
    await z.deploy(ONE_TASK)
    key = await z.start()
    await z.fail(await z.job(), 0, "x")
    await z.resolve(key)
    [row] = await z.rows("incidents", key)
    assert (row["state"], row["errorMessage"], row["processDefinitionId"]) == ("RESOLVED", "x", z.name)


async def test_finished_instances_stay_visible_until_newer_ones_push_them_out():
    engine = EmbeddedEngine(clock=VirtualClock(), keep_finished=2)
    z = World(engine, EngineControls(engine))
    await z.deploy(EMPTY, ONE_TASK.replace('id="§"', 'id="§2"'))
    open_one = await z.start("§2")
    keys = [await z.start() for _ in range(3)]
    page = await engine.search("process-instances")
    assert [int(row["processInstanceKey"]) for row in page.items] == [*keys[1:], open_one]
    await engine.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"filter": {"state": {"$near": 1}}}, "'state' has the operator '$near'"),
        ({"sort": [("state", "up")]}, "'state' to be asc or desc, but it was 'up'"),
        ({"limit": 0}, "limit"),
        ({"after": "x"}, "cursor of an earlier page, but it was 'x'"),
        ({"filter": {"state": {"$in": 5}}}, "a list"),
    ],
)
async def test_a_search_that_cannot_be_is_refused(engine, options, says):
    with pytest.raises(InvalidArgument) as caught:
        await engine.search("process-instances", **options)
    assert says in str(caught.value)


async def test_a_field_that_the_rows_do_not_have_is_refused_rather_than_matching_nothing(z, engine):
    await z.deploy(ONE_TASK)
    for options in ({"filter": {"colour": "red"}}, {"sort": [("colour", "asc")]}):
        with pytest.raises(InvalidArgument, match="rows of 'process-definitions' have no field 'colour', only process"):
            await engine.search("process-definitions", **options)


async def test_a_search_of_nothing_known_is_not_found(engine):
    with pytest.raises(NotFound, match=r"no search for 'decisions'; there is one for .*variables"):
        await engine.search("decisions")
