"""Bodies in and out: forms, unpacking with a cap, tolerant JSON."""

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http_client import HttpBodyError, HttpClient, HttpSettings, Part, multipart, readable, structure
from gateway.http_client.bodies import unpacked
from tests.http_client.servers import Reply, Stub


async def unpack(data: bytes, encoding: str, limit: int = 1000, size: int = 7) -> bytes:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    return b"".join([chunk async for chunk in unpacked(chunks(), encoding, limit)])


def raw_deflate(data: bytes) -> bytes:
    compress = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compress.compress(data) + compress.flush()


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (b"hello", ""),
        (b"hello", "identity"),
        (gzip.compress(b"hello"), "gzip"),
        (gzip.compress(b"hello"), "X-GZIP"),
        (gzip.compress(b"hel") + gzip.compress(b"lo"), "gzip"),
        (zlib.compress(b"hello"), "deflate"),
        (raw_deflate(b"hello"), "deflate"),
        (gzip.compress(zlib.compress(b"hello")), "deflate, gzip"),
        (b"hello", "br"),
        (b"", "gzip"),
    ],
)
async def test_known_codings_are_undone_and_others_left(packed: bytes, encoding: str) -> None:
    assert await unpack(packed, encoding) == (b"hello" if packed else b"")


@given(st.binary(max_size=500), st.integers(1, 50))
async def test_any_body_survives_packing_in_any_slices(data: bytes, size: int) -> None:
    assert await unpack(gzip.compress(data), "gzip", size=size) == data


@pytest.mark.parametrize("data", [b"not gzip at all", gzip.compress(b"hello" * 20)[:-9]])
async def test_a_body_that_is_not_what_it_claims_is_an_error(data: bytes) -> None:
    with pytest.raises(HttpBodyError):
        await unpack(data, "gzip")


@pytest.mark.parametrize("data", [b"x" * 1001, gzip.compress(b"x" * 1001), gzip.compress(gzip.compress(b"x" * 1001))])
async def test_a_body_over_the_cap_is_an_error(data: bytes) -> None:
    encoding = {0: "", 1: "gzip", 2: "gzip, gzip"}[0 if data[:1] == b"x" else 1 if len(data) < 35 else 2]
    with pytest.raises(HttpBodyError, match="larger than the limit of 1000 bytes"):
        await unpack(data, encoding)


async def test_a_bomb_costs_the_cap_and_no_more(stub: Stub) -> None:
    stub.reply(Reply(body=gzip.compress(b"\0" * 200_000_000, 1), headers=[("Content-Encoding", "gzip")]))
    packed = len(stub.replies[0].body)
    async with HttpClient(HttpSettings(max_body_size=1_000_000)) as http:
        tracemalloc.start()
        try:
            with pytest.raises(HttpBodyError) as e:
                await http.get(stub.url("/"))
            assert tracemalloc.get_traced_memory()[1] < 20_000_000 + packed
        finally:
            tracemalloc.stop()
    assert (e.value.code, len(stub.received)) == ("500", 1)


async def test_an_endless_answer_is_cut_at_the_cap(stub: Stub) -> None:
    stub.reply(
        Reply(headers=[("Transfer-Encoding", "chunked")], chunks=[b"2710\r\n" + b"x" * 10_000 + b"\r\n"] * 10_000)
    )
    async with HttpClient(HttpSettings(max_body_size=50_000)) as http:
        with pytest.raises(HttpBodyError):
            await http.get(stub.url("/"))
        assert http.statistics().idle == 0


# ---- JSON ----


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('  [1, {"b": null}]\n', [1, {"b": None}]),
        ('{"a": 1} garbage', {"a": 1}),
        ('{"a":1}{"b":2}', {"a": 1}),
        ("[1]]]", [1]),
        ('{"a":1,"a":2}', {"a": 2}),
        ('{"a":1.50,"b":12345678901234567890123}', {"a": Decimal("1.50"), "b": 12345678901234567890123}),
        ('{"a":"\\ud800"}', {"a": "?"}),
        ('{"a":"\\ud83d\\ude00"}', {"a": "😀"}),
    ],
)
def test_an_object_or_array_is_read_whatever_follows(text: str, value: Any) -> None:
    assert structure(text) == value


@pytest.mark.parametrize(
    "text",
    [
        '"x"', "12", "true", "null", "", "<html>", "{a:1}", "{'a':1}", '{"a": NaN}', '{"a":01}', '{"a":1,}', "[1,2",
        '/*c*/{"a":1}', '{"a":"\x01"}', '\ufeff{"a":1}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_neither_object_nor_array_is_no_structure(text: str) -> None:
    assert structure(text) is None


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"", None),
        (b" \n", None),
        (b"12", "12"),
        (b'"x"', '"x"'),
        (b"\xfctext", "\ufffdtext"),
        ('{"t":"grüße €"}'.encode(), {"t": "grüße €"}),
    ],
)
def test_a_body_is_read_as_flows_see_it(content: bytes, value: Any) -> None:
    assert readable(content) == value


# ---- forms ----


def test_a_form_is_utf8_with_quoted_names_and_encoded_file_names() -> None:
    parts = [
        Part("ü", "€".encode()),
        Part('a"b\\c\r\nX: 1', b""),
        Part("f", b"\x00\xff", "notes ä.bin", "text/plain"),
        Part("g", b"1", None, None),
    ]
    assert (
        multipart(parts, "B")
        == (
            '--B\r\nContent-Disposition: form-data; name="ü"\r\n\r\n€\r\n'
            '--B\r\nContent-Disposition: form-data; name="a\\"b\\\\c  X: 1"\r\n\r\n\r\n'
            '--B\r\nContent-Disposition: form-data; name="f"; filename="notes%20%C3%A4.bin"\r\nContent-Type: text/plain\r\n\r\n'
        ).encode()
        + b"\x00\xff\r\n"
        + b'--B\r\nContent-Disposition: form-data; name="g"\r\n\r\n1\r\n--B--\r\n'
    )


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_no_name_of_a_part_can_end_its_line(name: str, file_name: str, kind: str) -> None:
    body = multipart([Part(name, b"x", file_name, kind)], "B")
    head = body.removeprefix(b"--B\r\n").removesuffix(b"\r\n\r\nx\r\n--B--\r\n")
    assert head.count(b"\r") == head.count(b"\n") == 1
