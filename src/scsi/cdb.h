/*
 * Command descriptor blocks: one row a command (cdb.def). Pure: bytes to row, bytes to fields.
 */
#ifndef SCSI_CDB_H
#define SCSI_CDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scsi_task;

#define CDB_NO_SA (-1)

/* What a persistent reservation of another nexus does to it (SPC-5, table 73 and SBC-4, table 13)
 */
#define CDB_RESV_READ  (1u << 0)  /* conflicts with exclusive access types */
#define CDB_RESV_WRITE (1u << 1)  /* conflicts with all types */
#define CDB_NO_UA      (1u << 2)  /* does not report unit attentions: INQUIRY, REPORT LUNS, ... */
#define CDB_MEDIUM     (1u << 3)  /* needs a ready medium */
#define CDB_WRITES     (1u << 4)  /* refused on a write-protected unit */
#define CDB_ANY_LUN    (1u << 5)  /* answered for LUNs that are not there */
#define CDB_MAP	       (1u << 6)  /* logical block provisioning: offered if the back-end discards */
#define CDB_SANITIZE   (1u << 7)  /* offered if the back-end can */
#define CDB_ALUA_ANY   (1u << 8)  /* in every asymmetric access state */
#define CDB_COPIES     (1u << 9)  /* works on other units of its nexus too: see copy.h */
#define CDB_LEGACY     (1u << 10) /* conflicts with RESERVE(6) of another only (SPC-2, table 8) */

/* The gate of an I_T_L nexus (see scsi_impl.h) shares these bits: row->flags & gate stops it. */

struct cdb_row {
	const char *name;
	uint8_t opcode;
	int16_t sa; /* service action, CDB_NO_SA: none */
	uint8_t len_bytes;
	uint16_t flags;
	void (*run)(struct scsi_task *task);
	const uint8_t *usage; /* len_bytes bits that are looked at (SPC-5, 6.37.3); opcode and SA in
				 place */
};

extern const struct cdb_row cdb_rows[];
extern const size_t cdb_row_count;

/* To be called once before cdb_find. Thread: any. */
void cdb_init(void);
enum cdb_found {
	CDB_FOUND,
	CDB_BAD_OPCODE,
	CDB_BAD_SA
};
enum cdb_found cdb_find(const uint8_t *cdb, const struct cdb_row **ret_row);
/*
 * The row of an opcode without service actions; else one with CDB_MAP, by which it is looked for
 * with cdb_find. Filled by cdb_init.
 */
extern const struct cdb_row *cdb_plain[256];
/* The byte with the service action of this opcode's commands, 0: they have none. */
uint32_t cdb_sa_byte(uint8_t opcode);

static inline uint16_t cdb_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t cdb_u24(const uint8_t *p)
{
	return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

static inline uint32_t cdb_u32(const uint8_t *p)
{
	uint32_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return __builtin_bswap32(v);
}

static inline uint64_t cdb_u64(const uint8_t *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return __builtin_bswap64(v);
}

static inline void cdb_put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void cdb_put24(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 16);
	cdb_put16(p + 1, (uint16_t)v);
}

static inline void cdb_put32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	__builtin_memcpy(p, &v, sizeof(v));
}

static inline void cdb_put64(uint8_t *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	__builtin_memcpy(p, &v, sizeof(v));
}

/* LBA and transfer length of the 6, 10, 12 and 16 byte forms (SBC-4, 5). A length of 0 in a 6
 * byte CDB means 256. */
static inline void cdb_lba_get(const uint8_t *cdb, uint32_t len_bytes, uint64_t *ret_lba,
			       uint64_t *ret_blocks)
{
	if (len_bytes == 10) {
		*ret_lba = cdb_u32(cdb + 2);
		*ret_blocks = cdb_u16(cdb + 7);
	} else if (len_bytes == 16) {
		*ret_lba = cdb_u64(cdb + 2);
		*ret_blocks = cdb_u32(cdb + 10);
	} else if (len_bytes == 12) {
		*ret_lba = cdb_u32(cdb + 2);
		*ret_blocks = cdb_u32(cdb + 6);
	} else {
		*ret_lba = cdb_u24(cdb + 1) & 0x1fffff;
		*ret_blocks = cdb[4] ? cdb[4] : 256;
	}
}

#endif
