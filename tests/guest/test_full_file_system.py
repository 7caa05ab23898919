"""The image's file system fills up: an I/O error in the guest, and nothing else."""

import os
import subprocess

import pytest

from guest import Qemu, Server

JOB = """
check "first" dd if=/dev/urandom of=/dev/vda bs=64k count=32 oflag=direct
dd if=/dev/vda bs=64k count=32 iflag=direct | sha256sum >/tmp/first
check "too much" dd if=/dev/zero of=/dev/vda bs=64k seek=64 count=512 oflag=direct
dd if=/dev/vda bs=64k count=32 iflag=direct | sha256sum >/tmp/then
check "first again" cmp /tmp/first /tmp/then
check "first rewritten" dd if=/dev/zero of=/dev/vda bs=64k count=32 oflag=direct
blkdiscard -o 4194304 -l 16777216 /dev/vda
check "after discard" dd if=/dev/zero of=/dev/vda bs=64k seek=64 count=32 oflag=direct
"""


def small_world(folder):
    """A command prefix: a mount namespace in which folder is a file system of 8 MiB."""
    namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    script = 'mount -t tmpfs -o size=8m small "$0" && truncate -s 64M "$0/disk.img" && exec "$@"'
    prefix = namespace + ["sh", "-c", script, folder]
    done = subprocess.run(prefix + ["true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        pytest.skip("no tmpfs of our own here: " + done.stdout.decode(errors="replace").strip())
    return prefix


@pytest.fixture(scope="module")
def boot(room):
    folder = room + "/small"
    os.mkdir(folder)
    # tmpfs has no direct I/O before Linux 6.6.
    with Server(room, folder + "/disk.img", wrapper=small_world(folder), direct="off") as server:
        with Qemu(room, server, JOB) as guest:
            results = guest.finish()
        results["server lives"] = server.alive()
    return results


def test_a_write_that_finds_no_room_fails_in_the_guest(boot):
    boot.ok("first")
    assert boot["too much"].startswith("failed")


def test_a_full_file_system_costs_neither_the_server_nor_what_was_there(boot):
    boot.ok("first again", "first rewritten")
    assert boot["server lives"]


def test_writes_work_again_when_a_discard_has_made_room(boot):
    boot.ok("after discard")
