/*
 * What a virtio device model offers a front (vhost-user today, vfio-user later). Port 3 of the
 * house plan.
 *
 * A front makes one `struct vdev` per connection from a device's definition; it asks features and
 * config space on main, and starts queues on data loops. The model handles chains, and gives each
 * back with virtq_push exactly once, on the queue's loop, not before on_chain returned.
 */
#ifndef VIRTIO_VDEV_H
#define VIRTIO_VDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "virtq/virtq.h"

#define VDEV_CONFIG_MAX 256 /* bytes of config space a front may ask for, zero-filled */

struct vdev;
struct loop;
struct blk_tally;
struct parcel;

struct vdev_ops {
	const char *type;   /* "blk" */
	uint32_t device_id; /* virtio 1.3, 5: 2 block, 8 SCSI host */
	size_t slot_bytes;  /* per-chain request struct, begins with struct vq_chain */

	/* Thread: main. */
	uint64_t (*features)(const struct vdev *dev); /* device-specific bits offered */
	void (*features_set)(struct vdev *dev, uint64_t negotiated);
	void (*config_read)(const struct vdev *dev, uint8_t config[VDEV_CONFIG_MAX]);
	/* -EINVAL: that field is not writable, or the value is not legal. */
	int (*config_write)(struct vdev *dev, uint32_t off, const void *src, uint32_t len);
	void (*reset)(struct vdev *dev);
	void (*free)(struct vdev *dev);
	/*
	 * Hand-over: what this connection's model knows beyond its parameters, the negotiated
	 * features and guest memory, while no queue runs; and in the successor, after features_set.
	 * Both NULL: nothing. Errors, named: -EBUSY, -EPROTO (the parcel is checked).
	 */
	int (*pack)(const struct vdev *dev, struct parcel *p, struct err *reterr);
	int (*unpack)(struct vdev *dev, struct parcel *p, struct err *reterr);

	/* Thread: the queue's loop. *ret_queue: the model's per-queue state. */
	int (*queue_start)(struct vdev *dev, uint32_t idx, struct virtq *vq, struct loop *loop,
			   void **ret_queue, struct err *reterr);
	/* Optional, before the first chain: what the queue does counts for tally, too. */
	void (*queue_tally)(void *queue, struct blk_tally *tally);
	void (*on_chain)(void *queue, struct vq_chain *chain);
	/* Optional: no further chain comes before queue_stop; what the model holds back for limits
	 * goes on now. */
	void (*queue_drain)(void *queue);
	/* Every chain has been pushed. */
	void (*queue_stop)(void *queue);
	/*
	 * For a lazy queue, whose chains stay in the ring until the model has something to say (an
	 * event queue): on_chain is not called; on_lazy pops what it can use. Returns whether it
	 * waits for more chains. NULL: the model has none.
	 */
	bool (*queue_is_lazy)(const struct vdev *dev, uint32_t idx);
	bool (*on_lazy)(void *queue);
};

struct vdev {
	const struct vdev_ops *ops;
	const char *name; /* for messages */
	uint32_t queue_count_max;
	uint32_t queue_size_max;
	/* Set by the front; called on main when the config space changed (resize). May be NULL. */
	void (*on_config_change)(struct vdev *dev, void *front);
	/* Set by the front: on_lazy is called soon. Thread: the queue's loop, while it runs. */
	void (*wake_queue)(struct vdev *dev, void *front, uint32_t idx);
	void *front;
};

/* ---- the models ---- */

struct blk_dev;
struct blk_limits;

struct vblk_params {
	const char *name;   /* for messages */
	const char *serial; /* at most 20 bytes are shown */
	uint16_t num_queues;
	uint32_t queue_size_max;
	bool read_only;
	bool packed;	    /* offered by front as feature; kept here for config completeness */
	uint32_t seg_max;   /* 0: default 126 */
	uint32_t size_max;  /* 0: not offered */
	bool guest_buffers; /* register guest memory with the back-end */
	struct blk_limits *limits; /* of the device; a reference is taken. NULL: none */
};

/* A virtio-blk model on an open node (a reference is taken). Errors: -EINVAL named. Thread: main.
 */
int vblk_new(struct blk_dev *dev, const struct vblk_params *params, struct vdev **ret_vdev,
	     struct err *reterr);

struct scsi_host;

struct vscsi_params {
	const char *name;	    /* for messages */
	const char *initiator_name; /* of this connection's initiator port: see scsi_nexus_open */
	uint16_t num_queues; /* request queues, 1 to 253; control and event come in addition */
	uint32_t queue_size_max;
	uint32_t seg_max; /* 0: default 126 */
};

/* A virtio-scsi model: one I_T nexus with host (a reference is taken). -EINVAL named, -EEXIST: the
 * initiator name is in use. Thread: main. */
int vscsi_new(struct scsi_host *host, const struct vscsi_params *params, struct vdev **ret_vdev,
	      struct err *reterr);

#endif
