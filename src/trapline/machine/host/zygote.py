"""The zygote: the stub process that never runs user code, and from which every other is forked.

In a nutshell: starting it spawns the stub's image, waits for its greeting (the seccomp listener, by SCM_RIGHTS, and the layout
it was compiled with) and for its one trap; then it goes on into the nursery (stub.c), where it clones itself for each command.
`order` gives one, ahead of time; `fork` takes a process that came of one, which waits for its own first command.

Invariants: the zygote is the only process that may clone processes; its children are this process's children (CLONE_PARENT), so
they can be waited for, and die with it (PR_SET_PDEATHSIG, set anew by each, followed by a look at getppid(2)).
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the part of signal that needs no enum
import _socket
import array
import errno
import fcntl
import os
import resource
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from trapline.abi.x86_64 import RIP
from trapline.machine.host import _ring, layout
from trapline.machine.host.contexts import Contexts, Slot, Template
from trapline.machine.host.errors import HostRefuses, MachineUnavailable, StubDied, stale
from trapline.machine.host.layout import NR_MMAP, Op
from trapline.machine.host.notify import Listener
from trapline.machine.host.process import Process

IMAGE = os.path.join(os.path.dirname(__file__), "stub")
_BOOT_S = 5.0
_FORK_NS = 30_000_000_000  #: it runs no user code: what takes it so long is the host, which may be busy
_RESERVE = 16  #: descriptors that stubs leave to the rest of the kernel, which opens host files
FEW_BIRTHS = 3  #: after so many processes, more are expected: one is kept ready besides the one that is being made
_LOOKS = 2000  #: at the zygote's slot, between two naps
_NAP_S = 0.00005
_UD2_BYTES = 2


class Zygote:
    """The zygote's process and what was learnt from it. `intruder(tid)`: a thread made a call that nobody ordered."""

    def __init__(self, contexts: Contexts, ram_fd: int, doorbell: int, intruder: Callable[[int], None]) -> None:
        self._contexts = contexts
        self._region = 0  #: of the process that is being made; 0: none is
        self._stock: list[Process] = []  #: who was born and nobody has taken
        self._refused: HostRefuses | None = None  #: why the last order failed
        self._births = 0
        contexts.halves[layout.PPID // 4] = os.getpid()
        pid, ours = _spawn(contexts.fd, ram_fd, doorbell)
        self.process = Process(pid, contexts, 0)
        try:
            self.listener = Listener(_greeting(ours), intruder)
            self._slot = Slot(contexts, None, self.process, 0, 0)
            self._slot.tid = pid
            self._await_stop()
            self.template = Template(contexts)
            self._enter_nursery()
        except BaseException:
            self.process.kill("it did not start")
            self.process.reap()
            raise

    def _await_stop(self) -> None:
        deadline = time.monotonic() + _BOOT_S
        while _ring.spin([self._slot.address], _LOOKS) < 0:
            if not self.process.alive() or time.monotonic() > deadline:
                raise MachineUnavailable("the stub did not trap: SECCOMP_RET_TRAP or signals do not work here")
            time.sleep(_NAP_S)

    def _enter_nursery(self) -> None:
        """Let it go on behind its trap, with all signals blocked: so does every process it makes, until it enters user code."""
        self._contexts.words[(self.template.frame_at + layout.FRAME_MASK) // 8] = (1 << 64) - 1
        self._slot.regs[RIP] += _UD2_BYTES
        _ring.run(self._slot.address, 0, 0)
        self._await_stop()

    # ---- births

    def order(self) -> None:
        """Have a process made ahead of time, unless one is under way or enough are ready. Raises StubDied."""
        enough = 2 if self._births > FEW_BIRTHS else 1
        if self._region or self._refused is not None or len(self._stock) >= enough:
            return
        if not self.process.alive():
            raise StubDied("the zygote is dead: " + (self.process.reason or "killed from outside"))
        self._region = self._contexts.get()
        own: Op = (
            NR_MMAP, layout.SLOTS, self._contexts.region_size, layout.PROT_READ | layout.PROT_WRITE,
            layout.MAP_SHARED | layout.MAP_FIXED, layout.FD_CONTEXTS, self._region,
        )  # fmt: skip
        self._slot.set_op(layout.OP_CHILD, own)
        _ring.run(self._slot.address, 0, 0)

    @property
    def expecting(self) -> bool:
        """A process was ordered that nobody has taken."""
        return bool(self._region or self._stock) or self._refused is not None

    @property
    def unborn(self) -> bool:
        """A process is being made and was not taken in."""
        return self._region != 0

    @property
    def delivered(self) -> bool:
        """`fork` would not wait."""
        return bool(self._stock)

    @property
    def short(self) -> bool:
        """One will be wanted at once that is not even ordered: many have been before."""
        return self._births > FEW_BIRTHS and not self.expecting

    def newborn(self) -> tuple[Process, ...]:
        """The processes that were taken in and that nobody has taken yet."""
        return tuple(self._stock)

    def advance(self) -> bool:
        """Take in what was ordered, if it is there, without waiting; False if it is still to come."""
        if self._region and _ring.spin([self._slot.address], 0) == 0:
            region, self._region = self._region, 0
            try:
                self._stock.append(self._adopt(self._slot.result(0), region))
            except HostRefuses as refused:
                self._refused = refused
        return not self._region

    def fork(self) -> Process:
        """A new stub process, waiting for its first command in its one slot. Raises StubDied, HostRefuses."""
        if not self._stock and not self._region:
            self._refused = None  # of an order made ahead of time: what there was no room for then, there may be now
            self.order()
        deadline_ns = time.monotonic_ns() + _FORK_NS
        while not self._stock and not self.advance():
            if not self.process.alive() or time.monotonic_ns() > deadline_ns:
                self.process.kill("it did not fork")
                raise StubDied("the zygote does not answer")
            if _ring.spin([self._slot.address], _LOOKS) < 0:
                time.sleep(_NAP_S)
        refused, self._refused = self._refused, None
        if not self._stock:
            raise refused or StubDied("it was not born")
        born = self._stock.pop(0)
        if not born.alive():  # killed from outside while it waited
            born.reap()
            return self.fork()
        self._births += 1
        return born

    def _adopt(self, pid: int, region: int) -> Process:
        """The process that the zygote made; its pidfd must leave the kernel the descriptors it needs. Raises HostRefuses."""
        why = "too many open files; `ulimit -n` says how many there may be"
        if pid <= 0:
            why = os.strerror(-pid)
        else:
            try:
                process = Process(pid, self._contexts, region)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    why = f"it cannot be watched: {error.strerror}"
                _end(pid)
            else:
                process.add_slot(self.template).tid = pid
                if process.pidfd < resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVE:
                    return process
                process.kill(why)
                process.reap()
                region = 0
        if region:
            self._contexts.put(region)
        raise HostRefuses(f"the host refuses another process: {why}")


def _end(pid: int) -> None:
    """Undo the birth of a process that cannot be used."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _spawn(contexts_fd: int, ram_fd: int, doorbell: int) -> tuple[int, _socket.socket]:
    """Start the image; its pid and our end of the greeting socket."""
    try:
        image = os.open(IMAGE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        message = f"the stub is not built ({IMAGE}: {error.strerror}); reinstall on x86-64 Linux, with gcc present"
        raise MachineUnavailable(message) from None
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    wanted = (doorbell, ram_fd, contexts_fd, theirs.fileno(), image)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16) for fd in wanted]  # clear of the targets 0-4
    try:
        pid = os.posix_spawn(
            IMAGE, ["trapline-stub"], {},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(high)],
            setsid=True, setsigmask=[], setsigdef=[n for n in range(1, 32) if n not in (9, 19)],
        )  # fmt: skip
    except OSError as error:
        ours.close()
        raise MachineUnavailable(f"the stub cannot be started: {error.strerror} ({IMAGE})") from None
    finally:
        theirs.close()
        for fd in (*high, image):
            os.close(fd)
    return pid, ours


def _greeting(ours: _socket.socket) -> int:
    """The listener's descriptor. Checks that the image and layout.py agree."""
    ours.settimeout(_BOOT_S)
    try:
        data, ancillary, _flags, _from = ours.recvmsg(64, 64, _socket.MSG_CMSG_CLOEXEC)
    except OSError as error:
        raise MachineUnavailable(f"the stub did not start: {error}") from None
    finally:
        ours.close()
    if len(data) != 48:
        raise MachineUnavailable("the stub died while it started: are prctl, seccomp and signal stacks allowed here?")
    version, error_number, stub, slots, slot_size, text_size = struct.unpack("6Q", data)
    if error_number or not ancillary:
        raise MachineUnavailable(_reason(error_number))
    (listener,) = array.array("i", ancillary[0][2][:4])
    expected = (layout.VERSION, layout.STUB, layout.SLOTS, layout.SLOT_SIZE, layout.TEXT_SIZE)
    if (version, stub, slots, slot_size, text_size) != expected:
        os.close(listener)
        raise MachineUnavailable(stale("the stub"))
    return listener


def _reason(error: int) -> str:
    if error == errno.EBUSY:
        return (
            "the host refuses a seccomp listener (EBUSY): this process already runs under a supervisor that has one, as "
            "some container engines do. Run outside it, or switch its seccomp notification off."
        )
    if error == errno.EINVAL:
        return "the host kernel has no seccomp user notification (Linux 5.0 with CONFIG_SECCOMP_FILTER is needed)"
    return f"the stub could not install its seccomp filter: {os.strerror(error)}"
