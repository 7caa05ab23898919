/*
 * ram: a disk in sparse memory, shared by all loops and gone with the process, unless a successor
 * takes it over: it is a memfd for that (loop/inherit.h). Reads and writes of the same block from
 * several loops race, as they do on a real disk.
 *
 * A read of a page that was never written is answered without looking at it: shared memory, other
 * than anonymous memory, would be allocated by that.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "blk/blk_impl.h"
#include "loop/inherit.h"

/* Giving pages back takes time on the loop: so much per request at most. */
#define RAM_ERASE_MAX_BYTES (64ull << 20)
/* Zeroing less than this is cheaper by hand than by giving pages back and faulting them in. */
#define RAM_UNMAP_MIN_BYTES (64u << 10)

struct ram_params {
	uint64_t size_bytes;
	uint64_t block_bytes, phys_bytes;
	int pi_type;
};

static const char *const pi_type_names[] = { "0", "1", "3", NULL };

/* What a disk is made of, in loop/inherit.h: "memory of NAME" and the part. */
enum ram_part {
	RAM_DATA,
	RAM_WRITTEN,
	RAM_PI,
	RAM_PART_COUNT
};
static const char *const ram_part_names[] = { "data", "map", "protection" };

struct ram_dev {
	struct blk_dev dev;
	char *heir_name;	 /* by which a successor finds it */
	int fds[RAM_PART_COUNT]; /* -1: none, or anonymous */
	bool kept[RAM_PART_COUNT];
	char *memory;
	uint64_t mapped_bytes, page_bytes;
	/*
	 * Which pages were written since they were last given back, a bit each. Set after a write,
	 * cleared before pages are given back: what races may be called mapped without being so,
	 * never the other way round.
	 */
	_Atomic uint64_t *written;
	uint32_t page_shift;
	/*
	 * Protection information of all blocks, inverted: fresh memory reads as "do not check".
	 * NULL without. pi_bytes: its length.
	 */
	uint8_t *pi;
	uint64_t pi_bytes;
	uint32_t block_shift;
};

static const struct opts_row ram_rows[] = {
	{ .name = "size",
	  .type = OPTS_SIZE,
	  .offset = offsetof(struct ram_params, size_bytes),
	  .min = 512,
	  .max = 1ull << 46,
	  .def = "1G",
	  .help = "size of the disk" },
	{ .name = "block-size",
	  .type = OPTS_SIZE,
	  .offset = offsetof(struct ram_params, block_bytes),
	  .min = 512,
	  .max = 65536,
	  .def = "512",
	  .help = "logical block size" },
	{ .name = "physical-block-size",
	  .type = OPTS_SIZE,
	  .offset = offsetof(struct ram_params, phys_bytes),
	  .min = 512,
	  .max = 1 << 20,
	  .help = "physical block size; 0: a page" },
	{ .name = "pi-type",
	  .type = OPTS_ENUM,
	  .offset = offsetof(struct ram_params, pi_type),
	  .names = pi_type_names,
	  .def = "0",
	  .help = "store protection information of this type" },
};
static const struct opts_table ram_table = { "ram block device", ram_rows, ARRAY_SIZE(ram_rows) };

/* ---- memory ---- */

static char *ram_heir_text(const struct ram_dev *ram, enum ram_part part, const char *name)
{
	char *text;

	return asprintf(&text, "memory of %s: %s", name, ram_part_names[part]) < 0 ? NULL : text;
}

/* Of the process that we take over from, or new, in *ret_fd; -1: it has to be anonymous. */
static int ram_fd_open(const char *text, uint64_t bytes, int *ret_fd, struct err *reterr)
{
	struct stat st;

	*ret_fd = inherit_take(text, NULL);
	if (*ret_fd >= 0 && (fstat(*ret_fd, &st) < 0 || (uint64_t)st.st_size != bytes)) {
		close(*ret_fd);
		return err_set(reterr, -EINVAL, "%s: it has another size than %llu bytes", text,
			       (unsigned long long)bytes);
	}
	if (*ret_fd >= 0)
		return 0;
	*ret_fd = memfd_create("vhostd-ram", MFD_CLOEXEC);
	if (*ret_fd >= 0 && ftruncate(*ret_fd, (off_t)bytes) < 0) {
		close(*ret_fd);
		*ret_fd = -1;
	}
	return 0;
}

