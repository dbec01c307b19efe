/* cc: -static
 * setpgid(2), setsid(2), getsid(2), kill(2) of groups, orphans and subreapers, PR_SET_PDEATHSIG. */
#include "../check.h"
#include <sys/prctl.h>

static int status, ready[2];
static char c;

static void sessions(void)
{
    pid_t me = getpid();
    CHECK("new session", setsid() == me && getsid(0) == me && getpgid(0) == me && getpgrp() == me);
    CHECK_ERRNO("setsid as a group leader", setsid(), EPERM);
    CHECK_ERRNO("setpgid of a session leader", setpgid(0, 0), EPERM);
    CHECK("no controlling terminal", open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    CHECK("child is in the group", getpgid(child) == me && getsid(child) == me);
    CHECK("setpgid of a child", setpgid(child, child) == 0 && getpgid(child) == child);
    pid_t second = fork();
    if (second == 0)
        for (;;)
            pause();
    CHECK_EQ("join its group", setpgid(second, child), 0);
    CHECK_ERRNO("a group that is not", setpgid(second, 0x3fffffff), EPERM);
    CHECK_ERRNO("negative group", setpgid(second, -1), EINVAL);
    CHECK_ERRNO("not a child", setpgid(1, 0), ESRCH);
    CHECK_EQ("signal the group", kill(-child, SIGTERM), 0);
    CHECK("first", waitpid(child, &status, 0) == child && killed(status, SIGTERM));
    CHECK("second", waitpid(second, &status, 0) == second && killed(status, SIGTERM));
    CHECK_ERRNO("the group is empty", kill(-child, 0), ESRCH);
    CHECK_ERRNO("nobody", kill(0x3fffffff, 0), ESRCH);
    CHECK_ERRNO("bad signal", kill(me, 65), EINVAL);
    CHECK_EQ("signal 0", kill(me, 0), 0);
    CHECK_ERRNO("getpgid of nobody", getpgid(0x3fffffff), ESRCH);
    pipe2(ready, O_CLOEXEC);
    pid_t execed = fork();
    if (execed == 0) {
        execl("/bin/sleep", "sleep", "100", NULL);
        _exit(127);
    }
    close(ready[1]);
    read(ready[0], &c, 1); /* the end: its descriptor went with execve(2) */
    close(ready[0]);
    WITH_SHELL("not after it ran a program", CHECK_ERRNO("not after it ran a program", setpgid(execed, execed), EACCES));
    kill(execed, SIGKILL), waitpid(execed, &status, 0);
    if (fork() == 0) {
        pid_t leader = fork();
        if (leader == 0)
            setsid(), sleep_ms(5000);
        while (getsid(leader) != leader)
            sleep_ms(1);
        bool good = setpgid(leader, 0) == -1 && errno == EPERM;
        kill(leader, SIGKILL);
        _exit(good ? 0 : 1);
    }
    CHECK("a child that leads a session", wait(&status) > 0 && exited(status, 0));
}

static void orphan(void)
{
    pipe(ready);
    CHECK_EQ("subreaper", prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    pid_t child = fork();
    if (child == 0) {
        pid_t grandchild = fork();
        if (grandchild == 0) {
            pid_t parent = getppid();
            write(ready[1], "x", 1);
            while (getppid() == parent)
                sleep_ms(1);
            _exit(getppid() == getpgrp() ? 44 : 45);
        }
        read(ready[0], &c, 1);
        _exit(0);
    }
    waitpid(child, &status, 0);
    pid_t pid = wait(&status);
    CHECK("an orphan comes to the subreaper", pid > 0 && pid != child && exited(status, 44));
}

static void parent_death(void)
{
    int pipes[2];
    pipe(pipes), pipe(ready);
    pid_t child = fork();
    if (child == 0) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGUSR1);
            signal(SIGUSR1, SIG_DFL);
            write(ready[1], "x", 1);
            close(pipes[0]);
            sleep_ms(5000);
            write(pipes[1], "alive", 5);
            _exit(0);
        }
        read(ready[0], &c, 1);
        _exit(0);
    }
    close(pipes[1]);
    waitpid(child, &status, 0);
    CHECK_EQ("the grandchild died with its parent", read(pipes[0], &c, 1), 0);
    CHECK("of that signal", wait(&status) > 0 && killed(status, SIGUSR1));
}

static void orphaned_stop(void)
{
    pipe(ready);
    pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork() == 0) {
            setpgid(0, 0);
            signal(SIGHUP, SIG_DFL);
            write(ready[1], "x", 1);
            raise(SIGSTOP);
            _exit(0);
        }
        read(ready[0], &c, 1);
        sleep_ms(30);
        _exit(0);
    }
    waitpid(child, &status, 0);
    CHECK("a stopped, newly orphaned group gets SIGHUP", wait(&status) > 0 && killed(status, SIGHUP));
}

static void run(void)
{
    sessions();
    orphan();
    parent_death();
    orphaned_stop();
}

int main(void)
{
    CHECK("in a session of its own", exited(in_child(run), 0));
    return finish();
}
