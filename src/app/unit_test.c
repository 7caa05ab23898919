/* Units of scsi devices: what is accepted, what each refusal says, and which units are one. */
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

static void test_device_and_units_with_every_key(void **state)
{
	const struct device_def *d;
	const struct unit_def *u;

	assert_int_equal(
		parse("scsi,name=a,socket=/s,num-queues=253,queue-size=512,spin-us=0,packed=off,"
		      "socket-mode=0660,connections=2,client,reconnect-ms=0,seg-max=64,"
		      "initiator=iqn.1994-05.com.example:x,"
		      "target=255/16383:file=/a\\,b\\:c:serial=s:wwn=500A0B1c2d3e4f50:read-only:"
		      "block-size=4096:direct=off:lock=off:discard=off:vendor=V:product=P Q:"
		      "rotation-rpm=7200:state=none:share=one,target=0:ram=64M",
		      NULL, NULL),
		0);
	d = &cfg.devices[0];
	assert_ptr_equal(d->type, &device_scsi);
	assert_int_equal(d->num_queues, 253);
	assert_int_equal(d->connections, 2);
	assert_true(d->client);
	assert_string_equal(d->initiator, "iqn.1994-05.com.example:x");
	assert_int_equal(d->unit_count, 2);
	u = &d->units[0];
	assert_int_equal(u->place.number, 255);
	assert_int_equal(u->place.lun, 16383);
	assert_string_equal(u->back.file, "/a,b:c");
	assert_string_equal(u->serial, "s");
	assert_true(u->naa == 0x500a0b1c2d3e4f50);
	assert_true(u->back.read_only);
	assert_int_equal(u->back.block_bytes, 4096);
	assert_int_equal(u->back.direct, 2);
	assert_false(u->back.lock);
	assert_false(u->back.discard);
	assert_string_equal(u->vendor, "V");
	assert_string_equal(u->product, "P Q");
	assert_int_equal(u->rotation_rpm, 7200);
	assert_string_equal(u->state, "none");
	assert_string_equal(u->share, "one");
	u = &d->units[1];
	assert_int_equal(u->place.number, 0);
	assert_int_equal(u->place.lun, 0);
	assert_int_equal(u->back.ram_bytes, 64 << 20);
	assert_int_equal(u->rotation_rpm, 1);
	assert_true(u->back.lock);
	assert_null(u->serial);
	assert_null(u->state);
}

static void test_names_go_by_type_and_place(void **state)
{
	assert_int_equal(
		parse("blk,socket=/s,ram=1M", "scsi,socket=/t,target=0:ram=1M", "scsi,socket=/u"),
		0);
	assert_string_equal(cfg.devices[0].name, "blk0");
	assert_string_equal(cfg.devices[1].name, "scsi1");
	assert_string_equal(cfg.devices[2].name, "scsi2");
	assert_int_equal(cfg.devices[1].num_queues, 64);
	assert_int_equal(cfg.devices[2].unit_count, 0);
}

#define SCSI "scsi,socket=/s,"

