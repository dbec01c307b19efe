"""Kernel: a kernel in your own process: put files into it, replace its system calls, listen to it, look into its memory.

    with trapline.Kernel() as kernel:
        kernel.add_file("/tmp/hello", b"hi")
        kernel.replace("getpid", lambda task: 42)
        status = kernel.run(["sh", "-c", "cat /tmp/hello; echo $$"])

The command line is built on this class too. A kernel belongs to the thread that made it: make, run and close it there, and
keep that thread alive meanwhile. One kernel runs programs one after the other; what they leave running ends with `close`.

Invariant: after `close` nothing of the kernel is left on the host: no process, no memory, no descriptor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import ENOTDIR, Errno
from trapline.abi.stat import S_IFDIR, S_IFMT
from trapline.kernel.config import DEFAULT_PIDS, Config, ConfigError, Identity
from trapline.kernel.drivers.stdio import CLOSED, NOTHING
from trapline.machine.select import open_machine

if TYPE_CHECKING:
    from trapline.kernel.boot import System
    from trapline.kernel.task.task import ThreadGroup
    from trapline.machine.paging.walk import Run, Step
    from trapline.scope.listener import Listener
    from trapline.scope.observe import Observer
    from trapline.scope.tamper.tamper import Interposer
    from trapline.scope.views.space import Space
    from trapline.scope.views.walks import Walk

Environment = Mapping[str, str] | Mapping[bytes, bytes]
SIGKILL = 9


def returncode(status: int) -> int:
    """A wait(2) status as subprocess has it: the exit status, or minus the signal's number."""
    return -(status & 0x7F) if status & 0x7F else status >> 8 & 0xFF


def _vdso(kernel: System) -> Any:
    """The vDSO of a kernel, or None where the package was built without one."""
    from trapline.user.vdso.vdso import Vdso

    try:
        return Vdso(kernel)
    except FileNotFoundError:
        return None


def _libraries(arch: str, root: str | None) -> list[str]:
    """Binds of the libraries that programs of `arch` need in a root made of the host's trees."""
    from trapline.kernel.drivers.hostlibraries import library_binds

    return library_binds(arch) if root in (None, "/") else []


class NoDirectory(ConfigError):
    """The directory to start in is none; `errno` says whether it is missing or something else."""

    def __init__(self, errno: int, why: str) -> None:
        super().__init__(why)
        self.errno = errno


