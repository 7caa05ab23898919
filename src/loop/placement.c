#include "loop/placement.h"

#include <stddef.h>

#include "base/check.h"

#define PLACEMENT_LOOPS_MAX 1024 /* loops beyond this count as never loaded */

static struct {
	struct loop *loop;
	uint32_t rings;
} placement[PLACEMENT_LOOPS_MAX];
static uint32_t placement_turn;

/* A slot is a loop's as long as it has rings there, so a later loop may reuse the address. */
static uint32_t *placement_slot(const struct loop *loop)
{
	for (uint32_t i = 0; i < PLACEMENT_LOOPS_MAX; i++) {
		if (placement[i].rings && placement[i].loop == loop)
			return &placement[i].rings;
	}
	return NULL;
}

struct loop *placement_take(struct loop *const *loops, uint32_t loop_count)
{
	uint32_t best = 0, best_rings = UINT32_MAX, *slot;

	for (uint32_t k = 0; k < loop_count; k++) {
		uint32_t i = (placement_turn + k) % loop_count;
		uint32_t rings = 0;

		slot = placement_slot(loops[i]);
		if (slot)
			rings = *slot;
		if (rings < best_rings) {
			best = i;
			best_rings = rings;
		}
	}
	placement_turn = best + 1;
	slot = placement_slot(loops[best]);
	for (uint32_t i = 0; !slot && i < PLACEMENT_LOOPS_MAX; i++) {
		if (!placement[i].rings) {
			placement[i].loop = loops[best];
			slot = &placement[i].rings;
		}
	}
	if (slot)
		(*slot)++;
	return loops[best];
}

void placement_give(struct loop *loop)
{
	uint32_t *slot = placement_slot(loop);

	if (slot)
		(*slot)--;
}
