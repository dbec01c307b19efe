"""`trapline run`: from the command line to a kernel, and from the first program's end to an exit status.

Exit status: the program's own; if a signal killed it, this process dies of the same signal, so that a shell sees what it
would see natively (128 + n in `$?`); 124 time-out, 125 our own failure, 126 not executable, 127 not found.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from trapline.typed import TYPE_CHECKING, Any

from trapline.cli import values
from trapline.cli.environment import environment
from trapline.cli.main import FAILED, PLUGGED, complain, say
from trapline.cli.options import Option, Parsed, UsageError, describe, parse

if TYPE_CHECKING:
    from trapline.embed import Kernel

TIMED_OUT, NOT_EXECUTABLE, NOT_FOUND = 124, 126, 127
MAX_PIDS = 1 << 22

OPTIONS = (
    Option("--root", "DIR|TAR", "directory or tar archive to show as /; `--root /` shows the whole host. Default: the "
           "host's system trees and the current directory, without homes, keys and secrets. Writes stay in memory"),
    Option("--bind", "SRC:DST[:ro|rw]", "show host path SRC at DST; rw lets writes through to the host (default: ro)",
           many=True),
    Option("--rw", "PATH", "show host PATH at its own place and let writes through to the host", many=True),
    Option("--env", "K[=V]", "set a variable, or pass yours on; by default only PATH, TERM, LANG, LC_*, TZ and the like pass",
           many=True),
    Option("--clear-env", "", "start from an empty environment"),
    Option("--workdir", "DIR", "directory to start in (default: the current one, if it is shown)"),
    Option("--user", "UID[:GID]|NAME", "run as this user of the guest (default: your own ids)"),
    Option("--hostname", "NAME", "the guest's host name (default: trapline)"),
    Option("--memory", "SIZE", "memory of the guest, for example 512M (default: half of the host's)"),
    Option("--swap", "SIZE[:DIR]", "swap to /dev/swap0 of this size when memory runs short: a nameless file in the host's "
           "directory DIR (default: where temporary files go)"),
    Option("--cpus", "N", "processors of the guest (default: as many as you may use)"),
    Option("--pids", "N", "most processes and threads at once (default: 4096)"),
    Option("--timeout", "TIME", "kill everything after TIME (10, 1.5s, 2m) and exit with 124"),
    Option("--seed", "N", "take random numbers from this seed, for repeatable runs"),
    Option("--no-aslr", "", "do not randomise addresses"),
    Option("--save-overlay", "DIR|TAR", "write what the program changed to a new directory or a .tar archive"),
    Option("--machine", "host|riscv", "the machine to run on (default: host)"),
    Option("--tier", "TIER", "how the RISC-V machine executes: reference, or up to native, baseline or interpreter"),
    Option("--no-cache", "", "keep no compiled RISC-V code on disk, and use none"),
    Option("--trace", "FILE", "write every system call in strace's format to FILE (default: stderr)", optional=True),
    Option("--log", "FILE", "write the kernel's log to FILE (default: stderr)", optional=True),
    Option("--dump-pagetables", "FILE", "write the page tables of each process when it ends to FILE (default: stderr)",
           optional=True),
    Option("--gdb", "[HOST:]PORT|PATH", "with --machine riscv: let GDB connect to this port (of 127.0.0.1; 1234) or UNIX "
           "socket and debug the program, and wait for it", optional=True),
    Option("--gdb-nowait", "", "do not wait: GDB may connect at any time"),
    Option("--report-fd", "FD", "write one line to descriptor FD if the program cannot be started; closed when it runs"),
    Option("--help", "", "this text"),
)  # fmt: skip

def usage() -> str:
    """The help text."""
    return f"""\
usage: trapline run [OPTION]... [--] PROGRAM [ARGUMENT]...

Runs PROGRAM, found in the PATH of its environment, under Trapline's kernel.

{describe(OPTIONS)}

