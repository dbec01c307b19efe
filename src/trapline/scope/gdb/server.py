"""What each packet of GDB's remote protocol does to a halted board (GDB manual, "Packets", "General Query Packets").

`answer` takes a packet and gives the reply, or None when the machine is to go on; when it has halted again `halted` gives the
reply. An access is announced before it is made, as GDB expects of this architecture; in reverse, behind it. Threads are harts,
numbered from 1. All harts halt together, and all go on together, in their turns.

Invariant: no packet raises; what cannot be understood gets an empty reply or an error.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import READ, WRITE
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.debug import Debug, Watch
from trapline.scope.gdb import lens, registers
from trapline.scope.gdb.monitor import monitor
from trapline.scope.gdb.packets import MOST

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart
    from trapline.machine.riscv.harts import Position
    from trapline.machine.riscv.timeline import Timeline

_WATCHES = {2: (WRITE, "watch"), 3: (READ, "rwatch"), 4: (READ | WRITE, "awatch")}
_NAMES = dict(_WATCHES.values())
MOST_WATCHED = 1 << 16  #: bytes of a watchpoint
OK, BAD, FAULT = b"OK", b"E01", b"E0e"


class Server:
    """`reversible`: history can be gone back in."""

    def __init__(self, timeline: Timeline, *, reversible: bool = True) -> None:
        self.timeline = timeline
        self.reversible = reversible
        self.direct = False  #: addresses are physical
        self.killed = self.detached = False
        self._thread = 0
        self._breaks: set[int] = set()
        self._watches: set[Watch] = set()
        self._debug: Debug | None = None
        self._last = b"T05thread:1;"
        self._table: dict[bytes, Callable[[bytes], bytes | None]] = {
            b"?": lambda _: self._last, b"g": self._all, b"G": self._set_all, b"p": self._one, b"P": self._set_one,
            b"m": self._read, b"M": self._write, b"X": self._write_binary, b"Z": self._insert, b"z": self._remove,
            b"H": self._choose, b"T": self._alive, b"q": self._query, b"Q": self._set, b"v": self._verbose,
            b"D": self._detach, b"k": self._kill, b"b": self._back, b"c": lambda _: self._go(-1), b"C": lambda _: self._go(-1),
            b"s": lambda _: self._go(self._thread), b"S": lambda _: self._go(self._thread),
        }  # fmt: skip

    @property
    def hart(self) -> Hart:
        return self.timeline.harts.each[self._thread]

    def answer(self, packet: bytes) -> bytes | None:
        """The reply to a packet; None: the machine goes on."""
        act = self._table.get(packet[:1])
        try:
            return act(packet[1:]) if act is not None else b""
        except (ValueError, IndexError):
            return BAD

    # ---- registers and memory

    def _all(self, rest: bytes) -> bytes:
        values = [registers.read(self.hart, n) or 0 for n in range(registers.GENERAL)]
        return b"".join(value.to_bytes(8, "little") for value in values).hex().encode()

    def _set_all(self, rest: bytes) -> bytes:
        data = bytes.fromhex(rest.decode("ascii"))
        if len(data) < 8 * registers.GENERAL:
            return BAD
        for n in range(registers.GENERAL):
            registers.write(self.hart, n, int.from_bytes(data[8 * n : 8 * n + 8], "little"))
        self.timeline.change()
        return OK

    def _one(self, rest: bytes) -> bytes:
        value = registers.read(self.hart, int(rest, 16))
        return BAD if value is None else value.to_bytes(8, "little").hex().encode()

    def _set_one(self, rest: bytes) -> bytes:
        number, _, text = rest.partition(b"=")
        value = int.from_bytes(bytes.fromhex(text.decode("ascii"))[:8], "little")
        if not registers.write(self.hart, int(number, 16), value):
            return BAD
        self.timeline.change()
        return OK

    @staticmethod
    def _range(text: bytes) -> tuple[int, int]:
        address, _, length = text.partition(b",")
        return int(address, 16) & (1 << 64) - 1, int(length, 16)

    def _read(self, rest: bytes) -> bytes:
        address, length = self._range(rest)
        found = lens.look(self.hart, address, min(max(length, 0), MOST // 2), direct=self.direct)
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
        if not lens.put(self.hart, address, data, direct=self.direct):
            return FAULT
        for hart in self.timeline.harts.each:
            hart.forget_pages()  # it may be code
        self.timeline.change()
        return OK

    # ---- where to stop

    def _insert(self, rest: bytes) -> bytes:
        return self._point(rest, self._breaks.add, self._watches.add)

    def _remove(self, rest: bytes) -> bytes:
        return self._point(rest, self._breaks.discard, self._watches.discard)

    def _point(self, rest: bytes, at_pc: Callable[[int], None], at_data: Callable[[Watch], None]) -> bytes:
        kind, where, length, *_ = rest.split(b";")[0].split(b",")
        address, size = int(where, 16) & (1 << 64) - 1, int(length, 16)
        if kind in (b"0", b"1"):
            at_pc(address)
            return OK
        if int(kind) not in _WATCHES:
            return b""
        if not 0 < size <= MOST_WATCHED or len(self._watches) > 64:
            return BAD
        at_data(Watch(address, address + size, _WATCHES[int(kind)][0]))
        return OK

    def _arm(self, *, stepping: bool) -> None:
        """Let the harts look for what is wanted; nothing wanted costs nothing."""
        debug = self._debug
        if debug is not None and debug.watches == tuple(sorted(self._watches)) and (stepping or self._breaks):
            if self._breaks <= debug.known:
                debug.breaks = frozenset(self._breaks)  # the others lead out of native code, and back
                return
        elif debug is None and not self._breaks and not self._watches:
            return
        self._debug = Debug(self._breaks, sorted(self._watches)) if self._breaks or self._watches else None
        for hart in self.timeline.harts.each:
            hart.observe(self._debug)

    # ---- going on

    def _go(self, stepping: int) -> bytes | None:
        """Let the machine go on: from here in the past, at once, else (None) by whoever runs it."""
        self._arm(stepping=stepping >= 0)
        harts = self.timeline.harts
        harts.stepping = stepping
        self._pass()
        if self.timeline.live:
            return None
        if self.timeline.forward():
            return self.halted()
        if stepping >= 0 or self.timeline.live:
            return None
        return self.halted()

    def _pass(self) -> None:
        """Do not stop again where the hart stands."""
        harts = self.timeline.harts
        if self._debug is not None:
            self._debug.hit = None
            turn = harts.turn
            self._debug.passing = (turn, harts.each[turn].cpu[at.PC]) if turn >= 0 else None

    def halted(self, *, interrupted: bool = False) -> bytes:
        """Why the machine has halted."""
        harts = self.timeline.harts
        harts.stepping = -1
        if harts.turn >= 0:
            self._thread = harts.turn
        self._last = b"T%02xthread:%x;%b" % (2 if interrupted else 5, self._thread + 1, self._why())
        return self._last

    def _why(self) -> bytes:
        debug = self._debug
        if debug is None:
            return b""
        if debug.hit is not None:
            return b"%b:%x;" % (_NAMES[debug.hit.watch.access].encode(), debug.hit.address)
        return b"hwbreak:;" if self.hart.cpu[at.PC] in debug.breaks else b""

    def _back(self, rest: bytes) -> bytes | None:
        """bs, bc."""
        if not self.reversible or rest not in (b"s", b"c"):
            return b""
        if rest == b"s":
            good = self.timeline.step_back(self._thread)
            self._last = b"T05thread:%x;%b" % (self._thread + 1, b"" if good else b"replaylog:begin;")
            return self._last
        self._arm(stepping=False)
        return self._back_on()

    def _back_on(self) -> bytes:
        timeline = self.timeline
        here = timeline.harts.position()
        whys: dict[Position, tuple[int, bytes]] = {}

        def stops() -> Position | None:
            number, turn, spent = timeline.harts.position()
            why = self._thread_why(turn)
            accessed = self._debug is not None and self._debug.hit is not None
            place = number, turn, spent + accessed  # in this direction an access is announced behind it
            self._pass()
            whys[place] = turn, why
            return place if place < here or (accessed and place == here) else None

        found = timeline.last_stop(here, stops) if self._debug is not None else None
        if found is None:
            if timeline.marks:
                timeline.restore(timeline.marks[0])
            self._last = b"T05thread:%x;replaylog:begin;" % (self._thread + 1)
            return self._last
        timeline.back_to(found)
        self._thread, why = whys[found]
        self._last = b"T05thread:%x;%b" % (self._thread + 1, why)
        return self._last

    def _thread_why(self, turn: int) -> bytes:
        self._thread = max(turn, 0)
        return self._why()

    def _detach(self, rest: bytes) -> bytes:
        self.release()
        self.detached = True
        return OK

    def release(self) -> None:
        """Nobody debugs any more: the machine goes on from the present."""
        self._breaks.clear()
        self._watches.clear()
        self._arm(stepping=False)
        self.timeline.harts.stepping = -1
        self.timeline.forward()

    def _kill(self, rest: bytes) -> bytes:
        self.killed = True
        return OK

    # ---- threads, queries

    def _choose(self, rest: bytes) -> bytes:
        n = int(rest[1:], 16)
        if n > len(self.timeline.harts.each):
            return BAD
        if n > 0:
            self._thread = n - 1
        return OK

    def _alive(self, rest: bytes) -> bytes:
        return OK if 0 < int(rest, 16) <= len(self.timeline.harts.each) else BAD

    def _verbose(self, rest: bytes) -> bytes | None:
        if rest == b"Cont?":
            return b"vCont;c;C;s;S"
        if rest.startswith(b"Kill"):
            return self._kill(rest)
        if not rest.startswith(b"Cont;"):
            return b""
        for action in rest[5:].split(b";"):
            what, _, thread = action.partition(b":")
            if what[:1] in (b"s", b"S"):
                n = int(thread, 16) - 1 if thread and not thread.startswith(b"-") else self._thread
                return self._go(n) if 0 <= n < len(self.timeline.harts.each) else BAD
            if what[:1] not in (b"c", b"C"):
                return BAD
        return self._go(-1)

    def _query(self, rest: bytes) -> bytes:
        name, _, more = rest.partition(b":")
        count = len(self.timeline.harts.each)
        if name == b"Supported":
            back = b"+" if self.reversible else b"-"
            return (
                b"PacketSize=%x;qXfer:features:read+;qXfer:memory-map:read+;swbreak+;hwbreak+;vContSupported+;QStartNoAckMode+;"
                b"ReverseStep%b;ReverseContinue%b" % (MOST, back, back)
            )
        if name == b"Xfer":
            return self._transfer(more)
        if name == b"fThreadInfo":
            return b"m" + b",".join(b"%x" % (n + 1) for n in range(count))
        if name.startswith(b"ThreadExtraInfo,"):
            n = int(name[16:], 16) - 1
            if not 0 <= n < count:
                return BAD
            hart = self.timeline.harts.each[n]
            text = f"hart {n}, {'USHM'[hart.cpu[at.PRIV]]}-mode{', waiting' if hart.waiting else ''}"
            return text.encode().hex().encode()
        if name.startswith(b"Rcmd,"):
            answer = monitor(self, bytes.fromhex(name[5:].decode("ascii")).decode("utf-8", "replace"))
            return (answer + "\n").encode()[: MOST // 2 - 8].hex().encode()
        fixed = {b"C": b"QC%x" % (self._thread + 1), b"sThreadInfo": b"l", b"Attached": b"1", b"Symbol": OK}
        fixed[b"qemu.PhyMemMode"] = b"1" if self.direct else b"0"
        return fixed.get(name, b"")

    def _set(self, rest: bytes) -> bytes:
        if rest == b"StartNoAckMode":
            return OK
        name, _, value = rest.partition(b":")
        if name == b"qemu.PhyMemMode":
            self.direct = value == b"1"
            return OK
        return b""

    def _transfer(self, rest: bytes) -> bytes:
        kind, how, name, where = rest.split(b":")
        if how != b"read" or (kind, name) not in ((b"features", b"target.xml"), (b"memory-map", b"")):
            return b"E00"
        text = registers.description().encode() if kind == b"features" else self._map()
        offset, length = self._range(where)
        piece = text[offset : offset + min(max(length, 0), MOST - 8)]
        return (b"m" if offset + len(piece) < len(text) else b"l") + piece

    @staticmethod
    def _map() -> bytes:
        """All of it may be asked for: addresses are virtual, and GDB would not ask for what is not in the map."""
        row = '<memory type="ram" start="0x0" length="0xffffffffffffffff"/>'
        return f'<?xml version="1.0"?><memory-map>{row}</memory-map>'.encode()
