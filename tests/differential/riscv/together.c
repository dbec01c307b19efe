/* Harts that work at the same time, in S-mode under Sv39: locks of all kinds, orders of memory, messages, pages that move and code that
 * changes under the others. Each trial is entered by all harts together, and counts what must not happen. -DHARTS=N, -DROUNDS=N.
 */
#define MANY (25 * ROUNDS) /* where nobody waits for anybody */

typedef unsigned long u64;
typedef unsigned int u32;

#define MSIP ((volatile u32 *)0x2000000)
#define UART ((volatile char *)0x10000000)
#define FINISHER ((volatile u32 *)0x100000)
#define APART __attribute__((aligned(64)))
#define PAGE 4096

extern struct { volatile u64 count; char rest[56]; } messages[8];
extern u32 patched[];

static volatile u64 arrived APART, phase APART, wrong APART;
static volatile u64 counter APART, lock APART, ticket APART, serving APART, word APART, flag APART;
static volatile u32 half APART;
static volatile u64 seen[8][8];
static u64 root[512] __attribute__((aligned(PAGE))), middle[512] __attribute__((aligned(PAGE))), leaves[512] __attribute__((aligned(PAGE)));
static volatile u64 frames[2][512] __attribute__((aligned(PAGE)));

#define MOVING ((volatile u64 *)0x40000000) /* the page that is mapped here and there */

/* ---- words for the instructions */

#define FENCE(from, to) __asm__ volatile("fence " #from "," #to ::: "memory")
#define AMO(op, size, where, value) ({ u64 old_; \
	__asm__ volatile("amo" op "." size ".aqrl %0, %2, (%1)" : "=&r"(old_) : "r"(where), "r"((u64)(value)) : "memory"); old_; })

static void add_reserved(volatile u64 *where)
{
	u64 old, failed;

	do
		__asm__ volatile("lr.d.aq %0, (%2)\n addi %0, %0, 1\n sc.d.rl %1, %0, (%2)" : "=&r"(old), "=&r"(failed) : "r"(where) : "memory");
	while (failed);
}

static void add_reserved_half(volatile u32 *where)
{
	u64 old, failed;

	do
		__asm__ volatile("lr.w.aq %0, (%2)\n addi %0, %0, 1\n sc.w.rl %1, %0, (%2)" : "=&r"(old), "=&r"(failed) : "r"(where) : "memory");
	while (failed);
}

static void barrier(void)
{
	u64 here = phase;

	FENCE(rw, rw);
	if (AMO("add", "d", &arrived, 1) == HARTS - 1) {
		arrived = 0;
		FENCE(w, w);
		phase = here + 1;
	} else
		while (phase == here)
			;
	FENCE(rw, rw);
}

static void together(u64 round) /* now and then, so that no hart is done before another one has begun */
{
	if (!(round & 1023))
		barrier();
}

static void bad(int yes)
{
	if (yes)
		AMO("add", "d", &wrong, 1);
}

/* ---- locks */

static void trial_swap_lock(u64 hart)
{
	for (u64 i = 0; i < MANY; i++) {
		together(i);
		while (AMO("swap", "d", &lock, 1))
			;
		counter = counter + 1;
		FENCE(rw, w);
		lock = 0;
	}
	barrier();
	bad(hart == 0 && counter != HARTS * MANY);
}

static void trial_reserved(u64 hart)
{
	for (u64 i = 0; i < MANY; i++) {
		together(i);
		add_reserved(&counter);
		add_reserved_half(&half);
	}
	barrier();
	bad(hart == 0 && (counter != HARTS * MANY || half != (u32)(HARTS * MANY)));
}

static void trial_tickets(u64 hart)
{
	for (u64 i = 0; i < ROUNDS / 20; i++) { /* who is next may not be running */
		u64 mine = AMO("add", "d", &ticket, 1);

		while (serving != mine)
			;
		FENCE(r, rw);
		counter = counter + 1;
		FENCE(rw, w);
		serving = mine + 1;
	}
	barrier();
	bad(hart == 0 && counter != HARTS * (ROUNDS / 20));
}

