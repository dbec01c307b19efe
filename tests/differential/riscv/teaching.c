/* A teaching kernel for the board: M-mode gives S-mode a timer; S-mode runs two user programs in address spaces of their own.
 *
 * It exercises, and prints a line for each: delegation, Sv39 with a page the user may not touch, system calls, page faults from
 * user mode, copy of the accessed and dirty bits, timer interrupts that preempt, software interrupts, the serial port's
 * interrupt through the PLIC, wfi, illegal instructions. It ends through the finisher: 0 if all was as expected.
 */
typedef unsigned long u64;
typedef unsigned int u32;
typedef unsigned char u8;

#define UART ((volatile u8 *)0x10000000)
#define FINISHER ((volatile u32 *)0x100000)
#define MTIMECMP ((volatile u64 *)0x2004000)
#define MTIME ((volatile u64 *)0x200bff8)
#define PLIC(offset) (*(volatile u32 *)(0xc000000UL + (offset)))
#define csr_read(name) ({ u64 v; __asm__ volatile("csrr %0, " #name : "=r"(v)); v; })
#define csr_write(name, v) __asm__ volatile("csrw " #name ", %0" : : "r"((u64)(v)) : "memory")
#define csr_set(name, v) __asm__ volatile("csrs " #name ", %0" : : "r"((u64)(v)) : "memory")
#define csr_clear(name, v) __asm__ volatile("csrc " #name ", %0" : : "r"((u64)(v)) : "memory")
#define USER __attribute__((section(".user"), noinline))
enum { V = 1, R = 2, W = 4, X = 8, U = 16, A = 64, D = 128 };
enum { USER_TEXT = 0x10000, USER_STACK = 0x20000, KERNEL_ONLY = 0x30000, TICK = 500 };

struct registers { u64 pc, x[31], status; }; /* x[n - 1] is register n */

extern char user_start[], user_end[], end[], machine_stack[], supervisor_vector[];
extern void leave(struct registers *) __attribute__((noreturn));
void program_one(void), program_two(void);

static u64 ticks, failures;
static struct process { u64 satp, *stack_entry; struct registers regs; int alive; } processes[2];
static int current;
static volatile int serial_byte = -1;

static void put(char c)
{
	while (!(UART[5] & 0x20))
		;
	UART[0] = c;
}

static void print(const char *text)
{
	while (*text)
		put(*text++);
}

static void number(u64 n)
{
	if (n > 15)
		number(n >> 4);
	put("0123456789abcdef"[n & 15]);
}

static void check(const char *what, int good)
{
	print(good ? "ok " : "FAIL "), print(what), put('\n');
	failures += !good;
}

static void finish(u64 failed)
{
	*FINISHER = failed ? 0x3333 | 1 << 16 : 0x5555;
	for (;;)
		;
}

/* ---- M-mode */

static u64 sbi(u64 what, u64 value) /* S-mode's call to M-mode */
{
	register u64 a0 __asm__("a0") = value, a7 __asm__("a7") = what;

	__asm__ volatile("ecall" : "+r"(a0) : "r"(a7) : "memory");
	return a0;
}
enum { SET_TIMER = 1, ILLEGAL_COUNT = 2 };

static u64 machine_illegal;

void machine_trap(u64 *x)
{
	u64 cause = csr_read(mcause);

	if (cause == (1UL << 63 | 7)) { /* the timer: pass it on */
		csr_clear(mie, 1 << 7);
		csr_set(mip, 1 << 5);
	} else if (cause == 9) { /* a call from S-mode */
		if (x[17] == SET_TIMER) {
			MTIMECMP[0] = x[10];
			csr_clear(mip, 1 << 5);
			csr_set(mie, 1 << 7);
		} else if (x[17] == ILLEGAL_COUNT)
			x[10] = machine_illegal;
		csr_write(mepc, csr_read(mepc) + 4);
	} else if (cause == 2) { /* not delegated: an S-mode instruction that is illegal there */
		machine_illegal++;
		csr_write(mepc, csr_read(mepc) + 4);
	} else {
		print("M-mode trap "), number(cause), put(' '), number(csr_read(mepc)), put('\n');
		finish(1);
	}
}

static void supervisor_main(void);

