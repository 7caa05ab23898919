/*
 * VERSION: the first message. Both sides tell what they can, as JSON; where the client sends none
 * it gets none back, and the protocol's defaults hold.
 *
 * QEMU takes no answer longer than its own question, so only as much is told as fits.
 * Source: QEMU docs/interop/vfio-user, "VFIO_USER_VERSION".
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/num.h"
#include "vfu/session.h"

#define VFU_MAJOR     0
#define VFU_MINOR_MAX 2

/* What is told, the most needed first: as much of it as the answer has room for. */
static const struct vfu_offer {
	const char *text; /* after a comma, but for the first */
	bool has_number;
	uint32_t number;
	const char *end;
} vfu_offers[] = {
	{ "\"max_msg_fds\":", true, VFU_FDS_MAX, "" },
	{ "\"max_data_xfer_size\":", true, VFU_XFER_MAX, "" },
	{ "\"max_dma_maps\":", true, VFU_MAPS_MAX, "" },
	{ "\"write_multiple\":true", false, 0, "" },
	{ "\"migration\":{\"pgsize\":4096,\"max_bitmap_size\":", true, VFU_XFER_MAX, "}" },
	{ "\"pgsizes\":4096", false, 0, "" },
};

struct vfu_capability {
	const char *name;
	json_int_t min, max;
	size_t offset; /* of the uint32_t in struct vfu_session; 0: only checked */
};

static const struct vfu_capability vfu_capabilities[] = {
	{ "max_msg_fds", 1, UINT32_MAX, offsetof(struct vfu_session, peer_fds_max) },
	{ "max_data_xfer_size", 1, UINT32_MAX, offsetof(struct vfu_session, peer_xfer_max) },
	{ "max_dma_maps", 1, UINT32_MAX, 0 },
	{ "pgsizes", 1, INT64_MAX, 0 },
};

static int vfu_version_capability(struct vfu_session *s, const struct vfu_capability *c,
				  const json_t *caps, struct err *reterr)
{
	const json_t *v = json_object_get(caps, c->name);

	if (!v)
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < c->min || json_integer_value(v) > c->max)
		return err_set(reterr, -EINVAL, "capabilities.%s: expected a number from %lld",
			       c->name, (long long)c->min);
	if (c->offset)
		*(uint32_t *)((char *)s + c->offset) = (uint32_t)json_integer_value(v);
	return 0;
}

static int vfu_version_parse(struct vfu_session *s, const char *text, size_t len,
			     struct err *reterr)
{
	json_error_t why;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why), *caps;
	int rc = 0;

	if (!json_is_object(root)) {
		json_decref(root);
		return err_set(reterr, -EINVAL, "version data: expected a JSON object");
	}
	caps = json_object_get(root, "capabilities");
	if (caps && !json_is_object(caps))
		rc = err_set(reterr, -EINVAL, "capabilities: expected a JSON object");
	for (size_t i = 0; caps && !rc && i < ARRAY_SIZE(vfu_capabilities); i++)
		rc = vfu_version_capability(s, &vfu_capabilities[i], caps, reterr);
	json_decref(root);
	return rc;
}

/* Writes as much as fits into room bytes, its end included; how many, 0: nothing fits. */
static uint32_t vfu_version_offer(char *text, size_t room)
{
	static const char begin[] = "{\"capabilities\":{", end[] = "}}";
	size_t at = sizeof(begin) - 1;

	if (room < at + sizeof(end))
		return 0;
	memcpy(text, begin, at);
	for (size_t i = 0; i < ARRAY_SIZE(vfu_offers); i++) {
		const struct vfu_offer *o = &vfu_offers[i];
		char number[16] = "", item[96];
		int n;

		if (o->has_number)
			snprintf(number, sizeof(number), "%u", o->number);
		n = snprintf(item, sizeof(item), "%s%s%s%s", i ? "," : "", o->text, number, o->end);
		if (at + (size_t)n + sizeof(end) > room)
			break;
		memcpy(text + at, item, (size_t)n);
		at += (size_t)n;
	}
	memcpy(text + at, end, sizeof(end));
	return (uint32_t)(at + sizeof(end));
}

int vfu_handle_VERSION(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	uint16_t *version = vfu_msg_bytes(m);
	char *text = (char *)(version + 2);
	uint32_t len = m->payload - 4;
	int rc = 0;

	if (s->negotiated)
		return err_set(reterr, -EINVAL, "the version has been negotiated already");
	if (version[0] != VFU_MAJOR)
		return err_set(reterr, -ENOTSUP, "major: expected %u, got %u", VFU_MAJOR,
			       version[0]);
	if (len && text[len - 1])
		return err_set(reterr, -EINVAL, "version data does not end with a zero byte");
	if (len)
		rc = vfu_version_parse(s, text, strlen(text), reterr);
	if (rc)
		return rc;
	version[1] = MIN(version[1], (uint16_t)VFU_MINOR_MAX);
	m->reply_bytes = 4 + vfu_version_offer(text, len);
	s->negotiated = true;
	return 0;
}
