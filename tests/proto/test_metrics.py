"""Metrics and the status page: what is told of a device under load, to Prometheus and to a browser."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

from conftest import TIMEOUT_S, VHOSTD, wait_for

USAGE = 2
RUNTIME = 1
DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs")
BENCH = os.path.join(os.path.dirname(VHOSTD), "vhostd-bench")
SUFFIXES = ("_total", "_info", "_bucket", "_count", "_sum", "")
PATIENCE_S = 10  # HTTP_PATIENCE_S

needs_bench = pytest.mark.skipif(not os.path.exists(BENCH), reason="no " + BENCH)


class UnixHttp(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self.path)


def get(conn, url, method="GET", **headers):
    """The answer's status, headers and body."""
    conn.request(method, url, headers={k.replace("_", "-"): v for k, v in headers.items()})
    r = conn.getresponse()
    return r.status, r.headers, r.read().decode()


def samples(text):
    """{name and labels: value}; what is not OpenMetrics fails."""
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    return {(s.name, tuple(sorted(s.labels.items()))): s.value
            for family in parser.text_string_to_metric_families(text) for s in family.samples}


def value(found, name, **labels):
    """The sum of the samples that have these labels."""
    want = set(labels.items())
    values = [v for (n, have), v in found.items() if n == name and want <= set(have)]
    assert values, f"no {name} {labels}"
    return sum(values)


@pytest.fixture
def serve(start, room):
    """serve(*args): a daemon with one null disk, a unix socket and a port; the port."""
    def run(*args):
        d = start("--no-rpc", "--device", f"blk,name=vm1,socket={room}/s,null=1G",
                  "--metrics-socket", f"{room}/m", "--metrics-port", "0", *args)
        d.wait_listening(room + "/m")
        wait_for("the port", lambda: "http://127.0.0.1:" in d.said())
        return d, int(re.search(r"http://127\.0\.0\.1:([0-9]+)/", d.said()).group(1))
    return run


def bench(room, *words, path="s"):
    return [BENCH, "--socket", f"{room}/{path}", "--json", "--load", "--call", *words]


