import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    serialize_key_and_certificates,
)

from gateway.engine.settings import AuthSettings, SettingsError
from gateway.engine.tls import channel_credentials, load_authorities, load_identity, rest_context, token_context

KEY = "auth.keystore-path"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pem(authority: trustme.CA) -> bytes:
    return authority.issue_cert("me").private_key_and_cert_chain_pem.bytes()


def test_a_pem_file_holds_key_and_certificate(pem: bytes, tmp_path: Path) -> None:
    (tmp_path / "me.pem").write_bytes(pem)
    identity = load_identity(KEY, tmp_path / "me.pem")
    assert identity.certificate == x509.load_pem_x509_certificates(pem)[0]
    assert identity.key.public_key() == identity.certificate.public_key()


def test_an_encrypted_key_needs_its_password(pem: bytes, tmp_path: Path) -> None:
    key = load_pem_private_key(pem, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hidden-1")
    )
    certificate = x509.load_pem_x509_certificates(pem)[0].public_bytes(Encoding.PEM)
    (tmp_path / "me.pem").write_bytes(key + certificate)
    assert load_identity(KEY, tmp_path / "me.pem", key_password="hidden-1").chain == ()
    with pytest.raises(SettingsError, match=KEY) as caught:
        load_identity(KEY, tmp_path / "me.pem", password="hidden-2")
    assert "hidden" not in str(caught.value)


def test_a_pkcs12_file_holds_key_certificate_and_chain(authority: trustme.CA, pem: bytes, tmp_path: Path) -> None:
    root = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    certificate = x509.load_pem_x509_certificates(pem)[0]
    store = serialize_key_and_certificates(
        b"me",
        load_pem_private_key(pem, None),  # type: ignore[arg-type]
        certificate,
        [root],
        BestAvailableEncryption(b"pw"),
    )
    (tmp_path / "me.p12").write_bytes(store)
    identity = load_identity(KEY, tmp_path / "me.p12", password="pw")
    assert (identity.certificate, identity.chain) == (certificate, (root,))
    with pytest.raises(SettingsError, match=KEY):
        load_identity(KEY, tmp_path / "me.p12", password="wrong")


@pytest.mark.parametrize("magic", [b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"])
def test_a_java_keystore_is_refused_with_the_way_out(magic: bytes, tmp_path: Path) -> None:
    (tmp_path / "store.jks").write_bytes(magic + bytes(20))
    with pytest.raises(SettingsError, match=r"auth\.keystore-path.*JKS.*keytool -importkeystore"):
        load_identity(KEY, tmp_path / "store.jks")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ca-certificate-path: cannot read .*none\.pem"):
        load_authorities("ca-certificate-path", tmp_path / "none.pem")


def test_a_file_without_sense_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_bytes(b"hello")
    with pytest.raises(SettingsError, match="no readable certificates"):
        load_authorities("ca-certificate-path", tmp_path / "x.pem")
    with pytest.raises(SettingsError, match="no readable key"):
        load_identity(KEY, tmp_path / "x.pem")


def test_a_store_without_a_key_is_no_identity(authority: trustme.CA, tmp_path: Path) -> None:
    root = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    (tmp_path / "trust.p12").write_bytes(serialize_key_and_certificates(None, None, None, [root], NoEncryption()))
    with pytest.raises(SettingsError, match="no private key"):
        load_identity(KEY, tmp_path / "trust.p12")


@pytest.mark.parametrize("kind", ["pem", "p12"])
def test_authorities_come_from_pem_and_pkcs12(authority: trustme.CA, tmp_path: Path, kind: str) -> None:
    root = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    data = (
        authority.cert_pem.bytes()
        if kind == "pem"
        else serialize_key_and_certificates(None, None, None, [root], BestAvailableEncryption(b"pw"))
    )
    (tmp_path / "trust").write_bytes(data)
    found = load_authorities("auth.truststore-path", tmp_path / "trust", "pw")
    assert x509.load_pem_x509_certificates(found) == [root]


def test_contexts_trust_the_given_authority_alone(authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for context in (
        rest_context(tmp_path / "ca.pem"),
        token_context(AuthSettings(truststore_path=tmp_path / "ca.pem")),
    ):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert len(context.get_ca_certs()) == 1
    assert channel_credentials(tmp_path / "ca.pem") is not None
    assert rest_context(None).verify_mode is ssl.CERT_REQUIRED
