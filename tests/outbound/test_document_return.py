"""How a payload comes back: as a document, as text or as JSON, by the user's choice."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.documents import Document, Documents, EngineStore
from gateway.engine.embedded import EmbeddedEngine
from gateway.outbound.document_return import MAX_INLINE, convert, requested
from gateway.sdk import ConnectorException, ConnectorInputException, DocumentReturn, DocumentReturnFormat

DOCUMENT, TEXT, JSON = (DocumentReturnFormat(choice) for choice in ("DOCUMENT", "TEXT", "JSON"))


@pytest.fixture
async def documents() -> AsyncIterator[Documents]:
    engine = EmbeddedEngine()
    yield Documents(EngineStore(engine))
    await engine.close()


class Payload:
    """An asynchronous source that knows whether it was closed, and how much of it was read."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.chunks = list(chunks)
        self.error = error
        self.read = 0
        self.closed = False

    def __aiter__(self) -> "Payload":
        return self

    async def __anext__(self) -> bytes:
        if self.chunks:
            self.read += 1
            return self.chunks.pop(0)
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


def returned(content: Any, content_type: str | None = "text/plain", name: str | None = "a.txt") -> DocumentReturn:
    return DocumentReturn(content, content_type, name, lambda value, choice: {"value": value, "choice": choice})


# ---- the choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "chosen"),
    [
        ('{"documentReturnFormat":{"choice":"DOCUMENT"}}', DOCUMENT),
        ('{"documentReturnFormat":{"choice":"TEXT","encoding":null}}', TEXT),
        ('{"documentReturnFormat":{"choice":"TEXT","encoding":" "}}', TEXT),
        ('{"documentReturnFormat":{"choice":"TEXT","encoding":"UTF-16"}}', DocumentReturnFormat("TEXT", "UTF-16")),
        ('{"a":1}', None),
        ('{"documentReturnFormat":null}', None),
        ('{"documentReturnFormat":{}}', None),
        ('{"documentReturnFormat":{"choice":null}}', None),
        ('{"documentReturnFormat":{"choice":""}}', None),
        ('{"documentReturnFormat":"TEXT"}', None),
        ('{"x":"documentReturnFormat"}', None),
        ('{"documentReturnFormat"', None),
    ],
)
def test_the_choice_is_read_from_the_raw_variables(variables: str, chosen: DocumentReturnFormat | None) -> None:
    assert requested(variables) == chosen


@pytest.mark.parametrize(("choice", "shown"), [('"text"', "text"), ('"XML"', "XML"), ("5", "5"), ("{}", "{}")])
def test_any_other_choice_is_an_input_error(choice: str, shown: str) -> None:
    with pytest.raises(ConnectorInputException) as caught:
        requested(f'{{"documentReturnFormat":{{"choice":{choice}}}}}')
    assert str(caught.value) == f"documentReturnFormat.choice must be one of DOCUMENT, TEXT, JSON. Got: {shown}"


# ---- the three forms -------------------------------------------------------------------------------------------------


async def test_a_document_is_uploaded_with_its_type_and_name(documents: Documents) -> None:
    payload = Payload(b"a", b"b")
    found = await convert(returned(payload), DOCUMENT, documents)
    assert found["choice"] == "DOCUMENT"
    assert isinstance(found["value"], Document)
    assert await found["value"].read() == b"ab"
    assert (found["value"].metadata.content_type, found["value"].metadata.file_name) == ("text/plain", "a.txt")
    assert payload.closed


async def test_a_document_without_a_type_is_octets(documents: Documents) -> None:
    found = await convert(returned(b"x", None), DOCUMENT, documents)
    assert found["value"].metadata.content_type == "application/octet-stream"


@pytest.mark.parametrize(
    "content", [b"gr\xc3\xbc\xc3\x9fe", bytearray(b"gr\xc3\xbc\xc3\x9fe"), memoryview(b"gr\xc3\xbc\xc3\x9fe")]
)
async def test_text_is_decoded(documents: Documents, content: Any) -> None:
    assert await convert(returned(content), TEXT, documents) == {"value": "grüße", "choice": "TEXT"}


