"""Finding connectors: ours, a user's, and those that the environment names, all the same way.

Installed packages offer connectors by the entry point group `connector_gateway.connectors`; `--connectors` and
`CONNECTOR_<NAME>_FUNCTION` (inbound: `_EXECUTABLE`) name modules, files and objects (Camunda docs, "Connector runtime: discovery and configuration").
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog

from gateway.config import ConfigurationError, ConnectorRules
from gateway.config.connectors import ConfiguredConnector, Direction, Origin, normalized_name
from gateway.sdk import InboundConnector, OutboundConnector

log = structlog.get_logger(__name__)

ENTRY_POINTS = "connector_gateway.connectors"


Connector = OutboundConnector | InboundConnector
_C = TypeVar("_C", OutboundConnector, InboundConnector)


class Overrides(Protocol):
    """The part of the settings that decides on connectors."""

    def rules(self, direction: Direction = "OUTBOUND", /) -> ConnectorRules: ...
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


@dataclass(frozen=True, slots=True)
class RegisteredInbound:
    """An inbound connector as this runtime has it: its type after all overrides, enabled or not."""

    connector: InboundConnector
    enabled: bool

    @property
    def type(self) -> str:
        return self.connector.type


def outbound_connectors(settings: Overrides, named: Sequence[str] = ()) -> list[Registered]:
    """All outbound connectors of this runtime. named: modules or files given on the command line.

    Raises ConfigurationError: two connectors of one type, something that cannot be imported or is no connector.
    """
    found: dict[str, Registered] = {}
    rules = settings.rules("OUTBOUND")
    for connector, origin, configured in _all(OutboundConnector, rules, named):
        name = normalized_name(connector.name)
        own = None if connector.timeout is None else int(connector.timeout * 1000)
        timeout_ms = settings.connector_timeout(name) or (configured and configured.timeout_ms) or own
        one = _retyped(connector, settings)
        decision = rules.decide(one.type, origin)
        if decision == "skipped":
            continue
        if one.type in found:
            raise ConfigurationError(f"Duplicate outbound connector registration for type: {one.type}")
        found[one.type] = Registered(one, decision == "enabled", timeout_ms)
    return list(found.values())


def inbound_connectors(settings: Overrides, named: Sequence[str] = ()) -> list[RegisteredInbound]:
    """All inbound connectors of this runtime, as `outbound_connectors`."""
    found: dict[str, RegisteredInbound] = {}
    rules = settings.rules("INBOUND")
    for connector, origin, _ in _all(InboundConnector, rules, named):
        one = _retyped(connector, settings)
        decision = rules.decide(one.type, origin)
        if decision == "skipped":
            continue
        if one.type in found:
            raise ConfigurationError(f"Duplicate inbound connector registration for type: {one.type}")
        found[one.type] = RegisteredInbound(one, decision == "enabled")
    return list(found.values())


def _all(
    kind: type[_C], rules: ConnectorRules, named: Sequence[str]
) -> Iterator[tuple[_C, Origin, ConfiguredConnector | None]]:
    if rules.discovers:
        for connector in _discovered():
            if isinstance(connector, kind):
                yield connector, "discovered", None
    for name in named:
        for connector in connectors_in(load_module(name)):
            if isinstance(connector, kind):
                yield connector, "programmatic", None
    if not rules.discovery_disabled:
        for configured in rules.configured:
            yield _configured(kind, configured), "configured", configured


def _retyped(connector: _C, settings: Overrides) -> _C:
    other_type = settings.connector_type(normalized_name(connector.name))
    return replace(connector, type=other_type) if other_type else connector


def _discovered() -> Iterator[Connector]:
    for entry_point in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: e.name):
        try:
            found = entry_point.load()
        except Exception as e:  # somebody's package is broken: the others work
            log.warning("a connector cannot be loaded", connector=entry_point.name, reason=f"{type(e).__name__}: {e}")
            continue
        if isinstance(found, Connector):
            yield found
        else:
            log.warning("an entry point is no connector", connector=entry_point.name, value=entry_point.value)


def _configured(kind: type[_C], configured: ConfiguredConnector) -> _C:
    module, _, attribute = configured.target.partition(":")
    found: Any = load_module(module)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, kind):
        decorator = "outbound_connector" if kind is OutboundConnector else "inbound_connector"
        raise ConfigurationError(
            f"{configured.variable} (environment): expected an object declared with @{decorator}, "
            f"for example my_package.my_module:my_connector, got {configured.target!r}"
        )
    changes: dict[str, Any] = {"name": configured.name, "type": configured.type or found.type}
    if isinstance(found, OutboundConnector) and configured.input_variables is not None:
        changes["input_variables"] = configured.input_variables
    if isinstance(found, InboundConnector) and configured.deduplication_properties is not None:
        changes["deduplication"] = configured.deduplication_properties
    return replace(found, **changes)


def connectors_in(module: Any) -> list[Connector]:
    """The connectors that a module defines or imports, each once, in the order of their names there."""
    found = {id(v): v for v in vars(module).values() if isinstance(v, Connector)}
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


def named_types(connectors: Iterable[Registered | RegisteredInbound]) -> list[str]:
    """The types that are worked here, for banners."""
    return sorted(c.type for c in connectors if c.enabled)
