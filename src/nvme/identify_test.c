#include "nvme/admin_rig.h"

#define IDENTIFY(r, nsid, cns) rig_send(r, NVME_ADMIN_IDENTIFY, nsid, cns, 0)

/* ---- the controller ---- */

static void a_controller_says_what_it_is(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(IDENTIFY(&r, 0, 0x01), SUCCESS);
	assert_int_equal(r.cmd.reply_bytes, 4096);
	assert_bytes(&r, 0, "f41a f41a");
	assert_memory_equal(r.cmd.buf + 24, "vhostd                                  ", 40);
	assert_memory_equal(r.cmd.buf + 64, "0.1.0   ", 8);
	assert_bytes(&r, 72, "06 005452 0b 09 0100 00040100"); /* RAB IEEE CMIC MDTS CNTLID VER */
	assert_int_equal(rig_le(&r, 92, 4), 1 << 8 | 1 << 11); /* OAES */
	assert_int_equal(rig_le(&r, 96, 4), 1);		       /* CTRATT: 128-bit host id */
	assert_zeroes(&r, 100, 111);
	assert_bytes(&r, 111, "01"); /* CNTRLTYPE */
	assert_zeroes(&r, 112, 256);
	assert_bytes(&r, 256, "0a01 03 03 03 07 3f 00 00 00 5701 7501 0000");
	assert_zeroes(&r, 272, 280);
	assert_int_equal(rig_le(&r, 280, 8), 1 << 20); /* TNVMCAP */
	assert_zeroes(&r, 288, 320);
	assert_bytes(&r, 320, "0a00 0000");
	assert_bytes(&r, 342, "0a 5f 01000000 01000000"); /* ANATT ANACAP ANAGRPMAX NANAGRPID */
	assert_bytes(&r, 512, "66 44 0000 00040000 ff01 0100 00 05 0000 0000 00 03");
	assert_int_equal(rig_le(&r, 540, 4), 1024); /* MNAN */
	assert_zeroes(&r, 544, 768);
	assert_string_equal((char *)r.cmd.buf + 768, "nqn.2026-01.test:s0");
	assert_zeroes(&r, 788, 4096);
	rig_close(&r);
}

static void each_controller_has_its_own_identifier(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(rig_send_to(&r, 0, NVME_ADMIN_IDENTIFY, 0, 1, 0), SUCCESS);
	assert_int_equal(rig_le(&r, 78, 2), 1);
	assert_status(rig_send_to(&r, 1, NVME_ADMIN_IDENTIFY, 0, 1, 0), SUCCESS);
	assert_int_equal(rig_le(&r, 78, 2), 2);
	rig_ctrl_free(r.ctrl[0]);
	r.ctrl[0] = rig_ctrl_new(&r, NVME_PROFILE_PCI);
	assert_int_equal(r.ctrl[0]->cntlid, 1);
	rig_close(&r);
}

static void the_vendor_is_that_of_the_function(void **state)
{
	struct rig r;

	rig_open(&r);
	r.ctrl[0]->params.pci_vendor = 0x1b36;
	assert_status(IDENTIFY(&r, 0, 0x01), SUCCESS);
	assert_bytes(&r, 0, "361b 361b");
	rig_close(&r);
}

static void what_is_not_offered_is_not_told(void **state)
{
	struct rig r;

	rig_open(&r);
	rig_not_offered[0] = NVME_ADMIN_FORMAT_NVM;
	rig_not_offered[1] = NVME_ADMIN_NS_MANAGEMENT;
	rig_not_offered[2] = NVME_ADMIN_DOORBELL_BUFFER_CONFIG;
	assert_status(IDENTIFY(&r, 0, 0x01), SUCCESS);
	assert_int_equal(rig_le(&r, 256, 2), 0);
	assert_status(IDENTIFY(&r, NVME_NSID_ALL, 0x00), INVALID_NS);
	rig_close(&r);
}

