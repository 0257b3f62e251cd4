"""Settings of the HTTP client, read once from a mapping such as the process environment."""

import base64
import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.http_client.errors import ProxySettingsError
from gateway.http_client.guard import BlockList, EgressPolicy
from gateway.http_client.urls import Url

DEFAULT_MAX_BODY_SIZE = 52_428_800


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy. Its text shows no credentials."""

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def authorization(self) -> str | None:
        """The value of the Proxy-Authorization header, None without a user."""
        if self.user is None:
            return None
        pair = f"{self.user}:{self.password or ''}".encode()
        return "Basic " + base64.b64encode(pair).decode()


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Everything an operator can say about outgoing HTTP.

    max_body_size: bytes of an answer, as received and as unpacked. retry: the one silent retry after 429, 503 and dropped
    connections. oauth_skew: seconds that a token is given up before it expires.
    """

    proxies: Mapping[str, Proxy | ProxySettingsError] = field(default_factory=dict)
    no_proxy: tuple[re.Pattern[str], ...] = ()
    blocked: BlockList = field(default_factory=BlockList)
    egress: EgressPolicy = field(default_factory=EgressPolicy)
    max_body_size: int = DEFAULT_MAX_BODY_SIZE
    retry: bool = True
    oauth_skew: float = 10.0

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], *, egress: EgressPolicy | None = None, oauth_skew: float = 10.0
    ) -> "HttpSettings":
        """From `CONNECTOR_HTTP(S)_PROXY_*`, `CONNECTOR_HTTP_NON_PROXY_HOSTS`, `CONNECTOR_HTTP_CLIENT_MAX_BODY_SIZE`,
        `CONNECTOR_HTTP_CLIENT_RETRY` and `CAMUNDA_CONNECTOR_HTTP_BLOCK_*`. Bad proxy ports are reported by the requests
        that need the proxy; everything else that is wrong raises ValueError and names the variable.
        """
        proxies = {s: p for s in ("http", "https") if (p := _proxy(environment, s)) is not None}
        patterns = environment.get("CONNECTOR_HTTP_NON_PROXY_HOSTS", "").split("|")
        return cls(
            proxies=proxies,
            no_proxy=tuple(re.compile(_wildcard(p.strip()), re.IGNORECASE) for p in patterns if p.strip()),
            blocked=BlockList.from_environment(environment),
            egress=egress or EgressPolicy(),
            max_body_size=_size(environment),
            retry=environment.get("CONNECTOR_HTTP_CLIENT_RETRY", "true").strip().lower() != "false",
            oauth_skew=oauth_skew,
        )

    def proxy_for(self, url: Url) -> Proxy | None:
        """The proxy that a URL is reached through. Raises ProxySettingsError."""
        proxy = self.proxies.get(url.scheme)
        if proxy is None or any(p.fullmatch(url.host) for p in self.no_proxy):
            return None
        if isinstance(proxy, ProxySettingsError):
            raise ProxySettingsError(str(proxy))
        return proxy


def _proxy(environment: Mapping[str, str], scheme: str) -> Proxy | ProxySettingsError | None:
    prefix = f"CONNECTOR_{scheme.upper()}_PROXY_"
    host, port = environment.get(prefix + "HOST", "").strip(), environment.get(prefix + "PORT", "").strip()
    if not host or not port:
        return None
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        return ProxySettingsError(f"{prefix}PORT: expected a port from 1 to 65535, but got '{port}'")
    kind = environment.get(prefix + "SCHEME", "").strip().lower() or "http"
    if kind not in {"http", "https"}:
        return ProxySettingsError(f"{prefix}SCHEME: expected http or https, but got '{kind}'")
    user = environment.get(prefix + "USER") or None
    return Proxy(kind, host, int(port), user, environment.get(prefix + "PASSWORD") if user else None)


def _wildcard(pattern: str) -> str:
    return fnmatch.translate(pattern.replace("[", "[[]").replace("?", "[?]"))


def _size(environment: Mapping[str, str]) -> int:
    text = environment.get("CONNECTOR_HTTP_CLIENT_MAX_BODY_SIZE", "").strip()
    if not text:
        return DEFAULT_MAX_BODY_SIZE
    if not text.isdecimal():
        raise ValueError(f"CONNECTOR_HTTP_CLIENT_MAX_BODY_SIZE: expected a number of bytes, but got {text!r}")
    return int(text)
