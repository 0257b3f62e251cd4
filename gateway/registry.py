"""Finding connectors: ours, a user's, and those that the environment names, all the same way.

Installed packages offer connectors by the entry point group `connector_gateway.connectors`; `--connectors` and
`CONNECTOR_<NAME>_FUNCTION` name modules, files and objects (Camunda docs, "Connector runtime: discovery and configuration").
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import structlog

from gateway.config import ConfigurationError, ConnectorRules
from gateway.config.connectors import ConfiguredConnector, Origin, normalized_name
from gateway.sdk import OutboundConnector

log = structlog.get_logger(__name__)

ENTRY_POINTS = "connector_gateway.connectors"


class Overrides(Protocol):
    """The part of the settings that decides on connectors."""

    def rules(self) -> ConnectorRules: ...
    def connector_type(self, normalized: str) -> str | None: ...
    def connector_timeout(self, normalized: str) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Registered:
    """A connector as this runtime has it: type and timeout (milliseconds) after all overrides, enabled or not."""

    connector: OutboundConnector
    enabled: bool
    timeout_ms: int | None

    @property
    def type(self) -> str:
        return self.connector.type


def outbound_connectors(settings: Overrides, named: Sequence[str] = ()) -> list[Registered]:
    """All outbound connectors of this runtime. named: modules or files given on the command line.

    Raises ConfigurationError: two connectors of one type, something that cannot be imported or is no connector.
    """
    rules = settings.rules()
    found: dict[str, Registered] = {}
    for connector, origin, timeout_ms in _all(rules, named):
        one = _overridden(connector, timeout_ms, settings)
        decision = rules.decide(one.type, origin)
        if decision == "skipped":
            continue
        if one.type in found:
            raise ConfigurationError(f"Duplicate outbound connector registration for type: {one.type}")
        found[one.type] = replace(one, enabled=decision == "enabled")
    return list(found.values())


def _all(rules: ConnectorRules, named: Sequence[str]) -> Iterator[tuple[OutboundConnector, Origin, int | None]]:
    if rules.discovers:
        for connector in _discovered():
            yield connector, "discovered", None
    for name in named:
        for connector in connectors_in(load_module(name)):
            yield connector, "programmatic", None
    if not rules.discovery_disabled:
        for configured in rules.configured:
            yield _configured(configured), "configured", configured.timeout_ms


def _overridden(connector: OutboundConnector, timeout_ms: int | None, settings: Overrides) -> Registered:
    name = normalized_name(connector.name)
    other_type = settings.connector_type(name)
    own = None if connector.timeout is None else int(connector.timeout * 1000)
    timeout_ms = settings.connector_timeout(name) or timeout_ms or own
    return Registered(replace(connector, type=other_type) if other_type else connector, True, timeout_ms)


def _discovered() -> Iterator[OutboundConnector]:
    for entry_point in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: e.name):
        try:
            found = entry_point.load()
        except Exception as e:  # somebody's package is broken: the others work
            log.warning("a connector cannot be loaded", connector=entry_point.name, reason=f"{type(e).__name__}: {e}")
            continue
        if isinstance(found, OutboundConnector):
            yield found
        else:
            log.warning("an entry point is no connector", connector=entry_point.name, value=entry_point.value)


def _configured(configured: ConfiguredConnector) -> OutboundConnector:
    module, _, attribute = configured.target.partition(":")
    found: Any = load_module(module)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, OutboundConnector):
        raise ConfigurationError(
            f"{configured.variable} (environment): expected an object declared with @outbound_connector, "
            f"for example my_package.my_module:my_connector, got {configured.target!r}"
        )
    return replace(
        found,
        name=configured.name,
        type=configured.type or found.type,
        input_variables=found.input_variables if configured.input_variables is None else configured.input_variables,
    )


def connectors_in(module: Any) -> list[OutboundConnector]:
    """The connectors that a module defines or imports, each once, in the order of their names there."""
    found = {id(v): v for v in vars(module).values() if isinstance(v, OutboundConnector)}
    return list(found.values())


def load_module(name: str) -> Any:
    """Imports a module by its dotted name, or from a file by its path. Raises ConfigurationError with the reason."""
    try:
        if name.endswith(".py"):
            return load_file(Path(name))
        return importlib.import_module(name)
    except Exception as e:
        raise ConfigurationError(
            f"connectors: expected a module or a file, for example my_connectors or ./my_connectors.py, got {name!r} "
            f"({type(e).__name__}: {e})"
        ) from None


def load_file(path: Path) -> Any:
    """Runs a Python file as a module of its own; again each time it is called, so that changes count."""
    name = f"_connectors_{path.stem}_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks annotations up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def named_types(connectors: Iterable[Registered]) -> list[str]:
    """The job types that have a worker here, for banners."""
    return sorted(c.type for c in connectors if c.enabled)
