/* EXTENDED COPY on two units, byte by byte; RECEIVE COPY RESULTS; COPY OPERATION ABORT. */
#include "scsi/copy_rig.h"

static struct copy_list list;

static int setup(void **state)
{
	return setup_units(state, "size=4M", "size=4M");
}

static int setup_4k(void **state)
{
	return setup_units(state, "size=4M", "size=4M,block-size=4096");
}

static int setup_failing_reads(void **state)
{
	return setup_units(state, "size=4M,fail-every=2,fail-op=read", "size=4M");
}

static int setup_failing_writes(void **state)
{
	return setup_units(state, "size=4M", "size=4M,fail-every=2,fail-op=write");
}

static int setup_read_only(void **state)
{
	return setup_units(state, "size=4M", "size=4M,read-only=on");
}

static int setup_cached(void **state)
{
	return setup_units(state, "size=4M", "size=4M,volatile-cache=on");
}

static int setup_protected(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	rig_init(rig);
	rig_lu_add(rig, "ram", "size=1M,pi-type=1");
	rig_lu_add(rig, "ram", "size=1M,pi-type=1");
	rig_nexus_add(rig, "iqn.2026-01.test:a");
	*state = rig;
	return 0;
}

static void two_units(struct rig *rig, bool lid4)
{
	copy_list_init(&list, lid4, 1, 0);
	copy_list_cscd(&list, rig->lu[0]->wwn);
	copy_list_cscd(&list, rig->lu[1]->wwn);
}

static void assert_copied(struct rig *rig, uint32_t src, uint32_t dst, size_t src_at, size_t dst_at,
			  size_t len)
{
	assert_changed(rig, dst, dst_at, before[src] + src_at, len);
}

/* COPY ABORTED names the segment, and points to a byte of the list. */
static void assert_aborted(struct rig *rig, enum scsi_cause cause, uint32_t segment, int byte)
{
	rig_assert_sense(rig, cause);
	assert_int_equal(cdb_u32(rig->task.sense + 8), segment);
	if (byte >= 0) {
		assert_int_equal(rig->task.sense[15] & 0xc0, 0x80);
		assert_int_equal(cdb_u16(rig->task.sense + 16), byte);
	}
}

static void blocks_go_from_unit_to_unit(void **state)
{
	struct rig *rig = *state;

	for (int lid4 = 0; lid4 < 2; lid4++) {
		two_units(rig, lid4);
		copy_list_blocks(&list, 0, 1, 4096, 11, 2003);
		assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
		assert_copied(rig, 0, 1, 11 * 512, 2003 * 512, 4096 * 512);
	}
}

static void segments_follow_each_other(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	copy_list_blocks(&list, 0, 1, 4, 0, 100);
	copy_list_blocks(&list, 0, 1, 0, 0, 0);
	copy_list_blocks(&list, 1, 0, 4, 100, 200);
	copy_list_blocks(&list, 0, COPY_CSCD_ID_SELF, 4, 200, 300);
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	assert_memory_equal(mem(rig, 0) + 300 * 512, before[0], 4 * 512);
	assert_int_equal(copy_receive(rig, 0x05, 1), SCSI_GOOD);
	assert_int_equal(cdb_u64(rig->in + 16), 3 * 4 * 512);
	assert_int_equal(cdb_u16(rig->in + 24), 4);
}

static void within_a_unit_overlaps_are_kept_right(void **state)
{
	struct rig *rig = *state;

	for (int up = 0; up < 2; up++) {
		patterns(rig);
		two_units(rig, false);
		copy_list_blocks(&list, 0, 0, 5000, up ? 100 : 133, up ? 133 : 100);
		assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
		assert_copied(rig, 0, 0, (up ? 100 : 133) * 512, (up ? 133 : 100) * 512,
			      5000 * 512);
	}
}

static void byte_ranges_keep_the_rest_of_their_blocks(void **state)
{
	static const struct {
		uint32_t src, dst, len;
	} cases[] = {
		{ 0, 0, 1 },	    { 5, 1030, 3 },	      { 511, 512, 2 },
		{ 700, 1535, 2 },   { 512, 1024, 512 },	      { 1, 1, 1500000 },
		{ 513, 2048, 511 }, { 1024, 100001, 999999 }, { 77, 3000000, 1100000 },
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		patterns(rig);
		two_units(rig, false);
		copy_list_range(&list, 0, 1, cases[i].len, cases[i].src, cases[i].dst);
		assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
		assert_copied(rig, 0, 1, cases[i].src, cases[i].dst, cases[i].len);
	}
}

