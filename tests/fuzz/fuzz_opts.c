/*
 * libFuzzer: what the operator writes. The first byte says what the rest is: a --device text, a
 * configuration file, a CPU list, or a command line with NULs between its words. Nothing is
 * opened: -c and --fd are left out, the configuration file is a memfd.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "app/args.h"
#include "app/config.h"
#include "app/cpus.h"
#include "base/check.h"
#include "virtq/virtq.h"

#define WORDS_MAX 24

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

/* Refused means explained, in text that ends. */
static void err_expected(int rc, const struct err *err)
{
	ASSERT(rc <= 0);
	ASSERT(rc == 0 || (err->code == rc && err->msg[0]));
	ASSERT(memchr(err->msg, '\0', sizeof(err->msg)));
}

static void backend_expected(const struct backend_def *back)
{
	ASSERT(!!back->file + !!back->null_bytes + !!back->ram_bytes <= 1);
}

static void config_expected(struct app_config *cfg)
{
	struct err err = { 0 };
	int rc = app_config_check(cfg, &err);

	err_expected(rc, &err);
	for (uint32_t i = 0; rc == 0 && i < cfg->device_count; i++) {
		const struct device_def *d = &cfg->devices[i];

		ASSERT(d->name && (d->socket || d->fd >= 0));
		if (!d->type->units)
			backend_expected(&d->back);
		for (uint32_t u = 0; u < d->unit_count; u++)
			backend_expected(&d->units[u].back);
		ASSERT(d->mode <= 0777);
		ASSERT(d->num_queues >= 1 && d->num_queues <= 256);
		ASSERT(d->queue_size >= 2 && d->queue_size <= VIRTQ_SIZE_MAX);
		ASSERT(d->connections >= 1);
	}
}

static void fuzz_device(const char *text)
{
	struct app_config cfg = { 0 };
	struct device_def *def;
	struct err err = { 0 };
	int rc = app_config_device_add(&cfg, "--device 1", &def, &err);

	ASSERT(rc == 0);
	rc = device_def_parse(def, text, &err);
	err_expected(rc, &err);
	if (rc == 0)
		config_expected(&cfg);
	app_config_fini(&cfg);
}

static void fuzz_config(const char *text, size_t len)
{
	int fd = memfd_create("config", MFD_CLOEXEC);
	struct app_config cfg = { 0 };
	struct err err = { 0 };
	char path[64];
	int rc;

	ASSERT(fd >= 0 && write(fd, text, len) == (ssize_t)len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rc = config_read(&cfg, path, &err);
	err_expected(rc, &err);
	if (rc == 0)
		config_expected(&cfg);
	app_config_fini(&cfg);
	close(fd);
}

static void fuzz_cpus(const char *text)
{
	static int cpu[APP_LOOPS_MAX];
	struct cpus cpus = { 0 };
	struct err err = { 0 };
	int rc = cpus_choose(text, text[0] & 1, &cpus, &err);

	err_expected(rc, &err);
	ASSERT(rc || (cpus.count >= 1 && cpus.count <= APP_LOOPS_MAX));
	ASSERT(cpus_list_parse(text, cpu, APP_LOOPS_MAX) <= APP_LOOPS_MAX);
	cpus_quota_parse(text);
}

/* Options that open something; getopt takes abbreviations, and letters in a row. */
static bool word_opens(const char *word)
{
	return !strncmp(word, "--c", 3) || !strncmp(word, "--f", 3) ||
	       (word[0] == '-' && word[1] != '-' && strchr(word, 'c'));
}

static void fuzz_args(char *text, size_t len)
{
	char *argv[WORDS_MAX + 1] = { (char *)"vhostd" };
	struct app_config cfg;
	struct err err = { 0 };
	int argc = 1, rc;

	for (size_t at = 0; at < len && argc < WORDS_MAX; at += strlen(text + at) + 1)
		if (!word_opens(text + at))
			argv[argc++] = text + at;
	rc = args_parse(argc, argv, &cfg, &err);
	err_expected(rc, &err);
	if (rc == 0 && cfg.action == APP_RUN)
		config_expected(&cfg);
	app_config_fini(&cfg);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	char *text;

	if (!len)
		return 0;
	text = malloc(len);
	ASSERT(text);
	memcpy(text, in + 1, len - 1);
	text[len - 1] = '\0';
	switch (in[0] & 3) {
	case 0:
		fuzz_device(text);
		break;
	case 1:
		fuzz_config(text, len - 1);
		break;
	case 2:
		fuzz_cpus(text);
		break;
	case 3:
		fuzz_args(text, len);
		break;
	}
	free(text);
	return 0;
}
