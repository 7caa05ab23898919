/*
 * How many data loops, and on which CPUs: from --cores and --pin, or from what the kernel allows
 * this process (affinity mask, which a cgroup's cpuset narrows, and the cgroup's CPU quota).
 */
#ifndef APP_CPUS_H
#define APP_CPUS_H

#include <stdbool.h>
#include <stdint.h>

#include "app/args.h"
#include "base/err.h"

struct cpus {
	uint32_t count;
	int cpu[APP_LOOPS_MAX]; /* -1: not pinned */
};

/*
 * text: "N", a list like "0-3,6" (as many loops as it has CPUs), or NULL for the default. Without
 * pin the CPUs only count. Errors: -EINVAL for bad text or a CPU that we may not use.
 */
int cpus_choose(const char *text, bool pin, struct cpus *ret_cpus, struct err *reterr);

/* A list in the kernel's format into ret_cpu; returns how many, 0 when it is not a legal list. */
uint32_t cpus_list_parse(const char *text, int *ret_cpu, uint32_t max);
/* What a cgroup v2 cpu.max ("50000 100000", "max 100000") is worth, rounded up; 0: no limit. */
uint32_t cpus_quota_parse(const char *text);

#endif
