import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from gateway.engine import (
    AlreadyExists,
    Engine,
    EngineFailure,
    FailedPrecondition,
    InvalidArgument,
    JobActivation,
    NotFound,
    Unimplemented,
)
from gateway.engine.auth import FixedCredentials
from gateway.engine.cluster import Cluster
from gateway.engine.rest import RestCommands, RestQueries
from gateway.engine.rest_session import RestSession
from tests.engine import models
from tests.engine.conftest import connected, settings_for
from tests.engine.rest_stub import RestStub
from tests.real.processes import EngineProcess, running_engine


@pytest.fixture
async def web() -> AsyncIterator[RestStub]:
    async with RestStub() as web:
        yield web


@pytest.fixture
async def client(web: RestStub) -> AsyncIterator[Engine]:
    session = RestSession(web.url, FixedCredentials(), request_timeout=3)
    client = Cluster(RestCommands(session), RestQueries(session))
    yield client
    await client.close()


async def read(engine: Engine, document_id: str, **arguments: Any) -> bytes:
    return b"".join([chunk async for chunk in engine.read_document(document_id, **arguments)])


# ---- what goes over the wire


async def test_variables_are_sent_as_the_text_they_are(web: RestStub, client: Engine) -> None:
    await client.complete_job(7, '{"price": 1.50, "big": 123456789012345678901}')
    assert b'{"price": 1.50, "big": 123456789012345678901}' in web.requests[0].body


@pytest.mark.parametrize(
    "variables",
    [
        '{"price":1.50}',
        '{"big":123456789012345678901}',
        '{"price":1.50,"big":123456789012345678901}',
    ],
)
async def test_variables_of_jobs_keep_every_digit(web: RestStub, client: Engine, variables: str) -> None:
    keys = '"jobKey":"1","processInstanceKey":2,"processDefinitionKey":"3","elementInstanceKey":"4"'
    web.answer(200, f'{{"jobs":[{{{keys},"variables":{variables}}}]}}')
    (job,) = await client.activate_jobs(JobActivation("t", "w", 1000), 1)
    assert job.variables == variables
    assert (job.key, job.process_instance_key, job.custom_headers) == (1, 2, "{}")


async def test_no_variables_are_an_empty_object(web: RestStub, client: Engine) -> None:
    await client.complete_job(7, "")
    await client.fail_job(7, retries=1, message="m")
    assert web.requests[0].json() == {"variables": {}}
    assert web.requests[1].json() == {"retries": 1, "errorMessage": "m", "retryBackOff": 0}


async def test_an_instance_is_asked_for_by_key_or_by_id_but_not_both(web: RestStub, client: Engine) -> None:
    web.answer(200, {"processDefinitionKey": "1", "processInstanceKey": "2"}, times=2)
    await client.create_process_instance(process_definition_key=5, bpmn_process_id="ignored")
    await client.create_process_instance(bpmn_process_id="p", version=3, tenant_id="t")
    assert web.requests[0].json() == {"variables": {}, "tenantId": "<default>", "processDefinitionKey": "5"}
    assert web.requests[1].json() == {
        "variables": {},
        "tenantId": "t",
        "processDefinitionId": "p",
        "processDefinitionVersion": 3,
    }


async def test_activation_asks_for_what_the_worker_wants(web: RestStub, client: Engine) -> None:
    web.answer(200, {"jobs": []})
    activation = JobActivation("t", "w", 1000, fetch_variables=("a",), tenant_ids=("x", "y"))
    await client.activate_jobs(activation, 5, request_timeout_ms=2000)
    assert web.requests[0].json() == {
        "type": "t",
        "worker": "w",
        "timeout": 1000,
        "maxJobsToActivate": 5,
        "requestTimeout": 2000,
        "tenantIds": ["x", "y"],
        "fetchVariable": ["a"],
    }


async def test_a_search_sends_filter_sort_and_cursor(web: RestStub, client: Engine) -> None:
    web.answer(200, {"items": [{"a": 1}], "page": {"totalItems": 7, "endCursor": "c2"}})
    page = await client.search("jobs", filter={"state": {"$eq": "FAILED"}}, sort=[("key", "desc")], limit=5, after="c1")
    assert web.requests[0].path == "/v2/jobs/search"
    assert web.requests[0].json() == {
        "page": {"limit": 5, "after": "c1"},
        "filter": {"state": {"$eq": "FAILED"}},
        "sort": [{"field": "key", "order": "DESC"}],
    }
    assert (page.items, page.total, page.end_cursor) == ([{"a": 1}], 7, "c2")


