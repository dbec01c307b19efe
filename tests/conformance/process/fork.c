/* cc: -static
 * fork(2), vfork(2): what is inherited, what is not; _exit(2), exit_group(2). */
#include "../check.h"
#include <sys/resource.h>
#include <sys/times.h>

static int variable = 1, status;

static void inherited(void)
{
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    char path[PATH_MAX], before[PATH_MAX];
    getcwd(before, sizeof before);
    signal(SIGUSR1, SIG_IGN);
    sigset_t set, seen;
    sigemptyset(&set), sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    umask(071);
    raise(SIGUSR2);
    alarm(100);
    int line[2];
    pipe(line);
    struct tms used;
    do
        times(&used);
    while (used.tms_utime + used.tms_stime < 30);
    clock_t spent = used.tms_utime + used.tms_stime;
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        check_failures = 0;
        char turn;
        read(line[0], &turn, 1); // whoever goes first after a fork, the parent has its say before
        CHECK("getppid", getppid() == parent);
        CHECK("a new process number", getpid() != parent);
        CHECK("gettid is getpid", syscall(SYS_gettid) == getpid());
        CHECK_EQ("descriptor flags", fcntl(fd, F_GETFD), FD_CLOEXEC);
        CHECK("current directory", getcwd(path, sizeof path) && strcmp(path, before) == 0);
        CHECK_EQ("umask", umask(022), 071);
        CHECK("dispositions", signal(SIGUSR1, SIG_DFL) == SIG_IGN);
        sigprocmask(SIG_BLOCK, NULL, &seen);
        CHECK("signal mask", sigismember(&seen, SIGUSR2));
        sigpending(&seen);
        CHECK("pending signals are not", !sigismember(&seen, SIGUSR2));
        CHECK_EQ("alarm is not", alarm(0), 0);
        times(&used);
        CHECK("times start again", used.tms_utime + used.tms_stime < spent);
        variable = 2;
        _exit(finish());
    }
    CHECK("the child's number", pid > 0 && pid != parent);
    write(line[1], "", 1);
    close(line[0]), close(line[1]);
    CHECK_EQ("wait for it", waitpid(pid, &status, 0), pid);
    CHECK("its checks", exited(status, 0));
    CHECK_EQ("memory is apart", variable, 1);
    CHECK("the alarm stays with the parent", alarm(0) > 90);
    umask(022);
}

static void shared_offset(void)
{
    int fd = new_file("f", "");
    pid_t pid = fork();
    if (pid == 0)
        _exit(write(fd, "child", 5) == 5 ? 0 : 1);
    waitpid(pid, &status, 0);
    CHECK_EQ("the offset is shared", lseek(fd, 0, SEEK_CUR), 5);
    close(fd);
}

static void codes(void)
{
    static const int values[] = {0, 1, 127, 255, 256, -1};
    static const int expected[] = {0, 1, 127, 255, 0, 255};
    bool good = true;
    for (int i = 0; i < 6; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(values[i]);
        waitpid(pid, &status, 0);
        good &= exited(status, expected[i]);
    }
    CHECK("low eight bits of the status", good);
}

static void by_vfork(void)
{
    volatile int shared = 0;
    pid_t pid = vfork();
    if (pid == 0) {
        shared = 5;
        _exit(3);
    }
    CHECK_EQ("vfork shares memory and runs first", shared, 5);
    waitpid(pid, &status, 0);
    CHECK("its status", exited(status, 3));
    pid = vfork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", "exit 7", NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    WITH_SHELL("vfork and exec", CHECK("vfork and exec", exited(status, 7)));
}

static void limit(void)
{
    if (IS_ROOT && (setgid(54321) || setuid(54321)))
        _exit(9);
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_NPROC, &none);
    CHECK_ERRNO("RLIMIT_NPROC", fork(), EAGAIN);
}

static void many(void)
{
    pid_t pids[60];
    for (int i = 0; i < 60; i++)
        if ((pids[i] = fork()) == 0)
            _exit(i);
    int sum = 0;
    for (int i = 59; i >= 0; i--) {
        waitpid(pids[i], &status, 0);
        sum += WEXITSTATUS(status) == i;
    }
    CHECK_EQ("sixty at once, reaped backwards", sum, 60);
    CHECK_ERRNO("none left", wait(&status), ECHILD);
}

int main(void)
{
    enter_scratch();
    inherited();
    shared_offset();
    codes();
    by_vfork();
    CHECK("limit", exited(in_child(limit), 0));
    many();
    return finish();
}
