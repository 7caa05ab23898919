#include "cli/backend.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "cli/conn.h"

static const struct bdev_kind kinds[] = {
	{ "AIO disk", "bdev_aio_delete", "bdev_aio_rescan" },
	{ "URING bdev", "bdev_uring_delete", "bdev_uring_rescan" },
	{ "Malloc disk", "bdev_malloc_delete", NULL },
	{ "Null disk", "bdev_null_delete", NULL },
	{ "passthru", "bdev_passthru_delete", NULL },
	{ "delay", "bdev_delay_delete", NULL },
	{ "Error Injection Disk", "bdev_error_delete", NULL },
};

const struct bdev_kind *bdev_kind_find(const char *product)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i].product, product))
			return &kinds[i];
	return NULL;
}

/* Of a disk that is not a file: its method and size. */
static int make_sized(struct cli *cli, const char *what, uint64_t bytes, json_t *params)
{
	const uint64_t block = cli_u64(cli, "block-size", 512);

	if (!block || !bytes || bytes % block)
		return err_set(&cli->err, -EINVAL,
			       "--%s: expected a multiple of the block size, %" JSON_INTEGER_FORMAT
			       " bytes, got %" JSON_INTEGER_FORMAT,
			       what, (json_int_t)block, (json_int_t)bytes);
	json_object_set_new(params, "block_size", json_integer((json_int_t)block));
	json_object_set_new(params, "num_blocks", json_integer((json_int_t)(bytes / block)));
	return 0;
}

static int backend_check(struct cli *cli)
{
	static const char *const ways[] = { "file", "ram", "null", "bdev" };
	const char *first = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		if (!cli_given(cli, ways[i]))
			continue;
		if (first)
			return err_set(&cli->err, -EINVAL, "--%s and --%s: expected one of them",
				       first, ways[i]);
		first = ways[i];
	}
	if (!first)
		return err_set(&cli->err, -EINVAL,
			       "expected one of --file PATH, --ram SIZE, --null SIZE%s",
			       args_option(cli->verb->args, "--bdev", strlen("--bdev"))
				       ? ", --bdev NAME"
				       : "");
	if (cli_given(cli, "size") && !cli_given(cli, "file"))
		return err_set(&cli->err, -EINVAL, "--size: makes a file, expected --file with it");
	return 0;
}

int backend_make(struct cli *cli, const char *name, const json_t *extra, json_t **ret_bdev,
		 bool *ret_made)
{
	const char *method = "bdev_aio_create";
	json_t *params;
	int rc = backend_check(cli);

	*ret_made = false;
	if (rc < 0)
		return rc;
	if (cli_given(cli, "bdev")) {
		*ret_bdev = json_string(cli_str(cli, "bdev"));
		return 0;
	}
	params = cli_params(cli, 0);
	if (extra)
		json_object_update(params, (json_t *)extra);
	json_object_set_new(params, "name", json_string(name));
	if (cli_given(cli, "ram")) {
		method = "bdev_malloc_create";
		rc = make_sized(cli, "ram", cli_u64(cli, "ram", 0), params);
	} else if (cli_given(cli, "null")) {
		method = "bdev_null_create";
		rc = make_sized(cli, "null", cli_u64(cli, "null", 0), params);
	}
	if (rc < 0) {
		json_decref(params);
		return rc;
	}
	rc = cli_call(cli, method, params, ret_bdev);
	if (rc < 0 && cli_given(cli, "file") && conn_code(cli->conn) == -ENOENT) {
		const struct err said = cli->err;

		return err_set(&cli->err, rc, "%.400s; --size SIZE makes it", said.msg);
	}
	if (rc < 0)
		return rc;
	*ret_made = true;
	if (!json_is_string(*ret_bdev)) { /* true: it has the name that we gave */
		json_decref(*ret_bdev);
		*ret_bdev = json_string(name);
	}
	return 0;
}

int backend_get(struct cli *cli, const char *bdev, json_t **ret_bdev)
{
	json_t *all;
	int rc = cli_call(cli, "bdev_get_bdevs", object_of("name", bdev), &all);

	if (rc < 0)
		return rc;
	*ret_bdev = json_incref(json_array_get(all, 0));
	json_decref(all);
	return *ret_bdev ? 0 : err_set(&cli->err, -EPROTO, "bdev_get_bdevs: no bdev came");
}

/* split and GPT parts go all together, by their base. */
static int remove_by_kind(struct cli *cli, const char *bdev, const json_t *info)
{
	const char *product = member_str(info, "product_name");
	const struct bdev_kind *kind = bdev_kind_find(product);

	if (!kind)
		return err_set(&cli->err, -EOPNOTSUPP,
			       "%s: vhostctl cannot take a '%s' away: vhostctl rpc METHOD can, see "
			       "docs/rpc.md",
			       bdev, product);
	return cli_do(cli, kind->remove, object_of("name", member_str(info, "name")));
}

int backend_remove(struct cli *cli, const char *bdev)
{
	json_t *info;
	int rc = backend_get(cli, bdev, &info);

	if (rc < 0)
		return rc;
	rc = remove_by_kind(cli, bdev, info);
	json_decref(info);
	return rc;
}

void backend_undo(struct cli *cli, const char *bdev)
{
	const struct err kept = cli->err;

	if (backend_remove(cli, bdev) < 0)
		fprintf(stderr, "vhostctl: the bdev %s stays behind: %s\n", bdev, cli->err.msg);
	cli->err = kept;
}

uint64_t bdev_bytes(const json_t *bdev)
{
	return (uint64_t)member_int(bdev, "block_size") * (uint64_t)member_int(bdev, "num_blocks");
}

int controller_get(struct cli *cli, const char *name, json_t **ret_controller)
{
	json_t *all;
	int rc = cli_call(cli, "vhost_get_controllers", object_of("name", name), &all);

	if (rc < 0)
		return rc;
	*ret_controller = json_incref(json_array_get(all, 0));
	json_decref(all);
	return *ret_controller
		       ? 0
		       : err_set(&cli->err, -EPROTO, "vhost_get_controllers: no controller came");
}

const char *controller_bdev(const json_t *controller)
{
	const json_t *specific = json_object_get(controller, "backend_specific");

	return member_str(json_object_get(specific, "block"), "bdev");
}

int name_to_bdev(struct cli *cli, const char *name, json_t **ret_bdev)
{
	json_t *all, *one;
	size_t i;
	int rc = cli_call(cli, "vhost_get_controllers", NULL, &all);

	if (rc < 0)
		return rc;
	*ret_bdev = NULL;
	json_array_foreach(all, i, one) if (!strcmp(member_str(one, "ctrlr"), name) &&
					    *controller_bdev(one)) *ret_bdev =
		json_string(controller_bdev(one));
	json_decref(all);
	if (!*ret_bdev)
		*ret_bdev = json_string(name);
	return 0;
}
