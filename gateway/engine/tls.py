"""Keys and certificates: what is trusted, and who we prove to be.

Certificates are read as PEM or PKCS#12. Java's own formats (JKS, JCEKS) are refused with the command that converts them.
"""

import secrets
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from gateway.engine.settings import AuthSettings, SettingsError

if TYPE_CHECKING:
    import grpc

_JAVA_MAGIC: Final = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key with its certificate and the certificates between it and the root."""

    key: PrivateKeyTypes
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()


def _read(key: str, path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as e:
        raise SettingsError(f"{key}: cannot read {path}: {e.strerror}") from None
    if data.startswith(_JAVA_MAGIC):
        raise SettingsError(
            f"{key}: {path} is a Java keystore (JKS); expected PEM or PKCS#12. To convert it: "
            f"keytool -importkeystore -srckeystore {path.name} -destkeystore {path.stem}.p12 -deststoretype PKCS12"
        )
    return data


def load_identity(
    key: str, path: Path, *, password: str | None = None, key_password: str | None = None, alias: str | None = None
) -> Identity:
    """Reads a private key and its certificate; `key` is the setting that errors name."""
    data = _read(key, path)
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            secret = key_password or password
            certificate, *chain = x509.load_pem_x509_certificates(data)
            return Identity(load_pem_private_key(data, secret.encode() if secret else None), certificate, tuple(chain))
        store = load_pkcs12(data, password.encode() if password else None)
    except (ValueError, TypeError) as e:
        raise SettingsError(f"{key}: {path} holds no readable key and certificate: {e}") from None
    if store.key is None or store.cert is None:
        raise SettingsError(f"{key}: {path} holds no private key with its certificate")
    name = (store.cert.friendly_name or b"").decode()
    if alias and name and name.lower() != alias.lower():
        raise SettingsError(f"{key}: {path} holds no key with the alias {alias!r}, only {name!r}")
    return Identity(store.key, store.cert.certificate, tuple(one.certificate for one in store.additional_certs))


def load_authorities(key: str, path: Path, password: str | None = None) -> bytes:
    """The certificates of a trust store, as PEM; `key` is the setting that errors name."""
    data = _read(key, path)
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            certificates = x509.load_pem_x509_certificates(data)
        else:
            store = load_pkcs12(data, password.encode() if password else None)
            certificates = [one.certificate for one in (store.cert, *store.additional_certs) if one is not None]
    except (ValueError, TypeError) as e:
        raise SettingsError(f"{key}: {path} holds no readable certificates: {e}") from None
    if not certificates:
        raise SettingsError(f"{key}: {path} holds no certificate")
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def channel_credentials(ca_certificate_path: Path | None) -> "grpc.ChannelCredentials":
    """TLS for gRPC by grpcio, trusting this authority alone, or grpc's own list when there is none."""
    import grpc

    roots = None if ca_certificate_path is None else load_authorities("ca-certificate-path", ca_certificate_path)
    return grpc.ssl_channel_credentials(root_certificates=roots)


def channel_context(ca_certificate_path: Path | None) -> ssl.SSLContext:
    """TLS for gRPC by our own HTTP/2, trusting this authority alone, or the system's when there is none."""
    context = rest_context(ca_certificate_path)
    context.set_alpn_protocols(["h2"])
    return context


def rest_context(ca_certificate_path: Path | None) -> ssl.SSLContext:
    """TLS for REST, trusting this authority alone, or the system's when there is none."""
    if ca_certificate_path is None:
        return ssl.create_default_context()
    return ssl.create_default_context(cadata=load_authorities("ca-certificate-path", ca_certificate_path).decode())


def token_context(auth: AuthSettings) -> ssl.SSLContext:
    """TLS for the token endpoint: `auth.truststore-*` says what is trusted, `auth.keystore-*` who we are."""
    context = ssl.create_default_context()
    if auth.truststore_path is not None:
        roots = load_authorities("auth.truststore-path", auth.truststore_path, auth.truststore_password)
        context = ssl.create_default_context(cadata=roots.decode())
    if auth.keystore_path is not None:
        identity = load_identity(
            "auth.keystore-path",
            auth.keystore_path,
            password=auth.keystore_password,
            key_password=auth.keystore_key_password,
        )
        _add_identity(context, identity)
    return context


def _add_identity(context: ssl.SSLContext, identity: Identity) -> None:
    # The ssl module takes keys from files only: one that nobody else may read, encrypted, for as long as this takes.
    password = secrets.token_urlsafe(32)
    pem = identity.key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode())
    ) + b"".join(one.public_bytes(Encoding.PEM) for one in (identity.certificate, *identity.chain))
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name, password=password)
