"""virtio-blk and virtio-scsi as PCI functions over vfio-user: QEMU's vfio-user-pci, real drivers."""

import os

import pytest

from guest import MIB, Q35, Qemu, ScsiServer, Server, sparse, tool

pytestmark = pytest.mark.vhostd_only

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bootsector.S")

# Runs twice, the second time after a reboot.
JOB = """
modprobe virtio_blk
modprobe virtio_scsi
modprobe sd_mod
check "disks" eventually 20 scsi_disks 0,0
scsi=$(scsi_disk 0 0)
say serial "$(cat /sys/block/vda/serial)"
say sectors $(cat /sys/block/vda/size)
say queues $(ls /sys/block/vda/mq | wc -l)
say "scsi queues" $(ls /sys/block/${scsi#/dev/}/mq | wc -l)
mkdir -p /mnt/blk /mnt/scsi

if mount -t ext4 /dev/vda1 /mnt/blk 2>/dev/null; then
	mount -t ext4 $scsi /mnt/scsi
	check "blk after the reboot" sh -c "cd /mnt/blk && sha256sum -c sums"
	check "scsi after the reboot" sh -c "cd /mnt/scsi && sha256sum -c sums"
	umount /mnt/blk /mnt/scsi
	check "blk is sound" e2fsck -fn /dev/vda1
	check "scsi is sound" e2fsck -fn $scsi
	say "second interrupts" $(grep -c 'virtio.*req' /proc/interrupts)
	return
fi

say "pci ids" $(cat /sys/bus/pci/devices/*/device)
say interrupts $(grep -c 'virtio.*\\(req\\|request\\)' /proc/interrupts)
printf 'label: gpt\\nstart=2048, size=128M\\n' >/tmp/table
write_table() { sfdisk -q /dev/vda </tmp/table; }
check "partition" write_table
check "partitions" eventually 5 test -b /dev/vda1

verify() {
	name=$1
	shift
	check "$name" fio --name=verify --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite \\
		--verify=crc32c --do_verify=1 --verify_fatal=1 --size=8M "$@"
}
verify "blk fio" --filename=/dev/vda --offset=160M --bsrange=512-128k --numjobs=2 \\
	--offset_increment=8M
verify "scsi fio" --filename=$scsi --offset=32M --bsrange=512-64k --numjobs=2 \\
	--offset_increment=8M
check "discard" blkdiscard -o 167772160 -l 8388608 /dev/vda
forget
say "bytes left" $(dd if=/dev/vda bs=1M skip=160 count=8 2>/dev/null | tr -d '\\0' | wc -c)

grown() { [ $(cat /sys/block/vda/size) = 1048576 ]; }
await grown
check "grown" eventually 10 grown
plugged() { scsi_disks 3,1; }
await plugged
check "plugged" eventually 10 plugged
verify "new disk" --filename=$(scsi_disk 3 1) --bs=4k

# The driver lets go of the device and takes it again.
again() {
	local at=/sys/bus/virtio/drivers/$1 name
	for name in $at/virtio*; do
		name=${name##*/}
		echo $name >$at/unbind && echo $name >$at/bind || return 1
	done
}
check "blk reset" again virtio_blk
check "blk back" eventually 10 test -b /dev/vda1
check "scsi reset" again virtio_scsi
check "scsi back" eventually 20 scsi_disks 0,0
scsi=$(scsi_disk 0 0)

use() {
	check "$1 make" mkfs.ext4 -q $2
	check "$1 mount" mount -t ext4 $2 /mnt/$1
	noise /mnt/$1/small 5000
	noise /mnt/$1/large 12000000
	(cd /mnt/$1 && sha256sum small large >sums)
	check "$1 unmount" umount /mnt/$1
}
use blk /dev/vda1
use scsi $scsi
# Under load: what is in flight is not waited for.
fio --name=load --filename=/dev/vda --offset=200M --size=16M --direct=1 --ioengine=libaio \\
	--iodepth=32 --rw=randwrite --bs=4k --time_based --runtime=60 >/dev/null 2>&1 &
usleep 300000
echo "@@ reboots ok"
reboot -f
"""


