"""framework_hand_over: a new process takes everything over, and front-ends notice a pause at most.

HAND_OVER_LIMIT_MS is what the pause may be at the 90th percentile (50 for a release build; one with
sanitizers gets more). The longest of all is printed, too: on a machine that is busy with others it is
how long a process had to wait for a CPU.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

from conftest import TIMEOUT_S, VHOSTD, connects, wait_for
from rpcclient import Rpc, RpcError

BUILD = os.path.dirname(VHOSTD)
BENCH = os.path.join(BUILD, "vhostd-bench")
VHOSTCTL = os.path.join(BUILD, "vhostctl")
RELEASE = b"VHOSTD_FAULT" not in open(VHOSTD, "rb").read()
LIMIT_MS = float(os.environ.get("HAND_OVER_LIMIT_MS", 50 if RELEASE else 1000))
ROUNDS = int(os.environ.get("HAND_OVER_ROUNDS", 20))
PR_SET_CHILD_SUBREAPER = 36

pytestmark = pytest.mark.skipif(not os.path.exists(BENCH), reason="no vhostd-bench")
needs_faults = pytest.mark.skipif(RELEASE, reason="fault points are in debug builds only")


class Served:
    """A daemon of which a successor takes the place; .pid is of who serves now."""

    def __init__(self, start, room, *args, **popen):
        self.rpc_path = os.path.join(room, "rpc.sock")
        self.daemon = start("-r", self.rpc_path, *args, **popen)
        self.daemon.wait_listening(self.rpc_path)
        self.pid = self.daemon.process.pid

    def call(self, method, **params):
        with Rpc(self.rpc_path) as rpc:
            return rpc.call(method, **params)

    def hand_over(self, **params):
        """The pause in milliseconds."""
        old = self.pid
        result = self.call("framework_hand_over", **params)
        self.pid = result["pid"]
        assert self.pid != old
        assert reap(old) == 0, self.daemon.said()
        return result["pause_us"] / 1000

    def refused(self, **params):
        """What it says when it does not come about."""
        with pytest.raises(RpcError) as why:
            self.hand_over(**params)
        assert os.path.exists(f"/proc/{self.pid}")
        return why.value.message

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss_kib(self):
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * 4

    def end(self):
        os.kill(self.pid, signal.SIGTERM)
        return reap(self.pid)


def reap(pid):
    """The status of a process of ours, or of one that was handed down to us."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        got, status = os.waitpid(pid, os.WNOHANG)
        if got:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    raise AssertionError(f"process {pid} has not ended")