async def test_evaluation_sends_tenant_and_scope_and_gives_the_exact_result(web: RestStub, client: Engine) -> None:
    web.answer(200, '{"expression":"=x","result":{"n":1.50,"i":123456789012345678901}}')
    assert await client.evaluate_expression("=x", tenant_id="t", scope_key=9) == {
        "n": Decimal("1.50"),
        "i": 123456789012345678901,
    }
    assert web.requests[0].json() == {"expression": "=x", "tenantId": "t", "scopeKey": "9"}


async def test_a_conflict_means_a_duplicate_for_messages_and_documents_only(web: RestStub, client: Engine) -> None:
    web.answer(409, {"title": "ALREADY_EXISTS", "detail": "twice"}, times=3)
    with pytest.raises(AlreadyExists):
        await client.publish_message(name="m", message_id="1")
    with pytest.raises(AlreadyExists):
        await client.create_document(b"x", content_type="text/plain")
    with pytest.raises(FailedPrecondition):
        await client.complete_job(1, "{}")


@pytest.mark.parametrize("answer", ["[1]", "{}", "nonsense", '{"jobs":[{"jobKey":"x"}]}', b"\xff\xfe"])
async def test_an_answer_that_cannot_be_read_is_a_failure(web: RestStub, client: Engine, answer: str | bytes) -> None:
    web.answer(200, answer, times=2)
    with pytest.raises(EngineFailure):
        await client.create_process_instance(bpmn_process_id="p")
    if answer != "{}":
        with pytest.raises(EngineFailure):
            await client.activate_jobs(JobActivation("t", "w", 1000), 1)


@pytest.mark.parametrize(("name", "disposition"), [(None, ""), ("a.txt", '; filename="a.txt"')])
async def test_a_document_is_named_only_when_it_has_a_name(
    web: RestStub, client: Engine, name: str | None, disposition: str
) -> None:
    web.answer(201, {"documentId": "d"})
    await client.create_document(b"x", content_type="text/plain", file_name=name)
    body = web.requests[0].body
    head = body[: body.index(b"\r\n\r\nx\r\n")].decode()
    assert f'Content-Disposition: form-data; name="file"{disposition}' in head.splitlines()
    assert "Content-Type: text/plain" in head.splitlines()


async def test_a_document_id_cannot_leave_its_path(web: RestStub, client: Engine) -> None:
    await client.delete_document("../jobs/1?x", store_id="s&t")
    assert web.requests[0].raw_path == "/v2/documents/..%2Fjobs%2F1%3Fx?storeId=s%26t"


async def test_a_file_name_cannot_start_another_header(web: RestStub, client: Engine) -> None:
    with pytest.raises(InvalidArgument, match="file_name") as caught:
        await client.create_document(b"x", content_type="text/plain", file_name="a\r\nX-Other: y")
    assert not caught.value.may_have_arrived
    with pytest.raises(InvalidArgument, match="content_type"):
        await client.create_document(b"x", content_type="text/plain\r\nX-Other: y")
    assert web.requests == []


async def test_a_document_carries_its_metadata(web: RestStub, client: Engine) -> None:
    web.answer(201, {"documentId": "d", "storeId": "s", "contentHash": "h", "metadata": {"size": 1}})
    stored = await client.create_document(
        b"x", content_type="text/plain", file_name="ä.txt", time_to_live_ms=60_000, custom_properties={"k": [1]}
    )
    assert (stored.document_id, stored.store_id, stored.content_hash, stored.metadata) == ("d", "s", "h", {"size": 1})
    body = web.requests[0].body.decode()
    assert 'filename="ä.txt"' in body
    metadata = json.loads(body.split('name="metadata"', 1)[1].split("\r\n\r\n", 1)[1].split("\r\n", 1)[0])
    assert metadata.pop("expiresAt").endswith("Z")
    assert metadata == {"contentType": "text/plain", "fileName": "ä.txt", "customProperties": {"k": [1]}}


async def test_a_definition_without_xml_is_not_found(web: RestStub, client: Engine) -> None:
    with pytest.raises(NotFound, match="5 has no XML"):
        await client.process_definition_xml(5)


async def test_there_are_no_job_streams(client: Engine) -> None:
    stream = client.stream_jobs(JobActivation("t", "w", 1000))
    with pytest.raises(Unimplemented):
        await stream.read()
    stream.cancel()


# ---- against the test engine


