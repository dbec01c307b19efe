/* cc: -static
 * sendfile(2), splice(2), tee(2), vmsplice(2), copy_file_range(2). */
#include "../check.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

static int from, to, pipes[2];
static char text[64];

static void by_sendfile(void)
{
    off_t offset = 2;
    CHECK_EQ("sendfile with an offset", sendfile(to, from, &offset, 4), 4);
    CHECK_EQ("offset moved", offset, 6);
    CHECK_EQ("file position did not", lseek(from, 0, SEEK_CUR), 0);
    CHECK_EQ("sendfile without", sendfile(to, from, NULL, 3), 3);
    CHECK_EQ("file position moved", lseek(from, 0, SEEK_CUR), 3);
    CHECK_EQ("destination", pread(to, text, 64, 0), 7);
    CHECK("content", memcmp(text, "2345012", 7) == 0);
    offset = 100;
    CHECK_EQ("at the end", sendfile(to, from, &offset, 3), 0);
    CHECK_EQ("file to pipe", sendfile(pipes[1], from, NULL, 100), 7);
    CHECK_EQ("in the pipe", read(pipes[0], text, 64), 7);
    CHECK_ERRNO("from a pipe", sendfile(to, pipes[0], NULL, 3), EINVAL);
    int append = open("to", O_WRONLY | O_APPEND);
    CHECK_ERRNO("to O_APPEND", sendfile(append, from, NULL, 3), EINVAL);
    CHECK_ERRNO("closed", sendfile(to, 900, NULL, 3), EBADF);
    offset = -1;
    CHECK_ERRNO("negative offset", sendfile(to, from, &offset, 3), EINVAL);
    CHECK_ERRNO("bad pointer", sendfile(to, from, (off_t *)8, 3), EFAULT);
}

static void by_splice(void)
{
    loff_t offset = 1;
    CHECK_EQ("file to pipe", splice(from, &offset, pipes[1], NULL, 5, 0), 5);
    CHECK_EQ("offset moved", offset, 6);
    int second[2];
    pipe(second);
    CHECK_EQ("tee copies", tee(pipes[0], second[1], 3, 0), 3);
    CHECK_EQ("tee consumed nothing", read(pipes[0], text, 64), 5);
    CHECK("content", memcmp(text, "12345", 5) == 0);
    CHECK_EQ("copy has a part", read(second[0], text, 64), 3);
    write(pipes[1], "abc", 3);
    CHECK_EQ("pipe to pipe", splice(pipes[0], NULL, second[1], NULL, 2, 0), 2);
    offset = 20;
    CHECK_EQ("pipe to file", splice(second[0], NULL, to, &offset, 64, 0), 2);
    CHECK_EQ("file grew", lseek(to, 0, SEEK_END), 22);
    CHECK_EQ("rest stays", read(pipes[0], text, 64), 1);
    CHECK_ERRNO("no pipe among them", splice(from, NULL, to, NULL, 3, 0), EINVAL);
    CHECK_ERRNO("offset for a pipe", splice(pipes[0], &offset, to, NULL, 3, 0), ESPIPE);
    CHECK_ERRNO("empty, SPLICE_F_NONBLOCK", splice(pipes[0], NULL, to, NULL, 3, SPLICE_F_NONBLOCK), EAGAIN);
    CHECK_ERRNO("bad flag", splice(pipes[0], NULL, to, NULL, 3, 0x100), EINVAL);
    CHECK_ERRNO("tee of one pipe to itself", tee(pipes[0], pipes[1], 3, 0), EINVAL);
    CHECK_ERRNO("tee of a file", tee(from, pipes[1], 3, 0), EINVAL);
    struct iovec parts[] = {{"he", 2}, {"llo", 3}};
    CHECK_EQ("vmsplice", vmsplice(pipes[1], parts, 2, 0), 5);
    CHECK("arrived", read(pipes[0], text, 64) == 5 && memcmp(text, "hello", 5) == 0);
    close(second[1]);
    CHECK_EQ("end of file", splice(second[0], NULL, to, NULL, 3, 0), 0);
}

static void by_copy(void)
{
    loff_t in = 3, out = 50;
    CHECK_EQ("copy_file_range", copy_file_range(from, &in, to, &out, 4, 0), 4);
    CHECK("offsets moved", in == 7 && out == 54);
    CHECK("content", pread(to, text, 4, 50) == 4 && memcmp(text, "3456", 4) == 0);
    in = 8;
    CHECK_EQ("stops at the end", copy_file_range(from, &in, to, &out, 40, 0), 2);
    CHECK_EQ("at the end", copy_file_range(from, &in, to, &out, 40, 0), 0);
    CHECK_ERRNO("flags", copy_file_range(from, &in, to, &out, 40, 1), EINVAL);
    in = 0, out = 2;
    CHECK_ERRNO("overlap in one file", copy_file_range(to, &in, to, &out, 10, 0), EINVAL);
    CHECK_ERRNO("pipe", copy_file_range(pipes[0], NULL, to, &out, 10, 0), EINVAL);
    int dir = open(".", O_RDONLY);
    CHECK_ERRNO("directory", copy_file_range(dir, NULL, to, &out, 10, 0), EISDIR);
    CHECK_ERRNO("read-only destination", copy_file_range(to, NULL, dir, &out, 10, 0), EISDIR);
}

int main(void)
{
    enter_scratch();
    from = new_file("from", "0123456789");
    lseek(from, 0, SEEK_SET);
    to = new_file("to", "");
    pipe(pipes);
    by_sendfile();
    by_splice();
    by_copy();
    return finish();
}
