"""An engine that fails when told to, on a clock that stands still."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.engine import EngineError, SearchPage
from gateway.engine.embedded import EmbeddedEngine, VirtualClock
from tests.inbound.models import file

Fails = Callable[[str], EngineError | None]
STATISTICS = "statistics"


class Seconds:
    """A monotonic clock that tests put forward."""

    def __init__(self) -> None:
        self.value = 1000.0

    def __call__(self) -> float:
        return self.value


class Unsteady:
    """The queries and the topology of an embedded engine. Counts the calls; `fails` says with what one fails, by its name:
    `topology`, `definition`, `xml`, `statistics` or what is searched for. rewrites, changes: what is seen of an XML, a page.
    """

    def __init__(self, engine: EmbeddedEngine | None = None, *, version: str = "8.9.1") -> None:
        self.engine = engine or EmbeddedEngine(clock=VirtualClock(), version=version)
        self.calls: Counter[str] = Counter()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.fails: Fails = lambda name: None
        self.rewrites: Callable[[str], str] = lambda xml: xml
        self.changes: Callable[[str, SearchPage], SearchPage] = lambda name, page: page

    def _call(self, name: str, **options: Any) -> None:
        self.calls[name] += 1
        self.asked.append((name, options))
        if (error := self.fails(name)) is not None:
            raise error

    async def _page(self, name: str, page: Awaitable[SearchPage]) -> SearchPage:
        return self.changes(name, await page)

    async def topology(self) -> Any:
        self._call("topology")
        return await self.engine.topology()

    async def search(self, resource: str, **options: Any) -> SearchPage:
        self._call(resource, **options)
        return await self._page(resource, self.engine.search(resource, **options))

    async def message_subscription_statistics(self, **options: Any) -> SearchPage:
        self._call(STATISTICS, **options)
        return await self._page(STATISTICS, self.engine.message_subscription_statistics(**options))

    async def process_definition(self, key: int) -> Any:
        self._call("definition", key=key)
        return await self.engine.process_definition(key)

    async def process_definition_xml(self, key: int) -> str:
        self._call("xml", key=key)
        return self.rewrites(await self.engine.process_definition_xml(key))

    async def deploy(self, *models: str, tenant_id: str = "<default>") -> list[int]:
        """The keys of the new versions."""
        return [
            (await self.engine.deploy([file(model)], tenant_id=tenant_id))[0].process_definition_key for model in models
        ]
