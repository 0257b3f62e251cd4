"""Documents: references and what they stand for, uploads, and how results are written."""

import base64
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from gateway import feel, jsontext
from gateway.documents import Document, Documents, EngineStore, InvalidReference, default, iso_duration
from gateway.engine import NotFound
from gateway.engine.embedded import EmbeddedEngine
from gateway.http_client import Headers, HttpReply, HttpStatusError
from gateway.testing import FakeHttp


@pytest.fixture
async def documents() -> AsyncIterator[Documents]:
    engine = EmbeddedEngine()
    yield Documents(EngineStore(engine))
    await engine.close()


def external(answer: Any, name: str | None = None) -> tuple[Document, FakeHttp]:
    http = FakeHttp(lambda _: answer)
    reference = {"camunda.document.type": "external", "url": "http://files.example/a/report.pdf", "name": name}
    return Documents(None, http.download).resolve(reference), http  # type: ignore[arg-type]


def reply(*headers: tuple[str, str], content: bytes = b"content", status: int = 200) -> HttpReply:
    return HttpReply(status, "OK", Headers(headers), content)


# ---- the engine's store ----------------------------------------------------------------------------------------------


async def test_what_was_created_can_be_read_again_by_its_reference(documents: Documents) -> None:
    created = await documents.create(b"hello", content_type="text/plain", file_name="a.txt", custom_properties={"k": 1})
    reference = jsontext.loads(jsontext.dumps(created, default))
    assert reference["camunda.document.type"] == "camunda"
    assert set(reference) == {"camunda.document.type", "storeId", "documentId", "contentHash", "metadata"}
    assert None not in reference["metadata"].values()
    found = documents.resolve(reference)
    assert found == created
    before = found.content
    assert await found.read() == b"hello" == found.content
    assert before is None
    assert await found.base64() == base64.b64encode(b"hello").decode()
    assert b"".join([chunk async for chunk in found.stream()]) == b"hello"
    assert (found.metadata.content_type, found.metadata.file_name, found.metadata.size) == ("text/plain", "a.txt", 5)


async def test_content_may_come_in_chunks(documents: Documents) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    created = await documents.create(chunks())
    assert await documents.resolve(created.reference()).read() == b"ab"
    assert created.metadata.content_type == "application/octet-stream"


async def test_streaming_keeps_nothing(documents: Documents) -> None:
    created = await documents.create(b"hello")
    assert b"".join([chunk async for chunk in created.stream()]) == b"hello"
    assert created.content is None


async def test_a_document_that_is_gone_is_not_found(documents: Documents) -> None:
    created = await documents.create(b"hello")
    await documents._store.delete(created.reference())
    with pytest.raises(NotFound):
        await documents.resolve(created.reference()).read()


async def test_all_metadata_of_a_reference_are_known_without_reading(documents: Documents) -> None:
    metadata = {
        "contentType": "text/csv",
        "expiresAt": "2030-01-01T00:00:00Z",
        "size": 7,
        "fileName": "a.csv",
        "processDefinitionId": "p",
        "processInstanceKey": 5,
        "customProperties": {"a": 1},
    }
    found = documents.resolve({"camunda.document.type": "camunda", "documentId": "d", "metadata": metadata}).metadata
    assert (found.content_type, found.expires_at, found.size, found.file_name) == (
        "text/csv",
        "2030-01-01T00:00:00Z",
        7,
        "a.csv",
    )
    assert (found.process_definition_id, found.process_instance_key, found.custom_properties) == ("p", 5, {"a": 1})


class Linking:
    """The one query that the embedded engine does not offer."""

    async def create_document_link(self, document_id: str, **facts: Any) -> str:
        return f"http://store.example/{document_id}?{facts}"


async def test_links_are_the_stores() -> None:
    documents = Documents(EngineStore(Linking()))  # type: ignore[arg-type]
    found = documents.resolve(
        {"camunda.document.type": "camunda", "documentId": "d", "storeId": "s", "contentHash": "h"}
    )
    assert await found.generate_link(timedelta(hours=1)) == (
        "http://store.example/d?{'store_id': 's', 'content_hash': 'h', 'time_to_live_ms': 3600000}"
    )
    assert "'time_to_live_ms': None" in await found.generate_link()


# ---- inline ----------------------------------------------------------------------------------------------------------


async def test_inline_content_is_utf_8_and_its_type_is_guessed_from_the_name(documents: Documents) -> None:
    found = documents.resolve(
        {"camunda.document.type": "inline", "content": "grüße", "name": "a.txt", "contentType": None}
    )
    assert await found.read() == "grüße".encode()
    assert (found.metadata.file_name, found.metadata.content_type, found.metadata.size) == ("a.txt", "text/plain", 7)
    assert found.reference() == {"camunda.document.type": "inline", "content": "grüße", "name": "a.txt"}


async def test_inline_json_is_compacted_and_a_name_is_made_up(documents: Documents) -> None:
    found = documents.resolve({"camunda.document.type": "inline", "content": {"a": [1, None]}})
    assert await found.read() == b'{"a":[1,null]}'
    assert uuid.UUID(found.metadata.file_name)
    assert found.metadata.content_type == "application/octet-stream"
    assert "name" not in found.reference()


async def test_an_explicit_content_type_wins_and_there_is_no_link(documents: Documents) -> None:
    found = documents.resolve({"camunda.document.type": "inline", "content": "", "name": "a.txt", "contentType": "x/y"})
    assert found.metadata.content_type == "x/y"
    assert await found.read() == b""
    with pytest.raises(ValueError, match="no link"):
        await found.generate_link()


