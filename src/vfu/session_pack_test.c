/* A session from one process to another: the client notices nothing. */
#include "vfu/session_rig.h"

#include "base/parcel_rig.h"

static void pack(struct fixture *f, struct parcel *p)
{
	struct err err = { 0 };

	vfu_session_freeze(f->session, true);
	PUMP_UNTIL(f, vfu_session_is_quiet(f->session));
	parcel_init(p);
	if (vfu_session_pack(f->session, p, &err))
		fail_msg("%s", err.msg);
}

/* The old process ends, without a word on the socket. */
static void old_ends(struct fixture *f)
{
	vfu_session_close(f->session, LOG_INFO, "the process ends");
	PUMP_UNTIL(f, !f->session);
	assert_int_equal(f->frees, 1);
	f->frees = f->quiesces = f->resumes = f->maps_sets = 0;
	f->quiet = f->msix_on = false;
	f->loaded[0] = '\0';
	dev_describe(f);
}

static int unpack(struct fixture *f, struct parcel *p, struct err *reterr)
{
	struct vfu_session *s;
	int rc = vfu_session_unpack(&f->params, &f->dev, p, &s, reterr);

	if (rc == 0)
		f->session = s;
	return rc;
}

static void hand_over_frozen(struct fixture *f)
{
	struct parcel sent, came;
	struct err err = { 0 };

	pack(f, &sent);
	parcel_arrives(&sent, &came);
	parcel_fini(&sent);
	old_ends(f);
	if (unpack(f, &came, &err))
		fail_msg("%s", err.msg);
	parcel_fini(&came);
	assert_true(vfu_session_is_quiet(f->session));
	assert_string_equal(f->loaded, DEV_SAVED);
}

static void hand_over(struct fixture *f)
{
	hand_over_frozen(f);
	vfu_session_freeze(f->session, false);
	PUMP_UNTIL(f, !f->quiet);
}

static int irq_set(struct fixture *f, uint32_t index, uint32_t start, int fd)
{
	uint32_t set[5] = { 20, VFU_IRQ_DATA_EVENTFD | VFU_IRQ_ACTION_TRIGGER, index, start, 1 };
	struct reply r;

	return call_fds(f, VFU_CMD_DEVICE_SET_IRQS, set, sizeof(set), &fd, 1, &r);
}

static void a_client_goes_on_with_all_that_it_set_up(void **state)
{
	struct fixture *f = *state;
	int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint8_t table[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }, back[16];
	uint64_t heard;
	char *mem;

	negotiate(f);
	assert_int_equal(map_at(f, 0x100000, MEM_BYTES, 3, f->memfd), 0);
	assert_int_equal(map_at(f, 0x800000, 0x1000, 1, f->memfd), 0);
	assert_int_equal(map_at(f, 0x900000, 0x1000, 3, -1), 0);
	assert_int_equal(irq_set(f, VFU_IRQ_MSIX, 3, bell), 0);
	config_write(f, 4, 0x0006, 2);
	config_write(f, 0x10, 0xfebf0000, 4);
	assert_int_equal(region_write(f, 4, 48, table, sizeof(table)), 0);
	hand_over(f);
	assert_int_equal(f->session->state, VFU_SESSION_ACTIVE);
	assert_int_equal(config_read(f, 4, 2), 0x0006);
	assert_int_equal(config_read(f, 0x10, 4), 0xfebf0000);
	assert_int_equal(region_read(f, 4, 48, back, sizeof(back)), 0);
	assert_memory_equal(back, table, sizeof(table));
	/* the same memory */
	assert_int_equal(f->readable->count, 2);
	assert_int_equal(f->writable->count, 1);
	mem = gmem_gpa_to_host(f->writable, gpa(0x100000), MEM_BYTES);
	mem[7] = 'x';
	assert_int_equal(pread(f->memfd, back, 1, 7), 1);
	assert_int_equal(back[0], 'x');
	/* and the same bell */
	assert_true(f->msix_on);
	assert_int_equal(write(f->vector_fd[3], &(uint64_t){ 5 }, 8), 8);
	assert_int_equal(read(bell, &heard, 8), 8);
	assert_int_equal(heard, 5);
	/* what it mapped is unmapped, and nothing twice */
	assert_int_equal(map_at(f, 0x900000, 0x1000, 3, -1), -EEXIST);
	assert_int_equal(unmap_at(f, 0x100000, MEM_BYTES, 0), 0);
	assert_int_equal(unmap_at(f, 0x900000, 0x1000, 0), 0);
	assert_int_equal(unmap_at(f, 0x900000, 0x1000, 0), -ENOENT);
	PUMP_UNTIL(f, !f->quiet);
	assert_int_equal(f->readable->count, 1);
	close(bell);
}

