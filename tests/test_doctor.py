import asyncio
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from gateway.admin import OutboundEntry
from gateway.config import Settings, load
from gateway.doctor import Report, examine, show
from gateway.engine import (
    Broker,
    Engine,
    EngineFailure,
    InvalidArgument,
    NotFound,
    Partition,
    SearchPage,
    Topology,
    Unavailable,
)
from gateway.secrets import MapSecrets, SecretContext, Secrets

HTTP = OutboundEntry("HTTP REST", "io.camunda:http-json:1", ("url",), None, True)
SLACK = OutboundEntry("Slack Outbound", "io.camunda:slack:1", ("token",), None, False)


def task(element: str, job_type: str, *, inputs: Mapping[str, str] | None = None, template: str | None = "t") -> str:
    mappings = "".join(f'<zeebe:input source="{source}" target="{name}"/>' for name, source in (inputs or {}).items())
    mark = f' zeebe:modelerTemplate="{template}"' if template else ""
    return (
        f'<bpmn:serviceTask id="{element}"{mark}><bpmn:extensionElements><zeebe:taskDefinition type="{job_type}"/>'
        f"<zeebe:ioMapping>{mappings}</zeebe:ioMapping></bpmn:extensionElements></bpmn:serviceTask>"
    )


def process(process_id: str, *tasks: str, other: str = "") -> str:
    return (
        '<bpmn:definitions xmlns:bpmn="http://www.omg.org/spec/BPMN/20100524/MODEL" '
        'xmlns:zeebe="http://camunda.org/schema/zeebe/1.0" id="d" targetNamespace="x">'
        f'<bpmn:process id="{process_id}" isExecutable="true">{"".join(tasks)}</bpmn:process>{other}</bpmn:definitions>'
    )


class Cluster:
    """An engine with some deployed processes: rows of the search, and their XML by key."""

    def __init__(self, *definitions: tuple[str, int, str], healthy: bool = True, selects_latest: bool = True) -> None:
        self.rows = [
            {"processDefinitionKey": str(key), "processDefinitionId": name, "version": version, "tenantId": "<default>"}
            for key, (name, version, _) in enumerate(definitions)
        ]
        self.xml = {key: xml for key, (_, _, xml) in enumerate(definitions)}
        self.healthy = healthy
        self.selects_latest = selects_latest
        self.topology_error: Exception | None = None
        self.search_error: Exception | None = None
        self.searches: list[dict[str, Any]] = []
        self.read: list[int] = []
        self.reading = 0
        self.most_reading = 0

    async def topology(self, *, timeout: float | None = None) -> Topology:
        if self.topology_error:
            raise self.topology_error
        broker = Broker(0, "zeebe-0", 26501, "8.8.9", (Partition(1, self.healthy, True),))
        return Topology(1, 1, 1, "8.8.9", (broker,))

    async def search(
        self,
        resource: str,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        sort: Sequence[tuple[str, str]] = (),
        limit: int = 100,
        after: str | None = None,
        timeout: float | None = None,
    ) -> SearchPage:
        self.searches.append({"resource": resource, "filter": dict(filter or {}), "after": after})
        if self.search_error:
            raise self.search_error
        if filter and not self.selects_latest:
            raise InvalidArgument("unknown field isLatestVersion")
        rows = sorted(self.rows, key=lambda row: (row["processDefinitionId"], -int(cast("int", row["version"]))))
        start = int(after or 0)
        page = rows[start : start + limit]
        return SearchPage(cast("list[dict[str, Any]]", page), len(rows), str(start + limit))

    async def process_definition_xml(self, process_definition_key: int, *, timeout: float | None = None) -> str:
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        await asyncio.sleep(0)
        self.reading -= 1
        self.read.append(process_definition_key)
        return self.xml[process_definition_key]


def settings_of(**environ: str) -> Settings:
    return load(environ, (), Path("/nonexistent"))


async def look(
    cluster: Cluster,
    *connectors: OutboundEntry,
    settings: Settings | None = None,
    secrets: Mapping[str, str] | Secrets | None = None,
) -> Report:
    found = secrets if isinstance(secrets, Secrets) else Secrets([MapSecrets(secrets or {})])
    return await examine(settings or settings_of(), cast("Engine", cluster), connectors, found, timeout=1)


