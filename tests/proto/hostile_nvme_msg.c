/* The modes that attack an NVMe device with its protocol's messages; see hostile.h. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "hostile_nvme.h"

/* ---- vfio-user ---- */

static bool alive(int rc)
{
	return rc != -ECONNRESET && rc != -ETIMEDOUT && rc != -EPIPE;
}

/* Answers that are there are thrown away. */
static bool hush(struct nhost *a)
{
	struct pollfd p = { .fd = a->v.fe.sock, .events = POLLIN };

	while (poll(&p, 1, 0) == 1) {
		struct vfe_msg m;

		if (vfe_recv(&a->v, &m))
			return false;
		if (!(m.hdr.flags & VFE_REPLY) && hostile_rnd(8))
			vfe_dma_serve(&a->v, &m);
		vfe_msg_close(&m);
	}
	return true;
}

/* All that was said is answered, or the server hung up. */
static bool settled(struct nhost *a)
{
	uint32_t info[4] = { sizeof(info) };
	int id = vfe_send(&a->v, VFE_DEVICE_GET_INFO, 0, info, sizeof(info), NULL, 0);
	struct vfe_msg m = { .hdr = { .flags = 0 } };

	while (id >= 0 && !(m.hdr.flags & VFE_REPLY && m.hdr.id == (uint16_t)id)) {
		if (vfe_recv(&a->v, &m))
			return false;
		vfe_msg_close(&m);
		if (!(m.hdr.flags & VFE_REPLY))
			vfe_dma_serve(&a->v, &m);
	}
	return id >= 0;
}

/* Sent and not waited for. */
static bool say(struct nhost *a, uint16_t cmd, const void *payload, uint32_t len, const int *fds,
		unsigned fd_count)
{
	uint32_t flags = hostile_rnd(8) ? 0 : VFE_NO_REPLY;

	return vfe_send(&a->v, cmd, flags, payload, len, fds, fd_count) >= 0 && hush(a);
}

static bool unmap_all(struct nhost *a)
{
	struct fe *fe = &a->v.fe;
	bool whole = hostile_rnd(2);
	int rc = whole ? vfe_dma_unmap(&a->v, 0, 0, 2) : 0;

	for (unsigned i = 0; !whole && alive(rc) && i < fe->region_count; i++)
		rc = vfe_region_unmap(&a->v, i);
	nhost_burst(a, 16);
	pause_us(hostile_rnd(300));
	for (unsigned i = 0; alive(rc) && i < fe->region_count; i++)
		rc = vfe_region_map(&a->v, i, hostile_rnd(4) ? 3 : 1, hostile_rnd(8));
	return alive(rc);
}

static bool wild_irqs(struct nhost *a)
{
	static const uint32_t flags[] = { 0x24, 0x24, 0x21, 0x22, 0x11, 0x09, 0x0a, 0x14, 0x44 };
	uint32_t p[5 + 64] = { 20, 0, hostile_rnd(6), hostile_rnd(6), hostile_rnd(6) };
	int fds[8];
	bool ok = true;

	for (unsigned i = 0; ok && i < 40; i++) {
		unsigned n = hostile_rnd(2) ? 0 : hostile_rnd(8);

		p[1] = hostile_rnd(8) ? flags[hostile_rnd(9)] : (uint32_t)hostile_value();
		p[2] = hostile_rnd(2) ? VFE_IRQ_MSIX : hostile_rnd(6);
		p[3] = hostile_rnd(4) ? hostile_rnd(6) : (uint32_t)hostile_value();
		p[4] = hostile_rnd(2) ? n : (uint32_t)hostile_value();
		for (unsigned k = 0; k < n; k++)
			fds[k] = hostile_any_fd();
		ok = say(a, VFE_DEVICE_SET_IRQS, p, 20 + hostile_rnd(2) * hostile_rnd(64), fds, n);
		for (unsigned k = 0; k < n; k++)
			if (fds[k] >= 0)
				close(fds[k]);
		if (!(i % 8))
			nhost_burst(a, 8);
	}
	return ok;
}

static bool wild_regions(struct nhost *a)
{
	struct {
		uint64_t off;
		uint32_t region, count;
		uint8_t bytes[4096];
	} p;
	bool ok = true;

	for (unsigned i = 0; ok && i < 40; i++) {
		bool write = hostile_rnd(2);
		uint32_t len = hostile_rnd(16) ? hostile_rnd(16) : hostile_rnd(4096);

		p.off = hostile_rnd(2) ? hostile_rnd(0x5000) : hostile_value();
		p.region = hostile_rnd(4) ? hostile_rnd(9) : (uint32_t)hostile_value();
		p.count = hostile_rnd(8) ? len : (uint32_t)hostile_value();
		memset(p.bytes, (int)hostile_rnd(256), sizeof(p.bytes));
		ok = say(a, write ? VFE_REGION_WRITE : VFE_REGION_READ, &p, 16 + (write ? len : 0),
			 NULL, 0);
	}
	return ok;
}

