/*
 * Vital product data pages (SPC-5, 7.7; SBC-4, 6.6). One row a page in `pages`.
 *
 * B6h (zoned block device characteristics) is not among them: no back-end is zoned.
 */
#include <stdio.h>
#include <string.h>

#include "scsi/copy.h"
#include "scsi/inquiry.h"
#include "scsi/limits.h"
#include "scsi/scsi_impl.h"

#define PAGE_BYTES_MAX	  1024
#define PAGE_HEADER_BYTES 4

/* A page being built: t's own unit, NULL for one that is not there. */
struct page {
	struct scsi_task *t;
	const struct scsi_lu *lu;
	uint8_t *bytes; /* PAGE_BYTES_MAX zeroes */
	size_t len;
};

static uint8_t *page_more(struct page *p, size_t len)
{
	uint8_t *at = p->bytes + p->len;

	ASSERT(p->len + len <= PAGE_BYTES_MAX);
	p->len += len;
	return at;
}

/* ---- names and designators (SPC-5, 7.7.6) ---- */

void scsi_lu_naa(const struct scsi_lu *lu, uint8_t ret_naa[8])
{
	cdb_put64(ret_naa, lu->wwn);
}

#define CODE_SET_BINARY	  1
#define CODE_SET_ASCII	  2
#define CODE_SET_UTF8	  3
#define ASSOC_LU	  0
#define ASSOC_PORT	  1
#define ASSOC_TARGET	  2
#define DESIGNATOR_T10	  1
#define DESIGNATOR_NAA	  3
#define DESIGNATOR_PORT	  4
#define DESIGNATOR_GROUP  5
#define DESIGNATOR_NAME	  8
#define DESIGNATOR_HEADER 4
#define DESIGNATOR_MAX	  (DESIGNATOR_HEADER + 72)
#define DESIGNATORS_BYTES 256

/* Locally assigned NAA (SPC-5, 7.7.6.6.4) of the target, or of its port: FNV-1a of the names. */
static uint64_t target_naa(const struct scsi_host *host, uint32_t target, char kind)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (const char *c = host->name; *c; c++)
		h = (h ^ (uint8_t)*c) * 0x100000001b3ull;
	for (uint32_t i = 0; i < 4; i++)
		h = (h ^ (target >> 8 * i & 0xff)) * 0x100000001b3ull;
	h = (h ^ (uint8_t)kind) * 0x100000001b3ull;
	return 3ull << 60 | h >> 4;
}

static size_t designator(uint8_t *buf, uint8_t code_set, uint8_t assoc, uint8_t type,
			 const void *value, size_t len)
{
	buf[0] = code_set;
	buf[1] = (uint8_t)(assoc << 4 | type);
	buf[2] = 0;
	buf[3] = (uint8_t)len;
	memcpy(buf + DESIGNATOR_HEADER, value, len);
	return DESIGNATOR_HEADER + len;
}

/* SCSI name string (SPC-5, 7.7.6.11): ends with a zero, and the length is a multiple of four. */
static size_t designator_name(uint8_t *buf, uint8_t assoc, uint64_t naa)
{
	char name[24] = { 0 };

	snprintf(name, sizeof(name), "naa.%016llX", (unsigned long long)naa);
	return designator(buf, CODE_SET_UTF8, assoc, DESIGNATOR_NAME, name, sizeof(name));
}

static size_t designator_port_name(const struct scsi_host *host, uint32_t target, uint8_t *buf)
{
	return designator_name(buf, ASSOC_PORT, target_naa(host, target, 'p'));
}

/* Of the target, whatever its units. */
static size_t designators_target(const struct scsi_host *host, uint32_t target, uint8_t *buf)
{
	size_t len = designator_port_name(host, target, buf);

	return len + designator_name(buf + len, ASSOC_TARGET, target_naa(host, target, 't'));
}

