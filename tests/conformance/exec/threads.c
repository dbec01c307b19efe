/* cc: -static -pthread
 * execve(2) and exit_group(2) from a thread of many: one process is left, with the leader's number. */
#include "../check.h"
#include <pthread.h>

static char self[PATH_MAX];

static void *spin(void *arg)
{
    (void)arg;
    for (volatile long n = 0;; n++)
        ;
    return NULL;
}

static void *sleeps(void *arg)
{
    (void)arg;
    for (;;)
        pause();
    return NULL;
}

static void *execs(void *arg)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    (void)arg;
    execl(self, self, "after", pid, NULL);
    return NULL;
}

static void start(void *(*body)(void *))
{
    pthread_t thread;
    pthread_create(&thread, NULL, body, NULL);
}

static void exec_from_thread(void)
{
    start(spin), start(sleeps), start(execs);
    for (;;)
        pause();
}

static void exec_from_leader(void)
{
    start(spin), start(sleeps), start(sleeps);
    execs(NULL);
}

static void *leaves(void *arg)
{
    (void)arg;
    sleep_ms(5);
    exit(17);
}

static void exit_from_thread(void)
{
    start(spin), start(sleeps), start(leaves);
    for (;;)
        pause();
}

static void *dies(void *arg)
{
    (void)arg;
    *(volatile char *)16 = 0;
    return NULL;
}

static void death_of_thread(void)
{
    start(sleeps), start(dies);
    for (;;)
        pause();
}

static void *outlives(void *arg)
{
    (void)arg;
    sleep_ms(20);
    _exit(task_state(getpid()) == 'Z' ? 23 : 24);
}

static void leader_leaves(void)
{
    start(outlives);
    syscall(SYS_exit, 0);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        int count = 0;
        DIR *dir = opendir("/proc/self/task");
        while (readdir(dir))
            count++;
        return (getpid() == atoi(argv[2])) + 2 * (syscall(SYS_gettid) == getpid()) + 4 * (count == 3);
    }
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    CHECK("exec from a thread", exited(in_child(exec_from_thread), 7));
    CHECK("exec from the leader", exited(in_child(exec_from_leader), 7));
    CHECK("exit from a thread", exited(in_child(exit_from_thread), 17));
    CHECK("a thread's fault kills the process", killed(in_child(death_of_thread), SIGSEGV));
    CHECK("the leader may end first: a zombie till the last", exited(in_child(leader_leaves), 23));
    return finish();
}
