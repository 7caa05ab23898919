/* See daemon.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon.h"

#define CALL_LIMIT_US 60000000ull

uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void pause_us(uint64_t us)
{
	nanosleep(&(struct timespec){ .tv_sec = (time_t)(us / 1000000),
				      .tv_nsec = (long)(us % 1000000) * 1000 },
		  NULL);
}

void fill_pattern(void *to, uint32_t len, uint64_t seed)
{
	uint8_t *p = to;
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull;

	for (uint32_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (uint8_t)(x >> 24);
	}
}

void daemon_init(struct daemon *d)
{
	const char *tmp = getenv("TMPDIR");

	if (!getenv("VHOSTD")) {
		fprintf(stderr, "skipped: VHOSTD does not name the binary\n");
		exit(77);
	}
	memset(d, 0, sizeof(*d));
	/* Who takes over becomes a child of ours. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* A long TMPDIR would not leave room for a socket's path. */
	snprintf(d->dir, sizeof(d->dir), "%s/vhostd-XXXXXX",
		 tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	if (!mkdtemp(d->dir)) {
		perror(d->dir);
		exit(1);
	}
}

void daemon_fini(struct daemon *d)
{
	DIR *dir = opendir(d->dir);
	struct dirent *e;

	daemon_kill(d);
	while (dir && (e = readdir(dir)))
		if (e->d_name[0] != '.')
			unlink(daemon_path(d, e->d_name));
	if (dir)
		closedir(dir);
	rmdir(d->dir);
}

