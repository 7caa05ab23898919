/*
 * Causes: what can be wrong with a command, and how sense data tells it (SPC-5, 4.4). One row a
 * cause; key, code and qualifier stand nowhere else.
 */
#ifndef SCSI_SENSE_H
#define SCSI_SENSE_H

#include <stdbool.h>
#include <stdint.h>

/* name, sense key, additional sense code, qualifier, text */
#define SCSI_CAUSES(X)                                                                             \
	X(NONE, 0x0, 0x00, 0x00, "no additional sense information")                                \
	X(SANITIZE_PROGRESS, 0x2, 0x04, 0x1b, "logical unit not ready, sanitize in progress")      \
	X(NOT_READY_START, 0x2, 0x04, 0x02,                                                        \
	  "logical unit not ready, initializing command required")                                 \
	X(STANDBY, 0x2, 0x04, 0x0b, "logical unit not accessible, target port in standby state")   \
	X(UNAVAILABLE, 0x2, 0x04, 0x0c,                                                            \
	  "logical unit not accessible, target port in unavailable state")                         \
	X(NO_MEDIUM, 0x2, 0x3a, 0x00, "medium not present")                                        \
	X(READ_ERROR, 0x3, 0x11, 0x00, "unrecovered read error")                                   \
	X(WRITE_ERROR, 0x3, 0x0c, 0x00, "write error")                                             \
	X(SANITIZE_FAILED, 0x3, 0x31, 0x03, "sanitize command failed")                             \
	X(INTERNAL_FAILURE, 0x4, 0x44, 0x00, "internal target failure")                            \
	X(OPERATION_IN_PROGRESS, 0x5, 0x00, 0x16, "operation in progress")                         \
	X(TOKEN_UNDERRUN, 0x5, 0x0d, 0x04, "copy target device data underrun")                     \
	X(PARAM_LIST_LENGTH, 0x5, 0x1a, 0x00, "parameter list length error")                       \
	X(INVALID_OPCODE, 0x5, 0x20, 0x00, "invalid command operation code")                       \
	X(LBA_OUT_OF_RANGE, 0x5, 0x21, 0x00, "logical block address out of range")                 \
	X(TOKEN_UNSUPPORTED_TYPE, 0x5, 0x23, 0x01,                                                 \
	  "invalid token operation, unsupported token type")                                       \
	X(TOKEN_REMOTE_USAGE, 0x5, 0x23, 0x02,                                                     \
	  "invalid token operation, remote token usage not supported")                             \
	X(TOKEN_UNKNOWN, 0x5, 0x23, 0x04, "invalid token operation, token unknown")                \
	X(TOKEN_CORRUPT, 0x5, 0x23, 0x05, "invalid token operation, token corrupt")                \
	X(TOKEN_EXPIRED, 0x5, 0x23, 0x07, "invalid token operation, token expired")                \
	X(TOKEN_CANCELLED, 0x5, 0x23, 0x08, "invalid token operation, token cancelled")            \
	X(TOKEN_DELETED, 0x5, 0x23, 0x09, "invalid token operation, token deleted")                \
	X(TOKEN_LENGTH, 0x5, 0x23, 0x0a, "invalid token operation, invalid token length")          \
	X(INVALID_FIELD_CDB, 0x5, 0x24, 0x00, "invalid field in CDB")                              \
	X(LU_NOT_SUPPORTED, 0x5, 0x25, 0x00, "logical unit not supported")                         \
	X(INVALID_FIELD_LIST, 0x5, 0x26, 0x00, "invalid field in parameter list")                  \
	X(INVALID_RELEASE, 0x5, 0x26, 0x04, "invalid release of persistent reservation")           \
	X(TOO_MANY_TARGETS, 0x5, 0x26, 0x06, "too many target descriptors")                        \
	X(UNSUPPORTED_TARGET, 0x5, 0x26, 0x07, "unsupported target descriptor type code")          \
	X(TOO_MANY_SEGMENTS, 0x5, 0x26, 0x08, "too many segment descriptors")                      \
	X(UNSUPPORTED_SEGMENT, 0x5, 0x26, 0x09, "unsupported segment descriptor type code")        \
	X(INLINE_DATA, 0x5, 0x26, 0x0b, "inline data length exceeded")                             \
	X(SAVING_UNSUPPORTED, 0x5, 0x39, 0x00, "saving parameters not supported")                  \
	X(MEDIUM_REMOVAL_PREVENTED, 0x5, 0x53, 0x02, "medium removal prevented")                   \
	X(INSUFFICIENT_RESOURCES, 0x5, 0x55, 0x03, "insufficient resources")                       \
	X(REGISTRATION_RESOURCES, 0x5, 0x55, 0x04, "insufficient registration resources")          \
	X(TOKEN_RESOURCES, 0x5, 0x55, 0x0d, "insufficient resources to create ROD token")          \
	X(WRITE_PROTECTED, 0x7, 0x27, 0x00, "write protected")                                     \
	X(SPACE_ALLOC_FAILED, 0x7, 0x27, 0x07, "space allocation failed write protect")            \
	X(COPY_ABORTED, 0xa, 0x00, 0x00, "copy aborted")                                           \
	X(COPY_CSCD_UNKNOWN, 0xa, 0x08, 0x04, "unreachable copy target")                           \
	X(COPY_UNREACHABLE, 0xa, 0x0d, 0x02, "copy target device not reachable")                   \
	X(COPY_TARGET_FAILED, 0xa, 0x0d, 0x01, "third party device failure")                       \
	X(COPY_DEVICE_TYPE, 0xa, 0x0d, 0x03, "incorrect copy target device type")                  \
	X(COPY_UNDERRUN, 0xa, 0x0d, 0x04, "copy target device data underrun")                      \
	X(COPY_BAD_FIELD, 0xa, 0x26, 0x00, "invalid field in parameter list")                      \
	X(COPY_INEXACT, 0xa, 0x26, 0x0a, "unexpected inexact segment")                             \
	X(COPY_CLEARED, 0xa, 0x2f, 0x02, "commands cleared by device server")                      \
	X(GUARD_CHECK, 0xb, 0x10, 0x01, "logical block guard check failed")                        \
	X(REF_TAG_CHECK, 0xb, 0x10, 0x03, "logical block reference tag check failed")              \
	X(MISCOMPARE, 0xe, 0x1d, 0x00, "miscompare during verify operation")

