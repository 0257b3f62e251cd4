"""Functions of contexts."""

from __future__ import annotations

from tests.feel.tables import check, table


@table("""
    get value({a: 1}, "a") => 1
    get value(m: {a: 1}, key: "a") => 1
    get value({a: 1}, "b") => null
    get value({a: {b: 2}}, ["a", "b"]) => 2
    get value({a: 1}, ["a", "b"]) => null
    get value({a: 1}, []) => null
    get value({a: 1}, 1) => null
    get entries({a: 1, b: 2}) => [{key:"a", value:1}, {key:"b", value:2}]
    get entries(m: {}) => []
    context put({a: 1}, "b", 2) => {a:1, b:2}
    context put({a: 1}, "a", 2) => {a:2}
    put({a: 1}, "b", null) => {a:1, b:null}
    context put({a: {b: 1}}, ["a", "c", "d"], 2) => {a:{b:1, c:{d:2}}}
    context put({a: 1}, ["a", "b"], 2) => null
    context put({}, [], 2) => null
    context put({}, [1], 2) => null
    context merge({a: 1}, {b: 2, a: 3}) => {a:3, b:2}
    context merge([{a: 1}, {b: 2}]) => {a:1, b:2}
    put all({a: 1}, 2) => null
    context([{key: "a", value: 1}, {key: "a", value: 2}]) => {a:2}
    context([{key: "a"}]) => null
    context({key: "a", value: 1}) => null
""")
def test_contexts(expression, expected):
    check(expression, expected)
