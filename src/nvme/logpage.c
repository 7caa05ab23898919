/* Get Log Page (base 5.14). One row a page. */
#include <string.h>

#include "nvme/caps.h"
#include "nvme/limits.h"
#include "nvme/nvme_impl.h"

#define RAE		    (1u << 15)
#define LSP_GROUPS_ONLY	    (1u << 8) /* of ANA: RGO */
#define NOTICE_NS_CHANGED   0x00
#define SMART_TEMPERATURE   0x01
#define WARNING_TEMPERATURE (1u << 1)

/* ---- error information (01h) ---- */

struct log_error {
	struct le64 count;
	struct le16 sqid, cid, status, location;
	struct le64 lba;
	struct le32 nsid;
	uint8_t unused[36];
};
_Static_assert(sizeof(struct log_error) == 64, "base 5.14.1.1");

void nvme_log_error_add(struct nvme_ctrl *ctrl, const struct nvme_error_entry *entry)
{
	struct nvme_logs *logs = &ctrl->logs;
	struct nvme_error_entry *slot;

	pthread_mutex_lock(&ctrl->lock);
	slot = &logs->errors[logs->error_count % NVME_ERROR_ENTRIES];
	*slot = *entry;
	slot->count = ++logs->error_count;
	pthread_mutex_unlock(&ctrl->lock);
}

/* Dwords 10 and 11 are a starting LBA in all I/O commands but these. */
static bool log_has_lba(const struct nvme_cmd *c)
{
	if (!c->row || c->row->admin)
		return false;
	switch (c->row->opcode) {
	case NVME_IO_READ:
	case NVME_IO_WRITE:
	case NVME_IO_WRITE_UNCORRECTABLE:
	case NVME_IO_COMPARE:
	case NVME_IO_WRITE_ZEROES:
	case NVME_IO_VERIFY:
		return true;
	default:
		return false;
	}
}

void nvme_log_error(struct nvme_cmd *c, uint16_t status_field)
{
	struct nvme_error_entry entry = {
		.sqid = nvme_cmd_sqid(c),
		.cid = c->cid,
		.status = status_field,
		.location = 0xffff,
		.nsid = le32_get(c->sqe.nsid),
	};

	if (log_has_lba(c))
		entry.lba = nvme_cdw10(c) | (uint64_t)nvme_cdw11(c) << 32;
	nvme_log_error_add(nvme_cmd_ctrl(c), &entry);
}

/* The newest one first. */
static void log_errors(struct nvme_cmd *c, struct nvme_ctrl *ctrl, void *page)
{
	struct nvme_logs *logs = &ctrl->logs;
	struct log_error *to = page;

	pthread_mutex_lock(&ctrl->lock);
	for (uint64_t i = 0; i < MIN(logs->error_count, (uint64_t)NVME_ERROR_ENTRIES); i++) {
		const struct nvme_error_entry *from =
			&logs->errors[(logs->error_count - 1 - i) % NVME_ERROR_ENTRIES];

		to[i].count = le64(from->count);
		to[i].sqid = le16(from->sqid);
		to[i].cid = le16(from->cid);
		to[i].status = le16(from->status);
		to[i].location = le16(from->location);
		to[i].lba = le64(from->lba);
		to[i].nsid = le32(from->nsid);
	}
	pthread_mutex_unlock(&ctrl->lock);
}

/* ---- SMART / health (02h) ---- */

struct log_u128 {
	struct le64 low, high;
};

struct log_smart {
	uint8_t critical_warning, temperature[2], spare, spare_threshold, used, unused_6[26];
	struct log_u128 units_read, units_written, reads, writes, busy_minutes, power_cycles,
		power_on_hours, unsafe_shutdowns, media_errors, error_entries;
	struct le32 warning_minutes, critical_minutes;
	uint8_t unused_200[312];
};
_Static_assert(sizeof(struct log_smart) == 512, "base 5.14.1.2");
_Static_assert(offsetof(struct log_smart, units_read) == 32, "base 5.14.1.2");
_Static_assert(offsetof(struct log_smart, error_entries) == 176, "base 5.14.1.2");

static struct log_u128 log_u128(uint64_t v)
{
	return (struct log_u128){ .low = le64(v) };
}

/* Thousands of units of 512 bytes, rounded up. */
static struct log_u128 log_units(uint64_t bytes)
{
	return log_u128((bytes / 512 + 999) / 1000);
}

static uint8_t smart_warning(const struct nvme_ctrl *ctrl)
{
	bool outside = NVME_TEMPERATURE_K >= ctrl->features.value[NVME_FEAT_TEMPERATURE] ||
		       NVME_TEMPERATURE_K <= ctrl->features.under_temperature_k;

	return outside ? WARNING_TEMPERATURE : 0;
}

