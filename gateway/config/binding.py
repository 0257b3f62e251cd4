"""From sources to values: which key each setting means, what wins, placeholders, errors that name the setting."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from gateway.config.keys import KEYS, LEGACY, PLAINTEXT, Key, Located, find_variable, locate
from gateway.config.sources import ConfigurationError, Property, Source, Sources, split_path
from gateway.config.values import uniform

_FAMILIES: Final = re.compile(
    r"(camunda|connectors?|zeebe[._]?client|zeebe[._]?authorization|zeebe[._]?token|gateway|management|logging)[._].+",
    re.IGNORECASE,
)
_KUBERNETES: Final = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP)(_(ADDR|PORT|PROTO))?$")


# ---- lookup of single properties -----------------------------------------------------------------------------------------


class Lookup:
    """Any property by name, over all sources: what placeholders and the secrets of the environment read."""

    def __init__(self, sources: Sources) -> None:
        self._sources = [
            (
                {item.name: item.value for item in source.properties},
                {tuple(map(uniform, item.path)): item.value for item in source.properties if item.path},
                any(item.origin == "environment" for item in source.properties),
            )
            for source in reversed(sources.ordered)
        ]

    def raw(self, name: str) -> str | None:
        """The value as written. The environment is asked for the name, then with `_` for `.` and `-`, then in capitals."""
        path = tuple(map(uniform, split_path(name))) if re.fullmatch(r"[a-z0-9.\-\[\]]+", name) else None
        plain = re.sub(r"[.-]", "_", name)
        for names, paths, environment in self._sources:
            for candidate in (name, plain, plain.upper()) if environment else (name,):
                if candidate in names:
                    return names[candidate]
            if path in paths:
                return paths[path]
        return None

    def names(self) -> dict[str, str]:
        """All properties by their names as written, with the value of the highest source."""
        return {name: value for names, _, _ in reversed(self._sources) for name, value in names.items()}

    def resolve(self, text: str, *, strict: bool, depth: int = 0) -> str:
        """The text with `${NAME}` and `${NAME:default}` replaced, also nested. Unknown ones stay, or raise LookupError."""
        if "${" not in text:
            return text
        if depth > 20:
            raise LookupError("placeholders refer to each other in a circle")
        out, at = "", 0
        while (start := text.find("${", at)) >= 0:
            end = _closing(text, start + 2)
            if end < 0:
                break
            if start and text[start - 1] == "\\":
                out, at = out + text[at : start - 1] + text[start : end + 1], end + 1
                continue
            out += text[at:start] + self._placeholder(text[start + 2 : end], strict=strict, depth=depth)
            at = end + 1
        return out + text[at:]

    def _placeholder(self, body: str, *, strict: bool, depth: int) -> str:
        body = self.resolve(body, strict=strict, depth=depth + 1)
        name, colon, default = body.partition(":")
        value = self.raw(body) if colon else None
        value = self.raw(name) if value is None else value
        if value is None and not colon:
            if strict:
                raise LookupError(f"the placeholder ${{{name}}} has no value")
            return f"${{{body}}}"
        return self.resolve(default if value is None else value, strict=strict, depth=depth + 1)


def _closing(text: str, at: int) -> int:
    depth = 1
    while at < len(text):
        if text.startswith("${", at):
            depth, at = depth + 1, at + 1
        elif text[at] == "}":
            depth -= 1
            if not depth:
                return at
        at += 1
    return -1


# ---- from sources to values ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Value:
    """What one source, or the highest of several, says of a key."""

    key: Key
    item: Property
    value: str | list[str]
    located: Located

    @property
    def where(self) -> str:
        return f"{self.item.name} ({self.item.origin})"


@dataclass(slots=True)
class Reading:
    """All values found so far, by the way to them in the model."""

    lookup: Lookup
    warnings: list[str]
    values: dict[tuple[str, ...], Value] = field(default_factory=dict)
    legacy: dict[tuple[str, ...], Value] = field(default_factory=dict)

    def add(self, source: Source) -> None:
        items: dict[tuple[tuple[str, ...], bool], dict[int, str]] = {}
        for item in source.properties:
            located = locate(item)
            if located is None:
                self._unknown(item)
                continue
            fields_ = self._same_entry(located)
            target = self.values if located.legacy is None else self.legacy
            if located.index is None:
                target[fields_] = Value(located.key, item, item.value, located)
                continue
            listed = items.setdefault((fields_, located.legacy is None), {})
            listed[located.index] = item.value
            target[fields_] = Value(located.key, item, [listed[index] for index in sorted(listed)], located)

    def _same_entry(self, located: Located) -> tuple[str, ...]:
        """The environment can't write `io.camunda:http-json:1`: its spelling means the entry that a file has of that name."""
        way = located.fields
        if way[:4] != ("camunda", "client", "worker", "override"):
            return way
        for known in (*self.values, *self.legacy):
            if known[:4] == way[:4] and way[4] == uniform(known[4]):
                return (*way[:4], known[4], *way[5:])
        return way

    def _unknown(self, item: Property) -> None:
        variable = find_variable(item.name)
        if variable is not None:
            if item.origin != "environment" and not re.fullmatch(r"CONNECTOR_.+_(TYPE|TIMEOUT)|SPRING_.+", item.name):
                self.warnings.append(f"{item.name} ({item.origin}) is ignored: it is read from the environment alone")
            elif variable.mark is not None:
                self.warnings.append(f"{item.name} ({item.origin}) is ignored: {variable.mark.why}")
            return
        if uniform(item.name) == uniform(PLAINTEXT) or not _FAMILIES.fullmatch(item.name):
            return
        if not item.path and (_KUBERNETES.search(item.name) or item.value.startswith(("tcp://", "udp://"))):
            return  # what Kubernetes tells of services called `camunda-...` or `connectors`
        self.warnings.append(f"{item.name} ({item.origin}) is unknown and ignored{_suggestion(item)}")

    def settle(self) -> None:
        """Older spellings count where the new one is not set."""
        plain = self.lookup.raw(PLAINTEXT) or self.lookup.raw("ZEEBE_CLIENT_SECURITY_PLAINTEXT") or "true"
        for way, value in self.legacy.items():
            legacy = value.located.legacy
            assert legacy is not None
            if way in self.values:
                self.warnings.append(f"{value.where} is ignored: {self.values[way].where} is set")
                continue
            if legacy.convert and isinstance(value.value, str):
                value.value = legacy.convert(value.value, plain.strip().lower() != "false")
            self.warnings.append(f"{value.where} is an older spelling of {legacy.target}")
            self.values[way] = value

    def resolve(self) -> None:
        """Replaces placeholders, and drops what is empty: an empty value means that the key is not set."""
        for way, value in list(self.values.items()):
            try:
                if isinstance(value.value, str):
                    value.value = self.lookup.resolve(value.value, strict=True)
                else:
                    value.value = [self.lookup.resolve(text, strict=True) for text in value.value]
            except LookupError as error:
                problem = "a placeholder in it has no value" if value.key.secret else str(error)
                raise ConfigurationError(f"{value.where}: {problem}; ${{NAME:default}} gives it one") from None
            if value.value == "" and not value.key.keep_empty and not value.key.many:
                del self.values[way]


