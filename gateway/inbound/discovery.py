"""Discovery: what is deployed, seen through the engine's searches, as the elements that wait for events.

Source: the original's import of process definitions ("Inbound connectors" in Camunda's docs; Orchestration Cluster REST API).
It serves the latest version of each process and, for running instances, older versions with open message subscriptions.

A tick costs one small search as long as nothing is deployed: the newest definition's key and the number of all definitions tell
whether something is new or gone. Only then, and every `sweep_interval`, the latest versions are read as a whole.
"""

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog

from gateway.engine import (
    DEFAULT_TENANT,
    Engine,
    EngineError,
    EngineFailure,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Queries,
    SearchPage,
    Unimplemented,
)
from gateway.inbound.definitions import Definition, Definitions, Version
from gateway.inbound.elements import InvalidElement
from gateway.inbound.versions import Process, Versions, of_older_version
from gateway.limits import Backoff
from gateway.sdk import InboundElement

log = structlog.get_logger(__name__)

_PROBE: Final = 10  # so many deployments between two ticks are seen without reading all
_COUNTED: Final = 1000  # rows of statistics in a page: they are small, and one page serves most clusters
_CLUSTER_INTERVAL: Final = (
    600.0  # seconds until the cluster's version is asked again: clusters are upgraded while we run
)
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_NOT_OFFERED: Final = (Unimplemented, NotFound, InvalidArgument, PermissionDenied)

_STATISTICS: Final = "process-definitions/statistics/message-subscriptions"
_OPEN: Final[dict[str, dict[str, str]]] = {
    _STATISTICS: {"messageSubscriptionState": "CREATED"},
    "message-subscriptions": {"messageSubscriptionState": "CREATED"},
    # What runs may come to wait for a message. Clusters before 8.9 may not say of which version a subscription is.
    "process-instances": {"state": "ACTIVE"},
}
"""Who tells which versions have open message subscriptions, the best first, with the filter for it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The elements of all versions that are served, and those that cannot be used. Of a process the newest version first."""

    elements: tuple[InboundElement, ...]
    invalid: tuple[InvalidElement, ...]


@dataclass(frozen=True, slots=True)
class DiscoveryStatistics:
    """looks: ticks; calls: requests to the engine; sweeps: how often all latest versions were read.

    processes, versions, elements, invalid: what is served; unread: definitions that could not be read so far, failures: attempts
    at them; hits, misses: of the cache of definitions, cached: their number; newest: seconds since the last good look, None
    before the first.
    """

    looks: int
    calls: int
    sweeps: int
    processes: int
    versions: int
    elements: int
    invalid: int
    unread: int
    failures: int
    hits: int
    misses: int
    cached: int
    newest: float | None


