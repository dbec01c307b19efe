/* cc: -static
 * Files and mappings of terabytes with next to nothing in them, and files of many small pieces: what goes over all of one must
 * take time for what is there. argv[1]: core, copy-up. */
#include "../../conformance/check.h"
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define HUGE_BYTES (1ul << 42)

static void dump(void)
{
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    int filter = open("/proc/self/coredump_filter", O_WRONLY), file = open("sparse", O_RDWR | O_CREAT, 0600);
    char *anonymous = mmap(0, HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (setrlimit(RLIMIT_CORE, &all) || write(filter, "0x3f", 4) != 4 || ftruncate(file, HUGE_BYTES))
        _exit(1);
    char *shared = mmap(0, HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char *private = mmap(0, HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0);
    if (anonymous == MAP_FAILED || shared == MAP_FAILED || private == MAP_FAILED)
        _exit(2);
    anonymous[HUGE_BYTES / 2] = shared[HUGE_BYTES / 3] = private[HUGE_BYTES / 5] = 1;
    abort();
}

static int core(void)
{
    int status;
    struct stat st;

    if (fork() == 0)
        dump();
    wait(&status);
    if (!WIFSIGNALED(status) || !WCOREDUMP(status) || stat("core", &st))
        return 3;
    return (unsigned long)st.st_size > 3 * HUGE_BYTES && st.st_blocks < 1 << 16 ? 42 : 4;
}

static int copy_up(void)
{
    int pieces = 20000;
    struct stat before, after;

    if (mkdir("low", 0755) || mkdir("up", 0755) || mkdir("work", 0755) || mkdir("all", 0755))
        return 5;
    int file = open("low/file", O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < pieces; i++)
        if (pwrite(file, "x", 1, (off_t)i << 22) != 1)
            return 6;
    if (mount("overlay", "all", "overlay", 0, "lowerdir=low,upperdir=up,workdir=work"))
        return 7;
    int copy = open("all/file", O_RDWR);
    if (copy < 0 || fstat(file, &before) || fstat(copy, &after))
        return 8;
    return before.st_size == after.st_size && before.st_blocks == after.st_blocks ? 42 : 9;
}

int main(int argc, char **argv)
{
    if (chdir("/tmp"))
        return 10;
    return argc > 1 && strcmp(argv[1], "core") == 0 ? core() : copy_up();
}
