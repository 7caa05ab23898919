/*
 * vhostctl.
 */
#include <locale.h>

#include "cli/run.h"

int main(int argc, char **argv)
{
	setlocale(LC_ALL, "");
	return vhostctl_run(argc - 1, argv + 1);
}
