"""A disk of 4096-byte blocks."""

from guest import MIB, Qemu, Server, sparse

JOB = """
say logical $(cat /sys/block/vda/queue/logical_block_size)
say sectors $(cat /sys/block/vda/size)
check "make" mkfs.ext4 -q /dev/vda
check "mount" mount /dev/vda /mnt
noise /mnt/file 8000000
sha256sum /mnt/file >/tmp/sum
umount /mnt
forget
mount /dev/vda /mnt
check "file again" sha256sum -c /tmp/sum
umount /mnt
check "check" e2fsck -fn /dev/vda
"""


def test_a_guest_keeps_its_files_on_a_disk_of_4096_byte_blocks(room):
    disk = sparse(room + "/disk.img", 64 * MIB)
    with Server(room, disk, block_size=4096) as server:
        with Qemu(room, server, JOB) as guest:
            results = guest.finish()
    assert results["logical"] == "4096"
    assert int(results["sectors"]) * 512 == 64 * MIB
    results.ok("make", "mount", "file again", "check")
