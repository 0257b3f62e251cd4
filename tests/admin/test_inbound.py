import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin import Activity, HealthState, Sources
from gateway.admin.inbound import shown
from tests.admin.models import Inbound, an_element, an_entry, connected, get

BAD = HealthState("DOWN", "ConnectorException", "ConnectorException: no broker", {"topic": "t"}, 1_700_000_001.25)
LOG = Activity("ERROR", "Health", 1_700_000_001.25, "Health: DOWN", {"attempt": 2}, BAD)


@pytest.fixture
def inbound() -> Inbound:
    catch = an_element("catch", kind="intermediateCatchEvent", message_name=None, template_id=None)
    kafka = an_element("kafka", bpmn_process_id="stock", tenant_id="t2", properties={"inbound.type": "kafka:1"})
    return Inbound(
        an_entry("a1", an_element(), catch, statistics={"window_limit": 8.0}),
        an_entry("b2", an_element("other", bpmn_process_id="returns"), health=BAD, state="queued"),
        an_entry(
            *("c3", kafka),
            type="kafka:1",
            connector_name="Kafka Consumer",
            tenant_id="t2",
            physical_tenant_id="p2",
            health=BAD,
            logs=[LOG],
            state="failed to activate",
            activation_timestamp_ms=None,
        ),
    )


@pytest.fixture
def sources(sources: Sources, inbound: Inbound) -> Sources:
    return replace(sources, inbound=inbound)


# ---- one executable --------------------------------------------------------------------------------------------------


async def test_an_executable_is_shown_with_its_elements_and_data(client):
    status, body = await get(client, "/inbound-instances/executables/a1")
    properties = {"inbound.type": "io.camunda:webhook:1", "inbound.context": "orders", "resultVariable": "order"}
    assert status == 200
    assert body["elements"][0] == {
        "bpmnProcessId": "orders",
        "processName": "Orders",
        "messageName": "order",
        "version": 3,
        "processDefinitionKey": 2251799813685251,
        "elementId": "start",
        "elementName": "Order came",
        "elementType": "startEvent",
        "tenantId": "<default>",
        "physicalTenantId": "default",
        "elementTemplateDetails": {"id": "io.camunda.Webhook", "version": "12", "icon": None},
        "properties": properties,
    }
    assert [element["elementId"] for element in body["elements"]] == ["start", "catch"]
    assert {name: value for name, value in body.items() if name != "elements"} == {
        "executableId": "a1",
        "type": "io.camunda:webhook:1",
        "tenantId": "<default>",
        "data": {"inbound.context": "orders", "resultVariable": "order"},
        "health": {"status": "UP", "error": None, "details": None, "lastUpdatedAt": "2023-11-14T22:13:20.500Z"},
        "activationTimestamp": 1_700_000_000_000,
        "logs": [],
        "physicalTenantId": "default",
        "state": "activated",
        "statistics": {"window_limit": 8.0},
    }


async def test_one_that_is_down_says_why_and_what_happened(client):
    body = (await get(client, "/inbound-instances/executables/c3"))[1]
    health = {
        "status": "DOWN",
        "error": {"code": "ConnectorException", "message": "ConnectorException: no broker"},
        "details": {"topic": "t"},
        "lastUpdatedAt": "2023-11-14T22:13:21.250Z",
    }
    assert (body["health"], body["state"], body["activationTimestamp"]) == (health, "failed to activate", None)
    assert body["logs"] == [
        {
            "severity": "ERROR",
            "tag": "Health",
            "timestamp": "2023-11-14T22:13:21.250Z",
            "message": "Health: DOWN",
            "data": {"attempt": 2},
            "healthChange": health,
        }
    ]


async def test_health_and_log_can_be_read_alone(client):
    status, (health,) = await get(client, "/inbound-instances/executables/c3/health")
    assert (status, health["status"], health["runtimeId"]) == (200, "DOWN", "node-1")
    assert set(health) == {"status", "error", "details", "lastUpdatedAt", "runtimeId"}
    assert await get(client, "/inbound-instances/executables/c3/logs") == (
        200,
        [
            {
                "severity": "ERROR",
                "tag": "Health",
                "timestamp": "2023-11-14T22:13:21.250Z",
                "message": "Health: DOWN",
                "runtimeId": "node-1",
            }
        ],
    )


