/*
 * A boot sector that proves what firmware can do with a disk: it was itself read from it, and it
 * has the firmware read the next block. Says so on the serial port in the rig's marked lines, then
 * ends QEMU through isa-debug-exit.
 *
 *	as --32 -o x.o bootsector.S; ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o x x.o
 *
 * BIOS, INT 13h: the boot drive's number is in DL; function 42h reads by block address.
 */
	.code16
	.globl	_start
_start:	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x7c00, %sp
	cld
	mov	$booted, %si
	call	print
	mov	$packet, %si
	mov	$0x42, %ah
	int	$0x13
	jc	end
	mov	$block, %si
	call	print
	mov	$0x7e00, %si
	call	print
	mov	$done, %si
	call	print
end:	mov	$0xf4, %dx
	out	%al, %dx
stop:	hlt
	jmp	stop

/* The string at SI, to the first serial port, a byte whenever it is ready. */
print:	push	%dx
next:	mov	$0x3fd, %dx
wait:	in	%dx, %al
	test	$0x20, %al
	jz	wait
	lodsb
	test	%al, %al
	jz	out
	mov	$0x3f8, %dx
	out	%al, %dx
	jmp	next
out:	pop	%dx
	ret

booted:	.asciz	"\n@@ booted ok\n"
block:	.asciz	"@@ block = "
done:	.asciz	"\n@@ end ok\n"

	.balign	4
packet:	.byte	16, 0		/* size of this */
	.word	1		/* blocks */
	.word	0x7e00, 0	/* to offset, segment */
	.quad	1		/* from block */

	.org	510
	.word	0xaa55
