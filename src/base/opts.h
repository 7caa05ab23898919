/*
 * Parameter tables: one row names a parameter, its type, its place in a struct, its limits, and
 * one line of help. The command line ("key=value,key=value"), the JSON file and, later, JSON-RPC
 * all go through the same rows, so they accept the same and say the same of what they refuse.
 */
#ifndef BASE_OPTS_H
#define BASE_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum opts_type {
	OPTS_STR,  /* char *, heap; freed by opts_free */
	OPTS_BOOL, /* bool: on|off|true|false|yes|no|1|0; bare key means on */
	OPTS_U64,  /* uint64_t, decimal or 0x */
	OPTS_U32,  /* uint32_t */
	OPTS_U16,  /* uint16_t */
	OPTS_I32,  /* int32_t, decimal */
	OPTS_SIZE, /* uint64_t bytes, suffix K M G T P (powers of 1024) */
	OPTS_ENUM, /* int, index into names[] */
	OPTS_JSON, /* an array or object of JSON-RPC: named, but not converted and not stored */
};

struct opts_row {
	const char *name;
	enum opts_type type;
	size_t offset;	   /* offsetof the field */
	uint64_t min, max; /* numbers: inclusive (OPTS_I32: of an int64_t, converted); both 0:
			      the type's own range */
	const char *const *names; /* OPTS_ENUM: NULL-terminated */
	const char *def;	  /* default as text, NULL: zero / NULL */
	const char *help;
	bool required; /* of JSON-RPC: must be given */
};

struct opts_table {
	const char *what; /* "blk device", for messages */
	const struct opts_row *rows;
	size_t count;
};

/* Fills obj with the defaults of the table. */
int opts_defaults(const struct opts_table *t, void *obj, struct err *reterr);
/*
 * Sets one parameter from text; value NULL: a bare key. Returns 0; -ENOENT unknown name; -EINVAL
 * bad value; -ERANGE outside its limits; the message names the parameter, the value and the limits.
 */
int opts_set(const struct opts_table *t, void *obj, const char *name, const char *value,
	     struct err *reterr);
/*
 * Calls fn for each "key=value" (or bare key: value NULL) between separators, until one fails; a
 * separator in a value is escaped by a backslash. Returns fn's error, or -ENOMEM.
 */
typedef int opts_word_fn(void *arg, const char *name, const char *value, struct err *reterr);
int opts_words(const char *text, char sep, opts_word_fn *fn, void *arg, struct err *reterr);
/* As opts_set for each "key=value" (or bare key) between commas; "\," is a comma in a value. */
int opts_parse(const struct opts_table *t, void *obj, const char *text, struct err *reterr);
/* A parameter's value as text that opts_set would take; NULL of a string is "". buf: 32 bytes do.
 */
const char *opts_text(const struct opts_row *r, const void *obj, char *buf, size_t size);
/* "0..255": the least and the greatest value of a number, by its row or by its type. */
#define OPTS_LIMITS_TEXT 48
const char *opts_limits(const struct opts_row *r, char text[OPTS_LIMITS_TEXT]);
/* Frees the strings in obj. */
void opts_free(const struct opts_table *t, void *obj);
/* "1048576", "64M", "1G" to bytes. */
int opts_parse_size(const char *text, uint64_t *ret_bytes);

#endif
