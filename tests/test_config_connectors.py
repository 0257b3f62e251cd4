from pathlib import Path

import pytest

from gateway.config import ConfigurationError, ConfiguredConnector, ConnectorRules, load, normalized_name

HTTP = "io.camunda:http-json:1"


def loaded(environ=(), arguments=(), folder=Path("/nonexistent")):
    return load(dict(environ), arguments, folder)


# ---- names and overrides ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "normalized"),
    [
        ("AWS S3", "AWS_S3"),
        ("my-connector", "MYCONNECTOR"),
        ("Ad-hoc tools schema", "ADHOC_TOOLS_SCHEMA"),
        ("HTTP REST", "HTTP_REST"),
        (" message ", "MESSAGE"),
        ("AWS Bedrock AgentCore Long-Term Memory", "AWS_BEDROCK_AGENTCORE_LONGTERM_MEMORY"),
        ("a  b_c", "A__B_C"),
        ("Grüße!", "GRE"),
    ],
)
def test_the_name_within_a_variable_follows_from_the_display_name(name, normalized):
    assert normalized_name(name) == normalized


def test_type_and_timeout_come_from_the_environment_or_a_file(tmp_path):
    (tmp_path / "application.properties").write_text(
        "CONNECTOR_SLACK_OUTBOUND_TYPE=mine:1\nCONNECTOR_SLACK_OUTBOUND_TIMEOUT=5000\n"
    )
    settings = loaded({"CONNECTOR_HTTP_REST_TYPE": " other:1 ", "CONNECTOR_HTTP_REST_TIMEOUT": "60000"}, (), tmp_path)
    assert (settings.connector_type("HTTP_REST"), settings.connector_timeout("HTTP_REST")) == ("other:1", 60000)
    assert (settings.connector_type("SLACK_OUTBOUND"), settings.connector_timeout("SLACK_OUTBOUND")) == ("mine:1", 5000)
    assert (settings.connector_type("NONE"), settings.connector_timeout("NONE")) == (None, None)
    assert settings.warnings == ()
    assert settings.overridden_connectors() == {"HTTP_REST", "SLACK_OUTBOUND"}


@pytest.mark.parametrize("text", ["soon", "0", "-1"])
def test_a_timeout_that_is_none_is_named(text):
    with pytest.raises(ConfigurationError, match="CONNECTOR_X_TIMEOUT: expected a number of milliseconds above zero"):
        loaded({"CONNECTOR_X_TIMEOUT": text}).connector_timeout("X")


# ---- discovery -------------------------------------------------------------------------------------------------------------


def test_without_rules_everything_found_is_enabled():
    rules = loaded().rules()
    assert rules.discovers
    assert rules.decide(HTTP) == "enabled"


@pytest.mark.parametrize("value", ["true", "false", ""])
def test_the_presence_of_discovery_disabled_counts_whatever_its_value(value):
    rules = loaded({"CONNECTOR_OUTBOUND_DISCOVERY_DISABLED": value}).rules()
    assert not rules.discovers
    assert rules.decide(HTTP, "discovered") == "skipped"
    assert rules.decide(HTTP, "configured") == "skipped"
    assert rules.decide(HTTP, "programmatic") == "enabled"


def test_one_configured_connector_ends_discovery_of_others():
    rules = loaded({"CONNECTOR_MINE_FUNCTION": "acme.weather:weather"}).rules()
    assert rules.configured == (ConfiguredConnector("MINE", "acme.weather:weather", "CONNECTOR_MINE_FUNCTION"),)
    assert rules.decide(HTTP, "discovered") == "skipped"
    assert rules.decide("acme:1", "configured") == "enabled"
    assert rules.decide("acme:2", "programmatic") == "enabled"


