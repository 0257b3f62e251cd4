"""What definitions say is read once, and again by itself where it could not be."""

import asyncio
from typing import Any

import pytest

from gateway.engine import DeadlineExceeded, EngineFailure, NotFound, PermissionDenied, Unavailable
from gateway.inbound.definitions import Definitions, Version
from tests.inbound.models import inbound, order, plain, process
from tests.inbound.unsteady import Seconds, Unsteady


class Rig:
    def __init__(self, *, size: int = 1000) -> None:
        self.engine = Unsteady()
        self.clock = Seconds()
        self.definitions = Definitions(self.engine, size=size, now=self.clock)  # type: ignore[arg-type]
        self.versions: dict[int, Version] = {}

    async def deploy(self, process_id: str, note: str = "1", **more: Any) -> int:
        [key] = await self.engine.deploy(order(process_id, note))
        self.versions[key] = Version(key, process_id, "<default>", **more)
        return key

    async def read(self, *keys: int) -> None:
        await self.definitions.read([self.versions[key] for key in keys])

    def elements(self, key: int) -> list[tuple[str, int]] | None:
        found = self.definitions.get(key)
        return None if found is None else [(e.element_id, e.version) for e in found.elements]


async def test_a_definition_is_fetched_and_read_once():
    rig = Rig()
    key = await rig.deploy("p", number=1)
    for _ in range(3):
        await rig.read(key)
    assert rig.elements(key) == [("start", 1), ("wait", 1)]
    assert rig.engine.calls == {"xml": 1}
    counters = rig.definitions.counters
    assert (counters.hits, counters.misses, counters.failures, counters.calls) == (2, 1, 0, 1)


async def test_a_key_that_is_another_processs_in_a_new_cluster_is_read_again():
    rig = Rig(size=0)
    key = await rig.deploy("p", number=1)
    await rig.read(key)
    rig.versions[key] = Version(key, "q", "<default>", 1)
    rig.engine.rewrites = lambda xml: xml.replace('"p"', '"q"')
    await rig.read(key)
    assert rig.engine.calls == {"xml": 2}
    found = rig.definitions.get(key)
    assert found is not None
    assert {element.bpmn_process_id for element in found.elements} == {"q"}
    rig.definitions.keep(())
    await rig.read(key)
    assert rig.engine.calls == {"xml": 3}


async def test_the_version_number_is_asked_for_only_where_it_is_not_known_and_needed():
    rig = Rig()
    await rig.deploy("p")
    key = await rig.deploy("p", "2")
    [bare] = await rig.engine.deploy(plain("q"))
    rig.versions[bare] = Version(bare, "q", "<default>")
    await rig.read(key, bare)
    assert rig.elements(key) == [("start", 2), ("wait", 2)]
    assert rig.elements(bare) == []
    assert rig.engine.calls == {"xml": 2, "definition": 1}


async def test_a_type_in_character_references_is_found():
    rig = Rig()
    model = process(inbound("startEvent", "s")).replace("inbound.type", "inbound&#46;type").replace("§", "p")
    [key] = await rig.engine.deploy(model.replace("</b:process>", "</b:process>"))
    rig.versions[key] = Version(key, "p", "<default>", 1)
    await rig.read(key)
    assert rig.elements(key) == [("s", 1)]


async def test_only_a_few_are_fetched_at_once(monkeypatch: pytest.MonkeyPatch):
    rig = Rig()
    keys = [await rig.deploy(f"p{n}", number=1) for n in range(30)]
    fetch, running, most = rig.engine.process_definition_xml, 0, 0

    async def slowly(key: int) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return await fetch(key)

    monkeypatch.setattr(rig.engine, "process_definition_xml", slowly)
    await rig.read(*keys)
    assert all(rig.elements(key) for key in keys)
    assert most == 8


@pytest.mark.parametrize("error", [NotFound("not there yet"), EngineFailure("broken"), PermissionDenied("no")])
async def test_one_that_cannot_be_fetched_leaves_the_others_alone_and_is_tried_again(error):
    rig = Rig()
    bad, good = await rig.deploy("bad", number=1), await rig.deploy("good", number=1)
    rig.engine.fails = lambda name: error if rig.engine.asked[-1] == ("xml", {"key": bad}) else None
    await rig.read(bad, good)
    assert rig.elements(good) is not None
    assert rig.definitions.unread() == {bad: str(error)}
    rig.engine.fails = lambda name: None
    await rig.read(bad, good)
    assert rig.elements(bad) is None, "its pause is not over"
    rig.clock.value += 6
    await rig.read(bad, good)
    assert rig.elements(bad) is not None
    assert rig.definitions.unread() == {}
    assert rig.definitions.counters.failures == 1


