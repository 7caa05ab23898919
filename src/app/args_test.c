/* The command line: what is accepted, and what each refusal says. Nothing is opened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "app/args.h"
#include "app/cpus.h"
#include "base/check.h"

#define ARGS_MAX 16

static struct app_config cfg;
static struct err err;

/* Parses words up to NULL, then checks as main does. */
static int parse(const char *first, ...)
{
	char *argv[ARGS_MAX] = { (char *)"vhostd" };
	int argc = 1, rc;
	va_list ap;

	va_start(ap, first);
	for (const char *a = first; a; a = va_arg(ap, const char *))
		argv[argc++] = (char *)a;
	va_end(ap);
	memset(&err, 0, sizeof(err));
	rc = args_parse(argc, argv, &cfg, &err);
	if (rc == 0 && cfg.action == APP_RUN)
		rc = args_take_listen_fds(&cfg, &err);
	if (rc == 0 && cfg.action == APP_RUN)
		rc = app_config_check(&cfg, &err);
	return rc;
}

static int teardown(void **state)
{
	app_config_fini(&cfg);
	return 0;
}

static void refused(const char *message)
{
	assert_string_equal(err.msg, message);
	app_config_fini(&cfg);
}

static void test_device_with_every_key(void **state)
{
	const struct device_def *d;

	assert_int_equal(parse("--device",
			       "blk,name=a,socket=/s,file=/a\\,b,num-queues=4,queue-size=512,"
			       "serial=x,read-only,block-size=4096,direct=off,lock=off,discard=off,"
			       "spin-us=0,packed=off,socket-mode=0660,connections=2,seg-max=64,"
			       "size-max=65536",
			       NULL),
			 0);
	assert_int_equal(cfg.device_count, 1);
	d = &cfg.devices[0];
	assert_string_equal(d->name, "a");
	assert_string_equal(d->socket, "/s");
	assert_string_equal(d->back.file, "/a,b");
	assert_string_equal(d->serial, "x");
	assert_int_equal(d->back.direct, 2);
	assert_false(d->back.lock);
	assert_false(d->back.discard);
	assert_int_equal(d->num_queues, 4);
	assert_int_equal(d->queue_size, 512);
	assert_true(d->back.read_only);
	assert_false(d->packed);
	assert_int_equal(d->back.block_bytes, 4096);
	assert_int_equal(d->spin_us, 0);
	assert_int_equal(d->mode, 0660);
	assert_int_equal(d->connections, 2);
	assert_int_equal(d->seg_max, 64);
	assert_int_equal(d->size_max, 65536);
}

static void test_virtio_devices_are_pci_functions_over_vfio_user(void **state)
{
	assert_int_equal(
		parse("--device", "blk,socket=/s,null=1M,transport=vfio-user,notifications=mapped",
		      "--device", "scsi,socket=/t,transport=vfio-user,target=0:ram=1M", NULL),
		0);
	assert_int_equal(cfg.devices[0].transport, TRANSPORT_VFIO_USER);
	assert_int_equal(cfg.devices[0].doorbells, 1);
	assert_int_equal(cfg.devices[1].transport, TRANSPORT_VFIO_USER);
	assert_int_equal(cfg.devices[1].doorbells, 0);
	app_config_fini(&cfg);
	assert_int_not_equal(parse("--device", "blk,socket=/s,null=1M,notifications=mapped", NULL),
			     0);
	refused("--device 1: notifications: only with transport=vfio-user, got vhost-user");
}

static void test_defaults_are_those_of_the_table(void **state)
{
	const struct device_def *d;

	assert_int_equal(parse("--device", "blk,socket=/s,ram=64M", "--device",
			       "blk,socket=/t,null=1G", NULL),
			 0);
	assert_int_equal(cfg.device_count, 2);
	d = &cfg.devices[0];
	assert_int_equal(d->back.ram_bytes, 64 << 20);
	assert_int_equal(d->num_queues, 64);
	assert_int_equal(d->queue_size, 1024);
	assert_int_equal(d->mode, 0600);
	assert_int_equal(d->spin_us, 50);
	assert_true(d->packed);
	assert_false(d->back.read_only);
	assert_int_equal(d->fd, -1);
	assert_string_equal(d->name, "blk0");
	assert_string_equal(cfg.devices[1].name, "blk1");
	assert_int_equal(cfg.log_level, LOG_NOTICE);
}

static void test_conventional_options_are_one_disk(void **state)
{
	assert_int_equal(parse("--socket-path=/s", "--blk-file=/f", "--read-only", NULL), 0);
	assert_int_equal(cfg.device_count, 1);
	assert_string_equal(cfg.devices[0].socket, "/s");
	assert_string_equal(cfg.devices[0].back.file, "/f");
	assert_true(cfg.devices[0].back.read_only);
}