def _here() -> str:
    """The current directory; one that is gone cannot be shown, and a guest starts in /."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def _open_or_not(fd: int) -> int:
    """The descriptor, or what stands for none."""
    if fd != CLOSED:
        try:
            os.fstat(fd)
        except OSError:
            return NOTHING
    return fd


class Kernel:
    """One kernel. The arguments are those of `trapline run`; `stdio` are descriptors of yours, -1 (or a closed one)
    for /dev/null, -2 for one that the guest does not have. Signals that your process gets meanwhile (Ctrl-C, ...) go to
    the guest, or, without `forward_signals`, Ctrl-C raises KeyboardInterrupt from `run` and `wait`: then close the kernel."""

    def __init__(
        self,
        *,
        root: str | None = None,
        binds: Iterable[str] = (),
        rw: Iterable[str] = (),
        memory: int = 0,
        cpus: int = 0,
        pids: int = DEFAULT_PIDS,
        hostname: str = "trapline",
        identity: Identity | None = None,
        seed: int | None = None,
        aslr: bool = True,
        machine: str = "host",
        stdio: tuple[int, int, int] = (0, 1, 2),
        log: Callable[[str], None] | None = None,
        swap: int = 0,
        swap_dir: str = "",
        save_overlay: str = "",
        forward_signals: bool = True,
    ) -> None:
        from trapline.kernel.boot import boot

        self._closed = False
        self._observer: Observer | None = None
        self.timed_out = False  #: the last `run` was ended by its time-out
        stdin, stdout, stderr = (_open_or_not(fd) for fd in stdio)  # before anything of ours can get the number
        hardware = open_machine(machine, memory, cpus)
        config = Config(
            hardware, root=root, binds=[*_libraries(hardware.arch.name, root), *binds], rw=list(rw), pids=pids,
            current_directory=_here(), identity=identity or Identity(), hostname=os.fsencode(hostname), seed=seed,
            aslr=aslr, stdio=(stdin, stdout, stderr), log=log, vdso=_vdso, save_overlay=save_overlay,
            swap=swap, swap_dir=swap_dir, forward_signals=forward_signals,
        )  # fmt: skip
        try:
            self.system: System = boot(config)  #: the kernel itself
        except BaseException:
            hardware.close()
            raise

    def close(self) -> None:
        """Kill what still runs and give everything back. Idempotent."""
        self._closed = True
        self.system.close()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    # ---- programs

    def spawn(
        self, args: str | Sequence[str | bytes], *, env: Environment | None = None, cwd: str | bytes = b""
    ) -> ThreadGroup:
        """Make a process of `args`, the program being searched in PATH; a string is the program alone.

        Raises an errno class (ENOENT, EACCES, ...) for the program, NoDirectory for `cwd`.
        """
        if self._closed:
            raise ValueError("the kernel is closed")
        argv = [os.fsencode(each) for each in ([args] if isinstance(args, str) else args)]
        if not argv:
            raise ValueError("no program: args is empty")
        given = self.system.config.environment if env is None else env
        environment = {os.fsencode(name): os.fsencode(value) for name, value in given.items()}
        if cwd:
            self._check_directory(os.fsencode(cwd))
        group = self.system.spawn(argv, environment, os.fsencode(cwd))
        if self._observer is not None:
            self._observer.spawned(group.leader)
        return group

    def _check_directory(self, cwd: bytes) -> None:
        try:
            found = self.system.vfs.at_root(cwd)
        except Errno as error:
            raise NoDirectory(error.number, "no such directory in the guest") from error
        if found.inode.mode & S_IFMT != S_IFDIR:
            raise NoDirectory(ENOTDIR.number, "not a directory in the guest")

    def run(
        self,
        args: str | Sequence[str | bytes],
        *,
        env: Environment | None = None,
        cwd: str | bytes = b"",
        timeout: float | None = None,
    ) -> int:
        """Run a program to its end; its exit status, or minus the number of the signal that killed it.

        When `timeout` seconds have passed, every process is killed and `timed_out` is set.
        """
        self.spawn(args, env=env, cwd=cwd)
        return returncode(self.wait(timeout))

    def wait(self, timeout: float | None = None) -> int:
        """Serve traps until the first program ends; its wait(2) status. `timeout` as for `run`."""
        self.timed_out = False
        system = self.system
        timer = None
        if timeout is not None:
            timer = system.timers.add(system.clock.monotonic_ns() + int(timeout * 1e9), self._expire)
        try:
            return system.run()
        finally:
            if timer is not None:
                timer.cancel()

    def _expire(self) -> None:
        self.timed_out = True
        self.kill_all()

    def kill_all(self) -> None:
        """Send SIGKILL to every process."""
        from trapline.kernel.task.signals.send import SigInfo, send_to_group

        for group in list(self.system.groups.values()):
            if group is not self.system.init:
                send_to_group(group, SigInfo(SIGKILL, 0))

    # ---- files

    def add_file(self, path: str | bytes, data: str | bytes, mode: int = 0o644) -> None:
        """Write a file of the guest, with the directories above it."""
        name = os.fsencode(path)
        if not name.startswith(b"/"):
            raise ValueError(f"{path!r}: the path must be absolute")
        self.system.vfs.makedirs(name.rpartition(b"/")[0] or b"/")
        self.system.vfs.add_file(name, data.encode() if isinstance(data, str) else data, mode)

    def read_file(self, path: str | bytes) -> bytes:
        """The content of a file of the guest. Raises an errno class."""
        return self.system.vfs.read_file(os.fsencode(path))

    # ---- system calls

    def replace(self, name: str, handler: Callable[..., Any]) -> None:
        """Answer system call `name` with `handler(task, *arguments)`: an int, a kernel coroutine, or a raised errno."""
        for table in self.system.loop.dispatcher.tables():
            table.replace(name, handler)

    def original(self, name: str) -> Callable[..., Any]:
        """The handler that the kernel itself has for call `name`, for a replacement to call."""
        from trapline.kernel.syscalls.declare import SystemCall
        from trapline.kernel.syscalls.find import declaration

        found = declaration(name)
        if not isinstance(found, SystemCall):
            raise KeyError(f"no system call named {name!r} is implemented")
        return found.handler

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` of every crossing from now on. What it costs is paid only while somebody listens."""
        self._observed().add(listener)

    def unsubscribe(self, listener: Listener) -> None:
        if self._observer is not None:
            self._observer.remove(listener)

    def interpose(self, interposer: Interposer) -> None:
        """Let `interposer.decide(task, call, args)` refuse, fake, delay or change each call from now on: `scope.tamper`."""
        self._observed().interpose(interposer)

    def withdraw(self, interposer: Interposer) -> None:
        """The end of `interpose`."""
        self._observed().withdraw(interposer)

    def _observed(self) -> Observer:
        if self._observer is None:
            from trapline.scope.observe import Observer

            self._observer = Observer(self.system)
        return self._observer

    # ---- memory

    def group(self, pid: int) -> ThreadGroup:
        """The process `pid`. Raises KeyError."""
        found = self.system.groups.get(pid)
        if found is None:
            raise KeyError(f"no process has the number {pid}")
        return found

    def read_memory(self, pid: int, address: int, count: int) -> bytes:
        """Bytes of a process's memory. Raises EFAULT."""
        return self._space(pid).read(address, count)  # type: ignore[no-any-return]

    def write_memory(self, pid: int, address: int, data: bytes) -> None:
        """Change a process's memory, as the process itself could. Raises EFAULT."""
        self._space(pid).write(address, data)

    def page_table(self, pid: int) -> list[Run]:
        """What the page tables of a process map: runs of consecutive frames with equal permissions."""
        from trapline.scope.views.pagetables import mapped

        return mapped(self._space(pid))

    def walk(self, pid: int, address: int) -> list[Step]:
        """The memory references of one page walk, down to the leaf or to what is not present."""
        from trapline.scope.views.pagetables import walk_of

        return walk_of(self._space(pid), address)

    def space(self, pid: int) -> Space:
        """A process's address space as data: areas, tables by level, sizes; a notebook draws it. Raises KeyError."""
        from trapline.scope.views.space import look

        return look(self.system, pid)

    def explain(self, pid: int, address: int) -> Walk:
        """One page walk with the meaning of each bit, and what a touch would do. Raises KeyError, ValueError."""
        from trapline.scope.views.walks import explain

        return explain(self.system, pid, address)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from trapline.scope.views.htmlviews import kernel

        return kernel(self.system, closed=self._closed)

    def _space(self, pid: int) -> Any:
        space = self.group(pid).leader.mm
        if space is None:
            raise KeyError(f"process {pid} has no memory any more")
        return space
