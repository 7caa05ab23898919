/* ROD tokens: POPULATE TOKEN, WRITE USING TOKEN and what asks after them. */
#include "scsi/copy_rig.h"

static uint8_t token[COPY_TOKEN_BYTES];
static uint64_t now_ns;

static uint64_t fake_clock_ns(void)
{
	return now_ns;
}

static int setup_clock(void **state, const char *first, const char *second)
{
	now_ns = 1000000000;
	token_clock_set(fake_clock_ns);
	return setup_units(state, first, second);
}

static int setup(void **state)
{
	return setup_clock(state, "size=4M", "size=4M");
}

static int setup_4k(void **state)
{
	return setup_clock(state, "size=4M", "size=4M,block-size=4096");
}

static int setup_failing_reads(void **state)
{
	return setup_clock(state, "size=4M,fail-every=2,fail-op=read", "size=4M");
}

static int setup_failing_writes(void **state)
{
	return setup_clock(state, "size=4M", "size=4M,fail-every=2,fail-op=write");
}

static int teardown_clock(void **state)
{
	token_clock_set(NULL);
	return teardown(state);
}

/* ---- parameter lists ---- */

static uint8_t params[8192];
static size_t params_len, params_ranges;

static void populate_init(void)
{
	memset(params, 0, sizeof(params));
	params_ranges = 14;
	params_len = 16;
}

static void use_init(uint64_t offset)
{
	memset(params, 0, sizeof(params));
	cdb_put64(params + 8, offset);
	memcpy(params + 16, token, sizeof(token));
	params_ranges = 534;
	params_len = 536;
}

static void range(uint64_t lba, uint32_t blocks)
{
	cdb_put64(params + params_len, lba);
	cdb_put32(params + params_len + 8, blocks);
	params_len += 16;
	cdb_put16(params, (uint16_t)(params_len - 2));
	cdb_put16(params + params_ranges, (uint16_t)(params_len - params_ranges - 2));
}

static struct rig_task *params_start(struct rig *rig, uint32_t id)
{
	uint8_t cdb[16] = { 0x83, params_ranges == 14 ? 0x10 : 0x11 };

	cdb_put32(cdb + 6, id);
	cdb_put32(cdb + 10, (uint32_t)params_len);
	return rig_start(rig, cdb, 16, params, params_len, 0);
}

static uint8_t params_run(struct rig *rig, uint32_t id)
{
	rig_finish(rig, params_start(rig, id));
	assert_int_equal(rig->task.end, SCSI_END_COMPLETE);
	return rig->task.status;
}

static void receive(struct rig *rig, uint32_t id)
{
	assert_int_equal(copy_receive(rig, 0x07, id), SCSI_GOOD);
	assert_int_equal(cdb_u32(rig->in) + 4, rig->task.in_bytes);
}

static void token_receive(struct rig *rig, uint32_t id)
{
	receive(rig, id);
	assert_int_equal(rig->task.in_bytes, 32 + 4 + 2 + 512);
	assert_int_equal(cdb_u32(rig->in + 32), 514);
	memcpy(token, rig->in + 38, sizeof(token));
}

/* A token of the current unit, for one range. */
static void token_of(struct rig *rig, uint64_t lba, uint32_t blocks)
{
	populate_init();
	range(lba, blocks);
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
	token_receive(rig, 1);
}

/* ---- tokens that are good ---- */

static void a_token_says_what_it_is(void **state)
{
	struct rig *rig = *state;

	token_of(rig, 10, 20);
	assert_int_equal(rig->in[4], 0x10);
	assert_int_equal(rig->in[5], 0x01);
	assert_int_equal(rig->in[15], 0xf1);
	assert_int_equal(cdb_u64(rig->in + 16), 20);
	assert_int_equal(cdb_u16(rig->in + 24), 0);
	assert_int_equal(cdb_u32(token), COPY_ROD_PIT_DEFAULT);
	assert_int_equal(cdb_u16(token + 6), 0x1f8);
	assert_int_equal(token[16], 0xe4);
	assert_int_equal(cdb_u64(token + 48 + 8), 20 * 512);
	assert_int_equal(cdb_u32(token + 96), 512);
	receive(rig, 1); /* told once */
	assert_int_equal(rig->task.in_bytes, 36);
}

