"""Where requests may go: the host check on addresses, and the operator's block list on URLs."""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import regex

from gateway.http_client.errors import EgressDenied, HttpBlocked
from gateway.http_client.urls import Url

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PATTERN_SECONDS: Final = 1.0
"""How long one pattern of the block list may take before the URL counts as blocked."""


def _networks(*ranges: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(r) for r in ranges)


# IANA special-purpose registries (RFC 6890 and its successors), without those of the private and loopback rules.
_RESERVED: Final = _networks(
    "0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
    "203.0.113.0/24", "240.0.0.0/4", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
    "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
)  # fmt: skip
_PRIVATE: Final = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")


class AddressDenied(OSError):  # noqa: N818 - reads as what it is
    """An address that the policy refuses, in the shape that the connection machinery passes through."""

    def __init__(self, host: str, address: str, reason: str) -> None:
        super().__init__(f"Host '{host}' resolved to '{address}' was denied: {reason}")


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Which addresses may be reached (`camunda.connector.validation.hosts.*`). Off by default.

    allow wins over everything, deny over the built-in ranges.
    """

    enabled: bool = False
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    allow_private: bool = False
    allow_loopback: bool = False

    @classmethod
    def of(
        cls,
        *,
        enabled: bool = True,
        allow_ranges: Sequence[str] = (),
        deny_ranges: Sequence[str] = (),
        allow_private: bool = False,
        allow_loopback: bool = False,
    ) -> "EgressPolicy":
        """From CIDR texts. ValueError names the text that is none."""
        allow = tuple(ipaddress.ip_network(r.strip(), strict=False) for r in allow_ranges)
        deny = tuple(ipaddress.ip_network(r.strip(), strict=False) for r in deny_ranges)
        return cls(enabled, allow, deny, allow_private, allow_loopback)

    def denial(self, address: str) -> str | None:
        """Why an address may not be reached (`DENY_...`), None when it may."""
        ip = _unmapped(ipaddress.ip_address(address.partition("%")[0]))
        if _within(ip, self.allow):
            return None
        if ip.is_unspecified or ip.is_multicast or ip.is_link_local or (ip.is_loopback and not self.allow_loopback):
            return "DENY_NOT_GLOBAL_UNICAST"
        if _within(ip, self.deny):
            return "DENY_USER_CONFIGURED"
        if not ip.is_loopback and _within(ip, _RESERVED):
            return "DENY_RESERVED_RANGE"
        if not self.allow_private and _within(ip, _PRIVATE):
            return "DENY_PRIVATE_RANGE"
        return None

    def check(self, host: str, address: str) -> None:
        """Raises AddressDenied when the policy is on and refuses the address."""
        if self.enabled and (reason := self.denial(address)) is not None:
            raise AddressDenied(host, address, reason)

    async def verify_host(self, host: str) -> None:
        """The check before a request: every address that the name resolves to must pass.

        Raises EgressDenied with the original's validation message. Does nothing when the policy is off.
        """
        if not self.enabled:
            return
        literal = canonical_address(host)
        try:
            if literal is not None:
                addresses = [literal]
            else:
                found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
                addresses = [str(entry[4][0]) for entry in found]
        except (OSError, UnicodeError):
            raise EgressDenied(f"Could not resolve host '{host}'") from None
        for address in addresses:
            try:
                self.check(host, address)
            except AddressDenied as e:
                raise EgressDenied(str(e)) from None


@lru_cache(1024)
def canonical_address(host: str) -> str | None:
    """The address that a literal stands for, also in its decimal, octal, hexadecimal and short forms; None for a name."""
    host = host.strip("[]")
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    if re.fullmatch(r"(?:0[xX][0-9a-fA-F]*|\d+)(?:\.(?:0[xX][0-9a-fA-F]*|\d+)){0,3}\.?", host):
        try:
            return socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
        except OSError:
            return None
    return None


def _unmapped(ip: Address) -> Address:
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


def _within(ip: Address, networks: Sequence[Network]) -> bool:
    return any(ip.version == n.version and ip in n for n in networks)


# ---- block list ------------------------------------------------------------------------------------------------------

_BLOCK = re.compile(r"CAMUNDA_CONNECTOR_HTTP_BLOCK_(URL|PORT|REGEX)(?:_(.+))?")


@dataclass(frozen=True, slots=True)
class BlockList:
    """What the operator forbids (`CAMUNDA_CONNECTOR_HTTP_BLOCK_{URL,PORT,REGEX}[_NAME]`): parts of URLs, ports, whole URLs."""

    parts: tuple[tuple[str, str], ...] = ()
    ports: tuple[tuple[str, frozenset[int]], ...] = ()
    patterns: tuple[tuple[str, "regex.Pattern[str]"], ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "BlockList":
        """Raises ValueError, naming the variable, for a port or pattern that is none."""
        parts: list[tuple[str, str]] = []
        ports: list[tuple[str, frozenset[int]]] = []
        patterns: list[tuple[str, regex.Pattern[str]]] = []
        for key, value in environment.items():
            match = _BLOCK.fullmatch(key)
            if match is None or not value.strip():
                continue
            kind, name = match[1], match[2] or "default"
            try:
                if kind == "URL":
                    parts.append((name, value))
                elif kind == "PORT":
                    ports.append((name, frozenset(int(p) for p in value.split(","))))
                else:
                    patterns.append((name, regex.compile(value)))
            except (ValueError, regex.error):
                expected = "ports, separated by commas" if kind == "PORT" else "a regular expression"
                raise ValueError(f"{key}: expected {expected}, but got {value!r}") from None
        return cls(tuple(parts), tuple(ports), tuple(patterns))

    def check(self, url: Url, written: str | None = None) -> None:
        """Raises HttpBlocked when the URL, as it goes out or as it was written, is forbidden."""
        if not (self.parts or self.ports or self.patterns):
            return
        spellings = {str(url), written or str(url)}
        for name, part in self.parts:
            if any(part in s for s in spellings):
                raise HttpBlocked("URL", name)
        for name, ports in self.ports:
            if url.port in ports:
                raise HttpBlocked("port", name)
        for name, pattern in self.patterns:
            if any(_matches(pattern, s) for s in spellings):
                raise HttpBlocked("URL", name)


def _matches(pattern: "regex.Pattern[str]", text: str) -> bool:
    try:
        return pattern.fullmatch(text, timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        return True
