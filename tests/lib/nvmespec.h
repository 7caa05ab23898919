/*
 * Numbers and layouts of NVM Express, written down a second time on purpose: the tests must not
 * learn them from the code they test. Source: NVM Express Base Specification 1.4 (chapters 3 to 6),
 * and for Copy the NVM Command Set Specification 1.0. Little-endian hosts only, as spec.h.
 */
#ifndef TESTS_LIB_NVMESPEC_H
#define TESTS_LIB_NVMESPEC_H

#include "spec.h"

struct spec_nvme_sqe {
	uint8_t opcode;
	uint8_t flags; /* FUSE 1:0, PSDT 7:6 */
	uint16_t cid;
	uint32_t nsid;
	uint32_t cdw2, cdw3;
	uint64_t mptr;
	uint64_t prp1, prp2; /* or one SGL descriptor */
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
_Static_assert(sizeof(struct spec_nvme_sqe) == 64, "4.2");

struct spec_nvme_cqe {
	uint32_t dw0, dw1;
	uint16_t sqhd, sqid;
	uint16_t cid;
	uint16_t status; /* bit 0 is the phase tag */
};
_Static_assert(sizeof(struct spec_nvme_cqe) == 16, "4.6");

struct spec_nvme_sgl {
	uint64_t address;
	uint32_t length;
	uint8_t reserved[3];
	uint8_t type; /* 7:4 type, 3:0 subtype */
};
_Static_assert(sizeof(struct spec_nvme_sgl) == 16, "4.4");

#define SPEC_NVME_SGL_DATA    0x00
#define SPEC_NVME_SGL_BUCKET  0x10
#define SPEC_NVME_SGL_SEGMENT 0x20
#define SPEC_NVME_SGL_LAST    0x30
#define SPEC_NVME_PSDT_SGL    0x40
#define SPEC_NVME_FUSE_FIRST  0x01
#define SPEC_NVME_FUSE_SECOND 0x02

struct spec_nvme_range { /* Dataset Management */
	uint32_t attributes, blocks;
	uint64_t slba;
};

struct spec_nvme_copy_range { /* Copy, source range entry format 0 */
	uint64_t reserved, slba;
	uint16_t blocks_minus_1;
	uint8_t rest[14];
};
_Static_assert(sizeof(struct spec_nvme_copy_range) == 32, "Copy");

/* Registers, 3.1. */
#define SPEC_NVME_CAP	   0x00
#define SPEC_NVME_VS	   0x08
#define SPEC_NVME_INTMS	   0x0c
#define SPEC_NVME_INTMC	   0x10
#define SPEC_NVME_CC	   0x14
#define SPEC_NVME_CSTS	   0x1c
#define SPEC_NVME_NSSR	   0x20
#define SPEC_NVME_AQA	   0x24
#define SPEC_NVME_ASQ	   0x28
#define SPEC_NVME_ACQ	   0x30
#define SPEC_NVME_DOORBELL 0x1000

#define SPEC_NVME_CC_EN	     0x1u
#define SPEC_NVME_CC_SHN     0xc000u
#define SPEC_NVME_CC_NORMAL  0x4000u
#define SPEC_NVME_CC_ABRUPT  0x8000u
#define SPEC_NVME_CC_SIZES   0x460000u /* IOCQES 4, IOSQES 6 */
#define SPEC_NVME_RDY	     0x1u
#define SPEC_NVME_CFS	     0x2u
#define SPEC_NVME_SHST	     0xcu
#define SPEC_NVME_SHST_DONE  0x8u
#define SPEC_NVME_NSSR_MAGIC 0x4e564d65u

/* Admin opcodes, 5. */
enum {
	SPEC_NVME_DELETE_SQ = 0x00,
	SPEC_NVME_CREATE_SQ = 0x01,
	SPEC_NVME_GET_LOG = 0x02,
	SPEC_NVME_DELETE_CQ = 0x04,
	SPEC_NVME_CREATE_CQ = 0x05,
	SPEC_NVME_IDENTIFY = 0x06,
	SPEC_NVME_ABORT = 0x08,
	SPEC_NVME_SET_FEATURES = 0x09,
	SPEC_NVME_GET_FEATURES = 0x0a,
	SPEC_NVME_AER = 0x0c,
	SPEC_NVME_NS_MANAGEMENT = 0x0d,
	SPEC_NVME_NS_ATTACHMENT = 0x15,
	SPEC_NVME_KEEP_ALIVE = 0x18,
	SPEC_NVME_DBBUF = 0x7c,
	SPEC_NVME_FORMAT = 0x80,
	SPEC_NVME_SANITIZE = 0x84,
};

/* NVM command set, 6. */
enum {
	SPEC_NVME_FLUSH = 0x00,
	SPEC_NVME_WRITE = 0x01,
	SPEC_NVME_READ = 0x02,
	SPEC_NVME_WRITE_UNCOR = 0x04,
	SPEC_NVME_COMPARE = 0x05,
	SPEC_NVME_WRITE_ZEROES = 0x08,
	SPEC_NVME_DSM = 0x09,
	SPEC_NVME_VERIFY = 0x0c,
	SPEC_NVME_RESV_REGISTER = 0x0d,
	SPEC_NVME_RESV_REPORT = 0x0e,
	SPEC_NVME_RESV_ACQUIRE = 0x11,
	SPEC_NVME_RESV_RELEASE = 0x15,
	SPEC_NVME_COPY = 0x19,
};

/* Status code type << 8 | status code, 4.6.1. */
enum {
	SPEC_NVME_OK = 0x000,
	SPEC_NVME_INVALID_OPCODE = 0x001,
	SPEC_NVME_INVALID_FIELD = 0x002,
	SPEC_NVME_CID_CONFLICT = 0x003,
	SPEC_NVME_DATA_TRANSFER = 0x004,
	SPEC_NVME_INTERNAL = 0x006,
	SPEC_NVME_ABORTED = 0x007,
	SPEC_NVME_ABORTED_SQ = 0x008,
	SPEC_NVME_FAILED_FUSED = 0x009,
	SPEC_NVME_MISSING_FUSED = 0x00a,
	SPEC_NVME_INVALID_NS = 0x00b,
	SPEC_NVME_SEQUENCE = 0x00c,
	SPEC_NVME_PRP_OFFSET = 0x013,
	SPEC_NVME_LBA_RANGE = 0x080,
	SPEC_NVME_RESV_CONFLICT = 0x083,
	SPEC_NVME_INVALID_CQ = 0x100,
	SPEC_NVME_INVALID_QID = 0x101,
	SPEC_NVME_INVALID_QSIZE = 0x102,
	SPEC_NVME_AER_LIMIT = 0x105,
	SPEC_NVME_INVALID_VECTOR = 0x108,
	SPEC_NVME_INVALID_LOG = 0x109,
	SPEC_NVME_INVALID_DELETION = 0x10c,
	SPEC_NVME_COMPARE_FAILED = 0x285,
};

#define SPEC_NVME_NSID_ALL 0xffffffffu
#define SPEC_NVME_PAGE	   4096u

#endif
