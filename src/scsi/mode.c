/*
 * Mode pages (SPC-5, 7.5; SBC-4, 6.5). Each page is a row with its default bytes and the mask of
 * what MODE SELECT may change; everything else follows from the table. All nexuses share the
 * values (mode page policy, VPD 87h).
 */
#include "scsi/mode.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "scsi/handlers.h"
#include "scsi/scsi_impl.h"

#define PAGE_ALL      0x3f
#define SUBPAGE_ALL   0xff
#define PS	      0x80
#define SPF	      0x40
#define PC_CURRENT    0
#define PC_CHANGEABLE 1
#define PC_DEFAULT    2
#define PC_SAVED      3

#define CACHING_WCE	0x04 /* byte 2 */
#define CONTROL_D_SENSE 0x04 /* byte 2 */
#define CONTROL_SWP	0x08 /* byte 4 */
#define CONTROL_TAS	0x40 /* byte 5 */
#define CONTROL_ATO	0x80 /* byte 5 */

/* bytes, and where the page is in scsi_mode's arrays */
#define RECOVERY_BYTES	  12
#define RECONNECT_BYTES	  16
#define CACHING_BYTES	  20
#define CONTROL_BYTES	  12
#define CONTROL_EXT_BYTES 32
#define EXCEPTIONS_BYTES  12
enum {
	RECOVERY_AT = 0,
	RECONNECT_AT = RECOVERY_AT + RECOVERY_BYTES,
	CACHING_AT = RECONNECT_AT + RECONNECT_BYTES,
	CONTROL_AT = CACHING_AT + CACHING_BYTES,
	CONTROL_EXT_AT = CONTROL_AT + CONTROL_BYTES,
	EXCEPTIONS_AT = CONTROL_EXT_AT + CONTROL_EXT_BYTES,
	PAGES_BYTES = EXCEPTIONS_AT + EXCEPTIONS_BYTES,
};

static const struct mode_page {
	uint8_t code, subpage, bytes, header_bytes, at;
	uint8_t defaults[CONTROL_EXT_BYTES];
	uint8_t changeable[CONTROL_EXT_BYTES];
} mode_pages[] = {
	/* in ascending order, as MODE SENSE lists them (SPC-5, 6.14.1) */
	{ .code = 0x01, /* read-write error recovery: AWRE, ARRE */
	  .bytes = RECOVERY_BYTES,
	  .header_bytes = 2,
	  .at = RECOVERY_AT,
	  .defaults = { 0x01, RECOVERY_BYTES - 2, 0xc0 } },
	{ .code = 0x02, /* disconnect-reconnect */
	  .bytes = RECONNECT_BYTES,
	  .header_bytes = 2,
	  .at = RECONNECT_AT,
	  .defaults = { 0x02, RECONNECT_BYTES - 2 } },
	{ .code = 0x08, /* caching */
	  .bytes = CACHING_BYTES,
	  .header_bytes = 2,
	  .at = CACHING_AT,
	  .defaults = { 0x08, CACHING_BYTES - 2, CACHING_WCE },
	  .changeable = { [2] = CACHING_WCE } },
	{ .code = 0x0a, /* control: GLTSD; QUEUE ALGORITHM MODIFIER 1; BUSY TIMEOUT unlimited */
	  .bytes = CONTROL_BYTES,
	  .header_bytes = 2,
	  .at = CONTROL_AT,
	  .defaults = { 0x0a, CONTROL_BYTES - 2, 0x02, 0x10, 0, CONTROL_ATO, 0, 0, 0xff, 0xff },
	  .changeable = { [2] = CONTROL_D_SENSE, [4] = CONTROL_SWP, [5] = CONTROL_TAS } },
	{ .code = 0x0a, /* control extension */
	  .subpage = 0x01,
	  .bytes = CONTROL_EXT_BYTES,
	  .header_bytes = 4,
	  .at = CONTROL_EXT_AT,
	  .defaults = { SPF | 0x0a, 0x01, 0, CONTROL_EXT_BYTES - 4 } },
	{ .code = 0x1c, /* informational exceptions control: DEXCPT */
	  .bytes = EXCEPTIONS_BYTES,
	  .header_bytes = 2,
	  .at = EXCEPTIONS_AT,
	  .defaults = { 0x1c, EXCEPTIONS_BYTES - 2, 0x08 } },
};

_Static_assert(PAGES_BYTES <= sizeof(((struct scsi_mode *)0)->current), "struct scsi_mode is full");

