"""bdev_* of the real binary: every kind, what is refused, and what happens to a disk that is in use."""

import base64
import json
import os
import shutil
import struct
import subprocess
import threading
import time

import pytest

from conftest import VHOSTD, connects, wait_for
from rpcclient import Rpc, RpcError

BENCH = os.path.join(os.path.dirname(VHOSTD), "vhostd-bench")
SFDISK = shutil.which("sfdisk") or shutil.which("sfdisk", path="/usr/sbin:/sbin")
MIB = 1 << 20
UUID = "11111111-2222-4333-8444-555555555555"
needs_bench = pytest.mark.skipif(not os.path.exists(BENCH), reason="no vhostd-bench")


class Bdevs:
    """A daemon, a client of it, and its folder of sockets."""

    def __init__(self, daemon, rpc, room):
        self.daemon, self.rpc, self.room = daemon, rpc, room

    def __call__(self, method, **params):
        return self.rpc.call(method, **params)

    def refused(self, method, **params):
        with pytest.raises(RpcError) as e:
            self.rpc.call(method, **params)
        return e.value.code, e.value.message

    def file(self, name, size=MIB):
        path = os.path.join(self.room, name)
        with open(path, "wb") as f:
            f.truncate(size)
        return path

    def malloc(self, name, size=MIB):
        return self("bdev_malloc_create", name=name, num_blocks=size // 512, block_size=512)

    def names(self):
        return [b["name"] for b in self("bdev_get_bdevs")]

    def one(self, name):
        return self("bdev_get_bdevs", name=name)[0]

    def config(self):
        return self("framework_get_config", name="bdev")

    def disk(self, bdev, name="disk"):
        self("vhost_create_blk_controller", ctrlr=name, dev_name=bdev)
        return os.path.join(self.room, name)


@pytest.fixture
def bdevs(room, start):
    path = os.path.join(room, "rpc")
    d = start("--rpc-socket", path, "--socket-dir", room, "--cores", "2", cwd=room)
    d.wait_listening(path)
    with Rpc(path) as rpc:
        yield Bdevs(d, rpc, room)


class Load:
    """vhostd-bench on a disk, for so many seconds."""

    def __init__(self, path, *args, seconds=30):
        wait_for("the disk", lambda: connects(path))
        self.process = subprocess.Popen(
            [BENCH, "--socket", path, "--queues", "2", "--qd", "8", "--rw", "randrw", "--span",
             str(MIB), "--seconds", str(seconds), "--json", *args], stdout=subprocess.PIPE)

    def end(self):
        out, _ = self.process.communicate(timeout=120)
        return json.loads(out)["server"]


def ops(bdevs, name):
    s = bdevs("bdev_get_iostat", names=[name])["bdevs"][0]
    return s["num_read_ops"] + s["num_write_ops"]


def wait_ops(bdevs, name, count=100):
    at = ops(bdevs, name)
    wait_for(f"{count} requests", lambda: ops(bdevs, name) >= at + count)


# ---- making and deleting ----

def test_each_kind_is_made_told_and_deleted(bdevs):
    bdevs.malloc("M")
    bdevs("bdev_null_create", name="N", num_blocks=2048, block_size=512, uuid=UUID)
    bdevs("bdev_aio_create", name="A", filename=bdevs.file("a"), block_size=512)
    bdevs("bdev_uring_create", name="U", filename=bdevs.file("u"))
    bdevs("bdev_passthru_create", name="P", base_bdev_name="M")
    bdevs("bdev_delay_create", name="D", base_bdev_name="P", avg_read_latency=1,
          p99_read_latency=2, avg_write_latency=3, p99_write_latency=4)
    assert bdevs("bdev_error_create", base_name="D") is True
    assert bdevs("bdev_split_create", base_bdev="A", split_count=2) == ["Ap0", "Ap1"]
    told = {b["name"]: b for b in bdevs("bdev_get_bdevs")}
    assert list(told) == ["M", "N", "A", "U", "P", "D", "EE_D", "Ap0", "Ap1"]
    assert told["N"]["uuid"] == UUID and told["N"]["aliases"] == [UUID]
    assert bdevs.one(UUID) == told["N"]
    specific = {n: b["driver_specific"] for n, b in told.items()}
    assert specific["A"]["aio"]["filename"].endswith("/a")
    assert specific["A"]["aio"]["block_size_override"] is True
    assert specific["P"] == {"passthru": {"name": "P", "base_bdev_name": "M"}}
    assert specific["D"]["delay"]["p99_write_latency"] == 4
    assert specific["Ap1"] == {"split": {"base_bdev": "A", "offset_blocks": 1024}}
    assert {n for n, b in told.items() if b["claimed"]} == {"M", "P", "D", "A"}
    assert bdevs("bdev_split_delete", base_bdev="A") is True
    bdevs("bdev_error_delete", name="EE_D")
    bdevs("bdev_delay_delete", name="D")
    bdevs("bdev_passthru_delete", name="P")
    for kind, name in (("malloc", "M"), ("null", "N"), ("aio", "A"), ("uring", "U")):
        assert bdevs(f"bdev_{kind}_delete", name=name) is True
    assert bdevs.names() == []
    events = [(e["type"], e["ctx"]) for e in bdevs("notify_get_notifications")]
    assert events.count(("bdev_register", "Ap1")) == events.count(("bdev_unregister", "Ap1")) == 1


def test_a_bdev_goes_with_all_that_is_on_it(bdevs):
    bdevs.malloc("M")
    bdevs("bdev_passthru_create", name="P", base_bdev_name="M")
    bdevs("bdev_split_create", base_bdev="P", split_count=2)
    bdevs("bdev_error_create", base_name="Pp0")
    assert bdevs("bdev_malloc_delete", name="M") is True
    assert bdevs.names() == []


@pytest.mark.parametrize("method, params, code, words", [
    ("bdev_malloc_create", {"num_blocks": 0, "block_size": 512}, -22, ["num_blocks", "got 0"]),
    ("bdev_malloc_create", {"num_blocks": 1, "block_size": 513}, -22, ["block_size", "513"]),
    ("bdev_malloc_create", {"num_blocks": 2**63, "block_size": 512}, -22, ["num_blocks"]),
    ("bdev_malloc_create", {"num_blocks": 8, "block_size": 512, "name": "M"}, -17, ['"M" exists']),
    ("bdev_malloc_create", {"num_blocks": 8, "block_size": 512, "name": ""}, -22, ["name"]),
    ("bdev_malloc_create", {"num_blocks": 8, "block_size": 512, "uuid": "1"}, -22, ["uuid", "'1'"]),
    ("bdev_malloc_create", {"num_blocks": 8, "block_size": 512, "md_size": 8}, -22, ["dif_type"]),
    ("bdev_malloc_create", {"num_blocks": 8, "block_size": 512, "dif_type": 2}, -22, ["dif_type"]),
    ("bdev_malloc_create", {"num_blocks": 8, "block_size": 4096, "physical_block_size": 512}, -22,
     ["physical_block_size", "512"]),
    ("bdev_malloc_delete", {"name": "Z"}, -19, ['"Z"']),
    ("bdev_null_delete", {"name": "M"}, -19, ["another kind", "bdev_malloc_delete"]),
    ("bdev_null_create", {"num_blocks": 8, "block_size": 512}, -32603, ["name"]),
    ("bdev_null_resize", {"name": "N", "new_size": 1}, -22, ["present size"]),
    ("bdev_aio_create", {"name": "B", "filename": "/no/such"}, -2, ["/no/such"]),
    ("bdev_aio_create", {"name": "B", "filename": "small"}, -22, ["small", "100"]),
    ("bdev_aio_create", {"name": "B", "filename": "locked"}, -16, ["locked by PID"]),
    ("bdev_aio_create", {"name": "B", "filename": "."}, -15, ["neither"]),
    ("bdev_aio_create", {"name": "B", "filename": ""}, -22, ["filename"]),
    ("bdev_aio_rescan", {"name": "M"}, -19, ["another kind"]),
    ("bdev_uring_rescan", {"name": "Z"}, -19, ['"Z"']),
    ("bdev_resize", {"name": "M", "new_size": "1G"}, -95, ["cannot be changed"]),
    ("bdev_resize", {"name": "L", "new_size": 2 * MIB + 1}, -22, ["multiple"]),
    ("bdev_passthru_create", {"name": "Q", "base_bdev_name": "C"}, -1, ["claimed"]),
    ("bdev_passthru_create", {"name": "Q", "base_bdev_name": "Z"}, -19, ['"Z"']),
    ("bdev_delay_create", {"name": "Q", "base_bdev_name": "M", "avg_read_latency": 5,
                           "p99_read_latency": 1, "avg_write_latency": 1, "p99_write_latency": 1},
     -22, ["p99_read_latency", "got 1"]),
    ("bdev_delay_update_latency", {"delay_bdev_name": "M", "latency_type": "avg_read",
                                   "latency_us": 1}, -19, ["another kind"]),
    ("bdev_error_inject_error", {"name": "EE_E", "io_type": "read", "error_type": "nvme_failure"},
     -22, ["NVMe status"]),
    ("bdev_error_inject_error", {"name": "EE_E", "io_type": "read", "error_type": "nvme_failure",
                                 "nvme_sct": 8}, -32603, ["nvme_sct", "7"]),
    ("bdev_error_inject_error", {"name": "M", "io_type": "read", "error_type": "failure"}, -19,
     ["another kind"]),
    ("bdev_split_create", {"base_bdev": "M", "split_count": 0}, -22, ["split_count"]),
    ("bdev_split_create", {"base_bdev": "M", "split_count": 9, "split_size_mb": 1}, -34, ["M"]),
    ("bdev_split_create", {"base_bdev": "C", "split_count": 2}, -1, ["claimed"]),
    ("bdev_split_delete", {"base_bdev": "M"}, -2, ["not divided"]),
    ("bdev_examine", {"name": "Z"}, -19, ['"Z"']),
    ("bdev_get_bdevs", {"name": "Z"}, -19, ['"Z"']),
    ("bdev_get_iostat", {"names": ["M", "Z"]}, -19, ['"Z"']),
    ("bdev_get_iostat", {"names": [1]}, -22, ["names[0]"]),
    ("bdev_get_iostat", {"per_channel": True}, -22, ["per_channel"]),
    ("bdev_reset_iostat", {"name": "Z"}, -19, ['"Z"']),
    ("bdev_get_histogram", {"name": "M"}, -32603, ["bdev_enable_histogram"]),
    ("bdev_enable_histogram", {"name": "M", "enable": True, "opc": "fly"}, -22, ["opc", "fly"]),
    ("bdev_enable_histogram", {"name": "M", "enable": True, "min_nsec": 9, "max_nsec": 9}, -22,
     ["min_nsec"]),
    ("bdev_set_qd_sampling_period", {"name": "Z", "period": 1}, -19, ['"Z"']),
    ("bdev_set_qos_limit", {"name": "M"}, -22, ["no limit"]),
    ("bdev_set_qos_limit", {"name": "M", "r_ios_burst": 5}, -22, ["r_ios_per_sec"]),
    ("bdev_swap", {"name": "M"}, -22, ["new_bdev", "filename"]),
    ("bdev_swap", {"name": "M", "new_bdev": "M"}, -22, ["another bdev"]),
    ("bdev_swap", {"name": "M", "new_bdev": "C"}, -16, ["used"]),
    ("bdev_swap", {"name": "M", "new_bdev": "tiny"}, -22, ["less than"]),
    ("bdev_swap", {"name": "M", "new_bdev": "N4k"}, -22, ["block size"]),
    ("bdev_swap", {"name": "Sp0", "new_bdev": "N"}, -22, ['part of bdev "S"']),
    ("bdev_swap", {"name": "M", "filename": "/no/such"}, -2, ["/no/such"]),
])
def test_what_is_refused_is_named_and_changes_nothing(bdevs, method, params, code, words):
    bdevs.malloc("M")
    bdevs.malloc("C")
    bdevs.malloc("tiny", 4096)
    bdevs("bdev_passthru_create", name="P", base_bdev_name="C")
    bdevs.malloc("S")
    bdevs("bdev_split_create", base_bdev="S", split_count=2)
    bdevs("bdev_null_create", name="N", num_blocks=4096, block_size=512)
    bdevs("bdev_null_create", name="N4k", num_blocks=4096, block_size=4096)
    bdevs("bdev_null_create", name="E", num_blocks=4096, block_size=512)
    bdevs("bdev_error_create", base_name="E")
    bdevs("bdev_aio_create", name="L", filename=bdevs.file("locked"), block_size=512)
    bdevs.file("small", 100)
    before = bdevs("bdev_get_bdevs"), bdevs.config()
    got, message = bdevs.refused(method, **params)
    assert got == code and all(w in message for w in words), (got, message)
    assert (bdevs("bdev_get_bdevs"), bdevs.config()) == before


def test_names_are_made_of_the_kind(bdevs):
    made = [bdevs("bdev_malloc_create", num_blocks=8, block_size=512) for _ in range(3)]
    assert made == ["Malloc0", "Malloc1", "Malloc2"]


def test_a_numa_node_is_accepted_and_minus_1_is_any(bdevs):
    for node in (-1, 0, 7):
        bdevs("bdev_malloc_create", name=f"M{node}", num_blocks=8, block_size=512, numa_id=node)
        assert bdevs.config()[-1]["params"]["numa_id"] == node
        assert bdevs("bdev_get_bdevs", name=f"M{node}")[0]["numa_id"] == -1
    assert bdevs.refused("bdev_malloc_create", num_blocks=8, block_size=512, numa_id=-2)[1] == \
        "numa_id: expected -1..2147483647, got -2"


def test_a_thousand_are_made_and_deleted_and_nothing_is_left(bdevs):
    bdevs.malloc("M")
    files = len(bdevs.daemon.files())
    for i in range(1000):
        bdevs("bdev_aio_create", name=f"A{i % 3}", filename=bdevs.file("a"))
        bdevs("bdev_aio_delete", name=f"A{i % 3}")
    assert len(bdevs.daemon.files()) == files


def test_one_that_is_waited_for_is_told_when_it_comes(bdevs):
    with Rpc(os.path.join(bdevs.room, "rpc")) as other:
        other.send({"jsonrpc": "2.0", "id": 1, "method": "bdev_get_bdevs",
                    "params": {"name": "Late", "timeout": 60000}})
        bdevs("spdk_get_version")
        bdevs.malloc("Early")
        bdevs.malloc("Late")
        assert other.answer()["result"][0]["name"] == "Late"
    began = time.monotonic()
    assert bdevs.refused("bdev_get_bdevs", name="Never", timeout=200)[0] == -19
    assert time.monotonic() - began >= 0.2


def test_who_waits_for_one_and_leaves_is_no_concern(bdevs):
    with Rpc(os.path.join(bdevs.room, "rpc")) as other:
        other.send({"jsonrpc": "2.0", "id": 1, "method": "bdev_get_bdevs",
                    "params": {"name": "Late", "timeout": 60000}})
        bdevs("spdk_get_version")
    bdevs.malloc("Late")
    assert bdevs.names() == ["Late"]


def test_the_configuration_makes_all_of_them_again(bdevs):
    bdevs.malloc("M", 2 * MIB)
    bdevs("bdev_aio_create", name="A", filename=bdevs.file("a", 4 * MIB), block_size=512,
          readonly=True)
    bdevs("bdev_null_create", name="N", num_blocks=2048, block_size=512)
    bdevs("bdev_null_resize", name="N", new_size=3)
    bdevs("bdev_delay_create", name="D", base_bdev_name="M", avg_read_latency=1,
          p99_read_latency=2, avg_write_latency=3, p99_write_latency=4)
    bdevs("bdev_delay_update_latency", delay_bdev_name="D", latency_type="avg_read", latency_us=2)
    bdevs("bdev_split_create", base_bdev="A", split_count=2)
    bdevs("bdev_set_qos_limit", name="N", rw_ios_per_sec=5000, r_ios_per_sec=10, r_ios_burst=7)
    bdevs("bdev_uring_create", name="U", filename=bdevs.file("u"), block_size=512)
    bdevs("bdev_swap", name="U", filename=bdevs.file("v", 2 * MIB))
    before, config = bdevs("bdev_get_bdevs"), bdevs.config()
    bdevs("bdev_malloc_delete", name="M")
    bdevs("bdev_aio_delete", name="A")
    bdevs("bdev_null_delete", name="N")
    bdevs("bdev_aio_delete", name="U")
    assert bdevs.names() == [] and bdevs.config() == []
    for call in config:
        bdevs(call["method"], **call["params"])
    assert bdevs.config() == config
    by_name = [sorted(told, key=lambda b: b["name"]) for told in (bdevs("bdev_get_bdevs"), before)]
    assert by_name[0] == by_name[1]


def test_a_reader_cannot_reset_counters(room, start):
    path, reader = os.path.join(room, "rpc"), os.path.join(room, "reader")
    d = start("--rpc-socket", path, "--rpc-readonly-socket", reader, cwd=room)
    d.wait_listening(reader)
    with Rpc(reader) as rpc:
        assert rpc.call("bdev_get_iostat")["bdevs"] == []
        with pytest.raises(RpcError) as e:
            rpc.call("bdev_get_iostat", reset_mode="all")
        assert e.value.code == -1 and "read-only" in e.value.message


def test_files_and_null_grow_and_are_looked_at_again(bdevs):
    path = bdevs.file("a")
    bdevs("bdev_aio_create", name="A", filename=path)
    bdevs("bdev_resize", name="A", new_size="2M")
    assert os.path.getsize(path) == 2 * MIB and bdevs.one("A")["num_blocks"] == 4096
    with open(path, "r+b") as f:
        f.truncate(4 * MIB)
    assert bdevs.one("A")["num_blocks"] == 4096
    assert bdevs("bdev_aio_rescan", name="A") is True
    assert bdevs.one("A")["num_blocks"] == 8192
    events = [(e["type"], e["ctx"]) for e in bdevs("notify_get_notifications")]
    assert events.count(("bdev_resize", "A")) == 2


@pytest.mark.skipif(not SFDISK, reason="no sfdisk")
def test_partitions_of_a_gpt_become_bdevs(bdevs):
    path = bdevs.file("gpt", 8 * MIB)
    subprocess.run([SFDISK, "-q", path], check=True, text=True,
                   input="label: gpt\nsize=2M, name=boot\nname=root, uuid=" + UUID + "\n")
    bdevs("bdev_aio_create", name="G", filename=path, block_size=512)
    assert bdevs("bdev_examine", name="G") is True
    assert bdevs("bdev_wait_for_examine") is True
    assert bdevs.names() == ["G", "Gp1", "Gp2"]
    root = bdevs.one("Gp2")
    assert root["uuid"] == UUID and root["claimed"] is False and bdevs.one("G")["claimed"]
    gpt = root["driver_specific"]["gpt"]
    assert gpt["partition_name"] == "root" and gpt["unique_partition_guid"] == UUID
    config = bdevs.config()
    bdevs("bdev_aio_delete", name="G")
    for call in config:
        bdevs(call["method"], **call["params"])
    assert bdevs.one("Gp2") == root
    bdevs.malloc("M")
    assert bdevs("bdev_examine", name="M") is True and bdevs.names()[-1] == "M"


# ---- under load ----

@needs_bench
def test_what_was_read_and_written_is_counted(bdevs):
    bdevs.malloc("M")
    disk = bdevs.disk("M")
    bdevs("bdev_enable_histogram", name="M", enable=True, granularity=3)
    load = Load(disk, "--count", "4000", "--bs", "4096")
    assert load.end()["errors"] == 0
    all_ = bdevs("bdev_get_iostat", names=["M"])
    s = all_["bdevs"][0]
    assert all_["tick_rate"] == 10**9
    count = s["num_read_ops"] + s["num_write_ops"]
    assert count >= 4000 and s["bytes_read"] + s["bytes_written"] == 4096 * count
    assert s["io_error"] == {}
    told = bdevs("bdev_get_histogram", name="M")
    buckets = base64.b64decode(told["histogram"])
    assert len(buckets) == 8 * (told["max_range"] - told["min_range"] + 1 << told["granularity"])
    counted = sum(struct.unpack(f"={len(buckets) // 8}Q", buckets))
    assert counted >= count
    borders = bdevs("bdev_get_histogram_borders", name="M", borders=[1000, 1000000])
    assert len(borders["borders_count"]) == 3 and sum(borders["borders_count"]) == counted
    bdevs("bdev_reset_iostat", name="M")
    assert ops(bdevs, "M") == 0
    assert bdevs("bdev_get_iostat", names=["M"], per_channel=True)["name"] == "M"


@needs_bench
def test_channels_and_queue_depth_are_told_while_there_is_load(bdevs):
    bdevs.malloc("M")
    bdevs("bdev_delay_create", name="D", base_bdev_name="M", avg_read_latency=2000,
          p99_read_latency=2000, avg_write_latency=2000, p99_write_latency=2000)
    disk = bdevs.disk("D")
    bdevs("bdev_set_qd_sampling_period", name="D", period=1000)
    load = Load(disk)
    try:
        wait_ops(bdevs, "D")
        channels = bdevs("bdev_get_iostat", names=["D"], per_channel=True)["channels"]
        threads = {t["id"] for t in bdevs("thread_get_stats")["threads"]}
        assert channels and {c["thread_id"] for c in channels} <= threads
        sampled = bdevs("bdev_get_iostat", names=["D"])["bdevs"][0]
        assert sampled["queue_depth"] > 0 and sampled["weighted_io_time"] > 0
        assert sampled["read_latency_ticks"] >= 2000000 * sampled["num_read_ops"]
    finally:
        load.process.kill()
        load.process.communicate()


def blk_disk(bdevs):
    return bdevs.disk("M"), []


def scsi_disk(bdevs):
    bdevs("vhost_create_scsi_controller", ctrlr="disk")
    bdevs("vhost_scsi_controller_add_target", ctrlr="disk", scsi_target_num=0, bdev_name="M")
    return os.path.join(bdevs.room, "disk"), ["--scsi"]


def nvme_disk(bdevs):
    nqn, folder = "nqn.2026-01.io.spdk:c", os.path.join(bdevs.room, "n")
    os.mkdir(folder)
    bdevs("nvmf_create_transport", trtype="VFIOUSER")
    bdevs("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
    bdevs("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": "M"})
    bdevs("nvmf_subsystem_add_listener", nqn=nqn,
          listen_address={"trtype": "VFIOUSER", "traddr": folder})
    return os.path.join(folder, "cntrl"), ["--nvme"]


@needs_bench
@pytest.mark.parametrize("disk_of", [blk_disk, scsi_disk, nvme_disk])
def test_a_back_end_is_exchanged_under_load_without_an_error(bdevs, disk_of):
    bdevs.malloc("M", 2 * MIB)
    disk, args = disk_of(bdevs)
    load = Load(disk, *args, seconds=5)
    wait_ops(bdevs, "M")
    for i in range(12):
        if i % 2:
            bdevs("bdev_swap", name="M", filename=bdevs.file(f"f{i}", 2 * MIB))
        else:
            bdevs.malloc("New", 2 * MIB)
            bdevs("bdev_swap", name="M", new_bdev="New")
        assert bdevs.names() == ["M"]
        wait_ops(bdevs, "M")
    assert bdevs.one("M")["product_name"] == "AIO disk"
    assert [f for f in bdevs.daemon.files() if f.startswith(os.path.join(bdevs.room, "f"))] == [
        os.path.join(bdevs.room, "f11")]
    end = load.end()
    assert end["errors"] == 0 and end["ios"] > 0
    assert bdevs("bdev_aio_delete", name="M") is True


@needs_bench
def test_a_bdev_in_two_places_of_scsi_is_one_unit_until_it_is_made_again(bdevs):
    bdevs.malloc("M")
    for name in "ab":
        bdevs("vhost_create_scsi_controller", ctrlr=name)
        bdevs("vhost_scsi_controller_add_target", ctrlr=name, scsi_target_num=0, bdev_name="M")
        path = os.path.join(bdevs.room, name)
        assert Load(path, "--scsi", "--count", "100").end()["errors"] == 0
    bdevs("bdev_malloc_delete", name="M")
    bdevs.malloc("M")
    bdevs("vhost_create_scsi_controller", ctrlr="c")
    bdevs("vhost_scsi_controller_add_target", ctrlr="c", scsi_target_num=0, bdev_name="M")
    path = os.path.join(bdevs.room, "c")
    assert Load(path, "--scsi", "--count", "100").end()["errors"] == 0
    for name in "abc":
        assert bdevs("vhost_delete_controller", ctrlr=name) is True


@needs_bench
def test_data_is_what_the_new_back_end_has(bdevs):
    bdevs("bdev_aio_create", name="A", filename=bdevs.file("a"), block_size=512)
    disk = bdevs.disk("A")
    load = Load(disk, "--rw", "write", "--count", "256", "--bs", "4096", "--queues", "1")
    load.end()
    new = os.path.join(bdevs.room, "b")
    shutil.copyfile(os.path.join(bdevs.room, "a"), new)
    bdevs("bdev_swap", name="A", filename=new)
    with open(os.path.join(bdevs.room, "a"), "r+b") as f:
        f.truncate(0)
    assert Load(disk, "--rw", "read", "--count", "256", "--queues", "1").end()["errors"] == 0


@needs_bench
def test_limits_come_and_go_under_load_and_hold(bdevs):
    bdevs.malloc("M")
    disk = bdevs.disk("M")
    load = Load(disk)
    try:
        wait_ops(bdevs, "M", 5000)
        bdevs("bdev_set_qos_limit", name="M", rw_ios_per_sec=500)
        assert bdevs.one("M")["assigned_rate_limits"]["rw_ios_per_sec"] == 500
        at, began = ops(bdevs, "M"), time.monotonic()
        wait_for("limited requests", lambda: ops(bdevs, "M") > at + 500)
        rate = (ops(bdevs, "M") - at) / (time.monotonic() - began)
        assert 250 < rate < 700, rate
        for limit in (0, 100000, 0, 50000):
            bdevs("bdev_set_qos_limit", name="M", rw_ios_per_sec=limit)
            wait_ops(bdevs, "M")
        bdevs("bdev_set_qos_limit", name="M", rw_ios_per_sec=0)
        wait_ops(bdevs, "M", 5000)
        assert load.process.poll() is None
    finally:
        load.process.kill()
        load.process.communicate()


@needs_bench
def test_a_disk_whose_bdev_is_deleted_under_load_answers_errors_and_can_be_removed(bdevs):
    bdevs.malloc("M")
    bdevs("bdev_error_create", base_name="M")
    disk = bdevs.disk("EE_M")
    load = Load(disk, seconds=4)
    wait_ops(bdevs, "EE_M")
    bdevs("bdev_error_inject_error", name="EE_M", io_type="all", error_type="pending", num=4)
    assert bdevs("bdev_malloc_delete", name="M") is True
    assert bdevs.names() == []
    assert load.end()["errors"] > 0
    told = bdevs("vhost_get_controllers")[0]
    assert told["backend_specific"]["block"]["bdev"] is None
    bdevs.malloc("M")
    assert bdevs("vhost_delete_controller", ctrlr="disk") is True
    assert bdevs.daemon.process.poll() is None


@needs_bench
def test_injected_errors_are_counted_by_cause(bdevs):
    bdevs.malloc("M")
    bdevs("bdev_error_create", base_name="M")
    disk = bdevs.disk("EE_M")
    bdevs("bdev_error_inject_error", name="EE_M", io_type="read", error_type="failure", num=10)
    assert Load(disk, "--rw", "randread", "--count", "1000").end()["errors"] == 10
    stat = bdevs("bdev_get_iostat", names=["EE_M"])["bdevs"][0]
    assert stat["io_error"] == {"failed": 10}
    bdevs("bdev_reset_iostat", name="EE_M", mode="error")
    stat = bdevs("bdev_get_iostat", names=["EE_M"])["bdevs"][0]
    assert stat["io_error"] == {} and stat["num_read_ops"] >= 1000


@needs_bench
@pytest.mark.parametrize("disk_of", [blk_disk, scsi_disk, nvme_disk])
def test_a_status_of_nvme_is_an_error_to_every_guest(bdevs, disk_of):
    bdevs.malloc("Base")
    bdevs("bdev_error_create", base_name="Base")
    bdevs("bdev_passthru_create", name="M", base_bdev_name="EE_Base")
    disk, args = disk_of(bdevs)
    bdevs("bdev_error_inject_error", name="EE_Base", io_type="read", error_type="nvme_failure",
          nvme_sct=2, nvme_sc=0x81, num=7)
    assert Load(disk, "--rw", "randread", "--count", "1000", *args).end()["errors"] == 7
    assert bdevs("bdev_get_iostat", names=["M"])["bdevs"][0]["io_error"] == {"nvme_error": 7}


def test_many_clients_at_once_leave_a_list_that_is_whole(bdevs):
    wrong = []

    def work(number):
        with Rpc(os.path.join(bdevs.room, "rpc")) as rpc:
            for i in range(20):
                name = f"T{number}"
                if rpc.call("bdev_malloc_create", name=name, num_blocks=2048,
                            block_size=512) != name:
                    wrong.append(name)
                rpc.call("bdev_split_create", base_bdev=name, split_count=3)
                rpc.call("bdev_set_qos_limit", name=name, rw_ios_per_sec=1000 + i)
                rpc.call("bdev_malloc_delete", name=name)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == [] and bdevs.names() == []
