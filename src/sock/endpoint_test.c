#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/parcel_rig.h"
#include "loop/loop.h"
#include "sock/endpoint.h"
#include "sock/listen.h"

struct fixture {
	struct loop *loop;
	char dir[64], path[96];
	struct endpoint_params params;
	struct endpoint *ep;
	uint32_t echoes, dones;
	bool refuse;
};

static struct fixture *fix;

/* What is served here: bytes come back. */
struct echo {
	struct endpoint_conn conn;
	struct loop_watch watch;
	int fd;
	bool ending;
};

static void echo_on_stopped(struct loop_watch *w)
{
	struct echo *e = container_of(w, struct echo, watch);

	fix->echoes--;
	close(e->fd);
	endpoint_conn_ended(&e->conn);
	free(e);
}

static void echo_close(struct endpoint_conn *conn)
{
	struct echo *e = container_of(conn, struct echo, conn);

	if (!e->ending)
		loop_watch_stop(&e->watch, echo_on_stopped);
	e->ending = true;
}

static void echo_on_readable(struct loop_watch *w, uint32_t revents)
{
	struct echo *e = container_of(w, struct echo, watch);
	char c;
	ssize_t n = recv(e->fd, &c, 1, MSG_DONTWAIT);

	if (n == 1)
		send(e->fd, &c, 1, MSG_NOSIGNAL);
	else if (n == 0)
		echo_close(&e->conn);
}

static int echo_serve(void *arg, struct endpoint *ep, int fd, struct endpoint_conn **ret_conn,
		      struct err *reterr)
{
	struct fixture *f = arg;
	struct echo *e;

	assert_string_equal(endpoint_name(ep), "test");
	assert_non_null(endpoint_limit(ep));
	if (f->refuse) {
		close(fd);
		return err_set(reterr, -EIO, "no disk");
	}
	e = calloc(1, sizeof(*e));
	e->fd = fd;
	f->echoes++;
	loop_watch_start(f->loop, &e->watch, fd, POLLIN, echo_on_readable);
	*ret_conn = &e->conn;
	return 0;
}

static const struct endpoint_ops echo_ops = { .serve = echo_serve, .close = echo_close };

static void on_done(void *arg)
{
	fix->dones++;
}

static void on_stopped(void *arg)
{
	*(struct endpoint **)arg = NULL;
}

#define PUMP_UNTIL(f, cond)                                                                        \
	do {                                                                                       \
		uint64_t end_ = loop_clock_ns() + 5000000000ull;                                   \
		while (!(cond)) {                                                                  \
			loop_run_once((f)->loop, false);                                           \
			assert_true(loop_clock_ns() < end_);                                       \
		}                                                                                  \
	} while (0)

static int setup(void **state)
{
	static struct fixture f;
	struct err err;

	f = (struct fixture){ 0 };
	fix = &f;
	if (loop_new(&(struct loop_params){ .name = "test", .cpu = -1 }, &f.loop, &err))
		return -1;
	loop_run_once(f.loop, false);
	snprintf(f.dir, sizeof(f.dir), "%s", "/tmp/endpoint-test-XXXXXX");
	if (!mkdtemp(f.dir))
		return -1;
	snprintf(f.path, sizeof(f.path), "%s/s", f.dir);
	f.params = (struct endpoint_params){ .name = "test",
					     .socket_path = f.path,
					     .fd = -1,
					     .socket_mode = 0600,
					     .connections_max = 1,
					     .main_loop = f.loop,
					     .ops = &echo_ops,
					     .on_done = on_done,
					     .arg = &f };
	*state = &f;
	return 0;
}

static void stop(struct fixture *f)
{
	if (f->ep)
		endpoint_stop(f->ep, on_stopped, &f->ep);
	PUMP_UNTIL(f, !f->ep);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	stop(f);
	assert_int_equal(f->echoes, 0);
	assert_int_equal(access(f->path, F_OK), -1);
	assert_int_equal(rmdir(f->dir), 0);
	loop_free(f->loop);
	return 0;
}

static bool answers(struct fixture *f, int fd)
{
	uint64_t end = loop_clock_ns() + 100000000;
	ssize_t n = -1;
	char c = 'x';

	assert_int_equal(send(fd, &c, 1, MSG_NOSIGNAL), 1);
	while (n < 0 && loop_clock_ns() < end) {
		loop_run_once(f->loop, false);
		n = recv(fd, &c, 1, MSG_DONTWAIT);
	}
	return n == 1;
}

