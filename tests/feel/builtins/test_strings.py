"""Functions of strings."""

from __future__ import annotations

import re

from gateway import feel
from tests.feel.tables import check, table


@table(r"""
    substring("foobar", 3) => "obar"
    substring("foobar", 3, 3) => "oba"
    substring("foobar", -2, 1) => "a"
    substring("foobar", 3, 3.8) => "oba"
    substring("abc", 4) => ""
    substring("abc", 0) => ""
    substring("abc", 2, -1) => null
    substring(string: "foobar", start position: 3) => "obar"
    substring("a😀b", 4) => "b"
    substring("a😀b", 2, 2) => "😀"
    substring(null, 1) => null
    substring("abc", 10) => error: out of range
    substring("abc", -5) => error: out of range
    string length("a😀") => 3
    string length(string: "") => 0
    string length(5) => null
    upper case("aBc") => "ABC"
    lower case("aBc") => "abc"
    substring before("foobar", "bar") => "foo"
    substring before("foobar", "x") => ""
    substring before("foobar", "") => ""
    substring after("foobar", "ob") => "ar"
    substring after("foobar", "x") => ""
    substring after("foobar", "") => "foobar"
    contains("foobar", "ob") => true
    contains("foobar", null) => null
    starts with("foobar", "foo") => true
    ends with("foobar", "foo") => false
    trim("  a b ") => "a b"
    is blank(" ") => true
    is blank("") => true
    is blank("a") => false
    to base64("FEEL") => "RkVFTA=="
    from base64("RkVFTA==") => "FEEL"
    from base64("!!!") => null
    string join(["a", "b"]) => "ab"
    string join(["a", null, "b"], "-") => "a-b"
    string join(["a", "b"], ", ", "[", "]") => "[a, b]"
    string join(["a", 1]) => null
    string join("a") => null
    string join(delimiter: "-", list: ["a", "b"]) => "a-b"
""")
def test_strings(expression, expected):
    check(expression, expected)


@table(r"""
    matches("foobar", "^fo*b") => true
    matches("foobar", "o{3}") => false
    matches("ABC", "abc", "i") => true
    matches("a\nb", "a.b", "s") => true
    matches("abc", "b", null) => true
    matches("abc", "b", "q") => null
    matches("abc", "(") => null
    matches("a b", "a\sb") => true
    matches("٣", "\d") => false
    matches("é", "\w") => false
    matches("É", "é", "i") => false
    matches("é", "\p{L}") => true
    matches("é", "\p{IsAlphabetic}") => true
    matches("e", "\P{L}") => false
    matches("a", "\p{Alpha}") => true
    matches("1", "\P{Alpha}") => true
    matches("a.b", "\Qa.b\E") => true
    matches("aXb", "\Qa.b\E") => false
    matches("O", "[A-Z&&[^O]]") => false
    matches("P", "[A-Z&&[^O]]") => true
    matches("-", "[a-[b]]") => true
    matches("aa", "(?<x>a)\k<x>") => true
    matches("aa", "(a)\1") => true
    matches("a\n", "a\Z") => true
    matches("a\n", "a\z") => false
    matches("A", "\x{41}") => true
    matches("A", "\0101") => true
    matches("hello", "hel  lo", "x") => true
    matches("a", "\y") => null
    replace("abc", "[a-z]", "#") => "###"
    replace("0123456789", "(\d{3})(\d{3})(\d{4})", "($1) $2-$3") => "(012) 345-6789"
    replace("abc", "(b)", "$0$1") => "abbc"
    replace("abcd", "(ab)|(x)", "[$1$2]") => "[ab]cd"
    replace("abc", "b", "$1") => null
    replace("abc", "(?<n>b)", "${n}${n}") => "abbc"
    replace("abc", "b", "\\$") => "a$c"
    replace("aBc", "b", "x", "i") => "axc"
    replace("abc", "([a-z)", "$1") => null
    split("a;b;;", ";") => ["a", "b", "", ""]
    split("John Doe", "\s") => ["John", "Doe"]
    split("abc", "") => ["a", "b", "c", ""]
    split("abc", "x") => ["abc"]
    split("abc", null) => null
    extract("ref 12 and 34", "\d+") => ["12", "34"]
    extract("abc", "[a-z") => null
""")
def test_regular_expressions_are_javas(expression, expected):
    check(expression, expected)


def test_a_uuid_is_another_one_each_time():
    first, second = feel.evaluate("[uuid(), uuid()]")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", first)
    assert first != second
