/* Capacity, cache, and what all commands with an LBA have in common. */
#include "scsi/sbc_rig.h"

/* ---- capacity ---- */

static uint8_t capacity_16(struct rig *rig, uint64_t lba, uint8_t pmi, uint32_t room)
{
	uint8_t cdb[16] = { 0x9e, 0x10 };

	cdb_put64(cdb + 2, lba);
	cdb_put32(cdb + 10, room);
	cdb[14] = pmi;
	return rig_run(rig, cdb, 16, NULL, 0, room);
}

static void capacity_10_tells_the_last_block(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_cdb(rig, NULL, 0, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
	assert_int_equal(rig->task.in_bytes, 8);
	assert_int_equal(cdb_u32(rig->in), SIM_BLOCKS - 1);
	assert_int_equal(cdb_u32(rig->in + 4), 512);
}

static void capacity_10_of_a_large_unit_is_all_ones(void **state)
{
	struct rig *rig = sbc_rig_new("null", "size=4T");

	assert_int_equal(rig_cdb(rig, NULL, 0, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
	assert_int_equal(cdb_u32(rig->in), UINT32_MAX);
	assert_int_equal(capacity_16(rig, 0, 0, 32), SCSI_GOOD);
	assert_int_equal(cdb_u64(rig->in), (4ull << 40) / 512 - 1);
	sbc_rig_free(rig);
}

static void capacity_16_tells_blocks_and_provisioning(void **state)
{
	struct rig *rig = sbc_rig_new("ram", "size=1M");

	assert_int_equal(capacity_16(rig, 0, 0, 32), SCSI_GOOD);
	assert_int_equal(rig->task.in_bytes, 32);
	assert_int_equal(cdb_u64(rig->in), 2047);
	assert_int_equal(cdb_u32(rig->in + 8), 512);
	assert_int_equal(rig->in[12], 0);
	assert_int_equal(rig->in[13], 3);    /* 8 logical blocks in a physical one */
	assert_int_equal(rig->in[14], 0xc0); /* LBPME, LBPRZ; aligned from block 0 on */
	assert_int_equal(rig->in[15], 0);
	assert_true(sbc_all(rig->in + 16, 16, 0));
	sbc_rig_free(rig);
}

static void capacity_16_of_a_thick_unit_has_no_provisioning(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "read-only=on");

	assert_int_equal(capacity_16(rig, 0, 0, 32), SCSI_GOOD);
	assert_int_equal(rig->in[14], 0);
	sbc_rig_free(rig);
}

static void capacity_16_is_cut_to_the_allocation_length(void **state)
{
	struct rig *rig = *state;

	for (uint32_t room = 0; room <= 32; room += 8) {
		assert_int_equal(capacity_16(rig, 0, 0, room), SCSI_GOOD);
		assert_int_equal(rig->task.in_bytes, room);
	}
}

static void capacity_takes_an_lba_with_pmi_only(void **state)
{
	struct rig *rig = *state;

	rig_cdb(rig, NULL, 0, 8, 0x25, 0, 0, 0, 0, 1, 0, 0, 0, 0);
	rig_assert_field(rig, true, 2);
	assert_int_equal(rig_cdb(rig, NULL, 0, 8, 0x25, 0, 0, 0, 0, 1, 0, 0, 1, 0), SCSI_GOOD);
	assert_int_equal(cdb_u32(rig->in), SIM_BLOCKS - 1);
	capacity_16(rig, 1, 0, 32);
	rig_assert_field(rig, true, 2);
	assert_int_equal(capacity_16(rig, 1, 1, 32), SCSI_GOOD);
	capacity_16(rig, SIM_BLOCKS, 1, 32);
	rig_assert_sense(rig, SCSI_CAUSE_LBA_OUT_OF_RANGE);
}

/* ---- cache ---- */

static void a_flush_is_waited_for(void **state)
{
	struct rig *rig = *state;
	struct rig_task *rt;

	for (uint8_t opcode = 0x35; opcode; opcode = opcode == 0x35 ? 0x91 : 0) {
		blk_sim_hold(rig->dev[0], true);
		rt = sbc_start(rig, opcode, 0, 0, 0, NULL, 0);
		for (int i = 0; i < 10; i++)
			rig_turn(rig);
		assert_false(rt->done);
		blk_sim_hold(rig->dev[0], false);
		rig_finish(rig, rt);
		assert_int_equal(rig->task.status, SCSI_GOOD);
	}
	assert_int_equal(sbc_ops(rig, BLK_FLUSH), 2);
}

static void an_immediate_flush_is_answered_first(void **state)
{
	struct rig *rig = *state;

	blk_sim_hold(rig->dev[0], true);
	sbc_assert_good(rig, 0x91, 0x02, 0, 0, NULL, 0);
	assert_int_equal(sbc_ops(rig, BLK_FLUSH), 0);
	assert_int_equal(rig->lu[0]->background_count, 1);
	blk_sim_hold(rig->dev[0], false);
	while (rig->lu[0]->background_count)
		rig_turn(rig);
	assert_int_equal(sbc_ops(rig, BLK_FLUSH), 1);
}

static void a_flood_of_immediate_flushes_is_answered_as_they_end(void **state)
{
	struct rig *rig = *state;
	struct rig_task *rt[100];
	uint32_t answered = 0;

	blk_sim_hold(rig->dev[0], true);
	for (uint32_t i = 0; i < ARRAY_SIZE(rt); i++)
		rt[i] = sbc_start(rig, 0x91, 0x02, 0, 0, NULL, 0);
	for (uint32_t i = 0; i < 10; i++)
		rig_turn(rig);
	for (uint32_t i = 0; i < ARRAY_SIZE(rt); i++)
		answered += rt[i]->done;
	assert_int_equal(answered, rig->lu[0]->background_count);
	assert_true(answered > 0 && answered < 50);
	blk_sim_hold(rig->dev[0], false);
	for (uint32_t i = 0; i < ARRAY_SIZE(rt); i++) {
		rig_finish(rig, rt[i]);
		assert_int_equal(rig->task.status, SCSI_GOOD);
	}
	while (rig->lu[0]->background_count) /* the last were answered, and are under way */
		rig_turn(rig);
	assert_int_equal(sbc_ops(rig, BLK_FLUSH), ARRAY_SIZE(rt));
}

static void a_failed_flush_is_told(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "fail-every=1,fail-op=flush");

	sbc_run(rig, 0x35, 0, 7, 0, NULL, 0);
	rig_assert_sense(rig, SCSI_CAUSE_WRITE_ERROR);
	/* nobody is told of that one */
	sbc_assert_good(rig, 0x35, 0x02, 7, 0, NULL, 0);
	while (rig->lu[0]->background_count)
		rig_turn(rig);
	sbc_rig_free(rig);
}

struct closing {
	struct loop_work work;
	struct rig *rig;
	bool gone;
};

static void on_detached(void *arg)
{
	((struct closing *)arg)->gone = true;
}

static void closing_run(struct loop_work *work)
{
	struct closing *c = container_of(work, struct closing, work);
	struct err err = { 0 };

	assert_int_equal(scsi_host_detach(c->rig->host, 0, 0, on_detached, c, &err), 0);
	scsi_lu_unref(c->rig->lu[0]);
	c->rig->lu[0] = NULL;
}

static void a_unit_that_goes_waits_for_its_immediate_flush(void **state)
{
	struct rig *rig = *state;
	struct closing c = { .work.fn = closing_run, .rig = rig };
	struct blk_dev *dev = rig->dev[0];

	blk_sim_hold(dev, true);
	sbc_assert_good(rig, 0x91, 0x02, 0, 0, NULL, 0);
	loop_defer(rig->loop, &c.work);
	while (!c.gone)
		rig_turn(rig);
	for (int i = 0; i < 10; i++)
		rig_turn(rig);
	assert_int_equal(sbc_ops(rig, BLK_FLUSH), 0);
	blk_sim_hold(dev, false);
	while (!sbc_ops(rig, BLK_FLUSH))
		rig_turn(rig);
	for (int i = 0; i < 10; i++)
		rig_turn(rig); /* its channel closes, and it */
}

static void pre_fetch_says_that_not_all_is_in_a_cache(void **state)
{
	struct rig *rig = *state;

	sbc_assert_good(rig, 0x34, 0, 0, 256, NULL, 0);
	sbc_assert_good(rig, 0x34, 2, 0, 256, NULL, 0);
	sbc_assert_good(rig, 0x90, 0, SIM_BLOCKS - 1, 1, NULL, 0);
	sbc_assert_good(rig, 0x90, 2, 0, 0, NULL, 0);
}

/* ---- what all have in common ---- */

struct command {
	const char *name;
	uint8_t opcode, byte1;
	bool protect;	/* has protection bits */
	bool fixed_out; /* its data-out must be of its length exactly */
	bool zero_is_to_end;
	uint8_t out_factor; /* blocks of data-out for each of the CDB, 0: none */
};

static const struct command commands[] = {
	{ "SYNCHRONIZE CACHE (10)", 0x35, 0, false, false, true, 0 },
	{ "SYNCHRONIZE CACHE (16)", 0x91, 0, false, false, true, 0 },
	{ "PRE-FETCH (10)", 0x34, 0, false, false, false, 0 },
	{ "PRE-FETCH (16)", 0x90, 0, false, false, false, 0 },
	{ "VERIFY (10)", 0x2f, 0x02, true, false, false, 1 },
	{ "VERIFY (12)", 0xaf, 0x02, true, false, false, 1 },
	{ "VERIFY (16)", 0x8f, 0x02, true, false, false, 1 },
	{ "WRITE AND VERIFY (10)", 0x2e, 0, true, false, false, 1 },
	{ "WRITE AND VERIFY (12)", 0xae, 0, true, false, false, 1 },
	{ "WRITE AND VERIFY (16)", 0x8e, 0, true, false, false, 1 },
	{ "ORWRITE (16)", 0x8b, 0, true, false, false, 1 },
	{ "COMPARE AND WRITE", 0x89, 0, true, true, false, 2 },
	{ "WRITE ATOMIC (16)", 0x9c, 0, true, false, false, 1 },
	{ "WRITE SAME (10)", 0x41, 0, true, true, true, 0 },
	{ "WRITE SAME (16)", 0x93, 0, true, true, true, 0 },
};

static size_t out_bytes(const struct command *c, uint32_t blocks)
{
	if (c->opcode == 0x41 || c->opcode == 0x93)
		return 512;
	return (size_t)c->out_factor * blocks * 512;
}

#define for_each_command(c) for (c = commands; c < commands + ARRAY_SIZE(commands); c++)

static void protection_bits_are_an_invalid_field(void **state)
{
	struct rig *rig = *state;
	const struct command *c;
	uint8_t out[1024] = { 0 };

	for_each_command(c)
	{
		for (uint8_t bits = 1; c->protect && bits < 8; bits++) {
			sbc_run(rig, c->opcode, (uint8_t)(c->byte1 | bits << 5), 0, 1, out,
				out_bytes(c, 1));
			rig_assert_field(rig, true, 1);
			assert_int_equal(rig->task.sense[15] & 0xf, 0x8 | 7);
		}
	}
}

static void a_range_beyond_the_end_names_its_first_block(void **state)
{
	struct rig *rig = *state;
	const struct command *c;
	uint8_t *out = calloc(4, 512);

	for_each_command(c)
	{
		sbc_run(rig, c->opcode, c->byte1, SIM_BLOCKS - 1, 2, out, out_bytes(c, 2));
		rig_assert_sense(rig, SCSI_CAUSE_LBA_OUT_OF_RANGE);
		assert_int_equal(sbc_information(rig), SIM_BLOCKS - 1);
		sbc_run(rig, c->opcode, c->byte1, SIM_BLOCKS + 1, 0, out, out_bytes(c, 0));
		rig_assert_sense(rig, SCSI_CAUSE_LBA_OUT_OF_RANGE);
	}
	free(out);
}

static void an_address_of_all_ones_does_not_wrap(void **state)
{
	struct rig *rig = *state;
	const struct command *c;
	uint8_t *out = calloc(4, 512);

	for_each_command(c)
	{
		sbc_run(rig, c->opcode, c->byte1, UINT64_MAX, 2, out, out_bytes(c, 2));
		rig_assert_sense(rig, SCSI_CAUSE_LBA_OUT_OF_RANGE);
	}
	free(out);
}

static void no_blocks_are_good_and_touch_nothing(void **state)
{
	struct rig *rig = *state;
	const struct command *c;
	uint8_t *memory = sbc_memory(rig);

	memset(memory, 0x77, SIM_BLOCKS * 512);
	for_each_command(c)
	{
		if (c->zero_is_to_end)
			continue;
		sbc_assert_good(rig, c->opcode, c->byte1, 0, 0, NULL, 0);
		sbc_assert_good(rig, c->opcode, c->byte1, SIM_BLOCKS, 0, NULL, 0);
	}
	assert_int_equal(sbc_ops(rig, BLK_READ) + sbc_ops(rig, BLK_WRITE), 0);
	assert_true(sbc_all(memory, SIM_BLOCKS * 512, 0x77));
}

static void missing_data_out_is_never_read(void **state)
{
	struct rig *rig = *state;
	const struct command *c;
	uint8_t *out = calloc(4, 512);

	for_each_command(c)
	{
		if (!out_bytes(c, 2))
			continue;
		sbc_run(rig, c->opcode, c->byte1, 0, 2, out, out_bytes(c, 2) - 1);
		if (c->fixed_out)
			rig_assert_sense(rig, SCSI_CAUSE_INVALID_FIELD_CDB);
		else
			assert_int_equal(rig->task.end, SCSI_END_OVERRUN);
	}
	assert_int_equal(sbc_ops(rig, BLK_READ) + sbc_ops(rig, BLK_WRITE), 0);
	free(out);
}

static void dpo_and_fua_are_accepted(void **state)
{
	struct rig *rig = *state;
	static const uint8_t with_fua[] = { 0x8b, 0x89, 0x9c }, with_dpo[] = { 0x2e, 0xae, 0x8e };
	uint8_t out[1024] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(with_fua); i++)
		sbc_assert_good(rig, with_fua[i], 0x18, 0, 1, out,
				with_fua[i] == 0x89 ? 1024 : 512);
	for (size_t i = 0; i < ARRAY_SIZE(with_dpo); i++)
		sbc_assert_good(rig, with_dpo[i], 0x10, 0, 1, out, 512);
}

