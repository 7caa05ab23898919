/*
 * bdevs that stand alone: malloc (memory), null, aio and uring (both are files and block devices
 * through io_uring).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/num.h"
#include "dev/backend.h"
#include "mgmt/m_bdev.h"
#include "mgmt/resize.h"
#include "mgmt/tables.h"

#define ROW(s, key, kind, field, dflt, text)                                                       \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct s, field), .def = dflt,       \
		.help = text                                                                       \
	}
#define NEEDED(s, key, kind, field, text)                                                          \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct s, field), .help = text,      \
		.required = true                                                                   \
	}
#define HINT "a hint that changes nothing here"

/* ---- malloc and null ---- */

struct memory {
	char *name, *uuid;
	uint32_t block_size, physical_block_size, md_size, dif_type, hint;
	uint64_t num_blocks;
	int32_t numa_id;
	bool md_interleave, dif_is_head_of_md;
};

#define MEMORY_ROWS                                                                                \
	ROW(memory, "name", OPTS_STR, name, NULL, "name; default: Malloc0, Malloc1 ..."),          \
		NEEDED(memory, "block_size", OPTS_U32, block_size,                                 \
		       "bytes of a block: a power of two, 512 to 65536"),                          \
		NEEDED(memory, "num_blocks", OPTS_U64, num_blocks, "its size in blocks"),          \
		ROW(memory, "uuid", OPTS_STR, uuid, NULL, "UUID; default: random"),                \
		ROW(memory, "physical_block_size", OPTS_U32, physical_block_size, NULL,            \
		    "bytes, at least block_size"),                                                 \
		ROW(memory, "md_size", OPTS_U32, md_size, "0",                                     \
		    "metadata of a block: 0, or 8 for protection information"),                    \
		ROW(memory, "dif_type", OPTS_U32, dif_type, "0",                                   \
		    "type of protection information: 0, 1 or 3"),                                  \
		ROW(memory, "dif_is_head_of_md", OPTS_BOOL, dif_is_head_of_md, "false",            \
		    "must be false"),                                                              \
		ROW(memory, "dif_pi_format", OPTS_U32, hint, "0", "must be 0: 16-bit guard")

static const struct opts_row malloc_rows[] = {
	MEMORY_ROWS,
	ROW(memory, "md_interleave", OPTS_BOOL, md_interleave, "false", "must be false"),
	ROW(memory, "optimal_io_boundary", OPTS_U32, hint, "0", HINT),
	{ .name = "numa_id",
	  .type = OPTS_I32,
	  .offset = offsetof(struct memory, numa_id),
	  .min = (uint64_t)-1,
	  .max = INT32_MAX,
	  .def = "-1",
	  .help = "accepted: memory is of the node of the CPU that first touches it; -1: any" },
};
static const struct opts_table malloc_create_table = { "bdev_malloc_create", malloc_rows,
						       ARRAY_SIZE(malloc_rows) };

static const struct opts_row null_rows[] = {
	MEMORY_ROWS,
	ROW(memory, "preferred_write_granularity", OPTS_U32, hint, NULL, HINT),
	ROW(memory, "preferred_write_alignment", OPTS_U32, hint, NULL, HINT),
	ROW(memory, "optimal_write_size", OPTS_U32, hint, NULL, HINT),
	ROW(memory, "preferred_unmap_granularity", OPTS_U32, hint, NULL, HINT),
	ROW(memory, "preferred_unmap_alignment", OPTS_U32, hint, NULL, HINT),
};
static const struct opts_table null_create_table = { "bdev_null_create", null_rows,
						     ARRAY_SIZE(null_rows) };

static int block_size_check(uint32_t bytes, struct err *reterr)
{
	if (!num_is_pow2(bytes) || bytes < 512 || bytes > 65536)
		return err_set(reterr, -EINVAL,
			       "block_size: expected a power of two, 512 to 65536, got %u", bytes);
	return 0;
}