static void over_vhost_it_is_a_controller_of_version_1_0(void **state)
{
	struct rig r;

	rig_open_as(&r, NVME_PROFILE_VHOST);
	rig_ns_add(&r, 3, "size=1M");
	assert_status(IDENTIFY(&r, 0, 0x01), SUCCESS);
	assert_bytes(&r, 76, "00 05 0100 00000100");
	assert_int_equal(rig_le(&r, 92, 4), 0);
	assert_int_equal(rig_le(&r, 516, 4), 3); /* NN: the highest one */
	assert_int_equal(r.cmd.buf[525], 1);
	assert_int_equal(rig_le(&r, 536, 4), 0);
	assert_zeroes(&r, 540, 4096);
	assert_status(IDENTIFY(&r, 3, 0x00), SUCCESS);
	assert_int_equal(rig_le(&r, 0, 8), 2048);
	assert_bytes(&r, 128, "0000 09 00");
	assert_zeroes(&r, 24, 128);
	assert_zeroes(&r, 132, 4096);
	rig_close(&r);
}

/* ---- namespaces ---- */

static void a_namespace_says_what_it_is(void **state)
{
	struct rig r;
	struct blk_caps *caps;

	rig_open(&r);
	caps = (struct blk_caps *)r.ns[1]->caps;
	caps->phys_bytes = 4096;
	caps->opt_io_bytes = 65536;
	caps->discard_align_bytes = 8192;
	caps->zeroes_unmap = true;
	assert_status(IDENTIFY(&r, 1, 0x00), SUCCESS);
	assert_bytes(&r, 0, "0008000000000000 0008000000000000 0008000000000000");
	/* NSFEAT NLBAF FLBAS MC DPC DPS NMIC RESCAP FPI DLFEAT */
	assert_bytes(&r, 24, "12 00 00 00 00 00 01 fe 80 09");
	assert_bytes(&r, 34, "0000 0000 ff00 0000 0000 0000 0000");
	assert_bytes(&r, 48, "0000100000000000 0000000000000000");
	assert_bytes(&r, 64, "0700 0700 0f00 0f00 7f00"); /* NPWG NPWA NPDG NPDA NOWS */
	assert_bytes(&r, 74, "ffff 00000100 7f");	  /* MSSRL MCL MSRC */
	assert_bytes(&r, 92, "01000000 000000 00 0000 0000");
	assert_memory_equal(r.cmd.buf + 104, r.ns[1]->nguid, 16);
	assert_zeroes(&r, 120, 128);
	assert_bytes(&r, 128, "0000 09 00");
	assert_zeroes(&r, 132, 4096);
	rig_close(&r);
}

static void a_namespace_of_4096_byte_blocks_says_so(void **state)
{
	struct rig r;

	rig_open(&r);
	rig_ns_add(&r, 2, "size=1M,block-size=4096");
	assert_status(IDENTIFY(&r, 2, 0x00), SUCCESS);
	assert_int_equal(rig_le(&r, 0, 8), 256);
	assert_bytes(&r, 128, "0000 0c 00");
	rig_close(&r);
}

static void a_protected_namespace_says_so(void **state)
{
	struct rig r;

	rig_open(&r);
	r.ns[1]->read_only = true;
	assert_status(IDENTIFY(&r, 1, 0x00), SUCCESS);
	assert_bytes(&r, 99, "01");
	rig_close(&r);
}

static void namespaces_that_cannot_be_identified(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(IDENTIFY(&r, 0, 0x00), INVALID_NS);
	assert_status(IDENTIFY(&r, 1025, 0x00), INVALID_NS);
	assert_status(IDENTIFY(&r, 0xfffffffe, 0x00), INVALID_NS);
	assert_status(IDENTIFY(&r, 2, 0x00), SUCCESS); /* inactive */
	assert_zeroes(&r, 0, 4096);
	assert_status(IDENTIFY(&r, NVME_NSID_ALL, 0x00), SUCCESS); /* what all have in common */
	assert_bytes(&r, 24, "00 00 00 00 00 00 01");
	assert_bytes(&r, 128, "0000 09 00");
	assert_zeroes(&r, 0, 24);
	rig_close(&r);
}

