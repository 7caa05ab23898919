/* What survives a restart, and state files that are broken. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scsi/resv_rig.h"

static struct rig r;
static char folder[] = "/tmp/vhostd-state-XXXXXX", path[64], temporary[64];

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

/* As after a restart: everything is made anew, from the file. */
static void restart(void)
{
	struct err err;

	assert_int_equal(job_threads_start(1, &err), 0);
	rig_init(&r);
	r.state_path = path;
	rig_lu_add(&r, "ram", "size=1M");
	rig_nexus_add(&r, NAME_A);
	rig_nexus_add(&r, NAME_B);
	rig_nexus_add(&r, NAME_C);
}

/* The threads first: a job's last step is to wake the loop. */
static void shut(void)
{
	job_threads_stop();
	rig_close(&r);
}

static uint8_t pr_register_aptpl(uint32_t nexus, uint8_t sa, uint64_t key, uint64_t sa_key,
				 bool aptpl)
{
	uint8_t list[24];

	pr_list(list, key, sa_key, aptpl ? LIST_APTPL : 0);
	return pr_out_list(&r, nexus, sa, 0, list, sizeof(list));
}

static void file_text(char *ret_text, size_t size)
{
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	n = fread(ret_text, 1, size - 1, f);
	ret_text[n] = '\0';
	fclose(f);
}

static void file_put(const char *text, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
}

/* ---- survival ---- */

static void registrations_and_reservation_survive_with_aptpl(void **state)
{
	for (uint8_t type = RESV_WE; type <= RESV_EA_AR; type++) {
		bool shared = type >= RESV_WE_AR;

		if (!resv_type_valid(type))
			continue;
		unlink(path);
		restart();
		GOOD(pr_register_aptpl(0, RESV_SA_REGISTER, 0, KEY_A, true));
		GOOD(pr_register_aptpl(1, RESV_SA_REGISTER, 0, KEY_B, true));
		GOOD(pr_out(&r, 1, RESV_SA_RESERVE, type, KEY_B, 0));
		shut();
		restart();
		assert_reserved(&r, type, shared ? 0 : KEY_B);
		KEYS(&r, KEY_A, KEY_B);
		assert_int_equal(pr_generation(&r), 0); /* SPC-5, 6.16.2 */
		GOOD(pr_in(&r, 0, 2, 8));
		assert_int_equal(r.in[2] & 0x01, 0x01);
		assert_int_equal(r.in[3] & 0x01, 0x01); /* PTPL_A */
		CONFLICT(do_write(&r, 2));
		GOOD(do_write(&r, 1));
		shut();
	}
}

static void without_aptpl_nothing_survives(void **state)
{
	restart();
	GOOD(pr_register(&r, 0, KEY_A));
	assert_int_equal(access(path, F_OK), -1);
	GOOD(pr_register_aptpl(1, RESV_SA_REGISTER, 0, KEY_B, true));
	GOOD(pr_out(&r, 1, RESV_SA_RESERVE, RESV_WE, KEY_B, 0));
	/* the last one to say decides for all */
	GOOD(pr_register_aptpl(0, RESV_SA_REGISTER, KEY_A, KEY_C, false));
	shut();
	restart();
	KEYS(&r);
	assert_reserved(&r, 0, 0);
	GOOD(do_write(&r, 2));
	shut();
}

static void each_change_is_on_disk_before_the_status(void **state)
{
	restart();
	GOOD(pr_register_aptpl(0, RESV_SA_REGISTER_IGNORE, 0, KEY_A, true));
	GOOD(pr_register_aptpl(1, RESV_SA_REGISTER_IGNORE, 0, KEY_B, true));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_EA, KEY_A, 0));
	GOOD(pr_out(&r, 1, RESV_SA_PREEMPT_ABORT, RESV_WE, KEY_B, KEY_A));
	shut();
	restart();
	KEYS(&r, KEY_B);
	assert_reserved(&r, RESV_WE, KEY_B);
	GOOD(pr_out(&r, 1, RESV_SA_RELEASE, RESV_WE, KEY_B, 0));
	shut();
	restart();
	KEYS(&r, KEY_B);
	assert_reserved(&r, 0, 0);
	GOOD(pr_out(&r, 1, RESV_SA_CLEAR, 0, KEY_B, 0));
	shut();
	restart();
	KEYS(&r);
	shut();
}