static int memory_check(const struct memory *p, struct err *reterr)
{
	int rc = block_size_check(p->block_size, reterr);

	if (rc < 0)
		return rc;
	if (!p->num_blocks || p->num_blocks > INT64_MAX / p->block_size)
		return err_set(reterr, -EINVAL, "num_blocks: expected 1..%llu, got %llu",
			       (unsigned long long)(INT64_MAX / p->block_size),
			       (unsigned long long)p->num_blocks);
	if (p->physical_block_size &&
	    (!num_is_pow2(p->physical_block_size) || p->physical_block_size < p->block_size ||
	     p->physical_block_size > 1 << 20))
		return err_set(reterr, -EINVAL,
			       "physical_block_size: expected a power of two, %u to 1048576, "
			       "got %u",
			       p->block_size, p->physical_block_size);
	if (p->dif_type != 0 && p->dif_type != 1 && p->dif_type != 3)
		return err_set(reterr, -EINVAL, "dif_type: expected 0, 1 or 3, got %u",
			       p->dif_type);
	if (p->md_size != (p->dif_type ? BLK_PI_BYTES : 0u))
		return err_set(reterr, -EINVAL, "md_size: expected %u with dif_type %u, got %u",
			       p->dif_type ? BLK_PI_BYTES : 0u, p->dif_type, p->md_size);
	if (p->md_interleave || p->dif_is_head_of_md)
		return err_set(reterr, -EINVAL,
			       "%s: expected false: metadata is kept apart from the blocks",
			       p->md_interleave ? "md_interleave" : "dif_is_head_of_md");
	return 0;
}

static int memory_open(const char *type, const struct memory *p, struct blk_dev **ret_dev,
		       struct err *reterr)
{
	char text[160], more[64] = "";
	int rc = memory_check(p, reterr);

	if (rc < 0)
		return rc;
	if (p->physical_block_size)
		snprintf(more, sizeof(more), ",physical-block-size=%u", p->physical_block_size);
	snprintf(text, sizeof(text), "size=%llu,block-size=%u%s",
		 (unsigned long long)(p->num_blocks * p->block_size), p->block_size, more);
	if (p->dif_type) {
		size_t len = strlen(text);

		snprintf(text + len, sizeof(text) - len, ",pi-type=%u", p->dif_type);
	}
	return blk_dev_open(type, p->name ? p->name : type, text, ret_dev, reterr);
}

static void memory_create(struct rpc_call *call, const struct memory *p, const char *type,
			  const struct bdev_kind *kind, const struct opts_table *table)
{
	struct err err = { 0 };
	struct blk_dev *dev;
	int rc = memory_open(type, p, &dev, &err);
	const struct m_bdev_make make = {
		.kind = kind,
		.name = p->name,
		.uuid = p->uuid,
		.params = rc == 0 ? m_bdev_params(call, table) : NULL,
	};

	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		m_bdev_add_answer(call, &make, dev);
}

static void malloc_create(struct rpc_call *call, void *params)
{
	memory_create(call, params, "ram", &bdev_malloc, &malloc_create_table);
}

static void malloc_delete(struct rpc_call *call, void *params)
{
	m_bdev_delete_answer(call, ((struct m_bdev_name *)params)->name, &bdev_malloc);
}

static void null_create(struct rpc_call *call, void *params)
{
	const struct memory *p = params;

	if (!p->name)
		rpc_error(call, RPC_INTERNAL_ERROR,
			  "name: missing: bdev_null_create needs it (name of the bdev)");
	else if (p->dif_type)
		rpc_error(
			call, -EINVAL,
			"dif_type: expected 0: a null bdev keeps nothing, bdev_malloc_create does");
	else
		memory_create(call, p, "null", &bdev_null, &null_create_table);
}

static void null_delete(struct rpc_call *call, void *params)
{
	m_bdev_delete_answer(call, ((struct m_bdev_name *)params)->name, &bdev_null);
}

struct size_mib {
	char *name;
	uint64_t new_size;
};

static const struct opts_row null_resize_rows[] = {
	NEEDED(size_mib, "name", OPTS_STR, name, "name or UUID of a null bdev"),
	{ .name = "new_size",
	  .type = OPTS_U64,
	  .offset = offsetof(struct size_mib, new_size),
	  .min = 1,
	  .max = INT64_MAX >> 20,
	  .help = "its size in MiB",
	  .required = true },
};
static const struct opts_table null_resize_table = { "bdev_null_resize", null_resize_rows,
						     ARRAY_SIZE(null_resize_rows) };

