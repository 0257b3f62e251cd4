"""Secrets: where they come from, how text refers to them, and how they are kept out of all that leaves.

Users write `{{secrets.NAME}}` (or the older `secrets.NAME`) in inputs; the value is put into the JSON text of a job's variables
just before binding (Camunda docs, "Manage secrets" and "Using secrets in templates"). Which names a job may use is decided by the
deployed model: only those that stand in an input of its own element (`SecretFilter`).
"""

import asyncio
import base64
import json
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, Protocol
from urllib.parse import quote

import structlog

from gateway import bpmn
from gateway.engine import EngineError

log = structlog.get_logger(__name__)

_HEAD = re.compile(r"\{\{\s*secrets\.", re.ASCII)
_STOP = re.compile(r"\}\}|\s", re.ASCII)
_TAIL = re.compile(r"\s*\}\}", re.ASCII)
_BARE = re.compile(r"secrets\.([a-zA-Z0-9]++(?:[/._-][a-zA-Z0-9]++)*+)")
_MAX_PASSES = 20
_MAX_GROWTH = 16_000_000  # characters that values may add to a text: those that hold each other would grow without end
MASK = "***"


@dataclass(frozen=True, slots=True)
class SecretContext:
    """For whom a secret is looked up."""

    tenant_id: str
    bpmn_process_id: str
    physical_tenant_id: str | None = None


class SecretUnavailable(Exception):  # noqa: N818 - reads as what it is
    """No provider has the secret. The text names it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Secret with name '{name}' is not available")
        self.name = name


class SecretProvider(Protocol):
    """A source of secrets. Called for each job that names one: cache what is expensive.

    One that knows when its secrets change may also have `watch(changed: Callable[[], None]) -> None`: calling `changed`, in the
    event loop, makes inbound connectors that wait after a failure try again at once.
    """

    async def get_secret(self, name: str, context: SecretContext) -> str | None:
        """The value, None when this provider does not have it. Whatever it raises fails the job, with a retry less."""


class MapSecrets:
    """Secrets from a mapping: for tests, and for `gateway dev`."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    async def get_secret(self, name: str, context: SecretContext) -> str | None:
        return self._values.get(name)


class Values(Protocol):
    """Where named texts are looked up: the environment, the configuration, a mapping."""

    def get(self, name: str, /) -> str | None: ...


class EnvironmentSecrets:
    """Secrets from environment variables and configuration keys that begin with a prefix.

    The key is the prefix, the scopes that are switched on, and the name, joined by `_`; it is found as it is, with `.` and `-` as
    `_`, or in upper case (Spring's rules for environment variables). Nothing is cached.
    """

    def __init__(
        self,
        values: Values,
        *,
        prefix: str = "SECRET_",
        physical_tenant_aware: bool = False,
        tenant_aware: bool = False,
        process_definition_aware: bool = False,
    ) -> None:
        self._values = values
        self._prefix = prefix
        self._physical_tenant_aware = physical_tenant_aware
        self._tenant_aware = tenant_aware
        self._process_definition_aware = process_definition_aware
        self._warned: set[str] = set()

    async def get_secret(self, name: str, context: SecretContext) -> str | None:
        scopes = [
            *([context.physical_tenant_id or "default"] if self._physical_tenant_aware else ()),
            *([context.tenant_id] if self._tenant_aware else ()),
            *([context.bpmn_process_id] if self._process_definition_aware else ()),
        ]
        key = self._prefix + "_".join([*scopes, name])
        found = self._lenient(key)
        if found is None and self._prefix and name not in self._warned and self._lenient(name) is not None:
            self._warned.add(name)
            log.warning("a secret is set without its prefix: rename the variable", variable=name, to=key)
        return found

    def _lenient(self, key: str) -> str | None:
        values = self._values
        if (found := values.get(key)) is not None:
            return found
        plain = key.replace(".", "_").replace("-", "_")
        found = values.get(plain)
        return values.get(plain.upper()) if found is None else found


# ---- references ------------------------------------------------------------------------------------------------------


def mentions(text: str) -> bool:
    """Whether the text may refer to a secret at all: one quick scan, before anything else is done."""
    return "secrets." in text


