"""
How fast FEEL is: evaluations of parsed expressions, and parsing plus one evaluation, per second of CPU time.

    python tests/bench/feel_bench.py [seconds per figure]

The second column of each pair is what feel-scala reaches on comparable hardware, times the factor we aim at.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway import feel

ORDERS = [{"id": number, "price": number * 3 % 20} for number in range(20)]
CONTEXT: dict[str, Any] = {
    "a": 1,
    "b": "two",
    "c": [1, 2, 3],
    "d": {"e": 5},
    "amount": 150,
    "first": "Jane",
    "last": "Doe",
    "numbers": list(range(20)),
    "orders": ORDERS,
}
CASES = (
    ("context", "{w: a, x: b, y: c, z: d.e}", 3 * 113_000, 0.6 * 85_000),
    ("if", 'if amount > 100 then "high" else "low"', 3 * 255_000, 0.6 * 79_000),
    ("compare", "amount > 100", 3 * 566_000, 0.6 * 210_000),
    ("concat", 'first + " " + last', 3 * 354_000, 0.6 * 136_000),
    ("for over 20", "for x in numbers return x * 2", 3 * 55_000, 0.6 * 48_000),
    ("filter and sum over 20", "sum(orders[price > 5].price)", 1.5 * 53_000, 0.6 * 44_000),
    ("filter and sum over 20 numbers", "sum(numbers[item > 5])", 1.5 * 53_000, 0.6 * 44_000),
)


def rate(work: Callable[[], object], seconds: float) -> float:
    """How often the work is done in a second of CPU time; the best of three."""
    best = 0.0
    for _ in range(3):
        rounds = 0
        start = time.process_time()
        while (spent := time.process_time() - start) < seconds / 3:
            for _ in range(100):
                work()
            rounds += 100
        best = max(best, rounds / spent)
    return best


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    print(f"{'expression':32} {'evaluate/s':>12} {'goal':>12} {'parse+evaluate/s':>18} {'goal':>10}")
    for name, text, goal, goal_parse in CASES:
        expression = feel.parse(text)
        evaluated = rate(lambda expression=expression: expression.evaluate(CONTEXT), seconds)  # type: ignore[misc]
        parsed = rate(lambda text=text: feel.parse(text).evaluate(CONTEXT), seconds)  # type: ignore[misc]
        print(f"{name:32} {evaluated:12,.0f} {goal:12,.0f} {parsed:18,.0f} {goal_parse:10,.0f}")


if __name__ == "__main__":
    main()
