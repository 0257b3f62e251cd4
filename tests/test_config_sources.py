import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import ConfigurationError, load
from gateway.config.sources import flatten, join_path, parse_properties, profile_matches, split_path


def mode_of(environ=(), arguments=(), directory=None):
    return load(dict(environ), arguments, directory).client.tenant_id


def write(directory, name, tenant):
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    text = f"camunda.client.tenant-id={tenant}\n"
    if file.suffix in {".yaml", ".yml"}:
        text = f"camunda:\n  client:\n    tenant-id: {tenant}\n"
    file.write_text(text)
    return file


# ---- order ---------------------------------------------------------------------------------------------------------------


def test_each_source_beats_the_one_below(tmp_path):
    environ: dict[str, str] = {}
    arguments: list[str] = []
    assert mode_of(environ, arguments, tmp_path) == "<default>"
    write(tmp_path, "application.yaml", "yaml")
    assert mode_of(environ, arguments, tmp_path) == "yaml"
    write(tmp_path, "application.properties", "properties")
    assert mode_of(environ, arguments, tmp_path) == "properties"
    write(tmp_path, "config/application.yml", "config-folder")
    assert mode_of(environ, arguments, tmp_path) == "config-folder"
    write(tmp_path, "config/deep/application.yml", "config-sub-folder")
    assert mode_of(environ, arguments, tmp_path) == "config-sub-folder"
    environ["SPRING_PROFILES_ACTIVE"] = "eu,prod"
    write(tmp_path, "application-eu.yaml", "eu")
    assert mode_of(environ, arguments, tmp_path) == "eu"
    write(tmp_path, "application-prod.properties", "prod")
    assert mode_of(environ, arguments, tmp_path) == "prod"
    environ["CAMUNDA_CLIENT_TENANTID"] = "environment"
    assert mode_of(environ, arguments, tmp_path) == "environment"
    environ["SPRING_APPLICATION_JSON"] = '{"camunda": {"client": {"tenant-id": "json"}}}'
    assert mode_of(environ, arguments, tmp_path) == "json"
    environ["JAVA_OPTS"] = "-Xmx1g '-Dcamunda.client.tenant-id=java opts'"
    assert mode_of(environ, arguments, tmp_path) == "java opts"
    arguments.append("-Dcamunda.client.tenant-id=system")
    assert mode_of(environ, arguments, tmp_path) == "system"
    arguments.insert(0, "--camunda.client.tenant-id=flag")
    assert mode_of(environ, arguments, tmp_path) == "flag"


def test_a_profile_that_is_not_active_is_not_read(tmp_path):
    write(tmp_path, "application-prod.yaml", "prod")
    assert mode_of(directory=tmp_path) == "<default>"


def test_a_plain_file_may_name_the_profiles(tmp_path):
    (tmp_path / "application.properties").write_text("spring.profiles.active=prod\n")
    write(tmp_path, "application-prod.yaml", "prod")
    assert mode_of(directory=tmp_path) == "prod"


def test_a_location_replaces_the_usual_places(tmp_path):
    write(tmp_path, "application.yaml", "usual")
    write(tmp_path, "other/application.yaml", "other")
    assert mode_of({"SPRING_CONFIG_LOCATION": "file:other/"}, (), tmp_path) == "other"
    assert mode_of({"SPRING_CONFIG_LOCATION": "other"}, (), tmp_path) == "other"


def test_an_additional_location_goes_on_top(tmp_path):
    write(tmp_path, "application.yaml", "usual")
    file = write(tmp_path, "mine.yaml", "mine")
    for name in ("SPRING_CONFIG_ADDITIONALLOCATION", "SPRING_CONFIG_ADDITIONAL_LOCATION"):
        assert mode_of({name: str(file)}, (), tmp_path) == "mine"
    assert mode_of({}, ["--spring.config.additional-location=optional:none.yaml;mine.yaml"], tmp_path) == "mine"


def test_an_additional_file_has_profiles_too(tmp_path):
    write(tmp_path, "mine.yaml", "mine")
    write(tmp_path, "mine-prod.yaml", "mine-prod")
    environ = {"SPRING_CONFIG_ADDITIONALLOCATION": "mine.yaml", "SPRING_PROFILES_ACTIVE": "prod"}
    assert mode_of(environ, (), tmp_path) == "mine-prod"


def test_the_base_name_of_the_files_can_be_changed(tmp_path):
    write(tmp_path, "connectors.yaml", "named")
    assert mode_of({"SPRING_CONFIG_NAME": "connectors"}, (), tmp_path) == "named"


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("none.yaml", "none.yaml: no such file (spring.config.location); write optional:none.yaml if it may be absent"),
        ("none/", "none/: no such folder (spring.config.location); write optional:none/ if it may be absent"),
        ("none", "none: expected a folder, or a file that ends in .properties, .yaml or .yml"),
    ],
)
def test_a_location_that_is_not_there_is_an_error(tmp_path, location, text):
    with pytest.raises(ConfigurationError) as caught:
        load({"SPRING_CONFIG_LOCATION": location}, (), tmp_path)
    assert str(caught.value) == text
    assert load({"SPRING_CONFIG_LOCATION": "optional:none/"}, (), tmp_path).warnings == ()


def test_a_class_path_is_passed_over_with_a_word(tmp_path):
    settings = load({"SPRING_CONFIG_LOCATION": "classpath:/,optional:./"}, (), tmp_path)
    assert settings.warnings == ("spring.config.location: classpath:/ is ignored: there is no class path",)


