/*
 * The graph: nodes are opened, referenced, resized and closed on main; channels come and go on
 * their loops. A channel does not hold a reference: its opener does, and the node asserts that
 * no channel is left when it goes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "blk/blk_impl.h"
#include "blk/filter/bounce.h"
#include "blk/filter/swap_impl.h"

size_t blk_dev_bytes(const struct blk_impl *impl)
{
	return impl->filter ? impl->dev_bytes : MAX(impl->dev_bytes, blk_swap_impl.dev_bytes);
}

size_t blk_chan_bytes(const struct blk_impl *impl)
{
	return num_round_up(impl->filter ? impl->chan_bytes
					 : MAX(impl->chan_bytes, blk_swap_impl.chan_bytes),
			    64);
}

static void dev_free(struct blk_dev *dev)
{
	if (dev->impl->close)
		dev->impl->close(dev);
	blk_dev_unref(blk_dev_rebase(dev, NULL));
	blk_fine_free(dev);
	pthread_mutex_destroy(&dev->chans_lock);
	pthread_mutex_destroy(&dev->shape_lock);
	free(dev->name);
	free(dev);
}

/* ---- a node on another ---- */

void blk_dev_resize_to(struct blk_dev *dev, uint64_t size_bytes)
{
	struct blk_listener *l, *next;

	if (size_bytes == dev->caps.size_bytes)
		return;
	__atomic_store_n(&dev->caps.size_bytes, size_bytes, __ATOMIC_RELAXED);
	list_for_each_safe(l, next, &dev->listeners, node)
		l->resized(l);
}

static void dev_on_base_resized(struct blk_listener *l)
{
	struct blk_dev *dev = container_of(l, struct blk_dev, base_listener);

	blk_dev_resize_to(dev, dev->impl->resized ? dev->impl->resized(dev)
						  : dev->base->caps.size_bytes);
}

struct blk_dev *blk_dev_rebase(struct blk_dev *dev, struct blk_dev *base)
{
	struct blk_dev *old = dev->base;

	if (dev->impl->passes) {
		blk_stats_rebase(dev, base);
		blk_fine_rebase(dev, base);
	}
	blk_dev_unlisten(&dev->base_listener);
	dev->base = base;
	if (base)
		blk_dev_listen(base, &dev->base_listener);
	return old;
}

static struct blk_dev *dev_new(const struct blk_impl *impl, const char *name)
{
	struct blk_dev *dev = calloc(1, blk_dev_bytes(impl));

	if (!dev)
		return NULL;
	dev->name = strdup(name);
	if (!dev->name) {
		free(dev);
		return NULL;
	}
	dev->impl = impl;
	dev->ref_count = 1;
	list_init(&dev->listeners);
	list_init(&dev->chans);
	blk_stats_init(&dev->closed_stats);
	list_init(&dev->base_listener.node);
	dev->base_listener.resized = dev_on_base_resized;
	pthread_mutex_init(&dev->chans_lock, NULL);
	pthread_mutex_init(&dev->shape_lock, NULL);
	return dev;
}

static int dev_open_with(const struct blk_impl *impl, const char *name, void *values,
			 struct blk_dev *base, struct blk_dev **ret_dev, struct err *reterr)
{
	struct blk_dev *dev = dev_new(impl, name);
	int r;

	if (!dev)
		return err_set(reterr, -ENOMEM, "no memory");
	dev->can_map = base ? base->can_map : impl->map != NULL;
	if (base) {
		blk_dev_rebase(dev, blk_dev_ref(base));
		dev->caps = base->caps;
	}
	r = impl->open ? impl->open(dev, values, reterr) : 0;
	if (r >= 0)
		r = blk_caps_check(&dev->caps, reterr);
	if (r < 0) {
		dev_free(dev);
		return r;
	}
	*ret_dev = dev;
	return 0;
}

static const struct opts_table no_params = { .what = "block device" };

int blk_dev_open_on(const char *type, const char *name, const char *params, struct blk_dev *base,
		    struct blk_dev **ret_dev, struct err *reterr)
{
	const struct blk_impl *impl = blk_impl_find(type);
	const struct opts_table *table;
	void *values;
	int r;

