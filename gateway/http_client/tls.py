"""Client certificates and own trust stores, from PEM text."""

import hashlib
import os
import ssl
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.http_client.errors import TlsMaterialError

CONTEXTS_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """PEM text for one target. A trusted certificate replaces the system's trust store. Shows nothing of itself."""

    certificate: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    key_password: str | None = field(default=None, repr=False)
    trusted: str | None = field(default=None, repr=False)

    def digest(self) -> str:
        """A key for caches that reveals nothing."""
        parts = (self.certificate, self.private_key, self.key_password, self.trusted)
        return hashlib.sha256("\x00".join(p or "" for p in parts).encode("utf-8", "surrogatepass")).hexdigest()


def tls_material(
    certificate: str | None, private_key: str | None, key_password: str | None, trusted: str | None
) -> TlsMaterial | None:
    """The material of a request; None when nothing is given. Blank counts as absent.

    Raises TlsMaterialError when only one of certificate and key is there.
    """
    certificate, private_key, key_password, trusted = (
        text if text and text.strip() else None for text in (certificate, private_key, key_password, trusted)
    )
    if (certificate is None) != (private_key is None):
        raise TlsMaterialError(
            "mTLS client authentication requires both a client certificate and a private key; only one was provided."
        )
    if certificate is None and trusted is None:
        return None
    return TlsMaterial(certificate, private_key, key_password, trusted)


class TlsContexts:
    """SSL contexts by material, the most recently used ones kept."""

    def __init__(self, limit: int = CONTEXTS_KEPT) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, material: TlsMaterial | None) -> ssl.SSLContext:
        """The context of the material, or the default one. Raises TlsMaterialError."""
        if material is None:
            return _default_context()
        key = material.digest()
        context = self._kept.get(key)
        if context is None:
            context = self._kept[key] = _build(material)
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return context


@cache
def _default_context() -> ssl.SSLContext:
    return _lenient(ssl.create_default_context())


def _lenient(context: ssl.SSLContext) -> ssl.SSLContext:
    # Python 3.13 refuses certificates that other clients take: those of company authorities without key identifiers.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _build(material: TlsMaterial) -> ssl.SSLContext:
    try:
        if material.trusted is None:
            context = _lenient(ssl.create_default_context())
        else:
            context = _lenient(ssl.create_default_context(cadata=_lines(material.trusted)))
        if material.certificate is not None and material.private_key is not None:
            _load_pair(context, material.certificate, material.private_key, material.key_password)
    except (ValueError, TypeError, OSError, UnsupportedAlgorithm):  # what they say may quote the material
        raise TlsMaterialError("Failed to build SSL context for mTLS from the provided certificate material") from None
    return context


def _load_pair(context: ssl.SSLContext, certificate: str, private_key: str, password: str | None) -> None:
    key = _lines(private_key).encode()
    encrypted = b"ENCRYPTED" in key
    loaded = load_pem_private_key(key, password.encode() if password and encrypted else None)
    plain = loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with _readable(_lines(certificate).encode() + b"\n" + plain) as path:
        context.load_cert_chain(path)


def _lines(pem: str) -> str:
    """PEM as typed into a form: escaped line breaks become line breaks."""
    return pem.strip().replace("\\n", "\n") if "\n" not in pem.strip() else pem.strip()


@contextmanager
def _readable(content: bytes) -> Iterator[str]:
    """A path with this content for as long as the block lasts: OpenSSL takes no bytes. In memory where the system can."""
    create = getattr(os, "memfd_create", None)
    if create is not None:
        descriptor = create("tls")
        path = f"/proc/self/fd/{descriptor}"
    else:
        descriptor, path = tempfile.mkstemp()
    try:
        os.write(descriptor, content)
        yield path
    finally:
        os.close(descriptor)
        if create is None:
            Path(path).unlink()
