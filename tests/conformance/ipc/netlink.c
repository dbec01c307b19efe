/* cc: -static -pthread
 * netlink(7): names, requests of rtnetlink(7) about the loopback, refusals; and mq_notify(3) with SIGEV_THREAD, which uses it. */
#include "../check.h"
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <mqueue.h>
#include <net/if.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>

#define TO_KERNEL(name) struct sockaddr_nl name = {.nl_family = AF_NETLINK}

static char answer[65536];

static void sockets(void)
{
    CHECK_ERRNO("no streams", socket(AF_NETLINK, SOCK_STREAM, 0), ESOCKTNOSUPPORT);
    CHECK_ERRNO("no such type", socket(AF_NETLINK, 99, 0), EINVAL);
    CHECK_ERRNO("no such protocol", socket(AF_NETLINK, SOCK_RAW, 32), EPROTONOSUPPORT);
    CHECK_ERRNO("a negative one", socket(AF_NETLINK, SOCK_RAW, -1), EPROTONOSUPPORT);
    int pair[2];
    CHECK_ERRNO("no pairs", socketpair(AF_NETLINK, SOCK_RAW, 0, pair), EOPNOTSUPP);
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), value = 0;
    socklen_t length = sizeof value;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length);
    CHECK_EQ("SO_TYPE", value, SOCK_RAW);
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &length);
    CHECK_EQ("SO_DOMAIN", value, AF_NETLINK);
    CHECK_ERRNO("listen", listen(fd, 1), EOPNOTSUPP);
    CHECK_ERRNO("accept", accept(fd, NULL, NULL), EOPNOTSUPP);
    CHECK_ERRNO("shutdown", shutdown(fd, SHUT_RDWR), EOPNOTSUPP);
    CHECK_ERRNO("nothing to receive", recv(fd, answer, 1, MSG_DONTWAIT), EAGAIN);
    value = 1;
    CHECK_EQ("NETLINK_EXT_ACK", setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &value, sizeof value), 0);
    CHECK_EQ("a group", setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &value, sizeof value), 0);
    value = 0;
    CHECK_ERRNO("no group 0", setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &value, sizeof value), EINVAL);
    CHECK_ERRNO("no such option", setsockopt(fd, SOL_NETLINK, 99, &value, sizeof value), ENOPROTOOPT);
    close(fd);
}

static void names(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW, 0), other = socket(AF_NETLINK, SOCK_DGRAM, 0);
    TO_KERNEL(name);
    socklen_t length = sizeof name;
    getsockname(fd, (struct sockaddr *)&name, &length);
    CHECK("no name at first", length == sizeof name && name.nl_family == AF_NETLINK && name.nl_pid == 0);
    name.nl_pid = 0;
    CHECK_ERRNO("a short name", bind(fd, (struct sockaddr *)&name, sizeof name - 1), EINVAL);
    name.nl_family = AF_UNIX;
    CHECK_ERRNO("another family's", bind(fd, (struct sockaddr *)&name, sizeof name), EINVAL);
    name.nl_family = AF_NETLINK;
    CHECK_EQ("bind", bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    getsockname(fd, (struct sockaddr *)&name, &length);
    CHECK_EQ("the process's number", name.nl_pid, getpid());
    CHECK_ERRNO("taken", bind(other, (struct sockaddr *)&name, sizeof name), EADDRINUSE);
    name.nl_pid = 77777777;
    CHECK_ERRNO("not another one", bind(fd, (struct sockaddr *)&name, sizeof name), EINVAL);
    CHECK_EQ("any number", bind(other, (struct sockaddr *)&name, sizeof name), 0);
    CHECK_EQ("groups, later", (name.nl_groups = 1, bind(other, (struct sockaddr *)&name, sizeof name)), 0);
    TO_KERNEL(peer);
    peer.nl_pid = 5;
    CHECK_EQ("getpeername", getpeername(fd, (struct sockaddr *)&peer, &length), 0);
    CHECK_EQ("is the kernel", peer.nl_pid, 0);
    CHECK_EQ("connect", connect(fd, (struct sockaddr *)&peer, sizeof peer), 0);
    peer.nl_pid = 77777777;
    if (IS_ROOT) {
        CHECK_EQ("connect to a process", connect(fd, (struct sockaddr *)&peer, sizeof peer), 0);
        CHECK_EQ("send to it", send(fd, "hello", 5, 0), 5);
        TO_KERNEL(from);
        CHECK_EQ("receive", recvfrom(other, answer, 99, 0, (struct sockaddr *)&from, &length), 5);
        CHECK_EQ("from", from.nl_pid, getpid());
        peer.nl_pid = 77777778;
        CHECK_ERRNO("nobody", sendto(fd, "x", 1, 0, (struct sockaddr *)&peer, sizeof peer), ECONNREFUSED);
    } else {
        CHECK_ERRNO("not to a process", connect(fd, (struct sockaddr *)&peer, sizeof peer), EPERM);
        CHECK_ERRNO("nor a message", sendto(fd, "x", 1, 0, (struct sockaddr *)&peer, sizeof peer), EPERM);
    }
    close(fd);
    close(other);
}

