/* Reservations: what each action does, what then conflicts, and who is told (base 8.8). */
#include "nvme/resv_rig.h"

#define KEY_A  0xaaaaull
#define KEY_B  0xbbbbull
#define KEY_C  0xccccull
#define HOST_A 0x0a
#define HOST_B 0x0b
#define HOST_C 0x0c

enum {
	REGISTER,
	UNREGISTER,
	REPLACE
};
enum {
	ACQUIRE,
	PREEMPT,
	PREEMPT_ABORT
};
enum {
	RELEASE,
	CLEAR
};
#define IEKEY	    (1u << 3)
#define PTPL_OFF    (2u << 30)
#define PTPL_ON	    (3u << 30)
#define TYPE(t)	    ((uint32_t)(t) << 8)
#define BAD(x)	    assert_int_equal((x), NVME_SC_INVALID_FIELD)
#define CONFLICT(x) assert_int_equal((x), NVME_SC_RESERVATION_CONFLICT)

static struct rig r;

static uint16_t reg(uint32_t ctrl, uint32_t cdw10, uint64_t crkey, uint64_t nrkey)
{
	return rig_keys(&r, ctrl, NVME_IO_RESV_REGISTER, cdw10, crkey, nrkey);
}

static uint16_t acquire(uint32_t ctrl, uint32_t cdw10, uint64_t crkey, uint64_t prkey)
{
	return rig_keys(&r, ctrl, NVME_IO_RESV_ACQUIRE, cdw10, crkey, prkey);
}

static uint16_t release(uint32_t ctrl, uint32_t cdw10, uint64_t crkey)
{
	return rig_keys(&r, ctrl, NVME_IO_RESV_RELEASE, cdw10, crkey, 0);
}

/* ---- looking ---- */

static const uint8_t *report(void)
{
	GOOD(rig_io(&r, 0, NVME_IO_RESV_REPORT, 1023, 0, NULL, 0));
	return r.out;
}

static uint32_t generation(void)
{
	struct le32 wire;

	memcpy(&wire, report(), sizeof(wire));
	return le32_get(wire);
}

/* The registered controllers with their keys: "1:aaaa* 2:bbbb", a star for the holder. */
static void assert_report(const char *expected)
{
	const uint8_t *data = report(), *entry = data + 24;
	uint32_t count = data[5] | data[6] << 8;
	char text[256] = "";

	for (uint32_t i = 0; i < count; i++, entry += 24) {
		struct le64 key;
		size_t len = strlen(text);

		memcpy(&key, entry + 16, sizeof(key));
		snprintf(text + len, sizeof(text) - len, "%s%d:%llx%s", i ? " " : "",
			 entry[0] | entry[1] << 8, (unsigned long long)le64_get(key),
			 entry[2] & 1 ? "*" : "");
	}
	assert_string_equal(text, expected);
}

static void assert_type(uint32_t type)
{
	assert_int_equal(report()[4], type);
}

/* The events that a controller has not read, as digits. */
static void assert_events(uint32_t ctrl, const char *expected)
{
	uint8_t page[NVME_RESV_LOG_BYTES];
	char text[128] = "";
	size_t n = 0;

	for (;;) {
		nvme_resv_log_take(r.ctrl[ctrl], page);
		if (!page[8])
			break;
		assert_int_equal(page[12], 1); /* NSID */
		text[n++] = (char)('0' + page[8]);
	}
	assert_string_equal(text, expected);
}

static void setup(void)
{
	rig_open(&r, NULL, NULL, NULL);
	rig_host(&r, 0, HOST_A);
	rig_host(&r, 1, HOST_B);
	rig_host(&r, 2, HOST_C);
	rig_host(&r, 3, HOST_A);
}

/* Controllers 0 and 3 are of A, 1 of B, 2 of C; A and B are registered. */
static void setup_registered(void)
{
	setup();
	GOOD(reg(0, REGISTER, 0, KEY_A));
	GOOD(reg(1, REGISTER, 0, KEY_B));
}

/* ---- registering ---- */