/* What this unit cannot have at all: a cache to switch, an owner of application tags. */
static uint8_t mode_absent(const struct scsi_lu *lu, uint32_t at)
{
	if (at == CACHING_AT + 2 && !lu->caps->volatile_cache)
		return CACHING_WCE;
	return at == CONTROL_AT + 5 && !lu->pi_type ? CONTROL_ATO : 0;
}

static uint8_t mode_default(const struct scsi_lu *lu, const struct mode_page *page, uint32_t i)
{
	return (uint8_t)(page->defaults[i] & ~mode_absent(lu, page->at + i));
}

static uint8_t mode_changeable(const struct scsi_lu *lu, const struct mode_page *page, uint32_t i)
{
	return (uint8_t)(page->changeable[i] & ~mode_absent(lu, page->at + i));
}

/* ---- life ---- */

/* What the other commands look at without the lock. */
static void mode_publish(struct scsi_lu *lu)
{
	struct scsi_mode *m = &lu->mode;

	atomic_store(&m->wce, m->current[CACHING_AT + 2] & CACHING_WCE);
	atomic_store(&m->d_sense, m->current[CONTROL_AT + 2] & CONTROL_D_SENSE);
	atomic_store(&m->swp, m->current[CONTROL_AT + 4] & CONTROL_SWP);
	scsi_lu_gates_update(lu); /* write-protected, or not any more */
	atomic_store(&m->tas, m->current[CONTROL_AT + 5] & CONTROL_TAS);
}

static void mode_defaults(const struct scsi_lu *lu, uint8_t *pages)
{
	for (size_t p = 0; p < ARRAY_SIZE(mode_pages); p++)
		for (uint32_t i = 0; i < mode_pages[p].bytes; i++)
			pages[mode_pages[p].at + i] = mode_default(lu, &mode_pages[p], i);
}

void scsi_mode_init(struct scsi_lu *lu)
{
	mode_defaults(lu, lu->mode.saved);
	scsi_mode_reset(lu);
}

void scsi_mode_reset(struct scsi_lu *lu)
{
	memcpy(lu->mode.current, lu->mode.saved, PAGES_BYTES);
	mode_publish(lu);
}

/* ---- the state file ---- */

static bool mode_page_changes(const struct mode_page *page)
{
	for (uint32_t i = page->header_bytes; i < page->bytes; i++)
		if (page->changeable[i])
			return true;
	return false;
}

/* The line of a page; its length. */
static size_t mode_line(char *line, size_t size, const char *word, const struct mode_page *page,
			const uint8_t *values)
{
	size_t n = (size_t)snprintf(line, size, "%s %02x %02x ", word, page->code, page->subpage);

	for (uint32_t i = page->header_bytes; i < page->bytes; i++)
		n += (size_t)snprintf(line + n, size - n, "%02x", values[page->at + i]);
	line[n++] = '\n';
	return n;
}

#define MODE_LINE_MAX (40 + 2 * CONTROL_EXT_BYTES)

size_t mode_state_write(const struct scsi_lu *lu, char *buf, size_t size)
{
	char line[MODE_LINE_MAX];
	size_t len = 0;

	for (size_t p = 0; p < ARRAY_SIZE(mode_pages); p++) {
		const struct mode_page *page = &mode_pages[p];
		size_t n;

		if (!mode_page_changes(page))
			continue;
		n = mode_line(line, sizeof(line), "mode", page, lu->mode.saved);
		if (len + n >= size)
			continue;
		memcpy(buf + len, line, n);
		len += n;
	}
	buf[len] = '\0';
	return len;
}

void mode_live_write(const struct scsi_lu *lu, FILE *to)
{
	char line[MODE_LINE_MAX];

	for (size_t p = 0; p < ARRAY_SIZE(mode_pages); p++)
		if (mode_page_changes(&mode_pages[p]))
			fwrite(line, 1,
			       mode_line(line, sizeof(line), "mode-current", &mode_pages[p],
					 lu->mode.current),
			       to);
}

static const struct mode_page *mode_page_find(uint32_t code, uint32_t subpage)
{
	for (size_t p = 0; p < ARRAY_SIZE(mode_pages); p++)
		if (mode_pages[p].code == code && mode_pages[p].subpage == subpage)
			return &mode_pages[p];
	return NULL;
}

