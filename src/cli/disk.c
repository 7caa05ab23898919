/*
 * vhostctl disk, bdev and qos: bdevs, and virtio-blk controllers on them.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "cli/backend.h"
#include "cli/jobs.h"

/* ---- what is told of a disk ---- */

static const json_t *find_by(const json_t *all, const char *key, const char *value)
{
	const json_t *one;
	size_t i;

	json_array_foreach(all, i, one) if (!strcmp(member_str(one, key), value)) return one;
	return NULL;
}

/* "connected": a front-end is there; "running": its driver uses the disk. */
static const char *device_state(const json_t *device)
{
	const json_t *sessions = json_object_get(device, "sessions"), *one;
	const char *state = "waiting";
	size_t i;

	json_array_foreach(sessions, i, one)
	{
		if (member_true(one, "started"))
			return "running";
		state = "connected";
	}
	return state;
}

/* What a bdev is made of: its file; "": none. Kinds have a member of their name in between. */
static const char *bdev_file(const json_t *bdev)
{
	json_t *specific = json_object_get(bdev, "driver_specific"), *kind;
	const char *key;

	json_object_foreach(specific, key,
			    kind) if (json_is_object(kind) &&
				      *member_str(kind, "filename")) return member_str(kind,
										       "filename");
	return member_str(specific, "filename");
}

/* The disk itself, or what its controller lets front-ends do with it. */
static bool disk_read_only(const char *name, const json_t *disk, const json_t *controllers)
{
	const json_t *specific =
		json_object_get(find_by(controllers, "ctrlr", name), "backend_specific");

	return member_true(disk, "readonly") ||
	       member_true(json_object_get(specific, "block"), "readonly");
}

/* The bdev of a disk; controllers tell it, but of those over vfio-user. */
static const char *disk_bdev(const char *name, const json_t *controllers, const json_t *bdevs)
{
	const json_t *controller = find_by(controllers, "ctrlr", name);

	if (controller)
		return controller_bdev(controller);
	return find_by(bdevs, "name", name) ? name : "";
}

/* A virtio-blk device and its bdev, as one flat object whose keys stay. */
static json_t *disk_json(const json_t *device, const json_t *controllers, const json_t *bdevs)
{
	const char *name = member_str(device, "name");
	const char *bdev_name = disk_bdev(name, controllers, bdevs);
	const json_t *bdev = find_by(bdevs, "name", bdev_name);
	const json_t *disk = json_array_get(json_object_get(device, "disks"), 0);
	const json_t *sessions = json_object_get(device, "sessions"), *one;
	json_int_t inflight = 0;
	size_t i;

	json_array_foreach(sessions, i, one) inflight += member_int(one, "inflight_task_cnt");
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:b, s:s, s:I, s:I}", "name",
			 name, "socket", member_str(device, "socket"), "transport",
			 member_str(device, "transport"), "bdev", bdev_name, "product",
			 member_str(bdev, "product_name"), "file", bdev_file(bdev), "size_bytes",
			 member_int(disk, "size_bytes"), "block_size",
			 member_int(disk, "block_size"), "read_only",
			 (int)disk_read_only(name, disk, controllers), "state",
			 device_state(device), "sessions", (json_int_t)json_array_size(sessions),
			 "inflight", inflight);
}

/* name NULL: all. */
static int disks_get(struct cli *cli, const char *name, json_t **ret_disks)
{
	json_t *devices = NULL, *controllers = NULL, *bdevs = NULL, *one;
	size_t i;
	int rc = cli_call(cli, "device_get_devices", name ? object_of("name", name) : NULL,
			  &devices);

	if (rc == 0)
		rc = cli_call(cli, "vhost_get_controllers", NULL, &controllers);
	if (rc == 0)
		rc = cli_call(cli, "bdev_get_bdevs", NULL, &bdevs);
	if (rc == 0) {
		*ret_disks = json_array();
		json_array_foreach(devices, i, one)
		{
			if (!strcmp(member_str(one, "type"), "blk"))
				json_array_append_new(*ret_disks,
						      disk_json(one, controllers, bdevs));
		}
	}
	json_decref(devices);
	json_decref(controllers);
	json_decref(bdevs);
	return rc;
}

int disk_list(struct cli *cli, json_t **ret_result)
{
	return disks_get(cli, cli_str(cli, "name"), ret_result);
}

static int disk_get(struct cli *cli, const char *name, json_t **ret_disk)
{
	json_t *disks;
	int rc = disks_get(cli, name, &disks);

	if (rc < 0)
		return rc;
	*ret_disk = json_incref(json_array_get(disks, 0));
	json_decref(disks);
	return *ret_disk ? 0
			 : err_set(&cli->err, -ENODEV,
				   "%s: is no virtio-blk disk: see vhostctl scsi list, nvme list",
				   name);
}

int disk_show(struct cli *cli, json_t **ret_result)
{
	return disk_get(cli, cli_str(cli, "name"), ret_result);
}

/* ---- add, rm ---- */

