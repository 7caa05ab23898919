"""A disk's main job: a Linux that partitions it, makes file systems, and finds its files again."""

import hashlib

import pytest

from guest import MIB, Qemu, Server, sparse, tool

EXT4_START = 1 * MIB
DISK_SIZE = 512 * MIB  # mkfs.xfs refuses less than 300 MiB

JOB = """
modprobe xfs || echo 'no xfs module'
say serial "$(cat /sys/block/vda/serial)"
say sectors $(cat /sys/block/vda/size)
say "first bytes" $(head -c 1048576 /dev/vda | tr -d '\\0' | wc -c)

printf 'label: gpt\\nstart=2048, size=128M\\nstart=264192\\n' >/tmp/table
write_table() { sfdisk -q /dev/vda </tmp/table; }
check "partition" write_table
check "partitions" eventually 5 test -b /dev/vda2
say "partition sectors" $(cat /sys/block/vda/vda1/size)

# use NAME DEVICE: make files, forget them, find them
use() {
	mkdir -p /mnt/$1
	check "$1 mount" mount -t $1 $2 /mnt/$1
	noise /mnt/$1/small 5000
	noise /mnt/$1/large 12000000
	mkdir /mnt/$1/many
	for i in $(seq 200); do echo "file $i of $1" >/mnt/$1/many/$i; done
	(cd /mnt/$1 && find . -type f | sort | xargs sha256sum) >/tmp/$1.sums
	say "$1 files" $(wc -l </tmp/$1.sums)
	check "$1 sync" sync
	check "$1 unmount" umount /mnt/$1
	forget
	check "$1 mount again" mount -t $1 -o ro $2 /mnt/$1
	check "$1 files again" sh -c "cd /mnt/$1 && sha256sum -c /tmp/$1.sums >/dev/null"
	say "$1 sum" $(sed -n 's/ .*large$//p' /tmp/$1.sums)
	umount /mnt/$1
}

check "ext4 make" mkfs.ext4 -q /dev/vda1
use ext4 /dev/vda1
check "ext4 check" e2fsck -fn /dev/vda1
check "xfs make" mkfs.xfs -q /dev/vda2
use xfs /dev/vda2
check "xfs check" xfs_repair -n /dev/vda2
"""


@pytest.fixture(scope="module")
def disk(room):
    return sparse(room + "/disk.img", DISK_SIZE)


@pytest.fixture(scope="module")
def boot(room, disk):
    with Server(room, disk, serial="ROSEBUD-1941") as server:
        with Qemu(room, server, JOB, with_fio=True) as guest:
            return guest.finish(120)


def test_a_guest_sees_a_disk_of_the_image_s_size_and_all_zeroes(boot):
    boot.ok("boot")
    assert int(boot["sectors"]) * 512 == DISK_SIZE
    assert boot["first bytes"] == "0"


@pytest.mark.vhostd_only
def test_the_serial_that_was_asked_for_shows_in_the_guest(boot):
    assert boot["serial"] == "ROSEBUD-1941"


def test_a_partition_table_is_written_and_read_back(boot):
    boot.ok("partition", "partitions")
    assert int(boot["partition sectors"]) == 128 * MIB // 512


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_file_system_is_made_and_finds_its_files_after_a_remount(boot, kind):
    assert boot[kind + " files"] == "202"
    boot.ok(*(kind + step for step in (" make", " mount", " sync", " unmount", " mount again",
                                       " files again", " check")))


def test_the_host_finds_the_guest_s_file_in_the_image(boot, disk):
    where = "%s?offset=%d" % (disk, EXT4_START)
    tool("e2fsck", "-fn", where)
    # debugfs says its version on stderr, so not into the sum.
    tool("debugfs", "-R", "dump /large %s.large" % disk, where)
    with open(disk + ".large", "rb") as content:
        assert hashlib.sha256(content.read()).hexdigest() == boot["ext4 sum"]