static void names_of_a_namespace_are_descriptors(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(IDENTIFY(&r, 1, 0x03), SUCCESS);
	assert_bytes(&r, 0, "02 10 0000");
	assert_memory_equal(r.cmd.buf + 4, r.ns[1]->nguid, 16);
	assert_bytes(&r, 20, "03 10 0000");
	assert_memory_equal(r.cmd.buf + 24, r.ns[1]->uuid, 16);
	assert_zeroes(&r, 40, 4096);
	memcpy(r.ns[1]->eui64, "\x02\x00\x00\x01\x02\x03\x04\x05", 8);
	assert_status(IDENTIFY(&r, 1, 0x03), SUCCESS);
	assert_bytes(&r, 0, "01 08 0000 0200000102030405 02 10 0000");
	assert_status(IDENTIFY(&r, 2, 0x03), INVALID_NS);
	assert_status(IDENTIFY(&r, 0, 0x03), INVALID_NS);
	assert_status(IDENTIFY(&r, NVME_NSID_ALL, 0x03), INVALID_NS);
	rig_close(&r);
}

static void names_are_made_of_the_identity(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_int_equal(r.ns[1]->uuid[6] >> 4, 8);
	assert_int_equal(r.ns[1]->uuid[8] >> 6, 2);
	assert_int_equal(r.ns[1]->nguid[8] & 3, 2); /* locally administered, not a group */
	assert_memory_equal(r.ns[1]->uuid,
			    "\x26\x41\xbd\x6e\xc1\xfc\x88\x12\x87\xaf\x7b\x05\x5a\x69\x1b\x27", 16);
	rig_close(&r);
}

/* ---- lists ---- */

static void lists_have_what_is_above_the_nsid(void **state)
{
	struct rig r;

	rig_open(&r);
	rig_ns_add(&r, 5, "size=1M");
	rig_ns_add(&r, 3, "size=1M");
	assert_status(IDENTIFY(&r, 0, 0x02), SUCCESS);
	assert_bytes(&r, 0, "01000000 03000000 05000000 00000000");
	assert_status(IDENTIFY(&r, 3, 0x02), SUCCESS);
	assert_bytes(&r, 0, "05000000 00000000");
	assert_zeroes(&r, 4, 4096);
	assert_status(IDENTIFY(&r, 5, 0x02), SUCCESS);
	assert_zeroes(&r, 0, 4096);
	assert_status(IDENTIFY(&r, 0xfffffffe, 0x02), INVALID_NS);
	assert_status(IDENTIFY(&r, 0xffffffff, 0x02), INVALID_NS);
	rig_close(&r);
}

static void detached(void *arg)
{
	*(bool *)arg = true;
}

static void a_detached_namespace_is_allocated_and_not_active(void **state)
{
	bool done = false;
	struct rig r;

	rig_open(&r);
	assert_int_equal(nvme_ns_detach(r.ns[1], r.ctrl[0], detached, &done), 0);
	assert_int_equal(nvme_ns_detach(r.ns[1], r.ctrl[0], detached, &done), -ENOENT);
	while (!done)
		loop_run_once(r.loop, true);
	assert_status(IDENTIFY(&r, 0, 0x02), SUCCESS);
	assert_zeroes(&r, 0, 4096);
	assert_status(IDENTIFY(&r, 1, 0x00), SUCCESS);
	assert_zeroes(&r, 0, 4096);
	assert_status(IDENTIFY(&r, 0, 0x10), SUCCESS);
	assert_bytes(&r, 0, "01000000 00000000");
	assert_status(IDENTIFY(&r, 1, 0x11), SUCCESS);
	assert_int_equal(rig_le(&r, 0, 8), 2048);
	assert_status(IDENTIFY(&r, 2, 0x11), SUCCESS);
	assert_zeroes(&r, 0, 4096);
	assert_status(IDENTIFY(&r, 0, 0x11), INVALID_NS);
	assert_status(IDENTIFY(&r, NVME_NSID_ALL, 0x11), INVALID_NS);
	assert_status(IDENTIFY(&r, NVME_NSID_ALL, 0x10), INVALID_NS);
	assert_status(IDENTIFY(&r, 1, 0x12), SUCCESS); /* the other one has it */
	assert_bytes(&r, 0, "0100 0200 0000");
	assert_int_equal(nvme_ns_attach(r.ns[1], r.ctrl[0]), 0);
	assert_int_equal(nvme_ns_attach(r.ns[1], r.ctrl[0]), -EEXIST);
	assert_status(IDENTIFY(&r, 1, 0x12), SUCCESS);
	assert_bytes(&r, 0, "0200 0100 0200 0000");
	rig_close(&r);
}