@pytest.fixture
def serve(start, room):
    """serve(*args): a Served that does not outlive the test."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    all_of_them = []

    def one(*args, **popen):
        all_of_them.append(Served(start, room, *args, **popen))
        return all_of_them[-1]

    yield one
    for s in all_of_them:
        s.daemon.process.returncode = s.daemon.process.returncode or 0  # reaped by us
        try:
            os.kill(s.pid, signal.SIGKILL)
            reap(s.pid)
        except (ProcessLookupError, ChildProcessError):
            pass


class Load:
    """vhostd-bench, which verifies what it reads, in the background."""

    def __init__(self, path, seconds, *args):
        self.limit = seconds + TIMEOUT_S * 2
        self.process = subprocess.Popen(
            [BENCH, "--socket", path, "--rw", "randrw", "--verify", "--span", "4M", "--qd", "16",
             "--seconds", str(seconds), "--load", "--json", *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def result(self):
        out, err = self.process.communicate(timeout=self.limit)
        assert self.process.returncode == 0, err + out
        r = json.loads(out)["server"]
        assert r["errors"] == 0 and r["mismatches"] == 0 and r["ios"] > 100, r
        return r

    def end(self):
        self.process.kill()
        self.process.wait()


def write_all(path, *args):
    """4 MiB get what Load expects to read."""
    subprocess.run([BENCH, "--socket", path, "--rw", "write", "--verify", "--span", "4M", "--count",
                    "1024", "--qd", "8", "--load", *args], check=True, capture_output=True,
                   timeout=TIMEOUT_S * 2)


def read_all(path, *args):
    r = subprocess.run([BENCH, "--socket", path, "--rw", "read", "--verify", "--span", "4M",
                        "--count", "1024", "--qd", "8", "--load", "--json", *args], check=True,
                       capture_output=True, text=True, timeout=TIMEOUT_S * 2)
    r = json.loads(r.stdout)["server"]
    assert r["errors"] == 0 and r["mismatches"] == 0, r


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def disk(room, image, kind):
    """The daemon's arguments, the client's, and the socket."""
    sock = os.path.join(room, "d0.sock")
    if kind == "scsi":
        return ["--device", f"scsi,name=d0,socket={sock},target=0:file={image()}"], ["--scsi"], sock
    back = f"file={image()}" if kind == "file" else "ram=8M"
    words = {"packed": ["--packed", "--indirect", "--event-idx", "--queues", "2"]}
    return ["--device", f"blk,name=d0,socket={sock},{back}"], words.get(kind, []), sock


# ---- under load

def hand_over_when_storage_lets(s):
    """A disk that others keep busy may need longer than front-ends are made to wait: then again."""
    for _ in range(3):
        try:
            return s.hand_over(timeout_ms=30000)
        except RpcError as e:
            assert "requests under way take longer" in e.message
            print(e.message, file=sys.stderr)
    return s.hand_over(timeout_ms=30000)


@pytest.mark.parametrize("kind", ("file", "ram", "packed", "scsi"))
def test_many_in_a_row_under_load_are_a_short_pause_and_nothing_else(serve, room, image, kind):
    args, words, sock = disk(room, image, kind)
    s = serve(*args, "--cores", "1")
    write_all(sock, *words)
    load = Load(sock, 0.25 * ROUNDS + 2, *words)
    pauses = []
    wait_for("the front-end", lambda: s.call("device_get_devices")[0]["sessions"])
    try:
        for _ in range(ROUNDS):
            pauses.append(hand_over_when_storage_lets(s))
            time.sleep(0.02)
        load.result()
    finally:
        load.end()
    print(f"{kind}: {len(pauses)} hand-overs, pause ms: median {percentile(pauses, .5):.1f}, "
          f"99th percentile {percentile(pauses, .99):.1f}", file=sys.stderr)
    assert percentile(pauses, 0.9) < LIMIT_MS  # the longest may be the machine
    read_all(sock, *words)
    assert s.end() == 0
    assert not os.path.exists(sock) and not os.path.exists(s.rpc_path)


# ---- what fails

STAGES = ("successor-begin", "successor-ready", "successor-unpacked")


@needs_faults
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", ("kill", "5"))
def test_a_successor_that_fails_leaves_the_old_one_serving(serve, room, image, stage, how):
    args, words, sock = disk(room, image, "file")
    s = serve(*args, env={**os.environ, "VHOSTD_FAULT": f"{stage}={how}"})
    write_all(sock)
    load = Load(sock, 4)
    try:
        wait_for("the front-end", lambda: s.call("device_get_devices")[0]["sessions"])
        before = s.fds()
        for _ in range(3):
            text = s.refused(timeout_ms=20000)
            assert text.startswith("hand-over: this process goes on: "), text
            assert ("killed by signal 9" if how == "kill" else "fault") in text, text
        wait_for("all descriptors to be closed", lambda: s.fds() <= before)
        load.result()
    finally:
        load.end()
    s.call("bdev_null_create", name="n0", num_blocks=8, block_size=512)
    read_all(sock)
    assert s.end() == 0


@pytest.fixture(name="program")
def own_copy(room, monkeypatch):
    """The program under a name that may be replaced: what is started in this test."""
    path = os.path.join(room, "vhostd")
    shutil.copy(VHOSTD, path)
    monkeypatch.setattr("conftest.VHOSTD", path)
    return path


def replace(path, content):
    with open(path + ".new", "wb") as f:
        f.write(content)
    os.chmod(path + ".new", 0o755)
    os.rename(path + ".new", path)


def test_the_file_that_was_replaced_is_started_and_no_other(serve, room, image, program):
    args, words, sock = disk(room, image, "file")
    good = open(program, "rb").read()
    s = serve(*args)
    write_all(sock)
    load = Load(sock, 6)
    try:
        replace(program, b"#!/bin/sh\nexit 7\n")
        assert "ended with status 7" in s.refused()
        replace(program, b"#!/bin/sh\nexec sleep 60\n")
        begin = time.monotonic()
        assert "was not ready in time" in s.refused(timeout_ms=500)
        assert time.monotonic() - begin < 10
        os.unlink(program)
        assert f"{program}: cannot be started: No such file or directory" in s.refused()
        replace(program, good)
        s.hand_over()
        assert os.readlink(f"/proc/{s.pid}/exe") == program
        s.hand_over()
        load.result()
    finally:
        load.end()
    assert s.end() == 0


def test_a_configuration_that_does_not_fit_any_more_is_refused_by_name(serve, room, image):
    ram, file = os.path.join(room, "r.sock"), os.path.join(room, "f.sock")
    config = os.path.join(room, "config.json")

    def write(devices):
        with open(config, "w", encoding="ascii") as f:
            json.dump({"devices": devices}, f)

    path = image()
    devices = [{"type": "blk", "name": "r0", "socket": ram, "ram": "8M"},
               {"type": "blk", "name": "f0", "socket": file, "file": path}]
    write(devices)
    s = serve("-c", config)
    write(devices[1:])
    assert "memory of r0: data: the process that serves has it open" in s.refused()
    write([{**devices[0], "ram": "16M"}, devices[1]])
    assert "it has another size than 16777216 bytes" in s.refused()
    write([devices[0], {**devices[1], "file": image("other")}])
    assert f"image {path} (" in s.refused()
    write([devices[0], {**devices[1], "socket": file + "2"}])
    assert "a hand-over keeps sockets where they are" in s.refused()
    with open(config, "w", encoding="ascii") as f:
        f.write("{")
    assert "config.json:1:" in s.refused()
    write(devices)
    os.rename(path, path + ".old")
    image()
    assert "another file is there than the one that was opened" in s.refused()
    os.rename(path + ".old", path)
    write([*devices, {"type": "blk", "name": "new", "socket": ram + "n", "null": "1M"}])
    s.hand_over()
    assert connects(ram + "n")
    assert s.end() == 0


# ---- what is kept

def test_disks_in_memory_keep_their_content(serve, room):
    sock = os.path.join(room, "r0.sock")
    s = serve("--device", f"blk,name=r0,socket={sock},ram=8M", "-S", room)
    for name in (None, "m1", "m2"):
        more = {"name": name} if name else {}
        made = s.call("bdev_malloc_create", num_blocks=16384, block_size=512, **more)
        s.call("vhost_create_blk_controller", ctrlr=f"c-{made}", dev_name=made)
        write_all(os.path.join(room, f"c-{made}"))
    write_all(sock)
    for _ in range(3):
        s.hand_over()
    for name in ("r0.sock", "c-Malloc0", "c-m1", "c-m2"):
        read_all(os.path.join(room, name))
    # what was given back is zeroes, and what was never written takes no memory
    s.call("bdev_malloc_create", num_blocks=1 << 22, block_size=512, name="huge")
    s.hand_over()
    assert {b["name"] for b in s.call("bdev_get_bdevs")} == {"Malloc0", "m1", "m2", "huge"}
    # a bdev whose back-end was exchanged is found by its own name
    s.call("vhost_delete_controller", ctrlr="c-m2")
    s.call("bdev_swap", name="m1", new_bdev="m2")
    s.call("bdev_malloc_create", num_blocks=16384, block_size=512, name="m2")
    s.hand_over()
    read_all(os.path.join(room, "c-m1"))
    assert s.end() == 0


def sections(s):
    with Rpc(s.rpc_path) as rpc:
        return {part["subsystem"]: rpc.call("framework_get_config", name=part["subsystem"])
                for part in rpc.call("framework_get_subsystems")}


def test_what_management_made_is_there_and_the_state_goes_on(serve, room, image):
    state = os.path.join(room, "state")
    given = os.path.join(room, "given.json")
    with open(given, "w", encoding="ascii") as f:
        json.dump({"subsystems": [{"subsystem": "bdev", "config": [
            {"method": "bdev_null_create",
             "params": {"name": "of-c", "num_blocks": 64, "block_size": 512,
                        "uuid": "8d3e1b5c-0d3f-4f0e-9d0f-3f6f3f8f5a11"}}]}]}, f)
    s = serve("--state", state, "-c", given, "-S", room)
    s.call("bdev_malloc_create", name="m0", num_blocks=2048, block_size=512)
    s.call("bdev_aio_create", name="a0", filename=image(), block_size=512)
    s.call("bdev_set_qos_limit", name="m0", rw_ios_per_sec=1000000)
    s.call("vhost_create_blk_controller", ctrlr="c0", dev_name="m0", cpumask="0x1")
    s.call("log_set_print_level", level="INFO")
    before = sections(s)
    s.hand_over()
    assert sections(s) == before
    assert s.call("log_get_print_level") == "INFO"
    s.call("vhost_delete_controller", ctrlr="c0")
    s.call("bdev_malloc_create", name="m1", num_blocks=2048, block_size=512)
    s.hand_over()
    after = sections(s)
    assert after != before and "of-c" in json.dumps(after)
    with open(state, encoding="utf-8") as f:
        saved = f.read()
    assert '"m1"' in saved and '"c0"' not in saved and '"of-c"' not in saved
    assert s.end() == 0
    again = serve("--state", state, "-c", given, "-S", room)
    assert sections(again) == after


def test_a_device_of_the_command_line_that_was_deleted_stays_deleted(serve, room, image):
    gone = image()
    s = serve("--device", f"blk,name=d0,socket={room}/d0.sock,ram=1M",
              "--device", f"blk,name=d1,socket={room}/d1.sock,file={gone}", "-S", room)

    def names():
        return sorted(d["name"] for d in s.call("device_get_devices"))

    def is_open(path):
        folder = f"/proc/{s.pid}/fd"
        return path in [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]

    for _ in range(2):
        assert names() == ["d0", "d1"] and is_open(gone)
        s.hand_over()
    s.call("vhost_delete_controller", ctrlr="d1")
    for _ in range(2):
        s.hand_over()
        assert names() == ["d0"] and not is_open(gone)
        assert not os.path.exists(os.path.join(room, "d1.sock"))
    # another one of its name
    s.call("bdev_malloc_create", name="m0", num_blocks=2048, block_size=512)
    s.call("vhost_create_blk_controller", ctrlr="d1", dev_name="m0")
    for _ in range(2):
        s.hand_over()
        assert names() == ["d0", "d1"] and not is_open(gone)
    assert os.path.exists(os.path.join(room, "d1"))
    s.call("vhost_delete_controller", ctrlr="d1")
    s.hand_over()
    assert names() == ["d0"]
    os.kill(s.pid, signal.SIGHUP)
    assert names() == ["d0"]
    assert s.end() == 0


def test_a_deleted_device_with_an_inherited_socket_stays_deleted(serve, room, image):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(room, "given.sock"))
        listener.listen()
        s = serve("--fd", str(listener.fileno()), "--blk-file", image(), "-S", room,
                  pass_fds=[listener.fileno()])
    s.call("bdev_malloc_create", name="m0", num_blocks=2048, block_size=512)
    s.call("vhost_create_blk_controller", ctrlr="c0", dev_name="m0")
    s.call("vhost_delete_controller", ctrlr="blk0")
    for _ in range(2):
        s.hand_over()
        assert [d["name"] for d in s.call("device_get_devices")] == ["c0"]
    assert s.end() == 0


def test_images_and_the_state_stay_locked(serve, refuse, room, image):
    state, path = os.path.join(room, "state"), image()
    sock = os.path.join(room, "d0.sock")
    s = serve("--device", f"blk,name=d0,socket={sock},file={path}", "--state", state)
    for _ in range(2):
        s.hand_over()
        said = refuse(1, "--device", f"blk,socket={room}/other,file={path}")
        assert f"image {path} is locked by PID {s.pid}" in said
        assert "another process has it" in refuse(1, "--state", state, "-r", room + "/o.sock")
    assert s.end() == 0


def test_read_only_images_that_are_open_twice_are_handed_over(serve, room, image):
    path = image()
    s = serve(*(word for i in range(2) for word in (
        "--device", f"blk,name=d{i},socket={room}/d{i},file={path},read-only=on")))
    s.hand_over()
    assert s.end() == 0


def test_nothing_is_left_over_after_many(serve, room, image):
    args, words, sock = disk(room, image, "file")
    s = serve(*args, "--metrics-socket", os.path.join(room, "m.sock"))
    write_all(sock)
    load = Load(sock, 6)
    try:
        wait_for("the front-end", lambda: s.call("device_get_devices")[0]["sessions"])
        s.hand_over()
        wait_for("the first call's end", lambda: s.fds())
        fds, rss = s.fds(), s.rss_kib()
        for _ in range(8):
            s.hand_over()
        wait_for(f"no more than {fds} descriptors", lambda: s.fds() <= fds)
        assert s.rss_kib() < rss + 16384
        load.result()
    finally:
        load.end()
    assert s.end() == 0


# ---- sockets

def listener_pid(path):
    """Of whom the kernel says that he listens there."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        return struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def test_management_and_metrics_are_at_the_same_sockets(serve, room, image):
    args, words, sock = disk(room, image, "file")
    metrics = os.path.join(room, "m.sock")
    readonly = os.path.join(room, "ro.sock")
    s = serve(*args, "--metrics-socket", metrics, "--rpc-readonly-socket", readonly)
    inodes = [os.stat(p).st_ino for p in (sock, metrics, readonly, s.rpc_path)]
    with Rpc(readonly) as rpc, pytest.raises(RpcError):
        rpc.call("framework_hand_over")
    for _ in range(3):
        s.hand_over()
        assert inodes == [os.stat(p).st_ino for p in (sock, metrics, readonly, s.rpc_path)]
        with socket.socket(socket.AF_UNIX) as http:
            http.settimeout(TIMEOUT_S)
            http.connect(metrics)
            http.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert http.recv(12).startswith(b"HTTP/1.")
        with Rpc(readonly) as rpc:
            assert rpc.call("spdk_get_version")
        assert {listener_pid(p) for p in (sock, metrics, readonly, s.rpc_path)} == {s.pid}
    assert s.end() == 0
    assert not any(os.path.exists(p) for p in (sock, metrics, readonly, s.rpc_path))


