"""What becomes of a message by what became of its event; how many are here at once; how it all ends."""

import asyncio
from typing import Any

import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from connectors import rabbitmq as module
from connectors.rabbitmq import rabbitmq
from gateway import sdk
from gateway.testing.inbound import an_element, run_inbound
from tests.connectors.rabbitmq.conftest import AWAY, DONE, FAILED, INVALID, Queue, down, number, up
from tests.proxy import FaultProxy

# ---- when a message is tried again -----------------------------------------------------------------------------------


def delivered(headers: dict[str, Any] | None = None, *, redelivered: bool = False) -> DeliveredMessage:
    header = ContentHeader(properties=Basic.Properties(headers=headers))
    deliver = Basic.Deliver("t", 1, redelivered, "", "q")
    return DeliveredMessage(delivery=deliver, header=header, body=b"", channel=None)  # type: ignore[arg-type]


def pauses(message: DeliveredMessage, outcome: sdk.Outcome, attempts: int = 12) -> list[float | None]:
    again = module._again(message)
    return [None if (found := again(outcome, n)) is None else found for n in range(1, attempts + 1)]


@pytest.mark.parametrize(
    "outcome",
    [
        DONE,
        INVALID,
        sdk.ActivationConditionNotMet(consume_unmatched=False),
        sdk.MessageAlreadyCorrelated(an_element({})),
    ],
)
def test_what_is_done_or_hopeless_is_not_tried_again(outcome: sdk.Outcome) -> None:
    assert pauses(delivered(), outcome, 1) == [None]


@pytest.mark.parametrize("outcome", [FAILED, sdk.EngineRefused("NOT_FOUND", "no such process")])
def test_a_message_in_trouble_is_tried_a_few_times_with_growing_pauses(outcome: sdk.Outcome) -> None:
    first = pauses(delivered(), outcome)
    assert first[:4] == [pytest.approx(s, rel=0.11) for s in (1, 2, 4, 8)]
    assert first[4:] == [None] * 8


def test_the_pauses_grow_with_the_times_it_was_back_in_the_queue() -> None:
    assert pauses(delivered(redelivered=True), FAILED, 1) == [pytest.approx(4, rel=0.11)]
    assert pauses(delivered({"x-delivery-count": 3}), FAILED, 1) == [pytest.approx(8, rel=0.11)]
    assert pauses(delivered({"x-delivery-count": 99_999}), FAILED, 1) == [pytest.approx(60, rel=0.11)]


def test_while_the_engine_is_away_a_message_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = pauses(delivered(), AWAY, 1000)
    assert None not in found
    assert found[-1] == pytest.approx(60, rel=0.11)
    monkeypatch.setattr(module, "HELD_SECONDS", -1.0)
    assert pauses(delivered(), AWAY, 1) == [None]


# ---- outcomes ---------------------------------------------------------------------------------------------------------


async def test_what_is_done_is_acknowledged(queue: Queue) -> None:
    await queue.put(*[b"1"] * 20)
    outcomes = [
        DONE,
        sdk.ActivationConditionNotMet(consume_unmatched=True),
        sdk.MessageAlreadyCorrelated(an_element({})),
    ]
    async with run_inbound(rabbitmq, queue.properties) as run:
        run.answer = lambda event, message_id: outcomes[len(run.events) % 3]
        await run.received(20)
    assert await queue.ready() == 0


@pytest.mark.parametrize("outcome", [INVALID, sdk.ActivationConditionNotMet(consume_unmatched=False)])
async def test_poison_goes_to_the_dead_letters_and_its_neighbours_flow(queue: Queue, outcome: sdk.Outcome) -> None:
    dead = Queue(queue.port, queue.channel, f"{queue.name}-dead")
    await dead.declare()
    queue.name += "-living"
    await queue.declare(x_dead_letter_exchange="", x_dead_letter_routing_key=dead.name)
    await queue.put(b"1", b'"poison"', b"2")
    async with run_inbound(rabbitmq, queue.properties) as run:
        run.answer = lambda event, message_id: outcome if event["message"]["body"] == "poison" else DONE
        await run.received(3)
        await dead.until_ready(1)
    message = await queue.channel.basic_get(dead.name, no_ack=True)
    assert message.body == b'"poison"'
    assert await queue.ready() == 0


async def test_a_message_in_trouble_goes_back_into_the_queue_without_a_storm(queue: Queue, impatient: None) -> None:
    await queue.put(b"1")
    async with run_inbound(rabbitmq, queue.properties) as run:
        run.answer = lambda event, message_id: FAILED
        await run.received(module.ATTEMPTS + 1)
        await asyncio.sleep(0.5)
        count = len(run.events)
        assert count <= module.ATTEMPTS + 0.5 / 0.045 + 5, "one attempt in LONGEST_PAUSE"
        run.answer = lambda event, message_id: DONE
        await run.received(count + 1)
    assert await queue.ready() == 0


