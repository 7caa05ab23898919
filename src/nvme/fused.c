/*
 * Compare (base 6.6), and the fused pair Compare and Write (base 4.2, 6.6).
 *
 *   compare: data --> scratch memory --> [fused: the pair's turn] --> read and compare, in steps
 *   equal:   the first half ends, the second is a Write; then the turn is given back
 *   not:     COMPARE_FAILURE, and the second half ends as ABORTED_FAILED_FUSED
 *
 * Pairs on a namespace have turns, from whichever queue and controller they come: so each is atomic
 * against the others. A Read or Write does not wait for them: its order against commands that are
 * under way is undefined. The turn is the second half's, since it ends last.
 */
#include <string.h>

#include "nvme/limits.h"
#include "nvme/rw.h"

#define STEP_BYTES (64u << 10)

/* nvme_cmd.exclusive */
enum {
	FUSED_PAIR = 1,
	FUSED_TURN = 2, /* the second half: it holds the turn */
};

/* nvme_cmd.vars */
enum {
	V_DONE, /* bytes compared */
};

/* ---- turns ---- */

static void compare_step(struct nvme_cmd *c);

static void turn_got(struct nvme_cmd *second)
{
	second->exclusive = FUSED_TURN;
	compare_step(second->fused);
}

static void turn_passed(struct loop_msg *msg)
{
	turn_got(container_of(msg, struct nvme_cmd, msg));
}

static void turn_take(struct nvme_cmd *second)
{
	struct nvme_ns *ns = second->nsq->ns;
	bool free;

	pthread_mutex_lock(&ns->lock);
	free = !ns->turn_holder;
	if (free)
		ns->turn_holder = second;
	else
		list_append(&ns->turn_waiters, &second->wait_node);
	pthread_mutex_unlock(&ns->lock);
	if (free)
		turn_got(second);
}

static void turn_give(struct nvme_cmd *second)
{
	struct nvme_ns *ns = second->nsq->ns;
	struct nvme_cmd *next = NULL;
	struct list *node;

	pthread_mutex_lock(&ns->lock);
	ASSERT(ns->turn_holder == second);
	node = list_pop(&ns->turn_waiters);
	if (node)
		next = list_entry(node, struct nvme_cmd, wait_node);
	ns->turn_holder = next;
	pthread_mutex_unlock(&ns->lock);
	if (!next)
		return;
	next->msg.fn = turn_passed;
	loop_post(next->mem->loop, &next->msg);
}

void nvme_fused_end(struct nvme_cmd *c, bool success)
{
	struct nvme_cmd *second = c->fused;
	bool turn = c->exclusive == FUSED_TURN;

	c->exclusive = 0;
	c->fused = NULL;
	if (turn)
		turn_give(c);
	if (!(c->row->flags & CMD_FUSE_FIRST))
		return;
	second->fused = NULL;
	if (success)
		nvme_write(second);
	else
		nvme_cmd_end(second, NVME_SC_ABORTED_FAILED_FUSED);
}

/* ---- Compare ---- */

/* Is what was read the same as the next of the data? */
static bool compare_next(struct nvme_cmd *c, const uint8_t *read, size_t len)
{
	uint8_t part[512];

	for (size_t at = 0; at < len; at += sizeof(part)) { /* a block is a multiple of 512 */
		if (!iov_cur_read(&c->data, part, sizeof(part)))
			UNREACHABLE();
		if (memcmp(part, read + at, sizeof(part)) != 0)
			return false;
	}
	return true;
}

static void compare_read(struct nvme_cmd *c, enum blk_status status)
{
	if (nvme_step_failed(c, status))
		return;
	if (!compare_next(c, c->buf, c->blk.len_bytes)) {
		nvme_cmd_end(c, NVME_SC_COMPARE_FAILURE);
		return;
	}
	c->vars[V_DONE] += c->blk.len_bytes;
	if (c->vars[V_DONE] == c->data_bytes)
		nvme_cmd_end(c, NVME_SC_SUCCESS); /* and the second half is next */
	else
		compare_step(c);
}

static void compare_step(struct nvme_cmd *c)
{
	uint64_t offset = (nvme_slba(c) << c->nsq->block_shift) + c->vars[V_DONE];
	uint64_t len = MIN(c->data_bytes - c->vars[V_DONE], (uint64_t)STEP_BYTES);

	nvme_scratch_blk(c, BLK_READ, 0, offset, 0, len, compare_read);
}

static void compare_scratch(struct nvme_cmd *c)
{
	c->vars[V_DONE] = 0;
	if (c->fused)
		turn_take(c->fused);
	else
		compare_step(c);
}

static void compare_data(struct nvme_cmd *c)
{
	nvme_scratch(c, MIN(c->data_bytes, (uint64_t)STEP_BYTES), compare_scratch);
}

/*
 * The halves must name the same blocks, no more than ACWU says. false: the first has ended, and the
 * second with it.
 */
static bool pair_ok(struct nvme_cmd *c)
{
	const struct nvme_cmd *w = c->fused;
	uint64_t len = (uint64_t)nvme_nlb(c) << c->nsq->block_shift;

	if (w->nsq != c->nsq || nvme_slba(w) != nvme_slba(c) || nvme_nlb(w) != nvme_nlb(c)) {
		nvme_cmd_end(c, NVME_SC_INVALID_FIELD);
		return false;
	}
	if (len > NVME_FUSED_BYTES_MAX) {
		nvme_cmd_end(c, NVME_SC_ATOMIC_UNIT_EXCEEDED);
		return false;
	}
	return true;
}

void nvme_compare(struct nvme_cmd *c)
{
	if (c->fused) {
		c->exclusive = FUSED_PAIR;
		c->fused->exclusive = FUSED_PAIR;
		if (!pair_ok(c))
			return;
	}
	if (!nvme_blocks_ok(c) || nvme_uncor_stops(c, nvme_slba(c), nvme_nlb(c)))
		return;
	nvme_data(c, (uint64_t)nvme_nlb(c) << c->nsq->block_shift, NVME_FROM_GUEST, compare_data);
}