static void test_fd_takes_an_inherited_socket_only(void **state)
{
	int pair[2];
	char text[32];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	snprintf(text, sizeof(text), "--fd=%d", pair[0]);
	assert_int_equal(parse(text, "--blk-file=/f", NULL), 0);
	assert_int_equal(cfg.devices[0].fd, pair[0]);
	app_config_fini(&cfg); /* closes pair[0] */
	assert_true(parse(text, "--blk-file=/f", NULL) < 0);
	snprintf(text, sizeof(text), "--fd: descriptor %d is not open", pair[0]);
	refused(text);
	assert_true(parse("--fd=x", "--blk-file=/f", NULL) < 0);
	refused("--fd: expected a descriptor number, got 'x'");
	assert_true(parse("--fd=-1", "--blk-file=/f", NULL) < 0);
	refused("--fd: expected a descriptor number, got '-1'");
	close(pair[1]);
}

static void test_what_only_prints_needs_no_device(void **state)
{
	assert_int_equal(parse("--help", NULL), 0);
	assert_int_equal(cfg.action, APP_HELP);
	assert_int_equal(parse("--version", NULL), 0);
	assert_int_equal(cfg.action, APP_VERSION);
	assert_int_equal(parse("--print-capabilities", NULL), 0);
	assert_int_equal(cfg.action, APP_CAPABILITIES);
}

static void test_each_refusal_names_the_thing_the_value_and_the_limit(void **state)
{
	static const struct {
		const char *a, *b, *message;
	} rows[] = {
		{ "--device", "blk,num-queues=0",
		  "--device 1: num-queues: expected 1..256, got 0" },
		{ "--device", "blk,num-queues=257",
		  "--device 1: num-queues: expected 1..256, got 257" },
		{ "--device", "blk,queue-size=65536",
		  "--device 1: queue-size: expected 4..32768, got 65536" },
		{ "--device", "blk,colour=red", "--device 1: colour: no parameter of blk device" },
		{ "--device", "floppy,socket=/s",
		  "--device 1: type: expected blk, scsi or nvme, got 'floppy'" },
		{ "--device", "", "--device 1: type: expected blk, scsi or nvme, got ''" },
		{ "--device", "blk,socket=/s",
		  "--device 1: expected exactly one of file=, null=, ram= and bdev=, got 0" },
		{ "--device", "blk,socket=/s,file=/f,ram=1M",
		  "--device 1: expected exactly one of file=, null=, ram= and bdev=, got 2" },
		{ "--device", "blk,ram=1M",
		  "--device 1: socket: expected a path, or a descriptor from LISTEN_FDS" },
		{ "--device", "blk,socket=/s,ram=1M,direct=on",
		  "--device 1: direct: only with file=" },
		{ "--device", "blk,socket=/s,file=/f,direct=maybe",
		  "--device 1: direct: expected auto|on|off, got 'maybe'" },
		{ "--device", "blk,socket=/s,ram=1M,block-size=1000",
		  "--device 1: block-size: expected a power of two, got 1000" },
		{ "--device", "blk,socket=/s,ram=1M,serial=123456789012345678901",
		  "--device 1: serial: expected at most 20 bytes, got 21" },
		{ "--device", "blk,socket=/s,ram=1M,socket-mode=0999",
		  "--device 1: socket-mode: expected octal 0..0777, got '0999'" },
		{ "--device", "blk,socket=/s,ram=1M,socket-mode=01777",
		  "--device 1: socket-mode: expected octal 0..0777, got '01777'" },
		{ "--device", NULL, "--device: needs a value" },
		{ "--colour", "red", "--colour: unknown option; see --help" },
		{ "--log-level", "loud",
		  "--log-level: expected error, warning, notice, info or "
		  "debug, got 'loud'" },
		{ "--socket-path", "/s", "--socket-path: needs --blk-file" },
		{ "--read-only", NULL, "--read-only: needs --blk-file" },
		{ "--pin", NULL,
		  "no device: give --device, --blk-file or -c, or --rpc-socket to make them "
		  "later; see --help" },
		{ "--blk-file", "/f",
		  "--blk-file: socket: expected a path, or a descriptor from LISTEN_FDS" },
		{ "--pin", "stray", "unexpected argument 'stray'; see --help" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_true(parse(rows[i].a, rows[i].b, NULL) < 0);
		refused(rows[i].message);
	}
}

static void test_names_and_sockets_are_unique(void **state)
{
	assert_true(parse("--device", "blk,name=a,socket=/s,ram=1M", "--device",
			  "blk,name=a,socket=/t,ram=1M", NULL) < 0);
	refused("--device 2: name: 'a' is also that of --device 1");
	assert_true(parse("--device", "blk,socket=/s,ram=1M", "--device", "blk,socket=/s,ram=1M",
			  NULL) < 0);
	refused("--device 2: socket: '/s' is also that of --device 1");
}

static void test_help_fits_a_screen(void **state)
{
	uint32_t lines = 0;

	for (const char *at = args_help; *at; lines++) {
		size_t len = strcspn(at, "\n");

		assert_true(len <= 80);
		at += len + 1;
	}
	assert_true(lines <= 24);
}

static void test_listen_fds_go_by_name_then_in_order(void **state)
{
	char pid[32];
	int fd, high = 0;

	/* descriptors 3 and 4 as sockets, whatever they were: the test owns the process */
	while (high <= 4)
		high = dup(1);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_true(fd >= 0);
	dup2(fd, 3);
	dup2(fd, 4);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "2", 1);
	setenv("LISTEN_FDNAMES", "other:a", 1);
	assert_int_equal(
		parse("--device", "blk,name=a,ram=1M", "--device", "blk,name=b,ram=1M", NULL), 0);
	assert_int_equal(cfg.devices[0].fd, 4);
	assert_int_equal(cfg.devices[1].fd, 3);
	assert_null(getenv("LISTEN_FDS"));
	app_config_fini(&cfg);

	dup2(fd, 3);
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
	assert_true(parse("--device", "blk,name=a,ram=1M,socket=/s", NULL) < 0);
	refused("LISTEN_FDS: descriptor 3 (''): no device of that name, and none without socket; "
		"others are rpc, rpc-read-only and metrics");

	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
	setenv("LISTEN_FDNAMES", "rpc", 1);
	assert_true(parse(NULL) < 0);
	refused("LISTEN_FDS: descriptor 3 ('rpc'): expected a listening socket");

	setenv("LISTEN_PID", "1", 1); /* somebody else's */
	setenv("LISTEN_FDS", "1", 1);
	assert_int_equal(parse("--device", "blk,name=a,ram=1M,socket=/s", NULL), 0);
	assert_int_equal(cfg.devices[0].fd, -1);
}

