import asyncio
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import cli, main
from gateway.config import Settings
from gateway.doctor import Report

runner = CliRunner()


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """No variable and no file of this machine gets in."""
    for name in list(os.environ):
        if name.startswith(("CAMUNDA", "CONNECTOR", "SPRING", "ZEEBE", "GATEWAY", "SERVER", "JAVA", "HEALTHCHECK")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


class Calls:
    """Stands in for the modules that run a gateway, and keeps what they are called with."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.named: tuple[str, ...] = ()
        self.folder: Path | None = None
        self.options: dict[str, Any] = {}
        self.code = 0

    def run(self, settings: Settings, *, connectors: tuple[str, ...] = ()) -> int:
        self.settings, self.named = settings, connectors
        return self.code

    def dev(self, folder: Path, settings: Settings, *, connectors: tuple[str, ...] = (), **options: Any) -> int:
        self.folder, self.options = folder, options
        return self.run(settings, connectors=connectors)


@pytest.fixture
def calls(monkeypatch):
    calls = Calls()
    app, dev = ModuleType("gateway.app"), ModuleType("gateway.dev")
    app.run = calls.run  # type: ignore[attr-defined]
    app.run_loop = asyncio.run  # type: ignore[attr-defined]
    dev.dev = calls.dev  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gateway.app", app)
    monkeypatch.setitem(sys.modules, "gateway.dev", dev)
    return calls


def outcome(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the entry point."""
    monkeypatch.setattr(sys, "argv", ["gateway", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


# ---- run -------------------------------------------------------------------------------------------------------------------


def test_run_takes_settings_in_both_spellings(monkeypatch, capsys, calls):
    monkeypatch.setenv("CAMUNDA_CLIENT_TENANTID", "environment")
    arguments = ["--camunda.client.mode=self-managed", "-Dcamunda.client.keep-alive=30s", "--server.port=0"]
    assert outcome(monkeypatch, capsys, "run", *arguments) == (0, "", "")
    assert calls.settings.client.mode == "self-managed"
    assert calls.settings.client.keep_alive.total_seconds() == 30
    assert calls.settings.server.port == 0
    assert calls.settings.client.tenant_id == "environment"


def test_run_takes_connectors_and_a_file_among_the_settings(monkeypatch, capsys, calls, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("camunda.client.tenant-id: file\nserver.port: 1\n")
    arguments = ["--server.port=2", "--connectors", "acme.a", "--config", str(file), "--connectors=b.py"]
    assert outcome(monkeypatch, capsys, "run", *arguments)[0] == 0
    assert calls.named == ("acme.a", "b.py")
    assert (calls.settings.client.tenant_id, calls.settings.server.port) == ("file", 2)


def test_a_config_file_goes_on_top_of_an_additional_location(monkeypatch, capsys, calls, tmp_path):
    (tmp_path / "a.yaml").write_text("camunda.client.tenant-id: a\nserver.port: 1\n")
    (tmp_path / "b.yaml").write_text("camunda.client.tenant-id: b\n")
    monkeypatch.setenv("SPRING_CONFIG_ADDITIONALLOCATION", "a.yaml")
    outcome(monkeypatch, capsys, "run", "--config", "b.yaml")
    assert (calls.settings.client.tenant_id, calls.settings.server.port) == ("b", 1)


def test_the_exit_code_is_that_of_the_run(monkeypatch, capsys, calls):
    calls.code = 3
    assert outcome(monkeypatch, capsys, "run")[0] == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["run", "--camunda.client.mode=cloud"],
            "gateway: camunda.client.mode (command line): expected one of saas, self-managed, got 'cloud'\n",
        ),
        (
            ["run", "oops"],
            "gateway: oops (command line): expected --key=value, for example --camunda.client.mode=saas\n",
        ),
        (["run", "--config", "none.yaml"], "gateway: none.yaml: no such file"),
        (["dev", ".", "--server.port=x"], "gateway: server.port (command line): expected a whole number"),
        (
            ["doctor", "--camunda.clients.a.mode=saas"],
            "gateway: camunda.clients.a.mode (command line): more than one engine",
        ),
    ],
)
def test_a_wrong_configuration_ends_with_code_2_and_one_line(monkeypatch, capsys, calls, arguments, text):
    code, out, err = outcome(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(text)
    assert err.count("\n") == 1
    assert calls.settings is None


def test_other_errors_are_not_swallowed(monkeypatch, calls):
    def broken(*arguments: Any, **options: Any) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(sys.modules["gateway.app"], "run", broken)
    monkeypatch.setattr(sys, "argv", ["gateway", "run"])
    with pytest.raises(RuntimeError, match="a bug"):
        main()


# ---- dev -------------------------------------------------------------------------------------------------------------------


def test_dev_takes_a_folder_and_a_port(monkeypatch, capsys, calls, tmp_path):
    folder = tmp_path / "processes"
    folder.mkdir()
    arguments = [str(folder), "--port", "0", "--start", "order", "--variables", '{"a": 1}', "--connectors", "c.py"]
    assert outcome(monkeypatch, capsys, "dev", *arguments)[0] == 0
    assert (calls.folder, calls.settings.server.port, calls.named) == (folder, 0, ("c.py",))
    assert calls.options == {"start": "order", "variables": '{"a": 1}'}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["none"], "does not exist"),
        ([".", "--port", "70000"], "65535"),
        ([".", "--variables", "[1]"], "expected a JSON object"),
    ],
)
def test_dev_refuses_what_it_cannot_run(monkeypatch, capsys, calls, arguments, text):
    code, _, err = outcome(monkeypatch, capsys, "dev", *arguments)
    assert code == 2
    assert text in err
    assert calls.settings is None


