"""What can go wrong with a request, and what it looks like in a failed job.

    HttpError                     code                   the request was not answered, or not as it should be
    ├── HttpInputError            -                      what was asked for can never work: no retry
    │   ├── InvalidUrl            -                      no host, no scheme
    │   ├── InvalidHeader         -                      a name or value that cannot be sent
    │   ├── HttpBlocked           -                      the operator's block list
    │   ├── EgressDenied          -                      the address is one that may not be reached
    │   ├── TlsMaterialError      -                      a certificate or key that cannot be used
    │   └── ProxySettingsError    -                      the operator's proxy settings
    ├── MalformedUrl              -                      a character or escape that a URL cannot have
    ├── HttpTimeout               408                    no connection, or no data, in time
    ├── HttpConnectionError       408                    refused, unknown host, dropped
    ├── HttpTlsError              SSL_HANDSHAKE_FAILED   the handshake failed
    ├── HttpProtocolError         500                    what was sent or came is no proper HTTP
    ├── HttpBodyError             500                    the body of the answer cannot be used
    ├── HttpStatusError           the status             an answer of 400 or above, where that is an error
    └── OAuthError                OAUTH_...              the token endpoint answered, but not with a token

`code` and `variables` are those of the job's `error`. No text holds a header, a body or a credential of the request.
"""

from collections.abc import Mapping
from typing import Any


class HttpError(Exception):
    """The request was not answered, or not as it should be."""

    code: str | None = None
    variables: Mapping[str, Any] | None = None


class HttpInputError(HttpError):
    """What was asked for can never work, so a retry is in vain."""


class InvalidUrl(HttpInputError):  # noqa: N818 - reads as what it is
    """The URL has no scheme or no host."""

    def __init__(self, url: str, missing: str) -> None:
        super().__init__(
            f"Invalid URL: The URL '{url}' cannot be parsed as a valid HTTP request. "
            f"Please ensure the URL includes a valid {missing}."
        )


class InvalidHeader(HttpInputError):  # noqa: N818
    """A header that cannot be sent; the text names the header, never its value."""


class HttpBlocked(HttpInputError):  # noqa: N818
    """The operator's block list forbids the URL. name: which entry."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"The provided {what} is not allowed (Block Name: {name})")
        self.name = name


class EgressDenied(HttpInputError):  # noqa: N818
    """The host check refused an address. The text is the original's validation message."""


class TlsMaterialError(HttpInputError):
    """Certificate, key or trusted certificate cannot be used."""


class ProxySettingsError(HttpInputError):
    """The proxy settings of the environment cannot be used; the text names the variable."""


class MalformedUrl(HttpError):  # noqa: N818
    """A URL with a character or escape that no URL may have."""


class HttpTimeout(HttpError):  # noqa: N818
    """No connection, or no data, in time."""

    code = "408"

    def __init__(self) -> None:
        super().__init__("The request timed out. Please try increasing the read and connection timeouts.")


class HttpConnectionError(HttpError):
    """Refused, unknown host, or dropped. established: whether there was a connection that the request went out on."""

    code = "408"

    def __init__(self, *, established: bool = False) -> None:
        super().__init__("An error occurred while executing the request, or the connection was aborted")
        self.established = established


class HttpTlsError(HttpError):
    """The TLS handshake failed."""

    code = "SSL_HANDSHAKE_FAILED"

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"TLS handshake failed: {cause}. The server certificate may not be trusted: "
            "provide the certificate of its authority in clientTls.trustedCertificate."
        )


class HttpProtocolError(HttpError):
    """What was to be sent, or what came, is no proper HTTP."""

    code = "500"

    def __init__(self) -> None:
        super().__init__("An error with the HTTP protocol occurred")


class HttpBodyError(HttpError):
    """The body of the answer cannot be used: too large, or not in the encoding it claims."""

    code = "500"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Error while executing an HTTP request: {reason}")


class HttpStatusError(HttpError):
    """An answer with a status of 400 or above. variables: `{"response": {"headers": ..., "body": ...}}`."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, Any], body: Any) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.code = str(status)
        self.variables = {"response": {"headers": headers, "body": body}}


class OAuthError(HttpError):
    """The token endpoint answered with a success that holds no token."""

    def __init__(self, message: str, code: str = "OAUTH_TOKEN_ERROR") -> None:
        super().__init__(message)
        self.code = code
