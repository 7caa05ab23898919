/*
 * Bdevs as the verbs need them: made of --file, --ram or --null, found, and taken away by the
 * method that belongs to their kind.
 */
#ifndef CLI_BACKEND_H
#define CLI_BACKEND_H

#include "cli/cli.h"

struct bdev_kind {
	const char *product; /* product_name of bdev_get_bdevs */
	const char *remove;
	const char *rescan; /* looks at its size again; NULL: that never changes */
};

/* NULL: none that vhostctl knows. */
const struct bdev_kind *bdev_kind_find(const char *product);

/*
 * Makes the bdev that --file, --ram or --null of the command line say, or takes --bdev; needed:
 * exactly one of them must be given. *ret_bdev: its name, a new reference to a JSON string.
 * *ret_made: it is new. extra: parameters of the method that makes it, or NULL; borrowed.
 */
int backend_make(struct cli *cli, const char *name, const json_t *extra, json_t **ret_bdev,
		 bool *ret_made);
/* Its description of bdev_get_bdevs: a new reference. */
int backend_get(struct cli *cli, const char *bdev, json_t **ret_bdev);
/* Deletes it by the method of its kind. */
int backend_remove(struct cli *cli, const char *bdev);
/* After something failed: deletes what was made, and cli->err stays as it was. */
void backend_undo(struct cli *cli, const char *bdev);
uint64_t bdev_bytes(const json_t *bdev);

/* The controller of this name, of vhost_get_controllers: a new reference. */
int controller_get(struct cli *cli, const char *name, json_t **ret_controller);
/* The bdev of a virtio-blk controller; "" when there is none. */
const char *controller_bdev(const json_t *controller);
/* Its bdev, when NAME is a virtio-blk controller's, else NAME itself: a new JSON string. */
int name_to_bdev(struct cli *cli, const char *name, json_t **ret_bdev);

#endif
