#include "blk/backend/sim.h"
#include "blk/test_disk.h"
#include "nvme/admin_rig.h"
#include "nvme/caps.h"

#define NUMD(bytes) (((uint32_t)(bytes) / 4 - 1) << 16)
#define KEEP	    (1u << 15) /* RAE */

static enum nvme_status get_log(struct rig *r, uint32_t nsid, uint32_t lid, uint32_t bytes)
{
	return rig_send(r, NVME_ADMIN_GET_LOG_PAGE, nsid, NUMD(bytes) | lid, 0);
}

static const struct {
	uint8_t lid;
	uint32_t bytes;
} pages[] = {
	{ 0x01, 4096 }, { 0x02, 512 },	{ 0x03, 512 }, { 0x04, 4096 },
	{ 0x05, 4096 }, { 0x0c, 4144 }, { 0x80, 64 },  { 0x81, 512 },
};

static void each_page_can_be_read_from_any_dword(void **state)
{
	static uint8_t whole[RIG_BUF_BYTES];
	struct rig r;

	rig_open(&r);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		assert_status(get_log(&r, 0, pages[i].lid | KEEP, 8192), SUCCESS);
		assert_zeroes(&r, pages[i].bytes, 8192);
		memcpy(whole, r.cmd.buf, sizeof(whole));
		for (uint32_t off = 0; off <= pages[i].bytes; off += pages[i].bytes / 4) {
			r.cdw12 = off;
			assert_status(get_log(&r, NVME_NSID_ALL, pages[i].lid | KEEP, 16), SUCCESS);
			assert_int_equal(r.cmd.reply_bytes, 16);
			assert_memory_equal(r.cmd.buf, whole + off, 16);
			assert_int_equal(r.cmd.buf[16], 0xee);
		}
		r.cdw12 = pages[i].bytes + 4;
		assert_status(get_log(&r, 0, pages[i].lid, 16), INVALID_FIELD);
		r.cdw12 = 2;
		assert_status(get_log(&r, 0, pages[i].lid, 16), INVALID_FIELD);
		r.cdw12 = 0;
		r.cdw13 = 1;
		assert_status(get_log(&r, 0, pages[i].lid, 16), INVALID_FIELD);
		r.cdw13 = 0;
	}
	rig_close(&r);
}

static void other_pages_are_invalid(void **state)
{
	struct rig r;

	rig_open(&r);
	for (uint32_t lid = 0, i = 0; lid < 256; lid++) {
		if (i < ARRAY_SIZE(pages) && pages[i].lid == lid)
			i++;
		else
			assert_status(get_log(&r, 0, lid, 16), INVALID_LOG_PAGE);
	}
	rig_close(&r);
}

static void a_page_of_the_controller_is_not_of_a_namespace(void **state)
{
	struct rig r;

	rig_open(&r);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		if (pages[i].lid != 0x02)
			assert_status(get_log(&r, 1, pages[i].lid, 16), INVALID_FIELD);
	assert_status(get_log(&r, 1, 0x02, 512), SUCCESS);
	assert_status(get_log(&r, 2, 0x02, 512), INVALID_NS);
	rig_close(&r);
}

static void more_than_a_command_may_move_is_an_invalid_field(void **state)
{
	struct rig r;

	rig_open(&r);
	/* NUMDL FFFFh: 256 KiB; with NUMDU 7: 2 MiB; 8: more */
	assert_status(rig_send(&r, NVME_ADMIN_GET_LOG_PAGE, 0, 0xffff0003, 7), SUCCESS);
	assert_int_equal(r.cmd.reply_bytes, 2u << 20);
	assert_status(rig_send(&r, NVME_ADMIN_GET_LOG_PAGE, 0, 0x00000003, 8), INVALID_FIELD);
	assert_status(rig_send(&r, NVME_ADMIN_GET_LOG_PAGE, 0, 0xffff0003, 0xffff), INVALID_FIELD);
	rig_close(&r);
}

/* ---- errors ---- */

