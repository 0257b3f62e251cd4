import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gateway.admin import (
    BrokerStreams,
    Health,
    OutboundEntry,
    ServerLimits,
    Sources,
    actuator_routes,
    application,
    problem,
    serve,
    serve_all,
    status_routes,
)
from gateway.config import Settings, load
from gateway.engine import Broker, Partition, Topology, Unavailable
from gateway.observe import Metrics

HTTP = OutboundEntry("HTTP REST", "io.camunda:http-json:1", ("url", "method"), 60000, True, {"permits_in_use": 2.0})
SLACK = OutboundEntry("Slack Outbound", "io.camunda:slack:1", (), None, False)


class Registered:
    def __init__(self, *entries: OutboundEntry) -> None:
        self._entries = entries

    def entries(self) -> tuple[OutboundEntry, ...]:
        return self._entries


class Broken:
    def entries(self) -> tuple[OutboundEntry, ...]:
        raise RuntimeError("the inside of the gateway")


def topology(*healthy: bool) -> Topology:
    brokers = tuple(
        Broker(node, "127.0.0.1", 26501, "8.8.9", (Partition(1, ok, True),)) for node, ok in enumerate(healthy)
    )
    return Topology(len(healthy), 1, 1, "8.8.9", brokers)


@pytest.fixture
def sources() -> Sources:
    return Sources(
        health=Health(),
        metrics=Metrics(process=False),
        runtime_id="node-1",
        outbound=Registered(HTTP, SLACK),
        brokers=None,
    )


def configured(**environ: str) -> Settings:
    from pathlib import Path

    return load(environ, (), Path("/nonexistent"))


Get = Callable[..., Any]


@pytest.fixture
async def client(sources: Sources) -> AsyncIterator[aiohttp.ClientSession]:
    app = application(actuator_routes(sources, configured()), status_routes(sources))
    async with serve(app, "127.0.0.1", 0) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session


async def get(client: aiohttp.ClientSession, path: str, **options: Any) -> tuple[int, Any]:
    async with client.get(path, **options) as reply:
        text = await reply.text()
        return reply.status, json.loads(text) if "json" in reply.content_type else text


# ---- health ----------------------------------------------------------------------------------------------------------------


async def test_before_the_engine_was_reached_it_lives_but_is_not_ready(client):
    assert await get(client, "/actuator/health/liveness") == (
        200,
        {"status": "UP", "components": {"livenessState": {"status": "UP"}}},
    )
    assert await get(client, "/actuator/health/readiness") == (
        503,
        {"status": "DOWN", "components": {"readinessState": {"status": "DOWN"}}},
    )
    assert (await get(client, "/actuator/health/startup"))[0] == 503
    assert (await get(client, "/actuator/health"))[0] == 503


async def test_once_ready_it_stays_ready_when_the_engine_goes_away(client, sources):
    sources.health.set_topology(topology(True))
    sources.health.ready = True
    for group in ("", "/readiness", "/liveness", "/startup", "/zeebeClient"):
        assert (await get(client, f"/actuator/health{group}"))[0] == 200
    sources.health.set_topology(None)
    assert (await get(client, "/actuator/health/readiness"))[0] == 200
    assert (await get(client, "/actuator/health/liveness"))[0] == 200
    status, body = await get(client, "/actuator/health")
    assert (status, body["status"], body["components"]["zeebeClient"]) == (503, "DOWN", {"status": "DOWN"})


async def test_from_sigterm_on_it_is_not_ready_but_lives(client, sources):
    sources.health.ready = True
    sources.health.stopping = True
    status, body = await get(client, "/actuator/health/readiness")
    assert (status, body["status"]) == (503, "OUT_OF_SERVICE")
    assert (await get(client, "/actuator/health/liveness"))[0] == 200


async def test_all_parts_are_shown_with_details(client, sources):
    sources.health.ready = True
    sources.health.set_topology(topology(True, False))
    sources.health.set("processDefinitionImport", True, {"operateEnabled": False})
    status, body = await get(client, "/actuator/health")
    assert status == 200
    assert body["components"]["zeebeClient"] == {
        "status": "UP",
        "details": {"numBrokers": 2, "anyPartitionHealthy": True},
    }
    assert body["components"]["processDefinitionImport"]["details"] == {"operateEnabled": False}
    assert {"ping", "diskSpace", "startupCheck"} <= set(body["components"])
    assert body["groups"] == ["liveness", "readiness", "startup"]