enum scsi_cause {
#define X(n, k, a, q, t) SCSI_CAUSE_##n,
	SCSI_CAUSES(X)
#undef X
	SCSI_CAUSE_COUNT
};

/*
 * Unit attentions, in the order in which they are reported when several are pending (SAM-6, 5.14;
 * power on first). Sense key 6h. name, code, qualifier, text
 */
#define SCSI_UAS(X)                                                                                \
	X(POWER_ON, 0x29, 0x00, "power on, reset, or bus device reset occurred")                   \
	X(DEVICE_RESET, 0x29, 0x03, "bus device reset function occurred")                          \
	X(NEXUS_LOSS, 0x29, 0x07, "I_T nexus loss occurred")                                       \
	X(MEDIUM_CHANGED, 0x28, 0x00, "not ready to ready change, medium may have changed")        \
	X(LUNS_CHANGED, 0x3f, 0x0e, "reported luns data has changed")                              \
	X(COMMANDS_CLEARED, 0x2f, 0x00, "commands cleared by another initiator")                   \
	X(CAPACITY_CHANGED, 0x2a, 0x09, "capacity data has changed")                               \
	X(MODE_CHANGED, 0x2a, 0x01, "mode parameters changed")                                     \
	X(RESV_PREEMPTED, 0x2a, 0x03, "reservations preempted")                                    \
	X(RESV_RELEASED, 0x2a, 0x04, "reservations released")                                      \
	X(REGISTRATIONS_PREEMPTED, 0x2a, 0x05, "registrations preempted")                          \
	X(ALUA_CHANGED, 0x2a, 0x06, "asymmetric access state changed")

enum scsi_ua {
#define X(n, a, q, t) SCSI_UA_##n,
	SCSI_UAS(X)
#undef X
	SCSI_UA_COUNT
};

/* What goes with a cause. */
struct sense_extra {
	bool has_info;
	uint64_t info; /* INFORMATION field: an LBA, or an offset for MISCOMPARE */
	bool has_field;
	bool field_in_cdb;
	int8_t field_bit; /* most significant wrong bit, -1: not told */
	uint16_t field_byte;
	bool has_specific; /* COMMAND-SPECIFIC INFORMATION, its first four bytes */
	uint32_t specific;
	bool has_progress; /* PROGRESS INDICATION, of 65536 */
	uint16_t progress;
};

#define SENSE_FIXED_BYTES 18

/*
 * Builds sense data; extra may be NULL. descriptor: format 72h instead of 70h. Returns its length,
 * at most 48. buf has SCSI_SENSE_MAX bytes. Thread: any.
 */
uint8_t sense_build(uint8_t *buf, bool descriptor, enum scsi_cause cause,
		    const struct sense_extra *extra);
uint8_t sense_build_ua(uint8_t *buf, bool descriptor, enum scsi_ua ua);
void sense_ua_code(enum scsi_ua ua, uint8_t *ret_asc, uint8_t *ret_ascq);
/* The three bytes of a row. */
void sense_cause_code(enum scsi_cause cause, uint8_t *ret_key, uint8_t *ret_asc, uint8_t *ret_ascq);

#endif
