"""One thread of user code on a host machine: the kernel's copy of its registers, and where its FP state is.

Invariant: the FP state is in `slot`'s frame when `slot` is not None (then `slot.ctx` is this context), else in `_fp`, else it
is that of a new program. General registers are always the copy in `regs`.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.x86_64 import CSGSFS, EFLAGS, IF, NREGS, USER32_CS, USER_CS, USER_DS
from trapline.machine.contract import Context
from trapline.machine.host.fpstate import FpLayout

if TYPE_CHECKING:
    from trapline.machine.host.contexts import Slot
    from trapline.machine.host.space import HostSpace

SELECTORS = USER_CS | USER_DS << 48
SELECTORS_32 = USER32_CS | USER_DS << 48
SELECTORS_MASK = 0xFFFF_0000_0000_FFFF


class HostContext(Context):
    """A context; `view` is `regs` as memory, for whole-slice copies."""

    __slots__ = ("_fp", "_layout", "_space", "slot", "view")

    def __init__(self, space: HostSpace, layout: FpLayout) -> None:
        self.slot: Slot | None = None
        self._fp: bytes | None = None
        self._layout = layout
        super().__init__(space, NREGS)
        self.view = memoryview(self.regs)
        self.regs[CSGSFS] = SELECTORS
        self.regs[EFLAGS] = IF | 2

    @property  # type: ignore[override]
    def space(self) -> HostSpace:
        return self._space

    @space.setter
    def space(self, space: HostSpace) -> None:
        """Move to another address space, as exec does."""
        self.unseat()
        self._space = space

    def unseat(self) -> None:
        """Take the FP state out of the slot that holds it."""
        slot = self.slot
        if slot is not None:
            self._fp = bytes(slot.fp)
            slot.ctx = self.slot = None

    def seat(self, slot: Slot) -> None:
        """Put the FP state into a stopped slot that holds nobody's."""
        slot.fp[:] = self._layout.fresh if self._fp is None else self._layout.seal(bytearray(self._fp))
        slot.ctx, self.slot, self._fp = self, slot, None

    def sanitize(self) -> bool:
        """Make the registers loadable; False if user code asked for a base address that no CPU takes."""
        regs = self.regs
        code = regs[CSGSFS] & 0xFFFF
        regs[CSGSFS] = SELECTORS_32 if code == USER32_CS else SELECTORS
        return all(base >> 47 in (0, 0x1FFFF) for base in regs[NREGS - 2 :])

    def get_fp(self) -> bytes:
        image = bytes(self.slot.fp) if self.slot is not None else self._fp
        return self._layout.fresh if image is None else self._layout.seal(bytearray(image))

    def set_fp(self, image: bytes) -> bool:
        accepted = self._layout.accept(image)
        if accepted is None:
            return False
        self._put_fp(accepted)
        return True

    def reset_fp(self) -> None:
        self._put_fp(self._layout.fresh)

    def _put_fp(self, image: bytes) -> None:
        if self.slot is not None:
            self.slot.fp[:] = image
        else:
            self._fp = image

    def copy_from(self, other: Context) -> None:
        self.regs[:] = other.regs
        self._put_fp(other.get_fp())

    def close(self) -> None:
        slot = self.slot
        if slot is not None:
            slot.ctx = self.slot = None
        self._fp = None
