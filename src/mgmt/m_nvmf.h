/*
 * What the files of the nvmf_* methods share: m_nvmf.c makes subsystems and listeners and tells of
 * them, m_nvmf_host.c has who may use them and how good a path is, m_nvmf_stat.c what is counted.
 * Thread: main.
 */
#ifndef MGMT_M_NVMF_H
#define MGMT_M_NVMF_H

#include "mgmt/ctrlr.h"

#define NVMF_TRTYPE  "VFIOUSER"
#define NVMF_NQN_MAX 223

/* SPDK's words for struct device_def's ana. */
extern const char *const nvmf_ana_states[];

/* NULL: the call was answered. */
struct device *nvmf_subsystem_of(struct rpc_call *call, const char *nqn);
/* The next listener of a subsystem. */
struct device *nvmf_listener_next(const struct device *subsystem, const struct device *prev);
/* The one that the call's listen_address names. NULL: -ENOENT, or what is wrong with that. */
struct device *nvmf_listener_of(struct rpc_call *call, const struct device *subsystem,
				struct err *reterr);
/* {trtype, adrfam, traddr, trsvcid} */
json_t *nvmf_address_json(const char *traddr);

/* Of the listener's controller; 0: there is none, since nobody is connected. */
uint16_t nvmf_cntlid(const struct device *listener);
/* [{nqn}] */
json_t *nvmf_hosts_json(const struct device *subsystem);
void nvmf_hosts_write(json_t *calls, const struct device *subsystem);

#endif
