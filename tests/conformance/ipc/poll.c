/* cc: -static
 * poll(2), ppoll(2), select(2), pselect(2) over pipes, files, time-outs, signals and closed ends. */
#include "../check.h"
#include <sys/resource.h>
#include <sys/select.h>

static int a[2], b[2];
static volatile int handled;

static void handler(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info, (void)context;
    handled++;
}

static int events_of(int fd, short asked)
{
    struct pollfd one = {fd, asked, 0};
    poll(&one, 1, 0);
    return one.revents;
}

static void polls(void)
{
    struct pollfd set[] = {{a[0], POLLIN, 0}, {b[0], POLLIN, 0}, {-5, POLLIN, 99}, {a[1], POLLOUT, 0}};
    CHECK_EQ("one is ready", poll(set, 4, -1), 1);
    CHECK("which", !set[0].revents && !set[1].revents && !set[2].revents && set[3].revents == POLLOUT);
    write(b[1], "x", 1);
    CHECK_EQ("two are", poll(set, 4, -1), 2);
    CHECK_EQ("time-out 0", poll(set, 1, 0), 0);
    int64_t start = now_ns(CLOCK_MONOTONIC);
    CHECK_EQ("time-out", poll(set, 1, 20), 0);
    CHECK("takes its time", now_ns(CLOCK_MONOTONIC) - start >= 20000000);
    CHECK_EQ("POLLNVAL", events_of(777, POLLIN), POLLNVAL);
    CHECK_EQ("regular file", events_of(open("/etc/passwd", O_RDONLY), POLLIN | POLLOUT), POLLIN | POLLOUT);
    CHECK_EQ("nothing to wait for", poll(NULL, 0, 1), 0);
    CHECK_ERRNO("bad pointer", poll((struct pollfd *)8, 1, 0), EFAULT);
    CHECK_ERRNO("too many", poll(set, 1u << 30, 0), EINVAL);
    int c[2];
    pipe(c);
    close(c[1]);
    CHECK_EQ("reader of a closed pipe", events_of(c[0], POLLIN), POLLHUP);
    pipe(c);
    close(c[0]);
    CHECK_EQ("writer of a closed pipe", events_of(c[1], POLLOUT), POLLOUT | POLLERR);
    pid_t pid = fork();
    if (pid == 0) {
        until_asleep(getppid());
        write(a[1], "y", 1);
        _exit(0);
    }
    CHECK("wakes for another process", poll(set, 1, 5000) == 1 && set[0].revents == POLLIN);
    waitpid(pid, NULL, 0);
    char c1;
    read(a[0], &c1, 1);
}

static void signals(void)
{
    sigset_t block, empty;
    sigemptyset(&empty), sigemptyset(&block), sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    catch_with(SIGUSR1, handler, SA_RESTART);
    raise(SIGUSR1);
    struct pollfd one = {a[0], POLLIN, 0};
    CHECK_ERRNO("ppoll unblocks", ppoll(&one, 1, NULL, &empty), EINTR);
    CHECK_EQ("handled", handled, 1);
    raise(SIGUSR1);
    struct timespec zero = {0, 0};
    CHECK_EQ("ready ones come first", (write(a[1], "x", 1), ppoll(&one, 1, &zero, &empty)), 1);
    CHECK("the signal waits or came", handled == 1 || handled == 2);
    char c;
    read(a[0], &c, 1);
    while (handled < 2)
        sigsuspend(&empty);
    raise(SIGUSR1);
    fd_set set;
    FD_ZERO(&set); FD_SET(a[0], &set);
    CHECK_ERRNO("pselect unblocks", pselect(a[0] + 1, &set, NULL, NULL, NULL, &empty), EINTR);
    CHECK_EQ("handled again", handled, 3);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK("the mask is back", sigismember(&now, SIGUSR1));
}

static void selects(void)
{
    fd_set read_set, write_set;
    char c;
    read(b[0], &c, 1);
    FD_ZERO(&read_set); FD_SET(a[0], &read_set); FD_SET(b[0], &read_set);
    FD_ZERO(&write_set); FD_SET(a[1], &write_set); FD_SET(b[1], &write_set);
    write(b[1], "x", 1);
    CHECK_EQ("counts all sets", select(100, &read_set, &write_set, NULL, NULL), 3);
    CHECK("sets", !FD_ISSET(a[0], &read_set) && FD_ISSET(b[0], &read_set) && FD_ISSET(a[1], &write_set));
    struct timeval time = {0, 5000};
    FD_ZERO(&read_set); FD_SET(a[0], &read_set);
    CHECK_EQ("time-out", select(a[0] + 1, &read_set, NULL, NULL, &time), 0);
    CHECK("sets are cleared, no time is left", !FD_ISSET(a[0], &read_set) && time.tv_sec == 0 && time.tv_usec == 0);
    time.tv_sec = 50;
    FD_SET(b[0], &read_set);
    CHECK("what is left of the time", select(b[0] + 1, &read_set, NULL, NULL, &time) == 1 && time.tv_sec >= 49);
    FD_ZERO(&read_set); FD_SET(50, &read_set);
    CHECK_ERRNO("bad descriptor", select(51, &read_set, NULL, NULL, NULL), EBADF);
    CHECK_ERRNO("negative count", select(-1, NULL, NULL, NULL, NULL), EINVAL);
    time.tv_sec = -1;
    CHECK_ERRNO("negative time", select(0, NULL, NULL, NULL, &time), EINVAL);
}

/* An array so long that it is dealt with in slices. */
static void long_arrays(void)
{
    enum { MANY = 9000 };
    static struct pollfd many[MANY];
    struct rlimit limit;
    int pair[2], rest;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < MANY) {
        SKIP("long arrays", "RLIMIT_NOFILE is too low");
        return;
    }
    pipe(pair);
    for (int i = 0; i < MANY; i++)
        many[i] = (struct pollfd){i % 3 == 0 ? pair[0] : i % 3 == 1 ? -1 : pair[1], i % 2 ? POLLIN : POLLIN | POLLOUT, 77};
    CHECK_EQ("a long array", poll(many, MANY, 0), MANY / 6);
    rest = 0;
    for (int i = 0; i < MANY; i++)
        rest += many[i].revents != (i % 6 == 2 ? POLLOUT : 0);
    CHECK_EQ("each answered", rest, 0);
    write(pair[1], "x", 1);
    CHECK_EQ("more are ready", poll(many, MANY, -1), MANY / 6 + (MANY + 2) / 3);
    read(pair[0], many, 1);
    for (int i = 0; i < MANY; i++)
        many[i] = (struct pollfd){pair[0], POLLIN, 0};
    CHECK_EQ("it times out", poll(many, MANY, 5), 0);
    if (fork() == 0) {
        usleep(30000);
        write(pair[1], "x", 1);
        _exit(0);
    }
    CHECK_EQ("it is woken", poll(many, MANY, 20000), MANY);
    wait(NULL);
    many[MANY - 1].fd = MANY - 1, many[MANY - 1].revents = 0;
    struct timespec second = {1, 0};
    CHECK("ppoll", ppoll(many, MANY, &second, NULL) == MANY && many[MANY - 1].revents == POLLNVAL);
    close(pair[0]), close(pair[1]);
}

int main(void)
{
    pipe(a), pipe(b);
    polls();
    signals();
    selects();
    long_arrays();
    return finish();
}
