"""Null-friendly rules, values and operators of Camunda's dialect, section by section."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import feel
from tests.feel.tables import check, table

CONTEXT: dict[str, Any] = {
    "n": None,
    "five": 5,
    "name": "Jane",
    "flag": True,
    "list": [1, 2, 3],
    "person": {"name": "Ann", "address": {"city": "Oslo"}, "tags": ["a", "b"]},
    "people": [{"name": "Ann", "age": 30}, {"name": "Bob", "age": 17}, {"name": "Cid"}],
    "Monthly Salary": 1000,
    "a-b": 7,
}


@table("""
    missing => null
    person.missing => null
    n.a.b.c => null
    missing.a.b => null
    name.length => null
    five.digits => null
    flag.x => null
    person.address.city => "Oslo"
    people.name => ["Ann", "Bob", "Cid"]
    people.age => [30, 17, null]
    [[{a: 1}], {a: 2}].a => [[1], 2]
""")
def test_a_path_never_fails(expression, expected):
    check(expression, expected, CONTEXT)


@table("""
    1 = 1.0 => true
    1 = 2 => false
    1 != 2 => true
    1 = null => false
    null = null => true
    null != 1 => true
    missing = null => true
    person.missing != null => false
    1 = "1" => null
    1 != "1" => null
    [1] = 1 => null
    true = 1 => null
    [1, 2] = [1, 2] => true
    [1, 2] = [1] => false
    [1] = ["1"] => false
    [1] != [true] => true
    {a: 1} = {a: 1.0} => true
    {a: 1} = {b: 1} => false
    {a: [1, {b: 2}]} = {a: [1, {b: 2}]} => true
    @"2020-01-01" = @"2020-01-01T00:00:00" => null
    @"10:00:00+01:00" = @"09:00:00Z" => false
    @"2020-01-01T10:00:00+01:00" = @"2020-01-01T09:00:00Z" => false
    @"P1D" = @"PT24H" => true
    @"P1Y" = @"P12M" => true
    @"P1Y" = @"P365D" => null
    [null] = [null] => true
""")
def test_equality_is_null_only_between_types_that_differ(expression, expected):
    check(expression, expected, CONTEXT)


@table("""
    1 < 2 => true
    2 <= 2.0 => true
    3 > 2.5 => true
    2 >= 3 => false
    "a" < "b" => true
    "B" < "a" => true
    "\U0001f600" < "\uffee" => true
    1 < "2" => null
    1 < null => null
    true < false => null
    [1] < [2] => null
    @"2020-01-01" < @"2020-01-02" => true
    @"2020-01-01" < @"2020-01-02T00:00:00" => null
    @"10:00:00" < @"11:00:00Z" => null
    @"2020-01-01T10:00:00+02:00" < @"2020-01-01T09:00:00Z" => true
    @"P1Y" > @"P11M" => true
    @"PT1H" < @"P1D" => true
    2 between 1 and 3 => true
    1 between 1 and 3 => true
    3 between 1 and 3 => true
    4 between 1 and 3 => false
    null between 1 and 3 => null
    2 between null and 3 => null
    "b" between "a" and "c" => true
    five between 1 and 10 and flag => true
""")
def test_order_needs_two_values_of_one_kind(expression, expected):
    check(expression, expected, CONTEXT)


@table("""
    1 + 2 => 3
    1 - 2 => -1
    2 * 3.5 => 7.0
    7 / 2 => 3.5
    6 / 3 => 2
    1 / 3 => 0.3333333333333333333333333333333333
    2 / 3 => 0.6666666666666666666666666666666667
    0.1 + 0.2 => 0.3
    1.10 + 1 => 2.10
    2 ** 10 => 1024
    2 ** -1 => 0.5
    2 ** 0.5 => 1.4142135623730951
    2 ** 3 ** 2 => 64
    -2 ** 2 => 4
    -five => -5
    --five => 5
    1 + -2 => -1
    2 - 1 - 1 => 0
    8 / 4 / 2 => 1
    2 + 3 * 4 => 14
    (2 + 3) * 4 => 20
    1 / 0 => null
    1.0 / 0.0 => null
    null + 1 => null
    "a" + 1 => null
    "a" + null => null
    true + true => null
    "a" - "b" => null
    "a" + "b" => "ab"
    [1] + [2] => null
    -"a" => null
    -true => null
    99999999999999999999999999999999999999 + 1 => 100000000000000000000000000000000000000
    99999999999999999999 * 99999999999999999999 => 9999999999999999999800000000000000000000
    1 + 2 - 3 + 4 - 5 + 6 - 7 + 8 - 9 + 10 - 11 => -4
    1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + "x" => null
    0 ** -1 => error: Division by zero