static void a_failed_request_names_its_block(void **state)
{
	struct rig *reads = sbc_rig_new("sim", "fail-every=1,fail-op=read");
	struct rig *full = sbc_rig_new("sim", "fail-every=1,fail-op=write,fail-status=NO_SPACE");
	const struct command *c;
	uint8_t out[1024] = { 0 };

	out[0] = 1; /* so that WRITE SAME writes */
	for_each_command(c)
	{
		if (c->out_factor && c->opcode != 0x9c && (c->opcode & 0x1f) != 0x0e) {
			sbc_run(reads, c->opcode, c->byte1, 5, 1, out, out_bytes(c, 1));
			rig_assert_sense(reads, SCSI_CAUSE_READ_ERROR);
			assert_int_equal(sbc_information(reads), 5);
		}
	}
	out[0] = 0;
	for_each_command(c)
	{
		if (!out_bytes(c, 1) || (c->opcode & 0x1f) == 0x0f)
			continue;
		out[0] = c->out_factor == 2 ? 0 : 1;
		sbc_run(full, c->opcode, c->byte1, 5, 1, out, out_bytes(c, 1));
		rig_assert_sense(full, SCSI_CAUSE_SPACE_ALLOC_FAILED);
	}
	sbc_rig_free(reads);
	sbc_rig_free(full);
}

