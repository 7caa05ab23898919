/*
 * vhostctl scsi: virtio-scsi controllers and their targets, over either transport. A bdev that
 * `scsi target add` makes is named CONTROLLER.TARGET, and goes with the target.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/backend.h"

#define SCSI_TARGETS_MAX 256
#define NAME_BYTES	 512

static const json_t *scsi_of(const json_t *controller)
{
	return json_object_get(json_object_get(controller, "backend_specific"), "scsi");
}

/* What a verb does with a controller, by its transport: SPDK has two sets of methods. */
enum scsi_act {
	SCSI_CREATE,
	SCSI_DELETE,
	SCSI_TARGET_ADD,
	SCSI_TARGET_REMOVE,
	SCSI_ACTS
};

static const struct scsi_way {
	const char *transport, *key; /* key: the parameter that is the controller's name */
	const char *methods[SCSI_ACTS];
} scsi_ways[] = {
	{ "vhost-user",
	  "ctrlr",
	  { "vhost_create_scsi_controller", "vhost_delete_controller",
	    "vhost_scsi_controller_add_target", "vhost_scsi_controller_remove_target" } },
	{ "vfio-user",
	  "name",
	  { "vfu_virtio_create_scsi_endpoint", "vfu_virtio_delete_endpoint",
	    "vfu_virtio_scsi_add_target", "vfu_virtio_scsi_remove_target" } },
};

/* params has the name as "ctrlr". Takes params. */
static int scsi_do(struct cli *cli, const struct scsi_way *way, enum scsi_act act, json_t *params)
{
	json_t *name = json_incref(json_object_get(params, "ctrlr"));

	json_object_del(params, "ctrlr");
	json_object_set_new(params, way->key, name);
	return cli_do(cli, way->methods[act], params);
}

static const struct scsi_way *scsi_way_of(const json_t *controller)
{
	const struct scsi_way *way = scsi_ways;

	return strcmp(member_str(controller, "transport"), way->transport) ? way + 1 : way;
}

/* The device as vhost_get_controllers has it, with its transport. */
static json_t *scsi_json(const json_t *device, const json_t *controllers)
{
	json_t *c = json_object(), *one;
	size_t i;

	json_array_foreach((json_t *)controllers, i, one)
	{
		if (!strcmp(member_str(one, "ctrlr"), member_str(device, "name")))
			json_object_update(c, one);
	}
	json_object_set(c, "ctrlr", json_object_get(device, "name"));
	json_object_set_new(c, "backend_specific",
			    json_pack("{s:O}", "scsi", json_object_get(device, "targets")));
	for (i = 0; i < 4; i++) {
		static const char *const same[] = { "cpumask", "socket", "sessions", "transport" };

		json_object_set(c, same[i], json_object_get(device, same[i]));
	}
	return c;
}

int scsi_list(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	json_t *devices, *controllers = NULL, *one;
	size_t i;
	int rc = cli_call(cli, "device_get_devices", name ? object_of("name", name) : NULL,
			  &devices);

	if (rc < 0)
		return rc;
	rc = cli_call(cli, "vhost_get_controllers", NULL, &controllers);
	*ret_result = json_array();
	json_array_foreach(devices, i, one)
	{
		if (rc == 0 && !strcmp(member_str(one, "type"), "scsi"))
			json_array_append_new(*ret_result, scsi_json(one, controllers));
	}
	json_decref(devices);
	json_decref(controllers);
	return rc;
}

/* The controller that the verb names. */
static int scsi_get(struct cli *cli, json_t **ret_controller)
{
	json_t *all = NULL;
	int rc = scsi_list(cli, &all);

	*ret_controller = rc < 0 ? NULL : json_incref(json_array_get(all, 0));
	json_decref(all);
	if (rc < 0 || *ret_controller)
		return rc;
	return err_set(&cli->err, -EINVAL,
		       "%s: is no virtio-scsi controller: see vhostctl disk "
		       "list, nvme list",
		       cli_str(cli, "name"));
}

