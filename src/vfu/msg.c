#include "vfu/msg.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"

static const struct vfu_row vfu_rows[] = {
#define VFU_MSG(number, name, size_min, size_max, fd_max, quiet)                                   \
	{ number, #name, size_min, size_max, fd_max, VFU_QUIET_##quiet, vfu_handle_##name },
#include "vfu/msg.def"
#undef VFU_MSG
};

const struct vfu_row *vfu_row_find(uint32_t number)
{
	for (size_t i = 0; i < ARRAY_SIZE(vfu_rows); i++) {
		if (vfu_rows[i].number == number)
			return &vfu_rows[i];
	}
	return NULL;
}

int vfu_msg_check(const struct vfu_row *row, const struct vfu_msg *m, struct err *reterr)
{
	if (m->payload < row->size_min || m->payload > row->size_max)
		return err_set(reterr, -EINVAL, "%s: payload: expected %u..%u bytes, got %u",
			       row->name, row->size_min, row->size_max, m->payload);
	if (m->fd_count > row->fd_max)
		return err_set(reterr, -EINVAL, "%s: descriptors: expected at most %u, got %u",
			       row->name, row->fd_max, m->fd_count);
	return 0;
}

int vfu_msg_reserve(struct vfu_msg *m, size_t payload)
{
	uint8_t *buf;

	ASSERT(payload <= VFU_PAYLOAD_MAX);
	if (m->buf && payload <= m->capacity)
		return 0;
	payload = payload < VFU_INFO_MAX ? VFU_INFO_MAX : payload;
	buf = realloc(m->buf, VFU_HDR_BYTES + payload);
	if (!buf)
		return -ENOMEM;
	m->buf = buf;
	m->capacity = payload;
	return 0;
}

int vfu_msg_fd_take(struct vfu_msg *m, uint32_t i)
{
	int fd;

	if (i >= m->fd_count)
		return -1;
	fd = m->fds[i];
	m->fds[i] = -1;
	return fd;
}

void vfu_msg_drop(struct vfu_msg *m)
{
	for (uint32_t i = 0; i < m->fd_count; i++) {
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	}
	m->fd_count = 0;
	m->payload = 0;
	m->reply_bytes = 0;
	m->reply_fd = -1;
	if (m->capacity > VFU_KEEP_BYTES) {
		free(m->buf);
		m->buf = NULL;
		m->capacity = 0;
	}
}

void vfu_msg_fini(struct vfu_msg *m)
{
	vfu_msg_drop(m);
	free(m->buf);
	m->buf = NULL;
	m->capacity = 0;
}
