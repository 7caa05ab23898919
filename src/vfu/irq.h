/*
 * Interrupts as the client sets them up (DEVICE_GET_IRQ_INFO, DEVICE_SET_IRQS). The device has the
 * descriptors that it writes to; copies of them are kept here for a client that triggers one
 * itself.
 *
 * INTx: one, masked by its own trigger until unmasked. MSI: none. MSI-X: as many as the device
 * has vectors; on from the first descriptor set until all are disabled. ERR and REQ: accepted, and
 * never triggered by us.
 * Thread: main.
 */
#ifndef VFU_IRQ_H
#define VFU_IRQ_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/loop.h"
#include "vfu/dev.h"
#include "vfu/msg.h"

#define VFU_IRQ_SUBS (VFU_MSIX_VECTORS_MAX + 3) /* all that can be triggered */

struct parcel;
struct vfu_session;

struct vfu_irqs {
	int intx_fd, err_fd, req_fd; /* -1: none */
	int msix_fds[VFU_MSIX_VECTORS_MAX];
	bool msix_on, intx_masked;

	/* What the client triggers: one write at a time, through the io_uring, because a
	 * descriptor of the client may block. */
	struct loop_op trigger;
	bool trigger_busy;
	int trigger_fd;	     /* a copy, while busy */
	uint32_t trigger_at; /* of wanted, while busy */
	uint64_t one;
	bool wanted[VFU_IRQ_SUBS];
};

void vfu_irqs_init(struct vfu_irqs *q);
/* The session closes: false when a write is still under way; it is cancelled, and
 * vfu_session_irqs_stopped comes. */
bool vfu_irqs_stop(struct vfu_session *s);
/* The pin of the device is connected, or not: masked, turned off, or without a descriptor. */
void vfu_irqs_intx_update(struct vfu_session *s);
/*
 * Hand-over: what the client set up, and what it triggered and may not have been written yet. In
 * the successor the device is told; it is quiet. -EPROTO, -EINVAL, named.
 */
void vfu_irqs_pack(const struct vfu_session *s, struct parcel *p);
int vfu_irqs_unpack(struct vfu_session *s, struct parcel *p, struct err *reterr);
/* Writes what is wanted. */
void vfu_irqs_resume(struct vfu_session *s);
/* Closes our copies. */
void vfu_irqs_fini(struct vfu_irqs *q);

#endif