static void overlapping_byte_ranges_are_kept_right(void **state)
{
	struct rig *rig = *state;

	for (int up = 0; up < 2; up++) {
		patterns(rig);
		two_units(rig, false);
		copy_list_range(&list, 0, 0, 1500001, up ? 1000 : 1777, up ? 1777 : 1000);
		assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
		assert_copied(rig, 0, 0, up ? 1000 : 1777, up ? 1777 : 1000, 1500001);
	}
}

static void block_lengths_may_differ(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	copy_list_blocks(&list, 0, 1, 16, 3, 5);
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	assert_copied(rig, 0, 1, 3 * 512, 5 * 4096, 16 * 512);
	two_units(rig, false);
	copy_list_blocks(&list, 0, 1, 3, 3, 50)[1] = 0x02; /* DC: blocks of the destination */
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	assert_copied(rig, 0, 1, 3 * 512, 50 * 4096, 3 * 4096);
	two_units(rig, false);
	copy_list_blocks(&list, 1, 0, 3, 3, 50);
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	assert_copied(rig, 1, 0, 3 * 4096, 50 * 512, 3 * 4096);
}

static void an_inexact_segment_is_refused_without_pad_and_cat(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	copy_list_blocks(&list, 0, 1, 17, 3, 5);
	copy_list_run(rig, &list);
	assert_aborted(rig, SCSI_CAUSE_COPY_INEXACT, 0, 16 + 64 + 1);
	assert_copied(rig, 0, 1, 0, 0, 0);
}

static void pad_of_the_destination_fills_up_with_zeroes(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	list.bytes[16 + 32 + 28] = 0x04;
	copy_list_blocks(&list, 0, 1, 17, 3, 5);
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	memset(before[1] + 5 * 4096 + 17 * 512, 0, 7 * 512);
	assert_copied(rig, 0, 1, 3 * 512, 5 * 4096, 17 * 512);
}

static void pad_of_the_source_alone_drops_the_rest(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	list.bytes[16 + 28] = 0x04;
	copy_list_blocks(&list, 0, 1, 17, 3, 5);
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	assert_copied(rig, 0, 1, 3 * 512, 5 * 4096, 16 * 512);
}

static void cat_drops_the_rest_of_the_last_segment_only(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	copy_list_blocks(&list, 0, 1, 17, 3, 5)[1] = 0x01;
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	assert_copied(rig, 0, 1, 3 * 512, 5 * 4096, 16 * 512);
	copy_list_blocks(&list, 0, 1, 8, 3, 5);
	copy_list_run(rig, &list);
	assert_aborted(rig, SCSI_CAUSE_COPY_INEXACT, 0, 16 + 64 + 1);
}

