"""The event flow of a gateway process while the engine, the senders or single process definitions fail."""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.events import (
    NUMBERED,
    Answer,
    Sender,
    deploy,
    events_at_work,
    executables,
    hook,
    numbers,
    served,
    starting,
    waiting,
)
from tests.faults.rig import Gateway, until
from tests.proxy import FaultProxy
from tests.real.processes import EngineProcess, running_engine

pytestmark = pytest.mark.real

SOURCES = Path(__file__).with_name("sources.py")
BY_ID = {"messageIdExpression": "=string(request.body.n)"}


@pytest.fixture(scope="module")
def engine(engine_run: Path) -> Iterator[EngineProcess]:
    """An engine of this module's own: all that is deployed in it runs in each gateway."""
    with running_engine() as process:
        yield process


# ---- row 24: the engine is away ------------------------------------------------------------------------------------


async def test_row_24_while_the_engine_is_away_senders_are_asked_to_come_again_and_nothing_is_done(
    engine: EngineProcess, record_property: Any
) -> None:
    await deploy(engine, starting("away", hook("away")))
    async with (
        FaultProxy(engine.grpc_port) as grpc,
        FaultProxy(engine.http_port) as rest,
        events_at_work(engine, proxy=grpc, rest=rest) as (gateway, posts),
    ):
        before = await posts.each("away", range(20))
        assert [answer.status for answer in before] == [200] * 20
        for proxy in (grpc, rest):
            await proxy.refuse()
            proxy.reset()
        during = await posts.each("away", range(100, 160))
        assert {answer.status for answer in during} == {503}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in during)
        assert await gateway.status("/actuator/health/readiness") == 200
        await asyncio.sleep(1.5)  # some looks at what is deployed fail meanwhile
        assert (await posts.post("away", {"n": 160})).status == 503
        assert await gateway.status("/actuator/health/readiness") == 200
        assert (await executables(gateway))["away"]["state"] == "activated"
        assert set(await numbers(engine, "away")) == set(range(20)), "nothing half done"
        for proxy in (grpc, rest):
            await proxy.accept()
        after: list[Answer] = []

        async def back() -> bool:
            after.append(await posts.post("away", {"n": 200 + len(after)}))
            return after[-1].status == 200

        record_property("back after", await until(back, 15))
        answers = [*before, *during, *after]
        done = sum(200 <= answer.status < 300 for answer in answers)
        assert (await numbers(engine, "away")).total() == done == 21


async def test_row_24_connections_that_break_under_load_cost_no_event_and_make_none_twice_where_it_has_an_id(
    engine: EngineProcess,
) -> None:
    await deploy(engine, starting("broken", hook("broken", BY_ID), by_message=True))
    async with (
        FaultProxy(engine.grpc_port) as grpc,
        FaultProxy(engine.http_port) as rest,
        events_at_work(engine, proxy=grpc, rest=rest) as (_, posts),
    ):
        sending = asyncio.create_task(_until_taken(posts, "broken", range(150)))
        for _ in range(5):
            await asyncio.sleep(0.15)
            grpc.reset()
            rest.reset()
        statuses = await asyncio.wait_for(sending, 30)
        assert set(statuses) <= {200, 503}, statuses
        assert await numbers(engine, "broken") == Counter(range(150))


async def _until_taken(posts: Sender, path: str, ns: range) -> "Counter[int]":
    """Sends each number until it is answered with 2xx, as a good sender does; how often each status came."""
    statuses: Counter[int] = Counter()
    places = asyncio.Semaphore(10)

    async def one(n: int) -> None:
        while True:
            async with places:
                answer = await posts.post(path, {"n": n})
            statuses[answer.status] += 1
            if 200 <= answer.status < 300:
                return
            await asyncio.sleep(0.1)

    await asyncio.gather(*map(one, ns))
    return statuses


# ---- drain and death -------------------------------------------------------------------------------------------------


async def test_requests_in_flight_at_sigterm_are_answered_and_new_ones_refused(
    engine: EngineProcess, record_property: Any
) -> None:
    await deploy(engine, starting("drained", hook("drained")))
    async with (
        FaultProxy(engine.grpc_port) as grpc,
        events_at_work(engine, proxy=grpc, settings={"GATEWAY_SHUTDOWN_GRACE": "6s"}) as (gateway, posts),
    ):
        assert (await posts.post("drained", {"n": 0})).status == 200
        grpc.black_hole()
        sending = asyncio.create_task(posts.each("drained", range(1, 41)))
        await asyncio.sleep(0.5)
        assert not sending.done()
        began = time.monotonic()
        stopping = asyncio.create_task(gateway.stop())
        await asyncio.sleep(0.4)
        late = await posts.each("drained", range(100, 110))
        assert {answer.status for answer in late} <= {0, 503}
        assert all("Retry-After" in answer.headers for answer in late if answer.status)
        assert any(answer.status == 503 for answer in late), "refused with an answer while others are finished"
        grpc.heal()
        answers = await sending
        assert [answer.status for answer in answers] == [200] * 40
        _, code = await stopping
        record_property("seconds", time.monotonic() - began)
        assert code == 0
        assert time.monotonic() - began < 6
        assert await numbers(engine, "drained") == Counter(range(41))


async def test_a_request_that_the_engine_never_answers_does_not_keep_the_process(engine: EngineProcess) -> None:
    await deploy(engine, starting("stuck", hook("stuck")))
    async with (
        FaultProxy(engine.grpc_port) as grpc,
        events_at_work(engine, proxy=grpc, settings={"GATEWAY_SHUTDOWN_GRACE": "1s"}) as (gateway, posts),
    ):
        grpc.black_hole()
        sending = asyncio.create_task(posts.post("stuck", {"n": 1}))
        await asyncio.sleep(0.3)
        seconds, code = await gateway.stop()
        assert code == 0
        assert seconds < 1 + 2 + 4
        assert (await sending).status not in range(200, 300), "nobody knows that it was done"