static const struct {
	const char *device, *message;
} refusals[] = {
	{ "num-queues=254", "num-queues: expected 1..253, got 254" },
	{ "num-queues=0", "num-queues: expected 1..253, got 0" },
	{ "connections=65", "connections: expected 1..64, got 65" },
	{ "seg-max=1023", "seg-max: expected 1..1022, got 1023" },
	{ "colour=red", "colour: no parameter of scsi device" },
	{ "file=/f", "file: no parameter of scsi device" },
	{ "guest-buffers=on", "guest-buffers: no parameter of scsi device" },
	{ "initiator=", "initiator: expected 1..220 characters, got 0" },
	{ "initiator=a b", "initiator: expected printable ASCII without spaces and commas, "
			   "got byte 0x20" },
	{ "target", "target: expected N[/LUN]:KEY=VALUE:..., got ''" },
	{ "target=", "target: expected N[/LUN]:KEY=VALUE:..., got ''" },
	{ "target=:ram=1M", "target: expected N[/LUN]:KEY=VALUE:..., got ':ram=1M'" },
	{ "target=x:ram=1M", "target: expected a number, got 'x'" },
	{ "target=-1:ram=1M", "target: expected a number, got '-1'" },
	{ "target=256:ram=1M", "target: expected 0..255, got 256" },
	{ "target=0/16384:ram=1M", "lun: expected 0..16383, got 16384" },
	{ "target=0/:ram=1M", "lun: expected a number, got ''" },
	{ "target=0/1/2:ram=1M", "lun: expected a number, got '1/2'" },
	{ "target=3/1:colour=red", "target 3/1: colour: no parameter of scsi unit" },
	{ "target=3:serial", "target 3: serial: expected serial=value, got no value" },
	{ "target=3:num-queues=2", "target 3: num-queues: no parameter of scsi unit" },
	{ "target=0", "target 0: expected exactly one of file=, null=, ram= and bdev=, got 0" },
	{ "target=0:ram=1M:null=1M",
	  "target 0: expected exactly one of file=, null=, ram= and bdev=, got 2" },
	{ "target=0:file=", "target 0: file: expected a path, got ''" },
	{ "target=0:ram=1M:direct=on", "target 0: direct: only with file=" },
	{ "target=0:ram=1M:block-size=1000",
	  "target 0: block-size: expected a power of two, got 1000" },
	{ "target=0:ram=1M:block-size=256", "target 0: block-size: expected 512..65536, got 256" },
	{ "target=0:ram=1M:serial=", "target 0: serial: expected 1..64 characters, got 0" },
	{ "target=0:ram=1M:serial=12345678901234567890123456789012345678901234567890"
	  "123456789012345",
	  "target 0: serial: expected 1..64 characters, got 65" },
	{ "target=0:ram=1M:serial=\xc3\xa4",
	  "target 0: serial: expected printable ASCII, got byte 0xc3" },
	{ "target=0:ram=1M:wwn=50000000", "target 0: wwn: expected 16 hex digits, got '50000000'" },
	{ "target=0:ram=1M:wwn=5000000000000xyz",
	  "target 0: wwn: expected 16 hex digits, got '5000000000000xyz'" },
	{ "target=0:ram=1M:wwn=0000000000000001",
	  "target 0: wwn: expected the first digit (NAA) to be 2, 3 or 5, got "
	  "'0000000000000001'" },
	{ "target=0:ram=1M:pi-type=2", "target 0: pi-type: expected 0|1|3, got '2'" },
	{ "target=0:null=1M:pi-type=1", "target 0: pi-type: only with ram=" },
	{ "target=0:ram=1M:vendor=ninechars", "target 0: vendor: expected 1..8 characters, got 9" },
	{ "target=0:ram=1M:product=seventeen letters",
	  "target 0: product: expected 1..16 characters, got 17" },
	{ "target=0:ram=1M:rotation-rpm=2",
	  "target 0: rotation-rpm: expected 0, 1 or 1025..65534, got 2" },
	{ "target=0:ram=1M:rotation-rpm=65535",
	  "target 0: rotation-rpm: expected 0..65534, got 65535" },
	{ "target=0:ram=1M:state=", "target 0: state: expected a path or none, got ''" },
	{ "target=0:ram=1M:share=", "target 0: share: expected 1..64 characters, got 0" },
	{ "target=0:ram=1M,target=0/0:ram=1M", "target 0: given twice" },
	{ "target=0/7:ram=1M,target=1:ram=1M,target=0/7:ram=1M", "target 0/7: given twice" },
};

static void test_each_refusal_names_the_thing_the_value_and_the_limit(void **state)
{
	char text[256], message[512];

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		snprintf(text, sizeof(text), SCSI "%s", refusals[i].device);
		snprintf(message, sizeof(message), "--device 1: %s", refusals[i].message);
		assert_true(parse(text, NULL, NULL) < 0);
		assert_string_equal(err.msg, message);
		app_config_fini(&cfg);
	}
}

static void test_a_name_too_long_for_the_initiator_is_refused(void **state)
{
	char text[300];

	snprintf(text, sizeof(text), SCSI "name=%0230d", 0);
	assert_true(parse(text, NULL, NULL) < 0);
	assert_string_equal(err.msg, "--device 1: name: expected at most 198 characters for the "
				     "initiator's name, got 230");
}

