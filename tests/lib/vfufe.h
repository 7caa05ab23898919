/*
 * A scripted vfio-user client: the other side of the socket, under the test's full control.
 * Written from the protocol's specification and from what QEMU 11 and SPDK's initiator send.
 *
 * Socket and guest memory are struct fe's (fe.h): fe_connect(&v->fe), fe_adopt(&v->fe),
 * fe_send_raw(&v->fe), fe_mem_new(&v->fe, iova, iova, size), fe_alloc(&v->fe), fe_host(&v->fe).
 * Then three levels as there: raw bytes; the 16-byte header (vfe_send, vfe_recv, vfe_call); one
 * call for each message, and vfe_up(), which does what QEMU does.
 *
 * Results are 0 or -errno: -ETIMEDOUT nothing came, -ECONNRESET the server closed, -EPROTO an
 * answer that breaks the rules (`fe.why` says which); another: the errno of the server's error
 * answer (`refused` is set then).
 *
 * While it waits for an answer it serves the server's DMA_READ and DMA_WRITE from fe's memory,
 * unless dma_deaf. No threads, no global state.
 */
#ifndef TESTS_LIB_VFUFE_H
#define TESTS_LIB_VFUFE_H

#include "fe.h"

#define VFE_HDR_BYTES	16u
#define VFE_XFER_MAX	0x100000u
#define VFE_PAYLOAD_MAX (VFE_XFER_MAX + 64)
#define VFE_VECTORS_MAX 128u

#define VFE_REPLY    1u
#define VFE_NO_REPLY 0x10u
#define VFE_ERROR    0x20u

#define VFE_CMDS(X)                                                                                \
	X(1, VERSION)                                                                              \
	X(2, DMA_MAP)                                                                              \
	X(3, DMA_UNMAP)                                                                            \
	X(4, DEVICE_GET_INFO)                                                                      \
	X(5, DEVICE_GET_REGION_INFO)                                                               \
	X(6, DEVICE_GET_REGION_IO_FDS)                                                             \
	X(7, DEVICE_GET_IRQ_INFO)                                                                  \
	X(8, DEVICE_SET_IRQS)                                                                      \
	X(9, REGION_READ)                                                                          \
	X(10, REGION_WRITE)                                                                        \
	X(11, DMA_READ)                                                                            \
	X(12, DMA_WRITE)                                                                           \
	X(13, DEVICE_RESET)                                                                        \
	X(15, REGION_WRITE_MULTI)                                                                  \
	X(16, DEVICE_FEATURE)                                                                      \
	X(17, MIG_DATA_READ)                                                                       \
	X(18, MIG_DATA_WRITE)

enum vfe_cmd {
#define X(n, name) VFE_##name = n,
	VFE_CMDS(X)
#undef X
};

struct vfe_hdr {
	uint16_t id, cmd;
	uint32_t size; /* with the header */
	uint32_t flags, error;
};

struct vfe_msg {
	struct vfe_hdr hdr;
	uint8_t *payload; /* good until the next message is received */
	uint32_t len;
	int fds[FE_FD_MAX]; /* the receiver's */
	unsigned fd_count;
};

struct vfe_region_info {
	uint32_t argsz, flags, index, cap_offset;
	uint64_t size, offset;
};
#define VFE_REGION_MMAP 0x4u
#define VFE_REGION_CAPS 0x8u
#define VFE_REGION_CFG	7u

struct vfe_irq_info {
	uint32_t argsz, flags, index, count;
};
enum {
	VFE_IRQ_INTX,
	VFE_IRQ_MSI,
	VFE_IRQ_MSIX,
	VFE_IRQ_ERR,
	VFE_IRQ_REQ
};
/* DEVICE_SET_IRQS flags */
#define VFE_DATA_NONE	 0x01u
#define VFE_DATA_BOOL	 0x02u
#define VFE_DATA_EVENTFD 0x04u
#define VFE_MASK	 0x08u
#define VFE_UNMASK	 0x10u
#define VFE_TRIGGER	 0x20u

/* DEVICE_FEATURE */
#define VFE_FEATURE_GET	  0x10000u
#define VFE_FEATURE_SET	  0x20000u
#define VFE_FEATURE_PROBE 0x40000u
enum {
	VFE_FEATURE_MIGRATION = 1,
	VFE_FEATURE_DEVICE_STATE = 2,
	VFE_FEATURE_LOG_START = 6,
	VFE_FEATURE_LOG_STOP = 7,
	VFE_FEATURE_LOG_REPORT = 8,
};
enum {
	VFE_STATE_ERROR,
	VFE_STATE_STOP,
	VFE_STATE_RUNNING,
	VFE_STATE_STOP_COPY,
	VFE_STATE_RESUMING,
	VFE_STATE_RUNNING_P2P,
	VFE_STATE_PRE_COPY,
	VFE_STATE_PRE_COPY_P2P,
};

struct vfe {
	struct fe fe;
	uint16_t next_id;
	bool posted;   /* BAR writes ask for no answer, as QEMU's without mappable regions */
	bool dma_deaf; /* the server's requests are not answered */
	bool refused;  /* the last call ended with an error answer */
	uint8_t *buf;  /* VFE_PAYLOAD_MAX */
	char version_json[512];		/* what the server told; "": nothing */
	unsigned dma_reads, dma_writes; /* served */

	/* interrupts, by vfe_vectors_set and vfe_intx_set */
	int vector_fd[VFE_VECTORS_MAX], intx_fd;
	unsigned vectors;