static void tokens_are_not_alike(void **state)
{
	struct rig *rig = *state;
	uint8_t first[COPY_TOKEN_BYTES];

	token_of(rig, 10, 20);
	memcpy(first, token, sizeof(first));
	token_of(rig, 10, 20);
	assert_memory_not_equal(first + 8, token + 8, 8);
	assert_memory_not_equal(first + 256, token + 256, 32);
	assert_memory_not_equal(first + 480, token + 480, 32);
}

static void blocks_go_by_token_to_another_unit_and_nexus(void **state)
{
	struct rig *rig = *state;

	token_of(rig, 10, 4000);
	rig->target = 1;
	rig->nexus_idx = 1;
	use_init(0);
	range(100, 4000);
	assert_int_equal(params_run(rig, 2), SCSI_GOOD);
	assert_changed(rig, 1, 100 * 512, before[0] + 10 * 512, 4000 * 512);
	receive(rig, 2);
	assert_int_equal(rig->task.in_bytes, 36);
	assert_int_equal(rig->in[4], 0x11);
	assert_int_equal(rig->in[5], 0x01);
	assert_int_equal(rig->in[15], 0xf1);
	assert_int_equal(cdb_u64(rig->in + 16), 4000);
}

static void ranges_are_strung_together_in_their_order(void **state)
{
	struct rig *rig = *state;
	uint8_t *data = malloc(60 * 512);

	populate_init();
	range(50, 10);
	range(7, 0);
	range(20, 30);
	range(400, 20);
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
	token_receive(rig, 1);
	memcpy(data, before[0] + 50 * 512, 10 * 512);
	memcpy(data + 10 * 512, before[0] + 20 * 512, 30 * 512);
	memcpy(data + 40 * 512, before[0] + 400 * 512, 20 * 512);
	rig->target = 1;
	use_init(5);
	range(1000, 1);
	range(2000, 0);
	range(3000, 50);
	assert_int_equal(params_run(rig, 2), SCSI_GOOD);
	memcpy(before[1] + 1000 * 512, data + 5 * 512, 512);
	assert_changed(rig, 1, 3000 * 512, data + 6 * 512, 50 * 512);
	free(data);
}

static void offsets_count_blocks_of_the_destination(void **state)
{
	struct rig *rig = *state;
	uint8_t *data = malloc(67 * 512);

	populate_init();
	range(15, 6);
	range(40, 61);
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
	token_receive(rig, 1);
	memcpy(data, before[0] + 15 * 512, 6 * 512);
	memcpy(data + 6 * 512, before[0] + 40 * 512, 61 * 512);
	rig->target = 1;
	use_init(1);
	range(9, 2);
	assert_int_equal(params_run(rig, 2), SCSI_GOOD);
	assert_changed(rig, 1, 9 * 4096, data + 4096, 2 * 4096);
	/* 67 blocks are 8 blocks and a part: the rest of that one is zeroes, and one is missing */
	use_init(0);
	range(100, 10);
	params_run(rig, 2);
	rig_assert_sense(rig, SCSI_CAUSE_COPY_UNDERRUN);
	assert_int_equal(cdb_u32(rig->task.sense + 3), 9);
	memset(before[1] + 100 * 4096 + 67 * 512, 0, 5 * 512);
	assert_changed(rig, 1, 100 * 4096, data, 67 * 512);
	receive(rig, 2);
	assert_int_equal(rig->in[5], 0x03);
	assert_int_equal(cdb_u64(rig->in + 16), 9);
	free(data);
}

