"""One inbound connector at work, without a process engine."""

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest
from pydantic import BaseModel

import gateway.testing
from gateway import sdk
from gateway.inbound.executable import State
from gateway.sdk import InboundContext, WebhookRequest, WebhookResponse, inbound_connector, webhook_connector
from gateway.testing import FakeHttp, an_element, published, run_inbound


class Settings(BaseModel):
    count: int = 3
    token: str = ""


@inbound_connector("Counter", type="test:counter:1")
async def counter(settings: Settings, source: InboundContext) -> None:
    """Counts, then waits; says what became of each number."""
    source.report_health("UP")
    async with source.window(2) as window:
        deliveries = [await window.emit({"n": n, "token": settings.token}, id=f"m{n}") for n in range(settings.count)]
        for delivery in deliveries:
            source.log("INFO", "Outcome", type(await delivery).__name__)
    await asyncio.Event().wait()


def outcomes(run: gateway.testing.InboundRun) -> list[str]:
    return [entry.message for entry in run.log if entry.tag == "Outcome"]


async def test_events_are_kept_in_the_order_of_their_arrival_with_their_message_ids() -> None:
    async with run_inbound(counter, {"token": "{{secrets.TOKEN}}"}, secrets={"TOKEN": "x"}) as run:
        assert await run.received(3) == [({"n": n, "token": "x"}, f"m{n}") for n in range(3)]
        assert (run.state, run.health.status) == (State.ACTIVATED, "UP")
        await run.until(lambda: outcomes(run) == ["MessagePublished"] * 3, "three outcomes")
    assert run.state is State.STOPPED


async def test_the_test_says_what_becomes_of_each_event() -> None:
    def answer(event: sdk.Event, message_id: str | None) -> sdk.Outcome:
        return sdk.InvalidInput("odd") if event["n"] == 1 else published(event, message_id)

    async with run_inbound(counter, {}, answer=answer) as run:
        await run.until(lambda: len(outcomes(run)) == 3, "three outcomes")
        assert outcomes(run) == ["MessagePublished", "InvalidInput", "MessagePublished"]


async def test_an_answer_may_take_its_time_and_the_event_is_under_way_until_then() -> None:
    gate = asyncio.Event()

    async def answer(event: sdk.Event, message_id: str | None) -> sdk.Outcome:
        await gate.wait()
        return published(event, message_id)

    async with run_inbound(counter, {}, answer=answer) as run:
        await run.until(lambda: run.under_way == 2, "two events under way")
        assert (len(run.events), outcomes(run)) == (2, [])
        gate.set()
        await run.until(lambda: len(outcomes(run)) == 3, "three outcomes")
        assert (run.most, run.under_way) == (2, 0)


async def test_a_slow_process_takes_so_many_seconds_for_each_event() -> None:
    began = time.monotonic()
    async with run_inbound(counter, {"count": "4"}, delay=0.05) as run:
        await run.until(lambda: len(outcomes(run)) == 4, "four outcomes")
        assert time.monotonic() - began >= 0.1, "two at once, one pair after the other"
        assert run.most == 2


async def test_what_does_not_come_in_time_is_told_with_what_the_connector_says_of_itself() -> None:
    async with run_inbound(counter, {"count": "1"}) as run:
        with pytest.raises(AssertionError) as told:
            await run.received(2, timeout=0.05)
    assert "no 2 events within 0.05 s: 1 events, state activated" in str(told.value)
    assert "INFO Outcome: MessagePublished" in str(told.value)


async def test_settings_that_do_not_fit_show_as_they_do_in_the_gateway() -> None:
    async with run_inbound(counter, {"count": "many"}) as run:
        await run.until(lambda: run.state is State.FAILED, "failure")
        assert "count" in (run.health.error_message or "")
        assert run.events == []


async def test_the_connector_may_be_started_by_the_test() -> None:
    async with run_inbound(counter, {}, start=False) as run:
        await asyncio.sleep(0.02)
        assert run.events == []
        run.executable.start()
        await run.received(3)


async def test_leaving_the_block_lets_events_under_way_finish() -> None:
    async with run_inbound(counter, {"count": "2"}, delay=0.1) as run:
        await run.until(lambda: run.under_way == 2, "two events under way")
    assert (len(run.events), run.under_way) == (2, 0)


async def test_a_webhook_connector_is_given_requests() -> None:
    @webhook_connector("Bell", type="test:bell:1")
    async def bell(request: WebhookRequest, source: InboundContext) -> WebhookResponse:
        return WebhookResponse.of(await source.correlate({"who": request.body}))

    request = WebhookRequest("POST", "bell", "http://x/inbound/bell", {"content-type": "text/plain"}, {}, b"Ann")
    async with run_inbound(bell, {"inbound.context": "bell"}) as run:
        await run.until(lambda: run.state is State.ACTIVATED, "activation")
        assert (await run.request(request)).status == 200
        assert run.events == [({"who": "Ann"}, None)]


async def test_whether_an_event_is_wanted_and_who_waits_are_the_tests_too() -> None:
    @inbound_connector("Asker", type="test:asker:1")
    async def asker(source: InboundContext) -> None:
        for instance in await source.instances():
            if source.check({"key": instance.key}) is None:
                await source.correlate({"key": instance.key}, id=instance.message_id)
        await asyncio.Event().wait()

    async with run_inbound(
        asker, {}, element=an_element({"inbound.type": asker.type}, element_id="wait"), start=False
    ) as run:
        run.instances = [sdk.ElementInstance(key, run.element, 1) for key in (7, 8)]
        run.unwanted = lambda event: (
            None if event["key"] == 8 else sdk.ActivationConditionNotMet(consume_unmatched=False)
        )
        run.executable.start()
        assert await run.received(1) == [({"key": 8}, "wait8")]


async def test_http_is_the_tests_own() -> None:
    @inbound_connector("Caller", type="test:caller:1")
    async def caller(source: InboundContext) -> None:
        reply = await source.http.get("https://weather.example/")
        await source.correlate(reply.json())
        await asyncio.Event().wait()

    http = FakeHttp(lambda request: {"t": 21})
    async with run_inbound(caller, {}, http=http) as run:
        assert await run.received(1) == [({"t": 21}, None)]
    assert [request.url.host for request in http.requests] == ["weather.example"]


# ---- the names of the test kit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", gateway.testing.__all__)
def test_each_name_of_the_test_kit_can_be_had_and_says_what_it_is(name: str) -> None:
    found: Any = getattr(gateway.testing, name)
    assert (found.__doc__ or "").strip()
    assert name in dir(gateway.testing)


def test_what_is_no_name_of_the_test_kit_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        gateway.testing.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("used", "not_loaded"),
    [
        ("import gateway.testing.plugin", {"pydantic", "aiohttp", "lxml", "gateway.sdk", "gateway.app"}),
        ("from gateway.testing import FakeHttp, run_job", {"gateway.app", "gateway.inbound.executable", "grpc"}),
        ("from gateway.testing import run_inbound, conformance", {"gateway.app", "gateway.outbound.handler", "pytest"}),
    ],
)
def test_only_what_is_used_is_loaded(used: str, not_loaded: set[str]) -> None:
    code = used + f"\nimport sys; print(sorted(m for m in sys.modules if m in {not_loaded}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert run.stdout.strip() == "[]"


def test_the_function_engine_is_had_whatever_was_loaded_before() -> None:
    code = "import gateway.testing.process, gateway.testing.jobs\nfrom gateway.testing import engine\nassert callable(engine)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
