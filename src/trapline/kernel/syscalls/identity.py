"""Who a task is: process, thread, group and session ids; user and group ids; capabilities."""

from __future__ import annotations

import struct
from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.capability import CAP_SETGID, CAP_SETPCAP, CAP_SETUID
from trapline.abi.errno import EACCES, EINVAL, EPERM, ESRCH
from trapline.kernel.syscalls.declare import Arg, Int, Pid, UserPtr, syscall
from trapline.kernel.task.access import set_dumpable
from trapline.kernel.task.creds import ALL_CAPS, Credentials, after_user_change
from trapline.kernel.task.rlimit import over_nproc

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup

Id = Annotated[int, Arg(-32, "dec")]  #: uid_t and gid_t, -1 meaning "no change"
SAME = -1
MAX_GROUPS = 65536
MASK32 = 0xFFFFFFFF


# ---- processes


@syscall("getpid")
def sys_getpid(task: Task) -> int:
    """getpid(2): the process."""
    return task.group.pid


@syscall("gettid")
def sys_gettid(task: Task) -> int:
    """gettid(2): the thread."""
    return task.tid


@syscall("getppid")
def sys_getppid(task: Task) -> int:
    """getppid(2): the parent process."""
    parent = task.group.parent
    return parent.pid if parent is not None else 0


def group_of(task: Task, pid: int) -> ThreadGroup:
    """The process `pid`, or that of thread `pid`, or the caller's own for 0; raises ESRCH."""
    if not pid:
        return task.group
    group = task.kernel.groups.get(pid)
    if group is not None:
        return group
    thread = task.kernel.tasks.get(pid)
    if thread is None:
        raise ESRCH
    return thread.group


@syscall("getpgid")
def sys_getpgid(task: Task, pid: Pid) -> int:
    """getpgid(2): the process group of a process."""
    return group_of(task, pid).pgid


@syscall("getpgrp")
def sys_getpgrp(task: Task) -> int:
    """getpgrp(2): the caller's process group."""
    return task.group.pgid


@syscall("getsid")
def sys_getsid(task: Task, pid: Pid) -> int:
    """getsid(2): the session of a process."""
    return group_of(task, pid).sid


@syscall("setsid")
def sys_setsid(task: Task) -> int:
    """setsid(2): start a session."""
    group = task.group
    if any(each.pgid == group.pid for each in task.kernel.groups.values()):
        raise EPERM("already leads a process group")
    group.sid = group.pgid = group.pid
    group.tty = None
    return group.pid


@syscall("setpgid")
def sys_setpgid(task: Task, pid: Pid, pgid: Pid) -> int:
    """setpgid(2): move a process into a process group."""
    caller = task.group
    if pgid < 0:
        raise EINVAL
    group = group_of(task, pid)
    if pid not in (0, group.pid):
        raise EINVAL("a thread that leads no process")
    pgid = pgid or group.pid
    if group is not caller:
        if group.parent is not caller:
            raise ESRCH
        if group.sid != caller.sid:
            raise EPERM
        if group.did_exec:
            raise EACCES
    if group.sid == group.pid:
        raise EPERM("a session leader")
    if pgid != group.pid and not any(
        each.pgid == pgid and each.sid == caller.sid for each in task.kernel.groups.values()
    ):
        raise EPERM("no such process group in this session")
    group.pgid = pgid
    return 0


# ---- users and groups


@syscall("getuid")
def sys_getuid(task: Task) -> int:
    """getuid(2): the real user id."""
    return task.creds.uid


@syscall("geteuid")
def sys_geteuid(task: Task) -> int:
    """geteuid(2): the effective user id."""
    return task.creds.euid


@syscall("getgid")
def sys_getgid(task: Task) -> int:
    """getgid(2): the real group id."""
    return task.creds.gid


@syscall("getegid")
def sys_getegid(task: Task) -> int:
    """getegid(2): the effective group id."""
    return task.creds.egid


@syscall("getresuid")
def sys_getresuid(task: Task, ruid: UserPtr, euid: UserPtr, suid: UserPtr) -> int:
    """getresuid(2): real, effective and saved user id."""
    creds = task.creds
    for address, value in ((ruid, creds.uid), (euid, creds.euid), (suid, creds.suid)):
        task.mm.write_u32(address, value)
    return 0


@syscall("getresgid")
def sys_getresgid(task: Task, rgid: UserPtr, egid: UserPtr, sgid: UserPtr) -> int:
    """getresgid(2): real, effective and saved group id."""
    creds = task.creds
    for address, value in ((rgid, creds.gid), (egid, creds.egid), (sgid, creds.sgid)):
        task.mm.write_u32(address, value)
    return 0


