"""TLS contexts from the Java client's `ssl.*` properties: PEM and PKCS#12, in files or in the properties themselves."""

import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import load_pem_x509_certificates

from gateway import ConnectorInputException

_JKS_MAGIC: Final = b"\xfe\xed\xfe\xed"
_PEM: Final = b"-----BEGIN"
_CHAIN: Final = "ssl.keystore.certificate.chain"
_KEY: Final = "ssl.keystore.key"
_ADVICE: Final = (
    "is a Java keystore (JKS), which only Java can read: convert it with `keytool -importkeystore -srckeystore FILE "
    "-destkeystore FILE.p12 -deststoretype PKCS12` and give that file, or give PEM"
)


def tls_context(properties: Mapping[str, str]) -> ssl.SSLContext:
    """The context for a broker. Without a trust store the system's is used.

    Raises ConnectorInputException, which names the property and never shows what was in it.
    """
    trusted = _trusted(properties)
    try:
        context = ssl.create_default_context(cadata=trusted)
    except (ssl.SSLError, ValueError) as e:
        raise _refused("ssl.truststore.location", "expected certificates in PEM") from e
    context.verify_flags &= ~getattr(
        ssl, "VERIFY_X509_STRICT", 0
    )  # as the Java client: company authorities lack extensions
    if properties.get("ssl.endpoint.identification.algorithm", "https").strip() == "":
        context.check_hostname = False
    pair = _pair(properties)
    if pair:
        with _readable(pair) as path:
            try:
                context.load_cert_chain(path)
            except (ssl.SSLError, OSError):
                raise _refused("ssl.keystore.location", "the certificate and the private key do not fit") from None
    return context


def _trusted(properties: Mapping[str, str]) -> str | None:
    text = properties.get("ssl.truststore.certificates")
    if text:
        return _lines(text).decode()
    content, name = _file(properties, "ssl.truststore.location", "ssl.ca.location")
    if content is None:
        return None
    if content.lstrip().startswith(_PEM):
        return content.decode("ascii", "replace")
    return _certificates(content, properties.get("ssl.truststore.password"), name).decode()


def _pair(properties: Mapping[str, str]) -> bytes | None:
    """The client's certificates and its key as PEM, unencrypted."""
    password = properties.get("ssl.key.password") or properties.get("ssl.keystore.password")
    if properties.get(_CHAIN) and properties.get(_KEY):
        return _lines(properties[_CHAIN]) + b"\n" + _plain(_lines(properties[_KEY]), password, _KEY)
    content, name = _file(properties, "ssl.keystore.location", "ssl.certificate.location")
    if content is None:
        return None
    key, key_name = _file(properties, "ssl.key.location")
    if content.lstrip().startswith(_PEM):
        return _leaf_first(content, name) + b"\n" + _plain(key or content, password, key_name if key else name)
    return _unpacked(content, properties.get("ssl.keystore.password") or password, name)


def _file(properties: Mapping[str, str], *names: str) -> tuple[bytes | None, str]:
    for name in names:
        path = properties.get(name)
        if path and path.strip():
            try:
                content = Path(path.strip()).read_bytes()
            except OSError as e:
                raise _refused(name, f"the file cannot be read: {e.strerror}") from None
            if content.startswith(_JKS_MAGIC):
                raise _refused(name, _ADVICE)
            return content, name
    return None, names[0]


def _plain(key: bytes, password: str | None, name: str) -> bytes:
    begin = key.find(b"-----BEGIN", max(0, key.find(b"PRIVATE KEY") - 40))
    try:
        secret = password.encode() if password and b"ENCRYPTED" in key else None
        loaded = load_pem_private_key(key[begin:], secret)
        return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    except (ValueError, TypeError):
        raise _refused(name, "expected a private key in PEM, and its password where it is encrypted") from None


def _leaf_first(content: bytes, name: str) -> bytes:
    try:
        found = load_pem_x509_certificates(content)
    except ValueError:
        raise _refused(name, "expected certificates in PEM") from None
    return b"".join(each.public_bytes(Encoding.PEM) for each in found)


def _certificates(content: bytes, password: str | None, name: str) -> bytes:
    store = _pkcs12(content, password, name)
    found = [each.certificate for each in (store.cert, *store.additional_certs) if each is not None]
    if not found:
        raise _refused(name, "no certificates in it")
    return b"".join(each.public_bytes(Encoding.PEM) for each in found)


def _unpacked(content: bytes, password: str | None, name: str) -> bytes:
    store = _pkcs12(content, password, name)
    if store.key is None:
        raise _refused(name, "no private key in it")
    key = store.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return _certificates(content, password, name) + key


def _pkcs12(content: bytes, password: str | None, name: str) -> pkcs12.PKCS12KeyAndCertificates:
    try:
        return pkcs12.load_pkcs12(content, password.encode() if password else None)
    except ValueError:
        raise _refused(name, "neither PEM nor PKCS#12, or the password does not open it") from None


def _lines(pem: str) -> bytes:
    """PEM as typed into a form: escaped line breaks, or blanks in their place, become line breaks."""
    text = pem.strip().replace("\\n", "\n")
    if "\n" not in text:
        text = text.replace("-----BEGIN ", "-----BEGIN_").replace("-----END ", "-----END_")
        text = text.replace(" PRIVATE KEY", "_PRIVATE_KEY").replace(" ", "\n").replace("_", " ")
    return text.encode()


@contextmanager
def _readable(content: bytes) -> Iterator[str]:
    """A path with this content for as long as the block lasts: OpenSSL takes no bytes. Only the owner can read it."""
    descriptor, path = tempfile.mkstemp()
    try:
        os.write(descriptor, content)
        os.close(descriptor)
        yield path
    finally:
        Path(path).unlink()


def _refused(name: str, words: str) -> ConnectorInputException:
    return ConnectorInputException(f"Kafka property '{name}': {words}")
