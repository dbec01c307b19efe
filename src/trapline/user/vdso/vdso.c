/* The vDSO: reading clocks without entering the kernel, vdso(7).
 *
 * The kernel keeps one read-only data page just before this image (see HEAD in vdso.py; the layout is shared by hand, and FITS there compares).
 * A clock is a line through the time-stamp counter: so many nanoseconds per tick since it was `counter`, when the clock showed
 * `base`. `seq` is odd while the kernel changes the page. What the page does not answer (`clocks` has no bit for it) is a real
 * system call. This code runs in user mode with no more rights than its caller.
 *
 * What counts is the chain of instructions behind rdtsc, since nothing overlaps with the next call's lfence: one multiplication
 * of which the high half is used as it is, and no division, as seconds and nanoseconds are kept apart.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#define NSEC 1000000000ull
#define CLOCKS 12

struct vvar {
	uint64_t head; /* `seq`, and from bit 32 on a bit per clock id that is answered here: `clocks` */
	uint64_t counter; /* time-stamp counter at `base` */
	uint64_t rate; /* nanoseconds per tick are rate / 2**64 */
	struct { uint64_t sec, nsec; } base[CLOCKS];
	int32_t minuteswest, dsttime;
};

/* What this image was compiled from. VERSION counts changes of what the page means, here and in vdso.py. */
#define VERSION 1

static const struct {
	uint32_t namesz, descsz, type;
	char name[12];
	uint32_t version, size, clocks, bases;
} note __attribute__((section(".note.trapline"), used, aligned(4))) = {
	sizeof "Trapline", 16, 1, "Trapline", VERSION, sizeof(struct vvar), CLOCKS, offsetof(struct vvar, base),
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

/* Apart, so that the way without it needs fewer registers. */
static __attribute__((noinline, cold)) long syscall3(long nr, long a, long b, long c)
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

/* The time of `clock`; false when only the kernel knows it. */
static inline int now(uint32_t clock, struct timespec64 *time)
{
	const volatile struct vvar *page = &vvar_page;
	uint64_t head, nsec, sec, ticks;

	if (clock >= CLOCKS)
		return 0;
	do {
		head = page->head;
		barrier();
		if (head & 1 || !(head >> 32 >> clock & 1))
			return 0;
		ticks = counter() - page->counter;
		if ((int64_t)ticks < 0)
			ticks = 0; /* another CPU's counter, a few ticks behind */
		nsec = page->base[clock].nsec + (uint64_t)((unsigned __int128)ticks * page->rate >> 64);
		sec = page->base[clock].sec;
		barrier();
	} while (page->head != head);
	while (nsec >= NSEC) { /* seldom more than once: the page is renewed every second */
		nsec -= NSEC, sec++;
		__asm__("" : "+r"(nsec)); /* not to become a division */
	}
	time->tv_sec = (int64_t)sec;
	time->tv_nsec = (int64_t)nsec;
	return 1;
}

int __vdso_clock_gettime(int32_t clock, struct timespec64 *result)
{
	struct timespec64 time;

	if (!now((uint32_t)clock, &time))
		return (int)syscall3(SYS_clock_gettime, clock, (long)result, 0);
	*result = time;
	return 0;
}

int __vdso_gettimeofday(struct timeval64 *result, struct timezone *zone)
{
	struct timespec64 time;

	if (!now(0, &time))
		return (int)syscall3(SYS_gettimeofday, (long)result, (long)zone, 0);
	if (result) {
		result->tv_sec = time.tv_sec;
		result->tv_usec = time.tv_nsec / 1000;
	}
	if (zone) {
		zone->minuteswest = vvar_page.minuteswest;
		zone->dsttime = vvar_page.dsttime;
	}
	return 0;
}

int64_t __vdso_time(int64_t *result)
{
	struct timespec64 time;

	if (!now(0, &time))
		return syscall3(SYS_time, (long)result, 0, 0);
	if (result)
		*result = time.tv_sec;
	return time.tv_sec;
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
