/*
 * Get and Set Features (base 5.14, 5.21) and Keep Alive. One row a feature. None is saveable: a
 * controller goes with its front-end's connection, so "saved" is "default" (base 7.8).
 */
#include <string.h>

#include "nvme/caps.h"
#include "nvme/nvme_impl.h"

#define SET_SV	    (1u << 31)
#define FEAT_CHANGE (1u << 0)
#define FEAT_NS	    (1u << 1) /* of a namespace: NSID names it */
#define FEAT_OWN    (1u << 2) /* set() keeps the value, where get() finds it */

enum feature_select {
	SELECT_CURRENT,
	SELECT_DEFAULT,
	SELECT_SAVED,
	SELECT_CAPABILITIES,
};

struct feature {
	uint8_t fid;
	uint8_t flags;
	uint32_t standard; /* the value after a reset */
	uint32_t mask;	   /* of dword 11; other bits are reserved and ignored */
	/* What is to be done beyond keeping the value, or why not. NULL: nothing. */
	enum nvme_status (*set)(struct nvme_ctrl *ctrl, uint32_t value, uint32_t *ret_dw0);
	/* NULL: the value that was kept. asked: dword 11. */
	enum nvme_status (*get)(const struct nvme_ctrl *ctrl, uint32_t asked, bool standard,
				uint32_t *ret_dw0);
	/* In place of these: features with data, or of a namespace. They end the command. */
	void (*set_run)(struct nvme_cmd *c);
	void (*get_run)(struct nvme_cmd *c, bool standard);
};

/* ---- temperature (04h) ---- */

#define TEMPERATURE_COMPOSITE 0
#define TEMPERATURE_ALL	      15
#define THRESHOLD_OVER	      0
#define THRESHOLD_UNDER	      1

static uint32_t temperature_sensor(uint32_t dw11)
{
	return dw11 >> 16 & 0xf;
}

static uint32_t temperature_type(uint32_t dw11)
{
	return dw11 >> 20 & 0x3;
}

static enum nvme_status temperature_set(struct nvme_ctrl *ctrl, uint32_t value, uint32_t *ret_dw0)
{
	uint32_t sensor = temperature_sensor(value), type = temperature_type(value);

	if (type > THRESHOLD_UNDER ||
	    (sensor != TEMPERATURE_COMPOSITE && sensor != TEMPERATURE_ALL))
		return NVME_SC_INVALID_FIELD;
	if (type == THRESHOLD_UNDER)
		ctrl->features.under_temperature_k = value & 0xffff;
	else
		ctrl->features.value[NVME_FEAT_TEMPERATURE] = value & 0xffff;
	nvme_smart_check(ctrl);
	return NVME_SC_SUCCESS;
}

static enum nvme_status temperature_get(const struct nvme_ctrl *ctrl, uint32_t asked, bool standard,
					uint32_t *ret_dw0)
{
	bool under = temperature_type(asked) == THRESHOLD_UNDER;

	if (temperature_type(asked) > THRESHOLD_UNDER ||
	    temperature_sensor(asked) != TEMPERATURE_COMPOSITE)
		return NVME_SC_INVALID_FIELD;
	if (standard)
		*ret_dw0 = under ? 0 : NVME_WCTEMP_K;
	else
		*ret_dw0 = under ? ctrl->features.under_temperature_k
				 : ctrl->features.value[NVME_FEAT_TEMPERATURE];
	return NVME_SC_SUCCESS;
}

/* ---- those of one dword ---- */

static enum nvme_status power_set(struct nvme_ctrl *ctrl, uint32_t value, uint32_t *ret_dw0)
{
	return (value & 0x1f) < NVME_POWER_STATE_COUNT ? NVME_SC_SUCCESS : NVME_SC_INVALID_FIELD;
}

static enum nvme_status cache_set(struct nvme_ctrl *ctrl, uint32_t value, uint32_t *ret_dw0)
{
	atomic_store_explicit(&ctrl->write_through, !value, memory_order_relaxed);
	return NVME_SC_SUCCESS;
}

static enum nvme_status queues_get(const struct nvme_ctrl *ctrl, uint32_t asked, bool standard,
				   uint32_t *ret_dw0)
{
	uint32_t last = ctrl->params.num_queues - 1u;

	*ret_dw0 = last << 16 | last;
	return NVME_SC_SUCCESS;
}