static size_t designators_lu(const struct scsi_lu *lu, uint8_t *buf)
{
	static const uint8_t one[4] = { 0, 0, 0, 1 };
	char t10[sizeof(lu->vendor) + 64];
	size_t serial_len = MIN(strlen(lu->serial), (size_t)64);
	uint8_t naa[8];
	size_t len;

	scsi_lu_naa(lu, naa);
	memcpy(t10, lu->vendor, sizeof(lu->vendor));
	memcpy(t10 + sizeof(lu->vendor), lu->serial, serial_len);
	len = designator(buf, CODE_SET_BINARY, ASSOC_LU, DESIGNATOR_NAA, naa, sizeof(naa));
	len += designator(buf + len, CODE_SET_ASCII, ASSOC_LU, DESIGNATOR_T10, t10,
			  sizeof(lu->vendor) + serial_len);
	len += designator_name(buf + len, ASSOC_LU, lu->wwn);
	len += designator(buf + len, CODE_SET_BINARY, ASSOC_PORT, DESIGNATOR_PORT, one,
			  sizeof(one));
	return len + designator(buf + len, CODE_SET_BINARY, ASSOC_PORT, DESIGNATOR_GROUP, one,
				sizeof(one));
}

size_t scsi_designators(const struct scsi_itl *itl, uint8_t *buf, size_t size)
{
	uint8_t all[DESIGNATORS_BYTES];
	size_t len = designators_lu(itl->lu, all);

	len += designators_target(itl->nexus->host, itl->target, all + len);
	ASSERT(len <= sizeof(all));
	len = MIN(len, size);
	memcpy(buf, all, len);
	return len;
}

size_t scsi_transport_id(const char *initiator_name, uint8_t *buf)
{
	size_t name_len = strnlen(initiator_name, SCSI_NAME_MAX);
	/* SPC-5, 7.6.4.6: a zero, then padding; ADDITIONAL LENGTH is at least 20 */
	size_t len = MAX((size_t)num_round_up(name_len + 1, 4), (size_t)20);

	memset(buf, 0, 4 + len);
	buf[0] = 0x05; /* format 00b, protocol identifier iSCSI */
	cdb_put16(buf + 2, (uint16_t)len);
	memcpy(buf + 4, initiator_name, name_len);
	return 4 + len;
}

/* ---- 80h, 83h to 88h: SPC-5 ---- */

static void page_serial(struct page *p)
{
	size_t len = MIN(strlen(p->lu->serial), (size_t)64);

	memcpy(page_more(p, len), p->lu->serial, len);
}

static void page_identification(struct page *p)
{
	if (p->lu)
		p->len += scsi_designators(p->t->itl, p->bytes + p->len, PAGE_BYTES_MAX - p->len);
	else
		p->len += designators_target(p->t->queue->nexus->host, p->t->target,
					     p->bytes + p->len);
}

/* Management network addresses: there are none. */
static void page_empty(struct page *p)
{
}

static void page_extended_inquiry(struct page *p)
{
	/* SPT: the protection types that can be set, in the coding of SPC-5, table 503 */
	static const uint8_t spt_of_type[4] = { 0, 0, 2, 4 };
	uint8_t *b = page_more(p, 60) - PAGE_HEADER_BYTES;

	if (p->lu->pi_type) /* and GRD_CHK, APP_CHK, REF_CHK */
		b[4] = (uint8_t)(spt_of_type[p->lu->pi_type & 3] << 3 | 0x07);
	b[5] = 0x01; /* SIMPSUP: the other task attributes are taken for SIMPLE */
	b[6] = p->lu->caps->volatile_cache; /* V_SUP */
	b[7] = 0x01; /* LUICLR: REPORT LUNS clears its unit attention in all units of the target */
	b[8] = 0x08; /* RTD_SUP */
}

static void page_mode_policy(struct page *p)
{
	/* all pages and subpages: shared (SPC-5, 7.7.11) */
	static const uint8_t shared[4] = { 0x3f, 0xff, 0, 0 };

	memcpy(page_more(p, sizeof(shared)), shared, sizeof(shared));
}