static void *ram_map(struct ram_dev *ram, enum ram_part part, uint64_t bytes, struct err *reterr)
{
	char *text = ram_heir_text(ram, part, ram->heir_name);
	void *memory = MAP_FAILED;
	int fd = -1;
	int rc = text ? ram_fd_open(text, bytes, &fd, reterr)
		      : err_set(reterr, -ENOMEM, "out of memory");

	if (rc == 0)
		memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			      MAP_NORESERVE | (fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS),
			      fd, 0);
	if (rc == 0 && memory == MAP_FAILED)
		rc = err_set(reterr, -errno, "size=%llu: cannot map memory: %s",
			     (unsigned long long)bytes, strerror(errno));
	if (rc == 0) {
		/* It holds guests' data: not into core dumps. */
		madvise(memory, bytes, MADV_DONTDUMP);
		inherit_keep(fd, text, true, NULL);
		ram->fds[part] = fd;
		ram->kept[part] = true;
	} else if (fd >= 0) {
		close(fd);
	}
	free(text);
	return rc == 0 ? memory : NULL;
}

static void ram_unmap(struct ram_dev *ram, enum ram_part part, void *memory, uint64_t bytes)
{
	char *text;

	if (!memory)
		return;
	munmap(memory, bytes);
	text = ram_heir_text(ram, part, ram->heir_name);
	inherit_drop(ram->fds[part], text ? text : "");
	free(text);
	if (ram->fds[part] >= 0)
		close(ram->fds[part]);
}

static void ram_named(struct blk_dev *dev, const char *name)
{
	struct ram_dev *ram = container_of(dev, struct ram_dev, dev);
	char *copy = strdup(name);

	for (int i = 0; copy && i < RAM_PART_COUNT; i++) {
		char *old = ram_heir_text(ram, (enum ram_part)i, ram->heir_name);
		char *text = ram_heir_text(ram, (enum ram_part)i, name);

		if (old && text && ram->kept[i])
			inherit_rename(ram->fds[i], old, text);
		free(old);
		free(text);
	}
	if (!copy)
		return;
	free(ram->heir_name);
	ram->heir_name = copy;
}

static int ram_pi_open(struct ram_dev *ram, const struct ram_params *p, struct err *reterr)
{
	static const uint8_t types[] = { 0, 1, 3 };

	if (!p->pi_type)
		return 0;
	ram->dev.caps.pi_type = types[p->pi_type];
	ram->block_shift = (uint32_t)__builtin_ctzll(p->block_bytes);
	ram->pi_bytes = (p->size_bytes >> ram->block_shift) * BLK_PI_BYTES;
	ram->pi = ram_map(ram, RAM_PI, ram->pi_bytes, reterr);
	return ram->pi ? 0 : -ENOMEM;
}

/* ---- what is allocated ---- */

static size_t ram_written_bytes(const struct ram_dev *ram)
{
	return ((ram->mapped_bytes >> ram->page_shift) / 64 + 1) * sizeof(uint64_t);
}

static inline uint64_t ram_written_word(const struct ram_dev *ram, uint64_t page)
{
	return atomic_load_explicit(&ram->written[page / 64], memory_order_relaxed);
}

static inline bool ram_page_is_written(const struct ram_dev *ram, uint64_t page)
{
	return ram_written_word(ram, page) >> (page % 64) & 1;
}

/* Pages [first, end). */
static void ram_written_clear(struct ram_dev *ram, uint64_t first, uint64_t end)
{
	for (uint64_t page = first; page < end;) {
		uint64_t bit = page % 64, n = MIN(64 - bit, end - page);
		uint64_t mask = (n == 64 ? UINT64_MAX : (1ull << n) - 1) << bit;

		if (ram_written_word(ram, page) & mask)
			atomic_fetch_and(&ram->written[page / 64], ~mask);
		page += n;
	}
}

static inline void ram_written_set(struct ram_dev *ram, uint64_t off, uint64_t len)
{
	uint64_t end = (off + len + ram->page_bytes - 1) >> ram->page_shift;

	for (uint64_t page = off >> ram->page_shift; len && page < end; page++) {
		uint64_t mask = 1ull << (page % 64);

		if (unlikely(!(ram_written_word(ram, page) & mask)))
			atomic_fetch_or(&ram->written[page / 64], mask);
	}
}

static int ram_extent(struct blk_dev *dev, uint64_t offset_bytes, uint64_t end_bytes,
		      uint64_t *ret_end_bytes, bool *ret_mapped)
{
	struct ram_dev *ram = container_of(dev, struct ram_dev, dev);
	uint64_t page = offset_bytes >> ram->page_shift;
	bool mapped = ram_page_is_written(ram, page);

	do
		page++;
	while (page << ram->page_shift < end_bytes && ram_page_is_written(ram, page) == mapped);
	*ret_mapped = mapped;
	*ret_end_bytes = page << ram->page_shift;
	return 0;
}

