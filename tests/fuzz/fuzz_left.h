/*
 * What an input must not leave behind: descriptors, and mappings of a guest's memory. The
 * includer's file is one program, with one thread.
 */
#ifndef FUZZ_LEFT_H
#define FUZZ_LEFT_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

#define LEFT_FDS_LOOKED_AT 256
#define LEFT_MAPS_EVERY	   64 /* inputs between two looks at /proc/self/maps, which is slow */

static bool left_fds[LEFT_FDS_LOOKED_AT]; /* that were open at left_begin */

/* After the first input, which opens what is opened on first use. */
static void left_begin(void)
{
	for (int fd = 0; fd < LEFT_FDS_LOOKED_AT; fd++)
		left_fds[fd] = fcntl(fd, F_GETFD) >= 0;
}

/* Names the descriptors that are there, or are not there any more. */
static uint32_t left_fds_changed(void)
{
	uint32_t n = 0;

	for (int fd = 0; fd < LEFT_FDS_LOOKED_AT; fd++) {
		char path[64], target[64] = "";
		bool open_now = fcntl(fd, F_GETFD) >= 0;

		if (open_now == left_fds[fd])
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		(void)!readlink(path, target, sizeof(target) - 1);
		fprintf(stderr, "descriptor %d: %s\n", fd, open_now ? target : "closed");
		n++;
	}
	return n;
}

/* Mappings of memory descriptors whose names begin with one of these two. */
static uint32_t left_maps(const char *a, const char *b)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	uint32_t n = 0;

	ASSERT(maps);
	while (fgets(line, sizeof(line), maps))
		n += strstr(line, a) || strstr(line, b);
	fclose(maps);
	return n;
}

/* After each input. */
static void left_check(const char *map_a, const char *map_b)
{
	static uint32_t inputs;

	ASSERT(!left_fds_changed());
	ASSERT(++inputs % LEFT_MAPS_EVERY || !left_maps(map_a, map_b));
}

#endif
