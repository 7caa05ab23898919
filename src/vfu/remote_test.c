#include "vfu/session_rig.h"

struct transfer {
	struct nvme_dma dma;
	int rc;
	bool done;
};

static void on_done(struct nvme_dma *dma, int rc)
{
	struct transfer *t = container_of(dma, struct transfer, dma);

	assert_false(t->done);
	t->done = true;
	t->rc = rc;
}

static void start(struct fixture *f, struct transfer *t, uint64_t iova, void *buf, uint64_t len,
		  bool to_guest)
{
	*t = (struct transfer){ .dma = { .iova = iova,
					 .buf = buf,
					 .len_bytes = len,
					 .to_guest = to_guest,
					 .loop = f->loop,
					 .done = on_done } };
	vfu_remote_start(f->session, &t->dma);
}

static void negotiate_xfer(struct fixture *f, const char *text)
{
	uint8_t bytes[256] = { 0 };
	struct reply r;

	memcpy(bytes + 4, text, strlen(text) + 1);
	assert_int_equal(call(f, VFU_CMD_VERSION, bytes, 4 + (uint32_t)strlen(text) + 1, &r), 0);
	assert_int_equal(map_at(f, 0, 0x8000, 3, -1), 0);
	assert_int_equal(map_at(f, 0x8000, 0x1000, 1, -1), 0);
	assert_int_equal(map_at(f, 0x9000, 0x1000, 2, -1), 0);
	assert_int_equal(map_at(f, 0x900000, 0x1000, 3, -1), 0);
}

static void reply_to(struct fixture *f, const struct reply *r, uint32_t error, const void *data,
		     uint32_t len)
{
	uint8_t bytes[32 + 8192];
	struct vfu_hdr hdr = { .id = r->hdr.id,
			       .command = r->hdr.command,
			       .size = VFU_HDR_BYTES + (error ? 0 : 16 + len),
			       .flags = VFU_TYPE_REPLY | (error ? VFU_ERROR : 0),
			       .error = error };

	memcpy(bytes, &hdr, 16);
	memcpy(bytes + 16, r->bytes, 16);
	if (len)
		memcpy(bytes + 32, data, len);
	send_bytes(f, bytes, hdr.size, NULL, 0);
}

static const struct vfu_dma_io *request(struct fixture *f, struct reply *r, uint16_t command)
{
	receive(f, r);
	assert_int_equal(r->hdr.command, command);
	assert_int_equal(r->hdr.flags, 0);
	return (void *)r->bytes;
}

static void guest_memory_is_read_in_pieces_that_the_client_takes(void **state)
{
	struct fixture *f = *state;
	const struct vfu_dma_io *io;
	struct transfer t;
	char buf[250], guest[250];
	struct reply r;

	negotiate_xfer(f, "{\"capabilities\":{\"max_data_xfer_size\":100}}");
	for (int i = 0; i < 250; i++)
		guest[i] = (char)i;
	start(f, &t, 0x5003, buf, sizeof(buf), false);
	for (uint32_t at = 0; at < 250; at += 100) {
		uint32_t n = MIN(100u, 250 - at);

		assert_false(t.done);
		io = request(f, &r, VFU_DMA_READ);
		assert_int_equal(r.len, 16);
		assert_int_equal(io->iova, 0x5003 + at);
		assert_int_equal(io->count, n);
		reply_to(f, &r, 0, guest + at, n);
	}
	PUMP_UNTIL(f, t.done);
	assert_int_equal(t.rc, 0);
	assert_memory_equal(buf, guest, 250);
}