static void no_list_is_no_error(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(
		rig_cdb(rig, NULL, 0, 0, 0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		SCSI_GOOD);
}

static void faults_of_the_list_come_before_any_segment(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	copy_list_blocks(&list, 0, 1, 4, 0, 0);
	copy_list_blocks(&list, 0, 1, 4, 0, 8)[0] = 0x03;
	copy_list_run(rig, &list);
	rig_assert_sense(rig, SCSI_CAUSE_UNSUPPORTED_SEGMENT);
	assert_copied(rig, 0, 1, 0, 0, 0);
	rig_cdb(rig, list.bytes, 8192, 0, 0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0);
	rig_assert_sense(rig, SCSI_CAUSE_PARAM_LIST_LENGTH);
}

/* Each with a good segment before it: that one is done, the number is 1. */
static void segments_that_name_no_unit(void **state)
{
	static const struct {
		uint8_t byte, value; /* in the second CSCD descriptor */
		enum scsi_cause cause;
		uint8_t at;
	} cases[] = {
		{ 1, 0x20, SCSI_CAUSE_COPY_UNREACHABLE, 0 },  /* NUL */
		{ 1, 0x01, SCSI_CAUSE_COPY_DEVICE_TYPE, 0 },  /* a tape */
		{ 5, 0x02, SCSI_CAUSE_COPY_UNREACHABLE, 0 },  /* not NAA */
		{ 4, 0x02, SCSI_CAUSE_COPY_UNREACHABLE, 0 },  /* not binary */
		{ 15, 0x99, SCSI_CAUSE_COPY_UNREACHABLE, 0 }, /* nobody's */
		{ 30, 0x10, SCSI_CAUSE_COPY_BAD_FIELD, 29 },  /* DISK BLOCK LENGTH 4096 */
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		patterns(rig);
		two_units(rig, false);
		list.bytes[16 + 32 + cases[i].byte] = cases[i].value;
		copy_list_blocks(&list, 0, COPY_CSCD_ID_SELF, 4, 0, 100);
		copy_list_blocks(&list, 0, 1, 4, 0, 8);
		copy_list_run(rig, &list);
		assert_aborted(rig, cases[i].cause, 1, 16 + 32 + cases[i].at);
		assert_copied(rig, 0, 0, 0, 100 * 512, 4 * 512);
	}
}

static void segments_with_wrong_fields(void **state)
{
	static const struct {
		uint8_t byte;
		uint64_t value;
		uint8_t len;
		enum scsi_cause cause;
	} cases[] = {
		{ 4, 2, 2, SCSI_CAUSE_COPY_CSCD_UNKNOWN },
		{ 6, 0xc000, 2, SCSI_CAUSE_COPY_CSCD_UNKNOWN },
		{ 12, 8192, 8, SCSI_CAUSE_COPY_ABORTED },
		{ 12, UINT64_MAX, 8, SCSI_CAUSE_COPY_ABORTED },
		{ 20, 8189, 8, SCSI_CAUSE_COPY_ABORTED },
		{ 20, 1ull << 55, 8, SCSI_CAUSE_COPY_ABORTED },
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t *s;

		two_units(rig, false);
		s = copy_list_blocks(&list, 0, 1, 4, 0, 8);
		if (cases[i].len == 2)
			cdb_put16(s + cases[i].byte, (uint16_t)cases[i].value);
		else
			cdb_put64(s + cases[i].byte, cases[i].value);
		copy_list_run(rig, &list);
		assert_aborted(rig, cases[i].cause, 0, 16 + 64 + cases[i].byte);
		assert_copied(rig, 0, 1, 0, 0, 0);
	}
}

static void byte_offsets_and_lengths_are_limited(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	cdb_put16(copy_list_range(&list, 0, 1, 4, 0, 8) + 28, 512);
	copy_list_run(rig, &list);
	assert_aborted(rig, SCSI_CAUSE_COPY_BAD_FIELD, 0, 16 + 64 + 28);
	two_units(rig, false);
	cdb_put16(copy_list_range(&list, 0, 1, 4, 0, 8) + 30, 512);
	copy_list_run(rig, &list);
	assert_aborted(rig, SCSI_CAUSE_COPY_BAD_FIELD, 0, 16 + 64 + 30);
	two_units(rig, false);
	copy_list_range(&list, 0, 1, COPY_SEGMENT_MAX_BYTES + 1, 0, 8);
	copy_list_run(rig, &list);
	assert_aborted(rig, SCSI_CAUSE_COPY_BAD_FIELD, 0, 16 + 64 + 8);
}

/* What another nexus reserved is as far as a READ or WRITE of ours would get. */
static void gates_of_both_units_are_honoured(void **state)
{
	static const struct {
		uint32_t lu, gate;
		bool stops;
	} cases[] = {
		{ 0, GATE_RESV_READ, true },  { 0, GATE_RESV_WRITE, false },
		{ 0, GATE_MEDIUM, true },     { 1, GATE_RESV_WRITE, true },
		{ 1, GATE_RESV_READ, false }, { 1, GATE_ALUA, true },
	};
	struct rig *rig = *state;

	/* sent to a third place of neither unit: the own unit's gate stops the command itself */
	rig_lu_add(rig, "sim", "size=4M");
	patterns(rig);
	rig_ua_clear_all(rig);
	rig->target = 2;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct scsi_itl *itl =
			list_entry(rig->lu[cases[i].lu]->itls.next, struct scsi_itl, node);

		patterns(rig);
		assert_ptr_equal(itl->nexus, rig->nexus[0]);
		two_units(rig, false);
		copy_list_blocks(&list, 0, 1, 4, 0, 8);
		atomic_fetch_or(&itl->gate, cases[i].gate);
		copy_list_run(rig, &list);
		atomic_fetch_and(&itl->gate, ~cases[i].gate);
		if (cases[i].stops)
			assert_aborted(rig, SCSI_CAUSE_COPY_TARGET_FAILED, 0,
				       16 + 32 * (int)cases[i].lu);
		else
			assert_int_equal(rig->task.status, SCSI_GOOD);
	}
}