static void writing_commands_leave_a_read_only_unit_alone(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "read-only=on");
	static const uint8_t opcodes[] = { 0x2e, 0xae, 0x8e, 0x8b, 0x89, 0x9c, 0x41, 0x93 };
	uint8_t out[1024] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(opcodes); i++) {
		sbc_run(rig, opcodes[i], 0, 0, 1, out, opcodes[i] == 0x89 ? 1024 : 512);
		rig_assert_sense(rig, SCSI_CAUSE_WRITE_PROTECTED);
	}
	sbc_assert_good(rig, 0x2f, 0, 0, 1, NULL, 0);
	sbc_rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		sbc_test(capacity_10_tells_the_last_block),
		cmocka_unit_test(capacity_10_of_a_large_unit_is_all_ones),
		cmocka_unit_test(capacity_16_tells_blocks_and_provisioning),
		cmocka_unit_test(capacity_16_of_a_thick_unit_has_no_provisioning),
		sbc_test(capacity_16_is_cut_to_the_allocation_length),
		sbc_test(capacity_takes_an_lba_with_pmi_only),
		sbc_test(a_flush_is_waited_for),
		sbc_test(an_immediate_flush_is_answered_first),
		sbc_test(a_flood_of_immediate_flushes_is_answered_as_they_end),
		cmocka_unit_test(a_failed_flush_is_told),
		sbc_test(a_unit_that_goes_waits_for_its_immediate_flush),
		sbc_test(pre_fetch_says_that_not_all_is_in_a_cache),
		sbc_test(protection_bits_are_an_invalid_field),
		sbc_test(a_range_beyond_the_end_names_its_first_block),
		sbc_test(an_address_of_all_ones_does_not_wrap),
		sbc_test(no_blocks_are_good_and_touch_nothing),
		sbc_test(missing_data_out_is_never_read),
		sbc_test(dpo_and_fua_are_accepted),
		cmocka_unit_test(a_failed_request_names_its_block),
		cmocka_unit_test(writing_commands_leave_a_read_only_unit_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
