/* cc: -lrt
 * POSIX message queues: mq_open(3) and its kin, priorities, time-outs, notification, poll(2).
 */
#include "../check.h"
#include <mqueue.h>
#include <sys/resource.h>

static char name[32];
static mqd_t queue;

static mqd_t open_small(int flags)
{
    struct mq_attr attr = {.mq_maxmsg = 3, .mq_msgsize = 16};
    return mq_open(name, O_CREAT | O_RDWR | flags, 0600, &attr);
}

static void opening(void)
{
    struct mq_attr attr;
    CHECK_ERRNO("not there", mq_open(name, O_RDWR), ENOENT);
    queue = open_small(O_EXCL);
    CHECK("create", queue >= 0);
    CHECK_ERRNO("exclusive", open_small(O_EXCL), EEXIST);
    CHECK_EQ("close on exec", fcntl(queue, F_GETFD), FD_CLOEXEC);
    CHECK_EQ("attributes", mq_getattr(queue, &attr), 0);
    CHECK("as asked", attr.mq_maxmsg == 3 && attr.mq_msgsize == 16 && attr.mq_curmsgs == 0 && attr.mq_flags == 0);
    CHECK_ERRNO("two components", mq_open("/a/b", O_RDWR), EACCES);
    char longer[NAME_MAX + 10];
    memset(longer, 'x', sizeof longer);
    longer[0] = '/', longer[NAME_MAX + 2] = 0;
    CHECK_ERRNO("too long", mq_open(longer, O_RDWR), ENAMETOOLONG);
    CHECK_ERRNO("no name", syscall(SYS_mq_open, "", O_RDWR, 0, NULL), ENOENT);
    CHECK_ERRNO("dot", syscall(SYS_mq_open, ".", O_RDWR, 0, NULL), EACCES);
    struct mq_attr bad = {.mq_maxmsg = 0, .mq_msgsize = 16};
    CHECK_ERRNO("no messages", mq_open("/conformance-bad", O_CREAT | O_RDWR, 0600, &bad), EINVAL);
    bad.mq_maxmsg = 1, bad.mq_msgsize = 1l << 40;
    CHECK_ERRNO("too large", mq_open("/conformance-bad", O_CREAT | O_RDWR, 0600, &bad), EINVAL);
    CHECK_ERRNO("bad attributes", syscall(SYS_mq_open, "conformance-bad", O_CREAT | O_RDWR, 0600, (void *)8), EFAULT);
    struct rlimit none = {0, 0}, old;
    getrlimit(RLIMIT_MSGQUEUE, &old);
    none.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_MSGQUEUE, &none);
    CHECK_ERRNO("RLIMIT_MSGQUEUE", mq_open("/conformance-bad", O_CREAT | O_RDWR, 0600, NULL), EMFILE);
    setrlimit(RLIMIT_MSGQUEUE, &old);
}