static void controllers_are_listed_from_an_identifier_on(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(IDENTIFY(&r, 0, 0x13), SUCCESS);
	assert_bytes(&r, 0, "0200 0100 0200 0000");
	assert_status(IDENTIFY(&r, 0, 2u << 16 | 0x13), SUCCESS);
	assert_bytes(&r, 0, "0100 0200 0000");
	assert_status(IDENTIFY(&r, 0, 3u << 16 | 0x13), SUCCESS);
	assert_zeroes(&r, 0, 4096);
	assert_status(IDENTIFY(&r, 2, 0x12), SUCCESS);
	assert_zeroes(&r, 0, 4096);
	assert_status(IDENTIFY(&r, 0, 0x12), INVALID_NS);
	assert_status(IDENTIFY(&r, NVME_NSID_ALL, 0x12), INVALID_FIELD);
	rig_close(&r);
}

/* ---- the rest ---- */

static void command_sets_other_than_nvm_are_unknown(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(rig_send(&r, NVME_ADMIN_IDENTIFY, 1, 0x05, 0), SUCCESS);
	assert_zeroes(&r, 0, 4096);
	assert_status(rig_send(&r, NVME_ADMIN_IDENTIFY, 0, 0x05, 0), INVALID_NS);
	assert_status(rig_send(&r, NVME_ADMIN_IDENTIFY, 1, 0x05, 2u << 24), INVALID_FIELD);
	assert_status(rig_send(&r, NVME_ADMIN_IDENTIFY, 0, 0x06, 0), SUCCESS);
	assert_zeroes(&r, 0, 4096);
	assert_status(rig_send(&r, NVME_ADMIN_IDENTIFY, 0, 0x06, 2u << 24), INVALID_FIELD);
	rig_close(&r);
}

static void every_other_cns_is_an_invalid_field(void **state)
{
	static const uint8_t known[] = { 0, 1, 2, 3, 5, 6, 0x10, 0x11, 0x12, 0x13 };
	struct rig r;

	rig_open(&r);
	for (uint32_t cns = 0; cns < 256; cns++)
		if (!memchr(known, (int)cns, sizeof(known)))
			assert_status(IDENTIFY(&r, 1, cns), INVALID_FIELD);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_controller_says_what_it_is),
		cmocka_unit_test(each_controller_has_its_own_identifier),
		cmocka_unit_test(the_vendor_is_that_of_the_function),
		cmocka_unit_test(what_is_not_offered_is_not_told),
		cmocka_unit_test(over_vhost_it_is_a_controller_of_version_1_0),
		cmocka_unit_test(a_namespace_says_what_it_is),
		cmocka_unit_test(a_namespace_of_4096_byte_blocks_says_so),
		cmocka_unit_test(a_protected_namespace_says_so),
		cmocka_unit_test(namespaces_that_cannot_be_identified),
		cmocka_unit_test(names_of_a_namespace_are_descriptors),
		cmocka_unit_test(names_are_made_of_the_identity),
		cmocka_unit_test(lists_have_what_is_above_the_nsid),
		cmocka_unit_test(a_detached_namespace_is_allocated_and_not_active),
		cmocka_unit_test(controllers_are_listed_from_an_identifier_on),
		cmocka_unit_test(command_sets_other_than_nvm_are_unknown),
		cmocka_unit_test(every_other_cns_is_an_invalid_field),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
