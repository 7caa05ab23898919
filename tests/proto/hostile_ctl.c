/* The modes that attack with messages alone; see hostile.h. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hostile.h"

static bool fresh(struct hostile *h)
{
	return !fe_connect(&h->fe, h->path) && !fe_set(&h->fe, FE_SET_OWNER, NULL, 0, NULL, 0) &&
	       !fe_negotiate(&h->fe, ~0ull & ~(uint64_t)SPEC_F_LOG_ALL, ~0ull);
}

/* Answers are read and thrown away, so that the server is never the one that waits. */
static bool swallow(struct hostile *h)
{
	char buf[4096];
	ssize_t n;

	do
		n = recv(h->fe.sock, buf, sizeof(buf), MSG_DONTWAIT);
	while (n > 0);
	return n < 0 && errno == EAGAIN;
}

void hostile_conf(struct hostile *h)
{
	if (!fresh(h))
		return;
	for (unsigned i = 0; i < 100; i++) {
		struct fe_wire_config c = { .off = (uint32_t)hostile_value(),
					    .size_bytes = (uint32_t)hostile_value(),
					    .flags = hostile_rnd(4) ? 0
								    : (uint32_t)hostile_value() };
		uint32_t len = hostile_rnd(2) ? 12 + (c.size_bytes & 255) : hostile_rnd(269);
		uint32_t flags = hostile_rnd(2) ? 1 : 9;

		memset(c.bytes, (int)hostile_rnd(256), sizeof(c.bytes));
		if (fe_send(&h->fe, hostile_rnd(2) ? FE_GET_CONFIG : FE_SET_CONFIG, flags, &c, len,
			    NULL, 0) ||
		    !swallow(h))
			return;
	}
}

/* Half a message and silence, or questions whose answers are never taken. */
void hostile_stall(struct hostile *h)
{
	uint8_t part[64] = { 5, 0, 0, 0, 1, 0, 0, 0, 40 };

	if (!fresh(h))
		return;
	if (hostile_rnd(2)) {
		fe_send_raw(&h->fe, part, 1 + hostile_rnd(51), NULL, 0);
		pause_us(100000 + hostile_rnd(200000));
		return;
	}
	h->fe.timeout_ms = 100;
	for (unsigned i = 0; i < 20000; i++)
		if (fe_send(&h->fe, FE_GET_FEATURES, 1, NULL, 0, NULL, 0))
			break;
}

/* One message with up to 253 descriptors, the kernel's limit. */
static bool send_many(struct hostile *h, uint32_t req, const void *payload, uint32_t len,
		      unsigned n)
{
	uint32_t hdr[3] = { req, 1, len };
	struct iovec iov[2] = { { hdr, sizeof(hdr) }, { (void *)(uintptr_t)payload, len } };
	static union {
		struct cmsghdr align;
		char space[CMSG_SPACE(253 * sizeof(int))];
	} ctl;
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = ctl.space };
	struct cmsghdr *c;
	int fds[253];
	ssize_t sent;

	for (unsigned i = 0; i < n; i++)
		fds[i] = hostile_any_fd();
	mh.msg_controllen = CMSG_SPACE(n * sizeof(int));
	c = CMSG_FIRSTHDR(&mh);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	sent = sendmsg(h->fe.sock, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
	return sent > 0;
}

void hostile_fds(struct hostile *h)
{
	static const uint32_t sizes[] = { 0, 8, 8, 16, 20, 40, 40, 72 };

	if (!fresh(h))
		return;
	for (unsigned i = 0; i < 20; i++) {
		uint8_t payload[72] = { 0 };
		unsigned n = hostile_rnd(4) ? 1 + hostile_rnd(8) : 1 + hostile_rnd(253);

		if (hostile_rnd(2))
			payload[0] = (uint8_t)hostile_rnd(4);
		if (!send_many(h, 1 + hostile_rnd(44), payload, sizes[hostile_rnd(8)], n) ||
		    !swallow(h))
			return;
	}
}

