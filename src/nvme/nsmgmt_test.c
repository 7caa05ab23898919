/* Namespace Management and Attachment (base 5.19, 5.20): every status, and what survives. */
#include "nvme/resv_rig.h"

#include <dirent.h>
#include <sys/stat.h>

#define CREATE	   0
#define DELETE	   1
#define ATTACH	   0
#define DETACH	   1
#define POOL_BYTES (1u << 20)
#define BLOCKS	   1024ull /* half of the pool */

static struct rig r;
static char folder[] = "/tmp/vhostd-nvme-pool-XXXXXX", pool[64], path[64];
static const struct nvme_subsys_params pooled = {
	.name = "s", .state_path = path, .pool_path = pool, .pool_bytes = POOL_BYTES
};

static int folder_make(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/state", folder);
	snprintf(pool, sizeof(pool), "%s/a,pool", folder);
	return mkdir(pool, 0700);
}

/* How many files the pool has; with remove they go. */
static uint32_t files(bool remove)
{
	DIR *dir = opendir(pool);
	struct dirent *entry;
	uint32_t count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		count++;
		if (remove)
			assert_int_equal(unlinkat(dirfd(dir), entry->d_name, 0), 0);
	}
	closedir(dir);
	return count;
}

static int files_remove(void **state)
{
	files(true);
	unlink(path);
	return 0;
}

static int folder_remove(void **state)
{
	files_remove(state);
	rmdir(pool);
	return rmdir(folder);
}

static void start(void)
{
	rig_open(&r, &pooled, NULL, NULL);
}

/* ---- commands ---- */

static uint16_t admin(uint8_t opcode, uint32_t nsid, uint32_t cdw10, const void *page)
{
	const struct rig_sqe sqe = { true, opcode, nsid, cdw10, 0, page, NVME_IDENTIFY_BYTES };

	return rig_wait(&r, rig_start(&r, 0, &sqe));
}

static uint16_t keys_of_2(uint32_t ctrl, uint8_t opcode, uint32_t cdw10, uint64_t crkey,
			  uint64_t key)
{
	const struct le64 data[2] = { le64(crkey), le64(key) };
	const struct rig_sqe sqe = { false, opcode, 2, cdw10, 0, data, sizeof(data) };

	return rig_wait(&r, rig_start(&r, ctrl, &sqe));
}

struct template
{
	uint64_t nsze, ncap;
	uint8_t flbas, dps, nmic;
	uint32_t anagrpid;
};

static uint16_t create_as(const struct template *t)
{
	uint8_t data[4096] = { 0 };
	struct le64 sizes[2] = { le64(t->nsze), le64(t->ncap) };
	struct le32 group = le32(t->anagrpid);

	memcpy(data, sizes, sizeof(sizes));
	data[26] = t->flbas;
	data[29] = t->dps;
	data[30] = t->nmic;
	memcpy(data + 92, &group, sizeof(group));
	return admin(NVME_ADMIN_NS_MANAGEMENT, 0, CREATE, data);
}

static uint16_t create(uint64_t blocks, bool shared)
{
	const struct template t = { .nsze = blocks, .ncap = blocks, .nmic = shared };

	return create_as(&t);
}

static uint16_t delete (uint32_t nsid)
{
	return rig_admin(&r, 0, NVME_ADMIN_NS_MANAGEMENT, nsid, DELETE, 0);
}

static uint16_t attach(uint32_t sel, uint32_t nsid, uint16_t count, uint16_t a, uint16_t b)
{
	struct le16 list[2048] = { le16(count), le16(a), le16(b) };

	return admin(NVME_ADMIN_NS_ATTACHMENT, nsid, sel, list);
}

/* ---- create and delete ---- */

