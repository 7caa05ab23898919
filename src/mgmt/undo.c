/* See undo.h. */
#include "mgmt/undo.h"

#include <string.h>

#include "base/check.h"

#define KEY(name)                                                                                  \
	{                                                                                          \
		.to = name, .from = name                                                           \
	}
#define RESULT(name)                                                                               \
	{                                                                                          \
		.to = name, .from = UNDO_RESULT                                                    \
	}
#define BDEV(kind)                                                                                 \
	{                                                                                          \
		"bdev_" kind "_create", "bdev_" kind "_delete",                                    \
		{                                                                                  \
			RESULT("name")                                                             \
		}                                                                                  \
	}

const struct undo_row undo_rows[] = {
	BDEV("aio"),
	BDEV("delay"),
	{ "bdev_error_create", "bdev_error_delete", { { "name", "base_name", "EE_" } } },
	BDEV("malloc"),
	BDEV("null"),
	BDEV("passthru"),
	{ "bdev_split_create", "bdev_split_delete", { KEY("base_bdev") } },
	BDEV("uring"),
	{ "vhost_create_blk_controller", "vhost_delete_controller", { KEY("ctrlr") } },
	{ "vhost_create_nvme_controller", "vhost_delete_controller", { KEY("ctrlr") } },
	{ "vhost_create_scsi_controller", "vhost_delete_controller", { KEY("ctrlr") } },
	{ "vhost_scsi_controller_add_target",
	  "vhost_scsi_controller_remove_target",
	  { KEY("ctrlr"), RESULT("scsi_target_num") } },
	{ "vhost_nvme_controller_add_ns",
	  "vhost_nvme_controller_remove_ns",
	  { KEY("ctrlr"), KEY("nsid") } },
	{ "vfu_virtio_create_blk_endpoint", "vfu_virtio_delete_endpoint", { KEY("name") } },
	{ "vfu_virtio_create_scsi_endpoint", "vfu_virtio_delete_endpoint", { KEY("name") } },
	{ "vfu_virtio_scsi_add_target",
	  "vfu_virtio_scsi_remove_target",
	  { KEY("name"), KEY("scsi_target_num") } },
	{ "nvmf_create_subsystem", "nvmf_delete_subsystem", { KEY("nqn") } },
	{ "nvmf_subsystem_add_ns", "nvmf_subsystem_remove_ns", { KEY("nqn"), RESULT("nsid") } },
	{ "nvmf_subsystem_add_host", "nvmf_subsystem_remove_host", { KEY("nqn"), KEY("host") } },
	{ "nvmf_subsystem_add_listener",
	  "nvmf_subsystem_remove_listener",
	  { KEY("nqn"), KEY("listen_address") } },
};
const uint32_t undo_row_count = ARRAY_SIZE(undo_rows);

/* NULL: it is not given, since the method chose: or no memory. */
static json_t *key_value(const struct undo_key *key, const json_t *params, const json_t *result)
{
	const json_t *value =
		strcmp(key->from, UNDO_RESULT) ? json_object_get(params, key->from) : result;

	if (!value || json_is_null(value))
		return NULL;
	return key->prefix ? json_sprintf("%s%s", key->prefix, json_string_value(value))
			   : json_incref((json_t *)value);
}

const char *undo_call(const char *method, const json_t *params, const json_t *result,
		      json_t **ret_params)
{
	const struct undo_row *row = undo_rows;
	json_t *inverse;

	while (row < undo_rows + undo_row_count && strcmp(row->method, method))
		row++;
	inverse = row < undo_rows + undo_row_count ? json_object() : NULL;
	for (uint32_t i = 0; inverse && i < UNDO_KEYS_MAX && row->keys[i].to; i++) {
		json_t *value = key_value(&row->keys[i], params, result);

		if (!value || json_object_set_new(inverse, row->keys[i].to, value) < 0) {
			json_decref(inverse);
			inverse = NULL;
		}
	}
	if (!inverse)
		return NULL;
	*ret_params = inverse;
	return row->inverse;
}
