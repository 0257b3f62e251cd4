"""Where settings come from: files, the environment, flags; in Spring Boot's order and formats.

`read_sources` collects them all, low to high: application files (profile files over plain ones, a later location over an
earlier one, `.properties` over YAML in one location), the environment, `SPRING_APPLICATION_JSON`, `-Dkey=value`,
`--key=value`. See "Externalized Configuration" in Spring Boot's reference.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.config.values import parse_list, uniform

_JVM_OPTIONS = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "JAVA_OPTS")
_SUFFIXES = (".yml", ".yaml", ".properties")  # low to high within one location


class ConfigurationError(Exception):
    """The configuration cannot be used. `str()` is one line: the key as written, where, what was expected, an example."""


@dataclass(frozen=True, slots=True)
class Property:
    """One setting as found: `path` is its name split at dots (empty for a variable of the environment: those have no
    structure of their own), `name` is as the user wrote it, `origin` says where.
    """

    path: tuple[str, ...]
    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Source:
    """The settings of one place. A list in a higher source replaces the whole list of a lower one."""

    properties: tuple[Property, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """All sources, low to high, and what was passed over with a word."""

    ordered: tuple[Source, ...]
    warnings: tuple[str, ...]


def split_path(name: str) -> tuple[str, ...]:
    """The segments of a dotted name; `[...]` and `"..."` keep their content as it is.

    `worker.override[io.camunda:http-json:1].enabled` has the segments `worker`, `override`, `io.camunda:http-json:1`
    and `enabled`.
    """
    return tuple(
        next(part for part in found.groups() if part is not None)
        for found in re.finditer(r'\[([^\]]*)\]|"([^"]*)"|([^.\["]+)', name)
    )


# ---- files -----------------------------------------------------------------------------------------------------------


def parse_properties(text: str) -> Iterator[dict[str, str]]:
    """The documents of a Java properties file (`#---` divides them): comments, continued lines, escapes."""
    document: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        line = line.lstrip()
        if line.rstrip() in {"#---", "!---"}:
            yield document
            document = {}
        elif line and line[0] not in "#!":
            while _continues(line):
                line = line[:-1] + next(lines, "").lstrip()
            key, value = _split_property(line)
            document[key] = value
    yield document


def _continues(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _split_property(line: str) -> tuple[str, str]:
    found = re.match(r"((?:\\.|[^\\=:\s])*)\s*[=:]?\s*(.*)", line, re.DOTALL)
    assert found is not None  # matches every text
    return _unescape(found[1]), _unescape(found[2].rstrip() if not found[2].endswith("\\ ") else found[2])


def _unescape(text: str) -> str:
    plain = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}

    def replace(found: re.Match[str]) -> str:
        return chr(int(found[1], 16)) if found[1] else plain.get(found[2], found[2])

    return re.sub(r"\\(?:u([0-9a-fA-F]{4})|(.))", replace, text, flags=re.DOTALL)


def flatten(tree: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """The leaves of a YAML or JSON object: path, name as a user would write it, text."""
    for key, value in tree.items():
        yield from _leaves(value, (*path, *_segments(str(key))))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    if isinstance(value, Mapping):
        yield from flatten(value, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, str(index)))
    else:
        text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        yield path, join_path(path), text


def _segments(key: str) -> tuple[str, ...]:
    """A key with a character that no name of a setting has (`io.camunda:http-json:1`) is one segment as it stands."""
    return split_path(key) if re.fullmatch(r'[\w.-]*(\[[^\]]*\][\w.-]*|"[^"]*"[\w.-]*)*', key) else (key,)


def join_path(path: Iterable[str]) -> str:
    """The dotted name of a path; segments that need it stand in `[...]`."""
    text = ""
    for segment in path:
        plain = re.fullmatch(r"[A-Za-z_-][\w-]*", segment)
        text += f".{segment}" if plain and text else segment if plain else f"[{segment}]"
    return text


def _documents(file: Path) -> list[dict[tuple[str, ...], tuple[str, str]]]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if file.suffix == ".properties":
        return [
            {split_path(key): (key, value) for key, value in document.items()} for document in parse_properties(text)
        ]
    return [{path: (name, value) for path, name, value in flatten(tree)} for tree in _yaml_documents(file, text)]


def _yaml_documents(file: Path, text: str) -> Iterator[dict[Any, Any]]:
    import yaml  # only where there is a file

    try:
        for tree in yaml.load_all(text, yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):
            if tree is not None and not isinstance(tree, dict):
                raise ConfigurationError(
                    f"{file}: expected an object of settings, for example camunda.client.mode: saas"
                )
            yield tree or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConfigurationError(f"{file}{where}: {problem}") from None


def profile_matches(expression: str, active: Sequence[str]) -> bool:
    """Spring's profile expressions without brackets: `prod`, `!prod`, `prod & eu`, `prod | test`, and comma lists (any)."""
    return any(
        all(
            (term.strip().lstrip("!").strip() in active) != term.strip().startswith("!")
            for term in alternative.split("&")
        )
        for alternative in re.split(r"[,|]", expression)
    )


