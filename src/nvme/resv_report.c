/* Reservation Report (base 6.13): what main knows, as a data structure. */
#include <stdlib.h>
#include <string.h>

#include "nvme/nvme_impl.h"

#define REPORT_EDS (1u << 0)

struct report_header {
	struct le32 generation;
	uint8_t type;
	uint8_t count[2]; /* not aligned */
	uint8_t reserved7[2];
	uint8_t ptpl;
	uint8_t reserved10[14];
};
_Static_assert(sizeof(struct report_header) == 24, "base 6.13, reservation status");

struct report_entry {
	struct le16 cntlid;
	uint8_t holder;
	uint8_t reserved3[5];
	uint8_t host_id[8];
	struct le64 key;
};
_Static_assert(sizeof(struct report_entry) == 24, "base 6.13, registered controller");

struct report_entry_extended {
	struct le16 cntlid;
	uint8_t holder;
	uint8_t reserved3[5];
	struct le64 key;
	uint8_t host_id[16];
	uint8_t reserved32[32];
};
_Static_assert(sizeof(struct report_entry_extended) == 64, "base 6.13, extended");

#define REPORT_HEADER_EXTENDED 64
#define CNTLID_NONE	       0xffff /* no controller is the host's now */

struct report {
	const struct nvme_ns *ns;
	uint8_t *buf;
	size_t entry_bytes, at, len;
	uint32_t count;
	bool extended;
};

static void report_entry(struct report *r, const struct nvme_registrant *reg, uint16_t cntlid)
{
	struct report_entry_extended *wide = (struct report_entry_extended *)(r->buf + r->at);
	struct report_entry *entry = (struct report_entry *)(r->buf + r->at);
	bool holder = nvme_resv_holds(r->ns, reg);

	r->count++;
	ASSERT(r->at + r->entry_bytes <= r->len);
	r->at += r->entry_bytes;
	if (r->extended) {
		wide->cntlid = le16(cntlid);
		wide->holder = holder;
		wide->key = le64(reg->key);
		memcpy(wide->host_id, reg->host_id, sizeof(wide->host_id));
	} else {
		entry->cntlid = le16(cntlid);
		entry->holder = holder;
		entry->key = le64(reg->key);
		memcpy(entry->host_id, reg->host_id, sizeof(entry->host_id));
	}
}

static void report_fill(struct report *r)
{
	const struct nvme_resv *resv = &r->ns->resv;
	struct report_header *header = (struct report_header *)r->buf;
	const struct nvme_registrant *reg;
	const struct nvme_ctrl *ctrl;
	struct le16 count;

	list_for_each(reg, &resv->registrants, node) {
		uint32_t before = r->count;

		list_for_each(ctrl, &r->ns->subsys->ctrls, node)
			if (nvme_resv_is_of(reg, ctrl))
				report_entry(r, reg, ctrl->cntlid);
		if (r->count == before)
			report_entry(r, reg, CNTLID_NONE);
	}
	header->generation = le32(resv->generation);
	header->type = (uint8_t)resv->type;
	count = le16((uint16_t)r->count);
	memcpy(header->count, &count, sizeof(count));
	header->ptpl = resv->ptpl;
}

/* The structure has the size of what identifiers the hosts use (base 6.13, EDS). */
static bool report_format_ok(const struct nvme_ctrl *ctrl, bool extended)
{
	static const uint8_t none[16];

	if (!memcmp(ctrl->features.host_id, none, sizeof(none)))
		return true;
	return ctrl->features.host_id_extended == extended;
}

static void report_on_main(struct nvme_cmd *c)
{
	uint64_t alloc_bytes = ((uint64_t)nvme_cdw10(c) + 1) * 4;
	struct report r = { .ns = c->nsq->ns, .extended = nvme_cdw11(c) & REPORT_EDS };
	enum nvme_status status = nvme_sanitize_status(r.ns->subsys);
	const struct nvme_ctrl *ctrl;
	uint32_t ctrls = 0;

	if (status == NVME_SC_SUCCESS && !report_format_ok(c->nsq->att->ctrl, r.extended))
		status = NVME_SC_HOST_ID_INCONSISTENT;
	if (status == NVME_SC_SUCCESS && alloc_bytes > NVME_TRANSFER_MAX)
		status = NVME_SC_INVALID_FIELD;
	if (status != NVME_SC_SUCCESS) {
		nvme_cmd_end(c, status);
		return;
	}
	list_for_each(ctrl, &r.ns->subsys->ctrls, node)
		ctrls++;
	r.entry_bytes =
		r.extended ? sizeof(struct report_entry_extended) : sizeof(struct report_entry);
	r.at = r.extended ? REPORT_HEADER_EXTENDED : sizeof(struct report_header);
	r.len = r.at + (r.ns->resv.registrant_count + ctrls) * r.entry_bytes;
	r.buf = calloc(1, r.len);
	if (!r.buf) {
		nvme_cmd_end(c, NVME_SC_INTERNAL_ERROR);
		return;
	}
	report_fill(&r);
	nvme_cmd_reply(c, r.buf, r.at, alloc_bytes);
	free(r.buf);
}

void nvme_resv_report(struct nvme_cmd *c)
{
	nvme_cmd_to_main(c, report_on_main);
}
