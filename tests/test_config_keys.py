"""Every key of the runtime's documentation is implemented, refused, or ignored with a word that names it."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.config import ConfigurationError, Settings, load
from gateway.config.keys import KEYS, LEGACY, VARIABLES, find_variable, locate
from gateway.config.sources import Property, split_path
from gateway.config.values import uniform

SECOND = timedelta(seconds=1)

IMPLEMENTED: list[tuple[str, str, Any]] = [
    ("camunda.client.mode", "SAAS", "saas"),
    ("camunda.client.grpc-address", "https://engine:26500", "https://engine:26500"),
    ("camunda.client.rest-address", "https://engine:8443/", "https://engine:8443"),
    ("camunda.client.prefer-rest-over-grpc", "true", True),
    ("camunda.client.cloud.cluster-id", "c1", "c1"),
    ("camunda.client.cloud.region", "jfk-1", "jfk-1"),
    ("camunda.client.cloud.domain", "example.io", "example.io"),
    ("camunda.client.cloud.port", "8443", 8443),
    ("camunda.client.auth.method", "Basic", "basic"),
    ("camunda.client.auth.username", "demo", "demo"),
    ("camunda.client.auth.password", "hidden-1", "hidden-1"),
    ("camunda.client.auth.client-id", "id", "id"),
    ("camunda.client.auth.client-secret", "hidden-2", "hidden-2"),
    ("camunda.client.auth.token-url", "http://idp/token", "http://idp/token"),
    ("camunda.client.auth.issuer-url", "http://idp/realm", "http://idp/realm"),
    ("camunda.client.auth.well-known-configuration-url", "http://idp/wk", "http://idp/wk"),
    ("camunda.client.auth.audience", "aud", "aud"),
    ("camunda.client.auth.scope", "abc/.default", "abc/.default"),
    ("camunda.client.auth.resource", "res", "res"),
    ("camunda.client.auth.credentials-cache-path", "/tmp/connectors", "/tmp/connectors"),
    ("camunda.client.auth.connect-timeout", "7s", 7 * SECOND),
    ("camunda.client.auth.read-timeout", "PT8S", 8 * SECOND),
    ("camunda.client.auth.keystore-path", "/k.p12", "/k.p12"),
    ("camunda.client.auth.keystore-password", "hidden-3", "hidden-3"),
    ("camunda.client.auth.keystore-key-password", "hidden-4", "hidden-4"),
    ("camunda.client.auth.truststore-path", "/t.p12", "/t.p12"),
    ("camunda.client.auth.truststore-password", "hidden-5", "hidden-5"),
    ("camunda.client.auth.client-assertion.keystore-path", "/a.p12", "/a.p12"),
    ("camunda.client.auth.client-assertion.keystore-password", "hidden-6", "hidden-6"),
    ("camunda.client.auth.client-assertion.keystore-key-alias", "alias", "alias"),
    ("camunda.client.auth.client-assertion.keystore-key-password", "hidden-7", "hidden-7"),
    ("camunda.client.auth.proactive-token-refresh-threshold", "40s", 40 * SECOND),
    ("camunda.client.auth.token-fetch-max-retries", "9", 9),
    ("camunda.client.auth.token-fetch-initial-backoff", "2s", 2 * SECOND),
    ("camunda.client.auth.token-fetch-backoff-multiplier", "1.5", 1.5),
    ("camunda.client.auth.token-fetch-retryable-status-codes", "500,503", ("500", "503")),
    ("camunda.client.auth.token-fetch-non-retryable-cooldown", "1m", 60 * SECOND),
    ("camunda.client.tenant-id", "t1", "t1"),
    ("camunda.client.physical-tenant-id", "p1", "p1"),
    ("camunda.client.prefix-physical-tenant-path", "false", False),
    ("camunda.client.request-timeout", "20s", 20 * SECOND),
    ("camunda.client.request-timeout-offset", "2000", 2 * SECOND),
    ("camunda.client.max-message-size", "4MB", 4 * 1024**2),
    ("camunda.client.max-metadata-size", "8KB", 8192),
    ("camunda.client.keep-alive", "30s", 30 * SECOND),
    ("camunda.client.ca-certificate-path", "/ca.pem", "/ca.pem"),
    ("camunda.client.override-authority", "other", "other"),
    ("camunda.client.max-http-connections", "50", 50),
    ("camunda.client.use-client-side-load-balancing", "true", True),
    ("camunda.client.worker.defaults.max-jobs-active", "32", 32),
    ("camunda.client.worker.defaults.stream-enabled", "false", False),
    ("camunda.client.worker.defaults.timeout", "1m", 60 * SECOND),
    ("camunda.client.worker.defaults.poll-interval", "1s", SECOND),
    ("camunda.client.worker.defaults.request-timeout", "30s", 30 * SECOND),
    ("camunda.client.worker.defaults.tenant-ids", "a, b", ("a", "b")),
    ("camunda.client.worker.defaults.enabled", "false", False),
    ("camunda.client.worker.defaults.force-fetch-all-variables", "true", True),
    ("camunda.client.worker.defaults.fetch-variables", "x,y", ("x", "y")),
    ("camunda.connector.secretprovider.environment.enabled", "false", False),
    ("camunda.connector.secretprovider.environment.prefix", "MINE_", "MINE_"),
    ("camunda.connector.secretprovider.environment.physicaltenantaware", "true", True),
    ("camunda.connector.secretprovider.environment.tenantaware", "true", True),
    ("camunda.connector.secretprovider.environment.processdefinitionaware", "true", True),
    ("camunda.connector.secretprovider.discovery.enabled", "false", False),
    ("camunda.connector.secret-resolver.secret-filter.mode", "lax", "LAX"),
    ("camunda.connector.secret-resolver.secret-filter.cache.enabled", "false", False),
    ("camunda.connector.secret-resolver.secret-filter.cache.max-size", "-1", -1),
    ("camunda.connector.oauth.cache.skew-buffer", "20s", 20 * SECOND),
    ("camunda.connector.validation.hosts.enabled", "true", True),
    ("camunda.connector.validation.hosts.allow-ranges", "10.0.0.0/8", ("10.0.0.0/8",)),
    ("camunda.connector.validation.hosts.deny-ranges", "1.2.3.0/24,1.2.4.0/24", ("1.2.3.0/24", "1.2.4.0/24")),
    ("camunda.connector.validation.hosts.unsafe-allow-private-ranges", "true", True),
    ("camunda.connector.validation.hosts.unsafe-allow-loopback", "true", True),
    ("camunda.connector.broker.monitoring.enabled", "false", False),
    ("camunda.connector.broker.monitoring.port", "9601", 9601),
    ("camunda.connector.broker.monitoring.addresses", "http://b:9600", ("http://b:9600",)),
    ("camunda.connector.hostname", "node-1", "node-1"),
    ("connectors.log.appender", "stackdriver", "stackdriver"),
    ("connectors.log.stackdriver.service-name", "svc", "svc"),
    ("connectors.log.stackdriver.service-version", "1.2", "1.2"),
    ("server.port", "0", 0),
    ("server.max-http-request-header-size", "64KB", 65536),
    ("management.server.port", "9080", 9080),
    ("management.server.base-path", "/manage", "/manage"),
    ("management.endpoints.web.exposure.include", "health", ("health",)),
    ("gateway.shutdown.grace", "5s", 5 * SECOND),
    ("gateway.jobs.max-in-flight", "10", 10),
    ("gateway.jobs.max-run-time", "2h", 7200 * SECOND),
    ("gateway.jobs.sync-threads", "4", 4),
    ("camunda.connector.headless.serviceurl", "connectors-headless", "connectors-headless"),
    ("camunda.connector.polling.enabled", "false", False),
    ("camunda.connector.polling.interval", "1000", SECOND),
    ("camunda.connector.polling.initial-delay", "30000", 30 * SECOND),
    ("camunda.connector.polling.active-versions-enabled", "false", False),
    ("camunda.connector.process-definition-search.page-size", "50", 50),
    ("camunda.connector.inbound.deduplication-format", "8.9", "8.9"),
    ("camunda.connector.inbound.process-definition-cache.enabled", "false", False),
    ("camunda.connector.inbound.process-definition-cache.max-size", "5", 5),
    ("camunda.connector.inbound.log.size", "10", 10),
    ("camunda.connector.inbound.message.ttl", "PT2H", 7200 * SECOND),
    ("camunda.connector.webhook.enabled", "false", False),
    ("camunda.connector.webhook.append-physical-tenant-and-tenant-to-path", "true", True),
    ("gateway.inbound.max-in-flight", "10", 10),
    ("gateway.inbound.activation", "all-or-nothing", "all-or-nothing"),
    ("gateway.webhook.max-body-size", "1MB", 1024**2),
    ("gateway.webhook.body-timeout", "5s", 5 * SECOND),
    ("gateway.webhook.max-in-flight", "20", 20),
    ("gateway.webhook.max-in-flight-per-path", "3", 3),
    ("gateway.webhook.max-buffered", "64MB", 64 * 1024**2),
    ("gateway.webhook.public-url", "https://hooks.example", "https://hooks.example"),
    ("gateway.webhook.forwarded-headers", "true", True),
    ("gateway.engine.transport", "lean", "lean"),
    ("gateway.log.format", "json", "json"),
    ("gateway.log.level", "DEBUG", "debug"),
]

IGNORED: list[tuple[str, str]] = [
    ("camunda.client.message-time-to-live", "2h"),
    ("camunda.client.worker.defaults.stream-timeout", "1h"),
    ("camunda.client.execution-threads", "8"),
    ("camunda.client.worker.defaults.name", "n"),
    ("camunda.client.worker.defaults.type", "t"),
    ("camunda.client.worker.defaults.tenant-filter-mode", "assigned"),
    ("camunda.connector.secretprovider.console.endpoint", "http://console"),
    ("camunda.connector.secretprovider.console.audience", "x"),
    ("camunda.connector.virtual-threads.enabled", "false"),
    ("camunda.connector.agenticai.enabled", "false"),
    ("camunda.connector.agenticai.aiagent.outbound-connector.enabled", "false"),
    ("camunda.connector.agenticai.aiagent.job-worker.enabled", "false"),
    ("camunda.connector.agenticai.ad-hoc-tools-schema-resolver.enabled", "false"),
    ("camunda.connector.agenticai.mcp.remote-client.enabled", "false"),
    ("camunda.connector.agenticai.mcp.discovery.enabled", "false"),
    ("camunda.connector.agenticai.mcp.client.enabled", "true"),
    ("camunda.connector.agenticai.a2a.client.outbound.enabled", "false"),
    ("camunda.connector.agenticai.a2a.client.polling.enabled", "false"),
    ("camunda.connector.agenticai.a2a.client.webhook.enabled", "false"),
    ("camunda.connector.agenticai.a2a.client.agentic.tool.enabled", "false"),
    ("camunda.connector.agenticai.aiagent.chat-model.api.default-timeout", "PT1M"),
    ("camunda.connector.agenticai.aiagent.agent-instance.retries.max-retries", "1"),
    ("camunda.connector.agenticai.aiagent.agent-instance.retries.initial-retry-delay", "PT2S"),
    ("camunda.connector.agenticai.tools.process-definition.retries.max-retries", "1"),
    ("camunda.connector.agenticai.tools.process-definition.retries.initial-retry-delay", "PT2S"),
    ("camunda.connector.agenticai.tools.process-definition.cache.enabled", "false"),
    ("camunda.connector.agenticai.tools.process-definition.cache.maximum-size", "1"),
    ("camunda.connector.agenticai.tools.process-definition.cache.expire-after-write", "PT1M"),
    ("camunda.connector.agenticai.http.proxy-support.enabled", "false"),
    ("camunda.connector.agenticai.mcp.remote-client.client.cache.enabled", "false"),
    ("camunda.connector.agenticai.mcp.remote-client.client.cache.maximum-size", "1"),
    ("camunda.connector.agenticai.mcp.remote-client.client.cache.expire-after", "PT1M"),
    ("camunda.connector.agenticai.a2a.client.transport.grpc.use-tls", "false"),
    ("camunda.connector.agenticai.a2a.client.polling.thread-pool-size", "2"),
    ("camunda.endpoints.cors.mappings", "/**"),
    ("camunda.endpoints.cors.allowed.origins", "http://x"),
    ("camunda.endpoints.cors.allow.credentials", "true"),
]

REFUSED: list[tuple[str, str]] = [
    ("camunda.client.enabled", "false"),
    ("camunda.connector.secretprovider.console.enabled", "true"),
    ("camunda.connector.auth.issuer", "http://idp"),
    ("camunda.connector.auth.audience", "aud"),
    ("camunda.connector.auth.console.audience", "aud"),
    ("camunda.connector.auth.allowed.roles", "admin"),
    ("camunda.connector.cloud.organization.id", "org"),
]

MAPS: list[tuple[str, str]] = [
    ("camunda.client.worker.override", "implemented"),
    ("logging.level", "implemented"),
    ("camunda.clients", "refused"),
    ("camunda.connector.agenticai.mcp.client.clients", "ignored"),
]

VARIABLE_STATUS: list[tuple[str, str]] = [
    ("CONNECTOR_HTTP_REST_TYPE", "implemented"),
    ("CONNECTOR_HTTP_REST_TIMEOUT", "implemented"),
    ("CONNECTOR_MINE_FUNCTION", "implemented"),
    ("CONNECTOR_MINE_INPUT_VARIABLES", "implemented"),
    ("CONNECTOR_MINE_EXECUTABLE", "implemented"),
    ("CONNECTOR_MINE_DEDUPLICATION_PROPERTIES", "implemented"),
    ("CONNECTOR_OUTBOUND_DISCOVERY_DISABLED", "implemented"),
    ("CONNECTOR_OUTBOUND_DISABLED", "implemented"),
    ("CONNECTOR_OUTBOUND_ENABLED", "implemented"),
    ("CONNECTOR_INBOUND_DISCOVERY_DISABLED", "implemented"),
    ("CONNECTOR_INBOUND_DISABLED", "implemented"),
    ("CONNECTOR_INBOUND_ENABLED", "implemented"),
    ("CAMUNDA_CLUSTER_ID", "ignored"),
    ("SECRETS_PROJECT_ID", "ignored"),
    ("SECRETS_PREFIX", "ignored"),
    ("CAMUNDA_CONNECTOR_SECRETS_CACHE_MILLIS", "ignored"),
    *((f"CONNECTOR_{scheme}_PROXY_{part}", "implemented") for scheme in ("HTTP", "HTTPS") for part in ("HOST", "PORT")),
    *(
        (f"CONNECTOR_{s}_PROXY_{part}", "implemented")
        for s in ("HTTP", "HTTPS")
        for part in ("SCHEME", "USER", "PASSWORD")
    ),
    ("CONNECTOR_HTTP_PLAIN_PROXY_HOST", "ignored"),
    ("CONNECTOR_HTTPS_PLAIN_PROXY_PASSWORD", "ignored"),
    ("CONNECTOR_HTTP_NON_PROXY_HOSTS", "implemented"),
    ("CONNECTOR_HTTP_CLIENT_MAX_BODY_SIZE", "implemented"),
    ("CAMUNDA_CONNECTOR_HTTP_BLOCK_URL_METADATA", "implemented"),
    ("CAMUNDA_CONNECTOR_HTTP_BLOCK_PORT_DB", "implemented"),
    ("CAMUNDA_CONNECTOR_HTTP_BLOCK_REGEX_X", "implemented"),
    ("JAVAX_NET_SSL_TRUSTSTORE", "ignored"),
    ("JAVAX_NET_SSL_TRUSTSTOREPASSWORD", "ignored"),
    ("CAMUNDA_CONNECTOR_VECTORDB_HTTP_PROXYSUPPORT_ENABLED", "ignored"),
    ("CAMUNDA_CONNECTOR_RUNTIME_SAAS", "implemented"),
    ("APP_INTEGRATIONS_BASE_URL", "ignored"),
    ("APP_INTEGRATIONS_CLUSTER_ID", "ignored"),
    ("APP_INTEGRATIONS_API_KEY", "ignored"),
    ("APP_INTEGRATIONS_OAUTH_TOKEN_ENDPOINT", "ignored"),
    ("APP_INTEGRATIONS_OAUTH_CLIENT_ID", "ignored"),
    ("APP_INTEGRATIONS_OAUTH_CLIENT_SECRET", "ignored"),
    ("APP_INTEGRATIONS_OAUTH_AUDIENCE", "ignored"),
    ("APP_INTEGRATIONS_OAUTH_SCOPES", "ignored"),
    ("APP_INTEGRATIONS_OAUTH_CLIENT_AUTHENTICATION", "ignored"),
    ("HEALTHCHECK_URL", "implemented"),
    ("HOSTNAME", "implemented"),
    ("SPRING_PROFILES_ACTIVE", "implemented"),
    ("SPRING_CONFIG_LOCATION", "implemented"),
    ("SPRING_CONFIG_ADDITIONALLOCATION", "implemented"),
]

OVERRIDE_FIELDS = {
    "enabled", "name", "type", "timeout", "max-jobs-active", "fetch-variables", "tenant-ids", "poll-interval",
    "request-timeout", "stream-enabled", "stream-timeout", "force-fetch-all-variables", "tenant-filter-mode",
}  # fmt: skip

COMPANIONS = {
    "camunda.client.mode": {"CAMUNDA_CLIENT_CLOUD_CLUSTERID": "c", "CAMUNDA_CLIENT_AUTH_CLIENTID": "i"}
    | {"CAMUNDA_CLIENT_AUTH_CLIENTSECRET": "s"},
    "camunda.client.cloud.cluster-id": {"CAMUNDA_CLIENT_AUTH_CLIENTID": "i", "CAMUNDA_CLIENT_AUTH_CLIENTSECRET": "s"},
    "camunda.client.auth.method": {"CAMUNDA_CLIENT_AUTH_USERNAME": "u", "CAMUNDA_CLIENT_AUTH_PASSWORD": "p"},
    "camunda.client.auth.username": {"CAMUNDA_CLIENT_AUTH_PASSWORD": "p"},
    "camunda.client.auth.password": {"CAMUNDA_CLIENT_AUTH_USERNAME": "u"},
    "camunda.client.auth.client-id": {"CAMUNDA_CLIENT_AUTH_CLIENTSECRET": "s"},
    "camunda.client.auth.client-secret": {"CAMUNDA_CLIENT_AUTH_CLIENTID": "i"},
}
"""What a key needs beside it to make a configuration that is whole."""


def variable(key: str) -> str:
    """The environment's spelling, by Spring's rule: dots to `_`, no dashes, capitals."""
    return key.replace(".", "_").replace("-", "").upper()


def value_of(settings: Settings, key: str) -> Any:
    value: Any = settings
    for part in KEYS[key].fields:
        value = getattr(value, part)
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


@pytest.mark.parametrize(("key", "text", "expected"), IMPLEMENTED, ids=[row[0] for row in IMPLEMENTED])
def test_an_implemented_key_takes_effect_from_the_environment_and_from_a_file(tmp_path, key, text, expected):
    companions = COMPANIONS.get(key, {})
    settings = load({variable(key): text, **companions}, directory=tmp_path)
    assert value_of(settings, key) == expected
    assert settings.warnings == ()

    (tmp_path / "application.properties").write_text(f"{key}={text}\n")
    settings = load(companions, directory=tmp_path)
    assert value_of(settings, key) == expected
    assert settings.warnings == ()
    assert KEYS[key].status == "implemented"


@pytest.mark.parametrize(("key", "text"), IGNORED, ids=[row[0] for row in IGNORED])
def test_an_ignored_key_gives_a_warning_that_names_it(tmp_path, key, text):
    settings = load({variable(key): text}, directory=tmp_path)
    (warning,) = settings.warnings
    assert warning.startswith(f"{variable(key)} (environment) is ignored: ")
    assert KEYS[key].status == "ignored"


@pytest.mark.parametrize("key", [row[0] for row in IGNORED if KEYS[row[0]].default not in {None, ()}])
def test_an_ignored_key_set_to_its_default_gives_no_warning(tmp_path, key):
    from gateway.config.model import display

    assert load({variable(key): display(KEYS[key].default)}, directory=tmp_path).warnings == ()


@pytest.mark.parametrize(("key", "text"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_refused_key_stops_the_start_and_is_named(tmp_path, key, text):
    with pytest.raises(ConfigurationError) as caught:
        load({variable(key): text}, directory=tmp_path)
    assert str(caught.value).startswith(f"{variable(key)} (environment): ")
    assert "\n" not in str(caught.value)
    assert KEYS[key].status == "refused"


def test_console_secrets_that_are_off_are_not_refused(tmp_path):
    load({"CAMUNDA_CONNECTOR_SECRETPROVIDER_CONSOLE_ENABLED": "false"}, directory=tmp_path)


def test_several_engines_are_refused_in_every_spelling(tmp_path):
    with pytest.raises(ConfigurationError, match="more than one engine"):
        load({"CAMUNDA_CLIENTS_EU_GRPCADDRESS": "http://eu:26500"}, directory=tmp_path)
    with pytest.raises(ConfigurationError, match="more than one engine"):
        load({}, ["--camunda.clients.eu.grpc-address=http://eu:26500"], tmp_path)


def test_mcp_clients_are_ignored_with_a_word(tmp_path):
    name = "camunda.connector.agenticai.mcp.client.clients.files.stdio.command"
    (warning,) = load({}, [f"--{name}=npx"], tmp_path).warnings
    assert warning == f"{name} (command line) is ignored: agentic AI connectors are not yet supported"


@pytest.mark.parametrize(("name", "status"), MAPS)
def test_maps_have_their_status(name, status):
    assert KEYS[name].status == status


def test_the_table_above_and_the_model_list_the_same_keys():
    listed = {row[0] for row in (*IMPLEMENTED, *IGNORED, *REFUSED, *MAPS)}
    assert listed == set(KEYS)
    assert len(listed) == len(IMPLEMENTED) + len(IGNORED) + len(REFUSED) + len(MAPS)


def test_a_worker_can_be_overridden_in_every_field():
    entries = KEYS["camunda.client.worker.override"].entries
    assert entries is not None
    assert {name.replace("_", "-") for name in entries} == OVERRIDE_FIELDS


@pytest.mark.parametrize(("name", "status"), VARIABLE_STATUS, ids=[row[0] for row in VARIABLE_STATUS])
def test_a_variable_of_the_environment_alone_has_its_status(tmp_path, name, status):
    found = find_variable(name)
    assert found is not None
    assert found.status == status
    value = "a.b:c" if name.endswith(("_FUNCTION", "_EXECUTABLE")) else "./" if name.endswith("LOCATION") else "5"
    warnings = load({name: value}, directory=tmp_path).warnings
    assert bool([w for w in warnings if w.startswith(f"{name} (environment) is ignored")]) == (status == "ignored")
    assert len(warnings) == (status == "ignored")


@pytest.mark.parametrize(
    "name", ["CONNECTOR_HTTP_PROXY_HOST", "CAMUNDA_CONNECTOR_HTTP_BLOCK_URL_X", "CONNECTOR_A_FUNCTION"]
)
def test_a_variable_of_the_environment_alone_is_ignored_in_a_file(tmp_path, name):
    (tmp_path / "application.properties").write_text(f"{name}=x\n")
    (warning,) = load({}, directory=tmp_path).warnings
    assert warning == f"{name} ({tmp_path}/application.properties) is ignored: it is read from the environment alone"


def test_no_two_keys_are_the_same_to_the_environment():
    spellings = [uniform(name) for name in KEYS]
    assert len(set(spellings)) == len(spellings)
    taken = set(spellings)
    assert [legacy.name for legacy in LEGACY if uniform(legacy.name) in taken] == []


def test_every_older_spelling_leads_to_a_key_that_exists():
    assert {legacy.target for legacy in LEGACY} <= set(KEYS)
    assert len(VARIABLES) > 10


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("camunda.client.grpc-address", "camunda.client.grpc-address"),
        ("camunda.client.grpcAddress", "camunda.client.grpc-address"),
        ("camunda.client.grpc_address", "camunda.client.grpc-address"),
        ("CAMUNDA.CLIENT.GRPCADDRESS", "camunda.client.grpc-address"),
        ("camunda.connector.secret-provider.environment.prefix", "camunda.connector.secretprovider.environment.prefix"),
        ("camunda.connector.broker.monitoring.addresses[3]", "camunda.connector.broker.monitoring.addresses"),
    ],
)
def test_names_are_relaxed_per_segment(name, key):
    found = locate(Property(split_path(name), name, "", "x"))
    assert found is not None
    assert found.key.name == key


@pytest.mark.parametrize("name", ["camunda.client.grpc.address", "camunda.clientgrpc-address", "grpc-address"])
def test_a_name_with_other_segments_is_another_name(name):
    assert locate(Property(split_path(name), name, "", "x")) is None


@pytest.mark.parametrize(
    "name",
    [
        "CAMUNDA_CLIENT_GRPCADDRESS",
        "CAMUNDA_CLIENT_GRPC_ADDRESS",
        "camunda_client_grpcAddress",
        "Camunda_Client_GrpcAddress",
    ],
)
def test_the_environment_may_keep_or_drop_the_dashes(name):
    found = locate(Property((), name, "", "environment"))
    assert found is not None
    assert found.key.name == "camunda.client.grpc-address"
