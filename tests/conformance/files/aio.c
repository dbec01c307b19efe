/* cc:
 * Linux asynchronous I/O: io_setup(2), io_submit(2), io_getevents(2), io_cancel(2), io_destroy(2).
 */
#include "../check.h"
#include <linux/aio_abi.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

static aio_context_t context;
static struct io_event events[16];

static long setup(unsigned count, aio_context_t *ctx)
{
    return syscall(SYS_io_setup, count, ctx);
}

static long submit(long count, struct iocb **list)
{
    return syscall(SYS_io_submit, context, count, list);
}

static long submit_one(struct iocb *iocb)
{
    return submit(1, &iocb);
}

static long get(long least, long most, long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    memset(events, 0, sizeof events);
    return syscall(SYS_io_getevents, context, least, most, events, ms < 0 ? NULL : &time);
}

static struct iocb make(int opcode, int fd, void *buffer, size_t count, off_t offset)
{
    return (struct iocb){
        .aio_data = 0x1234567890, .aio_lio_opcode = (uint16_t)opcode, .aio_fildes = (uint32_t)fd,
        .aio_buf = (uintptr_t)buffer, .aio_nbytes = count, .aio_offset = offset,
    };
}

static void contexts(void)
{
    aio_context_t other = 1;
    CHECK_ERRNO("not zero", setup(4, &other), EINVAL);
    other = 0;
    CHECK_ERRNO("no events", setup(0, &other), EINVAL);
    CHECK_ERRNO("too many", setup(100000000, &other), EINVAL);
    CHECK_ERRNO("more than aio-max-nr", setup(4000000, &other), EAGAIN);
    CHECK_ERRNO("bad pointer", setup(4, (void *)8), EFAULT);
    CHECK_EQ("setup", setup(4, &context), 0);
    CHECK("a context", context != 0);
    CHECK_EQ("another", setup(4, &other), 0);
    CHECK_EQ("destroy", syscall(SYS_io_destroy, other), 0);
    CHECK_ERRNO("destroy twice", syscall(SYS_io_destroy, other), EINVAL);
    CHECK_ERRNO("no such context", syscall(SYS_io_destroy, 0x1000), EINVAL);
    unsigned *ring = (void *)context;
    CHECK("a ring libraries know", ring[4] == 0xa10a10a1 && ring[7] == 32 && ring[1] > 4);
}

static void transfers(void)
{
    char text[] = "hello asynchronous world", back[64] = "";
    int fd = new_file("file", "");
    struct iocb writes = make(IOCB_CMD_PWRITE, fd, text, sizeof text, 100);
    CHECK_EQ("submit", submit_one(&writes), 1);
    CHECK_EQ("one event", get(1, 16, -1), 1);
    CHECK("its event", events[0].data == 0x1234567890 && events[0].obj == (uintptr_t)&writes && events[0].res2 == 0);
    CHECK_EQ("its result", events[0].res, sizeof text);
    struct iovec parts[2] = {{back, 6}, {back + 6, 58}};
    struct iocb reads = make(IOCB_CMD_PREAD, fd, back, 5, 106), vector = make(IOCB_CMD_PREADV, fd, parts, 2, 100);
    struct iocb sync = make(IOCB_CMD_FSYNC, fd, NULL, 0, 0);
    struct iocb *list[] = {&reads, &vector, &sync};
    CHECK_EQ("three", submit(3, list), 3);
    CHECK_EQ("three events", get(3, 16, -1), 3);
    CHECK("content", strcmp(back, text) == 0);
    long total = 0;
    for (int i = 0; i < 3; i++)
        total += events[i].res;
    CHECK_EQ("results", total, 5 + sizeof text);
    struct iocb past = make(IOCB_CMD_PREAD, fd, back, 5, 100000);
    submit_one(&past);
    CHECK_EQ("end of file", get(1, 1, -1), 1);
    CHECK_EQ("nothing read", events[0].res, 0);
    struct iocb fault = make(IOCB_CMD_PREAD, fd, (void *)8, 5, 100);
    CHECK_EQ("bad buffer is taken", submit_one(&fault), 1);
    get(1, 1, -1);
    CHECK_EQ("and fails", events[0].res, -EFAULT);
    CHECK_EQ("position untouched", lseek(fd, 0, SEEK_CUR), 0);
    close(fd);
}

