/* cc: -static
 * clone(2), clone3(2): sharing flags, CLONE_PARENT_SETTID and friends, exit signals, errors, pidfd_open(2). */
#include "../check.h"
#include <linux/futex.h>
#include <linux/sched.h>

static char stack[65536] __attribute__((aligned(16)));
static int status, variable;
static volatile pid_t tid_slot;

static int change(void *arg)
{
    variable = 5;
    close((int)(long)arg);
    chdir("/");
    return 21;
}

static int sharing(int flags, const char *name, int want_variable, bool want_open)
{
    char text[64];
    variable = 0;
    int fd = open("/dev/null", O_RDONLY), here = open(".", O_RDONLY);
    pid_t pid = clone(change, stack + sizeof stack, flags | SIGCHLD, (void *)(long)fd);
    waitpid(pid, &status, 0);
    snprintf(text, sizeof text, "%s: status", name);
    CHECK(text, exited(status, 21));
    snprintf(text, sizeof text, "%s: memory", name);
    CHECK_EQ(text, variable, want_variable);
    snprintf(text, sizeof text, "%s: descriptors", name);
    CHECK_EQ(text, fcntl(fd, F_GETFD) == 0, want_open);
    snprintf(text, sizeof text, "%s: directory", name);
    char path[PATH_MAX];
    CHECK_EQ(text, strcmp(getcwd(path, sizeof path), "/") == 0, (flags & CLONE_FS) != 0);
    fchdir(here), close(here), close(fd);
    return 0;
}

static int leave(void *arg)
{
    (void)arg;
    return tid_slot == syscall(SYS_gettid) ? 0 : 1;
}

static void numbers(void)
{
    pid_t parent_slot = 0;
    tid_slot = 0;
    pid_t pid = clone(leave, stack + sizeof stack, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, NULL, &parent_slot,
                      NULL, &tid_slot);
    waitpid(pid, &status, 0);
    CHECK("CLONE_PARENT_SETTID", parent_slot == pid);
    CHECK("CLONE_CHILD_SETTID is in the child's memory", exited(status, 0) && tid_slot == 0);
    tid_slot = -1;
    pid = clone(leave, stack + sizeof stack, CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, NULL, NULL, NULL, &tid_slot);
    while (tid_slot != 0)
        syscall(SYS_futex, &tid_slot, FUTEX_WAIT, -1, NULL, NULL, 0);
    waitpid(pid, &status, 0);
    CHECK_EQ("CLONE_CHILD_CLEARTID clears and wakes", tid_slot, 0);
}

static int quit(void *arg)
{
    (void)arg;
    return 0;
}

static void signals_at_exit(void)
{
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t pid = clone(quit, stack + sizeof stack, SIGUSR1, NULL);
    siginfo_t info;
    CHECK("exit signal", sigwaitinfo(&set, &info) == SIGUSR1 && info.si_pid == pid && info.si_code == CLD_EXITED);
    CHECK_ERRNO("not waited for without __WALL or __WCLONE", waitpid(pid, &status, 0), ECHILD);
    CHECK_EQ("__WCLONE", waitpid(pid, &status, __WCLONE), pid);
    pid = clone(quit, stack + sizeof stack, 0, NULL);
    CHECK_EQ("no signal, __WALL", waitpid(pid, &status, __WALL), pid);
}

static long clone3(struct clone_args *args, size_t size)
{
    return syscall(SYS_clone3, args, size);
}

