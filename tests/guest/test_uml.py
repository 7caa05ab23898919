"""User Mode Linux: a second front-end, with habits of its own."""

import os

import pytest

from guest import MIB, UML, Server, Uml, sparse, tool

pytestmark = pytest.mark.skipif(not os.path.exists(UML), reason="no user-mode-linux here")

JOB = """
eventually 5 test -b /dev/vda
say sectors $(cat /sys/block/vda/size)
check "make" mkfs.ext4 -q /dev/vda
check "mount" mount /dev/vda /mnt
noise /mnt/file 16000000
sha256sum /mnt/file >/tmp/sum
check "sync" sync
umount /mnt
forget
mount /dev/vda /mnt
check "file again" sha256sum -c /tmp/sum
umount /mnt
check "check" e2fsck -fn /dev/vda
check "discard" blkdiscard -o 67108864 -l 1048576 /dev/vda
"""


def test_user_mode_linux_keeps_its_files(room):
    disk = sparse(room + "/disk.img", 128 * MIB)
    # This kernel accepts packed rings, and starts them at index 0 without the wrap counters.
    with Server(room, disk) as server, Uml(room, server, JOB) as guest:
        results = guest.finish()
    assert int(results["sectors"]) * 512 == 128 * MIB
    results.ok("make", "mount", "sync", "file again", "check", "discard")
    tool("e2fsck", "-fn", disk)
