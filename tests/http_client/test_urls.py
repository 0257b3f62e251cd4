"""URLs as they go out. The tables were measured on the wire of the original's client library."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http_client import (
    HttpProtocolError,
    InvalidUrl,
    MalformedUrl,
    encode_url,
    form_urlencode,
    verbatim_url,
)

BASE = "http://h:8080"

ENCODED = {
    "": "/",
    "/": "/",
    "/a b": "/a%20b",
    "/grüße": "/gr%C3%BC%C3%9Fe",
    "/a%20b%C3%BC": "/a%20b%C3%BC",
    "/a%2Cb": "/a,b",
    "/a%21b": "/a!b",
    "/a%26b": "/a&b",
    "/a%2Fb/c": "/a%2Fb/c",
    "/a%2fb": "/a%2Fb",
    "/a+b": "/a%2Bb",
    "/a%2520b": "/a%2520b",
    "/a[1]{2}|3": "/a%5B1%5D%7B2%7D%7C3",
    "/a;b=c,d": "/a;b=c,d",
    "/~a!$&'()*,;=:@": "/~a!$&'()*,;=:@",
    '/a\\b"c<d>e^f`g': "/a%5Cb%22c%3Cd%3Ee%5Ef%60g",
    "/a//b": "/a//b",
    "/a/../b/.": "/a/../b/.",
    "/%41%7e": "/A~",
    "/%ff": "/%EF%BF%BD",
    "/a%00b": "/a%00b",
    "/😀": "/%F0%9F%98%80",
    "/workflows(1)/M.Run": "/workflows(1)/M.Run",
    "/a%23b%3Fc": "/a%23b%3Fc",
    "/a#frag": "/a",
    "/a?b#fr ag": "/a?b",
    "/a?": "/a",
    "?x=a%26b%3Dc%2Bd": "/?x=a%26b%3Dc%2Bd",
    "?a+b=c+d": "/?a%20b=c%20d",
    "?x=a?b:c": "/?x=a?b:c",
    "?e=": "/?e",
    "?e=&f": "/?e&f",
    "?&&a=1&&": "/?a=1",
    "?=1&a=2": "/?a=2",
    "?a=b=c": "/?a=b%3Dc",
    "?a==": "/?a=%3D",
    "?a=%ff": "/?a=%EF%BF%BD",
    "?a=1;b=2": "/?a=1;b%3D2",
    "?a=1&b=2&a=3": "/?a=1&a=3&b=2",
    "?$Filter=Id eq 4": "/?$Filter=Id%20eq%204",
    "?$select=a,b": "/?$select=a,b",
    "?a[]={1}|2": "/?a%5B%5D=%7B1%7D%7C2",
    "?a=%3F%2F%3A": "/?a=?/:",
    "?a=b%0Ac": "/?a=b%0Ac",
    "?ü=€": "/?%C3%BC=%E2%82%AC",
    "?%26=1": "/?%26=1",
    "?a=b+%2B+c": "/?a=b%20%2B%20c",
}


@pytest.mark.parametrize(("written", "target"), ENCODED.items(), ids=ENCODED)
def test_an_encoded_url_is_decoded_and_encoded_again(written: str, target: str) -> None:
    assert encode_url(BASE + written).target == target


WITH_PARAMETERS = {
    "": "/?p%20q=r%2Fs",
    "/a b": "/a%20b?p%20q=r%2Fs",
    "/x?": "/x?p%20q=r%2Fs",
    "?x=a?b:c": "/?x=a%3Fb%3Ac&p%20q=r%2Fs",
    "?e=&f": "/?e&f&p%20q=r%2Fs",
    "?$select=a,b": "/?%24select=a%2Cb&p%20q=r%2Fs",
    "?a=1;b=2": "/?a=1%3Bb%3D2&p%20q=r%2Fs",
    "?a=b&a=c": "/?a=b&a=c&p%20q=r%2Fs",
    "?a=~": "/?a=~&p%20q=r%2Fs",
}


@pytest.mark.parametrize(("written", "target"), WITH_PARAMETERS.items(), ids=WITH_PARAMETERS)
def test_with_parameters_the_whole_query_is_escaped(written: str, target: str) -> None:
    assert encode_url(BASE + written, [("p q", "r/s")]).target == target


@pytest.mark.parametrize(
    ("parameters", "query"),
    [
        ([("n", None)], "n"),
        ([("e", "")], "e="),
        ([("", "x")], "=x"),
        ([("a/?", "~-._!*'()")], "a%2F%3F=~-._%21%2A%27%28%29"),
        ([("DateSent>", "x")], "DateSent%3E=x"),
        ([("a", "1"), ("a", "2")], "a=1&a=2"),
        ([("u", "ü€ +&=%")], "u=%C3%BC%E2%82%AC%20%2B%26%3D%25"),
    ],
)
def test_parameters_are_escaped_and_a_null_is_a_bare_name(parameters: list[tuple[str, str | None]], query: str) -> None:
    assert encode_url(BASE + "/x?q=1&r", parameters).target == f"/x?q=1&r&{query}"
    assert verbatim_url(BASE + "/x", parameters).target == f"/x?{query}"


VERBATIM = {
    "/a%2Cb+c": "/a%2Cb+c",
    "/%ff%41": "/%ff%41",
    "/ü": "/ü",
    "/a?": "/a?",
    "?e=&&=1": "/?e=&&=1",
    "?a[]=1": "/?a[]=1",
    "#frag": "/",
    "/a/../b": "/a/../b",
}


@pytest.mark.parametrize(("written", "target"), VERBATIM.items(), ids=VERBATIM)
def test_a_verbatim_url_stays_as_it_is(written: str, target: str) -> None:
    assert verbatim_url(BASE + written).target == target


def test_parameters_escape_the_query_of_a_verbatim_url_but_not_its_path() -> None:
    assert verbatim_url(BASE + "/a%2Cb?e=&a+b=%41,c", [("p", "1")]).target == "/a%2Cb?e=&a%2Bb=A%2Cc&p=1"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("/a b", "Illegal character in path at index 15"),
        ("/[1]", "Illegal character in path at index 14"),
        ("/a?b c", "Illegal character in query at index 17"),
        ("/a#b c", "Illegal character in fragment at index 17"),
        ("/a%zz", "Malformed escape pair at index 15"),
    ],
)
def test_a_verbatim_url_that_is_no_uri_is_refused_and_the_place_is_named(written: str, message: str) -> None:
    with pytest.raises(MalformedUrl) as e:
        verbatim_url(BASE + written)
    assert str(e.value) == f"{message}: {BASE}{written}"


@pytest.mark.parametrize("written", ["/a%zz", "/%", "?a=%4", "/%uabcd"])
def test_an_escape_that_is_none_is_refused(written: str) -> None:
    with pytest.raises(MalformedUrl, match="Malformed escape pair"):
        encode_url(BASE + written)


@pytest.mark.parametrize(
    "url", ["http://", "http:///a", "http://?a", "http://:80/", "http://h:abc/", "http://h:99999/"]
)
def test_a_url_without_a_host_says_so(url: str) -> None:
    with pytest.raises(InvalidUrl) as e:
        encode_url(url)
    assert str(e.value) == (
        f"Invalid URL: The URL '{url}' cannot be parsed as a valid HTTP request. "
        "Please ensure the URL includes a valid hostname."
    )


@pytest.mark.parametrize("url", ["", "host/path", "ftp://h/", "{{x}}", "secrets.X"])
def test_a_url_without_an_http_scheme_says_so(url: str) -> None:
    with pytest.raises(InvalidUrl, match=r"includes a valid scheme\.$"):
        encode_url(url)


@pytest.mark.parametrize("url", ["http://u:p@h/", "http://u@h/", "http://good.example@127.0.0.1/"])
def test_user_info_is_refused(url: str) -> None:
    with pytest.raises(HttpProtocolError):
        encode_url(url)


@pytest.mark.parametrize("url", ["http://h\\@x/", "http://a b/", "http://h\t/x"])
def test_a_host_with_a_character_no_host_has_is_refused(url: str) -> None:
    with pytest.raises(MalformedUrl, match="Illegal character in authority"):
        encode_url(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("http://Example.COM/", "Example.COM", 80, "Example.COM"),
        ("https://h/", "h", 443, "h"),
        ("http://h:80/", "h", 80, "h:80"),
        ("http://h:/", "h", 80, "h"),
        ("http://[::1]:81/", "::1", 81, "[::1]:81"),
        ("http://bücher.example/", "xn--bcher-kva.example", 80, "xn--bcher-kva.example"),
        ("http://a_b.example/", "a_b.example", 80, "a_b.example"),
    ],
)
def test_host_and_port_are_taken_apart(url: str, host: str, port: int, authority: str) -> None:
    parsed = encode_url(url)
    assert (parsed.host, parsed.port, parsed.authority) == (host, port, authority)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="%#"), max_size=40))
def test_encoding_is_stable_and_safe_for_any_text(text: str) -> None:
    once = encode_url(f"{BASE}/x?{text}", [("p", text)])
    assert once.target.isascii()
    assert not set(once.target) & set(" \r\n\t\x00\x7f")
    assert encode_url(f"{BASE}{once.target}", [("q", "1")]).target.startswith("/x?")


@pytest.mark.parametrize(
    ("location", "target"),
    [("/b", "/b"), ("c", "/a/c"), ("?q=1", "/a/x?q=1"), ("/b c", "/b%20c"), ("//other/z", "/z"), ("/ü", "/%C3%BC")],
)
def test_a_redirect_is_resolved_against_the_url(location: str, target: str) -> None:
    assert encode_url(f"{BASE}/a/x").join(location).target == target


@pytest.mark.parametrize("location", ["ftp://x/", "javascript:alert(1)", "http://u:p@h/", "http://:1/"])
def test_a_redirect_to_what_is_no_http_url_is_refused(location: str) -> None:
    with pytest.raises(HttpProtocolError):
        encode_url(BASE).join(location)


def test_form_fields_use_a_plus_for_spaces_and_bare_names_for_nulls() -> None:
    assert form_urlencode([("a b", "x&ü*~"), ("n", None), ("e", "")]) == b"a+b=x%26%C3%BC%2A~&n&e="
