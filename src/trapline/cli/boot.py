"""`trapline boot`: a whole RISC-V computer, started from a bare-metal program, firmware or a kernel.

The serial port is standard input and output; `cli/terminal.py` says which keys stay with us. Host files are opened here, and
only those that the command line names.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import ExitStack, nullcontext
from trapline.typed import TYPE_CHECKING, Protocol

from trapline.cli import values
from trapline.cli.main import FAILED, complain, say
from trapline.cli.options import Option, Parsed, UsageError, describe, parse
from trapline.cli.terminal import HELP_TEXT, LIST, QUIT, RESET, STATUS, Ended, Keys, Raw

if TYPE_CHECKING:
    from trapline.machine.riscv.board import Board
    from trapline.machine.riscv.firmware import Files

OPTIONS = (
    Option("--bios", "FILE", "firmware, entered in M-mode; `default`: OpenSBI; `none` (default: OpenSBI with --kernel)"),
    Option("--kernel", "FILE", "what the firmware starts in S-mode: a flat image (Linux: Image) or an ELF file"),
    Option("--initrd", "FILE", "initial RAM disk of the kernel"),
    Option("--append", "TEXT", "the kernel's command line"),
    Option("--dtb", "FILE", "give the guest this device tree, not the board's own"),
    Option("--dump-dtb", "FILE", "write the device tree to FILE and stop (dtc reads it)"),
    Option("--drive", "FILE[,ro][,overlay=FILE]", "a disk (virtio); with an overlay, FILE is not changed", many=True),
    Option("--rng", "", "a source of random numbers (virtio), which follow from --seed"),
    Option("--console", "serial|virtio", "what standard input reaches; both print (default: serial)"),
    Option("--memory", "SIZE", "RAM of the board, at 0x80000000 (default: 128M)"),
    Option("--harts", "N", "hardware threads, which take turns (default: 1)"),
    Option("--clock", "virtual|host", "while every hart waits: time jumps ahead, or passes (default: host in a terminal)"),
    Option("--seed", "N|random", "of the guest's random numbers (default: 0, the same in every run)"),
    Option("--no-reboot", "", "end with status 0 when the guest resets the board, instead of starting again"),
    Option("--tier", "TIER", "reference, or up to native, baseline or interpreter (default: native, if llvmlite is there)"),
    Option("--timeout", "TIME", "stop after TIME (10, 1.5s, 2m) and exit with 124"),
    Option("--stats", "", "say at the end what was executed, on stderr"),
    Option("--help", "", "this text"),
)

def usage() -> str:
    """The help text."""
    return f"""\
usage: trapline boot [OPTION]... FILE
       trapline boot [OPTION]... --kernel IMAGE [--initrd FILE] [--append TEXT]
       trapline boot [OPTION]... --bios FIRMWARE

Starts a riscv64 computer laid out as QEMU's `virt`: RAM at 0x80000000, a
16550 at 0x10000000, ACLINT, PLIC, a clock, and a test finisher at 0x100000,
whose verdict is the exit status. FILE is an ELF program linked for bare metal,
entered in M-mode. docs/riscv.md shows how to boot Linux.

{describe(OPTIONS)}

In a terminal, Ctrl-A X ends the machine; Ctrl-A H lists what else there is.