static void a_host_registers_once_for_all_its_controllers(void **state)
{
	setup();
	GOOD(reg(0, REGISTER, 0, KEY_A));
	assert_report("1:aaaa 4:aaaa");
	assert_int_equal(generation(), 1);
	GOOD(reg(3, REGISTER, 0, KEY_A)); /* again, on the other one */
	CONFLICT(reg(3, REGISTER, 0, KEY_B));
	assert_report("1:aaaa 4:aaaa");
	assert_int_equal(generation(), 2);
	GOOD(reg(1, REGISTER, 0, KEY_A)); /* another host may have the same key */
	assert_report("1:aaaa 4:aaaa 2:aaaa");
	rig_shut(&r);
}

static void replacing_needs_the_key_unless_it_is_ignored(void **state)
{
	setup();
	CONFLICT(reg(0, REPLACE, 0, KEY_A));
	GOOD(reg(0, REPLACE | IEKEY, 0, KEY_A)); /* registers */
	CONFLICT(reg(0, REPLACE, KEY_B, KEY_C));
	assert_report("1:aaaa 4:aaaa");
	GOOD(reg(0, REPLACE, KEY_A, KEY_C));
	assert_report("1:cccc 4:cccc");
	GOOD(reg(3, REPLACE | IEKEY, 0, KEY_B));
	assert_report("1:bbbb 4:bbbb");
	BAD(reg(0, REPLACE, KEY_B, 0));
	assert_int_equal(generation(), 3);
	rig_shut(&r);
}

static void replacing_a_key_leaves_the_reservation(void **state)
{
	setup_registered();
	GOOD(acquire(0, ACQUIRE | TYPE(NVME_RESV_WRITE_EXCLUSIVE), KEY_A, 0));
	GOOD(reg(0, REPLACE, KEY_A, KEY_C));
	assert_report("1:cccc* 4:cccc* 2:bbbb");
	CONFLICT(acquire(0, ACQUIRE | TYPE(NVME_RESV_WRITE_EXCLUSIVE), KEY_A, 0));
	rig_shut(&r);
}

static void unregistering_needs_the_key_unless_it_is_ignored(void **state)
{
	setup_registered();
	CONFLICT(reg(2, UNREGISTER, 0, 0));
	CONFLICT(reg(2, UNREGISTER | IEKEY, 0, 0));
	CONFLICT(reg(0, UNREGISTER, KEY_B, 0));
	GOOD(reg(3, UNREGISTER, KEY_A, 0));
	assert_report("2:bbbb");
	GOOD(reg(1, UNREGISTER | IEKEY, KEY_A, 0));
	assert_report("");
	assert_int_equal(generation(), 4);
	rig_shut(&r);
}

static void each_wrong_field_is_refused_and_changes_nothing(void **state)
{
	setup_registered();
	BAD(reg(2, REGISTER, 0, 0));
	for (uint32_t action = 3; action < 8; action++) {
		BAD(reg(0, action, KEY_A, KEY_A));
		BAD(acquire(0, action | TYPE(1), KEY_A, 0));
		BAD(release(0, action | TYPE(1), KEY_A));
	}
	BAD(release(0, 2 | TYPE(1), KEY_A));
	BAD(reg(0, REGISTER | 1u << 30, KEY_A, KEY_A)); /* CPTPL 01b is reserved */
	BAD(reg(0, REGISTER | PTPL_ON, KEY_A, KEY_A));	/* there is no state file */
	BAD(acquire(0, ACQUIRE | IEKEY | TYPE(1), KEY_A, 0));
	BAD(release(0, RELEASE | IEKEY | TYPE(1), KEY_A));
	BAD(acquire(0, ACQUIRE | TYPE(0), KEY_A, 0));
	BAD(acquire(0, ACQUIRE | TYPE(7), KEY_A, 0));
	BAD(acquire(0, ACQUIRE | TYPE(255), KEY_A, 0));
	assert_report("1:aaaa 4:aaaa 2:bbbb");
	assert_type(NVME_RESV_NONE);
	assert_int_equal(generation(), 2);
	rig_shut(&r);
}

/* ---- acquiring and releasing, by type ---- */

static bool all_type(uint32_t type)
{
	return type >= NVME_RESV_WRITE_EXCLUSIVE_ALL;
}

static bool shared_type(uint32_t type)
{
	return type >= NVME_RESV_WRITE_EXCLUSIVE_REG;
}

