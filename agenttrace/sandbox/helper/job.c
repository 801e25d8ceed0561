/*
 * What is to be done. It comes through a descriptor until its end, as strings, each with its NUL: how many arguments, how
 * many variables, the arguments, and the variables of the program's environment.
 *
 *     report=FD stdout=FD stderr=FD limit_ms=N isolation=uid|none uid=N gid=N fsize_bytes=N cwd=DIR cgroup=DIR|''
 *     series=0|1 counters=0|1 basic=0|1 -- PROGRAM [ARGUMENT ...]
 *
 * So a helper can be started before there is a call, which then does not wait for that. Where the descriptor ends without
 * a job, none was needed.
 */

#include "call_helper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_BYTES = 1 << 14, MOST_BYTES = 1 << 20, PARAMETERS = 13 };

_Noreturn void refuse(const struct job *job, const char *what, const char *text)
{
    give_up(job->report_fd, "helper_error", "%s: %s", what, text);
}

static int64_t number(const struct job *job, const char *text, int64_t least, int64_t most)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < least || value > most)
        refuse(job, "not a number in range", text);
    return (int64_t)value;
}

/* Take one NAME=VALUE; returns a bit of its own for each name. */
static unsigned assign(struct job *job, const char *pair)
{
    static const char *const names[PARAMETERS] = {"report", "stdout", "stderr",      "limit_ms", "isolation",
                                                  "uid",    "gid",    "fsize_bytes", "cwd",      "cgroup",
                                                  "series", "counters", "basic"};
    const char *value = strchr(pair, '=');
    size_t index = 0;
    if (value == NULL)
        refuse(job, "not NAME=VALUE", pair);
    size_t length = (size_t)(value++ - pair);
    while (index < PARAMETERS && (strlen(names[index]) != length || strncmp(names[index], pair, length) != 0))
        index++;
    switch (index) {
    case 0: job->report_fd = (int)number(job, value, 3, 1 << 20); break;
    case 1: job->stdout_fd = (int)number(job, value, 3, 1 << 20); break;
    case 2: job->stderr_fd = (int)number(job, value, 3, 1 << 20); break;
    case 3: job->limit_ms = number(job, value, 1, INT64_MAX / 2000000); break;
    case 4:
        job->switch_user = strcmp(value, "uid") == 0;
        if (!job->switch_user && strcmp(value, "none") != 0)
            refuse(job, "unknown isolation", value);
        break;
    case 5: job->uid = (uid_t)number(job, value, 0, UINT32_MAX - 1); break;
    case 6: job->gid = (gid_t)number(job, value, 0, UINT32_MAX - 1); break;
    case 7: job->fsize_bytes = (rlim_t)number(job, value, 0, INT64_MAX); break;
    case 8: job->cwd = value; break;
    case 9: job->cgroup = value; break;
    case 10: job->series = number(job, value, 0, 1) != 0; break;
    case 11: job->counters = number(job, value, 0, 1) != 0; break;
    case 12: job->basic = number(job, value, 0, 1) != 0; break;
    default: refuse(job, "unknown parameter", pair);
    }
    return 1U << index;
}

static void parse(struct job *job, char **arguments)
{
    unsigned seen = 0;
    while (*arguments != NULL && strcmp(*arguments, "--") != 0) {
        unsigned bit = assign(job, *arguments);
        if (seen & bit)
            refuse(job, "given twice", *arguments);
        seen |= bit;
        arguments++;
    }
    if (seen != (1U << PARAMETERS) - 1)
        refuse(job, "parameters are missing before", "--");
    if (*arguments == NULL || arguments[1] == NULL)
        refuse(job, "nothing to run after", "--");
    job->argv = arguments + 1;
    if (job->switch_user && (getuid() != 0 || geteuid() != 0 || job->uid == 0 || job->gid == 0))
        refuse(job, "isolation=uid needs root, and a user and a group that are not", "refused");
}

/* All that comes through a descriptor until its end, with a NUL after it. */
static char *read_all(const struct job *job, int fd, size_t *length)
{
    size_t room = FIRST_BYTES;
    char *bytes = malloc(room + 1);
    *length = 0;
    while (bytes != NULL) {
        if (*length == room) {
            bytes = room < MOST_BYTES ? realloc(bytes, (room *= 2) + 1) : NULL;
            continue;
        }
        ssize_t count = read(fd, bytes + *length, room - *length);
        if (count == 0) {
            bytes[*length] = '\0';
            return bytes;
        }
        if (count < 0 && errno != EINTR)
            refuse(job, "job", strerror(errno));
        *length += count > 0 ? (size_t)count : 0;
    }
    refuse(job, "job", "no room for it");
}

void take_job(struct job *job, const char *descriptor)
{
    int fd = (int)number(job, descriptor, 3, 1 << 20);
    size_t length, count = 0;
    char *bytes = read_all(job, fd, &length), *end = bytes + length;
    (void)close(fd);
    if (length == 0)
        exit(0);
    struct rusage used;
    if (getrusage(RUSAGE_SELF, &used) == 0)
        job->ready_cpu_ns = 1000 * ((used.ru_utime.tv_sec + used.ru_stime.tv_sec) * INT64_C(1000000) +
                                    used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    for (size_t i = 0; i < length; i++)
        count += bytes[i] == '\0';
    size_t counts[2], place = 0;
    for (int i = 0; i < 2; i++, bytes += strlen(bytes) + 1)
        counts[i] = (size_t)number(job, i < (int)count ? bytes : "", 0, MOST_BYTES);
    if (count != 2 + counts[0] + counts[1] || end[-1] != '\0')
        refuse(job, "job", "cut off");
    char **strings = calloc(count, sizeof *strings); /* arguments and variables, each with a NULL after the last */
    if (strings == NULL)
        refuse(job, "job", strerror(errno));
    for (; bytes < end; bytes += strlen(bytes) + 1) {
        place += place == counts[0];
        strings[place++] = bytes;
    }
    environ = strings + counts[0] + 1;
    parse(job, strings);
}
