/* cc: -static
 * Interrupted calls: which restart with SA_RESTART, which never do, which restart after a stop, what remains. */
#include "../check.h"
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/time.h>

static volatile int handled;
static int pipes[2], status;
static char c;

static void handler(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info, (void)context;
    handled++;
}

/* A child that, once this process sleeps, sends it a signal, and later writes to the pipe. */
static pid_t poker(int signo)
{
    handled = 0;
    pid_t target = getpid(), pid = fork();
    if (pid == 0) {
        until_asleep(target);
        kill(target, signo);
        if (signo == SIGSTOP) {
            while (task_state(target) != 'T')
                sleep_ms(1);
            kill(target, SIGCONT);
        }
        sleep_ms(5);
        until_asleep(target);
        write(pipes[1], "x", 1);
        _exit(0);
    }
    return pid;
}

static void done(pid_t pid)
{
    while (waitpid(pid, &status, 0) < 0)
        ;
    struct pollfd left = {pipes[0], POLLIN, 0};
    while (poll(&left, 1, 0) > 0 && read(pipes[0], &c, 1) == 1)
        ;
}

static void reads(void)
{
    catch_with(SIGUSR1, handler, SA_RESTART);
    pid_t pid = poker(SIGUSR1);
    CHECK_EQ("read with SA_RESTART goes on", read(pipes[0], &c, 1), 1);
    CHECK_EQ("after the handler", handled, 1);
    done(pid);
    catch_with(SIGUSR1, handler, 0);
    pid = poker(SIGUSR1);
    CHECK_ERRNO("read without is interrupted", read(pipes[0], &c, 1), EINTR);
    done(pid);
    signal(SIGUSR1, SIG_IGN);
    pid = poker(SIGUSR1);
    CHECK_EQ("an ignored signal is not noticed", read(pipes[0], &c, 1), 1);
    done(pid);
    pid = poker(SIGSTOP);
    CHECK_EQ("stop and continue is not noticed", read(pipes[0], &c, 1), 1);
    done(pid);
    pid = poker(SIGCHLD);
    CHECK_EQ("a default-ignored one neither", read(pipes[0], &c, 1), 1);
    done(pid);
}

static void waits(void)
{
    struct pollfd watch = {pipes[0], POLLIN, 0};
    catch_with(SIGUSR1, handler, SA_RESTART);
    pid_t pid = poker(SIGUSR1);
    CHECK_ERRNO("poll never restarts for a handler", poll(&watch, 1, 5000), EINTR);
    done(pid);
    pid = poker(SIGSTOP);
    CHECK_EQ("but after a stop it goes on", poll(&watch, 1, 5000), 1);
    done(pid);
    int events = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(events, EPOLL_CTL_ADD, pipes[0], &event);
    pid = poker(SIGUSR1);
    CHECK_ERRNO("epoll_wait never restarts", epoll_wait(events, &event, 1, 5000), EINTR);
    done(pid);
    pid = poker(SIGUSR1);
    CHECK_ERRNO("pause", pause(), EINTR);
    done(pid);
    pid = fork();
    if (pid == 0) {
        read(pipes[0], &c, 1);
        _exit(6);
    }
    pid_t helper = poker(SIGUSR1);
    CHECK("waitpid with SA_RESTART goes on", waitpid(pid, &status, 0) == pid && exited(status, 6) && handled == 1);
    done(helper);
}

static void sleeps(void)
{
    struct timespec time = {0, 400000000}, left = {9, 9};
    int64_t start = now_ns(CLOCK_MONOTONIC);
    pid_t pid = poker(SIGUSR1);
    CHECK_ERRNO("nanosleep is interrupted even with SA_RESTART", nanosleep(&time, &left), EINTR);
    /* interrupted at once, all of it and the timer's slack of 50 us may be left */
    CHECK("what is left", left.tv_sec == 0 && left.tv_nsec > 0 && left.tv_nsec <= 400050000);
    done(pid);
    start = now_ns(CLOCK_MONOTONIC);
    time.tv_nsec = 60000000;
    pid = poker(SIGSTOP);
    CHECK_EQ("nanosleep goes on after a stop", nanosleep(&time, &left), 0);
    CHECK("to its end, not afresh", now_ns(CLOCK_MONOTONIC) - start >= 60000000);
    done(pid);
    int word = 3;
    struct timespec timeout = {5, 0};
    pid = poker(SIGUSR1);
    CHECK_ERRNO("futex with a time-out is interrupted", syscall(SYS_futex, &word, FUTEX_WAIT, 3, &timeout, NULL, 0), EINTR);
    done(pid);
    pid = poker(SIGUSR1);
    time.tv_sec = 5, left.tv_nsec = 77;
    struct timespec until = {time.tv_sec + start / 1000000000 + 100, 0};
    CHECK_EQ("clock_nanosleep absolute", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, &left), EINTR);
    CHECK_EQ("leaves the remainder alone", left.tv_nsec, 77);
    done(pid);
}

static void partial(void)
{
    int big[2];
    pipe(big);
    fcntl(big[1], F_SETPIPE_SZ, 4096);
    static char block[20000];
    catch_with(SIGUSR1, handler, SA_RESTART);
    pid_t pid = poker(SIGUSR1);
    CHECK_EQ("a write that moved some bytes says how many", write(big[1], block, sizeof block), 4096);
    done(pid);
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    catch_with(SIGALRM, handler, SA_RESTART);
    handled = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
    bool good = true;
    while (handled < 20)
        good &= getppid() > 0 && close(dup(1)) == 0;
    CHECK("calls that do not sleep are never interrupted", good);
}

int main(void)
{
    pipe(pipes);
    reads();
    waits();
    sleeps();
    partial();
    return finish();
}
