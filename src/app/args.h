/*
 * The command line, and the whole configuration that it and the files named by -c add up to.
 * Nothing is opened or created here: a bad command line leaves no trace.
 */
#ifndef APP_ARGS_H
#define APP_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "dev/device.h"
#include "base/err.h"
#include "base/log.h"
#include "mgmt/http.h"
#include "mgmt/replay.h"
#include "mgmt/server.h"

enum app_action {
	APP_RUN,
	APP_HELP,
	APP_VERSION,
	APP_CAPABILITIES,
	APP_DEVICE_DOCS,
	APP_RPC_DOCS,
	APP_METRICS_DOCS,
	APP_CHECK_CONFIG
};

#define APP_DEVICES_MAX 4096
#define APP_LOOPS_MAX	256

struct app_config {
	enum app_action action;
	struct device_def *devices;
	uint32_t device_count;
	char *cores; /* "4" or "0-3,6"; NULL: as many as we may use */
	bool pin;
	enum log_level log_level;
	struct server_options rpc;
	struct replay **replays; /* of the files of calls that -c names */
	uint32_t replay_count;
	bool ignore_init_errors; /* of these calls, and of the state's */
	char *state;		 /* NULL: nothing is saved */
	char *check_file;	 /* APP_CHECK_CONFIG */
	struct http_options metrics;
	bool one_disk; /* of the conventional options: a monitor's own, without other sockets */
	/* to read it all again */
	int argc;
	char **argv;
};

/*
 * Parses argv (and reads the files that -c names) into cfg, which app_config_fini frees in every
 * case. Returns 0 or -errno; reterr then names the option, the value and the limit.
 */
int args_parse(int argc, char **argv, struct app_config *cfg, struct err *reterr);
/* The same for a successor: descriptors that options name are its predecessor's. */
int args_parse_successor(int argc, char **argv, struct app_config *cfg, struct err *reterr);
/* Devices with one of these names have an inherited socket, which is the predecessor's. -ENOMEM. */
int app_config_inherit(struct app_config *cfg, char *const *names, uint32_t count,
		       struct err *reterr);
/* Devices with one of these names were removed while the predecessor served. -ENOMEM. */
int app_config_remove(struct app_config *cfg, char *const *names, uint32_t count,
		      struct err *reterr);
/*
 * Gives inherited sockets (sd_listen_fds: LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES) to devices: by
 * name first, then in order to those without socket. -EINVAL when one is left over, or when there
 * is nothing to do with or without them. The variables are removed from the environment.
 */
int args_take_listen_fds(struct app_config *cfg, struct err *reterr);
/*
 * What argv and the files say now, checked, into cfg, which app_config_fini frees in every case.
 * Devices with an inherited socket are those that have one in old. Errors: as args_parse and
 * app_config_check.
 */
int args_parse_again(const struct app_config *old, struct app_config *cfg, struct err *reterr);
/*
 * Sets one that --help-rpc or --help-metrics lists, by its name without dashes. -ENOENT: it is none
 * of them; opts_set's.
 */
int app_config_option(struct app_config *cfg, const char *name, const char *value,
		      struct err *reterr);
/* Fills in names, then checks each device and that names and sockets are unique. */
int app_config_check(struct app_config *cfg, struct err *reterr);
/* One more device with defaults, at the end. Errors: -ENOMEM, -E2BIG. */
int app_config_device_add(struct app_config *cfg, const char *where, struct device_def **ret_def,
			  struct err *reterr);
void app_config_fini(struct app_config *cfg);

extern const char args_help[];
extern const char args_capabilities[];

#endif
