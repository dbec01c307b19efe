"""What each packet of GDB's remote protocol does to a halted board.

An access is announced before it is made, as GDB expects of this architecture; in reverse, behind it. Threads are harts,
numbered from 1. All harts halt together, and all go on together, in their turns.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.machine.riscv import layout as at
from trapline.machine.riscv.debug import Debug
from trapline.scope.gdb import lens, registers
from trapline.scope.gdb.monitor import monitor
from trapline.scope.gdb.packets import MOST
from trapline.scope.gdb.target import BAD, OK, WATCH_NAMES, Target

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart
    from trapline.machine.riscv.harts import Position
    from trapline.machine.riscv.timeline import Timeline


class Server(Target):
    """`reversible`: history can be gone back in."""

    def __init__(self, timeline: Timeline, *, reversible: bool = True) -> None:
        super().__init__()
        self.timeline = timeline
        self.reversible = reversible
        self.direct = False  #: addresses are physical
        self._thread = 0
        self._debug: Debug | None = None
        self._table |= {
            b"b": self._back, b"c": lambda _: self._go(-1), b"C": lambda _: self._go(-1),
            b"s": lambda _: self._go(self._thread), b"S": lambda _: self._go(self._thread),
        }  # fmt: skip

    @property
    def hart(self) -> Hart:
        return self.timeline.harts.each[self._thread]

    def register(self, n: int) -> int | None:
        return registers.read(self.hart, n)

    def set_register(self, n: int, value: int) -> bool:
        return registers.write(self.hart, n, value)

    def changed(self) -> None:
        self.timeline.change()

    def look(self, address: int, length: int) -> bytes:
        return lens.look(self.hart, address, length, direct=self.direct)

    def put(self, address: int, data: bytes) -> bool:
        if not lens.put(self.hart, address, data, direct=self.direct):
            return False
        for hart in self.timeline.harts.each:
            hart.forget_pages()  # it may be code
        return True

    # ---- where to stop

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
            return b"%b:%x;" % (WATCH_NAMES[debug.hit.watch.access].encode(), debug.hit.address)
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

    def release(self) -> None:
        """Nobody debugs any more: the machine goes on from the present."""
        self._breaks.clear()
        self._watches.clear()
        self._arm(stepping=False)
        self.timeline.harts.stepping = -1
        self.timeline.forward()

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
        name, _, value = rest.partition(b":")
        if name == b"qemu.PhyMemMode":
            self.direct = value == b"1"
            return OK
        return super()._set(rest)

    def document(self, kind: bytes, name: bytes) -> bytes | None:
        if (kind, name) == (b"features", b"target.xml"):
            return registers.description().encode()
        return self._map() if (kind, name) == (b"memory-map", b"") else None

    @staticmethod
    def _map() -> bytes:
        """All of it may be asked for: addresses are virtual, and GDB would not ask for what is not in the map."""
        row = '<memory type="ram" start="0x0" length="0xffffffffffffffff"/>'
        return f'<?xml version="1.0"?><memory-map>{row}</memory-map>'.encode()
