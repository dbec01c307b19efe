"""The FP/vector image of a signal frame: a standard-form XSAVE area between two magic numbers.

Source: asm/sigcontext.h of Linux (`struct _fpx_sw_bytes`) and the AMD64 Architecture Programmer's Manual, volume 2,
"XSAVE/XRSTOR Instructions". Invariant: an image that `accept` let through loads without a fault.
"""

from __future__ import annotations

from struct import Struct
from trapline.typed import Final

FCW, MXCSR, MXCSR_MASK, SW_BYTES, HEADER = 0, 24, 28, 464, 512
LEGACY_SIZE: Final = 512
MAGIC1: Final = 0x46505853
MXCSR_DEFAULT_MASK: Final = 0xFFBF
_HEADER = Struct("<3Q")  #: XSTATE_BV, XCOMP_BV and the first reserved word
_WORD = Struct("<I")


def word(image: bytes | bytearray | memoryview, at: int, size: int = 4) -> int:
    return int.from_bytes(image[at : at + size], "little")


class FpLayout:
    """The form of this CPU's images, learnt from one that the host wrote."""

    def __init__(self, image: bytes) -> None:
        self.size = len(image)
        self.features = word(image, SW_BYTES + 8, 8)
        self.mxcsr_mask = word(image, MXCSR_MASK) or MXCSR_DEFAULT_MASK
        self._sw_bytes = image[SW_BYTES : SW_BYTES + 48]
        self._end = image[-4:]
        fresh = bytearray(self.size)
        fresh[FCW : FCW + 2] = (0x37F).to_bytes(2, "little")
        fresh[MXCSR : MXCSR + 4] = (0x1F80).to_bytes(4, "little")
        fresh[MXCSR_MASK : MXCSR_MASK + 4] = image[MXCSR_MASK : MXCSR_MASK + 4]
        fresh[HEADER : HEADER + 8] = (3).to_bytes(8, "little")  # x87 and SSE from the image, the rest initial
        self.fresh = self.seal(fresh)  #: what a new program starts with

    def seal(self, image: bytearray) -> bytes:
        """The image with the host's own software bytes: sizes and magic numbers are never user code's."""
        image[SW_BYTES : SW_BYTES + 48] = self._sw_bytes
        image[-4:] = self._end
        return bytes(image)

    def accept(self, image: bytes) -> bytes | None:
        """A loadable copy of an image that user code may have written, or None if the CPU would refuse it."""
        if len(image) < LEGACY_SIZE:
            return None
        copy = bytearray(image[: self.size])
        if len(copy) < self.size:
            copy += bytes(self.size - len(copy))
        if len(image) < HEADER + 64:
            copy[HEADER : HEADER + 64] = (3).to_bytes(64, "little")
        features, *rest = _HEADER.unpack_from(copy, HEADER)
        (mxcsr,) = _WORD.unpack_from(copy, MXCSR)
        if features & ~self.features or any(rest) or mxcsr & ~self.mxcsr_mask:
            return None
        return self.seal(copy)


def image_size(memory: memoryview, at: int) -> int:
    """The size of the image that the host wrote at `at`, end mark included."""
    if word(memory, at + SW_BYTES) != MAGIC1:
        return LEGACY_SIZE
    return word(memory, at + SW_BYTES + 4)
