/* cc: -static
 * Holes: lseek(2) SEEK_DATA and SEEK_HOLE, fallocate(2), ftruncate(2). */
#include "../check.h"

int main(void)
{
    enter_scratch();
    int fd = new_file("f", "");
    CHECK_ERRNO("no data in an empty file", lseek(fd, 0, SEEK_DATA), ENXIO);
    CHECK_ERRNO("no hole either", lseek(fd, 0, SEEK_HOLE), ENXIO);
    ftruncate(fd, 1 << 20);
    CHECK_ERRNO("all hole", lseek(fd, 0, SEEK_DATA), ENXIO);
    CHECK_EQ("from its start", lseek(fd, 0, SEEK_HOLE), 0);
    char page[PAGE];
    memset(page, 'x', sizeof page);
    pwrite(fd, page, sizeof page, 512 << 10);
    CHECK_EQ("data", lseek(fd, 0, SEEK_DATA), 512 << 10);
    CHECK_EQ("data from inside", lseek(fd, (512 << 10) + 10, SEEK_DATA), (512 << 10) + 10);
    CHECK_EQ("a hole before it", lseek(fd, 100, SEEK_HOLE), 100);
    CHECK_EQ("a hole behind it", lseek(fd, 512 << 10, SEEK_HOLE), (512 << 10) + PAGE);
    CHECK_ERRNO("no more data", lseek(fd, (512 << 10) + PAGE, SEEK_DATA), ENXIO);
    CHECK_ERRNO("beyond the end", lseek(fd, 1 << 20, SEEK_HOLE), ENXIO);
    CHECK_ERRNO("negative", lseek(fd, -1, SEEK_DATA), ENXIO);
    CHECK_EQ("the position moved", lseek(fd, 512 << 10, SEEK_DATA) == 512 << 10 && lseek(fd, 0, SEEK_CUR) == 512 << 10, 1);
    CHECK_EQ("punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 512 << 10, PAGE), 0);
    CHECK_ERRNO("all hole again", lseek(fd, 0, SEEK_DATA), ENXIO);
    pwrite(fd, page, 10, 3 * PAGE + 5);
    ftruncate(fd, 3 * PAGE + 7);
    CHECK_EQ("data to the end", lseek(fd, 3 * PAGE + 1, SEEK_HOLE), 3 * PAGE + 7);
    ftruncate(fd, 1 << 20);
    pread(fd, page, sizeof page, 3 * PAGE);
    CHECK("zeros where it was cut", page[5] == 'x' && page[6] == 'x' && page[7] == 0 && page[8] == 0);
    CHECK_ERRNO("punch without keep size", fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, PAGE), EOPNOTSUPP);
    CHECK_ERRNO("length 0", fallocate(fd, 0, 0, 0), EINVAL);
    CHECK_ERRNO("negative offset", fallocate(fd, 0, -1, 10), EINVAL);
    CHECK_EQ("extend", fallocate(fd, 0, 0, 2 << 20), 0);
    struct stat st;
    CHECK("extended", fstat(fd, &st) == 0 && st.st_size == 2 << 20);
    CHECK_EQ("keep size", fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 3 << 20), 0);
    CHECK("kept", fstat(fd, &st) == 0 && st.st_size == 2 << 20);
    int readonly = open("f", O_RDONLY);
    CHECK_ERRNO("not open for writing", fallocate(readonly, 0, 0, 10), EBADF);
    int pipes[2];
    pipe(pipes);
    CHECK_ERRNO("a pipe", fallocate(pipes[1], 0, 0, 10), ESPIPE);
    CHECK_ERRNO("a pipe has no holes", lseek(pipes[0], 0, SEEK_HOLE), ESPIPE);
    return finish();
}
