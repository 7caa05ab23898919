/*
 * A scripted vhost-user front-end: the other side of the socket, under the test's full control.
 *
 * Three levels. fe_send_raw() writes any bytes with any descriptors. fe_send(), fe_recv() and
 * fe_call() know the 12-byte header. The fe_set_* and fe_get_* calls know one message each, and
 * fe_up() does what a well-behaved monitor does, in QEMU's order, with knobs to leave out steps.
 *
 * Every wait has a limit (timeout_ms). Results are 0 or -errno: -ETIMEDOUT nothing came,
 * -ECONNRESET the back-end closed, -EPROTO an answer that breaks the rules (`why` says which),
 * -EREMOTEIO the back-end refused (non-zero REPLY_ACK answer).
 *
 * No threads, no global state: a program may run any number of front-ends.
 */
#ifndef TESTS_LIB_FE_H
#define TESTS_LIB_FE_H

#include <sys/types.h>

#include "spec.h"

#define FE_FD_MAX      32
#define FE_REGION_MAX  520
#define FE_QUEUE_MAX   256
#define FE_PAYLOAD_MAX 4096 /* that is sent */
#define FE_ANSWER_MAX  4160 /* that is received: NVMe Identify data comes behind a command */

#define FE_FLAG_VERSION	   1u
#define FE_FLAG_REPLY	   4u
#define FE_FLAG_NEED_REPLY 8u
#define FE_VRING_NO_FD	   0x100u

/* Front-end to back-end messages: number, name. */
#define FE_MSGS(X)                                                                                 \
	X(1, GET_FEATURES)                                                                         \
	X(2, SET_FEATURES)                                                                         \
	X(3, SET_OWNER)                                                                            \
	X(4, RESET_OWNER)                                                                          \
	X(5, SET_MEM_TABLE)                                                                        \
	X(6, SET_LOG_BASE)                                                                         \
	X(7, SET_LOG_FD)                                                                           \
	X(8, SET_VRING_NUM)                                                                        \
	X(9, SET_VRING_ADDR)                                                                       \
	X(10, SET_VRING_BASE)                                                                      \
	X(11, GET_VRING_BASE)                                                                      \
	X(12, SET_VRING_KICK)                                                                      \
	X(13, SET_VRING_CALL)                                                                      \
	X(14, SET_VRING_ERR)                                                                       \
	X(15, GET_PROTOCOL_FEATURES)                                                               \
	X(16, SET_PROTOCOL_FEATURES)                                                               \
	X(17, GET_QUEUE_NUM)                                                                       \
	X(18, SET_VRING_ENABLE)                                                                    \
	X(19, SEND_RARP)                                                                           \
	X(20, NET_SET_MTU)                                                                         \
	X(21, SET_BACKEND_REQ_FD)                                                                  \
	X(22, IOTLB_MSG)                                                                           \
	X(23, SET_VRING_ENDIAN)                                                                    \
	X(24, GET_CONFIG)                                                                          \
	X(25, SET_CONFIG)                                                                          \
	X(26, CREATE_CRYPTO_SESSION)                                                               \
	X(27, CLOSE_CRYPTO_SESSION)                                                                \
	X(28, POSTCOPY_ADVISE)                                                                     \
	X(29, POSTCOPY_LISTEN)                                                                     \
	X(30, POSTCOPY_END)                                                                        \
	X(31, GET_INFLIGHT_FD)                                                                     \
	X(32, SET_INFLIGHT_FD)                                                                     \
	X(33, GPU_SET_SOCKET)                                                                      \
	X(34, RESET_DEVICE)                                                                        \
	X(35, VRING_KICK)                                                                          \
	X(36, GET_MAX_MEM_SLOTS)                                                                   \
	X(37, ADD_MEM_REG)                                                                         \
	X(38, REM_MEM_REG)                                                                         \
	X(39, SET_STATUS)                                                                          \
	X(40, GET_STATUS)                                                                          \
	X(41, GET_SHARED_OBJECT)                                                                   \
	X(42, SET_DEVICE_STATE_FD)                                                                 \
	X(43, CHECK_DEVICE_STATE)                                                                  \
	X(44, GET_SHMEM_CONFIG)

enum fe_req {
#define X(n, name) FE_##name = n,
	FE_MSGS(X)
#undef X
	FE_REQ_END,
};

/* Back-end to front-end. */
enum fe_back_req {
	FE_BACK_IOTLB = 1,
	FE_BACK_CONFIG_CHANGE = 2,
	FE_BACK_VRING_CALL = 4,
	FE_BACK_VRING_ERR = 5,
};

struct fe_hdr {
	uint32_t req;
	uint32_t flags;
	uint32_t size_bytes;
};

struct fe_msg {
	struct fe_hdr hdr;
	uint8_t payload[FE_ANSWER_MAX];
	int fds[FE_FD_MAX];
	unsigned fd_count;
};