def test_an_inherited_listener_is_handed_over(serve, room, image):
    path = os.path.join(room, "d0.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        s = serve("--fd", str(listener.fileno()), "--blk-file", image(),
                  pass_fds=[listener.fileno()])
    write_all(path)
    load = Load(path, 3)
    try:
        for _ in range(3):
            s.hand_over()
        load.result()
    finally:
        load.end()
    read_all(path)
    assert s.end() == 0
    assert os.path.exists(path)  # not ours


def test_a_client_goes_on_where_it_was_connected(serve, room):
    path = os.path.join(room, "front")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(TIMEOUT_S)
        s = serve("--device", f"blk,name=d0,socket={path},ram=1M,client=on,reconnect-ms=20")
        conn, _ = listener.accept()
        conn.settimeout(TIMEOUT_S)
        ask = b"\x01\0\0\0\x01\0\0\0\0\0\0\0"  # GET_FEATURES
        conn.sendall(ask[:5])  # the rest comes after the hand-over
        time.sleep(0.1)
        s.hand_over()
        conn.sendall(ask[5:])
        assert conn.recv(64)[:1] == b"\x01"
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()
        conn.close()
        listener.settimeout(TIMEOUT_S)
        again, _ = listener.accept()  # a new connection is made by the successor
        again.close()
    assert s.end() == 0


