"""The supervisor: what runs follows what is deployed, whatever happened before; nobody is harmed by a neighbour."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway import sdk
from gateway.engine import Unavailable
from gateway.inbound.discovery import Wanted
from gateway.inbound.executable import Environment, Executable, State
from gateway.inbound.memory import Memory
from gateway.inbound.supervisor import Options, Supervisor
from gateway.limits import Permits
from gateway.observe import InboundMeters, Metrics
from gateway.sdk import ConnectorInputException, InboundContext, inbound_connector
from gateway.testing.inbound import an_element, published


class Source(BaseModel):
    topic: str = "a"
    fails: bool = False


class Rig:
    """Connectors that say what they do, a discovery that says what it is told."""

    def __init__(self, **options: Any) -> None:
        self.running: list[str] = []
        self.started: list[str] = []
        self.wanted = Wanted((), ())
        self.lost: Exception | None = None
        self.imports: list[Exception | None] = []
        metrics = Metrics(process=False)

        @inbound_connector("Source", type="test:source:1")
        async def source(given: Source, context: InboundContext) -> None:
            if given.fails:
                raise ConnectorInputException("told to fail")
            name = f"{given.topic}@{context.executable_id[:6]}"
            self.started.append(name)
            self.running.append(name)
            try:
                await asyncio.Event().wait()
            finally:
                self.running.remove(name)

        def meters(kind: str, template: str | None, version: str | None) -> InboundMeters:
            return metrics.inbound(kind, template, version)

        nothing: Any = None
        environment = Environment(
            engine=nothing,  # none of the three is asked here
            http=nothing,
            documents=nothing,
            binding=_Binding(),
            correlation=_Correlation,
            permits=Permits(10),
            memory=Memory(lambda: 0.0),
            paths=None,
        )
        self.supervisor = Supervisor(
            self, {source.type: source}, environment, Options(**options), meters=meters, imported=self.imports.append
        )

    async def look(self) -> Wanted:
        if self.lost is not None:
            raise self.lost
        return self.wanted

    async def deploy(self, *elements: sdk.InboundElement) -> None:
        self.wanted = Wanted(elements, ())
        await self.tick()

    async def tick(self) -> None:
        await self.supervisor.tick()
        await _settled()

    @property
    def topics(self) -> list[str]:
        return sorted(name.partition("@")[0] for name in self.running)

    def executable(self, topic: str) -> Executable:
        (found,) = [e for e in self.supervisor.executables.values() if e.elements[0].properties.get("topic") == topic]
        return found


class _Binding:
    async def bind(self, model: Any, element: sdk.InboundElement, instance: Any = None) -> Any:
        return model(**{name: value for name, value in element.properties.items() if name in model.model_fields})

    async def evaluate(self, element: sdk.InboundElement, name: str, context: Mapping[str, Any]) -> Any:
        return None


class _Correlation:
    def __init__(self, elements: Sequence[sdk.InboundElement]) -> None:
        self.elements = elements
        if any(e.properties.get("activationCondition") == "broken" for e in elements):
            raise ValueError("does not compile")

    def check(self, event: sdk.Event) -> sdk.Outcome | None:
        return None

    async def correlate(self, event: sdk.Event, message_id: str | None = None, /) -> sdk.Outcome:
        return published(event, message_id)


async def _settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def rigged(**options: Any) -> AsyncIterator[Rig]:
    rig = Rig(**options)
    try:
        yield rig
    finally:
        await rig.supervisor.stop(1.0)
        assert rig.running == []


def an(topic: str = "a", *, version: int = 1, element: str = "start", **properties: str) -> sdk.InboundElement:
    given = {"inbound.type": "test:source:1", "topic": topic, "deduplicationMode": "AUTO", **properties}
    return an_element(given, version=version, process_definition_key=version, element_id=element)


async def test_what_is_deployed_runs_and_ends_when_it_is_gone() -> None:
    async with rigged() as rig:
        await rig.deploy(an("a"), an("b", element="other"))
        assert rig.topics == ["a", "b"]
        await rig.deploy(an("b", element="other"))
        assert rig.topics == ["b"]
        await rig.deploy()
        assert rig.topics == []


async def test_events_of_all_executables_share_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = most = 0

    async def slow(self: _Correlation, event: sdk.Event, message_id: str | None = None, /) -> sdk.Outcome:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.001)
        at_once -= 1
        return published(event, message_id)

    monkeypatch.setattr(_Correlation, "correlate", slow)
    async with rigged() as rig:
        await rig.deploy(an("a"), an("b", element="other"))
        both = [rig.executable("a"), rig.executable("b")]
        outcomes = await asyncio.gather(*(each.correlate({"n": n}) for n in range(20) for each in both))
    assert most == 10
    assert all(outcome.done for outcome in outcomes)


async def test_a_new_version_with_the_same_properties_goes_on_without_a_restart() -> None:
    async with rigged() as rig:
        await rig.deploy(an("a"))
        await rig.deploy(an("a", version=2))
        assert len(rig.started) == 1
        assert [e.version for e in rig.executable("a").elements] == [2]


async def test_changes_that_only_the_correlation_reads_are_taken_over_in_place() -> None:
    async with rigged() as rig:
        await rig.deploy(an("a", activationCondition="=x"))
        await rig.deploy(an("a", version=2, activationCondition="=y", resultExpression="={a: 1}"))
        assert len(rig.started) == 1
        assert rig.executable("a").elements[0].activation_condition == "=y"


async def test_changed_elements_that_cannot_be_taken_over_are_not() -> None:
    async with rigged() as rig:
        await rig.deploy(an("a"), an("b", element="other"))
        await rig.deploy(
            an("a", version=2, activationCondition="broken"),
            an("b", version=2, element="other"),
            an("c", element="third"),
        )
        assert rig.topics == ["b", "c"], "its neighbours go on, and new ones start"
        assert [e.version for e in rig.executable("b").elements] == [2]
        await rig.deploy(an("a", version=3), an("b", version=2, element="other"), an("c", element="third"))
        assert rig.topics == ["a", "b", "c"]


async def test_a_changed_property_starts_another_executable() -> None:
    async with rigged() as rig:
        await rig.deploy(an("a"))
        await rig.deploy(an("b", version=2))
        assert rig.topics == ["b"]
        assert len(rig.supervisor.executables) == 1


async def test_a_property_that_a_manual_group_has_bound_restarts_it_and_keeps_its_log() -> None:
    async with rigged() as rig:
        await rig.deploy(an("a", deduplicationMode="MANUAL", deduplicationId="x"))
        before = rig.executable("a").activity
        await rig.deploy(an("b", version=2, deduplicationMode="MANUAL", deduplicationId="x"))
        assert rig.topics == ["b"]
        assert len(rig.started) == 2
        assert rig.executable("b").activity is before


async def test_elements_with_one_id_but_other_properties_are_an_invalid_definition() -> None:
    async with rigged() as rig:
        manual: Any = {"deduplicationMode": "MANUAL", "deduplicationId": "x"}
        await rig.deploy(an("a", **manual), an("b", element="other", **manual))
        (executable,) = rig.supervisor.executables.values()
        assert executable.state is State.INVALID
        assert executable.activity.health.status == "DOWN"
        assert "topic" in (executable.activity.health.error_message or "")
        await rig.deploy(an("a", version=2, **manual))
        assert rig.topics == ["a"]


async def test_an_element_without_a_usable_id_is_shown_as_invalid() -> None:
    async with rigged() as rig:
        await rig.deploy(an("a"), an("b", element="bad", deduplicationMode="MANUAL"))
        assert rig.topics == ["a"]
        (invalid,) = rig.supervisor.invalid
        assert (invalid.element_id, "deduplicationId" in invalid.reason) == ("bad", True)


async def test_an_unknown_type_is_shown_as_not_registered() -> None:
    async with rigged() as rig:
        await rig.deploy(an_element({"inbound.type": "other:1"}))
        (executable,) = rig.supervisor.executables.values()
        assert executable.state is State.NOT_REGISTERED
        assert executable.activity.health.error_message == "Connector other:1 not registered"


async def test_a_lost_search_changes_nothing_and_is_told() -> None:
    async with rigged() as rig:
        await rig.deploy(an("a"))
        rig.lost = Unavailable("gone")
        await rig.tick()
        assert rig.topics == ["a"]
        rig.lost = None
        await rig.deploy(an("a"), an("b", element="other"))
        assert rig.topics == ["a", "b"]
        assert [type(e).__name__ for e in rig.imports] == ["NoneType", "Unavailable", "NoneType"]


async def test_one_that_fails_leaves_its_neighbours_alone_and_comes_back_when_it_is_mended() -> None:
    async with rigged() as rig:
        await rig.deploy(an("a"), an("b", element="other", fails="true"))
        assert rig.topics == ["a"]
        assert rig.executable("b").state is State.FAILED
        await rig.deploy(an("a"), an("b", version=2, element="other"))
        assert rig.topics == ["a", "b"]
        assert len(rig.started) == 2


async def test_all_or_nothing_stops_the_others_of_the_process_and_lets_them_go_on_later() -> None:
    async with rigged(all_or_nothing=True) as rig:
        other = replace(an("c", element="c"), bpmn_process_id="another")
        await rig.deploy(an("a"), an("b", element="other", fails="true"), other)
        await rig.tick()
        assert rig.topics == ["c"]
        blocked = rig.executable("a")
        assert blocked.state is State.BLOCKED
        message = blocked.activity.health.error_message or ""
        assert "Process contains invalid connector(s): other. Reason: " in message
        assert "told to fail" in message
        await rig.deploy(an("a"), other)
        assert rig.topics == ["a", "c"]


async def test_an_executable_can_be_paused_resumed_cancelled_and_reset() -> None:
    async with rigged() as rig:
        await rig.deploy(an("a"))
        ident = rig.executable("a").executable_id
        assert (await rig.supervisor.pause(ident)).state is State.PAUSED
        assert rig.topics == []
        await rig.tick()
        assert rig.topics == []
        with pytest.raises(ValueError, match="does not run"):
            await rig.supervisor.pause(ident)
        await rig.supervisor.resume(ident)
        await _settled()
        assert rig.topics == ["a"]
        with pytest.raises(ValueError, match="not paused"):
            await rig.supervisor.resume(ident)
        await rig.supervisor.cancel(ident)
        assert rig.executable("a").state is State.CANCELLED
        await rig.supervisor.reset(ident)
        await _settled()
        assert rig.topics == ["a"]
        with pytest.raises(LookupError):
            await rig.supervisor.reset("nothing")


async def test_what_cannot_run_cannot_be_reset() -> None:
    async with rigged() as rig:
        await rig.deploy(an_element({"inbound.type": "other:1"}))
        with pytest.raises(ValueError, match="connector not registered"):
            await rig.supervisor.reset(next(iter(rig.supervisor.executables)))


# ---- faults row 27 -----------------------------------------------------------------------------------------------------

_ELEMENTS = st.builds(
    an,
    st.sampled_from("abc"),
    version=st.integers(1, 3),
    element=st.sampled_from(["e1", "e2", "e3"]),
    fails=st.sampled_from(["false", "true"]),
)
_STEP = st.one_of(
    st.lists(_ELEMENTS, max_size=4),
    st.just(Unavailable("lost")),
    st.sampled_from(["pause", "cancel", "reset", "tick"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_STEP, max_size=8), st.lists(_ELEMENTS, max_size=4))
def test_row_27_any_sequence_ends_in_the_wanted_set(steps: list[Any], last: list[sdk.InboundElement]) -> None:
    async def play() -> None:
        async with rigged() as rig:
            for step in steps:
                rig.lost = step if isinstance(step, Exception) else None
                if isinstance(step, list):
                    await rig.deploy(*step)
                elif isinstance(step, str) and step != "tick" and rig.supervisor.executables:
                    ident = min(rig.supervisor.executables)
                    with suppress(ValueError):
                        await getattr(rig.supervisor, step)(ident)
                else:
                    await rig.tick()
            rig.lost = None
            await rig.deploy()
            await rig.deploy(*last)
            groups = rig.supervisor.executables.values()
            runs = [e for e in groups if e.group.invalid is None and e.group.first.properties["fails"] != "true"]
            assert rig.topics == sorted(e.group.first.properties["topic"] for e in runs)
            assert all(e.state is State.ACTIVATED for e in runs)
            wanted = {(e.element_id, e.version) for e in last}
            assert {(e.element_id, e.version) for each in groups for e in each.elements} == wanted

    asyncio.run(play())
