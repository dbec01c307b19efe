"""A hart's state for a checkpoint: the words of its CPU struct by name, and what it remembers of translation and code.

Translations are saved, not forgotten: a guest that has not fenced may still see them, and counters of TLB misses must go on
as if nothing had happened. Host addresses (RAM's, those of decoded code) are made anew. The same state fits every tier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv.csr import EVENTS
from trapline.machine.riscv.devices.saved import BadState, State, entry, text_of

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart

#: Fields that are this process's, what hart it is, or of no meaning between runs.
OWN = frozenset(
    "ram_host ram_base ram_size hartid hosted sink native contexts tlb budget granted time_origin trap_cause trap_value "
    "user_window machine_window reserved_value".split()
)
_FIELDS = tuple((name, words) for name, words in at.FIELDS if name not in OWN)
_ARRAYS = (("read", at.READ), ("write", at.WRITE))
_MODES = (st.BARE, st.SV39_MODE, st.SV48_MODE, st.SV57_MODE)
_MOST: dict[str, int] = {
    "frm": 7, "virt": 1, "elp": 1, "landing": 1,
    "shadow": 1, "fflags": 31, "reserved": 1, "reservation_size": 8, "bank": at.BANKS - 1, "next_bank": at.BANKS - 1,
    "tselect": at.TRIGGERS - 1, "hpmevent": max(EVENTS), "pmpcfg": 0xFF, "pmpaddr": pmp.ADDRESS_MASK,
}  # fmt: skip


def hart_state(hart: Hart) -> State:
    hart.catch_up()
    cpu = hart.cpu
    return {
        "words": {name: cpu[at.OFFSETS[name] : at.OFFSETS[name] + words].tolist() for name, words in _FIELDS},
        "waiting": bool(hart.waiting),
        "context": (cpu[at.TLB] - 8 * at.FIRST_CONTEXT) // (8 * at.CONTEXT_WORDS),
        "contexts": [_context(hart, n) for n in range(at.CONTEXTS)],
        "devices": [[*key, page] for key, page in hart.device_pages.items()],
        "tlb": hart.tlb.state(),
        "guests": [[*key, number] for key, number in hart.guests.items()],
        "next_guest": hart.next_guest,
    }


def _place(n: int) -> int:
    return at.FIRST_CONTEXT + n * at.CONTEXT_WORDS


def _context(hart: Hart, n: int) -> State:
    cpu, place = hart.cpu, _place(n)
    found: State = {"low": cpu[place + at.LOW], "high": cpu[place + at.HIGH], "read": [], "write": []}
    for name, array in _ARRAYS if cpu[place + at.FILLS] else ():
        words = cpu[place + array : place + array + 2 * at.FAST_ENTRIES].tolist()
        found[name] = [[page, value] for page, value in zip(words[::2], words[1::2], strict=True) if page != at.EMPTY]
    ram = hart.bus.ram.mem
    found["code"] = [
        [va, offset, "" if data == ram[offset : offset + 4096].tobytes() else data.hex()]
        for va, offset, data in hart.code_pages(n)
    ]
    return found


# ---- back


def load_hart(hart: Hart, state: State) -> None:
    """RAM has been restored before. Raises BadState."""
    words, contexts = entry(state, "words"), entry(state, "contexts")
    values = {name: _words(words, name, count) for name, count in _FIELDS}
    _legal(values)
    if type(contexts) is not list or len(contexts) != at.CONTEXTS:
        raise BadState(f"contexts: not a list of {at.CONTEXTS}")
    for name, value in values.items():
        for n, word in enumerate(value):
            hart.cpu[at.OFFSETS[name] + n] = word
    hart.waiting = bool(entry(state, "waiting"))
    hart.tlb.load(entry(state, "tlb"))
    hart.pmp.update()
    banks = [hart.cpu[n] for n in (at.BANK, at.NEXT_BANK, *range(at.BANK_SATP, at.BANK_SATP + at.BANKS))]
    hart.set_up_contexts()
    hart.update_watched()
    hart.cpu[at.BANK], hart.cpu[at.NEXT_BANK] = banks[:2]
    for bank, satp in enumerate(banks[2:]):
        hart.cpu[at.BANK_SATP + bank] = satp
    hart.guests = {(satp, hgatp): number for satp, hgatp, number in _lists(state, "guests", 3)}
    hart.next_guest = _number(state, "next_guest")
    for n, context in enumerate(contexts):
        _load_context(hart, n, context)
    hart.device_pages.update(_devices(entry(state, "devices")))
    number = _number(state, "context", at.CONTEXTS - 1)
    hart.cpu[at.TLB] = 8 * _place(number)
    hart.adopt()


def _number(state: Any, name: str, most: int = st.MASK) -> int:
    value = entry(state, name)
    if type(value) is not int or not 0 <= value <= most:
        raise BadState(f"{name}: not a number up to {most:#x}")
    return value


def _words(words: Any, name: str, count: int) -> list[int]:
    found, most = entry(words, name), _MOST.get(name, st.MASK)
    if type(found) is not list or len(found) != count or any(type(each) is not int or not 0 <= each <= most for each in found):
        raise BadState(f"{name}: not {count} numbers up to {most:#x}")
    return found


def _legal(values: dict[str, list[int]]) -> None:
    """Raises BadState for what no hart can hold."""
    if values["x"][0] or values["priv"][0] not in (st.U, st.S, st.M) or values["mstatus"][0] & st.MPP == 2 << st.MPP_SHIFT:
        raise BadState("x0 is not zero, or there is no such mode")
    if values["virt"][0] and values["priv"][0] == st.M:
        raise BadState("M-mode is never virtual")
    if set(values["hpmevent"]) - {0, *EVENTS}:
        raise BadState("hpmevent: no such event")
    for name, value in values.items():
        if (name == "pc" or name.endswith("epc")) and value[0] & 1:
            raise BadState(f"{name}: an odd address")
        if name in ("satp", "vsatp", "hgatp") and value[0] >> st.MODE_SHIFT not in _MODES:
            raise BadState(f"{name}: no such mode")


def _load_context(hart: Hart, n: int, state: Any) -> None:
    """Every entry must lead into RAM: native code trusts them."""
    cpu, place, size = hart.cpu, _place(n), hart.bus.ram.size
    fills = 0
    for name, array in _ARRAYS:
        for page, value in _lists(state, name, 2):
            offset = page + value & st.MASK
            if page & 4095 or offset & 4095 or offset > size - 4096:
                raise BadState("a translation leads out of RAM")
            if page in hart.kept_out:
                continue
            slot = array + (page >> 12) % at.FAST_ENTRIES * 2
            cpu[place + slot], cpu[place + slot + 1] = page, value
            fills = _log(cpu, place, fills, slot)
    for va, offset, text in _lists(state, "code", 3, numbers=2):
        if va & 4095 or offset & 4095 or offset > size - 4096:
            raise BadState("a page of code is not in RAM")
        data = text_of(text, 4096) or hart.bus.ram.mem[offset : offset + 4096].tobytes()
        if len(data) != 4096:
            raise BadState("a page of code is cut off")
        hart.enter_code(n, va, offset, data)
        fills = _log(cpu, place, fills, at.CODE + (va >> 12) % at.FAST_ENTRIES * 2)
    cpu[place + at.FILLS] = fills
    cpu[place + at.LOW], cpu[place + at.HIGH] = _number(state, "low"), _number(state, "high")


def _log(cpu: memoryview, place: int, fills: int, slot: int) -> int:
    """Note an entry; how many there are."""
    if fills < at.LOGGED:
        cpu[place + at.LOG + fills] = 8 * slot
    return fills + 1


def _lists(state: Any, name: str, length: int, numbers: int | None = None) -> list[list[Any]]:
    """A list of lists, each of so many numbers and then anything."""
    found = entry(state, name)
    if type(found) is not list or len(found) > 4 * at.FAST_ENTRIES:
        raise BadState(f"{name}: not a list of entries")
    for each in found:
        if type(each) is not list or len(each) != length:
            raise BadState(f"{name}: an entry has {length} parts")
        if any(type(word) is not int or not 0 <= word <= st.MASK for word in each[:numbers]):
            raise BadState(f"{name}: an entry is made of numbers")
    return found


def _devices(found: Any) -> dict[tuple[int, int, int, int, int], int]:
    pages = {}
    for each in _lists({"devices": found}, "devices", 6):
        number, access, mode, status, satp, page = each
        pages[number, access, mode, status, satp] = page
    return pages
