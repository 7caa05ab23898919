"""The image grows under a mounted file system, and the guest uses the room."""

import os

import pytest

from guest import MIB, Qemu, Server, sparse

JOB = """
grown() { [ $(cat /sys/block/vda/size) = 262144 ]; }
check "make" mkfs.ext4 -q /dev/vda
check "mount" mount /dev/vda /mnt
noise /mnt/old 4000000
sync
sha256sum /mnt/old >/tmp/sums
await grown
check "size" eventually 20 grown
check "resize" resize2fs /dev/vda
check "new file" dd if=/dev/zero of=/mnt/new bs=1M count=80 conv=fsync
umount /mnt
forget
check "check" e2fsck -fn /dev/vda
mount /dev/vda /mnt
check "old file" sha256sum -c /tmp/sums
umount /mnt
"""


@pytest.mark.vhostd_only
def test_a_mounted_disk_grows_when_its_image_has_grown_and_vhostd_gets_sighup(room):
    disk = sparse(room + "/disk.img", 64 * MIB)
    with Server(room, disk) as server, Qemu(room, server, JOB) as guest:
        guest.question("grown")
        os.truncate(disk, 128 * MIB)
        server.reload()
        guest.answer("grown")
        results = guest.finish()
    results.ok("make", "mount", "size", "resize", "new file", "check", "old file")
