/* State files: whole or not at all, the newest content last, and strict reading. */
#include "test_util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loop/statefile.h"

static char folder[] = "/tmp/vhostd-statefile-XXXXXX", path[64], temporary[64];

static int folder_make(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/state", folder);
	snprintf(temporary, sizeof(temporary), "%s/state.new", folder);
	return 0;
}

static int folder_remove(void **state)
{
	unlink(path);
	return rmdir(folder);
}

static int file_remove(void **state)
{
	unlink(path);
	return 0;
}

static struct statefile test_file(void)
{
	return (struct statefile){ .path = path, .head = "test 1" };
}

struct test_save {
	struct statefile_save save;
	bool done, ok;
};

static void save_ended(struct statefile_save *s, bool ok)
{
	struct test_save *t = container_of(s, struct test_save, save);

	assert_non_null(loop_current());
	t->done = true;
	t->ok = ok;
}

static void print_number(void *arg, FILE *to)
{
	fprintf(to, "number %d\n", *(int *)arg);
}

static const char *take_number(void *arg, char *line)
{
	return sscanf(line, "number %d", (int *)arg) == 1 ? NULL : "expected 'number N'";
}

static int number_load(int *ret_number, struct err *reterr)
{
	struct statefile file = test_file();

	*ret_number = -1;
	return statefile_load(&file, take_number, ret_number, reterr);
}

static void number_save(struct loop *loop, struct statefile *file, struct test_save *t, int number)
{
	*t = (struct test_save){ .save.done = save_ended };
	statefile_save(file, &t->save, loop, print_number, &number);
	assert_false(t->done);
}

static void file_put(const char *text, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
}

static void what_was_saved_is_there_when_done_comes(void **state)
{
	struct loop *loop = test_loop("state");
	struct statefile file = test_file();
	struct test_save t;
	struct stat st;
	struct err err;
	int number;

	assert_int_equal(job_threads_start(1, &err), 0);
	number_save(loop, &file, &t, 7);
	test_run_until(loop, t.done);
	assert_true(t.ok);
	assert_int_equal(number_load(&number, &err), 0);
	assert_int_equal(number, 7);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(access(temporary, F_OK), -1);
	job_threads_stop();
	loop_free(loop);
}

static void the_newest_content_wins_whatever_the_order_of_the_writers(void **state)
{
	struct loop *loop = test_loop("state");
	struct statefile file = test_file();
	struct test_save t[40];
	struct err err;
	int number;

	assert_int_equal(job_threads_start(4, &err), 0);
	for (int i = 0; i < 40; i++)
		number_save(loop, &file, &t[i], i);
	for (int i = 0; i < 40; i++) {
		test_run_until(loop, t[i].done);
		assert_true(t[i].ok);
	}
	assert_int_equal(number_load(&number, &err), 0);
	assert_int_equal(number, 39);
	job_threads_stop();
	loop_free(loop);
}

static void a_file_that_cannot_be_written_leaves_the_old_one(void **state)
{
	struct loop *loop = test_loop("state");
	struct statefile file = test_file();
	struct test_save t;
	struct err err;
	int number;

	assert_int_equal(job_threads_start(1, &err), 0);
	number_save(loop, &file, &t, 1);
	test_run_until(loop, t.done);
	assert_int_equal(mkdir(temporary, 0700), 0);
	number_save(loop, &file, &t, 2);
	test_run_until(loop, t.done);
	assert_false(t.ok);
	assert_int_equal(rmdir(temporary), 0);
	assert_int_equal(number_load(&number, &err), 0);
	assert_int_equal(number, 1);
	job_threads_stop();
	loop_free(loop);
}

static void print_text(void *arg, FILE *to)
{
	fputs(arg, to);
}

static void a_file_without_a_head_is_the_owners_text_alone(void **state)
{
	struct loop *loop = test_loop("state");
	struct statefile file = { .path = path };
	struct test_save t = { .save.done = save_ended };
	char got[16] = "", text[] = "{ }\n";
	struct err err;
	FILE *f;

	assert_int_equal(job_threads_start(1, &err), 0);
	statefile_save(&file, &t.save, loop, print_text, text);
	test_run_until(loop, t.done);
	assert_true(t.ok);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fread(got, 1, sizeof(got), f), 4);
	fclose(f);
	assert_string_equal(got, text);
	job_threads_stop();
	loop_free(loop);
}

static off_t spare_size(void)
{
	struct stat st;

	return stat(temporary, &st) == 0 ? st.st_size : -1;
}

