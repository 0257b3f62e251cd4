"""Bodies by their content type, and parts: exact where they are well-formed, a plain refusal where they are not."""

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import MultipartReader, StreamReader
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks import Part, WebhookRefused
from gateway.webhooks.bodies import MAX_FIELDS, MAX_PARTS, form_fields, read_body, read_parts
from tests.webhooks.requests import FORM

MULTIPART = "multipart/form-data; boundary=B"


def status(content_type: str, raw: bytes) -> tuple[int, str]:
    with pytest.raises(WebhookRefused) as caught:
        read_body(content_type, raw)
    return caught.value.status, str(caught.value)


def outcome(read: Callable[[], Any]) -> int:
    """The status of the refusal, 200 for none."""
    try:
        read()
    except WebhookRefused as e:
        return e.status
    return 200


# ---- by content type -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "raw", "wanted"),
    [
        ("application/json", b"", {}),
        ("image/png", b"", {}),
        (FORM, b"", {}),
        ("", b"", {}),
        (MULTIPART, b"--B--", {}),
        ("multipart/form-data", b"anything", {}),
        (FORM, b"a=1&b=x+y&c", {"a": "1", "b": "x y", "c": ""}),
        (FORM.upper(), b"a=1", {"a": "1"}),
        (f"{FORM}; charset=UTF-8", b"a=%C3%A4", {"a": "ä"}),
        (f"{FORM}; charset=ISO-8859-1", b"a=%E4", {"a": "ä"}),
        (FORM, b"q=a%26b%3Dc", {"q": "a&b=c"}),
        (FORM, b"q=a=b==", {"q": "a=b=="}),
        (FORM, b"a=1&a=2", {"a": "2"}),
        (FORM, b"&&a=1&&=x&", {"a": "1", "": "x"}),
        (FORM, b"a=%zz&b=%ff", {"a": "%zz", "b": "\ufffd"}),
        ("application/xml", b"<a>\xc3\xa4</a>", "<a>ä</a>"),
        ("text/xml; charset=iso-8859-1", b"<a>\xe4</a>", "<a>ä</a>"),
        ("TEXT/XML", b'{"a": 1}', '{"a": 1}'),
        (
            "text/xml",
            b'<?xml version="1.0" encoding="ISO-8859-1"?><a>\xe4</a>',
            '<?xml version="1.0" encoding="ISO-8859-1"?><a>ä</a>',
        ),
        ("text/xml", "<a>ä</a>".encode("utf-16"), "<a>ä</a>"),
        ("application/xml", b"<a>\xff</a>", "<a>\ufffd</a>"),
        ("text/plain", b'{"a": 1}', {"a": 1}),
        ("text/plain", b"just words", "just words"),
        ("text/csv; charset=windows-1252", b"\x80;1", "€;1"),
        ("text/plain", b"\xff", "\ufffd"),
        ("application/json", b'{"a": [1, null, true]}', {"a": [1, None, True]}),
        ("application/json", b'"text"', "text"),
        ("application/json", b"7", 7),
        ("application/cloudevents+json; charset=utf-8", b"[]", []),
        ("", b"[1]", [1]),
        ("application/octet-stream", b'{"a": 1}', {"a": 1}),
        ("application/json", b'\xef\xbb\xbf{"a": "\xc3\xa4"}', {"a": "ä"}),
        ("application/json", '{"a": "ä"}'.encode("utf-16"), {"a": "ä"}),
        ('application/json; charset="utf-16le"', '{"a": "ä"}'.encode("utf-16-le"), {"a": "ä"}),
        ("application/json; charset=utf-8", b"\xef\xbb\xbf7", 7),
        ("application/json; charset=latin1", b'{"a": "\xe4"}', {"a": "ä"}),
    ],
)
def test_the_content_type_says_how_a_body_is_read(content_type: str, raw: bytes, wanted: Any) -> None:
    assert read_body(content_type, raw) == wanted


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [
        ("application/json", b"{nope"),
        ("application/problem+json", b"{nope"),
        ("", b"a=1"),
        ("application/json", b'{"a": "\xff"}'),
        ("application/json; charset=ascii", b'{"a": "\xc3\xa4"}'),
        ("application/json", b'{"a": "\\ud800"}'),
        ("application/json", b"NaN"),
        ("application/json", b"1 2"),
        ("application/json", b"["),
        ("application/json", b"[" * 200_000),
        ("application/json", b"[" * 200_000 + b"1.50" + b"]" * 200_000),
        ("application/json", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        ("application/json", b"1" * 10_000),
        ("application/json", b"1e99999999999999999999"),
    ],
)
def test_what_is_no_json_is_a_400_that_says_what_was_expected(content_type: str, raw: bytes) -> None:
    code, reason = status(content_type, raw)
    assert code == 400
    assert "expected JSON" in reason
    assert len(reason) < 300


