/*
 * Checked arithmetic on numbers that come from outside, and the few roundings we need.
 */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <stdbool.h>
#include <stdint.h>

#define MIN(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) min_a_ = (a);                                                        \
		__typeof__(b) min_b_ = (b);                                                        \
		min_a_ < min_b_ ? min_a_ : min_b_;                                                 \
	})
#define MAX(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) max_a_ = (a);                                                        \
		__typeof__(b) max_b_ = (b);                                                        \
		max_a_ > max_b_ ? max_a_ : max_b_;                                                 \
	})

static inline bool num_is_pow2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* align must be a power of two. The caller knows that v + align does not wrap. */
static inline uint64_t num_round_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline uint64_t num_round_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

/* a + b into *ret_sum; false when it wraps. */
static inline bool num_add(uint64_t a, uint64_t b, uint64_t *ret_sum)
{
	return !__builtin_add_overflow(a, b, ret_sum);
}

static inline bool num_mul(uint64_t a, uint64_t b, uint64_t *ret_product)
{
	return !__builtin_mul_overflow(a, b, ret_product);
}

/*
 * The one range check of the project: does [start, start + count) lie within [0, limit)?
 * Cannot wrap whatever the values are. An empty range at start == limit is inside.
 */
static inline bool num_range_ok(uint64_t start, uint64_t count, uint64_t limit)
{
	return count <= limit && start <= limit - count;
}

#endif
