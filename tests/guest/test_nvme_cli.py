"""What nvme-cli, an independent reader and writer of the specification, says of the controller."""

import os
import re

import pytest

from guest import MIB, Q35, NvmeServer, Qemu, sparse

pytestmark = pytest.mark.vhostd_only

# status NAME COMMAND...: "ok", or the status code type and status code that the command got (base
# 4.6.1.2), e.g. 285; "no" when it is something else. DNR and More are cut off.
JOB = """
check "namespaces" eventually 30 nvme_disks 1 2
ctrl=/dev/nvme0 disk=$(nvme_disk 1) ram=$(nvme_disk 2)

status() {
	local name="$1" code
	shift
	if "$@" >/tmp/said 2>&1; then
		say "$name" ok
	else
		code=$(sed -n 's/.*(0x\\([0-9a-f]*\\)).*/\\1/p' /tmp/said | head -n 1)
		[ -n "$code" ] && say "$name" $(printf %x $((0x$code & 0x7ff))) || say "$name" no
	fi
	cat /tmp/said
}
# field COMMAND FIELD: of its output
field() { $1 2>/dev/null | sed -n "s/^$2 *: *//p" | head -n 1; }

for f in vid sn mn ver cntrltype oacs acl aerl frmw lpa elpe npss vwc oncs fuses nn sgls subnqn cmic sanicap; do
	say "ctrl $f" "$(field "nvme id-ctrl $ctrl" $f)"
done
for f in nsze ncap nuse nsfeat flbas nmic rescap nguid; do
	say "ns $f" "$(field "nvme id-ns $disk" $f)"
done
status "ns-descs" nvme ns-descs $disk
say uuid "$(field "nvme ns-descs $disk" uuid)"
say list "$(nvme list-ns $ctrl | sed -n 's/.*]://p' | tr '\\n' ' ')"
status "list-ctrl" nvme list-ctrl $ctrl
status "id-ns of no namespace" nvme id-ns $ctrl -n 5000
status "an unknown CNS" nvme admin-passthru $ctrl -o 6 --cdw10=0xfe -l 4096 -r
for log in smart-log error-log fw-log effects-log changed-ns-list-log sanitize-log; do
	status "$log" nvme $log $ctrl
done
for page in 0x80 0xc1 0x7f; do # reservations, a vendor's, none
	status "log $page" nvme get-log $ctrl --log-id=$page --log-len=512
done
status "show-regs" nvme show-regs $ctrl
say "regs version" "$(field "nvme show-regs $ctrl" version)"
say "regs csts" "$(field "nvme show-regs $ctrl" csts)"

for id in 1 2 4 5 6 7 8 9 0xa 0xb 0xe; do
	status "get-feature $id" nvme get-feature $ctrl -n 1 -f $id
done
status "get-feature of none" nvme get-feature $ctrl -f 0x77
status "set-feature of none" nvme set-feature $ctrl -f 0x77 -v 1
status "set-feature" nvme set-feature $ctrl -f 4 -v 0x14d
say "set value" "$(nvme get-feature $ctrl -f 4 | sed -n 's/.*value://p')"
status "cache off" nvme set-feature $ctrl -f 6 -v 0
say "cache is" "$(nvme get-feature $ctrl -f 6 | sed -n 's/.*value://p')"
status "cache on" nvme set-feature $ctrl -f 6 -v 1

noise /tmp/a 8192
noise /tmp/b 8192
io() {
	local verb=$1
	shift
	nvme $verb $disk -s 1000 -c 15 "$@"
}
status "write" io write -z 8192 -d /tmp/a
status "read" io read -z 8192 -d /tmp/c
check "read what was written" cmp /tmp/a /tmp/c
status "compare" io compare -z 8192 -d /tmp/a
status "compare another" io compare -z 8192 -d /tmp/b
status "write fua" io write -z 8192 -d /tmp/a -f
status "verify" io verify
status "copy" nvme copy $disk --sdlba=2000 --slbs=1000 --blocks=15
nvme read $disk -s 2000 -c 15 -z 8192 -d /tmp/c
check "copied" cmp /tmp/a /tmp/c
status "flush" nvme flush $disk -n 1
status "write-zeroes" io write-zeroes
nvme read $disk -s 1000 -c 15 -z 8192 -d /tmp/c
say "zeroes left" $(tr -d '\\0' </tmp/c | wc -c)
status "dsm" nvme dsm $disk -n 1 -d -s 2000 -b 16
nvme read $disk -s 2000 -c 15 -z 8192 -d /tmp/c
say "deallocated left" $(tr -d '\\0' </tmp/c | wc -c)
status "write-uncor" nvme write-uncor $disk -s 1004 -c 0
status "read uncorrectable" io read -z 8192 -d /tmp/c
status "read beside it" nvme read $disk -s 1005 -c 0 -z 512 -d /tmp/c
status "write over it" io write -z 8192 -d /tmp/a
status "read again" io read -z 8192 -d /tmp/c
status "out of range" nvme read $disk -s 0xffffffff -c 0 -z 512 -d /tmp/c
status "past the end" nvme read $disk -s $(($(cat /sys/block/${disk#/dev/}/size) - 1)) -c 1 -z 1024 -d /tmp/c

status "illegal admin opcode" nvme admin-passthru $ctrl -o 0x77
status "vendor admin opcode" nvme admin-passthru $ctrl -o 0xc7
status "illegal opcode" nvme io-passthru $disk -o 0x77 -n 1
status "vendor opcode" nvme io-passthru $disk -o 0xf7 -n 1
status "a reserved transfer size" nvme io-passthru $disk -o 2 -n 1 --cdw12=0xffff -l 4096 -r
status "delete of no queue" nvme admin-passthru $ctrl -o 0 --cdw10=77
status "create of a queue of one entry" nvme admin-passthru $ctrl -o 5 --cdw10=0x00000033 --cdw11=1 -l 4096 -r
say "errors logged" $(nvme error-log $ctrl -e 64 | grep -c 'error_count.*[1-9]')
say "error count" "$(field "nvme smart-log $ctrl" num_err_log_entries)"

status "resv-report" nvme resv-report $disk -n 1 -e
status "format" nvme format $ram -n 2 -l 0 -f
status "format to no format" nvme format $ram -n 2 -l 9 -f
nvme write $ram -s 0 -c 15 -z 8192 -d /tmp/a
status "format erases" nvme format $ram -n 2 -s 1 -f
nvme read $ram -s 0 -c 15 -z 8192 -d /tmp/c
say "formatted left" $(tr -d '\\0' </tmp/c | wc -c)
if [ $(($(field "nvme id-ctrl $ctrl" sanicap))) != 0 ]; then
	nvme write $ram -s 0 -c 15 -z 8192 -d /tmp/a
	status "sanitize" nvme sanitize $ctrl -a 2
	sanitized() { nvme sanitize-log $ctrl | grep -q 'SSTAT.*0x\\(1\\|101\\)$'; }
	check "sanitized" eventually 20 sanitized
	nvme sanitize-log $ctrl
	nvme read $ram -s 0 -c 15 -z 8192 -d /tmp/c
	say "sanitized left" $(tr -d '\\0' </tmp/c | wc -c)
fi

status "create-ns" nvme create-ns $ctrl -s 32768 -c 32768 -f 0
new=$(sed -n 's/.*nsid:\\([0-9]*\\).*/\\1/p' /tmp/said)
say "created" "$new"
id=$(field "nvme id-ctrl $ctrl" cntlid)
status "attach-ns" nvme attach-ns $ctrl -n $new -c $((id))
nvme ns-rescan $ctrl
check "attached" eventually 10 nvme_disks $new
check "created is usable" fio --name=new --filename=$(nvme_disk $new) --direct=1 --rw=randwrite \\
	--bs=4k --size=4M --verify=crc32c --verify_fatal=1
status "create-ns too large" nvme create-ns $ctrl -s 0x10000000 -c 0x10000000 -f 0
status "attach-ns twice" nvme attach-ns $ctrl -n $new -c $((id))
status "detach-ns" nvme detach-ns $ctrl -n $new -c $((id))
gone() { ! nvme_disks $new; }
check "detached" eventually 10 gone
status "delete-ns" nvme delete-ns $ctrl -n $new
status "delete-ns again" nvme delete-ns $ctrl -n $new
status "ns-rescan" nvme ns-rescan $ctrl

status "reset" nvme reset $ctrl
check "namespaces after reset" eventually 10 nvme_disks 1 2
say "read after reset" $(dd if=$(nvme_disk 1) bs=4k count=1 iflag=direct 2>/dev/null | wc -c)

noise /tmp/a 8192
nvme write $(nvme_disk 1) -s 64 -c 15 -z 8192 -d /tmp/a
status "subsystem-reset" nvme subsystem-reset $ctrl
check "namespaces after subsystem-reset" eventually 20 nvme_disks 1 2
say "csts after subsystem-reset" "$(field "nvme show-regs $ctrl" csts)"
nvme read $(nvme_disk 1) -s 64 -c 15 -z 8192 -d /tmp/c
check "data after subsystem-reset" cmp /tmp/a /tmp/c
"""