static void a_moved_reservation_survives_where_it_went(void **state)
{
	uint8_t list[128] = { 0 };
	size_t len;

	restart();
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	cdb_put64(list, KEY_A);
	cdb_put64(list + 8, KEY_C);
	list[17] = 0x03; /* UNREG, APTPL */
	list[19] = 1;
	len = scsi_transport_id("iqn.2026-01.test:not here yet %", list + 24);
	cdb_put32(list + 20, (uint32_t)len);
	GOOD(pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, 24 + len));
	shut();
	restart();
	rig_nexus_add(&r, "iqn.2026-01.test:not here yet %");
	assert_reserved(&r, RESV_WE, KEY_C);
	GOOD(do_write(&r, 3));
	shut();
}

static void the_file_is_small_text_and_private(void **state)
{
	static const char expected[] = "vhostd-scsi-state 1\n"
				       "register 000000000000aaaa all iqn.2026-01.test:a host\n"
				       "reserve 5 0\n"
				       "end\n";
	char text[1024], *mode, *rest;
	uint8_t list[24];
	struct stat st;

	restart();
	pr_list(list, 0, KEY_A, LIST_APTPL | LIST_ALL_TG_PT);
	GOOD(pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, sizeof(list)));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE_RO, KEY_A, 0));
	shut();
	file_text(text, sizeof(text));
	mode = strchr(text, '\n') + 1;
	rest = strstr(text, "register");
	assert_non_null(rest);
	assert_int_equal(strncmp(mode, "mode ", 5), 0);
	memmove(mode, rest, strlen(rest) + 1);
	assert_string_equal(text, expected);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(access(temporary, F_OK), -1);
}

static void saved_mode_pages_survive(void **state)
{
	/* MODE SELECT(6) with SP: control page, D_SENSE */
	static const uint8_t list[16] = {
		0, 0, 0, 0, 0x0a, 0x0a, 0x06, 0x10, 0, 0, 0, 0, 0xff, 0xff
	};

	restart();
	r.nexus_idx = 0;
	GOOD(rig_cdb(&r, list, sizeof(list), 0, 0x15, 0x11, 0, 0, sizeof(list), 0));
	assert_true(r.lu[0]->mode.d_sense);
	shut();
	restart();
	assert_true(r.lu[0]->mode.d_sense);
	KEYS(&r);
	shut();
}

static void a_file_that_cannot_be_written_is_an_internal_failure(void **state)
{
	restart();
	assert_int_equal(mkdir(temporary, 0700), 0); /* in the way */
	pr_register_aptpl(0, RESV_SA_REGISTER, 0, KEY_A, true);
	rig_assert_sense(&r, SCSI_CAUSE_INTERNAL_FAILURE);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(rmdir(temporary), 0);
	GOOD(pr_register_aptpl(0, RESV_SA_REGISTER_IGNORE, 0, KEY_A, true));
	shut();
	restart();
	KEYS(&r, KEY_A);
	shut();
}

static void the_last_of_many_changes_at_once_is_on_disk(void **state)
{
	struct rig_task *started[50];
	uint8_t list[24];

	restart();
	for (uint32_t i = 0; i < ARRAY_SIZE(started); i++) {
		pr_list(list, 0, i + 1, LIST_APTPL);
		started[i] = pr_out_start(&r, i % 2, RESV_SA_REGISTER_IGNORE, 0, list, 24);
	}
	for (uint32_t i = 0; i < ARRAY_SIZE(started); i++) {
		rig_finish(&r, started[i]);
		GOOD(r.task.status);
	}
	shut();
	restart();
	KEYS(&r, 49, 50);
	shut();
}

/* ---- broken files ---- */

static void load_fails(int rc, const char *message)
{
	struct scsi_lu_params p = { .name = "lu", .state_path = path };
	struct scsi_lu *lu = NULL;
	struct blk_dev *dev;
	struct err err = { 0 };

	assert_int_equal(blk_dev_open("ram", "ram", "size=1M", &dev, &err), 0);
	p.dev = dev;
	assert_int_equal(scsi_lu_new(&p, &lu, &err), rc);
	assert_null(lu);
	if (!strstr(err.msg, message) || !strstr(err.msg, path))
		fail_msg("'%s' has not '%s'", err.msg, message);
	blk_dev_unref(dev);
}

