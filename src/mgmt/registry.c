#include "mgmt/registry.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "mgmt/tables.h"

const struct rpc_method *const rpc_tables[] = {
#define TABLE(name) name,
#include "mgmt/tables.def"
#undef TABLE
	NULL,
};

#define REGISTRY_MAX 512 /* names and aliases */

static struct registry_entry registry_entries[REGISTRY_MAX];
static size_t registry_count;

static int registry_compare(const void *a, const void *b)
{
	const struct registry_entry *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static void registry_add(const char *name, const struct rpc_method *method)
{
	ASSERT(registry_count < REGISTRY_MAX);
	registry_entries[registry_count++] =
		(struct registry_entry){ .name = name, .method = method };
}

const struct registry_entry *registry_all(size_t *ret_count)
{
	if (!registry_count) {
		for (size_t i = 0; rpc_tables[i]; i++) {
			for (const struct rpc_method *m = rpc_tables[i]; m->name; m++) {
				registry_add(m->name, m);
				if (m->alias)
					registry_add(m->alias, m);
			}
		}
		qsort(registry_entries, registry_count, sizeof(*registry_entries),
		      registry_compare);
		for (size_t i = 1; i < registry_count; i++)
			ASSERT(strcmp(registry_entries[i - 1].name, registry_entries[i].name));
	}
	*ret_count = registry_count;
	return registry_entries;
}

const struct rpc_method *registry_find(const char *name)
{
	const struct registry_entry key = { .name = name }, *found;
	size_t count;
	const struct registry_entry *all = registry_all(&count);

	found = bsearch(&key, all, count, sizeof(*all), registry_compare);
	return found ? found->method : NULL;
}
