/* cc: -static
 * Copy-on-write: fork(2) trees, kernel writes into shared pages, private file maps, process_vm_readv(2). */
#include "../check.h"
#include <sys/uio.h>

#define COUNT 64
static char *area;
static int ready[2], go[2];

static bool holds(char tag)
{
    for (int i = 0; i < COUNT; i++)
        if (area[i * PAGE] != tag || area[i * PAGE + PAGE - 1] != tag)
            return false;
    return true;
}

static void fill(char tag)
{
    memset(area, tag, COUNT * PAGE);
}

static void generations(void)
{
    fill('a');
    int status, bad = 0;
    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            if (!holds('a'))
                _exit(1);
            fill((char)('b' + i));
            pid_t inner = fork();
            if (inner == 0) {
                bool good = holds((char)('b' + i));
                fill('z');
                _exit(good && holds('z') ? 0 : 1);
            }
            waitpid(inner, &status, 0);
            _exit(exited(status, 0) && holds((char)('b' + i)) ? 0 : 1);
        }
    }
    while (wait(&status) > 0)
        bad += !exited(status, 0);
    CHECK_EQ("four children, four grandchildren", bad, 0);
    CHECK("the parent's pages are its own", holds('a'));
}

static void kernel_writes(void)
{
    fill('k');
    int pipes[2];
    char c;
    pipe(pipes);
    pipe(ready);
    pid_t pid = fork();
    if (pid == 0) {
        read(pipes[0], &c, 1);
        _exit(holds('k') ? 0 : 1);
    }
    write(ready[1], "kernel", 6);
    CHECK("read(2) into a shared page", read(ready[0], area + 10, 6) == 6 && memcmp(area + 10, "kernel", 6) == 0);
    area[0] = 'X', area[PAGE - 1] = 'X';
    write(pipes[1], "x", 1);
    int status;
    waitpid(pid, &status, 0);
    CHECK("the child does not see it", exited(status, 0));
}

static void read_only_between(void)
{
    fill('r');
    mprotect(area, COUNT * PAGE, PROT_READ);
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        mprotect(area, COUNT * PAGE, PROT_READ | PROT_WRITE);
        fill('c');
        _exit(holds('c') ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    CHECK("mprotect in the child, then write", exited(status, 0) && holds('r'));
    mprotect(area, COUNT * PAGE, PROT_READ | PROT_WRITE);
    fill('w');
    CHECK("and in the parent", holds('w'));
}

static void other_process(void)
{
    pipe(ready), pipe(go);
    fill('o');
    pid_t pid = fork();
    char c, seen[8] = {0};
    if (pid == 0) {
        strcpy(area + 100, "private");
        write(ready[1], "x", 1);
        read(go[0], &c, 1);
        _exit(strcmp(area + 100, "changed") == 0 ? 0 : 1);
    }
    read(ready[0], &c, 1);
    struct iovec local = {seen, 8}, remote = {area + 100, 8};
    CHECK_EQ("process_vm_readv", process_vm_readv(pid, &local, 1, &remote, 1, 0), 8);
    CHECK("reads the child's copy", strcmp(seen, "private") == 0);
    strcpy(seen, "changed");
    CHECK_EQ("process_vm_writev", process_vm_writev(pid, &local, 1, &remote, 1, 0), 8);
    CHECK("the parent's copy stays", area[100] == 'o');
    struct iovec bad = {(void *)16, 8};
    CHECK_ERRNO("unmapped there", process_vm_readv(pid, &local, 1, &bad, 1, 0), EFAULT);
    CHECK_ERRNO("flags", process_vm_readv(pid, &local, 1, &remote, 1, 1), EINVAL);
    write(go[1], "x", 1);
    int status;
    waitpid(pid, &status, 0);
    CHECK("the child sees the write", exited(status, 0));
    CHECK_ERRNO("gone", process_vm_readv(pid, &local, 1, &remote, 1, 0), ESRCH);
}

static void zero_page(void)
{
    volatile char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile char *q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char sum = p[0] + q[0];
    p[0] = 1;
    CHECK("pages read before they are written stay apart", sum == 0 && q[0] == 0 && p[0] == 1);
}

int main(void)
{
    area = mmap(NULL, COUNT * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    generations();
    kernel_writes();
    read_only_between();
    other_process();
    zero_page();
    return finish();
}
