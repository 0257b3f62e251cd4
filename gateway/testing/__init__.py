"""For authors of connectors: run one without a network, or a whole process on the embedded engine.

    async def test_weather():
        http = FakeHttp(lambda request: {"temperature": 21})
        outcome = await run_job(weather, {"city": "Oslo"}, http=http, headers={"resultExpression": "={t: temperature}"})
        assert outcome.variables == {"t": 21}

    async def test_order(connector_engine):
        http = FakeHttp(lambda request: {"temperature": 21})
        async with connector_engine("order.bpmn", connectors=[weather], http=http) as run:
            assert await run.result("order", {"city": "Oslo"}) == {"city": "Oslo", "t": 21}

The fixture `connector_engine` comes with the distribution, as a plug-in of pytest.
"""

from gateway.testing.engine import EngineRun, engine
from gateway.testing.http import FakeHttp
from gateway.testing.jobs import Outcome, call, run_job

__all__ = ["EngineRun", "FakeHttp", "Outcome", "call", "engine", "run_job"]
