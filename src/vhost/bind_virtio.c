/*
 * Between a session and its virtio device model: which features the front adds to the model's own,
 * and how a change of the config space reaches the front-end.
 */
#include "vhost/session.h"

uint64_t session_features_offered(const struct session *s)
{
	uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_ANY_LAYOUT | VIRTIO_F_INDIRECT_DESC |
			    VIRTIO_F_EVENT_IDX | VIRTIO_F_IN_ORDER | VIRTIO_F_NOTIFICATION_DATA |
			    VIRTIO_F_RING_RESET | VHOST_F_LOG_ALL | VHOST_USER_F_PROTOCOL;

	if (s->params.packed)
		features |= VIRTIO_F_RING_PACKED;
	return features | s->vdev->ops->features(s->vdev);
}

/* Only what a storage device needs: front-ends acknowledge whatever they know. */
uint64_t session_proto_features_offered(void)
{
	return VHOST_PF_MQ | VHOST_PF_LOG_SHMFD | VHOST_PF_REPLY_ACK | VHOST_PF_BACKEND_REQ |
	       VHOST_PF_CONFIG | VHOST_PF_BACKEND_SEND_FD | VHOST_PF_INFLIGHT_SHMFD |
	       VHOST_PF_RESET_DEVICE | VHOST_PF_CONFIGURE_MEM_SLOTS | VHOST_PF_STATUS;
}

static void session_on_config_change(struct vdev *dev, void *front)
{
	struct session *s = front;

	if (s->proto_features & VHOST_PF_BACKEND_REQ && s->proto_features & VHOST_PF_CONFIG)
		back_channel_config_change(&s->back);
}

static void session_wake_queue(struct vdev *dev, void *front, uint32_t idx)
{
	struct session *s = front;

	vring_loop_wake(&s->rings[idx].v);
}

void session_bind_vdev(struct session *s)
{
	s->vdev->front = s;
	s->vdev->wake_queue = session_wake_queue;
	s->vdev->on_config_change = session_on_config_change;
}

void session_unbind_vdev(struct session *s)
{
	s->vdev->on_config_change = NULL;
	s->vdev->front = NULL;
	s->vdev->ops->free(s->vdev);
	s->vdev = NULL;
}