static void guest_memory_is_written_and_a_short_answer_is_enough(void **state)
{
	struct fixture *f = *state;
	const struct vfu_dma_io *io;
	struct vfu_hdr hdr;
	struct transfer t;
	struct reply r;
	uint8_t bytes[28];

	negotiate_xfer(f, "{}");
	start(f, &t, 0x7000, "guest data", 10, true);
	io = request(f, &r, VFU_DMA_WRITE);
	assert_int_equal(r.len, 26);
	assert_int_equal(io->count, 10);
	assert_memory_equal(io->bytes, "guest data", 10);
	/* The count in four bytes, as the specification has it. */
	hdr = (struct vfu_hdr){ r.hdr.id, VFU_DMA_WRITE, 28, VFU_TYPE_REPLY, 0 };
	memcpy(bytes, &hdr, 16);
	memcpy(bytes + 16, r.bytes, 12);
	send_bytes(f, bytes, 28, NULL, 0);
	PUMP_UNTIL(f, t.done);
	assert_int_equal(t.rc, 0);
}

static void answers_may_come_in_any_order_and_many_are_under_way(void **state)
{
	struct fixture *f = *state;
	static struct transfer t[40];
	static uint32_t words[40];
	struct reply r[VFU_REMOTE_OUT_MAX];
	uint32_t next = 0;

	negotiate_xfer(f, "{}");
	for (uint32_t i = 0; i < 40; i++)
		start(f, &t[i], i * 4, &words[i], 4, false);
	while (next < 40) {
		uint32_t n = MIN((uint32_t)VFU_REMOTE_OUT_MAX, 40 - next);

		for (uint32_t i = 0; i < n; i++)
			request(f, &r[i], VFU_DMA_READ);
		for (uint32_t i = n; i-- > 0;) {
			uint32_t v = (uint32_t)((struct vfu_dma_io *)r[i].bytes)->iova + 1;

			reply_to(f, &r[i], 0, &v, 4);
		}
		next += n;
	}
	for (uint32_t i = 0; i < 40; i++) {
		PUMP_UNTIL(f, t[i].done);
		assert_int_equal(words[i], i * 4 + 1);
	}
}

static void an_error_or_a_wrong_answer_ends_that_transfer(void **state)
{
	struct fixture *f = *state;
	struct transfer t;
	struct reply r;
	char buf[8];

	negotiate_xfer(f, "{}");
	start(f, &t, 0x1000, buf, 8, false);
	request(f, &r, VFU_DMA_READ);
	reply_to(f, &r, EINVAL, NULL, 0);
	PUMP_UNTIL(f, t.done);
	assert_int_equal(t.rc, -EFAULT);
	start(f, &t, 0x1000, buf, 8, false);
	request(f, &r, VFU_DMA_READ);
	reply_to(f, &r, 0, "short", 5);
	PUMP_UNTIL(f, t.done);
	assert_int_equal(t.rc, -EIO);
	start(f, &t, 0x1000, buf, 8, false);
	request(f, &r, VFU_DMA_READ);
	((struct vfu_dma_io *)r.bytes)->iova++;
	reply_to(f, &r, 0, "12345678", 8);
	PUMP_UNTIL(f, t.done);
	assert_int_equal(t.rc, -EIO);
	assert_int_equal(config_read(f, 0, 2), 0x1234);
}

static void memory_that_the_client_did_not_map_is_not_asked_for(void **state)
{
	static const struct {
		uint64_t iova, len;
		bool write;
		int rc;
	} all[] = {
		{ 0x7fff, 2, false, 0 },	   { 0x8fff, 2, false, -EFAULT },
		{ 0x7fff, 2, true, -EFAULT },	   { 0x9000, 4096, true, 0 },
		{ 0x9000, 4097, true, -EFAULT },   { 0x200000, 1, false, -EFAULT },
		{ UINT64_MAX, 2, false, -EFAULT },
	};
	struct fixture *f = *state;
	static char buf[8192];
	struct transfer t;
	struct reply r;

	negotiate_xfer(f, "{}");
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		start(f, &t, all[i].iova, buf, all[i].len, all[i].write);
		if (!all[i].rc) {
			request(f, &r, all[i].write ? VFU_DMA_WRITE : VFU_DMA_READ);
			reply_to(f, &r, 0, buf, all[i].write ? 0 : (uint32_t)all[i].len);
		}
		PUMP_UNTIL(f, t.done);
		assert_int_equal(t.rc, all[i].rc);
	}
	is_silent(f);
}

