/*
 * Namespace Management and Namespace Attachment (base 5.20, 5.19).
 *
 * What a guest creates is a sparse file in the pool's folder, with a UUID for its name, and a line
 * of the subsystem's state file:
 *
 *   namespace NSID BYTES shared|exclusive UUID     UUID: 8-4-4-4-12 digits
 *
 *   create: file, by a job -> node, namespace -> on disk -> the command ends
 *   delete: on disk without it -> namespace removed -> file unlinked, by a job -> it ends
 *
 * Beside it is the namespace's own state file (state.c), once there is something to keep. After a
 * crash there may be a file that nobody knows, and never a namespace without one.
 * Namespaces that the operator gave are attached and detached like the others, and not deleted.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "nvme/names.h"
#include "nvme/nvme_impl.h"

#define SEL(cdw10) ((cdw10)&0xf)
#define SEL_CREATE 0
#define SEL_DELETE 1

#define POOL_BLOCK_BYTES 512u
#define NMIC_SHARED	 0x01

/* base 5.20: what the host gives of Identify Namespace */
struct ns_template {
	struct le64 nsze, ncap;
	uint8_t reserved16[10];
	uint8_t flbas;
	uint8_t reserved27[2];
	uint8_t dps, nmic;
	uint8_t reserved31[61];
	struct le32 anagrpid;
	uint8_t reserved96[4];
	struct le16 nvmsetid, endgid;
	uint8_t reserved104[280];
};
_Static_assert(sizeof(struct ns_template) == 384, "base 5.20, host software specified fields");

struct pool_file {
	struct list node; /* pool->files, by nsid */
	struct nvme_subsys *subsys;
	struct nvme_ns *ns; /* NULL: not yet, not any more, or it could not be opened */
	uint32_t nsid;
	uint64_t bytes;
	uint8_t uuid[16];
	bool exclusive;
	bool listed; /* is to be in the state file */
	/* a command that works on it */
	struct job job;
	struct nvme_cmd *c;
	struct pool_closing *closing;
	int rc;
};

/* malloc'ed; NULL: no memory. suffix: "", or ".state" for its state file. Thread: any. */
static char *pool_file_path(const struct pool_file *f, const char *suffix)
{
	char text[NVME_UUID_TEXT_BYTES], *path;

	nvme_uuid_text(f->uuid, text);
	return asprintf(&path, "%s/ns-%s%s", f->subsys->pool.path, text, suffix) < 0 ? NULL : path;
}

/* ---- the pool ---- */

int nvme_pool_init(struct nvme_subsys *subsys, const char *path, uint64_t bytes, struct err *reterr)
{
	struct nvme_pool *pool = &subsys->pool;

	list_init(&pool->files);
	if (!path)
		return 0;
	pool->path = strdup(path);
	pool->total_bytes = bytes;
	return pool->path ? 0 : err_set(reterr, -ENOMEM, "out of memory");
}

static struct pool_file *pool_file_new(struct nvme_subsys *subsys, uint32_t nsid, uint64_t bytes)
{
	struct pool_file *f = calloc(1, sizeof(*f)), *behind;

	if (!f)
		return NULL;
	f->subsys = subsys;
	f->nsid = nsid;
	f->bytes = bytes;
	list_for_each(behind, &subsys->pool.files, node)
		if (behind->nsid > nsid)
			break;
	list_append(&behind->node, &f->node);
	subsys->pool.used_bytes += bytes;
	return f;
}

static void pool_file_free(struct pool_file *f)
{
	f->subsys->pool.used_bytes -= f->bytes;
	list_remove(&f->node);
	free(f);
}

void nvme_pool_fini(struct nvme_subsys *subsys)
{
	struct pool_file *f, *next;

	list_for_each_safe(f, next, &subsys->pool.files, node)
		pool_file_free(f);
	free(subsys->pool.path);
}

static struct pool_file *pool_find(const struct nvme_subsys *subsys, uint32_t nsid)
{
	struct pool_file *f;

	list_for_each(f, &subsys->pool.files, node)
		if (f->nsid == nsid)
			return f;
	return NULL;
}

/* A value of the back-end's parameters: a separator is escaped. */
static char *pool_file_params(const char *path)
{
	char *params = NULL;
	size_t len;
	FILE *to = open_memstream(&params, &len);
	bool bad;

	if (!to)
		return NULL;
	fputs("path=", to);
	for (const char *c = path; *c; c++) {
		if (*c == ',')
			fputc('\\', to);
		fputc(*c, to);
	}
	bad = ferror(to);
	bad |= fclose(to) != 0;
	if (!bad)
		return params;
	free(params);
	return NULL;
}