static void a_write_protected_destination_fails(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	copy_list_blocks(&list, 0, 1, 4, 0, 8);
	copy_list_run(rig, &list);
	assert_aborted(rig, SCSI_CAUSE_COPY_TARGET_FAILED, 0, 16 + 32);
}

static void software_write_protection_fails(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	copy_list_blocks(&list, 0, 1, 4, 0, 8);
	atomic_store(&rig->lu[1]->mode.swp, true);
	copy_list_run(rig, &list);
	assert_aborted(rig, SCSI_CAUSE_COPY_TARGET_FAILED, 0, 16 + 32);
	assert_copied(rig, 0, 1, 0, 0, 0);
}

/* The second read fails: a piece is there, INFORMATION has what is missing of the segment. */
static void a_read_error_tells_the_rest(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	copy_list_blocks(&list, 0, 1, 2048, 0, 8);
	copy_list_run(rig, &list);
	assert_aborted(rig, SCSI_CAUSE_COPY_TARGET_FAILED, 0, 16);
	assert_int_equal(rig->task.sense[0], 0xf0);
	assert_copied(rig, 0, 1, 0, 8 * 512, (2048 - cdb_u32(rig->task.sense + 3)) * 512);
	assert_in_range(cdb_u32(rig->task.sense + 3), 1, 2047);

	assert_int_equal(copy_receive(rig, 0x05, 1), SCSI_GOOD);
	assert_int_equal(rig->in[5], 0x02);
	assert_int_equal(rig->in[12], SCSI_CHECK_CONDITION);
	assert_int_equal(rig->in[14], 18);
	assert_int_equal(rig->in[13], 20);
	assert_int_equal(cdb_u32(rig->in), 32 + 20 - 4);
	assert_int_equal(rig->in[32 + 2] & 0xf, 0xa);
	assert_int_equal(copy_receive(rig, 0x04, 1), SCSI_GOOD);
	assert_int_equal(cdb_u32(rig->in), 60 + 18 - 4);
	assert_int_equal(rig->in[56], SCSI_CHECK_CONDITION);
	assert_int_equal(cdb_u16(rig->in + 58), 18);
	assert_int_equal(rig->in[60], 0xf0);
	assert_int_equal(copy_receive(rig, 0x04, 1), SCSI_GOOD); /* told once */
	assert_int_equal(cdb_u32(rig->in), 0);
}

static void a_write_error_points_to_the_destination(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	copy_list_blocks(&list, 0, 1, 2048, 0, 8);
	copy_list_run(rig, &list);
	assert_aborted(rig, SCSI_CAUSE_COPY_TARGET_FAILED, 0, 16 + 32);
}

static void a_destination_without_cache_is_flushed(void **state)
{
	struct rig *rig = *state;
	struct blk_stats stats;

	two_units(rig, false);
	copy_list_blocks(&list, 0, 1, 8, 0, 8);
	atomic_store(&rig->lu[1]->mode.wce, true);
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	blk_dev_stats(rig->dev[1], &stats);
	assert_int_equal(stats.ops[BLK_FLUSH], 0);
	atomic_store(&rig->lu[1]->mode.wce, false);
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	blk_dev_stats(rig->dev[1], &stats);
	assert_true(blk_dev_caps(rig->dev[1])->fua || stats.ops[BLK_FLUSH] == 1);
}

/* Made anew for the blocks of the destination: a READ checks it. */
static void protection_information_fits_the_destination(void **state)
{
	struct rig *rig = *state;
	uint8_t data[4096];

	memset(data, 0x77, sizeof(data));
	assert_int_equal(rig_cdb(rig, data, 4096, 0, 0x2a, 0, 0, 0, 0, 8, 0, 0, 8, 0), SCSI_GOOD);
	two_units(rig, false);
	copy_list_range(&list, 0, 1, 3000, 8 * 512 + 5, 100 * 512 + 7);
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	rig->target = 1;
	assert_int_equal(rig_cdb(rig, NULL, 0, 4096, 0x28, 0, 0, 0, 0, 100, 0, 0, 8, 0), SCSI_GOOD);
	assert_memory_equal(rig->in + 7, data, 3000);
	assert_int_equal(rig->in[6], 0);
	assert_int_equal(rig->in[3007], 0);
}

/* ---- list identifiers ---- */

