"""A client of the management socket, and the methods as `vhostd --help-rpc` prints them."""

import json
import re
import socket
import subprocess

from conftest import TIMEOUT_S, VHOSTD


class RpcError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Rpc:
    """One connection; requests and answers go as they are given, or by call()."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.settimeout(TIMEOUT_S)
        self.bytes = b""
        self.next_id = 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else json.dumps(data).encode())

    def answer(self):
        """The next JSON text; EOFError when there is none."""
        while b"\n" not in self.bytes:
            more = self.socket.recv(1 << 20)
            if not more:
                raise EOFError(self.bytes)
            self.bytes += more
        line, self.bytes = self.bytes.split(b"\n", 1)
        return json.loads(line)

    def ask(self, request):
        self.send(request)
        return self.answer()

    def call(self, method, **params):
        """The result; RpcError."""
        self.next_id += 1
        request = {"jsonrpc": "2.0", "id": self.next_id, "method": method}
        answer = self.ask({**request, "params": params} if params else request)
        assert answer["id"] == self.next_id, answer
        if "error" in answer:
            raise RpcError(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]


class Param:
    """A row of a table: name, required, kind (string, bool, number, size, enum, json), limits, and a
    value that is legal by them."""

    def __init__(self, row):
        name, values = row[0], row[1]
        self.required = name.startswith("**")
        self.name = name.strip("*")
        limits = re.match(r"(-?\d+)\.\.(\d+)( or text)?", values)
        if limits:
            self.kind = "size" if limits[3] else "number"
            self.min, self.max = int(limits[1]), int(limits[2])
        else:
            self.kind = {"string": "string", "true, false": "bool",
                         "array or object": "json"}.get(values, "enum")
        self.legal = {"string": "x", "bool": True, "json": {}}.get(self.kind)
        if self.kind in ("number", "size"):
            self.legal = self.min
        elif self.kind == "enum":
            self.legal = json.loads(values.split(", ")[0])


class Method:
    def __init__(self, text):
        lines = text.split("\n")
        self.name = lines[0]
        self.startup = "Before `framework_start_init` only." in text
        self.anytime = "Before `framework_start_init`, too." in text
        self.reads = "Not on the read-only socket." not in text
        self.saves = "Kept by `--state`." in text
        rows = [x[2:].split(" | ") for x in lines if x.startswith("| ")]
        self.params = [Param(row) for row in rows[1:]]


def methods():
    """All methods, by name."""
    docs = subprocess.run([VHOSTD, "--help-rpc"], check=True, capture_output=True, text=True,
                          timeout=TIMEOUT_S).stdout
    return {m.name: m for m in map(Method, docs.split("\n### ")[1:])}
