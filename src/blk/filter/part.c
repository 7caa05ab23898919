/*
 * part: a range of a node. With a length it never grows beyond that, without it reaches to the
 * base's end and follows it. What the base loses at its end, the part loses.
 */
#include "blk/filter/part.h"

#include <errno.h>
#include <stdio.h>

#include "base/num.h"
#include "blk/filter/forward.h"

struct part_params {
	uint64_t start_bytes, length_bytes;
};

struct part_dev {
	struct blk_dev dev;
	struct part_params params;
};

static const struct opts_row part_rows[] = {
	{ .name = "start",
	  .type = OPTS_SIZE,
	  .offset = offsetof(struct part_params, start_bytes),
	  .min = 0,
	  .max = INT64_MAX,
	  .def = "0",
	  .help = "where it begins on the base" },
	{ .name = "length",
	  .type = OPTS_SIZE,
	  .offset = offsetof(struct part_params, length_bytes),
	  .min = 0,
	  .max = INT64_MAX,
	  .def = "0",
	  .help = "how long it is, 0: to the base's end" },
};
static const struct opts_table part_table = { "part", part_rows, ARRAY_SIZE(part_rows) };

static struct part_dev *part_of(const struct blk_dev *dev)
{
	return container_of(dev, struct part_dev, dev);
}

static uint64_t part_size(struct blk_dev *dev)
{
	const struct part_params *p = &part_of(dev)->params;
	uint64_t base_bytes = blk_size_bytes(dev->base);
	uint64_t rest = base_bytes > p->start_bytes ? base_bytes - p->start_bytes : 0;

	return p->length_bytes ? MIN(rest, p->length_bytes) : rest;
}

static int part_check(const struct part_params *p, const struct blk_dev *base, struct err *reterr)
{
	uint64_t size = base->caps.size_bytes;
	uint32_t block = base->caps.block_bytes;

	if (p->start_bytes % block)
		return err_set(reterr, -EINVAL,
			       "start=%llu: expected a multiple of %s's block size, %u",
			       (unsigned long long)p->start_bytes, base->name, block);
	if (p->length_bytes % block)
		return err_set(reterr, -EINVAL,
			       "length=%llu: expected a multiple of %s's block size, %u",
			       (unsigned long long)p->length_bytes, base->name, block);
	if (p->start_bytes >= size)
		return err_set(reterr, -ERANGE, "start=%llu: %s has %llu bytes",
			       (unsigned long long)p->start_bytes, base->name,
			       (unsigned long long)size);
	if (p->length_bytes > size - p->start_bytes)
		return err_set(
			reterr, -ERANGE, "length=%llu: from start=%llu on, %s has %llu bytes",
			(unsigned long long)p->length_bytes, (unsigned long long)p->start_bytes,
			base->name, (unsigned long long)(size - p->start_bytes));
	return 0;
}

/* What is aligned on the base is aligned here only as far as the start is. */
static void part_align(struct blk_caps *caps, uint64_t start_bytes)
{
	uint64_t start_align = start_bytes & -start_bytes;

	if (!start_bytes)
		return;
	caps->phys_bytes = (uint32_t)MIN((uint64_t)caps->phys_bytes, start_align);
	if (start_bytes % caps->discard_align_bytes)
		caps->discard_align_bytes = caps->block_bytes;
}

static int part_open(struct blk_dev *dev, void *params, struct err *reterr)
{
	struct part_params *p = params;
	int r = part_check(p, dev->base, reterr);

	if (r < 0)
		return r;
	part_of(dev)->params = *p;
	dev->caps.size_bytes = part_size(dev);
	part_align(&dev->caps, p->start_bytes);
	return 0;
}

static int part_map(struct blk_dev *dev, uint64_t offset_bytes, uint64_t end_bytes,
		    uint64_t *ret_end_bytes, bool *ret_mapped)
{
	uint64_t start = part_of(dev)->params.start_bytes;
	int r = blk_dev_map(dev->base, start + offset_bytes, start + end_bytes, ret_end_bytes,
			    ret_mapped);

	if (r == 0)
		*ret_end_bytes -= start;
	return r;
}

static int part_chan_open(struct blk_chan *chan, struct err *reterr)
{
	forward_of(chan)->offset_bytes = part_of(chan->dev)->params.start_bytes;
	return forward_chan_open(chan, reterr);
}

const struct blk_impl blk_part = {
	.type = "part",
	.params = &part_table,
	.params_bytes = sizeof(struct part_params),
	.filter = true,
	.dev_bytes = sizeof(struct part_dev),
	.chan_bytes = sizeof(struct forward),
	.open = part_open,
	.resized = part_size,
	.map = part_map,
	.chan_open = part_chan_open,
	.chan_close = forward_chan_close,
	.submit = forward_submit,
	.cancel = forward_cancel,
};

int blk_part_open(struct blk_dev *base, const char *name, uint64_t start_bytes,
		  uint64_t length_bytes, struct blk_dev **ret_dev, struct err *reterr)
{
	char params[80];

	snprintf(params, sizeof(params), "start=%llu,length=%llu", (unsigned long long)start_bytes,
		 (unsigned long long)length_bytes);
	return blk_dev_open_on("part", name, params, base, ret_dev, reterr);
}
