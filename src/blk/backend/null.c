/* null: completes everything at once; reads leave the memory as it is. For measuring. */
#include "blk/blk_impl.h"

struct null_params {
	uint64_t size_bytes;
	uint64_t block_bytes;
	uint64_t phys_bytes;
};

struct null_dev {
	struct blk_dev dev;
	uint64_t size_bytes; /* from the next rescan on */
};

static const struct opts_row null_rows[] = {
	{ .name = "size",
	  .type = OPTS_SIZE,
	  .offset = offsetof(struct null_params, size_bytes),
	  .min = 0,
	  .max = INT64_MAX,
	  .def = "1G",
	  .help = "size of the disk" },
	{ .name = "block-size",
	  .type = OPTS_SIZE,
	  .offset = offsetof(struct null_params, block_bytes),
	  .min = 512,
	  .max = 65536,
	  .def = "512",
	  .help = "logical block size" },
	{ .name = "physical-block-size",
	  .type = OPTS_SIZE,
	  .offset = offsetof(struct null_params, phys_bytes),
	  .min = 512,
	  .max = 1 << 20,
	  .def = "4096",
	  .help = "physical block size" },
};
static const struct opts_table null_table = { "null block device", null_rows,
					      ARRAY_SIZE(null_rows) };

static int null_open(struct blk_dev *dev, void *params, struct err *reterr)
{
	struct null_params *p = params;

	dev->caps = (struct blk_caps){
		.size_bytes = p->size_bytes,
		.block_bytes = (uint32_t)p->block_bytes,
		.phys_bytes = (uint32_t)p->phys_bytes,
		.mem_align = 1,
		.fua = true,
		.discard = true,
		.write_zeroes = true,
		.zeroes_unmap = true,
		.secure_erase = true,
	};
	container_of(dev, struct null_dev, dev)->size_bytes = p->size_bytes;
	return 0;
}

static int null_rescan(struct blk_dev *dev, uint64_t *ret_size_bytes, struct err *reterr)
{
	*ret_size_bytes = container_of(dev, struct null_dev, dev)->size_bytes;
	return 0;
}

static int null_resize(struct blk_dev *dev, uint64_t size_bytes, struct err *reterr)
{
	container_of(dev, struct null_dev, dev)->size_bytes = size_bytes;
	return 0;
}

static void null_close(struct blk_dev *dev)
{
}

static void null_submit(struct blk_chan *chan, struct blk_req *req)
{
	blk_complete(req, BLK_ST_OK);
}

const struct blk_impl blk_null = {
	.type = "null",
	.params = &null_table,
	.params_bytes = sizeof(struct null_params),
	.dev_bytes = sizeof(struct null_dev),
	.chan_bytes = sizeof(struct blk_chan),
	.at_once = true,
	.open = null_open,
	.close = null_close,
	.rescan = null_rescan,
	.resize = null_resize,
	.submit = null_submit,
};