def _read_file(file: Path, active: Sequence[str]) -> Iterator[Source]:
    condition = ("spring", "config", "activate", "on-profile")
    for document in _documents(file):
        found = next((value for path, (_, value) in document.items() if same_path(path, condition)), None)
        if found is None or profile_matches(found, active):
            yield Source(
                tuple(
                    Property(path, name, value, str(file))
                    for path, (name, value) in document.items()
                    if not same_path(path, condition)
                )
            )


def same_path(left: Sequence[str], right: Sequence[str]) -> bool:
    return len(left) == len(right) and all(uniform(a) == uniform(b) for a, b in zip(left, right, strict=True))


# ---- locations and profiles ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Bootstrap:
    """The few settings that say where settings are: from flags, `-D` and the environment alone."""

    location: str | None
    additional: str | None
    profiles: tuple[str, ...]
    name: str


def _bootstrap(sources: Sequence[Source]) -> _Bootstrap:
    def find(*path: str) -> str | None:
        for source in reversed(sources):
            for item in source.properties:
                if same_path(item.path, path) if item.path else uniform(item.name) == uniform("".join(path)):
                    return item.value
        return None

    return _Bootstrap(
        location=find("spring", "config", "location"),
        additional=find("spring", "config", "additional-location"),
        profiles=parse_list(find("spring", "profiles", "active") or ""),
        name=find("spring", "config", "name") or "application",
    )


def _locations(boot: _Bootstrap, directory: Path) -> Iterator[tuple[str, bool]]:
    """Each location and whether it may be absent."""
    if boot.location is None:
        yield "./", True
        yield "./config/", True
        yield from ((f"{folder}/", True) for folder in sorted(directory.glob("config/*/")))
    for text in (boot.location, boot.additional):
        for location in re.split(r"[,;]", text or ""):
            if location.strip():
                optional = location.strip().startswith("optional:")
                yield location.strip().removeprefix("optional:").removeprefix("file:"), optional


def _candidates(location: str, optional: bool, boot: _Bootstrap, directory: Path) -> Iterator[tuple[str, Path]]:
    """The files of a location that exist: (profile or nothing, file)."""
    place = directory / location
    if not location.endswith("/") and not place.is_dir():
        if place.suffix not in _SUFFIXES:
            raise ConfigurationError(
                f"{location}: expected a folder, or a file that ends in .properties, .yaml or .yml"
            )
        if not place.is_file() and not optional:
            raise ConfigurationError(
                f"{location}: no such file (spring.config.location); write optional:{location} if it may be absent"
            )
        stem, suffixes = place.with_suffix(""), _SUFFIXES[_SUFFIXES.index(place.suffix) :][:1]
    else:
        if not place.is_dir() and not optional:
            raise ConfigurationError(
                f"{location}: no such folder (spring.config.location); write optional:{location} if it may be absent"
            )
        stem, suffixes = place / boot.name, _SUFFIXES
    for profile in ("", *boot.profiles):
        for suffix in suffixes:
            file = stem.with_name(f"{stem.name}-{profile}{suffix}" if profile else f"{stem.name}{suffix}")
            if file.is_file():
                yield profile, file


