"""`trapline boot`: a whole RISC-V computer, started from a bare-metal program, firmware or a kernel.

The serial port is standard input and output; `cli/terminal.py` says which keys stay with us. Host files are opened here, and
only those that the command line names.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from trapline.typed import TYPE_CHECKING

from trapline.cli import values
from trapline.cli.keeping import bring_back, harts_of, keep, kept_by, seed_of
from trapline.cli.main import FAILED, complain, say
from trapline.cli.options import Option, Parsed, UsageError, describe, parse
from trapline.cli.session import Output, Port, Session, statistics
from trapline.cli.terminal import Ended, Window, window

if TYPE_CHECKING:
    from trapline.cli.disks import Disk
    from trapline.cli.gdb import BoardDebugger
    from trapline.cli.link import Link
    from trapline.cli.session import Wire
    from trapline.cli.usernet import UserNet
    from trapline.machine.riscv.board import Board
    from trapline.machine.riscv.checkpoint import Checkpoint
    from trapline.machine.riscv.devices.storage import Storage
    from trapline.machine.riscv.devices.undo import Undo
    from trapline.machine.riscv.firmware import Files

OPTIONS = (
    Option("--bios", "FILE", "firmware, entered in M-mode; `default`: OpenSBI; `none` (default: OpenSBI with --kernel)"),
    Option("--kernel", "FILE", "what the firmware starts in S-mode: a flat image (Linux: Image) or an ELF file"),
    Option("--initrd", "FILE", "initial RAM disk of the kernel"),
    Option("--append", "TEXT", "the kernel's command line"),
    Option("--dtb", "FILE", "give the guest this device tree, not the board's own"),
    Option("--dump-dtb", "FILE", "write the device tree to FILE and stop (dtc reads it)"),
    Option("--drive", "FILE[,ro][,overlay[=FILE]]", "a disk (virtio); with an overlay, FILE is not changed: what is "
           "written goes to the overlay's FILE, or is forgotten at the end", many=True),
    Option("--flash", "FILE[,ro]", "32 MiB of flash at 0x20000000; without a program, harts start there", many=True),
    Option("--net", "WHERE", "a network card (virtio): listen:PATH or connect:PATH, wired to another machine; or user[,...], "
           "to the host's network, as allow=, restrict, dns=, hostfwd= say (docs/riscv.md)", many=True),
    Option("--share", "DIR:TAG[:ro]", "a host directory, which the guest mounts (9p, virtio) as TAG", many=True),
    Option("--rng", "", "a source of random numbers (virtio), which follow from --seed"),
    Option("--console", "serial|virtio", "what standard input reaches; both print (default: serial)"),
    Option("--memory", "SIZE", "RAM of the board, at 0x80000000 (default: 128M)"),
    Option("--harts", "N", "hardware threads (default: 1)"),
    Option("--harts-on", "turns|threads", "they take turns, the same in every run, or run at the same time (default: turns)"),
    Option("--clock", "virtual|host", "while all harts wait, time jumps or passes (default: host in terminals, with --net)"),
    Option("--seed", "N|random", "of the guest's random numbers (default: 0, the same in every run)"),
    Option("--save", "FILE", "keep a checkpoint when the machine is left before it has ended, or at Ctrl-A W"),
    Option("--save-at", "N", "keep it after N instructions of every hart, and stop with status 0"),
    Option("--restore", "FILE", "go on from a checkpoint; give the same devices as it was saved with"),
    Option("--rewind-disks", "", "let --restore write over disks that have been written to since"),
    Option("--gdb", "[HOST:]PORT|PATH", "let GDB connect to this port (of 127.0.0.1; 1234) or UNIX socket, and wait for it",
           optional=True),
    Option("--gdb-nowait", "", "do not wait: GDB may connect at any time"),
    Option("--trace-instructions", "FILE", "write each instruction executed, to stderr or FILE (JSON if .json)", optional=True),
    Option("--trace-filter", "WHICH", "of them only from=ADDRESS,to=ADDRESS,hart=N,modes=USM,limit=N"),
    Option("--no-reboot", "", "end with status 0 when the guest resets the board, instead of starting again"),
    Option("--tier", "TIER", "reference, or up to native, baseline or interpreter (default: native, if llvmlite is there)"),
    Option("--no-cache", "", "keep no compiled code on disk, and use none"),
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
       trapline boot [OPTION]... --restore CHECKPOINT

Starts a riscv64 computer laid out as QEMU's `virt`: RAM at 0x80000000, a
16550 at 0x10000000, ACLINT, PLIC, a clock, and a test finisher at 0x100000,
whose verdict is the exit status. FILE is an ELF program linked for bare metal,
entered in M-mode. docs/riscv.md shows how to boot Linux.

{describe(OPTIONS)}

In a terminal, Ctrl-A X ends the machine; Ctrl-A H lists what else there is.

exit status: the finisher's; 124 time-out; 125 trapline itself failed
"""

