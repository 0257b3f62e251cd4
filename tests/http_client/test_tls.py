"""TLS and client certificates, against real handshakes."""

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.http_client import (
    HttpClient,
    HttpConnectionError,
    HttpRequest,
    HttpTlsError,
    TlsMaterial,
    TlsMaterialError,
    encode_url,
    tls_material,
)
from gateway.http_client.tls import TlsContexts
from tests.http_client.servers import Reply, Stub, running

# Since TLS 1.3 a client learns only after the handshake that its certificate is missed: by an alert, or by being cut off.
REFUSED = (HttpTlsError, HttpConnectionError)


@dataclass
class Secure:
    """A server that asks for client certificates, and what a client needs for it."""

    stub: Stub
    authority: trustme.CA
    client: trustme.LeafCert

    @property
    def trusted(self) -> str:
        return self.authority.cert_pem.bytes().decode()

    @property
    def certificate(self) -> str:
        return "".join(blob.bytes().decode() for blob in self.client.cert_chain_pems)

    def key(self, form: PrivateFormat, password: str | None = None) -> str:
        loaded = load_pem_private_key(self.client.private_key_pem.bytes(), None)
        protection = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        return loaded.private_bytes(Encoding.PEM, form, protection).decode()


async def _serving(verify: ssl.VerifyMode, key_type: trustme.KeyType = trustme.KeyType.RSA) -> AsyncIterator[Secure]:
    authority = trustme.CA(key_type=key_type)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = verify
    async with running(Stub(), context) as stub:
        yield Secure(stub, authority, authority.issue_cert("client@test", key_type=key_type))


@pytest.fixture
async def secure() -> AsyncIterator[Secure]:
    async for server in _serving(ssl.CERT_NONE):
        yield server


@pytest.fixture(params=[trustme.KeyType.RSA, trustme.KeyType.ECDSA], ids=["rsa", "ec"])
async def mutual(request: pytest.FixtureRequest) -> AsyncIterator[Secure]:
    async for server in _serving(ssl.CERT_REQUIRED, request.param):
        yield server


async def call(http: HttpClient, server: Secure, tls: TlsMaterial | None) -> int:
    return (await http.send(HttpRequest("GET", encode_url(server.stub.url("/")), tls=tls))).status


async def test_a_server_of_an_unknown_authority_is_refused_and_the_remedy_named(
    secure: Secure, http: HttpClient
) -> None:
    with pytest.raises(HttpTlsError) as e:
        await call(http, secure, None)
    assert e.value.code == "SSL_HANDSHAKE_FAILED"
    assert str(e.value).startswith("TLS handshake failed: ")
    assert "clientTls.trustedCertificate" in str(e.value)
    assert secure.stub.received == []


async def test_a_trusted_certificate_replaces_the_trust_store(secure: Secure, http: HttpClient) -> None:
    assert await call(http, secure, TlsMaterial(trusted=secure.trusted)) == 200
    other = trustme.CA().cert_pem.bytes().decode()
    with pytest.raises(HttpTlsError):
        await call(http, secure, TlsMaterial(trusted=other))


async def test_a_certificate_for_another_name_is_refused(secure: Secure, http: HttpClient) -> None:
    url = encode_url(secure.stub.url("/", "localhost"))
    with pytest.raises(HttpTlsError):
        await http.send(HttpRequest("GET", url, tls=TlsMaterial(trusted=secure.trusted)))


@pytest.mark.parametrize(
    ("form", "password"),
    [(PrivateFormat.TraditionalOpenSSL, None), (PrivateFormat.PKCS8, None), (PrivateFormat.PKCS8, "pass"),
     (PrivateFormat.TraditionalOpenSSL, "pass")],
    ids=["traditional", "pkcs8", "pkcs8-encrypted", "traditional-encrypted"],
)  # fmt: skip
async def test_a_client_certificate_is_shown(
    mutual: Secure, http: HttpClient, form: PrivateFormat, password: str | None
) -> None:
    tls = tls_material(mutual.certificate, mutual.key(form, password), password, mutual.trusted)
    assert await call(http, mutual, tls) == 200


async def test_a_blank_password_and_escaped_line_breaks_are_understood(mutual: Secure, http: HttpClient) -> None:
    one_line = mutual.key(PrivateFormat.PKCS8).replace("\n", "\\n")
    tls = tls_material(mutual.certificate.replace("\n", "\\n"), one_line, " ", mutual.trusted)
    assert await call(http, mutual, tls) == 200


async def test_without_the_certificate_that_is_asked_for_nothing_is_answered(mutual: Secure, http: HttpClient) -> None:
    with pytest.raises(REFUSED) as e:
        await call(http, mutual, TlsMaterial(trusted=mutual.trusted))
    assert e.value.code in {"SSL_HANDSHAKE_FAILED", "408"}
    assert mutual.stub.received == []


async def test_a_redirect_to_another_origin_gets_no_client_certificate(mutual: Secure, http: HttpClient) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    mutual.authority.issue_cert("127.0.0.1").configure_cert(context)
    mutual.authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    async with running(Stub(), context) as other:
        mutual.stub.reply(Reply(302, headers=[("Location", other.url("/"))]))
        tls = tls_material(mutual.certificate, mutual.key(PrivateFormat.PKCS8), None, mutual.trusted)
        with pytest.raises(REFUSED):
            await http.send(HttpRequest("GET", encode_url(mutual.stub.url("/")), tls=tls, follow_redirects=True))
        assert other.received == []


@pytest.mark.parametrize(("certificate", "key"), [("CERT", None), (None, "KEY"), ("CERT", " "), ("", "KEY")])
def test_certificate_and_key_belong_together(certificate: str | None, key: str | None) -> None:
    with pytest.raises(TlsMaterialError) as e:
        tls_material(certificate, key, None, None)
    assert str(e.value) == (
        "mTLS client authentication requires both a client certificate and a private key; only one was provided."
    )


def test_no_material_is_none() -> None:
    assert tls_material(None, "", " ", None) is None


def test_material_that_cannot_be_used_is_refused_without_quoting_it() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hush")).decode()
    certificate = trustme.CA().issue_cert("a.test").cert_chain_pems[0].bytes().decode()
    for material in (
        TlsMaterial("junk", "hush"),
        TlsMaterial(certificate, locked),
        TlsMaterial(certificate, locked, "wrong"),
        TlsMaterial(certificate, locked, "hush"),  # opens, but belongs to another certificate
        TlsMaterial(trusted="junk"),
    ):
        with pytest.raises(TlsMaterialError) as e:
            TlsContexts().get(material)
        assert str(e.value) == "Failed to build SSL context for mTLS from the provided certificate material"
        assert "hush" not in repr(material)
        assert e.value.__cause__ is None


def test_contexts_are_kept_by_material_and_bounded() -> None:
    contexts = TlsContexts(limit=2)
    materials = [TlsMaterial(trusted=trustme.CA().cert_pem.bytes().decode()) for _ in range(3)]
    first = contexts.get(materials[0])
    assert contexts.get(TlsMaterial(trusted=materials[0].trusted)) is first
    for material in materials[1:]:
        contexts.get(material)
    assert len(contexts) == 2
    assert contexts.get(materials[0]) is not first


async def test_connections_of_different_material_are_not_shared(secure: Secure, http: HttpClient) -> None:
    trusted = TlsMaterial(trusted=secure.trusted)
    await call(http, secure, trusted)
    await call(http, secure, trusted)
    assert secure.stub.connections == 1
    with pytest.raises(HttpTlsError):
        await call(http, secure, None)
