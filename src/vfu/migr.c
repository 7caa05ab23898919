#include "vfu/migr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/num.h"
#include "base/parcel.h"
#include "base/types.h"
#include "vfu/session.h"

static const char *const vfu_migr_state_names[] = {
#define X(n, name) [n] = #name,
	VFU_MIGR_STATES(X)
#undef X
};

/*
 * The next state on the way from a to b; ERROR: there is none. The rows of the two states with
 * P2P are empty: vfio-user does not use them.
 */
static const enum vfu_migr_state vfu_migr_next[VFU_MIGR_STATE_COUNT][VFU_MIGR_STATE_COUNT] = {
	[VFU_MIGR_STOP] = { [VFU_MIGR_STOP] = VFU_MIGR_STOP,
			    [VFU_MIGR_RUNNING] = VFU_MIGR_RUNNING,
			    [VFU_MIGR_STOP_COPY] = VFU_MIGR_STOP_COPY,
			    [VFU_MIGR_RESUMING] = VFU_MIGR_RESUMING,
			    [VFU_MIGR_PRE_COPY] = VFU_MIGR_RUNNING },
	[VFU_MIGR_RUNNING] = { [VFU_MIGR_STOP] = VFU_MIGR_STOP,
			       [VFU_MIGR_RUNNING] = VFU_MIGR_RUNNING,
			       [VFU_MIGR_STOP_COPY] = VFU_MIGR_STOP,
			       [VFU_MIGR_RESUMING] = VFU_MIGR_STOP,
			       [VFU_MIGR_PRE_COPY] = VFU_MIGR_PRE_COPY },
	[VFU_MIGR_STOP_COPY] = { [VFU_MIGR_STOP] = VFU_MIGR_STOP,
				 [VFU_MIGR_RUNNING] = VFU_MIGR_STOP,
				 [VFU_MIGR_STOP_COPY] = VFU_MIGR_STOP_COPY,
				 [VFU_MIGR_RESUMING] = VFU_MIGR_STOP },
	[VFU_MIGR_RESUMING] = { [VFU_MIGR_STOP] = VFU_MIGR_STOP,
				[VFU_MIGR_RUNNING] = VFU_MIGR_STOP,
				[VFU_MIGR_STOP_COPY] = VFU_MIGR_STOP,
				[VFU_MIGR_RESUMING] = VFU_MIGR_RESUMING,
				[VFU_MIGR_PRE_COPY] = VFU_MIGR_STOP },
	[VFU_MIGR_PRE_COPY] = { [VFU_MIGR_STOP] = VFU_MIGR_RUNNING,
				[VFU_MIGR_RUNNING] = VFU_MIGR_RUNNING,
				[VFU_MIGR_STOP_COPY] = VFU_MIGR_STOP_COPY,
				[VFU_MIGR_RESUMING] = VFU_MIGR_RUNNING,
				[VFU_MIGR_PRE_COPY] = VFU_MIGR_PRE_COPY },
};

/* What is saved begins with this; then the configuration space, the MSI-X table, the device. */
struct vfu_saved {
	char magic[8];
	struct le32 version;
	struct le32 config_len, msix_len, dev_len;
	char type[16];
};
#define VFU_SAVED_MAGIC	  "vfustate"
#define VFU_SAVED_VERSION 1

const char *vfu_migr_state_name(enum vfu_migr_state state)
{
	return vfu_migr_state_names[state];
}

static void vfu_migr_bytes_drop(struct vfu_migr *g)
{
	free(g->bytes);
	g->bytes = NULL;
	g->len = g->done = g->capacity = 0;
}

void vfu_migr_init(struct vfu_migr *g)
{
	*g = (struct vfu_migr){ .state = VFU_MIGR_RUNNING };
}

void vfu_migr_fini(struct vfu_migr *g)
{
	vfu_migr_bytes_drop(g);
	gdirty_unref(g->dirty);
	g->dirty = NULL;
}

void vfu_migr_reset(struct vfu_migr *g)
{
	vfu_migr_bytes_drop(g);
	g->state = VFU_MIGR_RUNNING;
}

/* ---- save and load ---- */

/* The device's type, filled up with zeroes. */
static void vfu_saved_type(const struct vfu_session *s, char type[static 16])
{
	const char *name = s->dev->ops->type;

	memset(type, 0, 16);
	memcpy(type, name, MIN(strlen(name), (size_t)16));
}