/* The changeable bits of "PAGE SUBPAGE HEX" into values. */
static bool mode_line_read(const struct scsi_lu *lu, const char *line, uint8_t *values)
{
	uint8_t value[CONTROL_EXT_BYTES];
	const struct mode_page *page;
	unsigned int code, subpage;
	int at = 0;

	if (sscanf(line, "%2x %2x %n", &code, &subpage, &at) != 2 || !at)
		return false;
	page = mode_page_find(code, subpage);
	if (!page)
		return false;
	line += at;
	if (!text_hex_read(&line, value + page->header_bytes, page->bytes - page->header_bytes) ||
	    (*line && *line != '\n'))
		return false;
	for (uint32_t i = page->header_bytes; i < page->bytes; i++) {
		uint8_t mask = mode_changeable(lu, page, i), *to = &values[page->at + i];

		*to = (uint8_t)((*to & ~mask) | (value[i] & mask));
	}
	return true;
}

bool mode_state_read(struct scsi_lu *lu, const char *line)
{
	if (strncmp(line, "mode ", 5) != 0 || !mode_line_read(lu, line + 5, lu->mode.saved))
		return false;
	scsi_mode_reset(lu);
	return true;
}

bool mode_live_read(struct scsi_lu *lu, const char *line)
{
	if (strncmp(line, "mode-current ", 13) != 0 ||
	    !mode_line_read(lu, line + 13, lu->mode.current))
		return false;
	mode_publish(lu);
	return true;
}

/* ---- MODE SENSE (SPC-5, 6.14) ---- */

#define SENSE_BYTES_MAX (8 + 16 + PAGES_BYTES)

/* Header and block descriptor; without the MODE DATA LENGTH. */
static size_t sense_header(const struct scsi_lu *lu, const uint8_t *cdb, uint8_t *b)
{
	bool ten = cdb[0] == 0x5a, dbd = cdb[1] & 0x08, long_lba = ten && cdb[1] & 0x10;
	bool protect = lu->read_only || lu->mode.current[CONTROL_AT + 4] & CONTROL_SWP;
	uint64_t blocks = scsi_lu_blocks(lu);
	size_t len = ten ? 8 : 4;

	b[ten ? 3 : 2] = (uint8_t)((protect ? 0x80 : 0) | 0x10); /* WP, DPOFUA (SBC-4, 6.5.1) */
	if (dbd)
		return len;
	if (ten)
		b[4] = long_lba;
	b[ten ? 7 : 3] = long_lba ? 16 : 8;
	b += len;
	if (long_lba) {
		cdb_put64(b, blocks);
		cdb_put32(b + 12, lu->block_bytes);
		return len + 16;
	}
	cdb_put32(b, (uint32_t)MIN(blocks, (uint64_t)UINT32_MAX));
	cdb_put24(b + 5, lu->block_bytes);
	return len + 8;
}

static void sense_page(const struct scsi_lu *lu, const struct mode_page *page, uint8_t pc,
		       uint8_t *b)
{
	for (uint32_t i = 0; i < page->bytes; i++) {
		if (pc == PC_CURRENT)
			b[i] = lu->mode.current[page->at + i];
		else if (pc == PC_SAVED)
			b[i] = lu->mode.saved[page->at + i];
		else if (pc == PC_DEFAULT || i < page->header_bytes)
			b[i] = mode_default(lu, page, i);
		else
			b[i] = mode_changeable(lu, page, i);
	}
	if (lu->state_path)
		b[0] |= PS;
}

void scsi_mode_sense(struct scsi_task *t)
{
	bool ten = t->cdb[0] == 0x5a;
	uint8_t pc = t->cdb[2] >> 6, code = t->cdb[2] & 0x3f, subpage = t->cdb[3];
	uint8_t b[SENSE_BYTES_MAX] = { 0 };
	struct scsi_lu *lu = task_lu(t);
	uint32_t found = 0;
	size_t len;

	if (subpage && subpage != SUBPAGE_ALL && !mode_page_find(code, subpage)) {
		scsi_task_bad_cdb(t, 3, -1);
		return;
	}
	if (pc == PC_SAVED && !lu->state_path) {
		scsi_task_check(t, SCSI_CAUSE_SAVING_UNSUPPORTED);
		return;
	}
	pthread_mutex_lock(&lu->lock);
	len = sense_header(lu, t->cdb, b);
	for (size_t p = 0; p < ARRAY_SIZE(mode_pages); p++) {
		const struct mode_page *page = &mode_pages[p];

		if ((code != PAGE_ALL && code != page->code) ||
		    (subpage != SUBPAGE_ALL && subpage != page->subpage))
			continue;
		sense_page(lu, page, pc, b + len);
		len += page->bytes;
		found++;
	}
	pthread_mutex_unlock(&lu->lock);
	if (!found) {
		scsi_task_bad_cdb(t, 2, 5);
		return;
	}
	if (ten)
		cdb_put16(b, (uint16_t)(len - 2));
	else
		b[0] = (uint8_t)(len - 1);
	scsi_task_reply(t, b, len, ten ? cdb_u16(t->cdb + 7) : t->cdb[4]);
}

