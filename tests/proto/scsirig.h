/*
 * A vhostd with one SCSI device under test, and up to two initiators (connections) on it.
 * Built on rig_own_setup(): the daemon is the rig's. The helpers fail the running test themselves.
 */
#ifndef TESTS_PROTO_SCSIRIG_H
#define TESTS_PROTO_SCSIRIG_H

#include "daemon.h"
#include "scsidrv.h"

#define SRIG_QUEUES_MAX 8
#define SRIG_CONNS_MAX	2

struct sconn {
	union {
		struct fe fe;
		struct vpcife pci; /* begins with it */
	};
	struct drv ctl, ev, q[SRIG_QUEUES_MAX];
	struct scsidrv s[SRIG_QUEUES_MAX];
	unsigned queues; /* request queues in use, 0: not connected */
	uint8_t lun0[8]; /* target 0, LUN 0 */
};

int srig_setup(void **state);
int srig_teardown(void **state);

/* Starts vhostd with one device: its text, after which arguments follow, up to NULL. */
#define srig_start(...) daemon_start(&rig_get()->d, "--device", __VA_ARGS__, NULL)
/* The configuration file "cfg" of the daemon's folder: one SCSI device at a.sock with targets as
 * JSON ("@" is the folder); others: more keys of the device, each with a comma before it. */
void srig_config(const char *targets, const char *others);
/* Starts vhostd -c on it; or makes a running one read it again. */
void srig_start_config(void);
void srig_reload(void);

/* Connects initiator which to a.sock and starts control, event and o->queues request queues. */
struct sconn *srig_up(unsigned which, const struct fe_up_opts *o);
/* The same with these sizes in the configuration space, set before the queues start. */
struct sconn *srig_up_sized(unsigned which, uint32_t sense_size, uint32_t cdb_size);
void srig_drop(unsigned which);
/* The same, without unit attentions pending on target 0, LUN 0. */
struct sconn *srig_ready(unsigned which, const struct fe_up_opts *o);

/* One command on queue 0. data-out or data-in; fails the test on a broken promise only. */
struct scsidrv_result srig_do(struct sconn *c, const struct scsidrv_cmd *cmd);
struct scsidrv_result srig_cmd(struct sconn *c, const uint8_t lun[8], const void *cdb,
			       uint32_t cdb_bytes, const void *out, uint32_t out_bytes, void *in,
			       uint32_t in_bytes);
#define BYTES(...)	     ((const uint8_t[]){ __VA_ARGS__ })
#define CDB(...)	     BYTES(__VA_ARGS__), sizeof(BYTES(__VA_ARGS__))
#define srig_none(c, l, ...) srig_cmd(c, l, __VA_ARGS__, NULL, 0, NULL, 0)

void assert_good(const struct scsidrv_result *r);
void assert_status(const struct scsidrv_result *r, uint8_t status);
void assert_response(const struct scsidrv_result *r, uint8_t response);
/* CHECK CONDITION with this sense. */
void assert_sense(const struct scsidrv_result *r, uint8_t key, uint8_t asc, uint8_t ascq);
/* Pattern written and read back on queue 0. */
void srig_io(struct sconn *c, const uint8_t lun[8], uint64_t lba, uint32_t blocks);

#endif