/* malloc'ed, the caller's. */
static int vfu_migr_state_save(const struct vfu_session *s, uint8_t **ret_bytes, size_t *ret_len,
			       struct err *reterr)
{
	const struct vfu_space *p = &s->pci;
	struct vfu_saved head = { 0 };
	void *dev_bytes;
	size_t dev_len, len;
	uint8_t *at;
	int rc = s->dev->ops->save(s->dev, &dev_bytes, &dev_len);

	if (rc)
		return err_set(reterr, rc, "the device cannot be saved: %s", strerror(-rc));
	len = sizeof(head) + sizeof(p->bytes) + sizeof(p->msix_table) + dev_len;
	at = dev_len <= VFU_MIGR_BYTES_MAX ? malloc(len) : NULL;
	if (!at) {
		free(dev_bytes);
		return err_set(reterr, -ENOMEM, "no memory for %zu bytes of state", dev_len);
	}
	*ret_bytes = at;
	*ret_len = len;
	memcpy(head.magic, VFU_SAVED_MAGIC, sizeof(head.magic));
	head.version = le32(VFU_SAVED_VERSION);
	head.config_len = le32(sizeof(p->bytes));
	head.msix_len = le32(sizeof(p->msix_table));
	head.dev_len = le32((uint32_t)dev_len);
	vfu_saved_type(s, head.type);
	memcpy(at, &head, sizeof(head));
	memcpy(at += sizeof(head), p->bytes, sizeof(p->bytes));
	memcpy(at += sizeof(p->bytes), p->msix_table, sizeof(p->msix_table));
	memcpy(at + sizeof(p->msix_table), dev_bytes, dev_len);
	free(dev_bytes);
	return 0;
}

static int vfu_migr_save(struct vfu_session *s, struct err *reterr)
{
	struct vfu_migr *g = &s->migr;

	g->done = 0;
	return vfu_migr_state_save(s, &g->bytes, &g->len, reterr);
}

static int vfu_migr_head_check(const struct vfu_session *s, const struct vfu_saved *head,
			       size_t len, struct err *reterr)
{
	const struct vfu_space *p = &s->pci;
	char type[16];
	uint64_t need = sizeof(*head) + (uint64_t)sizeof(p->bytes) + sizeof(p->msix_table) +
			le32_get(head->dev_len);

	if (memcmp(head->magic, VFU_SAVED_MAGIC, sizeof(head->magic)) ||
	    le32_get(head->version) != VFU_SAVED_VERSION)
		return err_set(reterr, -EINVAL, "state: expected version %u of ours",
			       VFU_SAVED_VERSION);
	vfu_saved_type(s, type);
	if (memcmp(head->type, type, sizeof(type)))
		return err_set(reterr, -EINVAL, "state: expected of a device %.16s, got %.16s",
			       type, head->type);
	if (le32_get(head->config_len) != sizeof(p->bytes) ||
	    le32_get(head->msix_len) != sizeof(p->msix_table) || need != len)
		return err_set(reterr, -EINVAL, "state: expected %llu bytes, got %zu",
			       (unsigned long long)need, len);
	return 0;
}

/* What cannot be written must be the same: it is the same kind of function. */
static int vfu_migr_config_check(const struct vfu_space *p, const uint8_t *config,
				 struct err *reterr)
{
	for (uint32_t i = 0; i < sizeof(p->bytes); i++) {
		if ((config[i] ^ p->reset[i]) & ~p->writable[i])
			return err_set(reterr, -EINVAL,
				       "state: configuration byte 0x%x: expected 0x%02x, got "
				       "0x%02x",
				       i, p->reset[i], config[i]);
	}
	return 0;
}

static int vfu_migr_state_load(struct vfu_session *s, const uint8_t *bytes, size_t len,
			       struct err *reterr)
{
	struct vfu_space *p = &s->pci;
	struct vfu_saved head;
	const uint8_t *config, *msix;
	int rc;

	if (len < sizeof(head))
		return err_set(reterr, -EINVAL, "state: expected at least %zu bytes, got %zu",
			       sizeof(head), len);
	memcpy(&head, bytes, sizeof(head));
	config = bytes + sizeof(head);
	msix = config + sizeof(p->bytes);
	rc = vfu_migr_head_check(s, &head, len, reterr);
	if (!rc)
		rc = vfu_migr_config_check(p, config, reterr);
	if (!rc)
		rc = s->dev->ops->load(s->dev, msix + sizeof(p->msix_table), le32_get(head.dev_len),
				       reterr);
	if (rc)
		return rc;
	memcpy(p->bytes, config, sizeof(p->bytes));
	memcpy(p->msix_table, msix, sizeof(p->msix_table));
	vfu_irqs_intx_update(s);
	return 0;
}

