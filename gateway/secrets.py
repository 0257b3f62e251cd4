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
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import quote, quote_plus

import structlog

from gateway import bpmn
from gateway.engine import EngineError

log = structlog.get_logger(__name__)

# `{{secrets.NAME}}`: everything but white space up to the braces. The length has an end so that no text costs quadratic time.
_BRACES = re.compile(r"\{\{\s*secrets\.(?P<name>\S{1,256}?)\s*\}\}")
_BARE = re.compile(r"secrets\.(?P<name>(?:[a-zA-Z0-9]+[/._-])*[a-zA-Z0-9]+)")
_MAX_PASSES = 20
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
    """A source of secrets. Called for each job that names one: cache what is expensive."""

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


def references(text: str) -> list[str]:
    """The names that a text refers to, in both forms, each once, in order."""
    names = [m["name"] for m in _BRACES.finditer(text)]
    names += [m["name"] for m in _BARE.finditer(_BRACES.sub("", text))]
    return list(dict.fromkeys(names))


class Secrets:
    """The providers in their order, and the two things done with them: replacing references and finding values to mask."""

    def __init__(self, providers: Sequence[SecretProvider], masker: "Masker | None" = None) -> None:
        self._providers = providers
        self._masker = masker

    async def get(self, name: str, context: SecretContext) -> str | None:
        """The first provider's value, None when no provider has the secret."""
        for provider in self._providers:
            value = await provider.get_secret(name, context)
            if value is not None:
                if self._masker is not None:
                    self._masker.add(value)
                return value
        return None

    async def replace(self, text: str, context: SecretContext, allowed: "Allowed") -> str:
        """The JSON text with all references replaced by JSON-escaped values.

        Each form is applied as often as it occurred at first, so that a value may itself hold a reference. Names that are not
        allowed stay as they are. Raises SecretUnavailable, or what a provider raises.
        """
        values: dict[str, str | None] = {}
        for pattern in (_BRACES, _BARE):
            passes = min(_MAX_PASSES, sum(1 for _ in pattern.finditer(text)))
            for _ in range(passes):
                replaced = await self._pass(pattern, text, context, allowed, values)
                if replaced == text:
                    break
                text = replaced
        return text

    async def _pass(
        self,
        pattern: re.Pattern[str],
        text: str,
        context: SecretContext,
        allowed: "Allowed",
        values: dict[str, str | None],
    ) -> str:
        for name in {m["name"] for m in pattern.finditer(text)} - values.keys():
            if not allowed(name):
                log.debug("the model does not name this secret, its reference stays", secret=name)
                values[name] = None
                continue
            value = await self.get(name, context)
            if value is None:
                raise SecretUnavailable(name)
            values[name] = json.dumps(value, ensure_ascii=False)[1:-1]
        return pattern.sub(lambda m: m[0] if values[m["name"]] is None else str(values[m["name"]]), text)

    async def values(self, text: str, context: SecretContext, allowed: "Allowed") -> list[str]:
        """The values that the text's references stand for, for masking; what no provider has is left out."""
        found = [await self.get(name, context) for name in references(text) if allowed(name)]
        return [value for value in found if value]


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
        self._cache: OrderedDict[int, asyncio.Future[Mapping[str, frozenset[str]]]] = OrderedDict()

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
        future = self._cache.get(key)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            if self._cache_size > 0:
                self._cache[key] = future
            try:
                future.set_result(_secrets_by_element(await self._fetch(key)))
            except BaseException as e:
                self._cache.pop(key, None)
                future.set_exception(e if isinstance(e, Exception) else SecretsUnreadable("interrupted"))
                future.exception()  # seen: those who wait get it, and nobody may be waiting
                raise
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
            return future.result()
        self._cache.move_to_end(key)
        return await asyncio.shield(future)

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


def forms(value: str) -> set[str]:
    """The spellings in which a secret can leave: as it is, JSON- and URL-escaped, and base64 at every alignment."""
    found = {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        quote(value),
        quote(value, safe=""),
    }
    found.add(quote_plus(value))
    data = value.encode("utf-8", "surrogatepass")
    if len(data) >= 6:
        for shift in range(3):  # the characters that no neighbour can change, when it stands inside of a longer text
            padded = b"\0" * shift + data
            start, end = (shift * 8 + 5) // 6, len(padded) * 8 // 6
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                found.add(encode(padded).decode()[start:end])
    return {form for form in found if form}


def mask_with(values: Iterable[str]) -> Callable[[str], str]:
    """A function that replaces every occurrence of the values, in each of their forms, by `***`. Empty values are skipped."""
    spellings = sorted({form for value in values if value for form in forms(value)}, key=len, reverse=True)
    if not spellings:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, spellings)))
    return lambda text: pattern.sub(MASK, text)


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
        self._values: OrderedDict[str, None] = OrderedDict()
        self._mask: Callable[[str], str] | None = None

    def add(self, value: str) -> None:
        """Remembers a value. Values of fewer than four characters are not: they would mask half of every log line."""
        if value in self._values or len(value) < 4:
            return
        self._values[value] = None
        if len(self._values) > self._limit:
            self._values.popitem(last=False)
        self._mask = None

    def __call__(self, text: str) -> str:
        if not self._values:
            return text
        if self._mask is None:
            self._mask = mask_with(self._values)
        return self._mask(text)
