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
    Answer,
    Sender,
    deploy,
    events_at_work,
    executables,
    hook,
    numbers,
    served,
    starting,
)
from tests.faults.rig import until
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


async def _until_taken(posts: Sender, path: str, ns: range, statuses: "Counter[int] | None" = None) -> "Counter[int]":
    """Sends each number until it is answered with 2xx, as a good sender does; how often each status came."""
    statuses = Counter() if statuses is None else statuses
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
        statuses: Counter[int] = Counter()
        sending = asyncio.create_task(_until_taken(posts, "killed", range(400), statuses))
        for answered in (50, 150):
            await until(lambda answered=answered: statuses[200] >= answered, 20)
            await gateway.kill()
            assert not sending.done(), "the kill came in the middle"
            await gateway.start()
        await asyncio.wait_for(sending, 30)
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
    signed = {
        "inbound.shouldValidateHmac": "enabled",
        "inbound.hmacHeader": "X-Sig",
        "inbound.hmacAlgorithm": "sha_256",
    }
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
        await deploy(
            engine, starting("no-secret", hook("no-secret", mended)), starting("no-element", hook("no-element"))
        )
        await served(gateway, posts, "no-secret", "no-element")
        assert (await posts.post("no-secret", {"n": 1})).status == 401, "the mended one works, and asks for a signature"
        assert (await posts.post("no-element", {"n": 1})).status == 200


async def test_row_27_when_the_engine_comes_back_with_other_definitions_they_are_followed(
    engine: EngineProcess,
) -> None:
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


# ---- row 29: endless bodies ------------------------------------------------------------------------------------------