static int ask(int fd, int type, int flags, const void *body, size_t size)
{
    struct {
        struct nlmsghdr head;
        char body[64];
    } request = {.head = {.nlmsg_len = NLMSG_LENGTH(size), .nlmsg_type = type, .nlmsg_flags = flags, .nlmsg_seq = 4711}};
    memcpy(request.body, body, size);
    send(fd, &request, request.head.nlmsg_len, 0);
    return (int)recv(fd, answer, sizeof answer, MSG_DONTWAIT);
}

/* The errno of an acknowledgement; -1: it is none. */
static int refusal(int length)
{
    struct nlmsghdr *head = (struct nlmsghdr *)answer;
    if (length < (int)NLMSG_LENGTH(sizeof(struct nlmsgerr)) || head->nlmsg_type != NLMSG_ERROR || head->nlmsg_seq != 4711)
        return -1;
    return -((struct nlmsgerr *)NLMSG_DATA(head))->error;
}

static void requests(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW, 0);
    struct ifinfomsg link = {.ifi_family = AF_UNSPEC};
    int length = ask(fd, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, &link, sizeof link);
    struct nlmsghdr *head = (struct nlmsghdr *)answer;
    struct ifinfomsg *found = NLMSG_DATA(head);
    CHECK("a dump", length > 0 && head->nlmsg_type == RTM_NEWLINK && head->nlmsg_flags & NLM_F_MULTI && head->nlmsg_seq == 4711);
    CHECK("to us", head->nlmsg_pid == (uint32_t)getpid());
    CHECK("begins with the loopback", found->ifi_index == 1 && found->ifi_flags & IFF_LOOPBACK && found->ifi_type == 772);
    bool done = false;
    while (!done && length > 0) {
        for (head = (struct nlmsghdr *)answer; NLMSG_OK(head, (unsigned)length); head = NLMSG_NEXT(head, length))
            done |= head->nlmsg_type == NLMSG_DONE;
        if (!done)
            length = (int)recv(fd, answer, sizeof answer, MSG_DONTWAIT);
    }
    CHECK("and has an end", done);
    link.ifi_index = 1;
    length = ask(fd, RTM_GETLINK, NLM_F_REQUEST, &link, sizeof link);
    CHECK("one link", length > 0 && ((struct nlmsghdr *)answer)->nlmsg_type == RTM_NEWLINK);
    link.ifi_index = 0x7ffffff0;
    CHECK_EQ("no such link", refusal(ask(fd, RTM_GETLINK, NLM_F_REQUEST, &link, sizeof link)), ENODEV);
    link.ifi_index = 0;
    CHECK_EQ("no link at all", refusal(ask(fd, RTM_GETLINK, NLM_F_REQUEST, &link, sizeof link)), EINVAL);
    CHECK_EQ("not a type", refusal(ask(fd, 5000, NLM_F_REQUEST, &link, sizeof link)), EOPNOTSUPP);
    CHECK_EQ("no request, an answer", refusal(ask(fd, RTM_GETLINK, NLM_F_ACK, &link, sizeof link)), 0);
    CHECK_EQ("nothing, an answer", refusal(ask(fd, NLMSG_NOOP, NLM_F_REQUEST | NLM_F_ACK, &link, 0)), 0);
    CHECK_EQ("no request, no answer", ask(fd, RTM_GETLINK, 0, &link, sizeof link), -1);
    CHECK_EQ("bytes that are nothing", send(fd, "short", 5, 0), 5);
    CHECK_ERRNO("have no answer", recv(fd, answer, sizeof answer, MSG_DONTWAIT), EAGAIN);
    if (!IS_ROOT)
        CHECK_EQ("changes are root's", refusal(ask(fd, RTM_DELLINK, NLM_F_REQUEST, &link, sizeof link)), EPERM);
    close(fd);
}

