/*
 * The one io_uring of a loop.
 *
 * It is made disabled on the main thread, so that entries may be queued before the loop runs, and
 * enabled by the thread that will submit: SINGLE_ISSUER binds it to that thread. With
 * DEFER_TASKRUN completions are posted only while that thread is in io_uring_enter; the kernel
 * says with IORING_SQ_TASKRUN that there is a reason to go.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/num.h"
#include "loop_impl.h"

#define SQ_COUNT_DEFAULT 1024
#define CQ_PER_SQ	 8
#define TABLE_SLOTS	 1024
#define SQ_EARLY_COUNT	 4

/* From what we want to what any kernel has; the next is tried when one gives EINVAL. */
static const uint32_t setup_flags[] = {
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL |
		IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
	IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
	IORING_SETUP_CQSIZE,
	0,
};

static int sysctl_io_uring_disabled(void)
{
	FILE *f = fopen("/proc/sys/kernel/io_uring_disabled", "re");
	int c = f ? fgetc(f) : EOF;

	if (f)
		fclose(f);
	return c >= '0' && c <= '9' ? c - '0' : 0;
}

static int uring_init_failed(const struct loop *loop, int code, uint32_t sq_count,
			     struct err *reterr)
{
	int disabled = sysctl_io_uring_disabled();

	if (code == -EPERM && disabled)
		return err_set(reterr, code,
			       "loop %s: io_uring is refused: kernel.io_uring_disabled is %d "
			       "(expected 0)",
			       loop->name, disabled);
	if (code == -EPERM || code == -ENOSYS)
		return err_set(reterr, code,
			       "loop %s: io_uring is refused: %s; a seccomp profile (a container's)"
			       " forbids io_uring_setup, or the kernel is older than 5.11",
			       loop->name, strerror(-code));
	return err_set(reterr, code, "loop %s: io_uring_setup with %u entries: %s", loop->name,
		       sq_count, strerror(-code));
}

int uring_init(struct loop *loop, uint32_t sq_count, struct err *reterr)
{
	int r = -EINVAL;

	if (!sq_count)
		sq_count = SQ_COUNT_DEFAULT;
	for (size_t i = 0; r == -EINVAL && i < ARRAY_SIZE(setup_flags); i++) {
		struct io_uring_params p = {
			.flags = setup_flags[i],
			.cq_entries = sq_count * CQ_PER_SQ,
		};

		r = io_uring_queue_init_params(sq_count, &loop->ring, &p);
	}
	if (r < 0)
		return uring_init_failed(loop, r, sq_count, reterr);
	if (!(loop->ring.features & IORING_FEAT_EXT_ARG)) {
		io_uring_queue_exit(&loop->ring);
		return err_set(reterr, -ENOSYS,
			       "loop %s: the kernel's io_uring is too old (5.11 expected)",
			       loop->name);
	}
	return 0;
}

void uring_fini(struct loop *loop)
{
	io_uring_queue_exit(&loop->ring);
	free(loop->files.free_slots);
	free(loop->bufs.free_slots);
	free(loop->buf_slots);
}

int uring_claim(struct loop *loop)
{
	if (loop->claimed)
		return 0;
	/* liburing 2.3 declares io_uring_enable_rings, but its shared library does not have it. */
	if ((loop->ring.flags & IORING_SETUP_R_DISABLED) &&
	    syscall(__NR_io_uring_register, loop->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
		    0) < 0)
		return -errno;
	loop->claimed = true;
	atomic_store_explicit(&loop->tid, gettid(), memory_order_relaxed);
	/* Saves a look-up an entry; it works as well without. */
	io_uring_register_ring_fd(&loop->ring);
	return 0;
}

/* What may come back from an io_uring_enter that will be repeated. */
static void uring_check_entered(int r)
{
	ASSERT(r >= 0 || r == -ETIME || r == -EINTR || r == -EAGAIN || r == -EBUSY || r == -ENOMEM);
}

void uring_enter(struct loop *loop)
{
	loop_count(&loop->enters, 1);
	uring_check_entered(io_uring_submit_and_get_events(&loop->ring));
}

void uring_wait(struct loop *loop, uint64_t timeout_ns)
{
	struct __kernel_timespec ts = {
		.tv_sec = (int64_t)(timeout_ns / 1000000000),
		.tv_nsec = (int64_t)(timeout_ns % 1000000000),
	};
	struct io_uring_cqe *cqe;

	loop_count(&loop->enters, 1);
	uring_check_entered(io_uring_submit_and_wait_timeout(
		&loop->ring, &cqe, 1, timeout_ns == LOOP_NEVER_NS ? NULL : &ts, NULL));
}

/* Those there when it starts, no more: what they cause is left to the next iteration. */
void uring_reap(struct loop *loop)
{
	struct io_uring_cq *cq = &loop->ring.cq;
	unsigned int head = *cq->khead;
	unsigned int tail = io_uring_smp_load_acquire(cq->ktail);

	while (head != tail) {
		struct io_uring_cqe *cqe = &cq->cqes[head & cq->ring_mask];
		struct loop_op *op = (struct loop_op *)(uintptr_t)cqe->user_data;
		int res = cqe->res;
		uint32_t flags = cqe->flags;

		/* Given back first: done may submit, which may need the room. */
		io_uring_smp_store_release(cq->khead, ++head);
		if (op)
			op->done(op, res, flags);
	}
}