static void the_zero_token_writes_zeroes(void **state)
{
	struct rig *rig = *state;
	uint8_t *zeroes = calloc(1, 3000 * 512);

	memset(token, 0, sizeof(token));
	cdb_put32(token, COPY_ROD_ZERO);
	cdb_put16(token + 6, 0x1f8);
	use_init(12345);
	range(5, 10);
	range(1000, 3000);
	assert_int_equal(params_run(rig, 2), SCSI_GOOD);
	memset(before[0] + 5 * 512, 0, 10 * 512);
	assert_changed(rig, 0, 1000 * 512, zeroes, 3000 * 512);
	free(zeroes);
}

static void no_list_is_no_error(void **state)
{
	struct rig *rig = *state;

	populate_init();
	params_len = 0;
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
	use_init(0);
	params_len = 0;
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
	copy_receive(rig, 0x07, 1);
	rig_assert_field(rig, true, 2);
}

static void immediate_ones_have_ended_with_their_status(void **state)
{
	struct rig *rig = *state;

	populate_init();
	range(10, 20);
	params[2] = 0x01;
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
	token_receive(rig, 1);
	use_init(0);
	range(100, 20);
	params[2] = 0x01;
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
	receive(rig, 1);
	assert_int_equal(rig->in[5], 0x01);
}

/* ---- fields ---- */

static void rod_types_are_the_point_in_time_ones(void **state)
{
	static const struct {
		uint32_t asked, shown;
	} cases[] = {
		{ COPY_ROD_PIT_DEFAULT, COPY_ROD_PIT_DEFAULT },
		{ COPY_ROD_PIT_VULNERABLE, COPY_ROD_PIT_VULNERABLE },
		{ COPY_ROD_PIT_ANY, COPY_ROD_PIT_VULNERABLE },
		{ 0x00010000, 0 },
		{ 0x00800002, 0 },
		{ COPY_ROD_ZERO, 0 },
		{ 0, 0 },
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		populate_init();
		range(10, 20);
		params[2] = 0x02;
		cdb_put32(params + 8, cases[i].asked);
		params_run(rig, 1);
		if (!cases[i].shown) {
			rig_assert_field(rig, false, 8);
			continue;
		}
		assert_int_equal(rig->task.status, SCSI_GOOD);
		token_receive(rig, 1);
		assert_int_equal(cdb_u32(token), cases[i].shown);
	}
	populate_init(); /* without RTV the type is not looked at */
	range(10, 20);
	cdb_put32(params + 8, 0x00010000);
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
}

static void fields_of_populate_token(void **state)
{
	struct rig *rig = *state;

	populate_init();
	range(0, 1);
	params_len = 15;
	params_run(rig, 1);
	rig_assert_sense(rig, SCSI_CAUSE_PARAM_LIST_LENGTH);
	populate_init();
	range(0, 1);
	cdb_put16(params, 29);
	params_run(rig, 1);
	rig_assert_field(rig, false, 0);
	populate_init();
	range(0, 1);
	cdb_put32(params + 4, COPY_TOKEN_MAX_SECONDS + 1);
	params_run(rig, 1);
	rig_assert_field(rig, false, 4);
	cdb_put32(params + 4, COPY_TOKEN_MAX_SECONDS);
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
	populate_init();
	range(0, 1);
	params_len = 31; /* the only range is cut */
	params_run(rig, 1);
	rig_assert_sense(rig, SCSI_CAUSE_PARAM_LIST_LENGTH);
}

static void fields_of_write_using_token(void **state)
{
	struct rig *rig = *state;

	token_of(rig, 10, 20);
	use_init(0);
	range(100, 1);
	params_len = 535;
	params_run(rig, 1);
	rig_assert_sense(rig, SCSI_CAUSE_PARAM_LIST_LENGTH);
	use_init(0);
	range(100, 1);
	cdb_put16(params, 549);
	params_run(rig, 1);
	rig_assert_field(rig, false, 0);
	cdb_put16(params, 566); /* not what the ranges say */
	params_run(rig, 1);
	rig_assert_field(rig, false, 0);
	use_init(20); /* beyond what the token has */
	range(100, 1);
	params_run(rig, 1);
	rig_assert_field(rig, false, 8);
	use_init(UINT64_MAX / 2);
	range(100, 1);
	params_run(rig, 1);
	rig_assert_field(rig, false, 8);
}

