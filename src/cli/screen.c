/*
 * The full screen of `vhostctl top`.
 *
 *	line 0      daemon, time, what is being done
 *	line 1      sum of all devices
 *	then        a line for each loop
 *	then        the table: devices, or queues; of one device its operations above
 *	last line   keys
 *
 * A frame is text (view.h) that is cut to the screen. While the daemon is away the last frame
 *stays, and it is asked again at each interval.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <curses.h>

#include "base/check.h"
#include "base/num.h"
#include "cli/top.h"
#include "cli/view.h"

#define SELECTED     (A_BOLD | A_UNDERLINE)
#define FIRST_MS     250 /* rates are there soon */
#define KEY_WAIT_MS  200ul
#define INTERVAL_MIN 100ull
#define INTERVAL_MAX 60000ull

struct screen {
	struct top *top;
	bool paused, away, help, quit, colour;
	uint32_t selected, first; /* rows of the table */
	uint32_t row_count;
	uint64_t rounds;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- drawing ---- */

/* A line of text, without its end; *text is behind it. False: there is none. */
static bool line_next(const char **text, const char **ret_line, int *ret_len)
{
	const char *end = strchr(*text, '\n');

	if (!end)
		return false;
	*ret_line = *text;
	*ret_len = (int)(end - *text);
	*text = end + 1;
	return true;
}

/* What of a line fits the screen, in bytes: the rest would go on in the next line. */
static int line_fits(const char *line, int len)
{
	char *row = strndup(line, (size_t)len);
	uint32_t width;

	if (!row)
		return 0;
	len = (int)strlen(row);
	while ((width = table_width(row)) > (uint32_t)COLS) {
		len -= (int)MIN(width - (uint32_t)COLS, (uint32_t)len);
		while (len && ((unsigned char)row[len] & 0xc0) == 0x80)
			len--; /* not in the middle of a character */
		row[len] = '\0';
	}
	free(row);
	return len;
}

static void line_draw(int y, attr_t attr, const char *line, int len)
{
	if (y >= LINES)
		return;
	attrset(attr);
	mvaddnstr(y, 0, line, line_fits(line, len));
	if (attr & A_REVERSE)
		mvchgat(y, 0, -1, attr, 0, NULL);
	attrset(A_NORMAL);
}

/* All lines of a text from y on; returns the line behind it. */
static int text_draw(int y, attr_t attr, const char *text)
{
	const char *line;
	int len;

	while (line_next(&text, &line, &len))
		line_draw(y++, attr, line, len);
	return y;
}

/* What a view prints, as a text of the caller. */
#define VIEW_TEXT(call)                                                                            \
	({                                                                                         \
		char *text_ = NULL;                                                                \
		size_t size_;                                                                      \
		FILE *out = open_memstream(&text_, &size_);                                        \
		if (out) {                                                                         \
			call;                                                                      \
			fclose(out);                                                               \
		}                                                                                  \
		text_;                                                                             \
	})

static void head_draw(const struct screen *s)
{
	char line[256], when[16];
	const time_t now = time(NULL);
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(when, sizeof(when), "%H:%M:%S", &tm);
	snprintf(line, sizeof(line), "vhostctl top  %s  %s  every %llu ms, by %s%s%s",
		 s->top->cli->socket, when, (unsigned long long)s->top->interval_ms,
		 rates_sort_names[s->top->by], s->paused ? "  PAUSED" : "",
		 s->away ? "  NO DAEMON: waiting for it" : "");
	line_draw(0, A_BOLD, line, (int)strlen(line));
}

/* Words of a row that have a colour, and the pair of it. */
static const struct {
	const char *word;
	short pair, colour;
} state_words[] = {
	{ " serving ", 1, COLOR_GREEN },
	{ " running ", 1, COLOR_GREEN },
	{ " connected ", 2, COLOR_YELLOW },
	{ " broken ", 3, COLOR_RED },
};

static void colours_start(void)
{
	start_color();
	use_default_colors();
	for (size_t i = 0; i < ARRAY_SIZE(state_words); i++)
		init_pair(state_words[i].pair, state_words[i].colour, -1);
}

/* The state in the row that was drawn at y. */
static void state_colour(int y, attr_t attr, const char *line, int len)
{
	char *row = strndup(line, (size_t)len);

	for (size_t i = 0; row && i < ARRAY_SIZE(state_words); i++) {
		char *at = strstr(row, state_words[i].word);

		if (!at)
			continue;
		at[1] = '\0'; /* what is left of it, and its space */
		mvchgat(y, (int)table_width(row), (int)strlen(state_words[i].word) - 2, attr,
			state_words[i].pair, NULL);
		break;
	}
	free(row);
}

/* Titles, and the rows that fit; the selected one is among them. */
static void table_draw(struct screen *s, int y, const char *text)
{
	const int room = MAX(LINES - 2 - y, 1);
	const char *line;
	uint32_t row = 0;
	int len;

	if (!line_next(&text, &line, &len))
		return;
	line_draw(y++, A_REVERSE, line, len);
	s->row_count = 0;
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		s->row_count++;
	if (s->row_count && s->selected >= s->row_count)
		s->selected = s->row_count - 1;
	if (s->selected < s->first)
		s->first = s->selected;
	if (s->selected >= s->first + (uint32_t)room)
		s->first = s->selected - (uint32_t)room + 1;
	for (; line_next(&text, &line, &len); row++) {
		if (row < s->first || row >= s->first + (uint32_t)room)
			continue;
		line_draw(y, row == s->selected ? SELECTED : A_NORMAL, line, len);
		if (s->colour)
			state_colour(y, row == s->selected ? SELECTED : A_NORMAL, line, len);
		y++;
	}
}

static const char keys[] = "q quit  p pause  s sort  arrows select  Enter queues  Esc back  "
			   "a all queues  +/- interval  h help\n";
static const char help_text[] =
	"\n"
	"  q            end\n"
	"  p, space     pause: what is shown stays\n"
	"  s            next sort key; n name, i IOPS, b bandwidth, l latency (99th\n"
	"               percentile; of queues the oldest request), e errors\n"
	"  up, down     select a device\n"
	"  Enter        its operations and queues\n"
	"  Esc, left    back to the devices\n"
	"  a            queues of all devices\n"
	"  + -          ask less or more often\n"
	"  h, ?         this help; any key ends it\n"
	"\n"
	"  Latencies are those of the back-end: p50, p99, p99.9 of the last interval, from\n"
	"  histograms of powers of two. QD: requests in flight, OLDEST: since when one\n"
	"  waits. BATCH: requests found by a look at a queue. NO IRQ: interrupts that the\n"
	"  driver asked not to get. READ/S, WRITE/S and latencies of a queue are of what its\n"
	"  requests had the disks do.\n";

static void frame_draw(struct screen *s)
{
	const struct top *top = s->top;
	const struct rates_device *d;
	char *text;
	int y = 1;

	erase();
	head_draw(s);
	if (s->help) {
		text_draw(y, A_NORMAL, help_text);
		refresh();
		return;
	}
	text = VIEW_TEXT(view_summary(top->rates, out); view_loops(top->rates, out));
	y = text_draw(y, A_NORMAL, text ? text : "") + 1;
	free(text);
	d = top->device ? view_device_find(top->rates, top->device) : NULL;
	if (top->device) {
		char line[256];

		snprintf(line, sizeof(line), "%.128s%s%s", top->device, d ? ": " : ": gone",
			 d ? d->state : "");
		line_draw(y++, A_BOLD, line, (int)strlen(line));
	}
	if (d) {
		text = VIEW_TEXT(view_operations(d, out, false));
		y = text_draw(y, A_NORMAL, text ? text : "") + 1;
		free(text);
	}
	text = top->queues ? VIEW_TEXT(view_queues(top->rates, top->device, out, false))
			   : VIEW_TEXT(view_devices(top->rates, out, false));
	table_draw(s, y, text ? text : "");
	free(text);
	text_draw(LINES - 1, A_DIM, keys);
	refresh();
}

/* ---- keys ---- */

static void sort_set(struct screen *s, enum rates_sort by)
{
	s->top->by = by;
	if (s->top->rates)
		rates_sort(s->top->rates, by);
}

static void device_open_selected(struct screen *s)
{
	struct top *top = s->top;

	if (top->queues || !top->rates || s->selected >= top->rates->device_count)
		return;
	free(top->device);
	top->device = strdup(top->rates->devices[s->selected].name);
	top->queues = true;
	s->selected = s->first = 0;
}

static void devices_back(struct screen *s)
{
	free(s->top->device);
	s->top->device = NULL;
	s->top->queues = false;
	s->selected = s->first = 0;
}

static void key_sort(struct screen *s, int key)
{
	static const char sort_keys[RATES_SORT_COUNT + 1] = "nible";
	const char *at = strchr(sort_keys, key);

	if (key == 's')
		sort_set(s, (s->top->by + 1) % RATES_SORT_COUNT);
	else if (at && key)
		sort_set(s, (enum rates_sort)(at - sort_keys));
}

static void key_move(struct screen *s, int key)
{
	const uint32_t page = (uint32_t)MAX(LINES / 2, 1);
	const uint32_t last = s->row_count ? s->row_count - 1 : 0;

	switch (key) {
	case KEY_UP:
		s->selected -= s->selected != 0;
		break;
	case KEY_DOWN:
		s->selected = MIN(s->selected + 1, last);
		break;
	case KEY_PPAGE:
		s->selected -= MIN(s->selected, page);
		break;
	case KEY_NPAGE:
		s->selected = MIN(s->selected + page, last);
		break;
	}
}

static void key_take(struct screen *s, int key)
{
	if (s->help) {
		s->help = key == KEY_RESIZE;
		return;
	}
	switch (key) {
	case 'q':
		s->quit = true;
		break;
	case 'p':
	case ' ':
		s->paused = !s->paused;
		break;
	case 'a':
		devices_back(s);
		s->top->queues = true;
		break;
	case '\n':
	case '\r':
	case KEY_ENTER:
	case KEY_RIGHT:
		device_open_selected(s);
		break;
	case 27: /* Esc */
	case KEY_LEFT:
	case KEY_BACKSPACE:
		devices_back(s);
		break;
	case '+':
		s->top->interval_ms = MIN(s->top->interval_ms * 2, INTERVAL_MAX);
		break;
	case '-':
		s->top->interval_ms = MAX(s->top->interval_ms / 2, INTERVAL_MIN);
		break;
	case 'h':
	case '?':
		s->help = true;
		break;
	default:
		key_sort(s, key);
		key_move(s, key);
	}
}

/* ---- the loop ---- */

/* 0 also when the daemon is away: it may come back. */
static int sample(struct screen *s)
{
	int rc = top_sample(s->top);

	s->away = rc == -ENOTCONN || rc == -EPIPE || rc == -ETIMEDOUT;
	if (!s->away)
		return rc;
	conn_close(s->top->cli->conn);
	s->top->cli->conn = NULL;
	return 0;
}

static int rounds_run(struct screen *s)
{
	uint64_t next_ms = now_ms() + FIRST_MS;
	int rc = 0;

	while (!s->quit && s->rounds < s->top->count) {
		const uint64_t now = now_ms();
		int key;

		if (now >= next_ms && !s->paused) {
			rc = sample(s);
			if (rc < 0)
				return rc;
			s->rounds++;
			next_ms = now + s->top->interval_ms;
		}
		frame_draw(s);
		timeout(s->paused || next_ms <= now ? (int)KEY_WAIT_MS
						    : (int)MIN(next_ms - now, KEY_WAIT_MS));
		key = getch();
		if (key != ERR)
			key_take(s, key);
	}
	return rc;
}

int screen_run(struct top *top)
{
	struct screen s = { .top = top };
	SCREEN *terminal;
	int rc;

	if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
		return err_set(&top->cli->err, -ENOTTY,
			       "top: no terminal: --batch prints without one");
	rc = top_sample(top); /* no daemon: told before the screen is taken */
	if (rc < 0)
		return rc;
	terminal = newterm(NULL, stdout, stdin);
	if (!terminal)
		return err_set(&top->cli->err, -ENOTTY,
			       "top: $TERM names no terminal that is known: --batch prints "
			       "without one");
	set_escdelay(25);
	cbreak();
	noecho();
	curs_set(0);
	keypad(stdscr, TRUE);
	s.colour = top->cli->colour && has_colors();
	if (s.colour)
		colours_start();
	rc = rounds_run(&s);
	endwin();
	delscreen(terminal);
	return rc;
}
