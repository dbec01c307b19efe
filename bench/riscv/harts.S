# Bare metal, several harts: a stack for each, floating point on, each one's own copy of the work; who is last ends the machine.
	.section .text.start, "ax"
	.globl _start
_start:
	csrr s0, mhartid
	li t0, HARTS
	bgeu s0, t0, 2f
	li t0, 0x6000
	csrs mstatus, t0
	la sp, stacks
	addi t0, s0, 1
	slli t0, t0, 16
	add sp, sp, t0
	la t0, works
	slli t1, s0, 3
	add t0, t0, t1
	ld t0, 0(t0)
	jalr t0                       # the checksum is printed by `put`, one hart at a time
	la t0, done
	li t1, 1
	amoadd.d.aqrl t1, t1, (t0)
	li t0, HARTS - 1
	bne t0, t1, 2f
	li t0, 0x100000
	li t1, 0x5555
	sw t1, 0(t0)
2:	wfi
	j 2b

	.globl put
put:	la t0, printing
1:	li t1, 1
	amoswap.d.aq t1, t1, (t0)
	bnez t1, 1b
	addi sp, sp, -16
	sd ra, 0(sp)
	call put_alone
	ld ra, 0(sp)
	addi sp, sp, 16
	la t0, printing
	amoswap.d.rl zero, zero, (t0)
	ret

	.section .rodata
	.balign 8
works:	.dword work0
	.if HARTS > 1
	.dword work1
	.endif
	.if HARTS > 2
	.dword work2, work3
	.endif
	.bss
	.balign 64
done:	.skip 64
printing:	.skip 64
stacks:	.skip 65536 * HARTS