INTERRUPTED = 130
NOT_WITH_RESTORE = ("--bios", "--kernel", "--initrd", "--append", "--dtb", "--dump-dtb", "--memory", "--harts", "--seed")
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
    kept = kept_by(parsed)
    path = parsed.rest[0] if parsed.rest else ""
    with ExitStack() as opened:
        output = Output()
        board = _board(parsed, output.send, kept)
        opened.callback(board.close)
        disks: list[Disk] = []
        undo: list[Undo] = []
        port, links = _devices(board, parsed, output.send, opened, disks, undo)
        if parsed.flag("--dump-dtb"):
            return _dump(parsed.last("--dump-dtb"), _tree(board, files))
        debugger = _debugger(board, parsed, port, output, undo, opened) if parsed.flag("--gdb") else None
        session = Session(
            board, port if debugger is None else debugger.timeline, output,
            timeout_s=timeout_s, host_clock=_host_clock(parsed), once=parsed.flag("--no-reboot"),
            links=[*links, *([debugger] if debugger is not None else [])], debugger=debugger, threads=_threads(parsed),
            save=partial(keep, parsed, board, disks) if parsed.flag("--save") else None,
        )  # fmt: skip
        start = partial(_start, board, parsed, files, path, kept, disks, debugger, opened)
        return _run(board, session, parsed, start)


def _start(
    board: Board, parsed: Parsed, files: Files, path: str, kept: Checkpoint | None, disks: list[Disk],
    debugger: BoardDebugger | None, opened: ExitStack,
) -> None:  # fmt: skip
    """Give the board what it is to execute. Raises UsageError."""
    from trapline.machine.riscv.firmware import BadImage

    try:
        if kept is not None:
            bring_back(board, parsed, kept, disks)
        elif path:
            from trapline.machine.riscv.firmware import parse as program

            board.load(program(_read(path)), files)
        else:
            board.boot(files)
    except BadImage as error:
        raise UsageError(f"{path}: {error}" if path else str(error)) from None
    if parsed.flag("--save-at"):
        board.harts.alarm = values.number("--save-at", parsed.last("--save-at"), 0, 1 << 63)
    if parsed.flag("--trace-instructions"):
        _trace(board, parsed, opened)
    if debugger is not None and not parsed.flag("--gdb-nowait"):
        debugger.wait()


def _run(board: Board, session: Session, parsed: Parsed, begin: Callable[[], None]) -> int:
    """Start the board, and let it run to its end; the exit status."""
    start = time.perf_counter()
    try:
        begin()
        return session.run()
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


def _tree(board: Board, files: Files) -> bytes:
    from trapline.machine.riscv.firmware import BadImage

    try:
        return board.device_tree(files)
    except BadImage as error:
        raise UsageError(str(error)) from None


def _debugger(
    board: Board, parsed: Parsed, port: Port, output: Output, undo: list[Undo], opened: ExitStack
) -> BoardDebugger:
    """What --gdb asks for. Raises UsageError."""
    from trapline.cli.gdb import PORT, BoardDebugger
    from trapline.machine.riscv.timeline import Timeline
    from trapline.scope.gdb.server import Server

    if parsed.flag("--save-at"):
        raise UsageError("--gdb and --save-at: use one of them")
    outside = parsed.flag("--net") or parsed.flag("--share")
    server = Server(Timeline(board, port, output.mute, undo), reversible=not outside)
    debugger = BoardDebugger(parsed.last("--gdb") or str(PORT), server)
    opened.callback(debugger.close)
    return debugger


