"""What GDB's remote protocol asks of anything that can be debugged (GDB manual, "Packets", "General Query Packets").

`answer` takes a packet and gives the reply, or None when the target is to go on; when it has halted again `halted` gives the
reply. Subclasses say what a thread, a register and memory are: a board's harts (server.py), a process's threads (process.py).

Invariant: no packet raises; what cannot be understood gets an empty reply or an error.
"""

from __future__ import annotations

from collections.abc import Callable

from trapline.machine.contract import READ, WRITE
from trapline.machine.riscv.debug import Watch
from trapline.machine.riscv.devices.storage import StorageError
from trapline.scope.gdb import registers
from trapline.scope.gdb.packets import MOST

_WATCHES = {2: (WRITE, "watch"), 3: (READ, "rwatch"), 4: (READ | WRITE, "awatch")}
WATCH_NAMES = dict(_WATCHES.values())
MOST_WATCHED = 1 << 16  #: bytes of a watchpoint
MOST_WATCHES = 64
OK, BAD, FAULT = b"OK", b"E01", b"E0e"


class Target:
    """Where it stops is kept here; whoever goes on looks it up."""

    def __init__(self) -> None:
        self.killed = self.detached = False
        self._breaks: set[int] = set()
        self._watches: set[Watch] = set()
        self._last = b"T05thread:1;"
        self._table: dict[bytes, Callable[[bytes], bytes | None]] = {
            b"?": lambda _: self._last, b"g": self._all, b"G": self._set_all, b"p": self._one, b"P": self._set_one,
            b"m": self._read, b"M": self._write, b"X": self._write_binary, b"Z": self._insert, b"z": self._remove,
            b"H": self._choose, b"T": self._alive, b"q": self._query, b"Q": self._set, b"v": self._verbose,
            b"D": self._detach, b"k": self._kill,
        }  # fmt: skip

    def answer(self, packet: bytes) -> bytes | None:
        """The reply to a packet; None: the target goes on."""
        act = self._table.get(packet[:1])
        try:
            return act(packet[1:]) if act is not None else b""
        except (ValueError, IndexError, StorageError):
            return BAD

    # ---- what a subclass says

    def halted(self, *, interrupted: bool = False) -> bytes:
        """Why the target has halted."""
        raise NotImplementedError

    def release(self) -> None:
        """Nobody debugs any more: the target goes on."""
        raise NotImplementedError

    def register(self, n: int) -> int | None:
        """Of the thread that was chosen, as registers.py numbers them; None if there is none."""
        raise NotImplementedError

    def set_register(self, n: int, value: int) -> bool:
        """Whether it could be written."""
        raise NotImplementedError

    def changed(self) -> None:
        """Registers or memory have been written."""

    def look(self, address: int, length: int) -> bytes:
        """As much memory as can be read."""
        raise NotImplementedError

    def put(self, address: int, data: bytes) -> bool:
        """Write memory, all of it or none."""
        raise NotImplementedError

    def _choose(self, rest: bytes) -> bytes:
        raise NotImplementedError

    def _alive(self, rest: bytes) -> bytes:
        raise NotImplementedError

    def _query(self, rest: bytes) -> bytes:
        raise NotImplementedError

    def _verbose(self, rest: bytes) -> bytes | None:
        raise NotImplementedError

    # ---- registers and memory

    def _all(self, rest: bytes) -> bytes:
        values = [self.register(n) or 0 for n in range(registers.GENERAL)]
        return b"".join(value.to_bytes(8, "little") for value in values).hex().encode()

    def _set_all(self, rest: bytes) -> bytes:
        data = bytes.fromhex(rest.decode("ascii"))
        if len(data) < 8 * registers.GENERAL:
            return BAD
        for n in range(registers.GENERAL):
            self.set_register(n, int.from_bytes(data[8 * n : 8 * n + 8], "little"))
        self.changed()
        return OK

    def _one(self, rest: bytes) -> bytes:
        value = self.register(int(rest, 16))
        return BAD if value is None else value.to_bytes(8, "little").hex().encode()

    def _set_one(self, rest: bytes) -> bytes:
        number, _, text = rest.partition(b"=")
        value = int.from_bytes(bytes.fromhex(text.decode("ascii"))[:8], "little")
        if not self.set_register(int(number, 16), value):
            return BAD
        self.changed()
        return OK

    @staticmethod
    def _range(text: bytes) -> tuple[int, int]:
        address, _, length = text.partition(b",")
        return int(address, 16) & (1 << 64) - 1, int(length, 16)

    def _read(self, rest: bytes) -> bytes:
        address, length = self._range(rest)
        found = self.look(address, min(max(length, 0), MOST // 2))
        return found.hex().encode() if found or not length else FAULT

    def _write(self, rest: bytes) -> bytes:
        where, _, text = rest.partition(b":")
        return self._put(where, bytes.fromhex(text.decode("ascii")))

    def _write_binary(self, rest: bytes) -> bytes:
        where, _, data = rest.partition(b":")
        return self._put(where, data)

    def _put(self, where: bytes, data: bytes) -> bytes:
        address, length = self._range(where)
        if length != len(data):
            return BAD
        if not data:
            return OK
        if not self.put(address, data):
            return FAULT
        self.changed()
        return OK

    # ---- where to stop

    def places(self) -> tuple[set[int], set[Watch]]:
        """Breakpoints and watchpoints of what was chosen. Raises ValueError."""
        return self._breaks, self._watches

    def _insert(self, rest: bytes) -> bytes:
        breaks, watches = self.places()
        return self._point(rest, breaks.add, watches.add)

    def _remove(self, rest: bytes) -> bytes:
        breaks, watches = self.places()
        return self._point(rest, breaks.discard, watches.discard)

    def _point(self, rest: bytes, at_pc: Callable[[int], None], at_data: Callable[[Watch], None]) -> bytes:
        kind, where, length, *_ = rest.split(b";")[0].split(b",")
        address, size = int(where, 16) & (1 << 64) - 1, int(length, 16)
        if kind in (b"0", b"1"):
            at_pc(address)
            return OK
        if int(kind) not in _WATCHES:
            return b""
        if not 0 < size <= MOST_WATCHED or len(self.places()[1]) > MOST_WATCHES:
            return BAD
        at_data(Watch(address, address + size, _WATCHES[int(kind)][0]))
        return OK

    # ---- the rest

    def _detach(self, rest: bytes) -> bytes:
        self.release()
        self.detached = True
        return OK

    def _kill(self, rest: bytes) -> bytes:
        self.killed = True
        return OK

    def _set(self, rest: bytes) -> bytes:
        return OK if rest == b"StartNoAckMode" else b""

    def _transfer(self, rest: bytes) -> bytes:
        kind, how, name, where = rest.split(b":")
        text = self.document(kind, name) if how == b"read" else None
        if text is None:
            return b"E00"
        offset, length = self._range(where)
        piece = text[offset : offset + min(max(length, 0), MOST - 8)]
        return (b"m" if offset + len(piece) < len(text) else b"l") + piece

    def document(self, kind: bytes, name: bytes) -> bytes | None:
        """What qXfer reads; None if there is none."""
        raise NotImplementedError
