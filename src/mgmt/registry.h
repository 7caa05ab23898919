/*
 * The methods there are: look-up by name or alias, in the order of names, and what is printed of
 * them. A new table of methods is one line in registry.c.
 * Thread: main.
 */
#ifndef MGMT_REGISTRY_H
#define MGMT_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>

#include "mgmt/rpc.h"

struct registry_entry {
	const char *name; /* or the alias */
	const struct rpc_method *method;
};

/* All of them, sorted by name; aliases are entries of their own. */
const struct registry_entry *registry_all(size_t *ret_count);
/* By name or alias; NULL: none. */
const struct rpc_method *registry_find(const char *name);
/* Prints docs/rpc.md on stdout. */
void rpc_docs_print(void);

#endif
