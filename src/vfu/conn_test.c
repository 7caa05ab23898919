#include "vfu/session_rig.h"

static struct vfu_conn conn;
static int conn_peer;

static int conn_setup(void **state)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return -1;
	vfu_conn_init(&conn, sv[0]);
	conn_peer = sv[1];
	return 0;
}

static int conn_teardown(void **state)
{
	vfu_conn_fini(&conn);
	vfu_conn_fini(&conn);
	close(conn_peer);
	return 0;
}

static void put(const void *bytes, size_t len, const int *fds, uint32_t count)
{
	assert_int_equal(fdio_send(conn_peer, bytes, len, fds, count), len);
}

static void a_message_is_whole_at_its_last_byte(void **state)
{
	struct {
		struct vfu_hdr hdr;
		char payload[4];
	} m = { { 7, 13, 20, 0, 0 }, "abc" };
	struct err err;

	for (size_t i = 0; i < 20; i++) {
		assert_int_equal(vfu_conn_read(&conn, &err), VFU_CONN_AGAIN);
		assert_int_equal(vfu_conn_mid_message(&conn), i > 0);
		put((char *)&m + i, 1, NULL, 0);
	}
	assert_int_equal(vfu_conn_read(&conn, &err), VFU_CONN_MESSAGE);
	assert_int_equal(conn.msg.payload, 4);
	assert_memory_equal(vfu_msg_bytes(&conn.msg), "abc", 4);
	vfu_conn_message_drop(&conn);
	assert_int_equal(vfu_conn_read(&conn, &err), VFU_CONN_AGAIN);
}

static void a_size_that_no_message_has_is_named(void **state)
{
	static const uint32_t sizes[] = { 0, 15, VFU_HDR_BYTES + VFU_PAYLOAD_MAX + 1, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct vfu_hdr hdr = { 0, 10, sizes[i], 0, 0 };
		struct err err;

		put(&hdr, sizeof(hdr), NULL, 0);
		assert_int_equal(vfu_conn_read(&conn, &err), VFU_CONN_ERROR);
		assert_non_null(strstr(err.msg, "command 10: size: expected 16.."));
		vfu_conn_message_drop(&conn);
	}
}

static void the_largest_message_passes_and_its_buffer_is_not_kept(void **state)
{
	static uint8_t big[VFU_HDR_BYTES + VFU_PAYLOAD_MAX];
	struct vfu_hdr hdr = { 1, 10, sizeof(big), 0, 0 };
	enum vfu_conn_read got = VFU_CONN_AGAIN;
	size_t sent = 0;
	struct err err;

	memcpy(big, &hdr, sizeof(hdr));
	while (got == VFU_CONN_AGAIN) {
		ssize_t n = sent < sizeof(big)
				    ? fdio_send(conn_peer, big + sent, sizeof(big) - sent, NULL, 0)
				    : 0;

		sent += n > 0 ? (size_t)n : 0;
		got = vfu_conn_read(&conn, &err);
	}
	assert_int_equal(got, VFU_CONN_MESSAGE);
	assert_int_equal(conn.msg.payload, VFU_PAYLOAD_MAX);
	vfu_conn_message_drop(&conn);
	assert_null(conn.msg.buf);
}

static void too_many_descriptors_end_it_and_none_is_kept(void **state)
{
	struct vfu_hdr hdr = { 1, 8, 16, 0, 0 };
	int fds[VFU_FDS_MAX + 1], before = fds_open();
	struct err err;

	for (uint32_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = conn_peer;
	put(&hdr, sizeof(hdr), fds, ARRAY_SIZE(fds));
	assert_int_equal(vfu_conn_read(&conn, &err), VFU_CONN_ERROR);
	vfu_conn_message_drop(&conn);
	assert_int_equal(fds_open(), before);
}

static void leaving_between_messages_is_the_end_and_within_one_an_error(void **state)
{
	struct vfu_hdr hdr = { 1, 8, 20, 0, 0 };
	struct err err;

	shutdown(conn_peer, SHUT_WR);
	assert_int_equal(vfu_conn_read(&conn, &err), VFU_CONN_EOF);
	conn_teardown(state);
	conn_setup(state);
	put(&hdr, sizeof(hdr), NULL, 0);
	shutdown(conn_peer, SHUT_WR);
	assert_int_equal(vfu_conn_read(&conn, &err), VFU_CONN_ERROR);
	assert_non_null(strstr(err.msg, "in the middle of a message"));
}

static void an_answer_waits_until_the_client_reads(void **state)
{
	static uint8_t sink[65536];
	struct vfu_hdr hdr = { 3, 9, VFU_HDR_BYTES + VFU_XFER_MAX, 1, 0 };
	struct vfu_msg m = { .reply_fd = -1 };
	size_t got = 0;
	int rc;

	assert_int_equal(vfu_msg_reserve(&m, VFU_XFER_MAX), 0);
	memset(vfu_msg_bytes(&m), 0x5a, VFU_XFER_MAX);
	vfu_conn_send(&conn, &hdr, &m);
	while ((rc = vfu_conn_flush(&conn)) == -EAGAIN) {
		ssize_t n = recv(conn_peer, sink, sizeof(sink), 0);

		assert_true(vfu_conn_sending(&conn));
		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_int_equal(rc, 0);
	assert_false(vfu_conn_sending(&conn));
	while (got < hdr.size)
		got += (size_t)recv(conn_peer, sink, sizeof(sink), 0);
	assert_int_equal(got, hdr.size);
	vfu_msg_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, conn_setup, conn_teardown)
		T(a_message_is_whole_at_its_last_byte),
		T(a_size_that_no_message_has_is_named),
		T(the_largest_message_passes_and_its_buffer_is_not_kept),
		T(too_many_descriptors_end_it_and_none_is_kept),
		T(leaving_between_messages_is_the_end_and_within_one_an_error),
		T(an_answer_waits_until_the_client_reads),
#undef T
	};

	return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}
