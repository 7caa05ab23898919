#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "vhost/msg.h"
#include "vhost/session.h"

static void numbers_rise_and_none_comes_twice(void **state)
{
	for (uint32_t i = 1; i < msg_table_count; i++)
		assert_true(msg_table[i - 1].shape.number < msg_table[i].shape.number);
}

static void every_row_is_found_by_its_number_and_has_a_handler(void **state)
{
	for (uint32_t i = 0; i < msg_table_count; i++) {
		assert_ptr_equal(msg_row_find(msg_table[i].shape.number), &msg_table[i]);
		assert_non_null(msg_table[i].handle);
	}
	assert_null(msg_row_find(0));
	assert_null(msg_row_find(19)); /* SEND_RARP */
	assert_null(msg_row_find(UINT32_MAX));
}

static void sizes_and_descriptors_fit_the_buffers(void **state)
{
	for (uint32_t i = 0; i < msg_table_count; i++) {
		const struct msg_shape *shape = &msg_table[i].shape;

		assert_true(shape->size_min <= shape->size_max);
		assert_true(shape->size_max <= MSG_PAYLOAD_MAX);
		assert_true(shape->fd_min <= shape->fd_max);
		assert_true(shape->fd_max <= MSG_FDS_MAX);
	}
}

static void every_needed_feature_but_cross_endian_is_offered(void **state)
{
	for (uint32_t i = 0; i < msg_table_count; i++) {
		if (msg_table[i].shape.number != MSG_SET_VRING_ENDIAN)
			assert_int_equal(
				msg_table[i].shape.feature & ~session_proto_features_offered(), 0);
	}
	assert_int_equal(session_proto_features_offered() & VHOST_PF_CROSS_ENDIAN, 0);
}

static void a_message_is_refused_by_name_for_each_thing_that_can_be_wrong(void **state)
{
	const struct msg_row *row = msg_row_find(MSG_SET_LOG_BASE);
	struct msg m = { .hdr = { MSG_SET_LOG_BASE, MSG_VERSION, 16 }, .fd_count = 1 };
	struct err err;

	assert_int_equal(msg_check(&row->shape, &m, VHOST_PF_LOG_SHMFD, &err), 0);
	assert_int_not_equal(msg_check(&row->shape, &m, 0, &err), 0);
	assert_non_null(strstr(err.msg, "SET_LOG_BASE"));
	assert_non_null(strstr(err.msg, "feature"));
	m.fd_count = 2;
	assert_int_not_equal(msg_check(&row->shape, &m, VHOST_PF_LOG_SHMFD, &err), 0);
	assert_non_null(strstr(err.msg, "descriptors: expected 1..1, got 2"));
	m.fd_count = 1;
	m.hdr.size = 17;
	assert_int_not_equal(msg_check(&row->shape, &m, VHOST_PF_LOG_SHMFD, &err), 0);
	assert_non_null(strstr(err.msg, "expected 16..16 bytes, got 17"));
	m.hdr.size = 16;
	m.hdr.flags = 2;
	assert_int_not_equal(msg_check(&row->shape, &m, VHOST_PF_LOG_SHMFD, &err), 0);
	m.hdr.flags = MSG_VERSION | MSG_REPLY;
	assert_int_not_equal(msg_check(&row->shape, &m, VHOST_PF_LOG_SHMFD, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_rise_and_none_comes_twice),
		cmocka_unit_test(every_row_is_found_by_its_number_and_has_a_handler),
		cmocka_unit_test(sizes_and_descriptors_fit_the_buffers),
		cmocka_unit_test(every_needed_feature_but_cross_endian_is_offered),
		cmocka_unit_test(a_message_is_refused_by_name_for_each_thing_that_can_be_wrong),
	};

	return cmocka_run_group_tests_name("msg", tests, NULL, NULL);
}
