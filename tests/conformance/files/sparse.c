/* cc: -static
 * Holes: lseek(2) SEEK_DATA and SEEK_HOLE, fallocate(2), ftruncate(2), ioctl(2) FS_IOC_FIEMAP. */
#include "../check.h"
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

struct extents {
    struct fiemap head;
    struct fiemap_extent each[4];
};

static long extents(int fd, struct extents *map, uint64_t start, uint64_t length, uint32_t flags, uint32_t room)
{
    memset(map, 0, sizeof *map);
    map->head.fm_start = start;
    map->head.fm_length = length;
    map->head.fm_flags = flags;
    map->head.fm_extent_count = room;
    return ioctl(fd, FS_IOC_FIEMAP, map);
}

/* A file with two pages at 0, and one at 1 MiB. */
static void where_data_lies(int fd)
{
    struct extents map;
    CHECK_EQ("extents", extents(fd, &map, 0, ~0ull, FIEMAP_FLAG_SYNC, 4), 0);
    CHECK("two", map.head.fm_mapped_extents == 2 && map.head.fm_flags == FIEMAP_FLAG_SYNC);
    CHECK("the first", map.each[0].fe_logical == 0 && map.each[0].fe_length == 2 * PAGE);
    CHECK("the second", map.each[1].fe_logical == 1 << 20 && map.each[1].fe_length == PAGE);
    CHECK("which is the last", !(map.each[0].fe_flags & FIEMAP_EXTENT_LAST) && map.each[1].fe_flags & FIEMAP_EXTENT_LAST);
    CHECK("only counted", extents(fd, &map, 0, ~0ull, 0, 0) == 0 && map.head.fm_mapped_extents == 2);
    CHECK("no room for more", extents(fd, &map, 0, ~0ull, 0, 1) == 0 && map.head.fm_mapped_extents == 1);
    CHECK("untouched", map.each[1].fe_length == 0 && !(map.each[0].fe_flags & FIEMAP_EXTENT_LAST));
    CHECK("from the hole on", extents(fd, &map, 9 * PAGE, 1 << 20, 0, 4) == 0 && map.head.fm_mapped_extents == 1);
    CHECK("within the hole", extents(fd, &map, 9 * PAGE, PAGE, 0, 4) == 0 && map.head.fm_mapped_extents == 0);
    CHECK("behind the end", extents(fd, &map, 1 << 22, PAGE, 0, 4) == 0 && map.head.fm_mapped_extents == 0);
    CHECK_ERRNO("of no length", extents(fd, &map, 0, 0, 0, 4), EINVAL);
    CHECK_ERRNO("room for too many", extents(fd, &map, 0, 1, 0, ~0u), EINVAL);
    CHECK_ERRNO("flags that do not exist", extents(fd, &map, 0, 1, 1 << 30 | FIEMAP_FLAG_SYNC, 4), EBADR);
    CHECK_EQ("are named", map.head.fm_flags, 1 << 30);
    CHECK_ERRNO("nowhere", ioctl(fd, FS_IOC_FIEMAP, 8), EFAULT);
}

static void zero_range(int fd)
{
    char data[3 * PAGE], zeros[3 * PAGE] = {0}, back[3 * PAGE];
    struct stat st;
    memset(data, 'x', sizeof data);
    pwrite(fd, data, sizeof data, 0);
    if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 10, 2 * PAGE) && errno == EOPNOTSUPP) {
        SKIP("zero range", "the file system cannot");
        return;
    }
    pread(fd, back, sizeof back, 0);
    CHECK("zeros", !memcmp(back, data, 10) && !memcmp(back + 10, zeros, 2 * PAGE));
    CHECK("and nothing else", !memcmp(back + 10 + 2 * PAGE, data, PAGE - 10));
    CHECK_EQ("beyond the end, kept", fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 2 * PAGE, 4 * PAGE), 0);
    CHECK("the size is", fstat(fd, &st) == 0 && st.st_size == 3 * PAGE);
    CHECK("the last page", pread(fd, back, PAGE, 2 * PAGE) == PAGE && !memcmp(back, zeros, PAGE));
    CHECK_EQ("beyond the end", fallocate(fd, FALLOC_FL_ZERO_RANGE, 2 * PAGE, 4 * PAGE), 0);
    CHECK("the size grows", fstat(fd, &st) == 0 && st.st_size == 6 * PAGE);
    CHECK("space is there", st.st_blocks >= 6 * 8);
    CHECK("zeros and holes", fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) == -1);
}

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
    zero_range(new_file("g", ""));
    CHECK_ERRNO("a pipe has no extents", ioctl(pipes[0], FS_IOC_FIEMAP, NULL), EOPNOTSUPP);
    ftruncate(fd, 0);
    ftruncate(fd, 2 << 20);
    pwrite(fd, page, sizeof page, 0);
    pwrite(fd, page, 10, PAGE);
    pwrite(fd, page, 10, 1 << 20);
    struct fiemap probe = {.fm_length = 1};
    if (ioctl(fd, FS_IOC_FIEMAP, &probe))
        SKIP("extents", "the file system does not say");
    else
        where_data_lies(fd);
    CHECK_ERRNO("a pipe has no holes", lseek(pipes[0], 0, SEEK_HOLE), ESPIPE);
    return finish();
}
