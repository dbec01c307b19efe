/* cc: -static
 * Out-of-band data of UNIX streams: MSG_OOB, SIOCATMARK, SO_OOBINLINE, SIGURG, POLLPRI; SO_RCVLOWAT, SO_LINGER.
 */
#include "../check.h"
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int pair[2];
static volatile int urgent;

static void note(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info, (void)context;
    urgent++;
}

static void fresh(void)
{
    close(pair[0]), close(pair[1]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
}

static void put(const char *text, int flags)
{
    send(pair[1], text, strlen(text), flags);
}

static char got[64];

/* What one receive gives; "-" for EAGAIN. */
static bool gives(const char *text, int flags)
{
    memset(got, 0, sizeof got);
    long count = recv(pair[0], got, sizeof got - 1, flags | MSG_DONTWAIT);
    if (count < 0)
        strcpy(got, errno == EAGAIN ? "-" : errno_name(errno));
    bool good = strcmp(got, text) == 0;
    if (!good)
        say("# %s, not %s\n", got, text);
    return good;
}

static int at_mark(void)
{
    int mark = -1;
    ioctl(pair[0], SIOCATMARK, &mark);
    return mark;
}

static int ready(void)
{
    struct pollfd poll_fd = {.fd = pair[0], .events = POLLIN | POLLPRI};
    poll(&poll_fd, 1, 0);
    return poll_fd.revents;
}

static void apart(void)
{
    fresh();
    CHECK_ERRNO("none yet", recv(pair[0], got, 1, MSG_OOB), EINVAL);
    CHECK_ERRNO("nothing is not urgent", send(pair[1], "", 0, MSG_OOB), EOPNOTSUPP);
    put("abc", 0), put("de!", MSG_OOB), put("fg", 0);
    CHECK_EQ("urgent data is there", ready(), POLLIN | POLLPRI);
    CHECK_EQ("not at the mark", at_mark(), 0);
    CHECK("peek at the byte", gives("!", MSG_OOB | MSG_PEEK));
    CHECK("take it", gives("!", MSG_OOB));
    CHECK_EQ("it is gone", ready(), POLLIN);
    CHECK("and cannot be taken twice", gives("EINVAL", MSG_OOB));
    CHECK("data up to the mark", gives("abcde", 0));
    CHECK_EQ("at the mark", at_mark(), 1);
    CHECK("beyond", gives("fg", 0));
    CHECK_EQ("not at it", at_mark(), 0);
    CHECK("no more", gives("-", 0));
}

static void passed_over(void)
{
    fresh();
    put("ab!", MSG_OOB), put("cd", 0);
    CHECK("stops before it", gives("ab", 0));
    CHECK_EQ("at the byte", at_mark(), 1);
    CHECK("passes over it", gives("cd", 0));
    CHECK("then it is lost", gives("EINVAL", MSG_OOB));
    put("a!", MSG_OOB), put("b?", MSG_OOB);
    CHECK("one at a time: the first is ordinary then", gives("a!b", 0));
    CHECK("the last is urgent", gives("?", MSG_OOB));
    CHECK("nothing is left", gives("-", 0));
    put("!", MSG_OOB);
    CHECK_EQ("alone: readable", ready() & POLLPRI, POLLPRI);
    CHECK_EQ("alone: at it", at_mark(), 1);
    CHECK("alone: a plain receive has nothing", gives("-", 0));
    put("xy", 0), put("!", MSG_OOB);
    CHECK("peeking stops there, too", gives("xy", MSG_PEEK));
    CHECK("read stops there", read(pair[0], got, 10) == 2);
}

static void in_line(void)
{
    fresh();
    int one = 1, value = 0;
    socklen_t size = sizeof value;
    setsockopt(pair[0], SOL_SOCKET, SO_OOBINLINE, &one, sizeof one);
    CHECK("SO_OOBINLINE", getsockopt(pair[0], SOL_SOCKET, SO_OOBINLINE, &value, &size) == 0 && value == 1);
    put("ab!", MSG_OOB), put("cd", 0);
    CHECK("not apart", gives("EINVAL", MSG_OOB));
    CHECK("still a mark", gives("ab", 0) && at_mark() == 1);
    CHECK("in line", gives("!cd", 0));
    CHECK("no more", gives("-", 0));
}

static void told(void)
{
    fresh();
    catch_with(SIGURG, note, 0);
    fcntl(pair[0], F_SETOWN, getpid());
    put("abc", 0);
    CHECK_EQ("ordinary data", urgent, 0);
    put("!", MSG_OOB);
    CHECK_EQ("SIGURG", urgent, 1);
    int packets[2];
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets);
    CHECK_ERRNO("packets", send(packets[0], "x", 1, MSG_OOB), EOPNOTSUPP);
    CHECK_ERRNO("to receive", recv(packets[0], got, 1, MSG_OOB), EOPNOTSUPP);
    struct msghdr head = {.msg_iov = &(struct iovec){got, 1}, .msg_iovlen = 1};
    CHECK("msg_flags", recvmsg(pair[0], &head, MSG_OOB) == 1 && head.msg_flags == MSG_OOB && got[0] == '!');
    close(packets[0]), close(packets[1]);
}

static void send_later(void)
{
    sleep_ms(60);
    put("de", 0);
    sleep_ms(60);
    put("fgh", 0);
}

static void low_water(void)
{
    fresh();
    int value = 5;
    socklen_t size = sizeof value;
    setsockopt(pair[0], SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
    put("abc", 0);
    CHECK_EQ("readable all the same", ready(), POLLIN);
    CHECK("without waiting, what there is", gives("abc", 0));
    put("abc", 0);
    pid_t pid = fork();
    if (pid == 0) {
        send_later();
        _exit(0);
    }
    CHECK_EQ("waits for so much", recv(pair[0], got, 10, 0), 5);
    CHECK_EQ("or for all that is asked for", recv(pair[0], got, 3, 0), 3);
    waitpid(pid, NULL, 0);
    value = -1;
    setsockopt(pair[0], SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
    CHECK("negative: as much as there can be", getsockopt(pair[0], SOL_SOCKET, SO_RCVLOWAT, &value, &size) == 0 && value == INT_MAX);
    value = 0;
    setsockopt(pair[0], SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
    CHECK("zero is one", getsockopt(pair[0], SOL_SOCKET, SO_RCVLOWAT, &value, &size) == 0 && value == 1);
    struct linger linger = {7, 3};
    size = sizeof linger;
    setsockopt(pair[0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    CHECK("SO_LINGER is kept", getsockopt(pair[0], SOL_SOCKET, SO_LINGER, &linger, &size) == 0 && linger.l_onoff == 1 && linger.l_linger == 3);
    linger = (struct linger){0, 9};
    setsockopt(pair[0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    CHECK("turned off, its time stays", getsockopt(pair[0], SOL_SOCKET, SO_LINGER, &linger, &size) == 0 && linger.l_onoff == 0 && linger.l_linger == 3);
}

int main(void)
{
    apart();
    passed_over();
    in_line();
    told();
    low_water();
    return finish();
}
