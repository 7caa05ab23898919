/*
 * See gpt.h: reading the table.
 *
 *   HEAD (the first two blocks) --header good--> ENTRIES --good--> done
 *   HEAD, ENTRIES --bad--> BACKUP_HEAD --good--> BACKUP_ENTRIES --good--> done
 */
#include "blk/filter/gpt.h"

#include <errno.h>
#include <stdlib.h>

#include "base/num.h"
#include "blk/blk_impl.h"

enum gpt_state {
	GPT_HEAD,
	GPT_ENTRIES,
	GPT_BACKUP_HEAD,
	GPT_BACKUP_ENTRIES,
};

struct gpt_reader {
	struct blk_chan *chan;
	struct blk_req req;
	struct iovec iov;
	enum gpt_state state;
	uint32_t block_bytes;
	uint64_t blocks, backup_lba;
	struct gpt_header header;
	struct err err;
	void (*done)(void *arg, int rc, const struct gpt_table *table, const struct err *err);
	void *arg;
	uint8_t *buf;
	struct gpt_table table;
};

static void reader_free(struct gpt_reader *g)
{
	blk_chan_close(g->chan);
	free(g->buf);
	free(g);
}

static void reader_finish(struct gpt_reader *g, int rc)
{
	blk_chan_close(g->chan);
	g->chan = NULL;
	if (rc < 0 && !g->err.code)
		err_set(&g->err, rc, "no GPT");
	g->done(g->arg, rc, rc == 0 ? &g->table : NULL, &g->err);
	reader_free(g);
}

static void reader_read(struct gpt_reader *g, enum gpt_state state, uint64_t lba, uint64_t bytes)
{
	free(g->buf);
	g->buf = aligned_alloc(4096, num_round_up(bytes, 4096ull));
	if (!g->buf) {
		reader_finish(g, err_set(&g->err, -ENOMEM, "out of memory"));
		return;
	}
	g->state = state;
	g->iov = (struct iovec){ .iov_base = g->buf, .iov_len = bytes };
	g->req.op = BLK_READ;
	g->req.iov = &g->iov;
	g->req.iov_count = 1;
	g->req.offset_bytes = lba * g->block_bytes;
	g->req.len_bytes = bytes;
	blk_submit(g->chan, &g->req);
}

/* The primary is damaged: err tells how. */
static void reader_try_backup(struct gpt_reader *g)
{
	reader_read(g, GPT_BACKUP_HEAD, g->backup_lba, g->block_bytes);
}

static void reader_on_head(struct gpt_reader *g, uint64_t lba)
{
	const uint8_t *block = lba == 1 ? g->buf + g->block_bytes : g->buf;
	int r = gpt_header_parse(block, g->block_bytes, lba, g->blocks, &g->header, &g->err);

	if (r == 0 && lba == 1 && g->header.alternate_lba > 1 &&
	    g->header.alternate_lba < g->blocks)
		g->backup_lba = g->header.alternate_lba;
	if (r == 0)
		reader_read(g, lba == 1 ? GPT_ENTRIES : GPT_BACKUP_ENTRIES, g->header.entries_lba,
			    gpt_entries_bytes(&g->header, g->block_bytes));
	else if (lba == 1)
		reader_try_backup(g);
	else
		reader_finish(g, r);
}

static void reader_on_entries(struct gpt_reader *g)
{
	int r = gpt_entries_parse(&g->header, g->buf, g->block_bytes, &g->table, &g->err);

	g->table.backup = g->state == GPT_BACKUP_ENTRIES;
	if (r == 0 || g->state == GPT_BACKUP_ENTRIES)
		reader_finish(g, r);
	else
		reader_try_backup(g);
}

static void reader_on_read(struct blk_req *req)
{
	struct gpt_reader *g = container_of(req, struct gpt_reader, req);

	if (req->status != BLK_ST_OK) {
		bool none = g->state == GPT_HEAD && req->status == BLK_ST_RANGE;
		int r = err_set(&g->err, none ? -ENOENT : -EIO,
				"%s: reading the partition table: %s", g->chan->dev->name,
				blk_status_name(req->status));

		if (g->state == GPT_ENTRIES)
			reader_try_backup(g);
		else
			reader_finish(g, r);
		return;
	}
	switch (g->state) {
	case GPT_HEAD:
		if (gpt_mbr_protects(g->buf))
			reader_on_head(g, 1);
		else
			reader_finish(g, err_set(&g->err, -ENOENT, "%s has no protective MBR",
						 g->chan->dev->name));
		return;
	case GPT_BACKUP_HEAD:
		reader_on_head(g, g->backup_lba);
		return;
	case GPT_ENTRIES:
	case GPT_BACKUP_ENTRIES:
		reader_on_entries(g);
		return;
	}
}

int blk_gpt_read(struct blk_dev *dev, struct loop *loop,
		 void (*done)(void *arg, int rc, const struct gpt_table *table,
			      const struct err *err),
		 void *arg, struct err *reterr)
{
	struct gpt_reader *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return err_set(reterr, -ENOMEM, "%s: out of memory", dev->name);
	g->done = done;
	g->arg = arg;
	g->req.done = reader_on_read;
	g->block_bytes = dev->caps.block_bytes;
	g->blocks = blk_size_bytes(dev) / g->block_bytes;
	r = blk_chan_open(dev, loop, &g->chan, reterr);
	if (r < 0) {
		reader_free(g);
		return r;
	}
	g->backup_lba = g->blocks ? g->blocks - 1 : 0;
	/* A disk too small for two blocks ends as "beyond the end": one is read of it, and no MBR.
	 */
	reader_read(g, GPT_HEAD, 0, 2ull * g->block_bytes);
	return 0;
}