static int vfu_migr_load(struct vfu_session *s, struct err *reterr)
{
	return vfu_migr_state_load(s, s->migr.bytes, s->migr.len, reterr);
}

/* ---- states ---- */

/* One arc; the device is quiet. */
static int vfu_migr_arc(struct vfu_session *s, enum vfu_migr_state to, struct err *reterr)
{
	struct vfu_migr *g = &s->migr;
	enum vfu_migr_state from = g->state;
	int rc = 0;

	if (to == VFU_MIGR_STOP_COPY) {
		rc = vfu_migr_save(s, reterr);
	} else if (to == VFU_MIGR_RESUMING) {
		s->dev->ops->reset(s->dev);
	} else if (from == VFU_MIGR_RESUMING) {
		rc = vfu_migr_load(s, reterr);
		if (rc)
			to = VFU_MIGR_ERROR;
		vfu_migr_bytes_drop(g);
	} else {
		vfu_migr_bytes_drop(g);
	}
	if (!rc || to == VFU_MIGR_ERROR)
		g->state = to;
	return rc;
}

static int vfu_migr_state_set(struct vfu_session *s, uint32_t want, struct err *reterr)
{
	struct vfu_migr *g = &s->migr;
	int rc = 0;

	if (want >= VFU_MIGR_STATE_COUNT || !vfu_migr_next[g->state][want])
		return err_set(reterr, -EINVAL, "no way from %s to state %u",
			       vfu_migr_state_name(g->state), want);
	while (!rc && g->state != want)
		rc = vfu_migr_arc(s, vfu_migr_next[g->state][want], reterr);
	endpoint_tell(&s->endpoint_conn, ENDPOINT_MIGRATION, vfu_migr_state_name(g->state));
	return rc;
}

/* ---- DEVICE_FEATURE ---- */

#define VFU_MIGRATION_STOP_COPY 0x1u
#define VFU_MIGRATION_PRE_COPY	0x4u

struct vfu_feature_row {
	uint32_t feature;
	uint32_t methods;
	uint32_t data_min; /* bytes after the header that the request must have, or room for */
};

enum {
	VFU_FEATURE_MIGRATION = 1,
	VFU_FEATURE_MIG_DEVICE_STATE = 2,
	VFU_FEATURE_DMA_LOGGING_START = 6,
	VFU_FEATURE_DMA_LOGGING_STOP = 7,
	VFU_FEATURE_DMA_LOGGING_REPORT = 8,
};

static const struct vfu_feature_row vfu_features[] = {
	{ VFU_FEATURE_MIGRATION, VFU_FEATURE_GET, 8 },
	{ VFU_FEATURE_MIG_DEVICE_STATE, VFU_FEATURE_GET | VFU_FEATURE_SET, 8 },
	{ VFU_FEATURE_DMA_LOGGING_START, VFU_FEATURE_SET, 16 },
	{ VFU_FEATURE_DMA_LOGGING_STOP, VFU_FEATURE_SET, 0 },
	{ VFU_FEATURE_DMA_LOGGING_REPORT, VFU_FEATURE_GET, 24 },
};

static const struct vfu_feature_row *vfu_feature_find(uint32_t feature)
{
	for (size_t i = 0; i < ARRAY_SIZE(vfu_features); i++) {
		if (vfu_features[i].feature == feature)
			return &vfu_features[i];
	}
	return NULL;
}

/* data has room for room bytes, of which have came. *ret_len: how many go back. */
static int vfu_feature_get(struct vfu_session *s, const struct vfu_feature_row *row, uint8_t *data,
			   uint32_t have, uint32_t room, uint32_t *ret_len, struct err *reterr)
{
	uint32_t state[2] = { s->migr.state, 0 };
	uint64_t flags = VFU_MIGRATION_STOP_COPY | VFU_MIGRATION_PRE_COPY;

	if (row->feature == VFU_FEATURE_DMA_LOGGING_REPORT)
		return vfu_dirty_report(s, data, have, room, ret_len, reterr);
	memcpy(data, row->feature == VFU_FEATURE_MIGRATION ? (void *)&flags : (void *)state, 8);
	*ret_len = 8;
	return 0;
}

