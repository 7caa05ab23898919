/*
 * Controller registers (base 3.1) as a table. A register is 4 or 8 bytes; an access may be to
 * either half of the long ones, or of any width: it is made of the bytes that it covers. What is
 * not in the table reads as 0 and ignores writes (CMB and PMR are absent).
 */
#include <string.h>

#include "nvme/nvme_impl.h"

/* CAP (base 3.1.1) */
#define CAP_CQR	      (1ull << 16)
#define CAP_TO(v)     ((uint64_t)(v) << 24) /* units of 500 ms */
#define CAP_NSSRS     (1ull << 36)
#define CAP_CSS_NVM   (1ull << 37)
#define TIMEOUT_500MS 60 /* 30 s: what storage may need to let go of requests */

uint64_t nvme_ctrl_cap(const struct nvme_ctrl *ctrl)
{
	uint64_t cap =
		(ctrl->params.queue_size_max - 1) | CAP_CQR | CAP_TO(TIMEOUT_500MS) | CAP_CSS_NVM;

	return ctrl->params.profile == NVME_PROFILE_VHOST ? cap : cap | CAP_NSSRS;
}

static uint64_t get_vs(const struct nvme_ctrl *ctrl)
{
	return ctrl->params.profile == NVME_PROFILE_VHOST ? NVME_VS_1_0 : NVME_VS_1_4;
}

static uint64_t get_intm(const struct nvme_ctrl *ctrl)
{
	return ctrl->intm;
}

static uint64_t get_cc(const struct nvme_ctrl *ctrl)
{
	return ctrl->cc;
}

static uint64_t get_csts(const struct nvme_ctrl *ctrl)
{
	return ctrl->csts | (ctrl->nssro ? NVME_CSTS_NSSRO : 0);
}

static uint64_t get_aqa(const struct nvme_ctrl *ctrl)
{
	return ctrl->aqa;
}

static uint64_t get_asq(const struct nvme_ctrl *ctrl)
{
	return ctrl->asq;
}

static uint64_t get_acq(const struct nvme_ctrl *ctrl)
{
	return ctrl->acq;
}

static void set_intms(struct nvme_ctrl *ctrl, uint64_t value)
{
	nvme_irq_mask(ctrl, (uint32_t)value, 0);
}

static void set_intmc(struct nvme_ctrl *ctrl, uint64_t value)
{
	nvme_irq_mask(ctrl, 0, (uint32_t)value);
}

/* Only EN counts while it goes from 0 to 1 or back; a shutdown is asked for while it is 1. */
static void set_cc(struct nvme_ctrl *ctrl, uint64_t value)
{
	uint32_t old = ctrl->cc;

	ctrl->cc = (uint32_t)value;
	if ((old & NVME_CC_EN) && !(ctrl->cc & NVME_CC_EN))
		nvme_ctrl_disable(ctrl);
	else if (!(old & NVME_CC_EN) && ctrl->cc & NVME_CC_EN)
		nvme_ctrl_enable(ctrl);
	else if (NVME_CC_SHN(ctrl->cc) && !NVME_CC_SHN(old))
		nvme_ctrl_shutdown(ctrl);
}

/* NSSRO is cleared by writing 1 to it (base 3.1.6). */
static void set_csts(struct nvme_ctrl *ctrl, uint64_t value)
{
	if (value & NVME_CSTS_NSSRO)
		ctrl->nssro = false;
}

static void set_nssr(struct nvme_ctrl *ctrl, uint64_t value)
{
	if (value == NVME_NSSR_VALUE)
		nvme_subsys_reset(ctrl->subsys);
}

static void set_aqa(struct nvme_ctrl *ctrl, uint64_t value)
{
	ctrl->aqa = (uint32_t)value;
}

static void set_asq(struct nvme_ctrl *ctrl, uint64_t value)
{
	ctrl->asq = value;
}

static void set_acq(struct nvme_ctrl *ctrl, uint64_t value)
{
	ctrl->acq = value;
}

struct reg {
	uint8_t offset, bytes;
	uint64_t writable;
	uint64_t (*get)(const struct nvme_ctrl *ctrl); /* NULL: reads as 0 */
	void (*set)(struct nvme_ctrl *ctrl, uint64_t value);
	bool command; /* bits not written are 0, and not what is there */
	bool while_disabled;
};