static void an_answer_to_nothing_ends_the_session(void **state)
{
	struct fixture *f = *state;

	negotiate_xfer(f, "{}");
	send_msg_fds(f, VFU_DMA_READ, VFU_TYPE_REPLY, NULL, 0, NULL, 0);
	PUMP_UNTIL(f, !f->session);
}

static void answers_are_taken_while_a_command_waits_and_commands_before_them_are_kept(void **state)
{
	struct fixture *f = *state;
	struct vfu_dma_unmap unmap = { 24, 0, 0x100000, MEM_BYTES };
	struct vfu_region_io io = { 0, VFU_REGION_CONFIG, 2 };
	struct transfer t;
	struct reply r, answered;
	uint16_t id, reads[10];
	char buf[8];

	negotiate_xfer(f, "{}");
	assert_int_equal(map_at(f, 0x100000, MEM_BYTES, 3, f->memfd), 0);
	PUMP_UNTIL(f, !f->quiet);
	f->hold_quiet = true;
	start(f, &t, 0x900000, buf, 8, false);
	request(f, &r, VFU_DMA_READ);
	id = send_msg(f, VFU_CMD_DMA_UNMAP, &unmap, sizeof(unmap));
	for (int i = 0; i < 10; i++)
		reads[i] = send_msg(f, VFU_CMD_REGION_READ, &io, sizeof(io));
	is_silent(f);
	assert_int_equal(f->session->backlog_count, 10);
	reply_to(f, &r, 0, "12345678", 8);
	PUMP_UNTIL(f, t.done);
	assert_int_equal(t.rc, 0);
	dev_quiet_now(f);
	assert_int_equal(answer(f, id, VFU_CMD_DMA_UNMAP, &answered), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(answer(f, reads[i], VFU_CMD_REGION_READ, &answered), 0);
}

static void what_is_kept_has_a_limit(void **state)
{
	struct fixture *f = *state;
	struct vfu_region_io io = { 0, VFU_REGION_CONFIG, 2 };
	struct transfer t;
	struct reply r;
	uint16_t id;
	char buf[8];

	negotiate_xfer(f, "{}");
	f->hold_quiet = true;
	start(f, &t, 0x900000, buf, 8, false);
	request(f, &r, VFU_DMA_READ);
	id = send_msg(f, VFU_CMD_DEVICE_RESET, NULL, 0);
	pump(f, 3);
	assert_true(t.done); /* what a reset ends needs no answer */
	for (uint32_t i = 0; i < VFU_BACKLOG_MAX + 20; i++)
		send_msg(f, VFU_CMD_REGION_READ, &io, sizeof(io));
	is_silent(f);
	assert_int_equal(f->session->backlog_count, VFU_BACKLOG_MAX);
	dev_quiet_now(f);
	assert_int_equal(answer(f, id, VFU_CMD_DEVICE_RESET, &r), 0);
	for (uint32_t i = 0; i < VFU_BACKLOG_MAX + 20; i++)
		assert_int_equal(answer(f, (uint16_t)(id + 1 + i), VFU_CMD_REGION_READ, &r), 0);
}

static void transfers_that_the_client_does_not_serve_do_not_hold_up_its_command(void **state)
{
	struct fixture *f = *state;
	struct vfu_dma_unmap unmap = { 24, 0, 0x100000, MEM_BYTES };
	struct transfer t, u;
	struct reply r, late;
	uint16_t id;
	char buf[8];

	negotiate_xfer(f, "{}");
	assert_int_equal(map_at(f, 0x100000, MEM_BYTES, 3, f->memfd), 0);
	PUMP_UNTIL(f, !f->quiet);
	f->session->params.grace_ns = 1000000;
	f->hold_quiet = true;
	start(f, &t, 0x900000, buf, 8, false);
	request(f, &late, VFU_DMA_READ);
	id = send_msg(f, VFU_CMD_DMA_UNMAP, &unmap, sizeof(unmap));
	PUMP_UNTIL(f, t.done);
	assert_int_equal(t.rc, -EIO);
	dev_quiet_now(f);
	assert_int_equal(answer(f, id, VFU_CMD_DMA_UNMAP, &r), 0);
	/* Its answer comes late, and is nobody's. */
	reply_to(f, &late, 0, "12345678", 8);
	start(f, &u, 0x900000, buf, 8, false);
	request(f, &r, VFU_DMA_READ);
	reply_to(f, &r, 0, "abcdefgh", 8);
	PUMP_UNTIL(f, u.done);
	assert_int_equal(u.rc, 0);
	assert_memory_equal(buf, "abcdefgh", 8);
}

static void a_hand_over_waits_for_transfers_as_long_as_they_take(void **state)
{
	struct fixture *f = *state;
	struct vfu_region_io io = { 0, VFU_REGION_CONFIG, 2 };
	struct transfer t;
	struct reply r;
	const uint32_t count = 3 * VFU_BACKLOG_MAX;
	uint64_t end;
	uint16_t id = 0;
	char buf[8];

	negotiate_xfer(f, "{}");
	f->session->params.grace_ns = 1000000;
	f->hold_quiet = true;
	start(f, &t, 0x900000, buf, 8, false);
	request(f, &r, VFU_DMA_READ);
	vfu_session_freeze(f->session, true);
	for (end = loop_clock_ns() + 20000000; loop_clock_ns() < end;)
		pump(f, 1);
	assert_false(t.done);
	/* also when more than a backlog comes before it */
	for (uint32_t i = 0; i < count; i++)
		id = send_msg(f, VFU_CMD_REGION_READ, &io, sizeof(io));
	assert_false(vfu_session_is_quiet(f->session));
	reply_to(f, &r, 0, "abcdefgh", 8);
	PUMP_UNTIL(f, t.done);
	assert_int_equal(t.rc, 0);
	assert_memory_equal(buf, "abcdefgh", 8);
	dev_quiet_now(f);
	PUMP_UNTIL(f, vfu_session_is_quiet(f->session));
	vfu_session_freeze(f->session, false);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(answer(f, (uint16_t)(id - count + 1 + i), VFU_CMD_REGION_READ, &r),
				 0);
}

static void transfers_end_with_the_session(void **state)
{
	struct fixture *f = *state;
	static struct transfer t[20];
	struct transfer after;
	static char buf[20];

	negotiate_xfer(f, "{}");
	f->hold_free = true;
	for (int i = 0; i < 20; i++)
		start(f, &t[i], i, &buf[i], 1, i & 1);
	pump(f, 3);
	close(f->peer);
	f->peer = -1;
	for (int i = 0; i < 20; i++) {
		PUMP_UNTIL(f, t[i].done);
		assert_int_equal(t[i].rc, -EIO);
	}
	start(f, &after, 0, buf, 1, false);
	PUMP_UNTIL(f, after.done);
	assert_int_equal(after.rc, -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(guest_memory_is_read_in_pieces_that_the_client_takes),
		T(guest_memory_is_written_and_a_short_answer_is_enough),
		T(answers_may_come_in_any_order_and_many_are_under_way),
		T(an_error_or_a_wrong_answer_ends_that_transfer),
		T(memory_that_the_client_did_not_map_is_not_asked_for),
		T(an_answer_to_nothing_ends_the_session),
		T(answers_are_taken_while_a_command_waits_and_commands_before_them_are_kept),
		T(what_is_kept_has_a_limit),
		T(transfers_that_the_client_does_not_serve_do_not_hold_up_its_command),
		T(a_hand_over_waits_for_transfers_as_long_as_they_take),
		T(transfers_end_with_the_session),
#undef T
	};

	return cmocka_run_group_tests_name("remote", tests, NULL, NULL);
}