@pytest.mark.parametrize("tail", ["", "/health", "/logs"])
async def test_an_executable_is_found_below_its_type_only(client, tail):
    assert (await get(client, f"/inbound-instances/kafka:1/executables/c3{tail}"))[0] == 200
    assert await get(client, f"/inbound-instances/kafka:1/executables/a1{tail}") == (
        404,
        "Data of type 'ActiveInboundConnector' with id 'a1' not found",
    )


async def test_an_element_that_cannot_be_used_is_shown_without_what_is_unknown(client, inbound):
    reason = HealthState("DOWN", None, "Invalid connector definition: no message")
    unusable = an_element("bad", kind="", version=0, process_name=None)
    inbound.known["d4"] = an_entry("d4", unusable, state="invalid definition", health=reason)
    body = (await get(client, "/inbound-instances/executables/d4"))[1]
    assert (body["elements"][0]["elementType"], body["elements"][0]["version"]) == (None, None)
    assert body["health"]["error"] == {"code": None, "message": "Invalid connector definition: no message"}
    assert body["health"]["lastUpdatedAt"] is None


# ---- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/inbound", ["a1", "b2", "c3"]),
        ("/inbound?bpmnProcessId=orders", ["a1"]),
        ("/inbound?elementId=catch", ["a1"]),
        ("/inbound?bpmnProcessId=returns&elementId=catch", []),
        ("/inbound?type=kafka:1", ["c3"]),
        ("/inbound?physicalTenantIds=p2,p3", ["c3"]),
        ("/inbound?physicalTenantIds=default&physicalTenantIds=p2", ["a1", "b2", "c3"]),
        ("/inbound?physicalTenantIds=", ["a1", "b2", "c3"]),
        ("/tenants/t2/inbound", ["c3"]),
        ("/tenants/%3Cdefault%3E/inbound?bpmnProcessId=returns", ["b2"]),
        ("/tenants/t3/inbound", []),
    ],
)
async def test_executables_are_chosen_by_path_and_query(client, path, found):
    status, body = await get(client, path)
    assert (status, [entry["executableId"] for entry in body]) == (200, found)


async def test_executables_are_grouped_by_type(client):
    body = (await get(client, "/inbound-instances"))[1]
    assert [(group["connectorId"], group["connectorName"], len(group["instances"])) for group in body] == [
        ("io.camunda:webhook:1", "Webhook", 2),
        ("kafka:1", "Kafka Consumer", 1),
    ]
    assert await get(client, "/inbound-instances/kafka:1") == (200, body[1])
    assert (await get(client, "/inbound-instances?physicalTenantIds=p2"))[1] == [body[1]]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/inbound-instances/none", "Data of type 'ConnectorInstances' with id 'none' not found"),
        ("/inbound-instances/executables/none", "Data of type 'ActiveInboundConnector' with id 'none' not found"),
        ("/inbound-instances/metrics/none", "Data of type 'ConnectorInstances' with id 'none' not found"),
    ],
)
async def test_what_is_unknown_is_not_found(client, path, text):
    assert await get(client, path) == (404, text)


async def test_the_logs_of_an_element_are_a_list_for_each_executable(client):
    status, (log,) = await get(client, "/tenants/t2/inbound/stock/kafka/logs")
    assert (status, log[0]["message"], log[0]["healthChange"]["status"]) == (200, "Health: DOWN", "DOWN")
    assert (await get(client, "/tenants/t2/inbound/stock/none/logs")) == (200, [])
    assert (await get(client, "/tenants/t1/inbound/stock/kafka/logs")) == (200, [])


async def test_without_inbound_connectors_the_lists_are_empty():
    from gateway.admin import Health
    from gateway.observe import Metrics

    none = Sources(health=Health(), metrics=Metrics(process=False), runtime_id="n")
    async with connected(none) as client:
        for path in ("/inbound", "/inbound-instances"):
            assert await get(client, path) == (200, [])
        async with client.post("/inbound-instances/executables/x/reset") as reply:
            assert reply.status == 404


