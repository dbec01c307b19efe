/* A hypervisor: it runs one guest (guest.c) in VS-mode, gives it memory page by page, emulates its serial port and the
   instructions that it may not execute, and counts every exit by cause.

   It is built without knowledge of the extension in the assembler: registers by number, instructions as .insn. */
typedef unsigned long word;

enum { PUT = 1, STRICT = 2, INJECT = 3, TEXT = 4, END = 8 };
enum { HOST_UART = 0x10000000, FINISHER = 0x100000, UART = 0x10000000, PAGES = 300 };
#define RAM 0x80000000UL
#define RAM_END 0x80100000UL
#define VTVM (1UL << 20)
#define VTW (1UL << 21)
#define VTSR (1UL << 22)

void enter(word *registers);
extern char guest_image[], guest_image_end[];

static char pool[PAGES][4096] __attribute__((aligned(4096)));
static word root[2048] __attribute__((aligned(16384)));
static int used;
static word registers[33], exits[64];

#define READ(csr) ({ word v_; asm volatile("csrr %0, " #csr : "=r"(v_)); v_; })
#define WRITE(csr, v) asm volatile("csrw " #csr ", %0" : : "r"((word)(v)) : "memory")
#define SET(csr, v) asm volatile("csrs " #csr ", %0" : : "r"((word)(v)) : "memory")
#define CLEAR(csr, v) asm volatile("csrc " #csr ", %0" : : "r"((word)(v)) : "memory")
#define HSTATUS 0x600
#define HEDELEG 0x602
#define HIDELEG 0x603
#define HTIMEDELTA 0x605
#define HCOUNTEREN 0x606
#define HENVCFG 0x60a
#define HTVAL 0x643
#define HVIP 0x645
#define HTINST 0x64a
#define HGATP 0x680
#define VSSTATUS 0x200
#define VSTVEC 0x205
#define VSEPC 0x241
#define VSCAUSE 0x242
#define VSTVAL 0x243
#define VSATP 0x280
#define VSTIMECMP 0x24d
#define READ_(n) READ_N(n)
#define READ_N(n) READ(n)
#define WRITE_(n, v) WRITE_N(n, v)
#define WRITE_N(n, v) WRITE(n, v)
#define SET_(n, v) SET_N(n, v)
#define SET_N(n, v) SET(n, v)
#define CLEAR_(n, v) CLEAR_N(n, v)
#define CLEAR_N(n, v) CLEAR(n, v)

static void put(char c)
{
	*(volatile char *)HOST_UART = c;
}

static void text(const char *s)
{
	while (*s)
		put(*s++);
}

static void number(word n)
{
	char digits[17];
	int i = 16;
	for (digits[i] = 0; n || i == 16; n >>= 4)
		digits[--i] = "0123456789abcdef"[n & 15];
	text(digits + i);
}

static void named(const char *name, word n)
{
	text(name);
	number(n);
}

static void finish(const char *why)
{
	text(why);
	*(volatile int *)FINISHER = *why ? 0x13333 : 0x5555;
	for (;;)
		asm volatile("wfi");
}

static char *page(void)
{
	if (used == PAGES)
		finish("out of pages\n");
	return pool[used++];
}

/* The entry for a guest physical address in the second stage's tables (Sv39x4). */
static word *entry(word gpa)
{
	word *table = root, index = gpa >> 30;
	for (int shift = 21; shift >= 12; shift -= 9) {
		if (!(table[index] & 1))
			table[index] = (word)page() >> 12 << 10 | 1;
		table = (word *)(table[index] >> 10 << 12);
		index = gpa >> shift & 511;
	}
	return &table[index];
}