/* Of vfu_virtio_create_blk_endpoint, whose names are others; the bdev is read-only itself. */
static json_t *endpoint_params(json_t *params)
{
	json_object_set(params, "name", json_object_get(params, "ctrlr"));
	json_object_set(params, "bdev_name", json_object_get(params, "dev_name"));
	json_object_del(params, "ctrlr");
	json_object_del(params, "dev_name");
	json_object_del(params, "readonly");
	return params;
}

static int disk_make(struct cli *cli, const json_t *bdev)
{
	json_t *params = cli_params(cli, 1);

	json_object_set(params, "dev_name", (json_t *)bdev);
	if (!cli_flag(cli, "vfio-user"))
		return cli_do(cli, "vhost_create_blk_controller", params);
	return cli_do(cli, "vfu_virtio_create_blk_endpoint", endpoint_params(params));
}

int disk_add(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	const bool read_only = cli_flag(cli, "read-only");
	json_t *bdev, *extra = json_object();
	bool made;
	int rc;

	if (read_only && cli_flag(cli, "vfio-user") && !cli_given(cli, "file")) {
		json_decref(extra);
		return err_set(&cli->err, -EINVAL,
			       "--read-only: over vfio-user, expected --file with it");
	}
	if (read_only && cli_given(cli, "file"))
		json_object_set_new(extra, "readonly", json_true());
	rc = backend_make(cli, name, extra, &bdev, &made);
	json_decref(extra);
	if (rc < 0)
		return rc;
	rc = disk_make(cli, bdev);
	if (rc < 0 && made)
		backend_undo(cli, json_string_value(bdev));
	json_decref(bdev);
	return rc < 0 ? rc : disk_get(cli, name, ret_result);
}

int disk_rm(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	bool bdev_too, vfio_user;
	json_t *disk;
	int rc = disk_get(cli, name, &disk);

	if (rc < 0)
		return rc;
	bdev_too = !cli_flag(cli, "keep-bdev") && !strcmp(member_str(disk, "bdev"), name);
	vfio_user = !strcmp(member_str(disk, "transport"), "vfio-user");
	json_decref(disk);
	if (vfio_user)
		rc = cli_do(cli, "vfu_virtio_delete_endpoint", object_of("name", name));
	else
		rc = cli_do(cli, "vhost_delete_controller", object_of("ctrlr", name));
	if (rc == 0 && bdev_too)
		rc = backend_remove(cli, name);
	*ret_result = json_true();
	return rc;
}

/* ---- swap ---- */

int disk_swap(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	json_t *params, *devices;
	bool device;
	int rc = 0;

	if (cli_given(cli, "file") == cli_given(cli, "bdev"))
		return err_set(&cli->err, -EINVAL, "expected one of --file PATH, --bdev NAME");
	rc = cli_call(cli, "device_get_devices", NULL, &devices);
	if (rc < 0)
		return rc;
	device = find_by(devices, "name", name);
	json_decref(devices);
	params = cli_params(cli, 0);
	json_object_set_new(params, "name", json_string(name));
	return cli_call(cli, device ? "device_swap" : "bdev_swap", params, ret_result);
}

int bdev_add(struct cli *cli, json_t **ret_result)
{
	bool made;

	return backend_make(cli, cli_str(cli, "name"), NULL, ret_result, &made);
}

int bdev_rm(struct cli *cli, json_t **ret_result)
{
	*ret_result = json_true();
	return backend_remove(cli, cli_str(cli, "name"));
}

/* ---- resize ---- */

/* The size, and what it may cost; without --allocate it is done at once. */
static int resize_call(struct cli *cli, const char *method, json_t *params, json_t **ret_job)
{
	const bool allocate = cli_flag(cli, "allocate");

	*ret_job = NULL;
	json_object_set_new(params, "new_size", json_integer((json_int_t)cli_u64(cli, "size", 0)));
	if (cli_flag(cli, "force"))
		json_object_set_new(params, "force", json_true());
	if (!allocate)
		return cli_do(cli, method, params);
	json_object_set_new(params, "allocate", json_true());
	return jobs_begin(cli, method, params, ret_job);
}

static int resize_bdev(struct cli *cli, const json_t *bdev, json_t **ret_job)
{
	const char *name = member_str(bdev, "name"), *product = member_str(bdev, "product_name");
	const struct bdev_kind *kind = bdev_kind_find(product);

	if (cli_given(cli, "size"))
		return resize_call(cli, "bdev_resize", object_of("name", name), ret_job);
	if (kind && kind->rescan)
		return cli_do(cli, kind->rescan, object_of("name", name));
	return err_set(&cli->err, -EOPNOTSUPP,
		       "%s: the size of a '%s' does not change by itself: give SIZE", name,
		       product);
}

static int resize_device(struct cli *cli, const char *name, json_t **ret_job)
{
	json_t *params = object_of("name", name);

	if (cli_given(cli, "unit"))
		json_object_set_new(params, "unit", json_string(cli_str(cli, "unit")));
	if (cli_given(cli, "size"))
		return resize_call(cli, "device_resize", params, ret_job);
	return cli_do(cli, "device_resize", params);
}

