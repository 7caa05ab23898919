/*
 * Named fault points: places where a test makes an operation fail, the process die or a thread
 * wait. Set in debug builds with VHOSTD_FAULT="name[:nth][=ERRNO|kill|DELAYus]": at the nth hit
 * (default: at each) fail with that errno number (default: EIO), die, or wait. In release builds
 * FAULT() is the constant 0.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#if VHOSTD_DEBUG
/* 0: go on; negative errno: fail with it. "kill" does not return. Thread: any. */
int fault_hit(const char *name);
/* A malformed VHOSTD_FAULT arms nothing and is told on stderr. Thread: main, once. */
void fault_init_from_env(void);
#define FAULT(name) fault_hit(name)
#else
static inline void fault_init_from_env(void)
{
}
#define FAULT(name) 0
#endif

#endif
