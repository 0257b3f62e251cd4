"""Intrinsic functions: calls inside of input variables, and the references that are resolved on the same walk."""

import base64
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.documents import Document, Documents, EngineStore, InvalidReference
from gateway.engine.embedded import EmbeddedEngine
from gateway.intrinsic import IntrinsicError, Intrinsics, pem_key
from gateway.testing import FakeHttp


@pytest.fixture
async def store() -> AsyncIterator[EngineStore]:
    engine = EmbeddedEngine()
    yield EngineStore(engine)
    await engine.close()


@pytest.fixture
def intrinsics(store: EngineStore) -> Intrinsics:
    return Intrinsics(Documents(store), None)


def call(name: Any, *params: Any) -> dict[str, Any]:
    return {"camunda.function.type": name, "params": list(params)}


def inline(content: Any) -> dict[str, Any]:
    return {"camunda.document.type": "inline", "content": content, "name": "n"}


async def refusal(intrinsics: Intrinsics, value: Any) -> str:
    with pytest.raises(IntrinsicError) as caught:
        await intrinsics.resolve(value)
    return str(caught.value)


async def test_references_become_documents_at_any_depth(intrinsics: Intrinsics) -> None:
    found = await intrinsics.resolve({"a": [{"b": inline("x")}], "c": 5, "d": {"e": None}})
    assert isinstance(found["a"][0]["b"], Document)
    assert found["c"] == 5
    assert found["d"] == {"e": None}


async def test_a_wrong_reference_is_no_failed_call(intrinsics: Intrinsics) -> None:
    with pytest.raises(InvalidReference):
        await intrinsics.resolve({"a": {"camunda.document.type": "ftp"}})


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (call("base64", "grüße"), base64.b64encode("grüße".encode()).decode()),
        (call("base64", inline("x")), "eA=="),
        (call("getText", inline("grüße")), "grüße"),
        (call("getText", inline("ü"), "ISO-8859-1"), "Ã¼"),
        (call("getText", inline("x"), None), "x"),
        (call("getJson", inline('{"a": {"b": 1.0}}')), {"a": {"b": 1}}),
        (call("getJson", inline({"a": {"b": [1, 2]}}), "a.b[2]"), 2),
        (call("getJson", inline({"a": 1}), "nothing"), None),
        (call("base64", call("getText", inline("x"))), "eA=="),
    ],
)
async def test_calls_become_their_results(intrinsics: Intrinsics, value: Any, result: Any) -> None:
    assert await intrinsics.resolve({"x": [value]}) == {"x": [result]}


@pytest.mark.parametrize(("params", "seconds"), [([], None), ([None], None), (["PT1H"], 3600.0)])
async def test_create_link_gives_the_stores_url(store: EngineStore, params: list[Any], seconds: float | None) -> None:
    class Linking(EngineStore):
        async def link(self, reference: Mapping[str, Any], time_to_live: timedelta | None) -> str:
            return f"{reference['documentId']}, {time_to_live and time_to_live.total_seconds()}"

    own = Intrinsics(Documents(Linking(store._queries)), None)
    reference = {"camunda.document.type": "camunda", "documentId": "d"}
    assert await own.resolve(call("createLink", reference, *params)) == f"d, {seconds}"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (call("nope", "s3cr3t"), "nope: there is no function of this name"),
        (call({"a": "s3cr3t"}), "dict: there is no function of this name"),
        (call("base64"), "base64: it cannot be called with 0 parameters"),
        (call("base64", "s3cr3t", "s3cr3t"), "base64: it cannot be called with 2 parameters"),
        (call("base64", None), "base64: 'content' must be a document or text, but is null"),
        (call("base64", {"a": "s3cr3t"}), "base64: 'content' must be a document or text, but is dict"),
        (call("getText", "s3cr3t"), "getText: 'document' must be a document, but is str"),
        (call("getText", inline("s3cr3t"), "klingon"), "getText: 'charset' is not a known charset"),
        (call("getJson", inline("s3cr3t")), "getJson: the document holds no JSON"),
        (call("getJson", inline("[1]")), "getJson: the document's root must be a JSON object"),
        (call("getJson", inline("{}"), "=a"), "getJson: 'expression' cannot be evaluated: FeelParseError"),
        (call("createLink", inline("s3cr3t")), "createLink: ValueError"),
        (call("createLink", inline("x"), "soon"), "createLink: 'ttl' must be an ISO-8601 duration, such as PT1H"),
        ({"camunda.function.type": "base64", "params": "s3cr3t"}, "base64: 'params' must be a list"),
        (
            call("createGithubAppInstallationToken", "k", "1", "2"),
            "createGithubAppInstallationToken: there is no HTTP client here",
        ),
    ],
)
async def test_a_failed_call_is_named_without_its_arguments(intrinsics: Intrinsics, value: Any, reason: str) -> None:
    text = await refusal(intrinsics, {"a": value})
    assert text == f"Failed to execute intrinsic function: {reason}"
    assert "s3cr3t" not in text


