"""What was seen lately: remembered for its time, and never more than the limit."""

from gateway.inbound.memory import Memory


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_is_new_once_within_its_time() -> None:
    clock = Clock()
    memory = Memory(clock)
    assert memory.first_time("a", 10)
    clock.now = 9.9
    assert not memory.first_time("a", 10)
    clock.now = 10.0
    assert memory.first_time("a", 10)


def test_seeing_a_key_again_does_not_prolong_it() -> None:
    clock = Clock()
    memory = Memory(clock)
    memory.first_time("a", 10)
    clock.now = 5.0
    assert not memory.first_time("a", 100)
    clock.now = 10.0
    assert memory.first_time("a", 10)


def test_a_forgotten_key_is_new_again() -> None:
    memory = Memory(Clock())
    memory.first_time("a", 10)
    memory.forget("a")
    memory.forget("never seen")
    assert memory.first_time("a", 10)


def test_the_memory_is_bounded_and_the_oldest_go_first() -> None:
    memory = Memory(Clock(), limit=3)
    for key in "abcd":
        assert memory.first_time(key, 10)
    assert len(memory) == 3
    assert not memory.first_time("d", 10)
    assert memory.first_time("a", 10)


def test_what_has_run_out_makes_room_before_anything_else() -> None:
    clock = Clock()
    memory = Memory(clock, limit=2)
    memory.first_time("short", 1)
    memory.first_time("shorter", 0.5)
    clock.now = 2.0
    memory.first_time("a", 10)
    assert len(memory) == 1
    assert not memory.first_time("a", 10)
