/*
 * The devices that run: those of the command line and those that the management socket made. One
 * list, by name.
 * Thread: main, all of it.
 */
#ifndef DEV_DEVICES_H
#define DEV_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "dev/device.h"

struct devices_params {
	struct loop *main_loop, **loops;
	uint32_t loop_count;
	void (*on_done)(void *arg);    /* all inherited and one-shot devices have ended */
	void (*on_drained)(void *arg); /* after devices_stop_all: everything has gone */
	void *arg;
};

void devices_init(const struct devices_params *params);
/*
 * Opens and starts a device made of def, which is taken over (also when it fails). owner: who made
 * it, for messages and for what is saved; NULL: the command line. -EEXIST: the name, or the
 * socket, is in use; device_open's and device_start's.
 */
int devices_add(struct device_def *def, void *owner, void (*owner_free)(void *owner),
		struct device **ret_dev, struct err *reterr);
struct device *devices_find(const char *name);
struct device *devices_next(const struct device *prev);
/* removed(arg) once, later: its front-ends are gone and everything is closed. */
void devices_remove(struct device *dev, void (*removed)(void *arg), void *arg);
void devices_stop_all(void);

#endif