/* What creates it creates it in this size from now on. */
static void num_blocks_note(struct bdev *bdev)
{
	const struct blk_caps *caps = blk_dev_caps(bdev->dev);

	if (json_object_get(m_bdev_of(bdev)->params, "num_blocks"))
		json_object_set_new(
			m_bdev_of(bdev)->params, "num_blocks",
			json_integer((json_int_t)(caps->size_bytes / caps->block_bytes)));
	m_bdev_changed(bdev);
}

static void on_resized(const char *name)
{
	struct bdev *bdev = bdev_find(name);

	if (bdev)
		num_blocks_note(bdev);
}

static void resize_bdev(struct rpc_call *call, const char *name, const struct bdev_kind *kind,
			const struct resize_how *how)
{
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_find(name, kind, &bdev, &err);

	if (rc == 0 && bdev->swapping)
		rc = err_set(&err, -EBUSY,
			     "name: the back-end of \"%s\" is being exchanged; try again",
			     bdev->name);
	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		m_bdev_resize_answer(call, bdev, how);
}

void m_bdev_resize_answer(struct rpc_call *call, struct bdev *bdev, const struct resize_how *how)
{
	const struct resize_disk disk = { .node = m_bdev_node(bdev), .name = bdev->name };

	resize_answer(call, &disk, how, on_resized);
}

static void null_resize(struct rpc_call *call, void *params)
{
	const struct size_mib *p = params;

	resize_bdev(call, p->name, &bdev_null,
		    &(struct resize_how){ .new_size = p->new_size << 20 });
}

struct resize {
	char *name;
	struct resize_how how;
};

static const struct opts_row resize_rows[] = {
	NEEDED(resize, "name", OPTS_STR, name, "name or UUID of a bdev"),
	RESIZE_ROWS(struct resize, how, true),
};
static const struct opts_table resize_table = { "bdev_resize", resize_rows,
						ARRAY_SIZE(resize_rows) };

static void bdev_resize(struct rpc_call *call, void *params)
{
	const struct resize *p = params;

	resize_bdev(call, p->name, NULL, &p->how);
}

/* ---- files and block devices ---- */

struct file {
	char *name, *filename, *uuid;
	uint64_t create_size;
	uint32_t block_size;
	bool readonly, fallocate, nowait;
};

#define CREATE_SIZE "create_size"
#define FILE_ROWS                                                                                  \
	NEEDED(file, "name", OPTS_STR, name, "name of the bdev"),                                  \
		NEEDED(file, "filename", OPTS_STR, filename, "path of a file or block device"),    \
		ROW(file, "block_size", OPTS_U32, block_size, NULL,                                \
		    "bytes of a block; default: what the file needs"),                             \
		ROW(file, "uuid", OPTS_STR, uuid, NULL, "UUID; default: random"),                  \
		ROW(file, "readonly", OPTS_BOOL, readonly, "false", "refuse writes"),              \
	{                                                                                          \
		.name = CREATE_SIZE, .type = OPTS_SIZE,                                            \
		.offset = offsetof(struct file, create_size), .max = INT64_MAX,                    \
		.help = "makes the file, sparse, of this size; there must be none"                 \
	}

static const struct opts_row aio_rows[] = {
	FILE_ROWS,
	ROW(file, "fallocate", OPTS_BOOL, fallocate, "true",
	    "give space of what is unmapped back to the file system"),
	ROW(file, "nowait", OPTS_BOOL, nowait, "true", HINT),
};
static const struct opts_table aio_create_table = { "bdev_aio_create", aio_rows,
						    ARRAY_SIZE(aio_rows) };
static const struct opts_row uring_rows[] = { FILE_ROWS };
static const struct opts_table uring_create_table = { "bdev_uring_create", uring_rows,
						      ARRAY_SIZE(uring_rows) };

