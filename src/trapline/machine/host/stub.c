/* The stub: all the native code that runs in a guest's process.
 *
 * In a nutshell: it starts as the *zygote*, which makes its process empty (no stack, no vdso, no descriptors but three), arms
 * the seccomp filter, and traps once into its own handler. Then it lives in the *nursery*, one page of text, where it makes a copy
 * of itself for each command. The copy performs the operations of its own first command, unmaps the nursery, and enters user code.
 * From then on the handler is the whole life of its threads: publish the registers, wait for a command, perform the operations
 * it carries, return to user code.
 *
 * Invariants:
 * - nothing here is trusted by the kernel: user code can jump to any instruction and write any slot of its own process. Every
 *   system call below is therefore either harmless in hostile hands or held (USER_NOTIF) until the kernel recognises its own order;
 * - the nursery may map and clone freely, and is mapped only where no user code has run: its registers, stack and slots are
 *   what the zygote and the kernel left there. Nothing maps it again: what would do so is held, and never ordered;
 * - no data but slots and the stack: the text is position-independent and keeps no variables;
 * - one signal at a time: every handler masks everything, so a slot has one frame, always at the same place.
 */
#include <stddef.h>
#include <stdint.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <asm/unistd.h>
#include "layout.h"

typedef uint32_t u32;
typedef uint64_t u64;

struct slot {
	/* written by the kernel */
	u32 cmd;           /* changes with every command; bit 0: return to user code after the operations */
	u32 nops;
	u32 kernel_sleeps; /* ring the doorbell after publishing */
	u32 spin;          /* how long to spin for a command before sleeping */
	u32 ppid;          /* the kernel's process */
	u32 stamps;        /* say when user code was left and entered */
	u32 pad0[26];
	/* written by the stub */
	u32 state;         /* 1: stopped in the handler (the kernel clears it) */
	u32 stub_sleeps;
	u32 seen;          /* the last command taken */
	u32 pad1;
	u64 cause;         /* signal | code << 8 | i386 << 16 | vsyscall << 17; 0: an operation failed */
	int64_t result;    /* the listener's descriptor, while the zygote starts */
	u64 frame;         /* address of the signal frame */
	u64 left;          /* time-stamp counter: user code was left */
	u64 entered;       /* and entered: the first time since the kernel put a zero here */
	u64 pad2[1];
	/* written by both: the registers, see abi/x86_64.py */
	u64 regs[25];
	u64 pad3[15];
	u64 ops[OPS_MAX + 1][7]; /* by the kernel: number and arguments */
	u64 results[OPS_MAX];    /* by the stub */
};

_Static_assert(offsetof(struct slot, stamps) == 20, "layout.py");
_Static_assert(offsetof(struct slot, state) == 128, "layout.py");
_Static_assert(offsetof(struct slot, left) == 168, "layout.py");
_Static_assert(offsetof(struct slot, regs) == 192, "layout.py");
_Static_assert(offsetof(struct slot, ops) == 512, "layout.py");
_Static_assert(offsetof(struct slot, results) == 512 + 49 * 56, "layout.py");
_Static_assert(sizeof(struct slot) <= SLOT_HEAD, "the head of a slot is one page");

/* A signal frame as the host lays it out (asm/sigframe.h), from the return address on. */
struct frame {
	u64 pretcode, flags, link, stack[3], gregs[23], fpstate, reserved[8], mask;
	struct { int signo, err, code, pad; u64 addr; int nr; u32 arch; } info;
};

#define HIDDEN __attribute__((visibility("hidden")))
#define NURSED __attribute__((section(".nursery"), noinline, noreturn))
#define load(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)

HIDDEN long call6(long nr, long a, long b, long c, long d, long e, long f);
HIDDEN void trap_entry(void);
HIDDEN void trap_restorer(void);
HIDDEN void trap_self(void);
HIDDEN long nursery_call(long nr, long a, long b, long c, long d, long e, long f);
HIDDEN __attribute__((noreturn)) void leave_nursery(void *frame, long failed);
HIDDEN long start_helper(long flags, void *stack, struct slot *slot);
HIDDEN void go(void *entry, void *stack);

