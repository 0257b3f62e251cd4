"""`Settings` and `load`: all settings in one checked and frozen model that knows where each came from."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import PrivateAttr, SecretStr, ValidationError

from gateway.config.binding import Lookup, Reading, Value, explain, tree
from gateway.config.connectors import (
    ConnectorRules,
    Direction,
    WorkerSettings,
    connector_rules,
    parse_timeout_ms,
    worker_settings,
)
from gateway.config.keys import KEYS, Key
from gateway.config.model import Client, Connector, Jobs, Refused, Root, Section, display
from gateway.config.sources import ConfigurationError, Sources, read_sources
from gateway.engine.settings import (
    AuthSettings,
    ClientAssertionSettings,
    CloudSettings,
    ConnectionSettings,
    SettingsError,
)

_JVM_PROXIES: Final = {
    **{
        f"{scheme}.proxy{part.title()}": f"CONNECTOR_{scheme.upper()}_PROXY_{part}"
        for scheme in ("http", "https")
        for part in ("HOST", "PORT", "USER", "PASSWORD")
    },
    "http.nonProxyHosts": "CONNECTOR_HTTP_NON_PROXY_HOSTS",
}


# ---- the settings --------------------------------------------------------------------------------------------------------


class Settings(Root):
    """All settings, checked and frozen. Printing shows what is set, with secrets masked.

    `camunda`, `server`, `management`, `connectors`, `logging` and `gateway` are the roots of the keys; `client`, `connector`
    and `jobs` are short ways to the sections that are used most.
    """

    _origins: dict[tuple[str, ...], str] = PrivateAttr(default_factory=dict)
    _environ: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _lookup: Lookup = PrivateAttr(default_factory=lambda: Lookup(Sources((), ())))
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def client(self) -> Client:
        return self.camunda.client

    @property
    def connector(self) -> Connector:
        return self.camunda.connector

    @property
    def jobs(self) -> Jobs:
        return self.gateway.jobs

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line each: keys that are unknown, older spellings, or without effect."""
        return self._warnings

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment as it was read, for what only it may set; it holds secrets. `http.proxyHost` and its like, given to
        the JVM of the original by `-D`, appear as `CONNECTOR_HTTP_PROXY_HOST`.
        """
        return self._environ

    @property
    def runtime_id(self) -> str:
        """What names this process in the status API."""
        return self.connector.hostname or self._environ.get("HOSTNAME") or "localhost"

    @property
    def runs_in_saas(self) -> bool:
        """`CAMUNDA_CONNECTOR_RUNTIME_SAAS` is present: no connector may use credentials of the machine."""
        return "CAMUNDA_CONNECTOR_RUNTIME_SAAS" in self._environ

    def property(self, name: str) -> str | None:
        """Any property by its name, from flags, environment and files; placeholders are replaced where they have a value."""
        value = self._lookup.raw(name)
        return None if value is None else self._lookup.resolve(value, strict=False)

    def connector_type(self, normalized: str) -> str | None:
        """`CONNECTOR_<NAME>_TYPE`: the job type (inbound: the type) that replaces the connector's own."""
        return (self.property(f"CONNECTOR_{normalized}_TYPE") or "").strip() or None

    def connector_timeout(self, normalized: str) -> int | None:
        """`CONNECTOR_<NAME>_TIMEOUT`: the timeout of its jobs in milliseconds."""
        key = f"CONNECTOR_{normalized}_TIMEOUT"
        value = self.property(key)
        return parse_timeout_ms(value, key) if value else None

    def overridden_connectors(self) -> frozenset[str]:
        """The normalized names that `CONNECTOR_<NAME>_TYPE` and `_TIMEOUT` are set for; one of them may fit no connector."""
        names = (re.fullmatch(r"CONNECTOR_(.+)_(?:TYPE|TIMEOUT)", name) for name in self._lookup.names())
        return frozenset(found[1] for found in names if found)

    def properties(self) -> Mapping[str, str]:
        """All properties by their names as written, the winning value of each, placeholders replaced: environment, files
        and flags together, as secrets are looked up in. Holds secrets.
        """
        return {name: self._lookup.resolve(value, strict=False) for name, value in self._lookup.names().items()}

    def rules(self, direction: Direction = "OUTBOUND") -> ConnectorRules:
        return connector_rules(self._environ, direction)

    def worker(
        self, job_type: str, connector_timeout: int | None = None, *, input_variables: Sequence[str] = ()
    ) -> WorkerSettings:
        """How the jobs of a type are worked. `connector_timeout`: of the connector, in milliseconds; `input_variables`: those
        it declares (none: it gets all).
        """
        return worker_settings(self.client, job_type, connector_timeout, tuple(input_variables))

    def connection(self) -> ConnectionSettings:
        """Where the engine is and how to identify oneself, with all that follows from the mode filled in."""
        try:
            return replace(_connection(self.client), transport=self.gateway.engine.transport).resolved()
        except SettingsError as error:
            key, _, problem = str(error).partition(":")
            raise ConfigurationError(f"camunda.client.{key}:{problem}") from None

    def describe(self) -> dict[str, tuple[str, str]]:
        """Each key with its value (secrets masked) and where it was set (`default` if nowhere)."""
        return {
            name: (display(value), self._origins.get(way, "default"))
            for name, way, value in _leaves(self, KEYS.values())
        }

    def __repr__(self) -> str:
        set_ = ", ".join(
            f"{name}={value!r}" for name, (value, origin) in self.describe().items() if origin != "default"
        )
        return f"Settings({set_})"

    __str__ = __repr__