int m_bdev_file_open(const char *name, const char *filename, uint32_t block_bytes, bool read_only,
		     bool discard, struct blk_dev **ret_dev, struct err *reterr)
{
	struct backend_def def = {
		.file = (char *)filename,
		.block_bytes = block_bytes,
		.read_only = read_only,
		.lock = true,
		.discard = discard,
	};
	int rc = block_bytes ? block_size_check(block_bytes, reterr) : 0;

	if (rc == 0 && !*filename)
		rc = err_set(reterr, -EINVAL, "filename: expected a path, got ''");
	return rc < 0 ? rc : backend_open(&def, name, ret_dev, reterr);
}

/* A file for create_size, which stays only when all that follows succeeds. */
static int image_make(const struct file *p, struct err *reterr)
{
	int fd, rc = 0;

	if (p->readonly)
		return err_set(reterr, -EINVAL, CREATE_SIZE ": not with readonly");
	fd = open(p->filename, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST)
		return err_set(reterr, -EEXIST,
			       CREATE_SIZE ": %s exists; leave " CREATE_SIZE " out to use it",
			       p->filename);
	if (fd < 0)
		return err_set(reterr, -errno, CREATE_SIZE ": cannot make %s: %s", p->filename,
			       strerror(errno));
	if (ftruncate(fd, (off_t)p->create_size) < 0)
		rc = err_set(reterr, -errno, CREATE_SIZE ": %s: cannot be %llu bytes long: %s",
			     p->filename, (unsigned long long)p->create_size, strerror(errno));
	close(fd);
	if (rc < 0)
		unlink(p->filename);
	return rc;
}

/* What is saved: a start must not make a file that has gone anew, as if nothing had been in it. */
static json_t *file_params(const struct rpc_call *call, const struct opts_table *table)
{
	json_t *params = m_bdev_params(call, table);

	json_object_del(params, CREATE_SIZE);
	return params;
}

static void file_create(struct rpc_call *call, const struct file *p, const struct bdev_kind *kind,
			const struct opts_table *table)
{
	struct m_bdev_make make = { .kind = kind, .name = p->name, .uuid = p->uuid };
	struct err err = { 0 };
	struct bdev *bdev;
	struct blk_dev *dev;
	int rc = p->create_size ? image_make(p, &err) : 0;

	if (rc < 0) {
		rpc_fail(call, rc, &err);
		return;
	}
	rc = m_bdev_file_open(p->name, p->filename, p->block_size, p->readonly, p->fallocate, &dev,
			      &err);
	if (rc == 0) {
		make.params = file_params(call, table);
		rc = m_bdev_add(&make, dev, &bdev, &err);
	}
	if (rc == 0) {
		rpc_result_saved(call, json_string(bdev->name));
		return;
	}
	if (p->create_size)
		unlink(p->filename);
	rpc_fail(call, rc, &err);
}

static void aio_create(struct rpc_call *call, void *params)
{
	file_create(call, params, &bdev_aio, &aio_create_table);
}

static void uring_create(struct rpc_call *call, void *params)
{
	struct file *p = params;

	p->fallocate = true;
	file_create(call, p, &bdev_uring, &uring_create_table);
}

static void rescan_answer(struct rpc_call *call, const char *name, const struct bdev_kind *kind)
{
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_find(name, kind, &bdev, &err);

	if (rc == 0)
		rc = blk_dev_rescan(bdev->dev, &err);
	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		rpc_result_true(call);
}

static void aio_rescan(struct rpc_call *call, void *params)
{
	rescan_answer(call, ((struct m_bdev_name *)params)->name, &bdev_aio);
}

static void uring_rescan(struct rpc_call *call, void *params)
{
	rescan_answer(call, ((struct m_bdev_name *)params)->name, &bdev_uring);
}

static void aio_delete(struct rpc_call *call, void *params)
{
	m_bdev_delete_answer(call, ((struct m_bdev_name *)params)->name, &bdev_aio);
}

static void uring_delete(struct rpc_call *call, void *params)
{
	m_bdev_delete_answer(call, ((struct m_bdev_name *)params)->name, &bdev_uring);
}

static bool flag_of(const json_t *params, const char *key, bool dflt)
{
	const json_t *value = json_object_get(params, key);

	return value ? json_is_true(value) : dflt;
}

