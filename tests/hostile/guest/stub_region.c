/* cc: -static
 * The top of the address space, where a kernel that runs beside its programs would keep something: read it, write it, jump into
 * it, map over it, unmap it, and ask the kernel to read and write it. Every probe may kill its own child, nothing more. */
#include "../../conformance/check.h"

static void quiet(int signo)
{
    _exit(signo);
}

static int probe(int how, char *at)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (int s = 1; s < 32; s++)
            signal(s, quiet);
        alarm(2);
        volatile char sink;
        int fd = open("/tmp/out", O_RDWR | O_CREAT, 0600);
        if (how == 0)
            sink = *(volatile char *)at, (void)sink;
        if (how == 1)
            *(volatile char *)at = 1;
        if (how == 2) {
            register long a __asm__("rax") = SYS_getppid;
            __asm__ volatile("call *%1" : "+a"(a) : "r"(at) : "memory", "rcx", "r11", "rdi", "rsi", "rdx", "r10", "r8", "r9");
        }
        if (how == 3)
            munmap(at, PAGE);
        if (how == 4 && mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at)
            memset(at, 0xcc, PAGE);
        if (how == 5)
            mprotect(at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), *(volatile char *)at = 0xcc;
        if (how == 6)
            write(fd, at, PAGE);
        if (how == 7)
            read(open("/dev/zero", O_RDONLY), at, PAGE);
        if (how == 8)
            madvise(at, PAGE, MADV_DONTNEED);
        if (how == 9)
            mremap(at, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
        _exit(getpid() > 0 ? 0 : 1);
    }
    int status;
    waitpid(pid, &status, 0);
    return status;
}

int main(void)
{
    static const unsigned long starts[] = {
        0x7fffffffe000, 0x7ffffffff000, 0x7fffffff0000, 0x7ffffffe0000, 0x7fffff000000, 0x7ffff0000000,
        0x7fff00000000, 0x7ffeffff0000, 0x1000,         0x10000,        0xffffffffff600000, 0x7e0000000000,
    };
    int deaths = 0, survived = 0;
    for (unsigned i = 0; i < sizeof starts / sizeof *starts; i++)
        for (int how = 0; how < 10; how++)
            for (int step = 0; step < 3; step++)
                if (probe(how, (char *)starts[i] + step * 4096 + (how == 2 ? step * 7 : 0)) == 0)
                    survived++;
                else
                    deaths++;
    int status = system("exit 9");
    _exit(survived + deaths == 360 && WEXITSTATUS(status) == 9 ? 42 : 1);
}
