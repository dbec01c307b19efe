/* cc: -static -pthread
 * futex(2): wait, wake, bitsets, requeue, wake-op, time-outs, shared between processes, robust lists, errors. */
#include "../check.h"
#include <linux/futex.h>
#include <pthread.h>

static int word, second, woken;

static long futex(int *at, int op, int value, void *timeout, int *other, int value3)
{
    return syscall(SYS_futex, at, op, value, timeout, other, value3);
}

static void *waiter(void *arg)
{
    if (futex(&word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, (int)(long)arg) == 0)
        __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static int sleepers(void)
{
    DIR *dir = opendir("/proc/self/task");
    int count = 0;
    for (struct dirent *e; (e = readdir(dir));)
        count += e->d_name[0] != '.' && task_state(atoi(e->d_name)) == 'S';
    closedir(dir);
    return count;
}

static void start(pthread_t *threads, int n, long mask)
{
    woken = 0;
    for (int i = 0; i < n; i++)
        pthread_create(&threads[i], NULL, waiter, (void *)(mask ? mask : 1l << i));
    for (int i = 0; i < 1000 && sleepers() < n; i++)
        sleep_ms(1);
}

static void join(pthread_t *threads, int n)
{
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

static void waking(void)
{
    pthread_t threads[4];
    int private = FUTEX_PRIVATE_FLAG;
    CHECK_EQ("wake nobody", futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0), 0);
    CHECK_ERRNO("value differs", futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0), EAGAIN);
    start(threads, 4, -1);
    CHECK_EQ("wake two", futex(&word, FUTEX_WAKE | private, 2, NULL, NULL, 0), 2);
    CHECK_EQ("wake the rest", futex(&word, FUTEX_WAKE | private, INT_MAX, NULL, NULL, 0), 2);
    join(threads, 4);
    CHECK_EQ("all came back", woken, 4);
    start(threads, 4, 0);
    CHECK_EQ("wake by bit 2", futex(&word, FUTEX_WAKE_BITSET | private, 10, NULL, NULL, 4), 1);
    CHECK_EQ("wake by bits 0 and 1", futex(&word, FUTEX_WAKE_BITSET | private, 10, NULL, NULL, 3), 2);
    CHECK_EQ("any bit", futex(&word, FUTEX_WAKE | private, 10, NULL, NULL, 0), 1);
    join(threads, 4);
    start(threads, 4, -1);
    CHECK_ERRNO("requeue checks the value", futex(&word, FUTEX_CMP_REQUEUE | private, 1, (void *)9l, &second, 7), EAGAIN);
    CHECK_EQ("wake one, move two", futex(&word, FUTEX_CMP_REQUEUE | private, 1, (void *)2l, &second, 0), 3);
    CHECK_EQ("two wait there", futex(&second, FUTEX_WAKE | private, 10, NULL, NULL, 0), 2);
    CHECK_EQ("one stayed", futex(&word, FUTEX_WAKE | private, 10, NULL, NULL, 0), 1);
    join(threads, 4);
    start(threads, 2, -1);
    second = 5;
    int add_ten = FUTEX_OP(FUTEX_OP_ADD, 10, FUTEX_OP_CMP_EQ, 5);
    CHECK_EQ("FUTEX_WAKE_OP", futex(&word, FUTEX_WAKE_OP | private, 2, (void *)2l, &second, add_ten), 2);
    CHECK_EQ("its operation", second, 15);
    join(threads, 2);
}

static void timing(void)
{
    struct timespec brief = {0, 3000000}, wrong = {0, -1}, past = {1, 0};
    int64_t start_ns = now_ns(CLOCK_MONOTONIC);
    CHECK_ERRNO("time-out", futex(&word, FUTEX_WAIT, 0, &brief, NULL, 0), ETIMEDOUT);
    CHECK("no sooner", now_ns(CLOCK_MONOTONIC) - start_ns >= 3000000);
    CHECK_ERRNO("absolute, past", futex(&word, FUTEX_WAIT_BITSET, 0, &past, NULL, -1), ETIMEDOUT);
    CHECK_ERRNO("real-time clock, past", futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &past, NULL, -1), ETIMEDOUT);
    CHECK_ERRNO("bad time", futex(&word, FUTEX_WAIT, 0, &wrong, NULL, 0), EINVAL);
    CHECK_ERRNO("bitset 0", futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), EINVAL);
    CHECK_ERRNO("unaligned", futex((int *)((char *)&word + 1), FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
    CHECK_ERRNO("unmapped", futex((int *)64, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
    CHECK_ERRNO("kernel address", futex((int *)0xffffffff81000000, FUTEX_WAKE, 1, NULL, NULL, 0), EFAULT);
    CHECK_ERRNO("unknown operation", futex(&word, 99, 0, NULL, NULL, 0), ENOSYS);
}

static void shared(void)
{
    int *pages = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int *again = mremap(pages, 0, PAGE, MREMAP_MAYMOVE);
    pid_t pid = fork();
    if (pid == 0)
        _exit(futex(again, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 0 : 1);
    until_asleep(pid);
    CHECK_EQ("between processes, by another address", futex(pages, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
    int status;
    waitpid(pid, &status, 0);
    CHECK("it woke", exited(status, 0));
}

static struct {
    struct robust_list_head head;
    struct {
        struct robust_list list;
        int lock;
    } entry;
} *robust;

static void robust_death(void)
{
    robust = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0) {
        robust->head.list.next = &robust->entry.list;
        robust->entry.list.next = &robust->head.list;
        robust->head.futex_offset = (char *)&robust->entry.lock - (char *)&robust->entry.list;
        robust->entry.lock = (int)syscall(SYS_gettid) | (int)FUTEX_WAITERS;
        syscall(SYS_set_robust_list, &robust->head, sizeof robust->head);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    CHECK_EQ("robust list: the owner died", (unsigned)robust->entry.lock, FUTEX_OWNER_DIED | FUTEX_WAITERS);
    CHECK_ERRNO("wrong size", syscall(SYS_set_robust_list, &robust->head, 5), EINVAL);
}

int main(void)
{
    waking();
    timing();
    shared();
    robust_death();
    return finish();
}
