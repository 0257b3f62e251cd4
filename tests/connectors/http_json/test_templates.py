"""Element templates of other products that are this connector with prepared inputs: one call of each, and their quirks.

The variables are what the engine hands over after the template's input mappings. Hosts are led to the local server, which sees
`https://host/path` as `/host/path`.
"""

import re
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.connectors.http_json.conftest import Work
from tests.connectors.http_json.template_cases import CASES, GITHUB_HEADERS, Case, credentials
from tests.http_client.servers import Received, Reply, Stub

# The templates of the job type `io.camunda:http-json:1` with their versions.
TEMPLATES = {
    ("io.camunda.connectors.Asana.v1", 5),
    ("io.camunda.connectors.AzureOpenAI.outbound.v1", 4),
    ("io.camunda.connectors.BluePrism.v1", 6),
    ("io.camunda.connectors.CamundaOperate.v1", 7),
    ("io.camunda.connectors.CamundaOrchestrationCluster.v1", 2),
    ("io.camunda.connectors.EasyPost.v1", 7),
    ("io.camunda.connectors.GitHub.v1", 12),
    ("io.camunda.connectors.GitLab.v1", 9),
    ("io.camunda.connectors.GoogleMapsPlatform.v1", 7),
    ("io.camunda.connectors.HttpJson.v2", 17),
    ("io.camunda.connectors.HubSpot.v1", 4),
    ("io.camunda.connectors.HuggingFace.v1", 4),
    ("io.camunda.connectors.MSFT.O365.Mail.v1", 6),
    ("io.camunda.connectors.OpenAI.v1", 8),
    ("io.camunda.connectors.PowerAutomate.v1", 4),
    ("io.camunda.connectors.Salesforce.v1", 6),
    ("io.camunda.connectors.ServiceNow.v1", 3),
    ("io.camunda.connectors.ServiceNowFlow.v1", 1),
    ("io.camunda.connectors.ServiceNowIncident.v1", 3),
    ("io.camunda.connectors.Twilio.v1", 8),
    ("io.camunda.connectors.UIPath.v1", 7),
    ("io.camunda.connectors.WhatsApp.v1", 5),
}


def here(value: Any, stub: Stub) -> Any:
    """The value with the hosts of all URLs led to the local server."""
    if isinstance(value, str):
        return re.sub(r"^https://", stub.url("/"), value)
    if isinstance(value, dict):
        return {k: here(v, stub) for k, v in value.items()}
    return [here(v, stub) for v in value] if isinstance(value, list) else value


def answering(stub: Stub, reply: Reply) -> None:
    """Token endpoints answer with a token that does not say how long it lasts, everything else with the reply."""

    def answer(request: Received) -> Reply:
        return Reply(body={"access_token": "tok"}) if request.target.endswith("/token") else reply

    stub.answer = answer


def test_every_template_has_a_case() -> None:
    assert len(TEMPLATES) == 22
    assert {case.template for case in CASES} == TEMPLATES


@pytest.mark.parametrize("case", CASES, ids=[case.template[0].split(".", 3)[-1] for case in CASES])
async def test_a_template_makes_its_request_and_its_result(stub: Stub, work: Work, case: Case) -> None:
    answering(stub, case.reply)
    headers = {"resultExpression": case.expression} if case.expression else {"resultVariable": "response"}
    outcome = await work(**here(case.given, stub), task_headers=headers)
    assert outcome.kind == "completed", outcome.message
    sent = stub.received[-1]
    assert (sent.method, sent.target) == (case.method, case.target)
    assert (sent.body if isinstance(case.body, bytes) else sent.json()) == case.body
    assert {name: sent.header(name) for name in case.headers} == case.headers
    if case.expression:
        assert outcome.variables == case.variables
    else:
        assert outcome.variables["response"]["status"] == case.reply.status
    asked = [dict(parse_qsl(r.body.decode(), keep_blank_values=True)) for r in stub.received[:-1]]
    assert asked == ([here(case.token_fields, stub)] if case.token_fields else [])


# ---- quirks ----


async def test_nulls_in_the_query_are_bare_names(stub: Stub, work: Work) -> None:
    await work("/projects", queryParameters={"workspace": "1", "team": None})
    assert stub.one.target == "/projects?workspace=1&team"