static void of_the_library(void)
{
    struct if_nameindex *all = if_nameindex();
    CHECK("if_nameindex", all && all[0].if_index == 1 && strcmp(all[0].if_name, "lo") == 0);
    if_freenameindex(all);
    struct ifaddrs *list = NULL;
    CHECK_EQ("getifaddrs", getifaddrs(&list), 0);
    CHECK("begins with lo", list && strcmp(list->ifa_name, "lo") == 0 && list->ifa_flags & IFF_LOOPBACK);
    freeifaddrs(list);
}

static sem_t woken;
static int told;

static void on_message(union sigval value)
{
    told = value.sival_int;
    sem_post(&woken);
}

static void threads(void)
{
    char name[64];
    snprintf(name, sizeof name, "/netlink-%d", (int)getpid());
    struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 64};
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT, 0600, &attr);
    mq_unlink(name);
    sem_init(&woken, 0, 0);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 41};
    event.sigev_notify_function = on_message;
    CHECK_EQ("mq_notify by a thread", mq_notify(queue, &event), 0);
    CHECK_ERRNO("once", mq_notify(queue, &event), EBUSY);
    mq_send(queue, "x", 1, 0);
    sem_wait(&woken);
    CHECK_EQ("it is called", told, 41);
    mq_receive(queue, answer, 64, NULL);
    event.sigev_value.sival_int = 42;
    CHECK_EQ("again", mq_notify(queue, &event), 0);
    CHECK_EQ("and not", mq_notify(queue, NULL), 0);
    mq_send(queue, "x", 1, 0);
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 50000000;
    soon.tv_sec += soon.tv_nsec / 1000000000, soon.tv_nsec %= 1000000000;
    CHECK_ERRNO("nothing is called then", sem_timedwait(&woken, &soon), ETIMEDOUT);
    mq_close(queue);
}

/* What glibc does, by hand. */
static void cookies(void)
{
    char name[64], cookie[32] = "0123456789abcdef0123456789abcde", got[64];
    snprintf(name, sizeof name, "/cookie-%d", (int)getpid());
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT, 0600, NULL);
    mq_unlink(name);
    int fd = socket(AF_NETLINK, SOCK_RAW, 0), file = open("/dev/null", O_RDONLY), stream = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_signo = fd, .sigev_value.sival_ptr = cookie};
#define NOTIFY(event) syscall(SYS_mq_notify, queue, event)
    CHECK_EQ("a cookie", NOTIFY(&event), 0);
    mq_send(queue, "x", 1, 0);
    CHECK_EQ("comes back", recv(fd, got, sizeof got, MSG_DONTWAIT), 32);
    CHECK("as it was, woken", memcmp(got, cookie, 31) == 0 && got[31] == 1);
    mq_receive(queue, answer, 8192, NULL);
    NOTIFY(&event);
    NOTIFY(NULL);
    CHECK_EQ("comes back too", recv(fd, got, sizeof got, MSG_DONTWAIT), 32);
    CHECK_EQ("removed", got[31], 2);
    NOTIFY(&event);
    mq_close(queue);
    CHECK("removed by close", recv(fd, got, sizeof got, MSG_DONTWAIT) == 32 && got[31] == 2);
    event.sigev_value.sival_ptr = (void *)8;
    CHECK_ERRNO("a bad cookie", NOTIFY(&event), EFAULT);
    event.sigev_value.sival_ptr = cookie;
    event.sigev_signo = file;
    CHECK_ERRNO("not a socket", NOTIFY(&event), ENOTSOCK);
    event.sigev_signo = stream;
    CHECK_ERRNO("not of netlink", NOTIFY(&event), EINVAL);
    event.sigev_signo = 999;
    CHECK_ERRNO("not open", NOTIFY(&event), EBADF);
    close(fd);
}

int main(void)
{
    sockets();
    names();
    requests();
    of_the_library();
    threads();
    cookies();
    return finish();
}
