#include "vhost/msg.h"

#include <errno.h>
#include <unistd.h>

#include "base/check.h"

_Static_assert(sizeof(struct msg_hdr) == MSG_HDR_BYTES, "header");
_Static_assert(sizeof(struct msg_addr) == 40, "vring address");
_Static_assert(sizeof(struct msg_mem_reg) == 40, "memory region");
_Static_assert(sizeof(struct msg_config) == MSG_CONFIG_HDR_BYTES + MSG_CONFIG_MAX, "config");

const struct msg_row msg_table[] = {
#define MSG(number, name, size_min, size_max, fd_min, fd_max, feature, quiet, reply)               \
	{ { number, #name, size_min, size_max, fd_min, fd_max, feature, MSG_##reply },             \
	  MSG_QUIET_##quiet,                                                                       \
	  session_handle_##name },
#include "vhost/msg.def"
#undef MSG
};

const uint32_t msg_table_count = ARRAY_SIZE(msg_table);

const struct msg_row *msg_row_find(uint32_t number)
{
	for (uint32_t i = 0; i < msg_table_count; i++) {
		if (msg_table[i].shape.number == number)
			return &msg_table[i];
	}
	return NULL;
}

int msg_check(const struct msg_shape *shape, const struct msg *m, uint64_t proto_features,
	      struct err *reterr)
{
	if ((m->hdr.flags & MSG_VERSION_MASK) != MSG_VERSION || m->hdr.flags & MSG_REPLY)
		return err_set(reterr, -EINVAL,
			       "%s: flags: expected version 1 and no reply, got 0x%x", shape->name,
			       m->hdr.flags);
	if (m->hdr.size < shape->size_min || m->hdr.size > shape->size_max)
		return err_set(reterr, -EINVAL, "%s: payload: expected %u..%u bytes, got %u",
			       shape->name, shape->size_min, shape->size_max, m->hdr.size);
	if (m->fd_count < shape->fd_min || m->fd_count > shape->fd_max)
		return err_set(reterr, -EINVAL, "%s: descriptors: expected %u..%u, got %u",
			       shape->name, shape->fd_min, shape->fd_max, m->fd_count);
	if ((proto_features & shape->feature) != shape->feature)
		return err_set(reterr, -EINVAL,
			       "%s: needs protocol feature 0x%llx, which is not negotiated",
			       shape->name, (unsigned long long)shape->feature);
	return 0;
}

int msg_fd_take(struct msg *m, uint32_t i)
{
	int fd;

	if (i >= m->fd_count)
		return -1;
	fd = m->fds[i];
	m->fds[i] = -1;
	return fd;
}

void msg_fds_close(struct msg *m)
{
	for (uint32_t i = 0; i < m->fd_count; i++) {
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	}
	m->fd_count = 0;
}