static int pool_dev_open(struct pool_file *f, const char *path, struct blk_dev **ret_dev,
			 struct err *reterr)
{
	char *params = pool_file_params(path), *name = NULL;
	int rc;

	if (!params || asprintf(&name, "%s-%" PRIu32, f->subsys->name, f->nsid) < 0) {
		free(params);
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	rc = blk_dev_open("file", name, params, ret_dev, reterr);
	free(name);
	free(params);
	return rc;
}

/* Opens the file and makes its namespace, attached to no controller. */
static int pool_file_show(struct pool_file *f, struct err *reterr)
{
	char text[NVME_UUID_TEXT_BYTES];
	struct nvme_ns_params params = { .nsid = f->nsid, .uuid = f->uuid, .identity = text };
	char *path = pool_file_path(f, ""), *state_path = pool_file_path(f, ".state");
	int rc = -ENOMEM;

	nvme_uuid_text(f->uuid, text);
	params.state_path = state_path;
	if (path && state_path)
		rc = pool_dev_open(f, path, &params.dev, reterr);
	else
		err_set(reterr, rc, "out of memory");
	if (rc == 0) {
		rc = nvme_ns_new(f->subsys, &params, UINT64_MAX, &f->ns, reterr);
		blk_dev_unref(params.dev);
	}
	free(path);
	free(state_path);
	if (rc < 0)
		return rc;
	f->ns->managed = true;
	f->ns->exclusive = f->exclusive;
	return 0;
}

int nvme_pool_restore(struct nvme_subsys *subsys, struct err *reterr)
{
	struct pool_file *f;
	struct err err;

	list_for_each(f, &subsys->pool.files, node) {
		if (!subsys->pool.path)
			return err_set(reterr, -EINVAL,
				       "state file %s: has namespaces of a pool, and there is none",
				       subsys->state_path);
		/* Its line is kept, and so is its identifier. */
		if (pool_file_show(f, &err) < 0)
			log_error("%s: namespace %" PRIu32 " is not there: %s", subsys->name,
				  f->nsid, err.msg);
	}
	return 0;
}

/* ---- the end of the daemon ---- */

struct pool_closing {
	uint32_t pending;
	void (*done)(void *arg);
	void *arg;
};

static void pool_closing_put(struct pool_closing *closing)
{
	struct pool_closing ended = *closing;

	if (--closing->pending)
		return;
	free(closing);
	ended.done(ended.arg);
}

static void pool_ns_closed(void *arg)
{
	struct pool_file *f = arg;

	pool_closing_put(f->closing);
}

bool nvme_pool_close(struct nvme_subsys *subsys, void (*done)(void *arg), void *arg)
{
	struct pool_closing *closing = calloc(1, sizeof(*closing));
	struct nvme_ns *ns;
	struct pool_file *f;

	ASSERT(closing);
	*closing = (struct pool_closing){ .done = done, .arg = arg };
	list_for_each(f, &subsys->pool.files, node)
		closing->pending += f->ns != NULL;
	if (!closing->pending) {
		free(closing);
		return false;
	}
	list_for_each(f, &subsys->pool.files, node) {
		ns = f->ns;
		if (!ns)
			continue;
		f->ns = NULL;
		f->closing = closing;
		nvme_ns_remove(ns, pool_ns_closed, f);
	}
	return true;
}

/* ---- lines of the state file ---- */

void nvme_pool_state_write(const struct nvme_subsys *subsys, FILE *to)
{
	char text[NVME_UUID_TEXT_BYTES];
	const struct pool_file *f;

	list_for_each(f, &subsys->pool.files, node) {
		if (!f->listed)
			continue;
		nvme_uuid_text(f->uuid, text);
		fprintf(to, "namespace %" PRIu32 " %" PRIu64 " %s %s\n", f->nsid, f->bytes,
			f->exclusive ? "exclusive" : "shared", text);
	}
}

const char *nvme_pool_state_read(struct nvme_subsys *subsys, const char *line, bool *ret_mine)
{
	static const char expected[] = "expected 'namespace NSID BYTES shared|exclusive UUID'";
	char kind[10], text[NVME_UUID_TEXT_BYTES];
	struct pool_file *f;
	uint8_t uuid[16];
	uint32_t nsid;
	uint64_t bytes;
	int end = 0;

	*ret_mine = !strncmp(line, "namespace ", 10);
	if (!*ret_mine)
		return NULL;
	if (sscanf(line + 10, "%" SCNu32 " %" SCNu64 " %9s %36s%n", &nsid, &bytes, kind, text,
		   &end) != 4 ||
	    !end || line[10 + end] || !nvme_uuid_read(text, uuid))
		return expected;
	if ((strcmp(kind, "shared") != 0 && strcmp(kind, "exclusive") != 0) || !nsid ||
	    nsid > NVME_NSID_MAX || !bytes || bytes % POOL_BLOCK_BYTES || bytes > INT64_MAX)
		return expected;
	if (pool_find(subsys, nsid))
		return "this namespace was there before";
	f = pool_file_new(subsys, nsid, bytes);
	if (!f)
		return "out of memory";
	memcpy(f->uuid, uuid, sizeof(uuid));
	f->exclusive = kind[0] == 'e';
	f->listed = true;
	return NULL;
}

/* ---- create ---- */

static void create_failed(struct pool_file *f, enum nvme_status status)
{
	struct nvme_cmd *c = f->c;

	pool_file_free(f);
	nvme_cmd_end(c, status);
}

static void create_saved(void *arg, bool ok)
{
	struct pool_file *f = arg;
	struct nvme_cmd *c = f->c;

	f->c = NULL;
	c->dw0 = f->nsid;
	/* It is there now; whether it will be after a restart nobody can say. */
	nvme_cmd_end(c, ok ? NVME_SC_SUCCESS : NVME_SC_INTERNAL_ERROR);
}

static void create_made(struct job *job)
{
	struct pool_file *f = container_of(job, struct pool_file, job);
	struct err err;

	if (f->rc == 0)
		f->rc = pool_file_show(f, &err);
	else
		err_set(&err, f->rc, "%s", strerror(-f->rc));
	if (f->rc < 0) {
		log_error("%s: creating namespace %" PRIu32 ": %s", f->subsys->name, f->nsid,
			  err.msg);
		create_failed(f, f->rc == -ENOSPC ? NVME_SC_NS_INSUFFICIENT_CAPACITY
						  : NVME_SC_INTERNAL_ERROR);
		return;
	}
	f->listed = true;
	nvme_subsys_state_save(f->subsys, create_saved, f);
}

/* Thread: job */
static int file_make(const char *path, uint64_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) < 0 || fsync(fd) < 0)
		rc = -errno;
	close(fd);
	if (rc < 0)
		unlink(path);
	return rc;
}

