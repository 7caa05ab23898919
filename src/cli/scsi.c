/*
 * vhostctl scsi: virtio-scsi controllers and their targets. A bdev that `scsi target add` makes is
 * named CONTROLLER.TARGET, and goes with the target.
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

/* SPDK's shape, but of scsi controllers only. */
int scsi_list(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	json_t *all, *one;
	size_t i;
	int rc =
		cli_call(cli, "vhost_get_controllers", name ? object_of("name", name) : NULL, &all);

	if (rc < 0)
		return rc;
	*ret_result = json_array();
	json_array_foreach(all, i, one) if (scsi_of(one)) json_array_append(*ret_result, one);
	json_decref(all);
	return 0;
}

static int scsi_get(struct cli *cli, const char *name, json_t **ret_controller)
{
	int rc = controller_get(cli, name, ret_controller);

	if (rc < 0 || scsi_of(*ret_controller))
		return rc;
	json_decref(*ret_controller);
	return err_set(&cli->err, -EINVAL,
		       "%s: is no virtio-scsi controller: see vhostctl disk "
		       "list, nvme list",
		       name);
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
	int rc = scsi_get(cli, cli_str(cli, "name"), &controller);

	if (rc < 0)
		return rc;
	rc = cli_do(cli, "vhost_delete_controller", cli_params(cli, 0));
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
	json_t *controller, *bdev, *params;
	uint64_t number;
	bool made;
	int rc = scsi_get(cli, name, &controller);

	if (rc < 0)
		return rc;
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
	rc = cli_call(cli, "vhost_scsi_controller_add_target", params, ret_result);
	if (rc < 0 && made)
		backend_undo(cli, made_name);
	json_decref(bdev);
	return rc;
}

int scsi_target_rm(struct cli *cli, json_t **ret_result)
{
	json_t *controller;
	const json_t *target;
	int rc = scsi_get(cli, cli_str(cli, "name"), &controller);

	if (rc < 0)
		return rc;
	target = target_find(controller, cli_u64(cli, "target", 0));
	rc = cli_do(cli, "vhost_scsi_controller_remove_target", cli_params(cli, 0));
	if (rc == 0 && target && *own_bdev(controller, target) && !cli_flag(cli, "keep-bdev"))
		rc = backend_remove(cli, own_bdev(controller, target));
	json_decref(controller);
	*ret_result = json_true();
	return rc;
}
