/*
 * Device definitions: what the command line or the configuration file says of one device, and the
 * running thing made from it (back-end and endpoint).
 *
 * A definition is filled through one parameter table, so that `--device 'blk,num-queues=4'` and
 * {"type": "blk", "num-queues": 4} accept the same and refuse with the same words.
 */
#ifndef APP_DEVICE_H
#define APP_DEVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/opts.h"

struct blk_dev;
struct loop;
struct vhost_endpoint;

struct device_def {
	/* from the table */
	char *name, *socket, *file, *serial, *socket_mode;
	int direct; /* index into the names of the parameter: auto, on, off */
	uint64_t null_bytes, ram_bytes;
	uint32_t block_bytes; /* 0: the back-end's own */
	uint16_t num_queues;
	uint32_t queue_size, seg_max, size_max, spin_us, reconnect_ms, connections;
	bool read_only, packed, client, lock, discard, guest_buffers;
	/* from elsewhere */
	int fd;		 /* inherited socket, -1: none; owned until device_start takes it */
	mode_t mode;	 /* socket_mode, parsed by device_def_check */
	char where[192]; /* "--device 1": the prefix of messages */
};

/* "blk": the only type so far. Exposed for the documentation printers and tests. */
extern const struct opts_table device_blk_table;

/* Prints docs/devices.md on stdout. */
void device_docs_print(void);

/* Defaults, and where it comes from. Errors: -ENOMEM. */
int device_def_init(struct device_def *def, const char *where, struct err *reterr);
/* Sets from "blk,key=value,...". Errors: opts_parse's, prefixed with where. */
int device_def_parse(struct device_def *def, const char *text, struct err *reterr);
/* -EINVAL, prefixed: unless type is a device type. */
int device_type_check(const struct device_def *def, const char *type, struct err *reterr);
/* What no single parameter can tell: exactly one back-end, a socket, legal combinations. */
int device_def_check(struct device_def *def, struct err *reterr);
void device_def_fini(struct device_def *def);

/* ---- the running device (Thread: main) ---- */

struct device {
	struct device_def *def;
	bool inherited; /* the socket was; there is no file of ours */
	struct blk_dev *blk;
	struct vhost_endpoint *ep;
	/* set by the owner */
	void (*on_done)(struct device *dev); /* an inherited or one-shot connection ended */
	void (*stopped)(struct device *dev); /* after device_stop */
};

/* Opens the back-end. Errors: blk_dev_open's, prefixed with where. */
int device_open(struct device *dev, struct device_def *def, struct err *reterr);
/* Makes the socket; from here front-ends may come. Errors: vhost_endpoint_start's, prefixed. */
int device_start(struct device *dev, struct loop *main_loop, struct loop **loops,
		 uint32_t loop_count, struct err *reterr);
/* dev->stopped comes once, later. Only after a device_start that succeeded. */
void device_stop(struct device *dev);
/* After stopped, or when it never started. */
void device_close(struct device *dev);
/* Looks whether the back-end's size changed. */
int device_rescan(struct device *dev, struct err *reterr);

#endif
