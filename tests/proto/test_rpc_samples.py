"""Requests that SPDK v26.09-pre was sent, in their order, with its answers (tests/data/rpc-samples.json).

An answer must have the same shape: a result with at least the same keys and types, or an error with
the same code. What differs is listed here and in docs/internals/mgmt.md, with the reason."""

import fnmatch
import json
import os
import re

import pytest

from rpcclient import Rpc, methods

HERE = os.path.dirname(os.path.abspath(__file__))
MGMT_MD = os.path.join(HERE, "../../docs/internals/mgmt.md")
with open(os.path.join(HERE, "../data/rpc-samples.json"), encoding="utf-8") as samples:
    SAMPLES = json.load(samples)

NO_COMMIT = "a release has no commit"
ONE_THREAD = "a loop is one thread, and a controller has none of its own; the main one is the last"
NO_PART = "there is no such part"
NO_MASK = "a mask that was not given is not made up"
STAYS = "SPDK is still removing the target of the bdev deleted before; here it stays until this call"
NO_POOLS = "there are no buffer pools"
# (case, where in the answer): the reason
DIFFERENCES = {
    ("02-spdk_get_version", "result.fields.commit"): NO_COMMIT,
    ("46-raw-string-id", "result.fields.commit"): NO_COMMIT,
    ("47-raw-batch", "[0].result.fields.commit"): NO_COMMIT,
    ("51-raw-no-jsonrpc-key", "result.fields.commit"): NO_COMMIT,
    ("29-framework_get_reactors", "result.reactors[0].lw_threads[app_thread]"): ONE_THREAD,
    ("29-framework_get_reactors", "result.reactors[0].lw_threads[vhost.0]"): ONE_THREAD,
    ("29-framework_get_reactors", "result.reactors[0].lw_threads[vhost.1]"): ONE_THREAD,
    ("29-framework_get_reactors", "result.reactors[0].lw_threads[vhost.s0]"): ONE_THREAD,
    ("30-thread_get_stats", "result.threads[vhost.0]"): ONE_THREAD,
    ("30-thread_get_stats", "result.threads[vhost.1]"): ONE_THREAD,
    ("30-thread_get_stats", "result.threads[vhost.s0]"): ONE_THREAD,
    ("31-framework_get_subsystems", "result[keyring]"): NO_PART,
    ("31-framework_get_subsystems", "result[vmd]"): NO_PART,
    ("31-framework_get_subsystems", "result[fsdev]"): NO_PART,
    ("31-framework_get_subsystems", "result[accel]"): NO_PART,
    ("31-framework_get_subsystems", "result[nbd]"): NO_PART,
    ("33-iobuf_get_stats", "result[0]"): NO_POOLS,
    ("33-iobuf_get_stats", "result[1]"): NO_POOLS,
    ("35-save_subsystem_config-vhost_blk", "result[0].params.cpumask"): NO_MASK,
    ("37-vhost_scsi_controller_remove_target", "error"): STAYS,
}
# What a case is about, when its method alone does not say it.
NEEDS = {"35-save_subsystem_config-vhost_blk": "vhost_create_blk_controller"}
# Keys that tell elements of a list apart.
NAMES = ("name", "ctrlr", "subsystem", "target_name")


def kind(value):
    return "number" if type(value) in (int, float) else type(value).__name__


def list_differences(expected, got, at):
    """Of names only the type counts; elements that have a name are found by it, others by index."""
    if expected and isinstance(expected[0], str):
        if not all(isinstance(x, str) for x in got):
            yield at
        return
    for i, value in enumerate(expected):
        names = [n for n in NAMES if isinstance(value, dict) and n in value]
        where = f"{at}[{value[names[0]] if names else i}]"
        if names:
            found = [x for x in got if isinstance(x, dict) and x.get(names[0]) == value[names[0]]]
        else:
            found = got[i:i + 1]
        if found:
            yield from differences(value, found[0], where)
        else:
            yield where


def differences(expected, got, at):
    """Where got lacks something, or has another type, or another code."""
    if kind(expected) != kind(got):
        yield at
    elif isinstance(expected, list):
        yield from list_differences(expected, got, at)
    elif isinstance(expected, dict):
        for key, value in expected.items():
            where = f"{at}.{key}" if at else key
            if key not in got:
                yield where
            elif "jsonrpc" in expected and key == "id" or at.endswith("error") and key == "code":
                if value != got[key]:
                    yield where
            else:
                yield from differences(value, got[key], where)


def methods_of(sample):
    request = sample["request"]
    needed = {r["method"] for r in (request if isinstance(request, list) else [request])}
    return needed | ({NEEDS[sample["case"]]} if sample["case"] in NEEDS else set())


@pytest.fixture
def replayed(room, start):
    """{case: (wanted, got)} of all samples whose methods are there."""
    path = os.path.join(room, "rpc")
    d = start("--rpc-socket", path, cwd=room)
    d.wait_listening(path)
    answers = {}
    with Rpc(path) as rpc:
        known = set(rpc.call("rpc_get_methods", include_aliases=True)) | {"nope"}
        for sample in SAMPLES:
            if methods_of(sample) <= known:
                answers[sample["case"]] = (sample["response"], rpc.ask(sample["request"]))
    return answers


def test_each_recorded_request_is_answered_in_the_same_shape(replayed):
    found = {(case, at): got for case, (wanted, got) in replayed.items()
             for at in differences(wanted, got, "")}
    new = {f"{case}: {at}": json.dumps(got)[:300] for (case, at), got in found.items()
           if (case, at) not in DIFFERENCES}
    assert not new, "\n".join(f"{k}: {v}" for k, v in new.items())
    gone = [k for k in DIFFERENCES if k not in found and k[0] in replayed]
    assert not gone, gone


def test_each_error_says_more_than_that_of_spdk(replayed):
    for case, (wanted, got) in replayed.items():
        if isinstance(got, dict) and "error" in wanted and "error" in got:
            assert len(got["error"]["message"]) >= len(wanted["error"]["message"]), (case, got)


def test_the_differences_are_documented():
    with open(MGMT_MD, encoding="utf-8") as f:
        text = f.read()
    for (case, at), reason in DIFFERENCES.items():
        assert f"| {case} | `{at}` | {reason} |" in text, (case, at)


def test_each_method_of_spdk_is_there_or_its_family_has_a_reason():
    with open(os.path.join(HERE, "../data/spdk-methods.txt"), encoding="utf-8") as f:
        theirs = {x.strip() for x in f if not x.startswith("#")}
    theirs |= set(next(s for s in SAMPLES if s["case"] == "01-rpc_get_methods")["response"]["result"])
    with open(MGMT_MD, encoding="utf-8") as f:
        table = f.read().split("## Methods of SPDK that are not here")[1].split("\n## ")[0]
    absent = [x for row in re.findall(r"^\| (`.*?) \| .+ \|$", table, re.M)
              for x in re.findall(r"`([a-z0-9_*]+)`", row)]
    ours = set(methods())
    assert len(theirs) > 200 and len(absent) > 20
    unexplained = {m for m in theirs - ours if not any(fnmatch.fnmatch(m, a) for a in absent)}
    assert not unexplained
    for a in absent:
        assert fnmatch.filter(theirs, a), f"{a}: SPDK has none"
        assert not fnmatch.filter(ours, a), f"{a}: is there"