def load(room, *words, path="s"):
    done = subprocess.run(bench(room, *words, path=path), capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def busy(room):
    """busy(*words): load in the background until the test ends."""
    running = []

    def run(*words):
        running.append(subprocess.Popen(bench(room, "--seconds", "60", "--qd", "4", *words),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    yield run
    for p in running:
        p.kill()
        p.wait()


@needs_bench
def test_the_numbers_are_what_was_done_over_both_sockets(serve, room):
    _, port = serve()
    before = samples(get(UnixHttp(room + "/m"), "/metrics")[2])
    assert value(before, "vhostd_disk_operations_total", device="vm1") == 0
    assert value(before, "vhostd_device_state", vhostd_device_state="disconnected") == 1
    load(room, "--rw", "randread", "--count", "5000", "--warmup", "0", "--bs", "4096")
    load(room, "--rw", "randwrite", "--count", "3000", "--warmup", "0", "--bs", "8192")
    for conn in (UnixHttp(room + "/m"), http.client.HTTPConnection("127.0.0.1", port)):
        time.sleep(0.05)  # a snapshot is used again for 20 ms
        status, headers, text = get(conn, "/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        found = samples(text)
        reads = value(found, "vhostd_disk_operations_total", device="vm1", op="read")
        writes = value(found, "vhostd_disk_operations_total", device="vm1", op="write")
        assert reads >= 5000 and writes >= 3000
        assert value(found, "vhostd_disk_transferred_bytes_total", op="read") == reads * 4096
        assert value(found, "vhostd_disk_transferred_bytes_total", op="write") == writes * 8192
        assert value(found, "vhostd_disk_latency_seconds_count", op="read") == reads
        assert value(found, "vhostd_disk_latency_seconds_bucket", op="read", le="+Inf") == reads
        assert value(found, "vhostd_disk_errors_total") == 0
        assert value(found, "vhostd_device_accepted_connections_total", device="vm1") == 2
        assert value(found, "vhostd_device_reconnects_total", device="vm1") == 1
        assert value(found, "process_open_fds") > 5
        assert value(found, "vhostd_loop_sleeps_total", loop="vhostd-io0") > 0


@needs_bench
@pytest.mark.parametrize("device, words, kinds", [
    ("blk,name=d,socket={}/d,null=1G", [], [""]),
    ("scsi,name=d,socket={}/d,target=0:null=1G", ["--scsi"], ["0/0"]),
    ("nvme,name=d,socket={}/d,transport=vfio-user,ns=1:null=1G", ["--nvme"], ["1"]),
    ("nvme,name=d,socket={}/d,transport=vhost-user,ns=1:null=1G", ["--nvme-vhost"], ["1"]),
])
def test_queues_of_a_running_front_end_are_told_of(start, room, busy, device, words, kinds):
    d = start("--no-rpc", "--device", device.format(room), "--metrics-socket", room + "/m")
    d.wait_listening(room + "/m")
    os.symlink("d", room + "/s")
    busy("--rw", "randread", *words)

    def serving():
        found = samples(get(UnixHttp(room + "/m"), "/metrics")[2])
        try:
            ok = (value(found, "vhostd_queue_requests_total", device="d") > 1000 and
                  value(found, "vhostd_device_state", vhostd_device_state="serving") == 1)
        except AssertionError:
            ok = False
        serving.found = found
        return ok
    wait_for("requests", serving)
    found = serving.found
    assert value(found, "vhostd_device_connections", device="d") == 1
    assert value(found, "vhostd_queue_state", vhostd_queue_state="running") >= 1
    assert value(found, "vhostd_queue_batch_requests_count") > 0
    told = value(found, "vhostd_queue_interrupts_total")
    untold = value(found, "vhostd_queue_suppressed_interrupts_total")
    assert 0 < told + untold <= 2 * value(found, "vhostd_queue_publishes_total") + 2
    assert 0 <= value(found, "vhostd_queue_oldest_request_seconds") < TIMEOUT_S
    for unit in kinds:
        labels = {"unit": unit} if unit else {}
        assert value(found, "vhostd_disk_operations_total", op="read", **labels) > 1000
    # what each queue did, by operation; nothing of what it never did, nor of other queues
    reads = value(found, "vhostd_queue_operations_total", device="d", op="read")
    time.sleep(0.05)  # a snapshot is used again for 20 ms, and the load goes on while one is taken
    later = samples(get(UnixHttp(room + "/m"), "/metrics")[2])
    assert 1000 < reads <= value(later, "vhostd_disk_operations_total", op="read")
    assert value(found, "vhostd_queue_transferred_bytes_total", op="read") == pytest.approx(
        4096 * reads, rel=0.05)
    assert value(found, "vhostd_queue_latency_seconds_count", op="read") == reads
    assert value(found, "vhostd_queue_latency_seconds_bucket", op="read", le="+Inf") == reads
    kept = {dict(labels)["op"] for name, labels in found if name == "vhostd_queue_operations_total"}
    assert kept == {"read"}
    assert not any(name == "vhostd_queue_errors_total" for name, _ in found)


@needs_bench
@pytest.mark.parametrize("device, words", [
    ("blk,name=d,socket={}/d,null=1G", []),
    ("scsi,name=d,socket={}/d,target=0:null=1G", ["--scsi"]),
    ("nvme,name=d,socket={}/d,transport=vfio-user,ns=1:null=1G", ["--nvme"]),
])
def test_each_of_several_queues_counts_its_own(start, room, busy, device, words):
    d = start("--no-rpc", "--device", device.format(room), "--metrics-socket", room + "/m", "--cores", "2")
    d.wait_listening(room + "/m")
    os.symlink("d", room + "/s")
    busy("--rw", "randrw", "--queues", "2", *words)
    found = {}

    def both():
        found.update(samples(get(UnixHttp(room + "/m"), "/metrics")[2]))
        counts = [(dict(labels)["queue"], dict(labels)["op"]) for (name, labels), v in found.items()
                  if name == "vhostd_queue_operations_total" and v > 100]
        both.queues = {queue for queue, _ in counts}
        return len(both.queues) == 2 and {op for _, op in counts} == {"read", "write"}
    wait_for("both queues", both)
    time.sleep(0.05)  # a snapshot is used again for 20 ms
    later = samples(get(UnixHttp(room + "/m"), "/metrics")[2])
    for op in ("read", "write"):
        # what one had counted the other has, too, a moment later
        for a, b in (("queue", "disk"), ("disk", "queue")):
            assert value(found, f"vhostd_{a}_operations_total", op=op) <= value(
                later, f"vhostd_{b}_operations_total", op=op), (a, b, op)


@needs_bench
def test_a_request_that_does_not_end_gets_older(start, room, busy):
    d = start("--no-rpc", "--device", f"blk,name=vm1,socket={room}/s,null=1G",
              "--metrics-socket", room + "/m")
    d.wait_listening(room + "/m")
    busy("--rw", "randread")
    wait_for("load", lambda: value(samples(get(UnixHttp(room + "/m"), "/metrics")[2]),
                                   "vhostd_disk_operations_total", op="read") > 100)
    conn = UnixHttp(room + "/m")
    for _ in range(20):
        found = samples(get(conn, "/metrics")[2])
        assert value(found, "vhostd_queue_oldest_request_seconds") < TIMEOUT_S
        assert 0 <= value(found, "vhostd_queue_in_flight") <= 4


def test_devices_that_the_management_socket_makes_come_and_go(start, room):
    d = start("--rpc-socket", room + "/r", "--metrics-socket", room + "/m", "-S", room)
    for path in ("/r", "/m"):
        d.wait_listening(room + path)

    def call(method, **params):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(TIMEOUT_S)
            s.connect(room + "/r")
            s.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method,
                                  "params": params}).encode())
            answer = json.loads(s.recv(65536))
        assert "error" not in answer, answer

    def names():
        time.sleep(0.05)  # a snapshot is used again for 20 ms
        return {dict(labels)["device"] for name, labels in
                samples(get(UnixHttp(room + "/m"), "/metrics")[2]) if name == "vhostd_device_info"}
    assert names() == set()
    call("bdev_null_create", name="n", num_blocks=2048, block_size=512)
    call("vhost_create_blk_controller", ctrlr="c", dev_name="n")
    assert names() == {"c"}
    found = samples(get(UnixHttp(room + "/m"), "/metrics")[2])
    assert value(found, "vhostd_disk_operations_total", device="c", op="read") == 0
    call("vhost_delete_controller", ctrlr="c")
    assert names() == set()


def test_only_reading_is_possible_and_each_refusal_says_what_to_do(serve, room):
    _, port = serve()
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        status, headers, text = get(UnixHttp(room + "/m"), "/metrics", method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD") and "GET" in text
    status, headers, text = get(UnixHttp(room + "/m"), "/metrics", "HEAD")
    assert (status, text) == (200, "") and int(headers["Content-Length"]) > 1000
    status, _, text = get(UnixHttp(room + "/m"), "/../etc/passwd")
    assert status == 404 and "/metrics" in text
    for url in ("/", "/status.json"):
        status, headers, text = get(http.client.HTTPConnection("127.0.0.1", port), url)
        assert status == 200 and "vm1" in text
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("host, status", [
    ("127.0.0.1", 200), ("localhost", 200), ("LOCALHOST:9999", 200), ("evil.example", 403),
    ("127.0.0.1.evil.example", 403), ("localhost.evil.example:80", 403), ("127.0.0.1:80@evil", 403),
    ("", 403),
])
def test_over_tcp_the_host_must_be_this_machine(serve, host, status):
    _, port = serve()
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    assert get(conn, "/metrics", Host=host)[0] == status


def test_hostile_requests_end_bounded(serve, room):
    d, _ = serve()

    def say(text):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(TIMEOUT_S)
            s.connect(room + "/m")
            got = b""
            try:
                s.sendall(text)
                while chunk := s.recv(65536):
                    got += chunk
            except (ConnectionResetError, BrokenPipeError):
                pass
            return got
    assert say(b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\n\r\n")[:12] in (b"", b"HTTP/1.1 414",
                                                                       b"HTTP/1.1 400")
    assert say(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 20000)[:10] in (
        b"", b"HTTP/1.1 4")
    assert b"HTTP/1.1 200" not in say(b"garbage\r\n\r\n")
    assert b" 405 " in say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\nx")
    # More connections than are served; the surplus is let go, and later ones are served again.
    idle = []
    for _ in range(64):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(TIMEOUT_S)
        s.connect(room + "/m")
        idle.append(s)
    assert len(d.files()) < 64 + 16
    for s in idle:
        s.close()

    def served():
        try:
            return get(UnixHttp(room + "/m"), "/metrics")[0] == 200
        except OSError:
            return False
        except http.client.HTTPException:
            return False
    wait_for("an answer", served)
    assert d.end() == 0


def test_a_client_that_never_ends_its_request_is_let_go(serve, room):
    serve()
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(room + "/m")
        s.sendall(b"GET / HTTP/1.1\r\n")
        s.settimeout(0.5)
        begun = time.monotonic()
        gone = False
        while not gone and time.monotonic() < begun + PATIENCE_S + 10:
            try:
                s.sendall(b"a")  # it is not silent: only a limit on the whole ends it
                gone = s.recv(100) == b""
            except socket.timeout:
                pass
            except OSError:
                gone = True
        assert gone and time.monotonic() - begun > PATIENCE_S / 2


@pytest.mark.parametrize("args, words", [
    (["--metrics-port", "65536"], ["--metrics-port", "0..65535", "65536"]),
    (["--metrics-port", "x"], ["--metrics-port", "x"]),
    (["--metrics-socket-mode", "9"], ["--metrics-socket-mode", "0..0777", "9"]),
    (["--no-metrics", "--metrics-port", "0"], ["--no-metrics", "--metrics-port"]),
])
def test_a_bad_option_names_itself_and_its_limits(refuse, room, args, words):
    said = refuse(USAGE, "--no-rpc", "--device", f"blk,socket={room}/s,null=1M", *args)
    for word in words:
        assert word in said, said


def test_a_port_or_path_in_use_is_an_error_and_leaves_nothing(refuse, room):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        said = refuse(RUNTIME, "--no-rpc", "--device", f"blk,socket={room}/s,null=1M",
                      "--metrics-socket", room + "/m", "--metrics-port", str(port))
    assert str(port) in said and "in use" in said
    assert os.listdir(room) == []


# ---- the pages of the documentation ----

def table():
    """The metrics' names, as the binary prints them."""
    out = subprocess.run([VHOSTD, "--help-metrics"], capture_output=True, text=True,
                         timeout=TIMEOUT_S, check=True).stdout
    return out, set(re.findall(r"^\| (\w+) \|", out, re.M)) - {"metric", "option"}


def test_the_page_of_the_metrics_is_what_the_binary_prints():
    with open(os.path.join(DOCS, "metrics.md"), encoding="utf-8") as f:
        assert f.read() == table()[0], "make docs"


def dashboard_queries():
    with open(os.path.join(DOCS, "grafana-vhostd.json"), encoding="utf-8") as f:
        board = json.load(f)
    return [t["expr"] for p in board["panels"] for t in p.get("targets", [])]


def test_the_dashboard_shows_each_metric_and_no_other():
    _, names = table()
    used = set()
    for expr in dashboard_queries():
        for word in re.findall(r"\b((?:vhostd|process)_\w+)\{", expr):
            family = [word[:len(word) - len(s)] for s in SUFFIXES if word.endswith(s)]
            known = [n for n in names if n == word or n in family]
            assert known, f"{word} of '{expr}' is no metric"
            used.update(known)
    assert used == names, names - used


# ---- Prometheus ----

@needs_bench
@pytest.mark.skipif(not shutil.which("promtool"), reason="no prometheus (Debian's package)")
def test_promtool_finds_nothing_to_say(serve, room):
    serve()
    load(room, "--count", "2000")
    status, headers, text = get(UnixHttp(room + "/m"), "/metrics", Accept="text/plain")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True,
                          text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@needs_bench
@pytest.mark.skipif(not shutil.which("prometheus"), reason="no prometheus (Debian's package)")
def test_a_prometheus_server_reads_it_and_answers_the_dashboards_queries(serve, room, busy):
    _, port = serve()
    busy("--rw", "randrw")
    own = free_port()
    with open(room + "/p.yml", "w", encoding="utf-8") as f:
        f.write("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"
                f"- {{job_name: vhostd, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n")

    def query(expr):
        url = f"http://127.0.0.1:{own}/api/v1/query?" + urllib.parse.urlencode({"query": expr})
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as r:
                return json.load(r)["data"]["result"]
        except urllib.error.HTTPError as e:
            assert e.code == 503, f"{expr}: {e.read()}"  # it is still starting
            return []
        except OSError:
            return []
    with open(room + "/p.log", "wb") as log, subprocess.Popen(
            ["prometheus", f"--config.file={room}/p.yml", f"--storage.tsdb.path={room}/p",
             f"--web.listen-address=127.0.0.1:{own}"], stdout=log, stderr=log) as p:
        try:
            wait_for("two scrapes of a device under load", lambda: any(
                float(r["value"][1]) > 0 for r in query(
                    'rate(vhostd_disk_operations_total{device="vm1",op="read"}[10s])')))
            assert query('up{job="vhostd"}')[0]["value"][1] == "1"
            info = query("vhostd_device_info")[0]["metric"]
            assert (info["type"], info["transport"]) == ("blk", "vhost-user")
            for expr in dashboard_queries():
                expr = expr.replace("$__rate_interval", "10s").replace("$instance", ".*")
                answer = query(expr.replace("$device", ".*"))
                assert answer or expr.endswith("> 0"), f"nothing for {expr}"
        finally:
            p.kill()
            p.wait()


# ---- the browser ----

CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--hide-scrollbars"]


def browse(room, *words):
    done = subprocess.run(["chromium", *CHROMIUM, f"--user-data-dir={room}/c", *words],
                          capture_output=True, timeout=60, check=False,
                          env={**os.environ, "HOME": room})
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@needs_bench
@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium (Debian's package)")
def test_the_status_page_shows_a_device_under_load(serve, room, busy):
    _, port = serve()
    busy("--rw", "randrw")
    url = f"http://127.0.0.1:{port}/"
    wait_for("load", lambda: json.loads(get(
        http.client.HTTPConnection("127.0.0.1", port), "/status.json")[2]
    )["devices"][0]["operations"]["read"]["ops"] > 100)
    page = browse(room, "--virtual-time-budget=8000", "--dump-dom", url)
    row = re.search(r'<tr><th scope="row"[^>]*>vm1</th>.*?</tr>', page).group(0)
    assert ">serving</span>" in row
    rate = re.search(r'class="n iops-read">([0-9.]+)([kM]?)<', row)
    assert rate and float(rate.group(1)) > 0, row
    assert re.search(r'<path [^>]*d="M[0-9.]+ [0-9.]+L', page), "no line in the charts"
    assert '<span id="lost" role="status"></span>' in page
    shot = os.environ.get("SCREENSHOT", room + "/page.png")
    browse(room, "--virtual-time-budget=12000", "--window-size=1280,720",
           f"--screenshot={shot}", url)
    with open(shot, "rb") as f:
        head = f.read(24)
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and os.path.getsize(shot) > 20000


def test_the_status_page_is_a_table_without_scripts(serve):
    _, port = serve()
    page = get(http.client.HTTPConnection("127.0.0.1", port), "/")[2]
    assert re.search(r'<tr><th scope="row">vm1</th><td>blk</td><td>vhost-user</td>', page)
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_the_end_comes_while_clients_ask(serve, room):
    d, _ = serve()
    conns = [UnixHttp(room + "/m") for _ in range(8)]
    for c in conns:
        c.request("GET", "/metrics")
    d.process.send_signal(signal.SIGTERM)
    assert d.process.wait(TIMEOUT_S) == 0
    assert not os.path.exists(room + "/m")
