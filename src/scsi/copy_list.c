/*
 * The parameter list of EXTENDED COPY (SPC-5, 6.4.2 to 6.4.6): bytes to struct copy_plan. Nothing
 * here knows units; what a descriptor names is looked up when its segment's turn comes.
 */
#include <string.h>

#include "scsi/copy_impl.h"

#define CSCD_BYTES	    32
#define CSCD_IDENTIFICATION 0xe4

/* Where the fields of the header stand. */
struct list_form {
	uint8_t header_bytes;
	uint8_t id_byte, id_bytes;
	uint8_t cscds_byte; /* lengths; this one has two bytes in both forms */
	uint8_t segments_byte, inline_byte, length_bytes;
};

static const struct list_form forms[2] = {
	{ .header_bytes = 16,
	  .id_byte = 0,
	  .id_bytes = 1,
	  .cscds_byte = 2,
	  .segments_byte = 8,
	  .inline_byte = 12,
	  .length_bytes = 4 },
	{ .header_bytes = 48,
	  .id_byte = 20,
	  .id_bytes = 4,
	  .cscds_byte = 42,
	  .segments_byte = 44,
	  .inline_byte = 46,
	  .length_bytes = 2 },
};

/* Segment descriptor types. */
struct segment_form {
	uint8_t type;
	uint8_t bytes; /* of the whole descriptor */
	uint8_t count_byte, count_bytes;
	uint8_t offsets_byte; /* of the two byte offsets, 0: none */
};

static const struct segment_form segment_forms[] = {
	{ .type = COPY_SEGMENT_BLOCKS, .bytes = 28, .count_byte = 10, .count_bytes = 2 },
	{ .type = COPY_SEGMENT_BYTES,
	  .bytes = 32,
	  .count_byte = 8,
	  .count_bytes = 4,
	  .offsets_byte = 28 },
};

/* Fields that must have one value: which bits of which byte. */
struct fixed_field {
	uint8_t byte, mask, value;
	int8_t bit;
};

/* G_SENSE is refused: nobody here returns sense data with GOOD. */
static const struct fixed_field lid4_fixed[] = {
	{ 0, 0xff, 0x01, -1 },			       /* PARAMETER LIST FORMAT */
	{ 2, 0xff, 0x00, -1 },			       /* HEADER CSCD DESCRIPTOR LIST LENGTH */
	{ 3, 0xff, 0x20, -1 },	{ 15, 0x02, 0x00, 1 }, /* G_SENSE */
	{ 16, 0xff, 0xff, -1 },			       /* HEADER CSCD DESCRIPTOR TYPE CODE */
};

static uint64_t be(const uint8_t *p, uint32_t len)
{
	uint64_t v = 0;

	for (uint32_t i = 0; i < len; i++)
		v = v << 8 | p[i];
	return v;
}

static bool fault(struct copy_fault *f, enum scsi_cause cause)
{
	*f = (struct copy_fault){ .cause = cause };
	return false;
}

static bool bad_field(struct copy_fault *f, enum scsi_cause cause, size_t byte, int bit)
{
	*f = (struct copy_fault){ .cause = cause,
				  .has_field = true,
				  .field_bit = (int8_t)bit,
				  .field_byte = (uint16_t)byte };
	return false;
}

static bool fixed_ok(const uint8_t *list, const struct fixed_field *fields, size_t count,
		     struct copy_fault *f)
{
	for (size_t i = 0; i < count; i++)
		if ((list[fields[i].byte] & fields[i].mask) != fields[i].value)
			return bad_field(f, SCSI_CAUSE_INVALID_FIELD_LIST, fields[i].byte,
					 fields[i].bit);
	return true;
}

static bool cscd_parse(const uint8_t *list, size_t at, struct copy_cscd *c, struct copy_fault *f)
{
	const uint8_t *p = list + at;

	if (p[0] != CSCD_IDENTIFICATION)
		return bad_field(f, SCSI_CAUSE_UNSUPPORTED_TARGET, at, -1);
	/* LU ID TYPE is not for this type (SPC-5, 6.4.5.6) */
	if (p[7] > 20)
		return bad_field(f, SCSI_CAUSE_INVALID_FIELD_LIST, at + 7, -1);
	c->field_byte = (uint16_t)at;
	c->null_device = p[1] & 0x20;
	c->device_type = p[1] & 0x1f;
	c->designator[0] = p[4] & 0x0f;
	c->designator[1] = p[5] & 0x3f;
	c->designator[3] = p[7];
	memcpy(c->designator + 4, p + 8, p[7]);
	c->pad = p[28] & 0x04;
	c->block_bytes = cdb_u24(p + 29);
	return true;
}

static bool cscds_parse(const uint8_t *list, size_t at, size_t len, struct copy_plan *plan,
			struct copy_fault *f)
{
	plan->cscd_count = (uint16_t)(len / CSCD_BYTES);
	for (uint32_t i = 0; i < plan->cscd_count; i++)
		if (!cscd_parse(list, at + i * CSCD_BYTES, &plan->cscds[i], f))
			return false;
	return true;
}

