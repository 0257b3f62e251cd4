import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.config import ConfigurationError, Settings, load

SECRETS = ("hidden-password", "hidden-client-secret", "hidden-store")


@pytest.fixture
def folder(tmp_path):
    """An empty folder: nothing of the machine's own files gets in."""
    return tmp_path


def refusal(folder, environ=(), arguments=()):
    with pytest.raises(ConfigurationError) as caught:
        load(dict(environ), arguments, folder)
    text = str(caught.value)
    assert "\n" not in text
    return text


# ---- recipes: how the engine is reached ----------------------------------------------------------------------------------


def test_nothing_set_means_an_engine_on_this_machine_without_authentication(folder):
    connection = load({}, (), folder).connection()
    assert connection.mode == "self-managed"
    assert connection.grpc_address == "http://localhost:26500"
    assert connection.rest_address == "http://localhost:8080"
    assert connection.auth.method == "none"
    assert connection.tenant_id == "<default>"


def test_the_plaintext_recipe(folder):
    connection = load(
        {
            "CAMUNDA_CLIENT_MODE": "self-managed",
            "CAMUNDA_CLIENT_GRPCADDRESS": "http://zeebe:26500",
            "CAMUNDA_CLIENT_RESTADDRESS": "http://zeebe:8080",
            "CAMUNDA_CLIENT_AUTH_METHOD": "none",
        },
        (),
        folder,
    ).connection()
    assert (connection.grpc_address, connection.rest_address) == ("http://zeebe:26500", "http://zeebe:8080")
    assert connection.auth.method == "none"


def test_the_basic_recipe_is_detected_from_the_user_name(folder):
    environ = {"CAMUNDA_CLIENT_AUTH_USERNAME": "demo", "CAMUNDA_CLIENT_AUTH_PASSWORD": "demo"}
    connection = load(environ, (), folder).connection()
    assert (connection.auth.method, connection.auth.username, connection.auth.password) == ("basic", "demo", "demo")


def test_the_oidc_recipe(folder):
    connection = load(
        {
            "CAMUNDA_CLIENT_AUTH_METHOD": "oidc",
            "CAMUNDA_CLIENT_AUTH_CLIENTID": "connectors",
            "CAMUNDA_CLIENT_AUTH_CLIENTSECRET": "s",
            "CAMUNDA_CLIENT_AUTH_TOKENURL": "http://idp/token",
            "CAMUNDA_CLIENT_AUTH_AUDIENCE": "aud",
            "CAMUNDA_CLIENT_AUTH_SCOPE": "x/.default",
        },
        (),
        folder,
    ).connection()
    assert connection.auth.method == "oidc"
    assert (connection.auth.token_url, connection.auth.audience) == ("http://idp/token", "aud")
    assert connection.auth.scope == "x/.default"


def test_the_saas_recipe_derives_addresses_and_token_source(folder):
    connection = load(
        {
            "CAMUNDA_CLIENT_AUTH_CLIENTID": "id",
            "CAMUNDA_CLIENT_AUTH_CLIENTSECRET": "s",
            "CAMUNDA_CLIENT_CLOUD_REGION": "jfk-1",
            "CAMUNDA_CLIENT_CLOUD_CLUSTERID": "abc",
        },
        (),
        folder,
    ).connection()
    assert connection.mode == "saas"
    assert connection.grpc_address == "https://abc.jfk-1.zeebe.camunda.io:443"
    assert connection.rest_address == "https://jfk-1.zeebe.camunda.io:443/abc"
    assert connection.auth.token_url == "https://login.cloud.camunda.io/oauth/token"
    assert connection.auth.audience == "zeebe.camunda.io"


