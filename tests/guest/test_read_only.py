"""A read-only disk is readable, and nothing the guest does changes the image."""

import hashlib
import os

import pytest

from guest import MIB, Qemu, Server, sparse, tool

JOB = """
say ro $(cat /sys/block/vda/ro)
check "write" dd if=/dev/zero of=/dev/vda bs=4k count=1 oflag=direct
blockdev --setrw /dev/vda
check "write after setrw" dd if=/dev/zero of=/dev/vda bs=4k count=1 oflag=direct
check "mount" mount -o ro /dev/vda /mnt
say text "$(cat /mnt/hello)"
"""


def digest(path):
    with open(path, "rb") as content:
        return hashlib.sha256(content.read()).hexdigest()


@pytest.fixture(scope="module")
def boot(room):
    os.mkdir(room + "/files")
    with open(room + "/files/hello", "w") as stream:
        stream.write("from the host\n")
    disk = sparse(room + "/disk.img", 16 * MIB)
    tool("mkfs.ext4", "-q", "-d", room + "/files", disk)
    os.chmod(disk, 0o444)
    before = digest(disk)
    with Server(room, disk, read_only="on") as server, Qemu(room, server, JOB) as guest:
        results = guest.finish()
    results["unchanged"] = digest(disk) == before
    return results


def test_a_read_only_disk_is_mounted_and_read(boot):
    assert boot["ro"] == "1"
    boot.ok("mount")
    assert boot["text"] == "from the host"


def test_writes_to_a_read_only_disk_are_refused_and_the_image_is_unchanged(boot):
    assert boot["write"].startswith("failed")
    assert boot["write after setrw"].startswith("failed")
    assert boot["unchanged"]
