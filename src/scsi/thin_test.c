/* UNMAP and GET LBA STATUS. */
#include "loop/job.h"
#include "scsi/limits.h"
#include "scsi/sbc_rig.h"

struct range {
	uint64_t lba;
	uint32_t blocks;
};

/* A parameter list with these ranges; its length. */
static size_t list_make(uint8_t *list, const struct range *ranges, uint32_t count)
{
	memset(list, 0, 8);
	cdb_put16(list, (uint16_t)(6 + 16 * count));
	cdb_put16(list + 2, (uint16_t)(16 * count));
	for (uint32_t i = 0; i < count; i++) {
		memset(list + 8 + 16 * i, 0, 16);
		cdb_put64(list + 8 + 16 * i, ranges[i].lba);
		cdb_put32(list + 16 + 16 * i, ranges[i].blocks);
	}
	return 8 + 16 * count;
}

static uint8_t unmap_list(struct rig *rig, const void *list, size_t len)
{
	return sbc_run(rig, 0x42, 0, 0, (uint32_t)len, list, len);
}

static uint8_t unmap(struct rig *rig, const struct range *ranges, uint32_t count)
{
	uint8_t *list = malloc(8 + 16 * count);
	uint8_t status = unmap_list(rig, list, list_make(list, ranges, count));

	free(list);
	return status;
}

static void unmapped_blocks_read_as_zeroes_and_their_neighbours_stay(void **state)
{
	struct rig *rig = *state;
	const struct range ranges[] = { { 1, 3 }, { 100, 0 }, { 10, 1 }, { SIM_BLOCKS - 1, 1 } };
	uint8_t *m = sbc_memory(rig);

	memset(m, 0x55, SIM_BLOCKS * 512);
	assert_int_equal(unmap(rig, ranges, 4), SCSI_GOOD);
	assert_true(sbc_all(m, 512, 0x55));
	assert_true(sbc_all(m + 512, 3 * 512, 0));
	assert_true(sbc_all(m + 4 * 512, 6 * 512, 0x55));
	assert_true(sbc_all(m + 10 * 512, 512, 0));
	assert_true(sbc_all(m + 11 * 512, (SIM_BLOCKS - 12) * 512, 0x55));
	assert_true(sbc_all(m + (SIM_BLOCKS - 1) * 512, 512, 0));
}

static void every_range_is_checked_before_any_is_unmapped(void **state)
{
	struct rig *rig = *state;
	const struct range ranges[] = { { 0, 8 }, { SIM_BLOCKS - 1, 2 } };
	uint8_t *m = sbc_memory(rig);

	memset(m, 0x55, 8 * 512);
	unmap(rig, ranges, 2);
	rig_assert_sense(rig, SCSI_CAUSE_LBA_OUT_OF_RANGE);
	assert_int_equal(sbc_information(rig), SIM_BLOCKS - 1);
	assert_true(sbc_all(m, 8 * 512, 0x55));
}

static void unmap_of_nothing_is_good(void **state)
{
	struct rig *rig = *state;
	const struct range at_end = { SIM_BLOCKS, 0 }, beyond = { SIM_BLOCKS + 1, 0 };

	assert_int_equal(unmap_list(rig, NULL, 0), SCSI_GOOD);
	assert_int_equal(unmap(rig, NULL, 0), SCSI_GOOD);
	assert_int_equal(unmap(rig, &at_end, 1), SCSI_GOOD);
	unmap(rig, &beyond, 1);
	rig_assert_sense(rig, SCSI_CAUSE_LBA_OUT_OF_RANGE);
}

static void unmap_takes_as_many_descriptors_as_it_says(void **state)
{
	struct rig *rig = *state;
	struct range ranges[SCSI_UNMAP_DESCRIPTORS_MAX + 1];
	uint8_t *m = sbc_memory(rig);

	memset(m, 0x55, SIM_BLOCKS * 512);
	for (uint32_t i = 0; i < ARRAY_SIZE(ranges); i++)
		ranges[i] = (struct range){ 2 * i, 1 };
	unmap(rig, ranges, SCSI_UNMAP_DESCRIPTORS_MAX + 1);
	rig_assert_field(rig, false, 2);
	assert_true(sbc_all(m, 512, 0x55));
	assert_int_equal(unmap(rig, ranges, SCSI_UNMAP_DESCRIPTORS_MAX), SCSI_GOOD);
	for (uint32_t i = 0; i < SCSI_UNMAP_DESCRIPTORS_MAX; i++) {
		assert_true(sbc_all(m + 1024 * i, 512, 0));
		assert_true(sbc_all(m + 1024 * i + 512, 512, 0x55));
	}
}