void nvme_smart_check(struct nvme_ctrl *ctrl)
{
	uint8_t warning = smart_warning(ctrl);
	uint8_t risen = (uint8_t)(warning & ~ctrl->logs.critical_warning);

	ctrl->logs.critical_warning = warning;
	if (risen & ctrl->features.value[NVME_FEAT_EVENTS] & NVME_AEC_SMART)
		nvme_event(ctrl, NVME_EVENT_SMART, SMART_TEMPERATURE, NVME_LOG_SMART);
}

static void smart_add(const struct nvme_ns *ns, struct blk_stats *sum)
{
	struct blk_stats stats = { 0 };

	blk_dev_stats(ns->dev, &stats);
	for (uint32_t op = 0; op < BLK_OP_COUNT; op++) {
		sum->ops[op] += stats.ops[op];
		sum->bytes[op] += stats.bytes[op];
	}
	for (uint32_t op = 0; op < BLK_OP_COUNT; op++)
		sum->errors[op][BLK_ST_IOERR] += stats.errors[op][BLK_ST_IOERR];
}

/* Of one namespace, or of all that the controller has; of all hosts, since the daemon runs. */
static void log_smart(struct nvme_cmd *c, struct nvme_ctrl *ctrl, void *page)
{
	const struct nvme_att *only = nvme_att_find(ctrl, le32_get(c->sqe.nsid));
	struct blk_stats sum = { 0 };
	struct log_smart *to = page;
	uint64_t up_ns = loop_clock_ns() - ctrl->subsys->opened_ns;

	for (uint32_t nsid = 1; nsid <= NVME_NSID_MAX; nsid++) {
		const struct nvme_att *att = nvme_att_find(ctrl, nsid);

		if (att && (!only || att == only))
			smart_add(att->ns, &sum);
	}
	to->critical_warning = smart_warning(ctrl);
	to->temperature[0] = NVME_TEMPERATURE_K & 0xff;
	to->temperature[1] = NVME_TEMPERATURE_K >> 8;
	to->spare = 100;
	to->spare_threshold = 10;
	to->units_read = log_units(sum.bytes[BLK_READ]);
	to->units_written = log_units(sum.bytes[BLK_WRITE]);
	to->reads = log_u128(sum.ops[BLK_READ]);
	to->writes = log_u128(sum.ops[BLK_WRITE]);
	to->power_cycles = log_u128(1);
	to->power_on_hours = log_u128(up_ns / 3600000000000ull);
	to->media_errors = log_u128(blk_stats_errors(&sum, BLK_ST_IOERR));
	pthread_mutex_lock(&ctrl->lock);
	to->error_entries = log_u128(ctrl->logs.error_count);
	pthread_mutex_unlock(&ctrl->lock);
}

/* ---- firmware slot (03h) ---- */

static void log_firmware(struct nvme_cmd *c, struct nvme_ctrl *ctrl, void *page)
{
	uint8_t *to = page;

	to[0] = 1; /* AFI: slot 1 is the active one */
	nvme_firmware_revision((char *)to + 8);
}

/* ---- changed namespaces (04h) ---- */

void nvme_log_ns_changed(struct nvme_ctrl *ctrl, uint32_t nsid)
{
	ctrl->logs.changed_ns[nsid / 64] |= 1ull << nsid % 64;
	nvme_event(ctrl, NVME_EVENT_NOTICE, NOTICE_NS_CHANGED, NVME_LOG_CHANGED_NS);
}

static void log_changed_ns(struct nvme_cmd *c, struct nvme_ctrl *ctrl, void *page)
{
	struct le32 *to = page;

	for (uint32_t nsid = 1; nsid <= NVME_NSID_MAX; nsid++)
		if (ctrl->logs.changed_ns[nsid / 64] >> nsid % 64 & 1)
			*to++ = le32(nsid);
	if (!(nvme_cdw10(c) & RAE))
		memset(ctrl->logs.changed_ns, 0, sizeof(ctrl->logs.changed_ns));
}

/* ---- commands supported and effects (05h) ---- */

static void log_effects(struct nvme_cmd *c, struct nvme_ctrl *ctrl, void *page)
{
	struct le32 *admin = page, *io = admin + 256;

	for (uint32_t i = 0; i < nvme_row_count; i++) {
		const struct nvme_row *row = &nvme_rows[i];

		if (nvme_row_offered(ctrl, row))
			(row->admin ? admin : io)[row->opcode] = le32(row->effects | EFFECT_CSUPP);
	}
}

/* ---- asymmetric namespace access (0Ch) ---- */

