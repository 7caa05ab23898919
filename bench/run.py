#!/usr/bin/python3
"""make bench: vhostd and qemu-storage-daemon alternately, medians, ratios, targets.

Every pair runs vhostd and its rival (the peer, a bare loop of vhostd-bench, or fio) one right
after the other, so that a machine that speeds up or slows down does so for both; the core-to-core
ping-pong of each pair is kept beside the figures. See docs/internals/bench.md.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from servers import (Server, qsd_argv, raise_nofile, vhostd_argv, vhostd_nvme_argv,
                     vhostd_scsi_argv)

ROWS = []


class Env:
    def __init__(self, args, tmp):
        self.args, self.tmp = args, tmp
        self.bench = os.path.join(args.build, "vhostd-bench")
        self.vhostd = os.path.join(args.build, "vhostd")
        cpus = sorted(os.sched_getaffinity(0))
        self.server_cpus = set(cpus[:-1]) or set(cpus)
        self.client_cpu, self.floor_cpu = cpus[-1], cpus[0]
        self.image = args.image

    def sock(self, name):
        return os.path.join(self.tmp, name)

    def client(self, *words, pid=None, sock=None, seconds=None):
        argv = [self.bench, "--json", "--cpu", str(self.client_cpu), "--floor-cpu",
                str(self.floor_cpu), "--seconds", str(seconds or self.args.seconds), *words]
        if sock:
            argv += ["--socket", sock]
        if pid:
            argv += ["--server-pid", str(pid)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout[-300:]}")
        return json.loads(done.stdout)

    def on_server(self, argv, sock, words, fill=None):
        """fill: bytes to write first, so that a sparse disk has real blocks to read."""
        with Server(argv, sock, cpus=self.server_cpus) as server:
            if fill:
                self.client("--rw", "write", "--bs", "64K", "--qd", "8", "--count",
                            str(fill >> 16), "--span", str(fill), sock=sock)
            return self.client(*words, sock=sock, pid=server.pid)


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def row(name, value, unit, target, ok, ping=None, note="", samples=None):
    ROWS.append({"name": name, "value": value, "unit": unit, "target": target,
                 "pass": ok, "ping_pong_ns": ping, "note": note, "samples": samples or []})
    mark = "    " if ok is None else "PASS" if ok else "FAIL"
    shown = "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"
    at = "" if ping is None else f"  ping-pong {ping:.0f} ns"
    print(f"{mark}  {name:44} {shown:>12} {unit:10} target {target:24}{at}  {note}", flush=True)


def pairs(env, *runs):
    """[(result of each run)] for every pair; the order alternates."""
    out = []
    for i in range(env.args.pairs):
        order = range(len(runs)) if i % 2 == 0 else reversed(range(len(runs)))
        got = [None] * len(runs)
        for k in order:
            got[k] = runs[k]()
        out.append(got)
    return out


def null_cpu_target(ping):
    """65 ns of server CPU near 90 ns core to core, 190 near 360; a line between, flat outside."""
    part = min(max((ping - 90) / (360 - 90), 0), 1)
    return 65 + part * (190 - 65)


def scenario_null(env):
    disk = ("null", "1G")
    for qd in (32, 128):
        words = ["--qd", str(qd)]
        a, b = env.sock("v.sock"), env.sock("q.sock")
        got = pairs(env, lambda: env.on_server(vhostd_argv(env.vhostd, a, disk), a, words),
                    lambda: env.on_server(qsd_argv(b, disk), b, words),
                    lambda: env.client("--floor", "null", *words))
        ping = median([g[0]["ping_pong_ns"] for g in got])
        iops = [[g[k]["server" if k < 2 else "floor"]["iops"] for g in got] for k in range(3)]
        cpu = [[g[k]["server" if k < 2 else "floor"]["cpu_ns_per_io"] for g in got]
               for k in range(3)]
        ratio = median([v / q for v, q in zip(iops[0], iops[1])])
        limited = median([v / f for v, f in zip(iops[0], iops[2])])
        row(f"null qd{qd} randread 4K, vhostd", median(iops[0]), "IOPS", "", None, ping,
            f"{limited:.2f} of the bare loop's {median(iops[2]):,.0f}", iops[0])
        row(f"null qd{qd}, IOPS over qemu-storage-daemon", ratio, "x", ">= 4", ratio >= 4, ping,
            f"peer {median(iops[1]):,.0f} IOPS, {median(cpu[1]):.0f} ns", iops[1])
        limit = null_cpu_target(ping)
        row(f"null qd{qd}, server CPU per I/O", median(cpu[0]), "ns", f"<= {limit:.0f}",
            median(cpu[0]) <= limit, ping, f"bare loop {median(cpu[2]):.0f} ns", cpu[0])


def scenario_null_qd1(env):
    disk, a, b = ("null", "1G"), env.sock("v.sock"), env.sock("q.sock")
    words = ["--qd", "1"]
    got = pairs(env, lambda: env.on_server(vhostd_argv(env.vhostd, a, disk), a, words),
                lambda: env.client("--floor", "null", *words),
                lambda: env.on_server(qsd_argv(b, disk), b, words))
    ping = median([g[0]["ping_pong_ns"] for g in got])
    mine = [g[0]["server"]["p50_ns"] for g in got]
    ratio = median([m / g[1]["floor"]["p50_ns"] for m, g in zip(mine, got)])
    row("null qd1 polling, p50 over the bare loop's", ratio, "x", "<= 1.2", ratio <= 1.2, ping,
        f"{median(mine):.0f} ns, bare {median([g[1]['floor']['p50_ns'] for g in got]):.0f}, "
        f"peer {median([g[2]['server']['p50_ns'] for g in got]):.0f}", mine)


def scenario_ram(env):
    size, a = "256M", env.sock("v.sock")
    for rw in ("randread", "randwrite"):
        words = ["--qd", "32", "--rw", rw, "--span", size]
        got = pairs(env,
                    lambda: env.on_server(vhostd_argv(env.vhostd, a, ("ram", size)), a, words,
                                          fill=256 << 20),
                    lambda: env.client("--floor", "ram", *words))
        ping = median([g[0]["ping_pong_ns"] for g in got])
        mine = [g[0]["server"]["cpu_ns_per_io"] for g in got]
        bare = [g[1]["floor"]["cpu_ns_per_io"] for g in got]
        ratio = median([m / f for m, f in zip(mine, bare)])
        row(f"ram qd32 {rw}, CPU over the bare loop's", ratio, "x", "<= 1.3", ratio <= 1.3, ping,
            f"{median(mine):.0f} ns, bare {median(bare):.0f}", mine)


def fio_iops(env, qd):
    argv = ["fio", "--name=f", f"--filename={env.image}", "--rw=randread", "--bs=4k",
            "--ioengine=io_uring", "--direct=1", f"--iodepth={qd}", "--time_based",
            f"--runtime={max(1, round(env.args.seconds))}", "--readonly",
            "--output-format=json"]
    # On the CPU that the servers have: where a disk's interrupts go makes a difference of 20 %.
    done = subprocess.run(argv, capture_output=True, text=True, check=True,
                          preexec_fn=lambda: os.sched_setaffinity(0, env.server_cpus))
    return json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]["read"]["iops"]


def scenario_file(env):
    if not shutil.which("fio"):
        row("file", None, "", "", None, note="skipped: fio is not installed")
        return
    a, b, disk = env.sock("v.sock"), env.sock("q.sock"), ("file", env.image)
    for qd in (1, 32, 128):
        words = ["--qd", str(qd)]
        got = pairs(env, lambda: env.on_server(vhostd_argv(env.vhostd, a, disk), a, words),
                    lambda: fio_iops(env, qd),
                    lambda: env.on_server(qsd_argv(b, disk), b, words))
        ping = median([g[0]["ping_pong_ns"] for g in got])
        mine = [g[0]["server"]["iops"] for g in got]
        ratio = median([m / g[1] for m, g in zip(mine, got)])
        row(f"file qd{qd}, IOPS over fio io_uring", ratio, "x", ">= 0.95", ratio >= 0.95, ping,
            f"{median(mine):,.0f}, fio {median([g[1] for g in got]):,.0f}, "
            f"peer {median([g[2]['server']['iops'] for g in got]):,.0f}", mine)
        cpu = [g[0]["server"]["cpu_ns_per_io"] for g in got]
        rival = [g[2]["server"]["cpu_ns_per_io"] for g in got]
        ratio = median([m / q for m, q in zip(cpu, rival)])
        row(f"file qd{qd}, CPU per I/O over the peer's", ratio, "x", "<= 0.7", ratio <= 0.7, ping,
            f"{median(cpu):.0f} ns, peer {median(rival):.0f}", cpu)


def scenario_sleep(env):
    a, disk, words = env.sock("v.sock"), ("null", "1G"), ["--qd", "1", "--call"]
    b = env.sock("q.sock")
    got = pairs(env,
                lambda: env.on_server(vhostd_argv(env.vhostd, a, disk, spin_us=0), a, words),
                lambda: env.client("--floor", "eventfd"),
                lambda: env.on_server(qsd_argv(b, disk), b, words))
    ping = median([g[0]["ping_pong_ns"] for g in got])
    mine = [g[0]["server"]["p50_ns"] for g in got]
    ratio = median([m / g[1]["eventfd_ns"] for m, g in zip(mine, got)])
    row("null qd1 from sleep, p50 over eventfd's", ratio, "x", "<= 1.1", ratio <= 1.1, ping,
        f"{median(mine):.0f} ns, bare {median([g[1]['eventfd_ns'] for g in got]):.0f}, "
        f"peer {median([g[2]['server']['p50_ns'] for g in got]):.0f}", mine)


class Held:
    """N idle connections of 4 queues, kept by one vhostd-bench --hold."""

    def __init__(self, env, pattern, count, words=()):
        self.proc = subprocess.Popen([env.bench, "--hold", pattern, "--hold-count", str(count),
                                      *words],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                     preexec_fn=raise_nofile)
        line = self.proc.stdout.readline()
        if "holding" not in line:
            self.proc.wait()
            raise RuntimeError("the idle connections could not be made")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.stdin.close()
        self.proc.wait(60)
        self.proc.stdout.close()


def many_argv(env, count, extra=0):
    argv = [env.vhostd, "--cores", "1"]
    for i in range(count + extra):
        argv += ["--device", f"blk,socket={env.sock(f'i{i}.sock')},null=1G,num-queues=4"]
    return argv


def scenario_idle(env):
    seconds = max(1.0, env.args.seconds)
    for count, limit in ((1, 1.0), (env.args.idle, 3.0)):
        last = env.sock(f"i{count - 1}.sock")
        with Server(many_argv(env, count), last) as server:
            with Held(env, env.sock("i%u.sock"), count):
                time.sleep(0.5)
                before, start = server.cpu_s(), time.monotonic()
                time.sleep(seconds)
                used = (server.cpu_s() - before) / (time.monotonic() - start) * 100
                row(f"idle, {count} connected device(s) of 4 queues", used, "% of core",
                    f"< {limit:.0f}", used < limit, None, f"RSS {server.rss_mib():.1f} MiB")


def scenario_crowd(env):
    count, rates, ping = env.args.idle - 1, [[], []], []
    busy = env.sock(f"i{count}.sock")
    words = ["--qd", "32"]
    for _ in range(env.args.pairs):
        with Server(many_argv(env, count, 1), busy, cpus=env.server_cpus) as server:
            alone = env.client(*words, sock=busy, pid=server.pid)
            with Held(env, env.sock("i%u.sock"), count):
                beside = env.client(*words, sock=busy, pid=server.pid)
            rates[0].append(alone["server"]["iops"])
            rates[1].append(beside["server"]["iops"])
            ping.append(alone["ping_pong_ns"])
    ratio = median([b / a for a, b in zip(*rates)])
    row(f"busy beside {count} idle, over its rate alone", ratio, "x", ">= 0.97", ratio >= 0.97,
        median(ping), f"{median(rates[1]):,.0f} of {median(rates[0]):,.0f} IOPS", rates[1])


def scenario_start(env):
    starts, rss = [], []
    for _ in range(max(3, env.args.pairs)):
        sock = env.sock("v.sock")
        with Server(vhostd_argv(env.vhostd, sock, ("null", "1G")), sock) as server:
            starts.append(server.start_ms)
            with Held(env, link(env, sock), 1):
                rss.append(server.rss_mib())
    row("start to listening", median(starts), "ms", "< 20", median(starts) < 20, samples=starts)
    row("resident memory, one device idle", median(rss), "MiB", "< 8", median(rss) < 8,
        samples=rss)


def scenario_scsi(env):
    disk, a, b, words = ("null", "1G"), env.sock("s.sock"), env.sock("v.sock"), ["--qd", "32"]
    got = pairs(env,
                lambda: env.on_server(vhostd_scsi_argv(env.vhostd, a, disk), a,
                                      [*words, "--scsi"]),
                lambda: env.on_server(vhostd_argv(env.vhostd, b, disk), b, words))
    ping = median([g[0]["ping_pong_ns"] for g in got])
    cpu = [[g[k]["server"]["cpu_ns_per_io"] for g in got] for k in range(2)]
    iops = [median([g[k]["server"]["iops"] for g in got]) for k in range(2)]
    ratio = median([s / v for s, v in zip(*cpu)])
    row("scsi null qd32, CPU per I/O over blk's", ratio, "x", "<= 1.35", ratio <= 1.35, ping,
        f"{median(cpu[0]):.0f} ns, blk {median(cpu[1]):.0f}; {iops[0]:,.0f} IOPS, "
        f"blk {iops[1]:,.0f}", cpu[0])


def scenario_scsi_memory(env):
    for disk in (("null", "1G"), ("ram", "64M")):
        sock = env.sock("m.sock")
        with Server(vhostd_scsi_argv(env.vhostd, sock, disk, targets=256), sock) as server:
            # A short run opens what is opened on first use, on the first and the last target.
            for target in (0, 255):
                env.client("--qd", "32", f"--scsi={target}", "--count", "1000", sock=sock)
            with Held(env, link(env, sock), 1, ["--scsi"]):
                rss = server.rss_mib()
            row(f"scsi, resident memory of 256 {disk[0]} targets", rss, "MiB", "< 16", rss < 16)


# How the doorbells come: what the server is told, and the client.
NVME_WAYS = {
    "vfio-user, mapped": ({"mapped": True}, ["--nvme"]),
    "vfio-user, trapped": ({"mapped": False}, ["--nvme", "--trapped"]),
    "vhost-user": ({"transport": "vhost-user"}, ["--nvme-vhost"]),
}


def scenario_nvme(env):
    disk, a, b = ("null", "1G"), env.sock("n.sock"), env.sock("v.sock")
    for way, (how, words) in NVME_WAYS.items():
        for qd in (1, 32, 128):
            at = ["--qd", str(qd)]
            got = pairs(env,
                        lambda: env.on_server(vhostd_nvme_argv(env.vhostd, a, disk, **how), a,
                                              [*at, *words]),
                        lambda: env.on_server(vhostd_argv(env.vhostd, b, disk), b, at))
            ping = median([g[0]["ping_pong_ns"] for g in got])
            cpu = [[g[k]["server"]["cpu_ns_per_io"] for g in got] for k in range(2)]
            iops = [median([g[k]["server"]["iops"] for g in got]) for k in range(2)]
            ratio = median([n / v for n, v in zip(*cpu)])
            row(f"nvme {way}, null qd{qd}, CPU over blk's", ratio, "x", "<= 1.25",
                ratio <= 1.25, ping, f"{median(cpu[0]):.0f} ns, blk {median(cpu[1]):.0f}; "
                f"{iops[0]:,.0f} IOPS, blk {iops[1]:,.0f}", cpu[0])


def scenario_nvme_scaling(env):
    disk, a = ("null", "1G"), env.sock("n.sock")

    def run(count):
        return env.on_server(vhostd_nvme_argv(env.vhostd, a, disk, queues=count, cores=count), a,
                             ["--nvme", "--qd", "128", "--queues", str(count)])

    got = pairs(env, lambda: run(2), lambda: run(1))
    cpu = [[g[k]["server"]["cpu_ns_per_io"] for g in got] for k in range(2)]
    ratio = median([two / one for two, one in zip(*cpu)])
    row("nvme, 2 queue pairs on 2 loops, CPU over 1 on 1", ratio, "x", "<= 1.1", ratio <= 1.1,
        median([g[0]["ping_pong_ns"] for g in got]),
        f"{median(cpu[0]):.0f} ns, one {median(cpu[1]):.0f}", cpu[0])


def scenario_nvme_idle(env):
    seconds, sock = max(1.0, env.args.seconds), env.sock("n.sock")
    for way, (how, words) in NVME_WAYS.items():
        argv = vhostd_nvme_argv(env.vhostd, sock, ("null", "1G"), **how)
        with Server(argv, sock) as server, Held(env, link(env, sock), 1, words):
            time.sleep(0.5)
            before, start = server.cpu_s(), time.monotonic()
            time.sleep(seconds)
            used = (server.cpu_s() - before) / (time.monotonic() - start) * 100
            row(f"nvme {way}, idle, 4 queue pairs", used, "% of core", "< 2", used < 2, None,
                f"RSS {server.rss_mib():.1f} MiB")


def link(env, sock):
    """A name with a number in it, as --hold wants."""
    name = env.sock("held0")
    if os.path.lexists(name):
        os.unlink(name)
    os.symlink(sock, name)
    return env.sock("held%u")


SCENARIOS = {"null": scenario_null, "null-qd1": scenario_null_qd1, "ram": scenario_ram,
             "file": scenario_file, "sleep": scenario_sleep, "idle": scenario_idle,
             "crowd": scenario_crowd, "start": scenario_start, "scsi": scenario_scsi,
             "scsi-memory": scenario_scsi_memory, "nvme": scenario_nvme,
             "nvme-scaling": scenario_nvme_scaling, "nvme-idle": scenario_nvme_idle}


def make_image(env, size):
    """Written in full: holes would be answered without the device."""
    env.image = os.path.join(env.args.image_dir or env.tmp, "bench.img")
    block = os.urandom(1 << 20)
    with open(env.image, "wb") as f:
        for _ in range(size >> 20):
            f.write(block)
        f.flush()
        os.fsync(f.fileno())


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--build", default="build")
    p.add_argument("--pairs", type=int, default=5)
    p.add_argument("--seconds", type=float, default=2.0)
    p.add_argument("--idle", type=int, default=1000, help="connected devices of the idle runs")
    p.add_argument("--image", help="file to read for the file scenario (never written)")
    p.add_argument("--image-dir", help="where to make one (default: the temporary directory)")
    p.add_argument("--only", action="append", choices=sorted(SCENARIOS))
    p.add_argument("--quick", action="store_true", help="a smoke run: 1 pair, 0.3 s, 50 devices")
    p.add_argument("--json", default="bench-result.json")
    args = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are stopped
    if args.quick:
        args.pairs, args.seconds, args.idle = 1, 0.3, 50
    raise_nofile()
    with tempfile.TemporaryDirectory(prefix="vb-") as tmp:
        env = Env(args, tmp)
        names = args.only or list(SCENARIOS)
        if "file" in names and not env.image:
            make_image(env, 64 << 20 if args.quick else 1 << 30)
        load = os.getloadavg()[0]
        print(f"load {load:.2f}, {os.cpu_count()} CPUs, {args.pairs} pairs of {args.seconds} s")
        broken = 0
        for name in names:
            try:
                SCENARIOS[name](env)
            except (RuntimeError, OSError, subprocess.SubprocessError) as e:
                broken += 1
                row(name, None, "", "", False, note=f"did not run: {e}")
        if env.image and not args.image:
            os.unlink(env.image)
    with open(args.json, "w") as f:
        json.dump({"load": load, "pairs": args.pairs, "seconds": args.seconds, "rows": ROWS}, f,
                  indent=1)
    failed = sum(1 for r in ROWS if r["pass"] is False)
    print(f"{failed} of {sum(1 for r in ROWS if r['pass'] is not None)} targets missed; "
          f"written to {args.json}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
