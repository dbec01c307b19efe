"""SigInfo: what a signal says, and its 128 bytes in user memory.

Which union member of siginfo_t is meant follows from the signal and its code, as `siginfo_layout` of the kernel
has it: positive codes below SI_KERNEL are per signal, all others mean the same for every signal.
"""

from __future__ import annotations

from trapline.typed import Any, NamedTuple

from trapline.abi import signal as s
from trapline.abi.signal import SI_KERNEL, SI_SIGIO, SI_TIMER, SI_USER

_FAULTS = frozenset((s.SIGILL, s.SIGFPE, s.SIGSEGV, s.SIGBUS, s.SIGTRAP))
KILL, TIMER, QUEUE, CHILD, FAULT, POLL, SYS = range(7)


class SigInfo(NamedTuple):
    """One signal. Fields that its kind does not have are ignored.

    `raw` is a whole siginfo_t that user code supplied (rt_sigqueueinfo(2)). `source`, when set, is told that the
    signal was taken from its queue: `source.taken(info)` returns what to deliver (timers re-arm there).
    """

    signo: int
    code: int = SI_KERNEL
    pid: int = 0  #: of the sender, or of the child
    uid: int = 0
    status: int = 0  #: of the child: exit code or signal
    value: int = 0  #: sigval of sigqueue(3), timers and message queues
    addr: int = 0  #: of faults and of SIGSYS
    utime: int = 0  #: of the child, in clock ticks
    stime: int = 0
    band: int = 0  #: poll events of SIGIO
    fd: int = 0
    tid: int = 0  #: timer id
    overrun: int = 0
    syscall: int = 0
    arch: int = 0
    errno: int = 0
    raw: bytes = b""
    source: Any = None

    def layout(self) -> int:
        """Which member of the union is meant: KILL, TIMER, ..."""
        code, signo = self.code, self.signo
        if SI_USER < code < SI_KERNEL:
            if signo in _FAULTS:
                return FAULT
            if signo == s.SIGCHLD or self.pid:  # a child may be told of by another signal, see clone(2)
                return CHILD
            if signo == s.SIGSYS:
                return SYS
            return POLL if signo == s.SIGIO or code <= s.POLL_HUP else KILL
        if code == SI_TIMER:
            return TIMER
        if code == SI_SIGIO:
            return POLL
        return QUEUE if code < 0 else KILL

    def pack(self) -> bytes:
        """The siginfo_t, 128 bytes."""
        if self.raw:
            return self.raw
        head = (self.signo, self.errno, self.code, 0)
        kind = self.layout()
        if kind == KILL:
            return s.SIGINFO_KILL.pack(*head, self.pid, self.uid)
        if kind == CHILD:
            return s.SIGINFO_CHILD.pack(*head, self.pid, self.uid, self.status, self.utime, self.stime)
        if kind == FAULT:
            return s.SIGINFO_FAULT.pack(*head, self.addr)
        if kind == QUEUE:
            return s.SIGINFO_QUEUE.pack(*head, self.pid, self.uid, self.value)
        if kind == TIMER:
            return s.SIGINFO_TIMER.pack(*head, self.tid, self.overrun, self.value)
        if kind == POLL:
            return s.SIGINFO_POLL.pack(*head, self.band, self.fd)
        return s.SIGINFO_SYS.pack(*head, self.addr, self.syscall, self.arch)


def from_user(raw: bytes, signo: int) -> SigInfo:
    """A siginfo_t from user memory, sent as `signo`; its fields as its own code has them."""
    raw = (signo & 0xFFFFFFFF).to_bytes(4, "little") + raw[4:]
    _, errno, code, _, pid, uid, value = s.SIGINFO_QUEUE.unpack(raw)
    info = SigInfo(signo, code, errno=errno, raw=raw)
    kind = info.layout()
    if kind in (KILL, QUEUE):
        return info._replace(pid=pid, uid=uid, value=value if kind == QUEUE else 0)
    if kind == TIMER:
        return info._replace(tid=pid, overrun=uid, value=value)
    if kind == CHILD:
        *_, status, utime, stime = s.SIGINFO_CHILD.unpack(raw)
        return info._replace(pid=pid, uid=uid, status=status, utime=utime, stime=stime)
    if kind == POLL:
        *_, band, fd = s.SIGINFO_POLL.unpack(raw)
        return info._replace(band=band, fd=fd)
    return info._replace(addr=s.SIGINFO_FAULT.unpack(raw)[4])
