/* cc: -static
 * pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2), CLONE_PIDFD, waitid(P_PIDFD), readiness; kcmp(2). */
#include "../check.h"
#include <linux/kcmp.h>
#include <sys/epoll.h>

static int status;
static siginfo_t info;
static volatile sig_atomic_t caught, caught_value, caught_code;

static int pidfd_open(pid_t pid, unsigned flags)
{
    return (int)syscall(SYS_pidfd_open, pid, flags);
}

static int send_signal(int pidfd, int signo, siginfo_t *what)
{
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signo, what, 0);
}

static void opening(void)
{
    pid_t pid = sleeper();
    int fd = pidfd_open(pid, 0);
    CHECK("open", fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
    CHECK_ERRNO("unknown flag", pidfd_open(pid, 1), EINVAL);
    CHECK_ERRNO("process 0", pidfd_open(0, 0), EINVAL);
    CHECK_ERRNO("a negative process", pidfd_open(-1, 0), EINVAL);
    CHECK_ERRNO("nobody", pidfd_open(0x3fffffff, 0), ESRCH);
    char byte;
    CHECK_ERRNO("it cannot be read", read(fd, &byte, 1), EINVAL);
    CHECK_ERRNO("nor written", write(fd, &byte, 1), EINVAL);
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    int out = open(path, O_RDONLY);
    ssize_t length = read(out, text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    char *line = strstr(text, "Pid:\t");
    CHECK("fdinfo says who", line && atoi(line + 5) == pid);
    close(out);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    length = readlink(path, text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    CHECK("its link", strcmp(text, "anon_inode:[pidfd]") == 0 || strncmp(text, "pidfd:", 6) == 0);
    struct pollfd ready = {fd, POLLIN, 0};
    CHECK_EQ("not ready while it lives", poll(&ready, 1, 0), 0);
    CHECK_EQ("signalled", send_signal(fd, SIGKILL, NULL), 0);
    CHECK("ready when it ends", poll(&ready, 1, 5000) == 1 && (ready.revents & POLLIN));
    CHECK_EQ("a zombie may still be signalled", send_signal(fd, SIGTERM, NULL), 0);
    CHECK("and opened", ({ int again = pidfd_open(pid, 0); again >= 0 && close(again) == 0; }));
    CHECK("waited for", waitid(P_PIDFD, fd, &info, WEXITED) == 0 && info.si_pid == pid && info.si_code == CLD_KILLED);
    CHECK("ready for ever", poll(&ready, 1, 0) == 1 && (ready.revents & POLLIN));
    CHECK_ERRNO("not signalled any more", send_signal(fd, 0, NULL), ESRCH);
    CHECK_ERRNO("nor waited for", waitid(P_PIDFD, fd, &info, WEXITED), ECHILD);
    close(fd);
}

static void waiting(void)
{
    pid_t pid = sleeper();
    int fd = pidfd_open(pid, O_NONBLOCK);
    CHECK("PIDFD_NONBLOCK", fd >= 0 && (fcntl(fd, F_GETFL) & O_NONBLOCK));
    CHECK_ERRNO("waitid does not wait", waitid(P_PIDFD, fd, &info, WEXITED), EAGAIN);
    CHECK_ERRNO("a descriptor that is no pidfd", waitid(P_PIDFD, 1, &info, WEXITED), EBADF);
    CHECK_ERRNO("a closed one", waitid(P_PIDFD, 999, &info, WEXITED), EBADF);
    CHECK_ERRNO("a negative one", waitid(P_PIDFD, -1, &info, WEXITED), EINVAL);
    int self = pidfd_open(getpid(), 0);
    CHECK_ERRNO("not a child", waitid(P_PIDFD, self, &info, WEXITED), ECHILD);
    close(self);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77};
    CHECK_EQ("epoll takes it", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
    CHECK_EQ("nothing yet", epoll_wait(epoll, &event, 1, 0), 0);
    kill(pid, SIGUSR1);
    CHECK("then its end", epoll_wait(epoll, &event, 1, 5000) == 1 && event.data.u64 == 77 && (event.events & EPOLLIN));
    CHECK("waited for", waitid(P_PIDFD, fd, &info, WEXITED) == 0 && info.si_status == SIGUSR1);
    close(fd), close(epoll);
}

static void handler(int signo, siginfo_t *what, void *context)
{
    (void)signo, (void)context;
    caught++, caught_code = what->si_code, caught_value = what->si_value.sival_int;
}

static void signals(void)
{
    catch_with(SIGUSR1, handler, 0);
    int self = pidfd_open(getpid(), 0);
    CHECK("to itself", send_signal(self, SIGUSR1, NULL) == 0 && caught == 1 && caught_code == SI_USER);
    siginfo_t with = {.si_signo = SIGUSR1, .si_code = SI_QUEUE, .si_value.sival_int = 4711};
    CHECK("with data", send_signal(self, SIGUSR1, &with) == 0 && caught == 2 && caught_value == 4711);
    CHECK_ERRNO("another si_signo", send_signal(self, SIGUSR2, &with), EINVAL);
    CHECK_ERRNO("bad signal", send_signal(self, 65, NULL), EINVAL);
    CHECK_ERRNO("bad pointer", send_signal(self, SIGUSR1, (siginfo_t *)8), EFAULT);
    CHECK_ERRNO("unknown flag", syscall(SYS_pidfd_send_signal, self, 0, NULL, 0x100), EINVAL);
    CHECK_ERRNO("not a pidfd", send_signal(1, 0, NULL), EBADF);
    int directory = open("/proc/self", O_RDONLY | O_DIRECTORY);
    CHECK_EQ("a directory of /proc will do", send_signal(directory, 0, NULL), 0);
    close(directory), close(self);
    pid_t pid = sleeper();
    int fd = pidfd_open(pid, 0);
    with.si_code = SI_USER;
    CHECK_ERRNO("the kernel's codes only to oneself", send_signal(fd, SIGUSR1, &with), EPERM);
    kill(pid, SIGKILL), waitpid(pid, &status, 0), close(fd);
}

static void descriptors(void)
{
    int pipes[2];
    char c = 0;
    pipe(pipes);
    pid_t pid = fork();
    if (pid == 0) {
        int secret = open("/dev/zero", O_RDONLY);
        dup2(secret, 50);
        write(pipes[1], "x", 1);
        for (;;)
            pause();
    }
    read(pipes[0], &c, 1);
    int fd = pidfd_open(pid, 0), got = (int)syscall(SYS_pidfd_getfd, fd, 50, 0);
    if (got < 0 && errno == EPERM && !IS_ROOT) {
        SKIP("pidfd_getfd", "a security module forbids it");
    } else {
        c = 1;
        CHECK("pidfd_getfd", got >= 0 && fcntl(got, F_GETFD) == FD_CLOEXEC && read(got, &c, 1) == 1 && c == 0);
        CHECK_EQ("it is the same open file", syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, got, 50), 0);
        CHECK_ERRNO("a descriptor it does not have", syscall(SYS_pidfd_getfd, fd, 51, 0), EBADF);
        CHECK_ERRNO("flags", syscall(SYS_pidfd_getfd, fd, 50, 1), EINVAL);
        CHECK_ERRNO("not a pidfd", syscall(SYS_pidfd_getfd, 1, 50, 0), EBADF);
    }
    kill(pid, SIGKILL), waitpid(pid, &status, 0);
    CHECK_ERRNO("of a process that is gone", syscall(SYS_pidfd_getfd, fd, 50, 0), ESRCH);
    close(got), close(fd), close(pipes[0]), close(pipes[1]);
}

static long kcmp(pid_t a, pid_t b, int type, unsigned long first, unsigned long second)
{
    return syscall(SYS_kcmp, a, b, type, first, second);
}

static int idle(void *arg)
{
    (void)arg;
    for (;;)
        pause();
    return 0;
}

static void comparing(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    pid_t me = getpid(), child = sleeper();
    CHECK_EQ("memory of itself", kcmp(me, me, KCMP_VM, 0, 0), 0);
    long first = kcmp(me, child, KCMP_VM, 0, 0), second = kcmp(child, me, KCMP_VM, 0, 0);
    CHECK("memory of another, in an order", first + second == 3 && (first == 1 || first == 2));
    CHECK("descriptor tables differ", kcmp(me, child, KCMP_FILES, 0, 0) > 0);
    CHECK("file-system contexts differ", kcmp(me, child, KCMP_FS, 0, 0) > 0);
    CHECK("signal tables differ", kcmp(me, child, KCMP_SIGHAND, 0, 0) > 0);
    CHECK_EQ("inherited descriptors are the same", kcmp(me, child, KCMP_FILE, 1, 1), 0);
    CHECK_ERRNO("a closed descriptor", kcmp(me, child, KCMP_FILE, 1, 999), EBADF);
    CHECK_ERRNO("a type that is not", kcmp(me, me, 99, 0, 0), EINVAL);
    CHECK_ERRNO("nobody", kcmp(me, 0x3fffffff, KCMP_VM, 0, 0), ESRCH);
    pid_t shares = clone(idle, stack + sizeof stack, CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND | SIGCHLD, NULL);
    CHECK("a clone shares what it was told to", kcmp(me, shares, KCMP_VM, 0, 0) == 0 && kcmp(me, shares, KCMP_FILES, 0, 0) == 0 &&
                                                    kcmp(me, shares, KCMP_FS, 0, 0) == 0 && kcmp(me, shares, KCMP_SIGHAND, 0, 0) == 0);
    kill(shares, SIGKILL), waitpid(shares, &status, 0);
    int epoll = epoll_create1(0), pipes[2];
    struct epoll_event event = {.events = EPOLLIN};
    pipe(pipes);
    epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &event);
    struct kcmp_epoll_slot slot = {(unsigned)epoll, (unsigned)pipes[0], 0};
    CHECK_EQ("what an epoll watches", kcmp(me, me, KCMP_EPOLL_TFD, (unsigned long)pipes[0], (unsigned long)&slot), 0);
    slot.toff = 1;
    CHECK_ERRNO("and what it does not", kcmp(me, me, KCMP_EPOLL_TFD, (unsigned long)pipes[0], (unsigned long)&slot), ENOENT);
    kill(child, SIGKILL), waitpid(child, &status, 0);
}

static void foreign(void)
{
    pid_t parent = getppid();
    int fd = pidfd_open(parent, 0);
    setgid(4321), setuid(4321);
    CHECK_ERRNO("somebody else's memory", kcmp(getpid(), parent, KCMP_VM, 0, 0), EPERM);
    CHECK_ERRNO("somebody else's descriptor", syscall(SYS_pidfd_getfd, fd, 1, 0), EPERM);
    CHECK_ERRNO("a signal to somebody else", send_signal(fd, 0, NULL), EPERM);
}

int main(void)
{
    opening();
    waiting();
    signals();
    descriptors();
    comparing();
    if (IS_ROOT)
        CHECK("as another user", exited(in_child(foreign), 0));
    return finish();
}
