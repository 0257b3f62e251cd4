"""The command line. Each command imports what it needs, so that `gateway version` costs nothing.

Settings may follow any command that runs the gateway, as `--camunda.client.mode=saas` or `-Dcamunda.client.mode=saas`. What is wrong
with them ends the command with exit code 2 and one line.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.doctor import Report

EXIT_CONFIGURATION: Final = 2
_HEALTHCHECK_URL: Final = "http://localhost:8080/actuator/health/readiness"
_SETTINGS: Final = {"allow_extra_args": True, "ignore_unknown_options": True}
_ADDITIONAL: Final = ("SPRING_CONFIG_ADDITIONAL_LOCATION", "SPRING_CONFIG_ADDITIONALLOCATION")

cli = typer.Typer(
    name="gateway",
    help="An async connector gateway for Camunda 8.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[Path | None, typer.Option(help="A .yaml or .properties file on top of application.yaml.")]
ConnectorModules = Annotated[
    list[str] | None,
    typer.Option(help="A module, or a Python file, with connectors of your own. May be given more than once."),
]


def _settings(arguments: list[str], config: Path | None) -> "Settings":
    from gateway.config import load

    own: list[str] = []
    if config is not None:
        places = [place for name in _ADDITIONAL if (place := os.environ.get(name))]
        own = [f"--spring.config.additional-location={','.join([*places, str(config)])}"]
    return load(os.environ, [*own, *arguments], Path.cwd())


@cli.command(context_settings=_SETTINGS)
def run(context: typer.Context, config: ConfigFile = None, connectors: ConnectorModules = None) -> None:
    """Run the gateway: work jobs of the engine that the settings name."""
    settings = _settings(context.args, config)
    from gateway.app import run as run_gateway

    raise typer.Exit(run_gateway(settings, connectors=tuple(connectors or ())))


@cli.command(context_settings=_SETTINGS)
def dev(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(help="The folder with .bpmn files to deploy.", exists=True, file_okay=False)
    ],
    port: Annotated[int | None, typer.Option(help="The port of the HTTP server.", min=0, max=65535)] = None,
    start: Annotated[str | None, typer.Option(help="The id of a process to start once.")] = None,
    variables: Annotated[str, typer.Option(help="Its variables: a JSON object.")] = "{}",
    config: ConfigFile = None,
    connectors: ConnectorModules = None,
) -> None:
    """Run processes of a folder on an engine in memory: for development, not for production."""
    from gateway.dev import dev as run_folder

    if not isinstance(_value(variables), dict):
        _fail('--variables: expected a JSON object, for example {"x": 1}', EXIT_CONFIGURATION)
    arguments = [*context.args, *([f"--server.port={port}"] if port is not None else [])]
    settings = _settings(arguments, config)
    named = tuple(connectors or ())
    raise typer.Exit(run_folder(folder, settings, connectors=named, start=start, variables=variables))


@cli.command(context_settings=_SETTINGS)
def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    config: ConfigFile = None,
    connectors: ConnectorModules = None,
) -> None:
    """Check the engine, the deployed processes and the secrets against this gateway. Exit code 1 if something will fail."""
    settings = _settings(context.args, config)
    from rich.console import Console

    from gateway.app import run_loop
    from gateway.doctor import show

    report = run_loop(_examine(settings, tuple(connectors or ())))
    if as_json:
        print(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        show(report, Console())
    raise typer.Exit(0 if report.healthy else 1)


async def _examine(settings: "Settings", named: tuple[str, ...]) -> "Report":
    """The doctor's look at the engine of the settings, with the connectors and secrets that a run would have."""
    from gateway import secrets
    from gateway.admin import OutboundEntry
    from gateway.app import mask_settings, secret_providers
    from gateway.config import ConfigurationError
    from gateway.doctor import examine
    from gateway.engine.cluster import connect
    from gateway.engine.settings import SettingsError
    from gateway.observe import configure_logging
    from gateway.registry import outbound_connectors

    masker = secrets.Masker()
    mask_settings(settings, masker)
    configure_logging(settings, sys.stderr, mask=masker)
    entries = [
        OutboundEntry(one.connector.name, one.type, one.connector.input_variables, one.timeout_ms, one.enabled)
        for one in outbound_connectors(settings, named)
    ]
    try:
        engine = await connect(settings.connection())
    except SettingsError as error:
        raise ConfigurationError(f"camunda.client.{error}") from None
    try:
        return await examine(settings, engine, entries, secrets.Secrets(secret_providers(settings), masker))
    finally:
        await engine.close()


@cli.command()
def feel(
    expression: Annotated[
        str, typer.Argument(help="The expression; a leading = is dropped. `-` reads it from the input.")
    ],
    context: Annotated[Path | None, typer.Option(help="A JSON or YAML file with the variables.")] = None,
    unary: Annotated[str | None, typer.Option(help="Evaluate as unary tests on this value (JSON).")] = None,
) -> None:
    """Evaluate a FEEL expression and explain each null that a mistake caused."""
    from gateway import feel as language

    text = (sys.stdin.read() if expression == "-" else expression).strip().removeprefix("=").strip()
    variables = _variables(context)
    try:
        if unary is None:
            explained = language.parse(text).explain(variables)
        else:
            explained = language.parse_unary_tests(text).explain(_value(unary), variables)
    except language.FeelError as error:
        _fail(str(error), 1)
    for failure in explained.failures:
        print(f"{failure.kind}: {failure.message}", file=sys.stderr)
    if explained.error is not None:
        _fail(str(explained.error), 1)
    print(json.dumps(language.to_json(explained.value), indent=2, ensure_ascii=False, default=str))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _variables(file: Path | None) -> dict[str, Any]:
    import yaml

    if file is None:
        return {}
    try:
        found = yaml.safe_load(file.read_text())
    except OSError as error:
        _fail(f"{file}: cannot be read: {error.strerror}", EXIT_CONFIGURATION)
    except (yaml.YAMLError, UnicodeDecodeError):
        _fail(f"{file}: neither JSON nor YAML", EXIT_CONFIGURATION)
    if found is not None and not isinstance(found, dict):
        _fail(f"{file}: expected an object with the variables, for example {{'x': 1}}", EXIT_CONFIGURATION)
    return found or {}


@cli.command()
def healthcheck() -> None:
    """Ask a running gateway whether it is ready (HEALTHCHECK_URL): for the health check of a container."""
    import urllib.error
    import urllib.request

    url = os.environ.get("HEALTHCHECK_URL") or _HEALTHCHECK_URL
    if not url.startswith(("http://", "https://")):
        _fail("HEALTHCHECK_URL (environment): expected a URL with http:// or https://", EXIT_CONFIGURATION)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as reply:
            ready = reply.status == 200
    except (urllib.error.URLError, OSError):
        ready = False
    raise typer.Exit(0 if ready else 1)


@cli.command()
def version() -> None:
    """Print the version."""
    import platform
    from importlib.metadata import version as installed

    print(f"connector-gateway {installed('connector-gateway')} (Python {platform.python_version()})")


def _fail(text: str, code: int) -> NoReturn:
    print(f"gateway: {text}", file=sys.stderr)
    raise typer.Exit(code)


def main() -> None:
    """The entry point."""
    try:
        cli()
    except Exception as error:
        from gateway.config import ConfigurationError  # not before it is needed: it costs most of a start

        if not isinstance(error, ConfigurationError):
            raise
        print(f"gateway: {error}", file=sys.stderr)
        sys.exit(EXIT_CONFIGURATION)
