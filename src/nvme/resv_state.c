/*
 * Registrants and the reservation as lines of the state file, with PTPL:
 *
 *   ptpl 1
 *   register KEY HOST   KEY: 16 hexadecimal digits; HOST: the identifier, 16 or 32 of them
 *   reserve TYPE all|N  N: the holder is the Nth registrant above, from 0
 *
 * Who has no host identifier is another host after a reset, so he does not survive (base 8.8).
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "nvme/nvme_impl.h"

static void registrant_write(const struct nvme_registrant *reg, FILE *to)
{
	fprintf(to, "register %016" PRIx64 " ", reg->key);
	if (reg->ctrl || reg->cntlid)
		fprintf(to, "controller-%u", reg->ctrl ? reg->ctrl->cntlid : reg->cntlid);
	else
		text_hex_write(reg->host_id, reg->extended ? 16 : 8, to);
	fputc('\n', to);
}

/* all: those without a host identifier, too. */
static void registrants_write(const struct nvme_ns *ns, bool all, FILE *to)
{
	const struct nvme_resv *resv = &ns->resv;
	const struct nvme_registrant *reg;
	uint32_t count = 0, holder = UINT32_MAX;

	list_for_each(reg, &resv->registrants, node) {
		if (!all && (reg->ctrl || reg->cntlid))
			continue;
		registrant_write(reg, to);
		if (reg == resv->holder)
			holder = count;
		count++;
	}
	if (nvme_resv_type_all(resv->type) && count)
		fprintf(to, "reserve %u all\n", resv->type);
	else if (holder != UINT32_MAX)
		fprintf(to, "reserve %u %" PRIu32 "\n", resv->type, holder);
}

void nvme_resv_state_write(const struct nvme_ns *ns, FILE *to)
{
	if (!ns->resv.ptpl)
		return;
	fputs("ptpl 1\n", to);
	registrants_write(ns, false, to);
}

void nvme_resv_live_write(const struct nvme_ns *ns, FILE *to)
{
	fprintf(to, "resv %d %" PRIu32 "\n", ns->resv.ptpl, ns->resv.generation);
	registrants_write(ns, true, to);
}

/* ---- reading ---- */

static bool host_is_known(const struct nvme_resv *resv, const uint8_t id[16], bool extended)
{
	const struct nvme_registrant *reg;

	list_for_each(reg, &resv->registrants, node)
		if (reg->extended == extended && !memcmp(reg->host_id, id, 16))
			return true;
	return false;
}

/* "controller-CNTLID": it, else 0. */
static uint16_t controller_read(const char *line)
{
	uint16_t cntlid;
	int end = 0;

	if (sscanf(line, "controller-%2" SCNu16 "%n", &cntlid, &end) != 1 || !end || line[end] ||
	    cntlid > NVME_CTRLS_MAX)
		return 0;
	return cntlid;
}

static bool controller_is_known(const struct nvme_resv *resv, uint16_t cntlid)
{
	const struct nvme_registrant *reg;

	list_for_each(reg, &resv->registrants, node)
		if (reg->cntlid == cntlid)
			return true;
	return false;
}

static const char *register_read(struct nvme_ns *ns, const char *line, bool live)
{
	static const char expected[] = "expected 'register KEY HOST'";
	static const uint8_t none[16];
	uint8_t key[8], id[16] = { 0 };
	struct nvme_registrant *reg;
	uint16_t cntlid;
	struct be64 wire;
	bool extended;

	if (!text_hex_read(&line, key, sizeof(key)) || *line++ != ' ')
		return expected;
	cntlid = live ? controller_read(line) : 0;
	extended = strlen(line) == 32;
	if (!cntlid && (!text_hex_read(&line, id, extended ? 16 : 8) || *line))
		return expected;
	memcpy(&wire, key, sizeof(wire));
	if (!be64_get(wire) || (!cntlid && !memcmp(id, none, sizeof(none))))
		return expected;
	if (ns->resv.type != NVME_RESV_NONE || (cntlid ? controller_is_known(&ns->resv, cntlid)
						       : host_is_known(&ns->resv, id, extended)))
		return "registered twice, or after the reservation";
	if (ns->resv.registrant_count >= NVME_REGISTRANTS_MAX)
		return "too many registrants";
	reg = nvme_resv_add(ns, be64_get(wire));
	if (!reg)
		return "out of memory";
	memcpy(reg->host_id, id, sizeof(id));
	reg->extended = extended;
	reg->cntlid = cntlid;
	return NULL;
}

static struct nvme_registrant *registrant_at(const struct nvme_ns *ns, unsigned long n)
{
	struct nvme_registrant *reg;

	list_for_each(reg, &ns->resv.registrants, node)
		if (!n--)
			return reg;
	return NULL;
}

static const char *reserve_read(struct nvme_ns *ns, const char *line)
{
	static const char expected[] =
		"expected 'reserve TYPE all|N', once, with a registrant for it";
	enum nvme_resv_type type = (enum nvme_resv_type)(*line - '0');
	struct nvme_registrant *holder = NULL;
	char *end;

	if (*line < '1' || *line > '6' || line[1] != ' ' || ns->resv.type != NVME_RESV_NONE)
		return expected;
	line += 2;
	if (nvme_resv_type_all(type)) {
		if (strcmp(line, "all") != 0 || !ns->resv.registrant_count)
			return expected;
	} else {
		if (*line < '0' || *line > '9')
			return expected;
		holder = registrant_at(ns, strtoul(line, &end, 10));
		if (*end || !holder)
			return expected;
	}
	nvme_resv_take(ns, type, holder);
	return NULL;
}

const char *nvme_resv_state_read(struct nvme_ns *ns, const char *line, bool *ret_mine)
{
	*ret_mine = true;
	if (!strncmp(line, "ptpl ", 5)) {
		if (strcmp(line + 5, "1") != 0 || ns->resv.ptpl)
			return "expected 'ptpl 1', once";
		ns->resv.ptpl = true;
		return NULL;
	}
	*ret_mine = !strncmp(line, "register ", 9) || !strncmp(line, "reserve ", 8);
	if (!*ret_mine)
		return NULL;
	if (!ns->resv.ptpl)
		return "expected 'ptpl 1' before it";
	return line[5] == 't' ? register_read(ns, line + 9, false) : reserve_read(ns, line + 8);
}

const char *nvme_resv_live_read(struct nvme_ns *ns, const char *line, bool *ret_mine)
{
	uint32_t ptpl, generation;
	int end = 0;

	*ret_mine = true;
	if (!strncmp(line, "register ", 9))
		return register_read(ns, line + 9, true);
	if (!strncmp(line, "reserve ", 8))
		return reserve_read(ns, line + 8);
	*ret_mine = !strncmp(line, "resv ", 5);
	if (!*ret_mine)
		return NULL;
	if (sscanf(line, "resv %1" SCNu32 " %10" SCNu32 "%n", &ptpl, &generation, &end) != 2 ||
	    !end || line[end] || ptpl > 1)
		return "expected 'resv PTPL GENERATION'";
	ns->resv.ptpl = ptpl;
	ns->resv.generation = generation;
	return NULL;
}