""")
def test_arithmetic(expression, expected):
    check(expression, expected, CONTEXT)


@table("""
    true and true => true
    true and false => false
    true and null => null
    false and null => false
    null and false => false
    null and true => null
    2 and false => false
    2 and true => null
    false and missing.x > 1 => false
    true or null => true
    null or true => true
    false or null => null
    false or false => false
    2 or "x" => null
    false or 2 or true => true
    true and true and null and true => null
    true and null and false => false
    false or null or false => null
    true or false and false => true
    not(true) => false
    not(null) => null
    not(1) => null
    if true then 1 else 2 => 1
    if false then 1 else 2 => 2
    if null then 1 else 2 => 2
    if 5 then 1 else 2 => 2
    if false then 1 else if true then 2 else 3 => 2
    if false then 1 else if null then 2 else 3 => 3
""")
def test_logic_has_three_values(expression, expected):
    check(expression, expected, CONTEXT)


@table("""
    [1,2,3,4][1] => 1
    [1,2,3,4][-1] => 4
    [1,2,3,4][0] => null
    [1,2,3,4][5] => null
    [1,2,3,4][-5] => null
    [1,2,3,4][1.9] => 1
    [1,2,3,4][item > 2] => [3, 4]
    [1,2,3,4][item > 9] => []
    [1,2,3,4][five - 3] => 2
    [1,2,3,4][count([1, 1])] => 2
    [1,2,3,4][odd(item)] => [1, 3]
    list[item = five] => []
    people[age > 18].name => ["Ann"]
    people[item.age > 18].name => ["Ann"]
    people[name = "Bob"][1].age => 17
    people[age = null].name => ["Cid"]
    [{item: 1}, {item: 2}][item >= 2] => [{item:2}]
    [{n: 5}][n = five] => [{n:5}]
    [[1, 2], [3, 4]][item[1] > 2] => [[3, 4]]
    [1,2,3][true] => [1, 2, 3]
    [1,2,3][false] => []
    [1,2,3]["x"] => []
    [1,2,3][null] => []
    [][1] => null
    [][item > 1] => []
    five[1] => null
    null[item > 1] => null
    people[1].age + 1 => 31
    [1, null, 3][item != null] => [1, 3]
    [[1], [2]][1][1] => 1
    for x in [1, 2] return list[x] => [1, 2]
    for x in [1, 2] return list[item > x] => [[2, 3], [3]]
    [1,2,3][if five = 5 then 2 else 1] => 2
    people[[30, 17][item = age] = [17]].name => ["Bob"]
""")
def test_filters(expression, expected):
    check(expression, expected, CONTEXT)


@table("""
    for x in list return x * 2 => [2, 4, 6]
    for x in 1..3 return x => [1, 2, 3]
    for x in 3..1 return x => [3, 2, 1]
    for x in 2..2 return x => [2]
    for x in 1.5..3 return x => [1.5, 2.5]
    for x in 1..2.5 return x => [1, 2]
    for x in [1,2], y in [3,4] return x * y => [3, 4, 6, 8]
    for x in [1,2], y in x return y => null
    for x in five return x => null
    for x in null return x => null
    for x in "a"..3 return x => null
    for x in [] return x => []
    for x in 1..4 return 7 => [7, 7, 7, 7]
    for i in 1..5 return if i <= 2 then 1 else partial[-1] + partial[-2] => [1, 1, 2, 3, 5]
    for i in 1..3 return count(partial) => [0, 1, 2]
    for i in 1..3 return partial => [[], [[]], [[], [[]]]]
    for i in 1..2 return for j in 1..2 return i * 10 + j => [[11, 12], [21, 22]]
    some x in list satisfies x > 2 => true
    some x in list satisfies x > 3 => false
    some x in [] satisfies true => false
    some x in [null, 1] satisfies x > 3 => null
    some x in five satisfies true => null
    some x in [1,2], y in [2,3] satisfies x = y => true
    some x in list satisfies 1 => null
    every x in list satisfies x > 0 => true
    every x in list satisfies x > 1 => false
    every x in [] satisfies false => true
    every x in [1, null] satisfies x > 0 => null
    every x in [1, null, 0] satisfies x > 0 => false
    every x in 1..3, y in 4..6 satisfies x < y => true
    every x in null satisfies true => null
