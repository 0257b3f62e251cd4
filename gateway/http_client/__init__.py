"""The one HTTP client of the product: exact requests, guarded egress, bounded answers.

`HttpClient` is what connectors get as `job.http`. `HttpSettings.from_environment` reads what an operator can set. Connectors that
control every byte build an `HttpRequest` from `encode_url` or `verbatim_url`, form and multipart bodies, and `access_token`.
The errors are drawn as a tree in `gateway.http_client.errors`.
"""

from gateway.http_client.bodies import Part, json_bytes, multipart, readable, structure
from gateway.http_client.client import HttpClient, HttpResponse, HttpStatistics
from gateway.http_client.errors import (
    EgressDenied,
    HttpBlocked,
    HttpBodyError,
    HttpConnectionError,
    HttpError,
    HttpInputError,
    HttpProtocolError,
    HttpStatusError,
    HttpTimeout,
    HttpTlsError,
    InvalidHeader,
    InvalidUrl,
    MalformedUrl,
    OAuthError,
    ProxySettingsError,
    TlsMaterialError,
)
from gateway.http_client.guard import BlockList, EgressPolicy
from gateway.http_client.messages import CREDENTIALS, Headers, HttpReply, HttpRequest
from gateway.http_client.settings import HttpSettings, Proxy
from gateway.http_client.tls import TlsMaterial, tls_material
from gateway.http_client.tokens import ClientCredentials, RefreshToken, TokenCache, access_token
from gateway.http_client.urls import Url, encode_url, form_urlencode, verbatim_url

__all__ = [
    "CREDENTIALS",
    "BlockList",
    "ClientCredentials",
    "EgressDenied",
    "EgressPolicy",
    "Headers",
    "HttpBlocked",
    "HttpBodyError",
    "HttpClient",
    "HttpConnectionError",
    "HttpError",
    "HttpInputError",
    "HttpProtocolError",
    "HttpReply",
    "HttpRequest",
    "HttpResponse",
    "HttpSettings",
    "HttpStatistics",
    "HttpStatusError",
    "HttpTimeout",
    "HttpTlsError",
    "InvalidHeader",
    "InvalidUrl",
    "MalformedUrl",
    "OAuthError",
    "Part",
    "Proxy",
    "ProxySettingsError",
    "RefreshToken",
    "TlsMaterial",
    "TlsMaterialError",
    "TokenCache",
    "Url",
    "access_token",
    "encode_url",
    "form_urlencode",
    "json_bytes",
    "multipart",
    "readable",
    "structure",
    "tls_material",
    "verbatim_url",
]
