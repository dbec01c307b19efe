/* cc: -static -pthread
 * _exit(2) as threads call it: the process ends with its last thread, and with its status. */
#include "../check.h"
#include <pthread.h>

static int status;

static void *ends_later(void *arg)
{
    sleep_ms(50);
    syscall(SYS_exit, 6);
    return arg;
}

static void alone(void)
{
    pid_t pid = fork();
    if (pid == 0)
        syscall(SYS_exit, 7);
    CHECK_EQ("one thread: wait for it", waitpid(pid, &status, 0), pid);
    CHECK("its status is the process's", exited(status, 7));
}

static void with_another(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, ends_later, NULL);
        syscall(SYS_exit, 5);
    }
    CHECK_EQ("two threads: not ended yet", waitpid(pid, &status, WNOHANG), 0);
    CHECK_EQ("two threads: wait for both", waitpid(pid, &status, 0), pid);
    CHECK("the last thread's status is the process's", exited(status, 6));
}

static void only_low_byte(void)
{
    pid_t pid = fork();
    if (pid == 0)
        syscall(SYS_exit, 0x1234);
    waitpid(pid, &status, 0);
    CHECK("the low byte counts", exited(status, 0x34));
}

int main(void)
{
    alone();
    with_another();
    only_low_byte();
    return finish();
}