static void it_may_be_handed_over_before_its_first_word(void **state)
{
	struct fixture *f = *state;

	hand_over(f);
	assert_int_equal(f->session->state, VFU_SESSION_NEGOTIATE);
	negotiate(f);
	hand_over(f);
	assert_int_equal(f->session->state, VFU_SESSION_ACTIVE);
	assert_int_equal(config_read(f, 0, 2), 0x1234);
}

static void a_message_that_is_half_there_is_finished_elsewhere(void **state)
{
	struct fixture *f = *state;
	const struct vfu_dma_map map = { sizeof(map), 3, 0, 0x100000, MEM_BYTES };
	const struct vfu_hdr hdr = { .id = 99,
				     .command = VFU_CMD_DMA_MAP,
				     .size = VFU_HDR_BYTES + sizeof(map) };
	uint8_t bytes[VFU_HDR_BYTES + sizeof(map)];
	struct reply r;

	negotiate(f);
	memcpy(bytes, &hdr, sizeof(hdr));
	memcpy(bytes + sizeof(hdr), &map, sizeof(map));
	for (uint32_t cut = 1; cut < sizeof(bytes); cut += 7) {
		send_bytes(f, bytes, cut, &f->memfd, 1);
		pump(f, 3);
		hand_over(f);
		is_silent(f);
		send_bytes(f, bytes + cut, sizeof(bytes) - cut, NULL, 0);
		assert_int_equal(answer(f, 99, VFU_CMD_DMA_MAP, &r), 0);
		assert_int_equal(unmap_at(f, 0x100000, MEM_BYTES, 0), 0);
		PUMP_UNTIL(f, !f->quiet);
	}
}

static void what_is_sent_while_it_stands_still_is_answered_elsewhere(void **state)
{
	struct fixture *f = *state;
	struct vfu_region_io io = { 0, VFU_REGION_CONFIG, 2 };
	struct reply r;
	uint16_t id;

	negotiate(f);
	vfu_session_freeze(f->session, true);
	id = send_msg(f, VFU_CMD_REGION_READ, &io, sizeof(io));
	is_silent(f);
	hand_over_frozen(f);
	is_silent(f);
	vfu_session_freeze(f->session, false);
	assert_int_equal(answer(f, id, VFU_CMD_REGION_READ, &r), 0);
	assert_memory_equal(r.bytes + sizeof(io), "\x34\x12", 2);
}

