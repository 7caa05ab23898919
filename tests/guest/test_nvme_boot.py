"""Firmware and resets: SeaBIOS boots from a namespace, and a machine that resets finds its disk."""

import os

import pytest

from guest import MIB, Q35, NvmeServer, Qemu, sparse
from test_scsi_boot import boot_sector, bootable  # noqa: F401 (a fixture)

pytestmark = pytest.mark.vhostd_only


def test_seabios_boots_from_a_namespace(room, sid, boot_sector):  # noqa: F811
    disk = bootable(room + "/boot.img", boot_sector, b"namespace 1")
    with NvmeServer(room, {1: {"file": disk}}) as server:
        with Qemu(room, server, None, machine=Q35, sid=sid, bootindex=1) as guest:
            results = guest.finish(30)
    results.ok("booted")
    assert results["block"] == "namespace 1"


# The second start finds what the first one left.
JOB = """
check "disk" eventually 30 nvme_disks 1
disk=$(nvme_disk 1)
starts=$(head -c 1 $disk | tr -d '\\0')
starts=$((${starts:-0} + 1))
echo $starts | dd of=$disk bs=512 conv=notrunc,sync oflag=direct
say starts $starts
if [ $starts -lt 3 ]; then
	# not a clean end: I/O is under way
	dd if=/dev/zero of=$disk bs=64k seek=16 oflag=direct &
	usleep 200000
	echo b >/proc/sysrq-trigger
	sleep 60
fi
check "verify" fio --name=verify --filename=$disk --offset=1M --direct=1 --ioengine=libaio \\
	--iodepth=16 --rw=randwrite --bs=4k --size=8M --verify=crc32c --do_verify=1 --verify_fatal=1
"""


@pytest.mark.parametrize("doorbells", ["trapped", "mapped"])
def test_a_machine_that_resets_under_io_finds_its_disk_again(room, sid, doorbells):
    folder = os.path.join(room, doorbells)
    os.mkdir(folder)
    with NvmeServer(folder, {1: {"file": sparse(folder + "/disk.img", 64 * MIB)}},
                    doorbells=doorbells) as server:
        with Qemu(folder, server, JOB, machine=Q35, cpus=2, with_fio=True, sid=sid,
                  reboot=True) as guest:
            results = guest.finish(90)
    results.ok("disk", "verify")
    assert results["starts"] == "3"