static int dial(struct fixture *f)
{
	struct err err;
	int fd;

	assert_int_equal(listen_connect(f->path, &fd, &err), 0);
	return fd;
}

static void start(struct fixture *f)
{
	struct err err;

	assert_int_equal(endpoint_start(&f->params, &f->ep, &err), 0);
}

static void the_socket_has_the_mode_asked_for_and_serves_one_after_the_other(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	start(f);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	for (int i = 0; i < 3; i++) {
		int a = dial(f), b = dial(f); /* the second waits in the backlog */

		assert_true(answers(f, a));
		assert_false(answers(f, b));
		close(a);
		assert_true(answers(f, b));
		close(b);
	}
}

static void a_live_server_is_not_replaced_and_a_stale_socket_is(void **state)
{
	struct fixture *f = *state;
	struct endpoint *second;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct err err;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", f->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	close(fd); /* the file stays */
	start(f);
	assert_int_equal(endpoint_start(&f->params, &second, &err), -EADDRINUSE);
	assert_non_null(strstr(err.msg, "another server"));
	fd = dial(f);
	assert_true(answers(f, fd));
	close(fd);
}

static void what_is_not_a_socket_is_left_alone(void **state)
{
	struct fixture *f = *state;
	struct err err;
	int fd = open(f->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_int_equal(endpoint_start(&f->params, &f->ep, &err), -EADDRINUSE);
	assert_int_equal(access(f->path, F_OK), 0);
	close(fd);
	unlink(f->path);
}

static void a_socket_file_that_another_made_meanwhile_is_not_removed(void **state)
{
	struct fixture *f = *state;
	int fd;

	start(f);
	unlink(f->path);
	fd = open(f->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	stop(f);
	assert_int_equal(access(f->path, F_OK), 0);
	close(fd);
	unlink(f->path);
}

static void a_connection_without_a_device_is_closed_and_the_next_is_served(void **state)
{
	struct fixture *f = *state;
	int fd;
	char c;

	start(f);
	f->refuse = true;
	fd = dial(f);
	PUMP_UNTIL(f, recv(fd, &c, 1, MSG_DONTWAIT) == 0);
	close(fd);
	f->refuse = false;
	fd = dial(f);
	assert_true(answers(f, fd));
	close(fd);
}

static void an_inherited_connection_is_served_and_its_end_is_told(void **state)
{
	struct fixture *f = *state;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	f->params.socket_path = NULL;
	f->params.fd = sv[0];
	start(f);
	assert_true(answers(f, sv[1]));
	close(sv[1]);
	PUMP_UNTIL(f, f->dones == 1);
}

static void a_client_connects_again_when_the_connection_ended(void **state)
{
	struct fixture *f = *state;
	struct listen_file file;
	struct err err;
	int lfd, fd;

	f->params.client = true;
	f->params.reconnect_ms = 5;
	start(f); /* nobody listens yet */
	assert_int_equal(listen_open(f->path, 0600, &file, &lfd, &err), 0);
	for (int i = 0; i < 3; i++) {
		PUMP_UNTIL(f, (fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC)) >= 0);
		assert_true(answers(f, fd));
		close(fd);
	}
	listen_file_remove(&file);
	close(lfd);
}

static uint32_t visited;

static void count_and_close(struct endpoint_conn *conn)
{
	visited++;
	echo_close(conn);
}

static void visiting_reaches_the_connections_of_these_ops_and_no_others(void **state)
{
	static const struct endpoint_ops other;
	struct fixture *f = *state;
	int a, b;

	f->params.connections_max = 2;
	start(f);
	a = dial(f);
	b = dial(f);
	PUMP_UNTIL(f, f->echoes == 2);
	visited = 0;
	endpoint_conns_visit(&other, count_and_close);
	assert_int_equal(visited, 0);
	endpoint_conns_visit(&echo_ops, count_and_close);
	assert_int_equal(visited, 2);
	PUMP_UNTIL(f, f->echoes == 0);
	close(a);
	close(b);
}

/* As if the endpoint had come from another process. */
static void send_over(struct fixture *f, struct parcel *ret_in)
{
	struct parcel out;
	struct err err = { 0 };

	parcel_init(&out);
	endpoint_freeze(f->ep, true);
	assert_true(endpoint_is_quiet(f->ep));
	assert_int_equal(endpoint_pack(f->ep, &out, &err), 0);
	parcel_arrives(&out, ret_in);
	parcel_fini(&out);
}

static void a_listener_that_was_handed_over_goes_on(void **state)
{
	struct fixture *f = *state;
	struct endpoint *old;
	struct parcel in;
	struct err err = { 0 };
	int fd;

	start(f);
	old = f->ep;
	send_over(f, &in);
	fd = dial(f);
	assert_false(answers(f, fd)); /* in the backlog */
	f->params.from = &in;
	assert_int_equal(endpoint_start(&f->params, &f->ep, &err), 0);
	assert_false(answers(f, fd));
	endpoint_freeze(f->ep, false);
	assert_true(answers(f, fd));
	close(fd);
	parcel_fini(&in);
	f->params.from = NULL;
	endpoint_stop(old, on_stopped, &old);
	PUMP_UNTIL(f, !old);
}

static void one_that_was_frozen_accepts_again(void **state)
{
	struct fixture *f = *state;
	struct parcel in;
	int fd;

	start(f);
	send_over(f, &in);
	parcel_fini(&in);
	fd = dial(f);
	assert_false(answers(f, fd));
	endpoint_freeze(f->ep, false);
	assert_true(answers(f, fd));
	close(fd);
}

static void what_does_not_fit_is_not_taken_over(void **state)
{
	struct fixture *f = *state;
	struct endpoint *next;
	struct parcel in;
	struct err err = { 0 };

	start(f);
	send_over(f, &in);
	f->params.socket_path = "/elsewhere";
	f->params.from = &in;
	assert_int_equal(endpoint_start(&f->params, &next, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "a hand-over keeps sockets where they are"));
	f->params.socket_path = f->path;
	for (size_t len = 0; len < 24; len += 4) { /* the head of the section */
		parcel_rewind(&in);
		in.failed = false;
		in.end = len;
		assert_int_equal(endpoint_start(&f->params, &next, &err), -EPROTO);
	}
	parcel_fini(&in);
	f->params.from = NULL;
	endpoint_freeze(f->ep, false);
}

static void parameters_that_cannot_be_are_named(void **state)
{
	struct fixture *f = *state;
	struct endpoint_params good = f->params;
	struct err err;

	f->params.connections_max = 0;
	assert_int_equal(endpoint_start(&f->params, &f->ep, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "connections: expected at least 1, got 0"));
	f->params = good;
	f->params.fd = 0;
	assert_int_equal(endpoint_start(&f->params, &f->ep, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "either a socket path or a descriptor"));
	f->params.socket_path = NULL;
	f->params.client = true;
	assert_int_equal(endpoint_start(&f->params, &f->ep, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "client mode needs a socket path"));
}

static void a_path_that_is_too_long_is_named(void **state)
{
	struct fixture *f = *state;
	struct err err;
	char path[200];

	memset(path, 'x', sizeof(path));
	path[199] = '\0';
	f->params.socket_path = path;
	assert_int_equal(endpoint_start(&f->params, &f->ep, &err), -ENAMETOOLONG);
	assert_non_null(strstr(err.msg, "1..107 bytes, got 199"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(the_socket_has_the_mode_asked_for_and_serves_one_after_the_other),
		T(a_live_server_is_not_replaced_and_a_stale_socket_is),
		T(what_is_not_a_socket_is_left_alone),
		T(a_socket_file_that_another_made_meanwhile_is_not_removed),
		T(a_connection_without_a_device_is_closed_and_the_next_is_served),
		T(an_inherited_connection_is_served_and_its_end_is_told),
		T(a_client_connects_again_when_the_connection_ended),
		T(a_path_that_is_too_long_is_named),
		T(visiting_reaches_the_connections_of_these_ops_and_no_others),
		T(a_listener_that_was_handed_over_goes_on),
		T(one_that_was_frozen_accepts_again),
		T(what_does_not_fit_is_not_taken_over),
		T(parameters_that_cannot_be_are_named),
#undef T
	};

	return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
