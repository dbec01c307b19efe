/* Privileged work, bare metal: each loop is timed by whoever runs the image with ROUNDS and without. WORK names the loop. */
typedef unsigned long u64;
#define PAGE 4096ul
#define V 1ul
#define R 2ul
#define W 4ul
#define X 8ul
#define U 16ul
#define A 64ul
#define D 128ul
#define BASE 0x80000000ul
#define USER 0x40000000ul /* where U-mode sees RAM */
#define HOLES 0x60000000ul /* pages that faults fill */

extern char trap_entry[], user_code[], user_faults[], user_end[];
static u64 root[2][512] __attribute__((aligned(4096)));
static u64 middle[2][512] __attribute__((aligned(4096)));
static u64 last[2][512] __attribute__((aligned(4096)));
u64 rounds = ROUNDS;

static u64 leaf(u64 pa, u64 bits)
{
	return pa >> 12 << 10 | bits | V | A | D;
}

static void tables(int n)
{
	root[n][BASE >> 30] = leaf(BASE, R | W | X);
	root[n][USER >> 30] = (u64)middle[n] >> 12 << 10 | V;
	for (int i = 0; i < 8; i++)
		middle[n][i] = leaf(BASE + i * 512 * PAGE, R | W | X | U);
	middle[n][(HOLES - USER) >> 21] = (u64)last[n] >> 12 << 10 | V;
}

static u64 satp(int n)
{
	return 8ul << 60 | (u64)(n + 1) << 44 | (u64)root[n] >> 12;
}

/* From S-mode: what a trap from user mode is for. a0: cause, a1: the faulting address. */
u64 handle(u64 cause, u64 address)
{
	if (cause == 15) { /* a hole: map it, and one frame for all */
		last[0][address >> 12 & 511] = leaf((u64)root & ~0xFFFul, R | W | U);
		__asm__ volatile("sfence.vma %0, zero" ::"r"(address) : "memory");
		return 0;
	}
	return 4;
}

void unmap(void)
{
	for (int i = 0; i < 64; i++)
		last[0][i] = 0;
	__asm__ volatile("sfence.vma" ::: "memory");
}

void switches(void)
{
	volatile u64 *kernel = (u64 *)BASE;
	for (u64 i = 0; i < rounds; i++) {
		__asm__ volatile("csrw satp, %0" ::"r"(satp(i & 1)) : "memory");
		(void)kernel[i & 1023];
	}
}

void supervisor_user_copies(void)
{
	for (u64 i = 0; i < rounds; i++) {
		__asm__ volatile("csrs sstatus, %0" ::"r"(1ul << 18) : "memory");
		(void)*(volatile u64 *)(USER + (i & 511) * 8);
		__asm__ volatile("csrc sstatus, %0" ::"r"(1ul << 18) : "memory");
	}
}

void prepare(void)
{
	tables(0);
	tables(1);
	__asm__ volatile("csrw satp, %0; sfence.vma" ::"r"(satp(0)) : "memory");
}
