#!/usr/bin/python3
"""Writes the first inputs of fuzz_rpc: recorded requests, every method with every parameter, batches.

usage: seed_rpc.py VHOSTD FOLDER"""

import json
import os
import re
import subprocess
import sys

SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../data/rpc-samples.json")


def main():
    vhostd, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    inputs = []
    with open(SAMPLES, encoding="utf-8") as f:
        for sample in json.load(f):
            text = json.dumps(sample["request"]).encode()
            inputs += [b"\x00\x00" + text, b"\x01" + text]
    docs = subprocess.run([vhostd, "--help-rpc"], check=True, capture_output=True, text=True).stdout
    for part in docs.split("\n### ")[1:]:
        names = re.findall(r"^\| \**(\w+)\** \| ", part, re.M)[1:]
        values = [0, -1, 2**64 - 1, 1.5, True, "x", "64M", None, [1], {}]
        for i in range(0, len(values), 2):
            params = {n: values[(i + k) % len(values)] for k, n in enumerate(names)}
            call = {"jsonrpc": "2.0", "id": i, "method": part.split("\n")[0], "params": params}
            inputs += [b"\x01" + json.dumps(call).encode(), b"\x00\x01" + json.dumps(call).encode()]
    inputs.append(b"\x00\x00" + b'[{"method":"spdk_get_version","id":1},{"method":"x"}]{"a"' * 3)
    for i, data in enumerate(inputs):
        with open(os.path.join(folder, f"seed{i}"), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()
