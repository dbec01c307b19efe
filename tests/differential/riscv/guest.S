# Entry points of the guest: it starts in VS-mode, and has a trap vector and a program in VU-mode.
	.section .text.start
	.globl _start
_start:
	la sp, stack + 4096
	la t0, vector
	csrw stvec, t0
	call guest_main
1:	j 1b

	.text
# Traps of the guest, from VS- and VU-mode: all registers on the stack; a handler that says where to go on.
	.balign 4
vector:
	csrw sscratch, sp
	la sp, trap_stack + 4096 - 256
	.irp r, 1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	sd x\r, 8*\r(sp)
	.endr
	csrr t0, sscratch
	sd t0, 16(sp)
	mv a0, sp
	call guest_trap
	.irp r, 1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	ld x\r, 8*\r(sp)
	.endr
	ld sp, 16(sp)
	sret

# long call(long a0, long a1, ..., number in a7): the hypervisor's services.
	.globl call
call:
	mv a7, a2
	ecall
	ret

# void down(long pc): run VU-mode from pc, until the trap handler goes to `up`.
	.globl down, up
down:
	la t0, kept
	sd ra, 0(t0)
	sd sp, 8(t0)
	.irp r, 0,1,2,3,4,5,6,7,8,9,10,11
	sd s\r, 16+8*\r(t0)
	.endr
	csrw sepc, a0
	li t1, 0x100
	csrc sstatus, t1              # SPP: user mode
	sret
up:
	la t0, kept
	ld ra, 0(t0)
	ld sp, 8(t0)
	.irp r, 0,1,2,3,4,5,6,7,8,9,10,11
	ld s\r, 16+8*\r(t0)
	.endr
	ret

# What VU-mode does: every instruction but the last one traps, and the kernel goes on behind it.
	.section .user, "ax"
	.balign 4
	.globl user
user:
	li a0, 1
	ecall                         # to VS-mode
	csrr t0, hstatus              # virtual instruction
	csrr t0, mstatus              # illegal
	wfi                           # virtual instruction
	.option push
	.option norvc
	.insn r 0x73, 4, 0x34, t0, a0, x0     # hlv.w: virtual instruction
	.option pop
	rdtime t0                     # virtual instruction while hcounteren is 0
	li a1, 0x700000
	lw t0, 0(a1)                  # no page in the guest's tables
	li a1, 0x500000
	lw t0, 0(a1)                  # a page that the guest has, and the hypervisor has not
	sw t0, 8(a1)
	li a1, 0x40000000
	lw t0, 0(a1)                  # the guest's table is where it has no memory
	li a0, 0
	ecall

	.bss
	.balign 4096
stack:	.zero 4096
trap_stack: .zero 4096
kept:	.zero 128
