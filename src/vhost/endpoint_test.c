/* What is the front's own; src/sock/endpoint_test.c has what is the socket's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/loop.h"
#include "sock/listen.h"
#include "vhost/msg.h"
#include "vhost/vhost.h"
#include "virtio/vdev.h"

struct fixture {
	struct loop *loop;
	char dir[64], path[96];
	struct vhost_endpoint_params params;
	struct vhost_endpoint *ep;
	uint32_t devices;
	bool refuse;
};

static struct fixture *fix;

static uint64_t model_features(const struct vdev *dev)
{
	return 0;
}

static void model_free(struct vdev *dev)
{
	fix->devices--;
	free(dev);
}

static const struct vdev_ops model_ops = {
	.type = "test",
	.features = model_features,
	.free = model_free,
};

static int vdev_make(void *arg, struct vdev **ret_vdev, struct err *reterr)
{
	struct fixture *f = arg;

	if (f->refuse)
		return err_set(reterr, -EIO, "no disk");
	*ret_vdev = calloc(1, sizeof(**ret_vdev));
	**ret_vdev = (struct vdev){ .ops = &model_ops, .queue_count_max = 1, .queue_size_max = 8 };
	f->devices++;
	return 0;
}

static void on_stopped(void *arg)
{
	*(struct vhost_endpoint **)arg = NULL;
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
	f.params = (struct vhost_endpoint_params){ .sock = { .name = "test",
							     .socket_path = f.path,
							     .fd = -1,
							     .socket_mode = 0600,
							     .connections_max = 1,
							     .main_loop = f.loop },
						   .loops = &f.loop,
						   .loop_count = 1,
						   .vdev_make = vdev_make,
						   .arg = &f };
	*state = &f;
	return 0;
}

static void stop(struct fixture *f)
{
	if (f->ep)
		vhost_endpoint_stop(f->ep, on_stopped, &f->ep);
	PUMP_UNTIL(f, !f->ep);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	stop(f);
	assert_int_equal(f->devices, 0);
	assert_int_equal(access(f->path, F_OK), -1);
	assert_int_equal(rmdir(f->dir), 0);
	loop_free(f->loop);
	return 0;
}

static bool answers(struct fixture *f, int fd)
{
	struct msg_hdr hdr = { MSG_GET_FEATURES, MSG_VERSION, 0 };
	char reply[20];
	uint64_t end = loop_clock_ns() + 100000000;
	ssize_t n = -1;

	assert_int_equal(send(fd, &hdr, sizeof(hdr), MSG_NOSIGNAL), sizeof(hdr));
	while (n < 0 && loop_clock_ns() < end) {
		loop_run_once(f->loop, false);
		n = recv(fd, reply, sizeof(reply), MSG_DONTWAIT);
	}
	return n == sizeof(reply);
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

	assert_int_equal(vhost_endpoint_start(&f->params, &f->ep, &err), 0);
}

static void each_connection_has_a_device_of_its_own_or_is_closed(void **state)
{
	struct fixture *f = *state;
	int a, b;
	char c;

	f->params.sock.connections_max = 2;
	start(f);
	a = dial(f);
	assert_true(answers(f, a));
	f->refuse = true;
	b = dial(f);
	PUMP_UNTIL(f, recv(b, &c, 1, MSG_DONTWAIT) == 0);
	close(b);
	f->refuse = false;
	b = dial(f);
	assert_true(answers(f, b));
	assert_int_equal(f->devices, 2);
	close(a);
	PUMP_UNTIL(f, f->devices == 1);
	close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(each_connection_has_a_device_of_its_own_or_is_closed),
#undef T
	};

	return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
