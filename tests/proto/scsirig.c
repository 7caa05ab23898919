/* See scsirig.h. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scsirig.h"

static struct sconn conns[SRIG_CONNS_MAX];

int srig_setup(void **state)
{
	memset(conns, 0, sizeof(conns));
	for (unsigned i = 0; i < SRIG_CONNS_MAX; i++)
		rig_fe_init(&conns[i].pci);
	return rig_own_setup(state);
}

void srig_drop(unsigned which)
{
	struct sconn *c = &conns[which];

	if (c->queues) {
		drv_fini(&c->ctl);
		drv_fini(&c->ev);
		for (unsigned i = 0; i < c->queues && i < SRIG_QUEUES_MAX; i++)
			drv_fini(&c->q[i]);
	}
	c->queues = 0;
	fe_fini(&c->fe);
	rig_fe_init(&c->pci);
}

int srig_teardown(void **state)
{
	for (unsigned i = 0; i < SRIG_CONNS_MAX; i++) {
		srig_drop(i);
		fe_fini(&conns[i].fe);
	}
	return rig_own_teardown(state);
}

void srig_config(const char *targets, const char *others)
{
	struct daemon *d = &rig_get()->d;
	FILE *f = fopen(daemon_path(d, "cfg.new"), "w");

	assert_non_null(f);
	fprintf(f,
		"{\"devices\": [{\"type\": \"scsi\", \"transport\": \"%s\", "
		"\"socket\": \"%s/a.sock\"%s, \"targets\": [",
		rig_over_vfio_user() ? "vfio-user" : "vhost-user", d->dir, others ? others : "");
	for (const char *p = targets; *p; p++) {
		if (*p == '@')
			fprintf(f, "%s/", d->dir);
		else
			fputc(*p, f);
	}
	fprintf(f, "]}]}\n");
	assert_int_equal(fclose(f), 0);
	assert_int_equal(rename(daemon_path(d, "cfg.new"), daemon_path(d, "cfg")), 0);
}

void srig_start_config(void)
{
	daemon_start(&rig_get()->d, "-c", "@cfg", "--cores", "2", NULL);
}

void srig_reload(void)
{
	assert_int_equal(kill(rig_get()->d.pid, SIGHUP), 0);
}

/* The driver writes them before it says that it is ready (virtio 1.3, 5.6.4). */
static int sizes_set(struct sconn *c, uint32_t sense_size, uint32_t cdb_size)
{
	const uint32_t off = offsetof(struct spec_scsi_config, sense_size);
	int rc = fe_set_config(&c->fe, off, &sense_size, 4, 0);

	return rc ? rc : fe_set_config(&c->fe, off + 4, &cdb_size, 4, 0);
}

static int queues_up(struct sconn *c, const struct fe_up_opts *o, uint32_t sense_size,
		     uint32_t cdb_size)
{
	struct fe_up_opts later = *o;
	int rc;

	if (!sense_size)
		return fe_up(&c->fe, o);
	later.skip = FE_SKIP_START;
	rc = fe_up(&c->fe, &later);
	if (!rc)
		rc = sizes_set(c, sense_size, cdb_size);
	for (unsigned i = 0; !rc && i < o->queues; i++)
		rc = fe_vring_start(&c->fe, i, o);
	return rc;
}

static void bring_up(struct sconn *c, const struct fe_up_opts *o, uint32_t sense_size,
		     uint32_t cdb_size)
{
	struct fe_up_opts full = *o;
	unsigned queues = o->queues ? o->queues : 1;
	int rc;

	full.queues = queues + SPEC_SCSI_Q_REQUEST;
	if (!full.features)
		full.features = SPEC_F_VERSION_1 | SPEC_F_PROTOCOL | SPEC_SCSI_F_HOTPLUG |
				SPEC_SCSI_F_CHANGE;
	rc = fe_connect(&c->fe, daemon_path(&rig_get()->d, "a.sock"));
	if (!rc)
		rc = queues_up(c, &full, sense_size, cdb_size);
	if (rc) {
		daemon_log_show(&rig_get()->d);
		fail_msg("initiator: %d %s", rc, c->fe.why);
	}
	assert_ok(drv_init(&c->ctl, &c->fe, SPEC_SCSI_Q_CONTROL));
	assert_ok(drv_init(&c->ev, &c->fe, SPEC_SCSI_Q_EVENT));
	c->queues = queues;
	for (unsigned i = 0; i < queues && i < SRIG_QUEUES_MAX; i++) {
		assert_ok(drv_init(&c->q[i], &c->fe, SPEC_SCSI_Q_REQUEST + i));
		assert_ok(scsidrv_init(&c->s[i], &c->q[i], 0));
		c->s[i].pi = c->fe.features & SPEC_SCSI_F_T10_PI;
		if (sense_size) {
			c->s[i].sense_size = sense_size;
			c->s[i].cdb_size = cdb_size;
		}
	}
	scsidrv_lun(c->lun0, 0, 0);
}

