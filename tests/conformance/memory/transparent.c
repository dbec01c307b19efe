/* cc: -static
 * Huge pages that nobody asked for by name: MADV_HUGEPAGE, MADV_COLLAPSE, AnonHugePages. */
#include "../check.h"
#include "fields.h"
#include <sys/uio.h>

#define HUGE_ (2ul << 20)
#define RW (PROT_READ | PROT_WRITE)
#define COLLAPSE 25

static void small_steps(void)
{
    char *raw = mmap(NULL, 4 * HUGE_, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *at = (char *)(((unsigned long)raw + HUGE_ - 1) & -HUGE_);
    madvise(raw, 4 * HUGE_, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < HUGE_; i += 8 * PAGE)
        at[i] = (char)(i >> 15);
    CHECK_EQ("small pages", smaps("AnonHugePages", at), 0);
    CHECK_ERRNO("not where they are unwanted", madvise(at, HUGE_, COLLAPSE), EINVAL);
    at[HUGE_ + PAGE] = 7;
    madvise(raw, 4 * HUGE_, MADV_HUGEPAGE);
    CHECK_EQ("collapse", madvise(at, HUGE_, COLLAPSE), 0);
    CHECK("a large page", smaps("AnonHugePages", at) >= 2048); /* khugepaged may have made the other one, too */
    bool same = true;
    for (size_t i = 0; i < HUGE_; i += 8 * PAGE)
        same &= at[i] == (char)(i >> 15) && at[i + PAGE] == 0;
    CHECK("same content", same);
    CHECK_EQ("again", madvise(at, HUGE_, COLLAPSE), 0);
    struct iovec both = {at, 2 * HUGE_};
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    CHECK_EQ("by process_madvise", syscall(SYS_process_madvise, self, &both, 1, COLLAPSE, 0), 2 * HUGE_);
    CHECK("two large pages", smaps("AnonHugePages", at) == 4096 && at[HUGE_ + PAGE] == 7);
    close(self);
    CHECK_EQ("split by mprotect", mprotect(at + PAGE, PAGE, PROT_READ), 0);
    CHECK_EQ("one large page is left", smaps("AnonHugePages", at) + smaps("AnonHugePages", at + HUGE_), 2048);
    CHECK("same content still", at[8 * PAGE] == 1 && at[16 * PAGE] == 2);
    CHECK_EQ("too small", madvise(raw, 0, COLLAPSE), 0);
    munmap(raw, 4 * HUGE_);
    int fd = new_file("f", "x");
    char *file = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK_ERRNO("of one page of a file", madvise(file, PAGE, COLLAPSE), EINVAL);
    munmap(file, PAGE), close(fd);
}

int main(void)
{
    enter_scratch();
    small_steps();
    return finish();
}
