/* cc: -static
 * /proc/PID/io: bytes and calls of read(2), write(2) and their kin. */
#include "../check.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

struct io {
    long rchar, wchar, syscr, syscw;
};

static struct io io(void)
{
    char text[512] = "";
    struct io now = {-1, -1, -1, -1};
    int fd = open("/proc/self/io", O_RDONLY);
    read(fd, text, sizeof text - 1);
    close(fd);
    sscanf(text, "rchar: %ld\nwchar: %ld\nsyscr: %ld\nsyscw: %ld", &now.rchar, &now.wchar, &now.syscr, &now.syscw);
    return now;
}

int main(void)
{
    enter_scratch();
    char data[5000] = "";
    struct iovec parts[2] = {{data, 100}, {data, 200}};
    int fd = new_file("f", ""), out = new_file("g", "");
    struct io before = io(), again = io(), after;
    long own = again.rchar - before.rchar;
    CHECK("reading it counts", own > 60 && again.syscr - before.syscr == 1 && again.wchar == before.wchar);
    before = io();
    write(fd, data, 5000), pwrite(fd, data, 1000, 0), writev(fd, parts, 2);
    after = io();
    CHECK("writes", after.wchar - before.wchar == 6300 && after.syscw - before.syscw == 3);
    before = io();
    lseek(fd, 0, SEEK_SET);
    read(fd, data, 5000), pread(fd, data, 1000, 10), readv(fd, parts, 2), read(fd, data, 10);
    after = io();
    CHECK("reads", after.rchar - before.rchar >= 6300 && after.rchar - before.rchar < 6300 + 2 * own && after.syscr - before.syscr == 5);
    before = io();
    off_t at = 0;
    sendfile(out, fd, &at, 2000);
    at = 0;
    copy_file_range(fd, &at, out, NULL, 1000, 0);
    after = io();
    CHECK("copies", after.wchar - before.wchar == 3000 && after.rchar - before.rchar >= 3000 && after.syscw - before.syscw == 2);
    return finish();
}
