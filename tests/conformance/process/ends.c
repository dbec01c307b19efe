/* cc: -static -pthread
 * How tasks end: whom their children belong to then, exit signals, __WNOTHREAD, CLONE_PARENT, rusage of children. */
#include "../check.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static char stack[65536] __attribute__((aligned(16)));
static int status, pipes[2];
static char c;

static void *makes_child(void *arg)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (arg)
            prctl(PR_SET_PDEATHSIG, SIGUSR1);
        write(pipes[1], "x", 1);
        for (;;)
            pause();
    }
    read(pipes[0], &c, 1);
    return (void *)(long)pid;
}

static void of_threads(void)
{
    pthread_t thread;
    void *pid;
    pipe(pipes);
    pthread_create(&thread, NULL, makes_child, NULL);
    pthread_join(thread, &pid);
    CHECK("another thread's child may be waited for", waitpid((pid_t)(long)pid, &status, WNOHANG) == 0);
    kill((pid_t)(long)pid, SIGKILL);
    CHECK("it is this thread's now", waitpid((pid_t)(long)pid, &status, __WNOTHREAD) == (pid_t)(long)pid && killed(status, SIGKILL));
    pthread_create(&thread, NULL, makes_child, (void *)1);
    pthread_join(thread, &pid);
    CHECK("PR_SET_PDEATHSIG: the parent is the thread", waitpid((pid_t)(long)pid, &status, 0) == (pid_t)(long)pid && killed(status, SIGUSR1));
}

static void *waits_for(void *pid)
{
    errno = 0;
    long got = waitpid((pid_t)(long)pid, &status, WNOHANG | __WNOTHREAD);
    return (void *)(long)(got == -1 ? -errno : got);
}

static void not_of_thread(void)
{
    pthread_t thread;
    void *result, *pid = makes_child(NULL);
    pthread_create(&thread, NULL, waits_for, pid);
    pthread_join(thread, &result);
    CHECK_EQ("__WNOTHREAD in another thread", (long)result, -ECHILD);
    kill((pid_t)(long)pid, SIGKILL), waitpid((pid_t)(long)pid, &status, 0);
}

static int exits_at_once(void *arg)
{
    (void)arg;
    return 3;
}

static int makes_sibling(void *arg)
{
    static char other[65536] __attribute__((aligned(16)));
    pid_t pid = clone(exits_at_once, other + sizeof other, CLONE_PARENT | SIGUSR2, arg);
    write(pipes[1], &pid, sizeof pid);
    return waitpid(pid, NULL, 0) == -1 && errno == ECHILD ? 0 : 1;
}

static void siblings(void)
{
    pid_t sibling;
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR2), sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t child = clone(makes_sibling, stack + sizeof stack, SIGCHLD, NULL);
    read(pipes[0], &sibling, sizeof sibling);
    CHECK("CLONE_PARENT: not the cloner's child", waitpid(child, &status, 0) == child && exited(status, 0));
    CHECK("but its parent's", waitpid(sibling, &status, 0) == sibling && exited(status, 3));
    sigpending(&set);
    CHECK("with the cloner's own exit signal", !sigismember(&set, SIGUSR2));
}

static void adopted(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t child = fork();
    if (child == 0) {
        clone(exits_at_once, stack + sizeof stack, SIGUSR1, NULL);
        sleep_ms(20);
        _exit(0);
    }
    waitpid(child, &status, 0);
    CHECK("an orphan counts as an ordinary child", wait(&status) > 0 && exited(status, 3));
    CHECK_ERRNO("no more", wait(&status), ECHILD);
}

static void odd_signals(void)
{
    struct rlimit none = {0, 0};
    CHECK_EQ("a number that is no signal", ({
                 pid_t pid = (pid_t)syscall(SYS_clone, 100, 0, 0, 0, 0);
                 if (pid == 0)
                     _exit(6);
                 waitpid(pid, &status, __WALL) == pid && exited(status, 6);
             }), 1);
    setrlimit(RLIMIT_SIGPENDING, &none);
    pid_t pid = clone(exits_at_once, stack + sizeof stack, SIGRTMIN + 1, NULL);
    CHECK("an exit signal that cannot be queued is lost", waitpid(pid, &status, __WALL) == pid && exited(status, 3));
}

static void spend(void)
{
    int64_t end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + 40000000;
    while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < end)
        ;
}

static long children_us(void)
{
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    return used.ru_utime.tv_usec + used.ru_stime.tv_usec + 1000000 * (used.ru_utime.tv_sec + used.ru_stime.tv_sec);
}

static void usage(void)
{
    struct rusage used;
    signal(SIGCHLD, SIG_IGN);
    if (fork() == 0) {
        spend();
        _exit(0);
    }
    wait(NULL);
    CHECK("children nobody waits for do not count", children_us() < 20000);
    signal(SIGCHLD, SIG_DFL);
    pid_t pid = fork();
    if (pid == 0) {
        if (fork() == 0) {
            size_t size = 24 << 20;
            memset(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, size);
            spend();
            _exit(0);
        }
        wait(NULL);
        _exit(0);
    }
    CHECK("grandchildren do, once their parent is waited for", wait4(pid, &status, 0, &used) == pid && children_us() >= 20000);
    CHECK("in wait4's rusage, too", used.ru_utime.tv_usec + used.ru_stime.tv_usec >= 20000);
    getrusage(RUSAGE_CHILDREN, &used);
    CHECK("the largest of them", used.ru_maxrss >= 24 << 10);
}

static void *execs(void *arg)
{
    execl("/bin/true", "true", (char *)arg, NULL);
    return NULL;
}

static void many_exec(void)
{
    pthread_t thread;
    for (int i = 0; i < 4; i++)
        pthread_create(&thread, NULL, execs, NULL);
    for (;;)
        pause();
}

static void killed_while_forking(void)
{
    setpgid(0, 0);
    if (fork() == 0)
        for (;;)
            if (fork() == 0)
                _exit(0);
    sleep_ms(20);
    signal(SIGCHLD, SIG_IGN);
    kill(0, SIGKILL);
}

int main(void)
{
    of_threads();
    not_of_thread();
    siblings();
    CHECK("adopted", exited(in_child(adopted), 0));
    CHECK("odd exit signals", exited(in_child(odd_signals), 0));
    CHECK("usage", exited(in_child(usage), 0));
    for (int i = 0; i < 5 && has_shell(); i++) /* or there is no program to execute */
        if (!exited(in_child(many_exec), 0))
            CHECK("four threads execute a program", false);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    CHECK("a group that forks can be killed", killed(in_child(killed_while_forking), SIGKILL));
    while (wait(NULL) > 0)
        ;
    CHECK_EQ("and nobody is left", errno, ECHILD);
    return finish();
}
