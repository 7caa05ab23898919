/*
 * Every front-end message, from a table of its own written from the vhost-user text: legal, of a
 * wrong size, with too many or too few descriptors, of an unknown queue, without the protocol
 * feature, with wrong flags, and with the front-end's death in the middle of it.
 *
 * src/vhost/msg.def is included once, only to prove that no row of it is missing here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon.h"

enum {
	ACK,
	ANSWER
};

struct row {
	uint32_t req;
	uint32_t size;	   /* of the legal one built by legal() */
	bool size_fixed;   /* one byte more is wrong */
	unsigned fds;	   /* it comes with */
	bool fds_optional; /* may come without */
	uint64_t proto;	   /* needed */
	int reply;
	bool has_idx;
};

static const struct row rows[] = {
	{ FE_GET_FEATURES, 0, true, 0, false, 0, ANSWER, false },
	{ FE_SET_FEATURES, 8, true, 0, false, 0, ACK, false },
	{ FE_SET_OWNER, 0, true, 0, false, 0, ACK, false },
	{ FE_RESET_OWNER, 0, true, 0, false, 0, ACK, false },
	{ FE_SET_MEM_TABLE, 40, true, 1, false, 0, ACK, false },
	{ FE_SET_LOG_BASE, 16, true, 1, false, SPEC_PF_LOG_SHMFD, ANSWER, false },
	{ FE_SET_LOG_FD, 0, false, 1, true, 0, ACK, false },
	{ FE_SET_VRING_NUM, 8, true, 0, false, 0, ACK, true },
	{ FE_SET_VRING_ADDR, 40, true, 0, false, 0, ACK, true },
	{ FE_SET_VRING_BASE, 8, true, 0, false, 0, ACK, true },
	{ FE_GET_VRING_BASE, 8, true, 0, false, 0, ANSWER, true },
	{ FE_SET_VRING_KICK, 8, true, 1, false, 0, ACK, true },
	{ FE_SET_VRING_CALL, 8, true, 1, false, 0, ACK, true },
	{ FE_SET_VRING_ERR, 8, true, 1, false, 0, ACK, true },
	{ FE_GET_PROTOCOL_FEATURES, 0, true, 0, false, 0, ANSWER, false },
	{ FE_SET_PROTOCOL_FEATURES, 8, true, 0, false, 0, ACK, false },
	{ FE_GET_QUEUE_NUM, 0, true, 0, false, SPEC_PF_MQ, ANSWER, false },
	{ FE_SET_VRING_ENABLE, 8, true, 0, false, 0, ACK, true },
	{ FE_SET_BACKEND_REQ_FD, 0, false, 1, false, SPEC_PF_BACKEND_REQ, ACK, false },
	{ FE_SET_VRING_ENDIAN, 8, true, 0, false, 1ull << 6, ACK, false },
	{ FE_GET_CONFIG, 12 + 60, true, 0, false, SPEC_PF_CONFIG, ANSWER, false },
	{ FE_SET_CONFIG, 12 + 1, true, 0, false, SPEC_PF_CONFIG, ACK, false },
	{ FE_GET_INFLIGHT_FD, 20, false, 0, false, SPEC_PF_INFLIGHT, ANSWER, false },
	{ FE_SET_INFLIGHT_FD, 20, false, 1, false, SPEC_PF_INFLIGHT, ACK, false },
	{ FE_RESET_DEVICE, 0, true, 0, false, SPEC_PF_RESET_DEVICE, ACK, false },
	{ FE_GET_MAX_MEM_SLOTS, 0, true, 0, false, SPEC_PF_MEM_SLOTS, ANSWER, false },
	{ FE_ADD_MEM_REG, 40, true, 1, false, SPEC_PF_MEM_SLOTS, ACK, false },
	{ FE_REM_MEM_REG, 40, true, 0, true, SPEC_PF_MEM_SLOTS, ACK, false },
	{ FE_SET_STATUS, 8, true, 0, false, SPEC_PF_STATUS, ACK, false },
	{ FE_GET_STATUS, 0, true, 0, false, SPEC_PF_STATUS, ANSWER, false },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* Cross-endian rings are not offered: the message is never legal here. */
static bool never_offered(const struct row *row)
{
	return row->req == FE_SET_VRING_ENDIAN;
}

struct sample {
	uint8_t bytes[FE_PAYLOAD_MAX];
	int fds[FE_FD_MAX];
};

static int sample_fd(struct rig *r, const struct row *row)
{
	int fd, sv[2];

	switch (row->req) {
	case FE_SET_MEM_TABLE:
	case FE_ADD_MEM_REG:
		return dup(r->fe.region[0].fd);
	case FE_SET_LOG_BASE:
	case FE_SET_INFLIGHT_FD:
		fd = memfd_create("sample", 0);
		assert_int_equal(ftruncate(fd, 1 << 20), 0);
		return fd;
	case FE_SET_BACKEND_REQ_FD:
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
		close(sv[1]);
		return sv[0];
	default:
		return eventfd(0, EFD_NONBLOCK);
	}
}

static void put_u64(struct sample *s, unsigned at, uint64_t v)
{
	memcpy(s->bytes + at, &v, sizeof(v));
}

static void put_u32(struct sample *s, unsigned at, uint32_t v)
{
	memcpy(s->bytes + at, &v, sizeof(v));
}

/* A legal payload and its descriptors, for a session that negotiated everything. */
static void legal(struct rig *r, const struct row *row, struct sample *s)
{
	struct fe_wire_inflight in = { .mmap_size_bytes = 1 << 16, .queues = 2, .queue_size = 128 };

	memset(s, 0, sizeof(*s));
	switch (row->req) {
	case FE_SET_FEATURES:
		put_u64(s, 0, r->fe.features);
		break;
	case FE_SET_PROTOCOL_FEATURES:
		put_u64(s, 0, r->fe.proto);
		break;
	case FE_SET_MEM_TABLE:
		put_u32(s, 0, 1);
		memcpy(s->bytes + 8, &r->fe.region[0].wire, 32);
		break;
	case FE_ADD_MEM_REG:
	case FE_REM_MEM_REG:
		memcpy(s->bytes + 8, &r->fe.region[0].wire, 32);
		break;
	case FE_SET_LOG_BASE:
		put_u64(s, 0, 1 << 18);
		break;
	case FE_SET_VRING_NUM:
	case FE_SET_VRING_ENABLE:
		put_u32(s, 4, 128);
		break;
	case FE_GET_CONFIG:
		put_u32(s, 4, 60);
		break;
	case FE_SET_CONFIG:
		put_u32(s, 0, 32);
		put_u32(s, 4, 1);
		break;
	case FE_GET_INFLIGHT_FD:
	case FE_SET_INFLIGHT_FD:
		memcpy(s->bytes, &in, 20);
		break;
	case FE_SET_STATUS:
		put_u64(s, 0, 1);
		break;
	default:
		break;
	}
	for (unsigned i = 0; i < FE_FD_MAX; i++)
		s->fds[i] = sample_fd(r, row);
}

static void sample_close(struct sample *s)
{
	for (unsigned i = 0; i < FE_FD_MAX; i++)
		close(s->fds[i]);
}

/* A connection on which row's legal form is legal. */
static void ready(struct rig *r, const struct row *row, struct sample *s)
{
	rig_negotiate(r);
	assert_true(fe_mem_new(&r->fe, 0x100000, 0x7f0000000000, 2 << 20) >= 0);
	if (row->req == FE_REM_MEM_REG)
		assert_ok(fe_add_mem_reg(&r->fe, 0));
	legal(r, row, s);
}

static void expect_refused(const struct row *row, struct sample *s, uint32_t flags, uint32_t size,
			   unsigned fds)
{
	struct rig *r = rig_get();

	rig_refused(r, row->req, flags, s->bytes, size, s->fds, fds);
	sample_close(s);
}

#define NEED (FE_FLAG_VERSION | FE_FLAG_NEED_REPLY)

static void is_served(void **state)
{
	const struct row *row = *state;
	struct rig *r = rig_get();
	struct sample s;
	struct fe_msg m;

	ready(r, row, &s);
	if (row->reply == ANSWER) {
		assert_ok(fe_call(&r->fe, row->req, s.bytes, row->size, s.fds, row->fds, &m));
		assert_true(m.hdr.size_bytes > 0);
		fe_msg_close(&m);
	} else {
		assert_ok(fe_set(&r->fe, row->req, s.bytes, row->size, s.fds, row->fds));
	}
	sample_close(&s);
}

/* Without NEED_REPLY a set message is not answered: the next answer is to the next question. */
static void is_silent_without_need_reply(void **state)
{
	const struct row *row = *state;
	struct rig *r = rig_get();
	struct sample s;
	uint64_t v;

	ready(r, row, &s);
	assert_ok(fe_send(&r->fe, row->req, FE_FLAG_VERSION, s.bytes, row->size, s.fds, row->fds));
	assert_ok(fe_get_u64(&r->fe, FE_GET_FEATURES, &v));
	sample_close(&s);
}

static void one_byte_short_is_refused(void **state)
{
	const struct row *row = *state;
	struct sample s;

	ready(rig_get(), row, &s);
	expect_refused(row, &s, NEED, row->size - 1, row->fds);
}

static void one_byte_longer_is_refused(void **state)
{
	const struct row *row = *state;
	struct sample s;

	ready(rig_get(), row, &s);
	expect_refused(row, &s, NEED, row->size + 1, row->fds);
}

static void surplus_descriptor_is_refused(void **state)
{
	const struct row *row = *state;
	struct sample s;
	bool carries = row->fds || row->fds_optional;

	ready(rig_get(), row, &s);
	expect_refused(row, &s, NEED, row->size, carries ? 2 : 1);
}

static void missing_descriptor_is_refused(void **state)
{
	const struct row *row = *state;
	struct sample s;

	ready(rig_get(), row, &s);
	expect_refused(row, &s, NEED, row->size, 0);
}

static void unknown_queue_is_refused(void **state)
{
	static const uint32_t idx[] = { 4, 255, 65536, 0xffffffff };
	const struct row *row = *state;
	struct rig *r = rig_get();
	struct sample s;

	for (unsigned i = 0; i < sizeof(idx) / sizeof(idx[0]); i++) {
		ready(r, row, &s);
		put_u32(&s, 0, idx[i]);
		expect_refused(row, &s, NEED, row->size, row->fds);
		rig_drop(r);
	}
}

static void without_its_feature_is_refused(void **state)
{
	const struct row *row = *state;
	struct rig *r = rig_get();
	struct sample s;
	uint64_t rest;

	ready(r, row, &s);
	rest = r->fe.proto & ~row->proto;
	assert_ok(fe_set_u64(&r->fe, FE_SET_PROTOCOL_FEATURES, rest));
	r->fe.proto = rest;
	expect_refused(row, &s, NEED, row->size, row->fds);
}

static void wrong_flags_are_refused(void **state)
{
	static const uint32_t flags[] = { 0, 2, 3, FE_FLAG_VERSION | FE_FLAG_REPLY };
	const struct row *row = *state;
	struct rig *r = rig_get();
	struct sample s;

	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		ready(r, row, &s);
		expect_refused(row, &s, flags[i] | FE_FLAG_NEED_REPLY, row->size, row->fds);
		rig_drop(r);
	}
}

