"""The terminal line discipline N_TTY: what happens between a keyboard and a program (termios(3)).

Input characters come in by `receive`, are edited, echoed, turned into signals and collected into lines; `read` hands them to
the program. Output of the program goes through `screen.output`, as echo does.

Partial: parity and break handling (IGNPAR, INPCK, BRKINT) have no line to act on; IXOFF and EXTPROC are ignored.

Invariants:
- in canonical mode input is in `lines` (complete, readable) and `edit` (being typed); otherwise in `raw`;
- a line without its terminator was ended by the EOF character; an empty one is an end of file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from trapline.abi import termios as t
from trapline.abi.signal import SIGINT, SIGQUIT, SIGTSTP
from trapline.kernel.drivers.termios import Termios
from trapline.kernel.drivers.tty_screen import Screen

SIZE = 4096  #: N_TTY_BUF_SIZE: how much input is kept
_SPECIALS = (
    t.VINTR, t.VQUIT, t.VSUSP, t.VSTART, t.VSTOP, t.VERASE, t.VKILL, t.VWERASE, t.VEOF, t.VEOL, t.VEOL2, t.VLNEXT,
    t.VREPRINT,
)  # fmt: skip


class LineDiscipline:
    """One terminal's. `signal(signo)` goes to the foreground group; `flow(stopped)` says that output stops or goes on."""

    def __init__(
        self, modes: Termios, emit: Callable[[bytes], None], signal: Callable[[int], None],
        flow: Callable[[bool], None], flushed: Callable[[], None],
    ) -> None:  # fmt: skip
        self.modes = modes
        self.screen = Screen(modes, emit)
        self.signal = signal
        self.flow = flow
        self.flushed = flushed  #: a signal character threw away output
        self.lines: deque[bytes] = deque()
        self.edit = bytearray()
        self.raw = bytearray()
        self.queued = 0  #: bytes in `lines`
        self.stopped = False  #: by the STOP character
        self.held = False  #: by tcflow(3)
        self._literal = False
        self._canonical = True
        self.modes_changed()

    def modes_changed(self) -> None:
        """`modes` were set: input that is waiting changes its form with ICANON."""
        modes = self.modes
        canonical = bool(modes.lflag & t.ICANON)
        if canonical and not self._canonical and self.raw:
            self._complete(bytes(self.raw))
            self.raw.clear()
        elif not canonical and self._canonical:
            self.raw += b"".join(self.lines) + self.edit
            self.lines.clear()
            self.edit.clear()
            self.queued = 0
        self._canonical = canonical
        self._literal = self.screen.erasing = False
        self._special = frozenset(modes.cc[i] for i in _SPECIALS if modes.cc[i] != t.DISABLED_CHAR) | {10, 13}
        self._transparent = not (
            modes.lflag & (t.ICANON | t.ISIG | t.ECHO)
            or modes.iflag & (t.IXON | t.ISTRIP | t.IUCLC | t.IGNCR | t.ICRNL | t.INLCR | t.PARMRK)
        )
        if self.stopped and not modes.iflag & t.IXON:
            self.start()

    # ---- the program's side

    def room(self) -> int:
        """How many characters `receive` takes now. Without a complete line, more are taken, and dropped."""
        left = SIZE - 1 - self.queued - len(self.edit) - len(self.raw)
        if left <= 0:
            return 1 if self._canonical and not self.lines else 0
        return left

    def available(self) -> int:
        """Bytes that can be read now (FIONREAD)."""
        return self.queued if self._canonical else len(self.raw)

    def readable(self) -> bool:
        """A read would not wait (poll(2): VMIN characters, or one if VTIME is set)."""
        if self._canonical:
            return bool(self.lines)
        cc = self.modes.cc
        return len(self.raw) >= (max(1, cc[t.VMIN]) if not cc[t.VTIME] else 1)

    def read(self, count: int, *, timed_out: bool = False) -> bytes | None:
        """A line, or raw input under VMIN; None: nothing to return yet; b"": end of file."""
        if self._canonical:
            if not self.lines:
                return None
            line = self.lines.popleft()
            if len(line) > count:
                self.lines.appendleft(line[count:])
                line = line[:count]
            self.queued -= len(line)
            return line
        cc = self.modes.cc
        if not timed_out and len(self.raw) < min(cc[t.VMIN], count):
            return None
        if not self.raw and not timed_out and (cc[t.VMIN] or cc[t.VTIME]):
            return None
        data = bytes(self.raw[:count])
        del self.raw[:count]
        return data

    def patience_ns(self, count: int) -> int | None:
        """How long a read that got None waits: VTIME from the start (VMIN 0), or between characters."""
        cc = self.modes.cc
        if self._canonical or not cc[t.VTIME] or (cc[t.VMIN] and not self.raw):
            return None
        return cc[t.VTIME] * 100_000_000

    def flush_input(self) -> None:
        self.lines.clear()
        self.edit.clear()
        self.raw.clear()
        self.queued = 0

    # ---- the keyboard's side

    def receive(self, data: bytes | memoryview) -> int:
        """Characters typed; how many were taken."""
        taken = 0
        for byte in data:
            room = self.room()
            if not room:
                break
            if self._transparent:
                part = data[taken : taken + room]
                self.raw += part
                taken += len(part)
                if taken < len(data):
                    continue
                break
            taken += 1
            self._type(byte, room)
        return taken

    def _type(self, byte: int, room: int) -> None:
        iflag = self.modes.iflag
        if iflag & t.ISTRIP:
            byte &= 0x7F
        if iflag & t.IUCLC and self.modes.lflag & t.IEXTEN and 65 <= byte <= 90:
            byte += 32
        if self._literal:
            self._literal = False
            self._plain(byte, room)
        elif byte not in self._special:
            if self.stopped and iflag & t.IXON and iflag & t.IXANY:
                self.start()
            self._plain(byte, room)
        elif not self._control(byte):
            self._newlines(byte, room)

    def _control(self, byte: int) -> bool:
        """Flow control and signals."""
        modes = self.modes
        cc, iflag = modes.cc, modes.iflag
        if iflag & t.IXON and byte in (cc[t.VSTART], cc[t.VSTOP]) and byte:
            if byte == cc[t.VSTART]:
                self.start()
            else:
                self.stop()
            return True
        if modes.lflag & t.ISIG and byte:
            signo = {cc[t.VINTR]: SIGINT, cc[t.VQUIT]: SIGQUIT, cc[t.VSUSP]: SIGTSTP}.get(byte, 0)
            if signo:
                self._signal(byte, signo)
                return True
        if self.stopped and iflag & t.IXON and iflag & t.IXANY:
            self.start()
        return False

    def _signal(self, byte: int, signo: int) -> None:
        if not self.modes.lflag & t.NOFLSH:
            self.flush_input()
            self.flushed()
        if self.modes.iflag & t.IXON:
            self.start()
        if self.modes.lflag & t.ECHO:
            self.screen.echo(byte)
        self.signal(signo)

    def _newlines(self, byte: int, room: int) -> None:
        iflag = self.modes.iflag
        if byte == 13:
            if iflag & t.IGNCR:
                return
            if iflag & t.ICRNL:
                byte = 10
        elif byte == 10 and iflag & t.INLCR:
            byte = 13
        if not (self._canonical and self._editing(byte)):
            self._plain(byte, room)

    def _editing(self, byte: int) -> bool:
        """Canonical mode: erase, kill, ends of lines. True if the character meant one of them."""
        modes = self.modes
        cc, lflag = modes.cc, modes.lflag
        extended = lflag & t.IEXTEN
        if byte in (cc[t.VERASE], cc[t.VKILL]) or (extended and byte == cc[t.VWERASE]):
            self._erase(byte)
        elif extended and byte == cc[t.VLNEXT]:
            self._literal = True
            if lflag & t.ECHO:
                self.screen.finish_erasing()
                if lflag & t.ECHOCTL:
                    self.screen.emit(b"^\b")
        elif extended and lflag & t.ECHO and byte == cc[t.VREPRINT]:
            self._reprint(byte)
        elif byte == 10:
            if lflag & (t.ECHO | t.ECHONL):
                self.screen.finish_erasing()
                self.screen.emit_processed(b"\n")
            self._end_line(b"\n")
        elif byte == cc[t.VEOF]:
            self._end_line(b"")
        elif byte == cc[t.VEOL] or (extended and byte == cc[t.VEOL2]):
            if lflag & t.ECHO:
                self.screen.echo(byte)
            self._end_line(bytes((byte,)))
        else:
            return False
        return True

    def _plain(self, byte: int, room: int) -> None:
        """An ordinary character."""
        full = self._canonical and room <= 1 and len(self.edit) + self.queued >= SIZE - 1
        if full:
            if self.modes.iflag & t.IMAXBEL:
                self.screen.emit(b"\a")
            return
        lflag = self.modes.lflag
        if lflag & t.ECHO:
            self.screen.finish_erasing()
            if not self.edit:
                self.screen.line_start = self.screen.column
            if byte == 10:
                self.screen.emit_processed(b"\n")
            else:
                self.screen.echo(byte)
        into = self.edit if self._canonical else self.raw
        if byte == 0xFF and self.modes.iflag & t.PARMRK:
            into.append(byte)
        into.append(byte)

    def _end_line(self, end: bytes) -> None:
        self.screen.erasing = False
        self._complete(bytes(self.edit) + end)
        self.edit.clear()

    def _complete(self, line: bytes) -> None:
        self.lines.append(line)
        self.queued += len(line)

    # ---- echo

    def _reprint(self, byte: int) -> None:
        self.screen.finish_erasing()
        self.screen.echo(byte)
        self.screen.emit_processed(b"\n")
        for each in bytes(self.edit):
            self.screen.echo(each)

    def _erase(self, byte: int) -> None:
        cc, lflag = self.modes.cc, self.modes.lflag
        edit = self.edit
        if not edit:
            return
        if byte == cc[t.VKILL]:
            if not lflag & t.ECHO:
                edit.clear()
                return
            if not lflag & t.ECHOK or not lflag & t.ECHOKE or not lflag & t.ECHOE:
                edit.clear()
                self.screen.finish_erasing()
                self.screen.echo(byte)
                if lflag & t.ECHOK:
                    self.screen.emit_processed(b"\n")
                return
        in_word = False
        while edit:
            character = self._last_character()
            if byte == cc[t.VWERASE] and byte != cc[t.VERASE]:
                if character.isalnum() or character == b"_" or character[0] >= 0x80:
                    in_word = True
                elif in_word:
                    break
            del edit[-len(character) :]
            if lflag & t.ECHO:
                self.screen.unecho(character, byte, bytes(edit))
            if byte == cc[t.VERASE]:
                break
        if not edit and lflag & t.ECHO:
            self.screen.finish_erasing()

    def _last_character(self) -> bytes:
        edit = self.edit
        start = len(edit) - 1
        if self.modes.iflag & t.IUTF8:
            while start > 0 and edit[start] & 0xC0 == 0x80:
                start -= 1
        return bytes(edit[start:])

    # ---- flow control

    def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            self.flow(True)

    def start(self) -> None:
        if self.stopped:
            self.stopped = False
            self.flow(False)

    def hold(self, on: bool) -> None:
        """tcflow(3): TCOOFF and TCOON."""
        if self.held != on:
            self.held = on
            self.flow(on)