void hostile_ctl(struct hostile *h)
{
	if (hostile_rnd(4) ? !fresh(h) : fe_connect(&h->fe, h->path) != 0)
		return;
	for (unsigned i = 0; i < 60; i++) {
		static const uint32_t sizes[] = { 0, 8, 8, 8, 12, 16, 20, 24, 40, 40, 72, 268 };
		uint32_t req = hostile_rnd(20) ? 1 + hostile_rnd(44) : (uint32_t)hostile_value();
		uint32_t flags =
			hostile_rnd(10) ? (hostile_rnd(2) ? 9 : 1) : (uint32_t)hostile_value();
		uint32_t len =
			hostile_rnd(20) ? sizes[hostile_rnd(12)] : hostile_rnd(FE_PAYLOAD_MAX);
		uint64_t payload[FE_PAYLOAD_MAX / 8];
		int fd = hostile_rnd(2) ? hostile_any_fd() : -1;
		int rc;

		for (unsigned k = 0; k < sizeof(payload) / 8; k++)
			payload[k] = hostile_rnd(2) ? hostile_value()
						    : hostile_value() << 32 | hostile_rnd(4);
		rc = fe_send(&h->fe, req, flags, payload, len, &fd, fd >= 0);
		if (fd >= 0)
			close(fd);
		if (rc || !swallow(h))
			return;
	}
	if (!hostile_rnd(4)) { /* a size that nobody would allocate */
		uint32_t hdr[3] = { FE_SET_MEM_TABLE, 1, (uint32_t)hostile_value() };

		fe_send_raw(&h->fe, hdr, sizeof(hdr), NULL, 0);
	}
}

/* ---- order: each message legal by itself ---- */

static int order_ring(struct hostile *h, unsigned what, unsigned idx)
{
	struct fe_vring *vr = &h->fe.vring[idx];
	uint32_t base;

	switch (what) {
	case 0:
		return fe_set_vring_num(&h->fe, idx, vr->size);
	case 1:
		return fe_set_vring_base(&h->fe, idx, hostile_rnd(2) ? 0 : hostile_rnd(65536));
	case 2:
		return fe_set_vring_addr(&h->fe, vr, hostile_rnd(2), vr->used_gpa);
	case 3:
		return fe_set_vring_fd(&h->fe, FE_SET_VRING_KICK, idx, vr->kick_fd);
	case 4:
		return fe_set_vring_fd(&h->fe, FE_SET_VRING_CALL, idx, vr->call_fd);
	case 5:
		return fe_set_vring_fd(&h->fe, FE_SET_VRING_ERR, idx, -1);
	case 6:
		return fe_set_vring_enable(&h->fe, idx, hostile_rnd(2));
	default:
		return fe_get_vring_base(&h->fe, idx, &base);
	}
}

static int order_device(struct hostile *h, unsigned what)
{
	uint64_t v;
	uint8_t cfg[60];

	switch (what) {
	case 0:
		return fe_set(&h->fe, FE_SET_OWNER, NULL, 0, NULL, 0);
	case 1:
		return fe_set(&h->fe, hostile_rnd(2) ? FE_RESET_OWNER : FE_RESET_DEVICE, NULL, 0,
			      NULL, 0);
	case 2:
		h->fe.features = h->fe.features_offered & (hostile_rnd64() | SPEC_F_PROTOCOL);
		return fe_set_u64(&h->fe, FE_SET_FEATURES, h->fe.features);
	case 3:
		return fe_set_mem_table(&h->fe);
	case 4:
		return fe_add_mem_reg(&h->fe, hostile_rnd(h->fe.region_count));
	case 5:
		return fe_rem_mem_reg(&h->fe, hostile_rnd(h->fe.region_count));
	case 6:
		return fe_get_config(&h->fe, 0, cfg, sizeof(cfg));
	case 7:
		return fe_get_inflight(&h->fe, 1 + (uint16_t)hostile_rnd(2), 64);
	case 8:
		return h->fe.inflight.fd >= 0 ? fe_set_inflight(&h->fe) : 0;
	case 9:
		return fe_set_log(&h->fe, 1 << 16);
	case 10:
		return fe_set_u64(&h->fe, FE_SET_STATUS, hostile_rnd(3) ? 15 : 0);
	case 11:
		return fe_get_u64(&h->fe, FE_GET_STATUS, &v);
	case 12:
		return fe_open_back_channel(&h->fe);
	default:
		return fe_get_u64(&h->fe, FE_GET_QUEUE_NUM, &v);
	}
}

void hostile_order(struct hostile *h)
{
	struct fe_up_opts o = { .queues = 2,
				.queue_size = 64,
				.regions = 2,
				.region_bytes = 1 << 20,
				.packed = hostile_rnd(2),
				.event_idx = hostile_rnd(2) };

	if (!hostile_up(h, &o))
		return;
	for (unsigned i = 0; i < 120; i++) {
		int rc = hostile_rnd(3) ? order_ring(h, hostile_rnd(8), hostile_rnd(2))
					: order_device(h, hostile_rnd(14));

		if (rc == -ECONNRESET || rc == -ETIMEDOUT)
			return;
		if (!hostile_rnd(4)) {
			hostile_burst(h, 4);
			hostile_drain(h, 50);
		}
	}
}