@pytest.mark.parametrize(
    "content_type", ["image/png", "application/octet-stream", "multipart/mixed; boundary=B", "x/y"]
)
def test_a_type_that_nothing_here_reads_is_a_415(content_type: str) -> None:
    code, reason = status(content_type, b"\x89PNG\0")
    assert code == 415
    assert content_type.partition(";")[0] in reason


@pytest.mark.parametrize("charset", ["zlib", "unicode_escape", "punycode", "idna", "rot13", "utf-7", "no-such-charset"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "text/xml", FORM])
def test_a_charset_that_is_none_of_the_usual_ones_is_a_415(content_type: str, charset: str) -> None:
    code, reason = status(f"{content_type}; charset={charset}", b"a")
    assert (code, charset in reason) == (415, True)


def test_numbers_keep_their_digits() -> None:
    body = read_body("application/json", b'{"price": 1.50, "id": 12345678901234567890123, "big": 1e400}')
    assert str(body["price"]) == "1.50"
    assert body["id"] == 12345678901234567890123
    assert body["big"] == Decimal("1e400")


def test_a_form_has_a_limit_of_fields() -> None:
    fields = b"&".join(b"a%d=1" % n for n in range(MAX_FIELDS))
    assert len(read_body(FORM, fields)) == MAX_FIELDS
    assert status(FORM, fields + b"&x=1")[0] == 400


@given(st.lists(st.tuples(st.text(), st.text())))
def test_a_form_comes_out_as_it_was_filled_in(fields: list[tuple[str, str]]) -> None:
    sent = urlencode(fields, encoding="utf-8", errors="replace").encode()
    wanted = [(n.encode(errors="replace").decode(), v.encode(errors="replace").decode()) for n, v in fields]
    assert form_fields(sent) == wanted


@given(st.text(max_size=60), st.binary(max_size=100))
def test_random_bytes_under_random_types_are_read_or_refused(content_type: str, raw: bytes) -> None:
    assert outcome(lambda: read_body(content_type, raw)) in {200, 400, 415}
    assert outcome(lambda: read_parts(content_type, raw)) in {200, 400}


# ---- parts -----------------------------------------------------------------------------------------------------------


def a_body(*parts: tuple[str, bytes], boundary: str = "B") -> bytes:
    pieces = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


FILE = 'Content-Disposition: form-data; name="file"; filename="a.bin"\r\nContent-Type: application/zip'
FIELD = 'Content-Disposition: form-data; name="note"'


def test_every_part_is_there_in_order_byte_for_byte() -> None:
    binary = bytes(range(256)) + b"\r\n--Bx\r\n\n--B\r\n--"
    assert read_parts(MULTIPART, a_body((FILE, binary), (FIELD, b""), (FIELD, b"again\r\n"))) == (
        Part("file", binary, "a.bin", "application/zip"),
        Part("note", b""),
        Part("note", b"again\r\n"),
    )


def test_other_bodies_have_no_parts() -> None:
    assert read_parts("application/json", b"{}") == ()
    assert read_parts(MULTIPART, b"") == ()
    assert read_parts(MULTIPART, b"--B--\r\n") == ()


@pytest.mark.parametrize(
    ("disposition", "name", "file_name"),
    [
        ("form-data; name=plain; filename=a.txt", "plain", "a.txt"),
        ('form-data; name="a;b"; filename="c=d;e.txt"', "a;b", "c=d;e.txt"),
        ('form-data; name="a\\"b"', 'a"b', None),
        ('form-data; name="ä"; filename="ü.txt"', "ä", "ü.txt"),
        ("form-data; name=f; filename*=UTF-8''%e2%82%ac.txt", "f", "€.txt"),
        ("form-data; name=f; filename*=iso-8859-1'de'%e4.txt", "f", "ä.txt"),
        ('FORM-DATA; NAME="x"', "x", None),
        ('form-data; name="x"; filename=""', "x", ""),
        ("form-data; name=f; filename=plain.txt; filename*=UTF-8''%e2%82%ac.txt", "f", "€.txt"),
        ("form-data; name=f; filename=plain.txt; filename*=malformed", "f", "plain.txt"),
        ('form-data; name="f"; filename="C:\\dir\\a.txt"', "f", "C:\\dir\\a.txt"),
        ("form-data; name = f ;filename= a.txt", "f", "a.txt"),
        ('form-data; name="unclosed', "unclosed", None),
        ("form-data", "", None),
    ],
)
def test_names_of_parts_in_all_their_forms(disposition: str, name: str, file_name: str | None) -> None:
    (part,) = read_parts(MULTIPART, a_body((f"content-disposition:{disposition}", b"x")))
    assert (part.name, part.file_name, part.content) == (name, file_name, b"x")


