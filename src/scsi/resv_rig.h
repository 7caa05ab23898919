/* For the tests of reservations: their commands on the rig, by nexus. */
#ifndef SCSI_RESV_RIG_H
#define SCSI_RESV_RIG_H

#include "scsi/resv.h"
#include "scsi/scsi_rig.h"

#define NAME_A "iqn.2026-01.test:a"
#define NAME_B "iqn.2026-01.test:b"
#define NAME_C "iqn.2026-01.test:c"

#define KEY_A 0xaaaaull
#define KEY_B 0xbbbbull
#define KEY_C 0xccccull

/* Bits of byte 20. */
#define LIST_APTPL     0x01
#define LIST_ALL_TG_PT 0x04
#define LIST_SPEC_I_PT 0x08

static inline void pr_list(uint8_t *list, uint64_t key, uint64_t sa_key, uint8_t flags)
{
	memset(list, 0, 24);
	cdb_put64(list, key);
	cdb_put64(list + 8, sa_key);
	list[20] = flags;
}

static inline struct rig_task *pr_out_start(struct rig *rig, uint32_t nexus, uint8_t sa,
					    uint8_t scope_type, const uint8_t *list, size_t len)
{
	uint8_t cdb[10] = { 0x5f, sa, scope_type };

	cdb_put32(cdb + 5, (uint32_t)len);
	rig->nexus_idx = nexus;
	return rig_start(rig, cdb, sizeof(cdb), list, len, 0);
}

static inline uint8_t pr_out_list(struct rig *rig, uint32_t nexus, uint8_t sa, uint8_t scope_type,
				  const uint8_t *list, size_t len)
{
	rig_finish(rig, pr_out_start(rig, nexus, sa, scope_type, list, len));
	return rig->task.status;
}

static inline uint8_t pr_out(struct rig *rig, uint32_t nexus, uint8_t sa, uint8_t type,
			     uint64_t key, uint64_t sa_key)
{
	uint8_t list[24];

	pr_list(list, key, sa_key, 0);
	return pr_out_list(rig, nexus, sa, type, list, sizeof(list));
}

#define GOOD(expr)     assert_int_equal(expr, SCSI_GOOD)
#define CONFLICT(expr) assert_int_equal(expr, SCSI_RESERVATION_CONFLICT)

static inline uint8_t pr_register(struct rig *rig, uint32_t nexus, uint64_t key)
{
	return pr_out(rig, nexus, RESV_SA_REGISTER, 0, 0, key);
}

static inline uint8_t pr_in(struct rig *rig, uint32_t nexus, uint8_t sa, uint16_t alloc_len)
{
	rig->nexus_idx = nexus;
	return rig_cdb(rig, NULL, 0, alloc_len, 0x5e, sa, 0, 0, 0, 0, 0, (uint8_t)(alloc_len >> 8),
		       (uint8_t)alloc_len, 0);
}

/* READ RESERVATION says this; type 0: none. */
static inline void assert_reserved(struct rig *rig, uint8_t type, uint64_t key)
{
	GOOD(pr_in(rig, rig->nexus_idx, 1, 256));
	assert_int_equal(rig->task.in_bytes, type ? 24 : 8);
	assert_int_equal(cdb_u32(rig->in + 4), type ? 16 : 0);
	assert_int_equal(rig->in[21], type);
	if (type)
		assert_true(cdb_u64(rig->in + 8) == key);
}

/* READ KEYS says these, in this order. */
static inline void assert_keys(struct rig *rig, uint32_t count, const uint64_t *keys)
{
	GOOD(pr_in(rig, rig->nexus_idx, 0, 4096));
	assert_int_equal(cdb_u32(rig->in + 4), 8 * count);
	for (uint32_t i = 0; i < count; i++)
		assert_true(cdb_u64(rig->in + 8 + 8 * i) == keys[i]);
}

#define KEYS(rig, ...)                                                                             \
	assert_keys(rig, sizeof((uint64_t[]){ __VA_ARGS__ }) / 8, (uint64_t[]){ __VA_ARGS__ })

static inline uint32_t pr_generation(struct rig *rig)
{
	GOOD(pr_in(rig, rig->nexus_idx, 0, 8));
	return cdb_u32(rig->in);
}

static inline uint8_t do_tur(struct rig *rig, uint32_t nexus)
{
	rig->nexus_idx = nexus;
	return rig_cdb(rig, NULL, 0, 0, 0x00, 0, 0, 0, 0, 0);
}

static inline uint8_t do_read(struct rig *rig, uint32_t nexus)
{
	rig->nexus_idx = nexus;
	return rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
}

static inline uint8_t do_write(struct rig *rig, uint32_t nexus)
{
	static const uint8_t block[512];

	rig->nexus_idx = nexus;
	return rig_cdb(rig, block, sizeof(block), 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
}

/* The next unit attention of a nexus; there is no other after it. */
static inline void assert_ua(struct rig *rig, uint32_t nexus, enum scsi_ua ua)
{
	uint8_t asc, ascq;

	assert_int_equal(do_tur(rig, nexus), SCSI_CHECK_CONDITION);
	sense_ua_code(ua, &asc, &ascq);
	assert_int_equal(rig->task.sense[2] & 0xf, 6);
	assert_int_equal(rig->task.sense[12], asc);
	assert_int_equal(rig->task.sense[13], ascq);
	GOOD(do_tur(rig, nexus));
}

static inline void rig_open3(struct rig *rig)
{
	rig_open(rig, "ram", "size=1M");
	rig_nexus_add(rig, NAME_B);
	rig_nexus_add(rig, NAME_C);
}

/* Closes nexus i and opens it anew, as after a reconnect; pending unit attentions are cleared. */
static inline void rig_reconnect(struct rig *rig, uint32_t i, const char *name)
{
	struct err err = { 0 };

	scsi_queue_close(rig->queue[i]);
	scsi_nexus_close(rig->nexus[i]);
	if (scsi_nexus_open(rig->host, name, rig_on_event, rig, &rig->nexus[i], &err) ||
	    scsi_queue_open(rig->nexus[i], rig->loop, &rig->queue[i], &err))
		fail_msg("%s", err.msg);
	rig_ua_clear_all(rig);
}

#endif