async def test_ten_calls_are_allowed_and_no_more(intrinsics: Intrinsics) -> None:
    assert await intrinsics.resolve([call("base64", "x")] * 10) == ["eA=="] * 10
    assert await refusal(intrinsics, [call("base64", "x")] * 11) == "Intrinsic function limit exceeded"
    assert await intrinsics.resolve([call("base64", "x")]) == ["eA=="]


async def test_own_functions_can_be_added_and_whatever_they_raise_is_wrapped(store: EngineStore) -> None:
    async def twice(value: Any) -> Any:
        return value * 2

    async def broken() -> Any:
        raise TypeError("s3cr3t")

    own = Intrinsics(Documents(store), None, {"twice": twice, "broken": broken})
    assert await own.resolve(call("twice", "x")) == "xx"
    assert await refusal(own, call("broken")) == "Failed to execute intrinsic function: broken: TypeError"


# ---- GitHub ----------------------------------------------------------------------------------------------------------

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PKCS1 = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
PKCS8 = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    "key",
    [PKCS1, PKCS8, PKCS8.replace("\n", "\\n"), PKCS8.replace("\n", " "), PKCS1.replace("\n", ""), f"\n {PKCS8} \n"],
    ids=["pkcs1", "pkcs8", "escaped", "spaces", "one line", "padded"],
)
async def test_a_github_token_is_asked_for_with_a_signed_claim(store: EngineStore, key: str) -> None:
    http = FakeHttp(lambda _: (201, {"token": "ghs_1"}))
    found = await Intrinsics(Documents(store), http).resolve(call("createGithubAppInstallationToken", key, 123, "4/5"))
    assert found == "ghs_1"
    (request,) = http.requests
    assert (request.method, str(request.url)) == (
        "POST",
        "https://api.github.com/app/installations/4%2F5/access_tokens",
    )
    headers = dict(request.headers)
    assert headers["Accept"] == "application/vnd.github.v3+json"
    claims = jwt.decode(headers["Authorization"].removeprefix("Bearer "), KEY.public_key(), algorithms=["RS256"])
    assert claims["iss"] == "123"
    assert claims["exp"] - claims["iat"] == 60


@pytest.mark.parametrize(
    ("params", "answer", "reason"),
    [
        (["s3cr3t", 1, 2], {}, "'privateKey' must be a PEM key"),
        ([None, 1, 2], {}, "'privateKey' must be a PEM key, but is null"),
        (["-----BEGIN PRIVATE KEY-----s3cr3t-----END PRIVATE KEY-----", 1, 2], {}, "'privateKey' is no RSA key in PEM"),
        ([PKCS8, None, 2], {}, "'appId' must be text, but is null"),
        ([PKCS8, 1, None], {}, "'installationId' must be text, but is null"),
        ([PKCS8, 1, 2], (401, {"message": "s3cr3t"}), "GitHub answered with status 401 and no token"),
        ([PKCS8, 1, 2], (201, {}), "GitHub answered with status 201 and no token"),
    ],
)
async def test_a_failed_token_says_why_and_never_shows_the_key(
    store: EngineStore, params: list[Any], answer: Any, reason: str
) -> None:
    own = Intrinsics(Documents(store), FakeHttp(lambda _: answer))
    text = await refusal(own, call("createGithubAppInstallationToken", *params))
    assert text == f"Failed to execute intrinsic function: createGithubAppInstallationToken: {reason}"


def test_a_pem_key_gets_its_lines_back() -> None:
    assert pem_key(PKCS8.replace("\n", "")) == PKCS8