/* One region as SET_MEM_TABLE and ADD_MEM_REG describe it. */
struct fe_wire_region {
	uint64_t gpa;
	uint64_t size_bytes;
	uint64_t uva;
	uint64_t mmap_off;
};

struct fe_wire_state {
	uint32_t idx;
	uint32_t num;
};

struct fe_wire_addr {
	uint32_t idx;
	uint32_t flags; /* bit 0: log used writes */
	uint64_t desc_uva;
	uint64_t used_uva;
	uint64_t avail_uva;
	uint64_t log_gpa;
};

struct fe_wire_config {
	uint32_t off;
	uint32_t size_bytes;
	uint32_t flags;
	uint8_t bytes[256];
};

struct fe_wire_inflight {
	uint64_t mmap_size_bytes;
	uint64_t mmap_off;
	uint16_t queues;
	uint16_t queue_size;
	uint32_t pad;
};

struct fe_region {
	struct fe_wire_region wire;
	int fd;
	uint8_t *host;
	uint64_t used_bytes; /* bump allocator of fe_alloc() */
	bool known;	     /* told to the back-end */
};

struct fe_inflight {
	struct fe_wire_inflight wire;
	int fd;
	uint8_t *host;
};

struct fe_vring {
	unsigned idx;
	uint16_t size;
	uint64_t desc_gpa, avail_gpa, used_gpa; /* packed: ring, driver event, device event */
	int kick_fd, call_fd, err_fd;		/* -1: none */
};

struct fe;
struct fe_up_opts;

/* Another protocol that leads to memory and rings: does in its way what the call of that name is
 * said to do. See vpcife.h. */
struct fe_transport {
	int (*up)(struct fe *fe, const struct fe_up_opts *o);
	int (*vring_start)(struct fe *fe, unsigned idx, const struct fe_up_opts *o);
	int (*kick)(struct fe *fe, struct fe_vring *vr);
	int (*get_config)(struct fe *fe, uint32_t off, void *ret_bytes, uint32_t len);
	int (*set_config)(struct fe *fe, uint32_t off, const void *bytes, uint32_t len,
			  uint32_t flags);
	void (*fini)(struct fe *fe);
};

struct fe {
	const struct fe_transport *transport; /* NULL: vhost-user */
	int sock;
	int back_sock; /* our end of the back-end channel, -1: none */
	int timeout_ms;
	bool want_ack; /* ask for REPLY_ACK on every set message, once negotiated */
	uint64_t features_offered, features;
	uint64_t proto_offered, proto;
	unsigned region_count;
	struct fe_region region[FE_REGION_MAX];
	unsigned vring_count;
	struct fe_vring vring[FE_QUEUE_MAX];
	struct fe_inflight inflight;
	uint8_t *log; /* dirty log, NULL: none */
	uint64_t log_bytes;
	int log_fd;
	char why[128]; /* the rule broken, after -EPROTO */
};

const char *fe_req_name(uint32_t req);

/* Life cycle. fe_connect() retries until the socket listens or timeout_ms is over. fe_hangup()
 * drops the connection only: memory, rings and eventfds stay for a reconnect. */
void fe_init(struct fe *fe);
int fe_connect(struct fe *fe, const char *path);
void fe_adopt(struct fe *fe, int sock);
int fe_accept(struct fe *fe, int listen_sock);
void fe_hangup(struct fe *fe);
void fe_fini(struct fe *fe);

/* Levels 1 and 2. Owner: sent descriptors stay the caller's; received ones become the caller's. */
int fe_send_raw(struct fe *fe, const void *bytes, size_t len, const int *fds, unsigned fd_count);
int fe_send(struct fe *fe, uint32_t req, uint32_t flags, const void *payload, uint32_t len,
	    const int *fds, unsigned fd_count);
int fe_recv(struct fe *fe, struct fe_msg *ret_msg);
int fe_recv_on(struct fe *fe, int sock, struct fe_msg *ret_msg);
/* Exactly len bytes; descriptors that come along are added to msg's. */
int fe_recv_raw(struct fe *fe, void *to, size_t len, struct fe_msg *msg);
/* Sends and waits for the answer to the same request, with flags exactly REPLY and version 1. */
int fe_call(struct fe *fe, uint32_t req, const void *payload, uint32_t len, const int *fds,
	    unsigned fd_count, struct fe_msg *ret_msg);
int fe_call_flags(struct fe *fe, uint32_t req, uint32_t flags, const void *payload, uint32_t len,
		  const int *fds, unsigned fd_count, struct fe_msg *ret_msg);
void fe_msg_close(struct fe_msg *msg);
/* 0 once the back-end has closed the connection, -ETIMEDOUT, or -EPROTO when it talks instead. */
int fe_wait_closed(struct fe *fe);

/* Level 3: set (acknowledged when want_ack and negotiated), and get. */
int fe_set(struct fe *fe, uint32_t req, const void *payload, uint32_t len, const int *fds,
	   unsigned fd_count);
