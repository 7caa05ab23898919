/*
 * The configuration file (-c FILE), JSON:
 *
 *   { "devices": [ { "type": "blk", "socket": "/run/a.sock", "file": "/a.img", ... } ],
 *     "cores": "0-3", "pin": true, "log-level": "info" }
 *
 * The keys of a device are those of --device. A key that is not known is an error.
 */
#ifndef APP_CONFIG_H
#define APP_CONFIG_H

#include "app/args.h"

/* Adds what the file says to cfg. Errors: open's; -EINVAL and others with file and key named. */
int config_read(struct app_config *cfg, const char *path, struct err *reterr);

#endif
