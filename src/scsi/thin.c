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

void scsi_get_lba_status(struct scsi_task *t)
{
	uint8_t reply[STATUS_HEADER_BYTES + STATUS_DESCRIPTOR_BYTES] = { 0 };
	uint64_t lba = cdb_u64(t->cdb + 2), rest;

	if (t->cdb[14]) {
		scsi_task_bad_cdb(t, 14, -1); /* REPORT TYPE: only all of them */
		return;
	}
	if (!scsi_task_range(t, lba, 1))
		return;
	rest = scsi_lu_blocks(task_lu(t)) - lba;
	cdb_put32(reply, sizeof(reply) - 4);
	cdb_put64(reply + 8, lba);
	cdb_put32(reply + 16, (uint32_t)MIN(rest, (uint64_t)UINT32_MAX));
	scsi_task_reply(t, reply, sizeof(reply), cdb_u32(t->cdb + 10));
}
