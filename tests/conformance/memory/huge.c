/* cc: -static
 * Huge pages: MAP_HUGETLB, MFD_HUGETLB, SHM_HUGETLB, hugetlbfs; their reservation. */
#include "../check.h"
#include "fields.h"
#include <setjmp.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/vfs.h>

#define HUGE_ (2ul << 20)
#define RW (PROT_READ | PROT_WRITE)
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB)
#define SHARED (MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB)
#define COLLAPSE 25
#define POOL "/proc/sys/vm/nr_hugepages"
#define SYS "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static long number(const char *path)
{
    char text[64] = "";
    int fd = open(path, O_RDONLY);
    read(fd, text, sizeof text - 1);
    close(fd);
    return atol(text);
}

static bool put(const char *path, long value)
{
    char text[32];
    int fd = open(path, O_WRONLY), length = snprintf(text, sizeof text, "%ld", value);
    bool good = fd >= 0 && write(fd, text, length) == length;
    close(fd);
    return good;
}

static long meminfo(const char *field)
{
    return field_of("/proc/meminfo", field, NULL);
}

static char *map(size_t pages, int flags)
{
    return mmap(NULL, pages * HUGE_, RW, flags, -1, 0);
}

static sigjmp_buf back;
static siginfo_t fault;

static void on_fault(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)context;
    fault = *info;
    siglongjmp(back, 1);
}

/* The signal that writing a byte there raises, or 0. */
static int touch(volatile char *at)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL), sigaction(SIGSEGV, &action, NULL);
    if (sigsetjmp(back, 1))
        return fault.si_signo;
    *at = 1;
    return 0;
}

