#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost/conn.h"

struct fixture {
	struct conn conn;
	int peer;
	int fds_before;
};

static int fds_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int setup(void **state)
{
	static struct fixture f;
	int sv[2];

	f.fds_before = fds_open();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return -1;
	conn_init(&f.conn, sv[0]);
	f.peer = sv[1];
	*state = &f;
	return 0;
}

/* Every test ends with the check that no descriptor leaked. */
static int teardown(void **state)
{
	struct fixture *f = *state;

	conn_fini(&f->conn);
	close(f->peer);
	assert_int_equal(fds_open(), f->fds_before);
	return 0;
}

static void send_fds(int sock, const void *p, size_t len, uint32_t count)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int) * 64)];
	} control = { 0 };
	struct iovec iov = { (void *)p, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[64];

	for (uint32_t i = 0; i < count; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	if (count) {
		struct cmsghdr *cm;

		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(cm), fds, sizeof(int) * count);
	}
	assert_int_equal(sendmsg(sock, &mh, 0), len);
	for (uint32_t i = 0; i < count; i++)
		close(fds[i]);
}

static void a_message_that_comes_byte_by_byte_is_whole_at_its_last_byte(void **state)
{
	struct fixture *f = *state;
	struct {
		struct msg_hdr hdr;
		uint8_t payload[8];
	} m = { { MSG_SET_FEATURES, MSG_VERSION, 8 }, { 1, 2, 3, 4, 5, 6, 7, 8 } };
	struct err err;

	for (size_t i = 0; i < sizeof(m); i++) {
		assert_int_equal(conn_read(&f->conn, &err), CONN_AGAIN);
		assert_int_equal(conn_mid_message(&f->conn), i > 0);
		assert_int_equal(write(f->peer, (char *)&m + i, 1), 1);
	}
	assert_int_equal(conn_read(&f->conn, &err), CONN_MESSAGE);
	assert_false(conn_mid_message(&f->conn));
	assert_memory_equal(f->conn.msg.bytes, m.payload, 8);
	conn_message_drop(&f->conn);
	assert_int_equal(conn_read(&f->conn, &err), CONN_AGAIN);
}

static void two_messages_in_one_write_come_one_after_the_other(void **state)
{
	struct fixture *f = *state;
	struct msg_hdr two[2] = { { MSG_GET_FEATURES, 1, 0 }, { MSG_SET_OWNER, 1, 0 } };
	struct err err;

	assert_int_equal(write(f->peer, two, sizeof(two)), sizeof(two));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(conn_read(&f->conn, &err), CONN_MESSAGE);
		assert_int_equal(f->conn.msg.hdr.request, two[i].request);
		conn_message_drop(&f->conn);
	}
	close(f->peer);
	assert_int_equal(conn_read(&f->conn, &err), CONN_EOF);
	f->peer = dup(0);
}

static void descriptors_come_with_the_first_byte_and_with_later_ones(void **state)
{
	struct fixture *f = *state;
	struct msg_hdr hdr = { MSG_SET_MEM_TABLE, MSG_VERSION, 8 };
	struct err err;

	send_fds(f->peer, &hdr, sizeof(hdr), 2);
	send_fds(f->peer, "12345678", 8, 1);
	assert_int_equal(conn_read(&f->conn, &err), CONN_MESSAGE);
	assert_int_equal(f->conn.msg.fd_count, 3);
}

static void descriptors_of_a_message_without_need_for_them_are_closed(void **state)
{
	struct fixture *f = *state;
	struct msg_hdr hdr = { MSG_GET_FEATURES, MSG_VERSION, 0 };
	struct err err;

	for (int i = 0; i < 100; i++) {
		send_fds(f->peer, &hdr, sizeof(hdr), 8);
		assert_int_equal(conn_read(&f->conn, &err), CONN_MESSAGE);
		conn_message_drop(&f->conn);
	}
}

static void too_many_descriptors_are_an_error_and_none_leaks(void **state)
{
	struct fixture *f = *state;
	struct msg_hdr hdr = { MSG_SET_MEM_TABLE, MSG_VERSION, 8 };
	struct err err;

	send_fds(f->peer, &hdr, sizeof(hdr), MSG_FDS_MAX + 1);
	assert_int_equal(conn_read(&f->conn, &err), CONN_ERROR);
	assert_non_null(strstr(err.msg, "descriptors"));
}

static void more_descriptors_byte_by_byte_than_the_limit_are_an_error(void **state)
{
	struct fixture *f = *state;
	struct msg_hdr hdr = { MSG_SET_MEM_TABLE, MSG_VERSION, 64 };
	enum conn_read got = CONN_AGAIN;
	struct err err;

	send_fds(f->peer, &hdr, sizeof(hdr), 1);
	for (int i = 0; i < 40 && got == CONN_AGAIN; i++) {
		send_fds(f->peer, "x", 1, 1);
		got = conn_read(&f->conn, &err);
	}
	assert_int_equal(got, CONN_ERROR);
}

static void a_payload_over_the_limit_is_refused_before_it_is_read(void **state)
{
	struct fixture *f = *state;
	struct msg_hdr hdr = { 1, MSG_VERSION, UINT32_MAX };
	struct err err;

	assert_int_equal(write(f->peer, &hdr, sizeof(hdr)), sizeof(hdr));
	assert_int_equal(conn_read(&f->conn, &err), CONN_ERROR);
	assert_non_null(strstr(err.msg, "4294967295"));
}

static void leaving_in_the_middle_of_a_message_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct err err;

	assert_int_equal(write(f->peer, "abc", 3), 3);
	shutdown(f->peer, SHUT_WR);
	assert_int_equal(conn_read(&f->conn, &err), CONN_ERROR);
}

static void a_reply_that_does_not_fit_waits_and_then_goes(void **state)
{
	struct fixture *f = *state;
	struct msg_hdr hdr = { MSG_GET_CONFIG, 5, 268 };
	uint8_t payload[268] = { 7 };
	char sink[280];
	int n = 0, rc;

	do {
		conn_reply(&f->conn, &hdr, payload, n == 0 ? eventfd(0, EFD_CLOEXEC) : -1);
		rc = conn_flush(&f->conn);
		n++;
	} while (rc == 0 && n < 100000);
	assert_int_equal(rc, -EAGAIN);
	assert_true(conn_sending(&f->conn));
	for (int i = 0; i < n; i++) {
		assert_int_equal(recv(f->peer, sink, sizeof(sink), MSG_WAITALL), sizeof(sink));
		assert_memory_equal(sink, &hdr, sizeof(hdr));
		rc = conn_flush(&f->conn);
		assert_true(rc == 0 || rc == -EAGAIN);
	}
	assert_false(conn_sending(&f->conn));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(a_message_that_comes_byte_by_byte_is_whole_at_its_last_byte),
		T(two_messages_in_one_write_come_one_after_the_other),
		T(descriptors_come_with_the_first_byte_and_with_later_ones),
		T(descriptors_of_a_message_without_need_for_them_are_closed),
		T(too_many_descriptors_are_an_error_and_none_leaks),
		T(more_descriptors_byte_by_byte_than_the_limit_are_an_error),
		T(a_payload_over_the_limit_is_refused_before_it_is_read),
		T(leaving_in_the_middle_of_a_message_is_an_error),
		T(a_reply_that_does_not_fit_waits_and_then_goes),
#undef T
	};

	return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}