static void refused(void)
{
    char back[8];
    int fd = open("file", O_RDONLY);
    struct iocb bad = make(IOCB_CMD_PWRITE, fd, back, 1, 0);
    CHECK_ERRNO("not writable", submit_one(&bad), EBADF);
    bad = make(IOCB_CMD_PREAD, 99, back, 1, 0);
    CHECK_ERRNO("no such file", submit_one(&bad), EBADF);
    bad = make(99, fd, back, 1, 0);
    CHECK_ERRNO("no such command", submit_one(&bad), EINVAL);
    bad = make(IOCB_CMD_PREAD, fd, back, 1, -1);
    CHECK_ERRNO("negative offset", submit_one(&bad), EINVAL);
    bad = make(IOCB_CMD_PREAD, fd, back, 1, 0);
    bad.aio_reserved2 = 1;
    CHECK_ERRNO("reserved", submit_one(&bad), EINVAL);
    bad = make(IOCB_CMD_PREAD, fd, back, 1, 0);
    bad.aio_flags = IOCB_FLAG_RESFD, bad.aio_resfd = (uint32_t)fd;
    CHECK_ERRNO("not an eventfd", submit_one(&bad), EINVAL);
    bad = make(IOCB_CMD_FSYNC, fd, back, 1, 0);
    CHECK_ERRNO("sync with a buffer", submit_one(&bad), EINVAL);
    CHECK_ERRNO("bad list", submit(1, (void *)8), EFAULT);
    CHECK_ERRNO("negative count", submit(-1, NULL), EINVAL);
    CHECK_EQ("none", submit(0, NULL), 0);
    struct iocb good = make(IOCB_CMD_PREAD, fd, back, 1, 0);
    struct iocb *list[] = {&good, &bad};
    CHECK_EQ("the good ones before a bad one", submit(2, list), 1);
    CHECK_EQ("its event", get(1, 16, -1), 1);
    CHECK_ERRNO("more wanted than room", get(2, 1, 0), EINVAL);
    CHECK_EQ("none yet", get(0, 16, 0), 0);
    CHECK_EQ("time-out", get(1, 16, 20), 0);
    close(fd);
}

static void waking(void)
{
    int event = eventfd(0, EFD_NONBLOCK), ends[2];
    pipe(ends);
    struct iocb poll_in = make(IOCB_CMD_POLL, ends[0], NULL, 0, 0);
    poll_in.aio_buf = POLLIN;
    poll_in.aio_flags = IOCB_FLAG_RESFD, poll_in.aio_resfd = (uint32_t)event;
    CHECK_EQ("poll", submit_one(&poll_in), 1);
    CHECK_EQ("in flight", get(1, 1, 0), 0);
    uint64_t count = 0;
    CHECK_ERRNO("not told", read(event, &count, 8), EAGAIN);
    write(ends[1], "x", 1);
    CHECK_EQ("done", get(1, 1, -1), 1);
    CHECK_EQ("events", events[0].res & POLLIN, POLLIN);
    CHECK_EQ("told", read(event, &count, 8), 8);
    CHECK_EQ("once", count, 1);
    CHECK_EQ("ready at once", submit_one(&poll_in), 1);
    CHECK_EQ("event", get(1, 1, -1), 1);
    char byte;
    struct iocb stream = make(IOCB_CMD_PREAD, ends[0], &byte, 1, 7);
    CHECK_EQ("a pipe", submit_one(&stream), 1);
    get(1, 1, -1);
    CHECK("its byte", events[0].res == 1 && byte == 'x');
    poll_in.aio_flags = 0;
    submit_one(&poll_in);
    struct io_event unused;
    CHECK_ERRNO("cancel", syscall(SYS_io_cancel, context, &poll_in, &unused), EINPROGRESS);
    CHECK_EQ("its event", get(1, 1, -1), 1);
    CHECK_ERRNO("not in flight", syscall(SYS_io_cancel, context, &poll_in, &unused), EINVAL);
    poll_in.aio_nbytes = 1;
    CHECK_ERRNO("poll with a length", submit_one(&poll_in), EINVAL);
    close(ends[0]), close(ends[1]), close(event);
}

static int pipe_ends[2];

static void writer(void)
{
    sleep_ms(30);
    write(pipe_ends[1], "x", 1);
}

static void nothing(int signo)
{
    (void)signo;
}

static void sleeping(void)
{
    pipe(pipe_ends);
    struct iocb poll_in = make(IOCB_CMD_POLL, pipe_ends[0], NULL, 0, 0);
    poll_in.aio_buf = POLLIN;
    submit_one(&poll_in);
    pid_t pid = fork();
    if (pid == 0) {
        writer();
        _exit(0);
    }
    CHECK_EQ("wakes", get(1, 1, -1), 1);
    waitpid(pid, NULL, 0);
    struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    alarm(1);
    CHECK_ERRNO("a signal ends it", get(1, 1, -1), EINTR);
}

static void child_context(void)
{
    CHECK_ERRNO("no context of the child", get(0, 1, 0), EINVAL);
}

static void by_hand(void)
{
    char byte;
    int fd = open("file", O_RDONLY);
    struct iocb reads = make(IOCB_CMD_PREAD, fd, &byte, 1, 0);
    volatile unsigned *ring = (void *)context;
    submit_one(&reads);
    CHECK("the ring shows it", ring[2] != ring[3]);
    struct io_event *first = (struct io_event *)((char *)context + ring[7]) + ring[2];
    CHECK_EQ("its event", first->obj, (uintptr_t)&reads);
    ring[2] = (ring[2] + 1) % ring[1];
    CHECK_EQ("taken by hand", get(0, 1, 0), 0);
    int many = 0;
    while (many < 1000 && submit_one(&reads) == 1)
        many++;
    CHECK("full at last", many >= 4 && many < 1000 && errno == EAGAIN);
    CHECK_EQ("take some", get(4, 4, 0), 4);
    CHECK_EQ("room again", submit_one(&reads), 1);
    close(fd);
    CHECK("child", exited(in_child(child_context), 0));
    CHECK_EQ("destroy", syscall(SYS_io_destroy, context), 0);
}

int main(void)
{
    enter_scratch();
    contexts();
    transfers();
    refused();
    waking();
    sleeping();
    by_hand();
    return finish();
}
