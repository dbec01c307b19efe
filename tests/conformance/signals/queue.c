/* cc: -static
 * Masks and queues: sigprocmask(2), sigpending(2), order and counting, sigqueue(3), sigwaitinfo(2), siginfo. */
#include "../check.h"
#include <sys/resource.h>

static int order[64], values[64], codes[64], count;
static pid_t sender;
static uid_t sender_uid;

static void record(int signo, siginfo_t *info, void *context)
{
    (void)context;
    if (count < 64)
        order[count] = signo, values[count] = info->si_value.sival_int, codes[count] = info->si_code, count++;
    sender = info->si_pid, sender_uid = info->si_uid;
}

static sigset_t of(int a, int b, int c)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, a), sigaddset(&set, b), sigaddset(&set, c);
    return set;
}

static void masks(void)
{
    sigset_t set = of(SIGUSR1, SIGUSR2, SIGTERM), old, now;
    CHECK_EQ("block", sigprocmask(SIG_BLOCK, &set, &old), 0);
    CHECK("the old mask was empty", sigisemptyset(&old));
    set = of(SIGUSR2, SIGUSR2, SIGUSR2);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK("unblock one", sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2) && sigismember(&now, SIGTERM));
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK("SIGKILL and SIGSTOP stay out", !sigismember(&now, SIGKILL) && !sigismember(&now, SIGSTOP) && sigismember(&now, 33 + 1));
    CHECK_ERRNO("bad how", syscall(SYS_rt_sigprocmask, 7, &set, NULL, 8), EINVAL);
    CHECK_ERRNO("bad size", syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 16), EINVAL);
    CHECK_ERRNO("bad pointer", syscall(SYS_rt_sigprocmask, SIG_BLOCK, 8, NULL, 8), EFAULT);
    sigemptyset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    struct sigaction action = {.sa_handler = SIG_IGN}, seen;
    CHECK_ERRNO("sigaction of SIGKILL", sigaction(SIGKILL, &action, NULL), EINVAL);
    CHECK_EQ("asking about SIGKILL", sigaction(SIGKILL, NULL, &seen), 0);
    CHECK_ERRNO("signal 65", sigaction(65, &action, NULL), EINVAL);
}

static void pending(void)
{
    sigset_t set = of(SIGUSR1, SIGRTMIN, SIGRTMIN + 2), now;
    sigaddset(&set, SIGHUP);
    catch_with(SIGUSR1, record, 0), catch_with(SIGHUP, record, 0);
    catch_with(SIGRTMIN, record, 0), catch_with(SIGRTMIN + 2, record, 0);
    sigset_t all;
    sigfillset(&all);
    for (int s = 1; s < 64; s++) { /* handlers do not nest: each runs to its end */
        struct sigaction action;
        if (sigismember(&set, s) == 1 && sigaction(s, NULL, &action) == 0)
            action.sa_mask = all, sigaction(s, &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < 3; i++) {
        sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = 20 + i});
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 10 + i});
        kill(getpid(), SIGUSR1);
    }
    kill(getpid(), SIGHUP);
    sigpending(&now);
    CHECK("pending", sigismember(&now, SIGUSR1) && sigismember(&now, SIGHUP) && sigismember(&now, SIGRTMIN));
    CHECK_EQ("none delivered", count, 0);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    static const int want[] = {10, 11, 12, 20, 21, 22};
    bool good = count == 8;
    int rt = 0;
    for (int i = 0; i < count && rt < 6; i++)
        if (order[i] >= SIGRTMIN)
            good &= values[i] == want[rt++] && codes[i] == SI_QUEUE;
    CHECK("plain ones once, real-time ones each, lowest first", good && rt == 6);
    CHECK("plain before real-time", order[0] == SIGHUP && order[1] == SIGUSR1);
    CHECK("sender", sender == getpid() && sender_uid == getuid());
}

static void waits(void)
{
    sigset_t set = of(SIGUSR1, SIGUSR2, SIGRTMIN);
    siginfo_t info;
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGUSR2);
    CHECK("sigwaitinfo", sigwaitinfo(&set, &info) == SIGUSR2 && info.si_code == SI_USER && info.si_pid == getpid());
    syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1);
    CHECK("tgkill", syscall(SYS_rt_sigtimedwait, &set, &info, NULL, 8) == SIGUSR1 && info.si_code == SI_TKILL);
    struct timespec zero = {0, 0}, brief = {0, 1000000}, wrong = {0, 1000000000};
    CHECK_ERRNO("sigtimedwait with nothing", sigtimedwait(&set, &info, &zero), EAGAIN);
    CHECK_ERRNO("for a while", sigtimedwait(&set, &info, &brief), EAGAIN);
    CHECK_ERRNO("bad time", sigtimedwait(&set, &info, &wrong), EINVAL);
    pid_t pid = fork();
    if (pid == 0) {
        until_asleep(getppid());
        sigqueue(getppid(), SIGRTMIN, (union sigval){.sival_int = 5});
        _exit(0);
    }
    CHECK("wait for another process", sigwaitinfo(&set, &info) == SIGRTMIN && info.si_value.sival_int == 5 && info.si_pid == pid);
    waitpid(pid, NULL, 0);
    signal(SIGUSR1, SIG_IGN);
    kill(getpid(), SIGUSR1);
    sigset_t now;
    sigpending(&now);
    CHECK("ignored signals stay pending while blocked", sigismember(&now, SIGUSR1));
    signal(SIGUSR1, SIG_IGN);
    sigpending(&now);
    CHECK("but setting SIG_IGN discards them", !sigismember(&now, SIGUSR1));
    sigset_t chld = of(SIGCHLD, SIGCHLD, SIGCHLD);
    sigprocmask(SIG_UNBLOCK, &set, NULL), (void)chld;
    siginfo_t forged = {.si_code = SI_USER};
    CHECK_ERRNO("a forged si_code", syscall(SYS_rt_sigqueueinfo, getppid(), SIGUSR1, &forged), EPERM);
    CHECK_ERRNO("tgkill of no thread", syscall(SYS_tgkill, getpid(), 0x3ffffff, 0), ESRCH);
    CHECK_ERRNO("tgkill negative", syscall(SYS_tgkill, getpid(), -1, 0), EINVAL);
    struct rlimit few = {3, 3};
    setrlimit(RLIMIT_SIGPENDING, &few);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int sent = 0;
    while (sent < 10 && sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 1}) == 0)
        sent++;
    CHECK("RLIMIT_SIGPENDING", sent <= 3 && errno == EAGAIN);
}

int main(void)
{
    masks();
    pending();
    waits();
    return finish();
}
