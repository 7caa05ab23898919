/*
 * Between a process and its successor: a socketpair (SOCK_SEQPACKET) on which parcels go one way
 * and short messages both ways. The bytes of a parcel are in a memfd, so that no size of it fills
 * the socket; its descriptors come after it, FDIO_FDS_MAX with a message.
 *
 *   PARCEL, FDS... -->                      what is to be opened, and what is open already
 *   <-- READY                               everything is open, nothing has started
 *   PARCEL, FDS... -->                      devices and connections, at a halt
 *   <-- UNPACKED                            all of it is there, at a halt
 *   GO -->                                  the sender never serves again
 *   <-- SERVING
 *
 * FAILED, with a text, may come in place of any answer. The other end may be of another version:
 * what does not fit is -EPROTO. All calls wait until deadline_ns (loop_clock_ns) at most, then
 * -ETIMEDOUT; -ECONNRESET: the other process has ended; -ECANCELED: it said FAILED, and its text is
 * the error's. Thread: any.
 */
#ifndef SOCK_PASSING_H
#define SOCK_PASSING_H

#include <stdint.h>

#include "base/err.h"
#include "base/parcel.h"

#define PASSING_KINDS(X)                                                                           \
	X(PARCEL)                                                                                  \
	X(FDS)                                                                                     \
	X(READY)                                                                                   \
	X(UNPACKED)                                                                                \
	X(GO)                                                                                      \
	X(SERVING)                                                                                 \
	X(FAILED)

enum passing_kind {
#define X(n) PASSING_##n,
	PASSING_KINDS(X)
#undef X
	PASSING_KIND_COUNT
};

/* text: NULL, or what FAILED says. */
int passing_send(int sock, enum passing_kind kind, const char *text, uint64_t deadline_ns,
		 struct err *reterr);
/* Waits for a message of this kind. */
int passing_expect(int sock, enum passing_kind kind, uint64_t deadline_ns, struct err *reterr);
/* p stays the caller's. -ENOMEM: p has failed, or there is no memfd. */
int passing_send_parcel(int sock, const struct parcel *p, uint64_t deadline_ns, struct err *reterr);
/* After an error nothing is left of it; else parcel_fini follows. */
int passing_recv_parcel(int sock, struct parcel *ret_parcel, uint64_t deadline_ns,
			struct err *reterr);

#endif