int scsi_add(struct cli *cli, json_t **ret_result)
{
	*ret_result = json_true();
	return scsi_do(cli, &scsi_ways[cli_flag(cli, "vfio-user")], SCSI_CREATE,
		       cli_params(cli, 0));
}

static const json_t *target_find(const json_t *controller, uint64_t number)
{
	const json_t *one;
	size_t i;

	json_array_foreach(scsi_of(controller), i,
			   one) if ((uint64_t)member_int(one, "scsi_dev_num") == number) return one;
	return NULL;
}

/* The target's bdev when `scsi target add` made it, else "". */
static const char *own_bdev(const json_t *controller, const json_t *target)
{
	const char *bdev =
		member_str(json_array_get(json_object_get(target, "luns"), 0), "bdev_name");
	char made[NAME_BYTES];

	snprintf(made, sizeof(made), "%s.%lld", member_str(controller, "ctrlr"),
		 member_int(target, "scsi_dev_num"));
	return strcmp(made, bdev) ? "" : bdev;
}

int scsi_rm(struct cli *cli, json_t **ret_result)
{
	json_t *controller, *one;
	size_t i;
	int rc = scsi_get(cli, &controller);

	if (rc < 0)
		return rc;
	rc = scsi_do(cli, scsi_way_of(controller), SCSI_DELETE, cli_params(cli, 0));
	json_array_foreach(scsi_of(controller), i, one)
	{
		const char *bdev = own_bdev(controller, one);

		if (rc == 0 && *bdev && !cli_flag(cli, "keep-bdevs"))
			rc = backend_remove(cli, bdev);
	}
	json_decref(controller);
	*ret_result = json_true();
	return rc;
}

static int target_number(struct cli *cli, const json_t *controller, uint64_t *ret_number)
{
	uint64_t n = 0;

	if (cli_given(cli, "target")) {
		*ret_number = cli_u64(cli, "target", 0);
		return 0;
	}
	while (n < SCSI_TARGETS_MAX && target_find(controller, n))
		n++;
	*ret_number = n;
	return n < SCSI_TARGETS_MAX ? 0
				    : err_set(&cli->err, -ENOSPC, "%s: all %d targets are there",
					      member_str(controller, "ctrlr"), SCSI_TARGETS_MAX);
}

int scsi_target_add(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	char made_name[NAME_BYTES];
	const struct scsi_way *way;
	json_t *controller, *bdev, *params;
	uint64_t number;
	bool made;
	int rc = scsi_get(cli, &controller);

	if (rc < 0)
		return rc;
	way = scsi_way_of(controller);
	rc = target_number(cli, controller, &number);
	json_decref(controller);
	if (rc < 0)
		return rc;
	snprintf(made_name, sizeof(made_name), "%s.%llu", name, (unsigned long long)number);
	rc = backend_make(cli, made_name, NULL, &bdev, &made);
	if (rc < 0)
		return rc;
	params = cli_params(cli, 1);
	json_object_set(params, "bdev_name", bdev);
	json_object_set_new(params, "scsi_target_num", json_integer((json_int_t)number));
	rc = scsi_do(cli, way, SCSI_TARGET_ADD, params);
	*ret_result = json_integer((json_int_t)number);
	if (rc < 0 && made)
		backend_undo(cli, made_name);
	json_decref(bdev);
	return rc;
}

int scsi_target_rm(struct cli *cli, json_t **ret_result)
{
	json_t *controller;
	const json_t *target;
	int rc = scsi_get(cli, &controller);

	if (rc < 0)
		return rc;
	target = target_find(controller, cli_u64(cli, "target", 0));
	rc = scsi_do(cli, scsi_way_of(controller), SCSI_TARGET_REMOVE, cli_params(cli, 0));
	if (rc == 0 && target && *own_bdev(controller, target) && !cli_flag(cli, "keep-bdev"))
		rc = backend_remove(cli, own_bdev(controller, target));
	json_decref(controller);
	*ret_result = json_true();
	return rc;
}
