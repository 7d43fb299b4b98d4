/* The kernel's floor: what it alone charges for starting one container.
 *
 *     floor ROOTFS WORKDIR
 *
 * Serves one start per line of standard input and answers with its time in nanoseconds, so that a caller can
 * interleave starts with those of other engines. A start is: an overlay with ROOTFS below and fresh directories in
 * WORKDIR above, new mount, pid, uts, ipc, cgroup and network namespaces, /proc and a tmpfs on /dev, pivot_root, exec
 * of `busybox true`, wait. No cgroup, no filter, no log, no bookkeeping: nobody can be faster, and what an engine
 * takes beyond it is its own doing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct place {
    const char *rootfs;
    char dir[400], merged[420], upper[420], work[420];
};

static void fail(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void check(int result, const char *what) {
    if (result < 0) fail(what);
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void prepare(struct place *place, const char *workdir, unsigned number) {
    snprintf(place->dir, sizeof place->dir, "%s/%u", workdir, number);
    snprintf(place->merged, sizeof place->merged, "%s/merged", place->dir);
    snprintf(place->upper, sizeof place->upper, "%s/upper", place->dir);
    snprintf(place->work, sizeof place->work, "%s/work", place->dir);
    check(mkdir(place->dir, 0755), "mkdir");
    check(mkdir(place->merged, 0755), "mkdir merged");
    check(mkdir(place->upper, 0755), "mkdir upper");
    check(mkdir(place->work, 0755), "mkdir work");
}

/* The new process: PID 1 of its namespaces until it becomes `true`. */
static int inside(void *argument) {
    const struct place *place = argument;
    char options[1800];
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", place->rootfs, place->upper, place->work);
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount private");
    check(mount("overlay", place->merged, "overlay", 0, options), "mount overlay");
    check(chdir(place->merged), "chdir");
    check(mount("proc", "proc", "proc", 0, NULL), "mount proc");
    check(mount("tmpfs", "dev", "tmpfs", 0, NULL), "mount tmpfs");
    check((int)syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH), "umount");
    check(chdir("/"), "chdir /");
    execl("/bin/busybox", "true", (char *)NULL);
    fail("exec busybox");
    return 1;
}

static void start(struct place *place, void *stack_top) {
    const int namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWNET;
    int status;
    pid_t child = clone(inside, stack_top, namespaces | SIGCHLD, place);
    check(child, "clone");
    check(waitpid(child, &status, 0), "waitpid");
    if (status != 0) {
        fprintf(stderr, "floor: the program ended with status %d\n", status);
        exit(1);
    }
}

int main(int count, char **words) {
    if (count != 3) {
        fprintf(stderr, "usage: floor ROOTFS WORKDIR\n");
        return 2;
    }
    const size_t stack_size = 1 << 16;
    char *stack = malloc(stack_size), line[16];
    struct place place = {.rootfs = words[1]};
    for (unsigned number = 0; fgets(line, sizeof line, stdin); number++) {
        const int64_t begun = nanoseconds();
        prepare(&place, words[2], number);
        start(&place, stack + stack_size);
        printf("%lld\n", (long long)(nanoseconds() - begun));
        fflush(stdout);
    }
    free(stack);
    return 0;
}
