import aiohttp
import pytest
from aiohttp import web

from gateway.admin import (
    ServerLimits,
    application,
    serve,
    serve_all,
    status_routes,
)
from tests.admin.models import configured, get


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
            for name in ("health", "metrics", "connectors", "figures", "inboundConnectors", "inboundFigures"):
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


async def test_answers_to_webhooks_are_counted_by_status(sources):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["status"]))

    extra = [web.post("/inbound/{status}", answer)]
    async with (
        serve_all(configured(SERVER_PORT="0"), sources, extra, host="127.0.0.1") as (port, _),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        for status in (200, 200, 401):
            async with client.post(f"/inbound/{status}") as reply:
                assert reply.status == status
        assert (await get(client, "/inbound"))[0] == 200
        text = (await get(client, "/actuator/prometheus"))[1]
    assert 'gateway_webhook_requests_total{status="200"} 2.0' in text
    assert 'gateway_webhook_requests_total{status="401"} 1.0' in text
    assert text.count("gateway_webhook_requests_total{") == 2


async def test_the_connections_of_each_server_are_measured_while_it_runs(sources):
    two = configured(SERVER_PORT="0", MANAGEMENT_SERVER_PORT="0")
    async with (
        serve_all(two, sources, host="127.0.0.1", limits=ServerLimits(max_connections=50)) as (_, management),
        aiohttp.ClientSession(f"http://127.0.0.1:{management}") as client,
    ):
        text = (await get(client, "/actuator/prometheus"))[1]
    assert 'gateway_http_connections{server="management",state="open"} 1.0' in text
    assert 'gateway_http_connections{server="server",state="limit"} 50.0' in text
    assert 'gateway_http_refused_total{reason="slow",server="server"} 0.0' in text
    assert "gateway_http_connections{" not in sources.metrics.scrape()[0].decode()
