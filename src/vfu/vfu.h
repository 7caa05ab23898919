/*
 * vfio-user endpoints: what the application starts and stops. An endpoint is a unix socket on
 * which clients (a VMM's vfio-user-pci, an initiator) get one PCI function; each connection is a
 * session with a device of its own, made by dev_make (with vfu_nvme_new or vfu_virtio_new).
 *
 * Where they come from is told by sock/endpoint.h.
 *
 * Thread: main, all of it.
 */
#ifndef VFU_VFU_H
#define VFU_VFU_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "sock/endpoint.h"
#include "virtio/coalescing.h"

struct blk_limits;
struct loop;
struct nvme_subsys;
struct queue_visitor;
struct vdev;
struct vfu_dev;

struct vfu_endpoint_params {
	struct endpoint_params sock; /* ops and arg are set by the endpoint */
	/* Makes the device of a new connection. */
	int (*dev_make)(void *arg, struct vfu_dev **ret_dev, struct err *reterr);
	void *arg;
};

struct vfu_endpoint;

/* As vhost_endpoint_start and vhost_endpoint_stop. */
int vfu_endpoint_start(const struct vfu_endpoint_params *params, struct vfu_endpoint **ret_ep,
		       struct err *reterr);
void vfu_endpoint_stop(struct vfu_endpoint *ep, void (*stopped)(void *arg), void *arg);
/* Its connections and their queues. */
void vfu_endpoint_visit(const struct vfu_endpoint *ep, const struct queue_visitor *v);
/* As vhost_endpoint_drain and vhost_endpoint_queue_move. */
void vfu_endpoint_drain(struct vfu_endpoint *ep, bool drained);
int vfu_endpoint_queue_move(struct vfu_endpoint *ep, uint32_t idx, struct loop *loop,
			    struct err *reterr);
/* Notifications of its virtio devices are coalesced so from now on; to new ones dev_make tells it.
 */
void vfu_endpoint_coalesce(struct vfu_endpoint *ep, const struct vring_coalescing *c);
/* Where its connections come from: for endpoint_stats_get. */
struct endpoint *vfu_endpoint_socket(const struct vfu_endpoint *ep);

/* As vhost_check_lost, for the sessions of this room. */
void vfu_check_lost(void);

/* ---- devices ---- */

/* From the range that its owner leaves to all for experiments; see ARCHITECTURE.md, Decisions. */
#define VFU_NVME_VENDOR 0x1af4u
#define VFU_NVME_DEVICE 0x10f0u

struct vfu_nvme_params {
	const char *name;	    /* for messages; outlives the device */
	struct nvme_subsys *subsys; /* a reference is taken */
	struct blk_limits *limits;  /* outlives the device; NULL: none */
	uint16_t num_queues;	    /* I/O queue pairs, 1 to NVME_QPAIRS_MAX */
	uint32_t queue_size_max;    /* entries, 2 to NVME_QUEUE_SIZE_MAX */
	uint16_t vectors; /* 0: one for each queue pair, and the admin queue's, while they last */
	uint32_t spin_ns;
	/*
	 * false: every doorbell is a message (or a shadow doorbell), and an idle device costs
	 * nothing. true: the client may map the doorbells; they are looked at from time to time.
	 * SPDK's initiator needs true.
	 */
	bool mapped_doorbells;
	uint16_t pci_vendor, pci_device; /* 0: VFU_NVME_VENDOR, VFU_NVME_DEVICE */

	struct loop *main_loop;
	struct loop **loops; /* data loops; the array outlives the device */
	uint32_t loop_count;
};

/* An NVMe controller, the next of the subsystem. Errors: nvme_ctrl_new's, and -ENOMEM. */
int vfu_nvme_new(const struct vfu_nvme_params *params, struct vfu_dev **ret_dev,
		 struct err *reterr);

struct vfu_virtio_params {
	const char *name; /* for messages; outlives the device */
	uint32_t spin_ns; /* struct loop_source.spin_max_ns of the rings */
	bool packed;	  /* offer RING_PACKED */
	/*
	 * false: every notification of the driver is a message, and an idle device costs nothing.
	 * true: the client may map the page of notifications; rings are looked at from time to
	 * time.
	 */
	bool mapped_notify;
	struct vring_coalescing coalescing;

	struct loop *main_loop;
	struct loop **loops; /* data loops; the array outlives the device */
	uint32_t loop_count;
};

/*
 * A virtio device of model vdev, which is taken in every case. Errors: -EINVAL (the model has no or
 * too many queues), -ENOMEM, memfd_create's errno.
 */
int vfu_virtio_new(const struct vfu_virtio_params *params, struct vdev *vdev,
		   struct vfu_dev **ret_dev, struct err *reterr);

#endif
