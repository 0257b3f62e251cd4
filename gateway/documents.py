"""Documents: large content that processes carry as references, not as values.

A reference is a JSON object with the key `camunda.document.type` (`camunda`, `external`, `inline`). Binding turns it into a
`Document`, whose content is fetched only when it is read. New documents go to a `DocumentStore`: the engine's, or memory.
"""

import base64
import mimetypes
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from pydantic_core import core_schema

from gateway import jsontext
from gateway.engine import Queries, StoredDocument

DOCUMENT_TYPE = "camunda.document.type"
OCTET_STREAM = "application/octet-stream"


class InvalidReference(ValueError):  # noqa: N818 - reads as what it is
    """An object says that it is a document, but is none; the text names the member."""


@dataclass(frozen=True, slots=True)
class DocumentMetadata:
    """What is known of a document without reading it. size: bytes, -1 when unknown."""

    content_type: str | None = None
    file_name: str | None = None
    size: int = -1
    expires_at: str | None = None
    process_definition_id: str | None = None
    process_instance_key: int | None = None
    custom_properties: Mapping[str, Any] = field(default_factory=dict)


class Document:
    """A document by reference. Equal documents have equal references."""

    __slots__ = ("_content", "_link", "_open", "_reference", "metadata")

    def __init__(
        self,
        reference: dict[str, Any],
        metadata: DocumentMetadata,
        open_content: Callable[[], AsyncIterator[bytes]],
        link: Callable[[timedelta | None], Awaitable[str]] | None = None,
    ) -> None:
        self.metadata = metadata
        self._reference = reference
        self._open = open_content
        self._link = link
        self._content: bytes | None = None

    def __repr__(self) -> str:
        return f"<Document {self._reference.get(DOCUMENT_TYPE)} {self.metadata.file_name or ''}>"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Models may have fields of this type; they are written as the reference."""
        return core_schema.is_instance_schema(
            cls, serialization=core_schema.plain_serializer_function_ser_schema(cls.reference, when_used="json")
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Document) and other._reference == self._reference

    __hash__ = None  # type: ignore[assignment]

    def reference(self) -> dict[str, Any]:
        """The JSON object that stands for this document in variables."""
        return self._reference

    __feel__ = reference  # what expressions see

    @property
    def content(self) -> bytes | None:
        """What was read before, None when nothing was."""
        return self._content

    async def read(self) -> bytes:
        """The whole content; fetched once for this object. Raises what the store or the server raises."""
        if self._content is None:
            self._content = b"".join([chunk async for chunk in self._open()])
        return self._content

    async def stream(self) -> AsyncIterator[bytes]:
        """The content in chunks, without keeping it."""
        if self._content is not None:
            yield self._content
            return
        async for chunk in self._open():
            yield chunk

    async def base64(self) -> str:
        """The content as standard base64 text."""
        return base64.b64encode(await self.read()).decode()

    async def generate_link(self, time_to_live: timedelta | None = None) -> str:
        """A URL at which the content can be fetched for a time. ValueError for inline documents, which have none."""
        if self._link is None:
            raise ValueError("an inline document has no link")
        return await self._link(time_to_live)


class DocumentStore(Protocol):
    """Where new documents go."""

    async def create(
        self,
        content: bytes | AsyncIterator[bytes],
        *,
        content_type: str,
        file_name: str | None,
        time_to_live: timedelta | None,
        custom_properties: Mapping[str, Any] | None,
    ) -> StoredDocument: ...

    def read(self, reference: Mapping[str, Any]) -> AsyncIterator[bytes]: ...

    async def delete(self, reference: Mapping[str, Any]) -> None: ...

    async def link(self, reference: Mapping[str, Any], time_to_live: timedelta | None) -> str: ...


class EngineStore:
    """The document store behind the engine's REST API (`/v2/documents`)."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def create(
        self,
        content: bytes | AsyncIterator[bytes],
        *,
        content_type: str,
        file_name: str | None,
        time_to_live: timedelta | None,
        custom_properties: Mapping[str, Any] | None,
    ) -> StoredDocument:
        return await self._queries.create_document(
            content,
            content_type=content_type,
            file_name=file_name,
            time_to_live_ms=_milliseconds(time_to_live),
            custom_properties=custom_properties,
        )

    def read(self, reference: Mapping[str, Any]) -> AsyncIterator[bytes]:
        return self._queries.read_document(
            reference["documentId"], store_id=reference.get("storeId"), content_hash=reference.get("contentHash")
        )

    async def delete(self, reference: Mapping[str, Any]) -> None:
        await self._queries.delete_document(reference["documentId"], store_id=reference.get("storeId"))

    async def link(self, reference: Mapping[str, Any], time_to_live: timedelta | None) -> str:
        return await self._queries.create_document_link(
            reference["documentId"],
            store_id=reference.get("storeId"),
            content_hash=reference.get("contentHash"),
            time_to_live_ms=_milliseconds(time_to_live),
        )


def _milliseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds() * 1000)


class Download(Protocol):
    """The part of a streamed HTTP response that external documents need."""

    status: int
    reason: str
    headers: Any

    def stream(self) -> AsyncIterator[bytes]: ...


Fetch = Callable[[str], AbstractAsyncContextManager[Any]]
"""Opens a GET of a URL as a streamed response, through the one HTTP client with its guard; raises on an error status."""


