/* cc: -static
 * mmap(2) of files: private and shared, one page cache with read(2) and write(2), errors, msync(2), memfd_create(2). */
#include "../check.h"

static int fd;
static char text[16];

static void coherent(void)
{
    char *shared = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *private = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK("content", memcmp(shared, "page0", 5) == 0 && memcmp(private + PAGE, "page1", 5) == 0);
    pwrite(fd, "WRITE", 5, 0);
    CHECK("write(2) shows in both", memcmp(shared, "WRITE", 5) == 0 && memcmp(private, "WRITE", 5) == 0);
    memcpy(shared, "STORE", 5);
    pread(fd, text, 5, 0);
    CHECK("a shared store shows in read(2)", memcmp(text, "STORE", 5) == 0);
    CHECK("and in the private map", memcmp(private, "STORE", 5) == 0);
    private[0] = 'p';
    pread(fd, text, 5, 0);
    CHECK("a private store does not", text[0] == 'S' && shared[0] == 'S');
    shared[1] = 'x';
    CHECK("a copied page is apart", private[1] == 'T');
    CHECK_EQ("msync", msync(shared, 2 * PAGE, MS_SYNC), 0);
    CHECK_ERRNO("msync both flags", msync(shared, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
    CHECK_ERRNO("msync unaligned", msync(shared + 1, PAGE, MS_SYNC), EINVAL);
    char *second = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
    CHECK("offset", memcmp(second, "page1", 5) == 0);
    shared[PAGE] = 'Q';
    CHECK("two maps of one page", second[0] == 'Q');
    close(fd);
    CHECK("maps outlive the descriptor", shared[PAGE] == 'Q');
    munmap(shared, PAGE);
    CHECK_ERRNO("msync over a hole", msync(shared, 2 * PAGE, MS_ASYNC), ENOMEM);
    munmap(shared + PAGE, PAGE), munmap(private, 2 * PAGE), munmap(second, PAGE);
    fd = open("f", O_RDWR);
    pread(fd, text, 1, PAGE);
    CHECK("and the file keeps it", text[0] == 'Q');
}

static void tails(void)
{
    ftruncate(fd, PAGE + 100);
    char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK("bytes beyond the end are zero", p[PAGE + 100] == 0 && p[2 * PAGE - 1] == 0);
    p[PAGE + 200] = 'x';
    struct stat st;
    CHECK("storing there does not grow the file", fstat(fd, &st) == 0 && st.st_size == (off_t)PAGE + 100);
    ftruncate(fd, PAGE + 150);
    ftruncate(fd, 2 * PAGE);
    p[PAGE + 300] = 'y';
    pread(fd, text, 1, PAGE + 300);
    CHECK("now it does count", text[0] == 'y');
    munmap(p, 2 * PAGE);
}

static void across_fork(void)
{
    char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *anonymous = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *private = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(private, "parent");
    pid_t pid = fork();
    if (pid == 0) {
        shared[8] = 's', anonymous[0] = 'a';
        strcpy(private, "child");
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    CHECK("shared file map", shared[8] == 's');
    CHECK("shared anonymous map", anonymous[0] == 'a');
    CHECK("private map", strcmp(private, "parent") == 0);
    munmap(shared, PAGE);
}

static void errors(void)
{
    int readonly = open("f", O_RDONLY), writeonly = open("f", O_WRONLY), pipes[2];
    pipe(pipes);
    CHECK_ERRNO("shared write of a read-only file", (long)mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, readonly, 0), EACCES);
    CHECK("private write of it", mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, readonly, 0) != MAP_FAILED);
    CHECK_ERRNO("write-only file", (long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, writeonly, 0), EACCES);
    CHECK_ERRNO("pipe", (long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, pipes[0], 0), ENODEV);
    CHECK_ERRNO("directory", (long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, open(".", O_RDONLY), 0), ENODEV);
    CHECK_ERRNO("bad descriptor", (long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 999, 0), EBADF);
    CHECK_ERRNO("offset unaligned", syscall(SYS_mmap, 0, PAGE, PROT_READ, MAP_PRIVATE, readonly, 12), EINVAL);
    char *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, readonly, 0);
    CHECK_ERRNO("mprotect cannot add write", mprotect(p, PAGE, PROT_READ | PROT_WRITE), EACCES);
    int zero = open("/dev/zero", O_RDWR);
    p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    CHECK("/dev/zero", p != MAP_FAILED && p[0] == 0 && (p[0] = 1));
}

static void seals(void)
{
    int mem = memfd_create("name", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK("memfd", mem >= 0 && ftruncate(mem, PAGE) == 0 && fcntl(mem, F_GETFD) == FD_CLOEXEC);
    char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mem, 0);
    strcpy(p, "in memory");
    CHECK("read", pread(mem, text, 9, 0) == 9 && memcmp(text, "in memory", 9) == 0);
    CHECK_ERRNO("F_SEAL_WRITE while mapped", fcntl(mem, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    munmap(p, PAGE);
    CHECK_EQ("seal", fcntl(mem, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
    CHECK_EQ("seals", fcntl(mem, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
    CHECK_ERRNO("write", pwrite(mem, "x", 1, 0), EPERM);
    CHECK_ERRNO("shrink", ftruncate(mem, 0), EPERM);
    CHECK_ERRNO("grow", ftruncate(mem, 3 * PAGE), EPERM);
    CHECK_ERRNO("map for writing", (long)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mem, 0), EPERM);
    fcntl(mem, F_ADD_SEALS, F_SEAL_SEAL);
    CHECK_ERRNO("F_SEAL_SEAL", fcntl(mem, F_ADD_SEALS, F_SEAL_GROW), EPERM);
    CHECK_ERRNO("bad flags", memfd_create("x", 0x800000), EINVAL);
    int plain = memfd_create("plain", 0);
    CHECK_EQ("sealed against sealing", fcntl(plain, F_GET_SEALS), F_SEAL_SEAL);
}

int main(void)
{
    enter_scratch();
    fd = new_file("f", "");
    pwrite(fd, "page0", 5, 0), pwrite(fd, "page1", 5, PAGE), ftruncate(fd, 2 * PAGE);
    coherent();
    tails();
    across_fork();
    errors();
    seals();
    return finish();
}
