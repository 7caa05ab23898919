/* Messages of the scripted vfio-user client; see vfufe.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vfufe.h"

const char *vfe_cmd_name(uint32_t cmd)
{
	switch (cmd) {
#define X(n, name)                                                                                 \
	case n:                                                                                    \
		return #name;
		VFE_CMDS(X)
#undef X
	default:
		return "unknown";
	}
}

static int vfe_broken(struct vfe *v, uint32_t cmd, const char *what, uint64_t got)
{
	snprintf(v->fe.why, sizeof(v->fe.why), "%s: %s, got %llu", vfe_cmd_name(cmd), what,
		 (unsigned long long)got);
	return -EPROTO;
}

/* ---- the header ---- */

int vfe_send(struct vfe *v, uint16_t cmd, uint32_t flags, const void *payload, uint32_t len,
	     const int *fds, unsigned fd_count)
{
	struct vfe_hdr hdr = { v->next_id, cmd, VFE_HDR_BYTES + len, flags, 0 };
	uint8_t small[512], *buf = small;
	int rc;

	if (sizeof(hdr) + len > sizeof(small))
		buf = malloc(sizeof(hdr) + len);
	if (!buf)
		return -ENOMEM;
	memcpy(buf, &hdr, sizeof(hdr));
	if (len)
		memcpy(buf + sizeof(hdr), payload, len);
	rc = fe_send_raw(&v->fe, buf, sizeof(hdr) + len, fds, fd_count);
	if (buf != small)
		free(buf);
	return rc ? rc : v->next_id++;
}

void vfe_msg_close(struct vfe_msg *msg)
{
	for (unsigned i = 0; i < msg->fd_count; i++)
		close(msg->fds[i]);
	msg->fd_count = 0;
}

int vfe_recv(struct vfe *v, struct vfe_msg *m)
{
	struct fe_msg fds = { .fd_count = 0 };
	int rc = fe_recv_raw(&v->fe, &m->hdr, sizeof(m->hdr), &fds);

	m->payload = v->buf;
	m->len = 0;
	if (!rc && (m->hdr.size < VFE_HDR_BYTES || m->hdr.size > VFE_HDR_BYTES + VFE_PAYLOAD_MAX))
		rc = vfe_broken(v, m->hdr.cmd, "size", m->hdr.size);
	if (!rc) {
		m->len = m->hdr.size - VFE_HDR_BYTES;
		rc = fe_recv_raw(&v->fe, v->buf, m->len, &fds);
	}
	m->fd_count = fds.fd_count;
	memcpy(m->fds, fds.fds, sizeof(int) * fds.fd_count);
	if (rc)
		vfe_msg_close(m);
	return rc;
}

int vfe_dma_serve(struct vfe *v, const struct vfe_msg *m)
{
	bool write = m->hdr.cmd == VFE_DMA_WRITE;
	struct vfe_hdr hdr = { m->hdr.id, m->hdr.cmd, VFE_HDR_BYTES, VFE_REPLY, 0 };
	uint64_t io[2];
	uint8_t *reply, *host;
	int rc;

	if ((m->hdr.cmd != VFE_DMA_READ && !write) || m->hdr.flags || m->fd_count ||
	    m->len < sizeof(io))
		return vfe_broken(v, m->hdr.cmd, "a request of the server", m->hdr.flags);
	memcpy(io, m->payload, sizeof(io));
	if (io[1] > VFE_XFER_MAX || m->len != sizeof(io) + (write ? io[1] : 0))
		return vfe_broken(v, m->hdr.cmd, "count", io[1]);
	if (v->dma_deaf)
		return 0;
	host = fe_host(&v->fe, io[0], io[1]);
	if (!host) {
		hdr.flags |= VFE_ERROR;
		hdr.error = EFAULT;
		return fe_send_raw(&v->fe, &hdr, sizeof(hdr), NULL, 0);
	}
	hdr.size += (uint32_t)(sizeof(io) + (write ? 0 : io[1]));
	reply = malloc(hdr.size);
	if (!reply)
		return -ENOMEM;
	memcpy(reply, &hdr, sizeof(hdr));
	memcpy(reply + sizeof(hdr), io, sizeof(io));
	if (write) {
		memcpy(host, m->payload + sizeof(io), io[1]);
		v->dma_writes++;
	} else {
		memcpy(reply + sizeof(hdr) + sizeof(io), host, io[1]);
		v->dma_reads++;
	}
	rc = fe_send_raw(&v->fe, reply, hdr.size, NULL, 0);
	free(reply);
	return rc;
}

