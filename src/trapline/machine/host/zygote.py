"""The zygote: the stub process that never runs user code, and from which every other is forked.

In a nutshell: starting it spawns the stub's image, waits for its greeting (the seccomp listener, by SCM_RIGHTS, and the layout
it was compiled with) and for its first trap. `order` has it clone itself; `fork` waits for the newborn, which maps its own
region first. What lies between may take place while the kernel does other things: each held call is one step.

Invariants: the zygote is the only process that may clone processes; its children are this process's children (CLONE_PARENT), so
they can be waited for, and die with it (PR_SET_PDEATHSIG, set anew by each, followed by a look at getppid(2)).
"""

from __future__ import annotations

import _socket
import array
import errno
import fcntl
import os
import resource
import struct
import time
from collections.abc import Callable

from trapline.machine.host import _ring, layout
from trapline.machine.host.contexts import Contexts, Slot, Template
from trapline.machine.host.errors import HostRefuses, MachineUnavailable, StubDied
from trapline.machine.host.layout import FENCE, NR_CLONE, NR_MMAP, Op
from trapline.machine.host.notify import PATIENCE_NS, Held, Listener
from trapline.machine.host.process import Process

IMAGE = os.path.join(os.path.dirname(__file__), "stub")
_BOOT_S = 5.0
_RESERVE = 16  #: descriptors that stubs leave to the rest of the kernel, which opens host files
_CLONE: Op = (NR_CLONE, layout.CLONE_PROCESS, layout.PRIVATE_TOP, 0, 0, 0, 0)


class Zygote:
    """The zygote's process and what was learnt from it. `intruder(tid)`: a thread made a call that nobody ordered."""

    def __init__(self, contexts: Contexts, ram_fd: int, doorbell: int, intruder: Callable[[int], None]) -> None:
        self._contexts = contexts
        self._intruder = intruder
        self._birth: Birth | None = None
        contexts.halves[layout.PPID // 4] = os.getpid()
        pid, ours = _spawn(contexts.fd, ram_fd, doorbell)
        self.process = Process(pid, contexts, 0)
        try:
            self.listener = Listener(_greeting(ours), self.take_in)
            self._slot = Slot(contexts, None, self.process, 0, 0)
            self._slot.tid = pid
            self._await_first_trap()
        except BaseException:
            self.process.kill("it did not start")
            self.process.reap()
            raise
        self.template = Template(contexts)

    def _await_first_trap(self) -> None:
        deadline = time.monotonic() + _BOOT_S
        while _ring.spin([self._slot.address], 2000) < 0:
            if not self.process.alive() or time.monotonic() > deadline:
                raise MachineUnavailable("the stub did not trap: SECCOMP_RET_TRAP or signals do not work here")
            time.sleep(0.00005)

    # ---- births

    def order(self) -> None:
        """Have a process made ahead of time, unless one is under way or ready. Raises StubDied, HostRefuses."""
        if self._birth is not None:
            return
        if not self.process.alive():
            raise StubDied("the zygote is dead: " + (self.process.reason or "killed from outside"))
        _need_descriptor()
        region = self._contexts.get()
        own: Op = (
            NR_MMAP, layout.SLOTS, self._contexts.region_size, layout.PROT_READ | layout.PROT_WRITE,
            layout.MAP_SHARED | layout.MAP_FIXED, layout.FD_CONTEXTS, region,
        )  # fmt: skip
        self._birth = Birth(region, own)
        self._slot.set_op(0, _CLONE)
        self._slot.set_op(1, FENCE)
        self._slot.set_op(layout.OP_CHILD, own)
        _ring.perform(self._slot.address, 2)

    @property
    def expecting(self) -> bool:
        """A process was ordered that nobody has taken."""
        return self._birth is not None

    @property
    def unborn(self) -> bool:
        """A process is being made and not ready."""
        birth = self._birth
        return birth is not None and birth.process is None and birth.error is None

    def fork(self) -> Process:
        """A new stub process, waiting for its first command in its one slot. Raises StubDied, HostRefuses."""
        self.order()
        birth = self._birth
        assert birth is not None
        deadline_ns = time.monotonic_ns() + PATIENCE_NS
        while birth.process is None and birth.error is None:
            held = self.listener.receive(20)
            if held is not None:
                self.take_in(held)
            elif not self.process.alive() or time.monotonic_ns() > deadline_ns:
                self.process.kill("it did not fork")
                birth.error = StubDied("the zygote does not answer")
        self._birth = None
        for held in birth.early:
            self._intruder(held.tid)
        if birth.process is None:
            self._contexts.put(birth.region)
            raise birth.error or StubDied("it was not born")
        if not birth.process.alive():  # killed from outside while it waited
            birth.process.reap()
            return self.fork()
        return birth.process

    def take_in(self, held: Held) -> None:
        """A held call that nobody waits for: a step of a birth, or an intruder's."""
        birth = self._birth
        if birth is None or birth.process is not None:
            self._intruder(held.tid)
        elif held.tid == self._slot.tid and held.op == (FENCE if birth.cloned else _CLONE) and not birth.pid:
            self._step(birth, held)
        elif not birth.pid:  # who the newborn is, is known once the zygote has reached its fence
            birth.early.append(held)
        elif held.tid == birth.pid and held.op == birth.own:
            self._born(birth, held)
        else:
            self._intruder(held.tid)

    def _step(self, birth: Birth, held: Held) -> None:
        """The zygote is about to clone, or has done so."""
        if not birth.cloned:
            birth.cloned = True
            self.listener.proceed(held)
            return
        pid = self._slot.result(0)
        self.listener.proceed(held)
        if pid <= 0:
            birth.error = HostRefuses(f"the host refuses another process: {os.strerror(-pid)}")
            return
        birth.pid = pid
        early, birth.early = birth.early, []
        for each in early:
            self.take_in(each)

    def _born(self, birth: Birth, held: Held) -> None:
        """The newborn maps its region. It may have been killed meanwhile."""
        try:
            process = Process(held.tid, self._contexts, birth.region)
        except OSError as error:
            birth.error = StubDied(f"the newborn cannot be watched: {error.strerror}")
            return
        process.add_slot(self.template).tid = held.tid
        self.listener.proceed(held)
        birth.process = process


class Birth:
    """A process that is being made, or is ready; see `Zygote.order`."""

    __slots__ = ("cloned", "early", "error", "own", "pid", "process", "region")

    def __init__(self, region: int, own: Op) -> None:
        self.region = region
        self.own = own  #: how the newborn maps its region: its first call
        self.cloned = False
        self.pid = 0
        self.early: list[Held] = []  #: calls held before the newborn's pid was known
        self.error: StubDied | None = None
        self.process: Process | None = None


def _need_descriptor() -> None:
    """A newborn costs a descriptor, its pidfd. Raises HostRefuses if only the kernel's own reserve is left."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        lowest = os.eventfd(0, os.EFD_CLOEXEC)
        os.close(lowest)
    except OSError:
        lowest = limit
    if lowest >= limit - _RESERVE:
        raise HostRefuses("the host refuses another process: too many open files; `ulimit -n` says how many there may be")


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
        raise MachineUnavailable("the stub on disk was compiled from another version; rebuild it (pip install -e .)")
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