static void who_may_acquire_and_release_each_type(void **state)
{
	for (uint32_t type = 1; type <= 6; type++) {
		setup_registered();
		CONFLICT(acquire(2, ACQUIRE | TYPE(type), KEY_A, 0)); /* no registrant */
		CONFLICT(acquire(0, ACQUIRE | TYPE(type), KEY_B, 0)); /* wrong key */
		GOOD(acquire(0, ACQUIRE | TYPE(type), KEY_A, 0));
		assert_type(type);
		assert_report(all_type(type) ? "1:aaaa* 4:aaaa* 2:bbbb*"
					     : "1:aaaa* 4:aaaa* 2:bbbb");
		GOOD(acquire(3, ACQUIRE | TYPE(type), KEY_A, 0)); /* it has it */
		CONFLICT(acquire(0, ACQUIRE | TYPE(type % 6 + 1), KEY_A, 0));
		if (all_type(type))
			GOOD(acquire(1, ACQUIRE | TYPE(type), KEY_B, 0));
		else
			CONFLICT(acquire(1, ACQUIRE | TYPE(type), KEY_B, 0));
		CONFLICT(release(2, RELEASE | TYPE(type), KEY_A));
		CONFLICT(release(0, RELEASE | TYPE(type), KEY_B));
		BAD(release(0, RELEASE | TYPE(type % 6 + 1), KEY_A));
		if (!all_type(type))
			GOOD(release(1, RELEASE | TYPE(type), KEY_B)); /* does nothing */
		assert_type(type);
		assert_int_equal(generation(), 2);
		GOOD(release(3, RELEASE | TYPE(type), KEY_A));
		assert_type(0);
		assert_events(1, shared_type(type) ? "2" : "");
		assert_events(0, "");
		GOOD(release(0, RELEASE | TYPE(type), KEY_A)); /* there is none */
		assert_int_equal(generation(), 2);
		rig_shut(&r);
	}
}

static void a_holder_that_unregisters_releases(void **state)
{
	for (uint32_t type = 1; type <= 6; type++) {
		setup_registered();
		GOOD(acquire(0, ACQUIRE | TYPE(type), KEY_A, 0));
		GOOD(reg(0, UNREGISTER, KEY_A, 0));
		assert_type(all_type(type) ? type : 0);
		assert_events(1, shared_type(type) && !all_type(type) ? "2" : "");
		GOOD(reg(1, UNREGISTER, KEY_B, 0));
		assert_type(0);
		rig_shut(&r);
	}
}

static void clearing_takes_all_registrants(void **state)
{
	setup_registered();
	GOOD(acquire(0, ACQUIRE | TYPE(1), KEY_A, 0));
	CONFLICT(release(2, CLEAR, 0));
	CONFLICT(release(1, CLEAR, KEY_A));
	GOOD(release(1, CLEAR, KEY_B));
	assert_type(0);
	assert_report("");
	assert_int_equal(generation(), 3);
	assert_events(0, "3");
	assert_events(3, "3");
	assert_events(1, "");
	rig_shut(&r);
}

/* ---- preempting ---- */

static void preempting_the_holder_takes_the_reservation(void **state)
{
	for (uint32_t type = 1; type <= 4; type++) {
		setup_registered();
		GOOD(reg(2, REGISTER, 0, KEY_C));
		GOOD(acquire(0, ACQUIRE | TYPE(type), KEY_A, 0));
		CONFLICT(acquire(1, PREEMPT | TYPE(type), KEY_A, KEY_A));
		BAD(acquire(1, PREEMPT | TYPE(0), KEY_B, KEY_A));
		BAD(acquire(1, PREEMPT | TYPE(type), KEY_B, 0));
		GOOD(acquire(1, PREEMPT | TYPE(type), KEY_B, KEY_A));
		assert_type(type);
		assert_report("2:bbbb* 3:cccc");
		assert_int_equal(generation(), 4);
		assert_events(0, "1");
		assert_events(3, "1");
		assert_events(2, ""); /* the type is the same */
		GOOD(acquire(2, PREEMPT | TYPE(5), KEY_C, KEY_B));
		assert_type(5);
		assert_report("3:cccc*");
		assert_events(1, "1");
		rig_shut(&r);
	}
}