static inline long call(long nr, long a, long b, long c, long d, long e, long f)
{
	return call6(nr, a, b, c, d, e, f);
}
#define call5(nr, a, b, c, d, e) call(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define call4(nr, a, b, c, d) call5(nr, a, b, c, d, 0)
#define call3(nr, a, b, c) call4(nr, a, b, c, 0)
#define call2(nr, a, b) call3(nr, a, b, 0)

/* The assembly: entry points, and the one place for each kind of system call.
 *
 * trap_entry: rsp is the frame. Flags come first: user code may have left AC set, which would fault on any unaligned access here.
 * call6 with nr = clone: in the child, a thread, rax is 0 and rsp is what the kernel ordered: its frame. */
__asm__(
	".text\n"
	".globl trap_entry, trap_restorer, trap_self, call6, nursery_call, leave_nursery, start_helper, go\n"
	".globl _start\n"
	"_start:\n"
	"	lea boot_stack_top(%rip), %rsp\n"
	"	call boot\n"
	"	ud2\n"
	"go:\n"
	"	mov %rsi, %rsp\n"
	"	call *%rdi\n"
	"	ud2\n"
	"trap_entry:\n"
	"	pushq $2\n"
	"	popfq\n"
	"	mov %rsp, %rdi\n"
	"	call publish\n"
	"serve_loop:\n"
	"	mov %rsp, %rdi\n"
	"	call serve\n"
	"	add $8, %rsp\n"
	"trap_restorer:\n"
	"	mov $15, %eax\n" /* rt_sigreturn */
	"	syscall\n"
	"	ud2\n"
	"leave_nursery:\n"
	"	mov %rdi, %rsp\n"
	"	call enter\n"
	"	add $8, %rsp\n"
	"	jmp trap_restorer\n"
	"trap_self:\n"
	"	ud2\n" /* the kernel lets the zygote go on behind it */
	"	ret\n"
	"call6:\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	mov 8(%rsp), %r9\n"
	"	cmp $56, %eax\n" /* clone */
	"	je 1f\n"
	"	syscall\n"
	"	ret\n"
	"1:	syscall\n"
	"	test %rax, %rax\n"
	"	jz 2f\n"
	"	ret\n"
	"2:	jmp serve_loop\n"
	"start_helper:\n"
	"	mov $56, %eax\n"
	"	xor %r10, %r10\n"
	"	xor %r8, %r8\n"
	"	mov %rdx, %r12\n" /* boot never returns, so r12 is ours */
	"	xor %rdx, %rdx\n"
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jz 3f\n"
	"	ret\n"
	"3:	mov %r12, %rdi\n"
	"	call helper\n"
	"	ud2\n"
	".bss\n"
	".balign 16\n"
	"	.skip 4096\n"
	"boot_stack_top:\n"
	".section .nursery, \"ax\"\n"
	"nursery_call:\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	mov 8(%rsp), %r9\n"
	"	syscall\n"
	"	ret\n"
	".text\n");

/* ---- the life of a stub thread */

static struct slot *slot_of(void *sp)
{
	return (struct slot *)((u64)sp & -SLOT_SIZE);
}

