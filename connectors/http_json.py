"""HTTP REST: one HTTP call, as the process describes it (Camunda docs, "REST connector").

Two dozen element templates of other products are nothing but this connector with prepared inputs.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

from connectors._rest import RestRequest, prepare, result
from gateway.documents import OCTET_STREAM, Document
from gateway.http_client import HttpError, HttpInputError, HttpResponse
from gateway.sdk import ConnectorException, ConnectorInputException, DocumentReturn, JobContext, outbound_connector

_NO_CONTENT: Final = frozenset({204, 304})


@outbound_connector("HTTP REST", type="io.camunda:http-json:1")
async def http_json(request: RestRequest, job: JobContext) -> dict[str, Any] | DocumentReturn:
    """Sends one HTTP request. The response is `{status, headers, body, reason, document}`; 400 and above is an error."""
    try:
        prepared = await prepare(request, job.http, max_pause=job.remaining)
        response = await job.http.open(prepared)
        try:
            if response.status >= 400:
                (await response.read()).raise_for_status()
            if job.document_return_format is not None:
                return _payload(response)
            if request.storeResponse:
                return result(response, document=await _store(response, job))
            reply = await response.read()
            return result(response, body=reply.readable())
        except BaseException:
            response.close()
            raise
    except HttpInputError as e:
        raise ConnectorInputException(str(e)) from None
    except HttpError as e:
        raise ConnectorException(str(e), code=e.code, variables=e.variables) from None


class _Content:
    """The body of a response as it comes; closing it closes the response."""

    def __init__(self, response: HttpResponse) -> None:
        self._response = response
        self._chunks = response.stream()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        await self._chunks.aclose()
        self._response.close()


def _payload(response: HttpResponse) -> DocumentReturn:
    def wrap(value: Any, choice: str) -> dict[str, Any]:
        return result(response, document=value) if choice == "DOCUMENT" else result(response, body=value)

    return DocumentReturn(_Content(response), response.headers.get("content-type"), None, wrap)


async def _store(response: HttpResponse, job: JobContext) -> Document | None:
    """The body as a new document; None for an answer that cannot have one."""
    if response.status in _NO_CONTENT:
        response.close()
        return None
    kind = response.headers.get("content-type") or OCTET_STREAM
    try:
        return await job.documents.create(_Content(response), content_type=kind)
    except HttpError:
        raise
    except Exception as e:
        message = f"Error while executing an HTTP request: Failed to create document: {e}"
        raise ConnectorException(message, code="500") from e
    finally:
        response.close()
