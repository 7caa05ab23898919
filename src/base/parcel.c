#include "base/parcel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/num.h"

/* As it is in the bytes; both processes run on the same machine. */
struct parcel_head {
	char tag[PARCEL_TAG_BYTES];
	uint32_t version;
	uint64_t len;
	uint32_t fd_count, reserved;
};

#define PARCEL_NULL UINT32_MAX /* in place of the length of a text */

void parcel_init(struct parcel *p)
{
	*p = (struct parcel){ 0 };
}

int parcel_open(struct parcel *p, const void *bytes, size_t len, const int *fds, uint32_t fd_count,
		struct err *reterr)
{
	bool fits = len <= PARCEL_BYTES_MAX && fd_count <= PARCEL_FDS_MAX;

	*p = (struct parcel){ .owns_fds = true, .len = len, .end = len };
	if (fits) {
		p->bytes = malloc(len + 1);
		p->fds = calloc(fd_count + 1ul, sizeof(int));
	}
	if (p->bytes && p->fds) {
		if (len)
			memcpy(p->bytes, bytes, len);
		if (fd_count)
			memcpy(p->fds, fds, fd_count * sizeof(int));
		p->fd_count = p->fd_end = fd_count;
		return 0;
	}
	for (uint32_t i = 0; i < fd_count; i++)
		close(fds[i]);
	parcel_fini(p);
	p->failed = true;
	return fits ? err_set(reterr, -ENOMEM, "hand-over: no memory for %zu bytes", len)
		    : err_set(reterr, -E2BIG,
			      "hand-over: expected at most %u bytes and %u descriptors, got %zu "
			      "and %u",
			      PARCEL_BYTES_MAX, PARCEL_FDS_MAX, len, fd_count);
}

void parcel_rewind(struct parcel *p)
{
	p->at = 0;
	p->fd_at = 0;
	p->end = p->len;
	p->fd_end = p->fd_count;
}

static void parcel_fds_close(struct parcel *p, uint32_t end)
{
	for (; p->fd_at < end; p->fd_at++)
		if (p->owns_fds && p->fds[p->fd_at] >= 0)
			close(p->fds[p->fd_at]);
}

void parcel_fini(struct parcel *p)
{
	parcel_fds_close(p, p->fd_count);
	free(p->bytes);
	free(p->fds);
	*p = (struct parcel){ 0 };
}

/* ---- writing ---- */

/* NULL: failed. */
static void *parcel_grow(void *at, size_t *capacity, size_t want, size_t size)
{
	size_t more = MAX(*capacity * 2, want + 64);
	void *grown = realloc(at, more * size);

	if (grown)
		*capacity = more;
	return grown;
}

void parcel_put(struct parcel *p, const void *src, size_t len)
{
	if (p->failed || !len)
		return;
	if (len > PARCEL_BYTES_MAX - p->len) {
		p->failed = true;
		return;
	}
	if (p->len + len > p->capacity) {
		uint8_t *grown = parcel_grow(p->bytes, &p->capacity, p->len + len, 1);

		p->failed = !grown;
		if (!grown)
			return;
		p->bytes = grown;
	}
	memcpy(p->bytes + p->len, src, len);
	p->len += len;
}

void parcel_put_u32(struct parcel *p, uint32_t v)
{
	parcel_put(p, &v, sizeof(v));
}

void parcel_put_u64(struct parcel *p, uint64_t v)
{
	parcel_put(p, &v, sizeof(v));
}

void parcel_put_str(struct parcel *p, const char *text)
{
	const size_t len = text ? strlen(text) : 0;

	if (len > PARCEL_BYTES_MAX) {
		p->failed = true;
		return;
	}
	parcel_put_u32(p, text ? (uint32_t)len : PARCEL_NULL);
	parcel_put(p, text, len);
}

void parcel_put_fd(struct parcel *p, int fd)
{
	const uint32_t there = fd >= 0;

	parcel_put_u32(p, there);
	if (p->failed || !there)
		return;
	if (p->fd_count == PARCEL_FDS_MAX) {
		p->failed = true;
		return;
	}
	if (p->fd_count == p->fd_capacity) {
		size_t capacity = p->fd_capacity;
		int *grown = parcel_grow(p->fds, &capacity, p->fd_count + 1ul, sizeof(int));

		p->failed = !grown;
		if (!grown)
			return;
		p->fds = grown;
		p->fd_capacity = (uint32_t)capacity;
	}
	p->fds[p->fd_count++] = fd;
}

void parcel_section_begin(struct parcel *p, struct parcel_section *s, const char *tag,
			  uint32_t version)
{
	struct parcel_head head = { .version = version };

	ASSERT(strlen(tag) == PARCEL_TAG_BYTES);
	memcpy(head.tag, tag, PARCEL_TAG_BYTES);
	*s = (struct parcel_section){ .version = version, .end = p->len, .fd_end = p->fd_count };
	parcel_put(p, &head, sizeof(head));
}

