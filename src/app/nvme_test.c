/* nvme devices: what is accepted, what each refusal says, and which devices are one subsystem. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "app/args.h"
#include "base/check.h"

static struct app_config cfg;
static struct err err;

/* Parses up to three --device values, then checks as main does. */
static int parse(const char *a, const char *b, const char *c)
{
	const char *const texts[] = { a, b, c };
	char *argv[8] = { (char *)"vhostd" };
	int argc = 1, rc;

	for (size_t i = 0; i < ARRAY_SIZE(texts) && texts[i]; i++) {
		argv[argc++] = (char *)"--device";
		argv[argc++] = (char *)texts[i];
	}
	memset(&err, 0, sizeof(err));
	rc = args_parse(argc, argv, &cfg, &err);
	return rc < 0 ? rc : app_config_check(&cfg, &err);
}

static int teardown(void **state)
{
	app_config_fini(&cfg);
	return 0;
}

static void refused(const char *a, const char *b, const char *message)
{
	assert_true(parse(a, b, NULL) < 0);
	assert_string_equal(err.msg, message);
	app_config_fini(&cfg);
}

static void test_device_and_namespaces_with_every_key(void **state)
{
	static const uint8_t uuid[16] = { 0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1,
					  0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8 };
	static const uint8_t eui64[8] = { 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0xfe };
	const struct device_def *d;
	const struct unit_def *u;

	assert_int_equal(
		parse("nvme,name=a,socket=/s,transport=vfio-user,num-queues=256,queue-size=32768,"
		      "spin-us=0,socket-mode=0660,connections=2,client,reconnect-ms=0,"
		      "doorbells=mapped,ana=non-optimized,pci-vendor=0x1b36,pci-device=16,"
		      "subsystem=one,serial=S1,model=A Disk,nqn=nqn.2026-01.io.example:x,"
		      "state=/st,ns-pool=/pool,ns-pool-size=10G,"
		      "ns=1024:file=/a\\,b\\:c:uuid=6BA7B810-9dad-11d1-80b4-00C04fd430c8:"
		      "nguid=00000000000000000000000000000001:eui64=00112233445566FE:read-only:"
		      "block-size=4096:direct=off:lock=off:discard=off:state=none,ns=1:ram=64M",
		      NULL, NULL),
		0);
	d = &cfg.devices[0];
	assert_ptr_equal(d->type, &device_nvme);
	assert_int_equal(d->transport, TRANSPORT_VFIO_USER);
	assert_int_equal(d->num_queues, 256);
	assert_int_equal(d->queue_size, 32768);
	assert_int_equal(d->doorbells, 1);
	assert_int_equal(d->ana, 1);
	assert_int_equal(d->pci_vendor, 0x1b36);
	assert_int_equal(d->pci_device, 16);
	assert_string_equal(d->subsystem, "one");
	assert_string_equal(d->serial, "S1");
	assert_string_equal(d->model, "A Disk");
	assert_true(d->ns_pool_bytes == 10ull << 30);
	assert_int_equal(d->unit_count, 2);
	u = &d->units[0];
	assert_int_equal(u->place.number, 1024);
	assert_string_equal(u->back.file, "/a,b:c");
	assert_memory_equal(u->uuid_bytes, uuid, 16);
	assert_int_equal(u->nguid_bytes[15], 1);
	assert_memory_equal(u->eui64_bytes, eui64, 8);
	assert_true(u->back.read_only);
	u = &d->units[1];
	assert_int_equal(u->place.number, 1);
	assert_int_equal(u->back.ram_bytes, 64 << 20);
	assert_null(u->uuid);
}

static void test_defaults_are_those_of_the_documentation(void **state)
{
	const struct device_def *d;

	assert_int_equal(parse("nvme,socket=/s", NULL, NULL), 0);
	d = &cfg.devices[0];
	assert_string_equal(d->name, "nvme0");
	assert_int_equal(d->transport, TRANSPORT_VFIO_USER);
	assert_int_equal(d->num_queues, 64);
	assert_int_equal(d->queue_size, 1024);
	assert_int_equal(d->doorbells, 0);
	assert_int_equal(d->unit_count, 0);
	assert_null(d->subsystem);
}