static void page_ports(struct page *p)
{
	uint8_t *b = page_more(p, 12);
	size_t len =
		designator_port_name(p->t->queue->nexus->host, p->t->target, p->bytes + p->len);

	cdb_put16(b + 2, 1); /* relative port identifier */
	cdb_put16(b + 10, (uint16_t)len);
	p->len += len;
}

/* ---- 8Fh third-party copy (SPC-5, 7.7.18) ---- */

/* A descriptor: its type, and zeroes for the len bytes that follow its header. */
static uint8_t *copy_descriptor(struct page *p, uint16_t type, size_t len)
{
	uint8_t *b = page_more(p, 4 + len);

	cdb_put16(b, type);
	cdb_put16(b + 2, (uint16_t)len);
	return b;
}

static void copy_token_limits(struct page *p)
{
	uint8_t *b = copy_descriptor(p, 0x0000, 32);

	cdb_put16(b + 10, COPY_TOKEN_RANGES_MAX);
	cdb_put32(b + 12, COPY_TOKEN_MAX_SECONDS);
	cdb_put32(b + 16, COPY_TOKEN_DEFAULT_SECONDS);
	cdb_put64(b + 20, COPY_TOKEN_MAX_BYTES >> p->lu->block_shift);
	cdb_put64(b + 28, COPY_TOKEN_OPTIMAL_BYTES >> p->lu->block_shift);
}

/* The service actions of 83h and 84h, from the table of commands. */
static void copy_commands(struct page *p)
{
	uint8_t *b = page_more(p, 5), *sa_count = NULL;
	size_t start = p->len;

	for (size_t i = 0; i < cdb_row_count; i++) {
		const struct cdb_row *row = &cdb_rows[i];

		if ((row->opcode != 0x83 && row->opcode != 0x84) || !scsi_row_offered(p->lu, row))
			continue;
		if (!sa_count || sa_count[-1] != row->opcode) {
			sa_count = page_more(p, 2) + 1;
			sa_count[-1] = row->opcode;
		}
		*page_more(p, 1) = (uint8_t)row->sa;
		*sa_count += 1;
	}
	b[4] = (uint8_t)(p->len - start);
	page_more(p, (0 - (1 + b[4])) & 3);
	cdb_put16(b, 0x0001);
	cdb_put16(b + 2, (uint16_t)(p->len - start + 1));
}

static void copy_parameters(struct page *p)
{
	uint8_t *b = copy_descriptor(p, 0x0004, 28);

	cdb_put16(b + 8, COPY_CSCDS_MAX);
	cdb_put16(b + 10, COPY_SEGMENTS_MAX);
	cdb_put32(b + 12, COPY_DESCRIPTORS_MAX_BYTES);
	cdb_put32(b + 16, COPY_INLINE_MAX_BYTES);
}

static void copy_descriptor_types(struct page *p)
{
	static const uint8_t types[] = COPY_DESCRIPTOR_TYPES;
	uint8_t *b = copy_descriptor(p, 0x0008, num_round_up(1 + sizeof(types), 4));

	b[4] = sizeof(types);
	memcpy(b + 5, types, sizeof(types));
	b = copy_descriptor(p, 0x000c, 4);
	cdb_put16(b + 4, 2);
	cdb_put16(b + 6, COPY_CSCD_ID_SELF);
}

/*
 * Copy group identifier (SPC-5, 7.7.18.8): units of one host can copy to each other. A locally
 * assigned UUID, as in a UUID designator (SPC-5, 7.7.6.12), of version 8 (RFC 9562: custom).
 */
static void copy_group(struct page *p)
{
	const struct scsi_host *host = p->t->queue->nexus->host;
	uint8_t *b = copy_descriptor(p, 0x000d, num_round_up(1 + 18, 4));

	b[4] = 18;
	b[5] = 0x10;
	cdb_put64(b + 7, target_naa(host, 0, 'g'));
	cdb_put64(b + 15, target_naa(host, 0, 'G'));
	b[7 + 6] = (uint8_t)(0x80 | (b[7 + 6] & 0x0f));
	b[7 + 8] = (uint8_t)(0x80 | (b[7 + 8] & 0x3f));
}