def test_every_key_of_the_connection_reaches_the_engine(folder):
    connection = load(
        {
            "CAMUNDA_CLIENT_KEEPALIVE": "30s",
            "CAMUNDA_CLIENT_REQUESTTIMEOUT": "1500",
            "CAMUNDA_CLIENT_MAXMESSAGESIZE": "1MB",
            "CAMUNDA_CLIENT_CACERTIFICATEPATH": "/ca.pem",
            "CAMUNDA_CLIENT_AUTH_CREDENTIALSCACHEPATH": "/tmp/connectors",
            "CAMUNDA_CLIENT_AUTH_TOKENFETCHRETRYABLESTATUSCODES": "500, 503",
            "CAMUNDA_CLIENT_AUTH_CLIENTASSERTION_KEYSTOREPATH": "/k.p12",
            "CAMUNDA_CLIENT_AUTH_CLIENTASSERTION_KEYSTOREPASSWORD": "s",
            "CAMUNDA_CLIENT_PREFIXPHYSICALTENANTPATH": "false",
        },
        (),
        folder,
    ).connection()
    assert (connection.keep_alive, connection.request_timeout, connection.max_message_size) == (30.0, 1.5, 1024**2)
    assert connection.ca_certificate_path == Path("/ca.pem")
    assert connection.auth.credentials_cache_path == Path("/tmp/connectors")
    assert connection.auth.token_fetch_retryable_status_codes == (500, 503)
    assert connection.auth.client_assertion is not None
    assert connection.auth.client_assertion.keystore_password == "s"
    assert connection.prefix_physical_tenant_path is False


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"CAMUNDA_CLIENT_MODE": "saas"}, "camunda.client.cloud.cluster-id: required in mode saas"),
        ({"CAMUNDA_CLIENT_AUTH_USERNAME": "u"}, "camunda.client.auth.username and auth.password: both required"),
        ({"CAMUNDA_CLIENT_AUTH_CLIENTID": "u"}, "camunda.client.auth.client-secret: required for auth.method oidc"),
    ],
)
def test_a_recipe_with_a_part_missing_is_refused_at_the_start(folder, environ, text):
    assert refusal(folder, environ).startswith(text)


# ---- errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        (
            {"CAMUNDA_CLIENT_REQUEST_TIMEOUT": "soon"},
            "CAMUNDA_CLIENT_REQUEST_TIMEOUT (environment): expected a duration, for example 10s, 500ms or PT10S, got 'soon'",
        ),
        (
            {"CAMUNDA_CLIENT_MODE": "cloud"},
            "CAMUNDA_CLIENT_MODE (environment): expected one of saas, self-managed, got 'cloud'",
        ),
        (
            {"CAMUNDA_CLIENT_GRPCADDRESS": "user:hidden@host:26500"},
            "CAMUNDA_CLIENT_GRPCADDRESS (environment): expected an absolute URL with http:// or https://, for example http://localhost:26500, got '***@host:26500'",
        ),
        (
            {"SERVER_PORT": "80000"},
            "SERVER_PORT (environment): expected a port from 0 to 65535, got '80000'",
        ),
        (
            {"GATEWAY_JOBS_SYNCTHREADS": "0"},
            "GATEWAY_JOBS_SYNCTHREADS (environment): expected a number from 1 to 2147483647, got '0'",
        ),
        (
            {"LOGGING_LEVEL_ROOT": "loud"},
            "LOGGING_LEVEL_ROOT (environment): expected one of trace, debug, info, warn, error, fatal, off, got 'loud'",
        ),
        (
            {"CAMUNDA_CLIENT_WORKER_OVERRIDE_MINE_TIMEOUT": "x"},
            "CAMUNDA_CLIENT_WORKER_OVERRIDE_MINE_TIMEOUT (environment): expected a duration, for example 10s, 500ms or PT10S, got 'x'",
        ),
    ],
)
def test_a_wrong_value_is_named_as_the_user_wrote_it(folder, environ, text):
    assert refusal(folder, environ) == text


def test_a_wrong_value_in_a_file_is_named_with_the_file(folder):
    file = folder / "application.yaml"
    file.write_text("camunda:\n  client:\n    request-timeout: soon\n")
    assert refusal(folder).startswith(f"camunda.client.request-timeout ({file}): expected a duration")


def test_several_wrong_values_are_counted(folder):
    assert refusal(folder, {"SERVER_PORT": "x", "CAMUNDA_CLIENT_KEEPALIVE": "x"}).endswith("(and 1 more)")