# ---- external --------------------------------------------------------------------------------------------------------


async def test_an_external_document_is_fetched_when_it_is_read_and_once() -> None:
    found, http = external(reply(("Content-Type", "application/pdf"), ("Content-Length", "7")), "mine.pdf")
    assert http.requests == []
    assert (found.metadata.file_name, found.metadata.size) == ("mine.pdf", -1)
    assert await found.read() == await found.read() == b"content"
    assert [str(r.url) for r in http.requests] == ["http://files.example/a/report.pdf"]
    assert (found.metadata.content_type, found.metadata.file_name, found.metadata.size) == (
        "application/pdf",
        "mine.pdf",
        7,
    )
    assert await found.generate_link(timedelta(1)) == "http://files.example/a/report.pdf"


@pytest.mark.parametrize("header", ['attachment; filename="theirs.pdf"', "attachment; FILENAME=theirs.pdf; x=1"])
async def test_the_servers_file_name_counts_where_the_reference_has_none(header: str) -> None:
    found, _ = external(reply(("Content-Disposition", header)))
    await found.read()
    assert found.metadata.file_name == "theirs.pdf"
    assert found.metadata.size == -1


async def test_else_a_file_name_is_made_up_with_the_subtype_as_its_ending() -> None:
    found, _ = external(reply(("content-type", "image/png; a=b")))
    await found.read()
    name, _, ending = (found.metadata.file_name or "").partition(".")
    assert uuid.UUID(name)
    assert ending == "png"


async def test_an_error_status_carries_the_response() -> None:
    found, _ = external((404, {"why": "gone"}))
    with pytest.raises(HttpStatusError) as caught:
        await found.read()
    assert caught.value.code == "404"
    assert caught.value.variables is not None
    assert caught.value.variables["response"]["body"] == {"why": "gone"}
    assert "Content-Type" in caught.value.variables["response"]["headers"]


async def test_without_a_client_nothing_external_is_fetched(documents: Documents) -> None:
    found = documents.resolve({"camunda.document.type": "external", "url": "http://x.example/"})
    with pytest.raises(InvalidReference, match="cannot be fetched here"):
        await found.read()


# ---- references ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"camunda.document.type": "s3cr3t"}, "camunda.document.type: expected camunda, external or inline"),
        ({"camunda.document.type": None}, "camunda.document.type: expected camunda, external or inline"),
        ({"camunda.document.type": "camunda"}, "documentId: expected text, but got null"),
        ({"camunda.document.type": "camunda", "documentId": 55}, "documentId: expected text, but got int"),
        (
            {"camunda.document.type": "camunda", "documentId": "d", "metadata": "s3cr3t"},
            "metadata: expected an object, but got str",
        ),
        ({"camunda.document.type": "external"}, "url: expected text, but got null"),
        ({"camunda.document.type": "inline"}, "content: expected text, but got null"),
    ],
)
def test_a_wrong_reference_names_the_member_and_not_its_value(
    documents: Documents, reference: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidReference) as caught:
        documents.resolve(reference)
    assert str(caught.value) == message


async def test_documents_are_equal_by_reference_and_tell_little_of_themselves(documents: Documents) -> None:
    one = documents.resolve({"camunda.document.type": "inline", "content": "s3cr3t", "name": "n"})
    assert one == documents.resolve(one.reference())
    assert one != documents.resolve({"camunda.document.type": "inline", "content": "other", "name": "n"})
    assert one != one.reference()
    assert "s3cr3t" not in repr(one)


# ---- how results are written -----------------------------------------------------------------------------------------


class Reply(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    file_id: int = Field(alias="fileId")
    attachment: Document | None = None


@dataclass
class Plain:
    x: int


async def test_models_are_written_by_alias_with_documents_as_references(documents: Documents) -> None:
    document = documents.resolve({"camunda.document.type": "inline", "content": "x", "name": "n"})
    model = Reply(file_id=5, attachment=document)
    expected = {"fileId": 5, "attachment": document.reference()}
    assert jsontext.loads(jsontext.dumps(model, default)) == expected
    assert jsontext.loads(model.model_dump_json(by_alias=True)) == expected
    assert jsontext.loads(jsontext.dumps([{"a": model}], default)) == [{"a": expected}]


def test_other_values_have_their_usual_forms() -> None:
    value = [b"\x00", {1}, (2,), timedelta(hours=26), Decimal("1.50"), Plain(3), {"n": None}]
    assert jsontext.dumps(value, default) == '["AA==",[1],[2],"PT26H",1.50,{"x":3},{"n":null}]'
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        jsontext.dumps(object(), default)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "PT0S"),
        (timedelta(days=1, hours=2), "PT26H"),
        (timedelta(seconds=90.5), "PT1M30.5S"),
        (timedelta(microseconds=1), "PT0.000001S"),
        (-timedelta(hours=1, seconds=1), "PT-1H-1S"),
        (timedelta(minutes=5), "PT5M"),
    ],
)
def test_durations_are_written_as_java_does(duration: timedelta, text: str) -> None:
    assert iso_duration(duration) == text


def test_expressions_see_a_document_as_its_reference() -> None:
    document, _ = external(reply(), name="report.pdf")
    assert feel.evaluate("d.name", {"d": document}) == "report.pdf"
    assert feel.to_json(feel.evaluate("{all: [d]}", {"d": document})) == {"all": [document.reference()]}
