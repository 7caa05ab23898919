/*
 * Numbers as people read them: at most seven characters and a unit. buf: FORMAT_BYTES do.
 */
#ifndef CLI_FORMAT_H
#define CLI_FORMAT_H

#include <stdint.h>

#define FORMAT_BYTES 32

/* "512 B", "64 KiB", "1.5 GiB": three digits at most, powers of 1024. */
const char *format_size(uint64_t bytes, char *buf);
/* As format_size, "/s" behind it; a fraction of a byte is none. */
const char *format_bandwidth(double bytes_per_s, char *buf);
/* "0", "950", "12.3k", "1.20M": powers of 1000. Below 10 with one digit behind the point. */
const char *format_rate(double per_s, char *buf);
/* "850 ns", "12.3 us", "4.56 ms", "1.20 s". 0: "-": there was none. */
const char *format_ns(uint64_t ns, char *buf);
/* "12 %"; negative: "-": not known. */
const char *format_percent(double percent, char *buf);

#endif