exit status: the finisher's; 124 time-out; 125 trapline itself failed
"""

class Port(Protocol):
    """What takes input for the guest."""

    def room(self) -> int: ...

    def receive(self, data: bytes) -> None: ...


TIMED_OUT, INTERRUPTED = 124, 130
CHUNK = 2_000_000  #: units of virtual time between two looks at the terminal
UNIT_NS = 1  #: of virtual time
FIRMWARE = (
    "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin",
    "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin",
)


def main(words: list[str]) -> int:
    """Run the command line `words`; the exit status."""
    parsed = parse(words, OPTIONS)
    if parsed.flag("--help"):
        return say(usage())
    timeout_s = values.duration_ns("--timeout", parsed.last("--timeout")) / 1e9 if parsed.flag("--timeout") else None
    files = _files(parsed)
    path = parsed.rest[0] if parsed.rest else ""
    with ExitStack() as opened:
        board = _board(parsed)
        opened.callback(board.close)
        port = _devices(board, parsed, opened)
        return _run(board, port, parsed, files, path, timeout_s)


def _run(board: Board, port: Port, parsed: Parsed, files: Files, path: str, timeout_s: float | None) -> int:
    """Start the board, and let it run to its end; the exit status."""
    from trapline.machine.riscv.firmware import BadImage

    start = time.perf_counter()
    try:
        if parsed.flag("--dump-dtb"):
            return _dump(parsed.last("--dump-dtb"), board.device_tree(files))
        if path:
            from trapline.machine.riscv.firmware import parse as program

            board.load(program(_read(path)), files)
        else:
            board.boot(files)
        return Session(board, port, parsed, timeout_s).run()
    except BadImage as error:
        raise UsageError(f"{path}: {error}" if path else str(error)) from None
    except KeyboardInterrupt:
        return INTERRUPTED
    except Ended as ended:
        return 128 + ended.signo
    except BrokenPipeError:
        return 128 + 13
    except OSError as error:
        complain(f"standard input or output: {error.strerror}")
        return FAILED
    finally:
        if parsed.flag("--stats"):
            complain(statistics(board, time.perf_counter() - start))


# ---- what the command line asks for


def _files(parsed: Parsed) -> Files:
    """The contents of what is to be started. Raises UsageError."""
    from trapline.machine.riscv.firmware import Files

    if len(parsed.rest) > 1:
        raise UsageError(f"boot takes one file, and options come before it: what is {parsed.rest[1]}?")
    wanted = [name for name in ("--bios", "--kernel", "--initrd") if parsed.flag(name)]
    if parsed.rest and wanted:
        raise UsageError(f"{wanted[0]} and {parsed.rest[0]}: give a bare-metal program, or firmware and a kernel")
    if parsed.flag("--initrd") and not parsed.flag("--kernel"):
        raise UsageError("--initrd needs a kernel: add --kernel FILE")
    if not parsed.rest and not wanted and not parsed.flag("--dump-dtb"):
        raise UsageError("there is nothing to start: write `trapline boot FILE`, or give --kernel or --bios")
    bios = parsed.last("--bios", "default" if parsed.flag("--kernel") else "none")
    firmware = b"" if bios == "none" else _read(_firmware() if bios == "default" else bios)
    given = [_read(parsed.last(name)) if parsed.flag(name) else b"" for name in ("--kernel", "--initrd", "--dtb")]
    return Files(firmware, given[0], given[1], parsed.last("--append"), given[2])


def _firmware() -> str:
    for path in FIRMWARE:
        if os.path.exists(path):
            return path
    raise UsageError("--bios default: OpenSBI is not installed: install Debian's opensbi, or give --bios FILE")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _board(parsed: Parsed) -> Board:
    from trapline.machine.riscv.board import EPOCH_NS, Board

    memory = values.size("--memory", parsed.last("--memory", "128M"))
    harts = values.number("--harts", parsed.last("--harts", "1"), 1, 64)
    tier = parsed.last("--tier")
    seed = parsed.last("--seed", "0")
    if seed != "random":
        values.number("--seed", seed, 0, (1 << 64) - 1)
    now_ns = time.time_ns() if _host_clock(parsed) else EPOCH_NS
    return Board(
        memory, harts, send=_write, native=_native(tier), tier=tier or "native", now_ns=now_ns,
        seed=os.urandom(32) if seed == "random" else seed.encode(),
    )  # fmt: skip


def _devices(board: Board, parsed: Parsed, opened: ExitStack) -> Port:
    """Put what the command line asks for into the board's slots; the port that standard input reaches. Raises UsageError."""
    from trapline.cli.disks import drive
    from trapline.machine.riscv.devices.virtio.block import Block
    from trapline.machine.riscv.devices.virtio.console import Console
    from trapline.machine.riscv.devices.virtio.entropy import Entropy, Stream

    which = parsed.last("--console", "serial")
    if which not in ("serial", "virtio"):
        raise UsageError(f"--console {which}: write serial or virtio")
    port: Port = board.uart
    try:
        for n, text in enumerate(parsed.all("--drive")):
            storage = drive(text)
            opened.callback(storage.close)
            board.add(Block(storage, f"drive{n}"))
        if parsed.flag("--rng"):
            board.add(Entropy(Stream(board.seed)))
        if which == "virtio":
            port = console = Console(_write, *_window())
            board.add(console)
    except ValueError as error:
        raise UsageError(f"too many devices: {error}") from None
    return port


