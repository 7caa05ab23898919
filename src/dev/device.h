/*
 * Device definitions: what the command line or the configuration file says of one device, and the
 * running thing made from it (back-ends and endpoint).
 *
 * A definition is filled through the parameter table of its type, so that `--device
 * 'blk,num-queues=4'` and {"type": "blk", "num-queues": 4} accept the same and refuse with the same
 * words. A type is one struct device_type; what the types have in common is in device.c.
 */
#ifndef DEV_DEVICE_H
#define DEV_DEVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "dev/backend.h"
#include "dev/unit.h"
#include "base/err.h"
#include "base/list.h"
#include "base/opts.h"
#include "blk/filter/qos.h"
#include "virtio/coalescing.h"

struct blk_dev;
struct blk_limits;
struct device;
struct endpoint;
struct endpoint_params;
struct loop;
struct scsi_host;
struct nvme_subsys;
struct parcel;
struct queue_stats;
struct queue_visitor;
struct vdev;
struct vfu_dev;

enum device_transport {
	TRANSPORT_VHOST_USER,
	TRANSPORT_VFIO_USER,
	TRANSPORT_COUNT
};

extern const char *const device_transport_names[];
/* Of "doorbells" and "notifications": index 1 is mapped. */
extern const char *const device_doorbells_names[];

#define DEVICE_MASK_WORDS 4 /* 256 data loops */

struct device_def {
	const struct device_type *type; /* NULL: not known yet */
	/* from the table */
	char *name, *socket, *socket_mode;
	uint16_t num_queues;
	uint32_t queue_size, seg_max, spin_us, reconnect_ms, connections;
	int transport; /* enum device_transport */
	int doorbells; /* vfio-user: index into device_doorbells_names; virtio: notifications */
	bool packed, client;
	struct blk_qos_limits limits; /* at the start: see device_limits_set */
	/* blk only */
	struct backend_def back;
	char *serial;
	uint32_t size_max;
	bool guest_buffers;
	/* scsi only */
	char *initiator;
	/* nvme only; from serial on (serial is above): of its subsystem */
	int generation, ana; /* indices into the names of device_nvme.c */
	uint16_t vectors, pci_vendor, pci_device;
	char *subsystem, *model, *nqn, *state, *ns_pool;
	uint64_t ns_pool_bytes;
	/* scsi and nvme */
	struct unit_def *units;
	uint32_t unit_count;
	/* from elsewhere */
	uint64_t given; /* rows of the table that were set: 1 << row */
	/* data loops by number that its queues may be on; all 0: any */
	uint64_t loop_mask[DEVICE_MASK_WORDS];
	struct device_def *leader; /* first of its subsystem, which has all units; NULL: this one */
	int fd;			/* inherited socket, -1: none; owned until device_start takes it */
	bool inherited;		/* the socket is: there is no file of ours */
	bool unserved;		/* no socket: only others show what it has; never started */
	bool name_made;		/* the name is a default */
	bool removed;		/* while a predecessor served: it is not made again */
	struct device *running; /* what was made from it */
	mode_t mode;		/* socket_mode, parsed by device_def_check */
	char where[192];	/* "--device 1": the prefix of messages */
};

struct device_type {
	const char *name; /* "blk" */
	const struct opts_table *table;
	const struct unit_kind *units; /* NULL: it has none */
	const struct device_front *fronts[TRANSPORT_COUNT];
	/* What no single parameter can tell. -EINVAL, not prefixed. */
	int (*check)(struct device_def *def, struct err *reterr);
	/* Opens all that is behind; on failure close follows. Thread: main, as all below. */
	int (*open)(struct device *dev, struct err *reterr);
	/* Optional: lets go what needs the main loop for that; no front-end is there any more. */
	void (*release)(struct device *dev);
	void (*close)(struct device *dev);
	int (*rescan)(struct device *dev, struct err *reterr);
	/* For a new connection. */
	int (*vdev_make)(void *dev, struct vdev **ret_vdev, struct err *reterr);
	int (*vfu_make)(void *dev, struct vfu_dev **ret_dev, struct err *reterr);
	/* Optional: see device_adopt. */
	bool (*adopt)(struct device *dev, const struct device_def *next,
		      const struct opts_row *row);

	/* ---- hand-over; pack and unpack NULL: such devices cannot be handed over ---- */

	/* Optional: why it cannot be now, and not soon: what pack would say. -EBUSY, -EOPNOTSUPP;
	 * named. Asked before front-ends have to wait for anything. */
	int (*hand_check)(const struct device *dev, struct err *reterr);

