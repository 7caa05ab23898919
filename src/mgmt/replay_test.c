/* Files of calls: their form, what is checked of them, and how they are run. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"
#include "mgmt/replay.h"

static char path[] = "/tmp/vhostd-replay-XXXXXX";
static struct err err;
static struct replay *replay;

static int file_make(void **state)
{
	int fd = mkstemp(path);

	log_set_level(LOG_ERROR);
	return fd < 0 ? -1 : close(fd);
}

static int file_remove(void **state)
{
	return unlink(path);
}

static int teardown(void **state)
{
	replay_free(replay);
	replay = NULL;
	return 0;
}

/* Reads text as a file of calls; the message of a failure without the file's name. */
static const char *read_text(const char *text)
{
	struct jsonfile f;
	FILE *to = fopen(path, "w");

	teardown(NULL);
	assert_non_null(to);
	fputs(text, to);
	fclose(to);
	if (jsonfile_load(&f, path, &err) < 0)
		jsonfile_fini(&f);
	else if (replay_new(&f, &replay, &err) == 0)
		return NULL;
	assert_memory_equal(err.msg, path, strlen(path));
	return err.msg + strlen(path);
}

static const char *check_text(const char *text)
{
	assert_null(read_text(text));
	if (replay_check(replay, &err) == 0)
		return NULL;
	assert_memory_equal(err.msg, path, strlen(path));
	return err.msg + strlen(path);
}

#define LEVEL(value) "{\"method\": \"log_set_level\",\n\"params\": {\n\"level\": \"" value "\"}}"
#define BDEV(calls)  "{\"subsystems\": [\n{\"subsystem\": \"bdev\", \"config\": [\n" calls "]}]}"