void parcel_section_done(struct parcel *p, struct parcel_section *s)
{
	struct parcel_head head;

	if (p->failed)
		return;
	memcpy(&head, p->bytes + s->end, sizeof(head));
	head.len = p->len - s->end - sizeof(head);
	head.fd_count = p->fd_count - s->fd_end;
	memcpy(p->bytes + s->end, &head, sizeof(head));
}

/* ---- reading ---- */

bool parcel_take(struct parcel *p, void *dst, size_t len)
{
	if (p->failed || len > p->end - p->at) {
		p->failed = true;
		memset(dst, 0, len);
		return false;
	}
	memcpy(dst, p->bytes + p->at, len);
	p->at += len;
	return true;
}

uint32_t parcel_take_u32(struct parcel *p)
{
	uint32_t v;

	parcel_take(p, &v, sizeof(v));
	return v;
}

uint64_t parcel_take_u64(struct parcel *p)
{
	uint64_t v;

	parcel_take(p, &v, sizeof(v));
	return v;
}

uint32_t parcel_take_count(struct parcel *p, uint32_t max)
{
	uint32_t v = parcel_take_u32(p);

	if (v <= max)
		return v;
	p->failed = true;
	return 0;
}

bool parcel_take_bool(struct parcel *p)
{
	return parcel_take_count(p, 1);
}

char *parcel_take_str(struct parcel *p)
{
	const uint32_t len = parcel_take_u32(p);
	char *text;

	if (p->failed || len == PARCEL_NULL)
		return NULL;
	if (len > p->end - p->at || memchr(p->bytes + p->at, '\0', len)) {
		p->failed = true;
		return NULL;
	}
	text = malloc(len + 1ul);
	if (!text) {
		p->failed = true;
		return NULL;
	}
	parcel_take(p, text, len);
	text[len] = '\0';
	return text;
}

int parcel_take_fd(struct parcel *p)
{
	if (!parcel_take_bool(p))
		return -1;
	if (p->fd_at == p->fd_end) {
		p->failed = true;
		return -1;
	}
	return p->fds[p->fd_at++];
}

/* The head of the next section; false: there is none. */
static bool parcel_head_get(const struct parcel *p, struct parcel_head *ret_head)
{
	if (p->failed || p->end - p->at < sizeof(*ret_head))
		return false;
	memcpy(ret_head, p->bytes + p->at, sizeof(*ret_head));
	return true;
}

bool parcel_section_is_next(const struct parcel *p, const char *tag)
{
	struct parcel_head head;

	return parcel_head_get(p, &head) && !memcmp(head.tag, tag, PARCEL_TAG_BYTES);
}

static int parcel_refuse(struct parcel *p, struct err *reterr, const char *tag, const char *why)
{
	p->failed = true;
	return err_set(reterr, -EPROTO, "hand-over: section '%s': %s", tag, why);
}

int parcel_section_enter(struct parcel *p, struct parcel_section *s, const char *tag,
			 uint32_t version_max, struct err *reterr)
{
	struct parcel_head head;

	*s = (struct parcel_section){ 0 };
	if (!parcel_head_get(p, &head))
		return parcel_refuse(p, reterr, tag, "it is not there");
	if (memcmp(head.tag, tag, PARCEL_TAG_BYTES) != 0)
		return parcel_refuse(p, reterr, tag, "another one is in its place");
	if (!head.version || head.version > version_max) {
		p->failed = true;
		return err_set(reterr, -EPROTO,
			       "hand-over: section '%s': expected version 1..%u, got %u", tag,
			       version_max, head.version);
	}
	p->at += sizeof(head);
	if (head.len > p->end - p->at || head.fd_count > p->fd_end - p->fd_at)
		return parcel_refuse(p, reterr, tag, "it is longer than what came");
	*s = (struct parcel_section){ .version = head.version,
				      .end = p->at + head.len,
				      .fd_end = p->fd_at + head.fd_count,
				      .outer_end = p->end,
				      .outer_fd_end = p->fd_end };
	p->end = s->end;
	p->fd_end = s->fd_end;
	return 0;
}

bool parcel_section_has_more(const struct parcel *p)
{
	return !p->failed && p->at < p->end;
}

int parcel_section_end(struct parcel *p, struct parcel_section *s, const char *tag,
		       struct err *reterr)
{
	if (p->failed)
		return parcel_refuse(p, reterr, tag, "it is cut off, or a value is out of range");
	parcel_fds_close(p, s->fd_end);
	p->at = s->end;
	p->end = s->outer_end;
	p->fd_end = s->outer_fd_end;
	return 0;
}
