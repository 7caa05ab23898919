/* A virtio device behind vfio-user, driven; see vpcife.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vpcife.h"

#define CAP_POINTER 0x34u
#define CAP_VENDOR  0x09u
#define CAPS_MAX    48

static struct vpcife *of(struct fe *fe)
{
	return (struct vpcife *)fe;
}

static int broken(struct vpcife *p, const char *why)
{
	memset(p->v.fe.why, 0, sizeof(p->v.fe.why));
	memcpy(p->v.fe.why, why, strnlen(why, sizeof(p->v.fe.why) - 1));
	return -EPROTO;
}

/* ---- registers ---- */

int vpcife_read(struct vpcife *p, const struct vpci_place *at, uint32_t off, void *ret,
		uint32_t len)
{
	return vfe_region_read(&p->v, at->bar, at->off + off, ret, len);
}

int vpcife_write(struct vpcife *p, const struct vpci_place *at, uint32_t off, const void *bytes,
		 uint32_t len)
{
	return p->v.posted ? vfe_region_post(&p->v, at->bar, at->off + off, bytes, len)
			   : vfe_region_write(&p->v, at->bar, at->off + off, bytes, len);
}

int vpcife_get(struct vpcife *p, uint32_t field, uint32_t len, uint64_t *ret_value)
{
	*ret_value = 0;
	return vpcife_read(p, &p->common, field, ret_value, len);
}

int vpcife_set(struct vpcife *p, uint32_t field, uint32_t len, uint64_t value)
{
	return vpcife_write(p, &p->common, field, &value, len);
}

int vpcife_status(struct vpcife *p, uint8_t *ret_status)
{
	return vpcife_read(p, &p->common, VPCI_DEVICE_STATUS, ret_status, 1);
}

/* ---- capabilities: virtio 1.3, 4.1.4 ---- */

static int cap_take(struct vpcife *p, uint32_t at)
{
	struct vpci_place place, *to[] = { &p->common, &p->notify, &p->isr, &p->config };
	uint32_t head, bar;
	int rc = vfe_cfg_read(&p->v, at, 4, &head);

	if (!rc)
		rc = vfe_cfg_read(&p->v, at + 4, 1, &bar);
	if (!rc)
		rc = vfe_cfg_read(&p->v, at + 8, 4, &place.off);
	if (!rc)
		rc = vfe_cfg_read(&p->v, at + 12, 4, &place.len);
	if (rc)
		return rc;
	place.bar = bar;
	if (head >> 24 == 5)
		p->window_at = at;
	else if (head >> 24 >= 1 && head >> 24 <= 4)
		*to[(head >> 24) - 1] = place;
	return head >> 24 == 2 ? vfe_cfg_read(&p->v, at + 16, 4, &p->notify_stride) : 0;
}

static int caps_find(struct vpcife *p)
{
	uint32_t at, head, n = 0;
	int rc = vfe_cfg_read(&p->v, CAP_POINTER, 1, &at);

	while (!rc && at && n++ < CAPS_MAX) {
		rc = vfe_cfg_read(&p->v, at, 2, &head);
		if (!rc && (head & 0xff) == CAP_VENDOR)
			rc = cap_take(p, at);
		at = head >> 8;
	}
	if (!rc && (!p->common.len || !p->notify.len || !p->isr.len || !p->config.len))
		rc = broken(p, "a structure has no capability");
	return rc;
}

/* ---- the device: virtio 1.3, 3.1.1 ---- */

static int eventually(struct vpcife *p, uint32_t field, uint32_t len, uint64_t want)
{
	for (int i = 0; i < p->v.fe.timeout_ms; i++) {
		uint64_t value;
		int rc = vpcife_get(p, field, len, &value);

		if (rc || value == want)
			return rc;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return -ETIMEDOUT;
}

int vpcife_reset(struct vpcife *p)
{
	int rc = vpcife_set(p, VPCI_DEVICE_STATUS, 1, 0);

	return rc ? rc : eventually(p, VPCI_DEVICE_STATUS, 1, 0);
}

static int features_get(struct vpcife *p, uint64_t *ret_features)
{
	uint64_t low, high;
	int rc = vpcife_set(p, VPCI_DEVICE_FEATURE_SELECT, 4, 0);

	if (!rc)
		rc = vpcife_get(p, VPCI_DEVICE_FEATURE, 4, &low);
	if (!rc)
		rc = vpcife_set(p, VPCI_DEVICE_FEATURE_SELECT, 4, 1);
	if (!rc)
		rc = vpcife_get(p, VPCI_DEVICE_FEATURE, 4, &high);
	if (!rc)
		*ret_features = low | high << 32;
	return rc;
}

static int features_set(struct vpcife *p, uint64_t features)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < 2; i++) {
		rc = vpcife_set(p, VPCI_DRIVER_FEATURE_SELECT, 4, i);
		if (!rc)
			rc = vpcife_set(p, VPCI_DRIVER_FEATURE, 4, features >> 32 * i & UINT32_MAX);
	}
	return rc;
}