exit status: the program's; 128+N in a shell's $? if signal N killed it;
124 time-out; 125 trapline itself failed; 126 PROGRAM cannot be executed;
127 PROGRAM was not found
"""


def main(words: list[str]) -> int:
    """Run the command line `words`; the exit status. May not return: see `leave`."""
    parsed = parse(words, OPTIONS)
    if parsed.flag("--help"):
        return say(usage())
    if not parsed.rest:
        raise UsageError("no program: write `trapline run PROGRAM`")
    report = Report(parsed)
    try:
        code = execute(parsed, report, observe)
    except UsageError as error:
        code = report.failed(FAILED, str(error))
    return leave(code)


def execute(
    parsed: Parsed,
    report: Report,
    observe: Callable[[Kernel, Parsed, Outputs], Callable[[], None] | None],
    unset: Sequence[str] = (),
    serve: Callable[[Kernel, Callable[[], object]], int] | None = None,
) -> int:
    """Run the program of a command line; its exit status, negative for a signal.

    `observe` subscribes whoever is to be told; what it returns is called at the end. `unset`: variables to leave out.
    `serve(kernel, again)`: in place of `Kernel.wait`, returns a wait(2) status; `again` starts the program once more.
    """
    from trapline.abi.errno import Errno
    from trapline.kernel.config import ConfigError
    from trapline.kernel.panic import KernelPanic
    from trapline.machine.select import NoMachine

    outputs = Outputs()
    settings = kernel_settings(parsed, outputs)
    who = settings["identity"]
    workdir = values.directory(parsed.last("--workdir")) if parsed.flag("--workdir") else ""
    env = environment(parsed.all("--env"), parsed.flag("--clear-env"), who)
    for name in unset:
        env.pop(os.fsencode(name), None)
    timeout = values.duration_ns("--timeout", parsed.last("--timeout")) / 1e9 if parsed.flag("--timeout") else None
    kernel: Kernel | None = None
    finish: Callable[[], None] | None = None
    allow_descriptors()
    try:
        from trapline.embed import Kernel, returncode

        kernel = Kernel(**settings)
        finish = observe(kernel, parsed, outputs)
        failure = start(kernel, parsed.rest, env, workdir)
        if failure is not None:
            return report.failed(*failure)
        report.started()
        if serve is not None:
            arguments = kernel, parsed.rest, env, workdir
            return returncode(serve(kernel, lambda: start(*arguments)))
        status = kernel.wait(timeout)
        kernel.close()
        return TIMED_OUT if kernel.timed_out else returncode(status)
    except NoMachine as error:
        return report.failed(FAILED, f"{error}, or give less --memory" if parsed.flag("--memory") else str(error))
    except (ConfigError, KernelPanic, Errno, ValueError, OSError) as error:
        return report.failed(FAILED, str(error))
    finally:
        if kernel is not None:
            kernel.close()
        if finish is not None:
            finish()
        outputs.close()


def allow_descriptors() -> None:
    """Raise our own limit on descriptors as far as we may: each process of the guest's costs one."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def kernel_settings(parsed: Parsed, outputs: Outputs) -> dict[str, Any]:
    """The keyword arguments of `embed.Kernel`. Raises UsageError."""
    last = parsed.last
    settings: dict[str, Any] = {
        "root": values.root(last("--root")) if parsed.flag("--root") else None,
        "binds": [values.bind(each) for each in parsed.all("--bind")],
        "rw": [values.existing("--rw", each) for each in parsed.all("--rw")],
        "identity": values.identity(last("--user")),
        "aslr": not parsed.flag("--no-aslr"),
        "machine": _machine(parsed),
        "save_overlay": values.overlay(last("--save-overlay")) if parsed.flag("--save-overlay") else "",
    }
    if PLUGGED:
        from trapline.kernel.drivers.stdio import CLOSED

        settings["stdio"] = tuple(CLOSED if fd in PLUGGED else fd for fd in range(3))
    if parsed.flag("--hostname"):
        settings["hostname"] = values.hostname(last("--hostname"))
    if parsed.flag("--memory"):
        settings["memory"] = values.size("--memory", last("--memory"))
    if parsed.flag("--swap"):
        settings["swap"], settings["swap_dir"] = values.swap(last("--swap"))
    for option, name, high in (("--cpus", "cpus", 64), ("--pids", "pids", MAX_PIDS)):
        if parsed.flag(option):
            settings[name] = values.number(option, last(option), 1, high)
    if parsed.flag("--seed"):
        settings["seed"] = values.number("--seed", last("--seed"), 0, (1 << 64) - 1)
    if parsed.flag("--log"):
        write = outputs.open("--log", last("--log"))
        settings["log"] = lambda line: write(f"trapline: kernel: {line}\n")
    return settings


