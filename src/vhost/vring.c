#include "vhost/vring.h"

#include <unistd.h>

#include "base/check.h"
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
			     .err_fd = -1,
			     .err_next_fd = -1,
			     .cmd_fd = -1,
			     .cmd_msg.fn = vring_loop_run,
			     .done_msg.fn = vring_on_done,
			     .broken_msg.fn = vring_on_broken };
	notify_init(&v->err_bell);
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
	ASSERT(v->state == VRING_STOPPED && v->cmd == VRING_CMD_NONE && !v->err_bell.busy);
	vring_fd_set(&v->kick_fd, -1);
	vring_fd_set(&v->call_fd, -1);
	vring_fd_set(&v->err_fd, -1);
}

bool vring_should_run(const struct vring *v)
{
	return v->num && v->have_addr && v->have_kick && v->enabled && !v->failed && !v->hold;
}

void vring_forget_kick(struct vring *v)
{
	v->have_kick = false;
	v->failed = false;
	vring_fd_set(&v->kick_fd, -1);
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

void vring_call_set(struct vring *v, int fd)
{
	if (v->state == VRING_STOPPED) {
		vring_fd_set(&v->call_fd, fd);
		return;
	}
	v->cmd_fd = fd;
	vring_cmd_post(v, VRING_CMD_CALL);
}

void vring_map_set(struct vring *v, struct gmem *map)
{
	ASSERT(v->state != VRING_STOPPED);
	v->cmd_map = map;
	vring_cmd_post(v, VRING_CMD_MAP);
}