static int give(word gpa)
{
	if (gpa < RAM || gpa >= RAM_END)
		return 0;
	word *place = entry(gpa);
	if (*place & 1)
		finish("given twice\n");
	char *memory = page(), *from = guest_image + ((gpa & -4096UL) - RAM);
	for (int i = 0; i < 4096 && from + i < guest_image_end; i++)
		memory[i] = from[i];
	*place = (word)memory >> 12 << 10 | 0xdf;
	asm volatile(".insn r 0x73, 0, 0x31, x0, x0, x0" : : : "memory");      /* hfence.gvma */
	return 1;
}

/* Let the guest take an exception itself. */
static void reflect(word cause, word value)
{
	word status = READ_(VSSTATUS), from = READ(sstatus) & 0x100;
	status = (status & ~0x122UL) | (status & 2) << 4 | from;
	WRITE_(VSSTATUS, status);
	WRITE_(VSEPC, registers[0]);
	WRITE_(VSCAUSE, cause);
	WRITE_(VSTVAL, value);
	registers[0] = READ_(VSTVEC);
	SET(sstatus, 0x100);
}

static void service(void)
{
	word number = registers[17], a0 = registers[10];
	registers[0] += 4;
	if (number == PUT)
		put(a0);
	else if (number == STRICT && a0)
		SET_(HSTATUS, VTVM | VTW | VTSR);
	else if (number == STRICT)
		CLEAR_(HSTATUS, VTVM | VTW | VTSR);
	else if (number == INJECT && a0 == 0)
		SET_(HVIP, 4);
	else if (number == INJECT) {                                    /* lend the clock and the timer, or take them back */
		WRITE_(VSTIMECMP, -1);
		WRITE_(HCOUNTEREN, a0 == 1 ? 2 : 0);
		if (a0 == 1)
			SET_(HENVCFG, 1UL << 63);
		else
			CLEAR_(HENVCFG, 1UL << 63);
	} else if (number == TEXT)
		for (word i = 0; i < registers[11]; i++) {
			word c;
			asm volatile(".insn r 0x73, 4, 0x30, %0, %1, x1" : "=r"(c) : "r"(a0 + i));      /* hlv.bu */
			put(c);
		}
	else
		finish("no such service\n");
}

/* A virtual instruction: of those that the guest executes as a kernel, do what it means; the rest is its own fault. */
static void emulate(word instruction)
{
	word from_kernel = READ(sstatus) & 0x100, rd = instruction >> 7 & 31, csr = instruction >> 20;
	registers[0] += 4;
	if (from_kernel && instruction == 0x10500073)                   /* wfi */
		return;
	if (from_kernel && (instruction & 0xfe007fff) == 0x12000073)    /* sfence.vma */
		asm volatile(".insn r 0x73, 0, 0x11, x0, x0, x0");
	else if (from_kernel && instruction == 0x10200073) {            /* sret */
		word status = READ_(VSSTATUS);
		registers[0] = READ_(VSEPC);
		if (!(status & 0x100))
			CLEAR(sstatus, 0x100);
		WRITE_(VSSTATUS, (status & ~0x122UL) | 0x20 | (status & 0x20) >> 4);
	} else if ((instruction & 0x7f) == 0x73 && csr == 0xc01 && from_kernel)
		registers[rd] = 0;                                      /* time */
	else if ((instruction & 0x7f) == 0x73 && csr == 0x180 && from_kernel) {
		word rs1 = instruction >> 15 & 31, old = READ_(VSATP);
		if ((instruction >> 12 & 7) == 1)
			WRITE_(VSATP, rs1 ? registers[rs1] : 0);
		if (rd)
			registers[rd] = old;
	} else {
		registers[0] -= 4;
		reflect(2, instruction);
	}
}

