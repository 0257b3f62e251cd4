"""Documents in memory."""

import hashlib
from collections.abc import AsyncIterator

import pytest

from gateway.engine import InvalidArgument, NotFound, Unimplemented


async def read(engine, document_id: str, **more: str) -> bytes:
    return b"".join([chunk async for chunk in engine.read_document(document_id, **more)])


async def test_a_document_is_stored_with_metadata_and_read_back_in_chunks(engine):
    content = bytes(range(256)) * 1000
    made = await engine.create_document(
        content, content_type="application/pdf", file_name="a.pdf", custom_properties={"k": 1}
    )
    assert made.content_hash == hashlib.sha256(content).hexdigest()
    assert made.metadata == {
        "contentType": "application/pdf",
        "fileName": "a.pdf",
        "size": 256_000,
        "customProperties": {"k": 1},
    }
    chunks = [
        chunk
        async for chunk in engine.read_document(
            made.document_id, store_id=made.store_id, content_hash=made.content_hash
        )
    ]
    assert len(chunks) > 1
    assert b"".join(chunks) == content


async def test_a_document_may_come_in_parts(engine):
    async def parts() -> AsyncIterator[bytes]:
        for part in (b"hello", b"", b" world"):
            yield part

    made = await engine.create_document(parts(), content_type="text/plain")
    assert await read(engine, made.document_id) == b"hello world"
    assert made.metadata["fileName"] == made.document_id


async def test_an_empty_document_is_one(engine):
    made = await engine.create_document(b"", content_type="text/plain")
    assert await read(engine, made.document_id) == b""


async def test_a_document_ends_with_its_time_to_live(engine):
    made = await engine.create_document(b"x", content_type="text/plain", time_to_live_ms=5000)
    assert made.metadata["expiresAt"] == "2023-11-14T22:13:25.000+00:00"
    await engine.advance(4.9)
    assert await read(engine, made.document_id) == b"x"
    await engine.advance(0.2)
    with pytest.raises(NotFound, match=made.document_id):
        await read(engine, made.document_id)


async def test_a_deleted_document_an_unknown_one_and_an_unknown_store_are_not_found(engine):
    made = await engine.create_document(b"x", content_type="text/plain")
    with pytest.raises(NotFound, match="'elsewhere'"):
        await engine.delete_document(made.document_id, store_id="elsewhere")
    await engine.delete_document(made.document_id)
    for missing in (engine.delete_document(made.document_id), read(engine, made.document_id), read(engine, "nope")):
        with pytest.raises(NotFound):
            await missing


async def test_a_wrong_hash_is_refused(engine):
    made = await engine.create_document(b"x", content_type="text/plain")
    with pytest.raises(InvalidArgument, match="hash"):
        await read(engine, made.document_id, content_hash="0" * 64)


async def test_there_are_no_links(engine):
    made = await engine.create_document(b"x", content_type="text/plain")
    with pytest.raises(Unimplemented, match="no links"):
        await engine.create_document_link(made.document_id)


async def test_a_document_above_the_limit_is_refused_before_it_has_been_read(engine, monkeypatch):
    monkeypatch.setattr("gateway.engine.embedded.documents.MAX_BYTES", 10)
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"xxxx"

    with pytest.raises(InvalidArgument, match="10 bytes"):
        await engine.create_document(endless(), content_type="text/plain")
    assert taken == 3
    with pytest.raises(InvalidArgument, match="10 bytes"):
        await engine.create_document(b"x" * 11, content_type="text/plain")
