/*
 * NVM Express on the wire: queue entries, opcodes, status codes, registers. Little-endian; 64-byte
 * submission and 16-byte completion queue entries. Source: NVM Express Base Specification 1.4
 * ("base"), and the Copy command of the NVM Command Set Specification 1.0.
 */
#ifndef NVME_SPEC_H
#define NVME_SPEC_H

#include "base/types.h"

#define NVME_PAGE_BYTES	    4096u /* CAP.MPSMIN and MPSMAX are 0 */
#define NVME_PAGE_SHIFT	    12
#define NVME_NSID_ALL	    0xffffffffu
#define NVME_IDENTIFY_BYTES 4096u

/* base 4.4: SGL descriptor */
struct nvme_sgl_desc {
	struct le64 address;
	struct le32 length;
	uint8_t reserved[3];
	uint8_t type; /* bits 7:4 descriptor type, 3:0 subtype */
};

enum nvme_sgl_type {
	NVME_SGL_DATA_BLOCK = 0x0,
	NVME_SGL_BIT_BUCKET = 0x1,
	NVME_SGL_SEGMENT = 0x2,
	NVME_SGL_LAST_SEGMENT = 0x3,
};

/* base 4.2: common command format */
struct nvme_sqe {
	uint8_t opcode;
	uint8_t flags; /* FUSE 1:0, PSDT 7:6 */
	struct le16 cid;
	struct le32 nsid;
	struct le32 cdw2, cdw3;
	struct le64 mptr;
	union {
		struct {
			struct le64 prp1, prp2;
		};
		struct nvme_sgl_desc sgl1;
	};
	struct le32 cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
_Static_assert(sizeof(struct nvme_sqe) == 64, "base 4.2");

#define NVME_SQE_FUSE_MASK   0x03
#define NVME_SQE_FUSE_FIRST  0x01
#define NVME_SQE_FUSE_SECOND 0x02
#define NVME_SQE_PSDT_SHIFT  6
#define NVME_SQE_RESERVED    0x3c

/* base 4.6 */
struct nvme_cqe {
	struct le32 dw0, dw1;
	struct le16 sqhd, sqid;
	struct le16 cid;
	struct le16 status; /* bit 0 phase tag, 8:1 SC, 11:9 SCT, 13:12 CRD, 14 More, 15 DNR */
};
_Static_assert(sizeof(struct nvme_cqe) == 16, "base 4.6");

/* base 3.1: controller registers, offsets in BAR 0 */
enum nvme_reg {
	NVME_REG_CAP = 0x00,
	NVME_REG_VS = 0x08,
	NVME_REG_INTMS = 0x0c,
	NVME_REG_INTMC = 0x10,
	NVME_REG_CC = 0x14,
	NVME_REG_CSTS = 0x1c,
	NVME_REG_NSSR = 0x20,
	NVME_REG_AQA = 0x24,
	NVME_REG_ASQ = 0x28,
	NVME_REG_ACQ = 0x30,
	NVME_REG_CMBLOC = 0x38,
	NVME_REG_CMBSZ = 0x3c,
	NVME_REG_DOORBELLS = 0x1000,
};

#define NVME_VS_1_0	0x00010000u
#define NVME_VS_1_4	0x00010400u
#define NVME_NSSR_VALUE 0x4e564d65u /* "NVMe" */

#define NVME_SQE_SHIFT 6u /* entries of 64 and 16 bytes: CC.IOSQES, CC.IOCQES */
#define NVME_CQE_SHIFT 4u

#define NVME_CC_EN	   (1u << 0)
#define NVME_CC_CSS(cc)	   (((cc) >> 4) & 7)
#define NVME_CC_MPS(cc)	   (((cc) >> 7) & 15)
#define NVME_CC_AMS(cc)	   (((cc) >> 11) & 7)
#define NVME_CC_SHN(cc)	   (((cc) >> 14) & 3)
#define NVME_CC_IOSQES(cc) (((cc) >> 16) & 15)
#define NVME_CC_IOCQES(cc) (((cc) >> 20) & 15)
#define NVME_CSTS_RDY	   (1u << 0)
#define NVME_CSTS_CFS	   (1u << 1)
#define NVME_CSTS_SHST(v)  ((uint32_t)(v) << 2) /* 0 normal, 1 occurring, 2 complete */
#define NVME_CSTS_NSSRO	   (1u << 4)

/* base 5: admin opcodes */
enum nvme_admin_opcode {
	NVME_ADMIN_DELETE_SQ = 0x00,
	NVME_ADMIN_CREATE_SQ = 0x01,
	NVME_ADMIN_GET_LOG_PAGE = 0x02,
	NVME_ADMIN_DELETE_CQ = 0x04,
	NVME_ADMIN_CREATE_CQ = 0x05,
	NVME_ADMIN_IDENTIFY = 0x06,
	NVME_ADMIN_ABORT = 0x08,
	NVME_ADMIN_SET_FEATURES = 0x09,
	NVME_ADMIN_GET_FEATURES = 0x0a,
	NVME_ADMIN_AER = 0x0c,
	NVME_ADMIN_NS_MANAGEMENT = 0x0d,
	NVME_ADMIN_NS_ATTACHMENT = 0x15,
	NVME_ADMIN_KEEP_ALIVE = 0x18,
	NVME_ADMIN_DOORBELL_BUFFER_CONFIG = 0x7c,
	NVME_ADMIN_FORMAT_NVM = 0x80,
	NVME_ADMIN_SANITIZE = 0x84,
};

/* base 6: NVM command set opcodes */
enum nvme_io_opcode {
	NVME_IO_FLUSH = 0x00,
	NVME_IO_WRITE = 0x01,
	NVME_IO_READ = 0x02,
	NVME_IO_WRITE_UNCORRECTABLE = 0x04,
	NVME_IO_COMPARE = 0x05,
	NVME_IO_WRITE_ZEROES = 0x08,
	NVME_IO_DATASET_MANAGEMENT = 0x09,
	NVME_IO_VERIFY = 0x0c,
	NVME_IO_RESV_REGISTER = 0x0d,
	NVME_IO_RESV_REPORT = 0x0e,
	NVME_IO_RESV_ACQUIRE = 0x11,
	NVME_IO_RESV_RELEASE = 0x15,
	NVME_IO_COPY = 0x19,
};

/*
 * base 4.6.1: status code type and status code as one number, SCT << 8 | SC, with the text and
 * whether a retry is pointless (DNR).
 */
#define NVME_STATUSES(X)                                                                           \
	X(SUCCESS, 0x000, false, "success")                                                        \
	X(INVALID_OPCODE, 0x001, true, "invalid command opcode")                                   \
	X(INVALID_FIELD, 0x002, true, "invalid field in command")                                  \
	X(CID_CONFLICT, 0x003, true, "command id conflict")                                        \
	X(DATA_TRANSFER_ERROR, 0x004, false, "data transfer error")                                \
	X(INTERNAL_ERROR, 0x006, false, "internal error")                                          \
	X(ABORT_REQUESTED, 0x007, false, "command abort requested")                                \
	X(ABORTED_SQ_DELETION, 0x008, false, "command aborted due to SQ deletion")                 \
	X(ABORTED_FAILED_FUSED, 0x009, false, "command aborted due to failed fused command")       \
	X(ABORTED_MISSING_FUSED, 0x00a, true, "command aborted due to missing fused command")      \
	X(INVALID_NS, 0x00b, true, "invalid namespace or format")                                  \
	X(SEQUENCE_ERROR, 0x00c, true, "command sequence error")                                   \
	X(INVALID_SGL_SEGMENT, 0x00d, true, "invalid SGL segment descriptor")                      \
	X(INVALID_SGL_COUNT, 0x00e, true, "invalid number of SGL descriptors")                     \
	X(INVALID_SGL_LENGTH, 0x00f, true, "data SGL length invalid")                              \
	X(INVALID_SGL_TYPE, 0x011, true, "SGL descriptor type invalid")                            \
	X(INVALID_PRP_OFFSET, 0x013, true, "PRP offset invalid")                                   \
	X(ATOMIC_UNIT_EXCEEDED, 0x014, true, "atomic write unit exceeded")                         \
	X(OPERATION_DENIED, 0x015, true, "operation denied")                                       \
	X(INVALID_SGL_OFFSET, 0x016, true, "SGL offset invalid")                                   \
	X(HOST_ID_INCONSISTENT, 0x018, true, "host identifier inconsistent format")                \
	X(KEEP_ALIVE_EXPIRED, 0x019, false, "keep alive timer expired")                            \
	X(KEEP_ALIVE_INVALID, 0x01a, true, "keep alive timeout invalid")                           \
	X(ABORTED_PREEMPTED, 0x01b, false, "command aborted due to preempt and abort")             \
	X(SANITIZE_FAILED, 0x01c, true, "sanitize failed")                                         \
	X(SANITIZE_IN_PROGRESS, 0x01d, false, "sanitize in progress")                              \
	X(NS_WRITE_PROTECTED, 0x020, true, "namespace is write protected")                         \
	X(COMMAND_INTERRUPTED, 0x021, false, "command interrupted")                                \
	X(LBA_OUT_OF_RANGE, 0x080, true, "LBA out of range")                                       \
	X(CAPACITY_EXCEEDED, 0x081, true, "capacity exceeded")                                     \
	X(NS_NOT_READY, 0x082, false, "namespace not ready")                                       \
	X(RESERVATION_CONFLICT, 0x083, true, "reservation conflict")                               \
	X(FORMAT_IN_PROGRESS, 0x084, false, "format in progress")                                  \
	X(INVALID_CQ, 0x100, true, "completion queue invalid")                                     \
	X(INVALID_QID, 0x101, true, "invalid queue identifier")                                    \
	X(INVALID_QUEUE_SIZE, 0x102, true, "invalid queue size")                                   \
	X(ABORT_LIMIT, 0x103, false, "abort command limit exceeded")                               \
	X(AER_LIMIT, 0x105, false, "asynchronous event request limit exceeded")                    \
	X(INVALID_FIRMWARE_SLOT, 0x106, true, "invalid firmware slot")                             \
	X(INVALID_VECTOR, 0x108, true, "invalid interrupt vector")                                 \
	X(INVALID_LOG_PAGE, 0x109, true, "invalid log page")                                       \
	X(INVALID_FORMAT, 0x10a, true, "invalid format")                                           \
	X(INVALID_QUEUE_DELETION, 0x10c, true, "invalid queue deletion")                           \
	X(FEATURE_NOT_SAVEABLE, 0x10d, true, "feature identifier not saveable")                    \
	X(FEATURE_NOT_CHANGEABLE, 0x10e, true, "feature not changeable")                           \
	X(FEATURE_NOT_NS_SPECIFIC, 0x10f, true, "feature not namespace specific")                  \
	X(NS_INSUFFICIENT_CAPACITY, 0x115, true, "namespace insufficient capacity")                \
	X(NS_ID_UNAVAILABLE, 0x116, true, "namespace identifier unavailable")                      \
	X(NS_ALREADY_ATTACHED, 0x118, true, "namespace already attached")                          \
	X(NS_PRIVATE, 0x119, true, "namespace is private")                                         \
	X(NS_NOT_ATTACHED, 0x11a, true, "namespace not attached")                                  \
	X(THIN_NOT_SUPPORTED, 0x11b, true, "thin provisioning not supported")                      \
	X(INVALID_CTRL_LIST, 0x11c, true, "controller list invalid")                               \
	X(INVALID_CTRL_ID, 0x11f, true, "invalid controller identifier")                           \
	X(CONFLICTING_ATTRIBUTES, 0x180, true, "conflicting attributes")                           \
	X(INVALID_PROTECTION_INFO, 0x181, true, "invalid protection information")                  \
	X(WRITE_TO_READ_ONLY, 0x182, true, "attempted write to read only range")                   \
	X(COMMAND_SIZE_LIMIT, 0x183, true, "command size limit exceeded")                          \
	X(WRITE_FAULT, 0x280, false, "write fault")                                                \
	X(UNRECOVERED_READ_ERROR, 0x281, false, "unrecovered read error")                          \
	X(COMPARE_FAILURE, 0x285, true, "compare failure")                                         \
	X(ACCESS_DENIED, 0x286, true, "access denied")                                             \
	X(ANA_PERSISTENT_LOSS, 0x301, false, "asymmetric access persistent loss")                  \
	X(ANA_INACCESSIBLE, 0x302, false, "asymmetric access inaccessible")                        \
	X(ANA_TRANSITION, 0x303, false, "asymmetric access transition")

enum nvme_status {
#define X(n, code, dnr, text) NVME_SC_##n = code,
	NVME_STATUSES(X)
#undef X
};

#endif