static void unmap_of_more_blocks_than_allowed_is_refused(void **state)
{
	struct rig *rig = sbc_rig_new("null", "size=4G");
	const struct range most[] = { { 0, SCSI_UNMAP_BLOCKS_MAX - 1 }, { 0, 1 } };
	const struct range more[] = { { 0, SCSI_UNMAP_BLOCKS_MAX }, { 0, 1 } };

	assert_int_equal(unmap(rig, most, 2), SCSI_GOOD);
	unmap(rig, more, 2);
	rig_assert_field(rig, false, 32);
	sbc_rig_free(rig);
}

static void an_unmap_list_is_held_to_its_lengths(void **state)
{
	struct rig *rig = *state;
	const struct range one = { 0, 1 };
	uint8_t list[64] = { 0 };
	size_t len = list_make(list, &one, 1);

	for (size_t n = 1; n < 8; n++) { /* no whole header */
		unmap_list(rig, list, n);
		rig_assert_sense(rig, SCSI_CAUSE_PARAM_LIST_LENGTH);
	}
	unmap_list(rig, list, len - 1); /* the descriptor is cut */
	rig_assert_sense(rig, SCSI_CAUSE_PARAM_LIST_LENGTH);
	cdb_put16(list + 2, 32); /* more descriptors than the list has */
	unmap_list(rig, list, len);
	rig_assert_sense(rig, SCSI_CAUSE_PARAM_LIST_LENGTH);
	list_make(list, &one, 1);
	cdb_put16(list, 60); /* more data than the list has */
	unmap_list(rig, list, len);
	rig_assert_sense(rig, SCSI_CAUSE_PARAM_LIST_LENGTH);
	list_make(list, &one, 1);
	cdb_put16(list + 2, 15); /* a part of a descriptor is ignored */
	assert_int_equal(unmap_list(rig, list, len), SCSI_GOOD);
	/* the CDB tells of more than there is */
	sbc_run(rig, 0x42, 0, 0, 64, list, 24);
	assert_int_equal(rig->task.end, SCSI_END_OVERRUN);
}

static void anchor_is_an_invalid_field(void **state)
{
	struct rig *rig = *state;

	sbc_run(rig, 0x42, 0x01, 0, 0, NULL, 0);
	rig_assert_field(rig, true, 1);
}

static void unmap_goes_in_steps_that_the_back_end_takes(void **state)
{
	struct rig *rig = sbc_rig_new("ram", "size=256M");
	const struct range all = { 0, (256 << 20) / 512 };

	assert_int_equal(unmap(rig, &all, 1), SCSI_GOOD);
	assert_int_equal(sbc_ops(rig, BLK_WRITE_ZEROES), 4); /* of 64 MiB */
	sbc_rig_free(rig);
}

static void a_failed_unmap_names_its_block(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "fail-every=1,fail-op=write-zeroes");
	const struct range one = { 9, 1 };

	unmap(rig, &one, 1);
	rig_assert_sense(rig, SCSI_CAUSE_WRITE_ERROR);
	assert_int_equal(sbc_information(rig), 9);
	sbc_rig_free(rig);
}

static void a_unit_without_discard_has_no_unmap(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "read-only=on");

	unmap(rig, NULL, 0);
	rig_assert_sense(rig, SCSI_CAUSE_INVALID_OPCODE);
	sbc_rig_free(rig);
}

/* ---- GET LBA STATUS: with a job thread ---- */

static struct rig *status_rig_new(const char *type, const char *params)
{
	struct err err;

	assert_int_equal(job_threads_start(1, &err), 0);
	return sbc_rig_new(type, params);
}

static void status_rig_free(struct rig *rig)
{
	job_threads_stop(); /* first: a job's last step is to wake the loop */
	sbc_rig_free(rig);
}

static int status_setup(void **state)
{
	*state = status_rig_new("sim", NULL);
	return 0;
}

static int status_teardown(void **state)
{
	status_rig_free(*state);
	return 0;
}

#define status_test(f) cmocka_unit_test_setup_teardown(f, status_setup, status_teardown)

static uint8_t get_status(struct rig *rig, uint64_t lba, uint32_t room, uint8_t type)
{
	uint8_t cdb[16] = { 0x9e, 0x12 };

	cdb_put64(cdb + 2, lba);
	cdb_put32(cdb + 10, room);
	cdb[14] = type;
	rig_finish(rig, sbc_start_cdb(rig, cdb, 16, NULL, 0, room));
	return rig->task.status;
}

static void assert_descriptor(struct rig *rig, uint32_t i, uint64_t lba, uint32_t blocks,
			      uint8_t status)
{
	const uint8_t *d = rig->in + 8 + 16 * i;

	assert_int_equal(cdb_u64(d), lba);
	assert_int_equal(cdb_u32(d + 8), blocks);
	assert_int_equal(d[12], status);
}

