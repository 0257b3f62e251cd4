"""The queries that inbound connectors live by: what is deployed, who waits for messages, at which elements instances are.

The same on the embedded engine and on an independent one, each as 8.8, 8.9 and 8.10.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.engine import (
    Engine,
    EngineFailure,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ProcessDefinition,
    SearchPage,
    Unimplemented,
)
from gateway.engine.auth import FixedCredentials
from gateway.engine.cluster import Cluster
from gateway.engine.embedded import EmbeddedEngine, VirtualClock
from gateway.engine.rest import RestCommands, RestQueries
from gateway.engine.rest_session import RestSession
from tests.engine.conftest import connected, settings_for
from tests.engine.embedded.conftest import EngineControls
from tests.engine.embedded.driver import World
from tests.engine.embedded.models import (
    EMPTY,
    ONE_TASK,
    boundary,
    element,
    end,
    message,
    on_message,
    process,
    start,
    task,
)
from tests.engine.rest_stub import RestStub
from tests.engine.test_parity import RestControls
from tests.real.processes import EngineProcess, running_engine

Delete = Callable[[int], Awaitable[None]]

WAITS = process(
    start(),
    element("intermediateCatchEvent", "wait", on_message("m")),
    end(),
    flows="s wait e",
    top=message("m", "§m", "= key"),
)


class Engines:
    """Test engines by version, each started when first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, EngineProcess] = {}

    def of(self, version: str) -> EngineProcess:
        if version not in self._running:
            self._running[version] = self._stack.enter_context(running_engine("--version", version))
        return self._running[version]


@pytest.fixture(scope="module")
def engines(engine_run: Path) -> Iterator[Engines]:
    with ExitStack() as stack:
        yield Engines(stack)


class Made:
    """A world with an engine of some version, and what the port leaves to operators."""

    def __init__(self, z: World, delete: Delete, version: str) -> None:
        self.z, self.delete, self.version = z, delete, version
        self.engine: Engine = z.engine

    async def latest(self) -> list[tuple[int, int]]:
        """Key and version of the latest version of the world's process."""
        wanted = {"isLatestVersion": True, "processDefinitionId": self.z.name}
        page = await self.engine.search("process-definitions", filter=wanted)
        return [(int(row["processDefinitionKey"]), row["version"]) for row in page.items]

    async def statistics(self, **options: Any) -> SearchPage:
        return await self.engine.message_subscription_statistics(
            filter={"messageSubscriptionState": "CREATED"}, **options
        )

    async def waiting(self) -> dict[int, tuple[int, int]]:
        """Definition key to instances and subscriptions, of the world's process."""
        rows = (await self.statistics(limit=1000)).items
        return {
            int(row["processDefinitionKey"]): (
                row["processInstancesWithActiveSubscriptions"],
                row["activeSubscriptions"],
            )
            for row in rows
            if row["processDefinitionId"] == self.z.name
        }


async def embedded(version: str) -> AsyncIterator[Made]:
    engine = EmbeddedEngine(clock=VirtualClock(), version=version)
    yield Made(World(engine, EngineControls(engine)), engine.delete_process_definition, version)
    await engine.close()


async def real(running: EngineProcess, version: str, unique: str) -> AsyncIterator[Made]:
    async with connected(settings_for(running)) as engine, aiohttp.ClientSession() as session:

        async def delete(key: int) -> None:
            async with session.post(f"{running.rest_address}/v2/resources/{key}/deletion", json={}) as answer:
                if answer.status == 404:
                    raise NotFound(await answer.text())
                assert answer.status < 300, await answer.text()

        yield Made(World(engine, RestControls(running.rest_address, session), unique), delete, version)


def versions(*wanted: str) -> Any:
    return pytest.mark.parametrize("version", wanted, indirect=True)


@pytest.fixture(params=["8.8.9"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real)])
async def made(request: pytest.FixtureRequest, version: str, unique: str) -> AsyncIterator[Made]:
    if request.param == "embedded":
        worlds = embedded(version)
    else:
        worlds = real(request.getfixturevalue("engines").of(version), version, unique)
    async for one in worlds:
        yield one


# ---- definitions -----------------------------------------------------------------------------------------------------