static void a_spare_is_there_until_it_becomes_the_file(void **state)
{
	struct loop *loop = test_loop("state");
	struct statefile file = test_file();
	struct test_save t = { .save.done = save_ended, .save.spare_bytes = 5000 };
	struct err err;
	int number = 1;

	assert_int_equal(job_threads_start(1, &err), 0);
	statefile_spare(&file, &t.save, loop);
	test_run_until(loop, t.done);
	assert_true(t.ok);
	assert_int_equal(t.save.error, 0);
	assert_int_equal(spare_size(), 5000);
	number_save(loop, &file, &t, number);
	test_run_until(loop, t.done);
	assert_true(t.ok);
	assert_int_equal(spare_size(), -1);
	assert_int_equal(number_load(&number, &err), 0);
	assert_int_equal(number, 1);
	t = (struct test_save){ .save.done = save_ended, .save.spare_bytes = 9000 };
	statefile_save(&file, &t.save, loop, print_number, &number);
	test_run_until(loop, t.done);
	assert_int_equal(t.save.spare_bytes, 9000);
	assert_int_equal(spare_size(), 9000);
	statefile_spare_remove(&file);
	assert_int_equal(spare_size(), -1);
	job_threads_stop();
	loop_free(loop);
}

static void a_spare_for_which_there_is_no_room_is_told(void **state)
{
	struct loop *loop = test_loop("state");
	struct statefile file = test_file();
	struct test_save t = { .save.done = save_ended, .save.spare_bytes = (size_t)1 << 62 };
	struct err err;

	assert_int_equal(job_threads_start(1, &err), 0);
	statefile_spare(&file, &t.save, loop);
	test_run_until(loop, t.done);
	assert_false(t.ok);
	assert_true(t.save.error == ENOSPC || t.save.error == EFBIG);
	assert_int_equal(t.save.spare_bytes, 0);
	assert_int_equal(spare_size(), -1);
	job_threads_stop();
	loop_free(loop);
}

static void no_file_is_no_line(void **state)
{
	struct err err;
	int number;

	assert_int_equal(number_load(&number, &err), 0);
	assert_int_equal(number, -1);
}

static void each_broken_file_is_named(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "", "expected 'end' after line 0" },
		{ "test 2\nend\n", "line 1: expected 'test 1', got 'test 2'" },
		{ "test 1\n", "expected 'end' after line 1" },
		{ "test 1\nnumber 1\n", "expected 'end' after line 2" },
		{ "test 1\nnumber 1\nend", "line 3: the line is cut off, got 'end'" },
		{ "test 1\nhello\nend\n", "line 2: expected 'number N', got 'hello'" },
		{ "test 1\nend\nnumber 1\n", "line 3: expected nothing after 'end'" },
	};
	struct err err;
	int number;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		file_put(cases[i].text, strlen(cases[i].text));
		assert_int_equal(number_load(&number, &err), -EINVAL);
		if (!strstr(err.msg, cases[i].message) || !strstr(err.msg, path))
			fail_msg("'%s' has not '%s'", err.msg, cases[i].message);
	}
	file_put("test 1\ne\0d\n", 11);
	assert_int_equal(number_load(&number, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "line 2: a zero byte"));
}

static void what_is_no_plain_file_of_bounded_size_is_named(void **state)
{
	struct err err;
	int number;

	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(number_load(&number, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "expected a regular file"));
	assert_int_equal(rmdir(path), 0);
	file_put("", 0);
	assert_int_equal(truncate(path, STATEFILE_BYTES_MAX + 1), 0);
	assert_int_equal(number_load(&number, &err), -EFBIG);
	unlink(path);
	assert_int_equal(symlink("state", path), 0);
	assert_int_equal(number_load(&number, &err), -ELOOP);
}

static void the_same_text_is_made_and_read_in_memory(void **state)
{
	const struct statefile file = { .head = "test 1" };
	struct err err = { 0 };
	int number = 7, back = 0;
	size_t len;
	char *text = statefile_text(&file, print_number, &number, &len);

	assert_string_equal(text, "test 1\nnumber 7\nend\n");
	assert_int_equal(len, strlen(text));
	assert_int_equal(
		statefile_read("state of x", "test 1", text, len, take_number, &back, &err), 0);
	assert_int_equal(back, 7);
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(
			statefile_read("state of x", "test 1", text, cut, take_number, &back, &err),
			-EINVAL);
	text[8] = '\0';
	assert_int_equal(
		statefile_read("state of x", "test 1", text, len, take_number, &back, &err),
		-EINVAL);
	assert_string_equal(err.msg, "state of x: line 2: a zero byte, got 'n'");
	assert_int_equal(statefile_read("state of x", "test 1", text, STATEFILE_BYTES_MAX + 1,
					take_number, &back, &err),
			 -EFBIG);
	free(text);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup(name, file_remove)
	const struct CMUnitTest tests[] = {
		test(what_was_saved_is_there_when_done_comes),
		test(the_newest_content_wins_whatever_the_order_of_the_writers),
		test(a_file_that_cannot_be_written_leaves_the_old_one),
		test(a_file_without_a_head_is_the_owners_text_alone),
		test(a_spare_is_there_until_it_becomes_the_file),
		test(a_spare_for_which_there_is_no_room_is_told),
		test(no_file_is_no_line),
		test(each_broken_file_is_named),
		test(what_is_no_plain_file_of_bounded_size_is_named),
		test(the_same_text_is_made_and_read_in_memory),
	};

	return cmocka_run_group_tests_name("loop/statefile", tests, folder_make, folder_remove);
}
