/*
 * JSON files that people write: what a file says, and on which line it says it, for messages.
 * Thread: any.
 */
#ifndef MGMT_JSONFILE_H
#define MGMT_JSONFILE_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

#define JSONFILE_BYTES_MAX (64u << 20)

struct jsonfile {
	char *path, *text;
	json_t *root;
};

/*
 * Reads a whole file into f, which jsonfile_fini frees in every case. Errors, with file and line:
 * -ENOENT and others of open, -EFBIG, -EIO, -ENOMEM, -EINVAL: it is not JSON, or has a key twice.
 */
int jsonfile_load(struct jsonfile *f, const char *path, struct err *reterr);
/* The same of a text that is there already; name: for messages. */
int jsonfile_parse(struct jsonfile *f, const char *name, const char *text, struct err *reterr);
void jsonfile_fini(struct jsonfile *f);
/*
 * The line, from 1, of what "devices[2].num-queues" leads to; of the last part of the way that is
 * there, when it leads nowhere. text is JSON.
 */
uint32_t jsonfile_line(const char *text, const char *way);
/* The same for a message about what is at way: "targets[1]: file: no such file" is about that. */
uint32_t jsonfile_line_of(const struct jsonfile *f, const char *way, const char *message);

#endif
