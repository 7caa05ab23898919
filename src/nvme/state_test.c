/* What survives a restart of a namespace and a subsystem, and state files that are broken. */
#include "nvme/resv_rig.h"

#include <errno.h>
#include <sys/stat.h>

#define KEY_A	      0xaaaaull
#define KEY_B	      0xbbbbull
#define PTPL_OFF      (2u << 30)
#define PTPL_ON	      (3u << 30)
#define REPLACE_IEKEY (2u | 1u << 3)
#define NS_HEAD	      "vhostd-nvme-ns 1\n"
#define SUB_HEAD      "vhostd-nvme-subsys 1\n"

static struct rig r;
static char folder[] = "/tmp/vhostd-nvme-state-XXXXXX", path[64], temporary[64];

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

static void start(void)
{
	rig_open(&r, NULL, path, NULL);
	rig_host(&r, 0, 0x0a);
	rig_host(&r, 1, 0x0b);
}

static void assert_file(const char *expected)
{
	char text[1024];
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	assert_string_equal(text, expected);
}

static void file_put(const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* ---- reservations ---- */

static void reservations_survive_with_ptpl(void **state)
{
	for (uint32_t type = 1; type <= 6; type++) {
		unlink(path);
		start();
		GOOD(rig_keys(&r, 0, NVME_IO_RESV_REGISTER, PTPL_ON, 0, KEY_A));
		GOOD(rig_keys(&r, 1, NVME_IO_RESV_REGISTER, 0, 0, KEY_B));
		GOOD(rig_keys(&r, 1, NVME_IO_RESV_ACQUIRE, type << 8, KEY_B, 0));
		rig_shut(&r);
		start();
		assert_true(r.ns->resv.ptpl);
		assert_int_equal(r.ns->resv.type, type);
		assert_int_equal(r.ns->resv.registrant_count, 2);
		assert_int_equal(r.ns->resv.generation, 0);
		if (type < 5)
			assert_ptr_equal(r.ns->resv.holder, nvme_resv_find(r.ns, r.ctrl[1]));
		assert_int_equal(nvme_resv_gate(r.ns, r.ctrl[1]), 0);
		/* the gates of controllers that are made later, too */
		assert_int_not_equal(atomic_load(&nvme_att_find(r.ctrl[2], 1)->gate), 0);
		GOOD(rig_keys(&r, 1, NVME_IO_RESV_RELEASE, type << 8, KEY_B, 0));
		rig_shut(&r);
		start();
		assert_int_equal(r.ns->resv.type, 0);
		rig_shut(&r);
	}
}

static void the_file_is_small_text_and_private(void **state)
{
	struct stat st;

	start();
	rig_host_extended(&r, 2, 0x5a);
	GOOD(rig_keys(&r, 2, NVME_IO_RESV_REGISTER, PTPL_ON, 0, 0x123456789abcdef0));
	GOOD(rig_keys(&r, 0, NVME_IO_RESV_REGISTER, 0, 0, KEY_A));
	GOOD(rig_keys(&r, 3, NVME_IO_RESV_REGISTER, 0, 0,
		      KEY_B)); /* no identifier: does not survive */
	GOOD(rig_keys(&r, 0, NVME_IO_RESV_ACQUIRE, 3 << 8, KEY_A, 0));
	rig_shut(&r);
	assert_file(NS_HEAD "ptpl 1\n"
			    "register 123456789abcdef0 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\n"
			    "register 000000000000aaaa 0a00000000000000\n"
			    "reserve 3 1\n"
			    "end\n");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void without_ptpl_nothing_survives(void **state)
{
	start();
	GOOD(rig_keys(&r, 0, NVME_IO_RESV_REGISTER, 0, 0, KEY_A));
	GOOD(rig_keys(&r, 0, NVME_IO_RESV_ACQUIRE, 1 << 8, KEY_A, 0));
	assert_int_equal(access(path, F_OK), -1);
	rig_shut(&r);
	start();
	assert_int_equal(r.ns->resv.registrant_count, 0);
	GOOD(rig_keys(&r, 0, NVME_IO_RESV_REGISTER, PTPL_ON, 0, KEY_A));
	GOOD(rig_keys(&r, 0, NVME_IO_RESV_REGISTER, PTPL_OFF, 0, KEY_A));
	assert_file(NS_HEAD "end\n");
	rig_shut(&r);
}

static void a_holder_without_identifier_leaves_no_reservation_behind(void **state)
{
	start();
	GOOD(rig_keys(&r, 0, NVME_IO_RESV_REGISTER, PTPL_ON, 0, KEY_A));
	GOOD(rig_keys(&r, 3, NVME_IO_RESV_REGISTER, 0, 0, KEY_B));
	GOOD(rig_keys(&r, 3, NVME_IO_RESV_ACQUIRE, 2 << 8, KEY_B, 0));
	rig_shut(&r);
	assert_file(NS_HEAD "ptpl 1\nregister 000000000000aaaa 0a00000000000000\nend\n");
}

static void the_feature_switches_it(void **state)
{
	start();
	GOOD(rig_keys(&r, 0, NVME_IO_RESV_REGISTER, 0, 0, KEY_A));
	GOOD(rig_admin(&r, 0, NVME_ADMIN_SET_FEATURES, 1, NVME_FEAT_RESV_PERSISTENCE, 1));
	assert_file(NS_HEAD "ptpl 1\nregister 000000000000aaaa 0a00000000000000\nend\n");
	GOOD(rig_admin(&r, 0, NVME_ADMIN_SET_FEATURES, NVME_NSID_ALL, NVME_FEAT_RESV_PERSISTENCE,
		       0));
	assert_file(NS_HEAD "end\n");
	assert_int_equal(
		rig_admin(&r, 0, NVME_ADMIN_SET_FEATURES, 2, NVME_FEAT_RESV_PERSISTENCE, 1),
		NVME_SC_INVALID_NS);
	rig_shut(&r);
	rig_open(&r, NULL, NULL, NULL); /* no state file */
	assert_int_equal(rig_admin(&r, 0, NVME_ADMIN_SET_FEATURES, NVME_NSID_ALL,
				   NVME_FEAT_RESV_PERSISTENCE, 1),
			 NVME_SC_FEATURE_NOT_CHANGEABLE);
	GOOD(rig_admin(&r, 0, NVME_ADMIN_SET_FEATURES, 1, NVME_FEAT_RESV_PERSISTENCE, 0));
	assert_int_equal(nvme_resv_cap(r.ns), NVME_RESCAP);
	rig_shut(&r);
}

static void a_file_that_cannot_be_written_is_an_internal_error(void **state)
{
	start();
	assert_int_equal(nvme_resv_cap(r.ns), NVME_RESCAP | NVME_RESCAP_PTPL);
	assert_int_equal(mkdir(temporary, 0700), 0); /* in the way */
	assert_int_equal(rig_keys(&r, 0, NVME_IO_RESV_REGISTER, PTPL_ON, 0, KEY_A),
			 NVME_SC_INTERNAL_ERROR);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(rmdir(temporary), 0);
	GOOD(rig_keys(&r, 0, NVME_IO_RESV_REGISTER, REPLACE_IEKEY, 0, KEY_B));
	rig_shut(&r);
	start();
	assert_int_equal(nvme_resv_find(r.ns, r.ctrl[0])->key, KEY_B);
	rig_shut(&r);
}

/* ---- broken files ---- */

static void assert_message(const struct err *err, const char *message)
{
	if (!strstr(err->msg, message) || !strstr(err->msg, path))
		fail_msg("'%s' has not '%s'", err->msg, message);
}

static void ns_load_fails(const char *text, const char *message)
{
	struct nvme_ns_params p = { .nsid = 1, .identity = "x", .state_path = path };
	struct nvme_subsys_params sp = { .name = "s" };
	struct nvme_subsys *subsys;
	struct nvme_ns *ns = NULL;
	struct err err = { 0 };

	file_put(text);
	assert_int_equal(blk_dev_open("ram", "ram", "size=1M", &p.dev, &err), 0);
	assert_int_equal(nvme_subsys_new(&sp, &subsys, &err), 0);
	assert_int_equal(nvme_ns_add(subsys, &p, &ns, &err), -EINVAL);
	assert_null(ns);
	assert_message(&err, message);
	nvme_subsys_unref(subsys);
	blk_dev_unref(p.dev);
}

static void each_broken_line_of_a_namespace_is_named(void **state)
{
#define REG "register 000000000000aaaa 0a00000000000000\n"
#define P   NS_HEAD "ptpl 1\n"
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "vhostd-nvme-ns 2\nend\n", "line 1: expected 'vhostd-nvme-ns 1'" },
		{ NS_HEAD "hello\nend\n", "line 2: no such line, got 'hello'" },
		{ NS_HEAD "ptpl 0\nend\n", "line 2: expected 'ptpl 1', once" },
		{ P "ptpl 1\nend\n", "line 3: expected 'ptpl 1', once" },
		{ NS_HEAD REG "end\n", "line 2: expected 'ptpl 1' before it" },
		{ NS_HEAD "reserve 1 0\nend\n", "line 2: expected 'ptpl 1' before it" },
		{ P "register\nend\n", "line 3: no such line" },
		{ P "register 00aa 0a00000000000000\nend\n",
		  "line 3: expected 'register KEY HOST'" },
		{ P "register 0000000000000000 0a00000000000000\nend\n", "line 3: expected" },
		{ P "register 000000000000aaaa 0000000000000000\nend\n", "line 3: expected" },
		{ P "register 000000000000aaaa 0a000000000000\nend\n", "line 3: expected" },
		{ P "register 000000000000aaaa 0a000000000000000\nend\n", "line 3: expected" },
		{ P "register 000000000000aaaa 0A00000000000000\nend\n", "line 3: expected" },
		{ P "register 000000000000aaaa 0a00000000000000 \nend\n", "line 3: expected" },
		{ P REG REG "end\n", "line 4: registered twice" },
		{ P "reserve 1 0\nend\n", "line 3: expected 'reserve TYPE" },
		{ P "reserve 5 all\nend\n", "line 3: expected 'reserve TYPE" },
		{ P REG "reserve 0 0\nend\n", "line 4: expected 'reserve TYPE" },
		{ P REG "reserve 7 0\nend\n", "line 4: expected 'reserve TYPE" },
		{ P REG "reserve 1 1\nend\n", "line 4: expected 'reserve TYPE" },
		{ P REG "reserve 1 0x\nend\n", "line 4: expected 'reserve TYPE" },
		{ P REG "reserve 1 -1\nend\n", "line 4: expected 'reserve TYPE" },
		{ P REG "reserve 1 all\nend\n", "line 4: expected 'reserve TYPE" },
		{ P REG "reserve 5 0\nend\n", "line 4: expected 'reserve TYPE" },
		{ P REG "reserve 1 0\nreserve 1 0\nend\n", "line 5: expected 'reserve TYPE" },
		{ P REG "reserve 1 0\nregister 000000000000bbbb 0b00000000000000\nend\n",
		  "line 5: registered twice, or after the reservation" },
		{ P REG, "expected 'end' after line 3" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		ns_load_fails(cases[i].text, cases[i].message);
}

static void too_many_registrants_are_named(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	assert_non_null(to);
	fputs(P, to);
	for (uint32_t i = 0; i <= NVME_REGISTRANTS_MAX; i++)
		fprintf(to, "register 000000000000aaaa %08x00000000\n", i + 1);
	fputs("end\n", to);
	fclose(to);
	ns_load_fails(text, "line 1027: too many registrants");
	free(text);
}

static void subsys_load_fails(const char *text, const char *pool, const char *message)
{
	struct nvme_subsys_params sp = {
		.name = "s", .state_path = path, .pool_path = pool, .pool_bytes = 1 << 20
	};
	struct nvme_subsys *subsys = NULL;
	struct err err = { 0 };

	file_put(text);
	assert_int_equal(nvme_subsys_new(&sp, &subsys, &err), -EINVAL);
	assert_null(subsys);
	assert_message(&err, message);
}

static void each_broken_line_of_a_subsystem_is_named(void **state)
{
#define UUID "01234567-89ab-4cde-8f01-23456789abcd"
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ NS_HEAD "end\n", "line 1: expected 'vhostd-nvme-subsys 1'" },
		{ SUB_HEAD "ptpl 1\nend\n", "line 2: no such line" },
		{ SUB_HEAD "uncorrectable 0 1\nend\n", "line 2: no such line" },
		{ SUB_HEAD "sanitize never 00000002 00000000 0\nend\n",
		  "line 2: expected 'sanitize" },
		{ SUB_HEAD "sanitize done 00000001 00000000 0\nend\n",
		  "line 2: expected 'sanitize" },
		{ SUB_HEAD "sanitize done 00000002 00000000\nend\n", "line 2: expected 'sanitize" },
		{ SUB_HEAD "sanitize done 00000002 00000000 17\nend\n", "line 2: expected" },
		{ SUB_HEAD "sanitize done 00000002 00000000 0 0\nend\n", "line 2: expected" },
		{ SUB_HEAD
		  "sanitize done 00000002 00000000 0\nsanitize done 00000002 00000000 0\nend\n",
		  "line 3: expected 'sanitize" },
		{ SUB_HEAD "sanitizes\nend\n", "line 2: no such line" },
		{ SUB_HEAD "sanitize-namespace 1 " UUID "\nend\n",
		  "line 2: expected 'sanitize-namespace NSID UUID', after 'sanitize running'" },
		{ SUB_HEAD "sanitize done 00000002 00000000 0\nsanitize-namespace 1 " UUID
			   "\nend\n",
		  "line 3: expected 'sanitize-namespace" },
		{ SUB_HEAD "sanitize running 00000002 00000000 0\nsanitize-namespace 0 " UUID
			   "\nend\n",
		  "line 3: expected 'sanitize-namespace" },
		{ SUB_HEAD "sanitize running 00000002 00000000 0\nsanitize-namespace 1 x\nend\n",
		  "line 3: expected 'sanitize-namespace" },
		{ SUB_HEAD "namespace 0 512 shared " UUID "\nend\n",
		  "line 2: expected 'namespace" },
		{ SUB_HEAD "namespace 1025 512 shared " UUID "\nend\n", "line 2: expected" },
		{ SUB_HEAD "namespace 1 0 shared " UUID "\nend\n", "line 2: expected 'namespace" },
		{ SUB_HEAD "namespace 1 513 shared " UUID "\nend\n", "line 2: expected" },
		{ SUB_HEAD "namespace 1 512 private " UUID "\nend\n", "line 2: expected" },
		{ SUB_HEAD "namespace 1 512 shared 0123\nend\n", "line 2: expected 'namespace" },
		{ SUB_HEAD "namespace 1 512 shared " UUID "0\nend\n", "line 2: expected" },
		{ SUB_HEAD "namespace 1 512 shared " UUID "\nnamespace 1 512 shared " UUID
			   "\nend\n",
		  "line 3: this namespace was there before" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		subsys_load_fails(cases[i].text, folder, cases[i].message);
	subsys_load_fails(SUB_HEAD "namespace 1 512 shared " UUID "\nend\n", NULL,
			  "has namespaces of a pool, and there is none");
}

int main(void)
{
#define test(name) cmocka_unit_test_setup(name, file_remove)
	const struct CMUnitTest tests[] = {
		test(reservations_survive_with_ptpl),
		test(the_file_is_small_text_and_private),
		test(without_ptpl_nothing_survives),
		test(a_holder_without_identifier_leaves_no_reservation_behind),
		test(the_feature_switches_it),
		test(a_file_that_cannot_be_written_is_an_internal_error),
		test(each_broken_line_of_a_namespace_is_named),
		test(too_many_registrants_are_named),
		test(each_broken_line_of_a_subsystem_is_named),
	};

	return cmocka_run_group_tests_name("nvme state", tests, folder_make, folder_remove);
}
