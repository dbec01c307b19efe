# Entry points of the teaching kernel: reset in M-mode, the two trap vectors, and the way to user mode.
	.section .text.start
	.globl _start
_start:
	csrr t0, mhartid
	bnez t0, park
	la sp, boot_stack + 8192
	la t0, machine_vector
	csrw mtvec, t0
	call machine_main             # sets up S-mode, and leaves to it
park:
	wfi
	j park

	.text
# M-mode: timer and calls from S-mode. It saves all on a stack of its own.
	.balign 4
machine_vector:
	csrrw sp, mscratch, sp
	addi sp, sp, -256
	.irp r, 1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	sd x\r, 8*\r(sp)
	.endr
	mv a0, sp
	call machine_trap
	.irp r, 1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	ld x\r, 8*\r(sp)
	.endr
	addi sp, sp, 256
	csrrw sp, mscratch, sp
	mret

# S-mode: traps from user mode come with sscratch = the kernel's stack; from the kernel itself, sscratch = 0.
	.globl supervisor_vector
	.balign 4
supervisor_vector:
	csrrw sp, sscratch, sp
	bnez sp, 1f
	csrr sp, sscratch
1:	addi sp, sp, -272
	.irp r, 1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	sd x\r, 8*\r(sp)
	.endr
	csrrw t0, sscratch, zero
	sd t0, 16(sp)
	csrr t1, sepc
	sd t1, 0(sp)
	csrr t2, sstatus
	sd t2, 256(sp)
	mv a0, sp
	call supervisor_trap
	mv a0, sp
	.globl leave
leave:                            # a0 = registers
	mv sp, a0
	ld t1, 0(sp)
	csrw sepc, t1
	ld t2, 256(sp)
	csrw sstatus, t2
	andi t2, t2, 0x100            # SPP: back to the kernel?
	bnez t2, 2f
	la t0, kernel_stack + 8192    # to user mode: the next trap starts at the top again
	csrw sscratch, t0
2:	.irp r, 1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	ld x\r, 8*\r(sp)
	.endr
	ld sp, 16(sp)
	sret

	.bss
	.balign 16
	.globl boot_stack, kernel_stack, machine_stack
boot_stack:	.skip 8192
kernel_stack:	.skip 8192
machine_stack:	.skip 8192