@pytest.mark.parametrize(("healthy", "up"), [((True,), True), ((True, False), True), ((False,), False), ((), False)])
def test_the_engine_is_up_with_a_broker_and_a_healthy_partition(healthy, up):
    health = Health()
    health.set_topology(topology(*healthy))
    found = health.report("zeebeClient")
    assert found is not None
    assert found[0] == (200 if up else 503)
    assert found[1]["details"] == {"numBrokers": len(healthy), "anyPartitionHealthy": any(healthy)}


def test_one_part_that_is_down_takes_the_whole_down():
    health = Health()
    health.ready = True
    health.set_topology(topology(True))
    health.set("processDefinitionImport", False)
    report = health.report()
    assert report is not None
    assert (report[0], report[1]["status"]) == (503, "DOWN")
    assert health.report("nothing") is None


async def test_a_part_that_is_unknown_is_not_found(client):
    assert (await get(client, "/actuator/health/none"))[0] == 404


# ---- actuator --------------------------------------------------------------------------------------------------------------


async def test_the_index_links_what_is_exposed(client):
    status, body = await get(client, "/actuator")
    assert status == 200
    assert set(body["_links"]) == {"self", "health", "metrics", "prometheus", "loggers"}
    assert body["_links"]["health"]["href"].endswith("/actuator/health")


