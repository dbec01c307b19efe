# Bare metal: a stack, floating point on, the work, and the finisher.
	.section .text.start, "ax"
	.globl _start
_start:
	csrr t0, mhartid
	bnez t0, 1f
	li t0, 0x6000
	csrs mstatus, t0
	la sp, stack_top
	call work
	li t0, 0x100000
	li t1, 0x5555
	sw t1, 0(t0)
1:	wfi
	j 1b
	.bss
	.balign 16
	.skip 65536
stack_top:
