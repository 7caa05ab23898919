/*
 * The configuration file (-c FILE), JSON: calls (mgmt/replay.h), or
 *
 *   { "devices": [ { "type": "blk", "socket": "/run/a.sock", "file": "/a.img", ... } ],
 *     "cores": "0-3", "pin": true, "log-level": "info", "rpc-socket": "/run/rpc.sock", ... }
 *
 * The keys of a device are those of --device, others those of --help-rpc and --help-metrics. A key
 * that is not known is an error.
 */
#ifndef APP_CONFIG_H
#define APP_CONFIG_H

#include "app/args.h"

/* Adds what the file says to cfg. Errors: open's; -EINVAL and others with file, line and key. */
int config_read(struct app_config *cfg, const char *path, struct err *reterr);
/*
 * --check-config: reads the file and checks all that can be told without opening anything: its
 * form, names that are there twice, files that must exist. ret_text: what it was found to have.
 */
int config_check(const char *path, char *ret_text, size_t text_size, struct err *reterr);

#endif
