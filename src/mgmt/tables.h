/*
 * The tables of methods, each NULL-terminated by name and defined in the file of its name. Only
 * registry.c includes this, and the files themselves.
 */
#ifndef MGMT_TABLES_H
#define MGMT_TABLES_H

#include "mgmt/rpc.h"

#define TABLE(name) extern const struct rpc_method name[];
#include "mgmt/tables.def"
#undef TABLE
#endif