async def test_a_gateway_killed_amid_webhooks_doubles_none_that_has_a_message_id(engine: EngineProcess) -> None:
    await deploy(engine, starting("killed", hook("killed", BY_ID), by_message=True))
    async with events_at_work(engine) as (gateway, posts):
        sending = asyncio.create_task(_until_taken(posts, "killed", range(400)))
        for _ in range(2):
            await asyncio.sleep(0.3)
            await gateway.kill()
            assert not sending.done(), "the kill came in the middle"
            await gateway.start()
        statuses = await asyncio.wait_for(sending, 30)
        assert statuses[200] == 400
        again = await posts.each("killed", range(0, 400, 10))  # a sender that never saw its answer
        assert {answer.status for answer in again} == {200}
        assert await numbers(engine, "killed") == Counter(range(400))


async def test_a_key_answered_with_success_starts_nothing_again_under_load(engine: EngineProcess) -> None:
    await deploy(engine, starting("keyed", hook("keyed", {"inbound.idempotencyHeader": "X-Key"})))
    async with events_at_work(engine) as (_, posts):

        async def thrice(n: int) -> list[int]:
            answers = [await posts.post("keyed", {"n": n}, **{"X-Key": f"key-{n}"}) for _ in range(3)]
            return [answer.status for answer in answers]

        for statuses in await asyncio.gather(*map(thrice, range(40))):
            assert statuses == [200, 200, 200]
        at_once = await asyncio.gather(*(posts.post("keyed", {"n": 99}, **{"X-Key": "one"}) for _ in range(20)))
        assert {answer.status for answer in at_once} <= {200, 409}
        assert await numbers(engine, "keyed") == Counter([*range(40), 99])


# ---- row 27: one broken definition -----------------------------------------------------------------------------------


async def test_row_27_broken_definitions_are_shown_with_the_reason_and_the_others_work(engine: EngineProcess) -> None:
    signed = {"inbound.shouldValidateHmac": "enabled", "inbound.hmacHeader": "X-Sig", "inbound.hmacAlgorithm": "sha_256"}
    broken = {
        "no-secret": (hook("no-secret", signed | {"inbound.hmacSecret": "{{secrets.NOWHERE}}"}), "NOWHERE"),
        "no-element": (hook("no-element", {"messageTtl": "three days"}), "three days"),
        "no-connector": (hook("no-connector", {"inbound.type": "io.example:unknown:1"}), "not registered"),
        "no-property": (hook("no-property", {"inbound.auth.type": "NOSUCH"}), "auth"),
        "no-path": (hook(""), "inbound.context"),
        "no-start": (hook("no-start", {"inbound.type": "fault:failing"}), "it always fails"),
    }
    models = [starting(name, properties, by_message=name == "no-element") for name, (properties, _) in broken.items()]
    await deploy(engine, starting("good", hook("good")), *models[:3])
    async with events_at_work(engine, connectors=SOURCES) as (gateway, posts):
        await deploy(engine, *models[3:], starting("other", hook("other")))
        await served(gateway, posts, "good", "other")

        async def told() -> bool:
            return broken.keys() <= (await executables(gateway)).keys()

        await until(told, 10)
        for name, (_, reason) in broken.items():

            async def down(name: str = name) -> bool:
                return str((await executables(gateway))[name]["health"]["status"]) == "DOWN"

            await until(down, 10)
            health = (await executables(gateway))[name]["health"]
            assert reason in health["error"]["message"], (name, health)
        for path in ("good", "other"):
            assert {answer.status for answer in await posts.each(path, range(10))} == {200}
            assert await numbers(engine, path) == Counter(range(10))
        assert await gateway.status("/actuator/health/readiness") == 200
        assert (await posts.post("no-secret", {"n": 1})).status == 404
        mended = signed | {"inbound.hmacSecret": "typed"}
        await deploy(engine, starting("no-secret", hook("no-secret", mended)), starting("no-element", hook("no-element")))
        await served(gateway, posts, "no-secret", "no-element")
        assert (await posts.post("no-secret", {"n": 1})).status == 401, "the mended one works, and asks for a signature"
        assert (await posts.post("no-element", {"n": 1})).status == 200


async def test_row_27_when_the_engine_comes_back_with_other_definitions_they_are_followed(engine: EngineProcess) -> None:
    with running_engine() as first, running_engine() as second:
        await deploy(first, starting("old", hook("old")), starting("both", hook("both")))
        await deploy(second, starting("new", hook("new")), starting("both", hook("both")))
        async with (
            FaultProxy(first.grpc_port) as grpc,
            FaultProxy(first.http_port) as rest,
            events_at_work(first, proxy=grpc, rest=rest) as (gateway, posts),
        ):
            await served(gateway, posts, "old", "both")
            for proxy, port in ((grpc, second.grpc_port), (rest, second.http_port)):
                await proxy.refuse()
                proxy.reset()
                proxy.target = ("127.0.0.1", port)
            await asyncio.sleep(0.6)
            for proxy in (grpc, rest):
                await proxy.accept()
            await served(gateway, posts, "new", "both", seconds=20)

            async def gone() -> bool:
                return (await posts.ask("OPTIONS", "/inbound/old")).status == 404

            await until(gone, 10)
            for path in ("new", "both"):
                assert (await posts.post(path, {"n": 7})).status == 200
                assert await numbers(second, path) == Counter([7])
            assert set(await executables(gateway)) == {"new", "both"}
