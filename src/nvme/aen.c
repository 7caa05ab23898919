/* See aen.h. */
#include <string.h>

#include "nvme/nvme_impl.h"

static uint32_t event_type(uint32_t event)
{
	return event & 0x7;
}

static uint8_t event_log(uint32_t event)
{
	return (uint8_t)(event >> 16);
}

static void pending_remove(struct nvme_aen *aen, uint32_t at)
{
	aen->pending_count--;
	memmove(&aen->pending[at], &aen->pending[at + 1],
		(aen->pending_count - at) * sizeof(aen->pending[0]));
}

static struct nvme_cmd *waiting_remove(struct nvme_aen *aen, uint32_t at)
{
	struct nvme_cmd *c = aen->waiting[at];

	aen->waiting_count--;
	memmove(&aen->waiting[at], &aen->waiting[at + 1],
		(aen->waiting_count - at) * sizeof(struct nvme_cmd *));
	return c;
}

/* Gives events that wait to requests that wait, as long as there are both. */
static void aen_match(struct nvme_aen *aen)
{
	for (uint32_t i = 0; i < aen->pending_count && aen->waiting_count;) {
		uint32_t event = aen->pending[i], type = event_type(event);
		struct nvme_cmd *c;

		if (aen->masked & 1u << type) {
			i++;
			continue;
		}
		pending_remove(aen, i);
		aen->masked |= 1u << type;
		aen->masked_log[type] = event_log(event);
		c = waiting_remove(aen, 0);
		c->dw0 = event;
		nvme_cmd_end(c, NVME_SC_SUCCESS);
	}
}

/*
 * base 5.21.1.11: notices have bits of their own. Who makes a SMART event has looked at those of
 * critical warnings; reservations have feature 82h; errors cannot be switched off.
 */
static bool event_is_wanted(const struct nvme_ctrl *ctrl, enum nvme_event_type type, uint8_t info)
{
	uint32_t config = ctrl->features.value[NVME_FEAT_EVENTS];

	if (ctrl->params.profile == NVME_PROFILE_VHOST)
		return false; /* nobody could ask for them */
	return type != NVME_EVENT_NOTICE || (info < 24 && config & 1u << (8 + info));
}

void nvme_event(struct nvme_ctrl *ctrl, enum nvme_event_type type, uint8_t info, uint8_t log_page)
{
	uint32_t event = (uint32_t)type | (uint32_t)info << 8 | (uint32_t)log_page << 16;
	struct nvme_aen *aen = &ctrl->aen;

	if (!event_is_wanted(ctrl, type, info) || aen->pending_count == NVME_EVENT_PENDING_MAX)
		return;
	for (uint32_t i = 0; i < aen->pending_count; i++)
		if (aen->pending[i] == event)
			return;
	aen->pending[aen->pending_count++] = event;
	aen_match(aen);
}

void nvme_event_read(struct nvme_ctrl *ctrl, uint8_t log_page)
{
	struct nvme_aen *aen = &ctrl->aen;

	for (uint32_t i = 0; i < aen->pending_count;) {
		if (event_log(aen->pending[i]) == log_page)
			pending_remove(aen, i);
		else
			i++;
	}
	for (uint32_t type = 0; type < NVME_EVENT_TYPES; type++)
		if (aen->masked & 1u << type && aen->masked_log[type] == log_page)
			aen->masked &= ~(1u << type);
	aen_match(aen);
}

void nvme_aer(struct nvme_cmd *c)
{
	struct nvme_aen *aen = &nvme_cmd_ctrl(c)->aen;

	if (aen->waiting_count == NVME_AER_MAX) {
		nvme_cmd_end(c, NVME_SC_AER_LIMIT);
		return;
	}
	aen->waiting[aen->waiting_count++] = c;
	aen_match(aen);
}

void nvme_aen_reset(struct nvme_ctrl *ctrl)
{
	ctrl->aen = (struct nvme_aen){ 0 };
}

bool nvme_aen_abort(struct nvme_ctrl *ctrl, uint16_t cid)
{
	struct nvme_aen *aen = &ctrl->aen;

	for (uint32_t i = 0; i < aen->waiting_count; i++) {
		if (aen->waiting[i]->cid != cid)
			continue;
		nvme_cmd_end(waiting_remove(aen, i), NVME_SC_ABORT_REQUESTED);
		return true;
	}
	return false;
}

void nvme_aen_abort_cmd(struct nvme_cmd *c)
{
	struct nvme_aen *aen = &nvme_cmd_ctrl(c)->aen;

	for (uint32_t i = 0; i < aen->waiting_count; i++) {
		if (aen->waiting[i] != c)
			continue;
		nvme_cmd_end(waiting_remove(aen, i), NVME_SC_ABORT_REQUESTED);
		return;
	}
}
