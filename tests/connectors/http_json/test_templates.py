"""Element templates of other products that are this connector with prepared inputs: one call of each, and their quirks.

The variables are what the engine hands over after the template's input mappings. Hosts are led to the local server, which sees
`https://host/path` as `/host/path`.
"""

import base64
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.connectors.http_json.conftest import Work, inline
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


@dataclass(frozen=True)
class Case:
    """One call of a template. body: of the request, as JSON, or bytes; variables: what the result expression makes of the answer."""

    template: tuple[str, int]
    given: dict[str, Any]
    method: str
    target: str
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    reply: Reply = field(default_factory=Reply)
    expression: str | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    token_fields: dict[str, str] | None = None


def bearer(token: str = "t") -> dict[str, Any]:
    return {"type": "bearer", "token": token}


def credentials(endpoint: str, kind: str = "credentialsBody", **more: Any) -> dict[str, Any]:
    return {
        "type": "oauth-client-credentials-flow",
        "oauthTokenEndpoint": endpoint,
        "clientId": "id",
        "clientSecret": "secret",
        "clientAuthentication": kind,
        **more,
    }


GITHUB_HEADERS = {"Content-Type": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
BASIC = {"type": "basic", "username": "u", "password": "p"}
CASES = [
    Case(
        ("io.camunda.connectors.Asana.v1", 5),
        {
            "authentication": bearer(),
            "asanaBaseUrl": "https://app.asana.com/api/1.0/",
            "operation": "createTask",
            "method": "post",
            "url": "https://app.asana.com/api/1.0/tasks/",
            "body": {"data": {"name": "n", "parent": None, "projects": ["7"], "notes": None}},
            "connectionTimeoutInSeconds": "20",
        },
        "POST",
        "/app.asana.com/api/1.0/tasks/",
        {"data": {"name": "n", "parent": None, "projects": ["7"], "notes": None}},
        {"Authorization": "Bearer t", "Content-Type": "application/json"},
        Reply(201, {"data": {"gid": "1"}}),
    ),
    Case(
        ("io.camunda.connectors.AzureOpenAI.outbound.v1", 4),
        {
            "authentication": {"type": "apiKey", "apiKeyLocation": "headers", "name": "api-key", "value": "k"},
            "operation": "chatCompletion",
            "method": "post",
            "url": "https://res.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2023-09-01-preview",
            "body": {"messages": [{"role": "user", "content": "hi"}], "temperature": 0.8, "n": 1, "stream": False},
        },
        "POST",
        "/res.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2023-09-01-preview",
        {"messages": [{"role": "user", "content": "hi"}], "temperature": 0.8, "n": 1, "stream": False},
        {"api-key": "k"},
        Reply(body={"choices": []}),
    ),
    Case(
        ("io.camunda.connectors.BluePrism.v1", 6),
        {
            "operationType": "createItem",
            "authentication": credentials("https://auth.example/token", "basicAuthHeader", scopes="bp-api"),
            "method": "post",
            "headers": {"Content-Type": "application/json"},
            "bluePrismBaseUrl": "https://bp.example",
            "url": "https://bp.example/api/v7/workqueues/q-1/items/batch",
            "body": [{"data": {"columns": [{"k": 1}]}, "priority": 1, "status": None}],
            "connectionTimeoutInSeconds": "20",
        },
        "POST",
        "/bp.example/api/v7/workqueues/q-1/items/batch",
        [{"data": {"columns": [{"k": 1}]}, "priority": 1, "status": None}],
        {"Authorization": "Bearer tok"},
        Reply(201, {"ids": ["a", "b"]}),
        "={itemId: response.body.ids[1]}",
        {"itemId": "a"},
        {"grant_type": "client_credentials", "audience": "", "scope": "bp-api"},
    ),
    Case(
        ("io.camunda.connectors.CamundaOperate.v1", 7),
        {
            "headers": {"Content-Type": "application/json"},
            "authentication": credentials(
                "https://login.cloud.camunda.io/oauth/token",
                audience="operate.camunda.io",
                internal_deployment_type="saas",
                internal_region="bru-2",
                internal_cluster="c-1",
            ),
            "input": {"internal_endpoint": "/process-instances", "internal_operation": "search"},
            "method": "post",
            "url": "https://bru-2.operate.camunda.io/c-1/v1/process-instances/search",
            "body": {"filter": {"state": "ACTIVE"}, "sort": None, "size": 50, "searchAfter": None},
            "connectionTimeoutInSeconds": "20",
        },
        "POST",
        "/bru-2.operate.camunda.io/c-1/v1/process-instances/search",
        {"filter": {"state": "ACTIVE"}, "sort": None, "size": 50, "searchAfter": None},
        {"Authorization": "Bearer tok"},
        Reply(body={"items": [], "total": 0}),
        "={operateResponse: response.body}",
        {"operateResponse": {"items": [], "total": 0}},
        {
            "grant_type": "client_credentials",
            "audience": "operate.camunda.io",
            "client_id": "id",
            "client_secret": "secret",
        },
    ),
    Case(
        ("io.camunda.connectors.CamundaOrchestrationCluster.v1", 2),
        {
            "headers": {"Content-Type": "application/json"},
            "input": {
                "internal_endpoint": "/process-definitions",
                "internal_operation": "get",
                "internal_key": "22517",
            },
            "authentication": credentials(
                "https://login.cloud.camunda.io/oauth/token", audience="zeebe.camunda.io", orchestration_base_url=None
            ),
            "method": "get",
            "url": "https://bru-2.zeebe.camunda.io/c-1/v2/process-definitions/22517",
            "connectionTimeoutInSeconds": "20",
        },
        "GET",
        "/bru-2.zeebe.camunda.io/c-1/v2/process-definitions/22517",
        headers={"Authorization": "Bearer tok", "Content-Type": "application/json"},
        reply=Reply(body={"processDefinitionKey": "22517"}),
        expression="={orchestrationClusterResponse: response.body}",
        variables={"orchestrationClusterResponse": {"processDefinitionKey": "22517"}},
        token_fields={
            "grant_type": "client_credentials",
            "audience": "zeebe.camunda.io",
            "client_id": "id",
            "client_secret": "secret",
        },
    ),
    Case(
        ("io.camunda.connectors.EasyPost.v1", 7),
        {
            "operationType": "createAddress",
            "authentication": {"type": "basic", "username": "key", "password": "SPEC_PASSWORD_EMPTY_PATTERN"},
            "method": "post",
            "body": {"address": {"name": "Ada", "street1": "Main 1", "zip": "10115", "company": None}},
            "baseUrl": "https://api.easypost.com/v2",
            "url": "https://api.easypost.com/v2/addresses",
            "connectionTimeoutInSeconds": "20",
        },
        "POST",
        "/api.easypost.com/v2/addresses",
        {"address": {"name": "Ada", "street1": "Main 1", "zip": "10115", "company": None}},
        {"Authorization": "Basic " + base64.b64encode(b"key:").decode()},
        Reply(201, {"id": "adr_1"}),
        "={addressId: response.body.id}",
        {"addressId": "adr_1"},
    ),
    Case(
        ("io.camunda.connectors.GitHub.v1", 12),
        {
            "operationGroup": "issues",
            "operationType": "createIssue",
            "authentication": {**bearer("ghp"), "authType": "pat", "pat": "ghp"},
            "method": "post",
            "owner": "o",
            "repo": "r",
            "headers": GITHUB_HEADERS,
            "body": {"title": "T", "body": "B", "assignees": [], "labels": ["bug"]},
            "baseUrl": "https://api.github.com",
            "url": "https://api.github.com/repos/o/r/issues",
            "connectionTimeoutInSeconds": "20",
        },
        "POST",
        "/api.github.com/repos/o/r/issues",
        {"title": "T", "body": "B", "assignees": [], "labels": ["bug"]},
        {"Authorization": "Bearer ghp", **GITHUB_HEADERS},
        Reply(201, {"number": 5}),
        "={createdIssue: response.body}",
        {"createdIssue": {"number": 5}},
    ),
    Case(
        ("io.camunda.connectors.GitLab.v1", 9),
        {
            "authentication": {"type": "noAuth"},
            "baseUrl": "https://gitlab.com",
            "gitlabAccessToken": "gl",
            "headers": {"PRIVATE-TOKEN": "gl"},
            "operation": "createFile",
            "method": "post",
            "projectId": "278",
            "skipEncoding": "true",
            "url": "https://gitlab.com/api/v4/projects/278/repository/files/docs%2Fread%20me.md",
            "body": {"branch": "main", "content": "x", "commit_message": "m"},
            "connectionTimeoutInSeconds": "20",
        },
        "POST",
        "/gitlab.com/api/v4/projects/278/repository/files/docs%2Fread%20me.md",
        {"branch": "main", "content": "x", "commit_message": "m"},
        {"PRIVATE-TOKEN": "gl"},
        Reply(201, {"file_path": "docs/read me.md"}),
    ),
    Case(
        ("io.camunda.connectors.GoogleMapsPlatform.v1", 7),
        {
            "operationType": "calculateDistance",
            "method": "get",
            "apiKeyValue": "k",
            "queryParameters": {
                "destination": "Köln, Dom",
                "origin": "Berlin",
                "units": "metric",
                "mode": "driving",
                "key": "k",
            },
            "url": "https://maps.googleapis.com/maps/api/directions/json",
            "connectionTimeoutInSeconds": "20",
        },
        "GET",
        "/maps.googleapis.com/maps/api/directions/json?destination=K%C3%B6ln%2C%20Dom&origin=Berlin&units=metric&mode=driving&key=k",
        reply=Reply(body={"routes": [{"legs": [{"distance": {"text": "574 km"}}]}]}),
        expression="={distance: response.body.routes[1].legs[1].distance.text}",
        variables={"distance": "574 km"},
    ),
    Case(
        ("io.camunda.connectors.HttpJson.v2", 17),
        {
            "authentication": {"type": "noAuth"},
            "method": "PUT",
            "url": "https://api.example/items/7",
            "headers": {"X-Trace": "1"},
            "queryParameters": {"dry": "true"},
            "followRedirects": False,
            "documentReturnFormat": {"choice": "JSON", "encoding": "UTF-8"},
            "connectionTimeoutInSeconds": 20,
            "readTimeoutInSeconds": 20,
            "body": {"a": 1, "b": None},
            "ignoreNullValues": True,
        },
        "PUT",
        "/api.example/items/7?dry=true",
        {"a": 1},
        {"X-Trace": "1"},
        Reply(body=b'"stored"'),
        "={myResponseBody: response.body}",
        {"myResponseBody": "stored"},
    ),
    Case(
        ("io.camunda.connectors.HubSpot.v1", 4),
        {
            "authentication": bearer(),
            "operationType": "addContactToList",
            "baseUrl": "https://api.hubspot.com",
            "headers": {},
            "queryParameters": {},
            "method": "PUT",
            "url": "https://api.hubspot.com/crm/v3/lists/12/memberships/add",
            "body": ["201", "202"],
        },
        "PUT",
        "/api.hubspot.com/crm/v3/lists/12/memberships/add",
        ["201", "202"],
        {"Authorization": "Bearer t", "Content-Type": "application/json"},
    ),
    Case(
        ("io.camunda.connectors.HuggingFace.v1", 4),
        {
            "authentication": bearer("hf"),
            "modelId": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "body": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
            "method": "post",
            "url": "https://router.huggingface.co/v1/chat/completions",
            "connectionTimeoutInSeconds": "20",
        },
        "POST",
        "/router.huggingface.co/v1/chat/completions",
        {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        {"Authorization": "Bearer hf"},
    ),
    Case(
        ("io.camunda.connectors.MSFT.O365.Mail.v1", 6),
        {
            "baseUrl": "https://graph.microsoft.com/v1.0",
            "operationId": "users.user.sendMail",
            "authentication": {
                "type": "oauth-refresh-token",
                "oauthTokenEndpoint": "https://login.microsoftonline.com/tenant/oauth2/v2.0/token",
                "clientId": "id",
                "clientSecret": "secret",
                "refreshToken": "r",
                "scopes": "https://graph.microsoft.com/.default",
            },
            "headers": {},
            "queryParameters": {},
            "method": "POST",
            "url": "https://graph.microsoft.com/v1.0/users/me/sendMail",
            "body": {
                "message": {
                    "subject": "S",
                    "ccRecipients": None,
                    "attachments": [
                        {
                            "name": "a.txt",
                            "contentBytes": {"camunda.function.type": "base64", "params": [inline("hello")]},
                        }
                    ],
                },
                "saveToSentItems": "false",
            },
        },
        "POST",
        "/graph.microsoft.com/v1.0/users/me/sendMail",
        {
            "message": {
                "subject": "S",
                "ccRecipients": None,
                "attachments": [{"name": "a.txt", "contentBytes": "aGVsbG8="}],
            },
            "saveToSentItems": "false",
        },
        {"Authorization": "Bearer tok"},
        Reply(202, b"", reason="Accepted"),
        "={accepted: response.status = 202, answer: response.body}",
        {"accepted": True, "answer": None},
        {
            "grant_type": "refresh_token",
            "client_id": "id",
            "client_secret": "secret",
            "refresh_token": "r",
            "scope": "https://graph.microsoft.com/.default",
        },
    ),
    Case(
        ("io.camunda.connectors.OpenAI.v1", 8),
        {
            "authentication": bearer("sk"),
            "internal_organization": "org",
            "headers": {"OpenAI-Organization": "org"},
            "operation": "chat",
            "method": "post",
            "url": "https://api.openai.com/v1/chat/completions",
            "body": {
                "model": "gpt",
                "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
                "n": 1,
                "temperature": 1,
            },
            "connectionTimeoutInSeconds": "20",
        },
        "POST",
        "/api.openai.com/v1/chat/completions",
        {
            "model": "gpt",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
            "n": 1,
            "temperature": 1,
        },
        {"Authorization": "Bearer sk", "OpenAI-Organization": "org"},
        Reply(body={"id": "c-1"}),
        "={openAiResponse: response.body}",
        {"openAiResponse": {"id": "c-1"}},
    ),
    Case(
        ("io.camunda.connectors.PowerAutomate.v1", 4),
        {
            "operationType": "getStatus",
            "organizationUri": "https://org.crm.dynamics.com",
            "authentication": credentials(
                "https://login.microsoftonline.com/tenant/oauth2/v2.0/token",
                "basicAuthHeader",
                scopes="org/.default",
            ),
            "method": "get",
            "url": "https://org.crm.dynamics.com/api/data/v9.2/flowsessions(f-1)?$select=statuscode,statecode,startedon",
            "headers": {"Accept": "application/json"},
            "connectionTimeoutInSeconds": "20",
        },
        "GET",
        "/org.crm.dynamics.com/api/data/v9.2/flowsessions(f-1)?$select=statuscode,statecode,startedon",
        headers={"Accept": "application/json", "Authorization": "Bearer tok"},
        reply=Reply(body={"statuscode": 4}),
        expression="={status: response.body.statuscode}",
        variables={"status": 4},
        token_fields={"grant_type": "client_credentials", "audience": "", "scope": "org/.default"},
    ),
    Case(
        ("io.camunda.connectors.Salesforce.v1", 6),
        {
            "baseUrl": "https://my.salesforce.com",
            "apiVersion": "v58.0",
            "authentication": credentials("https://my.salesforce.com/services/oauth2/token"),
            "salesforceInteractionType": "soql",
            "method": "get",
            "soqlQuery": "SELECT Id FROM Account WHERE Name = 'A+B'",
            "queryParameters": {"q": "SELECT Id FROM Account WHERE Name = 'A+B'"},
            "url": "https://my.salesforce.com/services/data/v58.0/query",
            "connectionTimeoutInSeconds": "20",
        },
        "GET",
        "/my.salesforce.com/services/data/v58.0/query?q=SELECT%20Id%20FROM%20Account%20WHERE%20Name%20%3D%20%27A%2BB%27",
        headers={"Authorization": "Bearer tok"},
        reply=Reply(body={"totalSize": 0, "records": []}),
        token_fields={
            "grant_type": "client_credentials",
            "audience": "",
            "client_id": "id",
            "client_secret": "secret",
        },
    ),
    Case(
        ("io.camunda.connectors.ServiceNow.v1", 3),
        {
            "snInstance": "dev1",
            "operationGroup": "read",
            "targetTable": "incident",
            "authentication": BASIC,
            "method": "GET",
            "url": "https://dev1.service-now.com/api/now/table/incident",
            "headers": None,
            "queryParameters": {"sysparm_query": "active=true^priority=1", "sysparm_fields": None, "sysparm_limit": 10},
            "storeResponse": False,
            "skipEncoding": True,
            "connectionTimeoutInSeconds": 20,
            "readTimeoutInSeconds": 20,
            "body": None,
        },
        "GET",
        "/dev1.service-now.com/api/now/table/incident?sysparm_query=active%3Dtrue%5Epriority%3D1&sysparm_fields&sysparm_limit=10",
        headers={"Authorization": "Basic dTpw"},
        reply=Reply(body={"result": []}),
    ),
    Case(
        ("io.camunda.connectors.ServiceNowFlow.v1", 1),
        {
            "snInstance": "dev1",
            "restApiTriggerPath": "/api/1/flow/start",
            "authentication": BASIC,
            "method": "POST",
            "url": "https://dev1.service-now.com/api/1/flow/start",
            "headers": {"Content-Type": "application/json"},
            "queryParameters": None,
            "storeResponse": False,
            "skipEncoding": True,
            "connectionTimeoutInSeconds": 20,
            "readTimeoutInSeconds": 20,
            "body": {"a": "b", "c": None},
            "ignoreNullValues": False,
        },
        "POST",
        "/dev1.service-now.com/api/1/flow/start",
        {"a": "b", "c": None},
        {"Authorization": "Basic dTpw"},
        Reply(202, {"result": {"executionId": "e"}}),
    ),
    Case(
        ("io.camunda.connectors.ServiceNowIncident.v1", 3),
        {
            "snInstance": "dev1",
            "operationGroup": "update",
            "targetTable": "incident",
            "updateTarget": "s-1",
            "body_incident": {"urgency": "2"},
            "body": {"urgency": "2"},
            "authentication": BASIC,
            "method": "PATCH",
            "url": "https://dev1.service-now.com/api/now/table/incident/s-1",
            "headers": None,
            "queryParameters": {"sysparm_query": None, "sysparm_fields": None, "sysparm_limit": None},
            "storeResponse": False,
            "skipEncoding": True,
            "connectionTimeoutInSeconds": 20,
            "readTimeoutInSeconds": 20,
        },
        "PATCH",
        "/dev1.service-now.com/api/now/table/incident/s-1?sysparm_query&sysparm_fields&sysparm_limit",
        {"urgency": "2"},
        {"Authorization": "Basic dTpw", "Content-Type": "application/json"},
        Reply(body={"result": {"sys_id": "s-1"}}),
    ),
    Case(
        ("io.camunda.connectors.Twilio.v1", 8),
        {
            "operationType": "sendSms",
            "authType": "authToken",
            "accountSid": "AC1",
            "authentication": {"type": "basic", "username": "AC1", "password": "t"},
            "method": "post",
            "headers": {"Content-Type": "application/x-www-form-urlencoded"},
            "body": {"Body": "Grüße & more", "From": "+4930", "To": "+4940"},
            "url": "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json",
            "connectionTimeoutInSeconds": "20",
        },
        "POST",
        "/api.twilio.com/2010-04-01/Accounts/AC1/Messages.json",
        b"Body=Gr%C3%BC%C3%9Fe+%26+more&From=%2B4930&To=%2B4940",
        {"Authorization": "Basic QUMxOnQ=", "Content-Type": "application/x-www-form-urlencoded"},
        Reply(201, {"sid": "SM1"}),
    ),
    Case(
        ("io.camunda.connectors.UIPath.v1", 7),
        {
            "operationType": "getItem",
            "authentication": credentials(
                "https://cloud.uipath.com/identity_/connect/token", "basicAuthHeader", scopes="OR.Queues"
            ),
            "method": "get",
            "headers": {"X-UIPATH-OrganizationUnitId": 42},
            "itemId": 7,
            "queryParameters": {"$Filter": "Id eq 7"},
            "url": "https://cloud.uipath.com/org/tenant/orchestrator_/odata/QueueItems()",
            "connectionTimeoutInSeconds": "20",
        },
        "GET",
        "/cloud.uipath.com/org/tenant/orchestrator_/odata/QueueItems()?%24Filter=Id%20eq%207",
        headers={"Authorization": "Bearer tok", "X-UIPATH-OrganizationUnitId": "42"},
        reply=Reply(body={"value": [{"Status": "New"}]}),
        expression="={itemStatus: response.body.value[1].Status}",
        variables={"itemStatus": "New"},
        token_fields={"grant_type": "client_credentials", "audience": "", "scope": "OR.Queues"},
    ),
    Case(
        ("io.camunda.connectors.WhatsApp.v1", 5),
        {
            "authentication": bearer(),
            "senderPhoneId": "100",
            "recipientPhoneNumber": "4930",
            "messageType": "plainText",
            "method": "post",
            "url": "https://graph.facebook.com/v17.0/100/messages",
            "body": {"messaging_product": "whatsapp", "to": "4930", "type": "text", "text": {"body": "hi"}},
        },
        "POST",
        "/graph.facebook.com/v17.0/100/messages",
        {"messaging_product": "whatsapp", "to": "4930", "type": "text", "text": {"body": "hi"}},
        {"Authorization": "Bearer t"},
        Reply(body={"messages": [{"id": "w"}]}),
    ),
]


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