static void an_answer_that_is_not_taken_is_sent_on_elsewhere(void **state)
{
	struct fixture *f = *state;
	struct vfu_region_io io = { 0, 0, 0x4000 };
	const int asked = 64;
	int small = 4096;

	negotiate(f);
	setsockopt(f->session->conn.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	for (uint32_t i = 0; i < BAR_BYTES; i++)
		f->bar[i] = (uint8_t)(i * 7);
	for (int i = 0; i < asked; i++)
		send_msg(f, VFU_CMD_REGION_READ, &io, sizeof(io));
	PUMP_UNTIL(f, vfu_conn_sending(&f->session->conn));
	hand_over(f);
	for (int i = 0; i < asked; i++) {
		static uint8_t bytes[BAR_BYTES];
		struct reply r = { 0 };

		receive_part(f, &r.hdr, sizeof(r.hdr), &r);
		assert_int_equal(r.hdr.flags, VFU_TYPE_REPLY);
		assert_int_equal(r.hdr.size, sizeof(r.hdr) + sizeof(io) + BAR_BYTES);
		receive_part(f, &io, sizeof(io), &r);
		receive_part(f, bytes, sizeof(bytes), &r);
		assert_memory_equal(bytes, f->bar, sizeof(bytes));
		if (i == asked / 2)
			hand_over(f);
	}
}

static void one_that_is_not_handed_over_after_all_goes_on(void **state)
{
	struct fixture *f = *state;
	struct parcel p;

	negotiate(f);
	assert_int_equal(map_at(f, 0x100000, MEM_BYTES, 3, f->memfd), 0);
	pack(f, &p);
	parcel_fini(&p);
	assert_true(f->quiet);
	pump(f, 5);
	vfu_session_freeze(f->session, false);
	PUMP_UNTIL(f, !f->quiet);
	assert_int_equal(config_read(f, 0, 2), 0x1234);
	assert_int_equal(unmap_at(f, 0x100000, MEM_BYTES, 0), 0);
}

static void it_is_not_quiet_before_its_device_is(void **state)
{
	struct fixture *f = *state;
	uint16_t id;
	struct reply r;

	negotiate(f);
	f->hold_quiet = true;
	vfu_session_freeze(f->session, true);
	pump(f, 5);
	assert_false(vfu_session_is_quiet(f->session));
	dev_quiet_now(f);
	assert_true(vfu_session_is_quiet(f->session));
	vfu_session_freeze(f->session, false);
	assert_false(vfu_session_is_quiet(f->session));
	/* nor in the middle of a command */
	id = send_msg(f, VFU_CMD_DEVICE_RESET, NULL, 0);
	PUMP_UNTIL(f, f->session->phase != VFU_PHASE_IDLE);
	vfu_session_freeze(f->session, true);
	pump(f, 5);
	assert_false(vfu_session_is_quiet(f->session));
	dev_quiet_now(f);
	assert_int_equal(answer(f, id, VFU_CMD_DEVICE_RESET, &r), 0);
	assert_true(vfu_session_is_quiet(f->session));
	f->hold_quiet = false;
	vfu_session_freeze(f->session, false);
	pump(f, 1);
	assert_false(f->quiet);
}

static void a_migration_goes_on_elsewhere(void **state)
{
	struct fixture *f = *state;
	const uint64_t log[4] = { 4096, 0, 0, 0 };
	uint8_t bytes[8 + 32], state_bytes[8 + 8];
	struct reply r;

	negotiate(f);
	assert_int_equal(map_at(f, 0x100000, MEM_BYTES, 3, f->memfd), 0);
	memcpy(bytes, (uint32_t[]){ 8 + 16, 6 | VFU_FEATURE_SET }, 8);
	memcpy(bytes + 8, log, 16);
	assert_int_equal(call(f, VFU_CMD_DEVICE_FEATURE, bytes, 8 + 16, &r), 0);
	gdirty_mark(f->dirty, gpa(0x102000), 1);
	memcpy(state_bytes, (uint32_t[]){ 16, 2 | VFU_FEATURE_SET, VFU_MIGR_STOP_COPY, 0 }, 16);
	assert_int_equal(call(f, VFU_CMD_DEVICE_FEATURE, state_bytes, 16, &r), 0);
	assert_int_equal(call(f, VFU_CMD_MIG_DATA_READ, (uint32_t[]){ 8 + 10, 10 }, 8, &r), 0);
	assert_memory_equal(r.bytes + 8, "vfustate", 8);
	hand_over_frozen(f);
	vfu_session_freeze(f->session, false);
	assert_true(f->quiet);
	assert_int_equal(f->session->migr.state, VFU_MIGR_STOP_COPY);
	assert_int_equal(call(f, VFU_CMD_MIG_DATA_READ, (uint32_t[]){ 8 + 4000, 4000 }, 8, &r), 0);
	assert_int_equal(r.len - 8, f->session->migr.len - 10);
	/* the log, too */
	memcpy(bytes, (uint32_t[]){ 8 + 24 + 8, 8 | VFU_FEATURE_GET }, 8);
	memcpy(bytes + 8, (uint64_t[]){ 0x100000, MEM_BYTES, 4096 }, 24);
	assert_int_equal(call(f, VFU_CMD_DEVICE_FEATURE, bytes, 8 + 24, &r), 0);
	assert_int_equal(r.bytes[8 + 24], 1 << 2);
	memcpy(state_bytes, (uint32_t[]){ 16, 2 | VFU_FEATURE_SET, VFU_MIGR_RUNNING, 0 }, 16);
	assert_int_equal(call(f, VFU_CMD_DEVICE_FEATURE, state_bytes, 16, &r), 0);
	PUMP_UNTIL(f, !f->quiet);
}

static void what_the_client_triggers_is_not_lost(void **state)
{
	struct fixture *f = *state;
	int bell = eventfd(0, EFD_CLOEXEC);
	uint32_t set[5] = { 20, VFU_IRQ_DATA_NONE | VFU_IRQ_ACTION_TRIGGER, VFU_IRQ_MSIX, 1, 1 };
	uint64_t heard;
	struct reply r;

	negotiate(f);
	assert_int_equal(irq_set(f, VFU_IRQ_MSIX, 1, bell), 0);
	/* it is full: the write waits */
	assert_int_equal(write(bell, &(uint64_t){ UINT64_MAX - 1 }, 8), 8);
	assert_int_equal(call(f, VFU_CMD_DEVICE_SET_IRQS, set, sizeof(set), &r), 0);
	assert_true(f->session->irqs.trigger_busy);
	hand_over(f);
	assert_int_equal(read(bell, &heard, 8), 8);
	PUMP_UNTIL(f, !f->session->irqs.trigger_busy);
	assert_int_equal(read(bell, &heard, 8), 8);
	close(bell);
}

static void another_function_is_refused_by_name(void **state)
{
	struct fixture *f = *state;
	struct parcel sent, came;
	struct err err = { 0 };

	negotiate(f);
	pack(f, &sent);
	old_ends(f);
	for (uint32_t i = 0; i < 3; i++) {
		static const char *const messages[] = {
			"vectors: it has 9, and 4 are configured now",
			"state: configuration byte 0x0: expected 0x21, got 0x34",
			"bad bytes",
		};

		f->session = NULL;
		f->frees = 0;
		f->quiet = false;
		dev_describe(f);
		f->dev.pci.msix_vectors = i == 0 ? 4 : 9;
		f->dev.pci.vendor = i == 1 ? 0x4321 : 0x1234;
		f->load_rc = i == 2 ? -EINVAL : 0;
		parcel_arrives(&sent, &came);
		assert_int_equal(unpack(f, &came, &err), -EINVAL);
		assert_string_equal(err.msg, messages[i]);
		assert_int_equal(f->frees, 1);
		parcel_fini(&came);
	}
	parcel_fini(&sent);
}

static void a_parcel_that_is_cut_or_lies_is_refused_and_nothing_is_left(void **state)
{
	struct fixture *f = *state;
	int bell = eventfd(0, EFD_CLOEXEC), before;
	struct parcel out, sent, came;
	uint32_t refused = 0;
	struct err err = { 0 };

	negotiate(f);
	assert_int_equal(map_at(f, 0x100000, MEM_BYTES, 3, f->memfd), 0);
	assert_int_equal(map_at(f, 0x900000, 0x1000, 3, -1), 0);
	assert_int_equal(irq_set(f, VFU_IRQ_MSIX, 3, bell), 0);
	send_bytes(f, "12345", 5, &bell, 1);
	pump(f, 3);
	pack(f, &out);
	parcel_arrives(&out, &sent);
	parcel_fini(&out);
	old_ends(f);
	before = fds_open();
	for (size_t i = 0; i < 2 * sent.len; i++) {
		f->frees = 0;
		f->quiet = false;
		dev_describe(f);
		parcel_arrives_bad(&sent, i, &came);
		if (unpack(f, &came, &err)) {
			refused++;
			assert_true(err.msg[0]);
			assert_int_equal(f->frees, 1);
		} else {
			vfu_session_close(f->session, LOG_INFO, "the end");
			PUMP_UNTIL(f, !f->session);
		}
		parcel_fini(&came);
		pump(f, 1);
		assert_int_equal(fds_open(), before);
	}
	assert_true(refused > sent.len);
	parcel_fini(&sent);
	f->frees = 1;
	close(bell);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_client_goes_on_with_all_that_it_set_up),
		T(it_may_be_handed_over_before_its_first_word),
		T(a_message_that_is_half_there_is_finished_elsewhere),
		T(what_is_sent_while_it_stands_still_is_answered_elsewhere),
		T(an_answer_that_is_not_taken_is_sent_on_elsewhere),
		T(one_that_is_not_handed_over_after_all_goes_on),
		T(it_is_not_quiet_before_its_device_is),
		T(a_migration_goes_on_elsewhere),
		T(what_the_client_triggers_is_not_lost),
		T(another_function_is_refused_by_name),
		T(a_parcel_that_is_cut_or_lies_is_refused_and_nothing_is_left),
	};

	return cmocka_run_group_tests_name("vfu/session_pack", tests, NULL, NULL);
}
