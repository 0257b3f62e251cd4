"""What deployed definitions say of inbound elements: fetched, read and kept by key.

A definition never changes, so each is read once. One that cannot be read is tried again by itself, with a growing delay; the
others don't notice.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

import structlog

from gateway import bpmn
from gateway.engine import EngineError, Queries, TransientError
from gateway.inbound.elements import INBOUND_TYPE, InvalidElement, inbound_elements
from gateway.limits import Backoff
from gateway.sdk import InboundElement

log = structlog.get_logger(__name__)

_CONCURRENCY = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0
_LARGE = 256 * 1024  # characters of XML; reading 32,000 takes 1 ms, and the event loop must not wait for 4 MB


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a process as an import names it. number: where the import told it."""

    key: int
    bpmn_process_id: str
    tenant_id: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """What a definition says: its inbound elements, and those that cannot be used."""

    elements: tuple[InboundElement, ...] = ()
    invalid: tuple[InvalidElement, ...] = ()


_NOTHING = Definition()


@dataclass(slots=True)
class _Unread:
    reason: str
    attempts: int
    pauses: Backoff
    due: float


@dataclass(slots=True)
class DefinitionCounters:
    """hits, misses: of the cache. failures: definitions that could not be read, each attempt. calls: to the engine."""

    hits: int = 0
    misses: int = 0
    failures: int = 0
    calls: int = 0


class Definitions:
    """The definitions in use, and of the others as many as the cache holds.

    size: of the cache, 0 for none; what is in use counts too, but is kept in any case. now: seconds on a monotonic clock.
    """

    def __init__(self, engine: Queries, *, size: int, now: Callable[[], float]) -> None:
        self._engine = engine
        self._size = size
        self._now = now
        self._known: OrderedDict[int, Definition] = OrderedDict()
        self._processes: dict[int, tuple[str, str]] = {}  # whose each of them is
        self._unread: dict[int, _Unread] = {}
        self.counters = DefinitionCounters()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: int) -> Definition | None:
        """None when it has not been read."""
        return self._known.get(key)

    def unread(self) -> dict[int, str]:
        """The keys of the definitions that could not be read so far, each with the reason."""
        return {key: one.reason for key, one in self._unread.items()}

    async def read(self, wanted: Iterable[Version]) -> None:
        """Reads those that are not known, a few at a time; one that failed before only when its pause is over.

        A key that was another process's before is a new cluster's at the same address: it is read again.
        Raises TransientError when the engine is in trouble and some have therefore not been tried.
        """
        due = []
        for version in wanted:
            if self._processes.get(version.key) == _process(version):
                self._known.move_to_end(version.key)
                self.counters.hits += 1
            elif version.key not in self._unread or self._unread[version.key].due <= self._now():
                self._known.pop(version.key, None)
                self._processes.pop(version.key, None)
                due.append(version)
        due.sort(key=self._attempts)
        trouble: list[TransientError] = []
        left = iter(due)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_CONCURRENCY, len(due))):
                group.create_task(self._work(left, trouble), name="reading process definitions")
        if trouble and next(left, None) is not None:
            raise trouble[0]

    def _attempts(self, version: Version) -> int:
        """Those that failed come last: they must not hold up the others."""
        return self._unread[version.key].attempts if version.key in self._unread else 0

    async def _work(self, left: Iterator[Version], trouble: list[TransientError]) -> None:
        while not trouble and (version := next(left, None)) is not None:
            self.counters.misses += 1
            try:
                found = await self._fetch(version)
            except EngineError as e:
                if isinstance(e, TransientError):
                    trouble.append(e)
                self._failed(version, str(e))
            except bpmn.BpmnError as e:
                self._failed(version, str(e))
            except Exception as e:
                log.exception("a process definition cannot be read", key=version.key)
                self._failed(version, type(e).__name__)
            else:
                self._known[version.key], self._processes[version.key] = found, _process(version)
                self._unread.pop(version.key, None)

    async def _fetch(self, version: Version) -> Definition:
        self.counters.calls += 1
        xml = await self._engine.process_definition_xml(version.key)
        if INBOUND_TYPE not in xml and "&#" not in xml:  # a name may be written in character references
            return _NOTHING
        found = await asyncio.to_thread(_read, xml, version) if len(xml) > _LARGE else _read(xml, version)
        if version.number is not None or not found.elements:
            return found
        self.counters.calls += 1
        number = (await self._engine.process_definition(version.key)).version
        return replace(found, elements=tuple(replace(element, version=number) for element in found.elements))

    def _failed(self, version: Version, reason: str) -> None:
        self.counters.failures += 1
        before = self._unread.get(version.key)
        pauses = before.pauses if before else Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        attempts = before.attempts + 1 if before else 1
        self._unread[version.key] = _Unread(reason, attempts, pauses, self._now() + pauses.next())
        log.warning(
            "a process definition cannot be read, it will be tried again",
            process=version.bpmn_process_id,
            tenant=version.tenant_id,
            key=version.key,
            reason=reason,
            attempts=attempts,
        )

    def keep(self, used: Collection[int]) -> None:
        """Forgets what is not in use and beyond the size of the cache, the longest unused first."""
        self._unread = {key: one for key, one in self._unread.items() if key in used}
        surplus = len(self._known) - self._size
        for key in list(self._known) if surplus > 0 else ():
            if surplus > 0 and key not in used:
                del self._known[key], self._processes[key]
                surplus -= 1


def _process(version: Version) -> tuple[str, str]:
    return version.tenant_id, version.bpmn_process_id


def _read(xml: str, version: Version) -> Definition:
    """What the definition's own process says; other participants of a collaboration have definitions of their own."""
    good, bad = inbound_elements(
        bpmn.parse(xml, file=version.bpmn_process_id),
        bpmn_process_id=version.bpmn_process_id,
        version=version.number or 0,
        key=version.key,
        tenant_id=version.tenant_id,
    )
    return Definition(tuple(good), tuple(bad)) if good or bad else _NOTHING