def _leaves(settings: Root, keys: Iterable[Key]) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    for key in keys:
        value: Any = settings
        for part in key.fields:
            value = getattr(value, part)
        if key.entries is None:
            yield key.name, key.fields, value
            continue
        for entry, content in value.items():
            for part in key.entries:
                own = getattr(content, part) if part else content
                if own is not None:
                    name = f"{key.name}[{entry}]" + (f".{part.replace('_', '-')}" if part else "")
                    yield name, (*key.fields, entry, part) if part else (*key.fields, entry), own


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value.total_seconds() if isinstance(value, timedelta) else value


def _filled(kind: type[Any], section: Any) -> dict[str, Any]:
    """What a section says, as arguments for one of the engine's settings; what is not set keeps the engine's default."""
    out: dict[str, Any] = {}
    for part in fields(kind):
        value = _plain(getattr(section, part.name, None))
        if value is not None and not isinstance(value, Section):
            out[part.name] = Path(value) if isinstance(value, str) and part.name.endswith("_path") else value
    return out


def _connection(client: Client) -> ConnectionSettings:
    auth = _filled(AuthSettings, client.auth)
    if codes := client.auth.token_fetch_retryable_status_codes:
        auth["token_fetch_retryable_status_codes"] = tuple(int(code) for code in codes)
    assertion = None
    if client.auth.client_assertion.keystore_path:
        assertion = ClientAssertionSettings(**_filled(ClientAssertionSettings, client.auth.client_assertion))
    return ConnectionSettings(
        **{
            **_filled(ConnectionSettings, client),
            "cloud": CloudSettings(**_filled(CloudSettings, client.cloud)),
            "auth": AuthSettings(**{**auth, "client_assertion": assertion}),
        }
    )


# ---- loading -------------------------------------------------------------------------------------------------------------


def _marked(settings: Root, values: Mapping[tuple[str, ...], Value]) -> Iterator[str]:
    """Warnings for keys without effect; raises for those that must not be lost."""
    for value in values.values():
        key = value.key
        mark = key.mark or next(
            (KEYS[".".join(p.replace("_", "-") for p in way)].mark for way in _parents(value)), None
        )
        if mark is None or (key.entries is None and _same_as_default(settings, value)):
            continue
        if isinstance(mark, Refused):
            raise ConfigurationError(f"{value.where}: {mark.why}")
        yield f"{value.where} is ignored: {mark.why}"


def _parents(value: Value) -> Iterator[tuple[str, ...]]:
    """The map that an entry belongs to, if it belongs to one."""
    way = value.located.fields
    for cut in range(1, len(way)):
        name = ".".join(part.replace("_", "-") for part in way[:cut])
        if name in KEYS:
            yield way[:cut]


def _same_as_default(settings: Root, value: Value) -> bool:
    if any(True for _ in _parents(value)):
        return False
    now: Any = settings
    for part in value.key.fields:
        now = getattr(now, part)
    return bool(now == value.key.default)


def _snapshot(environ: Mapping[str, str], lookup: Lookup) -> Mapping[str, str]:
    snapshot = dict(environ)
    for name, variable in _JVM_PROXIES.items():
        if variable not in snapshot and (value := lookup.raw(name)) is not None:
            snapshot[variable] = value
    return MappingProxyType(snapshot)


def load(environ: Mapping[str, str], arguments: Sequence[str] = (), directory: Path = Path()) -> Settings:
    """Reads the settings: files in `directory` (and where `SPRING_CONFIG_LOCATION` says), the environment, the arguments.

    Reads no more than those files. Raises ConfigurationError.
    """
    sources = read_sources(environ, arguments, directory)
    reading = Reading(Lookup(sources), list(sources.warnings))
    for source in sources.ordered:
        reading.add(source)
    reading.settle()
    reading.resolve()
    try:
        settings = Settings.model_validate(tree(reading.values))
    except ValidationError as error:
        raise explain(error, reading.values) from None
    settings._origins = {way: value.where for way, value in reading.values.items()}
    settings._environ = _snapshot(environ, reading.lookup)
    settings._lookup = reading.lookup
    settings._warnings = (*reading.warnings, *_marked(settings, reading.values))
    settings.rules("OUTBOUND")
    settings.rules("INBOUND")
    settings.connection()
    return settings