static const struct {
	const char *device, *message;
} refusals[] = {
	{ "num-queues=257", "num-queues: expected 1..256, got 257" },
	{ "queue-size=1", "queue-size: expected 2..32768, got 1" },
	{ "queue-size=32769", "queue-size: expected 2..32768, got 32769" },
	{ "transport=tcp", "transport: expected vhost-user|vfio-user, got 'tcp'" },
	{ "doorbells=soft", "doorbells: expected trapped|mapped, got 'soft'" },
	{ "transport=vhost-user,doorbells=trapped",
	  "doorbells: only with transport=vfio-user, got vhost-user" },
	{ "transport=vhost-user,pci-vendor=7",
	  "pci-vendor: only with transport=vfio-user, got vhost-user" },
	{ "transport=vhost-user,ana=optimized",
	  "ana: only with transport=vfio-user, got vhost-user" },
	{ "transport=vhost-user,num-queues=128",
	  "num-queues: expected 1..127 with transport=vhost-user, got 128" },
	{ "vectors=129", "vectors: expected 1..128, got 129" },
	{ "transport=vhost-user,vectors=4",
	  "vectors: only with transport=vfio-user, got vhost-user" },
	{ "generation=18.04", "generation: only with transport=vhost-user, got vfio-user" },
	{ "ana=lost", "ana: expected optimized|non-optimized|inaccessible, got 'lost'" },
	{ "pci-vendor=0xffff", "pci-vendor: expected 1..65534, got 0xffff" },
	{ "packed=on", "packed: no parameter of nvme device" },
	{ "file=/f", "file: no parameter of nvme device" },
	{ "subsystem=", "subsystem: expected 1..64 characters, got 0" },
	{ "serial=123456789012345678901", "serial: expected 1..20 characters, got 21" },
	{ "model=\xc3\xa4", "model: expected printable ASCII, got byte 0xc3" },
	{ "nqn=iqn.x", "nqn: expected nqn. and more, at most 223 bytes, got 5: 'iqn.x'" },
	{ "nqn=nqn.", "nqn: expected nqn. and more, at most 223 bytes, got 4: 'nqn.'" },
	{ "state=", "state: expected a path or none, got ''" },
	{ "ns-pool=/p", "ns-pool: needs ns-pool-size=SIZE" },
	{ "ns-pool-size=1G", "ns-pool-size: needs ns-pool=FOLDER" },
	{ "ns-pool-size=1K,ns-pool=/p",
	  "ns-pool-size: expected 1048576..9223372036854775807, got 1K" },
	{ "ns=", "ns: expected NSID:KEY=VALUE:..., got ''" },
	{ "ns=0:ram=1M", "nsid: expected 1..1024, got 0" },
	{ "ns=1025:ram=1M", "nsid: expected 1..1024, got 1025" },
	{ "ns=1/1:ram=1M", "nsid: expected a number, got '1/1'" },
	{ "ns=7", "ns 7: expected exactly one of file=, null=, ram= and bdev=, got 0" },
	{ "ns=7:wwn=1", "ns 7: wwn: no parameter of nvme namespace" },
	{ "ns=7:ram=1M:pi-type=1", "ns 7: pi-type: no parameter of nvme namespace" },
	{ "ns=7:ram=1M:state=", "ns 7: state: expected a path or none, got ''" },
	{ "ns=7:ram=1M:eui64=0000000000000000",
	  "ns 7: eui64: expected 16 hex digits, not all 0, got '0000000000000000'" },
	{ "ns=7:ram=1M:eui64=00112233445566778",
	  "ns 7: eui64: expected 16 hex digits, not all 0, got '00112233445566778'" },
	{ "ns=7:ram=1M:nguid=12", "ns 7: nguid: expected 32 hex digits, not all 0, got '12'" },
	{ "ns=7:ram=1M:uuid=6ba7b8109dad11d180b400c04fd430c8",
	  "ns 7: uuid: expected 8-4-4-4-12 hex digits, not all 0, got "
	  "'6ba7b8109dad11d180b400c04fd430c8'" },
	{ "ns=7:ram=1M:uuid=6ba7b810-9dad-11d1-80b4-00c04fd430-8",
	  "ns 7: uuid: expected 8-4-4-4-12 hex digits, not all 0, got "
	  "'6ba7b810-9dad-11d1-80b4-00c04fd430-8'" },
	{ "ns=7:ram=1M,ns=7:ram=1M", "ns 7: given twice" },
	{ "ns=1:file=/x,ns=2:file=/x",
	  "ns 2: file: '/x' is also that of --device 1: ns 1, another namespace" },
	{ "ns=1:file=/x:read-only,ns=2:file=/x:read-only",
	  "ns 2: file: '/x' is also that of --device 1: ns 1, another namespace" },
	{ "ns=1:ram=1M:eui64=000000000000000A,ns=2:ram=1M:eui64=000000000000000a",
	  "ns 2: eui64: '000000000000000a' is also that of --device 1: ns 1, another namespace" },
};

