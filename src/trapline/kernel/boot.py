"""Booting: a kernel composed from its parts, its first program, and its end.

In a nutshell: `boot(config)` mounts the file systems and opens the console; `spawn` makes a process; `run` is the trap loop
until the first process is gone; `close` ends everything that is left and writes what was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import Errno
from trapline.abi.mount import MS_NODEV, MS_NOEXEC, MS_NOSUID
from trapline.abi.stat import S_IFBLK, S_IFIFO
from trapline.kernel.config import Config, ConfigError
from trapline.kernel.core import Kernel
from trapline.kernel.drivers import DRIVERS, pts
from trapline.kernel.drivers.console import Console, Source
from trapline.kernel.drivers.groupsignal import use_signals
from trapline.kernel.drivers.hostclock import Clock
from trapline.kernel.drivers.hostrandom import host_random, seeded_random
from trapline.kernel.drivers.hostsignals import HostSignals
from trapline.kernel.entry.hooks import KernelHooks
from trapline.kernel.entry.loop import TrapLoop
from trapline.kernel.exec import image
from trapline.kernel.fs.devfs import make_devfs, mount_dev
from trapline.kernel.fs.devices import announce_chardevs, register_opener
from trapline.kernel.fs.fdtable import OPEN, FdTable
from trapline.kernel.fs.fscontext import FsContext
from trapline.kernel.fs.proc import mount_proc
from trapline.kernel.fs.rootfs import Root, build_root
from trapline.kernel.fs.sysfs import mount_sysfs
from trapline.kernel.fs.vfs import Vfs
from trapline.kernel.ipc.mqueue.filesystem import filesystem
from trapline.kernel.ipc.sysv.namespace import IpcNamespace
from trapline.kernel.mm.errors import OutOfFrames, OutOfMemory
from trapline.kernel.panic import panic
from trapline.kernel.sched.classes import ClassScheduler
from trapline.kernel.sync import park
from trapline.kernel.task import exit as exits
from trapline.kernel.task.clone import new_init, new_process
from trapline.kernel.task.creds import Credentials
from trapline.kernel.task.signals.send import SigInfo, send_to_group

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup

SIGKILL, SIGCONT = 9, 18
TERMINAL_STOPS = (20, 21, 22)  #: SIGTSTP, SIGTTIN, SIGTTOU
SI_KERNEL = 0x80


class System(Kernel):
    """A kernel that runs programs. Made by `boot`."""

    root: Root
    console: Console
    hooks: KernelHooks
    loop: TrapLoop

    def __init__(self, config: Config) -> None:
        random = host_random if config.seed is None else seeded_random(config.seed)
        super().__init__(
            config.machine, Clock(), random,
            hostname=config.hostname, pid_limit=config.pids, aslr=config.aslr, seed=config.seed, log=config.log,
        )  # fmt: skip
        self.config = config
        self.sched = ClassScheduler(self.clock.monotonic_ns)
        self.vfs = Vfs(self.ram, self.clock.realtime_ns)
        self.ipc = IpcNamespace(self)
        self.init = new_init(self)
        self.on_stop = self._stopped
        self._suspended = False
        self._closed = False

    # ---- programs

    def spawn(
        self,
        argv: Sequence[bytes],
        env: Mapping[bytes, bytes] | None = None,
        cwd: bytes = b"",
        *,
        stdio: tuple[Source, Source, Source] | None = None,
    ) -> ThreadGroup:
        """A new process that runs argv[0], found in PATH if it has no slash. Raises Errno: ENOENT, EACCES, ...; KernelPanic.

        `env` and `cwd`: those of the configuration. `stdio`: another console than the kernel's (Python streams or host
        descriptors).
        """
        environment = dict(self.config.environment if env is None else env)
        who = self.config.identity
        creds = Credentials.of_user(who.uid, who.gid, who.groups)
        console = self.console if stdio is None else Console(self, stdio, who.uid, who.gid)
        files = FdTable(budget=OPEN.of(self))
        here = self.vfs.at_root(cwd or self.config.workdir or self.root.cwd)
        task = new_process(self, creds, files, FsContext(self.vfs.root, here))
        try:
            console.install(files)
            program = image.find(task, -100, self._which(task, argv[0], environment), list(argv))
            try:
                loaded = image.load(task, program, [name + b"=" + value for name, value in environment.items()])
            except BaseException:
                program.file.put()
                raise
        except Exception as error:
            exits.exit_task(task, 127 << 8)
            if isinstance(error, OutOfFrames):
                raise OutOfMemory from None
            if isinstance(error, Errno):
                raise
            raise panic(self, error) from error
        image.commit(task, program, loaded)
        console.adopt(task.group)
        if self.first is None or self.first.zombie:
            self.first = task.group
        self.enqueue(task)
        return task.group

    def _which(self, task: Task, name: bytes, env: Mapping[bytes, bytes]) -> bytes:
        """As execvp(3): a name with a slash is itself; else the first executable in PATH. Raises ENOENT, EACCES."""
        if b"/" in name or not name:
            return name
        problem: Errno | None = None
        for directory in env.get(b"PATH", b"/bin:/usr/bin").split(b":"):
            candidate = (directory or b".") + b"/" + name
            try:
                image.open_executable(task, self.vfs.walk(task, -100, candidate)).put()
            except Errno as error:
                if problem is None or error.number == 13:
                    problem = error
                continue
            return candidate
        raise problem or Errno()

    def run(self) -> int:
        """Run until the first program has ended; its wait(2) status."""
        first = self.first
        if first is None:
            raise ConfigError("no program was started: call spawn first")
        self.run_until(lambda: first.zombie)
        return first.exit_status

    def run_until(self, condition: Any) -> None:
        """The trap loop, until `condition()` (asked when a task has ended). Host signals are passed on meanwhile.

        Raises KernelPanic; KeyboardInterrupt if host signals are not forwarded.
        """
        signals = HostSignals(self._notice, forward=self.config.forward_signals)
        self.hooks.on_host_event = lambda: self._host_event(signals)
        signals.install()
        try:
            self.loop.run(condition)
        except Exception as error:
            raise panic(self, error) from error
        finally:
            signals.restore()

    def _notice(self) -> None:
        self.hooks.host_event = True
        self.machine.ring()

    def _stopped(self, group: ThreadGroup) -> None:
        """A process stopped. If the first one did, from a terminal, we stop with it, for the shell that started us."""
        if group is self.first and group.group_stop in TERMINAL_STOPS:
            self._suspended = True
            self._notice()

    def _suspend(self, signals: HostSignals) -> None:
        self._suspended = False
        if self.first is None or not self.first.group_stop:  # it has been continued meanwhile
            return
        for task in self.loop.running:
            self.machine.kick(task.ctx)  # nobody computes on
        self.console.suspend()
        signals.stop()
        self.console.resume()
        _send(self, self.first.pgid, SIGCONT)

    def _host_event(self, signals: HostSignals) -> None:
        self.hooks.end_lost()
        for signo in signals.take():
            if not self.config.forward_signals:
                raise KeyboardInterrupt
            self.console.host_signal(signo)
        if self._suspended:
            self._suspend(signals)

    # ---- the end

    def close(self) -> None:
        """End every process, save the overlay if asked, and let everything go. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.config.save_overlay:
                from trapline.kernel.drivers.hostfs_save import save_overlay

                save_overlay(self.root.overlay, self.config.save_overlay, self.log)
        finally:
            for task in tuple(self.tasks.values()):
                if task.coro is not None:
                    task.coro.close()
            if self.accounting is not None:
                self.accounting.close()
            park.forget()
            pts.forget(self)
            self.console.close()
            if self.vdso is not None:
                self.vdso.close()
            self.root.descriptors.close()
            if self.swap is not None:
                self.swap.close()
            for each in self.swap_devices.values():
                each.end()
            self.machine.close()
            self.ram.close()


