"""An NVMe controller's main job: namespaces in use, plugged, grown and unplugged; and reset under I/O.

Once with Debian 12's kernel and trapped doorbells, once with a recent kernel and mapped ones.
"""

import os

import pytest

from guest import MIB, Q35, NvmeServer, Qemu, allocated, sparse

pytestmark = pytest.mark.vhostd_only

JOB = """
check "namespaces" eventually 30 nvme_disks 1 2 7
file=$(nvme_disk 1) ram=$(nvme_disk 2) large=$(nvme_disk 7)
blocks() { cat /sys/block/${1#/dev/}/size; }
queue=/sys/block/${file#/dev/}/queue
say serial "$(cat /sys/class/nvme/nvme0/serial)"
say model "$(cat /sys/class/nvme/nvme0/model)"
say sectors $(blocks $file)
say queues $(cat /sys/class/nvme/nvme0/queue_count)
say cache "$(cat $queue/write_cache)"
say "block size" $(cat /sys/block/${large#/dev/}/queue/logical_block_size)
say "can discard" $(cat $queue/discard_max_bytes)
say "can zero" $(cat $queue/write_zeroes_max_bytes)

printf 'label: gpt\\nstart=2048, size=48M\\nsize=320M\\n' >/tmp/table
write_table() { sfdisk -q $file </tmp/table; }
check "partition" write_table
check "partitions" eventually 5 test -b ${file}p2
file_system() {
	check "make $1" $2 -q ${file}$3
	check "mount $1" mount -t $1 ${file}$3 /mnt
	noise /mnt/file 6000000
	sha256sum /mnt/file >/tmp/sum
	umount /mnt
	forget
	mount -t $1 ${file}$3 /mnt
	check "$1 again" sha256sum -c /tmp/sum
	umount /mnt
	check "check $1" $4 ${file}$3
}
file_system ext4 mkfs.ext4 p1 "e2fsck -fn"
file_system xfs mkfs.xfs p2 "xfs_repair -n"

verify() {
	name=$1
	shift
	check "$name" fio --name=verify --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite \\
		--verify=crc32c --do_verify=1 --verify_fatal=1 --size=12M "$@"
}
verify "mixed sizes" --filename=$file --offset=128M --bsrange=512-128k
verify "long transfers" --filename=$file --offset=128M --bs=2M --iodepth=4
verify "ram" --filename=$ram --bsrange=512-64k --numjobs=2 --offset_increment=16M --cpus_allowed=0-1 --cpus_allowed_policy=split
verify "large blocks" --filename=$large --bsrange=4k-64k

noise /tmp/noise 33554432
dd if=/tmp/noise of=$file bs=1M seek=128 conv=fsync
await written
check "discard" blkdiscard -o 134217728 -l 33554432 $file
await discarded
dd if=/tmp/noise of=$file bs=1M seek=128 count=1 conv=fsync
check "zero out" blkdiscard -z -o 134217728 -l 1048576 $file
forget
say "bytes left" $(dd if=$file bs=1M skip=128 count=1 | tr -d '\\0' | wc -c)

# The controller is reset again and again under I/O, which Linux then sends once more.
fio --name=busy --filename=$ram --direct=1 --ioengine=libaio --iodepth=16 --bs=4k --numjobs=2 \\
	--offset_increment=16M --rw=randwrite --size=8M --verify=crc32c --do_verify=1 --verify_fatal=1 \\
	--loops=40 --time_based --runtime=4 >/tmp/busy 2>&1 &
busy=$!
resets=0
while kill -0 $busy 2>/dev/null; do
	echo 1 >/sys/class/nvme/nvme0/reset_controller && resets=$((resets + 1))
	usleep 100000
done
say resets $resets
check "busy over resets" wait $busy
live() { [ $(cat /sys/class/nvme/nvme0/state) = live ]; }
check "live after resets" eventually 5 live
verify "after resets" --filename=$file --offset=128M --bs=4k

grown() { [ $(blocks $file) = 1048576 ]; }
await grown
check "grown" eventually 10 grown

# Other namespaces are busy while one comes and goes.
busy() {
	until [ -e /tmp/enough ]; do
		fio --name=busy --filename=$ram --direct=1 --ioengine=libaio --iodepth=8 --bs=4k \\
			--rw=randwrite --size=2M --verify=crc32c --verify_fatal=1 || return 1
	done
}
busy >/tmp/busy &
busy=$!
await plugged
check "plugged" eventually 10 nvme_disks 9 1024
new=$(nvme_disk 9)
say "new size" $(blocks $new)
verify "new disk" --filename=$new --bs=4k
verify "new high disk" --filename=$(nvme_disk 1024) --bs=4k
write_on() { while dd if=/dev/zero of=$new bs=64k count=16 oflag=direct; do :; done; }
write_on >/tmp/write_on 2>&1 &
writer=$!
await unplugged
gone() { ! nvme_disks 9 && ! nvme_disks 1024; }
check "unplugged" eventually 10 gone
stopped() { ! kill -0 $writer 2>/dev/null; }
check "writer stopped" eventually 10 stopped
check "others are busy" kill -0 $busy
touch /tmp/enough
check "others are right" wait $busy
"""


