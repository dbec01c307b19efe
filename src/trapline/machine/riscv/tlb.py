"""The translation look-aside buffer: what the hart remembers of past walks, by address-space identifier.

`sets` times `ways` entries; an entry of any page size lives in the set that its page number (in units of its size)
selects, and the oldest of a full set makes room. The flat arrays of the CPU struct stand in front of it and hold what was
used last; it is asked when they miss, and that is what `hits` and `misses` count.
"""

from __future__ import annotations

from collections.abc import Callable

from trapline.machine.riscv.devices.saved import BadState, State, entry, pack, unpack, whole, wholes
from trapline.machine.riscv.walk import Leaf

GLOBAL = -1  #: in place of an ASID: entries that all address spaces share
GUEST, SECOND_STAGE = 1 << 32, 1 << 33  #: in place of an ASID too: see twostage.py
SHIFTS = (12, 16, 21, 30, 39, 48)  #: log2 of the sizes of pages
_SAVED = dict.fromkeys(("hits", "misses", "walk_steps", "flushes"), whole())
MOST_STEPS = 64  #: references of one walk, and more
_PAIR = wholes(2)
_FEW_BYTES = 64 << 12  #: ranges up to here are looked up page by page
Key = tuple[int, int, int]  #: page number in units of its size, log2 of that size, ASID or GLOBAL


class Tlb:
    """One hart's."""

    def __init__(self, sets: int = 64, ways: int = 8) -> None:
        if sets < 1 or sets & (sets - 1) or ways < 1:
            raise ValueError(f"a TLB of {sets} sets and {ways} ways: sets must be a power of two, ways at least one")
        self.ways = ways
        self._sets: list[dict[Key, Leaf]] = [{} for _ in range(sets)]
        self._mask = sets - 1
        self._shifts: list[int] = []  # page sizes in use
        self.hits = self.misses = self.walk_steps = self.flushes = 0
        self.nested: dict[int, int] = {}  #: walks of two stages, by how many references each took

    def lookup(self, va: int, asid: int, shared: int = GLOBAL) -> Leaf | None:
        """shared: the name of the entries that this address space shares with others."""
        for shift in self._shifts:
            page = va >> shift
            entries = self._sets[page & self._mask]
            leaf = entries.get((page, shift, asid)) or entries.get((page, shift, shared))
            if leaf is not None:
                self.hits += 1
                return leaf
        self.misses += 1
        return None

    def insert(self, va: int, asid: int, leaf: Leaf) -> None:
        """asid: GLOBAL for a global mapping."""
        if leaf.shift not in self._shifts:
            self._shifts = sorted([*self._shifts, leaf.shift])
        page = va >> leaf.shift
        entries = self._sets[page & self._mask]
        key = (page, leaf.shift, asid)
        if key not in entries and len(entries) >= self.ways:
            del entries[next(iter(entries))]
        entries[key] = leaf

    def flush(self, va: int | None = None, asid: int | None = None) -> None:
        """Forget the entries of an address, of an address space (then not the global ones), of both, or all."""
        self.flushes += 1
        if va is None:
            for entries in self._sets:
                for key in [key for key in entries if asid in (None, key[2])]:
                    del entries[key]
            return
        for shift in self._shifts:
            page = va >> shift
            entries = self._sets[page & self._mask]
            for key in [key for key in entries if key[:2] == (page, shift) and asid in (None, key[2])]:
                del entries[key]

    def flush_named(self, named: Callable[[int], bool], va: int | None = None) -> None:
        """Forget the entries whose address spaces have such names, of an address or all."""
        self.flushes += 1
        for entries in self._sets:
            for key in [key for key in entries if named(key[2]) and (va is None or va >> key[1] == key[0])]:
                del entries[key]

    def flush_range(self, start: int, end: int, asid: int) -> None:
        """Forget what an address space has of [start, end)."""
        self.flushes += 1
        if end - start <= _FEW_BYTES:
            for va in range(start, end, 4096):
                for shift in self._shifts:
                    page = va >> shift
                    self._sets[page & self._mask].pop((page, shift, asid), None)
            return
        for entries in self._sets:
            for key in [key for key in entries if key[2] == asid and _overlaps(key, start, end)]:
                del entries[key]

    @property
    def sets(self) -> int:
        return len(self._sets)

    def entries_of(self, asid: int) -> list[tuple[int, Leaf]]:
        """(virtual address, leaf) of what an address space has, global entries included."""
        found = [item for entries in self._sets for item in entries.items()]
        return [(page << shift, leaf) for (page, shift, of), leaf in found if of in (asid, GLOBAL)]

    @property
    def nested_steps(self) -> int:
        """References of two-stage walks."""
        return sum(steps * walks for steps, walks in self.nested.items())

    def state(self) -> State:
        """In the order in which entries make room."""
        entries = [[*key, *leaf] for each in self._sets for key, leaf in each.items()]
        nested = [list(each) for each in sorted(self.nested.items())]
        return {**pack(self, _SAVED), "entries": entries, "shifts": self._shifts, "nested": nested}

    def load(self, state: State) -> None:
        shifts, entries, nested = entry(state, "shifts"), entry(state, "entries"), entry(state, "nested")
        if type(nested) is not list or len(nested) > MOST_STEPS:
            raise BadState("walks of two stages: not a list of how many took how many references")
        pairs = [_PAIR.read(each) for each in nested]
        if any(steps >= MOST_STEPS for steps, _ in pairs):
            raise BadState("a walk of two stages takes fewer references")
        self.nested = dict(map(tuple, pairs))
        if type(shifts) is not list or type(entries) is not list or any(each not in SHIFTS for each in shifts):
            raise BadState("the TLB has pages of no known size")
        for each in self._sets:
            each.clear()
        self._shifts = shifts
        for words in entries:
            if type(words) is not list or len(words) != 3 + len(Leaf._fields) or any(type(word) is not int for word in words):
                raise BadState("an entry of the TLB is none")
            page, shift, asid, leaf = words[0], words[1], words[2], Leaf(*words[3:])
            if shift not in shifts or leaf.shift != shift or any(not 0 <= word < 1 << 64 for word in (page, *leaf)):
                raise BadState("an entry of the TLB is none")
            found = self._sets[page & self._mask]
            if len(found) >= self.ways:
                raise BadState("a set of the TLB has too many entries")
            found[page, shift, asid] = leaf
        unpack(self, _SAVED, state)

    def __len__(self) -> int:
        return sum(map(len, self._sets))


def _overlaps(key: Key, start: int, end: int) -> bool:
    page, shift, _ = key
    return page << shift < end and (page + 1) << shift > start