	/* BAR 0's mappable part, by vfe_bar_map; NULL: none */
	uint8_t *bar_map;
	uint64_t bar_map_offset, bar_map_bytes;
};

const char *vfe_cmd_name(uint32_t cmd);

int vfe_init(struct vfe *v);
/* Closes the connection; memory and eventfds stay. */
void vfe_hangup(struct vfe *v);
void vfe_fini(struct vfe *v);

/* ---- messages ---- */

/* Returns the id, or -errno. Descriptors stay the caller's. */
int vfe_send(struct vfe *v, uint16_t cmd, uint32_t flags, const void *payload, uint32_t len,
	     const int *fds, unsigned fd_count);
/* Any one message, a request of the server's included. */
int vfe_recv(struct vfe *v, struct vfe_msg *ret_msg);
/* The answer to id (from vfe_send); requests of the server are served meanwhile. */
int vfe_answer(struct vfe *v, int id, uint16_t cmd, uint32_t max, struct vfe_msg *ret_msg);
/* Sends and waits. max: bytes of payload that the answer may have, as QEMU's buffer. ret_msg may be
 * NULL: then descriptors are closed. */
int vfe_call(struct vfe *v, uint16_t cmd, const void *payload, uint32_t len, const int *fds,
	     unsigned fd_count, uint32_t max, struct vfe_msg *ret_msg);
void vfe_msg_close(struct vfe_msg *msg);
/* Serves one request of the server; -EPROTO: it was something else. */
int vfe_dma_serve(struct vfe *v, const struct vfe_msg *msg);

/* json NULL: none. */
int vfe_version(struct vfe *v, uint16_t major, uint16_t minor, const char *json);
/* flags: 1 read, 2 write; fd -1: none. */
int vfe_dma_map(struct vfe *v, uint64_t iova, uint64_t size, uint64_t offset, uint32_t flags,
		int fd);
int vfe_dma_unmap(struct vfe *v, uint64_t iova, uint64_t size, uint32_t flags);
/* A region of fe's, with or without its descriptor. */
int vfe_region_map(struct vfe *v, unsigned region, uint32_t flags, bool with_fd);
int vfe_region_unmap(struct vfe *v, unsigned region);
int vfe_get_info(struct vfe *v, uint32_t ret_info[4]);
/* Asks as QEMU does, twice when there is more; area and ret_fd (-1) when there is a mappable part.
 */
int vfe_get_region_info(struct vfe *v, uint32_t index, struct vfe_region_info *ret_info,
			uint64_t ret_area[2], int *ret_fd);
int vfe_get_irq_info(struct vfe *v, uint32_t index, struct vfe_irq_info *ret_info);
/* bools: count of them with VFE_DATA_BOOL. */
int vfe_set_irqs(struct vfe *v, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
		 const uint8_t *bools, const int *fds, unsigned fd_count);
int vfe_region_read(struct vfe *v, uint32_t region, uint64_t off, void *ret, uint32_t len);
int vfe_region_write(struct vfe *v, uint32_t region, uint64_t off, const void *bytes, uint32_t len);
/* Without an answer. */
int vfe_region_post(struct vfe *v, uint32_t region, uint64_t off, const void *bytes, uint32_t len);
int vfe_cfg_read(struct vfe *v, uint32_t off, uint32_t len, uint32_t *ret_value);
int vfe_cfg_write(struct vfe *v, uint32_t off, uint32_t len, uint32_t value);
int vfe_reset(struct vfe *v);
/* data: len bytes sent; ret: at most max bytes of the answer's data. */
int vfe_feature(struct vfe *v, uint32_t flags, const void *data, uint32_t len, void *ret,
		uint32_t max);
int vfe_state_set(struct vfe *v, uint32_t state);
int vfe_state_get(struct vfe *v, uint32_t *ret_state);
/* Returns how many bytes, 0 at the end. */
int vfe_mig_read(struct vfe *v, void *ret, uint32_t max);
int vfe_mig_write(struct vfe *v, const void *bytes, uint32_t len);

/* ---- what a monitor does with them: vfufe_dev.c ---- */

/* count eventfds, given to vectors 0 to count - 1; 0: all off. */
int vfe_vectors_set(struct vfe *v, unsigned count);
int vfe_intx_set(struct vfe *v);
/* Maps what BAR index lets be mapped. -ENOENT: nothing. */
int vfe_bar_map(struct vfe *v, uint32_t index);

struct vfe_up_opts {
	uint64_t region_bytes; /* 0: 16 MiB at iova 0, unless there is memory already */
	unsigned vectors;      /* MSI-X eventfds; 0: as many as there are */
	bool no_fd;	       /* memory without descriptors: by messages */
	bool no_json;	       /* as SPDK's initiator */
};

/* All that QEMU sends from the connection to the guest's first register access. */
int vfe_up(struct vfe *v, const struct vfe_up_opts *o);

/* ---- BAR 0 for nvmedrv's transport (t is the struct vfe) ---- */

int vfe_reg_read(void *t, uint32_t off, void *buf, uint32_t len);
int vfe_reg_write(void *t, uint32_t off, const void *buf, uint32_t len);
/* A doorbell by its word's index: mapped, posted, or a write with answer. */
int vfe_doorbell(void *t, uint32_t index, uint32_t value);
uint64_t vfe_mem_alloc(void *t, uint64_t len, uint64_t align);
void *vfe_mem_host(void *t, uint64_t iova, uint64_t len);
int vfe_vector_fd(void *t, unsigned vector);

#endif