static void create_run(struct job *job)
{
	struct pool_file *f = container_of(job, struct pool_file, job);
	char *path = pool_file_path(f, "");

	f->rc = path ? file_make(path, f->bytes) : -ENOMEM;
	free(path);
}

static uint32_t nsid_free(const struct nvme_subsys *subsys)
{
	for (uint32_t nsid = 1; nsid <= NVME_NSID_MAX; nsid++)
		if (!nvme_ns_find(subsys, nsid) && !pool_find(subsys, nsid))
			return nsid;
	return 0;
}

static enum nvme_status template_check(const struct nvme_pool *pool, const struct ns_template *t,
				       uint64_t *ret_bytes)
{
	uint64_t blocks = le64_get(t->nsze);

	if (t->flbas || t->dps)
		return NVME_SC_INVALID_FORMAT;
	if (!blocks || le64_get(t->ncap) > blocks || t->nmic & ~NMIC_SHARED)
		return NVME_SC_INVALID_FIELD;
	if (le32_get(t->anagrpid) || le16_get(t->nvmsetid) || le16_get(t->endgid))
		return NVME_SC_INVALID_FIELD;
	if (le64_get(t->ncap) != blocks)
		return NVME_SC_THIN_NOT_SUPPORTED;
	if (blocks >
	    (pool->total_bytes - MIN(pool->used_bytes, pool->total_bytes)) / POOL_BLOCK_BYTES)
		return NVME_SC_NS_INSUFFICIENT_CAPACITY;
	*ret_bytes = blocks * POOL_BLOCK_BYTES;
	return NVME_SC_SUCCESS;
}

static void create_start(struct nvme_cmd *c)
{
	struct nvme_subsys *subsys = nvme_cmd_ctrl(c)->subsys;
	struct ns_template t = { 0 };
	uint32_t nsid = nsid_free(subsys);
	enum nvme_status status;
	struct pool_file *f;
	uint64_t bytes;

	if (!iov_cur_read(&c->data, &t, sizeof(t))) {
		nvme_cmd_end(c, NVME_SC_DATA_TRANSFER_ERROR);
		return;
	}
	status = template_check(&subsys->pool, &t, &bytes);
	if (status == NVME_SC_SUCCESS && !nsid)
		status = NVME_SC_NS_ID_UNAVAILABLE;
	if (status != NVME_SC_SUCCESS) {
		nvme_cmd_end(c, status);
		return;
	}
	f = pool_file_new(subsys, nsid, bytes);
	if (!f) {
		nvme_cmd_end(c, NVME_SC_INTERNAL_ERROR);
		return;
	}
	f->c = c;
	f->exclusive = !(t.nmic & NMIC_SHARED);
	if (getrandom(f->uuid, sizeof(f->uuid), 0) != sizeof(f->uuid)) {
		create_failed(f, NVME_SC_INTERNAL_ERROR);
		return;
	}
	f->uuid[6] = (uint8_t)((f->uuid[6] & 0x0f) | 0x40); /* RFC 4122: version 4, variant 1 */
	f->uuid[8] = (uint8_t)((f->uuid[8] & 0x3f) | 0x80);
	f->job.fn = create_run;
	f->job.done = create_made;
	job_start(&f->job);
}

