"""TLS contexts from `ssl.*` properties: PEM, PKCS#12, and what is refused."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import load_pem_x509_certificate

from connectors.kafka._tls import tls_context
from gateway import ConnectorInputException

PASSWORD = "changeit"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def client(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("client.example")


def handshake(context: ssl.SSLContext, authority: trustme.CA) -> str | None:
    """Connects to a server that wants a certificate of this authority; the name in the one it got."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("broker.example").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(to_client, to_server, server_hostname="broker.example")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(6):
        for each in (ours, theirs):
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                continue
    found: Any = theirs.getpeercert() or {}
    return next((value for _, value in found.get("subjectAltName", ())), None)


def test_a_client_certificate_in_pem_is_shown_to_the_broker(
    tmp_path: Path, authority: trustme.CA, client: trustme.LeafCert
) -> None:
    (tmp_path / "both.pem").write_bytes(client.private_key_and_cert_chain_pem.bytes())
    trusted = {"ssl.truststore.certificates": authority.cert_pem.bytes().decode()}
    context = tls_context({**trusted, "ssl.keystore.type": "PEM", "ssl.keystore.location": str(tmp_path / "both.pem")})
    assert handshake(context, authority) == "client.example"


def test_certificate_and_key_may_stand_in_the_properties(authority: trustme.CA, client: trustme.LeafCert) -> None:
    key = load_pem_private_key(client.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode()))
    chain = b"".join(each.bytes() for each in client.cert_chain_pems).decode()
    for spaced in ("\n", "\\n", " "):
        properties = {
            "ssl.truststore.certificates": authority.cert_pem.bytes().decode().strip().replace("\n", spaced),
            "ssl.keystore.certificate.chain": chain.strip().replace("\n", spaced),
            "ssl.keystore.key": locked.decode().strip().replace("\n", spaced),
            "ssl.key.password": PASSWORD,
        }
        assert handshake(tls_context(properties), authority) == "client.example"


def test_stores_may_be_pkcs12(tmp_path: Path, authority: trustme.CA, client: trustme.LeafCert) -> None:
    key = load_pem_private_key(client.private_key_pem.bytes(), None)
    leaf = load_pem_x509_certificate(client.cert_chain_pems[0].bytes())
    root = load_pem_x509_certificate(authority.cert_pem.bytes())
    lock = BestAvailableEncryption(PASSWORD.encode())
    (tmp_path / "key.p12").write_bytes(pkcs12.serialize_key_and_certificates(b"me", key, leaf, None, lock))  # type: ignore[arg-type]
    (tmp_path / "trust.p12").write_bytes(pkcs12.serialize_key_and_certificates(None, None, None, [root], lock))
    properties = {
        "ssl.truststore.location": str(tmp_path / "trust.p12"),
        "ssl.truststore.password": PASSWORD,
        "ssl.keystore.location": str(tmp_path / "key.p12"),
        "ssl.keystore.password": PASSWORD,
    }
    assert handshake(tls_context(properties), authority) == "client.example"
    with pytest.raises(
        ConnectorInputException, match=r"truststore\.location': neither PEM nor PKCS#12, or the password"
    ):
        tls_context({**properties, "ssl.truststore.password": "wrong"})


def test_names_of_hosts_are_checked_unless_switched_off() -> None:
    assert tls_context({}).check_hostname
    loose = tls_context({"ssl.endpoint.identification.algorithm": ""})
    assert not loose.check_hostname
    assert loose.verify_mode is ssl.CERT_REQUIRED


def test_a_java_keystore_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "store.jks").write_bytes(b"\xfe\xed\xfe\xed\x00\x00\x00\x02")
    with pytest.raises(ConnectorInputException) as refused:
        tls_context({"ssl.truststore.location": str(tmp_path / "store.jks"), "ssl.truststore.type": "JKS"})
    assert "'ssl.truststore.location': is a Java keystore" in str(refused.value)
    assert "keytool -importkeystore" in str(refused.value)


def test_a_file_that_is_not_there_is_named_by_its_property() -> None:
    with pytest.raises(ConnectorInputException, match=r"keystore\.location': the file cannot be read: No such file"):
        tls_context({"ssl.keystore.location": "/nowhere.pem"})


def test_errors_show_nothing_of_a_key(tmp_path: Path, authority: trustme.CA, client: trustme.LeafCert) -> None:
    key = load_pem_private_key(client.private_key_pem.bytes(), None)
    stranger = authority.issue_cert("other.example")
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    properties = {
        "ssl.keystore.certificate.chain": stranger.cert_chain_pems[0].bytes().decode(),
        "ssl.keystore.key": plain,
    }
    for broken in (plain, plain.replace("A", "B")):
        with pytest.raises(ConnectorInputException) as refused:
            tls_context({**properties, "ssl.keystore.key": broken})
        assert plain[40:60] not in str(refused.value)
