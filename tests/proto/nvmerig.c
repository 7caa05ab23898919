/* See nvmerig.h. */
#include "nvmerig.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct nconn conns[NRIG_CONNS_MAX];

int nrig_setup(void **state)
{
	for (unsigned i = 0; i < NRIG_CONNS_MAX; i++)
		conns[i].up = false;
	return rig_own_setup(state);
}

int nrig_teardown(void **state)
{
	for (unsigned i = 0; i < NRIG_CONNS_MAX; i++)
		nrig_drop(i);
	return rig_own_teardown(state);
}

void nrig_start(enum nrig_way way, const char *device)
{
	char text[240];

	snprintf(text, sizeof(text), "nvme,socket=@n.sock,doorbells=%s,%s",
		 way == NRIG_MAPPED ? "mapped" : "trapped", device);
	daemon_start(&rig_get()->d, "--cores", "2", "--rpc-socket", "@rpc", "--device", text, NULL);
}

void nrig_config(const char *namespaces)
{
	struct daemon *d = &rig_get()->d;
	FILE *f = fopen(daemon_path(d, "cfg.new"), "w");

	assert_non_null(f);
	fprintf(f,
		"{\"devices\": [{\"type\": \"nvme\", \"socket\": \"%s/a.sock\", \"subsystem\": "
		"\"s\", \"num-queues\": 4, \"namespaces\": [%s]}, {\"type\": \"nvme\", \"socket\": "
		"\"%s/b.sock\", \"subsystem\": \"s\", \"num-queues\": 4}]}\n",
		d->dir, namespaces, d->dir);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(rename(daemon_path(d, "cfg.new"), daemon_path(d, "cfg")), 0);
}

void nrig_start_config(void)
{
	daemon_start(&rig_get()->d, "-c", "@cfg", "--cores", "2", NULL);
}

void nrig_reload(void)
{
	assert_int_equal(kill(rig_get()->d.pid, SIGHUP), 0);
}

void nrig_enable(struct nconn *c, uint32_t size)
{
	int rc = nvmedrv_enable(&c->n, 0);

	for (unsigned q = 1; !rc && q <= c->queues; q++)
		rc = nvmedrv_pair_create(&c->n, q, size, (int)q);
	if (!rc && c->way == NRIG_SHADOW)
		rc = nvmedrv_dbbuf(&c->n);
	if (rc) {
		daemon_log_show(&rig_get()->d);
		fail_msg("starting the controller: %d %s %s", rc, c->n.why, c->v.fe.why);
	}
}

static void identify(struct nconn *c)
{
	uint8_t ns[4096];

	c->block_bytes = 512;
	if (nvmedrv_identify(&c->n, 0, 1, ns))
		return; /* no such namespace */
	memcpy(&c->blocks, ns, 8);
	if (c->blocks)
		c->block_bytes = 1u << ns[128 + 4 * (ns[26] & 15) + 2];
}

static struct nconn *up(unsigned which, const char *socket, enum nrig_way way, unsigned queues,
			uint32_t size, bool no_fd)
{
	struct vfe_up_opts o = { .region_bytes = NRIG_MEMORY_BYTES, .no_fd = no_fd };
	struct nconn *c = &conns[which];
	struct nvmedrv_transport tr;
	int rc;

	nrig_drop(which);
	c->way = way;
	c->queues = queues;
	assert_ok(vfe_init(&c->v));
	c->up = true;
	assert_ok(fe_connect(&c->v.fe, daemon_path(&rig_get()->d, socket)));
	rc = vfe_up(&c->v, &o);
	if (rc)
		fail_msg("vfe_up: %d %s", rc, c->v.fe.why);
	tr = nvme_vfu_transport(&c->v, way != NRIG_MAPPED);
	assert_true(!!tr.doorbells == (way == NRIG_MAPPED));
	assert_ok(nvmedrv_init(&c->n, &tr));
	nrig_enable(c, size);
	identify(c);
	return c;
}

struct nconn *nrig_up(unsigned which, const char *socket, enum nrig_way way, unsigned queues,
		      uint32_t size)
{
	return up(which, socket, way, queues, size, false);
}

struct nconn *nrig_up_by_messages(unsigned which, const char *socket, enum nrig_way way,
				  unsigned queues, uint32_t size)
{
	return up(which, socket, way, queues, size, true);
}

void nrig_drop(unsigned which)
{
	struct nconn *c = &conns[which];

	if (!c->up)
		return;
	nvmedrv_fini(&c->n);
	vfe_fini(&c->v);
	c->up = false;
}

void nrig_stop(void)
{
	for (unsigned i = 0; i < NRIG_CONNS_MAX; i++)
		nrig_drop(i);
	if (rig_get()->d.pid)
		daemon_stop(&rig_get()->d);
}

uint64_t nrig_data(struct nconn *c, uint64_t len, uint64_t seed)
{
	uint64_t iova = nvmedrv_alloc(&c->n, len, 4096);

	if (!iova)
		fail_msg("guest memory is used up");
	fill_pattern(nrig_host(c, iova, len), (uint32_t)len, seed);
	return iova;
}

void *nrig_host(struct nconn *c, uint64_t iova, uint64_t len)
{
	void *p = nvmedrv_host(&c->n, iova, len);

	assert_non_null(p);
	return p;
}

static unsigned status_of(struct nconn *c, int rc)
{
	if (rc < 0) {
		daemon_log_show(&rig_get()->d);
		fail_msg("%d %s %s", rc, c->n.why, c->v.fe.why);
	}
	return (unsigned)rc;
}

void nrig_wait(struct nconn *c, unsigned cqid, struct nvmedrv_done *ret)
{
	status_of(c, nvmedrv_wait(&c->n, cqid, ret));
}

unsigned nrig_do(struct nconn *c, unsigned sqid, const struct spec_nvme_sqe *sqe)
{
	int rc = nvmedrv_do(&c->n, sqid, sqe, NULL);

	if (rc < 0)
		print_error("opcode %02xh, data at 0x%llx and 0x%llx\n", sqe->opcode,
			    (unsigned long long)sqe->prp1, (unsigned long long)sqe->prp2);
	return status_of(c, rc);
}

unsigned nrig_rw(struct nconn *c, unsigned sqid, uint8_t opcode, uint64_t lba, uint32_t blocks,
		 uint64_t iova)
{
	return status_of(c, nvmedrv_rw(&c->n, sqid, opcode, 1, lba, blocks, iova, c->block_bytes));
}

void nrig_io(struct nconn *c, unsigned sqid, uint64_t lba, uint32_t blocks)
{
	uint64_t len = (uint64_t)blocks * c->block_bytes;
	uint64_t out = nrig_data(c, len, lba + 1), in = nrig_data(c, len, ~lba);

	assert_status_is(nrig_rw(c, sqid, SPEC_NVME_WRITE, lba, blocks, out), 0);
	assert_status_is(nrig_rw(c, sqid, SPEC_NVME_READ, lba, blocks, in), 0);
	assert_memory_equal(nrig_host(c, out, len), nrig_host(c, in, len), len);
}

unsigned nrig_admin(struct nconn *c, const struct spec_nvme_sqe *sqe, void *data, uint32_t len,
		    bool to_device)
{
	return status_of(c, nvmedrv_admin(&c->n, sqe, data, len, to_device, NULL));
}
