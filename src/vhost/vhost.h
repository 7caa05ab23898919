/*
 * vhost-user endpoints: what the application starts and stops. An endpoint is a unix socket on
 * which front-ends get one device; each connection is a session with a vdev of its own. Where they
 * come from is told by sock/endpoint.h.
 *
 * Thread: main, all of it. Sessions run on main; each started vring runs on one of `loops`.
 */
#ifndef VHOST_VHOST_H
#define VHOST_VHOST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "sock/endpoint.h"
#include "virtio/coalescing.h"

struct loop;
struct queue_visitor;
struct vdev;

struct vhost_endpoint_params {
	struct endpoint_params sock;	    /* ops and arg are set by the endpoint */
	uint32_t spin_ns;		    /* struct loop_source.spin_max_ns of the rings */
	bool packed;			    /* offer RING_PACKED */
	struct vring_coalescing coalescing; /* see vhost_endpoint_coalesce */

	struct loop **loops; /* data loops; the array outlives the endpoint */
	uint32_t loop_count;

	/* Makes the device model of a new connection. */
	int (*vdev_make)(void *arg, struct vdev **ret_vdev, struct err *reterr);
	void *arg;
};

struct vhost_endpoint;

/* Starts it. Errors: endpoint_start's; -EINVAL, -ENOMEM. */
int vhost_endpoint_start(const struct vhost_endpoint_params *params, struct vhost_endpoint **ret_ep,
			 struct err *reterr);
/*
 * Closes the listener, drains and ends its sessions, removes the socket file that it created; then
 * stopped(arg) comes once, from main's loop, and ep is gone.
 */
void vhost_endpoint_stop(struct vhost_endpoint *ep, void (*stopped)(void *arg), void *arg);

/* Its connections and their queues. */
void vhost_endpoint_visit(const struct vhost_endpoint *ep, const struct queue_visitor *v);
/* Drains the queues of all sessions, those to come too, until it is called with false. */
void vhost_endpoint_drain(struct vhost_endpoint *ep, bool drained);
/* Notifications of all its sessions, those to come too, are coalesced so from now on. */
void vhost_endpoint_coalesce(struct vhost_endpoint *ep, const struct vring_coalescing *c);
/*
 * Moves queue idx of each session to loop. -ERANGE: a session has no such queue; -ENOTCONN: there
 * is no session.
 */
int vhost_endpoint_queue_move(struct vhost_endpoint *ep, uint32_t idx, struct loop *loop,
			      struct err *reterr);
/* Where its connections come from: for endpoint_stats_get. */
struct endpoint *vhost_endpoint_socket(const struct vhost_endpoint *ep);

/* ---- vhost-user-nvme: each connection is a controller of one subsystem ---- */

struct blk_limits;
struct nvme_subsys;

struct vhost_nvme_params {
	/* As in struct vhost_endpoint_params. */
	struct endpoint_params sock;
	uint32_t spin_ns;
	struct loop **loops;
	uint32_t loop_count;

	struct nvme_subsys *subsys; /* a reference is taken */
	struct blk_limits *limits;  /* of all its controllers; outlives the endpoint; NULL: none */
	uint16_t num_queues;	    /* I/O queue pairs, 1 to VHOST_NVME_QUEUES_MAX */
	uint32_t queue_size_max;    /* entries */
	/* Front-ends made for SPDK 18.04: features are answered where Identify data is. */
	bool generation_1804;
};

/* An interrupt vector for each completion queue, and NVME_VECTORS_MAX of them. */
#define VHOST_NVME_QUEUES_MAX 127

struct vhost_nvme_endpoint;

/* As vhost_endpoint_start and vhost_endpoint_stop. */
int vhost_nvme_endpoint_start(const struct vhost_nvme_params *params,
			      struct vhost_nvme_endpoint **ret_ep, struct err *reterr);
void vhost_nvme_endpoint_stop(struct vhost_nvme_endpoint *ep, void (*stopped)(void *arg),
			      void *arg);
/* As above; I/O queues, by the identifier of the completion queue. */
void vhost_nvme_endpoint_visit(const struct vhost_nvme_endpoint *ep, const struct queue_visitor *v);
void vhost_nvme_endpoint_drain(struct vhost_nvme_endpoint *ep, bool drained);
int vhost_nvme_endpoint_queue_move(struct vhost_nvme_endpoint *ep, uint32_t idx, struct loop *loop,
				   struct err *reterr);
/* Where its connections come from: for endpoint_stats_get. */
struct endpoint *vhost_nvme_endpoint_socket(const struct vhost_nvme_endpoint *ep);

/* As vhost_check_lost below. */
void vhost_nvme_check_lost(void);

/*
 * Ends the sessions whose guest memory, dirty log or in-flight area was truncated by the
 * front-end. To be called when the descriptor given to gmem_fault_install was written.
 */
void vhost_check_lost(void);

#endif