static void results_are_told_and_gone(void **state)
{
	struct rig *rig = *state;

	copy_receive(rig, 0x00, 1);
	rig_assert_field(rig, true, 2);
	two_units(rig, false);
	copy_list_blocks(&list, 0, 1, 8, 0, 8);
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	assert_int_equal(copy_receive(rig, 0x01, 1), SCSI_GOOD); /* no held data */
	assert_int_equal(rig->task.in_bytes, 4);
	assert_int_equal(copy_receive(rig, 0x06, 1), SCSI_GOOD);
	assert_int_equal(rig->task.in_bytes, 36);
	assert_int_equal(copy_receive(rig, 0x07, 1), SCSI_GOOD); /* no tokens */
	assert_int_equal(rig->task.in_bytes, 36);
	assert_int_equal(copy_receive(rig, 0x04, 1), SCSI_GOOD); /* no failure */
	assert_int_equal(cdb_u32(rig->in), 0);
	assert_int_equal(copy_receive(rig, 0x00, 1), SCSI_GOOD);
	assert_int_equal(rig->task.in_bytes, 12);
	assert_int_equal(cdb_u32(rig->in), 8);
	assert_int_equal(rig->in[4], 0x01);
	assert_int_equal(cdb_u16(rig->in + 5), 1);
	assert_int_equal(rig->in[7], 0);
	assert_int_equal(cdb_u32(rig->in + 8), 8 * 512);
	copy_receive(rig, 0x00, 1);
	rig_assert_field(rig, true, 2);
	/* nobody else's, on no other unit */
	rig->nexus_idx = 1;
	copy_receive(rig, 0x05, 1);
	rig_assert_field(rig, true, 2);
	rig->nexus_idx = 0;
	rig->target = 1;
	copy_receive(rig, 0x05, 1);
	rig_assert_field(rig, true, 2);
}

static void usage_11b_leaves_nothing(void **state)
{
	struct rig *rig = *state;

	copy_list_init(&list, false, 0, 3);
	copy_list_cscd(&list, rig->lu[0]->wwn);
	copy_list_blocks(&list, 0, 0, 8, 0, 8);
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	copy_receive(rig, 0x00, 0);
	rig_assert_field(rig, true, 2);
}

static void usage_10b_leaves_what_went_wrong(void **state)
{
	struct rig *rig = *state;

	copy_list_init(&list, false, 1, 2);
	copy_list_cscd(&list, rig->lu[0]->wwn);
	copy_list_blocks(&list, 0, 0, 8, 0, 8);
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	copy_receive(rig, 0x05, 1);
	rig_assert_field(rig, true, 2);
	copy_list_blocks(&list, 0, 9, 8, 0, 8);
	copy_list_run(rig, &list);
	assert_int_equal(copy_receive(rig, 0x05, 1), SCSI_GOOD);
	assert_int_equal(rig->in[5], 0x02);
	assert_int_equal(cdb_u16(rig->in + 24), 2);
}

static void a_copy_that_touched_nothing_leaves_nothing(void **state)
{
	struct rig *rig = *state;

	two_units(rig, false);
	copy_list_blocks(&list, 0, 9, 8, 0, 8);
	copy_list_run(rig, &list);
	copy_receive(rig, 0x00, 1);
	rig_assert_field(rig, true, 2);
}

static struct rig_task *held_copy(struct rig *rig, uint8_t id)
{
	copy_list_init(&list, false, id, id ? 0 : 3);
	copy_list_cscd(&list, rig->lu[0]->wwn);
	copy_list_cscd(&list, rig->lu[1]->wwn);
	copy_list_blocks(&list, 0, 1, 8, 0, 8);
	return copy_list_start(rig, &list);
}

static void an_identifier_in_use_is_refused(void **state)
{
	struct rig *rig = *state;
	struct rig_task *t;

	blk_sim_hold(rig->dev[0], true);
	t = held_copy(rig, 5);
	rig_finish(rig, held_copy(rig, 5));
	rig_assert_sense(rig, SCSI_CAUSE_OPERATION_IN_PROGRESS);
	assert_int_equal(copy_receive(rig, 0x00, 5), SCSI_GOOD);
	assert_int_equal(rig->in[4], 0x00);
	assert_int_equal(copy_receive(rig, 0x05, 5), SCSI_GOOD);
	assert_int_equal(rig->in[5], 0x11);
	copy_receive(rig, 0x04, 5); /* refused while it runs */
	rig_assert_field(rig, true, 2);
	copy_receive(rig, 0x01, 5);
	rig_assert_field(rig, true, 2);
	blk_sim_hold(rig->dev[0], false);
	rig_finish(rig, t);
	assert_int_equal(rig->task.status, SCSI_GOOD);
	rig_finish(rig, held_copy(rig, 5));
	assert_int_equal(rig->task.status, SCSI_GOOD);
}

