"""How a payload comes back to the process: as a document, as text or as JSON, by the user's choice.

The choice is the variable `documentReturnFormat`, read from the raw variables (Camunda docs, "Document return format").
"""

import inspect
from collections.abc import AsyncIterator
from typing import Any

import structlog

from gateway import jsontext, sdk
from gateway.documents import OCTET_STREAM, Documents
from gateway.sdk import DocumentReturn, DocumentReturnFormat

log = structlog.get_logger(__name__)

MAX_INLINE = 1_572_864
_VARIABLE = "documentReturnFormat"
_CHOICES = ("DOCUMENT", "TEXT", "JSON")


def requested(raw_variables: str) -> DocumentReturnFormat | None:
    """The user's choice, None where the template has none. Raises ConnectorInputException for an unknown one."""
    if _VARIABLE not in raw_variables:
        return None
    try:
        found = jsontext.loads(raw_variables)[_VARIABLE]
        choice = found["choice"]
    except (jsontext.InvalidJson, KeyError, TypeError):
        return None
    if choice is None or (isinstance(choice, str) and not choice.strip()):
        return None
    if choice not in _CHOICES:
        raise sdk.ConnectorInputException(
            f"documentReturnFormat.choice must be one of DOCUMENT, TEXT, JSON. Got: {choice}"
        )
    encoding = found.get("encoding")
    return DocumentReturnFormat(choice, encoding if isinstance(encoding, str) and encoding.strip() else "UTF-8")


async def convert(payload: DocumentReturn, chosen: DocumentReturnFormat | None, documents: Documents) -> Any:
    """The connector's response with the payload in the form that the user chose. The payload is closed on every path."""
    try:
        if chosen is None:
            raise sdk.ConnectorException(
                "The response holds a payload, but no return format was chosen: the element template lacks the "
                "documentReturnFormat dropdown, or 'documentReturnFormat' is not among the input variables"
            )
        if chosen.choice == "DOCUMENT":
            document = await documents.create(
                payload.content, content_type=payload.content_type or OCTET_STREAM, file_name=payload.file_name
            )
            return payload.wrap(document, chosen.choice)
        data = await _inline(payload.content, chosen.choice)
        value = _text(data, chosen.encoding) if chosen.choice == "TEXT" else _json(data)
        return payload.wrap(value, chosen.choice)
    finally:
        await _close(payload.content)


async def _close(content: Any) -> None:
    close = getattr(content, "aclose", None) or getattr(content, "close", None)
    if close is None:
        return
    try:
        closed = close()
        if inspect.isawaitable(closed):
            await closed
    except Exception as e:  # it was read already, or its error is on the way
        log.debug("a payload could not be closed", error=type(e).__name__)


async def _inline(content: bytes | AsyncIterator[bytes], choice: str) -> bytes:
    data = bytearray()
    if isinstance(content, (bytes, bytearray, memoryview)):
        data += content
    else:
        try:
            async for chunk in content:
                data += chunk
                if len(data) > MAX_INLINE:
                    break
        except Exception as e:
            raise sdk.ConnectorException(f"Failed to read payload for document response conversion: {e}") from e
    if len(data) > MAX_INLINE:
        raise sdk.ConnectorException(
            f"{'Text' if choice == 'TEXT' else 'Json'} response payload exceeds the inline variable size limit of 1.5 MiB. "
            "Choose 'Document reference' as the return format to store it as a document."
        )
    return bytes(data)


def _text(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding, "replace")
    except (LookupError, ValueError):
        raise sdk.ConnectorInputException(f"documentReturnFormat.encoding is not a known charset: {encoding}") from None


def _json(data: bytes) -> Any:
    if not data.strip():
        raise sdk.ConnectorException("JSON response format selected but payload was empty or could not be parsed.")
    try:
        return jsontext.loads(data.decode())
    except (UnicodeDecodeError, jsontext.InvalidJson) as e:
        raise sdk.ConnectorException(f"JSON response format selected but payload is not valid JSON: {e}") from None
