/*
 * vhostctl disk, bdev and qos: bdevs, and virtio-blk controllers on them.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "cli/backend.h"

/* ---- what is told of a disk ---- */

static const json_t *find_by(const json_t *all, const char *key, const char *value)
{
	const json_t *one;
	size_t i;

	json_array_foreach(all, i, one) if (!strcmp(member_str(one, key), value)) return one;
	return NULL;
}

/* "connected": a front-end's session runs; "waiting": none is there. */
static const char *controller_state(const json_t *controller)
{
	const json_t *sessions = json_object_get(controller, "sessions"), *one;
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

/* A virtio-blk controller and its bdev, as one flat object whose keys stay. NULL: another kind. */
static json_t *disk_json(const json_t *controller, const json_t *bdevs)
{
	const json_t *block =
		json_object_get(json_object_get(controller, "backend_specific"), "block");
	const json_t *bdev = find_by(bdevs, "name", controller_bdev(controller));
	const json_t *specific = json_object_get(bdev, "driver_specific");
	json_t *sessions = json_object_get(controller, "sessions"), *one;
	json_int_t inflight = 0;
	size_t i;

	if (!block)
		return NULL;
	json_array_foreach(sessions, i, one) inflight += member_int(one, "inflight_task_cnt");
	for (void *it = json_object_iter((json_t *)specific);
	     it && !json_object_get(specific, "filename");
	     it = json_object_iter_next((json_t *)specific, it))
		if (json_is_object(json_object_iter_value(it))) {
			specific = json_object_iter_value(it);
			break;
		}
	return json_pack(
		"{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:b, s:s, s:I, s:I}", "name",
		member_str(controller, "ctrlr"), "socket", member_str(controller, "socket"), "bdev",
		controller_bdev(controller), "product", member_str(bdev, "product_name"), "file",
		member_str(specific, "filename"), "size_bytes", (json_int_t)bdev_bytes(bdev),
		"block_size", member_int(bdev, "block_size"), "read_only",
		(int)member_true(block, "readonly"), "state", controller_state(controller),
		"sessions", (json_int_t)json_array_size(sessions), "inflight", inflight);
}

/* name NULL: all. */
static int disks_get(struct cli *cli, const char *name, json_t **ret_disks)
{
	json_t *controllers, *bdevs, *one;
	size_t i;
	int rc = cli_call(cli, "vhost_get_controllers", name ? object_of("name", name) : NULL,
			  &controllers);

	if (rc < 0)
		return rc;
	rc = cli_call(cli, "bdev_get_bdevs", NULL, &bdevs);
	if (rc < 0) {
		json_decref(controllers);
		return rc;
	}
	*ret_disks = json_array();
	json_array_foreach(controllers, i, one)
	{
		json_t *disk = disk_json(one, bdevs);

		if (disk)
			json_array_append_new(*ret_disks, disk);
	}
	json_decref(controllers);
	json_decref(bdevs);
	return 0;
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

int disk_add(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	json_t *bdev, *params, *extra = json_object();
	bool made;
	int rc;

	if (cli_flag(cli, "read-only") && cli_given(cli, "file"))
		json_object_set_new(extra, "readonly", json_true());
	rc = backend_make(cli, name, extra, &bdev, &made);
	json_decref(extra);
	if (rc < 0)
		return rc;
	params = cli_params(cli, 1);
	json_object_set(params, "dev_name", bdev);
	rc = cli_do(cli, "vhost_create_blk_controller", params);
	if (rc < 0 && made)
		backend_undo(cli, json_string_value(bdev));
	json_decref(bdev);
	return rc < 0 ? rc : disk_get(cli, name, ret_result);
}

int disk_rm(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	json_t *controller;
	bool bdev_too;
	int rc = controller_get(cli, name, &controller);

	if (rc < 0)
		return rc;
	bdev_too = !cli_flag(cli, "keep-bdev") && !strcmp(controller_bdev(controller), name);
	rc = 0;
	if (!json_object_get(json_object_get(controller, "backend_specific"), "block"))
		rc = err_set(&cli->err, -EINVAL,
			     "%s: is no virtio-blk disk: use vhostctl scsi rm, or nvme rm", name);
	json_decref(controller);
	if (rc == 0)
		rc = cli_do(cli, "vhost_delete_controller", cli_params(cli, 0));
	if (rc == 0 && bdev_too)
		rc = backend_remove(cli, name);
	*ret_result = json_true();
	return rc;
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

static int resize_with(struct cli *cli, const json_t *bdev)
{
	const char *name = member_str(bdev, "name"), *product = member_str(bdev, "product_name");
	const struct bdev_kind *kind = bdev_kind_find(product);
	json_t *params = object_of("name", name);

	if (cli_given(cli, "size")) {
		json_object_set_new(params, "new_size",
				    json_integer((json_int_t)cli_u64(cli, "size", 0)));
		return cli_do(cli, "bdev_resize", params);
	}
	if (kind && kind->rescan)
		return cli_do(cli, kind->rescan, params);
	json_decref(params);
	return err_set(&cli->err, -EOPNOTSUPP,
		       "%s: the size of a '%s' does not change by itself: give SIZE", name,
		       product);
}

int disk_resize(struct cli *cli, json_t **ret_result)
{
	json_t *name, *bdev, *after;
	int rc = name_to_bdev(cli, cli_str(cli, "name"), &name);

	if (rc < 0)
		return rc;
	rc = backend_get(cli, json_string_value(name), &bdev);
	if (rc == 0) {
		rc = resize_with(cli, bdev);
		json_decref(bdev);
	}
	if (rc == 0)
		rc = backend_get(cli, json_string_value(name), &after);
	json_decref(name);
	if (rc < 0)
		return rc;
	*ret_result = json_array();
	json_array_append_new(*ret_result, after);
	return 0;
}

/* ---- qos ---- */

int qos_set(struct cli *cli, json_t **ret_result)
{
	static const struct {
		const char *key, *param;
	} bandwidths[] = {
		{ "bandwidth", "rw_mbytes_per_sec" },
		{ "read-bandwidth", "r_mbytes_per_sec" },
		{ "write-bandwidth", "w_mbytes_per_sec" },
	};
	json_t *params = cli_params(cli, 0), *bdev;
	int rc;

	for (size_t i = 0; i < ARRAY_SIZE(bandwidths); i++) {
		const uint64_t bytes = cli_u64(cli, bandwidths[i].key, 0);

		if (bytes % (1 << 20)) {
			json_decref(params);
			return err_set(
				&cli->err, -EINVAL,
				"--%s: expected whole MiB a second, got %" JSON_INTEGER_FORMAT
				" bytes",
				bandwidths[i].key, (json_int_t)bytes);
		}
		if (cli_given(cli, bandwidths[i].key))
			json_object_set_new(params, bandwidths[i].param,
					    json_integer((json_int_t)(bytes >> 20)));
	}
	if (!json_object_size(params)) {
		json_decref(params);
		return err_set(&cli->err, -EINVAL, "expected a limit: --iops N, --bandwidth SIZE");
	}
	rc = name_to_bdev(cli, cli_str(cli, "name"), &bdev);
	if (rc < 0) {
		json_decref(params);
		return rc;
	}
	json_object_set_new(params, "name", bdev);
	return cli_call(cli, "bdev_set_qos_limit", params, ret_result);
}
