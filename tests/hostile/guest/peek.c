/* cc: -static
 * Memory that is somebody else's: another user's process by every door, and what frames held before. argv[1] names the attack. */
#include "../../conformance/check.h"
#include <grp.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static char secret[] = "the secret of another process";

static bool closed(const char *name, pid_t pid)
{
    char path[64], buffer[64];
    sprintf(path, "/proc/%d/%s", pid, name);
    int fd = open(path, O_RDONLY);
    ssize_t got = fd < 0 ? -1 : pread(fd, buffer, sizeof buffer, strcmp(name, "mem") == 0 ? (off_t)(uintptr_t)secret : 0);
    close(fd);
    return got <= 0;
}

/* As another user: whatever shows a process's memory, files or secrets refuses. */
static int others(void)
{
    pid_t owner = getpid(), pid = fork();
    if (pid == 0) {
        if (setgroups(0, NULL) != 0 || setresgid(1234, 1234, 1234) != 0 || setresuid(1234, 1234, 1234) != 0)
            _exit(1);
        char buffer[sizeof secret];
        struct iovec here = {buffer, sizeof buffer}, there = {secret, sizeof secret};
        bool good = process_vm_readv(owner, &here, 1, &there, 1, 0) < 0 && errno == EPERM;
        good &= process_vm_writev(owner, &here, 1, &there, 1, 0) < 0 && errno == EPERM;
        good &= kill(owner, SIGKILL) < 0 && errno == EPERM && ptrace(PTRACE_ATTACH, owner, 0, 0) < 0;
        good &= closed("mem", owner) && closed("maps", owner) && closed("environ", owner) && closed("auxv", owner);
        good &= closed("fd/0", owner) && closed("exe", owner) && closed("cwd/.", owner) && closed("root/etc/passwd", owner);
        _exit(good ? 42 : 3);
    }
    int status;
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

static bool holds(const char *from, size_t length)
{
    return memmem(from, length, secret, sizeof secret - 1) != NULL;
}

/* A process leaves its secret in every kind of memory and ends; the next one looks for it wherever memory comes from. */
static int residue(void)
{
    size_t length = 24 << 20;
    pid_t pid = fork();
    if (pid == 0) {
        char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t at = 0; at + sizeof secret < length; at += sizeof secret)
            memcpy(memory + at, secret, sizeof secret);
        int fd = open("/tmp/secret", O_RDWR | O_CREAT, 0600), tube[2];
        write(fd, memory, 8 << 20), unlink("/tmp/secret");
        pipe2(tube, O_NONBLOCK), write(tube[1], memory, 65536);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    pid = fork();
    if (pid == 0) {
        memset(secret, 0, 4); /* our own copy is not a find: it is put together again on the stack */
        char whole[sizeof secret];
        memcpy(whole, secret, sizeof secret), memcpy(whole, "the ", 4);
        char *memory = mmap(NULL, 3 * length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        char *shared = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        bool found = memmem(memory, 3 * length, whole, sizeof whole - 1) || memmem(shared, length, whole, sizeof whole - 1);
        int fd = open("/tmp/other", O_RDWR | O_CREAT, 0600);
        ftruncate(fd, 8 << 20);
        for (off_t at = 0; at < 8 << 20; at += 65536)
            pread(fd, memory, 65536, at), found |= memmem(memory, 65536, whole, sizeof whole - 1) != NULL;
        _exit(found ? 3 : 42);
    }
    int status;
    waitpid(pid, &status, 0);
    return holds(secret, sizeof secret) ? WEXITSTATUS(status) : 4;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "others") == 0)
        _exit(others());
    if (argc > 1 && strcmp(argv[1], "residue") == 0)
        _exit(residue());
    _exit(99);
}
