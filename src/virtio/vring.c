#include "virtio/vring.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/num.h"
#include "base/trace.h"

static const char *const vring_state_names[] = {
#define X(n) #n,
	VRING_STATES(X)
#undef X
};

static const bool vring_moves[VRING_STATE_COUNT][VRING_STATE_COUNT] = {
	[VRING_STOPPED] = { [VRING_RUNNING] = true },
	[VRING_RUNNING] = { [VRING_DRAINING] = true, [VRING_BROKEN] = true },
	[VRING_BROKEN] = { [VRING_DRAINING] = true },
	[VRING_DRAINING] = { [VRING_STOPPED] = true },
};

const char *vring_state_name(enum vring_state state)
{
	return vring_state_names[state];
}

static void vring_state_set(struct vring *v, enum vring_state state)
{
	ASSERT(vring_moves[v->state][state]);
	trace_put(TRACE_VRING_STATE, (uint64_t)v->idx << 32 | v->state, state);
	v->state = state;
}

static void vring_on_done(struct loop_msg *msg)
{
	struct vring *v = container_of(msg, struct vring, done_msg);
	enum vring_cmd cmd = v->cmd;

	v->cmd = VRING_CMD_NONE;
	switch (cmd) {
	case VRING_CMD_START:
		if (v->result) {
			vring_state_set(v, VRING_BROKEN);
			v->failed = true;
		}
		break;
	case VRING_CMD_DRAIN:
		v->base = v->setup.base;
		v->drained = !v->on_record;
		vring_state_set(v, VRING_STOPPED);
		break;
	case VRING_CMD_CALL:
		vring_fd_set(&v->call_fd, v->cmd_fd);
		v->cmd_fd = -1;
		break;
	case VRING_CMD_MAP:
		break;
	case VRING_CMD_NONE:
		UNREACHABLE();
	}
	v->owner->on_done(v);
}

static void vring_on_broken(struct loop_msg *msg)
{
	struct vring *v = container_of(msg, struct vring, broken_msg);

	v->failed = true;
	if (v->state == VRING_RUNNING)
		vring_state_set(v, VRING_BROKEN);
	v->owner->on_broken(v, v->cause);
}

void vring_init(struct vring *v, const struct vring_owner *owner, uint32_t idx)
{
	*v = (struct vring){ .owner = owner,
			     .idx = idx,
			     .kick_fd = -1,
			     .call_fd = -1,
			     .cmd_fd = -1,
			     .cmd_msg.fn = vring_loop_run,
			     .done_msg.fn = vring_on_done,
			     .broken_msg.fn = vring_on_broken,
			     .wake_msg.fn = vring_loop_on_wake,
			     .coalesce_msg.fn = vring_loop_on_coalesce };
	vring_loop_init(v);
}

void vring_fd_set(int *slot, int fd)
{
	if (*slot >= 0)
		close(*slot);
	*slot = fd;
}

void vring_fini(struct vring *v)
{
	ASSERT(v->state == VRING_STOPPED && v->cmd == VRING_CMD_NONE);
	vring_fd_set(&v->kick_fd, -1);
	vring_fd_set(&v->call_fd, -1);
}

/* virtio 1.3, 2.7 and 2.8: alignment of the three parts */
#define VRING_DESC_ALIGN	   16
#define VRING_DRIVER_ALIGN(packed) ((packed) ? 4 : 2)
#define VRING_DEVICE_ALIGN	   4

/* Our address of one part of a ring, or NULL with reterr filled. */
static void *vring_part(const struct vring_place *place, const struct gmem *map, const char *what,
			uint64_t addr, uint64_t bytes, uint32_t align, struct err *reterr)
{
	void *p = place->user_addresses ? gmem_uva_to_host(map, uva(addr), bytes)
					: gmem_gpa_to_host(map, gpa(addr), bytes);
	const char *kind = place->user_addresses ? "user" : "guest";

	if (!p)
		err_set(reterr, -EFAULT,
			"%s: %llu bytes at %s address 0x%llx are not in guest memory", what,
			(unsigned long long)bytes, kind, (unsigned long long)addr);
	else if ((uintptr_t)p % align) {
		err_set(reterr, -EFAULT, "%s: %s address 0x%llx is not a multiple of %u", what,
			kind, (unsigned long long)addr, align);
		p = NULL;
	}
	return p;
}

int vring_place_setup(const struct vring_place *place, struct virtq_setup *setup,
		      struct err *reterr)
{
	bool packed = setup->features & VIRTIO_F_RING_PACKED;
	uint64_t desc_bytes, driver_bytes, device_bytes;