async def test_row_29_endless_bodies_are_refused_at_the_cap_and_memory_stays_flat(
    engine: EngineProcess, record_property: Any
) -> None:
    await deploy(engine, starting("endless", hook("endless")))
    heads = {
        "a length": (b"POST /inbound/endless", b"Content-Length: 10000000000\r\n", {b"413"}),
        "chunks": (b"POST /inbound/endless", b"Transfer-Encoding: chunked\r\n", {b"413"}),
        "packed": (b"POST /inbound/endless", b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", {b"415"}),
        "nobody": (b"POST /inbound/nobody", b"Transfer-Encoding: chunked\r\n", {b"404"}),
        "a preamble": (
            b"POST /inbound/endless",
            b"Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n",
            {b"413"},
        ),
    }
    async with events_at_work(engine, settings={"GATEWAY_WEBHOOK_MAXBODYSIZE": "1MB"}) as (gateway, posts):
        assert (await posts.post("endless", {"n": 1})).status == 200
        before = gateway.rss()
        for name, (line, headers, statuses) in heads.items():
            head = line + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n"
            floods = await asyncio.gather(
                *(_flood(gateway.port, head, chunked=b"chunked" in headers) for _ in range(4))
            )
            assert {answer[9:12] for answer, _ in floods} <= statuses | {b""}, name
            assert any(answer for answer, _ in floods), f"{name}: a sender that looks is told"
            assert max(seconds for _, seconds in floods) < 8, f"{name}: the connection ends soon"
        record_property("grown by", gateway.rss() - before)
        assert gateway.rss() - before < 40 << 20
        assert (await posts.post("endless", {"n": 2})).status == 200
        assert await numbers(engine, "endless") == Counter([1, 2])


async def _flood(port: int, head: bytes, *, chunked: bool) -> tuple[bytes, float]:
    """Sends 30 MB a second until the connection is closed; what was answered, and after how long it ended."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    piece = b"x" * 65536
    writer.write(head)
    answer = asyncio.create_task(reader.read())
    try:
        async with asyncio.timeout(15):
            while not answer.done():
                writer.write(b"10000\r\n" + piece + b"\r\n" if chunked else piece)
                await writer.drain()
                await asyncio.sleep(0.002)
    except ConnectionError:
        await asyncio.wait({answer}, timeout=1)
    finally:
        writer.transport.abort()
        answer.cancel()
    told = answer.result() if answer.done() and not answer.cancelled() and not answer.exception() else b""
    return told, time.monotonic() - began


# ---- row 30: slow senders --------------------------------------------------------------------------------------------


async def test_row_30_200_slow_senders_are_closed_at_the_cap_and_others_served(
    engine: EngineProcess, record_property: Any
) -> None:
    await deploy(engine, starting("slow", hook("slow")))
    body_first = b"POST /inbound/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    head_first = b"POST /inbound/slow HTTP/1.1\r\nHost: x\r\nX-A: "
    async with events_at_work(engine, settings={"GATEWAY_WEBHOOK_BODYTIMEOUT": "2s"}) as (gateway, posts):
        began = time.monotonic()
        bodies = [asyncio.create_task(_drip(gateway.port, body_first)) for _ in range(100)]
        heads = [asyncio.create_task(_drip(gateway.port, head_first)) for _ in range(100)]
        longest, sent = 0.0, 0
        while time.monotonic() - began < 4:
            asked = time.monotonic()
            assert (await posts.post("slow", {"n": sent})).status == 200
            longest, sent = max(longest, time.monotonic() - asked), sent + 1
            await asyncio.sleep(0.05)
        record_property("longest", longest)
        assert longest < 1
        assert sent > 20
        for closed in (bodies, heads):
            ended = await asyncio.wait_for(asyncio.gather(*closed), 15)
            lines = Counter(answer.partition(b"\r\n")[0] for answer, _ in ended)
            assert lines.keys() <= {b"HTTP/1.1 408 Request Timeout", b""}, "who sends on may lose the answer"
            assert lines[b"HTTP/1.1 408 Request Timeout"] > 50
            record_property("closed after", max(seconds for _, seconds in ended))
        assert max(task.result()[1] for task in bodies) < 2 + 2 + 2, "the cap, and a moment to read the answer"
        assert (await posts.post("slow", {"n": sent})).status == 200
        assert (await numbers(engine, "slow")).total() == sent + 1


async def _drip(port: int, first: bytes) -> tuple[bytes, float]:
    """Sends a byte every half second until the server has enough of it; what it answered, and after how long."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    answer = asyncio.create_task(reader.read())
    try:
        while not answer.done():
            await asyncio.wait({answer}, timeout=0.5)
            writer.write(b"a")
        return await answer, time.monotonic() - began
    except ConnectionError:
        return b"", time.monotonic() - began
    finally:
        writer.transport.abort()


# ---- row 33: any request ---------------------------------------------------------------------------------------------

CANARY = "body-canary"
REQUESTS = 800


def _hooks() -> dict[str, dict[str, str]]:
    """Webhooks of every kind: what is checked before the event, and what is made of it after."""
    signed = {
        "inbound.shouldValidateHmac": "enabled",
        "inbound.hmacSecret": "secret",
        "inbound.hmacHeader": "X-Sig",
        "inbound.hmacAlgorithm": "sha_256",
        "inbound.hmacScopes": '=["url", "body", "parameters"]',
    }
    basic = {"inbound.auth.type": "BASIC", "inbound.auth.username": "u", "inbound.auth.password": "p"}
    key = {
        "inbound.auth.type": "APIKEY",
        "inbound.auth.apiKey": "k",
        "inbound.auth.apiKeyLocator": '=split(request.headers.authorization, " ")[2]',
    }
    schema = {"inbound.bodySchema": '={"type": "object", "required": ["n"], "properties": {"n": {"type": "number"}}}'}
    challenge = {
        "inbound.verificationExpression": "=if request.body.c != null then {body: {c: request.body.c}} else null"
    }
    shaped = {
        "inbound.responseExpression": "={body: {got: request.body, at: request.params}, headers: {x: string(request.body.n)}}",
        "activationCondition": "=request.body.n > 3 or request.headers.x = null",
        "resultExpression": "={n: request.body.n + 1, all: request}",
    }
    kinds = {"signed": signed, "basic": basic, "key": key, "schema": schema, "challenge": challenge, "shaped": shaped}
    once = {"once": {"inbound.idempotencyHeader": "X-Key"}, "scheme": {"inbound.signatureScheme": "stripe"}}
    once["scheme"]["inbound.hmacSecret"] = "secret"
    return {f"any-{name}": hook(f"any-{name}", more) for name, more in (kinds | once | {"plain": {}}).items()}


async def test_row_33_no_request_brings_about_a_500_or_a_trace_and_no_body_is_logged(
    engine: EngineProcess, record_property: Any
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    record_property("seed", seed)
    print("seed", seed)
    chance = random.Random(seed)
    hooks = _hooks()
    await deploy(engine, *(starting(name, properties) for name, properties in hooks.items()))
    settings = {"GATEWAY_WEBHOOK_BODYTIMEOUT": "1s"}
    async with events_at_work(engine, settings=settings) as (gateway, posts):
        await served(gateway, posts, *hooks)
        idents = [each["executableId"] for each in (await executables(gateway)).values()]
        seen: Counter[int] = Counter()
        requests = [_request(chance, list(hooks), idents) for _ in range(REQUESTS)]
        places = asyncio.Semaphore(16)

        async def one(raw: bytes) -> None:
            async with places:
                answer = (await _exchange(gateway.port, raw)).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
            status = int(answer[9:12] or b"0")
            seen[status] += 1
            assert status < 500 or status in {501, 503, 505}, (seed, raw, answer)
            for sign in (b"Traceback", b'File "', b".py", b"aiohttp"):
                assert sign not in answer, (seed, raw, answer)

        await asyncio.gather(*map(one, requests))
        assert await gateway.status("/actuator/health/readiness") == 200
        record_property("statuses", dict(seen))
        print(seen)
        assert {200, 400, 401, 404, 405, 422} <= seen.keys(), "requests got through to every check"
        assert (await gateway.stop())[1] == 0
        output = gateway.text()
        assert CANARY not in output
        assert not re.search(r"Traceback|unhandled|an error that nobody caught", output), output[-3000:]


def _request(chance: random.Random, hooks: list[str], idents: list[str]) -> bytes:
    """A request as no client writes it, but near enough to what is expected to get far."""
    status = [
        *(
            "/inbound",
            "/inbound-instances",
            "/inbound-instances/metrics",
            "/tenants/%3Cdefault%3E/inbound",
            "/outbound",
        ),
        *(f"/inbound-instances/executables/{ident}/{what}" for ident in idents[:3] for what in ("", "health", "logs")),
        f"/inbound-instances/executables/{chance.choice(idents)}",
        *(f"/inbound-instances/executables/none/{what}" for what in ("reset", "pause", "resume", "cancel")),
        f"/tenants/t/inbound/{chance.choice(hooks)}/start/logs",
    ]
    junk = "".join(chance.choices("abc/%0?#&=<>'\"{};\\~\u00e9", k=chance.randrange(12)))
    path = chance.choice([*(f"/inbound/{name}" for name in hooks)] * 3 + status + ["/inbound/" + junk, "/" + junk])
    if chance.random() < 0.3:
        path += "?" + "&".join(f"{chance.choice(['n', 'type', 'bpmnProcessId', junk])}={junk}" for _ in range(3))
    method = chance.choice(["POST"] * 12 + ["GET", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE", "post", "X-Y"])
    body = _body(chance)
    headers = _headers(chance, len(body))
    line = f"{method} {path.replace(' ', '')} HTTP/{chance.choice(['1.1'] * 20 + ['1.0', '2.0'])}\r\n".encode()
    return line + b"".join(headers) + b"Connection: close\r\n\r\n" + body


def _body(chance: random.Random) -> bytes:
    header = chance.choice(["y", "a\\r\\nB: c", "\\u0000"])
    number = chance.choice(["1", "4", "-1", "1e400", "null", "[]", '"x"', "1.50", "99999999999999999999999"])
    return chance.choice(
        [
            *(f'{{"n": {number}, "v": "{CANARY}", "h": "{header}"}}'.encode(),) * 4,
            f'{{"c": "{CANARY}", "n": {number}}}'.encode(),
            f"n={number}&v={CANARY}&%ff=%zz".encode(),
            f'--b\r\nContent-Disposition: form-data; name="f"; filename="{CANARY}"\r\n\r\n{CANARY}\r\n--b--\r\n'.encode(),
            b"[" * chance.choice([3, 3000]),
            f'"{CANARY}'.encode() + bytes(chance.randrange(256) for _ in range(20)),
            b'{"n": "\\ud800"}',
            b"",
        ]
    )


def _headers(chance: random.Random, length: int) -> list[bytes]:
    kinds = ["application/json"] * 6 + [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
        "text/plain",
    ]
    kinds += ["text/xml; charset=utf-16", "application/json; charset=nosuch", "a" * 300, "", "multipart/form-data"]
    names = [
        *("Authorization", "X-Sig", "X-Key", "Stripe-Signature", "Cookie", "Accept", "Origin", "X", "Range")
    ] * 2 + ["Expect"]
    values = [
        *(
            "Basic dTpw",
            "Basic !",
            "Bearer k",
            "k",
            "t=1,v1=00",
            "00",
            "\u00e9",
            "\xff",
            "bytes=0-",
            "100-continue",
            "=",
        )
    ]
    headers = [b"Host: gateway\r\n", f"Content-Type: {chance.choice(kinds)}\r\n".encode()]
    headers += [
        f"{name}: {chance.choice(values)}\r\n".encode(chance.choice(["utf-8", "latin-1"]))
        for name in chance.sample(names, chance.randrange(4))
    ]
    told = chance.choice([length] * 12 + [length + 1, -1, 0])
    headers.append(f"Content-Length: {told}\r\n".encode())
    chance.shuffle(headers)
    return headers


async def _exchange(port: int, raw: bytes) -> bytes:
    """All that comes back for these bytes; nothing when the connection is closed without a word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()