static void test_units_of_one_image_or_share_are_one(void **state)
{
	const struct unit_def *u;

	assert_int_equal(parse("scsi,socket=/a,target=0:file=/x:serial=S,target=1:share=m:ram=1M",
			       "scsi,socket=/b,target=7:share=m:vendor=V,target=8:file=/x:serial=S",
			       "scsi,socket=/c,target=0:share=m,target=1:file=/x:share=n,"
			       "target=2:share=n,target=3:file=/y"),
			 0);
	u = cfg.devices[0].units;
	assert_ptr_equal(unit_leader(&cfg.devices[1].units[1]), unit_leader(&u[0]));
	assert_ptr_equal(unit_leader(&cfg.devices[2].units[1]), unit_leader(&u[0]));
	assert_ptr_equal(unit_leader(&cfg.devices[2].units[2]), unit_leader(&u[0]));
	assert_string_equal(unit_leader(&u[0])->share, "n");
	assert_string_equal(unit_leader(&u[0])->serial, "S");
	assert_ptr_equal(unit_leader(&cfg.devices[1].units[0]), &u[1]);
	assert_ptr_equal(unit_leader(&cfg.devices[2].units[0]), &u[1]);
	assert_string_equal(u[1].vendor, "V");
	assert_null(cfg.devices[2].units[3].leader);
}

static void test_contradictions_name_both_places(void **state)
{
	assert_true(parse("scsi,socket=/a,target=1:share=m:ram=1M",
			  "scsi,socket=/b,target=2/3:share=m:ram=2M", NULL) < 0);
	assert_string_equal(err.msg,
			    "--device 2: target 2/3: ram: '2097152' is not the '1048576' of "
			    "--device 1: target 1, which has the same share: one unit");
	app_config_fini(&cfg);
	assert_true(parse("scsi,socket=/a,target=1:file=/x:share=m",
			  "scsi,socket=/b,target=2:file=/x:share=n", NULL) < 0);
	assert_string_equal(err.msg, "--device 2: target 2: share: 'n' is not the 'm' of "
				     "--device 1: target 1, which has the same file: one unit");
	app_config_fini(&cfg);
	assert_true(parse("scsi,socket=/a,target=1:share=m:ram=1M,target=2:share=m:null=1M", NULL,
			  NULL) < 0);
	assert_string_equal(err.msg, "--device 1: target 1: expected exactly one of file=, null=, "
				     "ram= and bdev=, got 2");
}

static void test_no_two_units_have_one_serial_wwn_or_state_file(void **state)
{
	assert_true(parse("scsi,socket=/a,target=1:ram=1M:serial=x",
			  "scsi,socket=/b,target=2:ram=1M:serial=x", NULL) < 0);
	assert_string_equal(err.msg, "--device 2: target 2: serial: 'x' is also that of "
				     "--device 1: target 1, another unit");
	app_config_fini(&cfg);
	assert_true(parse("scsi,socket=/a,target=1:ram=1M:wwn=5000000000000001,"
			  "target=2:ram=1M:wwn=5000000000000001",
			  NULL, NULL) < 0);
	assert_string_equal(err.msg,
			    "--device 1: target 2: wwn: '5000000000000001' is also that of "
			    "--device 1: target 1, another unit");
	app_config_fini(&cfg);
	assert_true(parse("scsi,socket=/a,target=1:ram=1M:state=/s,target=2:ram=1M:state=/s,"
			  "target=3:ram=1M:state=none,target=4:ram=1M:state=none",
			  NULL, NULL) < 0);
	assert_string_equal(err.msg, "--device 1: target 2: state: '/s' is also that of "
				     "--device 1: target 1, another unit");
}

#define T(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_device_and_units_with_every_key),
		T(test_names_go_by_type_and_place),
		T(test_each_refusal_names_the_thing_the_value_and_the_limit),
		T(test_a_name_too_long_for_the_initiator_is_refused),
		T(test_units_of_one_image_or_share_are_one),
		T(test_contradictions_name_both_places),
		T(test_no_two_units_have_one_serial_wwn_or_state_file),
	};

	return cmocka_run_group_tests_name("unit", tests, NULL, NULL);
}