/* Cut after each of some byte counts; rig_teardown proves that the next front-end is served. */
static void death_in_the_middle_frees_the_socket(void **state)
{
	const struct row *row = *state;
	struct rig *r = rig_get();
	const uint32_t cuts[] = { 1, 11, 12, 12 + row->size / 2, 12 + row->size };
	uint8_t wire[12 + FE_PAYLOAD_MAX];
	struct sample s;

	for (unsigned i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		struct fe_hdr h = { row->req, FE_FLAG_VERSION, row->size };

		ready(r, row, &s);
		memcpy(wire, &h, sizeof(h));
		memcpy(wire + sizeof(h), s.bytes, row->size);
		assert_ok(fe_send_raw(&r->fe, wire, cuts[i], s.fds, row->fds));
		sample_close(&s);
		rig_drop(r);
	}
}

/* Before anything was negotiated: refused or served, but nobody dies of it. */
static void as_the_first_message_is_survived(void **state)
{
	const struct row *row = *state;
	struct rig *r = rig_get();
	struct sample s;
	uint64_t v;

	rig_connect(r);
	assert_true(fe_mem_new(&r->fe, 0x100000, 0x7f0000000000, 2 << 20) >= 0);
	legal(r, row, &s);
	assert_ok(fe_send(&r->fe, row->req, FE_FLAG_VERSION, s.bytes, row->size, s.fds, row->fds));
	fe_get_u64(&r->fe, FE_GET_FEATURES, &v);
	sample_close(&s);
}

