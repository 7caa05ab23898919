/*
 * vhost-user messages: their bytes, and one table that says for each what it may look like.
 *
 * msg.def holds a row per message: number, name, payload size, descriptor count, the protocol
 * feature it needs, which rings must stand still while it is handled, and whether it is a question
 * (answered with a payload) or a statement (acknowledged when the front-end asked for it). The
 * handler of row NAME is session_handle_NAME(). All integers are in native byte order.
 * Source: QEMU docs/interop/vhost-user, "Message Specification".
 */
#ifndef VHOST_MSG_H
#define VHOST_MSG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define MSG_HDR_BYTES	12
#define MSG_PAYLOAD_MAX 4096 /* bytes; more is refused before anything is read */
#define MSG_REPLY_MAX	4112 /* bytes: NVMe Identify data, behind a command */
#define MSG_FDS_MAX	32   /* descriptors with one message; more ends the session */
#define MSG_REGIONS_MAX 32   /* in one SET_MEM_TABLE; ADD_MEM_REG takes the rest */
#define MSG_CONFIG_MAX	256
#define MSG_QUEUES_MAX	256 /* the index in SET_VRING_KICK has 8 bits */

/* hdr.flags */
#define MSG_VERSION	 0x1u
#define MSG_VERSION_MASK 0x3u
#define MSG_REPLY	 0x4u
#define MSG_NEED_REPLY	 0x8u

/* SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR */
#define MSG_VRING_IDX_MASK 0xffull
#define MSG_VRING_NOFD	   0x100ull

/* SET_VRING_ADDR flags */
#define MSG_VRING_F_LOG 0x1u

/* Protocol features, as masks */
#define VHOST_PF_MQ		     (1ull << 0)
#define VHOST_PF_LOG_SHMFD	     (1ull << 1)
#define VHOST_PF_REPLY_ACK	     (1ull << 3)
#define VHOST_PF_BACKEND_REQ	     (1ull << 5)
#define VHOST_PF_CROSS_ENDIAN	     (1ull << 6)
#define VHOST_PF_CONFIG		     (1ull << 9)
#define VHOST_PF_BACKEND_SEND_FD     (1ull << 10)
#define VHOST_PF_INFLIGHT_SHMFD	     (1ull << 12)
#define VHOST_PF_RESET_DEVICE	     (1ull << 13)
#define VHOST_PF_CONFIGURE_MEM_SLOTS (1ull << 15)
#define VHOST_PF_STATUS		     (1ull << 16)

/* Back-end to front-end */
#define MSG_BACKEND_CONFIG_CHANGE 2u

struct msg_hdr {
	uint32_t request, flags, size;
};

struct msg_state {
	uint32_t idx, num;
};

struct msg_addr {
	uint32_t idx, flags;
	uint64_t desc, used, avail, log; /* user addresses; log: guest physical */
};

struct msg_region {
	uint64_t gpa, size_bytes, uva, mmap_offset;
};

struct msg_mem_table {
	uint32_t count, pad;
	struct msg_region regions[MSG_REGIONS_MAX];
};

struct msg_mem_reg {
	uint64_t pad;
	struct msg_region region;
};

struct msg_log {
	uint64_t size_bytes, offset_bytes;
};

struct msg_config {
	uint32_t offset, size, flags;
	uint8_t bytes[MSG_CONFIG_MAX];
};
#define MSG_CONFIG_HDR_BYTES 12

/* 20 bytes on the wire, 24 from front-ends whose compiler padded it. */
struct msg_inflight {
	uint64_t mmap_size, mmap_offset;
	uint16_t queue_count, queue_size;
};
#define MSG_INFLIGHT_BYTES 20

struct msg {
	struct msg_hdr hdr;
	int fds[MSG_FDS_MAX]; /* owned; -1 when taken by a handler */
	uint32_t fd_count;
	union {
		uint64_t u64;
		struct msg_state state;
		struct msg_addr addr;
		struct msg_mem_table mem_table;
		struct msg_mem_reg mem_reg;
		struct msg_log log;
		struct msg_config config;
		struct msg_inflight inflight;
		uint8_t bytes[MSG_PAYLOAD_MAX];
	};
};

/* Which rings stand still (drained) while a message is handled; they go on after it. */
enum msg_quiet {
	MSG_QUIET_NONE,
	MSG_QUIET_STATE, /* the ring that a msg_state or msg_addr names */
	MSG_QUIET_U64,	 /* the ring that the low 8 bits of a u64 name */
	MSG_QUIET_ALL,
	MSG_QUIET_IF_ZERO, /* all, when the u64 is 0 (SET_STATUS 0 is a reset) */
};

enum msg_reply {
	MSG_ACK,    /* only when the front-end set need_reply and REPLY_ACK is negotiated */
	MSG_ANSWER, /* the handler left its payload in the message */
};

enum msg_number {
#define MSG(number, name, ...) MSG_##name = number,
#include "vhost/msg.def"
#undef MSG
};

struct session;

/* What a message may look like, whichever session it is for. */
struct msg_shape {
	uint32_t number;
	const char *name;
	uint32_t size_min, size_max;
	uint32_t fd_min, fd_max;
	uint64_t feature; /* protocol feature that must be negotiated, 0: none */
	enum msg_reply reply;
};

struct msg_row {
	struct msg_shape shape;
	enum msg_quiet quiet;
	/*
	 * Returns 0; -EPROTO: the session cannot go on; another -errno: refused, nothing changed
	 * (a non-zero acknowledgement, or the end of the session when none was asked for).
	 */
	int (*handle)(struct session *s, struct msg *m, struct err *reterr);
};

/* The table, in order of numbers. */
extern const struct msg_row msg_table[];
extern const uint32_t msg_table_count;

/* NULL: unknown. */
const struct msg_row *msg_row_find(uint32_t number);
/*
 * Does the message fit its shape? Checks version, payload size, descriptor count and feature;
 * -EINVAL with the message named. Thread: any.
 */
int msg_check(const struct msg_shape *shape, const struct msg *m, uint64_t proto_features,
	      struct err *reterr);
/* The handler's: descriptor i is now the caller's. -1 when there is none. */
int msg_fd_take(struct msg *m, uint32_t i);
/* Closes what is left; any number of times. */
void msg_fds_close(struct msg *m);

#define MSG(number, name, ...)                                                                     \
	int session_handle_##name(struct session *s, struct msg *m, struct err *reterr);
#include "vhost/msg.def"
#undef MSG

#endif
