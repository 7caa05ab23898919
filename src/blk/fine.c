/*
 * See fine.h. A channel has its counters from when it is first asked for them to its end; then they
 * are added to the node's. A node that passes its requests on sums what its bases count.
 */
#include "blk/fine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/count.h"
#include "base/num.h"
#include "blk/blk_impl.h"

uint32_t blk_fine_bucket(uint64_t ns)
{
	uint32_t log2 = 63 - (uint32_t)__builtin_clzll(ns | 1), shift;

	if (log2 < BLK_FINE_SHIFT)
		return (uint32_t)ns;
	if (log2 >= BLK_HIST_BUCKETS)
		return BLK_FINE_BUCKETS - 1;
	shift = log2 - BLK_FINE_SHIFT;
	return (shift << BLK_FINE_SHIFT) + (uint32_t)(ns >> shift);
}

uint64_t blk_fine_ns(uint32_t bucket)
{
	uint32_t shift = bucket >> BLK_FINE_SHIFT;

	if (!shift)
		return bucket;
	shift--;
	return (uint64_t)(bucket - (shift << BLK_FINE_SHIFT)) << shift;
}

/* sign 1 or -1. from NULL: nothing. */
static void fine_add(struct blk_fine *sum, const struct blk_fine *from, uint64_t sign)
{
	for (int op = 0; from && op < BLK_OP_COUNT; op++)
		for (uint32_t i = 0; i < BLK_FINE_BUCKETS; i++)
			if (count_get(&from->count[op][i]))
				sum->count[op][i] += sign * count_get(&from->count[op][i]);
}
#define PLUS  1ull
#define MINUS UINT64_MAX

/* ---- channels: dev->chans_lock is held ---- */

bool blk_fine_chan_set(struct blk_chan *chan, bool on)
{
	if (on && !chan->fine)
		chan->fine = calloc(1, sizeof(*chan->fine));
	__atomic_store_n(&chan->fine_on, on && chan->fine, __ATOMIC_RELEASE);
	blk_notice_update(chan);
	return chan->fine_on == on;
}

void blk_fine_chan_close(struct blk_chan *chan)
{
	if (chan->fine && chan->dev->fine.closed)
		fine_add(chan->dev->fine.closed, chan->fine, PLUS);
	free(chan->fine);
	chan->fine = NULL;
}

/* ---- nodes ---- */

static bool fine_room(struct blk_dev *dev)
{
	struct blk_dev_fine *f = &dev->fine;

	if (!f->closed)
		f->closed = calloc(1, sizeof(*f->closed));
	if (!f->base_before && dev->impl->passes)
		f->base_before = calloc(1, sizeof(*f->base_before));
	return f->closed && (f->base_before || !dev->impl->passes);
}

static bool chans_set(struct blk_dev *dev, bool on)
{
	struct blk_chan *chan;
	bool all = true;

	pthread_mutex_lock(&dev->chans_lock);
	dev->fine.on = on;
	list_for_each(chan, &dev->chans, node)
		all &= blk_fine_chan_set(chan, on);
	pthread_mutex_unlock(&dev->chans_lock);
	return all;
}

int blk_dev_fine_set(struct blk_dev *dev, bool on, struct err *reterr)
{
	int rc = 0;

	if (on && !fine_room(dev))
		return err_set(reterr, -ENOMEM, "%s: no memory for a histogram", dev->name);
	if (!chans_set(dev, on))
		rc = err_set(reterr, -ENOMEM, "%s: no memory for a channel's histogram", dev->name);
	if (rc == 0 && dev->impl->passes && dev->base)
		rc = blk_dev_fine_set(dev->base, on, reterr);
	if (rc < 0)
		chans_set(dev, false);
	return rc;
}

static void fine_sum(const struct blk_dev *dev, struct blk_fine *sum)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)&dev->chans_lock;
	struct blk_chan *chan;

	pthread_mutex_lock(lock);
	fine_add(sum, dev->fine.closed, PLUS);
	list_for_each(chan, &dev->chans, node)
		fine_add(sum, chan->fine, PLUS);
	pthread_mutex_unlock(lock);
	if (!dev->impl->passes)
		return;
	if (dev->base)
		fine_sum(dev->base, sum);
	fine_add(sum, dev->fine.base_before, MINUS);
}

void blk_dev_fine(const struct blk_dev *dev, struct blk_fine *ret_fine)
{
	memset(ret_fine, 0, sizeof(*ret_fine));
	fine_sum(dev, ret_fine);
}

void blk_fine_rebase(struct blk_dev *dev, struct blk_dev *base)
{
	struct blk_dev_fine *f = &dev->fine;

	if (!f->closed) /* nobody ever asked */
		return;
	if (!f->base_before) /* it has just become a node that passes */
		f->base_before = calloc(1, sizeof(*f->base_before));
	if (!f->base_before)
		return;
	if (dev->base) {
		pthread_mutex_lock(&dev->chans_lock);
		fine_sum(dev->base, f->closed);
		fine_add(f->closed, f->base_before, MINUS);
		pthread_mutex_unlock(&dev->chans_lock);
		blk_dev_fine_set(dev->base, false, NULL);
	}
	memset(f->base_before, 0, sizeof(*f->base_before));
	if (base)
		fine_sum(base, f->base_before);
	if (base && f->on)
		blk_dev_fine_set(base, true, NULL);
}

void blk_fine_free(struct blk_dev *dev)
{
	free(dev->fine.closed);
	free(dev->fine.base_before);
}