static void copy_token_features(struct page *p)
{
	uint8_t *b = copy_descriptor(p, 0x0106, 44 + 48);

	b[4] = COPY_REMOTE_TOKENS;
	cdb_put32(b + 16, COPY_TOKEN_MIN_LIFE_SECONDS);
	cdb_put32(b + 20, COPY_TOKEN_MAX_LIFE_SECONDS);
	cdb_put32(b + 24, COPY_TOKEN_MAX_SECONDS);
	cdb_put16(b + 46, 48);
	/* block ROD device type specific features: format 0, type 00h (SPC-5, 7.7.18.10.2) */
	b += 48;
	cdb_put16(b + 2, 44);
	cdb_put16(b + 6, (uint16_t)(p->lu->phys_bytes >> p->lu->block_shift));
	cdb_put64(b + 8, COPY_TOKEN_MAX_BYTES);
	cdb_put64(b + 16, COPY_TOKEN_OPTIMAL_BYTES);
	cdb_put64(b + 24, COPY_TOKEN_OPTIMAL_BYTES);
	cdb_put64(b + 32, COPY_TOKEN_OPTIMAL_BYTES);
}

static void copy_rod_types(struct page *p)
{
	static const struct {
		uint32_t type;
		uint8_t flags;
		uint16_t preference;
	} types[] = {
#define X(t, f, p) { t, f, p },
		COPY_ROD_TYPES(X)
#undef X
	};
	uint8_t *b = copy_descriptor(p, 0x0108, 4 + 64 * ARRAY_SIZE(types));

	cdb_put16(b + 6, 64 * ARRAY_SIZE(types));
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		cdb_put32(b + 8 + 64 * i, types[i].type);
		b[8 + 64 * i + 4] = types[i].flags;
		cdb_put16(b + 8 + 64 * i + 6, types[i].preference);
	}
}

static void copy_operations(struct page *p)
{
	uint8_t *b = copy_descriptor(p, 0x8001, 32);

	cdb_put32(b + 4, COPY_CONCURRENT_MAX);
	cdb_put32(b + 8, COPY_IDENTIFIED_MAX);
	cdb_put32(b + 12, COPY_SEGMENT_MAX_BYTES);
	b[16] = COPY_GRANULARITY_LOG2;
	b[17] = COPY_GRANULARITY_LOG2;
}

static void page_copy(struct page *p)
{
	copy_token_limits(p);
	copy_commands(p);
	copy_parameters(p);
	copy_descriptor_types(p);
	copy_group(p);
	copy_token_features(p);
	copy_rod_types(p);
	copy_operations(p);
}

/* ---- B0h to B2h: SBC-4 ---- */

static uint32_t blocks32(const struct scsi_lu *lu, uint64_t bytes)
{
	return (uint32_t)MIN(bytes >> lu->block_shift, (uint64_t)UINT32_MAX);
}

static void page_limits_unmap(const struct scsi_lu *lu, uint8_t *b)
{
	/* 0: a block */
	uint32_t granularity = MAX(blocks32(lu, lu->caps->discard_align_bytes), 1u);

	cdb_put32(b + 20, SCSI_UNMAP_BLOCKS_MAX);
	cdb_put32(b + 24, SCSI_UNMAP_DESCRIPTORS_MAX);
	cdb_put32(b + 28, granularity);
	cdb_put32(b + 32, 1u << 31); /* UGAVALID; the first unit starts at LBA 0 */
}

