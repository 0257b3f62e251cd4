"""A member of a consumer group: reads what the group assigns to it, and commits what is done.

Offsets are committed up to the first record that is not done, no further. When the group rebalances, nothing new starts, what is
under way gets some time, then its prefix is committed. A partition that comes back goes on where it was, unless another consumer
had it in between. The broker may be away at any time: it is tried for as long as it takes.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from connectors.kafka._client import Arguments, reason, where
from connectors.kafka._handling import Handling, pause
from connectors.kafka._partition import Partition
from gateway import InboundContext

LONGEST_RECONNECT: Final = 4.0
COMMIT_PAUSE: Final = 0.25  # at least between two commits
COMMIT_SECONDS: Final = 5.0
REVOKE_SECONDS: Final = 5.0  # for records under way, before the partitions go
DRAIN_SECONDS: Final = 3.0  # the same at the end; all of it has to fit into the grace of a stop, 5 s
LEAVE_SECONDS: Final = 1.0
SILENT_SECONDS: Final = 2.0  # without a connection, before the health says so
LOST_SECONDS: Final = 30.0  # without a connection, before all begins anew, with the bootstrap servers
_FULL_POLL: Final = 500
_SHORT_POLL: Final = 20  # while a partition has no room: it may have some soon
_NOWHERE: Final = TopicPartition("", -1)


class Lost(Exception):  # noqa: N818 - reads as what it is
    """The consumer does not get anywhere."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What is read. offsets: where each partition begins at the first assignment; chunk: records read at once."""

    topic: str
    group_id: str
    arguments: Arguments
    auto_offset_reset: str
    offsets: Sequence[int] | None
    chunk: int
    span: int


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """One for a run of the connector; `run` does it all."""

    def __init__(self, subscription: Subscription, source: InboundContext, handling: Handling) -> None:
        self._subscription = subscription
        self._source = source
        self._handling = handling
        handling.changed = self.report
        self._consumer: Any = None
        self._partitions: dict[TopicPartition, Partition] = {}
        self._committing = asyncio.Lock()
        self._rebalancing = False  # from the commit at the revocation until it is known what is still ours
        self._seek = subscription.offsets is not None
        self._failures = 0
        self._since = time.monotonic()  # when the trouble began
        self._trouble: str | None = f"Connecting to Kafka at {where(subscription.arguments.client)}"

    async def run(self) -> None:
        """Reads until it is cancelled, or the handling stops for good."""
        watching = asyncio.create_task(self._watch())
        try:
            while self._handling.stopped is None:
                try:
                    await self._session()
                except asyncio.CancelledError:
                    if _stopping():
                        raise
                    await self._failed(Lost("The client has given up"))  # its own tasks are cancelled at times
                except Exception as e:
                    await self._failed(e)
            self.report()
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    async def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._since = 0.0
        self._trouble = await self._reason(error)
        self.report()
        await self._source.sleep(pause(self._failures, LONGEST_RECONNECT))

    async def _reason(self, error: Exception) -> str:
        if isinstance(error, NoOffsetForPartitionError):
            return f"The group has no committed offset for {_names(error.args[:1])}, and autoOffsetReset is none"
        if isinstance(error, OffsetOutOfRangeError):
            partitions = _names(error.args[0] if error.args else ())
            return f"The committed offset of {partitions} does not exist any more, and autoOffsetReset is none"
        if isinstance(error, Lost):
            return str(error)
        return await reason(self._subscription.arguments.client, error)

    # ---- one connection to the group ----

    async def _session(self) -> None:
        """From the connection to its loss, or to the end. Raises KafkaError, Lost."""
        given = self._subscription
        consumer = AIOKafkaConsumer(
            group_id=given.group_id,
            auto_offset_reset=given.auto_offset_reset,
            enable_auto_commit=False,
            **given.arguments.client,
            **given.arguments.own,
        )
        try:
            await consumer.start()
            await self._topic_known(consumer)
            self._consumer = consumer
            consumer.subscribe([given.topic], listener=self)
            await _first_to_end(
                self._read(consumer),
                self._commit_regularly(),
                self._handling.run(),
                self._handling.halted.wait(),
                self._connected(consumer),
            )
            await self._leave(consumer)
        except asyncio.CancelledError:
            if _stopping():
                await self._leave(consumer)
            raise
        finally:
            self._suspend()
            self._consumer, self._rebalancing = None, False
            await _end(consumer, LEAVE_SECONDS)

    async def _topic_known(self, consumer: Any) -> None:
        """Waits for the topic, for as long as a request may take. Raises Lost."""
        topic = self._subscription.topic
        waiting = asyncio.ensure_future(consumer._client._wait_on_metadata(topic))
        try:
            done, _ = await asyncio.wait({waiting}, timeout=1.0)  # some brokers make topics when they are asked for
            if not done:
                self._trouble = f"Kafka at {where(self._subscription.arguments.client)} has no topic '{topic}'"
            known = len(await waiting)
        except KafkaError as e:
            if type(e).__name__ != "UnknownTopicOrPartitionError":
                raise
            message = f"Kafka at {where(self._subscription.arguments.client)} has no topic '{topic}'"
            raise Lost(message) from e
        finally:
            waiting.cancel()
        offsets = self._subscription.offsets
        if offsets is not None and len(offsets) != known:
            raise Lost(
                f"Property 'offsets': expected {known}, one for each partition of '{topic}', but got {len(offsets)}"
            )

    async def _read(self, consumer: Any) -> None:
        """Takes records for the partitions that have room. It goes on asking when none has: that is what keeps the member alive,
        however long records take.
        """
        chunk = self._subscription.chunk
        while True:
            partitions = self._partitions
            wanted = [which for which, each in partitions.items() if each.has_room]
            wait = _FULL_POLL if wanted and len(wanted) == len(partitions) else _SHORT_POLL
            found = await consumer.getmany(*(wanted or (_NOWHERE,)), timeout_ms=wait, max_records=chunk)
            for which, records in found.items():
                partition = self._partitions.get(which)
                if partition is not None and not partition.suspended:
                    partition.take(records)
            if found:
                self._handling.wake()

    async def _connected(self, consumer: Any) -> None:
        """Raises Lost when there is no coordinator for a long time: all servers may have got other addresses."""
        seen = time.monotonic()
        while time.monotonic() - seen < LOST_SECONDS:
            if consumer._coordinator.coordinator_id is not None:
                seen = time.monotonic()
            await asyncio.sleep(1.0)
        raise Lost(f"No connection to Kafka at {where(self._subscription.arguments.client)} for {LOST_SECONDS:g} s")

    async def _leave(self, consumer: Any) -> None:
        """The end: nothing new starts, what is under way gets some time, what is done is committed."""
        self._suspend()
        await self._handling.quiet(self._partitions.values(), DRAIN_SECONDS)
        if consumer.assignment():
            await self._commit(consumer, LEAVE_SECONDS)
        for each in self._partitions.values():
            each.fenced = True

    def _suspend(self) -> None:
        for each in self._partitions.values():
            each.suspended = True

    # ---- commits ----

    async def _commit_regularly(self) -> None:
        consumer, progress = self._consumer, self._handling.progress
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await progress.wait()
            progress.clear()
            self._pass_markers(consumer)
            if await self._commit(consumer, COMMIT_SECONDS):
                await asyncio.sleep(COMMIT_PAUSE)
            else:  # after a rebalance, or without a coordinator: both pass
                await asyncio.sleep(1.0)

    async def _commit(self, consumer: Any, seconds: float) -> bool:
        """Commits what is done; False when that is not possible now."""
        async with self._committing:
            offsets = {
                which: offset
                for which, each in self._partitions.items()
                if (offset := each.committable) is not None and not each.fenced
            }
            if not offsets or self._rebalancing:
                return True
            try:
                async with asyncio.timeout(seconds):
                    await consumer.commit(offsets)
            except (KafkaError, TimeoutError):
                return False
            for which, offset in offsets.items():
                if which in self._partitions:
                    self._partitions[which].committed = offset
            return True

    def _pass_markers(self, consumer: Any) -> None:
        """Where all is done, what the consumer itself has passed counts: the markers of transactions, and the beginning. So a
        group that began at the end of a topic stays there.
        """
        assignment = consumer._subscription.subscription and consumer._subscription.subscription.assignment
        for which, each in self._partitions.items():
            state = assignment.state_value(which) if assignment is not None else None
            if state is not None and state.has_valid_position and not each.suspended:
                each.skip_to(state.position)

    # ---- the group rebalances: called by the library ----

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """The partitions may go to others: time for what is under way, then a commit."""
        self._suspend()
        if self._partitions:
            await self._handling.quiet(self._partitions.values(), REVOKE_SECONDS)
            await self._commit(self._consumer, COMMIT_SECONDS)
        self._rebalancing = True  # in a new generation a late commit could take back what another consumer has done

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """The partitions from now on, the known ones as they were."""
        consumer, before, now = self._consumer, self._partitions, dict[TopicPartition, Partition]()
        for which in sorted(assigned):
            kept = before.get(which)
            if kept is not None and await self._still_ours(consumer, which, kept):
                del before[which]
                consumer.seek(which, kept.position)
                kept.suspended = False
                now[which] = kept
            else:
                now[which] = Partition(which.partition, self._subscription.span)
                if self._seek and self._subscription.offsets is not None:
                    consumer.seek(which, self._subscription.offsets[which.partition])
        self._seek = False
        for which, each in before.items():
            each.fenced = True
            if each.under_way:
                text = f"{each.under_way} records of {which.topic}-{which.partition} under way are handled again by who has it now"
                self._source.log("WARNING", "Partitions", text)
        self._partitions, self._rebalancing = now, False
        numbers = ", ".join(str(which.partition) for which in now) or "none"
        self._source.log("INFO", "Partitions", f"Assigned partitions of {self._subscription.topic}: {numbers}")
        self._look()
        self._handling.assign(now.values())

    async def _still_ours(self, consumer: Any, which: TopicPartition, kept: Partition) -> bool:
        """Whether work on a partition can go on: nobody else has committed more than is done here."""
        done = kept.done_to
        if done is None or kept.position is None:
            return False
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                committed = await consumer.committed(which)
        except (KafkaError, TimeoutError):
            return False
        kept.committed = committed
        return committed is None or committed <= done

    # ---- health ----

    async def _watch(self) -> None:
        """Once a second: whether there is a connection, and what the health is."""
        while True:
            self._look()
            self.report()
            await asyncio.sleep(1.0)

    def _look(self) -> None:
        consumer = self._consumer
        if consumer is None:
            return  # the session says what is wrong
        found = _trouble(consumer, self._subscription.topic)
        if found is None:
            self._trouble, self._failures = None, 0
        elif self._trouble is None:
            self._trouble, self._since = (
                f"{found} (Kafka at {where(self._subscription.arguments.client)})",
                time.monotonic(),
            )

    def report(self) -> None:
        """States the health. A trouble that may be over in a moment is not told yet."""
        consumer = self._consumer
        trouble = self._handling.stopped
        if trouble is None and self._trouble is not None:
            if time.monotonic() - self._since < SILENT_SECONDS:
                return
            trouble = self._trouble
        trouble = trouble or self._handling.trouble
        details = None if consumer is None else self._details(consumer)
        self._source.report_health("DOWN" if trouble else "UP", error=trouble, details=details)

    def _details(self, consumer: Any) -> Mapping[str, Any]:
        return {
            "group-id": self._subscription.group_id,
            "group-instance-id": self._subscription.arguments.own.get("group_instance_id", "unknown"),
            "group-generation-id": getattr(consumer._coordinator, "generation", -1),
        }


