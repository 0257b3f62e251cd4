import logging

import aiohttp
import pytest

from gateway.admin import (
    actuator_routes,
    application,
    serve,
)
from tests.admin.models import configured, get


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
