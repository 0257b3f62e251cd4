"""Functions of numbers."""

from __future__ import annotations

from tests.feel.tables import check, table


@table("""
    decimal(1/3, 2) => 0.33
    decimal(2.5, 0) => 2
    decimal(-2.5, 0, "up") => -3
    decimal(5.5, 0, "HALF_DOWN") => 5
    decimal(5.5, 0, "UNNECESSARY") => null
    decimal(5.0, 0, "UNNECESSARY") => 5
    decimal(1, 0, "other") => null
    decimal(1.5, 3) => 1.500
    decimal(1.5, 99999) => null
    floor(-1.5) => -2
    floor(1.56, 1) => 1.5
    ceiling(1.2) => 2
    ceiling(-1.56, 1) => -1.5
    round up(1.121, 2) => 1.13
    round down(-1.126, 2) => -1.12
    round half up(5.5, 0) => 6
    round half down(5.5, 0) => 5
    round half up(1250, -2) => 1300
    abs(-1.5) => 1.5
    abs(number: -1) => 1
    abs(@"-P1Y") => P1Y
    abs(@"-PT1H") => PT1H
    abs("1") => null
    modulo(12, -5) => -3
    modulo(-10.1, 4.5) => 3.4
    modulo(5, 0) => error: Division by zero
    sqrt(16) => 4.0
    sqrt(-1) => null
    log(1) => 0.0
    log(0) => error: log(0)
    exp(0) => 1.0
    exp(100000) => null
    odd(5) => true
    odd(-1) => true
    odd(2.0) => false
    even(0) => true
    even(1.5) => false
    random number() between 0 and 1 => true
""")
def test_numbers(expression, expected):
    check(expression, expected)
