"""A REST call as a process describes it: what HTTP REST and HTTP polling have in common (Camunda docs, "REST connector")."""

import base64
import secrets
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import regex
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from gateway.documents import OCTET_STREAM, Document
from gateway.http_client import (
    CREDENTIALS,
    ClientCredentials,
    HttpClient,
    HttpInputError,
    HttpRequest,
    HttpResponse,
    Part,
    RefreshToken,
    Url,
    access_token,
    encode_url,
    form_urlencode,
    json_bytes,
    multipart,
    tls_material,
    verbatim_url,
)
from gateway.sdk import ConnectorInputException, NotBlank

DEFAULT_TIMEOUT: Final = 20
EMPTY_PASSWORD: Final = "SPEC_PASSWORD_EMPTY_PATTERN"  # noqa: S105 - the marker that templates send for an empty one
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_NOTHING: Final = "text/plain; charset=UTF-8"  # the content type of no body
_HTTP_URL = regex.compile(r"=|(?:http://|https://|secrets|\{\{)[^\n\r\u0085\u2028\u2029]*")
_CHARSET = regex.compile(r";\s*charset\s*=\s*\"?([^\";\s]+)", regex.IGNORECASE)
_BOUNDARY = regex.compile(r";\s*boundary\s*=\s*(?:\"([^\"]+)\"|([^\";\s]+))", regex.IGNORECASE)

# ---- inputs ----------------------------------------------------------------------------------------------------------


def _http_url(value: str) -> str:
    if value and not _HTTP_URL.fullmatch(value):
        raise PydanticCustomError("http_url", "Must be a http(s) URL")
    return value


Seconds = Annotated[int, Field(ge=0)]
NotEmpty = Annotated[str, Field(min_length=1)]
HttpUrl = Annotated[str, Field(min_length=1), AfterValidator(_http_url)]


class HttpMethod(StrEnum):
    POST = "POST"
    GET = "GET"
    DELETE = "DELETE"
    PATCH = "PATCH"
    PUT = "PUT"


class ApiKeyLocation(StrEnum):
    QUERY = "query"
    HEADERS = "headers"


class NoAuthentication(BaseModel):
    type: Literal["noAuth"]


class BasicAuthentication(BaseModel):
    type: Literal["basic"]
    username: NotEmpty
    password: str | None = Field(default=None, repr=False)


class BearerAuthentication(BaseModel):
    type: Literal["bearer"]
    token: NotEmpty = Field(repr=False)


class ApiKeyAuthentication(BaseModel):
    type: Literal["apiKey"]
    apiKeyLocation: ApiKeyLocation  # noqa: N815 - the variable's own name, here and below
    name: NotEmpty
    value: NotEmpty = Field(repr=False)


class ClientCredentialsAuthentication(BaseModel):
    type: Literal["oauth-client-credentials-flow"]
    oauthTokenEndpoint: HttpUrl  # noqa: N815
    clientId: NotEmpty  # noqa: N815
    clientSecret: NotEmpty = Field(repr=False)  # noqa: N815
    audience: str | None = None
    clientAuthentication: NotEmpty  # noqa: N815
    scopes: str | None = None


class RefreshTokenAuthentication(BaseModel):
    type: Literal["oauth-refresh-token"]
    oauthTokenEndpoint: HttpUrl  # noqa: N815
    clientId: NotEmpty  # noqa: N815
    clientSecret: str | None = Field(default=None, repr=False)  # noqa: N815
    refreshToken: NotEmpty = Field(repr=False)  # noqa: N815
    scopes: str | None = None


Authentication = Annotated[
    NoAuthentication
    | BasicAuthentication
    | BearerAuthentication
    | ApiKeyAuthentication
    | ClientCredentialsAuthentication
    | RefreshTokenAuthentication,
    Field(discriminator="type"),
]


class AuthenticationConfiguration(BaseModel):
    """A credential bound from outside of the process; it wins over the inline one as a whole."""

    authentication: Authentication | None = None


class ClientTls(BaseModel):
    """PEM text."""

    clientCertificate: str | None = None  # noqa: N815
    clientPrivateKey: str | None = Field(default=None, repr=False)  # noqa: N815
    privateKeyPassword: str | None = Field(default=None, repr=False)  # noqa: N815
    trustedCertificate: str | None = None  # noqa: N815


