"""Failures: what may go wrong with each system call in a world that is merely out of something, or broken: its manual page.

Errors that only a mistake of the program's can cause (EFAULT, EINVAL, EBADF) are left out, and so are calls that cannot fail
otherwise. The first error of a call is the one that is most telling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trapline.abi.errno import EINTR, TEXTS
from trapline.abi.fcntl import AT_EMPTY_PATH, F_DUPFD, F_DUPFD_CLOEXEC, F_SETLK, O_CREAT
from trapline.scope.tamper.short import SHORTENED
from trapline.scope.tamper.tamper import Tamper

if TYPE_CHECKING:
    from trapline.scope.collected import Call

ERROR, SHORT, INTERRUPT = "error", "short", "interrupt"
KINDS = (ERROR, SHORT, INTERRUPT)
_DESCRIPTOR = "EMFILE ENFILE ENOMEM"
_NAME = "EACCES ENOMEM EIO"
_NEW_NAME = "ENOSPC EACCES EROFS EDQUOT EIO"
_ERRORS = {
    _DESCRIPTOR: "dup pipe pipe2 socket socketpair eventfd eventfd2 epoll_create epoll_create1 timerfd_create signalfd "
    "signalfd4 inotify_init inotify_init1 memfd_create pidfd_open accept accept4",
    _NAME: "stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat chdir chroot statfs getxattr lgetxattr "
    "listxattr llistxattr",
    _NEW_NAME: "mkdir mkdirat mknod mknodat symlink symlinkat link linkat rename renameat renameat2",
    "EACCES EROFS EBUSY EIO": "unlink unlinkat rmdir",
    "EPERM EROFS EIO": "chmod fchmod fchmodat chown lchown fchown fchownat utimensat utime utimes futimesat",
    "EMFILE EACCES ENFILE ENOMEM EIO": "open openat openat2 creat",
    "EIO": "read readv pread64 preadv preadv2 getdents getdents64 fsync fdatasync sync_file_range msync syncfs ftruncate "
    "truncate fstat sendfile copy_file_range close",
    "ENOSPC EIO EDQUOT EFBIG": "write writev pwrite64 pwritev pwritev2 fallocate",
    "ENOMEM EAGAIN": "mmap mremap mprotect mlock mlock2 mlockall brk madvise shmat",
    "EAGAIN ENOMEM": "fork vfork clone clone3 timer_create",
    "ENOMEM EACCES EAGAIN": "execve execveat",
    "EAGAIN": "setuid setgid setreuid setregid setresuid setresgid",
    "EPERM ENOMEM": "setgroups setpgid setsid prlimit64 setrlimit sched_setaffinity sched_setscheduler kill",
    "ENOMEM": "poll ppoll select pselect6 epoll_ctl",
    "ENOSPC ENOMEM": "inotify_add_watch shmget msgget semget setxattr fsetxattr",
    "ECONNREFUSED ENOENT EACCES": "connect",
    "EADDRINUSE EACCES": "bind",
    "EADDRINUSE": "listen",
    "EPIPE ECONNRESET ENOBUFS": "sendto sendmsg sendmmsg",
    "ECONNRESET": "recvfrom recvmsg recvmmsg",
    "ENOSYS": "getrandom rseq",
    "ENOLCK": "flock",
}
_BY_CALL = {name: tuple(errors.split()) for errors, names in _ERRORS.items() for name in names.split()}
_INTERRUPTED = frozenset(
    "read readv write writev wait4 waitid poll ppoll select pselect6 epoll_wait epoll_pwait epoll_pwait2 connect accept "
    "accept4 recvfrom recvmsg sendto sendmsg flock nanosleep clock_nanosleep semop semtimedop msgsnd msgrcv mq_timedsend "
    "mq_timedreceive rt_sigtimedwait open openat".split()
)
_OPENS = frozenset(("open", "openat"))


class Failure(NamedTuple):
    """`text`: what to call it: "ENOSPC", "short (12 bytes)"."""

    kind: str
    text: str
    tamper: Tamper


def failures(call: Call, kinds: frozenset[str], errors: tuple[str, ...] = (), every: bool = False) -> list[Failure]:
    """How `call`, which went as it says, might have gone otherwise.

    `errors` stand instead of its own; `every`: all of them, not only the first.
    """
    found: list[Failure] = []
    if ERROR in kinds and (call.error is None or errors):
        names = errors or possible(call)
        found += [_error(call, each) for each in (names if every or errors else names[:1])]
    moved = call.result or 0
    if SHORT in kinds and call.name in SHORTENED and moved > 1:
        found.append(Failure(SHORT, f"short, {moved // 2} of {moved} bytes", Tamper(short=moved // 2)))
    if INTERRUPT in kinds and call.name in _INTERRUPTED and call.wait_ns:
        found.append(Failure(INTERRUPT, "EINTR", Tamper(-EINTR.number)))
    return found


def possible(call: Call) -> tuple[str, ...]:
    """The names of the errors that it might have failed with."""
    if call.name == "fcntl":
        command = call.args.get("cmd")
        return ("EMFILE",) if command in (F_DUPFD, F_DUPFD_CLOEXEC) else ("ENOLCK",) if command == F_SETLK else ()
    if call.name == "brk" and not call.args.get("addr"):
        return ()
    if call.name in _OPENS and call.args.get("flags", 0) & O_CREAT:
        return "ENOSPC", *_BY_CALL[call.name]
    if call.args.get("flags", 0) & AT_EMPTY_PATH and call.name in ("newfstatat", "statx"):
        return _BY_CALL["fstat"]
    return _BY_CALL.get(call.name, ())


def _error(call: Call, name: str) -> Failure:
    """brk(2) fails by staying where it is, which no program takes for an errno: 0 is below all that it may ask for."""
    return Failure(ERROR, name, Tamper(0 if call.name == "brk" else -TEXTS[name][0]))