static int ram_open(struct blk_dev *dev, void *params, struct err *reterr)
{
	struct ram_dev *ram = container_of(dev, struct ram_dev, dev);
	struct ram_params *p = params;

	ram->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	for (int i = 0; i < RAM_PART_COUNT; i++)
		ram->fds[i] = -1;
	ram->heir_name = strdup(dev->name);
	if (!ram->heir_name)
		return err_set(reterr, -ENOMEM, "out of memory");
	ram->memory = ram_map(ram, RAM_DATA, p->size_bytes, reterr);
	if (!ram->memory)
		return -ENOMEM;
	ram->mapped_bytes = p->size_bytes;
	ram->page_shift = (uint32_t)__builtin_ctzll(ram->page_bytes);
	ram->written = ram_map(ram, RAM_WRITTEN, ram_written_bytes(ram), reterr);
	if (!ram->written)
		return -ENOMEM;
	/* A translation miss costs as much as the copy of a block. */
	madvise(ram->memory, p->size_bytes, MADV_HUGEPAGE);
	dev->caps = (struct blk_caps){
		.size_bytes = p->size_bytes,
		.block_bytes = (uint32_t)p->block_bytes,
		.phys_bytes = p->phys_bytes ? (uint32_t)p->phys_bytes : (uint32_t)ram->page_bytes,
		.mem_align = 1,
		.max_discard_bytes = RAM_ERASE_MAX_BYTES,
		.max_zeroes_bytes = RAM_ERASE_MAX_BYTES,
		.discard_align_bytes = (uint32_t)ram->page_bytes,
		.fua = true,
		.discard = true,
		.write_zeroes = true,
		.zeroes_unmap = true,
	};
	return ram_pi_open(ram, p, reterr);
}

static void ram_close(struct blk_dev *dev)
{
	struct ram_dev *ram = container_of(dev, struct ram_dev, dev);

	ram_unmap(ram, RAM_DATA, ram->memory, ram->mapped_bytes);
	ram_unmap(ram, RAM_WRITTEN, (void *)ram->written, ram_written_bytes(ram));
	ram_unmap(ram, RAM_PI, ram->pi, ram->pi_bytes);
	free(ram->heir_name);
}

static uint8_t *ram_pi_at(const struct ram_dev *ram, uint64_t offset_bytes)
{
	return ram->pi + (offset_bytes >> ram->block_shift) * BLK_PI_BYTES;
}

static void ram_pi_copy(struct ram_dev *ram, const struct blk_req *req)
{
	uint8_t *at = ram_pi_at(ram, req->offset_bytes);
	uint64_t n = (req->len_bytes >> ram->block_shift) * BLK_PI_BYTES;

	if (!(req->flags & BLK_PI)) {
		if (req->op == BLK_WRITE)
			memset(at, 0, n);
		return;
	}
	for (uint64_t i = 0; i < n; i++) {
		if (req->op == BLK_READ)
			req->pi[i] = (uint8_t)~at[i];
		else
			at[i] = (uint8_t)~req->pi[i];
	}
}

/* Zeroes a range: whole pages are given back when that is worth it, or when asked for. */
static enum blk_status ram_zero(struct ram_dev *ram, uint64_t off, uint64_t len, bool unmap)
{
	uint64_t first = num_round_up(off, ram->page_bytes);
	uint64_t end = num_round_down(off + len, ram->page_bytes);

	if (ram->pi)
		memset(ram_pi_at(ram, off), 0, (len >> ram->block_shift) * BLK_PI_BYTES);
	if (first >= end || (!unmap && end - first < RAM_UNMAP_MIN_BYTES)) {
		memset(ram->memory + off, 0, len);
		ram_written_set(ram, off, len);
		return BLK_ST_OK;
	}
	memset(ram->memory + off, 0, first - off);
	memset(ram->memory + end, 0, off + len - end);
	ram_written_set(ram, off, first - off);
	ram_written_set(ram, end, off + len - end);
	ram_written_clear(ram, first >> ram->page_shift, end >> ram->page_shift);
	if (madvise(ram->memory + first, end - first,
		    ram->fds[RAM_DATA] >= 0 ? MADV_REMOVE : MADV_DONTNEED))
		memset(ram->memory + first, 0, end - first);
	return BLK_ST_OK;
}