def test_a_configured_connector_has_companions():
    (mine,) = (
        loaded(
            {
                "CONNECTOR_MINE_FUNCTION": "acme:weather",
                "CONNECTOR_MINE_TYPE": "acme:1",
                "CONNECTOR_MINE_INPUT_VARIABLES": "city, unit",
                "CONNECTOR_MINE_TIMEOUT": "1000",
            }
        )
        .rules()
        .configured
    )
    assert (mine.type, mine.input_variables, mine.timeout_ms) == ("acme:1", ("city", "unit"), 1000)
    assert str(mine.missing("TYPE")).endswith("Please configure it via CONNECTOR_MINE_TYPE environment variable")


@pytest.mark.parametrize("target", ["io.acme.MyFunction", "", "a:b c", "a:"])
def test_a_java_class_is_no_python_object(target):
    with pytest.raises(ConfigurationError, match=r"CONNECTOR_MINE_FUNCTION \(environment\): expected a Python object"):
        loaded({"CONNECTOR_MINE_FUNCTION": target})


def test_inbound_connectors_have_rules_of_their_own():
    environ = {"CONNECTOR_MINE_EXECUTABLE": "acme:ticker", "CONNECTOR_MINE_DEDUPLICATION_PROPERTIES": "a,b"}
    settings = loaded(environ)
    (mine,) = settings.rules("INBOUND").configured
    assert (mine.target, mine.deduplication_properties) == ("acme:ticker", ("a", "b"))
    assert settings.rules("OUTBOUND") == ConnectorRules("OUTBOUND")


def test_disabled_types_are_listed_without_a_worker():
    rules = loaded({"CONNECTOR_OUTBOUND_DISABLED": f" {HTTP.upper()} , other:1"}).rules()
    assert [rules.decide(job_type) for job_type in (HTTP, "other:1", "third:1")] == ["disabled", "disabled", "enabled"]


def test_an_allow_list_enables_nothing_else_even_when_empty():
    rules = loaded({"CONNECTOR_OUTBOUND_ENABLED": HTTP}).rules()
    assert [rules.decide(HTTP), rules.decide("other:1")] == ["enabled", "disabled"]
    assert loaded({"CONNECTOR_OUTBOUND_ENABLED": ""}).rules().decide(HTTP) == "disabled"


@pytest.mark.parametrize("direction", ["OUTBOUND", "INBOUND"])
def test_both_lists_at_once_are_refused_at_the_start(direction):
    with pytest.raises(ConfigurationError, match=f"CONNECTOR_{direction}_ENABLED and CONNECTOR_{direction}_DISABLED"):
        loaded({f"CONNECTOR_{direction}_ENABLED": "a", f"CONNECTOR_{direction}_DISABLED": ""})


# ---- workers ---------------------------------------------------------------------------------------------------------------


def test_a_worker_has_the_defaults_of_the_shipped_runtime():
    worker = loaded().worker(HTTP, input_variables=("url", "method"))
    assert worker.enabled
    assert (worker.max_jobs_active, worker.stream_enabled, worker.timeout_ms) == (100, True, 300_000)
    assert (worker.stream_timeout_ms, worker.poll_interval_ms, worker.request_timeout_ms) == (28_800_000, 100, 10_000)
    assert worker.tenant_ids == ("<default>",)
    assert worker.fetch_variables == ("url", "method")
    assert (worker.name, worker.type, worker.force_fetch_all) == (None, None, False)


def test_the_timeout_is_that_of_the_override_else_of_the_connector_else_of_the_defaults():
    arguments = ["--camunda.client.worker.defaults.timeout=1s"]
    assert loaded({}, arguments).worker(HTTP).timeout_ms == 1000
    assert loaded({}, arguments).worker(HTTP, 2000).timeout_ms == 2000
    arguments.append(f"--camunda.client.worker.override[{HTTP}].timeout=3s")
    assert loaded({}, arguments).worker(HTTP, 2000).timeout_ms == 3000
    assert loaded({}, arguments).worker("other:1", 2000).timeout_ms == 2000


