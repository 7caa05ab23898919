/*
 * Guest memory that came without a descriptor: DMA_READ and DMA_WRITE, requests of the server to
 * the client, with ids of our own. A transfer (struct nvme_dma) is cut to what the client takes at
 * once, one piece under way for each transfer, a few transfers at a time.
 *
 * A client may serve these only after it got the answer to a command of its own, so nothing that a
 * command waits for may wait for them without limit: see VFU_QUIESCE_GRACE_NS.
 * Thread: main, but for vfu_remote_start.
 */
#ifndef VFU_REMOTE_H
#define VFU_REMOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "nvme/ctrl.h"
#include "vfu/msg.h"

#define VFU_REMOTE_OUT_MAX 16 /* transfers with a request under way */

struct parcel;
struct vfu_session;

struct vfu_remote {
	struct list waiting; /* struct nvme_dma, to be sent */
	struct {
		struct nvme_dma *dma; /* NULL: free, or given up (id_used) */
		bool id_used;	      /* an answer is due */
		uint16_t id;
		uint32_t count; /* bytes asked for */
	} out[VFU_REMOTE_OUT_MAX];
	uint32_t out_count; /* answers due */
	uint16_t next_id;
	struct vfu_msg msg; /* its buffer is the next request's */
	bool failing;	    /* all transfers fail: reset or closing */
};

void vfu_remote_init(struct vfu_remote *r);
void vfu_remote_fini(struct vfu_remote *r);
/* The transfer's done comes once, on its loop. Thread: any loop. */
void vfu_remote_start(struct vfu_session *s, struct nvme_dma *dma);
/* Anything waiting or under way? */
bool vfu_remote_is_busy(const struct vfu_remote *r);
/* Sends the next request if it can; the session calls it when the socket is free. */
void vfu_remote_pump(struct vfu_session *s);
/* An answer came. -EPROTO, named: the session cannot go on. */
int vfu_remote_on_reply(struct vfu_session *s, const struct vfu_msg *m, struct err *reterr);
/* Hand-over, with no transfer there: the ids of requests that were given up, whose answers may
 * still come. -EPROTO, named. */
void vfu_remote_pack(const struct vfu_remote *r, struct parcel *p);
int vfu_remote_unpack(struct vfu_remote *r, struct parcel *p, struct err *reterr);
/* Ends all transfers with -EIO. on: and all that come, until called with false. */
void vfu_remote_fail(struct vfu_session *s, bool on);

#endif