async def test_a_definition_tells_process_version_file_and_name(made):
    [first] = await made.z.deploy(EMPTY)
    [second] = await made.z.deploy(ONE_TASK)
    found = await made.engine.process_definition(second.process_definition_key)
    assert found == ProcessDefinition(
        process_definition_key=second.process_definition_key,
        bpmn_process_id=made.z.name,
        version=2,
        resource_name=f"{made.z.name}0.bpmn",
        name=f"{made.z.name} name",
    )
    assert (await made.engine.process_definition(first.process_definition_key)).version == 1


async def test_a_definition_that_is_not_there_is_not_found(made):
    for ask in (made.engine.process_definition, made.engine.process_definition_xml):
        with pytest.raises(NotFound, match="4503599627370497"):
            await ask(4503599627370497)


async def test_newest_definitions_come_first_with_the_number_of_all(made):
    before = await made.engine.search("process-definitions", limit=1)
    deployed = [(await made.z.deploy(model))[0].process_definition_key for model in (EMPTY, ONE_TASK, WAITS)]
    page = await made.engine.search("process-definitions", sort=[("processDefinitionKey", "desc")], limit=2)
    assert [int(row["processDefinitionKey"]) for row in page.items] == deployed[:0:-1]
    assert page.total == before.total + 3
    rest = await made.engine.search(
        "process-definitions", sort=[("processDefinitionKey", "desc")], limit=1, after=page.end_cursor
    )
    assert [int(row["processDefinitionKey"]) for row in rest.items] == deployed[:1]


async def test_latest_versions_are_paged_until_an_empty_page(made):
    for name in "abc":
        for model in (EMPTY, ONE_TASK):
            await made.z.deploy(model.replace('id="§"', f'id="§{name}"'))
    found, after = [], None
    while True:
        page = await made.engine.search("process-definitions", filter={"isLatestVersion": True}, limit=2, after=after)
        found += [(row["processDefinitionId"], row["version"]) for row in page.items]
        if not page.items:
            break
        after = page.end_cursor
    assert [one for one in found if one[0].startswith(made.z.name)] == [(f"{made.z.name}{name}", 2) for name in "abc"]


async def test_the_embedded_engine_sorts_latest_versions_no_further_than_a_cluster_does():
    engine = EmbeddedEngine(clock=VirtualClock())
    with pytest.raises(InvalidArgument, match="processDefinitionId and tenantId, but not by 'processDefinitionKey'"):
        await engine.search(
            "process-definitions", filter={"isLatestVersion": True}, sort=[("processDefinitionKey", "desc")]
        )


@versions("8.8.9", "8.9.1", "8.10.0")
async def test_definitions_have_a_state_from_8_10_on(made):
    await made.z.deploy(EMPTY)
    wanted = {"isLatestVersion": True, "state": "ACTIVE", "processDefinitionId": made.z.name}
    if made.version != "8.10.0":
        with pytest.raises(InvalidArgument, match="state"):
            await made.engine.search("process-definitions", filter=wanted)
    else:
        [row] = (await made.engine.search("process-definitions", filter=wanted)).items
        assert row["state"] == "ACTIVE"


async def test_when_the_latest_version_is_deleted_the_one_before_takes_over(made):
    [first] = await made.z.deploy(EMPTY)
    [second] = await made.z.deploy(ONE_TASK)
    await made.delete(second.process_definition_key)
    assert await made.latest() == [(first.process_definition_key, 1)]
    with pytest.raises(NotFound):
        await made.engine.process_definition(second.process_definition_key)
    await made.delete(first.process_definition_key)
    assert await made.latest() == []
    with pytest.raises(NotFound):
        await made.delete(first.process_definition_key)


async def test_when_an_older_version_is_deleted_the_latest_stays(made):
    [first] = await made.z.deploy(EMPTY)
    [second] = await made.z.deploy(ONE_TASK)
    await made.delete(first.process_definition_key)
    assert await made.latest() == [(second.process_definition_key, 2)]


async def test_message_starts_of_a_deleted_version_go_over_to_the_one_before(made):
    def starts(element_id: str) -> str:
        flows = f"{element_id} e"
        return process(start(element_id, on_message("m")), end(), flows=flows, top=message("m", "§m"))

    [first] = await made.z.deploy(starts("one"))
    [second] = await made.z.deploy(starts("two"))
    await made.delete(second.process_definition_key)
    await made.z.publish("§m")
    page = await made.engine.search("process-instances", filter={"processDefinitionId": made.z.name})
    assert [int(row["processDefinitionKey"]) for row in page.items] == [first.process_definition_key]