static void messages(void)
{
    char text[16];
    unsigned priority;
    CHECK_EQ("send low", mq_send(queue, "low", 4, 1), 0);
    CHECK_EQ("send high", mq_send(queue, "high", 5, 9), 0);
    CHECK_EQ("send low again", mq_send(queue, "later", 6, 1), 0);
    struct mq_attr attr;
    mq_getattr(queue, &attr);
    CHECK_EQ("three", attr.mq_curmsgs, 3);
    struct timespec past = {1, 0}, bad = {1, 1000000000};
    CHECK_ERRNO("full", mq_timedsend(queue, "x", 1, 0, &past), ETIMEDOUT);
    CHECK_ERRNO("bad time", mq_timedsend(queue, "x", 1, 0, &bad), EINVAL);
    CHECK_EQ("high first", mq_receive(queue, text, sizeof text, &priority), 5);
    CHECK("is high", strcmp(text, "high") == 0 && priority == 9);
    mq_receive(queue, text, sizeof text, &priority);
    CHECK("then in order", strcmp(text, "low") == 0 && priority == 1);
    CHECK_EQ("no priority asked", mq_receive(queue, text, sizeof text, NULL), 6);
    CHECK("later", strcmp(text, "later") == 0);
    CHECK_ERRNO("empty", mq_timedreceive(queue, text, sizeof text, NULL, &past), ETIMEDOUT);
    CHECK_ERRNO("buffer too small", mq_receive(queue, text, 15, NULL), EMSGSIZE);
    CHECK_ERRNO("message too long", mq_send(queue, text, 17, 0), EMSGSIZE);
    CHECK_ERRNO("priority too high", mq_send(queue, text, 1, 32768), EINVAL);
    CHECK_EQ("highest priority", mq_send(queue, text, 0, 32767), 0);
    CHECK_EQ("empty message", mq_receive(queue, text, sizeof text, &priority), 0);
    CHECK_EQ("its priority", priority, 32767);
    CHECK_ERRNO("not a queue", mq_send(1, "x", 1, 0), EBADF);
    mqd_t reader = mq_open(name, O_RDONLY | O_NONBLOCK);
    CHECK_ERRNO("reader sends", mq_send(reader, "x", 1, 0), EBADF);
    CHECK_ERRNO("would block", mq_receive(reader, text, sizeof text, NULL), EAGAIN);
    mq_getattr(reader, &attr);
    CHECK_EQ("O_NONBLOCK shows", attr.mq_flags, O_NONBLOCK);
    struct mq_attr block = {0}, old;
    CHECK_EQ("setattr", mq_setattr(reader, &block, &old), 0);
    CHECK_EQ("old flags", old.mq_flags, O_NONBLOCK);
    CHECK_EQ("blocking now", fcntl(reader, F_GETFL) & O_NONBLOCK, 0);
    block.mq_flags = O_APPEND;
    CHECK_ERRNO("other flags", mq_setattr(reader, &block, NULL), EINVAL);
    mqd_t writer = mq_open(name, O_WRONLY);
    CHECK_ERRNO("writer receives", mq_receive(writer, text, sizeof text, NULL), EBADF);
    mq_close(reader), mq_close(writer);
}

static void sleeping(void)
{
    char text[16];
    pid_t pid = fork();
    if (pid == 0)
        _exit(mq_receive(queue, text, sizeof text, NULL) != 3 || strcmp(text, "hi"));
    until_asleep(pid);
    mq_send(queue, "hi", 3, 0);
    int status;
    waitpid(pid, &status, 0);
    CHECK("receiver woken", exited(status, 0));
    for (int i = 0; i < 3; i++)
        mq_send(queue, "x", 2, 5);
    pid = fork();
    if (pid == 0)
        _exit(mq_send(queue, "first", 6, 30) != 0);
    until_asleep(pid);
    CHECK_EQ("take one", mq_receive(queue, text, sizeof text, NULL), 2);
    waitpid(pid, &status, 0);
    CHECK("sender woken", exited(status, 0));
    mq_receive(queue, text, sizeof text, NULL);
    CHECK("by priority", strcmp(text, "first") == 0);
    mq_receive(queue, text, sizeof text, NULL), mq_receive(queue, text, sizeof text, NULL);
}

static void polling(void)
{
    struct pollfd poll_fd = {.fd = queue, .events = POLLIN | POLLOUT};
    CHECK_EQ("poll", poll(&poll_fd, 1, 0), 1);
    CHECK_EQ("room only", poll_fd.revents, POLLOUT);
    mq_send(queue, "x", 1, 0);
    poll(&poll_fd, 1, 0);
    CHECK_EQ("both", poll_fd.revents, POLLIN | POLLOUT);
    mq_send(queue, "x", 1, 0), mq_send(queue, "x", 1, 0);
    poll(&poll_fd, 1, 0);
    CHECK_EQ("message only", poll_fd.revents, POLLIN);
    char text[64];
    CHECK("text", read(queue, text, 63) > 0 && strncmp(text, "QSIZE:3          NOTIFY:0     SIGNO:0     NOTIFY_PID:0 ", 55) == 0);
    for (int i = 0; i < 3; i++)
        mq_receive(queue, text, 16, NULL);
}

