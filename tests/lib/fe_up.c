/* What a well-behaved monitor does from SET_OWNER to running queues; see fe.h. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fe.h"

#define BLK_BITS                                                                                   \
	(SPEC_BLK_F_SIZE_MAX | SPEC_BLK_F_SEG_MAX | SPEC_BLK_F_GEOMETRY | SPEC_BLK_F_RO |          \
	 SPEC_BLK_F_BLK_SIZE | SPEC_BLK_F_FLUSH | SPEC_BLK_F_TOPOLOGY | SPEC_BLK_F_CONFIG_WCE |    \
	 SPEC_BLK_F_MQ | SPEC_BLK_F_DISCARD | SPEC_BLK_F_WRITE_ZEROES | SPEC_BLK_F_LIFETIME |      \
	 SPEC_BLK_F_SECURE_ERASE)

#define PROTO_BITS                                                                                 \
	(SPEC_PF_MQ | SPEC_PF_REPLY_ACK | SPEC_PF_CONFIG | SPEC_PF_MEM_SLOTS | SPEC_PF_STATUS |    \
	 SPEC_PF_RESET_DEVICE)

uint64_t fe_up_features(const struct fe_up_opts *o)
{
	uint64_t f = o->features;

	if (!f)
		f = SPEC_F_VERSION_1 | SPEC_F_PROTOCOL | BLK_BITS;
	f |= o->packed ? SPEC_F_RING_PACKED : 0;
	f |= o->event_idx ? SPEC_F_EVENT_IDX : 0;
	f |= o->indirect ? SPEC_F_INDIRECT : 0;
	f |= o->in_order ? SPEC_F_IN_ORDER : 0;
	f |= o->log ? SPEC_F_LOG_ALL : 0;
	return f & ~o->features_drop;
}

static uint64_t proto_of(const struct fe_up_opts *o)
{
	uint64_t p = o->proto ? o->proto : PROTO_BITS;

	p |= o->inflight ? SPEC_PF_INFLIGHT : 0;
	p |= o->log ? SPEC_PF_LOG_SHMFD : 0;
	p |= o->back_channel ? SPEC_PF_BACKEND_REQ : 0;
	return p;
}

int fe_up_memory(struct fe *fe, const struct fe_up_opts *o)
{
	uint64_t size = o->region_bytes ? o->region_bytes : 16ull << 20;
	unsigned n = o->regions ? o->regions : 1;
	int rc = 0;

	/* Guest and user addresses run in different orders, so that a mix-up cannot go unseen. */
	for (unsigned i = fe->region_count ? n : 0; i < n; i++) {
		rc = fe_mem_new(fe, 0x40000000ull + i * (size + 0x200000),
				0x7f0000000000ull + (n - i) * (size + 0x400000), size);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int mem_up(struct fe *fe, const struct fe_up_opts *o)
{
	int rc = fe_up_memory(fe, o);

	if (rc || o->skip & FE_SKIP_MEM)
		return rc;
	if (!o->add_mem_reg)
		return fe_set_mem_table(fe);
	rc = 0;
	for (unsigned i = 0; !rc && i < fe->region_count; i++)
		rc = fe_add_mem_reg(fe, i);
	return rc;
}

/* Room for the three parts of a ring, in the last region, each on its own cache lines. */
int fe_vring_place(struct fe *fe, unsigned idx, uint16_t size, bool packed)
{
	struct fe_vring *vr = &fe->vring[idx];
	int last = (int)fe->region_count - 1;

	if (idx >= FE_QUEUE_MAX || last < 0)
		return -EINVAL;
	vr->idx = idx;
	vr->size = size;
	vr->desc_gpa = fe_alloc(fe, last, 16ull * size, 64);
	vr->avail_gpa = fe_alloc(fe, last, packed ? 4 : 6ull + 2ull * size, 64);
	vr->used_gpa = fe_alloc(fe, last, packed ? 4 : 6ull + 8ull * size, 64);
	if (!vr->desc_gpa || !vr->avail_gpa || !vr->used_gpa)
		return -ENOSPC;
	if (fe->vring_count <= idx)
		fe->vring_count = idx + 1;
	return 0;
}

static int fd_up(struct fe *fe, uint32_t req, unsigned idx, int *fd, bool none)
{
	if (none)
		return fe_set_vring_fd(fe, req, idx, -1);
	if (*fd < 0)
		*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (*fd < 0)
		return -errno;
	return fe_set_vring_fd(fe, req, idx, *fd);
}

int fe_vring_start(struct fe *fe, unsigned idx, const struct fe_up_opts *o)
{
	struct fe_vring *vr = &fe->vring[idx];
	bool packed = fe->features & SPEC_F_RING_PACKED;
	int rc = 0;

	if (fe->transport)
		return fe->transport->vring_start(fe, idx, o);
	if (!(o->skip & FE_SKIP_NUM))
		rc = fe_set_vring_num(fe, idx, vr->size);
	if (!rc && !(o->skip & FE_SKIP_BASE))
		rc = fe_set_vring_base(fe, idx, packed ? 0x80008000u : 0);
	if (!rc && !(o->skip & FE_SKIP_ADDR))
		rc = fe_set_vring_addr(fe, vr, o->log ? 1 : 0, vr->used_gpa);
	if (!rc && !(o->skip & FE_SKIP_ERR))
		rc = fd_up(fe, FE_SET_VRING_ERR, idx, &vr->err_fd, false);
	if (!rc && !(o->skip & FE_SKIP_CALL))
		rc = fd_up(fe, FE_SET_VRING_CALL, idx, &vr->call_fd, o->poll_call);
	if (!rc && !(o->skip & FE_SKIP_KICK))
		rc = fd_up(fe, FE_SET_VRING_KICK, idx, &vr->kick_fd, o->poll_kick);
	if (!rc && !(o->skip & FE_SKIP_ENABLE) && (fe->features & SPEC_F_PROTOCOL))
		rc = fe_set_vring_enable(fe, idx, 1);
	return rc;
}

static int channels_up(struct fe *fe, const struct fe_up_opts *o, unsigned queues, uint16_t size)
{
	int rc = 0;

	if (o->back_channel && (fe->proto & SPEC_PF_BACKEND_REQ))
		rc = fe_open_back_channel(fe);
	if (!rc && o->inflight && (fe->proto & SPEC_PF_INFLIGHT)) {
		rc = fe->inflight.host ? 0 : fe_get_inflight(fe, (uint16_t)queues, size);
		if (!rc)
			rc = fe_set_inflight(fe);
	}
	return rc;
}

static int log_up(struct fe *fe, const struct fe_up_opts *o)
{
	uint64_t top = 0;

	if (!o->log || !(fe->proto & SPEC_PF_LOG_SHMFD))
		return 0;
	for (unsigned i = 0; i < fe->region_count; i++) {
		uint64_t end = fe->region[i].wire.gpa + fe->region[i].wire.size_bytes;

		top = end > top ? end : top;
	}
	/* One bit a 4 KiB page, in whole 8-byte words. */
	return fe_set_log(fe, (top / 4096 / 64 + 1) * 8);
}

int fe_up(struct fe *fe, const struct fe_up_opts *o)
{
	unsigned queues = o->queues ? o->queues : 1;
	uint16_t size = o->queue_size ? o->queue_size : 128;
	int rc = 0;

	if (fe->transport)
		return fe->transport->up(fe, o);
	if (!(o->skip & FE_SKIP_OWNER))
		rc = fe_set(fe, FE_SET_OWNER, NULL, 0, NULL, 0);
	if (!rc && !(o->skip & FE_SKIP_NEGOTIATE))
		rc = fe_negotiate(fe, fe_up_features(o), proto_of(o));
	if (!rc)
		rc = mem_up(fe, o);
	if (!rc)
		rc = log_up(fe, o);
	if (!rc)
		rc = channels_up(fe, o, queues, size);
	for (unsigned i = 0; !rc && i < queues; i++) {
		if (fe->vring_count <= i)
			rc = fe_vring_place(fe, i, size, fe->features & SPEC_F_RING_PACKED);
		if (!rc && !(o->skip & FE_SKIP_START))
			rc = fe_vring_start(fe, i, o);
	}
	return rc;
}

int fe_down(struct fe *fe)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < fe->vring_count; i++) {
		uint32_t base;

		rc = fe_get_vring_base(fe, i, &base);
	}
	return rc;
}
