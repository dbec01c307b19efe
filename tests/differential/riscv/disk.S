# Entry of the disk driver's program: one hart, a stack.
	.section .text.start
	.globl _start
_start:
	csrr t0, mhartid
	bnez t0, 1f
	la sp, stack + 4096
	call disk_main
1:	wfi
	j 1b
	.bss
	.balign 16
stack:	.skip 4096
