"""Correlation on engines: the same behaviour on the embedded engine and, by gRPC and by REST, on an independent one."""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast
from xml.sax.saxutils import quoteattr

import pytest

from gateway import bpmn, sdk
from gateway.documents import Documents, EngineStore
from gateway.engine import Engine
from gateway.engine.embedded import EmbeddedEngine
from gateway.inbound.correlation import Correlator
from gateway.inbound.elements import inbound_elements
from gateway.sdk import InboundElement
from tests.engine.conftest import connected, settings_for
from tests.engine.embedded.driver import Controls, World
from tests.engine.embedded.models import element as xml_element
from tests.engine.embedded.models import end, message, on_message, process, start, task
from tests.inbound.test_correlation import KEYED, MESSAGE, element
from tests.real.processes import EngineProcess


@asynccontextmanager
async def embedded() -> AsyncIterator[Engine]:
    made = EmbeddedEngine()
    yield made
    await made.close()


@pytest.fixture(
    params=["embedded", pytest.param("grpc", marks=pytest.mark.real), pytest.param("rest", marks=pytest.mark.real)]
)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "embedded":
        opened = embedded()
    else:
        running: EngineProcess = request.getfixturevalue("test_engine")
        opened = connected(settings_for(running, request.param))
    async with opened as client:
        yield World(client, cast("Controls", None), f"c{uuid.uuid4().hex[:10]}-")


def inbound(**properties: str) -> str:
    lines = {"inbound.type": "t:1", **{name.replace("__", "."): value for name, value in properties.items()}}
    written = "".join(f"<z:property name={quoteattr(n)} value={quoteattr(v)}/>" for n, v in lines.items())
    return f"<z:properties>{written}</z:properties>"


def waiting(**properties: str) -> str:
    """start -> wait for the message by the variable `id` -> task"""
    receive = xml_element("receiveTask", "wait", ext=inbound(**{**KEYED, **properties}), messageRef="m")
    return process(start(), receive, task("t"), end(), flows="s wait t e", top=message("m", "§orders", key="=id"))


def starting(**properties: str) -> str:
    """A message start -> task"""
    event = xml_element("startEvent", "s", on_message("m"), ext=inbound(**properties))
    return process(event, task("t"), end(), flows="s t e", top=message("m", "§orders"))


async def deployed(world: World, model: str) -> list[InboundElement]:
    [definition] = await world.deploy(model)
    elements, bad = inbound_elements(
        bpmn.parse(world.full(model)),
        bpmn_process_id=definition.bpmn_process_id,
        version=definition.version,
        key=definition.process_definition_key,
        tenant_id=definition.tenant_id,
    )
    assert not bad
    return elements


def real_correlator(world: World, elements: list[InboundElement], **options: Any) -> Correlator:
    documents = Documents(EngineStore(world.engine))
    return Correlator(elements, engine=world.engine, documents=documents, default_ttl_ms=60_000, **options)


async def test_a_start_event_starts_the_version_that_it_stands_in(world: World) -> None:
    plain = process(
        xml_element("startEvent", "s", ext=inbound(resultExpression="={v: v}")), task("t"), end(), flows="s t e"
    )
    first = await deployed(world, plain)
    await deployed(world, plain.replace('name="§ name"', 'name="§ other"'))
    outcome = await real_correlator(world, first).correlate({"v": 1})
    assert isinstance(outcome, sdk.ProcessInstanceCreated)
    job = await world.job()
    assert (job.process_instance_key, job.process_definition_version) == (outcome.process_instance_key, 1)
    assert json.loads(job.variables) == {"v": 1}


async def test_a_synchronous_start_gives_the_variables_of_the_end(world: World) -> None:
    event = xml_element("startEvent", "s", ext=inbound(synchronousResponse="true", resultExpression="={n: n + 1}"))
    elements = await deployed(world, process(event, end(), flows="s e"))
    outcome = await real_correlator(world, elements).correlate({"n": 1})
    assert isinstance(outcome, sdk.ProcessInstanceCreatedWithResult), outcome
    assert outcome.variables == {"n": 2}


async def test_an_instance_that_does_not_end_in_time_is_late(world: World) -> None:
    event = xml_element("startEvent", "s", ext=inbound(synchronousResponse="true"))
    elements = await deployed(world, process(event, task("t"), end(), flows="s t e"))
    outcome = await real_correlator(world, elements, result_timeout_ms=300).correlate({})
    assert isinstance(outcome, sdk.EngineRefused)
    assert (outcome.status, outcome.away) == ("DEADLINE_EXCEEDED", True)
    assert len(await world.jobs()) == 1


