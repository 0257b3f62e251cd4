"""Functions of lists."""

from __future__ import annotations

from tests.feel.tables import check, table


@table("""
    list contains([1, null], null) => true
    list contains([1, 2], 3) => false
    list contains(1, 1) => null
    count([1, 2]) => 2
    count(null) => null
    is empty([]) => true
    is empty(null) => null
    min([3, 1.5, 2]) => 1.5
    min(3, 1) => 1
    max("a", "c", "b") => "c"
    max([]) => null
    max([1, "a"]) => null
    min([true, false]) => null
    max([@"2020-01-01", @"2021-01-01"]) => 2021-01-01
    sum([1, 2.5]) => 3.5
    sum(1, 2, 3) => 6
    sum([]) => null
    sum([1, null]) => null
    product([2, 3.5]) => 7.0
    mean([1, 2]) => 1.5
    mean([]) => null
    median([3, 1, 2]) => 2
    median(4, 1, 2, 3) => 2.5
    stddev(2, 4, 7, 5) => 2.0816659994661326
    stddev([]) => null
    stddev([1]) => error: standard deviation
    mode(6, 3, 9, 6, 3) => [3, 6]
    mode([]) => []
    mode(["a"]) => null
    all([true, null]) => null
    all(true, false) => false
    and([]) => true
    any([false, true]) => true
    any([false, 1]) => null
    or(false, false) => false
    sublist([1, 2, 3], 2) => [2, 3]
    sublist([1, 2, 3], -2, 1) => [2]
    sublist([1, 2, 3], 0) => null
    sublist([1, 2, 3], 9) => []
    append([1], 2, 3) => [1, 2, 3]
    append([1], [2]) => [1, [2]]
    concatenate([1], [2], 3) => [1, 2, 3]
    insert before([1, 3], 2, 2) => [1, 2, 3]
    insert before([1, 3], 0, 2) => null
    remove([1, 2, 3], -1) => [1, 2]
    remove([1, 2, 3], 9) => [1, 2, 3]
    reverse([1, 2]) => [2, 1]
    index of([1, 2, 1], 1) => [1, 3]
    index of([1, null], null) => [2]
    union([1, 2], [2, 3]) => [1, 2, 3]
    distinct values([1, 1.0, "1", true, {a: 1}, {a: 1}]) => [1, "1", true, {a:1}]
    duplicate values([1, 2, 1, [3], [3]]) => [1, [3]]
    flatten([[1, [2]], 3]) => [1, 2, 3]
    sort([3, 1, 2], function(a, b) a < b) => [1, 2, 3]
    sort(list: [1, 2], precedes: function(a, b) a > b) => [2, 1]
    sort([1], 2) => null
    partition([1, 2, 3], 2) => [[1, 2], [3]]
    partition([1], 0) => null
    list replace([1, 2, 3], 2, 9) => [1, 9, 3]
    list replace([1, 2, 3], function(i, n) i > n, 2) => [1, 2, 2]
    list replace([1], 5, 9) => null
""")
def test_lists(expression, expected):
    check(expression, expected)