Reference = tuple[int, int, str]
"""Where a reference begins and ends in a text, and the name in it."""


def _in_braces(text: str) -> Iterator[Reference]:
    """`{{secrets.NAME}}`: the name is everything but white space up to the first closing braces. Linear in the text."""
    end = stop = tail = -1
    for head in _HEAD.finditer(text):
        start = head.end()
        if head.start() < end or start == len(text) or text[start] in " \t\n\r\f\v":
            continue
        if stop <= start:
            found = _STOP.search(text, start + 1)
            if found is None:
                return
            stop = found.start()
            closing = _TAIL.match(text, stop)
            tail = closing.end() if closing else -1
        if tail >= 0:
            end = tail
            yield head.start(), end, text[start:stop]


def _bare(text: str) -> Iterator[Reference]:
    """`secrets.NAME`, the older form: letters and digits, joined by single `/`, `.`, `_`, `-`."""
    for found in _BARE.finditer(text):
        yield found.start(), found.end(), found[1]


def references(text: str) -> list[str]:
    """The names that a text refers to, in both forms, each once, in order."""
    braces = list(_in_braces(text))
    names = [name for _, _, name in braces]
    names += [name for _, _, name in _bare(_put(text, braces, dict.fromkeys(names, " ")))]
    return list(dict.fromkeys(names))


def _put(text: str, found: Sequence[Reference], values: Mapping[str, str | None]) -> str:
    """The text with each reference replaced by its value, those without one left as they are."""
    parts: list[str] = []
    last = 0
    for start, end, name in found:
        value = values[name]
        if value is not None:
            parts += (text[last:start], value)
            last = end
    parts.append(text[last:])
    return "".join(parts)


class Secrets:
    """The providers in their order, and the two things done with them: replacing references and finding values to mask."""

    def __init__(self, providers: Sequence[SecretProvider], masker: "Masker | None" = None) -> None:
        self._providers = providers
        self._masker = masker

    async def get(self, name: str, context: SecretContext) -> str | None:
        """The first provider's value, None when no provider has the secret."""
        for provider in self._providers:
            value = await provider.get_secret(name, context)
            if value is None:
                continue
            if not isinstance(value, str):
                raise TypeError(f"{type(provider).__name__} gave a secret that is no text, but {type(value).__name__}")
            if self._masker is not None:
                self._masker.add(value)
            return value
        return None

    async def replace(
        self, text: str, context: SecretContext, allowed: "Allowed", used: dict[str, str] | None = None
    ) -> str:
        """The JSON text with all references replaced by JSON-escaped values. used: gets the values by their names.

        Each form is applied as often as it occurred at first, so that a value may itself hold a reference. Names that are not
        allowed stay as they are. Raises SecretUnavailable, or what a provider raises.
        """
        used = {} if used is None else used
        escaped: dict[str, str | None] = {}
        limit = len(text) + _MAX_GROWTH
        for find in (_in_braces, _bare):
            found = list(find(text))
            for _ in range(min(_MAX_PASSES, len(found))):
                await self._look_up(found, context, allowed, escaped, used)
                before, text = text, _put(text, found, escaped)
                if text == before:
                    break
                if len(text) > limit:
                    raise ValueError("The values of secrets refer to secrets without an end")
                found = list(find(text))
        return text

    async def _look_up(
        self,
        found: Sequence[Reference],
        context: SecretContext,
        allowed: "Allowed",
        escaped: dict[str, str | None],
        used: dict[str, str],
    ) -> None:
        """Adds what is not known yet to `escaped`: the values as JSON, None for names that are not allowed."""
        for name in dict.fromkeys(name for _, _, name in found):
            if name in escaped:
                continue
            if not allowed(name):
                log.debug("the model does not name this secret, its reference stays", secret=name)
                escaped[name] = None
                continue
            value = await self.get(name, context)
            if value is None:
                raise SecretUnavailable(name)
            used[name] = value
            escaped[name] = json.dumps(value, ensure_ascii=False)[1:-1]

    async def values(
        self, text: str, context: SecretContext, allowed: "Allowed", known: Mapping[str, str] | None = None
    ) -> list[str]:
        """The values that the text's references stand for, for masking; what no provider has is left out.

        known: values by name that need no provider; all of them are in the result.
        """
        known = known or {}
        missing = [name for name in references(text) if name not in known and allowed(name)]
        found = [await self.get(name, context) for name in missing]
        return [value for value in (*known.values(), *found) if value]