def _suggestion(item: Property) -> str:
    known = {uniform(name): name for name in (*KEYS, *(legacy.name for legacy in LEGACY))}
    near = difflib.get_close_matches(uniform(item.name), known, n=1, cutoff=0.6)
    if not near:
        return ""
    name = known[near[0]]
    return f"; did you mean {name if item.path else re.sub('[-]', '', name).replace('.', '_').upper()}?"


def tree(values: Mapping[tuple[str, ...], Value]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for way, value in values.items():
        node = root
        for part in way[:-1]:
            node = node.setdefault(part, {})
        node[way[-1]] = value.value
    return root


def explain(error: ValidationError, values: Mapping[tuple[str, ...], Value]) -> ConfigurationError:
    """The first error as one line; how many more there are."""
    found = error.errors(include_url=False, include_context=False)
    first = found[0]
    value = next((value for way, value in values.items() if way == first["loc"][: len(way)]), None)
    problem = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    if value is None:
        return ConfigurationError(f"{'.'.join(map(str, first['loc']))}: {problem}{more}")
    text = value.value if isinstance(value.value, str) else ",".join(value.value)
    got = "" if value.key.secret else f", got {re.sub(r'[^/@]*@', '***@', text)[:100]!r}"
    return ConfigurationError(f"{value.where}: {problem}{got}{more}")