/* More than was asked for may be there: the guest takes what it wants. */
static enum nvme_status queues_set(struct nvme_ctrl *ctrl, uint32_t value, uint32_t *ret_dw0)
{
	if ((value & 0xffff) == 0xffff || value >> 16 == 0xffff)
		return NVME_SC_INVALID_FIELD;
	for (uint32_t qid = 1; qid <= NVME_QPAIRS_MAX; qid++)
		if (ctrl->queues.cq[qid])
			return NVME_SC_SEQUENCE_ERROR;
	return queues_get(ctrl, 0, false, ret_dw0);
}

static enum nvme_status coalescing_set(struct nvme_ctrl *ctrl, uint32_t value, uint32_t *ret_dw0)
{
	ctrl->features.value[NVME_FEAT_COALESCING] = value;
	nvme_irq_coalescing_changed(ctrl);
	return NVME_SC_SUCCESS;
}

static enum nvme_status vector_set(struct nvme_ctrl *ctrl, uint32_t value, uint32_t *ret_dw0)
{
	uint32_t vector = value & 0xffff;
	uint64_t bit = 1ull << vector % 64;

	if (vector >= ctrl->params.vectors)
		return NVME_SC_INVALID_FIELD;
	if (value >> 16)
		ctrl->features.coalescing_disable[vector / 64] |= bit;
	else
		ctrl->features.coalescing_disable[vector / 64] &= ~bit;
	nvme_irq_coalescing_changed(ctrl);
	return NVME_SC_SUCCESS;
}

static enum nvme_status vector_get(const struct nvme_ctrl *ctrl, uint32_t asked, bool standard,
				   uint32_t *ret_dw0)
{
	uint32_t vector = asked & 0xffff;

	if (vector >= ctrl->params.vectors)
		return NVME_SC_INVALID_FIELD;
	*ret_dw0 = vector;
	if (!standard && ctrl->features.coalescing_disable[vector / 64] >> vector % 64 & 1)
		*ret_dw0 |= 1u << 16;
	return NVME_SC_SUCCESS;
}

/* ---- keep alive (0Fh) ---- */

static void keep_alive_expired(struct loop_timer *t)
{
	struct nvme_ctrl *ctrl = container_of(t, struct nvme_ctrl, features.keep_alive);
	const struct nvme_error_entry entry = {
		.sqid = 0xffff,
		.cid = 0xffff,
		.location = 0xffff,
		.status = NVME_SC_KEEP_ALIVE_EXPIRED << 1,
	};

	nvme_log_error_add(ctrl, &entry);
	nvme_ctrl_fatal(ctrl, "keep alive timer expired");
}

static void keep_alive_restart(struct nvme_ctrl *ctrl)
{
	uint64_t ms = ctrl->features.value[NVME_FEAT_KEEP_ALIVE];

	loop_timer_stop(&ctrl->features.keep_alive);
	if (ms)
		loop_timer_start(ctrl->params.main_loop, &ctrl->features.keep_alive,
				 loop_clock_ns() + ms * 1000000);
}

/* Rounded up to what KAS tells; the value itself stays as it was set. */
static enum nvme_status keep_alive_set(struct nvme_ctrl *ctrl, uint32_t value, uint32_t *ret_dw0)
{
	uint64_t unit_ms = NVME_KAS_100MS * 100, ms = value;

	ms = (ms + unit_ms - 1) / unit_ms * unit_ms;
	ctrl->features.value[NVME_FEAT_KEEP_ALIVE] = (uint32_t)MIN(ms, (uint64_t)UINT32_MAX);
	keep_alive_restart(ctrl);
	return NVME_SC_SUCCESS;
}

void nvme_keep_alive(struct nvme_cmd *c)
{
	keep_alive_restart(nvme_cmd_ctrl(c));
	nvme_cmd_end(c, NVME_SC_SUCCESS);
}

/* ---- timestamp (0Eh, base 5.21.1.14) ---- */

#define TIMESTAMP_BYTES	    8
#define TIMESTAMP_MASK	    0xffffffffffffull
#define TIMESTAMP_SET_BY_US (1u << 1) /* Timestamp Origin 001b */

static int64_t clock_ms(void)
{
	return (int64_t)(loop_clock_ns() / 1000000);
}

