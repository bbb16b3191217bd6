/* cgroup.h - what Linux control groups leave this process of processors and memory; versions 1 and 2, and both beside each other.
 *
 * A limit holds for everything below the group that has it, so the groups on the way from this process's own up to the root are all asked, and the
 * least counts. In a container without a namespace of its own for groups the process's path is the host's and is not there below the mount, whose
 * root is the container's group then. The places are parameters so that a test can lay out groups of its own. */
#ifndef QN_BASE_CGROUP_H
#define QN_BASE_CGROUP_H

#include <stddef.h>
#include <stdint.h>

#define QN_CGROUP_SELF "/proc/self/cgroup" /* lines "0::/path" (version 2) and "N:cpu,cpuacct:/path" (version 1) */
#define QN_CGROUP_MOUNT "/sys/fs/cgroup"

/* Processors that the quota is worth, rounded up, at least 1; SIZE_MAX without one. */
size_t qn_cgroup_cores(const char *self, const char *mount);
/* Bytes until a memory limit is reached, what the kernel takes back under pressure not counted as used; UINT64_MAX without a limit. */
uint64_t qn_cgroup_memory_available(const char *self, const char *mount);

#endif
