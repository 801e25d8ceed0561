/* What the kernel counts of the call, beside what it adds up for children that were waited for. */

#include "call_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *const IO_NAMES[IO_COUNTERS] = {"rchar",      "wchar",       "syscr",                "syscw",
                                           "read_bytes", "write_bytes", "cancelled_write_bytes"};

const char *const HARDWARE_NAMES[HARDWARE_COUNTERS] = {"user_instructions", "cycles"};

/* A small file of /proc as text; its length, or -1. */
static ssize_t content(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t size = read(fd, text, room - 1);
    (void)close(fd);
    if (size <= 0)
        return -1;
    text[size] = '\0';
    return size;
}

static bool read_counters(const char *path, uint64_t *counters)
{
    char text[1024];
    if (content(path, text, sizeof text) < 0)
        return false;
    for (int i = 0; i < IO_COUNTERS; i++) {
        char key[40];
        int length = snprintf(key, sizeof key, "\n%s: ", IO_NAMES[i]);
        const char *line = i == 0 && strncmp(text, key + 1, (size_t)length - 1) == 0 ? text - 1 : strstr(text, key);
        if (line == NULL)
            return false;
        counters[i] = strtoull(line + length, NULL, 10);
    }
    return true;
}

/* `/proc/self/io` is this process and its reaped children, `/proc/thread-self/io` the only thread alone. */
void read_io(struct io *io)
{
    uint64_t own[IO_COUNTERS];
    io->known = read_counters("/proc/thread-self/io", own) && read_counters("/proc/self/io", io->counters);
    for (int i = 0; io->known && i < IO_COUNTERS; i++)
        io->counters[i] -= own[i] < io->counters[i] ? own[i] : io->counters[i];
}

/*
 * The number that was given out last in this PID namespace: processes and threads get theirs in turn, so the difference
 * is how many were started. Unknown in the first namespace of the machine, where everybody's are in it.
 */
int64_t last_pid(void)
{
    static const char first[] = "pid:[4026531836]"; /* PROC_PID_INIT_INO */
    char text[128];
    ssize_t length = readlink("/proc/self/ns/pid", text, sizeof text - 1);
    if (length <= 0 || ((size_t)length == sizeof first - 1 && memcmp(text, first, sizeof first - 1) == 0) ||
        content("/proc/loadavg", text, sizeof text) < 0)
        return -1;
    const char *last = strrchr(text, ' ');
    return last == NULL ? -1 : strtoll(last, NULL, 10);
}

/*
 * Take how long a process has waited for a processor; of one that ends this is its last word. A kernel that counts this
 * only when it is told to (`delayacct`, without CONFIG_SCHEDSTATS) says `0 0 0` else, and what has ended did run.
 */
void note_waiting(struct waiting *waiting, pid_t pid, bool ends)
{
    char path[64], text[128], *rest = NULL;
    if (waiting->unknown)
        return;
    (void)snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
    if (content(path, text, sizeof text) < 0) {
        waiting->unknown = waiting->unknown || ends; /* while it lives it may end between two looks */
        return;
    }
    (void)strtoull(text, &rest, 10); /* its time on processors */
    uint64_t ns = strtoull(rest, &rest, 10), turns = strtoull(rest, NULL, 10);
    if (ends && turns == 0) {
        waiting->unknown = true;
        return;
    }
    int place = 0;
    while (place < waiting->count && waiting->seen[place].pid != pid)
        place++;
    if (ends) {
        waiting->gone_ns += ns;
        if (place < waiting->count)
            waiting->seen[place] = waiting->seen[--waiting->count];
        return;
    }
    if (place == MAX_WAITING)
        return;
    waiting->seen[place].pid = pid;
    waiting->seen[place].ns = ns;
    waiting->seen[place].alive = true;
    waiting->count += place == waiting->count;
}