static void every_message_of_the_server_has_a_row_here(void **state)
{
	static const uint32_t numbers[] = {
#define MSG(number, ...) number,
#include "vhost/msg.def"
#undef MSG
	};

	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		unsigned k = 0;

		while (k < ROWS && rows[k].req != numbers[i])
			k++;
		if (k == ROWS)
			fail_msg("message %u has no row", numbers[i]);
	}
}

static void unknown_messages_are_refused(void **state)
{
	struct rig *r = rig_get();
	const uint8_t zero[8] = { 0 };

	for (uint32_t req = 0; req < FE_REQ_END + 4; req++) {
		unsigned k = 0;

		while (k < ROWS && rows[k].req != req)
			k++;
		if (k < ROWS)
			continue;
		rig_negotiate(r);
		rig_refused(r, req, NEED, zero, sizeof(zero), NULL, 0);
		rig_drop(r);
	}
	rig_negotiate(r);
	rig_refused(r, 0xffffffff, NEED, zero, sizeof(zero), NULL, 0);
}

static struct CMUnitTest tests[512];
static char names[512][96];
static unsigned count;

static void add(const struct row *row, const char *what, CMUnitTestFunction fn)
{
	snprintf(names[count], sizeof(names[0]), "%s %s", fe_req_name(row->req), what);
	tests[count] = (struct CMUnitTest){ names[count], fn, rig_setup, rig_teardown,
					    (void *)(uintptr_t)row };
	count++;
}