static void timestamp_data(struct nvme_cmd *c)
{
	struct nvme_features *f = &nvme_cmd_ctrl(c)->features;
	struct le64 wire;

	if (!iov_cur_read(&c->data, &wire, sizeof(wire))) {
		nvme_cmd_end(c, NVME_SC_DATA_TRANSFER_ERROR);
		return;
	}
	f->timestamp_offset_ms = (int64_t)(le64_get(wire) & TIMESTAMP_MASK) - clock_ms();
	f->timestamp_set = true;
	nvme_cmd_end(c, NVME_SC_SUCCESS);
}

static void timestamp_set(struct nvme_cmd *c)
{
	nvme_data(c, TIMESTAMP_BYTES, NVME_FROM_GUEST, timestamp_data);
}

static void timestamp_get(struct nvme_cmd *c, bool standard)
{
	const struct nvme_features *f = &nvme_cmd_ctrl(c)->features;
	uint64_t ms = standard ? 0 : (uint64_t)(clock_ms() + f->timestamp_offset_ms);
	uint64_t origin = !standard && f->timestamp_set ? TIMESTAMP_SET_BY_US : 0;
	struct le64 wire = le64((ms & TIMESTAMP_MASK) | origin << 48);

	nvme_cmd_reply(c, &wire, sizeof(wire), sizeof(wire));
}

/* ---- host identifier (81h, base 5.21.1.19) ---- */

#define EXHID (1u << 0)

static size_t host_id_bytes(const struct nvme_cmd *c)
{
	return nvme_cdw11(c) & EXHID ? 16 : 8;
}

static bool host_id_is_set(const struct nvme_ctrl *ctrl)
{
	static const uint8_t none[16];

	return memcmp(ctrl->features.host_id, none, sizeof(none)) != 0;
}

/* 8 and 16 bytes at the same time in one subsystem cannot be compared. */
static bool host_id_consistent(const struct nvme_ctrl *ctrl, bool extended)
{
	const struct nvme_ctrl *other;

	list_for_each(other, &ctrl->subsys->ctrls, node)
		if (other != ctrl && host_id_is_set(other) &&
		    other->features.host_id_extended != extended)
			return false;
	return true;
}

static void host_id_data(struct nvme_cmd *c)
{
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint8_t id[16] = { 0 };
	static const uint8_t none[16];
	bool extended = nvme_cdw11(c) & EXHID;

	if (!iov_cur_read(&c->data, id, host_id_bytes(c))) {
		nvme_cmd_end(c, NVME_SC_DATA_TRANSFER_ERROR);
		return;
	}
	if (memcmp(id, none, sizeof(id)) != 0 && !host_id_consistent(ctrl, extended)) {
		nvme_cmd_end(c, NVME_SC_HOST_ID_INCONSISTENT);
		return;
	}
	memcpy(ctrl->features.host_id, id, sizeof(id));
	ctrl->features.host_id_extended = extended;
	nvme_resv_host_changed(ctrl);
	nvme_cmd_end(c, NVME_SC_SUCCESS);
}

static void host_id_set(struct nvme_cmd *c)
{
	nvme_data(c, host_id_bytes(c), NVME_FROM_GUEST, host_id_data);
}

static void host_id_get(struct nvme_cmd *c, bool standard)
{
	static const uint8_t none[16];
	const uint8_t *id = standard ? none : nvme_cmd_ctrl(c)->features.host_id;

	nvme_cmd_reply(c, id, host_id_bytes(c), host_id_bytes(c));
}

/* ---- of a namespace: error recovery (05h), write protection (84h) ---- */

#define DULBE (1u << 16)

/* Why a feature of this attachment cannot be seen or set now. */
static enum nvme_status ns_status(const struct nvme_att *att)
{
	return att ? nvme_ana_status(att->ctrl) : NVME_SC_INVALID_NS;
}

static enum nvme_status recovery_set(struct nvme_att *att, uint32_t value)
{
	if (value & DULBE) /* NSFEAT does not tell of it */
		return NVME_SC_INVALID_FIELD;
	att->tler = (uint16_t)value;
	return NVME_SC_SUCCESS;
}

static uint32_t recovery_get(const struct nvme_att *att)
{
	return att->tler;
}

static uint32_t protection_get(const struct nvme_att *att)
{
	return att->ns->write_protect;
}

static enum nvme_status resv_mask_set(struct nvme_att *att, uint32_t value)
{
	att->resv_mask = value;
	return NVME_SC_SUCCESS;
}