/* What the guest has no memory for: its serial port, by the transformed instruction; else the guest's own fault. */
static void fault(word cause, word gpa, word address, word instruction)
{
	word compressed = (instruction & 3) != 3;
	if (give(gpa))
		return;
	if ((gpa & -4096UL) != UART || cause == 20) {
		reflect(cause == 20 ? 1 : cause == 21 ? 5 : 7, address);
		return;
	}
	if (cause == 23 && (instruction & 0x707f) == 0x23)             /* sb */
		put(registers[instruction >> 20 & 31]);
	else if (cause == 21 && (instruction & 0x707f) == 0x2003)      /* lw */
		registers[instruction >> 7 & 31] = 0x60;
	else if (cause == 21 && (instruction & 0xe003) == 0x4000)      /* c.lw */
		registers[8 + (instruction >> 2 & 7)] = 0x60;
	else
		finish("an access to the port of no known kind\n");
	registers[0] += compressed ? 2 : 4;
}

/* The instruction that trapped, as the guest sees it. */
static word fetched(void)
{
	word low, high = 0;
	asm volatile(".insn r 0x73, 4, 0x32, %0, %1, x3" : "=r"(low) : "r"(registers[0]));              /* hlvx.hu */
	if ((low & 3) == 3)
		asm volatile(".insn r 0x73, 4, 0x32, %0, %1, x3" : "=r"(high) : "r"(registers[0] + 2));
	return high << 16 | low;
}

/* htinst may be 0; if it is not, it says what the trap was for: the walk's pseudoinstruction, or the instruction, transformed. */
static void check(word cause, word instruction, word told)
{
	word expected = instruction & ((instruction & 0x7d) == 0x21 ? 0x1f0707f : 0xfff07fff & 0x7fff);
	if (told == 0 || (told & ~0x20UL) == 0x3000)
		return;
	if (cause == 20 || cause == 22 || cause == 10)
		finish("htinst of no load or store\n");
	if ((instruction & 3) == 3 && told != expected) {
		named("htinst ", told);
		finish(": another instruction\n");
	}
	if ((instruction & 3) != 3 && (told & 3) != 1)
		finish("htinst of a compressed instruction\n");
}

static void tell(word cause, word value)
{
	named("exit ", cause);
	named(" at ", registers[0]);
	if (cause != 22)
		named(" value ", value);
	named(" gpa ", READ_(HTVAL) << 2);
	named(" hstatus ", READ_(HSTATUS) & ~(1UL << 9));
	named(" spp ", READ(sstatus) & 0x100);
	put('\n');
}

void hypervisor_main(void)
{
	text("hypervisor\n");
	WRITE_(HGATP, 8UL << 60 | 1UL << 44 | (word)root >> 12);
	asm volatile(".insn r 0x73, 0, 0x31, x0, x0, x0");
	WRITE_(HEDELEG, 1 << 3 | 1 << 8 | 1 << 12 | 1 << 13 | 1 << 15);
	WRITE_(HIDELEG, 0x444);
	WRITE_(HTIMEDELTA, 0);
	WRITE_(HCOUNTEREN, 0);
	WRITE_(HENVCFG, 0);
	WRITE_(HSTATUS, 1 << 7);                                        /* SPV */
	WRITE_(VSSTATUS, 0);
	WRITE_(VSATP, 0);
	SET(sstatus, 0x100);
	registers[0] = RAM;
	for (;;) {
		SET_(HSTATUS, 1 << 7);
		enter(registers);
		word cause = READ(scause), value = READ(stval), told = READ_(HTINST), instruction = 0;
		if (cause == 21 || cause == 22 || cause == 23)
			check(cause, instruction = fetched(), told);
		exits[cause & 63]++;
		if (cause != 10)
			tell(cause, value);
		if (cause == 10 && registers[17] == END)
			break;
		else if (cause == 10)
			service();
		else if (cause == 22)
			emulate(instruction);
		else if (cause == 2)
			reflect(2, value);
		else if (cause == 20 || cause == 21 || cause == 23)
			fault(cause, READ_(HTVAL) << 2 | (value & 3), value, instruction);
		else
			finish("an exit of no known kind\n");
	}
	for (int i = 0; i < 64; i++)
		if (exits[i]) {
			named("exits ", i);
			named(": ", exits[i]);
			put('\n');
		}
	finish("");
}
