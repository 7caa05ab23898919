#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/args.h"
#include "app/config.h"
#include "app/cpus.h"
#include "app/startup.h"
#include "app/successor.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "mgmt/metrics.h"
#include "mgmt/registry.h"

enum {
	EXIT_OK = 0,
	EXIT_RUNTIME = 1,
	EXIT_USAGE = 2
};

/* A socket that became descriptor 2 would be sent our messages. */
static void main_std_fds_open(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

static int main_fail(int status, const struct err *err)
{
	successor_fail(err->msg);
	fprintf(stderr, "vhostd: %s\n", err->msg);
	return status;
}

static int main_serve(struct app_config *cfg)
{
	struct err err = { 0 };
	struct cpus cpus;

	if ((successor_active() && successor_config(cfg, &err) < 0) ||
	    args_take_listen_fds(cfg, &err) < 0 || app_config_check(cfg, &err) < 0 ||
	    cpus_choose(cfg->cores, cfg->pin, &cpus, &err) < 0)
		return main_fail(EXIT_USAGE, &err);
	log_set_level(cfg->log_level);
	if (app_run(cfg, &cpus, &err) < 0)
		return main_fail(EXIT_RUNTIME, &err);
	return EXIT_OK;
}

static int main_check(const char *path)
{
	struct err err = { 0 };
	char text[64];

	if (config_check(path, text, sizeof(text), &err) < 0)
		return main_fail(EXIT_USAGE, &err);
	printf("%s: %s\n", path, text);
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	struct app_config cfg;
	struct err err = { 0 };
	int status = EXIT_OK, rc = 0;

	main_std_fds_open();
	fault_init_from_env();
	if (!successor_begin(&argc, &argv, &rc, &err))
		rc = args_parse(argc, argv, &cfg, &err);
	else if (rc == 0)
		rc = args_parse_successor(argc, argv, &cfg, &err);
	else
		memset(&cfg, 0, sizeof(cfg));
	if (rc < 0) {
		status = main_fail(EXIT_USAGE, &err);
	} else {
		switch (cfg.action) {
		case APP_HELP:
			fputs(args_help, stdout);
			break;
		case APP_VERSION:
			puts("vhostd " VHOSTD_VERSION);
			break;
		case APP_CAPABILITIES:
			fputs(args_capabilities, stdout);
			break;
		case APP_DEVICE_DOCS:
			device_docs_print();
			break;
		case APP_RPC_DOCS:
			rpc_docs_print();
			break;
		case APP_CHECK_CONFIG:
			status = main_check(cfg.check_file);
			break;
		case APP_METRICS_DOCS:
			metrics_docs_print();
			break;
		case APP_RUN:
			status = main_serve(&cfg);
			break;
		}
	}
	app_config_fini(&cfg);
	return status;
}
