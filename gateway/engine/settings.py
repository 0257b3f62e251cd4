"""How the engine is reached, in typed form: `ConnectionSettings` and its parts.

They hold what the keys `camunda.client.*` of the connector runtime say, and nothing else. What a key leaves open is
derived by `ConnectionSettings.resolved()`, after the rules of Camunda's client: the mode from the cluster id, the
addresses from the mode, the method of authentication from the credentials that are there.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from gateway.engine import DEFAULT_TENANT

Mode = Literal["saas", "self-managed"]
AuthMethod = Literal["none", "basic", "oidc"]

SELF_MANAGED_GRPC_ADDRESS = "http://localhost:26500"
SELF_MANAGED_REST_ADDRESS = "http://localhost:8080"
SELF_MANAGED_ISSUER = "http://localhost:18080/auth/realms/camunda-platform"
SELF_MANAGED_AUDIENCE = "zeebe-api"


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAssertionSettings:
    """`auth.client-assertion.*`: a key and its certificate, to prove the client's identity by a signed token."""

    keystore_path: Path
    keystore_password: str | None = field(default=None, repr=False)
    keystore_key_alias: str | None = None
    keystore_key_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """`camunda.client.auth.*`. Times in seconds; None where the key is not set."""

    method: AuthMethod | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    token_url: str | None = None
    issuer_url: str | None = None
    well_known_configuration_url: str | None = None
    audience: str | None = None
    scope: str | None = None
    resource: str | None = None
    credentials_cache_path: Path | None = None
    connect_timeout: float = 5.0
    read_timeout: float = 5.0
    keystore_path: Path | None = None
    keystore_password: str | None = field(default=None, repr=False)
    keystore_key_password: str | None = field(default=None, repr=False)
    truststore_path: Path | None = None
    truststore_password: str | None = field(default=None, repr=False)
    client_assertion: ClientAssertionSettings | None = None
    proactive_token_refresh_threshold: float = 30.0
    token_fetch_max_retries: int = 3
    token_fetch_initial_backoff: float = 0.5
    token_fetch_backoff_multiplier: float = 2.0
    token_fetch_retryable_status_codes: tuple[int, ...] = (408, 425, 429, 500, 502, 503, 504)
    token_fetch_non_retryable_cooldown: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """`camunda.client.cloud.*`: a cluster of Camunda's own cloud."""

    cluster_id: str | None = None
    region: str = "bru-2"
    domain: str = "camunda.io"
    port: int = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """`camunda.client.*`, without the workers' settings. Times in seconds, sizes in bytes."""

    mode: Mode | None = None
    grpc_address: str | None = None
    rest_address: str | None = None
    prefer_rest_over_grpc: bool = False
    cloud: CloudSettings = field(default_factory=CloudSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    tenant_id: str = DEFAULT_TENANT
    physical_tenant_id: str | None = None
    prefix_physical_tenant_path: bool = True
    request_timeout: float = 10.0
    request_timeout_offset: float = 1.0
    message_time_to_live: float = 3600.0
    max_message_size: int = 5 * 1024 * 1024
    max_metadata_size: int = 16 * 1024
    keep_alive: float = 45.0
    ca_certificate_path: Path | None = None
    override_authority: str | None = None
    max_http_connections: int = 100
    use_client_side_load_balancing: bool = False
    transport: Literal["grpcio", "lean"] = "grpcio"

    def resolved(self) -> "ConnectionSettings":
        """The same with mode, addresses, method and token source filled in. SettingsError names what cannot be."""
        mode = self.mode or ("saas" if self.cloud.cluster_id else "self-managed")
        if mode not in get_args(Mode):
            raise SettingsError(f"mode: expected saas or self-managed, got {mode!r}")
        grpc_address, rest_address = self.grpc_address, self.rest_address
        if mode == "saas":
            if not self.cloud.cluster_id:
                raise SettingsError("cloud.cluster-id: required in mode saas")
            host = f"{self.cloud.region}.zeebe.{self.cloud.domain}:{self.cloud.port}"
            grpc_address = grpc_address or f"https://{self.cloud.cluster_id}.{host}"
            rest_address = rest_address or f"https://{host}/{self.cloud.cluster_id}"
        grpc_address = grpc_address or SELF_MANAGED_GRPC_ADDRESS
        rest_address = rest_address or SELF_MANAGED_REST_ADDRESS
        check_address("grpc-address", grpc_address)
        check_address("rest-address", rest_address)
        auth = _resolved_auth(self.auth, mode, self.cloud.domain)
        return replace(self, mode=mode, grpc_address=grpc_address, rest_address=rest_address, auth=auth)


def check_address(key: str, address: str) -> None:
    """Raises SettingsError unless the address is an absolute http or https URL without user info."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as e:
        raise SettingsError(f"{key}: {e}") from None
    if parts.username is not None or parts.password is not None:
        raise SettingsError(f"{key}: expected no user info in the URL; credentials belong to auth.*")
    if parts.scheme not in {"http", "https", "grpc", "grpcs"} or not parts.hostname or port == 0:
        raise SettingsError(f"{key}: expected an absolute URL as http://host:port, got {address!r}")


def _resolved_auth(auth: AuthSettings, mode: Mode, domain: str) -> AuthSettings:
    method = auth.method
    if method is None:
        if mode == "saas" or auth.client_id or auth.client_secret:
            method = "oidc"
        else:
            method = "basic" if auth.username or auth.password else "none"
    if method not in get_args(AuthMethod):
        raise SettingsError(f"auth.method: expected none, basic or oidc, got {method!r}")
    if method == "basic" and not (auth.username and auth.password):
        raise SettingsError("auth.username and auth.password: both required for auth.method basic")
    if method != "oidc":
        return replace(auth, method=method)
    if not auth.client_id:
        raise SettingsError("auth.client-id: required for auth.method oidc")
    if not auth.client_secret and auth.client_assertion is None:
        raise SettingsError("auth.client-secret: required for auth.method oidc (or auth.client-assertion)")
    if mode == "saas":
        return replace(
            auth,
            method=method,
            token_url=auth.token_url or f"https://login.cloud.{domain}/oauth/token",
            audience=auth.audience or f"zeebe.{domain}",
        )
    return replace(
        auth,
        method=method,
        issuer_url=auth.issuer_url or SELF_MANAGED_ISSUER,
        audience=auth.audience or SELF_MANAGED_AUDIENCE,
    )
