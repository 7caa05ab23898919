/*
 * How far long work is, for people: a bar on a terminal, a line every few seconds elsewhere. Rates
 * are of the last seconds, by the daemon's clock.
 * Thread: the only one.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define PROGRESS_LINE_MS   5000
#define PROGRESS_TEXT_MAX  1024
#define PROGRESS_SAMPLES   16
#define PROGRESS_SAMPLE_MS 500

struct progress {
	FILE *out;
	bool bar; /* a terminal that goes back to the beginning of a line */
	/* private: */
	uint64_t told_ms;
	bool told;
	struct {
		uint64_t ms, bytes;
	} sample[PROGRESS_SAMPLES]; /* a ring; the newest is sample[(count - 1) % ..] */
	uint32_t count;
};

/* Nothing is written yet. A bar if out is a terminal that can, else lines. */
void progress_init(struct progress *p, FILE *out);
/* A job as job_wait tells it. */
void progress_tell(struct progress *p, const json_t *job);
/* The line of a bar is left for what comes next. */
void progress_end(struct progress *p);

/* ---- its parts, for tests ---- */

/* Bytes a second over the last samples, with this one; 0: not known yet. */
double progress_rate(struct progress *p, uint64_t ms, uint64_t bytes);
/* "4 s", "3 min 20 s", "2 h 05 min"; beyond 99 h: "-". */
const char *progress_time(double seconds, char *buf, size_t size);
/* One line of at most width columns; width 0: without a bar, as long as it is. */
void progress_text(const json_t *job, double rate, uint32_t width, char buf[PROGRESS_TEXT_MAX]);

#endif
