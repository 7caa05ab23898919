#include "app/cpus.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#define CPUS_ID_MAX 8191

uint32_t cpus_list_parse(const char *text, int *ret_cpu, uint32_t max)
{
	uint32_t count = 0;

	while (*text >= '0' && *text <= '9') {
		char *end;
		unsigned long first = strtoul(text, &end, 10), last = first;

		if (*end == '-') {
			if (end[1] < '0' || end[1] > '9')
				return 0;
			last = strtoul(end + 1, &end, 10);
		}
		if (last < first || last > CPUS_ID_MAX || last - first >= max - count)
			return 0;
		for (; first <= last; first++)
			ret_cpu[count++] = (int)first;
		if (!*end)
			return count;
		if (*end != ',' || count == max)
			return 0;
		text = end + 1;
	}
	return 0;
}

uint32_t cpus_quota_parse(const char *text)
{
	unsigned long long quota, period;

	if (sscanf(text, "%llu %llu", &quota, &period) != 2 || !quota || !period)
		return 0;
	return (uint32_t)MIN(quota / period + (quota % period != 0),
			     (unsigned long long)APP_LOOPS_MAX);
}

/* First line of a small file; false when it cannot be read. */
static bool cpus_line_read(const char *path, char *line, int size)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(line, size, f);

	if (f)
		fclose(f);
	return ok;
}

/* The tightest quota from our cgroup up to the root; 0: none. */
static uint32_t cpus_quota(void)
{
	char line[1024], path[1100], *group = line + 3, *slash;
	uint32_t tightest = 0;

	/* "0::/path": the one hierarchy of version 2; its line is the last, alone on most systems
	 */
	if (!cpus_line_read("/proc/self/cgroup", line, sizeof(line)) || strncmp(line, "0::", 3))
		return 0;
	group[strcspn(group, "\n")] = '\0';
	while ((slash = strrchr(group, '/'))) {
		char max[64];
		uint32_t count;

		snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", group);
		count = cpus_line_read(path, max, sizeof(max)) ? cpus_quota_parse(max) : 0;
		if (count && (!tightest || count < tightest))
			tightest = count;
		*slash = '\0';
	}
	return tightest;
}

/* The CPUs of our affinity mask; at least one. */
static uint32_t cpus_allowed(int *ret_cpu, uint32_t max)
{
	size_t size = CPU_ALLOC_SIZE(CPUS_ID_MAX + 1);
	cpu_set_t *set = CPU_ALLOC(CPUS_ID_MAX + 1);
	uint32_t count = 0;

	if (set && sched_getaffinity(0, size, set) == 0)
		for (int i = 0; i <= CPUS_ID_MAX && count < max; i++)
			if (CPU_ISSET_S(i, size, set))
				ret_cpu[count++] = i;
	if (set)
		CPU_FREE(set);
	if (!count)
		ret_cpu[count++] = 0;
	return count;
}

static bool cpus_has(const int *cpu, uint32_t count, int wanted)
{
	for (uint32_t i = 0; i < count; i++)
		if (cpu[i] == wanted)
			return true;
	return false;
}

static int cpus_count_choose(const char *text, uint32_t allowed, struct cpus *c, struct err *reterr)
{
	char *end;
	unsigned long count;
	uint32_t quota;

	if (!text) {
		quota = cpus_quota();
		c->count = quota ? MIN(quota, allowed) : allowed;
		return 0;
	}
	count = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || count < 1 || count > APP_LOOPS_MAX)
		return err_set(reterr, -EINVAL,
			       "cores: expected 1..%d or a list like 0-3,6, got "
			       "'%.64s'",
			       APP_LOOPS_MAX, text);
	c->count = (uint32_t)count;
	return 0;
}

int cpus_choose(const char *text, bool pin, struct cpus *ret_cpus, struct err *reterr)
{
	int allowed[APP_LOOPS_MAX];
	uint32_t allowed_count = cpus_allowed(allowed, APP_LOOPS_MAX);
	struct cpus *c = ret_cpus;
	bool list = text && strpbrk(text, "-,");
	int rc;

	if (list) {
		c->count = cpus_list_parse(text, c->cpu, APP_LOOPS_MAX);
		if (!c->count)
			return err_set(reterr, -EINVAL,
				       "cores: expected 1..%d or a list like "
				       "0-3,6, got '%.64s'",
				       APP_LOOPS_MAX, text);
	} else {
		rc = cpus_count_choose(text, allowed_count, c, reterr);
		if (rc < 0)
			return rc;
		for (uint32_t i = 0; i < c->count; i++)
			c->cpu[i] = allowed[i % allowed_count];
	}
	for (uint32_t i = 0; i < c->count; i++) {
		if (!pin)
			c->cpu[i] = -1;
		else if (!cpus_has(allowed, allowed_count, c->cpu[i]))
			return err_set(reterr, -EINVAL,
				       "cores: CPU %d is not one that this "
				       "process may use",
				       c->cpu[i]);
	}
	return 0;
}