# ---- doctor ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def examined(monkeypatch):
    """The doctor's findings, given instead of found."""
    report = Report({"mode": "self-managed", "grpc": "http://g", "rest": "http://r", "auth": "none"}, {})

    async def examine(settings: Settings, named: tuple[str, ...]) -> Report:
        return report

    monkeypatch.setattr("gateway.cli._examine", examine)
    return report


def test_a_healthy_doctor_ends_with_0(monkeypatch, capsys, examined):
    code, out, _ = outcome(monkeypatch, capsys, "doctor")
    assert code == 0
    assert "no problems found" in out


def test_a_problem_ends_with_1_and_can_be_read_as_json(monkeypatch, capsys, examined):
    examined.problems.append("the engine is away")
    code, out, _ = outcome(monkeypatch, capsys, "doctor", "--json")
    assert code == 1
    assert json.loads(out)["problems"] == ["the engine is away"]
    code, out, _ = outcome(monkeypatch, capsys, "doctor")
    assert "problem the engine is away" in out


def test_the_doctor_looks_at_a_real_address(monkeypatch, capsys):
    monkeypatch.setenv("CAMUNDA_CLIENT_GRPCADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("CONNECTOR_OUTBOUND_DISCOVERY_DISABLED", "true")
    code, out, _ = outcome(monkeypatch, capsys, "doctor", "--json")
    report = json.loads(out)
    assert code == 1
    assert report["problems"][0].startswith("the engine cannot be reached at http://127.0.0.1:1: ")
    assert report["connectors"] == []


# ---- feel ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def variables(tmp_path):
    file = tmp_path / "context.json"
    file.write_text('{"x": 2, "items": [1, 2.5], "name": "Ä"}')
    return str(file)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("x + 1", 3),
        ("= x + 1", 3),
        ('{"a": items, "b": name}', {"a": [1, 2.5], "b": "Ä"}),
        ('date("2024-02-29")', "2024-02-29"),
        ("if x > 1 then null else 1", None),
    ],
)
def test_feel_evaluates_with_the_variables_of_a_file(variables, expression, value):
    result = runner.invoke(cli, ["feel", expression, "--context", variables])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == value
    assert result.stderr == ""


def test_feel_explains_why_something_is_null(variables):
    result = runner.invoke(cli, ["feel", "nothing.here", "--context", variables])
    assert (result.exit_code, result.stdout) == (0, "null\n")
    assert "No variable found with name 'nothing'" in result.stderr


def test_feel_shows_where_a_text_is_wrong():
    result = runner.invoke(cli, ["feel", "1 +"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("^\n")


def test_feel_tells_an_evaluation_that_fails():
    result = runner.invoke(cli, ["feel", "assert(1, false)"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Assertion failure" in result.stderr


def test_feel_reads_the_expression_from_the_input():
    assert runner.invoke(cli, ["feel", "-"], input="1 + 1\n").stdout == "2\n"


@pytest.mark.parametrize(
    ("tests", "value", "passes"), [("[1..5]", "3", "true"), ("< 3", "3", "false"), ('"a", "b"', "b", "true")]
)
def test_feel_evaluates_unary_tests(tests, value, passes):
    assert runner.invoke(cli, ["feel", tests, "--unary", value]).stdout == f"{passes}\n"


@pytest.mark.parametrize(
    ("content", "text"), [("[1]", "expected an object"), ("{", "neither JSON nor YAML"), (None, "cannot be read")]
)
def test_feel_refuses_variables_that_are_none(tmp_path, content, text):
    file = tmp_path / "v.yaml"
    if content is not None:
        file.write_text(content)
    result = runner.invoke(cli, ["feel", "1", "--context", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


# ---- the rest --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def probed():
    """A server that answers with a status to be set: (address, statuses)."""
    statuses = [200]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[0])
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/ready", statuses
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_the_health_check_of_a_container_asks_the_url(monkeypatch, probed, status, code):
    address, statuses = probed
    statuses[0] = status
    monkeypatch.setenv("HEALTHCHECK_URL", address)
    assert runner.invoke(cli, ["healthcheck"]).exit_code == code


@pytest.mark.parametrize(("url", "code"), [("http://127.0.0.1:1/", 1), ("file:///etc/passwd", 2)])
def test_the_health_check_fails_where_nothing_answers(monkeypatch, url, code):
    monkeypatch.setenv("HEALTHCHECK_URL", url)
    assert runner.invoke(cli, ["healthcheck"]).exit_code == code


def test_the_version_is_told():
    assert runner.invoke(cli, ["version"]).stdout.startswith("connector-gateway ")


def test_the_package_can_be_run():
    command = [sys.executable, "-W", "error", "-m", "gateway", "run", "--camunda.client.mode=x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr == "gateway: camunda.client.mode (command line): expected one of saas, self-managed, got 'x'\n"


def test_a_command_that_needs_little_imports_little():
    script = "import sys; from gateway.cli import cli; print([m for m in ('pydantic', 'grpc', 'aiohttp', 'yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