int vfe_answer(struct vfe *v, int id, uint16_t cmd, uint32_t max, struct vfe_msg *m)
{
	int rc;

	v->refused = false;
	for (;;) {
		rc = vfe_recv(v, m);
		if (rc)
			return rc;
		if (m->hdr.flags & VFE_REPLY)
			break;
		rc = vfe_dma_serve(v, m);
		vfe_msg_close(m);
		if (rc)
			return rc;
	}
	if (m->hdr.id != (uint16_t)id || m->hdr.cmd != cmd)
		rc = vfe_broken(v, cmd, "an answer with its id and number", m->hdr.id);
	else if (m->hdr.flags == (VFE_REPLY | VFE_ERROR) && m->hdr.error && !m->len)
		v->refused = true;
	else if (m->hdr.flags != VFE_REPLY || m->hdr.error)
		rc = vfe_broken(v, cmd, "flags of an answer", m->hdr.flags);
	else if (m->len > max)
		rc = vfe_broken(v, cmd, "an answer no larger than asked for", m->len);
	if (v->refused)
		rc = -(int)m->hdr.error;
	if (rc)
		vfe_msg_close(m);
	return rc;
}

int vfe_call(struct vfe *v, uint16_t cmd, const void *payload, uint32_t len, const int *fds,
	     unsigned fd_count, uint32_t max, struct vfe_msg *ret_msg)
{
	struct vfe_msg m;
	int rc = vfe_send(v, cmd, 0, payload, len, fds, fd_count);

	if (rc >= 0)
		rc = vfe_answer(v, rc, cmd, max, &m);
	if (rc)
		return rc;
	if (ret_msg) {
		*ret_msg = m;
	} else if (m.fd_count) {
		vfe_msg_close(&m);
		rc = vfe_broken(v, cmd, "no descriptors", m.fd_count);
	}
	return rc;
}

/* ---- one message each ---- */

int vfe_version(struct vfe *v, uint16_t major, uint16_t minor, const char *json)
{
	uint8_t p[1024];
	uint16_t version[2] = { major, minor };
	uint32_t len = json ? (uint32_t)strlen(json) + 1 : 0;
	struct vfe_msg m;
	int rc;

	if (len > sizeof(p) - 4)
		return -EMSGSIZE;
	memcpy(p, version, 4);
	if (json)
		memcpy(p + 4, json, len);
	rc = vfe_call(v, VFE_VERSION, p, 4 + len, NULL, 0, 4 + len, &m);
	if (rc)
		return rc;
	memcpy(version, m.payload, 4);
	if (m.len < 4 || m.fd_count || version[0] != major || version[1] > minor)
		return vfe_broken(v, VFE_VERSION, "a version not above ours", version[1]);
	if (m.len - 4 > sizeof(v->version_json) || (m.len > 4 && m.payload[m.len - 1]))
		return vfe_broken(v, VFE_VERSION, "text with its end", m.len);
	v->version_json[0] = '\0';
	memcpy(v->version_json, m.payload + 4, m.len - 4);
	return 0;
}

int vfe_dma_map(struct vfe *v, uint64_t iova, uint64_t size, uint64_t offset, uint32_t flags,
		int fd)
{
	struct {
		uint32_t argsz, flags;
		uint64_t offset, iova, size;
	} p = { sizeof(p), flags, offset, iova, size };

	return vfe_call(v, VFE_DMA_MAP, &p, sizeof(p), &fd, fd >= 0, 0, NULL);
}

int vfe_dma_unmap(struct vfe *v, uint64_t iova, uint64_t size, uint32_t flags)
{
	struct {
		uint32_t argsz, flags;
		uint64_t iova, size;
	} p = { sizeof(p), flags, iova, size };

	return vfe_call(v, VFE_DMA_UNMAP, &p, sizeof(p), NULL, 0, sizeof(p), NULL);
}

int vfe_region_map(struct vfe *v, unsigned region, uint32_t flags, bool with_fd)
{
	struct fe_region *r = &v->fe.region[region];
	int rc = vfe_dma_map(v, r->wire.gpa, r->wire.size_bytes, r->wire.mmap_off, flags,
			     with_fd ? r->fd : -1);

	r->known |= !rc;
	return rc;
}

