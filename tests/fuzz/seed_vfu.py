#!/usr/bin/python3
"""Writes the seeds of fuzz_vfu: programs that bring an NVMe controller up and use it.

usage: tests/fuzz/seed_vfu.py [FOLDER]; default: tests/fuzz/corpus/fuzz_vfu"""

import os
import struct
import sys

# Operations, by their place in the harness's table.
MAP, UNMAP, REGISTER, IRQS, FEATURE, MIG_DATA, MEMORY, RESET = 1, 3, 5, 8, 9, 10, 13, 16
# Places in its list of NVMe registers.
CC_ENABLE, AQA, ASQ, ACQ, ADMIN_TAIL, IO_TAIL = 128, 4, 5, 7, 9, 11
SET, GET = 2 << 5, 1 << 5


def number(mode, value):
    """take_number() of the harness: 0 the value, 1 in pages, 3 in files, 4 all other bits, 6 a bit."""
    return struct.pack("<BH", mode, value)


def memory_map(at=(0, 0), with_fd=True):
    return bytes([MAP, 0x06 | (0 if with_fd else 0x20)]) + number(*at) + number(3, 1)


def register(which, value=b""):
    return bytes([REGISTER, which]) + value


def memory(at, data):
    data = data[:63]
    return bytes([MEMORY, len(data) << 1]) + struct.pack("<H", at) + data


def sqe(opcode, cid, nsid=0, prp1=0, cdw10=0, cdw11=0, cdw12=0):
    return struct.pack("<BBHIQQQQIIIIII", opcode, 0, cid, nsid, 0, 0, prp1, 0, cdw10, cdw11,
                       cdw12, 0, 0, 0)


def feature(index, how, data=b""):
    return bytes([FEATURE, index | how]) + data


def programs():
    file = number(0, 0) + number(3, 1)
    up = memory_map() + register(AQA, number(4, 0xfff0)) + register(ASQ, number(1, 1)) \
        + register(ACQ, number(0, 0)) + register(CC_ENABLE)
    admin = memory(0x1000, sqe(6, 1, 0, 0x2000, 1)) \
        + memory(0x1040, sqe(5, 2, 0, 0x3000, 0x000f0001, 1)) \
        + memory(0x1080, sqe(1, 3, 0, 0x4000, 0x000f0001, 0x10001)) \
        + register(ADMIN_TAIL, number(0, 3))
    io = memory(0x4000, sqe(2, 1, 1, 0x5000, 0, 0, 7)) \
        + memory(0x4040, sqe(1, 2, 1, 0x6000, 8)) + register(IO_TAIL, number(0, 2))
    far = memory(0x4080, sqe(1, 3, 1, 0x10000)) + register(IO_TAIL, number(0, 3))
    unmap = bytes([UNMAP, 0]) + file
    yield "up", up
    yield "admin", up + admin
    yield "io", up + admin + io
    yield "migration", up + admin + io + feature(2, SET, b"\1") + feature(2, SET, b"\3") \
        + bytes([MIG_DATA, 1]) + feature(2, SET, b"\4") + bytes([MIG_DATA, 3]) + bytes(64) \
        + feature(2, SET, b"\2")
    yield "dirty", up + admin + feature(6, SET, b"\0" + file) + io \
        + feature(8, GET, file + number(1, 1))
    yield "interrupts", bytes([IRQS, 2 | 1 << 3, 3, 0x24]) + bytes(16) + bytes([IRQS, 2, 1, 0x21]) \
        + bytes(16) + up + admin
    yield "remap", up + admin + unmap + memory_map() + io + unmap + memory_map()
    yield "messages", up + admin + memory_map((6, 16), False) + io + far + unmap
    yield "reset", up + admin + io + bytes([RESET, 0]) + up + admin + io
    yield "cut", up + admin + bytes([MEMORY, 255]) + struct.pack("<H", 2) + io


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "corpus", "fuzz_vfu")
    os.makedirs(folder, exist_ok=True)
    for device, name in ((2, "trapped"), (3, "mapped")):
        for what, program in programs():
            with open(os.path.join(folder, "%s_%s" % (name, what)), "wb") as f:
                f.write(bytes([device, 0]) + program)


main()
