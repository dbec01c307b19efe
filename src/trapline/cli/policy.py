"""`--net user[,...]`: which places of the host's network a guest may reach, and which of the host's ports lead to it.

    allow=ADDRESS[/BITS][:PORT]        only these, loopback's too if it is among them
    restrict                           nothing
    dns=ADDRESS[:PORT]                 who is asked for names (default: the host's resolver, unless allow or restrict is given)
    hostfwd=tcp:[ADDRESS]:PORT-:PORT   connections to this port of the host's (of 127.0.0.1) go to that one of the guest's
    hostfwd=udp:[ADDRESS]:PORT-:PORT   datagrams, and what the guest answers

Without allow and restrict: everything but REFUSED, where the host keeps what is only for itself.
"""

from __future__ import annotations

from trapline.typed import NamedTuple

from trapline.cli.options import UsageError

WRITE = "write --net user[,restrict][,allow=ADDRESS[/BITS][:PORT]][,dns=ADDRESS[:PORT]][,hostfwd=tcp|udp:[ADDRESS]:PORT-:PORT]"


class Range(NamedTuple):
    """Addresses whose first `bits` bits are those of `start`; `port`: 0 stands for all."""

    start: int
    bits: int
    port: int

    def holds(self, address: int, port: int) -> bool:
        return (address ^ self.start) >> 32 - self.bits == 0 and self.port in (0, port)


class Forward(NamedTuple):
    address: str
    port: int  #: of the host's
    guest: int  #: and of the guest's
    protocol: str = "tcp"  #: or "udp"


def _range(text: str) -> Range:
    """Raises ValueError."""
    rest, _, port = text.partition(":")
    address, slash, bits = rest.partition("/")
    number = 32
    if slash:
        number = int(bits)
        if not 0 <= number <= 32:
            raise ValueError(bits)
    start = address_of(address)
    return Range(start >> 32 - number << 32 - number, number, port_of(port) if port else 0)


def address_of(text: str) -> int:
    """Raises ValueError."""
    parts = text.split(".")
    if len(parts) != 4 or not all(each.isascii() and each.isdigit() and int(each) < 256 for each in parts):
        raise ValueError(text)
    return int.from_bytes(bytes(map(int, parts)), "big")


def port_of(text: str) -> int:
    """Raises ValueError."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ValueError(text)
    return int(text)


#: This host's own, loopback, link-local (where clouds keep keys), multicast, and what is reserved.
REFUSED = tuple(_range(each) for each in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"))


class Policy:
    """What `text`, the part behind `user`, says. Raises UsageError."""

    def __init__(self, text: str) -> None:
        self._allowed: list[Range] = []
        self.restricted = False
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
            address, _, port = value.partition(":")
            address_of(address)
            self.names = address, port_of(port) if port else 53
        elif name == "hostfwd":
            host, _, guest = value.partition("-:")
            protocol, address, port = host.split(":")
            if protocol not in ("tcp", "udp"):
                raise ValueError(protocol)
            address_of(address or "127.0.0.1")
            self.forwards.append(Forward(address or "127.0.0.1", port_of(port), port_of(guest), protocol))
        else:
            raise ValueError(name)

    @property
    def asks_host(self) -> bool:
        """Whether names are looked up by the host's resolver."""
        return self.names is None and not self.restricted and not self._allowed

    def permits(self, address: int, port: int) -> bool:
        if self.restricted or not port:
            return False
        if self._allowed:
            return any(each.holds(address, port) for each in self._allowed)
        return not any(each.holds(address, port) for each in REFUSED)
