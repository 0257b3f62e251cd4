import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.admin import (
    BrokerStreams,
    Sources,
    application,
    serve,
    status_routes,
)
from gateway.engine import Topology, Unavailable
from tests.admin.models import (
    HTTP,
    SLACK,
    Registered,
    get,
    topology,
)


@asynccontextmanager
async def broker(body: Any, status: int = 200, delay: float = 0.0) -> AsyncIterator[tuple[str, list[str]]]:
    """A broker's management port: its address, and the paths that were asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        await asyncio.sleep(delay)
        return web.Response(text=body if isinstance(body, str) else json.dumps(body), status=status)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with serve(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}", asked


def streams(*ids: str, job_type: str = HTTP.type, worker: str = HTTP.name) -> dict[str, Any]:
    consumers = [{"id": stream, "receiver": "gateway-0"} for stream in ids]
    return {"remote": [{"jobType": job_type, "metadata": {"worker": worker}, "consumers": consumers}], "client": []}


async def no_topology() -> Topology:
    raise Unavailable("away")


async def asked(*addresses: str, timeout: float = 2.0) -> tuple[str, list[str]]:
    brokers = BrokerStreams(topology=no_topology, addresses=addresses, timeout=timeout)
    (found,) = await brokers.connectivity([HTTP])
    return found


async def test_connected_to_all_brokers():
    async with broker(streams("a", "b")) as (one, _), broker(streams("c")) as (two, _):
        assert await asked(one, f"{two}/") == ("ALL_CONNECTED", ["a", "b", "c"])


async def test_connected_to_some_brokers():
    async with broker(streams("a")) as (one, _), broker(streams()) as (two, _):
        assert await asked(one, two) == ("PARTIALLY_CONNECTED", ["a"])


@pytest.mark.parametrize(
    "body", [{"remote": []}, streams("x", job_type="other:1"), streams("x", worker="another worker")]
)
async def test_connected_to_no_broker(body):
    async with broker(body) as (one, _):
        assert await asked(one) == ("NONE", [])


@pytest.mark.parametrize(
    "body", ["no json", "[]", '{"remote": 5}', '{"remote": [{}]}', '{"other": []}', "x" * 5_000_000]
)
async def test_an_answer_that_makes_no_sense_says_nothing(body):
    async with broker(body) as (one, _):
        assert await asked(one) == ("UNKNOWN", [])


async def test_a_broker_that_is_slow_or_away_says_nothing():
    async with broker(streams("a"), delay=0.6) as (slow, _), broker(streams("a"), 500) as (broken, _):
        assert await asked(slow, broken, "http://127.0.0.1:1", timeout=0.2) == ("UNKNOWN", [])


async def test_a_broker_without_answer_beside_one_without_streams_is_unknown_but_one_with_streams_counts():
    async with broker(streams("a")) as (one, _), broker({"remote": []}) as (two, _), broker("", 500) as (three, _):
        assert await asked(one, three) == ("PARTIALLY_CONNECTED", ["a"])
        assert await asked(two, three) == ("UNKNOWN", [])


async def test_brokers_are_found_by_the_topology_and_not_asked_twice_within_seconds():
    async with broker(streams("a")) as (address, paths):
        port = int(address.rsplit(":", 1)[1])

        async def one_broker() -> Topology:
            return topology(True)

        brokers = BrokerStreams(topology=one_broker, port=port)
        found = await asyncio.gather(*(brokers.connectivity([HTTP, SLACK]) for _ in range(20)))
        assert found[0] == [("ALL_CONNECTED", ["a"]), ("NONE", [])]
        assert paths == ["/actuator/jobstreams"]


async def test_without_topology_nothing_is_known():
    assert await BrokerStreams(topology=no_topology).connectivity([HTTP]) == [("UNKNOWN", [])]


async def test_stream_ids_are_part_of_the_list(sources):
    async with broker(streams("a")) as (address, _):
        asking = Sources(
            health=sources.health,
            metrics=sources.metrics,
            runtime_id="n",
            outbound=Registered(HTTP),
            brokers=BrokerStreams(topology=no_topology, addresses=[address]),
        )
        async with (
            serve(application(status_routes(asking)), "127.0.0.1", 0) as port,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        ):
            (entry,) = (await get(client, "/outbound"))[1]
            assert (entry["brokerConnectivityState"], entry["streamIds"]) == ("ALL_CONNECTED", ["a"])
