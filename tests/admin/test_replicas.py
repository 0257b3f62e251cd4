import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.admin import (
    Activity,
    Health,
    HealthState,
    InboundEntry,
    Replicas,
    Sources,
    application,
    serve,
    status_routes,
)
from gateway.observe import Metrics
from tests.admin.models import HTTP, Inbound, Registered, an_entry, get

UP, UNKNOWN = HealthState("UP"), HealthState("UNKNOWN")
DOWN = HealthState("DOWN", None, "no broker")
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


async def to_all(name: str) -> list[str]:
    assert name == "gateway-headless"
    return list(ADDRESSES)


def a_replica(number: int, port: int, *entries: InboundEntry, **options: Any) -> Sources:
    given: dict[str, Any] = {"resolve": to_all, "timeout": 2.0, **options}
    return Sources(
        health=Health(),
        metrics=Metrics(process=False),
        runtime_id=f"node-{number}",
        outbound=Registered(HTTP),
        inbound=Inbound(*entries),
        replicas=Replicas("gateway-headless", runtime_id=f"node-{number}", port=port, **given),
    )


@asynccontextmanager
async def replicas(
    *sets: list[InboundEntry], **options: Any
) -> AsyncIterator[tuple[list[aiohttp.ClientSession], list[Sources]]]:
    """Replicas at 127.0.0.1, 127.0.0.2, ... on one port, each with its executables; a client for each."""
    async with AsyncExitStack() as stack:
        clients: list[aiohttp.ClientSession] = []
        sources: list[Sources] = []
        port = 0
        for number, (address, entries) in enumerate(zip(ADDRESSES, sets, strict=False), 1):
            if not port:
                port = await stack.enter_async_context(serve(application(), "127.0.0.9", 0))  # one that is free
            sources.append(a_replica(number, port, *entries, **options))
            await stack.enter_async_context(serve(application(status_routes(sources[-1])), address, port))
            clients.append(await stack.enter_async_context(aiohttp.ClientSession(f"http://{address}:{port}")))
        yield clients, sources


async def test_executables_are_listed_once_and_the_one_that_fares_worst_counts():
    first = [
        an_entry("a", health=UP),
        an_entry("b", health=UNKNOWN),
        an_entry("c", health=DOWN),
        an_entry("e", health=UNKNOWN),
    ]
    second = [
        an_entry("a", health=DOWN),
        an_entry("b", health=UP),
        an_entry("d", type="kafka:1"),
        an_entry("e", health=DOWN),
    ]
    async with replicas(first, second) as (clients, _):
        for client in clients:
            webhooks, kafka = (await get(client, "/inbound-instances"))[1]
            found = {each["executableId"]: each["health"]["status"] for each in webhooks["instances"]}
            assert found == {"a": "DOWN", "b": "UNKNOWN", "c": "DOWN", "e": "DOWN"}
            assert (kafka["connectorId"], [each["executableId"] for each in kafka["instances"]]) == ("kafka:1", ["d"])
            assert (await get(client, "/inbound-instances/kafka:1"))[1] == kafka
            assert (await get(client, "/inbound-instances/executables/a"))[1]["health"]["status"] == "DOWN"
            assert (await get(client, "/inbound-instances/executables/d"))[0] == 200


async def test_health_logs_and_figures_of_all_are_listed_with_who_says_so():
    def entry(text: str) -> InboundEntry:
        return an_entry("a", logs=[Activity("INFO", "Tag", 1.0, text)])

    async with replicas([entry("one")], [entry("two")], [entry("three")]) as (clients, _):
        for path in ("executables/a/health", "metrics"):
            found = (await get(clients[1], f"/inbound-instances/{path}"))[1]
            assert sorted(each["runtimeId"] for each in found) == ["node-1", "node-2", "node-3"]
            assert found[0]["runtimeId"] == "node-2"
        logs = (await get(clients[0], "/inbound-instances/executables/a/logs"))[1]
        assert [(log["runtimeId"], log["message"]) for log in logs] == [
            ("node-1", "one"),
            ("node-2", "two"),
            ("node-3", "three"),
        ]
        path = "/tenants/%3Cdefault%3E/inbound/orders/start/logs"
        assert [log["message"] for (log,) in (await get(clients[0], path))[1]] == ["one", "two", "three"]


@pytest.mark.parametrize("path", ["/outbound", f"/outbound/{HTTP.type}", f"/outbound/metrics/{HTTP.type}"])
async def test_outbound_connectors_of_all_are_listed(path):
    async with replicas([], []) as (clients, _):
        assert [each["runtimeId"] for each in (await get(clients[0], path))[1]] == ["node-1", "node-2"]


async def test_the_plain_list_is_of_one_replica():
    async with replicas([an_entry("a")], [an_entry("b")]) as (clients, _):
        assert [each["executableId"] for each in (await get(clients[0], "/inbound"))[1]] == ["a"]


async def test_a_forwarded_request_is_answered_locally():
    async with replicas([an_entry("a")], [an_entry("b")]) as (clients, _):
        headers = {"X-Camunda-Forwarded-For": "node-7"}
        (group,) = (await get(clients[1], "/inbound-instances", headers=headers))[1]
        assert [each["executableId"] for each in group["instances"]] == ["b"]
        assert (await get(clients[1], "/inbound-instances/executables/a", headers=headers))[0] == 404


async def test_a_command_is_for_all_replicas():
    async with replicas([an_entry("a")], [an_entry("a"), an_entry("b")]) as (clients, sources):
        for executable in ("a", "b"):
            async with clients[0].post(f"/inbound-instances/executables/{executable}/pause") as reply:
                assert (reply.status, (await reply.json())["state"]) == (200, "paused")
        assert [entry.state for each in sources for entry in each.inbound.entries()] == ["paused"] * 3
        async with clients[0].post("/inbound-instances/executables/none/pause") as reply:
            assert reply.status == 404


