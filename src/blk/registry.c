/* The const table of back-end types. */
#include <string.h>

#include "blk/blk_impl.h"

static const struct blk_impl *const types[] = {
	&blk_file,     &blk_ram,  &blk_null,  &blk_sim,	  &blk_swap_impl,
	&blk_passthru, &blk_part, &blk_delay, &blk_error, &blk_qos_impl,
};

const struct blk_impl *blk_impl_find(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(types[i]->type, type))
			return types[i];
	return NULL;
}

void blk_types_each(void (*fn)(const char *type, const struct opts_table *params, void *arg),
		    void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!types[i]->hidden)
			fn(types[i]->type, types[i]->params, arg);
}