async def test_row_24_while_the_engine_is_away_nothing_is_acknowledged_and_no_more_is_taken(
    queue: Queue, impatient: None
) -> None:
    """A quorum queue counts what comes back; with this limit a single return would make dead letters of good messages."""
    queue.name += "-quorum"
    await queue.declare(x_queue_type="quorum", x_delivery_limit=1)
    await queue.put(*[str(n).encode() for n in range(20)])
    away = True
    async with run_inbound(rabbitmq, queue.properties | {"prefetchCount": "5"}) as run:
        run.answer = lambda event, message_id: AWAY if away else DONE
        await run.received(60)
        assert {number(event) for event, _ in run.events} == set(range(5))
        assert await queue.ready() == 15
        assert run.health.status == "UP"
        before, away = len(run.events), False
        await run.until(lambda: len(run.events) >= before + 20, "all events")
        assert {number(event) for event, _ in run.events[before:]} == set(range(20))
        assert all("x-delivery-count" not in (e["message"]["properties"].get("headers") or {}) for e, _ in run.events)
    assert await queue.ready() == 0


async def test_never_more_messages_here_than_the_prefetch_count(queue: Queue) -> None:
    await queue.put(*[b"1"] * 60)
    async with run_inbound(rabbitmq, queue.properties | {"prefetchCount": "7"}, delay=0.05) as run:
        await run.until(lambda: run.under_way == 7, "a full window")
        assert await queue.ready() >= 60 - 7 - len(run.events) - 7
        await run.received(60)
        assert run.most == 7


async def test_a_prefetch_count_of_one_keeps_the_order(queue: Queue, impatient: None) -> None:
    await queue.put(*[str(n).encode() for n in range(30)])
    tried: set[int] = set()

    def answer(event: sdk.Event, message_id: str | None) -> sdk.Outcome:
        first = number(event) not in tried
        tried.add(number(event))
        return AWAY if first and number(event) % 3 == 0 else DONE

    async with run_inbound(rabbitmq, queue.properties | {"prefetchCount": "1"}, answer=answer) as run:
        await run.received(40)
    seen = [number(event) for event, _ in run.events]
    assert seen == sorted(seen)
    assert seen.count(3) == 2


async def test_arguments_may_be_feel_or_json(queue: Queue) -> None:
    """A stream gives what it had before only to who asks for it by an argument."""
    queue.name += "-stream"
    await queue.declare(x_queue_type="stream")
    await queue.put(b"1", b"2", b"3")
    for arguments in ('{"x-stream-offset": "first"}', '={"x-stream-offset": 1.0 - 1}'):
        async with run_inbound(rabbitmq, queue.properties | {"arguments": arguments}) as run:
            assert [number(event) for event, _ in (await run.received(3))[:3]] == [1, 2, 3]


async def test_an_exclusive_consumer_has_the_queue_for_itself(queue: Queue) -> None:
    async with run_inbound(rabbitmq, queue.properties | {"exclusive": "true"}) as first:
        await up(first)
        async with run_inbound(rabbitmq, queue.properties) as second:
            await down(second, "ACCESS_REFUSED")
        assert first.health.status == "UP"


# ---- ends ------------------------------------------------------------------------------------------------------------


async def test_at_the_end_what_runs_is_finished_and_the_rest_is_back_at_once(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three wait for another attempt, sixty are with the process, and four the broker still has."""
    await queue.put(*[str(n).encode() for n in range(67)])
    slow = asyncio.Event()
    async with run_inbound(rabbitmq, queue.properties | {"prefetchCount": "63"}) as run:
        correlate = run.executable.correlate

        async def handled(event: sdk.Event, **options: Any) -> sdk.Outcome:
            if number(event) < 3:
                return AWAY
            await slow.wait()
            return await correlate(event, **options)

        monkeypatch.setattr(run.executable, "correlate", handled)
        await up(run)
        await queue.until_ready(4)
        await asyncio.sleep(0.1)
        asyncio.get_running_loop().call_later(0.5, slow.set)
        began = asyncio.get_running_loop().time()
        await run.executable.stop()
        assert asyncio.get_running_loop().time() - began < 2
        assert [number(event) for event, _ in run.events] == [*range(3, 63)]
    await queue.until_ready(7, timeout=1)
    left = [await queue.channel.basic_get(queue.name, no_ack=True) for _ in range(7)]
    assert sorted(int(message.body) for message in left) == [0, 1, 2, 63, 64, 65, 66]


async def test_what_hangs_at_the_end_is_back_in_the_queue(queue: Queue) -> None:
    await queue.put(b"1")
    async with run_inbound(rabbitmq, queue.properties, delay=60) as run:
        await run.until(lambda: run.under_way == 1, "the event")
        await run.executable.stop(grace=0.3)
        assert run.under_way == 0
    await queue.until_ready(1, timeout=1)


async def test_the_connection_is_gone_with_the_connector(queue: Queue) -> None:
    async with FaultProxy(queue.port) as proxy:
        properties = queue.properties | {"authentication.uri": f"amqp://guest:guest@127.0.0.1:{proxy.port}/"}
        async with run_inbound(rabbitmq, properties) as run:
            await up(run)
            assert proxy.connections == 1
        await asyncio.sleep(0.1)
        assert proxy.connections == 0
