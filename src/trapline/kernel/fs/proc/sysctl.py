"""/proc/sys: what the kernel can be told, and what it says of its limits; proc(5), sysctl(8).

Values that programs only read are constants. What may be written either takes effect or is refused with EINVAL: nothing
is accepted and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.capability import CAP_CHECKPOINT_RESTORE, CAP_LAST_CAP, CAP_SYS_ADMIN
from trapline.abi.core import MAX_NAME
from trapline.abi.errno import EINVAL, EPERM
from trapline.abi.ipc import (
    AIO_MAX_MAX,
    IPC_MNI,
    MQ_HARD_MSG_MAX,
    MQ_HARD_MSGSIZE_MAX,
    SEMMNS,
    SEMMSL,
    SEMOPM,
)
from trapline.kernel import uts
from trapline.kernel.fs.fdtable import OPEN
from trapline.kernel.fs.proc.base import ProcSuperBlock
from trapline.kernel.fs.synthetic import SynthDir, SynthFile
from trapline.kernel.ipc import epoll, inotify
from trapline.kernel.mm.hugepages import pool_of

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode

HOST_NAME_MAX = 64
PID_MAX = 4_194_304
INT_MAX, LONG_MAX = (1 << 31) - 1, (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15F39CC0605CEDC835


class Value:
    """One file: `get(kernel)` gives its text without the newline; `put(kernel, text)` changes it."""

    __slots__ = ("get", "mode", "put")

    def __init__(
        self, get: Callable[[Any], bytes], put: Callable[[Any, bytes], None] | None = None, mode: int = 0o444
    ) -> None:
        self.get = get
        self.put = put
        self.mode = mode


Tree = Mapping[str, "Tree | Value"]


def fixed(value: int | str | bytes) -> Value:
    text = value if isinstance(value, bytes) else str(value).encode()
    return Value(lambda kernel: text)


def _set_name(kernel: Any, text: bytes, field: str) -> None:
    if len(text) > HOST_NAME_MAX:
        raise EINVAL
    setattr(kernel, field, text)


def _number(text: bytes, low: int, high: int) -> int:
    if not text.strip().isdigit() or not low <= int(text) <= high:
        raise EINVAL
    return int(text)


def _ipc(field: str, high: int, low: int = 0) -> Value:
    """A limit of System V IPC, message queues or asynchronous I/O: a field of `kernel.ipc`."""
    return Value(
        lambda kernel: b"%d" % getattr(kernel.ipc, field),
        lambda kernel, text: setattr(kernel.ipc, field, _number(text, low, high)),
        0o644,
    )


def _next_id(table: str) -> Value:
    """What the next System V object of a kind shall be called, -1 once there is one (sysctl/kernel.rst, "msg_next_id")."""

    def put(kernel: Any, text: bytes) -> None:
        caller = kernel.current
        if caller is not None and not (caller.creds.has_cap(CAP_CHECKPOINT_RESTORE) or caller.creds.has_cap(CAP_SYS_ADMIN)):
            raise EPERM
        getattr(kernel.ipc, table).next_id = _number(text, 0, INT_MAX)

    return Value(lambda kernel: b"%d" % getattr(kernel.ipc, table).next_id, put)


def _semaphores(kernel: Any) -> bytes:
    space = kernel.ipc
    return b"%d\t%d\t%d\t%d" % (space.semmsl, space.semmns, space.semopm, space.semmni)


def _set_semaphores(kernel: Any, text: bytes) -> None:
    """SEMMSL SEMMNS SEMOPM SEMMNI, up to what they are at first; those not given stay as they are."""
    space, fields = kernel.ipc, text.split()
    bounds = ("semmsl", SEMMSL), ("semmns", SEMMNS), ("semopm", SEMOPM), ("semmni", IPC_MNI)
    values = [_number(each, 0, high) for each, (_, high) in zip(fields, bounds, strict=False)]
    for (name, _), value in zip(bounds, values, strict=False):
        setattr(space, name, value)


def _uuid(random: bytes) -> bytes:
    """A version 4 UUID, RFC 9562."""
    raw = bytearray(random)
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    digits = raw.hex().encode()
    return b"-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _boot_id(kernel: Any) -> bytes:
    """A name for this boot, made from its time so that everybody who asks gets the same."""
    seed = kernel.boot_realtime_ns << 64 | kernel.boot_monotonic_ns
    return _uuid((seed * _ODD & (1 << 128) - 1).to_bytes(16, "little"))


def _set_core_pattern(kernel: Any, text: bytes) -> None:
    """Core dumps go to files only: no program, and no server, is told of one that died."""
    if text[:1] in (b"|", b"@"):
        raise EINVAL
    kernel.core_pattern = text[: MAX_NAME - 1]


def _set_acct(kernel: Any, text: bytes) -> None:
    """What is not given stays as it is."""
    numbers = tuple(_number(each, 0, INT_MAX) for each in text.split())
    if len(numbers) > 3:
        raise EINVAL
    kernel.accounting_limits = (*numbers, *kernel.accounting_limits[len(numbers) :])


def _aslr(kernel: Any) -> bytes:
    return b"2" if kernel.aslr else b"0"


def _threads_max(kernel: Any) -> bytes:
    return b"%d" % kernel.pid_limit


def _file_nr(kernel: Any) -> bytes:
    budget = OPEN.of(kernel)
    return b"%d\t0\t%d" % (budget.used, budget.limit)


HUGE_PAGES = Value(
    lambda kernel: b"%d" % pool_of(kernel.ram).persistent,
    lambda kernel, text: pool_of(kernel.ram).resize(_number(text, 0, LONG_MAX)), 0o644,
)  # fmt: skip

TREE: Tree = {
    "kernel": {
        "acct": Value(lambda kernel: b"%d\t%d\t%d" % kernel.accounting_limits, _set_acct, 0o644),
        "arch": Value(lambda k: k.machine.arch.name.encode()),
        "cap_last_cap": fixed(CAP_LAST_CAP),
        "core_pattern": Value(lambda k: k.core_pattern, _set_core_pattern, 0o644),
        "core_uses_pid": Value(
            lambda kernel: b"%d" % kernel.core_uses_pid,
            lambda kernel, text: setattr(kernel, "core_uses_pid", bool(_number(text, 0, 1))), 0o644,
        ),
        "domainname": Value(lambda k: k.domainname, lambda k, text: _set_name(k, text, "domainname"), 0o644),
        "hostname": Value(lambda k: k.hostname, lambda k, text: _set_name(k, text, "hostname"), 0o644),
        "io_uring_disabled": fixed(2),
        "kptr_restrict": fixed(1),
        "dmesg_restrict": fixed(0),
        "ctrl-alt-del": Value(
            lambda kernel: b"%d" % kernel.ctrl_alt_del,
            lambda kernel, text: setattr(kernel, "ctrl_alt_del", _number(text, 0, 1)), 0o644,
        ),
        "msg_next_id": _next_id("msg"),
        "msgmax": _ipc("msgmax", INT_MAX),
        "msgmnb": _ipc("msgmnb", INT_MAX),
        "msgmni": _ipc("msgmni", IPC_MNI),
        "ngroups_max": fixed(65536),
        "osrelease": fixed(uts.RELEASE),
        "ostype": fixed(uts.SYSNAME),
        "overflowgid": fixed(65534),
        "overflowuid": fixed(65534),
        "panic": fixed(0),
        "perf_event_paranoid": fixed(4),
        "pid_max": fixed(PID_MAX),
        "printk": fixed("4\t4\t1\t7"),
        "pty": {"max": fixed(4096), "reserve": fixed(1024)},
        "random": {
            "boot_id": Value(_boot_id),
            "entropy_avail": fixed(256),
            "poolsize": fixed(256),
            "uuid": Value(lambda k: _uuid(k.random(16))),
            "urandom_min_reseed_secs": fixed(60),
            "write_wakeup_threshold": fixed(256),
        },
        "randomize_va_space": Value(_aslr),
        "sched_deadline_period_max_us": fixed(1 << 22),
        "sched_deadline_period_min_us": fixed(100),
        "sched_rr_timeslice_ms": fixed(100),
        "sched_rt_period_us": fixed(1_000_000),
        "sched_rt_runtime_us": fixed(950_000),
        "sem": Value(_semaphores, _set_semaphores, 0o644),
        "sem_next_id": _next_id("sem"),
        "shm_next_id": _next_id("shm"),
        "shm_rmid_forced": fixed(0),
        "shmall": _ipc("shmall", LONG_MAX),
        "shmmax": _ipc("shmmax", LONG_MAX),
        "shmmni": _ipc("shmmni", IPC_MNI),
        "tainted": fixed(0),
        "threads-max": Value(_threads_max),
        "unprivileged_bpf_disabled": fixed(2),
        "version": fixed(uts.VERSION),
    },
    "vm": {
        "dirty_background_ratio": fixed(10),
        "dirty_ratio": fixed(20),
        "drop_caches": fixed(0),
        "legacy_va_layout": fixed(0),
        "max_map_count": fixed(65530),
        "mmap_min_addr": fixed(65536),
        "mmap_rnd_bits": fixed(28),
        "hugetlb_shm_group": fixed(0),
        "nr_hugepages": HUGE_PAGES,
        "nr_hugepages_mempolicy": HUGE_PAGES,
        "nr_overcommit_hugepages": Value(
            lambda kernel: b"%d" % pool_of(kernel.ram).overcommit,
            lambda kernel, text: setattr(pool_of(kernel.ram), "overcommit", _number(text, 0, LONG_MAX)), 0o644,
        ),
        "overcommit_kbytes": fixed(0),
        "overcommit_memory": fixed(1),
        "overcommit_ratio": fixed(50),
        "panic_on_oom": fixed(0),
        "swappiness": fixed(0),
        "unprivileged_userfaultfd": fixed(0),
        "vfs_cache_pressure": fixed(100),
    },
    "fs": {
        "aio-max-nr": _ipc("aio_max", AIO_MAX_MAX),
        "aio-nr": Value(lambda kernel: b"%d" % kernel.ipc.aio_events),
        "dentry-state": fixed("0\t0\t45\t0\t0\t0"),
        "dir-notify-enable": fixed(1),
        "epoll": {"max_user_watches": Value(lambda kernel: b"%d" % epoll.WATCHES.of(kernel).limit)},
        "file-max": Value(lambda kernel: b"%d" % OPEN.of(kernel).limit),
        "file-nr": Value(_file_nr),
        "inode-nr": fixed("0\t0"),
        "inotify": {
            "max_queued_events": fixed(16384), "max_user_instances": fixed(128),
            "max_user_watches": Value(lambda kernel: b"%d" % inotify.WATCHES.of(kernel).limit),
        },
        "lease-break-time": Value(
            lambda kernel: b"%d" % kernel.lease_break_time_s,
            lambda kernel, text: setattr(kernel, "lease_break_time_s", _number(text, 0, INT_MAX)), 0o644,
        ),
        "leases-enable": fixed(1),
        "mount-max": fixed(4096),
        "mqueue": {
            "msg_default": _ipc("mq_msg_default", MQ_HARD_MSG_MAX), "msg_max": _ipc("mq_msg_max", MQ_HARD_MSG_MAX),
            "msgsize_default": _ipc("mq_msgsize_default", MQ_HARD_MSGSIZE_MAX, 128),
            "msgsize_max": _ipc("mq_msgsize_max", MQ_HARD_MSGSIZE_MAX, 128), "queues_max": _ipc("mq_queues_max", INT_MAX),
        },
        "nr_open": fixed(1_048_576),
        "overflowgid": fixed(65534),
        "overflowuid": fixed(65534),
        "pipe-max-size": fixed(1_048_576),
        "pipe-user-pages-hard": fixed(0),
        "pipe-user-pages-soft": fixed(16384),
        "protected_fifos": fixed(0),
        "protected_hardlinks": fixed(0),
        "protected_regular": fixed(0),
        "protected_symlinks": fixed(0),
        "suid_dumpable": fixed(0),
    },
    "net": {
        "core": {"somaxconn": fixed(4096), "rmem_default": fixed(212992), "wmem_default": fixed(212992),
                 "rmem_max": fixed(212992), "wmem_max": fixed(212992)},
        "ipv4": {"ip_local_port_range": fixed("32768\t60999"), "ip_unprivileged_port_start": fixed(1024)},
        "unix": {"max_dgram_qlen": fixed(512)},
    },
    "user": {},
    "debug": {},
    "dev": {},
    "abi": {"vsyscall32": fixed(1)},
}  # fmt: skip


class SysctlDir(SynthDir):
    """A directory; who owns it and who may use it does not change."""

    __slots__ = ()

    def setattr(self, **changes: int | None) -> None:
        _keep_owner(changes)
        super().setattr(**changes)


class SysctlFile(SynthFile):
    """A value, of which the same is true."""

    __slots__ = ()

    def setattr(self, **changes: int | None) -> None:
        _keep_owner(changes)
        super().setattr(**changes)


def _keep_owner(changes: dict[str, int | None]) -> None:
    if any(changes.get(name) is not None for name in ("mode", "uid", "gid")):
        raise EPERM


def build(sb: ProcSuperBlock, tree: Tree = TREE) -> Inode:
    """The directory for `tree`."""
    children: dict[bytes, Callable[[], Inode] | Inode] = {}
    for name, value in tree.items():
        if isinstance(value, Value):
            children[name.encode()] = _maker(sb, value)
        else:
            children[name.encode()] = _subdirectory(sb, value)
    return SysctlDir(sb, children)


def _subdirectory(sb: ProcSuperBlock, tree: Tree) -> Callable[[], Inode]:
    return lambda: build(sb, tree)


def _maker(sb: ProcSuperBlock, value: Value) -> Callable[[], Inode]:
    kernel = sb.kernel
    put = value.put

    def generate() -> bytes:
        return value.get(kernel) + b"\n"

    def store(data: bytes) -> None:
        assert put is not None
        put(kernel, data.split(b"\0")[0].split(b"\n")[0])

    return lambda: SysctlFile(sb, generate, value.mode, store=store if put is not None else None)
