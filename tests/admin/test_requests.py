import asyncio
import re

import pytest
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
    Registered,
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