int fe_set_u64(struct fe *fe, uint32_t req, uint64_t v);
int fe_get_u64(struct fe *fe, uint32_t req, uint64_t *ret_v);
int fe_negotiate(struct fe *fe, uint64_t features_want, uint64_t proto_want);
int fe_set_vring_num(struct fe *fe, uint32_t idx, uint32_t num);
int fe_set_vring_base(struct fe *fe, uint32_t idx, uint32_t num);
int fe_get_vring_base(struct fe *fe, uint32_t idx, uint32_t *ret_num);
int fe_set_vring_addr(struct fe *fe, const struct fe_vring *vr, uint32_t flags, uint64_t log_gpa);
int fe_set_vring_enable(struct fe *fe, uint32_t idx, uint32_t on);
/* req is SET_VRING_KICK, _CALL or _ERR; fd -1 sends the "no descriptor" bit. */
int fe_set_vring_fd(struct fe *fe, uint32_t req, uint32_t idx, int fd);
int fe_get_config(struct fe *fe, uint32_t off, void *ret_bytes, uint32_t len);
int fe_set_config(struct fe *fe, uint32_t off, const void *bytes, uint32_t len, uint32_t flags);
int fe_open_back_channel(struct fe *fe);
int fe_back_recv(struct fe *fe, struct fe_msg *ret_msg);
int fe_back_ack(struct fe *fe, const struct fe_msg *msg, uint64_t v);
int fe_get_inflight(struct fe *fe, uint16_t queues, uint16_t queue_size);
int fe_set_inflight(struct fe *fe);
int fe_set_log(struct fe *fe, uint64_t log_bytes);

/* Memory. A region is a memfd mapped here; uva is what the messages call the user address.
 * fe_mem_new*() return the region's index or -errno. */
int fe_mem_new(struct fe *fe, uint64_t gpa, uint64_t uva, uint64_t size_bytes);
int fe_mem_new_at(struct fe *fe, uint64_t gpa, uint64_t uva, uint64_t size_bytes, uint64_t off);
int fe_set_mem_table(struct fe *fe);
int fe_add_mem_reg(struct fe *fe, unsigned region);
int fe_rem_mem_reg(struct fe *fe, unsigned region);
/* Address of [gpa, gpa + len) here, or NULL when no single region holds it. */
void *fe_host(struct fe *fe, uint64_t gpa, uint64_t len);
uint64_t fe_uva(struct fe *fe, uint64_t gpa);
/* A fresh range of the region, or of any region when region is -1; 0 when full. */
uint64_t fe_alloc(struct fe *fe, int region, uint64_t len, uint64_t align);

/* Steps that fe_up() leaves out on request. */
enum fe_skip {
	FE_SKIP_OWNER = 1 << 0,
	FE_SKIP_MEM = 1 << 1,
	FE_SKIP_NUM = 1 << 2,
	FE_SKIP_BASE = 1 << 3,
	FE_SKIP_ADDR = 1 << 4,
	FE_SKIP_KICK = 1 << 5,
	FE_SKIP_CALL = 1 << 6,
	FE_SKIP_ERR = 1 << 7,
	FE_SKIP_ENABLE = 1 << 8,
	FE_SKIP_NEGOTIATE = 1 << 9,
	FE_SKIP_START = 1 << 10, /* no vring message at all */
};

struct fe_up_opts {
	uint64_t features; /* wanted; 0: VERSION_1 and the block bits; flags below add theirs */
	uint64_t features_drop; /* taken away from the above */
	uint64_t proto;		/* wanted protocol features; 0: what a full front-end takes */
	unsigned queues;	/* 0: 1 */
	uint16_t queue_size;	/* 0: 128 */
	bool packed, event_idx, indirect, in_order;
	bool inflight, log, back_channel;
	bool poll_kick;	       /* no kick descriptor: the back-end polls */
	bool poll_call;	       /* no call descriptor: we poll */
	bool add_mem_reg;      /* regions one by one instead of SET_MEM_TABLE */
	unsigned regions;      /* 0: 1. Made only when the front-end has none yet */
	uint64_t region_bytes; /* of each; 0: 16 MiB */
	unsigned skip;	       /* enum fe_skip */
};

/* Everything from SET_OWNER to running queues, on a connected fe. */
int fe_up(struct fe *fe, const struct fe_up_opts *o);
/* The features it asks for, and its part that makes memory (not told to anybody). */
uint64_t fe_up_features(const struct fe_up_opts *o);
int fe_up_memory(struct fe *fe, const struct fe_up_opts *o);
int fe_vring_place(struct fe *fe, unsigned idx, uint16_t size, bool packed);
int fe_vring_start(struct fe *fe, unsigned idx, const struct fe_up_opts *o);
/* GET_VRING_BASE on every queue. */
int fe_down(struct fe *fe);

#endif