static void another_type_by_preempting_is_told_to_those_who_stay(void **state)
{
	setup_registered();
	GOOD(reg(2, REGISTER, 0, KEY_C));
	GOOD(acquire(0, ACQUIRE | TYPE(1), KEY_A, 0));
	GOOD(acquire(1, PREEMPT | TYPE(2), KEY_B, KEY_A));
	assert_events(0, "1");
	assert_events(2, "2");
	GOOD(acquire(1, PREEMPT | TYPE(3), KEY_B, KEY_B)); /* its own */
	assert_type(3);
	assert_report("2:bbbb* 3:cccc");
	assert_events(2, "2");
	rig_shut(&r);
}

static void preempting_others_takes_their_registrations(void **state)
{
	setup_registered();
	GOOD(reg(2, REGISTER, 0, KEY_B));
	CONFLICT(acquire(0, PREEMPT | TYPE(1), KEY_A, KEY_C));
	BAD(acquire(0, PREEMPT | TYPE(1), KEY_A, 0));
	GOOD(acquire(0, PREEMPT | TYPE(1), KEY_A, KEY_B)); /* without a reservation */
	assert_type(0);
	assert_report("1:aaaa 4:aaaa");
	assert_events(1, "1");
	assert_events(2, "1");
	GOOD(reg(1, REGISTER, 0, KEY_B));
	GOOD(acquire(0, ACQUIRE | TYPE(1), KEY_A, 0));
	GOOD(acquire(0, PREEMPT | TYPE(2), KEY_A, KEY_B)); /* with one: it stays */
	assert_type(1);
	assert_report("1:aaaa* 4:aaaa*");
	rig_shut(&r);
}

static void preempting_all_registrants(void **state)
{
	for (uint32_t type = 5; type <= 6; type++) {
		setup_registered();
		GOOD(reg(2, REGISTER, 0, KEY_C));
		GOOD(acquire(0, ACQUIRE | TYPE(type), KEY_A, 0));
		CONFLICT(acquire(1, PREEMPT | TYPE(1), KEY_B, 0x1234));
		GOOD(acquire(1, PREEMPT | TYPE(1), KEY_B, KEY_A)); /* one of them */
		assert_type(type);
		assert_report("2:bbbb* 3:cccc*");
		GOOD(acquire(1, PREEMPT | TYPE(2), KEY_B, 0)); /* all others, and the reservation */
		assert_type(2);
		assert_report("2:bbbb*");
		assert_events(0, "1");
		assert_events(2, "1");
		rig_shut(&r);
	}
}

static void a_host_may_preempt_itself_away(void **state)
{
	setup_registered();
	GOOD(acquire(0, ACQUIRE | TYPE(1), KEY_A, 0));
	GOOD(acquire(1, PREEMPT, KEY_B, KEY_B));
	assert_report("1:aaaa* 4:aaaa*");
	assert_events(1, "");
	rig_shut(&r);
	setup_registered();
	GOOD(acquire(0, ACQUIRE | TYPE(6), KEY_A, 0));
	GOOD(acquire(1, PREEMPT, KEY_B, KEY_A));
	GOOD(acquire(1, PREEMPT, KEY_B, KEY_B)); /* the last one: the reservation goes too */
	assert_report("");
	assert_type(0);
	rig_shut(&r);
}

/* ---- conflicts ---- */

/* What the figure of command behavior says of each opcode: reads, writes, or is allowed. */
static bool opcode_reads(uint8_t opcode)
{
	return opcode == NVME_IO_READ || opcode == NVME_IO_COMPARE || opcode == NVME_IO_VERIFY ||
	       opcode == NVME_IO_COPY;
}

static bool opcode_writes(uint8_t opcode)
{
	return opcode == NVME_IO_WRITE || opcode == NVME_IO_WRITE_UNCORRECTABLE ||
	       opcode == NVME_IO_WRITE_ZEROES || opcode == NVME_IO_DATASET_MANAGEMENT ||
	       opcode == NVME_IO_FLUSH || opcode == NVME_IO_COPY;
}

static bool conflicts(uint32_t ctrl, const struct nvme_row *row)
{
	uint32_t gate = atomic_load(&nvme_att_find(r.ctrl[ctrl], 1)->gate);

	return row->flags & gate & (CMD_RESV_READ | CMD_RESV_WRITE);
}

