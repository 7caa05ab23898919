/*
 * Calls that undo others: what takes away what a call has just made. --state needs them when a
 * change cannot be written. Only creations are here. To undo a deletion is impossible, since the
 * data of a disk in memory and the connections of front-ends are gone; a setting would need the
 * value it had before.
 */
#ifndef MGMT_UNDO_H
#define MGMT_UNDO_H

#include <jansson.h>
#include <stdint.h>

#define UNDO_KEYS_MAX 2

#define UNDO_RESULT "(result)"

struct undo_key {
	const char *to, *from; /* from: a parameter of method; UNDO_RESULT */
	const char *prefix;    /* in front of the value, text; NULL: nothing */
};
struct undo_row {
	const char *method, *inverse;
	struct undo_key keys[UNDO_KEYS_MAX];
};

extern const struct undo_row undo_rows[];
extern const uint32_t undo_row_count;

/*
 * The method that undoes a call, with its parameters, which are the caller's. NULL: there is none.
 * Thread: main.
 */
const char *undo_call(const char *method, const json_t *params, const json_t *result,
		      json_t **ret_params);

#endif
