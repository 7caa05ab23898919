#!/usr/bin/python3
"""make bench-instructions: instructions of the server per I/O, counted by callgrind.

Each case runs twice, with N and 2N requests; the difference over N is the cost of one request, and
start-up, negotiation and shutdown cancel. Under valgrind the server is some fifty times slower than
the client, so the ring is always full and hardly any empty poll is counted; on a busy machine some
are, so each is the smallest of --repeat runs.

SCSI has two limits: a number, and so many times what virtio-blk needed for the same case. NVMe, in
each way that doorbells may come, has the second against virtio-blk's split ring.

--only counters says what counting costs: blk and NVMe against vhostd-uncounted, the same program
built without (base/count.h). It is built if need be.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

from servers import (Server, qsd_argv, vhostd_argv, vhostd_bdev_argv, vhostd_nvme_argv,
                     vhostd_scsi_argv)

CASES = [(device, disk, packed, indirect)
         for device, disk in (("blk", ("null", "1G")), ("blk", ("ram", "64M")),
                              ("scsi", ("null", "1G")))
         for packed in (False, True) for indirect in (False, True)]
# What the server is told, and the client.
NVME = {
    "nvme mapped": ({"mapped": True}, ["--nvme"]),
    "nvme trapped": ({"mapped": False}, ["--nvme", "--trapped"]),
    "nvme vhost-user": ({"transport": "vhost-user"}, ["--nvme-vhost"]),
}
CASES += [(device, ("null", "1G"), False, False) for device in NVME]
LIMITS = {("blk", "null"): 500, ("blk", "ram"): 1000, ("scsi", "null"): 700}
COUNTERS = [(device, ("null", "1G"), False, False)
            for device in ("blk", "bdev", "nvme trapped", "nvme vhost-user")]
COUNTERS_LIMIT = 0.03
OVER_BLK = {"scsi": 1.35, **{device: 1.25 for device in NVME}}


def first_in_line():
    """The client must never be what is waited for; on a busy machine it may need a better place."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    except PermissionError:
        pass


def run_once(args, tmp, argv_of, words, count):
    sock, out = os.path.join(tmp, "s.sock"), os.path.join(tmp, "out")
    env = dict(os.environ, LD_PRELOAD=os.path.abspath(args.shim))
    argv = ["valgrind", "--tool=callgrind", "--fair-sched=yes", f"--callgrind-out-file={out}",
            *argv_of(sock)]
    server = Server(argv, sock, env=env)
    try:
        done = subprocess.run([args.bench, "--socket", sock, "--json", "--count", str(count),
                               *words], capture_output=True, text=True, timeout=args.limit,
                              preexec_fn=first_in_line)
        if done.returncode:
            raise RuntimeError(done.stderr.strip() or done.stdout[-200:])
        server.proc.send_signal(signal.SIGTERM)
        server.proc.wait(60)
    finally:
        if server.proc.poll() is None:
            # valgrind may hold back SIGTERM while a thread sleeps in a call it does not know.
            server.proc.kill()
            server.proc.wait()
    text = server.proc.stderr.read().decode()
    server.proc.stderr.close()
    found = re.search(r"Collected\s*:\s*([0-9]+)", text)
    if not found:
        raise RuntimeError(f"callgrind said nothing: {text[-300:]}")
    return int(found.group(1))


def case_name(device, disk, packed, indirect):
    name = f"{device} {disk[0]}"
    if device not in NVME:
        name += f" {'packed' if packed else 'split'} {'indirect' if indirect else 'direct'}"
    return name


def per_io(args, case, program):
    """Instructions of one request, of that program of the build folder."""
    device, disk, packed, indirect = case
    words = ["--qd", str(args.qd), "--rw", "randread"]
    words += ["--packed"] * packed + ["--indirect"] * indirect
    words += ["--scsi"] * (device == "scsi")
    if device in NVME:
        words += NVME[device][1]
    path = os.path.join(args.build, program)

    def argv_of(sock):
        if args.peer:
            return qsd_argv(sock, disk, 1)
        if device in NVME:
            return vhostd_nvme_argv(path, sock, disk, 1, **NVME[device][0])
        if device == "scsi":
            return vhostd_scsi_argv(path, sock, disk, 1)
        if device == "bdev":
            return vhostd_bdev_argv(path, sock, disk)
        return vhostd_argv(path, sock, disk, 1)
    with tempfile.TemporaryDirectory(prefix="vi-") as tmp:
        once, twice = (min(run_once(args, tmp, argv_of, words, n * args.count)
                           for _ in range(args.repeat)) for n in (1, 2))
    return (twice - once) / args.count