	/*
	 * Optional: what it does in the background, apart from connections, comes to a point from
	 * which the successor goes on; false: goes on as if nothing had been.
	 */
	void (*freeze)(struct device *dev, bool frozen);
	/* Optional: has it, so that pack may be called? */
	bool (*is_quiet)(const struct device *dev);
	/*
	 * What it knows that neither its definition, nor its files, nor its connections tell: while
	 * all connections of all devices are quiet. Changes nothing. -EBUSY, named: not now.
	 */
	int (*pack)(struct device *dev, struct parcel *p, struct err *reterr);
	/*
	 * In the successor: after all devices were opened (what is read from files then may be
	 * older than this), before any has connections. p is checked: -EPROTO, -EINVAL, named.
	 */
	int (*unpack)(struct device *dev, struct parcel *p, struct err *reterr);
};

extern const struct device_type device_blk, device_nvme, device_scsi;
/* All of them; NULL-terminated. */
extern const struct device_type *const device_types[];

#define DEVICE_ENUM_ROW(key, field, all, dflt, text)                                               \
	{                                                                                          \
		.name = key, .type = OPTS_ENUM, .offset = offsetof(struct device_def, field),      \
		.names = all, .def = dflt, .help = text                                            \
	}

/* The rows that each type has: the name, queues, and the socket. */
#define DEVICE_ROWS(path, queues, queues_max, entries, size_min, size_max)                         \
	DEF_ROW(device_def, "name", OPTS_STR, name, 0, 0, NULL,                                    \
		"name for messages and socket activation"),                                        \
		DEF_ROW(device_def, "socket", OPTS_STR, socket, 0, 0, NULL, path),                 \
		DEF_ROW(device_def, "num-queues", OPTS_U16, num_queues, 1, queues_max, "64",       \
			queues),                                                                   \
		DEF_ROW(device_def, "queue-size", OPTS_U32, queue_size, size_min, size_max,        \
			"1024", entries),                                                          \
		DEF_ROW(device_def, "spin-us", OPTS_U32, spin_us, 0, 1000000, "50",                \
			"look this long before sleeping"),                                         \
		BLK_QOS_ROWS(device_def, limits)                                                   \
			DEF_ROW(device_def, "socket-mode", OPTS_STR, socket_mode, 0, 0, "0600",    \
				"permissions, octal"),                                             \
		DEF_ROW(device_def, "connections", OPTS_U32, connections, 1, 64, "1",              \
			"front-ends at a time"),                                                   \
		DEF_ROW(device_def, "client", OPTS_BOOL, client, 0, 0, "off",                      \
			"connect to the socket instead"),                                          \
		DEF_ROW(device_def, "reconnect-ms", OPTS_U32, reconnect_ms, 0, 3600000, "1000",    \
			"client: 0: once only")

/* And those of types with virtqueues. */
#define DEVICE_VIRTIO_ROWS(queues_max)                                                             \
	DEVICE_ROWS("path of the socket", "most virtqueues", queues_max, "most ring entries", 4,   \
		    VIRTQ_SIZE_MAX),                                                               \
		DEVICE_ENUM_ROW("transport", transport, device_transport_names, "vhost-user",      \
				"what is spoken on the socket"),                                   \
		DEVICE_ENUM_ROW("notifications", doorbells, device_doorbells_names, "trapped",     \
				"mapped: the client writes them to memory, and rings are looked "  \
				"at, also when idle (vfio-user)"),                                 \
		DEF_ROW(device_def, "packed", OPTS_BOOL, packed, 0, 0, "on",                       \
			"offer packed rings"),                                                     \
		DEF_ROW(device_def, "seg-max", OPTS_U32, seg_max, 1, VIRTQ_IOV_MAX - 2, NULL,      \
			"data pieces a request")

/* Prints docs/devices.md on stdout. */
void device_docs_print(void);

/* Nothing but where it comes from. */
void device_def_init(struct device_def *def, const char *where);
/* Gives it a type and that type's defaults. Errors: -EINVAL, prefixed: no such type; -ENOMEM. */
int device_def_type_set(struct device_def *def, const char *type, struct err *reterr);
/* One parameter; value NULL: a bare key. Errors: opts_set's. */
int device_def_set(struct device_def *def, const char *key, const char *value, struct err *reterr);
/* Sets all from "blk,key=value,...". Errors: opts_parse's, prefixed with where. */
int device_def_parse(struct device_def *def, const char *text, struct err *reterr);
/* One more unit, with defaults. -ENOMEM. */
int device_unit_add(struct device_def *def, struct unit_def **ret_unit, struct err *reterr);
/* What no single parameter can tell: a socket, legal combinations. Units: see units_resolve. */
int device_def_check(struct device_def *def, struct err *reterr);
void device_def_fini(struct device_def *def);

