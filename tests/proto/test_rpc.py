"""The management socket of the real binary: framing, many clients, roles, every method's parameters."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from conftest import TIMEOUT_S, VHOSTD, connects, wait_for
from rpcclient import Rpc, RpcError, methods

USAGE = 2
RUNTIME = 1
REQUEST_BYTES_MAX = 1 << 20
CLIENTS_MAX = 64
VERSION = {"jsonrpc": "2.0", "id": 1, "method": "spdk_get_version"}
BENCH = os.path.join(os.path.dirname(VHOSTD), "vhostd-bench")
METHODS = methods()
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def serve(room, start):
    """serve(*args): a daemon with a management socket; returns it and the path."""
    def run(*args, name="rpc", **popen):
        path = os.path.join(room, name)
        d = start("--rpc-socket", path, *args, cwd=room, **popen)
        d.wait_listening(path)
        return d, path
    return run


# ---- framing ----

def test_byte_by_byte_and_all_at_once_are_answered_alike(serve):
    _, path = serve()
    with Rpc(path) as rpc:
        for byte in json.dumps(VERSION, indent=4).encode():
            rpc.send(bytes([byte]))
        slow = rpc.answer()
        rpc.send(json.dumps(VERSION).encode() * 200)
        assert all(rpc.answer() == slow for _ in range(200))
        rpc.send(b" \n" + json.dumps(VERSION).encode() + b"\n\n" + json.dumps(VERSION).encode()[:9])
        assert rpc.answer() == slow
        rpc.send(json.dumps(VERSION).encode()[9:])
        assert rpc.answer() == slow


def test_a_batch_is_answered_in_its_order_without_its_notifications(serve):
    _, path = serve()
    with Rpc(path) as rpc:
        batch = [{**VERSION, "id": i} for i in range(300)]
        batch[7] = {"jsonrpc": "2.0", "method": "spdk_get_version"}
        batch[9] = 1
        answers = rpc.ask(batch)
        assert [a["id"] for a in answers] == [*range(7), 8, None, *range(10, 300)]
        rpc.send([{"method": "spdk_get_version"}])
        assert rpc.ask({**VERSION, "id": "after"})["id"] == "after"


@pytest.mark.parametrize("request_id", [0, -5, 1.25, "", "a" * 5000, "é\n\"", None, 2**63 - 1],
                         ids=range(8))
def test_an_id_comes_back_as_it_was(serve, request_id):
    _, path = serve()
    with Rpc(path) as rpc:
        answer = rpc.ask({**VERSION, "id": request_id})
        assert answer["id"] == request_id and "result" in answer


@pytest.mark.parametrize("sent, code, words", [
    (b"x", -32700, ["0x78"]),
    (b'{"a":}', -32700, ["line 1, column"]),
    (b'{"a":1,"a":2}', -32700, ["duplicate"]),
    (b"[" * 65, -32700, ["64"]),
    (b"[" + b"0," * 70000, -32700, ["65536"]),
    (b'{"id":"' + b"x" * (REQUEST_BYTES_MAX + 10), -32600, [str(REQUEST_BYTES_MAX)]),
], ids=["a letter", "no value", "a key twice", "too deep", "too many values", "too long"])
def test_what_is_no_request_is_answered_and_ends_the_connection(serve, sent, code, words):
    _, path = serve()
    with Rpc(path) as rpc:
        try:
            rpc.send(sent)
        except OSError:
            pass # it was refused before all of it was sent
        answer = rpc.answer()
        assert answer["id"] is None and answer["error"]["code"] == code
        for word in words:
            assert word in answer["error"]["message"], answer
        with pytest.raises((EOFError, ConnectionError)):
            rpc.answer()
    with Rpc(path) as rpc:
        assert rpc.call("spdk_get_version")


def test_a_request_of_nearly_a_megabyte_is_served(serve):
    _, path = serve()
    with Rpc(path) as rpc:
        answer = rpc.ask({**VERSION, "id": "x" * (REQUEST_BYTES_MAX - 200)})
        assert len(answer["id"]) == REQUEST_BYTES_MAX - 200


def test_who_has_sent_all_and_closed_that_side_gets_all_answers(serve):
    _, path = serve()
    with Rpc(path) as rpc:
        rpc.send(json.dumps(VERSION).encode() * 100)
        rpc.socket.shutdown(socket.SHUT_WR)
        for _ in range(100):
            rpc.answer()
        with pytest.raises(EOFError):
            rpc.answer()


def test_an_answer_of_a_megabyte_comes_whole_to_a_slow_reader(serve):
    _, path = serve()
    with Rpc(path) as rpc:
        one = rpc.ask({**VERSION, "method": "rpc_get_methods"})
        rpc.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        count = (1 << 20) // len(json.dumps(one))
        rpc.send([{**VERSION, "method": "rpc_get_methods"}] * count)
        text = b""
        while not text.endswith(b"\n"):
            text += rpc.socket.recv(5000)
        assert json.loads(text) == [one] * count


def test_a_large_batch_of_one_client_does_not_keep_others_waiting(serve):
    _, path = serve()
    with Rpc(path) as greedy, Rpc(path) as other:
        greedy.send([{**VERSION, "method": "rpc_get_methods"}] * 5000)
        other.call("spdk_get_version")
        greedy.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            greedy.answer()
        greedy.socket.settimeout(TIMEOUT_S)
        assert len(greedy.answer()) == 5000


# ---- many clients ----

def test_64_clients_at_once_are_served_and_the_next_waits(serve):
    _, path = serve()
    clients = [Rpc(path) for _ in range(CLIENTS_MAX)]
    for c in clients:
        c.send(VERSION)
    for c in clients:
        assert "result" in c.answer()
    with Rpc(path) as late:
        late.send(VERSION)
        late.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            late.answer()
        late.socket.settimeout(TIMEOUT_S)
        clients.pop().socket.close()
        assert "result" in late.answer()
    for c in clients:
        c.socket.close()


# AddressSanitizer keeps what was freed.
SMALL_QUARANTINE = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") +
                    ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"}


def memory_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(x.split()[1]) for x in f if x.startswith("VmRSS"))


def test_a_client_that_does_not_read_stops_nobody_and_costs_little(serve):
    d, path = serve(env=SMALL_QUARANTINE)
    with Rpc(path) as lazy, Rpc(path) as other:
        request = json.dumps({**VERSION, "method": "rpc_get_methods"}).encode()
        before, sent = memory_kib(d.process.pid), 0
        lazy.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while sent < 1 << 26:
                sent += lazy.socket.send(request * 100)
        assert other.call("spdk_get_version")
        assert memory_kib(d.process.pid) - before < 64 << 10
        lazy.socket.settimeout(TIMEOUT_S)
        for _ in range(sent // len(request)):
            assert "result" in lazy.answer()


def test_a_client_that_reads_slowly_but_all_the_time_costs_little(serve):
    d, path = serve(env=SMALL_QUARANTINE)
    request = json.dumps({**VERSION, "method": "rpc_get_methods"}).encode()
    with Rpc(path) as rpc:
        size = len(json.dumps(rpc.ask(json.loads(request)), separators=(",", ":"))) + 1
        before, ahead = memory_kib(d.process.pid), (350 << 10) // size
        rpc.send(request * ahead)
        for _ in range((32 << 20) // size):
            rpc.send(request)
            left = size
            while left:
                left -= len(rpc.socket.recv(left))
        assert memory_kib(d.process.pid) - before < 16 << 10
        for _ in range(ahead):
            rpc.answer()


def test_clients_that_wait_and_leave_make_room_for_others(serve):
    _, path = serve("--wait-for-rpc")
    for _ in range(6):
        clients = [Rpc(path) for _ in range(CLIENTS_MAX)]
        for c in clients:
            c.send({**VERSION, "method": "framework_wait_init"})
            c.send([{**VERSION, "method": "framework_wait_init"}] * 3)
        for c in clients:
            c.socket.close()
    with Rpc(path) as rpc:
        assert rpc.call("framework_start_init") is True


def test_clients_that_leave_in_the_middle_leave_nothing(serve):
    d, path = serve()
    fds = f"/proc/{d.process.pid}/fd"
    wait_for("the daemon", lambda: connects(path))
    before = len(os.listdir(fds))
    for i in range(200):
        with Rpc(path) as rpc:
            rpc.send(json.dumps(VERSION).encode() * (i % 7) + b'{"jso'[:i % 6])
    wait_for("descriptors to be closed", lambda: len(os.listdir(fds)) <= before)


# ---- latency ----

LATENCY_S = 0.010
ROUNDS = 8
OTHERS_MAX = 0.1  # of the machine's CPU time, used by other processes


def busy_s():
    """CPU time that the machine has used."""
    with open("/proc/stat", encoding="ascii") as f:
        user, nice, system, _, _, irq, softirq = map(int, f.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def used_s(pids):
    """CPU time of these processes and of this one."""
    used = sum(os.times()[:2])
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


class Round:
    """300 calls, one after another: the 99th percentile, and what others had of the machine."""

    def __init__(self, rpc, method, pids):
        times, began = [], time.monotonic()
        others = used_s(pids) - busy_s()
        for _ in range(300):
            call = time.monotonic()
            rpc.call(method)
            times.append(time.monotonic() - call)
            time.sleep(0.001)
        others += busy_s() - used_s(pids)
        self.others = others / (time.monotonic() - began) / os.cpu_count()
        self.p99_s = sorted(times)[297]

    def __repr__(self):
        return f"{self.p99_s * 1000:.2f} ms ({self.others:.0%} of the CPUs used by others)"


@pytest.mark.skipif(not os.path.exists(BENCH), reason="no vhostd-bench")
def test_answers_come_within_10_ms_while_data_loops_are_saturated(serve, room):
    """Each round that had the machine for itself is within the figure; when none had, the best one
    is: others that wait for a CPU at the same time are no fault of the daemon."""
    disk = os.path.join(room, "disk")
    d, path = serve("--device", f"blk,socket={disk},null=1G,num-queues=2", "--cores", "2")
    wait_for("the disk", lambda: connects(disk))
    with subprocess.Popen([BENCH, "--socket", disk, "--queues", "2", "--qd", "32",
                           "--seconds", "120"], stdout=subprocess.DEVNULL) as load, \
            Rpc(path) as rpc:
        try:
            def busy():
                loops = rpc.call("framework_get_reactors")["reactors"]
                return sum(x["iterations"] for x in loops if x["queues"]) > 10000
            wait_for("load on the data loops", busy, 60)
            rounds = [Round(rpc, "vhost_get_controllers", [d.process.pid, load.pid])
                      for _ in range(ROUNDS)]
        finally:
            load.kill()
    print("\n99th percentiles:", *rounds, sep="\n")
    alone = [r for r in rounds if r.others < OTHERS_MAX]
    assert all(r.p99_s < LATENCY_S for r in alone), rounds
    assert min(r.p99_s for r in rounds) < LATENCY_S, rounds


# ---- who may do what ----

def test_the_read_only_socket_refuses_what_changes_something(serve, room):
    _, path = serve("--rpc-readonly-socket", os.path.join(room, "ro"))
    with Rpc(os.path.join(room, "ro")) as rpc:
        for m in METHODS.values():
            if m.startup:
                continue
            if not m.reads:
                with pytest.raises(RpcError) as e:
                    rpc.call(m.name)
                assert e.value.code == -1 and "read-only" in e.value.message
        assert rpc.call("spdk_get_version") and rpc.call("rpc_get_methods")
    with Rpc(path) as rpc:
        assert rpc.call("trace_clear") is True


def ask_as(uid, gid, path, groups=()):
    """The first answer to a client of that user; None: it could not even connect."""
    code = ("import os, socket, sys\n"
            f"os.setgroups({list(groups)}); os.setgid({gid}); os.setuid({uid})\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            "try: s.connect(sys.argv[1])\n"
            "except PermissionError: sys.exit(3)\n"
            "try: s.sendall(sys.argv[2].encode())\n"
            "except BrokenPipeError: pass\n"
            "print(s.makefile().readline())\n")
    r = subprocess.run([sys.executable, "-c", code, path, json.dumps(VERSION)], check=False,
                       capture_output=True, text=True, timeout=TIMEOUT_S)
    assert r.returncode in (0, 3), r.stderr
    return json.loads(r.stdout) if r.returncode == 0 else None


@as_root
def test_another_user_is_refused_whatever_the_permissions_of_the_file(serve, room):
    os.chmod(room, 0o755)
    _, path = serve("--rpc-socket-mode", "0666")
    answer = ask_as(12345, 12345, path)
    assert answer["error"]["code"] == -1 and "--rpc-allow-uid" in answer["error"]["message"]
    assert "result" in ask_as(0, 0, path)


@as_root
@pytest.mark.parametrize("option, uid, gid, groups, allowed", [
    (("--rpc-allow-uid", "12345,12346"), 12346, 1, (), True),
    (("--rpc-allow-uid", "12345"), 12346, 1, (), False),
    (("--rpc-allow-gid", "777"), 12345, 777, (), True),
    (("--rpc-allow-gid", "777"), 12345, 1, (5, 777), True),
    (("--rpc-allow-gid", "777"), 12345, 1, (5,), False),
    (("--rpc-socket-owner", "12345"), 12345, 1, (), True),
    (("--rpc-socket-group", "777"), 12345, 1, (777,), True),
    (("--rpc-socket-group", "777"), 12346, 1, (), False),
])
def test_users_and_groups_that_options_name_are_let_in(serve, room, option, uid, gid, groups,
                                                      allowed):
    os.chmod(room, 0o755)
    mode = () if "socket" in option[0] else ("--rpc-socket-mode", "666")
    _, path = serve(*option, *mode)
    answer = ask_as(uid, gid, path, groups)
    assert bool(answer and "result" in answer) == allowed, answer


@as_root
def test_the_socket_has_the_mode_owner_and_group_that_were_asked_for(serve, room):
    _, path = serve("--rpc-socket-owner", "12345", "--rpc-socket-group", "777",
                    "--rpc-readonly-socket", os.path.join(room, "ro"), "--rpc-readonly-mode", "0640")
    st = os.stat(path)
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (0o660, 12345, 777)
    assert os.stat(os.path.join(room, "ro")).st_mode & 0o7777 == 0o640


@pytest.mark.parametrize("args, words", [
    (("--rpc-socket-mode", "888"), ["rpc-socket-mode", "0..0777", "888"]),
    (("--rpc-socket-mode", "1777"), ["rpc-socket-mode", "1777"]),
    (("--rpc-readonly-mode", "x"), ["rpc-readonly-mode", "x"]),
    (("--rpc-socket-owner", "no such"), ["rpc-socket-owner", "no such"]),
    (("--rpc-socket-group", ""), ["rpc-socket-group"]),
    (("--rpc-allow-uid", "0,,1"), ["rpc-allow-uid"]),
    (("--rpc-allow-gid", ",".join(["1"] * 33)), ["rpc-allow-gid", "32"]),
    (("--no-rpc", "--wait-for-rpc", "--device", "blk,socket=none/s,null=1M"),
     ["wait-for-rpc", "no-rpc"]),
])
def test_a_wrong_option_ends_with_2(refuse, room, args, words):
    said = refuse(USAGE, "-r", os.path.join(room, "s"), *args)
    for word in words:
        assert word in said, said
    assert os.listdir(room) == []


def test_a_socket_in_use_ends_with_1_and_touches_nothing(serve, refuse):
    _, path = serve()
    assert "another server listens" in refuse(RUNTIME, "-r", path)
    with Rpc(path) as rpc:
        assert rpc.call("spdk_get_version")


def test_without_an_option_and_without_a_device_it_does_not_start(refuse):
    assert "--rpc-socket" in refuse(USAGE)
    assert "no device" in refuse(USAGE, "--no-rpc")


@as_root
def test_an_ordinary_user_without_options_goes_without_a_management_socket(room):
    os.chmod(room, 0o777)
    disk = os.path.join(room, "disk")
    code = ("import os, sys\nos.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
            "os.execv(sys.argv[1], sys.argv[1:])\n")
    with subprocess.Popen([sys.executable, "-c", code, VHOSTD, "--device",
                           f"blk,socket={disk},null=1M"], stderr=subprocess.PIPE, text=True) as p:
        wait_for("the disk", lambda: os.path.exists(disk) or p.poll() is not None)
        p.terminate()
        assert p.stderr.read() == "" and p.wait(TIMEOUT_S) == 0


@as_root
def test_a_default_socket_that_is_needed_and_cannot_be_made_is_an_error(room):
    code = ("import os, sys\nos.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
            "os.execv(sys.argv[1], sys.argv[1:])\n")
    for option in (["--wait-for-rpc"], ["--rpc-socket-mode", "0600"]):
        r = subprocess.run([sys.executable, "-c", code, VHOSTD, *option], capture_output=True,
                           text=True, timeout=TIMEOUT_S, check=False, cwd="/")
        assert r.returncode == RUNTIME and "/var/run/vhostd" in r.stderr, r.stderr


def test_options_may_be_in_the_configuration_and_what_changes_is_told_by_name(room, start):
    path, config = os.path.join(room, "r"), os.path.join(room, "c.json")

    def write(**options):
        with open(config, "w", encoding="utf-8") as f:
            json.dump({"rpc-socket": path, **options}, f)
    write(**{"rpc-socket-mode": "0640", "no-metrics": True})
    d = start("-c", config, cwd=room)
    d.wait_listening(path)
    assert os.stat(path).st_mode & 0o7777 == 0o640
    write(**{"rpc-socket-mode": "0600", "metrics-port": 9})
    d.process.send_signal(signal.SIGHUP)
    for said in ("management: rpc-socket-mode: '0600' needs a restart, it stays '0640'",
                 "metrics: metrics-port: '9' needs a restart", "metrics: no-metrics: 'off' needs"):
        wait_for("a line about it", lambda said=said: said in d.said())
    write(**{"rpc-socket-mode": "0888"})
    d.process.send_signal(signal.SIGHUP)
    wait_for("an error", lambda: "rpc-socket-mode: expected 0..0777" in d.said())
    assert d.said().count("needs a restart") == 3 and d.end() == 0


# ---- life ----

def test_wait_for_rpc_starts_devices_when_it_is_told_to(serve, room):
    disk = os.path.join(room, "disk")
    _, path = serve("--device", f"blk,socket={disk},null=1M", "--wait-for-rpc")
    with Rpc(path) as rpc, Rpc(path) as waiter:
        assert not os.path.exists(disk)
        waiter.send({**VERSION, "method": "framework_wait_init"})
        with pytest.raises(RpcError) as e:
            rpc.call("thread_get_stats")
        assert e.value.code == -1 and "framework_start_init" in e.value.message
        now = rpc.call("rpc_get_methods", current=True)
        assert "framework_start_init" in now and "thread_get_stats" not in now
        assert rpc.call("iobuf_set_options", small_pool_count=1) is True
        assert rpc.call("framework_start_init") is True
        assert waiter.answer()["result"] is True
        assert os.path.exists(disk)
        assert rpc.call("framework_wait_init") is True
        assert len(rpc.call("thread_get_stats")["threads"]) >= 2
        now = rpc.call("rpc_get_methods", current=True)
        assert "framework_start_init" not in now and "thread_get_stats" in now
        with pytest.raises(RpcError) as e:
            rpc.call("framework_start_init")
        assert e.value.code == -1


def test_wait_for_rpc_tells_why_the_start_failed(serve, room):
    d, path = serve("--device", f"blk,socket={room}/disk,file={room}/none", "--wait-for-rpc")
    with Rpc(path) as rpc:
        with pytest.raises(RpcError) as e:
            rpc.call("framework_start_init")
        assert "none" in e.value.message
    assert d.process.wait(TIMEOUT_S) == RUNTIME


def test_a_daemon_that_waits_ends_at_sigterm(serve):
    d, path = serve("--wait-for-rpc")
    assert d.end() == 0 and not os.path.exists(path)


@pytest.mark.parametrize("signo", ["SIGTERM", "SIGINT"])
def test_spdk_kill_instance_answers_and_ends_it_in_order(serve, signo):
    d, path = serve()
    with Rpc(path) as rpc:
        assert rpc.call("spdk_kill_instance", sig_name=signo) is True
    assert d.process.wait(TIMEOUT_S) == 0
    assert not os.path.exists(path)


def test_it_ends_with_clients_that_are_in_the_middle_of_something(serve):
    d, path = serve("--wait-for-rpc")
    clients = [Rpc(path) for _ in range(8)]
    for c in clients:
        c.send({**VERSION, "method": "framework_wait_init"})
        c.send(b'{"half')
    assert d.end(signal.SIGINT) == 0


def test_it_ends_in_the_middle_of_batches_and_of_streams_of_requests(serve):
    for answers in (0, 1, 40):
        d, path = serve(name=f"rpc{answers}")
        clients = [Rpc(path) for _ in range(8)]
        for i, c in enumerate(clients):
            c.send([VERSION] * 9000 if i % 2 else
                   json.dumps({**VERSION, "method": "thread_get_stats"}).encode() * 500)
        for _ in range(answers):
            clients[0].answer()
        assert d.end() == 0


def test_the_socket_of_spdk_is_there_on_request(serve):
    path = "/var/tmp/spdk.sock"
    if os.path.exists(path):
        pytest.skip(path + " is in use")
    d, _ = serve("--rpc-spdk-socket")
    with Rpc(path) as rpc:
        assert rpc.call("spdk_get_version")
    assert d.end() == 0 and not os.path.exists(path)


# ---- every method, every parameter ----

def refused(rpc, method, **params):
    with pytest.raises(RpcError) as e:
        rpc.call(method.name, **params)
    assert e.value.code in (-32602, -32603), (method.name, params, e.value)
    return e.value.message


WRONG_TYPE = {"string": 7, "bool": "yes", "number": "x", "size": True, "enum": 7, "json": 3}


def check_parameters(rpc, m):
    """Every call is refused before the method runs."""
    if not m.params:
        assert f"{m.name} method requires no parameters" in refused(rpc, m, colour=1)
        return
    assert "colour" in refused(rpc, m, colour=1)
    required = {p.name: p.legal for p in m.params if p.required}
    for name in required:
        said = refused(rpc, m, **{k: v for k, v in required.items() if k != name})
        assert f"{name}: missing" in said and m.name in said, said
        said = refused(rpc, m, **{**required, name: None})
        assert f"{name}: missing" in said, said
    for p in m.params:
        said = refused(rpc, m, **{p.name: WRONG_TYPE[p.kind]})
        assert said.startswith(f"{p.name}: expected ") and "got" in said, said
        if p.kind in ("number", "size"):
            for value in (p.min - 1, p.max + 1, -2**31 - 1, -2**70, 2**70):
                said = refused(rpc, m, **{p.name: value})
                assert said == f"{p.name}: expected {p.min}..{p.max}, got {value}"
            assert "whole number" in refused(rpc, m, **{p.name: 0.5})
        elif p.kind == "enum":
            said = refused(rpc, m, **{p.name: "no such"})
            assert said.startswith(f"{p.name}: expected ") and "no such" in said, said


def test_every_parameter_missing_of_the_wrong_type_and_out_of_range_is_refused(serve):
    """All that `vhostd --help-rpc` lists, which is printed from the table of methods."""
    _, path = serve()
    _, early = serve("--wait-for-rpc", name="early")
    with Rpc(path) as rpc, Rpc(early) as before:
        for m in METHODS.values():
            check_parameters(before if m.startup else rpc, m)
        assert rpc.call("spdk_get_version")


def test_rpc_get_methods_and_the_documentation_name_the_same(serve):
    _, path = serve()
    with Rpc(path) as rpc:
        assert rpc.call("rpc_get_methods") == sorted(METHODS)
        aliases = set(rpc.call("rpc_get_methods", include_aliases=True)) - set(METHODS)
        assert "get_rpc_methods" in aliases


# ---- some of them ----

def test_loops_are_reactors_and_threads(serve):
    _, path = serve("--cores", "2")
    with Rpc(path) as rpc:
        reactors = rpc.call("framework_get_reactors")["reactors"]
        assert [r["lcore"] for r in reactors] == [0, 1, 2]
        assert [r["lw_threads"][0]["name"] for r in reactors] == ["vhostd-io0", "vhostd-io1",
                                                                  "app_thread"]
        assert len({r["tid"] for r in reactors}) == 3
        threads = rpc.call("thread_get_stats")["threads"]
        assert [t["id"] for t in threads] == [1, 2, 3]
        assert rpc.call("thread_set_cpumask", id=2, cpumask="[0]") is True
        assert rpc.call("thread_get_stats")["threads"][1]["cpumask"] == "1"
        for bad in ("", "0x", "0x0", "[1", "[2-1]", "[]", "g", "[99999]"):
            with pytest.raises(RpcError) as e:
                rpc.call("thread_set_cpumask", id=2, cpumask=bad)
            assert "cpumask" in e.value.message
        with pytest.raises(RpcError) as e:
            rpc.call("thread_set_cpumask", id=4, cpumask="1")
        assert e.value.message == "id: expected 1..3, got 4"


def test_the_level_of_the_log_and_its_time_stamps_can_be_changed(serve):
    d, path = serve()
    with Rpc(path) as rpc:
        assert rpc.call("log_get_level") == "NOTICE"
        assert rpc.call("log_set_level", level="DEBUG") is True
        assert rpc.call("log_get_print_level") == "DEBUG"
        assert rpc.call("log_enable_timestamps", enabled=True) is True
        assert rpc.call("log_get_flags") == {}
        assert rpc.call("framework_monitor_context_switch", enabled=True) == {"enabled": True}
        assert rpc.call("framework_monitor_context_switch") == {"enabled": True}
        assert rpc.call("framework_monitor_context_switch", enabled=False) == {"enabled": False}
    assert d.end() == 0


def test_groups_of_traces_are_turned_on_and_off(serve):
    _, path = serve()
    with Rpc(path) as rpc:
        before = rpc.call("trace_get_info")
        assert rpc.call("trace_disable_tpoint_group", name="all") is True
        assert rpc.call("trace_get_tpoint_group_mask")["tpoint_group_mask"] == "0x0"
        assert rpc.call("trace_set_tpoint_mask", name="vring", tpoint_mask=2) is True
        info = rpc.call("trace_get_info")
        assert info["vring"] == {"mask": "0x2", "tpoint_mask": "0x2"}
        assert info["tpoint_group_mask"] == "0x2"
        assert rpc.call("trace_clear_tpoint_mask", name="vring", tpoint_mask=2**64 - 1) is True
        assert rpc.call("trace_enable_tpoint_group", name="all") is True
        assert rpc.call("trace_get_info") == before
        with pytest.raises(RpcError) as e:
            rpc.call("trace_enable_tpoint_group", name="nope")
        assert "vring" in e.value.message and "nope" in e.value.message


def test_many_threads_of_clients_get_their_own_answers(serve):
    _, path = serve()
    wrong = []

    def run(n):
        with Rpc(path) as rpc:
            for i in range(100):
                answer = rpc.ask({**VERSION, "id": f"{n}-{i}"})
                if answer["id"] != f"{n}-{i}":
                    wrong.append(answer)
    threads = [threading.Thread(target=run, args=(n,)) for n in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