async def test_instances_of_a_deleted_version_go_on(made):
    [one] = await made.z.deploy(ONE_TASK)
    key = await made.z.start()
    await made.delete(one.process_definition_key)
    await made.z.complete(await made.z.job())
    assert await made.z.state(key) == "COMPLETED"


async def test_the_number_of_a_deleted_version_is_not_given_again():
    engine = EmbeddedEngine(clock=VirtualClock())
    z = World(engine, EngineControls(engine))
    await z.deploy(EMPTY)
    [second] = await z.deploy(ONE_TASK)
    await engine.delete_process_definition(second.process_definition_key)
    [third] = await z.deploy(WAITS)
    assert third.version == 3
    assert [(r.value_type, r.intent) for r in engine.records()] == [
        *[("PROCESS", "CREATED")] * 2, ("PROCESS", "DELETED"), ("PROCESS", "CREATED")
    ]  # fmt: skip


async def test_tenants_are_listed():
    engine = EmbeddedEngine(clock=VirtualClock(), tenants=("<default>", "blue"))
    page = await engine.search("tenants")
    assert [row["tenantId"] for row in page.items] == ["<default>", "blue"]


# ---- message subscriptions -------------------------------------------------------------------------------------------


@versions("8.9.1", "8.10.0")
async def test_open_subscriptions_are_counted_by_definition(made):
    [first] = await made.z.deploy(WAITS)
    keys = [await made.z.start(variables={"key": name}) for name in "ab"]
    [second] = await made.z.deploy(WAITS.replace("<b:process", '<b:collaboration id="c"/><b:process'))
    await made.z.start(variables={"key": "c"})
    assert await made.waiting() == {first.process_definition_key: (2, 2), second.process_definition_key: (1, 1)}
    await made.z.publish("§m", "a")
    assert await made.waiting() == {first.process_definition_key: (1, 1), second.process_definition_key: (1, 1)}
    await made.z.controls.cancel(keys[1])
    assert await made.waiting() == {second.process_definition_key: (1, 1)}
    [row] = [one for one in (await made.statistics()).items if one["processDefinitionId"] == made.z.name]
    assert row["tenantId"] == "<default>"


@versions("8.9.1")
async def test_one_instance_may_wait_for_more_than_one_message(made):
    both = process(
        start(),
        element("receiveTask", "r", messageRef="m"),
        end(),
        boundary("b", "r", on_message("n")),
        flows="s r e\nb e",
        top=message("m", "§m", "= key") + message("n", "§n", "= key"),
    )
    [one] = await made.z.deploy(both)
    await made.z.start(variables={"key": "a"})
    assert await made.waiting() == {one.process_definition_key: (1, 2)}


@versions("8.9.1")
async def test_statistics_are_paged(made):
    for name in "abc":
        await made.z.deploy(WAITS.replace('id="§"', f'id="§{name}"').replace("§m", f"§{name}m"))
        await made.z.start(f"§{name}", {"key": name})
    found, after = [], None
    while True:
        page = await made.statistics(limit=2, after=after)
        found += [row["processDefinitionId"] for row in page.items]
        if not page.items:
            break
        after = page.end_cursor
    assert sorted(one for one in found if one.startswith(made.z.name)) == [f"{made.z.name}{name}" for name in "abc"]


@versions("8.8.9")
async def test_before_8_9_there_are_no_statistics(made):
    with pytest.raises(Unimplemented):
        await made.statistics()


async def test_subscriptions_of_other_definitions_than_those_named_are_found(made):
    keys = []
    for n in range(3):
        [one] = await made.z.deploy(WAITS.replace("<b:process", f'<b:collaboration id="c{n}"/><b:process'))
        keys.append(one.process_definition_key)
        await made.z.start(variables={"key": str(n)})
    wanted = {
        "messageSubscriptionState": "CREATED",
        "processDefinitionId": made.z.name,
        "processDefinitionKey": {"$notIn": [str(keys[2])]},
    }
    page = await made.engine.search("message-subscriptions", filter=wanted)
    assert sorted(int(row["processDefinitionKey"]) for row in page.items) == keys[:2]


async def test_instances_of_other_definitions_than_those_named_are_found(made):
    [first] = await made.z.deploy(WAITS)
    waiting, done = [await made.z.start(variables={"key": name}) for name in "ab"]
    await made.z.publish("§m", "b")
    [second] = await made.z.deploy(ONE_TASK)
    await made.z.start()
    wanted = {
        "state": "ACTIVE",
        "processDefinitionId": made.z.name,
        "processDefinitionKey": {"$notIn": [str(second.process_definition_key)]},
    }
    [row] = (await made.engine.search("process-instances", filter=wanted)).items
    assert (int(row["processInstanceKey"]), row["processDefinitionVersion"]) == (waiting, 1)
    assert int(row["processDefinitionKey"]) == first.process_definition_key
    assert await made.z.state(done) == "COMPLETED"


