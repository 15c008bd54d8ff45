/* SPDX-FileCopyrightText: The devagent authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * Reads files of a sysfs tree as fast as the kernel lets a process, for bench/scan.py to compare with.
 *
 *     scan uevents ROUNDS DIRECTORY         the uevent of every entry of DIRECTORY (sys/bus/pci/devices)
 *     scan list ROUNDS ROOT < OPERATIONS    the same calls as a recorded scan made, one line each below ROOT:
 *                                           r PATH read a file, l PATH read a link, d PATH list a directory,
 *                                           s PATH see whether it is there
 *
 * Prints a line per round: nanoseconds of wall-clock and of CPU time, and the bytes that were read.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4097, LONGEST = 4096 };

static long long now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long read_file(int top, const char *path) {
    char page[PAGE];
    int fd = openat(top, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t size = read(fd, page, sizeof page);
    close(fd);
    return size < 0 ? 0 : size;
}

static DIR *open_folder(int top, const char *path) {
    int fd = openat(top, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? NULL : fdopendir(fd);
}

static long long uevents(int top) {
    char path[LONGEST];
    long long bytes = 0;
    DIR *folder = open_folder(top, ".");
    if (folder == NULL) return 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/uevent", entry->d_name);
        bytes += read_file(top, path);
    }
    closedir(folder);
    return bytes;
}

static long long names(int top, const char *path) {
    long long bytes = 0;
    DIR *folder = open_folder(top, path);
    if (folder == NULL) return 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) bytes += (long long)strlen(entry->d_name);
    closedir(folder);
    return bytes;
}

static long long operation(int top, char kind, const char *path) {
    char target[LONGEST];
    struct stat there;
    if (kind == 'r') return read_file(top, path);
    if (kind == 'd') return names(top, path);
    if (kind == 's') return fstatat(top, path, &there, AT_SYMLINK_NOFOLLOW) == 0;
    ssize_t size = readlinkat(top, path, target, sizeof target);
    return size < 0 ? 0 : size;
}

static size_t operations(char ***lines) {
    size_t count = 0, room = 0;
    char line[LONGEST];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (count == room) {
            room = room ? 2 * room : 1024;
            *lines = realloc(*lines, room * sizeof **lines);
            if (*lines == NULL) exit(1);
        }
        (*lines)[count++] = strdup(line);
    }
    return count;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    char **lines = NULL;
    int whole = strcmp(argv[1], "uevents") == 0;
    size_t count = whole ? 0 : operations(&lines);
    int top = open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) return 1;
    for (int round = atoi(argv[2]); round > 0; round--) {
        long long wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID), bytes = 0;
        if (whole) bytes = uevents(top);
        for (size_t at = 0; at < count; at++) bytes += operation(top, lines[at][0], lines[at] + 2);
        printf("%lld %lld %lld\n", now(CLOCK_MONOTONIC) - wall, now(CLOCK_PROCESS_CPUTIME_ID) - cpu, bytes);
    }
    return 0;
}