const char *daemon_path(struct daemon *d, const char *name)
{
	static char path[4][400];
	static unsigned turn;
	char *p = path[turn++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", d->dir, name);
	return p;
}

/* "@" becomes the folder and a slash. */
static void expand(struct daemon *d, const char *arg)
{
	char *to = d->text[d->arg_count];
	size_t n = 0;

	for (; *arg && n + sizeof(d->dir) + 1 < sizeof(d->text[0]); arg++) {
		if (*arg != '@')
			to[n++] = *arg;
		else
			n += (size_t)snprintf(to + n, sizeof(d->text[0]) - n, "%s/", d->dir);
	}
	to[n] = '\0';
	d->args[d->arg_count++] = to;
}

void daemon_start_again(struct daemon *d)
{
	int log = open(daemon_path(d, "log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	char *argv[26] = { getenv("VHOSTD") };

	if (log < 0)
		fail_msg("log: %s", strerror(errno));
	for (unsigned i = 0; i < d->arg_count; i++)
		argv[i + 1] = (char *)(uintptr_t)d->args[i];
	d->pid = fork();
	if (d->pid) {
		close(log);
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(log, 2);
	execv(argv[0], argv);
	_exit(127);
}

void daemon_start(struct daemon *d, ...)
{
	const char *transport = getenv("PROTO_TRANSPORT"), *arg;
	va_list ap;

	d->arg_count = 0;
	va_start(ap, d);
	while ((arg = va_arg(ap, const char *))) {
		unsigned i = d->arg_count;

		size_t len;

		expand(d, arg);
		len = strlen(d->text[i]);
		if (i && transport && !strcmp(d->args[i - 1], "--device"))
			snprintf(d->text[i] + len, sizeof(d->text[i]) - len, ",transport=%s",
				 transport);
	}
	va_end(ap);
	daemon_start_again(d);
}

static bool read_log(struct daemon *d, char *buf, size_t size)
{
	FILE *f = fopen(daemon_path(d, "log"), "r");
	size_t n = f ? fread(buf, 1, size - 1, f) : 0;

	buf[n] = '\0';
	if (f)
		fclose(f);
	return n > 0;
}

static char log_text[1 << 20];

void daemon_log_show(struct daemon *d)
{
	if (read_log(d, log_text, sizeof(log_text)))
		fprintf(stderr, "---- vhostd said:\n%s----\n", log_text);
}

bool daemon_log_has(struct daemon *d, const char *text)
{
	return read_log(d, log_text, sizeof(log_text)) && strstr(log_text, text);
}

int daemon_log_check(struct daemon *d)
{
	static const char *const bad[] = { "AddressSanitizer", "LeakSanitizer", "runtime error:",
					   "ThreadSanitizer",  "ASSERT",	"check failed" };

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (daemon_log_has(d, bad[i])) {
			daemon_log_show(d);
			return -1;
		}
	return 0;
}

void daemon_call_begin(struct daemon *d, const char *method, const char *params)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	uint64_t limit_us = now_us() + CALL_LIMIT_US;
	char text[512];
	int len = snprintf(text, sizeof(text),
			   "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":%s}", method,
			   params);

	assert_false(d->call_fd);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", daemon_path(d, "rpc"));
	snprintf(d->call, sizeof(d->call), "%s %s", method, params);
	d->call_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(d->call_fd > 0);
	/* It may be starting. */
	while (connect(d->call_fd, (struct sockaddr *)&addr, sizeof(addr))) {
		if (now_us() > limit_us)
			fail_msg("%s: %s", addr.sun_path, strerror(errno));
		pause_us(10000);
	}
	assert_int_equal(send(d->call_fd, text, (size_t)len, MSG_NOSIGNAL), len);
}

/* Answers are short: one comes in one piece. */
static bool answer_came(struct daemon *d)
{
	ssize_t got = recv(d->call_fd, d->answer, sizeof(d->answer) - 1, MSG_DONTWAIT);

	if (got < 0 && errno == EAGAIN)
		return false;
	d->answer[got > 0 ? got : 0] = 0;
	close(d->call_fd);
	d->call_fd = 0;
	return true;
}

bool daemon_call_ended(struct daemon *d)
{
	if (!answer_came(d))
		return false;
	if (!strstr(d->answer, "\"result\"")) {
		daemon_log_show(d);
		fail_msg("%s: %s", d->call, d->answer);
	}
	return true;
}

void daemon_answer(struct daemon *d)
{
	uint64_t limit_us = now_us() + 60000000;

	for (; !answer_came(d); pause_us(200))
		if (now_us() > limit_us)
			fail_msg("%s: no answer", d->call);
}

void daemon_hand_over_begin(struct daemon *d)
{
	daemon_call_begin(d, "framework_hand_over", "{}");
}

bool daemon_hand_over_ended(struct daemon *d)
{
	const char *pid;
	int status = -1;

	if (!daemon_call_ended(d))
		return false;
	pid = strstr(d->answer, "\"pid\"");
	if (!pid || waitpid(d->pid, &status, 0) != d->pid || status)
		fail_msg("%s: %s, and wait status 0x%x", d->call, d->answer, status);
	d->pid = (pid_t)strtol(pid + strcspn(pid, "0123456789"), NULL, 10);
	assert_true(daemon_alive(d));
	return true;
}

void daemon_hand_over(struct daemon *d)
{
	uint64_t limit_us = now_us() + 60000000;

	for (daemon_hand_over_begin(d); !daemon_hand_over_ended(d); pause_us(200))
		if (now_us() > limit_us)
			fail_msg("%s: no answer", d->call);
}

void daemon_call(struct daemon *d, const char *method, const char *params)
{
	uint64_t limit_us = now_us() + CALL_LIMIT_US;

	for (daemon_call_begin(d, method, params); !daemon_call_ended(d); pause_us(200))
		if (now_us() > limit_us)
			fail_msg("%s: no answer", d->call);
}

bool daemon_alive(struct daemon *d)
{
	int status;

	if (!d->pid)
		return false;
	if (waitpid(d->pid, &status, WNOHANG) == 0)
		return true;
	fprintf(stderr, "vhostd died: wait status 0x%x\n", status);
	daemon_log_show(d);
	d->pid = 0;
	return false;
}

int daemon_end(struct daemon *d)
{
	uint64_t end = now_us() + 30000000;
	int status = 0;

	kill(d->pid, SIGTERM);
	while (waitpid(d->pid, &status, WNOHANG) == 0) {
		if (now_us() > end) {
			daemon_kill(d);
			return -1;
		}
		pause_us(1000);
	}
	d->pid = 0;
	return status;
}

void daemon_stop(struct daemon *d)
{
	int status;

	if (!daemon_alive(d))
		fail_msg("vhostd was dead before SIGTERM");
	status = daemon_end(d);
	if (status == -1 || daemon_log_check(d))
		daemon_log_show(d);
	if (status == -1)
		fail_msg("vhostd did not end after SIGTERM");
	if (status)
		fail_msg("wait status after SIGTERM: expected exit 0, got 0x%x", status);
	if (daemon_log_check(d))
		fail_msg("vhostd's log holds a report");
}

void daemon_kill(struct daemon *d)
{
	if (!d->pid)
		return;
	kill(d->pid, SIGKILL);
	waitpid(d->pid, NULL, 0);
	d->pid = 0;
}

unsigned daemon_fd_count(struct daemon *d)
{
	char path[64];
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)d->pid);
	dir = opendir(path);
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

unsigned daemon_fd_settled(struct daemon *d, unsigned most)
{
	uint64_t end = now_us() + 5000000;
	unsigned n;

	while ((n = daemon_fd_count(d)) > most && now_us() < end)
		pause_us(10000);
	return n;
}

unsigned long daemon_rss_kib(struct daemon *d)
{
	char path[64], line[128];
	unsigned long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)d->pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

void daemon_image(struct daemon *d, const char *name, uint64_t bytes)
{
	int fd = open(daemon_path(d, name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)bytes))
		fail_msg("%s: %s", name, strerror(errno));
	close(fd);
}
