"""Socket filters: classic BPF over the bytes of a packet, SO_ATTACH_FILTER of socket(7); Documentation/networking/filter.rst.

A filter returns how many bytes of a packet are kept; a load beyond its end ends it with 0. What seccomp's programs do not have
(loads of bytes at any offset, the remainder, ancillary data) carries the mark PACKET once `prepare` has checked it, so that the
interpreter of `classic` looks for it last.
"""

from __future__ import annotations

from collections.abc import Sequence

from trapline.abi import seccomp as b
from trapline.abi.errno import EINVAL
from trapline.kernel.bpf import classic
from trapline.kernel.bpf.classic import PACKET, Instruction

_SIZES = {b.BPF_W: 4, b.BPF_H: 2, b.BPF_B: 1}
_LOADS = {b.BPF_LD | size | mode for size in _SIZES for mode in (b.BPF_ABS, b.BPF_IND)}
_HEADER_LENGTH = b.BPF_LDX | b.BPF_B | b.BPF_MSH
_REMAINDERS = {b.BPF_ALU | b.BPF_MOD | source for source in (b.BPF_K, b.BPF_X)}


def prepare(program: Sequence[Instruction]) -> list[Instruction]:
    """The program, marked for `run`. Raises EINVAL unless it is safe."""
    plain, marked = [], []
    for code, true, false, k in program:
        instead, sign = code, 0
        if code in _LOADS:
            if code & b.BPF_ABS and k >= b.SKF_AD_OFF and k - b.SKF_AD_OFF not in b.SKF_AD_KNOWN:
                raise EINVAL("no such ancillary data")
            instead, sign = b.BPF_LD | b.BPF_IMM, PACKET
        elif code == _HEADER_LENGTH:
            instead, sign = b.BPF_LDX | b.BPF_IMM, PACKET
        elif code in _REMAINDERS:
            instead, sign = code ^ b.BPF_MOD ^ b.BPF_DIV, PACKET
        plain.append((instead, true, false, k))
        marked.append((code | sign, true, false, k))
    classic.check(plain, 0)
    return marked


def run(program: Sequence[Instruction], data: bytes) -> int:
    """How many bytes of `data` a prepared program keeps."""
    return min(classic.run(program, _Packet(data), len(data)), len(data))


class _Packet(Sequence[int]):
    """The bytes of one packet, for the marked instructions."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __getitem__(self, at: int) -> int:  # type: ignore[override]
        return self.data[at]

    def __len__(self) -> int:
        return len(self.data)

    def marked(self, code: int, k: int, a: int, x: int) -> int | None:
        """What a marked instruction gives; None: the program ends with 0."""
        kind = code & 7
        if kind == b.BPF_ALU:
            operand = x if code & b.BPF_X else k
            return a % operand if operand else None
        if kind == b.BPF_LDX:
            return 4 * (self.data[k] & 15) if k < len(self.data) else None
        if code & 0xE0 == b.BPF_ABS and k >= b.SKF_AD_OFF:
            return self._ancillary(k - b.SKF_AD_OFF, a, x)
        at = k if code & 0xE0 == b.BPF_ABS else k + x & classic.MASK
        size = _SIZES[code & 0x18]
        return int.from_bytes(self.data[at : at + size], "big") if at + size <= len(self.data) else None

    @staticmethod
    def _ancillary(which: int, a: int, x: int) -> int | None:
        """What is known besides the bytes: a local socket's packets have no device, mark, hash or tag."""
        if which == b.SKF_AD_ALU_XOR_X:
            return a ^ x
        return None if which in b.SKF_AD_OF_DEVICES else 0
