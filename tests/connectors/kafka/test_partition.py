"""The order of records in a partition, and what may be committed, in whatever order they end."""

import random
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka._partition import HELD_BYTES, Partition, Taken


@dataclass(frozen=True)
class Record:
    offset: int
    key: bytes | None = None
    value: bytes | None = b"x"
    topic: str = "t"
    partition: int = 0
    headers: Any = ()


def partition(*records: Record, span: int = 1000) -> Partition:
    made = Partition(0, span)
    made.take(records)
    return made


def started(at: Partition) -> list[Taken]:
    """All that may start now."""
    found = []
    while (taken := at.next()) is not None:
        found.append(taken)
    return found


def room(at: Partition) -> bool:
    return at.has_room


def blocked(at: Partition) -> str | None:
    return at.blocked


def offsets(taken: list[Taken]) -> list[int]:
    return [each.offset for each in taken]


def test_nothing_is_committed_before_the_first_record() -> None:
    assert partition().committable is None
    assert partition().done_to is None


def test_only_the_records_before_the_first_one_under_way_are_committed() -> None:
    at = partition(*(Record(n) for n in range(5, 9)))
    five, six, seven, eight = started(at)
    at.finished(six)
    at.finished(eight)
    assert at.done_to == 5
    at.finished(five)
    assert at.done_to == 7
    at.finished(seven)
    assert at.done_to == 9
    assert at.open == 0


def test_what_was_committed_is_not_committed_again() -> None:
    at = partition(Record(0))
    at.finished(started(at)[0])
    assert at.committable == 1
    at.committed = 1
    assert at.committable is None


def test_offsets_that_are_missing_do_not_matter() -> None:
    at = partition(Record(3), Record(10), Record(400))
    for each in started(at)[:2]:
        at.finished(each)
    assert at.done_to == 400


def test_records_of_a_key_start_one_after_the_other_and_others_at_once() -> None:
    at = partition(Record(0, b"a"), Record(1, b"a"), Record(2, b"b"), Record(3), Record(4, b"a"), Record(5))
    first = started(at)
    assert offsets(first) == [0, 2, 3, 5]
    at.finished(first[0])
    second = started(at)
    assert offsets(second) == [1]
    at.finished(second[0])
    assert offsets(started(at)) == [4]


def test_an_empty_key_is_a_key() -> None:
    assert offsets(started(partition(Record(0, b""), Record(1, b"")))) == [0]


def test_a_record_that_fails_holds_up_what_has_not_started_and_is_tried_again_alone() -> None:
    at = partition(*(Record(n) for n in range(3)))
    bad = at.next()
    other = at.next()
    assert bad is not None
    assert other is not None
    at.failed(bad, "wrong")
    assert blocked(at) == "wrong"
    assert at.next() is None
    at.finished(other)
    assert at.done_to == 0
    at.again(bad)
    assert at.next() is bad
    assert at.next() is None  # still on trial
    at.finished(bad)
    assert blocked(at) is None
    assert offsets(started(at)) == [2]


def test_the_records_behind_a_failing_key_wait_for_it() -> None:
    at = partition(Record(0, b"a"), Record(1, b"a"))
    bad = at.next()
    assert bad is not None
    at.failed(bad, "wrong")
    at.again(bad)
    assert at.next() is bad
    at.finished(bad)
    assert offsets(started(at)) == [1]


def test_a_record_that_is_put_back_is_next_in_its_turn() -> None:
    at = partition(Record(0, b"a"), Record(1, b"a"), Record(2))
    zero, two = started(at)
    at.put_back(two)
    at.put_back(zero)
    assert at.under_way == 0
    assert offsets(started(at)) == [0, 2]


def test_a_failing_record_that_is_put_back_is_still_on_trial() -> None:
    at = partition(Record(0), Record(1))
    bad = at.next()
    assert bad is not None
    at.failed(bad, "wrong")
    at.again(bad)
    assert at.next() is bad
    at.put_back(bad)
    assert at.next() is bad
    assert at.next() is None


def test_a_suspended_or_fenced_partition_starts_and_takes_nothing() -> None:
    at = partition(Record(0), Record(1))
    at.suspended = True
    assert offsets(started(at)) == []
    assert not room(at)
    at.suspended = False
    assert room(at)
    at.fenced = True
    assert offsets(started(at)) == []


def test_there_is_room_up_to_a_span_and_some_bytes() -> None:
    at = partition(*(Record(n) for n in range(3)), span=3)
    assert not room(at)
    first, second, third = started(at)
    at.finished(second)
    at.finished(third)
    assert not room(at)  # the span is counted from the first one that is not done
    at.finished(first)
    assert room(at)
    at.take([Record(3, value=b"x" * HELD_BYTES)])
    assert not room(at)
    at.finished(started(at)[0])
    assert room(at)


def test_markers_are_passed_over_only_where_all_is_done() -> None:
    at = partition(Record(0))
    at.skip_to(7)
    assert at.done_to == 0
    at.finished(started(at)[0])
    at.skip_to(7)
    assert at.committable == 7


KEYS = st.sampled_from([None, b"a", b"b", b"c"])


@given(
    keys=st.lists(KEYS, max_size=60),
    gaps=st.lists(st.integers(1, 5), min_size=60, max_size=60),
    seed=st.integers(0, 1 << 30),
)
def test_in_any_order_only_the_contiguous_prefix_is_committed_and_keys_keep_theirs(
    keys: list[bytes | None], gaps: list[int], seed: int
) -> None:
    dice = random.Random(seed)
    records, offset = [], 0
    for key, gap in zip(keys, gaps, strict=False):
        offset += gap
        records.append(Record(offset, key))
    at, waiting = Partition(0, 1000), list(records)
    under_way: list[Taken] = []
    failing: list[Taken] = []
    done: set[int] = set()
    handled: dict[bytes | None, list[int]] = {}
    while len(done) < len(records):
        move = dice.randrange(6)
        if move == 0 and waiting:
            count = dice.randrange(1, 5)
            at.take(waiting[:count])
            del waiting[:count]
        elif move == 1 and under_way:
            taken = under_way.pop(dice.randrange(len(under_way)))
            at.failed(taken, "wrong")
            failing.append(taken)
        elif move == 2 and failing:
            at.again(failing.pop(dice.randrange(len(failing))))
        elif move == 3 and under_way:
            at.put_back(under_way.pop(dice.randrange(len(under_way))))
        elif move == 4 and under_way:
            taken = under_way.pop(dice.randrange(len(under_way)))
            assert taken.record is not None
            handled.setdefault(taken.record.key, []).append(taken.offset)
            at.finished(taken)
            done.add(taken.offset)
        elif (started := at.next()) is not None:
            under_way.append(started)
        taken_so_far = [each.offset for each in records[: len(records) - len(waiting)]]
        undone = [each for each in taken_so_far if each not in done]
        expected = undone[0] if undone else (taken_so_far[-1] + 1 if taken_so_far else None)
        assert at.done_to == expected
        assert at.under_way == len(under_way)
        keys_at_work = [
            each.record.key for each in under_way if each.record is not None and each.record.key is not None
        ]
        assert len(keys_at_work) == len(set(keys_at_work))
    for key, order in handled.items():
        assert key is None or order == sorted(order)
    assert at.open == 0
    assert at._held == 0
    assert at._lanes == {}
