/* cc: -pthread; only x86_64
 * seccomp_unotify(2): a filter whose verdicts another process makes.
 */
#include "../check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static int listener;

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV 32
#endif

static int install_with(unsigned flags)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mkdir, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 4, .filter = code};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static int install(void)
{
    return install_with(SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

static void send_fd(int via, int fd)
{
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    sendmsg(via, &message, 0);
}

static int receive_fd(int via)
{
    int fd = -1;
    char control[CMSG_SPACE(sizeof fd)], byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(via, &message, 0) == 1 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static bool makes(const char *path, int want)
{
    errno = 0;
    return (mkdir(path, 0700) == 0 ? 0 : errno) == want;
}

/* The filtered process: each line is one request. */
static void filtered(int via)
{
    int fd = install();
    if (fd < 0 || fcntl(fd, F_GETFD) != FD_CLOEXEC || install() != -1 || errno != EBUSY)
        _exit(1);
    send_fd(via, fd);
    close(fd);
    if (!makes("refused", EXDEV))
        _exit(2);
    if (syscall(SYS_mkdir, "value", 0700) != 4711)
        _exit(3);
    if (!makes("let", 0) || access("let", F_OK) != 0 || access("refused", F_OK) == 0)
        _exit(4);
    int given = mkdir("descriptor", 0700);
    char text[8] = "";
    if (given != 30 || read(given, text, 5) != 5 || strcmp(text, "given"))
        _exit(5);
    if (!makes("nobody", ENOSYS))
        _exit(6);
    _exit(0);
}

static struct seccomp_notif request;

static long receive(void)
{
    memset(&request, 0, sizeof request);
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request);
}

static long answer(int64_t value, int error, unsigned flags)
{
    struct seccomp_notif_resp response = {.id = request.id, .val = value, .error = error, .flags = flags};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

static void last_user(void)
{
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = install();
        send_fd(pair[1], fd);
        _exit(0);
    }
    struct pollfd poll_fd = {.fd = receive_fd(pair[0]), .events = POLLIN};
    waitpid(pid, NULL, 0);
    CHECK_EQ("hung up when nobody is filtered any more", poll(&poll_fd, 1, 5000), 1);
    CHECK_EQ("POLLHUP", poll_fd.revents, POLLHUP);
    listener = poll_fd.fd;
    CHECK_ERRNO("nothing will come", receive(), ENOENT);
}

static volatile int caught;

static void catch_it(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info, (void)context;
    caught++;
}

/* A process whose request was received gets a signal: is the request still there? */
static bool survives(unsigned flags, int signo, int *status)
{
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    pid_t pid = fork();
    if (pid == 0) {
        catch_with(SIGUSR1, catch_it, 0);
        int fd = install_with(SECCOMP_FILTER_FLAG_NEW_LISTENER | flags);
        send_fd(pair[1], fd);
        close(fd);
        long value = syscall(SYS_mkdir, "interrupted", 0700);
        _exit(value == 4711 && caught == 1 ? 1 : value < 0 && errno == EINTR && caught == 1 ? 2 : 3);
    }
    listener = receive_fd(pair[0]);
    receive();
    kill(pid, signo);
    sleep_ms(60);
    bool there = ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &request.id) == 0;
    if (there)
        answer(4711, 0, 0);
    waitpid(pid, status, 0);
    close(listener), close(pair[0]), close(pair[1]);
    return there;
}

static void killable(void)
{
    int status;
    CHECK("a signal takes a request back", !survives(0, SIGUSR1, &status) && exited(status, 2));
    CHECK("not one that was received and waits killable", survives(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, SIGUSR1, &status) && exited(status, 1));
    CHECK("unless it kills", !survives(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, SIGKILL, &status) && killed(status, SIGKILL));
    CHECK("whatever signal that is", !survives(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, SIGTERM, &status) && killed(status, SIGTERM));
    CHECK_ERRNO("it needs a listener", install_with(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV), EINVAL);
}

int main(void)
{
    enter_scratch();
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    struct seccomp_notif_sizes sizes;
    CHECK_EQ("sizes", syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes), 0);
    CHECK("what they are", sizes.seccomp_notif == 80 && sizes.seccomp_notif_resp == 24 && sizes.seccomp_data == 64);
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    pid_t pid = fork();
    if (pid == 0)
        filtered(pair[1]);
    close(pair[1]);
    listener = receive_fd(pair[0]);
    CHECK("the listener", listener >= 0);
    CHECK_EQ("receive", receive(), 0);
    CHECK("who and what", request.pid == (unsigned)pid && request.data.nr == SYS_mkdir && request.data.args[1] == 0700);
    struct pollfd poll_fd = {.fd = listener, .events = POLLIN | POLLOUT};
    CHECK_EQ("poll", poll(&poll_fd, 1, 0), 1);
    CHECK_EQ("to be answered", poll_fd.revents, POLLOUT);
    CHECK_EQ("still valid", ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &request.id), 0);
    uint64_t other = request.id + 1;
    CHECK_ERRNO("another is not", ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &other), ENOENT);
    CHECK_ERRNO("go on, but fail", answer(0, -EPERM, SECCOMP_USER_NOTIF_FLAG_CONTINUE), EINVAL);
    CHECK_ERRNO("unknown flag", answer(0, 0, 8), EINVAL);
    CHECK_EQ("refuse", answer(0, -EXDEV, 0), 0);
    CHECK_EQ("receive", receive(), 0);
    CHECK_EQ("a value", answer(4711, 0, 0), 0);
    CHECK_EQ("receive", receive(), 0);
    CHECK_EQ("let it", answer(0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE), 0);
    CHECK_EQ("receive", receive(), 0);
    int file = new_file("given", "given");
    lseek(file, 0, SEEK_SET);
    struct seccomp_notif_addfd gift = {.id = request.id, .srcfd = (unsigned)file, .newfd = 30};
    CHECK_ERRNO("a place without the flag", ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &gift), EINVAL);
    gift.flags = SECCOMP_ADDFD_FLAG_SETFD;
    struct {
        struct seccomp_notif_addfd known;
        uint64_t unknown;
    } longer = {gift, 1};
    CHECK_ERRNO("more than is known", ioctl(listener, _IOW('!', 3, longer), &longer), E2BIG);
    CHECK_ERRNO("less than is needed", ioctl(listener, _IOW('!', 3, uint64_t), &gift), EINVAL);
    longer.unknown = 0, longer.known.newfd = 31;
    CHECK_EQ("a longer one that says no more", ioctl(listener, _IOWR('!', 3, longer), &longer), 31);
    CHECK_EQ("give a descriptor", ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &gift), 30);
    CHECK_EQ("and its number", answer(30, 0, 0), 0);
    request.id = 0;
    CHECK_ERRNO("no such request", answer(0, 0, 0), ENOENT);
    CHECK_ERRNO("no such command", ioctl(listener, _IO('!', 99)), EINVAL);
    while (poll(&poll_fd, 1, 1000) == 1 && !(poll_fd.revents & POLLIN))
        ;
    memset(&request, 1, sizeof request);
    CHECK_ERRNO("not zero", ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request), EINVAL);
    close(listener);
    int status;
    waitpid(pid, &status, 0);
    CHECK("the filtered process saw it all", exited(status, 0));
    last_user();
    killable();
    return finish();
}