static void announce(struct slot *slot)
{
	static const u64 one = 1;

	__atomic_store_n(&slot->state, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (load(&slot->kernel_sleeps))
		call3(__NR_write, FD_DOORBELL, &one, 8);
}

/* A trap: show the kernel what happened. */
HIDDEN __attribute__((used)) void publish(struct frame *frame)
{
	struct slot *slot = slot_of(frame);

	if (slot->stamps)
		slot->left = __builtin_ia32_rdtsc();
	for (int i = 0; i < 23; i++)
		slot->regs[i] = frame->gregs[i];
	slot->regs[23] = __builtin_ia32_rdfsbase64();
	slot->regs[24] = __builtin_ia32_rdgsbase64();
	slot->cause = (u64)(frame->info.signo & 255) | (u64)(frame->info.code & 255) << 8;
	if (frame->info.signo == 31) {
		slot->cause |= (u64)(frame->info.arch == AUDIT_ARCH_I386) << 16;
		slot->cause |= (u64)(frame->info.addr >> 12 == 0xffffffffff600UL) << 17;
	}
	slot->frame = (u64)frame;
	announce(slot);
}

static u32 next_command(struct slot *slot)
{
	u32 seen = slot->seen, cmd;

	for (u32 spun = 0; (cmd = load(&slot->cmd)) == seen && spun < load(&slot->spin); spun++)
		__builtin_ia32_pause();
	while (cmd == seen) {
		__atomic_store_n(&slot->stub_sleeps, 1, __ATOMIC_SEQ_CST);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if ((cmd = load(&slot->cmd)) == seen)
			call4(__NR_futex, &slot->cmd, FUTEX_WAIT, seen, 0);
		cmd = load(&slot->cmd);
	}
	slot->stub_sleeps = 0;
	slot->seen = cmd;
	return cmd;
}

/* Perform operations first to nops of a command; whether one failed. */
static inline __attribute__((always_inline)) int perform(struct slot *slot, u32 first, u32 nops,
	long (*make)(long, long, long, long, long, long, long))
{
	int failed = 0;

	for (u32 i = first; i < nops && i < OPS_MAX; i++) {
		u64 *op = slot->ops[i];
		long result = make(op[0], op[1], op[2], op[3], op[4], op[5], op[6]);

		slot->results[i] = result; /* may come after the kernel's next order: never into ops */
		failed |= (u64)result >= -4095UL;
	}
	return failed;
}

static void operation_failed(struct slot *slot)
{
	slot->cause = 0;
	announce(slot);
}

static void load_registers(struct frame *frame, struct slot *slot)
{
	for (int i = 0; i < 23; i++)
		frame->gregs[i] = slot->regs[i];
	__builtin_ia32_wrfsbase64(slot->regs[23]);
	__builtin_ia32_wrgsbase64(slot->regs[24]);
	if (slot->stamps && !slot->entered)
		slot->entered = __builtin_ia32_rdtsc();
}

/* Obey commands until one says to return to user code. */
HIDDEN __attribute__((used)) void serve(struct frame *frame)
{
	struct slot *slot = slot_of(frame);

	for (;;) {
		u32 cmd = next_command(slot);
		int failed = perform(slot, 0, slot->nops, call6);

		if (!(cmd & 1))
			continue;
		if (!failed)
			break;
		operation_failed(slot);
	}
	load_registers(frame, slot);
}

/* ---- the nursery */

/* Out of the nursery and into user code: the first thing here, in ordinary text, takes the nursery away. */
HIDDEN __attribute__((used)) void enter(struct frame *frame, long failed)
{
	struct slot *slot = slot_of(frame);

	if (call2(__NR_munmap, NURSERY, NURSERY_SIZE) != 0)
		call2(__NR_exit_group, 2, 0);
	if (!failed) {
		load_registers(frame, slot);
		return;
	}
	operation_failed(slot);
	serve(frame);
}

/* First steps of a process: its own slots in place of the zygote's, then its first commands, up to the one that enters user
 * code. The kernel adds operations to those that it has ordered before, and does not wait for them: what is done is not repeated. */
static NURSED void grow_up(const u64 *op, u32 ppid)
{
	struct slot *slot = (struct slot *)SLOTS;
	u32 cmd, nops, done = 0;
	int failed = 0;

	call2(__NR_prctl, PR_SET_PDEATHSIG, 9);
	if (call2(__NR_getppid, 0, 0) != ppid)
		call2(__NR_exit_group, 1, 0);
	if ((u64)nursery_call(op[0], op[1], op[2], op[3], op[4], op[5], op[6]) >= -4095UL)
		call2(__NR_exit_group, 2, 0);
	do {
		cmd = next_command(slot);
		nops = load(&slot->nops);
		failed |= perform(slot, done, nops, nursery_call);
		done = nops;
	} while (!(cmd & 1));
	leave_nursery((void *)slot->frame, failed);
}

/* The rest of the zygote's life: for each command, a process. */
static NURSED void breed(struct slot *slot)
{
	u32 ppid = slot->ppid;
	u64 op[7];

	announce(slot);
	for (;;) {
		long pid;

		next_command(slot);
		for (int i = 0; i < 7; i++)
			op[i] = slot->ops[OP_CHILD][i];
		pid = nursery_call(__NR_clone, CLONE_PARENT | 17, 0, 0, 0, 0, 0);
		if (pid == 0)
			grow_up(op, ppid);
		slot->results[0] = pid;
		announce(slot);
	}
}

/* ---- the zygote's start */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOAD_ARG(n, half) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * (n) + 4 * (half))
#define RET(what) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_##what)
#define IF(op, k, yes, no) BPF_JUMP(BPF_JMP | op | BPF_K, (u32)(k), yes, no)
#define ALLOW(nr) IF(BPF_JEQ, nr, 0, 1), RET(ALLOW)
#define HOLD(nr) IF(BPF_JEQ, nr, 0, 1), RET(USER_NOTIF)