static int vfu_feature_set(struct vfu_session *s, const struct vfu_feature_row *row, uint8_t *data,
			   uint32_t have, struct err *reterr)
{
	uint32_t state;

	if (have < row->data_min)
		return err_set(reterr, -EINVAL, "feature %u: expected %u bytes, got %u",
			       row->feature, row->data_min, have);
	switch (row->feature) {
	case VFU_FEATURE_DMA_LOGGING_START:
		return vfu_dirty_start(s, data, have, reterr);
	case VFU_FEATURE_DMA_LOGGING_STOP:
		return vfu_dirty_stop(s, reterr);
	default:
		memcpy(&state, data, sizeof(state));
		return vfu_migr_state_set(s, state, reterr);
	}
}

int vfu_handle_DEVICE_FEATURE(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	struct vfu_feature *f = vfu_msg_bytes(m);
	uint32_t method = f->flags & (VFU_FEATURE_GET | VFU_FEATURE_SET);
	const struct vfu_feature_row *row = vfu_feature_find(f->flags & VFU_FEATURE_MASK);
	uint32_t have = m->payload - sizeof(*f), room = f->argsz, len = 0;
	int rc;

	m->reply_bytes = m->payload;
	if (room < sizeof(*f) ||
	    f->flags & ~(VFU_FEATURE_MASK | VFU_FEATURE_GET | VFU_FEATURE_SET | VFU_FEATURE_PROBE))
		return err_set(reterr, -EINVAL, "argsz %u, flags 0x%x", f->argsz, f->flags);
	if (!row || (row->methods & method) != method)
		return err_set(reterr, -ENOTSUP, "feature %u, flags 0x%x",
			       f->flags & VFU_FEATURE_MASK, f->flags);
	if (f->flags & VFU_FEATURE_PROBE)
		return 0;
	if (method == VFU_FEATURE_SET)
		return vfu_feature_set(s, row, f->bytes, have, reterr);
	if (method != VFU_FEATURE_GET)
		return err_set(reterr, -EINVAL, "flags: expected one of get and set, got 0x%x",
			       f->flags);
	room = MIN(room, VFU_XFER_MAX) - (uint32_t)sizeof(*f);
	if (room < row->data_min)
		return err_set(reterr, -EINVAL, "argsz: expected at least %zu, got %u",
			       sizeof(*f) + row->data_min, f->argsz);
	if (vfu_msg_reserve(m, sizeof(*f) + room))
		return err_set(reterr, -ENOMEM, "no memory for %u bytes", room);
	f = vfu_msg_bytes(m);
	rc = vfu_feature_get(s, row, f->bytes, have, room, &len, reterr);
	f->argsz = sizeof(*f) + len;
	m->reply_bytes = f->argsz;
	return rc;
}

/* ---- data ---- */

int vfu_handle_MIG_DATA_READ(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	struct vfu_migr *g = &s->migr;
	struct vfu_mig_data *d = vfu_msg_bytes(m);
	uint32_t size = d->size;
	size_t n;

	if (g->state != VFU_MIGR_PRE_COPY && g->state != VFU_MIGR_STOP_COPY)
		return err_set(reterr, -EINVAL, "state: expected a saving one, is %s",
			       vfu_migr_state_name(g->state));
	if (size > VFU_XFER_MAX || d->argsz < sizeof(*d) + size)
		return err_set(reterr, -EINVAL, "size: expected at most %u and argsz, got %u of %u",
			       VFU_XFER_MAX, size, d->argsz);
	n = MIN((size_t)size, g->len - g->done);
	if (vfu_msg_reserve(m, sizeof(*d) + n))
		return err_set(reterr, -ENOMEM, "no memory for %zu bytes", n);
	d = vfu_msg_bytes(m);
	if (n)
		memcpy(d->bytes, g->bytes + g->done, n);
	g->done += n;
	d->argsz = (uint32_t)(sizeof(*d) + n);
	d->size = (uint32_t)n;
	m->reply_bytes = d->argsz;
	return 0;
}

