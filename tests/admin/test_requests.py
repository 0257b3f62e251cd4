import asyncio
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from aiohttp import web
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gateway.admin import (
    Health,
    Sources,
    actuator_routes,
    application,
    serve,
    status_routes,
)
from gateway.observe import Metrics
from tests.admin.models import (
    HTTP,
    Inbound,
    Registered,
    an_entry,
    configured,
    raw,
    topology,
)

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
        "/inbound",
        "/tenants/t/inbound",
        "/tenants/%3Cdefault%3E/inbound/orders/start/logs",
        "/inbound-instances",
        "/inbound-instances/",
        "/inbound-instances/metrics/",
        "/inbound-instances/executables/a1",
        "/inbound-instances/executables/a1/",
        "/inbound-instances/executables/a1/reset",
        "/inbound-instances/executables/",
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


def a_gateway() -> web.Application:
    found = Sources(
        health=Health(),
        metrics=Metrics(process=False),
        runtime_id="n",
        outbound=Registered(HTTP),
        inbound=Inbound(an_entry("a1"), an_entry("b2", type="kafka:1", state="invalid definition")),
    )
    found.health.ready = True
    found.health.set_topology(topology(True))
    return application(actuator_routes(found, configured()), status_routes(found))


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate])  # shrinking would take minutes
@given(st.lists(st.tuples(METHODS, PATHS, TAILS, HEADERS, st.binary(max_size=200)), min_size=10, max_size=10))
@pytest.mark.timeout(120)
def test_no_request_gives_a_server_error_or_a_trace(requests):
    async def run() -> list[bytes]:
        async with serve(a_gateway(), "127.0.0.1", 0) as port:
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


# ---- by a description of the interface -------------------------------------------------------------------------------


def described() -> dict[str, Any]:
    """The endpoints as OpenAPI has them: what may come in, and which statuses go out."""

    def operation(path: str, *statuses: int, query: tuple[str, ...] = (), body: bool = False) -> dict[str, Any]:
        names = re.findall(r"{(\w+)}", path)
        text = {"type": "string"}
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": text | {"minLength": 1}} for name in names
        ]
        parameters += [{"name": name, "in": "query", "schema": text} for name in query]
        given: dict[str, Any] = {
            "parameters": parameters,
            "responses": {str(status): {"description": "-"} for status in statuses},
        }
        if body:
            schema = {"type": "object", "properties": {"configuredLevel": {"enum": ["DEBUG", "nonsense", None, 5]}}}
            given["requestBody"] = {"content": {"application/json": {"schema": schema}}}
        return given

    filters = ("bpmnProcessId", "elementId", "type", "physicalTenantIds")
    one = "/inbound-instances/executables/{id}"
    reads = {
        "/outbound": ((200,), ()),
        "/outbound/{type}": ((200, 404), ()),
        "/outbound/metrics/{type}": ((200, 404), ()),
        "/inbound": ((200,), filters),
        "/tenants/{tenant}/inbound": ((200, 404), filters),
        "/tenants/{tenant}/inbound/{process}/{element}/logs": ((200, 404), ("physicalTenantIds",)),
        "/inbound-instances": ((200,), ("physicalTenantIds",)),
        "/inbound-instances/{type}": ((200, 404), ()),
        "/inbound-instances/metrics/{type}": ((200, 404), ()),
        **{f"{one}{tail}": ((200, 404), ("appendPhysicalTenantAndTenantToPath",)) for tail in ("", "/health", "/logs")},
        "/actuator/health/{part}": ((200, 404, 503), ()),
        "/actuator/metrics/{meter}": ((200, 404), ("tag",)),
        "/actuator/loggers/{logger}": ((200, 404), ()),
    }
    paths = {path: {"get": operation(path, *found, query=query)} for path, (found, query) in reads.items()}
    for command in ("reset", "pause", "resume", "cancel"):
        path = f"{one}/{command}"
        paths[path] = {"post": operation(path, 200, 404, 409)}
    loggers = "/actuator/loggers/{logger}"
    paths[loggers]["post"] = operation(loggers, 204, 400, 404, body=True)
    return {"openapi": "3.0.3", "info": {"title": "status", "version": "1"}, "paths": paths}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A gateway in a thread of its own."""
    loop, started, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[int] = []

    async def run() -> None:
        async with serve(a_gateway(), "127.0.0.1", 0) as port:
            found.append(port)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), name="server")
    thread.start()
    assert started.wait(10)
    yield f"http://127.0.0.1:{found[0]}"
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


SCHEMA = schemathesis.openapi.from_dict(described())


@SCHEMA.parametrize()
@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate])
@pytest.mark.timeout(120)
def test_each_endpoint_answers_with_what_it_is_described_to(case, address):
    reply = case.call(base_url=address)
    expected = {int(status) for status in case.operation.definition.raw["responses"]}
    assert reply.status_code in expected | {400, 404, 405}
    assert ".py" not in reply.text
