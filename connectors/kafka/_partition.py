"""One partition at work: in which order its records may be handled, and up to where all of them are done.

Pure: no I/O, no clock, no event loop.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Final

from connectors.kafka._events import Record

HELD_BYTES: Final = 1 << 20  # of records that were taken and are not done; one fetch may go beyond it

_EMPTY: Final[deque["Taken"]] = deque(maxlen=0)  # a key at work with nobody waiting; never changed


class Taken:
    """A record that was taken from the broker and is not committed yet. attempts: how often it could not be handled."""

    __slots__ = ("attempts", "done", "offset", "partition", "record", "size")

    def __init__(self, partition: "Partition", record: Record, size: int) -> None:
        self.partition = partition
        self.record: Record | None = record
        self.offset = record.offset
        self.size = size
        self.done = False
        self.attempts = 0


class Partition:
    """The records of a partition on their way from the broker to the commit.

    Records of one key are handled one after the other, in their order; others, and those without a key, side by side. A record
    that fails holds up its partition: what is under way goes on, nothing new starts. span: how many records may be between
    the first that is not done and the last one taken.
    """

    __slots__ = (
        "_failing",
        "_held",
        "_lanes",
        "_open",
        "_queue",
        "_ready",
        "_retries",
        "_span",
        "committed",
        "fenced",
        "number",
        "position",
        "suspended",
        "under_way",
    )

    def __init__(self, number: int, span: int) -> None:
        self.number = number
        self.position: int | None = None
        """The offset of the next record to take; None before the first one."""
        self.committed: int | None = None
        """What the broker has; None while that is not known."""
        self.suspended = False
        """Nothing is taken and nothing starts: the partition may go to another consumer."""
        self.fenced = False
        """The partition is another's now: what becomes of its records here counts for nothing."""
        self.under_way = 0
        self._span = span
        self._open: deque[Taken] = deque()  # in order of offsets; the first one is not done
        self._queue: deque[Taken] = deque()  # not looked at yet
        self._ready: deque[Taken] = deque()  # whose turn it is
        self._retries: deque[Taken] = deque()  # those that failed and may be tried again
        self._lanes: dict[Hashable, deque[Taken]] = {}  # keys at work, with those that wait behind
        self._failing: dict[Taken, str] = {}
        self._held = 0

    # ---- from the broker ----

    @property
    def has_room(self) -> bool:
        """Whether more records may be taken."""
        return not self.suspended and len(self._open) < self._span and self._held < HELD_BYTES

    def take(self, records: Iterable[Record]) -> None:
        """Takes records, in the order of their offsets."""
        for record in records:
            size = len(record.value or b"") + len(record.key or b"")
            taken = Taken(self, record, size)
            self._held += size
            self._open.append(taken)
            self._queue.append(taken)
            self.position = record.offset + 1

    # ---- handling ----

    @property
    def blocked(self) -> str | None:
        """Why nothing new starts: what is wrong with the first record that fails; None when nothing does."""
        return next(iter(self._failing.values()), None)

    def next(self) -> Taken | None:
        """The next record to handle; it is under way from now on."""
        if self.suspended or self.fenced:
            return None
        if self._retries:
            taken: Taken | None = self._retries.popleft()
        elif self._failing:
            return None
        else:
            taken = self._ready.popleft() if self._ready else self._from_queue()
        if taken is not None:
            self.under_way += 1
        return taken

    def _from_queue(self) -> Taken | None:
        queue, lanes = self._queue, self._lanes
        while queue:
            taken = queue.popleft()
            assert taken.record is not None
            key = taken.record.key
            if key is None:
                return taken
            lane = lanes.get(key)
            if lane is None:
                lanes[key] = _EMPTY
                return taken
            if lane is _EMPTY:
                lane = lanes[key] = deque()
            lane.append(taken)
        return None

    def finished(self, taken: Taken) -> None:
        """A record is done: whoever waits behind it is next."""
        self.under_way -= 1
        self._failing.pop(taken, None)
        assert taken.record is not None
        key = taken.record.key
        if key is not None:
            lane = self._lanes.pop(key)
            if lane:
                self._ready.append(lane.popleft())
                self._lanes[key] = lane or _EMPTY
        taken.done, taken.record = True, None
        self._held -= taken.size
        opened = self._open
        while opened and opened[0].done:
            opened.popleft()

    def failed(self, taken: Taken, reason: str) -> None:
        """A record could not be handled: it waits, and the partition with it."""
        self.under_way -= 1
        taken.attempts += 1
        self._failing[taken] = reason

    def again(self, taken: Taken) -> None:
        """The wait of a record that failed is over."""
        self._retries.append(taken)

    def put_back(self, taken: Taken) -> None:
        """A record was not handled, for no reason of its own: it is next."""
        self.under_way -= 1
        (self._retries if taken in self._failing else self._ready).appendleft(taken)

    # ---- to the broker ----

    @property
    def done_to(self) -> int | None:
        """The offset before which every record is done: what may be committed. None before the first record."""
        return self._open[0].offset if self._open else self.position

    @property
    def committable(self) -> int | None:
        """What is to be committed; None when there is nothing new."""
        done = self.done_to
        return done if done != self.committed else None

    def skip_to(self, position: int) -> None:
        """Where the broker goes on when nothing is taken: it passes over what are no records, the markers of transactions."""
        if not self._open:
            self.position = position

    @property
    def open(self) -> int:
        """How many records were taken and cannot be committed yet."""
        return len(self._open)