static void more_copies_than_reported_are_busy(void **state)
{
	struct rig_task *t[COPY_CONCURRENT_MAX];
	struct rig *rig = *state;

	blk_sim_hold(rig->dev[0], true);
	for (uint32_t i = 0; i < COPY_CONCURRENT_MAX; i++)
		t[i] = held_copy(rig, i % 2 ? (uint8_t)i : 0);
	rig_finish(rig, held_copy(rig, 200));
	assert_int_equal(rig->task.status, SCSI_BUSY);
	rig->nexus_idx = 1; /* another nexus has its own */
	{
		struct rig_task *other = held_copy(rig, 200);

		rig->nexus_idx = 0;
		blk_sim_hold(rig->dev[0], false);
		rig_finish(rig, other);
		assert_int_equal(rig->task.status, SCSI_GOOD);
	}
	for (uint32_t i = 0; i < COPY_CONCURRENT_MAX; i++) {
		rig_finish(rig, t[i]);
		assert_int_equal(rig->task.status, SCSI_GOOD);
	}
}

static void old_results_make_room_for_new_ones(void **state)
{
	struct rig *rig = *state;

	for (uint32_t i = 1; i <= 100; i++)
		rig_finish(rig, held_copy(rig, (uint8_t)i));
	copy_receive(rig, 0x05, 1);
	rig_assert_field(rig, true, 2);
	assert_int_equal(copy_receive(rig, 0x05, 100), SCSI_GOOD);
}

