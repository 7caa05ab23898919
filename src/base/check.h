/*
 * Checks of our own promises. ASSERT is on in release builds too; it is never used on anything a
 * guest, a front-end or a storage server can influence (those get a named error).
 */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include <stddef.h>
#include <stdnoreturn.h>

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Prints the failed condition with its place on stderr and aborts. Thread: any. */
noreturn void check_failed(const char *cond, const char *file, int line, const char *func);

#define ASSERT(cond)                                                                               \
	do {                                                                                       \
		if (unlikely(!(cond)))                                                             \
			check_failed(#cond, __FILE__, __LINE__, __func__);                         \
	} while (0)

#define UNREACHABLE() check_failed("unreachable", __FILE__, __LINE__, __func__)

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_SIZE(a)			(sizeof(a) / sizeof((a)[0]))

#endif