# ---- which names a job may use ---------------------------------------------------------------------------------------

Allowed = Callable[[str], bool]


def allow_all(name: str) -> bool:
    """The filter of mode DISABLED."""
    return True


class SecretsUnreadable(Exception):  # noqa: N818 - reads as what it is
    """The model cannot be fetched, so it is not known which secrets the job may use. Worth trying again later."""


class SecretFilter:
    """Which secrets an element may use: those named in its own `zeebe:input` mappings in the deployed model.

    mode: DISABLED allows all; LAX allows all when the model cannot be fetched; STRICT then fails the job. Models are fetched once
    per definition and kept, the least recently used go first.
    """

    def __init__(
        self,
        process_xml: Callable[[int], Awaitable[str]],
        *,
        mode: Literal["DISABLED", "LAX", "STRICT"] = "STRICT",
        cache_size: int = 1000,
        delays: Sequence[float] = (0.1, 0.5, 2.0),
    ) -> None:
        self._process_xml = process_xml
        self._mode = mode
        self._cache_size = cache_size
        self._delays = delays
        self._cache: OrderedDict[int, asyncio.Task[Mapping[str, frozenset[str]]]] = OrderedDict()

    async def allowed(self, process_definition_key: int, element_id: str) -> Allowed:
        """The filter for an element. Raises SecretsUnreadable in mode STRICT."""
        if self._mode == "DISABLED":
            return allow_all
        try:
            elements = await self._elements(process_definition_key)
        except (EngineError, bpmn.BpmnError) as e:
            if self._mode == "LAX":
                log.warning(
                    "the model cannot be read, all secrets are allowed",
                    process_definition=process_definition_key,
                    reason=str(e),
                )
                return allow_all
            raise SecretsUnreadable(f"Error retrieving secret keys: {e}") from e
        return elements.get(element_id, frozenset()).__contains__

    async def _elements(self, key: int) -> Mapping[str, frozenset[str]]:
        """The names by element, fetched by one task for all who ask at the same time: none of them can cancel it."""
        task = self._cache.get(key)
        if task is None:
            task = self._cache[key] = asyncio.create_task(self._load(key))
            task.add_done_callback(partial(self._loaded, key))
            while len(self._cache) > max(1, self._cache_size):
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(key)
        return await asyncio.shield(task)

    def _loaded(self, key: int, task: asyncio.Task[Mapping[str, frozenset[str]]]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if (failed or self._cache_size <= 0) and self._cache.get(key) is task:
            del self._cache[key]

    async def _load(self, key: int) -> Mapping[str, frozenset[str]]:
        return _secrets_by_element(await self._fetch(key))

    async def _fetch(self, key: int) -> str:
        for delay in self._delays:
            try:
                return await self._process_xml(key)
            except EngineError:
                await asyncio.sleep(delay)
        return await self._process_xml(key)


def _secrets_by_element(xml: str) -> dict[str, frozenset[str]]:
    """Element id to the names in its inputs, for all elements of a model that have inputs."""
    found: dict[str, frozenset[str]] = {}
    for process in bpmn.parse(xml).processes:
        for element in process.walk():
            names = [name for mapping in element.extensions.inputs for name in references(mapping.source)]
            if names:
                found[element.id] = frozenset(names)
    return found


# ---- masking ---------------------------------------------------------------------------------------------------------


_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SHORT_ESCAPES = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}
Span = tuple[int, int]


class _Spellings:
    """One secret in all spellings in which it can leave: as it is, base64 at every alignment, and with any of its
    characters escaped as in JSON (also JSON within JSON) or in a URL.
    """

    __slots__ = ("_escaped", "_plain")

    def __init__(self, value: str) -> None:
        self._plain = (value, *_base64_forms(value))
        special = not _UNRESERVED.issuperset(value)
        self._escaped = re.compile("".join(map(_any_spelling, value))) if special else None

    def found(self, text: str) -> tuple[list[str], list[Span]]:
        """The plain spellings that the text holds, and where it holds escaped ones."""
        plain = [form for form in self._plain if form in text]
        return plain, [] if self._escaped is None else [found.span() for found in self._escaped.finditer(text)]


