"""A board's history: it can be gone back in, by executing again from checkpoints that are taken on the way.

A run follows from where it started and from what came from outside, which is noted here: input, time that passed while all
harts waited, resets. In a nutshell: whoever runs the board calls `run`, `let_pass`, `receive` and `reset` here; `back_to`
restores the nearest checkpoint before a place and executes up to it, with the output muted. Where history ends is the
*present*.

Invariant: `_done` has all that was asked of the board, in its order; what came while the guest polled the serial port is in
`_polled`, by the number of the poll.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from trapline.typed import TYPE_CHECKING, NamedTuple, Protocol

from trapline.machine.riscv.checkpoint import Checkpoint, restore, take
from trapline.machine.riscv.doorbell import monotonic_ns
from trapline.machine.riscv.harts import STOPPED, Position

if TYPE_CHECKING:
    from trapline.machine.riscv.board import Board
    from trapline.machine.riscv.devices.undo import Undo

MOST = 24  #: checkpoints; then every other one is dropped, but the first and the last
EVERY_NS = 500_000_000  #: of the host's time between two


class Port(Protocol):
    """What takes input for the guest."""

    def room(self) -> int: ...

    def receive(self, data: bytes) -> None: ...


class Mark(NamedTuple):
    """A checkpoint in history: what was done before it, how often the guest had polled."""

    position: Position
    done: int
    polls: int
    kept: Checkpoint
    disks: tuple[int, ...] = ()  #: their marks


class Timeline:
    """Of `board`, whose input goes to `port`. `mute(bool)` switches its output off and on. `disks`: what it can write to."""

    def __init__(self, board: Board, port: Port, mute: Callable[[bool], None], disks: Sequence[Undo] = ()) -> None:
        self.board, self._port, self._mute, self._disks = board, port, mute, disks
        self.harts = board.harts
        self.marks: list[Mark] = []
        self._done: list[Callable[[], int]] = []
        self._next = 0  # of them to be done again; all: this is the present
        self._polls = 0
        self._polled: dict[int, tuple[bytes, bool]] = {}
        self._came: bytearray | None = None  # during a poll
        self._replaying = False
        self._last_ns = -EVERY_NS
        self.present: Position = self.harts.position()
        self.hungry: Callable[[], object] = bool  #: what the guest's polls call in the present
        board.uart.hungry = self._poll

    @property
    def live(self) -> bool:
        """Whether this is the present."""
        return self._next == len(self._done) and (not self.harts.midway or self.harts.position() >= self.present)

    # ---- the present

    def run(self, budget: int, *, jump: bool = True) -> int:
        """As `Harts.run`."""
        if self.harts.midway:
            ended = self.harts.run(budget)
        else:
            self._remember()
            ended = self._do(lambda: self.harts.run(budget, jump=jump))
        self.present = self.harts.position()
        return ended

    def let_pass(self, units: int) -> None:
        self._do(lambda: self._pass(units))

    def _pass(self, units: int) -> int:
        self.harts.let_pass(units)
        return 0

    def ahead(self) -> int:
        return self.harts.ahead()

    def reset(self) -> None:
        self._do(self._reset)

    def _reset(self) -> int:
        self.board.reset()
        return 0

    def room(self) -> int:
        return self._port.room()

    def receive(self, data: bytes) -> None:
        """Input arrives."""
        if self._came is not None:
            self._came += data
            self._port.receive(data)
        else:
            self._do(lambda: self._receive(data))

    def _receive(self, data: bytes) -> int:
        self._port.receive(data)
        return 0

    def _do(self, what: Callable[[], int]) -> int:
        self._done.append(what)
        self._next += 1
        return what()

    def _poll(self) -> None:
        """The guest polls the serial port."""
        self._polls += 1
        if self._replaying:
            data, pause = self._polled.get(self._polls, (b"", False))
            if data:
                self._port.receive(data)
            self.harts.pause |= pause
        else:
            before, self._came = self.harts.pause, bytearray()
            try:
                self.hungry()
                if self._came or self.harts.pause != before:
                    self._polled[self._polls] = bytes(self._came), self.harts.pause
            finally:
                self._came = None

    # ---- checkpoints

    def _remember(self) -> None:
        if monotonic_ns() - self._last_ns >= EVERY_NS:
            self.mark()

    def mark(self) -> None:
        """Take a checkpoint here."""
        self._forget_marks()
        before = self.marks[-1].kept if self.marks else None
        kept, disks = take(self.board, before), tuple(each.mark() for each in self._disks)
        self.marks.append(Mark(self.harts.position(), self._next, self._polls, kept, disks))
        if len(self.marks) > MOST:
            self.marks[1:-1] = self.marks[1:-1:2]
        self._last_ns = monotonic_ns()

    def _forget_marks(self) -> None:
        """Drop those at which nobody knows any more what some disk held."""
        disks = self._disks
        self.marks = [each for each in self.marks if all(n >= disk.floor for n, disk in zip(each.disks, disks, strict=True))]

    def change(self) -> None:
        """Somebody has changed the board by hand: what followed is no more, and what was before cannot be reached."""
        self.harts.reconsider()
        del self._done[self._next :]
        self._polled = {n: what for n, what in self._polled.items() if n <= self._polls}
        self.present = self.harts.position()
        self.marks.clear()
        self.mark()

    # ---- the past

    def forward(self, to: Position | None = None) -> bool:
        """Execute again, up to `to`, or to the present. True: stopped before, after a step or where a debugger wants it."""
        target = self.present if to is None or to > self.present else to
        self._replaying = True
        self._mute(True)
        try:
            while not (self.live if to is None else self.harts.position() >= target):
                self.harts.target = target
                ended = 0
                if self.harts.midway:
                    ended = self.harts.run(0)
                elif self._next < len(self._done):
                    self._next += 1
                    ended = self._done[self._next - 1]()
                else:
                    break
                if ended == STOPPED and self.harts.wanted:
                    return True
            return False
        finally:
            self.harts.target = None
            self._mute(False)
            self._replaying = False

    def before(self, position: Position) -> list[Mark]:
        """The checkpoints before a place, the nearest first."""
        self._forget_marks()
        return [mark for mark in reversed(self.marks) if mark.position < position]

    def restore(self, mark: Mark) -> None:
        """Be there. Raises StorageError."""
        restore(self.board, mark.kept)
        for disk, n in zip(self._disks, mark.disks, strict=True):
            disk.rewind(n)
        self._next, self._polls = mark.done, mark.polls

    def back_to(self, position: Position) -> None:
        """Be there. Raises ValueError if no checkpoint is before it."""
        self._forget_marks()
        mark = next((mark for mark in reversed(self.marks) if mark.position <= position), None)
        if mark is None:
            raise ValueError("history begins later")
        self.restore(mark)
        observers = [hart.debug for hart in self.harts.each if hart.debug is not None]
        for each in observers:
            each.quiet = True
        try:
            self.forward(position)
        finally:
            for each in observers:
                each.quiet = False

    def step_back(self, hart: int) -> bool:
        """To before the last instruction that a hart has executed; False if history begins later."""
        number, spent, executed = self.harts.executed[hart]
        place = (number, hart, spent + executed - 1)
        self._forget_marks()
        if not executed or not self.marks or self.marks[0].position > place:
            return False
        self.back_to(place)
        return True

    def last_stop(self, here: Position, stops: Callable[[], Position | None]) -> Position | None:
        """The last place before `here` where a debugger stops; None if there is none. The board is then somewhere else.

        `stops`: called at each stop, says which place it is, or None if it does not count, and makes the hart pass it.
        """
        end = here
        for mark in self.before(here):
            self.restore(mark)
            found = None
            while self.forward(end):
                found = stops() or found
            if found is not None:
                return found
            end = mark.position
        return None