static void check_status_follows_writes_and_unmaps(const char *type)
{
	struct rig *rig = status_rig_new(type, "size=1M,block-size=4096");
	const struct range middle = { 100, 10 };
	uint8_t *out = malloc(64 * 4096);

	assert_int_equal(get_status(rig, 0, 256, 0), SCSI_GOOD);
	assert_int_equal(cdb_u32(rig->in), 4 + 16);
	assert_descriptor(rig, 0, 0, 256, 1);
	sbc_fill(out, 64 * 4096, 1);
	sbc_assert_good(rig, 0x8a, 0, 90, 64, out, 64 * 4096);
	assert_int_equal(unmap(rig, &middle, 1), SCSI_GOOD);
	assert_int_equal(get_status(rig, 5, 256, 0), SCSI_GOOD);
	assert_int_equal(cdb_u32(rig->in), 4 + 5 * 16);
	assert_int_equal(rig->task.in_bytes, 8 + 5 * 16);
	assert_descriptor(rig, 0, 5, 85, 1);
	assert_descriptor(rig, 1, 90, 10, 0);
	assert_descriptor(rig, 2, 100, 10, 1);
	assert_descriptor(rig, 3, 110, 44, 0);
	assert_descriptor(rig, 4, 154, 102, 1);
	free(out);
	status_rig_free(rig);
}

static void lba_status_follows_writes_and_unmaps(void **state)
{
	check_status_follows_writes_and_unmaps("sim");
	check_status_follows_writes_and_unmaps("ram");
}

static void lba_status_gives_what_there_is_room_for(void **state)
{
	struct rig *rig = *state;
	uint8_t block[512] = { 1 };

	sbc_assert_good(rig, 0x8a, 0, 1, 1, block, 512);
	for (uint32_t room = 0; room < 24; room += 4) {
		assert_int_equal(get_status(rig, 0, room, 0), SCSI_GOOD);
		assert_int_equal(rig->task.in_bytes, room);
	}
	assert_int_equal(get_status(rig, 0, 24, 0), SCSI_GOOD);
	assert_int_equal(cdb_u32(rig->in), 4 + 16);
	assert_descriptor(rig, 0, 0, 1, 1);
	assert_int_equal(get_status(rig, 0, 55, 0), SCSI_GOOD);
	assert_int_equal(cdb_u32(rig->in), 4 + 2 * 16);
	assert_int_equal(rig->task.in_bytes, 8 + 2 * 16);
}

static void lba_status_begins_at_a_block_of_the_unit(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(get_status(rig, SIM_BLOCKS - 1, 24, 0), SCSI_GOOD);
	assert_descriptor(rig, 0, SIM_BLOCKS - 1, 1, 1);
	get_status(rig, SIM_BLOCKS, 24, 0);
	rig_assert_sense(rig, SCSI_CAUSE_LBA_OUT_OF_RANGE);
}

static void lba_status_reports_all_blocks_only(void **state)
{
	struct rig *rig = *state;

	get_status(rig, 0, 24, 2);
	rig_assert_field(rig, true, 14);
}

static void where_nobody_knows_all_blocks_are_mapped(void **state)
{
	struct rig *rig = status_rig_new("null", "size=8T");

	assert_int_equal(get_status(rig, 0, 64, 0), SCSI_GOOD);
	assert_descriptor(rig, 0, 0, UINT32_MAX, 0); /* as many as fit the field */
	status_rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		sbc_test(unmapped_blocks_read_as_zeroes_and_their_neighbours_stay),
		sbc_test(every_range_is_checked_before_any_is_unmapped),
		sbc_test(unmap_of_nothing_is_good),
		sbc_test(unmap_takes_as_many_descriptors_as_it_says),
		cmocka_unit_test(unmap_of_more_blocks_than_allowed_is_refused),
		sbc_test(an_unmap_list_is_held_to_its_lengths),
		sbc_test(anchor_is_an_invalid_field),
		cmocka_unit_test(unmap_goes_in_steps_that_the_back_end_takes),
		cmocka_unit_test(a_failed_unmap_names_its_block),
		cmocka_unit_test(a_unit_without_discard_has_no_unmap),
		cmocka_unit_test(lba_status_follows_writes_and_unmaps),
		status_test(lba_status_gives_what_there_is_room_for),
		status_test(lba_status_begins_at_a_block_of_the_unit),
		status_test(lba_status_reports_all_blocks_only),
		cmocka_unit_test(where_nobody_knows_all_blocks_are_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
