# Entry points for harts that work at the same time: reset in M-mode, and the handler of messages between harts.
	.section .text.start
	.globl _start
_start:
	la sp, stacks
	csrr a0, mhartid
	addi t0, a0, 1
	slli t0, t0, 13
	add sp, sp, t0                # 8 KiB for each hart
	la t0, vector
	csrw mtvec, t0
	addi t1, sp, -512             # below: C; above: what the handler saves
	csrw mscratch, t1
	mv sp, t1
	li t0, -1
	csrw pmpaddr0, t0
	li t0, 31
	csrw pmpcfg0, t0
	li t0, 0xe000000000000000     # Sstc, and A and D set by the hart
	csrs menvcfg, t0
	li t0, 7
	csrw mcounteren, t0
	li t0, 0x222                  # S-mode takes its own interrupts, M-mode messages
	csrw mideleg, t0
	li t0, 8
	csrw mie, t0
	la t0, enter
	csrw mepc, t0
	li t0, 0x1800
	csrc mstatus, t0
	li t0, 0x800
	csrs mstatus, t0
	mret                          # to S-mode, M-mode's interrupts on
enter:
	call start                    # a0: which hart
1:	wfi
	j 1b

# A message: clear it, forget what is known of memory and of code, and count it. Anything else: the end.
	.balign 4
vector:
	csrrw sp, mscratch, sp
	sd t0, 0(sp)
	sd t1, 8(sp)
	sd t2, 16(sp)
	csrr t0, mcause
	li t1, 0x8000000000000003
	bne t0, t1, wrong
	csrr t0, mhartid
	slli t1, t0, 2
	li t2, 0x2000000
	add t2, t2, t1
	sw zero, 0(t2)
	sfence.vma
	fence.i
	slli t1, t0, 6
	la t2, messages
	add t2, t2, t1
	li t0, 1
	amoadd.d.aqrl zero, t0, (t2)
	ld t0, 0(sp)
	ld t1, 8(sp)
	ld t2, 16(sp)
	csrrw sp, mscratch, sp
	mret
wrong:
	li t1, 0x100000
	slli t0, t0, 20
	li t2, 0x13333                # the finisher: failed, with 1 and the cause above it
	or t0, t0, t2
	sw t0, 0(t1)
1:	j 1b

# A function whose first instruction is written anew all the time, in a page of its own.
	.balign 4096
	.globl patched
patched:
	.word 0x00000513              # li a0, N
	ret
	.balign 4096

	.bss
	.balign 4096
	.globl messages
messages:	.skip 64 * 8
stacks:	.skip 8192 * 9