static void a_created_namespace_is_attached_to_nobody(void **state)
{
	const struct nvme_ns *ns;

	start();
	GOOD(create(BLOCKS, true));
	assert_int_equal(r.dw0, 2);
	ns = nvme_ns_find(r.subsys, 2);
	assert_non_null(ns);
	assert_int_equal(nvme_ns_blocks(ns), BLOCKS);
	assert_true(ns->managed && !ns->exclusive);
	for (uint32_t i = 0; i < RIG_CTRLS; i++)
		assert_null(nvme_att_find(r.ctrl[i], 2));
	assert_int_equal(files(false), 1);
	assert_int_equal(r.subsys->pool.used_bytes, BLOCKS * 512);
	rig_shut(&r);
}

static void wrong_templates_are_refused(void **state)
{
	static const struct {
		struct template t;
		uint32_t status;
	} cases[] = {
		{ { 0, 0, 0, 0, 0, 0 }, NVME_SC_INVALID_FIELD },
		{ { 8, 9, 0, 0, 0, 0 }, NVME_SC_INVALID_FIELD },
		{ { 8, 8, 0, 0, 2, 0 }, NVME_SC_INVALID_FIELD },
		{ { 8, 8, 0, 0, 0, 1 }, NVME_SC_INVALID_FIELD },
		{ { 8, 7, 0, 0, 0, 0 }, NVME_SC_THIN_NOT_SUPPORTED },
		{ { 8, 8, 1, 0, 0, 0 }, NVME_SC_INVALID_FORMAT },
		{ { 8, 8, 0, 1, 0, 0 }, NVME_SC_INVALID_FORMAT },
		{ { 2049, 2049, 0, 0, 0, 0 }, NVME_SC_NS_INSUFFICIENT_CAPACITY },
		{ { UINT64_MAX, UINT64_MAX, 0, 0, 0, 0 }, NVME_SC_NS_INSUFFICIENT_CAPACITY },
	};

	start();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(create_as(&cases[i].t), cases[i].status);
	assert_int_equal(rig_admin(&r, 0, NVME_ADMIN_NS_MANAGEMENT, 0, 2, 0),
			 NVME_SC_INVALID_FIELD);
	assert_int_equal(files(false), 0);
	assert_int_equal(r.subsys->pool.used_bytes, 0);
	rig_shut(&r);
}

static void the_pool_is_as_large_as_it_is(void **state)
{
	start();
	GOOD(create(BLOCKS, true));
	GOOD(create(BLOCKS, true));
	assert_int_equal(create(1, true), NVME_SC_NS_INSUFFICIENT_CAPACITY);
	GOOD(delete (2));
	GOOD(create(BLOCKS, true));
	assert_int_equal(r.dw0, 2);
	rig_shut(&r);
}

static void there_are_only_so_many_identifiers(void **state)
{
	start();
	for (uint32_t i = 1; i < NVME_NSID_MAX; i++)
		GOOD(create(1, true));
	assert_int_equal(r.dw0, NVME_NSID_MAX);
	assert_int_equal(create(1, true), NVME_SC_NS_ID_UNAVAILABLE);
	GOOD(delete (NVME_NSID_ALL));
	assert_int_equal(files(false), 0);
	assert_non_null(nvme_ns_find(r.subsys, 1)); /* the operator's */
	assert_null(nvme_ns_find(r.subsys, 2));
	rig_shut(&r);
}

static void a_deleted_namespace_is_gone_with_its_file(void **state)
{
	start();
	GOOD(create(8, true));
	GOOD(attach(ATTACH, 2, 1, 1, 0));
	GOOD(delete (2)); /* also while it is attached */
	assert_null(nvme_ns_find(r.subsys, 2));
	assert_null(nvme_att_find(r.ctrl[0], 2));
	assert_int_equal(files(false), 0);
	assert_int_equal(delete (2), NVME_SC_INVALID_NS);
	assert_int_equal(delete (0), NVME_SC_INVALID_NS);
	assert_int_equal(delete (1), NVME_SC_OPERATION_DENIED); /* the operator's */
	GOOD(delete (NVME_NSID_ALL));				/* there is none */
	rig_shut(&r);
	start();
	assert_null(nvme_ns_find(r.subsys, 2));
	rig_shut(&r);
}

