/*
 * Dirty pages by DMA_LOGGING_START, _STOP and _REPORT. Pages are of 4 KiB whatever the client
 * hints; a report in other units repeats or joins their bits.
 * Source: QEMU docs/interop/vfio-user, "VFIO_DEVICE_FEATURE_DMA_LOGGING_START" and following.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "vfu/session.h"

#define ull unsigned long long

struct vfu_logging {
	uint64_t page_size;
	uint32_t num_ranges, reserved;
	struct {
		uint64_t iova, len;
	} ranges[];
};

struct vfu_report {
	uint64_t iova, len, page_size;
	uint64_t bitmap[];
};

/* Takes the reference. */
static void vfu_dirty_set(struct vfu_session *s, struct gdirty *dirty)
{
	s->dev->ops->dirty_set(s->dev, dirty);
	gdirty_unref(s->migr.dirty);
	s->migr.dirty = dirty;
}

static int vfu_dirty_new(uint64_t first, uint64_t end, struct gdirty **ret_log, struct err *reterr)
{
	first = num_round_down(first, GDIRTY_PAGE_BYTES);
	if (end - first > VFU_DIRTY_SPAN_MAX)
		return err_set(reterr, -ENOSPC,
			       "dirty log: expected at most 0x%llx bytes of addresses, got "
			       "0x%llx",
			       (ull)VFU_DIRTY_SPAN_MAX, (ull)(end - first));
	return gdirty_new_private(first, end - first, ret_log, reterr);
}

/* From the lowest to the highest address of the ranges. */
static int vfu_ranges_span(const struct vfu_logging *req, uint64_t *ret_first, uint64_t *ret_end,
			   struct err *reterr)
{
	*ret_first = UINT64_MAX;
	*ret_end = 0;
	for (uint32_t i = 0; i < req->num_ranges; i++) {
		uint64_t iova = req->ranges[i].iova, end;

		if (!req->ranges[i].len || !num_add(iova, req->ranges[i].len, &end))
			return err_set(reterr, -EINVAL, "range %u: 0x%llx size 0x%llx", i,
				       (ull)iova, (ull)req->ranges[i].len);
		*ret_first = MIN(*ret_first, iova);
		*ret_end = MAX(*ret_end, end);
	}
	return 0;
}

int vfu_dirty_start(struct vfu_session *s, const uint8_t *data, uint32_t len, struct err *reterr)
{
	struct vfu_logging *req = (struct vfu_logging *)data;
	uint64_t first = 0, end = GDIRTY_PAGE_BYTES;
	struct gdirty *dirty;
	int rc = 0;

	if (s->migr.dirty)
		return err_set(reterr, -EINVAL, "logging has been started already");
	if (!num_is_pow2(req->page_size))
		return err_set(reterr, -EINVAL, "page size: expected a power of two, got %llu",
			       (ull)req->page_size);
	if (req->num_ranges > VFU_DIRTY_RANGES_MAX ||
	    len < sizeof(*req) + req->num_ranges * sizeof(req->ranges[0]))
		return err_set(reterr, -EINVAL,
			       "ranges: expected at most %u and their bytes, got "
			       "%u in %u bytes",
			       VFU_DIRTY_RANGES_MAX, req->num_ranges, len);
	if (req->num_ranges)
		rc = vfu_ranges_span(req, &first, &end, reterr);
	else
		vfu_dma_span(&s->dma, &first, &end);
	if (!rc)
		rc = vfu_dirty_new(first, end, &dirty, reterr);
	if (rc)
		return rc;
	vfu_dirty_set(s, dirty);
	s->migr.log_all = !req->num_ranges;
	req->page_size = GDIRTY_PAGE_BYTES;
	return 0;
}

int vfu_dirty_stop(struct vfu_session *s, struct err *reterr)
{
	if (!s->migr.dirty)
		return err_set(reterr, -EINVAL, "logging has not been started");
	vfu_dirty_set(s, NULL);
	return 0;
}

int vfu_dirty_cover(struct vfu_session *s, uint64_t first, uint64_t end, struct err *reterr)
{
	struct gdirty *old = s->migr.dirty, *dirty;
	int rc;

	if (!old || !s->migr.log_all || gdirty_covers(old, gpa(first), end - first))
		return 0;
	first = MIN(first, gdirty_first(old));
	end = MAX(end, gdirty_end(old));
	rc = vfu_dirty_new(first, end, &dirty, reterr);
	if (rc)
		return rc;
	gdirty_merge(dirty, old);
	vfu_dirty_set(s, dirty);
	return 0;
}

static int vfu_report_check(const struct vfu_report *req, uint32_t len, uint32_t room,
			    uint64_t *ret_bits, struct err *reterr)
{
	uint64_t end;

	if (len < sizeof(*req))
		return err_set(reterr, -EINVAL, "report: expected %zu bytes, got %u", sizeof(*req),
			       len);
	if (!num_is_pow2(req->page_size) || !req->len || !num_add(req->iova, req->len, &end) ||
	    req->iova % req->page_size)
		return err_set(reterr, -EINVAL, "report: 0x%llx size 0x%llx in pages of %llu",
			       (ull)req->iova, (ull)req->len, (ull)req->page_size);
	*ret_bits = (req->len - 1) / req->page_size + 1;
	if (*ret_bits > (uint64_t)(room - sizeof(*req)) / 8 * 64)
		return err_set(reterr, -E2BIG,
			       "report: expected at most %zu bytes of bits, got "
			       "%llu bits",
			       (room - sizeof(*req)) / 8 * 8, (ull)*ret_bits);
	return 0;
}

int vfu_dirty_report(struct vfu_session *s, uint8_t *data, uint32_t len, uint32_t room,
		     uint32_t *ret_len, struct err *reterr)
{
	struct vfu_report *req = (struct vfu_report *)data;
	struct gdirty *dirty = s->migr.dirty;
	uint64_t bits, end;
	struct gpa at;
	int rc;

	if (!dirty)
		return err_set(reterr, -EINVAL, "logging has not been started");
	rc = vfu_report_check(req, len, room, &bits, reterr);
	if (rc)
		return rc;
	*ret_len = (uint32_t)(sizeof(*req) + (bits + 63) / 64 * 8);
	memset(req->bitmap, 0, *ret_len - sizeof(*req));
	/* Each page of the log covers some bits, or a part of one. */
	end = req->iova + req->len;
	for (at = gpa(req->iova); gdirty_take(dirty, at, gpa(end), &at);
	     at.v += GDIRTY_PAGE_BYTES) {
		uint64_t from = MAX(at.v, req->iova), to = MIN(at.v + GDIRTY_PAGE_BYTES, end);

		for (uint64_t bit = (from - req->iova) / req->page_size;
		     bit <= (to - 1 - req->iova) / req->page_size; bit++)
			req->bitmap[bit / 64] |= 1ull << bit % 64;
	}
	return 0;
}