static void each_opcode_conflicts_as_the_type_says(void **state)
{
	for (uint32_t type = 0; type <= 6; type++) {
		bool exclusive = type == 2 || type == 4 || type == 6;

		setup_registered();
		if (type)
			GOOD(acquire(0, ACQUIRE | TYPE(type), KEY_A, 0));
		for (uint32_t i = 0; i < nvme_row_count; i++) {
			const struct nvme_row *row = &nvme_rows[i];
			bool outside = type && !row->admin &&
				       (opcode_writes(row->opcode) ||
					(exclusive && opcode_reads(row->opcode)));

			assert_false(conflicts(0, row));
			assert_false(conflicts(3, row));
			assert_int_equal(conflicts(1, row), outside && !shared_type(type));
			assert_int_equal(conflicts(2, row), outside);
		}
		if (type)
			GOOD(release(0, RELEASE | TYPE(type), KEY_A));
		assert_int_equal(nvme_resv_gate(r.ns, r.ctrl[2]), 0);
		assert_int_equal(atomic_load(&nvme_att_find(r.ctrl[2], 1)->gate), 0);
		rig_shut(&r);
	}
}

static void a_controller_that_gets_the_holders_identifier_passes(void **state)
{
	setup_registered();
	GOOD(acquire(0, ACQUIRE | TYPE(2), KEY_A, 0));
	assert_int_not_equal(atomic_load(&nvme_att_find(r.ctrl[2], 1)->gate), 0);
	rig_host(&r, 2, HOST_A);
	assert_int_equal(atomic_load(&nvme_att_find(r.ctrl[2], 1)->gate), 0);
	assert_report("1:aaaa* 3:aaaa* 4:aaaa* 2:bbbb");
	rig_shut(&r);
}

/* ---- hosts without an identifier ---- */

static void controllers_without_identifier_are_hosts_of_their_own(void **state)
{
	rig_open(&r, NULL, NULL, NULL);
	GOOD(reg(0, REGISTER, 0, KEY_A));
	GOOD(acquire(0, ACQUIRE | TYPE(3), KEY_A, 0));
	CONFLICT(release(1, RELEASE | TYPE(3), KEY_A));
	GOOD(reg(1, REGISTER, 0, KEY_A));
	assert_report("1:aaaa* 2:aaaa");
	rig_host(&r, 0, HOST_A); /* it is another host now */
	assert_report("2:aaaa");
	assert_type(0);
	assert_events(1, "2");
	rig_shut(&r);
}

static void a_reset_ends_registrations_without_identifier_and_forgets_events(void **state)
{
	setup_registered();
	rig_host(&r, 3, 0);
	GOOD(reg(3, REGISTER, 0, KEY_C));
	GOOD(acquire(3, ACQUIRE | TYPE(2), KEY_C, 0));
	nvme_att_find(r.ctrl[3], 1)->resv_mask = 2;
	GOOD(release(0, CLEAR, KEY_A));
	nvme_resv_reset(r.ctrl[3]);
	assert_events(3, "");
	assert_int_equal(nvme_att_find(r.ctrl[3], 1)->resv_mask, 0);
	GOOD(reg(3, REGISTER, 0, KEY_C));
	GOOD(acquire(3, ACQUIRE | TYPE(2), KEY_C, 0));
	nvme_resv_reset(r.ctrl[3]);
	assert_report("");
	assert_int_equal(atomic_load(&nvme_att_find(r.ctrl[0], 1)->gate), 0);
	rig_shut(&r);
}

/* ---- preempt and abort ---- */

