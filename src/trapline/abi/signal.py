"""Signal numbers, action flags, siginfo codes and the structures of the signal calls, signal(7) and sigaction(2).

Sources: asm-generic/signal.h, asm-generic/siginfo.h, asm/ucontext.h and asm/sigcontext.h. The values are those of
x86-64 and riscv64, which agree except for SA_RESTORER and the frame.
"""

from struct import Struct

NSIG = 64
SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL = range(1, 10)
SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGSTKFLT, SIGCHLD, SIGCONT = range(10, 19)
SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF = range(19, 28)
SIGWINCH, SIGIO, SIGPWR, SIGSYS = range(28, 32)
SIGPOLL = SIGIO
SIGRTMIN, SIGRTMAX = 32, 64

NAMES: tuple[str, ...] = (
    "", "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
    "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP",
    "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR",
    "SIGSYS", "SIGRTMIN", *(f"SIGRT_{n}" for n in range(1, 33)),
)  # fmt: skip

SIG_DFL, SIG_IGN = 0, 1

# sigaction flags
SA_NOCLDSTOP = 0x00000001
SA_NOCLDWAIT = 0x00000002
SA_SIGINFO = 0x00000004
SA_UNSUPPORTED = 0x00000400
SA_EXPOSE_TAGBITS = 0x00000800
SA_RESTORER = 0x04000000
SA_ONSTACK = 0x08000000
SA_RESTART = 0x10000000
SA_NODEFER = 0x40000000
SA_RESETHAND = 0x80000000
#: the flags the kernel knows; all others read back as zero
UAPI_SA_FLAGS = (
    SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_EXPOSE_TAGBITS | SA_RESTORER | SA_ONSTACK | SA_RESTART
    | SA_NODEFER | SA_RESETHAND
)  # fmt: skip

# rt_sigprocmask
SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2
SIGSET_SIZE = 8

# sigaltstack
SS_ONSTACK, SS_DISABLE = 1, 2
SS_AUTODISARM = 1 << 31
MINSIGSTKSZ = 2048

# siginfo codes any signal may have
SI_USER, SI_KERNEL, SI_QUEUE, SI_TIMER, SI_MESGQ, SI_ASYNCIO, SI_SIGIO, SI_TKILL = 0, 0x80, -1, -2, -3, -4, -5, -6
SI_DETHREAD, SI_ASYNCNL = -7, -60
# per signal
ILL_ILLOPC, ILL_ILLOPN, ILL_ILLADR, ILL_ILLTRP, ILL_PRVOPC, ILL_PRVREG, ILL_COPROC, ILL_BADSTK = range(1, 9)
FPE_INTDIV, FPE_INTOVF, FPE_FLTDIV, FPE_FLTOVF, FPE_FLTUND, FPE_FLTRES, FPE_FLTINV, FPE_FLTSUB = range(1, 9)
SEGV_MAPERR, SEGV_ACCERR, SEGV_BNDERR, SEGV_PKUERR = 1, 2, 3, 4
BUS_ADRALN, BUS_ADRERR, BUS_OBJERR = 1, 2, 3
TRAP_BRKPT, TRAP_TRACE, TRAP_BRANCH, TRAP_HWBKPT = 1, 2, 3, 4
CLD_EXITED, CLD_KILLED, CLD_DUMPED, CLD_TRAPPED, CLD_STOPPED, CLD_CONTINUED = 1, 2, 3, 4, 5, 6
POLL_IN, POLL_OUT, POLL_MSG, POLL_ERR, POLL_PRI, POLL_HUP = 1, 2, 3, 4, 5, 6
SYS_SECCOMP, SYS_USER_DISPATCH = 1, 2

# sigevent (timer_create(2))
SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID = 0, 1, 2, 4


def bit(signo: int) -> int:
    """The bit of a signal in a set."""
    return 1 << (signo - 1)


def mask_of(*signals: int) -> int:
    """The set of `signals`."""
    mask = 0
    for signo in signals:
        mask |= 1 << (signo - 1)
    return mask


#: cannot be caught, blocked or ignored
UNBLOCKABLE = mask_of(SIGKILL, SIGSTOP)
STOP_SIGNALS = mask_of(SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU)
DEFAULT_IGNORED = mask_of(SIGCONT, SIGCHLD, SIGWINCH, SIGURG)
#: raised by the running code itself: delivered before anything else
SYNCHRONOUS = mask_of(SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS)
#: end the process, and would leave a core dump
CORE_SIGNALS = mask_of(
    SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS, SIGSYS, SIGXCPU, SIGXFSZ
)  # fmt: skip

#: struct sigaction of rt_sigaction(2): handler, flags, restorer, mask
SIGACTION = Struct("<QQQQ")
#: the same where there is no restorer
SIGACTION_GENERIC = Struct("<QQQ")
#: stack_t: sp, flags, padding, size
STACK_T = Struct("<QIiQ")
#: struct sigevent: value, signo, notify, thread id; 64 bytes
SIGEVENT = Struct("<Qiii44x")

SIGINFO_SIZE = 128
# siginfo_t: signo, errno, code, padding, then one of these
SIGINFO_KILL = Struct("<iiiiiI104x")  #: pid, uid
SIGINFO_TIMER = Struct("<iiiiiiQ96x")  #: timer id, overrun, value
SIGINFO_QUEUE = Struct("<iiiiiIQ96x")  #: pid, uid, value
SIGINFO_CHILD = Struct("<iiiiiIi4xqq80x")  #: pid, uid, status, utime, stime
SIGINFO_FAULT = Struct("<iiiiQ104x")  #: address
SIGINFO_POLL = Struct("<iiiiqi100x")  #: band, fd
SIGINFO_SYS = Struct("<iiiiQiI96x")  #: address, system call, architecture

# x86-64 frames (asm/ucontext.h)
UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS = 1, 2, 4
FP_XSTATE_MAGIC1 = 0x46505853
FP_XSTATE_MAGIC2 = 0x46505845
