/* The JSON object that says how the call went. */

#include "call_helper.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t TREE_RSS_FROM_NS = INT64_C(100000000);

/* A reply under construction; what does not fit is noticed at the end. */
struct text {
    char bytes[16384];
    size_t length;
    bool overflown;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
    va_list arguments;
    size_t room = sizeof text->bytes - text->length;
    va_start(arguments, format);
    int length = vsnprintf(text->bytes + text->length, room, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= room)
        text->overflown = true;
    else
        text->length += (size_t)length;
}

/* A JSON string, one character for each byte: the reader knows that they are bytes. */
static void add_string(struct text *text, const char *bytes)
{
    add(text, "\"");
    for (; *bytes != '\0'; bytes++) {
        unsigned char byte = (unsigned char)*bytes;
        if (byte < 0x20 || byte > 0x7e || byte == '"' || byte == '\\')
            add(text, "\\u%04x", byte);
        else
            add(text, "%c", byte);
    }
    add(text, "\"");
}

static bool send_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t count = write(fd, bytes, length);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        bytes += count;
        length -= (size_t)count;
    }
    return true;
}

_Noreturn void give_up(int report_fd, const char *key, const char *format, ...)
{
    static struct text text;
    char reason[SPAWN_TEXT_BYTES + 64];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    reason[strcspn(reason, "\n")] = '\0';
    text.length = 0;
    add(&text, "{\"%s\":", key);
    add_string(&text, reason);
    add(&text, "}");
    if (report_fd < 0 || !send_all(report_fd, text.bytes, text.length))
        (void)dprintf(STDERR_FILENO, "call-helper: %s: %s\n", key, reason);
    _exit(1);
}

static void add_io(struct text *text, const char *key, const struct io *io)
{
    add(text, ",\"%s\":", key);
    for (int i = 0; io->known && i < IO_COUNTERS; i++)
        add(text, "%c\"%s\":%" PRIu64, i == 0 ? '{' : ',', IO_NAMES[i], io->counters[i]);
    add(text, io->known ? "}" : "null");
}

static void add_usage(struct text *text)
{
    struct rusage used;
    if (getrusage(RUSAGE_CHILDREN, &used) != 0) {
        add(text, ",\"rusage\":null");
        return;
    }
    add(text, ",\"rusage\":{\"utime\":%lld.%06ld,\"stime\":%lld.%06ld", (long long)used.ru_utime.tv_sec,
        (long)used.ru_utime.tv_usec, (long long)used.ru_stime.tv_sec, (long)used.ru_stime.tv_usec);
    add(text, ",\"maxrss\":%ld,\"inblock\":%ld,\"oublock\":%ld,\"minflt\":%ld,\"majflt\":%ld", used.ru_maxrss,
        used.ru_inblock, used.ru_oublock, used.ru_minflt, used.ru_majflt);
    add(text, ",\"nvcsw\":%ld,\"nivcsw\":%ld}", used.ru_nvcsw, used.ru_nivcsw);
}

static void add_leftovers(struct text *text, const struct census *leftovers)
{
    add(text, leftovers->known ? ",\"leftover_count\":%d" : ",\"leftover_count\":null", leftovers->count);
    add(text, ",\"leftover_names\":[");
    for (int i = 0; i < leftovers->named; i++) {
        add(text, i == 0 ? "" : ",");
        add_string(text, leftovers->names[i]);
    }
    add(text, "]");
}

/* Until its end the tree is taken to stay as it was seen last. */
static void add_memory(struct text *text, const struct memory *memory, int64_t end_ns, bool sampled, bool series)
{
    if (!sampled) {
        add(text, ",\"tree_rss_kib\":null,\"tree_rss_samples\":null");
        return;
    }
    uint64_t rest_us = end_ns > memory->last_ns ? (uint64_t)(end_ns - memory->last_ns) / 1000 : 0;
    add(text, ",\"tree_rss_kib\":%" PRIu64 ",\"tree_rss_samples\":%d,\"tree_rss_kib_us\":%" PRIu64, memory->peak_kib,
        memory->samples, memory->area_kib_us + memory->last_kib * rest_us);
    if (!series)
        return;
    add(text, ",\"tree_rss_series\":[");
    for (int i = 0; i < memory->points; i++)
        add(text, "%s[%" PRId64 ",%" PRIu64 "]", i == 0 ? "" : ",", memory->series[i].ns / 1000000,
            memory->series[i].kib);
    add(text, "]");
}

static uint64_t waited_ns(const struct waiting *waiting)
{
    uint64_t total = waiting->gone_ns;
    for (int i = 0; i < waiting->count; i++)
        total += waiting->seen[i].ns;
    return total;
}

static void add_hardware(struct text *text, struct hardware *hardware)
{
    uint64_t counts[HARDWARE_COUNTERS];
    bool known = read_hardware(hardware, counts);
    for (int i = 0; i < HARDWARE_COUNTERS && known; i++)
        add(text, ",\"%s\":%" PRIu64, HARDWARE_NAMES[i], counts[i]);
    if (!known) {
        add(text, ",\"counters_reason\":");
        add_string(text, hardware->reason);
    }
}

void report(const struct job *job, const struct outcome *outcome, const struct io *before, const struct io *after,
            struct hardware *hardware, const char *floor_kib)
{
    static struct text text;
    int64_t end_ns = outcome->ended ? outcome->end_ns : outcome->done_ns;
    bool sampled = outcome->memory.samples > 0 && end_ns - outcome->start_ns >= TREE_RSS_FROM_NS;
    if (outcome->ended)
        add(&text, "{\"status\":%d", outcome->status);
    else
        add(&text, "{\"status\":null");
    add(&text, ",\"timed_out\":%s,\"aborted\":%s,\"survivors\":%s", outcome->timed_out ? "true" : "false",
        outcome->aborted ? "true" : "false", outcome->survivors ? "true" : "false");
    add(&text, ",\"wall_ns\":%" PRId64 ",\"cleanup_ns\":%" PRId64, end_ns - outcome->start_ns,
        outcome->done_ns - end_ns);
    add(&text, ",\"floor_kib\":%s,\"ready_cpu_ns\":%" PRId64, floor_kib, job->ready_cpu_ns);
    add_usage(&text);
    add_io(&text, "io_before", before);
    add_io(&text, "io_after", after);
    add_leftovers(&text, &outcome->leftovers);
    add_memory(&text, &outcome->memory, end_ns, sampled, job->series);
    if (sampled)
        add(&text, ",\"processes_peak\":%d", outcome->most_processes);
    if (outcome->pid_last >= 0)
        add(&text, ",\"processes_started\":%" PRId64, outcome->pid_last - outcome->pid_before);
    if (!outcome->waiting.unknown)
        add(&text, ",\"runqueue_wait_ns\":%" PRIu64, waited_ns(&outcome->waiting));
    if (job->counters)
        add_hardware(&text, hardware);
    add(&text, "}");
    if (text.overflown)
        give_up(job->report_fd, "helper_error", "the report does not fit");
    if (!send_all(job->report_fd, text.bytes, text.length))
        give_up(-1, "helper_error", "report: %s", strerror(errno));
}
