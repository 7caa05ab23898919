/*
 * For the unit tests of this room: a real session on a socket pair, and a device that does what
 * the test says. The test is the client; one thread, the loop is run while it waits.
 */
#ifndef VFU_SESSION_RIG_H
#define VFU_SESSION_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "guest/gdirty.h"
#include "guest/gmem.h"
#include "loop/loop.h"
#include "sock/fdio.h"
#include "vfu/session.h"

#define MEM_BYTES 0x10000u
#define BAR_BYTES 0x4000u
#define CAP_BYTES 20u
#define DEV_SAVED "what the device knows"

struct fixture {
	struct loop *loop;
	struct vfu_session *session; /* NULL when ended */
	struct vfu_session_params params;
	int peer, fds_before, memfd;
	uint16_t next_id;

	/* the device */
	struct vfu_dev dev;
	uint8_t bar[BAR_BYTES];
	bool hold_quiet, hold_free; /* the test tells quiet, or freed */
	bool quiet;		    /* between quiet and resume */
	uint32_t quiesces, resumes, resets, frees, unmasks, reads, writes, cap_reads, cap_writes;
	uint32_t last_len;
	bool msix_on;
	int vector_fd[VFU_MSIX_VECTORS_MAX], intx_fd;
	struct gmem *readable, *writable;
	struct gdirty *dirty;
	uint32_t maps_sets;
	char loaded[64];
	int save_rc, load_rc;
};

static struct fixture *fix;

/* ---- the device ---- */

static void dev_bar_read(struct vfu_dev *dev, uint32_t bar, uint32_t off, void *buf, uint32_t len)
{
	assert_int_equal(bar, 0);
	assert_int_equal(off % len, 0);
	assert_true(len <= 8 && off + len <= BAR_BYTES);
	fix->reads++;
	fix->last_len = len;
	memcpy(buf, fix->bar + off, len);
}

static void dev_bar_write(struct vfu_dev *dev, uint32_t bar, uint32_t off, const void *buf,
			  uint32_t len)
{
	assert_int_equal(bar, 0);
	assert_int_equal(off % len, 0);
	assert_true(len <= 8 && off + len <= BAR_BYTES);
	fix->writes++;
	fix->last_len = len;
	memcpy(fix->bar + off, buf, len);
}

static void dev_cap_read(struct vfu_dev *dev, uint32_t cap, uint8_t *bytes, uint32_t off,
			 uint32_t len)
{
	assert_true(cap == 0 && off + len <= CAP_BYTES);
	fix->cap_reads++;
	bytes[16] = 0x77;
}

static void dev_cap_write(struct vfu_dev *dev, uint32_t cap, uint8_t *bytes, uint32_t off,
			  uint32_t len)
{
	assert_true(cap == 0 && off + len <= CAP_BYTES);
	fix->cap_writes++;
}

static void dev_fd_keep(int *slot, int fd)
{
	if (*slot >= 0)
		close(*slot);
	*slot = fd;
}

static void dev_vector_fd_set(struct vfu_dev *dev, uint32_t vector, int fd)
{
	assert_true(vector < dev->pci.msix_vectors);
	dev_fd_keep(&fix->vector_fd[vector], fd);
}

static void dev_intx_fd_set(struct vfu_dev *dev, int fd)
{
	dev_fd_keep(&fix->intx_fd, fd);
}

static void dev_msix_enable(struct vfu_dev *dev, bool on)
{
	fix->msix_on = on;
}

static void dev_intx_unmask(struct vfu_dev *dev)
{
	fix->unmasks++;
}

static void dev_quiet_now(struct fixture *f)
{
	f->quiet = true;
	vfu_dev_quiet(&f->dev);
}

static void dev_quiesce(struct vfu_dev *dev)
{
	assert_false(fix->quiet);
	fix->quiesces++;
	if (!fix->hold_quiet)
		dev_quiet_now(fix);
}

static void dev_resume(struct vfu_dev *dev)
{
	assert_true(fix->quiet);
	fix->quiet = false;
	fix->resumes++;
}