static void preempt_and_abort_sweeps_each_controller_of_the_preempted_host(void **state)
{
	const struct le64 data[2] = { le64(KEY_B), le64(KEY_A) };
	const struct rig_sqe sqe = { false, NVME_IO_RESV_ACQUIRE, 1, PREEMPT_ABORT | TYPE(2), 0,
				     data,  sizeof(data) };
	struct rig_cmd *c;
	uint32_t ctrls = 0;

	setup_registered();
	GOOD(acquire(0, ACQUIRE | TYPE(1), KEY_A, 0));
	r.hold_sweeps = true;
	c = rig_start(&r, 1, &sqe);
	rig_until(&r, r.held_count == 2);
	assert_false(c->ended);
	for (uint32_t i = 0; i < 2; i++) {
		struct nvme_sweep *s = r.held[i];

		assert_int_equal(s->action, NVME_SWEEP_ABORT);
		assert_int_equal(s->abort_status, NVME_SC_ABORTED_PREEMPTED);
		assert_ptr_equal(s->ns, r.ns);
		ctrls |= 1u << s->ctrl->cntlid;
		/* the reservation is in force already */
		assert_int_not_equal(atomic_load(&nvme_att_find(s->ctrl, 1)->gate), 0);
		loop_post(r.loop, &s->msg);
	}
	assert_int_equal(ctrls, 1u << 1 | 1u << 4);
	r.hold_sweeps = false;
	GOOD(rig_wait(&r, c));
	assert_report("2:bbbb*");
	rig_shut(&r);
}

static void preempt_and_abort_that_fails_aborts_nothing(void **state)
{
	setup_registered();
	CONFLICT(acquire(0, PREEMPT_ABORT | TYPE(1), KEY_B, KEY_B));
	CONFLICT(acquire(0, PREEMPT_ABORT | TYPE(1), KEY_A, KEY_C));
	BAD(acquire(0, PREEMPT_ABORT | TYPE(1), KEY_A, 0));
	assert_int_equal(r.sweep_count, 0);
	rig_shut(&r);
}

/* ---- report ---- */

static void the_report_is_as_long_as_asked_for(void **state)
{
	setup_registered();
	memset(r.out, 0xee, sizeof(r.out));
	GOOD(rig_io(&r, 0, NVME_IO_RESV_REPORT, 0, 0, NULL, 0)); /* one dword */
	assert_int_equal(r.out[0], 2);
	assert_int_equal(r.out[4], 0xee);
	BAD(rig_io(&r, 0, NVME_IO_RESV_REPORT, UINT32_MAX, 0, NULL, 0));
	rig_shut(&r);
}

static void the_extended_report_is_for_extended_identifiers(void **state)
{
	setup_registered();
	assert_int_equal(rig_io(&r, 0, NVME_IO_RESV_REPORT, 1023, 1, NULL, 0),
			 NVME_SC_HOST_ID_INCONSISTENT);
	rig_host_extended(&r, 2, 0x5a);
	GOOD(reg(2, REGISTER, 0, KEY_C));
	assert_int_equal(rig_io(&r, 2, NVME_IO_RESV_REPORT, 1023, 0, NULL, 0),
			 NVME_SC_HOST_ID_INCONSISTENT);
	GOOD(rig_io(&r, 2, NVME_IO_RESV_REPORT, 1023, 1, NULL, 0));
	assert_int_equal(r.out[5], 4);
	assert_int_equal(r.out[64 + 3 * 64], 3);	 /* CNTLID */
	assert_int_equal(r.out[64 + 3 * 64 + 8], 0xcc);	 /* key */
	assert_int_equal(r.out[64 + 3 * 64 + 16], 0x5a); /* host identifier */
	assert_int_equal(r.out[64 + 3 * 64 + 31], 0x5a);
	assert_int_equal(r.out[64 + 3 * 64 + 32], 0);
	rig_host(&r, 0, 0); /* without an identifier both are fine */
	GOOD(rig_io(&r, 0, NVME_IO_RESV_REPORT, 1023, 0, NULL, 0));
	GOOD(rig_io(&r, 0, NVME_IO_RESV_REPORT, 1023, 1, NULL, 0));
	rig_shut(&r);
}

static void a_registrant_without_controllers_is_reported(void **state)
{
	setup_registered();
	rig_host(&r, 1, HOST_C);
	assert_report("1:aaaa 4:aaaa 65535:bbbb");
	rig_host(&r, 1, HOST_B);
	assert_report("1:aaaa 4:aaaa 2:bbbb");
	rig_shut(&r);
}

/* ---- notifications ---- */

