/* cc: -static
 * SO_RCVLOWAT, socket(7), with read(2) and its kin: how many bytes a read of a stream waits for, and what ends the wait.
 */
#include "../check.h"
#include <sys/socket.h>
#include <sys/uio.h>

static int pair[2];

static void start(int least)
{
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least);
}

static void stop(void)
{
    close(pair[0]), close(pair[1]);
}

/* A child that sends `parts`, separated by spaces, each when whoever reads sleeps; '!' is a signal to the reader instead. */
static pid_t sends(const char *parts)
{
    pid_t reader = getpid(), pid = fork();
    if (pid == 0) {
        close(pair[0]);
        for (const char *at = parts; *at; at += *at == ' ') {
            size_t length = strcspn(at, " ");
            until_asleep(reader);
            sleep_ms(20);
            if (*at == '!')
                kill(reader, SIGUSR1);
            else
                write(pair[1], at, length);
            at += length;
        }
        until_asleep(reader);
        _exit(0);
    }
    return pid;
}

static void nothing(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info, (void)context;
}

static void reading(void)
{
    char buffer[64] = {0};
    start(6);
    write(pair[1], "ab", 2);
    pid_t pid = sends("cd ef gh");
    CHECK("read waits for that many", read(pair[0], buffer, 60) == 6 && memcmp(buffer, "abcdef", 6) == 0);
    waitpid(pid, NULL, 0);
    CHECK_EQ("what came later", recv(pair[0], buffer, 60, MSG_DONTWAIT), 2);
    write(pair[1], "ab", 2);
    pid = sends("cd");
    CHECK_EQ("no more than was asked for", read(pair[0], buffer, 3), 3);
    CHECK_EQ("the rest does not wait", recv(pair[0], buffer, 60, MSG_DONTWAIT), 1);
    waitpid(pid, NULL, 0);
    pid = sends("abc defg");
    struct iovec parts[2] = {{buffer, 2}, {buffer + 2, 60}};
    CHECK("readv", readv(pair[0], parts, 2) == 7 && memcmp(buffer, "abcdefg", 7) == 0);
    waitpid(pid, NULL, 0);
    write(pair[1], "abcdefgh", 8);
    CHECK_EQ("enough is there", read(pair[0], buffer, 60), 8);
    stop();
}

static void ending(void)
{
    char buffer[64];
    start(6);
    write(pair[1], "ab", 2);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    CHECK_EQ("a read that does not block takes what is there", read(pair[0], buffer, 60), 2);
    CHECK_ERRNO("and then nothing", read(pair[0], buffer, 60), EAGAIN);
    fcntl(pair[0], F_SETFL, 0);
    struct timeval brief = {0, 60000};
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief);
    write(pair[1], "abc", 3);
    CHECK_EQ("a time-out ends the wait", read(pair[0], buffer, 60), 3);
    CHECK_ERRNO("with nothing, too", read(pair[0], buffer, 60), EAGAIN);
    brief.tv_usec = 0;
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief);
    catch_with(SIGUSR1, nothing, SA_RESTART);
    pid_t pid = sends("ab !");
    CHECK_EQ("a signal ends it with what there is", read(pair[0], buffer, 60), 2);
    waitpid(pid, NULL, 0);
    struct pollfd asks = {pair[0], POLLIN, 0};
    write(pair[1], "a", 1);
    CHECK("poll does not ask how many", poll(&asks, 1, 0) == 1 && asks.revents == POLLIN);
    CHECK_EQ("nor does MSG_DONTWAIT", recv(pair[0], buffer, 60, MSG_DONTWAIT), 1);
    pid = sends("abcd");
    close(pair[1]);
    CHECK_EQ("the end ends it", read(pair[0], buffer, 60), 4);
    CHECK_EQ("at the end", read(pair[0], buffer, 60), 0);
    waitpid(pid, NULL, 0);
    stop();
}

static void others(void)
{
    char buffer[64];
    int fds[2];
    start(4);
    pipe(fds);
    pid_t pid = sends("ab cd");
    CHECK_EQ("a bad address", read(pair[0], (void *)16, 0), 0);
    CHECK_EQ("splice waits, too", splice(pair[0], NULL, fds[1], NULL, 60, 0), 4);
    waitpid(pid, NULL, 0);
    read(fds[0], buffer, 60);
    int least = 1;
    write(pair[1], "z", 1);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least);
    CHECK_EQ("one byte is enough again", read(pair[0], buffer, 60), 1);
    stop();
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    least = 6;
    setsockopt(pair[0], SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least);
    write(pair[1], "ab", 2);
    CHECK_EQ("a datagram is a datagram", read(pair[0], buffer, 60), 2);
    stop();
}

int main(void)
{
    reading();
    ending();
    others();
    return finish();
}
