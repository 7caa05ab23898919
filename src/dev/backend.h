/*
 * What a disk is made of: the parameters that a blk device and a unit of a scsi device share, and
 * the block node that they open.
 */
#ifndef DEV_BACKEND_H
#define DEV_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/opts.h"

struct blk_dev;

struct backend_def {
	char *file, *bdev;
	uint64_t null_bytes, ram_bytes;
	uint32_t block_bytes; /* 0: the back-end's own */
	int direct;	      /* index into backend_direct_names */
	int pi_type;	      /* index into backend_pi_names; scsi only */
	bool read_only, lock, discard;
};

extern const char *const backend_direct_names[], *const backend_pi_names[];

/* A row of a parameter table for the field of struct `s`. */
#define DEF_ROW(s, key, kind, field, lo, hi, dflt, text)                                           \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct s, field), .min = lo,         \
		.max = hi, .def = dflt, .help = text                                               \
	}

/* The rows of the struct backend_def `at` in struct `s`. */
#define BACKEND_ROWS(s, at)                                                                        \
	DEF_ROW(s, "file", OPTS_STR, at.file, 0, 0, NULL, "image file or block device"),           \
		DEF_ROW(s, "null", OPTS_SIZE, at.null_bytes, 512, INT64_MAX, NULL,                 \
			"a disk of this size that keeps nothing"),                                 \
		DEF_ROW(s, "ram", OPTS_SIZE, at.ram_bytes, 512, INT64_MAX, NULL,                   \
			"a disk of this size in memory"),                                          \
		DEF_ROW(s, "bdev", OPTS_STR, at.bdev, 0, 0, NULL,                                  \
			"a named block device, by name or UUID"),                                  \
		DEF_ROW(s, "read-only", OPTS_BOOL, at.read_only, 0, 0, "off", "refuse writes"),    \
		DEF_ROW(s, "block-size", OPTS_U32, at.block_bytes, 512, 65536, NULL,               \
			"logical block, power of two"),                                            \
		{ .name = "direct",                                                                \
		  .type = OPTS_ENUM,                                                               \
		  .offset = offsetof(struct s, at.direct),                                         \
		  .names = backend_direct_names,                                                   \
		  .def = "auto",                                                                   \
		  .help = "O_DIRECT (file)" },                                                     \
		DEF_ROW(s, "lock", OPTS_BOOL, at.lock, 0, 0, "on",                                 \
			"lock the image against others (file)"),                                   \
		DEF_ROW(s, "discard", OPTS_BOOL, at.discard, 0, 0, "on", "offer discard (file)")

/* -EINVAL: not exactly one back-end, or a combination that is not legal. */
int backend_check(const struct backend_def *back, struct err *reterr);
/*
 * Errors: blk_dev_open's; -ENODEV: no such bdev; -EPERM: it is claimed. name is for messages.
 * Thread: main, as below.
 */
int backend_open(const struct backend_def *back, const char *name, struct blk_dev **ret_blk,
		 struct err *reterr);
/* Lets go what backend_open gave. NULL allowed. */
void backend_close(struct blk_dev *blk);
/*
 * What tells this disk from all others of the host and stays the same at a restart: its file's
 * path, or its bdev's UUID. The caller frees it. NULL: there is nothing, or no memory.
 */
char *backend_identity(const struct backend_def *back);

#endif