void machine_main(void)
{
	csr_write(mscratch, machine_stack + 8192);
	csr_write(medeleg, 1 << 3 | 1 << 8 | 1 << 12 | 1 << 13 | 1 << 15);
	csr_write(mideleg, 1 << 1 | 1 << 5 | 1 << 9);
	csr_write(mcounteren, 7);
	csr_write(pmpaddr0, ~0UL >> 10);
	csr_write(pmpcfg0, 0x1f);
	csr_write(mepc, supervisor_main);
	csr_write(mstatus, (csr_read(mstatus) & ~(3UL << 11)) | 1UL << 11 | 3UL << 13);
	__asm__ volatile("mret");
}

/* ---- memory */

static u64 next_page;

static u64 *new_page(void)
{
	u64 *page = (u64 *)next_page;

	next_page += 4096;
	for (int i = 0; i < 512; i++)
		page[i] = 0;
	return page;
}

static u64 *entry_of(u64 *table, u64 va)
{
	for (int level = 2; level; level--) {
		u64 *entry = &table[va >> (12 + 9 * level) & 511];

		if (!(*entry & V))
			*entry = (u64)new_page() >> 12 << 10 | V;
		table = (u64 *)(*entry >> 10 << 12);
	}
	return &table[va >> 12 & 511];
}

static void map(u64 *table, u64 va, u64 pa, u64 bits)
{
	*entry_of(table, va) = pa >> 12 << 10 | bits | V;
}

static void new_process(struct process *p, void (*program)(void), u64 argument)
{
	u64 *table = new_page();

	table[2] = 0x80000000UL >> 12 << 10 | R | W | X | A | D | V; /* the kernel's gigabyte */
	table[0] = 0;
	for (u64 each = 0; each < (u64)(user_end - user_start); each += 4096)
		map(table, USER_TEXT + each, (u64)user_start + each, R | X | U | A);
	map(table, USER_STACK, (u64)new_page(), R | W | U); /* A and D are the hardware's, or a fault's, to set */
	map(table, KERNEL_ONLY, (u64)new_page(), R | W | A | D);
	map(table, 0x10000000, 0x10000000, R | W | A | D); /* the serial port, for the kernel */
	map(table, 0x100000, 0x100000, R | W | A | D);
	map(table, 0x200b000, 0x200b000, R | A);
	map(table, 0xc000000, 0xc000000, R | W | A | D);
	map(table, 0xc002000, 0xc002000, R | W | A | D);
	map(table, 0xc201000, 0xc201000, R | W | A | D);
	p->satp = 8UL << 60 | (u64)table >> 12;
	p->stack_entry = entry_of(table, USER_STACK);
	p->regs.pc = USER_TEXT + ((u64)program - (u64)user_start);
	p->regs.x[1] = USER_STACK + 4096;
	p->regs.x[9] = argument;
	p->regs.status = 1 << 5 | 3UL << 13; /* SPIE; SPP = user */
	p->alive = 1;
}

/* ---- S-mode */

enum { SYS_PRINT = 1, SYS_EXIT, SYS_TICKS, SYS_YIELD, SYS_SERIAL };

static void run(int next)
{
	current = next;
	csr_write(satp, processes[next].satp);
	__asm__ volatile("sfence.vma" : : : "memory");
	leave(&processes[next].regs);
}

static void schedule(void)
{
	if (processes[!current].alive)
		run(!current);
	if (processes[current].alive)
		run(current);
	check("the hardware or a fault set D in the stack's entry", (*processes[0].stack_entry & (A | D)) == (A | D));
	check("both programs were preempted", ticks >= 4);
	print("ticks counted\n");
	finish(failures);
}

static u64 faults, expected_fault;

static void fault(struct registers *r, u64 cause, u64 value)
{
	u64 *entry = processes[current].stack_entry;

	if (value >> 12 == USER_STACK >> 12 && (*entry & V) && (*entry & (A | D)) != (A | D)) {
		*entry |= A | D; /* hardware without Svadu leaves it to us */
		__asm__ volatile("sfence.vma" : : : "memory");
		return;
	}
	faults++;
	check("page fault of user mode: cause and address", cause == expected_fault && value == KERNEL_ONLY + 8);
	expected_fault = 13;
	r->pc += 4; /* the programs use instructions of four bytes there */
}

