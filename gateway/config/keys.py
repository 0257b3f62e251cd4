"""The catalogue of keys: what each is called, its older spellings, and what becomes of it."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from gateway.config.model import AGENTIC, KeepEmpty, Later, Refused, Root, Section, Unused
from gateway.config.sources import Property
from gateway.config.values import uniform


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `fields` leads to it in the model; a map (`entries`) has keys of its own below it."""

    name: str
    fields: tuple[str, ...]
    default: Any
    mark: Later | Unused | Refused | None = None
    many: bool = False
    secret: bool = False
    keep_empty: bool = False
    entries: Mapping[str, "Key"] | None = None
    """For a map: the keys of one entry by field, or one key named "" where an entry is a single value."""

    @property
    def status(self) -> str:
        """`implemented`, `refused` or `ignored`."""
        if self.mark is None:
            return "implemented"
        return "refused" if isinstance(self.mark, Refused) else "ignored"


@dataclass(frozen=True, slots=True)
class Located:
    """Where a setting belongs: the key, the way in the model (with the key of a map's entry), an item's index."""

    key: Key
    fields: tuple[str, ...]
    index: int | None = None
    legacy: "Legacy | None" = None


def _core(annotation: Any) -> Any:
    """The type within `Annotated[...]` and `... | None`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _core(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return _core(next(arg for arg in get_args(annotation) if arg is not type(None)))
    return annotation


def _key(path: tuple[str, ...], field: FieldInfo) -> Key:
    core = _core(field.annotation)
    entries: Mapping[str, Key] | None = None
    if get_origin(core) is Mapping:
        value = get_args(core)[1]
        if isinstance(_core(value), type) and issubclass(_core(value), Section):
            entries = {key.fields[-1]: key for key in _walk(_core(value), (*path, "<type>"))}
        else:
            entries = {"": Key("", (*path, "<name>"), None)}
    return Key(
        name=".".join(part.replace("_", "-") for part in path),
        fields=path,
        default=field.default,
        mark=next((mark for mark in field.metadata if isinstance(mark, Later | Unused | Refused)), None),
        many=core is tuple or get_origin(core) is tuple,
        secret=core is SecretStr,
        keep_empty=any(isinstance(mark, KeepEmpty) for mark in field.metadata),
        entries=entries,
    )


def _walk(section: type[Section], path: tuple[str, ...] = ()) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        core = _core(field.annotation)
        if isinstance(core, type) and issubclass(core, Section):
            yield from _walk(core, (*path, name))
        else:
            yield _key((*path, name), field)


KEYS: Final[Mapping[str, Key]] = {key.name: key for key in _walk(Root)}
"""Every key that files, the environment and flags may set, by its name."""


# ---- older spellings -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Legacy:
    """An older spelling of a key; `convert` turns an old value into a new one (second argument: the old client's
    `zeebe.client.security.plaintext`).
    """

    name: str
    target: str
    convert: Callable[[str, bool], str] | None = None


def _with_scheme(address: str, plaintext: bool) -> str:
    return address if "://" in address else f"{'http' if plaintext else 'https'}://{address}"


def _without_zeebe(address: str, plaintext: bool) -> str:
    return address.removeprefix("zeebe.")


PLAINTEXT: Final = "zeebe.client.security.plaintext"

_OLD_NAMES: Final = {
    "zeebe.client.cloud.cluster-id": "cloud.cluster-id",
    "zeebe.client.cloud.client-id": "auth.client-id",
    "zeebe.client.cloud.client-secret": "auth.client-secret",
    "zeebe.client.cloud.region": "cloud.region",
    "zeebe.client.cloud.port": "cloud.port",
    "zeebe.client.cloud.auth-url": "auth.token-url",
    "zeebe.client.cloud.audience": "auth.audience",
    "zeebe.client.cloud.scope": "auth.scope",
    "zeebe.client.id": "auth.client-id",
    "zeebe.client.secret": "auth.client-secret",
    "zeebe.client.request-timeout": "request-timeout",
    "zeebe.client.default-tenant-id": "tenant-id",
    "zeebe.authorization.server.url": "auth.token-url",
    "zeebe.token.scope": "auth.scope",
    "zeebe.token.resource": "auth.resource",
    "zeebe.token.audience": "auth.audience",
    "zeebe.client.worker.threads": "execution-threads",
    "zeebe.client.worker.max-jobs-active": "worker.defaults.max-jobs-active",
    "zeebe.client.job.timeout": "worker.defaults.timeout",
    "zeebe.client.job.poll-interval": "worker.defaults.poll-interval",
    "zeebe.client.security.cert-path": "ca-certificate-path",
    "zeebe.client.security.override-authority": "override-authority",
    "zeebe.client.default-job-worker-tenant-ids": "worker.defaults.tenant-ids",
    "zeebe.client.default-job-worker-stream-enabled": "worker.defaults.stream-enabled",
    "camunda.client.zeebe.audience": "auth.audience",
    "camunda.client.zeebe.scope": "auth.scope",
    "camunda.client.auth.issuer": "auth.token-url",
    "camunda.client.cluster-id": "cloud.cluster-id",
    "camunda.client.region": "cloud.region",
    "camunda.client.tenant-ids": "worker.defaults.tenant-ids",
}


def _legacy() -> Iterator[Legacy]:
    for old, new in _OLD_NAMES.items():
        yield Legacy(old, f"camunda.client.{new}")
    yield Legacy("zeebe.client.broker.gateway-address", "camunda.client.grpc-address", _with_scheme)
    yield Legacy("zeebe.client.broker.grpc-address", "camunda.client.grpc-address", _with_scheme)
    yield Legacy("zeebe.client.broker.rest-address", "camunda.client.rest-address", _with_scheme)
    yield Legacy("zeebe.client.cloud.base-url", "camunda.client.cloud.domain", _without_zeebe)
    for name in KEYS:
        if name.startswith("camunda.client."):
            tail = name.removeprefix("camunda.client.")
            yield Legacy(f"camunda.client.zeebe.{tail}", name)
            if tail.startswith("worker."):
                yield Legacy(f"camunda.client.zeebe.{tail.removeprefix('worker.')}", name)


LEGACY: Final[tuple[Legacy, ...]] = tuple(_legacy())


# ---- keys of the environment alone -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable, or a family of them, that only the environment may set."""

    pattern: str
    mark: Later | Unused | Refused | None = None

    @property
    def status(self) -> str:
        return "implemented" if self.mark is None else "refused" if isinstance(self.mark, Refused) else "ignored"