def test_documents_of_a_file_apply_by_profile(tmp_path):
    (tmp_path / "application.yaml").write_text(
        "camunda.client.tenant-id: first\n---\nspring.config.activate.on-profile: prod\n"
        "camunda.client:\n  tenant-id: second\n---\nspring.config.activate.on-profile: '!prod'\n"
        "camunda.client.worker.defaults.max-jobs-active: 5\n"
    )
    settings = load({}, (), tmp_path)
    assert (settings.client.tenant_id, settings.client.worker.defaults.max_jobs_active) == ("first", 5)
    settings = load({"SPRING_PROFILES_ACTIVE": "prod"}, (), tmp_path)
    assert (settings.client.tenant_id, settings.client.worker.defaults.max_jobs_active) == ("second", 100)


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ("a", True),
        ("b", False),
        ("!a", False),
        ("!b", True),
        ("a & !b", True),
        ("a & b", False),
        ("b | a", True),
        ("b,a", True),
    ],
)
def test_profile_expressions(expression, matches):
    assert profile_matches(expression, ["a"]) is matches


# ---- formats -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", {"a": "b"}),
        ("a = b ", {"a": "b"}),
        ("a: b", {"a": "b"}),
        ("a b", {"a": "b"}),
        ("a", {"a": ""}),
        ("  # comment\n! comment\n\na=1", {"a": "1"}),
        ("a=1,\\\n   2", {"a": "1,2"}),
        ("a=c:\\\\x", {"a": "c:\\x"}),
        ("a=\\u00e4\\n", {"a": "ä\n"}),
        ("o[io.camunda\\:http-json\\:1].e=x", {"o[io.camunda:http-json:1].e": "x"}),
        ("a=x=y:z", {"a": "x=y:z"}),
        ("a=1\na=2", {"a": "2"}),
    ],
)
def test_properties_files(text, expected):
    assert list(parse_properties(text)) == [expected]


def test_a_properties_file_may_have_documents():
    assert list(parse_properties("a=1\n#---\nb=2\n")) == [{"a": "1"}, {"b": "2"}]


@given(st.text(max_size=200))
def test_any_text_is_a_properties_file(text):
    for document in parse_properties(text):
        assert all(isinstance(value, str) for value in document.values())


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.b-c.d", ("a", "b-c", "d")),
        ("o[io.camunda:http-json:1].x-y", ("o", "io.camunda:http-json:1", "x-y")),
        ('o."io.camunda:http-json:1".x', ("o", "io.camunda:http-json:1", "x")),
        ("a[0]", ("a", "0")),
        ("a[0].b[1]", ("a", "0", "b", "1")),
        ("a..b", ("a", "b")),
    ],
)
def test_names_are_split_at_dots_outside_brackets(name, path):
    assert split_path(name) == path


def test_yaml_keys_with_special_characters_need_no_brackets():
    tree = {"o": {"io.camunda:http-json:1": {"e": 1}, "[a.b]": {"e": True}, "c.d": [None, "x"]}}
    assert list(flatten(tree)) == [
        (("o", "io.camunda:http-json:1", "e"), "o[io.camunda:http-json:1].e", "1"),
        (("o", "a.b", "e"), "o[a.b].e", "true"),
        (("o", "c", "d", "0"), "o.c.d[0]", ""),
        (("o", "c", "d", "1"), "o.c.d[1]", "x"),
    ]


@given(st.lists(st.text("ab.:-1", min_size=1, max_size=6), min_size=1, max_size=4))
def test_a_joined_path_splits_into_the_same(path):
    assert split_path(join_path(path)) == tuple(path)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("application.yaml", "a: [", "application.yaml, line 2, column 1: did not find"),
        ("application.yaml", "- a\n", "expected an object of settings"),
        ("application.yaml", "a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
    ],
)
def test_a_broken_file_is_named_with_its_place(tmp_path, name, content, part):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        load({}, (), tmp_path)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_in_latin_1_is_read(tmp_path):
    (tmp_path / "application.properties").write_bytes(b"camunda.client.tenant-id=\xe4\n")
    assert mode_of(directory=tmp_path) == "ä"


@pytest.mark.parametrize(
    ("environ", "arguments", "part"),
    [
        ({"SPRING_APPLICATION_JSON": "{"}, (), "SPRING_APPLICATION_JSON (environment): not valid JSON"),
        ({"SPRING_APPLICATION_JSON": "[]"}, (), "expected an object"),
        ({"JAVA_OPTS": '-Da="b'}, (), "JAVA_OPTS (environment): a quotation mark is not closed"),
        ({}, ["run"], "run (command line): expected --key=value"),
        ({}, ["-x"], "-x (command line): expected --key=value"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, environ, arguments, part):
    with pytest.raises(ConfigurationError) as caught:
        load(environ, arguments, tmp_path)
    assert part in str(caught.value)


def test_a_variable_may_be_named_as_a_property_is(tmp_path):
    assert mode_of({"camunda.client.tenant-id": "dotted"}, (), tmp_path) == "dotted"


def test_json_of_the_environment_may_have_lists(tmp_path):
    tree = {"camunda": {"client": {"worker": {"defaults": {"tenant-ids": ["a", "b"]}}}}}
    settings = load({"SPRING_APPLICATION_JSON": json.dumps(tree)}, (), tmp_path)
    assert settings.client.worker.defaults.tenant_ids == ("a", "b")


def test_an_empty_file_is_no_error(tmp_path):
    (tmp_path / "application.yaml").write_text("")
    (tmp_path / "application.properties").write_text("")
    assert load({}, (), tmp_path).describe() == load({}, (), tmp_path / "none").describe()
