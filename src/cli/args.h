/*
 * A verb's arguments as rows: `vhostctl disk add NAME --file PATH --serial S`. What was typed
 * becomes a JSON object by these rows, with the types that JSON-RPC wants, and the parameters of
 * the verb's calls are copied from it.
 */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum arg_type {
	ARG_STR,
	ARG_PATH, /* made absolute: the daemon's working folder is another */
	ARG_U64,
	ARG_SIZE, /* suffix K M G T P, powers of 1024 */
	ARG_MSEC, /* milliseconds: "500ms", "5s", "2m"; a bare number: seconds */
	ARG_FLAG, /* no value: true */
	ARG_ENUM, /* one of names[], any case; in JSON as names[] has it */
	ARG_JSON,
	ARG_KEY, /* KEY=VALUE, as often as wanted: VALUE is JSON, else a string */
};

/* What completion offers for a value. */
enum arg_offer {
	OFFER_NOTHING,
	OFFER_FILES,
	OFFER_DISKS, /* names of devices of each kind */
	OFFER_SCSI,
	OFFER_NVME,
	OFFER_DEVICES,
	OFFER_BDEVS,
	OFFER_DISKS_BDEVS,
	OFFER_METHODS,
	OFFER_JOBS, /* those that run */
	OFFER_VERBS,
};

struct arg {
	/* "NAME": in its place, must be given; "[NAME]": may be left out; "--file": an option. */
	const char *name;
	enum arg_type type;
	const char *help;
	const char *value; /* of an option: what it takes, for the help: "PATH"; NULL: by type */
	/* The parameter that it becomes, of which of the verb's calls (0, the default: the first).
	 * NULL: the verb looks at it itself. */
	const char *param;
	uint32_t call;
	enum arg_offer offer;
	const char *const *names; /* ARG_ENUM: NULL-terminated */
	char letter;		  /* of an option: "-n"; 0: none */
};

/*
 * Fills values (an object) from words. Keys are the rows' names without "--" and brackets, in
 * small letters; ARG_KEY's is an object of all of them. Options may stand anywhere; after "--" all
 * words are in their places. more, when not NULL: options that rows do not have, which go into
 * more_values. -EINVAL, and reterr names the argument, the value and what it takes.
 */
struct args {
	const struct arg *rows, *more;
	json_t *values, *more_values;
};
int args_parse(const struct args *args, int count, char *const *words, struct err *reterr);
/* The parameters of the verb's call number `call`, as given; a new reference. */
json_t *args_params(const struct arg *rows, const json_t *values, uint32_t call);
/* The row of an option "--file" or "-f"; NULL: none. len: up to '='. */
const struct arg *args_option(const struct arg *rows, const char *word, size_t len);
/* The row of the n-th word in its place, from 0; NULL: there are not so many. */
const struct arg *args_place(const struct arg *rows, uint32_t n);
/* The key in values. buf: 64 bytes. */
const char *args_key(const struct arg *row, char *buf);
/* "NAME --file PATH [--serial TEXT]", for the help. Prints to a stream of the caller. */
void args_usage(const struct arg *rows, void (*put)(void *arg, const char *text), void *put_arg);

#endif