/* What a stub process may ask of the host. Outside the stub's text: nothing, every system call is a trap. */
static const struct sock_filter filter[] = {
	LOAD(arch), IF(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0), RET(TRAP),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
	IF(BPF_JEQ, STUB >> 32, 1, 0), RET(TRAP),
	LOAD(instruction_pointer), IF(BPF_JGT, (u32)STUB, 1, 0), RET(TRAP), /* it is behind the instruction */
	IF(BPF_JGT, (u32)(STUB + TEXT_SIZE), 0, 8),
	IF(BPF_JGT, (u32)(NURSERY + NURSERY_SIZE), 0, 1), RET(TRAP),
	LOAD(nr), ALLOW(__NR_mmap), ALLOW(__NR_clone), RET(KILL_PROCESS), /* the nursery */
	LOAD(nr),
	ALLOW(__NR_rt_sigreturn), ALLOW(__NR_getppid), ALLOW(__NR_exit_group),
	HOLD(__NR_mmap), HOLD(__NR_mprotect), HOLD(__NR_clone),
	IF(BPF_JEQ, __NR_munmap, 0, 10), /* munmap(NURSERY, NURSERY_SIZE) needs no order */
	LOAD_ARG(0, 0), IF(BPF_JEQ, NURSERY, 0, 7), LOAD_ARG(0, 1), IF(BPF_JEQ, NURSERY >> 32, 0, 5),
	LOAD_ARG(1, 0), IF(BPF_JEQ, NURSERY_SIZE, 0, 3), LOAD_ARG(1, 1), IF(BPF_JEQ, 0, 0, 1), RET(ALLOW), RET(USER_NOTIF),
	IF(BPF_JEQ, __NR_futex, 0, 4), /* futex(addr, FUTEX_WAIT or FUTEX_WAKE, ...) */
	LOAD_ARG(1, 0), IF(BPF_JGT, FUTEX_WAKE, 0, 1), RET(KILL_PROCESS), RET(ALLOW),
	IF(BPF_JEQ, __NR_write, 0, 6), /* write(doorbell, addr, 8) */
	LOAD_ARG(0, 0), IF(BPF_JEQ, FD_DOORBELL, 0, 3),
	LOAD_ARG(2, 0), IF(BPF_JEQ, 8, 0, 1), RET(ALLOW), RET(KILL_PROCESS),
	IF(BPF_JEQ, __NR_prctl, 0, 6), /* prctl(PR_SET_PDEATHSIG, SIGKILL) */
	LOAD_ARG(0, 0), IF(BPF_JEQ, PR_SET_PDEATHSIG, 0, 3),
	LOAD_ARG(1, 0), IF(BPF_JEQ, 9, 0, 1), RET(ALLOW), RET(KILL_PROCESS),
	RET(KILL_PROCESS),
};

static void die(long code)
{
	call2(__NR_exit_group, code, 0);
}

