/*
 * The per-call helper: starts one program, waits for it and accounts for all of its process tree.
 *
 *     call-helper --job FD           waits for one job (job.c), carries it out, ends
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

#define INTERFACE "agenttrace call-helper 3\n"

/* A tool expects the defaults, whatever the runner or who started it ignores. */
static void default_signals(void)
{
    for (int number = 1; number < NSIG; number++)
        (void)signal(number, SIG_DFL); /* fails for SIGKILL, SIGSTOP and those of the C library */
}

/* A reader that is gone is an error, and the waiting is not for sleep. */
static void prepare(const struct job *job)
{
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sigprocmask(SIG_SETMASK, &blocked, NULL) != 0)
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
    const bool told = argc == 3 && strcmp(argv[1], "--job") == 0;
    static struct outcome outcome;
    static struct hardware hardware;
    struct io before, after;
    int status_pipe[2];
    char floor_kib[24] = "null";

    default_signals();
    take_job(&job, told ? argv[2] : "nothing");
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
