/* Guest memory, the dirty log and the in-flight area of the scripted front-end; see fe.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fe.h"

int fe_mem_new_at(struct fe *fe, uint64_t gpa, uint64_t uva, uint64_t size_bytes, uint64_t off)
{
	struct fe_region *r = &fe->region[fe->region_count];

	if (fe->region_count == FE_REGION_MAX)
		return -ENOSPC;
	r->fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (r->fd < 0)
		return -errno;
	if (ftruncate(r->fd, (off_t)(off + size_bytes)))
		goto fail;
	r->host = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, (off_t)off);
	if (r->host == MAP_FAILED)
		goto fail;
	r->wire = (struct fe_wire_region){ gpa, size_bytes, uva, off };
	r->used_bytes = 0;
	r->known = false;
	return (int)fe->region_count++;
fail:
	close(r->fd);
	r->fd = -1;
	return -ENOMEM;
}

int fe_mem_new(struct fe *fe, uint64_t gpa, uint64_t uva, uint64_t size_bytes)
{
	return fe_mem_new_at(fe, gpa, uva, size_bytes, 0);
}

/* All regions in one message. The protocol's limit of 8 is the caller's to keep or break. */
int fe_set_mem_table(struct fe *fe)
{
	struct {
		uint32_t count;
		uint32_t pad;
		struct fe_wire_region region[FE_FD_MAX];
	} t = { .count = fe->region_count };
	int fds[FE_FD_MAX];
	int rc;

	if (fe->region_count > FE_FD_MAX)
		return -E2BIG;
	for (unsigned i = 0; i < fe->region_count; i++) {
		t.region[i] = fe->region[i].wire;
		fds[i] = fe->region[i].fd;
	}
	rc = fe_set(fe, FE_SET_MEM_TABLE, &t,
		    (uint32_t)(8 + fe->region_count * sizeof(t.region[0])), fds, fe->region_count);
	for (unsigned i = 0; !rc && i < fe->region_count; i++)
		fe->region[i].known = true;
	return rc;
}

static int mem_reg(struct fe *fe, uint32_t req, unsigned region, unsigned fd_count)
{
	struct {
		uint64_t pad;
		struct fe_wire_region region;
	} m = { .region = fe->region[region].wire };
	int rc = fe_set(fe, req, &m, sizeof(m), &fe->region[region].fd, fd_count);

	if (!rc)
		fe->region[region].known = req == FE_ADD_MEM_REG;
	return rc;
}

int fe_add_mem_reg(struct fe *fe, unsigned region)
{
	return mem_reg(fe, FE_ADD_MEM_REG, region, 1);
}

int fe_rem_mem_reg(struct fe *fe, unsigned region)
{
	return mem_reg(fe, FE_REM_MEM_REG, region, 0);
}

static struct fe_region *find(struct fe *fe, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < fe->region_count; i++) {
		struct fe_region *r = &fe->region[i];

		if (gpa >= r->wire.gpa && len <= r->wire.size_bytes &&
		    gpa - r->wire.gpa <= r->wire.size_bytes - len)
			return r;
	}
	return NULL;
}

void *fe_host(struct fe *fe, uint64_t gpa, uint64_t len)
{
	struct fe_region *r = find(fe, gpa, len);

	return r ? r->host + (gpa - r->wire.gpa) : NULL;
}

/* An address outside every region passes through, so that tests can send any value. */
uint64_t fe_uva(struct fe *fe, uint64_t gpa)
{
	struct fe_region *r = find(fe, gpa, 1);

	return r ? r->wire.uva + (gpa - r->wire.gpa) : gpa;
}

uint64_t fe_alloc(struct fe *fe, int region, uint64_t len, uint64_t align)
{
	for (unsigned i = 0; i < fe->region_count; i++) {
		struct fe_region *r = &fe->region[i];
		uint64_t at = (r->used_bytes + align - 1) / align * align;

		if ((region >= 0 && (unsigned)region != i) || at > r->wire.size_bytes ||
		    len > r->wire.size_bytes - at)
			continue;
		r->used_bytes = at + len;
		return r->wire.gpa + at;
	}
	return 0;
}

int fe_set_log(struct fe *fe, uint64_t log_bytes)
{
	uint64_t payload[2] = { log_bytes, 0 };
	struct fe_msg msg;
	int rc;

	if (fe->log) {
		munmap(fe->log, fe->log_bytes);
		close(fe->log_fd);
		fe->log = NULL;
	}
	fe->log_fd = memfd_create("dirty-log", MFD_CLOEXEC);
	if (fe->log_fd < 0 || ftruncate(fe->log_fd, (off_t)log_bytes))
		return -errno;
	fe->log = mmap(NULL, log_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fe->log_fd, 0);
	if (fe->log == MAP_FAILED) {
		fe->log = NULL;
		return -ENOMEM;
	}
	fe->log_bytes = log_bytes;
	/* With LOG_SHMFD the answer is always sent, REPLY_ACK or not. */
	rc = fe_call(fe, FE_SET_LOG_BASE, payload, sizeof(payload), &fe->log_fd, 1, &msg);
	if (!rc)
		fe_msg_close(&msg);
	return rc;
}

/* Asks for a fresh area and maps it here, so that tests can look inside and tamper. */
int fe_get_inflight(struct fe *fe, uint16_t queues, uint16_t queue_size)
{
	struct fe_wire_inflight w = { .queues = queues, .queue_size = queue_size };
	struct fe_inflight *in = &fe->inflight;
	struct fe_msg msg;
	int rc = fe_call(fe, FE_GET_INFLIGHT_FD, &w, sizeof(w), NULL, 0, &msg);

	if (rc)
		return rc;
	if (msg.hdr.size_bytes != sizeof(w) || msg.fd_count != 1) {
		snprintf(fe->why, sizeof(fe->why), "GET_INFLIGHT_FD: %u bytes, %u descriptors",
			 msg.hdr.size_bytes, msg.fd_count);
		fe_msg_close(&msg);
		return -EPROTO;
	}
	if (in->host)
		munmap(in->host, in->wire.mmap_size_bytes);
	if (in->fd >= 0)
		close(in->fd);
	memcpy(&in->wire, msg.payload, sizeof(w));
	in->fd = msg.fds[0];
	in->host = mmap(NULL, in->wire.mmap_size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, in->fd,
			(off_t)in->wire.mmap_off);
	if (in->host == MAP_FAILED) {
		in->host = NULL;
		return -ENOMEM;
	}
	return 0;
}

int fe_set_inflight(struct fe *fe)
{
	return fe_set(fe, FE_SET_INFLIGHT_FD, &fe->inflight.wire, sizeof(fe->inflight.wire),
		      &fe->inflight.fd, 1);
}