int vfe_region_unmap(struct vfe *v, unsigned region)
{
	struct fe_region *r = &v->fe.region[region];
	int rc = vfe_dma_unmap(v, r->wire.gpa, r->wire.size_bytes, 0);

	r->known &= !!rc;
	return rc;
}

int vfe_get_info(struct vfe *v, uint32_t ret_info[4])
{
	uint32_t p[4] = { sizeof(p) };
	struct vfe_msg m;
	int rc = vfe_call(v, VFE_DEVICE_GET_INFO, p, sizeof(p), NULL, 0, sizeof(p), &m);

	if (rc)
		return rc;
	if (m.len != sizeof(p))
		return vfe_broken(v, VFE_DEVICE_GET_INFO, "16 bytes", m.len);
	memcpy(ret_info, m.payload, sizeof(p));
	return 0;
}

int vfe_get_region_info(struct vfe *v, uint32_t index, struct vfe_region_info *info,
			uint64_t ret_area[2], int *ret_fd)
{
	struct vfe_region_info p = { .argsz = sizeof(p), .index = index };
	struct vfe_msg m;
	int rc = vfe_call(v, VFE_DEVICE_GET_REGION_INFO, &p, sizeof(p), NULL, 0, sizeof(p), &m);

	*ret_fd = -1;
	ret_area[0] = ret_area[1] = 0;
	if (rc)
		return rc;
	if (m.len != sizeof(p) || m.fd_count)
		return vfe_broken(v, VFE_DEVICE_GET_REGION_INFO, "32 bytes, no descriptor", m.len);
	memcpy(info, m.payload, sizeof(*info));
	if (info->argsz == sizeof(p))
		return 0;
	p.argsz = info->argsz;
	rc = vfe_call(v, VFE_DEVICE_GET_REGION_INFO, &p, sizeof(p), NULL, 0, p.argsz, &m);
	if (rc)
		return rc;
	memcpy(info, m.payload, sizeof(*info));
	if (m.len != p.argsz || m.fd_count != 1 || !(info->flags & VFE_REGION_CAPS) ||
	    info->cap_offset + 32u > m.len)
		return vfe_broken(v, VFE_DEVICE_GET_REGION_INFO, "one area, one descriptor",
				  m.fd_count);
	memcpy(ret_area, m.payload + info->cap_offset + 16, 16);
	*ret_fd = m.fds[0];
	return 0;
}

int vfe_get_irq_info(struct vfe *v, uint32_t index, struct vfe_irq_info *info)
{
	struct vfe_irq_info p = { .argsz = sizeof(p), .index = index };
	struct vfe_msg m;
	int rc = vfe_call(v, VFE_DEVICE_GET_IRQ_INFO, &p, sizeof(p), NULL, 0, sizeof(p), &m);

	if (!rc)
		memcpy(info, m.payload, sizeof(*info));
	return rc;
}

int vfe_set_irqs(struct vfe *v, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
		 const uint8_t *bools, const int *fds, unsigned fd_count)
{
	uint32_t len = 20 + (bools ? count : 0);
	uint32_t p[5 + VFE_VECTORS_MAX / 4] = { len, flags, index, start, count };

	if (len > sizeof(p))
		return -EMSGSIZE;
	if (bools)
		memcpy(p + 5, bools, count);
	return vfe_call(v, VFE_DEVICE_SET_IRQS, p, len, fds, fd_count, 0, NULL);
}

struct region_io {
	uint64_t off;
	uint32_t region, count;
	uint8_t bytes[4096];
};

int vfe_region_read(struct vfe *v, uint32_t region, uint64_t off, void *ret, uint32_t len)
{
	struct region_io p = { .off = off, .region = region, .count = len };
	struct vfe_msg m;
	int rc = vfe_call(v, VFE_REGION_READ, &p, 16, NULL, 0, 16 + len, &m);

	if (rc)
		return rc;
	if (m.len != 16 + len || memcmp(m.payload, &p, 16))
		return vfe_broken(v, VFE_REGION_READ, "the request and its bytes", m.len);
	memcpy(ret, m.payload + 16, len);
	return 0;
}

