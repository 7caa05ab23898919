/*
 * Log lines to stderr, one write(2) a line, with the level as a systemd prefix ("<3>") when
 * stderr is the journal. Never on the data path; what a peer can provoke goes through a
 * struct log_limit of its session. Library code returns struct err instead of logging.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_ERROR,
	LOG_WARNING,
	LOG_NOTICE,
	LOG_INFO,
	LOG_DEBUG
};

/* Thread: any. Default LOG_NOTICE. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* "notice" */
const char *log_level_name(enum log_level level);
/* Each line begins with the date and time (UTC). Default off: the journal has them. Thread: any. */
void log_set_timestamps(bool on);
bool log_level_parse(const char *name, enum log_level *ret_level);

/* Thread: any. */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)	 log_write(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_notice(...)	 log_write(LOG_NOTICE, __VA_ARGS__)
#define log_info(...)	 log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)	 log_write(LOG_DEBUG, __VA_ARGS__)

/* At most `burst` lines per `interval_ns`; what was swallowed is told before the next one. */
struct log_limit {
	uint32_t burst;
	uint64_t interval_ns;
	/* private: */
	uint64_t window_ns;
	uint32_t used;
	uint64_t suppressed;
};

#define LOG_LIMIT_DEFAULT ((struct log_limit){ .burst = 5, .interval_ns = 10000000000ull })

/* May a line go out now? Thread: owner's. */
bool log_limit_pass(struct log_limit *l);
#define log_limited(l, level, ...)                                                                 \
	do {                                                                                       \
		if (log_limit_pass(l))                                                             \
			log_write(level, __VA_ARGS__);                                             \
	} while (0)

#endif