static void masked_notifications_are_not_told(void **state)
{
	setup_registered();
	nvme_att_find(r.ctrl[1], 1)->resv_mask = 1u << NVME_RESV_PREEMPTED;
	GOOD(release(0, CLEAR, KEY_A));
	assert_events(1, "");
	assert_int_equal(r.ctrl[1]->aen.pending_count, 0);
	GOOD(reg(0, REGISTER, 0, KEY_A));
	GOOD(reg(1, REGISTER, 0, KEY_B));
	GOOD(acquire(0, PREEMPT, KEY_A, KEY_B));
	assert_int_equal(r.ctrl[1]->aen.pending_count, 1);
	/* I/O command set specific, reservation log page available, log page 80h */
	assert_int_equal(r.ctrl[1]->aen.pending[0], 0x800006);
	assert_events(1, "1");
	rig_shut(&r);
}

static void log_pages_are_counted_and_the_oldest_go_first(void **state)
{
	uint8_t page[NVME_RESV_LOG_BYTES], zeroes[NVME_RESV_LOG_BYTES] = { 0 };
	uint32_t many = NVME_RESV_LOG_MAX + 3;

	setup();
	nvme_resv_log_take(r.ctrl[1], page);
	assert_memory_equal(page, zeroes, sizeof(page));
	GOOD(reg(0, REGISTER, 0, KEY_A));
	for (uint32_t i = 0; i < many; i++) {
		GOOD(reg(1, REGISTER, 0, KEY_B));
		GOOD(acquire(0, PREEMPT, KEY_A, KEY_B));
	}
	for (uint32_t i = 3; i < many; i++) {
		nvme_resv_log_take(r.ctrl[1], page);
		assert_int_equal(page[0], i + 1);
		assert_int_equal(page[9], many - i - 1);
	}
	nvme_resv_log_take(r.ctrl[1], page);
	assert_memory_equal(page, zeroes, sizeof(page));
	rig_shut(&r);
}

static void too_many_registrants_are_refused(void **state)
{
	setup();
	for (uint64_t i = 1; i <= NVME_REGISTRANTS_MAX; i++) {
		rig_host(&r, 0, i);
		GOOD(reg(0, REGISTER, 0, i));
	}
	rig_host(&r, 0, NVME_REGISTRANTS_MAX + 1);
	assert_int_equal(reg(0, REGISTER, 0, 1), NVME_SC_INTERNAL_ERROR);
	rig_shut(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_host_registers_once_for_all_its_controllers),
		cmocka_unit_test(replacing_needs_the_key_unless_it_is_ignored),
		cmocka_unit_test(replacing_a_key_leaves_the_reservation),
		cmocka_unit_test(unregistering_needs_the_key_unless_it_is_ignored),
		cmocka_unit_test(each_wrong_field_is_refused_and_changes_nothing),
		cmocka_unit_test(who_may_acquire_and_release_each_type),
		cmocka_unit_test(a_holder_that_unregisters_releases),
		cmocka_unit_test(clearing_takes_all_registrants),
		cmocka_unit_test(preempting_the_holder_takes_the_reservation),
		cmocka_unit_test(another_type_by_preempting_is_told_to_those_who_stay),
		cmocka_unit_test(preempting_others_takes_their_registrations),
		cmocka_unit_test(preempting_all_registrants),
		cmocka_unit_test(a_host_may_preempt_itself_away),
		cmocka_unit_test(each_opcode_conflicts_as_the_type_says),
		cmocka_unit_test(a_controller_that_gets_the_holders_identifier_passes),
		cmocka_unit_test(controllers_without_identifier_are_hosts_of_their_own),
		cmocka_unit_test(a_reset_ends_registrations_without_identifier_and_forgets_events),
		cmocka_unit_test(preempt_and_abort_sweeps_each_controller_of_the_preempted_host),
		cmocka_unit_test(preempt_and_abort_that_fails_aborts_nothing),
		cmocka_unit_test(the_report_is_as_long_as_asked_for),
		cmocka_unit_test(the_extended_report_is_for_extended_identifiers),
		cmocka_unit_test(a_registrant_without_controllers_is_reported),
		cmocka_unit_test(masked_notifications_are_not_told),
		cmocka_unit_test(log_pages_are_counted_and_the_oldest_go_first),
		cmocka_unit_test(too_many_registrants_are_refused),
	};

	return cmocka_run_group_tests_name("nvme resv", tests, NULL, NULL);
}
