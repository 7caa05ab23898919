/* Logical block provisioning: UNMAP and GET LBA STATUS (SBC-4, 4.7, 5.4, 5.32). */
#include <string.h>

#include "scsi/handlers.h"
#include "scsi/limits.h"
#include "scsi/sbc.h"

/* ---- UNMAP ---- */

#define UNMAP_ANCHOR	       0x01
#define UNMAP_HEADER_BYTES     8
#define UNMAP_DESCRIPTOR_BYTES 16

enum {
	VAR_IDX,
	VAR_COUNT
}; /* in t->vars: the descriptor that is next, and their number */

static const uint8_t *unmap_descriptor(const struct scsi_task *t, uint64_t idx)
{
	return t->buf + UNMAP_HEADER_BYTES + idx * UNMAP_DESCRIPTOR_BYTES;
}

/* Every range is checked before any is unmapped. false: the task ended. */
static bool unmap_ranges_ok(struct scsi_task *t, uint64_t count)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < count; i++) {
		const uint8_t *d = unmap_descriptor(t, i);

		if (!scsi_task_range(t, cdb_u64(d), cdb_u32(d + 8)))
			return false;
		sum += cdb_u32(d + 8);
		if (sum > SCSI_UNMAP_BLOCKS_MAX) {
			scsi_task_bad_list(t, (uint32_t)(d + 8 - t->buf), -1);
			return false;
		}
	}
	return true;
}

/*
 * What is promised of unmapped blocks decides how they are unmapped: where LBPRZ is set, pieces
 * that the back-end cannot deallocate must be written with zeroes.
 */
static void unmap_next(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);

	while (t->vars[VAR_IDX] < t->vars[VAR_COUNT]) {
		const uint8_t *d = unmap_descriptor(t, t->vars[VAR_IDX]++);

		t->lba = cdb_u64(d);
		t->blocks = cdb_u32(d + 8);
		if (!t->blocks)
			continue;
		if (scsi_lu_lbprz(lu))
			sbc_erase(t, BLK_WRITE_ZEROES, BLK_UNMAP, unmap_next);
		else
			sbc_erase(t, BLK_DISCARD, 0, unmap_next);
		return;
	}
	scsi_task_good(t);
}

void scsi_unmap(struct scsi_task *t)
{
	uint32_t len = cdb_u16(t->cdb + 7), descriptor_bytes;

	if (t->cdb[1] & UNMAP_ANCHOR) {
		scsi_task_bad_cdb(t, 1, 0); /* ANC_SUP is 0 */
		return;
	}
	if (!len) {
		scsi_task_good(t);
		return;
	}
	if (len < UNMAP_HEADER_BYTES) {
		scsi_task_check(t, SCSI_CAUSE_PARAM_LIST_LENGTH);
		return;
	}
	if (!scsi_task_list(t, len))
		return;
	descriptor_bytes = cdb_u16(t->buf + 2);
	if (cdb_u16(t->buf) + 2u > len || descriptor_bytes > len - UNMAP_HEADER_BYTES) {
		scsi_task_check(t, SCSI_CAUSE_PARAM_LIST_LENGTH);
		return;
	}
	t->vars[VAR_IDX] = 0;
	t->vars[VAR_COUNT] =
		descriptor_bytes / UNMAP_DESCRIPTOR_BYTES; /* a part of one is ignored */
	if (t->vars[VAR_COUNT] > SCSI_UNMAP_DESCRIPTORS_MAX) {
		scsi_task_bad_list(t, 2, -1);
		return;
	}
	if (unmap_ranges_ok(t, t->vars[VAR_COUNT]))
		unmap_next(t);
}

/* ---- GET LBA STATUS ---- */

#define STATUS_HEADER_BYTES	8
#define STATUS_DESCRIPTOR_BYTES 16
#define STATUS_DESCRIPTORS_MAX	256
#define STATUS_MAPPED		0 /* or unknown */
#define STATUS_DEALLOCATED	1

/* In t->buf, while a job thread fills it. */
struct status_query {
	struct job job;
	struct scsi_task *task;
	struct scsi_lu *lu;
	uint64_t at, end; /* blocks */
	uint32_t count, max;
	uint8_t reply[STATUS_HEADER_BYTES + STATUS_DESCRIPTORS_MAX * STATUS_DESCRIPTOR_BYTES];
};

/* Blocks [q->at, until) are like this; what does not fit a descriptor is left for the next one. */
static void status_add(struct status_query *q, uint64_t until, uint8_t status)
{
	uint8_t *d = q->reply + STATUS_HEADER_BYTES + q->count * STATUS_DESCRIPTOR_BYTES;
	uint64_t blocks = MIN(until - q->at, (uint64_t)UINT32_MAX);

	cdb_put64(d, q->at);
	cdb_put32(d + 8, (uint32_t)blocks);
	d[12] = status;
	q->count++;
	q->at += blocks;
}

/* What the node cannot tell counts as mapped. */
static void status_next(struct status_query *q)
{
	uint32_t shift = q->lu->block_shift;
	uint64_t end_bytes;
	bool mapped;

	if (blk_dev_map(q->lu->dev, q->at << shift, q->end << shift, &end_bytes, &mapped) < 0)
		status_add(q, q->end, STATUS_MAPPED);
	else
		status_add(q, end_bytes >> shift, mapped ? STATUS_MAPPED : STATUS_DEALLOCATED);
}

/* Thread: job */
static void status_job(struct job *job)
{
	struct status_query *q = container_of(job, struct status_query, job);

	while (q->at < q->end && q->count < q->max)
		status_next(q);
}

static void status_reply(struct job *job)
{
	struct status_query *q = container_of(job, struct status_query, job);
	struct scsi_task *t = q->task;
	size_t len = STATUS_HEADER_BYTES + q->count * STATUS_DESCRIPTOR_BYTES;

	cdb_put32(q->reply, (uint32_t)len - 4);
	scsi_task_reply(t, q->reply, len, cdb_u32(t->cdb + 10));
}

void scsi_get_lba_status(struct scsi_task *t)
{
	uint64_t lba = cdb_u64(t->cdb + 2);
	uint32_t room = cdb_u32(t->cdb + 10);
	struct status_query *q;

	if (t->cdb[14]) {
		scsi_task_bad_cdb(t, 14, -1); /* REPORT TYPE: only all of them */
		return;
	}
	if (!scsi_task_range(t, lba, 1) || !scsi_task_scratch(t, sizeof(*q)))
		return;
	q = (struct status_query *)t->buf;
	q->task = t;
	q->lu = task_lu(t);
	q->at = lba;
	q->end = scsi_lu_blocks(q->lu);
	/* At least one, as many as there is room for */
	room = MAX(room, (uint32_t)STATUS_HEADER_BYTES) - STATUS_HEADER_BYTES;
	q->max = MIN(MAX(room / STATUS_DESCRIPTOR_BYTES, 1u), (uint32_t)STATUS_DESCRIPTORS_MAX);
	q->job.fn = status_job;
	q->job.done = status_reply;
	if (q->lu->caps->discard && blk_dev_can_map(q->lu->dev)) {
		job_start(&q->job);
		return;
	}
	status_add(q, q->end, STATUS_MAPPED);
	status_reply(&q->job);
}
