import pytest

from gateway.admin import (
    Health,
)
from gateway.engine import Unavailable
from tests.admin.models import get, topology


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


def test_the_look_at_what_is_deployed_is_a_part_once_it_was_tried():
    health = Health()
    assert health.report("processDefinitionImport") is None
    health.imported(None)
    assert health.report("processDefinitionImport") == (200, {"status": "UP", "details": {"operateEnabled": True}})
    health.imported(Unavailable("away"))
    report = health.report("processDefinitionImport")
    assert report == (503, {"status": "DOWN", "details": {"operateEnabled": True, "error": "Unavailable: away"}})


def test_a_failed_look_leaves_readiness_alone():
    health = Health()
    health.ready = True
    health.imported(Unavailable("away"))
    readiness, whole = health.report("readiness"), health.report()
    assert readiness is not None
    assert whole is not None
    assert (readiness[0], whole[0]) == (200, 503)
