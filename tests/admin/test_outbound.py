import pytest

from tests.admin.models import HTTP, SLACK, get


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