static void errors_are_told_newest_first(void **state)
{
	struct rig_cmd failed = { 0 };
	struct rig r;

	rig_open(&r);
	failed.ctrl = r.ctrl[0];
	failed.c.cid = 0x1234;
	failed.c.sqe.nsid = le32(1);
	failed.c.sqe.cdw10 = le32(0x55667788);
	failed.c.sqe.cdw11 = le32(0x11223344);
	for (uint32_t i = 0; i < nvme_row_count; i++)
		if (!nvme_rows[i].admin && nvme_rows[i].opcode == NVME_IO_READ)
			failed.c.row = &nvme_rows[i];
	nvme_log_error(&failed.c, 0x4005);
	for (uint32_t i = 0; i < nvme_row_count; i++)
		if (!nvme_rows[i].admin && nvme_rows[i].opcode == NVME_IO_DATASET_MANAGEMENT)
			failed.c.row = &nvme_rows[i];
	nvme_log_error(&failed.c, 0x0504);
	assert_status(get_log(&r, 0, 0x01, 192), SUCCESS);
	assert_bytes(&r, 0, "0200000000000000 0700 3412 0405 ffff 0000000000000000 01000000");
	assert_zeroes(&r, 28, 64);
	assert_bytes(&r, 64, "0100000000000000 0700 3412 0540 ffff 8877665544332211 01000000");
	assert_zeroes(&r, 92, 192);
	for (uint32_t i = 0; i < NVME_ERROR_ENTRIES; i++)
		nvme_log_error(&failed.c, 0);
	assert_status(get_log(&r, 0, 0x01, 4096), SUCCESS);
	assert_int_equal(rig_le(&r, 0, 8), 66);
	assert_int_equal(rig_le(&r, 63 * 64, 8), 3);
	assert_status(get_log(&r, 0, 0x02, 512), SUCCESS);
	assert_int_equal(rig_le(&r, 176, 16), 66);
	rig_close(&r);
}

/* ---- health ---- */

static void some_io(struct rig *r, uint32_t nsid, enum blk_op op, uint64_t len, int times)
{
	struct disk d = { .loop = r->loop, .dev = r->ns[nsid]->dev };
	char *buf = disk_buf(len, 1);
	struct err err = { 0 };

	assert_int_equal(blk_chan_open(d.dev, d.loop, &d.chan, &err), 0);
	while (times--)
		disk_do(&d, op, 0, 0, len, buf);
	blk_chan_close(d.chan);
	free(buf);
}

static void health_counts_what_namespaces_did(void **state)
{
	struct rig r;

	rig_open(&r);
	rig_ns_add(&r, 2, "size=1M,fail-every=2,fail-op=read");
	some_io(&r, 1, BLK_READ, 512000, 2);
	some_io(&r, 1, BLK_WRITE, 4096, 3);
	some_io(&r, 2, BLK_READ, 512, 4);
	assert_status(get_log(&r, NVME_NSID_ALL, 0x02, 512), SUCCESS);
	assert_bytes(&r, 0, "00 2a01 64 0a 00");
	assert_zeroes(&r, 6, 32);
	assert_int_equal(rig_le(&r, 32, 16), 3); /* thousands of 512 bytes, rounded up */
	assert_int_equal(rig_le(&r, 48, 16), 1);
	assert_int_equal(rig_le(&r, 64, 16), 6);
	assert_int_equal(rig_le(&r, 80, 16), 3);
	assert_int_equal(rig_le(&r, 112, 16), 1); /* power cycles */
	assert_int_equal(rig_le(&r, 160, 16), 2); /* media errors */
	assert_zeroes(&r, 192, 512);
	assert_status(get_log(&r, 1, 0x02, 512), SUCCESS);
	assert_int_equal(rig_le(&r, 32, 16), 2);
	assert_int_equal(rig_le(&r, 160, 16), 0);
	r.subsys->opened_ns -= 7200ull * 1000000000;
	assert_status(get_log(&r, 2, 0x02, 512), SUCCESS);
	assert_int_equal(rig_le(&r, 128, 16), 2); /* hours */
	assert_int_equal(rig_le(&r, 48, 16), 0);
	rig_close(&r);
}

