"""`--net user[,...]`: which places of the host's network a guest may reach, and which of the host's ports lead to it.

    allow=ADDRESS[/BITS][:PORT]        only these, loopback's too if it is among them; IPv6: in brackets
    restrict                           nothing
    dns=ADDRESS[:PORT]                 who is asked for names (default: the host's resolver, unless allow or restrict is given)
    hostfwd=tcp:[ADDRESS]:PORT-:PORT   connections to this port of the host's (of 127.0.0.1) go to that one of the guest's
    hostfwd=udp:[ADDRESS]:PORT-:PORT   datagrams, and what the guest answers
    ipv6=off                           no IPv6

Without allow and restrict: everything but REFUSED, where the host keeps what is only for itself.
"""

from __future__ import annotations

import socket
from trapline.typed import NamedTuple

from trapline.cli.options import UsageError

WRITE = (
    "write --net user[,restrict][,allow=ADDRESS[/BITS][:PORT]][,dns=ADDRESS[:PORT]][,hostfwd=tcp|udp:[ADDRESS]:PORT-:PORT]"
    "[,ipv6=off], with addresses of IPv6 in brackets"
)


class Range(NamedTuple):
    """Addresses whose first `bits` bits are those of `start`; `port`: 0 stands for all."""

    start: bytes
    bits: int
    port: int

    def holds(self, address: bytes, port: int) -> bool:
        if len(address) != len(self.start) or self.port not in (0, port):
            return False
        return (_number(address) ^ _number(self.start)) >> 8 * len(address) - self.bits == 0


def _number(address: bytes) -> int:
    return int.from_bytes(address, "big")


class Forward(NamedTuple):
    address: str
    port: int  #: of the host's
    guest: int  #: and of the guest's
    protocol: str = "tcp"  #: or "udp"


def place_of(text: str) -> tuple[str, str]:
    """(address, what follows) of ADDRESS... or [ADDRESS]... Raises ValueError."""
    if text.startswith("["):
        address, closed, rest = text[1:].partition("]")
        if not closed or ":" not in address:
            raise ValueError(text)
        return address, rest
    ends = [at for at in (text.find("/"), text.find(":")) if at >= 0] or [len(text)]
    return text[: min(ends)], text[min(ends) :]


def _range(text: str) -> Range:
    """Raises ValueError."""
    address, rest = place_of(text)
    start = address_of(address)
    most = bits = 8 * len(start)
    if rest.startswith("/"):
        number, colon, port = rest[1:].partition(":")
        bits, rest = int(number), colon + port
        if not 0 <= bits <= most:
            raise ValueError(number)
    if rest and not rest.startswith(":"):
        raise ValueError(rest)
    masked = _number(start) >> most - bits << most - bits
    return Range(masked.to_bytes(len(start), "big"), bits, port_of(rest[1:]) if rest else 0)


def address_of(text: str) -> bytes:
    """Of IPv4 or IPv6. Raises ValueError."""
    if ":" in text:
        try:
            return socket.inet_pton(socket.AF_INET6, text)
        except OSError:
            raise ValueError(text) from None
    parts = text.split(".")
    if len(parts) != 4 or not all(each.isascii() and each.isdigit() and int(each) < 256 for each in parts):
        raise ValueError(text)
    return bytes(map(int, parts))


def port_of(text: str) -> int:
    """Raises ValueError."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ValueError(text)
    return int(text)


#: This host's own, loopback, link-local (where clouds keep keys), multicast, and what is reserved; of IPv6 also what stands for
#: addresses of IPv4, site-local, and where a cloud keeps keys.
REFUSED = tuple(
    map(
        _range,
        (
            "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "[::]/96", "[::ffff:0:0]/96",
            "[64:ff9b::]/32", "[2001::]/32", "[2002::]/16", "[fe80::]/10", "[fec0::]/10", "[fd00:ec2::]/32", "[ff00::]/8",
        ),
    )
)  # fmt: skip


class Policy:
    """What `text`, the part behind `user`, says. Raises UsageError."""

    def __init__(self, text: str) -> None:
        self._allowed: list[Range] = []
        self.restricted = False
        self.ipv6 = True
        self.names: tuple[str, int] | None = None  #: whom to ask; None: see `asks_host`
        self.forwards: list[Forward] = []
        for each in text.split(",") if text else ():
            name, equals, value = each.partition("=")
            try:
                self._option(name, value, bool(equals))
            except ValueError:
                raise UsageError(f"--net user: {each}: {WRITE}") from None
        if self.restricted and self._allowed:
            raise UsageError("--net user: restrict and allow= exclude each other")

    def _option(self, name: str, value: str, given: bool) -> None:
        """Raises ValueError."""
        if name == "restrict" and not given:
            self.restricted = True
        elif name == "allow":
            self._allowed.append(_range(value))
        elif name == "dns":
            address, rest = place_of(value)
            address_of(address)
            if rest and not rest.startswith(":"):
                raise ValueError(rest)
            self.names = address, port_of(rest[1:]) if rest else 53
        elif name == "ipv6" and value in ("on", "off"):
            self.ipv6 = value == "on"
        elif name == "hostfwd":
            host, _, guest = value.partition("-:")
            protocol, address, port = host.split(":")
            if protocol not in ("tcp", "udp"):
                raise ValueError(protocol)
            if len(address_of(address or "127.0.0.1")) != 4:
                raise ValueError(address)
            self.forwards.append(Forward(address or "127.0.0.1", port_of(port), port_of(guest), protocol))
        else:
            raise ValueError(name)

    @property
    def asks_host(self) -> bool:
        """Whether names are looked up by the host's resolver."""
        return self.names is None and not self.restricted and not self._allowed

    def permits(self, address: bytes, port: int) -> bool:
        if self.restricted or not port:
            return False
        if self._allowed:
            return any(each.holds(address, port) for each in self._allowed)
        return not any(each.holds(address, port) for each in REFUSED)
