/* cc: -static
 * mmap(2), munmap(2), mprotect(2), mremap(2), madvise(2), mincore(2), brk(2): anonymous memory. */
#include "../check.h"

static char *map(size_t length, int prot, int flags)
{
    return mmap(NULL, length, prot, flags | MAP_ANONYMOUS, -1, 0);
}

static bool mapped(void *address)
{
    unsigned char one;
    return mincore(address, 1, &one) == 0;
}

static void maps(void)
{
    char *p = map(3 * PAGE + 5, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    CHECK("mapped and aligned", p != MAP_FAILED && (uintptr_t)p % PAGE == 0);
    bool zero = true;
    for (size_t i = 0; i < 4 * PAGE; i++)
        zero &= p[i] == 0;
    CHECK("zero-filled, whole pages", zero);
    memset(p, 7, 4 * PAGE);
    CHECK_EQ("unmap the middle", munmap(p + PAGE, 2 * PAGE), 0);
    CHECK("edges stay", p[0] == 7 && p[3 * PAGE] == 7 && mapped(p) && !mapped(p + PAGE) && mapped(p + 3 * PAGE));
    CHECK_EQ("unmap again is no error", munmap(p, 4 * PAGE), 0);
    CHECK_ERRNO("length 0", (long)mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_ERRNO("neither shared nor private", (long)mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_ERRNO("huge", (long)map(1ul << 47, PROT_READ, MAP_PRIVATE), ENOMEM);
    CHECK_ERRNO("wraps", (long)map(~0ul - 100, PROT_READ, MAP_PRIVATE), ENOMEM);
    CHECK_ERRNO("munmap unaligned", munmap(p + 1, PAGE), EINVAL);
    CHECK_ERRNO("munmap length 0", munmap(p, 0), EINVAL);
    ON_X86("munmap of the last page", CHECK_EQ("munmap of the last page", munmap((void *)0x7fffffffe000, PAGE), 0));
    CHECK_ERRNO("munmap beyond user space", munmap((void *)0x7ffffffff000, 2 * PAGE), EINVAL);
}

static void fixed(void)
{
    char *p = map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memset(p, 1, 4 * PAGE);
    char *q = mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK("MAP_FIXED replaces", q == p + PAGE && q[0] == 0 && p[0] == 1 && p[2 * PAGE] == 1);
    CHECK_ERRNO("MAP_FIXED_NOREPLACE", (long)mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
                EEXIST);
    CHECK_ERRNO("MAP_FIXED unaligned", (long)mmap(p + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                EINVAL);
    munmap(p + 2 * PAGE, PAGE);
    CHECK("a free hint is taken", mmap(p + 2 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == p + 2 * PAGE);
    q = mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK("a taken hint is not", q != MAP_FAILED && q != p && p[0] == 1);
}

/* Code that returns `value`, which is less than 128. */
static void make_code(unsigned char *code, unsigned value)
{
#ifdef __x86_64__
    memcpy(code, "\xb8\x00\x00\x00\x00\xc3", 6); /* mov $value, %eax; ret */
    code[1] = (unsigned char)value;
#else
    uint32_t words[] = {value << 20 | 0x513, 0x8067}; /* li a0, value; ret */
    memcpy(code, words, sizeof words);
#endif
    __builtin___clear_cache((char *)code, (char *)code + 8);
}

static void protect(void)
{
    char *p = map(3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    CHECK_EQ("mprotect", mprotect(p + PAGE, PAGE, PROT_READ), 0);
    CHECK_ERRNO("unaligned", mprotect(p + 1, PAGE, PROT_READ), EINVAL);
    CHECK_EQ("length 0", mprotect(p, 0, PROT_READ), 0);
    munmap(p + 2 * PAGE, PAGE);
    CHECK_ERRNO("over a hole", mprotect(p + PAGE, 2 * PAGE, PROT_READ), ENOMEM);
    CHECK_ERRNO("bad bits", mprotect(p, PAGE, 0x100), EINVAL);
    unsigned char *code = (unsigned char *)map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    make_code(code, 42);
    mprotect(code, PAGE, PROT_READ | PROT_EXEC);
    CHECK_EQ("run made code", ((int (*)(void))(void *)code)(), 42);
    mprotect(code, PAGE, PROT_READ | PROT_WRITE);
    make_code(code, 43);
    mprotect(code, PAGE, PROT_READ | PROT_EXEC);
    CHECK_EQ("run changed code", ((int (*)(void))(void *)code)(), 43);
}

static void moves(void)
{
    char *p = map(2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    strcpy(p, "first"), strcpy(p + PAGE, "second");
    CHECK("shrink", mremap(p, 2 * PAGE, PAGE, 0) == p && !mapped(p + PAGE));
    mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK_ERRNO("grow in place is blocked", (long)mremap(p, PAGE, 3 * PAGE, 0), ENOMEM);
    char *q = mremap(p, PAGE, 3 * PAGE, MREMAP_MAYMOVE);
    CHECK("move and grow", q != MAP_FAILED && q != p && strcmp(q, "first") == 0 && q[2 * PAGE] == 0 && !mapped(p));
    char *target = map(4 * PAGE, PROT_READ, MAP_PRIVATE);
    CHECK("MREMAP_FIXED", mremap(q, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
    CHECK("content came along", strcmp(target, "first") == 0 && !mapped(q));
    target[0] = 'F';
    CHECK_ERRNO("unmapped source", (long)mremap(q, PAGE, PAGE * 2, MREMAP_MAYMOVE), EFAULT);
    CHECK_ERRNO("unaligned", (long)mremap(target + 1, PAGE, PAGE, 0), EINVAL);
    CHECK_ERRNO("FIXED without MAYMOVE", (long)mremap(target, PAGE, PAGE, MREMAP_FIXED, q), EINVAL);
    CHECK_ERRNO("new length 0", (long)mremap(target, PAGE, 0, 0), EINVAL);
    char *copy = mremap(target, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    CHECK("MREMAP_DONTUNMAP", copy != MAP_FAILED && strcmp(copy, "First") == 0 && target[0] == 0);
}

static void advice(void)
{
    char *p = map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memset(p, 5, 4 * PAGE);
    CHECK("MADV_DONTNEED zeroes", madvise(p + PAGE, PAGE, MADV_DONTNEED) == 0 && p[PAGE] == 0 && p[0] == 5);
    unsigned char resident[4];
    madvise(p + 2 * PAGE, PAGE, MADV_DONTNEED);
    CHECK("mincore", mincore(p, 4 * PAGE, resident) == 0 && (resident[0] & 1) && !(resident[2] & 1) && (resident[3] & 1));
    CHECK_ERRNO("unknown advice", madvise(p, PAGE, 999), EINVAL);
    CHECK_ERRNO("unaligned", madvise(p + 1, PAGE, MADV_DONTNEED), EINVAL);
    CHECK_EQ("MADV_WILLNEED", madvise(p, 4 * PAGE, MADV_WILLNEED), 0);
    CHECK_EQ("MADV_DONTFORK", madvise(p, PAGE, MADV_DONTFORK), 0);
    CHECK_EQ("MADV_WIPEONFORK", madvise(p + 3 * PAGE, PAGE, MADV_WIPEONFORK), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit((mapped(p) ? 1 : 0) | (p[3 * PAGE] ? 2 : 0) | (p[PAGE] ? 4 : 0));
    int status;
    waitpid(pid, &status, 0);
    CHECK("fork obeys advice", exited(status, 0) && p[3 * PAGE] == 5);
    munmap(p + PAGE, PAGE);
    CHECK_ERRNO("over a hole", madvise(p, 3 * PAGE, MADV_WILLNEED), ENOMEM);
    CHECK_ERRNO("mincore of a hole", mincore(p + PAGE, PAGE, resident), ENOMEM);
}

static void heap(void)
{
    char *start = sbrk(0);
    CHECK("sbrk grows", sbrk(10 * PAGE) == start && sbrk(0) == start + 10 * PAGE);
    memset(start, 9, 10 * PAGE);
    CHECK("brk shrinks", brk(start + PAGE) == 0 && start[0] == 9);
    CHECK("grown again it is zero", brk(start + 3 * PAGE) == 0 && start[2 * PAGE] == 0);
    CHECK_EQ("a failing brk returns the old one", syscall(SYS_brk, 8), (long)(start + 3 * PAGE));
}

int main(void)
{
    maps();
    fixed();
    protect();
    moves();
    advice();
    heap();
    return finish();
}