def _trouble(consumer: Any, topic: str) -> str | None:
    """What keeps a consumer from reading; None when nothing does."""
    coordinator = consumer._coordinator
    if coordinator is None or coordinator.coordinator_id is None:
        return "No connection to the coordinator of the group"
    if consumer._subscription.reassignment_in_progress:
        return "Waiting for the group to assign partitions"
    for which in consumer.assignment():
        if consumer._client.cluster.leader_for_partition(which) in {None, -1}:
            return f"Partition {which.partition} of topic '{topic}' has no leader"
    return None


def _names(partitions: Any) -> str:
    return ", ".join(f"{each.topic}-{each.partition}" for each in partitions) or "a partition"


async def _first_to_end(*work: Coroutine[Any, Any, Any]) -> None:
    """Runs all until the first one ends, then cancels the others. Raises what it raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _stopping() -> bool:
    """Whether somebody has cancelled the task at work."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _end(consumer: Any, seconds: float) -> None:
    """Leaves the group and closes the connections. Where the library waits for a coordinator, it is not waited for."""
    if await _within(consumer.stop(), seconds):
        return
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task")
    tasks = [task for name in names if (task := getattr(coordinator, name, None)) is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if coordinator is not None:
        await _within(coordinator._maybe_leave_group(), seconds)
    for part in (fetcher, consumer._client):
        if part is not None:
            await _within(part.close(), seconds)


async def _within(work: Coroutine[Any, Any, Any], seconds: float) -> bool:
    """Runs work to its end, for so long at most; False when it did not get there. It may be cancelled from inside."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=seconds)
    return task.done() and not task.cancelled() and task.exception() is None
