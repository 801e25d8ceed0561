/*
 * The per-call helper: starts one program, waits for it and accounts for all of its process tree.
 *
 *     call-helper report=FD stdout=FD stderr=FD limit_ms=N isolation=uid|none uid=N gid=N fsize_bytes=N cwd=DIR
 *                 cgroup=DIR|'' series=0|1 counters=0|1 basic=0|1
 *                 -- PROGRAM [ARGUMENT ...]
 *     call-helper --probe            prints the version of this interface
 *
 * It lives for one call and is a subreaper, so RUSAGE_CHILDREN and the I/O counters that the kernel adds to a process
 * for the children it has waited for are exactly that call's. It is small on purpose: the memory of the process that
 * forks is where the peak of its children starts.
 *
 * The runner starts it with SIGCHLD, SIGTERM and SIGINT blocked. SIGTERM means that nobody wants the result any more.
 * What it reports, one JSON object on the report descriptor, is what the Python helper (../runner/helper.py) reports;
 * `spawn_error` when the program could not be started, `helper_error` when the state afterwards is not certain.
 */

#include "call_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define INTERFACE "agenttrace call-helper 2\n"

static _Noreturn void refuse(const struct job *job, const char *what, const char *text)
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
    static const char *const names[] = {"report", "stdout", "stderr", "limit_ms", "isolation",
                                        "uid",    "gid",    "fsize_bytes", "cwd",    "cgroup",
                                        "series", "counters", "basic"};
    const char *value = strchr(pair, '=');
    size_t index = 0, count = sizeof names / sizeof *names;
    if (value == NULL)
        refuse(job, "not NAME=VALUE", pair);
    size_t length = (size_t)(value++ - pair);
    while (index < count && (strlen(names[index]) != length || strncmp(names[index], pair, length) != 0))
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
    if (seen != (1U << 13) - 1)
        refuse(job, "parameters are missing before", "--");
    if (*arguments == NULL || arguments[1] == NULL)
        refuse(job, "nothing to run after", "--");
    job->argv = arguments + 1;
    if (job->switch_user && (getuid() != 0 || geteuid() != 0 || job->uid == 0 || job->gid == 0))
        refuse(job, "isolation=uid needs root, and a user and a group that are not", "refused");
}

/* Children wait for someone (SIGCHLD not ignored), a reader that is gone is an error, and the waiting is not for sleep. */
static void prepare(const struct job *job)
{
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    if (signal(SIGCHLD, SIG_DFL) == SIG_ERR || signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
        sigprocmask(SIG_SETMASK, &blocked, NULL) != 0)
        refuse(job, "signals", strerror(errno));
    if (prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) != 0)
        refuse(job, "prctl(PR_SET_CHILD_SUBREAPER)", strerror(errno));
    if (fcntl(job->report_fd, F_SETFD, FD_CLOEXEC) != 0)
        refuse(job, "report descriptor", strerror(errno));
}

/* What the child wrote before its exec closed the pipe; it has ended, so nothing is waited for. */
static void read_status(const struct job *job, int fd, char *floor_kib, size_t room)
{
    char text[SPAWN_TEXT_BYTES + 64];
    size_t length = 0;
    ssize_t count;
    while (length < sizeof text - 1 &&
           ((count = read(fd, text + length, sizeof text - 1 - length)) > 0 || (count < 0 && errno == EINTR)))
        length += count > 0 ? (size_t)count : 0;
    text[length] = '\0';
    char *error = strstr(text, "error ");
    if (error != NULL)
        give_up(job->report_fd, "spawn_error", "%s", error + strlen("error "));
    if (strncmp(text, "floor ", 6) == 0)
        (void)snprintf(floor_kib, room, "%.*s", (int)strcspn(text + 6, "\n"), text + 6);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--probe") == 0)
        return write(STDOUT_FILENO, INTERFACE, strlen(INTERFACE)) == (ssize_t)strlen(INTERFACE) ? 0 : 1;
    struct job job = {.report_fd = -1};
    static struct outcome outcome;
    static struct hardware hardware;
    struct io before, after;
    int status_pipe[2];
    char floor_kib[24] = "null";

    parse(&job, argv + (argc > 0));
    prepare(&job);
    read_io(&before);
    if (pipe2(status_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        give_up(job.report_fd, "spawn_error", "pipe: %s", strerror(errno));
    if (job.counters)
        open_hardware(&hardware);
    outcome.pid_before = outcome.pid_last = job.basic ? -1 : last_pid();
    outcome.waiting.unknown = job.basic;
    outcome.start_ns = now_ns();
    /*
     * vfork, for its third of the time: this process waits until the child has become the program or failed, and the
     * child writes to nothing of it but `status` in child.c and never returns.
     */
    pid_t pid = vfork();
    if (pid < 0)
        give_up(job.report_fd, "spawn_error", "fork: %s", strerror(errno));
    if (pid == 0)
        become(&job, status_pipe[1]);
    (void)close(status_pipe[1]);
    (void)close(job.stdout_fd);
    (void)close(job.stderr_fd);
    supervise(&job, pid, &outcome);
    note_pids(&outcome);
    read_status(&job, status_pipe[0], floor_kib, sizeof floor_kib);
    read_io(&after);
    report(&job, &outcome, &before, &after, &hardware, floor_kib);
    return 0;
}
