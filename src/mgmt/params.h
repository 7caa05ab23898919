/*
 * The named parameters of a JSON-RPC call into the structure of a table of base/opts.h. Thread:
 * any.
 */
#ifndef MGMT_PARAMS_H
#define MGMT_PARAMS_H

#include <jansson.h>

#include "base/err.h"
#include "base/opts.h"

/*
 * Fills obj with defaults, then with what is given. given: an object, or NULL for nothing; a value
 * of null is as if it were not given. Numbers are whole numbers, written any way that JSON has;
 * sizes also text with a suffix. obj is to be freed by opts_free in every case.
 * -EINVAL: a wrong type or value, or a parameter is missing; -ENOENT: one that the table has not;
 * -ERANGE: outside its limits; the text names parameter, value and limit.
 */
int params_fill(const struct opts_table *table, void *obj, const json_t *given, struct err *reterr);

#endif