static void each_broken_line_is_named(void **state)
{
#define HEAD "vhostd-scsi-state 1\n"
#define REG  "register 000000000000aaaa one iqn.a host\n"
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "", "expected 'end' after line 0" },
		{ "vhostd-scsi-state 2\nend\n", "line 1: expected 'vhostd-scsi-state 1'" },
		{ HEAD, "expected 'end' after line 1" },
		{ HEAD REG, "expected 'end' after line 2" },
		{ HEAD "end", "line 2: the line is cut off" },
		{ HEAD "end\nend\n", "line 3: expected nothing after 'end'" },
		{ HEAD "hello\nend\n", "line 2: no such line, got 'hello'" },
		{ HEAD "mode 77 00 00\nend\n", "line 2: no saved mode page of this unit" },
		{ HEAD "register\nend\n", "line 2: no such line" },
		{ HEAD "register 00aa one iqn.a host\nend\n", "line 2: expected 'register KEY" },
		{ HEAD "register 0000000000000000 one iqn.a host\nend\n", "line 2: expected" },
		{ HEAD "register 000000000000aaaa two iqn.a host\nend\n", "line 2: expected" },
		{ HEAD "register 000000000000aaaa one iqn.a\nend\n", "line 2: expected" },
		{ HEAD "register 000000000000aaaa one iqn.a \nend\n", "line 2: expected" },
		{ HEAD "register 000000000000aaaa one  host\nend\n", "line 2: expected" },
		{ HEAD "register 000000000000aaaa one iqn.a host x\nend\n", "line 2: expected" },
		{ HEAD "register 000000000000aaaa one iqn%0 host\nend\n", "line 2: expected" },
		{ HEAD "register 000000000000aaaa one iqn%00 host\nend\n", "line 2: expected" },
		{ HEAD REG REG "end\n", "line 3: registered twice" },
		{ HEAD "reserve 1 0\nend\n", "line 2: expected 'reserve TYPE" },
		{ HEAD "reserve 7 all\nend\n", "line 2: expected 'reserve TYPE" },
		{ HEAD REG "reserve 1 1\nend\n", "line 3: expected 'reserve TYPE" },
		{ HEAD REG "reserve 1 0x\nend\n", "line 3: expected 'reserve TYPE" },
		{ HEAD REG "reserve 1 -1\nend\n", "line 3: expected 'reserve TYPE" },
		{ HEAD REG "reserve 1 all\nend\n", "line 3: expected 'reserve TYPE" },
		{ HEAD REG "reserve 2 0\nend\n", "line 3: expected 'reserve TYPE" },
		{ HEAD REG "reserve 7 0\nend\n", "line 3: expected 'reserve TYPE" },
		{ HEAD REG "reserve 1 0\nreserve 1 0\nend\n", "line 4: expected 'reserve TYPE" },
		{ HEAD REG "reserve 1 0\nregister 00000000000000bb one iqn.b host\nend\n",
		  "line 4: registered twice, or after the reservation" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		file_put(cases[i].text, strlen(cases[i].text));
		load_fails(-EINVAL, cases[i].message);
	}
	file_put(HEAD "e\0d\n", sizeof(HEAD "e\0d\n") - 1);
	load_fails(-EINVAL, "line 2: a zero byte");
}

static void too_many_registrations_are_named(void **state)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(HEAD, f);
	for (int i = 0; i <= RESV_REGISTRATIONS_MAX; i++)
		fprintf(f, "register 000000000000aaaa one iqn.%d host\n", i);
	fputs("end\n", f);
	fclose(f);
	load_fails(-EINVAL, "line 1026: too many registrations");
}

static void a_file_that_is_no_state_file_is_named(void **state)
{
	assert_int_equal(mkdir(path, 0700), 0);
	load_fails(-EINVAL, "expected a regular file");
	assert_int_equal(rmdir(path), 0);
	file_put("", 0);
	assert_int_equal(truncate(path, (8 << 20) + 1), 0);
	load_fails(-EFBIG, "expected at most 8388608 bytes, got 8388609");
	unlink(path);
	assert_int_equal(symlink("state", path), 0);
	load_fails(-ELOOP, "Too many levels");
}

int main(void)
{
#define test(name) cmocka_unit_test_setup(name, file_remove)
	const struct CMUnitTest tests[] = {
		test(registrations_and_reservation_survive_with_aptpl),
		test(without_aptpl_nothing_survives),
		test(each_change_is_on_disk_before_the_status),
		test(a_moved_reservation_survives_where_it_went),
		test(the_file_is_small_text_and_private),
		test(saved_mode_pages_survive),
		test(a_file_that_cannot_be_written_is_an_internal_failure),
		test(the_last_of_many_changes_at_once_is_on_disk),
		test(each_broken_line_is_named),
		test(too_many_registrations_are_named),
		test(a_file_that_is_no_state_file_is_named),
	};

	return cmocka_run_group_tests_name("scsi state", tests, folder_make, folder_remove);
}
