/* cc: -static
 * Every system call number with hostile values in every argument; only calls that would stop this program are left out. */
#include "../../conformance/check.h"

static uint64_t state;

static uint64_t next(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static char *page, *readonly, *hole;

static uint64_t value(void)
{
    switch (next() % 20) {
    case 0: return 0;
    case 1: return ~0ull;
    case 2: return (uint64_t)(hole - 1);
    case 3: return (uint64_t)hole;
    case 4: return (uint64_t)readonly;
    case 5: return 0xffffffff81000000;
    case 6: return 0x7fffffffeff8;
    case 7: return 0x7ffffffff000;
    case 8: return 0x8000000000000000;
    case 9: return 1ull << (next() % 64);
    case 10: return next();
    case 11: return next() % 16;
    case 12: return (uint64_t)(page + next() % 4096);
    case 13: return 0x7fff00000000 + (next() & 0xffff000);
    case 14: return (uint64_t)(hole - next() % 64);
    case 15: return 0xffffffff;
    case 16: return 0x7fffffff;
    case 17: return (uint64_t)-(int64_t)(next() % 4096);
    default: return (uint64_t)page;
    }
}

static bool left_out(long number)
{
    static const int list[] = {
        SYS_exit, SYS_exit_group, SYS_rt_sigreturn, SYS_pause, SYS_kill, SYS_tkill, SYS_tgkill, SYS_fork, SYS_vfork,
        SYS_clone, SYS_clone3, SYS_execve, SYS_execveat, SYS_rt_sigsuspend, SYS_munmap, SYS_mremap, SYS_mmap, SYS_brk,
        SYS_mprotect, SYS_alarm, SYS_setitimer, SYS_arch_prctl, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_reboot,
        SYS_timer_create, SYS_pidfd_send_signal, SYS_rt_sigtimedwait, SYS_close, SYS_dup2, SYS_dup3, SYS_close_range,
        SYS_shmat, SYS_remap_file_pages, SYS_rt_sigaction, SYS_prlimit64, SYS_setrlimit, SYS_madvise, SYS_pkey_mprotect,
        SYS_set_robust_list, SYS_set_tid_address, SYS_rseq, SYS_unlink, SYS_rmdir, SYS_swapoff, SYS_ptrace, SYS_seccomp,
        SYS_prctl, SYS_wait4, SYS_waitid, SYS_uselib, SYS_chroot, SYS_pivot_root, SYS_write, SYS_writev, SYS_vhangup,
        SYS_pwritev2, SYS_sendfile, SYS_splice, SYS_fcntl, SYS_process_madvise, SYS_msync, SYS_fadvise64, SYS_munlockall,
    };
    for (unsigned i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i] == number)
            return true;
    return false;
}

static void on_alarm(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info, (void)context;
}

int main(int argc, char **argv)
{
    state = 88172645463325252ull + (argc > 1 ? strtoull(argv[1], NULL, 10) : 1);
    page = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    readonly = page + PAGE, hole = page + 2 * PAGE;
    mprotect(readonly, PAGE, PROT_READ);
    munmap(hole, PAGE);
    chdir("/tmp");
    catch_with(SIGALRM, on_alarm, 0);
    catch_with(SIGSYS, on_alarm, 0);
    signal(SIGPIPE, SIG_IGN), signal(SIGXFSZ, SIG_IGN);
    timer_t timer; /* whatever blocks is interrupted, again and again */
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    struct itimerspec often = {{0, 20000000}, {0, 20000000}};
    timer_settime(timer, 0, &often, NULL);
    int turns = argc > 2 ? atoi(argv[2]) : 8;
    pid_t pid = getpid();
    for (int turn = 0; turn < turns; turn++)
        for (long number = 0; number < 460; number++)
            if (!left_out(number) && !(number >= 222 && number <= 226) && !(number >= 335 && number <= 423)) {
                syscall(number, value(), value(), value(), value(), value(), value());
                if (number == SYS_dup)
                    syscall(SYS_close_range, 3, ~0u, 0);
            }
    bool good = syscall(SYS_getpid) == pid;
    _exit(good ? 42 : 1);
}