async def test_a_command_from_a_page_of_the_gateway_reaches_all():
    async with replicas([an_entry("a")], [an_entry("a")]) as (clients, sources):
        origin = str(clients[0]._base_url).rstrip("/")
        headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
        async with clients[0].post("/inbound-instances/executables/a/pause", headers=headers) as reply:
            assert reply.status == 200
        assert sources[1].inbound.entries()[0].state == "paused"


# ---- others that are no good -----------------------------------------------------------------------------------------


@asynccontextmanager
async def beside(answer: Callable[[web.Request], Any], **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """A replica with the executable `a`, and another that answers as the test says."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with serve(app, "127.0.0.2", 0) as port:
        sources = a_replica(1, port, an_entry("a"), **options)
        async with (
            serve(application(status_routes(sources)), "127.0.0.1", port),
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        ):
            yield client


def a_list(executable: str, **more: Any) -> str:
    instance = {"executableId": executable, "health": {"status": "UP"}, **more}
    return json.dumps([{"connectorId": "io.camunda:webhook:1", "instances": [instance]}])


@pytest.mark.parametrize(
    "text",
    [
        *("no json", "5", "null", "{}", "[5]", "[null]", '[{"connectorId": 1}]', "[" * 100_000),
        '[{"connectorId": "x", "instances": 5}]',
        '[{"connectorId": "x", "instances": [{"executableId": "b"}]}]',
        '[{"connectorId": "x", "instances": [{"health": {"status": "UP"}}]}]',
        '[{"connectorId": ["x"], "instances": []}]',
        '[{"connectorId": "x", "instances": [{"executableId": "b", "health": []}]}]',
        '[{"connectorId": "x", "instances": [{"executableId": {}, "health": {"status": []}}]}]',
    ],
)
async def test_an_answer_that_is_none_counts_for_nothing(text):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=text)

    async with beside(answer) as client:
        status, (group,) = await get(client, "/inbound-instances")
        assert (status, [each["executableId"] for each in group["instances"]]) == (200, ["a"])
        assert (await get(client, "/inbound-instances/executables/a"))[0] == 200
        assert (await get(client, "/inbound-instances/executables/b"))[0] == 404


@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
async def test_an_error_of_another_counts_for_nothing(status):
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/elsewhere":
            return web.Response(text=a_list("b"))
        return web.Response(text=a_list("b"), status=status, headers={"Location": "/elsewhere"})

    async with beside(answer) as client:
        (group,) = (await get(client, "/inbound-instances"))[1]
        assert [each["executableId"] for each in group["instances"]] == ["a"]


async def test_one_that_is_slow_is_not_waited_for():
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response(text=a_list("b"))

    async with beside(answer, timeout=0.3) as client:
        began = time.monotonic()
        (group,) = (await get(client, "/inbound-instances"))[1]
        assert time.monotonic() - began < 2
        assert [each["executableId"] for each in group["instances"]] == ["a"]


async def test_one_that_sends_without_end_is_left():
    seen: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        sent = 0
        with suppress(ConnectionError):
            while sent < 1000:
                await response.write(b" " * 1024**2)
                sent += 1
        seen.append(sent)
        return response

    async with beside(answer) as client:
        assert (await get(client, "/inbound-instances/executables/a"))[0] == 200
    assert seen[0] < 100


@pytest.mark.parametrize("error", [OSError("no such name"), TimeoutError()])
async def test_a_name_that_cannot_be_resolved_leaves_the_local_answer(error):
    async def resolve(name: str) -> list[str]:
        raise error

    async with replicas([an_entry("a")], resolve=resolve) as (clients, _):
        assert (await get(clients[0], "/inbound-instances/executables/a"))[0] == 200
        assert (await get(clients[0], "/inbound-instances/executables/b"))[0] == 404


async def test_a_request_is_repeated_with_its_method_query_and_headers():
    seen: list[tuple[str, str, Mapping[str, str]]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.method, request.raw_path, dict(request.headers)))
        return web.Response(text=a_list("b"))

    async with beside(answer) as client:
        path = "/inbound-instances?physicalTenantIds=default&x=%20%3Cb"
        headers = {"Authorization": "Bearer x", "Origin": "http://a", "Connection": "close", "TE": "trailers"}
        assert (await get(client, path, headers=headers))[0] == 200
    ((method, target, sent),) = seen
    assert (method, target) == ("GET", path)
    assert (sent["Authorization"], sent["X-Camunda-Forwarded-For"]) == ("Bearer x", "node-1")
    assert not {"Origin", "TE", "Connection"} & sent.keys()
    assert sent["Host"].startswith("127.0.0.2:")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("gateway-headless", "http://127.0.0.2:7"),
        ("gateway-headless:8085", "http://127.0.0.2:8085"),
        ("https://gateway-headless", "https://127.0.0.2:7"),
        ("http://gateway-headless:8085/", "http://127.0.0.2:8085"),
    ],
)
async def test_the_name_may_be_a_url(name, asked):
    found = Replicas(name, runtime_id="n", port=7, resolve=to_all)
    assert found.address("127.0.0.2") == asked
    assert found.address("fd00::1") == asked.replace("127.0.0.2", "[fd00::1]")


async def test_the_name_is_resolved_by_the_system(sources):
    alone = replace(sources, inbound=Inbound(an_entry("a")))
    async with serve(application(status_routes(alone)), "127.0.0.1", 0) as other:
        asking = replace(sources, replicas=Replicas("localhost", runtime_id="n", port=other))
        async with (
            serve(application(status_routes(asking)), "127.0.0.1", 0) as port,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        ):
            assert (await get(client, "/inbound-instances/executables/a"))[0] == 200
