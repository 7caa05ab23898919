"""sg3-utils, the tools of those who run SCSI disks, against vhostd: no guest, through sgvu.so."""

import os
import re
import shutil
import subprocess

import pytest

from conftest import REPORTS, Daemon, sgvu_env

pytestmark = pytest.mark.skipif(not shutil.which("sg_inq"), reason="no sg3-utils here")

MIB = 1 << 20
# The tools' exit statuses (sg3_utils(8)).
ILLEGAL_REQUEST, UNIT_ATTENTION, NO_OPCODE = 5, 6, 9
MISCOMPARE, LBA_OUT_OF_RANGE, CONFLICT = 14, 22, 24
DATA_PROTECT = 7

# Nodes: (device, target, LUN). LARGE has blocks of 4096 bytes. RIVAL is FILE once more, on a second
# device: another initiator port.
FILE, RAM, LARGE, READ_ONLY, RIVAL = range(900, 905)
PLACES = {FILE: (0, 0, 0), RAM: (0, 0, 1), LARGE: (0, 3, 0), READ_ONLY: (0, 3, 300),
          RIVAL: (1, 5, 0)}


class Tools:
    """Runs the tools on a device's units."""

    def __init__(self, folder):
        self.folder = folder
        self.sockets = [os.path.join(folder, name) for name in ("s0", "s1")]
        for name in ("disk", "large", "const"):
            with open(os.path.join(folder, name), "wb") as image:
                image.truncate(64 * MIB)
        self.daemon = None

    def start(self):
        device = [f"scsi,socket={self.sockets[0]}",
                  f"target=0:file={self.folder}/disk:serial=ROSEBUD-1941:"
                  f"state={self.folder}/state",
                  "target=0/1:ram=16M", f"target=3:file={self.folder}/large:block-size=4096",
                  f"target=3/300:file={self.folder}/const:read-only=on"]
        second = f"scsi,socket={self.sockets[1]},target=5:file={self.folder}/disk"
        self.daemon = Daemon(["--device", ",".join(device), "--device", second],
                             os.path.join(self.folder, "log"))
        for path in self.sockets:
            self.daemon.wait_listening(path)

    def __call__(self, tool, *arguments, node=FILE, status=0, stdin=None, **options):
        """The output of one run, whose exit status has to be that. node: None leaves it out."""
        env = sgvu_env({n: (self.sockets[device], target, lun)
                        for n, (device, target, lun) in PLACES.items()}, **options)
        argv = [tool, *map(str, arguments)] + ([f"/dev/sg{node}"] if node else [])
        run = subprocess.run(argv, env=env, input=stdin, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, timeout=20, check=False)
        said = run.stdout.decode(errors="replace")
        assert run.returncode == status, f"{' '.join(argv)}: exit {run.returncode}\n{said}"
        return said

    def file(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as stream:
            stream.write(content)
        return path

    def write(self, lba, content, node=FILE, block_bytes=512):
        count = len(content) // block_bytes
        self("sg_dd", "if=" + self.file("in", content), f"of=/dev/sg{node}", f"bs={block_bytes}",
             f"seek={lba}", f"count={count}", node=None)

    def read(self, lba, count=1, node=FILE, block_bytes=512):
        path = self.file("out", b"")
        self("sg_dd", f"if=/dev/sg{node}", "of=" + path, f"bs={block_bytes}", f"skip={lba}",
             f"count={count}", node=None)
        with open(path, "rb") as stream:
            return stream.read()


@pytest.fixture(scope="module")
def sg(tmp_path_factory):
    tools = Tools(str(tmp_path_factory.mktemp("sg")))
    tools.start()
    try:
        yield tools
        assert tools.daemon.end() == 0, tools.daemon.said()
    finally:
        tools.daemon.kill()
    assert not any(report in tools.daemon.said() for report in REPORTS), tools.daemon.said()


# ---- what the device says of itself ----

def test_inquiry_names_the_vendor_and_the_serial_number(sg):
    said = sg("sg_inq")
    assert "vhostd" in said and "ROSEBUD-1941" in said and "Peripheral device type: disk" in said


# Page: what must be in the tool's reading of it.
VPD = {
    "0x00": r"Supported VPD pages",
    "0x80": r"ROSEBUD-1941",
    "0x83": r"(?s)Addressed logical unit.*NAA",
    "0x85": r"Management network addresses",
    "0x86": r"(?i)extended inquiry data",
    "0x87": r"Mode page policy",
    "0x88": r"(?i)SCSI ports",
    "0x8f": r"(?i)third party copy",
    "0xb0": r"(?s)Block limits.*Maximum unmap LBA count: [1-9]",
    "0xb1": r"Block device characteristics",
    "0xb2": r"(?s)Logical block provisioning.*LBPU\)?: 1",
}


@pytest.mark.parametrize("page", VPD)
def test_a_vpd_page_is_there_and_well_formed(sg, page):
    assert re.search(VPD[page], sg("sg_vpd", "--page=" + page))
    sg("sg_vpd", "--page=" + page, "--hex")


def test_all_vpd_pages_that_are_listed_are_readable(sg):
    assert len(re.findall(r"\[\w+\]$", sg("sg_vpd"), re.M)) >= len(VPD)
    assert "llegal" not in sg("sg_vpd", "--all")


def test_a_vpd_page_that_is_not_there_is_an_illegal_request(sg):
    sg("sg_vpd", "--page=0xb5", "--force", status=ILLEGAL_REQUEST)


def test_report_luns_lists_the_target_s_units_and_no_others(sg):
    def luns(node):
        return re.findall(r"(?m)^ +([0-9a-f]{16})", sg("sg_luns", node=node).replace("    ", " "))
    assert luns(FILE) == luns(RAM) == ["0" * 16, "0001" + "0" * 12]
    assert luns(LARGE) == ["0" * 16, "412c" + "0" * 12]


def test_capacities_of_both_commands(sg):
    said = sg("sg_readcap") + sg("sg_readcap", "--long")
    assert said.count("Last LBA=131071") == 2 and "lbpme=1" in said
    said = sg("sg_readcap", "--long", node=LARGE)
    assert "Last LBA=16383" in said and "Logical block length=4096" in said


def test_the_supported_commands_are_listed_and_each_is_described(sg):
    said = sg("sg_opcodes", "--mask", "--rctd")
    opcodes = re.findall(r"(?m)^ ([0-9a-f]{2}) +([0-9a-f]{0,4}) +\d+ ", said)
    assert len(opcodes) >= 70, said
    assert {"28", "8a", "89", "5e", "83", "9e", "93", "42"} <= {opcode for opcode, _ in opcodes}
    assert "Command is supported" in sg("sg_opcodes", "--opcode=0x28")
    assert "NOT supported" in sg("sg_opcodes", "--opcode=0xff")
    # A service action of a command that has none (SPC-5, 6.37.2).
    sg("sg_opcodes", "--opcode=0x28,0x1f", status=ILLEGAL_REQUEST)


def test_the_supported_task_management_functions_are_all_there(sg):
    said = sg("sg_opcodes", "--tmf", "--repd").lower()
    for function in ("abort task", "abort task set", "clear aca", "clear task set",
                     "i_t nexus reset", "logical unit reset", "query task", "query task set"):
        assert function in said


def test_mode_pages_have_all_four_kinds_of_values(sg):
    for control in range(4):
        said = sg("sg_modes", "--all", f"--control={control}")
        for page in ("Caching", "Control", "Informational exceptions"):
            assert page.lower() in said.lower()
    sg("sg_modes", "--six", "--page=8")


def test_a_mode_parameter_is_changed_for_all_initiators_and_put_back(sg):
    def caching_page(node):
        said = sg("sg_wr_mode", "--page=8", node=node)
        return bytes.fromhex("".join(said.split("mode page:")[1].split()))
    page = caching_page(FILE)
    assert page[0] & 0x3f == 8 and page[2] & 4  # write cache enabled
    try:
        changed = bytes((8, page[1], page[2] & ~4)) + page[3:]
        sg("sg_wr_mode", "--page=8", "--contents=" + changed.hex(","))
        assert caching_page(RIVAL)[2] == changed[2]
    finally:
        sg("sg_wr_mode", "--page=8", "--contents=08," + page[1:].hex(","))
    assert caching_page(RIVAL) == page


def test_log_pages_are_listed_and_readable(sg):
    listed = sg("sg_logs")
    assert "Supported log pages" in listed
    sg("sg_logs", "--all")


def test_target_port_groups_are_reported(sg):
    said = sg("sg_rtpg", "--decode")
    assert "active/optimized" in said
    assert "active/optimized" in sg("sg_rtpg", "--decode", "--extended")


def test_copy_parameters_are_reported(sg):
    said = sg("sg_copy_results", "--params")
    assert "Maximum segment descriptor count" in said or "segment descriptor" in said


def test_a_unit_is_ready_starts_and_stops_and_has_no_deferred_sense(sg):
    sg("sg_turs")
    assert "No additional sense" in sg("sg_requests", "--desc")
    sg("sg_start", "--stop")
    sg("sg_turs", status=2)
    sg("sg_start", "--start")
    sg("sg_turs")
    sg("sg_prevent", "--allow")


# ---- data ----

def test_data_written_by_each_command_is_read_back(sg):
    for number, node in enumerate((FILE, RAM)):
        content = os.urandom(64 * 512)
        sg.write(100, content, node)
        assert sg.read(100, 64, node) == content
        assert sg.read(110, 1, node) == content[10 * 512:11 * 512]
    content = os.urandom(16 * 4096)
    sg.write(7, content, LARGE, 4096)
    assert sg.read(7, 16, LARGE, 4096) == content


@pytest.mark.parametrize("segment", [512, 100, 4096])
def test_data_in_pieces_arrives_whole(sg, segment):
    content = os.urandom(32 * 512)
    sg.write(500, content)
    path = sg.file("out", b"")
    sg("sg_dd", "if=/dev/sg900", "of=" + path, "bs=512", "skip=500", "count=32", node=None,
       segment=segment)
    with open(path, "rb") as stream:
        assert stream.read() == content


def test_everything_works_over_packed_rings(sg):
    assert "ROSEBUD" in sg("sg_inq", packed=1)
    content = sg.file("in", os.urandom(8 * 512))
    sg("sg_write_x", "--in=" + content, "--lba=900", "--num=8", "--normal", packed=1)
    with open(content, "rb") as stream:
        assert sg.read(900, 8) == stream.read()


@pytest.mark.parametrize("variant", [(), ("--16",)])
def test_synchronize_cache(sg, variant):
    sg("sg_sync", *variant)
    sg("sg_sync", "--lba=10", "--count=20", *variant)


@pytest.mark.parametrize("variant", [(), ("--16",)])
def test_verify_finds_a_difference(sg, variant):
    content = os.urandom(4 * 512)
    sg.write(1000, content)
    sg("sg_verify", "--lba=1000", "--count=4", *variant)
    compare = ("--lba=1000", "--count=4", f"--ndo={len(content)}", *variant)
    sg("sg_verify", "--in=" + sg.file("same", content), *compare)
    other = content[:-1] + bytes((content[-1] ^ 1,))
    sg("sg_verify", "--in=" + sg.file("other", other), *compare, status=MISCOMPARE)


@pytest.mark.parametrize("variant", [(), ("--16",)])
def test_write_and_verify(sg, variant):
    content = os.urandom(2 * 512)
    sg("sg_write_verify", "--in=" + sg.file("in", content), "--lba=1200", "--num=2", "--bytchk=1",
       *variant)
    assert sg.read(1200, 2) == content


@pytest.mark.parametrize("variant", [("--10",), ("--16",)])
def test_write_same_repeats_one_block(sg, variant):
    block = os.urandom(512)
    sg("sg_write_same", *variant, "--in=" + sg.file("in", block), "--lba=1300", "--num=50")
    assert sg.read(1300, 50) == block * 50


def status_of(sg, lba):
    """The provisioning status of a block: 0 mapped, 1 deallocated, 2 anchored."""
    return sg("sg_get_lba_status", f"--lba={lba}", "-bb").split()[-1]


@pytest.mark.parametrize("how", ["unmap", "write same 10", "write same 16", "no data-out"])
def test_blocks_that_are_unmapped_are_free_and_read_as_zeroes(sg, how):
    sg.write(4096, os.urandom(1024 * 512))
    sg("sg_sync")
    assert status_of(sg, 4096) == "0"
    if how == "unmap":
        sg("sg_unmap", "--lba=4096", "--num=1024", "--force")
    else:
        variant = {"write same 10": ("--10", "--unmap"), "write same 16": ("--16", "--unmap"),
                   "no data-out": ("--16", "--unmap", "--ndob")}[how]
        sg("sg_write_same", *variant, "--lba=4096", "--num=1024")
    assert sg.read(4096, 1024) == bytes(1024 * 512)
    assert status_of(sg, 4096) == "1"


def test_compare_and_write_writes_only_what_was_expected(sg):
    old, new = os.urandom(512), os.urandom(512)
    sg.write(2000, old)
    pair = "--in=" + sg.file("pair", old + new)
    sg("sg_compare_and_write", pair, "--lba=2000")
    assert sg.read(2000) == new
    sg("sg_compare_and_write", pair, "--lba=2000", status=MISCOMPARE)
    assert sg.read(2000) == new


def test_orwrite_and_atomic_write(sg):
    sg.write(2100, b"\x0f" * 512)
    sg("sg_write_x", "--in=" + sg.file("in", b"\x31" * 512), "--or", "--lba=2100", "--num=1")
    assert sg.read(2100) == b"\x3f" * 512
    sg("sg_write_x", "--in=" + sg.file("in", b"\x77" * 4096), "--atomic=0", "--lba=2104", "--num=8")
    assert sg.read(2104, 8) == b"\x77" * 4096


@pytest.mark.parametrize("where", ["--on_src", "--on_dst"])
def test_extended_copy_copies_between_units(sg, where):
    content = os.urandom(256 * 512)
    sg.write(8192, content)
    sg("sg_xcopy", f"if=/dev/sg{FILE}", f"of=/dev/sg{RAM}", "bs=512", "count=256", "skip=8192",
       "seek=64", where, node=None)
    assert sg.read(64, 256, RAM) == content


def test_sanitize_wipes_the_unit(sg):
    sg.write(50, os.urandom(512), RAM)
    sg("sg_sanitize", "--block", "--quick", "--wait", node=RAM)
    assert sg.read(50, 1, RAM) == bytes(512)


# ---- what is refused ----

def test_an_opcode_that_is_not_there_is_refused_with_a_pointer_to_it(sg):
    said = sg("sg_raw", f"/dev/sg{FILE}", "ff", "00", "00", "00", "00", "00", node=None,
              status=NO_OPCODE)
    assert "Invalid command operation code" in said
    sg("sg_rep_zones", status=NO_OPCODE)


def test_a_reserved_bit_of_a_cdb_is_refused_with_a_pointer_to_it(sg):
    # READ CAPACITY(16) with a reserved bit in its last byte but one (SBC-4, 5.20)
    said = sg("sg_raw", "-r", "32", f"/dev/sg{FILE}", "12", "02", "00", "00", "20", "00", node=None,
              status=ILLEGAL_REQUEST)
    assert re.search(r"(?i)invalid field in cdb", said)
    assert re.search(r"(?i)field pointer|error in command.*byte 1", said)


def test_a_block_behind_the_end_is_out_of_range(sg):
    sg("sg_verify", "--lba=131072", status=LBA_OUT_OF_RANGE)
    sg("sg_verify", "--lba=131071", "--count=2", status=LBA_OUT_OF_RANGE)


def test_a_read_only_unit_is_write_protected(sg):
    sg("sg_write_same", "--10", "--lba=0", "--num=1", node=READ_ONLY, status=DATA_PROTECT)
    assert "WP=1" in sg("sg_modes", "--all", node=READ_ONLY)


# ---- reservations ----

@pytest.fixture
def fight(sg):
    """pr(node, ...) on a unit without registrations, which has none afterwards."""
    def pr(node, *arguments, status=0):
        return sg("sg_persist", *arguments, node=node, status=status)

    def clear():
        pr(FILE, "--out", "--register-ignore", "--param-sark=0xc1ea")
        pr(FILE, "--out", "--clear", "--param-rk=0xc1ea")
    clear()
    yield pr
    clear()


def put(sg, node, status=0):
    sg("sg_write_same", "--10", "--lba=3000", "--num=1", node=node, status=status)


def keys(pr):
    return sorted(re.findall(r"(?m)^ +(0x[0-9a-f]+)$", pr(FILE, "--in", "--read-keys")))


# Type: (may others that are registered write, may those that are not read) (SPC-5, table 66).
TYPES = {1: (False, True), 3: (False, False), 5: (True, True), 6: (True, False), 7: (True, True),
         8: (True, False)}


@pytest.mark.parametrize("kind", TYPES)
def test_a_reservation_keeps_the_other_initiator_out(sg, fight, kind):
    registrants_write, all_read = TYPES[kind]
    fight(FILE, "--out", "--register", "--param-sark=0xa")
    fight(FILE, "--out", "--reserve", "--param-rk=0xa", f"--prout-type={kind}")
    said = fight(RIVAL, "--in", "--read-reservation")
    assert ("Key=0x0" if kind in (7, 8) else "Key=0xa") in said
    put(sg, FILE)
    put(sg, RIVAL, CONFLICT)
    sg("sg_verify", node=RIVAL, status=0 if all_read else CONFLICT)
    fight(RIVAL, "--out", "--register", "--param-sark=0xb")
    put(sg, RIVAL, 0 if registrants_write else CONFLICT)
    assert keys(fight) == ["0xa", "0xb"]
    said = fight(FILE, "--in", "--read-full-status")
    assert "0xa" in said and "0xb" in said and said.count("iqn.") == 2
    fight(FILE, "--out", "--release", "--param-rk=0xa", f"--prout-type={kind}")
    put(sg, RIVAL)


def test_a_registered_initiator_preempts_the_holder(sg, fight):
    fight(FILE, "--out", "--register", "--param-sark=0xa")
    fight(FILE, "--out", "--reserve", "--param-rk=0xa", "--prout-type=1")
    fight(RIVAL, "--out", "--register", "--param-sark=0xb")
    fight(RIVAL, "--out", "--preempt-abort", "--param-rk=0xb", "--param-sark=0xa",
          "--prout-type=3")
    assert keys(fight) == ["0xb"]
    put(sg, FILE, CONFLICT)
    put(sg, RIVAL)


def test_registrations_with_aptpl_survive_a_killed_server(sg, fight):
    fight(FILE, "--out", "--register", "--param-sark=0xa", "--param-aptpl")
    fight(FILE, "--out", "--reserve", "--param-rk=0xa", "--prout-type=1")
    sg.daemon.kill()
    sg.start()
    assert keys(fight) == ["0xa"]
    assert "Key=0xa" in fight(RIVAL, "--in", "--read-reservation")
    put(sg, FILE)
    put(sg, RIVAL, CONFLICT)


# ---- resets and unit attentions ----

def test_a_new_initiator_is_told_of_power_on_first(sg):
    said = sg("sg_turs", "--verbose", status=UNIT_ATTENTION, attentions=1)
    assert re.search(r"(?i)power on|reset|nexus", said)


@pytest.mark.parametrize("what", ["--device", "--target"])
def test_a_reset_is_done_and_the_unit_goes_on(sg, what):
    sg("sg_reset", "--no-esc", what)
    sg("sg_turs")
