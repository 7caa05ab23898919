/*
 * A token bucket shared by loops: one atomic time. The bucket has given away all tokens that accrue
 * until then, so a taker is told when the last of those it took will be there. Takers get theirs in
 * the order in which they asked, which is what makes it fair. It never falls back behind now by
 * more than the window: that is what an idle bucket saves.
 * Thread: any; qos_bucket_set: main.
 */
#ifndef BLK_FILTER_QOS_BUCKET_H
#define BLK_FILTER_QOS_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#define QOS_SECOND_NS	1000000000ull
#define QOS_SAVED_NS	20000000ull
#define QOS_SHARES	2000 /* a second's tokens are taken in so many shares at most */
#define QOS_SHARE_OPS	256
#define QOS_SHARE_BYTES (16ull << 20)
#define QOS_FAR_NS	(1ull << 61) /* nothing is given later */

struct qos_bucket {
	uint64_t rate, share; /* tokens; atomic */
	uint64_t window_ns;   /* atomic */
	uint64_t given_ns;    /* atomic: taken by all loops */
};

static inline uint64_t qos_bucket_ns(uint64_t tokens, uint64_t rate)
{
	unsigned __int128 ns = (unsigned __int128)tokens * QOS_SECOND_NS / rate;

	return ns < QOS_FAR_NS ? (uint64_t)ns : QOS_FAR_NS;
}

/* rate 0: not used. share_max: of QOS_SHARE_. It begins full. */
static inline void qos_bucket_set(struct qos_bucket *b, uint64_t rate, uint64_t burst,
				  uint64_t share_max, uint64_t now_ns)
{
	uint64_t share = rate / QOS_SHARES, window;

	if (!rate) {
		__atomic_store_n(&b->rate, 0, __ATOMIC_RELAXED);
		return;
	}
	share = share < 1 ? 1 : share > share_max ? share_max : share;
	window = qos_bucket_ns(share, rate);
	if (window < QOS_SAVED_NS)
		window = QOS_SAVED_NS;
	if (burst)
		window += qos_bucket_ns(burst, rate);
	__atomic_store_n(&b->rate, rate, __ATOMIC_RELAXED);
	__atomic_store_n(&b->share, share, __ATOMIC_RELAXED);
	__atomic_store_n(&b->window_ns, window, __ATOMIC_RELAXED);
	/* full of the burst, and of a first share: not of the 20 ms, which would be one time more
	 */
	window = qos_bucket_ns(share + burst, rate);
	__atomic_store_n(&b->given_ns, now_ns > window ? now_ns - window : 0, __ATOMIC_RELAXED);
}

/* Takes so many tokens; when all of them are there. */
static inline uint64_t qos_bucket_take(struct qos_bucket *b, uint64_t tokens, uint64_t now_ns)
{
	uint64_t rate = __atomic_load_n(&b->rate, __ATOMIC_RELAXED);
	uint64_t window = __atomic_load_n(&b->window_ns, __ATOMIC_RELAXED);
	uint64_t oldest = now_ns > window ? now_ns - window : 0;
	uint64_t given = __atomic_load_n(&b->given_ns, __ATOMIC_RELAXED), next;

	if (!rate) /* the limit has gone meanwhile */
		return now_ns;
	do {
		next = (given < oldest ? oldest : given) + qos_bucket_ns(tokens, rate);
		next = next < now_ns + QOS_FAR_NS ? next : now_ns + QOS_FAR_NS;
	} while (!__atomic_compare_exchange_n(&b->given_ns, &given, next, true, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	return next;
}

#endif
