/*
 * What a guest finds after its daemon was killed: reservations that persist through power loss,
 * namespaces that it created, and a sanitize operation that goes on.
 */
#include "nvmerig.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGE_BYTES  (8ull << 20)
#define PTPL_ON	     (3u << 30)
#define LOG_SANITIZE 0x81

static struct daemon *vhostd(void)
{
	return &rig_get()->d;
}

static struct nconn *up(void)
{
	return nrig_up(0, "n.sock", NRIG_TRAPPED, 1, 64);
}

/* Killed and started again: the same arguments, a new guest. */
static struct nconn *killed(void)
{
	nrig_drop(0);
	daemon_kill(vhostd());
	/* The kernel may still accept for a process whose io_uring it takes down. */
	unlink(daemon_path(vhostd(), "n.sock"));
	daemon_start_again(vhostd());
	return up();
}

static void host_id_set(struct nconn *c, uint8_t id)
{
	uint8_t bytes[16] = { id };

	assert_ok(nvmedrv_set_feature(&c->n, 0x81, 1, 0, bytes, sizeof(bytes), NULL));
}

static unsigned resv(struct nconn *c, uint8_t opcode, uint32_t cdw10, uint64_t crkey, uint64_t key)
{
	uint64_t at = nrig_data(c, 4096, 0), keys[2] = { crkey, key };
	struct spec_nvme_sqe sqe = { .opcode = opcode, .nsid = 1, .prp1 = at, .cdw10 = cdw10 };

	memcpy(nrig_host(c, at, sizeof(keys)), keys, sizeof(keys));
	return nrig_do(c, 1, &sqe);
}

static void a_reservation_survives_a_kill(void **state)
{
	struct nconn *c;
	uint64_t data;

	daemon_image(vhostd(), "img", IMAGE_BYTES);
	nrig_start(NRIG_TRAPPED, "ns=1:file=@img");
	c = up();
	host_id_set(c, 1);
	assert_status_is(resv(c, SPEC_NVME_RESV_REGISTER, PTPL_ON, 0, 0xa), 0);
	assert_status_is(resv(c, SPEC_NVME_RESV_ACQUIRE, 1u << 8, 0xa, 0), 0);
	c = killed();
	host_id_set(c, 2);
	data = nrig_data(c, 4096, 1);
	assert_status_is(nrig_rw(c, 1, SPEC_NVME_WRITE, 0, 1, data), SPEC_NVME_RESV_CONFLICT);
	assert_status_is(nrig_rw(c, 1, SPEC_NVME_READ, 0, 1, data), 0);
	c = killed();
	host_id_set(c, 1);
	nrig_io(c, 1, 0, 8);
	assert_status_is(resv(c, SPEC_NVME_RESV_RELEASE, 1u << 8, 0xa, 0), 0);
	c = killed();
	host_id_set(c, 2);
	nrig_io(c, 1, 0, 8);
}

/* ---- namespaces ---- */

static unsigned ns_create(struct nconn *c, uint64_t blocks)
{
	struct spec_nvme_sqe sqe = { .opcode = 0x0d };
	uint8_t page[4096] = { 0 };

	memcpy(page, &blocks, 8);
	memcpy(page + 8, &blocks, 8);
	page[30] = 1; /* shared */
	return nrig_admin(c, &sqe, page, sizeof(page), true);
}

static unsigned ns_delete(struct nconn *c, uint32_t nsid)
{
	struct spec_nvme_sqe sqe = { .opcode = 0x0d, .nsid = nsid, .cdw10 = 1 };

	return nrig_admin(c, &sqe, NULL, 0, false);
}

static unsigned ns_attach(struct nconn *c, uint32_t nsid)
{
	struct spec_nvme_sqe sqe = { .opcode = 0x15, .nsid = nsid };
	uint16_t list[2048] = { 1, 1 };
	uint8_t id[4096];

	assert_ok(nvmedrv_identify(&c->n, 1, 0, id));
	memcpy(&list[1], id + 78, 2); /* CNTLID */
	return nrig_admin(c, &sqe, list, sizeof(list), true);
}

static unsigned write_to(struct nconn *c, uint32_t nsid)
{
	return (unsigned)nvmedrv_rw(&c->n, 1, SPEC_NVME_WRITE, nsid, 0, 8, nrig_data(c, 4096, nsid),
				    512);
}