async def test_one_that_cannot_be_read_is_asked_for_less_and_less():
    rig = Rig()
    key = await rig.deploy("p", number=1)

    async def broken(key: int) -> str:
        rig.engine.calls["xml"] += 1
        return "<inbound.type>"

    rig.engine.process_definition_xml = broken  # type: ignore[method-assign]
    for _ in range(720):  # an hour of ticks
        await rig.read(key)
        rig.clock.value += 5
    assert 12 <= rig.engine.calls["xml"] <= 24
    assert "no well-formed XML" in rig.definitions.unread()[key]


async def test_an_error_of_our_own_is_told_by_its_name_alone(monkeypatch: pytest.MonkeyPatch):
    rig = Rig()
    bad, good = await rig.deploy("bad", number=1), await rig.deploy("good", number=1)
    read = rig.engine.engine.process_definition_xml

    async def odd(key: int) -> Any:
        return 7 if key == bad else await read(key)

    monkeypatch.setattr(rig.engine, "process_definition_xml", odd)
    await rig.read(bad, good)
    assert rig.definitions.unread() == {bad: "TypeError"}
    assert rig.elements(good) is not None


async def test_an_engine_in_trouble_is_not_asked_for_the_rest():
    rig = Rig()
    keys = [await rig.deploy(f"p{n}", number=1) for n in range(100)]
    rig.engine.fails = lambda name: Unavailable("gone")
    with pytest.raises(Unavailable, match="gone"):
        await rig.read(*keys)
    assert rig.engine.calls["xml"] <= 8
    rig.engine.fails = lambda name: None
    await rig.read(*keys)
    assert sum(rig.elements(key) is None for key in keys) == len(rig.definitions.unread()) <= 8
    rig.clock.value += 6
    await rig.read(*keys)
    assert all(rig.elements(key) for key in keys)


async def test_one_that_always_times_out_holds_up_nobody():
    rig = Rig()
    keys = [await rig.deploy(f"p{n}", number=1) for n in range(30)]
    slow = keys[0]
    rig.engine.fails = lambda name: (
        DeadlineExceeded("too slow") if rig.engine.asked[-1] == ("xml", {"key": slow}) else None
    )
    with pytest.raises(DeadlineExceeded):
        await rig.read(*keys)
    rig.clock.value += 6
    await rig.read(*keys)  # it comes last now, and nobody is left: no error for all
    assert [key for key in keys if rig.elements(key) is None] == [slow]


async def test_a_large_definition_is_read_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch):
    rig = Rig()
    key = await rig.deploy("p", "x" * 300_000, number=1)
    threads: list[Any] = []
    to_thread = asyncio.to_thread

    async def noted(function: Any, *args: Any) -> Any:
        threads.append(function)
        return await to_thread(function, *args)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    await rig.read(key)
    assert rig.elements(key) == [("start", 1), ("wait", 1)]
    assert len(threads) == 1


async def test_what_is_not_in_use_is_kept_as_far_as_the_cache_goes():
    rig = Rig(size=3)
    keys = [await rig.deploy("p", str(n), number=n) for n in range(5)]
    await rig.read(*keys)
    rig.definitions.keep({keys[0]})
    assert [key for key in keys if rig.definitions.get(key)] == [keys[0], *keys[3:]]
    await rig.read(keys[3])
    rig.definitions.keep(set())
    assert len(rig.definitions) == 3
    await rig.read(keys[1])
    rig.definitions.keep({keys[1]})
    assert [key for key in keys if rig.definitions.get(key)] == [keys[1], keys[3], keys[4]]


async def test_without_a_cache_what_is_in_use_is_kept():
    rig = Rig(size=0)
    one, two = await rig.deploy("p", number=1), await rig.deploy("q", number=1)
    await rig.read(one, two)
    rig.definitions.keep({two})
    assert (rig.elements(one), rig.elements(two)) == (None, [("start", 1), ("wait", 1)])


async def test_a_failure_is_forgotten_with_the_definition():
    rig = Rig()
    key = await rig.deploy("p", number=1)
    rig.engine.fails = lambda name: NotFound("gone")
    await rig.read(key)
    rig.definitions.keep(set())
    assert rig.definitions.unread() == {}


async def test_a_reader_that_is_cancelled_leaves_nothing_half_read():
    rig = Rig()
    keys = [await rig.deploy(f"p{n}", number=1) for n in range(5)]

    async def never(key: int) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    fetch, rig.engine.process_definition_xml = rig.engine.process_definition_xml, never  # type: ignore[method-assign]
    reading = asyncio.create_task(rig.read(*keys))
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (len(rig.definitions), rig.definitions.unread()) == (0, {})
    rig.engine.process_definition_xml = fetch  # type: ignore[method-assign]
    await rig.read(*keys)
    assert len(rig.definitions) == 5