def boot(config: Config) -> System:
    """A kernel with its file systems and console. Raises ConfigError for what the configuration asks in vain."""
    kernel = System(config)
    try:
        _compose(kernel, config)
    except BaseException:
        config.machine.close()
        raise
    return kernel


def _compose(kernel: System, config: Config) -> None:
    vfs = kernel.vfs
    use_signals(_send)
    kernel.hooks = KernelHooks(kernel)
    kernel.machine.on_lost = kernel.hooks.space_lost
    kernel.loop = TrapLoop(kernel, kernel.hooks)
    try:
        kernel.root = build_root(
            kernel, root=config.root, binds=config.binds, rw=config.rw, cwd=config.current_directory
        )
    except Errno as error:
        raise ConfigError(f"the root file system cannot be built: {error}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    register_opener(S_IFIFO, _open_fifo)
    announce_chardevs(DRIVERS)
    vfs.register_filesystem(b"devtmpfs", make_devfs)
    vfs.register_filesystem(b"hugetlbfs", _make_hugetlbfs, frozenset(b"size nr_inodes mode uid gid pagesize".split()))
    vfs.register_filesystem(
        b"overlay", _make_overlay,
        frozenset(b"lowerdir upperdir workdir redirect_dir index xino metacopy nfs_export default_permissions".split()),
    )  # fmt: skip
    vfs.register_filesystem(b"devpts", pts.make_devpts, pts.OPTIONS)
    mount_dev(vfs, vfs.at_root(b"/dev"), pts.devpts(kernel, vfs))
    mqueues = filesystem(kernel.ipc)
    vfs.register_filesystem(b"mqueue", lambda vfs, source, options, task: mqueues)
    vfs.mount(vfs.new_mount(mqueues, b"mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC), vfs.at_root(b"/dev/mqueue"))
    mount_proc(kernel)
    mount_sysfs(kernel)
    kernel.console = Console(kernel, config.stdio, config.identity.uid, config.identity.gid)
    kernel.hooks.host_ready = lambda: _host_ready(kernel)
    if config.swap:
        _have_swap(kernel, config)
    if config.vdso is not None:
        kernel.vdso = config.vdso(kernel)


def _have_swap(kernel: System, config: Config) -> None:
    """A device of the configured size, in a file of the host's, that is swapped to."""
    from trapline.kernel.drivers.hostswap import nameless
    from trapline.kernel.task import swap

    try:
        backing = nameless(config.swap, config.swap_dir or None)
    except OSError as error:
        raise ConfigError(f"there is no room for swap: {error}") from error
    path, _, name = swap.DEVICE_NAME.rpartition(b"/")
    kernel.vfs.at_root(path).inode.create(name, S_IFBLK | 0o660, None, swap.DEVICE)
    swap.have_device(kernel, backing)


def _send(kernel: Any, pgid: int, signo: int) -> None:
    """A signal from a terminal to a process group."""
    for group in kernel.each_group(lambda each: each.pgid == pgid and not each.zombie):
        send_to_group(group, SigInfo(signo, SI_KERNEL))


def _make_hugetlbfs(vfs: Any, source: bytes, options: dict[bytes, bytes], task: Any) -> Any:
    """Imported with the first mount of one."""
    from trapline.kernel.fs.hugetlbfs import make_hugetlbfs

    return make_hugetlbfs(vfs, source, options, task)


def _make_overlay(vfs: Any, source: bytes, options: dict[bytes, bytes], task: Any) -> Any:
    """Imported with the first mount of one."""
    from trapline.kernel.fs.union import make_overlay

    return make_overlay(vfs, source, options, task)


def _open_fifo(inode: Any, path: Any, flags: int, task: Any) -> Any:
    """Pipes are imported with the first of them, which may be a FIFO that a program without pipe(2) opens."""
    from trapline.kernel.ipc.pipe import open_fifo

    return open_fifo(inode, path, flags, task)


def _host_ready(kernel: System) -> None:
    ready = kernel.machine.ready
    for fd, mask in ready:
        kernel.console.ready(fd, mask)
    ready.clear()
