import asyncio
import json
import logging

import aiohttp
import pytest
from aiohttp import web

from gateway.admin import (
    Health,
    ServerLimits,
    Sources,
    actuator_routes,
    application,
    problem,
    serve,
    status_routes,
)
from gateway.observe import Metrics
from tests.admin.models import (
    Broken,
    configured,
    get,
    raw,
)


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


def test_a_problem_has_no_detail_where_there_is_none():
    response = problem(418, "Teapot", headers={"X": "y"})
    assert (response.status, response.headers["X"]) == (418, "y")
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == {"type": "about:blank", "title": "Teapot", "status": 418}


async def _here(request: web.Request) -> web.Response:
    return web.Response(text="here")


async def test_a_sender_that_leaves_in_the_middle_of_a_body_is_no_error_of_ours(sources, caplog):
    app = application(actuator_routes(sources, configured()))
    async with serve(app, "127.0.0.1", 0) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /actuator/loggers/x HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await asyncio.sleep(0.05)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_log_levels_are_not_changed_by_pages_of_other_sites(client):
    path, headers = "/actuator/loggers/gateway.tests.admin", {"Origin": "http://evil.example"}
    async with client.post(path, json={"configuredLevel": "TRACE"}, headers=headers) as reply:
        assert (reply.status, reply.content_type) == (403, "application/problem+json")
    assert logging.getLogger("gateway.tests.admin").level != 5
