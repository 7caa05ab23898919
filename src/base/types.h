/*
 * Wire integers and address spaces as types.
 *
 * An integer whose byte order is fixed by a specification is a one-member struct: reading it
 * without the accessor does not compile. The three address spaces of the project are three types
 * for the same reason: `struct gpa` (guest physical), `struct uva` (the front-end's virtual
 * address), and `void *` (ours).
 */
#ifndef BASE_TYPES_H
#define BASE_TYPES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct gpa {
	uint64_t v;
};

struct uva {
	uint64_t v;
};

static inline struct gpa gpa(uint64_t v)
{
	return (struct gpa){ v };
}

static inline struct uva uva(uint64_t v)
{
	return (struct uva){ v };
}

/* Defines the struct NAME with NAME_get(x) -> CPU order and NAME(v) -> wire order. */
#define WIRE_INT(name, bits, to_cpu, to_wire)                                                      \
	struct name {                                                                              \
		uint##bits##_t wire;                                                               \
	};                                                                                         \
	static inline uint##bits##_t name##_get(struct name x)                                     \
	{                                                                                          \
		return to_cpu(x.wire);                                                             \
	}                                                                                          \
	static inline struct name name(uint##bits##_t v)                                           \
	{                                                                                          \
		return (struct name){ to_wire(v) };                                                \
	}

WIRE_INT(le16, 16, le16toh, htole16)
WIRE_INT(le32, 32, le32toh, htole32)
WIRE_INT(le64, 64, le64toh, htole64)
WIRE_INT(be16, 16, be16toh, htobe16)
WIRE_INT(be32, 32, be32toh, htobe32)
WIRE_INT(be64, 64, be64toh, htobe64)

#undef WIRE_INT

#endif
