#!/usr/bin/python3
"""Writes seeds into tests/fuzz/corpus/fuzz_nvme (or a folder): one for each row of
src/nvme/cmd.def with plausible fields, and programs of what belongs together."""

import os
import re
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROW = re.compile(r"^(ADMIN|IO)\((\w+),", re.M)
CODE = re.compile(r"NVME_(ADMIN|IO)_(\w+) = (0x[0-9a-f]+)")
IO_QUEUE, NO_WAIT, NO_BELL, OTHER = 1, 2, 8, 128
DATA, LIST, FAR, BORDER = 0x20000, 0x30000, 3 << 20, (700 << 10) + 2048


def source(name):
    with open(os.path.join(HERE, "../../src/nvme", name), encoding="ascii") as f:
        return f.read()


def step(kind, how=0, arg=0, at=0, fill=b""):
    return struct.pack("<BBBBI", how, kind, arg, len(fill), at) + fill


def command(opcode, how=0, nsid=1, flags=0, prp=(DATA, DATA + 4096), dws=(), at=DATA, fill=b""):
    dws = (list(dws) + [0] * 6)[:6]
    sqe = struct.pack("<BBHIIIQQQ6I", opcode, flags, 0, nsid, 0, 0, 0, prp[0], prp[1], *dws)
    return step(opcode, how, 0, at, fill) + sqe


def other(kind, arg=0, at=0, value=b""):
    return step(kind, OTHER, arg, at) + value


def sgl(addr, length, kind):
    return struct.pack("<QI3xB", addr, length, kind << 4)


PLAIN = {
    ("ADMIN", "IDENTIFY"): [(n,) for n in (0, 1, 2, 3, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15)],
    ("ADMIN", "GET_LOG_PAGE"): [(n | 0x7f << 16,) for n in (1, 2, 3, 4, 5, 0xc, 0x80, 0x81)],
    ("ADMIN", "SET_FEATURES"): [(n, v) for n in (*range(1, 18), 0x80, 0x82, 0x83, 0x84)
                                for v in (0, 1)],
    ("ADMIN", "GET_FEATURES"): [(n | s << 8,) for n in (*range(1, 18), 0x80, 0x84)
                                for s in (0, 3)],
    ("ADMIN", "CREATE_CQ"): [(2 | 15 << 16, 3)],
    ("ADMIN", "CREATE_SQ"): [(2 | 15 << 16, 1 | 1 << 16)],
    ("ADMIN", "DELETE_SQ"): [(1,)],
    ("ADMIN", "DELETE_CQ"): [(1,)],
    ("ADMIN", "FORMAT_NVM"): [(0,), (1 << 9,)],
    ("ADMIN", "SANITIZE"): [(1,), (2,), (3, 0x55)],
    ("IO", "DATASET_MANAGEMENT"): [(1, 4)],
    ("IO", "COPY"): [(64, 0, 1)],
    ("IO", "RESV_REGISTER"): [(0,), (1,), (0 | 3 << 30,)],
    ("IO", "RESV_ACQUIRE"): [(0 | 1 << 8,), (1 | 3 << 8,)],
    ("IO", "RESV_RELEASE"): [(0 | 1 << 8,), (1,)],
    ("IO", "RESV_REPORT"): [(63,), (63, 1)],
}
FILL = {
    "DATASET_MANAGEMENT": struct.pack("<IIQIIQ", 0, 8, 0, 0, 8, 16),
    "COPY": struct.pack("<QQHxxxxxxIHH", 0, 0, 7, 0, 0, 0) * 2,
    "RESV_REGISTER": struct.pack("<QQ", 0, 0xaaaa),
    "RESV_ACQUIRE": struct.pack("<QQ", 0xaaaa, 0),
    "RESV_RELEASE": struct.pack("<Q", 0xaaaa),
}


def rows():
    codes = {(k, n): int(v, 16) for k, n, v in CODE.findall(source("spec.h"))}
    for kind, name in ROW.findall(source("cmd.def")):
        how = IO_QUEUE if kind == "IO" else 0
        for n, dws in enumerate(PLAIN.get((kind, name), [(0, 0, 7)])):
            yield (f"{kind}-{name}-{n}",
                   command(codes[kind, name], how, dws=dws, fill=FILL.get(name, b"")))


def programs():
    read, write, compare = 2, 1, 5
    prps = b"".join(struct.pack("<Q", DATA + 0x2000 * i) for i in range(1, 16))
    yield "list", command(read, IO_QUEUE, prp=(DATA, LIST), dws=(0, 0, 127), at=LIST, fill=prps)
    yield "border", command(write, IO_QUEUE, prp=(BORDER - 2048, 0), dws=(0, 0, 7))
    far = struct.pack("<QQ", FAR + 0x2000, DATA)
    yield "far", command(read, IO_QUEUE, prp=(FAR + 0x1000, FAR), dws=(0, 0, 23), at=FAR, fill=far)
    segment = sgl(DATA, 512, 0) + sgl(0, 1024, 1) + sgl(DATA + 4097, 2560, 0)
    first = struct.unpack("<QQ", sgl(LIST, len(segment), 3))
    yield "sgl", command(read, IO_QUEUE, flags=0x40, prp=first, dws=(0, 0, 7), at=LIST,
                         fill=segment)
    pair = (command(compare, IO_QUEUE | NO_BELL, flags=1, dws=(8, 0, 0)) +
            command(write, IO_QUEUE, flags=2, dws=(8, 0, 0)))
    yield "fused", pair + pair
    yield "half", command(compare, IO_QUEUE, flags=1) + command(read, IO_QUEUE)
    yield "bad-blocks", (command(4, IO_QUEUE, dws=(8, 0, 7)) + command(read, IO_QUEUE, dws=(8,)) +
                         command(write, IO_QUEUE, dws=(9,)) + command(read, IO_QUEUE, dws=(9,)))
    held = command(read, IO_QUEUE | NO_WAIT) * 3
    yield "abort", other(0) + held + command(8, dws=(1 | 3 << 16,)) + other(1)
    yield "reset", other(0) + held + other(2) + command(read, IO_QUEUE)
    yield "remap", held + other(4, 0) + held + other(4, 3) + command(read, IO_QUEUE)
    yield "unplug", command(0x0c) + other(0) + held + other(6) + other(7) + command(6, dws=(2,))
    yield "shutdown", command(read, IO_QUEUE) + other(3, 3, 0x14, struct.pack("<I", 0x464001))
    yield "delete", other(0) + held + command(0, dws=(1,)) + other(1) + command(4, dws=(1,))


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "corpus/fuzz_nvme")
    os.makedirs(out, exist_ok=True)
    for name, program in [*rows(), *programs()]:
        for world in (0, 1 | 8, 1 | 2 | 4 | 16, 16 | 32):
            with open(os.path.join(out, f"seed-{name}-{world}"), "wb") as f:
                f.write(bytes([world]) + program)


if __name__ == "__main__":
    main()