class Discovery:
    """Looks at one engine, one look after the other. Serves the processes of all tenants that the client may read.

    page_size: rows of a page of definitions. active_versions: whether older versions with open message subscriptions are served.
    cache_size: how many definitions are kept read, 0 for none but those in use. sweep_interval: seconds; a deletion or
    deployment is seen without a sweep, so this is how long an error of the index behind the searches may last.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        page_size: int = 200,
        active_versions: bool = True,
        cache_size: int = 1000,
        sweep_interval: float = 60.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if page_size < 1:
            raise ValueError(f"process-definition-search.page-size: expected more than 0, but got {page_size}")
        self._engine = engine
        self._page_size = page_size
        self._active_versions = active_versions
        self._sweep_interval = sweep_interval
        self._now = now
        self._definitions = Definitions(engine, size=cache_size, now=now)
        self._versions = Versions()
        self._numbers: dict[int, int] = {}  # version numbers by key, of latest versions
        self._newest = -1
        self._total = 0
        self._swept: float | None = None
        self._state_filter = False
        self._sources: list[str] = []
        self._cluster: tuple[str, float] | None = None
        self._latest_import = _Trouble(now)
        self._active_import = _Trouble(now)
        self._reading_error: EngineError | None = None
        self._dirty: set[Process] = set()  # what is served of them has changed, or could not be read yet
        self._parts: dict[Process, _Part] = {}
        self._wanted = Wanted((), ())
        self._looks = self._calls = self._sweeps = 0
        self._looked: float | None = None

    @property
    def last_error(self) -> EngineError | None:
        """Why the last look could not see all: the latest versions, those with open subscriptions, or what they say."""
        return self._latest_import.error or self._active_import.error or self._reading_error

    def unread(self) -> dict[int, str]:
        """The keys of the definitions that could not be read so far, with the reason. They are tried again."""
        return self._definitions.unread()

    def statistics(self) -> DiscoveryStatistics:
        counters = self._definitions.counters
        return DiscoveryStatistics(
            looks=self._looks,
            calls=self._calls + counters.calls,
            sweeps=self._sweeps,
            processes=len(self._parts),
            versions=sum(len(part.keys) for part in self._parts.values()),
            elements=len(self._wanted.elements),
            invalid=len(self._wanted.invalid),
            unread=len(self._definitions.unread()),
            failures=counters.failures,
            hits=counters.hits,
            misses=counters.misses,
            cached=len(self._definitions),
            newest=None if self._looked is None else self._now() - self._looked,
        )

    async def look(self) -> Wanted:
        """What is wanted now; the same object as before when nothing changed.

        Raises EngineError when the latest versions cannot be read: then nothing of them is taken, and what was known stays. For
        a while, longer each time up to half a minute, the error is raised again without asking. When only the open
        subscriptions cannot be read, those known stay, and `last_error` tells.
        """
        self._looks += 1
        self._latest_import.check()
        sweeps = self._sweeps
        try:
            await self._check_cluster()
            self._dirty |= await self._import_latest()
        except EngineError as e:
            self._latest_import.failed(e)
            log.warning("what is deployed cannot be read", reason=str(e))
            self._swept = None  # a page may have been lost that would have told of a deletion
            raise
        self._latest_import.over()
        if self._may_have_older(swept=self._sweeps > sweeps):
            try:
                self._dirty |= await self._import_active()
            except EngineError as e:
                self._active_import.failed(e)
                log.warning("the versions with open message subscriptions cannot be read", reason=str(e))
            else:
                self._active_import.over()
        self._reading_error = None
        try:
            await self._definitions.read(
                self._version(key, of) for of in self._dirty for key in self._versions.served(of)
            )
        except EngineError as e:
            self._reading_error = e
            raise
        finally:
            self._serve()
        self._looked = self._now()
        return self._wanted

    def _may_have_older(self, *, swept: bool) -> bool:
        """Whether to ask for open subscriptions. Deleted versions are not counted, but may have some: a sweep asks in any case."""
        if not self._active_versions or not self._active_import.is_due:
            return False
        return swept or self._active_import.error is not None or self._total != len(self._versions.latest_keys)

    # ---- the cluster -------------------------------------------------------------------------------------------------

    async def _check_cluster(self) -> None:
        """Which searches the cluster has, by its version."""
        if self._cluster is not None and self._now() - self._cluster[1] < _CLUSTER_INTERVAL:
            return
        self._calls += 1
        try:
            version = (await self._engine.topology()).gateway_version
        except EngineError:
            if self._cluster is None:
                raise
            version = self._cluster[0]  # the searches may go another way than this command
        if self._cluster is None or self._cluster[0] != version:
            log.info("looking for inbound connectors", cluster=version)
        self._cluster = (version, self._now())
        release = _release(version)
        self._state_filter = release >= (8, 10)
        self._sources = list(_OPEN) if release >= (8, 9) else [one for one in _OPEN if one != _STATISTICS]

    async def _page(self, resource: str, filter_: dict[str, Any], **options: Any) -> SearchPage:
        self._calls += 1
        if resource == _STATISTICS:
            return await self._engine.message_subscription_statistics(filter=filter_, **options)
        return await self._engine.search(resource, filter=filter_, **options)

    async def _page_of_definitions(self, filter_: dict[str, Any], **options: Any) -> SearchPage:
        if self._state_filter:
            try:
                return await self._page("process-definitions", {**filter_, "state": "ACTIVE"}, **options)
            except InvalidArgument as e:
                log.warning("the cluster does not know the state of process definitions", reason=str(e))
                self._state_filter = False
        return await self._page("process-definitions", filter_, **options)

    # ---- latest versions ---------------------------------------------------------------------------------------------

    async def _import_latest(self) -> set[Process]:
        """One search when nothing is new or gone, all latest versions when it may be more than that search shows."""
        probe = await self._page_of_definitions({}, sort=[("processDefinitionKey", "desc")], limit=_PROBE)
        new = [row for row in map(_version_of, probe.items) if row.key > self._newest]
        is_due = self._swept is None or self._now() - self._swept >= self._sweep_interval
        if is_due or len(new) == _PROBE or probe.total != self._total + len(new):
            changed = self._versions.import_latest(await self._sweep())
            self._swept = self._now()
            self._sweeps += 1
        else:
            changed = set()
            for row in reversed(new):
                changed |= self._versions.deployed((row.tenant_id, row.bpmn_process_id), row.key)
                self._number(row)
        self._newest = max((self._newest, *(row.key for row in new)))
        self._total = probe.total
        return changed

    async def _sweep(self) -> dict[Process, int]:
        found: dict[Process, Version] = {}

        def take(row: dict[str, Any]) -> None:
            version = _version_of(row)
            process = (version.tenant_id, version.bpmn_process_id)
            if process not in found or version.key > found[process].key:
                found[process] = version

        ask = partial(self._page_of_definitions, {"isLatestVersion": True})
        await _each_row(ask, take, self._page_size, by_total=True)
        self._numbers.clear()
        for version in found.values():
            self._number(version)
        return {process: version.key for process, version in found.items()}

    def _number(self, version: Version) -> None:
        if version.number is not None:
            self._numbers[version.key] = version.number

    def _version(self, key: int, process: Process) -> Version:
        return Version(key, process[1], process[0], self._numbers.get(key))

    # ---- versions with open message subscriptions --------------------------------------------------------------------

    async def _import_active(self) -> set[Process]:
        latest = self._versions.latest_keys
        while self._sources:
            source = self._sources[0]
            try:
                if source == _STATISTICS:
                    return self._versions.import_subscribed(await self._counted())
                return self._versions.import_subscribed(await self._scan(source, latest))
            except _NOT_OFFERED as e:
                log.warning(
                    "the cluster does not tell which older versions wait for messages", by=source, reason=str(e)
                )
                del self._sources[0]
        return self._versions.import_subscribed({})

    async def _counted(self) -> dict[Process, set[int]]:
        found: dict[Process, set[int]] = {}
        await _each_row(partial(self._page, _STATISTICS, _OPEN[_STATISTICS]), partial(_add, found), _COUNTED)
        return found

    async def _scan(self, source: str, latest: Iterable[int]) -> dict[Process, set[int]]:
        """Older versions by what is open of them. Each page leaves out the versions seen, however many rows they have."""
        found: dict[Process, set[int]] = {}
        seen = set(latest)
        while True:
            filter_: dict[str, Any] = dict(_OPEN[source])
            if seen:
                filter_["processDefinitionKey"] = {"$notIn": [str(key) for key in sorted(seen)]}
            page = await self._page(source, filter_, limit=self._page_size)
            new = {_add(found, row) for row in page.items} - seen
            seen |= new
            if len(page.items) < self._page_size:
                return found
            if not new:
                raise Unimplemented(f"{source} cannot be searched for other versions than those named")

    # ---- what is served ----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Brings what is wanted in line with the versions, as far as their definitions could be read."""
        if not self._dirty:
            return
        for process in tuple(self._dirty):
            part, complete = self._part(process)
            if part.keys:
                self._parts[process] = part
            else:
                self._parts.pop(process, None)
            if complete:
                self._dirty.discard(process)
        used = {key for part in self._parts.values() for key in part.keys}
        self._definitions.keep(used | {key for of in self._dirty for key in self._versions.served(of)})
        parts = [self._parts[process] for process in sorted(self._parts)]
        wanted = Wanted(
            tuple(element for part in parts for element in part.elements),
            tuple(element for part in parts for element in part.invalid),
        )
        if wanted != self._wanted:
            self._wanted = wanted

    def _part(self, process: Process) -> "tuple[_Part, bool]":
        """What is served of a process, and whether all of it could be read."""
        before = self._parts.get(process)
        served, latest = self._versions.served(process), self._versions.latest(process)
        read = {key: found for key in served if (found := self._definitions.get(key)) is not None}
        if latest is not None and latest not in read and before is not None and (before.latest or latest) < latest:
            latest = before.latest  # the new one cannot be read yet: until then the one before goes on
            assert latest is not None
            read[latest] = self._definitions.get(latest) or Definition()
        elements: list[InboundElement] = []
        invalid: list[InvalidElement] = []
        for key in sorted(read, reverse=True):
            elements += read[key].elements if key == latest else of_older_version(read[key].elements)
            invalid += (one for one in read[key].invalid if key == latest or not one.starts)
        for one in invalid:
            if before is None or one not in before.invalid:
                log.warning("an element cannot be used", process=process[1], element=one.element_id, reason=one.reason)
        keys = frozenset(read)
        return _Part(keys, latest if latest in keys else None, tuple(elements), tuple(invalid)), keys >= set(served)


