/* cc: -static
 * poll(2), ppoll(2), select(2), pselect(2) over pipes, files, time-outs, signals and closed ends. */
#include "../check.h"
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

int main(void)
{
    pipe(a), pipe(b);
    polls();
    signals();
    selects();
    return finish();
}
