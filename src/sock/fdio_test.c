#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sock/fdio.h"

struct fixture {
	int sv[2];
	int kept[FDIO_FDS_MAX];
	struct fdio_fds keep;
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

	f.fds_before = fds_open();
	f.keep = (struct fdio_fds){ f.kept, 0, 4 };
	*state = &f;
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f.sv);
}

/* Every test ends with the check that no descriptor leaked. */
static int teardown(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < f->keep.count; i++)
		close(f->kept[i]);
	close(f->sv[0]);
	close(f->sv[1]);
	assert_int_equal(fds_open(), f->fds_before);
	return 0;
}

static void send_with(struct fixture *f, uint32_t count)
{
	int fds[FDIO_FDS_MAX];

	for (uint32_t i = 0; i < count; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(fdio_send(f->sv[1], "abc", 3, fds, count), 3);
	for (uint32_t i = 0; i < count; i++)
		close(fds[i]);
}

static void bytes_come_with_their_descriptors_closed_on_exec(void **state)
{
	struct fixture *f = *state;
	struct err err;
	char buf[8];

	send_with(f, 3);
	assert_int_equal(fdio_recv(f->sv[0], buf, sizeof(buf), &f->keep, &err), 3);
	assert_memory_equal(buf, "abc", 3);
	assert_int_equal(f->keep.count, 3);
	for (int i = 0; i < 3; i++)
		assert_true(fcntl(f->kept[i], F_GETFD) & FD_CLOEXEC);
}

static void descriptors_add_up_over_several_calls(void **state)
{
	struct fixture *f = *state;
	struct err err;
	char buf[8];

	send_with(f, 2);
	send_with(f, 2);
	assert_int_equal(fdio_recv(f->sv[0], buf, 3, &f->keep, &err), 3);
	assert_int_equal(fdio_recv(f->sv[0], buf, 3, &f->keep, &err), 3);
	assert_int_equal(f->keep.count, 4);
}

static void one_descriptor_too_many_is_closed_and_named(void **state)
{
	struct fixture *f = *state;
	struct err err;
	char buf[8];

	send_with(f, 5);
	assert_int_equal(fdio_recv(f->sv[0], buf, sizeof(buf), &f->keep, &err), -EMFILE);
	assert_int_equal(f->keep.count, 4);
	assert_non_null(strstr(err.msg, "expected at most 4"));
}

static void nothing_there_is_again_and_the_end_is_0(void **state)
{
	struct fixture *f = *state;
	struct err err;
	char buf[8];

	assert_int_equal(fdio_recv(f->sv[0], buf, sizeof(buf), &f->keep, &err), -EAGAIN);
	shutdown(f->sv[1], SHUT_WR);
	assert_int_equal(fdio_recv(f->sv[0], buf, sizeof(buf), &f->keep, &err), 0);
}

static void sending_to_one_who_left_or_does_not_read_is_an_errno(void **state)
{
	struct fixture *f = *state;
	static char big[65536];
	ssize_t n;

	while ((n = fdio_send(f->sv[1], big, sizeof(big), NULL, 0)) > 0)
		;
	assert_int_equal(n, -EAGAIN);
	shutdown(f->sv[0], SHUT_RDWR);
	assert_int_equal(fdio_send(f->sv[1], big, 1, NULL, 0), -EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(bytes_come_with_their_descriptors_closed_on_exec),
		T(descriptors_add_up_over_several_calls),
		T(one_descriptor_too_many_is_closed_and_named),
		T(nothing_there_is_again_and_the_end_is_0),
		T(sending_to_one_who_left_or_does_not_read_is_an_errno),
#undef T
	};

	return cmocka_run_group_tests_name("fdio", tests, NULL, NULL);
}