struct log_ana {
	struct le64 changes;
	struct le16 groups;
	uint8_t unused_10[6];
	struct {
		struct le32 group, nsid_count;
		struct le64 changes;
		uint8_t state, unused_17[15];
	} group;
	struct le32 nsids[NVME_NSID_MAX];
};
_Static_assert(offsetof(struct log_ana, nsids) == 48, "base 5.14.1.12");

static void log_ana(struct nvme_cmd *c, struct nvme_ctrl *ctrl, void *page)
{
	struct log_ana *to = page;
	uint32_t count = 0;

	if (!(nvme_cdw10(c) & LSP_GROUPS_ONLY))
		for (uint32_t nsid = 1; nsid <= NVME_NSID_MAX; nsid++)
			if (nvme_att_find(ctrl, nsid))
				to->nsids[count++] = le32(nsid);
	to->changes = to->group.changes = le64(ctrl->logs.ana_changes);
	to->groups = le16(1);
	to->group.group = le32(NVME_ANA_GROUP);
	to->group.nsid_count = le32(count);
	to->group.state = (uint8_t)ctrl->ana;
}

/* ---- those of other files ---- */

static void log_resv(struct nvme_cmd *c, struct nvme_ctrl *ctrl, void *page)
{
	nvme_resv_log_take(ctrl, page);
}

static void log_sanitize(struct nvme_cmd *c, struct nvme_ctrl *ctrl, void *page)
{
	nvme_sanitize_log(ctrl->subsys, page);
}

/* ---- the table ---- */

#define LOG_BYTES_MAX sizeof(struct log_ana)

static const struct log_page {
	uint8_t lid;
	bool of_ns; /* NSID may name one */
	uint32_t size_bytes;
	void (*build)(struct nvme_cmd *c, struct nvme_ctrl *ctrl, void *page); /* page: zeroes */
} log_pages[] = {
	{ NVME_LOG_ERROR, false, NVME_ERROR_ENTRIES * sizeof(struct log_error), log_errors },
	{ NVME_LOG_SMART, true, sizeof(struct log_smart), log_smart },
	{ NVME_LOG_FIRMWARE, false, 512, log_firmware },
	{ NVME_LOG_CHANGED_NS, false, NVME_NSID_MAX * sizeof(struct le32), log_changed_ns },
	{ NVME_LOG_EFFECTS, false, 4096, log_effects },
	{ NVME_LOG_ANA, false, sizeof(struct log_ana), log_ana },
	{ NVME_LOG_RESV, false, NVME_RESV_LOG_BYTES, log_resv },
	{ NVME_LOG_SANITIZE, false, NVME_SANITIZE_LOG_BYTES, log_sanitize },
};

/* Why it cannot be read as asked. */
static enum nvme_status log_status(const struct nvme_cmd *c, const struct nvme_ctrl *ctrl,
				   const struct log_page *log, uint64_t offset, uint64_t len)
{
	uint32_t nsid = le32_get(c->sqe.nsid);

	if (!log)
		return NVME_SC_INVALID_LOG_PAGE;
	if (nsid && nsid != NVME_NSID_ALL) {
		if (!log->of_ns)
			return NVME_SC_INVALID_FIELD;
		if (!nvme_att_find(ctrl, nsid))
			return NVME_SC_INVALID_NS;
	}
	if (nvme_sanitize_status(ctrl->subsys) != NVME_SC_SUCCESS &&
	    !nvme_sanitize_log_allowed(log->lid))
		return nvme_sanitize_status(ctrl->subsys);
	if (offset & 3 || offset > log->size_bytes || len > nvme_transfer_max(ctrl))
		return NVME_SC_INVALID_FIELD;
	return NVME_SC_SUCCESS;
}

void nvme_get_log_page(struct nvme_cmd *c)
{
	uint8_t page[LOG_BYTES_MAX] __attribute__((aligned(8))) = { 0 };
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint64_t dwords = nvme_cdw10(c) >> 16 | (uint64_t)(nvme_cdw11(c) & 0xffff) << 16;
	uint64_t len = (dwords + 1) * 4;
	uint64_t offset = le32_get(c->sqe.cdw12) | (uint64_t)le32_get(c->sqe.cdw13) << 32;
	const struct log_page *log = NULL;
	enum nvme_status status;

	for (size_t i = 0; i < ARRAY_SIZE(log_pages); i++)
		if (log_pages[i].lid == (nvme_cdw10(c) & 0xff))
			log = &log_pages[i];
	status = log_status(c, ctrl, log, offset, len);
	if (status != NVME_SC_SUCCESS) {
		nvme_cmd_end(c, status);
		return;
	}
	log->build(c, ctrl, page);
	if (!(nvme_cdw10(c) & RAE))
		nvme_event_read(ctrl, log->lid);
	nvme_cmd_reply(c, page + offset, MIN(log->size_bytes - offset, len), len);
}
