/*
 * ROD tokens (SPC-5, 5.17.6): which blocks each stands for, and whether it still may.
 *
 *   token_new -> LIVE -> EXPIRED    not used for its inactivity timeout
 *                     -> CANCELLED  one of its blocks was written, or its room was needed
 *                     -> DELETED    DEL_TKN
 *
 * Dead ones stay, without their ranges, to say why (SPC-5, 5.17.6.7) until their room is needed.
 * The number is limited for each nexus that makes them, and in all. A token is its 512 bytes, half
 * of them random: whoever has them may use it, on any nexus that sees the unit.
 *
 * Locks: table_lock, then lu->lock. lu->token_count is the number of LIVE tokens of the unit; while
 * it is not 0, writes are stopped at the gate (GATE_WRITES) to ask here.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/text.h"
#include "scsi/copy_impl.h"

#define TOKENS_MAX	 1024
#define TOKENS_NEXUS_MAX 64 /* a write looks at all of its unit */

/* The generic ROD token (SPC-5, 5.17.6.5.1), block devices (SBC-4, 4.28) */
#define TOKEN_LENGTH	 (COPY_TOKEN_BYTES - 8)
#define TOKEN_ID	 8
#define TOKEN_CREATOR	 16
#define TOKEN_SIZE	 48
#define TOKEN_DEVICE	 96
#define TOKEN_TARGET	 128
#define TOKEN_TARGET_MAX 128
#define TOKEN_SECRET	 256

enum token_state {
	TOKEN_LIVE,
	TOKEN_EXPIRED,
	TOKEN_CANCELLED,
	TOKEN_DELETED
};

struct token {
	struct list node; /* tokens, oldest first */
	enum token_state state;
	uint32_t users; /* copies under way */
	uint64_t used_ns, timeout_ns;
	const struct scsi_nexus *creator; /* NULL: gone */
	struct scsi_lu *lu;		  /* no reference: see scsi_copy_lu_gone; NULL: gone */
	uint64_t wwn;
	uint32_t block_bytes;
	uint64_t size_bytes;
	uint32_t range_count;
	struct token_range *ranges; /* NULL when dead and unused */
	uint8_t bytes[COPY_TOKEN_BYTES];
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list tokens = { &tokens, &tokens };
static uint32_t token_count;
static uint64_t (*clock_ns)(void) = loop_clock_ns;

void token_clock_set(uint64_t (*now_ns)(void))
{
	clock_ns = now_ns ? now_ns : loop_clock_ns;
}

/* ---- states (table_lock held) ---- */

static void live_count(struct scsi_lu *lu, int change)
{
	pthread_mutex_lock(&lu->lock);
	__atomic_fetch_add(&lu->token_count, (uint32_t)change, __ATOMIC_RELEASE);
	scsi_lu_gates_update(lu);
	pthread_mutex_unlock(&lu->lock);
}

static void ranges_drop(struct token *tok)
{
	if (tok->state == TOKEN_LIVE || tok->users)
		return;
	free(tok->ranges);
	tok->ranges = NULL;
	tok->range_count = 0;
}

static void token_kill(struct token *tok, enum token_state state)
{
	if (tok->state != TOKEN_LIVE)
		return;
	tok->state = state;
	if (tok->lu)
		live_count(tok->lu, -1);
	ranges_drop(tok);
}

static void token_age(struct token *tok, uint64_t now_ns)
{
	if (!tok->users && now_ns - tok->used_ns >= tok->timeout_ns)
		token_kill(tok, TOKEN_EXPIRED);
}

static enum scsi_cause state_cause(const struct token *tok)
{
	switch (tok->state) {
	case TOKEN_LIVE:
		return SCSI_CAUSE_NONE;
	case TOKEN_EXPIRED:
		return SCSI_CAUSE_TOKEN_EXPIRED;
	case TOKEN_CANCELLED:
		return SCSI_CAUSE_TOKEN_CANCELLED;
	case TOKEN_DELETED:
		return SCSI_CAUSE_TOKEN_DELETED;
	}
	UNREACHABLE();
}

static void token_free(struct token *tok)
{
	token_kill(tok, TOKEN_CANCELLED);
	list_remove(&tok->node);
	token_count--;
	free(tok->ranges);
	free(tok);
}

/* ---- room ---- */

/* The one to push out among those of a nexus (NULL: all dead ones): dead before live, old before
 * new. */
static struct token *token_victim(const struct scsi_nexus *nexus)
{
	struct token *tok, *oldest = NULL;

