"""Functions that relate points and ranges."""

from __future__ import annotations

from tests.feel.tables import check, table


@table("""
    before(1, 10) => true
    before(1, (1..10]) => true
    before([1..10], 10) => false
    before([1..10), 10) => true
    before([1..5], (5..10]) => true
    before("a", "b") => null
    before(1, null) => null
    before(1, @"2020-01-01") => null
    before(point: 1, range: [5..10]) => true
    after(12, [1..10]) => true
    after([11..20], [1..11)) => true
    meets([1..5], [5..10]) => true
    meets([1..5), [5..10]) => false
    met by([5..10], [1..5]) => true
    overlaps([1..5], [3..8]) => true
    overlaps([1..5), [5..8]) => false
    overlaps before([1..5], (1..5]) => true
    overlaps before([1..5), [1..5]) => false
    overlaps after((1..5], [1..5)) => true
    finishes(10, [1..10]) => true
    finishes([5..10), [1..10]) => false
    finished by([1..10], (1..10]) => true
    finished by(5, [1..5]) => error: Expected a point and a range
    starts(1, (1..10]) => false
    starts([1..5], [1..10]) => true
    started by([1..10], 1) => true
    during(5, [1..10]) => true
    during((1..5], (1..10]) => true
    during([1..5], 3) => error: Expected a point and a range
    includes([1..10], 10) => true
    includes([1..10), [1..10]) => false
    coincides(1, 1) => true
    coincides([1..5], (1..5]) => false
    coincides(1, [1..5]) => null
    during(@"2020-01-15", [@"2020-01-01"..@"2020-02-01"]) => true
    range("[1..5)") => [1..5)
    range("[@\\"2020-01-01\\"..date(\\"2020-01-02\\")]") => [2020-01-01..2020-01-02]
    range("[5..1]") => null
    range("[1..x]") => null
    range("1") => null
    range("[") => null
    [1..5].start => 1
    [1..5).end included => false
""")
def test_ranges(expression, expected):
    check(expression, expected)