# ---- the engine ------------------------------------------------------------------------------------------------------------


async def test_a_cluster_with_all_it_needs_is_healthy():
    report = await look(Cluster(("p", 1, process("p", task("call", HTTP.type)))), HTTP)
    assert report.healthy
    assert report.problems == []
    assert report.definitions == 1
    assert report.cluster == {
        "version": "8.8.9",
        "size": 1,
        "partitions": 1,
        "replication": 1,
        "brokers": [{"node": 0, "address": "zeebe-0:26501", "version": "8.8.9", "partitions": 1, "unhealthy": []}],
    }


async def test_an_engine_that_is_away_is_told_with_its_address():
    cluster = Cluster()
    cluster.topology_error = Unavailable("connection refused")
    report = await look(cluster, HTTP, settings=settings_of(CAMUNDA_CLIENT_GRPCADDRESS="http://zeebe:26500"))
    assert report.problems == ["the engine cannot be reached at http://zeebe:26500: connection refused"]
    assert not report.healthy
    assert cluster.searches == []


async def test_an_engine_that_never_answers_does_not_hang_the_doctor():
    class Silent(Cluster):
        async def topology(self, *, timeout: float | None = None) -> Topology:
            await asyncio.sleep(3600)
            raise AssertionError

    report = await examine(settings_of(), cast("Engine", Silent()), [], Secrets([]), timeout=-0.95)
    assert report.problems == ["the engine cannot be reached at http://localhost:26500: no answer in time"]


async def test_a_partition_without_a_healthy_leader_is_a_problem():
    report = await look(Cluster(healthy=False))
    assert report.problems == ["partitions without a healthy leader: 1"]
    assert report.notes == ["broker 0: unhealthy partitions [1]"]


async def test_processes_that_cannot_be_read_are_a_problem():
    cluster = Cluster()
    cluster.search_error = EngineFailure("no such index")
    report = await look(cluster)
    assert report.problems == ["deployed processes cannot be read at http://localhost:8080: no such index"]


# ---- job types -------------------------------------------------------------------------------------------------------------


async def test_a_type_of_a_template_without_a_connector_is_a_problem():
    report = await look(
        Cluster(("p", 3, process("p", task("a", "io.camunda:box:1"), task("b", "io.camunda:box:1")))), HTTP
    )
    (missing,) = report.missing_types
    assert (missing.type, missing.template, missing.disabled) == ("io.camunda:box:1", True, False)
    assert missing.used_by == ("p v3: a", "p v3: b")
    assert report.problems == ["job type io.camunda:box:1 has no connector here; used by p v3: a, p v3: b"]


async def test_a_type_without_a_template_may_be_another_workers():
    report = await look(Cluster(("p", 1, process("p", task("a", "payment", template=None)))), HTTP)
    assert report.healthy
    assert report.notes == ["job type payment has no connector here; used by p v1: a"]


async def test_a_type_that_is_disabled_here_is_a_problem():
    report = await look(Cluster(("p", 1, process("p", task("a", SLACK.type, template=None)))), SLACK)
    assert report.problems == ["job type io.camunda:slack:1 is disabled here; used by p v1: a"]


async def test_a_type_that_is_an_expression_is_not_judged():
    report = await look(Cluster(("p", 1, process("p", task("a", "=type")))))
    assert report.notes == ["p v1: a: the job type is an expression and was not checked"]
    assert report.healthy


async def test_tasks_within_sub_processes_are_seen():
    inner = f'<bpmn:subProcess id="s">{task("deep", "io.camunda:box:1")}</bpmn:subProcess>'
    report = await look(Cluster(("p", 1, process("p", inner))))
    assert report.missing_types[0].used_by == ("p v1: deep",)


async def test_another_process_of_the_same_file_is_not_counted_twice():
    other = f'<bpmn:process id="q" isExecutable="true">{task("b", "io.camunda:box:1")}</bpmn:process>'
    report = await look(Cluster(("p", 1, process("p", task("a", HTTP.type), other=other))), HTTP)
    assert report.missing_types == []


async def test_a_file_that_cannot_be_read_is_a_note():
    report = await look(Cluster(("p", 1, "<broken"), ("q", 1, process("q", task("a", "io.camunda:box:1")))))
    assert len(report.missing_types) == 1
    assert report.notes[0].startswith("p v1 cannot be read: ")