def _trace(board: Board, parsed: Parsed, opened: ExitStack) -> None:
    """What --trace-instructions asks for. Raises UsageError."""
    from trapline.scope.trace import Tracer, parse_filter

    if parsed.flag("--gdb"):
        raise UsageError("--gdb and --trace-instructions: use one of them")
    path = parsed.last("--trace-instructions")
    try:
        wanted = parse_filter(parsed.last("--trace-filter"))
        out = opened.enter_context(open(path or os.dup(2), "w", encoding="ascii"))  # noqa: SIM115  # the stack closes it
    except ValueError as error:
        raise UsageError(f"--trace-filter {error}") from None
    except OSError as error:
        raise UsageError(f"--trace-instructions={path}: {error.strerror}") from None
    tracer = Tracer(board, lambda line: out.write(line + "\n"), wanted=wanted, as_json=path.endswith(".json"))
    tracer.start()
    opened.callback(tracer.stop)


# ---- what the command line asks for


def _files(parsed: Parsed) -> Files:
    """The contents of what is to be started. Raises UsageError."""
    from trapline.machine.riscv.firmware import Files

    if len(parsed.rest) > 1:
        raise UsageError(f"boot takes one file, and options come before it: what is {parsed.rest[1]}?")
    if parsed.flag("--restore"):
        own = [name for name in NOT_WITH_RESTORE if parsed.flag(name)] + parsed.rest
        if own:
            raise UsageError(f"--restore and {own[0]}: the checkpoint says what is started, and on what: leave {own[0]} out")
        return Files()
    wanted = [name for name in ("--bios", "--kernel", "--initrd") if parsed.flag(name)]
    if parsed.rest and wanted:
        raise UsageError(f"{wanted[0]} and {parsed.rest[0]}: give a bare-metal program, or firmware and a kernel")
    if parsed.flag("--initrd") and not parsed.flag("--kernel"):
        raise UsageError("--initrd needs a kernel: add --kernel FILE")
    if not parsed.rest and not any(map(parsed.flag, ("--bios", "--kernel", "--flash", "--dump-dtb"))):
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
    """All of a file, or of a pipe. Raises UsageError, also if there is nothing in it."""
    try:
        with open(path, "rb") as file:
            if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{path}: a device: give a regular file")
            data = file.read()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if not data:
        raise UsageError(f"{path}: it is empty")
    return data


def _board(parsed: Parsed, send: Callable[[bytes], object], kept: Checkpoint | None) -> Board:
    from trapline.machine.riscv.board import EPOCH_NS, Board

    memory = values.size("--memory", parsed.last("--memory", "128M"))
    harts = values.number("--harts", parsed.last("--harts", "1"), 1, 64)
    tier = _tier(parsed.last("--tier"))
    if parsed.flag("--no-cache"):
        from trapline.machine.riscv.jit.cache import switch_off

        switch_off()
    if kept is not None:
        memory, harts = kept.state["memory"], harts_of(kept)
    seed = parsed.last("--seed", "0")
    if seed != "random":
        values.number("--seed", seed, 0, (1 << 64) - 1)
    now_ns = time.time_ns() if _host_clock(parsed) else EPOCH_NS
    chosen = os.urandom(32) if seed == "random" else seed.encode()
    if kept is not None:
        chosen = seed_of(kept)
    try:
        return Board(
            memory, harts, send=send, native=tier != "reference", tier=tier, now_ns=now_ns, seed=chosen,
            threads=_threads(parsed, tier),
        )  # fmt: skip
    except (OSError, OverflowError, MemoryError) as error:
        raise UsageError(f"the host has no room for the board: {error}: give less --memory") from None