_STORES: Final = Later("secret managers of clouds are not yet supported")
_TRUST: Final = Unused("a Java trust store cannot be read: set SSL_CERT_FILE to a PEM file")

VARIABLES: Final[tuple[Variable, ...]] = (
    Variable("CONNECTOR_OUTBOUND_(DISCOVERY_DISABLED|DISABLED|ENABLED)"),
    Variable("CONNECTOR_INBOUND_(DISCOVERY_DISABLED|DISABLED|ENABLED)"),
    Variable("CONNECTOR_HTTPS?_PROXY_(HOST|PORT|SCHEME|USER|PASSWORD)"),
    Variable("CONNECTOR_HTTPS?_PLAIN_PROXY_(HOST|PORT|SCHEME|USER|PASSWORD)", AGENTIC),
    Variable("CONNECTOR_HTTP_NON_PROXY_HOSTS"),
    Variable("CONNECTOR_HTTP_CLIENT_MAX_BODY_SIZE"),
    Variable("CAMUNDA_CONNECTOR_HTTP_BLOCK_(URL|PORT|REGEX)_.+"),
    Variable("CONNECTOR_.+_(FUNCTION|INPUT_VARIABLES)"),
    Variable("CONNECTOR_.+_(TYPE|TIMEOUT)"),
    Variable("CONNECTOR_.+_(EXECUTABLE|DEDUPLICATION_PROPERTIES)"),
    Variable("CAMUNDA_CONNECTOR_RUNTIME_SAAS"),
    Variable("CAMUNDA_CLUSTER_ID|SECRETS_PROJECT_ID|SECRETS_PREFIX|CAMUNDA_CONNECTOR_SECRETS_CACHE_MILLIS", _STORES),
    Variable("CAMUNDA_CONNECTOR_VECTORDB_HTTP_PROXYSUPPORT_ENABLED", Later("vector databases are not yet supported")),
    Variable("JAVAX_NET_SSL_TRUSTSTORE(_?PASSWORD)?", _TRUST),
    Variable(
        "APP_INTEGRATIONS_(BASE_URL|CLUSTER_ID|API_KEY|OAUTH_(TOKEN_ENDPOINT|CLIENT_ID|CLIENT_SECRET|AUDIENCE|SCOPES|CLIENT_AUTHENTICATION))",
        Later("the App Integrations connector is not yet supported"),
    ),
    Variable("HEALTHCHECK_URL"),
    Variable("HOSTNAME"),
    Variable("SPRING_(PROFILES_ACTIVE|APPLICATION_JSON|CONFIG_LOCATION|CONFIG_ADDITIONAL_?LOCATION|CONFIG_NAME)"),
)