async def test_a_process_that_is_deleted_meanwhile_is_a_note():
    class Deleting(Cluster):
        async def process_definition_xml(self, process_definition_key: int, *, timeout: float | None = None) -> str:
            raise NotFound("no such process definition")

    report = await look(Deleting(("p", 1, "")))
    assert (report.problems, report.notes) == ([], ["p v1 cannot be read: no such process definition"])


# ---- versions and pages ----------------------------------------------------------------------------------------------------


async def test_only_latest_versions_are_asked_for():
    cluster = Cluster(("p", 1, process("p")))
    await look(cluster)
    assert cluster.searches == [{"resource": "process-definitions", "filter": {"isLatestVersion": True}, "after": None}]


async def test_a_cluster_that_cannot_select_them_gives_all_and_the_latest_are_picked():
    old, new = process("p", task("old", "io.camunda:old:1")), process("p", task("new", "io.camunda:new:1"))
    cluster = Cluster(("p", 1, old), ("p", 2, new), selects_latest=False)
    report = await look(cluster)
    assert [missing.type for missing in report.missing_types] == ["io.camunda:new:1"]
    assert report.definitions == 1
    assert cluster.read == [1]


async def test_all_pages_are_read_and_not_too_many_files_at_once():
    cluster = Cluster(*((f"p{number:03}", 1, process(f"p{number:03}")) for number in range(250)))
    report = await look(cluster)
    assert report.definitions == 250
    assert [search["after"] for search in cluster.searches] == [None, "100", "200"]
    assert sorted(cluster.read) == list(range(250))
    assert cluster.most_reading <= 4


# ---- secrets ---------------------------------------------------------------------------------------------------------------


async def test_secrets_that_no_provider_has_are_named():
    inputs = {"url": "https://{{secrets.HOST}}/", "token": "{{ secrets.TOKEN }}", "old": "secrets.LEGACY"}
    cluster = Cluster(("p", 1, process("p", task("a", HTTP.type, inputs=inputs))))
    report = await look(cluster, HTTP, secrets={"HOST": "hidden-value"})
    assert [(secret.name, secret.used_by) for secret in report.missing_secrets] == [
        ("LEGACY", ("p v1: a",)),
        ("TOKEN", ("p v1: a",)),
    ]
    assert report.problems == [
        "no provider has the secret LEGACY; used by p v1: a",
        "no provider has the secret TOKEN; used by p v1: a",
    ]
    assert "hidden-value" not in json.dumps(report.to_json())


async def test_secrets_of_types_that_others_work_are_not_asked_for():
    cluster = Cluster(("p", 1, process("p", task("a", "payment", inputs={"x": "{{secrets.X}}"}, template=None))))
    report = await look(cluster, HTTP)
    assert report.missing_secrets == []


async def test_secrets_that_the_engine_resolves_are_not_ours():
    inputs = {"x": "=camunda.secrets.X", "y": "= camunda.secrets.A_B"}
    report = await look(Cluster(("p", 1, process("p", task("a", HTTP.type, inputs=inputs)))), HTTP)
    assert report.missing_secrets == []


async def test_secrets_are_looked_up_for_their_tenant_and_process():
    asked: list[tuple[str, SecretContext]] = []

    class Provider:
        async def get_secret(self, name: str, context: SecretContext) -> str | None:
            asked.append((name, context))
            return "x"

    cluster = Cluster(("p", 1, process("p", task("a", HTTP.type, inputs={"x": "{{secrets.X}}"}))))
    cluster.rows[0]["tenantId"] = "t1"
    report = await look(cluster, HTTP, secrets=Secrets([Provider()]))
    assert asked == [("X", SecretContext("t1", "p"))]
    assert report.healthy


async def test_a_provider_that_fails_is_told_without_its_words():
    class Broken:
        async def get_secret(self, name: str, context: SecretContext) -> str | None:
            raise RuntimeError("token=hidden")

    cluster = Cluster(("p", 1, process("p", task("a", HTTP.type, inputs={"x": "{{secrets.X}}"}))))
    report = await look(cluster, HTTP, secrets=Secrets([Broken()]))
    assert report.problems == ["a provider of secrets failed for X: RuntimeError"]