@dataclass(frozen=True, slots=True)
class _Part:
    """What is served of one process. latest: the version whose start events are."""

    keys: frozenset[int]
    latest: int | None
    elements: tuple[InboundElement, ...]
    invalid: tuple[InvalidElement, ...]


class _Trouble:
    """An import's last error, and when it is tried again."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._due = 0.0
        self.error: EngineError | None = None

    @property
    def is_due(self) -> bool:
        return self.error is None or self._now() >= self._due

    def check(self) -> None:
        if self.error is not None and not self.is_due:
            raise self.error.with_traceback(None)

    def failed(self, error: EngineError) -> None:
        self.error = error
        self._due = self._now() + self._pauses.next()

    def over(self) -> None:
        self.error = None
        self._pauses.reset()


async def _each_row(
    ask: Callable[..., Awaitable[SearchPage]],
    take: Callable[[dict[str, Any]], object],
    limit: int,
    *,
    by_total: bool = False,
) -> None:
    """Takes the rows of all pages. by_total: a page that is not full is the last only when all that were announced have come."""
    after, count = None, 0
    while True:
        page = await ask(limit=limit, after=after)
        for row in page.items:
            take(row)
        count += len(page.items)
        after = page.end_cursor
        if not page.items or not after or (len(page.items) < limit and not (by_total and count < page.total)):
            return


def _add(found: dict[Process, set[int]], row: dict[str, Any]) -> int:
    """Adds a row's version and gives its key. Unimplemented when the row has none: what an older release wrote may lack it."""
    if not row.get("processDefinitionKey"):
        raise Unimplemented("there are rows without a processDefinitionKey")
    version = _version_of(row)
    found.setdefault((version.tenant_id, version.bpmn_process_id), set()).add(version.key)
    return version.key