async def test_comparison_signs_in_names_of_filters_are_escaped(stub: Stub, work: Work) -> None:
    await work("/Messages.json", queryParameters={"DateSent>": "2026-01-01", "DateSent<": "2026-02-01"})
    assert stub.one.target == "/Messages.json?DateSent%3E=2026-01-01&DateSent%3C=2026-02-01"


async def test_a_dollar_in_a_name_is_escaped_as_parameter_and_kept_in_a_url(stub: Stub, work: Work) -> None:
    await work("/QueueItems()?$Filter=Id eq 7")
    await work("/QueueItems()", queryParameters={"$Filter": "Id eq 7"})
    assert [r.target for r in stub.received] == [
        "/QueueItems()?$Filter=Id%20eq%207",
        "/QueueItems()?%24Filter=Id%20eq%207",
    ]


async def test_parentheses_dollars_and_commas_in_paths_survive(stub: Stub, work: Work) -> None:
    await work("/flowsessions(f-1)/outputs/$value,x")
    assert stub.one.target == "/flowsessions(f-1)/outputs/$value,x"


async def test_a_boolean_skips_the_encoding(stub: Stub, work: Work) -> None:
    await work("/files/a%2Cb", skipEncoding=True)
    assert stub.one.target == "/files/a%2Cb"


@pytest.mark.parametrize("body", [[{"errorCode": "A"}], [{"errorCode": "A"}, {"errorCode": "B"}]])
async def test_arrays_of_errors_arrive_unchanged(stub: Stub, work: Work, body: Any) -> None:
    stub.reply(Reply(400, body, reason="Bad Request"))
    assert (await work()).error["variables"]["response"]["body"] == body


async def test_tokens_that_do_not_say_how_long_they_last_are_fetched_for_each_job(stub: Stub, work: Work) -> None:
    answering(stub, Reply())
    for _ in range(2):
        await work("/api", authentication=credentials(stub.url("/token")))
    assert [r.target for r in stub.received] == ["/token", "/api", "/token", "/api"]


async def test_data_in_the_query_of_a_post_without_a_body(stub: Stub, work: Work) -> None:
    await work("/issues", method="post", skipEncoding="true", queryParameters={"title": "a b", "description": None})
    assert (stub.one.target, stub.one.body) == ("/issues?title=a%20b&description", b"")
    assert stub.one.header("Content-Length") == "0"


async def test_a_vendors_json_type_stands_on_a_get_too(stub: Stub, work: Work) -> None:
    await work(headers=GITHUB_HEADERS)
    assert stub.one.all("Content-Type") == ["application/vnd.github+json"]


@pytest.mark.parametrize("method", ["post", "delete"])
async def test_answers_without_content_have_a_null_body(stub: Stub, work: Work, method: str) -> None:
    stub.reply(Reply(204, b"", reason="No Content"))
    outcome = await work(method=method, body={"ref": "main"})
    assert (outcome.variables["r"]["status"], outcome.variables["r"]["body"]) == (204, None)


async def test_a_stream_of_events_comes_back_as_text(stub: Stub, work: Work) -> None:
    stub.reply(Reply(body=b'data: {"a":1}\n\ndata: [DONE]\n\n', headers=[("Content-Type", "text/event-stream")]))
    assert (await work(method="post", body={"stream": True})).variables["r"]["body"].startswith("data: {")


async def test_a_github_app_gets_its_token_from_an_intrinsic_function(
    stub: Stub, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    monkeypatch.setattr("gateway.intrinsic._GITHUB", stub.url("/api.github.com"))
    stub.reply(Reply(201, {"token": "ghs_1"}), Reply())
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    call = {"camunda.function.type": "createGithubAppInstallationToken", "params": [pem, "1", "22"]}
    await work("/repos/o/r", authentication={"type": "bearer", "authType": "github_app", "token": call})
    assert stub.received[0].target == "/api.github.com/app/installations/22/access_tokens"
    assert stub.received[1].header("Authorization") == "Bearer ghs_1"


async def test_variables_beyond_the_connectors_own_are_ignored(stub: Stub, work: Work) -> None:
    assert (await work(operation="x", input={"internal_key": 1}, snInstance=None)).kind == "completed"
