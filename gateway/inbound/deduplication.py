"""Deduplication: which elements share one subscription, and by what name it is known. Pure, and bit-exact with the original.

The names matter beyond this process: the executable id is public in the status API, and the default group id of Kafka
subscriptions embeds the hash, so a consumer group survives the move from the Java runtime.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.inbound.elements import DEDUPLICATION_EXCLUDED
from gateway.sdk import InboundElement

Format = Literal["8.8", "8.9", "8.10"]


class Undefined(ValueError):  # noqa: N818 - reads as what it is
    """The element's deduplication settings make no sense; the text says which."""


# ---- Java's numbers --------------------------------------------------------------------------------------------------


def java_string_hash(text: str) -> int:
    """`String.hashCode`: over UTF-16 code units, 32 bits, unsigned."""
    value = 0
    data = text.encode("utf-16-be", "surrogatepass")
    for n in range(0, len(data), 2):
        value = (31 * value + (data[n] << 8 | data[n + 1])) & 0xFFFFFFFF
    return value


class _JavaHashMap:
    """The order in which a `java.util.HashMap` of texts iterates. Buckets that the JVM would make trees are not modelled.

    grows_before: `merge` looks at the size before it inserts and puts new entries first; `put` appends and looks afterwards.
    """

    def __init__(self, *, grows_before: bool) -> None:
        self._grows_before = grows_before
        self._capacity = 16
        self._buckets: dict[int, list[tuple[int, str, str]]] = {}
        self._size = 0

    def add(self, key: str, value: str) -> None:
        """Inserts a key that is not there yet."""
        if self._grows_before and self._size > self._capacity * 3 // 4:
            self._double()
        spread = java_string_hash(key)
        spread ^= spread >> 16
        bucket = self._buckets.setdefault(spread & (self._capacity - 1), [])
        bucket.insert(0 if self._grows_before else len(bucket), (spread, key, value))
        self._size += 1
        if not self._grows_before and self._size > self._capacity * 3 // 4:
            self._double()

    def entries(self) -> Iterable[tuple[str, str]]:
        for index in sorted(self._buckets):
            for _, key, value in self._buckets[index]:
                yield key, value

    def _double(self) -> None:
        self._capacity *= 2
        entries = [entry for index in sorted(self._buckets) for entry in self._buckets[index]]
        self._buckets = {}
        for entry in entries:
            self._buckets.setdefault(entry[0] & (self._capacity - 1), []).append(entry)


def property_hash(properties: Mapping[str, str], in_scope: Mapping[str, str]) -> int:
    """The hash over the values of the properties in scope, in the order in which Java's maps give them; signed, 32 bits."""
    raw = _JavaHashMap(grows_before=True)
    for key, value in properties.items():
        raw.add(key, value)
    kept = _JavaHashMap(grows_before=False)
    for key, value in raw.entries():
        if key in in_scope:
            kept.add(key, value)
    value_hash = 1
    for _, value in kept.entries():
        value_hash = (31 * value_hash + java_string_hash(value)) & 0xFFFFFFFF
    result = (31 + value_hash) & 0xFFFFFFFF
    return result - (1 << 32) if result >= 1 << 31 else result


# ---- ids -------------------------------------------------------------------------------------------------------------


def scoped(properties: Mapping[str, str], prefixes: Sequence[str] | None) -> dict[str, str]:
    """The properties that count. prefixes: keys, each with all that is nested below it; None: all but the excluded."""
    if prefixes is None:
        return {k: v for k, v in properties.items() if k not in DEDUPLICATION_EXCLUDED}
    return {k: v for k, v in properties.items() if any(k == p or k.startswith(f"{p}.") for p in prefixes)}


def _encoded(*values: str) -> str:
    return "".join(f"{len(v.encode('utf-16-be', 'surrogatepass')) // 2}:{v}" for v in values)


def deduplication_id(
    element: InboundElement,
    prefixes: Sequence[str] | None,
    *,
    format: Format = "8.10",  # noqa: A002 - the setting's own word
    physical_tenant_id: str = "default",
) -> str:
    """By what name an element's subscription is known. Raises Undefined, with the reason."""
    tenant, key, process = element.tenant_id, str(element.process_definition_key), element.bpmn_process_id
    mode = element.properties.get("deduplicationMode")
    if mode is None:
        if format == "8.10":
            return _encoded(physical_tenant_id, tenant, key, element.element_id)
        return f"{tenant}-{key}-{element.element_id}"
    if format == "8.10":
        prefix = _encoded(physical_tenant_id, tenant, process)
    else:
        prefix = f"{tenant}-{process if format == '8.9' else key}"
    if mode == "AUTO":
        in_scope = scoped(element.properties, prefixes)
        if not in_scope:
            raise Undefined("deduplicationMode AUTO: there is no property to tell subscriptions apart by")
        return f"{prefix}-{property_hash(element.properties, in_scope)}"
    if mode == "MANUAL":
        given = element.properties.get("deduplicationId")
        if not given:
            raise Undefined("deduplicationMode MANUAL: deduplicationId is missing")
        return f"{prefix}-{given}"
    raise Undefined(f"deduplicationMode: expected AUTO or MANUAL, but got {mode!r}")


def executable_id(deduplication: str) -> str:
    """The public id of a subscription: SHA-256 of its deduplication id, in hex."""
    return hashlib.sha256(deduplication.encode("utf-8", "surrogatepass")).hexdigest()


# ---- groups ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """Elements with one deduplication id: one subscription, represented by its first element. `invalid`: why it cannot be one."""

    deduplication_id: str
    elements: tuple[InboundElement, ...]
    invalid: str | None = None

    @property
    def executable_id(self) -> str:
        return executable_id(self.deduplication_id)

    @property
    def first(self) -> InboundElement:
        return self.elements[0]


def grouped(elements: Sequence[tuple[str, InboundElement]], scope: Mapping[str, Sequence[str] | None]) -> list[Group]:
    """Groups elements by their ids, in the order of the first of each. scope: connector type to its property prefixes."""
    found: dict[str, list[InboundElement]] = {}
    for ident, element in elements:
        found.setdefault(ident, []).append(element)
    return [Group(ident, tuple(of_one), _difference(of_one, scope)) for ident, of_one in found.items()]


def _difference(elements: Sequence[InboundElement], scope: Mapping[str, Sequence[str] | None]) -> str | None:
    """Why elements cannot share a subscription; None when they can."""
    for what, values in (
        ("type", {e.type for e in elements}),
        ("tenant ID", {e.tenant_id for e in elements}),
        ("process definition ID", {e.bpmn_process_id for e in elements}),
    ):
        if len(values) > 1:
            return f"All elements in a group must have the same {what}"
    maps = [scoped(e.properties, scope.get(elements[0].type)) for e in elements]
    names = sorted({k for one in maps for k in one if any(m.get(k) != one[k] for m in maps)})
    return f"All elements in a group must have the same properties, these differ: {', '.join(names)}" if names else None
