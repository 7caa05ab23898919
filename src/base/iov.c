#include "base/iov.h"
#include "base/num.h"

enum iov_op {
	IOV_READ,
	IOV_WRITE,
	IOV_ZERO,
	IOV_SKIP
};

/* Walks len bytes, which are known to be there. */
static void iov_cur_walk(struct iov_cur *c, enum iov_op op, void *flat, uint64_t len)
{
	c->left_bytes -= len;
	while (len) {
		size_t part = MIN(c->iov->iov_len - c->skip_bytes, len);
		char *at = (char *)c->iov->iov_base + c->skip_bytes;

		if (part && op == IOV_READ)
			memcpy(flat, at, part);
		else if (part && op == IOV_WRITE)
			memcpy(at, flat, part);
		else if (part && op == IOV_ZERO)
			memset(at, 0, part);
		if (flat)
			flat = (char *)flat + part;
		len -= part;
		c->skip_bytes += part;
		if (c->skip_bytes == c->iov->iov_len) {
			c->iov++;
			c->count--;
			c->skip_bytes = 0;
		}
	}
}

bool iov_cur_read_slow(struct iov_cur *c, void *dst, size_t len)
{
	if (len > c->left_bytes)
		return false;
	iov_cur_walk(c, IOV_READ, dst, len);
	return true;
}

bool iov_cur_write_slow(struct iov_cur *c, const void *src, size_t len)
{
	if (len > c->left_bytes)
		return false;
	iov_cur_walk(c, IOV_WRITE, (void *)src, len);
	return true;
}

bool iov_cur_skip(struct iov_cur *c, uint64_t len)
{
	if (len > c->left_bytes)
		return false;
	iov_cur_walk(c, IOV_SKIP, NULL, len);
	return true;
}

bool iov_cur_zero(struct iov_cur *c, uint64_t len)
{
	if (len > c->left_bytes)
		return false;
	iov_cur_walk(c, IOV_ZERO, NULL, len);
	return true;
}

uint32_t iov_cur_split_tail(struct iov_cur *c, uint64_t tail_bytes, struct iovec *ret_tail,
			    uint32_t max)
{
	uint64_t need = tail_bytes;
	uint32_t first = c->count, n;
	size_t keep = 0; /* bytes of element `first` that stay with the cursor */

	if (!tail_bytes || tail_bytes > c->left_bytes)
		return 0;
	while (need) {
		size_t len;

		first--;
		len = c->iov[first].iov_len - (first ? 0 : c->skip_bytes);
		keep = len > need ? len - need : 0;
		need -= len - keep;
	}
	n = c->count - first;
	if (n > max)
		return 0;
	memcpy(ret_tail, c->iov + first, n * sizeof(*ret_tail));
	if (!first)
		keep += c->skip_bytes;
	ret_tail[0].iov_base = (char *)ret_tail[0].iov_base + keep;
	ret_tail[0].iov_len -= keep;
	c->iov[first].iov_len = keep;
	c->left_bytes -= tail_bytes;
	c->count = first + (keep > (first ? 0 : c->skip_bytes));
	if (!c->count)
		c->skip_bytes = 0;
	return n;
}

uint32_t iov_cur_split_head(struct iov_cur *c, uint64_t head_bytes, struct iovec *ret_head)
{
	uint32_t n = 0;

	head_bytes = MIN(head_bytes, c->left_bytes);
	while (head_bytes) {
		size_t len = MIN(c->iov->iov_len - c->skip_bytes, (size_t)head_bytes);

		ret_head[n++] = (struct iovec){ (char *)c->iov->iov_base + c->skip_bytes, len };
		iov_cur_skip(c, len);
		head_bytes -= len;
		while (c->count && c->iov->iov_len == c->skip_bytes) { /* empty ones */
			c->iov++;
			c->count--;
			c->skip_bytes = 0;
		}
	}
	return n;
}

uint32_t iov_cur_first_slow(struct iov_cur *c, uint64_t len, struct iovec **ret_iov)
{
	uint32_t count = iov_cur_rest(c, ret_iov);

	for (uint32_t i = 0; i < count; i++) {
		struct iovec *v = *ret_iov + i;

		if (!len)
			return i;
		v->iov_len = MIN(v->iov_len, len);
		len -= v->iov_len;
	}
	ASSERT(!len);
	return count;
}

uint64_t iov_bytes(const struct iovec *iov, uint32_t count)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += iov[i].iov_len;
	return sum;
}

static void iov_copy(const struct iovec *iov, uint32_t count, uint64_t off, void *flat, size_t len,
		     enum iov_op op)
{
	struct iov_cur c;

	iov_cur_init(&c, (struct iovec *)iov, count, iov_bytes(iov, count));
	ASSERT(num_range_ok(off, len, c.left_bytes));
	iov_cur_walk(&c, IOV_SKIP, NULL, off);
	iov_cur_walk(&c, op, flat, len);
}

void iov_copy_out(const struct iovec *iov, uint32_t count, uint64_t off, void *dst, size_t len)
{
	iov_copy(iov, count, off, dst, len, IOV_READ);
}

void iov_copy_in(const struct iovec *iov, uint32_t count, uint64_t off, const void *src, size_t len)
{
	iov_copy(iov, count, off, (void *)src, len, IOV_WRITE);
}
