/*
 * Migration as the client drives it (DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE).
 *
 *     PRE_COPY <---> RUNNING <---> STOP <---> STOP_COPY
 *         |                         ^  \             ^
 *         |                         |   +-> RESUMING |
 *         |                         +---------+      |
 *         +------------------------------------------+
 *
 * Every other way is walked arc by arc (the shortest, with no saving state in its middle);
 * STOP_COPY to PRE_COPY is refused. The device is quiesced in all but RUNNING and PRE_COPY. What
 * STOP_COPY gives out is a header, the configuration space, and the device's own bytes; PRE_COPY
 * has nothing to give before the device stands still. ERROR is left by a reset.
 *
 * Dirty pages are marked in memory of our own and given out with DMA_LOGGING_REPORT.
 * Source: QEMU docs/interop/vfio-user, "VFIO_USER_DEVICE_FEATURE".
 * Thread: main.
 */
#ifndef VFU_MIGR_H
#define VFU_MIGR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "guest/gdirty.h"

#define VFU_MIGR_STATES(X)                                                                         \
	X(0, ERROR)                                                                                \
	X(1, STOP)                                                                                 \
	X(2, RUNNING)                                                                              \
	X(3, STOP_COPY)                                                                            \
	X(4, RESUMING)                                                                             \
	X(5, RUNNING_P2P)                                                                          \
	X(6, PRE_COPY)                                                                             \
	X(7, PRE_COPY_P2P)

enum vfu_migr_state {
#define X(n, name) VFU_MIGR_##name = n,
	VFU_MIGR_STATES(X)
#undef X
	VFU_MIGR_STATE_COUNT
};

#define VFU_MIGR_BYTES_MAX   0x400000u	  /* of a saved state; more is refused */
#define VFU_DIRTY_SPAN_MAX   (1ull << 42) /* bytes of guest addresses that a log covers: 128 MiB */
#define VFU_DIRTY_RANGES_MAX 4096u

struct parcel;
struct vfu_session;

struct vfu_migr {
	enum vfu_migr_state state;
	uint8_t *bytes; /* STOP_COPY: what is read; RESUMING: what came */
	size_t len, done, capacity;
	struct gdirty *dirty; /* NULL: logging is off */
	bool log_all;	      /* no ranges were given: the log grows with new maps */
};

const char *vfu_migr_state_name(enum vfu_migr_state state);
void vfu_migr_init(struct vfu_migr *g);
void vfu_migr_fini(struct vfu_migr *g);
/* Does the device stand still in this state? */
static inline bool vfu_migr_is_stopped(const struct vfu_migr *g)
{
	return g->state != VFU_MIGR_RUNNING && g->state != VFU_MIGR_PRE_COPY;
}
/* The device was reset: RUNNING, and no session. The dirty log stays. */
void vfu_migr_reset(struct vfu_migr *g);

/*
 * Hand-over: configuration space, MSI-X table and the device, and how far a migration is. The
 * device is quiet; in the successor it has its memory and interrupts. -EPROTO, -EINVAL, the
 * device's; named.
 */
int vfu_migr_pack(const struct vfu_session *s, struct parcel *p, struct err *reterr);
int vfu_migr_unpack(struct vfu_session *s, struct parcel *p, struct err *reterr);

/* dirty.c: DMA_LOGGING_START, _STOP and _REPORT; f has len bytes of data after its header. */
int vfu_dirty_start(struct vfu_session *s, const uint8_t *data, uint32_t len, struct err *reterr);
int vfu_dirty_stop(struct vfu_session *s, struct err *reterr);
/* Into data, which has room for room bytes; *ret_len is how many. Bits are cleared. */
int vfu_dirty_report(struct vfu_session *s, uint8_t *data, uint32_t len, uint32_t room,
		     uint32_t *ret_len, struct err *reterr);
/* The maps changed: the log must cover them. */
int vfu_dirty_cover(struct vfu_session *s, uint64_t first, uint64_t end, struct err *reterr);

#endif
