/* COMPARE AND WRITE from two loops, each on a thread of its own: a counter that loses nothing. */
#include <semaphore.h>

#include "scsi/sbc_rig.h"

#define LOOPS  2
#define COUNTS 10000u

/*
 * On each loop: swaps the counter for one more. Where somebody else was first it tries the next
 * number: the counter only grows, so it is never below what is expected.
 */
struct counter {
	struct loop *loop;
	struct scsi_host *host;
	struct scsi_nexus *nexus;
	struct scsi_queue *queue;
	struct scsi_task task;
	struct iov_cur out, in;
	struct iovec out_iov;
	uint8_t out_bytes[1024];
	uint64_t expected;
	uint32_t swapped, lost, other;
	struct loop_work work;
	sem_t ended;
};

static void counter_next(struct loop_work *work);

static void counter_on_event(void *arg, const struct scsi_event *event)
{
}

static void counter_done(struct scsi_task *t)
{
	struct counter *c = container_of(t, struct counter, task);

	if (t->status == SCSI_GOOD) {
		c->swapped++;
		c->expected++;
	} else if (t->sense_len && (t->sense[2] & 0xf) == 0xe) {
		c->lost++;
		c->expected++;
	} else {
		c->other++; /* the unit attention of a new nexus */
	}
	if (c->swapped == COUNTS || c->other > 10) {
		sem_post(&c->ended);
		return;
	}
	c->work.fn = counter_next;
	loop_defer(c->loop, &c->work);
}

static void counter_next(struct loop_work *work)
{
	struct counter *c = container_of(work, struct counter, work);

	cdb_put64(c->out_bytes, c->expected);
	cdb_put64(c->out_bytes + 512, c->expected + 1);
	c->out_iov = (struct iovec){ c->out_bytes, sizeof(c->out_bytes) };
	iov_cur_init(&c->out, &c->out_iov, 1, sizeof(c->out_bytes));
	iov_cur_init(&c->in, NULL, 0, 0);
	c->task.out = &c->out;
	c->task.in = &c->in;
	c->task.done = counter_done;
	scsi_task_start(c->queue, &c->task);
}

/* Thread: its loop */
static void counter_open(void *arg)
{
	struct counter *c = arg;
	struct err err;

	assert_int_equal(scsi_queue_open(c->nexus, c->loop, &c->queue, &err), 0);
	c->task.cdb[0] = 0x89;
	c->task.cdb[13] = 1;
	c->work.fn = counter_next;
	loop_defer(c->loop, &c->work);
}

static void counter_close(void *arg)
{
	scsi_queue_close(((struct counter *)arg)->queue);
}

static void counter_start(struct counter *c, struct scsi_host *host, uint32_t idx)
{
	struct loop_params lp = { .name = "data", .cpu = -1, .sq_count = 64 };
	const char *name = idx ? "iqn.2026-01.test:two" : "iqn.2026-01.test:one";
	struct err err;

	assert_int_equal(sem_init(&c->ended, 0, 0), 0);
	assert_int_equal(loop_new(&lp, &c->loop, &err), 0);
	assert_int_equal(scsi_nexus_open(host, name, counter_on_event, c, &c->nexus, &err), 0);
	assert_int_equal(loop_thread_start(c->loop, &err), 0);
	loop_call(c->loop, counter_open, c);
}

static void two_loops_count_together(void **state)
{
	static struct counter counters[LOOPS];
	struct rig *rig = calloc(1, sizeof(*rig));
	uint64_t sum = 0;

	rig_init(rig);
	rig_lu_add(rig, "ram", "size=1M");
	for (uint32_t i = 0; i < LOOPS; i++)
		counter_start(&counters[i], rig->host, i);
	for (uint32_t i = 0; i < LOOPS; i++)
		sem_wait(&counters[i].ended);
	for (uint32_t i = 0; i < LOOPS; i++) {
		struct counter *c = &counters[i];

		assert_int_equal(c->swapped, COUNTS);
		sum = MAX(sum, c->expected);
		loop_call(c->loop, counter_close, c);
		loop_quit(c->loop);
		loop_free(c->loop);
		scsi_nexus_close(c->nexus);
		sem_destroy(&c->ended);
	}
	assert_int_equal(sum, LOOPS * COUNTS);
	rig_close(rig);
	free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_loops_count_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
