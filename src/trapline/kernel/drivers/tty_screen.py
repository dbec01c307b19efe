"""The screen side of a line discipline: processing output (OPOST), echoing, and taking echoed characters back.

Invariant: `column` is where the cursor stands after everything that was emitted, as far as the characters tell.
"""

from __future__ import annotations

from collections.abc import Callable

from trapline.abi import termios as t
from trapline.kernel.drivers.termios import Termios


class Screen:
    """`emit` takes what goes to the screen."""

    def __init__(self, modes: Termios, emit: Callable[[bytes], None]) -> None:
        self.modes = modes
        self.emit = emit
        self.column = 0
        self.line_start = 0  #: the column where the line being edited begins
        self.erasing = False  #: between the "\\" and the "/" of ECHOPRT

    def output(self, data: bytes | memoryview) -> None:
        """Output of the program, processed as OPOST says."""
        data = bytes(data)
        oflag = self.modes.oflag
        if not oflag & t.OPOST:
            self.emit(data)
        elif oflag & (t.OLCUC | t.OCRNL | t.ONOCR | t.ONLRET | t.TABDLY) or not oflag & t.ONLCR:
            self.emit(b"".join([self._out(byte) for byte in data]))
        else:
            last = max(data.rfind(b"\n"), data.rfind(b"\r"))
            self.column = len(data) - last - 1 if last >= 0 else self.column + len(data)
            self.emit(data.replace(b"\n", b"\r\n"))

    def _out(self, byte: int) -> bytes:
        oflag = self.modes.oflag
        if byte == 10:
            if oflag & t.ONLRET:
                self.column = 0
            if oflag & t.ONLCR:
                self.column = 0
                return b"\r\n"
        elif byte == 13:
            if oflag & t.ONOCR and not self.column:
                return b""
            if oflag & t.OCRNL:
                if oflag & t.ONLRET:
                    self.column = 0
                return b"\n"
            self.column = 0
        elif byte == 9:
            spaces = 8 - (self.column & 7)
            self.column += spaces
            if oflag & t.TABDLY == t.XTABS:
                return b" " * spaces
        elif byte == 8:
            self.column = max(0, self.column - 1)
        elif byte >= 32 and byte != 127:
            if oflag & t.OLCUC and 97 <= byte <= 122:
                byte -= 32
            if byte & 0xC0 != 0x80 or not self.modes.iflag & t.IUTF8:
                self.column += 1
        return bytes((byte,))

    def emit_processed(self, text: bytes) -> None:
        """Echo that OPOST applies to."""
        if self.modes.oflag & t.OPOST:
            text = b"".join([self._out(byte) for byte in text])
        self.emit(text)

    def echo(self, byte: int) -> None:
        if self.modes.lflag & t.ECHOCTL and (byte < 32 or byte == 127) and byte != 9:
            self.column += 2
            self.emit(bytes((94, byte ^ 0x40)))
        else:
            self.emit_processed(bytes((byte,)))

    def finish_erasing(self) -> None:
        if self.erasing:
            self.emit(b"/")
            self.column += 1
            self.erasing = False

    def unecho(self, character: bytes, eraser: int, before: bytes) -> None:
        """Take one character from the screen; `before` is what is left of the line."""
        lflag = self.modes.lflag
        if lflag & t.ECHOPRT:
            if not self.erasing:
                self.emit(b"\\")
                self.erasing = True
            self.echo(character[0])
            return
        if eraser == self.modes.cc[t.VERASE] and not lflag & t.ECHOE:
            self.echo(eraser)
            return
        if character == b"\t":
            width = 8 - (self._width(before) & 7)
            self.emit(b"\b" * width)
        else:
            control = character[0] < 32 or character[0] == 127
            width = 1 if not control else 2 if lflag & t.ECHOCTL else 0
            self.emit(b"\b \b" * width)
        self.column = max(0, self.column - width)

    def _width(self, line: bytes) -> int:
        """The column where `line`, edited, ends on the screen."""
        column = self.line_start
        for byte in line:
            if byte == 9:
                column += 8 - (column & 7)
            elif byte < 32 or byte == 127:
                column += 2 if self.modes.lflag & t.ECHOCTL else 0
            elif byte & 0xC0 != 0x80 or not self.modes.iflag & t.IUTF8:
                column += 1
        return column
