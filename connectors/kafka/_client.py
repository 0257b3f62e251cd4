"""How both Kafka connectors reach a broker: the Java client's properties in this client's terms, credentials, TLS.

Source of the names and their meaning: the Apache Kafka documentation, "Configuration" and "Security".
"""

import logging
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError

from connectors.kafka._settings import jaas_options
from connectors.kafka._tls import tls_context
from gateway import ConnectorInputException
from gateway.http_client import ClientCredentials, HttpClient, access_token

PROBE_SECONDS: Final = 5.0

_library = logging.getLogger("aiokafka")
if _library.level == logging.NOTSET:
    _library.setLevel(
        logging.CRITICAL
    )  # an outage makes it log without end; what is wrong, the health and the errors say

# ---- arguments of the client -----------------------------------------------------------------------------------------

Convert = Callable[[str], Any]


def _milliseconds(text: str) -> int | None:
    """-1 is what the Java client writes for never."""
    return None if int(text) < 0 else int(text)


def _flag(text: str) -> bool:
    if text.strip().lower() not in {"true", "false"}:
        raise ValueError
    return text.strip().lower() == "true"


def _servers(text: str) -> list[str]:
    return [each.strip().rpartition("://")[2] for each in text.split(",") if each.strip()]


_SHARED: Final[Mapping[str, tuple[str, Convert]]] = {
    "bootstrap.servers": ("bootstrap_servers", _servers),
    "client.id": ("client_id", str),
    "request.timeout.ms": ("request_timeout_ms", int),
    "retry.backoff.ms": ("retry_backoff_ms", int),
    "metadata.max.age.ms": ("metadata_max_age_ms", int),
    "connections.max.idle.ms": ("connections_max_idle_ms", _milliseconds),
    "security.protocol": ("security_protocol", str.upper),
    "sasl.mechanism": ("sasl_mechanism", str.upper),
    "sasl.kerberos.service.name": ("sasl_kerberos_service_name", str),
}

_WITHOUT_EFFECT: Final = re.compile(
    r"""(key|value)\.(de)?serializer(\..+)? | client\.dns\.lookup | default\.api\.timeout\.ms | enable\.auto\.commit
    | auto\.(commit\.interval\.ms|offset\.reset|register\.schemas) | allow\.auto\.create\.topics | use\.latest\.version
    | (schema\.registry|basic\.auth|bearer\.auth|json|avro|metrics|metric|reconnect\.backoff|interceptor)\..+
    | sasl\.(jaas\.config|oauthbearer\..+|login\..+|client\.callback.+) | ssl\..+ | specific\.avro\.reader
    | (socket\.connection\.setup\..+) | (send|receive)\.buffer\.bytes | retry\.backoff\.max\.ms | group\.protocol
    | session\.timeout\.ms | heartbeat\.interval\.ms | max\.block\.ms | delivery\.timeout\.ms | group\.id""",
    re.VERBOSE,
)
"""Known properties that need no warning: they are read elsewhere, or are about the Java client's own machinery."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """client: for connecting; own: for the consumer or producer alone; unknown: names of properties that have no effect here."""

    client: Mapping[str, Any] = field(repr=False)
    own: Mapping[str, Any]
    unknown: tuple[str, ...]


def arguments(
    properties: Mapping[str, str], own: Mapping[str, tuple[str, Convert]], http: HttpClient | None = None
) -> Arguments:
    """The properties as arguments of aiokafka. own: names of the consumer or producer, with argument and conversion.

    http: fetches OAuth tokens. Raises ConnectorInputException, which names the property, without its value where it is secret.
    """
    found: dict[str, Any] = {}
    mine: dict[str, Any] = {}
    unknown: list[str] = []
    for name, text in properties.items():
        target, known = (mine, own[name]) if name in own else (found, _SHARED.get(name))
        if known is None:
            if not _WITHOUT_EFFECT.fullmatch(name):
                unknown.append(name)
            continue
        argument, convert = known
        try:
            target[argument] = convert(text.strip())
        except ValueError as e:
            raise ConnectorInputException(f"Kafka property '{name}': unexpected value '{text}'. {e}".rstrip()) from None
    protocol = found.setdefault("security_protocol", "PLAINTEXT")
    if protocol not in {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}:
        raise ConnectorInputException(
            f"Kafka property 'security.protocol': expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, but got '{protocol}'"
        )
    if protocol.startswith("SASL"):
        found |= _credentials(properties, found.get("sasl_mechanism") or "PLAIN", http)
    if protocol.endswith("SSL"):
        found["ssl_context"] = tls_context(properties)
    return Arguments(found, mine, tuple(unknown))


# ---- SASL ------------------------------------------------------------------------------------------------------------

_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI")


def _credentials(properties: Mapping[str, str], mechanism: str, http: HttpClient | None) -> dict[str, Any]:
    if mechanism not in _MECHANISMS:
        expected = ", ".join(_MECHANISMS)
        raise ConnectorInputException(
            f"Kafka property 'sasl.mechanism': expected one of {expected}, but got '{mechanism}'"
        )
    found: dict[str, Any] = {"sasl_mechanism": mechanism}
    if mechanism == "GSSAPI":
        raise ConnectorInputException(
            "Kafka property 'sasl.mechanism': Kerberos (GSSAPI) is not supported; use PLAIN, SCRAM or OAUTHBEARER"
        )
    options = jaas_options(properties.get("sasl.jaas.config", ""))
    if mechanism == "OAUTHBEARER":
        return found | {"sasl_oauth_token_provider": _token_provider(properties, options, http)}
    username, password = options.get("username"), options.get("password")
    if username is None or password is None:
        raise ConnectorInputException(
            f"Kafka property 'sasl.jaas.config': expected a login module with username and password for {mechanism}"
        )
    return found | {"sasl_plain_username": username, "sasl_plain_password": password}


class _TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens by client credentials (RFC 6749, 4.4), kept by the HTTP client for as long as they last."""

    def __init__(self, http: HttpClient, credentials: ClientCredentials) -> None:
        self._http = http
        self._given = credentials

    async def token(self) -> str:
        return await access_token(self._http, self._given)