static void health_warns_of_a_threshold(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(rig_send(&r, NVME_ADMIN_SET_FEATURES, 0, 0x04, NVME_TEMPERATURE_K), SUCCESS);
	assert_status(get_log(&r, 0, 0x02, 512), SUCCESS);
	assert_bytes(&r, 0, "02");
	rig_close(&r);
}

/* ---- the others ---- */

static void firmware_is_in_the_only_slot(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(get_log(&r, 0, 0x03, 512), SUCCESS);
	assert_bytes(&r, 0, "01 00000000000000");
	assert_memory_equal(r.cmd.buf + 8, "0.1.0   ", 8);
	assert_zeroes(&r, 16, 512);
	rig_close(&r);
}

static void effects_are_of_the_commands_that_are_offered(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(get_log(&r, 0, 0x05, 4096), SUCCESS);
	assert_int_equal(rig_le(&r, 4 * NVME_ADMIN_IDENTIFY, 4), 1);
	assert_int_equal(rig_le(&r, 4 * NVME_ADMIN_FORMAT_NVM, 4), 1 | 1 << 1 | 1 << 2 | 2 << 16);
	assert_int_equal(rig_le(&r, 1024 + 4 * NVME_IO_WRITE, 4), 1 | 1 << 1);
	assert_int_equal(rig_le(&r, 1024 + 4 * NVME_IO_READ, 4), 1);
	assert_int_equal(rig_le(&r, 4 * 0x10, 4), 0); /* Firmware Commit */
	assert_zeroes(&r, 2048, 4096);
	rig_not_offered[0] = NVME_ADMIN_FORMAT_NVM;
	assert_status(get_log(&r, 0, 0x05, 4096), SUCCESS);
	assert_int_equal(rig_le(&r, 4 * NVME_ADMIN_FORMAT_NVM, 4), 0);
	rig_close(&r);
}

static void the_access_state_is_that_of_one_group(void **state)
{
	struct rig r;

	rig_open(&r);
	rig_ns_add(&r, 3, "size=1M");
	assert_status(get_log(&r, 0, 0x0c, 64), SUCCESS);
	assert_bytes(&r, 0, "0100000000000000 0100 000000000000");
	assert_bytes(&r, 16,
		     "01000000 02000000 0100000000000000 01 000000000000000000000000000000");
	assert_bytes(&r, 48, "01000000 03000000 00000000");
	nvme_ctrl_ana_set(r.ctrl[0], NVME_ANA_NON_OPTIMIZED);
	assert_status(get_log(&r, 0, 0x0c | 1u << 8, 64), SUCCESS); /* groups only */
	assert_bytes(&r, 0, "0200000000000000 0100 000000000000");
	assert_bytes(&r, 16, "01000000 00000000 0200000000000000 02");
	assert_zeroes(&r, 48, 64);
	assert_status(rig_send_to(&r, 1, NVME_ADMIN_GET_LOG_PAGE, 0, NUMD(64) | 0x0c, 0), SUCCESS);
	assert_bytes(&r, 32, "01"); /* the other controller's is as it was */
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_page_can_be_read_from_any_dword),
		cmocka_unit_test(other_pages_are_invalid),
		cmocka_unit_test(a_page_of_the_controller_is_not_of_a_namespace),
		cmocka_unit_test(more_than_a_command_may_move_is_an_invalid_field),
		cmocka_unit_test(errors_are_told_newest_first),
		cmocka_unit_test(health_counts_what_namespaces_did),
		cmocka_unit_test(health_warns_of_a_threshold),
		cmocka_unit_test(firmware_is_in_the_only_slot),
		cmocka_unit_test(effects_are_of_the_commands_that_are_offered),
		cmocka_unit_test(the_access_state_is_that_of_one_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