def test_who_waits_in_the_backlog_is_served_by_the_successor(serve, room, image):
    args, words, sock = disk(room, image, "file")
    s = serve(*args)
    write_all(sock)
    load = Load(sock, 2)
    with socket.socket(socket.AF_UNIX) as waits:
        wait_for("the front-end", lambda: s.call("device_get_devices")[0]["sessions"])
        waits.connect(sock)
        waits.settimeout(TIMEOUT_S)
        s.hand_over()
        load.result()
        waits.sendall(b"\x01\0\0\0\x01\0\0\0\0\0\0\0")
        assert waits.recv(64)[:1] == b"\x01"
    assert s.end() == 0


# ---- meanwhile

def test_changes_are_refused_meanwhile_and_questions_answered(serve, room, image, program):
    args, words, sock = disk(room, image, "file")
    s = serve(*args)
    replace(program, b"#!/bin/sh\nexec sleep 60\n")
    with Rpc(s.rpc_path) as first:
        first.send({"jsonrpc": "2.0", "id": 1, "method": "framework_hand_over",
                    "params": {"timeout_ms": 1500}})
        time.sleep(0.3)
        assert s.call("spdk_get_version")
        with pytest.raises(RpcError) as why:
            s.call("bdev_null_create", name="n0", num_blocks=8, block_size=512)
        assert "try again in a moment" in why.value.message
        with pytest.raises(RpcError) as why:
            s.call("framework_hand_over")
        assert "is under way" in why.value.message
        assert "not ready in time" in first.answer()["error"]["message"]
    s.call("bdev_null_create", name="n0", num_blocks=8, block_size=512)
    with Rpc(s.rpc_path) as first:
        first.send({"jsonrpc": "2.0", "id": 1, "method": "framework_hand_over"})
        time.sleep(0.3)
        assert s.end() == 0
    assert "the daemon is stopping" in s.daemon.said()