/* After a look at all processes: those that were not seen are no more. */
void settle_waiting(struct waiting *waiting)
{
    for (int i = waiting->count - 1; i >= 0; i--) {
        if (!waiting->seen[i].alive) {
            waiting->gone_ns += waiting->seen[i].ns;
            waiting->seen[i] = waiting->seen[--waiting->count];
        } else {
            waiting->seen[i].alive = false;
        }
    }
}

/* The series stays short: when it is full, two points become the larger one, and each new one takes twice as long. */
static void extend_series(struct memory *memory, int64_t ns, uint64_t kib)
{
    if (memory->stride == 0)
        memory->stride = 1;
    if (memory->within == 0) {
        if (memory->points == SERIES_POINTS) {
            for (int i = 0; i < SERIES_POINTS / 2; i++) {
                uint64_t first = memory->series[2 * i].kib;
                memory->series[i] = memory->series[2 * i + 1];
                if (first > memory->series[i].kib)
                    memory->series[i].kib = first;
            }
            memory->points = SERIES_POINTS / 2;
            memory->stride *= 2;
        }
        memory->series[memory->points++].kib = 0;
    }
    memory->series[memory->points - 1].ns = ns;
    if (kib > memory->series[memory->points - 1].kib)
        memory->series[memory->points - 1].kib = kib;
    memory->within = (memory->within + 1) % memory->stride;
}

/* Between two looks the tree is taken to have grown evenly, before the first one to have been as it was then. */
void note_memory(struct memory *memory, int64_t start_ns, int64_t now_ns, uint64_t kib, bool series)
{
    uint64_t before = memory->samples == 0 ? kib : memory->last_kib;
    int64_t since_ns = memory->samples == 0 ? start_ns : memory->last_ns;
    memory->area_kib_us += (before + kib) * ((uint64_t)(now_ns - since_ns) / 1000) / 2;
    memory->samples++;
    memory->last_kib = kib;
    memory->last_ns = now_ns;
    if (kib > memory->peak_kib)
        memory->peak_kib = kib;
    if (series)
        extend_series(memory, now_ns - start_ns, kib);
}

/*
 * Counters of this process that its children inherit. They begin to count at an exec, which this process never does and
 * the call does first of all.
 */
void open_hardware(struct hardware *hardware)
{
    static const uint64_t events[HARDWARE_COUNTERS] = {PERF_COUNT_HW_INSTRUCTIONS, PERF_COUNT_HW_CPU_CYCLES};
    for (int i = 0; i < HARDWARE_COUNTERS; i++) {
        struct perf_event_attr event = {
            .type = PERF_TYPE_HARDWARE,
            .size = sizeof event,
            .config = events[i],
            .disabled = 1,
            .inherit = 1,
            .enable_on_exec = 1,
            .exclude_kernel = i == 0,
            .exclude_hv = 1,
            .read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
        };
        long fd = syscall(SYS_perf_event_open, &event, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
        hardware->fds[i] = (int)fd;
        if (fd < 0) {
            (void)snprintf(hardware->reason, sizeof hardware->reason, "perf_event_open of %s: %s", HARDWARE_NAMES[i],
                           strerror(errno));
            return;
        }
    }
}

bool read_hardware(struct hardware *hardware, uint64_t *counts)
{
    for (int i = 0; i < HARDWARE_COUNTERS && *hardware->reason == '\0'; i++) {
        uint64_t values[3]; /* the count, and for how long it was wanted and had a counter */
        if (read(hardware->fds[i], values, sizeof values) != (ssize_t)sizeof values)
            (void)snprintf(hardware->reason, sizeof hardware->reason, "read of %s: %s", HARDWARE_NAMES[i],
                           strerror(errno));
        else if (values[0] == 0) /* whatever ran had instructions and cycles: some virtual counters stand still */
            (void)snprintf(hardware->reason, sizeof hardware->reason, "%s counted nothing", HARDWARE_NAMES[i]);
        else if (values[2] < values[1] - values[1] / 100)
            (void)snprintf(hardware->reason, sizeof hardware->reason, "%s shared its counter with others",
                           HARDWARE_NAMES[i]);
        counts[i] = values[0];
    }
    return *hardware->reason == '\0';
}