static void refused(void)
{
    CHECK_ERRNO("more than there are", map(5, PRIVATE) == MAP_FAILED ? -1 : 0, ENOMEM);
    CHECK_ERRNO("more than there are, shared", map(5, SHARED) == MAP_FAILED ? -1 : 0, ENOMEM);
    CHECK_ERRNO("an odd size", map(1, PRIVATE | 13 << 26) == MAP_FAILED ? -1 : 0, EINVAL);
    CHECK_ERRNO("no length", map(0, PRIVATE) == MAP_FAILED ? -1 : 0, EINVAL);
    CHECK_ERRNO("1 GiB", map(512, PRIVATE | 30 << 26) == MAP_FAILED ? -1 : 0, ENOMEM);
    char *at = map(2, PRIVATE);
    CHECK("aligned", at != MAP_FAILED && !((unsigned long)at & (HUGE_ - 1)));
    CHECK_ERRNO("unmap half", munmap(at, HUGE_ / 2), EINVAL);
    CHECK_ERRNO("unmap within", munmap(at + PAGE, HUGE_), EINVAL);
    CHECK_ERRNO("protect half", mprotect(at, HUGE_ / 2, PROT_READ), EINVAL);
    CHECK_ERRNO("fixed, not aligned", mmap(at + PAGE, HUGE_, RW, PRIVATE | MAP_FIXED, -1, 0) == MAP_FAILED ? -1 : 0, EINVAL);
    CHECK_ERRNO("grow", mremap(at, 2 * HUGE_, 3 * HUGE_, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0, EINVAL);
    CHECK_ERRNO("free", madvise(at, HUGE_, MADV_FREE), EINVAL);
    CHECK_ERRNO("cold", madvise(at, HUGE_, MADV_COLD), EINVAL);
    CHECK_ERRNO("collapse", madvise(at, HUGE_, COLLAPSE), EINVAL);
    CHECK_EQ("all of it", munmap(at, 2 * HUGE_), 0);
}

static void reserved(void)
{
    CHECK_EQ("free at first", meminfo("HugePages_Free"), 4);
    char *at = map(3, PRIVATE);
    CHECK_EQ("promised", meminfo("HugePages_Rsvd"), 3);
    CHECK_EQ("still free", meminfo("HugePages_Free"), 4);
    CHECK("nobody else gets them", map(2, PRIVATE) == MAP_FAILED);
    char *more = map(2, PRIVATE | MAP_NORESERVE);
    CHECK("without a promise", more != MAP_FAILED);
    at[HUGE_ + 5] = 7;
    CHECK_EQ("one is used", meminfo("HugePages_Free"), 3);
    CHECK_EQ("and not promised", meminfo("HugePages_Rsvd"), 2);
    CHECK_EQ("zeros around", at[HUGE_ + 4] + at[HUGE_ + 6] + at[2 * HUGE_ - 1], 0);
    CHECK_EQ("the one that is left", touch(more), 0);
    CHECK_EQ("none is left", touch(more + HUGE_), SIGBUS);
    CHECK("where and why", fault.si_addr == more + HUGE_ && fault.si_code == BUS_ADRERR);
    CHECK_EQ("what was promised is there", touch(at) | touch(at + 2 * HUGE_), 0);
    CHECK_EQ("all used", meminfo("HugePages_Free"), 0);
    munmap(more, 2 * HUGE_);
    munmap(at + HUGE_, HUGE_);
    CHECK_EQ("a part is free", meminfo("HugePages_Free"), 2);
    munmap(at, HUGE_), munmap(at + 2 * HUGE_, HUGE_);
    CHECK_EQ("all free", meminfo("HugePages_Free"), 4);
    CHECK_EQ("nothing promised", meminfo("HugePages_Rsvd"), 0);
}

static void shown(void)
{
    char *at = map(2, PRIVATE);
    at[0] = 1;
    CHECK_EQ("KernelPageSize", smaps("KernelPageSize", at), 2048);
    CHECK_EQ("MMUPageSize", smaps("MMUPageSize", at), 2048);
    CHECK_EQ("Private_Hugetlb", smaps("Private_Hugetlb", at), 2048);
    CHECK_EQ("Shared_Hugetlb", smaps("Shared_Hugetlb", at), 0);
    CHECK_EQ("Rss", smaps("Rss", at), 0);
    CHECK_EQ("HugetlbPages", field_of("/proc/self/status", "HugetlbPages", NULL), 2048);
    CHECK_EQ("total", meminfo("Hugetlb"), 8192);
    CHECK_EQ("free in sysfs", number(SYS "free_hugepages"), 3);
    CHECK_EQ("reserved in sysfs", number(SYS "resv_hugepages"), 1);
    unsigned char core[1024];
    CHECK("mincore", mincore(at, 2 * HUGE_, core) == 0 && core[0] == 1 && core[511] == 1 && core[512] == 0);
    munmap(at, 2 * HUGE_);
}

static char *both;
static int pipes[2];

static void child_reads(void)
{
    CHECK_EQ("sees what was there", both[HUGE_ - 1], 3);
    both[0] = 9;
    CHECK_EQ("writes its own", both[0], 9);
}

static void child_waits(void)
{
    char c;
    read(pipes[0], &c, 1);
    CHECK_EQ("its page was taken", touch(both), SIGBUS);
}

static void forked(void)
{
    both = map(1, PRIVATE);
    both[HUGE_ - 1] = 3, both[0] = 1;
    CHECK("private", exited(in_child(child_reads), 0));
    CHECK_EQ("not mine", both[0], 1);
    pipe(pipes);
    char *rest = map(3, PRIVATE | MAP_POPULATE);
    CHECK_EQ("no more", meminfo("HugePages_Free"), 0);
    pid_t pid = fork();
    if (pid == 0) {
        check_failures = 0;
        child_waits();
        _exit(finish());
    }
    both[1] = 4;
    CHECK_EQ("the owner keeps it", both[HUGE_ - 1] + both[1], 7);
    write(pipes[1], "", 1);
    int status;
    waitpid(pid, &status, 0);
    CHECK("the child does not", exited(status, 0));
    munmap(rest, 3 * HUGE_), munmap(both, HUGE_);
    close(pipes[0]), close(pipes[1]);
    both = map(1, SHARED);
    both[HUGE_ - 1] = 3;
    CHECK("shared", exited(in_child(child_reads), 0));
    CHECK_EQ("mine too", both[0], 9);
    munmap(both, HUGE_);
    CHECK_EQ("nothing is left behind", meminfo("HugePages_Free"), 4);
}

static void changed(void)
{
    char *at = map(2, PRIVATE);
    at[0] = 1, at[HUGE_] = 2;
    CHECK_EQ("protect", mprotect(at, HUGE_, PROT_READ), 0);
    CHECK_EQ("not writable", touch(at), SIGSEGV);
    CHECK_EQ("readable", at[0], 1);
    CHECK_EQ("unprotect", mprotect(at, HUGE_, RW), 0);
    CHECK_EQ("writable", touch(at), 0);
    char *place = mmap(NULL, 4 * HUGE_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    place = (char *)(((unsigned long)place + HUGE_ - 1) & -HUGE_);
    CHECK("move", mremap(at + HUGE_, HUGE_, HUGE_, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
    CHECK_EQ("moved", place[0], 2);
    CHECK_ERRNO("to the middle of a page", mremap(place, HUGE_, HUGE_, MREMAP_MAYMOVE | MREMAP_FIXED, place + HUGE_ + PAGE) == MAP_FAILED ? -1 : 0, EINVAL);
    CHECK_EQ("not needed", madvise(place, HUGE_, MADV_DONTNEED), 0);
    CHECK_EQ("zeros again", place[0], 0);
    CHECK_ERRNO("not needed, within", madvise(place + PAGE, PAGE, MADV_DONTNEED), EINVAL);
    munmap(place, HUGE_), munmap(at, HUGE_);
    CHECK_EQ("free again", meminfo("HugePages_Free"), 4);
}

static void surplus(void)
{
    put("/proc/sys/vm/nr_overcommit_hugepages", 2);
    char *at = map(6, PRIVATE);
    CHECK("overcommitted", at != MAP_FAILED);
    CHECK_EQ("surplus", meminfo("HugePages_Surp"), 2);
    CHECK_EQ("total", meminfo("HugePages_Total"), 6);
    CHECK("no more", map(1, PRIVATE) == MAP_FAILED);
    at[5 * HUGE_] = 1;
    put(POOL, 0);
    CHECK_EQ("what is promised stays", meminfo("HugePages_Total"), 6);
    CHECK_EQ("as surplus", meminfo("HugePages_Surp"), 6);
    CHECK_EQ("none is persistent", number(POOL), 0);
    munmap(at, 6 * HUGE_);
    CHECK_EQ("then it goes", meminfo("HugePages_Total"), 0);
    put("/proc/sys/vm/nr_overcommit_hugepages", 0);
    put(SYS "nr_hugepages", 4);
    CHECK_EQ("by sysfs", number(POOL), 4);
}

static void files(void)
{
    int fd = memfd_create("m", 4);
    CHECK("memfd", fd >= 0);
    CHECK_ERRNO("part of a page", ftruncate(fd, PAGE), EINVAL);
    CHECK_EQ("two pages", ftruncate(fd, 2 * HUGE_), 0);
    CHECK_ERRNO("write", write(fd, "x", 1), EINVAL);
    char *at = mmap(NULL, 2 * HUGE_, RW, MAP_SHARED, fd, 0), byte = 5;
    CHECK_EQ("promised", meminfo("HugePages_Rsvd"), 2);
    at[HUGE_] = 8;
    CHECK_EQ("read", pread(fd, &byte, 1, HUGE_), 1);
    CHECK_EQ("what was written", byte, 8);
    CHECK("a hole", pread(fd, &byte, 1, 9) == 1 && byte == 0);
    char *copy = mmap(NULL, 2 * HUGE_, RW, MAP_PRIVATE, fd, 0);
    CHECK_EQ("private: reads the file", copy[HUGE_], 8);
    copy[HUGE_] = 6;
    CHECK_EQ("private: a copy", at[HUGE_], 8);
    CHECK_ERRNO("offset", mmap(NULL, HUGE_, RW, MAP_SHARED, fd, PAGE) == MAP_FAILED ? -1 : 0, EINVAL);
    CHECK_EQ("punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HUGE_, HUGE_), 0);
    CHECK_EQ("a hole now", at[HUGE_], 0);
    CHECK_EQ("for copies too", copy[HUGE_], 0);
    munmap(copy, 2 * HUGE_);
    CHECK_EQ("shorten", ftruncate(fd, HUGE_), 0);
    CHECK_EQ("beyond the end", touch(at + HUGE_), SIGBUS);
    munmap(at, 2 * HUGE_), close(fd);
    CHECK_EQ("all free", meminfo("HugePages_Free"), 4);
    CHECK_EQ("none promised", meminfo("HugePages_Rsvd"), 0);
}

static void segment(void)
{
    int id = shmget(IPC_PRIVATE, HUGE_ + 1, IPC_CREAT | SHM_HUGETLB | 0600);
    CHECK("shmget", id >= 0);
    CHECK_EQ("promised", meminfo("HugePages_Rsvd"), 2);
    char *at = shmat(id, NULL, 0);
    CHECK("aligned", at != (void *)-1 && !((unsigned long)at & (HUGE_ - 1)));
    at[HUGE_] = 1;
    struct shmid_ds ds;
    CHECK("its size", shmctl(id, IPC_STAT, &ds) == 0 && ds.shm_segsz == HUGE_ + 1 && ds.shm_nattch == 1);
    shmctl(id, IPC_RMID, NULL);
    CHECK_EQ("detach", shmdt(at), 0);
    CHECK_EQ("all free", meminfo("HugePages_Free"), 4);
    CHECK_ERRNO("too large", shmget(IPC_PRIVATE, 5 * HUGE_, IPC_CREAT | SHM_HUGETLB | 0600), ENOMEM);
}

static void mounted(void)
{
    struct statfs info;
    unshare(CLONE_NEWNS);
    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
    mkdir("h", 0755);
    CHECK_ERRNO("no such size", mount("none", "h", "hugetlbfs", 0, "pagesize=3M"), EINVAL);
    CHECK_EQ("mount", mount("none", "h", "hugetlbfs", 0, "size=4M,mode=700,pagesize=2M"), 0);
    CHECK("statfs", statfs("h", &info) == 0 && info.f_type == 0x958458f6 && info.f_bsize == HUGE_ && info.f_blocks == 2);
    int fd = open("h/f", O_RDWR | O_CREAT, 0644);
    CHECK_ERRNO("beyond its size", mmap(NULL, 3 * HUGE_, RW, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0, ENOMEM);
    char *at = mmap(NULL, 2 * HUGE_, RW, MAP_SHARED, fd, 0);
    struct stat st;
    CHECK("mapping lengthens", fstat(fd, &st) == 0 && st.st_size == 2 * HUGE_ && st.st_blksize == HUGE_);
    CHECK("counted", statfs("h", &info) == 0 && info.f_bfree == 0);
    CHECK_EQ("touched", touch(at), 0);
    CHECK("blocks", fstat(fd, &st) == 0 && st.st_blocks == 4096);
    CHECK_EQ("allocate", fallocate(fd, 0, 0, 2 * HUGE_), 0);
    munmap(at, 2 * HUGE_), close(fd);
    CHECK_EQ("the file keeps them", meminfo("HugePages_Free"), 2);
    unlink("h/f");
    CHECK_EQ("no more", meminfo("HugePages_Free"), 4);
    CHECK_EQ("umount", umount("h"), 0);
}

/* Whoever changes the pool has it for himself, and it is empty at first: Linux loses count of what it reserved now and then. */
static bool own_pool(void)
{
    int fd = open(POOL, O_RDWR);
    return fd >= 0 && flock(fd, LOCK_EX) == 0 && meminfo("HugePages_Total") == 0 && put(POOL, 4) && number(POOL) == 4;
}

int main(void)
{
    if (!IS_ROOT || !own_pool()) {
        say("skip all: the pool of huge pages cannot be changed here\n");
        return 0;
    }
    enter_scratch();
    refused();
    reserved();
    shown();
    forked();
    changed();
    surplus();
    files();
    segment();
    mounted();
    CHECK_EQ("all free in the end", meminfo("HugePages_Free"), 4);
    put(POOL, 0);
    CHECK_EQ("none is left", meminfo("HugePages_Total"), 0);
    return finish();
}