async def test_where_tenants_are_in_the_paths_of_webhooks_the_whole_path_is_shown(sources):
    async with connected(replace(sources, scoped_paths=True)) as client:
        whole, short = "default/<default>/orders", "orders"
        one = "/inbound-instances/executables/a1"
        assert (await get(client, "/inbound"))[1][0]["data"]["inbound.context"] == whole
        assert (await get(client, "/inbound-instances"))[1][0]["instances"][0]["data"]["inbound.context"] == whole
        assert (await get(client, one))[1]["data"]["inbound.context"] == short
        asked = await get(client, f"{one}?appendPhysicalTenantAndTenantToPath=true")
        assert asked[1]["data"]["inbound.context"] == whole
        assert asked[1]["elements"][0]["properties"]["inbound.context"] == short


async def test_many_executables_show_fewer_entries_of_each_log_and_hold_nobody_up(client, inbound):
    logs = [Activity("INFO", "Correlation", float(number), f"event {number}") for number in range(100)]
    for number in range(1000):
        inbound.known[f"x{number}"] = an_entry(f"x{number}", logs=logs)
    began = time.monotonic()
    body = (await get(client, "/inbound"))[1]
    assert time.monotonic() - began < 10
    assert len(body) == 1003
    assert [entry["message"] for entry in body[-1]["logs"]] == [f"event {n}" for n in range(96, 100)]
    assert len((await get(client, "/inbound-instances/executables/x7"))[1]["logs"]) == 100


# ---- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "inbound.hmacSecret",
        "inbound.auth.apiKey",
        "authentication.password",
        "authentication.token",
        "clientSecret",
        "secretKey",
        "slackSigningSecret",
        "api_key",
        "keystorePassphrase",
        "connectionString",
    ],
)
def test_a_secret_typed_in_clear_is_not_shown(name):
    assert shown(name, "hunter2") == "***"
    assert shown(name, '="hunter2"') == "***"
    assert shown(name, "Bearer {{secrets.X}}") == "***"
    for reference in (
        "{{secrets.HMAC}}",
        "secrets.HMAC",
        "=secrets.HMAC",
        "= {{ secrets.A }}{{secrets.B}}",
        "=a + b",
        "",
    ):
        assert shown(name, reference) == reference


@pytest.mark.parametrize("name", ["inbound.context", "oauthTokenEndpoint", "topic.topicName", "apiKeyLocator", "keys"])
def test_other_properties_are_shown_as_they_are(name):
    assert shown(name, "hunter2") == "hunter2"


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("amqp://user:hunter2@host:5672/v", "amqp://user:***@host:5672/v"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ('={"Authorization": "Bearer hunter2", b: "c"}', '={"Authorization": "***", b: "c"}'),
        ('={x-api-key: "hunter\\"2"}', '={x-api-key: "***"}'),
        ('={Authorization: "{{secrets.X}}"}', '={Authorization: "{{secrets.X}}"}'),
    ],
)
def test_secrets_within_a_value_are_not_shown(value, seen):
    assert shown("uri", value) == seen


@given(st.text(max_size=50), st.text() | st.text('secrets.{}:/@" =', max_size=200))
def test_any_property_can_be_shown_in_no_time(name, value):
    began = time.monotonic()
    assert isinstance(shown(name, value), str)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "value", ["secrets." * 5000 + "!", "{{" * 5000, "://" * 5000, '"a' * 9000 + ":", "token" * 9000]
)
def test_hostile_properties_take_no_time(value):
    began = time.monotonic()
    shown("token", value)
    shown("uri", value)
    assert time.monotonic() - began < 1


async def test_secrets_that_are_known_leave_by_no_way(sources, inbound):
    secret = "hunter2-known"
    health = HealthState("DOWN", "E", f"login {secret} failed", {"url": [secret]}, 1.0)
    log = Activity("ERROR", "Health", 1.0, secret, {"nested": {"a": secret}, "odd": ValueError(secret)}, health)
    element = an_element(properties={"inbound.type": "x", "headers": f'=["{secret}"]', "password": secret})
    inbound.known = {"s": an_entry("s", element, type="x", health=health, logs=[log], statistics={"a": float("nan")})}
    masking = replace(sources, mask=lambda text: text.replace(secret, "***"))
    async with connected(masking) as client:
        for path in (
            "/inbound",
            "/inbound-instances",
            "/inbound-instances/x",
            "/inbound-instances/executables/s",
            "/inbound-instances/executables/s/health",
            "/inbound-instances/executables/s/logs",
            "/tenants/%3Cdefault%3E/inbound/orders/start/logs",
        ):
            async with client.get(path) as reply:
                text = await reply.text()
            assert reply.status == 200
            assert "hunter2" not in text
            assert "***" in text


