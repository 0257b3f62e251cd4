"""What the configuration says of connectors and their workers: overrides, discovery, enabling, worker settings."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, TypeVar

from gateway.config.model import Client, WorkerDefaults, WorkerOverride
from gateway.config.sources import ConfigurationError
from gateway.config.values import parse_duration, parse_list, uniform

Origin = Literal["discovered", "programmatic", "configured"]
Decision = Literal["enabled", "disabled", "skipped"]
Direction = Literal["OUTBOUND", "INBOUND"]
_T = TypeVar("_T")

_COMPANIONS: Final = ("TYPE", "INPUT_VARIABLES", "TIMEOUT", "DEDUPLICATION_PROPERTIES")


def normalized_name(name: str) -> str:
    """The part of `CONNECTOR_<NAME>_TYPE` that means a connector: `AWS S3` is `AWS_S3`, `my-connector` is `MYCONNECTOR`."""
    return re.sub(r"[^A-Za-z0-9_ ]", "", name.strip()).replace(" ", "_").upper()


def parse_timeout_ms(text: str, key: str) -> int:
    """A worker's timeout as `CONNECTOR_<NAME>_TIMEOUT` gives it: milliseconds, or a duration."""
    try:
        timeout = parse_duration(text)
    except ValueError:
        timeout = timedelta(0)
    if timeout < timedelta(milliseconds=1):
        raise ConfigurationError(
            f"{key}: expected a number of milliseconds above zero, for example 60000, got {text!r}"
        )
    return timeout // timedelta(milliseconds=1)


# ---- which connectors there are ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConfiguredConnector:
    """`CONNECTOR_<NAME>_FUNCTION` (`_EXECUTABLE` for inbound): a Python object, `package.module:attribute`, registered
    under a name of the user's. What the companion variables leave open is the object's own declaration (None).
    """

    name: str
    target: str
    variable: str
    type: str | None = None
    input_variables: tuple[str, ...] | None = None
    timeout_ms: int | None = None
    deduplication_properties: tuple[str, ...] | None = None

    def missing(self, key: str) -> ConfigurationError:
        """What to raise when neither the variable `key` (`TYPE`, ...) nor the object declares a value."""
        return ConfigurationError(
            f"{self.name}: no {key.lower().replace('_', ' ')} is declared by {self.target}. "
            f"Please configure it via CONNECTOR_{self.name}_{key} environment variable"
        )


@dataclass(frozen=True, slots=True)
class ConnectorRules:
    """Which connectors of one direction are registered, and which of those work.

    `enabled`: the allow-list in lower case; None where there is none, empty where nothing is enabled.
    """

    direction: Direction
    discovery_disabled: bool = False
    configured: tuple[ConfiguredConnector, ...] = ()
    enabled: frozenset[str] | None = None
    disabled: frozenset[str] = frozenset()

    @property
    def discovers(self) -> bool:
        """Whether connectors are looked for at all: not when that is off, and not when some are configured by name."""
        return not self.discovery_disabled and not self.configured

    def decide(self, job_type: str, origin: Origin = "discovered") -> Decision:
        """`skipped`: not registered. `disabled`: listed, but without a worker. Types are compared without case."""
        if (origin == "discovered" and not self.discovers) or (origin == "configured" and self.discovery_disabled):
            return "skipped"
        name = job_type.strip().lower()
        if self.enabled is not None:
            return "enabled" if name in self.enabled else "disabled"
        return "disabled" if name in self.disabled else "enabled"


def connector_rules(environ: Mapping[str, str], direction: Direction) -> ConnectorRules:
    """The rules as the environment states them. Raises ConfigurationError when they contradict each other."""
    enabled, disabled = environ.get(f"CONNECTOR_{direction}_ENABLED"), environ.get(f"CONNECTOR_{direction}_DISABLED")
    if enabled is not None and disabled is not None:
        raise ConfigurationError(
            f"CONNECTOR_{direction}_ENABLED and CONNECTOR_{direction}_DISABLED (environment): expected at most one of the two"
        )
    return ConnectorRules(
        direction=direction,
        discovery_disabled=f"CONNECTOR_{direction}_DISCOVERY_DISABLED" in environ,
        configured=tuple(_configured(environ, "FUNCTION" if direction == "OUTBOUND" else "EXECUTABLE")),
        enabled=None if enabled is None else _types(enabled),
        disabled=_types(disabled or ""),
    )