static void ranges_are_checked(void **state)
{
	struct rig *rig = *state;

	populate_init();
	range(0, 1);
	cdb_put16(params + 14, 15);
	params_run(rig, 1);
	rig_assert_field(rig, false, 14);
	populate_init();
	range(8191, 2);
	params_run(rig, 1);
	rig_assert_sense(rig, SCSI_CAUSE_LBA_OUT_OF_RANGE);
	populate_init();
	range(UINT64_MAX, 1);
	params_run(rig, 1);
	rig_assert_sense(rig, SCSI_CAUSE_LBA_OUT_OF_RANGE);
	populate_init();
	range(100, 10);
	range(50, 10);
	range(109, 1);
	params_run(rig, 1);
	rig_assert_field(rig, false, 48);
	populate_init();
	for (uint32_t i = 0; i < COPY_TOKEN_RANGES_MAX; i++)
		range(2 * i, 1);
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
	range(1000, 1);
	params_run(rig, 1);
	rig_assert_sense(rig, SCSI_CAUSE_TOO_MANY_SEGMENTS);
}

static void a_last_range_that_is_cut_is_ignored(void **state)
{
	struct rig *rig = *state;

	populate_init();
	range(0, 1);
	range(0, 1);
	params_len -= 1;
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
	token_receive(rig, 1);
	assert_int_equal(cdb_u64(rig->in + 16), 1);
}

static void spoilt_tokens_are_told_apart(void **state)
{
	static const struct {
		uint16_t byte;
		enum scsi_cause cause;
	} cases[] = {
		{ 7, SCSI_CAUSE_TOKEN_LENGTH },	   { 1, SCSI_CAUSE_TOKEN_UNSUPPORTED_TYPE },
		{ 8, SCSI_CAUSE_TOKEN_UNKNOWN },   { 3, SCSI_CAUSE_TOKEN_CORRUPT },
		{ 63, SCSI_CAUSE_TOKEN_CORRUPT },  { 300, SCSI_CAUSE_TOKEN_CORRUPT },
		{ 511, SCSI_CAUSE_TOKEN_CORRUPT },
	};
	struct rig *rig = *state;

	token_of(rig, 10, 20);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		use_init(0);
		params[16 + cases[i].byte] ^= 0x01;
		range(100, 20);
		params_run(rig, 2);
		rig_assert_sense(rig, cases[i].cause);
	}
	assert_changed(rig, 0, 0, before[0], 0);
	use_init(0);
	range(100, 20);
	assert_int_equal(params_run(rig, 2), SCSI_GOOD);
}

/* ---- the end of tokens ---- */

static void a_token_expires_when_it_is_not_used(void **state)
{
	struct rig *rig = *state;

	populate_init();
	range(10, 20);
	cdb_put32(params + 4, 10);
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
	token_receive(rig, 1);
	for (int i = 0; i < 3; i++) {
		now_ns += 9999999999;
		use_init(0);
		range(100, 20);
		assert_int_equal(params_run(rig, 2), SCSI_GOOD);
	}
	now_ns += 10000000000;
	params_run(rig, 2);
	rig_assert_sense(rig, SCSI_CAUSE_TOKEN_EXPIRED);
	assert_int_equal(rig->lu[0]->token_count, 0);
	token_of(rig, 10, 20); /* 0: the default */
	now_ns += COPY_TOKEN_DEFAULT_SECONDS * 1000000000ull;
	use_init(0);
	range(100, 20);
	params_run(rig, 2);
	rig_assert_sense(rig, SCSI_CAUSE_TOKEN_EXPIRED);
}

static void del_tkn_deletes_it(void **state)
{
	struct rig *rig = *state;

	token_of(rig, 10, 20);
	use_init(0);
	range(100, 20);
	params[2] = 0x02;
	assert_int_equal(params_run(rig, 2), SCSI_GOOD);
	params_run(rig, 2);
	rig_assert_sense(rig, SCSI_CAUSE_TOKEN_DELETED);
}

