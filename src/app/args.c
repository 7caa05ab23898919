#include "app/args.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/config.h"
#include "base/check.h"

const char args_help[] =
	"usage: vhostd [OPTION]...\n"
	"Serves disks to virtual machines over vhost-user and vfio-user.\n"
	"  --device blk,...       a disk (repeatable): socket=PATH and one of file=PATH,\n"
	"                         null=SIZE, ram=SIZE, bdev=NAME; see --help-devices\n"
	"  --device scsi,...      a SCSI host: socket=PATH, target=N[/LUN]:file=PATH:...\n"
	"  --device nvme,...      an NVMe controller: socket=PATH, ns=NSID:file=PATH:...\n"
	"  -c, --config FILE      devices, cores, pin, log-level as JSON, or SPDK's calls\n"
	"  --state FILE           keep what the management socket makes, over restarts\n"
	"  --check-config FILE    check a file for -c or --state, and do nothing else\n"
	"  --json-ignore-init-errors  go on without calls of -c or --state that fail\n"
	"  --cores N|LIST         data loops: a number, or CPUs like 0-3,6 (default: all)\n"
	"  --pin                  pin the data loops to the CPUs of the list\n"
	"  --log-level LEVEL      error, warning, notice (default), info, debug\n"
	"  -r, --rpc-socket PATH  management socket (more options: --help-rpc)\n"
	"  -S, --socket-dir DIR   for sockets of devices made there (/var/run/vhostd)\n"
	"  --metrics-port N       metrics, a status page over HTTP (more: --help-metrics)\n"
	"  --version, --help, --help-devices, --help-rpc, --help-metrics\n"
	"One disk, as virtual machine managers start it:\n"
	"  --socket-path PATH     listen here\n"
	"  --fd FD                or use this inherited socket\n"
	"  --blk-file PATH        image file or block device\n"
	"  --read-only            refuse writes\n"
	"  --print-capabilities   what is supported, as JSON\n"
	"Example: vhostd --device blk,socket=/run/vm1.sock,file=/srv/vm1.img\n";

const char args_capabilities[] = "{\n"
				 "  \"type\": \"block\",\n"
				 "  \"features\": [\"read-only\", \"blk-file\"]\n"
				 "}\n";

/* The one disk of the conventional options. */
struct args_disk {
	const char *socket, *fd, *file;
	bool read_only;
};

struct args_state {
	struct app_config *cfg;
	struct args_disk disk;
	uint32_t device_options; /* how many --device so far */
	bool again;		 /* descriptors are in use already */
};

enum args_option {
	ARGS_DEVICE = 256,
	ARGS_CORES,
	ARGS_PIN,
	ARGS_LOG_LEVEL,
	ARGS_VERSION,
	ARGS_DEVICE_DOCS,
	ARGS_SOCKET_PATH,
	ARGS_FD,
	ARGS_BLK_FILE,
	ARGS_READ_ONLY,
	ARGS_CAPABILITIES,
	ARGS_RPC_DOCS,
	ARGS_STATE,
	ARGS_IGNORE_INIT_ERRORS,
	ARGS_CHECK_CONFIG,
	ARGS_METRICS_DOCS,
	ARGS_OPTION, /* a row of server_options_table or http_options_table */
};

static const struct option args_options[] = {
	{ "device", required_argument, NULL, ARGS_DEVICE },
	{ "config", required_argument, NULL, 'c' },
	{ "json", required_argument, NULL, 'c' },
	{ "json-ignore-init-errors", no_argument, NULL, ARGS_IGNORE_INIT_ERRORS },
	{ "check-config", required_argument, NULL, ARGS_CHECK_CONFIG },
	{ "state", required_argument, NULL, ARGS_STATE },
	{ "cores", required_argument, NULL, ARGS_CORES },
	{ "pin", no_argument, NULL, ARGS_PIN },
	{ "log-level", required_argument, NULL, ARGS_LOG_LEVEL },
	{ "version", no_argument, NULL, ARGS_VERSION },
	{ "help", no_argument, NULL, 'h' },
	{ "help-devices", no_argument, NULL, ARGS_DEVICE_DOCS },
	{ "socket-path", required_argument, NULL, ARGS_SOCKET_PATH },
	{ "fd", required_argument, NULL, ARGS_FD },
	{ "blk-file", required_argument, NULL, ARGS_BLK_FILE },
	{ "read-only", no_argument, NULL, ARGS_READ_ONLY },
	{ "print-capabilities", no_argument, NULL, ARGS_CAPABILITIES },
	{ "help-rpc", no_argument, NULL, ARGS_RPC_DOCS },
	{ "help-metrics", no_argument, NULL, ARGS_METRICS_DOCS },
	{ "metrics-socket", required_argument, NULL, ARGS_OPTION },
	{ "metrics-socket-mode", required_argument, NULL, ARGS_OPTION },
	{ "metrics-port", required_argument, NULL, ARGS_OPTION },
	{ "no-metrics", no_argument, NULL, ARGS_OPTION },
	{ "rpc-socket", required_argument, NULL, 'r' },
	{ "rpc-socket-mode", required_argument, NULL, ARGS_OPTION },
	{ "rpc-socket-owner", required_argument, NULL, ARGS_OPTION },
	{ "rpc-socket-group", required_argument, NULL, ARGS_OPTION },
	{ "rpc-readonly-socket", required_argument, NULL, ARGS_OPTION },
	{ "rpc-readonly-mode", required_argument, NULL, ARGS_OPTION },
	{ "rpc-spdk-socket", no_argument, NULL, ARGS_OPTION },
	{ "rpc-allow-uid", required_argument, NULL, ARGS_OPTION },
	{ "rpc-allow-gid", required_argument, NULL, ARGS_OPTION },
	{ "socket-dir", required_argument, NULL, 'S' },
	{ "no-rpc", no_argument, NULL, ARGS_OPTION },
	{ "wait-for-rpc", no_argument, NULL, ARGS_OPTION },
	{ NULL, 0, NULL, 0 },
};

int app_config_device_add(struct app_config *cfg, const char *where, struct device_def **ret_def,
			  struct err *reterr)
{
	struct device_def *more;

	if (cfg->device_count == APP_DEVICES_MAX)
		return err_set(reterr, -E2BIG, "%s: expected at most %d devices", where,
			       APP_DEVICES_MAX);
	more = realloc(cfg->devices, (cfg->device_count + 1) * sizeof(*more));
	if (!more)
		return err_set(reterr, -ENOMEM, "%s: out of memory", where);
	cfg->devices = more;
	*ret_def = &more[cfg->device_count++];
	device_def_init(*ret_def, where);
	return 0;
}

void app_config_fini(struct app_config *cfg)
{
	for (uint32_t i = 0; i < cfg->device_count; i++)
		device_def_fini(&cfg->devices[i]);
	for (uint32_t i = 0; i < cfg->replay_count; i++)
		replay_free(cfg->replays[i]);
	free(cfg->replays);
	free(cfg->devices);
	free(cfg->cores);
	free(cfg->state);
	free(cfg->check_file);
	opts_free(&server_options_table, &cfg->rpc);
	opts_free(&http_options_table, &cfg->metrics);
	memset(cfg, 0, sizeof(*cfg));
}

static int args_device(struct args_state *s, const char *text, struct err *reterr)
{
	struct device_def *def;
	char where[32];
	int rc;

	snprintf(where, sizeof(where), "--device %u", ++s->device_options);
	rc = app_config_device_add(s->cfg, where, &def, reterr);
	return rc < 0 ? rc : device_def_parse(def, text, reterr);
}

static int args_text(char **field, const char *name, const char *text, struct err *reterr)
{
	free(*field);
	*field = strdup(text);
	return *field ? 0 : err_set(reterr, -ENOMEM, "--%s: out of memory", name);
}

int app_config_option(struct app_config *cfg, const char *name, const char *value,
		      struct err *reterr)
{
	int rc = opts_set(&server_options_table, &cfg->rpc, name, value, reterr);

	if (rc != -ENOENT)
		return rc;
	rc = opts_set(&http_options_table, &cfg->metrics, name, value, reterr);
	if (rc == 0 && !strcmp(name, "metrics-port"))
		cfg->metrics.port_given = true;
	return rc;
}

static int args_option(struct app_config *cfg, const char *name, const char *value,
		       struct err *reterr)
{
	int rc = app_config_option(cfg, name, value, reterr);

	return rc < 0 ? err_prefix(reterr, rc, "--%s", name) : 0;
}

/* Options that ask for something to be printed instead. */
static bool args_action(int option, enum app_action *ret_action)
{
	static const struct {
		int option;
		enum app_action action;
	} actions[] = {
		{ 'h', APP_HELP },
		{ ARGS_VERSION, APP_VERSION },
		{ ARGS_CAPABILITIES, APP_CAPABILITIES },
		{ ARGS_DEVICE_DOCS, APP_DEVICE_DOCS },
		{ ARGS_RPC_DOCS, APP_RPC_DOCS },
		{ ARGS_METRICS_DOCS, APP_METRICS_DOCS },
	};

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		if (actions[i].option != option)
			continue;
		*ret_action = actions[i].action;
		return true;
	}
	return false;
}

static int args_one(struct args_state *s, int option, const char *name, const char *value,
		    char **argv, struct err *reterr)
{
	struct app_config *cfg = s->cfg;

	if (args_action(option, &cfg->action))
		return 0;
	switch (option) {
	case 'r':
		return args_option(cfg, "rpc-socket", value, reterr);
	case 'S':
		return args_option(cfg, "socket-dir", value, reterr);
	case ARGS_OPTION:
		return args_option(cfg, name, value, reterr);
	case ARGS_DEVICE:
		return args_device(s, value, reterr);
	case 'c':
		return config_read(cfg, value, reterr);
	case ARGS_CORES:
		return args_text(&cfg->cores, "cores", value, reterr);
	case ARGS_STATE:
		return args_text(&cfg->state, "state", value, reterr);
	case ARGS_IGNORE_INIT_ERRORS:
		cfg->ignore_init_errors = true;
		return 0;
	case ARGS_CHECK_CONFIG:
		cfg->action = APP_CHECK_CONFIG;
		return args_text(&cfg->check_file, "check-config", value, reterr);
	case ARGS_PIN:
		cfg->pin = true;
		return 0;
	case ARGS_LOG_LEVEL:
		if (log_level_parse(value, &cfg->log_level))
			return 0;
		return err_set(reterr, -EINVAL,
			       "--log-level: expected error, warning, notice, info "
			       "or debug, got '%.64s'",
			       value);
	case ARGS_SOCKET_PATH:
		s->disk.socket = value;
		return 0;
	case ARGS_FD:
		s->disk.fd = value;
		return 0;
	case ARGS_BLK_FILE:
		s->disk.file = value;
		return 0;
	case ARGS_READ_ONLY:
		s->disk.read_only = true;
		return 0;
	case ':':
		return err_set(reterr, -EINVAL, "%.64s: needs a value", argv[optind - 1]);
	default:
		return err_set(reterr, -EINVAL, "%.64s: unknown option; see --help",
			       argv[optind - 1]);
	}
}

/* Is this descriptor number an open socket? It is not passed on to children. */
static int args_fd_check(int fd, struct err *reterr)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(reterr, -EINVAL, "descriptor %d is not open", fd);
	if (!S_ISSOCK(st.st_mode))
		return err_set(reterr, -EINVAL, "descriptor %d is not a socket", fd);
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(reterr, -errno, "descriptor %d: %s", fd, strerror(errno));
	return 0;
}

static int args_disk_fd(struct args_state *s, struct device_def *def, struct err *reterr)
{
	const char *text = s->disk.fd;
	char *end;
	long fd = strtol(text, &end, 10);
	int rc;

	if (*end || !*text || fd < 0 || fd > INT32_MAX)
		return err_set(reterr, -EINVAL, "--fd: expected a descriptor number, got '%.64s'",
			       text);
	def->inherited = true;
	if (s->again)
		return 0;
	rc = args_fd_check((int)fd, reterr);
	if (rc < 0)
		return err_prefix(reterr, rc, "--fd");
	def->fd = (int)fd;
	return 0;
}

/* The conventional options are one more device. */
static int args_disk_add(struct args_state *s, struct err *reterr)
{
	const struct args_disk *d = &s->disk;
	struct device_def *def;
	int rc;

	if (!d->file)
		return err_set(reterr, -EINVAL, "%s: needs --blk-file",
			       d->socket ? "--socket-path"
			       : d->fd	 ? "--fd"
					 : "--read-only");
	if (d->socket && d->fd)
		return err_set(reterr, -EINVAL, "--socket-path: not together with --fd");
	rc = app_config_device_add(s->cfg, "--blk-file", &def, reterr);
	if (rc == 0)
		rc = device_def_type_set(def, "blk", reterr);
	if (rc == 0)
		rc = device_def_set(def, "file", d->file, reterr);
	if (rc == 0 && d->socket)
		rc = device_def_set(def, "socket", d->socket, reterr);
	if (rc == 0 && d->fd)
		rc = args_disk_fd(s, def, reterr);
	if (rc == 0)
		def->back.read_only = d->read_only;
	s->cfg->one_disk = true;
	return rc;
}

static int args_parse_all(int argc, char **argv, struct app_config *cfg, bool again,
			  struct err *reterr)
{
	struct args_state s = { .cfg = cfg, .again = again };
	int option, which = 0, rc;

	*cfg = (struct app_config){ .log_level = LOG_NOTICE, .argc = argc, .argv = argv };
	optind = 0; /* glibc: start afresh */
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":c:hr:S:", args_options, &which)) != -1) {
		rc = args_one(&s, option, args_options[which].name, optarg, argv, reterr);
		if (rc < 0)
			return rc;
	}
	if (cfg->action != APP_RUN)
		return 0;
	if (optind < argc)
		return err_set(reterr, -EINVAL, "unexpected argument '%.64s'; see --help",
			       argv[optind]);
	if (s.disk.socket || s.disk.fd || s.disk.file || s.disk.read_only)
		return args_disk_add(&s, reterr);
	return 0;
}

int args_parse(int argc, char **argv, struct app_config *cfg, struct err *reterr)
{
	return args_parse_all(argc, argv, cfg, false, reterr);
}

int args_parse_successor(int argc, char **argv, struct app_config *cfg, struct err *reterr)
{
	return args_parse_all(argc, argv, cfg, true, reterr);
}

/* ---- after everything was read ---- */

static int app_config_name(struct device_def *def, uint32_t idx, struct err *reterr)
{
	char name[32];

	if (def->name)
		return 0;
	def->name_made = true;
	snprintf(name, sizeof(name), "%s%u", def->type->name, idx);
	def->name = strdup(name);
	return def->name ? 0 : err_set(reterr, -ENOMEM, "%s: out of memory", def->where);
}

/* Sets a flag, by its offset in struct device_def, of those that have one of these names. */
static int app_config_mark(struct app_config *cfg, size_t flag, char *const *names, uint32_t count,
			   struct err *reterr)
{
	int rc = 0;

	for (uint32_t i = 0; i < cfg->device_count && rc == 0; i++) {
		struct device_def *def = &cfg->devices[i];

		rc = app_config_name(def, i, reterr);
		for (uint32_t k = 0; k < count && rc == 0; k++)
			if (!strcmp(def->name, names[k]))
				*(bool *)((char *)def + flag) = true;
	}
	return rc;
}

int app_config_inherit(struct app_config *cfg, char *const *names, uint32_t count,
		       struct err *reterr)
{
	return app_config_mark(cfg, offsetof(struct device_def, inherited), names, count, reterr);
}

int app_config_remove(struct app_config *cfg, char *const *names, uint32_t count,
		      struct err *reterr)
{
	return app_config_mark(cfg, offsetof(struct device_def, removed), names, count, reterr);
}

int app_config_check(struct app_config *cfg, struct err *reterr)
{
	int rc = server_options_check(&cfg->rpc, reterr);

	if (rc == 0)
		rc = http_options_check(&cfg->metrics, reterr);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < cfg->device_count; i++) {
		struct device_def *def = &cfg->devices[i];

		rc = app_config_name(def, i, reterr);
		if (rc == 0)
			rc = device_def_check(def, reterr);
		if (rc < 0)
			return rc;
		for (uint32_t k = 0; k < i; k++) {
			const struct device_def *other = &cfg->devices[k];

			if (!strcmp(def->name, other->name))
				return err_set(reterr, -EINVAL,
					       "%s: name: '%.64s' is also that of "
					       "%s",
					       def->where, def->name, other->where);
			if (def->socket && other->socket && !strcmp(def->socket, other->socket))
				return err_set(reterr, -EINVAL,
					       "%s: socket: '%.108s' is also that "
					       "of %s",
					       def->where, def->socket, other->where);
		}
	}
	rc = subsystems_resolve(cfg->devices, cfg->device_count, reterr);
	return rc < 0 ? rc : units_resolve(cfg->devices, cfg->device_count, reterr);
}

int args_parse_again(const struct app_config *old, struct app_config *cfg, struct err *reterr)
{
	int rc = args_parse_all(old->argc, old->argv, cfg, true, reterr);

	cfg->rpc.socket_fd = old->rpc.socket_fd;
	cfg->rpc.readonly_fd = old->rpc.readonly_fd;
	cfg->metrics.socket_fd = old->metrics.socket_fd;
	for (uint32_t k = 0; k < old->device_count && rc == 0; k++)
		if (old->devices[k].inherited)
			rc = app_config_inherit(cfg, &old->devices[k].name, 1, reterr);
	return rc < 0 ? rc : app_config_check(cfg, reterr);
}

/* The device that an inherited descriptor is for, by name, or the first without any socket. */
static struct device_def *args_listen_find(struct app_config *cfg, const char *name)
{
	for (uint32_t i = 0; i < cfg->device_count; i++) {
		struct device_def *def = &cfg->devices[i];

		if (def->fd >= 0)
			continue;
		if (name ? def->name && !strcmp(def->name, name) : !def->socket)
			return def;
	}
	return NULL;
}

/* What a descriptor may be besides a device's socket. */
static const struct args_listen_name {
	const char *name;
	size_t fd; /* offset in struct app_config */
} args_listen_names[] = {
	{ "rpc", offsetof(struct app_config, rpc.socket_fd) },
	{ "rpc-read-only", offsetof(struct app_config, rpc.readonly_fd) },
	{ "metrics", offsetof(struct app_config, metrics.socket_fd) },
};

static int *args_listen_slot(struct app_config *cfg, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(args_listen_names); i++)
		if (!strcmp(args_listen_names[i].name, name))
			return (int *)((char *)cfg + args_listen_names[i].fd);
	return NULL;
}

static int args_listen_management(int *slot, const char *name, int fd, struct err *reterr)
{
	int listening = 0, rc = args_fd_check(fd, reterr);
	socklen_t len = sizeof(listening);

	if (rc < 0)
		return rc;
	if (*slot)
		return err_set(reterr, -EINVAL, "descriptors %d and %d: both are named '%s'", *slot,
			       fd, name);
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || !listening)
		return err_set(reterr, -EINVAL, "descriptor %d ('%s'): expected a listening socket",
			       fd, name);
	*slot = fd;
	return 0;
}

static int args_listen_device(struct device_def *def, int fd, struct err *reterr)
{
	int rc = args_fd_check(fd, reterr);

	if (rc < 0)
		return rc;
	def->fd = fd;
	def->inherited = true;
	return 0;
}

/* By name: a device's, then a management socket's; else any that is left, to devices in order. */
static int args_listen_pass(struct app_config *cfg, uint32_t count, char **names, bool by_name,
			    struct err *reterr)
{
	static char taken[] = "";

	for (uint32_t i = 0; i < count; i++) {
		const int fd = 3 + (int)i; /* sd_listen_fds(3): SD_LISTEN_FDS_START */
		const char *name = names[i] ? names[i] : "";
		struct device_def *def;
		int rc, *slot;

		if (names[i] == taken)
			continue;
		def = args_listen_find(cfg, by_name ? name : NULL);
		slot = by_name && !def ? args_listen_slot(cfg, name) : NULL;
		if (!def && !slot && by_name)
			continue;
		if (!def && !slot)
			return err_set(reterr, -EINVAL,
				       "LISTEN_FDS: descriptor %d ('%.64s'): no device of that "
				       "name, and none without socket; others are rpc, "
				       "rpc-read-only and metrics",
				       fd, name);
		rc = slot ? args_listen_management(slot, name, fd, reterr)
			  : args_listen_device(def, fd, reterr);
		if (rc < 0)
			return err_prefix(reterr, rc, "LISTEN_FDS");
		names[i] = taken;
	}
	return 0;
}

static int args_listen_take(struct app_config *cfg, uint32_t count, const char *fdnames,
			    struct err *reterr)
{
	char *text = strdup(fdnames ? fdnames : ""), *rest = text;
	char **names = calloc(count ? count : 1, sizeof(*names));
	int rc = -ENOMEM;

	if (!text || !names) {
		err_set(reterr, rc, "LISTEN_FDS: out of memory");
		goto out;
	}
	for (uint32_t i = 0; i < count; i++)
		names[i] = strsep(&rest, ":");
	rc = args_listen_pass(cfg, count, names, true, reterr);
	if (rc == 0)
		rc = args_listen_pass(cfg, count, names, false, reterr);
out:
	free(names);
	free(text);
	return rc;
}

int args_take_listen_fds(struct app_config *cfg, struct err *reterr)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	const char *fdnames = getenv("LISTEN_FDNAMES");
	unsigned long count;
	char *end;
	int rc = 0;

	if (pid && fds && strtoul(pid, NULL, 10) == (unsigned long)getpid()) {
		count = strtoul(fds, &end, 10);
		if (!*fds || *end || count > APP_DEVICES_MAX)
			return err_set(reterr, -EINVAL, "LISTEN_FDS: expected 0..%d, got '%.64s'",
				       APP_DEVICES_MAX, fds);
		rc = args_listen_take(cfg, (uint32_t)count, fdnames, reterr);
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (rc == 0 && !cfg->device_count && !cfg->replay_count && !cfg->state &&
	    !server_wanted(&cfg->rpc))
		rc = err_set(reterr, -EINVAL,
			     "no device: give --device, --blk-file or -c, or --rpc-socket to make "
			     "them later; see --help");
	return rc;
}
