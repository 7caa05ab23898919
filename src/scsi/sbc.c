/* Capacity and cache (SBC-4, 5.8, 5.18 to 5.21, 5.27), and what sbc.h declares. */
#include "scsi/sbc.h"

#include <stdlib.h>
#include <string.h>

#include "base/iov.h"
#include "scsi/background.h"
#include "scsi/handlers.h"
#include "scsi/limits.h"

#define COMPARE_BYTES	4096u
#define ERASE_MAX_BYTES (1ull << 30) /* so that an abort does not wait for terabytes */
#define FLUSHES_MAX	16	     /* of a unit, after their answers */

#define CDB_IMMED 0x02 /* byte 1 of SYNCHRONIZE CACHE and PRE-FETCH */
#define CDB_PMI	  0x01

bool sbc_protect_ok(struct scsi_task *t)
{
	if (!(t->cdb[1] & SCSI_RW_PROTECT))
		return true;
	scsi_task_bad_cdb(t, 1, 7);
	return false;
}

/* ---- comparing ---- */

size_t sbc_first_difference(const uint8_t *a, const uint8_t *b, size_t len)
{
	size_t i = 0;

	while (i < len && a[i] == b[i])
		i++;
	return i;
}

/* Through a private copy: the memory is the initiator's, and may change meanwhile. */
bool sbc_out_equal(struct scsi_task *t, const uint8_t *with, size_t len, size_t *ret_off)
{
	uint8_t part[COMPARE_BYTES];
	size_t done = 0;

	while (done < len) {
		size_t n = MIN(len - done, sizeof(part));

		if (!iov_cur_read(t->out, part, n))
			UNREACHABLE(); /* the caller looked */
		t->out_bytes += n;
		if (memcmp(part, with + done, n)) {
			*ret_off = done + sbc_first_difference(part, with + done, n);
			return false;
		}
		done += n;
	}
	return true;
}

/* ---- erasing ---- */

struct erase {
	uint8_t op, flags;
	void (*done)(struct scsi_task *t);
};

static struct erase *erase_of(struct scsi_task *t)
{
	_Static_assert(sizeof(struct erase) <= 2 * sizeof(t->vars[0]), "vars");
	return (struct erase *)&t->vars[6];
}

uint64_t sbc_erase_step_bytes(const struct scsi_lu *lu, enum blk_op op)
{
	uint64_t max = op == BLK_DISCARD	? lu->caps->max_discard_bytes
		       : op == BLK_WRITE_ZEROES ? lu->caps->max_zeroes_bytes
						: 0;

	max = max ? MIN(max, ERASE_MAX_BYTES) : ERASE_MAX_BYTES;
	return MAX(num_round_down(max, lu->block_bytes), (uint64_t)lu->block_bytes);
}

bool sbc_step_ended(struct scsi_task *t, enum blk_status status)
{
	uint64_t n = t->blk.len_bytes >> task_lu(t)->block_shift;

	if (status != BLK_ST_OK) {
		scsi_task_blk_failed(t, status, t->lba);
		return false;
	}
	t->lba += n;
	t->blocks -= n;
	return true;
}

static void erase_step(struct scsi_task *t);

static void erase_done(struct scsi_task *t, enum blk_status status)
{
	if (sbc_step_ended(t, status))
		erase_step(t);
}

static void erase_step(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	struct erase *e = erase_of(t);
	uint64_t bytes;

	if (!t->blocks) {
		e->done(t);
		return;
	}
	bytes = MIN(t->blocks << lu->block_shift, sbc_erase_step_bytes(lu, (enum blk_op)e->op));
	scsi_task_io(t, NULL, (enum blk_op)e->op, e->flags, t->lba << lu->block_shift, bytes, NULL,
		     0, erase_done);
}

void sbc_erase(struct scsi_task *t, enum blk_op op, uint8_t flags,
	       void (*done)(struct scsi_task *t))
{
	*erase_of(t) = (struct erase){ .op = (uint8_t)op, .flags = flags, .done = done };
	erase_step(t);
}

/* ---- capacity ---- */

/*
 * PMI asks for the last block before a substantial delay: here that is the last one. Without it an
 * address is an error. Both are obsolete in SBC-4, and this is what SBC-2 (5.10.1) says of them.
 */
