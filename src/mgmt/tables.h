/*
 * The tables of methods, each NULL-terminated by name and defined in the file of its name. Only
 * registry.c includes this, and the files themselves.
 */
#ifndef MGMT_TABLES_H
#define MGMT_TABLES_H

#include "mgmt/rpc.h"

extern const struct rpc_method m_device_stats[];
extern const struct rpc_method m_framework[];
extern const struct rpc_method m_log[];
extern const struct rpc_method m_notify[];
extern const struct rpc_method m_pools[];
extern const struct rpc_method m_threads[];
extern const struct rpc_method m_trace[];

#endif