/* ---- MODE SELECT (SPC-5, 6.12) ---- */

/* A parameter list being checked; what is wrong is told when the lock is free again. */
struct select {
	const uint8_t *list;
	size_t len, at;
	uint8_t pages[PAGES_BYTES]; /* will be the current values */
	bool bad_len, bad_field;
	size_t bad_byte;
	int bad_bit;
};

static bool select_bad_len(struct select *s)
{
	s->bad_len = true;
	return false;
}

static bool select_bad_field(struct select *s, size_t byte, int bit)
{
	s->bad_field = true;
	s->bad_byte = byte;
	s->bad_bit = bit;
	return false;
}

/* The capacity and the block length cannot be changed (SBC-4, 6.5.2). */
static bool select_descriptor(const struct scsi_lu *lu, struct select *s, bool long_lba)
{
	const uint8_t *b = s->list + s->at;
	uint64_t blocks = long_lba ? cdb_u64(b) : cdb_u32(b), have = scsi_lu_blocks(lu);
	uint64_t all = long_lba ? UINT64_MAX : UINT32_MAX;
	uint32_t block_bytes = long_lba ? cdb_u32(b + 12) : cdb_u24(b + 5);

	if (blocks && blocks != all && blocks != have)
		return select_bad_field(s, s->at, -1);
	if (block_bytes != lu->block_bytes)
		return select_bad_field(s, s->at + (long_lba ? 12 : 5), -1);
	s->at += long_lba ? 16 : 8;
	return true;
}

static bool select_header(const struct scsi_lu *lu, struct select *s, bool ten)
{
	const uint8_t *b = s->list;
	size_t descriptor_bytes;
	bool long_lba;

	s->at = ten ? 8 : 4;
	if (s->len < s->at)
		return select_bad_len(s);
	if (b[ten ? 2 : 1]) /* MEDIUM TYPE */
		return select_bad_field(s, ten ? 2 : 1, -1);
	long_lba = ten && b[4] & 0x01;
	descriptor_bytes = ten ? cdb_u16(b + 6) : b[3];
	if (!descriptor_bytes)
		return true;
	if (descriptor_bytes != (long_lba ? 16u : 8u))
		return select_bad_field(s, ten ? 6 : 3, -1);
	if (s->len - s->at < descriptor_bytes)
		return select_bad_len(s);
	return select_descriptor(lu, s, long_lba);
}

static bool select_page(const struct scsi_lu *lu, struct select *s)
{
	const uint8_t *b = s->list + s->at;
	size_t left = s->len - s->at, bytes;
	const struct mode_page *page;
	bool spf = b[0] & SPF;

	if (left < (spf ? 4u : 2u))
		return select_bad_len(s);
	page = mode_page_find(b[0] & 0x3f, spf ? b[1] : 0);
	if (!page || spf != (page->header_bytes == 4))
		return select_bad_field(s, s->at, 5);
	bytes = spf ? 4u + cdb_u16(b + 2) : 2u + b[1];
	if (bytes != page->bytes)
		return select_bad_field(s, s->at + (spf ? 2 : 1), -1);
	if (left < bytes)
		return select_bad_len(s);
	for (uint32_t i = page->header_bytes; i < page->bytes; i++) {
		uint8_t changes = b[i] ^ s->pages[page->at + i];
		uint8_t wrong = (uint8_t)(changes & ~mode_changeable(lu, page, i));

		if (wrong)
			return select_bad_field(s, s->at + i, 31 - __builtin_clz(wrong));
		s->pages[page->at + i] = b[i];
	}
	s->at += bytes;
	return true;
}

