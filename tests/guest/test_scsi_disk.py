"""A SCSI device's main job: three units of one device, plugged, grown and unplugged while in use."""

import os

import pytest

from guest import MIB, Q35, Qemu, ScsiServer, allocated, sparse

pytestmark = pytest.mark.vhostd_only

JOB = """
check "disks" eventually 20 scsi_disks 0,0 0,1 5,0
file=$(scsi_disk 0 0) ram=$(scsi_disk 0 1) large=$(scsi_disk 5 0)
queue=/sys/block/${file#/dev/}/queue
say serial "$(sg_inq --page=sn $file | sed -n 's/.*number: *//p')"
say vendor "$(cat /sys/block/${file#/dev/}/device/vendor)"
say sectors $(cat /sys/block/${file#/dev/}/size)
say queues $(ls /sys/block/${file#/dev/}/mq | wc -l)
say cache "$(cat $queue/write_cache)"
say "block size" $(cat /sys/block/${large#/dev/}/queue/logical_block_size)
say thin $(cat /sys/block/${file#/dev/}/device/scsi_disk/*/thin_provisioning)
say luns "$(sg_luns $file | grep '^ *[0-9a-f]' | tr -d ' ' | tr '\\n' ' ')"

printf 'label: gpt\\nstart=2048, size=64M\\n' >/tmp/table
write_table() { sfdisk -q $file </tmp/table; }
check "partition" write_table
check "partitions" eventually 5 test -b ${file}1
check "make" mkfs.ext4 -q ${file}1
check "mount" mount ${file}1 /mnt
noise /mnt/file 12000000
sha256sum /mnt/file >/tmp/sum
umount /mnt
forget
mount ${file}1 /mnt
check "file again" sha256sum -c /tmp/sum
umount /mnt
check "check" e2fsck -fn ${file}1

verify() {
	name=$1
	shift
	check "$name" fio --name=verify --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite \\
		--verify=crc32c --do_verify=1 --verify_fatal=1 --size=16M "$@"
}
verify "mixed sizes" --filename=$file --offset=96M --bsrange=512-128k
verify "ram" --filename=$ram --bsrange=512-64k --numjobs=2 --offset_increment=16M
verify "large blocks" --filename=$large --bsrange=4k-64k

noise /tmp/noise 33554432
dd if=/tmp/noise of=$file bs=1M seek=128 conv=fsync
await written
check "discard" blkdiscard -o 134217728 -l 33554432 $file
await discarded
check "zero out" blkdiscard -z -o 134217728 -l 1048576 $file
forget
say "bytes left" $(dd if=$file bs=1M skip=128 count=1 | tr -d '\\0' | wc -c)

grown() { [ $(cat /sys/block/${file#/dev/}/size) = 1048576 ]; }
await grown
check "grown" eventually 10 grown

# Linux takes the bytes of a LUN for its number: 300 with flat addressing is 412Ch.
# Other units are busy while one comes and goes.
fio --name=busy --filename=$ram --direct=1 --ioengine=libaio --iodepth=8 --rw=randrw --bs=4k \\
	--size=16M --verify=crc32c --verify_fatal=1 --time_based --runtime=120 >/tmp/busy &
busy=$!
await plugged
check "plugged" eventually 10 scsi_disks 9,0 9,16684
new=$(scsi_disk 9 0)
say "new size" $(cat /sys/block/${new#/dev/}/size)
verify "new disk" --filename=$new --bs=4k
verify "new high disk" --filename=$(scsi_disk 9 16684) --bs=4k
write_on() { while dd if=/dev/zero of=$new bs=64k count=16 oflag=direct; do :; done; }
write_on >/tmp/write_on 2>&1 &
writer=$!
await unplugged
gone() { ! scsi_disks 9,0 && ! scsi_disks 9,16684; }
check "unplugged" eventually 10 gone
stopped() { ! kill -0 $writer 2>/dev/null; }
check "writer stopped" eventually 10 stopped
check "others are busy" kill -0 $busy
kill -INT $busy
check "others are right" wait $busy
check "resets" sg_reset --device $file
check "after the reset" dd if=$file of=/dev/null bs=64k count=16 iflag=direct
"""


@pytest.fixture(scope="module")
def boot(room):
    disk = sparse(room + "/disk.img", 256 * MIB)
    units = {(0, 0): {"file": disk, "serial": "ROSEBUD-1941"}, (0, 1): {"ram": "64M"},
             (5, 0): {"file": sparse(room + "/large.img", 64 * MIB), "block-size": 4096}}
    with ScsiServer(room, units, num_queues=2) as server:
        with Qemu(room, server, JOB, machine=Q35, cpus=2, num_queues=2, with_fio=True) as guest:
            guest.question("written", 120)
            guest.results["allocated when written"] = allocated(disk)
            guest.answer("written")
            guest.question("discarded")
            guest.results["allocated when discarded"] = allocated(disk)
            guest.answer("discarded")
            guest.question("grown")
            os.truncate(disk, 512 * MIB)
            server.reload()
            guest.answer("grown")
            guest.question("plugged")
            server.units[9, 300] = {"ram": "32M"}
            server.plug(9, 0, file=sparse(room + "/new.img", 32 * MIB))
            guest.answer("plugged")
            guest.question("unplugged", 60)
            del server.units[9, 300]
            server.unplug(9, 0)
            guest.answer("unplugged")
            return guest.finish(60)


def test_a_guest_finds_all_units_with_their_properties(boot):
    boot.ok("disks")
    assert boot["serial"] == "ROSEBUD-1941"
    assert boot["vendor"].strip() == "vhostd"
    assert int(boot["sectors"]) * 512 == 256 * MIB
    assert boot["block size"] == "4096"
    assert boot["thin"] == "1"
    assert boot["cache"] == "write back"
    assert boot["luns"].split() == ["0000000000000000", "0001000000000000"]


def test_a_guest_of_two_processors_uses_both_queues(boot):
    assert boot["queues"] == "2"


def test_a_partition_with_a_file_system_keeps_its_files(boot):
    boot.ok("partition", "partitions", "make", "mount", "file again", "check")


@pytest.mark.parametrize("job", ["mixed sizes", "ram", "large blocks"])
def test_fio_reads_back_what_it_wrote(boot, job):
    boot.ok(job)


def test_discard_gives_the_image_s_blocks_back_and_they_read_as_zeroes(boot):
    boot.ok("discard", "zero out")
    freed = boot["allocated when written"] - boot["allocated when discarded"]
    assert freed >= 31 * MIB
    assert boot["bytes left"] == "0"


def test_a_guest_is_told_when_a_unit_has_grown(boot):
    boot.ok("grown")


def test_a_target_that_is_plugged_in_is_found_and_works(boot):
    boot.ok("plugged", "new disk", "new high disk")
    assert int(boot["new size"]) * 512 == 32 * MIB


def test_a_target_that_is_taken_away_under_writes_goes_and_the_writer_gets_an_error(boot):
    boot.ok("unplugged", "writer stopped")


def test_units_beside_those_that_come_and_go_stay_in_use(boot):
    boot.ok("others are busy", "others are right")


def test_a_unit_that_was_reset_goes_on(boot):
    boot.ok("resets", "after the reset")
