/* For the tests of the block commands: CDBs by opcode, started on the loop as a transport would. */
#ifndef SCSI_SBC_RIG_H
#define SCSI_SBC_RIG_H

#include "blk/backend/sim.h"
#include "scsi/scsi_rig.h"

#define SIM_BLOCKS 2048 /* of the sim back-end with its defaults: 1 MiB */

struct sbc_starter {
	struct loop_work work;
	struct rig *rig;
	const uint8_t *cdb;
	size_t cdb_len;
	const void *out;
	size_t out_len, in_len;
	struct rig_task *rt;
};

static inline void sbc_starter_run(struct loop_work *work)
{
	struct sbc_starter *s = container_of(work, struct sbc_starter, work);

	s->rt = rig_start(s->rig, s->cdb, s->cdb_len, s->out, s->out_len, s->in_len);
}

/* rig_start, on the loop: for commands that need to know it. */
static inline struct rig_task *sbc_start_cdb(struct rig *rig, const uint8_t *cdb, size_t cdb_len,
					     const void *out, size_t out_len, size_t in_len)
{
	struct sbc_starter s = { .work.fn = sbc_starter_run,
				 .rig = rig,
				 .cdb = cdb,
				 .cdb_len = cdb_len,
				 .out = out,
				 .out_len = out_len,
				 .in_len = in_len };

	loop_defer(rig->loop, &s.work);
	while (!s.rt)
		rig_turn(rig);
	return s.rt;
}

/* Opcode, byte 1, LBA and length in the places that the opcode's group has for them. */
static inline size_t sbc_cdb_make(uint8_t cdb[16], uint8_t opcode, uint8_t byte1, uint64_t lba,
				  uint32_t blocks)
{
	memset(cdb, 0, 16);
	cdb[0] = opcode;
	cdb[1] = byte1;
	if (opcode < 0x80) {
		cdb_put32(cdb + 2, (uint32_t)lba);
		cdb_put16(cdb + 7, (uint16_t)blocks);
		return 10;
	}
	if (opcode >= 0xa0) {
		cdb_put32(cdb + 2, (uint32_t)lba);
		cdb_put32(cdb + 6, blocks);
		return 12;
	}
	cdb_put64(cdb + 2, lba);
	if (opcode == 0x89) /* COMPARE AND WRITE */
		cdb[13] = (uint8_t)blocks;
	else
		cdb_put32(cdb + 10, blocks);
	return 16;
}

static inline struct rig_task *sbc_start(struct rig *rig, uint8_t opcode, uint8_t byte1,
					 uint64_t lba, uint32_t blocks, const void *out,
					 size_t out_len)
{
	uint8_t cdb[16];
	size_t len = sbc_cdb_make(cdb, opcode, byte1, lba, blocks);

	return sbc_start_cdb(rig, cdb, len, out, out_len, 0);
}

/* To its end, which may be another than COMPLETE; the status. */
static inline uint8_t sbc_run(struct rig *rig, uint8_t opcode, uint8_t byte1, uint64_t lba,
			      uint32_t blocks, const void *out, size_t out_len)
{
	rig_finish(rig, sbc_start(rig, opcode, byte1, lba, blocks, out, out_len));
	return rig->task.status;
}

#define sbc_assert_good(rig, ...)                                                                  \
	do {                                                                                       \
		assert_int_equal(sbc_run(rig, __VA_ARGS__), SCSI_GOOD);                            \
		assert_int_equal((rig)->task.end, SCSI_END_COMPLETE);                              \
	} while (0)

/* INFORMATION of the last sense data, in fixed format; it is valid. */
static inline uint32_t sbc_information(const struct rig *rig)
{
	assert_true(rig->task.sense[0] & 0x80);
	return cdb_u32(rig->task.sense + 3);
}

static inline uint8_t *sbc_memory(struct rig *rig)
{
	return blk_sim_memory(rig->dev[0]);
}

/* A pattern that differs from block to block. */
static inline void sbc_fill(uint8_t *buf, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(i * 7 + i / 251 + seed);
}

static inline bool sbc_all(const uint8_t *buf, size_t len, uint8_t value)
{
	for (size_t i = 0; i < len; i++)
		if (buf[i] != value)
			return false;
	return true;
}

/* How many requests of an operation the node has seen end. */
static inline uint64_t sbc_ops(struct rig *rig, enum blk_op op)
{
	struct blk_stats stats;

	blk_dev_stats(rig->dev[0], &stats);
	return stats.ops[op];
}

static inline struct rig *sbc_rig_new(const char *type, const char *params)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig_open(rig, type, params);
	return rig;
}

static inline void sbc_rig_free(struct rig *rig)
{
	rig_close(rig);
	free(rig);
}

static inline int sbc_setup(void **state)
{
	*state = sbc_rig_new("sim", NULL);
	return 0;
}

static inline int sbc_teardown(void **state)
{
	sbc_rig_free(*state);
	return 0;
}

#define sbc_test(f) cmocka_unit_test_setup_teardown(f, sbc_setup, sbc_teardown)

#endif