def _file_sources(boot: _Bootstrap, directory: Path) -> tuple[list[Source], list[str]]:
    warnings: list[str] = []
    found: list[tuple[int, Path]] = []
    for location, optional in _locations(boot, directory):
        if location.startswith("classpath:"):
            warnings.append(f"spring.config.location: {location} is ignored: there is no class path")
            continue
        for profile, file in _candidates(location, optional, boot, directory):
            found.append((boot.profiles.index(profile) + 1 if profile else 0, file))
    found.sort(
        key=lambda item: item[0]
    )  # stable: profile files go over all plain ones, later profiles over earlier ones
    return [source for _, file in found for source in _read_file(file, boot.profiles)], warnings


# ---- environment and flags -------------------------------------------------------------------------------------------


def _environment(environ: Mapping[str, str]) -> Source:
    return Source(
        tuple(
            Property(split_path(name) if "." in name else (), name, value, "environment")
            for name, value in environ.items()
        )
    )


def _application_json(environ: Mapping[str, str]) -> list[Source]:
    import json

    text = environ.get("SPRING_APPLICATION_JSON", "").strip()
    if not text:
        return []
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"SPRING_APPLICATION_JSON (environment): not valid JSON: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigurationError(
            'SPRING_APPLICATION_JSON (environment): expected an object, for example {"server.port": 8080}'
        )
    return [
        Source(tuple(Property(path, name, value, "SPRING_APPLICATION_JSON") for path, name, value in flatten(tree)))
    ]


def _definition(text: str, origin: str) -> Property:
    name, _, value = text.partition("=")
    return Property(split_path(name), name, value, origin)


def _jvm_properties(environ: Mapping[str, str]) -> list[Source]:
    """`-D` options of the variables that a Java image hands to its JVM: a user who moves over has settings there."""
    found: list[Property] = []
    for variable in _JVM_OPTIONS:
        try:
            words = shlex.split(environ.get(variable, ""))
        except ValueError:
            raise ConfigurationError(f"{variable} (environment): a quotation mark is not closed") from None
        found.extend(_definition(word[2:], variable) for word in words if word.startswith("-D") and len(word) > 2)
    return [Source(tuple(found))] if found else []


def _flags(arguments: Sequence[str]) -> tuple[Source, Source]:
    system: list[Property] = []
    flags: list[Property] = []
    for argument in arguments:
        if argument.startswith("-D") and len(argument) > 2:
            system.append(_definition(argument[2:], "command line"))
        elif argument.startswith("--") and len(argument) > 2:
            flags.append(_definition(argument[2:], "command line"))
        else:
            raise ConfigurationError(
                f"{argument} (command line): expected --key=value, for example --camunda.client.mode=saas"
            )
    return Source(tuple(system)), Source(tuple(flags))


def read_sources(environ: Mapping[str, str], arguments: Sequence[str], directory: Path) -> Sources:
    """All sources, low to high. Raises ConfigurationError for a file that cannot be read or an argument that is none."""
    system, flags = _flags(arguments)
    above = [_environment(environ), *_application_json(environ), *_jvm_properties(environ), system, flags]
    boot = _bootstrap(above)
    files, warnings = _file_sources(boot, directory)
    if not boot.profiles and (profiles := _bootstrap(files).profiles):  # a plain file may name the profiles
        files, warnings = _file_sources(replace(boot, profiles=profiles), directory)
    return Sources((*files, *above), tuple(warnings))