int vfe_region_write(struct vfe *v, uint32_t region, uint64_t off, const void *bytes, uint32_t len)
{
	struct region_io p = { .off = off, .region = region, .count = len };
	struct vfe_msg m;
	int rc;

	if (len > sizeof(p.bytes))
		return -EMSGSIZE;
	memcpy(p.bytes, bytes, len);
	rc = vfe_call(v, VFE_REGION_WRITE, &p, 16 + len, NULL, 0, 16, &m);
	if (!rc && (m.len != 16 || memcmp(m.payload, &p, 16)))
		return vfe_broken(v, VFE_REGION_WRITE, "the request again", m.len);
	return rc;
}

int vfe_region_post(struct vfe *v, uint32_t region, uint64_t off, const void *bytes, uint32_t len)
{
	struct region_io p = { .off = off, .region = region, .count = len };
	int rc;

	if (len > sizeof(p.bytes))
		return -EMSGSIZE;
	memcpy(p.bytes, bytes, len);
	rc = vfe_send(v, VFE_REGION_WRITE, VFE_NO_REPLY, &p, 16 + len, NULL, 0);
	return rc < 0 ? rc : 0;
}

int vfe_cfg_read(struct vfe *v, uint32_t off, uint32_t len, uint32_t *ret_value)
{
	*ret_value = 0;
	return vfe_region_read(v, VFE_REGION_CFG, off, ret_value, len);
}

int vfe_cfg_write(struct vfe *v, uint32_t off, uint32_t len, uint32_t value)
{
	return vfe_region_write(v, VFE_REGION_CFG, off, &value, len);
}

int vfe_reset(struct vfe *v)
{
	return vfe_call(v, VFE_DEVICE_RESET, NULL, 0, NULL, 0, 0, NULL);
}

int vfe_feature(struct vfe *v, uint32_t flags, const void *data, uint32_t len, void *ret,
		uint32_t max)
{
	uint32_t room = 8 + (max > len ? max : len);
	uint8_t *p = malloc(8 + len);
	struct vfe_msg m;
	int rc;

	if (!p)
		return -ENOMEM;
	memcpy(p, (uint32_t[]){ room, flags }, 8);
	if (len)
		memcpy(p + 8, data, len);
	rc = vfe_call(v, VFE_DEVICE_FEATURE, p, 8 + len, NULL, 0, room, &m);
	free(p);
	if (rc)
		return rc;
	if (m.len < 8 || memcmp(m.payload + 4, &flags, 4))
		return vfe_broken(v, VFE_DEVICE_FEATURE, "the request's flags", m.len);
	if (ret)
		memcpy(ret, m.payload + 8, m.len - 8 < max ? m.len - 8 : max);
	return 0;
}

int vfe_state_set(struct vfe *v, uint32_t state)
{
	return vfe_feature(v, VFE_FEATURE_DEVICE_STATE | VFE_FEATURE_SET, (uint32_t[]){ state, 0 },
			   8, NULL, 0);
}

int vfe_state_get(struct vfe *v, uint32_t *ret_state)
{
	uint32_t data[2] = { 0 };
	int rc = vfe_feature(v, VFE_FEATURE_DEVICE_STATE | VFE_FEATURE_GET, NULL, 0, data,
			     sizeof(data));

	*ret_state = data[0];
	return rc;
}

int vfe_mig_read(struct vfe *v, void *ret, uint32_t max)
{
	uint32_t p[2] = { 8 + max, max }, got[2];
	struct vfe_msg m;
	int rc = vfe_call(v, VFE_MIG_DATA_READ, p, sizeof(p), NULL, 0, p[0], &m);

	if (rc)
		return rc;
	memcpy(got, m.payload, sizeof(got));
	if (m.len < 8 || got[0] != m.len || got[1] != m.len - 8)
		return vfe_broken(v, VFE_MIG_DATA_READ, "its size", got[1]);
	memcpy(ret, m.payload + 8, got[1]);
	return (int)got[1];
}

int vfe_mig_write(struct vfe *v, const void *bytes, uint32_t len)
{
	uint32_t *p = malloc(8 + len);
	int rc;

	if (!p)
		return -ENOMEM;
	p[0] = 8 + len;
	p[1] = len;
	memcpy(p + 2, bytes, len);
	rc = vfe_call(v, VFE_MIG_DATA_WRITE, p, 8 + len, NULL, 0, 0, NULL);
	free(p);
	return rc;
}