static void dev_maps_set(struct vfu_dev *dev, struct gmem *readable, struct gmem *writable)
{
	assert_true(fix->quiet);
	gmem_unref(fix->readable);
	gmem_unref(fix->writable);
	fix->readable = readable ? gmem_ref(readable) : NULL;
	fix->writable = writable ? gmem_ref(writable) : NULL;
	fix->maps_sets++;
}

static void dev_dirty_set(struct vfu_dev *dev, struct gdirty *dirty)
{
	assert_true(fix->quiet);
	gdirty_unref(fix->dirty);
	fix->dirty = dirty ? gdirty_ref(dirty) : NULL;
}

static void dev_reset(struct vfu_dev *dev)
{
	assert_true(fix->quiet);
	fix->resets++;
}

static int dev_save(const struct vfu_dev *dev, void **ret_bytes, size_t *ret_len)
{
	assert_true(fix->quiet);
	if (fix->save_rc)
		return fix->save_rc;
	*ret_bytes = strdup(DEV_SAVED);
	*ret_len = strlen(DEV_SAVED);
	return 0;
}

static int dev_load(struct vfu_dev *dev, const void *bytes, size_t len, struct err *reterr)
{
	assert_true(fix->quiet);
	if (fix->load_rc)
		return err_set(reterr, fix->load_rc, "bad bytes");
	assert_true(len < sizeof(fix->loaded));
	memcpy(fix->loaded, bytes, len);
	fix->loaded[len] = '\0';
	return 0;
}

static void dev_freed_now(struct fixture *f)
{
	for (uint32_t i = 0; i < VFU_MSIX_VECTORS_MAX; i++)
		dev_fd_keep(&f->vector_fd[i], -1);
	dev_fd_keep(&f->intx_fd, -1);
	gmem_unref(f->readable);
	gmem_unref(f->writable);
	gdirty_unref(f->dirty);
	f->readable = f->writable = NULL;
	f->dirty = NULL;
	vfu_dev_freed(&f->dev);
}

static void dev_free(struct vfu_dev *dev)
{
	fix->frees++;
	if (!fix->hold_free)
		dev_freed_now(fix);
}

static const struct vfu_dev_ops dev_ops = {
	.type = "test",
	.bar_read = dev_bar_read,
	.bar_write = dev_bar_write,
	.cap_read = dev_cap_read,
	.cap_write = dev_cap_write,
	.vector_fd_set = dev_vector_fd_set,
	.intx_fd_set = dev_intx_fd_set,
	.msix_enable = dev_msix_enable,
	.intx_unmask = dev_intx_unmask,
	.quiesce = dev_quiesce,
	.resume = dev_resume,
	.maps_set = dev_maps_set,
	.dirty_set = dev_dirty_set,
	.reset = dev_reset,
	.save = dev_save,
	.load = dev_load,
	.free = dev_free,
};

/* ---- the fixture ---- */

static int fds_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

#define PUMP_UNTIL(f, cond)                                                                        \
	do {                                                                                       \
		uint64_t end_ = loop_clock_ns() + 5000000000ull;                                   \
		while (!(cond)) {                                                                  \
			loop_run_once((f)->loop, false);                                           \
			assert_true(loop_clock_ns() < end_);                                       \
		}                                                                                  \
	} while (0)

static inline void pump(struct fixture *f, uint32_t turns)
{
	for (uint32_t i = 0; i < turns; i++)
		loop_run_once(f->loop, false);
}

static inline void on_ended(struct vfu_session *s, void *arg)
{
	((struct fixture *)arg)->session = NULL;
}

static void dev_describe(struct fixture *f)
{
	f->dev = (struct vfu_dev){ .ops = &dev_ops, .name = "test" };
	f->dev.pci = (struct vfu_pci){ .vendor = 0x1234,
				       .device = 0x5678,
				       .subsys_vendor = 0x9abc,
				       .subsys = 0xdef0,
				       .class_code = 0x010802,
				       .revision = 3,
				       .msix_vectors = 9,
				       .msix_bar = 4,
				       .bars[0] = { .size_bytes = BAR_BYTES, .map_fd = -1 },
				       .cap_count = 1,
				       .caps[0] = { .len_bytes = CAP_BYTES } };
	f->dev.pci.caps[0].bytes[4] = 0x42;
	memset(f->dev.pci.caps[0].writable + 8, 0xff, 12);
}