static void trial_amo(u64 hart)
{
	u64 bit = 1ul << hart, least = ~0ul >> 1;

	for (u64 i = 0; i < MANY; i++) {
		together(i);
		AMO("add", "w", &half, 3);
		AMO("xor", "d", &word, bit << 8);
		bad(AMO("or", "d", &flag, bit) & bit);
		bad(!(AMO("and", "d", &flag, ~bit) & bit));
		AMO("maxu", "d", &ticket, i * HARTS + hart);
		AMO("max", "d", &serving, i * HARTS + hart);
		AMO("min", "d", &lock, -(i * HARTS + hart));
		AMO("minu", "d", &counter, least - i * HARTS - hart);
	}
	barrier();
	bad(hart == 0 && (half != (u32)(3 * HARTS * MANY) || word != (MANY & 1 ? ((1ul << HARTS) - 1) << 8 : 0) || flag));
	bad(hart == 0 && (ticket != MANY * HARTS - 1 || serving != ticket || lock != -ticket));
	bad(hart == 0 && counter != least - MANY * HARTS + 1);
}

/* ---- orders of memory */

static void trial_passing(u64 hart) /* message passing */
{
	for (u64 i = 1; i <= MANY && hart == 0; i++) {
		word = i;
		FENCE(w, w);
		flag = i;
	}
	while (hart == 1) {
		u64 told = flag, found;

		FENCE(r, r);
		found = word;
		bad(found < told);
		if (told == MANY)
			break;
	}
	barrier();
}

static void trial_buffering(u64 hart) /* store buffering: of two harts that store and then look, one sees the other */
{
	static volatile u32 saw[2][MANY + 2];

	for (u64 i = 1; i <= MANY && hart < 2; i++) {
		volatile u64 *mine = hart ? &flag : &word, *theirs = hart ? &word : &flag;

		while (i > *theirs + 2000)
			;
		*mine = i;
		FENCE(rw, rw);
		saw[hart][i] = *theirs;
	}
	barrier();
	for (u64 i = 1; i <= MANY && hart == 0; i++) { /* the other's first store that was not seen, did it see ours? */
		u64 unseen = saw[0][i] + 1;

		bad(unseen <= MANY && saw[1][unseen] < i);
	}
}

static void trial_whole(u64 hart) /* aligned accesses are not torn */
{
	for (u64 i = 0; i < MANY; i++)
		if (hart == 0)
			word = i & 1 ? ~0ul : 0;
		else {
			u64 found = word;

			bad(found + 1 > 1);
		}
	barrier();
}

/* ---- messages, and what they are for */

static void send(u64 from)
{
	u64 before[8];

	FENCE(rw, rw);
	for (u64 to = 0; to < HARTS; to++)
		if (to != from) {
			before[to] = messages[to].count;
			MSIP[to] = 1;
		}
	for (u64 to = 0; to < HARTS; to++)
		while (to != from && messages[to].count == before[to])
			;
	FENCE(rw, rw);
}

static void trial_messages(u64 hart)
{
	for (u64 turn = 0; turn < HARTS; turn++) {
		for (u64 i = 0; i < 20 && hart == turn; i++)
			send(hart);
		barrier();
	}
}

static void trial_moving(u64 hart) /* a page that is mapped elsewhere: after the message, nobody sees the old one */
{
	for (u64 i = 1; i <= ROUNDS / 200; i++) {
		if (hart == 0) {
			frames[i & 1][0] = i;
			leaves[0] = ((u64)frames[i & 1] >> 12 << 10) | 7;
			__asm__ volatile("sfence.vma" ::: "memory");
			send(0);
			FENCE(w, w);
			flag = i;
		}
		while (flag != i)
			bad(MOVING[0] + 1 < i);
		FENCE(r, r);
		bad(MOVING[0] != i);
		barrier();
	}
}

static void trial_dirty(u64 hart) /* an entry that was taken away is not brought back by a hart that sets its bits */
{
	for (u64 i = 1; i <= ROUNDS / 200; i++) {
		if (hart == 0) {
			u64 old;

			leaves[1] = ((u64)frames[0] >> 12 << 10) | 7;
			__asm__ volatile("sfence.vma" ::: "memory");
			send(0);
			flag = i;
			for (u64 n = 0; n < (i & 15) * 20; n++)
				__asm__ volatile("nop");
			old = AMO("and", "d", &leaves[1], ~(u64)0xc0); /* clean again, and again it must be found clean or dirty */
			bad((old & ~(u64)0xc0) != (((u64)frames[0] >> 12 << 10) | 7));
			old = AMO("swap", "d", &leaves[1], ((u64)frames[1] >> 12 << 10) | 7);
			send(0);
			bad((leaves[1] & ~(u64)0xc0) != (((u64)frames[1] >> 12 << 10) | 7));
		} else {
			while (flag != i)
				;
			for (u64 n = 0; n < 100; n++)
				(MOVING + PAGE / 8)[8 + hart] = n;
		}
		barrier();
	}
}