int vfu_handle_MIG_DATA_WRITE(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	struct vfu_migr *g = &s->migr;
	const struct vfu_mig_data *d = vfu_msg_bytes(m);
	uint8_t *bytes;

	if (g->state != VFU_MIGR_RESUMING)
		return err_set(reterr, -EINVAL, "state: expected RESUMING, is %s",
			       vfu_migr_state_name(g->state));
	if (d->size != m->payload - sizeof(*d))
		return err_set(reterr, -EINVAL, "size: expected the %zu bytes that came, got %u",
			       m->payload - sizeof(*d), d->size);
	if (d->size > VFU_MIGR_BYTES_MAX - g->len)
		return err_set(reterr, -ENOSPC, "state: expected at most %u bytes",
			       VFU_MIGR_BYTES_MAX);
	if (g->len + d->size > g->capacity) {
		size_t capacity = MAX(g->len + d->size, 2 * g->capacity);

		bytes = realloc(g->bytes, capacity);
		if (!bytes)
			return err_set(reterr, -ENOMEM, "no memory for %zu bytes", capacity);
		g->bytes = bytes;
		g->capacity = capacity;
	}
	if (d->size)
		memcpy(g->bytes + g->len, d->bytes, d->size);
	g->len += d->size;
	return 0;
}

/* ---- hand-over ---- */

#define VFU_MIGR_TAG	 "migr"
#define VFU_MIGR_VERSION 1

int vfu_migr_pack(const struct vfu_session *s, struct parcel *p, struct err *reterr)
{
	const struct vfu_migr *g = &s->migr;
	struct parcel_section section;
	uint8_t *state;
	size_t len;
	int rc = vfu_migr_state_save(s, &state, &len, reterr);

	if (rc < 0)
		return rc;
	parcel_section_begin(p, &section, VFU_MIGR_TAG, VFU_MIGR_VERSION);
	parcel_put_u32(p, (uint32_t)len);
	parcel_put(p, state, len);
	free(state);
	parcel_put_u32(p, g->state);
	parcel_put_u32(p, (uint32_t)g->len);
	if (g->len)
		parcel_put(p, g->bytes, g->len);
	parcel_put_u32(p, (uint32_t)g->done);
	parcel_put_u32(p, g->log_all);
	rc = gdirty_pack(g->dirty, p, reterr);
	parcel_section_done(p, &section);
	return rc;
}

/* At most what a saved state, or what came of one, can be; malloc'ed, NULL: nothing. */
static int vfu_migr_bytes_unpack(struct parcel *p, uint8_t **ret_bytes, size_t *ret_len,
				 struct err *reterr)
{
	const size_t len = parcel_take_count(p, VFU_MIGR_BYTES_MAX + sizeof(struct vfu_saved) +
							sizeof(struct vfu_space));

	*ret_bytes = len ? malloc(len) : NULL;
	*ret_len = 0;
	if (len && !*ret_bytes)
		return err_set(reterr, -ENOMEM, "no memory for %zu bytes of state", len);
	if (len && !parcel_take(p, *ret_bytes, len))
		return err_set(reterr, -EPROTO, "state: it is cut off");
	*ret_len = len;
	return 0;
}

static int vfu_migr_device_unpack(struct vfu_session *s, struct parcel *p, struct err *reterr)
{
	uint8_t *state;
	size_t len;
	int rc = vfu_migr_bytes_unpack(p, &state, &len, reterr);

	if (rc == 0)
		rc = vfu_migr_state_load(s, state, len, reterr);
	free(state);
	return rc;
}

int vfu_migr_unpack(struct vfu_session *s, struct parcel *p, struct err *reterr)
{
	struct vfu_migr *g = &s->migr;
	struct parcel_section section;
	int rc = parcel_section_enter(p, &section, VFU_MIGR_TAG, VFU_MIGR_VERSION, reterr);

	if (rc == 0)
		rc = vfu_migr_device_unpack(s, p, reterr);
	if (rc < 0)
		return rc;
	g->state = parcel_take_count(p, VFU_MIGR_STATE_COUNT - 1);
	rc = vfu_migr_bytes_unpack(p, &g->bytes, &g->len, reterr);
	if (rc < 0)
		return rc;
	g->capacity = g->len;
	g->done = parcel_take_count(p, (uint32_t)g->len);
	g->log_all = parcel_take_bool(p);
	rc = gdirty_unpack(p, &g->dirty, reterr);
	if (rc < 0)
		return rc;
	s->dev->ops->dirty_set(s->dev, g->dirty);
	return parcel_section_end(p, &section, VFU_MIGR_TAG, reterr);
}
