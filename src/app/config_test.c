/* The configuration file: the same rows as the command line, and errors that say where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "app/config.h"
#include "base/check.h"

static struct app_config cfg;
static struct err err;
static char path[64];

/* Reads text as a file; on failure the message without the file's name is in `message`. */
static int read_text(const char *text, const char **ret_message)
{
	int fd, rc;

	snprintf(path, sizeof(path), "%s", "/tmp/vhostd-config-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	app_config_fini(&cfg);
	memset(&err, 0, sizeof(err));
	rc = config_read(&cfg, path, &err);
	unlink(path);
	if (rc < 0) {
		assert_memory_equal(err.msg, path, strlen(path));
		*ret_message = err.msg + strlen(path);
	}
	return rc;
}

static int teardown(void **state)
{
	app_config_fini(&cfg);
	return 0;
}

static void test_devices_and_settings_are_read(void **state)
{
	const char *message;

	assert_int_equal(read_text("{\"devices\": [{\"type\": \"blk\", \"socket\": \"/s\","
				   " \"file\": \"/a,b\", \"num-queues\": 3, \"read-only\": true},"
				   " {\"type\": \"blk\", \"socket\": \"/t\", \"ram\": \"1M\","
				   " \"packed\": false}],"
				   " \"cores\": \"0-1\", \"pin\": true, \"log-level\": \"info\"}",
				   &message),
			 0);
	assert_int_equal(cfg.device_count, 2);
	assert_string_equal(cfg.devices[0].back.file, "/a,b");
	assert_int_equal(cfg.devices[0].num_queues, 3);
	assert_true(cfg.devices[0].back.read_only);
	assert_int_equal(cfg.devices[1].back.ram_bytes, 1 << 20);
	assert_false(cfg.devices[1].packed);
	assert_string_equal(cfg.cores, "0-1");
	assert_true(cfg.pin);
	assert_int_equal(cfg.log_level, LOG_INFO);
	assert_int_equal(app_config_check(&cfg, &err), 0);
}

static void test_options_of_management_and_metrics_are_keys(void **state)
{
	const char *message;

	assert_int_equal(read_text("{\"rpc-socket\": \"/r\", \"rpc-socket-mode\": \"0660\", "
				   "\"rpc-spdk-socket\": true, \"socket-dir\": \"/d\", "
				   "\"metrics-port\": 0}",
				   &message),
			 0);
	assert_string_equal(cfg.rpc.socket, "/r");
	assert_string_equal(cfg.rpc.mode, "0660");
	assert_true(cfg.rpc.spdk_socket);
	assert_string_equal(cfg.rpc.socket_dir, "/d");
	assert_true(cfg.metrics.port_given);
	assert_int_equal(app_config_check(&cfg, &err), 0);
}

static void test_each_fault_names_file_and_key(void **state)
{
	static const struct {
		const char *text, *message;
	} rows[] = {
		{ "[]", ": expected an object" },
		{ "{\"colour\": 1}", ":1: colour: unknown key; expected devices, cores, pin or "
				     "log-level, an option of --help-rpc or "
				     "--help-metrics, or, for calls, subsystems" },
		{ "{\"device\": []}", ":1: device: unknown key; expected devices, cores, pin or "
				      "log-level, an option of --help-rpc or "
				      "--help-metrics, or, for calls, subsystems" },
		{ "{\n\"metrics-port\": 65536}", ":2: metrics-port: expected 0..65535, got 65536" },
		{ "{\"rpc-spdk-socket\": \"maybe\"}",
		  ":1: rpc-spdk-socket: expected on|off, got 'maybe'" },
		{ "{\"devices\": 1}", ":1: devices: expected an array" },
		{ "{\"devices\": [1]}", ":1: devices[0]: expected an object" },
		{ "{\"devices\": [{}]}",
		  ":1: devices[0]: type: expected blk, scsi or nvme, got ''" },
		{ "{\"devices\": [{\"type\": 7}]}",
		  ":1: devices[0]: type: expected blk, scsi or nvme, got ''" },
		{ "{\"devices\": [{\"type\": \"blk\"}, {\"type\": \"blk\", \"num-queues\": 0}]}",
		  ":1: devices[1]: num-queues: expected 1..256, got 0" },
		{ "{\"devices\": [{\"type\": \"blk\", \"colour\": 1}]}",
		  ":1: devices[0]: colour: no parameter of blk device" },
		{ "{\"devices\": [{\"type\": \"blk\", \"ram\": [1]}]}",
		  ":1: devices[0]: ram: expected a string, a number or true/false" },
		{ "{\"cores\": true}", ":1: cores: expected a number or a list like \"0-3,6\"" },
		{ "{\"pin\": 1}", ":1: pin: expected true or false" },
		{ "{\"log-level\": 1}", ":1: log-level: expected error, warning, notice, info or "
					"debug, got '(not a string)'" },
	};
	const char *message;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_true(read_text(rows[i].text, &message) < 0);
		assert_string_equal(message, rows[i].message);
	}
}

static void test_text_that_is_not_json_is_located(void **state)
{
	const char *message;

	assert_true(read_text("{\n  \"pin\": tru\n}\n", &message) < 0);
	assert_memory_equal(message, ":2:", 3);
	assert_true(read_text("{\"pin\": true, \"pin\": false}", &message) < 0);
	assert_memory_equal(message, ":1:", 3);
}

static void test_missing_file_is_named(void **state)
{
	assert_true(config_read(&cfg, "/nonexistent/x.json", &err) < 0);
	assert_string_equal(err.msg, "/nonexistent/x.json: cannot read: No such file or directory");
}

#define T(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_devices_and_settings_are_read),
		T(test_options_of_management_and_metrics_are_keys),
		T(test_each_fault_names_file_and_key),
		T(test_text_that_is_not_json_is_located),
		T(test_missing_file_is_named),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
