"""User Mode Linux on a SCSI device: a second front-end, with habits of its own."""

import os

import pytest

from guest import MIB, UML, ScsiServer, Uml, sparse, tool

pytestmark = [pytest.mark.vhostd_only,
              pytest.mark.skipif(not os.path.exists(UML), reason="no user-mode-linux here")]

JOB = """
check "disks" eventually 10 scsi_disks 0,0 0,1 7,0
disk=$(scsi_disk 0 0)
say sectors $(cat /sys/block/${disk#/dev/}/size)
check "make" mkfs.ext4 -q $disk
check "mount" mount $disk /mnt
noise /mnt/file 16000000
sha256sum /mnt/file >/tmp/sum
check "sync" sync
umount /mnt
forget
mount $disk /mnt
check "file again" sha256sum -c /tmp/sum
umount /mnt
check "check" e2fsck -fn $disk
check "discard" blkdiscard -o 67108864 -l 1048576 $disk
"""


def test_user_mode_linux_keeps_its_files_on_a_scsi_disk(room):
    disk = sparse(room + "/disk.img", 128 * MIB)
    units = {(0, 0): {"file": disk}, (0, 1): {"ram": "16M"}, (7, 0): {"null": "16M"}}
    with ScsiServer(room, units) as server, Uml(room, server, JOB) as guest:
        results = guest.finish()
    assert int(results["sectors"]) * 512 == 128 * MIB
    results.ok("disks", "make", "mount", "sync", "file again", "check", "discard")
    tool("e2fsck", "-fn", disk)
