/*
 * See sections.h. The parts that have a configuration are under SPDK's names and in the order in
 * which their calls must come. A part's room of methods writes them.
 */
#include "mgmt/sections.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "mgmt/rpc.h"

const struct rpc_section rpc_sections[] = {
	{ "scheduler", { NULL }, NULL },
	{ "sock", { NULL }, NULL },
	{ "iobuf", { NULL }, NULL },
	{ "bdev", { "sock", "iobuf", NULL }, m_bdev_write },
	{ "vhost_blk", { "bdev", NULL }, m_vhost_blk_write },
	{ "scsi", { "bdev", NULL }, NULL },
	{ "vhost_scsi", { "scsi", NULL }, m_vhost_scsi_write },
	{ "vhost_nvme", { "bdev", NULL }, m_nvme_write },
	{ "nvmf", { "bdev", "sock", NULL }, m_nvmf_write },
	{ "vfio_user_target", { "bdev", "scsi", NULL }, m_vfu_write },
	{ "device", { NULL }, m_device_write },
};
const uint32_t rpc_section_count = ARRAY_SIZE(rpc_sections);

/* ---- text ---- */

static void line_put(FILE *to, bool *any, const json_t *call)
{
	fputs(*any ? ",\n   " : "\n   ", to);
	*any = true;
	json_dumpf(call, to, 0);
}

void section_call(struct section_out *out, const json_t *call)
{
	line_put(out->to, &out->any, call);
}

/* The lines of all calls but those that are left out. False: no memory. */
static bool text_make(const struct section_out *out, section_write_fn *write, const void *obj,
		      struct section_text *ret)
{
	json_t *calls = json_array(), *call;
	FILE *to = open_memstream(&ret->text, &ret->bytes);
	bool bad = !to || !calls, any = false;
	size_t i;

	if (!bad)
		write(calls, obj);
	json_array_foreach(calls, i, call)
	{
		const char *method = json_string_value(json_object_get(call, "method"));

		if (!out->skip(method, json_object_get(call, "params")))
			line_put(to, &any, call);
	}
	json_decref(calls);
	if (to) {
		bad |= ferror(to) != 0;
		bad |= fclose(to) != 0;
	}
	if (bad)
		section_drop(ret);
	return !bad;
}

/* A text that was not dropped when it should have been. */
static void text_check(const struct section_out *out, section_write_fn *write, const void *obj,
		       const struct section_text *kept)
{
#if VHOSTD_DEBUG
	struct section_text now = { 0 };

	if (text_make(out, write, obj, &now))
		ASSERT(now.bytes == kept->bytes && !memcmp(now.text, kept->text, now.bytes));
	section_drop(&now);
#endif
}

static void text_put(struct section_out *out, const struct section_text *text)
{
	if (!text->bytes)
		return;
	if (out->any)
		putc(',', out->to);
	out->any = true;
	fwrite(text->text, 1, text->bytes, out->to);
}

void section_object(struct section_out *out, struct section_text *keep, uint32_t parts,
		    section_write_fn *write, const void *obj)
{
	struct section_text once = { 0 };

	if (out->calls) {
		write(out->calls, obj);
		return;
	}
	if (!keep)
		keep = &once;
	if (keep->text && keep->parts == parts) {
		text_check(out, write, obj, keep);
	} else {
		section_drop(keep);
		if (!text_make(out, write, obj, keep)) {
			out->failed = true;
			return;
		}
		keep->parts = parts;
	}
	text_put(out, keep);
	section_drop(&once);
}

void section_drop(struct section_text *keep)
{
	free(keep->text);
	*keep = (struct section_text){ 0 };
}