static bool wild_message(struct nhost *a)
{
	struct vfe_hdr hdr = { (uint16_t)hostile_rnd(65536), (uint16_t)hostile_rnd(20), 0,
			       hostile_rnd(4) ? 0 : (uint32_t)hostile_value() & 0x3f, 0 };
	uint64_t p[2 + 64];
	uint32_t len = hostile_rnd(64) * 8;
	int fd = hostile_rnd(4) ? -1 : hostile_any_fd();
	bool ok;

	hdr.size = hostile_rnd(32) ? 16 + len : (uint32_t)hostile_value();
	for (unsigned i = 0; i < 64; i++)
		p[2 + i] = hostile_rnd(3) ? hostile_rnd(8) : hostile_value();
	p[2] = hostile_rnd(2) ? (uint64_t)hostile_rnd(9) << 32 | 32 : p[2];
	memcpy(p, &hdr, sizeof(hdr));
	ok = !fe_send_raw(&a->v.fe, p, 16 + len, &fd, fd >= 0) && hush(a);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Questions whose answers are never taken. */
static bool flood(struct nhost *a)
{
	uint32_t info[8] = { 32, 0, 7 };
	uint64_t io[2] = { 0, 7ull | 4096ull << 32 };

	a->v.fe.timeout_ms = 100;
	for (unsigned i = 0; i < 5000; i++) {
		bool read = hostile_rnd(2);

		if (vfe_send(&a->v, read ? VFE_REGION_READ : VFE_DEVICE_GET_REGION_INFO, 0,
			     read ? (void *)io : (void *)info, read ? 16 : 32, NULL, 0) < 0)
			return false;
	}
	return false;
}

static bool wild_stream(struct nhost *a)
{
	static uint8_t bytes[1 << 18];
	int n = 0, got = 1, rc = vfe_state_set(&a->v, VFE_STATE_STOP_COPY);
	uint32_t cuts = 1 + hostile_rnd(8);

	while (!rc && n < (1 << 17) && (got = vfe_mig_read(&a->v, bytes + n, 4096)) > 0)
		n += got;
	if (rc || got < 0 || vfe_state_set(&a->v, VFE_STATE_STOP) ||
	    vfe_state_set(&a->v, VFE_STATE_RESUMING))
		return alive(rc) && alive(got) && alive(vfe_reset(&a->v));
	for (uint32_t i = 0; n && i < cuts; i++)
		bytes[hostile_rnd((uint32_t)n)] = (uint8_t)hostile_value();
	if (n && hostile_rnd(2))
		n = (int)hostile_rnd((uint32_t)n);
	else if (hostile_rnd(2))
		n += (int)hostile_rnd(5000);
	for (int at = 0; alive(rc) && at < n; at += 4096)
		rc = vfe_mig_write(&a->v, bytes + at, (uint32_t)(n - at < 4096 ? n - at : 4096));
	if (alive(rc))
		rc = vfe_state_set(&a->v, VFE_STATE_RUNNING);
	nhost_burst(a, 16);
	return alive(rc) && (!rc || alive(vfe_reset(&a->v)));
}

static bool dirty_log(struct nhost *a)
{
	uint64_t range[4] = { hostile_rnd(2) ? 4096 : hostile_value(), hostile_rnd(3), 0,
			      hostile_rnd(2) ? 4 << 20 : hostile_value() };
	uint64_t report[3] = { hostile_rnd(2) ? 0 : hostile_value(),
			       hostile_rnd(2) ? 1 << 20 : hostile_value(),
			       hostile_rnd(2) ? 4096 : hostile_value() };
	static uint8_t map[4096];
	int rc = vfe_feature(&a->v, VFE_FEATURE_LOG_START | VFE_FEATURE_SET, range, sizeof(range),
			     NULL, 0);

	nhost_burst(a, 16);
	if (alive(rc))
		rc = vfe_feature(&a->v, VFE_FEATURE_LOG_REPORT | VFE_FEATURE_GET, report,
				 sizeof(report), map, sizeof(map));
	if (alive(rc))
		rc = vfe_feature(&a->v, VFE_FEATURE_LOG_STOP | VFE_FEATURE_SET, NULL, 0, NULL, 0);
	return alive(rc);
}

/* All of the memory goes; nothing of it may be touched here from then on. */
static void cut_case(struct hostile *h, struct nhost *a)
{
	struct nhost_opts o = { .queues = NHOST_QUEUES, .timeout_ms = 3000, .cut = true };

	if (!nhost_up(a, hostile_rnd(2) ? h->path : h->other, &o))
		return;
	nhost_burst(a, 32);
	pause_us(hostile_rnd(200));
	if (ftruncate(a->v.fe.region[0].fd, hostile_rnd(3) ? 0 : (off_t)hostile_rnd(64) * 4096))
		return;
	a->v.fe.timeout_ms = 500;
	for (unsigned i = 0; i < 6; i++) {
		vfe_doorbell(&a->v, 2 * hostile_rnd(NHOST_QUEUES + 1), hostile_rnd(NHOST_SIZE));
		pause_us(hostile_rnd(300));
		if (!nhost_swallow(a))
			return;
	}
}

void hostile_nvme_msg(struct hostile *h)
{
	static bool (*const steps[])(struct nhost * a) = { unmap_all,	 wild_irqs,   wild_regions,
							   wild_message, wild_stream, dirty_log };
	struct nhost_opts o = { .queues = NHOST_QUEUES, .timeout_ms = 3000, .wild = true };
	static struct nhost a;
	bool ok = true;

	if (!hostile_rnd(8)) {
		cut_case(h, &a);
	} else if (nhost_up(&a, hostile_rnd(2) ? h->path : h->other, &o)) {
		for (unsigned i = 0; ok && i < 20; i++) {
			nhost_burst(&a, 16);
			nhost_take(&a);
			ok = steps[hostile_rnd(hostile_rnd(2) ? 6 : 3)](&a) && settled(&a);
		}
		if (ok && !hostile_rnd(8))
			flood(&a);
	}
	nhost_down(&a);
}

/* ---- vhost-user-nvme ---- */

static bool user_admin(struct nhost *a)
{
	struct spec_nvme_sqe s = nhost_wild(a, true);
	uint32_t len = hostile_rnd(16) ? sizeof(s) : hostile_rnd(sizeof(s));

	return !fe_send(&a->fe, VNVMEFE_ADMIN, FE_FLAG_VERSION, &s, len, NULL, 0) &&
	       nhost_swallow(a);
}

static bool user_message(struct nhost *a)
{
	uint64_t p[8];
	int fd = hostile_rnd(2) ? -1 : hostile_any_fd();
	bool ok;

	for (unsigned i = 0; i < 8; i++)
		p[i] = hostile_rnd(3) ? hostile_rnd(16) : hostile_value();
	ok = !fe_send(&a->fe, 79 + hostile_rnd(8), hostile_rnd(8) ? 1 : hostile_rnd(16), p,
		      hostile_rnd(65), &fd, fd >= 0) &&
	     nhost_swallow(a);
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool user_memory(struct nhost *a)
{
	int rc;

	if (hostile_rnd(2))
		return !fe_set_mem_table(&a->fe) && nhost_swallow(a);
	rc = vnvmefe_bar(&a->u, hostile_rnd(2) ? 0x4000 : hostile_rnd(0x8000));
	if (a->u.bar_bytes < 0x1100) /* not for us to ring in */
		a->n.tr.doorbells = NULL;
	return alive(rc) && nhost_swallow(a);
}

static bool user_start_stop(struct nhost *a)
{
	for (unsigned i = 0; i < 8; i++) {
		if (vnvmefe_start_stop(&a->u, hostile_rnd(8) ? hostile_rnd(2) : hostile_value()))
			return false;
		if (hostile_rnd(2))
			nhost_burst(a, 8);
	}
	return nhost_swallow(a);
}

static bool user_ring(struct nhost *a)
{
	for (unsigned i = 0; i < 32; i++) {
		struct spec_nvme_sqe s = nhost_wild(a, false);

		nhost_put(a, 1 + hostile_rnd(NHOST_QUEUES), &s, !hostile_rnd(4));
	}
	for (unsigned i = 0; i < 4; i++) {
		uint32_t idx = hostile_rnd(2 * NHOST_QUEUES + 2);

		if (a->n.tr.doorbells)
			nvmedrv_doorbell(&a->n, idx, 0, (uint32_t)hostile_value());
		else if (vnvmefe_io_cmd(&a->u, hostile_rnd(2) ? idx : (uint32_t)hostile_value(),
					(uint32_t)hostile_value()))
			return false;
	}
	return nhost_swallow(a);
}

void hostile_nvme_user(struct hostile *h)
{
	static bool (*const steps[])(struct nhost * a) = { user_admin, user_message,	user_memory,
							   user_ring,  user_start_stop, user_ring };
	struct nhost_opts o = { .vhost = true, .queues = NHOST_QUEUES, .timeout_ms = 3000 };
	static struct nhost a;
	bool ok = nhost_up(&a, h->path, &o);

	if (ok && hostile_rnd(2)) {
		a.n.shadow = a.n.eventidx = NULL;
		ok = !vnvmefe_bar(&a.u, 0x4000);
	}
	for (unsigned i = 0; ok && i < 60; i++) {
		nhost_burst(&a, 16);
		ok = steps[hostile_rnd(6)](&a);
		pause_us(hostile_rnd(200));
		nhost_take(&a);
	}
	nhost_down(&a);
}