class Documents:
    """Creates documents and resolves references. One for a runtime; `context.documents` of every connector."""

    def __init__(self, store: DocumentStore, fetch: Fetch | None = None) -> None:
        self._store = store
        self._fetch = fetch

    async def create(
        self,
        content: bytes | AsyncIterator[bytes],
        *,
        content_type: str = OCTET_STREAM,
        file_name: str | None = None,
        time_to_live: timedelta | None = None,
        custom_properties: Mapping[str, Any] | None = None,
    ) -> Document:
        """Uploads content and returns its document. Raises EngineError when the store does not take it."""
        stored = await self._store.create(
            content,
            content_type=content_type,
            file_name=file_name,
            time_to_live=time_to_live,
            custom_properties=custom_properties,
        )
        reference: dict[str, Any] = {
            DOCUMENT_TYPE: "camunda",
            "storeId": stored.store_id,
            "documentId": stored.document_id,
            "contentHash": stored.content_hash,
            "metadata": {k: v for k, v in stored.metadata.items() if v not in (None, {}, [], "")},
        }
        return self.resolve({k: v for k, v in reference.items() if v is not None})

    def resolve(self, reference: Mapping[str, Any]) -> Document:
        """The document of a reference object. InvalidReference names the member that is missing or wrong."""
        kind = reference.get(DOCUMENT_TYPE)
        if kind == "camunda":
            return self._stored(dict(reference))
        if kind == "external":
            return self._external(dict(reference))
        if kind == "inline":
            return _inline(dict(reference))
        raise InvalidReference(f"{DOCUMENT_TYPE}: expected camunda, external or inline")

    def _stored(self, reference: dict[str, Any]) -> Document:
        _needs_text(reference, "documentId")
        given = reference.get("metadata") or {}
        if not isinstance(given, Mapping):
            raise InvalidReference(f"metadata: expected an object, but got {type(given).__name__}")
        metadata = DocumentMetadata(
            content_type=given.get("contentType"),
            file_name=given.get("fileName"),
            size=given.get("size", -1),
            expires_at=given.get("expiresAt"),
            process_definition_id=given.get("processDefinitionId"),
            process_instance_key=given.get("processInstanceKey"),
            custom_properties=given.get("customProperties") or {},
        )
        return Document(
            reference,
            metadata,
            lambda: self._store.read(reference),
            lambda time_to_live: self._store.link(reference, time_to_live),
        )

    def _external(self, reference: dict[str, Any]) -> Document:
        url = _needs_text(reference, "url")

        async def link(_: timedelta | None) -> str:
            return url

        async def download() -> AsyncIterator[bytes]:
            if self._fetch is None:
                raise InvalidReference("url: external documents cannot be fetched here")
            async with self._fetch(url) as response:
                document.metadata = _external_metadata(reference.get("name"), response)
                async for chunk in response.stream():
                    yield chunk

        document = Document(reference, DocumentMetadata(file_name=reference.get("name")), download, link)
        return document


def _needs_text(reference: Mapping[str, Any], member: str) -> str:
    value = reference.get(member)
    if not isinstance(value, str):
        found = "null" if value is None else type(value).__name__
        raise InvalidReference(f"{member}: expected text, but got {found}")
    return value


_FILE_NAME = re.compile(r"filename=\"?([^\";]+)\"?", re.IGNORECASE)


def _external_metadata(name: str | None, response: Download) -> DocumentMetadata:
    headers = {str(k).lower(): v for k, v in response.headers.items()}
    kind, disposition = headers.get("content-type"), _FILE_NAME.search(headers.get("content-disposition", ""))
    if name is None and disposition:
        name = disposition[1]
    if name is None:
        subtype = (kind or "").partition("/")[2].partition(";")[0].strip()
        name = f"{uuid.uuid4()}.{subtype}" if subtype else str(uuid.uuid4())
    length = headers.get("content-length", "")
    return DocumentMetadata(content_type=kind, file_name=name, size=int(length) if length.isdigit() else -1)


def _inline(reference: dict[str, Any]) -> Document:
    content = reference.get("content")
    if content is None:
        raise InvalidReference("content: expected text, but got null")
    data = (content if isinstance(content, str) else jsontext.dumps(content)).encode()
    name = str(reference.get("name") or uuid.uuid4())
    kind = reference.get("contentType") or mimetypes.guess_type(name)[0] or OCTET_STREAM

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return Document(
        {k: v for k, v in reference.items() if v is not None},
        DocumentMetadata(content_type=kind, file_name=name, size=len(data)),
        chunks,
    )


def default(value: Any) -> Any:
    """How documents and connector results are written as JSON: a `default` for `jsontext.dumps`.

    Documents become their reference; pydantic models their fields by alias; bytes base64; dates ISO 8601.
    """
    if isinstance(value, Document):
        return value.reference()
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(by_alias=True)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, timedelta):
        return iso_duration(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def iso_duration(value: timedelta) -> str:
    """A duration as Java writes it: `PT26H`, `PT1.5S`, `PT0S`."""
    microseconds = value // timedelta(microseconds=1)
    sign, microseconds = ("-", -microseconds) if microseconds < 0 else ("", microseconds)
    seconds, fraction = divmod(microseconds, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{sign}{hours}H" if hours else ""
    text += f"{sign}{minutes}M" if minutes else ""
    if seconds or fraction or not text:
        decimals = f".{fraction:06d}".rstrip("0") if fraction else ""
        text += f"{sign}{seconds}{decimals}S"
    return f"PT{text}"
