/*
 * vhostctl nvme: NVMe controllers. Over vfio-user one is a subsystem with a listener, by SPDK's
 * nvmf_* methods; over vhost-user-nvme it is a controller beside those of disks. A NAME that is a
 * subsystem's, its NQN or the end of it, means the first; any other the second.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/backend.h"

#define NQN_PREFIX  "nqn.2026-01.io.vhostd:"
#define QUEUES	    16
#define NAME_BYTES  512
#define CODE_EXISTS (-EEXIST)

static bool nqn_is(const char *nqn, const char *name)
{
	const size_t prefix = strlen(NQN_PREFIX);

	return !strcmp(nqn, name) ||
	       (!strncmp(nqn, NQN_PREFIX, prefix) && !strcmp(nqn + prefix, name));
}

/* *ret_subsystem: a new reference; NULL: there is none of this name. */
static int subsystem_find(struct cli *cli, const char *name, json_t **ret_subsystem)
{
	json_t *all, *one;
	size_t i;
	int rc = cli_call(cli, "nvmf_get_subsystems", NULL, &all);

	if (rc < 0)
		return rc;
	*ret_subsystem = NULL;
	json_array_foreach(all, i, one) if (!*ret_subsystem &&
					    nqn_is(member_str(one, "nqn"), name)) *ret_subsystem =
		json_incref(one);
	json_decref(all);
	return 0;
}

/* ---- list ---- */

static const json_t *namespaces_of(const json_t *controller)
{
	const json_t *specific = json_object_get(controller, "backend_specific");
	const json_t *nvme = json_object_get(specific, "nvme");
	const json_t *spaces = json_object_get(specific, "namespaces");

	return spaces ? spaces : json_object_get(nvme, "namespaces");
}

static bool is_nvme(const json_t *controller)
{
	return namespaces_of(controller) ||
	       json_object_get(json_object_get(controller, "backend_specific"), "nvme");
}

static json_t *spaces_json(const json_t *spaces)
{
	json_t *list = json_array();
	const json_t *one;
	size_t i;

	json_array_foreach(spaces, i, one)
	{
		const char *bdev = member_str(one, "bdev_name");

		json_array_append_new(list,
				      json_pack("{s:I, s:s}", "nsid", member_int(one, "nsid"),
						"bdev", *bdev ? bdev : member_str(one, "bdev")));
	}
	return list;
}

static json_t *subsystem_json(const json_t *s)
{
	const char *nqn = member_str(s, "nqn");
	const char *name =
		strncmp(nqn, NQN_PREFIX, strlen(NQN_PREFIX)) ? nqn : nqn + strlen(NQN_PREFIX);
	const json_t *first = json_array_get(json_object_get(s, "listen_addresses"), 0);

	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "name", name, "transport", "vfio-user",
			 "address", member_str(first, "traddr"), "nqn", nqn, "serial",
			 member_str(s, "serial_number"), "namespaces",
			 spaces_json(json_object_get(s, "namespaces")));
}

static json_t *controller_json(const json_t *c)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "name", member_str(c, "ctrlr"),
			 "transport", "vhost-user", "address", member_str(c, "socket"), "nqn", "",
			 "serial", "", "namespaces", spaces_json(namespaces_of(c)));
}

int nvme_list(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	json_t *all, *one;
	size_t i;
	int rc = cli_call(cli, "nvmf_get_subsystems", NULL, &all);

	if (rc < 0)
		return rc;
	*ret_result = json_array();
	json_array_foreach(all, i, one)
	{
		if (strcmp(member_str(one, "subtype"), "Discovery") &&
		    (!name || nqn_is(member_str(one, "nqn"), name)))
			json_array_append_new(*ret_result, subsystem_json(one));
	}
	json_decref(all);
	rc = cli_call(cli, "vhost_get_controllers", NULL, &all);
	if (rc < 0)
		return rc;
	json_array_foreach(all, i, one)
	{
		if (is_nvme(one) && (!name || !strcmp(member_str(one, "ctrlr"), name)))
			json_array_append_new(*ret_result, controller_json(one));
	}
	json_decref(all);
	if (!name || json_array_size(*ret_result))
		return 0;
	return err_set(&cli->err, -ENODEV,
		       "%s: no NVMe controller has this name: see vhostctl "
		       "nvme list",
		       name);
}

/* ---- add, rm ---- */

static int add_vhost_user(struct cli *cli)
{
	json_t *params = cli_params(cli, 3);

	json_object_set_new(params, "ctrlr", json_string(cli_str(cli, "name")));
	if (!cli_given(cli, "queues"))
		json_object_set_new(params, "io_queues", json_integer(QUEUES));
	return cli_do(cli, "vhost_create_nvme_controller", params);
}

/* The transport is there once for all. */
static int transport_make(struct cli *cli)
{
	json_t *all, *one;
	bool there = false;
	size_t i;
	int rc = cli_call(cli, "nvmf_get_transports", NULL, &all);

	if (rc < 0)
		return rc;
	json_array_foreach(all, i, one) there =
		there || !strcmp(member_str(one, "trtype"), "VFIOUSER");
	json_decref(all);
	return there ? 0 : cli_do(cli, "nvmf_create_transport", object_of("trtype", "VFIOUSER"));
}