def _token_provider(
    properties: Mapping[str, str], options: Mapping[str, str], http: HttpClient | None
) -> AbstractTokenProvider:
    endpoint = properties.get("sasl.oauthbearer.token.endpoint.url", "")
    ident = options.get("clientId") or properties.get("sasl.oauthbearer.client.credentials.client.id", "")
    word = options.get("clientSecret") or properties.get("sasl.oauthbearer.client.credentials.client.secret", "")
    scope = options.get("scope") or properties.get("sasl.oauthbearer.scope")
    if not endpoint or not ident or not word or http is None:
        raise ConnectorInputException(
            "Kafka property 'sasl.mechanism': OAUTHBEARER needs sasl.oauthbearer.token.endpoint.url, and clientId and "
            "clientSecret in sasl.jaas.config"
        )
    given = ClientCredentials(endpoint, ident, word, scopes=scope, client_authentication="basicAuthHeader")
    return _TokenProvider(http, given)


# ---- what is wrong ---------------------------------------------------------------------------------------------------


def where(client: Mapping[str, Any]) -> str:
    """The servers of the arguments, for people."""
    return ", ".join(client["bootstrap_servers"])


async def reason(client: Mapping[str, Any], error: BaseException) -> str:
    """Why the servers cannot be used, in words. Where the library only says that it got nowhere, one is asked again."""
    if type(error).__name__ != "KafkaConnectionError":
        return f"Kafka at {where(client)}: {words(error)}"
    return f"Kafka at {where(client)} cannot be reached: {await _probe(client) or words(error)}"


def words(error: BaseException) -> str:
    """An error of the library, without its number."""
    text = re.sub(r"^\[Error -?\d+\] ", "", str(error))
    name = type(error).__name__
    return text if text.startswith(name) else f"{name}: {text}" if text else name


async def _probe(client: Mapping[str, Any]) -> str | None:
    """What the first of the servers says that fails; None when all answer now."""
    taken = {
        name: value
        for name, value in client.items()
        if name.startswith("sasl_") or name in {"client_id", "security_protocol", "ssl_context"}
    }
    for host, port, _ in collect_hosts(client["bootstrap_servers"]):
        try:
            connection = await create_conn(host, port, request_timeout_ms=int(PROBE_SECONDS * 1000), **taken)
        except ssl.SSLError as e:
            return f"{host}:{port}: TLS: {getattr(e, 'verify_message', None) or e.reason or e}"
        except TimeoutError:
            return f"{host}:{port}: no answer within {PROBE_SECONDS:g} s"
        except (OSError, KafkaError) as e:
            return f"{host}:{port}: {words(e) if isinstance(e, KafkaError) else e.strerror or e}"
        except Exception as e:  # a token that cannot be had
            return f"{host}:{port}: {words(e)}"
        connection.close()
    return None