static inline void connect_session(struct fixture *f)
{
	struct err err;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	f->peer = sv[1];
	assert_int_equal(vfu_session_new(&f->params, sv[0], &f->dev, &f->session, &err), 0);
}

static inline int setup(void **state)
{
	static struct fixture f;
	struct err err;

	f = (struct fixture){ .intx_fd = -1 };
	fix = &f;
	for (uint32_t i = 0; i < VFU_MSIX_VECTORS_MAX; i++)
		f.vector_fd[i] = -1;
	if (loop_new(&(struct loop_params){ .name = "test", .cpu = -1 }, &f.loop, &err))
		return -1;
	loop_run_once(f.loop, false);
	f.fds_before = fds_open();
	f.memfd = memfd_create("guest", MFD_CLOEXEC);
	if (ftruncate(f.memfd, MEM_BYTES))
		return -1;
	f.params = (struct vfu_session_params){
		.name = "test", .main_loop = f.loop, .ended = on_ended, .arg = &f
	};
	dev_describe(&f);
	connect_session(&f);
	*state = &f;
	return 0;
}

/* Every test ends with the check that the session ends, and no descriptor leaked. */
static inline int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->peer >= 0)
		close(f->peer);
	if (f->hold_free && f->frees)
		dev_freed_now(f);
	f->hold_free = false;
	PUMP_UNTIL(f, !f->session);
	assert_int_equal(f->frees, 1);
	close(f->memfd);
	pump(f, 3);
	assert_int_equal(fds_open(), f->fds_before);
	loop_free(f->loop);
	return 0;
}

/* ---- the client ---- */

struct reply {
	struct vfu_hdr hdr;
	uint8_t bytes[8192];
	uint32_t len;
	int fds[4];
	uint32_t fd_count;
};

static inline void send_bytes(struct fixture *f, const void *bytes, size_t len, const int *fds,
			      uint32_t fd_count)
{
	assert_int_equal(fdio_send(f->peer, bytes, len, fds, fd_count), len);
}

/* Returns the id. */
static inline uint16_t send_msg_fds(struct fixture *f, uint16_t command, uint32_t flags,
				    const void *payload, uint32_t len, const int *fds,
				    uint32_t fd_count)
{
	struct vfu_hdr hdr = {
		.id = f->next_id++, .command = command, .size = VFU_HDR_BYTES + len, .flags = flags
	};
	uint8_t bytes[VFU_HDR_BYTES + 8192];

	assert_true(len <= 8192);
	memcpy(bytes, &hdr, sizeof(hdr));
	if (len)
		memcpy(bytes + sizeof(hdr), payload, len);
	send_bytes(f, bytes, sizeof(hdr) + len, fds, fd_count);
	return hdr.id;
}

static inline uint16_t send_msg(struct fixture *f, uint16_t command, const void *payload,
				uint32_t len)
{
	return send_msg_fds(f, command, 0, payload, len, NULL, 0);
}

static inline void receive_part(struct fixture *f, void *dst, size_t len, struct reply *r)
{
	uint64_t end = loop_clock_ns() + 5000000000ull;
	size_t have = 0;

	while (have < len) {
		struct fdio_fds keep = { r->fds, r->fd_count, 4 };
		struct err err;
		ssize_t n;

		loop_run_once(f->loop, false);
		n = fdio_recv(f->peer, (char *)dst + have, len - have, &keep, &err);
		r->fd_count = keep.count;
		assert_true(n > 0 || n == -EAGAIN);
		assert_true(loop_clock_ns() < end);
		have += n > 0 ? (size_t)n : 0;
	}
}

static inline void receive(struct fixture *f, struct reply *r)
{
	r->fd_count = 0;
	receive_part(f, &r->hdr, sizeof(r->hdr), r);
	assert_true(r->hdr.size >= sizeof(r->hdr));
	r->len = r->hdr.size - (uint32_t)sizeof(r->hdr);
	assert_true(r->len <= sizeof(r->bytes));
	receive_part(f, r->bytes, r->len, r);
}

