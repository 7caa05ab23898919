"""vhostctl against the real daemon: each verb's success and failure, --json, completion in a real bash, top in a
real terminal."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import REPORTS, TIMEOUT_S, VHOSTD, wait_for

VHOSTCTL = os.path.join(os.path.dirname(VHOSTD), "vhostctl")
BENCH = os.path.join(os.path.dirname(VHOSTD), "vhostd-bench")
OK, REFUSED, USAGE, NO_DAEMON, TIMED_OUT, PROTOCOL = range(6)
MIB = 1 << 20
LOAD_TIMEOUT_S = 60
MISSING = "no vhostctl beside " + VHOSTD

pytestmark = pytest.mark.skipif(not os.path.exists(VHOSTCTL), reason=MISSING)


class Ctl:
    """vhostctl with this daemon's socket."""

    def __init__(self, path, env=None):
        self.path = path
        self.env = {**os.environ, "VHOSTD_RPC_SOCKET": path, "NO_COLOR": "1", "LC_ALL": "C.UTF-8", **(env or {})}

    def run(self, *words, **kwargs):
        r = subprocess.run([VHOSTCTL, *words], capture_output=True, text=True, timeout=TIMEOUT_S, env=self.env,
                           check=False, **kwargs)
        assert not any(x in r.stderr for x in REPORTS), r.stderr
        return r

    def __call__(self, *words, **kwargs):
        """What it prints; it succeeds."""
        r = self.run(*words, **kwargs)
        assert r.returncode == OK and r.stderr == "", f"{words}: exit {r.returncode}: {r.stderr}"
        return r.stdout

    def json(self, *words):
        return json.loads(self(*words, "--json"))

    def fails(self, code, *words, **kwargs):
        """What it says when it ends with this code; it prints nothing else."""
        r = self.run(*words, **kwargs)
        assert r.returncode == code, f"{words}: exit {r.returncode}: {r.stdout}{r.stderr}"
        assert r.stdout == "" and r.stderr.startswith("vhostctl: "), (r.stdout, r.stderr)
        return r.stderr


@pytest.fixture
def ctl(start, room):
    """A daemon without devices, and what controls it."""
    d = start("-r", f"{room}/rpc", "-S", room)
    d.wait_listening(f"{room}/rpc")
    c = Ctl(f"{room}/rpc")
    c.daemon = d
    return c


@pytest.fixture
def served(start, room):
    """A daemon with a null disk of the command line, 'null'."""
    d = start("-r", f"{room}/rpc", "--device", f"blk,name=null,socket={room}/null,null=1G")
    d.wait_listening(f"{room}/rpc")
    d.wait_listening(f"{room}/null")
    return Ctl(f"{room}/rpc")