static const struct segment_form *segment_form_find(uint8_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(segment_forms); i++)
		if (segment_forms[i].type == type)
			return &segment_forms[i];
	return NULL;
}

/* One segment descriptor; its length, 0: a fault. left: bytes of the list from `at` on. */
static size_t segment_parse(const uint8_t *list, size_t at, size_t left, struct copy_segment *s,
			    struct copy_fault *f)
{
	const struct segment_form *form = segment_form_find(list[at]);
	const uint8_t *p = list + at;

	if (!form)
		return bad_field(f, SCSI_CAUSE_UNSUPPORTED_SEGMENT, at, -1);
	if (left < 4)
		return fault(f, SCSI_CAUSE_PARAM_LIST_LENGTH);
	if (cdb_u16(p + 2) != form->bytes - 4)
		return bad_field(f, SCSI_CAUSE_INVALID_FIELD_LIST, at + 2, -1);
	if (left < form->bytes)
		return fault(f, SCSI_CAUSE_PARAM_LIST_LENGTH);
	*s = (struct copy_segment){
		.field_byte = (uint16_t)at,
		.type = p[0],
		.dc = form->type == COPY_SEGMENT_BLOCKS && p[1] & 0x02,
		.cat = p[1] & 0x01,
		.src = cdb_u16(p + 4),
		.dst = cdb_u16(p + 6),
		.count = (uint32_t)be(p + form->count_byte, form->count_bytes),
		.src_lba = cdb_u64(p + 12),
		.dst_lba = cdb_u64(p + 20),
	};
	if (form->offsets_byte) {
		s->src_offset_bytes = cdb_u16(p + form->offsets_byte);
		s->dst_offset_bytes = cdb_u16(p + form->offsets_byte + 2);
	}
	return form->bytes;
}

static bool segments_parse(const uint8_t *list, size_t at, size_t len, struct copy_plan *plan,
			   struct copy_fault *f)
{
	size_t end = at + len;

	while (at < end) {
		size_t used;

		if (plan->segment_count == COPY_SEGMENTS_MAX)
			return bad_field(f, SCSI_CAUSE_TOO_MANY_SEGMENTS, at, -1);
		used = segment_parse(list, at, end - at, &plan->segments[plan->segment_count], f);
		if (!used)
			return false;
		plan->segment_count++;
		at += used;
	}
	return true;
}

/* LIST IDENTIFIER and LIST ID USAGE (SPC-5, 6.4.3.2). */
static bool list_id_parse(const uint8_t *list, const struct list_form *form, struct copy_plan *plan,
			  struct copy_fault *f)
{
	plan->list_id = (uint32_t)be(list + form->id_byte, form->id_bytes);
	plan->list_id_usage = list[1] >> 3 & 3;
	if (plan->list_id_usage == 1)
		return bad_field(f, SCSI_CAUSE_INVALID_FIELD_LIST, 1, 4);
	if (plan->list_id_usage == COPY_LIST_ID_NONE && plan->list_id)
		return bad_field(f, SCSI_CAUSE_INVALID_FIELD_LIST, form->id_byte, -1);
	return true;
}

static bool lengths_ok(const struct list_form *form, size_t len, uint64_t cscds, uint64_t segments,
		       uint64_t inlined, struct copy_fault *f)
{
	if (cscds + segments > COPY_DESCRIPTORS_MAX_BYTES)
		return fault(f, SCSI_CAUSE_PARAM_LIST_LENGTH);
	if (cscds % CSCD_BYTES)
		return bad_field(f, SCSI_CAUSE_INVALID_FIELD_LIST, form->cscds_byte, -1);
	if (cscds / CSCD_BYTES > COPY_CSCDS_MAX)
		return bad_field(f, SCSI_CAUSE_TOO_MANY_TARGETS, form->cscds_byte, -1);
	if (inlined > COPY_INLINE_MAX_BYTES)
		return bad_field(f, SCSI_CAUSE_INLINE_DATA, form->inline_byte, -1);
	if (form->header_bytes + cscds + segments > len)
		return fault(f, SCSI_CAUSE_PARAM_LIST_LENGTH);
	return true;
}

bool copy_list_parse(const uint8_t *list, size_t len, bool lid4, struct copy_plan *plan,
		     struct copy_fault *f)
{
	const struct list_form *form = &forms[lid4];
	uint64_t cscds, segments, inlined;

	memset(plan, 0, sizeof(*plan));
	if (len < form->header_bytes)
		return fault(f, SCSI_CAUSE_PARAM_LIST_LENGTH);
	if (lid4 && !fixed_ok(list, lid4_fixed, ARRAY_SIZE(lid4_fixed), f))
		return false;
	cscds = be(list + form->cscds_byte, 2);
	segments = be(list + form->segments_byte, form->length_bytes);
	inlined = be(list + form->inline_byte, form->length_bytes);
	return list_id_parse(list, form, plan, f) &&
	       lengths_ok(form, len, cscds, segments, inlined, f) &&
	       cscds_parse(list, form->header_bytes, (size_t)cscds, plan, f) &&
	       segments_parse(list, form->header_bytes + (size_t)cscds, (size_t)segments, plan, f);
}