	list_for_each(tok, &tokens, node) {
		if (tok->users || (nexus && tok->creator != nexus))
			continue;
		if (tok->state != TOKEN_LIVE)
			return tok;
		if (!oldest && nexus)
			oldest = tok;
	}
	return oldest;
}

static bool room_make(const struct scsi_nexus *nexus, uint64_t now_ns)
{
	struct token *tok, *victim = NULL;
	uint32_t own = 0;

	list_for_each(tok, &tokens, node) {
		token_age(tok, now_ns);
		own += tok->creator == nexus;
	}
	if (own >= TOKENS_NEXUS_MAX)
		victim = token_victim(nexus);
	else if (token_count >= TOKENS_MAX)
		victim = token_victim(NULL);
	else
		return true;
	if (victim)
		token_free(victim);
	return victim;
}

/* ---- new ones ---- */

static bool random_fill(uint8_t *buf, size_t len)
{
	return getrandom(buf, len, 0) == (ssize_t)len; /* up to 256 bytes come whole */
}

/* The target device's designator, for TARGET DEVICE DESCRIPTOR. */
static void target_fill(const struct scsi_itl *itl, uint8_t *b)
{
	uint8_t all[512];
	size_t len = scsi_designators(itl, all, sizeof(all)), at = 0;

	while (at + 4 <= len && at + 4 + all[at + 3] <= len) {
		size_t bytes = 4u + all[at + 3];

		if ((all[at + 1] & 0x30) == 0x20 && bytes <= TOKEN_TARGET_MAX) {
			memcpy(b, all + at, bytes);
			return;
		}
		at += bytes;
	}
}

static bool token_fill(struct token *tok, const struct scsi_itl *itl, uint32_t type)
{
	const struct scsi_lu *lu = itl->lu;
	uint8_t *b = tok->bytes;

	cdb_put32(b, type);
	cdb_put16(b + 6, TOKEN_LENGTH);
	b[TOKEN_CREATOR] = 0xe4; /* the unit, as a CSCD descriptor */
	b[TOKEN_CREATOR + 4] = 0x01;
	b[TOKEN_CREATOR + 5] = 0x03;
	b[TOKEN_CREATOR + 7] = 8;
	scsi_lu_naa(lu, b + TOKEN_CREATOR + 8);
	cdb_put24(b + TOKEN_CREATOR + 29, lu->block_bytes);
	cdb_put64(b + TOKEN_SIZE + 8, tok->size_bytes);
	cdb_put32(b + TOKEN_DEVICE, lu->block_bytes);
	target_fill(itl, b + TOKEN_TARGET);
	return random_fill(b + TOKEN_ID, 8) &&
	       random_fill(b + TOKEN_SECRET, COPY_TOKEN_BYTES - TOKEN_SECRET);
}

static struct token *token_make(const struct scsi_task *t, const struct token_params *p)
{
	struct token *tok = calloc(1, sizeof(*tok));
	struct scsi_lu *lu = task_lu(t);

	if (!tok)
		return NULL;
	tok->ranges = calloc(p->range_count, sizeof(*tok->ranges));
	for (uint32_t i = 0; tok->ranges && i < p->range_count; i++) {
		tok->ranges[i] = p->ranges[i];
		tok->size_bytes += (uint64_t)p->ranges[i].blocks << lu->block_shift;
	}
	tok->creator = t->queue->nexus;
	tok->lu = lu;
	tok->wwn = lu->wwn;
	tok->block_bytes = lu->block_bytes;
	tok->range_count = p->range_count;
	tok->timeout_ns = p->timeout_seconds * 1000000000ull;
	if (tok->ranges && token_fill(tok, t->itl, p->type))
		return tok;
	free(tok->ranges);
	free(tok);
	return NULL;
}

enum scsi_cause token_new(struct scsi_task *t, const struct token_params *params,
			  uint8_t ret_token[COPY_TOKEN_BYTES])
{
	struct token *tok = token_make(t, params);
	bool room;

	if (!tok)
		return SCSI_CAUSE_INSUFFICIENT_RESOURCES;
	pthread_mutex_lock(&table_lock);
	tok->used_ns = clock_ns();
	room = room_make(tok->creator, tok->used_ns);
	if (room) {
		list_append(&tokens, &tok->node);
		token_count++;
		live_count(tok->lu, 1);
		memcpy(ret_token, tok->bytes, COPY_TOKEN_BYTES);
	}
	pthread_mutex_unlock(&table_lock);
	if (room)
		return SCSI_CAUSE_NONE;
	free(tok->ranges);
	free(tok);
	return SCSI_CAUSE_TOKEN_RESOURCES;
}

/* ---- use ---- */

/* Takes as long whatever differs. */
static bool bytes_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
	uint8_t differs = 0;

	for (size_t i = 0; i < len; i++)
		differs |= a[i] ^ b[i];
	return !differs;
}

static struct token *token_find(const uint8_t *id)
{
	struct token *tok;

	list_for_each(tok, &tokens, node)
		if (bytes_equal(tok->bytes + TOKEN_ID, id, 8))
			return tok;
	return NULL;
}

