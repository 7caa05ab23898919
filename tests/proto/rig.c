/* The rig: daemon, front-end, queue and block requests together; see daemon.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"

static struct rig *group_rig, *own_rig;

struct rig *rig_get(void)
{
	return own_rig ? own_rig : group_rig;
}

bool rig_over_vfio_user(void)
{
	const char *transport = getenv("PROTO_TRANSPORT");

	return transport && !strcmp(transport, "vfio-user");
}

void rig_fe_init(struct vpcife *p)
{
	if (!rig_over_vfio_user())
		fe_init(&p->v.fe);
	else
		assert_ok(vpcife_init(p));
}

int rig_own_setup(void **state)
{
	own_rig = calloc(1, sizeof(*own_rig));
	daemon_init(&own_rig->d);
	rig_fe_init(&own_rig->pci);
	return 0;
}

int rig_own_teardown(void **state)
{
	struct rig *r = own_rig;
	int rc = 0;

	own_rig = NULL;
	rig_drop(r);
	fe_fini(&r->fe);
	if (r->d.pid && !daemon_alive(&r->d))
		rc = -1;
	if (daemon_log_check(&r->d))
		rc = -1;
	if (r->d.pid)
		daemon_stop(&r->d);
	daemon_fini(&r->d);
	free(r);
	return rc;
}

int rig_group_setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	group_rig = r;
	daemon_init(&r->d);
	rig_fe_init(&r->pci);
	daemon_start(&r->d, "--device",
		     "blk,socket=@a.sock,ram=64M,num-queues=4,queue-size=1024,serial=proto-test",
		     NULL);
	return 0;
}

int rig_group_teardown(void **state)
{
	struct rig *r = group_rig;

	daemon_stop(&r->d);
	daemon_fini(&r->d);
	free(r);
	return 0;
}

int rig_setup(void **state)
{
	struct rig *r = group_rig;

	rig_fe_init(&r->pci);
	r->has_queue = false;
	return 0;
}

static void queue_close(struct rig *r)
{
	if (r->has_queue)
		drv_fini(&r->q);
	r->has_queue = false;
}

int rig_teardown(void **state)
{
	struct rig *r = group_rig;

	queue_close(r);
	fe_fini(&r->fe);
	rig_still_serves(r);
	fe_fini(&r->fe);
	if (daemon_log_check(&r->d))
		return -1;
	return 0;
}

void rig_connect(struct rig *r)
{
	assert_ok(fe_connect(&r->fe, daemon_path(&r->d, "a.sock")));
}

void rig_negotiate(struct rig *r)
{
	rig_connect(r);
	assert_ok(fe_set(&r->fe, FE_SET_OWNER, NULL, 0, NULL, 0));
	assert_ok(fe_negotiate(&r->fe, ~0ull & ~SPEC_F_LOG_ALL & ~SPEC_F_RING_PACKED, ~0ull));
}

void rig_up(struct rig *r, const struct fe_up_opts *o)
{
	static const struct fe_up_opts plain;
	int rc;

	if (r->fe.sock < 0)
		rig_connect(r);
	rc = fe_up(&r->fe, o ? o : &plain);
	if (rc) {
		daemon_log_show(&r->d);
		fail_msg("fe_up: %d %s", rc, r->fe.why);
	}
	queue_close(r);
	assert_ok(drv_init(&r->q, &r->fe, 0));
	assert_ok(blkdrv_init(&r->b, &r->q, 0));
	r->has_queue = true;
}

void rig_drop(struct rig *r)
{
	int timeout = r->fe.timeout_ms;

	queue_close(r);
	fe_fini(&r->fe);
	rig_fe_init(&r->pci);
	r->fe.timeout_ms = timeout;
}

void rig_still_serves(struct rig *r)
{
	uint64_t v;

	if (!daemon_alive(&r->d))
		fail_msg("vhostd is dead");
	rig_drop(r);
	rig_connect(r);
	assert_ok(fe_get_u64(&r->fe, FE_GET_FEATURES, &v));
	rig_drop(r);
}

void rig_io(struct rig *r, uint64_t sector)
{
	uint8_t out[4096], in[4096];

	fill_pattern(out, sizeof(out), now_us());
	if (blkdrv_write(&r->b, sector, out, sizeof(out)))
		fail_msg("write at %llu: %s %s", (unsigned long long)sector, r->q.why, r->b.why);
	if (blkdrv_read(&r->b, sector, in, sizeof(in)))
		fail_msg("read at %llu: %s %s", (unsigned long long)sector, r->q.why, r->b.why);
	assert_memory_equal(out, in, sizeof(out));
}

bool rig_refused(struct rig *r, uint32_t req, uint32_t flags, const void *payload, uint32_t len,
		 const int *fds, unsigned fd_count)
{
	struct fe_msg m;
	uint64_t v = 0;
	int rc = fe_send(&r->fe, req, flags, payload, len, fds, fd_count);

	if (!rc)
		rc = fe_recv(&r->fe, &m);
	if (rc == -ECONNRESET || rc == -EPIPE)
		return false;
	if (rc)
		fail_msg("%s: expected a refusal, got %d", fe_req_name(req), rc);
	fe_msg_close(&m);
	assert_int_equal(m.hdr.req, req);
	memcpy(&v, m.payload, sizeof(v));
	if (m.hdr.size_bytes && (m.hdr.size_bytes != sizeof(v) || !v))
		fail_msg("%s: expected a refusal, got an answer of %u bytes", fe_req_name(req),
			 m.hdr.size_bytes);
	return true;
}