static void test_cpu_lists(void **state)
{
	static const char *const bad[] = {
		"", ",", "0,", "0-", "-3", "3-1", "0,x", "0-99999", "1 "
	};
	int cpu[8];

	assert_int_equal(cpus_list_parse("0-3,6", cpu, 8), 5);
	assert_int_equal(cpu[3], 3);
	assert_int_equal(cpu[4], 6);
	assert_int_equal(cpus_list_parse("0-7", cpu, 8), 8);
	assert_int_equal(cpus_list_parse("0-8", cpu, 8), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cpus_list_parse(bad[i], cpu, 8), 0);
}

static void test_cpu_quota_rounds_up(void **state)
{
	assert_int_equal(cpus_quota_parse("max 100000\n"), 0);
	assert_int_equal(cpus_quota_parse("50000 100000\n"), 1);
	assert_int_equal(cpus_quota_parse("250000 100000\n"), 3);
	assert_int_equal(cpus_quota_parse(""), 0);
	assert_int_equal(cpus_quota_parse("1 0"), 0);
}

static void test_cores_count_without_pin(void **state)
{
	struct cpus c;

	assert_int_equal(cpus_choose("3", false, &c, &err), 0);
	assert_int_equal(c.count, 3);
	assert_int_equal(c.cpu[2], -1);
	assert_int_equal(cpus_choose("4000-4001", false, &c, &err), 0);
	assert_int_equal(c.count, 2);
	assert_int_equal(c.cpu[0], -1);
	assert_true(cpus_choose("4000-4001", true, &c, &err) < 0);
	assert_string_equal(err.msg, "cores: CPU 4000 is not one that this process may use");
	assert_true(cpus_choose("0", false, &c, &err) < 0);
	assert_string_equal(err.msg, "cores: expected 1..256 or a list like 0-3,6, got '0'");
	assert_int_equal(cpus_choose(NULL, false, &c, &err), 0);
	assert_true(c.count >= 1);
}

#define T(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_device_with_every_key),
		T(test_defaults_are_those_of_the_table),
		T(test_virtio_devices_are_pci_functions_over_vfio_user),
		T(test_conventional_options_are_one_disk),
		T(test_fd_takes_an_inherited_socket_only),
		T(test_what_only_prints_needs_no_device),
		T(test_each_refusal_names_the_thing_the_value_and_the_limit),
		T(test_names_and_sockets_are_unique),
		T(test_help_fits_a_screen),
		T(test_listen_fds_go_by_name_then_in_order),
		T(test_cpu_lists),
		T(test_cpu_quota_rounds_up),
		T(test_cores_count_without_pin),
	};

	return cmocka_run_group_tests_name("args", tests, NULL, NULL);
}