static inline void fds_close(struct reply *r)
{
	for (uint32_t i = 0; i < r->fd_count; i++)
		close(r->fds[i]);
	r->fd_count = 0;
}

/* The answer to id: 0, or the error's errno, negative. */
static inline int answer(struct fixture *f, uint16_t id, uint16_t command, struct reply *r)
{
	receive(f, r);
	assert_int_equal(r->hdr.id, id);
	assert_int_equal(r->hdr.command, command);
	if (r->hdr.flags == (VFU_TYPE_REPLY | VFU_ERROR)) {
		assert_int_equal(r->len, 0);
		assert_int_not_equal(r->hdr.error, 0);
		return -(int)r->hdr.error;
	}
	assert_int_equal(r->hdr.flags, VFU_TYPE_REPLY);
	return 0;
}

static inline int call_fds(struct fixture *f, uint16_t command, const void *payload, uint32_t len,
			   const int *fds, uint32_t fd_count, struct reply *r)
{
	uint16_t id = send_msg_fds(f, command, 0, payload, len, fds, fd_count);

	return answer(f, id, command, r);
}

static inline int call(struct fixture *f, uint16_t command, const void *payload, uint32_t len,
		       struct reply *r)
{
	return call_fds(f, command, payload, len, NULL, 0, r);
}

static inline void is_silent(struct fixture *f)
{
	char c;

	pump(f, 5);
	assert_int_equal(recv(f->peer, &c, 1, MSG_DONTWAIT | MSG_PEEK), -1);
}

static inline void negotiate(struct fixture *f)
{
	struct reply r;

	assert_int_equal(call(f, VFU_CMD_VERSION, (uint16_t[]){ 0, 0 }, 4, &r), 0);
}

static inline int map_at(struct fixture *f, uint64_t iova, uint64_t size, uint32_t flags, int fd)
{
	struct vfu_dma_map map = { sizeof(map), flags, 0, iova, size };
	struct reply r;
	int rc = call_fds(f, VFU_CMD_DMA_MAP, &map, sizeof(map), &fd, fd >= 0, &r);

	assert_int_equal(r.len, 0);
	return rc;
}

static inline int unmap_at(struct fixture *f, uint64_t iova, uint64_t size, uint32_t flags)
{
	struct vfu_dma_unmap unmap = { sizeof(unmap), flags, iova, size };
	struct reply r;

	return call(f, VFU_CMD_DMA_UNMAP, &unmap, sizeof(unmap), &r);
}

static inline int region_read(struct fixture *f, uint32_t region, uint64_t off, void *dst,
			      uint32_t len)
{
	struct vfu_region_io io = { off, region, len };
	struct reply r;
	int rc = call(f, VFU_CMD_REGION_READ, &io, sizeof(io), &r);

	if (rc)
		return rc;
	assert_int_equal(r.len, sizeof(io) + len);
	assert_memory_equal(r.bytes, &io, sizeof(io));
	memcpy(dst, r.bytes + sizeof(io), len);
	return 0;
}

static inline int region_write(struct fixture *f, uint32_t region, uint64_t off, const void *src,
			       uint32_t len)
{
	uint8_t bytes[sizeof(struct vfu_region_io) + 4096];
	struct vfu_region_io io = { off, region, len };
	struct reply r;
	int rc;

	memcpy(bytes, &io, sizeof(io));
	memcpy(bytes + sizeof(io), src, len);
	rc = call(f, VFU_CMD_REGION_WRITE, bytes, (uint32_t)sizeof(io) + len, &r);
	if (!rc)
		assert_int_equal(r.len, sizeof(io));
	return rc;
}

static inline uint32_t config_read(struct fixture *f, uint32_t off, uint32_t len)
{
	uint32_t v = 0;

	assert_int_equal(region_read(f, VFU_REGION_CONFIG, off, &v, len), 0);
	return v;
}

static inline void config_write(struct fixture *f, uint32_t off, uint32_t v, uint32_t len)
{
	assert_int_equal(region_write(f, VFU_REGION_CONFIG, off, &v, len), 0);
}

#endif