#define ADD(row, fn) add(row, #fn, fn)

static void add_row(const struct row *row)
{
	if (never_offered(row)) {
		ADD(row, without_its_feature_is_refused);
		return;
	}
	ADD(row, is_served);
	if (row->reply == ACK)
		ADD(row, is_silent_without_need_reply);
	if (row->size)
		ADD(row, one_byte_short_is_refused);
	if (row->size_fixed)
		ADD(row, one_byte_longer_is_refused);
	ADD(row, surplus_descriptor_is_refused);
	if (row->fds && !row->fds_optional)
		ADD(row, missing_descriptor_is_refused);
	if (row->has_idx)
		ADD(row, unknown_queue_is_refused);
	if (row->proto)
		ADD(row, without_its_feature_is_refused);
	ADD(row, wrong_flags_are_refused);
	ADD(row, death_in_the_middle_frees_the_socket);
	ADD(row, as_the_first_message_is_survived);
}

int main(void)
{
	for (unsigned i = 0; i < ROWS; i++)
		add_row(&rows[i]);
	tests[count++] = (struct CMUnitTest)cmocka_unit_test_setup_teardown(
		every_message_of_the_server_has_a_row_here, rig_setup, rig_teardown);
	tests[count++] = (struct CMUnitTest)cmocka_unit_test_setup_teardown(
		unknown_messages_are_refused, rig_setup, rig_teardown);
	return _cmocka_run_group_tests("messages", tests, count, rig_group_setup,
				       rig_group_teardown);
}