	if (!impl)
		return err_set(reterr, -ENOENT, "no block device type \"%s\"", type);
	if (impl->filter != !!base)
		return err_set(reterr, -EINVAL, "%s %s: the type %s", type, name,
			       base ? "stands alone" : "needs a base");
	table = impl->params ? impl->params : &no_params;
	values = calloc(1, impl->params_bytes + 1);
	if (!values)
		return err_set(reterr, -ENOMEM, "%s %s: no memory", type, name);
	r = opts_defaults(table, values, reterr);
	if (r >= 0 && params)
		r = opts_parse(table, values, params, reterr);
	if (r >= 0)
		r = dev_open_with(impl, name, values, base, ret_dev, reterr);
	if (r < 0)
		r = err_prefix(reterr, r, "%s %s", type, name);
	opts_free(table, values);
	free(values);
	return r;
}

int blk_dev_open(const char *type, const char *name, const char *params, struct blk_dev **ret_dev,
		 struct err *reterr)
{
	return blk_dev_open_on(type, name, params, NULL, ret_dev, reterr);
}

struct blk_dev *blk_dev_ref(struct blk_dev *dev)
{
	dev->ref_count++;
	return dev;
}

void blk_dev_unref(struct blk_dev *dev)
{
	if (!dev)
		return;
	ASSERT(dev->ref_count);
	if (--dev->ref_count)
		return;
	ASSERT(list_empty(&dev->chans));
	ASSERT(list_empty(&dev->listeners));
	dev_free(dev);
}

void blk_dev_named(struct blk_dev *dev, const char *name)
{
	if (dev->impl->named)
		dev->impl->named(dev, name);
}

const char *blk_dev_name(const struct blk_dev *dev)
{
	return dev->name;
}

const struct blk_caps *blk_dev_caps(const struct blk_dev *dev)
{
	return &dev->caps;
}

int blk_dev_rescan(struct blk_dev *dev, struct err *reterr)
{
	uint64_t size;
	int r;

	if (!dev->impl->rescan)
		return dev->base ? blk_dev_rescan(dev->base, reterr) : 0;
	r = dev->impl->rescan(dev, &size, reterr);
	if (r < 0)
		return err_prefix(reterr, r, "%s", dev->name);
	if (size % dev->caps.block_bytes)
		return err_set(reterr, -EINVAL,
			       "%s: new size %llu is not a multiple of the block size %u",
			       dev->name, (unsigned long long)size, dev->caps.block_bytes);
	blk_dev_resize_to(dev, size);
	return 0;
}

/* What has the size of a node that only passes requests on. */
static struct blk_dev *dev_behind(struct blk_dev *dev)
{
	while (dev->base && dev->impl->passes)
		dev = dev->base;
	return dev;
}

int blk_dev_resize_check(struct blk_dev *dev, uint64_t size_bytes, bool may_shrink,
			 struct err *reterr)
{
	const struct blk_dev *d = dev_behind(dev);

	if (!d->impl->resize)
		return err_set(reterr, -EOPNOTSUPP, "%s: its size (%llu bytes) cannot be changed",
			       dev->name, (unsigned long long)dev->caps.size_bytes);
	if (!size_bytes || size_bytes % d->caps.block_bytes || size_bytes > INT64_MAX)
		return err_set(reterr, -EINVAL,
			       "%s: expected a multiple of the block size %u, got %llu bytes",
			       dev->name, d->caps.block_bytes, (unsigned long long)size_bytes);
	if (size_bytes < d->caps.size_bytes && !may_shrink)
		return err_set(reterr, -EINVAL,
			       "%s: expected at least its present size, %llu bytes, got %llu: what "
			       "is beyond the new end would be lost; force allows it",
			       dev->name, (unsigned long long)d->caps.size_bytes,
			       (unsigned long long)size_bytes);
	return 0;
}

int blk_dev_resize(struct blk_dev *dev, uint64_t size_bytes, bool may_shrink, struct err *reterr)
{
	struct blk_dev *d = dev_behind(dev);
	int r = blk_dev_resize_check(dev, size_bytes, may_shrink, reterr);

	if (r == 0)
		r = d->impl->resize(d, size_bytes, reterr);
	return r < 0 ? r : blk_dev_rescan(d, reterr);
}

/* A job may use the node as what it is until dev_job_leave. NULL: it is becoming another. */
static const struct blk_impl *dev_job_enter(struct blk_dev *dev)
{
	const struct blk_impl *impl;

	pthread_mutex_lock(&dev->shape_lock);
	impl = dev->inserting ? NULL : dev->impl;
	dev->jobs += impl != NULL;
	pthread_mutex_unlock(&dev->shape_lock);
	return impl;
}

