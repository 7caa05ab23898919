/* Protection information: the checks alone, and READ and WRITE on a unit that stores it. */
#include "scsi/pi.h"
#include "scsi/scsi_rig.h"

static void the_crc_is_that_of_t10(void **state)
{
	assert_int_equal(pi_crc(0, (const uint8_t *)"123456789", 9), 0xd0db);
}

static void pieces_of_any_size_give_the_same_guards(void **state)
{
	uint8_t data[1024], whole[16], cut[16];
	struct iovec one = { data, 1024 };
	struct iovec many[] = {
		{ data, 1 }, { data + 1, 0 }, { data + 1, 700 }, { data + 701, 323 }
	};
	struct pi_job job = {
		.type = 1, .block_bytes = 512, .lba = 7, .blocks = 2, .iov = &one, .iov_count = 1
	};
	uint64_t lba;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	pi_generate(&job, whole);
	job.iov = many;
	job.iov_count = 4;
	pi_generate(&job, cut);
	assert_memory_equal(whole, cut, 16);
	assert_int_equal(cdb_u32(cut + 12), 8);
	assert_int_equal(pi_verify(&job, cut, 7, &lba), SCSI_CAUSE_NONE);
	cut[15] ^= 1;
	assert_int_equal(pi_verify(&job, cut, 7, &lba), SCSI_CAUSE_REF_TAG_CHECK);
	assert_int_equal(lba, 8);
	data[600] ^= 1;
	assert_int_equal(pi_verify(&job, cut, 7, &lba), SCSI_CAUSE_GUARD_CHECK);
	memset(cut + 8, 0xff, 8);
	assert_int_equal(pi_verify(&job, cut, 7, &lba), SCSI_CAUSE_NONE);
}

/* ---- on a unit ---- */

static uint8_t pi_bytes[16];
static struct iovec pi_piece;
static struct iov_cur pi_cur;

/* A READ(10) or WRITE(10) of two blocks at 9 with protection information beside the data. */
static void rw_pi(struct rig *rig, uint8_t opcode, uint8_t protect, const uint8_t *out)
{
	const uint8_t cdb[10] = { opcode, (uint8_t)(protect << 5), 0, 0, 0, 9, 0, 0, 2, 0 };
	struct rig_task *rt;

	pi_piece = (struct iovec){ pi_bytes, sizeof(pi_bytes) };
	iov_cur_init(&pi_cur, &pi_piece, 1, sizeof(pi_bytes));
	rig->pi = &pi_cur;
	rt = rig_start(rig, cdb, 10, out, out ? 1024 : 0, out ? 0 : 1024 + 16);
	rig->pi = NULL;
	rig_finish(rig, rt);
}

static void what_is_written_without_is_given_when_read(void **state)
{
	struct rig *rig = *state;
	uint8_t data[1024];
	struct iovec piece = { data, 1024 };
	struct pi_job job = {
		.type = 1, .block_bytes = 512, .lba = 9, .blocks = 2, .iov = &piece, .iov_count = 1
	};
	uint8_t expected[16];

	memset(data, 0x3c, sizeof(data));
	pi_generate(&job, expected);
	assert_int_equal(rig_cdb(rig, data, 1024, 0, 0x2a, 0, 0, 0, 0, 9, 0, 0, 2, 0), SCSI_GOOD);
	rw_pi(rig, 0x28, 1, NULL);
	assert_int_equal(rig->task.status, SCSI_GOOD);
	assert_memory_equal(pi_bytes, expected, 16);
}

static void a_wrong_guard_is_refused_and_nothing_is_written(void **state)
{
	struct rig *rig = *state;
	uint8_t data[1024] = { 1 };

	memset(pi_bytes, 0, sizeof(pi_bytes));
	rw_pi(rig, 0x2a, 1, data);
	rig_assert_sense(rig, SCSI_CAUSE_GUARD_CHECK);
	assert_int_equal(cdb_u32(rig->task.sense + 3), 9);
	assert_int_equal(rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 9, 0, 0, 1, 0), SCSI_GOOD);
	assert_int_equal(rig->in[0], 0);
}

static void a_wrong_guard_that_was_stored_is_found_when_read(void **state)
{
	struct rig *rig = *state;
	uint8_t data[1024] = { 1 };

	memset(pi_bytes, 0, sizeof(pi_bytes));
	rw_pi(rig, 0x2a, 3, data); /* do not check */
	assert_int_equal(rig->task.status, SCSI_GOOD);
	rig_cdb(rig, NULL, 0, 1024, 0x28, 0, 0, 0, 0, 9, 0, 0, 2, 0);
	rig_assert_sense(rig, SCSI_CAUSE_GUARD_CHECK);
	rw_pi(rig, 0x28, 3, NULL);
	assert_int_equal(rig->task.status, SCSI_GOOD);
}

static void protect_without_a_place_for_it_is_an_invalid_field(void **state)
{
	struct rig *rig = *state;

	rig_cdb(rig, NULL, 0, 1024, 0x28, 0x20, 0, 0, 0, 9, 0, 0, 2, 0);
	rig_assert_field(rig, true, 1);
	rw_pi(rig, 0x28, 6, NULL);
	rig_assert_field(rig, true, 1);
}

static int setup(void **state)
{
	return rig_setup(state, "ram", "size=1M,pi-type=1");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_crc_is_that_of_t10),
		cmocka_unit_test(pieces_of_any_size_give_the_same_guards),
		TEST(what_is_written_without_is_given_when_read),
		TEST(a_wrong_guard_is_refused_and_nothing_is_written),
		TEST(a_wrong_guard_that_was_stored_is_found_when_read),
		TEST(protect_without_a_place_for_it_is_an_invalid_field),
	};

	return cmocka_run_group_tests_name("scsi pi", tests, NULL, NULL);
}