@pytest.mark.parametrize(
    "content_type", ['multipart/form-data; boundary="a b"', "Multipart/Form-Data; Boundary=a?b; charset=utf-8"]
)
def test_the_boundary_may_be_quoted_and_stand_anywhere(content_type: str) -> None:
    boundary = "a b" if '"' in content_type else "a?b"
    assert len(read_parts(content_type, a_body((FIELD, b"x"), boundary=boundary))) == 1


def test_what_stands_around_the_parts_is_passed_over() -> None:
    raw = (
        b"a preamble\r\n--Bnot\r\n"
        + a_body((FIELD, b"x")).replace(b"--B\r\n", b"--B \t\r\n")
        + b"an epilogue\r\n--B\r\n"
    )
    assert [part.content for part in read_parts(MULTIPART, raw)] == [b"x"]


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [
        ("multipart/form-data", a_body((FIELD, b"x"))),
        (f"multipart/form-data; boundary={'b' * 71}", a_body((FIELD, b"x"))),
        ("multipart/form-data; boundary=ä", a_body((FIELD, b"x"))),
        (MULTIPART, b"no boundary at all"),
        (MULTIPART, a_body((FIELD, b"x")).removesuffix(b"--B--\r\n")),
        (MULTIPART, a_body((FIELD, b"x")).removesuffix(b"--\r\n")),
        (MULTIPART, b"--B\r\n" + FIELD.encode() + b"\r\nno empty line\r\n--B--"),
        (MULTIPART, a_body(("no colon", b"x"))),
        (MULTIPART, a_body((": no name", b"x"))),
        (MULTIPART, a_body(("Content-Type: text/plain", b"x"))),
        (MULTIPART, a_body(("Content-Disposition: attachment; name=x", b"x"))),
        (MULTIPART, a_body((f"{FIELD}\r\nX: {'x' * 8192}", b"x"))),
        (MULTIPART, a_body(*[(FIELD, b"x")] * (MAX_PARTS + 1))),
    ],
)
def test_malformed_parts_are_a_400(content_type: str, raw: bytes) -> None:
    with pytest.raises(WebhookRefused, match="The multipart body") as caught:
        read_parts(content_type, raw)
    assert caught.value.status == 400


def test_endless_parameters_cost_little() -> None:
    begun = time.perf_counter()
    with pytest.raises(WebhookRefused):
        read_parts("multipart/form-data" + ';a="' * 300_000, b"x")
    assert len(read_parts(MULTIPART, a_body(*[(FIELD + ';a="' * 1900, b"x")] * 500))) == 500
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize(
    "raw",
    [
        b"x" * 5_000_000,
        b"--B " * 1_000_000,
        b"\r\n--B" * 1_000_000,
        b"\r\n--Bx\r\n" * 500_000,
        b"--B\r\n" + b"a: b\r\n" * 500_000,
    ],
)
def test_endless_preambles_and_false_boundaries_cost_little(raw: bytes) -> None:
    begun = time.perf_counter()
    with pytest.raises(WebhookRefused):
        read_parts(MULTIPART, raw)
    assert time.perf_counter() - begun < 2


PIECES = st.sampled_from([b"--B", b"\r\n", b"--", b"\r", b"\n", b"x", b" ", b"\0", FIELD.encode()])


@given(st.lists(st.lists(PIECES, max_size=6).map(b"".join).filter(lambda c: b"\r\n--B" not in b"\r\n" + c), max_size=5))
def test_parts_are_what_another_reader_finds(contents: list[bytes]) -> None:
    raw = a_body(*((FIELD, content) for content in contents))

    async def others() -> list[bytes]:
        loop = asyncio.get_running_loop()
        stream = StreamReader(BaseProtocol(loop), 2**20, loop=loop)
        stream.feed_data(raw)
        stream.feed_eof()
        reader = MultipartReader({"Content-Type": MULTIPART}, stream)
        return [bytes(await part.read()) async for part in reader if part is not None]  # type: ignore[union-attr]

    assert [part.content for part in read_parts(MULTIPART, raw)] == asyncio.run(others()) == contents


@given(st.lists(PIECES, max_size=30).map(b"".join))
def test_anything_that_looks_like_parts_is_read_or_refused(raw: bytes) -> None:
    if outcome(lambda: read_parts(MULTIPART, raw)) == 400:
        return
    parts = read_parts(MULTIPART, raw)
    assert sum(len(part.content) for part in parts) <= len(raw)
    assert raw.count(b"--B") >= len(parts)
