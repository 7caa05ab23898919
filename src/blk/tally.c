/*
 * See tally.h. One lock for all tallies, what they sum, and what channels look for: it is taken
 * when queues and channels come and go, and by main when it reads; never on the data path.
 *
 * The ring has one writer, the tally's loop, and one reader, main: head is the loop's, tail main's.
 */
#include "blk/tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/count.h"
#include "blk/blk_impl.h"
#include "blk/fine.h"

struct blk_tally {
	struct list node; /* tallies */
	char name[BLK_TALLY_NAME_BYTES];
	uint32_t queue;
	struct list chans;
	struct blk_stats closed; /* of channels that are gone */
	/* slow requests */
	uint32_t head, tail; /* atomic; modulo BLK_SLOW_RING they are places */
	uint64_t missed;     /* the loop's */
	uint64_t missed_told;
	bool posted; /* atomic: msg is under way */
	struct loop_msg msg;
	struct blk_slow ring[BLK_SLOW_RING];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list tallies = { &tallies, &tallies };

/* Written under the lock, by main; loops see the others once they see the threshold. */
static uint64_t slow_ns = UINT64_MAX;
static struct loop *slow_loop;
static const struct blk_slow_watcher *slow_watcher;

static void slow_on_msg(struct loop_msg *msg);

struct blk_tally *blk_tally_new(const char *name, uint32_t queue)
{
	struct blk_tally *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	snprintf(t->name, sizeof(t->name), "%s", name ? name : "");
	t->queue = queue;
	list_init(&t->chans);
	blk_stats_init(&t->closed);
	t->msg.fn = slow_on_msg;
	pthread_mutex_lock(&lock);
	list_append(&tallies, &t->node);
	pthread_mutex_unlock(&lock);
	return t;
}

void blk_tally_free(struct blk_tally *t)
{
	if (!t)
		return;
	ASSERT(list_empty(&t->chans) && !__atomic_load_n(&t->posted, __ATOMIC_ACQUIRE));
	pthread_mutex_lock(&lock);
	list_remove(&t->node);
	pthread_mutex_unlock(&lock);
	free(t);
}

/* The lock is held. */
static void notice_set(struct blk_chan *chan)
{
	uint64_t ns = __atomic_load_n(&chan->fine_on, __ATOMIC_RELAXED) ? 0
		      : chan->tally					? slow_ns
									: UINT64_MAX;

	__atomic_store_n(&chan->notice_ns, ns, __ATOMIC_RELEASE);
}

void blk_notice_update(struct blk_chan *chan)
{
	pthread_mutex_lock(&lock);
	notice_set(chan);
	pthread_mutex_unlock(&lock);
}

void blk_chan_tally(struct blk_chan *chan, struct blk_tally *t)
{
	ASSERT(!chan->tally && !chan->in_flight);
	pthread_mutex_lock(&lock);
	chan->tally = t;
	list_append(&t->chans, &chan->tally_node);
	notice_set(chan);
	pthread_mutex_unlock(&lock);
	if (chan->dev->impl->passes && chan->base)
		blk_chan_tally(chan->base, t);
}

void blk_tally_chan_close(struct blk_chan *chan)
{
	if (!chan->tally)
		return;
	pthread_mutex_lock(&lock);
	blk_stats_add_chan(&chan->tally->closed, chan);
	list_remove(&chan->tally_node);
	chan->tally = NULL;
	pthread_mutex_unlock(&lock);
}

void blk_tally_stats(const struct blk_tally *t, struct blk_stats *ret_stats)
{
	const struct blk_chan *chan;

	memset(ret_stats, 0, sizeof(*ret_stats));
	blk_stats_init(ret_stats);
	pthread_mutex_lock(&lock);
	blk_stats_add(ret_stats, &t->closed);
	list_for_each(chan, &t->chans, tally_node)
		blk_stats_add_chan(ret_stats, chan);
	pthread_mutex_unlock(&lock);
	blk_stats_complete(ret_stats);
}

/* ---- slow requests ---- */

static void slow_note(struct blk_tally *t, const struct blk_req *req, uint64_t ns)
{
	uint32_t head = t->head;

	if (head - __atomic_load_n(&t->tail, __ATOMIC_ACQUIRE) == BLK_SLOW_RING) {
		count_add(&t->missed, 1);
	} else {
		t->ring[head % BLK_SLOW_RING] = (struct blk_slow){
			.start_ns = req->start_ns,
			.took_ns = ns,
			.offset_bytes = req->offset_bytes,
			.len_bytes = req->len_bytes,
			.op = req->op,
			.status = req->status,
		};
		__atomic_store_n(&t->head, head + 1, __ATOMIC_RELEASE);
	}
	if (!__atomic_exchange_n(&t->posted, true, __ATOMIC_ACQ_REL))
		loop_post(slow_loop, &t->msg);
}

__attribute__((noinline)) void blk_notice(struct blk_chan *chan, const struct blk_req *req,
					  uint64_t ns)
{
	if (__atomic_load_n(&chan->fine_on, __ATOMIC_ACQUIRE))
		count_add(&chan->fine->count[req->op][blk_fine_bucket(ns)], 1);
	if (chan->tally && ns > __atomic_load_n(&slow_ns, __ATOMIC_ACQUIRE))
		slow_note(chan->tally, req, ns);
}

static void slow_on_msg(struct loop_msg *msg)
{
	struct blk_tally *t = container_of(msg, struct blk_tally, msg);
	uint32_t tail = t->tail;
	uint64_t missed;

	/* First, so that one noted during the look is another message. */
	__atomic_store_n(&t->posted, false, __ATOMIC_SEQ_CST);
	for (; tail != __atomic_load_n(&t->head, __ATOMIC_ACQUIRE); tail++) {
		slow_watcher->noted(t, t->name, t->queue, &t->ring[tail % BLK_SLOW_RING]);
		__atomic_store_n(&t->tail, tail + 1, __ATOMIC_RELEASE);
	}
	missed = count_get(&t->missed);
	if (missed != t->missed_told)
		slow_watcher->missed(missed - t->missed_told);
	t->missed_told = missed;
}

void blk_slow_watch(uint64_t threshold_ns, struct loop *main_loop,
		    const struct blk_slow_watcher *watcher)
{
	struct blk_tally *t;
	struct blk_chan *chan;

	pthread_mutex_lock(&lock);
	/* A message may be on its way still: who is told stays. */
	if (threshold_ns != UINT64_MAX) {
		slow_loop = main_loop;
		slow_watcher = watcher;
	}
	__atomic_store_n(&slow_ns, threshold_ns, __ATOMIC_RELEASE);
	list_for_each(t, &tallies, node)
		list_for_each(chan, &t->chans, tally_node)
			notice_set(chan);
	pthread_mutex_unlock(&lock);
}
