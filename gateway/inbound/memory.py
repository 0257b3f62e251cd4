"""What was seen lately: for once-only use of signatures and idempotency keys. Bounded; in memory, for one process."""

from collections import OrderedDict
from collections.abc import Callable


class Memory:
    """Keys with the time until which they are remembered. At most `limit`: then the oldest go first.

    now: seconds on a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float], limit: int = 100_000) -> None:
        self._now = now
        self._limit = limit
        self._until: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def first_time(self, key: str, seconds: float) -> bool:
        """Whether the key is not remembered; it is from now on, for so many seconds."""
        now = self._now()
        if self._until.get(key, now) > now:
            return False
        self._until.pop(key, None)
        self._until[key] = now + seconds
        if len(self._until) > self._limit:
            self._drop(now)
        return True

    def forget(self, key: str) -> None:
        self._until.pop(key, None)

    def _drop(self, now: float) -> None:
        """Takes out the oldest, and what has run out beside it."""
        while self._until:
            key, until = next(iter(self._until.items()))
            if until > now and len(self._until) <= self._limit:
                return
            del self._until[key]
