"""Long work of the real binary: copy, format and allocation; how far they are, cancelled, failing in the middle, with
the process killed in the middle, and what a guest notices of them."""

import json
import os
import struct
import subprocess
import threading
import time

import pytest

from conftest import VHOSTD, connects, wait_for
from nvmevfu import Controller
from rpcclient import Rpc, RpcError

BENCH = os.path.join(os.path.dirname(VHOSTD), "vhostd-bench")
MIB = 1 << 20
STAMP = 0x9e3779b97f4a7c15
NQN = "nqn.2026-01.io.example:n"
needs_bench = pytest.mark.skipif(not os.path.exists(BENCH), reason="no vhostd-bench")


class Jobs:
    """A daemon, a client of it, and its folder."""

    def __init__(self, serve, room):
        self.serve, self.room = serve, room
        self.begin()

    def begin(self, *args):
        self.daemon = self.serve("--rpc-socket", f"{self.room}/rpc", "--socket-dir", self.room, "--cores", "2", *args)
        self.daemon.wait_listening(f"{self.room}/rpc")
        self.rpc = Rpc(f"{self.room}/rpc")

    def kill(self):
        """kill -9, and until the kernel, too, has done with its sockets."""
        self.daemon.kill()
        wait_for("the end of its socket", lambda: not connects(f"{self.room}/rpc"))

    def __call__(self, method, **params):
        return self.rpc.call(method, **params)

    def refused(self, method, **params):
        with pytest.raises(RpcError) as e:
            self.rpc.call(method, **params)
        return e.value.message

    def path(self, name):
        return os.path.join(self.room, name)

    def file(self, name, size):
        """A sparse file as a bdev of that name."""
        if not os.path.exists(self.path(name)):
            with open(self.path(name), "wb") as f:
                f.truncate(size)
        self("bdev_aio_create", name=name, filename=self.path(name), block_size=512)

    def malloc(self, name, size, block=512):
        self("bdev_malloc_create", name=name, num_blocks=size // block, block_size=block)

    def slow(self, base, ms=50):
        """A bdev on base whose reads and writes take so long."""
        self("bdev_delay_create", name=f"slow-{base}", base_bdev_name=base, avg_read_latency=ms * 1000,
             p99_read_latency=ms * 1000, avg_write_latency=ms * 1000, p99_write_latency=ms * 1000)
        return f"slow-{base}"

    def one(self, name):
        return self("bdev_get_bdevs", name=name)[0]

    def job(self, job_id):
        return self("job_get_jobs", id=job_id)[0]

    def end(self, job, state="done"):
        """Waits for its end."""
        job = self("job_wait", id=job["id"])
        assert job["state"] == state, job
        return job

    def moving(self, job):
        """Until it has done something."""
        wait_for("some of it", lambda: self.job(job["id"])["done_bytes"] > 0)
        job = self.job(job["id"])
        assert job["state"] == "running" and job["done_bytes"] < job["total_bytes"], job
        return job

    def disk(self, bdev, name="disk"):
        self("vhost_create_blk_controller", ctrlr=name, dev_name=bdev)
        return self.path(name)

    def contents(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()


@pytest.fixture
def jobs(room, start):
    return Jobs(start, room)


def stamped(first, count):
    """Sectors as `vhostd-bench --verify` writes them."""
    return b"".join(struct.pack("<Q", (first + i) ^ STAMP) + bytes(504) for i in range(count))


def blocks(path):
    return os.stat(path).st_blocks * 512


def fill(path, size, parts):
    """A file with data in some places only: {offset: bytes}."""
    with open(path, "wb") as f:
        f.truncate(size)
        for at, data in parts.items():
            f.seek(at)
            f.write(data)


def load(path, *args, seconds=30):
    wait_for("the disk", lambda: connects(path))
    return subprocess.Popen([BENCH, "--socket", path, "--load", "--seconds", str(seconds), "--json", *args],
                            stdout=subprocess.PIPE)


def loaded(process):
    out, _ = process.communicate(timeout=120)
    return json.loads(out)["server"]


# ---- copy ----

def test_a_copy_has_the_data_and_the_holes(jobs):
    fill(jobs.path("a"), 64 * MIB, {0: os.urandom(3 * MIB), 20 * MIB: bytes(4 * MIB), 40 * MIB: os.urandom(70000),
                                    64 * MIB - 512: os.urandom(512)})
    with open(jobs.path("b"), "wb") as f:
        f.write(b"old" * (70 * MIB // 3 + 1))
    os.truncate(jobs.path("b"), 70 * MIB)
    jobs.file("a", 0)
    jobs.file("b", 0)
    job = jobs("bdev_copy", src="a", dst="b")
    assert job == {**job, "kind": "copy", "name": "b", "source": "a", "state": "running", "total_bytes": 64 * MIB,
                   "cancellable": True}
    job = jobs.end(job)
    assert job["done_bytes"] == 64 * MIB and not job["cancellable"] and "error" not in job
    a, b = jobs.contents("a"), jobs.contents("b")
    assert a == b[:64 * MIB] and b[64 * MIB:] == (b"old" * (70 * MIB // 3 + 1))[64 * MIB:70 * MIB]
    assert blocks(jobs.path("b")) < 12 * MIB
    assert "incomplete" not in jobs.one("b")
    assert jobs("job_get_jobs") == [job] and jobs("job_get_jobs", name="a") == [job]
    assert jobs("job_get_jobs", name="c") == []
    told = [(e["type"], e["ctx"]) for e in jobs("notify_get_notifications") if e["type"].startswith("job")]
    assert told == [("job_begin", "1 copy running b"), ("job_end", "1 copy done b")]
    disk = jobs.disk("b")
    assert connects(disk)


@pytest.mark.parametrize("src, dst", [(512, 4096), (4096, 512), (512, 512)])
def test_memory_of_other_block_sizes_is_copied_both_ways(jobs, src, dst):
    fill(jobs.path("a"), 9 * MIB, {MIB: os.urandom(MIB), 5 * MIB + 12288: os.urandom(MIB)})
    jobs.file("a", 0)
    jobs.malloc("m", 9 * MIB, src)
    jobs.malloc("n", 9 * MIB, dst)
    jobs.file("z", 9 * MIB)
    for a, b in (("a", "m"), ("m", "n"), ("n", "z")):
        jobs.end(jobs("bdev_copy", src=a, dst=b))
    assert jobs.contents("a") == jobs.contents("z")


@pytest.mark.parametrize("src, dst, said", [
    ("none", "b", '"none"'), ("a", "none", '"none"'), ("a", "a", "another bdev"),
    ("a", "small", "small has 1048576 bytes, expected at least a's, 8388608"), ("a", "ro", "ro is read-only"),
    ("odd", "b4k", "not a multiple of b4k's block size, 4096"), ("a", "used", '"used" is used (by 1 devices'),
    ("a", "base", '"base" is used (by 0 devices or copies, by bdevs on it)'), ("base", "b", 'claimed by another bdev'),
    ("pi", "b", "protection information"),
])
def test_what_cannot_be_copied_is_refused_by_name(jobs, src, dst, said):
    for name in ("a", "b", "used", "base"):
        jobs.malloc(name, 8 * MIB)
    jobs.malloc("small", MIB)
    jobs.malloc("b4k", 8 * MIB, 4096)
    jobs.malloc("odd", 4 * MIB + 512)
    jobs("bdev_malloc_create", name="pi", num_blocks=2048, block_size=512, md_size=8, dif_type=1)
    with open(jobs.path("ro"), "wb") as f:
        f.truncate(8 * MIB)
    jobs("bdev_aio_create", name="ro", filename=jobs.path("ro"), readonly=True)
    jobs("bdev_passthru_create", name="P", base_bdev_name="base")
    jobs.disk("used")
    assert said in jobs.refused("bdev_copy", src=src, dst=dst)
    assert jobs("job_get_jobs") == []
    assert all("incomplete" not in b for b in jobs("bdev_get_bdevs"))


def test_a_bdev_that_is_copied_to_is_nobody_elses(jobs):
    for name in "abc":
        jobs.malloc(name, 32 * MIB)
    slow = jobs.slow("a")
    fill_all(jobs, "c", slow)
    job = jobs.moving(jobs("bdev_copy", src=slow, dst="b"))
    told = jobs.one("b")
    assert told["incomplete"] == "copy of " + slow and told["claimed"]
    assert jobs("bdev_get_iostat", per_channel=True, names=["b"])["channels"]
    for method, params in (("bdev_copy", {"src": "c", "dst": "b"}), ("bdev_copy", {"src": "b", "dst": "c"}),
                           ("bdev_format", {"name": "b"}), ("bdev_set_incomplete", {"name": "b"}),
                           ("bdev_swap", {"name": "c", "new_bdev": "b"}), ("bdev_swap", {"name": "b", "new_bdev": "c"}),
                           ("bdev_passthru_create", {"name": "P", "base_bdev_name": "b"}),
                           ("bdev_split_create", {"base_bdev": "b", "split_count": 2}),
                           ("vhost_create_blk_controller", {"ctrlr": "x", "dev_name": "b"}),
                           ("vhost_create_blk_controller", {"ctrlr": "x", "dev_name": "b", "readonly": True})):
        assert "a copy to it is under way" in jobs.refused(method, **params), method
    jobs("bdev_set_qos_limit", name="b", rw_mbytes_per_sec=1000)
    jobs("job_cancel", id=job["id"])
    jobs.end(job, "cancelled")


def fill_all(jobs, helper, name):
    """Gives the malloc bdev under name data, through one that is a file."""
    size = jobs.one(name)["num_blocks"] * 512
    if not os.path.exists(jobs.path("data-" + helper)):
        with open(jobs.path("data-" + helper), "wb") as f:
            f.write(os.urandom(size))
    jobs("bdev_aio_create", name="data-" + helper, filename=jobs.path("data-" + helper), readonly=True, block_size=512)
    jobs.end(jobs("bdev_copy", src="data-" + helper, dst=name))
    jobs("bdev_aio_delete", name="data-" + helper)


def test_a_copy_that_was_cancelled_is_presented_to_nobody_until_it_is_made_again(jobs):
    jobs.malloc("a", 32 * MIB)
    jobs.file("b", 32 * MIB)
    slow = jobs.slow("a")
    fill_all(jobs, "c", slow)
    job = jobs.moving(jobs("bdev_copy", src=slow, dst="b"))
    assert jobs("job_cancel", id=job["id"]) is True
    job = jobs.end(job, "cancelled")
    assert job["done_bytes"] < 32 * MIB
    assert "has ended" in jobs.refused("job_cancel", id=job["id"])
    for params in ({}, {"readonly": True}):
        said = jobs.refused("vhost_create_blk_controller", ctrlr="x", dev_name="b", **params)
        assert '"b" is not whole: a copy of slow-a did not come to its end' in said
    assert "not whole" in jobs.refused("bdev_copy", src="b", dst="a")
    jobs("bdev_delay_delete", name=slow)
    jobs.end(jobs("bdev_copy", src="a", dst="b"))
    assert jobs.contents("b") == jobs.contents("data-c")
    jobs.disk("b")


def test_an_operator_may_take_it_as_it_is(jobs):
    jobs.malloc("a", MIB)
    jobs("bdev_set_incomplete", name="a", incomplete=True, reason="copy of something")
    assert "a copy of something did not" in jobs.refused("vhost_create_blk_controller", ctrlr="x", dev_name="a")
    calls = [c for c in jobs("framework_get_config", name="bdev") if c["method"] == "bdev_set_incomplete"]
    assert calls == [{"method": "bdev_set_incomplete", "params": {"name": "a", "incomplete": True,
                                                                 "reason": "copy of something"}}]
    jobs("bdev_set_incomplete", name="a")
    jobs.disk("a")
    assert "is used" in jobs.refused("bdev_set_incomplete", name="a", incomplete=True)


def blk_device(jobs, bdev):
    """Its name, its socket, and the bench's words."""
    return "disk", jobs.disk(bdev), []


def scsi_device(jobs, bdev):
    jobs("vhost_create_scsi_controller", ctrlr="s")
    jobs("vhost_scsi_controller_add_target", ctrlr="s", scsi_target_num=0, bdev_name=bdev)
    return "s", jobs.path("s"), ["--scsi"]


def nvme_device(jobs, bdev):
    os.mkdir(jobs.path("n"))
    jobs("nvmf_create_transport", trtype="VFIOUSER")
    jobs("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
    jobs("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": bdev})
    jobs("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "VFIOUSER", "traddr": jobs.path("n")})
    name, = [d["name"] for d in jobs("device_get_devices") if d["socket"]]
    return name, jobs.path("n/cntrl"), ["--nvme"]


@needs_bench
@pytest.mark.parametrize("device", [blk_device, scsi_device, nvme_device])
def test_a_live_disk_moves_to_a_copy_of_its_data(jobs, device):
    size = 64 * MIB
    fill(jobs.path("a"), size, {0: stamped(0, 16 * MIB // 512)})
    jobs.file("a", 0)
    jobs.file("b", size)
    name, path, words = device(jobs, "a")
    guest = load(path, *words, "--verify", "--rw", "randrw", "--span", str(16 * MIB), "--qd", "4", seconds=6)
    wait_for("requests", lambda: jobs("bdev_get_iostat", names=["a"])["bdevs"][0]["num_write_ops"] > 100)
    said = jobs.refused("bdev_copy", src="a", dst="b")
    assert "may write to \"a\"; device_drain it first" in said
    jobs("device_drain", name=name)
    jobs.end(jobs("bdev_copy", src="a", dst="b"))
    assert jobs.contents("a") == jobs.contents("b")
    jobs("bdev_swap", name="a", new_bdev="b")
    os.truncate(jobs.path("a"), 0)
    jobs("device_resume", name=name)
    end = loaded(guest)
    assert end["errors"] == 0 and end["mismatches"] == 0 and end["ios"] > 1000
    assert [b["name"] for b in jobs("bdev_get_bdevs")] == ["a"]
    b = jobs.contents("b")
    assert all(b[at:at + 8] == stamped(at // 512, 1)[:8] for at in range(0, 16 * MIB, 512))


@needs_bench
def test_a_disk_that_guests_only_read_is_copied_while_they_do(jobs):
    jobs.malloc("a", 16 * MIB)
    fill_all(jobs, "c", "a")
    jobs.file("b", 16 * MIB)
    jobs("vhost_create_blk_controller", ctrlr="disk", dev_name="a", readonly=True)
    guest = load(jobs.path("disk"), "--rw", "randread", "--qd", "4", seconds=3)
    wait_for("requests", lambda: jobs("bdev_get_iostat", names=["a"])["bdevs"][0]["num_read_ops"] > 100)
    jobs.end(jobs("bdev_copy", src="a", dst="b"))
    assert jobs.contents("b") == jobs.contents("data-c")
    assert loaded(guest)["errors"] == 0


@needs_bench
def test_a_source_that_is_written_to_meanwhile_makes_the_copy_fail(jobs):
    jobs.malloc("a", 16 * MIB)
    jobs.malloc("b", 16 * MIB)
    slow = jobs.slow("b")
    fill_all(jobs, "c", "a")
    guest = load(jobs.disk("a"), "--rw", "randwrite", "--qd", "1", seconds=4)
    wait_for("requests", lambda: jobs("bdev_get_iostat", names=["a"])["bdevs"][0]["num_write_ops"] > 10)
    jobs("device_drain", name="disk")
    job = jobs.moving(jobs("bdev_copy", src="a", dst=slow))
    assert "a copy from" in jobs.refused("bdev_swap", name="a", filename=jobs.path("data-c"))
    jobs("device_resume", name="disk")
    job = jobs.end(job, "failed")
    assert 'src: "a" was written to meanwhile' in job["error"] and "drain it and copy it again" in job["error"]
    assert "incomplete" in jobs.one(slow)
    assert loaded(guest)["errors"] == 0


@pytest.mark.parametrize("side", ["src", "dst"])
@pytest.mark.parametrize("base_too", [False, True])
def test_a_bdev_that_is_deleted_under_a_copy_makes_it_fail_by_name(jobs, side, base_too):
    jobs.malloc("a", 32 * MIB)
    jobs.malloc("b", 32 * MIB)
    slow_a, slow_b = jobs.slow("a"), jobs.slow("b")
    fill_all(jobs, "c", slow_a)
    job = jobs.moving(jobs("bdev_copy", src=slow_a, dst=slow_b))
    name = slow_a if side == "src" else slow_b
    if base_too:
        assert jobs("bdev_malloc_delete", name=name[-1]) is True
    else:
        assert jobs("bdev_delay_delete", name=name) is True
    job = jobs.end(job, "failed")
    assert f'{side}: "{name}": ' in job["error"] and "it was deleted meanwhile" in job["error"]
    if side == "src":
        assert "incomplete" in jobs.one(slow_b)


# ---- a failing back-end ----

@pytest.mark.parametrize("side, io_type, what", [("src", "read", "read at byte"), ("dst", "write", "write at byte"),
                                                 ("dst", "flush", "flush at byte")])
def test_an_error_in_the_middle_is_told_with_its_place(jobs, side, io_type, what):
    jobs.malloc("a", 16 * MIB)
    jobs.malloc("b", 16 * MIB)
    fill_all(jobs, "c", "a")
    jobs("bdev_error_create", base_name="a" if side == "src" else "b")
    src, dst = ("EE_a", "b") if side == "src" else ("a", "EE_b")
    jobs("bdev_error_inject_error", name="EE_" + "ab"[side == "dst"], io_type=io_type, error_type="failure", num=1)
    job = jobs.end(jobs("bdev_copy", src=src, dst=dst), "failed")
    assert f'{side}: "{src if side == "src" else dst}": {what}' in job["error"] and "I/O error" in job["error"]
    assert "incomplete" in jobs.one(dst)
    jobs.end(jobs("bdev_copy", src=src, dst=dst))
    assert "incomplete" not in jobs.one(dst)


def test_a_back_end_that_hangs_can_be_cancelled_and_deleted(jobs):
    jobs.malloc("a", 16 * MIB)
    jobs.malloc("b", 16 * MIB)
    fill_all(jobs, "c", "a")
    jobs("bdev_error_create", base_name="b")
    jobs("bdev_error_inject_error", name="EE_b", io_type="write", error_type="pending", num=1)
    job = jobs("bdev_copy", src="a", dst="EE_b")
    began = time.monotonic()
    assert jobs("job_wait", id=job["id"], timeout_ms=300)["state"] == "running"
    assert 0.3 <= time.monotonic() - began < 5
    jobs("job_cancel", id=job["id"])
    jobs.end(job, "cancelled")
    jobs("bdev_error_inject_error", name="EE_b", io_type="write", error_type="pending", num=1)
    job = jobs("bdev_copy", src="a", dst="EE_b")
    jobs("bdev_malloc_delete", name="b")
    assert jobs.end(job, "failed")["error"].count("EE_b") == 1


# ---- format ----

def test_a_formatted_bdev_reads_as_zeroes_and_takes_no_space(jobs):
    with open(jobs.path("a"), "wb") as f:
        f.write(os.urandom(40 * MIB))
    jobs.file("a", 0)
    job = jobs("bdev_format", name="a")
    assert job == {**job, "kind": "format", "name": "a", "total_bytes": 40 * MIB} and "source" not in job
    jobs.end(job)
    assert jobs.contents("a") == bytes(40 * MIB) and blocks(jobs.path("a")) < MIB
    assert "incomplete" not in jobs.one("a")
    jobs.disk("a")
    assert "is used" in jobs.refused("bdev_format", name="a")
    with open(jobs.path("ro"), "wb") as f:
        f.truncate(MIB)
    jobs("bdev_aio_create", name="ro", filename=jobs.path("ro"), readonly=True)
    assert "read-only" in jobs.refused("bdev_format", name="ro")


def test_a_format_that_failed_leaves_an_incomplete_bdev(jobs):
    jobs.malloc("a", 40 * MIB)
    jobs("bdev_error_create", base_name="a")
    jobs("bdev_error_inject_error", name="EE_a", io_type="all", error_type="failure", num=1)
    job = jobs.end(jobs("bdev_format", name="EE_a"), "failed")
    assert 'name: "EE_a": write-zeroes at byte' in job["error"]
    assert jobs.one("EE_a")["incomplete"] == "format"
    jobs("bdev_error_inject_error", name="EE_a", io_type="clear", error_type="failure")
    jobs.end(jobs("bdev_format", name="EE_a"))


# ---- the process ends in the middle ----

@pytest.fixture
def kept(room, start):
    """With --state."""
    def serve(*args):
        return start(*args, "--state", f"{room}/state")
    return Jobs(serve, room)


def on_disk(room):
    with open(f"{room}/state", encoding="utf-8") as f:
        return [c for s in json.load(f)["subsystems"] for c in s["config"]]


def test_kill_9_leaves_no_half_copy_that_looks_whole(kept, room):
    with open(kept.path("a"), "wb") as f:
        f.write(os.urandom(64 * MIB))
    kept.file("a", 0)
    kept.file("b", 64 * MIB)
    kept("bdev_set_qos_limit", name="a", r_mbytes_per_sec=20)
    kept.moving(kept("bdev_copy", src="a", dst="b"))
    kept.kill()
    assert kept.contents("b") != kept.contents("a")
    assert "bdev_set_incomplete" in [c["method"] for c in on_disk(room)]
    kept.begin()
    assert kept.one("b")["incomplete"] == "copy of a" and kept("job_get_jobs") == []
    assert "not whole" in kept.refused("vhost_create_blk_controller", ctrlr="x", dev_name="b")
    kept("bdev_set_qos_limit", name="a", r_mbytes_per_sec=0)
    kept.end(kept("bdev_copy", src="a", dst="b"))
    kept.kill()
    assert "bdev_set_incomplete" not in [c["method"] for c in on_disk(room)]
    kept.begin()
    kept.disk("b")
    assert kept.contents("b") == kept.contents("a")


@pytest.mark.parametrize("moment", range(6))
def test_kill_9_at_any_moment_of_a_short_copy(kept, room, moment):
    data = os.urandom(16 * MIB)
    with open(kept.path("a"), "wb") as f:
        f.write(data)
    kept.file("a", 0)
    kept.file("b", 16 * MIB)
    kept.rpc.send({"jsonrpc": "2.0", "id": 1, "method": "bdev_copy", "params": {"src": "a", "dst": "b"}})
    time.sleep(moment * 0.01)
    kept.kill()
    kept.begin()
    written = kept.contents("b")
    if "incomplete" not in kept.one("b"):
        assert written in (data, bytes(16 * MIB))


def test_kill_9_leaves_no_half_format_that_looks_whole(kept, room):
    with open(kept.path("a"), "wb") as f:
        f.write(os.urandom(40 * MIB))
    kept.file("a", 0)
    kept("bdev_error_create", base_name="a")
    kept("bdev_error_inject_error", name="EE_a", io_type="all", error_type="pending", num=1)
    kept("bdev_format", name="EE_a")
    wait_for("some of it", lambda: kept("job_get_jobs")[0]["done_bytes"] > 0)
    kept.kill()
    kept.begin()
    assert kept.one("EE_a")["incomplete"] == "format"
    assert "a format did not come to its end" in kept.refused("vhost_create_blk_controller", ctrlr="x", dev_name="EE_a")
    kept.end(kept("bdev_format", name="EE_a"))
    kept.kill()
    kept.begin()
    assert "incomplete" not in kept.one("EE_a") and kept.contents("a") == bytes(40 * MIB)


@pytest.mark.parametrize("moment", range(4))
def test_kill_9_leaves_a_file_of_one_size_or_the_other(kept, moment):
    kept.file("a", 8 * MIB)
    kept.rpc.send({"jsonrpc": "2.0", "id": 1, "method": "bdev_resize",
                   "params": {"name": "a", "new_size": "4G", "allocate": True}})
    time.sleep(moment * 0.003)
    kept.kill()
    size = os.path.getsize(kept.path("a"))
    assert size == 8 * MIB or (size == 4096 * MIB and blocks(kept.path("a")) >= 4088 * MIB)
    kept.begin()
    assert kept.one("a")["num_blocks"] * 512 == size


def test_a_state_that_cannot_be_written_lets_nothing_begin(room, start):
    env = {**os.environ, "VHOSTD_FAULT": "state-fsync:3"}  # the third change is the mark
    kept = Jobs(lambda *args: start(*args, "--state", f"{room}/state", env=env), room)
    fill(kept.path("a"), 8 * MIB, {0: b"data"})
    kept.file("a", 0)
    kept.file("b", 8 * MIB)
    assert "nothing was begun" in kept.refused("bdev_copy", src="a", dst="b")
    assert kept.contents("b") == bytes(8 * MIB) and "incomplete" not in kept.one("b")
    assert kept("job_get_jobs")[0]["state"] == "failed"
    kept.end(kept("bdev_copy", src="a", dst="b"))
    assert "bdev_set_incomplete" not in [c["method"] for c in on_disk(room)]


def test_a_copy_whose_end_cannot_be_saved_says_so(room, start):
    env = {**os.environ, "VHOSTD_FAULT": "state-fsync:4"}
    kept = Jobs(lambda *args: start(*args, "--state", f"{room}/state", env=env), room)
    kept.file("a", 8 * MIB)
    kept.file("b", 8 * MIB)
    job = kept.end(kept("bdev_copy", src="a", dst="b"), "failed")
    assert "all was written, but the state could not be" in job["error"]


def test_sigterm_ends_a_copy_and_the_process(kept, room):
    with open(kept.path("a"), "wb") as f:
        f.write(os.urandom(64 * MIB))
    kept.file("a", 0)
    kept.file("b", 64 * MIB)
    kept("bdev_set_qos_limit", name="a", r_mbytes_per_sec=20)
    job = kept.moving(kept("bdev_copy", src="a", dst="b"))
    kept.rpc.send({"jsonrpc": "2.0", "id": 1, "method": "job_wait", "params": {"id": job["id"]}})
    assert kept.daemon.end() == 0
    assert "bdev_set_incomplete" in [c["method"] for c in on_disk(room)]


def test_sigterm_ends_what_hangs(jobs):
    jobs.malloc("a", 16 * MIB)
    jobs.malloc("b", 16 * MIB)
    fill_all(jobs, "c", "a")
    jobs("bdev_error_create", base_name="b")
    jobs("bdev_error_inject_error", name="EE_b", io_type="all", error_type="pending", num=100)
    jobs("bdev_copy", src="a", dst="EE_b")
    assert jobs.daemon.end() == 0


# ---- another size ----

def test_space_is_allocated_before_the_guest_hears_of_a_size(jobs):
    jobs.file("a", 8 * MIB)
    jobs.disk("a")
    job = jobs("bdev_resize", name="a", new_size=200 * MIB, allocate=True)
    assert job == {**job, "kind": "allocate", "name": "a", "total_bytes": 192 * MIB}
    jobs.end(job)
    assert os.path.getsize(jobs.path("a")) == 200 * MIB and 192 * MIB <= blocks(jobs.path("a")) < 200 * MIB
    assert jobs.one("a")["num_blocks"] == 200 * MIB // 512
    assert jobs("device_get_devices", name="disk")[0]["disks"][0]["size_bytes"] == 200 * MIB
    jobs.end(jobs("bdev_resize", name="a", new_size=200 * MIB, allocate=True))
    said = jobs.refused("bdev_resize", name="a", new_size=100 * MIB)
    assert "expected at least its present size, 209715200 bytes, got 104857600" in said and "force" in said
    assert "present size" in jobs.refused("bdev_resize", name="a", new_size=100 * MIB, allocate=True)
    assert "multiple of the block size 512" in jobs.refused("bdev_resize", name="a", new_size=300 * MIB + 1, allocate=True)
    assert jobs("bdev_resize", name="a", new_size=100 * MIB, force=True) is True
    assert os.path.getsize(jobs.path("a")) == 100 * MIB
    assert jobs("device_get_devices", name="disk")[0]["disks"][0]["size_bytes"] == 100 * MIB


def test_what_has_no_file_cannot_be_allocated(jobs):
    jobs("bdev_null_create", name="n", block_size=512, num_blocks=2048)
    job = jobs.end(jobs("bdev_resize", name="n", new_size="2M", allocate=True), "failed")
    assert "no regular file" in job["error"] and jobs.one("n")["num_blocks"] == 2048
    jobs.malloc("m", MIB)
    assert "cannot be changed" in jobs.refused("bdev_resize", name="m", new_size="2M", allocate=True)


@pytest.fixture
def small(room):
    """A file system of 64 MiB."""
    path = f"{room}/small"
    os.mkdir(path)
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "small", path], check=False).returncode:
        pytest.skip("may not mount a tmpfs")
    yield path
    subprocess.run(["umount", "-l", path], check=False)


def test_without_space_the_file_is_as_it_was_and_no_guest_hears_of_a_size(jobs, small):
    with open(f"{small}/a", "wb") as f:
        f.write(b"data" * (MIB // 4))
    jobs("bdev_aio_create", name="a", filename=f"{small}/a", block_size=512)
    jobs.disk("a")
    job = jobs.end(jobs("bdev_resize", name="a", new_size="2G", allocate=True), "failed")
    assert '"a": no 2146435072 bytes more for it: No space left on device' in job["error"]
    assert "given back" in job["error"] and "stays 1048576 bytes" in job["error"]
    assert os.path.getsize(f"{small}/a") == MIB and blocks(f"{small}/a") == MIB
    assert jobs.one("a")["num_blocks"] == 2048
    assert "bdev_resize" not in [e["type"] for e in jobs("notify_get_notifications")]
    jobs.end(jobs("bdev_resize", name="a", new_size="32M", allocate=True))
    assert blocks(f"{small}/a") == 32 * MIB
    with open(f"{small}/a", "rb") as f:
        assert f.read(MIB) == b"data" * (MIB // 4)


def test_a_cancelled_allocation_gives_its_space_back(jobs):
    jobs.file("a", 8 * MIB)
    # In one text, so that the second comes while the first step is under way.
    answers = jobs.rpc.ask([{"jsonrpc": "2.0", "id": 1, "method": "bdev_resize",
                             "params": {"name": "a", "new_size": "4G", "allocate": True}},
                            {"jsonrpc": "2.0", "id": 2, "method": "bdev_resize", "params": {"name": "a", "new_size": "5G"}},
                            {"jsonrpc": "2.0", "id": 3, "method": "job_cancel", "params": {"id": 1}}])
    assert "space for \"a\" is being allocated" in answers[1]["error"]["message"] and answers[2]["result"] is True
    jobs.end(answers[0]["result"], "cancelled")
    assert os.path.getsize(jobs.path("a")) == 8 * MIB and blocks(jobs.path("a")) < MIB
    assert jobs.one("a")["num_blocks"] == 8 * MIB // 512


def test_a_disk_that_goes_while_space_is_allocated_makes_it_fail(jobs):
    jobs.file("a", 8 * MIB)
    answers = jobs.rpc.ask([{"jsonrpc": "2.0", "id": 1, "method": "bdev_resize",
                             "params": {"name": "a", "new_size": "4G", "allocate": True}},
                            {"jsonrpc": "2.0", "id": 2, "method": "bdev_aio_delete", "params": {"name": "a"}}])
    assert answers[1]["result"] is True
    assert '"a": it was deleted' in jobs.end(answers[0]["result"], "failed")["error"]
    assert os.path.getsize(jobs.path("a")) == 8 * MIB and blocks(jobs.path("a")) < MIB


def test_disks_of_the_command_line_are_resized_too(jobs, start, room, image):
    d = start("--rpc-socket", f"{room}/rpc2", "--device", f"blk,name=vm1,socket={room}/vm1,file={image('one', 8 * MIB)}",
              "--device", f"scsi,name=s,socket={room}/s,target=0:file={image('two', 8 * MIB)},"
              f"target=3:file={image('three', 8 * MIB)}")
    d.wait_listening(f"{room}/rpc2")
    jobs.rpc = Rpc(f"{room}/rpc2")
    jobs.end(jobs("device_resize", name="vm1", new_size="96M", allocate=True))
    assert os.path.getsize(jobs.path("one")) == 96 * MIB and blocks(jobs.path("one")) >= 88 * MIB
    assert jobs("device_resize", name="vm1", new_size="128M") is True
    assert "2 disks of 's'" in jobs.refused("device_resize", name="s", new_size="16M")
    assert "'7/0' is no disk" in jobs.refused("device_resize", name="s", new_size="16M", unit="7/0")
    assert "new_size: missing" in jobs.refused("device_resize", name="s", unit="3/0")
    assert "present size" in jobs.refused("device_resize", name="s", unit="3/0", new_size="1M")
    jobs.end(jobs("device_resize", name="s", unit="3/0", new_size="16M", allocate=True))
    sizes = {x["unit"]: x["size_bytes"] for x in jobs("device_get_devices", name="s")[0]["disks"]}
    assert sizes == {"0/0": 8 * MIB, "3/0": 16 * MIB}
    assert jobs("device_resize", name="s") is True


# ---- what is told ----

def test_jobs_are_found_waited_for_and_forgotten(jobs):
    jobs.malloc("a", MIB)
    jobs.malloc("b", MIB)
    assert "no job 7; job_get_jobs" in jobs.refused("job_wait", id=7)
    assert "no job 7" in jobs.refused("job_cancel", id=7) and "no job 7" in jobs.refused("job_get_jobs", id=7)
    for _ in range(70):
        job = jobs.end(jobs("bdev_copy", src="a", dst="b"))
    kept = jobs("job_get_jobs")
    assert [j["id"] for j in kept] == list(range(job["id"] - 63, job["id"] + 1))
    assert "no job 1;" in jobs.refused("job_wait", id=1)


def test_all_who_wait_are_answered_and_one_who_has_gone_does_no_harm(jobs, room):
    jobs.malloc("a", 16 * MIB)
    jobs.malloc("b", 16 * MIB)
    slow = jobs.slow("a")
    fill_all(jobs, "c", slow)
    job = jobs("bdev_copy", src=slow, dst="b")
    states = []

    def waits():
        with Rpc(f"{room}/rpc") as rpc:
            states.append(rpc.call("job_wait", id=job["id"])["state"])

    threads = [threading.Thread(target=waits) for _ in range(8)]
    for t in threads:
        t.start()
    with Rpc(f"{room}/rpc") as gone:
        gone.send({"jsonrpc": "2.0", "id": 1, "method": "job_wait", "params": {"id": job["id"]}})
    for t in threads:
        t.join()
    assert states == ["done"] * 8


def test_so_many_run_at_a_time(jobs):
    jobs.malloc("a", 2 * MIB)
    slow = jobs.slow("a", 200)
    fill_all(jobs, "c", slow)
    running = []
    for i in range(17):
        jobs.malloc(f"b{i}", 2 * MIB)
    for i in range(16):
        running.append(jobs("bdev_copy", src=slow, dst=f"b{i}"))
    assert "16 jobs run already" in jobs.refused("bdev_copy", src=slow, dst="b16")
    assert "incomplete" not in jobs.one("b16")
    for job in running:
        jobs.end(job)
    jobs.end(jobs("bdev_copy", src=slow, dst="b16"))


def test_what_a_guest_formats_is_listed_by_the_name_of_its_device(jobs):
    jobs.malloc("m", 64 * MIB)
    jobs("bdev_error_create", base_name="m")
    jobs("nvmf_create_transport", trtype="VFIOUSER")
    jobs("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
    jobs("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "EE_m", "nsid": 2})
    os.mkdir(jobs.path("n"))
    jobs("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "VFIOUSER", "traddr": jobs.path("n")})

    def resumed():
        jobs("bdev_error_resume_pending", name="EE_m")
        return not jobs("job_get_jobs")

    with Controller(jobs.path("n/cntrl")) as guest:
        guest.enable()
        jobs("bdev_error_inject_error", name="EE_m", io_type="all", error_type="pending", num=1)
        guest.submit(0x80, nsid=2, cdw10=1 << 9)  # Format NVM, user data erase
        wait_for("the format", lambda: jobs("job_get_jobs"))
        work, = jobs("job_get_jobs")
        assert work == {"id": None, "kind": "format", "name": NQN, "unit": "2", "state": "running", "done_bytes": 0,
                        "total_bytes": 64 * MIB, "elapsed_ms": None, "cancellable": False}
        wait_for("its end", resumed)
        jobs("bdev_error_inject_error", name="EE_m", io_type="all", error_type="pending", num=1)
        guest.submit(0x84, cdw10=2)  # Sanitize, block erase
        wait_for("the sanitize", lambda: jobs("job_get_jobs"))
        work, = jobs("job_get_jobs", name=NQN)
        assert work["kind"] == "sanitize" and work["unit"] == "" and work["total_bytes"] == 64 * MIB
        wait_for("its end", resumed)


# ---- guests come first ----

@needs_bench
def test_a_guest_beside_copies_is_served(jobs):
    """Figures are printed; the limits are wide, since the machine may be busy."""
    jobs("bdev_null_create", name="n", block_size=512, num_blocks=1 << 21)
    disk = jobs.disk("n")
    alone = loaded(load(disk, "--qd", "1", seconds=2))
    for name in "abcd":
        jobs.malloc(name, 64 * MIB)
        fill_all(jobs, "c", name)
    stop = threading.Event()
    copies = []

    def copy(src, dst):
        with Rpc(f"{jobs.room}/rpc") as rpc:
            while not stop.is_set():
                job = rpc.call("bdev_copy", src=src, dst=dst)
                copies.append(rpc.call("job_wait", id=job["id"])["state"])

    threads = [threading.Thread(target=copy, args=pair) for pair in ("ab", "cd")]
    for t in threads:
        t.start()
    beside = loaded(load(disk, "--qd", "1", seconds=3))
    began = time.monotonic()
    with Rpc(f"{jobs.room}/rpc") as rpc:
        for _ in range(100):
            rpc.call("vhost_get_controllers")
    asked = (time.monotonic() - began) / 100
    stop.set()
    for t in threads:
        t.join()
    for what, r in (("alone", alone), ("beside copies", beside)):
        print(f"{what}: {r['iops']:.0f} IOPS, p50 {r['p50_ns'] / 1000:.0f} us, p99 {r['p99_ns'] / 1000:.0f} us, "
              f"longest {r['max_ns'] / 1000:.0f} us")
    print(f"a call beside copies: {asked * 1000:.2f} ms; {len(copies)} copies of 64 MiB")
    assert set(copies) == {"done"} and beside["errors"] == 0
    assert beside["p50_ns"] < 20 * alone["p50_ns"] + 1000000 and beside["iops"] > alone["iops"] / 20
