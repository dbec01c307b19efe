/* cc: -static
 * unix(7), send(2), recv(2), shutdown(2), socket(7): records, ends, backlogs, options, control data that does not fit. */
#include "../check.h"
#include <linux/sockios.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static char text[512];

static socklen_t address(struct sockaddr_un *to, const char *name)
{
    memset(to, 0, sizeof *to);
    to->sun_family = AF_UNIX;
    if (*name == '@') {
        memcpy(to->sun_path + 1, name + 1, strlen(name) - 1);
        return offsetof(struct sockaddr_un, sun_path) + strlen(name);
    }
    strcpy(to->sun_path, name);
    return sizeof *to;
}

static int bound(int type, const char *name)
{
    struct sockaddr_un to;
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    socklen_t size = address(&to, name);
    if (bind(fd, (void *)&to, size) != 0)
        CHECK(name, false);
    return fd;
}

static int connected(int type, const char *name)
{
    struct sockaddr_un to;
    socklen_t size = address(&to, name);
    int fd = socket(AF_UNIX, type | SOCK_NONBLOCK, 0);
    if (connect(fd, (void *)&to, size) == 0)
        return fd;
    close(fd);
    return -1;
}

static void streams(void)
{
    int s[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    write(s[0], "abcdef", 6);
    CHECK("peek", recv(s[1], text, 3, MSG_PEEK) == 3 && recv(s[1], text, 3, 0) == 3 && text[0] == 'a');
    int count = 0;
    CHECK("SIOCINQ", ioctl(s[1], SIOCINQ, &count) == 0 && count == 3);
    recv(s[1], text, 10, 0);
    CHECK_ERRNO("MSG_DONTWAIT", recv(s[1], text, 1, MSG_DONTWAIT), EAGAIN);
    shutdown(s[0], SHUT_WR);
    CHECK_EQ("end after shutdown", recv(s[1], text, 1, 0), 0);
    CHECK_ERRNO("no more sending", send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK_EQ("the other way goes on", send(s[1], "back", 4, 0), 4);
    struct pollfd one = {s[1], POLLIN | POLLOUT | POLLRDHUP, 0};
    CHECK("poll: half closed", poll(&one, 1, 0) == 1 && one.revents == (POLLIN | POLLOUT | POLLRDHUP));
    shutdown(s[1], SHUT_RDWR);
    one.revents = 0;
    CHECK("poll: closed", poll(&one, 1, 0) == 1 && (one.revents & POLLHUP));
    CHECK_EQ("what was sent can be read", recv(s[0], text, 10, 0), 4);
    close(s[0]), close(s[1]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    write(s[0], "unread", 6);
    close(s[1]);
    CHECK_ERRNO("reset by unread data", recv(s[0], text, 1, 0), ECONNRESET);
    CHECK_EQ("then the end", recv(s[0], text, 1, 0), 0);
    close(s[0]);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_ERRNO("not connected: recv", recv(fd, text, 1, 0), EINVAL);
    CHECK_ERRNO("not connected: send", send(fd, text, 1, MSG_NOSIGNAL), ENOTCONN);
    CHECK_ERRNO("not connected: shutdown", shutdown(fd, 7), EINVAL);
    CHECK_ERRNO("not connected: getpeername", getpeername(fd, (void *)text, &(socklen_t){100}), ENOTCONN);
    CHECK_ERRNO("not bound: listen", listen(fd, 1), EINVAL);
    close(fd);
}

static void backlogs(void)
{
    int server = bound(SOCK_STREAM, "@trapline-backlog");
    CHECK_ERRNO("nobody listens", connected(SOCK_STREAM, "@trapline-backlog"), ECONNREFUSED);
    CHECK_EQ("listen", listen(server, 0), 0);
    int first = connected(SOCK_STREAM, "@trapline-backlog");
    CHECK("one waits", first >= 0);
    CHECK_ERRNO("the next would", connected(SOCK_STREAM, "@trapline-backlog"), EAGAIN);
    CHECK_ERRNO("another type", connected(SOCK_SEQPACKET, "@trapline-backlog"), ECONNREFUSED);
    int same = bound(SOCK_SEQPACKET, "@trapline-backlog");
    CHECK_EQ("which may have the same name", listen(same, 1), 0);
    close(same);
    same = bound(SOCK_STREAM, "path");
    listen(same, 1);
    CHECK_ERRNO("another type at a path", connected(SOCK_DGRAM, "path"), EPROTOTYPE);
    close(same);
    int value = 0;
    CHECK("SO_ACCEPTCONN", getsockopt(server, SOL_SOCKET, SO_ACCEPTCONN, &value, &(socklen_t){4}) == 0 && value == 1);
    write(first, "early", 5);
    int served = accept4(server, NULL, NULL, SOCK_CLOEXEC);
    CHECK("sent before accept", served >= 0 && read(served, text, 10) == 5);
    CHECK_ERRNO("connected already", connect(first, (void *)text, 2), EINVAL);
    int second = connected(SOCK_STREAM, "@trapline-backlog");
    close(server);
    CHECK("closing the listener resets who waits", recv(second, text, 1, 0) == -1 && errno == ECONNRESET);
    CHECK_ERRNO("and frees the name", connected(SOCK_STREAM, "@trapline-backlog"), ECONNREFUSED);
    close(first), close(second), close(served);
}

static void datagrams(void)
{
    int receiver = bound(SOCK_DGRAM, "receiver"), sender = bound(SOCK_DGRAM, "sender");
    struct sockaddr_un to, from;
    socklen_t size = address(&to, "receiver"), length = sizeof from;
    CHECK_EQ("sendto", sendto(sender, "message", 7, 0, (void *)&to, size), 7);
    CHECK("cut, and its length told", recv(receiver, text, 3, MSG_PEEK | MSG_TRUNC) == 7);
    CHECK("from whom", recvfrom(receiver, text, 3, 0, (void *)&from, &length) == 3 && strcmp(from.sun_path, "sender") == 0);
    CHECK_ERRNO("the rest is gone", recv(receiver, text, 10, MSG_DONTWAIT), EAGAIN);
    CHECK_EQ("nothing is a message too", sendto(sender, "", 0, 0, (void *)&to, size), 0);
    CHECK_EQ("and is received", recv(receiver, text, 10, 0), 0);
    struct iovec part = {text, 2};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    sendto(sender, "long", 4, 0, (void *)&to, size);
    CHECK("MSG_TRUNC", recvmsg(receiver, &message, 0) == 2 && message.msg_flags == MSG_TRUNC);
    int other = bound(SOCK_DGRAM, "other");
    connect(receiver, (void *)&from, length);
    CHECK_ERRNO("it listens to somebody else", sendto(other, "x", 1, 0, (void *)&to, size), EPERM);
    CHECK_EQ("connect to nobody", connect(receiver, &(struct sockaddr){.sa_family = AF_UNSPEC}, 2), 0);
    CHECK_EQ("now it may", sendto(other, "x", 1, 0, (void *)&to, size), 1);
    connect(other, (void *)&to, size);
    close(receiver);
    CHECK_ERRNO("gone", send(other, "x", 1, 0), ECONNREFUSED);
    CHECK_ERRNO("and forgotten", send(other, "x", 1, 0), ENOTCONN);
    CHECK_ERRNO("its name stays", bind(socket(AF_UNIX, SOCK_DGRAM, 0), (void *)&to, size), EADDRINUSE);
    length = sizeof from;
    CHECK("autobind", bind(receiver = socket(AF_UNIX, SOCK_DGRAM, 0), (void *)&(struct sockaddr){.sa_family = AF_UNIX}, 2) == 0
          && getsockname(receiver, (void *)&from, &length) == 0 && length == 8 && from.sun_path[0] == 0);
    char *large = calloc(1, 1 << 20);
    int value = 1 << 20;
    connect(sender, (void *)&from, length);
    CHECK_ERRNO("too large a message", send(sender, large, 1 << 20, 0), EMSGSIZE);
    free(large);
    (void)value;
    close(sender), close(other), close(receiver);
}

static void records(void)
{
    int s[2];
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s);
    write(s[0], "one", 3), write(s[0], "two", 3);
    CHECK("records keep their bounds", read(s[1], text, 100) == 3 && text[0] == 'o');
    CHECK_EQ("cut", read(s[1], text, 1), 1);
    CHECK_ERRNO("nothing left", recv(s[1], text, 10, MSG_DONTWAIT), EAGAIN);
    close(s[0]);
    CHECK_EQ("end", read(s[1], text, 10), 0);
    CHECK_ERRNO("no reader", send(s[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    close(s[1]);
}

static void options(void)
{
    int s[2], value = 0;
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    socklen_t size = sizeof value;
    CHECK("SO_TYPE", getsockopt(s[0], SOL_SOCKET, SO_TYPE, &value, &size) == 0 && value == SOCK_STREAM);
    CHECK("SO_DOMAIN", getsockopt(s[0], SOL_SOCKET, SO_DOMAIN, &value, &size) == 0 && value == AF_UNIX);
    CHECK("SO_PROTOCOL", getsockopt(s[0], SOL_SOCKET, SO_PROTOCOL, &value, &size) == 0 && value == 0);
    CHECK("SO_ERROR", getsockopt(s[0], SOL_SOCKET, SO_ERROR, &value, &size) == 0 && value == 0);
    value = 10000;
    setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &value, sizeof value);
    CHECK("SO_SNDBUF doubles", getsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &value, &size) == 0 && value == 20000);
    struct timeval wait = {0, 20000};
    CHECK_EQ("SO_RCVTIMEO", setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait), 0);
    CHECK_ERRNO("runs out", recv(s[0], text, 1, 0), EAGAIN);
    CHECK_ERRNO("unknown option", getsockopt(s[0], SOL_SOCKET, 7777, &value, &size), ENOPROTOOPT);
    CHECK_ERRNO("unknown level", setsockopt(s[0], 4711, 1, &value, sizeof value), EOPNOTSUPP);
    CHECK_ERRNO("short value", setsockopt(s[0], SOL_SOCKET, SO_PASSCRED, &value, 1), EINVAL);
    CHECK_ERRNO("socketpair of datagrams of a bad protocol", socketpair(AF_UNIX, SOCK_DGRAM, 77, s), EPROTONOSUPPORT);
    CHECK_ERRNO("family", socketpair(AF_INET6 + 40, SOCK_STREAM, 0, s), EAFNOSUPPORT);
    close(s[0]), close(s[1]);
}

static void truncated(void)
{
    int s[2], fds[3] = {0, 1, 2};
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    char space[CMSG_SPACE(sizeof fds)] = {0};
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET, control->cmsg_type = SCM_RIGHTS, control->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(control), fds, sizeof fds);
    CHECK_EQ("three descriptors", sendmsg(s[0], &message, 0), 1);
    part.iov_base = text;
    message.msg_controllen = CMSG_LEN(sizeof(int));
    CHECK_EQ("room for one", recvmsg(s[1], &message, 0), 1);
    control = CMSG_FIRSTHDR(&message);
    CHECK("one came, and it says so", (message.msg_flags & MSG_CTRUNC) && control && control->cmsg_len == CMSG_LEN(sizeof(int)));
    close(*(int *)CMSG_DATA(control));
    part.iov_base = "x";
    message.msg_controllen = sizeof space;
    control->cmsg_len = 3;
    CHECK_ERRNO("a control message too short", sendmsg(s[0], &message, 0), EINVAL);
    control->cmsg_len = CMSG_LEN(sizeof(int));
    *(int *)CMSG_DATA(control) = 77;
    message.msg_controllen = CMSG_SPACE(sizeof(int));
    CHECK_ERRNO("a bad descriptor", sendmsg(s[0], &message, 0), EBADF);
    struct ucred liar = {.pid = 1, .uid = 0, .gid = 0};
    char more[CMSG_SPACE(sizeof liar)] = {0};
    message.msg_control = more, message.msg_controllen = sizeof more;
    control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET, control->cmsg_type = SCM_CREDENTIALS, control->cmsg_len = CMSG_LEN(sizeof liar);
    memcpy(CMSG_DATA(control), &liar, sizeof liar);
    if (!IS_ROOT)
        CHECK_ERRNO("false credentials", sendmsg(s[0], &message, 0), EPERM);
    close(s[0]), close(s[1]);
}

int main(void)
{
    enter_scratch();
    streams();
    backlogs();
    datagrams();
    records();
    options();
    truncated();
    return finish();
}