def _window() -> tuple[int, int]:
    """Columns and rows of the terminal; zeros if there is none."""
    try:
        size = os.get_terminal_size(0)
    except OSError:
        return 0, 0
    return size.columns, size.lines


def _host_clock(parsed: Parsed) -> bool:
    clock = parsed.last("--clock", "host" if os.isatty(0) else "virtual")
    if clock not in ("virtual", "host"):
        raise UsageError(f"--clock {clock}: write virtual or host")
    return clock == "host"


def _native(tier: str) -> bool:
    """Whether to use the native tiers."""
    if tier not in ("", "native", "baseline", "interpreter", "reference"):
        raise UsageError(f"--tier {tier}: write native, baseline, interpreter or reference")
    if tier == "reference":
        return False
    from trapline.machine.riscv.jit import available

    lacking = available.why_not()
    if lacking and tier:
        raise UsageError(f"--tier {tier}: {lacking}")
    return not lacking


def _dump(path: str, blob: bytes) -> int:
    try:
        with open(path, "wb") as file:
            file.write(blob)
    except OSError as error:
        raise UsageError(f"--dump-dtb {path}: {error.strerror}") from None
    return 0


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


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


# ---- the run


class Session:
    """The machine's life, and what standard input brings."""

    def __init__(self, board: Board, port: Port, parsed: Parsed, timeout_s: float | None) -> None:
        self._board, self._port = board, port
        self._start = time.monotonic()
        self._deadline = None if timeout_s is None else self._start + timeout_s
        self._stdin = 0  #: -1 when it has ended
        self._input = bytearray()
        self._keys = Keys() if os.isatty(0) else None
        self._host_clock = _host_clock(parsed)
        self._once = parsed.flag("--no-reboot")
        self._quit = False

    def run(self) -> int:
        """The exit status. Raises OSError of the standard streams, Ended."""
        with Raw() if self._keys is not None else nullcontext():
            return self._loop()

    def _loop(self) -> int:
        from trapline.machine.riscv.harts import HALTED, IDLE, WAITS

        harts = self._board.harts
        while True:
            ended = harts.run(CHUNK, jump=not self._host_clock)
            if ended == HALTED:
                status = self._halted()
                if status is not None:
                    return status
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return TIMED_OUT
            if ended == IDLE and self._stdin < 0 and not self._input:
                complain("every hart waits for an interrupt, and none can come: the machine has stopped")
                return FAILED
            if ended == WAITS and not self._input:
                self._rest(harts.ahead())
            else:
                self._look(-1.0 if ended == IDLE and not self._input else 0.0)
            if self._quit:
                return 0
            self._feed()

    def _halted(self) -> int | None:
        """The exit status; None if the board starts again."""
        from trapline.machine.riscv.devices.finisher import REBOOT

        assert self._board.harts.halt is not None
        status = self._board.harts.halt.status
        if status != REBOOT:
            return status
        if self._once:
            return 0
        self._board.reset()
        return None

    def _rest(self, units: int) -> None:
        """Every hart waits for a time that is `units` ahead: wait as long, or until something is typed."""
        before = time.monotonic_ns()
        self._look(units * UNIT_NS / 1e9)
        passed = (time.monotonic_ns() - before) // UNIT_NS
        self._board.harts.let_pass(min(units, passed) if self._input else units)

    def _look(self, timeout_s: float) -> None:
        """Take in what standard input has, waiting for it (less than 0: for ever), but not longer than the time-out."""
        if self._deadline is not None:
            left = max(0.0, self._deadline - time.monotonic())
            timeout_s = left if timeout_s < 0 else min(timeout_s, left)
        if self._stdin < 0 or len(self._input) > 4096:
            if timeout_s > 0:
                time.sleep(timeout_s)
            return
        ready, _, _ = select.select([self._stdin], [], [], None if timeout_s < 0 else timeout_s)
        if not ready:
            return
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

    def _obey(self, command: str) -> None:
        if command == QUIT:
            self._quit = True
        elif command == RESET:
            self._board.reset()
        elif command == STATUS:
            complain(statistics(self._board, time.monotonic() - self._start))
        elif command == LIST:
            complain(HELP_TEXT)

    def _feed(self) -> None:
        """Give the port as much as it has room for."""
        room = self._port.room() if self._input else 0
        if room > 0:
            self._port.receive(bytes(self._input[:room]))
            del self._input[:room]
