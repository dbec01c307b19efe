"""`trapline boot FILE`: a program on a whole RISC-V computer, with nothing between it and the hardware.

The serial port is standard input and output. In a terminal every key goes to the guest, Ctrl-C too; Ctrl-A X ends the machine,
Ctrl-A Ctrl-A sends one Ctrl-A.
"""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from typing import TYPE_CHECKING

from trapline.cli import values
from trapline.cli.main import FAILED, complain, say
from trapline.cli.options import Option, UsageError, describe, parse

if TYPE_CHECKING:
    from trapline.machine.riscv.board import Board

OPTIONS = (
    Option("--memory", "SIZE", "RAM of the board, at 0x80000000 (default: 128M)"),
    Option("--harts", "N", "hardware threads, which take turns (default: 1)"),
    Option("--tier", "native|reference", "how instructions are executed (default: native if llvmlite is installed)"),
    Option("--timeout", "TIME", "stop after TIME (10, 1.5s, 2m) and exit with 124"),
    Option("--stats", "", "say at the end what was executed, on stderr"),
    Option("--help", "", "this text"),
)

def usage() -> str:
    """The help text."""
    return f"""\
usage: trapline boot [OPTION]... FILE

Runs FILE, a riscv64 ELF program linked for bare metal, in M-mode on a board
laid out as QEMU's `virt`: RAM at 0x80000000, a 16550 at 0x10000000, ACLINT,
PLIC, and a test finisher at 0x100000, whose verdict is the exit status.

{describe(OPTIONS)}

In a terminal, Ctrl-A X ends the machine.

exit status: the finisher's; 124 time-out; 125 trapline itself failed
"""

TIMED_OUT, INTERRUPTED = 124, 130
CHUNK = 2_000_000  #: units of virtual time between two looks at the terminal
ESCAPE, QUIT = 1, b"xX"


def main(words: list[str]) -> int:
    """Run the command line `words`; the exit status."""
    parsed = parse(words, OPTIONS)
    if parsed.flag("--help"):
        return say(usage())
    if len(parsed.rest) != 1:
        raise UsageError("boot takes one file: write `trapline boot FILE`")
    from trapline.machine.riscv.board import BadImage, Board
    from trapline.machine.riscv.board import parse as parse_image

    memory = values.size("--memory", parsed.last("--memory", "128M"))
    harts = values.number("--harts", parsed.last("--harts", "1"), 1, 64)
    timeout_s = values.duration_ns("--timeout", parsed.last("--timeout")) / 1e9 if parsed.flag("--timeout") else None
    native = _native(parsed.last("--tier"))
    path = parsed.rest[0]
    try:
        with open(path, "rb") as file:
            program = parse_image(file.read())
        board = Board(memory, harts, send=_write, native=native)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except BadImage as error:
        raise UsageError(f"{path}: {error}") from None
    start = time.perf_counter()
    try:
        board.load(program)
        return _Session(board, timeout_s).run()
    except BadImage as error:
        raise UsageError(f"{path}: {error}") from None
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return 128 + 13
    except OSError as error:
        complain(f"standard input or output: {error.strerror}")
        return FAILED
    finally:
        board.close()
        if parsed.flag("--stats"):
            complain(_stats(board, time.perf_counter() - start))


def _native(tier: str) -> bool:
    """Whether to use the native tiers."""
    if tier not in ("", "native", "reference"):
        raise UsageError(f"--tier {tier}: write native or reference")
    if tier == "reference":
        return False
    from trapline.machine.riscv.jit import available

    lacking = available.why_not()
    if lacking and tier == "native":
        raise UsageError(f"--tier native: {lacking}")
    return not lacking


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _stats(board: Board, seconds: float) -> str:
    from trapline.machine.riscv import layout as at

    retired = sum(hart.cpu[at.INSTRET] for hart in board.harts.each)
    traps = sum(hart.traps_taken for hart in board.harts.each)
    regions = f", {board.tiers.compiled} regions of hot code" if board.tiers is not None else ""
    rate = retired / seconds / 1e6 if seconds else 0.0
    return f"{retired} instructions in {seconds:.2f} s ({rate:.1f} MIPS), {traps} traps{regions}"


class _Session:
    """The machine's life, and the terminal's."""

    def __init__(self, board: Board, timeout_s: float | None) -> None:
        self._board = board
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._stdin = 0  #: -1 when it has ended
        self._input = bytearray()
        self._terminal = os.isatty(0)
        self._escaped = False
        self._quit = False

    def run(self) -> int:
        """The exit status."""
        if not self._terminal:
            return self._loop()
        found = termios.tcgetattr(0)
        try:
            tty.setraw(0, termios.TCSANOW)
            attributes = termios.tcgetattr(0)
            attributes[1] |= termios.OPOST | termios.ONLCR
            termios.tcsetattr(0, termios.TCSANOW, attributes)
            return self._loop()
        finally:
            termios.tcsetattr(0, termios.TCSANOW, found)

    def _loop(self) -> int:
        from trapline.machine.riscv.devices.finisher import REBOOT
        from trapline.machine.riscv.harts import HALTED, IDLE

        harts = self._board.harts
        while True:
            ended = harts.run(CHUNK)
            if ended == HALTED:
                assert harts.halt is not None
                status = harts.halt.status
                if status == REBOOT:
                    raise UsageError("the program asked for a reset: there is no firmware to start it again")
                return status
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return TIMED_OUT
            idle = ended == IDLE
            if idle and self._stdin < 0 and not self._input:
                complain("every hart waits for an interrupt, and none can come: the machine has stopped")
                return FAILED
            self._look(wait=idle and not self._input)
            if self._quit:
                return 0
            self._feed()

    def _look(self, *, wait: bool) -> None:
        """Take in what standard input has; when every hart sleeps, wait for it."""
        if self._stdin < 0 or len(self._input) > 4096:
            return
        timeout = 0.0
        if wait:
            timeout = -1.0 if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        ready, _, _ = select.select([self._stdin], [], [], None if timeout < 0 else timeout)
        if not ready:
            return
        data = os.read(self._stdin, 4096)
        if not data:
            self._stdin = -1
        self._input += self._keys(data) if self._terminal else data

    def _keys(self, data: bytes) -> bytes:
        """What the guest gets of the keys pressed."""
        out = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte in QUIT:
                    self._quit = True
                elif byte == ESCAPE:
                    out.append(byte)
            elif byte == ESCAPE:
                self._escaped = True
            else:
                out.append(byte)
        return bytes(out)

    def _feed(self) -> None:
        """Give the serial port as much as it has room for."""
        room = self._board.uart.room()
        if room > 0 and self._input:
            self._board.uart.receive(bytes(self._input[:room]))
            del self._input[:room]
