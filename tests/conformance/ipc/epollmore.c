/* cc: -static
 * epoll(7), the rarer half: EPOLLEXCLUSIVE wakes one of many; signalfd(2) in an epoll.
 */
#include "../check.h"
#include <sys/epoll.h>
#include <sys/signalfd.h>

enum { WAITERS = 4 };
static int ends[2], answers[2];

static int watch(int fd, unsigned events)
{
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = events, .data.u64 = 7};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    return epoll;
}

/* A process that waits on `epoll` and says how much it saw, then waits to be ended. */
static pid_t waiter(int epoll)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct epoll_event event;
        close(ends[1]);
        char seen = (char)epoll_wait(epoll, &event, 1, -1);
        write(answers[1], &seen, 1);
        for (;;)
            pause();
    }
    until_asleep(pid);
    return pid;
}

static int answered(void)
{
    char seen[WAITERS];
    sleep_ms(100);
    long count = read(answers[0], seen, sizeof seen);
    return count < 0 ? 0 : (int)count;
}

static int woken(unsigned events, bool hang_up, bool idle_first)
{
    pid_t pids[WAITERS];
    pipe(ends), pipe2(answers, O_NONBLOCK);
    int idle = idle_first ? watch(ends[0], events) : -1;
    for (int i = 0; i < WAITERS; i++) {
        int epoll = watch(ends[0], events);
        pids[i] = waiter(epoll);
        close(epoll);
    }
    if (hang_up)
        close(ends[1]);
    else
        write(ends[1], "x", 1);
    int count = answered();
    struct epoll_event event;
    if (idle_first)
        count += 10 * epoll_wait(idle, &event, 1, 0);
    for (int i = 0; i < WAITERS; i++)
        kill(pids[i], SIGKILL), waitpid(pids[i], NULL, 0);
    close(idle), close(ends[0]), close(ends[1]), close(answers[0]), close(answers[1]);
    return count;
}

static void exclusive(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    CHECK_EQ("all of those that share", woken(EPOLLIN, false, false), WAITERS);
    CHECK_EQ("one of the exclusive ones", woken(EPOLLIN | EPOLLEXCLUSIVE, false, false), 1);
    CHECK_EQ("one nobody waits on does not count, but is ready", woken(EPOLLIN | EPOLLEXCLUSIVE, false, true), 11);
    CHECK_EQ("all when the other end goes", woken(EPOLLIN | EPOLLEXCLUSIVE, true, false), WAITERS);
    pipe(ends);
    int epoll = watch(ends[0], EPOLLIN | EPOLLEXCLUSIVE);
    CHECK_ERRNO("it cannot be changed", epoll_ctl(epoll, EPOLL_CTL_MOD, ends[0], &event), EINVAL);
    CHECK_EQ("but removed", epoll_ctl(epoll, EPOLL_CTL_DEL, ends[0], &event), 0);
    write(ends[1], "x", 1);
    CHECK_EQ("and is silent then", epoll_wait(epoll, &event, 1, 0), 0);
    close(ends[0]), close(ends[1]), close(epoll);
}

static int signals, epoll_of_signals;

static void other_process(void)
{
    struct epoll_event event;
    struct signalfd_siginfo info;
    raise(SIGUSR1);
    CHECK_EQ("does not show another's signals", epoll_wait(epoll_of_signals, &event, 1, 50), 0);
    CHECK_EQ("though they can be read", read(signals, &info, sizeof info), sizeof info);
    raise(SIGUSR1);
    kill(getppid(), SIGUSR1);
    CHECK_EQ("woken by the first, it shows who waits its own", epoll_wait(epoll_of_signals, &event, 1, 1000), 1);
    read(signals, &info, sizeof info);
    CHECK_EQ("nothing then", epoll_wait(epoll_of_signals, &event, 1, 20), 0);
    int own = watch(signals, EPOLLIN);
    raise(SIGUSR1);
    CHECK_EQ("what it adds itself hears of its own", epoll_wait(own, &event, 1, 1000), 1);
}

static void of_signals(void)
{
    struct epoll_event event;
    struct signalfd_siginfo info;
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals = signalfd(-1, &set, SFD_NONBLOCK);
    epoll_of_signals = watch(signals, EPOLLIN);
    CHECK_EQ("nothing yet", epoll_wait(epoll_of_signals, &event, 1, 0), 0);
    CHECK("in another process", exited(in_child(other_process), 0));
    CHECK_EQ("here, another's look has taken it off the list", epoll_wait(epoll_of_signals, &event, 1, 0), 0);
    CHECK_EQ("but it is there", read(signals, &info, sizeof info), sizeof info);
    raise(SIGUSR1);
    CHECK_EQ("and the next one shows", epoll_wait(epoll_of_signals, &event, 1, 1000), 1);
    read(signals, &info, sizeof info);
    CHECK_EQ("no more", epoll_wait(epoll_of_signals, &event, 1, 0), 0);
}

int main(void)
{
    exclusive();
    of_signals();
    return finish();
}