static u64 call_patched(void)
{
	return ((u64(*)(void))patched)();
}

static void trial_code(u64 hart) /* code that another hart has written is executed after the message */
{
	for (u64 i = 1; i <= ROUNDS / 200; i++) {
		if (hart == 0) {
			*(volatile u32 *)patched = 0x513 | (u32)i << 20;
			__asm__ volatile("fence.i" ::: "memory");
			send(0);
			FENCE(w, w);
			flag = i;
		}
		while (flag != i) {
			u64 found = call_patched();

			bad(found != i && found + 1 != i);
		}
		for (u64 n = 0; n < 40; n++)
			bad(call_patched() != i);
		barrier();
	}
}

static void trial_race(u64 hart) /* nobody says when: each call sees one of the two, and nothing else */
{
	if (hart == 0)
		*(volatile u32 *)patched = 0x00100513;
	barrier();
	__asm__ volatile("fence.i" ::: "memory");
	for (u64 i = 0; i < MANY / 4; i++) {
		if (hart == 0)
			*(volatile u32 *)patched = i & 1 ? 0x00100513 : 0x00200513;
		else {
			u64 found;

			if (!(i & 63))
				__asm__ volatile("fence.i" ::: "memory");
			found = call_patched();
			bad(found != 1 && found != 2);
		}
	}
	barrier();
}

static u64 now(void)
{
	u64 time;

	__asm__ volatile("rdtime %0" : "=r"(time));
	return time;
}

static void trial_timers(u64 hart) /* each hart sleeps for a while of its own, several times */
{
	__asm__ volatile("csrw sie, %0" ::"r"(0x20)); /* pending, not taken: interrupts are off */
	for (u64 i = 0; i < 5; i++) {
		u64 until = now() + 2000 * (hart + 1), pending;

		__asm__ volatile("csrw 0x14d, %0" ::"r"(until));
		do {
			__asm__ volatile("wfi");
			__asm__ volatile("csrr %0, sip" : "=r"(pending));
		} while (!(pending & 0x20));
		bad(now() < until);
	}
	__asm__ volatile("csrw 0x14d, %0" ::"r"(~0ul));
	barrier();
}

/* ---- all of them */

static const struct { const char *name; void (*run)(u64 hart); } trials[] = {
	{"swap", trial_swap_lock}, {"reserved", trial_reserved}, {"tickets", trial_tickets}, {"amo", trial_amo},
	{"passing", trial_passing}, {"buffering", trial_buffering}, {"whole", trial_whole}, {"messages", trial_messages},
	{"moving", trial_moving}, {"dirty", trial_dirty}, {"code", trial_code}, {"race", trial_race}, {"timers", trial_timers},
};

static void say(const char *text)
{
	while (*text)
		*UART = *text++;
}

static void map(void)
{
	root[0] = 0xc7;                              /* devices, as they are */
	root[1] = ((u64)middle >> 12 << 10) | 1;
	root[2] = (0x80000000ul >> 12 << 10) | 0xcf; /* RAM, as it is */
	middle[0] = ((u64)leaves >> 12 << 10) | 1;
	leaves[0] = ((u64)frames[0] >> 12 << 10) | 7;
	FENCE(rw, rw);
}

void start(u64 hart)
{
	u64 failed = 0;

	if (hart == 0)
		map();
	barrier();
	__asm__ volatile("csrw satp, %0\n sfence.vma" ::"r"(8ul << 60 | (u64)root >> 12) : "memory");
	for (u64 n = 0; n < sizeof trials / sizeof *trials; n++) {
		if (hart == 0) {
			counter = lock = ticket = serving = word = flag = wrong = half = 0;
			if (n == 3)
				counter = ~0ul;
		}
		barrier();
		trials[n].run(hart);
		barrier();
		if (hart == 0) {
			say(trials[n].name);
			say(wrong ? " wrong\n" : " right\n");
			failed += wrong != 0;
		}
		barrier();
	}
	if (hart == 0)
		*FINISHER = failed ? 0x3333 | failed << 16 : 0x5555;
}
