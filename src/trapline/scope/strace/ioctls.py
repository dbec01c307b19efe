"""ioctl(2) as strace(1) shows it: the request's name, and the argument that it takes: none, a number, or a structure.

Numbers that several drivers share carry all their names, as in strace. Layout of termios: ioctl_tty(2), asm-generic/termbits.h.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from trapline.scope.strace import names
from trapline.scope.strace.constants import constant
from trapline.scope.strace.structs import SHAPES, Shape
from trapline.scope.strace.text import pointer

if TYPE_CHECKING:
    from trapline.scope.strace.memory import Decoder

TCXONC, TCFLSH = 0x540A, 0x540B
#: requests without an argument, with a number, and with a structure that the kernel reads or writes
_NOTHING = frozenset((0x540C, 0x540D, 0x5422, 0x541D, 0x5450, 0x5451))
_NUMBERS = frozenset((0x5409, 0x5425, 0x540E, 0x40049409))
_TERMIOS = (0x5401, 0x5402, 0x5403, 0x5404, 0x5405, 0x5406, 0x802C542A, 0x402C542B)
_INTS = (
    0x540F, 0x5410, 0x5411, 0x5415, 0x541B, 0x5421, 0x5423, 0x5424, 0x5429, 0x5452, 0x80045430, 0x40045431, 0x80086601,
    0x40086602,
)  # fmt: skip
#: those whose argument the kernel reads: shown even where the call failed
_READS = frozenset((
    0x5402, 0x5403, 0x5404, 0x5406, 0x402C542B, 0x5414, 0x5410, 0x5421, 0x5423, 0x5452, 0x40045431, 0x40086602, 0x4020940D,
))  # fmt: skip
_TERMIO_BITS = Struct("<IIII")

CBAUD, CIBAUD, IBSHIFT, CSIZE = 0x100F, 0x100F0000, 16, 0x30
#: the fields of c_oflag that have several bits: name, shift, mask
_DELAYS = (("NL", 8, 1), ("CR", 9, 3), ("TAB", 11, 3), ("BS", 13, 1), ("VT", 14, 1), ("FF", 15, 1))
_SPEEDS = "0 50 75 110 134 150 200 300 600 1200 1800 2400 4800 9600 19200 38400".split()
_FAST = (
    "??? 57600 115200 230400 460800 500000 576000 921600 1000000 1152000 1500000 2000000 2500000 3000000 3500000 4000000"
).split()


def request(d: Decoder, value: int) -> str:
    return constant(f"{value:#x}" if value else "0", lambda: _request(value))


def _request(value: int) -> str:
    known = names.ENUMS["ioctl"].get(value)
    if known:
        return known
    way = {0: "_IOC_NONE", 1: "_IOC_WRITE", 2: "_IOC_READ", 3: "_IOC_READ|_IOC_WRITE"}[value >> 30 & 3]
    size = value >> 16 & 0x3FFF
    return f"_IOC({way}, {value >> 8 & 255:#x}, {value & 255:#x}, {f'{size:#x}' if size else '0'})"


def argument(d: Decoder, value: int) -> str | None:
    number = d.args[1]
    if number in _NOTHING:
        return None
    if number in _NUMBERS:
        return str((value & 0xFFFFFFFF ^ 1 << 31) - (1 << 31))
    if number in (TCXONC, TCFLSH):
        return names.enum("tcxonc" if number == TCXONC else "tcflsh", value)
    shape = _SHAPES.get(number)
    if shape is None:
        return f"{value:#x}" if value else "0"
    data = d.read(value, shape.size) if value and (number in _READS or not d.failed) else None
    return pointer(value) if data is None else shape.show(data)


def termios(data: bytes) -> str:
    return _terminal(*_TERMIO_BITS.unpack(data[:16]))


def _termio(data: bytes) -> str:
    """struct termio, of System V: the same four words, of half the size."""
    return _terminal(*Struct("<HHHH").unpack(data[:8]))


def _terminal(iflag: int, oflag: int, cflag: int, lflag: int) -> str:
    return (
        f"{{c_iflag={_flags('c_iflag', iflag)}, c_oflag={_output(oflag)}, c_cflag={_control(cflag)}, "
        f"c_lflag={_flags('c_lflag', lflag)}, ...}}"
    )


def _flags(table: str, value: int) -> str:
    """Unlike elsewhere, nothing stands for no flag, and a number without a name stands alone."""
    known = names.FLAGS[table]
    found = [name for bit, name in known.items() if value & bit]
    rest = value & ~sum(known)
    return "|".join(found + ([f"{rest:#x}"] if rest else []))


def _output(value: int) -> str:
    delays = [f"{name}{value >> shift & mask}" for name, shift, mask in _DELAYS]
    delays = ["XTABS" if each == "TAB3" else each for each in delays]
    return "|".join([*delays, _flags("c_oflag", value & ~0xFF00)])


def _control(value: int) -> str:
    parts = [_speed(value & CBAUD)]
    parts += [f"{_speed(value >> IBSHIFT & CBAUD)}<<IBSHIFT"] if value & CIBAUD else []
    return "|".join([*parts, f"CS{5 + (value >> 4 & 3)}", _flags("c_cflag", value & ~(CBAUD | CIBAUD | CSIZE))])


def _speed(value: int) -> str:
    return f"B{(_SPEEDS if value < 16 else _FAST)[value & 15]}"


def _clone_range(data: bytes) -> str:
    return "{{src_fd={}, src_offset={}, src_length={}, dest_offset={}}}".format(*Struct("<qQQQ").unpack(data))


SHAPES["termios"] = Shape(36, termios)
_SHAPES = (
    dict.fromkeys(_TERMIOS, SHAPES["termios"])
    | dict.fromkeys(_INTS, SHAPES["int"])
    | dict.fromkeys((0x5405, 0x5406), Shape(18, _termio))
    | {0x5413: SHAPES["winsize"], 0x5414: SHAPES["winsize"], 0x4020940D: Shape(32, _clone_range)}
)