static uint32_t resv_mask_get(const struct nvme_att *att)
{
	return att->resv_mask;
}

static uint32_t resv_ptpl_get(const struct nvme_att *att)
{
	return att->ns->resv.ptpl;
}

static const struct ns_feature {
	uint8_t fid;
	uint32_t mask;
	enum nvme_status (*set)(struct nvme_att *att, uint32_t value);
	uint32_t (*get)(const struct nvme_att *att);
} ns_features[] = {
	{ NVME_FEAT_ERROR_RECOVERY, DULBE | 0xffff, recovery_set, recovery_get },
	{ NVME_FEAT_RESV_MASK, NVME_RESV_EVENT_MASK, resv_mask_set, resv_mask_get },
	{ NVME_FEAT_RESV_PERSISTENCE, 0x1, NULL, resv_ptpl_get }, /* nvme_resv_ptpl_set */
	{ NVME_FEAT_WRITE_PROTECT, 0x7, NULL, protection_get },	  /* nvme_protect_set */
};

static const struct ns_feature *ns_feature_find(const struct nvme_cmd *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(ns_features); i++)
		if (ns_features[i].fid == (nvme_cdw10(c) & 0xff))
			return &ns_features[i];
	UNREACHABLE();
}

/* The first status that is not success; all attached namespaces were tried. */
static enum nvme_status ns_set_all(struct nvme_ctrl *ctrl, const struct ns_feature *f,
				   uint32_t value)
{
	enum nvme_status first = NVME_SC_SUCCESS;

	for (uint32_t nsid = 1; nsid <= NVME_NSID_MAX; nsid++) {
		struct nvme_att *att = nvme_att_find(ctrl, nsid);
		enum nvme_status status = att ? ns_status(att) : NVME_SC_SUCCESS;

		if (att && status == NVME_SC_SUCCESS)
			status = f->set(att, value);
		if (first == NVME_SC_SUCCESS)
			first = status;
	}
	return first;
}

static void ns_set(struct nvme_cmd *c)
{
	const struct ns_feature *f = ns_feature_find(c);
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint32_t nsid = le32_get(c->sqe.nsid), value = nvme_cdw11(c) & f->mask;
	struct nvme_att *att = nvme_att_find(ctrl, nsid);
	enum nvme_status status;

	if (nsid == NVME_NSID_ALL)
		status = ns_set_all(ctrl, f, value);
	else
		status = ns_status(att);
	if (nsid != NVME_NSID_ALL && status == NVME_SC_SUCCESS)
		status = f->set(att, value);
	nvme_cmd_end(c, status);
}

static void ns_get(struct nvme_cmd *c, bool standard)
{
	const struct ns_feature *f = ns_feature_find(c);
	const struct nvme_att *att = nvme_att_find(nvme_cmd_ctrl(c), le32_get(c->sqe.nsid));
	enum nvme_status status = ns_status(att);

	if (status == NVME_SC_SUCCESS)
		c->dw0 = standard ? 0 : f->get(att);
	nvme_cmd_end(c, status);
}

/* ---- the table ---- */

#define VALUE(fid, flags, standard, mask, set, get)                                                \
	{                                                                                          \
		NVME_FEAT_##fid, FEAT_CHANGE | (flags), standard, mask, set, get, NULL, NULL       \
	}
#define RUN(fid, flags, set, get)                                                                  \
	{                                                                                          \
		NVME_FEAT_##fid, FEAT_CHANGE | (flags), 0, 0, NULL, NULL, set, get                 \
	}

static const struct feature features[] = {
	VALUE(ARBITRATION, 0, 6, 0xffffff07, NULL, NULL),
	VALUE(POWER, 0, 0, 0xff, power_set, NULL),
	VALUE(TEMPERATURE, FEAT_OWN, NVME_WCTEMP_K, 0x003fffff, temperature_set, temperature_get),
	RUN(ERROR_RECOVERY, FEAT_NS, ns_set, ns_get),
	VALUE(WRITE_CACHE, 0, 1, 0x1, cache_set, NULL),
	VALUE(QUEUES, FEAT_OWN, 0, 0xffffffff, queues_set, queues_get),
	VALUE(COALESCING, FEAT_OWN, 0, 0xffff, coalescing_set, NULL),
	VALUE(VECTOR, FEAT_OWN, 0, 0x1ffff, vector_set, vector_get),
	VALUE(ATOMICITY, 0, 0, 0x1, NULL, NULL),
	VALUE(EVENTS, 0, 0, NVME_AEC_SMART | NVME_OAES, NULL, NULL),
	RUN(TIMESTAMP, 0, timestamp_set, timestamp_get),
	VALUE(KEEP_ALIVE, FEAT_OWN, 0, 0xffffffff, keep_alive_set, NULL),
	RUN(HOST_ID, 0, host_id_set, host_id_get),
	RUN(RESV_MASK, FEAT_NS, ns_set, ns_get),
	RUN(RESV_PERSISTENCE, FEAT_NS, nvme_resv_ptpl_set, ns_get),
	RUN(WRITE_PROTECT, FEAT_NS, nvme_protect_set, ns_get),
};