def _base64_forms(value: str) -> set[str]:
    """The characters that no neighbour can change, when the value stands inside of a longer text that is encoded."""
    data = value.encode("utf-8", "surrogatepass")
    forms: set[str] = set()
    for shift in range(3 if len(data) >= 6 else 0):
        padded = b"\0" * shift + data
        start, end = (shift * 8 + 5) // 6, len(padded) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(padded).decode()[start:end])
    return forms


def _any_spelling(character: str) -> str:
    """A pattern for a character as it is or escaped: by backslashes, up to three levels deep, or as in a URL."""
    if character in _UNRESERVED:
        return re.escape(character)
    in_url = quote(character, safe="", errors="replace")
    units = character.encode("utf-16-be", "surrogatepass")
    in_json = "".join(rf"\\{{1,8}}u{_any_case(units[n : n + 2].hex())}" for n in range(0, len(units), 2))
    found = [_any_case(in_url), in_json, rf"\\{{0,8}}{re.escape(character)}"]
    if character in _SHORT_ESCAPES:
        found += [rf"\\{{1,8}}{_SHORT_ESCAPES[character]}", " "]
    if character == " ":
        found.append(r"\+")
    return f"(?:{'|'.join(found)})"


def _any_case(text: str) -> str:
    return "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in text)


def mask_with(values: Iterable[str]) -> Callable[[str], str]:
    """A function that replaces every occurrence of the values, in each of their spellings, by `***`. Empty values are skipped.

    Occurrences that overlap become one `***`, so that nothing is left of the one that began later.
    """
    secrets = [_spellings(value) for value in dict.fromkeys(values) if value]
    if not secrets:
        return lambda text: text
    return lambda text: _masked(text, secrets)


_spellings = lru_cache(maxsize=4096)(_Spellings)


def _masked(text: str, secrets: Iterable[_Spellings]) -> str:
    plain: list[str] = []
    spans: list[Span] = []
    for secret in secrets:
        forms, escaped = secret.found(text)
        plain += forms
        spans += escaped
    if len(plain) == 1 and not spans:
        return text.replace(plain[0], MASK)
    if not plain and not spans:
        return text
    for form in plain:
        spans += _occurrences(form, text)
    parts: list[str] = []
    end = 0
    for start, stop in sorted(spans):
        if start >= end:
            parts += (text[end:start], MASK)
        end = max(end, stop)
    parts.append(text[end:])
    return "".join(parts)


def _occurrences(part: str, text: str) -> Iterator[Span]:
    at = text.find(part)
    while at >= 0:
        yield at, at + len(part)
        at = text.find(part, at + len(part))


def mask_tree(value: Any, mask: Callable[[str], str]) -> Any:
    """A copy of a JSON-like value with all texts and keys masked; containers that hold themselves become `[circular reference]`."""
    return _mask_tree(value, mask, set())


def _mask_tree(value: Any, mask: Callable[[str], str], above: set[int]) -> Any:
    if isinstance(value, str):
        return mask(value)
    if not isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return value
    if id(value) in above:
        return "[circular reference]"
    above.add(id(value))
    try:
        if isinstance(value, Mapping):
            return {mask(str(k)): _mask_tree(v, mask, above) for k, v in value.items()}
        return [_mask_tree(v, mask, above) for v in value]
    finally:
        above.discard(id(value))


class Masker:
    """Masks all secrets that were ever resolved in this process, in what is logged: the last line of defence."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._values: OrderedDict[str, _Spellings] = OrderedDict()
        self._secrets: tuple[_Spellings, ...] = ()  # replaced, never changed: other threads log too

    def add(self, value: str) -> None:
        """Remembers a value. Values of fewer than four characters are not: they would mask half of every log line."""
        if value in self._values or len(value) < 4:
            return
        self._values[value] = _Spellings(value)
        if len(self._values) > self._limit:
            self._values.popitem(last=False)
        self._secrets = tuple(self._values.values())

    def __call__(self, text: str) -> str:
        return _masked(text, self._secrets)