# ---- what is set here ------------------------------------------------------------------------------------------------------


async def test_each_setting_is_told_with_its_source():
    settings = settings_of(
        CAMUNDA_CLIENT_GRPCADDRESS="http://zeebe:26500",
        CAMUNDA_CLIENT_AUTH_USERNAME="demo",
        CAMUNDA_CLIENT_AUTH_PASSWORD="hidden",
        CAMUNDA_CLIENT_GRPCADRESS="typo",
    )
    report = await look(Cluster(), settings=settings)
    assert report.target["grpc"] == "http://zeebe:26500"
    assert report.target["auth"] == "basic"
    assert report.settings["camunda.client.grpc-address"] == (
        "http://zeebe:26500",
        "CAMUNDA_CLIENT_GRPCADDRESS (environment)",
    )
    assert report.settings["camunda.client.auth.password"][0] == "***"
    assert report.warnings == [
        "CAMUNDA_CLIENT_GRPCADRESS (environment) is unknown and ignored; did you mean CAMUNDA_CLIENT_GRPCADDRESS?"
    ]
    assert "hidden" not in json.dumps(report.to_json())


async def test_an_override_that_fits_no_connector_is_told():
    settings = settings_of(CONNECTOR_HTTP_REST_TYPE="x", CONNECTOR_HTP_REST_TIMEOUT="1000")
    report = await look(Cluster(), HTTP, settings=settings)
    assert report.notes == ["CONNECTOR_HTP_REST_TYPE or _TIMEOUT is set, but no connector has that name"]


async def test_connectors_are_listed_with_their_state():
    report = await look(Cluster(), HTTP, SLACK)
    assert report.connectors == [
        {"name": "HTTP REST", "type": HTTP.type, "enabled": True},
        {"name": "Slack Outbound", "type": SLACK.type, "enabled": False},
    ]


# ---- for people ------------------------------------------------------------------------------------------------------------


def printed(report: Report) -> str:
    stream = io.StringIO()
    show(report, Console(file=stream, width=120))
    return stream.getvalue()


async def test_the_report_reads_well():
    cluster = Cluster(("p", 1, process("p", task("a", "io.camunda:box:1"), task("[bold]b", "payment", template=None))))
    report = await look(
        cluster, HTTP, SLACK, settings=settings_of(CAMUNDA_CLIENT_KEEPALIVE="30s", APP_INTEGRATIONS_API_KEY="k")
    )
    text = printed(report)
    assert "engine http://localhost:26500 and http://localhost:8080" in text
    assert "version 8.8.9, 1 of 1 brokers, 1 partitions, 1 processes" in text
    assert "camunda.client.keep-alive" in text
    assert "problem job type io.camunda:box:1 has no connector here" in text
    assert "note job type payment has no connector here; used by p v1: [bold]b" in text
    assert "warning APP_INTEGRATIONS_API_KEY (environment) is ignored" in text
    assert "no problems found" not in text


async def test_a_healthy_report_says_so():
    assert printed(await look(Cluster())).endswith("no problems found\n")


async def test_the_report_is_plain_json():
    body = (await look(Cluster(("p", 1, process("p", task("a", "io.camunda:box:1")))))).to_json()
    again = json.loads(json.dumps(body))
    assert again["healthy"] is False
    assert again["missing_types"] == [
        {"type": "io.camunda:box:1", "used_by": ["p v1: a"], "template": True, "disabled": False}
    ]


@pytest.mark.parametrize(
    "row", [{}, {"processDefinitionKey": "1"}, {"processDefinitionKey": "x", "processDefinitionId": "p"}]
)
async def test_a_row_without_its_names_is_a_problem_and_no_crash(row):
    cluster = Cluster()
    cluster.rows = [row]
    cluster.rows[0].setdefault("version", 1)
    report = await look_unsorted(cluster)
    assert report.problems == ["deployed processes cannot be read at http://localhost:8080: the answer makes no sense"]


async def look_unsorted(cluster: Cluster) -> Report:
    async def search(*arguments: Any, **options: Any) -> SearchPage:
        return SearchPage(cluster.rows, 1)

    cluster.search = search  # type: ignore[method-assign]
    return await look(cluster)
