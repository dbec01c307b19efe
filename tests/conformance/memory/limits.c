/* cc: -static
 * RLIMIT_AS, RLIMIT_STACK, RLIMIT_DATA, mlock(2), MAP_POPULATE, MAP_NORESERVE, MAP_GROWSDOWN, large sparse maps. */
#include "../check.h"
#include <sys/resource.h>

static void *map(size_t length, int flags)
{
    return mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

static void address_space(void)
{
    struct rlimit limit = {64 << 20, 64 << 20};
    CHECK_EQ("RLIMIT_AS", setrlimit(RLIMIT_AS, &limit), 0);
    CHECK_ERRNO("mmap beyond it", (long)map(80 << 20, 0), ENOMEM);
    void *small = map(8 << 20, 0);
    CHECK("mmap below it", small != MAP_FAILED);
    CHECK_ERRNO("mremap beyond it", (long)mremap(small, 8 << 20, 90 << 20, MREMAP_MAYMOVE), ENOMEM);
    char *top = sbrk(0);
    CHECK_ERRNO("brk beyond it", brk(top + (80 << 20)), ENOMEM);
    CHECK("malloc says so", malloc(100 << 20) == NULL);
}

static void data(void)
{
    struct rlimit limit = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_DATA, &limit);
    char *top = sbrk(0);
    CHECK_ERRNO("brk beyond RLIMIT_DATA", brk(top + (4 << 20)), ENOMEM);
    CHECK_ERRNO("private writable map beyond it", (long)map(4 << 20, 0), ENOMEM);
    CHECK("read-only map is not data", mmap(NULL, 4 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

static int depth(int levels)
{
    volatile char room[4000];
    room[0] = (char)levels;
    return levels == 0 ? 0 : 1 + depth(levels - 1) + (room[0] != (char)levels);
}

static void stack(void)
{
    struct rlimit limit = {1 << 20, 1 << 20}, none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_STACK, &limit);
    CHECK_EQ("half of it", depth(120), 120);
    depth(600);
}

static void locks(void)
{
    char *p = map(4 * PAGE, 0);
    unsigned char resident[4];
    CHECK_EQ("mlock", mlock(p, 2 * PAGE), 0);
    CHECK("locked pages are resident", mincore(p, 2 * PAGE, resident) == 0 && (resident[0] & 1) && (resident[1] & 1));
    CHECK_ERRNO("MADV_DONTNEED of locked memory", madvise(p, PAGE, MADV_DONTNEED), EINVAL);
    CHECK_EQ("munlock", munlock(p, 2 * PAGE), 0);
    munmap(p + PAGE, PAGE);
    CHECK_ERRNO("mlock over a hole", mlock(p, 3 * PAGE), ENOMEM);
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_MEMLOCK, &none);
    if (IS_ROOT)
        SKIP("mlock without RLIMIT_MEMLOCK", "root may");
    else
        CHECK_ERRNO("mlock without RLIMIT_MEMLOCK", mlock(p, PAGE), EPERM);
}

static void flags(void)
{
    unsigned char resident[4];
    char *p = map(4 * PAGE, MAP_POPULATE);
    CHECK("MAP_POPULATE", mincore(p, 4 * PAGE, resident) == 0 && (resident[0] & resident[3] & 1));
    size_t sparse = 8ul << 30;
    p = map(sparse, MAP_NORESERVE);
    CHECK("8 GiB, sparse", p != MAP_FAILED);
    for (size_t i = 0; i < 64; i++)
        p[i * (sparse / 64)] = (char)i;
    bool good = true;
    for (size_t i = 0; i < 64; i++)
        good &= p[i * (sparse / 64)] == (char)i;
    CHECK("64 pages far apart", good);
    CHECK_EQ("unmap them", munmap(p, sparse), 0);
    char *room = map(600 * PAGE, 0);
    munmap(room, 600 * PAGE);
    p = mmap(room + 590 * PAGE, 10 * PAGE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    p[0] = 1;
    p[-1] = 2;
    p[-(long)PAGE - 1] = 3;
    CHECK("MAP_GROWSDOWN grows", p[-1] == 2 && p[-(long)PAGE - 1] == 3);
}

int main(void)
{
    CHECK("address space", exited(in_child(address_space), 0));
    CHECK("data", exited(in_child(data), 0));
    CHECK("beyond RLIMIT_STACK kills", killed(in_child(stack), SIGSEGV));
    CHECK("locks", exited(in_child(locks), 0));
    flags();
    return finish();
}