/* ---- the running device (Thread: main) ---- */

struct device {
	struct device_def *def;
	void *ep; /* of def's front; NULL: not started */
	/* for the devices of its connections */
	struct loop *main_loop, **loops;
	uint32_t loop_count;
	/* of the types */
	struct blk_limits *limits; /* of all its queues and disks together */
	struct blk_dev *blk;
	struct scsi_host *host;
	struct nvme_subsys *subsys;
	uint32_t members;  /* nvme, of the leader: devices that have subsys */
	struct list units; /* struct device_unit */
	uint32_t leaving;  /* units that are being detached */
	bool stopping;
	bool drained;	     /* by device_drain */
	struct parcel *from; /* for fronts: see struct endpoint_params; NULL: it starts anew */
	struct vring_coalescing coalescing; /* device_coalesce */
	/* set by the owner */
	void (*on_done)(struct device *dev); /* an inherited or one-shot connection ended */
	void (*stopped)(struct device *dev); /* after device_stop */
};

/* Opens what is behind. Errors: blk_dev_open's and others, prefixed with where. */
int device_open(struct device *dev, struct device_def *def, struct err *reterr);
/* Makes the socket; from here front-ends may come. Errors: vhost_endpoint_start's, prefixed. */
int device_start(struct device *dev, struct loop *main_loop, struct loop **loops,
		 uint32_t loop_count, struct err *reterr);
/* dev->stopped comes once, later. Only after a device_start that succeeded. */
void device_stop(struct device *dev);
/* When it never started: lets go what needs the main loop for that; see units_closing. */
void device_release(struct device *dev);
/* After stopped or device_release. */
void device_close(struct device *dev);
/* The last unit that was leaving has left: see device_stop. */
void device_on_left(struct device *dev);
/* Looks whether the back-ends' sizes changed. */
int device_rescan(struct device *dev, struct err *reterr);

/*
 * Replaces the limits that its front-ends have together, whatever they are doing; all 0: none. A
 * disk may have others (blk_qos_set). Errors: blk_qos_check's, prefixed.
 */
int device_limits_set(struct device *dev, const struct blk_qos_limits *limits, struct err *reterr);
const struct blk_qos_limits *device_limits_get(const struct device *dev);
/* Takes over from next, while it runs, what a row says; false: it cannot. */
bool device_adopt(struct device *dev, const struct device_def *next, const struct opts_row *row);

/* ---- queues in hand: device_steer.c; both -ENOTCONN: it is not started ---- */

/*
 * Requests under way end, and none is taken until it is called with false; front-ends stay, and
 * those that come have to wait as well. It is drained when none of its queues runs or changes:
 * device_is_drained. Admin queues of NVMe controllers go on, so that a driver can reset what it
 * waits for: with one of their commands under way it is not drained, and more may come later.
 */
int device_drain(struct device *dev, bool drained, struct err *reterr);
bool device_is_drained(const struct device *dev);
/*
 * Queue idx of each front-end is drained and started on loop; NVMe: the completion queue of that
 * identifier, with its submission queues. Also -ENOTCONN: no front-end is there; -ERANGE.
 */
int device_queue_move(struct device *dev, uint32_t idx, struct loop *loop, struct err *reterr);

/* ---- hand-over: device_hand.c; see docs/internals/hand-over.md ---- */

/* Can it be handed over? -EOPNOTSUPP, named: its type, or its transport, cannot. */
int device_hand_check(const struct device *dev, struct err *reterr);
/* True: connections and background work come to a halt, and nobody new is accepted; false: all
 * goes on. */
void device_freeze(struct device *dev, bool frozen);
/* Frozen: is it at a halt? */
bool device_is_quiet(const struct device *dev);
/* Its own state, then its connections: all devices' states come before all connections. */
int device_pack(struct device *dev, struct parcel *p, struct err *reterr);
int device_conns_pack(struct device *dev, struct parcel *p, struct err *reterr);
/*
 * Notifications of its virtqueues, those of front-ends to come too, are coalesced so from now on;
 * it need not be started. -EOPNOTSUPP: it is an NVMe controller; -EINVAL.
 */
int device_coalesce(struct device *dev, const struct vring_coalescing *c, struct err *reterr);

/* ---- what is counted: device_stats.c ---- */

/* Its connections, and after each its queues. See loop/queue_stats.h. */
void device_visit(const struct device *dev, const struct queue_visitor *v);
/* The queues alone. */
void device_queues_visit(const struct device *dev,
			 void (*fn)(const struct queue_stats *queue, void *arg), void *arg);