def _types(text: str) -> frozenset[str]:
    return frozenset(item.lower() for item in parse_list(text))


def _configured(environ: Mapping[str, str], kind: str) -> Iterable[ConfiguredConnector]:
    for variable, target in environ.items():
        found = re.fullmatch(rf"CONNECTOR_(.+)_{kind}", variable)
        if not found:
            continue
        if not re.fullmatch(r"[\w.]+:[\w.]+", target.strip()):
            raise ConfigurationError(
                f"{variable} (environment): expected a Python object, for example my_package.my_module:my_connector, got {target!r}"
            )
        own = {key: environ.get(f"CONNECTOR_{found[1]}_{key}") for key in _COMPANIONS}
        yield ConfiguredConnector(
            name=found[1],
            target=target.strip(),
            variable=variable,
            type=own["TYPE"] or None,
            input_variables=None if own["INPUT_VARIABLES"] is None else parse_list(own["INPUT_VARIABLES"]),
            timeout_ms=parse_timeout_ms(own["TIMEOUT"], f"CONNECTOR_{found[1]}_TIMEOUT") if own["TIMEOUT"] else None,
            deduplication_properties=parse_list(own["DEDUPLICATION_PROPERTIES"])
            if own["DEDUPLICATION_PROPERTIES"]
            else None,
        )


# ---- workers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How the jobs of one connector are worked. `name` and `type` are None where the connector's own count; no
    `fetch_variables` means all.
    """

    enabled: bool
    name: str | None
    type: str | None
    timeout_ms: int
    max_jobs_active: int
    stream_enabled: bool
    stream_timeout_ms: int
    poll_interval_ms: int
    request_timeout_ms: int
    tenant_ids: tuple[str, ...]
    fetch_variables: tuple[str, ...]
    force_fetch_all: bool


def _own(mine: _T | None, default: _T) -> _T:
    return default if mine is None else mine


def _ms(span: timedelta) -> int:
    return max(1, span // timedelta(milliseconds=1))


def _fetched(declared: tuple[str, ...], own: WorkerOverride, defaults: WorkerDefaults) -> tuple[str, ...]:
    if _own(own.force_fetch_all_variables, defaults.force_fetch_all_variables):
        return ()
    if own.fetch_variables is not None:
        return own.fetch_variables
    return tuple(dict.fromkeys((*declared, *defaults.fetch_variables))) if declared else ()


def worker_settings(
    client: Client, job_type: str, connector_timeout_ms: int | None, input_variables: tuple[str, ...]
) -> WorkerSettings:
    """The settings of one worker: what is overridden for its type, else the connector's own, else the defaults."""
    defaults, overrides = client.worker.defaults, client.worker.override
    own = overrides.get(job_type) or overrides.get(uniform(job_type)) or WorkerOverride()
    timeout_ms = connector_timeout_ms or _ms(defaults.timeout)
    return WorkerSettings(
        enabled=_own(own.enabled, defaults.enabled),
        name=own.name,
        type=own.type,
        timeout_ms=_ms(own.timeout) if own.timeout is not None else timeout_ms,
        max_jobs_active=_own(own.max_jobs_active, defaults.max_jobs_active),
        stream_enabled=_own(own.stream_enabled, defaults.stream_enabled),
        stream_timeout_ms=_ms(_own(own.stream_timeout, defaults.stream_timeout)),
        poll_interval_ms=_ms(_own(own.poll_interval, defaults.poll_interval)),
        request_timeout_ms=_ms(_own(own.request_timeout, defaults.request_timeout)),
        tenant_ids=_own(own.tenant_ids, defaults.tenant_ids) or (client.tenant_id,),
        fetch_variables=_fetched(input_variables, own, defaults),
        force_fetch_all=_own(own.force_fetch_all_variables, defaults.force_fetch_all_variables),
    )