static void dev_job_leave(struct blk_dev *dev)
{
	pthread_mutex_lock(&dev->shape_lock);
	if (!--dev->jobs && dev->idle_insert)
		blk_insert_idle(dev->idle_insert);
	pthread_mutex_unlock(&dev->shape_lock);
}

int blk_dev_allocate(struct blk_dev *dev, uint64_t offset_bytes, uint64_t len_bytes,
		     uint64_t more_bytes)
{
	const struct blk_impl *impl = dev_job_enter(dev);
	int r;

	if (!impl)
		return -EBUSY;
	r = impl->allocate ? impl->allocate(dev, offset_bytes, len_bytes, more_bytes) : -EOPNOTSUPP;
	dev_job_leave(dev);
	return r;
}

void blk_dev_allocate_undo(struct blk_dev *dev)
{
	const struct blk_impl *impl = dev_job_enter(dev);

	if (!impl)
		return;
	if (impl->allocate_undo)
		impl->allocate_undo(dev);
	dev_job_leave(dev);
}

bool blk_dev_can_map(const struct blk_dev *dev)
{
	return dev->can_map;
}

static int dev_map_impl(struct blk_dev *dev, uint64_t offset_bytes, uint64_t end_bytes,
			uint64_t *ret_end_bytes, bool *ret_mapped)
{
	const struct blk_impl *impl = dev_job_enter(dev);
	int r;

	if (!impl)
		return -EOPNOTSUPP;
	r = impl->map(dev, offset_bytes, end_bytes, ret_end_bytes, ret_mapped);
	dev_job_leave(dev);
	return r;
}

int blk_dev_map(struct blk_dev *dev, uint64_t offset_bytes, uint64_t end_bytes,
		uint64_t *ret_end_bytes, bool *ret_mapped)
{
	uint64_t block_bytes = dev->caps.block_bytes, end;
	bool mapped;
	int r;

	if (!dev->impl->map)
		return dev->base ? blk_dev_map(dev->base, offset_bytes, end_bytes, ret_end_bytes,
					       ret_mapped)
				 : -EOPNOTSUPP;
	if (offset_bytes >= end_bytes || (offset_bytes | end_bytes) & (block_bytes - 1) ||
	    end_bytes > blk_size_bytes(dev))
		return -EINVAL;
	r = dev_map_impl(dev, offset_bytes, end_bytes, &end, &mapped);
	if (r < 0)
		return r;
	/* A block that is mapped in part is mapped. */
	end = mapped ? num_round_up(MIN(end, end_bytes), block_bytes)
		     : num_round_down(MIN(end, end_bytes), block_bytes);
	if (end <= offset_bytes) {
		end = offset_bytes + block_bytes;
		mapped = true;
	}
	*ret_end_bytes = end;
	*ret_mapped = mapped;
	return 0;
}

void blk_dev_listen(struct blk_dev *dev, struct blk_listener *l)
{
	list_append(&dev->listeners, &l->node);
}

struct blk_listener *blk_dev_listener(const struct blk_dev *dev,
				      void (*resized)(struct blk_listener *l))
{
	struct blk_listener *l;

	list_for_each(l, &dev->listeners, node)
		if (l->resized == resized)
			return l;
	return NULL;
}

void blk_dev_unlisten(struct blk_listener *l)
{
	list_remove(&l->node);
}

/* ---- channels ---- */

static uint32_t caps_op_mask(const struct blk_caps *c)
{
	uint32_t mask = 1u << BLK_READ | 1u << BLK_FLUSH;

	if (c->read_only)
		return mask;
	return mask | 1u << BLK_WRITE | (uint32_t)c->discard << BLK_DISCARD |
	       (uint32_t)c->write_zeroes << BLK_WRITE_ZEROES |
	       (uint32_t)c->secure_erase << BLK_SECURE_ERASE;
}

