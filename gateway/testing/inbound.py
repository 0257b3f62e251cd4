"""One inbound connector at work, without a process engine: what it is given, what becomes of its events, is the test's."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway import sdk
from gateway.admin import Activity, HealthState
from gateway.documents import Documents, EngineStore
from gateway.engine.embedded import EmbeddedEngine
from gateway.http_client import HttpClient, HttpSettings
from gateway.inbound.deduplication import Group
from gateway.inbound.executable import Environment, Executable, State
from gateway.inbound.memory import Memory
from gateway.inbound.properties import Properties
from gateway.limits import Permits
from gateway.observe import Metrics
from gateway.secrets import MapSecrets, Masker, Secrets
from gateway.webhooks import WebhookRequest

Answer = Callable[[sdk.Event, str | None], sdk.Outcome | Awaitable[sdk.Outcome]]
"""What becomes of an event with this message id. It may be awaitable: the event is under way until then."""


def _wanted(event: sdk.Event) -> None:
    """An element would take the event."""


@dataclass(slots=True)
class InboundRun:
    """A connector at work. `events`: what it gave to the process so far, with the message ids, in the order of arrival.

    `delay`: seconds that the process takes for each event; `answer`: the outcome; `under_way`, `most`: events at once.
    """

    answer: Answer
    element: sdk.InboundElement
    delay: float = 0.0
    events: list[tuple[sdk.Event, str | None]] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    unwanted: Callable[[sdk.Event], sdk.Outcome | None] = _wanted
    instances: list[sdk.ElementInstance] = field(default_factory=list)
    executable: Executable = field(init=False)

    @property
    def health(self) -> HealthState:
        return self.executable.activity.health

    @property
    def log(self) -> list[Activity]:
        return self.executable.activity.entries()

    @property
    def state(self) -> State:
        return self.executable.state

    async def received(self, count: int, *, timeout: float = 10.0) -> list[tuple[sdk.Event, str | None]]:
        """Waits for so many events. AssertionError when they don't come in time, with health and log."""
        await self.until(lambda: len(self.events) >= count, f"{count} events", timeout=timeout)
        return self.events

    async def until(self, true: Callable[[], bool], what: str, *, timeout: float = 10.0) -> None:
        """Waits until something is so. AssertionError when it is not in time, with what the connector says of itself."""
        for _ in range(max(1, int(timeout * 100))):
            if true():
                return
            await asyncio.sleep(0.01)
        words = [f"{entry.severity} {entry.tag}: {entry.message}" for entry in self.log[-5:]]
        raise AssertionError(
            f"no {what} within {timeout:g} s: {len(self.events)} events, state {self.state.value}, {self.health}, {words}"
        )

    async def request(self, request: WebhookRequest) -> sdk.WebhookResponse:
        """Gives a webhook connector a request."""
        return await self.executable.handle(request)

    # ---- the process ----

    def check(self, event: sdk.Event) -> sdk.Outcome | None:
        return self.unwanted(event)

    async def correlate(self, event: sdk.Event, message_id: str | None = None, /) -> sdk.Outcome:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            self.events.append((event, message_id))
            found = self.answer(event, message_id)
            return found if isinstance(found, sdk.Outcome) else await found
        finally:
            self.under_way -= 1


class _Executable(Executable):
    """One whose waiting element instances are the test's."""

    run: InboundRun

    async def instances(self) -> Sequence[sdk.ElementInstance]:
        return list(self.run.instances)


class _NoPaths:
    """Each webhook has its path."""

    def register(self, executable: Executable) -> None:
        executable.activated()

    def deregister(self, executable: Executable) -> None: ...


def an_element(properties: Mapping[str, str], **facts: Any) -> sdk.InboundElement:
    """A message start event with these properties; facts: other fields of the element."""
    given: dict[str, Any] = {
        "element_id": "start",
        "element_name": None,
        "kind": "startEvent",
        "point": sdk.Point.MESSAGE_START,
        "bpmn_process_id": "process",
        "process_name": None,
        "version": 1,
        "process_definition_key": 1,
        "tenant_id": "<default>",
        "message_name": "message",
    }
    return sdk.InboundElement(**{**given, **facts}, properties=dict(properties))


def published(event: sdk.Event, message_id: str | None) -> sdk.Outcome:
    """The usual answer: the engine took the message."""
    return sdk.MessagePublished(an_element({}), 1, "<default>")


@asynccontextmanager
async def run_inbound(
    connector: sdk.InboundConnector,
    properties: Mapping[str, str],
    *,
    answer: Answer = published,
    delay: float = 0.0,
    secrets: Mapping[str, str] | None = None,
    http: HttpClient | None = None,
    element: sdk.InboundElement | None = None,
    start: bool = True,
) -> AsyncIterator[InboundRun]:
    """A connector at work on an element with these properties; stopped with the block, as at a shutdown.

    answer: what becomes of each event; http: in place of the real client; start: False to start `run.executable` yourself.
    """
    element = element or an_element({"inbound.type": connector.type, **properties})
    run = InboundRun(answer, element, delay)
    async with AsyncExitStack() as stack:
        engine = EmbeddedEngine()
        stack.push_async_callback(engine.close)
        client = await stack.enter_async_context(http or HttpClient(HttpSettings()))
        masker = Masker()
        environment = Environment(
            engine=engine,
            http=client,
            documents=Documents(EngineStore(engine), client.download),
            binding=Properties(Secrets([MapSecrets({} if secrets is None else secrets)], masker), engine),
            correlation=lambda _: run,
            permits=Permits(10_000),
            memory=Memory(asyncio.get_running_loop().time),
            paths=_NoPaths(),
            mask=masker,
        )
        ident = hashlib.sha256(repr(sorted(properties.items())).encode()).hexdigest()[:8]
        run.executable = executable = _Executable(
            Group(f"test-{ident}", (element,)), connector, environment, Metrics(process=False).inbound(connector.type)
        )
        executable.run = run
        if start:
            executable.start()
        try:
            yield run
        finally:
            await executable.stop()