static void by_clone3(void)
{
    int pidfd = -1;
    struct clone_args args = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    pid_t pid = (pid_t)clone3(&args, sizeof args);
    if (pid == 0)
        _exit(12);
    siginfo_t info;
    CHECK("clone3 with CLONE_PIDFD", pid > 0 && pidfd >= 0 && fcntl(pidfd, F_GETFD) == FD_CLOEXEC);
    struct pollfd ready = {pidfd, POLLIN, 0};
    CHECK("poll tells the end", poll(&ready, 1, 5000) == 1 && (ready.revents & POLLIN));
    CHECK("waitid P_PIDFD", waitid(P_PIDFD, pidfd, &info, WEXITED) == 0 && info.si_status == 12);
    CHECK_ERRNO("signal to it", syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0), ESRCH);
    close(pidfd);
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    CHECK("pidfd_open", self >= 0 && syscall(SYS_pidfd_send_signal, self, 0, NULL, 0) == 0);
    CHECK_ERRNO("pidfd_open of nobody", syscall(SYS_pidfd_open, 0x3ffffff, 0), ESRCH);
    struct clone_args bad = {.flags = CLONE_SIGHAND, .exit_signal = SIGCHLD};
    CHECK_ERRNO("CLONE_SIGHAND needs CLONE_VM", clone3(&bad, sizeof bad), EINVAL);
    bad.flags = CLONE_THREAD | CLONE_VM;
    CHECK_ERRNO("CLONE_THREAD needs CLONE_SIGHAND", clone3(&bad, sizeof bad), EINVAL);
    bad.flags = 0, bad.exit_signal = 65;
    CHECK_ERRNO("exit signal out of range", clone3(&bad, sizeof bad), EINVAL);
    bad.exit_signal = SIGCHLD, bad.stack = (uintptr_t)stack;
    CHECK_ERRNO("stack without a size", clone3(&bad, sizeof bad), EINVAL);
    CHECK_ERRNO("structure too small", clone3(&bad, 32), EINVAL);
    CHECK_ERRNO("structure too big", clone3(&bad, 8192), E2BIG);
    CHECK_ERRNO("bad pointer", clone3((void *)16, sizeof bad), EFAULT);
    CHECK_ERRNO("CLONE_THREAD needs CLONE_SIGHAND", syscall(SYS_clone, CLONE_THREAD, stack + sizeof stack, 0, 0, 0), EINVAL);
    CHECK_ERRNO("CLONE_FS with CLONE_NEWNS", syscall(SYS_clone, CLONE_FS | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0), EINVAL);
}

static void by_number(void)
{
    pid_t wanted[2] = {29000, 1};
    while (kill(wanted[0], 0) == 0 || errno == EPERM)
        wanted[0]++;
    struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)wanted, .set_tid_size = 1};
    pid_t pid = IS_ROOT ? (pid_t)clone3(&args, sizeof args) : -1;
    if (pid == 0)
        _exit(getpid() == wanted[0] ? 0 : 1);
    if (IS_ROOT) {
        CHECK("set_tid", pid == wanted[0] && waitpid(pid, &status, 0) == pid && exited(status, 0));
        wanted[0] = getpid();
        CHECK_ERRNO("a number that is taken", clone3(&args, sizeof args), EEXIST);
    } else {
        CHECK_ERRNO("set_tid", clone3(&args, sizeof args), EPERM);
    }
    wanted[0] = 0;
    CHECK_ERRNO("number 0", clone3(&args, sizeof args), EINVAL);
    args.set_tid_size = 33;
    CHECK_ERRNO("more numbers than there are namespaces", clone3(&args, sizeof args), EINVAL);
    args.set_tid_size = 0;
    CHECK_ERRNO("numbers without a count", clone3(&args, sizeof args), EINVAL);
    args.set_tid = 8, args.set_tid_size = 1;
    CHECK_ERRNO("bad pointer", clone3(&args, sizeof args), EFAULT);
    args = (struct clone_args){.flags = CLONE_PIDFD, .pidfd = 8, .exit_signal = SIGCHLD};
    CHECK_ERRNO("nowhere to put the pidfd", clone3(&args, sizeof args), EFAULT);
    CHECK_ERRNO("leaves no child", waitpid(-1, &status, WNOHANG), ECHILD);
    args = (struct clone_args){.flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, .parent_tid = 8, .child_tid = 8, .exit_signal = SIGCHLD};
    pid = (pid_t)clone3(&args, sizeof args);
    if (pid == 0)
        _exit(8);
    CHECK("nowhere to put its number: born all the same", waitpid(pid, &status, 0) == pid && exited(status, 8));
}

int main(void)
{
    enter_scratch();
    sharing(0, "nothing shared", 0, true);
    sharing(CLONE_VM, "CLONE_VM", 5, true);
    sharing(CLONE_FILES, "CLONE_FILES", 0, false);
    sharing(CLONE_FS, "CLONE_FS", 0, true);
    sharing(CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND, "all", 5, false);
    numbers();
    signals_at_exit();
    by_clone3();
    by_number();
    return finish();
}