def _machine(parsed: Parsed) -> str:
    """The machine's name, for `embed.Kernel`."""
    name, tier = parsed.last("--machine", "host"), parsed.last("--tier")
    if tier and name != "riscv":
        raise UsageError("--tier is for the RISC-V machine: add `--machine riscv`")
    if parsed.flag("--gdb") and name != "riscv":
        raise UsageError("--gdb is for the RISC-V machine: add `--machine riscv`, and a program for it")
    if parsed.flag("--no-cache"):
        from trapline.machine.riscv.jit.cache import switch_off

        switch_off()
    return f"{name}:{tier}" if tier else name


def observe(kernel: Kernel, parsed: Parsed, outputs: Outputs) -> Callable[[], None] | None:
    """Subscribe the listeners that were asked for; what is to be called at the end."""
    if parsed.flag("--trace"):
        from trapline.scope.strace.strace import Strace

        file = parsed.last("--trace")
        kernel.subscribe(Strace(outputs.open("--trace", file), always_pid=bool(file)))
    if parsed.flag("--dump-pagetables"):
        from trapline.cli.pagetables import PageTableDump

        kernel.subscribe(PageTableDump(outputs.open("--dump-pagetables", parsed.last("--dump-pagetables"))))
    if not parsed.flag("--gdb"):
        return None
    from trapline.cli.gdb import PORT, ProcessDebugger

    return ProcessDebugger(parsed.last("--gdb") or str(PORT), kernel, waits=not parsed.flag("--gdb-nowait")).finish


def start(kernel: Kernel, args: list[str], env: dict[bytes, bytes], workdir: str) -> tuple[int, str, int] | None:
    """Spawn the first program; (exit status, what to say, errno) if that fails."""
    from trapline.abi.errno import E2BIG, ENAMETOOLONG, ENOENT, ENOEXEC, ENOTDIR, Errno
    from trapline.embed import NoDirectory
    from trapline.kernel.drivers.hostlibraries import library_hint
    from trapline.kernel.exec.elf import ForeignProgram
    from trapline.kernel.exec.image import NoInterpreter
    from trapline.machine.select import MACHINE_OF

    try:
        kernel.spawn(args, env=env, cwd=workdir)
    except NoDirectory as error:
        return FAILED, f"--workdir {workdir}: {error}: `--bind` can show more of the host", error.errno
    except ForeignProgram as error:
        hint = f"use --machine {MACHINE_OF[error.arch]}" if error.arch else "no machine here runs it"
        return NOT_EXECUTABLE, f"{args[0]}: {error.why}: {hint}", error.number
    except NoInterpreter as error:
        hint = library_hint(kernel.system.machine.arch.name, error.interpreter) or "`--bind` can show more of the host"
        return NOT_FOUND, f"{args[0]}: {error.why}: {hint}", error.number
    except (ENOENT, ENOTDIR, ENAMETOOLONG) as error:
        name = args[0] or "the empty name"
        what = "the interpreter that its first line names is " if _is_there(kernel, args[0], workdir) else ""
        hint = "`--bind` or `--root /` can show more of the host"
        return NOT_FOUND, f"{name}: {what}not found in the guest: {hint}", error.number
    except E2BIG as error:
        return NOT_EXECUTABLE, f"{args[0]}: {error.text}: pass fewer or shorter arguments", error.number
    except ENOEXEC as error:
        return NOT_EXECUTABLE, f"{args[0]}: no program, and no script with a #! line: `sh {args[0]}` may run it", error.number
    except Errno as error:
        return NOT_EXECUTABLE, f"{args[0]}: cannot be executed: {error}", error.number
    return None