static void test_each_refusal_names_the_thing_the_value_and_the_limit(void **state)
{
	char text[256], message[512];

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		snprintf(text, sizeof(text), "nvme,socket=/s,%s", refusals[i].device);
		snprintf(message, sizeof(message), "--device 1: %s", refusals[i].message);
		refused(text, NULL, message);
	}
}

static void test_devices_of_one_subsystem_add_up(void **state)
{
	const struct device_def *d;

	assert_int_equal(parse("nvme,socket=/a,subsystem=m,serial=S,ns=1:ram=1M",
			       "nvme,socket=/b,subsystem=m,model=M,serial=S,ns=2:ram=2M,"
			       "ns=1:eui64=0000000000000001",
			       "nvme,socket=/c,subsystem=m,ns=1"),
			 0);
	d = cfg.devices;
	assert_null(d[0].leader);
	assert_ptr_equal(d[1].leader, &d[0]);
	assert_ptr_equal(d[2].leader, &d[0]);
	assert_string_equal(d[0].model, "M");
	assert_int_equal(d[0].unit_count, 2);
	assert_int_equal(d[1].unit_count, 0);
	assert_int_equal(d[2].unit_count, 0);
	assert_int_equal(d[0].units[0].place.number, 1);
	assert_int_equal(d[0].units[0].back.ram_bytes, 1 << 20);
	assert_int_equal(d[0].units[0].eui64_bytes[7], 1);
	assert_int_equal(d[0].units[1].place.number, 2);
}

static void test_contradictions_name_both_places(void **state)
{
	refused("nvme,socket=/a,subsystem=m,serial=S", "nvme,socket=/b,subsystem=m,serial=T",
		"--device 2: serial: 'T' is not the 'S' of --device 1, which has the same "
		"subsystem");
	refused("nvme,socket=/a,subsystem=m,ns=1:ram=1M", "nvme,socket=/b,subsystem=m,ns=1:ram=2M",
		"--device 2: ns 1: ram: '2097152' is not the '1048576' of --device 1: ns 1, which "
		"has the same subsystem and nsid: one namespace");
	refused("nvme,socket=/a,subsystem=m", "nvme,socket=/b,subsystem=m,ns=2,ns=2:ram=1M",
		"--device 2: ns 2: given twice");
	refused("nvme,socket=/a,subsystem=m", "nvme,socket=/b,subsystem=m,ns=3",
		"--device 2: ns 3: expected exactly one of file=, null=, ram= and bdev=, got 0");
}

static void test_two_subsystems_have_nothing_in_common(void **state)
{
	refused("nvme,socket=/a,nqn=nqn.x", "nvme,socket=/b,nqn=nqn.x",
		"--device 2: nqn: 'nqn.x' is also that of --device 1, another subsystem: give both "
		"devices the same subsystem=NAME");
	refused("nvme,socket=/a,state=/x", "nvme,socket=/b,subsystem=b,state=/x",
		"--device 2: state: '/x' is also that of --device 1, another subsystem: give both "
		"devices the same subsystem=NAME");
	refused("nvme,socket=/a,ns=1:file=/x", "nvme,socket=/b,ns=1:file=/x",
		"--device 2: ns 1: file: '/x' is also that of --device 1: ns 1, another "
		"namespace: give both devices the same subsystem=NAME");
	assert_int_equal(parse("nvme,socket=/a,state=none,ns=1:file=/x:read-only",
			       "nvme,socket=/b,state=none,ns=1:file=/x:read-only", NULL),
			 0);
}

#define T(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_device_and_namespaces_with_every_key),
		T(test_defaults_are_those_of_the_documentation),
		T(test_each_refusal_names_the_thing_the_value_and_the_limit),
		T(test_devices_of_one_subsystem_add_up),
		T(test_contradictions_name_both_places),
		T(test_two_subsystems_have_nothing_in_common),
	};

	return cmocka_run_group_tests_name("nvme", tests, NULL, NULL);
}
