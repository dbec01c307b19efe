/* cc: -static -pthread
 * Threads and signals: per-thread masks, process-directed delivery, tgkill, stops and stacks of each; set_tid_address. */
#include "../check.h"
#include <pthread.h>

static volatile pid_t handled_by;
static volatile int count;
static pid_t worker_tid;
static int pipes[2];

static void handler(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info, (void)context;
    handled_by = (pid_t)syscall(SYS_gettid);
    count++;
}

static void mask(int how, int signo)
{
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, signo);
    pthread_sigmask(how, &set, NULL);
}

static void *worker(void *arg)
{
    char c;
    (void)arg;
    mask(SIG_UNBLOCK, SIGUSR1);
    worker_tid = (pid_t)syscall(SYS_gettid);
    while (read(pipes[0], &c, 1) != 0)
        ;
    return NULL;
}

static void wait_count(int want)
{
    for (int i = 0; i < 1000 && count < want; i++)
        sleep_ms(1);
}

static void *waiter(void *arg)
{
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set), sigaddset(&set, SIGRTMIN);
    int got = sigwaitinfo(&set, &info);
    (void)arg;
    return (void *)(long)(got == SIGRTMIN ? info.si_value.sival_int : -1);
}

static void *pending_of_thread(void *arg)
{
    sigset_t set;
    (void)arg;
    mask(SIG_BLOCK, SIGUSR2);
    pthread_kill(pthread_self(), SIGUSR2);
    sigpending(&set);
    return (void *)(long)sigismember(&set, SIGUSR2);
}

int main(void)
{
    pipe(pipes);
    catch_with(SIGUSR1, handler, 0);
    catch_with(SIGUSR2, handler, 0);
    mask(SIG_BLOCK, SIGUSR1), mask(SIG_BLOCK, SIGUSR2), mask(SIG_BLOCK, SIGRTMIN);
    pthread_t thread, second;
    pthread_create(&thread, NULL, worker, NULL);
    while (!worker_tid)
        sleep_ms(1);
    until_asleep(worker_tid);
    kill(getpid(), SIGUSR1);
    wait_count(1);
    CHECK("a thread that does not block it takes it", count == 1 && handled_by == worker_tid);
    until_asleep(worker_tid);
    syscall(SYS_tgkill, getpid(), worker_tid, SIGUSR1);
    wait_count(2);
    CHECK("tgkill", count == 2 && handled_by == worker_tid);
    pthread_kill(pthread_self(), SIGUSR1);
    sigset_t set;
    sigpending(&set);
    CHECK("a thread's own pending signal stays with it", sigismember(&set, SIGUSR1) && count == 2);
    mask(SIG_UNBLOCK, SIGUSR1);
    CHECK("delivered to it", count == 3 && handled_by == getpid());
    void *result;
    pthread_create(&second, NULL, pending_of_thread, NULL);
    pthread_join(second, &result);
    CHECK("pending in the other thread", (long)result == 1);
    sigpending(&set);
    CHECK("is not pending here", !sigismember(&set, SIGUSR2));
    pthread_create(&second, NULL, waiter, NULL);
    sleep_ms(5);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 42});
    pthread_join(second, &result);
    CHECK_EQ("sigwaitinfo in a thread", (long)result, 42);
    stack_t other;
    sigaltstack(NULL, &other);
    CHECK_EQ("no alternate stack is inherited", other.ss_flags, SS_DISABLE);
    close(pipes[1]);
    pthread_join(thread, NULL);
    int slot = 0;
    CHECK("set_tid_address returns the thread's number", syscall(SYS_set_tid_address, &slot) == getpid());
    /* the word that pthread_join waits for is cleared shortly before a thread is gone */
    for (int i = 0; i < 1000 && syscall(SYS_tgkill, getpid(), worker_tid, 0) == 0; i++)
        sleep_ms(1);
    CHECK_EQ("all threads are gone", syscall(SYS_tgkill, getpid(), worker_tid, 0), -1);
    return finish();
}