struct io_uring_sqe *loop_sqe(struct loop *loop)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);

	/* A full queue: with SUBMIT_ALL the kernel takes them all, but for want of memory. */
	while (unlikely(!sqe)) {
		ASSERT(uring_claim(loop) == 0);
		loop_count(&loop->enters, 1);
		uring_check_entered(io_uring_submit(&loop->ring));
		sqe = io_uring_get_sqe(&loop->ring);
	}
	return sqe;
}

void loop_sqe_early(struct loop *loop)
{
	if (io_uring_sq_ready(&loop->ring) < SQ_EARLY_COUNT || !loop->claimed)
		return;
	loop_count(&loop->enters, 1);
	uring_check_entered(io_uring_submit(&loop->ring));
}

void loop_sqe_set_op(struct io_uring_sqe *sqe, struct loop_op *op)
{
	io_uring_sqe_set_data(sqe, op);
}

void loop_op_cancel(struct loop *loop, struct loop_op *op)
{
	struct io_uring_sqe *sqe = loop_sqe(loop);

	io_uring_prep_cancel(sqe, op, 0);
	loop_sqe_set_op(sqe, NULL);
}

/* ---- registered tables ---- */

/* A slot of t, made by reg at the first call; -ENOTSUP, -ENOSPC. */
static int table_take(struct loop *loop, struct loop_table *t,
		      int (*reg)(struct io_uring *ring, unsigned int count), uint32_t count)
{
	if (!t->tried) {
		t->tried = true;
		t->free_slots = malloc(count * sizeof(*t->free_slots));
		if (t->free_slots && reg(&loop->ring, count) < 0) {
			free(t->free_slots);
			t->free_slots = NULL;
		}
		for (uint32_t i = 0; t->free_slots && i < count; i++)
			t->free_slots[t->free_count++] = (int)(count - 1 - i);
	}
	if (!t->free_slots)
		return -ENOTSUP;
	if (!t->free_count)
		return -ENOSPC;
	return t->free_slots[--t->free_count];
}

static void table_give(struct loop_table *t, int slot)
{
	t->free_slots[t->free_count++] = slot;
}

int loop_file_register(struct loop *loop, int fd)
{
	struct rlimit limit = { .rlim_cur = TABLE_SLOTS };
	int slot, r;

	loop_assert_owner(loop);
	getrlimit(RLIMIT_NOFILE, &limit); /* the kernel refuses a larger table */
	slot = table_take(loop, &loop->files, io_uring_register_files_sparse,
			  (uint32_t)MIN(limit.rlim_cur, (rlim_t)TABLE_SLOTS));
	if (slot < 0)
		return slot;
	r = io_uring_register_files_update(&loop->ring, (unsigned int)slot, &fd, 1);
	if (r == 1)
		return slot;
	table_give(&loop->files, slot);
	return r < 0 ? r : -EIO;
}

void loop_file_unregister(struct loop *loop, int slot)
{
	int none = -1;

	loop_assert_owner(loop);
	io_uring_register_files_update(&loop->ring, (unsigned int)slot, &none, 1);
	table_give(&loop->files, slot);
}

/* Pages are pinned and accounted by registration: queues that name the same range share one. */
static struct loop_buf *buf_find(struct loop *loop, void *base, size_t len_bytes)
{
	for (int i = 0; loop->buf_slots && i < TABLE_SLOTS; i++) {
		struct loop_buf *b = &loop->buf_slots[i];

		if (b->refs && b->base == base && b->len_bytes == len_bytes)
			return b;
	}
	return NULL;
}

int loop_buf_register(struct loop *loop, void *base, size_t len_bytes)
{
	struct iovec iov = { base, len_bytes };
	struct loop_buf *b;
	__u64 tag = 0;
	int slot, r;

	loop_assert_owner(loop);
	b = buf_find(loop, base, len_bytes);
	if (b) {
		b->refs++;
		return (int)(b - loop->buf_slots);
	}
	if (!loop->buf_slots)
		loop->buf_slots = calloc(TABLE_SLOTS, sizeof(*loop->buf_slots));
	if (!loop->buf_slots)
		return -ENOMEM;
	slot = table_take(loop, &loop->bufs, io_uring_register_buffers_sparse, TABLE_SLOTS);
	if (slot < 0)
		return slot;
	r = io_uring_register_buffers_update_tag(&loop->ring, (unsigned int)slot, &iov, &tag, 1);
	if (r == 1) {
		loop->buf_slots[slot] = (struct loop_buf){ base, len_bytes, 1 };
		return slot;
	}
	table_give(&loop->bufs, slot);
	return r < 0 ? r : -EIO;
}

void loop_buf_unregister(struct loop *loop, int slot)
{
	struct iovec none = { NULL, 0 };
	__u64 tag = 0;

	loop_assert_owner(loop);
	ASSERT(loop->buf_slots[slot].refs);
	if (--loop->buf_slots[slot].refs)
		return;
	io_uring_register_buffers_update_tag(&loop->ring, (unsigned int)slot, &none, &tag, 1);
	table_give(&loop->bufs, slot);
}
