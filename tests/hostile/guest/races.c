/* cc: -static -pthread
 * Threads that change arguments and mappings while other threads are in calls that use them. */
#include "../../conformance/check.h"
#include <pthread.h>
#include <sys/uio.h>

static char *volatile area;
static struct iovec vector[4];
static char path[64] = "/tmp/race";
static volatile bool stop;

static void *maps(void *arg)
{
    (void)arg;
    while (!stop) {
        mmap(area, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        mprotect(area + PAGE, PAGE, PROT_READ);
        munmap(area + 2 * PAGE, PAGE);
        madvise(area, PAGE, MADV_DONTNEED);
    }
    return NULL;
}

static void *arguments(void *arg)
{
    (void)arg;
    for (unsigned i = 0; !stop; i++) {
        vector[i % 4].iov_len = i % 3 ? 100 : ~0ul;
        vector[i % 4].iov_base = i % 2 ? area : (char *)0xffffffff80000000;
        path[1 + i % 8] = i % 5 ? 't' : '/';
    }
    return NULL;
}

static void *calls(void *arg)
{
    int zero = open("/dev/zero", O_RDWR), pipes[2];
    pipe2(pipes, O_NONBLOCK);
    struct stat st;
    for (int i = 0; i < 3000; i++) {
        read(zero, area + i % PAGE, 3 * PAGE);
        readv(zero, vector, 4);
        writev(pipes[1], vector, 4);
        read(pipes[0], area, 2 * PAGE);
        stat(path, &st);
        int fd = open(path, O_RDWR | O_CREAT, 0600);
        write(fd, area, PAGE);
        close(fd);
        getcwd(area, PAGE);
    }
    return arg;
}

static void on_fault(int signo)
{
    (void)signo;
    _exit(3);
}

int main(void)
{
    signal(SIGSEGV, on_fault);
    area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t mapper, changer, callers[3];
    pthread_create(&mapper, NULL, maps, NULL);
    pthread_create(&changer, NULL, arguments, NULL);
    for (int i = 0; i < 3; i++)
        pthread_create(&callers[i], NULL, calls, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(callers[i], NULL);
    stop = true;
    pthread_join(mapper, NULL), pthread_join(changer, NULL);
    _exit(42);
}