/* ---- delete ---- */

static void delete_next(struct nvme_cmd *c);

static void delete_unlinked(struct job *job)
{
	struct pool_file *f = container_of(job, struct pool_file, job);
	struct nvme_cmd *c = f->c;

	if (f->rc < 0)
		log_error("%s: namespace %" PRIu32 " is deleted, and its file is not: %s",
			  f->subsys->name, f->nsid, strerror(-f->rc));
	pool_file_free(f);
	delete_next(c);
}

static void delete_run(struct job *job)
{
	struct pool_file *f = container_of(job, struct pool_file, job);
	char *path = pool_file_path(f, ""), *state_path = pool_file_path(f, ".state");

	f->rc = path && state_path ? 0 : -ENOMEM;
	if (state_path && unlink(state_path) < 0 && errno != ENOENT)
		f->rc = -errno;
	if (path && unlink(path) < 0)
		f->rc = -errno;
	free(path);
	free(state_path);
}

static void delete_removed(void *arg)
{
	struct pool_file *f = arg;

	f->job.fn = delete_run;
	f->job.done = delete_unlinked;
	job_start(&f->job);
}

static void delete_saved(void *arg, bool ok)
{
	struct pool_file *f = arg;
	struct nvme_ns *ns = f->ns;
	struct nvme_cmd *c = f->c;

	if (!ok) {
		f->listed = true;
		f->c = NULL;
		nvme_cmd_end(c, NVME_SC_INTERNAL_ERROR);
		return;
	}
	f->ns = NULL;
	if (ns)
		nvme_ns_remove(ns, delete_removed, f);
	else
		delete_removed(f);
}

/* One after the other, those that the command names; none is left: it ends. */
static void delete_next(struct nvme_cmd *c)
{
	struct nvme_subsys *subsys = nvme_cmd_ctrl(c)->subsys;
	struct pool_file *f;

	list_for_each(f, &subsys->pool.files, node) {
		if (f->c || !f->ns || (c->nsid != NVME_NSID_ALL && c->nsid != f->nsid))
			continue;
		f->c = c;
		f->listed = false;
		nvme_subsys_state_save(subsys, delete_saved, f);
		return;
	}
	nvme_cmd_end(c, NVME_SC_SUCCESS);
}

static enum nvme_status delete_check(const struct nvme_ctrl *ctrl, const struct nvme_ns *ns)
{
	if (!ns->managed)
		return NVME_SC_OPERATION_DENIED;
	if (nvme_resv_gate(ns, ctrl) & CMD_RESV_WRITE)
		return NVME_SC_RESERVATION_CONFLICT;
	return nvme_medium_status(ns);
}

static void delete_start(struct nvme_cmd *c)
{
	const struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	enum nvme_status status = NVME_SC_SUCCESS;
	const struct nvme_ns *ns;

	if (c->nsid != NVME_NSID_ALL && !nvme_ns_find(ctrl->subsys, c->nsid))
		status = NVME_SC_INVALID_NS;
	list_for_each(ns, &ctrl->subsys->namespaces, node) {
		if (status != NVME_SC_SUCCESS)
			break;
		/* all: of those that can be */
		if (c->nsid == ns->nsid || (c->nsid == NVME_NSID_ALL && ns->managed))
			status = delete_check(ctrl, ns);
	}
	if (status == NVME_SC_SUCCESS)
		delete_next(c);
	else
		nvme_cmd_end(c, status);
}

void nvme_ns_management(struct nvme_cmd *c)
{
	enum nvme_status status = nvme_sanitize_status(nvme_cmd_ctrl(c)->subsys);

	if (status != NVME_SC_SUCCESS)
		nvme_cmd_end(c, status);
	else if (!nvme_pool_offered(&nvme_cmd_ctrl(c)->subsys->pool))
		nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
	else if (SEL(nvme_cdw10(c)) == SEL_CREATE)
		nvme_data(c, NVME_IDENTIFY_BYTES, NVME_FROM_GUEST, create_start);
	else if (SEL(nvme_cdw10(c)) == SEL_DELETE)
		delete_start(c);
	else
		nvme_cmd_end(c, NVME_SC_INVALID_FIELD);
}