@pytest.mark.parametrize("value", ["\ud800", object(), b"\xff", {1: 2}, [float("inf")], 10**30])
async def test_whatever_a_connector_logs_can_be_shown(client, inbound, value):
    log = Activity("INFO", "Tag", 1.0, "\udfff", {"value": value})
    inbound.known["a1"] = an_entry("a1", logs=[log])
    status, body = await get(client, "/inbound-instances/executables/a1")
    assert (status, body["logs"][0]["message"]) == (200, "?")
    assert "value" in body["logs"][0]["data"]


# ---- figures ---------------------------------------------------------------------------------------------------------


async def test_the_figures_of_a_type_and_of_all(client, sources):
    webhooks, kafka = sources.metrics.inbound("io.camunda:webhook:1"), sources.metrics.inbound("kafka:1")
    webhooks.activated()
    webhooks.triggered()
    webhooks.triggered()
    webhooks.correlated()
    webhooks.correlation_failed()
    kafka.activation_failed()
    kafka.deactivated()
    kafka.activation_condition_failed()
    status, (all_,) = await get(client, "/inbound-instances/metrics")
    assert (status, all_["runtimeId"], all_["runtime"]) == (200, "node-1", {"uptimeSeconds": 0})
    counts = {"activated": 1, "deactivated": 1, "activationFailed": 1}
    assert {name: all_["activation"][name] for name in counts} == counts
    assert all_["activation"]["lastActivated"] == pytest.approx(time.time() * 1000, abs=5000)
    (one,) = (await get(client, "/inbound-instances/metrics/kafka:1"))[1]
    assert one["activation"] == {"activated": 0, "deactivated": 1, "activationFailed": 1}
    assert one["trigger"] == {
        "triggered": 0,
        "correlated": 0,
        "correlationFailed": 0,
        "activationConditionFailed": 1,
    }
    trigger = (await get(client, "/inbound-instances/metrics/io.camunda:webhook:1"))[1][0]["trigger"]
    assert (trigger["triggered"], trigger["correlated"], trigger["correlationFailed"]) == (2, 1, 1)
    assert trigger["lastTriggered"] == pytest.approx(time.time() * 1000, abs=5000)


# ---- commands --------------------------------------------------------------------------------------------------------


async def post(client: Any, path: str, **headers: str) -> tuple[int, Any]:
    async with client.post(path, headers=headers) as reply:
        text = await reply.text()
        return reply.status, json.loads(text) if "json" in reply.content_type else text


async def test_a_command_answers_with_the_executable_afterwards(client):
    one = "/inbound-instances/executables/b2"
    assert (await post(client, f"{one}/reset"))[1]["state"] == "activated"
    assert (await post(client, f"{one}/pause"))[1]["state"] == "paused"
    assert (await get(client, one))[1]["state"] == "paused"
    assert (await post(client, f"{one}/resume"))[1]["state"] == "activated"
    status, body = await post(client, f"{one}/cancel")
    assert (status, body["state"], body["executableId"]) == (200, "cancelled", "b2")


async def test_a_state_that_allows_no_command_is_a_conflict_that_says_so(client, inbound):
    inbound.known["a1"] = an_entry("a1", state="invalid definition")
    status, body = await post(client, "/inbound-instances/executables/a1/reset")
    assert (status, body["title"]) == (409, "Conflict")
    assert body["detail"] == "an executable that is 'invalid definition' cannot become 'activated'"


async def test_a_command_for_what_is_not_there_is_not_found(client):
    assert await post(client, "/inbound-instances/executables/none/pause") == (
        404,
        "Data of type 'ActiveInboundConnector' with id 'none' not found",
    )
    assert (await post(client, "/inbound-instances/executables/a1/explode"))[0] == 404
    async with client.get("/inbound-instances/executables/a1/reset") as reply:
        assert (reply.status, reply.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://console.example"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
)
async def test_pages_of_other_sites_command_nothing(client, inbound, headers, status):
    assert (await post(client, "/inbound-instances/executables/a1/pause", **headers))[0] == status
    assert inbound.known["a1"].state == ("paused" if status == 200 else "activated")


async def test_a_page_of_the_gateway_itself_may_command(client):
    origin = str(client._base_url).rstrip("/")
    assert (await post(client, "/inbound-instances/executables/a1/pause", Origin=origin))[0] == 200