static int add_vfio_user(struct cli *cli)
{
	json_t *params = cli_params(cli, 1);
	char nqn[NAME_BYTES];
	int rc = transport_make(cli);

	snprintf(nqn, sizeof(nqn), NQN_PREFIX "%s", cli_str(cli, "name"));
	if (cli_given(cli, "nqn"))
		snprintf(nqn, sizeof(nqn), "%s", cli_str(cli, "nqn"));
	json_object_set_new(params, "nqn", json_string(nqn));
	json_object_set_new(params, "allow_any_host", json_true());
	if (rc < 0) {
		json_decref(params);
		return rc;
	}
	rc = cli_do(cli, "nvmf_create_subsystem", params);
	if (rc < 0)
		return rc;
	rc = cli_do(cli, "nvmf_subsystem_add_listener",
		    json_pack("{s:s, s:{s:s, s:s, s:s}}", "nqn", nqn, "listen_address", "trtype",
			      "VFIOUSER", "traddr",
			      cli_given(cli, "dir") ? cli_str(cli, "dir") : cli_str(cli, "name"),
			      "trsvcid", "0"));
	if (rc < 0) {
		const struct err kept = cli->err;

		cli_do(cli, "nvmf_delete_subsystem", object_of("nqn", nqn));
		cli->err = kept;
	}
	return rc;
}

int nvme_add(struct cli *cli, json_t **ret_result)
{
	*ret_result = json_true();
	if (cli_flag(cli, "vhost-user") && cli_given(cli, "dir"))
		return err_set(&cli->err, -EINVAL, "--dir: not with --vhost-user");
	return cli_flag(cli, "vhost-user") ? add_vhost_user(cli) : add_vfio_user(cli);
}

int nvme_rm(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	json_t *subsystem;
	int rc = subsystem_find(cli, name, &subsystem);

	*ret_result = json_true();
	if (rc < 0)
		return rc;
	if (!subsystem)
		return cli_do(cli, "vhost_delete_controller", object_of("ctrlr", name));
	rc = cli_do(cli, "nvmf_delete_subsystem", object_of("nqn", member_str(subsystem, "nqn")));
	json_decref(subsystem);
	return rc;
}

/* ---- namespaces ---- */

/* Bdevs that `nvme ns add` makes: CONTROLLER.nN, the first that is free. */
static int space_name(struct cli *cli, const char *name, char made[NAME_BYTES])
{
	json_t *all, *one;
	bool taken = true;
	size_t i;
	int rc = cli_call(cli, "bdev_get_bdevs", NULL, &all);

	if (rc < 0)
		return rc;
	for (unsigned n = 1; taken; n++) {
		snprintf(made, NAME_BYTES, "%s.n%u", name, n);
		taken = false;
		json_array_foreach(all, i, one) taken =
			taken || !strcmp(member_str(one, "name"), made);
	}
	json_decref(all);
	return 0;
}

static int space_add(struct cli *cli, const char *name, const json_t *subsystem, const json_t *bdev,
		     json_t **ret_result)
{
	json_t *params = cli_params(cli, 1);

	json_object_set(params, "bdev_name", (json_t *)bdev);
	if (subsystem)
		return cli_call(cli, "nvmf_subsystem_add_ns",
				json_pack("{s:s, s:o}", "nqn", member_str(subsystem, "nqn"),
					  "namespace", params),
				ret_result);
	json_object_set_new(params, "ctrlr", json_string(name));
	return cli_call(cli, "vhost_nvme_controller_add_ns", params, ret_result);
}

int nvme_ns_add(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	char made_name[NAME_BYTES];
	json_t *bdev, *subsystem;
	bool made;
	int rc = subsystem_find(cli, name, &subsystem);

	if (rc < 0)
		return rc;
	rc = space_name(cli, name, made_name);
	if (rc == 0)
		rc = backend_make(cli, made_name, NULL, &bdev, &made);
	if (rc == 0) {
		rc = space_add(cli, name, subsystem, bdev, ret_result);
		if (rc < 0 && made)
			backend_undo(cli, made_name);
		json_decref(bdev);
	}
	json_decref(subsystem);
	return rc;
}

/* The namespace's bdev when `nvme ns add` made it: *ret_own, of NAME_BYTES; else "". */
static void own_bdev(const json_t *spaces, const char *name, uint64_t nsid, char *ret_own)
{
	const json_t *one;
	char prefix[NAME_BYTES];
	size_t i;

	*ret_own = '\0';
	snprintf(prefix, sizeof(prefix), "%s.n", name);
	json_array_foreach(spaces, i, one)
	{
		const char *bdev = member_str(one, "bdev_name");

		if (!*bdev)
			bdev = member_str(one, "bdev");
		if ((uint64_t)member_int(one, "nsid") == nsid &&
		    !strncmp(bdev, prefix, strlen(prefix)))
			snprintf(ret_own, NAME_BYTES, "%s", bdev);
	}
}

int nvme_ns_rm(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	const uint64_t nsid = cli_u64(cli, "nsid", 0);
	char own[NAME_BYTES];
	json_t *subsystem, *controller;
	int rc = subsystem_find(cli, name, &subsystem);

	*ret_result = json_true();
	if (rc < 0)
		return rc;
	if (subsystem) {
		own_bdev(json_object_get(subsystem, "namespaces"), name, nsid, own);
		rc = cli_do(cli, "nvmf_subsystem_remove_ns",
			    json_pack("{s:s, s:I}", "nqn", member_str(subsystem, "nqn"), "nsid",
				      (json_int_t)nsid));
		json_decref(subsystem);
	} else {
		rc = controller_get(cli, name, &controller);
		if (rc < 0)
			return rc;
		own_bdev(namespaces_of(controller), name, nsid, own);
		json_decref(controller);
		rc = cli_do(cli, "vhost_nvme_controller_remove_ns",
			    json_pack("{s:s, s:I}", "ctrlr", name, "nsid", (json_int_t)nsid));
	}
	return rc == 0 && *own && !cli_flag(cli, "keep-bdev") ? backend_remove(cli, own) : rc;
}