@pytest.fixture(scope="module", params=["trapped", "mapped"])
def boot(room, sid, request):
    rooms = [room + "/" + request.param + kind for kind in ("blk", "scsi")]
    for folder in rooms:
        os.mkdir(folder)
    options = {"transport": "vfio-user", "notifications": request.param, "num_queues": 2}
    disk = sparse(rooms[0] + "/disk.img", 256 * MIB)
    units = {(0, 0): {"file": sparse(rooms[1] + "/disk.img", 64 * MIB)}}
    with Server(rooms[0], disk, serial="ROSEBUD-1941", **options) as blk, \
            ScsiServer(rooms[1], units, **options) as scsi:
        with Qemu(rooms[0], blk, JOB, machine=Q35, cpus=2, with_fio=True, sid=sid, reboot=True,
                  sockets=[blk.socket, scsi.socket]) as guest:
            guest.question("grown", 120)
            os.truncate(disk, 512 * MIB)
            blk.reload()
            guest.answer("grown")
            guest.question("plugged")
            scsi.plug(3, 1, ram="16M")
            guest.answer("plugged")
            guest.result("reboots", 120)
            return guest.finish(120)


PLAIN_JOB = """
check "disk" eventually 20 test -b /dev/$DISK
say packed $(cut -c35 /sys/bus/virtio/devices/virtio0/features)
say pin $(grep -c 'IO-APIC.*virtio0' /proc/interrupts)
verify() {
	fio --name=verify --filename=/dev/$DISK --direct=1 --ioengine=libaio --iodepth=16 \\
		--rw=randwrite --bsrange=4k-64k --size=8M --verify=crc32c --do_verify=1 \\
		--verify_fatal=1
}
check "verify" verify
"""


def disk_of(kind, room, **options):
    if kind == "blk":
        return Server(room, sparse(room + "/plain.img", 32 * MIB), transport="vfio-user", **options)
    units = {(0, 0): {"file": sparse(room + "/plain.img", 32 * MIB)}}
    return ScsiServer(room, units, transport="vfio-user", **options)


@pytest.mark.parametrize("kind, name", [("blk", "vda"), ("scsi", "sda")])
def test_split_rings_and_the_interrupt_pin_do_as_well(room, sid, kind, name):
    with disk_of(kind, room, packed="off") as server:
        with Qemu(room, server, "DISK=%s\n" % name + PLAIN_JOB, machine=Q35, with_fio=True, sid=sid,
                  parameters="pci=nomsi") as guest:
            results = guest.finish(60)
    results.ok("disk", "verify")
    assert results["packed"] == "0"
    assert results["pin"] == "1"


@pytest.mark.parametrize("kind", ["blk", "scsi"])
def test_seabios_boots_from_the_disk(room, sid, kind):
    names = room + "/boot.o", room + "/boot"
    tool("as", "--32", "-o", names[0], SOURCE)
    tool("ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", names[1], names[0])
    with disk_of(kind, room) as server:
        with open(names[1], "rb") as sector, open(room + "/plain.img", "r+b") as disk:
            disk.write(sector.read() + b"the disk\0")
        with Qemu(room, server, None, machine=Q35, sid=sid, bootindex=1) as guest:
            results = guest.finish(30)
    results.ok("booted")
    assert results["block"] == "the disk"


def test_a_guest_finds_both_disks_and_their_properties(boot):
    boot.ok("disks")
    assert boot["serial"] == "ROSEBUD-1941"
    assert {"0x1042", "0x1048"} <= set(boot["pci ids"].split())
    assert boot["queues"] == boot["scsi queues"] == "2"


def test_each_queue_has_its_interrupt(boot):
    assert int(boot["interrupts"]) >= 4


@pytest.mark.parametrize("job", ["blk fio", "scsi fio", "new disk"])
def test_fio_reads_back_what_it_wrote(boot, job):
    boot.ok(job)


def test_discarded_blocks_read_as_zeroes(boot):
    boot.ok("discard")
    assert boot["bytes left"] == "0"


def test_a_change_of_the_configuration_and_a_new_unit_are_told(boot):
    boot.ok("grown", "plugged")


def test_drivers_let_go_of_the_devices_and_take_them_again(boot):
    boot.ok("blk reset", "blk back", "scsi reset", "scsi back")


def test_file_systems_are_whole_after_a_reboot_under_load(boot):
    boot.ok("partition", "partitions", "blk make", "blk mount", "blk unmount", "scsi make",
            "scsi mount", "scsi unmount", "blk after the reboot", "scsi after the reboot",
            "blk is sound", "scsi is sound")
