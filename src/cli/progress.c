#include "cli/progress.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/num.h"
#include "cli/cli.h"
#include "cli/format.h"
#include "cli/table.h"

#define BAR_MIN	      10
#define BAR_MAX	      40
#define WIDTH_DEFAULT 80

void progress_init(struct progress *p, FILE *out)
{
	const char *term = getenv("TERM");

	*p = (struct progress){ .out = out };
	p->bar = isatty(fileno(out)) && term && *term && strcmp(term, "dumb") != 0;
}

double progress_rate(struct progress *p, uint64_t ms, uint64_t bytes)
{
	uint32_t oldest = p->count > PROGRESS_SAMPLES ? p->count - PROGRESS_SAMPLES : 0;
	double rate = 0;

	if (p->count) {
		const uint64_t from_ms = p->sample[oldest % PROGRESS_SAMPLES].ms;
		const uint64_t from_bytes = p->sample[oldest % PROGRESS_SAMPLES].bytes;

		if (ms > from_ms && bytes >= from_bytes)
			rate = (double)(bytes - from_bytes) * 1000 / (double)(ms - from_ms);
	}
	if (!p->count ||
	    ms >= p->sample[(p->count - 1) % PROGRESS_SAMPLES].ms + PROGRESS_SAMPLE_MS) {
		p->sample[p->count % PROGRESS_SAMPLES].ms = ms;
		p->sample[p->count % PROGRESS_SAMPLES].bytes = bytes;
		p->count++;
	}
	return rate;
}

const char *progress_time(double seconds, char *buf, size_t size)
{
	const double most = 99 * 3600.0;
	const uint32_t s = seconds > most ? (uint32_t)most : (uint32_t)(seconds + 0.5);

	if (seconds > most)
		snprintf(buf, size, "-");
	else if (s < 60)
		snprintf(buf, size, "%u s", s);
	else if (s < 3600)
		snprintf(buf, size, "%u min %02u s", s / 60, s % 60);
	else
		snprintf(buf, size, "%u h %02u min", s / 3600, s % 3600 / 60);
	return buf;
}

/* "copy a to b", at most so many bytes; what a name has of control characters is not shown. */
static void what_text(const json_t *job, char *buf, size_t size)
{
	const char *source = member_str(job, "source");
	const int n = snprintf(buf, size, "%s %s%s%s", member_str(job, "kind"), source,
			       *source ? " to " : "", member_str(job, "name"));

	if (n >= 0 && (size_t)n >= size)
		memcpy(buf + size - 4, "...", 4);
	for (char *c = buf; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
}

static void figures_text(const json_t *job, double rate, char *buf, size_t size)
{
	const uint64_t done = (uint64_t)member_int(job, "done_bytes");
	const uint64_t total = (uint64_t)member_int(job, "total_bytes");
	char a[FORMAT_BYTES], b[FORMAT_BYTES], speed[FORMAT_BYTES], left[FORMAT_BYTES] = "";
	int n = snprintf(buf, size, "%3u %%  %s of %s",
			 total ? (uint32_t)(done * 100.0 / total) : 0, format_size(done, a),
			 format_size(total, b));

	if (rate <= 0 || n < 0 || (size_t)n >= size)
		return;
	if (total > done)
		progress_time((double)(total - done) / rate, left, sizeof(left));
	snprintf(buf + n, size - (size_t)n, "  %s%s%s%s", format_bandwidth(rate, speed),
		 *left ? "  " : "", left, *left ? " left" : "");
}

void progress_text(const json_t *job, double rate, uint32_t width, char buf[PROGRESS_TEXT_MAX])
{
	const uint64_t done = (uint64_t)member_int(job, "done_bytes");
	const uint64_t total = (uint64_t)member_int(job, "total_bytes");
	char what[300], figures[128], bar[BAR_MAX + 1] = "";
	uint32_t used, cells;

	what_text(job, what,
		  width ? MIN(sizeof(what), MAX((size_t)width / 3, (size_t)8)) : sizeof(what));
	figures_text(job, rate, figures, sizeof(figures));
	used = table_width(what) + table_width(figures) + 7; /* "  [" "]  " and the last column */
	cells = width > used ? MIN(width - used, (uint32_t)BAR_MAX) : 0;
	if (cells < BAR_MIN) {
		snprintf(buf, PROGRESS_TEXT_MAX, "%s  %s", what, figures);
		/* figures are ASCII: what is cut off is at their end */
		if (width && table_width(buf) >= width && strlen(buf) >= width)
			buf[width - 1] = '\0';
		return;
	}
	for (uint32_t i = 0; i < cells; i++)
		bar[i] = total && i < (uint32_t)((double)done / (double)total * cells) ? '=' : ' ';
	if (total && done < total)
		bar[(uint32_t)((double)done / (double)total * cells)] = '>';
	snprintf(buf, PROGRESS_TEXT_MAX, "%s  [%s]  %s", what, bar, figures);
}

static uint32_t columns(FILE *out)
{
	struct winsize size;

	return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col
									 : WIDTH_DEFAULT;
}

void progress_tell(struct progress *p, const json_t *job)
{
	const uint64_t ms = (uint64_t)member_int(job, "elapsed_ms");
	const bool last = strcmp(member_str(job, "state"), "running") != 0;
	const double rate = progress_rate(p, ms, (uint64_t)member_int(job, "done_bytes"));
	char text[PROGRESS_TEXT_MAX];

	if (!p->bar && (last || ms < p->told_ms + PROGRESS_LINE_MS))
		return;
	progress_text(job, rate, p->bar ? columns(p->out) : 0, text);
	if (p->bar)
		fprintf(p->out, "\r%s\033[K", text);
	else
		fprintf(p->out, "%s\n", text);
	fflush(p->out);
	p->told = true;
	p->told_ms = ms;
}

void progress_end(struct progress *p)
{
	if (p->bar && p->told)
		fputc('\n', p->out);
	fflush(p->out);
}