def set_users(task: Task, uid: int, euid: int, suid: int) -> int:
    """Change user ids (SAME keeps one); capabilities follow."""
    old = task.creds
    new = old._replace(
        uid=old.uid if uid == SAME else uid & MASK32,
        euid=old.euid if euid == SAME else euid & MASK32,
        suid=old.suid if suid == SAME else suid & MASK32,
    )
    new = new._replace(fsuid=new.euid)
    _commit(task, old, after_user_change(old, new))
    if new.uid != old.uid:
        task.nproc_exceeded = over_nproc(task, -1)  # itself not counted
    return 0


def set_groups_ids(task: Task, gid: int, egid: int, sgid: int) -> int:
    """Change group ids (SAME keeps one)."""
    old = task.creds
    new = old._replace(
        gid=old.gid if gid == SAME else gid & MASK32,
        egid=old.egid if egid == SAME else egid & MASK32,
        sgid=old.sgid if sgid == SAME else sgid & MASK32,
    )
    _commit(task, old, new._replace(fsgid=new.egid))
    return 0


def _commit(task: Task, old: Credentials, new: Credentials) -> None:
    """Another identity, or new rights: nobody may look into the process any more (prctl(2), PR_SET_DUMPABLE)."""
    ids_before, ids = (old.euid, old.egid, old.fsuid, old.fsgid), (new.euid, new.egid, new.fsuid, new.fsgid)
    if ids != ids_before or new.permitted & ~old.permitted:
        set_dumpable(task, 0)
        task.death_signal = 0
    task.creds = new


@syscall("setuid")
def sys_setuid(task: Task, uid: Id) -> int:
    """setuid(2): set the effective user id; all three if privileged."""
    creds = task.creds
    if uid == SAME:
        raise EINVAL
    if creds.has_cap(CAP_SETUID):
        return set_users(task, uid, uid, uid)
    if uid & MASK32 not in (creds.uid, creds.suid):
        raise EPERM
    return set_users(task, SAME, uid, SAME)


@syscall("setgid")
def sys_setgid(task: Task, gid: Id) -> int:
    """setgid(2): set the effective group id; all three if privileged."""
    creds = task.creds
    if gid == SAME:
        raise EINVAL
    if creds.has_cap(CAP_SETGID):
        return set_groups_ids(task, gid, gid, gid)
    if gid & MASK32 not in (creds.gid, creds.sgid):
        raise EPERM
    return set_groups_ids(task, SAME, gid, SAME)


@syscall("setreuid")
def sys_setreuid(task: Task, ruid: Id, euid: Id) -> int:
    """setreuid(2): set real and effective user id."""
    creds = task.creds
    if not creds.has_cap(CAP_SETUID):
        if ruid != SAME and ruid & MASK32 not in (creds.uid, creds.euid):
            raise EPERM
        if euid != SAME and euid & MASK32 not in (creds.uid, creds.euid, creds.suid):
            raise EPERM
    saves = ruid != SAME or (euid != SAME and euid & MASK32 != creds.uid)
    return set_users(task, ruid, euid, (creds.euid if euid == SAME else euid) if saves else SAME)


@syscall("setregid")
def sys_setregid(task: Task, rgid: Id, egid: Id) -> int:
    """setregid(2): set real and effective group id."""
    creds = task.creds
    if not creds.has_cap(CAP_SETGID):
        if rgid != SAME and rgid & MASK32 not in (creds.gid, creds.egid):
            raise EPERM
        if egid != SAME and egid & MASK32 not in (creds.gid, creds.egid, creds.sgid):
            raise EPERM
    saves = rgid != SAME or (egid != SAME and egid & MASK32 != creds.gid)
    return set_groups_ids(task, rgid, egid, (creds.egid if egid == SAME else egid) if saves else SAME)


@syscall("setresuid")
def sys_setresuid(task: Task, ruid: Id, euid: Id, suid: Id) -> int:
    """setresuid(2): set real, effective and saved user id."""
    creds = task.creds
    known = (creds.uid, creds.euid, creds.suid)
    if not creds.has_cap(CAP_SETUID) and any(each != SAME and each & MASK32 not in known for each in (ruid, euid, suid)):
        raise EPERM
    return set_users(task, ruid, euid, suid)


@syscall("setresgid")
def sys_setresgid(task: Task, rgid: Id, egid: Id, sgid: Id) -> int:
    """setresgid(2): set real, effective and saved group id."""
    creds = task.creds
    known = (creds.gid, creds.egid, creds.sgid)
    if not creds.has_cap(CAP_SETGID) and any(each != SAME and each & MASK32 not in known for each in (rgid, egid, sgid)):
        raise EPERM
    return set_groups_ids(task, rgid, egid, sgid)