static void without_a_pool_nothing_is_offered(void **state)
{
	rig_open(&r, NULL, NULL, NULL);
	assert_int_equal(create(8, true), NVME_SC_INVALID_OPCODE);
	assert_int_equal(delete (1), NVME_SC_INVALID_OPCODE);
	assert_int_equal(attach(DETACH, 1, 1, 1, 0), NVME_SC_INVALID_OPCODE);
	assert_false(nvme_pool_offered(&r.subsys->pool));
	rig_shut(&r);
}

static void a_file_that_cannot_be_made_is_an_internal_error(void **state)
{
	start();
	assert_int_equal(rmdir(pool), 0);
	assert_int_equal(create(8, true), NVME_SC_INTERNAL_ERROR);
	assert_null(nvme_ns_find(r.subsys, 2));
	assert_int_equal(r.subsys->pool.used_bytes, 0);
	assert_int_equal(mkdir(pool, 0700), 0);
	rig_shut(&r);
}

static void a_reservation_of_another_conflicts(void **state)
{
	start();
	GOOD(create(8, true));
	GOOD(attach(ATTACH, 2, 1, 2, 0));
	GOOD(keys_of_2(1, NVME_IO_RESV_REGISTER, 0, 0, 1));
	GOOD(keys_of_2(1, NVME_IO_RESV_ACQUIRE, 1 << 8, 1, 0));
	assert_int_equal(delete (2), NVME_SC_RESERVATION_CONFLICT);
	assert_int_equal(delete (NVME_NSID_ALL), NVME_SC_RESERVATION_CONFLICT);
	assert_int_equal(attach(ATTACH, 2, 1, 1, 0), NVME_SC_RESERVATION_CONFLICT);
	assert_int_equal(attach(DETACH, 2, 1, 2, 0), NVME_SC_RESERVATION_CONFLICT);
	rig_shut(&r);
}

/* ---- attach and detach ---- */

static void attaching_and_detaching(void **state)
{
	start();
	GOOD(create(8, true));
	GOOD(attach(ATTACH, 2, 2, 1, 3));
	assert_non_null(nvme_att_find(r.ctrl[0], 2));
	assert_null(nvme_att_find(r.ctrl[1], 2));
	assert_non_null(nvme_att_find(r.ctrl[2], 2));
	assert_int_equal(attach(ATTACH, 2, 2, 2, 3), NVME_SC_NS_ALREADY_ATTACHED);
	assert_null(nvme_att_find(r.ctrl[1], 2)); /* all or none */
	assert_int_equal(attach(DETACH, 2, 2, 1, 2), NVME_SC_NS_NOT_ATTACHED);
	assert_non_null(nvme_att_find(r.ctrl[0], 2));
	GOOD(attach(DETACH, 2, 2, 1, 3));
	assert_null(nvme_att_find(r.ctrl[0], 2));
	assert_null(nvme_att_find(r.ctrl[2], 2));
	GOOD(attach(DETACH, 1, 1, 4, 0)); /* the operator's too */
	assert_null(nvme_att_find(r.ctrl[3], 1));
	assert_non_null(nvme_att_find(r.ctrl[0], 1));
	rig_shut(&r);
}