static volatile siginfo_t heard;
static volatile int times;

static void hear(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)context;
    heard = *info;
    times++;
}

static void notification(void)
{
    char text[16];
    catch_with(SIGRTMIN, hear, SA_RESTART);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 77};
    CHECK_EQ("register", mq_notify(queue, &event), 0);
    CHECK_ERRNO("only one", mq_notify(queue, &event), EBUSY);
    pid_t pid = fork();
    if (pid == 0)
        _exit(mq_notify(queue, &event) != -1 || errno != EBUSY || mq_notify(queue, NULL) != 0 || mq_send(queue, "x", 1, 0) != 0);
    int status;
    waitpid(pid, &status, 0);
    CHECK("child", exited(status, 0));
    CHECK_EQ("heard", times, 1);
    CHECK("who and what", heard.si_code == SI_MESGQ && heard.si_value.sival_int == 77 && heard.si_pid == pid);
    mq_send(queue, "x", 1, 0);
    CHECK_EQ("once", times, 1);
    mq_receive(queue, text, 16, NULL);
    CHECK_EQ("again", mq_notify(queue, &event), 0);
    mq_send(queue, "x", 1, 0);
    CHECK_EQ("not from 1 to 2", times, 1);
    mq_receive(queue, text, 16, NULL), mq_receive(queue, text, 16, NULL);
    mq_send(queue, "x", 1, 0);
    CHECK_EQ("from 0 to 1", times, 2);
    mq_receive(queue, text, 16, NULL);
    mq_notify(queue, &event);
    CHECK_EQ("unregister", mq_notify(queue, NULL), 0);
    mq_send(queue, "x", 1, 0);
    CHECK_EQ("nothing", times, 2);
    mq_receive(queue, text, 16, NULL);
    event.sigev_notify = SIGEV_NONE;
    CHECK_EQ("SIGEV_NONE", mq_notify(queue, &event), 0);
    int again = dup(queue);
    close(again);
    event.sigev_notify = SIGEV_SIGNAL;
    CHECK_EQ("closing any descriptor unregisters", mq_notify(queue, &event), 0);
    mq_notify(queue, NULL);
    event.sigev_notify = 99;
    CHECK_ERRNO("no such kind", syscall(SYS_mq_notify, queue, &event), EINVAL);
    event.sigev_notify = SIGEV_SIGNAL, event.sigev_signo = 65;
    CHECK_ERRNO("no such signal", mq_notify(queue, &event), EINVAL);
    CHECK_ERRNO("not a queue", mq_notify(1, NULL), EBADF);
}

static void as_nobody(void)
{
    CHECK_EQ("become nobody", setgid(65534) | setuid(65534), 0);
    CHECK_ERRNO("another's queue", mq_open(name, O_RDONLY), EACCES);
    CHECK_ERRNO("unlink another's", syscall(SYS_mq_unlink, name + 1), EPERM);
}

static void unlinking(void)
{
    char text[16];
    if (IS_ROOT)
        CHECK("nobody", exited(in_child(as_nobody), 0));
    CHECK_EQ("unlink", mq_unlink(name), 0);
    CHECK_ERRNO("unlink again", mq_unlink(name), ENOENT);
    CHECK_ERRNO("no name any more", mq_open(name, O_RDWR), ENOENT);
    CHECK_EQ("still works", mq_send(queue, "x", 1, 0), 0);
    mqd_t other = open_small(O_EXCL | O_NONBLOCK);
    CHECK("a new one of that name", other >= 0);
    CHECK_ERRNO("is another", mq_receive(other, text, sizeof text, NULL), EAGAIN);
    mq_unlink(name);
    mq_close(other);
    CHECK_EQ("close", mq_close(queue), 0);
}

int main(void)
{
    snprintf(name, sizeof name, "/conformance-%d", (int)getpid());
    opening();
    messages();
    sleeping();
    polling();
    notification();
    unlinking();
    return finish();
}