""")
def test_loops(expression, expected):
    check(expression, expected, CONTEXT)


@table("""
    1 in [1, 2] => true
    3 in [1, 2] => false
    1 in 1 => true
    1 in [1..3] => true
    1 in (1..3] => false
    3 in [1..3) => false
    3 in ]1..3[ => false
    2 in ]1..3[ => true
    5 in > 3 => true
    5 in (> 6, 5) => true
    5 in (> 6, [1..4]) => false
    5 in (< 3, > "a") => null
    "b" in ("a", "b") => true
    1 in "a" => null
    null in [null] => true
    2 in [[1..3]] => false
    1 in (1..5) => false
    2 in (1) => false
    five in (1, 5) and flag => true
    5 in (? > 3) => true
    5 in = 5 => true
    5 in != 5 => false
    [1, 2] in [[1, 2], [3]] => true
    5 in (< 10) => true
    @"2020-01-15" in [@"2020-01-01"..@"2020-01-31"] => true
    5 in [1..null] => null
    5 in [missing..10] => null
""")
def test_membership(expression, expected):
    check(expression, expected, CONTEXT)


@table("""
    1 instance of number => true
    1.5 instance of number => true
    true instance of number => false
    "a" instance of string => true
    true instance of boolean => true
    @"2020-01-01" instance of date => true
    @"10:00:00" instance of time => true
    @"2020-01-01T10:00:00" instance of date and time => true
    @"2020-01-01T10:00:00" instance of "date and time" => true
    @"P1Y" instance of years and months duration => true
    @"P1D" instance of days and time duration => true
    @"P1D" instance of years and months duration => false
    [1] instance of list => true
    {} instance of context => true
    (function(x) x) instance of function => true
    1 instance of Any => true
    null instance of Any => false
    null instance of number => false
    1 instance of unknown => false
    [1, 2] instance of list<number> => true
    [1, "a"] instance of list<number> => false
    {a: 1} instance of context<a: number> => true
    {a: 1} instance of context<a: string> => false
    {b: 1} instance of context<a: number> => false
    [[1]] instance of list<list<number>> => true
    (function(x) x) instance of function<number> -> number => true
    1 instance of number and true => true
""")
def test_types(expression, expected):
    check(expression, expected, CONTEXT)


@table("""
    {a: 1, b: a + 1} => {a:1, b:2}
    {a: 1, b: {c: a + 1, d: c + 1}} => {a:1, b:{c:2, d:3}}
    {five: 1, b: five} => {five:1, b:1}
    {b: five, five: 1} => {b:5, five:1}
    {a: 1, b: a, a: 2, c: a} => {a:2, b:1, c:2}
    {a: 1, b: {a: 2, c: a}, d: a} => {a:1, b:{a:2, c:2}, d:1}
    {"a b": 1, c: 2} => {a b:1, c:2}
    {a-b: 1, foo bar: 2, foo+bar: 3} => {a-b:1, foo bar:2, foo+bar:3}
    {f: function(x) x * 2, r: f(4)}.r => 8
    {a: 1}.a => 1
    {} => {}
    {a: null}.a => null
    {x: {y: {}.z}} => {x:{y:null}}
    {a: 1, b: [a, a + 1]}.b => [1, 2]
    {"": 1} => {:1}
""")
def test_contexts(expression, expected):
    check(expression, expected, CONTEXT)


@table("""
    (function(x) x + 1)(2) => 3
    {f: function(a, b) a - b, r: f(5, 3)}.r => 2
    {f: function(a, b) a - b, r: f(b: 5, a: 3)}.r => -2
    {f: function(a, b) [a, b], r: f(b: 5)}.r => [null, 5]
    {f: function(a) a, r: f(1, 2)}.r => null
    {f: function(a) a, r: f(b: 2)}.r => null
    {f: function() five, r: f()}.r => 5
    {make: function(a) function(b) a * b, r: make(2)(3)}.r => 6
    {lib: {double: function(x) x * 2}, r: lib.double(4)}.r => 8
    {lib: {}, r: lib.double(4)}.r => null
    {f: function(g) g(2), r: f(function(x) x * x)}.r => 4
    {x: 1, f: function(x) x, r: f(2) + x}.r => 3
    {count: function(l) 42, r: count([])}.r => 42
    {count: 3, r: count([1, 2])}.r => 2
    {f: function(f, n) if n = 0 then 1 else n * f(f, n - 1), r: f(f, 20)}.r => 2432902008176640000
    unknown(1) => null
    unknown(a: 1) => null
    five(1) => null
    abs() => null
    abs(1, 2) => null
    abs(x: 1) => null
    abs("a") => null
    [1, 2][function(x) true] => []
    for f in [function(x) x + 1, function(x) x * 5] return f(3) => [4, 15]
""")
def test_functions(expression, expected):
    check(expression, expected, CONTEXT)


@table("""
    `a-b` => 7
    `Monthly Salary` * 2 => 2000
    person.`name` => "Ann"
    {a b: 1}.`a b` => 1
    `person`.address.city => "Oslo"
    12 * Monthly Salary => 12000
    {foo bar: 1, r: foo bar + 1}.r => 2
    a-b => null
    (function(my arg) my arg + 1)(1) => 2
    {f: function(a: number) a, r: f(1)}.r => 1
""")
def test_names_with_signs(expression, expected):
    check(expression, expected, CONTEXT)


@table("""
    @"2020-01-31" + @"P1M" => 2020-02-29
    @"2020-01-01" + @"P1D" => 2020-01-02
    @"P1D" + @"2020-01-01" => 2020-01-02
    @"2020-01-01" + @"PT25H" => 2020-01-02
    @"2020-01-01" - @"PT1H" => 2019-12-31
    @"2020-03-31" - @"P1M" => 2020-02-29
    @"2020-01-01T10:00:00" + @"PT1H" => 2020-01-01T11:00:00
    @"2020-01-01T10:00:00Z" - @"P1Y" => 2019-01-01T10:00:00Z
    @"2021-03-27T12:00:00@Europe/Berlin" + @"P1D" => 2021-03-28T13:00:00@Europe/Berlin
    @"23:00:00" + @"PT2H" => 01:00:00
    @"01:00:00+01:00" - @"PT2H" => 23:00:00+01:00
    @"2020-01-10" - @"2020-01-01" => P9D
    @"10:00:00" - @"12:00:00" => -PT2H
    @"10:00:00Z" - @"12:00:00Z" => PT2H
    @"2020-01-02T00:00:00Z" - @"2020-01-01T00:00:00+01:00" => P1DT1H
    @"2020-01-02T00:00:00" - @"2020-01-01T00:00:00Z" => null
    @"P1D" + @"PT1H" => P1DT1H
    @"P1Y" - @"P1M" => P11M
    @"P1Y" + @"P1D" => null
    @"PT1H" * 1.5 => PT1H
    2 * @"P1M" => P2M
    @"P1Y" / 2 => P6M
    @"PT1H" / 2 => PT30M
    @"P1D" / @"PT5H" => 4
    @"P1Y" / @"P5M" => 2
    @"P1D" / @"P0D" => null
    @"P1D" / 0 => null
    -@"P1D" => null
    @"2020-01-01" + 1 => null
    @"2020-01-01" + @"2020-01-01" => null
    @"2020-01-01" * 2 => null
    @"999999999-12-31" + @"P1D" => null
    @"PT1H" * 999999999999999999999999 => null
""")
def test_temporal_arithmetic(expression, expected):
    check(expression, expected)


def test_a_leading_equals_sign_is_the_callers_business():
    with pytest.raises(feel.FeelParseError):
        feel.evaluate("= 1 + 2")


def test_the_input_sign_needs_an_input():
    with pytest.raises(feel.FeelEvaluationError, match=r"failed to evaluate expression '\? < 10': No input value"):
        feel.evaluate("? < 10")