static void aio_describe(const struct bdev *bdev, json_t *driver_specific)
{
	const json_t *p = m_bdev_of(bdev)->params;

	json_object_set_new(
		driver_specific, "aio",
		json_pack("{s:O, s:b, s:b, s:b, s:b}", "filename", json_object_get(p, "filename"),
			  "block_size_override", json_object_get(p, "block_size") != NULL,
			  "readonly", flag_of(p, "readonly", false), "fallocate",
			  flag_of(p, "fallocate", true), "nowait", flag_of(p, "nowait", true)));
}

static void uring_describe(const struct bdev *bdev, json_t *driver_specific)
{
	json_object_set_new(driver_specific, "uring",
			    json_pack("{s:O}", "filename",
				      json_object_get(m_bdev_of(bdev)->params, "filename")));
}

const struct bdev_kind bdev_malloc = {
	.product = "Malloc disk",
	.create = "bdev_malloc_create",
	.remove = "bdev_malloc_delete",
	.name_key = "name",
	.saves_uuid = true,
	.in_memory = true,
};
const struct bdev_kind bdev_null = {
	.product = "Null disk",
	.create = "bdev_null_create",
	.remove = "bdev_null_delete",
	.name_key = "name",
	.saves_uuid = true,
};
const struct bdev_kind bdev_aio = {
	.product = "AIO disk",
	.create = "bdev_aio_create",
	.remove = "bdev_aio_delete",
	.name_key = "name",
	.saves_uuid = true,
	.describe = aio_describe,
};
const struct bdev_kind bdev_uring = {
	.product = "URING bdev",
	.create = "bdev_uring_create",
	.remove = "bdev_uring_delete",
	.name_key = "name",
	.saves_uuid = true,
	.describe = uring_describe,
};

#define NAME_TABLE(name)                                                                           \
	static const struct opts_table name##_table = M_BDEV_NAME_TABLE("bdev_" #name)
NAME_TABLE(malloc_delete);
NAME_TABLE(null_delete);
NAME_TABLE(aio_rescan);
NAME_TABLE(aio_delete);
NAME_TABLE(uring_rescan);
NAME_TABLE(uring_delete);

#define METHOD(fn, old, bits, shape, text, answer)                                                 \
	{                                                                                          \
		.name = "bdev_" #fn, .alias = old, .params = &fn##_table,                          \
		.params_bytes = sizeof(struct shape), .flags = bits, .run = fn, .help = text,      \
		.result = answer                                                                   \
	}

const struct rpc_method m_bdev_backend[] = {
	METHOD(malloc_create, "construct_malloc_bdev", RPC_SAVES, memory, "makes a disk in memory",
	       "name"),
	METHOD(malloc_delete, "delete_malloc_bdev", RPC_SAVES, m_bdev_name, "deletes a malloc bdev",
	       "true"),
	METHOD(null_create, "construct_null_bdev", RPC_SAVES, memory,
	       "makes a disk that keeps nothing", "name"),
	METHOD(null_delete, "delete_null_bdev", RPC_SAVES, m_bdev_name, "deletes a null bdev",
	       "true"),
	METHOD(null_resize, NULL, RPC_SAVES, size_mib, "makes a null bdev larger", "true"),
	METHOD(aio_create, "construct_aio_bdev", RPC_SAVES, file,
	       "makes a disk of a file or block device", "name"),
	METHOD(aio_rescan, NULL, 0, m_bdev_name, "looks at the size of the file again", "true"),
	METHOD(aio_delete, "delete_aio_bdev", RPC_SAVES, m_bdev_name,
	       "deletes an aio bdev; the file stays", "true"),
	METHOD(uring_create, NULL, RPC_SAVES, file, "makes a disk of a file or block device",
	       "name"),
	METHOD(uring_rescan, NULL, 0, m_bdev_name, "looks at the size of the file again", "true"),
	METHOD(uring_delete, NULL, RPC_SAVES, m_bdev_name, "deletes a uring bdev; the file stays",
	       "true"),
	{ .name = "bdev_resize",
	  .flags = RPC_SAVES,
	  .params = &resize_table,
	  .params_bytes = sizeof(struct resize),
	  .run = bdev_resize,
	  .help = "makes the file of an aio or uring bdev, or a null bdev, larger while it is used",
	  .result = "true; with allocate, what job_wait tells of the job" },
	{ NULL },
};