/* Were all pages of a range written? */
static inline bool ram_is_written(const struct ram_dev *ram, uint64_t off, uint64_t len)
{
	uint64_t page = off >> ram->page_shift, last = (off + len - 1) >> ram->page_shift;

	for (; page <= last; page++)
		if (unlikely(!ram_page_is_written(ram, page)))
			return false;
	return true;
}

/* Aligned as pages are: then memcpy does with it what it does with them. */
static const char ram_zeroes[4096] __attribute__((aligned(4096)));

/* Page by page, and only those that were written. */
static __attribute__((noinline)) void ram_read_sparse(const struct ram_dev *ram,
						      const struct blk_req *req)
{
	const uint64_t piece = MIN(ram->page_bytes, sizeof(ram_zeroes));
	uint64_t off = req->offset_bytes;

	for (uint32_t i = 0; i < req->iov_count; i++) {
		char *to = req->iov[i].iov_base;
		uint64_t left = req->iov[i].iov_len;

		while (left) {
			uint64_t n = MIN(left, piece - (off & (piece - 1)));
			const char *from = ram->memory + off;

			/* copied, not set: GCC makes "rep stos" of a memset here */
			if (!ram_page_is_written(ram, off >> ram->page_shift))
				from = ram_zeroes + (off & (piece - 1));
			memcpy(to, from, n);
			to += n;
			off += n;
			left -= n;
		}
	}
}

/* Where all of it can be copied from; NULL: some pages were written, and others were not. */
static inline const char *ram_read_from(const struct ram_dev *ram, uint64_t off, uint64_t len)
{
	const uint64_t in_zeroes = off & (sizeof(ram_zeroes) - 1);

	if (!len || likely(ram_is_written(ram, off, len)))
		return ram->memory + off;
	/* then it is in one page, which is not written */
	return in_zeroes + len <= sizeof(ram_zeroes) ? ram_zeroes + in_zeroes : NULL;
}

static enum blk_status ram_read(struct ram_dev *ram, const struct blk_req *req)
{
	const char *at = ram_read_from(ram, req->offset_bytes, req->len_bytes);

	if (unlikely(!at)) {
		ram_read_sparse(ram, req);
	} else {
		uint64_t left = req->len_bytes;

		for (const struct iovec *v = req->iov; v < req->iov + req->iov_count; v++) {
			ASSERT(v->iov_len <= left);
			memcpy(v->iov_base, at, v->iov_len);
			at += v->iov_len;
			left -= v->iov_len;
		}
		ASSERT(!left);
	}
	if (unlikely(ram->pi))
		ram_pi_copy(ram, req);
	return BLK_ST_OK;
}

static enum blk_status ram_write(struct ram_dev *ram, const struct blk_req *req)
{
	char *at = ram->memory + req->offset_bytes;
	uint64_t left = req->len_bytes;

	for (uint32_t i = 0; i < req->iov_count; i++) {
		const struct iovec *v = &req->iov[i];

		ASSERT(v->iov_len <= left);
		memcpy(at, v->iov_base, v->iov_len);
		at += v->iov_len;
		left -= v->iov_len;
	}
	ASSERT(!left);
	ram_written_set(ram, req->offset_bytes, req->len_bytes);
	if (unlikely(ram->pi))
		ram_pi_copy(ram, req);
	return BLK_ST_OK;
}

static enum blk_status ram_do(struct ram_dev *ram, const struct blk_req *req)
{
	switch ((enum blk_op)req->op) {
	case BLK_READ:
		return ram_read(ram, req);
	case BLK_WRITE:
		return ram_write(ram, req);
	case BLK_FLUSH:
		return BLK_ST_OK;
	case BLK_DISCARD:
		return ram_zero(ram, req->offset_bytes, req->len_bytes, true);
	case BLK_WRITE_ZEROES:
		return ram_zero(ram, req->offset_bytes, req->len_bytes, req->flags & BLK_UNMAP);
	case BLK_SECURE_ERASE:
	case BLK_OP_COUNT:
		break;
	}
	UNREACHABLE();
}

static void ram_submit(struct blk_chan *chan, struct blk_req *req)
{
	blk_complete(req, ram_do(container_of(chan->dev, struct ram_dev, dev), req));
}

const struct blk_impl blk_ram = {
	.type = "ram",
	.params = &ram_table,
	.params_bytes = sizeof(struct ram_params),
	.dev_bytes = sizeof(struct ram_dev),
	.chan_bytes = sizeof(struct blk_chan),
	.at_once = true,
	.open = ram_open,
	.close = ram_close,
	.named = ram_named,
	.map = ram_extent,
	.submit = ram_submit,
};