static enum scsi_cause token_judge(struct token *tok, const uint8_t *bytes)
{
	if (!tok)
		return SCSI_CAUSE_TOKEN_UNKNOWN;
	if (!bytes_equal(tok->bytes, bytes, COPY_TOKEN_BYTES))
		return SCSI_CAUSE_TOKEN_CORRUPT;
	token_age(tok, clock_ns());
	return state_cause(tok);
}

enum scsi_cause token_get(const uint8_t bytes[COPY_TOKEN_BYTES], struct token **ret_token)
{
	enum scsi_cause cause;
	struct token *tok;

	if (cdb_u16(bytes + 6) != TOKEN_LENGTH)
		return SCSI_CAUSE_TOKEN_LENGTH;
	if (cdb_u32(bytes) != COPY_ROD_PIT_DEFAULT && cdb_u32(bytes) != COPY_ROD_PIT_VULNERABLE)
		return SCSI_CAUSE_TOKEN_UNSUPPORTED_TYPE;
	pthread_mutex_lock(&table_lock);
	tok = token_find(bytes + TOKEN_ID);
	cause = token_judge(tok, bytes);
	if (cause == SCSI_CAUSE_NONE) {
		tok->users++;
		*ret_token = tok;
	}
	pthread_mutex_unlock(&table_lock);
	return cause;
}

void token_put(struct token *tok)
{
	pthread_mutex_lock(&table_lock);
	tok->users--;
	tok->used_ns = clock_ns();
	ranges_drop(tok);
	pthread_mutex_unlock(&table_lock);
}

void token_delete(struct token *tok)
{
	pthread_mutex_lock(&table_lock);
	token_kill(tok, TOKEN_DELETED);
	pthread_mutex_unlock(&table_lock);
}

enum scsi_cause token_check(struct token *tok)
{
	enum scsi_cause cause;

	pthread_mutex_lock(&table_lock);
	cause = state_cause(tok);
	pthread_mutex_unlock(&table_lock);
	return cause;
}

const struct token_range *token_ranges(const struct token *tok, uint32_t *ret_count,
				       uint32_t *ret_block_bytes)
{
	*ret_count = tok->range_count;
	*ret_block_bytes = tok->block_bytes;
	return tok->ranges;
}

uint64_t token_bytes(const struct token *tok)
{
	return tok->size_bytes;
}

uint64_t token_wwn(const struct token *tok)
{
	return tok->wwn;
}

bool token_is_of(const struct token *tok, const struct scsi_lu *lu)
{
	bool is;

	pthread_mutex_lock(&table_lock);
	is = tok->lu == lu;
	pthread_mutex_unlock(&table_lock);
	return is;
}

uint32_t token_list(const struct scsi_lu *lu, uint8_t *buf, uint32_t max)
{
	uint64_t now_ns = clock_ns();
	uint32_t count = 0;
	struct token *tok;

	pthread_mutex_lock(&table_lock);
	list_for_each(tok, &tokens, node) {
		token_age(tok, now_ns);
		if (tok->lu != lu || tok->state != TOKEN_LIVE)
			continue;
		if (count < max)
			memcpy(buf + (size_t)count * TOKEN_MANAGEMENT_BYTES, tok->bytes,
			       TOKEN_MANAGEMENT_BYTES);
		count++;
	}
	pthread_mutex_unlock(&table_lock);
	return count;
}

/* ---- writes ---- */

static bool token_overlaps(const struct token *tok, uint64_t start, uint64_t end)
{
	for (uint32_t i = 0; i < tok->range_count; i++) {
		uint64_t at = tok->ranges[i].lba * tok->block_bytes;
		uint64_t len = (uint64_t)tok->ranges[i].blocks * tok->block_bytes;

		if (len && at < end && start < at + len)
			return true;
	}
	return false;
}

/* lu->token_count is read without the lock: a token that is made just now is not cancelled by a
 * write that is just being started. */