static void copy_operation_abort_ends_the_copy(void **state)
{
	struct rig *rig = *state;
	struct rig_task *t;

	rig_cdb(rig, NULL, 0, 0, 0x83, 0x1c, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	rig_assert_field(rig, true, 2);
	blk_sim_hold(rig->dev[0], true);
	copy_list_init(&list, false, 5, 0);
	copy_list_cscd(&list, rig->lu[0]->wwn);
	copy_list_cscd(&list, rig->lu[1]->wwn);
	copy_list_blocks(&list, 0, 1, 2048, 0, 8);
	t = copy_list_start(rig, &list);
	assert_int_equal(
		rig_cdb(rig, NULL, 0, 0, 0x83, 0x1c, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		SCSI_GOOD);
	blk_sim_hold(rig->dev[0], false);
	rig_finish(rig, t);
	assert_aborted(rig, SCSI_CAUSE_COPY_CLEARED, 0, -1);
	assert_int_equal(copy_receive(rig, 0x05, 5), SCSI_GOOD);
	assert_int_equal(rig->in[5], 0x02);
	assert_in_range(cdb_u64(rig->in + 16), 512, 2047 * 512);
}

static void tmf_done(struct scsi_tmf *tmf)
{
	tmf->tag = 1;
}

static void an_aborted_copy_is_terminated(void **state)
{
	struct scsi_tmf tmf = { .fn = SCSI_TMF_ABORT_TASK_SET, .done = tmf_done };
	struct rig *rig = *state;
	struct rig_task *t;

	blk_sim_hold(rig->dev[0], true);
	t = held_copy(rig, 5);
	scsi_tmf_start(rig->queue[0], &tmf);
	rig_turn(rig);
	blk_sim_hold(rig->dev[0], false);
	rig_finish(rig, t);
	assert_int_equal(rig->task.end, SCSI_END_ABORTED);
	while (!tmf.tag)
		rig_turn(rig);
	assert_int_equal(copy_receive(rig, 0x05, 5), SCSI_GOOD);
	assert_int_equal(rig->in[5], 0x60);
	assert_int_equal(rig->in[12], SCSI_TASK_ABORTED);
	assert_int_equal(rig->in[14], 0);
}

static void a_reset_forgets_results(void **state)
{
	struct scsi_tmf tmf = { .fn = SCSI_TMF_LOGICAL_UNIT_RESET, .done = tmf_done };
	struct rig *rig = *state;

	rig_finish(rig, held_copy(rig, 5));
	scsi_tmf_start(rig->queue[0], &tmf);
	while (!tmf.tag)
		rig_turn(rig);
	rig_ua_clear_all(rig);
	copy_receive(rig, 0x05, 5);
	rig_assert_field(rig, true, 2);
}

static void on_detached(void *arg)
{
	*(bool *)arg = true;
}

static void a_unit_is_not_let_go_under_a_copy(void **state)
{
	struct rig *rig = *state;
	bool detached = false;
	struct rig_task *t;
	struct err err;

	blk_sim_hold(rig->dev[1], true);
	copy_list_init(&list, false, 5, 0);
	copy_list_cscd(&list, rig->lu[1]->wwn);
	copy_list_blocks(&list, 0, COPY_CSCD_ID_SELF, 2048, 0, 8);
	t = copy_list_start(rig, &list);
	assert_int_equal(scsi_host_detach(rig->host, 1, 0, on_detached, &detached, &err), 0);
	for (int i = 0; i < 10; i++)
		rig_turn(rig);
	assert_false(detached);
	blk_sim_hold(rig->dev[1], false);
	rig_finish(rig, t); /* it notices at the next piece */
	assert_aborted(rig, SCSI_CAUSE_COPY_UNREACHABLE, 0, 16);
	while (!detached)
		rig_turn(rig);
}

static void operating_parameters_are_the_limits(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(copy_receive(rig, 0x03, 0), SCSI_GOOD);
	assert_int_equal(rig->task.in_bytes, 47);
	assert_int_equal(cdb_u32(rig->in), 43);
	assert_int_equal(rig->in[4], 1);
	assert_int_equal(cdb_u16(rig->in + 8), COPY_CSCDS_MAX);
	assert_int_equal(cdb_u16(rig->in + 10), COPY_SEGMENTS_MAX);
	assert_int_equal(cdb_u32(rig->in + 12), COPY_DESCRIPTORS_MAX_BYTES);
	assert_int_equal(cdb_u32(rig->in + 16), COPY_SEGMENT_MAX_BYTES);
	assert_int_equal(rig->in[43], 3);
	assert_memory_equal(rig->in + 44, "\x02\x0a\xe4", 3);
}

#define TEST(fn)	cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define TEST_ON(fn, on) cmocka_unit_test_setup_teardown(fn, setup_##on, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(blocks_go_from_unit_to_unit),
		TEST(segments_follow_each_other),
		TEST(within_a_unit_overlaps_are_kept_right),
		TEST(byte_ranges_keep_the_rest_of_their_blocks),
		TEST(overlapping_byte_ranges_are_kept_right),
		TEST_ON(block_lengths_may_differ, 4k),
		TEST_ON(an_inexact_segment_is_refused_without_pad_and_cat, 4k),
		TEST_ON(pad_of_the_destination_fills_up_with_zeroes, 4k),
		TEST_ON(pad_of_the_source_alone_drops_the_rest, 4k),
		TEST_ON(cat_drops_the_rest_of_the_last_segment_only, 4k),
		TEST(no_list_is_no_error),
		TEST(faults_of_the_list_come_before_any_segment),
		TEST(segments_that_name_no_unit),
		TEST(segments_with_wrong_fields),
		TEST(byte_offsets_and_lengths_are_limited),
		TEST(gates_of_both_units_are_honoured),
		TEST_ON(a_write_protected_destination_fails, read_only),
		TEST(software_write_protection_fails),
		TEST_ON(a_read_error_tells_the_rest, failing_reads),
		TEST_ON(a_write_error_points_to_the_destination, failing_writes),
		TEST_ON(a_destination_without_cache_is_flushed, cached),
		TEST_ON(protection_information_fits_the_destination, protected),
		TEST(results_are_told_and_gone),
		TEST(usage_11b_leaves_nothing),
		TEST(usage_10b_leaves_what_went_wrong),
		TEST(a_copy_that_touched_nothing_leaves_nothing),
		TEST(an_identifier_in_use_is_refused),
		TEST(more_copies_than_reported_are_busy),
		TEST(old_results_make_room_for_new_ones),
		TEST(copy_operation_abort_ends_the_copy),
		TEST(an_aborted_copy_is_terminated),
		TEST(a_reset_forgets_results),
		TEST(a_unit_is_not_let_go_under_a_copy),
		TEST(operating_parameters_are_the_limits),
	};

	return cmocka_run_group_tests_name("scsi copy", tests, NULL, NULL);
}