	virtq_ring_bytes(setup->features, setup->size, &desc_bytes, &driver_bytes, &device_bytes);
	setup->desc = vring_part(place, setup->map, "descriptor table", place->desc, desc_bytes,
				 VRING_DESC_ALIGN, reterr);
	setup->avail = setup->used = NULL;
	if (setup->desc)
		setup->avail = vring_part(place, setup->map, "available ring", place->driver,
					  driver_bytes, VRING_DRIVER_ALIGN(packed), reterr);
	if (setup->avail)
		setup->used = vring_part(place, setup->map, "used ring", place->device,
					 device_bytes, VRING_DEVICE_ALIGN, reterr);
	if (!setup->used)
		return -EFAULT;
	if (!place->user_addresses)
		setup->used_gpa = gpa(place->device);
	else if (!gmem_uva_to_gpa(setup->map, uva(place->device), device_bytes, &setup->used_gpa))
		return err_set(reterr, -EFAULT, "used ring: not in guest memory");
	return 0;
}

static void vring_cmd_post(struct vring *v, enum vring_cmd cmd)
{
	ASSERT(v->cmd == VRING_CMD_NONE);
	v->cmd = cmd;
	v->result = 0;
	loop_post(v->loop, &v->cmd_msg);
}

void vring_start(struct vring *v, struct loop *loop, const struct virtq_setup *setup)
{
	vring_state_set(v, VRING_RUNNING);
	v->loop = loop;
	v->setup = *setup;
	v->drained = false;
	vring_cmd_post(v, VRING_CMD_START);
}

void vring_start_failed(struct vring *v)
{
	ASSERT(v->state == VRING_STOPPED);
	v->failed = true;
}

void vring_drain(struct vring *v)
{
	vring_state_set(v, VRING_DRAINING);
	vring_cmd_post(v, VRING_CMD_DRAIN);
}

void vring_call_set(struct vring *v, int fd, uint32_t *isr)
{
	if (v->state == VRING_STOPPED) {
		vring_fd_set(&v->call_fd, fd);
		v->isr = isr;
		return;
	}
	v->cmd_fd = fd;
	v->cmd_isr = isr;
	vring_cmd_post(v, VRING_CMD_CALL);
}

/* Without an answer: before the ring is drained it has run. */
static void vring_tell(struct vring *v, struct loop_msg *msg, bool *posted)
{
	if (v->state == VRING_RUNNING && !__atomic_exchange_n(posted, true, __ATOMIC_ACQ_REL))
		loop_post(v->loop, msg);
}

void vring_wake(struct vring *v)
{
	vring_tell(v, &v->wake_msg, &v->wake_posted);
}

void vring_owner_coalesce(struct vring_owner *owner, const struct vring_coalescing *c)
{
	uint64_t base_us = MIN(c->delay_base_us, VRING_DELAY_BASE_MAX_US);

	__atomic_store_n(&owner->coalescing, base_us << 32 | c->iops_threshold, __ATOMIC_RELAXED);
}

void vring_coalesce(struct vring *v)
{
	vring_tell(v, &v->coalesce_msg, &v->coalesce_posted);
}

void vring_map_set(struct vring *v, struct gmem *map)
{
	ASSERT(v->state != VRING_STOPPED);
	v->cmd_map = map;
	vring_cmd_post(v, VRING_CMD_MAP);
}

/* Between the answers to START and the post of DRAIN the virtq is there: invariant 2. */
static bool vring_has_virtq(const struct vring *v)
{
	return (v->state == VRING_RUNNING || v->state == VRING_BROKEN) &&
	       v->cmd != VRING_CMD_START && v->vq;
}

void vring_stats(const struct vring *v, struct queue_stats *ret_stats)
{
	static const uint8_t states[VRING_STATE_COUNT] = {
		[VRING_STOPPED] = QUEUE_STOPPED,
		[VRING_RUNNING] = QUEUE_RUNNING,
		[VRING_DRAINING] = QUEUE_CHANGING,
		[VRING_BROKEN] = QUEUE_BROKEN,
	};
	struct virtq_stats vs;
	uint64_t oldest_ns, merged;

	*ret_stats = (struct queue_stats){ .idx = v->idx, .kind = "virtqueue" };
	ret_stats->state =
		v->cmd == VRING_CMD_START ? QUEUE_CHANGING : (enum queue_state)states[v->state];
	if (!vring_has_virtq(v))
		return;
	virtq_stats_get(v->vq, &vs);
	oldest_ns = virtq_oldest(v->vq);
	ret_stats->loop = loop_name(v->loop);
	ret_stats->size = virtq_size(v->vq);
	ret_stats->in_flight = virtq_inflight(v->vq);
	ret_stats->oldest_ns = queue_age_ns(oldest_ns);
	ret_stats->requests = vs.chains;
	ret_stats->publishes = vs.publishes;
	merged = MIN(v->hold.merged + v->hold.owed, vs.notifies);
	ret_stats->interrupts = vs.notifies - merged;
	ret_stats->interrupts_suppressed = vs.notifies_suppressed + merged;
	ret_stats->kicks = v->source.kicks + v->counts.wakes;
	ret_stats->kick_errors = v->source.kick_errors;
	ret_stats->arms = v->source.arms;
	memcpy(ret_stats->polls, v->counts.polls, sizeof(ret_stats->polls));
}
