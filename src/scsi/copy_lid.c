/*
 * List identifiers (SPC-5, 5.17.4.2): how a copy goes, what it left, and the commands that ask for
 * it. A nexus has its own identifiers for each of its units.
 *
 *   copy_lid_start -> running -> scsi_copy_ended -> kept -> (asked for, pushed out by a newer one,
 *                                                            or by its identifier's next use)
 *
 * A running one belongs to its task; what it says is changed under the lock by the task's loop. A
 * copy that failed before any unit was asked to do something leaves nothing: its sense data told
 * all. The number of both is limited for each nexus, so none can take another's room.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "scsi/copy_impl.h"
#include "scsi/handlers.h"

#define KEPT_MAX 64 /* of one nexus */

/* COPY OPERATION STATUS (SPC-5, table 249) */
#define OP_GOOD	      0x01
#define OP_FAILED     0x02
#define OP_PARTIAL    0x03
#define OP_RUNNING    0x11 /* in the foreground */
#define OP_TERMINATED 0x60

#define SA_POPULATE 0x10
#define SA_USE	    0x11

struct copy_lid {
	struct list node;		 /* lids, oldest first */
	const struct scsi_nexus *nexus;	 /* NULL: not there yet */
	const struct live_itl *expected; /* instead of nexus: a hand-over's */
	const struct scsi_lu *lu;
	uint32_t key; /* of the unit in the nexus' map */
	uint32_t list_id;
	uint8_t usage;
	bool running, keep, abort;
	bool status_told, details_told; /* LID1: told once, then gone */
	uint8_t sa;
	uint8_t op_status;
	uint8_t status, sense_len, sense[SCSI_SENSE_MAX];
	uint16_t segments, ops;
	uint8_t units;
	uint64_t count;
	uint8_t *token; /* NULL: none */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list lids = { &lids, &lids };

/* ---- the list (lock held) ---- */

static void lid_free(struct copy_lid *l)
{
	list_remove(&l->node);
	free(l->token);
	free(l);
}

static struct copy_lid *lid_find(const struct scsi_task *t, uint32_t list_id)
{
	uint32_t key = t->target << 16 | t->lun;
	struct copy_lid *l;

