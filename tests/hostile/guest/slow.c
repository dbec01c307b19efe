/* cc: -static
 * Single calls that are a minute's work and more, because the caller says so; argv[1] names which. */
#include "../../conformance/check.h"
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "mincore") == 0) {
        size_t length = 1ul << 45;
        char *area = mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        char *answer = mmap(0, length / PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (area == MAP_FAILED || answer == MAP_FAILED)
            return 1;
        return syscall(SYS_mincore, area, length, answer) == 0 ? 2 : 3;
    }
    if (strcmp(what, "copy") == 0) {
        size_t length = 1 << 24;
        char *area = mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct iovec parts[127];
        for (int i = 0; i < 127; i++)
            parts[i] = (struct iovec){area, length};
        for (int i = 0; i < 3; i++)
            if (process_vm_readv(getpid(), parts, 127, parts, 127, 0) != 127l * (1 << 24))
                return 4;
        for (;;)
            process_vm_writev(getpid(), parts, 127, parts, 127, 0);
    }
    return 99;
}