static const struct feature *feature_find(const struct nvme_cmd *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].fid == (nvme_cdw10(c) & 0xff))
			return &features[i];
	return NULL;
}

static void feature_set_value(struct nvme_cmd *c, const struct feature *f)
{
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint32_t value = nvme_cdw11(c) & f->mask;
	enum nvme_status status = NVME_SC_SUCCESS;

	if (f->set)
		status = f->set(ctrl, value, &c->dw0);
	if (status == NVME_SC_SUCCESS && !(f->flags & FEAT_OWN))
		ctrl->features.value[f->fid] = value;
	nvme_cmd_end(c, status);
}

void nvme_set_features(struct nvme_cmd *c)
{
	const struct feature *f = feature_find(c);
	uint32_t nsid = le32_get(c->sqe.nsid);

	if (!f)
		nvme_cmd_end(c, NVME_SC_INVALID_FIELD);
	else if (nvme_cdw10(c) & SET_SV)
		nvme_cmd_end(c, NVME_SC_FEATURE_NOT_SAVEABLE);
	else if (!(f->flags & FEAT_NS) && nsid && nsid != NVME_NSID_ALL)
		nvme_cmd_end(c, nvme_att_find(nvme_cmd_ctrl(c), nsid)
					? NVME_SC_FEATURE_NOT_NS_SPECIFIC
					: NVME_SC_INVALID_NS);
	else if (f->set_run)
		f->set_run(c);
	else
		feature_set_value(c, f);
}

void nvme_get_features(struct nvme_cmd *c)
{
	const struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	const struct feature *f = feature_find(c);
	uint32_t select = nvme_cdw10(c) >> 8 & 7;
	bool standard = select == SELECT_DEFAULT || select == SELECT_SAVED;
	enum nvme_status status = NVME_SC_SUCCESS;

	if (!f || select > SELECT_CAPABILITIES) {
		nvme_cmd_end(c, NVME_SC_INVALID_FIELD);
		return;
	}
	if (select == SELECT_CAPABILITIES) {
		c->dw0 =
			(f->flags & FEAT_NS ? 1u << 1 : 0) | (f->flags & FEAT_CHANGE ? 1u << 2 : 0);
		nvme_cmd_end(c, NVME_SC_SUCCESS);
		return;
	}
	if (f->get_run) {
		f->get_run(c, standard);
		return;
	}
	if (f->get)
		status = f->get(ctrl, nvme_cdw11(c), standard, &c->dw0);
	else
		c->dw0 = standard ? f->standard : ctrl->features.value[f->fid];
	nvme_cmd_end(c, status);
}

void nvme_features_reset(struct nvme_ctrl *ctrl)
{
	struct nvme_features *f = &ctrl->features;

	if (f->keep_alive.fn)
		loop_timer_stop(&f->keep_alive);
	memset(f, 0, sizeof(*f));
	loop_timer_init(&f->keep_alive, keep_alive_expired);
	f->timestamp_offset_ms = -clock_ms();
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].fid < ARRAY_SIZE(f->value))
			f->value[features[i].fid] = features[i].standard;
	atomic_store_explicit(&ctrl->write_through, false, memory_order_relaxed);
	for (uint32_t nsid = 1; nsid <= NVME_NSID_MAX; nsid++)
		if (ctrl->atts && ctrl->atts[nsid])
			ctrl->atts[nsid]->tler = 0;
	if (ctrl->subsys)
		nvme_resv_reset(ctrl);
	nvme_smart_check(ctrl);
	nvme_irq_coalescing_changed(ctrl);
}
