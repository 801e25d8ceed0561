/* What the kernel counted, and the JSON object that says so. */

#include "call_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t TREE_RSS_FROM_NS = INT64_C(100000000);

const char *const IO_NAMES[IO_COUNTERS] = {"rchar",      "wchar",       "syscr",                "syscw",
                                           "read_bytes", "write_bytes", "cancelled_write_bytes"};

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

static bool read_counters(const char *path, uint64_t *counters)
{
    char text[1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t size = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (size <= 0)
        return false;
    text[size] = '\0';
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

void report(const struct job *job, const struct outcome *outcome, const struct io *before, const struct io *after,
            const char *floor_kib)
{
    static struct text text;
    int64_t end_ns = outcome->ended ? outcome->end_ns : outcome->done_ns;
    bool sampled = outcome->tree_rss_samples > 0 && end_ns - outcome->start_ns >= TREE_RSS_FROM_NS;
    if (outcome->ended)
        add(&text, "{\"status\":%d", outcome->status);
    else
        add(&text, "{\"status\":null");
    add(&text, ",\"timed_out\":%s,\"aborted\":%s,\"survivors\":%s", outcome->timed_out ? "true" : "false",
        outcome->aborted ? "true" : "false", outcome->survivors ? "true" : "false");
    add(&text, ",\"wall_ns\":%" PRId64 ",\"cleanup_ns\":%" PRId64, end_ns - outcome->start_ns,
        outcome->done_ns - end_ns);
    add(&text, ",\"floor_kib\":%s", floor_kib);
    add_usage(&text);
    add_io(&text, "io_before", before);
    add_io(&text, "io_after", after);
    add_leftovers(&text, &outcome->leftovers);
    if (sampled)
        add(&text, ",\"tree_rss_kib\":%" PRIu64 ",\"tree_rss_samples\":%d}", outcome->tree_rss_kib,
            outcome->tree_rss_samples);
    else
        add(&text, ",\"tree_rss_kib\":null,\"tree_rss_samples\":null}");
    if (text.overflown)
        give_up(job->report_fd, "helper_error", "the report does not fit");
    if (!send_all(job->report_fd, text.bytes, text.length))
        give_up(-1, "helper_error", "report: %s", strerror(errno));
}
