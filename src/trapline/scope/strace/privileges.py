"""Privileges as strace(1) shows them: capability sets, what prctl(2) takes, I/O priorities.

Names and numbers: capabilities(7), prctl(2), ioprio_set(2).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from trapline.scope.strace import arguments as a
from trapline.scope.strace import names
from trapline.scope.strace.constants import constant
from trapline.scope.strace.structs import SHAPES, Shape

if TYPE_CHECKING:
    from trapline.scope.strace.arguments import Render
    from trapline.scope.strace.memory import Decoder

_CLASS_SHIFT = 13  #: of an I/O priority


def capability(d: Decoder, value: int) -> str:
    return names.enum("cap", value)


def cap_header(data: bytes) -> str:
    version, pid = Struct("<Ii").unpack(data[:8])
    number = f"{version:#x}" if version else "0"
    table = names.ENUMS["capability_version"]
    shown = constant(number, lambda: table.get(version) or f"{number} /* _LINUX_CAPABILITY_VERSION_??? */")
    return f"{{version={shown}, pid={pid}}}"


def cap_data(data: bytes) -> str:
    sets = Struct("<6I").unpack(data[:24].ljust(24, b"\0"))
    return "{{effective={}, permitted={}, inheritable={}}}".format(*(_cap_set(sets[i] | sets[i + 3] << 32) for i in range(3)))


def _cap_set(value: int) -> str:
    number = f"{value:#x}" if value else "0"
    return constant(number, lambda: "|".join(f"1<<{names.enum('cap', n)}" for n in range(64) if value >> n & 1) or "0")


# ---- prctl


def _ambient(d: Decoder, value: int) -> str:
    return names.enum("cap_ambient", value)


def _securebits(d: Decoder, value: int) -> str:
    return names.flags("securebits", value)


def _dumpable(d: Decoder, value: int) -> str:
    return names.enum("suid_dump", value)


_ARGUMENT: dict[int, Render] = {
    1: a.signal, 2: a.structure("int"), 4: _dumpable, 8: a.number, 15: a.string, 16: a.string, 22: a.hexadecimal,
    23: capability, 24: capability, 28: _securebits, 29: a.number, 36: a.number, 37: a.structure("int"), 38: a.number,
    47: _ambient,
}  # fmt: skip
_ALONE = frozenset((3, 7, 21, 27, 30))
_FULL = frozenset((38, 39, 41, 42, 47, 0x53564D41))
CAP_AMBIENT, CLEAR_ALL = 47, 4


def prctl(index: int) -> Render:
    """Argument `index` of prctl(2): what it is, and whether there is one, is up to the first."""

    def render(d: Decoder, value: int) -> str | None:
        option = d.args[0]
        if option in _ALONE or (index > 1 and option in _ARGUMENT and option not in _FULL):
            return None
        if option == CAP_AMBIENT and index == 2 and d.args[1] != CLEAR_ALL:
            return capability(d, value)
        show = _ARGUMENT.get(option, a.hexadecimal) if index == 1 else a.hexadecimal
        return show(d, value)

    return render


def prctl_result(d: Decoder) -> str:
    show = {3: _dumpable, 27: _securebits}.get(d.args[0])
    return "" if d.failed or show is None else f" ({show(d, d.result or 0)})"


# ---- I/O priorities


def io_priority(d: Decoder, value: int) -> str:
    return f"IOPRIO_PRIO_VALUE({names.enum('ioprio_class', value >> _CLASS_SHIFT)}, {value & (1 << _CLASS_SHIFT) - 1})"


def io_priority_result(d: Decoder) -> str:
    return "" if d.failed else f" ({io_priority(d, d.result or 0)})"


SHAPES["cap_header"] = SHAPES["cap_user_header"] = Shape(8, cap_header)
SHAPES["cap_data"] = SHAPES["cap_user_data"] = Shape(24, cap_data)