@syscall("setfsuid")
def sys_setfsuid(task: Task, fsuid: Id) -> int:
    """setfsuid(2): set the user id for file access; the old one is returned whatever happens."""
    creds = task.creds
    value = fsuid & MASK32
    if fsuid != SAME and (creds.has_cap(CAP_SETUID) or value in (creds.uid, creds.euid, creds.suid, creds.fsuid)):
        _commit(task, creds, after_user_change(creds, creds._replace(fsuid=value)))
    return creds.fsuid


@syscall("setfsgid")
def sys_setfsgid(task: Task, fsgid: Id) -> int:
    """setfsgid(2): set the group id for file access; the old one is returned whatever happens."""
    creds = task.creds
    value = fsgid & MASK32
    if fsgid != SAME and (creds.has_cap(CAP_SETGID) or value in (creds.gid, creds.egid, creds.sgid, creds.fsgid)):
        _commit(task, creds, creds._replace(fsgid=value))
    return creds.fsgid


@syscall("getgroups")
def sys_getgroups(task: Task, size: Int, groups: UserPtr) -> int:
    """getgroups(2): the supplementary groups."""
    mine = task.creds.groups
    if size < 0:
        raise EINVAL
    if size:
        if size < len(mine):
            raise EINVAL
        task.mm.write(groups, struct.pack(f"<{len(mine)}I", *mine))
    return len(mine)


@syscall("setgroups")
def sys_setgroups(task: Task, size: Int, groups: UserPtr) -> int:
    """setgroups(2): set the supplementary groups."""
    if not task.creds.has_cap(CAP_SETGID):
        raise EPERM
    if not 0 <= size <= MAX_GROUPS:
        raise EINVAL
    raw = task.mm.read(groups, 4 * size) if size else b""
    task.creds = task.creds._replace(groups=tuple(sorted(struct.unpack(f"<{size}I", raw))))
    return 0


# ---- capabilities

_VERSIONS = {0x19980330: 1, 0x20071026: 2, 0x20080522: 2}
_CURRENT = 0x20080522
_HEADER = struct.Struct("<Ii")


def _cap_header(task: Task, hdrp: int, datap: int) -> tuple[int, int]:
    """(32-bit words per set, pid) of a capability header; raises EINVAL after writing the version to use."""
    version, pid = _HEADER.unpack(task.mm.read(hdrp, _HEADER.size))
    words = _VERSIONS.get(version)
    if words is None:
        task.mm.write_u32(hdrp, _CURRENT)
        if datap:
            raise EINVAL
        return 0, 0
    if pid < 0:
        raise EINVAL
    return words, pid


@syscall("capget")
def sys_capget(task: Task, hdrp: UserPtr, datap: UserPtr) -> int:
    """capget(2): the capability sets of a thread; pid 1, the kernel's own, has all."""
    words, pid = _cap_header(task, hdrp, datap)
    target = task.kernel.tasks.get(pid) if pid else task
    if target is None and pid != task.kernel.init.pid:
        raise ESRCH
    if not words or not datap:
        return 0
    creds = target.creds if target is not None else Credentials.of_user(0, 0)
    sets = (creds.effective, creds.permitted, creds.inheritable)
    raw = [each >> 32 * word & MASK32 for word in range(words) for each in sets]
    task.mm.write(datap, struct.pack(f"<{len(raw)}I", *raw))
    return 0


@syscall("capset")
def sys_capset(task: Task, hdrp: UserPtr, datap: UserPtr) -> int:
    """capset(2): set the capability sets of the calling thread."""
    words, pid = _cap_header(task, hdrp, datap)
    if pid and pid != task.tid:
        raise EPERM
    if not words:
        return 0
    raw = struct.unpack(f"<{3 * words}I", task.mm.read(datap, 12 * words))
    effective, permitted, inheritable = (
        sum(raw[3 * word + each] << 32 * word for word in range(words)) & ALL_CAPS for each in range(3)
    )
    creds = task.creds
    if permitted & ~creds.permitted or effective & ~permitted:
        raise EPERM
    added = inheritable & ~creds.inheritable
    if added & ~creds.bounding or (added & ~creds.permitted and not creds.has_cap(CAP_SETPCAP)):
        raise EPERM
    task.creds = creds._replace(
        effective=effective, permitted=permitted, inheritable=inheritable, ambient=creds.ambient & permitted & inheritable
    )
    return 0