def test_a_structure_where_a_value_belongs_is_refused(folder):
    text = refusal(
        folder, {}, ["--camunda.client.tenant-id=a", "--camunda.client.worker.defaults.tenant-ids[0]=", "--x=1", "run"]
    )
    assert text == "run (command line): expected --key=value, for example --camunda.client.mode=saas"


# ---- relaxed names, lists, maps --------------------------------------------------------------------------------------------


def test_list_items_of_the_environment_are_collected_in_order(folder):
    environ = {
        "CAMUNDA_CLIENT_WORKER_DEFAULTS_TENANTIDS_1_": "b",
        "CAMUNDA_CLIENT_WORKER_DEFAULTS_TENANT_IDS_0": "a",
        "CAMUNDA_CLIENT_WORKER_DEFAULTS_TENANTIDS_10": "c",
    }
    assert load(environ, (), folder).client.worker.defaults.tenant_ids == ("a", "b", "c")


def test_a_list_of_a_higher_source_replaces_the_whole_list(folder):
    (folder / "application.yaml").write_text("camunda.client.worker.defaults.tenant-ids: [a, b, c]\n")
    environ = {"CAMUNDA_CLIENT_WORKER_DEFAULTS_TENANTIDS_0_": "x"}
    assert load(environ, (), folder).client.worker.defaults.tenant_ids == ("x",)


def test_an_empty_value_means_that_the_key_is_not_set(folder):
    environ = {"CAMUNDA_CLIENT_AUTH_USERNAME": "", "CAMUNDA_CLIENT_REQUESTTIMEOUT": "", "SERVER_PORT": ""}
    settings = load(environ, (), folder)
    assert settings.connection().auth.method == "none"
    assert settings.server.port == 8080


def test_an_empty_secret_prefix_is_a_value(folder):
    environ = {"CAMUNDA_CONNECTOR_SECRETPROVIDER_ENVIRONMENT_PREFIX": ""}
    assert load(environ, (), folder).connector.secretprovider.environment.prefix == ""


def test_log_levels_are_a_map_of_loggers(folder):
    (folder / "application.yaml").write_text("logging:\n  level:\n    root: WARN\n    io.camunda.connector: TRACE\n")
    settings = load({"LOGGING_LEVEL_IO_CAMUNDA_CONNECTOR": "DEBUG", "LOGGING_LEVEL_GRPC": "off"}, (), folder)
    assert dict(settings.logging.level) == {"root": "warn", "io.camunda.connector": "debug", "grpc": "off"}


# ---- older spellings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "key", "expected"),
    [
        ("ZEEBE_CLIENT_BROKER_GATEWAYADDRESS", "zeebe:26500", "camunda.client.grpc-address", "http://zeebe:26500"),
        ("ZEEBE_CLIENT_BROKER_GATEWAY_ADDRESS", "https://z:443", "camunda.client.grpc-address", "https://z:443"),
        ("zeebe.client.broker.rest-address", "http://z:8080", "camunda.client.rest-address", "http://z:8080"),
        ("ZEEBE_CLIENT_CLOUD_REGION", "r", "camunda.client.cloud.region", "r"),
        ("ZEEBE_CLIENT_CLOUD_BASEURL", "zeebe.example.io", "camunda.client.cloud.domain", "example.io"),
        ("ZEEBE_CLIENT_REQUESTTIMEOUT", "3s", "camunda.client.request-timeout", "3s"),
        ("ZEEBE_CLIENT_DEFAULTTENANTID", "t", "camunda.client.tenant-id", "t"),
        ("ZEEBE_AUTHORIZATION_SERVER_URL", "http://idp/t", "camunda.client.auth.token-url", "http://idp/t"),
        ("ZEEBE_TOKEN_SCOPE", "s", "camunda.client.auth.scope", "s"),
        ("ZEEBE_CLIENT_WORKER_MAXJOBSACTIVE", "7", "camunda.client.worker.defaults.max-jobs-active", "7"),
        ("ZEEBE_CLIENT_JOB_TIMEOUT", "1m", "camunda.client.worker.defaults.timeout", "1m"),
        ("ZEEBE_CLIENT_SECURITY_CERTPATH", "/c", "camunda.client.ca-certificate-path", "/c"),
        ("ZEEBE_CLIENT_DEFAULTJOBWORKERTENANTIDS", "a,b", "camunda.client.worker.defaults.tenant-ids", "a,b"),
        ("CAMUNDA_CLIENT_ZEEBE_DEFAULTS_TENANTIDS", "a,b", "camunda.client.worker.defaults.tenant-ids", "a,b"),
        ("CAMUNDA_CLIENT_ZEEBE_GRPCADDRESS", "http://z:1", "camunda.client.grpc-address", "http://z:1"),
        ("camunda.client.zeebe.defaults.max-jobs-active", "9", "camunda.client.worker.defaults.max-jobs-active", "9"),
        ("camunda.client.auth.issuer", "http://idp/t", "camunda.client.auth.token-url", "http://idp/t"),
        ("CAMUNDA_CLIENT_REGION", "r", "camunda.client.cloud.region", "r"),
        ("CAMUNDA_CLIENT_TENANTIDS", "a,b", "camunda.client.worker.defaults.tenant-ids", "a,b"),
    ],
)
def test_an_older_spelling_counts_and_is_told(folder, name, value, key, expected):
    settings = load({name: value}, (), folder)
    shown, origin = settings.describe()[key]
    assert shown.replace("60s", "1m") == expected
    assert origin == f"{name} (environment)"
    assert settings.warnings == (f"{name} (environment) is an older spelling of {key}",)


