"""The hart's innermost translation arrays, by context (see layout.py): which one is in force, filling, forgetting.

In a nutshell: `select_context` after a change of mode or status, `change_space` for satp, `enter_page` after a walk, and three
ways to forget: everything, an address space, a page. Whoever comes back from native code, which does the same by itself,
calls `adopt`.

Invariant: what is in the arrays is in the log, or `FILLS` says that the log was too short.
"""

from __future__ import annotations

import struct
from trapline.typed import TYPE_CHECKING

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.integers import Integers

if TYPE_CHECKING:
    from trapline.machine.riscv.code import Page

_NO_PAGES = (0, st.MASK, 0)  #: fills, low, high of an empty context
_EMPTY_CONTEXT = (
    at.EMPTY.to_bytes(8, "little") * at.FILLS + struct.pack("<3Q", *_NO_PAGES) + bytes(8 * (at.CONTEXT_WORDS - at.LOG))
)
_BYTES = 8 * at.CONTEXT_WORDS
_START = 8 * at.FIRST_CONTEXT
_MASK = at.FAST_ENTRIES - 1
GUEST_KEY = 1 << st.MODE_SHIFT  #: the first number that stands for a guest's satp and hgatp: a mode that no satp has
_KEEP_GUESTS = 256
#: What each context is of the CPU struct: reads, writes.
_PLACES = tuple(at.FIRST_CONTEXT + n * at.CONTEXT_WORDS for n in range(at.CONTEXTS))


