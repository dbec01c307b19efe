/* cc: -static
 * unix(7): socketpair, streams, datagrams, sequenced packets, names, SCM_RIGHTS, credentials, shutdown. */
#include "../check.h"
#include <sys/socket.h>
#include <sys/un.h>

static char text[256];
static struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};

static void pairs(void)
{
    int s[2];
    CHECK_EQ("socketpair", socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    CHECK_EQ("SOCK_CLOEXEC", fcntl(s[0], F_GETFD), FD_CLOEXEC);
    write(s[0], "ab", 2), write(s[0], "cd", 2);
    CHECK_EQ("a stream has no borders", read(s[1], text, 10), 4);
    CHECK("both ways", write(s[1], "back", 4) == 4 && recv(s[0], text, 10, MSG_PEEK) == 4 && read(s[0], text, 2) == 2);
    CHECK_ERRNO("MSG_DONTWAIT", recv(s[1], text, 10, MSG_DONTWAIT), EAGAIN);
    CHECK_EQ("shutdown for writing", shutdown(s[0], SHUT_WR), 0);
    CHECK_EQ("end of file there", read(s[1], text, 10), 0);
    CHECK_ERRNO("MSG_NOSIGNAL", send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK("the other direction works", write(s[1], "y", 1) == 1 && read(s[0], text, 10) == 3);
    close(s[0]);
    CHECK_ERRNO("peer closed", send(s[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    struct sockaddr_un gone;
    socklen_t length = sizeof gone;
    CHECK("the name of a peer that is gone", getpeername(s[1], (void *)&gone, &length) == 0 && length == 2);
    close(s[1]);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
    write(s[0], "one", 3), write(s[0], "", 0), write(s[0], "three", 5);
    CHECK_EQ("datagrams keep borders", read(s[1], text, 100), 3);
    CHECK_EQ("even empty ones", read(s[1], text, 100), 0);
    CHECK_EQ("truncated", recv(s[1], text, 2, MSG_TRUNC), 5);
    close(s[0]), close(s[1]);
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s);
    write(s[0], "one", 3), write(s[0], "two", 3);
    CHECK("packets", read(s[1], text, 100) == 3 && read(s[1], text, 100) == 3);
    close(s[0]);
    CHECK_EQ("end of packets", read(s[1], text, 100), 0);
    close(s[1]);
}

static void named(void)
{
    int server = socket(AF_UNIX, SOCK_STREAM, 0), status;
    CHECK_EQ("bind", bind(server, (void *)&name, sizeof name), 0);
    struct stat st;
    CHECK("a socket in the file system", stat("socket", &st) == 0 && S_ISSOCK(st.st_mode));
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_ERRNO("not listening", connect(client, (void *)&name, sizeof name), ECONNREFUSED);
    CHECK_EQ("listen", listen(server, 5), 0);
    CHECK_ERRNO("name taken", bind(client, (void *)&name, sizeof name), EADDRINUSE);
    CHECK_ERRNO("open(2) of it", open("socket", O_RDWR), ENXIO);
    pid_t pid = fork();
    if (pid == 0) {
        bool good = connect(client, (void *)&name, sizeof name) == 0 && write(client, "hello", 5) == 5;
        _exit(good && read(client, text, 10) == 2 ? 0 : 1);
    }
    close(client);
    struct sockaddr_un peer;
    socklen_t length = sizeof peer;
    int connection = accept4(server, (void *)&peer, &length, SOCK_NONBLOCK);
    CHECK("accept", connection >= 0 && length == 2 && (fcntl(connection, F_GETFL) & O_NONBLOCK));
    struct pollfd one = {connection, POLLIN, 0};
    CHECK("data", poll(&one, 1, 5000) == 1 && read(connection, text, 100) == 5);
    struct ucred who;
    length = sizeof who;
    CHECK("SO_PEERCRED", getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 && who.pid == pid && who.uid == geteuid());
    length = sizeof peer;
    CHECK("getsockname", getsockname(connection, (void *)&peer, &length) == 0 && strcmp(peer.sun_path, "socket") == 0);
    write(connection, "ok", 2);
    waitpid(pid, &status, 0);
    CHECK("client", exited(status, 0));
    fcntl(server, F_SETFL, O_NONBLOCK);
    CHECK_ERRNO("nobody waits", accept(server, NULL, NULL), EAGAIN);
    CHECK_ERRNO("accept on a connection", accept(connection, NULL, NULL), EINVAL);
    close(server), close(connection);
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_ERRNO("the server is gone", connect(client, (void *)&name, sizeof name), ECONNREFUSED);
    unlink("socket");
    CHECK_ERRNO("the name is gone", connect(client, (void *)&name, sizeof name), ENOENT);
    struct sockaddr_un abstract = {.sun_family = AF_UNIX, .sun_path = "\0trapline-conformance"};
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + 21;
    int receiver = socket(AF_UNIX, SOCK_DGRAM, 0), sender = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK_EQ("abstract name", bind(receiver, (void *)&abstract, size), 0);
    CHECK("sendto, recvfrom", sendto(sender, "dgram", 5, 0, (void *)&abstract, size) == 5 && recv(receiver, text, 100, 0) == 5);
    CHECK_ERRNO("not connected", send(sender, "x", 1, 0), ENOTCONN);
    CHECK_ERRNO("unknown family", socket(77, SOCK_STREAM, 0), EAFNOSUPPORT);
    CHECK_ERRNO("unknown type", socket(AF_UNIX, 77, 0), EINVAL);
    CHECK_ERRNO("not a socket", listen(0, 1), ENOTSOCK);
}

static void rights(void)
{
    int s[2], pipes[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    pipe(pipes);
    char space[CMSG_SPACE(2 * sizeof(int))] = {0};
    struct iovec part = {"fd", 2};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET, control->cmsg_type = SCM_RIGHTS, control->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(control), pipes, sizeof pipes);
    CHECK_EQ("send two descriptors", sendmsg(s[0], &message, 0), 2);
    close(pipes[0]), close(pipes[1]);
    part.iov_base = text;
    memset(space, 0, sizeof space);
    CHECK_EQ("receive", recvmsg(s[1], &message, MSG_CMSG_CLOEXEC), 2);
    int got[2] = {-1, -1};
    control = CMSG_FIRSTHDR(&message);
    CHECK("control message", control && control->cmsg_type == SCM_RIGHTS && control->cmsg_len == CMSG_LEN(8));
    if (control)
        memcpy(got, CMSG_DATA(control), sizeof got);
    CHECK("they are the pipe", write(got[1], "through", 7) == 7 && read(got[0], text, 10) == 7);
    CHECK_EQ("MSG_CMSG_CLOEXEC", fcntl(got[0], F_GETFD), FD_CLOEXEC);
    int on = 1;
    setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    write(s[0], "x", 1);
    message.msg_controllen = sizeof space;
    recvmsg(s[1], &message, 0);
    struct ucred who = {0};
    control = CMSG_FIRSTHDR(&message);
    if (control && control->cmsg_type == SCM_CREDENTIALS)
        memcpy(&who, CMSG_DATA(control), sizeof who);
    CHECK("SO_PASSCRED", who.pid == getpid() && who.uid == geteuid());
}

static int send_descriptor(int socket, const char *bytes, int fd)
{
    char space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {(void *)bytes, strlen(bytes)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET, control->cmsg_type = SCM_RIGHTS, control->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(control), &fd, sizeof fd);
    return sendmsg(socket, &message, 0);
}

static void barrier(void)
{
    int s[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    write(s[0], "plain", 5);
    CHECK_EQ("bytes with a descriptor", send_descriptor(s[0], "with", 0), 4);
    write(s[0], "after", 5);
    char space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    CHECK_EQ("a receive ends behind them", recvmsg(s[1], &message, 0), 9);
    CHECK("with the descriptor", message.msg_controllen == sizeof space && CMSG_FIRSTHDR(&message)->cmsg_type == SCM_RIGHTS);
    message.msg_controllen = sizeof space;
    CHECK("and the rest comes next", recvmsg(s[1], &message, 0) == 5 && message.msg_controllen == 0);
    send_descriptor(s[0], "lost", 0);
    write(s[0], "more", 4);
    CHECK_EQ("read(2) drops descriptors, and ends there too", read(s[1], text, 100), 4);
}

int main(void)
{
    enter_scratch();
    pairs();
    named();
    rights();
    barrier();
    return finish();
}
