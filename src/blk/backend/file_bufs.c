/*
 * file: guest memory as registered buffers, so that the kernel need not pin the pages of each
 * request. Whole regions, in pieces as large as the kernel takes; a request across the border of
 * two pieces, or in memory that was refused, goes the ordinary way.
 *
 * A registered buffer is pages, not addresses: what a front-end punches out of its memory object
 * (a balloon) stays pinned here, and the guest sees another page from then on. That is why the
 * user has to ask for it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "blk/backend/file.h"

#define BUF_BYTES_MAX (1ul << 30) /* io_uring_register(2): a buffer is at most 1 GiB */

static size_t bufs_needed(const struct iovec *regions, uint32_t count)
{
	size_t n = 0;

	for (uint32_t i = 0; i < count; i++)
		n += regions[i].iov_len / BUF_BYTES_MAX + 1;
	return n;
}

static int buf_compare(const void *a, const void *b)
{
	const struct file_buf *x = a, *y = b;

	return x->base < y->base ? -1 : x->base > y->base;
}

/* One region, as much of it as is accepted. */
static int region_register(struct file_chan *fc, const struct iovec *region)
{
	for (size_t off = 0; off < region->iov_len; off += BUF_BYTES_MAX) {
		char *base = (char *)region->iov_base + off;
		size_t len = MIN(region->iov_len - off, BUF_BYTES_MAX);
		int slot = loop_buf_register(fc->chan.loop, base, len);

		if (slot < 0)
			return slot;
		fc->bufs[fc->buf_count++] = (struct file_buf){ (uintptr_t)base, len, slot };
	}
	return 0;
}

static int bufs_refused(struct file_dev *file, int code, const struct iovec *region,
			struct err *reterr)
{
	if (__atomic_exchange_n(&file->bufs_refused, true, __ATOMIC_RELAXED))
		return 0;
	return err_set(reterr, code, "registering %zu bytes of memory: %s%s", region->iov_len,
		       strerror(-code),
		       code == -ENOMEM ? " (RLIMIT_MEMLOCK: expected the guest's memory, for each "
					 "data loop)"
				       : "");
}

int file_buffers_set(struct blk_chan *chan, const struct iovec *regions, uint32_t count,
		     struct err *reterr)
{
	struct file_chan *fc = container_of(chan, struct file_chan, chan);
	const struct iovec *refused = NULL;
	int code = 0;

	file_buffers_drop(fc);
	if (!count)
		return 0;
	fc->bufs = calloc(bufs_needed(regions, count), sizeof(*fc->bufs));
	if (!fc->bufs)
		return bufs_refused(file_dev_of(chan), -ENOMEM, &regions[0], reterr);
	for (uint32_t i = 0; i < count; i++) {
		int r = region_register(fc, &regions[i]);

		if (r < 0 && !refused) {
			refused = &regions[i];
			code = r;
		}
	}
	qsort(fc->bufs, fc->buf_count, sizeof(*fc->bufs), buf_compare);
	return refused ? bufs_refused(file_dev_of(chan), code, refused, reterr) : 0;
}

void file_buffers_drop(struct file_chan *fc)
{
	for (uint32_t i = 0; i < fc->buf_count; i++)
		loop_buf_unregister(fc->chan.loop, fc->bufs[i].slot);
	free(fc->bufs);
	fc->bufs = NULL;
	fc->buf_count = 0;
	fc->buf_hint = 0;
}

static bool buf_holds(const struct file_buf *buf, const void *base, size_t len_bytes)
{
	return num_range_ok((uintptr_t)base - buf->base, len_bytes, buf->len_bytes);
}

const struct file_buf *file_buf_find(struct file_chan *fc, const void *base, size_t len_bytes)
{
	uint32_t lo = 0, hi = fc->buf_count;

	if (likely(buf_holds(&fc->bufs[fc->buf_hint], base, len_bytes)))
		return &fc->bufs[fc->buf_hint];
	while (hi - lo > 1) { /* bufs[lo] is the last that begins at or before base, if any does */
		uint32_t mid = lo + (hi - lo) / 2;

		if (fc->bufs[mid].base <= (uintptr_t)base)
			lo = mid;
		else
			hi = mid;
	}
	if (!buf_holds(&fc->bufs[lo], base, len_bytes))
		return NULL;
	fc->buf_hint = lo;
	return &fc->bufs[lo];
}
