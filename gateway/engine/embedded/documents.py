"""Documents in memory, with metadata, SHA-256 and an end of life."""

import hashlib
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway import engine as port

if TYPE_CHECKING:
    from gateway.engine.embedded.execution import Execution

MAX_BYTES = 100 * 1024 * 1024
"""The largest document; memory is what it costs."""

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Document:
    content: bytes
    content_hash: str


class Documents:
    def __init__(self, store_id: str, execution: "Execution") -> None:
        self._store_id = store_id
        self._execution = execution
        self._documents: dict[str, _Document] = {}

    async def create(
        self,
        content: bytes | AsyncIterator[bytes],
        content_type: str,
        file_name: str | None,
        time_to_live_ms: int | None,
        custom_properties: Mapping[str, Any] | None,
    ) -> port.StoredDocument:
        data = await _collect(content)
        document_id, digest = str(uuid.uuid4()), hashlib.sha256(data).hexdigest()
        metadata: dict[str, Any] = {
            "contentType": content_type,
            "fileName": file_name or document_id,
            "size": len(data),
            "customProperties": dict(custom_properties or {}),
        }
        if time_to_live_ms is not None:
            expires_ms = self._execution.clock.now_ms() + time_to_live_ms
            metadata["expiresAt"] = datetime.fromtimestamp(expires_ms / 1000, UTC).isoformat(timespec="milliseconds")
            self._execution.after(time_to_live_ms, partial(self._expire, document_id))
        self._documents[document_id] = _Document(data, digest)
        return port.StoredDocument(document_id, self._store_id, digest, metadata)

    async def read(self, document_id: str, store_id: str | None, content_hash: str | None) -> AsyncIterator[bytes]:
        content = self._find(document_id, store_id, content_hash).content
        for at in range(0, len(content), _CHUNK):
            yield content[at : at + _CHUNK]

    def delete(self, document_id: str, store_id: str | None) -> None:
        self._find(document_id, store_id, None)
        del self._documents[document_id]

    def link(self, document_id: str, store_id: str | None, content_hash: str | None) -> str:
        """Nothing serves links here: this engine is no server."""
        self._find(document_id, store_id, content_hash)
        raise port.Unimplemented("The in-memory document store makes no links: read the document instead")

    def _find(self, document_id: str, store_id: str | None, content_hash: str | None) -> _Document:
        if store_id is not None and store_id != self._store_id:
            raise port.NotFound(f"Document store '{store_id}' not found")
        document = self._documents.get(document_id)
        if document is None:
            raise port.NotFound(f"Document with id '{document_id}' not found")
        if content_hash is not None and content_hash != document.content_hash:
            raise port.InvalidArgument(f"The content hash of document '{document_id}' is not the given one")
        return document

    def _expire(self, document_id: str) -> None:
        self._documents.pop(document_id, None)


async def _collect(content: bytes | AsyncIterator[bytes]) -> bytes:
    if isinstance(content, bytes):
        parts, size = [content], len(content)
    else:
        parts, size = [], 0
        async for part in content:
            parts.append(part)
            size += len(part)
            if size > MAX_BYTES:
                break
    if size > MAX_BYTES:
        raise port.InvalidArgument(f"The document is larger than the maximum of {MAX_BYTES} bytes")
    return b"".join(parts)