async def test_a_message_reaches_the_instance_that_waits_for_its_key(world: World) -> None:
    elements = await deployed(world, waiting(resultExpression="={name: name}"))
    a, _ = await world.start(variables={"id": "A"}), await world.start(variables={"id": "7"})
    events = real_correlator(world, elements)
    assert isinstance(await events.correlate({"id": "A", "name": "x"}), sdk.MessagePublished)
    job = await world.job()
    assert (job.process_instance_key, json.loads(job.variables)) == (a, {"id": "A", "name": "x"})
    assert isinstance(await events.correlate({"id": 7, "name": "y"}), sdk.MessagePublished)
    assert json.loads((await world.job()).variables)["name"] == "y"


async def test_a_synchronous_message_names_the_instance_or_says_that_none_waits(world: World) -> None:
    elements = await deployed(world, waiting(synchronousResponse="true"))
    key = await world.start(variables={"id": "A"})
    events = real_correlator(world, elements)
    outcome = await events.correlate({"id": "A"})
    assert isinstance(outcome, sdk.MessageCorrelated)
    assert outcome.process_instance_key == key
    again = await events.correlate({"id": "A"})
    assert isinstance(again, sdk.EngineRefused)
    assert (again.status, again.away) == ("NOT_FOUND", False)


async def test_row_25_the_same_message_id_twice_makes_one_instance(world: World) -> None:
    elements = await deployed(world, starting(messageIdExpression="=id", resultVariable="e"))
    events = real_correlator(world, elements)
    first, second = await events.correlate({"id": "A"}), await events.correlate({"id": "A"})
    assert isinstance(first, sdk.MessagePublished)
    assert second == sdk.MessageAlreadyCorrelated(elements[0])
    assert second.done
    assert (await events.correlate({"id": "B"})).done
    assert len(await world.jobs()) == 2


async def test_row_25_the_connectors_own_id_counts_as_well(world: World) -> None:
    elements = await deployed(world, starting())
    events = real_correlator(world, elements)
    assert [type(await events.correlate({}, "x")) for _ in range(3)] == [
        sdk.MessagePublished,
        sdk.MessageAlreadyCorrelated,
        sdk.MessageAlreadyCorrelated,
    ]
    assert len(await world.jobs()) == 1


async def test_without_an_id_or_time_to_live_each_event_counts(world: World) -> None:
    events = real_correlator(world, await deployed(world, starting(messageTtl="PT0S")))
    assert [type(await events.correlate({}, "x")) for _ in range(2)] == [sdk.MessagePublished] * 2
    assert [type(await events.correlate({})) for _ in range(2)] == [sdk.MessagePublished] * 2
    assert len(await world.jobs()) == 4


async def test_start_or_correlate_starts_first_and_correlates_then(world: World) -> None:
    event = xml_element("startEvent", "s", ext=inbound(resultExpression="={id: id}", inbound__startOrCorrelate="true"))
    receive = xml_element(
        "receiveTask", "wait", ext=inbound(resultExpression="={second: true}", **KEYED), messageRef="m"
    )
    model = process(event, receive, task("t"), end(), flows="s wait t e", top=message("m", "§orders", key="=id"))
    events = real_correlator(world, await deployed(world, model))
    first = await events.correlate({"id": "A"})
    assert isinstance(first, sdk.ProcessInstanceCreated)
    second = await events.correlate({"id": "A"})
    assert isinstance(second, sdk.MessageCorrelated)
    assert second.process_instance_key == first.process_instance_key
    assert json.loads((await world.job()).variables) == {"id": "A", "second": True}


async def test_what_was_not_deployed_is_not_found(world: World) -> None:
    [known] = await deployed(world, process(xml_element("startEvent", "s", ext=inbound()), end(), flows="s e"))
    outcome = await real_correlator(world, [replace(known, version=9)]).correlate({})
    assert isinstance(outcome, sdk.EngineRefused)
    assert (outcome.status, outcome.away) == ("NOT_FOUND", False)


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_row_24_with_the_engine_away_nothing_is_done_and_each_event_was_sent_once(door: Any) -> None:
    nowhere = EngineProcess(grpc_port=1, http_port=1, pid=0)
    async with connected(settings_for(nowhere, door)) as client:
        documents = Documents(EngineStore(client))
        for made in (element(), element(MESSAGE, **KEYED), element(MESSAGE, synchronousResponse="true", **KEYED)):
            outcome = await Correlator([made], engine=client, documents=documents).correlate({"id": 1})
            assert isinstance(outcome, sdk.EngineRefused)
            assert (outcome.status, outcome.away) == ("UNAVAILABLE", True)
            assert (outcome.done, outcome.retryable) == (False, True)
