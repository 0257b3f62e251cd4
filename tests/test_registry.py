"""Finding connectors: entry points, modules and files, what the environment names; overrides and duplicates."""

import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import registry
from gateway.config import ConfigurationError, load
from gateway.registry import (
    Registered,
    RegisteredInbound,
    connectors_in,
    inbound_connectors,
    load_file,
    load_module,
    named_types,
    outbound_connectors,
)
from gateway.sdk import OutboundConnector, outbound_connector

SOURCE = """
from gateway.sdk import JobContext, outbound_connector
from pydantic import BaseModel

class Request(BaseModel):
    a: int = 0

@outbound_connector("My Own", type="{type}", timeout=7)
async def own(request: Request) -> int:
    return request.a

same = own
not_a_connector = 5
"""


@outbound_connector("Installed", type="installed:1")
def installed() -> None: ...


@pytest.fixture(autouse=True)
def no_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [])


def offer(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    found = [EntryPoint(name, value, registry.ENTRY_POINTS) for name, value in values.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: found if group == registry.ENTRY_POINTS else [])


def own(folder: Path, job_type: str = "own:1", name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(SOURCE.format(type=job_type))
    return str(path)


def found(environ: Mapping[str, str] | None = None, *named: str) -> list[Registered]:
    return outbound_connectors(load(dict(environ or {}), (), Path("/nonexistent")), named)


# ---- where they come from --------------------------------------------------------------------------------------------


def test_installed_packages_offer_connectors_by_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, one=f"{__name__}:installed")
    (one,) = found()
    assert one.connector is installed
    assert (one.type, one.enabled, one.timeout_ms) == ("installed:1", True, None)


def test_the_http_connector_is_found_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert "io.camunda:http-json:1" in [one.type for one in found()]


@pytest.mark.parametrize(
    "value", ["no_such_module:x", f"{__name__}:no_such_name", "tests.test_registry:SOURCE", "tests.test_registry:Path"]
)
def test_a_broken_package_is_reported_and_harms_nobody(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    offer(monkeypatch, broken=value, one=f"{__name__}:installed")
    with capture_logs() as logs:
        assert [one.type for one in found()] == ["installed:1"]
    assert [entry["connector"] for entry in logs if entry["log_level"] == "warning"] == ["broken"]


def test_files_and_modules_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own(tmp_path, "second:1", "a_module_of_mine.py")
    monkeypatch.syspath_prepend(tmp_path)
    types = [one.type for one in found({}, own(tmp_path), "a_module_of_mine")]
    assert types == ["own:1", "second:1"]


def test_a_connector_with_two_names_in_a_module_is_one(tmp_path: Path) -> None:
    (one,) = connectors_in(load_module(own(tmp_path)))
    assert isinstance(one, OutboundConnector)
    assert one.input_variables == ("a",)


def test_a_file_is_run_again_each_time(tmp_path: Path) -> None:
    path = Path(own(tmp_path))
    first = load_file(path)
    path.write_text(SOURCE.format(type="changed:1"))
    assert (first.own.type, load_file(path).own.type) == ("own:1", "changed:1")


@pytest.mark.parametrize("source", ["import no_such_module", "def", "1 / 0", "raise SystemError('x')"])
def test_what_cannot_be_loaded_is_named_with_the_reason_and_leaves_nothing_behind(tmp_path: Path, source: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    before = set(sys.modules)
    with pytest.raises(ConfigurationError, match=r"connectors: expected a module or a file, .*broken\.py") as caught:
        found({}, str(path))
    assert "\n" not in str(caught.value)
    assert not {name for name in set(sys.modules) - before if "broken" in name}


@pytest.mark.parametrize("name", ["no_such_module", "/nonexistent/x.py"])
def test_what_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a module or a file"):
        found({}, name)


# ---- what the environment says ---------------------------------------------------------------------------------------


def configured(**more: str) -> dict[str, str]:
    return {"CONNECTOR_MINE_FUNCTION": f"{__name__}:installed", **more}


def test_the_environment_names_objects_and_then_nothing_is_discovered(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, other=f"{__name__}:installed")
    (one,) = found(
        configured(CONNECTOR_MINE_TYPE="mine:1", CONNECTOR_MINE_TIMEOUT="5000", CONNECTOR_MINE_INPUT_VARIABLES="a, b")
    )
    assert (one.connector.name, one.type, one.timeout_ms) == ("MINE", "mine:1", 5000)
    assert one.connector.input_variables == ("a", "b")
    assert one.connector.function is installed.function


def test_what_the_environment_leaves_open_is_the_objects_own() -> None:
    (one,) = found(configured())
    assert (one.type, one.connector.input_variables) == ("installed:1", ())


@pytest.mark.parametrize("target", [f"{__name__}:SOURCE", f"{__name__}:nothing", f"{__name__}:installed.name"])
def test_an_object_that_is_no_connector_is_named_by_its_variable(target: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^CONNECTOR_MINE_FUNCTION \(environment\): expected an object declared"
    ):
        found({"CONNECTOR_MINE_FUNCTION": target})


def test_type_and_timeout_can_be_overridden_by_the_display_name(tmp_path: Path) -> None:
    (one,) = found({"CONNECTOR_MY_OWN_TYPE": "other:1", "CONNECTOR_MY_OWN_TIMEOUT": "9000"}, own(tmp_path))
    assert (one.type, one.timeout_ms, one.connector.type) == ("other:1", 9000, "other:1")
    (one,) = found({}, own(tmp_path))
    assert (one.type, one.timeout_ms) == ("own:1", 7000)


def test_two_connectors_of_one_type_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^Duplicate outbound connector registration for type: own:1$"):
        found({}, own(tmp_path), own(tmp_path, name="again.py"))
    with pytest.raises(ConfigurationError, match=r"for type: installed:1$"):
        found(configured(CONNECTOR_MY_OWN_TYPE="installed:1"), own(tmp_path))


@pytest.mark.parametrize(
    ("environ", "enabled"),
    [
        ({}, ["first:1", "second:1"]),
        ({"CONNECTOR_OUTBOUND_DISABLED": " FIRST:1 "}, ["second:1"]),
        ({"CONNECTOR_OUTBOUND_ENABLED": "first:1"}, ["first:1"]),
        ({"CONNECTOR_OUTBOUND_ENABLED": ""}, []),
    ],
)
def test_disabled_connectors_stay_listed(tmp_path: Path, environ: dict[str, str], enabled: list[str]) -> None:
    all_of_them = found(environ, own(tmp_path, "second:1", "b.py"), own(tmp_path, "first:1", "a.py"))
    assert sorted(one.type for one in all_of_them) == ["first:1", "second:1"]
    assert named_types(all_of_them) == enabled


def test_without_discovery_only_what_the_command_line_names_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, one=f"{__name__}:installed")
    environ: dict[str, Any] = configured(CONNECTOR_OUTBOUND_DISCOVERY_DISABLED="false")
    assert [one.type for one in found(environ, own(tmp_path))] == ["own:1"]


# ---- inbound -----------------------------------------------------------------------------------------------------------

INBOUND_MODULE = """
from gateway import InboundContext, JobContext, WebhookRequest, WebhookResponse, inbound_connector, outbound_connector, webhook_connector

@inbound_connector("Ticker", type="acme:ticker:1")
async def ticker(source: InboundContext) -> None: ...

@webhook_connector("Hook", type="acme:hook:1", deduplication=("inbound.context",))
async def hook(request: WebhookRequest) -> WebhookResponse: ...

@outbound_connector("Out", type="acme:out:1")
async def out(job: JobContext) -> None: ...
"""


def _inbound(tmp_path: Path, environ: dict[str, str]) -> list[RegisteredInbound]:
    file = tmp_path / "mine_inbound.py"
    file.write_text(INBOUND_MODULE)
    return inbound_connectors(load(environ, directory=tmp_path), [str(file)])


def _own(found: list[RegisteredInbound]) -> dict[str, RegisteredInbound]:
    return {one.type: one for one in found if one.type.startswith("acme")}


def test_a_module_s_inbound_connectors_are_found_and_its_outbound_ones_are_not_among_them(tmp_path: Path) -> None:
    found = _own(_inbound(tmp_path, {}))
    assert found.keys() == {"acme:ticker:1", "acme:hook:1"}
    assert found["acme:hook:1"].connector.webhook
    assert all(one.enabled for one in found.values())


def test_an_inbound_connector_s_type_can_be_replaced(tmp_path: Path) -> None:
    assert "acme:other:1" in _own(_inbound(tmp_path, {"CONNECTOR_TICKER_TYPE": "acme:other:1"}))


def test_inbound_connectors_are_disabled_by_their_own_list(tmp_path: Path) -> None:
    found = _own(_inbound(tmp_path, {"CONNECTOR_INBOUND_DISABLED": "ACME:ticker:1"}))
    assert [one.type for one in found.values() if one.enabled] == ["acme:hook:1"]


def test_two_inbound_connectors_of_one_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Duplicate inbound connector registration for type: acme:hook:1"):
        _inbound(tmp_path, {"CONNECTOR_TICKER_TYPE": "acme:hook:1"})


def test_an_inbound_connector_can_be_named_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "named_inbound.py").write_text(INBOUND_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    environ = {
        "CONNECTOR_MINE_EXECUTABLE": "named_inbound:hook",
        "CONNECTOR_MINE_TYPE": "acme:mine:1",
        "CONNECTOR_MINE_DEDUPLICATION_PROPERTIES": "a, b.c",
    }
    (found,) = inbound_connectors(load(environ, directory=tmp_path))
    assert (found.type, found.connector.name, found.connector.deduplication) == ("acme:mine:1", "MINE", ("a", "b.c"))


def test_what_is_no_inbound_connector_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "not_inbound.py").write_text(INBOUND_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"CONNECTOR_MINE_EXECUTABLE.*@inbound_connector.*not_inbound:out"):
        inbound_connectors(load({"CONNECTOR_MINE_EXECUTABLE": "not_inbound:out"}, directory=tmp_path))