/* Of the command line, or with a unit: it may have a file of its own, which is no bdev. */
static int is_device(struct cli *cli, const char *name, bool *ret_is)
{
	json_t *devices;
	const json_t *one;
	int rc = cli_call(cli, "device_get_devices", NULL, &devices);

	if (rc < 0)
		return rc;
	one = find_by(devices, "name", name);
	*ret_is = one && (member_true(one, "from_command_line") || cli_given(cli, "unit"));
	json_decref(devices);
	return *ret_is || !cli_given(cli, "unit")
		       ? 0
		       : err_set(&cli->err, -ENODEV,
				 "%s: --unit: there is no device of that name; "
				 "vhostctl device list",
				 name);
}

/* What it is now: as bdev_get_bdevs, or device_get_devices, tells it. */
static int resized_get(struct cli *cli, const char *name, bool device, json_t **ret_result)
{
	json_t *after;
	int rc;

	if (device)
		return cli_call(cli, "device_get_devices", object_of("name", name), ret_result);
	rc = backend_get(cli, name, &after);
	if (rc < 0)
		return rc;
	*ret_result = json_array();
	json_array_append_new(*ret_result, after);
	return 0;
}

static int resize_any(struct cli *cli, const char *name, bool device, json_t **ret_job)
{
	json_t *bdev;
	int rc;

	if (device)
		return resize_device(cli, name, ret_job);
	rc = backend_get(cli, name, &bdev);
	if (rc < 0)
		return rc;
	rc = resize_bdev(cli, bdev, ret_job);
	json_decref(bdev);
	return rc;
}

static int resize_check(struct cli *cli)
{
	if (!cli_given(cli, "size") && (cli_flag(cli, "allocate") || cli_flag(cli, "force")))
		return err_set(&cli->err, -EINVAL, "--%s: expected SIZE with it",
			       cli_flag(cli, "allocate") ? "allocate" : "force");
	return 0;
}

int disk_resize(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	json_t *bdev = NULL, *job = NULL;
	bool device = false;
	int rc = resize_check(cli);

	if (rc == 0)
		rc = is_device(cli, name, &device);
	if (rc == 0 && !device)
		rc = name_to_bdev(cli, name, &bdev);
	if (rc < 0)
		return rc;
	if (bdev)
		name = json_string_value(bdev);
	rc = resize_any(cli, name, device, &job);
	if (rc == 0 && job && (cli_flag(cli, "background") || cli->printed))
		*ret_result = json_incref(job);
	else if (rc == 0)
		rc = resized_get(cli, name, device, ret_result);
	json_decref(job);
	json_decref(bdev);
	return rc;
}

/* ---- limits ---- */

/* The call's parameters, without a name. -EINVAL: not whole MiB, or nothing is given. */
static int limits_params(struct cli *cli, json_t **ret_params)
{
	static const struct {
		const char *key, *param;
	} bandwidths[] = {
		{ "bandwidth", "rw_mbytes_per_sec" },
		{ "read-bandwidth", "r_mbytes_per_sec" },
		{ "write-bandwidth", "w_mbytes_per_sec" },
		{ "bandwidth-burst", "rw_mbytes_burst" },
		{ "read-bandwidth-burst", "r_mbytes_burst" },
		{ "write-bandwidth-burst", "w_mbytes_burst" },
	};
	json_t *params = cli_params(cli, 0);
	int rc = 0;

	json_object_del(params, "name");
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(bandwidths); i++) {
		const uint64_t bytes = cli_u64(cli, bandwidths[i].key, 0);

		if (bytes % (1 << 20))
			rc = err_set(&cli->err, -EINVAL,
				     "--%s: expected whole MiB a second, got %" JSON_INTEGER_FORMAT
				     " bytes",
				     bandwidths[i].key, (json_int_t)bytes);
		else if (cli_given(cli, bandwidths[i].key))
			json_object_set_new(params, bandwidths[i].param,
					    json_integer((json_int_t)(bytes >> 20)));
	}
	if (rc == 0 && !json_object_size(params))
		rc = err_set(&cli->err, -EINVAL, "expected a limit: --iops N, --bandwidth SIZE");
	if (rc < 0)
		json_decref(params);
	else
		*ret_params = params;
	return rc;
}

int qos_set(struct cli *cli, json_t **ret_result)
{
	json_t *params, *bdev;
	int rc = limits_params(cli, &params);

	if (rc < 0)
		return rc;
	rc = name_to_bdev(cli, cli_str(cli, "name"), &bdev);
	if (rc < 0) {
		json_decref(params);
		return rc;
	}
	json_object_set_new(params, "name", bdev);
	return cli_call(cli, "bdev_set_qos_limit", params, ret_result);
}

int disk_limit(struct cli *cli, json_t **ret_result)
{
	json_t *params;
	int rc = limits_params(cli, &params);

	if (rc < 0)
		return rc;
	json_object_set_new(params, "name", json_string(cli_str(cli, "name")));
	return cli_call(cli, "device_set_qos_limit", params, ret_result);
}
