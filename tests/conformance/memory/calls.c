/* cc: -O1; only x86_64
 * The errors and corners of mmap(2), mprotect(2), mremap(2), madvise(2), mincore(2), mlock(2), msync(2), memfd_create(2).
 */
#include "../check.h"
#include <sys/resource.h>

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static char *map(size_t pages)
{
    return mmap(NULL, pages * PAGE, RW, ANON, -1, 0);
}

static bool present(void *at)
{
    unsigned char vector = 0;
    return mincore(at, PAGE, &vector) == 0 && vector & 1;
}

static void mapping(void)
{
    int fd = new_file("file", "content"), reader = open("file", O_RDONLY), writer = open("file", O_WRONLY);
    int path = open("file", O_PATH), directory = open(".", O_RDONLY | O_DIRECTORY);
    CHECK_ERRNO("length 0", mmap(NULL, 0, RW, ANON, -1, 0), EINVAL);
    CHECK_ERRNO("too long", mmap(NULL, 1ul << 62, RW, ANON, -1, 0), ENOMEM);
    CHECK_ERRNO("longer than anything", mmap(NULL, -1ul, RW, ANON, -1, 0), ENOMEM);
    CHECK_ERRNO("neither shared nor private", mmap(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_ERRNO("validate without a file", mmap(NULL, PAGE, RW, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_ERRNO("no file", mmap(NULL, PAGE, RW, MAP_PRIVATE, -1, 0), EBADF);
    CHECK_ERRNO("offset not aligned", syscall(SYS_mmap, NULL, PAGE, RW, MAP_PRIVATE, -1, 1), EINVAL);
    CHECK_ERRNO("fixed, not aligned", mmap((void *)0x10001, PAGE, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
    CHECK_ERRNO("fixed, beyond the end", mmap((void *)0x7ffffffff000, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
    CHECK_ERRNO("write-only file", mmap(NULL, PAGE, PROT_READ, MAP_SHARED, writer, 0), EACCES);
    CHECK_ERRNO("shared writable of a reader's", mmap(NULL, PAGE, RW, MAP_SHARED, reader, 0), EACCES);
    CHECK("private writable of a reader's", mmap(NULL, PAGE, RW, MAP_PRIVATE, reader, 0) != MAP_FAILED);
    CHECK_ERRNO("O_PATH", mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, path, 0), EBADF);
    CHECK_ERRNO("directory", mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, directory, 0), ENODEV);
    CHECK_ERRNO("unknown flag, validated", mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | 0x800000, fd, 0), EOPNOTSUPP);
    CHECK_ERRNO("MAP_SYNC, validated", mmap(NULL, PAGE, RW, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0), EOPNOTSUPP);
    CHECK_ERRNO("huge pages of a file", mmap(NULL, 1 << 21, RW, MAP_SHARED | MAP_HUGETLB, fd, 0), EINVAL);
    CHECK_ERRNO("huge pages of an odd size", mmap(NULL, 1 << 21, RW, ANON | MAP_HUGETLB | 13 << 26, -1, 0), EINVAL);
    CHECK_ERRNO("huge pages that are not there", mmap(NULL, 1ul << 42, RW, ANON | MAP_HUGETLB, -1, 0), ENOMEM);
    CHECK_ERRNO("shared, growing down", mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0), EINVAL);
    CHECK_ERRNO("a file, growing down", mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_GROWSDOWN, fd, 0), EINVAL);
    char *at = map(3);
    CHECK_ERRNO("no replace", mmap(at + PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    munmap(at + PAGE, PAGE);
    CHECK("no replace in a gap", mmap(at + PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == at + PAGE);
    CHECK("a hint that is taken", mmap(at, PAGE, RW, ANON, -1, 0) != at);
    ON_X86("32 bits", CHECK("32 bits", (uintptr_t)mmap(NULL, PAGE, RW, ANON | MAP_32BIT, -1, 0) < 1ul << 31));
    char *populated = mmap(NULL, 2 * PAGE, RW, ANON | MAP_POPULATE, -1, 0);
    CHECK("populated", present(populated) && present(populated + PAGE));
    CHECK_ERRNO("munmap: not aligned", munmap(at + 1, PAGE), EINVAL);
    CHECK_ERRNO("munmap: length 0", munmap(at, 0), EINVAL);
    CHECK_ERRNO("munmap: beyond the end", munmap((void *)0x7ffffffff000, 1ul << 40), EINVAL);
    CHECK_EQ("munmap: nothing there", munmap((void *)0x2000000000, PAGE), 0);
    CHECK_ERRNO("mprotect: not aligned", mprotect(at + 1, PAGE, PROT_READ), EINVAL);
    CHECK_ERRNO("mprotect: nothing there", mprotect((void *)0x200000000000, PAGE, PROT_READ), ENOMEM);
    CHECK_ERRNO("mprotect: unknown bits", mprotect(at, PAGE, 0x100), EINVAL);
    CHECK_EQ("mprotect: length 0", mprotect(at, 0, PROT_READ), 0);
    CHECK_ERRNO("mprotect: both ways", mprotect(at, PAGE, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP), EINVAL);
    CHECK_ERRNO("mprotect: does not grow", mprotect(at, PAGE, PROT_READ | PROT_GROWSDOWN), EINVAL);
    char *shared = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, reader, 0);
    CHECK_ERRNO("mprotect: a reader's file", mprotect(shared, PAGE, RW), EACCES);
    CHECK_EQ("mprotect: PROT_SEM", mprotect(at, PAGE, RW | 8), 0);
    close(fd), close(reader), close(writer), close(path), close(directory);
}

static void remapping(void)
{
    char *at = map(8);
    CHECK_ERRNO("not aligned", mremap(at + 1, PAGE, PAGE, 0), EINVAL);
    CHECK_ERRNO("to nothing", mremap(at, PAGE, 0, 0), EINVAL);
    CHECK_ERRNO("unknown flag", mremap(at, PAGE, PAGE, 8), EINVAL);
    CHECK_ERRNO("fixed without may-move", mremap(at, PAGE, PAGE, MREMAP_FIXED, at + 4 * PAGE), EINVAL);
    CHECK_ERRNO("dont-unmap without may-move", mremap(at, PAGE, PAGE, MREMAP_DONTUNMAP), EINVAL);
    CHECK_ERRNO("dont-unmap and grow", mremap(at, PAGE, 2 * PAGE, MREMAP_DONTUNMAP | MREMAP_MAYMOVE), EINVAL);
    CHECK_ERRNO("nothing there", mremap((void *)0x200000000000, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
    CHECK_ERRNO("onto itself", mremap(at, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + PAGE), EINVAL);
    CHECK_ERRNO("to a bad place", mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + 5), EINVAL);
    CHECK_ERRNO("duplicate private", mremap(at, 0, PAGE, MREMAP_MAYMOVE), EINVAL);
    CHECK_ERRNO("no room to grow in place", mremap(at, PAGE, 2 * PAGE, 0), ENOMEM);
    strcpy(at, "first"), strcpy(at + PAGE, "second");
    char *moved = mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    CHECK("dont-unmap moves the pages", moved != MAP_FAILED && strcmp(moved, "first") == 0 && at[0] == 0);
    CHECK("shrink", mremap(at, 4 * PAGE, 2 * PAGE, 0) == at && !present(at + 2 * PAGE));
    CHECK("the rest is left", strcmp(at + PAGE, "second") == 0);
    char *there = mremap(at, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE);
    CHECK("grow", there != MAP_FAILED && strcmp(there + PAGE, "second") == 0 && there[2 * PAGE] == 0);
    char *shared = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    strcpy(shared, "twice");
    char *again = mremap(shared, 0, PAGE, MREMAP_MAYMOVE);
    CHECK("duplicate shared", again != shared && strcmp(again, "twice") == 0);
    again[0] = 'T';
    CHECK("one memory", shared[0] == 'T');
    struct rlimit old, none = {0, 0};
    getrlimit(RLIMIT_AS, &old);
    none.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_AS, &none);
    CHECK_ERRNO("RLIMIT_AS", mremap(shared, PAGE, 2 * PAGE, MREMAP_MAYMOVE), ENOMEM);
    setrlimit(RLIMIT_AS, &old);
}

static void advice(void)
{
    char *at = map(4);
    int fd = new_file("advice", "content");
    char *shared = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0), *anonymous = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK_ERRNO("unknown", madvise(at, PAGE, 77), EINVAL);
    CHECK_ERRNO("not aligned", madvise(at + 1, PAGE, MADV_NORMAL), EINVAL);
    CHECK_ERRNO("negative length", madvise(at, -PAGE, MADV_NORMAL), EINVAL);
    CHECK_EQ("length 0", madvise(at, 0, MADV_NORMAL), 0);
    int harmless[] = {MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTFORK, MADV_DOFORK,
                      MADV_DONTDUMP, MADV_DODUMP, MADV_COLD, MADV_PAGEOUT};
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        CHECK_EQ("harmless", madvise(at, PAGE, harmless[i]), 0);
    memset(at, 'x', 4 * PAGE);
    CHECK_EQ("dont-need", madvise(at, PAGE, MADV_DONTNEED), 0);
    CHECK("zeros now", at[0] == 0 && at[PAGE] == 'x');
    CHECK_EQ("free", madvise(at + PAGE, PAGE, MADV_FREE), 0);
    CHECK("old or zero", at[PAGE] == 'x' || at[PAGE] == 0);
    CHECK_ERRNO("free what is shared", madvise(anonymous, PAGE, MADV_FREE), EINVAL);
    CHECK_EQ("wipe on fork", madvise(at + 2 * PAGE, PAGE, MADV_WIPEONFORK), 0);
    CHECK_EQ("not in the child", madvise(at + 3 * PAGE, PAGE, MADV_DONTFORK), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(at[2 * PAGE] != 0 || present(at + 3 * PAGE));
    int status;
    waitpid(pid, &status, 0);
    CHECK("child", exited(status, 0) && at[2 * PAGE] == 'x' && at[3 * PAGE] == 'x');
    CHECK_ERRNO("wipe what is shared", madvise(anonymous, PAGE, MADV_WIPEONFORK), EINVAL);
    CHECK_ERRNO("remove what is private", madvise(at, PAGE, MADV_REMOVE), EINVAL);
    strcpy(anonymous, "gone");
    CHECK_EQ("remove", madvise(anonymous, PAGE, MADV_REMOVE), 0);
    CHECK("removed", anonymous[0] == 0);
    CHECK_EQ("populate", madvise(map(1), PAGE, MADV_POPULATE_WRITE), 0);
    mprotect(at, PAGE, PROT_READ);
    CHECK_ERRNO("populate what cannot be written", madvise(at, PAGE, MADV_POPULATE_WRITE), EINVAL);
    char *beyond = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK_ERRNO("populate beyond the end", madvise(beyond, 2 * PAGE, MADV_POPULATE_READ), EFAULT);
    munmap(at + PAGE, PAGE);
    CHECK_ERRNO("a gap", madvise(at, 3 * PAGE, MADV_NORMAL), ENOMEM);
    CHECK_ERRNO("dont-need over a gap", madvise(at, 3 * PAGE, MADV_DONTNEED), ENOMEM);
    CHECK("done all the same", at[2 * PAGE] == 0);
    mprotect(at, PAGE, PROT_WRITE);
    CHECK_ERRNO("populate to read what is only to be written", madvise(at, PAGE, MADV_POPULATE_READ), EINVAL);
    CHECK_EQ("to write it", madvise(at, PAGE, MADV_POPULATE_WRITE), 0);
    mprotect(at, PAGE, PROT_READ);
    CHECK_ERRNO("populate over a gap", madvise(at, 3 * PAGE, MADV_POPULATE_READ), ENOMEM);
    mlock(at, PAGE);
    CHECK_ERRNO("dont-need what is locked", madvise(at, PAGE, MADV_DONTNEED), EINVAL);
    CHECK_EQ("but for this one", madvise(at, PAGE, MADV_DONTNEED_LOCKED), 0);
    CHECK_ERRNO("cold what is locked", madvise(at, PAGE, MADV_COLD), EINVAL);
    CHECK_EQ("msync", msync(shared, PAGE, MS_SYNC), 0);
    CHECK_ERRNO("msync: sync and async", msync(shared, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
    CHECK_ERRNO("msync: unknown flag", msync(shared, PAGE, 8), EINVAL);
    CHECK_ERRNO("msync: not aligned", msync(shared + 1, PAGE, MS_SYNC), EINVAL);
    CHECK_ERRNO("msync: nothing there", msync((void *)0x200000000000, PAGE, MS_SYNC), ENOMEM);
    CHECK_ERRNO("msync: invalidate what is locked", msync(at, PAGE, MS_INVALIDATE), EBUSY);
    close(fd);
}

static void locking(void)
{
    unsigned char vector[4] = {0};
    char *at = map(4);
    CHECK_ERRNO("mincore: not aligned", mincore(at + 1, PAGE, vector), EINVAL);
    CHECK_ERRNO("mincore: nothing there", mincore((void *)0x200000000000, PAGE, vector), ENOMEM);
    CHECK_ERRNO("mincore: bad vector", mincore(at, PAGE, (void *)8), EFAULT);
    CHECK_EQ("mincore", mincore(at, 4 * PAGE, vector), 0);
    CHECK("nothing was touched", !(vector[0] | vector[1] | vector[2] | vector[3]));
    CHECK_EQ("mlock", mlock(at + PAGE + 5, 10), 0);
    mincore(at, 4 * PAGE, vector);
    CHECK("one page is there", !vector[0] && vector[1] && !vector[2]);
    CHECK_EQ("on fault", mlock2(at + 2 * PAGE, PAGE, MLOCK_ONFAULT), 0);
    CHECK("not there yet", !present(at + 2 * PAGE));
    at[2 * PAGE] = 1;
    mincore(at, 4 * PAGE, vector);
    CHECK("it is once touched, alone", vector[2] && !vector[3]);
    CHECK_ERRNO("mlock2: unknown flag", mlock2(at, PAGE, 2), EINVAL);
    CHECK_ERRNO("mlock: nothing there", mlock((void *)0x200000000000, PAGE), ENOMEM);
    CHECK_ERRNO("mlock: wraps around", mlock((void *)-PAGE, 2 * PAGE), EINVAL);
    CHECK_EQ("munlock", munlock(at, 4 * PAGE), 0);
    CHECK_ERRNO("mlockall: nothing", mlockall(0), EINVAL);
    CHECK_ERRNO("mlockall: unknown flag", mlockall(8), EINVAL);
    CHECK_ERRNO("mlockall: on fault alone", mlockall(MCL_ONFAULT), EINVAL);
    if (!IS_ROOT) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_MEMLOCK, &none);
        CHECK_ERRNO("mlock: not permitted", mlock(at, PAGE), EPERM);
        CHECK_ERRNO("mlockall: not permitted", mlockall(MCL_CURRENT), EPERM);
        CHECK_ERRNO("MAP_LOCKED: not permitted", mmap(NULL, PAGE, RW, ANON | MAP_LOCKED, -1, 0), EPERM);
    }
}

static void memory_files(void)
{
    char longer[300];
    memset(longer, 'x', sizeof longer), longer[250] = 0;
    CHECK_ERRNO("name too long", memfd_create(longer, 0), EINVAL);
    longer[249] = 0;
    CHECK("longest name", memfd_create(longer, 0) >= 0);
    CHECK_ERRNO("unknown flag", memfd_create("x", 0x100), EINVAL);
    CHECK_ERRNO("bad name", memfd_create((void *)8, 0), EFAULT);
    CHECK_ERRNO("exec and noexec", memfd_create("x", 0x18), EINVAL);
    int fd = memfd_create("x", MFD_CLOEXEC);
    CHECK_EQ("close on exec", fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ("sealed against sealing", fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
    CHECK_ERRNO("no seals", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
    fd = memfd_create("x", MFD_ALLOW_SEALING);
    ftruncate(fd, 2 * PAGE);
    char *at = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
    CHECK_ERRNO("sealing what is mapped writable", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    CHECK_EQ("against growing", fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
    CHECK_ERRNO("grow", ftruncate(fd, 3 * PAGE), EPERM);
    CHECK_EQ("shrink", ftruncate(fd, PAGE), 0);
    CHECK_EQ("future writes", fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    at[0] = 'x';
    CHECK_ERRNO("write", write(fd, "x", 1), EPERM);
    CHECK_ERRNO("map writable", mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0), EPERM);
    CHECK("map readable", mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
    munmap(at, PAGE);
    CHECK_EQ("against writing", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL), 0);
    CHECK_ERRNO("against sealing", fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), EPERM);
    CHECK("private and writable", mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0) != MAP_FAILED);
    CHECK_ERRNO("no memory file", fcntl(1, F_GET_SEALS), EINVAL);
}

int main(void)
{
    enter_scratch();
    mapping();
    remapping();
    advice();
    locking();
    memory_files();
    return finish();
}