struct sconn *srig_up(unsigned which, const struct fe_up_opts *o)
{
	static const struct fe_up_opts plain;
	struct sconn *c = &conns[which];

	srig_drop(which);
	bring_up(c, o ? o : &plain, 0, 0);
	return c;
}

struct sconn *srig_up_sized(unsigned which, uint32_t sense_size, uint32_t cdb_size)
{
	static const struct fe_up_opts plain;
	struct sconn *c = &conns[which];

	srig_drop(which);
	bring_up(c, &plain, sense_size, cdb_size);
	return c;
}

struct sconn *srig_ready(unsigned which, const struct fe_up_opts *o)
{
	struct sconn *c = srig_up(which, o);

	if (scsidrv_ready(&c->s[0], c->lun0))
		fail_msg("%s %s", c->s[0].why, c->q[0].why);
	return c;
}

struct scsidrv_result srig_do(struct sconn *c, const struct scsidrv_cmd *cmd)
{
	struct scsidrv_result res;
	int rc = scsidrv_do(&c->s[0], cmd, &res);

	if (rc) {
		daemon_log_show(&rig_get()->d);
		fail_msg("command 0x%02x: %d %s %s", cmd->cdb_bytes ? cmd->cdb[0] : 0, rc,
			 c->q[0].why, c->s[0].why);
	}
	return res;
}

struct scsidrv_result srig_cmd(struct sconn *c, const uint8_t lun[8], const void *cdb,
			       uint32_t cdb_bytes, const void *out, uint32_t out_bytes, void *in,
			       uint32_t in_bytes)
{
	struct scsidrv_cmd cmd = { .cdb = cdb,
				   .cdb_bytes = cdb_bytes,
				   .out = out,
				   .out_bytes = out_bytes,
				   .in = in,
				   .in_bytes = in_bytes };

	memcpy(cmd.lun, lun, 8);
	return srig_do(c, &cmd);
}

static void show(const struct scsidrv_result *r, const char *expected)
{
	fail_msg("expected %s, got response %u, status 0x%02x, sense %x/%02x/%02x, residual %u",
		 expected, r->response, r->status, r->key, r->asc, r->ascq, r->residual);
}

void assert_good(const struct scsidrv_result *r)
{
	if (r->response || r->status)
		show(r, "GOOD");
}

void assert_status(const struct scsidrv_result *r, uint8_t status)
{
	char text[32];

	snprintf(text, sizeof(text), "status 0x%02x", status);
	if (r->response || r->status != status)
		show(r, text);
}

void assert_response(const struct scsidrv_result *r, uint8_t response)
{
	char text[32];

	snprintf(text, sizeof(text), "response %u", response);
	if (r->response != response)
		show(r, text);
}

void assert_sense(const struct scsidrv_result *r, uint8_t key, uint8_t asc, uint8_t ascq)
{
	char text[32];

	snprintf(text, sizeof(text), "sense %x/%02x/%02x", key, asc, ascq);
	if (r->response || r->status != 2 || r->key != key || r->asc != asc || r->ascq != ascq)
		show(r, text);
}

void srig_io(struct sconn *c, const uint8_t lun[8], uint64_t lba, uint32_t blocks)
{
	static uint8_t out[65536], in[65536];
	uint32_t len = blocks * 512;

	fill_pattern(out, len, now_us());
	if (scsidrv_write(&c->s[0], lun, lba, blocks, 512, out))
		fail_msg("%s %s", c->s[0].why, c->q[0].why);
	if (scsidrv_read(&c->s[0], lun, lba, blocks, 512, in))
		fail_msg("%s %s", c->s[0].why, c->q[0].why);
	assert_memory_equal(out, in, len);
}