	list_for_each(l, &lids, node)
		if (l->usage != COPY_LIST_ID_NONE && l->list_id == list_id && l->key == key &&
		    l->nexus == t->queue->nexus)
			return l;
	return NULL;
}

/* Running ones; the oldest of the others goes when there are too many of them. */
static uint32_t lids_trim(const struct scsi_nexus *nexus)
{
	uint32_t running = 0, kept = 0;
	struct copy_lid *l, *oldest = NULL;

	list_for_each(l, &lids, node) {
		if (l->nexus != nexus)
			continue;
		running += l->running;
		kept += !l->running;
		if (!oldest && !l->running)
			oldest = l;
	}
	if (kept >= KEPT_MAX)
		lid_free(oldest);
	return running;
}

static struct copy_lid *lid_of(const struct scsi_task *t)
{
	return (struct copy_lid *)(uintptr_t)t->vars[COPY_VAR_LID];
}

/* ---- start ---- */

static struct copy_lid *lid_add(struct scsi_task *t, uint32_t list_id, uint8_t usage)
{
	struct copy_lid *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->nexus = t->queue->nexus;
	l->lu = task_lu(t);
	l->key = t->target << 16 | t->lun;
	l->list_id = list_id;
	l->usage = usage;
	l->running = true;
	l->sa = t->cdb[1] & 0x1f;
	l->op_status = OP_RUNNING;
	list_append(&lids, &l->node);
	t->vars[COPY_VAR_LID] = (uintptr_t)l;
	return l;
}

bool copy_lid_start(struct scsi_task *t, uint32_t list_id, uint8_t usage)
{
	struct copy_lid *old, *l = NULL;
	bool twice = false, busy = false;

	pthread_mutex_lock(&lock);
	old = usage == COPY_LIST_ID_NONE ? NULL : lid_find(t, list_id);
	if (old && old->running) {
		twice = true;
	} else {
		if (old)
			lid_free(old);
		busy = lids_trim(t->queue->nexus) >= COPY_CONCURRENT_MAX;
		if (!busy)
			l = lid_add(t, list_id, usage);
	}
	pthread_mutex_unlock(&lock);
	if (twice)
		scsi_task_check(t, SCSI_CAUSE_OPERATION_IN_PROGRESS);
	else if (busy)
		scsi_task_end_status(t, SCSI_BUSY);
	else if (!l)
		scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
	return l;
}

/* ---- while it runs (Thread: the copy's loop) ---- */

void copy_lid_segment(struct scsi_task *t)
{
	pthread_mutex_lock(&lock);
	lid_of(t)->segments++;
	pthread_mutex_unlock(&lock);
}

void copy_lid_wrote(struct scsi_task *t, uint64_t count, uint8_t units)
{
	pthread_mutex_lock(&lock);
	lid_of(t)->count = count;
	lid_of(t)->units = units;
	pthread_mutex_unlock(&lock);
}

void copy_lid_keep(struct scsi_task *t)
{
	pthread_mutex_lock(&lock);
	lid_of(t)->keep = true;
	lid_of(t)->ops++;
	pthread_mutex_unlock(&lock);
}

void copy_lid_token(struct scsi_task *t, const uint8_t token[COPY_TOKEN_BYTES])
{
	uint8_t *copy = malloc(COPY_TOKEN_BYTES);

	if (copy)
		memcpy(copy, token, COPY_TOKEN_BYTES);
	pthread_mutex_lock(&lock);
	lid_of(t)->token = copy;
	pthread_mutex_unlock(&lock);
}

bool copy_lid_aborted(struct scsi_task *t)
{
	bool abort;

	pthread_mutex_lock(&lock);
	abort = lid_of(t)->abort;
	pthread_mutex_unlock(&lock);
	return abort;
}

/* ---- the end ---- */

static void lid_settle(struct copy_lid *l, const struct scsi_task *t)
{
	bool partial = l->sa == SA_USE && l->count;

	l->running = false;
	if (t->end != SCSI_END_COMPLETE || t->status == SCSI_TASK_ABORTED) {
		l->op_status = OP_TERMINATED;
		l->status = SCSI_TASK_ABORTED;
		return;
	}
	l->status = t->status;
	l->sense_len = t->sense_len;
	memcpy(l->sense, t->sense, t->sense_len);
	if (l->status == SCSI_GOOD)
		l->op_status = OP_GOOD;
	else
		l->op_status = partial ? OP_PARTIAL : OP_FAILED;
}

void scsi_copy_ended(struct scsi_task *t)
{
	struct copy_lid *l = lid_of(t);

	if (t->vars[COPY_VAR_TOKEN])
		token_put((struct token *)(uintptr_t)t->vars[COPY_VAR_TOKEN]);
	t->vars[COPY_VAR_LID] = t->vars[COPY_VAR_TOKEN] = 0;
	if (!l)
		return;
	pthread_mutex_lock(&lock);
	lid_settle(l, t);
	if (!l->keep || l->usage == COPY_LIST_ID_NONE ||
	    (l->usage == COPY_LIST_ID_DISCARD && l->op_status == OP_GOOD))
		lid_free(l);
	pthread_mutex_unlock(&lock);
}

void scsi_copy_nexus_gone(const struct scsi_nexus *nexus)
{
	struct copy_lid *l, *next;

	pthread_mutex_lock(&lock);
	list_for_each_safe(l, next, &lids, node) {
		if (l->nexus != nexus)
			continue;
		ASSERT(!l->running);
		lid_free(l);
	}
	pthread_mutex_unlock(&lock);
	token_nexus_gone(nexus);
}

void scsi_copy_lu_reset(const struct scsi_lu *lu)
{
	struct copy_lid *l, *next;

	pthread_mutex_lock(&lock);
	list_for_each_safe(l, next, &lids, node)
		if (l->lu == lu && !l->running)
			lid_free(l);
	pthread_mutex_unlock(&lock);
}

/*
 * ---- a hand-over ----
 *
 *   copy LIST-ID USAGE SA OPERATION-STATUS STATUS SEGMENTS OPERATIONS UNITS COUNT TOLD SENSE TOKEN
 *
 * TOLD: 1 status, 2 details; SENSE and TOKEN: hexadecimal, - for none.
 */

static void lid_write(const struct copy_lid *l, FILE *to)
{
	fprintf(to, "copy %" PRIu32 " %u %u %u %u %u %u %u %" PRIu64 " %d ", l->list_id, l->usage,
		l->sa, l->op_status, l->status, l->segments, l->ops, l->units, l->count,
		l->status_told | l->details_told << 1);
	if (l->sense_len)
		text_hex_write(l->sense, l->sense_len, to);
	else
		fputc('-', to);
	fputc(' ', to);
	if (l->token)
		text_hex_write(l->token, COPY_TOKEN_BYTES, to);
	else
		fputc('-', to);
	fputc('\n', to);
}

void copy_lid_live_write(const struct scsi_itl *itl, FILE *to)
{
	uint32_t key = itl->target << 16 | itl->lun;
	const struct copy_lid *l;

	pthread_mutex_lock(&lock);
	list_for_each(l, &lids, node)
		if (l->nexus == itl->nexus && l->lu == itl->lu && l->key == key && !l->running)
			lid_write(l, to);
	pthread_mutex_unlock(&lock);
}

/* Sense data and token, into l. */
static bool lid_read_bytes(struct copy_lid *l, const char *line)
{
	const char *space = strchr(line, ' ');
	size_t digits = space ? (size_t)(space - line) : 0;

	if (*line == '-') {
		line++;
	} else {
		if (digits % 2 || !digits || digits / 2 > sizeof(l->sense))
			return false;
		l->sense_len = (uint8_t)(digits / 2);
		if (!text_hex_read(&line, l->sense, l->sense_len))
			return false;
	}
	if (*line++ != ' ')
		return false;
	if (!strcmp(line, "-"))
		return true;
	l->token = malloc(COPY_TOKEN_BYTES);
	return l->token && text_hex_read(&line, l->token, COPY_TOKEN_BYTES) && !*line;
}

static bool lid_read(struct copy_lid *l, const char *line)
{
	uint32_t told;
	int end = 0;

	if (sscanf(line,
		   "copy %10" SCNu32 " %3" SCNu8 " %3" SCNu8 " %3" SCNu8 " %3" SCNu8 " %5" SCNu16
		   " %5" SCNu16 " %3" SCNu8 " %20" SCNu64 " %1" SCNu32 " %n",
		   &l->list_id, &l->usage, &l->sa, &l->op_status, &l->status, &l->segments, &l->ops,
		   &l->units, &l->count, &told, &end) != 10 ||
	    !end || told > 3)
		return false;
	l->status_told = told & 1;
	l->details_told = told & 2;
	return lid_read_bytes(l, line + end);
}

const char *copy_lid_live_read(const struct scsi_lu *lu, const struct live_itl *expected,
			       uint32_t key, const char *line)
{
	struct copy_lid *l = calloc(1, sizeof(*l)), *other;
	uint32_t count = 0;

	if (!l)
		return "out of memory";
	list_init(&l->node);
	if (!lid_read(l, line)) {
		lid_free(l);
		return "expected 'copy LIST-ID USAGE SA ... SENSE TOKEN'";
	}
	l->lu = lu;
	l->key = key;
	l->expected = expected;
	l->keep = true;
	pthread_mutex_lock(&lock);
	list_for_each(other, &lids, node)
		count += other->expected == expected;
	if (count < KEPT_MAX)
		list_append(&lids, &l->node);
	else
		lid_free(l);
	pthread_mutex_unlock(&lock);
	return count < KEPT_MAX ? NULL : "too many results";
}

void copy_lid_live_take(const struct live_itl *expected, const struct scsi_nexus *nexus)
{
	struct copy_lid *l;

	pthread_mutex_lock(&lock);
	list_for_each(l, &lids, node) {
		if (l->expected != expected)
			continue;
		l->nexus = nexus;
		l->expected = NULL;
	}
	pthread_mutex_unlock(&lock);
}

void copy_lid_live_drop(const struct live_itl *expected)
{
	struct copy_lid *l, *next;

	pthread_mutex_lock(&lock);
	list_for_each_safe(l, next, &lids, node)
		if (l->expected == expected)
			lid_free(l);
	pthread_mutex_unlock(&lock);
}

/* ---- COPY OPERATION ABORT (SPC-5, 6.3) ---- */

void scsi_copy_abort(struct scsi_task *t)
{
	struct copy_lid *l;
	bool found;

	pthread_mutex_lock(&lock);
	l = lid_find(t, cdb_u32(t->cdb + 2));
	found = l && l->running;
	if (found)
		l->abort = true;
	pthread_mutex_unlock(&lock);
	if (found)
		scsi_task_good(t);
	else
		scsi_task_bad_cdb(t, 2, -1);
}

/* ---- RECEIVE COPY RESULTS ---- */

#define REPLY_MAX (32 + SCSI_SENSE_MAX + 4 + 2 + COPY_TOKEN_BYTES)

/* The shared third-party copy status header (SPC-5, 6.24). AVAILABLE DATA is filled in last. */
static size_t reply_header(const struct copy_lid *l, uint8_t *b)
{
	size_t sense_area = num_round_up(l->sense_len, 4);

	b[4] = l->sa;
	b[5] = l->op_status;
	cdb_put16(b + 6, l->ops);
	cdb_put32(b + 8, l->running ? 1000 : 0xfffffffe);
	b[12] = l->running ? 0 : l->status;
	b[13] = (uint8_t)sense_area;
	b[14] = l->sense_len;
	b[15] = l->units;
	cdb_put64(b + 16, l->count);
	cdb_put16(b + 24, l->segments);
	memcpy(b + 32, l->sense, l->sense_len);
	return 32 + sense_area;
}

static size_t reply_status_lid4(struct copy_lid *l, uint8_t *b)
{
	return reply_header(l, b);
}

/* HELD DATA LENGTH is 0: no segment type here holds data. */
static size_t reply_data_lid4(struct copy_lid *l, uint8_t *b)
{
	return reply_header(l, b) + 4;
}

static size_t reply_data_lid1(struct copy_lid *l, uint8_t *b)
{
	return 4;
}

/* SPC-5, table 253: 32 bits of TRANSFER COUNT */
static size_t reply_status_lid1(struct copy_lid *l, uint8_t *b)
{
	uint64_t count = l->count;

	if (l->status_told)
		return 0;
	l->status_told = !l->running;
	if (!l->running)
		b[4] = l->op_status == OP_GOOD ? 0x01 : 0x02;
	cdb_put16(b + 5, l->segments);
	b[7] = l->units;
	if (count > UINT32_MAX && l->units == COPY_UNITS_BYTES) {
		b[7] = 0x01; /* kibibytes */
		count >>= 10;
	}
	cdb_put32(b + 8, (uint32_t)MIN(count, (uint64_t)UINT32_MAX));
	return 12;
}

/* SPC-5, table 246 */
static size_t reply_failure_lid1(struct copy_lid *l, uint8_t *b)
{
	if (l->details_told || l->op_status != OP_FAILED)
		return 4;
	l->details_told = true;
	b[56] = l->status;
	cdb_put16(b + 58, l->sense_len);
	memcpy(b + 60, l->sense, l->sense_len);
	return 60u + l->sense_len;
}

/* SBC-4, 5.25: SEGMENTS PROCESSED is 0, a length and the token follow the sense data. */
static size_t reply_token(struct copy_lid *l, uint8_t *b)
{
	size_t at = reply_header(l, b);
	bool has = l->sa == SA_POPULATE && l->token && l->op_status == OP_GOOD;

	if (!has)
		return at + 4;
	cdb_put32(b + at, 2 + COPY_TOKEN_BYTES);
	memcpy(b + at + 6, l->token, COPY_TOKEN_BYTES);
	return at + 6 + COPY_TOKEN_BYTES;
}

struct receive_row {
	uint8_t sa;
	uint8_t id_bytes; /* of LIST IDENTIFIER, from byte 2 */
	bool ended;	  /* refused while the copy runs */
	/* Lock held. b: REPLY_MAX zeroes. 0: there is nothing (any more). */
	size_t (*reply)(struct copy_lid *l, uint8_t *b);
};

static const struct receive_row receive_rows[] = {
	{ 0x00, 1, false, reply_status_lid1 }, { 0x01, 1, true, reply_data_lid1 },
	{ 0x04, 1, true, reply_failure_lid1 }, { 0x05, 4, false, reply_status_lid4 },
	{ 0x06, 4, false, reply_data_lid4 },   { 0x07, 4, false, reply_token },
};

static const struct receive_row *receive_find(uint8_t sa)
{
	for (size_t i = 0; i < ARRAY_SIZE(receive_rows); i++)
		if (receive_rows[i].sa == sa)
			return &receive_rows[i];
	return NULL;
}

/* A token is told once, whole (SPC-5, 6.26); the other results stay. */
static void reply_told(struct copy_lid *l, const struct scsi_task *t, size_t len)
{
	if ((t->cdb[1] & 0x1f) != 0x07 || cdb_u32(t->cdb + 10) < len || t->in->left_bytes < len)
		return;
	free(l->token);
	l->token = NULL;
}

static void receive_listed(struct scsi_task *t, const struct receive_row *row)
{
	uint32_t id = row->id_bytes == 4 ? cdb_u32(t->cdb + 2) : t->cdb[2];
	uint8_t b[REPLY_MAX] = { 0 };
	struct copy_lid *l;
	size_t len = 0;

	pthread_mutex_lock(&lock);
	l = lid_find(t, id);
	if (l && !(row->ended && l->running))
		len = row->reply(l, b);
	if (len)
		reply_told(l, t, len);
	pthread_mutex_unlock(&lock);
	if (!len) {
		scsi_task_bad_cdb(t, 2, -1);
		return;
	}
	cdb_put32(b, (uint32_t)len - 4);
	scsi_task_reply(t, b, len, cdb_u32(t->cdb + 10));
}

/* RECEIVE COPY OPERATING PARAMETERS (SPC-5, 6.22) */
static void receive_parameters(struct scsi_task *t)
{
	static const uint8_t types[] = COPY_DESCRIPTOR_TYPES;
	uint8_t b[44 + sizeof(types)] = { 0 };

	cdb_put32(b, sizeof(b) - 4);
	b[4] = 0x01; /* SNLID */
	cdb_put16(b + 8, COPY_CSCDS_MAX);
	cdb_put16(b + 10, COPY_SEGMENTS_MAX);
	cdb_put32(b + 12, COPY_DESCRIPTORS_MAX_BYTES);
	cdb_put32(b + 16, COPY_SEGMENT_MAX_BYTES);
	cdb_put32(b + 20, COPY_INLINE_MAX_BYTES);
	cdb_put16(b + 34, COPY_CONCURRENT_MAX);
	b[36] = COPY_IDENTIFIED_MAX;
	b[37] = b[38] = b[39] = COPY_GRANULARITY_LOG2;
	b[43] = sizeof(types);
	memcpy(b + 44, types, sizeof(types));
	scsi_task_reply(t, b, sizeof(b), cdb_u32(t->cdb + 10));
}

void scsi_receive_copy(struct scsi_task *t)
{
	const struct receive_row *row = receive_find(t->cdb[1] & 0x1f);

	if (row)
		receive_listed(t, row);
	else
		receive_parameters(t);
}

void scsi_receive_rod_token(struct scsi_task *t)
{
	scsi_receive_copy(t);
}