# ---- element instances and variables ---------------------------------------------------------------------------------


async def test_the_instances_that_wait_at_an_element_are_found_by_definition(made):
    [first] = await made.z.deploy(WAITS)
    old = await made.z.start(variables={"key": "old"})
    [second] = await made.z.deploy(process(start(), task("wait"), end(), flows="s wait e"))
    await made.z.start()
    wanted = {"processDefinitionKey": str(first.process_definition_key), "elementId": "wait", "state": "ACTIVE"}
    [row] = (await made.engine.search("element-instances", filter=wanted)).items
    assert int(row["processInstanceKey"]) == old
    assert (row["elementId"], row["state"]) == ("wait", "ACTIVE")
    await made.z.publish("§m", "old")
    assert (await made.engine.search("element-instances", filter=wanted)).items == []
    assert second.version == 2


async def test_variables_are_those_of_a_scope_as_json_text(made):
    await made.z.deploy(WAITS)
    key = await made.z.start(variables={"key": "k", "n": [1, {"a": None}]})
    page = await made.engine.search("variables", filter={"processInstanceKey": str(key), "scopeKey": str(key)})
    assert {row["name"]: json.loads(row["value"]) for row in page.items} == {"key": "k", "n": [1, {"a": None}]}
    assert not any(row["isTruncated"] for row in page.items)


# ---- what goes over the wire -----------------------------------------------------------------------------------------


@pytest.fixture
async def web() -> AsyncIterator[RestStub]:
    async with RestStub() as web:
        yield web


@pytest.fixture
async def client(web: RestStub) -> AsyncIterator[Engine]:
    session = RestSession(web.url, FixedCredentials(), request_timeout=3)
    client = Cluster(RestCommands(session), RestQueries(session))
    yield client
    await client.close()


async def test_statistics_are_asked_for_with_filter_and_cursor(web, client):
    web.answer(200, {"items": [{"processDefinitionKey": "1"}], "page": {"totalItems": 3, "endCursor": "next"}})
    page = await client.message_subscription_statistics(
        filter={"messageSubscriptionState": "CREATED"}, limit=200, after="here"
    )
    assert page == SearchPage([{"processDefinitionKey": "1"}], 3, "next")
    [asked] = web.requests
    assert (asked.method, asked.path) == ("POST", "/v2/process-definitions/statistics/message-subscriptions")
    assert asked.json() == {
        "page": {"limit": 200, "after": "here"},
        "filter": {"messageSubscriptionState": "CREATED"},
    }


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b""),
        (404, {"title": "NOT_FOUND", "status": 404, "detail": "No static resource v2/process-definitions/statistics"}),
        (404, {"title": "NOT_FOUND", "status": 404, "detail": "Process Definition with key 'statistics' not found"}),
        (405, {"title": "Method Not Allowed", "status": 405}),
    ],
)
async def test_a_cluster_without_statistics_says_so_in_many_ways(web, client, status, body):
    web.answer(status, body)
    with pytest.raises(Unimplemented):
        await client.message_subscription_statistics()


async def test_an_answer_that_is_no_page_or_no_definition_is_the_engines_failure(web, client):
    web.answer(200, {"rows": []})
    with pytest.raises(EngineFailure, match="no items"):
        await client.message_subscription_statistics()
    web.answer(200, {"processDefinitionKey": "no key"})
    with pytest.raises(EngineFailure, match="processDefinitionKey"):
        await client.process_definition(7)
    web.answer(409, {"title": "ABORTED", "detail": "busy"})
    with pytest.raises(FailedPrecondition, match="busy"):
        await client.process_definition(7)
    assert [one.path for one in web.requests[1:]] == ["/v2/process-definitions/7"] * 2


async def test_definitions_that_are_deployed_at_once_are_all_there():
    engine = EmbeddedEngine(clock=VirtualClock())
    z = World(engine, EngineControls(engine))
    await asyncio.gather(*(z.deploy(EMPTY.replace('id="§"', f'id="§{n}"')) for n in range(5)))
    page = await engine.search("process-definitions", filter={"isLatestVersion": True})
    assert (len(page.items), page.total) == (5, 5)
