# M-mode leaves to S-mode with page faults and calls from U-mode delegated; S-mode runs WORK.
	.section .text.start, "ax"
	.globl _start
_start:
	csrr t0, mhartid
	bnez t0, stop
	la sp, stack_top
	li t0, -1
	csrw pmpaddr0, t0
	li t0, 0x1f
	csrw pmpcfg0, t0
	li t0, 0xb100
	csrw medeleg, t0
	la t0, broken
	csrw mtvec, t0
	li t0, 0x1800
	csrc mstatus, t0
	li t0, 0x800
	csrs mstatus, t0
	la t0, supervisor
	csrw mepc, t0
	mret
supervisor:
	call prepare
	la t0, trap_entry
	csrw stvec, t0
	la t0, saved
	csrw sscratch, t0
	j WORK

calls:	la t0, user_code
	j to_user
faults:	la t0, user_faults
to_user:
	li t1, 0x80000000 - 0x40000000
	sub t0, t0, t1
	csrw sepc, t0
	li t0, 0x100
	csrc sstatus, t0
	la a0, rounds
	ld a0, 0(a0)
	sret

spaces:	call switches
	j finish
copies:	call supervisor_user_copies
	j finish

	.balign 4
	.globl user_code
user_code:
	ecall
	addi a0, a0, -1
	bnez a0, user_code
	j user_end
	.globl user_faults
user_faults:
	li t1, 0x60000000
	li t2, 64
	li t3, 4096
1:	sd zero, 0(t1)
	add t1, t1, t3
	addi t2, t2, -1
	bnez t2, 1b
	li a7, 1
	ecall
	li a7, 0
	addi a0, a0, -1
	bnez a0, user_faults
	.globl user_end
user_end:
	li a7, 2
	ecall

	.balign 4
	.globl trap_entry
trap_entry:			# as a kernel's: the scratch register leads to where registers are saved
	csrrw tp, sscratch, tp
	sd ra, 0(tp)
	sd t0, 8(tp)
	sd t1, 16(tp)
	sd t2, 24(tp)
	sd t3, 32(tp)
	sd a0, 40(tp)
	sd a1, 48(tp)
	sd a7, 56(tp)
	csrr t0, sepc
	sd t0, 64(tp)
	csrr a0, scause
	csrr a1, stval
	csrr t1, sstatus
	li t2, 8
	bne a0, t2, 1f
	li t3, 2
	beq a7, t3, finish
	beqz a7, 2f
1:	sd a0, 72(tp)
	la sp, stack_top
	li t3, 1
	bne a7, t3, 3f
	bne a0, t2, 3f
	call unmap
	j 2f
3:	call handle
	li t2, 8
	ld a0, 72(tp)
	bne a0, t2, 4f
2:	ld t0, 64(tp)
	addi t0, t0, 4
	sd t0, 64(tp)
4:	ld t0, 64(tp)
	csrw sepc, t0
	ld ra, 0(tp)
	ld t0, 8(tp)
	ld t1, 16(tp)
	ld t2, 24(tp)
	ld t3, 32(tp)
	ld a0, 40(tp)
	ld a1, 48(tp)
	ld a7, 56(tp)
	csrrw tp, sscratch, tp
	sret

	.balign 4
broken:	li t1, 0x13333
	j end
finish:	li t1, 0x5555
	csrw satp, zero
end:	li t0, 0x100000
	sw t1, 0(t0)
stop:	wfi
	j stop

	.bss
	.balign 16
saved:	.skip 128
	.skip 16384
stack_top:
