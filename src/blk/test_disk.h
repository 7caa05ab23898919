/* For the unit tests of this room: one loop, one node, one channel, and requests to wait for. */
#ifndef BLK_TEST_DISK_H
#define BLK_TEST_DISK_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "blk/blk_impl.h"

struct disk {
	struct loop *loop;
	struct blk_dev *dev;
	struct blk_chan *chan;
};

struct disk_req {
	struct blk_req req;
	struct iovec iov[8];
	bool done;
	uint32_t nth; /* place in the order of completions */
};

static uint32_t disk_completions;

static inline void disk_req_done(struct blk_req *req)
{
	struct disk_req *r = container_of(req, struct disk_req, req);

	assert_false(r->done);
	r->done = true;
	r->nth = disk_completions++;
}

static inline void disk_open(struct disk *d, const char *type, const char *params)
{
	struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };
	struct err err = { 0 };

	assert_int_equal(loop_new(&lp, &d->loop, &err), 0);
	if (blk_dev_open(type, "d0", params, &d->dev, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(blk_chan_open(d->dev, d->loop, &d->chan, &err), 0);
}

static inline void disk_close(struct disk *d)
{
	blk_chan_close(d->chan);
	blk_dev_unref(d->dev);
	loop_free(d->loop);
}

static inline void disk_start(struct disk *d, struct disk_req *r, enum blk_op op, uint32_t flags,
			      uint64_t off, uint64_t len, void *buf)
{
	memset(r, 0, sizeof(*r));
	r->req.op = (uint8_t)op;
	r->req.flags = (uint8_t)flags;
	r->req.offset_bytes = off;
	r->req.len_bytes = len;
	r->req.done = disk_req_done;
	r->iov[0] = (struct iovec){ .iov_base = buf, .iov_len = len };
	r->req.iov = r->iov;
	r->req.iov_count = buf ? 1 : 0;
	blk_submit(d->chan, &r->req);
	assert_false(r->done);
}

static inline enum blk_status disk_wait(struct disk *d, struct disk_req *r)
{
	while (!r->done)
		loop_run_once(d->loop, true);
	return (enum blk_status)r->req.status;
}

static inline enum blk_status disk_do(struct disk *d, enum blk_op op, uint32_t flags, uint64_t off,
				      uint64_t len, void *buf)
{
	struct disk_req r;

	disk_start(d, &r, op, flags, off, len, buf);
	return disk_wait(d, &r);
}

/* Page-aligned memory filled with a pattern of its own. */
static inline char *disk_buf(size_t len, unsigned int seed)
{
	char *buf = aligned_alloc(4096, (len + 4095) & ~4095ul);

	assert_non_null(buf);
	for (size_t i = 0; i < len; i++)
		buf[i] = (char)(i * 7 + i / 251 + seed);
	return buf;
}

static inline bool disk_all_zero(const char *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (buf[i])
			return false;
	return true;
}

/* Does fn abort (an ASSERT of ours)? In a child, silently. */
static inline void assert_aborts(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		close(2);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

#endif
