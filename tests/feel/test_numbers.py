"""Arithmetic of 34 digits that nothing outside can disturb."""

from __future__ import annotations

import decimal
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gateway import feel
from gateway.feel import numbers

whole = st.integers(-(10**40), 10**40)


@given(whole, whole)
def test_whole_numbers_add_exactly(left: int, right: int):
    assert feel.evaluate("a + b", {"a": left, "b": right}) == left + right
    assert feel.evaluate("a - b", {"a": left, "b": right}) == left - right


@given(whole, whole)
def test_products_have_34_digits(left: int, right: int):
    product = feel.evaluate("a * b", {"a": left, "b": right})
    assert product == numbers.DECIMALS.multiply(left, right)
    assert type(product) is int


@given(st.decimals(allow_nan=False, allow_infinity=False, places=5), st.integers(1, 10**6))
def test_division_and_multiplication_meet_within_the_digits(dividend: Decimal, divisor: int):
    quotient = feel.evaluate("a / b", {"a": dividend, "b": divisor})
    assert abs(quotient * divisor - dividend) <= abs(dividend) * Decimal("1e-26")


def test_the_threads_decimal_context_does_not_matter():
    with decimal.localcontext() as context:
        context.prec = 2
        context.traps[decimal.Inexact] = True
        assert feel.evaluate("[1/3, 1.234567 + 1, 1.2345 * 2, floor(1.23456)]") == [
            Decimal("0.3333333333333333333333333333333333"),
            Decimal("2.234567"),
            Decimal("2.4690"),
            1,
        ]


def test_what_gets_too_large_is_null():
    assert feel.evaluate("[10 ** 6000 * 10 ** 6000, 9 ** 999999999, 1.5 ** 99999999, exp(99999)]") == [None] * 4


def test_a_number_is_written_with_all_its_digits():
    assert [numbers.text(n) for n in (Decimal("1E+3"), Decimal("-0.00"), Decimal("1E-7"), 10**40, -5)] == [
        "1000",
        "0.00",
        "0.0000001",
        "1" + "0" * 40,
        "-5",
    ]
