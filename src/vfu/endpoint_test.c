#include "vfu/session_rig.h"

#include "loop/queue_stats.h"
#include "sock/listen.h"
#include "vfu/vfu.h"

static struct {
	char dir[64], path[96];
	struct vfu_endpoint *ep;
	bool refuse;
} e;

static int dev_make(void *arg, struct vfu_dev **ret_dev, struct err *reterr)
{
	struct fixture *f = arg;

	if (e.refuse)
		return err_set(reterr, -EIO, "no disk");
	dev_describe(f);
	*ret_dev = &f->dev;
	return 0;
}

static void on_stopped(void *arg)
{
	e.ep = NULL;
}

static int endpoint_setup(void **state)
{
	static struct fixture f;
	struct err err;

	f = (struct fixture){ .intx_fd = -1, .memfd = -1 };
	fix = &f;
	for (uint32_t i = 0; i < VFU_MSIX_VECTORS_MAX; i++)
		f.vector_fd[i] = -1;
	e.ep = NULL;
	e.refuse = false;
	if (loop_new(&(struct loop_params){ .name = "test", .cpu = -1 }, &f.loop, &err))
		return -1;
	snprintf(e.dir, sizeof(e.dir), "%s", "/tmp/vfu-endpoint-XXXXXX");
	if (!mkdtemp(e.dir))
		return -1;
	snprintf(e.path, sizeof(e.path), "%s/s", e.dir);
	*state = &f;
	return vfu_endpoint_start(&(struct vfu_endpoint_params){ .sock = { .name = "test",
									   .socket_path = e.path,
									   .fd = -1,
									   .socket_mode = 0600,
									   .connections_max = 1,
									   .main_loop = f.loop },
								 .dev_make = dev_make,
								 .arg = &f },
				  &e.ep, &err);
}

static int endpoint_teardown(void **state)
{
	struct fixture *f = *state;

	vfu_endpoint_stop(e.ep, on_stopped, NULL);
	PUMP_UNTIL(f, !e.ep);
	assert_int_equal(rmdir(e.dir), 0);
	loop_free(f->loop);
	return 0;
}

static void dial(struct fixture *f)
{
	struct err err;

	assert_int_equal(listen_connect(e.path, &f->peer, &err), 0);
}

static void each_connection_gets_a_device_of_its_own(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 1; i <= 3; i++) {
		dial(f);
		negotiate(f);
		vfu_check_lost();
		assert_int_equal(config_read(f, 0, 2), 0x1234);
		close(f->peer);
		PUMP_UNTIL(f, f->frees == i);
	}
}

static void a_connection_without_a_device_is_closed_and_the_next_is_served(void **state)
{
	struct fixture *f = *state;
	char c;

	e.refuse = true;
	dial(f);
	PUMP_UNTIL(f, recv(f->peer, &c, 1, MSG_DONTWAIT) == 0);
	close(f->peer);
	e.refuse = false;
	dial(f);
	negotiate(f);
	close(f->peer);
}

static void stopping_waits_for_the_device_of_a_connection(void **state)
{
	struct fixture *f = *state;

	dial(f);
	negotiate(f);
	f->hold_free = true;
	vfu_endpoint_stop(e.ep, on_stopped, NULL);
	pump(f, 5);
	assert_non_null(e.ep);
	assert_int_equal(f->frees, 1);
	dev_freed_now(f);
	f->hold_free = false;
	PUMP_UNTIL(f, !e.ep);
	close(f->peer);
	rmdir(e.dir);
	loop_free(f->loop);
	endpoint_setup(state);
}

static const struct queue_visitor nobody;
static uint32_t visits;

static void visit_of_a_device(const struct vfu_dev *dev, const struct queue_visitor *v)
{
	assert_int_equal(fix->frees, 0);
	visits++;
}

/* The device has gone, its connection waits for more. */
static void free_and_visit(struct vfu_dev *dev)
{
	dev_free(dev);
	vfu_endpoint_visit(e.ep, &nobody);
}

static void a_connection_that_ends_is_visited_without_the_device_that_has_gone(void **state)
{
	struct fixture *f = *state;
	struct vfu_dev_ops ops;

	dial(f);
	negotiate(f);
	ops = *f->dev.ops;
	ops.queues_visit = visit_of_a_device;
	ops.free = free_and_visit;
	f->dev.ops = &ops;
	visits = 0;
	vfu_endpoint_visit(e.ep, &nobody);
	close(f->peer);
	PUMP_UNTIL(f, f->frees == 1);
	assert_int_equal(visits, 1);
}

static void a_device_is_needed(void **state)
{
	struct vfu_endpoint *ep;
	struct err err;

	assert_int_equal(
		vfu_endpoint_start(&(struct vfu_endpoint_params){ .sock.name = "x" }, &ep, &err),
		-EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, endpoint_setup, endpoint_teardown)
		T(each_connection_gets_a_device_of_its_own),
		T(a_connection_without_a_device_is_closed_and_the_next_is_served),
		T(stopping_waits_for_the_device_of_a_connection),
		T(a_connection_that_ends_is_visited_without_the_device_that_has_gone),
		T(a_device_is_needed),
#undef T
	};

	return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