int vpcife_negotiate(struct vpcife *p, uint64_t wanted)
{
	struct fe *fe = &p->v.fe;
	uint8_t status = 0;
	int rc = vpcife_reset(p);

	if (!rc)
		rc = vpcife_set(p, VPCI_DEVICE_STATUS, 1, VPCI_ACKNOWLEDGE);
	if (!rc)
		rc = vpcife_set(p, VPCI_DEVICE_STATUS, 1, VPCI_ACKNOWLEDGE | VPCI_DRIVER);
	if (!rc)
		rc = features_get(p, &fe->features_offered);
	if (!rc) {
		fe->features = wanted & fe->features_offered;
		rc = features_set(p, fe->features);
	}
	if (!rc)
		rc = vpcife_set(p, VPCI_DEVICE_STATUS, 1,
				VPCI_ACKNOWLEDGE | VPCI_DRIVER | VPCI_FEATURES_OK);
	if (!rc)
		rc = vpcife_status(p, &status);
	return rc || status & VPCI_FEATURES_OK ? rc : -EREMOTEIO;
}

/* ---- queues ---- */

/* Its own copy of what the client gave to the vector. */
static int call_up(struct vpcife *p, unsigned idx, bool interrupts)
{
	struct fe_vring *vr = &p->v.fe.vring[idx];
	unsigned vector = p->v.vectors > idx + 1 ? idx + 1 : p->v.vectors - 1;
	int from = p->pin ? p->v.intx_fd : p->v.vector_fd[vector];
	uint64_t value = p->pin || !interrupts ? VPCI_NO_VECTOR : vector, got;
	int rc = vpcife_set(p, VPCI_QUEUE_MSIX_VECTOR, 2, value);

	if (!rc)
		rc = vpcife_get(p, VPCI_QUEUE_MSIX_VECTOR, 2, &got);
	if (!rc && got != value)
		rc = broken(p, "the vector was not taken");
	if (vr->call_fd >= 0)
		close(vr->call_fd);
	vr->call_fd = interrupts ? fcntl(from, F_DUPFD_CLOEXEC, 0) : -1;
	return rc;
}

int vpcife_queue_up(struct vpcife *p, unsigned idx, bool interrupts)
{
	const struct fe_vring *vr = &p->v.fe.vring[idx];
	const uint64_t at[] = { vr->desc_gpa, vr->avail_gpa, vr->used_gpa };
	int rc = vpcife_set(p, VPCI_QUEUE_SELECT, 2, idx);

	if (!rc)
		rc = vpcife_set(p, VPCI_QUEUE_SIZE, 2, vr->size);
	if (!rc)
		rc = call_up(p, idx, interrupts);
	for (unsigned i = 0; !rc && i < 6; i++)
		rc = vpcife_set(p, VPCI_QUEUE_DESC + 4 * i, 4,
				at[i / 2] >> (i % 2 ? 32 : 0) & UINT32_MAX);
	return rc ? rc : vpcife_set(p, VPCI_QUEUE_ENABLE, 2, 1);
}

int vpcife_queue_reset(struct vpcife *p, unsigned idx)
{
	int rc = vpcife_set(p, VPCI_QUEUE_SELECT, 2, idx);

	if (!rc)
		rc = vpcife_set(p, VPCI_QUEUE_RESET, 2, 1);
	if (!rc)
		rc = eventually(p, VPCI_QUEUE_RESET, 2, 0);
	return rc ? rc : eventually(p, VPCI_QUEUE_ENABLE, 2, 0);
}

int vpcife_driver_ok(struct vpcife *p)
{
	return vpcife_set(p, VPCI_DEVICE_STATUS, 1,
			  VPCI_ACKNOWLEDGE | VPCI_DRIVER | VPCI_FEATURES_OK | VPCI_DRIVER_OK);
}

/* ---- the window ---- */

static int window_set(struct vpcife *p, const struct vpci_place *at, uint32_t off, uint32_t len)
{
	int rc = vfe_cfg_write(&p->v, p->window_at + 4, 1, at->bar);

	if (!rc)
		rc = vfe_cfg_write(&p->v, p->window_at + 8, 4, at->off + off);
	return rc ? rc : vfe_cfg_write(&p->v, p->window_at + 12, 4, len);
}

int vpcife_window_write(struct vpcife *p, const struct vpci_place *at, uint32_t off, uint32_t len,
			uint32_t value)
{
	int rc = window_set(p, at, off, len);

	return rc ? rc : vfe_cfg_write(&p->v, p->window_at + 16, len, value);
}