void token_on_write(struct scsi_lu *lu, uint64_t at_bytes, uint64_t len_bytes)
{
	uint64_t end = at_bytes + len_bytes < at_bytes ? UINT64_MAX : at_bytes + len_bytes;
	uint64_t now_ns = clock_ns();
	struct token *tok;

	if (!__atomic_load_n(&lu->token_count, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&table_lock);
	list_for_each(tok, &tokens, node) {
		if (tok->lu != lu || tok->state != TOKEN_LIVE)
			continue;
		token_age(tok, now_ns);
		if (token_overlaps(tok, at_bytes, end))
			token_kill(tok, TOKEN_CANCELLED);
	}
	pthread_mutex_unlock(&table_lock);
}

/*
 * ---- a hand-over ----
 *
 *   token STATE LEFT-MS TIMEOUT-MS BYTES RANGES LBA+BLOCKS ...   STATE: enum token_state
 *
 * Who made it is forgotten: it counts to nobody's number then.
 */

static void token_write(const struct token *tok, uint64_t now_ns, FILE *to)
{
	uint64_t age_ns = MIN(now_ns - tok->used_ns, tok->timeout_ns);

	fprintf(to, "token %d %" PRIu64 " %" PRIu64 " ", tok->state,
		(tok->timeout_ns - age_ns) / 1000000, tok->timeout_ns / 1000000);
	text_hex_write(tok->bytes, COPY_TOKEN_BYTES, to);
	fprintf(to, " %" PRIu32, tok->range_count);
	for (uint32_t i = 0; i < tok->range_count; i++)
		fprintf(to, " %" PRIu64 "+%" PRIu32, tok->ranges[i].lba, tok->ranges[i].blocks);
	fputc('\n', to);
}

void token_live_write(const struct scsi_lu *lu, FILE *to)
{
	uint64_t now_ns = clock_ns();
	struct token *tok;

	pthread_mutex_lock(&table_lock);
	list_for_each(tok, &tokens, node) {
		token_age(tok, now_ns);
		if (tok->lu == lu)
			token_write(tok, now_ns, to);
	}
	pthread_mutex_unlock(&table_lock);
}

/* "RANGES LBA+BLOCKS ..." */
static bool token_read_ranges(struct token *tok, const char *line)
{
	int end = 0;

	if (sscanf(line, " %5" SCNu32 "%n", &tok->range_count, &end) != 1 || !end ||
	    tok->range_count > COPY_TOKEN_RANGES_MAX)
		return false;
	tok->ranges = calloc(tok->range_count + 1, sizeof(*tok->ranges));
	for (uint32_t i = 0; tok->ranges && i < tok->range_count; i++) {
		struct token_range *r = &tok->ranges[i];

		line += end;
		end = 0;
		if (sscanf(line, " %20" SCNu64 "+%10" SCNu32 "%n", &r->lba, &r->blocks, &end) !=
			    2 ||
		    !end || r->lba > UINT64_MAX / tok->block_bytes - r->blocks)
			return false;
		tok->size_bytes += (uint64_t)r->blocks * tok->block_bytes;
	}
	return tok->ranges && !line[end];
}

static bool token_read(struct token *tok, const char *line)
{
	uint64_t left_ms, timeout_ms;
	uint32_t state;
	int end = 0;

	if (sscanf(line, "token %1" SCNu32 " %10" SCNu64 " %10" SCNu64 " %n", &state, &left_ms,
		   &timeout_ms, &end) != 3 ||
	    !end || state > TOKEN_DELETED || left_ms > timeout_ms ||
	    timeout_ms > COPY_TOKEN_MAX_SECONDS * 1000ull)
		return false;
	tok->state = (enum token_state)state;
	tok->timeout_ns = timeout_ms * 1000000;
	tok->used_ns = clock_ns() - (timeout_ms - left_ms) * 1000000;
	line += end;
	return text_hex_read(&line, tok->bytes, COPY_TOKEN_BYTES) && token_read_ranges(tok, line) &&
	       (tok->state == TOKEN_LIVE || !tok->range_count);
}

const char *token_live_read(struct scsi_lu *lu, const char *line)
{
	struct token *tok = calloc(1, sizeof(*tok));
	const char *why = NULL;

	if (!tok)
		return "out of memory";
	tok->lu = lu;
	tok->wwn = lu->wwn;
	tok->block_bytes = lu->block_bytes;
	pthread_mutex_lock(&table_lock);
	if (!token_read(tok, line))
		why = "expected 'token STATE LEFT-MS TIMEOUT-MS BYTES RANGES LBA+BLOCKS ...'";
	else if (token_count >= TOKENS_MAX)
		why = "too many tokens";
	if (why) {
		free(tok->ranges);
		free(tok);
	} else {
		list_append(&tokens, &tok->node);
		token_count++;
		if (tok->state == TOKEN_LIVE)
			live_count(lu, 1);
	}
	pthread_mutex_unlock(&table_lock);
	return why;
}

/* ---- life ---- */

void token_nexus_gone(const struct scsi_nexus *nexus)
{
	struct token *tok;

	pthread_mutex_lock(&table_lock);
	list_for_each(tok, &tokens, node)
		if (tok->creator == nexus)
			tok->creator = NULL;
	pthread_mutex_unlock(&table_lock);
}

void scsi_copy_lu_gone(const struct scsi_lu *lu)
{
	struct token *tok, *next;

	pthread_mutex_lock(&table_lock);
	list_for_each_safe(tok, next, &tokens, node) {
		if (tok->lu != lu)
			continue;
		token_kill(tok, TOKEN_CANCELLED);
		tok->lu = NULL;
		if (!tok->users)
			token_free(tok);
	}
	pthread_mutex_unlock(&table_lock);
}