@pytest.mark.real
async def test_definitions_are_found_and_their_xml_is_what_was_deployed(engine: Engine, unique: str) -> None:
    resource = models.one_task(unique)
    (definition,) = await engine.deploy([resource])
    page = await engine.search("process-definitions", filter={"processDefinitionId": unique})
    assert [(one["processDefinitionKey"], one["version"]) for one in page.items] == [
        (str(definition.process_definition_key), 1)
    ]
    xml = await engine.process_definition_xml(definition.process_definition_key)
    assert xml.encode() == resource.content
    with pytest.raises(NotFound):
        await engine.process_definition_xml(1)


@pytest.mark.real
async def test_pages_follow_each_other_by_cursor_in_the_order_asked_for(engine: Engine, unique: str) -> None:
    await engine.deploy([models.one_task(unique)])
    for _ in range(5):
        await engine.create_process_instance(bpmn_process_id=unique)
    after, keys = None, []
    while True:
        page = await engine.search(
            "process-instances",
            filter={"processDefinitionId": unique},
            sort=[("processInstanceKey", "desc")],
            limit=2,
            after=after,
        )
        if not page.items:
            break
        assert (len(page.items) <= 2, page.total) == (True, 5)
        keys += [int(one["processInstanceKey"]) for one in page.items]
        after = page.end_cursor
    assert len(keys) == 5
    assert keys == sorted(keys, reverse=True)


@pytest.mark.real
async def test_a_search_for_an_unknown_resource_is_unimplemented(engine: Engine) -> None:
    with pytest.raises(Unimplemented):
        await engine.search("no-such-things")


@pytest.mark.real
async def test_correlation_finds_its_instance_or_fails_at_once(engine: Engine, unique: str) -> None:
    await engine.deploy([models.message_catch(unique, unique)])
    with pytest.raises(NotFound):
        await engine.correlate_message(name=unique, correlation_key="k")
    instance = await engine.create_process_instance(bpmn_process_id=unique, variables='{"key":"k"}')
    found = await engine.correlate_message(name=unique, correlation_key="k", variables='{"by":"correlation"}')
    assert found.process_instance_key == instance.process_instance_key
    assert found.message_key > 0
    (job,) = await engine.activate_jobs(JobActivation(unique, "w", 60_000), 1, request_timeout_ms=5_000)
    assert json.loads(job.variables)["by"] == "correlation"


@pytest.mark.real
async def test_a_document_is_stored_read_linked_and_deleted(engine: Engine) -> None:
    content = bytes(range(256)) * 2000
    stored = await engine.create_document(
        content, content_type="application/x-test", file_name="data.bin", custom_properties={"k": "v"}
    )
    assert stored.content_hash == hashlib.sha256(content).hexdigest()
    assert (stored.metadata["fileName"], stored.metadata["contentType"]) == ("data.bin", "application/x-test")
    assert (stored.metadata["size"], stored.metadata["customProperties"]) == (len(content), {"k": "v"})
    place = {"store_id": stored.store_id, "content_hash": stored.content_hash}
    assert await read(engine, stored.document_id, **place) == content
    link = await engine.create_document_link(stored.document_id, **place, time_to_live_ms=60_000)  # type: ignore[arg-type]
    async with aiohttp.ClientSession() as session, session.get(link) as response:
        assert await response.read() == content
    await engine.delete_document(stored.document_id, store_id=stored.store_id)
    with pytest.raises(NotFound):
        await read(engine, stored.document_id)


@pytest.mark.real
async def test_a_document_is_uploaded_as_it_comes_and_its_hash_is_checked(engine: Engine) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(10):
            await asyncio.sleep(0)
            yield bytes([number]) * 50_000

    stored = await engine.create_document(chunks(), content_type="text/plain", time_to_live_ms=60_000)
    assert stored.metadata["size"] == 500_000
    with pytest.raises(InvalidArgument, match="hash"):
        await read(engine, stored.document_id, content_hash="other")


@pytest.mark.real
async def test_expressions_are_unimplemented_before_8_9(engine: Engine) -> None:
    with pytest.raises(Unimplemented):
        await engine.evaluate_expression("=1")


@pytest.fixture(scope="module")
def newer_engine(test_engine: EngineProcess) -> Iterator[EngineProcess]:
    """One that says it is 8.9; after `test_engine`, which skips where there is no Java."""
    with running_engine("--version", "8.9.0") as engine:
        yield engine


@pytest.mark.real
async def test_expressions_are_evaluated_from_8_9_on(newer_engine: EngineProcess) -> None:
    async with connected(settings_for(newer_engine, "rest")) as engine:
        assert await engine.evaluate_expression('={a: 1 + 1, b: ["x"]}') == {"a": 2, "b": ["x"]}
        with pytest.raises(InvalidArgument):
            await engine.evaluate_expression("=1 +")