int vpcife_window_read(struct vpcife *p, const struct vpci_place *at, uint32_t off, uint32_t len,
		       uint32_t *ret_value)
{
	int rc = window_set(p, at, off, len);

	return rc ? rc : vfe_cfg_read(&p->v, p->window_at + 16, len, ret_value);
}

/* ---- the transport ---- */

/* virtio 1.3, 4.1.5.2; without NOTIFICATION_DATA the queue's index. */
static int kick(struct fe *fe, struct fe_vring *vr)
{
	struct vpcife *p = of(fe);
	uint64_t off = p->notify.off + (uint64_t)p->notify_stride * vr->idx;
	uint16_t idx = (uint16_t)vr->idx;

	if (p->window)
		return vpcife_window_write(p, &p->notify, (uint32_t)(off - p->notify.off), 2, idx);
	if (!p->v.bar_map || off < p->v.bar_map_offset)
		return vpcife_write(p, &p->notify, (uint32_t)(off - p->notify.off), &idx, 2);
	__atomic_store_n((uint16_t *)(p->v.bar_map + (off - p->v.bar_map_offset)), idx,
			 __ATOMIC_RELEASE);
	return 0;
}

static int vring_start(struct fe *fe, unsigned idx, const struct fe_up_opts *o)
{
	int rc = vpcife_queue_up(of(fe), idx, !o->poll_call);

	/* What fe_up() does not start is started one by one, up to the last. */
	if (!rc && o->queues <= idx + 1)
		rc = vpcife_driver_ok(of(fe));
	return rc;
}

static int irqs_up(struct vpcife *p)
{
	uint64_t got;
	int rc;

	if (p->pin) {
		rc = vfe_vectors_set(&p->v, 0);
		if (!rc)
			rc = vfe_cfg_write(&p->v, 4, 2, 0x0006);
		return rc ? rc : vfe_intx_set(&p->v);
	}
	rc = vpcife_set(p, VPCI_CONFIG_MSIX_VECTOR, 2, 0);
	if (!rc)
		rc = vpcife_get(p, VPCI_CONFIG_MSIX_VECTOR, 2, &got);
	return rc || !got ? rc : broken(p, "vector 0 was not taken");
}

static int up(struct fe *fe, const struct fe_up_opts *o)
{
	struct vpcife *p = of(fe);
	unsigned queues = o->queues ? o->queues : 1;
	struct fe_up_opts each = *o;
	int rc = fe_up_memory(fe, o);

	if (!rc)
		rc = vfe_up(&p->v, &(struct vfe_up_opts){ 0 });
	if (!rc)
		rc = caps_find(p);
	if (!rc) {
		rc = vfe_bar_map(&p->v, p->notify.bar);
		p->v.posted = rc == -ENOENT;
		rc = p->v.posted ? 0 : rc;
	}
	if (!rc)
		rc = vpcife_negotiate(p, fe_up_features(o) & ~SPEC_F_PROTOCOL);
	if (!rc)
		rc = irqs_up(p);
	each.queues = queues;
	for (unsigned i = 0; !rc && i < queues; i++) {
		if (fe->vring_count <= i)
			rc = fe_vring_place(fe, i, o->queue_size ? o->queue_size : 128,
					    fe->features & SPEC_F_RING_PACKED);
		if (!rc && !(o->skip & FE_SKIP_START))
			rc = vring_start(fe, i, &each);
	}
	return rc;
}

static int get_config(struct fe *fe, uint32_t off, void *ret_bytes, uint32_t len)
{
	return vpcife_read(of(fe), &of(fe)->config, off, ret_bytes, len);
}

/* Nobody answers; a field that was not taken reads as before. */
static int set_config(struct fe *fe, uint32_t off, const void *bytes, uint32_t len, uint32_t flags)
{
	uint8_t now[256];
	int rc = vpcife_write(of(fe), &of(fe)->config, off, bytes, len);

	if (!rc)
		rc = get_config(fe, off, now, len);
	return rc ? rc : memcmp(now, bytes, len) ? -EREMOTEIO : 0;
}

static void fini(struct fe *fe)
{
	fe->transport = NULL;
	vfe_fini(&of(fe)->v);
}

static const struct fe_transport transport = {
	.up = up,
	.vring_start = vring_start,
	.kick = kick,
	.get_config = get_config,
	.set_config = set_config,
	.fini = fini,
};

int vpcife_init(struct vpcife *p)
{
	int rc;

	memset(p, 0, sizeof(*p));
	rc = vfe_init(&p->v);
	p->v.fe.transport = &transport;
	return rc;
}
