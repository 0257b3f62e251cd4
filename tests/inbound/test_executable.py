"""One executable: started, watched, started again; what it tells of itself; what its connector may use."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel, Field

from gateway import sdk
from gateway.inbound.executable import State
from gateway.sdk import InboundContext, WebhookRequest, WebhookResponse, inbound_connector, webhook_connector
from gateway.testing.inbound import InboundRun, an_element, run_inbound
from gateway.webhooks import WebhookRefused


class Settings(BaseModel):
    count: int = 1
    secret: str = ""
    names: list[str] = Field(default_factory=list)


@inbound_connector("Counter", type="test:counter:1")
async def counter(settings: Settings, source: InboundContext) -> None:
    source.report_health("UP", details={"count": settings.count})
    async with source.window(4) as window:
        for n in range(settings.count):
            _ = await window.emit({"n": n, "secret": settings.secret}, id=f"m{n}")
    await asyncio.Event().wait()


async def test_a_connector_gets_its_settings_and_its_events_reach_the_process() -> None:
    async with run_inbound(counter, {"count": "3"}) as run:
        events = await run.received(3)
        assert sorted(event["n"] for event, _ in events) == [0, 1, 2]
        assert {ident for _, ident in events} == {"m0", "m1", "m2"}
        assert run.state is State.ACTIVATED
        assert (run.health.status, run.health.details) == ("UP", {"count": 3})


async def test_secrets_are_put_into_the_settings() -> None:
    async with run_inbound(counter, {"secret": "{{secrets.TOKEN}}"}, secrets={"TOKEN": "t-1"}) as run:
        ((event, _),) = await run.received(1)
        assert event["secret"] == "t-1"


async def test_a_missing_secret_is_told_and_tried_again_until_it_is_there() -> None:
    secrets: dict[str, str] = {}
    async with run_inbound(counter, {"secret": "{{secrets.TOKEN}}"}, secrets=secrets) as run:
        await run.until(lambda: run.state is State.FAILED, "failure")
        assert run.health.status == "DOWN"
        assert "Secret with name 'TOKEN' is not available" in (run.health.error_message or "")
        secrets["TOKEN"] = "late"
        run.executable.hasten()
        await run.received(1)
        assert (run.state, run.health.status) == (State.ACTIVATED, "UP")


async def test_settings_that_do_not_fit_name_the_property() -> None:
    async with run_inbound(counter, {"count": "many"}) as run:
        await run.until(lambda: run.state is State.FAILED, "failure")
        assert "count" in (run.health.error_message or "")
        assert not run.events


async def test_a_connector_that_raises_is_started_again_and_its_secret_stays_hidden() -> None:
    starts: list[int] = []

    @inbound_connector("Flaky", type="test:flaky:1")
    async def flaky(settings: Settings, source: InboundContext) -> None:
        starts.append(1)
        if len(starts) == 1:
            raise RuntimeError(f"cannot log in with {settings.secret}")
        source.report_health("UP")
        await asyncio.Event().wait()

    async with run_inbound(flaky, {"secret": "{{secrets.TOKEN}}"}, secrets={"TOKEN": "hidden-token"}) as run:
        await run.until(lambda: run.state is State.FAILED, "failure")
        assert run.health.error_code == "RuntimeError"
        assert "hidden-token" not in repr(run.log) + repr(run.health)
        assert "***" in (run.health.error_message or "")
        await run.until(lambda: run.health.status == "UP", "second start", timeout=3)
    assert len(starts) == 2


async def test_a_connector_that_ends_by_itself_is_down_and_started_again() -> None:
    @inbound_connector("Short", type="test:short:1")
    async def short(source: InboundContext) -> None:
        source.report_health("UP")

    async with run_inbound(short, {}) as run:
        await run.until(lambda: run.state is State.FAILED, "end")
        assert run.health.status == "DOWN"
        assert "ended by itself" in (run.health.error_message or "")


async def test_a_cancellation_that_nobody_asked_for_is_a_failure() -> None:
    @inbound_connector("Cancelled", type="test:cancelled:1")
    async def cancelled(source: InboundContext) -> None:
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner

    async with run_inbound(cancelled, {}) as run:
        await run.until(lambda: run.state is State.FAILED, "failure")
        assert "cancelled from within" in (run.health.error_message or "")


async def test_stopping_lets_events_under_way_finish() -> None:
    async with run_inbound(counter, {"count": "4"}, delay=0.2) as run:
        await run.until(lambda: run.under_way == 4, "four events under way")
    assert len(run.events) == 4
    assert run.state is State.STOPPED


async def test_a_connector_that_swallows_its_cancellation_is_left_behind_and_told() -> None:
    end = asyncio.Event()

    @inbound_connector("Stubborn", type="test:stubborn:1")
    async def stubborn(source: InboundContext) -> None:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    async with run_inbound(stubborn, {}) as run:
        await run.until(lambda: run.state is State.ACTIVATED, "activation")
        await run.executable.stop(grace=0.05)
        assert "does not end when it is cancelled" in " ".join(entry.message for entry in run.log)
        end.set()


OUTCOMES: list[tuple[sdk.Outcome, str, str]] = [
    (sdk.ProcessInstanceCreated(an_element({}), 7, "t"), "INFO", "Process instance created"),
    (
        sdk.ProcessInstanceCreatedWithResult(an_element({}), 7, "t", {}),
        "INFO",
        "Process instance created with result",
    ),
    (sdk.MessagePublished(an_element({}), 8, "t"), "INFO", "Message published"),
    (sdk.MessageCorrelated(an_element({}), 7, 8, "t"), "INFO", "Message correlated to process instance"),
    (sdk.MessageAlreadyCorrelated(an_element({})), "INFO", "Message already correlated"),
    (sdk.ActivationConditionNotMet(consume_unmatched=False), "WARNING", "Activation condition not met"),
    (sdk.InvalidInput("no key"), "ERROR", "no key"),
    (sdk.EngineRefused("UNAVAILABLE", "gone"), "ERROR", "The engine refused the event: UNAVAILABLE: gone"),
    (sdk.CorrelationFailed("no"), "ERROR", "no"),
]


@pytest.mark.parametrize(("outcome", "severity", "words"), OUTCOMES, ids=lambda each: type(each).__name__)
async def test_each_outcome_is_written_down(outcome: sdk.Outcome, severity: str, words: str) -> None:
    async with run_inbound(counter, {"count": "1"}, answer=lambda event, ident: outcome) as run:
        await run.received(1)
        await run.until(lambda: run.log[-1].tag == "Correlation", "entry")
        assert (run.log[-1].severity, run.log[-1].message) == (severity, words)


async def test_the_activity_log_keeps_the_newest_entries() -> None:
    async with run_inbound(counter, {"count": "250"}) as run:
        await run.received(250)
        await run.until(lambda: len(run.log) == 100, "full log")
        assert run.log[-1].message == "Message published"


# ---- webhooks ----------------------------------------------------------------------------------------------------------


@webhook_connector("Hook", type="test:hook:1")
async def hook(settings: Settings, request: WebhookRequest, source: InboundContext) -> WebhookResponse:
    outcome = await source.correlate({"body": request.raw.decode()})
    return WebhookResponse(202, {"outcome": type(outcome).__name__, "count": settings.count})


def _request(**changes: Any) -> WebhookRequest:
    facts: dict[str, Any] = {
        "method": "POST",
        "path": "hook",
        "url": "http://localhost/inbound/hook",
        "headers": {},
        "params": {},
        "raw": b"hello",
    }
    return WebhookRequest(**facts | changes)


async def _hooked(run: InboundRun) -> None:
    await run.until(lambda: run.state is State.ACTIVATED, "activation")


async def test_a_webhook_connector_answers_requests() -> None:
    async with run_inbound(hook, {"count": "2"}) as run:
        await _hooked(run)
        assert run.health.status == "UP"
        response = await run.request(_request())
        assert (response.status, response.body) == (202, {"outcome": "MessagePublished", "count": 2})
        assert run.events == [({"body": "hello"}, None)]


async def test_a_webhook_that_does_not_work_now_says_when_to_come_again() -> None:
    async with run_inbound(hook, {}) as run:
        await _hooked(run)
        await run.executable.stop(State.PAUSED)
        with pytest.raises(WebhookRefused) as refused:
            await run.request(_request())
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "5"})


async def test_a_webhook_whose_settings_are_wrong_never_gets_its_path() -> None:
    async with run_inbound(hook, {"count": "x"}) as run:
        await run.until(lambda: run.state is State.FAILED, "failure")
        with pytest.raises(WebhookRefused):
            await run.request(_request())