@pytest.mark.skipif(not os.path.exists(VHOSTCTL), reason="no vhostctl")
def test_vhostctl_upgrade_says_who_serves(serve, room, image):
    args, words, sock = disk(room, image, "file")
    s = serve(*args)
    r = subprocess.run([VHOSTCTL, "-s", s.rpc_path, "upgrade"], capture_output=True, text=True,
                       check=True, timeout=TIMEOUT_S)
    assert r.stdout.startswith("vhostd v") and "front-ends waited" in r.stdout
    assert reap(s.pid) == 0
    s.pid = int(r.stdout.split("process ")[1].split(";")[0])
    r = subprocess.run([VHOSTCTL, "-s", s.rpc_path, "--json", "upgrade", "--within", "20s"],
                       capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    assert reap(s.pid) == 0 and json.loads(r.stdout)["pid"] != s.pid
    s.pid = json.loads(r.stdout)["pid"]
    assert s.end() == 0


def test_a_signal_asks_for_it_as_well(serve, room, image, program):
    args, words, sock = disk(room, image, "file")
    good = open(program, "rb").read()
    s = serve(*args)
    write_all(sock)
    for _ in range(2):
        told = s.daemon.said().count("handed over to process")
        os.kill(s.pid, signal.SIGUSR2)
        assert reap(s.pid) == 0
        assert s.daemon.said().count("handed over to process") == told + 1
        s.pid = int(s.daemon.said().rsplit("handed over to process ", 1)[1].split(";")[0])
        read_all(sock)
    replace(program, b"#!/bin/sh\nexit 7\n")
    os.kill(s.pid, signal.SIGUSR2)
    wait_for("the failure in the log", lambda: "hand-over: this process goes on: the new process "
             "ended with status 7" in s.daemon.said())
    replace(program, good)
    read_all(sock)
    assert s.end() == 0


def test_systemd_is_told_who_is_the_main_process(serve, room, image):
    args, words, sock = disk(room, image, "file")
    path = os.path.join(room, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(TIMEOUT_S)
        s = serve(*args, env={**os.environ, "NOTIFY_SOCKET": path})
        assert notify.recv(100) == b"READY=1"
        s.hand_over()
        assert notify.recv(100) == b"MAINPID=%d" % s.pid
        assert s.end() == 0
        assert notify.recv(100) == b"STOPPING=1"


def test_nobody_else_starts_a_successor(refuse, room):
    said = refuse(2, "--hand-over=3", "-r", room + "/rpc.sock")
    assert "framework_hand_over starts a successor, nobody else" in said
    said = refuse(2, "--hand-over=0", "-r", room + "/rpc.sock", stdin=subprocess.DEVNULL)
    assert "recvmsg" in said
