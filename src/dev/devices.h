/*
 * The devices that are there: those of the command line and those that the management socket made.
 * One list, by name.
 *
 *   OPEN --devices_start--> RUNNING --devices_remove--> LEAVING --> GONE, and out of the list
 *      \______________________devices_remove____________/
 *
 * OPEN     its back-ends are open, and no front-end reaches it: not started yet, or never to be
 *          (a subsystem that others are controllers of)
 * LEAVING  its sessions end; its name and its socket are still in use
 * GONE     closed; kept only while others have its subsystem
 *
 * Thread: main, all of it.
 */
#ifndef DEV_DEVICES_H
#define DEV_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "dev/device.h"

struct parcel;

struct devices_params {
	struct loop *main_loop, **loops;
	const uint32_t *loop_count;    /* read at devices_start */
	void (*on_done)(void *arg);    /* all inherited and one-shot devices have ended */
	void (*on_drained)(void *arg); /* after devices_stop_all: everything has gone */
	void *arg;
};

void devices_init(const struct devices_params *params);
/*
 * Opens a device made of def. owner: who made it, for what is saved, and told by devices_owner.
 * With an owner def is from the heap, is checked here, and is taken over together with owner, also
 * when it fails; NULL: the command line, whose configuration keeps def and checked it. -EEXIST: the
 * name, or the socket, is in use; -ESHUTDOWN: the daemon ends; -EINVAL; device_open's.
 */
int devices_open(struct device_def *def, void *owner, void (*owner_free)(void *owner),
		 struct device **ret_dev, struct err *reterr);
/* From here front-ends may come. After an error it is OPEN as before. device_start's. */
int devices_start(struct device *dev, struct err *reterr);
/* Both; nothing is left of it when one fails. */
int devices_add(struct device_def *def, void *owner, void (*owner_free)(void *owner),
		struct device **ret_dev, struct err *reterr);
/* From here devices_start only notes it, so that no socket is there before everything is. */
void devices_hold(void);
/* Is it to be started by devices_start_all? From then on devices_start starts what it is given. */
bool devices_release(struct device *dev);
/* Starts those that were to be, in order of creation; the first error is devices_start's. */
int devices_start_all(struct err *reterr);

/* ---- hand-over: device_hand.c ---- */

/* device_hand_check of all. */
int devices_hand_check(struct err *reterr);
/* device_freeze of all. */
void devices_freeze(bool frozen);
/* NULL: all devices are quiet, and none is leaving. Else who is waited for. */
const char *devices_hand_waits(void);
/* Writes them all, quiet. Errors: the first device's, prefixed with its name. */
int devices_pack(struct parcel *p, struct err *reterr);
/*
 * In the successor, in place of devices_start_all: those in p take over, and are frozen; others
 * start anew. Errors: -ENODEV (one in p is not here), and theirs, named; the process has to end.
 */
int devices_unpack(struct parcel *p, struct err *reterr);
/* Is one being removed? Its name is still in use. NULL: none. For device_hand.c. */
const char *devices_leaving(void);

/* Those that are leaving are not found. NULL: none. */
struct device *devices_find(const char *name);
/* In order of creation; prev NULL: the first. NULL: no more. */
struct device *devices_next(const struct device *prev);
/* What devices_open was given; NULL: it is of the command line. */
void *devices_owner(const struct device *dev);
/* removed(arg) once, later: its front-ends are gone and everything is closed. */
void devices_remove(struct device *dev, void (*removed)(void *arg), void *arg);
/* on_drained follows, maybe before this returns. */
void devices_stop_all(void);
/* The end without any wait: only the sockets' files are removed. */
void devices_unlink_all(void);

/*
 * Which data loops a device may use, as SPDK's cpumask: hexadecimal with or without 0x, or a list
 * in brackets ("[0,2-3]"), of the loops' numbers. NULL: all. -EINVAL: it is not such a mask, or
 * names none of the loops, or one that there is not.
 */
int devices_mask_parse(const char *text, uint64_t ret_mask[DEVICE_MASK_WORDS], struct err *reterr);
/* "0x3": of the loops that it may use. */
const char *devices_mask_text(const struct device *dev, char *buf, size_t size);

#endif