static void created_namespaces_survive_a_kill(void **state)
{
	struct nconn *c;
	uint8_t id[4096];

	assert_int_equal(mkdir(daemon_path(vhostd(), "pool"), 0700), 0);
	nrig_start(NRIG_TRAPPED, "state=@st,ns-pool=@pool,ns-pool-size=16M,ns=1:ram=1M");
	c = up();
	assert_status_is(ns_create(c, 2048), 0);
	assert_status_is(ns_create(c, 4096), 0);
	assert_status_is(ns_create(c, 1ull << 30), 0x115);
	assert_status_is(ns_attach(c, 3), 0);
	assert_status_is(ns_attach(c, 3), 0x118);
	assert_status_is(write_to(c, 3), 0);
	assert_status_is(write_to(c, 2), 0x00b); /* attached to nobody */
	assert_status_is(ns_delete(c, 2), 0);
	assert_status_is(ns_delete(c, 1), 0x015); /* not the guest's */
	c = killed();
	assert_ok(nvmedrv_identify(&c->n, 0x10, 0, id)); /* all that there are */
	assert_int_equal(id[0], 1);
	assert_int_equal(id[4], 3);
	assert_int_equal(id[8], 0);
	assert_status_is(ns_attach(c, 3), 0);
	assert_status_is(write_to(c, 3), 0);
	nrig_drop(0);
	daemon_stop(vhostd()); /* and takes them away */
	daemon_start_again(vhostd());
	c = up();
	assert_status_is(ns_attach(c, 3), 0);
	assert_status_is(ns_delete(c, SPEC_NVME_NSID_ALL), 0);
	assert_ok(nvmedrv_identify(&c->n, 0x10, 0, id));
	assert_int_equal(id[4], 0);
	nrig_drop(0);
	daemon_stop(vhostd());
	assert_int_equal(rmdir(daemon_path(vhostd(), "pool")), 0); /* empty */
	daemon_start_again(vhostd());
	up();
}

/* ---- erasing ---- */

static void assert_reads_as(struct nconn *c, uint8_t byte)
{
	uint64_t data = nrig_data(c, 65536, 7);
	const uint8_t *p = nrig_host(c, data, 65536);

	for (uint64_t lba = 0; lba < c->blocks; lba += 128) {
		assert_status_is(nrig_rw(c, 1, SPEC_NVME_READ, lba, 128, data), 0);
		for (unsigned i = 0; i < 65536; i++)
			if (p[i] != byte)
				fail_msg("block %llu: got %02x, expected %02x",
					 (unsigned long long)lba, p[i], byte);
	}
}

/* Waits for its end. */
static unsigned sanitize_status(struct nconn *c)
{
	uint8_t page[512];

	do {
		assert_ok(nvmedrv_get_log(&c->n, LOG_SANITIZE, SPEC_NVME_NSID_ALL, page,
					  sizeof(page)));
	} while ((page[2] & 7) == 2);
	return page[2] & 7;
}

static void format_erases_user_data(void **state)
{
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_FORMAT, .nsid = 1, .cdw10 = 1u << 9 };
	struct nconn *c;

	daemon_image(vhostd(), "img", IMAGE_BYTES);
	nrig_start(NRIG_TRAPPED, "ns=1:file=@img");
	c = up();
	assert_status_is(nrig_admin(c, &sqe, NULL, 0, false), 0);
	assert_reads_as(c, 0);
	nrig_io(c, 1, 0, 8);
}

static void sanitize_goes_on_after_a_kill(void **state)
{
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_SANITIZE,
				     .cdw10 = 3, /* overwrite, 16 passes */
				     .cdw11 = 0xabababab };
	struct nconn *c;

	daemon_image(vhostd(), "img", IMAGE_BYTES);
	nrig_start(NRIG_TRAPPED, "state=@st,ns=1:file=@img");
	c = up();
	assert_status_is(nrig_admin(c, &sqe, NULL, 0, false), 0);
	c = killed(); /* before its end or after it */
	assert_status_is(sanitize_status(c), 1);
	assert_reads_as(c, 0xab);
	nrig_io(c, 1, 0, 8);
	c = killed();
	assert_status_is(sanitize_status(c), 1);
	assert_status_is(nrig_rw(c, 1, SPEC_NVME_READ, 8, 8, nrig_data(c, 4096, 1)), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, nrig_setup, nrig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_reservation_survives_a_kill),
		T(created_namespaces_survive_a_kill),
		T(format_erases_user_data),
		T(sanitize_goes_on_after_a_kill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
