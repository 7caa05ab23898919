/* Parameter lists of EXTENDED COPY for unit tests. */
#ifndef SCSI_COPY_RIG_H
#define SCSI_COPY_RIG_H

#include "blk/backend/sim.h"
#include "scsi/copy_impl.h"
#include "scsi/scsi_rig.h"

struct copy_list {
	uint8_t bytes[8192];
	size_t len, header;
	bool lid4;
};

static inline void copy_list_init(struct copy_list *l, bool lid4, uint32_t id, uint8_t usage)
{
	memset(l, 0, sizeof(*l));
	l->lid4 = lid4;
	l->header = l->len = lid4 ? 48 : 16;
	l->bytes[1] = (uint8_t)(usage << 3);
	if (!lid4) {
		l->bytes[0] = (uint8_t)id;
		return;
	}
	l->bytes[0] = 1;
	l->bytes[3] = 0x20;
	l->bytes[16] = 0xff;
	cdb_put32(l->bytes + 20, id);
}

/* One more CSCD descriptor: the NAA designator of a unit. Its place, to be spoilt. */
static inline uint8_t *copy_list_cscd(struct copy_list *l, uint64_t wwn)
{
	uint8_t *p = l->bytes + l->len;

	l->len += 32;
	p[0] = 0xe4;
	p[4] = 1;
	p[5] = 3;
	p[7] = 8;
	cdb_put64(p + 8, wwn);
	if (l->lid4)
		cdb_put16(l->bytes + 42, (uint16_t)(cdb_u16(l->bytes + 42) + 32));
	else
		cdb_put16(l->bytes + 2, (uint16_t)(cdb_u16(l->bytes + 2) + 32));
	return p;
}

static inline uint8_t *copy_list_more(struct copy_list *l, size_t len)
{
	uint8_t *p = l->bytes + l->len;

	l->len += len;
	if (l->lid4)
		cdb_put16(l->bytes + 44, (uint16_t)(cdb_u16(l->bytes + 44) + len));
	else
		cdb_put32(l->bytes + 8, cdb_u32(l->bytes + 8) + (uint32_t)len);
	return p;
}

/* Type 02h: blocks. After the last CSCD descriptor. */
static inline uint8_t *copy_list_blocks(struct copy_list *l, uint16_t src, uint16_t dst,
					uint16_t blocks, uint64_t src_lba, uint64_t dst_lba)
{
	uint8_t *p = copy_list_more(l, 28);

	p[0] = 0x02;
	p[3] = 0x18;
	cdb_put16(p + 4, src);
	cdb_put16(p + 6, dst);
	cdb_put16(p + 10, blocks);
	cdb_put64(p + 12, src_lba);
	cdb_put64(p + 20, dst_lba);
	return p;
}

/* Type 0Ah: bytes, counted from the start of the units. */
static inline uint8_t *copy_list_range(struct copy_list *l, uint16_t src, uint16_t dst,
				       uint32_t len, uint64_t src_at, uint64_t dst_at)
{
	uint8_t *p = copy_list_more(l, 32);

	p[0] = 0x0a;
	p[3] = 0x1c;
	cdb_put16(p + 4, src);
	cdb_put16(p + 6, dst);
	cdb_put32(p + 8, len);
	cdb_put64(p + 12, src_at / 512);
	cdb_put64(p + 20, dst_at / 512);
	cdb_put16(p + 28, src_at % 512);
	cdb_put16(p + 30, dst_at % 512);
	return p;
}

static inline struct rig_task *copy_list_start(struct rig *rig, const struct copy_list *l)
{
	uint8_t cdb[16] = { 0x83, l->lid4 };

	cdb_put32(cdb + 10, (uint32_t)l->len);
	return rig_start(rig, cdb, 16, l->bytes, l->len, 0);
}

static inline uint8_t copy_list_run(struct rig *rig, const struct copy_list *l)
{
	rig_finish(rig, copy_list_start(rig, l));
	assert_int_equal(rig->task.end, SCSI_END_COMPLETE);
	return rig->task.status;
}

/* RECEIVE COPY RESULTS: service action, identifier. */
static inline uint8_t copy_receive(struct rig *rig, uint8_t sa, uint32_t id)
{
	uint8_t cdb[16] = { 0x84, sa };

	if (sa < 5)
		cdb[2] = (uint8_t)id;
	else
		cdb_put32(cdb + 2, id);
	cdb_put32(cdb + 10, 1024);
	return rig_run(rig, cdb, 16, NULL, 0, 1024);
}

/* No byte like its neighbours, no two units alike. */
static inline void copy_pattern(struct rig *rig, uint32_t i)
{
	uint8_t *mem = blk_sim_memory(rig->dev[i]);
	uint32_t x = 0x9e3779b9u * (i + 1);

	for (size_t n = 0; n < blk_dev_caps(rig->dev[i])->size_bytes; n++) {
		x = x * 1664525u + 1013904223u;
		mem[n] = (uint8_t)(x >> 24);
	}
}

/* ---- units, and what was in them ---- */

static uint8_t *before[RIG_LUS];

static inline uint8_t *mem(struct rig *rig, uint32_t i)
{
	return blk_sim_memory(rig->dev[i]);
}

static inline size_t mem_bytes(struct rig *rig, uint32_t i)
{
	return blk_dev_caps(rig->dev[i])->size_bytes;
}

static inline void patterns(struct rig *rig)
{
	for (uint32_t i = 0; i < rig->lu_count; i++) {
		copy_pattern(rig, i);
		free(before[i]);
		before[i] = malloc(mem_bytes(rig, i));
		memcpy(before[i], mem(rig, i), mem_bytes(rig, i));
	}
}

/* Everything is as it was, but for len bytes of a unit. */
static inline void assert_changed(struct rig *rig, uint32_t dst, size_t dst_at, const void *from,
				  size_t len)
{
	memmove(before[dst] + dst_at, from, len);
	for (uint32_t i = 0; i < rig->lu_count; i++)
		assert_memory_equal(mem(rig, i), before[i], mem_bytes(rig, i));
}

/* Two sim units, full of patterns, and two nexuses. */
static inline int setup_units(void **state, const char *first, const char *second)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	rig_init(rig);
	rig_lu_add(rig, "sim", first);
	rig_lu_add(rig, "sim", second);
	rig_nexus_add(rig, "iqn.2026-01.test:a");
	rig_nexus_add(rig, "iqn.2026-01.test:b");
	patterns(rig);
	*state = rig;
	return 0;
}

static inline int teardown(void **state)
{
	rig_close(*state);
	free(*state);
	for (uint32_t i = 0; i < RIG_LUS; i++) {
		free(before[i]);
		before[i] = NULL;
	}
	return 0;
}

#endif