def _is_there(kernel: Kernel, name: str, workdir: str) -> bool:
    """A program given by its path does exist."""
    from trapline.abi.errno import Errno

    system = kernel.system
    try:
        system.vfs.at_root(os.path.join(os.fsencode(workdir) or system.root.cwd, os.fsencode(name)))
    except Errno:
        return False
    return "/" in name


def leave(code: int) -> int:
    """The exit status for a return code; for a negative one, die of that signal, without a core of our own."""
    if code >= 0:
        return code
    import resource
    import signal

    signo = -code
    sys.stdout.flush()
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (min(1, hard) if hard >= 0 else 1, hard))  # 1: not even into a pipe, core(5)
    if signo not in (signal.SIGKILL, signal.SIGSTOP):
        try:
            signal.signal(signo, signal.SIG_DFL)
        except (ValueError, OSError):  # not the main thread, or a number the C library keeps for itself
            return 128 + signo
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signo})
    os.kill(os.getpid(), signo)
    return 128 + signo  # as pid 1 of a container we do not die of signals


class Outputs:
    """Files that traces and logs go to; "" is stderr, unbuffered.

    A reader that goes away, or a disk that is full, ends the trace and not the program; the latter is said at the end.
    """

    def __init__(self) -> None:
        self._files: list[Any] = []
        self._processes: list[Any] = []
        self._lost: dict[str, str] = {}  #: option and file -> why it is not complete

    def open(self, option: str, path: str, *, append: bool = False) -> Callable[[str], Any]:
        name = f"{option} {path}".rstrip()
        if not path:
            return self._guarded(name, _to_stderr)
        try:
            file = open(path, "a" if append else "w", 1, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 - see `close`
        except OSError as error:
            raise UsageError(f"{option} {path}: {error.strerror}: choose another file") from None
        self._files.append((name, file))
        return self._guarded(name, file.write)

    def pipe(self, option: str, command: str) -> Callable[[str], Any]:
        """Into the standard input of a shell's command, which `close` waits for."""
        from subprocess import PIPE, Popen

        process = Popen(["sh", "-c", command], stdin=PIPE, text=True, bufsize=1, errors="surrogateescape")
        assert process.stdin is not None
        name = f"{option} |{command}"
        self._files.append((name, process.stdin))
        self._processes.append(process)
        return self._guarded(name, process.stdin.write)

    def _guarded(self, name: str, write: Callable[[str], Any]) -> Callable[[str], None]:
        def guarded(text: str) -> None:
            if name not in self._lost:
                try:
                    write(text)
                except OSError as error:
                    self._lost[name] = str(error.strerror)

        return guarded

    def shut(self, option: str, path: str) -> None:
        """Close one file, before the end."""
        for each in [each for each in self._files if each[0] == f"{option} {path}"]:
            self._files.remove(each)
            self._close(*each)

    def _close(self, name: str, file: Any) -> None:
        try:
            file.close()
        except OSError as error:
            self._lost[name] = str(error.strerror)

    def close(self) -> None:
        for name, file in self._files:
            self._close(name, file)
        self._files.clear()
        for process in self._processes:
            process.wait()
        self._processes.clear()
        for name, why in self._lost.items():
            complain(f"{name}: not all was written: {why}")
        self._lost.clear()


def _to_stderr(text: str) -> None:
    os.write(2, text.encode(errors="surrogateescape"))


class Report:
    """`--report-fd`: tells whoever started us why a program did not start, as exec(2) would."""

    def __init__(self, parsed: Parsed) -> None:
        self._fd = values.descriptor("--report-fd", parsed.last("--report-fd")) if parsed.flag("--report-fd") else -1
        if self._fd >= 0:
            os.set_inheritable(self._fd, False)

    def failed(self, code: int, why: str, errno: int = 0) -> int:
        """Say why, there (after the exit status and the errno) or on stderr; the exit status."""
        if self._fd < 0:
            complain(why)
            return code
        os.write(self._fd, f"{code} {errno} {why}".encode(errors="surrogateescape")[:4096])
        self.started()
        return code

    def started(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