async def test_only_what_is_exposed_is_there(sources):
    exposed = configured(MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE="health", MANAGEMENT_SERVER_BASEPATH="/manage/")
    async with (
        serve(application(actuator_routes(sources, exposed)), "127.0.0.1", 0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        assert (await get(client, "/manage/health/liveness"))[0] == 200
        assert set((await get(client, "/manage"))[1]["_links"]) == {"self", "health"}
        for path in ("/manage/prometheus", "/manage/loggers", "/actuator/health"):
            assert (await get(client, path))[0] == 404


async def test_a_star_exposes_everything_and_the_base_may_be_the_root(sources):
    exposed = configured(MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE="*", MANAGEMENT_SERVER_BASEPATH="/")
    async with (
        serve(application(actuator_routes(sources, exposed)), "127.0.0.1", 0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        assert (await get(client, "/prometheus"))[0] == 200
        assert len((await get(client, "/"))[1]["_links"]) == 5


async def test_metrics_are_scraped_as_text_or_openmetrics(client, sources):
    sources.metrics.outbound("t", "e", "1").activated()
    async with client.get("/actuator/prometheus") as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=")
        assert "camunda_connector_outbound_invocations_total{" in await reply.text()
    async with client.get("/actuator/prometheus", headers={"Accept": "application/openmetrics-text"}) as reply:
        assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
        assert (await reply.text()).endswith("# EOF\n")


async def test_meters_can_be_read_one_by_one(client, sources):
    sources.metrics.outbound("t", "e", "1").activated()
    sources.metrics.outbound("u", "e", "1").activated()
    names = (await get(client, "/actuator/metrics"))[1]["names"]
    assert "camunda.connector.outbound.invocations" in names
    status, body = await get(client, "/actuator/metrics/camunda.connector.outbound.invocations?tag=action:activated")
    assert (status, body["measurements"]) == (200, [{"statistic": "TOTAL", "value": 2.0}])
    assert {"tag": "type", "values": ["t", "u"]} in body["availableTags"]
    path = "/actuator/metrics/camunda.connector.outbound.max-execution-time?tag=type:t"
    assert (await get(client, path))[1]["measurements"] == [{"statistic": "VALUE", "value": 0.0}]
    assert (await get(client, "/actuator/metrics/none"))[0] == 404


@pytest.fixture
def _levels():
    loggers = [logging.getLogger(name) for name in ("gateway.tests.admin", "gateway", "connectors")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.mark.usefixtures("_levels")
async def test_log_levels_are_read_and_changed(client):
    path = "/actuator/loggers/gateway.tests.admin"
    async with client.post(path, json={"configuredLevel": "DEBUG"}) as reply:
        assert (reply.status, await reply.read()) == (204, b"")
    assert logging.getLogger("gateway.tests.admin").level == logging.DEBUG
    assert await get(client, path) == (200, {"configuredLevel": "DEBUG", "effectiveLevel": "DEBUG"})
    async with client.post(path, json={"configuredLevel": None}) as reply:
        assert reply.status == 204
    assert "configuredLevel" not in (await get(client, path))[1]
    body = (await get(client, "/actuator/loggers"))[1]
    assert body["levels"] == ["OFF", "FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"]
    assert "effectiveLevel" in body["loggers"]["ROOT"]


@pytest.mark.usefixtures("_levels")
async def test_a_logger_of_the_java_runtime_means_ours(client):
    async with client.post("/actuator/loggers/io.camunda.connector", json={"configuredLevel": "trace"}) as reply:
        assert reply.status == 204
    assert logging.getLogger("gateway").level == 5
    assert (await get(client, "/actuator/loggers/io.camunda.connector"))[1]["configuredLevel"] == "TRACE"


async def test_a_logger_that_is_unknown_is_not_found(client):
    assert (await get(client, "/actuator/loggers/no.such.logger"))[0] == 404


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "expected a JSON object"),
        (b"[]", "configuredLevel: expected the name of a level"),
        (b'{"configuredLevel": 5}', "configuredLevel: expected the name of a level"),
        (b'{"configuredLevel": "LOUD"}', "level: expected one of off, fatal"),
        (b"\xff\xfe", "expected a JSON object"),
        (b"[" * 60000, "expected a JSON object"),
    ],
)
async def test_a_level_that_is_none_is_a_bad_request(client, body, detail):
    async with client.post("/actuator/loggers/gateway.tests.admin", data=body) as reply:
        problem = await reply.json(content_type="application/problem+json")
        assert (reply.status, problem["status"], problem["title"]) == (400, 400, "Bad Request")
        assert detail in problem["detail"]


async def test_a_body_that_is_too_large_is_refused(client):
    async with client.post("/actuator/loggers/x", data=b"x" * 100_000) as reply:
        assert reply.status == 413
        assert reply.content_type == "application/problem+json"


# ---- outbound connectors ---------------------------------------------------------------------------------------------------


async def test_outbound_connectors_are_listed(client):
    status, body = await get(client, "/outbound")
    assert status == 200
    assert body == [
        {
            "name": "HTTP REST",
            "type": "io.camunda:http-json:1",
            "inputVariables": ["url", "method"],
            "timeout": 60000,
            "enabled": True,
            "runtimeId": "node-1",
            "brokerConnectivityState": "UNKNOWN",
            "statistics": {"permits_in_use": 2.0},
        },
        {
            "name": "Slack Outbound",
            "type": "io.camunda:slack:1",
            "inputVariables": [],
            "enabled": False,
            "runtimeId": "node-1",
            "brokerConnectivityState": "UNKNOWN",
            "statistics": {},
        },
    ]


@pytest.mark.parametrize("path", ["/outbound/io.camunda:slack:1", "/outbound/io.camunda%3Aslack%3A1"])
async def test_one_type_is_listed_alone(client, path):
    status, body = await get(client, path)
    assert (status, [entry["type"] for entry in body]) == (200, ["io.camunda:slack:1"])


@pytest.mark.parametrize("path", ["/outbound/no:1", "/outbound/metrics/no:1"])
async def test_an_unknown_type_is_not_found(client, path):
    assert await get(client, path) == (404, "Data of type 'OutboundConnectorResponse' with id 'no:1' not found")


async def test_the_figures_of_a_type_and_of_all(client, sources):
    meters = sources.metrics.outbound(HTTP.type, "e", "1")
    meters.completed(0.25, 1_700_000_000_000)
    meters.bpmn_error(0.75, 1_700_000_000_001)
    sources.metrics.outbound(SLACK.type, "e", "1").failed(0.5, 1_700_000_000_002)
    sources.metrics.worker(HTTP.type).activated(3)
    status, body = await get(client, f"/outbound/metrics/{HTTP.type}")
    assert status == 200
    assert body == [
        {
            "runtimeId": "node-1",
            "runtime": {"uptimeSeconds": 0},
            "job": {
                "completed": 1,
                "failed": 0,
                "bpmnError": 1,
                "executionTime": {"meanMs": 500.0, "maxMs": 750.0},
                "lastCompleted": 1_700_000_000_000,
            },
            "worker": {"jobsActivated": 3, "jobsHandled": 0, "streamRecreations": 0},
        }
    ]
    job = (await get(client, "/outbound/metrics"))[1][0]["job"]
    assert (job["completed"], job["failed"], job["lastFailed"]) == (1, 1, 1_700_000_000_002)


async def test_a_type_without_jobs_has_no_times(client):
    (body,) = (await get(client, f"/outbound/metrics/{SLACK.type}"))[1]
    assert body["job"] == {"completed": 0, "failed": 0, "bpmnError": 0}


# ---- brokers ---------------------------------------------------------------------------------------------------------------


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


# ---- errors ----------------------------------------------------------------------------------------------------------------


async def test_an_unknown_path_is_a_problem(client):
    async with client.get("/nothing/here") as reply:
        assert (reply.status, reply.content_type) == (404, "application/problem+json")
        assert await reply.json(content_type=None) == {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "GET /nothing/here",
        }


@pytest.mark.parametrize("path", ["/outbound", "/actuator/health", "/actuator/prometheus"])
async def test_a_wrong_method_is_refused_with_the_right_ones(client, path):
    async with client.delete(path) as reply:
        assert (reply.status, reply.headers["Allow"]) == (405, "GET,HEAD")


async def test_head_is_answered_as_get_without_a_body(client):
    async with client.head("/actuator/health/liveness") as reply:
        assert (reply.status, await reply.read()) == (200, b"")


async def test_what_breaks_inside_does_not_show_outside():
    broken = Sources(health=Health(), metrics=Metrics(process=False), runtime_id="n", outbound=Broken())
    async with (
        serve(application(status_routes(broken)), "127.0.0.1", 0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        status, body = await get(client, "/outbound")
        assert (status, body["detail"]) == (500, "An unexpected error occurred")
        assert "inside" not in json.dumps(body)


async def raw(port: int, text: bytes) -> bytes:
    """Sends bytes as they are; the beginning of what comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(text)
        await writer.drain()
        return await asyncio.wait_for(reader.read(65536), 5)
    finally:
        writer.close()


async def test_headers_beyond_the_limit_are_refused_and_not_logged(sources, caplog):
    app = application(actuator_routes(sources, configured()))
    async with serve(app, "127.0.0.1", 0, limits=ServerLimits(max_head_bytes=4096)) as port:
        fine = await raw(
            port, b"GET /actuator HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: " + b"x" * 3000 + b"\r\n\r\n"
        )
        bad = await raw(
            port, b"GET /actuator HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: " + b"x" * 9000 + b"\r\n\r\n"
        )
    assert fine.startswith(b"HTTP/1.1 200")
    assert bad.startswith(b"HTTP/1.1 431")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("path", "expect", "status"),
    [
        ("/actuator", b"100-continue", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("/actuator", b"\xe9", b"HTTP/1.1 417"),
        ("/nothing", b"\xe9", b"HTTP/1.1 417"),
        ("/outbound/metrics", b"lunch", b"HTTP/1.1 417"),
    ],
)
async def test_what_a_request_expects_is_given_or_refused(sources, path, expect, status):
    app = application(actuator_routes(sources, configured()), status_routes(sources))
    async with serve(app, "127.0.0.1", 0) as port:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: ".encode()
        assert (await raw(port, head + expect + b"\r\n\r\n{}")).startswith(status)


async def test_a_catch_all_of_the_caller_is_left_alone():
    app = application([web.route("*", "/{rest:.*}", _here)])
    async with serve(app, "127.0.0.1", 0) as port, aiohttp.request("PUT", f"http://127.0.0.1:{port}/any") as reply:
        assert (reply.status, reply.headers["Server"]) == (200, "gateway")


PATHS = st.sampled_from(
    [
        "/",
        "/actuator",
        "/actuator/health",
        "/actuator/health/",
        "/actuator/loggers/",
        "/actuator/loggers/gateway.tests.admin",
        "/actuator/metrics/",
        "/actuator/prometheus",
        "/outbound",
        "/outbound/",
        "/outbound/metrics/",
        "/..",
        "//",
    ]
)
TAILS = st.text(min_size=0, max_size=20) | st.sampled_from(["%00", "%ff", "%", "..%2f", "?tag=", "?tag=a:b", "#", ";x"])
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "get", "X"])
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "Accept",
            "Content-Type",
            "Host",
            "X-Camunda-Forwarded-For",
            "Expect",
            "Upgrade",
            "Range",
            "If-None-Match",
            "Cookie",
        ]
    ),
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=20),
    max_size=3,
)


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate])  # shrinking would take minutes
@given(st.lists(st.tuples(METHODS, PATHS, TAILS, HEADERS, st.binary(max_size=200)), min_size=10, max_size=10))
@pytest.mark.timeout(120)
def test_no_request_gives_a_server_error_or_a_trace(requests):
    async def run() -> list[bytes]:
        found = Sources(health=Health(), metrics=Metrics(process=False), runtime_id="n", outbound=Registered(HTTP))
        found.health.ready = True
        found.health.set_topology(topology(True))
        app = application(actuator_routes(found, configured()), status_routes(found))
        async with serve(app, "127.0.0.1", 0) as port:
            return [await raw(port, wire(*request)) for request in requests]

    for answer in asyncio.run(run()):
        assert answer.startswith(b"HTTP/1.")
        assert not re.match(rb"HTTP/1\.[01] 5", answer), answer
        assert b"Traceback" not in answer
        assert b".py" not in answer


def wire(method: str, path: str, tail: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = {"Host": "x", "Content-Length": str(len(body)), **headers, "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    target = re.sub(r"[\s\x00-\x1f]", "", path + tail) or "/"
    return f"{method} {target} HTTP/1.1\r\n".encode() + head.encode("latin-1") + b"\r\n" + body


# ---- servers ---------------------------------------------------------------------------------------------------------------


async def test_one_port_serves_everything(sources):
    one = configured(SERVER_PORT="0")
    extra = [web.get("/extra", _here)]
    async with serve_all(one, sources, extra, host="127.0.0.1") as (port, management):
        assert port == management
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            for path in ("/outbound", "/actuator/health/liveness", "/extra"):
                assert (await get(client, path))[0] == 200
            status, home = await get(client, "/")
            assert status == 200
            for name in ("health", "metrics", "connectors", "figures"):
                assert (await get(client, home[name]))[0] in {200, 503}


async def _here(request: web.Request) -> web.Response:
    return web.Response(text="here")


async def test_the_actuator_may_have_a_port_of_its_own(sources):
    two = configured(SERVER_PORT="0", MANAGEMENT_SERVER_PORT="0")
    async with (
        serve_all(two, sources, host="127.0.0.1") as (port, management),
        aiohttp.ClientSession() as client,
    ):
        assert port != management
        assert (await get(client, f"http://127.0.0.1:{port}/outbound"))[0] == 200
        assert (await get(client, f"http://127.0.0.1:{port}/actuator/health"))[0] == 404
        assert (await get(client, f"http://127.0.0.1:{management}/actuator/health/liveness"))[0] == 200
        assert (await get(client, f"http://127.0.0.1:{management}/outbound"))[0] == 404


async def test_a_port_in_use_is_an_error_and_leaves_nothing_open(sources):
    app = application(status_routes(sources))
    async with serve(app, "127.0.0.1", 0) as port:
        with pytest.raises(OSError, match="address already in use"):
            async with serve(application(), "127.0.0.1", port):
                pass
    async with serve(application(status_routes(sources)), "127.0.0.1", port) as again:
        assert again == port


def test_a_problem_has_no_detail_where_there_is_none():
    response = problem(418, "Teapot", headers={"X": "y"})
    assert (response.status, response.headers["X"]) == (418, "y")
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == {"type": "about:blank", "title": "Teapot", "status": 418}