def test_the_new_spelling_wins_over_an_older_one_of_any_source(folder):
    (folder / "application.yaml").write_text("camunda.client.grpc-address: http://new:1\n")
    settings = load({"ZEEBE_CLIENT_BROKER_GATEWAYADDRESS": "old:1"}, (), folder)
    assert settings.connection().grpc_address == "http://new:1"
    assert settings.warnings[0].startswith("ZEEBE_CLIENT_BROKER_GATEWAYADDRESS (environment) is ignored: ")


def test_an_old_address_without_scheme_is_tls_when_plaintext_is_off(folder):
    environ = {"ZEEBE_CLIENT_BROKER_GATEWAYADDRESS": "z:443", "ZEEBE_CLIENT_SECURITY_PLAINTEXT": "false"}
    assert load(environ, (), folder).connection().grpc_address == "https://z:443"


def test_an_older_spelling_of_an_override_counts(folder):
    settings = load({}, ["--camunda.client.zeebe.override[a:b].max-jobs-active=3"], folder)
    assert settings.worker("a:b").max_jobs_active == 3


# ---- unknown keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("CAMUNDA_CLIENT_GRPCADRESS", "CAMUNDA_CLIENT_GRPCADDRESS"),
        ("CAMUNDA_CLIENT_AUTH_CLIENT_SECRETT", "CAMUNDA_CLIENT_AUTH_CLIENTSECRET"),
        ("GATEWAY_JOBS_MAXINFLIGTH", "GATEWAY_JOBS_MAXINFLIGHT"),
        ("camunda.client.worker.defaults.max-job-active", "camunda.client.worker.defaults.max-jobs-active"),
        ("management.endpoints.web.exposure.includes", "management.endpoints.web.exposure.include"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(folder, name, suggestion):
    (warning,) = load({name: "1"}, (), folder).warnings
    assert warning == f"{name} (environment) is unknown and ignored; did you mean {suggestion}?"


def test_a_key_like_no_other_gets_no_suggestion(folder):
    assert load({"CONNECTOR_ZZZZ": "1"}, (), folder).warnings == (
        "CONNECTOR_ZZZZ (environment) is unknown and ignored",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CAMUNDA_ZEEBE_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("CAMUNDA_ZEEBE_GATEWAY_SERVICE_PORT_HTTP", "8080"),
        ("CONNECTORS_PORT", "tcp://10.0.0.1:8080"),
        ("CONNECTORS_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("PATH", "/bin"),
        ("HOME", "/root"),
        ("spring.main.banner-mode", "off"),
    ],
)
def test_what_kubernetes_and_the_shell_set_is_no_unknown_key(folder, name, value):
    assert load({name: value}, (), folder).warnings == ()


def test_an_unknown_field_of_an_override_is_named(folder):
    (warning,) = load({}, ["--camunda.client.worker.override[a].max-jobs=1"], folder).warnings
    assert warning.startswith("camunda.client.worker.override[a].max-jobs (command line) is unknown and ignored")


# ---- placeholders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "a-value"),
        ("x-${A}-y", "x-a-value-y"),
        ("${NONE:default}", "default"),
        ("${NONE:}", ""),
        ("${NONE:${A}}", "a-value"),
        ("${${NAME}}", "a-value"),
        ("${NONE:x:y}", "x:y"),
        ("${server.port}", "9090"),
        ("${a.b-c}", "found"),
        ("${open", "${open"),
        ("\\${A}", "${A}"),
        ("${CHAIN}", "a-value!"),
    ],
)
def test_placeholders_are_replaced_from_all_sources(folder, text, expected):
    environ = {"A": "a-value", "NAME": "A", "A_B_C": "found", "CHAIN": "${A}!", "CAMUNDA_CONNECTOR_HOSTNAME": text}
    settings = load(environ, ["--server.port=9090"], folder)
    assert (settings.connector.hostname or "") == expected