class RestRequest(BaseModel):
    """The variables of a call, in the order in which they are asked for. What becomes of the answer is the connector's business."""

    url: Annotated[NotBlank, AfterValidator(_http_url)]
    method: HttpMethod
    authentication: Authentication | None = None
    clientTls: ClientTls | None = None  # noqa: N815
    headers: dict[str, str | None] | None = None
    queryParameters: dict[str, str | None] | None = None  # noqa: N815
    skipEncoding: str | None = None  # noqa: N815
    connectionTimeoutInSeconds: Seconds | None = None  # noqa: N815
    readTimeoutInSeconds: Seconds | None = None  # noqa: N815
    body: Any = None
    storeResponse: bool = False  # noqa: N815
    documentReturnFormat: Any = None  # noqa: N815
    groupSetCookieHeaders: Any = None  # noqa: N815
    ignoreNullValues: bool = False  # noqa: N815
    followRedirects: bool = False  # noqa: N815
    authenticationConfiguration: AuthenticationConfiguration | None = None  # noqa: N815

    @property
    def credential(self) -> Any:
        """The authentication that counts, None for none."""
        if self.authenticationConfiguration is not None:
            return self.authenticationConfiguration.authentication
        return self.authentication


# ---- request ---------------------------------------------------------------------------------------------------------


async def prepare(request: RestRequest, http: HttpClient, *, max_pause: float) -> HttpRequest:
    """The request to send; fetches a token where one is wanted. max_pause: seconds that a busy server may ask to wait.

    Raises HttpError, ConnectorInputException.
    """
    credential = request.credential
    url = _url(request, credential)
    http.settings.blocked.check(url, request.url)
    await _verify(url, http)
    headers = await _authorization(credential, http)
    tls = request.clientTls or ClientTls()
    connect = request.connectionTimeoutInSeconds
    read = request.readTimeoutInSeconds
    entity = await _entity(request)
    return HttpRequest(
        request.method,
        url,
        (*headers, *entity.headers),
        entity.body,
        entity_type=entity.type,
        connect_timeout=connect if connect is not None else DEFAULT_TIMEOUT,
        read_timeout=read if read is not None else connect if connect is not None else DEFAULT_TIMEOUT,
        tls=tls_material(tls.clientCertificate, tls.clientPrivateKey, tls.privateKeyPassword, tls.trustedCertificate),
        follow_redirects=request.followRedirects,
        credentials=CREDENTIALS | {name.lower() for name, _ in headers},
        max_pause=max_pause,
    )


def _url(request: RestRequest, credential: Any) -> Url:
    parameters = list((request.queryParameters or {}).items())
    if isinstance(credential, ApiKeyAuthentication) and credential.apiKeyLocation is ApiKeyLocation.QUERY:
        parameters.insert(0, (credential.name, credential.value))
    write = verbatim_url if request.skipEncoding == "true" else encode_url
    return write(request.url, parameters)


async def _verify(url: Url, http: HttpClient) -> None:
    """The optional check of the host, in the words of the validation that it is part of."""
    try:
        await http.verify_host(url.host)
    except HttpInputError as e:
        raise ConnectorInputException(
            "jakarta.validation.ValidationException: Found constraints violated while validating input: \n"
            f" - Property: url: Validation failed. Original message: {e}"
        ) from None


async def _authorization(credential: Any, http: HttpClient) -> list[tuple[str, str]]:
    """The header that authenticates the request, if it is a header."""
    match credential:
        case BasicAuthentication(username=user, password=password):
            known = password if password is not None and password != EMPTY_PASSWORD else ""
            return [("Authorization", "Basic " + base64.b64encode(f"{user}:{known}".encode()).decode())]
        case BearerAuthentication(token=token):
            return [("Authorization", f"Bearer {token}")]
        case ApiKeyAuthentication(apiKeyLocation=ApiKeyLocation.HEADERS, name=name, value=value):
            return [(name, value)]
        case ClientCredentialsAuthentication() as c:
            grant = ClientCredentials(
                c.oauthTokenEndpoint, c.clientId, c.clientSecret, c.audience, c.scopes, c.clientAuthentication
            )
            return [("Authorization", f"Bearer {await access_token(http, grant)}")]
        case RefreshTokenAuthentication() as r:
            refresh = RefreshToken(r.oauthTokenEndpoint, r.clientId, r.clientSecret, r.refreshToken, r.scopes)
            return [("Authorization", f"Bearer {await access_token(http, refresh)}")]
    return []


# ---- headers and body ------------------------------------------------------------------------------------------------


class _Entity:
    """The user's headers, and the body with the type that the client adds after its length."""

    def __init__(self, headers: Iterable[tuple[str, str]], body: bytes | None = None, kind: str | None = None) -> None:
        self.headers = tuple(headers)
        self.body = body
        self.type = kind