static void expect_cancelled(struct rig *rig, bool cancelled)
{
	rig->target = 1;
	use_init(0);
	range(100, 20);
	params_run(rig, 2);
	if (cancelled)
		rig_assert_sense(rig, SCSI_CAUSE_TOKEN_CANCELLED);
	else
		assert_int_equal(rig->task.status, SCSI_GOOD);
	rig->target = 0;
}

static void a_write_to_its_blocks_cancels_a_token(void **state)
{
	static const struct {
		uint32_t lba, blocks;
		bool cancels;
	} cases[] = {
		{ 9, 1, false }, { 30, 5, false }, { 9, 2, true },
		{ 29, 1, true }, { 0, 100, true },
	};
	struct rig *rig = *state;
	uint8_t data[512 * 100] = { 1 };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		token_of(rig, 10, 20);
		rig->nexus_idx = 1; /* whoever writes */
		assert_int_equal(rig_cdb(rig, data, cases[i].blocks * 512, 0, 0x2a, 0, 0, 0, 0,
					 (uint8_t)cases[i].lba, 0, 0, (uint8_t)cases[i].blocks, 0),
				 SCSI_GOOD);
		rig->nexus_idx = 0;
		expect_cancelled(rig, cases[i].cancels);
	}
}

static void a_token_waits_for_writes_that_were_under_way(void **state)
{
	struct rig *rig = *state;
	uint8_t cdb[10] = { 0x2a, 0, 0, 0, 0, 12, 0, 0, 1, 0 };
	struct rig_task *write, *populate;
	uint8_t data[512] = { 7 };

	blk_sim_hold(rig->dev[0], true);
	write = rig_start(rig, cdb, 10, data, 512, 0);
	populate_init();
	range(10, 20);
	populate = params_start(rig, 1);
	for (int i = 0; i < 10; i++)
		rig_turn(rig);
	assert_false(populate->done);
	blk_sim_hold(rig->dev[0], false);
	rig_finish(rig, populate);
	assert_int_equal(rig->task.status, SCSI_GOOD);
	assert_true(write->done);
	rig_finish(rig, write);
	token_receive(rig, 1);
	expect_cancelled(rig, false);
	assert_memory_equal(mem(rig, 1) + 102 * 512, data, 512);
}

static void reads_cancel_nothing_and_the_gate_is_opened_again(void **state)
{
	struct rig *rig = *state;
	struct scsi_itl *itl = list_entry(rig->lu[0]->itls.next, struct scsi_itl, node);
	uint8_t data[512] = { 1 };

	assert_false(atomic_load(&itl->gate) & GATE_WRITES);
	token_of(rig, 10, 20);
	assert_true(atomic_load(&itl->gate) & GATE_WRITES);
	assert_int_equal(rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 10, 0, 0, 1, 0), SCSI_GOOD);
	expect_cancelled(rig, false);
	rig_cdb(rig, data, 512, 0, 0x2a, 0, 0, 0, 0, 10, 0, 0, 1, 0);
	assert_false(atomic_load(&itl->gate) & GATE_WRITES);
}

static void copies_cancel_tokens_of_what_they_write(void **state)
{
	static struct copy_list list;
	struct rig *rig = *state;
	uint8_t first[COPY_TOKEN_BYTES];

	token_of(rig, 10, 20);
	copy_list_init(&list, false, 9, 0);
	copy_list_cscd(&list, rig->lu[0]->wwn);
	copy_list_blocks(&list, 0, 0, 4, 100, 28);
	assert_int_equal(copy_list_run(rig, &list), SCSI_GOOD);
	expect_cancelled(rig, true);
	token_of(rig, 500, 20);
	memcpy(first, token, sizeof(first));
	token_of(rig, 10, 20);
	use_init(0);
	range(510, 20);
	assert_int_equal(params_run(rig, 2), SCSI_GOOD);
	memcpy(token, first, sizeof(first));
	expect_cancelled(rig, true);
	token_of(rig, 10, 20); /* onto itself: nothing is written */
	patterns(rig);
	use_init(0);
	range(200, 10);
	range(29, 10);
	params_run(rig, 2);
	rig_assert_sense(rig, SCSI_CAUSE_TOKEN_CANCELLED);
	assert_changed(rig, 0, 0, before[0], 0);
}

