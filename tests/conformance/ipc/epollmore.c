/* cc: -static
 * epoll(7), the rarer half: EPOLLEXCLUSIVE wakes one of many, and takes turns with who sleeps in read(2) or accept(2);
 * signalfd(2) in an epoll.
 */
#include "../check.h"
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

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

/* A process that sleeps in read(2), write(2) or accept(2), says `who` once it had what it wanted, then waits to be ended. */
static pid_t blocked(int fd, char who)
{
    static char much[1 << 16];
    pid_t pid = fork();
    if (pid == 0) {
        if (who == 'a')
            accept(fd, NULL, NULL);
        else if (who == 'w')
            write(fd, much, sizeof much);
        else
            read(fd, much, 1);
        write(answers[1], &who, 1);
        for (;;)
            pause();
    }
    until_asleep(pid);
    return pid;
}

/* Who hears of what `happen` does (NULL: all): `order` is who came in which order; e, an exclusive epoll, is answered by \1. */
static bool heard_by(const char *order, int fd, void (*happen)(void), const char *want)
{
    pid_t pids[WAITERS];
    int count = 0;
    char seen[WAITERS + 1] = "";
    pipe2(answers, O_NONBLOCK);
    for (; order[count]; count++)
        if (order[count] == 'e' || order[count] == 'E') {
            int epoll = watch(fd, (order[count] == 'e' ? EPOLLIN : EPOLLOUT) | EPOLLEXCLUSIVE);
            pids[count] = waiter(epoll);
            close(epoll);
        } else {
            pids[count] = blocked(fd, order[count]);
        }
    happen();
    sleep_ms(100);
    read(answers[0], seen, WAITERS);
    for (int i = 0; i < count; i++)
        kill(pids[i], SIGKILL), waitpid(pids[i], NULL, 0);
    close(answers[0]), close(answers[1]);
    return want ? strcmp(seen, want) == 0 : (int)strlen(seen) == count;
}

static void one_byte(void)
{
    write(ends[1], "x", 1);
}

static void two_bytes(void)
{
    write(ends[1], "xy", 2);
}

static void drain(void)
{
    struct pollfd ready = {.fd = ends[0], .events = POLLIN};
    char much[1 << 16];
    while (poll(&ready, 1, 0) == 1)
        read(ends[0], much, sizeof much);
}

static void make_room(void)
{
    char much[1 << 16];
    read(ends[0], much, sizeof much);
}

static void connect_once(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "here"};
    connect(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), (struct sockaddr *)&name, sizeof name);
}

static void turns(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "here"};
    enter_scratch();
    pipe(ends);
    CHECK("a reader that came first", heard_by("re", ends[0], one_byte, "r"));
    CHECK("an epoll that came first", heard_by("er", ends[0], one_byte, "\1"));
    drain(); /* a reader that is killed may have taken the byte */
    CHECK("a reader that leaves something tells the next one", heard_by("rre", ends[0], two_bytes, "rr"));
    CHECK("a reader that leaves something tells an epoll", heard_by("rer", ends[0], two_bytes, "r\1"));
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    char page[PAGE] = "";
    while (write(ends[1], page, sizeof page) > 0)
        ;
    fcntl(ends[1], F_SETFL, 0);
    CHECK("a writer that came first", heard_by("wE", ends[1], make_room, "w"));
    CHECK("an epoll for writing that came first", heard_by("Ew", ends[1], make_room, "\1"));
    close(ends[0]), close(ends[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bind(listener, (struct sockaddr *)&name, sizeof name), listen(listener, 8);
    CHECK("accept that came first", heard_by("aae", listener, connect_once, "a"));
    CHECK("an epoll before accept", heard_by("ea", listener, connect_once, "\1"));
    close(listener);
    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends);
    CHECK("a reader of datagrams that came first", heard_by("re", ends[0], one_byte, "r"));
    CHECK("an epoll before it", heard_by("er", ends[0], one_byte, "\1"));
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
    CHECK("of a stream both hear", heard_by("er", ends[0], two_bytes, NULL));
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
    turns();
    of_signals();
    return finish();
}