async def _entity(request: RestRequest) -> _Entity:
    given = [(n, v) for n, v in (request.headers or {}).items() if v is not None or n.lower() != "content-type"]
    headers = [(name, value or "") for name, value in given]
    if request.method not in _WITH_BODY:
        return _Entity(headers)
    kind = next((value for name, value in headers if name.lower() == "content-type"), None)
    mime = (kind or "").partition(";")[0].strip().lower()
    if mime == "multipart/form-data":
        return await _multipart(headers, kind or "", request)
    if request.body is None:
        return _Entity(headers, b"", _NOTHING)
    if kind is None:
        headers.insert(0, ("Content-Type", "application/json"))
    if mime == "application/x-www-form-urlencoded" and isinstance(request.body, dict):
        return _Entity(headers, form_urlencode([(n, await _form_text(v)) for n, v in request.body.items()]))
    return _Entity(headers, await _plain(request, kind))


async def _plain(request: RestRequest, kind: str | None) -> bytes:
    """Text as it is, anything else as JSON, in the charset of the content type."""
    match = _CHARSET.search(kind or "")
    charset = match[1] if match else "UTF-8"
    if isinstance(request.body, str):
        return _encoded(request.body, charset)
    content = await _json(_without_nulls(request.body) if request.ignoreNullValues else request.body)
    return content if charset.upper() == "UTF-8" else _encoded(content.decode(), charset)


def _encoded(text: str, charset: str) -> bytes:
    try:
        return text.encode(charset, "replace")
    except LookupError:
        raise ConnectorInputException(f"headers: Content-Type names an unknown charset: {charset}") from None


async def _json(value: Any) -> bytes:
    """JSON with the content of documents as base64 text."""
    unread: list[Document] = []

    def content_of(item: Any) -> Any:
        if not isinstance(item, Document):
            raise TypeError(f"{type(item).__name__} cannot be written as JSON")
        if item.content is None:
            unread.append(item)
            return None
        return base64.b64encode(item.content).decode()

    written = json_bytes(value, content_of)
    if not unread:
        return written
    for document in unread:
        await document.read()
    return json_bytes(value, content_of)


def _without_nulls(value: Any) -> Any:
    """Without the null members of objects, at every depth; items of lists stay."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value


async def _multipart(headers: list[tuple[str, str]], kind: str, request: RestRequest) -> _Entity:
    match = _BOUNDARY.search(kind)
    others = headers if match else [(n, v) for n, v in headers if n.lower() != "content-type"]
    if request.body is None:
        return _Entity(others, b"", _NOTHING)
    if not isinstance(request.body, dict):
        return _Entity(others, await _plain(request, kind), kind)
    boundary = (match[1] or match[2]) if match else f"boundary_{secrets.token_hex(16)}"
    parts = [part for name, value in request.body.items() for part in await _parts(name, value)]
    return _Entity(others, multipart(parts, boundary), f"multipart/form-data; boundary={boundary}")


async def _parts(name: str, value: Any) -> list[Part]:
    """A document is a file, a list as many parts as it has items; null and objects are left out."""
    found: list[Part] = []
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, Document):
            found.append(await _file(name, item))
        elif item is not None and not isinstance(item, dict):
            found.append(Part(name, _text(item).encode()))
    return found


async def _file(name: str, document: Document) -> Part:
    content = await document.read()  # first: of an external document the name and type are known then
    kind, file_name = (document.metadata.content_type or "").strip(), document.metadata.file_name
    if file_name is None:
        return Part(name, content)
    return Part(name, content, file_name, OCTET_STREAM if not kind or ";" in kind else kind)


async def _form_text(value: Any) -> str | None:
    if isinstance(value, Document):
        return await value.base64()
    return None if value is None else _text(value)


def _text(value: Any) -> str:
    """A value as text, lists and objects as Java prints them."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_text(v) for v in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k}={_text(v)}' for k, v in value.items())}}}"
    return str(value) if isinstance(value, int) else _fraction(float(value))


def _fraction(value: float) -> str:
    """A double as Java prints it: `1.5`, `100.0`, `1.0E7`, `1.5E-4`."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return str(value)
    digits, _, exponent = f"{Decimal(repr(value)).normalize():E}".partition("E")
    return f"{digits if '.' in digits else digits + '.0'}E{int(exponent)}"


# ---- response --------------------------------------------------------------------------------------------------------


def result(response: HttpResponse, *, body: Any = None, document: Document | None = None) -> dict[str, Any]:
    """The answer as a process sees it."""
    return {
        "status": response.status,
        "headers": response.headers.grouped(),
        "body": body,
        "reason": response.reason,
        "document": document,
    }
