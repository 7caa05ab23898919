#!/usr/bin/python3
"""Compare two results of run.py or instructions.py: new over old, row by row.

Rows whose ping-pong figures differ by more than a fifth are marked "~": the machine was not the
same, and absolute figures cannot be compared (ratios still can).
"""

import json
import sys


def load(path):
    with open(path) as f:
        return {r["name"]: r for r in json.load(f)["rows"]}


def main():
    if len(sys.argv) != 3:
        print("usage: compare.py OLD.json NEW.json", file=sys.stderr)
        return 2
    old, new = load(sys.argv[1]), load(sys.argv[2])
    for name, n in new.items():
        o = old.get(name)
        if not o or o["value"] is None or n["value"] is None:
            print(f"    {name:46} only in one")
            continue
        a, b = o.get("ping_pong_ns"), n.get("ping_pong_ns")
        other = a and b and max(a, b) / min(a, b) > 1.2
        ratio = n["value"] / o["value"] if o["value"] else float("nan")
        print(f"{'~' if other else ' '}   {name:46} {o['value']:12.4g} {n['value']:12.4g} "
              f"{n['unit']:10} x{ratio:.3f}")
    for name in old.keys() - new.keys():
        print(f"    {name:46} only in the old")
    return 0


if __name__ == "__main__":
    sys.exit(main())
