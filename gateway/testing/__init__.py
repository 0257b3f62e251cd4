"""For authors of connectors: run one without a network, or a whole process on the embedded engine.

    async def test_weather():
        http = FakeHttp(lambda request: {"temperature": 21})
        outcome = await run_job(weather, {"city": "Oslo"}, http=http, headers={"resultExpression": "={t: temperature}"})
        assert outcome.variables == {"t": 21}

    async def test_order(connector_engine):
        http = FakeHttp(lambda request: {"temperature": 21})
        async with connector_engine("order.bpmn", connectors=[weather], http=http) as run:
            assert await run.result("order", {"city": "Oslo"}) == {"city": "Oslo", "t": 21}

    async def test_ticker():
        async with run_inbound(ticker, {"interval": "0.01"}) as run:
            events = await run.received(2)
            assert run.health.status == "UP"

The fixture `connector_engine` comes with the distribution, as a plug-in of pytest. `gateway.testing.conformance` has the checks that
every inbound connector with a source of its own should pass. All names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.testing import conformance
    from gateway.testing.http import FakeHttp
    from gateway.testing.inbound import InboundRun, an_element, published, run_inbound
    from gateway.testing.jobs import Outcome, call, run_job
    from gateway.testing.process import EngineRun, engine

__all__ = [
    "EngineRun",
    "FakeHttp",
    "InboundRun",
    "Outcome",
    "an_element",
    "call",
    "conformance",
    "engine",
    "published",
    "run_inbound",
    "run_job",
]

_WHERE = {
    "http": {"FakeHttp"},
    "inbound": {"InboundRun", "an_element", "published", "run_inbound"},
    "jobs": {"Outcome", "call", "run_job"},
    "process": {"EngineRun", "engine"},
}


def __getattr__(name: str) -> Any:
    if name == "conformance":
        return import_module("gateway.testing.conformance")
    for module, names in _WHERE.items():
        if name in names:
            found = globals()[name] = getattr(import_module(f"gateway.testing.{module}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
