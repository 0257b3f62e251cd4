"""Functions that convert."""

from __future__ import annotations

from tests.feel.tables import check, table


@table(r"""
    string(1.50) => "1.50"
    string(1.0) => "1.0"
    string("a") => "a"
    string(null) => null
    string([1, "a", null, {b: "c"}]) => "[1, "a", null, {b:"c"}]"
    string(@"2020-01-01") => "2020-01-01"
    string(-0.0) => "0.0"
    string([1..5)) => "[1..5)"
    number("1.5") => 1.5
    number("x") => null
    number(" 1") => null
    number("1e3") => 1000
    number(5) => null
    number("1.500", ".") => 1500
    number("1 500,5", " ", ",") => 1500.5
    number("1,000", ",", ",") => null
    number("1", ":") => null
    number("1,5", null, ",") => 1.5
    number(from: "1.000,5", decimal separator: ",", grouping separator: ".") => 1000.5
    date("2020-02-30") => null
    date(2020, 2, 29) => 2020-02-29
    date(2020, 13, 1) => null
    date(@"2020-01-01T10:00:00") => 2020-01-01
    date(5) => null
    time("10:00:00@Europe/Paris") => 10:00:00@Europe/Paris
    time(10, 30, 1.5) => 10:30:01.5
    time(10, 30, 0, @"PT1H") => 10:30:00+01:00
    time(10, 30, 0, @"PT19H") => null
    time(24, 0, 0) => null
    time(@"2020-01-01") => 00:00:00Z
    time(@"2020-01-01T10:00:00@Europe/Paris") => 10:00:00@Europe/Paris
    date and time("2020-01-01") => 2020-01-01T00:00:00
    date and time(@"2020-01-01", @"10:00:00Z") => 2020-01-01T10:00:00Z
    date and time(@"2020-07-31T14:27:30", "Z") => 2020-07-31T14:27:30Z
    date and time(@"2020-07-31T14:27:30@Europe/Berlin", "America/Los_Angeles") => 2020-07-31T05:27:30@America/Los_Angeles
    date and time(@"2020-01-01", "Z") => null
    date and time(@"2020-01-01T10:00:00", "Nowhere") => null
    date and time(date: @"2020-01-01T10:00:00", timezone: "Z") => 2020-01-01T10:00:00Z
    duration("P1Y2M") => P1Y2M
    duration("P1Y1D") => null
    duration("P1W") => null
    years and months duration(@"2020-01-31", @"2021-03-01") => P1Y1M
    years and months duration(@"2021-03-01", @"2020-01-31") => -P1Y1M
    from json("{\"a\": [1, 2.5, null]}") => {a:[1, 2.5, null]}
    from json("x") => null
    from json("NaN") => null
    to json({a: [1, "b\"", null, true], d: @"PT36H", f: function(x) x}) => "{"a":[1,"b\"",null,true],"d":"PT36H"}"
    to json(@"2023-06-14T14:55:00@Europe/Berlin") => ""2023-06-14T14:55:00+02:00[Europe/Berlin]""
    to json([@"P1Y2M", @"10:00:00Z", [1..2]]) => "["P1Y2M","10:00:00Z","[1..2]"]"
    is defined(null) => false
    is defined(1) => true
    get or else(null, 1) => 1
    assert(1, true) => 1
    assert(1, 1 > 2) => error: Assertion failure on evaluate the expression 'assert(1, 1 > 2)': The condition is not fulfilled
    [1, [assert(null, null, "why")]] => error: why
    is(1, 1.0) => true
    is(1, "1") => false
    is(@"P0Y", @"P0D") => false
""")
def test_conversion(expression, expected):
    check(expression, expected)
