"""The life of a machine that `trapline boot` has started, between the standard streams.

Input goes to a port of the guest's, output comes a line at a time.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from trapline.typed import TYPE_CHECKING, Protocol

from trapline.cli.main import FAILED, complain
from trapline.cli.patience import Patience
from trapline.cli.terminal import HELP_TEXT, LIST, QUIT, RESET, SAVE, STATUS, Keys, Raw

if TYPE_CHECKING:
    from trapline.cli.gdb import BoardDebugger
    from trapline.machine.riscv.board import Board

TIMED_OUT = 124
LINE = 4096  #: bytes that are printed at once
PIPE = 4096  #: bytes that a pipe takes without blocking if it takes any (PIPE_BUF)
CHUNK, SHORT = 2_000_000, 100_000  #: units of virtual time between two looks outside; at a terminal, and while a link is busy
ON_THREADS, SHORT_ON_THREADS = 20_000_000, 2_000_000  #: the same, where harts run on threads: they stop for each
POLLS = 64  #: polls by the guest for one look at a terminal
UNIT_NS = 1  #: of virtual time


class Port(Protocol):
    """What takes input for the guest."""

    def room(self) -> int: ...

    def receive(self, data: bytes) -> None: ...


class Wire(Protocol):
    """What else the machine is connected to."""

    @property
    def full(self) -> bool:
        """Whether something waits until `fileno` can be written."""

    def fileno(self) -> int:
        """What to wait for; -1 if nothing can come."""

    def ready(self) -> None:
        """Something has come."""

    def due(self) -> float | None:
        """Seconds until `flush` must be called; None: there is no need."""

    def flush(self) -> bool:
        """Go on with what did not go at once; whether something has come of it for the guest."""


class Late(Exception):
    """Nobody has read standard output until the time-out."""


class Output:
    """Standard output, a line at a time: one byte at a time costs more than the machine."""

    def __init__(self) -> None:
        self._held = bytearray()
        self.muted = False
        self.deadline: float | None = None  #: monotonic seconds; until then somebody must read

    def mute(self, muted: bool) -> None:
        """While it is, what the guest prints has been printed before."""
        self.muted = muted

    def send(self, data: bytes) -> None:
        """What the guest prints. Raises OSError, Late."""
        if self.muted:
            return
        self._held += data
        if data[-1:] == b"\n" or len(self._held) > LINE:
            self.flush()

    def flush(self) -> None:
        """Raises OSError, Late."""
        data = memoryview(bytes(self._held))
        self._held.clear()
        while data:
            piece = data
            if self.deadline is not None:
                self._wait(self.deadline)
                piece = data[:PIPE]
            data = data[os.write(1, piece) :]

    @staticmethod
    def _wait(deadline: float) -> None:
        """Until a write does not block. Raises Late."""
        if not select.select([], [1], [], 0)[1] and not select.select([], [1], [], max(0.0, deadline - time.monotonic()))[1]:
            raise Late


def statistics(board: Board, seconds: float) -> str:
    """What happened in a run of `seconds`; with native tiers, what they left, and why."""
    from trapline.machine.riscv import layout as at

    retired = sum(hart.cpu[at.INSTRET] for hart in board.harts.each)
    traps = sum(hart.traps_taken for hart in board.harts.each)
    rate = retired / seconds / 1e6 if seconds else 0.0
    line = f"{retired} instructions in {seconds:.2f} s ({rate:.1f} MIPS), {traps} traps"
    if board.tiers is None:
        return line
    return f"{line}, {board.tiers.summary()}\n{board.tiers.account()}"


class Session:
    """The machine's life, and what standard input brings."""

    def __init__(
        self, board: Board, port: Port, output: Output, *, timeout_s: float | None, host_clock: bool, once: bool,
        links: Sequence[Wire] = (), save: Callable[[], bool] | None = None, debugger: BoardDebugger | None = None,
        threads: bool = False,
    ) -> None:  # fmt: skip
        """`threads`: harts run on threads of their own.
        `host_clock`: waiting takes as long as it says. `once`: a reset by the guest ends it. `links`: of network cards.
        `debugger`: it may halt the machine, and keeps its history.
        `save`: keeps a checkpoint, when the machine is left before it has ended, at a key, or at the harts' alarm; whether it
        could."""
        self._board, self._port, self._output = board, port, output
        self._start = time.monotonic()
        self._deadline = None if timeout_s is None else self._start + timeout_s
        self._stdin = 0  #: -1 when it has ended
        self._input = bytearray()
        self._keys = Keys() if os.isatty(0) else None
        self._host_clock = host_clock
        self._once = once
        self._save = save
        self._debugger = debugger
        self._harts = board.harts if debugger is None else debugger.timeline
        self._quit = False
        self._polls = 0
        self._polls_feed = port is board.uart or debugger is not None
        self._links = links
        self._patience = Patience()
        self._arrived = False  #: something has come over a link
        self._early = False  #: the last look was cut short by what a link had to do
        self._span = self._most = ON_THREADS if threads else CHUNK if self._keys is None else SHORT
        self._least = (SHORT_ON_THREADS if threads else SHORT) if links else self._most
        if threads:
            board.uart.hungry = self._polled_by_thread
        elif debugger is not None:
            debugger.timeline.hungry = self._polled
        else:
            board.uart.hungry = self._polled

    def run(self) -> int:
        """The exit status. Raises OSError of the standard streams, Ended."""
        self._output.deadline = self._deadline
        with Raw() if self._keys is not None else nullcontext():
            try:
                try:
                    return self._loop()
                finally:
                    self._output.flush()
            except Late:
                return self._leave(TIMED_OUT)

    def _loop(self) -> int:
        from trapline.machine.riscv.harts import HALTED, IDLE, STOPPED, WAITS

        harts = self._harts
        while True:
            ended = harts.run(self._span, jump=not self._host_clock)
            self._output.flush()
            if ended == HALTED:
                status = self._halted()
                if status is not None:
                    if self._debugger is not None:
                        self._debugger.ended(status)
                    return status
            if ended == STOPPED:
                if self._debugger is None:
                    return self._leave(0)
                self._debugger.halted()
                if self._debugger.killed:
                    return self._leave(0)
                continue
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return self._leave(TIMED_OUT)
            if ended == IDLE and self._stdin < 0 and not self._input and not self._links:
                complain("every hart waits for an interrupt, and none can come: the machine has stopped")
                return FAILED
            if ended == WAITS and not self._input:
                self._rest(harts.ahead())
            else:
                self._look(-1.0 if ended == IDLE and not self._input else 0.0)
            if self._quit or (self._debugger is not None and self._debugger.killed):
                return self._leave(0)
            self._span = self._least if self._arrived else min(2 * self._span, self._most)
            self._feed()

    def _leave(self, status: int) -> int:
        """Leave a machine that has not ended; the exit status."""
        if self._save is not None and not self._save():
            return FAILED
        return status

    def _halted(self) -> int | None:
        """The exit status; None if the board starts again."""
        from trapline.machine.riscv.devices.finisher import REBOOT

        assert self._board.harts.halt is not None
        status = self._board.harts.halt.status
        if status != REBOOT:
            return status
        if self._once:
            return 0
        self._reset()
        return None

    def _reset(self) -> None:
        if self._debugger is not None:
            self._debugger.timeline.reset()
        else:
            self._board.reset()

    def _rest(self, units: int) -> None:
        """Every hart waits for a time that is `units` ahead: wait as long, or until something is typed."""
        before = time.monotonic_ns()
        self._look(units * UNIT_NS / 1e9)
        passed = (time.monotonic_ns() - before) // UNIT_NS
        self._harts.let_pass(min(units, passed) if self._input or self._arrived or self._early else units)

    def _look(self, timeout_s: float) -> None:
        """Take in what standard input has, waiting for it (less than 0: for ever), but not longer than the time-out."""
        self._arrived = False
        if self._deadline is not None:
            left = max(0.0, self._deadline - time.monotonic())
            timeout_s = left if timeout_s < 0 else min(timeout_s, left)
        due = min((each for each in (wire.due() for wire in self._links) if each is not None), default=None)
        self._early = due is not None and (timeout_s < 0 or due < timeout_s)
        if self._early and due is not None:
            timeout_s = due
        wanted: list[int | Wire] = [each for each in self._links if each.fileno() >= 0]
        if self._stdin >= 0 and len(self._input) <= 4096:
            wanted.append(self._stdin)
        full = [each for each in self._links if each.full]
        ready, empty = self._patience.wait(wanted, full, None if timeout_s < 0 else timeout_s)
        self._early |= bool(empty)
        for wire in self._links:
            self._arrived |= wire.flush()
            if wire in ready:
                self._arrived = True
                wire.ready()
        if self._stdin in ready:
            self._read()

    def _read(self) -> None:
        """Take in what standard input has."""
        data = os.read(self._stdin, 4096)
        if not data:
            self._stdin = -1
        if self._keys is None:
            self._input += data
            return
        typed, commands = self._keys.split(data)
        self._input += typed
        for command in commands:
            self._obey(command)

    def _polled(self) -> None:
        """The guest polls the serial port: serve it at once, as it may go on for the whole turn."""
        self._polls += 1
        if not self._input and self._polls % POLLS == 0:
            self._board.uart.flush()
            self._output.flush()
            self._look(0.0)
            self._board.harts.pause = True
        if self._polls_feed:
            self._feed()

    def _polled_by_thread(self) -> None:
        """The same, on a hart's thread: the session's own will look, when all have stopped."""
        self._polls += 1
        if not self._input and self._polls % POLLS == 0:
            self._board.harts.pause = True
            self._board.harts.hurry()

    def _obey(self, command: str) -> None:
        if command == QUIT:
            self._quit = True
        elif command == RESET:
            self._reset()
        elif command == SAVE:
            if self._save is None:
                self._aside("there is nowhere to save to: start with --save FILE")
            elif self._save():
                self._aside("kept")
        elif command == STATUS:
            self._aside(statistics(self._board, time.monotonic() - self._start))
        elif command == LIST:
            self._aside(HELP_TEXT)

    def _aside(self, text: str) -> None:
        """Say something between what the guest prints, on lines of its own."""
        self._output.send(b"\n")
        self._output.flush()
        complain(text)

    def _feed(self) -> None:
        """Give the port as much as it has room for."""
        room = self._port.room() if self._input else 0
        if room > 0:
            self._port.receive(bytes(self._input[:room]))
            del self._input[:room]
