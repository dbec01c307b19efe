/* cc: -static
 * wait4(2), waitid(2): options, siginfo, stop and continue, SIGCHLD, ignoring children, rusage. */
#include "../check.h"
#include <sys/resource.h>

static int status;
static siginfo_t info;
static volatile sig_atomic_t caught, caught_code, caught_status;

static void by_waitid(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(33);
    CHECK_EQ("WNOWAIT leaves it", waitid(P_PID, pid, &info, WEXITED | WNOWAIT), 0);
    CHECK("siginfo", info.si_pid == pid && info.si_signo == SIGCHLD && info.si_code == CLD_EXITED && info.si_status == 33 &&
                         info.si_uid == getuid());
    CHECK_EQ("still there", waitid(P_ALL, 0, &info, WEXITED), 0);
    CHECK_ERRNO("now gone", waitid(P_PID, pid, &info, WEXITED), ECHILD);
    CHECK_ERRNO("no event asked for", waitid(P_ALL, 0, &info, 0), EINVAL);
    CHECK_ERRNO("bad option", waitid(P_ALL, 0, &info, WEXITED | 0x100), EINVAL);
    pid = sleeper();
    info.si_pid = 5;
    CHECK("WNOHANG with nothing", waitid(P_PID, pid, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0);
    kill(pid, SIGKILL);
    CHECK("killed", waitid(P_PID, pid, &info, WEXITED) == 0 && info.si_code == CLD_KILLED && info.si_status == SIGKILL);
}

static void stops(void)
{
    pid_t pid = sleeper();
    CHECK_EQ("WNOHANG", waitpid(pid, &status, WNOHANG), 0);
    kill(pid, SIGSTOP);
    CHECK("WUNTRACED", waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK_EQ("state in /proc", task_state(pid), 'T');
    CHECK_EQ("reported once", waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
    kill(pid, SIGCONT);
    CHECK("WCONTINUED", waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status));
    setpgid(pid, pid); /* else its group may be an orphaned one, which SIGTSTP does not stop */
    kill(pid, SIGTSTP);
    CHECK("waitid WSTOPPED", waitid(P_PID, pid, &info, WSTOPPED) == 0 && info.si_code == CLD_STOPPED && info.si_status == SIGTSTP);
    kill(pid, SIGTERM);
    CHECK_EQ("a stopped process does not die of SIGTERM", waitpid(pid, &status, WNOHANG), 0);
    kill(pid, SIGCONT);
    CHECK("until it continues", waitpid(pid, &status, 0) == pid && killed(status, SIGTERM));
    pid = sleeper();
    kill(pid, SIGSTOP), waitpid(pid, &status, WUNTRACED), kill(pid, SIGKILL);
    CHECK("SIGKILL kills a stopped one", waitpid(pid, &status, 0) == pid && killed(status, SIGKILL));
}

static void on_child(int signo, siginfo_t *child, void *context)
{
    (void)signo, (void)context;
    caught++, caught_code = child->si_code, caught_status = child->si_status;
}

static void sigchld(void)
{
    catch_with(SIGCHLD, on_child, SA_RESTART);
    pid_t pid = fork();
    if (pid == 0)
        _exit(4);
    waitpid(pid, &status, 0);
    CHECK("SIGCHLD says how", caught == 1 && caught_code == CLD_EXITED && caught_status == 4);
    pid = sleeper();
    kill(pid, SIGSTOP), waitpid(pid, &status, WUNTRACED);
    CHECK("of a stop", caught == 2 && caught_code == CLD_STOPPED);
    catch_with(SIGCHLD, on_child, SA_RESTART | SA_NOCLDSTOP);
    kill(pid, SIGCONT), waitpid(pid, &status, WCONTINUED);
    CHECK_EQ("not with SA_NOCLDSTOP", caught, 2);
    kill(pid, SIGKILL), waitpid(pid, &status, 0);
    CHECK_EQ("but of the end", caught, 3);
    signal(SIGCHLD, SIG_IGN);
    pid = fork();
    if (pid == 0)
        _exit(0);
    CHECK_ERRNO("ignored SIGCHLD: waits for the end, then ECHILD", waitpid(pid, &status, 0), ECHILD);
    sigset_t chld, pending;
    sigemptyset(&chld), sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, NULL);
    if (fork() == 0)
        _exit(0);
    while (wait(&status) > 0 || errno == EINTR)
        ;
    CHECK("nor is it sent where it is blocked", sigpending(&pending) == 0 && !sigismember(&pending, SIGCHLD));
    sigprocmask(SIG_UNBLOCK, &chld, NULL);
    catch_with(SIGCHLD, on_child, SA_NOCLDWAIT);
    if (fork() == 0)
        _exit(0);
    while (wait(&status) > 0 || errno == EINTR)
        ;
    CHECK_EQ("SA_NOCLDWAIT", errno, ECHILD);
    signal(SIGCHLD, SIG_DFL);
}

static void selection(void)
{
    pid_t a = fork();
    if (a == 0)
        _exit(1);
    pid_t b = fork();
    if (b == 0) {
        setpgid(0, 0);
        _exit(2);
    }
    waitid(P_PID, b, &info, WEXITED | WNOWAIT);
    CHECK("own group", waitpid(0, &status, 0) == a && exited(status, 1));
    CHECK("a given group", waitpid(-b, &status, 0) == b && exited(status, 2));
    CHECK_ERRNO("an empty group", waitpid(-b, &status, 0), ECHILD);
    CHECK_ERRNO("not a child", waitpid(1, &status, 0), ECHILD);
    CHECK_ERRNO("INT_MIN", waitpid(INT_MIN, &status, 0), ESRCH);
    CHECK_ERRNO("bad option", waitpid(-1, &status, 0x40), EINVAL);
    struct rusage used;
    pid_t pid = fork();
    if (pid == 0) {
        int64_t end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + 30000000;
        while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < end)
            ;
        _exit(0);
    }
    CHECK_EQ("wait4", wait4(pid, &status, 0, &used), pid);
    long us = used.ru_utime.tv_usec + used.ru_stime.tv_usec + 1000000 * (used.ru_utime.tv_sec + used.ru_stime.tv_sec);
    CHECK("its rusage", us >= 15000);
    getrusage(RUSAGE_CHILDREN, &used);
    CHECK("counts as the children's", used.ru_utime.tv_usec + used.ru_stime.tv_usec >= 15000);
}

int main(void)
{
    by_waitid();
    stops();
    sigchld();
    selection();
    return finish();
}