static void a_token_that_is_cancelled_midway_stops_the_copy(void **state)
{
	struct rig *rig = *state;
	uint8_t data[512] = { 1 };
	struct rig_task *t;
	uint8_t cdb[10] = { 0x2a, 0, 0, 0, 0x08, 0, 0, 0, 1, 0 };

	token_of(rig, 0, 3000);
	rig->target = 1;
	blk_sim_hold(rig->dev[1], true); /* the first piece is not written yet */
	use_init(0);
	range(0, 3000);
	t = params_start(rig, 2);
	for (int i = 0; i < 10; i++)
		rig_turn(rig);
	rig->target = 0;
	assert_int_equal(rig_run(rig, cdb, 10, data, 512, 0), SCSI_GOOD);
	blk_sim_hold(rig->dev[1], false);
	rig_finish(rig, t);
	rig_assert_sense(rig, SCSI_CAUSE_COPY_UNDERRUN);
	assert_in_range(cdb_u32(rig->task.sense + 3), 1, 2048);
}

static void a_read_error_of_the_source_is_an_underrun(void **state)
{
	struct rig *rig = *state;

	token_of(rig, 0, 3000);
	rig->target = 1;
	use_init(0);
	range(0, 3000);
	params_run(rig, 2);
	rig_assert_sense(rig, SCSI_CAUSE_COPY_UNDERRUN);
	assert_changed(rig, 1, 0, before[0], cdb_u32(rig->task.sense + 3) * 512);
	receive(rig, 2);
	assert_int_equal(rig->in[5], 0x03);
	assert_int_equal(rig->in[12], SCSI_CHECK_CONDITION);
	assert_int_equal(cdb_u64(rig->in + 16), cdb_u32(rig->in + 32 + 3));
}

static void a_write_error_is_the_units_own(void **state)
{
	struct rig *rig = *state;

	token_of(rig, 0, 3000);
	rig->target = 1;
	use_init(0);
	range(0, 3000);
	params_run(rig, 2);
	rig_assert_sense(rig, SCSI_CAUSE_WRITE_ERROR);
}

static void a_reservation_of_the_source_stops_its_use(void **state)
{
	struct rig *rig = *state;
	struct scsi_itl *itl = list_entry(rig->lu[0]->itls.next, struct scsi_itl, node);

	token_of(rig, 10, 20);
	atomic_fetch_or(&itl->gate, GATE_RESV_READ);
	rig->target = 1;
	use_init(0);
	range(100, 20);
	params_run(rig, 2);
	rig_assert_sense(rig, SCSI_CAUSE_COPY_TARGET_FAILED);
	atomic_fetch_and(&itl->gate, ~GATE_RESV_READ);
	assert_int_equal(params_run(rig, 2), SCSI_GOOD);
}

static void on_detached(void *arg)
{
	*(bool *)arg = true;
}

static void the_token_of_a_unit_that_is_gone_is_remote(void **state)
{
	struct rig *rig = *state;
	bool detached = false;
	struct err err;

	token_of(rig, 10, 20);
	assert_int_equal(scsi_host_detach(rig->host, 0, 0, on_detached, &detached, &err), 0);
	while (!detached)
		rig_turn(rig);
	rig_ua_clear_all(rig);
	rig->target = 1;
	use_init(0);
	range(100, 20);
	params_run(rig, 2);
	rig_assert_sense(rig, SCSI_CAUSE_TOKEN_REMOTE_USAGE);
}