@pytest.fixture(scope="module", params=["linux 6.1, trapped", "recent linux, mapped"])
def boot(request, room, sid):
    recent = request.param != "linux 6.1, trapped"
    kernel = request.getfixturevalue("sid_kernel") if recent else None
    folder = os.path.join(room, "recent" if recent else "old")
    os.mkdir(folder)
    disk = sparse(folder + "/disk.img", 512 * MIB - 8 * MIB)
    namespaces = {1: {"file": disk}, 2: {"ram": "64M"},
                  7: {"file": sparse(folder + "/large.img", 64 * MIB), "block-size": 4096}}
    with NvmeServer(folder, namespaces, cores=2, serial="ROSEBUD-1941",
                    doorbells="mapped" if recent else "trapped") as server:
        with Qemu(folder, server, JOB, machine=Q35, cpus=2, with_fio=True, sid=sid,
                  kernel=kernel) as guest:
            guest.question("written", 180)
            guest.results["allocated when written"] = allocated(disk)
            guest.answer("written")
            guest.question("discarded")
            guest.results["allocated when discarded"] = allocated(disk)
            guest.answer("discarded")
            guest.question("grown", 60)
            os.truncate(disk, 512 * MIB)
            server.reload()
            guest.answer("grown")
            guest.question("plugged")
            server.namespaces[1024] = {"ram": "32M"}
            server.namespaces[9] = {"file": sparse(folder + "/new.img", 32 * MIB)}
            server.reload()
            guest.answer("plugged")
            guest.question("unplugged", 60)
            del server.namespaces[9], server.namespaces[1024]
            server.reload()
            guest.answer("unplugged")
            return guest.finish(60)


def test_a_guest_finds_all_namespaces_with_their_properties(boot):
    boot.ok("namespaces")
    assert boot["serial"].strip() == "ROSEBUD-1941"
    assert boot["model"].strip() == "vhostd"
    assert int(boot["sectors"]) * 512 == 504 * MIB
    assert boot["block size"] == "4096"
    assert boot["cache"] == "write back"
    assert int(boot["can discard"]) > 0
    assert int(boot["can zero"]) > 0


def test_a_guest_of_two_processors_uses_two_queue_pairs(boot):
    assert boot["queues"] == "3"  # with the admin queue


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_partition_with_a_file_system_keeps_its_files(boot, kind):
    boot.ok("partition", "partitions", "make " + kind, "mount " + kind, kind + " again",
            "check " + kind)


@pytest.mark.parametrize("job", ["mixed sizes", "long transfers", "ram", "large blocks"])
def test_fio_reads_back_what_it_wrote(boot, job):
    boot.ok(job)


def test_discard_gives_the_image_s_blocks_back_and_they_read_as_zeroes(boot):
    boot.ok("discard", "zero out")
    freed = boot["allocated when written"] - boot["allocated when discarded"]
    assert freed >= 31 * MIB
    assert boot["bytes left"] == "0"


def test_a_controller_that_is_reset_under_io_goes_on_and_loses_nothing(boot):
    assert int(boot["resets"]) >= 5
    boot.ok("busy over resets", "live after resets", "after resets")


def test_a_guest_is_told_when_a_namespace_has_grown(boot):
    boot.ok("grown")


def test_a_namespace_that_is_plugged_in_is_found_and_works(boot):
    boot.ok("plugged", "new disk", "new high disk")
    assert int(boot["new size"]) * 512 == 32 * MIB


def test_a_namespace_that_is_taken_away_under_writes_goes_and_the_writer_gets_an_error(boot):
    boot.ok("unplugged", "writer stopped")


def test_namespaces_beside_those_that_come_and_go_stay_in_use(boot):
    boot.ok("others are busy", "others are right")