/* A thread without the filter: it sends the listener to the kernel, closes what stubs must not have, and ends. */
HIDDEN __attribute__((used)) void helper(struct slot *slot)
{
	struct { u64 version, error, stub, slots, slot_size, text_size; } hello = {
		LAYOUT_VERSION, 0, STUB, SLOTS, SLOT_SIZE, TEXT_SIZE,
	};
	struct { u64 len; int level, type, fd, pad; } rights = { 20, 1, 1, 0, 0 }; /* SOL_SOCKET, SCM_RIGHTS */
	struct { void *base; u64 len; } iov = { &hello, sizeof(hello) };
	struct { void *name; u32 namelen; void *iov; u64 iovlen; void *control; u64 controllen; int flags; } msg = {
		0, 0, &iov, 1, &rights, sizeof(rights), 0,
	};
	long got;

	while (!load(&slot->seen))
		call2(__NR_sched_yield, 0, 0);
	got = slot->result;
	if (got < 0) {
		hello.error = -got;
		msg.controllen = 0;
	}
	rights.fd = got;
	call3(__NR_sendmsg, FD_GREETING, &msg, 0x4000 /* MSG_NOSIGNAL */);
	if (got < 0)
		die(3);
	call3(__NR_close_range, FD_GREETING, ~0U, 0);
	__atomic_store_n(&slot->seen, 0, __ATOMIC_SEQ_CST);
	call3(__NR_futex, &slot->seen, FUTEX_WAKE, 1);
	call2(__NR_exit, 0, 0);
}

static void set_handlers(void)
{
	static const unsigned char signals[] = { 31, 11, 7, 4, 8, 5, SIG_KICK }; /* SYS SEGV BUS ILL FPE TRAP */
	struct { void (*handler)(void); u64 flags; void (*restorer)(void); u64 mask; } action = {
		trap_entry, 0x4 | 0x04000000 | 0x08000000, trap_restorer, ~0UL, /* SIGINFO, RESTORER, ONSTACK */
	};

	for (unsigned i = 0; i < sizeof(signals); i++)
		call4(__NR_rt_sigaction, signals[i], &action, 0, 8);
}

/* The zygote, at its final address, on the private page. */
HIDDEN __attribute__((used)) void zygote(void)
{
	struct slot *slot = (struct slot *)SLOTS;
	struct { u64 sp; int flags; u64 size; } altstack = { SLOTS + SLOT_HEAD, 1U << 31 /* AUTODISARM */, SLOT_SIZE - SLOT_HEAD };
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), (struct sock_filter *)filter };
	u64 no_core[2] = { 0, 0 };
	long listener;

	call2(__NR_munmap, 0, STUB);
	call2(__NR_prctl, PR_SET_PDEATHSIG, 9);
	if (call2(__NR_getppid, 0, 0) != slot->ppid)
		die(1);
	call4(__NR_prlimit64, 0, 4 /* RLIMIT_CORE */, no_core, 0);
	set_handlers();
	call2(__NR_sigaltstack, &altstack, 0);
	/* CLONE_VM FS FILES SIGHAND THREAD SYSVSEM */
	if (start_helper(0x50f00, (void *)(PRIVATE + PRIVATE_SIZE / 2), slot) < 0)
		die(4);
	call5(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	listener = call3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 1U << 3 | 1U << 5, &program); /* NEW_LISTENER, WAIT_KILLABLE_RECV */
	if (listener == -22) /* before 5.19 */
		listener = call3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 1U << 3, &program);
	slot->result = listener;
	__atomic_store_n(&slot->seen, 1, __ATOMIC_SEQ_CST);
	while (load(&slot->seen))
		call4(__NR_futex, &slot->seen, FUTEX_WAIT, 1, 0);
	trap_self();
	breed(slot);
}

/* At the address the file was loaded at: build the final address space, then leave this one. */
HIDDEN __attribute__((used)) void boot(void)
{
	extern char __text_start[] HIDDEN;
	u64 entry = STUB + ((char *)zygote - __text_start);

	call2(__NR_munmap, STUB, TOP - STUB);
	call3(__NR_close_range, FD_IMAGE + 1, ~0U, 0);
	/* PROT_READ|EXEC, MAP_PRIVATE|FIXED; PROT_READ|WRITE, MAP_PRIVATE|FIXED|ANONYMOUS; PROT_READ|WRITE, MAP_SHARED|FIXED */
	if (call(__NR_mmap, STUB, TEXT_SIZE + NURSERY_SIZE, 5, 0x12, FD_IMAGE, 0x1000) != STUB ||
	    call(__NR_mmap, PRIVATE, PRIVATE_SIZE, 3, 0x32, -1, 0) != PRIVATE ||
	    call(__NR_mmap, SLOTS, SLOT_SIZE, 3, 0x11, FD_CONTEXTS, 0) != SLOTS)
		die(5);
	go((void *)entry, (void *)(PRIVATE + PRIVATE_SIZE));
}