@pytest.fixture(scope="module")
def said(room, sid):
    namespaces = {1: {"file": sparse(room + "/disk.img", 256 * MIB),
                      "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}, 2: {"ram": "64M"}}
    os.mkdir(room + "/pool")
    with NvmeServer(room, namespaces, serial="ROSEBUD", model="A Disk", **{
            "nqn": "nqn.2026-01.io.example:disk", "ns-pool": room + "/pool",
            "ns-pool-size": "64M"}) as server:
        with Qemu(room, server, JOB, machine=Q35, with_fio=True, sid=sid,
                  parameters="iomem=relaxed") as guest:
            return guest.finish(180)


def expect(said, **statuses):
    found = {name: said[name.replace("__", "-").replace("_", " ")] for name in statuses}
    assert found == statuses


def test_identify_controller_says_what_was_configured(said):
    said.ok("namespaces")
    assert said["ctrl sn"].strip() == "ROSEBUD"
    assert said["ctrl mn"].strip() == "A Disk"
    assert said["ctrl subnqn"] == "nqn.2026-01.io.example:disk"
    assert int(said["ctrl ver"], 16) == 0x10400
    assert said["ctrl cntrltype"] == "1"
    assert int(said["ctrl vwc"], 16) & 1
    assert int(said["ctrl oncs"], 16) & 0x3f == 0x3f, "compare, uncorrectable, DSM, zeroes, save, resv"
    assert int(said["ctrl acl"]) >= 3 and int(said["ctrl aerl"]) >= 3


def test_identify_namespace_has_the_image_s_size_and_names(said):
    assert int(said["ns nsze"], 16) * 512 == 256 * MIB
    assert int(said["ns rescap"], 16) != 0
    assert said["uuid"] == "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    assert re.findall("0x[0-9a-f]+|[0-9]+", said["list"]) in (["0x1", "0x2"], ["1", "2"])


def test_what_is_not_there_is_an_invalid_field_or_namespace(said):
    assert said["id-ns of no namespace"] == "b"
    assert said["an unknown CNS"] == "2"


@pytest.mark.parametrize("log", ["smart-log", "error-log", "fw-log", "effects-log",
                                 "changed-ns-list-log", "sanitize-log"])
def test_log_pages_are_read(said, log):
    assert said[log] == "ok"


@pytest.mark.parametrize("page", ["0xc1", "0x7f"])
def test_a_page_or_feature_that_is_not_there_is_refused(said, page):
    assert said["log 0x80"] == "ok"
    assert said["log " + page] in ("109", "2")  # invalid log page, or field
    assert said["get-feature of none"] == "2"
    assert said["set-feature of none"] == "2"


def test_registers_are_read(said):
    assert said["show-regs"] == "ok"
    assert int(said["regs version"], 16) == 0x10400
    assert int(said["regs csts"], 16) & 3 == 1


@pytest.mark.parametrize("feature", ["1", "2", "4", "5", "6", "7", "8", "9", "0xa", "0xb", "0xe"])
def test_features_are_read(said, feature):
    assert said["get-feature " + feature] == "ok"


def test_features_are_set(said):
    assert said["set-feature"] == "ok"
    assert int(said["set value"], 16) & 0xffff == 0x14d
    assert said["cache off"] == said["cache on"] == "ok"
    assert int(said["cache is"], 16) == 0


def test_io_commands_do_what_they_say(said):
    expect(said, write="ok", read="ok", compare="ok", compare_another="285", write_fua="ok",
           verify="ok", copy="ok", flush="ok", write__zeroes="ok", dsm="ok")
    said.ok("read what was written", "copied")
    assert said["zeroes left"] == "0"
    assert said["deallocated left"] == "0"


def test_a_block_marked_uncorrectable_is_unreadable_until_it_is_written(said):
    expect(said, write__uncor="ok", read_uncorrectable="281", read_beside_it="ok",
           write_over_it="ok", read_again="ok")


def test_what_is_out_of_range_gets_lba_out_of_range(said):
    expect(said, out_of_range="80", past_the_end="80")


def test_what_is_illegal_gets_the_status_that_the_specification_names(said):
    expect(said, illegal_admin_opcode="1", vendor_admin_opcode="1", illegal_opcode="1",
           vendor_opcode="1", delete_of_no_queue="101")
    assert said["a reserved transfer size"] != "ok"
    assert said["create of a queue of one entry"] != "ok"


def test_format_and_sanitize_erase(said):
    expect(said, format="ok", format_to_no_format="10a", format_erases="ok")
    assert said["formatted left"] == "0"
    if int(said["ctrl sanicap"], 16):
        assert said["sanitize"] == "ok"
        said.ok("sanitized")
        assert said["sanitized left"] == "0"


def test_a_guest_creates_uses_and_deletes_a_namespace_of_the_pool(said, room):
    expect(said, create__ns="ok", attach__ns="ok", detach__ns="ok", delete__ns="ok")
    said.ok("attached", "created is usable", "detached")
    assert said["create-ns too large"] == "115"
    assert said["attach-ns twice"] == "118"
    assert said["delete-ns again"] == "b"


def test_a_reset_controller_shows_its_namespaces_again(said):
    expect(said, reset="ok", ns__rescan="ok")
    said.ok("namespaces after reset")
    assert said["read after reset"] == "4096"


def test_the_subsystem_is_reset_and_keeps_its_data(said):
    said.ok("subsystem-reset", "namespaces after subsystem-reset",
            "data after subsystem-reset")
    assert int(said["csts after subsystem-reset"], 16) & 3 == 1
