"""vhostd as a process: signals, sockets, start-up, service manager, two devices, client mode."""

import os
import signal
import socket
import stat
import struct
import subprocess
import time

import pytest

from conftest import VHOSTD, connects, wait_for
from rpcclient import Rpc, RpcError

GET_FEATURES = struct.pack("<III", 1, 1, 0)


def ask(sock):
    """GET_FEATURES on a connected socket: the answer's value."""
    sock.settimeout(10)
    sock.sendall(GET_FEATURES)
    got = b""
    while len(got) < 20:
        part = sock.recv(20 - len(got))
        assert part, "the server closed the connection"
        got += part
    request, flags, size, value = struct.unpack("<IIIQ", got)
    assert (request, flags, size) == (1, 5, 8)
    return value


def ask_path(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        return ask(s)


def test_print_capabilities_is_what_the_conventions_say(refuse):
    import json
    caps = json.loads(refuse(0, "--print-capabilities"))
    assert caps["type"] == "block"
    assert set(caps["features"]) == {"read-only", "blk-file"}


def test_help_fits_a_screen_and_has_an_example(refuse):
    text = refuse(0, "--help")
    assert len(text.splitlines()) <= 24 and all(len(line) <= 80 for line in text.splitlines())
    assert "Example" in text


def test_version_is_a_name_and_a_number(refuse):
    assert refuse(0, "--version").startswith("vhostd ")


def test_the_conventional_options_serve_one_disk(start, room, image):
    path = os.path.join(room, "s")
    d = start("--socket-path", path, "--blk-file", image())
    d.wait_listening(path)
    assert not ask_path(path) & 1 << 5
    assert d.end() == 0


def test_read_only_is_told_to_the_driver(start, room, image):
    path = os.path.join(room, "s")
    d = start("--socket-path", path, "--blk-file", image(), "--read-only")
    d.wait_listening(path)
    assert ask_path(path) & 1 << 5


def test_sigterm_and_sigint_end_with_0_and_remove_the_socket(start, room):
    for signo in (signal.SIGTERM, signal.SIGINT):
        path = os.path.join(room, "s")
        d = start("--device", f"blk,socket={path},null=1M")
        d.wait_listening(path)
        assert d.end(signo) == 0, d.said()
        assert not os.path.exists(path)


def test_sigterm_ends_it_with_front_ends_connected_and_silent(start, room):
    path = os.path.join(room, "s")
    d = start("--device", f"blk,socket={path},null=1M")
    d.wait_listening(path)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        ask(s)
        s.sendall(GET_FEATURES[:7])
        begin = time.monotonic()
        assert d.end() == 0
        assert time.monotonic() - begin < 5


def test_the_socket_is_private_unless_asked_otherwise(start, room):
    for option, mode in (("", 0o600), (",socket-mode=0660", 0o660)):
        path = os.path.join(room, "s%o" % mode)
        d = start("--device", f"blk,socket={path},null=1M{option}")
        d.wait_listening(path)
        assert stat.S_IMODE(os.stat(path).st_mode) == mode


def test_it_listens_soon(start, room, image):
    """20 ms for a release build; a sanitizer's build is only asked for 1 s."""
    path = os.path.join(room, "s")
    limit = 1.0 if b"__asan_init" in open(VHOSTD, "rb").read() else 0.1
    begin = time.monotonic()
    d = start("--device", f"blk,socket={path},file={image()}")
    d.wait_listening(path)
    took = time.monotonic() - begin
    print(f"listening after {took * 1000:.1f} ms")
    assert took < limit


def test_ready_and_stopping_are_told_to_the_service_manager(start, room):
    notify, path = os.path.join(room, "n"), os.path.join(room, "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as n:
        n.bind(notify)
        n.settimeout(10)
        d = start("--device", f"blk,socket={path},null=1M",
                  env={**os.environ, "NOTIFY_SOCKET": notify})
        assert "READY=1" in n.recv(4096).decode()
        assert connects(path)
        d.process.send_signal(signal.SIGTERM)
        assert "STOPPING=1" in n.recv(4096).decode()
        assert d.process.wait(10) == 0


def test_an_abstract_notify_socket_works_too(start, room):
    name = f"vhostd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as n:
        n.bind("\0" + name)
        n.settimeout(10)
        start("--device", f"blk,socket={room}/s,null=1M",
              env={**os.environ, "NOTIFY_SOCKET": "@" + name})
        assert "READY=1" in n.recv(4096).decode()


def activated(room, args, listeners, names=None):
    """vhostd with inherited listeners from descriptor 3 on, as sd_listen_fds(3) has it."""
    spare = [os.dup(s.fileno()) for s in listeners]
    high = [os.dup2(fd, 100 + i) for i, fd in enumerate(spare)]
    script = "".join(f"exec {3 + i}<&{fd} {fd}<&-; " for i, fd in enumerate(high))
    env = {**os.environ, "LISTEN_FDS": str(len(listeners))}
    if names:
        env["LISTEN_FDNAMES"] = ":".join(names)
    with open(os.path.join(room, "log"), "ab") as log:
        p = subprocess.Popen(["bash", "-c", script + "LISTEN_PID=$$ exec \"$@\"", "x", VHOSTD, *args],
                             env=env, pass_fds=high, stderr=log)
    for fd in spare + high:
        os.close(fd)
    return p


def listener(path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen()
    return s


def test_socket_activation_goes_by_name_and_keeps_the_sockets_file(room):
    paths = [os.path.join(room, x) for x in "ab"]
    socks = [listener(p) for p in paths]
    p = activated(room, ["--device", "blk,name=one,null=1M", "--device",
                         "blk,name=two,null=1M,read-only=on"], socks, ["two", "one"])
    try:
        for s in socks:
            s.close()
        assert ask_path(paths[0]) & 1 << 5
        assert not ask_path(paths[1]) & 1 << 5
        p.terminate()
        assert p.wait(20) == 0
        assert all(os.path.exists(x) for x in paths)
    finally:
        p.kill()
        p.wait()


@pytest.fixture
def activate(room):
    """activate(names, *args): vhostd with a listener for each name; the paths by name."""
    processes = []

    def run(names, *args):
        paths = {n: os.path.join(room, n) for n in names}
        socks = [listener(p) for p in paths.values()]
        processes.append(activated(room, list(args), socks, names))
        for s in socks:
            s.close()
        return processes[-1], paths
    yield run
    for p in processes:
        p.kill()
        p.wait()


def ask_metrics(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return s.makefile().read()


def test_management_and_metrics_sockets_are_inherited_by_name(room, activate):
    p, paths = activate(["metrics", "rpc-read-only", "rpc", "disk"], "--device",
                        "blk,name=disk,null=1M", "-S", room)
    with Rpc(paths["rpc"]) as rpc, Rpc(paths["rpc-read-only"]) as reader:
        assert rpc.call("trace_clear") is True
        assert reader.call("spdk_get_version")
        with pytest.raises(RpcError, match="read-only"):
            reader.call("trace_clear")
        p.send_signal(signal.SIGHUP)
        assert rpc.call("vhost_get_controllers", name="disk")
    assert ask_path(paths["disk"]) and "vhostd_" in ask_metrics(paths["metrics"])
    p.terminate()
    assert p.wait(20) == 0
    assert all(os.path.exists(x) for x in paths.values())
    with open(os.path.join(room, "log"), encoding="utf-8") as f:
        assert "reload" not in f.read()


def test_a_device_called_rpc_comes_before_the_management_socket(activate):
    p, paths = activate(["rpc"], "--device", "blk,name=rpc,null=1M", "--no-rpc", "--no-metrics")
    assert ask_path(paths["rpc"])
    p.terminate()
    assert p.wait(20) == 0


def test_an_inherited_management_socket_is_enough_to_start(room, activate):
    p, paths = activate(["rpc"], "-S", room, "--no-metrics", "--wait-for-rpc")
    with Rpc(paths["rpc"]) as rpc:
        assert rpc.call("framework_start_init") is True
    p.terminate()
    assert p.wait(20) == 0


@pytest.mark.parametrize("names, args, words", [
    (["rpc"], ["--rpc-socket", "x"], ["--rpc-socket", "'rpc'"]),
    (["rpc"], ["--no-rpc", "--device", "blk,socket=x,null=1M"], ["--no-rpc", "inherited"]),
    (["rpc-read-only"], ["--rpc-readonly-socket", "x"], ["--rpc-readonly-socket"]),
    (["metrics"], ["--metrics-socket", "x", "--rpc-socket", "y"], ["--metrics-socket"]),
    (["metrics"], ["--no-metrics", "--rpc-socket", "y"], ["--no-metrics", "inherited"]),
    (["metric"], ["--rpc-socket", "y"], ["'metric'", "rpc, rpc-read-only and metrics"]),
])
def test_an_inherited_socket_and_its_option_are_not_taken_together(room, activate, names, args,
                                                                   words):
    p, _ = activate(names, *args)
    assert p.wait(20) == 2
    with open(os.path.join(room, "log"), encoding="utf-8") as f:
        said = f.read()
    assert all(w in said for w in words), said
    assert sorted(os.listdir(room)) == sorted(names + ["log"])


def test_an_inherited_listener_by_number(start, room, image):
    path = os.path.join(room, "s")
    s = listener(path)
    d = start("--fd", str(s.fileno()), "--blk-file", image(), pass_fds=[s.fileno()])
    s.close()
    ask_path(path)
    ask_path(path)
    assert d.end() == 0


def test_an_inherited_connection_is_served_and_its_end_is_the_end(start, image):
    ours, theirs = socket.socketpair()
    with ours:
        d = start("--fd", str(theirs.fileno()), "--blk-file", image(), pass_fds=[theirs.fileno()])
        theirs.close()
        ask(ours)
    assert d.process.wait(20) == 0


def test_client_mode_connects_and_comes_back(start, room):
    path = os.path.join(room, "s")
    d = start("--device", f"blk,socket={path},null=1M,client=on,reconnect-ms=50")
    for _ in range(2):
        with listener(path) as s:
            s.settimeout(10)
            for _ in range(2):
                c, _peer = s.accept()
                with c:
                    ask(c)
        os.unlink(path)
    assert d.end() == 0


def test_two_devices_in_one_process(start, room, image):
    a, b = (os.path.join(room, x) for x in "ab")
    d = start("--device", f"blk,socket={a},file={image()}", "--device", f"blk,socket={b},ram=1M")
    d.wait_listening(a)
    d.wait_listening(b)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(a)
        ask(s)
        ask_path(b)


def test_a_second_connection_waits_and_is_served_in_its_turn(start, room):
    path = os.path.join(room, "s")
    d = start("--device", f"blk,socket={path},null=1M")
    d.wait_listening(path)
    first, second = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    with second:
        with first:
            first.connect(path)
            ask(first)
            second.connect(path)
            second.sendall(GET_FEATURES)
            second.settimeout(0.2)
            try:
                assert not second.recv(20), "served beside the first"
            except TimeoutError:
                pass
            ask(first)
        second.settimeout(10)
        assert len(second.recv(20)) == 20


def test_a_front_end_killed_a_hundred_times_is_replaced_at_once(start, room):
    path = os.path.join(room, "s")
    d = start("--device", f"blk,socket={path},null=1M")
    d.wait_listening(path)
    before = len(os.listdir(f"/proc/{d.process.pid}/fd"))
    for _ in range(100):
        ask_path(path)
    wait_for("the descriptors to be closed",
             lambda: len(os.listdir(f"/proc/{d.process.pid}/fd")) <= before)


def test_a_stale_socket_of_a_killed_daemon_is_replaced(start, room):
    path = os.path.join(room, "s")
    d = start("--device", f"blk,socket={path},null=1M")
    d.wait_listening(path)
    d.kill()
    assert os.path.exists(path)
    d = start("--device", f"blk,socket={path},null=1M")
    d.wait_listening(path)
    ask_path(path)


def test_idle_costs_no_cpu(start, room):
    path = os.path.join(room, "s")
    d = start("--device", f"blk,socket={path},null=1M")
    d.wait_listening(path)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        ask(s)
        time.sleep(0.1)

        def ticks():
            with open(f"/proc/{d.process.pid}/stat", encoding="ascii") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])
        before = ticks()
        time.sleep(1)
        assert ticks() - before <= 2
