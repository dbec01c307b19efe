/* A guest kernel: it does, one after the other, what a hypervisor must see or must not see, and says what it saw.

   Its hypervisor gives it 1 MiB at RAM, a write-only serial port at UART, and the services below (number in a7). */
typedef unsigned long word;

enum { PUT = 1, STRICT = 2, INJECT = 3, TEXT = 4, END = 8 };
enum { UART = 0x10000000, NOWHERE = 0x90000000, USER = 0x400000, LATE = 0x80100000 };

long call(long a0, long a1, long number);
void down(word pc);
extern char up[], user[], user_start[];

static word root[512] __attribute__((aligned(4096))), low[512] __attribute__((aligned(4096))), pages[512] __attribute__((aligned(4096)));
static long interrupts, seen[32];

#define READ(csr) ({ word v_; asm volatile("csrr %0, " #csr : "=r"(v_)); v_; })
#define WRITE(csr, v) asm volatile("csrw " #csr ", %0" : : "r"((word)(v)) : "memory")

static void text(const char *s)
{
	for (; *s; s++)
		call(*s, 0, PUT);
}

static void number(word n)
{
	char digits[17];
	int i = 16;
	for (digits[i] = 0; n || i == 16; n >>= 4)
		digits[--i] = "0123456789abcdef"[n & 15];
	text(digits + i);
}

static void line(const char *what, word n)
{
	text(what);
	number(n);
	text("\n");
}

void guest_trap(word *registers)
{
	word cause = READ(scause), pc = READ(sepc), short_instruction;
	if (cause >> 63) {
		interrupts++;
		line("interrupt ", cause & 63);
		if ((cause & 63) == 1)
			asm volatile("csrc sip, 2");
		else
			WRITE(stimecmp, -1);
		return;
	}
	seen[cause & 31]++;
	if (cause == 8 && registers[10] == 0) {
		WRITE(sepc, up);
		asm volatile("csrs sstatus, %0" : : "r"(0x100));
		return;
	}
	if (cause == 1) {                       /* a call to nowhere: back to the caller */
		WRITE(sepc, registers[1]);
		return;
	}
	asm volatile("csrs sstatus, %0" : : "r"(1 << 18 | 1 << 19));
	short_instruction = (*(volatile unsigned short *)pc & 3) != 3;
	WRITE(sepc, pc + (short_instruction ? 2 : 4));
}

static void tables(void)
{
	low[UART >> 21] = UART >> 12 << 10 | 0xc7;
	low[USER >> 21] = (word)pages >> 12 << 10 | 1;
	low[0x600000 >> 21] = 0;
	pages[0] = (word)user_start >> 12 << 10 | 0xdf;                 /* the program: U, all rights */
	pages[0x100] = (word)NOWHERE >> 12 << 10 | 0xd7;                /* 0x500000 */
	root[0] = (word)low >> 12 << 10 | 1;
	root[1] = (word)(NOWHERE + 0x1000) >> 12 << 10 | 1;             /* 0x40000000: a table that is nowhere */
	root[2] = 0x80000000UL >> 12 << 10 | 0xcf;
	WRITE(satp, 8UL << 60 | (word)root >> 12);
	asm volatile("sfence.vma");
}

void guest_main(void)
{
	static const char greeting[] = "read from the guest\n";
	text("guest\n");
	*(volatile char *)UART = 'u';                                   /* the hypervisor emulates the port */
	*(volatile char *)UART = '\n';
	line("load ", *(volatile int *)(UART + 4));
	tables();
	line("satp ", READ(satp) >> 60);
	call((word)greeting, sizeof greeting - 1, TEXT);
	*(volatile char *)UART = 'U';
	*(volatile char *)UART = '\n';
	*(volatile word *)(LATE - 8) = 7;                               /* memory that is given when it is first used */
	line("late ", *(volatile word *)(LATE - 8));

	line("time ", READ(time) >> 63);                                /* hcounteren is 0: emulated */
	call(1, 0, STRICT);                                             /* VTVM, VTW, VTSR */
	asm volatile("sfence.vma");
	asm volatile("wfi");
	call(0, 0, STRICT);
	asm volatile("csrr t0, hstatus; csrr t0, vsstatus; csrr t0, hgatp" : : : "t0");
	asm volatile(".insn r 0x73, 0, 0x11, x0, x0, x0");              /* hfence.vvma */
	asm volatile(".insn r 0x73, 0, 0x31, x0, x0, x0");              /* hfence.gvma */
	asm volatile(".insn r 0x73, 4, 0x34, t0, sp, x0" : : : "t0");   /* hlv.w */
	asm volatile("csrr t0, mstatus" : : : "t0");                    /* illegal: the guest's own */

	WRITE(sie, 0x222);
	asm volatile("csrs sstatus, 2");
	call(0, 0, INJECT);                                             /* the software interrupt */
	line("interrupts ", interrupts);
	call(1, 0, INJECT);                                             /* allows stimecmp and time */
	WRITE(stimecmp, READ(time) + 100);
	while (interrupts < 2)
		asm volatile("wfi");
	line("interrupts ", interrupts);
	asm volatile("csrc sstatus, 2");
	call(2, 0, INJECT);

	((void (*)(void))(word)(NOWHERE + 0x2000))();                   /* no page, in the guest's tables */
	((void (*)(void))(word)((NOWHERE & 0x3fffffff) | 0x80000000))();
	down(USER + (word)user - (word)user_start);
	for (int i = 0; i < 32; i++)
		if (seen[i]) {
			text("cause ");
			number(i);
			line(": ", seen[i]);
		}
	call(0, 0, END);
}