static void page_limits(struct page *p)
{
	const struct scsi_lu *lu = p->lu;
	uint8_t *b = page_more(p, 60) - PAGE_HEADER_BYTES;

	b[4] = SCSI_WSNZ;
	b[5] = SCSI_CAW_BLOCKS_MAX;
	cdb_put16(b + 6, (uint16_t)MIN(blocks32(lu, lu->phys_bytes), 0xffffu));
	cdb_put32(b + 8, scsi_transfer_blocks_max(lu));
	cdb_put32(b + 12, blocks32(lu, lu->caps->opt_io_bytes));
	if (lu->caps->discard)
		page_limits_unmap(lu, b);
	cdb_put64(b + 36, scsi_write_same_blocks_max(lu));
	cdb_put32(b + 44, scsi_atomic_blocks_max(lu));
	/* ATOMIC ALIGNMENT and GRANULARITY 0: any; and no atomic boundary */
}

static void page_characteristics(struct page *p)
{
	uint8_t *b = page_more(p, 60) - PAGE_HEADER_BYTES;

	cdb_put16(b + 4, p->lu->rotation_rpm);
	/* WABEREQ 01b: after SANITIZE BLOCK ERASE reads succeed */
	if (p->lu->caps->write_zeroes || p->lu->caps->secure_erase)
		b[7] = 0x40;
}

static void page_provisioning(struct page *p)
{
	uint8_t *b = page_more(p, 4) - PAGE_HEADER_BYTES;

	if (!p->lu->caps->discard)
		return;
	/* LBPU, LBPWS, LBPWS10. ANC_SUP 0: nothing below can promise that space stays. */
	b[5] = (uint8_t)(0xe0 | (scsi_lu_lbprz(p->lu) ? 0x04 : 0));
	b[6] = 0x02; /* thin provisioned */
}

/* ---- the table ---- */

static void page_supported(struct page *p);

#define WHERE_NO_LU 1 /* a unit that is not there */
#define WHERE_WLUN  2 /* the REPORT LUNS well known unit */
#define WHERE_LU    4

static const struct {
	uint8_t code;
	uint8_t where;
	void (*build)(struct page *p);
} pages[] = {
	{ 0x00, WHERE_LU | WHERE_WLUN | WHERE_NO_LU, page_supported },
	{ 0x80, WHERE_LU, page_serial },
	{ 0x83, WHERE_LU | WHERE_WLUN, page_identification },
	{ 0x85, WHERE_LU, page_empty },
	{ 0x86, WHERE_LU, page_extended_inquiry },
	{ 0x87, WHERE_LU, page_mode_policy },
	{ 0x88, WHERE_LU, page_ports },
	{ 0x8f, WHERE_LU, page_copy },
	{ 0xb0, WHERE_LU, page_limits },
	{ 0xb1, WHERE_LU, page_characteristics },
	{ 0xb2, WHERE_LU, page_provisioning },
};

static uint8_t page_where(const struct scsi_task *t)
{
	if (t->itl)
		return WHERE_LU;
	return t->lun == SCSI_WLUN_REPORT_LUNS ? WHERE_WLUN : WHERE_NO_LU;
}

static void page_supported(struct page *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		if (pages[i].where & page_where(p->t))
			*page_more(p, 1) = pages[i].code;
}

void scsi_inquiry_vpd(struct scsi_task *t)
{
	struct page page = { .t = t, .lu = t->itl ? task_lu(t) : NULL };
	uint8_t where = page_where(t);
	size_t i = 0;

	while (i < ARRAY_SIZE(pages) && !(pages[i].code == t->cdb[2] && pages[i].where & where))
		i++;
	if (i == ARRAY_SIZE(pages)) {
		scsi_task_bad_cdb(t, 2, -1);
		return;
	}
	if (!scsi_task_scratch(t, PAGE_BYTES_MAX))
		return;
	page.bytes = t->buf;
	page_more(&page, PAGE_HEADER_BYTES);
	pages[i].build(&page);
	page.bytes[0] = scsi_peripheral(t);
	page.bytes[1] = pages[i].code;
	cdb_put16(page.bytes + 2, (uint16_t)(page.len - PAGE_HEADER_BYTES));
	scsi_task_reply(t, page.bytes, page.len, cdb_u16(t->cdb + 3));
}
