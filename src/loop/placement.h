/*
 * Which data loop a started ring runs on: the one with the fewest started rings of all devices,
 * among equals the next in turn. Thread: main.
 */
#ifndef LOOP_PLACEMENT_H
#define LOOP_PLACEMENT_H

#include <stdint.h>

struct loop;

/* Counts one ring on the loop it returns. loop_count is at least 1. */
struct loop *placement_take(struct loop *const *loops, uint32_t loop_count);
void placement_give(struct loop *loop);

#endif
