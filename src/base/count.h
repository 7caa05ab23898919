/*
 * Counters with one writer and any number of racy readers.
 *
 * An aligned 64-bit add does not tear on the machines we run on, and is one instruction where a
 * relaxed store of a sum is four; TSan is told the truth.
 *
 * With -DVHOSTD_UNCOUNTED=1 nothing is counted on the data path: what counting costs is measured
 * against a program made so (bench/instructions.py --only counters), which is of no other use.
 */
#ifndef BASE_COUNT_H
#define BASE_COUNT_H

#include <stdint.h>

#ifndef VHOSTD_UNCOUNTED
#define VHOSTD_UNCOUNTED 0
#endif

static inline void count_add(uint64_t *counter, uint64_t n)
{
	if (VHOSTD_UNCOUNTED)
		return;
#ifdef __SANITIZE_THREAD__
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
#else
	*counter += n;
#endif
}

/* Thread: any. */
static inline uint64_t count_get(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

#endif