class Contexts(Integers):
    """Part of the hart."""

    __slots__ = (
        "_arrays", "_decoded", "adopted", "device_pages", "guests", "next_guest", "pages", "tlb_read", "tlb_write",
    )  # fmt: skip

    bytes_: memoryview  #: the CPU struct as bytes
    tlb_read: memoryview  #: of the context in force
    tlb_write: memoryview
    #: what is not RAM: (page number, access, mode, mstatus, satp) -> physical address of the page
    device_pages: dict[tuple[int, int, int, int, int], int]
    pages: dict[int, Page]  #: the decoded code, by page number, of the context in force
    adopted: int  #: what `tlb` was when these were looked up
    _arrays: list[tuple[memoryview, memoryview]]
    _decoded: list[dict[int, Page]]
    guests: dict[tuple[int, int], int]  #: what stands for a guest's satp and its hgatp where a bank's owner is noted
    next_guest: int

    def set_up_contexts(self) -> None:
        """Empty them all, whatever they hold."""
        cpu = self.cpu
        self.bytes_[_START : _START + at.CONTEXTS * _BYTES] = _EMPTY_CONTEXT * at.CONTEXTS
        self._arrays = [
            (cpu[place : place + at.WRITE], cpu[place + at.WRITE : place + at.CODE]) for place in _PLACES
        ]
        self._decoded = [{} for _ in _PLACES]
        self.device_pages = {}
        self.guests, self.next_guest = {}, GUEST_KEY
        cpu[at.BANK] = cpu[at.NEXT_BANK] = 0
        key = self._key(cpu[at.SATP])
        for bank in range(at.BANKS):
            cpu[at.BANK_SATP + bank] = key
        self.select_context()

    # ---- which one

    def select_context(self) -> None:
        """Put the context of the present mode, status and address space in force."""
        cpu = self.cpu
        n = context(cpu[at.PRIV], cpu[at.MSTATUS], cpu[at.BANK])
        if n == at.BORROWED:
            self._clear(n)  # it may have been borrowed in another way the last time
        cpu[at.TLB] = _START + n * _BYTES
        self.adopt()

    def adopt(self) -> None:
        """Use the context that is in force."""
        self.adopted = self.cpu[at.TLB]
        n = (self.adopted - _START) // _BYTES
        self.tlb_read, self.tlb_write = self._arrays[n]
        self.pages = self._decoded[n]

    def change_space(self, satp: int) -> None:
        """Write satp, and go on with what was known when it last had this value."""
        cpu = self.cpu
        cpu[at.SATP] = satp
        key = self._key(satp)
        for bank in range(at.BANKS):
            if cpu[at.BANK_SATP + bank] == key:
                break
        else:
            bank = cpu[at.NEXT_BANK]
            cpu[at.NEXT_BANK] = (bank + 1) % at.BANKS
            self._clear_bank(bank)
            cpu[at.BANK_SATP + bank] = key
        cpu[at.BANK] = bank
        self.select_context()

    def _key(self, satp: int) -> int:
        """Whose translations these are: satp, or while V is 1 a number that no satp has, for it and hgatp."""
        hgatp = self.cpu[at.HGATP]
        if not self.cpu[at.VIRT]:
            return satp
        key = self.guests.get((satp, hgatp))
        if key is None:
            if len(self.guests) >= _KEEP_GUESTS:
                self.guests.clear()  # numbers are not used again
            key = self.guests[satp, hgatp] = self.next_guest
            self.next_guest += 1
        return key

    # ---- forgetting

    def forget_pages(self) -> None:
        """Empty all contexts: permissions have changed, or code has."""
        self.device_pages.clear()
        for n in range(at.CONTEXTS):
            self._clear(n)

    def forget_space(self, asid: int | None) -> None:
        """Forget an address space's translations, or those of all (machine mode's own are none)."""
        cpu = self.cpu
        self.device_pages.clear()
        self._clear(at.BORROWED)
        for bank in range(at.BANKS):
            if asid is None or cpu[at.BANK_SATP + bank] >> st.ASID_SHIFT & st.ASID_MASK == asid:
                self._clear_bank(bank)

    def forget_page(self, va: int, asid: int | None) -> None:
        """Forget the translation of an address, in one address space or in all."""
        cpu, page = self.cpu, va & -4096
        self.device_pages.clear()
        self._clear(at.BORROWED)
        for bank in range(at.BANKS):
            if asid is None or cpu[at.BANK_SATP + bank] >> st.ASID_SHIFT & st.ASID_MASK == asid:
                for n in range(at.CONTEXTS_OF_BANK):
                    self._clear_page(at.FIRST_OF_BANKS + bank * at.CONTEXTS_OF_BANK + n, page)

    def forget_guests(self) -> None:
        """Forget all guests' translations."""
        self._clear(at.BORROWED)
        for bank in range(at.BANKS):
            if self.cpu[at.BANK_SATP + bank] >> st.MODE_SHIFT == GUEST_KEY >> st.MODE_SHIFT:
                self._clear_bank(bank)

    def forget_borrowed(self) -> None:
        """Forget what machine mode has borrowed."""
        self._clear(at.BORROWED)

    def _clear_bank(self, bank: int) -> None:
        for n in range(at.CONTEXTS_OF_BANK):
            self._clear(at.FIRST_OF_BANKS + bank * at.CONTEXTS_OF_BANK + n)

    def _clear(self, n: int) -> None:
        cpu, place = self.cpu, _PLACES[n]
        self._decoded[n].clear()
        cpu[place + at.KNOWN] = 0
        fills = cpu[place + at.FILLS]
        if fills > at.LOGGED:
            start = _START + n * _BYTES
            self.bytes_[start : start + _BYTES] = _EMPTY_CONTEXT
        elif fills:
            for each in range(place + at.LOG, place + at.LOG + fills):
                cpu[place + (cpu[each] >> 3)] = at.EMPTY
            cpu[place + at.FILLS], cpu[place + at.LOW], cpu[place + at.HIGH] = _NO_PAGES

    def _clear_page(self, n: int, page: int) -> None:
        cpu, place = self.cpu, _PLACES[n]
        if cpu[place + at.LOW] <= page <= cpu[place + at.HIGH]:  # it may be a part of a larger one
            self._clear(n)
            return
        cpu[place + at.KNOWN] = 0
        self._decoded[n].pop(page >> 12, None)
        slot = place + (page >> 12 & _MASK) * 2
        for array in (at.READ, at.WRITE, at.CODE):
            if cpu[slot + array] == page:
                cpu[slot + array] = at.EMPTY

    def innermost_pages(self, satp: int) -> dict[str, int]:
        """How many pages user mode of an address space can reach without the TLB, by kind of access."""
        cpu, found = self.cpu, dict.fromkeys(("read", "write", "execute"), 0)
        for bank in range(at.BANKS):
            if cpu[at.BANK_SATP + bank] == satp:
                n = at.FIRST_OF_BANKS + bank * at.CONTEXTS_OF_BANK + at.USER
                for name, array in (("read", at.READ), ("write", at.WRITE), ("execute", at.CODE)):
                    tags = cpu[_PLACES[n] + array : _PLACES[n] + array + 2 * at.FAST_ENTRIES : 2]
                    found[name] = len(tags) - tags.tolist().count(at.EMPTY)
                found["execute"] = found["execute"] or len(self._decoded[n])
                break
        return found

    # ---- from outside: all that is remembered, and putting it back

    def code_pages(self, n: int) -> list[tuple[int, int, bytes]]:
        """Pages that a context has mapped for execution: (virtual address, offset in RAM, the bytes that were decoded)."""
        return [(number << 12, page.start, page.data) for number, page in self._decoded[n].items() if page.start >= 0]

    def enter_code(self, n: int, va: int, offset: int, data: bytes) -> None:
        """Put such a page back."""
        raise NotImplementedError

    # ---- filling

    def enter_page(self, array: int, page: int, value: int, shift: int) -> None:
        """Make an entry in an array of the context in force. shift: log2 of the bytes that its leaf maps."""
        cpu = self.cpu
        place = cpu[at.TLB] >> 3
        offset = array + (page >> 12 & _MASK) * 2
        cpu[place + offset], cpu[place + offset + 1] = page, value & st.MASK
        fills = cpu[place + at.FILLS]
        if fills < at.LOGGED:
            cpu[place + at.LOG + fills] = 8 * offset
        cpu[place + at.FILLS] = fills + 1
        if shift > 12:
            low, high = page & -(1 << shift), page | (1 << shift) - 4096
            cpu[place + at.LOW] = min(low, cpu[place + at.LOW])
            cpu[place + at.HIGH] = max(high, cpu[place + at.HIGH])


def context(priv: int, status: int, bank: int) -> int:
    """The number of the context for a mode, mstatus and bank."""
    if priv == st.M:
        return at.BORROWED if status & st.MPRV else at.MACHINE_CONTEXT
    kind = at.USER if priv == st.U else at.SUM if status & st.SUM else at.SUPERVISOR
    return at.FIRST_OF_BANKS + bank * at.CONTEXTS_OF_BANK + kind