static void wrong_lists_are_refused(void **state)
{
	start();
	assert_int_equal(attach(DETACH, 1, 0, 0, 0), NVME_SC_INVALID_CTRL_LIST);
	assert_int_equal(attach(DETACH, 1, 2048, 1, 2), NVME_SC_INVALID_CTRL_LIST);
	assert_int_equal(attach(DETACH, 1, 65535, 1, 2), NVME_SC_INVALID_CTRL_LIST);
	assert_int_equal(attach(DETACH, 1, 2, 2, 1), NVME_SC_INVALID_CTRL_LIST);
	assert_int_equal(attach(DETACH, 1, 2, 1, 1), NVME_SC_INVALID_CTRL_LIST);
	assert_int_equal(attach(DETACH, 1, 1, 0, 0), NVME_SC_INVALID_CTRL_LIST);
	assert_int_equal(attach(DETACH, 1, 1, 5, 0), NVME_SC_INVALID_CTRL_LIST);
	assert_int_equal(attach(DETACH, 1, 3, 1, 2), NVME_SC_INVALID_CTRL_LIST);
	assert_int_equal(attach(2, 1, 1, 1, 0), NVME_SC_INVALID_FIELD);
	assert_int_equal(attach(DETACH, NVME_NSID_ALL, 1, 1, 0), NVME_SC_INVALID_FIELD);
	assert_int_equal(attach(ATTACH, 2, 1, 1, 0), NVME_SC_INVALID_NS);
	assert_int_equal(attach(ATTACH, 0, 1, 1, 0), NVME_SC_INVALID_NS);
	for (uint32_t i = 0; i < RIG_CTRLS; i++)
		assert_non_null(nvme_att_find(r.ctrl[i], 1));
	rig_shut(&r);
}

static void a_private_namespace_has_one_controller(void **state)
{
	start();
	GOOD(create(8, false));
	assert_int_equal(attach(ATTACH, 2, 2, 1, 2), NVME_SC_NS_PRIVATE);
	GOOD(attach(ATTACH, 2, 1, 2, 0));
	assert_int_equal(attach(ATTACH, 2, 1, 1, 0), NVME_SC_NS_PRIVATE);
	GOOD(attach(DETACH, 2, 1, 2, 0));
	GOOD(attach(ATTACH, 2, 1, 1, 0));
	rig_shut(&r);
}

/* ---- restarts ---- */

static void created_namespaces_are_there_after_a_restart(void **state)
{
	uint8_t uuid[16];

	start();
	GOOD(create(8, true));
	GOOD(create(16, false));
	GOOD(create(24, true));
	GOOD(delete (2));
	GOOD(attach(ATTACH, 3, 1, 1, 0));
	memcpy(uuid, nvme_ns_find(r.subsys, 3)->uuid, sizeof(uuid));
	rig_shut(&r);
	start();
	assert_null(nvme_ns_find(r.subsys, 2));
	assert_memory_equal(nvme_ns_find(r.subsys, 3)->uuid, uuid, sizeof(uuid));
	assert_true(nvme_ns_find(r.subsys, 3)->exclusive);
	assert_int_equal(nvme_ns_blocks(nvme_ns_find(r.subsys, 3)), 16);
	assert_int_equal(nvme_ns_blocks(nvme_ns_find(r.subsys, 4)), 24);
	assert_null(nvme_att_find(r.ctrl[0], 3));
	assert_int_equal(r.subsys->pool.used_bytes, 40 * 512);
	GOOD(attach(ATTACH, 3, 1, 1, 0));
	rig_shut(&r);
}

static void one_whose_file_is_lost_keeps_its_identifier(void **state)
{
	start();
	GOOD(create(8, true));
	rig_shut(&r);
	files(true);
	start();
	assert_null(nvme_ns_find(r.subsys, 2));
	GOOD(create(8, true));
	assert_int_equal(r.dw0, 3);
	rig_shut(&r);
}

int main(void)
{
#define test(name) cmocka_unit_test_teardown(name, files_remove)
	const struct CMUnitTest tests[] = {
		test(a_created_namespace_is_attached_to_nobody),
		test(wrong_templates_are_refused),
		test(the_pool_is_as_large_as_it_is),
		test(there_are_only_so_many_identifiers),
		test(a_deleted_namespace_is_gone_with_its_file),
		test(without_a_pool_nothing_is_offered),
		test(a_file_that_cannot_be_made_is_an_internal_error),
		test(a_reservation_of_another_conflicts),
		test(attaching_and_detaching),
		test(wrong_lists_are_refused),
		test(a_private_namespace_has_one_controller),
		test(created_namespaces_are_there_after_a_restart),
		test(one_whose_file_is_lost_keeps_its_identifier),
	};

	return cmocka_run_group_tests_name("nvme nsmgmt", tests, folder_make, folder_remove);
}