@pytest.fixture
def load(room):
    """load(socket): a driver that reads and writes until the test ends."""
    running = []

    def begin(path):
        running.append(subprocess.Popen([BENCH, "--socket", path, "--rw", "randrw", "--qd", "4", "--queues", "2",
                                         "--warmup", "0", "--seconds", str(LOAD_TIMEOUT_S)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return running[-1]

    yield begin
    for p in running:
        p.kill()
        p.wait()


def wait_serving(ctl, name):
    """Until its queues run and work."""
    def works():
        devices = {d["name"]: d for d in ctl.json("stats")["devices"]}
        return devices[name]["state"] == "serving" and devices[name]["disks"][0]["operations"]
    wait_for("requests of " + name, works, LOAD_TIMEOUT_S)


# ---- no daemon, no answer, nonsense ----

def test_no_daemon_says_what_to_do(room):
    ctl = Ctl(f"{room}/rpc")
    said = ctl.fails(NO_DAEMON, "status")
    assert f"no daemon listens on {room}/rpc: start vhostd with -r {room}/rpc, or give --socket" in said
    assert ctl.fails(NO_DAEMON, "-s", f"{room}/other", "disk", "list").count(f"{room}/other") == 2
    said = ctl.run("--json", "status")
    assert said.returncode == NO_DAEMON and "no daemon" in json.loads(said.stderr)["error"]["message"]


def test_a_path_that_no_socket_can_have_is_refused(room):
    assert "1..107 bytes, got 200" in Ctl("x").fails(USAGE, "-s", "/" + "a" * 199, "status")


class Fake:
    """Listens, and answers each connection with these bytes (None: never)."""

    def __init__(self, path, answer):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.answer = answer
        self.kept = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            self.kept.append(c)
            c.recv(65536)
            if self.answer is None:
                continue
            c.sendall(self.answer)
            c.close()


def test_no_answer_in_time_is_exit_4(room):
    Fake(f"{room}/rpc", None)
    began = time.monotonic()
    said = Ctl(f"{room}/rpc").fails(TIMED_OUT, "-t", "300ms", "log", "level")
    assert "no answer within 300 ms" in said and "--timeout" in said
    assert 0.3 <= time.monotonic() - began < 10


@pytest.mark.parametrize("answer, code, words", [
    (b"", NO_DAEMON, ["closed the connection"]),
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", PROTOCOL, ["does not speak JSON-RPC"]),
    (b'{"jsonrpc": "2.0", "id": 1', NO_DAEMON, ["closed the connection"]),
    (b'{"jsonrpc": "2.0", "id": 1}', PROTOCOL, ["no result"]),
    (b'{"jsonrpc": "2.0", "id": 7, "result": true}', PROTOCOL, ["no result"]),
    (b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -5, "message": "why not"}}', REFUSED, ["why not"]),
    (b'[1, 2]', PROTOCOL, ["no result"]),
])
def test_an_answer_that_is_none_is_told_apart(room, answer, code, words):
    Fake(f"{room}/rpc", answer)
    said = Ctl(f"{room}/rpc").fails(code, "log", "level")
    for word in words:
        assert word in said, said


@pytest.mark.parametrize("result", [b"true", b"{}", b"[1, {}, null]", b'"x"', b'[{"ctrlr": 3}]'])
@pytest.mark.parametrize("verb", ["status", "disk list", "scsi list", "nvme list", "bdev list", "bdev show x",
                                  "stats -q", "slow", "events", "config save", "top -b -n1 -d100ms"])
def test_answers_of_another_shape_do_no_harm(room, verb, result):
    class Always(Fake):
        def serve(self):
            while True:
                c, _ = self.listener.accept()
                threading.Thread(target=self.talk, args=(c,), daemon=True).start()

        def talk(self, c):
            while text := c.recv(65536):
                request = json.loads(text)
                c.sendall(b'{"jsonrpc": "2.0", "id": %d, "result": %s}' % (request["id"], self.answer))

    Always(f"{room}/rpc", result)
    r = Ctl(f"{room}/rpc").run(*verb.split())
    assert r.returncode in (OK, REFUSED, PROTOCOL), r


@pytest.mark.parametrize("words, said", [
    (["dsk"], ["dsk: unknown verb", "vhostctl help"]),
    (["disk"], ["disk add NAME", "disk rm NAME"]),
    (["disk", "mount"], ["mount: unknown behind disk", "disk add NAME"]),
    (["disk", "rm"], ["NAME: must be given", "vhostctl help disk rm"]),
    (["disk", "rm", "a", "b"], ["one argument too many: 'b'"]),
    (["disk", "list", "--colour"], ["unknown option --colour"]),
    (["disk", "add", "x"], ["--file PATH", "--bdev NAME"]),
    (["disk", "add", "x", "--ram", "1M", "--null", "1M"], ["--ram and --null"]),
    (["disk", "add", "x", "--ram", "1000"], ["--ram", "multiple", "512", "1000"]),
    (["disk", "resize", "x", "1Q"], ["[SIZE]", "1Q"]),
    (["qos", "set", "x"], ["expected a limit"]),
    (["disk", "limit", "x"], ["expected a limit"]),
    (["disk", "limit", "x", "--read-bandwidth-burst", "5"], ["--read-bandwidth-burst", "whole MiB"]),
    (["qos", "set", "x", "--bandwidth", "1000"], ["--bandwidth", "whole MiB", "1000"]),
    (["nvme", "add", "x", "--vhost-user", "--dir", "d"], ["--dir", "--vhost-user"]),
    (["log", "level", "loud"], ["ERROR, WARNING, NOTICE, INFO, DEBUG", "loud"]),
    (["completion", "fish"], ["bash", "fish"]),
    (["top", "--batch", "--sort", "size"], ["--sort", "size"]),
    (["top", "--batch", "-d", "1ms"], ["--interval", "100 ms"]),
    (["rpc", "log_get_level", "{"], ["PARAMS", "JSON"]),
    (["--timeout", "soon", "status"], ["--timeout", "soon"]),
    ([], ["usage: vhostctl"]),
])
def test_a_wrong_command_line_is_exit_2_and_names_what_is_wrong(room, words, said):
    r = Ctl(f"{room}/rpc").run(*words)
    assert r.returncode == USAGE and r.stdout == "", r
    for word in said:
        assert word in r.stderr, r.stderr


# ---- help ----

def test_every_verb_of_the_help_has_a_help_of_its_own(room):
    ctl = Ctl(f"{room}/rpc")
    verbs = [line[2:18].strip() for line in ctl("help").split("\n") if line.startswith("  ") and line[2:3].islower()]
    assert {"disk add", "nvme ns rm", "top", "completion"} <= set(verbs)
    for verb in verbs:
        words = verb.split()
        assert ctl("help", *words) == ctl(*words, "--help")
        assert ctl("help", *words).startswith("vhostctl " + verb)
    assert ctl("--version").startswith("vhostctl 0.")


def test_the_manual_knows_every_verb_and_exit_code(room):
    with open(os.path.join(os.path.dirname(__file__), "../../docs/man/vhostctl.1"), encoding="utf-8") as f:
        text = f.read().replace("\\-", "-").replace(".B ", "").replace("\\fB", "").replace("\\fR", "")
    ctl = Ctl(f"{room}/rpc")
    for line in ctl("help").split("\n"):
        if line.startswith("  ") and line[2:3].islower():
            assert line[2:18].strip() in text, line
    assert "NO_COLOR" in text and "VHOSTD_RPC_SOCKET" in text


def test_the_manual_of_the_daemon_knows_every_option():
    with open(os.path.join(os.path.dirname(__file__), "../../docs/man/vhostd.1"), encoding="utf-8") as f:
        text = f.read().replace("\\-", "-")
    said = subprocess.run([VHOSTD, "--help"], capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout
    for option in set(re.findall(r"--[a-z][a-z-]+", said)):
        assert option in text, option


def test_all_calls_of_the_verbs_are_methods_of_the_daemon(ctl):
    methods = set(ctl.json("rpc", "rpc_get_methods"))
    for line in ctl("help").split("\n"):
        if line.startswith("  ") and line[2:3].islower():
            calls = [x for x in ctl("help", *line[2:18].split()).split("\n") if x.startswith("calls:")]
            for method in calls[0].split()[1:] if calls else []:
                assert method in methods, f"{line[2:18]}: {method}"


# ---- disks ----

def test_a_disk_of_a_file_is_made_shown_resized_and_removed(ctl, room, image):
    image("disk.img", 8 * MIB)
    said = ctl("disk", "add", "vm1", "--file", "disk.img", "--serial", "S", cwd=room)
    assert f"{room}/vm1" in said and "8 MiB" in said
    assert os.path.exists(f"{room}/vm1")
    disk, = ctl.json("disk", "list")
    assert disk == {**disk, "name": "vm1", "socket": f"{room}/vm1", "transport": "vhost-user", "bdev": "vm1", "product": "AIO disk",
                    "file": f"{room}/disk.img", "size_bytes": 8 * MIB, "block_size": 512, "read_only": False,
                    "state": "waiting", "sessions": 0, "inflight": 0}
    assert list(disk) == ["name", "socket", "transport", "bdev", "product", "file", "size_bytes", "block_size", "read_only",
                          "state", "sessions", "inflight"]
    assert ctl.json("disk", "show", "vm1") == disk
    ctl("disk", "resize", "vm1", "16M")
    assert os.path.getsize(f"{room}/disk.img") == 16 * MIB
    os.truncate(f"{room}/disk.img", 32 * MIB)
    assert "32 MiB" in ctl("disk", "resize", "vm1")
    ctl("disk", "rm", "vm1")
    assert ctl.json("disk", "list") == [] and ctl.json("bdev", "list") == []
    assert "no disks: vhostctl disk add" in ctl("disk", "list")
    assert not os.path.exists(f"{room}/vm1") and os.path.exists(f"{room}/disk.img")


def test_the_file_of_a_new_disk_is_made_on_request_only(ctl, room):
    path = f"{room}/new.img"
    assert "--size SIZE makes it" in ctl.fails(REFUSED, "disk", "add", "vm1", "--file", path)
    assert not os.path.exists(path)
    assert "--file" in ctl.fails(USAGE, "disk", "add", "vm1", "--ram", "1M", "--size", "1M")
    assert "multiple" in ctl.fails(REFUSED, "disk", "add", "vm1", "--file", path, "--size", "1000")
    assert not os.path.exists(path)
    assert "8 MiB" in ctl("disk", "add", "vm1", "--file", path, "--size", "8M")
    assert os.path.getsize(path) == 8 * MIB and os.stat(path).st_mode & 0o777 == 0o600
    assert "create_size" not in ctl("config", "save")
    ctl("disk", "rm", "vm1")
    assert "exists" in ctl.fails(REFUSED, "disk", "add", "vm1", "--file", path, "--size", "8M")
    assert os.path.getsize(path) == 8 * MIB
    ctl("disk", "add", "vm1", "--file", path)


def test_a_disk_over_vfio_user_is_a_disk_like_others(ctl, room, image):
    image("disk.img", 8 * MIB)
    ctl("rpc", "vfu_tgt_set_base_path", json.dumps({"path": room}))
    ctl("disk", "add", "pci", "--vfio-user", "--file", f"{room}/disk.img", "--read-only")
    disk, = ctl.json("disk", "list")
    assert disk["transport"] == "vfio-user" and disk["bdev"] == "pci" and disk["read_only"]
    assert disk["size_bytes"] == 8 * MIB
    assert os.path.exists(disk["socket"])
    ctl("disk", "rm", "pci")
    assert ctl.json("disk", "list") == [] and ctl.json("bdev", "list") == []
    assert "--read-only" in ctl.fails(USAGE, "disk", "add", "x", "--vfio-user", "--ram", "1M", "--read-only")


def test_what_is_behind_a_disk_is_exchanged(ctl, room, image):
    image("one", 8 * MIB)
    image("two", 8 * MIB)
    image("small", 1 * MIB)
    ctl("disk", "add", "a", "--file", f"{room}/one")
    ctl("disk", "swap", "a", "--file", f"{room}/two")
    disk, = ctl.json("disk", "list")
    assert disk["file"] == f"{room}/two"
    ctl.fails(REFUSED, "disk", "swap", "a", "--file", f"{room}/small")
    ctl("bdev", "add", "m", "--ram", "8M")
    ctl("disk", "swap", "a", "--bdev", "m")
    assert len(ctl.json("bdev", "list")) == 1
    assert "--file" in ctl.fails(USAGE, "disk", "swap", "a")


def test_devices_of_the_command_line_are_shown_drained_and_moved(served, load, room):
    device, = served.json("device", "list")
    assert device["name"] == "null" and device["from_command_line"]
    assert "null" in served("device", "list") and "1 GiB" in served("disk", "list")
    load(f"{room}/null")
    wait_serving(served, "null")

    def count():
        return served.json("stats")["devices"][0]["disks"][0]["operations"]["read"]["ops"]

    served("device", "drain", "null")
    before = count()
    assert served.json("stats")["devices"][0]["disks"][0]["in_flight"] == 0 and count() == before
    served("device", "resume", "null")
    wait_for("requests after the drain", lambda: count() > before)
    served("device", "move", "null", "0", "0")
    queue = [q for q in served.json("stats")["devices"][0]["queues"] if q["queue"] == 0]
    assert queue[0]["loop"] == served.json("stats")["loops"][0]["name"]
    assert "999" in served.fails(REFUSED, "device", "move", "null", "0", "999")


def test_the_bdev_of_a_disk_can_be_given_and_kept(ctl):
    ctl("bdev", "add", "m", "--ram", "4M", "--block-size", "4K")
    ctl("disk", "add", "a", "--bdev", "m", "--read-only")
    ctl("disk", "add", "b", "--null", "1G")
    disks = {d["name"]: d for d in ctl.json("disk", "list")}
    assert disks["a"]["bdev"] == "m" and disks["a"]["read_only"] and disks["a"]["block_size"] == 4096
    assert disks["b"]["size_bytes"] == 1 << 30 and disks["b"]["product"] == "Null disk"
    ctl("disk", "rm", "a")
    ctl("disk", "rm", "b", "--keep-bdev")
    assert sorted(b["name"] for b in ctl.json("bdev", "list")) == ["b", "m"]


def test_the_table_of_disks_is_aligned(ctl):
    ctl("disk", "add", "a-long-name", "--ram", "4M")
    ctl("disk", "add", "b", "--null", "1G")
    title, *rows = ctl("disk", "list").rstrip("\n").split("\n")
    assert title.split() == ["NAME", "SIZE", "MODE", "STATE", "BDEV", "FILE", "SOCKET"]
    for row in rows:
        assert row[title.index("MODE")] == "r" and row[title.index("STATE")] == "w", rows
    assert "\x1b" not in title


def test_a_disk_that_cannot_be_made_leaves_nothing_behind(ctl, room):
    assert "absent" in ctl.fails(REFUSED, "disk", "add", "a", "--file", f"{room}/absent")
    assert "20" in ctl.fails(REFUSED, "disk", "add", "a", "--ram", "1M", "--serial", "x" * 21)
    assert ctl.json("bdev", "list") == []
    ctl("disk", "add", "a", "--ram", "1M")
    ctl.fails(REFUSED, "disk", "add", "a", "--ram", "1M")
    assert "nope" in ctl.fails(REFUSED, "disk", "add", "b", "--bdev", "nope")
    assert [d["name"] for d in ctl.json("disk", "list")] == ["a"]
    assert [b["name"] for b in ctl.json("bdev", "list")] == ["a"]


@pytest.mark.parametrize("words", [
    ["disk", "rm", "nope"], ["disk", "show", "nope"], ["disk", "list", "nope"], ["disk", "resize", "nope", "1M"],
    ["bdev", "show", "nope"], ["bdev", "rm", "nope"], ["qos", "set", "nope", "--iops", "1"], ["disk", "limit", "nope", "--iops", "1"],
    ["scsi", "rm", "nope"],
    ["scsi", "target", "add", "nope", "--ram", "1M"], ["scsi", "target", "rm", "nope", "0"],
    ["scsi", "start", "nope"], ["device", "list", "nope"], ["device", "drain", "nope"], ["disk", "swap", "nope", "--file", "/x"],
    ["device", "resume", "nope"], ["device", "move", "nope", "0", "0"], ["scsi", "list", "nope"], ["nvme", "list", "nope"], ["nvme", "rm", "nope"],
    ["nvme", "ns", "add", "nope", "--ram", "1M"], ["nvme", "ns", "rm", "nope", "1"], ["stats", "nope"],
    ["top", "-b", "-n1", "nope"],
])
def test_a_name_that_is_not_there_is_refused_by_name(ctl, words):
    assert "nope" in ctl.fails(REFUSED, *words)
    assert ctl.json("bdev", "list") == []


def test_other_parameters_reach_the_method(ctl):
    ctl("disk", "add", "a", "--ram", "1M", "--set", "num_queues=2")
    assert "no_such" in ctl.fails(REFUSED, "disk", "add", "b", "--ram", "1M", "--set", "no_such=2")


def test_limits_of_a_disk_are_those_of_its_bdev(ctl):
    ctl("disk", "add", "a", "--ram", "1M")
    ctl("qos", "set", "a", "--iops", "20000", "--bandwidth", "100M")
    limits = ctl.json("bdev", "show", "a")[0]["assigned_rate_limits"]
    assert limits["rw_ios_per_sec"] == 20000 and limits["rw_mbytes_per_sec"] == 100
    assert "20000 IOPS" in ctl("bdev", "show", "a")


def test_limits_of_a_device_are_its_own(served):
    served("disk", "limit", "null", "--iops", "20000", "--read-bandwidth", "100M",
           "--read-bandwidth-burst", "200M")
    limits = served.json("device", "list", "null")[0]["assigned_rate_limits"]
    assert limits["rw_ios_per_sec"] == 20000 and limits["r_mbytes_per_sec"] == 100
    assert limits["r_mbytes_burst"] == 200 and limits["rw_mbytes_per_sec"] == 0
    assert "20000 IOPS, read 1" in served("device", "list")
    served("disk", "limit", "null", "--iops", "0", "--read-bandwidth", "0")
    assert "IOPS" not in served("device", "list")


def test_what_is_behind_a_device_of_the_command_line_is_exchanged(served, image, room):
    served("disk", "swap", "null", "--file", image("new", 1 << 30))
    assert "is no disk of" in served.fails(REFUSED, "disk", "swap", "null", "--unit", "7", "--file",
                                          f"{room}/new")


# ---- scsi, nvme ----

@pytest.mark.parametrize("transport", ["vhost-user", "vfio-user"])
def test_scsi_targets_come_and_go_with_their_bdevs(ctl, room, transport):
    ctl("scsi", "add", "s", *(["--vfio-user"] if transport == "vfio-user" else []))
    assert os.path.exists(f"{room}/s")
    assert ctl("scsi", "target", "add", "s", "--ram", "1M") == "0\n"
    assert ctl("scsi", "target", "add", "s", "7", "--ram", "2M") == "7\n"
    ctl("bdev", "add", "m", "--ram", "4M")
    assert ctl("scsi", "target", "add", "s", "--bdev", "m") == "1\n"
    c, = ctl.json("scsi", "list")
    assert {t["scsi_dev_num"]: t["luns"][0]["bdev_name"] for t in c["backend_specific"]["scsi"]} == \
        {0: "s.0", 7: "s.7", 1: "m"}
    assert (c["ctrlr"], c["transport"], c["socket"]) == ("s", transport, f"{room}/s")
    assert "s.7" in ctl("scsi", "list", "s")
    ctl.fails(REFUSED, "scsi", "target", "add", "s", "7", "--ram", "2M")
    ctl("scsi", "target", "rm", "s", "7")
    assert sorted(b["name"] for b in ctl.json("bdev", "list")) == ["m", "s.0"]
    assert "scsi list" in ctl.fails(REFUSED, "disk", "rm", "s")
    ctl("scsi", "rm", "s")
    assert [b["name"] for b in ctl.json("bdev", "list")] == ["m"]
    assert "no virtio-scsi controllers" in ctl("scsi", "list")


def test_a_scsi_controller_can_be_started_later(ctl, room):
    ctl("scsi", "add", "s", "--set", "delay=true")
    assert not os.path.exists(f"{room}/s")
    ctl("scsi", "start", "s")
    assert os.path.exists(f"{room}/s")


@pytest.mark.parametrize("way", ["vfio-user", "vhost-user"])
def test_nvme_namespaces_come_and_go_with_their_bdevs(ctl, room, way):
    os.mkdir(f"{room}/dir")
    ctl("nvme", "add", "n", *(["--dir", f"{room}/dir"] if way == "vfio-user" else ["--vhost-user"]))
    ctl("nvme", "ns", "add", "n", "--ram", "1M")
    ctl("bdev", "add", "m", "--ram", "4M")
    ctl("nvme", "ns", "add", "n", "--bdev", "m")
    c, = ctl.json("nvme", "list")
    assert c["name"] == "n" and c["transport"] == way
    assert c["namespaces"] == [{"nsid": 1, "bdev": "n.n1"}, {"nsid": 2, "bdev": "m"}]
    assert "n.n1" in ctl("nvme", "list")
    ctl("nvme", "ns", "rm", "n", "1")
    ctl("nvme", "ns", "rm", "n", "2")
    assert [b["name"] for b in ctl.json("bdev", "list")] == ["m"]
    ctl("nvme", "rm", "n")
    assert "no NVMe controllers" in ctl("nvme", "list")


def test_the_folder_of_an_nvme_controller_is_made_where_sockets_are(ctl, room):
    ctl("nvme", "add", "n")
    assert os.path.exists(f"{room}/n/cntrl")
    subsystem = ctl.json("nvme", "list")[0]["nqn"]
    address = {"trtype": "VFIOUSER", "traddr": "second"}
    ctl("rpc", "nvmf_subsystem_add_listener", json.dumps({"nqn": subsystem, "listen_address": address}))
    assert os.path.exists(f"{room}/second/cntrl")
    ctl("rpc", "nvmf_subsystem_remove_listener", json.dumps({"nqn": subsystem, "listen_address": address}))
    assert not os.path.exists(f"{room}/second")
    os.mkdir(f"{room}/second")
    ctl("rpc", "nvmf_subsystem_add_listener", json.dumps({"nqn": subsystem, "listen_address": address}))
    ctl("nvme", "rm", "n")
    assert not os.path.exists(f"{room}/n") and os.listdir(f"{room}/second") == []


def test_an_nvme_controller_whose_socket_cannot_be_made_leaves_no_subsystem(ctl, room):
    ctl.fails(REFUSED, "nvme", "add", "n", "--dir", f"{room}/absent/dir")
    assert ctl.json("nvme", "list") == []


# ---- the daemon ----

def test_status_tells_what_is_there(ctl):
    ctl("disk", "add", "a", "--ram", "1M")
    said = ctl("status")
    assert str(ctl.daemon.process.pid) in said and "1, 0 with a front-end" in said
    status = ctl.json("status")
    assert list(status) == ["socket", "version", "reactors", "devices", "bdevs", "log_level"]


def test_log_level_is_shown_and_set(served):
    assert served("log", "level") == "NOTICE\n"
    assert served("log", "level", "debug") == "DEBUG\n"
    assert served.json("log", "level") == "DEBUG"


def test_any_method_can_be_called(served):
    assert json.loads(served("rpc", "log_set_level", '{"level": "INFO"}')) is True
    assert served("rpc", "log_get_level") == '"INFO"\n'
    assert served("rpc", "log_set_level", "-", input='{"level": "ERROR"}') == "true\n"
    assert "nope" in served.fails(REFUSED, "rpc", "nope")
    assert "LOUD" in served.fails(REFUSED, "rpc", "log_set_level", '{"level": "LOUD"}')
    error = json.loads(served.run("--json", "rpc", "nope").stderr)["error"]
    assert error["code"] == -32601 and "nope" in error["message"]


def test_events_are_told_as_they_come(ctl):
    follower = subprocess.Popen([VHOSTCTL, "events", "--follow", "--json"], env=ctl.env, stdout=subprocess.PIPE,
                                text=True)
    try:
        ctl("bdev", "add", "a", "--ram", "1M")
        event = json.loads(follower.stdout.readline())
        assert event == {"type": "bdev_register", "ctx": "a", "id": event["id"]}
        ctl("bdev", "rm", "a")
        assert json.loads(follower.stdout.readline())["type"] == "bdev_unregister"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(TIMEOUT_S) == OK
    finally:
        follower.kill()
        follower.wait()
    assert ctl("events", "--type", "bdev_unregister").split() == ["1", "bdev_unregister", "a"]
    assert ctl("events", "--since", "1").count("\n") == 1
    assert ctl("events", "-n", "1").count("\n") == 1


def test_what_config_save_writes_makes_the_same_again(ctl, start, room):
    ctl("disk", "add", "a", "--null", "1G")
    ctl("scsi", "add", "s")
    ctl("scsi", "target", "add", "s", "3", "--ram", "1M")
    ctl("config", "save", f"{room}/saved")
    with open(f"{room}/saved", encoding="utf-8") as f:
        saved = json.load(f)
    assert saved == json.loads(ctl("config", "save"))
    assert [n for n in os.listdir(room) if n.startswith("saved")] == ["saved"]
    os.mkdir(f"{room}/2")
    d = start("-r", f"{room}/rpc2", "-S", f"{room}/2")
    d.wait_listening(f"{room}/rpc2")
    other = Ctl(f"{room}/rpc2")
    other("config", "load", f"{room}/saved")
    assert json.loads(other("config", "save")) == saved
    said = other.fails(REFUSED, "config", "load", f"{room}/saved")
    assert f"{room}/saved: subsystem bdev: config[0]: bdev_null_create" in said
    r = other.run("config", "load", f"{room}/saved", "--keep-going")
    assert r.returncode == REFUSED and "calls failed, 0 were done" in r.stderr


STARTUP = {"subsystems": [
    {"subsystem": "bdev", "config": [
        {"method": "bdev_null_create", "params": {"name": "n", "block_size": 512, "num_blocks": 2048}}]},
    {"subsystem": "iobuf", "config": [{"method": "iobuf_set_options", "params": {"small_pool_count": 8192}}]},
]}


def test_a_daemon_that_waits_is_started_by_config_load(start, room):
    with open(f"{room}/c", "w", encoding="utf-8") as f:
        json.dump(STARTUP, f)
    d = start("-r", f"{room}/rpc", "--wait-for-rpc")
    d.wait_listening(f"{room}/rpc")
    ctl = Ctl(f"{room}/rpc")
    assert ctl.json("config", "load", f"{room}/c") == {"calls": 2}
    assert [b["name"] for b in ctl.json("bdev", "list")] == ["n"]


def test_what_only_a_daemon_that_waits_takes_is_skipped_by_one_that_runs(ctl, room):
    with open(f"{room}/c", "w", encoding="utf-8") as f:
        json.dump(STARTUP, f)
    r = ctl.run("config", "load", f"{room}/c")
    assert r.returncode == OK and "skipped iobuf_set_options: only before the start" in r.stderr
    assert [b["name"] for b in ctl.json("bdev", "list")] == ["n"]


@pytest.mark.parametrize("text, words", [
    ("{", ["line 1", "column"]),
    ("[]", ['{"subsystems": [...]}']),
    ('{"subsystems": [{"subsystem": "bdev", "config": [{"params": {}}]}]}', ["bdev", "config[0]", "method"]),
    ('{"subsystems": [{"subsystem": "x", "config": [[{"method": "nope"}]]}]}', ["x", "config[0]", "nope"]),
])
def test_a_broken_file_is_named_with_the_place(served, room, text, words):
    with open(f"{room}/c", "w", encoding="utf-8") as f:
        f.write(text)
    said = served.fails(REFUSED, "config", "load", f"{room}/c")
    for word in [f"{room}/c", *words]:
        assert word in said, said
    assert "absent" in served.fails(REFUSED, "config", "load", f"{room}/absent")
    assert "standard input" in served.fails(REFUSED, "config", "load", input=text)


def test_a_file_that_cannot_be_written_is_an_error(served, room):
    assert "absent" in served.fails(REFUSED, "config", "save", f"{room}/absent/c")
    with open("/dev/full", "w", encoding="utf-8") as full:
        r = subprocess.run([VHOSTCTL, "stats"], env=served.env, stdout=full, stderr=subprocess.PIPE, text=True,
                           timeout=TIMEOUT_S, check=False)
    assert r.returncode == REFUSED and "standard output: No space left" in r.stderr


# ---- stats, top ----

def test_stats_and_top_show_a_device_under_load(served, load, room):
    load(f"{room}/null")
    wait_serving(served, "null")
    rounds = [json.loads(line) for line in served("top", "--json", "-n", "2", "-d", "300ms").splitlines()]
    assert len(rounds) == 2
    device, = rounds[1]["devices"]
    assert list(device) == ["name", "type", "transport", "state", "read_iops", "write_iops", "read_bytes_per_s",
                            "write_bytes_per_s", "latency", "in_flight", "oldest_ns", "errors", "reconnects", "queues"]
    assert device["read_iops"] > 0 and device["write_iops"] > 0
    assert device["read_bytes_per_s"] == pytest.approx(device["read_iops"] * 4096)
    assert 0 < device["latency"]["p50_ns"] <= device["latency"]["p99_ns"] <= device["latency"]["p999_ns"]
    assert any(loop["busy_percent"] > 1 for loop in rounds[1]["loops"])
    text = served("top", "--batch", "-n", "1", "-d", "300ms")
    assert "1 device, 1 serving" in text and "DEVICE" in text and "\x1b" not in text
    text = served("top", "--batch", "-n", "1", "-d", "300ms", "null")
    assert [line.split()[1] for line in text.splitlines() if line.startswith("null ")] == ["0.0", "0.1"]
    text = served("stats", "--queues")
    assert "serving" in text and "0.1" in text and "running" in text
    by_queue = [line.split() for line in text[text.index("OPERATION"):].splitlines()[1:]]
    assert [row[1:3] for row in by_queue] == [["0.0", "read"], ["0.0", "write"], ["0.1", "read"], ["0.1", "write"]]
    queues = device["queues"]
    assert [q["queue"] for q in queues] == [0, 1]
    assert sum(q["operations"]["read"]["iops"] for q in queues) == pytest.approx(device["read_iops"], rel=0.2)
    assert all(q["operations"]["write"]["latency"]["p50_ns"] > 0 for q in queues)


def test_slow_requests_are_shown(ctl, load, room):
    assert "--threshold" in ctl("slow")
    ctl("bdev", "add", "m", "--ram", "1M")
    ctl("rpc", "bdev_delay_create", json.dumps({"base_bdev_name": "m", "name": "d", **{
        f"{which}_latency": 200000 for which in ("avg_read", "p99_read", "avg_write", "p99_write")}}))
    ctl("rpc", "vhost_create_blk_controller", json.dumps({"ctrlr": "vm1", "dev_name": "d"}))
    assert "no slow requests" in ctl("slow", "--threshold", "100ms")
    load(f"{room}/vm1")
    wait_for("one that ended", lambda: any(r["state"] == "ended" for r in ctl.json("slow")["requests"]),
             LOAD_TIMEOUT_S)
    text = ctl("slow")
    row = next(line.split() for line in text.splitlines() if line.endswith(" ok"))
    assert row[3] == "vm1" and row[4].startswith("0.") and row[6] in ("read", "write"), text
    assert "threshold 100 ms" in text
    assert "no slow requests" not in ctl("slow", "--threshold", "0")
    assert "threshold" not in ctl("slow")
    ctl.fails(USAGE, "slow", "--threshold", "x")


@pytest.fixture
def terminal(room):
    """terminal(*words): vhostctl in a real terminal of 120 x 30."""
    if not shutil.which("tmux"):
        pytest.skip("no tmux (package tmux)")
    tmux = ["tmux", "-S", f"{room}/tmux", "-f", "/dev/null"]

    class Terminal:
        status = f"{room}/status"

        def do(self, *words):
            return subprocess.run([*tmux, *words], capture_output=True, text=True, timeout=TIMEOUT_S,
                                  check=True).stdout

        def begin(self, *words, width=120, height=30):
            env = [f"VHOSTD_RPC_SOCKET={room}/rpc", "TERM=tmux-256color", "LC_ALL=C.UTF-8"]
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.status)
            # tmux itself loses the status of a program that ends early, now and then.
            self.do("new-session", "-d", "-x", str(width), "-y", str(height), "-s", "t",
                    "sh", "-c", 'trap : INT; env "$@"; echo $? >"$0"; sleep 60', self.status, *env, *words)

        def keys(self, *keys):
            self.do("send-keys", "-t", "t", *keys)

        def screen(self):
            return self.do("capture-pane", "-p", "-t", "t")

        def wait(self, what, condition):
            last = ""

            def holds():
                nonlocal last
                last = self.screen()
                return condition(last)
            try:
                wait_for(what, holds)
            except AssertionError as e:
                raise AssertionError(f"{e}; the screen has:\n{last}") from None
            return last

        def wait_ended(self):
            def status():
                try:
                    with open(self.status, encoding="ascii") as f:
                        return f.read().strip()
                except FileNotFoundError:
                    return ""
            wait_for("its end", status)
            return int(status())

    t = Terminal()
    yield t
    subprocess.run([*tmux, "kill-server"], capture_output=True, timeout=TIMEOUT_S, check=False)


def test_top_shows_devices_and_queues_in_a_terminal(served, load, terminal, room):
    load(f"{room}/null")
    wait_serving(served, "null")
    terminal.begin(VHOSTCTL, "top", "-d", "200ms")
    screen = terminal.wait("a device that serves", lambda s: "null" in s and "serving" in s and "us" in s)
    assert re.search("\x1b\\[[0-9;]*32mserving", terminal.do("capture-pane", "-p", "-e", "-t", "t"))
    lines = screen.split("\n")
    assert "vhostctl top" in lines[0] and "1 device, 1 serving" in lines[1] and "IOPS" in lines[1]
    assert any(line.startswith("vhostd") and "[" in line and "%" in line for line in lines)
    assert lines[29].startswith("q quit")
    terminal.keys("s")
    terminal.wait("another order", lambda s: "by iops" in s)
    terminal.keys("l")
    terminal.wait("the order by latency", lambda s: "by latency" in s)
    terminal.keys("Enter")
    terminal.wait("its queues", lambda s: "OPERATION" in s and "0.1" in s and "running" in s and "write" in s)
    terminal.keys("Escape")
    terminal.wait("the devices", lambda s: "OPERATION" not in s and "READ/S" in s)
    terminal.keys("a")
    terminal.wait("all queues", lambda s: "KICK/S" in s)
    terminal.keys("h")
    terminal.wait("help", lambda s: "pause" in s and "select a device" in s)
    terminal.keys("x")
    terminal.wait("the queues again", lambda s: "KICK/S" in s)
    terminal.keys("q")
    assert terminal.wait_ended() == OK


def test_top_stands_still_when_paused(served, load, terminal, room):
    load(f"{room}/null")
    wait_serving(served, "null")
    terminal.begin(VHOSTCTL, "top", "-d", "100ms")
    terminal.wait("a device that serves", lambda s: "serving" in s)
    terminal.keys("p")
    screen = terminal.wait("PAUSED", lambda s: "PAUSED" in s)
    for _ in range(5):
        time.sleep(0.1)
        assert terminal.screen().split("\n")[1:] == screen.split("\n")[1:]
    terminal.keys("p")
    terminal.wait("other figures", lambda s: s.split("\n")[1:] != screen.split("\n")[1:])


def test_top_follows_the_size_of_the_terminal(served, terminal):
    terminal.begin(VHOSTCTL, "top", "-d", "100ms")
    terminal.wait("the keys in line 30", lambda s: s.split("\n")[29].startswith("q quit"))
    terminal.do("resize-window", "-t", "t", "-x", "60", "-y", "12")
    terminal.wait("the keys in line 12", lambda s: s.split("\n")[11].startswith("q quit"))
    terminal.do("resize-window", "-t", "t", "-x", "20", "-y", "3")
    terminal.wait("the keys in line 3", lambda s: s.split("\n")[2].startswith("q quit"))
    terminal.do("resize-window", "-t", "t", "-x", "120", "-y", "40")
    terminal.wait("the keys in line 40", lambda s: s.split("\n")[39].startswith("q quit"))
    terminal.keys("q")
    assert terminal.wait_ended() == OK


def test_top_waits_for_a_daemon_that_went_away(start, terminal, room, served):
    d = start("-r", f"{room}/rpc3", "--device", f"blk,name=one,socket={room}/one,null=1G")
    d.wait_listening(f"{room}/rpc3")
    terminal.begin(VHOSTCTL, "-s", f"{room}/rpc3", "top", "-d", "100ms")
    terminal.wait("the device", lambda s: "one" in s)
    assert d.end() == 0
    terminal.wait("no daemon", lambda s: "NO DAEMON" in s)
    d = start("-r", f"{room}/rpc3", "--device", f"blk,name=two,socket={room}/two,null=1G")
    terminal.wait("the new daemon's device", lambda s: "two" in s and "NO DAEMON" not in s)
    terminal.keys("q")
    assert terminal.wait_ended() == OK


def test_top_without_a_terminal_says_what_to_do(served):
    assert "--batch" in served.fails(REFUSED, "top")


def test_colour_is_for_terminals_only(served, terminal):
    terminal.begin("sh", "-c", f"{VHOSTCTL} stats")
    assert terminal.wait_ended() == OK
    assert "\x1b[2m" in terminal.do("capture-pane", "-p", "-e", "-t", "t")
    terminal.do("kill-session", "-t", "t")
    terminal.begin("NO_COLOR=1", "sh", "-c", f"{VHOSTCTL} stats")
    assert terminal.wait_ended() == OK
    assert "\x1b[2m" not in terminal.do("capture-pane", "-p", "-e", "-t", "t")
    assert "\x1b" in served("stats", "--color", "always") and "\x1b" not in served("stats")


# ---- completion ----

COMPLETE = r"""
source <("$1" completion bash) || exit 1
COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2)) COMP_LINE="${*:2}" COMP_POINT=${#COMP_LINE}
_vhostctl
printf '%s\n' "${COMPREPLY[@]}"
"""


def complete(ctl, *words, cwd="/"):
    """What a bash offers for the last word."""
    path = os.path.dirname(VHOSTCTL) + ":" + ctl.env["PATH"]
    r = subprocess.run(["bash", "--norc", "-c", COMPLETE, "bash", VHOSTCTL, "vhostctl", *words], text=True,
                       capture_output=True, timeout=TIMEOUT_S, check=False, cwd=cwd, env={**ctl.env, "PATH": path})
    assert r.returncode == 0, r.stderr
    return r.stdout.split()


def test_bash_completes_verbs_and_options(served):
    assert complete(served, "d") == ["disk", "device"]
    assert complete(served, "disk", "r") == ["resize", "rm"]
    assert complete(served, "nvme", "") == ["add", "list", "rm", "ns"]
    assert complete(served, "nvme", "ns", "r") == ["rm"]
    assert complete(served, "disk", "add", "x", "--re") == ["--read-only"]
    assert complete(served, "--js") == ["--json"]
    assert complete(served, "disk", "list", "--js") == ["--json"]
    assert complete(served, "log", "level", "DEB") == ["DEBUG"]
    assert complete(served, "completion", "") == ["bash"]
    assert complete(served, "nope", "x", "") == []


def test_bash_completes_files(served, room):
    with open(f"{room}/disk.img", "w", encoding="utf-8"):
        pass
    assert complete(served, "disk", "add", "x", "--file", "di", cwd=room) == ["disk.img"]
    assert complete(served, "config", "load", "di", cwd=room) == ["disk.img"]
    assert "rpc" in complete(served, "-s", "", cwd=room)


def test_bash_completes_methods_by_asking_the_daemon(served):
    assert complete(served, "rpc", "log_get_l") == ["log_get_level"]


def test_bash_completes_names_by_asking_the_daemon(ctl):
    ctl("disk", "add", "vm1", "--ram", "1M")
    ctl("scsi", "add", "s1")
    ctl("bdev", "add", "m 1", "--ram", "1M")
    assert complete(ctl, "disk", "rm", "") == ["vm1"]
    assert complete(ctl, "scsi", "rm", "") == ["s1"]
    assert complete(ctl, "disk", "add", "x", "--bdev", "") == ["vm1", "m\\", "1"]
    assert complete(ctl, "qos", "set", "v", ) == ["vm1", "vm1"]


def test_completion_without_a_daemon_offers_verbs_and_no_errors(room):
    ctl = Ctl(f"{room}/rpc")
    assert complete(ctl, "disk", "rm", "") == []
    assert complete(ctl, "disk", "r") == ["resize", "rm"]


def test_the_kept_completion_is_what_is_printed(room):
    with open(os.path.join(os.path.dirname(__file__), "../../docs/vhostctl.bash"), encoding="utf-8") as f:
        assert f.read() == Ctl(f"{room}/rpc")("completion", "bash")


# ---- long work ----

@pytest.fixture
def slow(ctl, room):
    """A bdev 'a' with data that is read at 10 MiB a second, and 'b' of its size."""
    with open(f"{room}/a", "wb") as f:
        f.write(os.urandom(32 * MIB))
    ctl("bdev", "add", "a", "--file", f"{room}/a")
    ctl("bdev", "add", "b", "--ram", "32M")
    ctl("qos", "set", "a", "--read-bandwidth", "10M")
    return ctl


def quick(ctl):
    ctl("qos", "set", "a", "--read-bandwidth", "0")


def wait_moving(ctl, job):
    wait_for("some of it", lambda: ctl.json("rpc", "job_get_jobs", json.dumps({"id": job}))[0]["done_bytes"])


def test_a_disk_is_copied_and_formatted(slow, room):
    quick(slow)
    assert re.match(r"job 1: copy of b, 32 MiB in \d+ s\n$", slow("disk", "copy", "a", "b"))
    slow("bdev", "add", "c", "--ram", "32M")
    job = slow.json("disk", "copy", "b", "c")
    assert job == {**job, "id": 2, "kind": "copy", "name": "c", "source": "b", "state": "done", "done_bytes": 32 * MIB}
    assert "job 3: format of b" in slow("disk", "format", "b")
    said = slow("jobs")
    assert [line.split()[:5] for line in said.splitlines()] == [
        ["ID", "KIND", "NAME", "FROM", "STATE"], ["1", "copy", "b", "a", "done"], ["2", "copy", "c", "b", "done"],
        ["3", "format", "b", "-", "done"]]
    assert [j["id"] for j in slow.json("jobs", "b")] == [1, 2, 3] and [j["id"] for j in slow.json("jobs", "a")] == [1]
    slow("disk", "add", "vm", "--bdev", "b")
    assert "is used" in slow.fails(REFUSED, "disk", "copy", "a", "vm")
    assert "no bdev" in slow.fails(REFUSED, "disk", "copy", "a", "nope")
    assert "no job 99" in slow.fails(REFUSED, "jobs", "cancel", "99")


def test_the_bar_shows_rate_percentage_and_time_left(slow, terminal):
    slow("qos", "set", "a", "--read-bandwidth", "1M")
    terminal.begin(VHOSTCTL, "disk", "copy", "a", "b")
    shape = r"copy a to b  \[=+> *\]  +\d+ %  [\d.]+ MiB of 32 MiB  [\d.]+ MiB/s  \d+ s left"
    screen = terminal.wait("a bar", lambda s: re.search(shape, s))
    assert len([line for line in screen.splitlines() if line]) == 1
    terminal.do("resize-window", "-t", "t", "-x", "60", "-y", "12")
    terminal.wait("a line without a bar", lambda s: re.search(r"copy a to b  +\d+ %  ", s) and "[" not in s.splitlines()[-1])
    quick(slow)
    terminal.wait("all of it", lambda s: "100 %" in s and "job 1: copy of b, 32 MiB in" in s)
    assert terminal.wait_ended() == OK


def test_ctrl_c_cancels_and_says_so(slow, terminal):
    slow("qos", "set", "a", "--read-bandwidth", "1M")
    terminal.begin(VHOSTCTL, "disk", "copy", "a", "b")
    terminal.wait("a bar", lambda s: re.search(r"\[=+>", s))
    terminal.keys("C-c")
    terminal.wait("what became of it", lambda s: "interrupted: job 1 is being cancelled" in s and
                  "job 1 (copy of b) was cancelled; the bdev is incomplete" in s.replace("\n", " "))
    assert terminal.wait_ended() == REFUSED
    assert slow.json("jobs")[0]["state"] == "cancelled"


def test_without_a_terminal_there_are_lines_or_none(slow):
    said = slow.run("disk", "copy", "a", "b")
    assert said.returncode == OK or "cancelled" in said.stderr
    for line in said.stderr.splitlines():
        assert re.match(r"copy a to b  +\d+ %  ", line) and "\r" not in line and "\x1b" not in line
    quick(slow)
    assert slow("disk", "copy", "a", "b", "--quiet").startswith("job 2")


def test_a_program_reads_lines_of_json(slow):
    lines = [json.loads(x) for x in slow("disk", "copy", "a", "b", "--json", "--progress").splitlines()]
    assert len(lines) >= 2 and lines[-1]["state"] == "done" and lines[0]["state"] == "running"
    assert [x["done_bytes"] for x in lines] == sorted(x["done_bytes"] for x in lines)


def test_work_goes_on_in_the_background(slow):
    assert "job 1: goes on; vhostctl jobs wait 1" in slow("disk", "copy", "a", "b", "--background")
    wait_moving(slow, 1)
    job, = slow.json("jobs")
    assert job["state"] == "running" and job["cancellable"]
    assert complete(slow, "jobs", "cancel", "") == ["1"]
    assert slow("jobs", "cancel", "1") == ""
    assert "job 1 (copy of b) was cancelled" in slow.fails(REFUSED, "jobs", "wait", "1", "-q")
    assert "not whole" in slow.fails(REFUSED, "disk", "add", "vm", "--bdev", "b")
    assert "has ended" in slow.fails(REFUSED, "jobs", "cancel", "1")
    quick(slow)
    job = slow.json("disk", "copy", "a", "b", "--background")
    assert slow.json("jobs", "wait", str(job["id"]))["state"] == "done"


def test_a_failure_is_exit_1_with_its_reason(slow):
    quick(slow)
    slow("rpc", "bdev_error_create", json.dumps({"base_name": "b"}))
    slow("rpc", "bdev_error_inject_error", json.dumps({"name": "EE_b", "io_type": "write", "error_type": "failure", "num": 1}))
    assert 'job 1 (copy) failed: dst: "EE_b": write at byte' in slow.fails(REFUSED, "disk", "copy", "a", "EE_b")
    assert "job 1: dst: " in slow("jobs")
    said = slow.run("jobs", "wait", "1", "--json")
    assert said.returncode == REFUSED and "write at byte" in json.loads(said.stderr)["error"]["message"]


def test_a_disk_grows_with_its_space_allocated(ctl, room, image):
    image("disk.img", 8 * MIB)
    ctl("disk", "add", "vm1", "--file", f"{room}/disk.img")
    assert "64 MiB" in ctl("disk", "resize", "vm1", "64M", "--allocate")
    assert os.path.getsize(f"{room}/disk.img") == 64 * MIB and os.stat(f"{room}/disk.img").st_blocks * 512 >= 56 * MIB
    assert "force" in ctl.fails(REFUSED, "disk", "resize", "vm1", "8M")
    assert "8 MiB" in ctl("disk", "resize", "vm1", "8M", "--force")
    assert "expected SIZE" in ctl.fails(USAGE, "disk", "resize", "vm1", "--allocate")
    assert "goes on" in ctl("disk", "resize", "vm1", "16M", "--allocate", "--background")
    assert ctl.json("bdev", "resize", "vm1", "32M", "--allocate")[0]["num_blocks"] == 65536
    assert ctl.json("disk", "show", "vm1")["size_bytes"] == 32 * MIB == os.path.getsize(f"{room}/disk.img")


def test_disks_of_the_command_line_grow_too(start, room, image):
    d = start("-r", f"{room}/rpc", "--device", f"blk,name=vm1,socket={room}/vm1,file={image('one', 8 * MIB)}",
              "--device", f"scsi,name=s,socket={room}/s,target=0:file={image('two', 8 * MIB)},"
              f"target=1:file={image('three', 8 * MIB)}")
    d.wait_listening(f"{room}/rpc")
    ctl = Ctl(f"{room}/rpc")
    assert "64 MiB" in ctl("disk", "resize", "vm1", "64M", "--allocate")
    assert os.path.getsize(f"{room}/one") == 64 * MIB
    assert "2 disks" in ctl.fails(REFUSED, "disk", "resize", "s", "16M")
    assert "16 MiB" in ctl("disk", "resize", "s", "16M", "--unit", "1/0")
    os.truncate(f"{room}/one", 128 * MIB)
    assert "128 MiB" in ctl("disk", "resize", "vm1")
    assert "no device" in ctl.fails(REFUSED, "disk", "resize", "nope", "16M", "--unit", "1/0")