struct device_conns {
	uint32_t now;
	uint64_t accepted, reconnects; /* since the start: all, those after the first */
};
void device_conns_get(const struct device *dev, struct device_conns *ret_conns);
/*
 * The disks that it shows; unit is "" for the only one of a blk device, or else its place: "3/1"
 * (target and unit), "2" (namespace). blk_dev_stats has what is counted of them; of a disk that
 * several devices show it is the sum.
 */
void device_disks_visit(const struct device *dev,
			void (*fn)(const char *unit, const struct blk_dev *blk, void *arg),
			void *arg);

/* A disk of it, by its unit as above; NULL: there is none. No reference. */
struct blk_dev *device_disk_find(const struct device *dev, const char *unit);

struct device_work {
	const char *kind; /* "format", "sanitize" */
	uint64_t done_bytes, total_bytes;
};
/* What takes long and guests have begun; unit "": all of an nvme device's subsystem. */
void device_work_visit(const struct device *dev,
		       void (*fn)(const char *unit, const struct device_work *work, void *arg),
		       void *arg);

/* ---- how front-ends reach it: front.c (Thread: main) ---- */

struct device_front {
	/* Sets dev->ep. Errors: the endpoint's. */
	int (*start)(struct device *dev, struct err *reterr);
	/* device_on_stopped(dev) comes once, later. */
	void (*stop)(struct device *dev);
	/* Its connections and their queues; where they come from. dev->ep is there. */
	void (*visit)(const struct device *dev, const struct queue_visitor *v);
	struct endpoint *(*socket)(const struct device *dev);
	/* See device_drain and device_queue_move. */
	void (*drain)(struct device *dev, bool drained);
	int (*queue_move)(struct device *dev, uint32_t idx, struct loop *loop, struct err *reterr);
	/* dev->coalescing changed; NULL: no virtqueues. */
	void (*coalesce)(struct device *dev);
};

extern const struct device_front front_vhost, front_vfu, front_vhost_nvme;
/* device_type.vfu_make of types with vdev_make: that model as a PCI function. */
int front_vfu_virtio_make(void *arg, struct vfu_dev **ret_dev, struct err *reterr);

/* For the fronts. */
/* Where the device's front-ends come from; good as long as dev and its definition. */
struct endpoint_params front_sock(struct device *dev);
void device_on_stopped(void *dev);
void device_on_done(void *dev);

/* ---- subsystems of nvme devices: subsystem.c ---- */

/*
 * Finds the devices that are controllers of one subsystem: adds up what they say of it, and gives
 * all namespaces to the first of them. -EINVAL, -ENOMEM; both places are named.
 */
int subsystems_resolve(struct device_def *defs, uint32_t def_count, struct err *reterr);
/* What names that are made up are made of: a name that we made ("nvme0") goes by the place in the
 * command line; the socket's path stays. */
const char *device_nvme_lasting_name(const struct device_def *def);
/* How good a path to the namespaces a running device is: as device_def.ana. Thread: main. */
void device_nvme_ana_set(struct device *dev, int ana);

/* ---- the units of a running device: device_unit.c ---- */

struct device_unit {
	struct list node;
	struct device *dev;
	struct unit_place place;
	struct unit_open *open;
	bool leaving;
	bool doomed;		 /* is to be detached */
	void (*left)(void *arg); /* see device_unit_leave; NULL: nobody waits */
	void *left_arg;
};

/* Opens a unit; nobody sees it yet. Errors: unit_open's, not prefixed. */
int device_unit_new(struct device *dev, const struct unit_def *def, struct device_unit **ret_unit,
		    struct err *reterr);
/* Frees a unit that is not shown. */
void device_unit_free(struct device_unit *unit);
/* Shows it; it is one of dev->units then. Errors: the kind's. */
int device_unit_attach(struct device_unit *unit, struct err *reterr);
/* Takes it away; it is freed when its commands have ended, which may be at once. */
int device_unit_detach(struct device_unit *unit, struct err *reterr);
/* The same; unless it fails left(arg) comes once, when it is closed, too: maybe at once. */
int device_unit_leave(struct device_unit *unit, void (*left)(void *arg), void *arg,
		      struct err *reterr);
/* The unit that is shown at this place and is not leaving. NULL: none. */
struct device_unit *device_unit_find(struct device *dev, uint32_t number, uint32_t lun);
/* Opens and shows all of its definition; after a failure device_units_free follows. */
int device_units_open(struct device *dev, struct err *reterr);
void device_units_free(struct device *dev);
/* All are looked at; the first failure is told. */
int device_units_rescan(struct device *dev, struct err *reterr);

#endif