static void serial(void)
{
	u32 source = PLIC(0x201004);

	if (source == 10) {
		serial_byte = UART[0];
		PLIC(0x201004) = source;
	}
}

static void call(struct registers *r)
{
	r->pc += 4;
	switch (r->x[16]) {
	case SYS_PRINT:
		csr_set(sstatus, 1 << 18);
		print((const char *)r->x[9]);
		csr_clear(sstatus, 1 << 18);
		break;
	case SYS_EXIT:
		processes[current].alive = 0;
		schedule();
	case SYS_TICKS:
		r->x[9] = ticks;
		break;
	case SYS_YIELD:
		processes[current].regs = *r;
		schedule();
	case SYS_SERIAL:
		csr_clear(sstatus, 2);
		while (serial_byte < 0) {
			__asm__ volatile("wfi");
			serial();
		}
		r->x[9] = serial_byte;
		break;
	}
}

void supervisor_trap(struct registers *r)
{
	u64 cause = csr_read(scause), value = csr_read(stval);

	if (cause == (1UL << 63 | 5)) {
		ticks++;
		sbi(SET_TIMER, *MTIME + TICK);
		if (!(r->status & 1 << 8)) {
			processes[current].regs = *r;
			schedule();
		}
	} else if (cause == (1UL << 63 | 1)) {
		csr_clear(sip, 2);
		check("software interrupt", 1);
	} else if (cause == (1UL << 63 | 9))
		serial();
	else if (cause == 8)
		call(r);
	else if (cause == 12 || cause == 13 || cause == 15)
		fault(r, cause, value);
	else {
		print("S-mode trap "), number(cause), put(' '), number(r->pc), put(' '), number(value), put('\n');
		finish(1);
	}
}

static void supervisor_main(void)
{
	extern char kernel_stack[];

	print("teaching kernel\n");
	next_page = ((u64)end + 4095) & -4096UL;
	csr_write(sscratch, 0);
	csr_write(stvec, supervisor_vector);
	csr_write(scounteren, 7);
	__asm__ volatile("csrr zero, mstatus" : : : "memory"); /* illegal here: M-mode counts it */
	check("an M-mode register is illegal in S-mode", sbi(ILLEGAL_COUNT, 0) == 1);
	csr_set(sie, 1 << 1 | 1 << 5 | 1 << 9);
	csr_set(sstatus, 2);
	csr_set(sip, 2);
	csr_clear(sstatus, 2);
	PLIC(4 * 10) = 1;
	PLIC(0x2080) = 1 << 10;
	PLIC(0x201000) = 0;
	UART[2] = 1;
	UART[1] = 1;
	new_process(&processes[0], program_one, 0);
	new_process(&processes[1], program_two, 0);
	expected_fault = 13;
	sbi(SET_TIMER, *MTIME + TICK);
	(void)kernel_stack;
	run(0);
}

/* ---- user programs: they may call nothing outside their section, and their strings live on the stack */

#define user_call(nr, value) ({ \
	register u64 a0 __asm__("a0") = (u64)(value), a7 __asm__("a7") = (nr); \
	__asm__ volatile("ecall" : "+r"(a0) : "r"(a7) : "memory"); a0; })

USER void program_one(void)
{
	volatile char text[] = { 'o', 'n', 'e', '\n', 0 };
	u64 start = user_call(SYS_TICKS, 0), sum = 0;

	__asm__ volatile(".option push\n.option norvc\nli t0, 0x30000\nld t1, 8(t0)\n.option pop" : : : "t0", "t1");
	while (user_call(SYS_TICKS, 0) < start + 3)
		for (int i = 0; i < 1000; i++)
			sum += i;
	user_call(SYS_PRINT, text);
	user_call(SYS_EXIT, sum);
}

USER void program_two(void)
{
	volatile char text[] = { 't', 'w', 'o', ' ', '?', '\n', 0 };
	u64 start = user_call(SYS_TICKS, 0), sum = 0;

	while (user_call(SYS_TICKS, 0) < start + 6)
		for (int i = 0; i < 1000; i++)
			sum ^= i;
	text[4] = user_call(SYS_SERIAL, 0);
	user_call(SYS_PRINT, text);
	user_call(SYS_EXIT, sum);
}
