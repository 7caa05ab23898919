#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop/loop.h"
#include "sock/passing.h"

#define MS 1000000ull

struct pair {
	int a, b;
};

static int setup(void **state)
{
	static struct pair p;
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv))
		return -1;
	p = (struct pair){ sv[0], sv[1] };
	*state = &p;
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	close(p->a);
	if (p->b >= 0)
		close(p->b);
	return 0;
}

static uint64_t in_ms(uint64_t ms)
{
	return loop_clock_ns() + ms * MS;
}

static void messages_come_in_their_order(void **state)
{
	struct pair *p = *state;
	struct err err = { 0 };

	assert_int_equal(passing_send(p->a, PASSING_READY, NULL, in_ms(100), &err), 0);
	assert_int_equal(passing_send(p->a, PASSING_UNPACKED, NULL, in_ms(100), &err), 0);
	assert_int_equal(passing_expect(p->b, PASSING_READY, in_ms(100), &err), 0);
	assert_int_equal(passing_expect(p->b, PASSING_GO, in_ms(100), &err), -EPROTO);
	assert_string_equal(err.msg, "expected GO, got UNPACKED");
}

static void a_failure_comes_with_its_text(void **state)
{
	struct pair *p = *state;
	struct err err = { 0 };

	assert_int_equal(passing_send(p->a, PASSING_FAILED, "no disk", in_ms(100), &err), 0);
	assert_int_equal(passing_expect(p->b, PASSING_READY, in_ms(100), &err), -ECANCELED);
	assert_string_equal(err.msg, "no disk");
}

static void who_does_not_answer_is_not_waited_for_longer(void **state)
{
	struct pair *p = *state;
	struct err err = { 0 };
	uint64_t begin_ns = loop_clock_ns();

	assert_int_equal(passing_expect(p->b, PASSING_READY, in_ms(20), &err), -ETIMEDOUT);
	assert_true(loop_clock_ns() - begin_ns >= 20 * MS);
}

static void the_end_of_the_other_process_is_told(void **state)
{
	struct pair *p = *state;
	struct err err = { 0 };

	close(p->b);
	p->b = -1;
	assert_int_equal(passing_expect(p->a, PASSING_READY, in_ms(100), &err), -ECONNRESET);
	assert_int_equal(passing_send(p->a, PASSING_GO, NULL, in_ms(100), &err), -ECONNRESET);
}

static void *send_many(void *arg)
{
	struct pair *p = arg;
	struct parcel out;
	struct err err = { 0 };
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	parcel_init(&out);
	for (uint32_t i = 0; i < 300; i++) {
		parcel_put_u32(&out, i);
		parcel_put_fd(&out, fd);
	}
	for (uint32_t i = 0; i < 100000; i++)
		parcel_put_u64(&out, i);
	assert_int_equal(passing_send_parcel(p->a, &out, in_ms(5000), &err), 0);
	parcel_fini(&out);
	close(fd);
	return NULL;
}

static void a_parcel_larger_than_the_socket_comes_whole(void **state)
{
	struct pair *p = *state;
	struct parcel in;
	struct err err = { 0 };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, send_many, p), 0);
	assert_int_equal(passing_recv_parcel(p->b, &in, in_ms(5000), &err), 0);
	pthread_join(thread, NULL);
	assert_int_equal(in.fd_count, 300);
	for (uint32_t i = 0; i < 300; i++) {
		int fd;

		assert_int_equal(parcel_take_u32(&in), i);
		fd = parcel_take_fd(&in);
		assert_true(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
		close(fd);
	}
	for (uint32_t i = 0; i < 100000; i++)
		assert_int_equal(parcel_take_u64(&in), i);
	assert_false(in.failed);
	parcel_fini(&in);
}

static void what_is_no_message_is_refused(void **state)
{
	struct pair *p = *state;
	struct parcel in;
	struct err err = { 0 };

	assert_int_equal(send(p->a, "hello", 5, MSG_NOSIGNAL), 5);
	assert_int_equal(passing_expect(p->b, PASSING_READY, in_ms(100), &err), -EPROTO);
	assert_non_null(strstr(err.msg, "5 bytes that are no message"));
	assert_int_equal(passing_send(p->a, PASSING_PARCEL, NULL, in_ms(100), &err), 0);
	assert_int_equal(passing_recv_parcel(p->b, &in, in_ms(100), &err), -EPROTO);
	assert_string_equal(err.msg, "expected the parcel's memfd, got none");
}

static void a_parcel_that_ran_out_of_memory_is_not_sent(void **state)
{
	struct pair *p = *state;
	struct parcel out;
	struct err err = { 0 };

	parcel_init(&out);
	out.failed = true;
	assert_int_equal(passing_send_parcel(p->a, &out, in_ms(100), &err), -ENOMEM);
	parcel_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(messages_come_in_their_order),
		T(a_failure_comes_with_its_text),
		T(who_does_not_answer_is_not_waited_for_longer),
		T(the_end_of_the_other_process_is_told),
		T(a_parcel_larger_than_the_socket_comes_whole),
		T(what_is_no_message_is_refused),
		T(a_parcel_that_ran_out_of_memory_is_not_sent),
#undef T
	};

	return cmocka_run_group_tests_name("sock / passing", tests, NULL, NULL);
}