def find_variable(name: str) -> Variable | None:
    """The first that fits: a name like `CONNECTOR_HTTP_PROXY_TYPE` belongs to the connector `HTTP PROXY`."""
    return next((variable for variable in VARIABLES if re.fullmatch(variable.pattern, name, re.IGNORECASE)), None)


# ---- finding a key ---------------------------------------------------------------------------------------------------


@cache
def _names() -> dict[tuple[str, ...], tuple[Key, Legacy | None]]:
    found: dict[tuple[str, ...], tuple[Key, Legacy | None]] = {}
    for name, key in KEYS.items():
        found[_uniform(name)] = (key, None)
    for legacy in LEGACY:
        found.setdefault(_uniform(legacy.name), (KEYS[legacy.target], legacy))
    return found


@cache
def _flat_names() -> dict[str, tuple[Key, Legacy | None]]:
    return {"".join(path): found for path, found in reversed(_names().items())}


@cache
def _maps() -> tuple[tuple[tuple[str, ...], Key, Legacy | None], ...]:
    return tuple((path, key, legacy) for path, (key, legacy) in _names().items() if key.entries is not None)


def _uniform(name: str) -> tuple[str, ...]:
    return tuple(uniform(part) for part in name.split("."))


def locate(item: Property) -> Located | None:
    """The key that a setting means, by relaxed names: case, `-` and `_` don't matter."""
    return _locate_path(item.path) if item.path else _locate_variable(item.name)


def _locate_path(path: tuple[str, ...]) -> Located | None:
    parts = tuple(uniform(part) for part in path)
    if found := _names().get(parts):
        return Located(found[0], found[0].fields, None, found[1])
    if path[-1].isdigit() and (found := _names().get(parts[:-1])) and found[0].many:
        return Located(found[0], found[0].fields, int(path[-1]), found[1])
    for prefix, key, legacy in _maps():
        if parts[: len(prefix)] == prefix and len(parts) > len(prefix):
            return _entry(key, path[len(prefix) :], legacy)
    return None


def _entry(key: Key, rest: tuple[str, ...], legacy: Legacy | None) -> Located | None:
    """`rest` is what follows a map's name: the entry's key (it may have dots), its field, an index."""
    assert key.entries is not None
    if "" in key.entries:
        return Located(key.entries[""], (*key.fields, ".".join(rest)), None, legacy)
    index = int(rest[-1]) if rest[-1].isdigit() and len(rest) > 2 else None
    way = rest[:-1] if index is not None else rest
    field = next((name for name in key.entries if uniform(name) == uniform(way[-1])), None)
    if field is None or len(way) < 2 or (index is not None and not key.entries[field].many):
        return None
    return Located(key.entries[field], (*key.fields, ".".join(way[:-1]), field), index, legacy)


def _locate_variable(name: str) -> Located | None:
    if found := _flat_names().get(uniform(name)):
        return Located(found[0], found[0].fields, None, found[1])
    item = re.fullmatch(r"(.+?)_([0-9]{1,4})_?", name)
    if item and (found := _flat_names().get(uniform(item[1]))) and found[0].many:
        return Located(found[0], found[0].fields, int(item[2]), found[1])
    pieces = name.split("_")
    for prefix, key, legacy in _maps():
        for cut in range(1, len(pieces)):
            if uniform("".join(pieces[:cut])) == "".join(prefix):
                return _variable_entry(key, pieces[cut:], legacy)
    return None


def _variable_entry(key: Key, pieces: list[str], legacy: Legacy | None) -> Located | None:
    """A map's entry in the environment. Its key keeps letters and digits only (a job type) or gets dots for `_` (a logger)."""
    assert key.entries is not None
    pieces = [piece for piece in pieces if piece]
    if "" in key.entries:
        return Located(key.entries[""], (*key.fields, ".".join(pieces).lower()), None, legacy) if pieces else None
    for cut in range(1, len(pieces)):
        for index, tail in ((None, pieces[cut:]), (pieces[-1], pieces[cut:-1])):
            field = next((name for name in key.entries if uniform(name) == uniform("".join(tail))), None)
            if field and (index is None or (index.isdigit() and key.entries[field].many)):
                way = (*key.fields, uniform("".join(pieces[:cut])), field)
                return Located(key.entries[field], way, int(index) if index else None, legacy)
    return None