def _version_of(row: dict[str, Any]) -> Version:
    try:
        key, process_id = int(row["processDefinitionKey"]), str(row["processDefinitionId"])
    except (KeyError, TypeError, ValueError):
        raise EngineFailure(f"expected a process definition with key and id, but got {row!r:.300}") from None
    number = row.get("version")
    return Version(key, process_id, row.get("tenantId") or DEFAULT_TENANT, number if isinstance(number, int) else None)


def _release(version: str) -> tuple[int, int]:
    """8.10 of `8.10.0-SNAPSHOT`. Unknown: the newest, as what turns out to be missing is done without."""
    match = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (8, 10)


async def check_tenants(engine: Queries, tenant_ids: Sequence[str]) -> list[str]:
    """Warnings about configured tenants that the engine does not know; none when it cannot tell (no tenants, no right to see them)."""
    wanted = [tenant_id for tenant_id in dict.fromkeys(tenant_ids) if tenant_id != DEFAULT_TENANT]
    if not wanted:
        return []
    known: set[str] = set()
    try:
        await _each_row(partial(engine.search, "tenants"), lambda row: known.add(str(row.get("tenantId"))), 100)
    except EngineError as e:
        log.debug("the tenants cannot be checked", reason=str(e))
        return []
    return [
        f"the tenant '{one}' does not exist, or the client may not see it; there are {', '.join(sorted(known))}"
        for one in wanted
        if known and one not in known
    ]