def counters(args):
    """What counting costs."""
    rows, bad = [], 0
    subprocess.run(["ninja", "-C", args.build, "vhostd-uncounted"], check=True, stdout=subprocess.DEVNULL)
    for case in COUNTERS:
        counted, bare = (per_io(args, case, p) for p in ("vhostd", "vhostd-uncounted"))
        share = (counted - bare) / counted
        ok = share < COUNTERS_LIMIT
        bad |= not ok
        print(f"{'PASS' if ok else 'FAIL'}  {case_name(*case):26} {counted:>8.0f} instructions per I/O, "
              f"{bare:.0f} without counting: {100 * share:.1f} %, target < {100 * COUNTERS_LIMIT:.0f} %",
              flush=True)
        rows.append({"name": f"counters {case_name(*case)}", "value": 100 * share, "unit": "%",
                     "target": f"< {100 * COUNTERS_LIMIT:.0f}", "pass": ok, "ping_pong_ns": None})
    return rows, bad


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--build", default="build")
    p.add_argument("--count", type=int, default=20000)
    p.add_argument("--qd", type=int, default=32)
    p.add_argument("--repeat", type=int, default=3)
    p.add_argument("--limit", type=float, default=300)
    p.add_argument("--quick", action="store_true", help="2,000 requests, null split direct only")
    p.add_argument("--peer", action="store_true", help="qemu-storage-daemon, null, split")
    p.add_argument("--only", choices=("blk", "scsi", "nvme", "counters"),
                   help="null disks, as blk and as that; blk: on ram too; counters: their cost")
    p.add_argument("--json", default="bench-instructions.json")
    args = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are stopped
    args.bench = os.path.join(args.build, "vhostd-bench")
    args.shim = os.path.join(args.build, "bench", "valgrind_shim.so")
    cases, rows, bad = CASES, [], 0
    if args.quick:
        args.count, args.repeat, cases = 2000, 1, CASES[:1]
    if args.peer:
        cases = [c for c in CASES if c[0] == "blk" and c[1][0] == "null" and not c[2]]
    if args.only == "counters":
        rows, bad = counters(args)
        cases = []
    elif args.only:
        cases = [c for c in cases if c[0].split()[0] == args.only or (c[0] == "blk" and c[1][0] == "null")]
    blk = {}
    for case in cases:
        device, disk, packed, indirect = case
        limit, name = LIMITS.get((device, disk[0])), case_name(*case)
        value, note = None, ""
        try:
            value = per_io(args, case, "vhostd")
        except (RuntimeError, OSError, subprocess.SubprocessError) as e:
            bad, note = 1, f"did not run: {e}"
        ok = value is not None and (limit is None or value <= limit)
        if device == "blk":
            blk[disk, packed, indirect] = value
        elif value and blk.get((disk, packed, indirect)):
            ratio = value / blk[disk, packed, indirect]
            ok = ok and ratio <= OVER_BLK[device]
            note = f"{ratio:.2f} of blk's, target <= {OVER_BLK[device]}"
        shown = "-" if value is None else f"{value:.0f}"
        target = "" if limit is None else f"target <= {limit}"
        print(f"{'PASS' if ok else 'FAIL'}  {name:26} {shown:>8} instructions per I/O, "
              f"{target}  {note}", flush=True)
        rows.append({"name": f"instructions {name}", "value": value, "unit": "instr",
                     "target": target, "pass": ok, "ping_pong_ns": None})
    with open(args.json, "w") as f:
        json.dump({"rows": rows}, f, indent=1)
    return bad


if __name__ == "__main__":
    sys.exit(main())