def _devices(
    board: Board, parsed: Parsed, send: Callable[[bytes], object], opened: ExitStack, disks: list[Disk], undo: list[Undo]
) -> tuple[Port, list[Wire]]:
    """Put what the command line asks for into the board's slots; the port that standard input reaches, and the wires of network
    cards. `disks` gets disks and flash banks, `undo` those that a debugger may want to put back. Raises UsageError."""
    from trapline.cli.disks import drive, flash
    from trapline.cli.share import share
    from trapline.machine.riscv.addresses import FLASH_BYTES
    from trapline.machine.riscv.devices.virtio.block import Block
    from trapline.machine.riscv.devices.virtio.console import Console
    from trapline.machine.riscv.devices.virtio.entropy import Entropy, Stream
    from trapline.machine.riscv.devices.virtio.ninep import NineP

    which = parsed.last("--console", "serial")
    if which not in ("serial", "virtio"):
        raise UsageError(f"--console {which}: write serial or virtio")
    port: Port = board.uart
    try:
        for n, text in enumerate(parsed.all("--drive")):
            disk = drive(text)
            opened.callback(disk.storage.close)
            board.add(Block(_undoable(disk.storage, parsed, undo), f"drive{n}"))
            board.storages.append(disk.storage)
            disks.append(disk)
        for text in parsed.all("--flash"):
            bank = flash(text, FLASH_BYTES)
            opened.callback(bank.storage.close)
            board.add_flash(_undoable(bank.storage, parsed, undo))
            disks.append(bank)
        if parsed.flag("--rng"):
            board.add(Entropy(Stream(board.seed)))
        tags: set[str] = set()
        for text in parsed.all("--share"):
            directory, tag = share(text)
            opened.callback(directory.close)
            if tag in tags:
                raise UsageError(f"--share {text}: the tag {tag} is taken: give each directory one of its own")
            tags.add(tag)
            board.add(NineP(directory, tag))
        links = [_card(board, text, n, opened) for n, text in enumerate(parsed.all("--net"))]
        if which == "virtio":
            port = console = Console(send, *window())
            board.add(console)
            if os.isatty(0) and not parsed.flag("--gdb"):  # a history knows nothing of windows
                resized = Window(console.resize)
                opened.callback(resized.close)
                links.append(resized)
    except ValueError as error:
        raise UsageError(f"too many devices: {error}") from None
    return port, links


def _undoable(storage: Storage, parsed: Parsed, undo: list[Undo]) -> Storage:
    """A disk that remembers, if there is a debugger that can go back, and it may be written to."""
    if storage.read_only or not parsed.flag("--gdb") or parsed.flag("--net") or parsed.flag("--share"):
        return storage
    from trapline.machine.riscv.devices.undo import Undo

    undo.append(Undo(storage))
    return undo[-1]


def _card(board: Board, text: str, number: int, opened: ExitStack) -> Wire:
    """A network card and its wire. Its address follows from the seed and from `text`, which differs at the two ends."""
    import hashlib

    from trapline.machine.riscv.devices.virtio.net import Net

    digest = hashlib.sha256(b"mac" + board.seed + text.encode() + bytes([number])).digest()
    kind, _, rest = text.partition(",")
    card = Net(b"\x02" + digest[:5], whole=kind == "user", headed=kind != "user")
    link: Link | UserNet
    if kind == "user":
        from trapline.cli.usernet import UserNet

        link = UserNet(rest, card.receive, lambda: card.large)
    else:
        from trapline.cli.link import Link

        link = Link(text, card.receive, card.link)
    card.send, card.sent = link.send, link.flush
    opened.callback(link.close)
    card.up = link.up
    board.add(card)
    return link


NOT_ON_THREADS = {
    "--save-at": "instructions are not counted across harts", "--gdb": "a debugger steps one hart at a time, and goes back",
    "--trace-instructions": "there is no one order of instructions",
}  # fmt: skip


def _threads(parsed: Parsed, tier: str = "") -> bool:
    """Whether harts run on threads. Raises UsageError, also for what cannot be had then."""
    on = parsed.last("--harts-on", "turns")
    if on not in ("turns", "threads"):
        raise UsageError(f"--harts-on {on}: write turns or threads")
    if on == "turns":
        return False
    for name, why in NOT_ON_THREADS.items():
        if parsed.flag(name):
            raise UsageError(f"--harts-on threads and {name}: {why}: leave --harts-on out")
    if parsed.last("--clock", "host") == "virtual":
        raise UsageError("--harts-on threads and --clock virtual: on threads, time is the host's: leave one out")
    if tier == "reference":
        raise UsageError("--harts-on threads needs native code (llvmlite): the reference tier runs one hart at a time")
    return True


def _host_clock(parsed: Parsed) -> bool:
    outside = os.isatty(0) or parsed.flag("--net") or _threads(parsed)
    clock = parsed.last("--clock", "host" if outside else "virtual")
    if clock not in ("virtual", "host"):
        raise UsageError(f"--clock {clock}: write virtual or host")
    return clock == "host"


def _tier(tier: str) -> str:
    """How to execute instructions. Raises UsageError."""
    from trapline.machine.riscv.jit import available

    try:
        return available.choose(tier)
    except ValueError as error:
        raise UsageError(f"--tier {error}") from None


def _dump(path: str, blob: bytes) -> int:
    try:
        with open(path, "wb") as file:
            file.write(blob)
    except OSError as error:
        raise UsageError(f"--dump-dtb {path}: {error.strerror}") from None
    return 0