def test_a_placeholder_without_value_is_refused(folder):
    text = refusal(folder, {"CAMUNDA_CONNECTOR_HOSTNAME": "${NONE}"})
    assert (
        text
        == "CAMUNDA_CONNECTOR_HOSTNAME (environment): the placeholder ${NONE} has no value; ${NAME:default} gives it one"
    )


def test_a_placeholder_within_a_secret_is_not_shown(folder):
    text = refusal(folder, {"CAMUNDA_CLIENT_AUTH_PASSWORD": "pa${ssw}ord"})
    assert "ssw" not in text


def test_placeholders_in_a_circle_are_refused(folder):
    assert "in a circle" in refusal(folder, {"A": "${B}", "B": "${A}", "CAMUNDA_CONNECTOR_HOSTNAME": "${A}"})


@given(st.text("${}:ab\\", max_size=30))
def test_no_text_makes_placeholders_hang_or_crash(text):
    settings = load({"X": text, "A": "1"}, (), Path("/nonexistent"))
    try:
        assert isinstance(settings.property("X"), str)
    except LookupError as error:
        pytest.fail(str(error))


# ---- what is shown ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def secretive(folder):
    return load(
        {
            "CAMUNDA_CLIENT_AUTH_USERNAME": "demo",
            "CAMUNDA_CLIENT_AUTH_PASSWORD": SECRETS[0],
            "CAMUNDA_CLIENT_AUTH_CLIENTSECRET": SECRETS[1],
            "CAMUNDA_CLIENT_AUTH_CLIENTID": "id",
            "CAMUNDA_CLIENT_AUTH_KEYSTOREPASSWORD": SECRETS[2],
            "CONNECTOR_HTTP_PROXY_PASSWORD": "hidden-proxy",
            "SECRET_A": "hidden-a",
        },
        ["--camunda.connector.broker.monitoring.addresses=http://user:hidden-info@b:9600"],
        folder,
    )


def test_settings_print_themselves_masked(secretive):
    shown = [secretive, secretive.client, secretive.client.auth, secretive.connector, secretive.connector.broker]
    for text in (*map(repr, shown), *map(str, shown), json.dumps(secretive.describe())):
        assert "hidden" not in text
    assert not [secret for secret in SECRETS if secret in secretive.model_dump_json()]


def test_each_value_knows_its_source(secretive, folder):
    described = secretive.describe()
    assert described["camunda.client.auth.password"] == ("***", "CAMUNDA_CLIENT_AUTH_PASSWORD (environment)")
    assert described["camunda.client.auth.username"] == ("demo", "CAMUNDA_CLIENT_AUTH_USERNAME (environment)")
    assert described["camunda.client.mode"] == ("", "default")
    assert described["camunda.client.worker.defaults.stream-timeout"] == ("8h", "default")
    assert described["camunda.connector.broker.monitoring.addresses"] == (
        "http://***@b:9600",
        "camunda.connector.broker.monitoring.addresses (command line)",
    )