static void old_tokens_of_a_nexus_make_room(void **state)
{
	struct rig *rig = *state;
	uint8_t first[COPY_TOKEN_BYTES], other[COPY_TOKEN_BYTES];

	rig->nexus_idx = 1;
	token_of(rig, 10, 20);
	memcpy(other, token, sizeof(other));
	rig->nexus_idx = 0;
	token_of(rig, 10, 20);
	memcpy(first, token, sizeof(first));
	for (int i = 0; i < 256; i++)
		token_of(rig, 10, 20);
	expect_cancelled(rig, false);
	memcpy(token, other, sizeof(other));
	expect_cancelled(rig, false);
	memcpy(token, first, sizeof(first));
	rig->target = 1;
	use_init(0);
	range(100, 20);
	params_run(rig, 2);
	rig_assert_sense(rig, SCSI_CAUSE_TOKEN_UNKNOWN);
}

static void all_tokens_of_the_unit_are_reported(void **state)
{
	struct rig *rig = *state;

	rig_cdb(rig, NULL, 0, 4096, 0x84, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0);
	assert_int_equal(rig->task.in_bytes, 8);
	assert_int_equal(cdb_u32(rig->in), 4);
	token_of(rig, 10, 20);
	token_of(rig, 40, 20);
	rig_cdb(rig, NULL, 0, 4096, 0x84, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0);
	assert_int_equal(rig->task.in_bytes, 8 + 2 * 96);
	assert_int_equal(cdb_u32(rig->in), 4 + 2 * 96);
	assert_memory_equal(rig->in + 8 + 96, token, 96);
	rig->target = 1;
	rig_cdb(rig, NULL, 0, 4096, 0x84, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0);
	assert_int_equal(rig->task.in_bytes, 8);
}

static void a_short_answer_keeps_the_token(void **state)
{
	struct rig *rig = *state;

	populate_init();
	range(10, 20);
	assert_int_equal(params_run(rig, 1), SCSI_GOOD);
	rig_cdb(rig, NULL, 0, 1024, 0x84, 0x07, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 36, 0, 0);
	assert_int_equal(rig->task.in_bytes, 36);
	assert_int_equal(cdb_u32(rig->in), 32 + 4 + 514 - 4);
	token_receive(rig, 1);
}

#define TEST(fn)	cmocka_unit_test_setup_teardown(fn, setup, teardown_clock)
#define TEST_ON(fn, on) cmocka_unit_test_setup_teardown(fn, setup_##on, teardown_clock)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_token_says_what_it_is),
		TEST(tokens_are_not_alike),
		TEST(blocks_go_by_token_to_another_unit_and_nexus),
		TEST(ranges_are_strung_together_in_their_order),
		TEST_ON(offsets_count_blocks_of_the_destination, 4k),
		TEST(the_zero_token_writes_zeroes),
		TEST(no_list_is_no_error),
		TEST(immediate_ones_have_ended_with_their_status),
		TEST(rod_types_are_the_point_in_time_ones),
		TEST(fields_of_populate_token),
		TEST(fields_of_write_using_token),
		TEST(ranges_are_checked),
		TEST(a_last_range_that_is_cut_is_ignored),
		TEST(spoilt_tokens_are_told_apart),
		TEST(a_token_expires_when_it_is_not_used),
		TEST(del_tkn_deletes_it),
		TEST(a_write_to_its_blocks_cancels_a_token),
		TEST(a_token_waits_for_writes_that_were_under_way),
		TEST(reads_cancel_nothing_and_the_gate_is_opened_again),
		TEST(copies_cancel_tokens_of_what_they_write),
		TEST(a_token_that_is_cancelled_midway_stops_the_copy),
		TEST_ON(a_read_error_of_the_source_is_an_underrun, failing_reads),
		TEST_ON(a_write_error_is_the_units_own, failing_writes),
		TEST(a_reservation_of_the_source_stops_its_use),
		TEST(the_token_of_a_unit_that_is_gone_is_remote),
		TEST(old_tokens_of_a_nexus_make_room),
		TEST(all_tokens_of_the_unit_are_reported),
		TEST(a_short_answer_keeps_the_token),
	};

	return cmocka_run_group_tests_name("scsi token", tests, NULL, NULL);
}