@pytest.mark.parametrize(
    ("environ", "tenants"),
    [
        ({}, ("<default>",)),
        ({"CAMUNDA_CLIENT_TENANTID": "t"}, ("t",)),
        ({"CAMUNDA_CLIENT_TENANTID": "t", "CAMUNDA_CLIENT_WORKER_DEFAULTS_TENANTIDS": "a,b"}, ("a", "b")),
        (
            {"CAMUNDA_CLIENT_WORKER_DEFAULTS_TENANTIDS": "a", "CAMUNDA_CLIENT_WORKER_OVERRIDE_X_TENANTIDS_0_": "c"},
            ("c",),
        ),
    ],
)
def test_tenants_are_those_of_the_override_else_of_the_defaults_else_of_the_client(environ, tenants):
    assert loaded(environ).worker("x").tenant_ids == tenants


def test_variables_are_added_by_the_defaults_and_replaced_by_an_override():
    arguments = ["--camunda.client.worker.defaults.fetch-variables=trace,url"]
    assert loaded({}, arguments).worker("x", input_variables=("url",)).fetch_variables == ("url", "trace")
    arguments.append("--camunda.client.worker.override.x.fetch-variables=only")
    assert loaded({}, arguments).worker("x", input_variables=("url",)).fetch_variables == ("only",)


def test_a_connector_that_declares_no_variables_gets_all():
    settings = loaded({}, ["--camunda.client.worker.defaults.fetch-variables=trace"])
    assert settings.worker("x").fetch_variables == ()


def test_all_variables_can_be_forced():
    worker = loaded({}, ["--camunda.client.worker.override.x.force-fetch-all-variables=true"]).worker(
        "x", input_variables=("a",)
    )
    assert (worker.fetch_variables, worker.force_fetch_all) == ((), True)


SPELLINGS = [
    ({}, f"camunda.client.worker.override[{HTTP}].max-jobs-active: 7\n"),
    ({}, f'camunda.client.worker.override."{HTTP}".max-jobs-active: 7\n'),
    ({}, f"camunda:\n  client:\n    worker:\n      override:\n        {HTTP}:\n          maxJobsActive: 7\n"),
    ({}, f'camunda:\n  client:\n    worker:\n      override:\n        "[{HTTP}]":\n          max-jobs-active: 7\n'),
    ({"CAMUNDA_CLIENT_WORKER_OVERRIDE_IO_CAMUNDA_HTTP_JSON_1_MAXJOBSACTIVE": "7"}, ""),
    ({"CAMUNDA_CLIENT_WORKER_OVERRIDE_IOCAMUNDAHTTPJSON1_MAX_JOBS_ACTIVE": "7"}, ""),
    ({f"camunda.client.worker.override[{HTTP}].max-jobs-active": "7"}, ""),
    (
        {"CAMUNDA_CLIENT_WORKER_OVERRIDE_IOCAMUNDAHTTPJSON1_MAXJOBSACTIVE": "7"},
        f"camunda.client.worker.override[{HTTP}].max-jobs-active: 8\n",
    ),
]


@pytest.mark.parametrize(("environ", "text"), SPELLINGS)
def test_a_job_type_can_be_written_in_many_ways(tmp_path, environ, text):
    (tmp_path / "application.yaml").write_text(text)
    settings = loaded(environ, (), tmp_path)
    assert settings.worker(HTTP).max_jobs_active == 7
    assert settings.worker("other:1").max_jobs_active == 100
    assert settings.warnings == ()


def test_a_job_type_with_dots_needs_no_brackets():
    settings = loaded({}, ["--camunda.client.worker.override.acme.pay.v1.enabled=false"])
    assert not settings.worker("acme.pay.v1").enabled
    assert settings.worker("acme.pay").enabled


def test_a_worker_can_be_renamed_and_retyped():
    arguments = [f"--camunda.client.worker.override.x.{field}=y" for field in ("name", "type")]
    worker = loaded({}, arguments).worker("x")
    assert (worker.name, worker.type) == ("y", "y")