static void chan_init(struct blk_chan *chan, struct blk_dev *dev, struct loop *loop)
{
	blk_stats_init(&chan->stats);
	chan->dev = dev;
	chan->loop = loop;
	chan->notice_ns = UINT64_MAX;
	chan->block_mask = dev->caps.block_bytes - 1;
	chan->op_mask = caps_op_mask(&dev->caps);
	/* UNMAP is a hint that may always be given */
	chan->flag_mask =
		BLK_UNMAP | (dev->caps.fua ? BLK_FUA : 0) | (dev->caps.pi_type ? BLK_PI : 0);
}

static void chan_list(struct blk_chan *chan)
{
	pthread_mutex_lock(&chan->dev->chans_lock);
	list_append(&chan->dev->chans, &chan->node);
	if (chan->dev->fine.on)
		blk_fine_chan_set(chan, true);
	pthread_mutex_unlock(&chan->dev->chans_lock);
}

void blk_chan_enter(struct blk_chan *chan, struct blk_dev *dev, struct loop *loop)
{
	chan_init(chan, dev, loop);
	chan->foreign = true;
	chan_list(chan);
}

void blk_chan_leave(struct blk_chan *chan)
{
	struct blk_dev *dev = chan->dev;

	ASSERT(!chan->in_flight);
	blk_tally_chan_close(chan);
	pthread_mutex_lock(&dev->chans_lock);
	blk_stats_close(chan);
	blk_fine_chan_close(chan);
	list_remove(&chan->node);
	pthread_mutex_unlock(&dev->chans_lock);
}

void blk_chan_bounce_free(struct blk_chan *chan)
{
	bounce_free(chan->bounce);
	chan->bounce = NULL;
}

static int chan_open_locked(struct blk_dev *dev, struct loop *loop, struct blk_chan **ret_chan,
			    struct err *reterr)
{
	size_t bytes = blk_chan_bytes(dev->impl);
	struct blk_chan *chan = aligned_alloc(64, bytes);
	int r = 0;

	if (!chan)
		return err_set(reterr, -ENOMEM, "%s: no memory for a channel", dev->name);
	memset(chan, 0, bytes);
	chan_init(chan, dev, loop);
	chan->submit = dev->impl->submit;
	chan->cancel = dev->impl->cancel;
	chan->memory_mask = dev->caps.mem_align - 1;
	chan->at_once = dev->impl->at_once;
	ASSERT(!chan->at_once || !chan->memory_mask);
	if (dev->impl->filter && !dev->impl->passes)
		r = blk_chan_open(dev->base, loop, &chan->base, reterr);
	chan->bare = dev->inserting;
	if (chan->bare)
		r = blk_insert_chan_open(chan, reterr);
	else if (r == 0 && dev->impl->chan_open)
		r = dev->impl->chan_open(chan, reterr);
	if (r < 0) {
		if (!dev->impl->passes)
			blk_chan_close(chan->base);
		free(chan);
		return err_prefix(reterr, r, "%s", dev->name);
	}
	chan_list(chan);
	*ret_chan = chan;
	return 0;
}

int blk_chan_open(struct blk_dev *dev, struct loop *loop, struct blk_chan **ret_chan,
		  struct err *reterr)
{
	int r;

	pthread_mutex_lock(&dev->shape_lock);
	r = chan_open_locked(dev, loop, ret_chan, reterr);
	pthread_mutex_unlock(&dev->shape_lock);
	return r;
}

int blk_chan_buffers_set(struct blk_chan *chan, const struct iovec *regions, uint32_t count,
			 struct err *reterr)
{
	const struct blk_dev *dev = chan->dev;
	int r = 0;

	if (chan->bare)
		return 0;
	if (dev->impl->buffers_set)
		r = dev->impl->buffers_set(chan, regions, count, reterr);
	else if (chan->base)
		r = blk_chan_buffers_set(chan->base, regions, count, reterr);
	return r < 0 ? err_prefix(reterr, r, "%s", dev->name) : 0;
}

void blk_chan_close(struct blk_chan *chan)
{
	struct blk_dev *dev;

	if (!chan)
		return;
	ASSERT(!chan->in_flight);
	dev = chan->dev;
	pthread_mutex_lock(&dev->shape_lock);
	if (!(chan->link && blk_insert_chan_close(chan))) {
		if (dev->impl->chan_close)
			dev->impl->chan_close(chan);
		if (!dev->impl->passes)
			blk_chan_close(chan->base);
	}
	bounce_free(chan->bounce);
	blk_chan_leave(chan);
	pthread_mutex_unlock(&dev->shape_lock);
	free(chan);
}