def test_entries_of_maps_are_described(folder):
    settings = load({"LOGGING_LEVEL_ROOT": "warn"}, ["--camunda.client.worker.override[a:b].timeout=30000"], folder)
    described = settings.describe()
    assert described["logging.level[root]"] == ("warn", "LOGGING_LEVEL_ROOT (environment)")
    assert described["camunda.client.worker.override[a:b].timeout"][0] == "30s"


def test_settings_are_frozen(folder):
    settings = load({}, (), folder)
    with pytest.raises(ValidationError):
        settings.client.tenant_id = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.environ["X"] = "y"  # type: ignore[index]


def test_settings_without_load_have_the_defaults():
    settings = Settings()
    assert (settings.server.port, settings.jobs.max_in_flight, settings.warnings) == (8080, 1000, ())
    assert settings.gateway.shutdown.grace.total_seconds() == 20
    assert settings.property("X") is None


# ---- single properties -----------------------------------------------------------------------------------------------------


def test_a_property_is_found_leniently_in_the_environment_and_exactly_in_files(folder):
    (folder / "application.properties").write_text("SECRET_FILE=from-file\nmy.key=dotted\n")
    settings = load({"SECRET_MY_KEY": "upper", "SECRET_my_other": "as-is"}, (), folder)
    assert settings.property("SECRET_my-key") == "upper"
    assert settings.property("SECRET_my.other") == "as-is"
    assert settings.property("SECRET_FILE") == "from-file"
    assert settings.property("secret_file") is None
    assert settings.property("my.key") == "dotted"
    assert settings.property("my.KEY") is None


def test_all_properties_together_are_what_secrets_are_looked_up_in(folder):
    (folder / "application.properties").write_text("SECRET_A=file\nSECRET_B=${A:b}\n")
    properties = load({"SECRET_A": "environment", "SECRET_C": "pa${ss"}, (), folder).properties()
    assert (properties["SECRET_A"], properties["SECRET_B"], properties["SECRET_C"]) == ("environment", "b", "pa${ss")


def test_properties_of_the_jvm_become_variables_of_the_http_client(folder):
    environ = {
        "JAVA_TOOL_OPTIONS": "-Dhttp.proxyHost=proxy -Dhttp.nonProxyHosts=a|b",
        "CONNECTOR_HTTPS_PROXY_HOST": "own",
    }
    settings = load(environ, ["-Dhttps.proxyHost=other", "-Dhttps.proxyPort=3128"], folder)
    assert settings.environ["CONNECTOR_HTTP_PROXY_HOST"] == "proxy"
    assert settings.environ["CONNECTOR_HTTP_NON_PROXY_HOSTS"] == "a|b"
    assert settings.environ["CONNECTOR_HTTPS_PROXY_HOST"] == "own"
    assert settings.environ["CONNECTOR_HTTPS_PROXY_PORT"] == "3128"


def test_the_runtime_is_named_after_the_host(folder):
    assert load({}, (), folder).runtime_id == "localhost"
    assert load({"HOSTNAME": "pod-1"}, (), folder).runtime_id == "pod-1"
    assert load({"HOSTNAME": "pod-1", "CAMUNDA_CONNECTOR_HOSTNAME": "mine"}, (), folder).runtime_id == "mine"


def test_the_presence_of_the_saas_marker_counts(folder):
    assert load({"CAMUNDA_CONNECTOR_RUNTIME_SAAS": "false"}, (), folder).runs_in_saas
    assert not load({}, (), folder).runs_in_saas


@given(st.dictionaries(st.from_regex(r"CAMUNDA_[A-Z_0-9]{1,40}", fullmatch=True), st.text(max_size=10), max_size=3))
def test_any_environment_is_read_or_refused_in_one_line(environ):
    settings = None
    try:
        settings = load(environ, (), Path("/nonexistent"))
    except ConfigurationError as error:
        refused = str(error)
        assert re.search(r"CAMUNDA|camunda", refused)
        assert "\n" not in refused
    assert settings is None or isinstance(settings.describe(), dict)