static bool capacity_cdb_ok(struct scsi_task *t, uint64_t lba, bool pmi, uint64_t *ret_last)
{
	uint64_t blocks = scsi_lu_blocks(task_lu(t));

	*ret_last = blocks ? blocks - 1 : 0;
	if (!pmi && lba)
		scsi_task_bad_cdb(t, 2, -1);
	else if (pmi && lba > *ret_last)
		scsi_task_check_info(t, SCSI_CAUSE_LBA_OUT_OF_RANGE, lba);
	else
		return true;
	return false;
}

void scsi_read_capacity_10(struct scsi_task *t)
{
	uint8_t reply[8];
	uint64_t last;

	if (!capacity_cdb_ok(t, cdb_u32(t->cdb + 2), t->cdb[8] & CDB_PMI, &last))
		return;
	/* all ones: too large for this form */
	cdb_put32(reply, (uint32_t)MIN(last, (uint64_t)UINT32_MAX));
	cdb_put32(reply + 4, task_lu(t)->block_bytes);
	scsi_task_reply(t, reply, sizeof(reply), sizeof(reply));
}

void scsi_read_capacity_16(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	uint8_t reply[32] = { 0 };
	uint64_t last;

	if (!capacity_cdb_ok(t, cdb_u64(t->cdb + 2), t->cdb[14] & CDB_PMI, &last))
		return;
	cdb_put64(reply, last);
	cdb_put32(reply + 8, lu->block_bytes);
	if (lu->pi_type)
		reply[12] = (uint8_t)((lu->pi_type - 1) << 1 | 1); /* P_TYPE, PROT_EN */
	/* LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT, of four bits */
	reply[13] = (uint8_t)MIN(__builtin_ctz(lu->phys_bytes) - (int)lu->block_shift, 15);
	/* LBPME, LBPRZ; the LOWEST ALIGNED LOGICAL BLOCK ADDRESS is 0 */
	if (lu->caps->discard)
		reply[14] = (uint8_t)(0x80 | (scsi_lu_lbprz(lu) ? 0x40 : 0));
	scsi_task_reply(t, reply, sizeof(reply), cdb_u32(t->cdb + 10));
}

/* ---- cache ---- */

static void flush_done(struct scsi_task *t, enum blk_status status)
{
	if (status == BLK_ST_OK)
		scsi_task_good(t);
	else
		scsi_task_blk_failed(t, status, t->lba);
}

/* An error after the answer has nobody to be told to; the next flush fails as well. */
static void flush_background_done(struct scsi_background *b, enum blk_status status)
{
	scsi_background_end(b);
	free(b);
}

/* How many may go on is limited: then, and without memory, the answer waits after all. */
static bool flush_may_go_on(struct scsi_lu *lu)
{
	bool may;

	pthread_mutex_lock(&lu->lock);
	may = lu->background_count < FLUSHES_MAX;
	pthread_mutex_unlock(&lu->lock);
	return may;
}

static void flush_immediate(struct scsi_task *t)
{
	struct scsi_background *b = NULL;

	if (flush_may_go_on(task_lu(t)))
		b = calloc(1, sizeof(*b));
	if (!b || !scsi_background_start(b, t)) {
		free(b);
		scsi_task_io(t, NULL, BLK_FLUSH, 0, 0, 0, NULL, 0, flush_done);
		return;
	}
	scsi_background_io(b, BLK_FLUSH, 0, 0, NULL, 0, flush_background_done);
	scsi_task_good(t);
}

/* More than was asked for may be synchronized (SBC-4, 5.27): everything is. */
void scsi_sync_cache(struct scsi_task *t)
{
	cdb_lba_get(t->cdb, t->row->len_bytes, &t->lba, &t->blocks);
	if (!scsi_task_range(t, t->lba, t->blocks))
		return;
	if (t->cdb[1] & CDB_IMMED)
		flush_immediate(t);
	else
		scsi_task_io(t, NULL, BLK_FLUSH, 0, 0, 0, NULL, 0, flush_done);
}

/*
 * There is no cache of ours to fetch into. CONDITION MET would say that all the blocks are in it
 * (SBC-4, 5.8); GOOD says that they are not, and that nothing is wrong.
 */
void scsi_pre_fetch(struct scsi_task *t)
{
	cdb_lba_get(t->cdb, t->row->len_bytes, &t->lba, &t->blocks);
	if (scsi_task_range(t, t->lba, t->blocks))
		scsi_task_good(t);
}
