/* cc: -static
 * read(2), write(2), pread(2), pwrite(2), readv(2) family, lseek(2). */
#include "../check.h"
#include <sys/resource.h>
#include <sys/uio.h>

static int fd;

static void plain(void)
{
    char text[32] = {0};
    CHECK_EQ("read", read(fd, text, 4), 4);
    CHECK("content", memcmp(text, "0123", 4) == 0);
    CHECK_EQ("pread", pread(fd, text, 3, 7), 3);
    CHECK("pread content", memcmp(text, "789", 3) == 0);
    CHECK_EQ("pread keeps the offset", lseek(fd, 0, SEEK_CUR), 4);
    CHECK_EQ("short read at the end", pread(fd, text, 32, 8), 2);
    CHECK_EQ("at the end", pread(fd, text, 32, 10), 0);
    CHECK_EQ("beyond the end", pread(fd, text, 32, 1 << 20), 0);
    CHECK_ERRNO("negative offset", pread(fd, text, 1, -1), EINVAL);
    CHECK_ERRNO("bad buffer", pread(fd, (void *)16, 4, 0), EFAULT);
    CHECK_EQ("bad buffer, length 0", read(fd, (void *)16, 0), 0);
    CHECK_ERRNO("bad descriptor", read(900, text, 1), EBADF);
    CHECK_ERRNO("huge length with a bad buffer", write(fd, (void *)16, ~0ul), EFAULT);
    CHECK_EQ("pwrite", pwrite(fd, "ZZ", 2, 12), 2);
    CHECK_EQ("a hole reads as zero", pread(fd, text, 32, 10), 4);
    CHECK("zeros, then data", memcmp(text, "\0\0ZZ", 4) == 0);
    int append = open("f", O_WRONLY | O_APPEND);
    CHECK_EQ("pwrite on O_APPEND appends", pwrite(append, "end", 3, 0), 3);
    CHECK_EQ("as pwrite(2) says", lseek(append, 0, SEEK_END), 17);
    close(append);
    int pipes[2];
    pipe(pipes);
    CHECK_ERRNO("pread on a pipe", pread(pipes[0], text, 1, 0), ESPIPE);
    CHECK_ERRNO("lseek on a pipe", lseek(pipes[0], 0, SEEK_CUR), ESPIPE);
    CHECK_ERRNO("bad descriptor comes first", pwrite(-1, (void *)16, 1, -1), EINVAL);
}

static void seeks(void)
{
    CHECK_EQ("SEEK_END", lseek(fd, -2, SEEK_END), 15);
    CHECK_EQ("SEEK_CUR", lseek(fd, 100, SEEK_CUR), 115);
    CHECK_ERRNO("before the start", lseek(fd, -1, SEEK_SET), EINVAL);
    CHECK_ERRNO("bad whence", lseek(fd, 0, 99), EINVAL);
    CHECK_EQ("a failed seek moves nothing", lseek(fd, 0, SEEK_CUR), 115);
    CHECK_EQ("SEEK_DATA", lseek(fd, 3, SEEK_DATA), 3);
    CHECK_EQ("SEEK_HOLE is the end", lseek(fd, 3, SEEK_HOLE), 17);
    CHECK_ERRNO("SEEK_DATA beyond", lseek(fd, 400, SEEK_DATA), ENXIO);
    CHECK_ERRNO("overflow", lseek(fd, LONG_MAX, SEEK_CUR), EINVAL);
}

static void vectors(void)
{
    char a[3] = {0}, b[5] = {0};
    struct iovec to[] = {{a, 3}, {NULL, 0}, {b, 5}};
    lseek(fd, 0, SEEK_SET);
    CHECK_EQ("readv", readv(fd, to, 3), 8);
    CHECK("scattered", memcmp(a, "012", 3) == 0 && memcmp(b, "34567", 5) == 0);
    struct iovec from[] = {{"ab", 2}, {"cde", 3}};
    CHECK_EQ("pwritev", pwritev(fd, from, 2, 0), 5);
    CHECK_EQ("preadv", preadv(fd, to, 3, 0), 8);
    CHECK("gathered", memcmp(a, "abc", 3) == 0 && memcmp(b, "de567", 5) == 0);
    CHECK_EQ("no vectors", readv(fd, to, 0), 0);
    CHECK_ERRNO("too many vectors", readv(fd, to, 1025), EINVAL);
    CHECK_ERRNO("negative count", readv(fd, to, -1), EINVAL);
    struct iovec wide[] = {{a, 1}, {b, 1ul << 63}};
    CHECK_ERRNO("a length beyond SSIZE_MAX", readv(fd, wide, 2), EINVAL);
    struct iovec half[] = {{a, 3}, {(void *)16, 5}};
    lseek(fd, 0, SEEK_SET);
    CHECK_EQ("a fault after the first part is a short count", readv(fd, half, 2), 3);
    CHECK_ERRNO("vector array unreadable", readv(fd, (void *)16, 2), EFAULT);
    CHECK_EQ("preadv2 at the offset", preadv2(fd, to, 3, -1, 0), 8);
    CHECK_ERRNO("preadv2 bad flag", preadv2(fd, to, 3, 0, 0x4000000), EOPNOTSUPP);
    CHECK_EQ("pwritev2 RWF_APPEND", pwritev2(fd, from, 2, 0, RWF_APPEND), 5);
    CHECK_EQ("appended", lseek(fd, 0, SEEK_END), 22);
}

static void edge(void)
{
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + PAGE, PAGE);
    char *tail = pages + PAGE - 6;
    CHECK_EQ("read into the last bytes before a hole", pread(fd, tail, 6, 0), 6);
    CHECK("whole content", memcmp(tail, "abcde5", 6) == 0);
    mprotect(pages, PAGE, PROT_READ);
    CHECK_ERRNO("read into read-only memory", pread(fd, tail, 6, 0), EFAULT);
    CHECK_EQ("write from read-only memory", pwrite(fd, tail, 6, 0), 6);
    mprotect(pages, PAGE, PROT_NONE);
    CHECK_ERRNO("write from PROT_NONE", pwrite(fd, tail, 6, 0), EFAULT);
    CHECK_ERRNO("kernel address", write(fd, (void *)0xffffffff81000000, 6), EFAULT);
}

static void limit(void)
{
    struct rlimit size = {10, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &size);
    int file = open("g", O_RDWR | O_CREAT, 0644);
    CHECK_EQ("write up to RLIMIT_FSIZE", write(file, "0123456789abcdef", 16), 10);
    CHECK_ERRNO("then EFBIG", write(file, "x", 1), EFBIG);
    signal(SIGXFSZ, SIG_DFL);
    write(file, "x", 1);
}

int main(void)
{
    enter_scratch();
    fd = new_file("f", "0123456789");
    lseek(fd, 0, SEEK_SET);
    plain();
    seeks();
    vectors();
    edge();
    CHECK("SIGXFSZ kills", killed(in_child(limit), SIGXFSZ));
    return finish();
}
