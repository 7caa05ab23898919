/*
 * Controllers: devices that a method of the management socket made (m_vhost.c, m_nvme.c, m_vfu.c,
 * m_nvmf.c). What they all need: a definition filled from parameters, units that come and go, and
 * errors that begin with SPDK's text, because there are clients that look at it.
 *
 * What a device was made with is its definition; what it does not know is the struct ctrlr, its
 * owner in the list of devices. Both together are what recreates it.
 * Thread: main, all of it.
 */
#ifndef MGMT_CTRLR_H
#define MGMT_CTRLR_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "dev/devices.h"
#include "mgmt/rpc.h"
#include "mgmt/sections.h"

enum ctrlr_kind {
	CTRLR_BLK,
	CTRLR_SCSI,
	CTRLR_NVME,
	CTRLR_VFU_BLK,
	CTRLR_VFU_SCSI,
	CTRLR_NVMF,	     /* a subsystem: its device has no socket */
	CTRLR_NVMF_LISTENER, /* a controller of one */
};

#define VFU_KINDS (1u << CTRLR_VFU_BLK | 1u << CTRLR_VFU_SCSI)

struct ctrlr {
	enum ctrlr_kind kind;
	char *cpumask;	 /* as it was given; NULL: any data loop */
	bool coalescing; /* vhost_controller_set_coalescing: dev->coalescing was set */
	/* nvmf */
	char *traddr;	  /* of a listener */
	bool made_folder; /* traddr was not there, and goes with it */
	bool allow_any_host;
	json_t *hosts; /* names; NULL: none */
	uint32_t max_namespaces;
	struct section_text saved; /* of all its calls; see ctrlr_changed */
};

#define CTRLR_IOPS_THRESHOLD 60000 /* SPDK's default */

/* Before any device is made: connections' events go to notify_get_notifications. */
void ctrlr_init(void);

/* ---- making one ---- */

/*
 * Begins a controller called name (for messages, too) of a device type; cpumask may be NULL. After
 * an error nothing is left; else ctrlr_add or ctrlr_drop follows. -EINVAL, -ENOMEM.
 */
struct ctrlr_new {
	struct device_def *def;
	struct ctrlr *ctrlr;
};
int ctrlr_begin(enum ctrlr_kind kind, const char *type, const char *name, const char *cpumask,
		struct ctrlr_new *ret_new, struct err *reterr);
/* Sets a parameter of the device unless value is NULL. Errors: device_def_set's. */
int ctrlr_set(struct ctrlr_new *new, const char *key, const char *value, struct err *reterr);
int ctrlr_set_number(struct ctrlr_new *new, const char *key, uint64_t value, struct err *reterr);
/* Where the sockets of devices that methods make are: -S, or the default. */
const char *ctrlr_socket_dir(void);
/* DIR/name; dir NULL: --socket-dir. -EINVAL: name is no file's name; -ENOENT:
 * there is no such folder. */
int ctrlr_set_socket(struct ctrlr_new *new, const char *dir, const char *name, struct err *reterr);
/* Opens it, and starts it if start is set. Takes new in every case. */
int ctrlr_add(struct ctrlr_new *new, bool start, struct device **ret_dev, struct err *reterr);
void ctrlr_drop(struct ctrlr_new *new);

/* ---- those that there are ---- */

/* NULL: it is of the command line. */
static inline struct ctrlr *ctrlr_of(const struct device *dev)
{
	return devices_owner(dev);
}
/* Also for devices of the command line, by type and transport. */
enum ctrlr_kind ctrlr_kind(const struct device *dev);
#define CTRLR_ALL_KINDS UINT32_MAX
/* The device of that name, of a kind of the mask (1 << kind). NULL: -ENODEV is in reterr. */
struct device *ctrlr_find(const char *param, const char *name, uint32_t kinds, struct err *reterr);
/* Takes it away, and then answers the call. */
void ctrlr_delete(struct rpc_call *call, struct device *dev);
/* rpc_fail with the text of rc in front. */
void ctrlr_fail(struct rpc_call *call, int rc, struct err *err);

/*
 * A disk of it, by its unit as device_get_devices tells it, or the only one (unit NULL); buf: its
 * unit. -EINVAL, -ENODEV, named. No reference.
 */
int ctrlr_disk_find(const struct device *dev, const char *unit, char *buf, size_t size,
		    struct blk_dev **ret_blk, struct err *reterr);

/* ---- units: targets of scsi devices, namespaces of nvme devices ---- */

struct ctrlr_unit {
	uint32_t number; /* target, NSID */
	const char *bdev;
	const char *uuid, *nguid, *eui64; /* namespaces; NULL: not given */
};
/* -EEXIST: the place is taken; -ENODEV: no such bdev; device_unit_new's and _attach's. */
int ctrlr_unit_add(struct device *dev, const struct ctrlr_unit *unit, struct err *reterr);
/* Takes away all units of that number, and then answers the call; also when there are none. */
void ctrlr_unit_remove(struct rpc_call *call, struct device *dev, uint32_t number);
/* The lowest number from first on at which there is nothing. */
uint32_t ctrlr_unit_free_number(struct device *dev, uint32_t first);
/* The name that the unit's bdev has now; NULL: it has none, or is gone. */
const char *ctrlr_unit_bdev(const struct device_unit *unit);
/* The same of a blk device. */
const char *ctrlr_blk_bdev(const struct device *dev);
/* [{scsi_dev_num, id, target_name, luns[{id, bdev_name}]}] */
json_t *ctrlr_targets_json(struct device *dev);

/* ---- JSON ---- */

/* [{vid, id, name, started, max_queues, inflight_task_cnt}] */
json_t *ctrlr_sessions_json(const struct device *dev);
/* Text of any bytes, as JSON has it: what is no UTF-8 is replaced. NULL becomes null. */
json_t *ctrlr_text(const char *text);
/* The calls that recreate dev, a controller: write's, in its section. */
void ctrlr_write(struct section_out *out, struct device *dev, section_write_fn *write);
/* They have changed; that a unit or its bdev goes is seen without it. Also for those of the command
 * line. */
void ctrlr_changed(const struct device *dev);
/* Appends {"method", "params"}; params without what is null. Takes params. */
void ctrlr_write_call(json_t *calls, const char *method, json_t *params);
/* The call that coalesces the notifications of one that is in a section; none if it was not made.
 */
void ctrlr_write_coalescing(json_t *calls, const struct device *dev);
/* Adds a parameter of a device's definition to params, as a number or a bool, if it was given. */
void ctrlr_write_given(json_t *params, const char *param, const struct device *dev,
		       const char *key);

#endif
