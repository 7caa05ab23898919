/*
 * The hostile front-end: one function a mode, each call one case on a connection of its own.
 * What the modes are: THREAT-MODEL.md. All chance comes from hostile_rnd(), so from the seed.
 */
#ifndef TESTS_PROTO_HOSTILE_H
#define TESTS_PROTO_HOSTILE_H

#include "daemon.h"
#include "scsidrv.h"

/* The device that is attacked; the neighbour of a SCSI device is one too, else it is a disk. */
enum hostile_kind {
	HOSTILE_BLK,
	HOSTILE_SCSI,
	HOSTILE_NVME,	   /* over vfio-user */
	HOSTILE_NVME_VHOST /* vhost-user-nvme */
};

struct hostile {
	const char *path;  /* the socket attacked */
	const char *other; /* a second one; NVMe: without a mapped doorbell page */
	enum hostile_kind kind;
	struct fe fe;
	struct drv q;
	struct blkdrv b;
	bool has_queue;
	struct blkdrv_req req[16];
};

struct hostile_mode {
	const char *name;
	void (*run)(struct hostile *h);
	enum hostile_kind kind;
};

extern const struct hostile_mode hostile_modes[];
extern const unsigned hostile_mode_count;

void hostile_seed(uint64_t seed);
uint64_t hostile_rnd64(void);
uint32_t hostile_rnd(uint32_t below);
/* Now and then an extreme, else something small or any bits. */
uint64_t hostile_value(void);
/* Connects and brings queues up; false when the server did not follow (which is its right). */
bool hostile_up(struct hostile *h, const struct fe_up_opts *o);
/* The same with a random choice of ring format and features. */
bool hostile_up_any(struct hostile *h, struct fe_up_opts *o);
/* n honest requests made visible, not waited for. */
void hostile_burst(struct hostile *h, unsigned n);
/* Takes what completes within us. */
void hostile_drain(struct hostile *h, unsigned us);
/* Memory that cannot be sealed, so that it can be cut later. */
void hostile_memory_unsealed(struct fe *fe);
int hostile_any_fd(void);
void hostile_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* hostile_ctl.c: modes that need no ring */
void hostile_conf(struct hostile *h);
void hostile_stall(struct hostile *h);
void hostile_fds(struct hostile *h);
void hostile_ctl(struct hostile *h);
void hostile_order(struct hostile *h);

/* Nonsense in every descriptor of h->q and the places that they name, kicked. */
void hostile_lie(struct hostile *h);

/* hostile_scsi.c */
/* A known opcode mostly, with fields that are small, extreme or anything. */
void hostile_cdb(uint8_t cdb[SPEC_SCSI_CDB_SIZE]);
void hostile_scsi(struct hostile *h);
void hostile_scsi_ring(struct hostile *h);
/* One connection with LUN 0 of target 0; false: the server did not follow. */
struct hostile_lun {
	struct fe fe;
	struct drv q;
	struct scsidrv s;
	uint8_t lun[8];
};
bool hostile_lun_up(struct hostile_lun *l, const char *path, int timeout_ms);
void hostile_lun_down(struct hostile_lun *l);
/* Something is written and read back, or the unit says why not (an attacker may have stopped it,
 * reserved it or protected it). */
bool hostile_lun_serves(const char *path);
/* All of the unit is written. */
bool hostile_lun_prefill(const char *path, uint64_t bytes);

/* hostile_nvme.c, hostile_nvme_msg.c */
void hostile_nvme(struct hostile *h);
void hostile_nvme_admin(struct hostile *h);
void hostile_nvme_msg(struct hostile *h);
void hostile_nvme_user(struct hostile *h);
/* As hostile_lun_serves; vhost: by vhost-user-nvme. */
bool hostile_nvme_serves(const char *path, bool vhost);
bool hostile_nvme_prefill(const char *path, bool vhost, uint64_t bytes);

#endif