static void a_line_is_that_of_the_last_part_that_is_there(void **state)
{
	static const char text[] = "{\n \"a\": [1, {\"x]\": \"}\\\"\"},\n {\"b\":\n 7}],\n"
				   "\"c\": {}}";
	static const struct {
		const char *way;
		uint32_t line;
	} rows[] = {
		{ "", 1 },     { "a", 2 },	{ "a[0]", 2 },
		{ "a[2]", 3 }, { "a[2].b", 3 }, { "a[2].nothing", 3 },
		{ "a[3]", 2 }, { "c", 5 },	{ "c.d", 5 },
		{ "d", 1 },    { "c[0]", 5 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(jsonfile_line(text, rows[i].way), rows[i].line);
}

static void a_batch_has_its_calls_in_their_order(void **state)
{
	assert_null(read_text(BDEV(LEVEL("INFO") ", {\"batch\": [" LEVEL("NOTICE") ", " LEVEL(
		"DEBUG") "]}, [" LEVEL("ERROR") "]")));
	assert_int_equal(replay->count, 4);
	assert_string_equal(replay->calls[2].way, "subsystems[0].config[1].batch[1]");
	assert_int_equal(replay_line(replay, &replay->calls[0]), 3);
	assert_true(replay->calls[3].early);
}

static void sections_that_are_not_known_are_passed_over(void **state)
{
	assert_null(read_text("{\"subsystems\": [{\"subsystem\": \"keyring\", \"config\": []}, "
			      "{\"subsystem\": \"accel\", \"config\": [" LEVEL(
				      "INFO") "]}, "
					      "{\"subsystem\": \"vmd\", \"config\": null}, "
					      "{\"subsystem\": \"vhost_blk\", \"config\": [" LEVEL(
						      "INFO") "]}]}"));
	assert_int_equal(replay->count, 1);
	assert_string_equal(replay->calls[0].section, "vhost_blk");
	assert_false(replay->calls[0].early);
}

static void each_fault_of_form_names_line_and_key(void **state)
{
	static const struct {
		const char *text, *message;
	} rows[] = {
		{ "{\"subsystems\": 1}", ":1: subsystems: expected an array" },
		{ "{\"subsystems\": [],\n\"x\": 1}", ":2: x: unknown key; expected subsystems" },
		{ "{\"subsystems\": [\n1]}", ":2: subsystems[0]: expected an object" },
		{ "{\"subsystems\": [\n{}]}", ":2: subsystems[0]: subsystem: expected a string" },
		{ "{\"subsystems\": [{\"subsystem\": \"bdev\",\n\"conf\": []}]}",
		  ":2: subsystems[0].conf: unknown key; expected subsystem or config" },
		{ BDEV("1"), ":3: subsystems[0].config[0]: expected an object" },
		{ BDEV("{}"), ":3: subsystems[0].config[0]: method: expected a string" },
		{ BDEV("{\"method\": \"x\", \"params\": []}"),
		  ":3: subsystems[0].config[0]: params: expected an object" },
		{ BDEV("{\"batch\": 1}"), ":3: subsystems[0].config[0].batch: expected an array" },
		{ "{\"subsystems\": [{\"subsystem\": \"bdev\", \"config\": {}}]}",
		  ":1: subsystems[0].config: expected an array" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *message = read_text(rows[i].text);

		assert_non_null(message);
		assert_string_equal(message, rows[i].message);
	}
	assert_memory_equal(read_text("{\n\"subsystems\": tru"), ":2:", 3);
}

static void a_check_knows_methods_and_their_parameters(void **state)
{
	assert_null(check_text(BDEV(LEVEL("INFO"))));
	assert_null(check_text(BDEV("{\"method\": \"bdev_raid_set_options\"}")));
	assert_non_null(strstr(check_text(BDEV("{\"method\": \"bdev_nvme_attach_controller\"}")),
			       ":3: bdev_nvme_attach_controller: there is no such method"));
	assert_memory_equal(check_text(BDEV(LEVEL("LOUD"))), ":5: log_set_level: level: ", 25);
	assert_memory_equal(check_text(BDEV("{\"method\": \"log_set_level\"}")),
			    ":3: log_set_level: level: ", 25);
}

static int answered, answer_rc;

static void on_done(struct replay_run *run, int rc)
{
	answered++;
	answer_rc = rc;
}

static int run_text(const char *text, bool ignore)
{
	static struct replay *list[1];
	struct replay_run run = { .list = list,
				  .count = 1,
				  .early = true,
				  .ignore = ignore,
				  .reterr = &err,
				  .done = on_done };

	assert_null(read_text(text));
	list[0] = replay;
	answered = 0;
	replay_start(&run);
	assert_int_equal(answered, 1);
	return answer_rc;
}

static void calls_run_until_one_fails(void **state)
{
	assert_int_equal(run_text(BDEV(LEVEL("INFO") "," LEVEL("LOUD") "," LEVEL("DEBUG")), false),
			 -EINVAL);
	assert_non_null(strstr(err.msg, ":7: log_set_level: level: "));
	assert_int_equal(log_get_level(), LOG_INFO);
	assert_true(replay->calls[1].failed);
}

static void calls_that_fail_are_gone_on_without_when_that_was_asked_for(void **state)
{
	assert_int_equal(run_text(BDEV(LEVEL("INFO") "," LEVEL("LOUD") "," LEVEL("NOTICE")), true),
			 0);
	assert_int_equal(log_get_level(), LOG_NOTICE);
}

static void calls_of_the_same_thing_are_found(void **state)
{
	json_t *a = json_pack("{s:s}", "name", "x"), *b = json_pack("{s:s}", "ctrlr", "x");

	assert_true(replay_same_thing("bdev_null_create", a, "bdev_set_qos_limit", a));
	assert_false(replay_same_thing("bdev_null_create", a, "vhost_create_blk_controller", b));
	assert_false(replay_same_thing("vfu_x", a, "bdev_x", a));
	assert_true(replay_same_thing("bdev_set_options", NULL, "bdev_set_options", NULL));
	assert_false(replay_same_thing("bdev_set_options", NULL, "bdev_null_create", a));
	json_decref(a);
	json_decref(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_is_that_of_the_last_part_that_is_there),
		cmocka_unit_test_teardown(a_batch_has_its_calls_in_their_order, teardown),
		cmocka_unit_test_teardown(sections_that_are_not_known_are_passed_over, teardown),
		cmocka_unit_test_teardown(each_fault_of_form_names_line_and_key, teardown),
		cmocka_unit_test_teardown(a_check_knows_methods_and_their_parameters, teardown),
		cmocka_unit_test_teardown(calls_run_until_one_fails, teardown),
		cmocka_unit_test_teardown(
			calls_that_fail_are_gone_on_without_when_that_was_asked_for, teardown),
		cmocka_unit_test(calls_of_the_same_thing_are_found),
	};

	return cmocka_run_group_tests_name("replay", tests, file_make, file_remove);
}
