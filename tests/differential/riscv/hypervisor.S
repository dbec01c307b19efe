# Entry points of the hypervisor: reset in M-mode, and the way into the guest and back, as a function.
	.section .text.start
	.globl _start
_start:
	csrr t0, mhartid
	bnez t0, park
	la sp, boot_stack + 8192
	la t0, park
	csrw mtvec, t0
	li t0, -1
	csrw pmpaddr0, t0
	li t0, 31
	csrw pmpcfg0, t0
	csrw mcounteren, t0
	li t0, 0xf4b5ff               # everything but calls of HS-mode
	csrw medeleg, t0
	li t0, 0x222
	csrw mideleg, t0
	li t0, 5 << 61                # ADUE and STCE, where they are
	csrw 0x30a, t0
	la t0, hypervisor_main
	csrw mepc, t0
	li t0, 1 << 11                # MPP: HS-mode
	csrs mstatus, t0
	mret
	.balign 4
park:
	wfi
	j park

	.text
# void enter(word *registers): run the guest until it traps. x0's place holds its pc.
	.globl enter
enter:
	addi sp, sp, -128
	sd ra, 0(sp)
	sd gp, 8(sp)
	sd tp, 16(sp)
	.irp r, 0,1,2,3,4,5,6,7,8,9,10,11
	sd s\r, 24+8*\r(sp)
	.endr
	csrw sscratch, a0
	sd sp, 256(a0)
	la t0, back
	csrw stvec, t0
	ld t0, 0(a0)
	csrw sepc, t0
	.irp r, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	ld x\r, 8*\r(a0)
	.endr
	ld a0, 80(a0)
	sret
	.balign 4
back:
	csrrw a0, sscratch, a0
	.irp r, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	sd x\r, 8*\r(a0)
	.endr
	csrr t0, sscratch
	sd t0, 80(a0)
	csrr t0, sepc
	sd t0, 0(a0)
	ld sp, 256(a0)
	ld ra, 0(sp)
	ld gp, 8(sp)
	ld tp, 16(sp)
	.irp r, 0,1,2,3,4,5,6,7,8,9,10,11
	ld s\r, 24+8*\r(sp)
	.endr
	addi sp, sp, 128
	ret

	.section .rodata
	.balign 4096
	.globl guest_image, guest_image_end
guest_image:
	.incbin GUEST
guest_image_end:

	.bss
	.balign 16
boot_stack: .zero 8192