async def test_text_is_decoded_as_the_user_says_and_what_does_not_fit_is_replaced(documents: Documents) -> None:
    latin = DocumentReturnFormat("TEXT", "ISO-8859-1")
    assert (await convert(returned(b"\xfc"), latin, documents))["value"] == "ü"
    assert (await convert(returned(b"\xfc"), TEXT, documents))["value"] == "\ufffd"
    assert (await convert(returned(b""), TEXT, documents))["value"] == ""


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "undefined", "a\x00b"])
async def test_an_unknown_charset_is_an_input_error(documents: Documents, encoding: str) -> None:
    payload = Payload(b"x")
    with pytest.raises(ConnectorInputException, match=r"documentReturnFormat\.encoding"):
        await convert(returned(payload), DocumentReturnFormat("TEXT", encoding), documents)
    assert payload.closed


async def test_json_is_parsed(documents: Documents) -> None:
    found = await convert(returned(Payload(b'{"a": [1.', b"50, null]}")), JSON, documents)
    assert str(found["value"]["a"][0]) == "1.50"
    assert found["choice"] == "JSON"


@pytest.mark.parametrize("content", [b"", b" \n"])
async def test_json_of_nothing_is_a_connector_error_without_a_code(documents: Documents, content: bytes) -> None:
    with pytest.raises(ConnectorException, match=r"^JSON response format selected but payload was empty") as caught:
        await convert(returned(content), JSON, documents)
    assert caught.value.code is None


@pytest.mark.parametrize("content", [b"{", b"\xff", b"NaN", b"[1] [2]"])
async def test_what_is_no_json_is_a_connector_error(documents: Documents, content: bytes) -> None:
    with pytest.raises(ConnectorException, match="payload is not valid JSON") as caught:
        await convert(returned(content), JSON, documents)
    assert caught.value.code is None


# ---- limits and ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chosen", "name"), [(TEXT, "Text"), (JSON, "Json")])
async def test_text_and_json_have_a_limit_and_not_much_more_is_read(
    documents: Documents, chosen: DocumentReturnFormat, name: str
) -> None:
    payload = Payload(*[b"1" * 100_000] * 100)
    with pytest.raises(ConnectorException) as caught:
        await convert(returned(payload), chosen, documents)
    message = f"{name} response payload exceeds the inline variable size limit of 1.5 MiB. "
    assert str(caught.value).startswith(message)
    assert payload.read == MAX_INLINE // 100_000 + 1
    assert payload.closed


async def test_the_limit_itself_passes_and_documents_have_none(documents: Documents) -> None:
    assert len((await convert(returned(b"x" * MAX_INLINE), TEXT, documents))["value"]) == MAX_INLINE
    big = await convert(returned(b"x" * (MAX_INLINE + 1)), DOCUMENT, documents)
    assert big["value"].metadata.size == MAX_INLINE + 1


async def test_without_a_choice_the_error_says_what_is_missing(documents: Documents) -> None:
    payload = Payload(b"x")
    with pytest.raises(ConnectorException, match="documentReturnFormat dropdown") as caught:
        await convert(returned(payload), None, documents)
    assert "input variables" in str(caught.value)
    assert payload.closed


@pytest.mark.parametrize("chosen", [TEXT, JSON])
async def test_a_payload_that_breaks_is_a_connector_error(documents: Documents, chosen: DocumentReturnFormat) -> None:
    payload = Payload(b"x", error=OSError("line cut"))
    with pytest.raises(ConnectorException, match=r"^Failed to read payload .*: line cut$"):
        await convert(returned(payload), chosen, documents)
    assert payload.closed


@pytest.mark.parametrize("close", ["aclose", "close"])
async def test_a_payload_is_closed_however_it_is_done_and_its_trouble_is_no_failure(
    documents: Documents, close: str
) -> None:
    closed: list[str] = []

    class Source(Payload):
        aclose = None  # type: ignore[assignment]

    async def done() -> None:
        closed.append(close)
        raise OSError("closed already")

    source = Source(b"x")
    setattr(source, close, done if close == "aclose" else lambda: closed.append(close))
    assert (await convert(returned(source), TEXT, documents))["value"] == "x"
    assert closed == [close]


async def test_a_payload_is_closed_when_the_wrapping_fails(documents: Documents) -> None:
    def refuse(value: Any, choice: str) -> Any:
        raise ValueError("no")

    payload = Payload(b"x")
    with pytest.raises(ValueError, match="no"):
        await convert(DocumentReturn(payload, None, None, refuse), TEXT, documents)
    assert payload.closed
