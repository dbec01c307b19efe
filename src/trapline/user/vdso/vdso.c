/* The vDSO: reading clocks without entering the kernel, vdso(7).
 *
 * The kernel keeps one read-only data page just before this image (see vvar in vdso.py; the layout is shared by hand).
 * A clock is CLOCK_MONOTONIC plus an offset, and CLOCK_MONOTONIC is a line through the time-stamp counter. `seq` is odd
 * while the kernel changes the page. What the page does not answer (`clocks` has no bit for it) is a real system call.
 * This code runs in user mode with no more rights than its caller.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#define NSEC 1000000000ull
#define CLOCKS 12
#define RATE_SHIFT 60 /* nanoseconds per tick are rate / 2**60 */

struct vvar {
	uint32_t seq;
	uint32_t clocks; /* bit per clock id that is answered here */
	uint64_t counter; /* time-stamp counter at `base_ns` */
	uint64_t base_ns; /* CLOCK_MONOTONIC then */
	uint64_t rate;
	int64_t offset_ns[CLOCKS]; /* from CLOCK_MONOTONIC */
	int32_t minuteswest, dsttime;
};

struct timespec64 {
	int64_t tv_sec, tv_nsec;
};

struct timeval64 {
	int64_t tv_sec, tv_usec;
};

struct timezone {
	int32_t minuteswest, dsttime;
};

extern const volatile struct vvar vvar_page __attribute__((visibility("hidden")));

static inline long syscall3(long nr, long a, long b, long c)
{
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return result;
}

static inline uint64_t counter(void)
{
	uint32_t low, high;

	/* not before what comes earlier in the program */
	__asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static inline void barrier(void)
{
	__asm__ volatile("" : : : "memory"); /* loads stay in order on this architecture */
}

/* The time of `clock` in nanoseconds, or 0 when only the kernel knows it. */
static inline uint64_t now(uint32_t clock)
{
	const volatile struct vvar *page = &vvar_page;
	uint64_t ns, ticks;
	uint32_t seq;

	do {
		seq = page->seq;
		barrier();
		if (seq & 1 || clock >= CLOCKS || !(page->clocks >> clock & 1))
			return 0;
		ticks = counter() - page->counter;
		if ((int64_t)ticks < 0)
			ticks = 0; /* another CPU's counter, a few ticks behind */
		ns = page->base_ns + (uint64_t)((unsigned __int128)ticks * page->rate >> RATE_SHIFT);
		ns += (uint64_t)page->offset_ns[clock];
		barrier();
	} while (page->seq != seq);
	return ns;
}

int __vdso_clock_gettime(int32_t clock, struct timespec64 *result)
{
	uint64_t ns = now((uint32_t)clock);

	if (!ns)
		return (int)syscall3(SYS_clock_gettime, clock, (long)result, 0);
	result->tv_sec = (int64_t)(ns / NSEC);
	result->tv_nsec = (int64_t)(ns % NSEC);
	return 0;
}

int __vdso_gettimeofday(struct timeval64 *result, struct timezone *zone)
{
	uint64_t ns = now(0);

	if (!ns)
		return (int)syscall3(SYS_gettimeofday, (long)result, (long)zone, 0);
	if (result) {
		result->tv_sec = (int64_t)(ns / NSEC);
		result->tv_usec = (int64_t)(ns % NSEC / 1000);
	}
	if (zone) {
		zone->minuteswest = vvar_page.minuteswest;
		zone->dsttime = vvar_page.dsttime;
	}
	return 0;
}

int64_t __vdso_time(int64_t *result)
{
	uint64_t ns = now(0);
	int64_t seconds;

	if (!ns)
		return syscall3(SYS_time, (long)result, 0, 0);
	seconds = (int64_t)(ns / NSEC);
	if (result)
		*result = seconds;
	return seconds;
}

int __vdso_clock_getres(int32_t clock, struct timespec64 *result)
{
	return (int)syscall3(SYS_clock_getres, clock, (long)result, 0);
}

long __vdso_getcpu(uint32_t *cpu, uint32_t *node, void *unused)
{
	return syscall3(SYS_getcpu, (long)cpu, (long)node, (long)unused);
}

int clock_gettime(int32_t clock, struct timespec64 *result)
	__attribute__((weak, alias("__vdso_clock_gettime")));
int gettimeofday(struct timeval64 *result, struct timezone *zone)
	__attribute__((weak, alias("__vdso_gettimeofday")));
int64_t time(int64_t *result) __attribute__((weak, alias("__vdso_time")));
int clock_getres(int32_t clock, struct timespec64 *result)
	__attribute__((weak, alias("__vdso_clock_getres")));
long getcpu(uint32_t *cpu, uint32_t *node, void *unused) __attribute__((weak, alias("__vdso_getcpu")));