static const struct reg regs[] = {
	{ NVME_REG_CAP, 8, 0, nvme_ctrl_cap, NULL, false, false },
	{ NVME_REG_VS, 4, 0, get_vs, NULL, false, false },
	{ NVME_REG_INTMS, 4, 0xffffffff, get_intm, set_intms, true, false },
	{ NVME_REG_INTMC, 4, 0xffffffff, get_intm, set_intmc, true, false },
	{ NVME_REG_CC, 4, 0x00fffff1, get_cc, set_cc, false, false },
	{ NVME_REG_CSTS, 4, NVME_CSTS_NSSRO, get_csts, set_csts, true, false },
	{ NVME_REG_NSSR, 4, 0xffffffff, NULL, set_nssr, true, false },
	{ NVME_REG_AQA, 4, 0x0fff0fff, get_aqa, set_aqa, false, true },
	{ NVME_REG_ASQ, 8, ~0xfffull, get_asq, set_asq, false, true },
	{ NVME_REG_ACQ, 8, ~0xfffull, get_acq, set_acq, false, true },
};

/* ---- access ---- */

/* The bytes that [off, off + len) and a register have in common: false, there are none. */
static bool reg_overlap(const struct reg *r, uint32_t off, uint32_t len, uint32_t *ret_in_reg,
			uint32_t *ret_in_buf, uint32_t *ret_count)
{
	uint32_t from = MAX(off, (uint32_t)r->offset);
	uint32_t to = MIN(off + len, (uint32_t)r->offset + r->bytes);

	if (from >= to)
		return false;
	*ret_in_reg = from - r->offset;
	*ret_in_buf = from - off;
	*ret_count = to - from;
	return true;
}

static void reg_write(struct nvme_ctrl *ctrl, const struct reg *r, uint32_t at, const uint8_t *from,
		      uint32_t count)
{
	uint64_t old = r->get && !r->command ? r->get(ctrl) : 0;
	struct le64 wire = le64(old);
	uint64_t value;

	if (!r->set || (r->while_disabled && ctrl->cc & NVME_CC_EN))
		return;
	memcpy((uint8_t *)&wire + at, from, count);
	value = (le64_get(wire) & r->writable) | (old & ~r->writable);
	r->set(ctrl, value);
}

static void doorbell_read(const struct nvme_ctrl *ctrl, uint32_t off, uint8_t *buf, uint32_t len)
{
	const uint8_t *page = (const uint8_t *)ctrl->queues.doorbells;

	for (uint32_t i = 0; i < len && page; i++)
		if (off + i < NVME_DOORBELLS_BYTES)
			buf[i] = __atomic_load_n(&page[off + i], __ATOMIC_RELAXED);
}

static void doorbells_write(struct nvme_ctrl *ctrl, uint32_t off, const uint8_t *buf, uint32_t len)
{
	/* Two at once are two; anything else than whole words is no doorbell (base 3.1.24). */
	for (uint32_t i = 0; i + 4 <= len && !(off % 4); i += 4) {
		struct le32 wire;

		memcpy(&wire, buf + i, sizeof(wire));
		nvme_doorbell_write(ctrl, (off + i) / 4, le32_get(wire));
	}
	/* An interface may cut the upper, reserved half off. */
	if (len == 2 && !(off % 4))
		nvme_doorbell_write(ctrl, off / 4, (uint32_t)(buf[0] | buf[1] << 8));
}

void nvme_ctrl_reg_read(struct nvme_ctrl *ctrl, uint32_t off, void *buf, uint32_t len_bytes)
{
	uint32_t in_reg, in_buf, count;

	ASSERT(len_bytes >= 1 && len_bytes <= 8 && off < NVME_BAR0_BYTES);
	memset(buf, 0, len_bytes);
	if (off >= NVME_REG_DOORBELLS) {
		doorbell_read(ctrl, off - NVME_REG_DOORBELLS, buf, len_bytes);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++) {
		const struct reg *r = &regs[i];
		struct le64 wire;

		if (!r->get || !reg_overlap(r, off, len_bytes, &in_reg, &in_buf, &count))
			continue;
		wire = le64(r->get(ctrl));
		memcpy((uint8_t *)buf + in_buf, (const uint8_t *)&wire + in_reg, count);
	}
}

void nvme_ctrl_reg_write(struct nvme_ctrl *ctrl, uint32_t off, const void *buf, uint32_t len_bytes)
{
	uint32_t in_reg, in_buf, count;

	ASSERT(len_bytes >= 1 && len_bytes <= 8 && off < NVME_BAR0_BYTES);
	if (off >= NVME_REG_DOORBELLS) {
		doorbells_write(ctrl, off - NVME_REG_DOORBELLS, buf, len_bytes);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		if (reg_overlap(&regs[i], off, len_bytes, &in_reg, &in_buf, &count))
			reg_write(ctrl, &regs[i], in_reg, (const uint8_t *)buf + in_buf, count);
}