static bool select_list(const struct scsi_lu *lu, struct select *s, bool ten)
{
	if (!s->len)
		return true;
	if (!select_header(lu, s, ten))
		return false;
	while (s->at < s->len)
		if (!select_page(lu, s))
			return false;
	return true;
}

/* The saved bytes that can change, into the task and back: for when they could not be saved. */
static void select_saved_keep(struct scsi_task *t, bool restore)
{
	uint8_t *kept = (uint8_t *)t->vars, *saved = task_lu(t)->mode.saved;
	size_t n = 0;

	for (size_t p = 0; p < ARRAY_SIZE(mode_pages); p++) {
		for (uint32_t i = 0; i < mode_pages[p].bytes; i++) {
			if (!mode_pages[p].changeable[i])
				continue;
			ASSERT(n < sizeof(t->vars));
			if (restore)
				saved[mode_pages[p].at + i] = kept[n++];
			else
				kept[n++] = saved[mode_pages[p].at + i];
		}
	}
}

static void select_saved(struct scsi_task *t, bool ok)
{
	if (ok) {
		scsi_task_good(t);
		return;
	}
	pthread_mutex_lock(&task_lu(t)->lock);
	select_saved_keep(t, true);
	pthread_mutex_unlock(&task_lu(t)->lock);
	scsi_task_check(t, SCSI_CAUSE_INTERNAL_FAILURE);
}

static void select_save(struct scsi_task *t)
{
	struct scsi_lu *lu = task_lu(t);

	if (!(t->cdb[1] & 0x01)) { /* SP */
		scsi_task_good(t);
		return;
	}
	pthread_mutex_lock(&lu->lock);
	select_saved_keep(t, false);
	memcpy(lu->mode.saved, lu->mode.current, PAGES_BYTES);
	pthread_mutex_unlock(&lu->lock);
	scsi_state_save(t, select_saved);
}

static void select_flushed(struct scsi_task *t, enum blk_status status)
{
	if (status == BLK_ST_OK)
		select_save(t);
	else
		scsi_task_blk_failed(t, status, 0);
}

/* The new values are in force, for all nexuses. Lock held. */
static void select_apply(struct scsi_task *t, const struct select *s)
{
	struct scsi_lu *lu = task_lu(t);

	if (!memcmp(lu->mode.current, s->pages, PAGES_BYTES))
		return;
	memcpy(lu->mode.current, s->pages, PAGES_BYTES);
	mode_publish(lu);
	scsi_ua_add_others(lu, t->itl, SCSI_UA_MODE_CHANGED);
	scsi_event_others(lu, t->itl, SCSI_UA_MODE_CHANGED);
}

static void select_run(struct scsi_task *t, bool ten, bool revert)
{
	struct scsi_lu *lu = task_lu(t);
	struct select s = { .list = t->buf, .len = t->out_bytes };
	bool cached;

	pthread_mutex_lock(&lu->lock);
	cached = atomic_load(&lu->mode.wce);
	memcpy(s.pages, lu->mode.current, PAGES_BYTES);
	if (revert)
		mode_defaults(lu, s.pages);
	if (select_list(lu, &s, ten))
		select_apply(t, &s);
	cached &= !atomic_load(&lu->mode.wce);
	pthread_mutex_unlock(&lu->lock);
	if (s.bad_len)
		scsi_task_check(t, SCSI_CAUSE_PARAM_LIST_LENGTH);
	else if (s.bad_field)
		scsi_task_bad_list(t, (uint32_t)s.bad_byte, s.bad_bit);
	else if (cached) /* SBC-4, 6.5.5: without its write cache, nothing may be in it */
		scsi_task_io(t, NULL, BLK_FLUSH, 0, 0, 0, NULL, 0, select_flushed);
	else
		select_save(t);
}

void scsi_mode_select(struct scsi_task *t)
{
	bool ten = t->cdb[0] == 0x55;
	bool pf = t->cdb[1] & 0x10, revert = t->cdb[1] & 0x02, sp = t->cdb[1] & 0x01;
	size_t len = ten ? cdb_u16(t->cdb + 7) : t->cdb[4];

	if (sp && !task_lu(t)->state_path)
		scsi_task_bad_cdb(t, 1, 0);
	else if (len && revert) /* SPC-5, 6.12 */
		scsi_task_bad_cdb(t, 1, 1);
	else if (len && !pf) /* vendor specific pages: there are none */
		scsi_task_bad_cdb(t, 1, 4);
	else if (scsi_task_list(t, len))
		select_run(t, ten, revert);
}
