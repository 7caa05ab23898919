/*
 * For the unit tests of exchanges: a disk whose back-end can be exchanged, one loop that is main
 * too, and load from two data loops.
 */
#ifndef BLK_FILTER_SWAP_RIG_H
#define BLK_FILTER_SWAP_RIG_H

#include <errno.h>

#include "blk/test_disk.h"

#include "blk/backend/sim.h"
#include "blk/filter/swap.h"

static char page[4096] __attribute__((aligned(4096)));

/* ---- one loop, which is main too ---- */

struct rig {
	struct disk disk;
	struct blk_dev *base;
	int done_count, rc;
};

/* bare: the back-end itself, which was never exchanged; or a swap on it. */
static inline void rig_open_as(struct rig *rig, const char *type, const char *params, bool bare)
{
	struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };
	struct err err = { 0 };

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(loop_new(&lp, &rig->disk.loop, &err), 0);
	assert_int_equal(blk_dev_open(type, "base", params, &rig->base, &err), 0);
	if (bare)
		rig->disk.dev = blk_dev_ref(rig->base);
	else
		assert_int_equal(
			blk_dev_open_on("swap", "d0", NULL, rig->base, &rig->disk.dev, &err), 0);
	assert_int_equal(blk_chan_open(rig->disk.dev, rig->disk.loop, &rig->disk.chan, &err), 0);
}

static inline void rig_open(struct rig *rig, const char *type, const char *params)
{
	rig_open_as(rig, type, params, false);
}

static inline void rig_close(struct rig *rig)
{
	disk_close(&rig->disk);
	blk_dev_unref(rig->base);
}

static inline void on_swapped(void *arg, int rc)
{
	struct rig *rig = arg;

	rig->done_count++;
	rig->rc = rc;
}

/* In the loop, as from main's. */
struct start {
	struct loop_work work;
	struct rig *rig;
	struct blk_dev *next;
	struct err err;
	int rc;
	bool ran;
};

static inline void start_run(struct loop_work *work)
{
	struct start *s = container_of(work, struct start, work);

	s->rc = blk_swap(s->rig->disk.dev, s->next, on_swapped, s->rig, &s->err);
	s->ran = true;
}

static inline int swap_start(struct rig *rig, struct blk_dev *next, struct err *reterr)
{
	struct start s = { .work.fn = start_run, .rig = rig, .next = next };

	loop_defer(rig->disk.loop, &s.work);
	while (!s.ran)
		loop_run_once(rig->disk.loop, true);
	if (reterr)
		*reterr = s.err;
	return s.rc;
}

static inline void swap_wait(struct rig *rig)
{
	while (!rig->done_count)
		loop_run_once(rig->disk.loop, true);
	assert_int_equal(rig->done_count, 1);
	rig->done_count = 0;
}

static inline struct blk_dev *node(const char *type, const char *params)
{
	struct blk_dev *dev;

	assert_int_equal(blk_dev_open(type, "next", params, &dev, NULL), 0);
	return dev;
}

/* ---- two data loops under load, and main ---- */

#define LOAD_DEPTH 16

struct load {
	struct loop *loop;
	struct blk_dev *dev;
	struct blk_chan *chan;
	struct load_req {
		struct blk_req req;
		struct load *load;
		struct iovec iov;
		char buf[512];
	} reqs[LOAD_DEPTH];
	uint64_t start_bytes; /* blocks of its own: memory is no place to race */
	uint32_t in_flight;
	_Atomic uint64_t ok, gone, other;
	_Atomic bool stop, idle;
};

static inline void load_submit(struct load_req *r)
{
	r->load->in_flight++;
	blk_submit(r->load->chan, &r->req);
}

static inline void load_done(struct blk_req *req)
{
	struct load_req *r = container_of(req, struct load_req, req);
	struct load *l = r->load;

	l->in_flight--;
	if (req->status == BLK_ST_OK)
		l->ok++;
	else if (req->status == BLK_ST_GONE)
		l->gone++;
	else
		l->other++;
	if (!l->stop)
		load_submit(r);
	else if (!l->in_flight)
		l->idle = true;
}

static inline void load_start(void *arg)
{
	struct load *l = arg;

	assert_int_equal(blk_chan_open(l->dev, l->loop, &l->chan, NULL), 0);
	for (int i = 0; i < LOAD_DEPTH; i++) {
		struct load_req *r = &l->reqs[i];

		r->load = l;
		r->iov = (struct iovec){ .iov_base = r->buf, .iov_len = 512 };
		r->req = (struct blk_req){ .op = i & 1 ? BLK_WRITE : BLK_READ,
					   .iov = &r->iov,
					   .iov_count = 1,
					   .offset_bytes = l->start_bytes + (uint64_t)i * 512,
					   .len_bytes = 512,
					   .done = load_done };
		load_submit(r);
	}
}

static inline void load_end(void *arg)
{
	struct load *l = arg;

	blk_chan_close(l->chan);
}

static inline void load_look(void *arg)
{
}

static inline void loads_progress(struct load *loads)
{
	for (int i = 0; i < 2; i++) {
		uint64_t seen = loads[i].ok + loads[i].gone;

		while (loads[i].ok + loads[i].gone < seen + 200)
			loop_call(loads[i].loop, load_look, NULL);
	}
}

static inline void loads_run(struct loop *main_loop, struct rig *rig)
{
	static struct load loads[2];

	memset(loads, 0, sizeof(loads));
	for (int i = 0; i < 2; i++) {
		struct loop_params lp = { .name = "data", .cpu = -1, .sq_count = 64 };

		assert_int_equal(loop_new(&lp, &loads[i].loop, NULL), 0);
		assert_int_equal(loop_thread_start(loads[i].loop, NULL), 0);
		loads[i].dev = rig->disk.dev;
		loads[i].start_bytes = (uint64_t)i << 19;
		loop_call(loads[i].loop, load_start, &loads[i]);
	}
	for (int n = 0; n < 50; n++) {
		struct blk_dev *next = node(n & 1 ? "sim" : "ram",
					    n & 1 ? "size=1M,delay-max-ns=200000" : "size=1M");

		assert_int_equal(swap_start(rig, next, NULL), 0);
		blk_dev_unref(next);
		swap_wait(rig);
		assert_int_equal(rig->rc, 0);
		loads_progress(loads);
	}
	assert_int_equal(loads[0].gone + loads[1].gone, 0);
	assert_int_equal(swap_start(rig, NULL, NULL), 0);
	swap_wait(rig);
	loads_progress(loads);
	for (int i = 0; i < 2; i++) {
		loads[i].stop = true;
		while (!loads[i].idle)
			loop_call(loads[i].loop, load_look, NULL);
		loop_call(loads[i].loop, load_end, &loads[i]);
		loop_free(loads[i].loop);
		assert_int_equal(loads[i].other, 0);
		assert_true(loads[i].gone > 0);
	}
}

#endif
